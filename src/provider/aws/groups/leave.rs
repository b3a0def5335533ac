//! A member's leaving: out of its group, whose size goes down by one, and to its end.
//!
//! # Expected flow
//! - *Terminate*: one call of Auto Scaling's does both.
//! - *Detach*: the instance is marked as leaving, detached, and terminated. A run that ends after the first call left a member
//!   as it was; after the second one, an instance that its mark shows in the next listing and that is gone on with here.
//!
//! # Errors
//! Where it is not known whether a member left, the instance is read; what stays unknown is [`ProviderError::Ambiguous`].

use aws_sdk_autoscaling::types::{AutoScalingGroup, AutoScalingInstanceDetails};

use crate::{
    provider::{ProviderError, aws::Clock},
    stack::Leave,
};

use super::{Groups, api::LEAVING};

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A member.
    Inside,
    /// On its way out of the group, and running on.
    Detaching,
    /// On its way to its end, or there.
    Ending,
}

impl Groups {
    /// Ends an instance that is or was a member. One that is gone, or going, is done.
    pub(super) async fn leave(&self, id: &str) -> Result<(), ProviderError> {
        let clock = Clock::default();
        let Some(member) = self.api.membership(id, &clock).await? else {
            return self.end_left(id, &clock).await;
        };
        match stage(&member) {
            Stage::Ending => Ok(()),
            Stage::Detaching => self.end_left(id, &clock).await,
            Stage::Inside => {
                let name = member.auto_scaling_group_name().unwrap_or_default();
                if self.leave_by_name(name) == Some(Leave::Terminate) {
                    return self.terminate_member(id, &clock).await;
                }
                let (group, leave) = self.ours(name, &clock).await?;
                match leave {
                    Leave::Terminate => self.terminate_member(id, &clock).await,
                    Leave::Detach => self.detach_member(&group, id, &clock).await,
                }
            }
        }
    }

    async fn terminate_member(&self, id: &str, clock: &Clock) -> Result<(), ProviderError> {
        let error = match self.api.terminate_in_group(id, clock).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error {
            // It may have been done, or somebody was quicker.
            ProviderError::Ambiguous { .. }
            | ProviderError::Malformed { .. }
            | ProviderError::Rejected { .. }
                if self.is_ending(id, clock).await =>
            {
                Ok(())
            }
            error => Err(at_minimum(error)),
        }
    }

    async fn detach_member(
        &self,
        group: &AutoScalingGroup,
        id: &str,
        clock: &Clock,
    ) -> Result<(), ProviderError> {
        let name = group.auto_scaling_group_name().unwrap_or_default();
        let (desired, min) = (group.desired_capacity(), group.min_size());
        if desired <= min {
            // Asked first, so that an instance that stays is not marked.
            let why = format!(
                "{name} would have fewer than its minimum of {} members",
                min.unwrap_or(0)
            );
            return Err(below_minimum(why));
        }
        self.api.tag_leaving(id, name, clock).await?;
        if let Err(error) = self.api.detach(name, id, clock).await {
            match self.api.membership(id, clock).await {
                Ok(None) => {}
                Ok(Some(member)) if stage(&member) != Stage::Inside => {}
                // It may be on its way and not show yet.
                _ => return Err(at_minimum(error)),
            }
        }
        self.api.terminate(id, clock).await
    }

    /// Ends an instance that is in no group, if it is one that left through us.
    async fn end_left(&self, id: &str, clock: &Clock) -> Result<(), ProviderError> {
        match self.api.instance(id, clock).await? {
            None => Ok(()),
            Some(instance) if instance.is_ending() => Ok(()),
            Some(instance) if instance.tags.contains_key(LEAVING) => self.api.terminate(id, clock).await,
            Some(_) => Err(ProviderError::Rejected {
                code: "not_a_member".to_owned(),
                why: format!("{id} is in no group, and was not taken out of one by us"),
            }),
        }
    }

    /// Whether it is known to be gone or going.
    async fn is_ending(&self, id: &str, clock: &Clock) -> bool {
        match self.api.membership(id, clock).await {
            Ok(Some(member)) => stage(&member) == Stage::Ending,
            Ok(None) => {
                let instance = self.api.instance(id, clock).await;
                instance.is_ok_and(|seen| seen.is_none_or(|instance| instance.is_ending()))
            }
            Err(_) => false,
        }
    }
}

fn stage(member: &AutoScalingInstanceDetails) -> Stage {
    let lifecycle = member.lifecycle_state().unwrap_or_default();
    // Auto Scaling writes them in this call in capitals, too (its API reference, `AutoScalingInstanceDetails`).
    match lifecycle
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "terminating" | "terminated" => Stage::Ending,
        "detaching" | "detached" => Stage::Detaching,
        _ => Stage::Inside,
    }
}

/// Amazon has no code of its own for a group that is at its minimum, only words.
fn at_minimum(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Rejected { code, why } if code == "ValidationError" && says_minimum(&why) => {
            below_minimum(why)
        }
        error => error,
    }
}

fn says_minimum(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["minsize", "min size", "min-size"]
        .iter()
        .any(|words| why.contains(words))
}

fn below_minimum(why: String) -> ProviderError {
    ProviderError::Rejected {
        code: "below_min".to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_at_its_minimum_is_told_by_words_alone() {
        let error = |code: &str, why: &str| ProviderError::Rejected {
            code: code.to_owned(),
            why: why.to_owned(),
        };
        let words = "Currently, desiredSize equals minSize (1). Terminating instance without replacement will violate \
                     group's min size constraint.";
        assert_eq!(
            at_minimum(error("ValidationError", words)),
            error("below_min", words)
        );
        let other = error("ValidationError", "Instance Id not found");
        assert_eq!(at_minimum(other.clone()), other);
    }

    #[test]
    fn a_stage_is_read_in_either_spelling() {
        let of = |lifecycle: &str| {
            stage(
                &AutoScalingInstanceDetails::builder()
                    .lifecycle_state(lifecycle)
                    .build(),
            )
        };
        assert_eq!(of("InService"), Stage::Inside);
        assert_eq!(of("PENDING"), Stage::Inside);
        assert_eq!(of("Terminating:Wait"), Stage::Ending);
        assert_eq!(of("TERMINATED"), Stage::Ending);
        assert_eq!(of("DETACHING"), Stage::Detaching);
    }
}
