//! What EC2 says of its resources, as the rest of the program sees it.

use std::net::IpAddr;

use aws_sdk_ec2::{
    operation::describe_instances::DescribeInstancesOutput,
    types::{
        Instance, InstanceLifecycleType, InstanceNetworkInterface, InstanceStateName, KeyPairInfo,
        Reservation, SecurityGroup, StateReason, Tag,
    },
};
use jiff::Timestamp;

use crate::model::{
    ids::{ProviderName, ResourceKind},
    offering::{Market, OfferingKey},
    resource::{CloudStatus, Labels, Observed, ResourceRef},
};

use super::rules;

/// The states of an instance that lives: the others are on their way out, or gone.
pub(super) const LIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// The states of an instance that is listed: EC2 tells of terminated ones for an hour, and they are never fetched.
pub(super) const LISTED: [&str; 5] = ["pending", "running", "stopping", "stopped", "shutting-down"];

/// The tag that holds a resource's name: what Amazon's console shows.
const NAME: &str = "Name";

/// Why an instance was terminated by a call: it was asked for, by us or by hand.
const ASKED_FOR: &str = "Client.UserInitiatedShutdown";

/// Why an instance was terminated that switched itself off.
const BY_ITSELF: &str = "Client.InstanceInitiatedShutdown";

/// The value of a tag.
pub(super) fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key))?.value()
}

/// Its name, and its labels: the tags that are neither its name nor Amazon's own (`aws:…`).
fn labels(tags: &[Tag]) -> (Option<String>, Labels) {
    let pairs = tags
        .iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())));
    let mut labels: Labels = pairs.filter(|(key, _)| !key.starts_with("aws:")).collect();
    (labels.remove(NAME), labels)
}

/// Labels and a name as tags.
pub(super) fn tags(labels: &Labels, name: Option<&str>) -> Vec<Tag> {
    let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let named = name.map(|name| (NAME, name));
    pairs
        .chain(named)
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}

/// The instances of an answer, each with its id.
pub(super) fn instances(answer: &DescribeInstancesOutput) -> Vec<(String, Instance)> {
    let all = answer.reservations().iter().flat_map(Reservation::instances);
    all.filter_map(|instance| Some((instance.instance_id()?.to_owned(), instance.clone())))
        .collect()
}

pub(super) fn state(instance: &Instance) -> Option<&InstanceStateName> {
    instance.state()?.name()
}

fn reason(instance: &Instance) -> Option<(&str, &str)> {
    let reason: &StateReason = instance.state_reason()?;
    let code = reason.code().filter(|code| !code.is_empty())?;
    Some((code, reason.message().unwrap_or_default()))
}

/// Why it ended: Amazon's code and words; none where it says nothing.
pub(super) fn ended(instance: &Instance) -> Option<(String, String)> {
    reason(instance).map(|(code, message)| (code.to_owned(), message.to_owned()))
}

/// Whether it is gone because somebody asked for it: then it is as absent as anything that was deleted.
pub(super) fn was_deleted(instance: &Instance) -> bool {
    state(instance) == Some(&InstanceStateName::Terminated)
        && reason(instance).is_none_or(|(code, _)| code == ASKED_FOR)
}

fn status(instance: &Instance) -> CloudStatus {
    let Some(state) = state(instance) else {
        return CloudStatus::Unknown("no state".to_owned());
    };
    match state {
        InstanceStateName::Pending => CloudStatus::Pending,
        InstanceStateName::Running => CloudStatus::Running,
        InstanceStateName::Stopping | InstanceStateName::Stopped => CloudStatus::Off,
        InstanceStateName::ShuttingDown => CloudStatus::Deleting,
        InstanceStateName::Terminated => match reason(instance) {
            Some((BY_ITSELF, _)) => CloudStatus::Ended(None),
            Some((code, message)) => CloudStatus::Terminated(in_words(code, message)),
            None => CloudStatus::Terminated("terminated".to_owned()),
        },
        other => CloudStatus::Unknown(other.as_str().to_owned()),
    }
}

