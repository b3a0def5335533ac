//! Taking on record what is there already: what `adopt` and `state import` do, and the records of `state rebuild`.
//!
//! Pure: what was seen and what a person asked for in, actions or records out. Nothing here is decided by a tick: a
//! person asks for it, sees it and says yes. A machine keeps the registration that its label names, so that its jobs are
//! seen, and what runs is never ended by it. Labels and record change by [`Verb::Relabel`], whose intent holds the
//! record. What cannot be taken is said with its reason, and left as it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Action, ActionId, Plan, Verb, drift,
    facts::{Facts, Work},
    fleet, strays,
};
use crate::{
    model::{
        ids::{
            Address, CiName, IntentId, Lineage, PoolName, ProviderName, RegistrationId, ResourceKind,
            RunnerName,
        },
        intent::Intent,
        money::Price,
        reason::Reason,
        resource::{
            ClaimLabels, FirewallSpec, ImageRef, Labels, MachineSpec, NetworkSpec, Observed,
            PlacementGroupSpec, ResourceRef, ResourceSpec, SshKeySpec,
        },
        state::{Phase, Record},
    },
    render::{self, RenderError, TemplateSet},
    stack::{OfferingChoice, Pool},
};

/// Why something is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A label of ours is missing.
    #[error("it does not carry every label of a claim")]
    Unlabelled,
    /// A machine without a pool, or something shared with one.
    #[error("its label says no pool")]
    NoPool,
    /// The cloud does not say what it would need on record.
    #[error("the cloud does not say its {what}")]
    Untold {
        /// What.
        what: &'static str,
    },
    /// Such a kind is not taken on record.
    #[error("a {kind} is not taken on record")]
    Kind {
        /// Which.
        kind: ResourceKind,
    },
    /// Another has its registration, its address or its attempt.
    #[error("it is the double of {of}")]
    Double {
        /// Which.
        of: String,
    },
    /// Whose runner it is cannot be told.
    #[error("{ci}'s answer was partial: {why}")]
    PartialDemand {
        /// Which.
        ci: CiName,
        /// Why.
        why: String,
    },
}

/// Something that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub target: ResourceRef,
    /// Its name in the cloud.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Something that is taken on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address that it gets.
    pub address: Address,
    /// What it is.
    pub have: Observed,
    /// Its labels.
    pub labels: Labels,
    /// Its record.
    pub record: Record,
    /// The address that it had on record.
    pub was: Option<Address>,
    /// Whose it was by its label; none where it carried none.
    pub from: Option<Lineage>,
    /// The address that its claim says, where something else has that.
    pub clashed: Option<Address>,
    /// Whether it runs jobs; none where that is not certain.
    pub busy: Option<bool>,
    /// Whether an earlier attempt to take it is gone on with.
    pub unfinished: bool,
}

impl Taken {
    /// Its pool, where the stack file does not have it: the machine leaves as soon as it is idle.
    pub fn unknown_pool(&self, has: impl Fn(&PoolName) -> bool) -> Option<&PoolName> {
        self.address.pool.as_ref().filter(|pool| !has(pool))
    }
}

/// What `adopt` would take, and what it would not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Shared resources first.
    pub taken: Vec<Taken>,
    /// What stays as it is.
    pub left: Vec<Left>,
}

/// Why nothing can be adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// A name or id that nothing adoptable has.
    #[error("there is nothing to adopt by the name or id {named:?}")]
    Unknown {
        /// What was typed.
        named: String,
        /// The names of what there is.
        there: Vec<String>,
    },
    /// A name or id of several.
    #[error("{named:?} is {} resources", .meant.len())]
    Ambiguous {
        /// What was typed.
        named: String,
        /// As `KIND/ID`.
        meant: Vec<String>,
    },
}

/// What `adopt` takes: all that is foreign or an orphan, or what is named, disowned ones too.
///
/// # Errors
/// When a name means nothing, or more than one.
pub fn adopt(facts: &Facts<'_>, named: &[String]) -> Result<Takeover, AdoptError> {
    let found = strays::find(facts);
    let mut builder = Builder::new(facts);
    let mut takeover = Takeover {
        taken: begun(facts),
        left: Vec::new(),
    };
    let mut open_targets = HashSet::new();
    for taken in &takeover.taken {
        open_targets.insert(taken.have.target.clone());
        builder.note(&taken.address, &taken.record);
    }
    let all = found.foreign.iter().chain(&found.orphans);
    let mut wanted: Vec<&Observed> = if named.is_empty() {
        all.copied().collect()
    } else {
        choose(&all.chain(&found.disowned).copied().collect::<Vec<_>>(), named)?
    };
    wanted.retain(|seen| !open_targets.contains(&seen.target));
    // What machines use has its address before they have theirs.
    wanted.sort_by_key(|seen| (!seen.target.kind.is_shared(), seen.target.clone()));
    for seen in wanted {
        match builder.take(seen) {
            Ok(taken) => takeover.taken.push(taken),
            Err(why) => takeover.left.push(left(seen, why)),
        }
    }
    Ok(takeover)
}

