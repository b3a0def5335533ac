//! The command line without a world behind it: usage, exit codes, where errors go, what is generated.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says where"
)]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A stack whose cloud and CI are nobody: nothing listens on port 1 of the loopback.
const STACK: &str = r#"
[stack]
name = "test"

[providers.hetzner]
token    = { env = "HCLOUD_TOKEN" }
endpoint = "http://127.0.0.1:1/v1"

[ci.gitlab]
kind  = "gitlab"
url   = "http://127.0.0.1:1"
token = { env = "GITLAB_API_TOKEN" }

[pools.linux]
ci              = "gitlab"
tags            = ["linux"]
jobs_per_runner = 2
max             = 5

[[pools.linux.offerings]]
provider  = "hetzner"
type      = "cx33"
locations = ["nbg1"]
image     = "debian-12"
"#;

/// A project's folder with these stacks.
fn project(stacks: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("stacks")).unwrap();
    for (name, text) in stacks {
        std::fs::write(folder.path().join("stacks").join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

/// Runs the program in a folder, with no more environment than that it finds its way.
fn runfleet(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::of(&command(folder, arguments).output().unwrap())
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runfleet"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null());
    command
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

#[test]
fn help_and_version_are_no_errors_and_everything_else_that_clap_refuses_is_1() {
    let folder = project(&[]);
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["plan", "--help"],
        &["help", "scale"],
    ] {
        runfleet(folder.path(), arguments).exits(0);
    }
    for arguments in [
        &[][..],
        &["plan", "--nope"],
        &["--nope"],
        &["fly"],
        &["plan", "--format", "xml"],
        &["scale", "--lock-timeout", "soon"],
        &["render"],
    ] {
        let ran = runfleet(folder.path(), arguments).exits(1);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn without_a_name_the_only_stack_is_meant_and_several_are_listed() {
    let none = project(&[]);
    let ran = runfleet(none.path(), &["validate"]).exits(1);
    assert!(ran.stderr.contains("runfleet init"), "{}", ran.stderr);

    let one = project(&[("test", STACK)]);
    runfleet(one.path(), &["validate"]).exits(0);
    runfleet(one.path(), &["-s", "test", "validate"]).exits(0);
    runfleet(one.path(), &["-s", "stacks/test.toml", "validate"]).exits(0);

    let two = project(&[
        ("test", STACK),
        ("other", &STACK.replace("\"test\"", "\"other\"")),
    ]);
    let ran = runfleet(two.path(), &["validate"]).exits(1);
    assert!(ran.stderr.contains("other, test"), "{}", ran.stderr);
    let by_environment = command(two.path(), &["validate", "--json"])
        .env("RUNFLEET_STACK", "other")
        .output()
        .unwrap();
    assert_eq!(Ran::of(&by_environment).exits(0).json()["stack"], "other");
    let ran = runfleet(two.path(), &["-s", "tset", "validate"]).exits(1);
    assert!(ran.stderr.contains("did you mean test?"), "{}", ran.stderr);
}

#[test]
fn another_folder_is_worked_in_with_chdir() {
    let project = project(&[("test", STACK)]);
    let elsewhere = tempfile::tempdir().unwrap();
    let path = project.path().display().to_string();
    runfleet(elsewhere.path(), &["-C", &path, "validate"]).exits(0);
    runfleet(elsewhere.path(), &["-C", "/does/not/exist", "validate"]).exits(1);
}

#[test]
fn every_problem_of_a_stack_file_is_told_to_people_and_to_programs() {
    let text = STACK.replace("max  ", "mex  ").replace("\"cx33\"", "3");
    let project = project(&[("test", &text)]);
    let ran = runfleet(project.path(), &["validate"]).exits(1);
    for word in [
        "`mex`, did you mean `max`?",
        "stacks/test.toml:",
        "must be a string",
    ] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\u{1b}'), "no colour in a pipe");
    let json = runfleet(project.path(), &["plan", "--json"]).exits(1).json();
    assert_eq!(json["complete"], false);
    let told = json["diagnostics"].as_array().unwrap();
    assert!(told.len() >= 3, "{json:#}");
    assert!(
        told.iter()
            .all(|one| one["detail"].as_str().unwrap().starts_with("stacks/test.toml:"))
    );
}

#[test]
fn a_missing_secret_names_the_variable_the_key_and_what_to_type() {
    let project = project(&[("test", STACK)]);
    let ran = runfleet(project.path(), &["plan"]).exits(1);
    for word in ["HCLOUD_TOKEN", "providers.hetzner.token", "export HCLOUD_TOKEN="] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

#[test]
fn an_untrusted_stack_runs_no_command_and_reaches_no_host_that_is_not_named() {
    let text = STACK.replace("{ env = \"HCLOUD_TOKEN\" }", "{ command = [\"touch\", \"ran\"] }");
    let project = project(&[("test", &text)]);
    let hosts = |hosts: &str| {
        let mut command = command(project.path(), &["plan", "--untrusted"]);
        command.env("RUNFLEET_HOSTS", hosts);
        Ran::of(&command.output().unwrap()).exits(5)
    };
    assert!(hosts("").stderr.contains("RUNFLEET_HOSTS"));
    hosts("127.0.0.1");
    assert!(!project.path().join("ran").exists());
    runfleet(project.path(), &["scale", "--untrusted"]).exits(5);
}

#[test]
fn lines_of_json_end_in_a_change_summary_even_when_nothing_could_be_begun() {
    let project = project(&[("test", STACK)]);
    for arguments in [
        &["scale", "--json"][..],
        &["-s", "nowhere", "apply", "--json"],
        &["destroy", "--json"],
    ] {
        let ran = runfleet(project.path(), arguments).exits(1);
        let lines: Vec<Value> = ran
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(
            types,
            ["version", "diagnostic", "change_summary"],
            "{arguments:?}"
        );
        for line in &lines {
            for key in ["@level", "@message", "@timestamp", "format_version", "complete"] {
                assert!(line.get(key).is_some(), "{key}: {line}");
            }
        }
    }
}

#[test]
fn init_writes_a_valid_stack_and_never_over_another() {
    let project = project(&[]);
    for (kind, name) in [("local", "local"), ("hetzner", "dev")] {
        let ran = runfleet(project.path(), &["init", "--from", kind]).exits(0);
        assert!(
            ran.stdout.contains(&format!("stacks/{name}.toml")),
            "{}",
            ran.stdout
        );
        runfleet(project.path(), &["-s", name, "validate"]).exits(0);
        let file = project.path().join(format!("stacks/{name}.toml"));
        let before = std::fs::read(&file).unwrap();
        let ran = runfleet(project.path(), &["init", "--from", kind]).exits(1);
        assert!(ran.stderr.contains("is there already"), "{}", ran.stderr);
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    runfleet(project.path(), &["init", "--out", "stacks/team-a.toml"]).exits(0);
    runfleet(project.path(), &["-s", "team-a", "validate"]).exits(0);
    runfleet(project.path(), &["init", "--out", "stacks/Team A.toml"]).exits(1);
}

#[test]
fn a_stack_file_is_valid_by_the_schema_that_is_printed() {
    let project = project(&[]);
    let schema = runfleet(project.path(), &["schema"]).exits(0).json();
    let stack: Value = toml::from_str(STACK).unwrap();
    jsonschema::validate(&schema, &stack).unwrap();
}

#[test]
fn the_user_data_of_a_pool_is_shown_without_its_secret() {
    let project = project(&[("test", STACK)]);
    let ran = runfleet(project.path(), &["render", "linux"]).exits(0);
    assert!(ran.stdout.starts_with("#cloud-config") || ran.stdout.contains("\n#cloud-config"));
    assert!(ran.stdout.contains("***"), "{}", ran.stdout);
    let ran = runfleet(project.path(), &["render", "windows"]).exits(1);
    assert!(ran.stderr.contains("there are: linux"), "{}", ran.stderr);
}

#[test]
fn each_shell_has_its_completions_and_there_is_a_manual_page() {
    let project = project(&[]);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = runfleet(project.path(), &["completions", shell]).exits(0);
        assert!(ran.stdout.contains("detailed-exitcode"), "{shell}");
        assert!(ran.stderr.is_empty());
    }
    let page = runfleet(project.path(), &["man"]).exits(0);
    assert!(page.stdout.contains(".TH runfleet 1"), "{}", page.stdout);
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let project = project(&[]);
    let mut child = command(project.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
    assert_eq!(ran.status.code(), Some(0));
}

#[test]
fn the_generated_pages_are_those_in_docs() {
    let fresh = tempfile::tempdir().unwrap();
    let out = fresh.path().display().to_string();
    runfleet(fresh.path(), &["docs", "--out", &out]).exits(0);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for page in [
        "cli.md",
        "reasons.md",
        "stack-file.md",
        "schemas/plan.json",
        "schemas/status.json",
        "schemas/events.json",
    ] {
        let written = std::fs::read_to_string(fresh.path().join(page)).unwrap();
        let kept = std::fs::read_to_string(docs.join(page)).unwrap_or_default();
        assert!(written == kept, "docs/{page} is stale; run: make docs");
    }
}
