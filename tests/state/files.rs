//! What files can suffer: crashes at every boundary, torn ends, foreign bytes; and what an operation costs.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use proptest::prelude::*;
use runfleet::{
    journal,
    model::{ids::Serial, state::History},
    state::{StateError, StateStore, file::FileStore, lock::lock_info},
};

use super::{create, stack, state};

fn store(folder: &Path) -> FileStore {
    FileStore::new(folder, &stack())
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A folder with these files in it.
fn folder_with(files: Files<'_>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// The files of a state of serial 1 with two machines: the state, and a journal that makes a third.
async fn written() -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&state(1, 2), Serial(0)).await.unwrap();
    store.record(Serial(1), &create(2)).await.unwrap();
    let read = |name| fs::read(folder.path().join(name)).unwrap();
    (read("prod.json"), read("prod.journal"))
}

#[tokio::test]
async fn the_state_file_is_json_for_people_with_its_version_lineage_and_serial_on_top() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&state(1, 1), Serial(0)).await.unwrap();
    store.record(Serial(1), &create(2)).await.unwrap();
    store.save_history(&History::default()).await.unwrap();
    let _lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    let text = fs::read_to_string(folder.path().join("prod.json")).unwrap();
    assert!(
        text.starts_with("{\n  \"version\": 2,\n  \"lineage\": \"4f1d2c3b5a697887\",\n  \"serial\": 1,\n"),
        "{text}"
    );
    assert!(text.ends_with("}\n") && !text.ends_with("\n\n"));
    for line in fs::read_to_string(folder.path().join("prod.journal"))
        .unwrap()
        .lines()
    {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["crc"].as_str().unwrap().len(), 8);
    }
    for name in ["prod.json", "prod.journal", "prod.history", "prod.lock"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_crash_at_any_boundary_leaves_the_old_state_with_its_journal_or_the_new_one_without() {
    let (old, journal) = written().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prod.json"), &old).unwrap();
    fs::write(folder.path().join("prod.journal"), &journal).unwrap();
    store(folder.path()).save(&state(2, 3), Serial(1)).await.unwrap();
    let new = fs::read(folder.path().join("prod.json")).unwrap();
    let half = &new[..new.len() / 2];

    let boundaries: [(&str, Files<'_>, u64); 5] = [
        (
            "after the record",
            &[("prod.json", &old), ("prod.journal", &journal)],
            1,
        ),
        (
            "while the temporary file is written",
            &[
                ("prod.json", &old),
                ("prod.journal", &journal),
                ("prod.json.a1b2.tmp", half),
            ],
            1,
        ),
        (
            "before the rename",
            &[
                ("prod.json", &old),
                ("prod.journal", &journal),
                ("prod.json.a1b2.tmp", &new),
            ],
            1,
        ),
        (
            "before the journal is removed",
            &[("prod.json", &new), ("prod.journal", &journal)],
            2,
        ),
        ("after it", &[("prod.json", &new)], 2),
    ];
    for (boundary, files, serial) in boundaries {
        let folder = folder_with(files);
        let store = store(folder.path());
        let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
        let loaded = store.load().await.unwrap();
        let have = loaded.state.unwrap();
        assert_eq!(have.serial, Serial(serial), "{boundary}");
        assert_eq!(loaded.mended, [""; 0], "{boundary}");
        let folded = journal::fold(have, &loaded.entries).unwrap();
        assert_eq!(folded.state.resources, state(1, 3).resources, "{boundary}");
        // The next tick goes on from there.
        store.record(Serial(serial), &create(3)).await.unwrap();
        let entries = store.load().await.unwrap().entries;
        assert_eq!(entries[entries.len() - 3..], create(3), "{boundary}");
        assert_eq!(entries.len(), if serial == 1 { 6 } else { 3 }, "{boundary}");
        store.save(&state(serial + 1, 4), Serial(serial)).await.unwrap();
        store.unlock(lease).await.unwrap();
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            3,
            "{boundary}: state, lock, and the states before it"
        );
    }
}

#[tokio::test]
async fn a_journal_torn_anywhere_is_mended_and_gone_on_with() {
    let (state, journal) = written().await;
    for cut in (0..=journal.len()).step_by(41).chain([journal.len() - 1]) {
        let folder = folder_with(&[("prod.json", &state), ("prod.journal", &journal[..cut])]);
        let store = store(folder.path());
        let before = store.load().await.unwrap();
        assert_eq!(before.entries, create(2)[..before.entries.len()], "{cut}");
        let torn = cut > 0 && journal[cut - 1] != b'\n' && journal[..cut].contains(&b'\n');
        assert_eq!(
            before.mended.len(),
            usize::from(torn),
            "{cut}: {:?}",
            before.mended
        );
        assert_eq!(
            fs::read(folder.path().join("prod.journal")).unwrap(),
            &journal[..cut],
            "reading mends nothing"
        );
        store.record(Serial(1), &create(7)).await.unwrap();
        let after = store.load().await.unwrap();
        assert_eq!(
            after.entries,
            [before.entries, create(7).to_vec()].concat(),
            "{cut}"
        );
        assert_eq!(after.mended, [""; 0], "{cut}");
    }
}

#[tokio::test]
async fn a_bad_line_in_the_middle_of_the_journal_is_corrupt_with_its_number_and_stays() {
    let (state, mut journal) = written().await;
    let second = journal.iter().position(|byte| *byte == b'\n').unwrap() + 30;
    journal[second] ^= 1;
    let folder = folder_with(&[("prod.json", &state), ("prod.journal", &journal)]);
    let store = store(folder.path());
    for error in [
        store.load().await.unwrap_err(),
        store.record(Serial(1), &create(7)).await.unwrap_err(),
    ] {
        match error {
            StateError::Corrupt { place, why } => {
                assert!(
                    place.ends_with("prod.journal") && why.starts_with("line 2: "),
                    "{place}: {why}"
                );
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(fs::read(folder.path().join("prod.journal")).unwrap(), journal);
}

#[tokio::test]
async fn a_journal_of_a_later_serial_or_without_its_state_is_corrupt_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let writer = store(folder.path());
    writer.save(&state(1, 1), Serial(0)).await.unwrap();
    let old = fs::read(folder.path().join("prod.json")).unwrap();
    writer.save(&state(2, 1), Serial(1)).await.unwrap();
    writer.record(Serial(2), &create(1)).await.unwrap();
    let journal = fs::read(folder.path().join("prod.journal")).unwrap();
    for files in [
        vec![("prod.journal", &journal[..])],
        vec![("prod.journal", &journal[..]), ("prod.json", &old[..])],
    ] {
        let folder = folder_with(&files);
        let error = store(folder.path()).load().await.unwrap_err().to_string();
        assert!(error.contains("extends a state of serial 2"), "{error}");
    }
    // A copy of another stack's journal, or of another lineage's.
    let folder = folder_with(&[("prod.json", &old), ("prod.journal", b"")]);
    let mut other = state(1, 0);
    other.lineage = "another".into();
    fs::write(
        folder.path().join("prod.json"),
        serde_json::to_vec(&other).unwrap(),
    )
    .unwrap();
    store(folder.path()).record(Serial(1), &create(1)).await.unwrap();
    fs::write(folder.path().join("prod.json"), &old).unwrap();
    let error = store(folder.path()).load().await.unwrap_err().to_string();
    assert!(error.contains("lineage another"), "{error}");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_told_and_never_overwritten() {
    let (good, _) = written().await;
    let newer = String::from_utf8(good.clone())
        .unwrap()
        .replacen("\"version\": 2", "\"version\": 7", 1);
    let other = String::from_utf8(good.clone())
        .unwrap()
        .replace("\"stack\": \"prod\"", "\"stack\": \"dev\"");
    let double = String::from_utf8(good.clone())
        .unwrap()
        .replace("50000001", "50000000");
    let cases: [(&str, &[u8], &str); 8] = [
        ("empty", b"", "it is empty"),
        ("cut", &good[..good.len() - 20], "line "),
        ("not JSON", b"resources:\n  - a\n", "line 1 column 1"),
        ("not an object", b"[]", "line 1"),
        ("not text", b"\xff\xfe\x00", "line 1 column 1"),
        ("newer", newer.as_bytes(), "format version 7"),
        ("another stack's", other.as_bytes(), "belongs to stack dev"),
        ("double", double.as_bytes(), "S6"),
    ];
    for (name, content, told) in cases {
        let folder = folder_with(&[("prod.json", content)]);
        let store = store(folder.path());
        let answers = [
            store.load().await.map(drop),
            store.save(&state(1, 0), Serial(0)).await,
            store.save(&state(2, 0), Serial(1)).await,
            store.record(Serial(0), &create(0)).await,
            store.record(Serial(1), &create(0)).await,
        ];
        for answer in answers {
            let error = answer.unwrap_err().to_string();
            assert!(
                error.contains(told) && error.contains("prod.json"),
                "{name}: {error}"
            );
        }
        assert_eq!(
            fs::read(folder.path().join("prod.json")).unwrap(),
            content,
            "{name}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
    }
}

#[tokio::test]
async fn an_unreadable_history_is_told_and_begun_anew() {
    let (state, journal) = written().await;
    let folder = folder_with(&[
        ("prod.json", &state),
        ("prod.journal", &journal),
        ("prod.history", b"{\"machines\": ["),
    ]);
    let store = store(folder.path());
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.entries, create(2));
    assert_eq!(loaded.mended.len(), 1);
    assert!(loaded.mended[0].contains("prod.history"), "{:?}", loaded.mended);
    store.save_history(&loaded.history).await.unwrap();
    assert_eq!(store.load().await.unwrap().mended, [""; 0]);
}

#[tokio::test]
async fn an_operation_costs_the_same_whatever_the_size_of_the_state() {
    const MACHINES: usize = 10_000;
    let cost = async |machines: usize| {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        store.save(&state(1, machines), Serial(0)).await.unwrap();
        let length = |name| fs::metadata(folder.path().join(name)).map_or(0, |metadata| metadata.len());
        let state = length("prod.json");
        store.record(Serial(1), &create(MACHINES)).await.unwrap();
        let header = length("prod.journal");
        store.record(Serial(1), &create(MACHINES + 1)).await.unwrap();
        assert_eq!(length("prod.json"), state);
        (state, length("prod.journal") - header)
    };
    let (small, create_in_small) = cost(1).await;
    let (large, create_in_large) = cost(MACHINES).await;
    assert_eq!(create_in_small, create_in_large);
    assert!(create_in_large < 2_500, "{create_in_large} bytes");
    let apply = MACHINES as u64 * create_in_large + small + large;
    assert!(apply < 50_000_000, "{apply} bytes");
}

#[tokio::test]
async fn a_reader_beside_a_writer_sees_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, reader) = (store(folder.path()), store(folder.path()));
    let writes = async {
        for serial in 0..40 {
            let number = usize::try_from(serial).unwrap();
            writer.record(Serial(serial), &create(number)).await.unwrap();
            writer
                .save(&state(serial + 1, number + 1), Serial(serial))
                .await
                .unwrap();
        }
    };
    let reads = async {
        let mut last = 0;
        while last < 40 {
            let loaded = reader.load().await.unwrap();
            let have = loaded.state.unwrap_or_else(|| {
                let mut empty = state(1, 0);
                empty.serial = Serial(0);
                empty
            });
            assert!(have.serial.0 >= last);
            last = have.serial.0;
            let folded = journal::fold(have, &loaded.entries).unwrap().state;
            assert!(folded.resources.len() as u64 >= last);
        }
    };
    tokio::join!(writes, reads);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Bytes that are nothing, or nearly what belongs there: a good file with some bytes replaced, or cut.
fn nearly(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let edited = (edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(edits, end, cut)| {
        let mut bytes = good.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), edited]
}

#[test]
fn whatever_is_in_the_state_file_it_is_read_or_kept_as_it_is() {
    let (good, journal) = block_on(written());
    proptest!(ProptestConfig::with_cases(128), |(bytes in nearly(good))| {
        let folder = folder_with(&[("prod.json", &bytes), ("prod.journal", &journal)]);
        let store = store(folder.path());
        block_on(async {
            if store.load().await.is_err() {
                for expected in [0, 1] {
                    let _ = store.record(Serial(expected), &create(5)).await;
                }
            }
        });
        prop_assert_eq!(fs::read(folder.path().join("prod.json")).unwrap(), bytes);
    });
}

#[test]
fn whatever_is_in_journal_and_history_the_state_is_not_lost() {
    let (good, journal) = block_on(written());
    proptest!(ProptestConfig::with_cases(128), |(journal in nearly(journal), history in nearly(b"{\"machines\":{}}\n".to_vec()))| {
        let folder = folder_with(&[("prod.json", &good), ("prod.journal", &journal), ("prod.history", &history)]);
        let store = store(folder.path());
        let (loaded, recorded, after) = block_on(async {
            (store.load().await, store.record(Serial(1), &create(5)).await, store.load().await)
        });
        prop_assert_eq!(&fs::read(folder.path().join("prod.json")).unwrap(), &good);
        if let Ok(loaded) = loaded {
            prop_assert_eq!(loaded.state, Some(state(1, 2)));
            recorded.unwrap();
            prop_assert_eq!(after.unwrap().entries.len(), loaded.entries.len() + 3);
        } else {
            prop_assert!(recorded.is_err());
            prop_assert_eq!(&fs::read(folder.path().join("prod.journal")).unwrap(), &journal);
        }
    });
}
