//! Attempts without an outcome: each is closed by an action, or held until it can be judged.

use std::collections::{BTreeMap, HashSet};

use super::{
    ActionId, IfBusy, Verb,
    draft::{Draft, Leaver},
    facts::{Facts, Sighting, Work, settled},
    fleet::Machine,
};
use crate::{
    drain::Cordon,
    model::{
        ids::{Address, CiName, PoolName, ProviderName, RegistrationId, ResourceKind},
        intent::{Intent, OpenIntent},
        money::Price,
        offering::OfferingKey,
        reason::Reason,
        resource::{BatchSpec, ClaimLabels, Observed, ResourceRef, ResourceSpec},
        state::{Phase, Record},
    },
};

/// A shared resource that a machine uses: where, its kind and its name in the stack.
pub(super) type Use = (ProviderName, ResourceKind, String);

/// What unfinished creates have made, or may have.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Machines by pool, with what was bought.
    pub(super) machines: BTreeMap<PoolName, Vec<OfferingKey>>,
    /// What they cost.
    pub(super) prices: Vec<Price>,
    /// Shared resources taken on record by this plan.
    pub(super) adopted: BTreeMap<Address, ActionId>,
    /// Shared resources that may or may not exist.
    pub(super) unsettled: HashSet<Address>,
    /// Where those are.
    pub(super) providers: BTreeMap<Address, ProviderName>,
    /// What machines without a record use: once for each machine.
    pub(super) uses: Vec<Use>,
}

/// Closes what can be closed.
pub(super) fn resolve(
    facts: &Facts<'_>,
    machines: &BTreeMap<&PoolName, Vec<Machine<'_>>>,
    draft: &mut Draft,
) -> InFlight {
    let mut in_flight = InFlight::default();
    for open in &facts.snapshot.open {
        match &open.intent {
            Intent::Create { .. } => create(facts, open, draft, &mut in_flight),
            Intent::Delete { target, registration } => {
                let machine = open
                    .address
                    .pool
                    .as_ref()
                    .and_then(|pool| machines.get(pool))
                    .and_then(|machines| {
                        let at = machines.binary_search_by(|m| m.address.cmp(&open.address));
                        at.ok().and_then(|at| machines.get(at))
                    });
                delete(facts, open, target, registration.as_ref(), machine, draft);
            }
            Intent::Forget { registration } => {
                let record = facts.snapshot.state.resources.get(&open.address);
                let verb = Verb::Forget {
                    registration: registration.clone(),
                };
                draft.push(&open.address, verb, Reason::Unfinished, Vec::new(), record);
            }
            Intent::Relabel { .. } => relabel(facts, open, draft, &mut in_flight),
            // Closed by what the pool or the shared resource needs now; held at the end when that is nothing.
            Intent::Update { .. } | Intent::Cordon { .. } | Intent::Uncordon { .. } => {}
        }
    }
    in_flight
}

/// Holds every unfinished attempt that nothing in the plan closes.
pub(super) fn hold_rest(facts: &Facts<'_>, draft: &mut Draft) {
    let held: HashSet<String> = draft.held.iter().map(|held| held.about.clone()).collect();
    for open in &facts.snapshot.open {
        // Each create was closed or held by itself.
        let is_create = matches!(open.intent, Intent::Create { .. });
        if !is_create && !draft.is_touched(&open.address) && !held.contains(&open.address.to_string()) {
            draft.hold(&open.address, 1, Reason::Unsettled { since: open.at });
        }
    }
}

