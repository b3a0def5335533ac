//! What someone else changed: what is there against what is on record.
//!
//! Shown apart from what the stack file wants. Labels of ours that were taken off or altered are put back by this plan:
//! without them a resource is found by its id only. The rest is shown with what becomes of it, and becomes the record's
//! by `refresh --accept`. A field that the cloud does not tell is no drift, nor is what our own unfinished attempts may
//! have done. What carries the whole claim of another lineage was adopted by a state elsewhere: it is shown, and not
//! fought over. Rules, subnets and keys of shared resources are compared where those are brought in line.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{
    Drift, DriftFate, Goal, Verb,
    draft::Draft,
    facts::{Facts, Sighting},
    strays,
};
use crate::model::{
    ids::{Address, PoolName, RegistrationId, ResourceKind},
    intent::Intent,
    kind::{self, Change, OnChange},
    reason::Reason,
    resource::{ClaimLabels, CloudStatus, Observed},
    state::{Record, State},
};

/// The claim that a resource on record should carry.
pub fn claim_of(state: &State, address: &Address, record: &Record) -> ClaimLabels {
    ClaimLabels {
        stack: state.stack.clone(),
        lineage: state.lineage.clone(),
        pool: address.pool.clone(),
        id: address.name.clone(),
        hash: record.hash.clone(),
        intent: record.intent.clone(),
        registration: record.registration.clone(),
    }
}

/// Shows all drift, and puts labels back where nothing else is done to their resource.
pub(super) fn find(facts: &Facts<'_>, goal: Goal, draft: &mut Draft) {
    let snapshot = facts.snapshot;
    let in_doubt: HashSet<&Address> = snapshot.open.iter().map(|open| &open.address).collect();
    let leaving: HashSet<&Address> = snapshot
        .open
        .iter()
        .filter(|open| matches!(open.intent, Intent::Delete { .. } | Intent::Forget { .. }))
        .map(|open| &open.address)
        .collect();
    let mut relabelled = HashSet::new();
    for (address, record) in &snapshot.state.resources {
        // What becomes of a group's members is the cloud's business, and its owner's.
        if leaving.contains(address) || snapshot.members.contains_key(address) {
            continue;
        }
        let seen = match facts.sighting(address, record) {
            Sighting::Here(seen) => seen,
            Sighting::Unseen => {
                if let Some(seen) = facts.taken_over(record) {
                    taken_over(&snapshot.state, address, record, seen, draft);
                }
                continue;
            }
            // What ended by itself is forgotten by its cloud after a while.
            Sighting::Lacking if address.kind == ResourceKind::Batch => continue,
            Sighting::Lacking => {
                let gone = change("resource", json!("there"), json!("gone"), OnChange::Replace);
                let fate = replaced(address, draft);
                show(
                    address,
                    "the cloud does not have it any more",
                    vec![gone],
                    fate,
                    draft,
                );
                continue;
            }
        };
        let mut labels = labels(&snapshot.state, address, record, seen);
        labels.retain(|label| !is_being_moved(draft, address, label));
        if !labels.is_empty() {
            let what = if seen.claimed().is_none() {
                "labels: our claim is gone".to_owned()
            } else {
                words(&labels)
            };
            let may = goal == Goal::Converge
                && !in_doubt.contains(address)
                && !draft.is_touched(address)
                && facts.cloud_gap(&record.provider).is_none();
            let repaired = may && repair(facts, address, record, seen, &what, draft);
            let fate = if repaired {
                relabelled.insert(address.clone());
                DriftFate::Repaired
            } else {
                DriftFate::Shown
            };
            show(address, &what, labels, fate, draft);
        }
        fields(address, record, seen, draft);
    }
    draft.kept.retain(|kept| !relabelled.contains(&kept.address));
}

/// Whether a label differs because its resource has another address now, and this plan brings it up to date.
fn is_being_moved(draft: &Draft, address: &Address, label: &Change) -> bool {
    let key = label.field.trim_start_matches("labels.");
    draft.action_on(address).is_some_and(|action| {
        let Verb::Relabel {
            labels, was: Some(_), ..
        } = &action.verb
        else {
            return false;
        };
        labels
            .get(key)
            .is_some_and(|put| label.before.as_str() == Some(put))
    })
}

/// Not put back: two states would take it from each other for ever. `adopt` takes it back, on a person's word.
fn taken_over(state: &State, address: &Address, record: &Record, seen: &Observed, draft: &mut Draft) {
    let lineage = strays::lineage_of(seen);
    let what = format!("adopted elsewhere: it carries the lineage {lineage}");
    let changes = labels(state, address, record, seen);
    show(address, &what, changes, DriftFate::Shown, draft);
}

