//! What the provider cases ask a cloud to make.

use runfleet::{
    model::{
        ids::{ResourceKind, StackName},
        resource::{
            ClaimLabels, Direction, FirewallRule, FirewallSpec, MachineSpec, NetworkSpec, Observed,
            PlacementGroupSpec, ResourceRef, ResourceSpec, SshKeySpec, Subnet,
        },
    },
    provider::{Accepted, Claim, ProviderError},
};
use secrecy::SecretString;

use crate::provider::{Harness, has};

/// What no error may tell.
pub(crate) const SECRET: &str = "glrt-very-secret";

pub(crate) fn stack() -> StackName {
    "conformance".into()
}

pub(crate) fn claim(kind: ResourceKind, id: &str, intent: &str, spec: ResourceSpec) -> Claim {
    Claim {
        labels: ClaimLabels {
            stack: stack(),
            lineage: "lineage-1".into(),
            pool: (kind == ResourceKind::Machine).then(|| "linux".into()),
            id: id.to_owned(),
            hash: "0123abcd".into(),
            intent: intent.into(),
            registration: (kind == ResourceKind::Machine).then(|| format!("r-{intent}").into()),
        },
        user_data: (kind == ResourceKind::Machine)
            .then(|| SecretString::from(format!("#cloud-config\n# {SECRET}\n"))),
        shared: Vec::new(),
        accepted: Accepted::default(),
        spec,
    }
}

pub(crate) fn key() -> Claim {
    let public_key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEOTo4gvCqoxwrYrJZ6cUBeLvPPfdbTHgMTbRCkZfv conformance";
    let spec = ResourceSpec::SshKey(SshKeySpec {
        name: "conformance-default".to_owned(),
        public_key: public_key.to_owned(),
    });
    claim(ResourceKind::SshKey, "default", "key-1", spec)
}

pub(crate) fn rule(port: &str) -> FirewallRule {
    FirewallRule {
        direction: Direction::In,
        protocol: "tcp".to_owned(),
        port: Some(port.to_owned()),
        networks: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
    }
}

pub(crate) fn firewall(rules: &[FirewallRule]) -> Claim {
    let spec = ResourceSpec::Firewall(FirewallSpec {
        name: "conformance-default".to_owned(),
        rules: rules.to_vec(),
    });
    claim(ResourceKind::Firewall, "default", "firewall-1", spec)
}

pub(crate) fn subnet(range: &str) -> Subnet {
    Subnet {
        ip_range: range.to_owned(),
        zone: "eu-central".to_owned(),
    }
}

pub(crate) fn network(subnets: &[&str]) -> Claim {
    let spec = ResourceSpec::Network(NetworkSpec {
        name: "conformance-lan".to_owned(),
        ip_range: "10.0.0.0/16".to_owned(),
        subnets: subnets.iter().map(|range| subnet(range)).collect(),
    });
    claim(ResourceKind::Network, "lan", "network-1", spec)
}

pub(crate) fn group() -> Claim {
    let spec = ResourceSpec::PlacementGroup(PlacementGroupSpec {
        name: "conformance-apart-1".to_owned(),
    });
    claim(ResourceKind::PlacementGroup, "apart-1", "group-1", spec)
}

/// One of each kind that the backend has.
pub(crate) fn every_kind(harness: &dyn Harness, id: &str) -> Vec<Claim> {
    let all = [
        key(),
        firewall(&[rule("22")]),
        network(&["10.0.0.0/24"]),
        group(),
        machine(harness, id, &format!("m-{id}")),
    ];
    all.into_iter()
        .filter(|claim| has(harness, claim.spec.kind()))
        .collect()
}

pub(crate) fn machine(harness: &dyn Harness, id: &str, intent: &str) -> Claim {
    let spec = ResourceSpec::Machine(MachineSpec {
        task: None,
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: id.into(),
        name: format!("conformance-linux-{id}"),
        offering: harness.offering(),
        image: harness.image(),
        public_ipv4: true,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
    });
    claim(ResourceKind::Machine, id, intent, spec)
}

pub(crate) async fn create(harness: &dyn Harness, claim: &Claim) -> Result<Observed, ProviderError> {
    let mut answers = harness.provider().create(std::slice::from_ref(claim)).await;
    assert_eq!(answers.len(), 1, "one answer for each claim");
    let answer = answers.remove(0);
    if let Err(error) = &answer {
        assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "a secret in {error:?}"
        );
    }
    answer
}

pub(crate) async fn made(harness: &dyn Harness, claim: &Claim) -> Observed {
    create(harness, claim).await.expect("it is made")
}

pub(crate) async fn listed(harness: &dyn Harness) -> Vec<Observed> {
    let listing = harness.provider().list(&stack()).await.expect("a listing");
    assert!(listing.completeness.is_complete(), "{:?}", listing.completeness);
    listing.resources
}

pub(crate) async fn remove(harness: &dyn Harness, target: &ResourceRef) {
    harness.provider().delete(target).await.expect("it is deleted");
}

/// A machine's claim.
pub(crate) fn any_machine(harness: &dyn Harness) -> Claim {
    machine(harness, "jolly-mole", "m-9")
}

/// So many machines' claims.
pub(crate) fn machines(harness: &dyn Harness, count: usize) -> Vec<Claim> {
    (0..count)
        .map(|n| machine(harness, &format!("n{n}"), &format!("n-{n}")))
        .collect()
}
