//! What places that are reached over the net have in common: checks before a write, and records that wait for one write.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::{StateError, file, format};
use crate::model::{
    ids::{Serial, StackName},
    intent::Entry,
    state::State,
};

/// Entries that wait to be written.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) base: Serial,
    pub(super) entries: Vec<Entry>,
    pub(super) reply: oneshot::Sender<Result<(), StateError>>,
}

/// What waits to be written. Whoever may write next writes all of it.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Vec<Pending>>);

impl Queue {
    /// Puts entries in; the answer comes when they are written.
    pub(super) fn push(&self, base: Serial, entries: &[Entry]) -> oneshot::Receiver<Result<(), StateError>> {
        let (reply, answer) = oneshot::channel();
        let pending = Pending {
            base,
            entries: entries.to_vec(),
            reply,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pending);
        answer
    }

    /// What waits for the first serial that anything waits for; none when nothing waits. Whoever stopped waiting is
    /// left out: what those entries announce was not begun.
    pub(super) fn next(&self) -> Option<(Serial, Vec<Pending>)> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|pending| !pending.reply.is_closed());
        let base = waiting.first()?.base;
        let (group, others) = waiting.drain(..).partition(|pending| pending.base == base);
        *waiting = others;
        Some((base, group))
    }
}

/// Answers all that shared one write.
pub(super) fn answer(group: Vec<Pending>, done: &Result<(), StateError>) {
    for pending in group {
        let answer = done
            .as_ref()
            .map_or_else(|error| Err(file::again(error)), |()| Ok(()));
        // Who stopped waiting gets no answer.
        let _ = pending.reply.send(answer);
    }
}

/// Checks a state before it is written after `expected`.
pub(super) fn check(
    state: &State,
    expected: Serial,
    stack: &StackName,
    place: &str,
) -> Result<(), StateError> {
    format::may_write(state, expected, expected, stack, place)
}

/// Reads a state from its text: every format up to ours, checked.
pub(super) fn parse(bytes: &[u8], stack: &StackName, place: &str) -> Result<State, StateError> {
    format::read_state(bytes, stack, place)
}

/// What could not be made into text.
pub(super) fn unwritable(place: &str, error: &serde_json::Error) -> StateError {
    StateError::Corrupt {
        place: place.to_owned(),
        why: format!("what would be written is wrong, so it was not: {error}"),
    }
}
