//! Machines that are to be made anew: outdated, too old, worn out, or asked for. Their replacement is made first.
//!
//! The rule of a roll: a machine that serves leaves (deleted when idle, cordoned when busy) only while those that are
//! *ready* are more than the target, by as many as leave. As many as the batch are made above the target for that,
//! where `max` and the budget have room. Where they have none, idle machines leave first, a batch at a time, and only
//! when everything is ready and what takes their place can be paid. Nothing outdated leaves for being so after a
//! machine made from what is wished for now did not become ready, until one does or the wish changes again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Verb,
    creates::{Blocked, Maker},
    draft::Draft,
    facts::Facts,
    fleet::{self, Health, Machine, Presence},
    made::Made,
    outdated::{Current, ignored, told, words},
    pool::{Standing, Wish},
    recover::InFlight,
    shared::Wished,
    strays::Found,
};
use crate::{
    drain::Cordon,
    model::{
        ids::{Address, PoolName, ResourceKind},
        reason::Reason,
        resource::{MachineSpec, Observed, ResourceSpec},
        state::Record,
    },
    render::TemplateSet,
    stack::{Part, Pool},
};

/// Why a machine is to be made anew.
#[derive(Clone, Debug)]
struct Stale {
    reason: Reason,
    /// A person asked for it: whatever the batch.
    forced: bool,
    /// It is so because of what the stack file says, which may have been a mistake.
    outdated: bool,
}

/// A pool's roll in one tick.
#[derive(Debug, Default)]
pub(super) struct Roll<'a> {
    /// Those that are to be made anew.
    stale: HashMap<&'a Address, Stale>,
    /// Those of them whose turn it is.
    leaves: HashSet<&'a Address>,
    /// Why the others stay, and why one stays that differs and may.
    stays: HashMap<&'a Address, Reason>,
    /// How many more may leave for being surplus; none: there is no roll.
    spare: Option<u32>,
}

impl Roll<'_> {
    /// Why it is to be made anew; none when it is not.
    pub(super) fn reason(&self, address: &Address) -> Option<&Reason> {
        self.stale.get(address).map(|stale| &stale.reason)
    }

    /// Whether it is its turn.
    pub(super) fn leaves(&self, address: &Address) -> bool {
        self.leaves.contains(address)
    }

    /// Why it stays though it is to be made anew.
    pub(super) fn stays(&self, address: &Address) -> Option<&Reason> {
        self.stays
            .get(address)
            .filter(|_| self.stale.contains_key(address))
    }

    /// The same, and why one stays that differs and may.
    pub(super) fn note(&self, address: &Address) -> Option<&Reason> {
        self.stays.get(address)
    }

    /// At most so many of this surplus may leave: what boots replaces nothing yet.
    pub(super) fn surplus(&self, surplus: u32) -> u32 {
        self.spare.map_or(surplus, |spare| surplus.min(spare))
    }
}

/// Which of a pool's machines are to be made anew.
pub(super) fn stale<'a>(
    facts: &Facts<'a>,
    templates: &TemplateSet,
    wished: &BTreeMap<Address, Wished>,
    pool: &'a Pool,
    machines: &[&Machine<'a>],
    replace: &[Address],
) -> Roll<'a> {
    let mut roll = Roll::default();
    if pool.keeping.protect {
        return roll;
    }
    let mut current = Current::of(facts, templates, wished, pool);
    let asked: HashSet<&Address> = replace.iter().collect();
    let mut stopped: Option<Option<Address>> = None;
    for machine in machines {
        let address = machine.address;
        let parts = current.as_mut().map(|current| current.differs(machine.record));
        let parts = parts.unwrap_or_default();
        let stale = why(facts, pool, machine, &parts, asked.contains(address));
        let what = words(&parts, told(machine.record));
        let stays = match &stale {
            None if parts.is_empty() => None,
            None if ignored(pool, machine.record, &parts) => Some(Reason::IgnoredChange { what }),
            None => Some(Reason::RollWaits {
                what: format!("made from another {what}, roll = {}", pool.keeping.roll),
            }),
            Some(stale) if stale.outdated => {
                let stopped = stopped
                    .get_or_insert_with(|| current.as_mut().and_then(|current| current.failed(machines)));
                Some(match stopped {
                    Some(at) => Reason::RollStopped { at: at.to_string() },
                    None => waits(&stale.reason),
                })
            }
            Some(stale) => Some(waits(&stale.reason)),
        };
        roll.stays.extend(stays.map(|stays| (address, stays)));
        roll.stale.extend(stale.map(|stale| (address, stale)));
    }
    roll
}

