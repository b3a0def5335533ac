use super::*;
use crate::{
    model::state::MachineMemory,
    plan::testing::{World, at, pool, verbs},
};

/// `linux` was renamed to `docker`, by a block where `block` is set.
fn renamed(world: &mut World, block: bool) {
    let mut docker = pool("docker", &["linux", "docker"]);
    docker.ssh_keys = world.stack.pools[0].ssh_keys.clone();
    docker.firewalls = world.stack.pools[0].firewalls.clone();
    world.stack.pools = vec![docker];
    if block {
        world.stack.moved = vec![Moved {
            from: StackPath::Pool("linux".into()),
            to: StackPath::Pool("docker".into()),
        }];
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn renaming_a_pool_moves_its_machines_and_makes_none_anew() {
    let mut world = World::new();
    world.queue(2);
    world.machine("brave-otter", -900, true);
    world.machine("calm-crow", -900, true);
    world.run("brave-otter");
    let before = world.record(&address("machine.linux/brave-otter")).clone();
    renamed(&mut world, true);
    let plan = world.plan();
    assert_eq!(
        verbs(&plan),
        [
            "relabel machine.docker/brave-otter",
            "relabel machine.docker/calm-crow"
        ]
    );
    assert_eq!(plan.drift, [], "nobody else did it");
    let report = &plan.pools[0];
    assert_eq!((report.name.as_str(), report.serving), ("docker", 2));
    let Verb::Relabel {
        labels, record, was, ..
    } = &plan.actions[0].verb
    else {
        panic!("a relabel")
    };
    assert_eq!(labels[POOL], "docker");
    assert_eq!(labels[ID], "brave-otter");
    assert_eq!(labels.len(), 2);
    assert_eq!(*was, Some(address("machine.linux/brave-otter")));
    assert_eq!(record.name, before.name, "its name in the cloud stays");
    assert_eq!(
        (&record.registration, &record.intent, &record.hash),
        (&before.registration, &before.intent, &before.hash)
    );
    world.apply(&plan);
    assert!(world.plan().is_noop(), "{:?}", verbs(&world.plan()));
    // The block may go once it has done its work.
    world.stack.moved.clear();
    assert!(world.plan().is_noop(), "{:?}", verbs(&world.plan()));
}

#[test]
fn without_a_block_the_old_pool_is_dissolved() {
    let mut world = World::new();
    world.machine("brave-otter", -900, true);
    renamed(&mut world, false);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["retire machine.linux/brave-otter"]);
}

#[test]
fn what_was_not_seen_or_is_begun_on_waits_and_counts_in_its_new_pool() {
    let mut world = World::new();
    world.queue(4);
    let unseen = world.machine("brave-otter", -900, true);
    world.machine("calm-crow", -900, true);
    world.lose(&unseen);
    renamed(&mut world, true);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["relabel machine.docker/calm-crow"]);
    assert_eq!(
        plan.pools[0].serving, 2,
        "nothing is made for the one that is missing once"
    );
    // It is gone for good: its record goes from where it is.
    world.set_time(120);
    let plan = world.plan();
    assert!(
        verbs(&plan).contains(&"forget machine.linux/brave-otter".to_owned()),
        "{:?}",
        verbs(&plan)
    );

    let mut world = World::new();
    world.queue(2);
    let begun = world.machine("brave-otter", -900, true);
    world.open(
        &begun,
        Intent::Cordon {
            ci: "gitlab".into(),
            registration: "brave-otter".into(),
            why: "test".into(),
        },
    );
    renamed(&mut world, true);
    let plan = world.plan();
    assert!(
        !verbs(&plan)
            .iter()
            .any(|verb| verb.starts_with("create") || verb.starts_with("retire"))
    );
    assert_eq!(plan.pools[0].serving, 1);
}

#[test]
fn a_machine_that_is_being_made_counts_in_its_new_pool() {
    let mut world = World::new();
    world.queue(2);
    world.open_create("calm-crow", -5);
    renamed(&mut world, true);
    let plan = world.plan();
    assert_eq!(verbs(&plan), [""; 0]);
    world.made("calm-crow", "calm-crow");
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["adopt machine.linux/calm-crow"]);
    world.apply(&plan);
    assert_eq!(verbs(&world.plan()), ["relabel machine.docker/calm-crow"]);
}

#[test]
fn a_move_that_was_interrupted_is_gone_on_with_though_its_block_is_gone() {
    let mut world = World::new();
    world.queue(1);
    let old = world.machine("brave-otter", -900, true);
    let mut records = BTreeMap::from([(old.clone(), world.record(&old).clone())]);
    let moved = Moved {
        from: StackPath::Pool("linux".into()),
        to: StackPath::Pool("docker".into()),
    };
    rename(&mut records, &moved, |_, _| true);
    let (new, record) = records.into_iter().next().unwrap();
    world.open(
        &new,
        Intent::Relabel {
            target: record.target(),
            labels: Labels::from([(POOL.to_owned(), "docker".to_owned())]),
            record: Box::new(record),
            was: Some(old.clone()),
        },
    );
    for block in [true, false] {
        let mut world = world.clone();
        renamed(&mut world, block);
        let plan = world.plan();
        assert_eq!(verbs(&plan), ["relabel machine.docker/brave-otter"]);
        let Verb::Relabel { was, .. } = &plan.actions[0].verb else {
            panic!("a relabel")
        };
        assert_eq!(*was, Some(old.clone()));
    }
}

