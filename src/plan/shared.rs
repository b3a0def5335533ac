//! Shared resources (keys, networks, firewalls, placement groups): made before the machines that need them, changed in
//! place or made anew as their kind says, and removed after the last machine that uses them.
//!
//! A key is made anew create first: its record is moved to `ssh_key/NAME@ID`, the new key takes the address, and the
//! old one is removed after it. A crash in between leaves either key on record, and what is not wished for is removed.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    ActionId, Drift, DriftFate, Goal, Rung, Verb,
    draft::Draft,
    facts::Facts,
    fleet::{self, Presence},
    names,
    recover::InFlight,
    strays::Found,
    subnets,
    users::{Hindrance, Users},
};
use crate::{
    model::{
        ids::{Address, PoolName, ProviderName, ResourceKind},
        intent::Intent,
        kind::{self, Anew, Change, OnChange},
        reason::Reason,
        resource::{FirewallSpec, Labels, NetworkSpec, Observed, ResourceSpec, SshKeySpec},
        state::Record,
    },
    render::shared_hash,
    stack::Pool,
};

/// A shared resource that the stack wishes for.
#[derive(Clone, Debug)]
pub(super) struct Wished {
    pub(super) provider: ProviderName,
    pub(super) spec: ResourceSpec,
    /// The first pool that names it; none: nobody needs it.
    pub(super) by: Option<PoolName>,
}

/// Every shared resource of the stack file. Placement groups are not in it: they follow from what is made.
pub(super) fn wished(facts: &Facts<'_>) -> BTreeMap<Address, Wished> {
    let stack = facts.stack;
    let mut wished = BTreeMap::new();
    let mut wish = |name: &String, provider: &ProviderName, spec: ResourceSpec| {
        let kind = spec.kind();
        let uses = |pool: &&Pool| {
            named_by(pool, kind).contains(name)
                && pool.offerings.iter().any(|choice| choice.provider == *provider)
        };
        let by = stack.pools.iter().find(uses).map(|pool| pool.name.clone());
        let provider = provider.clone();
        wished.insert(Address::shared(kind, name), Wished { provider, spec, by });
    };
    let cloud_name = |kind, name, key| names::shared(&stack.name, kind, name, key);
    for (name, key) in &stack.ssh_keys {
        let spec = SshKeySpec {
            name: cloud_name(ResourceKind::SshKey, name, Some(&key.public_key)),
            public_key: key.public_key.clone(),
        };
        wish(name, &key.provider, ResourceSpec::SshKey(spec));
    }
    for (name, network) in &stack.networks {
        let spec = NetworkSpec {
            name: cloud_name(ResourceKind::Network, name, None),
            ip_range: network.ip_range.clone(),
            subnets: network.subnets.clone(),
        };
        wish(name, &network.provider, ResourceSpec::Network(spec));
    }
    for (name, firewall) in &stack.firewalls {
        let spec = FirewallSpec {
            name: cloud_name(ResourceKind::Firewall, name, None),
            rules: firewall.rules.clone(),
        };
        wish(name, &firewall.provider, ResourceSpec::Firewall(spec));
    }
    wished
}

/// The names of this kind that a pool's machines use.
fn named_by(pool: &Pool, kind: ResourceKind) -> &[String] {
    match kind {
        ResourceKind::SshKey => &pool.ssh_keys,
        ResourceKind::Network => &pool.networks,
        ResourceKind::Firewall => &pool.firewalls,
        _ => &[],
    }
}

/// The names of this kind that apply to a pool's machine of this provider.
pub(super) fn applying(
    wished: &BTreeMap<Address, Wished>,
    kind: ResourceKind,
    pool: &Pool,
    provider: &ProviderName,
) -> Vec<String> {
    let applies = |name: &&String| {
        wished
            .get(&Address::shared(kind, name))
            .is_some_and(|wish| wish.provider == *provider)
    };
    named_by(pool, kind).iter().filter(applies).cloned().collect()
}

