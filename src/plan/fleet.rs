//! The machines on record as this tick knows them: record, cloud, CI and memory joined.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::facts::{Facts, Sighting, Work, has_called, settled};
use crate::{
    drain::Cordon,
    model::{
        ids::{Address, PoolName, ResourceKind},
        intent::Intent,
        reason::Reason,
        resource::{CloudStatus, CordonKind, ImageRef, Observed, ResourceSpec},
        runner::RunnerState,
        state::{History, MachineMemory, Phase, Record},
    },
    scaling::step::Ready,
};

/// Whether a resource on record is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence<'a> {
    /// It is.
    Here(&'a Observed),
    /// Not told: counts as alive.
    Unseen,
    /// Lacked by a listing, not yet for certain: counts as alive, and is not replaced.
    Missing {
        /// Since when.
        since: Timestamp,
    },
    /// Lacked by two listings, a settle time apart.
    Gone,
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Well,
    /// Its CI has not heard from it, and its time is not over.
    Booting,
    /// It never became ready, or broke.
    Failed(Reason),
    /// It ended by itself.
    Ended,
    /// The cloud is deleting it, or our delete of it was interrupted.
    Leaving,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// Its address.
    pub address: &'a Address,
    /// What is on record.
    pub record: &'a Record,
    /// Whether it is there.
    pub presence: Presence<'a>,
    /// Whether it runs jobs.
    pub work: Work,
    /// How it is.
    pub health: Health,
    /// Whether it takes new jobs.
    pub cordon: Cordon,
    /// What an unfinished attempt leaves in doubt about it.
    pub doubt: Option<Doubt>,
    /// Whether its CI says that it is paused.
    pub paused: bool,
    /// How old it is, by the cloud's clock.
    pub age: SignedDuration,
    /// Until when it is paid; none where its cloud is unknown.
    pub paid_until: Option<Timestamp>,
    /// For how long it has been seen idle.
    pub idle: SignedDuration,
}

impl Machine<'_> {
    /// Whether it serves, or will once it has booted.
    pub fn serves(&self) -> bool {
        self.presence != Presence::Gone
            && matches!(self.health, Health::Well | Health::Booting)
            && self.cordon == Cordon::No
    }

    /// Whether it is a container that its cloud could not start.
    pub fn never_ran(&self) -> bool {
        let container = matches!(
            &self.record.spec,
            ResourceSpec::Machine(spec) if spec.image == ImageRef::TaskTemplate
        );
        container
            && matches!(self.presence, Presence::Here(seen) if matches!(seen.status, CloudStatus::Failed(_)))
    }

    /// Where it stands.
    pub fn state(&self) -> RunnerState {
        if self.presence == Presence::Gone {
            return RunnerState::Gone;
        }
        match (&self.health, self.cordon, self.work.busy()) {
            (Health::Ended, ..) => RunnerState::Ended,
            (Health::Leaving, ..) => RunnerState::Deleting,
            (Health::Failed(_), ..) => RunnerState::Failed,
            (_, Cordon::Since(_) | Cordon::Unknown, Some(false)) => RunnerState::Cordoned,
            (_, Cordon::Since(_) | Cordon::Unknown, _) => RunnerState::Draining,
            (Health::Booting, ..) => RunnerState::Booting,
            (Health::Well, _, Some(false)) => RunnerState::Idle,
            (Health::Well, ..) => RunnerState::Busy,
        }
    }
}

/// Whether a resource on record is there, by this reading and what is remembered of earlier ones.
pub fn presence<'a>(facts: &Facts<'a>, address: &Address, record: &Record) -> Presence<'a> {
    match facts.sighting(address, record) {
        Sighting::Here(seen) => Presence::Here(seen),
        Sighting::Unseen => Presence::Unseen,
        Sighting::Lacking => {
            let now = facts.cloud_now(&record.provider);
            let memory = facts.snapshot.history.machines.get(address);
            let since = memory.and_then(|m| m.missing_since).unwrap_or(now);
            if settled(since, facts.cloud_settle(&record.provider), now) {
                Presence::Gone
            } else {
                Presence::Missing { since }
            }
        }
    }
}