#[test]
fn labels_follow_a_record_that_state_mv_moved() {
    let mut world = World::new();
    world.queue(1);
    let old = world.machine("brave-otter", -900, true);
    let resources = &mut world.snapshot.state.resources;
    readdress(resources, &old, &address("machine.linux/calm-crow")).unwrap();
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["relabel machine.linux/calm-crow"]);
    assert_eq!(
        plan.actions[0].reason.to_string(),
        "was machine.linux/brave-otter"
    );
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn a_renamed_firewall_keeps_its_rules_its_name_and_its_machines() {
    let mut world = World::new().with_shared();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    assert!(world.plan().is_noop());
    let mut wall = world.stack.firewalls.remove("default").unwrap();
    wall.name = "web".into();
    world.stack.firewalls.insert("web".into(), wall);
    world.pool().firewalls = vec!["web".into()];
    world.stack.moved = vec![Moved {
        from: StackPath::Shared(ResourceKind::Firewall, "default".into()),
        to: StackPath::Shared(ResourceKind::Firewall, "web".into()),
    }];
    let plan = world.plan();
    let told = verbs(&plan);
    assert_eq!(told[0], "relabel firewall/web", "{told:?}");
    assert!(
        told[1..]
            .iter()
            .all(|verb| verb.starts_with("relabel machine.linux/")),
        "{told:?}"
    );
    let Verb::Relabel { labels, record, .. } = &plan.actions[1].verb else {
        panic!("a relabel")
    };
    assert!(labels.is_empty(), "only the record of the machine changes");
    let ResourceSpec::Machine(spec) = &record.spec else {
        panic!("a machine")
    };
    assert_eq!(spec.firewalls, ["web"]);
    world.apply(&plan);
    assert!(world.plan().is_noop(), "{:?}", verbs(&world.plan()));
}

#[test]
fn idle_time_goes_with_the_machine_and_names_that_are_taken_get_a_number() {
    let mut world = World::new();
    world.machine("brave-otter", -900, true);
    world.machine_of("docker", "brave-otter", -900, true);
    let memory = MachineMemory {
        idle_since: Some(at(-30)),
        ..MachineMemory::default()
    };
    let old = address("machine.linux/brave-otter");
    world
        .snapshot
        .history
        .machines
        .insert(old.clone(), memory.clone());
    renamed(&mut world, true);
    let mut snapshot = world.snapshot.clone();
    apply(&mut snapshot, &world.stack, Goal::Converge);
    let new = address("machine.docker/brave-otter-2");
    assert_eq!(snapshot.moved, BTreeMap::from([(new.clone(), old)]));
    assert_eq!(snapshot.history.machines[&new], memory);
    let again = {
        let mut again = snapshot.clone();
        apply(&mut again, &world.stack, Goal::Converge);
        again
    };
    assert_eq!(again, snapshot, "done again, it changes nothing");
}

#[test]
fn a_stack_that_is_destroyed_moves_nothing() {
    let mut world = World::new();
    world.machine("brave-otter", -900, true);
    renamed(&mut world, true);
    assert_eq!(verbs(&world.destroy()), ["retire machine.linux/brave-otter"]);
}

#[test]
fn a_dead_registration_of_a_moved_pool_is_still_known_as_ours() {
    let mut world = World::new();
    world.register("linux", "calm-crow", false);
    renamed(&mut world, true);
    assert!(world.plan().is_noop(), "condemned once");
    world.set_time(60);
    assert_eq!(verbs(&world.plan()), ["unregister machine.docker/calm-crow"]);
    // Without the block, what machines on record are called tells.
    let mut world = World::new();
    world.queue(1);
    world.machine("brave-otter", -900, true);
    world.register("linux", "calm-crow", false);
    renamed(&mut world, true);
    let plan = world.plan();
    world.apply(&plan);
    world.stack.moved.clear();
    world.set_time(60);
    assert_eq!(verbs(&world.plan()), ["unregister machine.docker/calm-crow"]);
}

#[test]
fn what_was_released_is_neither_deleted_nor_in_the_way() {
    let mut world = World::new();
    world.queue(1);
    let target = world.orphan("brave-otter");
    world.snapshot.state.released.insert(target.clone());
    for seconds in [0, 100, 1000] {
        world.set_time(seconds);
        let plan = world.plan();
        let told = verbs(&plan);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("create machine.linux/"), "{told:?}");
        assert_eq!(plan.released.len(), 1);
        assert!(plan.orphans.is_empty() && plan.foreign.is_empty());
    }
    // One whose labels someone took off is no other's.
    world.seen("brave-otter").labels.remove("runfleet-lineage");
    assert!(world.plan().foreign.is_empty());
    let destroyed = world.destroy();
    assert!(destroyed.is_noop(), "{:?}", verbs(&destroyed));
}
