//! What is left of a stack file after the structural check, checked for its meaning, and made into a [`Stack`].

use std::{collections::BTreeMap, path::PathBuf};

use jiff::SignedDuration;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Firewall, SandboxConfig, SecretRef, SshKey, Stack, StackProblem, StackProblems, StateBackend,
    problems::{blot_lines, blot_tree},
    raw::{RawFirewall, RawHead, RawSandbox, RawSetting, RawSshKey, RawStack},
    schema::schema,
    shape::{listed, nearest},
    structure,
    tree::{self, Node, Span},
};
use crate::model::ids::{ProviderName, StackName};

/// Never seen: the fuzz test looks for it.
pub(super) const UNREADABLE: &str = "the file fits its schema, and yet cannot be read: a mistake in runfleet";

/// Reads a stack file's text. `file_name` is only what the problems call it.
///
/// # Errors
/// Every problem of the text at once, each with its place; none of them shows a secret that stands in the text.
pub fn parse(text: &str, file_name: &str) -> Result<Stack, StackProblems> {
    let original = match tree::read(text) {
        Ok(root) => root,
        Err(errors) => {
            let problems = errors.into_iter().map(syntax_problem).collect();
            return Err(StackProblems::new(file_name, blot_lines(text), problems));
        }
    };
    let mut fitting = original.clone();
    let mut problems = structure::check(&mut fitting, &schema());
    let raw = serde_json::from_value::<RawStack>(fitting.to_json()).unwrap_or_else(|_| {
        // The schema and the types come from one source, so this is a mistake of ours; serde's message could show a secret.
        problems.push(
            StackProblem::new(
                "stack::wrong_type",
                original.span.clone(),
                UNREADABLE,
                "somewhere below",
            )
            .help("please report it, with the file, without its secrets"),
        );
        RawStack::default()
    });
    let mut check = Check {
        original: &original,
        fitting: &fitting,
        problems,
    };
    let stack = check.stack(raw, hex::encode(Sha256::digest(text.as_bytes())));
    match stack {
        Some(stack) if check.problems.is_empty() => Ok(stack),
        _ => Err(StackProblems::new(
            file_name,
            blot_tree(text, &original),
            check.problems,
        )),
    }
}

fn syntax_problem(error: tree::SyntaxError) -> StackProblem {
    let code = if error.message.contains("duplicate key") {
        "stack::duplicate"
    } else {
        "stack::syntax"
    };
    let help = if code == "stack::duplicate" {
        "a key stands once in its table: take one of the two out"
    } else {
        "the file is TOML: text in quotes, lists in [ ], tables by their [header]; nothing else was checked"
    };
    let message = error.message.lines().next().unwrap_or_default().to_owned();
    StackProblem::new(code, error.span, message, "here").help(help)
}

/// The checks of meaning. Those of single values are in `parse_values`, those of pools in `parse_pool`.
pub(super) struct Check<'a> {
    /// As written.
    pub(super) original: &'a Node,
    /// Without what did not fit: indexes into lists are those of the raw values.
    pub(super) fitting: &'a Node,
    pub(super) problems: Vec<StackProblem>,
}

/// Where a name may be declared.
#[derive(Clone, Copy)]
pub(super) enum Declared {
    Providers,
    Ci,
    SshKeys,
    Firewalls,
    Networks,
}

impl Declared {
    fn table(self) -> &'static str {
        match self {
            Self::Providers => "providers",
            Self::Ci => "ci",
            Self::SshKeys => "ssh_keys",
            Self::Firewalls => "firewalls",
            Self::Networks => "networks",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Providers => "provider",
            Self::Ci => "CI system",
            Self::SshKeys => "login key",
            Self::Firewalls => "firewall",
            Self::Networks => "network",
        }
    }
}

/// `[stack]`, checked.
struct Head {
    name: StackName,
    state: StateBackend,
    interval: SignedDuration,
    metrics_file: Option<PathBuf>,
    keep_states: u32,
    plan_key: Option<SecretRef>,
}

