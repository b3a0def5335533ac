//! State in files beside the stack file.
//!
//! `NAME.json` is the state, `NAME.journal` what was begun and ended since its serial, `NAME.history` what may be lost,
//! `NAME.lock` who writes. One host writes; readers need no lock.
//!
//! - The state and the history are replaced whole. The journal is only appended to.
//! - What cannot be read is never overwritten, the history excepted.
//! - A journal older than the state is what a crash left between the state's rename and the journal's removal: ignored,
//!   and removed by the next save or replaced by the next record. A newer one is an error.
//! - The state that a save replaces is kept as `NAME.states/SERIAL.json`, the last ten or as many as the stack says. That
//!   it could not be kept (a full disk, a folder that is not ours) is logged, and keeps no tick from being recorded.
//! - `record` costs what its entries take, and a sync that all calls which wait at that time share.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot};

use super::{
    KEEP_STATES, Lease, Loaded, LockInfo, StateError, StateStore, StateVersion, format,
    journal_file::{self, Appender, Header},
    lock::{self, Held},
    whole::{self, failed, with_suffix},
};
use crate::model::{
    ids::{Serial, StackName},
    intent::Entry,
    state::{History, State},
};

/// How often a reader begins again because a writer replaced the state meanwhile. A writer does so once a tick, so a
/// second time is rare already; this many are a bound, no more.
const READS: usize = 10;

/// State in files.
#[derive(Debug)]
pub struct FileStore {
    files: Files,
    /// What waits to be appended. Whoever gets `appender` next writes all of it.
    queue: Arc<Mutex<Vec<Pending>>>,
    /// The open journal. Held while a file is read or replaced, so that these never overlap within a process.
    appender: Arc<AsyncMutex<Option<Appender>>>,
    held: Mutex<Option<Held>>,
}

/// Where everything is.
#[derive(Clone, Debug)]
struct Files {
    stack: StackName,
    state: PathBuf,
    journal: PathBuf,
    history: PathBuf,
    lock: PathBuf,
    /// The folder of earlier states, and how many.
    states: PathBuf,
    keep: usize,
}

/// Lines that wait to be appended.
#[derive(Debug)]
struct Pending {
    base: Serial,
    lines: Vec<u8>,
    reply: oneshot::Sender<Result<(), StateError>>,
}

impl FileStore {
    /// The files of this stack in this folder. Touches nothing yet.
    pub fn new(folder: &Path, stack: &StackName) -> Self {
        let file = |suffix| with_suffix(&folder.join(stack.as_str()), suffix);
        Self {
            files: Files {
                stack: stack.clone(),
                state: file(".json"),
                journal: file(".journal"),
                history: file(".history"),
                lock: file(".lock"),
                states: file(".states"),
                keep: KEEP_STATES,
            },
            queue: Arc::default(),
            appender: Arc::default(),
            held: Mutex::default(),
        }
    }

    /// As many earlier states are kept, instead of [`KEEP_STATES`]; 0 keeps none, and removes none that is there.
    #[must_use]
    pub fn keeping(mut self, keep: usize) -> Self {
        self.files.keep = keep;
        self
    }

    /// Runs what blocks, alone among this store's reads and writes, also when the caller stops waiting for it.
    async fn alone<T, F>(&self, doing: &'static str, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Files, &mut Option<Appender>) -> Result<T, StateError> + Send + 'static,
    {
        let files = self.files.clone();
        let mut guard = Arc::clone(&self.appender).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || work(&files, &mut guard)).await;
        done.unwrap_or_else(|error| Err(failed(doing, &self.files.state)(io::Error::other(error))))
    }
}

#[async_trait]
impl StateStore for FileStore {
    async fn load(&self) -> Result<Loaded, StateError> {
        self.alone("read", |files, _| files.load()).await
    }

    async fn load_history(&self) -> Result<History, StateError> {
        // What was wrong with it is told by `load`.
        self.alone("read", |files, _| files.read_history(&mut Vec::new()))
            .await
    }

    async fn save(&self, state: &State, expected: Serial) -> Result<(), StateError> {
        let state = state.clone();
        self.alone("write", move |files, appender| {
            files.save(&state, expected)?;
            *appender = None;
            whole::remove(&files.journal)
        })
        .await
    }

