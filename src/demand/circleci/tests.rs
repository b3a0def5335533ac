//! What CircleCI says, and what is made of it, against a small scripted server.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Circleci, CircleciConfig};
use crate::{
    demand::{
        Demand, DemandError, RegistrationRequest, RunnerControl,
        testing::{Call, NOW, Server, TOKEN, sample},
    },
    model::{
        demand::{Counts, Cursor, DemandSnapshot, PoolSelector, RunnerView, Wanted},
        ids::PoolName,
        resource::{Completeness, CordonKind},
    },
    net::Auth,
    stack::CircleciApi,
};

const CLASS: &str = "acme/linux";

fn client(server: &Server, api: CircleciApi) -> Circleci {
    Circleci::new(CircleciConfig {
        name: "circleci".into(),
        client: server.client(|value| Auth::Header {
            name: "circle-token",
            value,
        }),
        root: "https://runner.circleci.com/".to_owned(),
        api,
        settle: SignedDuration::from_secs(5),
        classes: BTreeMap::from([("linux".into(), CLASS.to_owned())]),
        tokens: BTreeMap::from([("linux".into(), SecretString::from("class-token"))]),
    })
    .unwrap()
}

fn pool(name: &str, tags: &[&str]) -> PoolSelector {
    PoolSelector {
        agents: None,
        pool: name.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        run_untagged: false,
        protected_refs: false,
        metering: None,
    }
}

/// One class with these counts and runners, as `(name, seconds since it connected)`.
fn class(unclaimed: u32, running: u32, runners: &[(&str, i64)]) -> impl Fn(&Call) -> Option<(u16, String)> {
    let items: Vec<Value> = runners
        .iter()
        .map(|(name, age)| {
            let at = Timestamp::from_second(NOW - age).unwrap().to_string();
            json!({"resource_class": CLASS, "hostname": name, "name": name, "first_connected": at, "last_connected": at, "last_used": null, "version": "3.1"})
        })
        .collect();
    move |call| {
        let body = match call.what.rsplit('/').next().unwrap() {
            "running" => json!({"running_runner_tasks": running}),
            "tasks" => json!({"unclaimed_task_count": unclaimed}),
            _ => json!({ "items": items }),
        };
        Some((200, body.to_string()))
    }
}

async fn observe(ci: &Circleci, pools: &[PoolSelector]) -> Result<DemandSnapshot, DemandError> {
    ci.observe(&"prod".into(), pools, &Cursor::default()).await
}

fn counts(snapshot: &DemandSnapshot) -> &BTreeMap<PoolName, Counts> {
    match &snapshot.wanted {
        Wanted::Counts(counts) => counts,
        Wanted::Jobs(_) => panic!("CircleCI tells counts"),
    }
}

fn told(views: &[RunnerView]) -> Vec<(&str, Option<bool>, Option<bool>)> {
    views
        .iter()
        .map(|view| (view.registration.as_str(), view.online, view.busy))
        .collect()
}

#[tokio::test]
async fn a_class_is_three_calls_its_running_tasks_last() {
    let server = Server::start(class(3, 0, &[("i-1", 10), ("i-2", 3600)])).await;
    let seen = observe(&client(&server, CircleciApi::V3), &[pool("linux", &[CLASS])])
        .await
        .unwrap();
    assert_eq!(seen.completeness, Completeness::Complete);
    let wanted = Counts {
        queued: 3,
        running: 0,
    };
    assert_eq!(counts(&seen), &BTreeMap::from([("linux".into(), wanted)]));
    let idle = Some(false);
    assert_eq!(
        told(&seen.runners),
        [("i-1", Some(true), idle), ("i-2", Some(false), idle)]
    );
    assert_eq!(seen.now, Timestamp::from_second(NOW).unwrap());
    assert_eq!((seen.calls, seen.control.cordon), (3, CordonKind::Leaves));
    let asked = server.asked();
    assert_eq!(asked[0], "GET /api/v3/runner");
    assert!(
        asked[1..].contains(&"GET /api/v3/runner/tasks/running".to_owned()),
        "{asked:?}"
    );
    assert!(
        asked[1..].contains(&"GET /api/v3/runner/tasks".to_owned()),
        "{asked:?}"
    );
    for call in server.seen() {
        assert_eq!(
            (call.query.as_str(), call.credential.as_str()),
            ("resource-class=acme%2Flinux", TOKEN)
        );
    }
}

#[tokio::test]
async fn version_two_has_other_paths() {
    let server = Server::start(class(1, 1, &[])).await;
    observe(&client(&server, CircleciApi::V2), &[pool("linux", &[CLASS])])
        .await
        .unwrap();
    let mut asked = server.asked();
    asked.sort();
    assert_eq!(
        asked,
        [
            "GET /api/v2/runner",
            "GET /api/v2/tasks",
            "GET /api/v2/tasks/running"
        ]
    );
}

#[tokio::test]
async fn while_a_class_runs_anything_which_runner_does_is_not_known() {
    let server = Server::start(class(0, 1, &[("i-1", 10), ("i-2", 3600)])).await;
    let ci = client(&server, CircleciApi::V3);
    let seen = observe(&ci, &[pool("linux", &[CLASS])]).await.unwrap();
    assert_eq!(
        told(&seen.runners),
        [("i-1", Some(true), None), ("i-2", None, None)]
    );
    assert_eq!(ci.read(&"i-1".into()).await.unwrap().unwrap().jobs, None);

    let server = Server::start(class(0, 0, &[("i-1", 10)])).await;
    let ci = client(&server, CircleciApi::V3);
    // Of one that was never seen every class counts that the stack names.
    assert_eq!(ci.read(&"i-9".into()).await.unwrap().unwrap().jobs, Some(0));
}

