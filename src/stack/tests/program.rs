//! CIs of one's own in the stack file: what is read, and every kind of problem with its message.

use super::*;
use crate::stack::source::Call;

/// Machines for what a command tells.
const EXEC: &str = r#"[stack]
name = "prod"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ci.own]
kind = "exec"
demand = ["./ci.sh", "demand"]
register = ["./ci.sh", "register"]
cordon = ["./ci.sh", "cordon"]
uncordon = ["./ci.sh", "uncordon"]
forget = ["./ci.sh", "forget"]
timeout = "5s"

[pools.linux]
ci = "own"
tags = ["linux"]
max = 5
cloud_init = "cloud-init/own.yaml.tera"

[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
locations = ["nbg1"]
image = "debian-12"
"#;

fn http(lines: &str) -> String {
    let begin = EXEC.find("kind = \"exec\"").unwrap();
    let end = EXEC.find("timeout = ").unwrap();
    format!("{}kind = \"http\"\n{lines}\n{}", &EXEC[..begin], &EXEC[end..])
}

fn told(text: &str) -> String {
    brief(&parse(text, "stacks/prod.toml").unwrap_err())
}

#[test]
fn commands_and_urls_are_read() {
    let stack = parse(EXEC, "stacks/prod.toml").unwrap();
    let program = stack.ci[&CiName::from("own")].program.clone().unwrap();
    let words: Vec<&str> = program.each().map(|(word, _)| word).collect();
    assert_eq!(words, ["demand", "register", "cordon", "uncordon", "forget"]);
    assert_eq!(
        program.cordon,
        Some(Call::Command(vec!["./ci.sh".to_owned(), "cordon".to_owned()]))
    );
    assert_eq!(program.timeout, jiff::SignedDuration::from_secs(5));

    let stack = parse(
        &http("url = \"https://ci.example.com\"\ndemand_url = \"/runners/demand?of=us\""),
        "stacks/prod.toml",
    )
    .unwrap();
    let program = stack.ci[&CiName::from("own")].program.clone().unwrap();
    assert_eq!(program.demand, Call::Url("/runners/demand?of=us".to_owned()));
    assert_eq!(program.cordon, None);
}

/// What is told of each, one below the other.
fn told_of<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = texts.into_iter().map(|text| told(text.as_ref())).collect();
    all.join("\n")
}

#[test]
fn what_is_missing_of_a_command_is_told() {
    let without = |line: &str| EXEC.replace(&format!("\n{line}\n"), "\n");
    insta::assert_snapshot!(told_of([
        without("demand = [\"./ci.sh\", \"demand\"]"),
        without("forget = [\"./ci.sh\", \"forget\"]"),
        without("uncordon = [\"./ci.sh\", \"uncordon\"]"),
        without("cordon = [\"./ci.sh\", \"cordon\"]"),
        EXEC.replace("[\"./ci.sh\", \"demand\"]", "[]"),
        EXEC.replace("[\"./ci.sh\", \"forget\"]", "[\"./ci.sh\", \"a\\u0000b\"]"),
        EXEC.replace("kind = \"exec\"", "kind = \"exec\"\nurl = \"sandbox\"\ndemand_url = \"/demand\""),
    ]), @r#"
    7:1 stack::missing_key missing key `demand` in `ci.own`
      = say what tells which jobs there are: demand = ["./demand.sh"]

    10:1 stack::missing_key `ci.own` has `register`, and no `forget`
      = each machine would leave a registration behind: add `forget`, or take `register` out

    11:1 stack::missing_key `ci.own` has `cordon`, and no `uncordon`
      = what is kept from jobs could never take any again: add `uncordon`, or take `cordon` out

    11:1 stack::missing_key `ci.own` has `uncordon`, and no `cordon`
      = nothing is ever kept from jobs: add `cordon`, or take `uncordon` out

    9:10 stack::bad_value `ci.own.demand` names no program
      = write the program and its arguments: demand = ["./demand.sh"]

    13:10 stack::bad_value `ci.own.forget` has a NUL
      = take the NUL out

    9:7 stack::bad_value `ci.own.url` cannot be the sandbox for exec
      = write the root of your CI, or take it out: the sandbox has no CI of this kind
    9:7 stack::dangling `ci.own.url` is the sandbox, and there is none
      = add a table `[sandbox]`; it may be empty
    10:1 stack::contradiction `ci.own.demand_url` says nothing to exec
      = take `demand_url` out
    "#);
}

#[test]
fn what_is_wrong_with_a_url_is_told() {
    let cases = [
        "",
        "demand_url = \"/demand\"",
        "demand_url = \"ci.example.com/demand\"",
        "demand_url = \"file:///demand.json\"",
        "demand_url = \"http://ci.example.com/demand\"",
        "demand_url = \"https://me:secret@ci.example.com/demand\"",
        "demand_url = \"https://ci.example.com/demand#all\"\nregister_url = \"https://ci.example.com/register\"",
    ];
    insta::assert_snapshot!(told_of(cases.map(http)), @r#"
    7:1 stack::missing_key missing key `demand_url` in `ci.own`
      = say what tells which jobs there are: demand_url = "https://ci.example.com/demand.json"

    9:14 stack::bad_value `ci.own.demand_url` is a path, and `ci.own` has no `url` that it is below
      = write it whole: demand_url = "https://ci.example.com/demand"; or add url = "https://ci.example.com"

    9:14 stack::bad_value `ci.own.demand_url` is no URL
      = write "https://ci.example.com/demand", or a path below `url`: "/demand"

    9:14 stack::bad_value `ci.own.demand_url` is neither https nor http
      = write "https://…"; what is on this computer is run, with kind = "exec"

    9:14 stack::bad_value `ci.own.demand_url` is plain http to another machine
      = write https://; plain http is for this machine (127.0.0.1, ::1, localhost) only

    9:14 stack::bad_value `ci.own.demand_url` must not hold a password
      = take it out, and write token = { env = "CI_TOKEN" }: it is sent as a bearer token

    9:14 stack::bad_value `ci.own.demand_url` has a fragment
      = take out what begins with `#`
    10:1 stack::missing_key `ci.own` has `register_url`, and no `forget_url`
      = each machine would leave a registration behind: add `forget_url`, or take `register_url` out
    "#);
    assert!(
        parse(
            &http("demand_url = \"http://127.0.0.1:8080/demand\""),
            "stacks/prod.toml"
        )
        .is_ok()
    );
}
