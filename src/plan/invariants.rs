//! What holds of every plan, numbered; checked in debug builds whenever one is made, and in tests.

mod shared;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rust_decimal::Decimal;

use super::{
    Plan, Verb, batches,
    facts::{Facts, Work},
    fleet, strays,
};
use crate::{
    graph::Graph,
    model::{
        ids::{Address, CiName, PoolName, ResourceKind},
        money::Money,
        resource::{ResourceRef, ResourceSpec},
        snapshot::Snapshot,
    },
    stack::{Mode, Stack},
};

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's number.
    pub number: u8,
    /// How it is broken.
    pub what: String,
}

/// The invariants by number, for a person.
pub const INVARIANTS: &[(u8, &str)] = &[
    (
        1,
        "ids are positions, and every dependency is on an earlier action",
    ),
    (
        2,
        "an address is touched once, or removed and then made anew, or taken and then removed; to abandon an attempt, or to run a hook, is not to touch",
    ),
    (3, "what runs jobs, or may, is neither retired nor deleted"),
    (
        4,
        "nothing is retired, deleted or cordoned on a partial answer of its cloud or CI",
    ),
    (
        5,
        "with its creates a pool has at most `max` machines, those that leave counted",
    ),
    (
        6,
        "with every create at its dearest rung the budgets of the hour, the day and the month hold",
    ),
    (
        7,
        "ladders are not empty, of currencies that convert, and names in the cloud are valid and unique",
    ),
    (8, "nothing is created while something foreign exists"),
    (9, "pools in mode `advise` are not touched"),
    (
        10,
        "every resource on record has an action or a reason for which it is kept, and not both",
    ),
    (11, "every unfinished attempt is closed by an action or held"),
    (12, "nothing foreign is touched"),
    (
        13,
        "no placement group gets more machines than its provider keeps apart",
    ),
    (
        14,
        "nothing shared is removed before the last machine that uses it; a key may be, for it is used only when a machine is made",
    ),
    (
        15,
        "what a machine uses is on record and stays, or is made before it",
    ),
    (
        16,
        "a group is raised from the size that was read, within its own limits, by no plan that lets members of it leave, and not where somebody else sizes it",
    ),
    (
        17,
        "with its creates a CI has at most `max` runners over all its pools, those that leave counted",
    ),
];

/// Which invariants a plan breaks; none, for any that `decide` makes.
pub fn check(plan: &Plan, snapshot: &Snapshot, stack: &Stack) -> Vec<Violation> {
    let mut checker = Checker {
        facts: Facts::of(snapshot, stack),
        plan,
        violations: Vec::new(),
    };
    checker.order();
    checker.touched_once();
    checker.removals();
    checker.max();
    checker.budget();
    checker.ladders();
    checker.strays();
    checker.advice();
    checker.fates();
    checker.attempts();
    checker.groups();
    checker.shared();
    checker.prerequisites();
    checker.sizes();
    checker.violations
}

struct Checker<'a> {
    facts: Facts<'a>,
    plan: &'a Plan,
    violations: Vec<Violation>,
}

