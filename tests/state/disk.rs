//! A full disk: a real one of 64 KiB.

use std::{io, path::Path, process::Command};

use runfleet::{
    model::{ids::Serial, state::History},
    state::{StateError, StateStore, file::FileStore},
};

use super::{create, stack, state};

/// A file system of 64 KiB in memory; unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where mounting is not permitted.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"])
            .arg(folder.path())
            .output();
        let done = mounted.is_ok_and(|output| output.status.success());
        done.then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn is_full(error: &StateError, what: &str) -> bool {
    matches!(error, StateError::Io { doing: "write", place, source }
        if place.ends_with(what) && source.kind() == io::ErrorKind::StorageFull)
}

#[tokio::test]
async fn a_full_disk_keeps_the_old_state_and_every_entry_that_was_promised() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a tmpfs is not permitted here");
        return;
    };
    let store = FileStore::new(disk.path(), &stack());
    store.save(&state(1, 5), Serial(0)).await.unwrap();

    let error = store.save(&state(2, 500), Serial(1)).await.unwrap_err();
    assert!(is_full(&error, "prod.json"), "{error:?}");
    assert_eq!(
        disk.names(),
        ["prod.json", "prod.states"],
        "the temporary file is gone"
    );
    assert_eq!(store.load().await.unwrap().state, Some(state(1, 5)));

    let mut promised = Vec::new();
    let error = loop {
        assert!(promised.len() < 1_000, "the disk should be full by now");
        let entries = create(100 + promised.len());
        match store.record(Serial(1), &entries).await {
            Ok(()) => promised.extend(entries),
            Err(error) => break error,
        }
    };
    assert!(is_full(&error, "prod.journal"), "{error:?}");
    assert!(!promised.is_empty());
    let loaded = FileStore::new(disk.path(), &stack()).load().await.unwrap();
    assert_eq!(loaded.state, Some(state(1, 5)));
    assert_eq!(loaded.entries, promised);
    assert_eq!(
        loaded.mended, [""; 0],
        "what could not be written whole was cut off"
    );

    let error = store
        .save_history(&History::default())
        .await
        .map_err(|error| is_full(&error, "prod.history"));
    assert_ne!(error, Err(false));

    // With room again it goes on.
    Command::new("mount")
        .args(["-o", "remount,size=1m"])
        .arg(disk.path())
        .status()
        .unwrap();
    store.record(Serial(1), &create(9)).await.unwrap();
    assert_eq!(
        store.load().await.unwrap().entries,
        [promised, create(9).to_vec()].concat()
    );
    store.save(&state(2, 50), Serial(1)).await.unwrap();
    assert_eq!(store.version(Serial(1)).await.unwrap(), Some(state(1, 5)));
}

#[tokio::test]
async fn a_disk_that_is_full_of_kept_states_loses_neither_the_current_nor_the_next() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a tmpfs is not permitted here");
        return;
    };
    let store = FileStore::new(disk.path(), &stack()).keeping(100);
    let (mut saved, mut error) = (0, None);
    while error.is_none() && saved < 1_000 {
        match store.save(&state(saved + 1, 3), Serial(saved)).await {
            Ok(()) => saved += 1,
            Err(refused) => error = Some(refused),
        }
    }
    assert!(is_full(&error.unwrap(), "prod.json"));
    assert!(saved > 3, "{saved}");
    assert_eq!(store.load().await.unwrap().state, Some(state(saved, 3)));
    for version in store.versions().await.unwrap() {
        let kept = store.version(version.serial).await.unwrap().unwrap();
        assert_eq!(kept, state(version.serial.0, 3), "each is whole");
    }
    // Fewer are kept: there is room again.
    let frugal = FileStore::new(disk.path(), &stack()).keeping(2);
    let older = disk.path().join("prod.states");
    std::fs::remove_file(older.join("1.json")).unwrap();
    std::fs::remove_file(older.join("2.json")).unwrap();
    frugal.save(&state(saved + 1, 3), Serial(saved)).await.unwrap();
    let kept: Vec<u64> = frugal
        .versions()
        .await
        .unwrap()
        .iter()
        .map(|version| version.serial.0)
        .collect();
    assert_eq!(kept, [saved, saved - 1]);
}