/// Every machine on record, by pool and in order of address.
pub fn machines<'a>(facts: &Facts<'a>) -> BTreeMap<&'a PoolName, Vec<Machine<'a>>> {
    let mut pools: BTreeMap<&PoolName, Vec<Machine<'_>>> = BTreeMap::new();
    let doubts = doubts(facts);
    for (address, record) in &facts.snapshot.state.resources {
        if let (ResourceKind::Machine, Some(pool)) = (record.spec.kind(), &address.pool) {
            let machine = machine(facts, &facts.snapshot.history, &doubts, address, record);
            pools.entry(pool).or_default().push(machine);
        }
    }
    pools
}

/// Those of a pool's machines whose own numbers count: they serve, are there and are ready.
pub fn ready<'a>(machines: &[Machine<'a>]) -> Vec<Ready<'a>> {
    let ready = machines.iter().filter(|machine| {
        machine.serves()
            && machine.health == Health::Well
            && !matches!(machine.presence, Presence::Missing { .. })
    });
    ready
        .map(|machine| Ready {
            name: &machine.record.name,
            registration: machine.record.registration.as_ref(),
        })
        .collect()
}

/// What unfinished attempts leave in doubt about a machine on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Whether it is cordoned.
    Cordon,
    /// Whether it is still there.
    Delete,
}

/// The machines about which an unfinished attempt leaves something in doubt.
pub fn doubts<'a>(facts: &Facts<'a>) -> BTreeMap<&'a Address, Doubt> {
    let mut doubts = BTreeMap::new();
    for open in &facts.snapshot.open {
        match open.intent {
            Intent::Cordon { .. } | Intent::Uncordon { .. } => {
                doubts.entry(&open.address).or_insert(Doubt::Cordon);
            }
            Intent::Delete { .. } | Intent::Forget { .. } => {
                doubts.insert(&open.address, Doubt::Delete);
            }
            Intent::Create { .. } | Intent::Update { .. } | Intent::Relabel { .. } => {}
        }
    }
    doubts
}

/// One machine, joined.
pub fn machine<'a>(
    facts: &Facts<'a>,
    history: &History,
    doubts: &BTreeMap<&Address, Doubt>,
    address: &'a Address,
    record: &'a Record,
) -> Machine<'a> {
    let memory = history.machines.get(address).cloned().unwrap_or_default();
    let presence = presence(facts, address, record);
    let work = work(facts, address, record);
    let now = facts.cloud_now(&record.provider);
    let age = now.duration_since(record.created_at);
    let doubt = doubts.get(address).copied();
    let paused = runner(facts, record).is_some_and(|runner| runner.paused);
    let health = match doubt {
        Some(Doubt::Delete) => Health::Leaving,
        _ => health(facts, address, record, &presence, work, &memory, age),
    };
    let cloud = facts.snapshot.clouds.get(&record.provider);
    let hourly = record.price.as_ref().map(|price| price.hourly.amount);
    let ci_now = record.ci.as_ref().map_or(now, |ci| facts.ci_now(ci));
    Machine {
        address,
        record,
        work,
        health,
        cordon: cordon(record, paused, doubt == Some(Doubt::Cordon)),
        doubt,
        paused,
        age,
        paid_until: cloud.map(|cloud| cloud.profile.billing.paid_until(record.created_at, now, hourly)),
        idle: memory
            .idle_since
            .map_or(SignedDuration::ZERO, |since| ci_now.duration_since(since)),
        presence,
    }
}

/// The registration of a machine on record, as its CI tells it.
pub fn runner<'a>(facts: &Facts<'a>, record: &Record) -> Option<&'a crate::model::demand::RunnerView> {
    facts.runner(record.ci.as_ref()?, record.registration.as_ref()?)
}

