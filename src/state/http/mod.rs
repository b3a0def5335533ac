//! State behind an HTTP address, as Terraform's HTTP backend asks and GitLab serves it.
//!
//! `GET` and `POST` of one document, which holds the state, its journal and the history, and whose `serial` rises with
//! every write; a lock beside it that has no lease.
//!
//! # Contract
//! - What announces a call (`Begin`, `Registered`, `Paused`) is written before `record` returns, all that waits in one
//!   write. Outcomes wait for the next write, at most ten seconds; a crash before it leaves intents
//!   open, and the next tick finds out by listing.
//! - A history is written along with what else is written. By itself it is written when the lock is given back, and only
//!   if it says something that the next decision needs: a tick that changes nothing writes nothing.
//! - A write that another has overtaken (422: the serial was used; 409, 423: the lock is another's) overwrites nothing.
//! - A lock is taken from a CI job that has ended, when that CI says so ([`JobWatch`]).

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: a write goes on to its end, whoever stops waiting"
)]

mod config;
mod exchange;
mod wire;
mod writes;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use self::{exchange::Exchange, wire::WireLock, writes::Cursor};
use super::{
    Lease, Loaded, LockInfo, RemoteError, StateError, StateStore, StateVersion, lock, remote::Queue,
};
use crate::model::{
    ids::{Serial, StackName},
    intent::Entry,
    state::{History, State},
};

pub use self::config::{ConfigError, HttpConfig, HttpTarget};

/// How often a held lock is tried again.
const POLL: Duration = Duration::from_secs(1);
/// How often the CI is asked whether the job that holds the lock has ended.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// How many earlier documents are looked at for earlier states: several writes make one state.
const PROBES: u64 = 50;

/// Tells whether a CI job has ended.
#[async_trait]
pub trait JobWatch: fmt::Debug + Send + Sync {
    /// Whether the job at this address has ended; none when nobody here can tell.
    async fn has_ended(&self, job: &str) -> Option<bool>;
}

/// State behind an HTTP address.
#[derive(Debug)]
pub struct HttpState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stack: StackName,
    exchange: Exchange,
    keep: usize,
    watch: Option<Arc<dyn JobWatch>>,
    queue: Queue,
    cursor: Arc<AsyncMutex<Cursor>>,
    held: Mutex<Option<WireLock>>,
}

