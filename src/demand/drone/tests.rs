//! What Drone says, and what is made of it, against a small scripted server.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Drone, DroneConfig};
use crate::{
    demand::{
        Demand, DemandError, RegistrationRequest, RunnerControl,
        testing::{NOW, Server, TOKEN, sample},
    },
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, PassedOver, PoolSelector, Wanted},
        resource::{Completeness, CordonKind},
    },
    net::Auth,
};

fn client(server: &Server) -> Drone {
    Drone::new(DroneConfig {
        name: "drone".into(),
        client: server.client(Auth::Bearer),
        root: "https://drone.example.com/".to_owned(),
        pending_max: Some(SignedDuration::from_hours(1)),
        running_max: Some(SignedDuration::from_hours(2)),
        settle: SignedDuration::from_secs(5),
        rpc_secrets: BTreeMap::from([("linux".into(), SecretString::from("rpc"))]),
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

fn pools() -> [PoolSelector; 2] {
    [pool("linux", &["arch=amd64"]), pool("arm", &["arch=arm64"])]
}

/// A stage as the server writes it, so many seconds old.
#[expect(clippy::needless_pass_by_value, reason = "it is handed literals")]
fn stage(id: u64, status: &str, age: i64, more: Value) -> Value {
    let mut row = json!({
        "id": id, "repo_id": 7, "build_id": id, "number": 1, "name": "default", "kind": "pipeline", "type": "docker",
        "status": status, "errignore": false, "exit_code": 0, "os": "linux", "arch": "amd64",
        "started": if status == "running" { NOW - age } else { 0 }, "stopped": 0, "created": NOW - age, "updated": NOW - age,
        "version": 1, "on_success": true, "on_failure": false,
    });
    row.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    row
}

async fn observe(rows: Value) -> Result<DemandSnapshot, DemandError> {
    let server = Server::saying(200, rows).await;
    client(&server)
        .observe(&"prod".into(), &pools(), &Cursor::default())
        .await
}

fn jobs(snapshot: &DemandSnapshot) -> &[Job] {
    match &snapshot.wanted {
        Wanted::Jobs(jobs) => jobs,
        Wanted::Counts(_) => panic!("Drone tells jobs"),
    }
}

#[tokio::test]
async fn the_queue_is_one_call() {
    let server = Server::saying(200, json!([])).await;
    let seen = client(&server)
        .observe(&"prod".into(), &pools(), &Cursor::default())
        .await
        .unwrap();
    assert_eq!((seen.calls, &seen.completeness), (1, &Completeness::Complete));
    assert_eq!(seen.now, Timestamp::from_second(NOW).unwrap());
    assert!(!seen.control.lists_runners);
    assert_eq!(seen.control.cordon, CordonKind::PauseAll);
    assert_eq!(server.asked(), ["GET /api/queue"]);
    assert_eq!(server.seen()[0].credential, format!("Bearer {TOKEN}"));
    assert!(!format!("{:?}", client(&server)).contains(TOKEN));
}

#[tokio::test]
async fn stages_that_wait_and_run_are_jobs_of_the_pools_that_fit() {
    let seen = observe(json!([
        stage(1, "running", 60, json!({"machine": "i-1"})),
        stage(2, "pending", 30, json!({"arch": "arm64"})),
    ]))
    .await
    .unwrap();
    let [running, queued] = jobs(&seen) else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (running.state, queued.state),
        (JobState::Running, JobState::Queued)
    );
    assert_eq!(running.runner, Some("i-1".into()));
    assert_eq!(running.started_at, Timestamp::from_second(NOW - 60).ok());
    assert_eq!(queued.queued_at, Timestamp::from_second(NOW - 30).ok());
    assert_eq!(running.pools, Some(vec!["linux".into()]));
    assert_eq!(queued.pools, Some(vec!["arm".into()]));
    assert_eq!(queued.tags, ["os=linux", "arch=arm64", "type=docker"]);
    assert_eq!(seen.passed_over, BTreeMap::new());
}

#[tokio::test]
async fn one_that_was_accepted_and_has_not_begun_is_its_runners() {
    let rows = json!([stage(1, "pending", 9, json!({"machine": "i-1"}))]);
    let seen = observe(rows.clone()).await.unwrap();
    assert_eq!(jobs(&seen)[0].state, JobState::Running);
    assert_eq!(jobs(&seen)[0].runner, Some("i-1".into()));
    let server = Server::saying(200, rows).await;
    let reading = client(&server).read(&"i-1".into()).await.unwrap().unwrap();
    assert_eq!(reading.jobs, Some(1));
}

#[tokio::test]
async fn what_is_held_too_old_or_fits_nowhere_is_no_demand() {
    let seen = observe(json!([
        stage(1, "running", 60, json!({"machine": "i-1", "limit": 1})),
        stage(2, "pending", 30, json!({"limit": 1})),
        stage(3, "pending", 3600, json!({"name": "old"})),
        stage(4, "pending", 3599, json!({"name": "not yet"})),
        stage(5, "pending", 30, json!({"name": "mac", "os": "darwin"})),
        // It has waited for others of its build until a moment ago.
        stage(
            6,
            "pending",
            9000,
            json!({"name": "after", "depends_on": ["x"], "updated": NOW - 5})
        ),
    ]))
    .await
    .unwrap();
    let queued: Vec<&str> = jobs(&seen)
        .iter()
        .filter(|job| job.state == JobState::Queued)
        .map(|job| job.name.as_str())
        .collect();
    assert_eq!(queued, ["not yet", "after"]);
    let passed = [
        (PassedOver::HeldBack, 1),
        (PassedOver::TooOld, 1),
        (PassedOver::NoPool, 1),
    ];
    assert_eq!(seen.passed_over, BTreeMap::from(passed));
}

#[tokio::test]
async fn one_that_runs_for_too_long_is_stuck_and_does_not_keep_its_machine_at_the_second_reading() {
    let rows = json!([
        stage(1, "running", 7200, json!({"machine": "i-1"})),
        stage(2, "running", 7199, json!({"machine": "i-2"})),
    ]);
    let seen = observe(rows.clone()).await.unwrap();
    let stuck: Vec<bool> = jobs(&seen).iter().map(|job| job.stuck).collect();
    assert_eq!(stuck, [true, false]);
    let server = Server::saying(200, rows).await;
    let drone = client(&server);
    for (runner, jobs) in [("i-1", 0), ("i-2", 1), ("i-3", 0)] {
        let reading = drone.read(&runner.into()).await.unwrap().unwrap();
        assert_eq!((reading.jobs, reading.paused), (Some(jobs), false), "{runner}");
    }
}

#[tokio::test]
async fn a_row_that_is_no_stage_makes_the_answer_partial_and_a_reading_unknown() {
    let rows = json!([stage(1, "running", 60, json!({"machine": "i-1"})), {"id": "x"}, 5]);
    let seen = observe(rows.clone()).await.unwrap();
    let Completeness::Partial { why } = &seen.completeness else {
        panic!("{seen:?}")
    };
    assert!(why.starts_with("2 stages of the queue"), "{why}");
    assert_eq!(jobs(&seen).len(), 1);
    let server = Server::saying(200, rows).await;
    let drone = client(&server);
    assert_eq!(drone.read(&"i-1".into()).await.unwrap().unwrap().jobs, Some(1));
    assert_eq!(drone.read(&"i-2".into()).await.unwrap().unwrap().jobs, None);
}

#[tokio::test]
async fn what_is_no_queue_is_an_error_and_never_an_empty_one() {
    for body in ["null", "{}", "<html>", ""] {
        let server = Server::saying(200, body).await;
        let answer = client(&server)
            .observe(&"prod".into(), &pools(), &Cursor::default())
            .await;
        assert!(
            matches!(answer, Err(DemandError::Malformed { .. })),
            "{body}: {answer:?}"
        );
    }
    let kinds = [
        (401, "unauthorized"),
        (403, "unauthorized"),
        (501, "rejected"),
        (503, "unavailable"),
    ];
    for (status, kind) in kinds {
        let server = Server::saying(status, json!({"message": "Not Implemented"})).await;
        let drone = client(&server);
        let answer = drone.observe(&"prod".into(), &pools(), &Cursor::default()).await;
        let told = match answer {
            Err(DemandError::Unauthorized { .. }) => "unauthorized",
            Err(DemandError::Rejected { .. }) => "rejected",
            Err(DemandError::Unavailable { .. }) => "unavailable",
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(told, kind, "{status}");
        assert!(drone.read(&"i-1".into()).await.is_err());
    }
}

#[tokio::test]
async fn a_pause_and_its_lifting_say_whether_they_may_have_been_done() {
    let server = Server::start(|call| {
        let status = if call.what.starts_with("DELETE") { 204 } else { 500 };
        Some((status, String::new()))
    })
    .await;
    let drone = client(&server);
    let cordoned = drone.cordon(&"i-1".into()).await.unwrap();
    assert_eq!(cordoned.since, Timestamp::from_second(NOW).unwrap());
    let lifted = drone.uncordon(&"queue".into()).await;
    assert!(matches!(lifted, Err(DemandError::Ambiguous { .. })), "{lifted:?}");
    assert_eq!(server.asked(), ["DELETE /api/queue", "POST /api/queue"]);
    let server = Server::saying(501, json!({"message": "Not Implemented"})).await;
    let refused = client(&server).cordon(&"i-1".into()).await;
    assert!(
        matches!(refused, Err(DemandError::Rejected { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_machine_joins_with_its_pools_secret_under_its_own_name() {
    let server = Server::saying(500, "").await;
    let drone = client(&server);
    let mut request = RegistrationRequest {
        description: "prod-linux-brave-otter 1a2b3c4d".to_owned(),
        selector: pool("linux", &[]),
    };
    let made = drone.register(&request).await.unwrap();
    assert_eq!(made.id, "prod-linux-brave-otter".into());
    assert_eq!(
        (made.token.expose_secret(), made.url.as_str()),
        ("rpc", "https://drone.example.com")
    );
    request.selector.pool = "arm".into();
    let refused = drone.register(&request).await;
    assert!(
        matches!(refused, Err(DemandError::Rejected { why }) if why.starts_with("pools.arm.runner_token"))
    );
    drone.forget(&made.id).await.unwrap();
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn validating_tells_the_token_the_edition_and_the_address_apart() {
    let cases = [
        (401, "{}", "ci.drone.token"),
        (403, "{}", "ci.drone.token"),
        (501, "{}", "ci.drone.url"),
        (404, "<html>", "ci.drone.url"),
        (200, "<html>", "ci.drone.url"),
    ];
    for (status, body, place) in cases {
        let server = Server::saying(status, body).await;
        let problems = client(&server).check().await.unwrap();
        let [problem] = &problems[..] else {
            panic!("{status}: {problems:?}")
        };
        assert_eq!(problem.place, place, "{status}");
        assert!(problem.hint.is_some());
    }
    let server = Server::saying(200, "[]").await;
    assert_eq!(client(&server).check().await.unwrap(), []);
    let server = Server::saying(503, "").await;
    assert!(client(&server).check().await.is_err());
}

/// drone-go has no sample of a queue; its builds hold stages of the same shape.
#[tokio::test]
async fn the_stages_of_drones_own_samples_are_understood() {
    let Some(build) = sample("drone-testdata/build.json") else {
        return;
    };
    let mut stages = build["stages"].as_array().unwrap().clone();
    assert!(!stages.is_empty());
    for stage in &mut stages {
        stage["status"] = json!("pending");
    }
    let count = stages.len();
    let seen = observe(Value::Array(stages)).await.unwrap();
    assert_eq!(seen.completeness, Completeness::Complete);
    let passed: u32 = seen.passed_over.values().sum();
    assert_eq!(jobs(&seen).len() + passed as usize, count);
}
