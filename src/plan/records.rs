//! Records of what is there: from what a cloud tells, what labels say, and what the stack file says of its pool.
//!
//! Used by `adopt`, `state import` and `state rebuild`. What cannot be recorded comes back with its reason.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    facts::{Facts, Work},
    strays,
};
use crate::{
    model::{
        ids::{Address, CiName, IntentId, PoolName, ProviderName, RegistrationId, ResourceKind, RunnerName},
        money::Price,
        reason::Reason,
        resource::{
            BatchSpec, ClaimLabels, FirewallSpec, ImageRef, MachineSpec, NetworkSpec, Observed,
            PlacementGroupSpec, ResourceRef, ResourceSpec, SshKeySpec,
        },
        state::{Phase, Record},
    },
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

pub(super) fn left(seen: &Observed, why: Why) -> Left {
    Left {
        target: seen.target.clone(),
        name: seen.name.clone(),
        why,
    }
}

/// A machine's CI, and its registration there where that is known.
type Runner = (CiName, Option<RegistrationId>);

/// Builds records, and knows what each may not share with another.
pub(super) struct Builder<'a, 'f> {
    pub(super) facts: &'f Facts<'a>,
    pub(super) addresses: HashSet<Address>,
    pub(super) intents: HashSet<IntentId>,
    registrations: HashMap<(CiName, RegistrationId), String>,
    /// The names that shared resources have, or get, in the stack.
    names: HashMap<ResourceRef, String>,
}

impl<'a, 'f> Builder<'a, 'f> {
    pub(super) fn new(facts: &'f Facts<'a>) -> Self {
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
        if kind != ResourceKind::Machine && kind != ResourceKind::Batch {
            return Ok((record(shared_spec(seen)?), Work::NoRunner));
        }
        let pool = address.pool.as_ref().ok_or(Why::NoPool)?;
        if kind == ResourceKind::Batch {
            let (mut each, _) = self.machine(seen, pool, address)?;
            each.image = ImageRef::TaskTemplate;
            let count = u32::try_from(seen.members.len()).unwrap_or(u32::MAX);
            let mut record = record(ResourceSpec::Batch(BatchSpec { each, count }));
            record.ci = self.facts.stack.pool(pool).map(|pool| pool.ci.clone());
            return Ok((record, Work::NoRunner));
        }
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
    ) -> Result<(Option<Runner>, Work), Why> {
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
            // Where there is no CI, a machine is its own runner, by its name.
            let own = |ci: &CiName| {
                let config = facts.stack.ci.get(ci);
                let alone = config.is_some_and(|ci| ci.kind.asks_machines());
                alone.then(|| RegistrationId::from(seen.name.as_str()))
            };
            let runner = default.map(|ci| {
                let own = own(&ci);
                (ci, own)
            });
            return Ok((runner, Work::Unknown));
        };
        match (strays::runner_of(facts, claim), default) {
            (Ok((Some((ci, registration)), work)), _) => Ok((Some((ci, Some(registration))), work)),
            (Ok((None, work)), Some(ci)) => Ok((Some((ci, Some(registration.clone()))), work)),
            (Err(_), Some(ci)) => Ok((Some((ci, Some(registration.clone()))), Work::Unknown)),
            (Err(Reason::PartialDemand { ci, why }), None) => Err(Why::PartialDemand { ci, why }),
            (Ok((None, _)) | Err(_), None) => Ok((None, Work::Unknown)),
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
            ec2: choice.and_then(|choice| choice.ec2.clone()),
            task: None,
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
