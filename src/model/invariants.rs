//! What holds of every state on record, numbered; checked when one is read and when one is written.
//!
//! - S1: its version is the one that this program writes.
//! - S2: its serial is at least 1 and leaves room for the next.
//! - S3: its stack and its lineage have names.
//! - S4: an address has its record's kind.
//! - S5: a shared kind has no pool in its address, another kind has one, and it is the spec's own.
//! - S6: no two records point at one resource of a cloud.
//! - S7: no two records were made by one attempt.
//! - S8: only a machine has a registration, and then it has a CI.
//! - S9: no two pauses are of one thing.
//! - S10: what was released is not on record.
//! - S11: our own lineage is not among those that we disowned.

use std::collections::BTreeMap;

use super::{
    ids::{Address, IntentId, Lineage, PoolName, ResourceKind, Serial},
    resource::{ResourceRef, ResourceSpec},
    state::{Record, STATE_VERSION, State},
};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// S1
    #[error("S1: format version {found} is not known, {STATE_VERSION} is")]
    Version {
        /// What it is.
        found: u32,
    },
    /// S2
    #[error("S2: serial {found} is no serial of a written state")]
    Serial {
        /// What it is.
        found: Serial,
    },
    /// S3
    #[error("S3: {what} is empty")]
    Unnamed {
        /// `stack` or `lineage`.
        what: &'static str,
    },
    /// S4
    #[error("S4: {address} holds a {found}")]
    Kind {
        /// Where.
        address: Address,
        /// What is there.
        found: ResourceKind,
    },
    /// S5
    #[error("S5: the pool in {address} is not that of its spec{}", pool_of(.found.as_ref()))]
    Pool {
        /// Where.
        address: Address,
        /// The spec's.
        found: Option<PoolName>,
    },
    /// S6
    #[error("S6: {address} and {other} are both {target}")]
    SameResource {
        /// One.
        address: Box<Address>,
        /// The other.
        other: Box<Address>,
        /// What both point at.
        target: Box<ResourceRef>,
    },
    /// S7
    #[error("S7: {address} and {other} were both made by attempt {intent}")]
    SameIntent {
        /// One.
        address: Box<Address>,
        /// The other.
        other: Box<Address>,
        /// The attempt.
        intent: IntentId,
    },
    /// S8
    #[error("S8: {address} has a registration, and {}", if *.machine { "no CI" } else { "is no machine" })]
    Registration {
        /// Where.
        address: Address,
        /// Whether it is one that may have a registration.
        machine: bool,
    },
    /// S9
    #[error("S9: {what} of {owner} is paused twice")]
    SamePause {
        /// What.
        what: String,
        /// Whose.
        owner: String,
    },
    /// S10
    #[error("S10: {address} is on record and released: {target}")]
    Released {
        /// Where.
        address: Box<Address>,
        /// What.
        target: Box<ResourceRef>,
    },
    /// S11
    #[error("S11: our own lineage {lineage} is disowned")]
    Disowned {
        /// Ours.
        lineage: Lineage,
    },
}

/// The invariants by number, for a person.
pub const INVARIANTS: &[(&str, &str)] = &[
    ("S1", "its version is the one that this program writes"),
    ("S2", "its serial is at least 1 and leaves room for the next"),
    ("S3", "its stack and its lineage have names"),
    ("S4", "an address has its record's kind"),
    (
        "S5",
        "a shared kind has no pool in its address, another kind has one, and it is the spec's own",
    ),
    ("S6", "no two records point at one resource of a cloud"),
    ("S7", "no two records were made by one attempt"),
    ("S8", "only a machine has a registration, and then it has a CI"),
    ("S9", "no two pauses are of one thing"),
    ("S10", "what was released is not on record"),
    ("S11", "our own lineage is not among those that we disowned"),
];

fn pool_of(pool: Option<&PoolName>) -> String {
    pool.map_or_else(String::new, |pool| format!(", {pool}"))
}