impl HttpState {
    /// The state of this stack at this address. Connects to nothing yet.
    ///
    /// # Errors
    /// When an address or a certificate is not usable.
    pub fn new(
        target: HttpTarget,
        stack: &StackName,
        keep: u32,
        watch: Option<Arc<dyn JobWatch>>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            inner: Arc::new(Inner {
                stack: stack.clone(),
                exchange: Exchange::new(target, stack)?,
                keep: usize::try_from(keep).unwrap_or(usize::MAX),
                watch,
                queue: Queue::default(),
                cursor: Arc::default(),
                held: Mutex::default(),
            }),
        })
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Option<WireLock>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> &str {
        self.exchange.place()
    }

    /// Takes the lock, waiting for another that holds it; from a CI job that has ended it is taken away.
    async fn take(&self, wanted: &WireLock, patience: Duration) -> Result<Option<LockInfo>, StateError> {
        let began = Instant::now();
        let mut asked: Option<Instant> = None;
        let mut taken_from = None;
        loop {
            let Some(found) = self.exchange.lock(wanted).await? else {
                return Ok(taken_from);
            };
            let holder = found.holder(wanted);
            if asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) {
                asked = Some(Instant::now());
                if self.has_ended(&holder).await {
                    // By its id: whoever took it meanwhile keeps it.
                    if self.exchange.unlock(&found).await?.is_none() {
                        taken_from = Some(holder);
                        continue;
                    }
                }
            }
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                let holder = Box::new(holder);
                return Err(StateError::Locked { holder });
            }
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    async fn has_ended(&self, holder: &LockInfo) -> bool {
        match &self.watch {
            Some(watch) if !holder.info.is_empty() => watch.has_ended(&holder.info).await == Some(true),
            _ => false,
        }
    }

    /// Who holds the lock, by trying to take it.
    async fn wire_holder(&self) -> Result<(WireLock, Option<WireLock>), StateError> {
        let ours = WireLock::of(&lock::lock_info("unlock"), &self.stack);
        if let Some(holder) = self.held().clone() {
            return Ok((ours, Some(holder)));
        }
        let found = self.exchange.lock(&ours).await?;
        if found.is_none() {
            self.exchange.unlock(&ours).await?;
        }
        Ok((ours, found))
    }

    /// Earlier states, newest first, as far as the server keeps them.
    async fn earlier(&self, until: impl Fn(&[State]) -> bool) -> Result<Vec<State>, StateError> {
        let mut found: Vec<State> = Vec::new();
        if !self.exchange.keeps_versions() {
            return Ok(found);
        }
        let Some(now) = self.exchange.get().await? else {
            return Ok(found);
        };
        let mut last = now.serial();
        for wire in (now.wire.saturating_sub(PROBES)..now.wire).rev() {
            if found.len() >= self.keep || until(&found) {
                break;
            }
            let Some(document) = self.exchange.get_version(wire).await? else {
                continue;
            };
            if document.serial() != last
                && let Some(state) = document.state
            {
                last = state.serial;
                found.push(state);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl StateStore for HttpState {
    async fn load(&self) -> Result<Loaded, StateError> {
        let mut cursor = self.inner.cursor.lock().await;
        self.inner.settle(&mut cursor).await?;
        cursor.known = None;
        let document = self.inner.document(&mut cursor).await?.clone();
        Ok(Loaded {
            state: document.state,
            entries: document.entries,
            history: cursor.history.clone().unwrap_or(document.history),
            mended: document.mended,
        })
    }

    async fn load_history(&self) -> Result<History, StateError> {
        let mut cursor = self.inner.cursor.lock().await;
        let history = self.inner.document(&mut cursor).await?.history.clone();
        Ok(cursor.history.clone().unwrap_or(history))
    }

    async fn save(&self, state: &State, expected: Serial) -> Result<(), StateError> {
        let (inner, state) = (Arc::clone(&self.inner), state.clone());
        let mut cursor = Arc::clone(&inner.cursor).lock_owned().await;
        let done = tokio::spawn(async move { inner.save(&mut cursor, &state, expected).await });
        done.await.unwrap_or_else(|error| Err(self.broken(&error)))
    }

    async fn record(&self, base: Serial, entries: &[Entry]) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut answer = self.inner.queue.push(base, entries);
        let guard = Arc::clone(&self.inner.cursor).lock_owned().await;
        // Another call may have written these with its own while this one waited.
        if let Ok(answer) = answer.try_recv() {
            return answer;
        }
        tokio::spawn(Arc::clone(&self.inner).flush(guard));
        answer.await.unwrap_or_else(|error| Err(self.broken(&error)))
    }

    async fn save_history(&self, history: &History) -> Result<(), StateError> {
        let mut cursor = self.inner.cursor.lock().await;
        cursor.history = Some(history.clone());
        if self.inner.held().is_some() {
            return Ok(());
        }
        self.inner.write(&mut cursor, |_| Ok(())).await
    }

    async fn lock(&self, info: &LockInfo, patience: Duration) -> Result<Lease, StateError> {
        let wanted = WireLock::of(info, &self.inner.stack);
        let taken_from = self.inner.take(&wanted, patience).await?;
        *self.inner.cursor.lock().await = Cursor::default();
        *self.inner.held() = Some(wanted);
        Ok(Lease {
            info: info.clone(),
            until: None,
            taken_from,
        })
    }

    async fn unlock(&self, lease: Lease) -> Result<(), StateError> {
        let ours = WireLock::of(&lease.info, &self.inner.stack);
        if self.inner.held().as_ref() != Some(&ours) {
            return Ok(());
        }
        let mut cursor = self.inner.cursor.lock().await;
        let settled = self.inner.settle_all(&mut cursor).await;
        *self.inner.held() = None;
        *cursor = Cursor::default();
        if let Some(holder) = self.inner.exchange.unlock(&ours).await? {
            tracing::warn!(
                holder = holder.holder(&ours).who,
                "the lock was another's already"
            );
        }
        settled
    }

    fn place(&self) -> String {
        self.inner.place().to_owned()
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        let (ours, found) = self.inner.wire_holder().await?;
        Ok(found.map(|found| found.holder(&ours)))
    }

    async fn unlock_by_force(&self, id: &str) -> Result<Option<LockInfo>, StateError> {
        let (ours, found) = self.inner.wire_holder().await?;
        let Some(found) = found else { return Ok(None) };
        let holder = found.holder(&ours);
        if holder.id != id && found.id != id {
            let holder = Box::new(holder);
            return Err(StateError::Locked { holder });
        }
        match self.inner.exchange.unlock(&found).await? {
            None => Ok(Some(holder)),
            Some(other) => Err(StateError::Locked {
                holder: Box::new(other.holder(&ours)),
            }),
        }
    }

    async fn versions(&self) -> Result<Vec<StateVersion>, StateError> {
        let states = self.inner.earlier(|_| false).await?;
        Ok(states
            .into_iter()
            .map(|state| StateVersion {
                serial: state.serial,
                lineage: state.lineage,
                resources: state.resources.len(),
                written: state.written,
            })
            .collect())
    }

    async fn version(&self, serial: Serial) -> Result<Option<State>, StateError> {
        let reached = |found: &[State]| found.last().is_some_and(|state| state.serial <= serial);
        let states = self.inner.earlier(reached).await?;
        Ok(states.into_iter().find(|state| state.serial == serial))
    }
}

impl HttpState {
    /// A task of ours did not come to its end.
    fn broken(&self, error: &dyn fmt::Display) -> StateError {
        RemoteError::Unexpected {
            place: self.inner.place().to_owned(),
            why: error.to_string(),
        }
        .into()
    }
}
