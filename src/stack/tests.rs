//! The stack file as its reader meets it: examples, and every kind of problem with its message.
//!
//! Long because every message stands in it.

use std::fmt::Write as _;

use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;

use super::*;
use crate::model::resource::ImageRef;

mod aws;
mod azure;
mod digitalocean;
mod hooks;
mod kubernetes;
mod metrics;
mod money;
mod program;
mod step;
mod tasks;
mod watch;

const LOCAL: &str = include_str!("../../stacks/local.toml");
const DEV: &str = include_str!("../../stacks/dev.toml");
const PROD: &str = include_str!("../../stacks/prod.toml");

/// A small valid stack that the tests break.
const SMALL: &str = r#"[stack]
name = "prod"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ssh_keys.ops]
provider = "hetzner"
public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFKb61eFlJwEOHHpNhZbAuUltvLQD ops@example.com"

[firewalls.default]
provider = "hetzner"
rules = [{ direction = "in", protocol = "tcp", port = "22", networks = ["0.0.0.0/0", "::/0"] }]

[ci.gitlab]
token = { env = "GITLAB_API_TOKEN" }

[budget]
hourly = "2.50 EUR"

[pools.linux]
ci = "gitlab"
tags = ["docker"]
max = 5
ssh_keys = ["ops"]
firewalls = ["default"]

[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
image = "debian-12"
"#;

fn broken(old: &str, new: &str) -> StackProblems {
    assert!(SMALL.contains(old), "{old}");
    let text = SMALL.replacen(old, new, 1);
    parse(&text, "stacks/prod.toml").expect_err("this is wrong")
}

/// Code, place, message and help of every problem, a line each.
fn brief(problems: &StackProblems) -> String {
    let mut text = String::new();
    for problem in &problems.problems {
        let (line, column) = problems.position(problem);
        let _ = writeln!(text, "{line}:{column} {} {}", problem.code, problem.what);
        let _ = writeln!(text, "  = {}", problem.help.as_deref().unwrap_or("-"));
    }
    text
}

fn rendered(problems: &StackProblems) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(110)
        .render_report(&mut text, problems)
        .unwrap();
    text
}

#[test]
fn the_example_stacks_are_valid_and_fit_the_schema() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (name, text) in [("local", LOCAL), ("dev", DEV), ("prod", PROD), ("small", SMALL)] {
        let stack = parse(text, name).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
        assert!(name == "small" || stack.name.as_str() == name);
        let json = tree::read(text).unwrap().to_json();
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn the_schema_refuses_what_the_parser_refuses_for_its_structure() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (old, new) in [
        ("max = 5", "max = \"5\""),
        ("max = 5", "maxi = 5"),
        ("max = 5", ""),
        ("max = 5", "max = 5\nmode = \"watch\""),
        ("max = 5", "max = 5\njobs_per_runner = 0"),
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = \"abc\""),
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = {}"),
        ("image = \"debian-12\"", "image = 1.5"),
    ] {
        let text = SMALL.replacen(old, new, 1);
        assert!(parse(&text, "x").is_err(), "{new}");
        assert!(
            !validator.is_valid(&tree::read(&text).unwrap().to_json()),
            "{new}"
        );
    }
}

#[test]
fn the_schema_is_closed_and_never_offers_null() {
    let text = schema().to_string();
    assert!(!text.contains("\"null\""), "{text}");
    assert_eq!(schema()["additionalProperties"], false);
    assert_eq!(schema()["$defs"]["Pool"]["additionalProperties"], false);
}

#[test]
fn what_is_left_out_has_its_default() {
    let stack = parse(SMALL, "x").unwrap();
    assert_eq!(stack.interval, SignedDuration::from_mins(3));
    assert_eq!(stack.state, StateBackend::File);
    let provider = &stack.providers["hetzner"];
    assert_eq!((provider.kind, provider.concurrency), (ProviderKind::Hetzner, 10));
    assert_eq!(provider.endpoint, Endpoint::Default);
    let ci = &stack.ci["gitlab"];
    assert_eq!(
        (ci.kind, ci.settle),
        (CiKind::Gitlab, SignedDuration::from_secs(5))
    );
    let pool = &stack.pools[0];
    assert_eq!(
        (pool.mode, pool.min, pool.max, pool.jobs_per_runner),
        (Mode::Act, 0, 5, 1)
    );
    assert_eq!((pool.burst, pool.run_untagged), (None, false));
    assert_eq!(pool.policy, Policy::Queue { idle: 0 });
    assert_eq!(pool.ready_timeout, SignedDuration::from_mins(15));
    assert_eq!(pool.idle_timeout, SignedDuration::from_mins(5));
    assert_eq!(pool.cloud_init, "cloud-init/gitlab-runner.yaml.tera");
    let offering = &pool.offerings[0];
    assert!(offering.public_ipv4);
    assert_eq!(offering.market, Market::OnDemand);
    assert_eq!(offering.image, ImageRef::Name("debian-12".to_owned()));
    assert_eq!(stack.source_hash.len(), 64);
    assert_eq!(stack.sandbox, None);
}

