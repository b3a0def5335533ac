//! A plan while it is being made: actions come in an order that respects every dependency, and get their ids here.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Action, ActionId, Drift, Held, IfBusy, Kept, Selection, Stray, Verb,
    facts::{Facts, Work},
    fleet::Machine,
    select::Scope,
};
use crate::{
    drain::{self, Cordon, Way},
    model::{
        ids::{Address, CiName, PoolName, RegistrationId},
        reason::Reason,
        resource::{CordonKind, ResourceRef},
        state::Record,
    },
    stack::{Mode, Stack},
};

/// A plan in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) actions: Vec<Action>,
    pub(super) kept: Vec<Kept>,
    pub(super) held: Vec<Held>,
    pub(super) drift: Vec<Drift>,
    pub(super) orphans: Vec<Stray>,
    pub(super) foreign: Vec<Stray>,
    pub(super) released: Vec<Stray>,
    /// The pools that are only advised on, with the number of actions not taken.
    advised: BTreeMap<PoolName, u32>,
    /// What may be touched at all.
    pub(super) scope: Scope,
    /// How many actions it kept from being taken.
    untargeted: u32,
    /// Which addresses have been dealt with, and the last action on each.
    touched: HashMap<Address, Option<ActionId>>,
}

impl Draft {
    pub(super) fn new(stack: &Stack, selection: &Selection) -> Self {
        let advised = stack.pools.iter().filter(|pool| pool.mode == Mode::Advise);
        Self {
            advised: advised.map(|pool| (pool.name.clone(), 0)).collect(),
            scope: Scope::of(selection),
            ..Self::default()
        }
    }

    /// Adds an action; none when its pool is only advised on, or it is not targeted.
    pub(super) fn push(
        &mut self,
        address: &Address,
        verb: Verb,
        reason: Reason,
        after: Vec<ActionId>,
        before: Option<&Record>,
    ) -> Option<ActionId> {
        if !self.scope.covers(address) {
            self.pass_over(1);
            self.touched.insert(address.clone(), None);
            return None;
        }
        if let Some(count) = address.pool.as_ref().and_then(|pool| self.advised.get_mut(pool)) {
            *count += 1;
            self.touched.insert(address.clone(), None);
            return None;
        }
        let id = ActionId(u32::try_from(self.actions.len()).unwrap_or(u32::MAX));
        // What is or will be at its address is another matter.
        if verb.touches() {
            self.touched.insert(address.clone(), Some(id));
        }
        if let Verb::Relabel { was: Some(was), .. } = &verb {
            self.touched.entry(was.clone()).or_insert(None);
        }
        self.actions.push(Action {
            id,
            address: address.clone(),
            verb,
            reason,
            after,
            before: before.cloned().map(Box::new),
        });
        Some(id)
    }

    /// Whether an action on this address was decided.
    pub(super) fn is_touched(&self, address: &Address) -> bool {
        self.touched.contains_key(address)
    }

    /// The last action on this address.
    pub(super) fn action_on(&self, address: &Address) -> Option<&Action> {
        let id = self.touched.get(address).copied().flatten()?;
        self.actions.get(usize::try_from(id.0).ok()?)
    }

    /// The action that removes what is at this address.
    pub(super) fn removal_of(&self, address: &Address) -> Option<ActionId> {
        let action = self.action_on(address)?;
        let removes = matches!(
            action.verb,
            Verb::Retire { .. } | Verb::Delete { .. } | Verb::Forget { .. }
        );
        removes.then_some(action.id)
    }

    pub(super) fn is_advised(&self, pool: &PoolName) -> bool {
        self.advised.contains_key(pool)
    }

    /// Refuses to act, without alarm.
    pub(super) fn hold(&mut self, about: &impl ToString, count: u32, reason: Reason) {
        self.held.push(Held {
            about: about.to_string(),
            count,
            reason,
            warning: false,
        });
    }

    /// Refuses to act, and a person should know.
    pub(super) fn warn(&mut self, about: &impl ToString, count: u32, reason: Reason) {
        self.held.push(Held {
            about: about.to_string(),
            count,
            reason,
            warning: true,
        });
    }

    /// Keeps a machine.
    pub(super) fn keep(&mut self, machine: &Machine<'_>, reason: Reason) {
        self.kept.push(Kept {
            address: machine.address.clone(),
            state: Some(machine.state()),
            busy: machine.work.busy(),
            jobs: machine.work.jobs(),
            paid_until: machine.paid_until,
            reason,
        });
    }

    /// Keeps a shared resource.
    pub(super) fn keep_shared(&mut self, address: &Address, reason: Reason) {
        self.kept.push(Kept {
            address: address.clone(),
            state: None,
            busy: None,
            jobs: 0,
            paid_until: None,
            reason,
        });
    }

    /// Counts actions that are not taken because `--target` names other things.
    pub(super) fn pass_over(&mut self, actions: u32) {
        self.untargeted = self.untargeted.saturating_add(actions);
    }

