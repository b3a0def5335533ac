//! What a resource should be, what the cloud says it is, and the claim that ties the two together.
//! Long because they are one vocabulary: each names the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::task::{EcsTask, JobTemplate, KubernetesJob, TaskSpec, Toleration};
use super::{
    ids::{
        Address, CiName, CloudId, IntentId, Lineage, PoolName, ProviderName, RegistrationId, ResourceKind,
        RunnerName, SpecHash, StackName,
    },
    money::{Billing, Money},
    offering::{Offering, OfferingKey},
};

/// Points at one resource of a cloud.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceRef {
    /// Where it is.
    pub provider: ProviderName,
    /// What it is.
    pub kind: ResourceKind,
    /// The provider's id of it.
    pub id: CloudId,
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {} {}", self.provider, self.kind, self.id))
    }
}

/// Labels (or tags) on a cloud's resource.
pub type Labels = BTreeMap<String, String>;

/// The labels that say whose a resource is. One listing of them resolves every unfinished intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimLabels {
    /// `runfleet-stack`
    pub stack: StackName,
    /// `runfleet-lineage`
    pub lineage: Lineage,
    /// `runfleet-pool`; none for a shared resource.
    pub pool: Option<PoolName>,
    /// `runfleet-id`: the name part of the address.
    pub id: String,
    /// `runfleet-hash`
    pub hash: SpecHash,
    /// `runfleet-intent`
    pub intent: IntentId,
    /// `runfleet-registration`: the CI's id of the registration that this machine will use.
    pub registration: Option<RegistrationId>,
}

impl ClaimLabels {
    /// The label key of the stack's name, by which everything of ours is listed.
    pub const STACK: &'static str = "runfleet-stack";

    /// As labels.
    pub fn to_labels(&self) -> Labels {
        let mut labels = Labels::from([
            (Self::STACK.into(), self.stack.to_string()),
            ("runfleet-lineage".into(), self.lineage.to_string()),
            ("runfleet-id".into(), self.id.clone()),
            ("runfleet-hash".into(), self.hash.to_string()),
            ("runfleet-intent".into(), self.intent.to_string()),
        ]);
        if let Some(pool) = &self.pool {
            labels.insert("runfleet-pool".into(), pool.to_string());
        }
        if let Some(registration) = &self.registration {
            labels.insert("runfleet-registration".into(), registration.to_string());
        }
        labels
    }

    /// From labels; none when one that every claim has is missing.
    pub fn from_labels(labels: &Labels) -> Option<Self> {
        let get = |key: &str| labels.get(key).map(String::as_str);
        Some(Self {
            stack: get(Self::STACK)?.into(),
            lineage: get("runfleet-lineage")?.into(),
            pool: get("runfleet-pool").map(PoolName::from),
            id: get("runfleet-id")?.to_owned(),
            hash: get("runfleet-hash")?.into(),
            intent: get("runfleet-intent")?.into(),
            registration: get("runfleet-registration").map(RegistrationId::from),
        })
    }

    /// The address that a resource of this kind with this claim has.
    pub fn address(&self, kind: ResourceKind) -> Address {
        Address {
            kind,
            pool: self.pool.clone(),
            name: self.id.clone(),
        }
    }
}

/// An image to boot from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageRef {
    /// The provider's name of it.
    Name(String),
    /// The provider's id of it.
    Id(u64),
    /// The newest that carries these labels.
    NewestOf(String),
    /// The newest of an owner's whose name fits a pattern with `*` and `?` (EC2).
    Owned {
        /// An account's number, `self` or `amazon`.
        owner: String,
        /// `debian-12-amd64-*`
        name: String,
    },
    /// The one that a parameter of Systems Manager names (EC2).
    Parameter(String),
    /// The launch template's (EC2).
    LaunchTemplate,
    /// The task template's: a task definition, a pod template.
    TaskTemplate,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.pad(name),
            Self::Id(id) => f.pad(&format!("image {id}")),
            Self::NewestOf(selector) => f.pad(&format!("newest image of {selector}")),
            Self::Owned { owner, name } => f.pad(&format!("newest {name} of {owner}")),
            Self::Parameter(name) => f.pad(&format!("parameter {name}")),
            Self::LaunchTemplate => f.pad("the launch template's"),
            Self::TaskTemplate => f.pad("the task template's"),
        }
    }
}