/// What earlier attempts began to take, and is there.
pub fn begun(facts: &Facts<'_>) -> Vec<Taken> {
    let each = facts.snapshot.open.iter().filter_map(|open| {
        let Intent::Relabel {
            target,
            labels,
            record,
            was,
        } = &open.intent
        else {
            return None;
        };
        let have = facts.resource(target)?;
        Some(Taken {
            address: open.address.clone(),
            have: have.clone(),
            labels: labels.clone(),
            record: (**record).clone(),
            was: was.clone(),
            from: have
                .labels
                .get("runfleet-lineage")
                .map(|text| text.as_str().into()),
            clashed: None,
            busy: None,
            unfinished: true,
        })
    });
    each.collect()
}

pub(super) fn left(seen: &Observed, why: Why) -> Left {
    Left {
        target: seen.target.clone(),
        name: seen.name.clone(),
        why,
    }
}

/// The resources that are meant by their names or ids, or as `KIND/ID`.
fn choose<'a>(there: &[&'a Observed], named: &[String]) -> Result<Vec<&'a Observed>, AdoptError> {
    let mut chosen: Vec<&Observed> = Vec::new();
    for name in named {
        let means = |seen: &&&Observed| {
            seen.name == *name
                || seen.target.id.as_str() == name
                || format!("{}/{}", seen.target.kind, seen.target.id) == *name
        };
        let meant: Vec<&&Observed> = there.iter().filter(means).collect();
        match meant.as_slice() {
            [] => {
                return Err(AdoptError::Unknown {
                    named: name.clone(),
                    there: there.iter().map(|seen| seen.name.clone()).collect(),
                });
            }
            [one] if chosen.iter().any(|seen| seen.target == one.target) => {}
            [one] => chosen.push(one),
            several => {
                return Err(AdoptError::Ambiguous {
                    named: name.clone(),
                    meant: several
                        .iter()
                        .map(|seen| format!("{}/{}", seen.target.kind, seen.target.id))
                        .collect(),
                });
            }
        }
    }
    Ok(chosen)
}

/// Builds records, and knows what each may not share with another.
pub(super) struct Builder<'a, 'f> {
    facts: &'f Facts<'a>,
    addresses: HashSet<Address>,
    intents: HashSet<IntentId>,
    registrations: HashMap<(CiName, RegistrationId), String>,
    /// The names that shared resources have, or get, in the stack.
    names: HashMap<ResourceRef, String>,
}

impl<'a, 'f> Builder<'a, 'f> {
    fn new(facts: &'f Facts<'a>) -> Self {
        let mut builder = Self::empty(facts);
        for (address, record) in &facts.snapshot.state.resources {
            builder.note(address, record);
        }
        for open in &facts.snapshot.open {
            builder.addresses.insert(open.address.clone());
            builder.intents.insert(open.id.clone());
        }
        builder
    }

    pub(super) fn empty(facts: &'f Facts<'a>) -> Self {
        Self {
            facts,
            addresses: HashSet::new(),
            intents: HashSet::new(),
            registrations: HashMap::new(),
            names: HashMap::new(),
        }
    }

    pub(super) fn note(&mut self, address: &Address, record: &Record) {
        self.addresses.insert(address.clone());
        self.intents.insert(record.intent.clone());
        if let (Some(ci), Some(registration)) = (&record.ci, &record.registration) {
            let key = (ci.clone(), registration.clone());
            self.registrations.insert(key, address.to_string());
        }
        if address.kind.is_shared() {
            self.names.insert(record.target(), address.name.clone());
        }
    }

    /// What has this address already, or was made by this attempt.
    pub(super) fn double_of(&self, address: &Address, intent: &IntentId) -> Option<String> {
        if self.addresses.contains(address) {
            return Some(address.to_string());
        }
        self.intents
            .contains(intent)
            .then(|| format!("what attempt {intent} made"))
    }

