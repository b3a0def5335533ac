//! Names: of runners, and of resources in the cloud.
//!
//! Each runner's name comes from a stream of its own (seed, pool and ordinal), so that one more machine does not rename
//! the others. A name in the cloud is a valid host name of at most 63 characters.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::facts::Facts;
use crate::model::{
    ids::{PoolName, ResourceKind, RunnerName, StackName},
    intent::Intent,
    kind::key_material,
};

/// The longest host name label (RFC 1035).
const LABEL: usize = 63;
/// The longest `{stack}-{pool}`: leaves room for a dash and the longest runner's name with its number.
const PREFIX: usize = 36;

const ADJECTIVES: [&str; 64] = [
    "able", "amber", "ample", "apt", "bold", "brave", "brief", "bright", "brisk", "calm", "civil", "clear",
    "clever", "cosy", "crisp", "dapper", "deft", "eager", "early", "easy", "fair", "fast", "fine", "firm",
    "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest",
    "jolly", "keen", "kind", "light", "lively", "lucid", "lucky", "mellow", "merry", "mild", "neat",
    "nimble", "noble", "patient", "plain", "polite", "prompt", "proud", "quick", "quiet", "rapid", "ready",
    "shiny", "smart", "steady", "sunny", "swift", "tidy", "witty",
];

const NOUNS: [&str; 64] = [
    "badger", "beaver", "bison", "camel", "cat", "cheetah", "condor", "cougar", "coyote", "crane", "crow",
    "deer", "dingo", "dolphin", "donkey", "eagle", "egret", "elk", "falcon", "ferret", "finch", "fox",
    "gazelle", "gecko", "goose", "hare", "hawk", "hedgehog", "heron", "ibex", "ibis", "jackal", "jaguar",
    "kestrel", "koala", "lark", "lemur", "leopard", "llama", "lynx", "magpie", "marmot", "marten", "mole",
    "moose", "newt", "ocelot", "osprey", "otter", "owl", "panda", "puffin", "quail", "rabbit", "raven",
    "robin", "salmon", "seal", "sparrow", "stork", "swan", "tapir", "toad", "wombat",
];

/// Hands out runner names that nothing has yet: no record, listed resource, open attempt or registration.
#[derive(Debug)]
pub(super) struct Names {
    seed: u64,
    taken: HashSet<String>,
}

impl Names {
    /// Knows every name in the cloud that is taken.
    pub(super) fn new(facts: &Facts<'_>, seed: u64) -> Self {
        let snapshot = facts.snapshot;
        let mut taken = HashSet::new();
        taken.extend(
            snapshot
                .state
                .resources
                .values()
                .map(|record| record.name.clone()),
        );
        for cloud in snapshot.clouds.values() {
            taken.extend(cloud.listing.resources.iter().map(|seen| seen.name.clone()));
        }
        for open in &snapshot.open {
            if let Intent::Create { spec, .. } = &open.intent {
                taken.insert(spec.name().to_owned());
            }
        }
        for demand in snapshot.demand.values() {
            taken.extend(demand.runners.iter().map(|runner| runner.machine().to_owned()));
        }
        Self { seed, taken }
    }

    /// A new runner's name, and its machine's name in the cloud.
    pub(super) fn runner(
        &mut self,
        stack: &StackName,
        pool: &PoolName,
        ordinal: u32,
    ) -> (RunnerName, String) {
        let text = format!("{}/{pool}/{ordinal}", self.seed);
        let digest = Sha256::digest(text);
        let word = |words: &[&'static str; 64], byte: usize| {
            let at = digest.get(byte).copied().unwrap_or_default();
            words.get(usize::from(at % 64)).copied().unwrap_or_default()
        };
        let base = format!("{}-{}", word(&ADJECTIVES, 0), word(&NOUNS, 1));
        let prefix = prefix(stack, pool);
        let mut runner = base.clone();
        let mut number = 1_u32;
        loop {
            let name = format!("{prefix}{runner}");
            if self.taken.insert(name.clone()) {
                return (RunnerName::new(runner), name);
            }
            number += 1;
            runner = format!("{base}-{number}");
        }
    }
}

