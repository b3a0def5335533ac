//! Names and ids as types of their own, so that none is taken for another.

use std::{borrow::Borrow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is; what it may contain is checked where it enters (the stack file, an API's answer).
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// The name of a stack: one environment.
    StackName
}
text_id! {
    /// The name of a pool within its stack.
    PoolName
}
text_id! {
    /// A runner's short name, unique in its stack: `brave-otter`.
    RunnerName
}
text_id! {
    /// The key of a provider under `[providers]`.
    ProviderName
}
text_id! {
    /// The key of a CI system under `[ci]`.
    CiName
}
text_id! {
    /// The identity of a stack's state, made once, carried by every resource as a label.
    Lineage
}
text_id! {
    /// The nonce of one attempt; a new attempt has a new one.
    IntentId
}
text_id! {
    /// The CI system's own id of a runner's registration (never its token). Where machines share a registration, it is
    /// that one's id, a dot, and what tells the machine from the others: `42.r_3k9x0aqwz1bd`.
    RegistrationId
}

impl RegistrationId {
    /// Of one machine among those that share a registration.
    pub fn of_shared(registration: &str, machine: &str) -> Self {
        Self(format!("{registration}.{machine}"))
    }

    /// The shared registration and its machine; none for a registration that one machine has for itself.
    pub fn shared(&self) -> Option<(&str, &str)> {
        self.0.split_once('.')
    }
}
text_id! {
    /// A CI system's own id of a job.
    JobId
}
text_id! {
    /// The provider's own id of a resource.
    CloudId
}
text_id! {
    /// Hex digest over template, inputs and offering: what a machine was made from. Never covers tokens, names or nonces.
    SpecHash
}

/// How often a stack's state has been written; rises by one with every write.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Serial(pub u64);

impl Serial {
    /// The serial of the next write.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The kinds of resources that runfleet makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A key that may log in to machines. Shared.
    SshKey,
    /// A private network with its subnets. Shared.
    Network,
    /// Rules for traffic to machines. Shared.
    Firewall,
    /// Machines that the cloud keeps on different hosts. Shared.
    PlacementGroup,
    /// A server, a droplet, an instance: has its own id, name and join token.
    Machine,
    /// An Auto Scaling group: its size is what is updated; its members are named by the cloud.
    Group,
    /// Tasks or Jobs started together under one nonce.
    Batch,
}

impl ResourceKind {
    /// Every kind, in the order in which kinds depend on each other.
    pub const ALL: [Self; 7] = [
        Self::SshKey,
        Self::Network,
        Self::Firewall,
        Self::PlacementGroup,
        Self::Machine,
        Self::Group,
        Self::Batch,
    ];

    /// The kind's word in an address.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SshKey => "ssh_key",
            Self::Network => "network",
            Self::Firewall => "firewall",
            Self::PlacementGroup => "placement_group",
            Self::Machine => "machine",
            Self::Group => "group",
            Self::Batch => "batch",
        }
    }

    /// Whether several pools use the same one.
    pub fn is_shared(self) -> bool {
        matches!(
            self,
            Self::SshKey | Self::Network | Self::Firewall | Self::PlacementGroup
        )
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A resource's place in the stack: `machine.linux/brave-otter`, or `firewall/default` for a shared one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// What it is.
    pub kind: ResourceKind,
    /// Its pool; none for a shared resource.
    pub pool: Option<PoolName>,
    /// Its name within kind and pool.
    pub name: String,
}

impl Address {
    /// The address of a pool's machine.
    pub fn machine(pool: &PoolName, runner: &RunnerName) -> Self {
        Self {
            kind: ResourceKind::Machine,
            pool: Some(pool.clone()),
            name: runner.to_string(),
        }
    }

    /// The address of a shared resource.
    pub fn shared(kind: ResourceKind, name: &str) -> Self {
        Self {
            kind,
            pool: None,
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.pool {
            Some(pool) => format!("{}.{}/{}", self.kind, pool, self.name),
            None => format!("{}/{}", self.kind, self.name),
        };
        f.pad(&text)
    }
}

/// Text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address; one looks like machine.linux/brave-otter or firewall/default")]
pub struct AddressError {
    /// What was given.
    pub text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = || AddressError {
            text: text.to_owned(),
        };
        let (head, name) = text.split_once('/').ok_or_else(fail)?;
        let (kind, pool) = match head.split_once('.') {
            Some((kind, pool)) => (kind, Some(PoolName::from(pool))),
            None => (head, None),
        };
        let kind = ResourceKind::ALL
            .into_iter()
            .find(|k| k.as_str() == kind)
            .ok_or_else(fail)?;
        if name.is_empty() || kind.is_shared() == pool.is_some() {
            return Err(fail());
        }
        Ok(Self {
            kind,
            pool,
            name: name.to_owned(),
        })
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "examples": ["machine.linux/brave-otter", "firewall/default"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["machine.linux/brave-otter", "firewall/default", "group.win/asg-1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_shared_kind_has_no_pool_and_a_machine_has_one() {
        assert!("firewall.linux/default".parse::<Address>().is_err());
        assert!("machine/brave-otter".parse::<Address>().is_err());
        assert!("machine.linux/".parse::<Address>().is_err());
    }
}
