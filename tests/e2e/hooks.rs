//! Hooks around a tick: what they are told, when they run, and what their failure keeps from being done.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
};

use serde_json::Value;

use crate::support::{Project, Sandbox, everything_in};

/// Appends each event to `events` beside the stack file, and fails where a file `fail-MOMENT` says so.
const HOOK: &str = r#"#!/bin/sh
event=$(cat)
printf '%s\n' "$event" >> events
for moment in before_create after_ready before_delete after_delete on_error; do
    case $event in
    *"\"event\":\"$moment\""*)
        if [ -e "fail-$moment" ]; then
            echo "the token is $HCLOUD_TOKEN" >&2
            exit 3
        fi ;;
    esac
done
"#;

const ALL: &str = r#"
[[pools.linux.hooks]]
on = ["before_create", "after_ready", "before_delete", "after_delete", "on_error"]
command = ["./hook.sh"]
"#;

/// A project whose pool has these hooks, and the program that they run.
fn project(sandbox: &Sandbox, hooks: &str) -> Project {
    let project = Project::new(sandbox, hooks);
    let path = project.path("stacks/hook.sh");
    std::fs::write(&path, HOOK).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    project
}

fn events(project: &Project) -> Vec<Value> {
    let text = std::fs::read_to_string(project.path("stacks/events")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `before_create machine.linux/…`, in order.
fn moments(project: &Project) -> Vec<String> {
    let events = events(project).into_iter();
    events
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

fn fails(project: &Project, moment: &str, fails: bool) {
    let path = project.path(&format!("stacks/fail-{moment}"));
    if fails {
        std::fs::write(path, "").unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn each_moment_of_a_machine_is_told_once_and_a_plan_tells_nothing() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = project(&sandbox, ALL);
    sandbox.jobs(1, "1m");
    project.run(&["plan"]).exits(0);
    assert!(events(&project).is_empty(), "a plan runs no hook");

    project.run(&["scale"]).exits(0);
    assert_eq!(moments(&project), ["before_create"]);
    sandbox.advance("1m");
    let plan = project.run(&["plan", "--json"]).exits(0).json();
    assert_eq!(plan["summary"]["hook"], 1, "{plan:#}");
    assert_eq!(plan["summary"]["create"], 0, "{plan:#}");
    project.run(&["scale"]).exits(0).says("became ready");
    project.run(&["scale"]).exits(0);
    assert_eq!(moments(&project), ["before_create", "after_ready"], "once");

    sandbox.advance("58m");
    project.run(&["scale"]).exits(0).says("1 to delete");
    assert!(sandbox.servers().is_empty());
    assert_eq!(
        moments(&project),
        ["before_create", "after_ready", "before_delete", "after_delete"]
    );
    let told = events(&project);
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas/hook.json"));
    let schema: Value = serde_json::from_str(&schema.unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for event in &told {
        assert!(validator.is_valid(event), "{event:#}");
        assert_eq!(event["machine"]["address"], told[0]["machine"]["address"]);
        assert_eq!(event["machine"]["name"], told[0]["machine"]["name"]);
        assert_eq!(event["machine"]["type"], "cx33");
        assert_eq!(event["stack"], "test");
    }
    assert!(told[0]["machine"]["id"].is_null(), "it is not made yet");
    assert!(told[1]["machine"]["id"].is_string());
    assert!(!told[2]["machine"]["addresses"].as_array().unwrap().is_empty());
}

#[test]
fn a_failing_before_create_makes_nothing_and_the_next_tick_tries_again() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = project(&sandbox, ALL);
    sandbox.jobs(1, "10m");
    fails(&project, "before_create", true);
    let ran = project.run(&["scale"]).exits(3).says("before_create hook failed");
    assert!(ran.stdout.contains("the token is ***"), "{ran:?}");
    let all = format!("{}{}{}", ran.stdout, ran.stderr, everything_in(project.root()));
    assert!(!all.contains(sandbox.token()), "what a hook prints is redacted");
    assert!(sandbox.servers().is_empty());
    assert_eq!(
        sandbox.world()["runners"].as_array().map_or(0, Vec::len),
        0,
        "nothing is registered"
    );
    assert_eq!(moments(&project), ["before_create", "on_error"]);
    assert!(
        events(&project)[1]["error"]
            .as_str()
            .unwrap()
            .contains("exit status: 3")
    );

    fails(&project, "before_create", false);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), project.machines_on_record());
    assert_eq!(sandbox.servers().len(), 1);
}

#[test]
fn a_failing_before_delete_keeps_the_machine_on_record_until_it_goes_well() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = project(&sandbox, ALL);
    sandbox.jobs(1, "1m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project.run(&["scale"]).exits(0);
    // Its job has ended.
    sandbox.advance("2m");
    fails(&project, "before_delete", true);
    project
        .run(&["destroy"])
        .exits(3)
        .says("before_delete hook failed");
    assert_eq!(sandbox.servers().len(), 1, "it is not deleted");
    assert_eq!(sandbox.servers(), project.machines_on_record());

    fails(&project, "before_delete", false);
    fails(&project, "after_delete", true);
    project
        .run(&["destroy"])
        .exits(3)
        .says("after_delete")
        .says("exit status: 3");
    assert!(
        sandbox.servers().is_empty(),
        "what is gone is gone, whatever is told after it"
    );
    assert!(project.machines_on_record().is_empty());
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    project.run(&["destroy"]).exits(0);
}

#[test]
fn a_hook_that_hangs_is_ended_and_one_that_may_fail_holds_up_nothing() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let hooks = r#"
[[pools.linux.hooks]]
on = ["before_create"]
command = ["sh", "-c", "echo waiting; sleep 600 & sleep 600"]
timeout = "300ms"
retries = 1
on_failure = "continue"
"#;
    let project = project(&sandbox, hooks);
    sandbox.jobs(1, "10m");
    project.run(&["scale"]).exits(0).says("took longer than 300ms");
    assert_eq!(sandbox.servers().len(), 1);
}

#[test]
fn an_untrusted_stack_is_planned_and_its_hooks_are_not_run() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = project(&sandbox, ALL);
    sandbox.jobs(1, "10m");
    let mut plan = project.command(&["--untrusted", "plan"]);
    let output = plan.env("RUNFLEET_HOSTS", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for verb in ["scale", "ssh", "logs"] {
        let mut arguments = vec!["--untrusted", verb];
        arguments.extend((verb != "scale").then_some("brave-otter"));
        project
            .run(&arguments)
            .exits(5)
            .says("refuses an untrusted stack");
    }
    assert!(events(&project).is_empty());
}

/// Answers one request with this status, and gives back what came.
fn answer_one(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        if read == 0 || text.contains("\r\n\r\n") && text.trim_end().ends_with('}') {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 16\r\nConnection: close\r\n\r\nhook-token-12345"
    )
    .unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn a_request_carries_the_event_and_its_token_and_the_token_is_shown_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sandbox = Sandbox::start(&["boot=20s"]);
    let hooks = format!(
        r#"
[[pools.linux.hooks]]
on = ["before_create"]
http = {{ url = "http://{at}/hooks/?team=ci", token = {{ file = "hook-token" }}, headers = {{ X-Source = "runfleet" }} }}
"#
    );
    let project = project(&sandbox, &hooks);
    std::fs::write(project.path("stacks/hook-token"), "hook-token-12345\n").unwrap();
    sandbox.jobs(1, "10m");
    let server = std::thread::spawn(move || {
        let refused = answer_one(&listener, "503 Service Unavailable");
        let taken = answer_one(&listener, "200 OK");
        (refused, taken)
    });
    let refused = project.run(&["-vvv", "scale", "--json"]).exits(3);
    let taken = project.run(&["-vvv", "scale"]).exits(0);
    let (first, second) = server.join().unwrap();
    for request in [&first, &second] {
        assert!(
            request.starts_with("POST /hooks/?team=ci HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request
                .to_lowercase()
                .contains("authorization: bearer hook-token-12345\r\n"),
            "{request}"
        );
        assert!(
            request.to_lowercase().contains("x-source: runfleet\r\n"),
            "{request}"
        );
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let event: Value = serde_json::from_str(body).unwrap();
        assert_eq!(event["event"], "before_create");
    }
    assert_eq!(sandbox.servers().len(), 1);
    std::fs::remove_file(project.path("stacks/hook-token")).unwrap();
    let shown = format!(
        "{}{}{}{}",
        refused.stdout, refused.stderr, taken.stdout, taken.stderr
    );
    assert!(shown.contains("answered 503"), "{shown}");
    let all = shown + &everything_in(project.root());
    assert!(!all.contains("hook-token-12345"), "{all}");
}

#[test]
fn a_ci_that_does_not_answer_is_told_once_until_it_answers_again() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = project(&sandbox, ALL);
    let down = || {
        sandbox.fault(&serde_json::json!({
            "path": "/gitlab/api/v4/*", "fault": "server-error", "count": 1000, "args": {"status": 502}
        }));
    };
    project.run(&["scale"]).exits(0);
    assert!(events(&project).is_empty(), "all is well");

    down();
    fails(&project, "on_error", true);
    project.run(&["plan"]);
    assert!(events(&project).is_empty(), "a plan tells nothing");
    project.run(&["scale"]).exits(3).says("exit status: 3");
    fails(&project, "on_error", false);
    let before = project.state();
    for _ in 0..3 {
        project.run(&["scale"]);
    }
    assert_eq!(
        moments(&project),
        ["on_error", "on_error"],
        "until a hook went well"
    );
    assert_eq!(project.state(), before, "it is remembered in the history");
    let told = &events(&project)[1];
    assert_eq!((&told["pool"], &told["machine"]), (&"linux".into(), &Value::Null));
    assert_eq!(told["reason_code"], "partial_demand");
    let error = told["error"].as_str().unwrap();
    assert!(
        error.starts_with("ci.gitlab: ") && error.contains("502"),
        "{error}"
    );

    sandbox.clear_faults();
    project.run(&["scale"]).exits(0);
    assert_eq!(moments(&project).len(), 2, "that it is back is no error");
    down();
    project.run(&["scale"]);
    assert_eq!(moments(&project).len(), 3, "the next failure is told anew");
}
