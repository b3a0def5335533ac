//! Whether a saved plan still fits what is there: each resource that it touches is as it was, and what it adds has room.
//!
//! What the plan does not touch may have changed as it likes: another pool may have grown. What fits is done exactly as
//! it was shown, under the names that were shown; nothing is decided anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Difference, SavedPlan};
use crate::{
    model::{
        ids::{Address, CiName, IntentId, PoolName, ProviderName, RegistrationId, ResourceKind},
        intent::Intent,
        resource::{ResourceRef, ResourceSpec},
        snapshot::Snapshot,
    },
    plan::{
        Action, DecideInput, Goal, Plan, Rung, Selection, Verb, decide,
        facts::{Facts, Work},
        fleet, guard,
    },
    render::{self, TemplateSet},
    stack::Stack,
};

/// The plan to carry out: the saved one's actions, as they are, on the state as it is now.
///
/// # Errors
/// Everything that does not fit, in order, each once. A plan is done whole or not at all.
pub fn check(
    saved: &SavedPlan,
    snapshot: &Snapshot,
    stack: &Stack,
    templates: &TemplateSet,
) -> Result<Plan, Vec<Difference>> {
    let planned = &saved.plan;
    if let Some(difference) = identity(saved, snapshot) {
        return Err(vec![difference]);
    }
    // What would be decided now is not done; it tells what runs and costs now, and which rules are in force.
    let fresh = decide(&DecideInput {
        snapshot,
        stack,
        templates,
        goal: Goal::Converge,
        selection: &Selection::default(),
        seed: 0,
    });
    let mut checker = Checker::new(planned, snapshot, stack, templates);
    for action in &planned.actions {
        checker.action(action);
    }
    checker.max();
    checker.budget(&fresh);
    checker.halted(&fresh);
    let plan = on_now(saved, fresh, snapshot, stack);
    if checker.found.is_empty() {
        checker.rules(&plan);
    }
    if checker.found.is_empty() {
        Ok(plan)
    } else {
        Err(checker.found.into_values().collect())
    }
}

fn identity(saved: &SavedPlan, snapshot: &Snapshot) -> Option<Difference> {
    let (planned, state) = (&saved.plan, &snapshot.state);
    if state.lineage != planned.lineage {
        return Some(Difference::Lineage {
            found: planned.lineage.clone(),
            ours: state.lineage.clone(),
        });
    }
    if state.serial < planned.serial {
        return Some(Difference::Serial {
            found: planned.serial,
            ours: state.serial,
        });
    }
    let applied = snapshot.history.applied.iter();
    let before = applied
        .rev()
        .find(|applied| applied.digest == saved.digest && !planned.is_noop());
    before.map(|applied| Difference::Applied { at: applied.at })
}

/// The saved actions with what is known now around them.
fn on_now(saved: &SavedPlan, fresh: Plan, snapshot: &Snapshot, stack: &Stack) -> Plan {
    let planned = &saved.plan;
    let acting = planned.actions.iter();
    // What a hook is run for stays.
    let acting = acting.filter(|action| !matches!(action.verb, Verb::Hook { .. }));
    let touched: HashSet<&Address> = acting.map(|action| &action.address).collect();
    let kept = fresh.kept.into_iter();
    Plan {
        serial: snapshot.state.serial,
        kept: kept.filter(|kept| !touched.contains(&kept.address)).collect(),
        pools: fresh.pools,
        foreign: fresh.foreign,
        complete: fresh.complete,
        launch_budgets: fresh.launch_budgets,
        breaches: guard::breaches(
            &planned.actions,
            &planned.cost,
            &snapshot.state,
            stack,
            Goal::Converge,
            &saved.selection,
        ),
        ..planned.clone()
    }
}

/// The saved plan against what is there now.
pub(super) struct Checker<'a> {
    pub(super) facts: Facts<'a>,
    pub(super) planned: &'a Plan,
    templates: &'a TemplateSet,
    /// The names that the cloud has, by kind.
    names: HashSet<(ResourceKind, &'a str)>,
    /// The attempts that are open.
    open: HashSet<&'a IntentId>,
    /// The addresses that an open attempt is to make, and that the plan does not give up.
    pub(super) begun: HashSet<&'a Address>,
    /// The addresses that the plan removes, or moves something away from.
    removed: HashSet<&'a Address>,
    /// The addresses that the plan makes.
    made: HashSet<&'a Address>,
    hashes: HashMap<(PoolName, String), bool>,
    /// By their words, so that each is told once.
    found: BTreeMap<String, Difference>,
}

