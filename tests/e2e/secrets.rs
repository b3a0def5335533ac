//! No secret in any output, file or process list.

use crate::support::{Project, Sandbox, everything_in};

#[test]
fn no_token_is_in_a_file_an_output_or_an_error() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(3, "10m");
    let mut all = String::new();
    for arguments in [
        &["-vvv", "plan"][..],
        &["-vvv", "plan", "--json"],
        &["-vvv", "plan", "--format", "terraform", "--out", "p.plan"],
        &["-vvv", "plan", "--format", "markdown"],
        &["-vvv", "--log-format", "json", "scale", "--json"],
        &["-vvv", "status"],
        &["-vvv", "status", "--json"],
        &["-vvv", "render", "linux"],
        &["-vvv", "validate", "--online"],
    ] {
        let ran = project.run(arguments);
        all.push_str(&ran.stdout);
        all.push_str(&ran.stderr);
    }
    sandbox.fault(&serde_json::json!({"path": "/gitlab/*", "fault": "unauthorized", "count": 50}));
    sandbox.fault(&serde_json::json!({"path": "/hetzner/*", "fault": "server-error", "count": 50}));
    for arguments in [&["-vvv", "plan"][..], &["-vvv", "scale"]] {
        let ran = project.run(arguments);
        all.push_str(&ran.stdout);
        all.push_str(&ran.stderr);
    }
    all.push_str(&everything_in(project.root()));
    assert!(!all.contains(sandbox.token()), "the API token is shown");
    assert!(!all.contains("glrt-"), "a join token is shown");
    assert!(all.contains("machine.linux/"), "something was done at all");
}

#[test]
fn a_secret_is_never_an_argument_and_a_literal_one_is_refused() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    project.edit("token = { env = \"HCLOUD_TOKEN\" }", "token = \"hunter2-secret\"");
    let ran = project.run(&["validate"]).exits(1).says("providers.hetzner");
    assert!(
        ran.stderr.contains("env") || ran.stdout.contains("env"),
        "it tells how to refer to a secret"
    );
}

#[test]
fn a_token_where_its_place_should_be_named_is_refused_and_not_shown() {
    let sandbox = Sandbox::start(&[]);
    for bad in [
        "token = { value = \"glpat-hunter2\" }",
        "token = { env = \"HCLOUD_TOKEN\", vlue = \"glpat-hunter2\" }",
        "token = { env = \"glpat-hunter2\" }",
    ] {
        let project = Project::new(&sandbox, "");
        project.edit("token = { env = \"HCLOUD_TOKEN\" }", bad);
        for arguments in [&["validate"][..], &["plan"], &["validate", "--json"]] {
            let ran = project.run(arguments).exits(1);
            assert!(
                !format!("{}{}", ran.stdout, ran.stderr).contains("hunter2"),
                "{bad}: {ran:?}"
            );
        }
    }
}
