//! What Auto Scaling and EC2 together say of a member.
//!
//! Auto Scaling knows where a member stands in its group, EC2 what the machine does; a machine that ended behind the group's back
//! is told by EC2 first.

use std::net::IpAddr;

use aws_sdk_autoscaling::types::LifecycleState;
use aws_sdk_ec2::types::InstanceLifecycleType;
use jiff::Timestamp;

use crate::model::{
    ids::ProviderName,
    offering::{Market, OfferingKey},
    resource::{CloudStatus, Labels, Member},
};

/// The word of ours for where an instance stands that left its group and still runs.
pub use crate::plan::members::DETACHED;

/// An instance, as EC2 tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub id: String,
    /// EC2's word: `running`.
    pub state: String,
    pub launched: Option<Timestamp>,
    pub machine_type: String,
    pub zone: String,
    pub market: Market,
    /// Public first.
    pub addresses: Vec<IpAddr>,
    pub tags: Labels,
    /// Why it is in that state, where EC2 says so.
    pub reason: Option<String>,
    /// The first label of its private DNS name, which Amazon's images take for their host name.
    pub hostname: Option<String>,
}

impl Instance {
    /// From EC2's answer; none of an instance without an id.
    pub(super) fn of(row: &aws_sdk_ec2::types::Instance) -> Option<Self> {
        let word = row.state().and_then(|state| state.name());
        let addresses = [
            row.public_ip_address(),
            row.private_ip_address(),
            row.ipv6_address(),
        ];
        let tags = row.tags().iter().filter_map(|tag| {
            let key = tag.key()?.to_owned();
            Some((key, tag.value().unwrap_or_default().to_owned()))
        });
        let zone = row
            .placement()
            .and_then(|placement| placement.availability_zone());
        let spot = row.instance_lifecycle() == Some(&InstanceLifecycleType::Spot);
        Some(Self {
            id: row.instance_id()?.to_owned(),
            state: word.map(|word| word.as_str().to_owned()).unwrap_or_default(),
            launched: row.launch_time().and_then(time),
            machine_type: row
                .instance_type()
                .map(|kind| kind.as_str().to_owned())
                .unwrap_or_default(),
            zone: zone.unwrap_or_default().to_owned(),
            market: if spot { Market::Spot } else { Market::OnDemand },
            addresses: addresses
                .into_iter()
                .flatten()
                .filter_map(|address| address.parse().ok())
                .collect(),
            tags: tags.collect(),
            reason: reason(row),
            hostname: row
                .private_dns_name()
                .and_then(|name| name.split('.').next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        })
    }

    pub(super) fn offering(&self, provider: &ProviderName) -> OfferingKey {
        OfferingKey {
            provider: provider.clone(),
            location: self.zone.clone(),
            machine_type: self.machine_type.clone(),
            market: self.market,
        }
    }

    /// Whether it is ended, or on its way there.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.state.as_str(), "shutting-down" | "terminated")
    }

    /// What it is doing, whatever group it was in.
    pub(super) fn status(&self) -> CloudStatus {
        match self.state.as_str() {
            "pending" => CloudStatus::Pending,
            "running" => CloudStatus::Running,
            "stopping" | "stopped" => CloudStatus::Off,
            "shutting-down" => CloudStatus::Deleting,
            "terminated" => {
                CloudStatus::Terminated(self.reason.clone().unwrap_or_else(|| "terminated".to_owned()))
            }
            other => CloudStatus::Unknown(other.to_owned()),
        }
    }

    /// As a member that left its group and is not ended yet.
    pub(super) fn detached(&self, provider: &ProviderName, now: Timestamp) -> Member {
        Member {
            id: self.id.as_str().into(),
            status: self.status(),
            created_at: self.launched.unwrap_or(now),
            offering: Some(self.offering(provider)),
            addresses: self.addresses.clone(),
            protected: false,
            lifecycle: DETACHED.to_owned(),
            hostname: self.hostname.clone(),
        }
    }
}

/// Why an instance is in its state. Codes: EC2 API reference, `StateReason`.
fn reason(row: &aws_sdk_ec2::types::Instance) -> Option<String> {
    let told = row.state_reason();
    let code = told.and_then(|told| told.code()).unwrap_or_default();
    if code.starts_with("Server.SpotInstance") {
        return Some("spot interruption".to_owned());
    }
    let words = told
        .and_then(|told| told.message())
        .filter(|words| !words.is_empty());
    let transition = || row.state_transition_reason().filter(|words| !words.is_empty());
    words.or_else(transition).map(str::to_owned)
}

/// A time of the SDK's.
pub(super) fn time(told: &aws_smithy_types::DateTime) -> Option<Timestamp> {
    let nanos = i32::try_from(told.subsec_nanos()).unwrap_or(0);
    Timestamp::new(told.secs(), nanos).ok()
}

/// What EC2 said of a member.
#[derive(Clone, Copy, Debug)]
pub(super) enum Machine<'a> {
    /// This.
    Seen(&'a Instance),
    /// Of all that are not gone for good, it is none.
    Missing,
    /// It could not be asked.
    Unasked,
}

