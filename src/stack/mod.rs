//! One environment as a person wrote it: `stacks/NAME.toml`, validated.
//!
//! This file holds the validated values. Reading text into them, with every problem reported at its place, is
//! [`parse()`]; nothing here touches the file system. The way of a text:
//!
//! 1. `tree`: TOML to values with their places; every syntax error.
//! 2. `structure`: the tree against [`schema()`], which is generated from `raw`; what does not fit is reported and taken out.
//! 3. `parse`: what is left, read into `raw` and checked for its meaning: references, names, addresses, bounds.
//!
//! A text with errors of syntax gets no further than 1; all other problems of a text are reported together.

pub mod from;
pub mod hooks;
mod init;
mod parse;
mod parse_accounts;
mod parse_aws;
mod parse_azure;
mod parse_digitalocean;
mod parse_ecs;
mod parse_group;
mod parse_hooks;
mod parse_kubernetes;
mod parse_metrics;
mod parse_money;
mod parse_moved;
mod parse_network;
mod parse_policy;
mod parse_pool;
mod parse_rules;
mod parse_source;
mod parse_state;
mod parse_step;
mod parse_tasks;
mod parse_values;
mod parse_watch;
mod problems;
pub mod quantity;
mod raw;
mod reference;
mod schema;
mod shape;
pub mod source;
pub mod step;
mod structure;
mod tree;
mod watching;

#[cfg(test)]
mod tests;

pub use crate::model::money::Currencies;
pub use init::{Scaffold, scaffold};
pub use parse::parse;
pub use problems::{StackProblem, StackProblems};
pub use reference::reference;
pub use schema::schema;
pub use watching::Watching;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    demand::{AgentPool, PoolSelector},
    ids::{CiName, PoolName, ProviderName, ResourceKind, StackName},
    metrics::{HealthCheck, Metering},
    money::{Currency, Money, Period},
    offering::Market,
    resource::{Ec2Launch, FirewallRule, ImageRef, Subnet, TaskSpec},
};

/// The longest name that a runner may be given (`brave-otter-7`), so that a stack's and a pool's name can be checked
/// before any runner has one: two words of at most 8 letters, a number of at most 8 digits, and dashes.
pub const RUNNER_NAME_MAX: usize = 26;

/// The longest name of a machine (a host name's label), and the longest value of a label.
pub const MACHINE_NAME_MAX: usize = 63;

/// Where a secret is found. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Secret", extend("x-secret" = true))]
pub enum SecretRef {
    /// In this environment variable.
    Env(String),
    /// In this file, relative to the stack file's folder; a trailing newline is not part of it.
    File(PathBuf),
    /// What this program prints; a trailing newline is not part of it.
    Command(Vec<String>),
    /// In this credential of the systemd unit that runs us: `$CREDENTIALS_DIRECTORY/NAME`.
    Credential(String),
}

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateBackend {
    /// In files beside the stack file.
    File,
    /// In an object store.
    Object(ObjectBackend),
    /// Behind an HTTP address, as Terraform's HTTP backend asks.
    Http(Box<HttpBackend>),
}

/// S3, or what is compatible with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectBackend {
    /// The bucket.
    pub bucket: String,
    /// What its objects' names are put behind, without slashes at the ends; may be empty.
    pub prefix: String,
    /// Its region; none: what the environment says.
    pub region: Option<String>,
    /// Where it is, other than Amazon's.
    pub endpoint: Option<String>,
    /// The two halves of its key; none: as Amazon's own tools are let in.
    pub keys: Option<(SecretRef, SecretRef)>,
    /// A file of certificates to trust besides the system's, relative to the stack file's folder.
    pub ca_file: Option<PathBuf>,
}

/// What the stack file says of an HTTP state; the environment fills the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpBackend {
    /// Where it is.
    pub address: Option<String>,
    /// The method of a write.
    pub update_method: Option<String>,
    /// Where the lock is.
    pub lock_address: Option<String>,
    /// The method that locks.
    pub lock_method: Option<String>,
    /// Where the lock is given back.
    pub unlock_address: Option<String>,
    /// The method that unlocks.
    pub unlock_method: Option<String>,
    /// Who asks.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretRef>,
    /// How often a call is tried again.
    pub retry_max: Option<u32>,
    /// The shortest wait between two tries.
    pub retry_wait_min: Option<SignedDuration>,
    /// The longest wait between two tries.
    pub retry_wait_max: Option<SignedDuration>,
    /// A file of certificates to trust besides the system's, relative to the stack file's folder.
    pub ca_file: Option<PathBuf>,
}

