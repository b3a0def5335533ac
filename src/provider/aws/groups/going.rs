//! What goes on in a group, and who else sets its size.
//!
//! A launch or a termination of a member that the listing shows is no reason to wait: the members that boot and those that leave
//! are counted one by one. What the listing does not account for is.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::types::{
    Activity, InstanceRefresh, InstanceRefreshStatus, PredictiveScalingMode, ScalingActivityStatusCode,
    ScalingPolicy,
};
use jiff::{SignedDuration, Timestamp};

use super::members::time;

/// Why the size is not to be changed now; none: it may be. `members` are the ids that the listing shows, `cooldown` is the
/// group's own.
pub(super) fn waits(
    activities: &[Activity],
    members: &BTreeSet<&str>,
    cooldown: SignedDuration,
    now: Timestamp,
) -> Option<String> {
    let going = activities
        .iter()
        .find(|activity| is_going(activity) && !is_accounted_for(activity, members));
    if let Some(activity) = going {
        return Some(words(activity));
    }
    let ended = activities
        .iter()
        .filter(|activity| activity.status_code() == Some(&ScalingActivityStatusCode::Successful))
        .filter_map(|activity| time(activity.end_time()?))
        .max()?;
    let until = ended.checked_add(cooldown).ok()?;
    (until > now).then(|| format!("cooling down until {}", until.strftime("%H:%M:%SZ")))
}

/// Whether it has not ended; a status that this version does not know has not, unless it says when it did.
fn is_going(activity: &Activity) -> bool {
    use ScalingActivityStatusCode::{Cancelled, Failed, Successful};
    !matches!(activity.status_code(), Some(Cancelled | Failed | Successful)) && activity.end_time().is_none()
}

/// Whether the listing shows what it is about: the member that is launched, or that a member is leaving.
fn is_accounted_for(activity: &Activity, members: &BTreeSet<&str>) -> bool {
    let told = activity.description().unwrap_or_default();
    told.starts_with("Terminating")
        || told
            .split(|c: char| c.is_whitespace() || c == ',')
            .any(|word| members.contains(word))
}

fn words(activity: &Activity) -> String {
    let status = activity
        .status_code()
        .map(ScalingActivityStatusCode::as_str)
        .unwrap_or_default();
    let told = activity.description().unwrap_or("an activity");
    format!("{told} ({status})")
}

/// Who else sets the size, so that we must not: a running refresh, or a policy that is on.
pub(super) fn governed(policies: &[ScalingPolicy], refreshes: &[InstanceRefresh]) -> Option<String> {
    if let Some(refresh) = refreshes.iter().find(|refresh| is_running(refresh)) {
        let id = refresh.instance_refresh_id().unwrap_or("without an id");
        return Some(format!("instance refresh {id}"));
    }
    let policy = policies.iter().find(|policy| is_on(policy))?;
    let name = policy.policy_name().unwrap_or("without a name");
    Some(format!("scaling policy {name}"))
}

/// A status that this version does not know runs.
fn is_running(refresh: &InstanceRefresh) -> bool {
    use InstanceRefreshStatus::{Cancelled, Failed, RollbackFailed, RollbackSuccessful, Successful};
    !matches!(
        refresh.status(),
        Some(Cancelled | Failed | RollbackFailed | RollbackSuccessful | Successful)
    )
}

