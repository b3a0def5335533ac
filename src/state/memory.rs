//! State in memory, for tests and for runs that leave nothing behind.
//!
//! Clones share what is kept, as two processes share a folder. It keeps the contract of the port, and nothing of it
//! outlives the process.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{Lease, Loaded, LockInfo, StateError, StateStore, StateVersion, format};
use crate::model::{
    ids::{Serial, StackName},
    intent::Entry,
    state::{History, State},
};

/// How often a held lock is tried again.
const POLL: Duration = Duration::from_millis(10);

/// State in memory.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    stack: StackName,
    keep: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    state: Option<State>,
    /// Earlier states, oldest first.
    versions: Vec<State>,
    entries: Vec<Entry>,
    history: History,
    holder: Option<LockInfo>,
}

impl MemoryStore {
    /// Nothing is kept yet of this stack.
    pub fn new(stack: &StackName) -> Self {
        Self {
            stack: stack.clone(),
            keep: super::KEEP_STATES,
            kept: Arc::default(),
        }
    }

    /// As many earlier states are kept, instead of [`super::KEEP_STATES`].
    #[must_use]
    pub fn keeping(self, keep: usize) -> Self {
        Self { keep, ..self }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock when it is free.
    fn try_lock(&self, info: &LockInfo) -> Result<Lease, StateError> {
        let mut kept = self.kept();
        if let Some(holder) = &kept.holder {
            let holder = Box::new(holder.clone());
            return Err(StateError::Locked { holder });
        }
        kept.holder = Some(info.clone());
        Ok(Lease {
            info: info.clone(),
            until: None,
            taken_from: None,
        })
    }
}

impl Kept {
    fn serial(&self) -> Serial {
        self.state.as_ref().map_or(Serial(0), |state| state.serial)
    }

    fn expect(&self, expected: Serial) -> Result<(), StateError> {
        let found = self.serial();
        if found == expected {
            Ok(())
        } else {
            Err(StateError::Stale { expected, found })
        }
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn load(&self) -> Result<Loaded, StateError> {
        let kept = self.kept();
        Ok(Loaded {
            state: kept.state.clone(),
            entries: kept.entries.clone(),
            history: kept.history.clone(),
            mended: Vec::new(),
        })
    }

    async fn load_history(&self) -> Result<History, StateError> {
        Ok(self.kept().history.clone())
    }

    async fn save(&self, state: &State, expected: Serial) -> Result<(), StateError> {
        let mut kept = self.kept();
        format::may_write(state, expected, kept.serial(), &self.stack, "memory")?;
        if let Some(before) = kept.state.take() {
            kept.versions.retain(|version| version.serial != before.serial);
            kept.versions.push(before);
            let surplus = kept.versions.len().saturating_sub(self.keep);
            kept.versions.drain(..surplus);
        }
        kept.state = Some(state.clone());
        kept.entries.clear();
        Ok(())
    }

    async fn record(&self, base: Serial, entries: &[Entry]) -> Result<(), StateError> {
        let mut kept = self.kept();
        kept.expect(base)?;
        kept.entries.extend_from_slice(entries);
        Ok(())
    }

    async fn save_history(&self, history: &History) -> Result<(), StateError> {
        self.kept().history = history.clone();
        Ok(())
    }

    async fn lock(&self, info: &LockInfo, patience: Duration) -> Result<Lease, StateError> {
        let began = tokio::time::Instant::now();
        loop {
            let refused = match self.try_lock(info) {
                Ok(lease) => return Ok(lease),
                Err(refused) => refused,
            };
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(refused);
            }
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    async fn unlock(&self, lease: Lease) -> Result<(), StateError> {
        self.kept().holder.take_if(|holder| holder.id == lease.info.id);
        Ok(())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        Ok(self.kept().holder.clone())
    }

    async fn unlock_by_force(&self, id: &str) -> Result<Option<LockInfo>, StateError> {
        let mut kept = self.kept();
        match kept.holder.take() {
            Some(holder) if holder.id != id => {
                kept.holder = Some(holder.clone());
                Err(StateError::Locked {
                    holder: Box::new(holder),
                })
            }
            taken => Ok(taken),
        }
    }

    async fn versions(&self) -> Result<Vec<StateVersion>, StateError> {
        Ok(self.kept().versions.iter().rev().map(StateVersion::of).collect())
    }

    async fn version(&self, serial: Serial) -> Result<Option<State>, StateError> {
        let kept = self.kept();
        Ok(kept.versions.iter().find(|state| state.serial == serial).cloned())
    }
}