    /// Takes what carries a claim under our lineage; where its address is taken, under one of its own.
    fn take(&mut self, seen: &Observed) -> Result<Taken, Why> {
        let state = &self.facts.snapshot.state;
        if let Some(address) = self.facts.recorded(&seen.target)
            && let Some(record) = state.resources.get(address)
        {
            return Ok(Taken {
                address: address.clone(),
                have: seen.clone(),
                labels: drift::claim_of(state, address, record).to_labels(),
                record: record.clone(),
                was: None,
                from: Some(strays::lineage_of(seen)),
                clashed: None,
                busy: fleet::work(self.facts, address, record).busy(),
                unfinished: false,
            });
        }
        let mut claim = seen.claim().ok_or(Why::Unlabelled)?;
        let from = claim.lineage.clone();
        let said = claim.address(seen.target.kind);
        let clashes = self.addresses.contains(&said);
        if clashes {
            claim.id = format!("{}-{}", claim.id, seen.target.id);
        }
        if self.intents.contains(&claim.intent) {
            claim.intent = IntentId::new(format!("{}-{}", claim.intent, seen.target.id));
        }
        claim.lineage = self.facts.snapshot.state.lineage.clone();
        let address = claim.address(seen.target.kind);
        let (record, work) = self.record(seen, &claim, &address)?;
        claim.registration = record.registration.clone();
        self.note(&address, &record);
        Ok(Taken {
            clashed: clashes.then_some(said),
            address,
            have: seen.clone(),
            labels: claim.to_labels(),
            record,
            was: None,
            from: Some(from),
            busy: work.busy(),
            unfinished: false,
        })
    }

    /// The record of what carries this claim.
    pub(super) fn record(
        &self,
        seen: &Observed,
        claim: &ClaimLabels,
        address: &Address,
    ) -> Result<(Record, Work), Why> {
        let kind = seen.target.kind;
        let record = |spec: ResourceSpec| Record {
            provider: seen.target.provider.clone(),
            id: seen.target.id.clone(),
            name: seen.name.clone(),
            intent: claim.intent.clone(),
            hash: claim.hash.clone(),
            created_at: seen.created_at,
            spec,
            price: None,
            ci: None,
            registration: None,
            phase: Phase::Live,
        };
        if kind != ResourceKind::Machine {
            return Ok((record(shared_spec(seen)?), Work::NoRunner));
        }
        let pool = address.pool.as_ref().ok_or(Why::NoPool)?;
        let (runner, work) = self.runner(seen, claim, pool)?;
        if let Some((ci, Some(registration))) = &runner
            && let Some(of) = self.registrations.get(&(ci.clone(), registration.clone()))
        {
            return Err(Why::Double { of: of.clone() });
        }
        let (spec, price) = self.machine(seen, pool, address)?;
        let mut record = record(ResourceSpec::Machine(spec));
        record.price = price;
        if let Some((ci, registration)) = runner {
            record.ci = Some(ci);
            record.registration = registration;
        }
        Ok((record, work))
    }

    /// Its CI and registration: by its label, else by its name.
    fn runner(
        &self,
        seen: &Observed,
        claim: &ClaimLabels,
        pool: &PoolName,
    ) -> Result<(Option<(CiName, Option<RegistrationId>)>, Work), Why> {
        let facts = self.facts;
        let configured = facts.stack.pool(pool).map(|pool| pool.ci.clone());
        let only = || match facts.stack.ci.len() {
            1 => facts.stack.ci.keys().next().cloned(),
            _ => None,
        };
        let default = configured.or_else(only);
        let Some(registration) = &claim.registration else {
            if let Some((ci, registration)) = by_name(facts, &seen.name) {
                let work = facts.work(&ci, &registration, Some(pool));
                return Ok((Some((ci, Some(registration))), work));
            }
            return Ok((default.map(|ci| (ci, None)), Work::Unknown));
        };
        match (strays::runner_of(facts, claim), default) {
            (Ok((Some((ci, registration)), work)), _) => Ok((Some((ci, Some(registration))), work)),
            (Ok((None, work)), Some(ci)) => Ok((Some((ci, Some(registration.clone()))), work)),
            (Ok((None, _)), None) => Ok((None, Work::Unknown)),
            (Err(_), Some(ci)) => Ok((Some((ci, Some(registration.clone()))), Work::Unknown)),
            (Err(Reason::PartialDemand { ci, why }), None) => Err(Why::PartialDemand { ci, why }),
            (Err(_), None) => Ok((None, Work::Unknown)),
        }
    }

