//! What machines and a server tell, and what is made of it: against a scripted proxy, a scripted server, and, in `real`,
//! against node_exporter and Prometheus themselves.

#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

mod real;

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, extract::Request as HttpRequest, response::IntoResponse};
use http::{Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Prometheus, PrometheusConfig};
use crate::{
    apply::Clock,
    demand::{
        Demand as _, DemandError, RegistrationRequest, RunnerControl as _, RunnerReading,
        testing::{DATE, NOW, Server, TOKEN},
    },
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector, RunnerView, Wanted, description},
        ids::RegistrationId,
        metrics::{
            AddressKind, Finite, HealthCheck, HttpCheck, MachineMetrics, MachineSeen, Measured, Metering,
            SampleName,
        },
        resource::{Completeness, CordonKind},
    },
    net::{Auth, ClientConfig},
    stack::source::Scrape,
};

/// What our own clock says, a day after all others.
const OURS: i64 = NOW + 86400;

/// By host and path: what a machine answers; none: never. A CONNECT has no path.
type Script = dyn Fn(&str, &str) -> Option<(u16, String)> + Send + Sync;

/// An HTTP proxy behind which the machines are.
async fn proxy(script: impl Fn(&str, &str) -> Option<(u16, String)> + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let script: Arc<Script> = Arc::new(script);
    let app = Router::new().fallback(move |request: HttpRequest| {
        let script = Arc::clone(&script);
        async move {
            let uri = request.uri();
            let host = uri.authority().map(ToString::to_string).unwrap_or_default();
            let path = match *request.method() {
                Method::CONNECT => "",
                _ => uri.path(),
            };
            let Some((status, body)) = script(&host, path) else {
                return std::future::pending().await;
            };
            let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
            (
                StatusCode::from_u16(status).unwrap(),
                [(header::DATE, DATE), kind],
                body,
            )
                .into_response()
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

fn scrape(proxy: Option<&str>, jobs: Option<&str>) -> Scrape {
    Scrape {
        port: 9100,
        path: "/metrics".to_owned(),
        address: AddressKind::Private,
        timeout: SignedDuration::from_secs(2),
        proxy: proxy.map(str::to_owned),
        jobs: jobs.map(str::to_owned),
    }
}

fn source(scrape: Option<Scrape>, server: Option<ClientConfig>) -> Prometheus {
    Prometheus::new(PrometheusConfig {
        name: "metrics".into(),
        scrape,
        server,
        root: "https://prometheus.example.com".to_owned(),
        questions: vec![("web".into(), "up".to_owned())],
        settle: SignedDuration::from_secs(5),
        clock: Clock::of(|| at(OURS)),
    })
    .unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn sample(name: &str) -> SampleName {
    SampleName {
        name: name.to_owned(),
        labels: BTreeMap::new(),
    }
}

/// The machine `web-N` at 10.0.0.N.
fn machine(number: u8) -> MachineSeen {
    let name = format!("web-{number}");
    MachineSeen {
        registration: RegistrationId::from(name.as_str()),
        name,
        lineage: Some("lineage-1".into()),
        running: true,
        addresses: vec![[192, 0, 2, number].into(), [10, 0, 0, number].into()],
        created_at: at(NOW - 600),
    }
}

fn metering(machines: Vec<MachineSeen>) -> Metering {
    Metering {
        samples: vec![sample("load"), sample("free")],
        machines,
        now: Some(at(NOW + 7)),
        ..Metering::default()
    }
}

fn pool(metering: Metering) -> PoolSelector {
    PoolSelector {
        agents: None,
        pool: "web".into(),
        tags: Vec::new(),
        run_untagged: false,
        protected_refs: false,
        metering: Some(Box::new(metering)),
    }
}

async fn observed(source: &Prometheus, metering: Metering) -> Result<DemandSnapshot, DemandError> {
    let snapshot = source
        .observe(&"prod".into(), &[pool(metering)], &Cursor::default())
        .await?;
    assert_eq!(
        snapshot.wanted,
        Wanted::Counts(BTreeMap::new()),
        "there are no jobs"
    );
    assert_eq!(snapshot.completeness, Completeness::Complete);
    Ok(snapshot)
}

fn view<'a>(snapshot: &'a DemandSnapshot, name: &str) -> &'a RunnerView {
    let mut runners = snapshot.runners.iter();
    runners
        .find(|runner| runner.registration.as_str() == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

fn told<'a>(snapshot: &'a DemandSnapshot, name: &str) -> &'a MachineMetrics {
    &snapshot.metrics["web"].machines[name]
}

fn read(numbers: &[(&str, f64)]) -> MachineMetrics {
    let numbers = numbers.iter();
    let numbers = numbers.map(|(name, value)| ((*name).to_owned(), Finite::new(*value).unwrap()));
    MachineMetrics::Read(numbers.collect())
}

fn why(metrics: &MachineMetrics) -> &str {
    match metrics {
        MachineMetrics::Unreachable { why } => why,
        MachineMetrics::Read(read) => panic!("{read:?}"),
    }
}

#[tokio::test]
async fn what_one_machine_does_stops_no_other() {
    let proxy = proxy(|host, path| match (host, path) {
        ("10.0.0.1:9100", "/metrics") => Some((200, "load 0.5\nfree{disk=\"a\"} 7\n".into())),
        ("10.0.0.2:9100", _) => None,
        ("10.0.0.3:9100", _) => Some((200, "<html>".into())),
        ("10.0.0.4:9100", _) => Some((404, "load 1\n".into())),
        ("10.0.0.5:9100", _) => Some((200, "load NaN\nfree{a=\"1\"} 1\nfree{a=\"2\"} 2\n".into())),
        other => panic!("{other:?}"),
    })
    .await;
    let mut machines: Vec<_> = (1..=7).map(machine).collect();
    machines[5].running = false;
    machines[6].addresses.truncate(1);
    let snapshot = observed(
        &source(Some(scrape(Some(&proxy), None)), None),
        metering(machines),
    )
    .await
    .unwrap();
    assert_eq!(snapshot.runners.len(), 7, "each is a runner");
    assert_eq!(told(&snapshot, "web-1"), &read(&[("load", 0.5), ("free", 7.0)]));
    for (name, says) in [
        ("web-2", "within 2.0s"),
        ("web-3", "no exporter's: line 1"),
        ("web-4", "404"),
        ("web-6", "does not say that it is on"),
        ("web-7", "no private IPv4 address"),
    ] {
        let why = why(told(&snapshot, name));
        assert!(why.contains(says), "{name}: {why}");
        assert_eq!(view(&snapshot, name).online, Some(false), "{name}");
        assert_eq!(view(&snapshot, name).last_contact, None, "{name}");
    }
    // It answers, with nothing that is one number.
    assert_eq!(told(&snapshot, "web-5"), &read(&[]));
    assert_eq!(snapshot.calls, 5);
    let well = RunnerView {
        registration: "web-1".into(),
        description: description("web-1", &"lineage-1".into()),
        online: Some(true),
        paused: false,
        last_contact: Some(at(NOW + 7)),
        busy: Some(false),
    };
    assert_eq!(view(&snapshot, "web-1"), &well);
    assert_eq!(snapshot.now, at(NOW + 7), "by the clouds' clock");
}

#[tokio::test]
async fn its_jobs_are_the_sum_of_a_sample() {
    let proxy = proxy(|host, _| {
        let body = match host {
            "10.0.0.1:9100" => "jobs{state=\"build\"} 0\njobs{state=\"test\"} 2\n",
            "10.0.0.2:9100" => "jobs{state=\"build\"} 0\njobs{state=\"test\"} 0\n",
            "10.0.0.3:9100" => "load 1\n",
            "10.0.0.4:9100" => "jobs NaN\n",
            _ => return None,
        };
        Some((200, body.to_owned()))
    })
    .await;
    let source = source(Some(scrape(Some(&proxy), Some("jobs"))), None);
    let reading = |jobs, paused| Ok(Some(RunnerReading { jobs, paused }));
    assert_eq!(
        source.read(&"web-1".into()).await,
        reading(None, false),
        "never seen"
    );
    let snapshot = observed(&source, metering((1..=5).map(machine).collect()))
        .await
        .unwrap();
    for (name, busy, jobs) in [
        ("web-1", Some(true), Some(2)),
        ("web-2", Some(false), Some(0)),
        ("web-3", None, None),
        ("web-4", None, None),
        ("web-5", None, None),
    ] {
        assert_eq!(view(&snapshot, name).busy, busy, "{name}");
        assert_eq!(source.read(&name.into()).await, reading(jobs, false), "{name}");
    }
}

#[tokio::test]
async fn a_cordon_is_a_note_and_where_nothing_counts_jobs_there_are_none() {
    let source = source(Some(scrape(None, None)), None);
    assert_eq!(source.profile().cordon, CordonKind::Pause);
    let mut off = machine(1);
    off.running = false;
    assert_eq!(
        source.cordon(&"web-1".into()).await.unwrap().since,
        at(OURS),
        "nobody else has told the time"
    );
    observed(&source, metering(vec![off.clone()])).await.unwrap();
    let since = source.cordon(&"web-1".into()).await.unwrap().since;
    assert!(
        since >= at(NOW + 7) && since < at(NOW + 60),
        "by the clouds' clock: {since}"
    );
    let reading = |paused| {
        Ok(Some(RunnerReading {
            jobs: Some(0),
            paused,
        }))
    };
    assert_eq!(source.read(&"web-1".into()).await, reading(true));
    assert_eq!(
        source.read(&"web-2".into()).await,
        reading(false),
        "of one and no other"
    );
    let snapshot = observed(&source, metering(vec![off])).await.unwrap();
    assert!(view(&snapshot, "web-1").paused);
    source.uncordon(&"web-1".into()).await.unwrap();
    assert_eq!(source.read(&"web-1".into()).await, reading(false));
    assert_eq!(source.forget(&"web-1".into()).await, Ok(()));
    let request = RegistrationRequest {
        description: description("web-9", &"lineage-1".into()),
        selector: pool(Metering::default()),
    };
    let made = source.register(&request).await.unwrap();
    assert_eq!(made.id.as_str(), "web-9");
    assert_eq!(made.token.expose_secret(), "");
}

#[tokio::test]
async fn a_health_check_goes_before_the_scrape() {
    let proxy = proxy(|host, path| match (host, path) {
        (host, "") => Some((if host == "10.0.0.2:22" { 502 } else { 200 }, String::new())),
        (_, "/metrics") => Some((200, "load 1\n".into())),
        ("10.0.0.3:8080", "/healthz") => Some((503, String::new())),
        (_, "/healthz") => Some((204, String::new())),
        other => panic!("{other:?}"),
    })
    .await;
    let health = |status| HealthCheck {
        tcp: vec![22, 80],
        http: Some(HttpCheck {
            port: 8080,
            path: "/healthz".to_owned(),
            status,
        }),
        timeout: SignedDuration::from_secs(5),
    };
    let source = source(Some(scrape(Some(&proxy), None)), None);
    for (status, online) in [
        (None, [true, false, false]),
        (Some(204), [true, false, false]),
        (Some(503), [false, false, true]),
    ] {
        let asked = Metering {
            health: Some(health(status)),
            ..metering((1..=3).map(machine).collect())
        };
        let snapshot = observed(&source, asked).await.unwrap();
        for (number, online) in (1..=3).zip(online) {
            let name = format!("web-{number}");
            assert_eq!(view(&snapshot, &name).online, Some(online), "{name}, {status:?}");
            assert_eq!(
                told(&snapshot, &name),
                &read(&[("load", 1.0)]),
                "{name}: its metrics are read all the same"
            );
        }
    }
}

fn questions(questions: &[&str]) -> Metering {
    Metering {
        queries: questions.iter().map(|question| (*question).to_owned()).collect(),
        ..metering(vec![machine(1)])
    }
}

fn answer(snapshot: &DemandSnapshot, question: &str) -> Result<f64, String> {
    match &snapshot.metrics["web"].queries[question] {
        Measured::Value(value) => Ok(value.get()),
        Measured::Missing { why } => Err(why.clone()),
    }
}

/// A server that knows these answers.
async fn prometheus() -> Server {
    Server::start(|call| {
        assert_eq!(call.what, "GET /api/v1/query");
        Some(match call.query.as_str() {
            "query=one" | "query=vector%281%29" => (
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"4.5"]}]},"warnings":["old"]}"#.into(),
            ),
            "query=none" => (200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.into()),
            "query=bad%28" => (400, r#"{"status":"error","errorType":"bad_data","error":"unclosed left parenthesis"}"#.into()),
            "query=html" => (200, "<html>".into()),
            _ => (401, "who are you?".into()),
        })
    })
    .await
}

