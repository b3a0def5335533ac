//! What is said of one machine while it is judged: why it stays or leaves, its rank, and whether its cordon is ours to lift.

use crate::{
    drain::{Cordon, Rank},
    model::{reason::Reason, resource::CordonKind},
    plan::{
        facts::{Facts, Work},
        fleet::{Doubt, Health, Machine, Presence},
    },
    scaling::Target,
    stack::Pool,
};

/// Why a machine leaves that was cordoned earlier and is not due by its billing now.
pub(super) fn cordoned_reason(machine: &Machine<'_>) -> Reason {
    Reason::IdleTooLong { idle: machine.idle }
}

/// Whether a cordon is ours to lift. What a person paused stays paused, and so does what its cloud does not tell of.
pub(super) fn may_uncordon(facts: &Facts<'_>, machine: &Machine<'_>) -> bool {
    let record = machine.record;
    let ours = matches!(machine.cordon, Cordon::Since(_)) || machine.doubt == Some(Doubt::Cordon);
    let kind = record
        .ci
        .as_ref()
        .zip(record.registration.as_ref())
        .and_then(|(ci, registration)| facts.control_of(ci, registration))
        .map(|c| c.cordon);
    ours && record.registration.is_some()
        && facts.cloud_gap(&record.provider).is_none()
        && machine.work != Work::NoRunner
        && kind == Some(CordonKind::Pause)
        && !matches!(machine.presence, Presence::Gone)
}

/// Why a machine stays that its pool's target wants, or that is not idle.
pub(super) fn stays(machine: &Machine<'_>, pool: &Pool, target: &Target) -> Reason {
    match (&machine.health, machine.work) {
        (Health::Booting, _) => Reason::Booting {
            age: machine.age,
            timeout: pool.ready_timeout,
        },
        (_, Work::Busy(jobs)) => Reason::Busy { jobs },
        (_, Work::Unknown) => Reason::BusyUnknown,
        _ => Reason::WithinTarget { target: target.size },
    }
}

/// A machine's place in the order in which idle ones go.
pub(super) fn rank<'a>(machine: &Machine<'a>) -> Rank<'a> {
    Rank {
        failed: matches!(machine.health, Health::Failed(_)),
        cordoned: machine.cordon != Cordon::No,
        paid_until: machine.paid_until,
        created_at: machine.record.created_at,
        address: machine.address,
    }
}
