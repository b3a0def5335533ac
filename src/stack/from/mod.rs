//! Stack files from other systems' configurations: text in, a stack file's text out, with what has no equivalent.

pub mod gitlab_runners_fleet;

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

/// Why nothing was made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FromError {
    /// It is neither JSON nor TOML.
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
    /// A value that the other system would not take either.
    #[error("line {line}: {key} is not {expected}")]
    Value {
        /// From 1.
        line: usize,
        /// Whose.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// What it comes to is no valid stack.
    #[error("what it says is not a valid stack")]
    Stack(#[from] Box<StackProblems>),
}