#[tokio::test]
async fn each_question_is_asked_once_and_answered_by_itself() {
    let server = prometheus().await;
    let source = source(None, Some(server.client(Auth::Bearer)));
    let mut asked = questions(&["one", "none", "bad(", "html", "other"]);
    asked.now = None;
    let pools = [pool(asked.clone()), pool(asked)];
    let snapshot = source
        .observe(&"prod".into(), &pools, &Cursor::default())
        .await
        .unwrap();
    assert_eq!(answer(&snapshot, "one"), Ok(4.5));
    for (question, why) in [
        ("none", "no series"),
        ("bad(", "unclosed left parenthesis"),
        ("html", "could not be understood"),
        ("other", "not authorised"),
    ] {
        let error = answer(&snapshot, question).unwrap_err();
        assert!(error.contains(why), "{question}: {error}");
    }
    assert_eq!(server.asked().len(), 5);
    assert!(
        server
            .seen()
            .iter()
            .all(|call| call.credential == format!("Bearer {TOKEN}"))
    );
    assert_eq!(
        snapshot.now,
        at(NOW),
        "by the server's clock, since no cloud told one"
    );
    // Nobody asks the machines: one that is on is well.
    assert_eq!(view(&snapshot, "web-1").online, Some(true));
    assert!(snapshot.metrics["web"].machines.is_empty());
}

