//! Stack files from other systems' configurations: text in, a stack file's text out, with what has no equivalent.

pub mod ado_ecs_agents;
pub mod circleci_runner_autoscaler;
pub mod do_scaler;
pub mod drone_autoscaler;
mod env_file;
pub mod gitlab_runners_fleet;
mod go;

use std::fmt::Write as _;

use serde_json::Value;

use super::{Stack, StackProblems};

/// A stack file made from another system's configuration.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The stack file.
    pub text: String,
    /// What it says.
    pub stack: Stack,
    /// What the other configuration says and the stack file does not.
    pub left: Vec<Left>,
}

/// A key without an equivalent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The key, as it stands in the other configuration: `pulumi.stack`.
    pub key: String,
    /// Why, and what to do where something is to be done.
    pub why: String,
}

/// A variable that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Where it stands without a value, or could be written; from 1.
    pub line: usize,
    /// Its name.
    pub key: &'static str,
    /// A value that it could have.
    pub example: &'static str,
}

fn named(missing: &[Missing]) -> String {
    let each: Vec<String> = missing
        .iter()
        .map(|missing| format!("line {}: {} is missing", missing.line, missing.key))
        .collect();
    each.join(", ")
}

/// Why nothing was made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FromError {
    /// It is not in the form that the other system reads.
    #[error("line {line}: {why}")]
    Syntax {
        /// From 1.
        line: usize,
        /// The reader's words.
        why: String,
    },
    /// It is readable, and no configuration of that system.
    #[error("{why}")]
    WrongKind {
        /// What it lacks.
        why: String,
    },
    /// It lacks what the other system does not start without.
    #[error("{}", named(missing))]
    Missing {
        /// Never empty.
        missing: Vec<Missing>,
    },
    /// A value that the other system would not take either, or could do nothing with.
    #[error("line {line}: {key} is not {expected}")]
    Value {
        /// From 1.
        line: usize,
        /// Whose.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file among several is not what the other system reads, or lacks what that does not start without.
    #[error("{file}{}: {why}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    InFile {
        /// Its path, or a folder's, as the other system has it.
        file: String,
        /// From 1; none where no line is to blame.
        line: Option<usize>,
        /// What is wrong. Shows no secret.
        why: String,
        /// What to type.
        help: String,
    },
    /// What it comes to is no valid stack.
    #[error("what it says is not a valid stack")]
    Stack(#[from] Box<StackProblems>),
}

/// A reader's words, without the place that is told beside them, and without the text that it quotes.
fn told(words: &str) -> String {
    let first = words.lines().next().unwrap_or_default();
    first
        .rsplit_once(" at line ")
        .map_or(first, |(words, _)| words)
        .to_owned()
}

/// The line of a text, JSON or TOML, in which a key is written; from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let holds = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix('"').unwrap_or(line);
        line.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(['"', ' ', '=', ':']))
    };
    // Keys of a JSON object on one line are all on that line.
    let at = text.lines().position(holds).or_else(|| {
        let quoted = format!("\"{key}\"");
        text.lines().position(|line| line.contains(&quoted))
    });
    at.map(|at| at + 1)
}

/// A text in TOML's quotes.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `[providers.asg]` of a program that Amazon let in by its usual chain.
fn aws(region: Option<&str>, profile: Option<&str>) -> String {
    let mut table =
        "[providers.asg]                 # let in as Amazon's own tools are: environment, profile, the machine's role\n"
            .to_owned();
    for (key, value) in [("region ", region), ("profile", profile)] {
        if let Some(value) = value {
            let _ = writeln!(table, "{key} = {}", quoted(value));
        }
    }
    table
}
