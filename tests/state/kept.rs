//! The states that are kept: crashes around them, and what may be wrong with them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use runfleet::{
    model::ids::Serial,
    state::{StateStore, file::FileStore},
};

use super::{stack, state};

fn serials(versions: &[runfleet::state::StateVersion]) -> Vec<u64> {
    versions.iter().map(|version| version.serial.0).collect()
}

#[tokio::test]
async fn a_kept_state_is_another_name_of_the_file_that_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    store.save(&state(1, 3), Serial(0)).await.unwrap();
    let before = fs::metadata(folder.path().join("prod.json")).unwrap();
    store.save(&state(2, 2), Serial(1)).await.unwrap();
    let kept = fs::metadata(folder.path().join("prod.states/1.json")).unwrap();
    assert_eq!(kept.ino(), before.ino());
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let states = fs::metadata(folder.path().join("prod.states")).unwrap();
    assert_eq!(states.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_crash_between_keeping_a_state_and_replacing_it_leaves_the_old_state_and_one_name_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    store.save(&state(2, 2), Serial(1)).await.unwrap();
    // Killed after the second name, before the rename.
    fs::hard_link(
        folder.path().join("prod.json"),
        folder.path().join("prod.states/2.json"),
    )
    .unwrap();
    let store = FileStore::new(folder.path(), &stack());
    assert_eq!(store.load().await.unwrap().state, Some(state(2, 2)));
    assert_eq!(
        serials(&store.versions().await.unwrap()),
        [1],
        "the current one is no earlier one"
    );
    store.save(&state(3, 3), Serial(2)).await.unwrap();
    assert_eq!(serials(&store.versions().await.unwrap()), [2, 1]);
    assert_eq!(store.version(Serial(2)).await.unwrap(), Some(state(2, 2)));
}

#[tokio::test]
async fn a_state_that_was_put_back_by_hand_takes_the_place_of_those_that_were_kept_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    for serial in 1..=5 {
        store.save(&state(serial, 1), Serial(serial - 1)).await.unwrap();
    }
    let old = fs::read(folder.path().join("prod.states/2.json")).unwrap();
    fs::remove_file(folder.path().join("prod.json")).unwrap();
    fs::write(folder.path().join("prod.json"), old).unwrap();
    store.save(&state(3, 9), Serial(2)).await.unwrap();
    store.save(&state(4, 8), Serial(3)).await.unwrap();
    assert_eq!(store.version(Serial(3)).await.unwrap(), Some(state(3, 9)));
}

#[tokio::test]
async fn a_kept_state_that_cannot_be_read_is_passed_over_and_told_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    for serial in 1..=4 {
        store.save(&state(serial, 1), Serial(serial - 1)).await.unwrap();
    }
    let states = folder.path().join("prod.states");
    fs::remove_file(states.join("2.json")).unwrap();
    fs::write(states.join("2.json"), b"{\"version\":").unwrap();
    fs::remove_file(states.join("1.json")).unwrap();
    fs::copy(states.join("3.json"), states.join("1.json")).unwrap();
    fs::write(states.join("notes.txt"), b"").unwrap();
    assert_eq!(serials(&store.versions().await.unwrap()), [3]);
    let refused = store.version(Serial(2)).await.unwrap_err().to_string();
    assert!(
        refused.contains("2.json") && refused.contains("line 1"),
        "{refused}"
    );
    let refused = store.version(Serial(1)).await.unwrap_err().to_string();
    assert!(refused.contains("it holds serial 3"), "{refused}");
}

#[tokio::test]
async fn where_a_state_cannot_be_kept_the_next_is_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    // A file where the folder should be.
    fs::write(folder.path().join("prod.states"), b"").unwrap();
    store.save(&state(2, 2), Serial(1)).await.unwrap();
    assert_eq!(store.load().await.unwrap().state, Some(state(2, 2)));
}

#[tokio::test]
async fn a_stack_that_keeps_none_makes_no_folder_and_removes_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack()).keeping(0);
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    store.save(&state(2, 1), Serial(1)).await.unwrap();
    assert!(!folder.path().join("prod.states").exists());
}

#[tokio::test]
async fn beside_an_unreadable_state_all_that_are_kept_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    for serial in 1..=3 {
        store.save(&state(serial, 1), Serial(serial - 1)).await.unwrap();
    }
    fs::remove_file(folder.path().join("prod.json")).unwrap();
    fs::write(folder.path().join("prod.json"), b"{").unwrap();
    assert!(store.load().await.is_err());
    assert_eq!(serials(&store.versions().await.unwrap()), [2, 1]);
}
