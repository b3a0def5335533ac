//! The stack file as it is written: the one source of its JSON schema, of its reference page and of what is read.
//! Long because it is one description, in the order in which its reader meets it.
//!
//! Doc comments here become the schema's descriptions. A field is optional in Rust wherever it may be missing *or
//! wrong*: the structural check takes out what does not fit and reports it, and what is left is read into these types, so
//! that the checks of meaning still see the rest. What must be there says `#[schemars(required)]`.

pub(super) mod hooks;
pub(super) mod step;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    hooks::{RawHook, RawSsh},
    step::{RawHealth, RawScrape, RawStep},
};
use super::{
    AzureAuth, CiKind, CircleciApi, Leave, Mode, Order, Part, ProviderKind, RunnerNaming, SecretRef, Spread,
};
use crate::model::{
    offering::Market,
    resource::{Direction, Toleration},
};

/// A stack of runfleet: one environment, as a person writes it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Stack")]
pub(super) struct RawStack {
    /// The stack itself.
    #[schemars(required)]
    pub(super) stack: Option<RawHead>,
    /// Cloud accounts, by a name of your choice.
    #[serde(default)]
    pub(super) providers: BTreeMap<String, RawProvider>,
    /// CI systems, by a name of your choice.
    #[serde(default)]
    pub(super) ci: BTreeMap<String, RawCi>,
    /// What may be spent.
    #[serde(default)]
    pub(super) budget: RawBudget,
    /// What other currencies are worth, where prices and budgets are in several.
    #[serde(default)]
    pub(super) currency: RawCurrency,
    /// How machines are logged in to.
    #[serde(default)]
    pub(super) ssh: RawSsh,
    /// Login keys, by name.
    #[serde(default)]
    pub(super) ssh_keys: BTreeMap<String, RawSshKey>,
    /// Firewalls, by name.
    #[serde(default)]
    pub(super) firewalls: BTreeMap<String, RawFirewall>,
    /// Private networks, by name.
    #[serde(default)]
    pub(super) networks: BTreeMap<String, RawNetwork>,
    /// What refuses a plan as a whole, with exit code 5, unless `--allow` names it.
    #[serde(default)]
    pub(super) guard: RawGuard,
    /// What had another name in an earlier version of this file, so that a new name makes nothing anew. May be taken out once every copy of the state has been ticked.
    #[serde(default)]
    pub(super) moved: Vec<RawMoved>,
    /// What `runfleet watch` tells of itself over HTTP.
    #[serde(default)]
    pub(super) watch: RawWatch,
    /// Pools: interchangeable runners that serve the same jobs. A job that fits two pools goes to the one declared first.
    #[serde(default)]
    pub(super) pools: BTreeMap<String, RawPool>,
    /// The sandbox that runs in the same process: simulated clouds and CI servers, behind every address that is `"sandbox"`.
    pub(super) sandbox: Option<RawSandbox>,
}

/// The stack itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Head")]
pub(super) struct RawHead {
    /// Its name: lower-case letters, digits and `-`, at most 35 characters together with the longest pool's name. It is
    /// part of every machine's name, so changing it makes another stack.
    #[schemars(required, extend("examples" = ["prod"]))]
    pub(super) name: Option<String>,
    /// Where the state is kept: `file` is beside the stack file; `s3://bucket/prefix`; the address of an HTTP state as GitLab serves it for Terraform.
    #[serde(default)]
    pub(super) state: RawState,
    /// How often the stack is ticked, by the timer or by `watch`. Part of the margin before a paid hour ends; where the last ticks were further apart (up to 20 minutes), the longest of those gaps counts instead.
    #[serde(default = "interval")]
    pub(super) interval: DurationText,
    /// How many earlier states are kept, for `state history` and `state rollback`.
    #[serde(default = "keep_states")]
    #[schemars(range(max = 1000))]
    pub(super) keep_states: u32,
    /// The key of the MAC by which `apply PLANFILE` knows that nobody changed a saved plan. Without: a digest, which tells accidents from changes made on purpose no better than any other.
    pub(super) plan_key: Option<SecretRef>,
    /// Where metrics for node_exporter's textfile collector are written after each tick, relative to the stack file's folder. Ends in `.prom`.
    #[schemars(extend("examples" = ["/var/lib/prometheus/node-exporter/runfleet.prom"]))]
    pub(super) metrics_file: Option<PathBuf>,
}

/// Where a state is kept: in one word, or with how it is reached.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(
    rename = "State",
    extend("x-hint" = "write \"file\", \"s3://bucket/prefix\", \"https://…\", or a table with `address`")
)]
pub(super) enum RawState {
    /// `file`, `s3://bucket/prefix`, the address of an HTTP state, or `http`: the address is in `TF_HTTP_ADDRESS`.
    Text(String),
    /// With how it is reached.
    Table(Box<RawStateTable>),
}

