//! `[watch]`: as it is read, and each problem's message.

use std::path::PathBuf;

use super::{SMALL, brief, parse};
use crate::stack::{SecretRef, Watching};

const BUDGET: &str = "[budget]\n";

fn with(watch: &str) -> String {
    assert!(SMALL.contains(BUDGET));
    SMALL.replacen(BUDGET, &format!("[watch]\n{watch}\n\n{BUDGET}"), 1)
}

fn read(watch: &str) -> Watching {
    let stack = parse(&with(watch), "stacks/prod.toml");
    stack
        .unwrap_or_else(|problems| panic!("{}", brief(&problems)))
        .watch
}

#[test]
fn a_watch_listens_nowhere_unless_it_is_told_to() {
    assert_eq!(parse(SMALL, "x").unwrap().watch, Watching::default());
    let here = read("listen = \"[::1]:9090\"");
    assert_eq!(here.listen, Some("[::1]:9090".parse().unwrap()));
    let open = read("listen = \"0.0.0.0:9090\"\nsecret = { file = \"secret\" }");
    assert_eq!(open.secret, Some(SecretRef::File(PathBuf::from("secret"))));
}

#[test]
fn every_problem_of_a_watch_says_what_to_type() {
    let mut said = String::new();
    for watch in [
        "listen = \"0.0.0.0:9090\"",
        "listen = \"localhost:9090\"",
        "listen = \"127.0.0.1\"",
        "secret = { env = \"\" }",
    ] {
        let problems = parse(&with(watch), "stacks/prod.toml").expect_err(watch);
        said += &brief(&problems);
    }
    let said: Vec<&str> = said
        .lines()
        .map(|line| line.split_once(" stack::").map_or(line, |(_, rest)| rest))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    missing_key `watch.listen` is 0.0.0.0:9090, which others reach, and `watch` has no secret
      = add what a reader must send: secret = { env = "RUNFLEET_WATCH_SECRET" }; or listen on 127.0.0.1
    bad_value `watch.listen` cannot be "localhost:9090": not an address with a port
      = write an IP address and a port: "127.0.0.1:9090", "[::1]:9090", "0.0.0.0:9090"
    bad_value `watch.listen` cannot be "127.0.0.1": not an address with a port
      = write an IP address and a port: "127.0.0.1:9090", "[::1]:9090", "0.0.0.0:9090"
    bad_value `watch.secret` does not say where the secret is
      = name the variable, without `$`: { env = "HCLOUD_TOKEN" }
    "#);
}
