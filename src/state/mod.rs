//! The port of a place where state is kept.

pub mod file;
pub mod format;
pub mod http;
mod journal_file;
pub mod lock;
pub mod memory;
#[cfg(feature = "object")]
pub mod object;
mod remote;
mod whole;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{Lineage, Serial, StackName},
    intent::Entry,
    state::{History, State, Written},
};

/// How many earlier states are kept where nothing else is said (`stack.keep_states`).
pub const KEEP_STATES: usize = 10;

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// Names this holding.
    pub id: String,
    /// The verb that runs: `scale`.
    pub operation: String,
    /// `user@host`
    pub who: String,
    /// The host's name.
    pub host: String,
    /// The host's boot, so that a process id of an earlier one means nothing.
    pub boot_id: String,
    /// Which processes its host's kernel lets it see: only within one does a process id mean the same process. Empty where
    /// it is not told, or was written by an earlier version.
    #[serde(default)]
    pub pid_namespace: String,
    /// The process.
    pub pid: u32,
    /// When that process began, in clock ticks since boot: a reused process id differs.
    pub pid_start: u64,
    /// Since when.
    pub created: Timestamp,
    /// The CI job that runs it, where one does: its URL.
    pub info: String,
}

/// A lock that is held. Dropped without `unlock`, it is released with the process.
#[derive(Debug)]
pub struct Lease {
    /// Who holds it.
    pub info: LockInfo,
    /// Until when it holds; whoever renews it moves this. None: as long as the process lives.
    pub until: Option<Until>,
    /// A dead holder that it was taken over from, for a person to be told.
    pub taken_from: Option<LockInfo>,
}

impl Lease {
    /// What to tell a person where it was taken over from a dead holder. A holder that is not ours names no process.
    pub fn notice(&self) -> Option<String> {
        let dead = self.taken_from.as_ref()?;
        let process = match dead.pid {
            0 => dead.who.clone(),
            pid => format!("process {pid} of {}", dead.who),
        };
        Some(format!(
            "took over the lock of {} ({process}), which is not running any more",
            dead.operation
        ))
    }
}

/// Until when a lease holds, by this host's clock. Clones share it.
#[derive(Clone, Debug)]
pub struct Until(Arc<AtomicI64>);

impl Until {
    /// Until then.
    pub fn new(at: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(at.as_millisecond())))
    }

    /// When it ends, as things are now.
    pub fn at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MIN)
    }

    /// It was renewed until then, or has ended.
    pub fn move_to(&self, at: Timestamp) {
        self.0.store(at.as_millisecond(), Ordering::SeqCst);
    }
}

/// Everything that is kept of a stack.
#[derive(Debug)]
pub struct Loaded {
    /// The state as it was last written; none when the stack has none yet.
    pub state: Option<State>,
    /// The journal that extends it, oldest first.
    pub entries: Vec<Entry>,
    /// What may be lost; empty when it was.
    pub history: History,
    /// What was wrong and could be mended, for a person: a torn last line of the journal, an unreadable history.
    pub mended: Vec<String>,
}

/// What went wrong with the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another holds the lock.
    #[error("the state is locked by {}", .holder.who)]
    Locked {
        /// Who.
        holder: Box<LockInfo>,
    },
    /// It was written by a later version.
    #[error("{place} has format version {found}, this program knows up to {known}")]
    Newer {
        /// Where it is.
        place: String,
        /// Its version.
        found: u64,
        /// Ours.
        known: u32,
    },
    /// It cannot be read, and has not been touched.
    #[error("{place} is corrupt: {why}")]
    Corrupt {
        /// Where it is.
        place: String,
        /// What is wrong, with line and column where known.
        why: String,
    },
    /// The state has been written by another since it was read.
    #[error("the state has serial {found}, {expected} was expected")]
    Stale {
        /// What was read before.
        expected: Serial,
        /// What is there.
        found: Serial,
    },
    /// It is another stack's.
    #[error("{place} belongs to stack {found}, not {expected}")]
    OtherStack {
        /// Where it is.
        place: String,
        /// Whose it is.
        found: StackName,
        /// Whose it should be.
        expected: StackName,
    },
    /// It is kept elsewhere, and that place did not do what it should.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Reading or writing failed.
    #[error("{doing} {place}")]
    Io {
        /// What was being done: `write`.
        doing: &'static str,
        /// To what.
        place: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}