impl Default for RawState {
    fn default() -> Self {
        Self::Text("file".to_owned())
    }
}

/// A state that is kept elsewhere. What an HTTP state is not told here, the variables of Terraform's HTTP backend say (`TF_HTTP_…`).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RemoteState")]
pub(super) struct RawStateTable {
    /// Where it is: `s3://bucket/prefix`, or the address of an HTTP state. Without: `TF_HTTP_ADDRESS`.
    #[schemars(extend("examples" = ["s3://acme-runfleet/ci", "https://gitlab.example.com/api/v4/projects/1/terraform/state/prod"]))]
    pub(super) address: Option<String>,
    /// A file of certificates (PEM) to trust besides the system's, relative to the stack file's folder.
    pub(super) ca_file: Option<PathBuf>,
    /// S3: the bucket's region. Without: `AWS_REGION`, else `us-east-1`.
    #[schemars(extend("examples" = ["eu-central-1"]))]
    pub(super) region: Option<String>,
    /// S3: where a compatible store is. Plain http goes only to this machine.
    #[schemars(extend("examples" = ["https://fsn1.your-objectstorage.com"]))]
    pub(super) endpoint: Option<String>,
    /// S3: the key's id. Without: the environment, the profile (`AWS_PROFILE`) or the machine's own role.
    pub(super) access_key: Option<SecretRef>,
    /// S3: the key's secret.
    pub(super) secret_key: Option<SecretRef>,
    /// HTTP: who asks. At GitLab a user's name, or `gitlab-ci-token`.
    #[schemars(extend("examples" = ["gitlab-ci-token"]))]
    pub(super) username: Option<String>,
    /// HTTP: the password, at GitLab an access token or the job's own.
    pub(super) password: Option<SecretRef>,
    /// HTTP: the method of a write. Without: `POST`.
    pub(super) update_method: Option<String>,
    /// HTTP: where the lock is. Without: `ADDRESS/lock` at GitLab, else the state's address.
    pub(super) lock_address: Option<String>,
    /// HTTP: the method that locks. Without: `POST` at GitLab, else `LOCK`.
    pub(super) lock_method: Option<String>,
    /// HTTP: where the lock is given back. Without: the lock's address.
    pub(super) unlock_address: Option<String>,
    /// HTTP: the method that unlocks. Without: `DELETE` at GitLab, else `UNLOCK`.
    pub(super) unlock_method: Option<String>,
    /// HTTP: how often a call is tried again. Without: 2.
    #[schemars(range(max = 100))]
    pub(super) retry_max: Option<u32>,
    /// HTTP: the shortest wait between two tries. Without: `1s`.
    pub(super) retry_wait_min: Option<DurationText>,
    /// HTTP: the longest wait between two tries. Without: `30s`.
    pub(super) retry_wait_max: Option<DurationText>,
}

/// A length of time.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(
    rename = "Duration",
    title = "duration",
    extend("examples" = ["90s", "3m", "1h 30m"], "x-hint" = "write a length of time as \"90s\", \"3m\" or \"1h 30m\"")
)]
pub(super) struct DurationText(pub(super) String);

/// An amount with its currency.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(
    rename = "Money",
    title = "money",
    extend("examples" = ["2.50 EUR"], "x-hint" = "write an amount with its currency, as \"2.50 EUR\"")
)]
pub(super) struct MoneyText(pub(super) String);

