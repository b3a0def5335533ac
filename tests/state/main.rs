//! Places where state is kept: one conformance suite that each passes, and what only files can suffer.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where it finds what it does not expect"
)]

mod conformance;
mod damage;
mod disk;
mod files;
mod format;
#[cfg(feature = "sandbox")]
mod gitlab;
mod kept;
mod locks;
#[cfg(feature = "object")]
#[path = "../support/moto.rs"]
mod moto;
mod places;
#[cfg(feature = "object")]
mod s3;
#[cfg(feature = "sandbox")]
mod terraform;

use std::str::FromStr;

use jiff::Timestamp;
use runfleet::model::{
    ids::{Address, Serial, StackName},
    intent::{Entry, Intent, Outcome, Step},
    money::{Money, Price},
    offering::{Market, OfferingKey},
    resource::{ClaimLabels, ImageRef, MachineSpec, ResourceSpec},
    state::{Phase, Record, State},
};

fn stack() -> StackName {
    "prod".into()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn address(number: usize) -> Address {
    Address::from_str(&format!("machine.linux/brave-otter-{number}")).unwrap()
}

/// A machine as a tick makes it, names and hashes as long as real ones.
fn record(number: usize) -> Record {
    Record {
        provider: "hetzner".into(),
        id: (50_000_000 + number).to_string().into(),
        name: format!("prod-linux-brave-otter-{number}"),
        intent: format!("{number:016x}").into(),
        hash: "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4".into(),
        created_at: at(1),
        spec: ResourceSpec::Machine(MachineSpec {
            task: None,
            networks: Vec::new(),
            placement_group: None,
            ec2: None,
            parts: std::collections::BTreeMap::new(),
            pool: "linux".into(),
            runner: format!("brave-otter-{number}").into(),
            name: format!("prod-linux-brave-otter-{number}"),
            offering: OfferingKey {
                provider: "hetzner".into(),
                location: "nbg1".into(),
                machine_type: "cx33".into(),
                market: Market::OnDemand,
            },
            image: ImageRef::Name("debian-12".into()),
            public_ipv4: true,
            ssh_keys: vec!["prod-default".into()],
            firewalls: vec!["prod-default".into()],
        }),
        price: Some(Price {
            hourly: Money::from_str("0.0107100000000000 EUR").unwrap(),
            monthly_cap: Some(Money::from_str("6.6521000000000000 EUR").unwrap()),
        }),
        ci: Some("gitlab".into()),
        registration: Some(number.to_string().into()),
        phase: Phase::Live,
    }
}

fn state(serial: u64, machines: usize) -> State {
    let mut state = State::empty(stack(), "4f1d2c3b5a697887".into());
    state.serial = Serial(serial);
    state.resources = (0..machines)
        .map(|number| (address(number), record(number)))
        .collect();
    state
}

/// What a create leaves in the journal: its begin, its registration, its end.
fn create(number: usize) -> [Entry; 3] {
    let made = record(number);
    let entry = |step| Entry {
        at: at(2),
        intent: made.intent.clone(),
        address: address(number),
        step,
    };
    let begin = Intent::Create {
        claim: ClaimLabels {
            stack: stack(),
            lineage: "4f1d2c3b5a697887".into(),
            pool: Some("linux".into()),
            id: format!("brave-otter-{number}"),
            hash: made.hash.clone(),
            intent: made.intent.clone(),
            registration: None,
        },
        spec: made.spec.clone(),
        provider: made.provider.clone(),
        price: made.price.clone(),
        ci: made.ci.clone(),
    };
    [
        entry(Step::Begin { intent: begin }),
        entry(Step::Registered {
            ci: "gitlab".into(),
            registration: number.to_string().into(),
        }),
        entry(Step::End {
            outcome: Outcome::Present(Box::new(made.clone())),
        }),
    ]
}
