//! What is taken on record, under which address, and what is left.

use super::{
    super::{
        Goal, Verb, accept,
        facts::{Facts, Work},
        fleet,
        import::{ImportError, import},
        rebuild,
        testing::{World, key, rule, verbs},
    },
    *,
};
use crate::model::{
    demand::Wanted,
    ids::ResourceKind,
    resource::{CloudStatus, Completeness, FirewallSpec, ResourceSpec},
    state::History,
};

/// A state that was lost: one busy machine and one idle, both of lineage `l2`, and their firewall.
fn lost() -> World {
    let mut world = World::new().with_shared();
    world.queue(2);
    world.snapshot.state.lineage = "l2".into();
    let plan = world.plan();
    world.apply(&plan);
    let name = machine_names(&world).remove(0);
    let now = world.ci().now;
    let runner = world.runner(&name);
    (runner.last_contact, runner.online) = (Some(now), Some(true));
    let Wanted::Jobs(jobs) = &mut world.ci().wanted else {
        panic!("a world of jobs")
    };
    jobs.clear();
    world.run(&name);
    for seen in &mut world.cloud().listing.resources {
        seen.labels.insert("runfleet-lineage".into(), "l2".into());
    }
    world
}

fn machine_names(world: &World) -> Vec<String> {
    let machines = world.snapshot.state.resources.keys();
    machines
        .filter(|address| address.kind == ResourceKind::Machine)
        .map(|address| address.name.clone())
        .collect()
}

/// The same world as one sees it who has no state, and a lineage of its own.
fn without_state(world: &World) -> World {
    let mut other = world.clone();
    other.snapshot.state = crate::model::state::State::empty("test".into(), "l9".into());
    other.snapshot.history = History::default();
    other
}

fn carry_out(world: &mut World, takeover: &Takeover) {
    let plan = instead(world.decide(Goal::Converge), actions(&takeover.taken));
    world.apply(&plan);
}

#[test]
fn what_is_foreign_is_adopted_keeps_its_registration_and_nothing_is_made_beside_it() {
    let original = lost();
    let mut world = without_state(&original);
    world.queue(4);
    assert!(world.plan().actions.is_empty(), "foreign resources block creates");
    let facts = Facts::of(&world.snapshot, &world.stack);
    let takeover = adopt(&facts, &[]).unwrap();
    assert_eq!(takeover.left, []);
    let machine = takeover
        .taken
        .iter()
        .find(|one| one.address.pool.is_some())
        .unwrap();
    assert_eq!(machine.busy, Some(true));
    assert_eq!(machine.labels["runfleet-lineage"], "l9");
    assert_eq!(machine.labels["runfleet-registration"], machine.address.name);
    assert!(
        takeover.taken[0].address.kind.is_shared(),
        "what machines use comes first"
    );
    carry_out(&mut world, &takeover);
    assert_eq!(machine_names(&world), machine_names(&original));
    let plan = world.plan();
    assert!(
        plan.foreign.is_empty() && plan.drift.is_empty(),
        "{:#?}",
        plan.drift
    );
    let made: Vec<String> = verbs(&plan)
        .into_iter()
        .filter(|verb| !verb.starts_with("create machine"))
        .collect();
    assert_eq!(made, Vec::<String>::new());
}

#[test]
fn a_name_that_is_taken_becomes_another_address() {
    let mut world = World::new();
    world.machine("brave-otter", -1000, true);
    world.foreign("calm-crow", "l2");
    world
        .seen("calm-crow")
        .labels
        .insert("runfleet-id".into(), "brave-otter".into());
    let facts = Facts::of(&world.snapshot, &world.stack);
    let taken = adopt(&facts, &[]).unwrap().taken.remove(0);
    let id = &taken.have.target.id;
    assert_eq!(
        taken.address.to_string(),
        format!("machine.linux/brave-otter-{id}")
    );
    assert_eq!(taken.labels["runfleet-id"], format!("brave-otter-{id}"));
    assert_eq!(taken.clashed.unwrap().to_string(), "machine.linux/brave-otter");
}

