//! Sources that ask machines, and the pools that go by what those tell.

use super::{super::*, brief};
use crate::model::metrics::{AddressKind, HttpCheck};

/// A small valid stack that the tests break.
const METRICS: &str = r#"[stack]
name = "prod"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ci.metrics]
kind = "prometheus"
scrape = { port = 9110, path = "/", address = "private", jobs = "jobs_running" }

[ci.gitlab]
token = { env = "GITLAB_API_TOKEN" }

[pools.web]
ci = "metrics"
max = 5
policy = "step"
health = { tcp = [80], http = { path = "/healthz?deep=1" } }

[[pools.web.steps]]
name = "busy"
add = 1
conditions = [{ samples = ["node_load1"], operator = ">=", threshold = 2.0 }]

[[pools.web.offerings]]
provider = "hetzner"
type = "cx33"
image = "debian-12"
"#;

/// What is said when this stands in place of that.
fn problems(cases: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (old, new) in cases {
        assert!(METRICS.contains(old), "{old}");
        let broken = METRICS.replacen(old, new, 1);
        text += &brief(&parse(&broken, "stacks/prod.toml").expect_err(new));
    }
    text
}

#[test]
fn a_pool_without_a_ci_is_told_what_to_measure() {
    let stack = parse(METRICS, "x").unwrap_or_else(|problems| panic!("{}", brief(&problems)));
    let scrape = stack.ci["metrics"].scrape.clone().unwrap();
    assert_eq!(
        (scrape.port, scrape.path.as_str(), scrape.address),
        (9110, "/", AddressKind::Private)
    );
    assert_eq!(stack.pools[0].cloud_init, "cloud-init/machine.yaml.tera");
    let metering = *stack.pools[0].selector().metering.unwrap();
    let samples: Vec<_> = metering.samples.iter().map(ToString::to_string).collect();
    assert_eq!(samples, ["node_load1"]);
    let health = metering.health.unwrap();
    assert_eq!(health.tcp, [80]);
    let http = HttpCheck {
        port: 80,
        path: "/healthz?deep=1".to_owned(),
        status: None,
    };
    assert_eq!(health.http, Some(http));
}

#[test]
fn a_server_without_a_token_may_be_asked_over_http() {
    let text = METRICS.replacen("scrape = {", "url = \"http://10.0.0.1:9090/\"\nscrape = {", 1);
    let stack = parse(&text, "x").unwrap();
    assert_eq!(
        stack.ci["metrics"].url,
        Endpoint::Url("http://10.0.0.1:9090".to_owned())
    );
}

