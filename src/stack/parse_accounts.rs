//! Checks of what we log in to: cloud accounts and CI systems.
//!
//! Long because each kind of either has keys of its own.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    AwsAccess, CiConfig, CiKind, Endpoint, ProviderConfig, ProviderKind, SecretRef, StackProblem,
    parse::{Check, dotted},
    raw::{RawCi, RawProvider},
};
use crate::{
    drain::PAUSED_AT_MOST,
    model::ids::{CiName, ProviderName},
};

/// What only a provider with a token has.
const TOKEN_KEYS: [&str; 1] = ["token"];
/// What only Amazon's providers have.
const AWS_KEYS: [&str; 6] = ["region", "profile", "role_arn", "access_key", "secret_key", "vpc"];

impl Check<'_> {
    /// Cloud accounts.
    pub(super) fn providers(
        &mut self,
        raw: BTreeMap<String, RawProvider>,
    ) -> BTreeMap<ProviderName, ProviderConfig> {
        let mut providers = BTreeMap::new();
        for (name, raw) in raw {
            let path = ["providers", name.as_str()];
            self.name(self.key_span(&path), &name, "a provider");
            let aws = name.contains("aws")
                || AWS_KEYS
                    .iter()
                    .any(|key| self.written(&["providers", &name, key]));
            let example = match name.as_str() {
                _ if aws => "ec2",
                ocean if ocean.contains("ocean") || ocean.starts_with("do") => "digitalocean",
                _ => "hetzner",
            };
            let kind: Option<ProviderKind> = self.kind(&path, raw.kind, example);
            let endpoint = self.endpoint(&["providers", &name, "endpoint"], raw.endpoint.as_deref());
            match kind {
                Some(kind) if kind.is_aws() => {
                    self.only_for(&path, kind.as_str(), &TOKEN_KEYS, "hetzner and digitalocean");
                    if endpoint == Endpoint::Sandbox {
                        self.bad(
                            &["providers", &name, "endpoint"],
                            format!("the sandbox has no {}", kind.as_str()),
                            "not simulated",
                            "take `endpoint` out, or name an emulator's address: \"http://127.0.0.1:5000\"",
                        );
                    }
                }
                Some(ProviderKind::Kubernetes) => self.kubernetes_access(&path, &raw, &endpoint),
                Some(kind) => {
                    let variable = match kind {
                        ProviderKind::Digitalocean => "DIGITALOCEAN_TOKEN",
                        _ => "HCLOUD_TOKEN",
                    };
                    self.token(&path, raw.token.as_ref(), &endpoint, variable);
                    self.only_for(&path, kind.as_str(), &AWS_KEYS, "ec2, asg and ecs");
                }
                // Whether it has a token its kind says.
                None => {
                    if let Some(token) = &raw.token {
                        self.secret(&["providers", &name, "token"], token);
                    }
                }
            }
            if let Some(other @ (ProviderKind::Asg | ProviderKind::Ecs)) = kind {
                self.only_for(&path, other.as_str(), &["vpc"], "ec2");
            }
            self.file(&["providers", &name, "ca_file"], raw.ca_file.as_deref());
            self.aws_words(&path, &raw);
            let (ecs, kubernetes) = self.task_homes(&path, kind, &raw);
            let keys = self.key_pair(&path, raw.access_key, raw.secret_key);
            let aws = AwsAccess {
                region: raw.region,
                profile: raw.profile,
                role_arn: raw.role_arn,
                keys,
                vpc: raw.vpc,
            };
            let Some(kind) = kind else { continue };
            let name = ProviderName::from(name);
            providers.insert(
                name.clone(),
                ProviderConfig {
                    name,
                    kind,
                    token: raw.token,
                    endpoint,
                    ca_file: raw.ca_file,
                    concurrency: usize::try_from(raw.concurrency).unwrap_or(usize::MAX),
                    requests_per_hour: raw.requests_per_hour,
                    aws,
                    ecs,
                    kubernetes,
                },
            );
        }
        providers
    }

    /// CI systems.
    pub(super) fn ci_systems(&mut self, raw: BTreeMap<String, RawCi>) -> BTreeMap<CiName, CiConfig> {
        let mut systems = BTreeMap::new();
        for (name, raw) in raw {
            let path = ["ci", name.as_str()];
            self.name(self.key_span(&path), &name, "a CI system");
            let kind: Option<CiKind> = self.kind(&path, raw.kind, "gitlab");
            let url_path = ["ci", name.as_str(), "url"];
            let url = self.ci_address(&url_path, kind, &raw);
            self.ci_url(&url_path, kind, &url);
            if kind == Some(CiKind::AzureDevops) {
                self.azure_url(&url_path, &url);
            }
            self.ceiling(&name, raw.max);
            self.ci_keys(&path, kind);
            let variable = match kind {
                Some(CiKind::Drone) => "DRONE_TOKEN",
                Some(CiKind::Circleci) => "CIRCLE_TOKEN",
                Some(CiKind::AzureDevops) => "AZURE_DEVOPS_TOKEN",
                Some(CiKind::Prometheus | CiKind::Exec | CiKind::Http) => "",
                Some(CiKind::Gitlab) | None => "GITLAB_API_TOKEN",
            };
            if kind.is_some_and(CiKind::wants_token) {
                self.token(&path, raw.token.as_ref(), &url, variable);
            } else if let Some(token) = &raw.token {
                self.secret(&["ci", &name, "token"], token);
            }
            self.file(&["ci", &name, "ca_file"], raw.ca_file.as_deref());
            self.projects(&["ci", &name, "projects"], &raw.projects);
            self.groups(&["ci", &name, "groups"], &raw.groups);
            if raw.instance && matches!(kind, Some(CiKind::Gitlab) | None) {
                self.instance_alone(&name, &raw);
            }
            let settle = self.duration(&["ci", &name, "settle"], &raw.settle);
            if let (Some(CiKind::Drone), Some(settle)) = (kind, settle) {
                self.drone_settle(&name, settle);
            }
            let pending = raw.pending_max.as_ref();
            let pending_max = pending.and_then(|text| self.positive(&["ci", &name, "pending_max"], text));
            let running = raw.running_max.as_ref();
            let running_max = running.and_then(|text| self.positive(&["ci", &name, "running_max"], text));
            let (Some(kind), Some(settle)) = (kind, settle) else {
                continue;
            };
            let program = match kind {
                CiKind::Exec | CiKind::Http => self.program(&name, kind, &raw),
                _ => None,
            };
            let scrape = raw.scrape.and_then(|scrape| self.scrape(&name, scrape));
            let name = CiName::from(name);
            systems.insert(
                name.clone(),
                CiConfig {
                    name,
                    kind,
                    url,
                    token: raw.token,
                    ca_file: raw.ca_file,
                    projects: raw.projects,
                    groups: raw.groups,
                    instance: raw.instance,
                    settle,
                    pending_max,
                    running_max,
                    api: raw.api.unwrap_or_default(),
                    scrape,
                    program,
                    max: raw.max,
                    auth: raw.auth.unwrap_or_default(),
                },
            );
        }
        systems
    }

    /// The root of a CI: without the path of its API, and written where the vendor has none.
    fn ci_url(&mut self, path: &[&str], kind: Option<CiKind>, url: &Endpoint) {
        let paths: &[&str] = match kind {
            Some(CiKind::Gitlab) | None => &["/api/v4"],
            Some(CiKind::Drone) => &["/api"],
            Some(CiKind::Circleci) => &["/api/v2", "/api/v3"],
            Some(CiKind::Prometheus) => &["/api/v1"],
            Some(CiKind::AzureDevops) => &["/_apis"],
            Some(CiKind::Exec | CiKind::Http) => &[],
        };
        match url {
            Endpoint::Url(url) => {
                if let Some(suffix) = paths.iter().find(|suffix| url.ends_with(**suffix)) {
                    let root = url.trim_end_matches(suffix);
                    let what = format!("`{}` is the server's root, without `{suffix}`", dotted(path));
                    self.bad(path, what, "the API's address", format!("write url = \"{root}\""));
                }
            }
            Endpoint::Default if kind == Some(CiKind::Drone) && !self.written(path) => {
                let [table, name, _] = path else { return };
                self.report(
                    StackProblem::new(
                        "stack::missing_key",
                        self.span(path),
                        format!("missing key `url` in `{table}.{name}`"),
                        "needs `url`",
                    )
                    .help("each Drone server is somebody's own: add url = \"https://drone.example.com\""),
                );
            }
            Endpoint::Default | Endpoint::Sandbox => {}
        }
    }

    /// The keys that only some kinds of CI systems have.
    fn ci_keys(&mut self, path: &[&str; 2], kind: Option<CiKind>) {
        let Some(kind) = kind else { return };
        for (keys, own) in [
            (&["projects", "groups", "instance"][..], CiKind::Gitlab),
            (&["pending_max", "running_max"], CiKind::Drone),
            (&["api"], CiKind::Circleci),
            (&["scrape"], CiKind::Prometheus),
            (&["auth"], CiKind::AzureDevops),
            (
                &["demand", "cordon", "uncordon", "register", "forget"],
                CiKind::Exec,
            ),
            (
                &[
                    "demand_url",
                    "cordon_url",
                    "uncordon_url",
                    "register_url",
                    "forget_url",
                ],
                CiKind::Http,
            ),
        ] {
            if kind != own {
                self.only_for(path, kind.as_str(), keys, own.as_str());
            }
        }
    }

    /// Reports keys that another kind has, and this one has not.
    pub(super) fn only_for(&mut self, path: &[&str], kind: &str, keys: &[&str], other: &str) {
        for key in keys {
            let path = [path, &[*key]].concat();
            if self.written(&path) {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.key_span(&path),
                    format!("`{}` says nothing to {kind}", dotted(&path)),
                    format!("only for {other}"),
                )
                .help(format!("take `{key}` out"));
                self.report(problem);
            }
        }
    }

    /// Amazon's own words, as far as their shape goes.
    fn aws_words(&mut self, path: &[&str; 2], raw: &RawProvider) {
        let [table, name] = *path;
        if let Some(region) = &raw.region {
            let path = [table, name, "region"];
            let last = region.chars().last();
            if region.len() > 1 && last.is_some_and(|last| last.is_ascii_lowercase()) {
                let what = format!("`{}` cannot be \"{region}\"", dotted(&path));
                let region = region.trim_end_matches(|c: char| c.is_ascii_lowercase());
                let help = if region.ends_with(|c: char| c.is_ascii_digit()) {
                    format!("that is a zone of it: write \"{region}\"")
                } else {
                    "write it as Amazon does: \"eu-central-1\"".to_owned()
                };
                self.bad(&path, what, "not a region", help);
            } else {
                self.cloud_word(&path, region, "region");
            }
        }
        if raw
            .profile
            .as_ref()
            .is_some_and(|profile| profile.trim().is_empty())
        {
            let path = [table, name, "profile"];
            let what = format!("`{}` must not be empty", dotted(&path));
            self.bad(
                &path,
                what,
                "empty",
                "name a profile of ~/.aws/config, or take the key out",
            );
        }
        let is_role = |arn: &String| arn.starts_with("arn:") && arn.contains(":role/");
        if raw.role_arn.as_ref().is_some_and(|arn| !is_role(arn)) {
            let path = [table, name, "role_arn"];
            let what = format!("`{}` is not the ARN of a role", dotted(&path));
            self.bad(
                &path,
                what,
                "not a role",
                "write it whole: \"arn:aws:iam::123456789012:role/runfleet\"",
            );
        }
        if raw.vpc.as_ref().is_some_and(|vpc| !vpc.starts_with("vpc-")) {
            let path = [table, name, "vpc"];
            let what = format!("`{}` is not a VPC's id", dotted(&path));
            self.bad(&path, what, "not an id", "write \"vpc-0a1b2c3d\"");
        }
    }

    /// A queue that is paused keeps every build waiting, so it is paused for a short while or not at all.
    fn drone_settle(&mut self, name: &str, settle: SignedDuration) {
        if settle > PAUSED_AT_MOST {
            let path = ["ci", name, "settle"];
            let most = PAUSED_AT_MOST.as_secs();
            self.bad(
                &path,
                format!("`{}` is longer than a queue may be paused", dotted(&path)),
                "no machine would ever leave",
                format!("write \"{most}s\" or less, or take it out"),
            );
        }
    }

    /// Both halves of a key, or none.
    fn key_pair(
        &mut self,
        path: &[&str; 2],
        id: Option<SecretRef>,
        secret: Option<SecretRef>,
    ) -> Option<(SecretRef, SecretRef)> {
        let [table, name] = *path;
        for (key, half) in [("access_key", &id), ("secret_key", &secret)] {
            if let Some(half) = half {
                self.secret(&[table, name, key], half);
            }
        }
        match (id, secret) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            (id, _) => {
                let (there, missing) = if id.is_some() {
                    ("access_key", "secret_key")
                } else {
                    ("secret_key", "access_key")
                };
                let path = [table, name, there];
                self.report(
                    StackProblem::new(
                        "stack::missing_key",
                        self.span(&path),
                        format!("`{}` is half of a key", dotted(&path)),
                        format!("needs `{missing}`"),
                    )
                    .help(format!(
                        "add `{missing}`; or take `{there}` out, to be let in as Amazon's own tools are"
                    )),
                );
                None
            }
        }
    }

    /// The whole instance leaves nothing to name.
    fn instance_alone(&mut self, name: &str, raw: &RawCi) {
        for (key, named) in [("projects", &raw.projects), ("groups", &raw.groups)] {
            if !named.is_empty() {
                let instance = ["ci", name, "instance"];
                self.report(
                    StackProblem::new(
                        "stack::contradiction",
                        self.span(&["ci", name, key]),
                        format!("`ci.{name}` serves the whole instance, and names {key} too"),
                        "these are part of it",
                    )
                    .also(self.span(&instance), "every project is served")
                    .help(format!("take out `{key}`, or `instance = true`")),
                );
            }
        }
    }

    /// The kind that is written, or the one that the name is.
    fn kind<K: DeserializeOwned>(
        &mut self,
        path: &[&str; 2],
        written: Option<K>,
        example: &str,
    ) -> Option<K> {
        let [table, name] = *path;
        if written.is_some() || self.written(&[table, name, "kind"]) {
            return written;
        }
        let kind = serde_json::from_value(Value::from(name)).ok();
        if kind.is_none() {
            self.report(
                StackProblem::new(
                    "stack::missing_key",
                    self.span(path),
                    format!("missing key `kind` in `{table}.{name}`"),
                    "needs `kind`",
                )
                .help(format!(
                    "only where the name is a kind may it be left out: add kind = \"{example}\""
                )),
            );
        }
        kind
    }

    pub(super) fn token(
        &mut self,
        path: &[&str; 2],
        token: Option<&SecretRef>,
        endpoint: &Endpoint,
        variable: &str,
    ) {
        let [table, name] = *path;
        let path = [table, name, "token"];
        match token {
            Some(token) => self.secret(&path, token),
            None if *endpoint == Endpoint::Sandbox || self.written(&path) => {}
            None => self.report(
                StackProblem::new(
                    "stack::missing_key",
                    self.span(&path),
                    format!("missing key `token` in `{table}.{name}`"),
                    "needs `token`",
                )
                .help(format!("add token = {{ env = \"{variable}\" }}")),
            ),
        }
    }

    /// An address, or the sandbox, which must then be there.
    pub(super) fn endpoint(&mut self, path: &[&str], text: Option<&str>) -> Endpoint {
        match text {
            None => Endpoint::Default,
            Some("sandbox") => {
                if !self.written(&["sandbox"]) {
                    self.report(
                        StackProblem::new(
                            "stack::dangling",
                            self.span(path),
                            format!("`{}` is the sandbox, and there is none", dotted(path)),
                            "needs `[sandbox]`",
                        )
                        .help("add a table `[sandbox]`; it may be empty"),
                    );
                }
                Endpoint::Sandbox
            }
            Some(text) => Endpoint::Url(self.address(path, text)),
        }
    }
}
