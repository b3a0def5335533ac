use object_store::memory::InMemory;

use super::*;
use crate::{model::intent::Entry, state::lock::lock_info};

fn stack() -> StackName {
    "prod".into()
}

fn store(objects: &Arc<InMemory>, length: Duration) -> ObjectState {
    let options = ObjectOptions {
        prefix: "teams/ci".to_owned(),
        place: "s3://bucket/teams/ci".to_owned(),
        keep: 3,
        times: LeaseTimes {
            length,
            longest_call: Duration::from_millis(20),
        },
        clock: ServerClock::default(),
    };
    ObjectState::new(Arc::clone(objects) as Arc<dyn ObjectStore>, &stack(), options)
}

fn state(serial: u64) -> State {
    let mut state = State::empty(stack(), "4f1d2c3b5a697887".into());
    state.serial = Serial(serial);
    state
}

fn begin(id: &str) -> Entry {
    use crate::model::intent::{Intent, Step};
    Entry {
        at: jiff::Timestamp::UNIX_EPOCH,
        intent: id.into(),
        address: "machine.linux/brave-otter".parse().unwrap(),
        step: Step::Begin {
            intent: Intent::Forget { registration: None },
        },
    }
}

/// A lease that has ended already: it cannot be renewed in its own time.
const ENDED: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(600);

/// A holder that thinks that its lease lasts, and whose renewals stopped coming: a stopped virtual machine.
async fn zombie(objects: &Arc<InMemory>) -> ObjectState {
    let zombie = store(objects, ENDED);
    zombie.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    {
        let held = zombie.inner.held();
        let held = held.as_ref().unwrap();
        held.renewer.abort();
        held.until.move_to(lease::now() + SignedDuration::from_hours(1));
    }
    zombie
}

#[tokio::test]
async fn a_writer_that_lost_its_lock_cannot_replace_the_state() {
    let objects = Arc::new(InMemory::new());
    store(&objects, LONG).save(&state(1), Serial(0)).await.unwrap();
    let old = zombie(&objects).await;
    old.load().await.unwrap();
    let new = store(&objects, LONG);
    let lease = new.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
    assert!(lease.taken_from.is_some());
    let refused = old.save(&state(2), Serial(1)).await.unwrap_err();
    assert!(
        matches!(refused, StateError::Remote(RemoteError::LeaseEnded { .. })),
        "{refused}"
    );
    assert_eq!(new.load().await.unwrap().state, Some(state(1)));
    new.save(&state(2), Serial(1)).await.unwrap();
    let refused = old.save(&state(2), Serial(1)).await.unwrap_err();
    assert!(
        matches!(refused, StateError::Stale { found: Serial(2), .. }),
        "{refused}"
    );
    new.unlock(lease).await.unwrap();
}

#[tokio::test]
async fn what_a_writer_records_after_it_lost_its_lock_is_passed_over_and_what_it_recorded_before_is_not() {
    let objects = Arc::new(InMemory::new());
    store(&objects, LONG).save(&state(1), Serial(0)).await.unwrap();
    let old = zombie(&objects).await;
    old.load().await.unwrap();
    old.record(Serial(1), &[begin("before")]).await.unwrap();
    let new = store(&objects, LONG);
    new.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
    assert_eq!(new.load().await.unwrap().entries, [begin("before")]);
    old.record(Serial(1), &[begin("after")]).await.unwrap();
    new.record(Serial(1), &[begin("new")]).await.unwrap();
    old.record(Serial(1), &[begin("long after")]).await.unwrap();
    let loaded = store(&objects, LONG).load().await.unwrap();
    assert_eq!(loaded.entries, [begin("before"), begin("new")]);
    assert!(loaded.mended[0].contains("2 batches"), "{:?}", loaded.mended);
}

#[tokio::test]
async fn nothing_is_written_once_the_lease_has_ended_by_its_own_clock() {
    let objects = Arc::new(InMemory::new());
    let late = store(&objects, ENDED);
    late.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    for refused in [
        late.save(&state(1), Serial(0)).await,
        late.record(Serial(0), &[begin("a")]).await,
        late.save_history(&History::default()).await,
    ] {
        assert!(matches!(
            refused,
            Err(StateError::Remote(RemoteError::LeaseEnded { .. }))
        ));
    }
    let left: Vec<_> = objects.list(None).try_collect().await.unwrap();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
}

#[tokio::test]
async fn an_ended_lease_is_taken_after_the_longest_call_and_one_that_holds_is_not() {
    let objects = Arc::new(InMemory::new());
    let first = store(&objects, LONG);
    let lease = first.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let second = store(&objects, ENDED);
    let began = tokio::time::Instant::now();
    assert!(matches!(
        second.lock(&lock_info("apply"), Duration::ZERO).await,
        Err(StateError::Locked { .. })
    ));
    assert!(began.elapsed() < Duration::from_millis(20));
    first.unlock(lease).await.unwrap();
    let ended = second.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
    assert_eq!(ended.taken_from, None, "it was given back");
    let third = store(&objects, LONG);
    let began = tokio::time::Instant::now();
    let lease = third.lock(&lock_info("destroy"), Duration::ZERO).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(20), "the longest call");
    assert_eq!(lease.taken_from, Some(ended.info.clone()));
    // Giving back what is another's by now takes nothing away.
    second.unlock(ended).await.unwrap();
    assert_eq!(third.holder().await.unwrap(), Some(lease.info.clone()));
}