    fn machine(
        &self,
        seen: &Observed,
        pool: &PoolName,
        address: &Address,
    ) -> Result<(MachineSpec, Option<Price>), Why> {
        let facts = self.facts;
        let offering = seen.offering.clone().ok_or(Why::Untold { what: "type" })?;
        let wished = facts.stack.pool(pool);
        let choice = wished.and_then(|pool| choice_of(pool, &offering.provider, &offering.machine_type));
        let public_ipv4 = choice.map_or_else(
            || seen.addresses.iter().any(std::net::IpAddr::is_ipv4),
            |choice| choice.public_ipv4,
        );
        let provider = &seen.target.provider;
        let used = |kind: ResourceKind| {
            let uses = seen.uses.as_ref()?;
            let named = uses.iter().filter(|used| used.kind == kind);
            Some(
                named
                    .filter_map(|used| self.names.get(used).cloned())
                    .collect::<Vec<_>>(),
            )
        };
        let of_pool = |names: Option<&Vec<String>>, there: &dyn Fn(&str) -> bool| {
            let names = names.map(Vec::as_slice).unwrap_or_default();
            names
                .iter()
                .filter(|name| there(name))
                .cloned()
                .collect::<Vec<_>>()
        };
        let stack = facts.stack;
        let ssh_keys = of_pool(wished.map(|pool| &pool.ssh_keys), &|name| {
            stack
                .ssh_keys
                .get(name)
                .is_some_and(|key| key.provider == *provider)
        });
        let firewalls = used(ResourceKind::Firewall).unwrap_or_else(|| {
            of_pool(wished.map(|pool| &pool.firewalls), &|name| {
                stack
                    .firewalls
                    .get(name)
                    .is_some_and(|wall| wall.provider == *provider)
            })
        });
        let networks = used(ResourceKind::Network).unwrap_or_else(|| {
            of_pool(wished.map(|pool| &pool.networks), &|name| {
                stack
                    .networks
                    .get(name)
                    .is_some_and(|network| network.provider == *provider)
            })
        });
        let group = used(ResourceKind::PlacementGroup).and_then(|names| names.into_iter().next());
        let price = facts.price(&offering, public_ipv4).cloned();
        let spec = MachineSpec {
            pool: pool.clone(),
            runner: RunnerName::new(address.name.clone()),
            name: seen.name.clone(),
            offering,
            image: choice.map_or_else(
                || ImageRef::Name("unknown".to_owned()),
                |choice| choice.image.clone(),
            ),
            public_ipv4,
            ssh_keys,
            firewalls,
            networks,
            placement_group: group,
            parts: BTreeMap::new(),
        };
        Ok((spec, price))
    }
}

fn choice_of<'a>(pool: &'a Pool, provider: &ProviderName, machine_type: &str) -> Option<&'a OfferingChoice> {
    let of_provider = || {
        pool.offerings
            .iter()
            .filter(|choice| choice.provider == *provider)
    };
    of_provider()
        .find(|choice| choice.machine_type == machine_type)
        .or_else(|| of_provider().next())
}

/// The only registration of a machine of this name that no record has.
fn by_name(facts: &Facts<'_>, machine: &str) -> Option<(CiName, RegistrationId)> {
    let all = facts.snapshot.demand.iter().flat_map(|(ci, demand)| {
        let named = demand.runners.iter().filter(|runner| runner.machine() == machine);
        named.map(move |runner| (ci.clone(), runner.registration.clone()))
    });
    let mut free = all.filter(|(ci, id)| facts.owner(ci, id).is_none());
    let first = free.next()?;
    free.next().is_none().then_some(first)
}

/// What a shared resource is, as the cloud tells it.
pub(super) fn shared_spec(seen: &Observed) -> Result<ResourceSpec, Why> {
    let name = seen.name.clone();
    let untold = |what| Why::Untold { what };
    Ok(match seen.target.kind {
        ResourceKind::SshKey => {
            let public_key = seen.public_key.clone().ok_or_else(|| untold("public key"))?;
            ResourceSpec::SshKey(SshKeySpec { name, public_key })
        }
        ResourceKind::Firewall => {
            let rules = seen.rules.clone().ok_or_else(|| untold("rules"))?;
            ResourceSpec::Firewall(FirewallSpec { name, rules })
        }
        ResourceKind::Network => {
            let (ip_range, subnets) = seen.network.clone().ok_or_else(|| untold("subnets"))?;
            ResourceSpec::Network(NetworkSpec {
                name,
                ip_range,
                subnets,
            })
        }
        ResourceKind::PlacementGroup => ResourceSpec::PlacementGroup(PlacementGroupSpec { name }),
        kind @ (ResourceKind::Machine | ResourceKind::Group | ResourceKind::Batch) => {
            return Err(Why::Kind { kind });
        }
    })
}