#[test]
fn the_local_stack_holds_the_sandbox_and_its_world() {
    let stack = parse(LOCAL, "stacks/local.toml").unwrap();
    assert_eq!(stack.providers["hetzner"].endpoint, Endpoint::Sandbox);
    assert_eq!(stack.providers["hetzner"].token, None);
    assert_eq!(stack.ci["gitlab"].url, Endpoint::Sandbox);
    let sandbox = stack.sandbox.unwrap();
    assert_eq!(sandbox.settings["speed"], "60");
    assert_eq!(
        sandbox.scenario,
        serde_json::json!({"jobs": [{"project": "acme/app", "name": "build", "tags": ["linux", "docker"], "count": 5, "duration": "22m"}]})
    );
}

#[test]
fn pools_keep_the_order_in_which_they_are_declared() {
    let stack = parse(PROD, "x").unwrap();
    let names: Vec<&str> = stack.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["linux", "arm", "big"]);
}

#[test]
fn values_are_read_as_they_are_written() {
    let text = SMALL
        .replacen("image = \"debian-12\"", "image = { selector = \"role=runner\", newest = true }", 1)
        .replacen("max = 5", "max = 5\npolicy = { kind = \"queue\", idle = 2 }\nready_timeout = \"1h 30m\"\nvars = { mirror = \"m\", n = [1, 2.5] }", 1)
        .replacen("token = { env = \"HCLOUD_TOKEN\" }", "token = { command = [\"pass\", \"show\", \"h\"] }\nendpoint = \"http://127.0.0.1:1/v1/\"", 1)
        .replacen("token = { env = \"GITLAB_API_TOKEN\" }", "token = { credential = \"gitlab\" }\nurl = \"https://gitlab.example.com/sub/\"", 1);
    let stack = parse(&text, "x").unwrap();
    let pool = &stack.pools[0];
    assert_eq!(pool.policy, Policy::Queue { idle: 2 });
    assert_eq!(pool.ready_timeout, SignedDuration::from_mins(90));
    assert_eq!(pool.vars["n"], serde_json::json!([1, 2.5]));
    assert_eq!(
        pool.offerings[0].image,
        ImageRef::NewestOf("role=runner".to_owned())
    );
    let hetzner = &stack.providers["hetzner"];
    assert_eq!(
        hetzner.endpoint,
        Endpoint::Url("http://127.0.0.1:1/v1".to_owned())
    );
    assert!(matches!(&hetzner.token, Some(SecretRef::Command(words)) if words.len() == 3));
    assert_eq!(
        stack.ci["gitlab"].token,
        Some(SecretRef::Credential("gitlab".to_owned()))
    );
    assert_eq!(
        stack.ci["gitlab"].url,
        Endpoint::Url("https://gitlab.example.com/sub".to_owned())
    );
}

