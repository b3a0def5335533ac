//! The stack file that settings come to.

use std::fmt::Write as _;

use super::{Settings, TOKEN};
use crate::stack::from::{aws, go, quoted};

pub(super) fn written(name: &str, settings: &Settings) -> String {
    let shown = name.escape_debug();
    let mut limits = String::new();
    for (key, limit, what) in [
        ("pending_max", settings.pending_max, "waited"),
        ("running_max", settings.running_max, "run"),
    ] {
        if let Some(limit) = limit {
            let value = format!("\"{}\"", go::written(limit));
            let _ = writeln!(
                limits,
                "{key} = {value:<15} # a build that has {what} for longer is no demand"
            );
        }
    }
    let (mode, why) = if settings.dry {
        (
            "advise",
            "SCALER_DRY: plans and reports, and changes nothing; \"act\" lets it",
        )
    } else {
        ("act", "\"advise\" plans and reports, and changes nothing")
    };
    format!(
        r#"# The stack `{shown}`, made by `runfleet init --from drone-autoscaler`.
# What differs from the program that it replaces: docs/migrating/drone-autoscaler.md. Before the first tick:
#
#     export {TOKEN}=…      # the one that it has now: an administrator's of the Drone server
#     runfleet -s {shown} validate --online
#     runfleet -s {shown} plan
#
# Two programs must never set the size of one group: that page says how to hand over.

[stack]
name     = {name}
interval = "{interval}"                # SCALER_PROBE_INTERVAL: tick it as often

{aws}
[ci.drone]
url         = {url}
token       = {{ env = "{TOKEN}" }}
{limits}
[pools.agents]
ci              = "drone"
mode            = "{mode}"         # {why}
run_untagged    = true          # every build counts; tags = ["os=linux", "arch=amd64"] would count what its agents are given
jobs_per_runner = {builds}             # DRONE_AGENT_MAX_BUILDS
min             = {min}             # DRONE_AGENT_MIN_COUNT
max             = {max}           # it had none, and went by the group's own MaxSize at best: that bounds this one too
idle_timeout    = "0s"          # it went by age alone
policy          = {{ kind = "drone-autoscaler", min_age = "{min_age}" }}   # or "queue": see stacks/drone-asg.toml
group           = {{ provider = "asg", name = {group} }}
"#,
        name = quoted(name),
        interval = go::written(settings.interval),
        aws = aws(settings.region.as_deref(), settings.profile.as_deref()),
        url = quoted(&settings.url),
        builds = settings.builds,
        min = settings.min,
        max = settings.max,
        min_age = go::written(settings.min_age),
        group = quoted(&settings.group),
    )
}
