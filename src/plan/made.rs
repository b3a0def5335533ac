//! What is to be made, from its ladder to its action.

use std::collections::{BTreeMap, HashMap};

use super::{ActionId, Bootstrap, Rung, Verb, draft::Draft, shared};
use crate::model::{
    ids::{Address, PoolName, ResourceKind},
    reason::Reason,
    resource::{BatchSpec, ResourceSpec},
};

/// A machine to be made, its ladder complete but for the ids of what it needs.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) address: Address,
    pub(super) reason: Reason,
    pub(super) ladder: Vec<Rung>,
    pub(super) bootstrap: Bootstrap,
}

impl Made {
    /// So many containers of this, in one batch.
    pub(super) fn of(mut self, count: u32) -> Self {
        self.address.kind = ResourceKind::Batch;
        for rung in &mut self.ladder {
            if let ResourceSpec::Machine(each) = &rung.spec {
                rung.spec = ResourceSpec::Batch(BatchSpec {
                    each: each.clone(),
                    count,
                });
                rung.price = rung.price.as_ref().map(|price| price.times(count));
            }
        }
        self
    }
}

/// The shared resources that these machines need, with the first pool that does.
pub(super) fn needed(made: &[Made]) -> BTreeMap<Address, PoolName> {
    let mut needed = BTreeMap::new();
    for machine in made {
        for address in machine.ladder.iter().flat_map(shared::needs_of) {
            needed
                .entry(address)
                .or_insert_with(|| machine.bootstrap.pool.clone());
        }
    }
    needed
}

/// Adds the machines to the plan, after what they need.
pub(super) fn push(made: Vec<Made>, shared: &HashMap<Address, ActionId>, draft: &mut Draft) {
    for machine in made {
        let mut ladder = machine.ladder;
        for rung in &mut ladder {
            rung.needs = shared::needs_of(rung)
                .iter()
                .filter_map(|address| shared.get(address).copied())
                .collect();
        }
        let verb = Verb::Create {
            ladder,
            bootstrap: Some(machine.bootstrap),
        };
        draft.push(&machine.address, verb, machine.reason, Vec::new(), None);
    }
}
