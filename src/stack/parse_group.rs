//! Checks of where a pool's machines come from, and of what a pool must say for its kind of CI.

use std::collections::BTreeMap;

use super::{
    CiConfig, CiKind, GroupChoice, GroupSelector, OfferingChoice, Pool, ProviderConfig, ProviderKind,
    StackProblem,
    parse::{Check, Declared, dotted},
    raw::{RawDiscover, RawGroup, RawPool},
};
use crate::model::ids::ProviderName;

/// The keys of a pool that say how machines are made, which a group's launch template says for its members.
const MADE_BY_US: [&str; 11] = [
    "burst",
    "cloud_init",
    "vars",
    "ssh_keys",
    "firewalls",
    "networks",
    "spread",
    "max_age",
    "roll",
    "ignore_changes",
    "runner_token",
];

impl Check<'_> {
    /// Whether it is said, and said once, where a pool's machines come from.
    pub(super) fn machines_from(&mut self, pool: &str, raw: &RawPool) -> bool {
        let offerings = ["pools", pool, "offerings"];
        let group = ["pools", pool, "group"];
        match (self.written(&offerings), self.written(&group)) {
            (true, true) => {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.key_span(&group),
                    format!("the pool `{pool}` has a group, and offerings too"),
                    "its machines are the group's members",
                )
                .also(self.span(&offerings), "these are machines of its own")
                .help("take one of the two out");
                self.report(problem);
                false
            }
            (false, false) => {
                let problem = StackProblem::new(
                    "stack::missing_key",
                    self.span(&["pools", pool]),
                    format!("missing key `offerings` in `pools.{pool}`"),
                    "needs `offerings`, or a `group`",
                )
                .help(format!("say what it may buy: [[pools.{pool}.offerings]]"));
                self.report(problem);
                false
            }
            (false, true) => {
                self.only_for(
                    &["pools", pool],
                    "a group",
                    &MADE_BY_US,
                    "machines that are made by us",
                );
                raw.group.is_some()
            }
            (true, false) => raw.offerings.is_some(),
        }
    }

    /// The group that a pool's machines are members of.
    pub(super) fn group(
        &mut self,
        pool: &str,
        raw: RawGroup,
        providers: &BTreeMap<ProviderName, ProviderConfig>,
        ci: Option<&CiConfig>,
    ) -> Option<GroupChoice> {
        let at = ["pools", pool, "group", "provider"];
        let provider = raw.provider.map(ProviderName::from);
        if let Some(provider) = &provider {
            self.reference(&at, provider.as_str(), Declared::Providers);
            match providers.get(provider) {
                Some(config) if config.kind != ProviderKind::Asg => {
                    let what = format!(
                        "`{}` names a provider of kind {}",
                        dotted(&at),
                        config.kind.as_str()
                    );
                    self.bad(&at, what, "has no groups", "name one of kind \"asg\"");
                }
                Some(config) => {
                    if let Some(ci) = ci {
                        self.same_world(&at, pool, config, ci);
                    }
                }
                None => {}
            }
        }
        let which = self.which(pool, raw.name, raw.discover)?;
        Some(GroupChoice {
            provider: provider?,
            which,
            leave: raw.leave,
            runner: raw.runner,
        })
    }

    fn which(
        &mut self,
        pool: &str,
        name: Option<String>,
        discover: Option<RawDiscover>,
    ) -> Option<GroupSelector> {
        let path = ["pools", pool, "group"];
        let name_path = ["pools", pool, "group", "name"];
        let discover_path = ["pools", pool, "group", "discover"];
        match (self.written(&name_path), self.written(&discover_path)) {
            (true, true) => {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.key_span(&discover_path),
                    format!("`{}` names a group, and discovers groups too", dotted(&path)),
                    "these are found by a tag",
                )
                .also(self.span(&name_path), "this is one by its name")
                .help("take one of the two out");
                self.report(problem);
                None
            }
            (false, false) => {
                let problem = StackProblem::new(
                    "stack::missing_key",
                    self.span(&path),
                    format!("`{}` does not say which group", dotted(&path)),
                    "needs `name` or `discover`",
                )
                .help("add name = \"drone-agents\", or discover = { namespace = \"acme\" }");
                self.report(problem);
                None
            }
            (true, false) => {
                let name = name?;
                if name.trim().is_empty() {
                    let what = format!("`{}` must not be empty", dotted(&name_path));
                    self.bad(&name_path, what, "empty", "write the group's name");
                    return None;
                }
                Some(GroupSelector::Named(name))
            }
            (false, true) => self.discover(&discover_path, discover?),
        }
    }

    fn discover(&mut self, path: &[&str; 4], raw: RawDiscover) -> Option<GroupSelector> {
        let mut good = true;
        if raw.tag.trim().is_empty() {
            let path = [&path[..], &["tag"]].concat();
            let what = format!("`{}` must not be empty", dotted(&path));
            self.bad(
                &path,
                what,
                "empty",
                "write the tag's key, or take `tag` out: \"resource-class\"",
            );
            good = false;
        }
        let namespace = raw.namespace?;
        if namespace.is_empty() || namespace.contains(['/', ' ']) {
            let path = [&path[..], &["namespace"]].concat();
            let what = format!("`{}` cannot be \"{namespace}\"", dotted(&path));
            let help = match namespace.split_once('/') {
                Some((first, _)) if !first.is_empty() => {
                    format!("write what stands before the slash of the tag's value: \"{first}\"")
                }
                _ => "write what stands before the slash of the tag's value: \"acme\"".to_owned(),
            };
            self.bad(&path, what, "not a namespace", help);
            good = false;
        }
        good.then_some(GroupSelector::Tagged {
            key: raw.tag,
            namespace,
        })
    }

    /// What a pool must say for its kind of CI.
    pub(super) fn pool_of_ci(
        &mut self,
        pool: &str,
        raw: &RawPool,
        group: Option<&GroupChoice>,
        offerings: &[OfferingChoice],
        ci: &CiConfig,
    ) {
        let path = ["pools", pool];
        self.agent_keys(pool, ci);
        let groups = group.is_some_and(|group| matches!(group.which, GroupSelector::Tagged { .. }));
        let discovers = groups || raw.discover.is_some();
        match ci.kind {
            CiKind::Gitlab => {
                if group.is_some() {
                    let problem = StackProblem::new(
                        "stack::contradiction",
                        self.key_span(&["pools", pool, "group"]),
                        format!("the pool `{pool}` has a group, and serves GitLab"),
                        "its members could not register",
                    )
                    .help("GitLab knows a machine by a registration of its own: let the pool have offerings");
                    self.report(problem);
                }
                return;
            }
            CiKind::Prometheus | CiKind::Exec | CiKind::Http => return,
            CiKind::Drone => self.drone_pool(pool, &raw.tags, discovers),
            CiKind::AzureDevops => self.azure_pool(pool, raw, discovers),
            CiKind::Circleci => {
                self.only_for(&path, "circleci", &["run_untagged"], "gitlab and drone");
                self.circleci_pool(pool, raw, discovers);
            }
        }
        self.only_for(&path, ci.kind.as_str(), &["protected_refs"], "gitlab");
        // A container's template refers to what it joins with in its cluster's own words.
        let machines = offerings.iter().any(|offering| offering.task.is_none());
        let joins = self.written(&["pools", pool, "runner_token"]);
        if machines && !joins && ci.url != super::Endpoint::Sandbox {
            let (what, variable) = match ci.kind {
                CiKind::Drone => ("Drone's RPC secret", "DRONE_RPC_SECRET"),
                CiKind::AzureDevops => ("a token that may register agents", "AZP_TOKEN"),
                _ => ("the resource class's token", "CIRCLECI_RESOURCE_CLASS_TOKEN"),
            };
            let problem = StackProblem::new(
                "stack::missing_key",
                self.span(&path),
                format!("missing key `runner_token` in `pools.{pool}`"),
                "needs `runner_token`",
            )
            .help(format!(
                "its machines join with {what}: add runner_token = {{ env = \"{variable}\" }}"
            ));
            self.report(problem);
        }
    }

    /// Drone's runners are told by `os=linux`, `arch=amd64` and labels.
    fn drone_pool(&mut self, pool: &str, tags: &[String], discovers: bool) {
        if discovers {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&["pools", pool, "group", "discover"]),
                format!("the pool `{pool}` discovers groups, and serves Drone"),
                "what their tags say is nothing to Drone",
            )
            .help("name the group, and say what its agents are given: tags = [\"os=linux\", \"arch=amd64\"], or run_untagged = true");
            self.report(problem);
        }
        for (index, tag) in tags.iter().enumerate() {
            let at = index.to_string();
            let path = ["pools", pool, "tags", at.as_str()];
            let Some((key, _)) = tag
                .split_once('=')
                .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            else {
                let what = format!("\"{tag}\" says nothing to Drone");
                self.bad(
                    &path,
                    what,
                    "not a key with its value",
                    "write tags = [\"os=linux\", \"arch=amd64\"]; other keys are labels: \"pool=big\"",
                );
                continue;
            };
            let earlier = tags[..index].iter().position(|other| {
                other != tag && other.split_once('=').is_some_and(|(other, _)| other == key)
            });
            if let Some(first) = earlier {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.span(&path),
                    format!("`pools.{pool}.tags` gives `{key}` two values"),
                    "another value",
                )
                .also(
                    self.span(&["pools", pool, "tags", &first.to_string()]),
                    "first here",
                )
                .help("a build has one: take one of the two out");
                self.report(problem);
            }
        }
    }

    /// CircleCI hands a task to a resource class, and a runner takes one at a time.
    fn circleci_pool(&mut self, pool: &str, raw: &RawPool, discovers: bool) {
        let path = ["pools", pool, "tags"];
        if discovers && self.written(&path) {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&path),
                format!("`{}` says nothing to what is discovered", dotted(&path)),
                "each says its resource class itself",
            )
            .help("take `tags` out");
            self.report(problem);
        }
        let grouped =
            self.written(&["pools", pool, "group", "discover"]) || self.written(&["pools", pool, "discover"]);
        let one = matches!(raw.tags.as_slice(), [class] if is_resource_class(class));
        if !discovers && !grouped && !one && self.untouched(&path) {
            let what = format!("the pool `{pool}` names no resource class of CircleCI");
            self.bad(
                &path,
                what,
                "not one resource class",
                "write the one that its runners serve: tags = [\"acme/linux\"]",
            );
        }
        if raw.jobs_per_runner != 1 {
            self.bad(
                &["pools", pool, "jobs_per_runner"],
                format!(
                    "a runner of CircleCI cannot run {} tasks at once",
                    raw.jobs_per_runner
                ),
                "more than one",
                "write jobs_per_runner = 1, or take it out",
            );
        }
    }

    /// A group has one pool, and a resource class too: two pools would each count the same tasks and size the same group.
    pub(super) fn pools_apart(&mut self, pools: &[Pool], ci: &BTreeMap<super::CiName, CiConfig>) {
        for (at, pool) in pools.iter().enumerate() {
            let same_group = |other: &&Pool| match (&other.group, &pool.group) {
                (Some(other), Some(group)) => other.provider == group.provider && other.which == group.which,
                _ => false,
            };
            let by_class = ci.get(&pool.ci).is_some_and(|ci| ci.kind == CiKind::Circleci);
            let same_class = |other: &&Pool| {
                by_class && other.ci == pool.ci && !pool.tags.is_empty() && other.tags == pool.tags
            };
            let group = pools[..at].iter().find(same_group);
            let class = pools[..at].iter().find(same_class);
            let (other, key, what) = match (group, class) {
                (Some(other), _) => (other, "group", "are the same group"),
                (None, Some(other)) => (other, "tags", "serve the same resource class"),
                (None, None) => continue,
            };
            let problem = StackProblem::new(
                "stack::duplicate",
                self.span(&["pools", pool.name.as_str(), key]),
                format!("the pools `{}` and `{}` {what}", other.name, pool.name),
                "again",
            )
            .also(self.span(&["pools", other.name.as_str(), key]), "first here")
            .help("let one pool have it");
            self.report(problem);
        }
    }
}

/// `acme/linux`
fn is_resource_class(text: &str) -> bool {
    text.split_once('/').is_some_and(|(namespace, name)| {
        let good = |word: &str| !word.is_empty() && !word.contains(['/', ' ']);
        good(namespace) && good(name)
    })
}
