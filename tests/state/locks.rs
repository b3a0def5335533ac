//! Locks and crashes across real processes: this binary starts itself as the other one.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use runfleet::{
    journal,
    model::ids::Serial,
    state::{StateError, StateStore, file::FileStore, lock::lock_info},
};

use super::{create, stack, state};

/// Says to a child which part it plays, and where.
const PART: &str = "RUNFLEET_TEST_PART";
const FOLDER: &str = "RUNFLEET_TEST_FOLDER";

/// Another process, killed at the latest when the test ends.
struct Other {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(part: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["locks::the_part_of_the_other_process", "--exact", "--nocapture"])
            .env(PART, part)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// Waits until it says this; what the test harness prints around it is passed over.
    fn wait_for(&mut self, word: &str) {
        let heard = self.said.by_ref().any(|line| line.unwrap().ends_with(word));
        assert!(heard, "the other process ended before it said {word:?}");
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}").unwrap();
    out.flush().unwrap();
}

/// What the other process does; as a test of its own it does nothing.
#[tokio::test]
async fn the_part_of_the_other_process() {
    let (Ok(part), Ok(folder)) = (std::env::var(PART), std::env::var(FOLDER)) else {
        return;
    };
    let store = FileStore::new(Path::new(&folder), &stack());
    let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
    match part.as_str() {
        "hold until told" => {
            say("held");
            std::io::stdin().lines().next();
            store.unlock(lease).await.unwrap();
        }
        "write for ever" => {
            for serial in 0.. {
                for number in 0..3 {
                    store.record(Serial(serial), &create(number)).await.unwrap();
                    say(&format!("recorded {serial} {number}"));
                }
                store.save(&state(serial + 1, 3), Serial(serial)).await.unwrap();
                say(&format!("saved {}", serial + 1));
            }
        }
        other => panic!("{other:?} is no part"),
    }
}

#[tokio::test]
async fn a_lock_that_a_living_process_holds_is_refused_with_its_name_until_it_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    let mut other = Other::start("hold until told", folder.path());
    other.wait_for("held");
    match store.lock(&lock_info("apply"), Duration::from_millis(150)).await {
        Err(StateError::Locked { holder }) => {
            assert_eq!(holder.pid, other.child.id());
            assert_eq!(holder.operation, "scale");
        }
        answer => panic!("{answer:?}"),
    }
    drop(other.child.stdin.take());
    let lease = store
        .lock(&lock_info("apply"), Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(lease.taken_from, None, "it was released in order");
}

#[tokio::test]
async fn the_lock_of_a_killed_process_is_taken_over_saying_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    let mut other = Other::start("hold until told", folder.path());
    other.wait_for("held");
    let pid = other.child.id();
    other.kill();
    let info = lock_info("apply");
    let lease = store.lock(&info, Duration::ZERO).await.unwrap();
    assert_eq!(lease.taken_from.as_ref().map(|holder| holder.pid), Some(pid));
    store.unlock(lease).await.unwrap();
    let lease = store.lock(&info, Duration::ZERO).await.unwrap();
    assert_eq!(lease.taken_from, None, "it is told once");
}

#[tokio::test]
async fn a_name_from_another_host_is_not_taken_over_and_is_cleared_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    let mut there = lock_info("scale");
    there.host = "elsewhere".to_owned();
    there.boot_id = "its boot".to_owned();
    std::fs::write(
        folder.path().join("prod.lock"),
        serde_json::to_vec(&there).unwrap(),
    )
    .unwrap();
    match store.lock(&lock_info("apply"), Duration::ZERO).await {
        Err(StateError::Locked { holder }) => assert_eq!(*holder, there),
        answer => panic!("{answer:?}"),
    }
    assert!(matches!(
        store.unlock_by_force("another id").await,
        Err(StateError::Locked { .. })
    ));
    assert_eq!(
        store.unlock_by_force(&there.id).await.unwrap(),
        Some(there.clone())
    );
    store.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_lock_file_with_anything_in_it_can_be_taken_when_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path(), &stack());
    for content in [&b""[..], b"{", b"{\"id\":", b"\xff\xfe", b"null"] {
        std::fs::write(folder.path().join("prod.lock"), content).unwrap();
        let lease = store.lock(&lock_info("apply"), Duration::ZERO).await.unwrap();
        assert_eq!(lease.taken_from, None);
        store.unlock(lease).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_killed_process_was_told_to_be_durable_is_there() {
    for kill_after in 0..12_u64 {
        let folder = tempfile::tempdir().unwrap();
        let mut other = Other::start("write for ever", folder.path());
        let (serial, number) = (kill_after / 3, kill_after % 3);
        other.wait_for(&format!("recorded {serial} {number}"));
        other.kill();
        let store = FileStore::new(folder.path(), &stack());
        let lease = store.lock(&lock_info("scale"), Duration::ZERO).await.unwrap();
        assert!(lease.taken_from.is_some());
        let loaded = store.load().await.unwrap();
        let found = loaded.state.as_ref().map_or(0, |state| state.serial.0);
        assert!(found >= serial, "{found} {serial}");
        if found == serial {
            assert!(loaded.entries.len() as u64 >= 3 * (number + 1));
        }
        // What is there folds, and can be gone on with.
        let base = loaded.state.unwrap_or_else(|| {
            let mut empty = state(1, 0);
            empty.serial = Serial(0);
            empty
        });
        let mut folded = journal::fold(base.clone(), &loaded.entries).unwrap().state;
        folded.serial = base.serial.next();
        store.record(base.serial, &create(9)).await.unwrap();
        store.save(&folded, base.serial).await.unwrap();
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.retain(|name| name != "prod.states");
        assert_eq!(names, ["prod.json", "prod.lock"], "nothing is left over");
    }
}