/// What the names of a pool's machines begin with, dash included.
pub(super) fn prefix(stack: &StackName, pool: &PoolName) -> String {
    let whole = host(&format!("{stack}-{pool}"));
    if whole.len() <= PREFIX {
        return format!("{whole}-");
    }
    let digest = hex::encode(Sha256::digest(format!("{stack}/{pool}")));
    let cut: String = whole.chars().take(PREFIX - 7).collect();
    format!(
        "{}-{}-",
        cut.trim_end_matches('-'),
        digest.get(..6).unwrap_or_default()
    )
}

/// Whether a machine has the name of one of ours: what the names of its pool begin with and two words, perhaps a number.
pub(super) fn is_named(prefix: &str, machine: &str) -> bool {
    let Some(rest) = machine.strip_prefix(prefix) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('-').collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [adjective, noun] => ADJECTIVES.contains(adjective) && NOUNS.contains(noun),
        [adjective, noun, n] => ADJECTIVES.contains(adjective) && NOUNS.contains(noun) && number(n),
        _ => false,
    }
}

/// The name in the cloud of a shared resource. A key's name holds its digest, since a key cannot be changed in place.
pub(super) fn shared(stack: &StackName, kind: ResourceKind, name: &str, key: Option<&str>) -> String {
    let text = match (kind, key) {
        (ResourceKind::SshKey, Some(key)) => {
            let digest = hex::encode(Sha256::digest(key_material(key)));
            format!("{stack}-{name}-{}", digest.get(..8).unwrap_or_default())
        }
        _ => format!("{stack}-{name}"),
    };
    let whole = host(&text);
    if whole.len() <= LABEL {
        return whole;
    }
    let digest = hex::encode(Sha256::digest(text));
    let cut: String = whole.chars().take(LABEL - 9).collect();
    format!(
        "{}-{}",
        cut.trim_end_matches('-'),
        digest.get(..8).unwrap_or_default()
    )
}

/// Lower case letters, digits and dashes, beginning with a letter or digit.
fn host(text: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    mapped.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_fit_a_label() {
        for words in [ADJECTIVES, NOUNS] {
            let mut sorted = words.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 64);
            assert!(words.iter().all(|word| word.len() <= 8));
        }
        // prefix, dash, two words, dash, number of seven digits
        const { assert!(PREFIX + 1 + 8 + 1 + 8 + 1 + 7 <= LABEL) };
    }

    #[test]
    fn a_long_pool_keeps_a_valid_prefix_of_its_own() {
        let stack = "a-very-long-name-of-a-stack-of-ours".into();
        let one = prefix(&stack, &"linux-one".into());
        let two = prefix(&stack, &"linux-two".into());
        assert_ne!(one, two);
        assert!(one.len() <= PREFIX + 1 && !one.contains("--"));
        assert_eq!(prefix(&"Prod".into(), &"li_nux".into()), "prod-li-nux-");
    }

    #[test]
    fn another_stacks_runner_is_not_taken_for_ours() {
        let linux = prefix(&"prod".into(), &"linux".into());
        assert!(is_named(&linux, "prod-linux-brave-otter"));
        assert!(is_named(&linux, "prod-linux-brave-otter-2"));
        for other in [
            "prod-eu-linux-brave-otter",
            "prod-linux-eu-brave-otter",
            "prod-linux-brave",
            "prod-linux-brave-otter-x",
            "prod-linux-brave-otter-",
            "prod-linux-my-runner",
            "prod-linux-",
        ] {
            assert!(!is_named(&linux, other), "{other}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_material_and_not_by_its_comment() {
        let name = |key| shared(&"prod".into(), ResourceKind::SshKey, "ops", Some(key));
        assert_eq!(name("ssh-ed25519 AAAA me@here"), name("ssh-ed25519 AAAA"));
        assert_ne!(name("ssh-ed25519 AAAA"), name("ssh-ed25519 BBBB"));
        let long = |end: &str| {
            let name = format!("{}{end}", "x".repeat(70));
            shared(&"prod".into(), ResourceKind::Firewall, &name, None)
        };
        assert!(long("a").len() <= LABEL && long("a") != long("b"));
        assert_eq!(
            shared(&"prod".into(), ResourceKind::Firewall, "default", None),
            "prod-default"
        );
    }
}
