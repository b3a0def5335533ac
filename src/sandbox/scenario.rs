//! A scenario: what a fresh world starts with. A world that was loaded from its file ignores it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::settings::parse_length;

/// The contents of a scenario file, TOML or JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// GitLab projects besides `acme/app`, by full path, in the order of their ids.
    pub projects: Vec<String>,
    /// The protected branches of a project, by its full path; without, `main`.
    pub protected_branches: BTreeMap<String, Vec<String>>,
    /// Jobs, each now or at an offset from the world's start.
    pub jobs: Vec<JobSpec>,
    /// Snapshots in the Hetzner project.
    pub images: Vec<SnapshotSpec>,
    /// Snapshots in the DigitalOcean project.
    pub droplet_snapshots: Vec<DropletSnapshotSpec>,
    /// GitLab access tokens besides the sandbox's own.
    pub tokens: Vec<TokenSpec>,
    /// Server types and sizes that are not to be had in a location or region.
    pub unavailable: Vec<UnavailableSpec>,
    /// The Drone of the world.
    pub drone: DroneSpec,
    /// The CircleCI of the world.
    pub circleci: CircleSpec,
    /// The Azure DevOps of the world.
    pub azure: AzureSpec,
    /// The Kubernetes of the world.
    pub kubernetes: KubernetesSpec,
}

/// What a cluster starts with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesSpec {
    /// Its nodes; without, three with 32 processors and 128 GiB each.
    pub nodes: Vec<NodeSpec>,
    /// Namespaces besides `default` and `kube-system`. That of an object comes to be with it.
    pub namespaces: Vec<String>,
    /// Objects that are there, as a manifest has them.
    pub objects: Vec<serde_json::Value>,
    /// Images that cannot be pulled.
    pub bad_images: Vec<String>,
}

impl KubernetesSpec {
    /// The nodes, or those that there are without.
    pub(crate) fn nodes(&self) -> Vec<NodeSpec> {
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        let named = |number| NodeSpec {
            name: format!("node-{number}"),
            cpu: processors(),
            memory: gibibytes(),
            pods: kubelets(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
        };
        (1..=3).map(named).collect()
    }
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Processors for pods, as a Kubernetes quantity; without, 32.
    #[serde(default = "processors")]
    pub cpu: String,
    /// Memory for pods, as a Kubernetes quantity; without, 128Gi.
    #[serde(default = "gibibytes")]
    pub memory: String,
    /// Pods that it takes; without, 110.
    #[serde(default = "kubelets")]
    pub pods: u32,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What keeps pods off that do not tolerate it.
    #[serde(default)]
    pub taints: Vec<TaintSpec>,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaintSpec {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `NoExecute` or `PreferNoSchedule`.
    #[serde(default = "no_schedule")]
    pub effect: String,
}

fn processors() -> String {
    "32".to_owned()
}

fn gibibytes() -> String {
    "128Gi".to_owned()
}

fn kubelets() -> u32 {
    110
}

fn no_schedule() -> String {
    "NoSchedule".to_owned()
}

/// What a Drone starts with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DroneSpec {
    /// What runners authenticate with; without, it follows from the world's token.
    pub rpc_secret: Option<String>,
}

/// What a CircleCI starts with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircleSpec {
    /// Resource classes. One that is not declared comes to be when it is first used, with the world's token.
    pub resource_classes: Vec<ClassSpec>,
}

/// A resource class of CircleCI's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// `namespace/name`.
    pub name: String,
    /// What its runners authenticate with; without, the world's token.
    #[serde(default)]
    pub token: Option<String>,
}

/// What an organisation of Azure DevOps starts with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureSpec {
    /// The organisation's name; without, `acme`.
    pub organization: String,
    /// Agent pools besides `Default`. One that is not declared comes to be when a job is first queued for it.
    pub agent_pools: Vec<AgentPoolSpec>,
    /// Personal access tokens besides the sandbox's own.
    pub tokens: Vec<PatSpec>,
}

