//! The exit codes, which are part of the command line's contract.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do, or held with a warning.
    Done = 0,
    /// An error; usage errors too.
    Error = 1,
    /// With `--detailed-exitcode`: the plan has changes.
    Changes = 2,
    /// Done in part, interrupted, or busy runners left: the state is consistent, run again.
    Partial = 3,
    /// Another holds the lock beyond `--lock-timeout`.
    Locked = 4,
    /// Refused by a guard or policy.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
