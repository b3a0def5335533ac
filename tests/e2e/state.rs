//! `state` and `unlock` as their user has them, `moved` blocks, and states that cannot be read.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Project, Ran, Sandbox, eventually};

/// A sandbox with this many jobs that run for hours, and a project that has made its machines.
fn running(jobs: u32, pool: &str) -> (Sandbox, Project) {
    let sandbox = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let project = Project::new(&sandbox, pool);
    sandbox.jobs(jobs, "10h");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project.run(&["scale"]).exits(0);
    (sandbox, project)
}

/// Another run of the program, killed at the latest when the test ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// `kill -9`.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn machines(project: &Project) -> Vec<String> {
    let listed = project.run(&["state", "list", "machine"]).exits(0);
    listed.stdout.lines().map(str::to_owned).collect()
}

fn file(project: &Project) -> Vec<u8> {
    fs::read(project.path("stacks/test.json")).unwrap()
}

fn labels(sandbox: &Sandbox) -> Vec<Value> {
    let world = sandbox.world();
    let servers = world["servers"].as_array().unwrap();
    servers.iter().map(|server| server["labels"].clone()).collect()
}

#[test]
fn what_is_on_record_is_listed_and_shown() {
    let (_sandbox, project) = running(3, "");
    let all = project.run(&["state", "list"]).exits(0).stdout;
    assert_eq!(all.lines().count(), 4, "{all}");
    assert!(
        all.starts_with("ssh_key/ops\nfirewall/default\nmachine.linux/"),
        "{all}"
    );
    assert_eq!(machines(&project).len(), 2);
    let of_pool = project.run(&["state", "list", "pools.linux"]).exits(0).stdout;
    assert_eq!(of_pool.lines().count(), 2);
    project
        .run(&["state", "list", "pools.windows"])
        .exits(0)
        .says("nothing on record is pools.windows");
    project
        .run(&["state", "list", "windows"])
        .exits(1)
        .says("write machine.linux/brave-otter, pools.linux, or a kind");

    let one = &machines(&project)[0];
    let shown = project.run(&["state", "show", one]).exits(0).stdout;
    for word in ["hetzner/", "cx33", "EUR/h", "gitlab ", "firewalls    default"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let json = project.run(&["state", "show", one, "--json"]).exits(0).json();
    assert_eq!(json["address"], json!(one));
    assert_eq!(json["record"]["spec"]["kind"], "machine");
    let typo = format!("{one}x");
    project
        .run(&["state", "show", &typo])
        .exits(1)
        .says(&format!("did you mean {one}?"));
    let written = &project.state()["written"];
    assert_eq!(written["operation"], "scale");
    assert_eq!(written["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_stack_without_a_state_says_how_one_is_made() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    for verb in [
        &["list"][..],
        &["pull"],
        &["show", "firewall/default"],
        &["rm", "firewall/x", "--auto-approve"],
    ] {
        let arguments = [&["state"], verb].concat();
        project
            .run(&arguments)
            .exits(1)
            .says("stack test has no state yet")
            .says("state rebuild");
    }
    project.run(&["state", "history"]).exits(0).says("none yet");
    project
        .run(&["state", "rollback", "--auto-approve"])
        .exits(1)
        .says("no earlier state is kept");
    project
        .run(&["unlock"])
        .exits(0)
        .says("Nobody holds the lock of stack test.");
    assert!(!project.path("stacks/test.json").exists());
}

#[test]
fn an_earlier_state_is_made_current_again_and_the_clouds_are_left_to_the_plan() {
    let (sandbox, project) = running(1, "");
    let before = project.state();
    sandbox.jobs(4, "10h");
    project.run(&["scale"]).exits(0);
    let after = project.state();
    assert_ne!(before["serial"], after["serial"]);

    let history = project.run(&["state", "history", "--json"]).exits(0).json();
    let states = history["states"].as_array().unwrap();
    assert_eq!(states[0]["current"], true);
    assert_eq!(states[0]["serial"], after["serial"]);
    assert_eq!(
        states[0]["changes"].as_array().unwrap().len(),
        2,
        "two machines more"
    );
    assert!(!history["decisions"].as_array().unwrap().is_empty());
    let serial = before["serial"].to_string();
    project
        .run(&["state", "history"])
        .exits(0)
        .says("+machine.linux/");

    let kept = file(&project);
    project
        .run(&["state", "rollback", &serial])
        .exits(5)
        .says("The clouds are not touched")
        .says("--auto-approve");
    assert_eq!(file(&project), kept, "nothing without approval");
    project
        .run(&["state", "rollback", "999", "--auto-approve"])
        .exits(1)
        .says("no state of serial 999 is kept");
    project
        .run(&["state", "rollback", &serial, "--auto-approve"])
        .exits(0)
        .says("made current again");
    let now = project.state();
    assert_eq!(now["resources"], before["resources"]);
    assert_eq!(now["serial"], json!(after["serial"].as_u64().unwrap() + 1));
    assert_eq!(now["written"]["operation"], "state rollback");
    assert_eq!(sandbox.servers().len(), 3, "no cloud was asked");
    let plan = project.run(&["plan", "--json"]).exits(0).json();
    assert_eq!(plan["orphans"].as_array().unwrap().len(), 2);
    // And back: the state that was left is kept, too.
    project.run(&["state", "rollback", "--auto-approve"]).exits(0);
    assert_eq!(project.state()["resources"], after["resources"]);
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
}

#[test]
fn a_state_is_pushed_where_it_goes_on_from_what_is_there() {
    let (_sandbox, project) = running(1, "");
    let pulled = project.run(&["state", "pull"]).exits(0);
    let state: Value = pulled.json();
    assert_eq!(state, project.state());
    let push = |state: &Value, flags: &[&str]| {
        let path = project.path("pushed.json");
        fs::write(&path, state.to_string()).unwrap();
        project.run(&[&["state", "push", path.to_str().unwrap()], flags].concat())
    };
    let before = file(&project);
    push(&state, &[]).exits(0).says("Nothing to do");

    let mut other = state.clone();
    other["lineage"] = json!("00ff");
    push(&other, &[])
        .exits(5)
        .says("it is of lineage 00ff")
        .says("--force");
    let mut old = state.clone();
    old["serial"] = json!(1);
    old["resources"] = json!({});
    push(&old, &[]).exits(5).says("it has serial 1");
    let mut broken = state.clone();
    let machine = machines(&project)[0].clone();
    let twin = broken["resources"][&machine].clone();
    broken["resources"]["machine.linux/twin"] = twin;
    push(&broken, &[]).exits(1).says("S6");
    push(&broken, &["--force"]).exits(1).says("S6");
    let mut newer = state.clone();
    newer["version"] = json!(99);
    push(&newer, &["--force"]).exits(1).says("use a newer runfleet");
    let mut foreign = state.clone();
    foreign["stack"] = json!("prod");
    push(&foreign, &["--force"])
        .exits(1)
        .says("belongs to stack prod");
    assert_eq!(file(&project), before, "none of these wrote anything");

    let mut edited = state.clone();
    edited["resources"].as_object_mut().unwrap().remove(&machine);
    let answer = push(&edited, &["--json"]).exits(0).json();
    assert_eq!(
        answer["changes"],
        json!([{"what": "removed", "address": machine, "from": null}])
    );
    assert_eq!(
        project.state()["serial"],
        json!(state["serial"].as_u64().unwrap() + 1)
    );
    push(&old, &["--force"]).exits(0);
    assert_eq!(project.state()["resources"], json!({}));
}

#[test]
fn a_push_reads_standard_input() {
    use std::io::Write as _;
    let (_sandbox, project) = running(1, "");
    let mut state = project.state();
    state["resources"]
        .as_object_mut()
        .unwrap()
        .remove("firewall/default");
    let mut child = project
        .command(&["state", "push", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(state.to_string().as_bytes())
        .unwrap();
    Ran::of(&child.wait_with_output().unwrap()).exits(0);
    assert_eq!(project.state()["resources"], state["resources"]);
}

#[test]
fn a_record_is_moved_and_its_labels_follow_without_a_server_more_or_less() {
    let (sandbox, project) = running(2, "");
    let ids: Vec<Value> = project.state()["resources"]
        .as_object()
        .unwrap()
        .values()
        .map(|record| record["id"].clone())
        .collect();
    let old = machines(&project)[0].clone();
    project
        .run(&["state", "mv", &old, "machine.windows/x"])
        .exits(5)
        .says("pools.windows is not in the stack file");
    project
        .run(&["state", "mv", &old, "firewall/x"])
        .exits(1)
        .says("of different kinds");
    project
        .run(&["state", "mv", &old, "machine.linux/Not_a name"])
        .exits(1)
        .says("cannot be the name");
    project
        .run(&["state", "mv", "machine.linux/none", "machine.linux/new"])
        .exits(1)
        .says("is not on record");
    project
        .run(&["state", "mv", &old, "machine.linux/first"])
        .exits(0)
        .says(&format!("{old} -> machine.linux/first"))
        .says("labels in the cloud follow");
    assert_eq!(machines(&project), ["machine.linux/first"]);
    project
        .run(&["plan"])
        .exits(0)
        .says("relabel")
        .says(&format!("was {old}"));
    project.run(&["scale"]).exits(0);
    assert_eq!(labels(&sandbox)[0]["runfleet-id"], "first");
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    let after: Vec<Value> = project.state()["resources"]
        .as_object()
        .unwrap()
        .values()
        .map(|record| record["id"].clone())
        .collect();
    assert_eq!(after, ids);
}

#[test]
fn a_pool_is_moved_by_hand_with_all_its_machines() {
    let (sandbox, project) = running(4, "");
    let servers = sandbox.servers();
    assert_eq!(servers.len(), 2);
    project.edit("pools.linux", "pools.docker");
    project
        .run(&["state", "mv", "pools.linux", "pools.docker", "--json"])
        .exits(0);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), servers);
    for labels in labels(&sandbox) {
        assert_eq!(labels["runfleet-pool"], "docker");
    }
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    project
        .run(&["state", "mv", "pools.linux", "pools.docker"])
        .exits(1)
        .says("nothing on record is of pools.linux");
}

#[test]
fn a_moved_block_renames_a_pool_of_busy_runners_and_replaces_nothing() {
    let (sandbox, project) = running(4, "");
    let servers = sandbox.servers();
    let registered = |project: &Project| -> Vec<Value> {
        let state = project.state();
        let resources = state["resources"].as_object().unwrap().values();
        resources
            .filter_map(|record| record.get("registration").cloned())
            .collect()
    };
    let before = registered(&project);
    project.edit("pools.linux", "pools.docker");
    project.edit("firewalls.default", "firewalls.web");
    project.edit("firewalls = [\"default\"]", "firewalls = [\"web\"]");
    let text = fs::read_to_string(project.path("stacks/test.toml")).unwrap();
    let blocks = "\n[[moved]]\nfrom = \"pools.linux\"\nto = \"pools.docker\"\n\n[[moved]]\nfrom = \"firewalls.default\"\n\
                  to = \"firewalls.web\"\n";
    fs::write(project.path("stacks/test.toml"), format!("{text}{blocks}")).unwrap();
    let plan = project.run(&["plan", "--json"]).exits(0).json();
    for change in plan["changes"].as_array().unwrap() {
        assert_eq!(change["verb"], "relabel", "{change}");
        assert_eq!(change["reason_code"], "moved");
    }
    assert_eq!(plan["changes"].as_array().unwrap().len(), 3);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), servers);
    assert_eq!(registered(&project), before);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    let listed = project.run(&["state", "list"]).exits(0).stdout;
    assert!(
        listed.contains("firewall/web\n") && !listed.contains("linux"),
        "{listed}"
    );
    for labels in labels(&sandbox) {
        assert_eq!(labels["runfleet-pool"], "docker");
    }
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    fs::write(project.path("stacks/test.toml"), text).unwrap();
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    // More work makes machines of the new name.
    sandbox.jobs(2, "10h");
    project.run(&["scale"]).exits(0);
    let new = sandbox.servers();
    assert_eq!(new.len(), 3);
    assert!(new.iter().any(|name| name.starts_with("test-docker-")), "{new:?}");
}

