//! What there is in a cloud in memory, and what may be done to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use crate::{
    model::{
        ids::{CloudId, ProviderName, ResourceKind},
        offering::{Offering, OfferingKey},
        resource::{
            ClaimLabels, CloudStatus, FirewallRule, MachineSpec, Observed, ResourceRef, ResourceSpec, Subnet,
        },
    },
    provider::{Claim, ProviderError},
};

use super::{Call, Fault};

/// How many machines a placement group holds, as at Hetzner.
const GROUP_SIZE: usize = 10;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) last_id: u64,
    pub(super) resources: BTreeMap<u64, Observed>,
    /// As they were before the last change.
    pub(super) before: BTreeMap<u64, Observed>,
    /// What each machine uses.
    pub(super) uses: BTreeMap<u64, Vec<ResourceRef>>,
    pub(super) offerings: Vec<Offering>,
    pub(super) sold_out: BTreeSet<OfferingKey>,
    pub(super) faults: VecDeque<(Call, Fault)>,
    pub(super) calls: BTreeMap<Call, u32>,
}

impl World {
    /// Counts a call, and says what is to go wrong with it.
    pub(super) fn begin(&mut self, call: Call) -> Option<Fault> {
        *self.calls.entry(call).or_default() += 1;
        let at = self.faults.iter().position(|(on, _)| *on == call)?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }

    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<u64, Observed>) -> T) -> T {
        self.before = self.resources.clone();
        change(&mut self.resources)
    }

    pub(super) fn make(&mut self, provider: &ProviderName, claim: &Claim) -> Result<Observed, ProviderError> {
        let (kind, name) = (claim.spec.kind(), claim.spec.name());
        let there = self
            .resources
            .values()
            .find(|seen| seen.target.kind == kind && seen.name == name);
        if let Some(seen) = there {
            return match seen.claim() {
                Some(have) if is_same(&have, &claim.labels) => Ok(seen.clone()),
                _ => Err(ProviderError::Rejected {
                    code: "name_taken".to_owned(),
                    why: format!("there is a {kind} {name:?} that is not ours"),
                }),
            };
        }
        if let ResourceSpec::Machine(spec) = &claim.spec {
            if self.sold_out.contains(&spec.offering) {
                let why = format!("{} is sold out", spec.offering);
                return Err(ProviderError::NoCapacity { why });
            }
            // Better no machine than one without its firewall.
            if lacks(claim, spec) {
                return Err(ProviderError::Rejected {
                    code: "missing_prerequisite".to_owned(),
                    why: format!("not all that {name:?} uses has an id"),
                });
            }
            let missing = claim.shared.iter().find(|used| {
                used.provider == *provider && key(used).is_none_or(|id| !self.resources.contains_key(&id))
            });
            if let Some(missing) = missing {
                return Err(not_found(missing));
            }
            let full = claim.shared.iter().find(|used| {
                let members = self.uses.values().filter(|uses| uses.contains(used));
                used.kind == ResourceKind::PlacementGroup && members.count() >= GROUP_SIZE
            });
            if let Some(full) = full {
                return Err(ProviderError::Rejected {
                    code: "group_full".to_owned(),
                    why: format!("{full} holds {GROUP_SIZE} machines already"),
                });
            }
        }
        self.last_id += 1;
        let id = self.last_id;
        let seen = observed(provider, id, self.now, claim)?;
        self.uses.insert(id, claim.shared.clone());
        self.change(|resources| resources.insert(id, seen.clone()));
        Ok(seen)
    }

    /// Changes one resource in place; as it is then.
    pub(super) fn edit(
        &mut self,
        target: &ResourceRef,
        change: impl FnOnce(&mut Observed) -> Result<(), ProviderError>,
    ) -> Result<Observed, ProviderError> {
        self.change(|resources| {
            let seen = key(target).and_then(|id| resources.get_mut(&id));
            let seen = seen
                .filter(|seen| seen.target == *target)
                .ok_or_else(|| not_found(target))?;
            change(seen)?;
            Ok(seen.clone())
        })
    }

    pub(super) fn remove(&mut self, target: &ResourceRef) -> Result<(), ProviderError> {
        let Some(id) = key(target).filter(|id| self.resources.get(id).is_some_and(|s| s.target == *target))
        else {
            return Ok(());
        };
        if self.uses.values().any(|uses| uses.contains(target)) {
            return Err(ProviderError::Unavailable {
                why: format!("{target} is in use"),
            });
        }
        self.uses.remove(&id);
        self.change(|resources| resources.remove(&id));
        Ok(())
    }
}