#[test]
fn every_problem_of_a_source_says_what_to_type() {
    let scrape = r#"scrape = { port = 9110, path = "/", address = "private", jobs = "jobs_running" }"#;
    let said = problems(&[
        (scrape, ""),
        (scrape, "token = { env = \"T\" }"),
        (
            scrape,
            "url = \"http://10.0.0.1:9090\"\nscrape = {}\ntoken = { env = \"T\" }",
        ),
        (scrape, "url = \"http://me:pw@10.0.0.1:9090\"\nscrape = {}"),
        (
            scrape,
            "url = \"https://prometheus.example.com/api/v1\"\nscrape = {}",
        ),
        (scrape, "url = \"https://prometheus.example.com\""),
        ("port = 9110", "port = 0"),
        ("path = \"/\", address", "path = \"metrics\", address"),
        ("path = \"/\", address", "path = \"http://x/metrics\", address"),
        ("address = \"private\"", "proxy = \"http://me:pw@proxy:3128\""),
        ("address = \"private\"", "timeout = \"0s\""),
        ("jobs_running", "jobs{a=1}"),
        ("samples = [\"node_load1\"]", "query = \"avg(node_load1)\""),
        (
            "kind = \"prometheus\"",
            "kind = \"circleci\"\ntoken = { env = \"T\" }",
        ),
    ]);
    insta::assert_snapshot!(said, @r#"
    7:1 stack::missing_key `ci.metrics` asks nobody
      = add scrape = { port = 9100 }, to ask each machine's exporter; or the root of a Prometheus server: url = "https://prometheus.example.com"
    23:27 stack::missing_key `pools.web.steps.conditions.samples` asks what `ci.metrics` does not
      = say how each machine is asked: scrape = { port = 9100 }
    7:1 stack::missing_key `ci.metrics` asks nobody
      = add scrape = { port = 9100 }, to ask each machine's exporter; or the root of a Prometheus server: url = "https://prometheus.example.com"
    9:1 stack::contradiction `ci.metrics.token` says nothing to a source without `url`
      = take `token` out
    23:27 stack::missing_key `pools.web.steps.conditions.samples` asks what `ci.metrics` does not
      = say how each machine is asked: scrape = { port = 9100 }
    9:7 stack::bad_value `ci.metrics.url` would send the token over plain http
      = write "https://10.0.0.1:9090"; plain http goes only to this machine
    9:7 stack::bad_value `ci.metrics.url` must not hold a password
      = only `token` says how to be let in: take out the part before `@`
    9:7 stack::bad_value `ci.metrics.url` is the server's root, without `/api/v1`
      = write url = "https://prometheus.example.com"
    23:27 stack::missing_key `pools.web.steps.conditions.samples` asks what `ci.metrics` does not
      = say how each machine is asked: scrape = { port = 9100 }
    9:19 stack::bad_value `ci.metrics.scrape.port` cannot be 0
      = the least is 1
    9:32 stack::bad_value `ci.metrics.scrape.path` is not a path
      = write "/metrics"
    9:32 stack::bad_value `ci.metrics.scrape.path` is not a path
      = write what follows the port, with a slash at its beginning: "/metrics"
    9:45 stack::bad_value `ci.metrics.scrape.proxy` is not an HTTP proxy's address
      = write its host and port, without a password: "http://127.0.0.1:3128"
    9:47 stack::bad_value `ci.metrics.scrape.timeout` cannot be zero
      = write "90s", "3m" or "1h 30m"
    9:65 stack::bad_value `ci.metrics.scrape.jobs` is not a sample's name
      = write it as the exporter does, without labels: "jobs_running"
    23:25 stack::missing_key `pools.web.steps.conditions.query` asks what `ci.metrics` does not
      = add the root of a Prometheus server: url = "https://prometheus.example.com"
    10:1 stack::contradiction `ci.metrics.scrape` says nothing to circleci
      = take `scrape` out
    15:1 stack::missing_key missing key `runner_token` in `pools.web`
      = its machines join with the resource class's token: add runner_token = { env = "CIRCLECI_RESOURCE_CLASS_TOKEN" }
    15:1 stack::bad_value the pool `web` names no resource class of CircleCI
      = write the one that its runners serve: tags = ["acme/linux"]
    18:10 stack::contradiction the pool `web` goes by what its machines tell, and serves circleci
      = let its `ci` be one of kind "prometheus"; or take `policy` out, and its size follows the jobs
    19:1 stack::contradiction `pools.web.health` says nothing to circleci
      = take `health` out
    "#);
}

#[test]
fn every_problem_of_a_pool_says_what_to_type() {
    let health = "health = { tcp = [80], http = { path = \"/healthz?deep=1\" } }";
    let said = problems(&[
        (health, "health = {}"),
        (health, "health = { tcp = [0, 22, 22] }"),
        (health, "health = { http = { path = \"healthz\" } }"),
        (health, "tags = [\"a\"]\njobs_per_runner = 2\nrun_untagged = true"),
        ("ci = \"metrics\"", "ci = \"gitlab\"\ntags = [\"docker\"]"),
    ]);
    insta::assert_snapshot!(said, @r#"
    18:10 stack::bad_value `pools.web.health` checks nothing
      = name ports, or a resource: health = { tcp = [80] }, health = { http = { port = 80, path = "/healthz" } }
    18:19 stack::bad_value `pools.web.health.tcp` cannot be 0
      = 1 to 65535
    18:26 stack::bad_value port 22 stands twice in `pools.web.health.tcp`
      = take one out
    18:28 stack::bad_value `pools.web.health.http.path` is not a path
      = write "/healthz"
    18:1 stack::contradiction `pools.web.tags` says nothing to prometheus
      = take `tags` out
    19:1 stack::contradiction `pools.web.jobs_per_runner` says nothing to prometheus
      = take `jobs_per_runner` out
    20:1 stack::contradiction `pools.web.run_untagged` says nothing to prometheus
      = take `run_untagged` out
    18:10 stack::contradiction the pool `web` goes by what its machines tell, and serves gitlab
      = let its `ci` be one of kind "prometheus"; or take `policy` out, and its size follows the jobs
    19:1 stack::contradiction `pools.web.health` says nothing to gitlab
      = take `health` out
    "#);
}
