//! `runfleet watch`: signals, files that change, who leads, what it tells.

use std::{
    io::Write as _,
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::watching::Watch;
use crate::support::{Project, Sandbox, eventually, everything_in, stack_text};

const PATIENCE: Duration = Duration::from_secs(60);

/// A project that is ticked every second.
fn project(sandbox: &Sandbox) -> Project {
    let text = stack_text(sandbox.hetzner(), sandbox.gitlab(), "");
    let text = text.replace("interval = \"3m\"\n", "interval = \"1s\"\n");
    // Hetzner's 3,600 would stretch the second.
    let text = text.replace("endpoint = ", "requests_per_hour = 1000000\nendpoint = ");
    Project::with_stack(&text, sandbox.token())
}

fn get(url: &str, token: Option<&str>) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = http.get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    })
}

/// Where it listens, from its own line.
fn address(watch: &mut Watch) -> String {
    let line = watch.says("listens on http://");
    let (_, rest) = line.split_once("listens on ").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_stack_file_that_changes_is_read_anew_and_one_that_is_wrong_is_told_once() {
    let sandbox = Sandbox::start(&["boot=1s"]);
    let project = project(&sandbox);
    sandbox.jobs(4, "1h");
    let mut watch = Watch::start(&project, &["--listen", "127.0.0.1:0"]);
    let at = address(&mut watch);
    watch.says("leads: ticks stack test every 1s");
    watch.says("tick 1: ");
    eventually("two machines for four jobs", PATIENCE, || {
        sandbox.servers().len() == 2
    });
    // A mistake: told, and the stack as it was goes on.
    project.edit("max = 20", "maxx = 20");
    watch.says("(a file changed), and it cannot be used: the one before goes on");
    eventually("it says what is wrong", PATIENCE, || {
        watch.heard().iter().any(|line| line.contains("maxx"))
    });
    sandbox.jobs(2, "1h");
    eventually("a third machine", PATIENCE, || sandbox.servers().len() == 3);
    let told = |watch: &mut Watch| {
        let said = watch.heard();
        said.iter().filter(|line| line.contains("cannot be used")).count()
    };
    assert_eq!(told(&mut watch), 1);
    watch.signal("-HUP");
    watch.says("(SIGHUP), and it cannot be used");
    // Mended, with less room.
    project.edit("maxx = 20", "max = 3");
    watch.says("(a file changed): it is in force");
    sandbox.jobs(20, "1h");
    eventually("max holds it back", PATIENCE, || {
        let metrics = get(&format!("{at}/metrics"), None).1;
        metrics.contains("runfleet_held{stack=\"test\",reason=\"max_reached\"")
    });
    assert_eq!(sandbox.servers().len(), 3);
    project.edit("max = 3", "max = 4");
    watch.signal("-HUP");
    watch.says("it is in force");
    eventually("a fourth machine", PATIENCE, || sandbox.servers().len() == 4);
    // A template of the project's own.
    std::fs::create_dir(project.path("cloud-init")).unwrap();
    std::fs::write(project.path("cloud-init/mine.yaml.tera"), "#cloud-config\n").unwrap();
    watch.says("(a file changed): it is in force");
    watch.signal("-TERM");
    // In a tick or between two, as it happens.
    let code = watch.ends();
    assert!(matches!(code, Some(0 | 3)), "{code:?}");
    assert!(watch.said.iter().any(|line| line.ends_with("stopping")));
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), project.machines_on_record());
}

#[test]
fn a_signal_in_a_tick_lets_what_is_in_flight_end_and_exits_3() {
    let sandbox = Sandbox::start(&["latency=50ms", "action_time=2s"]);
    let project = project(&sandbox);
    project.edit("endpoint = ", "concurrency = 2\nendpoint = ");
    sandbox.jobs(20, "30m");
    let mut watch = Watch::start(&project, &[]);
    eventually("a machine is being made", PATIENCE, || {
        !sandbox.servers().is_empty()
    });
    watch.signal("-TERM");
    watch.says("in flight; a second signal stops at once");
    assert_eq!(watch.ends(), Some(3), "{:?}", watch.said);
    assert!(sandbox.servers().len() < 10, "all were made: {:?}", watch.said);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 10);
    assert_eq!(sandbox.servers(), project.machines_on_record());
}