#[test]
fn problems_of_structure_and_of_meaning_are_reported_together() {
    let text = SMALL
        .replacen("name = \"prod\"", "name = \"Prod\"\nintervall = \"3m\"", 1)
        .replacen("ci = \"gitlab\"", "ci = \"gitlb\"", 1)
        .replacen("max = 5", "max = \"5\"", 1)
        .replacen("image = \"debian-12\"", "", 1)
        .replacen("2.50 EUR", "2,50 EUR", 1)
        .replacen("type = \"cx33\"", "type = \"cx33\"\nmarket = \"spot\"", 1);
    let problems = parse(&text, "stacks/prod.toml").unwrap_err();
    insta::assert_snapshot!(brief(&problems), @r#"
    2:8 stack::bad_name "Prod" is no name for a stack
      = lower-case letters, digits and `-`, beginning with a letter, not ending with `-`: `prod`
    3:1 stack::unknown_key unknown key `intervall`, did you mean `interval`?
      = known in `stack`: `name`, `state`, `interval`, `keep_states`, `plan_key`, `metrics_file`
    20:10 stack::bad_value `budget.hourly` cannot be "2,50 EUR": not an amount of money
      = write it with a point and the currency's three letters: "2.50 EUR"
    23:6 stack::dangling `pools.linux.ci` names the CI system "gitlb", which is not declared
      = declared under `[ci]`: `gitlab`
    25:7 stack::wrong_type `pools.linux.max` must be a whole number, not a string
      = for example: 20
    29:1 stack::missing_key missing key `image` in `pools.linux.offerings`
      = add image = "debian-12"
    32:10 stack::contradiction Hetzner has no spot market
      = take `market` out, or write market = "on-demand"
    "#);
}

#[test]
fn a_problem_is_shown_with_file_line_caret_and_hint() {
    let problems = broken(
        "max = 5",
        "max = 5\npolicy = { kind = \"queue\", idel = 1 }\nmin = 6",
    );
    insta::assert_snapshot!(rendered(&problems), @r###"
  × stacks/prod.toml has 2 problems

Error: stack::unknown_key

  × unknown key `idel`, did you mean `idle`?
    ╭─[stacks/prod.toml:25:28]
 24 │ max = 5
 25 │ policy = { kind = "queue", idel = 1 }
    ·                            ──┬─
    ·                              ╰── did you mean `idle`?
 26 │ min = 6
    ╰────
  help: known in `pools.linux.policy`: `kind`, `idle`, `min_age`, `cooldown`, `hysteresis`

Error: stack::contradiction

  × the pool `linux` has min = 6 above max = 5
    ╭─[stacks/prod.toml:26:7]
 23 │ tags = ["docker"]
 24 │ max = 5
    ·       ┬
    ·       ╰── less than min
 25 │ policy = { kind = "queue", idel = 1 }
 26 │ min = 6
    ·       ┬
    ·       ╰── more than max
 27 │ ssh_keys = ["ops"]
    ╰────
  help: lower `min` or raise `max`
"###);
}

#[test]
fn every_kind_of_problem_has_its_message() {
    let cases: &[(&str, &str)] = &[
        // unknown keys
        ("max = 5", "max = 5\nidel_timeout = \"3m\""),
        ("[budget]", "[bugdet]"),
        ("max = 5", "max = 5\nfrobnicate = 1"),
        (
            "token = { env = \"HCLOUD_TOKEN\" }",
            "token = { enf = \"HCLOUD_TOKEN\" }",
        ),
        // missing keys
        ("[stack]\nname = \"prod\"", ""),
        ("max = 5", ""),
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = {}"),
        ("token = { env = \"HCLOUD_TOKEN\" }", ""),
        ("[providers.hetzner]\n", "[providers.cloud]\n"),
        // wrong types
        ("max = 5", "max = true"),
        ("tags = [\"docker\"]", "tags = [\"docker\", 5]"),
        ("name = \"prod\"", "name = \"prod\"\ninterval = 180"),
        ("hourly = \"2.50 EUR\"", "hourly = 2.5"),
        ("image = \"debian-12\"", "image = [1]"),
        // bad values
        ("max = 5", "max = 5\nmode = \"advice\""),
        ("max = 5", "max = -1"),
        ("max = 5", "max = 5000000000"),
        ("max = 5", "max = 99999999999999999999"),
        ("max = 5", "max = 5\njobs_per_runner = 0"),
        ("max = 5", "max = 5\nburst = 0"),
        ("max = 5", "max = 5\nvars = { x = nan }"),
        ("[budget]", "[sandbox]\nsettings = { speed = inf }\n[budget]"),
        ("max = 5", "max = 5\npolicy = \"que\""),
        ("max = 5", "max = 5\nready_timeout = \"0s\""),
        ("max = 5", "max = 5\ncloud_init = \"../x.tera\""),
        ("name = \"prod\"", "name = \"prod\"\ninterval = \"3 parsecs\""),
        ("name = \"prod\"", "name = \"prod\"\ninterval = \"180\""),
        ("name = \"prod\"", "name = \"prod\"\ninterval = \"-3m\""),
        ("name = \"prod\"", "name = \"prod\"\nstate = \"disk\""),
        (
            "name = \"prod\"",
            "name = \"prod\"\nmetrics_file = \"runfleet.txt\"",
        ),
        ("2.50 EUR", "2.50"),
        ("2.50 EUR", "-1 EUR"),
        ("tags = [\"docker\"]", "tags = [\"docker,linux\"]"),
        ("type = \"cx33\"", "type = \"CX33\""),
        ("image = \"debian-12\"", "image = \"\""),
        ("port = \"22\"", "port = \"80-22\""),
        ("\"0.0.0.0/0\"", "\"10.1.2.3/8\""),
        ("\"0.0.0.0/0\"", "\"everywhere\""),
        ("ssh-ed25519 AAAA", "AAAA"),
        (
            "[ci.gitlab]",
            "[ci.gitlab]\nprojects = [\"https://gitlab.com/acme/app\"]",
        ),
        ("[ci.gitlab]", "[ci.gitlab]\nurl = \"http://gitlab.example.com\""),
        (
            "[ci.gitlab]",
            "[ci.gitlab]\nurl = \"https://gitlab.example.com/api/v4\"",
        ),
        ("[ci.gitlab]", "[ci.gitlab]\nurl = \"gitlab.example.com\""),
        ("{ env = \"GITLAB_API_TOKEN\" }", "{ command = [] }"),
        (
            "{ env = \"GITLAB_API_TOKEN\" }",
            "{ env = \"$GITLAB_API_TOKEN\" }",
        ),
        // names
        ("name = \"prod\"", "name = \"Prod Eu\""),
        (
            "name = \"prod\"",
            "name = \"a-stack-whose-name-is-rather-long-for-it\"",
        ),
        // secrets
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = \"verysecret\""),
        // references
        ("ci = \"gitlab\"", "ci = \"github\""),
        ("provider = \"hetzner\"\ntype", "provider = \"hetzer\"\ntype"),
        ("ssh_keys = [\"ops\"]", "ssh_keys = [\"ops\", \"dev\"]"),
        ("firewalls = [\"default\"]", "firewalls = [\"defualt\"]"),
        ("[ci.gitlab]", "[ci.gitlab]\nurl = \"sandbox\""),
        // duplicates
        ("max = 5", "max = 5\nmax = 6"),
        ("tags = [\"docker\"]", "tags = [\"docker\", \"docker\"]"),
        (
            "image = \"debian-12\"\n",
            "image = \"debian-12\"\n[[pools.linux.offerings]]\nprovider = \"hetzner\"\ntype = \"cx33\"\nimage = 5\n",
        ),
        // contradictions
        ("max = 5", "max = 5\nmin = 6"),
        ("tags = [\"docker\"]", ""),
        ("type = \"cx33\"", "type = \"cx33\"\nmarket = \"spot\""),
        ("protocol = \"tcp\"", "protocol = \"icmp\""),
        ("port = \"22\", ", ""),
        (
            "image = \"debian-12\"",
            "image = { selector = \"a\", newest = false }",
        ),
        ("[ci.gitlab]", "[sandbox]\n[ci.gitlab]\nurl = \"sandbox\""),
        // syntax
        ("name = \"prod\"", "name = prod"),
        ("[budget]", "[budget"),
    ];
    let mut text = String::new();
    let mut codes = std::collections::BTreeSet::new();
    for (old, new) in cases {
        let problems = broken(old, new);
        codes.extend(problems.problems.iter().map(|problem| problem.code));
        let _ = writeln!(text, "{}\n{}", new.replace('\n', " ⏎ "), brief(&problems));
    }
    insta::assert_snapshot!(text, @r#"
    max = 5 ⏎ idel_timeout = "3m"
    25:1 stack::unknown_key unknown key `idel_timeout`, did you mean `idle_timeout`?
      = known in `pools.linux`: `ci`, `mode`, `tags`, `run_untagged`, `jobs_per_runner`, `min`, `max`, `burst`, `policy`, `ready_timeout`, `idle_timeout`, `cloud_init`, `vars`, `ssh_keys`, `firewalls`, `networks`, `spread`, `max_age`, `max_jobs`, `protect`, `ignore_changes`, `roll`, `protected_refs`, `runner_token`, `steps`, `health`, `hooks`, `order`, `offerings`, `group`, `task`, `discover`, `agent_pool`, `capabilities`

    [bugdet]
    18:2 stack::unknown_key unknown key `bugdet`, did you mean `budget`?
      = known at the top: `stack`, `providers`, `ci`, `budget`, `currency`, `ssh`, `ssh_keys`, `firewalls`, `networks`, `guard`, `moved`, `watch`, `pools`, `sandbox`

    max = 5 ⏎ frobnicate = 1
    25:1 stack::unknown_key unknown key `frobnicate`
      = known in `pools.linux`: `ci`, `mode`, `tags`, `run_untagged`, `jobs_per_runner`, `min`, `max`, `burst`, `policy`, `ready_timeout`, `idle_timeout`, `cloud_init`, `vars`, `ssh_keys`, `firewalls`, `networks`, `spread`, `max_age`, `max_jobs`, `protect`, `ignore_changes`, `roll`, `protected_refs`, `runner_token`, `steps`, `health`, `hooks`, `order`, `offerings`, `group`, `task`, `discover`, `agent_pool`, `capabilities`

    token = { enf = "HCLOUD_TOKEN" }
    5:11 stack::unknown_key unknown key `enf`, did you mean `env`?
      = known in `providers.hetzner.token`: `env`, `file`, `command`, `credential`


    1:1 stack::missing_key missing table `[stack]`
      = begin the file with it: [stack], and below it name = "prod"


    21:1 stack::missing_key missing key `max` in `pools.linux`
      = add `max`, as in `max = 20`: Never more machines

    token = {}
    5:9 stack::missing_key `providers.hetzner.token` needs one of `env`, `file`, `command` or `credential`
      = add one of `env`, `file`, `command` or `credential`


    4:1 stack::missing_key missing key `token` in `providers.hetzner`
      = add token = { env = "HCLOUD_TOKEN" }

    [providers.cloud] ⏎ 
    4:1 stack::missing_key missing key `kind` in `providers.cloud`
      = only where the name is a kind may it be left out: add kind = "hetzner"
    8:12 stack::dangling `ssh_keys.ops.provider` names the provider "hetzner", which is not declared
      = declared under `[providers]`: `cloud`; or add a table `[providers.hetzner]`
    12:12 stack::dangling `firewalls.default.provider` names the provider "hetzner", which is not declared
      = declared under `[providers]`: `cloud`; or add a table `[providers.hetzner]`
    29:12 stack::dangling `pools.linux.offerings.provider` names the provider "hetzner", which is not declared
      = declared under `[providers]`: `cloud`; or add a table `[providers.hetzner]`

    max = true
    24:7 stack::wrong_type `pools.linux.max` must be a whole number, not true or false
      = for example: 20

    tags = ["docker", 5]
    23:19 stack::wrong_type an entry of `pools.linux.tags` must be a string, not a whole number
      = -

    name = "prod" ⏎ interval = 180
    3:12 stack::wrong_type `stack.interval` must be a length of time in quotes, not a whole number
      = write a length of time as "90s", "3m" or "1h 30m"

    hourly = 2.5
    19:10 stack::wrong_type `budget.hourly` must be an amount of money in quotes, not a number with a fraction
      = write an amount with its currency, as "2.50 EUR"

    image = [1]
    31:9 stack::wrong_type `pools.linux.offerings.image` must be a string or a whole number or a table, not a list
      = write image = "debian-12", image = 12345 or image = { selector = "role=runner", newest = true }; at ec2 "ami-0a1b2c3d", { owner = "136693071363", name = "debian-12-amd64-*" } or { ssm = "/path" }

    max = 5 ⏎ mode = "advice"
    25:8 stack::bad_value `pools.linux.mode` cannot be "advice": did you mean "advise"?
      = `pools.linux.mode` is "act" or "advise"

    max = -1
    24:7 stack::bad_value `pools.linux.max` cannot be -1
      = the least is 0

    max = 5000000000
    24:7 stack::bad_value `pools.linux.max` cannot be 5000000000
      = the most is 4294967295

    max = 99999999999999999999
    24:7 stack::bad_value `pools.linux.max` is beyond every number
      = whole numbers have 64 bits

    max = 5 ⏎ jobs_per_runner = 0
    25:19 stack::bad_value `pools.linux.jobs_per_runner` cannot be 0
      = the least is 1

    max = 5 ⏎ burst = 0
    25:9 stack::bad_value `pools.linux.burst` cannot be 0
      = the least is 1

    max = 5 ⏎ vars = { x = nan }
    25:14 stack::bad_value `inf` and `nan` cannot be passed on
      = write a number, or the word in quotes

    [sandbox] ⏎ settings = { speed = inf } ⏎ [budget]
    19:22 stack::bad_value `inf` and `nan` cannot be passed on
      = write a number, or the word in quotes

    max = 5 ⏎ policy = "que"
    25:10 stack::bad_value `pools.linux.policy` cannot be "que": did you mean "queue"?
      = `pools.linux.policy` is "queue", "drone-autoscaler", "asg-increment", "ado-delta" or "step"

    max = 5 ⏎ ready_timeout = "0s"
    25:17 stack::bad_value `pools.linux.ready_timeout` cannot be zero
      = write "90s", "3m" or "1h 30m"

    max = 5 ⏎ cloud_init = "../x.tera"
    25:14 stack::bad_value `pools.linux.cloud_init` must be a file of the project
      = write it relative to the project's folder, without `..`

    name = "prod" ⏎ interval = "3 parsecs"
    3:12 stack::bad_value `stack.interval` cannot be "3 parsecs": not a length of time
      = write "90s", "3m" or "1h 30m"

    name = "prod" ⏎ interval = "180"
    3:12 stack::bad_value `stack.interval` cannot be "180": not a length of time
      = say of what: "180s" or "180m"

    name = "prod" ⏎ interval = "-3m"
    3:12 stack::bad_value `stack.interval` cannot be negative
      = write "90s", "3m" or "1h 30m"

    name = "prod" ⏎ state = "disk"
    3:9 stack::bad_value "disk" is no place for a state
      = write "file", "s3://bucket/prefix" or "https://host/path"

    name = "prod" ⏎ metrics_file = "runfleet.txt"
    3:16 stack::bad_value `stack.metrics_file` must end in `.prom`
      = node_exporter's textfile collector reads no other files

    2.50
    19:10 stack::bad_value `budget.hourly` cannot be "2.50": not an amount of money
      = write it with a point and the currency's three letters: "2.50 EUR"

    -1 EUR
    19:10 stack::bad_value `budget.hourly` cannot be negative
      = write it with a point and the currency's three letters: "2.50 EUR"

    tags = ["docker,linux"]
    23:9 stack::bad_value "docker,linux" is not a tag
      = one word for each tag, without commas and spaces around it: ["docker", "linux"]

    type = "CX33"
    30:8 stack::bad_value "CX33" is no machine type
      = write it as the cloud does: "cx33"

    image = ""
    31:9 stack::bad_value `pools.linux.offerings.image` names no image
      = write "debian-12", an image's id, or { selector = "role=runner", newest = true }

    port = "80-22"
    13:55 stack::bad_value "80-22" is not a port
      = 1 to 65535, or a range: "22", "8000-8999"

    "10.1.2.3/8"
    13:73 stack::bad_value "10.1.2.3/8" is not a network
      = it has bits beyond its length: write "10.0.0.0/8", or "10.1.2.3/32" for the one address

    "everywhere"
    13:73 stack::bad_value "everywhere" is not a network
      = write it as address and length: "10.0.0.0/8", "192.0.2.7/32", "::/0"

    AAAA
    9:14 stack::bad_value `ssh_keys.ops.public_key` is not a public key
      = one line as in ~/.ssh/id_ed25519.pub: "ssh-ed25519 AAAA… name"

    [ci.gitlab] ⏎ projects = ["https://gitlab.com/acme/app"]
    16:13 stack::bad_value an entry of `ci.gitlab.projects` is not a project
      = write its full path without the server's address: "acme/app"

    [ci.gitlab] ⏎ url = "http://gitlab.example.com"
    16:7 stack::bad_value `ci.gitlab.url` would send the token over plain http
      = write "https://gitlab.example.com"; plain http goes only to this machine

    [ci.gitlab] ⏎ url = "https://gitlab.example.com/api/v4"
    16:7 stack::bad_value `ci.gitlab.url` is the server's root, without `/api/v4`
      = write url = "https://gitlab.example.com"

    [ci.gitlab] ⏎ url = "gitlab.example.com"
    16:7 stack::bad_value `ci.gitlab.url` is not an address
      = write "https://host" or "sandbox"

    { command = [] }
    16:9 stack::bad_value `ci.gitlab.token` does not say where the secret is
      = name the program and its arguments, each by itself: { command = ["pass", "show", "hetzner"] }

    { env = "$GITLAB_API_TOKEN" }
    16:9 stack::bad_value `ci.gitlab.token` does not say where the secret is
      = name the variable, without `$`: { env = "HCLOUD_TOKEN" }

    name = "Prod Eu"
    2:8 stack::bad_name "Prod Eu" is no name for a stack
      = lower-case letters, digits and `-`, beginning with a letter, not ending with `-`: `prod-eu`

    name = "a-stack-whose-name-is-rather-long-for-it"
    21:8 stack::bad_name the names of the stack and of the pool `linux` are too long together
      = they make names in the cloud of at most 63 characters: together they may have 35, and have 45

    token = "verysecret"
    5:9 stack::literal_secret `providers.hetzner.token` must not stand in the stack file
      = say where it is found: { env = "HCLOUD_TOKEN" }, { file = "path" }, { command = ["pass", "show", "…"] } or { credential = "name" }; if this was the real one, replace it, for it has been written to a file

    ci = "github"
    22:6 stack::dangling `pools.linux.ci` names the CI system "github", which is not declared
      = declared under `[ci]`: `gitlab`

    provider = "hetzer" ⏎ type
    29:12 stack::dangling `pools.linux.offerings.provider` names the provider "hetzer", which is not declared
      = declared under `[providers]`: `hetzner`

    ssh_keys = ["ops", "dev"]
    25:20 stack::dangling `pools.linux.ssh_keys` names the login key "dev", which is not declared
      = declared under `[ssh_keys]`: `ops`; or add a table `[ssh_keys.dev]`

    firewalls = ["defualt"]
    26:14 stack::dangling `pools.linux.firewalls` names the firewall "defualt", which is not declared
      = declared under `[firewalls]`: `default`

    [ci.gitlab] ⏎ url = "sandbox"
    16:7 stack::dangling `ci.gitlab.url` is the sandbox, and there is none
      = add a table `[sandbox]`; it may be empty
    30:12 stack::contradiction the pool `linux` has its machines and its jobs in different worlds
      = let both be "sandbox", or neither

    max = 5 ⏎ max = 6
    25:1 stack::duplicate duplicate key
      = a key stands once in its table: take one of the two out

    tags = ["docker", "docker"]
    23:19 stack::duplicate "docker" stands twice in `pools.linux.tags`
      = take one out

    image = "debian-12" ⏎ [[pools.linux.offerings]] ⏎ provider = "hetzner" ⏎ type = "cx33" ⏎ image = 5 ⏎ 
    32:1 stack::duplicate the pool `linux` buys cx33 of hetzner twice in the same location
      = let each offering have locations of its own, or take one out

    max = 5 ⏎ min = 6
    25:7 stack::contradiction the pool `linux` has min = 6 above max = 5
      = lower `min` or raise `max`


    21:1 stack::contradiction no job would ever fit the pool `linux`
      = add tags = ["docker"], or run_untagged = true

    type = "cx33" ⏎ market = "spot"
    31:10 stack::contradiction Hetzner has no spot market
      = take `market` out, or write market = "on-demand"

    protocol = "icmp"
    13:56 stack::contradiction icmp has no ports
      = take `port` out


    13:10 stack::missing_key missing key `port` in a rule for tcp
      = add port = "22", or a range: port = "8000-8999"

    image = { selector = "a", newest = false }
    31:36 stack::contradiction `pools.linux.offerings.image` does not say which of several images
      = write newest = true, or name the image by its id

    [sandbox] ⏎ [ci.gitlab] ⏎ url = "sandbox"
    31:12 stack::contradiction the pool `linux` has its machines and its jobs in different worlds
      = let both be "sandbox", or neither

    name = prod
    2:8 stack::syntax string values must be quoted, expected literal string
      = the file is TOML: text in quotes, lists in [ ], tables by their [header]; nothing else was checked

    [budget
    18:8 stack::syntax unclosed table, expected `]`
      = the file is TOML: text in quotes, lists in [ ], tables by their [header]; nothing else was checked
    "#);
    let all: std::collections::BTreeSet<&str> = StackProblem::CODES.into();
    assert_eq!(codes, all, "a code without a case, or a case without a code");
}

#[test]
fn empty_offerings_are_an_error() {
    let (head, _) = SMALL.split_once("[[pools").unwrap();
    let problems = parse(&format!("{head}offerings = []\n"), "x").unwrap_err();
    insta::assert_snapshot!(brief(&problems), @r###"
28:13 stack::bad_value `pools.linux.offerings` must not be empty
  = name at least 1
"###);
}

#[test]
fn every_syntax_error_is_reported_not_only_the_first() {
    let problems = parse("[stack]\nname = prod\nx = \n[sandbox\n", "x").unwrap_err();
    assert!(problems.problems.len() >= 3, "{}", brief(&problems));
    assert!(
        problems
            .problems
            .iter()
            .all(|problem| problem.code == "stack::syntax")
    );
}

#[test]
fn a_secret_in_the_file_is_never_shown() {
    for (old, new) in [
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = \"verysecret\""),
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = \"verysecret"),
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = verysecret"),
        ("token = { env = \"HCLOUD_TOKEN\" }", "tokne = \"verysecret\""),
        ("token = { env = \"HCLOUD_TOKEN\" }", "tokn = 'verysecret"),
        ("token = { env = \"HCLOUD_TOKEN\" }", "token = [\"verysecret\"]"),
        (
            "token = { env = \"HCLOUD_TOKEN\" }",
            "api-token = \"\"\"\nverysecret\"\"\"",
        ),
        (
            "token = { env = \"HCLOUD_TOKEN\" }",
            "endpoint = \"https://user:verysecret@host/v1\"",
        ),
        (
            "token = { env = \"HCLOUD_TOKEN\" }",
            "endpoint = \"https://user:verysecret@host/v1",
        ),
        (
            "[providers.hetzner]\n",
            "[providers]\nhetzner = { token = \"verysecret\", }}\n",
        ),
        (
            "max = 5",
            "max = true\nvars = { registry_password = \"verysecret\" }",
        ),
    ] {
        let problems = broken(old, new);
        let shown = format!("{} {problems:?} {problems}", rendered(&problems));
        assert!(!shown.contains("verysecret"), "{new}\n{shown}");
    }
}

#[test]
fn the_reference_names_every_table_and_key() {
    let page = reference();
    for heading in [
        "[stack]",
        "[providers.NAME]",
        "[ci.NAME]",
        "[budget]",
        "[ssh_keys.NAME]",
        "[firewalls.NAME]",
        "[[firewalls.NAME.rules]]",
        "[pools.NAME]",
        "[[pools.NAME.offerings]]",
        "[sandbox]",
    ] {
        assert!(page.contains(&format!("\n## `{heading}`\n")), "{heading}\n{page}");
    }
    for key in [
        "interval",
        "ready_timeout",
        "public_ipv4",
        "scenario",
        "jobs_per_runner",
    ] {
        assert!(page.contains(&format!("| `{key}` |")), "{key}\n{page}");
    }
    assert!(page.contains("| `{ credential = \"name\" }` |"), "{page}");
}

/// Pieces that a stack file might contain, for mutations that stay near to one.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,8}",
        Just("[pools.linux]".to_owned()),
        Just("[[pools.x.offerings]]\n".to_owned()),
        Just(" = ".to_owned()),
        Just("\"".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("{ kind = \"queue\", idle = -1 }".to_owned()),
        Just("{ kind = \"drone-autoscaler\", min_age = \"1m\" }".to_owned()),
        Just("group = { provider = \"asg\", discover = { } }\n".to_owned()),
        Just("9999999999999999999".to_owned()),
        Just("nan".to_owned()),
        Just("0.5".to_owned()),
        Just("true".to_owned()),
        Just("-7".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("http://user:p@[::1]/".to_owned()),
        Just("é".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) = parse(&text, "fuzz") {
            prop_assert!(!problems.problems.is_empty());
            rendered(&problems);
        }
    }

    #[test]
    fn no_mutated_stack_file_makes_the_parser_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..20_usize, piece()), 1..6),
        which in 0..5_usize,
    ) {
        let mut text = [PROD, SMALL, LOCAL, aws::DRONE_ASG, aws::EC2][which].to_owned();
        for (at, length, piece) in edits {
            let mut from = at.index(text.len().max(1)).min(text.len());
            while !text.is_char_boundary(from) { from -= 1; }
            let mut to = (from + length).min(text.len());
            while !text.is_char_boundary(to) { to += 1; }
            text.replace_range(from..to, &piece);
        }
        if let Err(problems) = parse(&text, "fuzz") {
            prop_assert!(!problems.problems.is_empty());
            for problem in &problems.problems {
                prop_assert!(problem.span.end <= text.len() + 1, "{problem:?}");
                prop_assert!(StackProblem::CODES.contains(&problem.code));
                prop_assert!(problem.what != parse::UNREADABLE, "{text}");
            }
            rendered(&problems);
        }
    }
}

