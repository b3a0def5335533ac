//! The policy `step`: conditions on what machines tell of themselves, and what each adds or removes.

mod opposed;

pub(super) use opposed::{both_hold, never_holds};

use std::fmt;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::metrics::{Finite, SampleName};

/// Add or remove some machines while conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPolicy {
    /// In the order in which they are looked at.
    pub steps: Vec<Step>,
    /// After a step acted, none of the same direction acts for so long.
    pub cooldown: SignedDuration,
    /// After a step acted, none of the other direction acts for so long; not shorter than `cooldown`.
    pub hysteresis: SignedDuration,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, for a person: `mem_avail`.
    pub name: String,
    /// How its conditions are joined.
    pub matching: Matching,
    /// Its conditions; never empty.
    pub conditions: Vec<Condition>,
    /// What it does.
    pub change: Change,
    /// For how long its conditions must have held.
    pub hold: SignedDuration,
}

/// How conditions are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// Every one must hold.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// So many more machines.
    Add(u32),
    /// So many fewer.
    Remove(u32),
}

/// A number, compared with a threshold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// For a person; may be empty.
    pub name: String,
    /// The number.
    pub subject: Subject,
    /// The comparison.
    pub operator: Operator,
    /// With what.
    pub threshold: Finite,
}

/// Where a condition's number comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// From each machine: its samples reduced to one number, and those of all machines to one.
    Machines {
        /// Never empty.
        samples: Vec<SampleName>,
        /// From the left: `(a - b) - c`.
        reducer: Reducer,
        /// Over the machines.
        function: Function,
    },
    /// From a Prometheus server.
    Query(String),
}

/// How the samples of a machine become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reducer {
    /// Their sum.
    #[default]
    #[serde(rename = "+")]
    Add,
    /// The first less the others.
    #[serde(rename = "-")]
    Subtract,
    /// Their product.
    #[serde(rename = "*")]
    Multiply,
    /// The first by the others.
    #[serde(rename = "/")]
    Divide,
}

/// How the numbers of machines become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The one in the middle; of two, what lies between them.
    Median,
    /// The arithmetic mean.
    Mean,
    /// The number that this share of them does not exceed, from 0 to 1; linear between neighbours.
    Quantile(Finite),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Less or equal.
    #[serde(rename = "<=")]
    AtMost,
    /// Greater.
    #[serde(rename = ">")]
    Greater,
    /// Greater or equal.
    #[serde(rename = ">=")]
    AtLeast,
    /// Equal.
    #[serde(rename = "==")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    Unequal,
}

impl fmt::Display for Subject {
    /// Where the number comes from: `mean(node_load1)`, or the question itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(query) => f.pad(query),
            Self::Machines {
                samples,
                reducer,
                function,
            } => {
                let names: Vec<String> = samples.iter().map(ToString::to_string).collect();
                f.pad(&format!("{function}({})", names.join(&format!(" {reducer} "))))
            }
        }
    }
}

impl fmt::Display for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Min => f.pad("min"),
            Self::Max => f.pad("max"),
            Self::Median => f.pad("median"),
            Self::Mean => f.pad("mean"),
            Self::Quantile(share) => f.pad(&format!("quantile {share}")),
        }
    }
}

impl Operator {
    /// Whether a number compares so with a threshold.
    pub fn holds(self, number: Finite, threshold: Finite) -> bool {
        let order = number.cmp(&threshold);
        match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Equal => "==",
            Self::Unequal => "!=",
        })
    }
}
