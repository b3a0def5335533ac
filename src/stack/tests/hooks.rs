//! Hooks and logins: what is read, and every problem with its message.

use std::fmt::Write as _;

use super::{SMALL, brief};
use crate::{
    model::metrics::AddressKind,
    stack::{
        SecretRef, Stack, StackProblems,
        hooks::{HookCall, Moment, OnFailure},
        parse,
    },
};

fn with(more: &str) -> Result<Stack, StackProblems> {
    parse(&format!("{SMALL}\n{more}\n"), "stacks/prod.toml").map_err(|problems| *Box::new(problems))
}

#[test]
fn hooks_and_a_login_are_read_with_their_defaults() {
    let stack = with(
        r#"
[[pools.linux.hooks]]
on = ["after_ready", "before_delete"]
command = ["./hook.sh", "now"]

[[pools.linux.hooks]]
on = ["on_error"]
http = { url = "https://hooks.example.com/ci?team=a", token = { env = "HOOK_TOKEN" }, headers = { X-Source = "ci" } }
timeout = "5s"
retries = 3
on_failure = "continue"

[[pools.linux.hooks]]
on = ["before_delete"]
ssh = "systemctl stop web"

[ssh]
user = "ops"
key_file = "id"
port = 2222
address = "private"
jump = "ops@bastion.example.com:2200,[2001:db8::1]:22"
"#,
    )
    .unwrap();
    let hooks = &stack.pools[0].hooks;
    assert_eq!(
        hooks[0].call,
        HookCall::Command(vec!["./hook.sh".into(), "now".into()])
    );
    assert_eq!((hooks[0].timeout.as_secs(), hooks[0].retries), (30, 0));
    assert_eq!(hooks[0].on_failure, OnFailure::Stop);
    let HookCall::Http(call) = &hooks[1].call else {
        panic!("{hooks:?}");
    };
    assert_eq!(
        (call.method.as_str(), call.token.clone()),
        ("POST", Some(SecretRef::Env("HOOK_TOKEN".into())))
    );
    assert_eq!(hooks[2].call, HookCall::Ssh("systemctl stop web".into()));
    let at: Vec<usize> = stack.pools[0]
        .hooks_of(Moment::BeforeDelete)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(at, [0, 2]);
    assert_eq!((stack.login.user.as_str(), stack.login.port), ("ops", 2222));
    assert_eq!(stack.login.address, AddressKind::Private);
}

/// What cannot be: the lines of a hook, or a whole table.
const BROKEN: &[&str] = &[
    "on = [\"before_create\"]",
    "on = []\ncommand = [\"x\"]",
    "on = [\"on_error\", \"on_error\"]\ncommand = [\"x\"]",
    "on = [\"on_error\"]\ncommand = [\"x\"]\nssh = \"y\"",
    "on = [\"on_error\"]\ncommand = [\" \"]",
    "on = [\"on_error\"]\ncommand = [\"./hook.sh now\"]",
    "on = [\"on_error\"]\ncommand = [\"x\", \"glpat-verysecret\"]",
    "on = [\"on_error\"]\ncommand = [\"x\"]\ntimeout = \"2h\"",
    "on = [\"on_error\"]\ncommand = [\"x\"]\nretries = 11",
    "on = [\"after_delete\"]\nssh = \"true\"",
    "on = [\"after_ready\"]\nssh = \" \"",
    "on = [\"on_error\"]\nhttp = { url = \"http://hooks.example.com/\" }",
    "on = [\"on_error\"]\nhttp = { url = \"https://h.example.com/?key=glpat-verysecret\" }",
    "on = [\"on_error\"]\nhttp = { url = \"https://h.example.com\", method = \"put\" }",
    "on = [\"on_error\"]\nhttp = { url = \"https://h.example.com\", headers = { Authorization = \"Bearer x\" } }",
    "on = [\"on_error\"]\nhttp = { url = \"https://h.example.com\", headers = { Host = \"x\" } }",
    "on = [\"on_error\"]\nhttp = { url = \"https://h.example.com\", headers = { \"a b\" = \"x\" } }",
];

const BROKEN_LOGINS: &[&str] = &[
    "user = \"-oProxyCommand=x\"",
    "user = \"a b\"",
    "jump = \"-oProxyCommand=x\"",
    "jump = \"ops@-oProxyCommand=x\"",
    "jump = \"bastion:0\"",
    "jump = \"a;b\"",
    "key_file = \"\"",
    "port = 0",
];

#[test]
fn every_problem_says_what_to_write() {
    let mut all = String::new();
    for lines in BROKEN {
        let problems = with(&format!("[[pools.linux.hooks]]\n{lines}")).expect_err(lines);
        let _ = write!(all, "{}\n{}\n", lines.replace('\n', " ⏎ "), brief(&problems));
        assert!(!brief(&problems).contains("verysecret"), "{lines}");
    }
    for line in BROKEN_LOGINS {
        let problems = with(&format!("[ssh]\n{line}")).expect_err(line);
        let _ = write!(all, "{line}\n{}\n", brief(&problems));
    }
    insta::assert_snapshot!(all, @"");
}
