//! Checks of Kubernetes's own words: how a cluster lets us in, names, labels, taints and amounts.
//!
//! The shapes are the API's own ("Object Names and IDs", "Labels and Selectors", "Taints and Tolerations", "Resource Management"),
//! so that a wrong word is told here and not by the first Job that is refused.

use super::{
    Endpoint, StackProblem,
    parse::{Check, dotted},
    quantity,
    raw::{RawOffering, RawProvider},
};
use crate::model::resource::Toleration;

/// The longest name of a CronJob: its own Jobs' names have eleven letters more.
const CRONJOB_MAX: usize = 52;
/// The longest label of DNS.
const LABEL_MAX: usize = 63;
/// What a kubeconfig says, and an address with a token makes needless.
const KUBECONFIG: [&str; 3] = ["kubeconfig", "context", "in_cluster"];
/// What a taint does.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

impl Check<'_> {
    /// An address has a token, a kubeconfig has its own.
    pub(super) fn kubernetes_access(&mut self, path: &[&str; 2], raw: &RawProvider, endpoint: &Endpoint) {
        let aws = ["region", "profile", "role_arn", "access_key", "secret_key", "vpc"];
        self.only_for(path, "kubernetes", &aws, "Amazon");
        match endpoint {
            Endpoint::Default => {
                self.only_for(
                    path,
                    "a provider without `endpoint`",
                    &["token"],
                    "one with an address of its own",
                );
            }
            Endpoint::Url(_) => {
                self.token(path, raw.token.as_ref(), endpoint, "KUBE_TOKEN");
                self.only_for(
                    path,
                    "an address with a token",
                    &KUBECONFIG,
                    "a provider without `endpoint`",
                );
            }
            Endpoint::Sandbox => {
                self.only_for(path, "the sandbox", &KUBECONFIG, "a provider without `endpoint`");
            }
        }
    }

    /// The words of one offering.
    pub(super) fn job_words(&mut self, offering: &[&str; 4], raw: &RawOffering) {
        let at = |keys: &[&'static str]| -> Vec<String> {
            let all = offering.iter().chain(keys);
            all.map(|key| (*key).to_owned()).collect()
        };
        if let Some(cronjob) = &raw.cronjob {
            let path = at(&["cronjob"]);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let good = cronjob.len() <= CRONJOB_MAX && cronjob.split('.').all(is_dns_label);
            if !good {
                let what = format!("\"{cronjob}\" is no name of a CronJob");
                let help = format!(
                    "at most {CRONJOB_MAX} lower-case letters, digits, `-` and `.`: `kubectl get cronjobs` lists them"
                );
                self.bad(&path, what, "not a name", help);
            }
        }
        for (key, value) in &raw.node_selector {
            let path = [&offering[..], &["node_selector", key]].concat();
            if !is_label_key(key) {
                let problem = StackProblem::new(
                    "stack::bad_value",
                    self.key_span(&path),
                    format!("\"{key}\" is no label of a node"),
                    "not a label",
                )
                .help(
                    "write it as `kubectl get nodes --show-labels` does: \"kubernetes.io/arch\" = \"amd64\"",
                );
                self.report(problem);
            } else if !is_label_value(value) {
                let what = format!("\"{value}\" is no value of a label");
                self.bad(
                    &path,
                    what,
                    "not a label's value",
                    "at most 63 letters, digits, `-`, `_` and `.`",
                );
            }
        }
        for (index, toleration) in raw.tolerations.iter().enumerate() {
            let index = index.to_string();
            self.toleration(&[&offering[..], &["tolerations", &index]].concat(), toleration);
        }
        let cpu = raw
            .cpu
            .as_deref()
            .filter(|text| quantity::cpu_millis(text).is_none());
        if let Some(text) = cpu {
            let path = [&offering[..], &["cpu"]].concat();
            let what = format!("`{}` cannot be \"{text}\"", dotted(&path));
            self.bad(
                &path,
                what,
                "no amount of processors",
                "write whole processors or thousandths: \"2\", \"500m\"",
            );
        }
        let memory = raw
            .memory
            .as_deref()
            .filter(|text| quantity::memory_bytes(text).is_none());
        if let Some(text) = memory {
            let path = [&offering[..], &["memory"]].concat();
            let what = format!("`{}` cannot be \"{text}\"", dotted(&path));
            let help = match text.strip_suffix('m') {
                Some(number) => format!("`m` is a thousandth of a byte here; write \"{number}Mi\""),
                None => "write bytes, or with Mi or Gi behind: \"512Mi\", \"4Gi\"".to_owned(),
            };
            self.bad(&path, what, "no amount of memory", help);
        }
    }

    /// A taint that is put up with, by the API's own rules.
    fn toleration(&mut self, path: &[&str], toleration: &Toleration) {
        let operator = toleration.operator.as_deref().unwrap_or("Equal");
        if !matches!(operator, "Equal" | "Exists") {
            let path = [path, &["operator"]].concat();
            let what = format!("there is no operator \"{operator}\"");
            self.bad(&path, what, "not an operator", "write \"Equal\" or \"Exists\"");
            return;
        }
        if let Some(effect) = toleration
            .effect
            .as_deref()
            .filter(|effect| !EFFECTS.contains(effect))
        {
            let path = [path, &["effect"]].concat();
            let what = format!("there is no effect \"{effect}\"");
            self.bad(
                &path,
                what,
                "not an effect",
                format!("write one of {}", EFFECTS.join(", ")),
            );
        }
        if toleration.key.is_none() && operator == "Equal" {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.span(path),
                format!("`{}` names no taint", dotted(path)),
                "every taint, or which?",
            )
            .help("add its `key`, or operator = \"Exists\" for every taint");
            self.report(problem);
        }
        if operator == "Exists" {
            self.only_for(path, "the operator Exists", &["value"], "Equal");
        }
        let key = toleration.key.as_deref().filter(|key| !is_label_key(key));
        if let Some(key) = key {
            let path = [path, &["key"]].concat();
            let what = format!("\"{key}\" is no key of a taint");
            self.bad(
                &path,
                what,
                "not a key",
                "write it as `kubectl describe node` does: \"ci\"",
            );
        }
    }

    /// A name that is a label of DNS.
    pub(super) fn dns_label(&mut self, path: &[&str], name: &str, what: &str) {
        if is_dns_label(name) {
            return;
        }
        let what = format!("\"{name}\" is no name of {what}");
        self.bad(
            path,
            what,
            "not a name",
            "at most 63 lower-case letters, digits and `-`, a letter or digit at either end",
        );
    }
}

/// Whether it is a label of DNS, as RFC 1123 has it.
fn is_dns_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= LABEL_MAX
        && name.bytes().next().is_some_and(plain)
        && name.bytes().next_back().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// Whether it can be a label's value; an empty one can.
pub(super) fn is_label_value(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    value.len() <= LABEL_MAX
        && value.bytes().next().is_none_or(plain)
        && value.bytes().next_back().is_none_or(plain)
        && value
            .bytes()
            .all(|byte| plain(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether it can be a label's key: `name`, or `prefix/name`.
fn is_label_key(key: &str) -> bool {
    let name = match key.split_once('/') {
        Some((prefix, name)) if prefix.len() <= 253 && prefix.split('.').all(is_dns_label) => name,
        Some(_) => return false,
        None => key,
    };
    !name.is_empty() && is_label_value(name)
}
