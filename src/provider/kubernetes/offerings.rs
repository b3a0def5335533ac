//! What can be "bought" in a cluster: what the stack file names, at the price that it gives.

use std::collections::BTreeSet;

use crate::{
    model::{
        money::{Money, Price},
        offering::{Architecture, Offering, OfferingKey},
        resource::{Completeness, KubernetesJob, TaskSpec},
    },
    provider::Offerings,
    stack::{OfferingChoice, quantity},
};

use super::Kubernetes;

impl Kubernetes {
    pub(super) fn named_offerings(&self) -> Offerings {
        let mut seen = BTreeSet::new();
        let all = self
            .options
            .choices
            .iter()
            .map(|(_, choice)| self.offering(choice));
        Offerings {
            offerings: all.filter(|offering| seen.insert(offering.key.clone())).collect(),
            completeness: Completeness::Complete,
            calls: 0,
        }
    }

    fn offering(&self, choice: &OfferingChoice) -> Offering {
        let nothing = || Money::zero(self.options.currency.clone());
        let price = Price {
            hourly: choice.price.clone().unwrap_or_else(nothing),
            monthly_cap: None,
        };
        let job = match choice.task.as_deref() {
            Some(TaskSpec::Kubernetes(job)) => Some(job),
            _ => None,
        };
        let (cpus, memory_mib) = size(job);
        Offering {
            key: OfferingKey {
                provider: self.profile.name.clone(),
                location: self.options.place.clone(),
                machine_type: choice.machine_type.clone(),
                market: choice.market,
            },
            price_without_ipv4: price.clone(),
            price,
            cpus,
            memory_mib,
            architecture: architecture(job),
            // Room in a cluster shows only when a pod is scheduled.
            available: None,
        }
    }
}

/// Processors, a begun one counted, and MiB. What is not said counts as one, for comparing.
fn size(job: Option<&KubernetesJob>) -> (u32, u64) {
    let millis = job.and_then(|job| quantity::cpu_millis(job.cpu.as_deref()?));
    let cpus = millis.and_then(|millis| u32::try_from(millis.div_ceil(1000)).ok());
    let bytes = job.and_then(|job| quantity::memory_bytes(job.memory.as_deref()?));
    (
        cpus.unwrap_or(1),
        bytes.map_or(1, |bytes| bytes.div_ceil(1 << 20)),
    )
}

/// By the label that every node carries.
fn architecture(job: Option<&KubernetesJob>) -> Architecture {
    let wished = job.and_then(|job| job.node_selector.get("kubernetes.io/arch"));
    match wished.map(String::as_str) {
        Some("arm64") => Architecture::Arm,
        _ => Architecture::X86,
    }
}
