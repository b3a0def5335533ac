//! Checks of pools and of what they may buy. Long because each key of a pool is checked where it is read.

use std::collections::BTreeMap;

use super::{
    CiConfig, CiKind, Endpoint, Keeping, OfferingChoice, Pool, ProviderConfig, ProviderKind, Registering,
    Spread, StackProblem,
    parse::{Check, Declared, dotted},
    raw::{RawImage, RawOffering, RawPool},
    tree::Node,
};
use crate::model::{
    demand::AgentPool,
    ids::{CiName, PoolName, ProviderName},
    offering::Market,
    resource::ImageRef,
};

impl Check<'_> {
    /// The pools, as declared.
    pub(super) fn pools(
        &mut self,
        mut raw: BTreeMap<String, RawPool>,
        providers: &BTreeMap<ProviderName, ProviderConfig>,
        ci: &BTreeMap<CiName, CiConfig>,
    ) -> Vec<Pool> {
        let names: Vec<String> = self
            .fitting
            .entry("pools")
            .map(|entry| {
                entry
                    .node
                    .entries()
                    .iter()
                    .map(|entry| entry.key.clone())
                    .collect()
            })
            .unwrap_or_default();
        let pools: Vec<Pool> = names
            .into_iter()
            .filter_map(|name| {
                let pool = raw.remove(&name)?;
                self.pool(name, pool, providers, ci)
            })
            .collect();
        self.pools_apart(&pools, ci);
        pools
    }

    fn pool(
        &mut self,
        name: String,
        mut raw: RawPool,
        providers: &BTreeMap<ProviderName, ProviderConfig>,
        ci: &BTreeMap<CiName, CiConfig>,
    ) -> Option<Pool> {
        let pool = name.as_str();
        self.name(self.key_span(&["pools", pool]), pool, "a pool");
        if let Some(ci) = &raw.ci {
            self.reference(&["pools", pool, "ci"], ci, Declared::Ci);
        }
        let ci_config = raw.ci.as_deref().and_then(|name| ci.get(name));
        self.tags(pool, &raw, ci_config.map(|ci| ci.kind));
        self.bounds(pool, &raw);
        for (key, words, place) in [
            ("ssh_keys", &raw.ssh_keys, Declared::SshKeys),
            ("firewalls", &raw.firewalls, Declared::Firewalls),
            ("networks", &raw.networks, Declared::Networks),
        ] {
            self.duplicates(&["pools", pool, key], words);
            for (index, word) in words.iter().enumerate() {
                self.reference(&["pools", pool, key, &index.to_string()], word, place);
            }
        }
        if let Some(file) = &raw.cloud_init {
            self.project_file(&["pools", pool, "cloud_init"], file);
        }
        let ready_timeout = self.positive(&["pools", pool, "ready_timeout"], &raw.ready_timeout);
        let idle_timeout = self.duration(&["pools", pool, "idle_timeout"], &raw.idle_timeout);
        let keeping = self.keeping(pool, &raw);
        if let Some(token) = &raw.runner_token {
            self.secret(&["pools", pool, "runner_token"], token);
        }
        let machines = self.machines_from(pool, &raw);
        let group = raw
            .group
            .take()
            .and_then(|group| self.group(pool, group, providers, ci_config));
        let offerings = raw.offerings.take().unwrap_or_default();
        let offerings = self.offerings(pool, offerings, raw.spread.spread(), providers, ci_config);
        self.task_pool(pool, &raw, &offerings);
        let discover = self.cron_jobs(pool, &raw, &offerings);
        if let Some(ci) = ci_config {
            self.pool_of_ci(pool, &raw, group.as_ref(), &offerings, ci);
        }
        let steps = std::mem::take(&mut raw.steps);
        let policy = self.policy(pool, raw.policy, steps, raw.max);
        let health = raw.health.and_then(|health| self.health(pool, health));
        if let Some(ci) = ci_config {
            self.measured_pool(pool, ci, policy.as_ref());
        }
        let hooks = self.hooks(pool, std::mem::take(&mut raw.hooks), group.is_some());
        if let Some(file) = &raw.task {
            self.project_file(&["pools", pool, "task"], file);
        }
        let agents = raw.agent_pool.take().map(|agent_pool| {
            let mut capabilities = std::mem::take(&mut raw.capabilities);
            for tag in &raw.tags {
                capabilities.entry(tag.clone()).or_default();
            }
            Box::new(AgentPool {
                pool: agent_pool,
                capabilities,
            })
        });
        let template = if offerings.iter().any(|choice| choice.task.is_some()) {
            Some(raw.task.take().unwrap_or_default())
        } else {
            raw.cloud_init
        };
        let cloud_init = template.unwrap_or_else(|| {
            let kind = ci_config.map_or(CiKind::Gitlab, |ci| ci.kind);
            kind.cloud_init().to_owned()
        });
        machines.then_some(())?;
        Some(Pool {
            ci: CiName::from(raw.ci?),
            mode: raw.mode,
            tags: raw.tags,
            run_untagged: raw.run_untagged,
            jobs_per_runner: raw.jobs_per_runner,
            min: raw.min,
            max: raw.max?,
            burst: raw.burst,
            policy: policy?,
            ready_timeout: ready_timeout?,
            idle_timeout: idle_timeout?,
            cloud_init,
            vars: raw.vars.into_iter().collect(),
            ssh_keys: raw.ssh_keys,
            firewalls: raw.firewalls,
            networks: raw.networks,
            spread: raw.spread.spread(),
            keeping: keeping?,
            registering: Registering {
                protected_refs: raw.protected_refs,
                runner_token: raw.runner_token,
            },
            offerings,
            group,
            discover,
            agents,
            order: raw.order,
            health,
            hooks,
            name: PoolName::from(name),
        })
    }

    fn keeping(&mut self, pool: &str, raw: &RawPool) -> Option<Keeping> {
        let max_age = match &raw.max_age {
            Some(age) => Some(self.positive(&["pools", pool, "max_age"], age)?),
            None => None,
        };
        let roll = self.share(&["pools", pool, "roll"], &raw.roll)?;
        Some(Keeping {
            max_age,
            max_jobs: raw.max_jobs,
            protect: raw.protect,
            ignore_changes: raw.ignore_changes.iter().copied().collect(),
            roll,
        })
    }

    fn tags(&mut self, pool: &str, raw: &RawPool, kind: Option<CiKind>) {
        let path = ["pools", pool, "tags"];
        self.duplicates(&path, &raw.tags);
        for (index, tag) in raw.tags.iter().enumerate() {
            if tag.trim().is_empty() || tag.trim() != tag || tag.contains(',') {
                let path = ["pools", pool, "tags", &index.to_string()];
                let problem = StackProblem::new(
                    "stack::bad_value",
                    self.span(&path),
                    format!("\"{tag}\" is not a tag"),
                    "not a tag",
                )
                .help("one word for each tag, without commas and spaces around it: [\"docker\", \"linux\"]");
                self.report(problem);
            }
        }
        // CircleCI knows resource classes alone, which are asked for elsewhere; where there are no jobs, none has tags; a program may
        // name the pool of a job, or count.
        // Where the CI is not known, that is said elsewhere.
        if raw.tags.is_empty()
            && matches!(kind, Some(CiKind::Gitlab | CiKind::Drone))
            && !self.written(&["pools", pool, "group", "discover"])
            && !raw.run_untagged
            && self.untouched(&path)
            && self.untouched(&["pools", pool, "run_untagged"])
        {
            let (label, help) = match kind {
                Some(CiKind::Drone) => (
                    "no tags, and not every build either",
                    "add tags = [\"os=linux\", \"arch=amd64\"]; or run_untagged = true, for every build",
                ),
                _ => (
                    "no tags, and no untagged jobs either",
                    "add tags = [\"docker\"], or run_untagged = true",
                ),
            };
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&path),
                format!("no job would ever fit the pool `{pool}`"),
                label,
            )
            .help(help);
            self.report(problem);
        }
    }

    /// Whether the structural check took nothing out here.
    pub(super) fn untouched(&self, path: &[&str]) -> bool {
        self.original.at(path).map(Node::to_json) == self.fitting.at(path).map(Node::to_json)
    }

    fn bounds(&mut self, pool: &str, raw: &RawPool) {
        if let Some(max) = raw.max
            && raw.min > max
        {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.span(&["pools", pool, "min"]),
                format!("the pool `{pool}` has min = {} above max = {max}", raw.min),
                "more than max",
            )
            .also(self.span(&["pools", pool, "max"]), "less than min")
            .help("lower `min` or raise `max`");
            self.report(problem);
        }
    }

    fn offerings(
        &mut self,
        pool: &str,
        raw: Vec<RawOffering>,
        spread: Spread,
        providers: &BTreeMap<ProviderName, ProviderConfig>,
        ci: Option<&CiConfig>,
    ) -> Vec<OfferingChoice> {
        let of = |raw: &RawOffering| providers.get(&ProviderName::new(raw.provider.clone()?));
        let elsewhere = raw
            .iter()
            .filter_map(of)
            .any(|config| config.kind != ProviderKind::Ec2);
        let mut offerings: Vec<OfferingChoice> = Vec::new();
        for (index, mut raw) in raw.into_iter().enumerate() {
            let index = index.to_string();
            let path = ["pools", pool, "offerings", index.as_str()];
            let provider = raw.provider.take().map(ProviderName::from);
            if let Some(provider) = &provider {
                let path = [&path[..], &["provider"]].concat();
                self.reference(&path, provider.as_str(), Declared::Providers);
                if let (Some(provider), Some(ci)) = (providers.get(provider), ci) {
                    self.same_world(&path, pool, provider, ci);
                }
            }
            let kind = provider
                .as_ref()
                .and_then(|name| providers.get(name))
                .map(|config| config.kind);
            if let Some(kind) = kind {
                self.market(&path, kind, raw.market);
            }
            if let Some(machine_type) = &raw.machine_type {
                self.cloud_word(&[&path[..], &["type"]].concat(), machine_type, "machine type");
            }
            let locations = [&path[..], &["locations"]].concat();
            self.duplicates(&locations, &raw.locations);
            for (at, location) in raw.locations.iter().enumerate() {
                self.cloud_word(
                    &[&locations[..], &[&at.to_string()]].concat(),
                    location,
                    "location",
                );
            }
            // What the machines of another cloud in the pool have is nothing to say against.
            if kind == Some(ProviderKind::Ec2) && !elsewhere {
                self.only_for(&["pools", pool], "ec2", &["networks"], "hetzner and digitalocean");
                if spread != Spread::Locations {
                    self.only_for(&["pools", pool], "ec2", &["spread"], "hetzner");
                }
            }
            let image = self.offered_image(&path, kind, raw.image.take(), raw.launch_template.is_some());
            let ec2 = self.ec2_launch(&path, kind, &raw);
            let task = self.task(
                &path,
                provider.as_ref().and_then(|name| providers.get(name)),
                &raw,
            );
            let price = raw.price.as_ref().and_then(|price| {
                let path = [&path[..], &["price"]].concat();
                self.money(&path, price)
            });
            let (Some(provider), Some(machine_type), Some(image)) = (provider, raw.machine_type, image)
            else {
                continue;
            };
            let offering = OfferingChoice {
                provider,
                machine_type,
                locations: raw.locations,
                image,
                public_ipv4: raw.public_ipv4,
                market: raw.market,
                ec2,
                task,
                price,
                priority: raw.priority,
            };
            if let Some(first) = offerings.iter().find(|other| overlap(other, &offering)) {
                let problem = StackProblem::new(
                    "stack::duplicate",
                    self.span(&path),
                    format!(
                        "the pool `{pool}` buys {} of {} twice in the same location",
                        first.machine_type, first.provider
                    ),
                    "again",
                )
                .help("let each offering have locations of its own, or take one out");
                self.report(problem);
            }
            offerings.push(offering);
        }
        offerings
    }

    /// A machine of the sandbox can only join a CI of the sandbox, and one that is paid for only one outside.
    pub(super) fn same_world(&mut self, path: &[&str], pool: &str, provider: &ProviderConfig, ci: &CiConfig) {
        // Where machines join nothing, it does not matter.
        if matches!(ci.kind, CiKind::Exec | CiKind::Http) {
            return;
        }
        if (provider.endpoint == Endpoint::Sandbox) == (ci.url == Endpoint::Sandbox) {
            return;
        }
        let problem = StackProblem::new(
            "stack::contradiction",
            self.span(path),
            format!("the pool `{pool}` has its machines and its jobs in different worlds"),
            if ci.url == Endpoint::Sandbox {
                "a real cloud"
            } else {
                "in the sandbox"
            },
        )
        .also(
            self.span(&["pools", pool, "ci"]),
            if ci.url == Endpoint::Sandbox {
                "in the sandbox"
            } else {
                "a real CI system"
            },
        )
        .help("let both be \"sandbox\", or neither");
        self.report(problem);
    }

    fn market(&mut self, path: &[&str; 4], kind: ProviderKind, market: Market) {
        match (kind, market) {
            (_, Market::OnDemand)
            | (ProviderKind::Ec2 | ProviderKind::Asg | ProviderKind::Ecs, Market::Spot) => {}
            (ProviderKind::Hetzner | ProviderKind::Digitalocean | ProviderKind::Kubernetes, Market::Spot) => {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.span(&[&path[..], &["market"]].concat()),
                    format!("{} has no spot market", kind.vendor()),
                    "not sold",
                )
                .help("take `market` out, or write market = \"on-demand\"");
                self.report(problem);
            }
        }
    }

    /// A cloud's own word: which ones there are only `validate --online` knows.
    pub(super) fn cloud_word(&mut self, path: &[&str], word: &str, what: &str) {
        let good = !word.is_empty()
            && word.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
            });
        if !good {
            let lower = word.trim().to_ascii_lowercase();
            let help = if lower.is_empty() {
                "name one, or take the key out".to_owned()
            } else {
                format!("write it as the cloud does: \"{lower}\"")
            };
            let problem = StackProblem::new(
                "stack::bad_value",
                self.span(path),
                format!("\"{word}\" is no {what}"),
                "not a name of the cloud's",
            )
            .help(help);
            self.report(problem);
        }
    }

    pub(super) fn not_newest(&mut self, path: &[&str]) {
        let problem = StackProblem::new(
            "stack::contradiction",
            self.span(&[path, &["newest"]].concat()),
            format!("`{}` does not say which of several images", dotted(path)),
            "which one, then?",
        )
        .help("write newest = true, or name the image by its id");
        self.report(problem);
    }

    pub(super) fn image(&mut self, path: &[&str], raw: RawImage) -> Option<ImageRef> {
        let empty = |text: &str| text.trim().is_empty();
        match raw {
            RawImage::Name(name) if !empty(&name) => return Some(ImageRef::Name(name)),
            RawImage::Id(id) => return Some(ImageRef::Id(id)),
            RawImage::Newest(image) if !image.newest => {
                self.not_newest(path);
                return None;
            }
            RawImage::Newest(image) => {
                if let Some(selector) = image.selector.filter(|selector| !empty(selector)) {
                    return Some(ImageRef::NewestOf(selector));
                }
            }
            RawImage::Name(_) => {}
        }
        let problem = StackProblem::new(
            "stack::bad_value",
            self.span(path),
            format!("`{}` names no image", dotted(path)),
            "empty",
        )
        .help("write \"debian-12\", an image's id, or { selector = \"role=runner\", newest = true }");
        self.report(problem);
        None
    }
}

/// Whether two choices name the same offering somewhere.
fn overlap(one: &OfferingChoice, other: &OfferingChoice) -> bool {
    one.provider == other.provider
        && one.machine_type == other.machine_type
        && one.market == other.market
        && (one.locations.is_empty()
            || other.locations.is_empty()
            || one
                .locations
                .iter()
                .any(|location| other.locations.contains(location)))
}
