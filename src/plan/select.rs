//! What a person asked for beyond the goal: only some things (`--target`), or some made anew (`--replace`).
//!
//! A plan with targets is the plan without them, less every action on something else; what the selected need (a firewall
//! of a machine that is made, a machine that takes the place of another) is let through by name.

use std::collections::BTreeSet;

use super::{Selection, Selector};
use crate::{
    model::{
        ids::{Address, PoolName, ResourceKind},
        state::State,
    },
    stack::Stack,
};

/// How alike names must be to be suggested.
const ALIKE: f64 = 0.75;
/// How many names are suggested.
const NEAR: usize = 3;

/// What a plan may touch.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    targets: Vec<Selector>,
    admitted: BTreeSet<Address>,
}

impl Scope {
    pub(super) fn of(selection: &Selection) -> Self {
        Self {
            targets: selection.targets.clone(),
            admitted: BTreeSet::new(),
        }
    }

    /// Whether everything may be touched.
    pub(super) fn is_all(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether what is at this address may be.
    pub(super) fn covers(&self, address: &Address) -> bool {
        self.is_all()
            || self.targets.iter().any(|target| target.matches(address))
            || self.admitted.contains(address)
    }

    /// Whether a pool may be scaled: it is selected as a whole.
    pub(super) fn covers_pool(&self, pool: &PoolName) -> bool {
        let whole = |target: &Selector| matches!(target, Selector::Pool(own) if own == pool);
        self.is_all() || self.targets.iter().any(whole)
    }

    /// Lets something through that the selected need.
    pub(super) fn admit(&mut self, address: &Address) {
        if !self.is_all() {
            self.admitted.insert(address.clone());
        }
    }
}

/// Something that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The option that asked: `--target`, `--replace`.
    pub option: &'static str,
    /// What was asked for, as typed.
    pub asked: String,
    /// What is there and has a like name, most alike first.
    pub near: Vec<String>,
    /// What there is instead, where nothing has a like name: up to a few.
    pub some: Vec<String>,
}

/// What of a selection is neither on record nor in the stack file. What is to be made anew must be on record.
pub fn unknown(selection: &Selection, state: &State, stack: &Stack) -> Vec<Unknown> {
    let recorded: BTreeSet<String> = state.resources.keys().map(ToString::to_string).collect();
    let mut known = recorded.clone();
    let shared = [
        (ResourceKind::SshKey, stack.ssh_keys.keys().collect::<Vec<_>>()),
        (ResourceKind::Firewall, stack.firewalls.keys().collect()),
        (ResourceKind::Network, stack.networks.keys().collect()),
    ];
    for (kind, names) in shared {
        known.extend(
            names
                .into_iter()
                .map(|name| Address::shared(kind, name).to_string()),
        );
    }
    let pools = stack.pools.iter().map(|pool| &pool.name);
    let pools = pools.chain(state.resources.keys().filter_map(|address| address.pool.as_ref()));
    known.extend(pools.map(|pool| format!("pools.{pool}")));
    let targets = selection.targets.iter().map(|target| {
        let asked = match target {
            Selector::Address(address) => address.to_string(),
            Selector::Pool(pool) => format!("pools.{pool}"),
        };
        ("--target", asked, &known)
    });
    let replace = selection
        .replace
        .iter()
        .map(|address| ("--replace", address.to_string(), &recorded));
    targets
        .chain(replace)
        .filter(|(_, asked, there)| !there.contains(asked))
        .map(|(option, asked, there)| Unknown {
            option,
            near: near(&asked, there),
            some: there.iter().take(NEAR).cloned().collect(),
            asked,
        })
        .collect()
}

pub(super) fn near(asked: &str, there: &BTreeSet<String>) -> Vec<String> {
    let mut alike: Vec<(f64, &String)> = there
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(asked, name), name))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    alike.sort_by(|(one, a), (other, b)| other.total_cmp(one).then(a.cmp(b)));
    alike
        .into_iter()
        .take(NEAR)
        .map(|(_, name)| name.clone())
        .collect()
}