/// How an instance of EC2 is launched, beyond what every machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ec2Launch {
    /// A launch template by its name or id (`lt-…`), whose values hold where nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<String>,
    /// Its version: a number, `$Latest` or `$Default`; none: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_version: Option<String>,
    /// Subnets by id: the first in the location's zone is taken. Empty: the launch template's, or the zone's default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Security groups by id that exist already, besides those made for the stack's firewalls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// An instance profile by its name or ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// The size of the root volume; none: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_gib: Option<u32>,
    /// The most that an hour on the spot market may cost; none: the on-demand price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Money>,
}

/// A machine that should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The pool that it serves.
    pub pool: PoolName,
    /// Its short name.
    pub runner: RunnerName,
    /// Its name in the cloud, unique per project: stack, pool and runner.
    pub name: String,
    /// What to buy.
    pub offering: OfferingKey,
    /// What to boot.
    pub image: ImageRef,
    /// Whether it gets a public IPv4 address.
    pub public_ipv4: bool,
    /// Names of the stack's ssh keys that may log in.
    pub ssh_keys: Vec<String>,
    /// Names of the stack's firewalls that apply.
    pub firewalls: Vec<String>,
    /// Names of the stack's networks that it is attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// The name of the placement group that it is kept apart in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
    /// How it is launched on EC2; none elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2: Option<Box<Ec2Launch>>,
    /// How it is started where it is a container; none: it is a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Box<TaskSpec>>,
    /// Short digests of what its hash covers, by part (`template`, `vars`, …), so that what differs can be named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
}

impl MachineSpec {
    /// The shared resources that it uses, by kind and name, in the order in which kinds depend on each other.
    pub fn uses(&self) -> impl Iterator<Item = (ResourceKind, &str)> {
        let named = [
            (ResourceKind::SshKey, &self.ssh_keys),
            (ResourceKind::Network, &self.networks),
            (ResourceKind::Firewall, &self.firewalls),
        ];
        let named = named
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.as_str())));
        let group = self.placement_group.as_deref();
        named.chain(group.map(|name| (ResourceKind::PlacementGroup, name)))
    }
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the machine.
    In,
    /// From the machine.
    Out,
}

/// One rule of a firewall.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// Which way.
    pub direction: Direction,
    /// `tcp`, `udp`, `icmp`, `esp` or `gre`.
    pub protocol: String,
    /// A port or a range: `22`, `80-443`. None for protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Networks in CIDR notation: sources of `in`, destinations of `out`.
    pub networks: Vec<String>,
}

/// A firewall that should be. Rules are compared as a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallSpec {
    /// Its name in the cloud.
    pub name: String,
    /// What it lets through; all other inbound traffic is dropped.
    pub rules: Vec<FirewallRule>,
}

/// A login key that should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKeySpec {
    /// Its name in the cloud.
    pub name: String,
    /// `ssh-ed25519 AAAA… comment`
    pub public_key: String,
}

/// A part of a network's addresses, in one zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// In CIDR notation, within the network's.
    pub ip_range: String,
    /// The cloud's name of the zone: `eu-central`.
    pub zone: String,
}

/// A private network that should be. Subnets are compared as a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name in the cloud.
    pub name: String,
    /// All its addresses, in CIDR notation.
    pub ip_range: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

/// A placement group that should be: its machines are kept on different hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementGroupSpec {
    /// Its name in the cloud.
    pub name: String,
}

