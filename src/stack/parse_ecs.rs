//! Checks of ECS's own words: clusters, log groups, sizes, subnets.
//!
//! The shapes are those of Amazon's API references (`CreateCluster`, `CreateLogGroup`, `AwsVpcConfiguration`). Which sizes there
//! are is the provider's to say (`validate --online`): here only what can be none is told.

use super::{
    StackProblem,
    parse::{Check, dotted},
    parse_aws::is_region,
    raw::{RawOffering, RawProvider},
};

/// The longest names of a cluster and of a log group.
const CLUSTER_MAX: usize = 255;
const LOG_GROUP_MAX: usize = 512;
/// How many subnets and security groups a task may have.
const SUBNETS: usize = 16;
const SECURITY_GROUPS: usize = 5;

impl Check<'_> {
    /// The words of a provider.
    pub(super) fn ecs_home(&mut self, path: &[&str; 2], raw: &RawProvider) {
        let [table, name] = *path;
        if let Some(cluster) = raw
            .cluster
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if cluster.len() > CLUSTER_MAX || !cluster.chars().all(fits) {
                let help = match cluster.rsplit_once("cluster/") {
                    Some((_, short)) => format!("write its name alone: \"{short}\""),
                    None => "a name has letters, digits, `-` and `_`: \"ci\"".to_owned(),
                };
                let what = format!("\"{cluster}\" is no name of a cluster");
                self.bad(&[table, name, "cluster"], what, "not a name", help);
            }
        }
        if let Some(group) = &raw.log_group {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '#');
            if group.is_empty() || group.len() > LOG_GROUP_MAX || !group.chars().all(fits) {
                let what = format!("\"{group}\" is no name of a log group");
                let help = "a name has letters, digits, `_`, `-`, `/`, `.` and `#`: \"/runfleet/ci\"";
                self.bad(&[table, name, "log_group"], what, "not a name", help);
            }
        }
    }

    /// The words of one offering.
    pub(super) fn ecs_words(&mut self, offering: &[&str; 4], raw: &RawOffering) {
        self.task_network(offering, raw);
        if let Some(size) = &raw.machine_type {
            let path = [&offering[..], &["type"]].concat();
            let text = size.strip_suffix("-arm64").unwrap_or(size);
            let number = |text: &str, unit: &str| {
                let number = text.strip_suffix(unit)?;
                (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
                    .then_some(())
            };
            let parts = text.split_once('-');
            if parts
                .and_then(|(cpu, memory)| number(cpu, "vcpu").and(number(memory, "gb")))
                .is_none()
            {
                let what = format!("\"{size}\" is no size of a task");
                let help =
                    "write processors and memory: \"0.25vcpu-0.5gb\", \"2vcpu-4gb\", \"2vcpu-4gb-arm64\"";
                self.bad(&path, what, "not a size", help);
            }
        }
        if let Some(version) = &raw.platform_version {
            let numbers: Vec<&str> = version.split('.').collect();
            let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if version != "LATEST" && !(numbers.len() == 3 && numbers.iter().all(number)) {
                let path = [&offering[..], &["platform_version"]].concat();
                let what = format!("\"{version}\" is no version of Fargate's platform");
                self.bad(
                    &path,
                    what,
                    "not a version",
                    "write \"1.4.0\", or take it out for the latest",
                );
            }
        }
        for (at, location) in raw.locations.iter().enumerate() {
            if !is_region(location) {
                let at = at.to_string();
                let path = [&offering[..], &["locations", at.as_str()]].concat();
                let what = format!("\"{location}\" is no region");
                let help = "take `locations` out: a provider is in one region, and the subnets say in which zones tasks run";
                self.bad(&path, what, "not a region", help);
            }
        }
    }

    /// Subnets and security groups.
    fn task_network(&mut self, offering: &[&str; 4], raw: &RawOffering) {
        if raw.subnets.is_empty() && self.untouched(&[&offering[..], &["subnets"]].concat()) {
            self.report(
                StackProblem::new(
                    "stack::missing_key",
                    self.span(offering),
                    format!("missing key `subnets` in `{}`", dotted(offering)),
                    "needs `subnets`",
                )
                .help("a task of Fargate has an address in a subnet: add subnets = [\"subnet-0a1b2c3d\"]"),
            );
        }
        self.ids(offering, "subnets", &raw.subnets, "subnet-");
        self.ids(offering, "security_groups", &raw.security_groups, "sg-");
        for (key, ids, most) in [
            ("subnets", &raw.subnets, SUBNETS),
            ("security_groups", &raw.security_groups, SECURITY_GROUPS),
        ] {
            if ids.len() > most {
                let path = [&offering[..], &[key]].concat();
                let what = format!(
                    "`{}` names {}, and a task has {most} at most",
                    dotted(&path),
                    ids.len()
                );
                self.bad(&path, what, "too many", format!("leave {most} of them"));
            }
        }
    }
}