    async fn record(&self, base: Serial, entries: &[Entry]) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let journal = &self.files.journal;
        let lines = journal_file::lines(entries).map_err(|error| failed("write", journal)(error.into()))?;
        let (reply, mut answer) = oneshot::channel();
        let pending = Pending { base, lines, reply };
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pending);
        let guard = Arc::clone(&self.appender).lock_owned().await;
        // Another call may have written these lines with its own while this one waited.
        if let Ok(answer) = answer.try_recv() {
            return answer;
        }
        let (files, queue) = (self.files.clone(), Arc::clone(&self.queue));
        tokio::task::spawn_blocking(move || append_all(&files, &queue, guard));
        answer
            .await
            .unwrap_or_else(|error| Err(failed("write", journal)(io::Error::other(error))))
    }

    async fn save_history(&self, history: &History) -> Result<(), StateError> {
        let text = format::write_history(history, &self.files.history.display().to_string())?;
        self.alone("write", move |files, _| {
            // What a later program wrote is not for us to overwrite.
            if let Err(error @ StateError::Newer { .. }) = files.read_history(&mut Vec::new()) {
                return Err(error);
            }
            whole::replace(&files.history, &text)
        })
        .await
    }

    async fn lock(&self, info: &LockInfo, patience: Duration) -> Result<Lease, StateError> {
        let (held, lease) = lock::take(&self.files.lock, info, patience).await?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        whole::sweep(&self.files.state)?;
        whole::sweep(&self.files.history)?;
        Ok(lease)
    }

    async fn unlock(&self, lease: Lease) -> Result<(), StateError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.take_if(|held| held.id() == lease.info.id) {
            Some(held) => held.release(&self.files.lock),
            None => Ok(()),
        }
    }

    fn place(&self) -> String {
        self.files.state.display().to_string()
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        lock::holder(&self.files.lock)
    }

    /// Only of a holder that left its name and is gone, on another host for one. A lock that the kernel still holds is
    /// never broken.
    async fn unlock_by_force(&self, id: &str) -> Result<Option<LockInfo>, StateError> {
        lock::break_open(&self.files.lock, id)
    }

    async fn versions(&self) -> Result<Vec<StateVersion>, StateError> {
        self.alone("read", |files, _| {
            Ok(files.versions()?.iter().map(StateVersion::of).collect())
        })
        .await
    }

    async fn version(&self, serial: Serial) -> Result<Option<State>, StateError> {
        self.alone("read", move |files, _| files.version(serial)).await
    }
}

/// Writes everything that waits, with one sync for what extends one serial, and answers each.
fn append_all(files: &Files, queue: &Mutex<Vec<Pending>>, mut appender: OwnedMutexGuard<Option<Appender>>) {
    let mut waiting = std::mem::take(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner));
    // Nobody waits for these any more; what they announce was not begun.
    waiting.retain(|pending| !pending.reply.is_closed());
    while let Some(base) = waiting.first().map(|pending| pending.base) {
        let (group, others) = waiting.into_iter().partition(|pending| pending.base == base);
        waiting = others;
        let lines: Vec<u8> = group
            .iter()
            .flat_map(|pending: &Pending| &pending.lines)
            .copied()
            .collect();
        let done = files.append(&mut appender, base, &lines);
        for pending in group {
            let answer = done.as_ref().map_or_else(|error| Err(again(error)), |()| Ok(()));
            // Who stopped waiting gets no answer.
            let _ = pending.reply.send(answer);
        }
    }
}

/// The same error once more: one failed sync is the failure of all that shared it.
pub(super) fn again(error: &StateError) -> StateError {
    match error {
        StateError::Remote(remote) => StateError::Remote(remote.clone()),
        StateError::Locked { holder } => StateError::Locked {
            holder: holder.clone(),
        },
        StateError::Newer { place, found, known } => StateError::Newer {
            place: place.clone(),
            found: *found,
            known: *known,
        },
        StateError::Corrupt { place, why } => StateError::Corrupt {
            place: place.clone(),
            why: why.clone(),
        },
        StateError::Stale { expected, found } => StateError::Stale {
            expected: *expected,
            found: *found,
        },
        StateError::OtherStack {
            place,
            found,
            expected,
        } => StateError::OtherStack {
            place: place.clone(),
            found: found.clone(),
            expected: expected.clone(),
        },
        StateError::Io { doing, place, source } => StateError::Io {
            doing,
            place: place.clone(),
            source: match source.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(source.kind(), source.to_string()),
            },
        },
    }
}

impl Files {
    /// The state on disk; none when there is none.
    fn read_state(&self) -> Result<Option<State>, StateError> {
        let bytes = whole::read(&self.state)?;
        bytes
            .map(|bytes| format::read_state(&bytes, &self.stack, &self.state.display().to_string()))
            .transpose()
    }

    fn load(&self) -> Result<Loaded, StateError> {
        // A writer in another process replaces the state, then removes the journal: read both as of one moment.
        for _ in 1..READS {
            let before = self.identity();
            let loaded = self.load_once();
            if self.identity().1 == before.1 {
                return loaded;
            }
        }
        self.load_once()
    }

    /// Which file the state is now. It stays open with the answer, so that no other can get its number meanwhile.
    fn identity(&self) -> (Option<File>, Option<(u64, u64)>) {
        let file = whole::open_to_read(&self.state);
        let number = file.as_ref().and_then(|file| file.metadata().ok());
        (file, number.map(|metadata| (metadata.dev(), metadata.ino())))
    }

    fn load_once(&self) -> Result<Loaded, StateError> {
        let mut mended = Vec::new();
        let state = self.read_state()?;
        let journal = whole::read(&self.journal)?.unwrap_or_default();
        let place = self.journal.display().to_string();
        let scan = journal_file::scan(&journal, &place)?;
        let serial = state.as_ref().map_or(Serial(0), |state| state.serial);
        let entries = match scan.header {
            Some(header) if header.extends < serial => Vec::new(),
            Some(header) => {
                let extended = state.as_ref().map(|state| (state.serial, &state.lineage));
                journal_file::check(&header, &self.stack, extended, &place)?;
                if scan.torn > 0 {
                    mended.push(format!(
                        "{place}: its last {} bytes, an entry that was being written when runfleet or its host \
                         stopped, are ignored",
                        scan.torn
                    ));
                }
                scan.entries
            }
            None => Vec::new(),
        };
        Ok(Loaded {
            state,
            entries,
            history: self.read_history(&mut mended)?,
            mended,
        })
    }