/// Brings the shared resources in line, makes those in `needed`, and says which action makes each.
pub(super) fn decide(
    facts: &Facts<'_>,
    wished: &BTreeMap<Address, Wished>,
    needed: &BTreeMap<Address, PoolName>,
    in_flight: &InFlight,
    found: &Found<'_>,
    goal: Goal,
    draft: &mut Draft,
) -> HashMap<Address, ActionId> {
    let users = Users::of(facts, in_flight, found, draft);
    let mut aligner = Aligner {
        facts,
        users: &users,
        found,
        goal,
        made: in_flight
            .adopted
            .iter()
            .map(|(address, id)| (address.clone(), *id))
            .collect(),
        draft,
    };
    let mut removals = Vec::new();
    for (address, record) in &facts.snapshot.state.resources {
        if !address.kind.is_shared() || aligner.draft.is_touched(address) {
            continue;
        }
        let wish = wished
            .get(address)
            .filter(|wish| wish.provider == record.provider);
        let wish = wish.filter(|wish| wish.by.is_some() && goal == Goal::Converge);
        match fleet::presence(facts, address, record) {
            Presence::Gone => {
                let verb = Verb::Forget { registration: None };
                let draft = &mut *aligner.draft;
                draft.push(address, verb, Reason::Gone, Vec::new(), Some(record));
            }
            Presence::Missing { since } => {
                aligner.draft.hold(address, 1, Reason::MissingOnce { since });
                aligner.draft.keep_shared(address, Reason::MissingOnce { since });
            }
            Presence::Unseen => aligner.keep_unread(address, record, "it was not listed"),
            Presence::Here(seen) => {
                if facts.cloud_gap(&record.provider).is_some() {
                    aligner.drift(address, record, seen, DriftFate::Shown);
                    aligner.keep_unread(address, record, "");
                } else if let Some(wish) = wish {
                    aligner.align(address, record, seen, wish);
                } else {
                    aligner.drift(address, record, seen, DriftFate::Shown);
                    removals.push((address, record));
                }
            }
        }
    }
    for (address, by) in needed {
        if let Some(wish) = wished.get(address) {
            aligner.make(address, wish, by);
        }
    }
    for (address, record) in removals {
        aligner.remove(address, record, wished);
    }
    aligner.made
}

/// Decides on one shared resource after the other.
struct Aligner<'a, 'd> {
    facts: &'a Facts<'a>,
    users: &'a Users<'a>,
    found: &'a Found<'a>,
    goal: Goal,
    made: HashMap<Address, ActionId>,
    draft: &'d mut Draft,
}

impl Aligner<'_, '_> {
    fn keep_unread(&mut self, address: &Address, record: &Record, otherwise: &str) {
        let provider = record.provider.clone();
        let gap = self.facts.cloud_gap(&provider);
        let why = gap.unwrap_or_else(|| otherwise.to_owned());
        self.draft
            .keep_shared(address, Reason::PartialCloud { provider, why });
    }

    /// Makes a shared resource that is not there, or will not be once this plan has removed it.
    fn make(&mut self, address: &Address, wish: &Wished, by: &PoolName) {
        let after = self.draft.removal_of(address);
        let there = after.is_none() && self.facts.snapshot.state.resources.contains_key(address);
        if !there && !self.made.contains_key(address) {
            let reason = Reason::Needed { by: by.clone() };
            self.create(address, wish, reason, after.into_iter().collect());
        }
    }

    fn create(&mut self, address: &Address, wish: &Wished, reason: Reason, mut after: Vec<ActionId>) {
        // An orphan of the same name must have gone before: its cloud takes no second one of that name.
        after.extend(self.draft.actions.iter().filter_map(|action| {
            let Verb::Delete { target, .. } = &action.verb else {
                return None;
            };
            let seen = self.facts.resource(target)?;
            (target.kind == address.kind && target.provider == wish.provider && seen.name == wish.spec.name())
                .then_some(action.id)
        }));
        after.sort_unstable();
        after.dedup();
        let rung = Rung {
            offering: None,
            provider: wish.provider.clone(),
            price: None,
            hash: shared_hash(&wish.spec),
            spec: wish.spec.clone(),
            needs: Vec::new(),
        };
        let verb = Verb::Create {
            ladder: vec![rung],
            bootstrap: None,
        };
        if let Some(id) = self.draft.push(address, verb, reason, after, None) {
            self.made.insert(address.clone(), id);
        }
    }

    /// Updates, makes anew or keeps a shared resource that is wished for.
    fn align(&mut self, address: &Address, record: &Record, seen: &Observed, wish: &Wished) {
        let mut want = wish.spec.clone();
        if let ResourceSpec::Network(network) = &wish.spec {
            let (now, reasons) = subnets::with_used(self.facts, self.found, (address, record), seen, network);
            want = ResourceSpec::Network(now);
            for reason in reasons {
                self.draft.hold(address, 1, reason);
            }
        }
        let changes = kind::differences(seen, &want);
        let stale = kind::spec_differences(&record.spec, &want);
        let interrupted = self
            .facts
            .snapshot
            .open
            .iter()
            .any(|open| open.address == *address && matches!(open.intent, Intent::Update { .. }));
        let reason = if changes.is_empty() {
            // Where only our record lags (an answer was lost), the change is made again: it changes nothing, and
            // its answer brings the record up to date.
            Reason::Unfinished
        } else if stale.is_empty() {
            Reason::Drifted {
                what: fields(&changes),
            }
        } else {
            Reason::Differs {
                what: fields(&changes),
            }
        };
        let anew = |change: &&Change| change.on_change == OnChange::Replace;
        let replaced: Vec<Change> = changes.iter().filter(anew).cloned().collect();
        if !replaced.is_empty() {
            self.anew(address, record, seen, wish, (&replaced, reason));
        } else if !changes.is_empty() || !stale.is_empty() || interrupted {
            self.drift(address, record, seen, DriftFate::Repaired);
            let verb = Verb::Update {
                have: Box::new(seen.clone()),
                want,
                changes: words(&changes),
            };
            self.draft.push(address, verb, reason, Vec::new(), Some(record));
        } else {
            self.keep(address, wish);
        }
    }

