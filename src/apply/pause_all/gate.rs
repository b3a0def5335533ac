//! What one apply has paused, since when, and who is on the way out under it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::model::{
    ids::{Address, CiName, RegistrationId},
    state::Pause,
};

/// The longest that a pause may last: as long as developers take for a slow start of their job.
pub(super) const PAUSE: Duration = Duration::from_secs(30);
/// Of that, kept for the call that lifts it.
pub(super) const LIFT_ROOM: Duration = Duration::from_secs(3);
/// Of that, what must be left for a delete to be sent, and how long its answer is waited for. A cloud takes a delete in
/// within one or two seconds; what it did of one that it did not answer by then is found out by other ways.
pub(super) const DELETE_ROOM: Duration = Duration::from_secs(5);

/// The pauses of one apply, each under what it pauses: a CI's queue, or one runner of it.
#[derive(Debug, Default)]
pub(in crate::apply) struct Pauses(Mutex<BTreeMap<(CiName, String), Arc<Gate>>>);

/// One thing that is paused and lifted, perhaps several times.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) state: tokio::sync::Mutex<State>,
    /// Told when a pause has ended.
    pub(super) ended: Notify,
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// Never yet.
    #[default]
    Open,
    /// Paused by us.
    Shut(Shut),
    /// Open again since then.
    Lifted(Instant),
    /// Not to be lifted by this apply, or not lifted though it tried.
    Stuck,
}

/// A pause of ours, as long as it is up.
#[derive(Debug)]
pub(super) struct Shut {
    pub(super) pause: Pause,
    /// Where it is on record.
    pub(super) address: Address,
    pub(super) times: Times,
    /// Machines that are on their way out under it.
    pub(super) leaving: usize,
    /// Whether the delete of one of them may still take effect.
    pub(super) in_doubt: bool,
}

/// When what may happen under a pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From when on a reading counts.
    pub(super) settled: Instant,
    /// By when all deletes are answered.
    pub(super) end: Instant,
}

impl Times {
    /// Whether a machine could still leave.
    pub(super) fn has_room(self) -> bool {
        self.settled.max(Instant::now()) + DELETE_ROOM <= self.end
    }
}

impl Pauses {
    pub(super) fn gate(&self, ci: &CiName, registration: &RegistrationId) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (ci.clone(), paused_as(registration).0);
        Arc::clone(gates.entry(key).or_default())
    }
}

/// What is paused for this runner's sake: by what it is known here, and how it is put on record.
pub(super) fn paused_as(registration: &RegistrationId) -> (String, String) {
    match registration.shared() {
        Some((shared, _)) => (shared.to_owned(), registration.to_string()),
        None => (QUEUE.to_owned(), QUEUE.to_owned()),
    }
}

/// What stands in the record for all runners of a CI.
const QUEUE: &str = "queue";