/// What went wrong at a place that is reached over the net. No text of it holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// No answer, or only errors of the server's own.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Where it is.
        place: String,
        /// What happened.
        why: String,
    },
    /// It does not accept who we are, or does not let us do this.
    #[error("{place} does not let us in: {why}")]
    Unauthorized {
        /// Where it is.
        place: String,
        /// What it said.
        why: String,
    },
    /// The bucket, the project or the address does not exist.
    #[error("{place} does not exist: {why}")]
    Missing {
        /// Where it should be.
        place: String,
        /// What it said.
        why: String,
    },
    /// Another took the lock, or it could not be renewed in time: nothing more may be written.
    #[error("our lock of {place} has ended{}", by.as_ref().map(|holder| format!(": {} took it", holder.who)).unwrap_or_default())]
    LeaseEnded {
        /// Where the state is.
        place: String,
        /// Who took it, where that is known.
        by: Option<Box<LockInfo>>,
    },
    /// It cannot keep two writers apart.
    #[error("{place} does not lock: {why}")]
    NoLock {
        /// Where it is.
        place: String,
        /// What it did instead.
        why: String,
    },
    /// It does not take a state of this size.
    #[error("{place} refuses a state of {bytes} bytes: too large")]
    TooLarge {
        /// Where it is.
        place: String,
        /// How large.
        bytes: usize,
    },
    /// It answered what is no answer to this.
    #[error("{place} answered {why}")]
    Unexpected {
        /// Where it is.
        place: String,
        /// What it answered.
        why: String,
    },
}

/// A place where state is kept. One conformance suite runs against every implementation.
///
/// A crash before `record` returns: the entries may or may not be there, and nothing that they announce was begun.
/// A crash before `save` returns: the old state with its journal, or the new one without; never a mixture.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync {
    /// Reads everything.
    async fn load(&self) -> Result<Loaded, StateError>;

    /// Reads the history alone: what observing begins with, before the clouds are listed and the state is read.
    async fn load_history(&self) -> Result<History, StateError> {
        Ok(self.load().await?.history)
    }

    /// Replaces the state whole and drops the journal that it folds in. `state.serial` is `expected.next()`, or any where
    /// there is no state: one that is put back goes on counting. The state that was there becomes a kept version.
    async fn save(&self, state: &State, expected: Serial) -> Result<(), StateError>;

    /// Appends to the journal that extends serial `base`; durable when it returns. Concurrent calls share one sync.
    async fn record(&self, base: Serial, entries: &[Entry]) -> Result<(), StateError>;

    /// Replaces the history.
    async fn save_history(&self, history: &History) -> Result<(), StateError>;

    /// Takes the lock, waiting at most `patience` for another to release it.
    async fn lock(&self, info: &LockInfo, patience: Duration) -> Result<Lease, StateError>;

    /// Releases it.
    async fn unlock(&self, lease: Lease) -> Result<(), StateError>;

    /// Where the state is, for a person: `stacks/prod.json`, `s3://bucket/key`.
    fn place(&self) -> String;

    /// Who holds the lock now; none when nobody does.
    async fn holder(&self) -> Result<Option<LockInfo>, StateError>;

    /// Takes the lock with this id away from its holder, who may still be running. Answers with who that was, or none
    /// when nobody held it; [`StateError::Locked`] tells the holder where the id is another's.
    async fn unlock_by_force(&self, id: &str) -> Result<Option<LockInfo>, StateError>;

    /// The states that are kept besides the current one, newest first; at most as many as the store was told to keep.
    async fn versions(&self) -> Result<Vec<StateVersion>, StateError>;

    /// A state that is kept; none when it is not.
    async fn version(&self, serial: Serial) -> Result<Option<State>, StateError>;
}

impl Written {
    /// By whoever holds this lock, now.
    pub fn by(info: &LockInfo, at: Timestamp) -> Self {
        Self {
            at,
            by: info.who.clone(),
            operation: info.operation.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A state that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateVersion {
    /// Its serial.
    pub serial: Serial,
    /// Whose.
    pub lineage: Lineage,
    /// How many resources it has on record.
    pub resources: usize,
    /// Who wrote it.
    pub written: Option<Written>,
}

impl StateVersion {
    /// What is told of a state.
    pub fn of(state: &State) -> Self {
        Self {
            serial: state.serial,
            lineage: state.lineage.clone(),
            resources: state.resources.len(),
            written: state.written.clone(),
        }
    }
}
