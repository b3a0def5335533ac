//! State behind an HTTP address, as Terraform's HTTP backend asks and GitLab serves it.
//!
//! `GET` and `POST` of one document, which holds the state, its journal and the history, and whose `serial` rises with
//! every write; a lock beside it that has no lease. Long because every call is about that one document.
//!
//! # Contract
//! - What announces a call (`Begin`, `Registered`, `Paused`) is written before `record` returns, all that waits in one
//!   write. Outcomes wait for the next write, at most [`PATIENCE`]; a crash before it leaves intents open, and the next
//!   tick finds out by listing.
//! - A history is written along with what else is written. By itself it is written when the lock is given back, and only
//!   if it says something that the next decision needs: a tick that changes nothing writes nothing.
//! - A write that another has overtaken (422: the serial was used; 409, 423: the lock is another's) overwrites nothing.
//! - A lock is taken from a CI job that has ended, when that CI says so ([`JobWatch`]).

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: outcomes are written in time, and a write goes on to its end, whoever stops waiting"
)]

mod config;
mod exchange;
mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use self::{
    exchange::{Exchange, Posted},
    wire::{Document, WireLock},
};
use super::{
    Lease, Loaded, LockInfo, RemoteError, StateError, StateStore, StateVersion, lock,
    remote::{self, Pending, Queue, unwritable},
};
use crate::model::{
    ids::{Serial, StackName},
    intent::{Entry, Step},
    state::{History, State},
};

pub use self::config::{ConfigError, HttpConfig, HttpTarget};

/// How long outcomes may wait for another write.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a held lock is tried again.
const POLL: Duration = Duration::from_secs(1);
/// How often the CI is asked whether the job that holds the lock has ended.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// How often a write without a lock begins again because another wrote: a bound, no more.
const WRITES: usize = 10;
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