#[tokio::test]
async fn a_silent_server_fails_a_source_that_has_only_it() {
    let server = Server::saying(401, "no").await;
    let only = source(None, Some(server.client(Auth::Bearer)));
    let error = observed(&only, questions(&["a", "b"])).await.unwrap_err();
    assert!(matches!(error, DemandError::Unauthorized { .. }), "{error}");
    assert!(!format!("{error} {only:?}").contains(TOKEN));
    let proxy = proxy(|_, _| Some((200, "load 1\n".into()))).await;
    let both = source(
        Some(scrape(Some(&proxy), None)),
        Some(server.client(Auth::Bearer)),
    );
    let snapshot = observed(&both, questions(&["a"])).await.unwrap();
    assert!(answer(&snapshot, "a").unwrap_err().contains("not authorised"));
    assert_eq!(told(&snapshot, "web-1"), &read(&[("load", 1.0)]));
}

#[tokio::test]
async fn without_anybody_to_ask_the_time_is_ours() {
    let source = source(Some(scrape(None, None)), None);
    let nothing = Metering {
        now: None,
        ..metering(Vec::new())
    };
    let snapshot = observed(&source, nothing).await.unwrap();
    assert_eq!(snapshot.now, at(OURS));
    assert_eq!(snapshot.calls, 0);
}

