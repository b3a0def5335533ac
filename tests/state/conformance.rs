//! What every place where state is kept does. A backend gives handles to one place, as two processes would have.

use std::{sync::Arc, time::Duration};

use runfleet::{
    journal,
    model::{
        ids::Serial,
        state::{History, MachineMemory, State},
    },
    state::{StateError, StateStore, file::FileStore, lock::lock_info, memory::MemoryStore},
};

use super::{address, at, create, stack, state};

trait Backend {
    fn open(&self) -> Arc<dyn StateStore>;
}

struct Folder(tempfile::TempDir);

impl Backend for Folder {
    fn open(&self) -> Arc<dyn StateStore> {
        Arc::new(FileStore::new(self.0.path(), &stack()))
    }
}

struct Memory(MemoryStore);

impl Backend for Memory {
    fn open(&self) -> Arc<dyn StateStore> {
        Arc::new(self.0.clone())
    }
}

/// A bucket in the memory of this process.
#[cfg(feature = "object")]
struct Objects(Arc<dyn object_store::ObjectStore>);

#[cfg(feature = "object")]
impl Backend for Objects {
    fn open(&self) -> Arc<dyn StateStore> {
        Arc::new(super::places::objects(&self.0))
    }
}

/// A bucket of moto's S3.
#[cfg(feature = "object")]
struct Bucket(super::places::Bucket);

#[cfg(feature = "object")]
impl Backend for Bucket {
    fn open(&self) -> Arc<dyn StateStore> {
        Arc::new(self.0.open())
    }
}

/// A state of the sandbox's GitLab.
#[cfg(feature = "sandbox")]
struct Gitlab(super::places::Gitlab);

#[cfg(feature = "sandbox")]
impl Backend for Gitlab {
    fn open(&self) -> Arc<dyn StateStore> {
        Arc::new(self.0.open())
    }
}

macro_rules! conformance {
    ($($rule:ident),* $(,)?) => {
        mod files {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&super::Folder(tempfile::tempdir().unwrap())).await;
            })*
        }

        mod memory {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&super::Memory(super::MemoryStore::new(&super::stack()))).await;
            })*
        }

        #[cfg(feature = "object")]
        mod objects {
            $(#[tokio::test]
            async fn $rule() {
                let objects = std::sync::Arc::new(object_store::memory::InMemory::new());
                super::$rule(&super::Objects(objects)).await;
            })*
        }

        #[cfg(feature = "object")]
        mod s3 {
            $(#[tokio::test]
            async fn $rule() {
                if let Some(bucket) = crate::places::Bucket::new().await {
                    super::$rule(&super::Bucket(bucket)).await;
                }
            })*
        }

        #[cfg(feature = "sandbox")]
        mod http {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&super::Gitlab(crate::places::Gitlab::start().await)).await;
            })*
        }
    };
}

conformance! {
    a_new_place_has_no_state_no_journal_and_an_empty_history,
    what_was_saved_is_loaded_by_another,
    a_save_must_follow_the_serial_that_is_there,
    of_two_saves_that_follow_one_serial_one_is_refused,
    a_wrong_state_is_not_written,
    entries_are_loaded_in_the_order_in_which_they_were_recorded,
    of_entries_that_are_recorded_at_once_none_is_lost_and_each_call_s_stay_in_order,
    a_save_drops_the_journal_that_it_folds_in,
    entries_for_another_serial_are_refused,
    a_history_is_replaced_and_outlives_saves,
    a_lock_is_held_by_one,
    who_waits_for_a_lock_gets_it_when_it_is_released,
    a_released_lock_leaves_no_holder,
    the_holder_of_a_lock_is_told_without_disturbing_it,
    a_lock_is_taken_by_its_id_and_by_no_other,
    each_state_that_was_replaced_is_kept,
    a_first_state_may_have_any_serial_and_the_next_follows_it,
}

async fn a_new_place_has_no_state_no_journal_and_an_empty_history(place: &dyn Backend) {
    let loaded = place.open().load().await.unwrap();
    assert!(loaded.state.is_none() && loaded.entries.is_empty() && loaded.mended.is_empty());
    assert_eq!(loaded.history, History::default());
}

async fn what_was_saved_is_loaded_by_another(place: &dyn Backend) {
    place.open().save(&state(1, 3), Serial(0)).await.unwrap();
    let mut second = state(2, 2);
    place.open().save(&second, Serial(1)).await.unwrap();
    let loaded = place.open().load().await.unwrap();
    assert_eq!(loaded.state, Some(second.clone()));
    second.serial = Serial(3);
    second.resources.clear();
    place.open().save(&second, Serial(2)).await.unwrap();
    assert_eq!(place.open().load().await.unwrap().state, Some(second));
}