/// An Auto Scaling group that should have this size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// The group's name in the cloud.
    pub name: String,
    /// How many members it should have: an absolute number, never an increment.
    pub size: u32,
    /// The size that was read when this was decided; `size` is set only if the desired size is still this.
    pub from: u32,
    /// The members that the cloud may not end by itself, since they run jobs: those, and no others of the group.
    #[serde(default)]
    pub protected: BTreeSet<CloudId>,
}

/// Tasks or Jobs that should be started together: alike, by one call where the cloud has such a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// What each of them is. Its name and runner are the batch's: each has its own from the cloud.
    #[serde(flatten)]
    pub each: MachineSpec,
    /// How many.
    pub count: u32,
}

/// What a resource should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ResourceSpec {
    /// A server, a droplet, an instance.
    Machine(MachineSpec),
    /// A login key.
    SshKey(SshKeySpec),
    /// Traffic rules.
    Firewall(FirewallSpec),
    /// A private network.
    Network(NetworkSpec),
    /// Machines kept apart.
    PlacementGroup(PlacementGroupSpec),
    /// A group by its size.
    Group(GroupSpec),
    /// Tasks or Jobs by their number.
    Batch(BatchSpec),
}

impl ResourceSpec {
    /// Its kind.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Machine(_) => ResourceKind::Machine,
            Self::SshKey(_) => ResourceKind::SshKey,
            Self::Firewall(_) => ResourceKind::Firewall,
            Self::Network(_) => ResourceKind::Network,
            Self::PlacementGroup(_) => ResourceKind::PlacementGroup,
            Self::Group(_) => ResourceKind::Group,
            Self::Batch(_) => ResourceKind::Batch,
        }
    }

    /// Its name in the cloud.
    pub fn name(&self) -> &str {
        match self {
            Self::Machine(spec) => &spec.name,
            Self::SshKey(spec) => &spec.name,
            Self::Firewall(spec) => &spec.name,
            Self::Network(spec) => &spec.name,
            Self::PlacementGroup(spec) => &spec.name,
            Self::Group(spec) => &spec.name,
            Self::Batch(spec) => &spec.each.name,
        }
    }

    /// What a machine is, or each container of a batch; none of what runs nothing.
    pub fn each(&self) -> Option<&MachineSpec> {
        match self {
            Self::Machine(machine) => Some(machine),
            Self::Batch(batch) => Some(&batch.each),
            _ => None,
        }
    }

    /// How many machines or containers it is; none of what runs nothing.
    pub fn count(&self) -> u32 {
        match self {
            Self::Machine(_) => 1,
            Self::Batch(batch) => batch.count,
            _ => 0,
        }
    }
}

/// What a cloud says a resource is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudStatus {
    /// Being made or booted.
    Pending,
    /// On, or simply there (a key, a firewall).
    Running,
    /// Switched off; still paid for on most clouds.
    Off,
    /// On its way out.
    Deleting,
    /// A task, a Job or an ephemeral machine that ended by itself, with its exit code where known: neither missing nor failed.
    Ended(Option<i32>),
    /// It is gone for good though the cloud still tells of it, and this is why: `spot interruption`.
    Terminated(String),
    /// The cloud says it is broken.
    Failed(String),
    /// A word that this version does not know: counts as alive.
    Unknown(String),
}