impl Default for AzureSpec {
    fn default() -> Self {
        Self {
            organization: "acme".to_owned(),
            agent_pools: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

/// An agent pool of Azure DevOps'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPoolSpec {
    /// Its name.
    pub name: String,
    /// Agents that are registered there and offline, for instance one that jobs are matched against while none runs.
    #[serde(default)]
    pub agents: Vec<AgentSpec>,
}

/// An agent that is registered and offline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Its name.
    pub name: String,
    /// What its user said that it is capable of.
    #[serde(default)]
    pub capabilities: BTreeMap<String, String>,
}

/// A personal access token of Azure DevOps'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatSpec {
    /// The token's text.
    pub token: String,
    /// `vso.agentpools` to read, `vso.agentpools_manage` (without) to manage agents too.
    #[serde(default = "agentpools_manage")]
    pub scopes: Vec<String>,
}

impl PatSpec {
    /// Whether its bearer may register, disable and remove agents.
    pub(crate) fn manages(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "vso.agentpools_manage")
    }
}

fn agentpools_manage() -> Vec<String> {
    vec!["vso.agentpools_manage".to_owned()]
}

/// A CI system of the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ci {
    /// GitLab.
    #[default]
    Gitlab,
    /// Drone.
    Drone,
    /// CircleCI.
    Circleci,
    /// Azure DevOps.
    Azure,
}

/// Jobs alike; also the body of `POST /control/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The CI system; without, GitLab.
    #[serde(default)]
    pub ci: Ci,
    /// GitLab: full path or id of the project; without, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// GitLab: the job's tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// How long each runs.
    #[serde(default = "minute", with = "length")]
    pub duration: SignedDuration,
    /// The job's name; without, `job`; the stage's, without, `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long after the world's start, or after now, it is queued.
    #[serde(default, with = "length")]
    pub at: SignedDuration,
    /// GitLab: the branch or tag; without, `main`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// GitLab: whether that is a tag.
    #[serde(default, rename = "tag", skip_serializing_if = "std::ops::Not::not")]
    pub of_tag: bool,
    /// GitLab: whether its pipeline is another's child, as by `trigger: include:`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub child: bool,
    /// Drone: the repository, `owner/name`; without, `acme/app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Drone: a name for the build that the stage is of, so that others can be of the same; without, a stage that depends
    /// on others is of the repository's newest build, any other of one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Drone: the pipeline's type; without, `docker`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Drone: the operating system; without, `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Drone: the architecture; without, `amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Drone: the architecture's variant, as `v7`; without, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Drone: the kernel's version, as `1809`; without, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Drone: labels that a runner must have, and no others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Drone: so many stages of this name at a time; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: u32,
    /// Drone: so many stages of the repository at a time; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub throttle: u32,
    /// Drone: names of stages of the same build that come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// CircleCI: the resource class, `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_class: Option<String>,
    /// Azure DevOps: the agent pool's name; without, `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Azure DevOps: what an agent must be capable of, as `NAME`, `NAME -equals VALUE` or `NAME -gtVersion VERSION`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demands: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl JobSpec {
    /// Whether the jobs can be queued; what is wrong with them otherwise.
    pub fn check(&self) -> Result<(), String> {
        let class = self.resource_class.as_deref();
        let named = class.and_then(|class| class.split_once('/'));
        if self.ci == Ci::Circleci
            && named.is_none_or(|(namespace, name)| namespace.is_empty() || name.is_empty())
        {
            return Err("a job of CircleCI needs its resource_class, namespace/name".to_owned());
        }
        Ok(())
    }
}

/// A snapshot that servers can be made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// Its description; snapshots have no name.
    pub description: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `x86` or `arm`.
    #[serde(default = "x86")]
    pub architecture: String,
    /// How long before the world's start it was made.
    #[serde(default, with = "length")]
    pub age: SignedDuration,
}

/// A snapshot of a droplet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropletSnapshotSpec {
    /// Its name.
    pub name: String,
    /// The tags that it bears.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The slugs of the regions that it is in; without, all.
    #[serde(default)]
    pub regions: Vec<String>,
    /// How long before the world's start it was made.
    #[serde(default, with = "length")]
    pub age: SignedDuration,
}