/// A cloud account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Provider")]
pub(super) struct RawProvider {
    /// What it is. Without: its name, where that is a kind.
    pub(super) kind: Option<ProviderKind>,
    /// How it lets us in. Must be there unless `endpoint` is `"sandbox"`. `ec2` and `asg` have none.
    pub(super) token: Option<SecretRef>,
    /// Where it is, version included, other than the vendor's own address; or `"sandbox"`. Plain http goes only to this machine.
    #[schemars(extend("examples" = ["https://api.hetzner.cloud/v1", "sandbox"]))]
    pub(super) endpoint: Option<String>,
    /// A file of certificates (PEM) to trust besides the system's, relative to the stack file's folder.
    pub(super) ca_file: Option<PathBuf>,
    /// How many calls at once.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 100))]
    pub(super) concurrency: u32,
    /// How many requests an hour the account is allowed. Without: what the vendor allows everybody (Hetzner: 3600, DigitalOcean: 5000).
    #[schemars(range(min = 1))]
    pub(super) requests_per_hour: Option<u32>,
    /// `ec2`, `asg`, `ecs`: the region. Without: what `AWS_REGION` or the profile says.
    #[schemars(extend("examples" = ["eu-central-1"]))]
    pub(super) region: Option<String>,
    /// `ec2`, `asg`, `ecs`: a profile of `~/.aws/config`, one with SSO too. Without: `AWS_PROFILE`, the environment's keys, the machine's own role.
    pub(super) profile: Option<String>,
    /// `ec2`, `asg`, `ecs`: a role to take on.
    #[schemars(extend("examples" = ["arn:aws:iam::123456789012:role/runfleet"]))]
    pub(super) role_arn: Option<String>,
    /// `ec2`, `asg`, `ecs`: the id of a key. Without: as Amazon's own tools are let in.
    pub(super) access_key: Option<SecretRef>,
    /// `ec2`, `asg`, `ecs`: the key's secret.
    pub(super) secret_key: Option<SecretRef>,
    /// `ec2`: the VPC in which security groups are made for the stack's firewalls. Without: the default one.
    #[schemars(extend("examples" = ["vpc-0a1b2c3d"]))]
    pub(super) vpc: Option<String>,
    /// `ecs`: the cluster, by its name. Without: `default`.
    #[schemars(extend("examples" = ["ci"]))]
    pub(super) cluster: Option<String>,
    /// `ecs`: the log group that containers log to whose template names no log driver. Without: they log where their template says.
    #[schemars(extend("examples" = ["/runfleet/ci"]))]
    pub(super) log_group: Option<String>,
    /// `ecs`: whether the cluster and the log group are made where they are missing, the log group by Fargate with the tasks' execution role. They stay when the stack goes.
    #[serde(default)]
    pub(super) create: bool,
    /// `kubernetes`: the namespace. Without: `default`.
    #[schemars(extend("examples" = ["circleci-runners"]))]
    pub(super) namespace: Option<String>,
    /// `kubernetes`: a kubeconfig, relative to the stack file's folder. Without: `KUBECONFIG`, else `~/.kube/config`, else the service account of the pod that runfleet runs in.
    pub(super) kubeconfig: Option<PathBuf>,
    /// `kubernetes`: the kubeconfig's context. Without: its current one.
    pub(super) context: Option<String>,
    /// `kubernetes`: whether to take the service account of the pod that runfleet runs in, and nothing else.
    #[serde(default)]
    pub(super) in_cluster: bool,
}

/// A CI system.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ci")]
pub(super) struct RawCi {
    /// What it is. Without: its name, where that is a kind.
    pub(super) kind: Option<CiKind>,
    /// Its root; or `"sandbox"`. Plain http goes only to this machine. Without: the vendor's own (`https://gitlab.com`, `https://runner.circleci.com`); a Drone server has none, nor has an organisation of Azure DevOps (`https://dev.azure.com/ORGANISATION`).
    #[schemars(extend("examples" = ["https://gitlab.example.com", "sandbox"]))]
    pub(super) url: Option<String>,
    /// How it lets us in. Must be there unless `url` is `"sandbox"`; `exec` (in the program's environment, `RUNFLEET_TOKEN`), `http` and
    /// `prometheus` (a bearer token) may do without.
    pub(super) token: Option<SecretRef>,
    /// A file of certificates (PEM) to trust besides the system's, relative to the stack file's folder.
    pub(super) ca_file: Option<PathBuf>,
    /// `gitlab`: the projects to serve, by full path or id. Without: every project that the token is a member of.
    #[serde(default)]
    #[schemars(extend("examples" = [["acme/app"]]))]
    pub(super) projects: Vec<String>,
    /// `gitlab`: the groups to serve, by full path or id: all their projects, those of their subgroups too.
    #[serde(default)]
    #[schemars(extend("examples" = [["acme"]]))]
    pub(super) groups: Vec<String>,
    /// `gitlab`: whether to serve every project of the instance. Needs an administrator's token.
    #[serde(default)]
    pub(super) instance: bool,
    /// How long after a pause a runner may still be handed a job.
    #[serde(default = "settle")]
    pub(super) settle: DurationText,
    /// `drone`: a build that has waited for longer than this is no demand. Without: no limit.
    pub(super) pending_max: Option<DurationText>,
    /// `drone`: a build that has run for longer than this is no demand, and its machine may go once that has been seen twice. Without: no limit.
    pub(super) running_max: Option<DurationText>,
    /// `circleci`: the version of its API. Without: `v3`.
    pub(super) api: Option<CircleciApi>,
    /// `prometheus`: how each machine's exporter is asked. Without: only the server at `url` is.
    pub(super) scrape: Option<RawScrape>,
    /// `exec`: the program, with its arguments, that prints which jobs there are, as JSON: docs/guides/any-ci.md. One with a `/` is
    /// looked for from the stack file's folder.
    #[schemars(extend("examples" = [["./demand.py"]]))]
    pub(super) demand: Option<Vec<String>>,
    /// `exec`: the program that keeps a runner from taking new jobs; with `uncordon`. Without: a machine goes once it is off.
    pub(super) cordon: Option<Vec<String>>,
    /// `exec`: the program that lets it take jobs again.
    pub(super) uncordon: Option<Vec<String>>,
    /// `exec`: the program that makes a registration, and prints what a machine joins with; with `forget`. Without: a runner's id is
    /// its machine's name.
    pub(super) register: Option<Vec<String>>,
    /// `exec`: the program that removes a registration.
    pub(super) forget: Option<Vec<String>>,
    /// `http`: the URL that answers with which jobs there are, as JSON: docs/guides/any-ci.md. Whole, or beginning with `/`, below `url`.
    #[schemars(extend("examples" = ["/demand"]))]
    pub(super) demand_url: Option<String>,
    /// `http`: the URL that keeps a runner from taking new jobs; with `uncordon_url`.
    pub(super) cordon_url: Option<String>,
    /// `http`: the URL that lets it take jobs again.
    pub(super) uncordon_url: Option<String>,
    /// `http`: the URL that makes a registration, and answers with what a machine joins with; with `forget_url`.
    pub(super) register_url: Option<String>,
    /// `http`: the URL that removes a registration.
    pub(super) forget_url: Option<String>,
    /// `exec`, `http`: how long one call may take.
    #[serde(default = "thirty_seconds")]
    pub(super) timeout: DurationText,
    /// How many runners there may be over all pools of this CI, booting ones counted: what is licensed. Without: no limit but the pools' own.
    pub(super) max: Option<u32>,
    /// `azure-devops`: what `token` is. Without: `pat`.
    pub(super) auth: Option<AzureAuth>,
}

