//! Checks of what we log in to: cloud accounts and CI systems.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    CiConfig, CiKind, Endpoint, ProviderConfig, ProviderKind, SecretRef, StackProblem,
    parse::{Check, dotted},
    raw::{RawCi, RawProvider},
};
use crate::model::ids::{CiName, ProviderName};

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
            let kind: Option<ProviderKind> = self.kind(&path, raw.kind, "hetzner");
            let endpoint = self.endpoint(&["providers", &name, "endpoint"], raw.endpoint.as_deref());
            self.token(&path, raw.token.as_ref(), &endpoint, "HCLOUD_TOKEN");
            self.file(&["providers", &name, "ca_file"], raw.ca_file.as_deref());
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
            let url = self.endpoint(&url_path, raw.url.as_deref());
            if let Endpoint::Url(url) = &url
                && url.ends_with("/api/v4")
            {
                let root = url.trim_end_matches("/api/v4");
                self.report(
                    StackProblem::new(
                        "stack::bad_value",
                        self.span(&url_path),
                        format!("`{}` is the root of GitLab, without `/api/v4`", dotted(&url_path)),
                        "the API's address",
                    )
                    .help(format!("write url = \"{root}\"")),
                );
            }
            self.token(&path, raw.token.as_ref(), &url, "GITLAB_API_TOKEN");
            self.file(&["ci", &name, "ca_file"], raw.ca_file.as_deref());
            self.projects(&["ci", &name, "projects"], &raw.projects);
            self.groups(&["ci", &name, "groups"], &raw.groups);
            if raw.instance {
                self.instance_alone(&name, &raw);
            }
            let settle = self.duration(&["ci", &name, "settle"], &raw.settle);
            let (Some(kind), Some(settle)) = (kind, settle) else {
                continue;
            };
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
                },
            );
        }
        systems
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

    /// Full paths of groups, or their ids.
    fn groups(&mut self, path: &[&str], groups: &[String]) {
        self.duplicates(path, groups);
        for (index, group) in groups.iter().enumerate() {
            let index = index.to_string();
            let path = [path, &[index.as_str()]].concat();
            let mut parts = group.split('/');
            let is_path = !group.contains("://")
                && parts.all(|part| !part.is_empty() && !part.contains(char::is_whitespace));
            if !is_path {
                self.bad(
                    &path,
                    format!("an entry of `{}` is not a group", dotted(&path)),
                    "not a group",
                    "write its full path without the server's address: \"acme\", \"acme/backend\"",
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

    fn token(&mut self, path: &[&str; 2], token: Option<&SecretRef>, endpoint: &Endpoint, variable: &str) {
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
    fn endpoint(&mut self, path: &[&str], text: Option<&str>) -> Endpoint {
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
