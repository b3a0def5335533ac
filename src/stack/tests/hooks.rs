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
    insta::assert_snapshot!(all, @r#"
    on = ["before_create"]
    33:1 stack::bad_value a hook does one thing: `command`, `http` or `ssh`
      = add command = ["./hook.sh"]

    on = [] ⏎ command = ["x"]
    34:6 stack::bad_value `pools.linux.hooks.on` must not be empty
      = name at least 1

    on = ["on_error", "on_error"] ⏎ command = ["x"]
    34:19 stack::duplicate "on_error" stands twice in `pools.linux.hooks.on`
      = take one out

    on = ["on_error"] ⏎ command = ["x"] ⏎ ssh = "y"
    33:1 stack::bad_value a hook does one thing: `command`, `http` or `ssh`
      = add command = ["./hook.sh"]

    on = ["on_error"] ⏎ command = [" "]
    35:11 stack::bad_value the command names no program
      = its first word is the program: ["./hook.sh"]

    on = ["on_error"] ⏎ command = ["./hook.sh now"]
    35:11 stack::bad_value the command names a program "./hook.sh now", spaces included
      = each word by itself: ["./hook.sh", "now"]

    on = ["on_error"] ⏎ command = ["x", "glpat-verysecret"]
    35:11 stack::bad_value the command's word glpa… looks like a secret, which every process here could read
      = have the program read it from the environment or a file

    on = ["on_error"] ⏎ command = ["x"] ⏎ timeout = "2h"
    36:11 stack::bad_value a hook may take an hour at most
      = start what takes longer, and do not wait for it

    on = ["on_error"] ⏎ command = ["x"] ⏎ retries = 11
    36:11 stack::bad_value `pools.linux.hooks.retries` cannot be 11
      = the most is 10

    on = ["after_delete"] ⏎ ssh = "true"
    35:7 stack::bad_value there is no machine to log in to at `after_delete`
      = use `command` or `http` for it, in a hook of its own

    on = ["after_ready"] ⏎ ssh = " "
    35:7 stack::bad_value the command is empty, or holds a zero byte
      = write what the machine's shell is to run: "systemctl stop web"

    on = ["on_error"] ⏎ http = { url = "http://hooks.example.com/" }
    35:16 stack::bad_value `pools.linux.hooks.http.url` would send the token over plain http
      = write "https://hooks.example.com/"; plain http goes only to this machine

    on = ["on_error"] ⏎ http = { url = "https://h.example.com/?key=glpat-verysecret" }
    35:16 stack::bad_value `glpa…` in the address looks like a secret
      = say where it is: token = { env = "HOOK_TOKEN" }

    on = ["on_error"] ⏎ http = { url = "https://h.example.com", method = "put" }
    35:50 stack::bad_value a hook cannot be sent by "put"
      = write "PUT"

    on = ["on_error"] ⏎ http = { url = "https://h.example.com", headers = { Authorization = "Bearer x" } }
    35:53 stack::bad_value the header `Authorization` would hold a secret in the stack file
      = say where the secret is: token = { env = "HOOK_TOKEN" } sends it as `Authorization: Bearer …`

    on = ["on_error"] ⏎ http = { url = "https://h.example.com", headers = { Host = "x" } }
    35:53 stack::bad_value the header `Host` is set by runfleet
      = take it out

    on = ["on_error"] ⏎ http = { url = "https://h.example.com", headers = { "a b" = "x" } }
    35:53 stack::bad_value "a b" is no name of a header
      = letters, digits and `-`: "X-Source"

    user = "-oProxyCommand=x"
    34:8 stack::bad_value "-oProxyCommand=x" is no user to log in as
      = letters, digits, `.`, `_` and `-`, not beginning with `-`

    user = "a b"
    34:8 stack::bad_value "a b" is no user to log in as
      = letters, digits, `.`, `_` and `-`, not beginning with `-`

    jump = "-oProxyCommand=x"
    34:8 stack::bad_value "-oProxyCommand=x" is no host to go through
      = write "user@host" or "user@host:port", several with commas between them

    jump = "ops@-oProxyCommand=x"
    34:8 stack::bad_value "ops@-oProxyCommand=x" is no host to go through
      = write "user@host" or "user@host:port", several with commas between them

    jump = "bastion:0"
    34:8 stack::bad_value "bastion:0" is no host to go through
      = write "user@host" or "user@host:port", several with commas between them

    jump = "a;b"
    34:8 stack::bad_value "a;b" is no host to go through
      = write "user@host" or "user@host:port", several with commas between them

    key_file = ""
    34:12 stack::bad_value `ssh.key_file` must not be empty
      = name a file, or take the key out

    port = 0
    34:8 stack::bad_value `ssh.port` cannot be 0
      = the least is 1
    "#);
}