#[test]
fn two_machines_never_come_on_record_with_one_registration() {
    let mut world = World::new();
    world.foreign("calm-crow", "l2");
    world.foreign("keen-wolf", "l2");
    let labels = &mut world.seen("keen-wolf").labels;
    labels.insert("runfleet-registration".into(), "calm-crow".into());
    let facts = Facts::of(&world.snapshot, &world.stack);
    let takeover = adopt(&facts, &[]).unwrap();
    assert_eq!(takeover.taken.len(), 1);
    assert!(matches!(takeover.left[0].why, Why::Double { .. }));
}

#[test]
fn only_what_is_named_is_adopted_and_a_wrong_name_says_what_there_is() {
    let mut world = World::new();
    let target = world.foreign("calm-crow", "l2");
    world.foreign("keen-wolf", "l3");
    world.snapshot.state.disowned.insert("l3".into());
    let facts = Facts::of(&world.snapshot, &world.stack);
    let named = |name: &str| adopt(&facts, &[name.to_owned()]);
    for name in [
        "test-linux-calm-crow",
        target.id.as_str(),
        &format!("machine/{}", target.id),
    ] {
        assert_eq!(named(name).unwrap().taken.len(), 1, "{name}");
    }
    assert_eq!(
        named("test-linux-keen-wolf").unwrap().taken.len(),
        1,
        "disowned, and asked for by name"
    );
    assert_eq!(
        adopt(&facts, &[]).unwrap().taken.len(),
        1,
        "what is disowned is not taken unasked"
    );
    let Err(AdoptError::Unknown { there, .. }) = named("nobody") else {
        panic!("nobody is there")
    };
    assert_eq!(there, ["test-linux-calm-crow", "test-linux-keen-wolf"]);
}

#[test]
fn a_machine_of_a_pool_that_is_gone_is_adopted_and_leaves_when_idle() {
    let mut world = World::new();
    world.foreign("calm-crow", "l2");
    world
        .seen("calm-crow")
        .labels
        .insert("runfleet-pool".into(), "windows".into());
    world.run("calm-crow");
    let facts = Facts::of(&world.snapshot, &world.stack);
    let takeover = adopt(&facts, &[]).unwrap();
    let has = |pool: &PoolName| world.stack.pool(pool).is_some();
    assert_eq!(takeover.taken[0].unknown_pool(has).unwrap().as_str(), "windows");
    carry_out(&mut world, &takeover);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["cordon machine.windows/calm-crow"]);
}

#[test]
fn an_imported_machine_without_a_registration_is_never_deleted() {
    let mut world = World::new();
    let target = world.orphan("calm-crow");
    world.ci().runners.clear();
    world.seen("calm-crow").labels.clear();
    let at = world
        .cloud()
        .listing
        .resources
        .iter()
        .position(|seen| seen.target == target);
    let seen = world.cloud().listing.resources.remove(at.unwrap());
    let address: Address = "machine.linux/pet".parse().unwrap();
    let facts = Facts::of(&world.snapshot, &world.stack);
    let taken = import(&facts, &world.templates, &address, &seen, "i-new".into()).unwrap();
    assert_eq!((taken.busy, &taken.record.registration), (None, &None));
    world.cloud().listing.resources.push(seen);
    let takeover = Takeover {
        taken: vec![taken],
        left: Vec::new(),
    };
    carry_out(&mut world, &takeover);
    world.set_time(1_000_000);
    let facts = Facts::of(&world.snapshot, &world.stack);
    assert_eq!(
        fleet::work(&facts, &address, &world.snapshot.state.resources[&address]),
        Work::Unknown
    );
    world.seen("calm-crow").status = CloudStatus::Off;
    for plan in [world.plan(), world.destroy()] {
        assert!(verbs(&plan).is_empty(), "{:?}", verbs(&plan));
        assert_eq!(plan.kept[0].reason, Reason::BusyUnknown);
    }
}

