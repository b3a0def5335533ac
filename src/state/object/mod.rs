//! State in an object store: S3, and what is compatible with it.
//!
//! | object | holds |
//! |---|---|
//! | `NAME.json` | the state, with who wrote it in its first key (`fence`); replaced only over what was read |
//! | `NAME.journal/EPOCH-NUMBER` | batches of entries (`journal`) |
//! | `NAME.history` | what may be lost |
//! | `NAME.lock` | who holds the lock, with a lease (`lease`) |
//! | `NAME.states/SERIAL.json` | earlier states |
//!
//! # Contract
//! - Conditional writes (`If-None-Match: *`, `If-Match`) are what keeps two writers apart; a server that ignores them is
//!   found out when the lock is first made, and refused.
//! - Concurrent records share one object. What an entry costs does not depend on the size of the state or the journal.
//! - A writer that lost its lock writes nothing that counts: the state was fenced by whoever took the lock, and its
//!   batches are passed over.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: a lease is renewed, and a batch is written to its end, whoever stops waiting"
)]

mod bucket;
mod journal;
mod lease;
pub mod s3;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;
use object_store::{ObjectStore, UpdateVersion, path::Path};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::JoinHandle,
};

use self::{
    bucket::{Bucket, Swapped},
    journal::{Batch, Name, Origin, Seen, Selected},
    lease::{LockFile, Taken},
};
use super::{
    Lease, Loaded, LockInfo, RemoteError, StateError, StateStore, StateVersion, Until, lock,
    remote::{self, Pending, Queue, unwritable},
};
use crate::model::{
    ids::{Lineage, Serial, StackName},
    intent::Entry,
    state::{History, State},
};

pub use self::{bucket::ServerClock, lease::LeaseTimes};

/// How often a reader begins again because a writer replaced the state meanwhile: a bound, no more.
const READS: usize = 10;

/// Batches and earlier states that are read at once.
const AT_ONCE: usize = 16;

/// State in an object store.
#[derive(Debug)]
pub struct ObjectState {
    inner: Arc<Inner>,
}

struct Inner {
    stack: StackName,
    /// `s3://bucket/prefix/prod.json`
    place: String,
    bucket: Bucket,
    paths: Paths,
    lock: LockFile,
    keep: usize,
    /// Who writes without a lock.
    writer: String,
    queue: Queue,
    cursor: Arc<AsyncMutex<Cursor>>,
    held: Mutex<Option<Held>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Paths {
    state: Path,
    journal: Path,
    history: Path,
    states: Path,
}

/// What is known of what is there; under a lock that the reads and writes of this process take in turn.
#[derive(Debug, Default)]
struct Cursor {
    state: Option<Known>,
    journal: Option<Open>,
    /// What the last `load` read of the journal, and which serial that extended.
    seen: Option<(Serial, Seen)>,
}

/// The state as it was last read or written.
#[derive(Clone, Debug)]
struct Known {
    serial: Serial,
    lineage: Lineage,
    text: Bytes,
    version: UpdateVersion,
}

/// The journal that is being written.
#[derive(Debug)]
struct Open {
    base: Serial,
    lineage: Option<Lineage>,
    next: Name,
    seen: Seen,
}

/// The lock that this process holds.
#[derive(Debug)]
struct Held {
    id: String,
    epoch: u64,
    until: Until,
    renewer: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewer.abort();
    }
}

/// Who wrote a state: the first key of its text.
#[derive(Debug, Serialize, Deserialize)]
struct Fence {
    epoch: u64,
    writer: String,
}

/// How a store is set up.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// What names are put behind: `teams/ci`, or nothing.
    pub prefix: String,
    /// How it is called: `s3://bucket/prefix`.
    pub place: String,
    /// How many earlier states are kept.
    pub keep: u32,
    /// The lengths of a lease.
    pub times: LeaseTimes,
    /// The server's clock.
    pub clock: ServerClock,
}