/// A member of a group or a batch, named by the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The cloud's id of it.
    pub id: CloudId,
    /// What it is doing.
    pub status: CloudStatus,
    /// When it was started.
    pub created_at: Timestamp,
    /// What was bought; none where the cloud does not say.
    #[serde(default)]
    pub offering: Option<OfferingKey>,
    /// Where it answers, public first.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Whether the cloud is kept from ending it by itself.
    #[serde(default)]
    pub protected: bool,
    /// The cloud's word for where it stands, and why it waits or ended: `InService`, `Pending:Wait`, `Unschedulable: 0/3 nodes are
    /// available`.
    #[serde(default)]
    pub lifecycle: String,
    /// What it calls itself, as far as the cloud gives it its name: `ip-10-0-0-5`.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// What a cloud says of a group beyond its size and its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// It is never made smaller than this.
    pub min: u32,
    /// It is never made larger than this.
    pub max: u32,
    /// Why its size is not to be changed now; none: it may be: `cooling down until 14:53:00Z`.
    #[serde(default)]
    pub waits: Option<String>,
    /// Who else sets its size, so that we must not: `scaling policy cpu-50`, `instance refresh 0f3a…`.
    #[serde(default)]
    pub governed: Option<String>,
    /// Processes of the cloud's on it that are suspended: `AZRebalance`.
    #[serde(default)]
    pub suspended: BTreeSet<String>,
}

/// What a cloud says of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Which.
    pub target: ResourceRef,
    /// Its name in the cloud.
    pub name: String,
    /// All its labels.
    pub labels: Labels,
    /// What it is doing.
    pub status: CloudStatus,
    /// By the cloud's clock.
    pub created_at: Timestamp,
    /// What was bought; none for shared resources.
    pub offering: Option<OfferingKey>,
    /// Where it answers, public first.
    pub addresses: Vec<IpAddr>,
    /// A firewall's rules, sorted; none for other kinds.
    pub rules: Option<Vec<FirewallRule>>,
    /// A key's public part; none for other kinds.
    pub public_key: Option<String>,
    /// A network's range and subnets, sorted; none for other kinds.
    #[serde(default)]
    pub network: Option<(String, Vec<Subnet>)>,
    /// The shared resources that a machine uses, or none where the cloud does not say.
    #[serde(default)]
    pub uses: Option<Vec<ResourceRef>>,
    /// A group's desired size; none for other kinds.
    pub size: Option<u32>,
    /// A group's or batch's children.
    pub members: Vec<Member>,
    /// What else there is to a group; none for other kinds.
    #[serde(default)]
    pub group: Option<Box<GroupView>>,
}

impl Observed {
    /// Whose it is, where its labels say so.
    pub fn claim(&self) -> Option<ClaimLabels> {
        ClaimLabels::from_labels(&self.labels)
    }

    /// The attempt and the registration that its claim names, where it carries one: [`Self::claim`] without a copy.
    pub fn claimed(&self) -> Option<(&str, Option<&str>)> {
        let get = |key: &str| self.labels.get(key).map(String::as_str);
        for required in [
            ClaimLabels::STACK,
            "runfleet-lineage",
            "runfleet-id",
            "runfleet-hash",
        ] {
            get(required)?;
        }
        Some((get("runfleet-intent")?, get("runfleet-registration")))
    }
}

/// Whether an answer is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All of it.
    Complete,
    /// Something is missing, and this is why.
    Partial {
        /// For a person.
        why: String,
    },
}

impl Completeness {
    /// Whether it is all there.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// Partial, because of this.
    pub fn partial(why: impl Into<String>) -> Self {
        Self::Partial { why: why.into() }
    }
}

/// Everything of one stack in one cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What was seen, in no order.
    pub resources: Vec<Observed>,
    /// Whether that is all.
    pub completeness: Completeness,
    /// The answering server's clock.
    pub now: Timestamp,
    /// Requests it took.
    pub calls: u32,
}

/// What a provider names: see `ProviderProfile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Each machine has its own id, name and join token.
    Named,
    /// One nonce, an expected count and a shared join token for many.
    Batch,
    /// The group is the resource; its members are named by the cloud.
    Group,
}