/// Where an HTTP service is, other than where it usually is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// The vendor's public address.
    Default,
    /// This base URL, version prefix included where the vendor's has one.
    Url(String),
    /// The sandbox that runs in this process.
    Sandbox,
}

/// The provider kinds of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Droplets of DigitalOcean.
    Digitalocean,
    /// Hetzner Cloud.
    Hetzner,
    /// Instances of Amazon EC2, each made and removed by us.
    Ec2,
    /// Auto Scaling groups of Amazon EC2, made by somebody else: their size is ours.
    Asg,
    /// Tasks of Amazon ECS on Fargate: containers that run once.
    Ecs,
    /// Jobs of a Kubernetes cluster.
    Kubernetes,
}

impl ProviderKind {
    /// Its word in the stack file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Digitalocean => "digitalocean",
            Self::Hetzner => "hetzner",
            Self::Ec2 => "ec2",
            Self::Asg => "asg",
            Self::Ecs => "ecs",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Whose it is, for a person.
    pub fn vendor(self) -> &'static str {
        match self {
            Self::Digitalocean => "DigitalOcean",
            Self::Hetzner => "Hetzner",
            Self::Ec2 | Self::Asg | Self::Ecs => "Amazon",
            Self::Kubernetes => "Kubernetes",
        }
    }

    /// Whether it is Amazon's: it lets us in by its own chain of credentials, not by a token.
    pub fn is_aws(self) -> bool {
        matches!(self, Self::Ec2 | Self::Asg | Self::Ecs)
    }

    /// Whether what it makes are containers that run once, in batches, and not machines.
    pub fn is_tasks(self) -> bool {
        matches!(self, Self::Ecs | Self::Kubernetes)
    }
}

/// How Amazon lets us in; what is not said here its own tools' environment and files say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsAccess {
    /// `eu-central-1`
    pub region: Option<String>,
    /// A profile of `~/.aws/config`, one with SSO too.
    pub profile: Option<String>,
    /// A role to take on, from what lets us in first.
    pub role_arn: Option<String>,
    /// The two halves of a key.
    pub keys: Option<(SecretRef, SecretRef)>,
    /// The VPC in which security groups are made for the stack's firewalls; none: the default one.
    pub vpc: Option<String>,
}

/// One cloud account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderConfig {
    /// Its key in the stack file.
    pub name: ProviderName,
    /// What it is.
    pub kind: ProviderKind,
    /// How it lets us in; none only for the sandbox.
    pub token: Option<SecretRef>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// A file of certificates to trust besides the system's, relative to the stack file's folder.
    pub ca_file: Option<PathBuf>,
    /// How many calls at once.
    pub concurrency: usize,
    /// How many requests an hour its account is allowed; none: what the vendor allows everybody.
    pub requests_per_hour: Option<u32>,
    /// How Amazon lets us in; of use only where [`ProviderKind::is_aws`].
    pub aws: AwsAccess,
    /// Where its tasks run; only of kind `ecs`.
    pub ecs: Option<EcsHome>,
    /// Where its Jobs run; only of kind `kubernetes`.
    pub kubernetes: Option<KubernetesHome>,
}

/// Where tasks of ECS run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsHome {
    /// The cluster's name.
    pub cluster: String,
    /// Whether the cluster and the log group are made where they are missing; they stay when the stack goes.
    pub create: bool,
    /// The log group of containers whose template names no log driver; none: it is not looked at.
    pub log_group: Option<String>,
}

/// Where Jobs of Kubernetes run, and how the cluster lets us in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesHome {
    /// The namespace.
    pub namespace: String,
    /// A kubeconfig, relative to the stack file's folder; none: `KUBECONFIG`, else `~/.kube/config`, else the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; none: its current one.
    pub context: Option<String>,
    /// Whether to take the pod's own service account and nothing else.
    pub in_cluster: bool,
}

/// The CI kinds of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CiKind {
    /// gitlab.com or self-managed GitLab.
    Gitlab,
    /// A Drone server, Enterprise edition.
    Drone,
    /// CircleCI's self-hosted runners.
    Circleci,
    /// No CI: what machines tell of themselves, read from each of them or from a Prometheus server.
    Prometheus,
    /// Any CI, told by a command.
    Exec,
    /// Any CI, told by URLs.
    Http,
    /// Azure DevOps: agent pools.
    #[serde(rename = "azure-devops")]
    AzureDevops,
}