/// Policies are on unless they say otherwise, but for a predictive one that only forecasts, as it does by default.
fn is_on(policy: &ScalingPolicy) -> bool {
    let scales = policy
        .predictive_scaling_configuration()
        .is_some_and(|config| config.mode() == Some(&PredictiveScalingMode::ForecastAndScale));
    let forecasts = policy.policy_type() == Some("PredictiveScaling") && !scales;
    policy.enabled() != Some(false) && !forecasts
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::PredictiveScalingConfiguration;
    use aws_smithy_types::DateTime;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn activity(told: &str, status: ScalingActivityStatusCode, ended: Option<i64>) -> Activity {
        Activity::builder()
            .description(told)
            .status_code(status)
            .set_end_time(ended.map(DateTime::from_secs))
            .build()
    }

    const COOLDOWN: SignedDuration = SignedDuration::from_secs(300);

    #[test]
    fn what_the_listing_accounts_for_is_not_waited_for() {
        use ScalingActivityStatusCode::{Failed, InProgress, PreInService, WaitingForSpotInstanceId};
        let members = BTreeSet::from(["i-1"]);
        let why = |told, status| waits(&[activity(told, status, None)], &members, COOLDOWN, at(0));
        assert_eq!(why("Launching a new EC2 instance: i-1", PreInService), None);
        assert_eq!(why("Terminating EC2 instance: i-2", InProgress), None);
        assert_eq!(why("Launching a new EC2 instance", Failed), None);
        assert_eq!(
            why("Launching a new EC2 instance: i-2", InProgress).as_deref(),
            Some("Launching a new EC2 instance: i-2 (InProgress)")
        );
        assert_eq!(
            why("Placing Spot instance request.", WaitingForSpotInstanceId).as_deref(),
            Some("Placing Spot instance request. (WaitingForSpotInstanceId)")
        );
        let unknown = ScalingActivityStatusCode::from("Pondering");
        assert!(why("Attaching an instance", unknown).is_some());
    }

    #[test]
    fn a_group_cools_down_from_its_last_successful_activity() {
        use ScalingActivityStatusCode::{Failed, Successful};
        let activities = [
            activity("Launching a new EC2 instance: i-3", Failed, Some(900)),
            activity("Launching a new EC2 instance: i-2", Successful, Some(500)),
            activity("Terminating EC2 instance: i-1", Successful, Some(600)),
        ];
        let why = |cooldown, now| waits(&activities, &BTreeSet::new(), cooldown, now);
        assert_eq!(
            why(COOLDOWN, at(899)).as_deref(),
            Some("cooling down until 00:15:00Z")
        );
        assert_eq!(why(COOLDOWN, at(900)), None);
        assert_eq!(why(SignedDuration::ZERO, at(600)), None);
        assert_eq!(waits(&[], &BTreeSet::new(), COOLDOWN, at(0)), None);
    }

    #[test]
    fn who_else_sets_the_size_is_named() {
        let policy = |name: &str| ScalingPolicy::builder().policy_name(name);
        let off = policy("off").enabled(false).build();
        let on = policy("cpu-50").enabled(true).build();
        let forecast = PredictiveScalingConfiguration::builder();
        let predictive = |name: &str| policy(name).policy_type("PredictiveScaling");
        let only = predictive("forecast").predictive_scaling_configuration(forecast.clone().build());
        let scales = forecast.mode(PredictiveScalingMode::ForecastAndScale).build();
        let scales = predictive("ahead").predictive_scaling_configuration(scales);
        let said = |policies: &[ScalingPolicy]| governed(policies, &[]);
        assert_eq!(said(std::slice::from_ref(&off)), None);
        assert_eq!(
            said(&[off.clone(), on.clone()]).as_deref(),
            Some("scaling policy cpu-50")
        );
        assert_eq!(
            said(&[policy("silent").build()]).as_deref(),
            Some("scaling policy silent")
        );
        assert_eq!(said(&[only.build()]), None);
        assert_eq!(said(&[scales.build()]).as_deref(), Some("scaling policy ahead"));
        let refresh = |status: &str| {
            InstanceRefresh::builder()
                .instance_refresh_id("r-1")
                .status(InstanceRefreshStatus::from(status))
                .build()
        };
        for status in [
            "Pending",
            "InProgress",
            "Cancelling",
            "RollbackInProgress",
            "Baking",
            "New",
        ] {
            let said = governed(std::slice::from_ref(&on), &[refresh(status)]);
            assert_eq!(said.as_deref(), Some("instance refresh r-1"), "{status}");
        }
        for status in [
            "Successful",
            "Failed",
            "Cancelled",
            "RollbackFailed",
            "RollbackSuccessful",
        ] {
            assert_eq!(governed(&[], &[refresh(status)]), None, "{status}");
        }
    }
}