/// Why an instance ended. Codes: EC2 API reference, "StateReason".
pub(super) fn in_words(code: &str, message: &str) -> String {
    match code {
        "Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown" => "spot interruption".to_owned(),
        _ if message.is_empty() => code.to_owned(),
        // EC2 begins its words with the code.
        _ if message.starts_with(code) => message.to_owned(),
        _ => format!("{code}: {message}"),
    }
}

fn addresses(instance: &Instance) -> Vec<IpAddr> {
    let v6 = instance
        .network_interfaces()
        .iter()
        .flat_map(InstanceNetworkInterface::ipv6_addresses)
        .filter_map(|address| address.ipv6_address());
    let all = instance
        .public_ip_address()
        .into_iter()
        .chain(v6)
        .chain(instance.private_ip_address());
    all.filter_map(|address| address.parse().ok()).collect()
}

pub(super) fn time(at: Option<&aws_sdk_ec2::primitives::DateTime>) -> Timestamp {
    at.and_then(|at| Timestamp::new(at.secs(), 0).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn plain(provider: &ProviderName, kind: ResourceKind, id: &str, fallback: &str, of: &[Tag]) -> Observed {
    let (name, labels) = labels(of);
    Observed {
        target: ResourceRef {
            provider: provider.clone(),
            kind,
            id: id.into(),
        },
        name: name.unwrap_or_else(|| fallback.to_owned()),
        labels,
        status: CloudStatus::Running,
        created_at: Timestamp::UNIX_EPOCH,
        offering: None,
        addresses: Vec::new(),
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: None,
        members: Vec::new(),
        group: None,
    }
}

/// An instance; none where EC2 says no id.
pub(super) fn machine(provider: &ProviderName, instance: &Instance) -> Option<Observed> {
    let id = instance.instance_id()?;
    let zone = instance.placement().and_then(|place| place.availability_zone());
    let offering = zone
        .zip(instance.instance_type())
        .map(|(zone, machine_type)| OfferingKey {
            provider: provider.clone(),
            location: zone.to_owned(),
            machine_type: machine_type.as_str().to_owned(),
            market: match instance.instance_lifecycle() {
                Some(InstanceLifecycleType::Spot) => Market::Spot,
                _ => Market::OnDemand,
            },
        });
    let groups = instance.security_groups().iter();
    let mut uses: Vec<ResourceRef> = groups
        .filter_map(|group| {
            Some(ResourceRef {
                provider: provider.clone(),
                kind: ResourceKind::Firewall,
                id: group.group_id()?.into(),
            })
        })
        .collect();
    uses.sort();
    Some(Observed {
        status: status(instance),
        created_at: time(instance.launch_time()),
        offering,
        addresses: addresses(instance),
        uses: Some(uses),
        ..plain(provider, ResourceKind::Machine, id, id, instance.tags())
    })
}

/// A key pair. Its id here is its name: that is what a launch takes, unique in the region, and never changed.
pub(super) fn key(provider: &ProviderName, key: &KeyPairInfo) -> Option<Observed> {
    let name = key.key_name()?;
    Some(Observed {
        created_at: time(key.create_time()),
        public_key: key.public_key().map(|key| key.trim().to_owned()),
        ..plain(provider, ResourceKind::SshKey, name, name, key.tags())
    })
}

/// A security group. EC2 does not tell when it was made: the beginning of time stands for that.
pub(super) fn firewall(provider: &ProviderName, group: &SecurityGroup) -> Option<Observed> {
    let id = group.group_id()?;
    let name = group.group_name().unwrap_or(id);
    Some(Observed {
        rules: Some(rules::seen(group)),
        ..plain(provider, ResourceKind::Firewall, id, name, group.tags())
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::{
        primitives::DateTime,
        types::{GroupIdentifier, InstanceState, InstanceType, Placement},
    };

    use super::*;

    fn instance(state: InstanceStateName, reason: Option<(&str, &str)>) -> Instance {
        let reason = reason.map(|(code, message)| StateReason::builder().code(code).message(message).build());
        Instance::builder()
            .instance_id("i-1")
            .state(InstanceState::builder().name(state).build())
            .set_state_reason(reason)
            .instance_type(InstanceType::C6iLarge)
            .placement(Placement::builder().availability_zone("eu-central-1a").build())
            .launch_time(DateTime::from_secs(1_800_000_000))
            .public_ip_address("192.0.2.1")
            .private_ip_address("10.0.0.1")
            .security_groups(GroupIdentifier::builder().group_id("sg-2").build())
            .security_groups(GroupIdentifier::builder().group_id("sg-1").build())
            .build()
    }

    fn status_of(state: InstanceStateName, reason: Option<(&str, &str)>) -> CloudStatus {
        machine(&"aws".into(), &instance(state, reason)).unwrap().status
    }

    #[test]
    fn a_state_is_what_it_means_for_a_runner() {
        use InstanceStateName as State;
        assert_eq!(status_of(State::Pending, None), CloudStatus::Pending);
        assert_eq!(status_of(State::Running, None), CloudStatus::Running);
        assert_eq!(status_of(State::Stopping, None), CloudStatus::Off);
        assert_eq!(status_of(State::ShuttingDown, None), CloudStatus::Deleting);
        assert_eq!(
            status_of(State::from("hibernating"), None),
            CloudStatus::Unknown("hibernating".to_owned())
        );
        let spot = (
            "Server.SpotInstanceTermination",
            "Server.SpotInstanceTermination: Spot instance termination",
        );
        assert_eq!(
            status_of(State::Terminated, Some(spot)),
            CloudStatus::Terminated("spot interruption".to_owned())
        );
        assert_eq!(
            status_of(
                State::Terminated,
                Some((
                    BY_ITSELF,
                    "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
                ))
            ),
            CloudStatus::Ended(None),
            "a runner that switched itself off has ended, and has not failed"
        );
        assert_eq!(
            status_of(
                State::Terminated,
                Some(("Server.InternalError", "an internal error"))
            ),
            CloudStatus::Terminated("Server.InternalError: an internal error".to_owned())
        );
    }

    #[test]
    fn what_somebody_asked_to_be_gone_is_absent() {
        let asked = Some((ASKED_FOR, "Client.UserInitiatedShutdown: User initiated shutdown"));
        assert!(was_deleted(&instance(InstanceStateName::Terminated, asked)));
        assert!(!was_deleted(&instance(InstanceStateName::ShuttingDown, asked)));
        let spot = Some(("Server.SpotInstanceTermination", ""));
        assert!(!was_deleted(&instance(InstanceStateName::Terminated, spot)));
    }

    #[test]
    fn an_instance_says_what_was_bought_where_it_answers_and_what_it_uses() {
        let seen = machine(&"aws".into(), &instance(InstanceStateName::Running, None)).unwrap();
        assert_eq!(seen.offering.unwrap().to_string(), "aws/eu-central-1a c6i.large");
        assert_eq!(seen.created_at.as_second(), 1_800_000_000);
        let addresses: Vec<_> = seen.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "10.0.0.1"]);
        let uses: Vec<_> = seen
            .uses
            .unwrap()
            .iter()
            .map(|used| used.id.to_string())
            .collect();
        assert_eq!(uses, ["sg-1", "sg-2"]);
        assert_eq!(seen.name, "i-1", "without a name, its id");
    }

    #[test]
    fn the_name_and_amazons_own_tags_are_no_labels() {
        let tags = tags(
            &Labels::from([
                ("team".to_owned(), "blue".to_owned()),
                ("aws:x".to_owned(), "y".to_owned()),
            ]),
            Some("ci-linux-otter"),
        );
        let (name, labels) = labels(&tags);
        assert_eq!(name.as_deref(), Some("ci-linux-otter"));
        assert_eq!(labels, Labels::from([("team".to_owned(), "blue".to_owned())]));
    }
}