async fn a_save_must_follow_the_serial_that_is_there(place: &dyn Backend) {
    let store = place.open();
    let refused = store.save(&state(2, 1), Serial(1)).await.unwrap_err();
    assert!(
        matches!(refused, StateError::Stale { found: Serial(0), .. }),
        "{refused}"
    );
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    for (serial, expected) in [(1, 0), (6, 5), (3, 1), (1, 1)] {
        assert!(
            store.save(&state(serial, 2), Serial(expected)).await.is_err(),
            "{serial} after {expected}"
        );
    }
    assert_eq!(store.load().await.unwrap().state, Some(state(1, 1)));
}

async fn of_two_saves_that_follow_one_serial_one_is_refused(place: &dyn Backend) {
    let store = place.open();
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    let (two, three) = (state(2, 2), state(2, 3));
    let (one, other) = tokio::join!(store.save(&two, Serial(1)), store.save(&three, Serial(1)));
    let (saved, refused) = if one.is_ok() { (two, other) } else { (three, one) };
    let refused = refused.unwrap_err();
    assert!(
        matches!(
            refused,
            StateError::Stale {
                expected: Serial(1),
                found: Serial(2)
            }
        ),
        "{refused}"
    );
    assert_eq!(store.load().await.unwrap().state, Some(saved));
}

async fn a_wrong_state_is_not_written(place: &dyn Backend) {
    let store = place.open();
    store.save(&state(1, 2), Serial(0)).await.unwrap();
    let mut double = state(2, 2);
    let twin = double.resources[&address(0)].clone();
    double.resources.insert(address(1), twin);
    assert!(
        store
            .save(&double, Serial(1))
            .await
            .unwrap_err()
            .to_string()
            .contains("S6")
    );
    let mut other = state(2, 2);
    other.stack = "dev".into();
    let refused = store.save(&other, Serial(1)).await.unwrap_err();
    assert!(matches!(refused, StateError::OtherStack { .. }), "{refused}");
    assert_eq!(store.load().await.unwrap().state, Some(state(1, 2)));
}

async fn entries_are_loaded_in_the_order_in_which_they_were_recorded(place: &dyn Backend) {
    place.open().save(&state(1, 0), Serial(0)).await.unwrap();
    for number in 0..4 {
        let [begin, registered, end] = create(number);
        // Two handles in turn, as two processes one after the other.
        place.open().record(Serial(1), &[begin]).await.unwrap();
        place.open().record(Serial(1), &[registered, end]).await.unwrap();
    }
    place.open().record(Serial(1), &[]).await.unwrap();
    let loaded = place.open().load().await.unwrap();
    assert_eq!(loaded.entries, (0..4).flat_map(create).collect::<Vec<_>>());
    let folded = journal::fold(loaded.state.unwrap(), &loaded.entries).unwrap();
    assert_eq!(folded.state.resources, state(1, 4).resources);
}

async fn of_entries_that_are_recorded_at_once_none_is_lost_and_each_call_s_stay_in_order(
    place: &dyn Backend,
) {
    let store = place.open();
    let calls = (0..40).map(|number| {
        let store = Arc::clone(&store);
        async move {
            for entry in create(number) {
                store.record(Serial(0), &[entry]).await.unwrap();
            }
        }
    });
    futures::future::join_all(calls).await;
    let entries = place.open().load().await.unwrap().entries;
    assert_eq!(entries.len(), 120);
    let empty = State::empty(stack(), "4f1d2c3b5a697887".into());
    let folded = journal::fold(empty, &entries).unwrap();
    assert_eq!(folded.state.resources.len(), 40);
    assert_eq!(folded.open, []);
}

async fn a_save_drops_the_journal_that_it_folds_in(place: &dyn Backend) {
    let store = place.open();
    store.record(Serial(0), &create(0)).await.unwrap();
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    assert_eq!(place.open().load().await.unwrap().entries, []);
    store.record(Serial(1), &create(1)).await.unwrap();
    let loaded = place.open().load().await.unwrap();
    assert_eq!(loaded.state, Some(state(1, 1)));
    assert_eq!(loaded.entries, create(1));
}

async fn entries_for_another_serial_are_refused(place: &dyn Backend) {
    let (store, other) = (place.open(), place.open());
    store.record(Serial(0), &create(0)).await.unwrap();
    other.save(&state(1, 1), Serial(0)).await.unwrap();
    for base in [0, 2] {
        let refused = store.record(Serial(base), &create(1)).await.unwrap_err();
        assert!(
            matches!(refused, StateError::Stale { found: Serial(1), .. }),
            "{base}: {refused}"
        );
    }
    assert_eq!(place.open().load().await.unwrap().entries, []);
}