impl<'a> Checker<'a> {
    fn new(planned: &'a Plan, snapshot: &'a Snapshot, stack: &'a Stack, templates: &'a TemplateSet) -> Self {
        let listed = snapshot
            .clouds
            .values()
            .flat_map(|cloud| &cloud.listing.resources);
        let (mut removed, mut made, mut abandoned) = (HashSet::new(), HashSet::new(), HashSet::new());
        for action in &planned.actions {
            match &action.verb {
                Verb::Retire { .. } | Verb::Delete { .. } | Verb::Forget { .. } => {
                    removed.insert(&action.address);
                }
                Verb::Create { .. } | Verb::Adopt { .. } => {
                    made.insert(&action.address);
                }
                Verb::Relabel { was, .. } => {
                    made.insert(&action.address);
                    removed.extend(was);
                }
                Verb::Abandon { open } => {
                    abandoned.insert(&open.id);
                }
                _ => {}
            }
        }
        let begun = snapshot
            .open
            .iter()
            .filter(|open| matches!(open.intent, Intent::Create { .. }) && !abandoned.contains(&open.id));
        Self {
            facts: Facts::of(snapshot, stack),
            planned,
            templates,
            names: listed
                .map(|seen| (seen.target.kind, seen.name.as_str()))
                .collect(),
            open: snapshot.open.iter().map(|open| &open.id).collect(),
            begun: begun.map(|open| &open.address).collect(),
            removed,
            made,
            hashes: HashMap::new(),
            found: BTreeMap::new(),
        }
    }

    pub(super) fn differs(&mut self, difference: Difference) {
        self.found.insert(difference.to_string(), difference);
    }

    fn action(&mut self, action: &'a Action) {
        let address = &action.address;
        match &action.verb {
            Verb::Create { ladder, .. } => self.create(address, ladder),
            Verb::Adopt { record, intents, .. } => {
                self.attempts(address, intents);
                self.cloud(&record.provider);
            }
            Verb::Abandon { open } => self.attempts(address, std::slice::from_ref(&open.id)),
            Verb::Update { have, want, .. } => {
                self.same_record(address, action.before.as_deref());
                self.same_resource(address, have, want);
            }
            Verb::Relabel { have, was, .. } => {
                self.same_record(was.as_ref().unwrap_or(address), action.before.as_deref());
                self.same_labels(address, have);
            }
            Verb::Cordon { ci, .. } | Verb::Uncordon { ci, .. } => {
                self.same_record(address, action.before.as_deref());
                self.ci(ci);
            }
            Verb::Retire {
                target,
                ci,
                registration,
                ..
            } => self.removal(action, target, Some((ci, registration))),
            Verb::Delete { target, registration } => {
                let registration = registration.as_ref().map(|(ci, id)| (ci, id));
                self.removal(action, target, registration);
            }
            Verb::Forget { .. } => {
                self.same_record(address, action.before.as_deref());
                let record = self.facts.snapshot.state.resources.get(address);
                if let Some(record) = record {
                    self.cloud(&record.provider);
                    if let fleet::Presence::Here(_) = fleet::presence(&self.facts, address, record) {
                        self.differs(Difference::Back {
                            address: address.clone(),
                        });
                    }
                }
            }
            Verb::Unregister { ci, registration } => self.unregister(ci, registration),
            Verb::Hook { .. } => self.same_record(address, action.before.as_deref()),
        }
    }

    /// Whether what was to be made is not there, what it needs is, and it would be made from what the plan said.
    fn create(&mut self, address: &'a Address, ladder: &'a [Rung]) {
        let snapshot = self.facts.snapshot;
        let differs = if self.removed.contains(address) {
            None
        } else if snapshot.state.resources.contains_key(address) {
            Some(Difference::OnRecord {
                address: address.clone(),
            })
        } else if self.begun.contains(address) {
            Some(Difference::Unfinished {
                address: address.clone(),
            })
        } else {
            let first = ladder.first().map(|rung| rung.spec.name());
            let taken = first.filter(|name| self.names.contains(&(address.kind, *name)));
            taken.map(|name| Difference::NameTaken {
                address: address.clone(),
                name: name.to_owned(),
            })
        };
        if let Some(difference) = differs {
            self.differs(difference);
        }
        for rung in ladder {
            self.cloud(&rung.provider);
            self.sold(rung);
            self.made_from(address, rung);
            self.needs(address, rung);
        }
    }

    fn sold(&mut self, rung: &Rung) {
        let (Some(offering), Some(machine)) = (&rung.offering, rung.spec.each()) else {
            return;
        };
        let Some(cloud) = self.facts.snapshot.clouds.get(&rung.provider) else {
            return;
        };
        let sold = self.facts.price(offering, machine.public_ipv4);
        match (sold.map(|price| price.times(rung.spec.count())), &rung.price) {
            (Some(now), Some(was)) if now.hourly != was.hourly => self.differs(Difference::Price {
                offering: offering.clone(),
                was: was.hourly.clone(),
                now: now.hourly.clone(),
            }),
            (None, _) if cloud.offerings_complete.is_complete() => self.differs(Difference::NotSold {
                offering: offering.clone(),
            }),
            _ => {}
        }
    }

