//! What has no record: orphans of our lineage, foreign resources, registrations without a machine.
//!
//! Orphans and dead registrations are condemned by one tick and removed by a later one, a settle time apart; whatever
//! gets a record in between is pardoned. Foreign resources are shown and never touched; those of a lineage that a person
//! disowned (`init --new-lineage`) do not keep us from creating.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::{
    Goal, IfBusy, Stray, Verb, batches, dead,
    draft::{Draft, Leaver},
    facts::{Facts, Work, settled},
    shared::Wished,
};
use crate::{
    drain::Cordon,
    model::{
        demand::RunnerView,
        ids::{Address, CiName, Lineage, PoolName, RegistrationId, ResourceKind},
        intent::Intent,
        reason::Reason,
        resource::{ClaimLabels, Observed, ResourceSpec},
        state::State,
    },
};

/// What was found without a record.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// Of our lineage.
    pub orphans: Vec<&'a Observed>,
    /// With our stack's name, and another lineage or none; on record here, too, where a state elsewhere adopted it.
    pub foreign: Vec<&'a Observed>,
    /// With our stack's name, and a lineage that a person said is not ours.
    pub disowned: Vec<&'a Observed>,
    /// Taken off the record by a person: neither.
    pub released: Vec<&'a Observed>,
    /// Registrations of ours that no machine uses.
    pub dead: Vec<(&'a CiName, &'a RunnerView)>,
    blind: bool,
}

impl Found<'_> {
    /// How many machines among the orphans are a pool's.
    pub(super) fn machines_of(&self, pool: &PoolName) -> u32 {
        let of_pool = |seen: &&&Observed| {
            seen.target.kind == ResourceKind::Machine
                && seen.labels.get("runfleet-pool").map(String::as_str) == Some(pool.as_str())
        };
        u32::try_from(self.orphans.iter().filter(of_pool).count()).unwrap_or(u32::MAX)
    }

    /// Whether this tick could not see what a key of `condemned` names, so that its condemnation neither ends nor ages.
    pub fn is_unread(&self, facts: &Facts<'_>, key: &str) -> bool {
        let unread_cloud =
            facts.snapshot.clouds.keys().any(|provider| {
                facts.cloud_gap(provider).is_some() && key.starts_with(&format!("{provider} "))
            });
        let unread_ci = facts.snapshot.demand.keys().any(|ci| {
            (self.blind || facts.demand_gap(ci).is_some()) && key.starts_with(&format!("{ci} registration "))
                || facts.demand_gap(ci).is_some() && key.starts_with(&format!("{ci} job "))
        });
        unread_cloud || unread_ci
    }
}

/// The key under which a registration is condemned.
pub fn registration_key(ci: &CiName, registration: &RegistrationId) -> String {
    format!("{ci} registration {registration}")
}

/// Everything without a record.
pub fn find<'a>(facts: &Facts<'a>) -> Found<'a> {
    let snapshot = facts.snapshot;
    let mut open_intents = HashSet::new();
    let mut open_names = HashSet::new();
    let mut open_targets = HashSet::new();
    for open in &snapshot.open {
        match &open.intent {
            Intent::Create { spec, .. } => {
                open_intents.insert(&open.id);
                open_names.insert(spec.name());
            }
            Intent::Delete { target, .. } | Intent::Relabel { target, .. } => {
                open_targets.insert(target);
            }
            _ => {}
        }
    }
    let clouds = facts.stack.providers.keys().chain(snapshot.clouds.keys());
    let mut found = Found {
        blind: clouds
            .into_iter()
            .any(|provider| facts.cloud_gap(provider).is_some()),
        ..Found::default()
    };
    let mut seen_before = HashSet::new();
    for seen in snapshot
        .clouds
        .values()
        .flat_map(|cloud| &cloud.listing.resources)
    {
        // A group is somebody else's by its nature, and nobody's stray.
        if seen.target.kind == ResourceKind::Group {
            continue;
        }
        // What has ended is nobody's trouble.
        if seen.target.kind == ResourceKind::Batch && batches::has_ended(seen) {
            continue;
        }
        let is_ours = facts.recorded(&seen.target).is_some() && !facts.is_anothers(seen);
        if is_ours || !seen_before.insert(&seen.target) {
            continue;
        }
        if snapshot.state.released.contains(&seen.target) {
            found.released.push(seen);
            continue;
        }
        match seen.claim() {
            Some(claim) if claim.lineage == snapshot.state.lineage => {
                // A batch's containers count in their pool with a record or without, and go by themselves or one by one.
                let known = seen.target.kind == ResourceKind::Batch
                    || open_intents.contains(&claim.intent)
                    || open_targets.contains(&seen.target);
                if !known {
                    found.orphans.push(seen);
                }
            }
            _ if is_disowned(&snapshot.state, seen) => found.disowned.push(seen),
            _ => found.foreign.push(seen),
        }
    }
    found.orphans.sort_by(|a, b| a.target.cmp(&b.target));
    found.foreign.sort_by(|a, b| a.target.cmp(&b.target));
    found.disowned.sort_by(|a, b| a.target.cmp(&b.target));
    found.released.sort_by(|a, b| a.target.cmp(&b.target));
    if !found.blind {
        found.dead = dead::dead(facts, &open_names);
    }
    found
}