/// What is known of the document, and what waits to be written into it.
#[derive(Debug, Default)]
struct Cursor {
    /// As it was last read or written; none: it must be read.
    known: Option<Document>,
    /// Outcomes that extend the known state and are not written.
    outcomes: Vec<Entry>,
    /// A history that is not written.
    history: Option<History>,
    /// Whether anything was written under this lock.
    wrote: bool,
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

/// Whether an entry announces a call, and so must be there before it is made.
fn announces(entry: &Entry) -> bool {
    !matches!(entry.step, Step::End { .. } | Step::Resumed { .. })
}

/// Whether a history says what the next decision needs and the other one does not: not what past ticks decided, how far
/// jobs were read and how long they took, which are read again, and when a cloud was listed.
fn matters(new: &History, old: &History) -> bool {
    new.machines != old.machines
        || new.condemned != old.condemned
        || new.absent != old.absent
        || new.refusals != old.refusals
        || new.launch_budgets != old.launch_budgets
        || new.failures != old.failures
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Option<WireLock>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> &str {
        self.exchange.place()
    }

    /// The document: as known under a lock, else as it is now.
    async fn document<'c>(&self, cursor: &'c mut Cursor) -> Result<&'c mut Document, StateError> {
        let held = self.held().is_some();
        let known = cursor.known.take().filter(|_| held);
        let document = match known {
            Some(document) => document,
            None => self.exchange.get().await?.unwrap_or_default(),
        };
        Ok(cursor.known.insert(document))
    }

    /// Writes what `change` makes of the document, what waits included.
    async fn write(
        &self,
        cursor: &mut Cursor,
        mut change: impl FnMut(&mut Document) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let lock = self.held().clone();
        for _ in 0..WRITES {
            let mut next = self.document(cursor).await?.clone();
            change(&mut next)?;
            if let Some(history) = &cursor.history {
                next.history = history.clone();
            }
            next.wire += 1;
            next.writer = lock::random_id();
            let text = next
                .write(&self.stack)
                .map_err(|error| unwritable(self.place(), &error))?;
            // Until the answer says otherwise, what is there is not known.
            cursor.known = None;
            let posted = self.exchange.post(text, lock.as_ref()).await?;
            let there = match posted {
                Posted::Done => true,
                // A try of ours may have done it, and its answer was lost.
                Posted::SerialUsed => {
                    let now = self.exchange.get().await?;
                    now.is_some_and(|now| now.wire == next.wire && now.writer == next.writer)
                }
            };
            if there {
                cursor.known = Some(next);
                cursor.history = None;
                cursor.wrote = true;
                return Ok(());
            }
            if lock.is_some() {
                return Err(RemoteError::LeaseEnded {
                    place: self.place().to_owned(),
                    by: None,
                }
                .into());
            }
        }
        Err(RemoteError::Unexpected {
            place: self.place().to_owned(),
            why: "422 to every write: the serial is used, whatever it is".to_owned(),
        }
        .into())
    }

    async fn save(&self, cursor: &mut Cursor, state: &State, expected: Serial) -> Result<(), StateError> {
        let found = self.document(cursor).await?.serial();
        if found != expected {
            return Err(StateError::Stale { expected, found });
        }
        remote::check(state, expected, &self.stack, self.place())?;
        self.write(cursor, |document| {
            let found = document.serial();
            if found != expected {
                return Err(StateError::Stale { expected, found });
            }
            document.state = Some(state.clone());
            document.entries.clear();
            Ok(())
        })
        .await?;
        // They are folded into the state.
        cursor.outcomes.clear();
        Ok(())
    }

    /// Writes everything that waits, or keeps it for the next write, and answers each.
    async fn flush(self: Arc<Self>, mut cursor: OwnedMutexGuard<Cursor>) {
        while let Some((base, group)) = self.queue.next() {
            let done = self.append(&mut cursor, base, &group).await;
            remote::answer(group, &done);
        }
    }

    async fn append(
        self: &Arc<Self>,
        cursor: &mut Cursor,
        base: Serial,
        group: &[Pending],
    ) -> Result<(), StateError> {
        let stale = |found| StateError::Stale {
            expected: base,
            found,
        };
        let found = self.document(cursor).await?.serial();
        if found != base {
            return Err(stale(found));
        }
        let mut entries = std::mem::take(&mut cursor.outcomes);
        let waiting = entries.len();
        entries.extend(group.iter().flat_map(|pending| pending.entries.iter().cloned()));
        let held = self.held().is_some();
        if held && !entries[waiting..].iter().any(announces) {
            if waiting == 0 {
                tokio::spawn(Arc::clone(self).in_time());
            }
            cursor.outcomes = entries;
            return Ok(());
        }
        self.write(cursor, |document| {
            let found = document.serial();
            if found != base {
                return Err(stale(found));
            }
            document.entries.extend(entries.iter().cloned());
            Ok(())
        })
        .await
    }

    /// Writes outcomes that found no other write in time.
    async fn in_time(self: Arc<Self>) {
        tokio::time::sleep(PATIENCE).await;
        let mut cursor = Arc::clone(&self.cursor).lock_owned().await;
        if let Err(error) = self.settle(&mut cursor).await {
            // They are not lost: their intents are open, and the next tick finds out.
            tracing::warn!(%error, "outcomes could not be written");
        }
    }

    /// Writes the outcomes that wait.
    async fn settle(&self, cursor: &mut Cursor) -> Result<(), StateError> {
        if cursor.outcomes.is_empty() {
            return Ok(());
        }
        let outcomes = std::mem::take(&mut cursor.outcomes);
        self.write(cursor, |document| {
            document.entries.extend(outcomes.iter().cloned());
            Ok(())
        })
        .await
    }

    /// What is written before the lock is given back.
    async fn settle_all(&self, cursor: &mut Cursor) -> Result<(), StateError> {
        self.settle(cursor).await?;
        let Some(history) = cursor.history.take() else {
            return Ok(());
        };
        let wrote = cursor.wrote;
        if wrote || matters(&history, &self.document(cursor).await?.history) {
            cursor.history = Some(history);
            return self.write(cursor, |_| Ok(())).await;
        }
        Ok(())
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
