//! `after_ready` hooks: when they are due, and that they touch nothing.

use super::{hook, idle};
use crate::{
    model::reason::Reason,
    plan::{
        Plan, Selector, Summary, Verb,
        testing::{World, at},
    },
    stack::{Mode, hooks::Moment},
};

fn ready() -> World {
    idle(-60, |world, _| {
        world.pool().hooks = vec![hook(&[Moment::AfterReady])];
    })
}

fn due(plan: &Plan) -> Vec<String> {
    let actions = plan.actions.iter();
    let hooks = actions.filter(|action| matches!(action.verb, Verb::Hook { .. }));
    hooks.map(|action| action.address.to_string()).collect()
}

#[test]
fn a_ready_machines_hooks_are_due_once_while_it_is_kept_and_again_where_that_was_forgotten() {
    let mut world = ready();
    let plan = world.plan();
    assert_eq!(due(&plan), ["machine.linux/brave-otter"]);
    assert_eq!(plan.actions[0].reason, Reason::BecameReady);
    assert_eq!(plan.kept.len(), 1, "it is kept beside it");
    let summary = Summary {
        hook: 1,
        ..Summary::default()
    };
    assert_eq!(plan.summary(), summary, "nothing else is counted");
    world.apply(&plan);
    let plan = world.plan();
    assert!(plan.is_noop(), "{:#?}", plan.actions);
    world.snapshot.history.machines.clear();
    assert_eq!(due(&world.plan()).len(), 1);
}

#[test]
fn no_hook_is_due_for_a_machine_that_boots_leaves_is_advised_on_or_not_targeted() {
    let mut booting = World::new();
    booting.pool().hooks = vec![hook(&[Moment::AfterReady])];
    booting.queue(1);
    booting.machine("brave-otter", -60, false);
    let mut leaving = ready();
    leaving.set_time(3500);
    let mut advised = ready();
    advised.pool().mode = Mode::Advise;
    let mut elsewhere = ready();
    elsewhere.selection.targets = vec![Selector::Address("machine.linux/calm-crow".parse().unwrap())];
    let mut others = ready();
    others.pool().hooks = vec![hook(&[Moment::BeforeDelete, Moment::OnError])];
    for (what, mut world) in [
        ("boots", booting),
        ("leaves", leaving),
        ("advised", advised),
        ("elsewhere", elsewhere),
        ("other hooks", others),
    ] {
        assert!(due(&world.plan()).is_empty(), "{what}");
    }
    assert!(due(&ready().destroy()).is_empty());
}

#[test]
fn the_margin_before_a_paid_hours_end_has_room_for_the_hooks_of_a_delete() {
    let leaves_at = |hooks: bool| {
        let seconds = (0..3600).step_by(5).find(|second| {
            let mut world = idle(-60, |world, _| {
                if hooks {
                    world.pool().hooks = vec![hook(&[Moment::BeforeDelete])];
                }
            });
            world.set_time(*second);
            !world.plan().is_noop()
        });
        seconds.map(at)
    };
    let (Some(without), Some(with)) = (leaves_at(false), leaves_at(true)) else {
        panic!("it leaves");
    };
    assert_eq!(without.duration_since(with).as_secs(), 30);
}
