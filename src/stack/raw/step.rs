//! The policy `step`, and what must answer before a machine counts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::step::{Matching, Operator, Reducer},
    DurationText,
};
use crate::model::metrics::AddressKind;

/// A step of the policy `step`. Steps are looked at in this order; one that adds goes before one that removes, and one acts in a tick.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Step")]
pub(in crate::stack) struct RawStep {
    /// Its name, for a person.
    #[schemars(required, extend("examples" = ["mem_avail"]))]
    pub(in crate::stack) name: Option<String>,
    /// How its conditions are joined.
    #[serde(default, rename = "match")]
    pub(in crate::stack) matching: Matching,
    /// How many machines it adds. It adds or removes.
    #[schemars(range(min = 1))]
    pub(in crate::stack) add: Option<u32>,
    /// How many machines it removes.
    #[schemars(range(min = 1))]
    pub(in crate::stack) remove: Option<u32>,
    /// For how long its conditions must have held. Without: one look is enough.
    #[serde(rename = "for")]
    pub(in crate::stack) hold: Option<DurationText>,
    /// Its conditions.
    #[schemars(required, length(min = 1))]
    pub(in crate::stack) conditions: Option<Vec<RawCondition>>,
}

/// A number, compared with a threshold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Condition")]
pub(in crate::stack) struct RawCondition {
    /// Its name, for a person.
    #[serde(default)]
    pub(in crate::stack) name: String,
    /// Samples of each machine, by name, or by name and labels.
    #[serde(default)]
    #[schemars(extend("examples" = [["node_load1"], [{"name": "node_filesystem_avail_bytes", "labels": {"mountpoint": "/"}}]]))]
    pub(in crate::stack) samples: Vec<RawSample>,
    /// How several samples of a machine become one number, from the left.
    pub(in crate::stack) reducer: Option<Reducer>,
    /// How the numbers of all machines become one: `min`, `max`, `median`, `mean`, or `{ quantile = 0.9 }`. Without: `mean`.
    pub(in crate::stack) function: Option<RawFunction>,
    /// In place of `samples`: a question in PromQL to the server at the source's `url`.
    #[schemars(extend("examples" = ["avg(node_load1{job=\"web\"})"]))]
    pub(in crate::stack) query: Option<String>,
    /// The comparison.
    #[schemars(required)]
    pub(in crate::stack) operator: Option<Operator>,
    /// With what.
    #[schemars(required, extend("examples" = [2.0]))]
    pub(in crate::stack) threshold: Option<f64>,
}

/// A sample by its name, or by its name and labels.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Sample", extend("x-hint" = "write \"node_load1\" or { name = \"disk_free\", labels = { mount = \"/\" } }"))]
pub(in crate::stack) enum RawSample {
    /// By its name.
    Name(String),
    /// By its name and labels.
    Labelled(RawLabelled),
}

/// A sample by its name and labels.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LabelledSample")]
pub(in crate::stack) struct RawLabelled {
    /// Its name.
    #[schemars(required)]
    pub(in crate::stack) name: Option<String>,
    /// Labels that it must have.
    #[serde(default)]
    pub(in crate::stack) labels: BTreeMap<String, String>,
}

/// How numbers become one.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Function", extend("x-hint" = "write \"mean\" or { quantile = 0.9 }"))]
pub(in crate::stack) enum RawFunction {
    /// By its name.
    Name(FunctionName),
    /// A quantile.
    Quantile(RawQuantile),
}

/// A function by its name.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::stack) enum FunctionName {
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The one in the middle.
    Median,
    /// The arithmetic mean.
    Mean,
}

/// A quantile.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Quantile")]
pub(in crate::stack) struct RawQuantile {
    /// The share of machines whose number it does not exceed.
    #[schemars(required, range(min = 0.0, max = 1.0))]
    pub(in crate::stack) quantile: Option<f64>,
}

/// What must answer on a machine before it counts as ready.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Health")]
pub(in crate::stack) struct RawHealth {
    /// TCP ports that must accept a connection.
    #[serde(default)]
    #[schemars(extend("examples" = [[9100, 80]]))]
    pub(in crate::stack) tcp: Vec<u16>,
    /// An HTTP resource that must answer with success.
    pub(in crate::stack) http: Option<RawHttpCheck>,
    /// How long one try may take. A machine is tried once in each tick, until `ready_timeout`.
    #[serde(default = "five_seconds")]
    pub(in crate::stack) timeout: DurationText,
}

/// An HTTP resource of a machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpCheck")]
pub(in crate::stack) struct RawHttpCheck {
    /// Its port.
    #[serde(default = "eighty")]
    #[schemars(range(min = 1))]
    pub(in crate::stack) port: u16,
    /// Its path.
    #[serde(default = "root")]
    #[schemars(extend("examples" = ["/healthz"]))]
    pub(in crate::stack) path: String,
    /// The status that it answers with. Without: any of success.
    #[schemars(range(min = 100, max = 599))]
    pub(in crate::stack) status: Option<u16>,
}

/// How each machine's exporter is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scrape", extend("x-hint" = "write scrape = { port = 9100, path = \"/metrics\" }"))]
pub(in crate::stack) struct RawScrape {
    /// Its port. do-agent and `node_exporter` take 9100.
    #[serde(default = "exporter")]
    #[schemars(range(min = 1))]
    pub(in crate::stack) port: u16,
    /// Its path. do-agent answers at `/`.
    #[serde(default = "metrics")]
    pub(in crate::stack) path: String,
    /// Which address of a machine is asked.
    #[serde(default)]
    pub(in crate::stack) address: AddressKind,
    /// How long one machine may take.
    #[serde(default = "five_seconds")]
    pub(in crate::stack) timeout: DurationText,
    /// An HTTP proxy to go through.
    #[schemars(extend("examples" = ["http://127.0.0.1:3128"]))]
    pub(in crate::stack) proxy: Option<String>,
    /// A sample whose value is the number of jobs that a machine runs, the sum over its series. It must be there while there are none, too: a machine that does not tell it is kept. Without: they run none that anybody knows of.
    #[schemars(extend("examples" = ["jobs_running"]))]
    pub(in crate::stack) jobs: Option<String>,
}

fn five_seconds() -> DurationText {
    DurationText("5s".to_owned())
}

fn eighty() -> u16 {
    80
}

fn exporter() -> u16 {
    9100
}

fn root() -> String {
    "/".to_owned()
}

fn metrics() -> String {
    "/metrics".to_owned()
}