#[test]
fn what_it_tells_over_http_is_for_those_who_know_the_secret() {
    let sandbox = Sandbox::start(&["boot=1s"]);
    let project = project(&sandbox);
    let secret = "w4tch-s3cret";
    project.edit(
        "[providers.hetzner]",
        "[watch]\nlisten = \"127.0.0.1:0\"\nsecret = { env = \"WATCH_SECRET\" }\n\n[providers.hetzner]",
    );
    sandbox.jobs(2, "1h");
    let mut watch = Watch::spawn(project.command(&["watch"]).env("WATCH_SECRET", secret));
    let at = address(&mut watch);
    watch.says("tick 1: ");
    assert_eq!(get(&format!("{at}/healthz"), None), (200, "ok\n".to_owned()));
    assert_eq!(get(&format!("{at}/readyz"), None), (200, "ok\n".to_owned()));
    let leads = (200, "ok: leads\n".to_owned());
    assert_eq!(get(&format!("{at}/readyz"), Some(secret)), leads);
    assert_eq!(get(&format!("{at}/metrics"), None).0, 401);
    assert_eq!(get(&format!("{at}/metrics"), Some("another")).0, 401);
    let (status, metrics) = get(&format!("{at}/metrics"), Some(secret));
    assert_eq!(status, 200);
    for family in [
        "runfleet_pool_target_runners{stack=\"test\",pool=\"linux\"} 1.0",
        "runfleet_watch_is_leader{stack=\"test\"} 1.0",
        "runfleet_watch_ticks_total{stack=\"test\",outcome=\"done\"} ",
        "runfleet_watch_tick_duration_seconds_count{stack=\"test\"} ",
    ] {
        assert!(metrics.contains(family), "{family}\n{metrics}");
    }
    promtool(&metrics);
    let command_line = std::fs::read(format!("/proc/{}/cmdline", watch.id())).unwrap();
    let everything = format!(
        "{metrics}{}{}{}",
        watch.heard().join("\n"),
        everything_in(project.root()),
        String::from_utf8_lossy(&command_line)
    );
    assert!(!everything.contains(secret));
    watch.signal("-INT");
    assert_eq!(watch.ends(), Some(0));
}

/// Whether Prometheus's own checker finds nothing to say.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn promtool(metrics: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/promtool.sh");
    let mut checker = Command::new(script)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = checker.stdin.take().unwrap();
    // One that cannot be had here does not read.
    let _ = stdin.write_all(metrics.as_bytes());
    drop(stdin);
    let output = checker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(77) {
        eprintln!("skipped: promtool cannot be had here: {said}");
        return;
    }
    assert!(output.status.success() && said.is_empty(), "{said}\n{metrics}");
}

#[test]
fn nobody_listens_for_others_without_a_secret() {
    let sandbox = Sandbox::start(&[]);
    let project = project(&sandbox);
    project
        .run(&["watch", "--listen", "0.0.0.0:0"])
        .exits(1)
        .says("can be reached by others, and there is no secret")
        .says("secret = { env");
    project.edit(
        "[providers.hetzner]",
        "[watch]\nlisten = \"0.0.0.0:9090\"\n\n[providers.hetzner]",
    );
    project
        .run(&["validate"])
        .exits(1)
        .says("which others reach, and `watch` has no secret");
    project.edit("0.0.0.0:9090", "localhost");
    project
        .run(&["validate"])
        .exits(1)
        .says("not an address with a port");
}