/// What a member is doing; none where it is set aside: neither serving nor coming nor going, and not ours to count.
pub(super) fn status(lifecycle: &str, health: &str, machine: Machine<'_>) -> Option<CloudStatus> {
    let stage = lifecycle.split(':').next().unwrap_or_default();
    if matches!(stage, "Standby" | "EnteringStandby" | "Warmed" | "Quarantined") {
        return None;
    }
    let ending = match machine {
        Machine::Seen(instance) => instance.is_ending(),
        // One that is being launched may not be known to all of EC2 yet.
        Machine::Missing => stage != "Pending",
        Machine::Unasked => false,
    };
    if ending {
        return Some(CloudStatus::Deleting);
    }
    let off = matches!(machine, Machine::Seen(instance) if instance.status() == CloudStatus::Off);
    Some(match stage {
        "Pending" => CloudStatus::Pending,
        "InService" if off => CloudStatus::Off,
        "InService" if health.eq_ignore_ascii_case("unhealthy") => {
            CloudStatus::Failed("unhealthy".to_owned())
        }
        "InService" => CloudStatus::Running,
        "Terminating" | "Terminated" | "Detaching" | "Detached" => CloudStatus::Deleting,
        _ => CloudStatus::Unknown(lifecycle.to_owned()),
    })
}

/// A member of a group as the rest of the program sees it; none where it is set aside.
pub(super) fn member(
    row: &aws_sdk_autoscaling::types::Instance,
    machine: Machine<'_>,
    provider: &ProviderName,
    now: Timestamp,
) -> Option<Member> {
    let lifecycle = row
        .lifecycle_state()
        .map(LifecycleState::as_str)
        .unwrap_or_default();
    let status = status(lifecycle, row.health_status().unwrap_or_default(), machine)?;
    let instance = match machine {
        Machine::Seen(instance) => Some(instance),
        Machine::Missing | Machine::Unasked => None,
    };
    Some(Member {
        id: row.instance_id()?.into(),
        status,
        created_at: instance.and_then(|instance| instance.launched).unwrap_or(now),
        offering: instance.map(|instance| instance.offering(provider)),
        addresses: instance
            .map(|instance| instance.addresses.clone())
            .unwrap_or_default(),
        protected: row.protected_from_scale_in().unwrap_or(false),
        lifecycle: lifecycle.to_owned(),
        hostname: instance.and_then(|instance| instance.hostname.clone()),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{InstanceState, InstanceStateName, StateReason};

    use super::*;

    fn instance(state: &str) -> Instance {
        Instance {
            id: "i-1".to_owned(),
            state: state.to_owned(),
            launched: None,
            machine_type: "c6i.large".to_owned(),
            zone: "eu-central-1a".to_owned(),
            market: Market::OnDemand,
            addresses: Vec::new(),
            tags: Labels::new(),
            hostname: None,
            reason: None,
        }
    }

    #[test]
    fn a_member_is_what_both_say() {
        use CloudStatus::{Deleting, Failed, Off, Pending, Running, Unknown};
        let unhealthy = Failed("unhealthy".to_owned());
        for (lifecycle, health, state, said) in [
            ("Pending", "Healthy", "pending", Some(Pending)),
            ("Pending:Wait", "Healthy", "running", Some(Pending)),
            ("Pending:Proceed", "Healthy", "terminated", Some(Deleting)),
            ("InService", "Healthy", "running", Some(Running)),
            ("InService", "HEALTHY", "pending", Some(Running)),
            ("InService", "Unhealthy", "running", Some(unhealthy)),
            ("InService", "Unhealthy", "shutting-down", Some(Deleting)),
            ("InService", "Healthy", "terminated", Some(Deleting)),
            ("InService", "Healthy", "stopped", Some(Off)),
            ("InService", "Healthy", "stopping", Some(Off)),
            ("Terminating", "Healthy", "running", Some(Deleting)),
            ("Terminating:Wait", "Healthy", "running", Some(Deleting)),
            ("Terminated", "Unhealthy", "terminated", Some(Deleting)),
            ("Detaching", "Healthy", "running", Some(Deleting)),
            ("Standby", "Healthy", "running", None),
            ("EnteringStandby", "Healthy", "running", None),
            ("Warmed:Stopped", "Healthy", "stopped", None),
            ("Warmed:Pending:Wait", "Healthy", "pending", None),
            (
                "Rebooting",
                "Healthy",
                "running",
                Some(Unknown("Rebooting".to_owned())),
            ),
        ] {
            let instance = instance(state);
            assert_eq!(
                status(lifecycle, health, Machine::Seen(&instance)),
                said,
                "{lifecycle} {health} {state}"
            );
        }
    }

    #[test]
    fn a_member_that_ec2_does_not_have_is_going_unless_it_is_only_coming() {
        let of = |lifecycle, machine| status(lifecycle, "Healthy", machine);
        assert_eq!(of("InService", Machine::Missing), Some(CloudStatus::Deleting));
        assert_eq!(of("Pending", Machine::Missing), Some(CloudStatus::Pending));
        assert_eq!(of("InService", Machine::Unasked), Some(CloudStatus::Running));
    }

    #[test]
    fn a_machine_that_was_taken_back_says_so() {
        let reason = StateReason::builder().code("Server.SpotInstanceTermination");
        let row = aws_sdk_ec2::types::Instance::builder()
            .instance_id("i-1")
            .instance_lifecycle(InstanceLifecycleType::Spot)
            .state(
                InstanceState::builder()
                    .name(InstanceStateName::Terminated)
                    .build(),
            )
            .state_reason(reason.message("Server.SpotInstanceTermination: …").build())
            .public_ip_address("203.0.113.7")
            .private_ip_address("10.0.0.7")
            .build();
        let seen = Instance::of(&row).unwrap();
        assert_eq!(
            seen.status(),
            CloudStatus::Terminated("spot interruption".to_owned())
        );
        assert_eq!(seen.market, Market::Spot);
        let addresses: Vec<_> = seen.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["203.0.113.7", "10.0.0.7"]);
    }
}