/// What may be spent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Budget")]
pub(super) struct RawBudget {
    /// At most this per hour over all pools, tax and addresses included. Without: no limit but the pools' `max`.
    pub(super) hourly: Option<MoneyText>,
    /// At most this in a day of UTC. Without: no limit.
    pub(super) daily: Option<MoneyText>,
    /// At most this in a calendar month of UTC. Without: no limit.
    pub(super) monthly: Option<MoneyText>,
}

/// What other currencies are worth.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Currency")]
pub(super) struct RawCurrency {
    /// What prices are compared in, and all is summed in.
    #[schemars(extend("examples" = ["EUR"]))]
    pub(super) base: Option<String>,
    /// What one unit of another currency is worth in `base`: a decimal number as text.
    #[serde(default)]
    #[schemars(extend("examples" = [{"USD": "0.92"}]))]
    pub(super) rates: BTreeMap<String, String>,
}

/// A login key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SshKey")]
pub(super) struct RawSshKey {
    /// The provider that keeps it.
    #[schemars(required)]
    pub(super) provider: Option<String>,
    /// The public part, as in `~/.ssh/id_ed25519.pub`.
    #[schemars(required, extend("examples" = ["ssh-ed25519 AAAA… ops@example.com"]))]
    pub(super) public_key: Option<String>,
}

/// A firewall. What no rule of direction `in` lets through is dropped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Firewall")]
pub(super) struct RawFirewall {
    /// The provider that keeps it.
    #[schemars(required)]
    pub(super) provider: Option<String>,
    /// What it lets through.
    #[serde(default)]
    pub(super) rules: Vec<RawRule>,
}

/// A rule of a firewall.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(super) struct RawRule {
    /// `in` is to the machine, `out` from it.
    #[schemars(required)]
    pub(super) direction: Option<Direction>,
    /// Which protocol.
    #[schemars(required)]
    pub(super) protocol: Option<Protocol>,
    /// A port or a range. For `tcp` and `udp` it must be there; others have none.
    #[schemars(extend("examples" = ["22", "8000-8999"]))]
    pub(super) port: Option<String>,
    /// Networks in CIDR notation: where traffic may come from, or go to.
    #[schemars(required, length(min = 1), extend("examples" = [["0.0.0.0/0", "::/0"]]))]
    pub(super) networks: Option<Vec<String>>,
}

/// A protocol of the internet layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP: ping and the like.
    Icmp,
    /// Encapsulating security payload.
    Esp,
    /// Generic routing encapsulation.
    Gre,
}

/// A private network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Network")]
pub(super) struct RawNetwork {
    /// The provider that keeps it.
    #[schemars(required)]
    pub(super) provider: Option<String>,
    /// All its addresses, in CIDR notation.
    #[schemars(required, extend("examples" = ["10.0.0.0/16"]))]
    pub(super) ip_range: Option<String>,
    /// Its subnets.
    #[schemars(required, length(min = 1))]
    pub(super) subnets: Option<Vec<RawSubnet>>,
}

/// A part of a network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Subnet")]
pub(super) struct RawSubnet {
    /// Its addresses, within the network's.
    #[schemars(required, extend("examples" = ["10.0.1.0/24"]))]
    pub(super) ip_range: Option<String>,
    /// The cloud's zone.
    #[schemars(required, extend("examples" = ["eu-central"]))]
    pub(super) zone: Option<String>,
}

