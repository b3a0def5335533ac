//! Which runner goes, and may it go: order, billing and the way out.
//!
//! Nothing here looks at a snapshot; the rules are functions of a few values, so that each can be tested alone.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    ids::Address,
    money::Billing,
    reason::Reason,
    resource::{ControlProfile, CordonKind},
};

/// The longest settle time that one guarded retire waits out; with a longer one the delete is a later tick's.
pub const GUARDED_SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// Whether a runner takes new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    /// It does.
    No,
    /// It is paused without a record of ours, or an attempt to cordon or uncordon it was interrupted.
    Unknown,
    /// It does not, since then by the CI's clock.
    Since(Timestamp),
}

/// What decides the order in which idle runners go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank<'a> {
    /// It failed.
    pub failed: bool,
    /// It takes no new job already.
    pub cordoned: bool,
    /// Until when it is paid.
    pub paid_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its address.
    pub address: &'a Address,
}

impl PartialOrd for Rank<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank<'_> {
    /// Failed first, then cordoned, then least paid time left, then oldest, then by address.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .failed
            .cmp(&self.failed)
            .then(other.cordoned.cmp(&self.cordoned))
            .then(self.paid_until.cmp(&other.paid_until))
            .then(self.created_at.cmp(&other.created_at))
            .then(self.address.cmp(other.address))
    }
}

/// How long before a paid hour's end a machine must begin to go, to be gone in time: the tick interval (there is no
/// later chance), the cordon's settle time and the time of the delete together.
pub fn margin(
    interval: SignedDuration,
    settle: SignedDuration,
    delete_time: SignedDuration,
) -> SignedDuration {
    interval + settle + delete_time
}

/// A surplus idle machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The cloud's time.
    pub now: Timestamp,
    /// Until when the machine is paid.
    pub paid_until: Timestamp,
    /// How long it has been idle, by the CI's clock.
    pub idle: SignedDuration,
}

/// Whether a surplus idle machine is due to go by how it is billed: why, or why not yet.
///
/// # Errors
/// The reason for which it is kept.
pub fn due(
    billing: Billing,
    clocks: Clocks,
    margin: SignedDuration,
    idle_timeout: SignedDuration,
) -> Result<Reason, Reason> {
    let paid_until = clocks.paid_until;
    match billing {
        Billing::StartedHour if paid_until.duration_since(clocks.now) <= margin => {
            Ok(Reason::PaidHourEnds { paid_until })
        }
        Billing::StartedHour => Err(Reason::PaidUntil { until: paid_until }),
        Billing::PerSecond { .. } if clocks.idle < idle_timeout => Err(Reason::IdleShort {
            idle: clocks.idle,
            limit: idle_timeout,
        }),
        Billing::PerSecond { .. } if paid_until > clocks.now => Err(Reason::PaidUntil { until: paid_until }),
        Billing::PerSecond { .. } => Ok(Reason::IdleTooLong { idle: clocks.idle }),
    }
}

/// The next step of an idle runner that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One guarded action: cordon, settle, read again, delete.
    Retire,
    /// Cordon now; a later tick deletes.
    Cordon,
    /// It is cordoned, and the cordon has not settled.
    Wait,
    /// Nothing can be done from outside: it goes when it has left by itself.
    Leave,
}

/// How an idle runner that is to go goes, by its CI's cordon. `now` is the CI's clock.
pub fn way(control: &ControlProfile, cordon: Cordon, now: Timestamp) -> Way {
    match (control.cordon, cordon) {
        (CordonKind::Leaves, _) => Way::Leave,
        _ if control.settle <= GUARDED_SETTLE => Way::Retire,
        (_, Cordon::Since(since)) if now.duration_since(since) >= control.settle => Way::Retire,
        (_, Cordon::Since(_)) => Way::Wait,
        (_, Cordon::No | Cordon::Unknown) => Way::Cordon,
    }
}