impl ObjectState {
    /// The state of this stack in this store. Touches nothing yet.
    pub fn new(objects: Arc<dyn ObjectStore>, stack: &StackName, options: ObjectOptions) -> Self {
        let root = Path::from(options.prefix);
        let at = |suffix: &str| root.clone().join(format!("{stack}{suffix}"));
        let bucket = Bucket::new(objects, options.place.clone());
        Self {
            inner: Arc::new(Inner {
                stack: stack.clone(),
                place: format!("{}/{stack}.json", options.place),
                lock: LockFile::new(bucket.clone(), at(".lock"), options.clock, options.times),
                bucket,
                paths: Paths {
                    state: at(".json"),
                    journal: at(".journal"),
                    history: at(".history"),
                    states: at(".states"),
                },
                keep: usize::try_from(options.keep).unwrap_or(usize::MAX),
                writer: lock::random_id(),
                queue: Queue::default(),
                cursor: Arc::default(),
                held: Mutex::default(),
            }),
        }
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch and the id of the lock that is held; none without one.
    ///
    /// # Errors
    /// When its lease has ended: nothing may be written any more.
    fn holding(&self) -> Result<Option<(u64, String)>, StateError> {
        match self.held().as_ref() {
            None => Ok(None),
            Some(held) if held.until.at() > lease::now() => Ok(Some((held.epoch, held.id.clone()))),
            Some(_) => Err(self.ended()),
        }
    }

    fn ended(&self) -> StateError {
        RemoteError::LeaseEnded {
            place: self.place.clone(),
            by: None,
        }
        .into()
    }

    /// Reads the state, and remembers it. None when there is none.
    async fn read_state(&self, cursor: &mut Cursor) -> Result<Option<State>, StateError> {
        let Some(found) = self.bucket.get(&self.paths.state).await? else {
            cursor.state = None;
            return Ok(None);
        };
        let state = remote::parse(&found.bytes, &self.stack, &self.place)?;
        cursor.state = Some(Known {
            serial: state.serial,
            lineage: state.lineage.clone(),
            text: found.bytes,
            version: found.version,
        });
        Ok(Some(state))
    }

    /// Reads the state anew unless what is known of it is of this serial, and answers with the serial that is there.
    async fn serial(&self, cursor: &mut Cursor, expected: Serial) -> Result<Serial, StateError> {
        let known = cursor.state.as_ref().map_or(Serial(0), |known| known.serial);
        if known == expected && known != Serial(0) {
            return Ok(known);
        }
        let state = self.read_state(cursor).await?;
        Ok(state.map_or(Serial(0), |state| state.serial))
    }

    /// Every batch that extends this serial. None when one of them extends a later one, or was removed meanwhile: the
    /// state was replaced.
    async fn batches(&self, serial: Serial) -> Result<Option<Vec<Batch>>, StateError> {
        let names = self.bucket.list(&self.paths.journal).await?;
        let read = names
            .into_iter()
            .filter_map(|path| Some((Name::of(&path)?, path)))
            .map(|(name, path)| async move {
                let Some(found) = self.bucket.get(&path).await? else {
                    return Ok::<_, StateError>(None);
                };
                let place = self.bucket.place_of(&path);
                Batch::read(name, &found.bytes, &place).map(Some)
            });
        let batches: Option<Vec<Batch>> = stream::iter(read)
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .collect();
        let Some(batches) = batches else { return Ok(None) };
        if batches.iter().any(|batch| batch.header.extends > serial) {
            return Ok(None);
        }
        let now = batches.into_iter().filter(|batch| batch.header.extends == serial);
        Ok(Some(now.collect()))
    }

    async fn load(&self, cursor: &mut Cursor) -> Result<Loaded, StateError> {
        let journal = format!("{} (the journal)", self.place);
        for _ in 0..READS {
            let state = self.read_state(cursor).await?;
            let serial = state.as_ref().map_or(Serial(0), |state| state.serial);
            let batches = self.batches(serial).await?;
            // A writer replaces the state, then removes the journal: both must be as of one moment.
            let now = self.bucket.version(&self.paths.state).await?;
            if now != cursor.state.as_ref().map(|known| known.version.clone()) {
                continue;
            }
            let Some(batches) = batches else { continue };
            for batch in &batches {
                let extended = state.as_ref().map(|state| (state.serial, &state.lineage));
                super::journal_file::check(&batch.header, &self.stack, extended, &journal)?;
            }
            let Selected {
                entries,
                seen,
                passed_over,
            } = journal::select(batches, &journal)?;
            let mut mended = Vec::new();
            if !passed_over.is_empty() {
                mended.push(format!(
                    "{journal}: {} batches that were written by a process that had lost the lock are passed over",
                    passed_over.len()
                ));
            }
            cursor.seen = Some((serial, seen));
            cursor.journal = None;
            let history = self.history(&mut mended).await?;
            return Ok(Loaded {
                state,
                entries,
                history,
                mended,
            });
        }
        Err(StateError::Corrupt {
            place: self.place.clone(),
            why: "its journal extends a serial that it has not got, or it is being replaced all the time"
                .to_owned(),
        })
    }

    async fn history(&self, mended: &mut Vec<String>) -> Result<History, StateError> {
        let Some(found) = self.bucket.get(&self.paths.history).await? else {
            return Ok(History::default());
        };
        Ok(serde_json::from_slice(&found.bytes).unwrap_or_else(|why| {
            mended.push(format!(
                "{}: unreadable ({why}); idle times and lengths are learnt anew",
                self.bucket.place_of(&self.paths.history)
            ));
            History::default()
        }))
    }

    async fn save(&self, cursor: &mut Cursor, state: &State, expected: Serial) -> Result<(), StateError> {
        let holding = self.holding()?;
        let found = self.serial(cursor, expected).await?;
        if found != expected {
            return Err(StateError::Stale { expected, found });
        }
        remote::check(state, expected, &self.stack, &self.place)?;
        let (epoch, writer) = match holding {
            Some(holding) => holding,
            None => (self.epoch().await?, self.writer.clone()),
        };
        let mut text =
            serde_json::to_string_pretty(state).map_err(|error| unwritable(&self.place, &error))?;
        text.push('\n');
        let text =
            fenced(&text, &Fence { epoch, writer }).map_err(|error| unwritable(&self.place, &error))?;
        // What is folded into the new state: what is there now, and not what another writes while this is sent.
        let folded = self.bucket.list(&self.paths.journal).await?;
        self.keep(cursor).await?;
        let over = cursor.state.as_ref().map(|known| known.version.clone());
        // Whatever happens now, what is known is of the past.
        cursor.state = None;
        cursor.journal = None;
        cursor.seen = None;
        match self.bucket.swap(&self.paths.state, &text, over).await? {
            Swapped::Done(version) => {
                cursor.state = Some(Known {
                    serial: state.serial,
                    lineage: state.lineage.clone(),
                    text,
                    version,
                });
            }
            Swapped::Overtaken => {
                let state = self.read_state(cursor).await?;
                let found = state.map_or(Serial(0), |state| state.serial);
                // The same serial, written anew by another: it took the lock, and fenced us out.
                return Err(if found == expected {
                    self.ended()
                } else {
                    StateError::Stale { expected, found }
                });
            }
        }
        let old = |path: &Path| Name::of(path).is_some_and(|name| name.epoch <= epoch);
        self.bucket.remove(folded.into_iter().filter(old).collect()).await;
        self.prune().await
    }

    /// Keeps a copy of the state that is about to be replaced.
    async fn keep(&self, cursor: &Cursor) -> Result<(), StateError> {
        let Some(known) = cursor.state.as_ref().filter(|_| self.keep > 0) else {
            return Ok(());
        };
        let path = self.kept(known.serial);
        // There already: a save after this was interrupted.
        self.bucket.swap(&path, &known.text, None).await.map(drop)
    }

    fn kept(&self, serial: Serial) -> Path {
        self.paths.states.clone().join(format!("{:010}.json", serial.0))
    }

    /// Removes the oldest of what is kept beyond what is wanted.
    async fn prune(&self) -> Result<(), StateError> {
        let mut kept = self.bucket.list(&self.paths.states).await?;
        kept.truncate(kept.len().saturating_sub(self.keep));
        self.bucket.remove(kept).await;
        Ok(())
    }

    /// The epoch of the lock, held or not.
    async fn epoch(&self) -> Result<u64, StateError> {
        Ok(self.lock.read().await?.map_or(0, |(object, _)| object.epoch))
    }

    /// Writes everything that waits, one batch for what extends one serial, and answers each.
    async fn flush(self: Arc<Self>, mut cursor: OwnedMutexGuard<Cursor>) {
        while let Some((base, group)) = self.queue.next() {
            let done = self.append(&mut cursor, base, &group).await;
            if done.is_err() {
                // It may be there or not: what is there is read anew before the next.
                cursor.journal = None;
            }
            remote::answer(group, &done);
        }
    }

    async fn append(&self, cursor: &mut Cursor, base: Serial, group: &[Pending]) -> Result<(), StateError> {
        let holding = self.holding()?;
        let writer = holding
            .as_ref()
            .map_or_else(|| self.writer.clone(), |(_, id)| id.clone());
        // Without a lock another may have replaced the state or written a batch.
        let mut open = match cursor.journal.take() {
            Some(open) if open.base == base && holding.is_some() => open,
            _ => self.open(cursor, base, holding.map(|(epoch, _)| epoch)).await?,
        };
        let place = self.bucket.place_of(&self.paths.journal);
        let entries = || group.iter().flat_map(|pending| &pending.entries);
        let text = Bytes::from(
            Origin {
                stack: &self.stack,
                lineage: open.lineage.as_ref(),
                base,
                writer: &writer,
                seen: &open.seen,
            }
            .write(entries(), &place)?,
        );
        loop {
            let path = open.next.at(&self.paths.journal);
            let swapped = self.bucket.swap(&path, &text, None).await?;
            if let Swapped::Done(_) = swapped {
                open.next.number += 1;
                cursor.journal = Some(open);
                return Ok(());
            }
            // One of ours whose answer was lost and that came late, or another's without a lock.
            if let Some(found) = self.bucket.get(&path).await? {
                let there = Batch::read(open.next, &found.bytes, &self.bucket.place_of(&path))?;
                if self.held().is_some() && there.writer != writer {
                    return Err(self.ended());
                }
                open.next.number += 1;
            }
        }
    }

    /// Finds where the journal that extends `base` goes on.
    async fn open(&self, cursor: &mut Cursor, base: Serial, epoch: Option<u64>) -> Result<Open, StateError> {
        let found = if epoch.is_some() {
            self.serial(cursor, base).await?
        } else {
            let state = self.read_state(cursor).await?;
            state.map_or(Serial(0), |state| state.serial)
        };
        if found != base {
            return Err(StateError::Stale {
                expected: base,
                found,
            });
        }
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => self.epoch().await?,
        };
        let names: Vec<Name> = self
            .bucket
            .list(&self.paths.journal)
            .await?
            .iter()
            .filter_map(Name::of)
            .collect();
        let ours = names.iter().filter(|name| name.epoch == epoch);
        let number = ours.map(|name| name.number + 1).max().unwrap_or(0);
        // What was read is what is built on; what was written since by an older epoch is not.
        let mut seen = match &cursor.seen {
            Some((serial, seen)) if *serial == base => seen.clone(),
            _ => names.iter().map(|name| (name.epoch, name.number)).collect(),
        };
        seen.retain(|older, _| *older < epoch);
        Ok(Open {
            base,
            lineage: cursor.state.as_ref().map(|known| known.lineage.clone()),
            next: Name { epoch, number },
            seen,
        })
    }