/// What `runfleet watch` tells of itself over HTTP: `/healthz`, `/readyz` and `/metrics`. Read when it starts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Watch")]
pub(super) struct RawWatch {
    /// The address and port that it listens on; `--listen` goes before it. Without: nowhere. An address that others reach needs `secret`.
    #[schemars(extend("examples" = ["127.0.0.1:9090", "0.0.0.0:9090"]))]
    pub(super) listen: Option<String>,
    /// What a reader sends as a bearer token. The metrics are told to nobody else; `/healthz` and `/readyz` answer others with one word.
    pub(super) secret: Option<SecretRef>,
}

/// What refuses a plan.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Guard")]
pub(super) struct RawGuard {
    /// At most so many machines deleted by one plan: a number, or a share of those on record. `destroy` is not asked. Without: no limit.
    pub(super) max_delete: Option<RawShare>,
}

/// A number, or a share of a whole.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Share", extend("x-hint" = "write a number (5) or a share (\"25%\")"))]
pub(super) enum RawShare {
    /// So many.
    Number(u32),
    /// So many of a hundred, at least one.
    Percent(String),
}

/// Something that had another name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Moved")]
pub(super) struct RawMoved {
    /// What it was: its table's name in an earlier version of this file.
    #[schemars(required, extend("examples" = ["pools.linux", "firewalls.default"]))]
    pub(super) from: Option<String>,
    /// What it is now.
    #[schemars(required, extend("examples" = ["pools.docker"]))]
    pub(super) to: Option<String>,
}

/// A pool: interchangeable runners that serve the same jobs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pool")]
pub(super) struct RawPool {
    /// The CI system that it serves, by its name under `[ci]`.
    #[schemars(required)]
    pub(super) ci: Option<String>,
    /// Whether it is acted on.
    #[serde(default)]
    pub(super) mode: Mode,
    /// The tags that its runners have: a job fits when all of its tags are among these.
    #[serde(default)]
    #[schemars(extend("examples" = [["docker", "linux"]]))]
    pub(super) tags: Vec<String>,
    /// Whether it takes jobs without tags, too.
    #[serde(default)]
    pub(super) run_untagged: bool,
    /// How many jobs a machine runs at once.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub(super) jobs_per_runner: u32,
    /// Never fewer machines.
    #[serde(default)]
    pub(super) min: u32,
    /// Never more machines.
    #[schemars(required, extend("examples" = [20]))]
    pub(super) max: Option<u32>,
    /// At most this many machines made in one tick, those still booting counted. Without: no limit.
    #[schemars(range(min = 1))]
    pub(super) burst: Option<u32>,
    /// How its size is computed.
    #[serde(default)]
    pub(super) policy: RawPolicy,
    /// A machine that the CI has not heard from for this long after its creation has failed.
    #[serde(default = "ready_timeout")]
    pub(super) ready_timeout: DurationText,
    /// Where machines are billed by the second, an idle one goes after this long.
    #[serde(default = "idle_timeout")]
    pub(super) idle_timeout: DurationText,
    /// The template of its machines' user data, relative to the project's folder. Without: the one of its CI's kind (`cloud-init/gitlab-runner.yaml.tera`).
    pub(super) cloud_init: Option<String>,
    /// Values for the template, of your choice. No secrets: they would stand in the machine's user data.
    #[serde(default)]
    pub(super) vars: serde_json::Map<String, Value>,
    /// Login keys for its machines, by their names under `[ssh_keys]`.
    #[serde(default)]
    pub(super) ssh_keys: Vec<String>,
    /// Firewalls for its machines, by their names under `[firewalls]`.
    #[serde(default)]
    pub(super) firewalls: Vec<String>,
    /// Private networks for its machines, by their names under `[networks]`.
    #[serde(default)]
    pub(super) networks: Vec<String>,
    /// How its machines are kept apart: `true` or `"hosts"` on different hosts, in placement groups that are made for it, as many as needed; `"locations"` in the locations of one priority, each new one where the fewest are.
    #[serde(default)]
    pub(super) spread: RawSpread,
    /// A machine older than this leaves as soon as it is idle, and another takes its place. Without: no limit.
    pub(super) max_age: Option<DurationText>,
    /// A machine that has run so many jobs leaves as soon as it is idle. Jobs are counted in the history: where that is lost, counting begins anew. Without: no limit.
    #[schemars(range(min = 1))]
    pub(super) max_jobs: Option<u32>,
    /// Whether no machine of it is ever deleted: not by a smaller target, not by a roll, not by `destroy`.
    #[serde(default)]
    pub(super) protect: bool,
    /// What may differ from this file without machines being made anew.
    #[serde(default)]
    #[schemars(extend("examples" = [["image"]]))]
    pub(super) ignore_changes: Vec<Part>,
    /// How many outdated machines leave at a time when template, image or offering change: a number, or a share of the pool's machines. `0` leaves them until they go for another reason.
    #[serde(default = "roll")]
    pub(super) roll: RawShare,
    /// Whether its runners take only jobs of protected branches and tags.
    #[serde(default)]
    pub(super) protected_refs: bool,
    /// What all machines of the pool join with: at GitLab the authentication token of a runner that exists already (without: each machine has a runner of its own), at Drone the server's RPC secret, at CircleCI the token of the resource class. A group's machines have it from their launch template.
    pub(super) runner_token: Option<SecretRef>,
    /// `step`: what adds and removes machines.
    #[serde(default)]
    pub(super) steps: Vec<RawStep>,
    /// What must answer on a machine before it counts as ready, where the pool's source is `prometheus`. Without: its metrics.
    pub(super) health: Option<RawHealth>,
    /// What is called when something happens to its machines.
    #[serde(default)]
    pub(super) hooks: Vec<RawHook>,
    /// By what offerings of one priority are compared: `work` is the price per job where that is learnt for all of them, else per virtual processor; `price` that of a machine.
    #[serde(default)]
    pub(super) order: Order,
    /// What it may buy, in the order of preference at equal price. Must be there unless `group` is.
    #[schemars(length(min = 1))]
    pub(super) offerings: Option<Vec<RawOffering>>,
    /// The Auto Scaling group whose members are its machines, in place of `offerings`.
    pub(super) group: Option<RawGroup>,
    /// `ecs`, `kubernetes`: the template of what runs, relative to the project's folder: a task definition, a pod template. In place of `cloud_init`; on Kubernetes an offering's `cronjob` may stand for it.
    #[schemars(extend("examples" = ["templates/ecs/azure-devops-agent.json.tera"]))]
    pub(super) task: Option<String>,
    /// `kubernetes`: every suspended CronJob with the label `resource-class-org`, in place of a template: each is a pool of its own, like this one, named after its label `resource-class-name`, with `ORG/NAME` as its only tag.
    pub(super) discover: Option<RawCronJobs>,
    /// `azure-devops`: the agent pool whose jobs it takes, by its name or its id.
    #[schemars(extend("examples" = ["Default"]))]
    pub(super) agent_pool: Option<String>,
    /// `azure-devops`: what its agents say that they can, by name: a job's demands are matched against these, and against its tags, which count as capabilities without a value.
    #[serde(default)]
    #[schemars(extend("examples" = [{"Agent.OS": "Linux", "docker": "/usr/bin/docker"}]))]
    pub(super) capabilities: BTreeMap<String, String>,
}

