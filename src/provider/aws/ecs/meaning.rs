//! What ECS means by its refusals. It says most with one exception (`ClientException`, `InvalidParameterException`) or one list
//! of failures, and tells by words which it is.
//!
//! Sources: ECS developer guide, "API failure reasons" and "Stopped tasks error messages"; ECS API reference, `RunTask`.

use aws_sdk_ecs::types::Failure;

use crate::provider::{ProviderError, aws::calls::Failed};

/// What is said where there is no room now: a start of it, in small letters.
const NO_CAPACITY: [&str; 8] = [
    "capacity is unavailable",
    "resource:",
    "agent",
    "location",
    "empty capacity provider",
    "no container instances were found",
    "no active instances",
    "no free ip addresses",
];

/// What is said where the account may have no more.
const QUOTA: [&str; 4] = [
    "reached the limit on the number of",
    "the requested cpu configuration is above your limit",
    "the requested configuration is above your limit",
    "quota of tasks",
];

/// What is said where too much was asked, perhaps by ECS itself of another service.
const THROTTLED: [&str; 4] = [
    "rate exceeded",
    "request limit exceeded",
    "requestlimitexceeded",
    "too many concurrent attempts",
];

/// An error's meaning, by its words where its code says too little.
pub(super) fn of(failed: Failed) -> ProviderError {
    match failed.error {
        ProviderError::Rejected { code, why } => {
            by_words(&why).unwrap_or(ProviderError::Rejected { code, why })
        }
        other => other,
    }
}

/// Why a task of a call that was answered was not started.
pub(super) fn of_failure(failure: &Failure) -> ProviderError {
    let reason = failure.reason().unwrap_or_default();
    let why = match failure.detail().unwrap_or_default() {
        "" => reason.to_owned(),
        detail => format!("{reason}: {detail}"),
    };
    let lower = reason.to_ascii_lowercase();
    if NO_CAPACITY.iter().any(|start| lower.starts_with(start)) {
        return ProviderError::NoCapacity { why };
    }
    by_words(&why).unwrap_or(ProviderError::Rejected {
        code: "run_task".to_owned(),
        why: if why.is_empty() {
            "ECS does not say why".to_owned()
        } else {
            why
        },
    })
}

fn by_words(why: &str) -> Option<ProviderError> {
    let lower = why.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
    let why = why.to_owned();
    if says(&QUOTA) {
        Some(ProviderError::Quota { why })
    } else if says(&["capacity is unavailable", "no free ip addresses", "resource:eni"]) {
        Some(ProviderError::NoCapacity { why })
    } else if says(&THROTTLED) {
        Some(ProviderError::Throttled { retry_after: None })
    } else if says(&["account is currently blocked", "account is blocked"]) {
        Some(ProviderError::Unauthorized { why })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_words_are_a_decision() {
        let rejected = |code: &str, why: &str| {
            of(Failed {
                code: Some(code.to_owned()),
                error: ProviderError::Rejected {
                    code: code.to_owned(),
                    why: why.to_owned(),
                },
            })
        };
        let quota = "You've reached the limit on the number of vCPUs you can run concurrently";
        assert!(matches!(
            rejected("ClientException", quota),
            ProviderError::Quota { .. }
        ));
        let full = "Capacity is unavailable at this time. Please try again later or in a different availability zone";
        assert!(matches!(
            rejected("ClientException", full),
            ProviderError::NoCapacity { .. }
        ));
        let busy = "Error retrieving security group information for [sg-1]: Request limit exceeded. (ErrorCode: RequestLimitExceeded)";
        assert_eq!(
            rejected("InvalidParameterException", busy),
            ProviderError::Throttled { retry_after: None }
        );
        let role = "ECS was unable to assume the role";
        assert_eq!(
            rejected("ClientException", role),
            ProviderError::Rejected {
                code: "ClientException".to_owned(),
                why: role.to_owned()
            }
        );
        let passing = ProviderError::Ambiguous {
            why: "no answer in time".to_owned(),
        };
        let failed = Failed {
            code: None,
            error: passing.clone(),
        };
        assert_eq!(of(failed), passing, "what is no refusal stays");
    }

    #[test]
    fn why_a_task_was_not_started_is_a_decision() {
        let told = |reason: &str| of_failure(&Failure::builder().reason(reason).build());
        for reason in [
            "RESOURCE:ENI",
            "RESOURCE:CPU",
            "AGENT",
            "LOCATION",
            "Capacity is unavailable at this time.",
        ] {
            assert!(
                matches!(told(reason), ProviderError::NoCapacity { .. }),
                "{reason}"
            );
        }
        let quota = told("You've reached the limit on the number of tasks you can run concurrently");
        assert!(matches!(quota, ProviderError::Quota { .. }));
        assert!(matches!(
            told("Your account is currently blocked."),
            ProviderError::Unauthorized { .. }
        ));
        assert!(matches!(told("Rate exceeded"), ProviderError::Throttled { .. }));
        let detailed = Failure::builder()
            .reason("MISSING")
            .detail("the task definition")
            .build();
        assert_eq!(
            of_failure(&detailed),
            ProviderError::Rejected {
                code: "run_task".to_owned(),
                why: "MISSING: the task definition".to_owned()
            }
        );
        assert!(told("").to_string().contains("does not say why"));
    }
}
