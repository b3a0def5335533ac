//! Subnets that the stack file does not have any more and machines stand in: no cloud removes such a one, so it stays
//! until the last of them has gone.

use std::net::IpAddr;

use super::{facts::Facts, strays::Found};
use crate::model::{
    ids::Address,
    reason::Reason,
    resource::{NetworkSpec, Observed, ResourceSpec, Subnet},
    state::Record,
};

/// What a network should be now, with those subnets, and why each of them stays.
pub(super) fn with_used(
    facts: &Facts<'_>,
    found: &Found<'_>,
    (address, record): (&Address, &Record),
    seen: &Observed,
    want: &NetworkSpec,
) -> (NetworkSpec, Vec<Reason>) {
    let mut now = want.clone();
    let mut reasons = Vec::new();
    // Of a network that is of another range nothing is changed in place.
    let same = seen.network.iter().filter(|(range, _)| *range == want.ip_range);
    let there = same.flat_map(|(_, subnets)| subnets);
    let surplus: Vec<&Subnet> = there.filter(|subnet| !want.subnets.contains(subnet)).collect();
    if surplus.is_empty() {
        return (now, reasons);
    }
    let attached = attached(facts, found, address, record);
    for subnet in surplus {
        let inside = attached.iter().filter(|machine| stands_in(machine, subnet, want));
        let machines = u32::try_from(inside.count()).unwrap_or(u32::MAX);
        if machines > 0 {
            let subnet = subnet.clone();
            reasons.push(Reason::SubnetInUse {
                subnet: subnet.ip_range.clone(),
                machines,
            });
            now.subnets.push(subnet);
        }
    }
    (now, reasons)
}

/// The addresses of every machine that is attached to a network; none where its cloud does not say.
fn attached(facts: &Facts<'_>, found: &Found<'_>, address: &Address, record: &Record) -> Vec<Vec<IpAddr>> {
    let mut attached = Vec::new();
    for machine in facts.snapshot.state.resources.values() {
        if let ResourceSpec::Machine(spec) = &machine.spec
            && machine.provider == record.provider
            && spec.networks.contains(&address.name)
        {
            let seen = facts.resource(&machine.target());
            attached.push(seen.map(|seen| seen.addresses.clone()).unwrap_or_default());
        }
    }
    let target = record.target();
    for seen in &found.orphans {
        if seen.uses.as_ref().is_some_and(|uses| uses.contains(&target)) {
            attached.push(seen.addresses.clone());
        }
    }
    attached
}

/// Whether a machine stands in a subnet. One with no address in the network at all may stand in any.
fn stands_in(addresses: &[IpAddr], subnet: &Subnet, network: &NetworkSpec) -> bool {
    let within = |range: &str| addresses.iter().any(|address| contains(range, *address));
    within(&subnet.ip_range) || !within(&network.ip_range)
}

/// Whether a range in CIDR notation has an address; one that cannot be read has every address.
fn contains(range: &str, address: IpAddr) -> bool {
    let Some((base, length)) = range.split_once('/') else {
        return true;
    };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return true;
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let shift = 32_u32.saturating_sub(length);
            let part = |bits: u32| bits.checked_shr(shift).unwrap_or_default();
            part(base.to_bits()) == part(address.to_bits())
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let shift = 128_u32.saturating_sub(length);
            let part = |bits: u128| bits.checked_shr(shift).unwrap_or_default();
            part(base.to_bits()) == part(address.to_bits())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_addresses_that_begin_as_it_does() {
        let has = |range, address: &str| contains(range, address.parse().unwrap());
        assert!(has("10.0.1.0/24", "10.0.1.7") && !has("10.0.1.0/24", "10.0.2.7"));
        assert!(has("0.0.0.0/0", "10.0.1.7") && has("10.0.1.7/32", "10.0.1.7"));
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fe80::1") && has("::/0", "fe80::1"));
        assert!(!has("10.0.1.0/24", "fd12::1"));
    }
}