impl CiKind {
    /// Its word in the stack file and in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gitlab => "gitlab",
            Self::Drone => "drone",
            Self::Circleci => "circleci",
            Self::Prometheus => "prometheus",
            Self::Exec => "exec",
            Self::Http => "http",
            Self::AzureDevops => "azure-devops",
        }
    }

    /// Whether it is told the machines by the clouds, and asks them: it is read after the clouds are listed.
    pub fn asks_machines(self) -> bool {
        self == Self::Prometheus
    }

    /// Whether it lets nobody in without a token.
    pub fn wants_token(self) -> bool {
        matches!(
            self,
            Self::Gitlab | Self::Drone | Self::Circleci | Self::AzureDevops
        )
    }

    /// The template of the user data of its machines, where a pool names none.
    pub fn cloud_init(self) -> &'static str {
        match self {
            Self::Gitlab => "cloud-init/gitlab-runner.yaml.tera",
            Self::Drone => "cloud-init/drone-runner.yaml.tera",
            Self::Circleci => "cloud-init/circleci-runner.yaml.tera",
            Self::AzureDevops => "cloud-init/azure-devops-agent.yaml.tera",
            Self::Prometheus | Self::Exec | Self::Http => "cloud-init/machine.yaml.tera",
        }
    }
}

/// The versions of CircleCI's runner API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CircleciApi {
    /// The one that its documentation has.
    #[default]
    V3,
    /// The one before.
    V2,
}

/// One CI system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CiConfig {
    /// Its key in the stack file.
    pub name: CiName,
    /// What it is.
    pub kind: CiKind,
    /// Its root: `https://gitlab.example.com`.
    pub url: Endpoint,
    /// How it lets us in; none only for the sandbox.
    pub token: Option<SecretRef>,
    /// A file of certificates to trust besides the system's, relative to the stack file's folder.
    pub ca_file: Option<PathBuf>,
    /// Project paths; empty, without groups and `instance` too: every project that the token is a member of.
    pub projects: Vec<String>,
    /// Group paths: all their projects, those of subgroups too.
    pub groups: Vec<String>,
    /// Whether every project of the instance is served.
    pub instance: bool,
    /// How long after a pause a runner may still be handed a job.
    pub settle: SignedDuration,
    /// Drone: a build that has waited for longer is no demand; none: no limit.
    pub pending_max: Option<SignedDuration>,
    /// Drone: a build that has run for longer is no demand, and does not keep its machine for ever; none: no limit.
    pub running_max: Option<SignedDuration>,
    /// CircleCI: which version of its API.
    pub api: CircleciApi,
    /// Prometheus: how each machine is asked; none: only the server is.
    pub scrape: Option<source::Scrape>,
    /// Exec and HTTP: what is called.
    pub program: Option<Box<source::Program>>,
    /// How many runners it may have over all pools, booting ones counted: what is licensed. None: no limit but the pools' own.
    pub max: Option<u32>,
    /// Azure DevOps: what its token is.
    pub auth: AzureAuth,
}

/// What lets us in at Azure DevOps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AzureAuth {
    /// A personal access token with the scope "Agent Pools (read, manage)", by Basic authentication.
    #[default]
    Pat,
    /// A token of Microsoft Entra ID, as bearer. It lives for an hour or so: let a command print it.
    Entra,
}

/// Whether a pool is acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Yes.
    #[default]
    Act,
    /// No: plan and report only.
    Advise,
}

/// How a target is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Policy {
    /// `clamp(ceil((queued + running) / jobs_per_runner) + idle, min, max)`
    Queue {
        /// Machines kept ready besides those that work.
        idle: u32,
    },
    /// That of Shuttl's drone-autoscaler, its mistakes mended: while builds wait, what serves and what they need beside its
    /// free slots; while none waits, the machines that work.
    DroneAutoscaler {
        /// An idle machine younger than this stays.
        min_age: SignedDuration,
    },
    /// That of vela-games' circleci-runner-autoscaler, its mistakes mended: what serves, and one for each task that nobody has
    /// claimed and no booting machine is for. Never fewer: its runners leave by themselves.
    AsgIncrement,
    /// That of the Step Functions machine that ran Azure DevOps's agents on Fargate, its mistakes mended: what serves, and as many
    /// more as jobs wait beyond the agents that are free or booting, or as many fewer as are free beyond the jobs that wait.
    AdoDelta,
    /// Add or remove some machines while conditions on metrics hold, as do-scaler does, its mistakes mended.
    Step(Box<step::StepPolicy>),
}

