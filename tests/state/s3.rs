//! What an object store in particular must do, against moto's S3.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use object_store::{ObjectStore, memory::InMemory};
use runfleet::{
    model::ids::Serial,
    state::{
        RemoteError, StateError, StateStore as _,
        lock::lock_info,
        object::{LeaseTimes, s3},
    },
};

use super::{
    create,
    places::{self, Bucket},
    state,
};

#[tokio::test]
async fn of_24_that_create_the_state_at_once_one_wins() {
    let Some(bucket) = Bucket::new().await else { return };
    let stores: Vec<_> = (0..24).map(|_| bucket.open()).collect();
    let saved = join_all(
        stores
            .iter()
            .enumerate()
            .map(|(number, store)| async move { store.save(&state(1, number), Serial(0)).await }),
    )
    .await;
    let won: Vec<usize> = (0..24).filter(|number| saved[*number].is_ok()).collect();
    assert_eq!(won.len(), 1, "{saved:?}");
    let there = bucket.open().load().await.unwrap().state.unwrap();
    assert_eq!(there, state(1, won[0]));
    for refused in saved.iter().filter_map(|saved| saved.as_ref().err()) {
        assert!(
            matches!(refused, StateError::Stale { found: Serial(1), .. }),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn of_24_that_take_the_lock_at_once_one_wins_and_the_others_say_who() {
    let Some(bucket) = Bucket::new().await else { return };
    let stores: Vec<_> = (0..24).map(|_| bucket.open()).collect();
    let infos: Vec<_> = stores.iter().map(|_| lock_info("scale")).collect();
    let taken = join_all(
        stores
            .iter()
            .zip(&infos)
            .map(|(store, info)| store.lock(info, Duration::ZERO)),
    )
    .await;
    let winner = taken.iter().find_map(|taken| taken.as_ref().ok()).unwrap();
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
    for refused in taken.iter().filter_map(|taken| taken.as_ref().err()) {
        match refused {
            StateError::Locked { holder } => assert_eq!(**holder, winner.info),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn the_lock_of_a_holder_that_stopped_renewing_is_taken_and_it_cannot_write_any_more() {
    let Some(bucket) = Bucket::new().await else { return };
    bucket.open().save(&state(1, 1), Serial(0)).await.unwrap();
    let times = LeaseTimes {
        length: Duration::from_secs(1),
        longest_call: Duration::from_millis(100),
    };
    let old = {
        // Its runtime is gone, and with it whoever would renew.
        let bucket = bucket.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let old = bucket.open_with(times);
                old.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
                old.load().await.unwrap();
                old.record(Serial(1), &create(7)).await.unwrap();
                old
            })
        })
        .join()
        .unwrap()
    };
    let new = bucket.open();
    let lease = new
        .lock(&lock_info("apply"), Duration::from_secs(60))
        .await
        .unwrap();
    assert!(lease.taken_from.is_some());
    assert_eq!(new.load().await.unwrap().entries, create(7));
    let refused = old.save(&state(2, 1), Serial(1)).await.unwrap_err();
    assert!(
        matches!(refused, StateError::Remote(RemoteError::LeaseEnded { .. })),
        "{refused}"
    );
    assert!(old.record(Serial(1), &create(8)).await.is_err());
    new.save(&state(2, 2), Serial(1)).await.unwrap();
    new.unlock(lease).await.unwrap();
    assert_eq!(bucket.open().load().await.unwrap().state, Some(state(2, 2)));
}

#[tokio::test]
async fn what_an_entry_costs_does_not_depend_on_how_many_there_are() {
    async fn bytes(count: usize) -> (u64, u64) {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = places::objects(&objects);
        store.save(&state(1, 50), Serial(0)).await.unwrap();
        store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
        for number in 100..100 + count {
            for entry in create(number) {
                store.record(Serial(1), &[entry]).await.unwrap();
            }
        }
        let folder = object_store::path::Path::from("ci/prod.journal");
        let sizes: Vec<u64> = objects
            .list(Some(&folder))
            .map(|meta| meta.unwrap().size)
            .collect()
            .await;
        assert_eq!(
            sizes.len(),
            3 * count,
            "one object for each of what came one after the other"
        );
        (sizes.iter().sum(), *sizes.iter().max().unwrap())
    }
    let ((few, largest), (many, larger)) = (bytes(20).await, bytes(200).await);
    assert!(many <= few * 10 + 2000, "{few} {many}");
    assert!(larger <= largest + 20, "{largest} {larger}");
}

#[tokio::test]
async fn entries_that_come_at_once_share_objects() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Arc::new(places::objects(&objects));
    join_all((0..60).map(|number| {
        let store = Arc::clone(&store);
        async move { store.record(Serial(0), &create(number)).await.unwrap() }
    }))
    .await;
    let folder = object_store::path::Path::from("ci/prod.journal");
    let count = objects.list(Some(&folder)).count().await;
    assert!(count < 30, "{count} objects for 60 records");
    assert_eq!(store.load().await.unwrap().entries.len(), 180);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_and_a_server_that_does_not_answer_are_told_apart() {
    let Some(mut bucket) = Bucket::new().await else {
        return;
    };
    bucket.name = "no-such-bucket".to_owned();
    for refused in [
        bucket.open().load().await.map(drop),
        bucket.open().save(&state(1, 1), Serial(0)).await,
        bucket
            .open()
            .lock(&lock_info("scale"), Duration::ZERO)
            .await
            .map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, StateError::Remote(RemoteError::Missing { why, .. }) if why.contains("NoSuchBucket")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn no_key_is_in_an_error_or_a_debug_text() {
    let Some(mut bucket) = Bucket::new().await else {
        return;
    };
    bucket.name = "no-such-bucket".to_owned();
    let store = bucket.open();
    let error = store.load().await.unwrap_err();
    let (objects, _) = bucket.connect();
    for text in [
        format!("{error} {error:?}"),
        format!("{store:?}"),
        format!("{objects}"),
    ] {
        assert!(!text.contains("s3cretkey"), "{text}");
    }
    let config = s3::S3Config {
        keys: Some(("AKIDEXAMPLE".into(), "s3cretkey".into())),
        ..s3::S3Config::default()
    };
    assert!(!format!("{config:?}").contains("s3cretkey"));
}
