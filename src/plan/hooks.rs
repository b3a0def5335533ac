//! Which machines' hooks are due.

use std::collections::BTreeMap;

use super::{
    Verb,
    draft::Draft,
    facts::Facts,
    fleet::{Health, Machine, Presence},
};
use crate::{
    model::{ids::PoolName, reason::Reason},
    stack::hooks::Moment,
};

/// Has the `after_ready` hooks run for every machine that is ready, that nothing else is done to, and for which they are
/// not remembered to have run. Lost memory means again: at least once.
pub(super) fn after_ready(
    facts: &Facts<'_>,
    machines: &BTreeMap<&PoolName, Vec<Machine<'_>>>,
    draft: &mut Draft,
) {
    for pool in &facts.stack.pools {
        let own = machines.get(&pool.name).map(Vec::as_slice).unwrap_or_default();
        if !pool.has_hooks(Moment::AfterReady) || draft.is_advised(&pool.name) {
            continue;
        }
        for machine in own.iter().filter(|machine| is_due(facts, machine)) {
            if draft.is_touched(machine.address) || !draft.scope.covers(machine.address) {
                continue;
            }
            let verb = Verb::Hook {
                moment: Moment::AfterReady,
            };
            let record = Some(machine.record);
            draft.push(machine.address, verb, Reason::BecameReady, Vec::new(), record);
        }
    }
}

fn is_due(facts: &Facts<'_>, machine: &Machine<'_>) -> bool {
    let memory = facts.snapshot.history.machines.get(machine.address);
    let ready = memory.is_some_and(|memory| memory.ready_at.is_some() && memory.hooked_at.is_none());
    ready
        && machine.serves()
        && machine.health == Health::Well
        && matches!(machine.presence, Presence::Here(_))
}
