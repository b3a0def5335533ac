//! The whole program with its state elsewhere; and two programs at once over each kind of place: one wins, the other
//! says who holds the lock and exits 4, and nothing is lost or made twice.

use std::process::Stdio;

use super::{
    moto,
    support::{Project, Ran, Sandbox, stack_text},
};

/// A project whose stack keeps its state there.
fn project(sandbox: &Sandbox, state: &str) -> Project {
    let text = stack_text(sandbox.hetzner(), sandbox.gitlab(), "");
    assert!(text.contains("state = \"file\"\n"));
    Project::with_stack(&text.replace("state = \"file\"", state), sandbox.token())
}

fn http_state(sandbox: &Sandbox) -> String {
    format!(
        "state = {{ address = \"{}/api/v4/projects/1/terraform/state/test\", username = \"root\", password = {{ env = \
         \"GITLAB_API_TOKEN\" }} }}",
        sandbox.gitlab()
    )
}

fn s3_state() -> Option<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (endpoint, bucket) = runtime.block_on(moto::bucket())?;
    Some(format!(
        "state = {{ address = \"s3://{bucket}/ci\", endpoint = \"{endpoint}\", access_key = {{ env = \"HCLOUD_TOKEN\" }}, \
         secret_key = {{ env = \"GITLAB_API_TOKEN\" }} }}"
    ))
}

/// Starts the same tick twice at once, and then a third one.
fn two_at_once(sandbox: &Sandbox, state: &str) {
    let project = project(sandbox, state);
    sandbox.jobs(6, "1h");
    let children = [(); 2].map(|()| {
        project
            .command(&["scale"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let [first, second] = children.map(|child| Ran::of(&child.wait_with_output().unwrap()));
    let (won, lost) = if first.code == 0 {
        (first, second)
    } else {
        (second, first)
    };
    won.exits(0);
    lost.exits(4)
        .says("the stack is locked: scale of ")
        .says("--lock-timeout");
    assert_eq!(sandbox.servers().len(), 3, "{:?}", sandbox.servers());
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3, "what the first made is on record");
}

#[test]
fn two_programs_over_one_folder() {
    let sandbox = Sandbox::start(&["latency=250ms"]);
    two_at_once(&sandbox, "state = \"file\"");
}

#[test]
fn two_programs_over_one_bucket() {
    let Some(state) = s3_state() else { return };
    let sandbox = Sandbox::start(&["latency=250ms"]);
    two_at_once(&sandbox, &state);
}

#[test]
fn two_programs_over_one_http_state() {
    let sandbox = Sandbox::start(&["latency=250ms"]);
    two_at_once(&sandbox, &http_state(&sandbox));
}

#[test]
fn an_http_state_may_be_named_by_terraform_s_variables_alone() {
    let sandbox = Sandbox::start(&[]);
    let project = project(&sandbox, "state = \"http\"");
    let address = format!("{}/api/v4/projects/1/terraform/state/test", sandbox.gitlab());
    let run = |set: &[(&str, &str)]| {
        let mut command = project.command(&["plan"]);
        command.envs(set.iter().copied());
        Ran::of(&command.output().unwrap())
    };
    run(&[]).exits(1).says("TF_HTTP_ADDRESS");
    let login = [
        ("TF_HTTP_ADDRESS", address.as_str()),
        ("TF_HTTP_USERNAME", "gitlab-ci-token"),
        ("TF_HTTP_PASSWORD", sandbox.token()),
    ];
    run(&login).exits(0);
    let refused = [login[0], login[1], ("TF_HTTP_PASSWORD", "wr0ng-passw0rd")];
    let ran = run(&refused)
        .exits(1)
        .says("does not let us in")
        .says("TF_HTTP_PASSWORD");
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("wr0ng"));
}
