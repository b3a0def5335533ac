//! What must hold of any bytes in the files that runfleet reads: never a panic, and never a lost state.
//!
//! `make fuzz` runs each under libFuzzer for a bounded time; tests/state runs each on damaged copies of good files.

use std::{collections::BTreeMap, fs, path::Path};

use runfleet::{
    journal,
    model::{
        ids::{Serial, StackName},
        snapshot::Snapshot,
        state::{History, State},
    },
    plan::saved::{self, SavedPlan},
    render, stack,
    state::{StateError, StateStore, file::FileStore},
};

const STACK: &str = "prod";

/// A stack file is read, or refused with at least one problem that has words.
pub fn stack_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match stack::parse(text, "stacks/fuzz.toml") {
        Ok(stack) => assert!(!stack.name.as_str().is_empty()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

/// A state file is read, and then written and read again the same; or it is refused, and nothing overwrites it.
pub fn state_file(bytes: &[u8]) {
    let folder = folder();
    let file = folder.path().join(format!("{STACK}.json"));
    fs::write(&file, bytes).expect("a state file");
    let stack = StackName::from(STACK);
    let store = FileStore::new(folder.path(), &stack);
    block_on(async {
        if let Ok(loaded) = store.load().await {
            let mut state = loaded.state.expect("a file that is there holds a state");
            state.check().expect("what was read keeps its invariants");
            let before = state.serial;
            if before.0 == u64::MAX {
                return;
            }
            state.serial = before.next();
            let saved = store.save(&state, before).await;
            saved.expect("what was read can be written");
            let again = store.load().await.expect("what was written can be read");
            assert_eq!(again.state.as_ref(), Some(&state));
            return;
        }
        let mut other = State::empty(stack, "another".into());
        other.serial = Serial(1);
        let refused = store.save(&other, Serial(0)).await;
        assert!(refused.is_err(), "a state that cannot be read was overwritten");
        assert_eq!(fs::read(&file).expect("the file"), bytes, "it was changed");
    });
}

/// A journal is folded, and then saved with its state; or it is refused, or its torn end is ignored and said. The
/// state that it extends stays as it was.
pub fn journal(bytes: &[u8]) {
    with_journal(bytes);
    // The same bytes as entries whose checksums are right, so that what is inside them is reached.
    let mut whole = line(
        "journal",
        &format!(r#"{{"version":1,"stack":"{STACK}","lineage":"l1","extends":1}}"#),
    );
    for entry in String::from_utf8_lossy(bytes).lines() {
        whole.push_str(&line("entry", entry));
    }
    with_journal(whole.as_bytes());
}

fn line(key: &str, value: &str) -> String {
    format!(
        "{{\"crc\":\"{:08x}\",\"{key}\":{value}}}\n",
        crc32fast::hash(value.as_bytes())
    )
}

fn with_journal(bytes: &[u8]) {
    let folder = folder();
    let stack = StackName::from(STACK);
    let store = FileStore::new(folder.path(), &stack);
    let mut state = State::empty(stack, "l1".into());
    state.serial = Serial(1);
    block_on(async {
        store.save(&state, Serial(0)).await.expect("a state");
        let file = folder.path().join(format!("{STACK}.json"));
        let kept = fs::read(&file).expect("the state");
        fs::write(folder.path().join(format!("{STACK}.journal")), bytes).expect("a journal");
        let loaded = match store.load().await {
            Ok(loaded) => loaded,
            Err(StateError::Io { source, .. }) => panic!("{source}"),
            Err(_) => {
                assert_eq!(fs::read(&file).expect("the state"), kept);
                return;
            }
        };
        assert_eq!(loaded.state.as_ref(), Some(&state));
        let Ok(folded) = journal::fold(state.clone(), &loaded.entries) else {
            return;
        };
        let mut next = folded.state;
        next.check().expect("a fold keeps the state's invariants");
        next.serial = Serial(2);
        store
            .save(&next, Serial(1))
            .await
            .expect("what was folded can be written");
        let again = store.load().await.expect("and read");
        assert_eq!(again.state.as_ref(), Some(&next));
        assert!(again.entries.is_empty(), "the journal was folded in");
    });
}

/// A plan file is refused, or read; what was read is written and read again the same. Held against a world that it was
/// not made for, it is refused or fits, and never a reason to panic.
pub fn plan_file(bytes: &[u8]) {
    let read = SavedPlan::parse(bytes, None).ok();
    // The same bytes with a digest that is right, so that what is inside them is reached.
    let sealed = serde_json::from_slice::<SavedPlan>(bytes).ok();
    let was_read = read.iter().count();
    for (at, plan) in read.into_iter().chain(sealed).enumerate() {
        let text = plan.to_text(None).expect("what was read can be written");
        let again = match SavedPlan::parse(text.as_bytes(), None) {
            Ok(again) => again,
            // Of another format, or format version: refused with the right digest, too.
            Err(_) if at >= was_read => continue,
            Err(error) => panic!("what was read and written is refused: {error}"),
        };
        assert_eq!(again.to_text(None).expect("and written"), text);
        let stack = stack::parse(include_str!("../stacks/local.toml"), "local.toml").expect("a stack");
        let mut state = State::empty(again.plan.stack.clone(), again.plan.lineage.clone());
        state.serial = again.plan.serial;
        let snapshot = Snapshot {
            now: again.plan.made_at,
            clouds: BTreeMap::default(),
            demand: BTreeMap::default(),
            state,
            open: Vec::new(),
            history: History::default(),
            moved: BTreeMap::default(),
            members: BTreeMap::default(),
        };
        let _ = saved::check(&again, &snapshot, &stack, &render::builtin());
    }
}

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .expect("a folder")
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(work);
}
