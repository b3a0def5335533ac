//! Reads and writes of the one document: what is written at once, what waits for another write, and what is dropped.
//!
//! # Contract
//! - The cursor is the turn: whoever has it reads and writes, the others wait.
//! - Under a lock the document is read once and known from then on; without one it is read before each write. After a
//!   write whose end is not known it is read again.
//! - A write whose answer was lost is known again by its writer, and counts as done.
//! - A write that was overtaken begins again without a lock, and fails under one: then the lock was lost.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: outcomes are written in time, whoever stops waiting"
)]

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedMutexGuard;

use super::{
    super::{
        RemoteError, StateError, lock,
        remote::{self, Pending, unwritable},
    },
    Inner,
    exchange::Posted,
    wire::Document,
};
use crate::model::{
    ids::Serial,
    intent::{Entry, Step},
    state::{History, State},
};

/// How long outcomes may wait for another write.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a write without a lock begins again because another wrote: a bound, no more.
const WRITES: usize = 10;

/// What is known of the document, and what waits to be written into it.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// As it was last read or written; none: it must be read.
    pub(super) known: Option<Document>,
    /// Outcomes that extend the known state and are not written.
    outcomes: Vec<Entry>,
    /// A history that is not written.
    pub(super) history: Option<History>,
    /// Whether anything was written under this lock.
    wrote: bool,
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
    /// The document: as known under a lock, else as it is now.
    pub(super) async fn document<'c>(&self, cursor: &'c mut Cursor) -> Result<&'c mut Document, StateError> {
        let held = self.held().is_some();
        let known = cursor.known.take().filter(|_| held);
        let document = match known {
            Some(document) => document,
            None => self.exchange.get().await?.unwrap_or_default(),
        };
        Ok(cursor.known.insert(document))
    }

    /// Writes what `change` makes of the document, what waits included.
    pub(super) async fn write(
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

    pub(super) async fn save(
        &self,
        cursor: &mut Cursor,
        state: &State,
        expected: Serial,
    ) -> Result<(), StateError> {
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
    pub(super) async fn flush(self: Arc<Self>, mut cursor: OwnedMutexGuard<Cursor>) {
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
    pub(super) async fn settle(&self, cursor: &mut Cursor) -> Result<(), StateError> {
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
    pub(super) async fn settle_all(&self, cursor: &mut Cursor) -> Result<(), StateError> {
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
}
