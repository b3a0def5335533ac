//! What makes the record say what is there: `refresh --accept`.
//!
//! Type, name, rules, subnets and keys become the record's; the record of what is gone, or was
//! adopted by a state elsewhere, is dropped. Its registration
//! stays until a tick finds it without a machine, so that a mistake ends no job. Labels are never accepted: they are how
//! a resource is known. What differs from the stack file after it is an ordinary change of the next plan.

use std::collections::BTreeSet;

use super::{
    Action, ActionId, Verb, drift,
    facts::{Facts, Sighting},
    records::shared_spec,
};
use crate::{
    model::{
        ids::Address,
        reason::Reason,
        resource::{Labels, Observed, ResourceSpec},
        state::Record,
    },
    render,
};

/// One action for each record that differs; none for those that an unfinished attempt is about.
pub fn accept(facts: &Facts<'_>) -> Vec<Action> {
    let snapshot = facts.snapshot;
    let in_doubt: BTreeSet<&Address> = snapshot.open.iter().map(|open| &open.address).collect();
    let mut actions = Vec::new();
    for (address, record) in &snapshot.state.resources {
        if in_doubt.contains(address) {
            continue;
        }
        let verb = match facts.sighting(address, record) {
            Sighting::Unseen if facts.taken_over(record).is_none() => continue,
            Sighting::Unseen | Sighting::Lacking => Verb::Forget { registration: None },
            Sighting::Here(seen) => {
                let told = as_there(facts, record, seen);
                if told == *record {
                    continue;
                }
                Verb::Relabel {
                    have: Box::new(seen.clone()),
                    labels: Labels::new(),
                    record: Box::new(told),
                    was: None,
                }
            }
        };
        let reason = match facts.sighting(address, record) {
            Sighting::Lacking => Reason::Gone,
            _ => Reason::AcceptAsked,
        };
        actions.push(Action {
            id: ActionId(u32::try_from(actions.len()).unwrap_or(u32::MAX)),
            address: address.clone(),
            verb,
            reason,
            after: Vec::new(),
            before: Some(Box::new(record.clone())),
        });
    }
    actions
}

/// The record with what is there.
fn as_there(facts: &Facts<'_>, record: &Record, seen: &Observed) -> Record {
    let mut told = record.clone();
    told.name.clone_from(&seen.name);
    if let ResourceSpec::Machine(spec) = &mut told.spec {
        if let Some(offering) = seen
            .offering
            .as_ref()
            .filter(|offering| **offering != spec.offering)
        {
            spec.offering = offering.clone();
            told.price = facts.price(offering, spec.public_ipv4).cloned().or(told.price);
        }
        spec.name.clone_from(&seen.name);
        return told;
    }
    if !drift::seen_against(record, seen).is_empty()
        && let Ok(spec) = shared_spec(seen)
    {
        told.hash = render::shared_hash(&spec);
        told.spec = spec;
    }
    told
}