impl Checker<'_> {
    fn broken(&mut self, number: u8, what: &impl ToString) {
        self.violations.push(Violation {
            number,
            what: what.to_string(),
        });
    }

    fn order(&mut self) {
        for (at, action) in self.plan.actions.iter().enumerate() {
            let needs = match &action.verb {
                Verb::Create { ladder, .. } => ladder.iter().flat_map(|rung| rung.needs.clone()).collect(),
                _ => Vec::new(),
            };
            let ordered = action.after.iter().chain(&needs).all(|id| *id < action.id);
            if usize::try_from(action.id.0) != Ok(at) || !ordered {
                self.broken(1, &action.address);
            }
        }
        if let Err(error) = Graph::of(&self.plan.actions) {
            self.broken(1, &error);
        }
    }

    fn touched_once(&mut self) {
        let mut seen: HashMap<&Address, &super::Action> = HashMap::new();
        let touching = |action: &&super::Action| action.verb.touches();
        for action in self.plan.actions.iter().filter(touching) {
            let before = seen.insert(&action.address, action);
            let anew = before.is_some_and(|before| {
                matches!(before.verb, Verb::Delete { .. } | Verb::Forget { .. })
                    && matches!(action.verb, Verb::Create { .. })
                    && action.after.contains(&before.id)
            });
            let aside = before.is_some_and(|before| {
                matches!(before.verb, Verb::Relabel { .. }) && matches!(action.verb, Verb::Delete { .. })
            });
            if before.is_some() && !anew && !aside {
                self.broken(2, &action.address);
            }
        }
    }

    fn removals(&mut self) {
        for action in &self.plan.actions {
            let (target, registration) = match &action.verb {
                Verb::Retire {
                    target,
                    ci,
                    registration,
                    ..
                } => (Some(target), Some((ci, registration))),
                Verb::Delete { target, registration } => {
                    (Some(target), registration.as_ref().map(|(ci, id)| (ci, id)))
                }
                Verb::Cordon { ci, registration } | Verb::Unregister { ci, registration } => {
                    (None, Some((ci, registration)))
                }
                _ => continue,
            };
            let provider = target
                .map(|target| &target.provider)
                .or(action.before.as_ref().map(|record| &record.provider));
            let gap = provider.and_then(|provider| self.facts.cloud_gap(provider));
            let gap = gap.or_else(|| registration.and_then(|(ci, _)| self.facts.demand_gap(ci)));
            if gap.is_some() {
                self.broken(4, &action.address);
            }
            let ended = target
                .and_then(|target| self.facts.resource(target))
                .is_some_and(|seen| self.facts.has_ended(seen, registration.map(|(ci, _)| ci)));
            let busy = registration.is_some_and(|(ci, id)| {
                let work = self.facts.work(ci, id, action.address.pool.as_ref());
                !matches!(work, Work::Idle | Work::NoRunner)
            });
            if busy && !ended && !matches!(action.verb, Verb::Cordon { .. }) {
                self.broken(3, &action.address);
            }
        }
    }

    fn max(&mut self) {
        let found = strays::find(&self.facts);
        let creates = |pool: &PoolName| {
            let of_pool = |action: &&super::Action| {
                action.address.pool.as_ref() == Some(pool) && matches!(action.verb, Verb::Create { .. })
            };
            let made = self.plan.actions.iter().filter(of_pool);
            made.map(|action| action.verb.count()).sum::<usize>()
        };
        let mut over = Vec::new();
        let mut by_ci: BTreeMap<&CiName, (usize, usize)> = BTreeMap::new();
        for pool in &self.facts.stack.pools {
            let on_record = self.facts.snapshot.state.machines_of(&pool.name);
            let alive = on_record
                .filter(|(address, record)| {
                    fleet::presence(&self.facts, address, record) != fleet::Presence::Gone
                })
                .count();
            let held = self.plan.held.iter().filter(|held| {
                held.reason.code() == "unsettled"
                    && held.about.starts_with(&format!("machine.{}/", pool.name))
            });
            let recorded = &self.facts.snapshot.state.resources;
            let attempts = held
                .filter(|held| !recorded.keys().any(|address| address.to_string() == held.about))
                .count();
            let adopts = |action: &&super::Action| {
                action.address.pool.as_ref() == Some(&pool.name)
                    && action.address.kind != ResourceKind::Batch
                    && matches!(action.verb, Verb::Adopt { .. } | Verb::Relabel { was: None, .. })
                    && action.before.is_none()
            };
            let adopted = self.plan.actions.iter().filter(adopts).count();
            let orphans = usize::try_from(found.machines_of(&pool.name)).unwrap_or(usize::MAX);
            let create = creates(&pool.name);
            let unseen = batches::unseen_of(&self.facts, &pool.name);
            let all = alive + attempts + adopted + orphans + unseen + create;
            if create > 0 && all > usize::try_from(pool.max).unwrap_or(usize::MAX) {
                over.push(format!("{}: {all} of {}", pool.name, pool.max));
            }
            let (of_ci, made) = by_ci.entry(&pool.ci).or_default();
            *of_ci += all;
            *made += create;
        }
        for what in over {
            self.broken(5, &what);
        }
        for (ci, (all, made)) in by_ci {
            let max = self.facts.stack.ci.get(ci).and_then(|ci| ci.max);
            let max = max.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
            if let Some(max) = max.filter(|max| made > 0 && all > *max) {
                self.broken(17, &format!("{ci}: {all} of {max}"));
            }
        }
    }

    fn budget(&mut self) {
        let facts = &self.facts;
        let worth = |money: &Money| facts.worth(money).map(|money| money.amount);
        let dearest = self.plan.actions.iter().filter_map(|action| match &action.verb {
            Verb::Create { ladder, .. } => ladder
                .iter()
                .filter_map(|rung| worth(&rung.price.as_ref()?.hourly))
                .max(),
            _ => None,
        });
        let created: Decimal = dearest.sum();
        let before = self.plan.cost.before_hourly.iter();
        let running: Decimal = before.filter_map(worth).sum();
        let mut over = Vec::new();
        if let Some(budget) = &facts.stack.budget.hourly
            && created > Decimal::ZERO
            && worth(budget).is_none_or(|allowed| running + created > allowed)
        {
            over.push(format!("{running} + {created} > {budget}"));
        }
        for projection in &self.plan.cost.projected {
            let (before, after) = (projection.before.amount, projection.after.amount);
            if created > Decimal::ZERO && after > before && after > projection.allowed.amount {
                over.push(format!("{after} > {} {}", projection.budget, projection.per));
            }
        }
        for what in over {
            self.broken(6, &what);
        }
    }

    fn ladders(&mut self) {
        let mut names = HashSet::new();
        for action in &self.plan.actions {
            let Verb::Create { ladder, .. } = &action.verb else {
                continue;
            };
            let stack = self.facts.stack;
            let prices = || ladder.iter().filter_map(|rung| rung.price.as_ref());
            let first = || prices().next().map(|price| &price.hourly.currency);
            let counted = stack.counted_in().or_else(first);
            let convert = prices().all(|price| {
                counted.is_some_and(|counted| stack.currency.convert(&price.hourly, counted).is_some())
            });
            let own: BTreeSet<&str> = ladder.iter().map(|rung| rung.spec.name()).collect();
            let valid = own.iter().all(|name| is_host_name(name));
            if ladder.is_empty() || !convert || own.len() != 1 || !valid {
                self.broken(7, &action.address);
            }
            let kind = action.address.kind;
            if own.into_iter().any(|name| !names.insert((kind, name.to_owned()))) {
                self.broken(7, &action.address);
            }
        }
    }

    fn strays(&mut self) {
        let foreign: HashSet<&ResourceRef> = self.plan.foreign.iter().map(|stray| &stray.target).collect();
        let disowned = &self.facts.snapshot.state.disowned;
        let blocks = self.plan.foreign.iter().any(|stray| {
            let lineage = stray.lineage.clone().unwrap_or_else(|| "".into());
            !disowned.contains(&lineage)
        });
        for action in &self.plan.actions {
            match &action.verb {
                Verb::Create { .. } if blocks => self.broken(8, &action.address),
                Verb::Retire { target, .. } | Verb::Delete { target, .. } if foreign.contains(target) => {
                    self.broken(12, &action.address);
                }
                Verb::Update { have, .. } if foreign.contains(&have.target) => {
                    self.broken(12, &action.address);
                }
                _ => {}
            }
        }
    }

    fn advice(&mut self) {
        for action in &self.plan.actions {
            let pool = action
                .address
                .pool
                .as_ref()
                .and_then(|pool| self.facts.stack.pool(pool));
            if pool.is_some_and(|pool| pool.mode == Mode::Advise) {
                self.broken(9, &action.address);
            }
        }
    }

    fn sizes(&mut self) {
        for action in &self.plan.actions {
            let Verb::Update {
                have,
                want: ResourceSpec::Group(want),
                ..
            } = &action.verb
            else {
                continue;
            };
            let Some(view) = &have.group else {
                self.broken(16, &action.address);
                continue;
            };
            let leaves = self.plan.actions.iter().any(|other| {
                self.facts.snapshot.members.get(&other.address) == Some(&have.target)
                    && matches!(other.verb, Verb::Retire { .. } | Verb::Delete { .. })
            });
            let raised = want.size > want.from;
            let whole = have.size == Some(want.from) && want.size >= want.from;
            if !whole
                || view.governed.is_some()
                || (raised && (leaves || want.size > view.max || view.waits.is_some()))
            {
                self.broken(16, &action.address);
            }
        }
    }

    fn fates(&mut self) {
        let mut fates: BTreeMap<&Address, (bool, u32)> = BTreeMap::new();
        for action in &self.plan.actions {
            let touches = action.verb.touches();
            fates.entry(&action.address).or_default().0 |= touches;
            if let Verb::Relabel { was: Some(was), .. } = &action.verb {
                fates.entry(was).or_default().0 = true;
            }
        }
        for kept in &self.plan.kept {
            fates.entry(&kept.address).or_default().1 += 1;
        }
        for address in self.facts.snapshot.state.resources.keys() {
            let ok = matches!(fates.get(address), Some((true, 0) | (false, 1)));
            if address.kind != ResourceKind::Group && !ok {
                self.broken(10, address);
            }
        }
    }

    fn attempts(&mut self) {
        let actions = self.plan.actions.iter();
        let closing = actions.filter(|action| !matches!(action.verb, Verb::Hook { .. }));
        let touched: HashSet<&Address> = closing.map(|action| &action.address).collect();
        let held: HashSet<&str> = self.plan.held.iter().map(|held| held.about.as_str()).collect();
        for open in &self.facts.snapshot.open {
            let advised = open
                .address
                .pool
                .as_ref()
                .and_then(|pool| self.facts.stack.pool(pool));
            let advised = advised.is_some_and(|pool| pool.mode == Mode::Advise);
            if !touched.contains(&open.address)
                && !held.contains(open.address.to_string().as_str())
                && !advised
            {
                self.broken(11, &open.address);
            }
        }
    }
}

fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