fn create(facts: &Facts<'_>, open: &OpenIntent, draft: &mut Draft, in_flight: &mut InFlight) {
    let Intent::Create {
        claim,
        spec,
        provider,
        price,
        ci,
    } = &open.intent
    else {
        return;
    };
    if spec.kind().is_shared() {
        in_flight.providers.insert(open.address.clone(), provider.clone());
    }
    let made = facts.made_by(&open.id);
    let recorded = facts.snapshot.state.resources.get(&open.address);
    let found = made.first().copied();
    match found {
        Some(seen)
            if recorded.is_none_or(|record| record.id == seen.target.id)
                && !draft.is_touched(&open.address) =>
        {
            let verb = adopt(open, seen, claim, spec, price.as_ref(), ci.as_ref());
            let id = draft.push(&open.address, verb, Reason::Adopted, Vec::new(), recorded);
            if recorded.is_none() && !matches!(spec, ResourceSpec::Batch(_)) {
                count(open, spec, provider, price.as_ref(), in_flight);
            }
            if let ResourceSpec::Batch(batch) = spec {
                // Those that are told are machines of the snapshot already.
                unseen(facts, open, batch, seen, in_flight);
            }
            match (id, spec.kind().is_shared()) {
                (Some(id), true) => {
                    in_flight.adopted.insert(open.address.clone(), id);
                }
                (None, true) => {
                    in_flight.unsettled.insert(open.address.clone());
                }
                _ => {}
            }
        }
        None if is_over(facts, open, provider) => {
            let verb = Verb::Abandon {
                open: Box::new(open.clone()),
            };
            draft.push(&open.address, verb, Reason::NeverMade, Vec::new(), recorded);
        }
        _ => {
            draft.hold(&open.address, 1, Reason::Unsettled { since: open.at });
            count(open, spec, provider, price.as_ref(), in_flight);
            if spec.kind().is_shared() {
                in_flight.unsettled.insert(open.address.clone());
            }
        }
    }
}

/// Goes on with a relabel: what it may have labelled is of our lineage now, and no record says so.
///
/// Where a complete listing and a reading by id lack the resource, it was removed meanwhile, and the attempt is closed;
/// a record that there is follows by its own way.
fn relabel(facts: &Facts<'_>, open: &OpenIntent, draft: &mut Draft, in_flight: &mut InFlight) {
    let Intent::Relabel {
        target,
        labels,
        record,
        was,
    } = &open.intent
    else {
        return;
    };
    let before = facts.snapshot.state.resources.get(&open.address);
    if let Some(have) = facts.resource(target) {
        if draft.is_touched(&open.address) {
            draft.hold(&open.address, 1, Reason::Unsettled { since: open.at });
            return;
        }
        let verb = Verb::Relabel {
            have: Box::new(have.clone()),
            labels: labels.clone(),
            record: record.clone(),
            was: was.clone(),
        };
        let moved = was
            .as_ref()
            .is_some_and(|was| facts.snapshot.state.resources.contains_key(was));
        if before.is_none() && !moved {
            count(
                open,
                &record.spec,
                &target.provider,
                record.price.as_ref(),
                in_flight,
            );
        }
        let id = draft.push(&open.address, verb, Reason::Unfinished, Vec::new(), before);
        if let (Some(id), None, true) = (id, before, target.kind.is_shared()) {
            in_flight.adopted.insert(open.address.clone(), id);
        }
        return;
    }
    let cloud = facts.snapshot.clouds.get(&target.provider);
    let lacking = cloud.is_some_and(|cloud| {
        cloud.listing.completeness.is_complete() && cloud.reread.get(&open.address) == Some(&None)
    });
    if lacking {
        let verb = Verb::Abandon {
            open: Box::new(open.clone()),
        };
        draft.push(&open.address, verb, Reason::NeverMade, Vec::new(), before);
    } else {
        draft.hold(&open.address, 1, Reason::Unsettled { since: open.at });
    }
}

/// Whether an attempt that no listing shows can be said to have made nothing.
///
/// Whoever decides holds the lock, so the call was ended, if not by an answer then with its process. What it made the
/// listing shows after the provider's settle time: either so long after the call's own time by our clock, or in two
/// complete listings so far apart by the cloud's.
fn is_over(facts: &Facts<'_>, open: &OpenIntent, provider: &ProviderName) -> bool {
    let Some(cloud) = facts.snapshot.clouds.get(provider) else {
        return false;
    };
    let settle = cloud.profile.settle;
    let ends = open.at + settle + cloud.profile.call_timeout;
    let absent = facts.snapshot.history.absent.get(&open.id);
    let twice = absent.is_some_and(|since| settled(*since, settle, cloud.listing.now));
    cloud.listing.completeness.is_complete() && (twice || facts.snapshot.now >= ends)
}