/// An Auto Scaling group, by its name or by a tag. It stays somebody else's: only its size is set, within its own limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Group",
    extend("x-hint" = "write group = { provider = \"asg\", name = \"drone-agents\" }")
)]
pub(super) struct RawGroup {
    /// The provider of kind `asg` that has it, by its name under `[providers]`.
    #[schemars(required, extend("examples" = ["asg"]))]
    pub(super) provider: Option<String>,
    /// The group's name.
    #[schemars(extend("examples" = ["drone-agents"]))]
    pub(super) name: Option<String>,
    /// Every group with this tag, in place of a name: each is a pool of its own, like this one, named after what follows the slash in the tag's value, with that value as its only tag; one that goes takes its pool with it.
    pub(super) discover: Option<RawDiscover>,
    /// How a member leaves: `terminate` within the group, or `detach` first.
    #[serde(default)]
    pub(super) leave: Leave,
    /// What the runner on a member is called by its CI: `id` is the instance's, `hostname` the machine's own (`ip-10-0-0-5`), which a runner takes that is told no name.
    #[serde(default)]
    pub(super) runner: RunnerNaming,
}

/// Suspended CronJobs by their labels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CronJobs")]
pub(super) struct RawCronJobs {
    /// The value of their label `resource-class-org`.
    #[schemars(required, extend("examples" = ["acme"]))]
    pub(super) org: Option<String>,
}

/// Groups by a tag whose value is `NAMESPACE/NAME`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Discover")]
pub(super) struct RawDiscover {
    /// The tag's key.
    #[serde(default = "resource_class")]
    pub(super) tag: String,
    /// What stands before the slash of its value.
    #[schemars(required, extend("examples" = ["acme"]))]
    pub(super) namespace: Option<String>,
}

/// The name of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PolicyName {
    /// `clamp(ceil((queued + running) / jobs_per_runner) + idle, min, max)`
    #[default]
    Queue,
    /// That of Shuttl's drone-autoscaler, its mistakes mended: while builds wait, what serves and what they need beside its free slots; while none waits, the machines that work.
    DroneAutoscaler,
    /// That of vela-games' circleci-runner-autoscaler, its mistakes mended: what serves, and one for each task that nobody has claimed and no booting machine is for; never fewer.
    AsgIncrement,
    /// That of the Step Functions machine that ran Azure DevOps's agents on Fargate, its mistakes mended: what serves, and as many more as jobs wait beyond the agents that are free or booting; or as many fewer as are free beyond the jobs that wait.
    AdoDelta,
    /// Adds or removes machines while the conditions of a step hold. Its `steps` stand in the pool.
    Step,
}