async fn a_history_is_replaced_and_outlives_saves(place: &dyn Backend) {
    let store = place.open();
    let mut history = History::default();
    history.condemned.insert("hetzner machine 1".to_owned(), at(3));
    store.save_history(&history).await.unwrap();
    history.machines.insert(
        address(0),
        MachineMemory {
            idle_since: Some(at(4)),
            ..MachineMemory::default()
        },
    );
    history
        .launch_budgets
        .insert(super::record(0).offering().unwrap().clone(), 4);
    store.save_history(&history).await.unwrap();
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    let other = place.open();
    assert_eq!(other.load().await.unwrap().history, history);
    assert_eq!(other.load_history().await.unwrap(), history);
}

async fn a_lock_is_held_by_one(place: &dyn Backend) {
    let (store, other) = (place.open(), place.open());
    let info = lock_info("scale");
    let lease = store.lock(&info, Duration::ZERO).await.unwrap();
    assert_eq!((&lease.info, &lease.taken_from), (&info, &None));
    for second in [&store, &other] {
        match second.lock(&lock_info("apply"), Duration::ZERO).await {
            // GitLab tells of a holder no more than its id, its user and its time; ours has the operation in its id.
            Err(StateError::Locked { holder }) => {
                assert_eq!(
                    (holder.id, holder.operation, holder.info),
                    (info.id.clone(), info.operation.clone(), info.info.clone())
                );
            }
            answer => panic!("{answer:?}"),
        }
    }
    store.unlock(lease).await.unwrap();
}

async fn who_waits_for_a_lock_gets_it_when_it_is_released(place: &dyn Backend) {
    let (store, other) = (place.open(), place.open());
    let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let next = lock_info("apply");
    let waits = other.lock(&next, Duration::from_secs(300));
    let releases = async {
        tokio::task::yield_now().await;
        store.unlock(lease).await.unwrap();
    };
    let (waited, ()) = tokio::join!(waits, releases);
    assert_eq!(waited.unwrap().info, next);
}

async fn a_released_lock_leaves_no_holder(place: &dyn Backend) {
    for _ in 0..3 {
        let store = place.open();
        let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
        assert_eq!(lease.taken_from, None);
        store.unlock(lease).await.unwrap();
    }
}

async fn the_holder_of_a_lock_is_told_without_disturbing_it(place: &dyn Backend) {
    let store = place.open();
    assert_eq!(store.holder().await.unwrap(), None);
    let info = lock_info("scale");
    let lease = store.lock(&info, Duration::ZERO).await.unwrap();
    assert_eq!(
        place.open().holder().await.unwrap().map(|holder| holder.id),
        Some(info.id)
    );
    store.unlock(lease).await.unwrap();
    assert_eq!(store.holder().await.unwrap(), None);
}

async fn a_lock_is_taken_by_its_id_and_by_no_other(place: &dyn Backend) {
    let store = place.open();
    assert_eq!(store.unlock_by_force("any").await.unwrap(), None, "nobody has it");
    let info = lock_info("scale");
    let lease = store.lock(&info, Duration::ZERO).await.unwrap();
    match store.unlock_by_force("another").await {
        Err(StateError::Locked { holder }) => assert_eq!(holder.id, info.id),
        answer => panic!("{answer:?}"),
    }
    assert_eq!(
        store.holder().await.unwrap().map(|holder| holder.id),
        Some(info.id)
    );
    store.unlock(lease).await.unwrap();
}

async fn each_state_that_was_replaced_is_kept(place: &dyn Backend) {
    let store = place.open();
    assert_eq!(store.versions().await.unwrap(), []);
    for serial in 1..=14_u64 {
        let machines = usize::try_from(serial).unwrap();
        store
            .save(&state(serial, machines), Serial(serial - 1))
            .await
            .unwrap();
    }
    let kept = place.open().versions().await.unwrap();
    let serials: Vec<u64> = kept.iter().map(|version| version.serial.0).collect();
    assert_eq!(
        serials,
        [13, 12, 11, 10, 9, 8, 7, 6, 5, 4],
        "newest first, ten besides the current"
    );
    assert_eq!(kept[0].resources, 13);
    assert_eq!(kept[0].lineage, state(1, 0).lineage);
    assert_eq!(store.version(Serial(13)).await.unwrap(), Some(state(13, 13)));
    for gone in [1, 3, 99] {
        assert_eq!(store.version(Serial(gone)).await.unwrap(), None);
    }
}

async fn a_first_state_may_have_any_serial_and_the_next_follows_it(place: &dyn Backend) {
    let store = place.open();
    store.save(&state(41, 1), Serial(0)).await.unwrap();
    assert!(store.save(&state(44, 1), Serial(41)).await.is_err());
    store.save(&state(42, 2), Serial(41)).await.unwrap();
    assert_eq!(store.load().await.unwrap().state, Some(state(42, 2)));
}