fn adopt(
    open: &OpenIntent,
    seen: &Observed,
    claim: &ClaimLabels,
    spec: &ResourceSpec,
    price: Option<&Price>,
    ci: Option<&CiName>,
) -> Verb {
    let labelled = seen.claim().and_then(|claim| claim.registration);
    let made = open.registration.clone();
    let registration = labelled.or_else(|| made.as_ref().map(|(_, id)| id.clone()));
    let losers = made
        .into_iter()
        .filter(|(_, id)| Some(id) != registration.as_ref())
        .collect();
    Verb::Adopt {
        record: Box::new(Record {
            provider: seen.target.provider.clone(),
            id: seen.target.id.clone(),
            name: seen.name.clone(),
            intent: open.id.clone(),
            hash: claim.hash.clone(),
            created_at: seen.created_at,
            spec: spec.clone(),
            price: price.cloned(),
            ci: ci.cloned(),
            registration,
            phase: Phase::Live,
        }),
        intents: vec![open.id.clone()],
        losers,
    }
}

/// Counts what an attempt that was found started, and that is not told yet.
fn unseen(
    facts: &Facts<'_>,
    open: &OpenIntent,
    batch: &BatchSpec,
    seen: &Observed,
    in_flight: &mut InFlight,
) {
    let Some(pool) = &open.address.pool else { return };
    let told = u32::try_from(seen.members.len()).unwrap_or(u32::MAX);
    for _ in 0..batch.count.saturating_sub(told) {
        let offerings = in_flight.machines.entry(pool.clone()).or_default();
        offerings.push(batch.each.offering.clone());
        let price = facts.price(&batch.each.offering, batch.each.public_ipv4);
        in_flight.prices.extend(price.cloned());
    }
}

fn count(
    open: &OpenIntent,
    spec: &ResourceSpec,
    provider: &ProviderName,
    price: Option<&Price>,
    in_flight: &mut InFlight,
) {
    in_flight.prices.extend(price.cloned());
    let (Some(machine), Some(pool)) = (spec.each(), &open.address.pool) else {
        return;
    };
    let offerings = in_flight.machines.entry(pool.clone()).or_default();
    offerings.extend((0..spec.count()).map(|_| machine.offering.clone()));
    let uses = machine.uses();
    let uses = uses.map(|(kind, name)| (provider.clone(), kind, name.to_owned()));
    in_flight.uses.extend(uses);
}

fn delete(
    facts: &Facts<'_>,
    open: &OpenIntent,
    target: &ResourceRef,
    registration: Option<&(CiName, RegistrationId)>,
    machine: Option<&Machine<'_>>,
    draft: &mut Draft,
) {
    if draft.is_touched(&open.address) {
        return;
    }
    let record = facts.snapshot.state.resources.get(&open.address);
    let unsettled = Reason::Unsettled { since: open.at };
    if let Some(why) = facts.cloud_gap(&target.provider) {
        let provider = target.provider.clone();
        draft.warn(&open.address, 1, Reason::PartialCloud { provider, why });
        return;
    }
    if facts.resource(target).is_none() {
        let certain = record.is_none_or(|record| facts.sighting(&open.address, record) == Sighting::Lacking);
        if certain {
            let verb = Verb::Forget {
                registration: registration.cloned(),
            };
            draft.push(&open.address, verb, Reason::Gone, Vec::new(), record);
        } else {
            draft.hold(&open.address, 1, unsettled);
        }
        return;
    }
    if target.kind.is_shared() {
        let verb = Verb::Delete {
            target: target.clone(),
            registration: None,
        };
        draft.push(&open.address, verb, Reason::Unfinished, Vec::new(), record);
        return;
    }
    let gap = registration.and_then(|(ci, _)| facts.demand_gap(ci).map(|why| (ci.clone(), why)));
    if let Some((ci, why)) = gap {
        draft.warn(&open.address, 1, Reason::PartialDemand { ci, why });
        return;
    }
    let leaver = match machine {
        Some(machine) => Leaver::of(machine),
        None => Leaver {
            address: &open.address,
            target: target.clone(),
            runner: registration.cloned(),
            work: registration.map_or(Work::NoRunner, |(ci, id)| {
                facts.work(ci, id, open.address.pool.as_ref())
            }),
            cordon: Cordon::Unknown,
            never_ran: false,
            record,
        },
    };
    if let Err(reason) = leaver.leave(facts, draft, Reason::Unfinished, IfBusy::StayCordoned) {
        draft.warn(&open.address, 1, reason);
    }
}