    /// Says what advised pools would have had done, and keeps their machines.
    pub(super) fn close_advice(&mut self, machines: &BTreeMap<&PoolName, Vec<Machine<'_>>>) {
        for (pool, count) in self.advised.clone() {
            if count > 0 {
                self.hold(&pool, count, Reason::Advise);
            }
            let own = machines.get(&pool).map(Vec::as_slice).unwrap_or_default();
            for machine in own
                .iter()
                .filter(|m| self.is_touched(m.address) && self.scope.covers(m.address))
                .collect::<Vec<_>>()
            {
                self.keep(machine, Reason::Advise);
            }
        }
    }

    /// Says once what `--target` left undone, and keeps what it was about: machines, shared resources, attempts.
    pub(super) fn close_targets(
        &mut self,
        facts: &Facts<'_>,
        machines: &BTreeMap<&PoolName, Vec<Machine<'_>>>,
    ) {
        if self.scope.is_all() {
            return;
        }
        let scope = self.scope.clone();
        let within = |about: &str| match about.parse::<Address>() {
            Ok(address) => scope.covers(&address),
            Err(_) => facts
                .stack
                .pools
                .iter()
                .all(|pool| pool.name.as_str() != about || scope.covers_pool(&pool.name)),
        };
        let open = |about: &str| {
            let mut open = facts.snapshot.open.iter();
            open.any(|open| open.address.to_string() == about)
        };
        self.held.retain(|held| within(&held.about) || open(&held.about));
        let untouched = |address: &Address| self.is_touched(address) && !scope.covers(address);
        let own = machines.values().flatten().filter(|m| untouched(m.address));
        let own: Vec<&Machine<'_>> = own.collect();
        let recorded = facts.snapshot.state.resources.keys();
        let shared: Vec<&Address> = recorded
            .filter(|address| address.kind.is_shared() && untouched(address))
            .collect();
        for machine in own {
            self.keep(machine, Reason::NotTargeted);
        }
        for address in shared {
            self.keep_shared(address, Reason::NotTargeted);
        }
        let told: HashSet<String> = self.held.iter().map(|held| held.about.clone()).collect();
        let acted: HashSet<&Address> = self.actions.iter().map(|action| &action.address).collect();
        let attempts = facts.snapshot.open.iter().map(|open| &open.address);
        let left: Vec<Address> = attempts
            .filter(|address| !acted.contains(address) && !told.contains(&address.to_string()))
            .cloned()
            .collect();
        for address in left {
            self.hold(&address, 1, Reason::NotTargeted);
        }
        if self.untargeted > 0 {
            let stack = facts.stack.name.clone();
            self.hold(&stack, self.untargeted, Reason::NotTargeted);
        }
    }
}

/// A machine that is to go, on record or not.
#[derive(Clone, Debug)]
pub(super) struct Leaver<'a> {
    pub(super) address: &'a Address,
    pub(super) target: ResourceRef,
    pub(super) runner: Option<(CiName, RegistrationId)>,
    pub(super) work: Work,
    pub(super) cordon: Cordon,
    /// Whether it is a container that its cloud could not start: nothing has run in it.
    pub(super) never_ran: bool,
    pub(super) record: Option<&'a Record>,
}

impl<'a> Leaver<'a> {
    pub(super) fn of(machine: &Machine<'a>) -> Self {
        let record = machine.record;
        Self {
            address: machine.address,
            target: record.target(),
            runner: record.ci.clone().zip(record.registration.clone()),
            work: machine.work,
            cordon: machine.cordon,
            never_ran: machine.never_ran(),
            record: Some(record),
        }
    }

    /// Takes the next step out; `Err` with why it stays when there is none to take now.
    pub(super) fn leave(
        self,
        facts: &Facts<'_>,
        draft: &mut Draft,
        reason: Reason,
        if_busy: IfBusy,
    ) -> Result<(), Reason> {
        let control = |(ci, registration): &(CiName, RegistrationId)| facts.control_of(ci, registration);
        let control = self.runner.as_ref().and_then(control);
        let leaves = control.is_some_and(|control| control.cordon == CordonKind::Leaves);
        let verb = match (self.work, self.runner) {
            (Work::Busy(jobs), _) => return Err(Reason::Busy { jobs }),
            (Work::NoRunner, _) if self.never_ran => Verb::Delete {
                target: self.target,
                registration: None,
            },
            _ if leaves => return Err(Reason::LeavesByItself),
            (Work::Unknown, _) | (Work::Idle, None) => return Err(Reason::BusyUnknown),
            (Work::NoRunner, None) => Verb::Delete {
                target: self.target,
                registration: None,
            },
            // A listing that lacks a runner may be stale: it is asked for by its id, cordoned and read like any other.
            (Work::Idle | Work::NoRunner, Some((ci, registration))) => {
                let Some(control) = facts.control_of(&ci, &registration) else {
                    return Err(Reason::BusyUnknown);
                };
                match drain::way(&control, self.cordon, facts.ci_now(&ci)) {
                    Way::Wait => return Err(Reason::Draining),
                    Way::Leave if control.cordon == CordonKind::PauseAll => return Err(Reason::SharedRunner),
                    Way::Leave => return Err(Reason::LeavesByItself),
                    Way::Cordon => Verb::Cordon { ci, registration },
                    Way::Retire => Verb::Retire {
                        target: self.target,
                        control,
                        ci,
                        registration,
                        if_busy,
                    },
                }
            }
        };
        draft.push(self.address, verb, reason, Vec::new(), self.record);
        Ok(())
    }
}