    /// Renders the rung's hash again, once for each that the plan has.
    fn made_from(&mut self, address: &Address, rung: &Rung) {
        let Some(machine) = rung.spec.each() else {
            if render::shared_hash(&rung.spec) != rung.hash {
                self.differs(Difference::Changed {
                    address: address.clone(),
                    what: "what it is made from".to_owned(),
                });
            }
            return;
        };
        let key = (machine.pool.clone(), rung.hash.to_string());
        let stack = self.facts.stack;
        let pool = stack.pool(&machine.pool);
        let same = match self.hashes.get(&key) {
            Some(same) => *same,
            None => pool
                .and_then(|pool| Some((pool, stack.ci.get(&pool.ci)?)))
                .and_then(|(pool, ci)| render::spec_hash(self.templates, pool, ci, machine).ok())
                .is_some_and(|hash| hash == rung.hash),
        };
        self.hashes.insert(key, same);
        if !same {
            self.differs(Difference::Template {
                pool: machine.pool.clone(),
                template: pool.map_or_else(String::new, |pool| pool.cloud_init.clone()),
            });
        }
    }

    fn needs(&mut self, address: &Address, rung: &Rung) {
        for needed in used(&rung.spec) {
            let there = self.facts.snapshot.state.resources.contains_key(&needed);
            if !self.made.contains(&needed) && (!there || self.removed.contains(&needed)) {
                self.differs(Difference::Needs {
                    address: address.clone(),
                    needed,
                });
            }
        }
    }

    fn attempts(&mut self, address: &Address, intents: &[IntentId]) {
        if intents.iter().any(|id| !self.open.contains(id)) {
            self.differs(Difference::Ended {
                address: address.clone(),
            });
        }
    }

    fn removal(
        &mut self,
        action: &Action,
        target: &ResourceRef,
        runner: Option<(&'a CiName, &'a RegistrationId)>,
    ) {
        let address = &action.address;
        let owner = self.facts.recorded(target);
        match (&action.before, owner) {
            // An orphan may go under an address that another resource has.
            (None, Some(owner)) => self.differs(Difference::OnRecord {
                address: owner.clone(),
            }),
            (None, None) => {}
            (before, _) => self.same_record(address, before.as_deref()),
        }
        self.cloud(&target.provider);
        let seen = self.facts.resource(target);
        if seen.is_none() && self.facts.cloud_gap(&target.provider).is_none() {
            self.differs(Difference::NotSeen {
                address: address.clone(),
            });
        }
        let ended = seen.is_some_and(|seen| self.facts.has_ended(seen, runner.as_ref().map(|(ci, _)| *ci)));
        if let (false, Some((ci, registration))) = (ended, runner) {
            self.ci(ci);
            match self.facts.work(ci, registration, address.pool.as_ref()) {
                Work::Idle | Work::NoRunner => {}
                Work::Busy(jobs) => self.differs(Difference::Busy {
                    address: address.clone(),
                    jobs,
                }),
                Work::Unknown => self.differs(Difference::WorkUnknown {
                    address: address.clone(),
                }),
            }
        }
        if address.kind.is_shared() {
            self.unused(address);
        }
    }

    /// Whether nothing that stays uses a shared resource that goes.
    fn unused(&mut self, address: &Address) {
        let anew = self.made.contains(address);
        let records = &self.facts.snapshot.state.resources;
        let by = records.iter().find(|(user, record)| {
            !anew && !self.removed.contains(user) && used(&record.spec).contains(address)
        });
        if let Some((by, _)) = by {
            let difference = Difference::Used {
                address: address.clone(),
                by: by.clone(),
            };
            self.differs(difference);
        }
    }

    fn unregister(&mut self, ci: &CiName, registration: &RegistrationId) {
        self.ci(ci);
        if self.facts.owner(ci, registration).is_some() || self.facts.is_labelled(registration) {
            self.differs(Difference::Owned {
                ci: ci.clone(),
                registration: registration.clone(),
            });
        }
    }

    pub(super) fn cloud(&mut self, provider: &ProviderName) {
        if let Some(why) = self.facts.cloud_gap(provider) {
            self.differs(Difference::Partial {
                place: format!("providers.{provider}"),
                why,
            });
        }
    }

    fn ci(&mut self, ci: &CiName) {
        if let Some(why) = self.facts.demand_gap(ci) {
            self.differs(Difference::Partial {
                place: format!("ci.{ci}"),
                why,
            });
        }
    }
}

/// The shared resources that a machine names.
fn used(spec: &ResourceSpec) -> Vec<Address> {
    let ResourceSpec::Machine(machine) = spec else {
        return Vec::new();
    };
    let of = |kind: ResourceKind, names: &[String]| -> Vec<Address> {
        names.iter().map(|name| Address::shared(kind, name)).collect()
    };
    let mut used = of(ResourceKind::SshKey, &machine.ssh_keys);
    used.extend(of(ResourceKind::Firewall, &machine.firewalls));
    used.extend(of(ResourceKind::Network, &machine.networks));
    used
}