/// Why a resource cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something else has the address.
    #[error("{address} is on record already: {target}")]
    AddressTaken {
        /// Which.
        address: Address,
        /// What is there.
        target: ResourceRef,
    },
    /// It has an address already.
    #[error("{target} is on record already, at {address}")]
    OnRecord {
        /// Which.
        target: ResourceRef,
        /// Where.
        address: Address,
    },
    /// It carries the labels of a stack.
    #[error("{target} is labelled as stack {stack}'s")]
    Claimed {
        /// Which.
        target: ResourceRef,
        /// Whose.
        stack: String,
        /// Whether that is this stack.
        ours: bool,
    },
    /// A pool that the stack file does not have.
    #[error("there is no pool {pool}")]
    NoPool {
        /// Which.
        pool: PoolName,
        /// Those that are there.
        there: Vec<PoolName>,
    },
    /// It cannot be taken.
    #[error(transparent)]
    Left(#[from] Why),
    /// What it would be made from cannot be told.
    #[error("hashing its template")]
    Render(#[from] RenderError),
}

/// What `state import` takes: a resource without labels of ours, at the address that a person gave.
///
/// It counts as made from what the stack file says now. A machine whose registration is not found by its name has none,
/// and is kept for ever, since nobody can say whether it is at work.
///
/// # Errors
/// When address or resource are on record, or it cannot be taken.
pub fn import(
    facts: &Facts<'_>,
    templates: &TemplateSet,
    address: &Address,
    seen: &Observed,
    intent: IntentId,
) -> Result<Taken, ImportError> {
    let state = &facts.snapshot.state;
    if let Some(record) = state.resources.get(address) {
        return Err(ImportError::AddressTaken {
            address: address.clone(),
            target: record.target(),
        });
    }
    if let Some(at) = facts.recorded(&seen.target) {
        return Err(ImportError::OnRecord {
            target: seen.target.clone(),
            address: at.clone(),
        });
    }
    if let Some(stack) = seen.labels.get(ClaimLabels::STACK) {
        return Err(ImportError::Claimed {
            target: seen.target.clone(),
            stack: stack.clone(),
            ours: stack == state.stack.as_str(),
        });
    }
    let mut claim = ClaimLabels {
        stack: state.stack.clone(),
        lineage: state.lineage.clone(),
        pool: address.pool.clone(),
        id: address.name.clone(),
        hash: "imported".into(),
        intent,
        registration: None,
    };
    let pool = match &address.pool {
        None => None,
        Some(name) => Some(facts.stack.pool(name).ok_or_else(|| ImportError::NoPool {
            pool: name.clone(),
            there: facts.stack.pools.iter().map(|pool| pool.name.clone()).collect(),
        })?),
    };
    let builder = Builder::new(facts);
    let (mut record, work) = builder.record(seen, &claim, address)?;
    record.hash = match (
        &record.spec,
        pool,
        pool.and_then(|pool| facts.stack.ci.get(&pool.ci)),
    ) {
        (ResourceSpec::Machine(spec), Some(pool), Some(ci)) => render::spec_hash(templates, pool, ci, spec)?,
        (spec, ..) => render::shared_hash(spec),
    };
    claim.hash = record.hash.clone();
    claim.registration = record.registration.clone();
    Ok(Taken {
        address: address.clone(),
        have: seen.clone(),
        labels: claim.to_labels(),
        record,
        was: None,
        from: None,
        clashed: None,
        busy: work.busy(),
        unfinished: false,
    })
}

/// The actions that take these on record.
pub fn actions(taken: &[Taken]) -> Vec<Action> {
    let each = taken.iter().zip(0_u32..);
    each.map(|(taken, id)| Action {
        id: ActionId(id),
        address: taken.address.clone(),
        verb: Verb::Relabel {
            have: Box::new(taken.have.clone()),
            labels: taken.labels.clone(),
            record: Box::new(taken.record.clone()),
            was: taken.was.clone(),
        },
        reason: if taken.unfinished {
            Reason::Unfinished
        } else {
            Reason::AdoptAsked
        },
        after: Vec::new(),
        before: None,
    })
    .collect()
}

/// The plan with these actions in the place of its own: what a person asked for, and nothing else.
pub fn instead(plan: Plan, actions: Vec<Action>) -> Plan {
    Plan {
        actions,
        kept: Vec::new(),
        held: Vec::new(),
        breaches: Vec::new(),
        ..plan
    }
}

#[cfg(test)]
mod tests;
