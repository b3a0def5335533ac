//! The stack file that settings come to.

use super::{Settings, TOKEN};
use crate::stack::from::{aws, quoted};

pub(super) fn written(name: &str, settings: &Settings) -> String {
    format!(
        r#"# The stack `{shown}`, made by `runfleet init --from circleci-runner-autoscaler`.
# What differs from the program that it replaces: docs/migrating/circleci-runner-autoscaler.md. Before the first tick:
#
#     export {TOKEN}=…      # the one that it has now: CircleCI, a personal API token of a member of the namespace
#     runfleet -s {shown} validate --online
#     runfleet -s {shown} plan
#
# Two programs must never set the size of one group: that page says how to hand over.{where_it_runs}

[stack]
name     = {name}
interval = "5s"                 # as often as it asked; tick it as often, or more slowly

{aws}{cluster}
[ci.circleci]
token = {{ env = "{TOKEN}" }}
# api = "v2"                    # what it asked; v3 is the one that CircleCI documents

[pools.runners]                 # each group that is found is a pool like this one, named after its resource class
ci              = "circleci"
mode            = "act"         # "advise" plans and reports, and changes nothing
jobs_per_runner = 1             # a runner takes one task at a time
min             = 0
max             = 100           # it went by each group's own MaxSize, which bounds this one too
ready_timeout   = "15m"         # as long as it waited for runners to show up
policy          = "asg-increment"       # never fewer: runners leave by their own idle time-out
group           = {{ provider = "asg", discover = {{ tag = "resource-class", namespace = {namespace} }} }}
{jobs}"#,
        shown = name.escape_debug(),
        name = quoted(name),
        aws = aws(settings.region.as_deref(), settings.profile.as_deref()),
        namespace = quoted(&settings.namespace),
        where_it_runs = if settings.cluster.is_some() {
            IN_CLUSTER
        } else {
            ""
        },
        cluster = settings.cluster.as_deref().map(cluster).unwrap_or_default(),
        jobs = settings
            .cluster
            .as_ref()
            .map(|_| jobs(settings))
            .unwrap_or_default(),
    )
}

/// Where what makes Jobs by a service account runs.
const IN_CLUSTER: &str = "
# It runs in the cluster, as that program did: docs/guides/in-kubernetes.md. From elsewhere, take `in_cluster` out.";

/// The cluster's table.
fn cluster(namespace: &str) -> String {
    format!(
        r#"
[providers.cluster]             # let in by the service account of its pod: packaging/kubernetes/ has all the rights it needs
kind       = "kubernetes"
namespace  = {}
in_cluster = true
"#,
        quoted(namespace)
    )
}

/// The pool of CronJobs.
fn jobs(settings: &Settings) -> String {
    format!(
        r#"
[pools.jobs]                    # each suspended CronJob that is found is a pool like this one, named after its resource class
ci              = "circleci"
mode            = "act"
jobs_per_runner = 1
min             = 0
max             = 100           # it had none
policy          = "asg-increment"       # never fewer: a Job ends with its runner
discover        = {{ org = {} }}

[[pools.jobs.offerings]]
provider = "cluster"
type     = "job"
# price  = "0.02 EUR"           # what an hour of one costs, for budgets
"#,
        quoted(&settings.namespace)
    )
}