    /// Rewrites the state under a new epoch, so that no write over what was read before succeeds.
    async fn fence(&self, epoch: u64, writer: &str) -> Result<(), StateError> {
        loop {
            let Some(found) = self.bucket.get(&self.paths.state).await? else {
                return Ok(());
            };
            // Never over what cannot be read.
            remote::parse(&found.bytes, &self.stack, &self.place)?;
            let corrupt = |why: String| StateError::Corrupt {
                place: self.place.clone(),
                why,
            };
            let text = std::str::from_utf8(&found.bytes).map_err(|error| corrupt(error.to_string()))?;
            let fence = Fence {
                epoch,
                writer: writer.to_owned(),
            };
            let text = fenced(text, &fence).map_err(|error| corrupt(error.to_string()))?;
            let swapped = self
                .bucket
                .swap(&self.paths.state, &text, Some(found.version))
                .await?;
            if let Swapped::Done(_) = swapped {
                return Ok(());
            }
        }
    }
}

/// The text of a state with its fence, in place of the one that it had.
fn fenced(text: &str, fence: &Fence) -> Result<Bytes, serde_json::Error> {
    const KEY: &str = "  \"fence\":";
    let rest = text
        .strip_prefix("{\n")
        .unwrap_or_else(|| text.trim_start().trim_start_matches('{'));
    let rest = match rest.split_once('\n') {
        Some((line, rest)) if line.starts_with(KEY) => rest,
        _ => rest,
    };
    let fence = serde_json::to_string(fence)?;
    Ok(format!("{{\n{KEY} {fence},\n{rest}").into())
}

