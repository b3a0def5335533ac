//! Which pools' agents a job could be handed to: those whose capabilities meet all its demands.
//!
//! A pool says by `capabilities` and `tags` what its agents will say once they run. What every agent of Linux says of itself needs no
//! word (Microsoft's documentation, "Agent capabilities"). Names and values are compared without regard to case.

use std::collections::BTreeMap;

use super::wire::{JobRequest, Needs, Test};
use crate::model::{
    demand::{AgentPool, PoolSelector},
    ids::PoolName,
};

/// What every agent says of itself, and what the agents of our machines and containers say; none: it differs from one to the other.
const OWN: [(&str, Option<&str>); 7] = [
    ("Agent.Name", None),
    ("Agent.ComputerName", None),
    ("Agent.HomeDirectory", None),
    ("Agent.OS", Some("Linux")),
    ("Agent.OSArchitecture", None),
    ("Agent.OSVersion", None),
    ("Agent.Version", None),
];

/// What a pool's agents offer.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    pub(super) pool: &'a PoolName,
    /// By name in lower case.
    capabilities: BTreeMap<String, Option<&'a str>>,
}

impl<'a> Offer<'a> {
    pub(super) fn of(selector: &'a PoolSelector, agents: &'a AgentPool) -> Self {
        let own = OWN.iter().map(|(name, value)| (name.to_lowercase(), *value));
        let written = agents.capabilities.iter();
        let written = written.map(|(name, value)| (name.to_lowercase(), Some(value.as_str())));
        Self {
            pool: &selector.pool,
            capabilities: own.chain(written).collect(),
        }
    }

    /// Whether its agents could be handed this job.
    pub(super) fn takes(&self, job: &JobRequest) -> bool {
        let mut demands = job.demands().iter().filter(|needs| !needs.is_of_version());
        demands.all(|needs| self.meets(needs))
    }

    fn meets(&self, needs: &Needs) -> bool {
        let Some(value) = self.capabilities.get(&needs.name.to_lowercase()) else {
            return false;
        };
        match (&needs.test, value) {
            (Test::Exists, _) => true,
            (Test::Equals(wanted), Some(own)) => own.to_lowercase() == wanted.to_lowercase(),
            (Test::AtLeast(wanted), Some(own)) => version(own) >= version(wanted),
            (Test::Equals(_) | Test::AtLeast(_), None) => false,
        }
    }
}

/// `2.182.1` by its numbers; what is no number ends it.
fn version(text: &str) -> Vec<u64> {
    let parts = text.trim().trim_start_matches(['v', 'V']).split('.');
    let mut numbers: Vec<u64> = parts.map_while(|part| part.parse().ok()).collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn takes(capabilities: &[(&str, &str)], demands: &[&str]) -> bool {
        let capabilities = capabilities.iter();
        let agents = AgentPool {
            pool: "Default".to_owned(),
            capabilities: capabilities
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let selector = PoolSelector {
            agents: Some(Box::new(agents.clone())),
            pool: "linux".into(),
            tags: Vec::new(),
            run_untagged: false,
            protected_refs: false,
            metering: None,
        };
        let job = serde_json::from_value(json!({"requestId": 1, "demands": demands})).unwrap();
        Offer::of(&selector, &agents).takes(&job)
    }

    #[test]
    fn a_job_without_demands_goes_anywhere() {
        assert!(takes(&[], &[]));
        assert!(
            takes(&[], &["Agent.Version -gtVersion 2.182.1"]),
            "agents update themselves"
        );
    }

    #[test]
    fn a_demand_is_met_by_a_capability_of_that_name_whatever_its_case() {
        let docker = [("Docker", "/usr/bin/docker")];
        assert!(takes(&docker, &["docker"]));
        assert!(takes(&docker, &["DOCKER -equals /USR/bin/docker"]));
        assert!(!takes(&docker, &["docker -equals podman"]));
        assert!(!takes(&docker, &["docker", "java"]));
        assert!(!takes(&[], &["docker"]));
    }

    #[test]
    fn what_every_agent_says_of_itself_needs_no_word() {
        assert!(takes(&[], &["Agent.OS -equals linux", "agent.osarchitecture"]));
        assert!(!takes(&[], &["Agent.OS -equals Windows_NT"]));
        assert!(takes(
            &[("Agent.OS", "Windows_NT")],
            &["Agent.OS -equals Windows_NT"]
        ));
        assert!(!takes(&[("agent.os", "Windows_NT")], &["Agent.OS -equals Linux"]));
        assert!(
            !takes(&[], &["Agent.Name -equals build-7"]),
            "no new agent has that name"
        );
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let java = [("java", "11.0.10")];
        assert!(takes(&java, &["java -gtVersion 11.0.9"]));
        assert!(takes(&java, &["java -gtVersion 11.0.10.0"]));
        assert!(!takes(&java, &["java -gtVersion 11.0.11"]));
        assert!(!takes(&[("java", "")], &["java -gtVersion 8"]));
    }
}
