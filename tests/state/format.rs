//! Formats of every version: read, refused by name, and upgraded only by a write.

use std::{fs, path::Path};

use runfleet::{
    model::{
        ids::{Serial, StackName},
        state::{History, STATE_VERSION},
    },
    state::{StateError, StateStore, file::FileStore},
};

use super::{create, stack, state};

/// Written by runfleet at commit 9240cd0, for the stack `local` after its first tick.
const V1: &[u8] = include_bytes!("golden/v1.json");
const V1_HISTORY: &[u8] = include_bytes!("golden/v1.history");

fn local() -> StackName {
    "local".into()
}

fn folder_with(name: &str, content: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    folder
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

#[tokio::test]
async fn a_state_of_version_1_is_read_as_what_it_means_and_stays_as_it_is_until_the_next_write() {
    let folder = folder_with("local.json", V1);
    fs::write(folder.path().join("local.history"), V1_HISTORY).unwrap();
    let store = FileStore::new(folder.path(), &local());
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.mended, [""; 0]);
    assert!(!loaded.history.decisions.is_empty());
    let mut state = loaded.state.unwrap();
    assert_eq!(
        (state.version, state.serial, state.resources.len()),
        (STATE_VERSION, Serial(2), 5)
    );
    assert!(state.disowned.is_empty() && state.released.is_empty() && state.written.is_none());
    store.save_history(&loaded.history).await.unwrap();
    store.record(Serial(2), &[]).await.unwrap();
    assert_eq!(
        read(folder.path(), "local.json"),
        V1,
        "reading upgrades nothing on disk"
    );

    state.serial = Serial(3);
    store.save(&state, Serial(2)).await.unwrap();
    let text = String::from_utf8(read(folder.path(), "local.json")).unwrap();
    assert!(text.starts_with("{\n  \"version\": 2,\n"), "{text}");
    assert_eq!(store.load().await.unwrap().state, Some(state));
    assert_eq!(
        read(folder.path(), "local.states/2.json"),
        V1,
        "and it is kept as it was"
    );
    let before = store.version(Serial(2)).await.unwrap().unwrap();
    assert_eq!(before.resources.len(), 5);
}

#[tokio::test]
async fn what_upgrading_must_not_change_is_every_record() {
    let folder = folder_with("local.json", V1);
    let loaded = FileStore::new(folder.path(), &local()).load().await.unwrap();
    let upgraded = serde_json::to_value(loaded.state.unwrap()).unwrap();
    let old: serde_json::Value = serde_json::from_slice(V1).unwrap();
    assert_eq!(upgraded["resources"], old["resources"]);
    assert_eq!(upgraded["lineage"], old["lineage"]);
}

#[tokio::test]
async fn a_version_that_is_none_is_refused_with_what_it_is_and_the_file_stays() {
    let whole = String::from_utf8(V1.to_vec()).unwrap();
    for (version, told) in [
        ("\"version\": 0", "`version` is 0"),
        ("\"version\": -3", "`version` is -3"),
        ("\"version\": \"2\"", "`version` is \"2\""),
        ("\"version\": 1.5", "`version` is 1.5"),
        ("\"versions\": 1", "it has no `version`"),
        ("\"version\": 3", "format version 3"),
        (
            "\"version\": 18446744073709551615",
            "format version 18446744073709551615",
        ),
    ] {
        let text = whole.replacen("\"version\": 1", version, 1);
        let folder = folder_with("local.json", text.as_bytes());
        let store = FileStore::new(folder.path(), &local());
        let mut next = state(3, 0);
        next.stack = local();
        for answer in [
            store.load().await.map(drop),
            store.save(&next, Serial(2)).await,
            store.record(Serial(2), &create(0)).await,
        ] {
            let refused = answer.unwrap_err();
            assert!(refused.to_string().contains(told), "{version}: {refused}");
        }
        assert_eq!(read(folder.path(), "local.json"), text.as_bytes());
    }
}

#[tokio::test]
async fn a_record_that_is_wrong_in_an_earlier_version_is_told_with_line_and_column() {
    let text =
        String::from_utf8(V1.to_vec())
            .unwrap()
            .replacen("\"provider\": \"hetzner\"", "\"provider\": 7", 1);
    let folder = folder_with("local.json", text.as_bytes());
    let error = FileStore::new(folder.path(), &local()).load().await.unwrap_err();
    assert!(error.to_string().contains("at line 8 column"), "{error}");
}

#[tokio::test]
async fn a_history_of_a_later_version_is_refused_and_not_overwritten() {
    let text = b"{\"version\":9,\"machines\":[]}\n";
    let folder = folder_with("prod.history", text);
    let store = FileStore::new(folder.path(), &stack());
    for answer in [
        store.load().await.map(drop),
        store.load_history().await.map(drop),
        store.save_history(&History::default()).await,
    ] {
        let refused = answer.unwrap_err();
        assert!(matches!(refused, StateError::Newer { found: 9, .. }), "{refused}");
    }
    assert_eq!(read(folder.path(), "prod.history"), text);
}

#[tokio::test]
async fn an_invariant_that_is_broken_is_refused_by_its_number_when_read_and_when_written() {
    let (good, folder) = (state(2, 2), tempfile::tempdir().unwrap());
    let store = FileStore::new(folder.path(), &stack());
    store.save(&state(1, 2), Serial(0)).await.unwrap();
    let mut released = good.clone();
    let target = released.resources.values().next().unwrap().target();
    released.released.insert(target);
    let mut disowned = good.clone();
    disowned.disowned.insert(good.lineage.clone());
    let mut nameless = good.clone();
    nameless.lineage = "".into();
    for (number, wrong) in [("S10", released), ("S11", disowned), ("S3", nameless)] {
        let refused = store.save(&wrong, Serial(1)).await.unwrap_err().to_string();
        assert!(refused.contains(number), "{number}: {refused}");
        let folder = folder_with("prod.json", &serde_json::to_vec(&wrong).unwrap());
        let refused = FileStore::new(folder.path(), &stack())
            .load()
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(number), "{number}: {refused}");
    }
}