    fn keep(&mut self, address: &Address, wish: &Wished) {
        let by = wish.by.clone().unwrap_or_else(|| PoolName::new(""));
        self.draft.keep_shared(address, Reason::Needed { by });
    }

    /// Makes a shared resource anew, in the way of its kind.
    fn anew(
        &mut self,
        address: &Address,
        record: &Record,
        seen: &Observed,
        wish: &Wished,
        (changes, reason): (&[Change], Reason),
    ) {
        let aside = Address::shared(address.kind, &format!("{}@{}", address.name, record.id));
        let create_first =
            kind::describe(address.kind).anew == Anew::CreateFirst && record.name != wish.spec.name();
        if create_first && self.draft.is_touched(&aside) {
            // An interrupted move out of the way is being finished; the next tick makes the new one.
            self.draft.keep_shared(address, Reason::Unfinished);
        } else if create_first {
            self.drift(address, record, seen, DriftFate::Replaced);
            let verb = Verb::Relabel {
                have: Box::new(seen.clone()),
                labels: Labels::new(),
                record: Box::new(record.clone()),
                was: Some(address.clone()),
            };
            let moved = self
                .draft
                .push(&aside, verb, reason.clone(), Vec::new(), Some(record));
            self.create(address, wish, reason.clone(), moved.into_iter().collect());
            let after = self.made.get(address).copied().into_iter().collect();
            self.delete(&aside, record, reason, after);
        } else {
            let Hindrance { machines, .. } = self.users.hindrance(address, record);
            if machines > 0 && address.kind != ResourceKind::SshKey {
                self.drift(address, record, seen, DriftFate::Shown);
                let what = fields(changes);
                self.draft.warn(
                    address,
                    1,
                    Reason::InUse {
                        what: what.clone(),
                        machines,
                    },
                );
                self.draft.keep_shared(address, Reason::InUse { what, machines });
                return;
            }
            self.drift(address, record, seen, DriftFate::Replaced);
            let removed = self.delete(address, record, reason.clone(), Vec::new());
            self.create(address, wish, reason, removed.into_iter().collect());
        }
    }

    fn delete(
        &mut self,
        address: &Address,
        record: &Record,
        reason: Reason,
        after: Vec<ActionId>,
    ) -> Option<ActionId> {
        let verb = Verb::Delete {
            target: record.target(),
            registration: None,
        };
        self.draft.push(address, verb, reason, after, Some(record))
    }

    /// Removes what is not wished for, after the last machine that uses it.
    fn remove(&mut self, address: &Address, record: &Record, wished: &BTreeMap<Address, Wished>) {
        let hindrance = self.users.hindrance(address, record);
        if let Some(by) = hindrance.stays {
            self.draft.keep_shared(address, Reason::Needed { by });
            return;
        }
        let declared = wished.contains_key(address) || address.kind == ResourceKind::PlacementGroup;
        let reason = match self.goal {
            Goal::Destroy => Reason::Destroy,
            Goal::Converge if declared => Reason::Unused,
            Goal::Converge => Reason::NotInStack,
        };
        let mut after: Vec<ActionId> = hindrance.leaving.into_iter().collect();
        // What was moved out of the way by a replacement that did not end goes after what takes its place.
        let place = address.name.split_once('@');
        let place = place.map(|(name, _)| Address::shared(address.kind, name));
        if let Some((place, wish)) = place.and_then(|place| wished.get(&place).map(|wish| (place, wish)))
            && let (Some(by), Goal::Converge) = (&wish.by, self.goal)
        {
            self.make(&place, wish, by);
            after.extend(self.made.get(&place));
        }
        self.delete(address, record, reason, after);
    }

    /// Tells what someone else changed: what is on record against what is there.
    fn drift(&mut self, address: &Address, record: &Record, seen: &Observed, fate: DriftFate) {
        let changes: Vec<Change> = kind::differences(seen, &record.spec)
            .into_iter()
            .map(|change| Change {
                before: change.after,
                after: change.before,
                ..change
            })
            .collect();
        if !changes.is_empty() {
            self.draft.drift.push(Drift {
                address: address.clone(),
                what: words(&changes).join(", "),
                changes,
                fate,
            });
        }
    }
}

/// The names of what differs; a plan has the values beside its reason.
fn fields(changes: &[Change]) -> String {
    let names: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
    names.join(", ")
}

fn words(changes: &[Change]) -> Vec<String> {
    changes.iter().flat_map(Change::words).collect()
}

/// The shared resources that a rung needs.
pub(super) fn needs_of(rung: &Rung) -> Vec<Address> {
    match &rung.spec {
        ResourceSpec::Machine(spec) => spec
            .uses()
            .map(|(kind, name)| Address::shared(kind, name))
            .collect(),
        _ => Vec::new(),
    }
}

/// Shared resources whose making is in doubt: nothing that needs them is made meanwhile.
pub(super) fn in_doubt(needs: &[Address], unsettled: &HashSet<Address>) -> bool {
    needs.iter().any(|address| unsettled.contains(address))
}
