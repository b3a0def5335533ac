//! A runner's lifecycle: its states, and one table of the moves between them.
//!
//! A plan derives each state anew from what was seen, so nothing steps through the table at run time; it says what may
//! follow what, and its tests hold that no way leads from a busy runner straight to its delete.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a runner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunnerState {
    /// The intent is on record; the cloud may or may not have it.
    Creating,
    /// The cloud has it; the CI has not heard from it.
    Booting,
    /// It takes jobs, and has none.
    Idle,
    /// It runs jobs.
    Busy,
    /// It takes no new job.
    Cordoned,
    /// It takes no new job, and still runs some.
    Draining,
    /// It never became ready, or broke.
    Failed,
    /// It ended by itself.
    Ended,
    /// Its delete is on record.
    Deleting,
    /// The cloud does not have it any more.
    Gone,
}

impl RunnerState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Creating,
        Self::Booting,
        Self::Idle,
        Self::Busy,
        Self::Cordoned,
        Self::Draining,
        Self::Failed,
        Self::Ended,
        Self::Deleting,
        Self::Gone,
    ];

    /// The states that may follow. Only what is not busy may begin to be deleted.
    #[expect(clippy::match_same_arms, reason = "a table has a line for each state")]
    pub fn next(self) -> &'static [Self] {
        use RunnerState as S;
        match self {
            S::Creating => &[
                S::Booting,
                S::Idle,
                S::Busy,
                S::Failed,
                S::Ended,
                S::Deleting,
                S::Gone,
            ],
            S::Booting => &[S::Idle, S::Busy, S::Cordoned, S::Failed, S::Ended, S::Gone],
            S::Idle => &[S::Busy, S::Cordoned, S::Draining, S::Failed, S::Ended, S::Gone],
            S::Busy => &[S::Idle, S::Cordoned, S::Draining, S::Failed, S::Ended, S::Gone],
            S::Cordoned => &[
                S::Idle,
                S::Busy,
                S::Draining,
                S::Failed,
                S::Ended,
                S::Deleting,
                S::Gone,
            ],
            S::Draining => &[S::Idle, S::Busy, S::Cordoned, S::Failed, S::Ended, S::Gone],
            S::Failed => &[
                S::Idle,
                S::Busy,
                S::Cordoned,
                S::Draining,
                S::Ended,
                S::Deleting,
                S::Gone,
            ],
            S::Ended => &[S::Deleting, S::Gone],
            S::Deleting => &[S::Gone],
            S::Gone => &[],
        }
    }

    /// Moves to `to`.
    ///
    /// # Errors
    /// When the table does not allow it.
    pub fn step(self, to: Self) -> Result<Self, IllegalMove> {
        if self == to || self.next().contains(&to) {
            Ok(to)
        } else {
            Err(IllegalMove { from: self, to })
        }
    }

    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Booting => "booting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Deleting => "deleting",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for RunnerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A move that the lifecycle does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a runner cannot go from {from} to {to}")]
pub struct IllegalMove {
    /// Where it stood.
    pub from: RunnerState,
    /// Where it was to go.
    pub to: RunnerState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_runner_is_never_deleted_directly() {
        for busy in [RunnerState::Busy, RunnerState::Draining, RunnerState::Idle] {
            assert!(busy.step(RunnerState::Deleting).is_err(), "{busy}");
        }
    }

    #[test]
    fn every_runner_can_come_to_its_end_and_no_other_way_leads_out_of_it() {
        for state in RunnerState::ALL {
            let mut seen = vec![state];
            let mut at = 0;
            while at < seen.len() {
                for next in seen[at].next() {
                    if !seen.contains(next) {
                        seen.push(*next);
                    }
                }
                at += 1;
            }
            assert!(seen.contains(&RunnerState::Gone), "{state}");
        }
        assert!(RunnerState::Gone.next().is_empty());
    }
}