#[test]
fn an_imported_machine_is_found_at_its_ci_by_its_name() {
    let mut world = World::new();
    world.foreign("calm-crow", "l2");
    world.run("calm-crow");
    let mut seen = world.seen("calm-crow").clone();
    seen.labels.clear();
    world.cloud().listing.resources.clear();
    let address: Address = "machine.linux/pet".parse().unwrap();
    let facts = Facts::of(&world.snapshot, &world.stack);
    let taken = import(&facts, &world.templates, &address, &seen, "i-new".into()).unwrap();
    assert_eq!(taken.record.registration, Some("calm-crow".into()));
    assert_eq!(taken.busy, Some(true));
}

#[test]
fn a_labelled_resource_a_taken_address_and_a_missing_pool_are_not_imported() {
    let mut world = World::new();
    world.machine("brave-otter", -1000, true);
    world.foreign("calm-crow", "l2");
    let labelled = world.seen("calm-crow").clone();
    let mut bare = labelled.clone();
    bare.labels.clear();
    let facts = Facts::of(&world.snapshot, &world.stack);
    let at = |address: &str, seen: &Observed| {
        import(
            &facts,
            &world.templates,
            &address.parse().unwrap(),
            seen,
            "i-new".into(),
        )
        .unwrap_err()
    };
    assert!(matches!(
        at("machine.linux/pet", &labelled),
        ImportError::Claimed { ours: true, .. }
    ));
    assert!(matches!(
        at("machine.linux/brave-otter", &bare),
        ImportError::AddressTaken { .. }
    ));
    assert!(matches!(
        at("machine.windows/pet", &bare),
        ImportError::NoPool { .. }
    ));
}

#[test]
fn a_lost_state_is_rebuilt_as_it_was() {
    let original = lost();
    let mut world = without_state(&original);
    let facts = Facts::of(&world.snapshot, &world.stack);
    let rebuilt = rebuild::rebuild(&facts, None).unwrap();
    assert_eq!(rebuilt.left, []);
    assert_eq!(rebuilt.lineage.as_str(), "l2");
    // Labels do not say of which parts a hash is made.
    let mut known = original.snapshot.state.resources.clone();
    for record in known.values_mut() {
        if let ResourceSpec::Machine(spec) = &mut record.spec {
            spec.parts.clear();
        }
    }
    assert_eq!(rebuilt.resources, known);
    world.snapshot.state.lineage = rebuilt.lineage;
    world.snapshot.state.resources = rebuilt.resources;
    let plan = world.plan();
    assert!(plan.is_noop() && plan.drift.is_empty(), "{:?}", verbs(&plan));
}

#[test]
fn a_rebuild_never_guesses_between_lineages_nor_from_a_partial_listing() {
    let mut world = World::new();
    world.foreign("calm-crow", "l2");
    world.foreign("keen-wolf", "l3");
    let facts = Facts::of(&world.snapshot, &world.stack);
    let Err(rebuild::RebuildError::Choose { lineages }) = rebuild::rebuild(&facts, None) else {
        panic!("there are two")
    };
    assert_eq!(lineages.len(), 2);
    assert_eq!(
        (lineages[0].machines, lineages[0].hourly[0].to_string()),
        (1, "0.010 EUR".to_owned())
    );
    let chosen = rebuild::rebuild(&facts, Some("l3")).unwrap();
    assert_eq!(chosen.resources.len(), 1);
    let unknown = rebuild::rebuild(&facts, Some("l4"));
    assert!(matches!(unknown, Err(rebuild::RebuildError::Unknown { .. })));
    world.cloud().listing.completeness = Completeness::partial("502");
    let facts = Facts::of(&world.snapshot, &world.stack);
    let partial = rebuild::rebuild(&facts, Some("l3"));
    assert!(matches!(partial, Err(rebuild::RebuildError::Partial { .. })));
}

#[test]
fn of_two_machines_with_one_claim_the_lowest_id_is_rebuilt_and_the_other_left() {
    let mut world = World::new();
    world.foreign("calm-crow", "l2");
    let mut double = world.seen("calm-crow").clone();
    double.target.id = "999".into();
    world.cloud().listing.resources.insert(0, double);
    let facts = Facts::of(&world.snapshot, &world.stack);
    let rebuilt = rebuild::rebuild(&facts, None).unwrap();
    assert_eq!(rebuilt.resources.len(), 1);
    assert_eq!(rebuilt.left[0].target.id.as_str(), "999");
}