#[tokio::test]
async fn a_look_ends_though_nothing_answers() {
    let proxy = proxy(|_, _| None).await;
    let mut slow = scrape(Some(&proxy), None);
    slow.timeout = SignedDuration::from_secs(50);
    let source = source(Some(slow), None);
    // Three rounds of those that are asked at once.
    let machines: Vec<_> = (0..96).map(machine).collect();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let snapshot = observed(&source, metering(machines)).await.unwrap();
    assert!(begun.elapsed() <= super::observe::OBSERVATION + std::time::Duration::from_secs(1));
    assert_eq!(snapshot.runners.len(), 96);
    assert!(why(told(&snapshot, "web-95")).contains("is over"));
}

#[test]
fn a_token_goes_over_https_or_to_this_host() {
    let made = |root: &str, auth| {
        Prometheus::new(PrometheusConfig {
            name: "metrics".into(),
            scrape: None,
            server: Some(ClientConfig::new(root, auth)),
            root: root.to_owned(),
            questions: Vec::new(),
            settle: SignedDuration::ZERO,
            clock: Clock::system(),
        })
    };
    let token = || Auth::Bearer(SecretString::from(TOKEN));
    assert!(made("http://10.0.0.1:9090", token()).is_err());
    assert!(made("http://10.0.0.1:9090", Auth::None).is_ok());
    assert!(made("http://127.0.0.1:9090", token()).is_ok());
    assert!(made("https://prometheus.example.com", token()).is_ok());
}

#[tokio::test]
async fn what_is_wrong_with_the_server_is_found_before_the_first_tick() {
    for (status, body, place) in [
        (401, "", "ci.metrics.token"),
        (403, "", "ci.metrics.token"),
        (404, "", "ci.metrics.url"),
        (200, "<html>", "ci.metrics.url"),
        (
            200,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            "pools.web.steps",
        ),
    ] {
        let server = Server::saying(status, body).await;
        let problems = source(None, Some(server.client(Auth::Bearer)))
            .check()
            .await
            .unwrap();
        let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, [place], "{status} {body}");
    }
    assert_eq!(
        source(Some(scrape(None, None)), None).check().await,
        Ok(Vec::new())
    );
}