/// Whether a machine on record runs jobs.
pub fn work(facts: &Facts<'_>, address: &Address, record: &Record) -> Work {
    match (&record.ci, &record.registration) {
        (Some(ci), Some(registration)) => facts.work(ci, registration, address.pool.as_ref()),
        // Each machine of ours is made with a registration. One that was imported may have any.
        _ => Work::Unknown,
    }
}

/// Whether its CI has ever heard from it.
pub fn is_ready(facts: &Facts<'_>, record: &Record, work: Work, memory: &MachineMemory) -> bool {
    memory.ready_at.is_some()
        || matches!(work, Work::Busy(_))
        || runner(facts, record).is_some_and(has_called)
}

fn cordon(record: &Record, paused: bool, doubtful: bool) -> Cordon {
    match &record.phase {
        Phase::Cordoned { since, .. } => Cordon::Since(*since),
        Phase::Live if paused || doubtful => Cordon::Unknown,
        Phase::Live => Cordon::No,
    }
}

fn health(
    facts: &Facts<'_>,
    address: &Address,
    record: &Record,
    presence: &Presence<'_>,
    work: Work,
    memory: &MachineMemory,
    age: SignedDuration,
) -> Health {
    let ready = is_ready(facts, record, work, memory);
    let Presence::Here(seen) = presence else {
        return if ready { Health::Well } else { Health::Booting };
    };
    let timeout = address.pool.as_ref().and_then(|pool| facts.stack.pool(pool));
    let stuck = stuck(facts, record);
    match &seen.status {
        _ if facts.has_ended(seen, record.ci.as_ref()) => Health::Ended,
        CloudStatus::Ended(_) | CloudStatus::Terminated(_) => Health::Ended,
        CloudStatus::Deleting => Health::Leaving,
        CloudStatus::Off => broken("switched off"),
        CloudStatus::Failed(what) => broken(what),
        CloudStatus::Pending | CloudStatus::Running | CloudStatus::Unknown(_) => match timeout {
            _ if stuck.is_some() => stuck.map_or(Health::Well, Health::Failed),
            _ if ready && has_left(facts, record) => Health::Leaving,
            Some(pool) if !ready && age > pool.ready_timeout && has_left(facts, record) => {
                Health::Failed(Reason::NeverReady {
                    after: pool.ready_timeout,
                })
            }
            _ if ready && work == Work::NoRunner && lists_runners(facts, record) => {
                broken("its registration is gone")
            }
            _ if ready => Health::Well,
            Some(pool) if work != Work::Unknown && age > pool.ready_timeout => {
                Health::Failed(Reason::NeverReady {
                    after: pool.ready_timeout,
                })
            }
            _ => Health::Booting,
        },
    }
}

/// Whether a runner that its CI does not tell is one that its CI does not have.
fn lists_runners(facts: &Facts<'_>, record: &Record) -> bool {
    let control = record.ci.as_ref().and_then(|ci| facts.control(ci));
    control.is_none_or(|control| control.lists_runners)
}

/// The job that keeps a machine for longer than its CI lets any.
fn stuck(facts: &Facts<'_>, record: &Record) -> Option<Reason> {
    let (ci, registration) = (record.ci.as_ref()?, record.registration.as_ref()?);
    let job = facts.stuck(ci, registration)?;
    Some(Reason::StuckJob {
        job: job.to_string(),
        limit: facts.stack.ci.get(ci)?.running_max.unwrap_or_default(),
    })
}

/// Whether the runner of a machine that only its own leaving lets go is gone, by a complete answer of its CI: it is on its way
/// out, and takes no more jobs.
fn has_left(facts: &Facts<'_>, record: &Record) -> bool {
    let Some(ci) = &record.ci else { return false };
    let leaves = facts
        .control(ci)
        .is_some_and(|control| control.cordon == CordonKind::Leaves);
    let there = runner(facts, record).is_some_and(|runner| runner.online != Some(false));
    leaves && facts.demand_gap(ci).is_none() && !there
}

fn broken(what: &str) -> Health {
    Health::Failed(Reason::Broken {
        what: what.to_owned(),
    })
}