#[test]
fn what_is_taken_off_the_record_is_left_alone_and_is_in_nobodys_way() {
    let (sandbox, project) = running(2, "");
    let one = machines(&project)[0].clone();
    let server = sandbox.servers()[0].clone();
    project
        .run(&["state", "rm", "firewall/default", "--auto-approve"])
        .exits(5)
        .says("firewall/default is in the stack file");
    project
        .run(&["state", "rm", &one])
        .exits(5)
        .says("It stays in the cloud, and is paid for");
    project
        .run(&["state", "rm", &one, &one, "--auto-approve"])
        .exits(0)
        .says("1 off the record");
    assert_eq!(machines(&project).len(), 0);
    project
        .run(&["state", "list"])
        .exits(0)
        .says("1 resource was released");
    let listed = project.run(&["state", "list", "--json"]).exits(0).json();
    assert_eq!(listed["released"][0]["kind"], "machine");
    sandbox.jobs(2, "10h");
    for _ in 0..3 {
        project.run(&["scale"]).exits(0);
        sandbox.advance("10m");
    }
    assert!(sandbox.servers().contains(&server), "it is not deleted");
    assert!(!machines(&project).is_empty(), "others are made beside it");
    let plan = project.run(&["plan", "--json"]).exits(0).json();
    assert_eq!(plan["released"][0]["reason_code"], "released");
    assert_eq!((&plan["orphans"], &plan["foreign"]), (&json!([]), &json!([])));
    project.run(&["plan"]).exits(0).says("Released by state rm");
}