impl PolicyName {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::DroneAutoscaler => "drone-autoscaler",
            Self::AsgIncrement => "asg-increment",
            Self::AdoDelta => "ado-delta",
            Self::Step => "step",
        }
    }
}

/// Whether machines are kept apart, or over what.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(
    rename = "Spread",
    extend("x-hint" = "write spread = true, \"hosts\" or \"locations\"")
)]
pub(super) enum RawSpread {
    /// On different hosts, or not at all.
    Switch(bool),
    /// Over these.
    Over(SpreadOver),
}

impl Default for RawSpread {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl RawSpread {
    /// What it means.
    pub(super) fn spread(self) -> Spread {
        match self {
            Self::Switch(false) => Spread::No,
            Self::Switch(true) | Self::Over(SpreadOver::Hosts) => Spread::Hosts,
            Self::Over(SpreadOver::Locations) => Spread::Locations,
        }
    }
}

/// Over what machines are spread.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SpreadOver {
    /// Hosts, by placement groups.
    Hosts,
    /// Locations.
    Locations,
}

/// A policy by its name, or with its settings.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Policy", extend("x-hint" = "write policy = \"queue\" or policy = { kind = \"queue\", idle = 1 }"))]
pub(super) enum RawPolicy {
    /// With its usual settings.
    Name(PolicyName),
    /// With these.
    Table(PolicyTable),
}

impl Default for RawPolicy {
    fn default() -> Self {
        Self::Name(PolicyName::Queue)
    }
}

/// A policy with its settings.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyTable {
    /// Which policy.
    #[schemars(required, extend("examples" = ["queue"]))]
    pub(super) kind: Option<PolicyName>,
    /// `queue`: machines kept ready besides those that work.
    #[serde(default)]
    pub(super) idle: u32,
    /// `drone-autoscaler`: an idle machine younger than this stays. Without: `10m`.
    pub(super) min_age: Option<DurationText>,
    /// `step`: after a step acted, none of the same direction acts for so long. Without: `5m`.
    pub(super) cooldown: Option<DurationText>,
    /// `step`: after a step acted, none of the other direction acts for so long. Without: twice `cooldown`.
    pub(super) hysteresis: Option<DurationText>,
}

/// A machine type in some locations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Offering")]
pub(super) struct RawOffering {
    /// The provider that sells it, by its name under `[providers]`.
    #[schemars(required)]
    pub(super) provider: Option<String>,
    /// The machine type.
    #[serde(rename = "type")]
    #[schemars(required, extend("examples" = ["cx33"]))]
    pub(super) machine_type: Option<String>,
    /// Where, in the order of preference at equal price. Without: everywhere that sells it.
    #[serde(default)]
    #[schemars(extend("examples" = [["nbg1", "fsn1"]]))]
    pub(super) locations: Vec<String>,
    /// What it boots: an image by name, by id, or the newest that has some labels; at `ec2` an AMI by id, the newest of an owner, or a parameter of Systems Manager. May be left out only where a launch template says it.
    pub(super) image: Option<RawImage>,
    /// Whether it gets a public IPv4 address, which costs something.
    #[serde(default = "yes")]
    pub(super) public_ipv4: bool,
    /// Offerings of a lower number are bought first, whatever they cost; those of a higher one only while no lower one can be had.
    #[serde(default)]
    pub(super) priority: u32,
    /// How it is bought.
    #[serde(default)]
    pub(super) market: Market,
    /// `ec2`: a launch template by its name or id, whose values hold where nothing else is said.
    #[schemars(extend("examples" = ["ci-runner", "lt-0a1b2c3d"]))]
    pub(super) launch_template: Option<String>,
    /// `ec2`: the launch template's version. Without: its default one.
    #[schemars(extend("examples" = ["3", "$Latest"]))]
    pub(super) template_version: Option<String>,
    /// `ec2`: subnets by id; the first in the location's zone is taken. Without: the launch template's, or the zone's default one. `ecs`: those that tasks have an address in, at least one; Fargate takes any of them.
    #[serde(default)]
    #[schemars(extend("examples" = [["subnet-0a1b2c3d"]]))]
    pub(super) subnets: Vec<String>,
    /// `ec2`: security groups by id that exist already, besides those that are made for `firewalls`. `ecs`: those of its tasks; without: the VPC's default one.
    #[serde(default)]
    #[schemars(extend("examples" = [["sg-0a1b2c3d"]]))]
    pub(super) security_groups: Vec<String>,
    /// `ec2`: an instance profile by its name or ARN.
    pub(super) instance_profile: Option<String>,
    /// `ec2`: the size of the root volume in GiB; it is a gp3 volume, and encrypted. Without: the image's size.
    #[schemars(range(min = 1, max = 16384))]
    pub(super) root_gib: Option<u32>,
    /// `ec2` with `market = "spot"`: the most that an hour may cost. Without: the on-demand price.
    pub(super) max_price: Option<MoneyText>,
    /// `ecs`: Fargate's platform version. Without: `LATEST`.
    #[schemars(extend("examples" = ["1.4.0"]))]
    pub(super) platform_version: Option<String>,
    /// `kubernetes`: the suspended CronJob whose Job template is taken, in place of the pool's `task`.
    #[schemars(extend("examples" = ["runner-linux"]))]
    pub(super) cronjob: Option<String>,
    /// `kubernetes`: how long a Job that ended is kept. Without: `10m`.
    pub(super) ttl: Option<DurationText>,
    /// `kubernetes`: the longest that a Job may run, its jobs included; the cluster ends it then, busy or not. Without: for ever.
    #[schemars(extend("examples" = ["6h"]))]
    pub(super) deadline: Option<DurationText>,
    /// `kubernetes`: labels that a node must have.
    #[serde(default)]
    #[schemars(extend("examples" = [{"kubernetes.io/arch": "amd64"}]))]
    pub(super) node_selector: BTreeMap<String, String>,
    /// `kubernetes`: taints that its pods put up with, in Kubernetes's words.
    #[serde(default)]
    #[schemars(extend("examples" = [[{"key": "ci", "operator": "Exists", "effect": "NoSchedule"}]]))]
    pub(super) tolerations: Vec<Toleration>,
    /// `kubernetes`: processors that the first container asks for and is held to.
    #[schemars(extend("examples" = ["500m", "2"]))]
    pub(super) cpu: Option<String>,
    /// `kubernetes`: memory that the first container asks for and is held to.
    #[schemars(extend("examples" = ["512Mi", "4Gi"]))]
    pub(super) memory: Option<String>,
    /// `kubernetes`: what an hour of it costs, for budgets and for comparing. Without: nothing.
    #[schemars(extend("examples" = ["0.02 EUR"]))]
    pub(super) price: Option<MoneyText>,
}