#[test]
fn moved_blocks_that_contradict_the_file_or_each_other_are_told() {
    let with = |blocks: &str| {
        let text = format!("{SMALL}\n{blocks}");
        brief(&parse(&text, "stacks/prod.toml").expect_err("this is wrong"))
    };
    let block = |from: &str, to: &str| format!("[[moved]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    let good = parse(
        &format!("{SMALL}\n{}", block("pools.old", "pools.linux")),
        "stacks/prod.toml",
    )
    .unwrap();
    assert_eq!(good.moved.len(), 1);
    insta::assert_snapshot!(with(&block("pools.linux", "firewalls.default")), @"
    35:6 stack::moved pools.linux cannot become firewalls.default: they are of different kinds
      = a pool becomes a pool, a firewall a firewall
    ");
    insta::assert_snapshot!(with(&block("pools.old", "pools.new")), @"
    35:6 stack::moved pools.old has moved to pools.new, which is not declared
      = add the table [pools.new]; or take this block out, and it is removed
    ");
    insta::assert_snapshot!(with(&block("firewalls.default", "firewalls.default")), @"
    34:8 stack::moved moved blocks go round in a circle: firewalls.default -> firewalls.default
      = take one of its blocks out
    ");
    insta::assert_snapshot!(with(&(block("pools.old", "pools.linux") + &block("pools.old", "pools.linux"))), @"
    37:8 stack::moved pools.old became pools.linux already, by a block above
      = each name is left once: take one of the two blocks out
    ");
    insta::assert_snapshot!(with(&(block("pools.a", "pools.b") + &block("pools.b", "pools.linux"))), @r#"
    35:6 stack::moved moved blocks make a chain: pools.a -> pools.b -> pools.linux
      = a block leads to where a thing is now: write to = "pools.linux" in each of them
    "#);
    insta::assert_snapshot!(with(&(block("pools.a", "pools.b") + &block("pools.b", "pools.a"))), @"
    34:8 stack::moved moved blocks go round in a circle: pools.a -> pools.b -> pools.a
      = take one of its blocks out
    ");
    insta::assert_snapshot!(with(&block("machines.a", "pools.linux")), @r#"
    34:8 stack::bad_value "machines.a" is no table of a stack file that can be moved
      = write "pools.linux", "firewalls.default", "networks.lan" or "ssh_keys.ops"
    "#);
}