impl Check<'_> {
    pub(super) fn report(&mut self, problem: StackProblem) {
        self.problems.push(problem);
    }

    pub(super) fn span(&self, path: &[&str]) -> Span {
        self.fitting.span_at(path)
    }

    pub(super) fn key_span(&self, path: &[&str]) -> Span {
        self.fitting.key_span_at(path)
    }

    /// Whether the key was written at all, be it wrong.
    pub(super) fn written(&self, path: &[&str]) -> bool {
        self.original.at(path).is_some()
    }

    fn declared(&self, place: Declared) -> Vec<&str> {
        let Some(table) = self.original.entry(place.table()) else {
            return Vec::new();
        };
        table
            .node
            .entries()
            .iter()
            .map(|entry| entry.key.as_str())
            .collect()
    }

    /// Checks that a name is declared where it should be.
    pub(super) fn reference(&mut self, path: &[&str], name: &str, place: Declared) {
        let known = self.declared(place);
        if known.contains(&name) {
            return;
        }
        let (table, word) = (place.table(), place.word());
        let (label, help) = match (nearest(name, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => (
                format!("did you mean \"{near}\"?"),
                format!("declared under `[{table}]`: {}", listed(&known)),
            ),
            (None, []) => (
                "not declared".to_owned(),
                format!("no {word} is declared: add a table `[{table}.{name}]`"),
            ),
            (None, _) => (
                "not declared".to_owned(),
                format!(
                    "declared under `[{table}]`: {}; or add a table `[{table}.{name}]`",
                    listed(&known)
                ),
            ),
        };
        let what = format!(
            "`{}` names the {word} \"{name}\", which is not declared",
            dotted(path)
        );
        self.report(StackProblem::new("stack::dangling", self.span(path), what, label).help(help));
    }

    fn stack(&mut self, raw: RawStack, source_hash: String) -> Option<Stack> {
        let head = self.head(raw.stack);
        let providers = self.providers(raw.providers);
        let ci = self.ci_systems(raw.ci);
        let (budget, currency) = self.spending(&raw.budget, &raw.currency);
        let login = self.login(raw.ssh);
        let ssh_keys = self.ssh_keys(raw.ssh_keys);
        let firewalls = self.firewalls(raw.firewalls);
        let networks = self.networks(raw.networks);
        let guard = self.guard(&raw.guard);
        let moved = self.moved(raw.moved);
        let watch = self.watching(raw.watch);
        let name = head.as_ref().map(|head| head.name.clone());
        let pools = self.pools(raw.pools, &providers, &ci);
        self.digitalocean(&providers, &firewalls, &networks, &pools);
        let sandbox = raw.sandbox.map(sandbox);
        self.names_fit(name.as_ref());
        let Head {
            name,
            state,
            interval,
            metrics_file,
            keep_states,
            plan_key,
        } = head?;
        Some(Stack {
            name,
            state,
            interval,
            providers,
            ci,
            ssh_keys,
            firewalls,
            networks,
            pools,
            budget,
            currency,
            login,
            guard,
            moved,
            keep_states,
            plan_key,
            metrics_file,
            watch,
            sandbox,
            source_hash,
        })
    }

    fn head(&mut self, raw: Option<RawHead>) -> Option<Head> {
        let raw = raw?;
        if let Some(name) = &raw.name {
            let span = self.span(&["stack", "name"]);
            self.name(span, name, "a stack");
        }
        let interval = self.positive(&["stack", "interval"], &raw.interval);
        if let Some(file) = &raw.metrics_file
            && file.extension().is_none_or(|extension| extension != "prom")
        {
            self.report(
                StackProblem::new(
                    "stack::bad_value",
                    self.span(&["stack", "metrics_file"]),
                    "`stack.metrics_file` must end in `.prom`",
                    "another ending",
                )
                .help("node_exporter's textfile collector reads no other files"),
            );
        }
        let state = self.state(raw.state);
        if let Some(key) = &raw.plan_key {
            self.secret(&["stack", "plan_key"], key);
        }
        Some(Head {
            name: StackName::from(raw.name?),
            state,
            interval: interval?,
            metrics_file: raw.metrics_file,
            keep_states: raw.keep_states,
            plan_key: raw.plan_key,
        })
    }

    fn ssh_keys(&mut self, raw: BTreeMap<String, RawSshKey>) -> BTreeMap<String, SshKey> {
        let mut keys: BTreeMap<String, SshKey> = BTreeMap::new();
        for (name, raw) in raw {
            let path = ["ssh_keys", name.as_str()];
            self.name(self.key_span(&path), &name, "a login key");
            if let Some(provider) = &raw.provider {
                self.reference(&["ssh_keys", &name, "provider"], provider, Declared::Providers);
            }
            let key_path = ["ssh_keys", name.as_str(), "public_key"];
            if let Some(key) = &raw.public_key {
                self.public_key(&key_path, key);
            }
            let (Some(provider), Some(public_key)) = (raw.provider, raw.public_key) else {
                continue;
            };
            let provider = ProviderName::from(provider);
            let public_key = public_key.trim().to_owned();
            // A cloud keeps a key once, whatever its comment.
            let same = keys.values().find(|other| {
                other.provider == provider
                    && other
                        .public_key
                        .split_whitespace()
                        .take(2)
                        .eq(public_key.split_whitespace().take(2))
            });
            if let Some(same) = same {
                let problem = StackProblem::new(
                    "stack::duplicate",
                    self.span(&key_path),
                    format!("the login keys `{}` and `{name}` are the same key", same.name),
                    "the same",
                )
                .also(self.span(&["ssh_keys", &same.name, "public_key"]), "first here")
                .help(format!("{provider} keeps a key once: use one name for it"));
                self.report(problem);
            }
            keys.insert(
                name.clone(),
                SshKey {
                    name,
                    provider,
                    public_key,
                },
            );
        }
        keys
    }

    fn firewalls(&mut self, raw: BTreeMap<String, RawFirewall>) -> BTreeMap<String, Firewall> {
        let mut firewalls = BTreeMap::new();
        for (name, raw) in raw {
            self.name(self.key_span(&["firewalls", &name]), &name, "a firewall");
            if let Some(provider) = &raw.provider {
                self.reference(&["firewalls", &name, "provider"], provider, Declared::Providers);
            }
            let rules = self.rules(&name, raw.rules);
            let Some(provider) = raw.provider else { continue };
            firewalls.insert(
                name.clone(),
                Firewall {
                    name,
                    provider: provider.into(),
                    rules,
                },
            );
        }
        firewalls
    }
}

fn sandbox(raw: RawSandbox) -> SandboxConfig {
    let settings = raw
        .settings
        .into_iter()
        .map(|(key, value)| {
            let value = match value {
                RawSetting::Text(text) => text,
                RawSetting::Switch(switch) => switch.to_string(),
                RawSetting::Integer(integer) => integer.to_string(),
                RawSetting::Number(number) => number.to_string(),
            };
            (key, value)
        })
        .collect();
    SandboxConfig {
        settings,
        scenario: Value::Object(raw.scenario),
    }
}

/// `pools.linux.offerings.image`: without the indexes into lists, which the caret shows better.
pub(super) fn dotted(path: &[&str]) -> String {
    let keys: Vec<&str> = path
        .iter()
        .copied()
        .filter(|step| !step.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    keys.join(".")
}