/// A GitLab access token with fewer rights than the sandbox's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The token's text.
    pub token: String,
    /// Whose it is.
    pub username: String,
    /// Whether the user administers the instance.
    #[serde(default)]
    pub admin: bool,
    /// `api`, `read_api`, `manage_runner`, `create_runner`.
    #[serde(default = "read_api")]
    pub scopes: Vec<String>,
    /// Full paths of the projects that the user is a member of; without, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    /// The user's role in groups: 30 is a Developer, 40 a Maintainer, 50 an Owner.
    #[serde(default = "owner")]
    pub access_level: u32,
}

fn owner() -> u32 {
    50
}

/// A server type of Hetzner's, or a size of DigitalOcean's, that is not to be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnavailableSpec {
    /// Its name.
    #[serde(rename = "type")]
    pub server_type: String,
    /// The location's or the region's name; without, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// Why a scenario could not be read.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The TOML does not parse or does not fit.
    #[error("the scenario does not fit: {0}")]
    Toml(#[from] toml::de::Error),
    /// The JSON does not parse or does not fit.
    #[error("the scenario does not fit: {0}")]
    Json(#[from] serde_json::Error),
    /// Jobs that cannot be queued.
    #[error("jobs number {number} of the scenario: {why}")]
    Jobs {
        /// Which of the list, from 1.
        number: usize,
        /// What is wrong with them.
        why: String,
    },
}

impl Scenario {
    /// Reads TOML, or JSON where the text begins with a brace.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text)?
        } else {
            toml::from_str(text)?
        };
        for (at, jobs) in scenario.jobs.iter().enumerate() {
            let number = at + 1;
            jobs.check().map_err(|why| ScenarioError::Jobs { number, why })?;
        }
        Ok(scenario)
    }
}

fn x86() -> String {
    "x86".to_owned()
}

fn read_api() -> Vec<String> {
    vec!["read_api".to_owned()]
}

fn one() -> u32 {
    1
}

fn minute() -> SignedDuration {
    SignedDuration::from_mins(1)
}

/// A length as a string (`60s`) or as a number of seconds.
pub(crate) mod length {
    use super::{Deserialize, Deserializer, Serializer, SignedDuration, parse_length};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(length: &SignedDuration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(length)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SignedDuration, D::Error> {
        let text = match Written::deserialize(from)? {
            Written::Seconds(seconds) => seconds.to_string(),
            Written::Text(text) => text,
        };
        parse_length(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no length of time such as 60s")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_from_toml_and_from_json() {
        let toml = Scenario::parse("projects = [\"acme/lib\"]\n[[jobs]]\ntags = [\"linux\"]\ncount = 5\nduration = \"90s\"\nat = \"1m\"\n").unwrap();
        let json = Scenario::parse(
            r#"{"projects":["acme/lib"],"jobs":[{"tags":["linux"],"count":5,"duration":90,"at":"60s"}]}"#,
        )
        .unwrap();
        assert_eq!(toml, json);
        assert_eq!(toml.jobs[0].duration, SignedDuration::from_secs(90));
        assert_eq!(toml.jobs[0].ci, Ci::Gitlab);
    }

    #[test]
    fn jobs_of_each_ci_say_what_they_need() {
        let text = "[drone]\nrpc_secret = \"s\"\n[[circleci.resource_classes]]\nname = \"acme/linux\"\ntoken = \"t\"\n\
            [[jobs]]\nci = \"drone\"\narch = \"arm64\"\nlabels = { pool = \"a\" }\n\
            [[jobs]]\nci = \"circleci\"\nresource_class = \"acme/linux\"\n";
        let scenario = Scenario::parse(text).unwrap();
        assert_eq!(scenario.drone.rpc_secret.as_deref(), Some("s"));
        assert_eq!(scenario.circleci.resource_classes[0].token.as_deref(), Some("t"));
        assert_eq!(
            (scenario.jobs[0].ci, scenario.jobs[1].ci),
            (Ci::Drone, Ci::Circleci)
        );
        let error = Scenario::parse("[[jobs]]\n[[jobs]]\nci = \"circleci\"\n").unwrap_err();
        assert!(error.to_string().starts_with("jobs number 2 "), "{error}");
        assert!(Scenario::parse("[[jobs]]\nci = \"jenkins\"\n").is_err());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(Scenario::parse("[[jobs]]\ntag = [\"linux\"]\n").is_err());
        assert!(Scenario::parse("{\"job\":[]}").is_err());
    }
}