/// Whose it is by its label; empty where it carries none.
pub fn lineage_of(seen: &Observed) -> Lineage {
    let label = seen.labels.get("runfleet-lineage").map(String::as_str);
    Lineage::from(label.unwrap_or_default())
}

/// Whether a person said that what carries its lineage is not ours.
pub fn is_disowned(state: &State, seen: &Observed) -> bool {
    !state.disowned.is_empty() && state.disowned.contains(&lineage_of(seen))
}

/// Gives a shared resource another name where a disowned one has its own: names are unique in a cloud, and that one is
/// left alone. The name stays when the other goes.
pub(super) fn beside_disowned(facts: &Facts<'_>, found: &Found<'_>, wished: &mut BTreeMap<Address, Wished>) {
    let state = &facts.snapshot.state;
    if state.disowned.is_empty() {
        return;
    }
    let mark: String = state.lineage.as_str().chars().take(MARK).collect();
    for (address, wish) in wished {
        let own = format!("{}-{mark}", wish.spec.name());
        let taken = found.disowned.iter().any(|seen| {
            seen.target.provider == wish.provider
                && seen.target.kind == address.kind
                && seen.name == wish.spec.name()
        });
        let recorded = state.resources.get(address).map(|record| record.name.as_str());
        if recorded == Some(own.as_str()) || (taken && recorded.is_none()) {
            match &mut wish.spec {
                ResourceSpec::SshKey(spec) => spec.name = own,
                ResourceSpec::Firewall(spec) => spec.name = own,
                ResourceSpec::Network(spec) => spec.name = own,
                ResourceSpec::PlacementGroup(spec) => spec.name = own,
                ResourceSpec::Machine(_) | ResourceSpec::Group(_) | ResourceSpec::Batch(_) => {}
            }
        }
    }
}

/// How much of our lineage such a name holds: as much as tells the few lineages of a name apart.
const MARK: usize = 6;

/// Decides on everything without a record.
pub(super) fn judge(facts: &Facts<'_>, found: &Found<'_>, goal: Goal, draft: &mut Draft) {
    for seen in &found.disowned {
        draft.foreign.push(stray(facts, seen, Reason::Disowned));
    }
    for seen in &found.foreign {
        let count = u32::try_from(found.foreign.len()).unwrap_or(u32::MAX);
        let stray = stray(facts, seen, Reason::ForeignPresent { count });
        draft.foreign.push(stray);
    }
    for seen in &found.released {
        let stray = stray(facts, seen, Reason::Released);
        draft.released.push(stray);
    }
    let (machines, shared): (Vec<&Observed>, Vec<&Observed>) = found
        .orphans
        .iter()
        .partition(|seen| seen.target.kind == ResourceKind::Machine);
    for seen in machines.into_iter().chain(shared) {
        let reason = match orphan(facts, seen, goal, draft) {
            Ok(reason) => reason,
            Err(reason) => {
                let quiet = matches!(reason, Reason::CondemnedOnce { .. });
                let about = seen.target.to_string();
                if quiet {
                    draft.hold(&about, 1, reason.clone());
                } else {
                    draft.warn(&about, 1, reason.clone());
                }
                reason
            }
        };
        let stray = stray(facts, seen, reason);
        draft.orphans.push(stray);
    }
    for (ci, runner) in &found.dead {
        dead::dead_registration(facts, ci, runner, goal, draft);
    }
}

