//! The texts that `runfleet init` writes: the example stacks under the name that was asked for.

use super::{Stack, StackProblems, parse};

/// What a new stack is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaffold {
    /// One pool on Hetzner for projects on gitlab.com: `stacks/dev.toml`.
    Hetzner,
    /// One pool on DigitalOcean for projects on gitlab.com: `stacks/digitalocean.toml`.
    Digitalocean,
    /// The sandbox, with jobs in its queue: `stacks/local.toml`.
    Local,
}

impl Scaffold {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Hetzner, Self::Digitalocean, Self::Local];

    /// Its word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hetzner => "hetzner",
            Self::Digitalocean => "digitalocean",
            Self::Local => "local",
        }
    }

    /// The example that it is taken from, and that example's name.
    fn example(self) -> (&'static str, &'static str) {
        match self {
            Self::Hetzner => (include_str!("../../stacks/dev.toml"), "dev"),
            Self::Digitalocean => (include_str!("../../stacks/digitalocean.toml"), "digitalocean"),
            Self::Local => (include_str!("../../stacks/local.toml"), "local"),
        }
    }
}

/// The text of a new stack file, and what it says.
///
/// # Errors
/// When `name` is no name for a stack: see [`StackProblems`].
pub fn scaffold(kind: Scaffold, name: &str) -> Result<(String, Stack), StackProblems> {
    let (text, example) = kind.example();
    let quoted = serde_json::Value::from(name).to_string();
    let text = text
        .replacen(&format!("\"{example}\""), &quoted, 1)
        .replace(&format!("`{example}`"), &format!("`{}`", name.escape_debug()))
        .replace(&format!("-s {example} "), &format!("-s {} ", name.escape_debug()));
    let stack = parse(&text, &format!("stacks/{}.toml", name.escape_debug()))?;
    Ok((text, stack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaffold_is_a_valid_stack_of_the_name_that_was_asked_for() {
        for kind in Scaffold::ALL {
            let (text, stack) = scaffold(kind, "team-a").unwrap();
            assert_eq!(stack.name.as_str(), "team-a", "{kind:?}");
            assert!(text.contains("# The stack `team-a`"), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused_whatever_it_contains() {
        for name in ["", "Team", "a\"\n[budget]", "-", "ä"] {
            let problems = scaffold(Scaffold::Local, name).unwrap_err();
            assert!(
                problems
                    .problems
                    .iter()
                    .any(|problem| problem.code == "stack::bad_name"),
                "{name:?}: {problems:?}"
            );
        }
    }
}