fn waits(reason: &Reason) -> Reason {
    let what = reason.to_string();
    Reason::RollWaits { what }
}

fn why(
    facts: &Facts<'_>,
    pool: &Pool,
    machine: &Machine<'_>,
    parts: &BTreeSet<Part>,
    asked: bool,
) -> Option<Stale> {
    let keeping = &pool.keeping;
    let memory = facts.snapshot.history.machines.get(machine.address);
    let jobs = memory.map_or(0, |memory| memory.jobs);
    let of = |reason, forced, outdated| {
        Some(Stale {
            reason,
            forced,
            outdated,
        })
    };
    if asked || memory.is_some_and(|memory| memory.replace_asked.is_some()) {
        return of(Reason::ReplaceAsked, true, false);
    }
    if !parts.is_empty() && !ignored(pool, machine.record, parts) && keeping.roll.of(1) > 0 {
        let left = parts.iter().filter(|part| !keeping.ignore_changes.contains(part));
        let what = words(&left.copied().collect(), told(machine.record));
        return of(Reason::Outdated { what }, false, true);
    }
    if let Some(limit) = keeping.max_age.filter(|limit| machine.age > *limit) {
        let age = machine.age;
        return of(Reason::TooOld { age, limit }, false, false);
    }
    if let Some(limit) = keeping.max_jobs.filter(|limit| jobs >= *limit) {
        return of(Reason::WornOut { jobs, limit }, false, false);
    }
    None
}

/// How many of a pool's machines are what, in a roll.
struct Count<'f, 'a> {
    /// Those to be made anew that serve, forced ones first, then idle ones, by how few jobs they run.
    old: Vec<&'f Machine<'a>>,
    /// Those that serve and are ready.
    ready: u32,
    /// Those in creation.
    booting: u32,
    /// Those to be made anew that are cordoned: for their jobs, or for a settle time.
    draining: u32,
    forced: u32,
    /// How many may leave at a time.
    batch: u32,
}

impl Count<'_, '_> {
    /// How many could leave now, were there enough beside them.
    fn turn(&self) -> u32 {
        let others = || {
            self.old
                .iter()
                .skip(usize::try_from(self.forced).unwrap_or(usize::MAX))
        };
        let are = |busy| count(others().filter(|m| m.work.busy() == Some(busy)).count());
        let drain = are(true).min(self.batch.saturating_sub(self.draining));
        self.forced + self.batch.min(are(false) + drain)
    }
}

fn tally<'f, 'a>(standing: &'f Standing<'a, '_>, roll: &Roll<'a>) -> Count<'f, 'a> {
    let pool = standing.pool;
    let is_ready = |m: &Machine<'_>| m.health == Health::Well && matches!(m.presence, Presence::Here(_));
    let can_go = |m: &Machine<'_>| {
        let stopped = matches!(roll.stays(m.address), Some(Reason::RollStopped { .. }));
        roll.stale.contains_key(m.address) && is_ready(m) && !stopped
    };
    let serving = || standing.machines.iter().filter(|m| m.serves());
    let forced = |m: &Machine<'_>| roll.stale.get(m.address).is_some_and(|stale| stale.forced);
    let mut old: Vec<&Machine<'_>> = serving().filter(|m| can_go(m)).collect();
    old.sort_by_cached_key(|m| {
        (
            !forced(m),
            m.work.busy() != Some(false),
            m.work.jobs(),
            m.record.created_at,
            m.address,
        )
    });
    let draining = standing.machines.iter().filter(|m| {
        let cordoned = matches!(m.cordon, Cordon::Since(_)) && m.presence != Presence::Gone;
        cordoned && roll.stale.contains_key(m.address) && !forced(m)
    });
    let whole = standing.target.size.max(count(roll.stale.len()));
    Count {
        ready: count(serving().filter(|m| is_ready(m)).count()),
        booting: standing.room.booting,
        draining: count(draining.count()),
        forced: count(old.iter().filter(|m| forced(m)).count()),
        batch: pool.keeping.roll.of(whole).max(1),
        old,
    }
}