#[tokio::test]
async fn a_lease_is_renewed_and_its_end_moves() {
    let objects = Arc::new(InMemory::new());
    let store = store(&objects, Duration::from_secs(1));
    let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let first = lease.until.as_ref().unwrap().at();
    for _ in 0..3 {
        let before = lease.until.as_ref().unwrap().at();
        while lease.until.as_ref().unwrap().at() == before {
            tokio::task::yield_now().await;
        }
    }
    assert!(lease.until.as_ref().unwrap().at() > first);
    store.save(&state(1), Serial(0)).await.unwrap();
    store.unlock(lease).await.unwrap();
}

#[tokio::test]
async fn a_broken_lock_is_fenced_by_whoever_takes_it_next() {
    let objects = Arc::new(InMemory::new());
    store(&objects, LONG).save(&state(1), Serial(0)).await.unwrap();
    let old = store(&objects, LONG);
    let lease = old.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    old.load().await.unwrap();
    let new = store(&objects, LONG);
    assert!(matches!(
        new.unlock_by_force("another").await,
        Err(StateError::Locked { .. })
    ));
    let broken = new.unlock_by_force(&lease.info.id).await.unwrap();
    assert_eq!(broken, Some(lease.info.clone()));
    assert_eq!(new.unlock_by_force(&lease.info.id).await.unwrap(), None);
    new.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
    assert!(old.save(&state(2), Serial(1)).await.is_err());
}

#[tokio::test]
async fn earlier_states_are_kept_up_to_a_number() {
    let objects = Arc::new(InMemory::new());
    let store = store(&objects, LONG);
    for serial in 1..=6 {
        store.save(&state(serial), Serial(serial - 1)).await.unwrap();
    }
    let serials: Vec<u64> = store
        .versions()
        .await
        .unwrap()
        .iter()
        .map(|version| version.serial.0)
        .collect();
    assert_eq!(serials, [5, 4, 3]);
    assert_eq!(store.version(Serial(4)).await.unwrap(), Some(state(4)));
    assert_eq!(store.version(Serial(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_never_overwritten() {
    let objects = Arc::new(InMemory::new());
    let store = store(&objects, LONG);
    let path = Path::from("teams/ci/prod.json");
    let other = serde_json::to_string(&State::empty("dev".into(), "4f1d2c3b5a697887".into())).unwrap();
    for text in ["{", "", "{\"version\":999}", other.as_str()] {
        store
            .inner
            .bucket
            .put(&path, Bytes::from(text.to_owned()))
            .await
            .unwrap();
        assert!(store.load().await.is_err(), "{text}");
        assert!(store.save(&state(1), Serial(0)).await.is_err(), "{text}");
        assert!(store.record(Serial(0), &[begin("a")]).await.is_err(), "{text}");
        let found = store.inner.bucket.get(&path).await.unwrap().unwrap();
        assert_eq!(found.bytes, text);
    }
}

#[tokio::test]
async fn a_fence_replaces_the_one_before() {
    let fence = |epoch| Fence {
        epoch,
        writer: "w".to_owned(),
    };
    let text = "{\n  \"version\": 1\n}\n";
    let once = fenced(text, &fence(1)).unwrap();
    let twice = fenced(std::str::from_utf8(&once).unwrap(), &fence(2)).unwrap();
    assert_eq!(
        twice,
        "{\n  \"fence\": {\"epoch\":2,\"writer\":\"w\"},\n  \"version\": 1\n}\n"
    );
}

#[tokio::test]
async fn the_lease_of_a_process_of_this_host_that_died_is_taken_at_once() {
    let objects = Arc::new(InMemory::new());
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let mut dead = lock_info("watch");
    (dead.pid, dead.pid_start) = (child.id(), 7);
    let elsewhere = LockInfo {
        id: "elsewhere".into(),
        pid_namespace: "pid:[1]".into(),
        ..dead.clone()
    };
    let _of_the_dead = store(&objects, LONG).lock(&dead, Duration::ZERO).await.unwrap();
    let lease = store(&objects, LONG)
        .lock(&lock_info("watch"), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(lease.taken_from, Some(dead));
    let objects = Arc::new(InMemory::new());
    let _of_another = store(&objects, LONG)
        .lock(&elsewhere, Duration::ZERO)
        .await
        .unwrap();
    let refused = store(&objects, LONG)
        .lock(&lock_info("scale"), Duration::ZERO)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, StateError::Locked { holder } if holder.id == "elsewhere"),
        "its process may live where we cannot see: {refused}"
    );
}
