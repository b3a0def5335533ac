//! Against node_exporter, Prometheus and its client library for Python, from Debian's packages; skipped, with a word, where those
//! cannot be had.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use tokio::process::{Child, Command};

use super::{
    super::{
        exporter::scrape_at,
        query,
        text::{self, Found},
    },
    at, machine, metering, observed, sample, scrape, source, told, view,
};
use crate::{
    demand::{DemandError, RunnerControl as _, RunnerReading, testing::skipped},
    model::metrics::{
        AddressKind, Finite, HealthCheck, HttpCheck, MachineMetrics, MachineSeen, Measured, Metering,
        SampleName,
    },
    net::{Auth, Client, ClientConfig, plain::Plain},
};

/// A busy computer starts a process within this.
const START: Duration = Duration::from_secs(60);
/// Between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// What an exporter is asked for.
const FORMATS: [&str; 2] = [
    "text/plain;version=0.0.4",
    "application/openmetrics-text;version=1.0.0",
];

/// A server that stops with this value.
struct Running {
    at: SocketAddr,
    _child: Child,
}

/// A server of `tests/tools`, started and answering at this path; none where it cannot be had here.
async fn start(
    script: &str,
    host: &str,
    arguments: impl Fn(SocketAddr) -> Vec<String>,
    path: &str,
) -> Option<Running> {
    let free = TcpListener::bind((host, 0)).ok()?.local_addr().unwrap();
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/");
    let mut child = Command::new(format!("{tool}{script}"))
        .args(arguments(free))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let plain = Plain::new(None, 1).unwrap();
    let begun = tokio::time::Instant::now();
    loop {
        let answer = plain.get(free, path, None, Duration::from_secs(5), 8 << 20).await;
        if answer.is_ok_and(|reply| reply.status.is_success()) {
            return Some(Running {
                at: free,
                _child: child,
            });
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(77), "{script}");
            skipped(&format!("{script} cannot be had here"));
            return None;
        }
        assert!(begun.elapsed() < START, "{script} does not answer");
        tokio::time::sleep(LOOK).await;
    }
}

async fn node_exporter(host: &str) -> Option<Running> {
    start("node_exporter.sh", host, |at| vec![at.to_string()], "/").await
}

fn of(at: SocketAddr) -> MachineSeen {
    MachineSeen {
        addresses: vec![at.ip()],
        ..machine(1)
    }
}

#[tokio::test]
async fn both_formats_say_the_same() {
    let arguments = |at: SocketAddr| vec![at.port().to_string()];
    let Some(exporter) = start("openmetrics.sh", "127.0.0.1", arguments, "/metrics").await else {
        return;
    };
    let plain = Plain::new(None, 4).unwrap();
    let number = |value| Found::One(Finite::new(value).unwrap());
    let labelled = |name: &str, key: &str, value: &str| SampleName {
        labels: [(key.to_owned(), value.to_owned())].into(),
        ..sample(name)
    };
    let known = [
        (sample("load"), number(0.75)),
        (sample("free_bytes"), Found::Several(2)),
        (labelled("free_bytes", "mount", "/"), number(1_099_511_627_776.0)),
        (
            labelled("free_bytes", "device", "/dev/a,b={}"),
            number(1_099_511_627_776.0),
        ),
        (
            labelled("free_bytes", "device", "say \"hi\" \\ there\nagain"),
            number(-1.5e-7),
        ),
        (sample("nan"), Found::NotANumber),
        (sample("infinite"), Found::NotANumber),
        (sample("jobs_total"), number(3.0)),
        (labelled("wait_seconds_bucket", "le", "10.0"), number(1.0)),
        (labelled("wait_seconds_bucket", "le", "+Inf"), number(1.0)),
        (sample("wait_seconds_sum"), number(4.0)),
        (labelled("build_info", "version", "1#2"), number(1.0)),
        (sample("nothing"), Found::None),
    ];
    let names = known.iter().map(|(sample, _)| sample.name.as_str()).collect();
    for accept in FORMATS {
        let within = Duration::from_secs(10);
        let reply = plain
            .get(exporter.at, "/metrics", Some(accept), within, 1 << 20)
            .await
            .unwrap();
        let kind = reply.header("content-type").unwrap().to_owned();
        assert!(kind.starts_with(accept.split(';').next().unwrap()), "{kind}");
        let (exposition, date) = scrape_at(&plain, exporter.at, "/metrics", accept, within, &names)
            .await
            .unwrap();
        for (sample, found) in &known {
            assert_eq!(exposition.one(sample), *found, "{sample} in {accept}");
        }
        assert!(date.is_some());
    }
}

#[tokio::test]
async fn every_line_that_node_exporter_tells_is_understood() {
    let Some(exporter) = node_exporter("127.0.0.1").await else {
        return;
    };
    let plain = Plain::new(None, 4).unwrap();
    let within = Duration::from_secs(10);
    let reply = plain
        .get(exporter.at, "/metrics", Some(FORMATS[0]), within, 8 << 20)
        .await
        .unwrap();
    let body = String::from_utf8(reply.body.clone()).unwrap();
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let names: BTreeSet<&str> = lines
        .clone()
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let read = text::read(&reply.body, reply.header("content-type"), &names).unwrap();
    assert!(names.len() > 100, "{}", names.len());
    let series = names.iter().map(|name| match read.one(&sample(name)) {
        Found::Several(count) => count,
        Found::One(_) | Found::NotANumber => 1,
        Found::None => 0,
    });
    assert_eq!(series.sum::<usize>(), lines.count());
}