#[async_trait]
impl StateStore for ObjectState {
    async fn load(&self) -> Result<Loaded, StateError> {
        let mut cursor = self.inner.cursor.lock().await;
        self.inner.load(&mut cursor).await
    }

    async fn load_history(&self) -> Result<History, StateError> {
        // What was wrong with it is told by `load`.
        self.inner.history(&mut Vec::new()).await
    }

    async fn save(&self, state: &State, expected: Serial) -> Result<(), StateError> {
        let (inner, state) = (Arc::clone(&self.inner), state.clone());
        let mut cursor = Arc::clone(&inner.cursor).lock_owned().await;
        let done = tokio::spawn(async move { inner.save(&mut cursor, &state, expected).await });
        done.await.unwrap_or_else(|error| {
            Err(RemoteError::Unexpected {
                place: self.inner.place.clone(),
                why: error.to_string(),
            }
            .into())
        })
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
        answer.await.unwrap_or_else(|error| {
            Err(RemoteError::Unexpected {
                place: self.inner.place.clone(),
                why: error.to_string(),
            }
            .into())
        })
    }

    async fn save_history(&self, history: &History) -> Result<(), StateError> {
        self.inner.holding()?;
        let path = &self.inner.paths.history;
        let mut text = serde_json::to_vec(history).map_err(|error| unwritable(&self.inner.place, &error))?;
        text.push(b'\n');
        self.inner.bucket.put(path, text.into()).await
    }