/// S4 and S5 of one address and what is, or will be, there.
pub fn check_place(address: &Address, spec: &ResourceSpec) -> Result<(), Breach> {
    if address.kind != spec.kind() {
        return Err(Breach::Kind {
            address: address.clone(),
            found: spec.kind(),
        });
    }
    let own = match spec {
        ResourceSpec::Machine(machine) => Some(&machine.pool),
        ResourceSpec::Batch(batch) => Some(&batch.each.pool),
        // The address is all that says which pool a group serves.
        ResourceSpec::Group(_) => address.pool.as_ref(),
        ResourceSpec::SshKey(_)
        | ResourceSpec::Network(_)
        | ResourceSpec::Firewall(_)
        | ResourceSpec::PlacementGroup(_) => None,
    };
    if address.pool.as_ref() == own && address.pool.is_none() == address.kind.is_shared() {
        Ok(())
    } else {
        Err(Breach::Pool {
            address: address.clone(),
            found: own.cloned(),
        })
    }
}

/// S4, S5 and S8 of one record.
pub fn check_record(address: &Address, record: &Record) -> Result<(), Breach> {
    check_place(address, &record.spec)?;
    let machine = address.kind == ResourceKind::Machine;
    if record.registration.is_some() && !(machine && record.ci.is_some()) {
        return Err(Breach::Registration {
            address: address.clone(),
            machine,
        });
    }
    Ok(())
}

/// Which address holds what must be unique among records: S6 and S7.
#[derive(Clone, Debug, Default)]
pub struct Index {
    resources: BTreeMap<ResourceRef, Address>,
    intents: BTreeMap<IntentId, Address>,
}

impl Index {
    /// Checks that no other address holds what this record holds.
    pub fn check(&self, address: &Address, record: &Record) -> Result<(), Breach> {
        let target = record.target();
        if let Some(other) = self.resources.get(&target).filter(|other| *other != address) {
            return Err(Breach::SameResource {
                address: Box::new(address.clone()),
                other: Box::new(other.clone()),
                target: Box::new(target),
            });
        }
        if let Some(other) = self.intents.get(&record.intent).filter(|other| *other != address) {
            return Err(Breach::SameIntent {
                address: Box::new(address.clone()),
                other: Box::new(other.clone()),
                intent: record.intent.clone(),
            });
        }
        Ok(())
    }

    /// Enters what this record holds.
    pub fn insert(&mut self, address: &Address, record: &Record) {
        self.resources.insert(record.target(), address.clone());
        self.intents.insert(record.intent.clone(), address.clone());
    }

    /// Takes out what this record held.
    pub fn remove(&mut self, record: &Record) {
        self.resources.remove(&record.target());
        self.intents.remove(&record.intent);
    }
}

impl State {
    /// Whether all of S1 to S11 hold, for a state that is kept.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Breach> {
        if self.version != STATE_VERSION {
            return Err(Breach::Version { found: self.version });
        }
        if self.serial == Serial(0) || self.serial == Serial(u64::MAX) {
            return Err(Breach::Serial { found: self.serial });
        }
        for (what, name) in [("stack", self.stack.as_str()), ("lineage", self.lineage.as_str())] {
            if name.is_empty() {
                return Err(Breach::Unnamed { what });
            }
        }
        let mut index = Index::default();
        for (address, record) in &self.resources {
            check_record(address, record)?;
            index.check(address, record)?;
            index.insert(address, record);
            let target = record.target();
            if self.released.contains(&target) {
                return Err(Breach::Released {
                    address: Box::new(address.clone()),
                    target: Box::new(target),
                });
            }
        }
        if self.disowned.contains(&self.lineage) {
            return Err(Breach::Disowned {
                lineage: self.lineage.clone(),
            });
        }
        for (at, pause) in self.pauses.iter().enumerate() {
            if self.pauses[..at].iter().any(|other| pause.is_same(other)) {
                return Err(Breach::SamePause {
                    what: pause.what.clone(),
                    owner: pause.owner.clone(),
                });
            }
        }
        Ok(())
    }
}