fn orphan(facts: &Facts<'_>, seen: &Observed, goal: Goal, draft: &mut Draft) -> Result<Reason, Reason> {
    let provider = &seen.target.provider;
    let now = facts.cloud_now(provider);
    let since = condemned_since(facts, &seen.target.to_string(), now);
    if let Some(why) = facts.cloud_gap(provider) {
        let provider = provider.clone();
        return Err(Reason::PartialCloud { provider, why });
    }
    let reason = match goal {
        Goal::Destroy => Reason::Destroy,
        Goal::Converge if settled(since, facts.cloud_settle(provider), now) => Reason::Orphan { since },
        Goal::Converge => return Err(Reason::CondemnedOnce { since }),
    };
    let Some(claim) = seen.claim() else {
        return Err(Reason::CondemnedOnce { since });
    };
    let address = stray_address(facts, seen, &claim);
    if seen.target.kind != ResourceKind::Machine {
        let after = draft
            .actions
            .iter()
            .filter(|action| removes_machine(&action.verb, seen))
            .map(|action| action.id)
            .collect();
        let verb = Verb::Delete {
            target: seen.target.clone(),
            registration: None,
        };
        draft.push(&address, verb, reason.clone(), after, None);
        return Ok(reason);
    }
    let (runner, work) = runner_of(facts, &claim)?;
    let shared = runner
        .as_ref()
        .is_some_and(|(ci, registration)| facts.owner(ci, registration).is_some());
    let leaver = Leaver {
        address: &address,
        target: seen.target.clone(),
        // A double shares its registration with a machine on record, which keeps it.
        runner: runner.filter(|_| !shared),
        work: if shared { double(facts, &claim, work) } else { work },
        cordon: Cordon::Unknown,
        never_ran: false,
        record: None,
    };
    leaver.leave(facts, draft, reason.clone(), IfBusy::StayCordoned)?;
    Ok(reason)
}

/// A double that shares its registration may only go when no job can be on it: the CI has never heard from either.
fn double(facts: &Facts<'_>, claim: &ClaimLabels, work: Work) -> Work {
    let called = claim.registration.as_ref().is_none_or(|registration| {
        facts
            .snapshot
            .demand
            .keys()
            .filter_map(|ci| facts.runner(ci, registration))
            .any(super::facts::has_called)
    });
    match work {
        Work::Idle if called => Work::Unknown,
        Work::Idle | Work::NoRunner => Work::NoRunner,
        work => work,
    }
}

/// The registration that an orphan's label names, at whichever CI knows it, and whether it runs jobs.
pub(super) fn runner_of(
    facts: &Facts<'_>,
    claim: &ClaimLabels,
) -> Result<(Option<(CiName, RegistrationId)>, Work), Reason> {
    let Some(registration) = &claim.registration else {
        return Ok((None, Work::NoRunner));
    };
    let of_pool = claim.pool.as_ref().and_then(|pool| facts.stack.pool(pool));
    let cis: Vec<&CiName> = match of_pool {
        Some(pool) => vec![&pool.ci],
        None => facts
            .stack
            .ci
            .keys()
            .chain(facts.snapshot.demand.keys())
            .collect(),
    };
    for ci in &cis {
        if let Some(why) = facts.demand_gap(ci) {
            let ci = (*ci).clone();
            return Err(Reason::PartialDemand { ci, why });
        }
    }
    for ci in cis {
        let work = facts.work(ci, registration, claim.pool.as_ref());
        if work != Work::NoRunner {
            return Ok((Some((ci.clone(), registration.clone())), work));
        }
    }
    Ok((None, Work::NoRunner))
}

pub(super) fn condemned_since(facts: &Facts<'_>, key: &str, now: Timestamp) -> Timestamp {
    facts.snapshot.history.condemned.get(key).copied().unwrap_or(now)
}

/// The address that its claim says, or one of its own where that is taken.
fn stray_address(facts: &Facts<'_>, seen: &Observed, claim: &ClaimLabels) -> Address {
    let mut address = claim.address(seen.target.kind);
    let taken = facts.snapshot.state.resources.contains_key(&address)
        || facts.snapshot.open.iter().any(|open| open.address == address);
    if taken {
        address.name = format!("{}-{}", address.name, seen.target.id);
    }
    address
}

fn removes_machine(verb: &Verb, beside: &Observed) -> bool {
    match verb {
        Verb::Retire { target, .. } | Verb::Delete { target, .. } => {
            target.kind == ResourceKind::Machine && target.provider == beside.target.provider
        }
        _ => false,
    }
}

fn stray(facts: &Facts<'_>, seen: &Observed, reason: Reason) -> Stray {
    let price = seen.offering.as_ref().and_then(|key| facts.price(key, true));
    Stray {
        target: seen.target.clone(),
        name: seen.name.clone(),
        lineage: seen
            .labels
            .get("runfleet-lineage")
            .map(|text| text.as_str().into()),
        price: price.map(|price| price.hourly.clone()),
        reason,
    }
}