    /// The history; an empty one when it cannot be read, which is no reason to stop.
    fn read_history(&self, mended: &mut Vec<String>) -> Result<History, StateError> {
        let place = self.history.display().to_string();
        let read = match whole::read(&self.history) {
            Ok(None) => return Ok(History::default()),
            Ok(Some(bytes)) => format::read_history(&bytes, &place),
            Err(error) => Err(error),
        };
        let why = match read {
            Ok(history) => return Ok(history),
            Err(error @ StateError::Newer { .. }) => return Err(error),
            Err(StateError::Io { source, .. }) => source.to_string(),
            Err(StateError::Corrupt { why, .. }) => why,
            Err(error) => error.to_string(),
        };
        mended.push(format!(
            "{place}: unreadable ({why}); idle times and lengths are learnt anew"
        ));
        Ok(History::default())
    }

    fn save(&self, state: &State, expected: Serial) -> Result<(), StateError> {
        let place = self.state.display().to_string();
        let before = self.read_state()?;
        let found = before.as_ref().map_or(Serial(0), |state| state.serial);
        format::may_write(state, expected, found, &self.stack, &place)?;
        let text = format::write_state(state, &place)?;
        if before.is_some() && self.keep > 0 {
            self.keep(found);
        }
        whole::replace(&self.state, &text)?;
        self.prune(state.serial);
        Ok(())
    }

    fn kept(&self, serial: Serial) -> PathBuf {
        self.states.join(format!("{serial}.json"))
    }

    /// Keeps the state that is about to be replaced. The state is never written in place, so another name for the same
    /// file is a copy that costs nothing and cannot be torn.
    fn keep(&self, serial: Serial) {
        if let Err(error) = whole::keep(&self.state, &self.kept(serial)) {
            tracing::warn!(%error, %serial, "an earlier state could not be kept");
        }
    }

    /// Removes what is older than the states that are kept. A newer one than the current is of a time line that was
    /// left (a state put back by hand), and is replaced when its serial comes again.
    fn prune(&self, current: Serial) {
        if self.keep == 0 {
            return;
        }
        let removed = self.serials().and_then(|serials| {
            let surplus = serials
                .into_iter()
                .filter(|serial| *serial < current)
                .skip(self.keep);
            surplus
                .into_iter()
                .try_for_each(|serial| whole::remove(&self.kept(serial)))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "earlier states could not be removed");
        }
    }

    /// The serials of the states that are kept, newest first.
    fn serials(&self) -> Result<Vec<Serial>, StateError> {
        let mut serials: Vec<Serial> = whole::names_in(&self.states)?
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok().map(Serial))
            .collect();
        serials.sort_unstable_by(|a, b| b.cmp(a));
        Ok(serials)
    }

    fn version(&self, serial: Serial) -> Result<Option<State>, StateError> {
        let path = self.kept(serial);
        let place = path.display().to_string();
        let read = whole::read(&path)?;
        let state = read
            .map(|bytes| format::read_state(&bytes, &self.stack, &place))
            .transpose()?;
        match state {
            Some(state) if state.serial != serial => Err(StateError::Corrupt {
                place,
                why: format!("it holds serial {}", state.serial),
            }),
            state => Ok(state),
        }
    }

    /// The states that are kept, newest first; one that cannot be read is passed over, and logged.
    fn versions(&self) -> Result<Vec<State>, StateError> {
        // A save that was interrupted has kept what is current still. Where that is unreadable, all are shown.
        let current = self.read_state().ok().flatten().map(|state| state.serial);
        let mut states = Vec::new();
        for serial in self.serials()? {
            if Some(serial) == current {
                continue;
            }
            match self.version(serial) {
                Ok(state) => states.extend(state),
                Err(error) => tracing::warn!(%error, "an earlier state cannot be read"),
            }
        }
        Ok(states)
    }

    /// Appends to the journal that extends `base`, opening it first when it is not the open one.
    fn append(&self, appender: &mut Option<Appender>, base: Serial, lines: &[u8]) -> Result<(), StateError> {
        // Taken out: after an error it is opened anew, and so read anew.
        let open = appender
            .take()
            .filter(|open| open.base() == base && open.is_current());
        let mut open = if let Some(open) = open {
            open
        } else {
            let state = self.read_state()?;
            let found = state.as_ref().map_or(Serial(0), |state| state.serial);
            if found != base {
                return Err(StateError::Stale {
                    expected: base,
                    found,
                });
            }
            let header = Header::new(self.stack.clone(), state.map(|state| state.lineage), base);
            Appender::open(&self.journal, &header)?
        };
        open.append(lines)?;
        *appender = Some(open);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