#[test]
fn of_two_watches_one_leads_and_the_other_goes_on_where_it_ended() {
    let sandbox = Sandbox::start(&["boot=1s"]);
    let project = project(&sandbox);
    let mut first = Watch::start(&project, &[]);
    first.says("tick 1: ");
    let mut second = Watch::start(&project, &["--listen", "127.0.0.1:0"]);
    let at = address(&mut second);
    second.says("stands by: watch of ");
    let (status, text) = get(&format!("{at}/readyz"), None);
    assert_eq!(status, 200);
    assert!(text.starts_with("ok: stands by: watch of "), "{text}");
    let metrics = get(&format!("{at}/metrics"), None).1;
    assert!(
        metrics.contains("runfleet_watch_is_leader{stack=\"test\"} 0.0"),
        "{metrics}"
    );
    // Others' writes wait for the leader's lock, or are refused.
    project.run(&["scale"]).exits(4).says("watch of ");
    first.signal("-TERM");
    assert_eq!(first.ends(), Some(0));
    second.says("leads: ");
    sandbox.jobs(2, "1h");
    eventually("a machine", PATIENCE, || sandbox.servers().len() == 1);
    let stood_by = second
        .heard()
        .iter()
        .filter(|line| line.contains("stands by"))
        .count();
    assert_eq!(stood_by, 1, "{:?}", second.said);
    second.signal("-TERM");
    assert_eq!(second.ends(), Some(0));
}

#[test]
fn a_cause_that_lasts_is_told_once_and_its_ticks_back_off() {
    let sandbox = Sandbox::start(&[]);
    let mut project = project(&sandbox);
    project.hetzner_token = "wrong".to_owned();
    let mut watch = Watch::start(&project, &[]);
    watch.says("tick 1: failed");
    watch.says("tick 2: failed");
    watch.says("tick 4: failed");
    let said = watch.heard().join("\n");
    assert_eq!(
        said.matches("check what providers.hetzner.token names").count(),
        1,
        "{said}"
    );
    assert!(!said.contains("tick 3: "), "{said}");
    watch.signal("-TERM");
    watch.ends();
}

#[test]
fn its_json_is_lines_and_each_tick_ends_in_one_of_its_own() {
    let sandbox = Sandbox::start(&["boot=1s"]);
    let project = project(&sandbox);
    sandbox.jobs(2, "1h");
    let mut watch = Watch::start(&project, &["--json"]);
    watch.says("\"event\":\"tick\"");
    watch.says("\"event\":\"tick\"");
    watch.signal("-TERM");
    assert_eq!(watch.ends(), Some(0));
    let lines: Vec<Value> = watch
        .said
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(lines[0]["type"], "version");
    let events: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["watch"]["event"].as_str())
        .collect();
    assert_eq!(events[..2], ["leads", "tick"]);
    assert_eq!(*events.last().unwrap(), "stopping");
    let tick = lines
        .iter()
        .find(|line| line["watch"]["event"] == "tick")
        .unwrap();
    assert_eq!(tick["watch"]["outcome"], "done");
    assert!(tick["watch"]["next_seconds"].as_f64().unwrap() >= 1.0);
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_that_it_lives_and_when_it_ends() {
    let sandbox = Sandbox::start(&[]);
    let project = project(&sandbox);
    let path = project.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut watch = Watch::spawn(
        project
            .command(&["watch"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "400000"),
    );
    let mut told = Vec::new();
    let mut wait_for = |wanted: &str| {
        let mut bytes = [0; 512];
        loop {
            let length = socket
                .recv(&mut bytes)
                .unwrap_or_else(|error| panic!("{error}: {told:?}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            told.push(text.clone());
            if text.starts_with(wanted) {
                return;
            }
        }
    };
    wait_for("READY=1\n");
    wait_for("STATUS=leads; tick 1 done");
    wait_for("WATCHDOG=1\n");
    wait_for("WATCHDOG=1\n");
    watch.signal("-TERM");
    wait_for("STOPPING=1\n");
    assert_eq!(watch.ends(), Some(0));
}