#[tokio::test]
async fn one_class_that_fails_makes_the_answer_partial() {
    let good = class(2, 0, &[("i-1", 10)]);
    let server = Server::start(move |call| {
        if call.query.contains("broken") {
            return Some((404, json!({"message": "resource class not found"}).to_string()));
        }
        good(call)
    })
    .await;
    let ci = client(&server, CircleciApi::V3);
    let pools = [pool("linux", &[CLASS]), pool("other", &["acme/broken"])];
    let seen = observe(&ci, &pools).await.unwrap();
    let Completeness::Partial { why } = &seen.completeness else {
        panic!("{seen:?}")
    };
    assert!(why.starts_with("acme/broken: runners: rejected"), "{why}");
    assert_eq!(counts(&seen)[&PoolName::from("linux")].queued, 2);
    let alone = observe(&ci, &pools[1..]).await;
    assert!(matches!(alone, Err(DemandError::Rejected { .. })), "{alone:?}");
}

#[tokio::test]
async fn answers_that_lack_what_they_should_hold_are_errors_and_no_zeros() {
    for body in [
        "null",
        "{}",
        "[]",
        "<html>",
        "",
        r#"{"items":null}"#,
        r#"{"unclaimed_task_count":-1}"#,
    ] {
        let server = Server::saying(200, body).await;
        let ci = client(&server, CircleciApi::V3);
        let answer = observe(&ci, &[pool("linux", &[CLASS])]).await;
        assert!(
            matches!(answer, Err(DemandError::Malformed { .. })),
            "{body}: {answer:?}"
        );
        assert!(ci.read(&"i-1".into()).await.is_err(), "{body}");
    }
    let server = Server::saying(401, json!({"message": "You must log in first."})).await;
    let answer = observe(&client(&server, CircleciApi::V3), &[pool("linux", &[CLASS])]).await;
    assert!(
        matches!(answer, Err(DemandError::Unauthorized { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_class_is_counted_for_one_pool_only() {
    let server = Server::start(class(3, 1, &[("i-1", 10)])).await;
    let pools = [pool("a", &[CLASS]), pool("b", &[CLASS])];
    let seen = observe(&client(&server, CircleciApi::V3), &pools).await.unwrap();
    assert_eq!(
        counts(&seen)[&PoolName::from("a")],
        Counts {
            queued: 3,
            running: 1
        }
    );
    assert_eq!(counts(&seen)[&PoolName::from("b")], Counts::default());
    assert_eq!((seen.runners.len(), server.seen().len()), (1, 3));
}

#[tokio::test]
async fn without_a_class_nothing_is_wanted_and_the_servers_clock_is_read() {
    let server = Server::saying(400, json!({"message": "resource-class or namespace is required"})).await;
    let seen = observe(&client(&server, CircleciApi::V3), &[pool("found", &[])])
        .await
        .unwrap();
    assert_eq!((counts(&seen).len(), seen.calls), (0, 1));
    assert_eq!(seen.now, Timestamp::from_second(NOW).unwrap());
    let server = Server::saying(401, "{}").await;
    let answer = observe(&client(&server, CircleciApi::V3), &[pool("found", &[])]).await;
    assert!(
        matches!(answer, Err(DemandError::Unauthorized { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn nothing_is_done_to_a_runner_from_outside() {
    let server = Server::saying(500, "").await;
    let ci = client(&server, CircleciApi::V3);
    let request = RegistrationRequest {
        description: "prod-linux-brave-otter 1a2b3c4d".to_owned(),
        selector: pool("linux", &[CLASS]),
    };
    let made = ci.register(&request).await.unwrap();
    assert_eq!(made.id, "prod-linux-brave-otter".into());
    assert_eq!(
        (made.token.expose_secret(), made.url.as_str()),
        ("class-token", "https://runner.circleci.com")
    );
    assert!(matches!(
        ci.cordon(&made.id).await,
        Err(DemandError::Rejected { .. })
    ));
    assert!(matches!(
        ci.uncordon(&made.id).await,
        Err(DemandError::Rejected { .. })
    ));
    ci.forget(&made.id).await.unwrap();
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn validating_tells_the_token_the_class_and_the_address_apart() {
    let cases = [
        (401, "{}", "ci.circleci.token"),
        (404, "{}", "pools.linux.tags"),
        (200, "<html>", "ci.circleci.url"),
    ];
    for (status, body, place) in cases {
        let server = Server::saying(status, body).await;
        let problems = client(&server, CircleciApi::V3).check().await.unwrap();
        let [problem] = &problems[..] else {
            panic!("{status}: {problems:?}")
        };
        assert_eq!(problem.place, place, "{status}");
    }
    let server = Server::start(class(0, 0, &[])).await;
    assert_eq!(client(&server, CircleciApi::V3).check().await.unwrap(), []);
}

/// The examples of CircleCI's documentation.
#[tokio::test]
async fn the_documented_examples_are_understood() {
    let Some(samples) = sample("circleci-runner-samples.json") else {
        return;
    };
    let server = Server::start(move |call| {
        let of =
            |key: &str| samples[format!("GET {key}?resource-class=test-namespace/test-resource")].to_string();
        Some((200, of(call.what.trim_start_matches("GET "))))
    })
    .await;
    let ci = client(&server, CircleciApi::V3);
    let seen = observe(&ci, &[pool("linux", &["test-namespace/test-resource"])])
        .await
        .unwrap();
    assert_eq!(seen.completeness, Completeness::Complete);
    assert_eq!(
        counts(&seen)[&PoolName::from("linux")],
        Counts {
            queued: 42,
            running: 42
        }
    );
    assert_eq!(told(&seen.runners), [("bobby-sue", None, None)]);
}