    async fn lock(&self, info: &LockInfo, patience: Duration) -> Result<Lease, StateError> {
        let inner = &self.inner;
        let Taken {
            object,
            until,
            version,
            fence,
            from,
        } = inner.lock.take(info, patience).await?;
        let epoch = object.epoch;
        if fence && let Err(error) = inner.fence(epoch, &info.id).await {
            // Whoever takes it next fences in our place.
            let _ = inner.lock.give_back(&info.id, false).await;
            return Err(error);
        }
        *inner.cursor.lock().await = Cursor::default();
        let renewer = tokio::spawn(inner.lock.clone().renew(object, version, until.clone()));
        *inner.held() = Some(Held {
            id: info.id.clone(),
            epoch,
            until: until.clone(),
            renewer,
        });
        Ok(Lease {
            info: info.clone(),
            until: Some(until),
            taken_from: from,
        })
    }

    async fn unlock(&self, lease: Lease) -> Result<(), StateError> {
        let held = self.inner.held().take_if(|held| held.id == lease.info.id);
        drop(held);
        match self.inner.lock.give_back(&lease.info.id, true).await? {
            Ok(_) => Ok(()),
            Err(holder) => {
                tracing::warn!(holder = holder.who, "the lock was another's already");
                Ok(())
            }
        }
    }

    fn place(&self) -> String {
        self.inner.place.clone()
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        Ok(self
            .inner
            .lock
            .read()
            .await?
            .and_then(|(object, _)| object.holder))
    }

    async fn unlock_by_force(&self, id: &str) -> Result<Option<LockInfo>, StateError> {
        match self.inner.lock.give_back(id, false).await? {
            Ok(holder) => Ok(holder),
            Err(holder) => Err(StateError::Locked {
                holder: Box::new(holder),
            }),
        }
    }

    async fn versions(&self) -> Result<Vec<StateVersion>, StateError> {
        let inner = &self.inner;
        let paths = inner.bucket.list(&inner.paths.states).await?;
        let mut serials: Vec<Serial> = paths
            .iter()
            .filter_map(|path| path.filename()?.strip_suffix(".json")?.parse().ok().map(Serial))
            .collect();
        serials.reverse();
        let read = serials.into_iter().map(|serial| self.version(serial));
        let states: Vec<Option<State>> = stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        Ok(states
            .into_iter()
            .flatten()
            .map(|state| StateVersion {
                serial: state.serial,
                lineage: state.lineage,
                resources: state.resources.len(),
                written: state.written,
            })
            .collect())
    }

    async fn version(&self, serial: Serial) -> Result<Option<State>, StateError> {
        let path = self.inner.kept(serial);
        let Some(found) = self.inner.bucket.get(&path).await? else {
            return Ok(None);
        };
        let place = self.inner.bucket.place_of(&path);
        remote::parse(&found.bytes, &self.inner.stack, &place).map(Some)
    }
}

/// The longest call as a lease counts it.
pub fn lease_for(longest_call: SignedDuration) -> LeaseTimes {
    LeaseTimes::for_calls(longest_call.unsigned_abs())
}