/// An Auto Scaling group that is a pool's machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChoice {
    /// Where.
    pub provider: ProviderName,
    /// Which.
    pub which: GroupSelector,
    /// How a member leaves.
    pub leave: Leave,
    /// What a member's runner is called by its CI.
    pub runner: RunnerNaming,
}

/// Which groups are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupSelector {
    /// The one of this name.
    Named(String),
    /// Each whose tag of this key says `NAMESPACE/NAME`: a pool of its own, like the one that says so.
    Tagged {
        /// The tag's key: `resource-class`.
        key: String,
        /// What stands before the slash of its value.
        namespace: String,
    },
}

/// What the runner on a member of a group is called by its CI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunnerNaming {
    /// The instance's id: its launch template says so.
    #[default]
    Id,
    /// The machine's host name, which EC2 makes from its private address: what a runner that is told nothing takes.
    Hostname,
}

/// How a member of a group leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Leave {
    /// It is terminated within the group, whose size goes down by one.
    #[default]
    Terminate,
    /// It is detached from the group, whose size goes down by one, and then terminated.
    Detach,
}

/// How a pool's machines are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Not at all.
    #[default]
    No,
    /// On different hosts, by placement groups.
    Hosts,
    /// In the locations of one priority, each new machine where the fewest are.
    Locations,
}

/// By what offerings of one priority are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The price of the work: per job where that is learnt for all that are compared, else per virtual processor.
    #[default]
    Work,
    /// The price of a machine.
    Price,
}

/// What a pool may buy: one machine type in some locations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferingChoice {
    /// Where.
    pub provider: ProviderName,
    /// Which type.
    pub machine_type: String,
    /// Where, in order of preference at equal price; empty: everywhere that sells it.
    pub locations: Vec<String>,
    /// What to boot.
    pub image: ImageRef,
    /// Whether the machine gets a public IPv4 address.
    pub public_ipv4: bool,
    /// How it is bought.
    pub market: Market,
    /// How it is launched on EC2; none elsewhere.
    pub ec2: Option<Box<Ec2Launch>>,
    /// How it is started where it is a container; none: it is a machine.
    pub task: Option<Box<TaskSpec>>,
    /// What an hour of it costs, where its provider does not tell (Kubernetes); none: nothing.
    pub price: Option<Money>,
    /// Offerings of a lower number are bought first, whatever they cost; those of a higher one when no lower one can be had.
    pub priority: u32,
}

/// How long machines of a pool are kept, and how they are made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// A machine older than this leaves when it is idle; none: no limit.
    pub max_age: Option<SignedDuration>,
    /// A machine that has run so many jobs leaves when it is idle; none: no limit.
    pub max_jobs: Option<u32>,
    /// Whether no machine of it is ever deleted, by a smaller target, a roll or `destroy`.
    pub protect: bool,
    /// What may differ from the stack file without a machine being made anew.
    pub ignore_changes: BTreeSet<Part>,
    /// How many outdated machines leave at a time.
    pub roll: Share,
}

/// A part of what a machine is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The cloud-init template and its partials.
    Template,
    /// The pool's `vars`.
    Vars,
    /// Tags, untagged jobs, jobs per runner: what a runner is registered with.
    Runner,
    /// The CI's address.
    Ci,
    /// The image.
    Image,
    /// Machine type, location and market: nothing that the pool may buy now.
    Offering,
    /// Public address, keys, firewalls, networks.
    Access,
}

impl Part {
    /// Its word, as in `ignore_changes`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Vars => "vars",
            Self::Runner => "runner",
            Self::Ci => "ci",
            Self::Image => "image",
            Self::Offering => "offering",
            Self::Access => "access",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A number, or a share of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// So many.
    Number(u32),
    /// So many of a hundred, at least one.
    Percent(u32),
}