/// Whether a machine's claim has fewer ids than its spec has names.
fn lacks(claim: &Claim, spec: &MachineSpec) -> bool {
    let ids = |kind: ResourceKind| claim.shared.iter().filter(|used| used.kind == kind).count();
    [
        (ResourceKind::SshKey, spec.ssh_keys.len()),
        (ResourceKind::Firewall, spec.firewalls.len()),
        (ResourceKind::Network, spec.networks.len()),
        (ResourceKind::PlacementGroup, spec.placement_group.iter().count()),
    ]
    .into_iter()
    .any(|(kind, names)| ids(kind) < names)
}

pub(super) fn key(target: &ResourceRef) -> Option<u64> {
    target.id.as_str().parse().ok()
}

fn is_same(have: &ClaimLabels, want: &ClaimLabels) -> bool {
    (&have.stack, &have.lineage, &have.pool, &have.id) == (&want.stack, &want.lineage, &want.pool, &want.id)
}

fn observed(
    provider: &ProviderName,
    id: u64,
    now: Timestamp,
    claim: &Claim,
) -> Result<Observed, ProviderError> {
    let mut seen = Observed {
        target: ResourceRef {
            provider: provider.clone(),
            kind: claim.spec.kind(),
            id: CloudId::new(id.to_string()),
        },
        name: claim.spec.name().to_owned(),
        labels: claim.labels.to_labels(),
        status: CloudStatus::Running,
        created_at: now,
        offering: None,
        addresses: Vec::new(),
        rules: None,
        network: None,
        uses: None,
        public_key: None,
        size: None,
        members: Vec::new(),
        group: None,
    };
    match &claim.spec {
        ResourceSpec::Machine(spec) => {
            seen.offering = Some(spec.offering.clone());
            let uses = claim
                .shared
                .iter()
                .filter(|used| used.kind != ResourceKind::SshKey);
            let uses: BTreeSet<_> = uses.cloned().collect();
            seen.uses = Some(uses.into_iter().collect());
        }
        ResourceSpec::SshKey(spec) => seen.public_key = Some(spec.public_key.clone()),
        ResourceSpec::Firewall(spec) => seen.rules = Some(as_set(&spec.rules)),
        ResourceSpec::Network(spec) => {
            seen.network = Some((spec.ip_range.clone(), sorted(&spec.subnets)));
        }
        ResourceSpec::PlacementGroup(_) => {}
        ResourceSpec::Group(_) | ResourceSpec::Batch(_) => return Err(unsupported(claim.spec.kind())),
    }
    Ok(seen)
}

pub(super) fn as_set(rules: &[FirewallRule]) -> Vec<FirewallRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        rule.networks.sort();
    }
    rules.sort();
    rules
}

pub(super) fn sorted(subnets: &[Subnet]) -> Vec<Subnet> {
    let mut subnets = subnets.to_vec();
    subnets.sort();
    subnets
}

pub(super) fn not_found(target: &ResourceRef) -> ProviderError {
    ProviderError::Rejected {
        code: "not_found".to_owned(),
        why: format!("there is no {target}"),
    }
}

pub(super) fn unsupported(kind: ResourceKind) -> ProviderError {
    ProviderError::Unsupported {
        what: kind.to_string(),
    }
}