#[test]
fn nothing_is_written_while_an_attempt_is_unfinished() {
    let sandbox = Sandbox::start(&["boot=0s", "action_time=2s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "10h");
    project.run(&["scale"]).exits(0);
    sandbox.jobs(2, "10h");
    let mut scale = Running::start(&mut project.command(&["scale"]));
    eventually("another machine is being made", Duration::from_secs(30), || {
        sandbox.servers().len() == 2
    });
    scale.kill();
    assert!(project.path("stacks/test.journal").exists());
    let (before, one) = (file(&project), machines(&project)[0].clone());
    let path = project.path("stacks/test.json");
    for verb in [
        &["mv", &one, "machine.linux/x"][..],
        &["rm", &one, "--auto-approve"],
        &["rollback", "--auto-approve"],
        &["push", path.to_str().unwrap(), "--force"],
    ] {
        project
            .run(&[&["state"], verb].concat())
            .exits(5)
            .says("unfinished")
            .says("runfleet -s test scale");
    }
    assert_eq!(file(&project), before);
    project
        .run(&["state", "pull"])
        .exits(0)
        .says("of the journal extend it");
    project.run(&["scale"]).exits(0);
    project.run(&["state", "mv", &one, "machine.linux/x"]).exits(0);
}

#[test]
fn a_corrupt_state_is_refused_by_every_verb_with_the_way_back_and_stays_as_it_is() {
    let (sandbox, project) = running(2, "");
    let address = machines(&project)[0].clone();
    project
        .run(&["state", "mv", &address, "machine.linux/moved"])
        .exits(0);
    let good = project.state();
    let text = String::from_utf8(file(&project)).unwrap();
    let path = project.path("stacks/test.json");
    let torn = &text[..text.len() / 2];
    fs::remove_file(&path).unwrap();
    fs::write(&path, torn).unwrap();
    let pushed = project.path("pushed.json");
    fs::write(&pushed, &text).unwrap();
    for verb in [
        &["plan"][..],
        &["scale"],
        &["apply", "--auto-approve"],
        &["destroy"],
        &["status"],
        &["state", "list"],
        &["state", "pull"],
        &["state", "history"],
        &["state", "mv", "machine.linux/a", "machine.linux/b"],
        &["state", "rm", "machine.linux/a", "--auto-approve"],
        &["state", "rollback", "1", "--auto-approve"],
        &["state", "push", pushed.to_str().unwrap(), "--force"],
    ] {
        let ran = project.run(verb).exits(1);
        let told = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in [
            "stacks/test.json is corrupt",
            " line ",
            " column ",
            "state rollback SERIAL",
            "test.states",
        ] {
            assert!(told.contains(word), "{verb:?}: {word}: {told}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), torn, "{verb:?}");
    }
    assert_eq!(sandbox.servers().len(), 1);
    let kept = project.run(&["state", "history"]).exits(1).stdout;
    assert!(kept.contains("SERIAL"), "the kept ones are shown: {kept}");

    // The way back that the message names.
    fs::rename(&path, project.path("stacks/test.json.bad")).unwrap();
    project.run(&["state", "rollback", "--auto-approve"]).exits(0);
    let back = project.state();
    assert!(back["serial"].as_u64().unwrap() >= good["serial"].as_u64().unwrap());
    assert_eq!(back["lineage"], good["lineage"]);
    for _ in 0..4 {
        project.run(&["scale"]);
        sandbox.advance("2m");
    }
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), project.machines_on_record());
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_state_of_version_1_stays_byte_for_byte_until_something_changes() {
    let (sandbox, project) = running(2, "");
    let mut old = project.state();
    old["version"] = json!(1);
    for key in ["written", "disowned", "released"] {
        old.as_object_mut().unwrap().remove(key);
    }
    let text = serde_json::to_string_pretty(&old).unwrap() + "\n";
    fs::write(project.path("stacks/test.json"), &text).unwrap();
    for _ in 0..2 {
        project.run(&["scale"]).exits(0);
        assert_eq!(file(&project), text.as_bytes());
    }
    project.run(&["state", "history"]).exits(0).says("?");
    sandbox.jobs(2, "10h");
    project.run(&["scale"]).exits(0);
    assert_eq!(project.state()["version"], json!(2));
    assert_eq!(
        project.state()["serial"],
        json!(old["serial"].as_u64().unwrap() + 1)
    );
}

#[test]
fn who_holds_the_lock_is_told_and_what_he_has_in_hand_is_in_progress() {
    let sandbox = Sandbox::start(&["latency=20ms", "action_time=30s"]);
    let project = Project::new(&sandbox, "");
    project.edit("ssh_keys = [\"ops\"]\nfirewalls = [\"default\"]\n", "");
    sandbox.jobs(2, "30m");
    let mut command = project.command(&["scale"]);
    command.env("CI_JOB_URL", "https://gitlab.example.com/acme/app/-/jobs/17");
    let mut scale = Running::start(&mut command);
    eventually("a machine is being made", Duration::from_secs(30), || {
        !sandbox.servers().is_empty()
    });

    let told = project.run(&["unlock"]).exits(0).says("Stack test is locked.");
    for word in ["what     scale", "jobs/17", "unlock --force"] {
        assert!(told.stdout.contains(word), "{word}: {}", told.stdout);
    }
    let document = project.run(&["unlock", "--json"]).exits(0).json();
    assert_eq!(document["locked"], true);
    assert_eq!(document["holder"]["pid"], json!(scale.0.id()));
    let id = document["holder"]["id"].as_str().unwrap();

    project
        .run(&["scale"])
        .exits(4)
        .says("the stack is locked: scale of")
        .says("jobs/17")
        .says("--lock-timeout 5m")
        .says("runfleet unlock");
    project
        .run(&["state", "rm", "machine.linux/a", "--auto-approve"])
        .exits(4);
    project
        .run(&["unlock", "--force", "wrong"])
        .exits(4)
        .says("has another id")
        .says(id);
    project
        .run(&["unlock", "--force", id])
        .exits(4)
        .says("still runs and holds the lock");
    let status = project.run(&["status"]).exits(0).says("in progress by scale of");
    assert!(!status.stdout.contains("answer was lost"), "{}", status.stdout);
    project
        .run(&["plan"])
        .says("what is unfinished is in progress there");

    scale.kill();
    project.run(&["unlock"]).exits(0).says("Nobody holds the lock");
}

#[test]
fn a_lock_of_another_host_is_taken_by_its_id() {
    let (_sandbox, project) = running(0, "");
    let there = json!({
        "id": "6f1c", "operation": "scale", "who": "ci@elsewhere", "host": "elsewhere", "boot_id": "theirs", "pid": 7,
        "pid_start": 9, "created": "2026-03-01T01:30:00Z", "info": ""
    });
    fs::write(project.path("stacks/test.lock"), there.to_string()).unwrap();
    project.run(&["scale"]).exits(4).says("ci@elsewhere");
    project.run(&["unlock"]).exits(0).says("unlock --force 6f1c");
    project
        .run(&["unlock", "--force", "77"])
        .exits(4)
        .says("--force 6f1c");
    project
        .run(&["unlock", "--force", "6f1c"])
        .exits(0)
        .says("Took the lock of stack test from scale of ci@elsewhere");
    project
        .run(&["unlock", "--force", "6f1c"])
        .exits(0)
        .says("Nobody holds the lock");
    project.run(&["scale"]).exits(0);
}

#[test]
fn two_that_write_at_once_are_told_apart_and_nothing_is_lost() {
    let (_sandbox, project) = running(8, "");
    let all = machines(&project);
    assert_eq!(all.len(), 4);
    let begun: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(number, address)| {
            let to = format!("machine.linux/moved-{number}");
            let mut command = project.command(&["state", "mv", address, &to, "--lock-timeout", "30s"]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in begun {
        Ran::of(&child.wait_with_output().unwrap()).exits(0);
    }
    let mut moved = machines(&project);
    moved.sort();
    let expected: Vec<String> = (0..4)
        .map(|number| format!("machine.linux/moved-{number}"))
        .collect();
    assert_eq!(moved, expected);
}

#[test]
fn an_untrusted_stack_is_not_written() {
    let (_sandbox, project) = running(0, "");
    project
        .run(&["--untrusted", "state", "rollback", "--auto-approve"])
        .exits(5);
}