/// Decides who leaves in this tick, and makes what takes the place of those who leave in a later one.
pub(super) fn decide<'a>(
    standing: &Standing<'a, '_>,
    roll: &mut Roll<'a>,
    create: u32,
    maker: Option<&mut Maker<'a, '_>>,
    draft: &mut Draft,
) -> Vec<Made> {
    if roll.stale.is_empty() {
        return Vec::new();
    }
    let stopped = |reason: &&Reason| matches!(reason, Reason::RollStopped { .. });
    if let Some(reason) = roll.stays.values().find(stopped).cloned() {
        let waiting = count(roll.stays.values().filter(stopped).count());
        draft.warn(&standing.pool.name, waiting, reason);
    }
    let (target, room) = (standing.target.size, standing.room);
    let have = tally(standing, roll);
    let above_max = room.serving.saturating_sub(standing.pool.max);
    let spare = have.ready.saturating_sub(target).saturating_sub(above_max);
    let leaves = choose(&have, spare, false);
    roll.spare = Some(spare - count(leaves.len()));
    roll.leaves.extend(leaves.iter().map(|m| m.address));
    let turn = have.turn();
    let will = room.serving + create;
    let Some(maker) = maker else {
        return Vec::new();
    };
    let surge = (turn + target).saturating_sub(will).min(turn);
    let waiting = have.old.iter().filter(|m| !roll.leaves(m.address));
    let waiting: Vec<&Address> = waiting.map(|m| m.address).collect();
    let (made, no_room) = replace(standing, &waiting, create, surge, maker, draft);
    // Nothing more can be made beside what is there, and all that is there is ready: idle ones leave first.
    let all_ready = have.booting == 0 && create == 0 && made.is_empty();
    if no_room && all_ready && room.serving <= target && roll.leaves.is_empty() {
        let now = turn.saturating_sub(have.draining);
        for machine in choose(&have, now, true) {
            if !maker.frees(&standing.wish, machine.record) {
                break;
            }
            roll.leaves.insert(machine.address);
        }
    }
    made
}

/// Those whose turn it is: the first `spare`, idle ones up to the batch, busy ones while as many do not drain already.
fn choose<'f, 'a>(have: &Count<'f, 'a>, spare: u32, only_idle: bool) -> Vec<&'f Machine<'a>> {
    let mut busy = have.batch.saturating_sub(have.draining);
    let mut batch = have.batch;
    let mut chosen = Vec::new();
    for (ordinal, machine) in (0..).zip(&have.old) {
        let forced = ordinal < have.forced;
        let fits = match machine.work.busy() {
            Some(false) => forced || batch > 0,
            Some(true) => !only_idle && (forced || (batch > 0 && busy > 0)),
            None => false,
        };
        if !fits || count(chosen.len()) >= spare {
            continue;
        }
        if !forced {
            batch -= 1;
            busy -= u32::from(machine.work.busy() == Some(true));
        }
        chosen.push(*machine);
    }
    chosen
}