/// What the core needs to know of a provider: data, never code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderProfile {
    /// The provider's key in the stack file.
    pub name: ProviderName,
    /// Its kind: `hetzner`.
    pub kind: String,
    /// What it names.
    pub identity: Identity,
    /// How it charges.
    pub billing: Billing,
    /// How many calls at once.
    pub concurrency: usize,
    /// How many machines one create call makes at most.
    pub batch_size: usize,
    /// The most bytes of user data that it takes.
    pub user_data_limit: usize,
    /// Requests per hour that one credential may make; none where it is not limited.
    pub requests_per_hour: Option<u32>,
    /// How many machines a placement group keeps apart at most; none: it has no placement groups.
    #[serde(default)]
    pub group_size: Option<u32>,
    /// How long an accepted create may be absent from a listing, and a deleted resource present in one.
    pub settle: SignedDuration,
    /// The longest that one call may take, retries included.
    pub call_timeout: SignedDuration,
    /// How long a delete takes, for the billing margin.
    pub delete_time: SignedDuration,
}

/// A provider's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudSnapshot {
    /// The provider's data.
    pub profile: ProviderProfile,
    /// What it holds of ours; an unreachable provider gives an empty partial one.
    pub listing: Listing,
    /// What it sells; empty when it did not say.
    pub offerings: Vec<Offering>,
    /// Whether `offerings` is all.
    pub offerings_complete: Completeness,
    /// Records that the listing lacked, read by id: what was found, or none when the cloud says there is no such thing.
    pub reread: BTreeMap<Address, Option<Observed>>,
    /// What Jobs can be made from, where a pool is found by that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_templates: Vec<JobTemplate>,
}

/// How runners of a CI system are kept from taking new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CordonKind {
    /// One runner is paused (GitLab, Azure DevOps, Woodpecker).
    Pause,
    /// The whole queue is paused for at most 30 s and resumed in the same apply (Drone).
    PauseAll,
    /// The registration is removed, which is final (GitHub).
    Remove,
    /// Nothing can be done from outside: only a machine that left by itself may go (CircleCI, tasks, Jobs).
    Leaves,
}

/// What the core needs to know of a CI system's control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlProfile {
    /// The CI's key in the stack file.
    pub ci: CiName,
    /// How a runner is cordoned.
    pub cordon: CordonKind,
    /// How long after a cordon a runner may still be handed a job.
    pub settle: SignedDuration,
    /// Whether the CI tells which runners it knows. Where it does not (Drone), one is ready when its machine runs.
    #[serde(default = "yes")]
    pub lists_runners: bool,
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_reads_back_from_its_labels() {
        let claim = ClaimLabels {
            stack: "prod".into(),
            lineage: "l1".into(),
            pool: Some("linux".into()),
            id: "brave-otter".into(),
            hash: "abc".into(),
            intent: "i1".into(),
            registration: Some("42".into()),
        };
        assert_eq!(ClaimLabels::from_labels(&claim.to_labels()), Some(claim));
    }

    #[test]
    fn what_is_read_of_a_claim_without_a_copy_is_what_it_says() {
        let labels = |absent: &str| {
            let pairs = ["stack", "lineage", "pool", "id", "hash", "intent", "registration"];
            let present = pairs.iter().filter(|key| **key != absent);
            let labels = present.map(|key| (format!("runfleet-{key}"), (*key).to_owned()));
            labels.collect::<Labels>()
        };
        for absent in [
            "",
            "stack",
            "lineage",
            "pool",
            "id",
            "hash",
            "intent",
            "registration",
        ] {
            let seen = Observed {
                target: ResourceRef {
                    provider: "hetzner".into(),
                    kind: ResourceKind::Machine,
                    id: "1".into(),
                },
                name: String::new(),
                labels: labels(absent),
                status: CloudStatus::Running,
                created_at: Timestamp::UNIX_EPOCH,
                offering: None,
                addresses: Vec::new(),
                rules: None,
                network: None,
                uses: None,
                public_key: None,
                size: None,
                members: Vec::new(),
                group: None,
            };
            let claim = seen.claim();
            let whole = claim.as_ref().map(|claim| {
                let registration = claim.registration.as_ref().map(RegistrationId::as_str);
                (claim.intent.as_str(), registration)
            });
            assert_eq!(seen.claimed(), whole, "without {absent:?}");
        }
    }
}