#[tokio::test]
async fn a_machine_is_observed_through_node_exporter() {
    let Some(exporter) = node_exporter("127.0.0.1").await else {
        return;
    };
    let mut how = scrape(None, Some("node_procs_running"));
    how.port = exporter.at.port();
    how.address = AddressKind::Public;
    how.timeout = jiff::SignedDuration::from_secs(10);
    let source = source(Some(how), None);
    let health = |port, status| HealthCheck {
        tcp: vec![port],
        http: Some(HttpCheck {
            port: exporter.at.port(),
            path: "/".to_owned(),
            status,
        }),
        timeout: jiff::SignedDuration::from_secs(10),
    };
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (health, online) in [
        (None, true),
        (Some(health(exporter.at.port(), None)), true),
        (Some(health(exporter.at.port(), Some(404))), false),
        (Some(health(closed, None)), false),
    ] {
        let asked = Metering {
            samples: vec![sample("node_load1"), sample("node_cpu_seconds_total")],
            health,
            ..metering(vec![of(exporter.at)])
        };
        let snapshot = observed(&source, asked).await.unwrap();
        let MachineMetrics::Read(numbers) = told(&snapshot, "web-1") else {
            panic!("{:?}", told(&snapshot, "web-1"));
        };
        assert_eq!(
            numbers.keys().collect::<Vec<_>>(),
            ["node_load1"],
            "of the other there are several series"
        );
        assert_eq!(view(&snapshot, "web-1").online, Some(online));
        assert_eq!(
            view(&snapshot, "web-1").busy,
            Some(true),
            "node_exporter itself runs"
        );
    }
    let reading = source.read(&"web-1".into()).await.unwrap();
    assert!(
        matches!(reading, Some(RunnerReading { jobs: Some(1..), .. })),
        "{reading:?}"
    );
}

#[tokio::test]
async fn node_exporter_is_read_by_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        skipped("no IPv6 here");
        return;
    }
    let Some(exporter) = node_exporter("::1").await else {
        return;
    };
    let plain = Plain::new(None, 1).unwrap();
    let within = Duration::from_secs(10);
    let names = BTreeSet::from(["node_load1"]);
    let read = scrape_at(&plain, exporter.at, "/metrics", "text/plain", within, &names).await;
    assert!(matches!(
        read.unwrap().0.one(&sample("node_load1")),
        Found::One(_)
    ));
    assert_eq!(plain.connect(exporter.at, within).await, Ok(()));
}

#[tokio::test]
async fn prometheus_answers_as_expected() {
    let Some(exporter) = node_exporter("127.0.0.1").await else {
        return;
    };
    let target = exporter.at.to_string();
    let arguments = |at: SocketAddr| vec![at.port().to_string(), target.clone()];
    let Some(server) = start("prometheus.sh", "127.0.0.1", arguments, "/-/ready").await else {
        return;
    };
    let client =
        Client::without_secret(ClientConfig::new(format!("http://{}", server.at), Auth::None)).unwrap();
    let ask = async |question: &str| query::ask(&client, question).await;
    // Until it has scraped once.
    let begun = tokio::time::Instant::now();
    let (load, date) = loop {
        match ask("node_load1{job=\"node\"}").await.unwrap() {
            (Measured::Value(load), date) => break (load, date),
            (Measured::Missing { why }, _) => assert!(begun.elapsed() < START, "{why}"),
        }
        tokio::time::sleep(LOOK).await;
    };
    assert!(load.get() >= 0.0);
    assert!(date.is_some_and(|date| date > at(1_700_000_000)));
    for (question, number) in [
        ("vector(2.5)", 2.5),
        ("scalar(vector(3))", 3.0),
        ("count(up == 1)", 1.0),
        ("2 * 3", 6.0),
    ] {
        let (measured, _) = ask(question).await.unwrap();
        assert!(
            matches!(measured, Measured::Value(value) if value.get().to_bits() == f64::to_bits(number)),
            "{question}: {measured:?}"
        );
    }
    for (question, says) in [
        ("vector(0) / 0", "not a finite number"),
        ("1 / 0", "not a finite number"),
        ("scalar(nothing)", "not a finite number"),
        ("nothing_of_this_name", "no series"),
        ("node_cpu_seconds_total", "series: join them"),
        ("up[5m]", "a matrix"),
        ("\"text\"", "a string"),
        ("avg(", "parse error"),
        ("label_replace(up, \"1\", \"\", \"\", \"\")", "invalid"),
    ] {
        let (measured, _) = ask(question).await.unwrap();
        let Measured::Missing { why } = measured else {
            panic!("{question}: {measured:?}")
        };
        assert!(why.contains(says), "{question}: {why}");
    }
    let elsewhere = Client::new(ClientConfig::new(format!("http://{target}"), Auth::None)).unwrap();
    let error = query::ask(&elsewhere, "1").await.unwrap_err();
    assert!(
        matches!(
            error,
            DemandError::Rejected { .. } | DemandError::Malformed { .. }
        ),
        "{error}"
    );
}
