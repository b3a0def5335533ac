//! Numbers that machines tell of themselves, and what is asked for them.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{Lineage, RegistrationId};

/// A number that is one: neither infinite nor "not a number".
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Finite(f64);

impl Finite {
    /// None where it is infinite or not a number.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Finite {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Finite {}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Finite {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Display for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// A sample by its name and some of its labels: `node_load1`, `disk_free{mount="/"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SampleName {
    /// Its name.
    pub name: String,
    /// Labels that it must have; others do not matter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl fmt::Display for SampleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        if labels.is_empty() {
            f.pad(&self.name)
        } else {
            f.pad(&format!("{}{{{}}}", self.name, labels.join(",")))
        }
    }
}

/// Which of a machine's addresses is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressKind {
    /// The first private IPv4 address.
    Private,
    /// The first public IPv4 address.
    #[default]
    Public,
    /// The first global IPv6 address.
    Ipv6,
}

impl AddressKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Ipv6 => "ipv6",
        }
    }

    /// The address of this kind among those of a machine.
    pub fn of(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        addresses.iter().copied().find(|address| match (self, address) {
            (Self::Private, IpAddr::V4(v4)) => v4.is_private(),
            (Self::Public, IpAddr::V4(v4)) => !v4.is_private() && !v4.is_link_local(),
            (Self::Ipv6, IpAddr::V6(v6)) => !v6.is_loopback() && !v6.is_unicast_link_local(),
            _ => false,
        })
    }
}

/// What must answer on a machine before it counts as ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// TCP ports that must accept a connection.
    pub tcp: Vec<u16>,
    /// An HTTP resource that must answer with success.
    pub http: Option<HttpCheck>,
    /// How long one try may take.
    pub timeout: SignedDuration,
}

/// An HTTP resource of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Its port.
    pub port: u16,
    /// Its path, with a slash at its beginning.
    pub path: String,
    /// The status that it answers with; none: any of success (200 to 299).
    pub status: Option<u16>,
}

/// What a source of metrics needs to know of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metering {
    /// Samples of each machine, without repetition.
    pub samples: Vec<SampleName>,
    /// Questions in PromQL about the pool as a whole, without repetition.
    pub queries: Vec<String>,
    /// What must answer on a machine before it counts as ready; none: its metrics.
    pub health: Option<HealthCheck>,
    /// The machines, as the clouds tell them.
    pub machines: Vec<MachineSeen>,
    /// The clock of the clouds that have them, or may be given some, the latest of several; none where none answered.
    #[serde(default)]
    pub now: Option<Timestamp>,
}

/// A machine of a pool, as its cloud tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSeen {
    /// The registration that its label names.
    pub registration: RegistrationId,
    /// Its name in the cloud.
    pub name: String,
    /// Whose it is; none: a group's member, which carries no claim.
    pub lineage: Option<Lineage>,
    /// Whether its cloud says that it is on. One that is not is not asked.
    pub running: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Since when it is, by the cloud's clock.
    pub created_at: Timestamp,
}

/// What was measured of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMetrics {
    /// By the machine's registration.
    pub machines: BTreeMap<RegistrationId, MachineMetrics>,
    /// By the question's text.
    pub queries: BTreeMap<String, Measured>,
}

/// What one machine told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineMetrics {
    /// The samples that were asked for, by [`SampleName`]'s text; those that it does not have are not in it.
    Read(BTreeMap<String, Finite>),
    /// It did not answer, or not with metrics.
    Unreachable {
        /// Why.
        why: String,
    },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// One number.
    Value(Finite),
    /// None: no series, several, not a number, or no answer.
    Missing {
        /// Why.
        why: String,
    },
}