impl Default for Share {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl Share {
    /// How many of so many that is; a share of some is at least one.
    pub fn of(self, whole: u32) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => {
                let part = u64::from(whole) * u64::from(percent) / 100;
                u32::try_from(part).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How a pool's runners are registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registering {
    /// Whether they run only jobs of protected branches and tags.
    pub protected_refs: bool,
    /// A runner's token that all machines share; none: each machine has a runner of its own.
    pub runner_token: Option<SecretRef>,
}

/// Interchangeable runners that serve the same jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Its CI.
    pub ci: CiName,
    /// Whether it is acted on.
    pub mode: Mode,
    /// What its runners offer.
    pub tags: Vec<String>,
    /// Whether they take jobs without tags.
    pub run_untagged: bool,
    /// How many jobs one runner runs at once; at least 1.
    pub jobs_per_runner: u32,
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// At most this many made in one tick, those still booting counted; none: no limit.
    pub burst: Option<u32>,
    /// How the target is computed.
    pub policy: Policy,
    /// A machine that the CI has not heard from for this long after its creation has failed.
    pub ready_timeout: SignedDuration,
    /// Where billed by the second: an idle machine goes after this long.
    pub idle_timeout: SignedDuration,
    /// The template of its user data, relative to the project: `cloud-init/gitlab-runner.yaml.tera`.
    pub cloud_init: String,
    /// Values for the template, as JSON.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Keys that may log in, by name; those of another provider than the machine's do not apply.
    pub ssh_keys: Vec<String>,
    /// Firewalls that apply, by name; likewise.
    pub firewalls: Vec<String>,
    /// Networks that its machines are attached to, by name; likewise.
    pub networks: Vec<String>,
    /// How its machines are kept apart.
    pub spread: Spread,
    /// How long its machines are kept, and how they are made anew.
    pub keeping: Keeping,
    /// How its runners are registered.
    pub registering: Registering,
    /// What it may buy; empty only where its machines are a group's.
    pub offerings: Vec<OfferingChoice>,
    /// The group that its machines are members of, in place of what it may buy.
    pub group: Option<GroupChoice>,
    /// Every suspended CronJob that this finds is a pool of its own, like this one; none: it is one pool.
    pub discover: Option<CronJobs>,
    /// The agent pool of its CI and what its agents can do, where its CI has such pools (Azure DevOps).
    pub agents: Option<Box<AgentPool>>,
    /// By what its offerings are compared.
    pub order: Order,
    /// What must answer on a machine before it counts as ready; only where its source measures.
    pub health: Option<HealthCheck>,
    /// What is called when something happens to its machines.
    pub hooks: Vec<hooks::Hook>,
}

/// Suspended CronJobs by their labels `resource-class-org` and `resource-class-name`: each is the template of a resource class
/// `ORG/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronJobs {
    /// The value of `resource-class-org`.
    pub org: String,
}

impl Pool {
    /// Whether its runners are containers that run once, made in batches.
    pub fn runs_tasks(&self) -> bool {
        self.offerings.iter().any(|offering| offering.task.is_some())
    }

    /// Its hooks of a moment, each with its place among all, in the order in which they run.
    pub fn hooks_of(&self, moment: hooks::Moment) -> impl Iterator<Item = (usize, &hooks::Hook)> {
        let all = self.hooks.iter().enumerate();
        all.filter(move |(_, hook)| hook.on.contains(&moment))
    }

    /// How long its hooks of a moment may take, each tried once.
    pub fn hook_time(&self, moment: hooks::Moment) -> SignedDuration {
        let times = self.hooks_of(moment).map(|(_, hook)| hook.timeout);
        times.fold(SignedDuration::ZERO, SignedDuration::saturating_add)
    }

    /// Whether it has hooks of a moment.
    pub fn has_hooks(&self, moment: hooks::Moment) -> bool {
        self.hooks_of(moment).next().is_some()
    }

    /// What a demand source needs to know.
    pub fn selector(&self) -> PoolSelector {
        PoolSelector {
            pool: self.name.clone(),
            tags: self.tags.clone(),
            run_untagged: self.run_untagged,
            protected_refs: self.registering.protected_refs,
            metering: self.metering().map(Box::new),
            agents: self.agents.clone(),
        }
    }

    /// What is measured of it, each once; none where its policy and its health check measure nothing.
    fn metering(&self) -> Option<Metering> {
        let Policy::Step(policy) = &self.policy else {
            let health = self.health.clone()?;
            return Some(Metering {
                health: Some(health),
                ..Metering::default()
            });
        };
        let mut samples = BTreeSet::new();
        let mut queries = BTreeSet::new();
        for condition in policy.steps.iter().flat_map(|step| &step.conditions) {
            match &condition.subject {
                step::Subject::Machines { samples: own, .. } => samples.extend(own.iter().cloned()),
                step::Subject::Query(query) => {
                    queries.insert(query.clone());
                }
            }
        }
        Some(Metering {
            samples: samples.into_iter().collect(),
            queries: queries.into_iter().collect(),
            health: self.health.clone(),
            ..Metering::default()
        })
    }
}

