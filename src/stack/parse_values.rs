//! Checks of single values: names, lengths of time, money, addresses, files, secrets, keys, rules, projects.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

use jiff::SignedDuration;
use url::{Host, Url};

use super::{
    MACHINE_NAME_MAX, RUNNER_NAME_MAX, SecretRef, StackProblem,
    parse::{Check, dotted},
    problems::looks_like_a_token,
    raw::{DurationText, MoneyText},
    tree::Span,
};
use crate::model::{ids::StackName, money::Money};

impl Check<'_> {
    /// Reports a value.
    pub(super) fn bad(&mut self, path: &[&str], what: String, label: &str, help: impl Into<String>) {
        let problem = StackProblem::new("stack::bad_value", self.span(path), what, label).help(help);
        self.report(problem);
    }

    /// A name that may be part of a host name, of a label and of a file's name.
    pub(super) fn name(&mut self, span: Span, name: &str, what: &str) {
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if good {
            return;
        }
        let mut better: String = name
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        better = better
            .trim_start_matches(|c: char| !c.is_ascii_lowercase())
            .trim_end_matches('-')
            .to_owned();
        let mut help =
            "lower-case letters, digits and `-`, beginning with a letter, not ending with `-`".to_owned();
        if !better.is_empty() {
            help = format!("{help}: `{better}`");
        }
        self.report(
            StackProblem::new(
                "stack::bad_name",
                span,
                format!("\"{name}\" is no name for {what}"),
                "not a name",
            )
            .help(help),
        );
    }

    /// Whether the names that are put together for the clouds stay within their bounds.
    pub(super) fn names_fit(&mut self, stack: Option<&StackName>) {
        let Some(stack) = stack.map(StackName::as_str) else {
            return;
        };
        let longest = [
            ("pools", "pool", RUNNER_NAME_MAX + 1),
            ("ssh_keys", "login key", 0),
            ("firewalls", "firewall", 0),
            ("networks", "network", 0),
        ];
        for (table, word, rest) in longest {
            let most = MACHINE_NAME_MAX - rest;
            let Some(entry) = self.fitting.entry(table) else {
                continue;
            };
            for entry in entry.node.entries() {
                let length = stack.len() + 1 + entry.key.len();
                if length > most {
                    let problem = StackProblem::new(
                        "stack::bad_name",
                        entry.key_span.clone(),
                        format!("the names of the stack and of the {word} `{}` are too long together", entry.key),
                        format!("{} characters", entry.key.len()),
                    )
                    .also(
                        self.fitting.span_at(&["stack", "name"]),
                        format!("{} characters", stack.len()),
                    )
                    .help(format!(
                        "they make names in the cloud of at most {MACHINE_NAME_MAX} characters: together they may have {}, and have {}",
                        most - 1,
                        length - 1
                    ));
                    self.problems.push(problem);
                }
            }
        }
    }

    /// A length of time, zero or longer.
    pub(super) fn duration(&mut self, path: &[&str], text: &DurationText) -> Option<SignedDuration> {
        // A bare number would be taken for seconds by some readers and for minutes by others.
        match text.0.parse::<SignedDuration>() {
            Ok(duration) if !duration.is_negative() => Some(duration),
            Ok(_) => {
                let what = format!("`{}` cannot be negative", dotted(path));
                self.bad(path, what, "negative", "write \"90s\", \"3m\" or \"1h 30m\"");
                None
            }
            Err(_) => {
                let what = format!(
                    "`{}` cannot be \"{}\": not a length of time",
                    dotted(path),
                    text.0
                );
                let digits = text.0.trim();
                let help = if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    format!("say of what: \"{digits}s\" or \"{digits}m\"")
                } else {
                    "write \"90s\", \"3m\" or \"1h 30m\"".to_owned()
                };
                self.bad(path, what, "not a length of time", help);
                None
            }
        }
    }

    /// A length of time, longer than zero.
    pub(super) fn positive(&mut self, path: &[&str], text: &DurationText) -> Option<SignedDuration> {
        let duration = self.duration(path, text)?;
        if duration.is_zero() {
            let what = format!("`{}` cannot be zero", dotted(path));
            self.bad(path, what, "zero", "write \"90s\", \"3m\" or \"1h 30m\"");
            return None;
        }
        Some(duration)
    }

    pub(super) fn money(&mut self, path: &[&str], text: &MoneyText) -> Option<Money> {
        let what = match text.0.parse::<Money>() {
            Ok(money) if money.amount.is_sign_negative() && !money.amount.is_zero() => {
                format!("`{}` cannot be negative", dotted(path))
            }
            Ok(money) => return Some(money),
            Err(_) => format!(
                "`{}` cannot be \"{}\": not an amount of money",
                dotted(path),
                text.0
            ),
        };
        self.bad(
            path,
            what,
            "not an amount of money",
            "write it with a point and the currency's three letters: \"2.50 EUR\"",
        );
        None
    }

    /// An address that secrets may be sent to, without a slash at its end.
    pub(super) fn address(&mut self, path: &[&str], text: &str) -> String {
        let name = dotted(path);
        let address = text.trim_end_matches('/').to_owned();
        let Ok(url) = Url::parse(text) else {
            let what = format!("`{name}` is not an address");
            self.bad(
                path,
                what,
                "not an address",
                "write \"https://host\" or \"sandbox\"",
            );
            return address;
        };
        if !url.username().is_empty() || url.password().is_some() {
            let what = format!("`{name}` must not hold a password");
            self.bad(
                path,
                what,
                "a user or password",
                "only `token` says how to be let in: take out the part before `@`",
            );
            return address;
        }
        if url.query().is_some() || url.fragment().is_some() {
            let what = format!("`{name}` must end with its path");
            self.bad(
                path,
                what,
                "more than a path",
                "take out what begins with `?` or `#`",
            );
        }
        match url.scheme() {
            "https" => {}
            "http" if url.host().as_ref().is_some_and(is_loopback) => {}
            "http" => {
                let what = format!("`{name}` would send the token over plain http");
                let secure = text.replacen("http://", "https://", 1);
                let help = format!("write \"{secure}\"; plain http goes only to this machine");
                self.bad(path, what, "not encrypted", help);
            }
            scheme => {
                let what = format!("`{name}` cannot be reached by `{scheme}:`");
                self.bad(
                    path,
                    what,
                    "neither https nor http",
                    "write \"https://host\" or \"sandbox\"",
                );
            }
        }
        address
    }

    /// Full paths of groups, or their ids.
    pub(super) fn groups(&mut self, path: &[&str], groups: &[String]) {
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

    pub(super) fn file(&mut self, path: &[&str], file: Option<&Path>) {
        if file.is_some_and(|file| file.as_os_str().is_empty()) {
            let what = format!("`{}` must not be empty", dotted(path));
            self.bad(path, what, "empty", "name a file, or take the key out");
        }
    }

    /// A file of the project: relative, and not outside of it.
    pub(super) fn project_file(&mut self, path: &[&str], file: &str) {
        self.file(path, Some(Path::new(file)));
        let inside = Path::new(file)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            let what = format!("`{}` must be a file of the project", dotted(path));
            self.bad(
                path,
                what,
                "outside the project",
                "write it relative to the project's folder, without `..`",
            );
        }
    }

    pub(super) fn secret(&mut self, path: &[&str], secret: &SecretRef) {
        let name = dotted(path);
        let (good, help) = match secret {
            SecretRef::Env(variable) => (
                is_variable(variable) && !looks_like_a_token(variable),
                "name the variable, without `$`: { env = \"HCLOUD_TOKEN\" }",
            ),
            SecretRef::File(file) => (
                !file.as_os_str().is_empty(),
                "name the file: { file = \"token\" }",
            ),
            SecretRef::Command(words) => (
                words.first().is_some_and(|program| !program.is_empty()),
                "name the program and its arguments, each by itself: { command = [\"pass\", \"show\", \"hetzner\"] }",
            ),
            SecretRef::Credential(name) => (
                !name.is_empty() && !name.contains('/') && name != "." && name != "..",
                "name the credential, as in the unit's LoadCredential=: { credential = \"hcloud\" }",
            ),
        };
        if !good {
            self.bad(
                path,
                format!("`{name}` does not say where the secret is"),
                "names nothing",
                help,
            );
        }
    }

    pub(super) fn public_key(&mut self, path: &[&str], key: &str) {
        let mut words = key.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
        let body = words.next().unwrap_or_default();
        let body_fits = body.len() >= 16
            && body
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        if key.contains("PRIVATE KEY") {
            let what = format!("`{}` is a private key", dotted(path));
            self.bad(
                path,
                what,
                "private",
                "write the public part (the file that ends in .pub), and replace this key",
            );
        } else if !known || !body_fits || key.trim().lines().count() > 1 {
            let what = format!("`{}` is not a public key", dotted(path));
            self.bad(
                path,
                what,
                "not a key",
                "one line as in ~/.ssh/id_ed25519.pub: \"ssh-ed25519 AAAA… name\"",
            );
        }
    }

    pub(super) fn projects(&mut self, path: &[&str], projects: &[String]) {
        self.duplicates(path, projects);
        for (index, project) in projects.iter().enumerate() {
            let index = index.to_string();
            let path = [path, &[index.as_str()]].concat();
            let is_id = !project.is_empty() && project.bytes().all(|byte| byte.is_ascii_digit());
            let is_path = project.contains('/')
                && !project.contains("://")
                && project
                    .split('/')
                    .all(|part| !part.is_empty() && !part.contains(char::is_whitespace));
            if !is_id && !is_path {
                let what = format!("an entry of `{}` is not a project", dotted(&path));
                self.bad(
                    &path,
                    what,
                    "not a project",
                    "write its full path without the server's address: \"acme/app\"",
                );
            }
        }
    }

    /// Reports what stands twice in a list.
    pub(super) fn duplicates(&mut self, path: &[&str], words: &[String]) {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (index, word) in words.iter().enumerate() {
            if seen.insert(word) {
                continue;
            }
            let here = index.to_string();
            let first = words
                .iter()
                .position(|other| other == word)
                .unwrap_or(0)
                .to_string();
            let problem = StackProblem::new(
                "stack::duplicate",
                self.span(&[path, &[here.as_str()]].concat()),
                format!("\"{word}\" stands twice in `{}`", dotted(path)),
                "again",
            )
            .also(self.span(&[path, &[first.as_str()]].concat()), "first here")
            .help("take one out");
            self.report(problem);
        }
    }
}

/// Whether it is this machine itself.
pub(super) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Whether a shell could set it (POSIX: letters, digits and `_`, no digit first).
fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