fn repair(
    facts: &Facts<'_>,
    address: &Address,
    record: &Record,
    seen: &Observed,
    what: &str,
    draft: &mut Draft,
) -> bool {
    if address.pool.as_ref().is_some_and(|pool| draft.is_advised(pool)) {
        return false;
    }
    let verb = Verb::Relabel {
        have: Box::new(seen.clone()),
        labels: claim_of(&facts.snapshot.state, address, record).to_labels(),
        record: Box::new(record.clone()),
        was: None,
    };
    let reason = Reason::Drifted {
        what: what.to_owned(),
    };
    draft
        .push(address, verb, reason, Vec::new(), Some(record))
        .is_some()
}

/// The labels of ours that differ. A shared resource is changed in place, and its label's hash may lag behind its record.
fn labels(state: &State, address: &Address, record: &Record, seen: &Observed) -> Vec<Change> {
    let expected = [
        (ClaimLabels::STACK, Some(state.stack.as_str())),
        ("runfleet-lineage", Some(state.lineage.as_str())),
        ("runfleet-pool", address.pool.as_ref().map(PoolName::as_str)),
        ("runfleet-id", Some(address.name.as_str())),
        ("runfleet-hash", Some(record.hash.as_str())),
        ("runfleet-intent", Some(record.intent.as_str())),
        (
            "runfleet-registration",
            record.registration.as_ref().map(RegistrationId::as_str),
        ),
    ];
    let mut changes = Vec::new();
    for (key, want) in expected {
        let Some(want) = want else { continue };
        let have = seen.labels.get(key).map(String::as_str);
        let lags = key == "runfleet-hash" && address.kind.is_shared() && have.is_some();
        if have != Some(want) && !lags {
            let field = format!("labels.{key}");
            changes.push(change(&field, json!(want), json!(have), OnChange::InPlace));
        }
    }
    changes
}

/// Name, power, and what was bought.
fn fields(address: &Address, record: &Record, seen: &Observed, draft: &mut Draft) {
    if seen.name != record.name {
        let name = change("name", json!(record.name), json!(seen.name), OnChange::InPlace);
        let what = words(std::slice::from_ref(&name));
        show(address, &what, vec![name], DriftFate::Shown, draft);
    }
    if address.kind != ResourceKind::Machine {
        return;
    }
    if seen.status == CloudStatus::Off {
        let power = change("power", json!("on"), json!("off"), OnChange::Replace);
        let fate = replaced(address, draft);
        show(address, "power: on -> off", vec![power], fate, draft);
    }
    if seen.offering.is_none() || seen.offering.as_ref() == record.offering() {
        return;
    }
    let bought = seen_against(record, seen);
    if !bought.is_empty() {
        let leaves = draft.action_on(address).is_some_and(|action| {
            matches!(
                action.verb,
                Verb::Retire { .. } | Verb::Delete { .. } | Verb::Cordon { .. }
            )
        });
        let waits = draft.kept.iter().any(|kept| {
            kept.address == *address
                && matches!(
                    kept.reason,
                    Reason::RollWaits { .. } | Reason::RollStopped { .. } | Reason::Outdated { .. }
                )
        });
        let fate = if leaves || waits {
            DriftFate::Replaced
        } else {
            DriftFate::Shown
        };
        show(address, &words(&bought), bought, fate, draft);
    }
}

/// The fields of its kind that differ: the record's before, what is there after.
pub fn seen_against(record: &Record, seen: &Observed) -> Vec<Change> {
    let turned = |change: Change| Change {
        before: change.after,
        after: change.before,
        ..change
    };
    kind::differences(seen, &record.spec)
        .into_iter()
        .map(turned)
        .collect()
}

/// What is off or gone makes room for another, but where nothing is done at all.
fn replaced(address: &Address, draft: &Draft) -> DriftFate {
    if address.pool.as_ref().is_some_and(|pool| draft.is_advised(pool)) {
        DriftFate::Shown
    } else {
        DriftFate::Replaced
    }
}

fn show(address: &Address, what: &str, changes: Vec<Change>, fate: DriftFate, draft: &mut Draft) {
    draft.drift.push(Drift {
        address: address.clone(),
        what: what.to_owned(),
        changes,
        fate,
    });
}

fn change(field: &str, before: Value, after: Value, on_change: OnChange) -> Change {
    Change {
        field: field.to_owned(),
        before,
        after,
        on_change,
    }
}

fn words(changes: &[Change]) -> String {
    let words: Vec<String> = changes.iter().flat_map(Change::words).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests;