#[test]
fn disowned_resources_are_listed_and_block_nothing() {
    let mut world = World::new().with_shared();
    world.foreign("calm-crow", "l2");
    let spec = ResourceSpec::Firewall(FirewallSpec {
        name: "test-default".into(),
        rules: vec![rule("22")],
    });
    let mut claim = World::claim(None, "default", "i-wall");
    claim.lineage = "l2".into();
    let wall = world.observed(&spec, &claim, -100);
    world.cloud().listing.resources.push(wall);
    world.queue(1);
    assert!(world.plan().actions.is_empty());
    world.snapshot.state.disowned.insert("l2".into());
    let plan = world.plan();
    assert_eq!(plan.foreign.len(), 2);
    let names: Vec<String> = plan
        .actions
        .iter()
        .filter_map(|action| match &action.verb {
            Verb::Create { ladder, .. } => Some(ladder[0].spec.name().to_owned()),
            _ => None,
        })
        .collect();
    assert!(
        names.contains(&"test-default-l1".to_owned()),
        "a name beside the disowned one's: {names:?}"
    );
    world.apply(&plan);
    let after = world.plan();
    assert!(after.is_noop(), "{:?}", verbs(&after));
}

#[test]
fn accepting_makes_the_record_say_what_is_there_and_the_next_plan_wants_it_back() {
    let mut world = World::new().with_shared();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    let name = machine_names(&world).remove(0);
    world.seen(&name).offering = Some(key("nbg1", "cx43"));
    world.seen("test-default").rules = Some(vec![rule("80")]);
    world.seen("test-default").labels.remove("runfleet-pool");
    let facts = Facts::of(&world.snapshot, &world.stack);
    let actions = accept::accept(&facts);
    assert_eq!(actions.len(), 2);
    assert!(
        actions
            .iter()
            .all(|action| matches!(&action.verb, Verb::Relabel { labels, .. } if labels.is_empty()))
    );
    let plan = instead(world.decide(Goal::Converge), actions);
    world.apply(&plan);
    let after = world.plan();
    assert!(after.drift.is_empty(), "{:?}", after.drift);
    assert!(
        verbs(&after).contains(&"update firewall/default".to_owned()),
        "{:?}",
        verbs(&after)
    );
}

#[test]
fn accepting_that_a_machine_is_gone_drops_its_record_and_leaves_its_registration() {
    let mut world = World::new();
    let address = world.machine("brave-otter", -1000, true);
    world.lose(&address);
    let facts = Facts::of(&world.snapshot, &world.stack);
    let actions = accept::accept(&facts);
    assert_eq!(actions[0].verb, Verb::Forget { registration: None });
    assert_eq!(actions[0].address, address);
}

#[test]
fn what_a_state_elsewhere_adopted_is_neither_fought_over_nor_touched_and_can_be_taken_back() {
    let mut world = World::new();
    let address = world.machine("brave-otter", -100_000, true);
    world
        .seen("brave-otter")
        .labels
        .insert("runfleet-lineage".into(), "l9".into());
    world.queue(4);
    for plan in [world.plan(), world.destroy()] {
        assert!(plan.actions.is_empty(), "{:?}", verbs(&plan));
        assert_eq!(plan.foreign.len(), 1);
        assert_eq!(plan.drift[0].what, "adopted elsewhere: it carries the lineage l9");
    }
    let facts = Facts::of(&world.snapshot, &world.stack);
    assert_eq!(
        accept::accept(&facts)[0].verb,
        Verb::Forget { registration: None }
    );
    let takeover = adopt(&facts, &[]).unwrap();
    assert_eq!(takeover.taken[0].address, address);
    carry_out(&mut world, &takeover);
    let plan = world.plan();
    assert!(plan.foreign.is_empty() && plan.drift.is_empty());
}