/// Makes as many as `surge` beside what is there; and whether `max` or the budget kept it from that.
fn replace<'a>(
    standing: &Standing<'a, '_>,
    waiting: &[&Address],
    create: u32,
    surge: u32,
    maker: &mut Maker<'a, '_>,
    draft: &mut Draft,
) -> (Vec<Made>, bool) {
    let (pool, room) = (standing.pool, standing.room);
    let fit = pool.max.saturating_sub(room.existing + create);
    let fit = standing
        .licensed
        .map_or(fit, |more| fit.min(more.saturating_sub(create)));
    let burst = pool
        .burst
        .map_or(u32::MAX, |burst| burst.saturating_sub(room.booting + create));
    let many = surge.min(fit).min(burst);
    let reasons = waiting
        .iter()
        .map(|address| Reason::Replacement {
            of: address.to_string(),
        })
        .take(usize::try_from(many).unwrap_or(usize::MAX))
        .collect();
    let wish = Wish {
        pool,
        reasons,
        booting: standing.wish.booting.clone(),
    };
    let (made, blocked) = maker.replace(&wish, create, draft);
    let no_room = surge > 0 && fit == 0;
    (made, no_room || matches!(blocked, Some(Blocked::Budget(..))))
}

/// Makes a shared resource anew that a person asked for, where nothing that cannot do without it uses it: a firewall, a
/// network or a group cannot be removed while machines have it, a key can. Who needs it, when it goes.
pub(super) fn replace_shared(
    facts: &Facts<'_>,
    wished: &BTreeMap<Address, Wished>,
    in_flight: &InFlight,
    found: &Found<'_>,
    address: &Address,
    draft: &mut Draft,
) -> Option<PoolName> {
    let record = facts.snapshot.state.resources.get(address)?;
    let by = wished.get(address).and_then(|wish| wish.by.clone())?;
    let there = matches!(fleet::presence(facts, address, record), Presence::Here(_));
    if draft.is_touched(address) || !there || facts.cloud_gap(&record.provider).is_some() {
        return None;
    }
    if let (false, Some(user)) = (
        address.kind == ResourceKind::SshKey,
        user(facts, in_flight, found, address, record, draft),
    ) {
        draft.warn(address, 1, Reason::Needed { by: user });
        return None;
    }
    let verb = Verb::Delete {
        target: record.target(),
        registration: None,
    };
    draft.push(address, verb, Reason::ReplaceAsked, Vec::new(), Some(record))?;
    Some(by)
}

/// Whose machines use a shared resource once this plan is done, as far as is known.
fn user(
    facts: &Facts<'_>,
    in_flight: &InFlight,
    found: &Found<'_>,
    address: &Address,
    record: &Record,
    draft: &Draft,
) -> Option<PoolName> {
    let uses = |spec: &MachineSpec| {
        let names = match address.kind {
            ResourceKind::Firewall => &spec.firewalls,
            ResourceKind::Network => &spec.networks,
            _ => &spec.ssh_keys,
        };
        names.contains(&address.name) || spec.placement_group.as_ref() == Some(&address.name)
    };
    let recorded = facts.snapshot.state.resources.iter();
    let mut users = recorded.filter_map(|(machine, own)| match &own.spec {
        ResourceSpec::Machine(spec) if own.provider == record.provider && uses(spec) => machine.pool.clone(),
        _ => None,
    });
    let key = (record.provider.clone(), address.kind, address.name.clone());
    let attempt = || {
        in_flight
            .uses
            .contains(&key)
            .then(|| PoolName::new("an unfinished attempt"))
    };
    let orphan = || {
        let mut orphans = found.orphans.iter();
        let other =
            |seen: &&&Observed| !seen.target.kind.is_shared() && seen.target.provider == record.provider;
        orphans.find(other).map(|_| PoolName::new("an orphan"))
    };
    let made = || {
        let action = draft
            .actions
            .iter()
            .find(|action| matches!(action.verb, Verb::Adopt { .. }));
        action.and_then(|action| action.address.pool.clone())
    };
    users.next().or_else(attempt).or_else(orphan).or_else(made)
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}
