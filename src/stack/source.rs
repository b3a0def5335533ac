//! Sources of demand that are told how to ask: metrics of machines, a command, a URL.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::model::metrics::AddressKind;

/// How each machine's exporter is asked: do-agent, `node_exporter`, or anything that speaks Prometheus' text or OpenMetrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrape {
    /// Its port.
    pub port: u16,
    /// Its path.
    pub path: String,
    /// Which of a machine's addresses.
    pub address: AddressKind,
    /// How long one machine may take.
    pub timeout: SignedDuration,
    /// An HTTP proxy to go through: `http://127.0.0.1:3128`.
    pub proxy: Option<String>,
    /// A sample whose value is the number of jobs that a machine runs; none: they run none that anybody knows of.
    pub jobs: Option<String>,
}

/// How a CI of one's own is asked, by commands or at URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What is wanted and which runners there are, as JSON.
    pub demand: Call,
    /// Keeps a runner from taking new jobs; none: a machine goes once it is off or has ended.
    pub cordon: Option<Call>,
    /// Lets it take jobs again.
    pub uncordon: Option<Call>,
    /// Makes a registration; none: runners are known by their machines' names.
    pub register: Option<Call>,
    /// Removes a registration; none: there is none to remove.
    pub forget: Option<Call>,
    /// How long one call may take.
    pub timeout: SignedDuration,
}

impl Program {
    /// What is called, by its word: `cordon`.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Call)> {
        let optional = [
            ("register", &self.register),
            ("cordon", &self.cordon),
            ("uncordon", &self.uncordon),
            ("forget", &self.forget),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(word, call)| call.as_ref().map(|call| (word, call)));
        std::iter::once(("demand", &self.demand)).chain(optional)
    }
}

/// One thing to call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A program with its arguments.
    Command(Vec<String>),
    /// A URL.
    Url(String),
}

impl Default for Call {
    fn default() -> Self {
        Self::Command(Vec::new())
    }
}
