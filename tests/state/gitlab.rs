//! What an HTTP state in particular must do, against the sandbox's GitLab.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::Serial,
        state::{History, PastDecision},
    },
    state::{
        RemoteError, StateError, StateStore as _,
        http::{HttpConfig, JobWatch},
        lock::lock_info,
    },
};
use serde_json::json;

use super::{at, create, places::Gitlab, state};

async fn serial(gitlab: &Gitlab) -> u64 {
    gitlab.raw("GET", "", None).await.1["serial"]
        .as_u64()
        .unwrap_or(0)
}

#[tokio::test]
async fn outcomes_wait_for_the_next_write_and_intents_do_not() {
    let gitlab = Gitlab::start().await;
    let store = gitlab.open();
    let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    store.save(&state(1, 0), Serial(0)).await.unwrap();
    let written = serial(&gitlab).await;
    let [begin, registered, end] = create(1);
    store.record(Serial(1), &[begin, registered]).await.unwrap();
    assert_eq!(serial(&gitlab).await, written + 1);
    store.record(Serial(1), &[end]).await.unwrap();
    assert_eq!(serial(&gitlab).await, written + 1, "an outcome waits");
    store.record(Serial(1), &create(2)).await.unwrap();
    assert_eq!(serial(&gitlab).await, written + 2);
    let (_, document) = gitlab.raw("GET", "", None).await;
    assert_eq!(document["journal"]["entries"].as_array().unwrap().len(), 6);
    store.record(Serial(1), &create(3)[..1]).await.unwrap();
    store.unlock(lease).await.unwrap();
    let loaded = gitlab.open().load().await.unwrap();
    assert_eq!(loaded.entries.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_finds_no_other_write_is_written_after_ten_seconds() {
    // Time is paused, and the server is not: what it answers moves it on.
    let gitlab = Gitlab::start().await;
    let store = gitlab.open();
    let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let [begin, registered, end] = create(1);
    store.record(Serial(0), &[begin, registered]).await.unwrap();
    let written = serial(&gitlab).await;
    store.record(Serial(0), &[end]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    for _ in 0..100 {
        if serial(&gitlab).await > written {
            store.unlock(lease).await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it was not written");
}

#[tokio::test]
async fn a_tick_that_changes_nothing_writes_nothing() {
    let gitlab = Gitlab::start().await;
    let first = gitlab.open();
    let lease = first.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    first.save(&state(1, 1), Serial(0)).await.unwrap();
    let mut history = History::default();
    history.condemned.insert("hetzner machine 1".to_owned(), at(3));
    first.save_history(&history).await.unwrap();
    first.unlock(lease).await.unwrap();
    let written = serial(&gitlab).await;
    let (_, before) = gitlab.raw("GET", "", None).await;

    let tick = gitlab.open();
    let lease = tick.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let mut same = tick.load_history().await.unwrap();
    assert_eq!(same, history);
    tick.load().await.unwrap();
    same.decisions.push(PastDecision {
        at: at(4),
        lines: vec!["nothing".to_owned()],
    });
    tick.save_history(&same).await.unwrap();
    tick.unlock(lease).await.unwrap();
    assert_eq!(gitlab.raw("GET", "", None).await.1, before);

    let tick = gitlab.open();
    let lease = tick.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    same.condemned.clear();
    tick.save_history(&same).await.unwrap();
    tick.unlock(lease).await.unwrap();
    assert_eq!(
        serial(&gitlab).await,
        written + 1,
        "what the next decision needs is written"
    );
    assert_eq!(gitlab.open().load_history().await.unwrap(), same);
}

#[tokio::test]
async fn a_serial_that_was_used_meanwhile_overwrites_nothing() {
    let gitlab = Gitlab::start().await;
    let store = gitlab.open();
    store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    // Somebody takes the lock away, writes, and gives it back as it was: only the serial tells.
    let (_, mut document) = gitlab.raw("GET", "", None).await;
    document["serial"] = json!(serial(&gitlab).await + 1);
    document["writer"] = json!("another");
    assert_eq!(gitlab.raw("DELETE", "/lock", None).await.0, 200);
    assert_eq!(gitlab.raw("POST", "", Some(document.clone())).await.0, 200);
    let refused = store.save(&state(2, 2), Serial(1)).await.unwrap_err();
    assert!(
        matches!(refused, StateError::Remote(RemoteError::LeaseEnded { .. })),
        "{refused}"
    );
    assert_eq!(gitlab.raw("GET", "", None).await.1, document);
}

#[tokio::test]
async fn a_writer_whose_lock_was_broken_is_told_and_writes_nothing() {
    let gitlab = Gitlab::start().await;
    let old = gitlab.open();
    let lease = old.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    old.save(&state(1, 1), Serial(0)).await.unwrap();
    let new = gitlab.open();
    assert!(matches!(
        new.unlock_by_force("another").await,
        Err(StateError::Locked { .. })
    ));
    let broken = new.unlock_by_force(&lease.info.id).await.unwrap().unwrap();
    assert_eq!(
        (broken.id, broken.operation),
        (lease.info.id.clone(), "scale".to_owned())
    );
    new.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
    match old.save(&state(2, 2), Serial(1)).await {
        Err(StateError::Remote(RemoteError::LeaseEnded { by: Some(by), .. })) => {
            assert_eq!(by.operation, "apply");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(new.load().await.unwrap().state, Some(state(1, 1)));
}

#[tokio::test]
async fn a_password_that_is_refused_an_address_without_a_server_and_terraform_s_own_state_are_told() {
    let gitlab = Gitlab::start().await;
    let wrong = HttpConfig {
        password: Some("wr0ng-passw0rd".into()),
        ..gitlab.config()
    };
    let refused = Gitlab::open_with(wrong, None).load().await.unwrap_err();
    assert!(
        matches!(refused, StateError::Remote(RemoteError::Unauthorized { .. })),
        "{refused}"
    );
    assert!(!format!("{refused} {refused:?}").contains("wr0ng"), "{refused:?}");
    let nowhere = HttpConfig {
        address: Some("http://127.0.0.1:1/state".to_owned()),
        ..gitlab.config()
    };
    let refused = Gitlab::open_with(nowhere, None).load().await.unwrap_err();
    assert!(
        matches!(refused, StateError::Remote(RemoteError::Unreachable { .. })),
        "{refused}"
    );
    let terraform =
        json!({"version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "x", "resources": []});
    assert_eq!(gitlab.raw("POST", "", Some(terraform.clone())).await.0, 200);
    let store = gitlab.open();
    let refused = store.load().await.unwrap_err();
    assert!(refused.to_string().contains("Terraform 1.11.4"), "{refused}");
    assert!(store.save(&state(1, 1), Serial(0)).await.is_err());
    assert_eq!(
        gitlab.raw("GET", "", None).await.1,
        terraform,
        "it is not overwritten"
    );
}

#[tokio::test]
async fn earlier_states_are_those_that_gitlab_keeps() {
    let gitlab = Gitlab::start().await;
    let store = gitlab.open();
    for serial in 1..=4 {
        store.save(&state(serial, 1), Serial(serial - 1)).await.unwrap();
        store.record(Serial(serial), &create(9)).await.unwrap();
    }
    let kept: Vec<u64> = store
        .versions()
        .await
        .unwrap()
        .iter()
        .map(|version| version.serial.0)
        .collect();
    assert_eq!(kept, [3, 2, 1]);
    assert_eq!(store.version(Serial(2)).await.unwrap(), Some(state(2, 1)));
}

/// A CI that knows of one job that has ended.
#[derive(Debug)]
struct Ended(&'static str);

#[async_trait]
impl JobWatch for Ended {
    async fn has_ended(&self, job: &str) -> Option<bool> {
        Some(job == self.0)
    }
}

#[tokio::test]
async fn the_lock_of_a_ci_job_that_has_ended_is_taken_and_of_one_that_runs_is_not() {
    let gitlab = Gitlab::start().await;
    let ended = "https://gitlab.example.com/acme/app/-/jobs/7";
    for (job, taken) in [
        ("https://gitlab.example.com/acme/app/-/jobs/8", false),
        (ended, true),
    ] {
        let mut info = lock_info("scale");
        info.info = job.to_owned();
        gitlab.open().lock(&info, Duration::ZERO).await.unwrap();
        let next = Gitlab::open_with(gitlab.config(), Some(Arc::new(Ended(ended))));
        let answer = next.lock(&lock_info("apply"), Duration::ZERO).await;
        match answer {
            Ok(lease) if taken => assert_eq!(lease.taken_from.unwrap().id, info.id),
            Err(StateError::Locked { holder }) if !taken => {
                assert_eq!(holder.info, job, "though GitLab does not tell it");
                gitlab.open().unlock_by_force(&info.id).await.unwrap();
            }
            other => panic!("{job}: {other:?}"),
        }
    }
}
