//! What someone does by hand, and what a plan makes of it.

use serde_json::json;

use super::super::{
    DriftFate, Goal, Verb,
    testing::{World, key, verbs},
};
use crate::{
    model::{intent::Intent, resource::CloudStatus},
    stack::Mode,
};

fn busy() -> (World, crate::model::ids::Address) {
    let mut world = World::new();
    let address = world.machine("brave-otter", -1000, true);
    world.run("brave-otter");
    (world, address)
}

#[test]
fn a_machine_whose_labels_were_all_taken_off_stays_on_record_and_gets_them_back() {
    let (mut world, address) = busy();
    world.unlabel(&address);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["relabel machine.linux/brave-otter"]);
    let drift = &plan.drift[0];
    assert_eq!(
        (drift.fate, drift.what.as_str()),
        (DriftFate::Repaired, "labels: our claim is gone")
    );
    assert_eq!(drift.changes.len(), 7);
    assert_eq!(drift.changes[1].field, "labels.runfleet-lineage");
    assert_eq!(
        (&drift.changes[1].before, &drift.changes[1].after),
        (&json!("l1"), &json!(null))
    );
    assert!(plan.kept.is_empty() && plan.orphans.is_empty() && plan.foreign.is_empty());
    world.apply(&plan);
    let after = world.plan();
    assert!(after.is_noop() && after.drift.is_empty(), "{:?}", verbs(&after));
}

#[test]
fn an_altered_label_is_named_and_put_back() {
    let (mut world, _) = busy();
    let labels = &mut world.seen("brave-otter").labels;
    labels.insert("runfleet-pool".into(), "windows".into());
    let plan = world.plan();
    assert_eq!(plan.drift[0].what, "labels.runfleet-pool: linux -> windows");
    let Verb::Relabel {
        labels, was: None, ..
    } = &plan.actions[0].verb
    else {
        panic!("{:?}", verbs(&plan))
    };
    assert_eq!(labels["runfleet-pool"], "linux");
}

#[test]
fn labels_of_others_are_nobodys_drift() {
    let (mut world, _) = busy();
    world
        .seen("brave-otter")
        .labels
        .insert("team".into(), "ci".into());
    let plan = world.plan();
    assert!(plan.is_noop() && plan.drift.is_empty());
}

#[test]
fn a_machine_that_leaves_anyway_is_not_relabelled_first() {
    let mut world = World::new();
    let address = world.machine("brave-otter", -1000, true);
    world.unlabel(&address);
    let plan = world.destroy();
    assert_eq!(verbs(&plan), ["retire machine.linux/brave-otter"]);
    assert_eq!(plan.drift[0].fate, DriftFate::Shown);
}

#[test]
fn nothing_is_relabelled_in_an_advised_pool_nor_while_an_attempt_is_open() {
    let (mut world, address) = busy();
    world.unlabel(&address);
    let mut advised = world.clone();
    advised.pool().mode = Mode::Advise;
    let plan = advised.plan();
    assert!(plan.is_noop());
    assert_eq!(plan.drift[0].fate, DriftFate::Shown);
    let registration = "brave-otter".into();
    let ci = "gitlab".into();
    world.open(&address, Intent::Uncordon { ci, registration });
    let plan = world.plan();
    assert!(
        !verbs(&plan).iter().any(|verb| verb.starts_with("relabel")),
        "{:?}",
        verbs(&plan)
    );
}

#[test]
fn another_type_is_shown_with_the_records_first() {
    let (mut world, _) = busy();
    world.seen("brave-otter").offering = Some(key("nbg1", "cx43"));
    let plan = world.plan();
    let drift = &plan.drift[0];
    assert_eq!(drift.what, "type: cx33 -> cx43");
    assert_eq!(
        (&drift.changes[0].before, &drift.changes[0].after),
        (&json!("cx33"), &json!("cx43"))
    );
}

#[test]
fn another_name_is_shown_and_nothing_is_done() {
    let (mut world, _) = busy();
    world.seen("brave-otter").name = "pet".into();
    let plan = world.plan();
    assert!(plan.is_noop());
    assert_eq!(plan.drift[0].what, "name: test-linux-brave-otter -> pet");
    assert_eq!(plan.drift[0].fate, DriftFate::Shown);
}

#[test]
fn a_machine_that_is_switched_off_is_drift_and_is_replaced() {
    let (mut world, _) = busy();
    world.seen("brave-otter").status = CloudStatus::Off;
    let plan = world.plan();
    assert_eq!(plan.drift[0].what, "power: on -> off");
    assert_eq!(plan.drift[0].fate, DriftFate::Replaced);
    assert_eq!(verbs(&plan)[0], "cordon machine.linux/brave-otter");
}

#[test]
fn what_is_gone_is_drift_unless_we_were_removing_it() {
    let (mut world, address) = busy();
    world.lose(&address);
    let plan = world.plan();
    assert_eq!(plan.drift[0].what, "the cloud does not have it any more");
    let target = world.record(&address).target();
    let registration = None;
    world.open(&address, Intent::Delete { target, registration });
    assert!(world.plan().drift.is_empty());
}

#[test]
fn what_was_not_told_is_no_drift() {
    let (mut world, address) = busy();
    let id = world.record(&address).id.clone();
    let cloud = world.cloud();
    cloud.listing.resources.retain(|seen| seen.target.id != id);
    cloud.listing.completeness = crate::model::resource::Completeness::partial("502");
    assert!(world.plan().drift.is_empty());
}

#[test]
fn a_shared_resource_gets_its_claim_back_and_its_hash_may_lag() {
    let mut world = World::new().with_shared();
    world.queue(1);
    let plan = world.plan();
    world.apply(&plan);
    assert!(world.plan().drift.is_empty());
    let wall = "firewall/default".parse().unwrap();
    world
        .seen("test-default")
        .labels
        .insert("runfleet-hash".into(), "older".into());
    assert!(world.plan().drift.is_empty());
    world.unlabel(&wall);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["relabel firewall/default"]);
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn a_relabel_that_was_interrupted_is_gone_on_with_or_closed_when_its_resource_is_gone() {
    let (mut world, address) = busy();
    world.unlabel(&address);
    let record = world.record(&address).clone();
    let target = record.target();
    let labels = super::claim_of(&world.snapshot.state, &address, &record).to_labels();
    let intent = Intent::Relabel {
        target,
        labels,
        record: Box::new(record),
        was: None,
    };
    world.open(&address, intent);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["relabel machine.linux/brave-otter"]);
    assert_eq!(plan.actions[0].reason.code(), "unfinished");
    // A machine that had no record, and was removed by hand before its labels were put on it.
    world.snapshot.state.resources.clear();
    world.cloud().reread.insert(address, None);
    let plan = world.decide(Goal::Converge);
    assert_eq!(verbs(&plan)[0], "abandon machine.linux/brave-otter");
}