/// An image.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(
    rename = "Image",
    extend("x-hint" = "write image = \"debian-12\", image = 12345 or image = { selector = \"role=runner\", newest = true }; at ec2 \"ami-0a1b2c3d\", { owner = \"136693071363\", name = \"debian-12-amd64-*\" } or { ssm = \"/path\" }")
)]
pub(super) enum RawImage {
    /// By its name.
    Name(String),
    /// By its id.
    Id(u64),
    /// The newest that has these labels.
    Newest(RawImageSelector),
}

/// An image by what is known of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ImageSelector")]
pub(super) struct RawImageSelector {
    /// Labels as the provider's selector has them.
    #[schemars(extend("examples" = ["role=runner"]))]
    pub(super) selector: Option<String>,
    /// `ec2`: whose AMI: an account's number, `self` or `amazon`.
    #[schemars(extend("examples" = ["136693071363", "self"]))]
    pub(super) owner: Option<String>,
    /// `ec2`: its name, with `*` and `?`.
    #[schemars(extend("examples" = ["debian-12-amd64-*"]))]
    pub(super) name: Option<String>,
    /// `ec2`: a parameter of Systems Manager that holds its id.
    #[schemars(extend("examples" = ["/aws/service/debian/release/12/latest/amd64"]))]
    pub(super) ssm: Option<String>,
    /// Of those that match, the newest; there is no other way yet.
    #[serde(default = "yes")]
    pub(super) newest: bool,
}

/// The sandbox that runs in the same process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sandbox")]
pub(super) struct RawSandbox {
    /// Settings as `runfleet sandbox --set KEY=VALUE` takes them.
    #[serde(default)]
    #[schemars(extend("examples" = [{"speed": "60", "boot": "20s"}]))]
    pub(super) settings: BTreeMap<String, RawSetting>,
    /// What a new world begins with, as a scenario file of `runfleet sandbox` has it: projects, jobs, images, tokens.
    #[serde(default)]
    pub(super) scenario: serde_json::Map<String, Value>,
}

/// A setting's value; a number or a switch may be written without quotes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Setting")]
pub(super) enum RawSetting {
    /// As text.
    Text(String),
    /// As a switch.
    Switch(bool),
    /// As a whole number.
    Integer(i64),
    /// As a number.
    Number(f64),
}

fn interval() -> DurationText {
    DurationText("3m".to_owned())
}

fn settle() -> DurationText {
    DurationText("5s".to_owned())
}

fn thirty_seconds() -> DurationText {
    DurationText("30s".to_owned())
}

fn keep_states() -> u32 {
    10
}

fn roll() -> RawShare {
    RawShare::Number(1)
}

fn ready_timeout() -> DurationText {
    DurationText("15m".to_owned())
}

fn idle_timeout() -> DurationText {
    DurationText("5m".to_owned())
}

fn resource_class() -> String {
    "resource-class".to_owned()
}

fn concurrency() -> u32 {
    10
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}
