#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use jiff::Timestamp;

use super::*;
use crate::model::{intent::Step, state::Pause};

fn entry(number: usize) -> Entry {
    Entry {
        at: Timestamp::from_second(1_800_000_000).unwrap(),
        intent: format!("i{number}").into(),
        address: "machine.linux/otter".parse().unwrap(),
        step: Step::Paused {
            pause: Pause {
                what: "queue".into(),
                owner: format!("ci {number}"),
                since: Timestamp::from_second(1_800_000_000).unwrap(),
            },
        },
    }
}

#[tokio::test]
async fn calls_that_wait_at_the_same_time_share_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::new(folder.path(), &"prod".into()));
    store.record(Serial(0), &[entry(0)]).await.unwrap();
    let busy = Arc::clone(&store.appender).lock_owned().await;
    let appends = busy.as_ref().unwrap().appends();
    let calls: Vec<_> = (1..=50)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.record(Serial(0), &[entry(number)]).await })
        })
        .collect();
    while store.queue.lock().unwrap().len() < 50 {
        tokio::task::yield_now().await;
    }
    drop(busy);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        store.appender.lock().await.as_ref().unwrap().appends(),
        appends + 1
    );
    let entries = store.load().await.unwrap().entries;
    assert_eq!(entries, (0..=50).map(entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::new(folder.path(), &"prod".into()));
    let busy = Arc::clone(&store.appender).lock_owned().await;
    let call = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.record(Serial(0), &[entry(1)]).await })
    };
    while store.queue.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    drop(busy);
    store.record(Serial(0), &[entry(2)]).await.unwrap();
    assert_eq!(store.load().await.unwrap().entries, [entry(2)]);
}

#[tokio::test]
async fn calls_for_different_serials_that_wait_together_each_get_their_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::new(folder.path(), &"prod".into()));
    let busy = Arc::clone(&store.appender).lock_owned().await;
    let calls: Vec<_> = [0, 9, 0]
        .into_iter()
        .enumerate()
        .map(|(number, base)| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.record(Serial(base), &[entry(number)]).await })
        })
        .collect();
    while store.queue.lock().unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    drop(busy);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(matches!(answers[1], Err(StateError::Stale { .. })), "{answers:?}");
    assert_eq!(store.load().await.unwrap().entries, [entry(0), entry(2)]);
}
