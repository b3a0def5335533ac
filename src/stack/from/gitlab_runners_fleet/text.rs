//! The stack file that settings come to.

use super::Settings;
use crate::stack::from::{go, quoted};

pub(super) fn written(name: &str, settings: &Settings) -> String {
    let shown = name.escape_debug();
    let url = settings
        .url
        .as_deref()
        .map(|url| format!("url   = {}\n", quoted(url)))
        .unwrap_or_default();
    let max_age = settings.max_age.map(|age| {
        format!(
            "max_age         = \"{}\"            # an older machine leaves when it is idle\n",
            go::written(age)
        )
    });
    format!(
        r#"# The stack `{shown}`, made by `runfleet init --from gitlab-runners-fleet`.
# What differs from the fleet that it replaces: docs/migrating/gitlab-runners-fleet.md. Before the first tick:
#
#     export HCLOUD_TOKEN=…         # console.hetzner.com, your project, Security, API tokens: read and write
#     export {token_env}=…
#     runfleet -s {shown} validate --online
#     runfleet -s {shown} plan

[stack]
name     = {name}
interval = "1m"                 # as often as the fleet's loop; tick it as often

[providers.hetzner]
token = {{ env = "HCLOUD_TOKEN" }}

[ci.gitlab]
{url}token = {{ env = {token} }}
# Without `projects` or `groups`: every project that the token's user maintains, as the fleet did.

[pools.fleet]
ci              = "gitlab"
tags            = [{tag}]
run_untagged    = true          # the fleet counted every pending job, tagged or not
jobs_per_runner = {jobs}
min             = {min}
max             = {max}
burst           = {grow}             # machines that boot at a time
ready_timeout   = "{provision}"         # a machine that has not shown up by then is replaced
{max_age}idle_timeout    = "{idle}"         # only where billed by the second: at Hetzner an idle machine stays until its paid hour ends
policy          = "queue"

[[pools.fleet.offerings]]       # what to buy: no key of the fleet's says it
provider  = "hetzner"
type      = "cx23"
locations = ["nbg1", "fsn1", "hel1"]
image     = "debian-12"
"#,
        token_env = settings.token_env.escape_debug(),
        name = quoted(name),
        token = quoted(&settings.token_env),
        tag = quoted(&settings.tag),
        jobs = settings.jobs,
        min = settings.min,
        max = settings.max,
        grow = settings.grow,
        provision = go::written(settings.provision),
        max_age = max_age.unwrap_or_default(),
        idle = go::written(settings.idle),
    )
}