/// A login key of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKey {
    /// Its name in the stack file.
    pub name: String,
    /// Where it is kept.
    pub provider: ProviderName,
    /// `ssh-ed25519 AAAA… comment`
    pub public_key: String,
}

/// A firewall of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Its name in the stack file.
    pub name: String,
    /// Where it is kept.
    pub provider: ProviderName,
    /// What it lets through.
    pub rules: Vec<FirewallRule>,
}

/// A private network of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name in the stack file.
    pub name: String,
    /// Where it is kept.
    pub provider: ProviderName,
    /// All its addresses, in CIDR notation.
    pub ip_range: String,
    /// Its subnets; never empty.
    pub subnets: Vec<Subnet>,
}

/// Something that had another name in an earlier version of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// What it was.
    pub from: StackPath,
    /// What it is; of the same kind.
    pub to: StackPath,
}

/// A pool or a shared resource by its table in the stack file: `pools.linux`, `firewalls.default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StackPath {
    /// `pools.NAME`
    Pool(PoolName),
    /// `ssh_keys.NAME`, `networks.NAME`, `firewalls.NAME`
    Shared(ResourceKind, String),
}

impl std::fmt::Display for StackPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "pools.{name}"),
            Self::Shared(kind, name) => write!(f, "{kind}s.{name}"),
        }
    }
}

/// What refuses a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// At most so many machines deleted by one plan, a share being of those on record; none: no limit.
    pub max_delete: Option<Share>,
}

/// What may be spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Per hour, over all pools; none: no limit.
    pub hourly: Option<Money>,
    /// Per day of UTC, over all pools; none: no limit.
    pub daily: Option<Money>,
    /// Per calendar month of UTC, over all pools; none: no limit.
    pub monthly: Option<Money>,
}

impl Budget {
    /// The limits that there are, the shortest period first.
    pub fn limits(&self) -> impl Iterator<Item = (Period, &Money)> {
        let all = [
            (Period::Hour, &self.hourly),
            (Period::Day, &self.daily),
            (Period::Month, &self.monthly),
        ];
        all.into_iter()
            .filter_map(|(period, limit)| Some((period, limit.as_ref()?)))
    }
}

/// The sandbox that runs in this process, for the stacks that name it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Settings as `runfleet sandbox --set KEY=VALUE` takes them.
    pub settings: BTreeMap<String, String>,
    /// What a new world begins with, as the scenario file of `runfleet sandbox` has it.
    pub scenario: serde_json::Value,
}

/// A validated stack file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// Where its state is.
    pub state: StateBackend,
    /// How often it is ticked at least; part of the billing margin ([`crate::drain::margin`]).
    pub interval: SignedDuration,
    /// Cloud accounts, by name.
    pub providers: BTreeMap<ProviderName, ProviderConfig>,
    /// CI systems, by name.
    pub ci: BTreeMap<CiName, CiConfig>,
    /// Login keys, by name.
    pub ssh_keys: BTreeMap<String, SshKey>,
    /// Firewalls, by name.
    pub firewalls: BTreeMap<String, Firewall>,
    /// Private networks, by name.
    pub networks: BTreeMap<String, Network>,
    /// Pools, as declared: a job that fits two goes to the first.
    pub pools: Vec<Pool>,
    /// What may be spent.
    pub budget: Budget,
    /// What other currencies are worth.
    pub currency: Currencies,
    /// How machines are logged in to.
    pub login: hooks::Login,
    /// What refuses a plan.
    pub guard: Guard,
    /// What had other names before.
    pub moved: Vec<Moved>,
    /// How many earlier states are kept, for `state rollback`.
    pub keep_states: u32,
    /// The key of the MAC of saved plans; none: they have a digest only.
    pub plan_key: Option<SecretRef>,
    /// Where metrics for node_exporter's textfile collector are written, relative to the stack file's folder.
    pub metrics_file: Option<PathBuf>,
    /// What `watch` tells of itself.
    #[serde(default)]
    pub watch: Watching,
    /// The sandbox in this process.
    pub sandbox: Option<SandboxConfig>,
    /// SHA-256 of the file's text, hex.
    pub source_hash: String,
}

impl Stack {
    /// The pool of that name.
    pub fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| &pool.name == name)
    }

    /// The currency that prices are compared and budgets reckoned in: the base, else the budget's; none: each for itself.
    pub fn counted_in(&self) -> Option<&Currency> {
        let limit = self.budget.limits().next();
        self.currency
            .base
            .as_ref()
            .or(limit.map(|(_, money)| &money.currency))
    }
}
