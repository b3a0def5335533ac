//! Takes secrets out of what a hook printed before anybody reads it.

use std::{
    env,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    secrets::{self, Policy},
    stack::{SecretRef, Stack, StateBackend, hooks::HookCall},
};

/// Shorter ones would blot ordinary words.
const SHORTEST: usize = 6;
/// Variables whose names end so hold secrets, as a rule.
const SECRET_WORDS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "KEY", "CREDENTIALS"];

/// Knows where the secrets are that must not be shown. It holds none: they are read when something is to be cleaned.
#[derive(Debug)]
pub(super) struct Redactor {
    references: Vec<SecretRef>,
    folder: PathBuf,
}

impl Redactor {
    /// Of all that a stack names.
    pub(super) fn new(stack: &Stack, folder: &Path) -> Self {
        let providers = stack.providers.values();
        let tokens = providers.flat_map(|provider| {
            let keys = provider.aws.keys.iter().flat_map(|(id, secret)| [id, secret]);
            provider.token.iter().chain(keys)
        });
        let cis = stack.ci.values().filter_map(|ci| ci.token.as_ref());
        let pools = stack.pools.iter().flat_map(|pool| {
            let hooks = pool.hooks.iter().filter_map(|hook| match &hook.call {
                HookCall::Http(call) => call.token.as_ref(),
                _ => None,
            });
            pool.registering.runner_token.iter().chain(hooks)
        });
        let state: Vec<&SecretRef> = match &stack.state {
            StateBackend::Object(object) => {
                let keys = object.keys.iter().flat_map(|(id, secret)| [id, secret]);
                keys.collect()
            }
            StateBackend::Http(http) => http.password.iter().collect(),
            StateBackend::File => Vec::new(),
        };
        let references = tokens.chain(cis).chain(pools).chain(state).chain(&stack.plan_key);
        Self {
            // What only a command tells is not in a hook's reach unless it asks itself; and asking may ask a person.
            references: references
                .filter(|reference| !matches!(reference, SecretRef::Command(_)))
                .cloned()
                .collect(),
            folder: folder.to_path_buf(),
        }
    }

    /// The text with `***` in the place of each secret.
    pub(super) async fn clean(&self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let mut known: Vec<SecretString> = Vec::new();
        for reference in &self.references {
            // One that cannot be read cannot have been printed.
            if let Ok(secret) = secrets::read(reference, "hooks", &self.folder, Policy::Untrusted).await {
                known.push(secret);
            }
        }
        let named = env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.to_ascii_uppercase();
            let is_secret = SECRET_WORDS.iter().any(|word| name.ends_with(word));
            is_secret
                .then(|| value.to_str().map(SecretString::from))
                .flatten()
        });
        known.extend(named);
        blot(text, &known)
    }
}

fn blot(text: &str, secrets: &[SecretString]) -> String {
    let mut longest_first: Vec<&str> = secrets
        .iter()
        .map(|secret| secret.expose_secret().trim())
        .filter(|secret| secret.len() >= SHORTEST)
        .collect();
    // One may be a part of another.
    longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut clean = text.to_owned();
    for secret in longest_first {
        clean = clean.replace(secret, "***");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_blotted_the_longest_first() {
        let secrets = ["abcdef", "abcdefgh", "abc"].map(SecretString::from);
        assert_eq!(blot("abcdefgh abcdef abc", &secrets), "*** *** abc");
    }
}
