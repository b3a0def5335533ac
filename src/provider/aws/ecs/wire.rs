//! From Amazon's tasks to what the core sees: one batch for each attempt, with a member for each of its tasks.
//!
//! A task is told by its tags whose it is. `StopTask` takes them off (API reference, `StopTask`), so that a task which is on its
//! way out is known by `startedBy`, which the attempt's other tasks tell.

use std::collections::BTreeMap;

use aws_sdk_ecs::{
    primitives::DateTime,
    types::{Container, Task, TaskStopCode},
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::model::{
    ids::{ProviderName, ResourceKind, StackName},
    offering::{Market, OfferingKey},
    resource::{ClaimLabels, CloudStatus, Labels, Member, Observed, ResourceRef},
};

/// The tag of the attempt's nonce.
const INTENT: &str = "runfleet-intent";
/// The tag in which Amazon's consoles keep a name.
pub(super) const NAME: &str = "Name";
/// The tag of the offering's type, which a task does not tell of itself.
pub(super) const TYPE: &str = "runfleet-type";
/// The tag of the container whose end is the task's.
pub(super) const CONTAINER: &str = "runfleet-container";
/// The tag that says whether it has a public address, by which follows what its containers are called.
pub(super) const ADDRESS: &str = "runfleet-address";
/// [`ADDRESS`] of one that has.
pub(super) const PUBLIC: &str = "public";
/// [`ADDRESS`] of one that has none.
pub(super) const PRIVATE: &str = "private";
/// The capacity provider of the spot market.
pub(super) const SPOT: &str = "FARGATE_SPOT";

/// The longest `startedBy` that every version of the API took, and the longest `clientToken` (API reference, `RunTask`).
const STARTED_BY: usize = 36;
const TOKEN: usize = 64;
/// For how long a task that could not be started is told as failed, so that what is wrong is seen and acted on. Nothing can
/// remove it, and Amazon tells of it for an hour: from then on it is merely gone.
const FAILED: SignedDuration = SignedDuration::from_mins(10);
/// How many hexadecimal characters of a SHA-256 stand for a nonce that is too long or has other characters.
const SHORT: usize = 32;

/// What an attempt's tasks are started by: its nonce, where that will do.
pub(super) fn started_by(intent: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    shortened(intent, STARTED_BY, fits)
}

/// The token by which Amazon knows an attempt again.
pub(super) fn token(intent: &str) -> String {
    shortened(intent, TOKEN, |byte| (33..=126).contains(&byte))
}

fn shortened(intent: &str, most: usize, fits: impl Fn(u8) -> bool) -> String {
    if !intent.is_empty() && intent.len() <= most && intent.bytes().all(fits) {
        return intent.to_owned();
    }
    let digest = hex::encode(Sha256::digest(intent.as_bytes()));
    digest.chars().take(SHORT).collect()
}

/// Where tasks run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub provider: &'a ProviderName,
    pub region: &'a str,
    /// By Amazon's clock.
    pub now: Timestamp,
}

/// The last part of a task's ARN: `arn:aws:ecs:eu-central-1:1:task/agents/0f3a…`.
pub(super) fn id(task: &Task) -> Option<&str> {
    task.task_arn()?.rsplit('/').next().filter(|id| !id.is_empty())
}

pub(super) fn labels(task: &Task) -> Labels {
    let tags = task.tags().iter().filter_map(|tag| {
        let key = tag.key()?.to_owned();
        Some((key, tag.value().unwrap_or_default().to_owned()))
    });
    tags.collect()
}

/// One resource for each attempt whose tasks carry this stack's label, or any stack's.
pub(super) fn batches(tasks: &[Task], stack: Option<&StackName>, place: Place<'_>) -> Vec<Observed> {
    let ours = |labels: &Labels| {
        let named = labels.get(ClaimLabels::STACK);
        named.is_some_and(|named| stack.is_none_or(|stack| stack.as_str() == named))
    };
    let mut attempts: BTreeMap<String, Vec<(&Task, Labels)>> = BTreeMap::new();
    let mut bare = Vec::new();
    for task in tasks {
        let labels = labels(task);
        if ours(&labels) {
            let intent = labels.get(INTENT).cloned();
            let key = intent.or_else(|| id(task).map(str::to_owned));
            attempts
                .entry(key.unwrap_or_default())
                .or_default()
                .push((task, labels));
        } else if !labels.contains_key(ClaimLabels::STACK) {
            bare.push(task);
        }
    }
    let starters: BTreeMap<String, String> = attempts
        .keys()
        .map(|intent| (started_by(intent), intent.clone()))
        .collect();
    for task in bare {
        let attempt = task.started_by().and_then(|by| starters.get(by));
        if let Some(attempt) = attempt.and_then(|intent| attempts.get_mut(intent)) {
            attempt.push((task, Labels::new()));
        }
    }
    attempts
        .into_iter()
        .filter_map(|(intent, tasks)| batch(&intent, tasks, place))
        .collect()
}

/// One attempt. Its labels are those of a task that lives, since those of others can no longer be changed.
fn batch(intent: &str, mut tasks: Vec<(&Task, Labels)>, place: Place<'_>) -> Option<Observed> {
    let lives = |task: &Task| matches!(task.desired_status(), None | Some("RUNNING"));
    tasks.sort_by_key(|(task, labels)| (labels.is_empty(), !lives(task), id(task).map(str::to_owned)));
    let labels = tasks.first().map(|(_, labels)| labels.clone())?;
    let all = tasks.iter().map(|(task, _)| *task);
    Some(observed(intent, &all.collect::<Vec<_>>(), labels, place))
}

/// An attempt's tasks, whose labels are known.
pub(super) fn observed(intent: &str, tasks: &[&Task], labels: Labels, place: Place<'_>) -> Observed {
    let mut members: Vec<Member> = tasks
        .iter()
        .filter_map(|task| member(task, &labels, place))
        .collect();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    members.dedup_by(|a, b| a.id == b.id);
    let first = members.iter().map(|member| member.created_at).min();
    Observed {
        target: ResourceRef {
            provider: place.provider.clone(),
            kind: ResourceKind::Batch,
            id: intent.into(),
        },
        name: labels.get(NAME).cloned().unwrap_or_else(|| intent.to_owned()),
        status: whole(&members),
        created_at: first.unwrap_or(place.now),
        offering: members.first().and_then(|member| member.offering.clone()),
        addresses: Vec::new(),
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: u32::try_from(members.len()).ok(),
        members,
        group: None,
        labels,
    }
}

/// One task, as a machine.
pub(super) fn machine(task: &Task, place: Place<'_>) -> Option<Observed> {
    let labels = labels(task);
    let member = member(task, &labels, place)?;
    Some(Observed {
        target: ResourceRef {
            provider: place.provider.clone(),
            kind: ResourceKind::Machine,
            id: member.id.clone(),
        },
        name: member.hostname.clone().unwrap_or_else(|| member.id.to_string()),
        labels,
        status: member.status,
        created_at: member.created_at,
        offering: member.offering,
        addresses: member.addresses,
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: None,
        members: Vec::new(),
        group: None,
    })
}

/// A batch is what the most alive of its tasks is.
fn whole(members: &[Member]) -> CloudStatus {
    let any = |wanted: fn(&CloudStatus) -> bool| members.iter().any(|member| wanted(&member.status));
    if any(|status| matches!(status, CloudStatus::Running | CloudStatus::Unknown(_))) {
        return CloudStatus::Running;
    }
    for status in [CloudStatus::Pending, CloudStatus::Deleting] {
        if members.iter().any(|member| member.status == status) {
            return status;
        }
    }
    let over = |member: &&Member| matches!(member.status, CloudStatus::Ended(_));
    let last = members.iter().find(over).or_else(|| members.first());
    last.map_or(CloudStatus::Ended(None), |member| member.status.clone())
}

fn member(task: &Task, labels: &Labels, place: Place<'_>) -> Option<Member> {
    let named = labels.get(CONTAINER);
    let mut containers = task.containers().iter();
    let main = containers
        .find(|container| container.name() == named.map(String::as_str))
        .or_else(|| task.containers().first());
    let market = match task.capacity_provider_name() {
        Some(SPOT) => Market::Spot,
        _ => Market::OnDemand,
    };
    let offering = labels.get(TYPE).map(|machine_type| OfferingKey {
        provider: place.provider.clone(),
        location: place.region.to_owned(),
        machine_type: machine_type.clone(),
        market,
    });
    let address = detail(task, "privateIPv4Address").and_then(|address| address.parse().ok());
    let hostname = if labels.get(ADDRESS).is_some_and(|address| address == PUBLIC) {
        detail(task, "privateDnsName")
    } else {
        main.and_then(Container::runtime_id)
    };
    Some(Member {
        id: id(task)?.into(),
        status: status(task, main, place.now),
        created_at: task.created_at().and_then(time).unwrap_or(place.now),
        offering,
        addresses: address.into_iter().collect(),
        protected: false,
        lifecycle: lifecycle(task, main),
        hostname: hostname.filter(|name| !name.is_empty()).map(str::to_owned),
    })
}

/// What its network interface is told to have.
fn detail<'a>(task: &'a Task, name: &str) -> Option<&'a str> {
    let interfaces = task
        .attachments()
        .iter()
        .filter(|one| one.r#type() == Some("ElasticNetworkInterface"));
    let mut details = interfaces.flat_map(aws_sdk_ecs::types::Attachment::details);
    details.find(|detail| detail.name() == Some(name))?.value()
}

fn time(at: &DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(at.as_nanos()).ok()
}

/// Where a task stands. Source: ECS developer guide, "Task lifecycle".
fn status(task: &Task, main: Option<&Container>, now: Timestamp) -> CloudStatus {
    let ending = task.desired_status() == Some("STOPPED");
    match task.last_status().unwrap_or_default() {
        "PROVISIONING" | "PENDING" | "ACTIVATING" if !ending => CloudStatus::Pending,
        "RUNNING" if !ending => CloudStatus::Running,
        "STOPPED" | "DELETED" => over(task, main, now),
        "PROVISIONING" | "PENDING" | "ACTIVATING" | "RUNNING" | "DEACTIVATING" | "STOPPING"
        | "DEPROVISIONING" => {
            match (task.stop_code(), main.and_then(Container::exit_code)) {
                (Some(TaskStopCode::TaskFailedToStart), _) => CloudStatus::Failed(why(task, main)),
                // The container has ended by itself; its network goes.
                (None | Some(TaskStopCode::EssentialContainerExited), Some(code)) => {
                    CloudStatus::Ended(Some(code))
                }
                _ => CloudStatus::Deleting,
            }
        }
        other => CloudStatus::Unknown(other.to_owned()),
    }
}

/// How a task came to its end.
fn over(task: &Task, main: Option<&Container>, now: Timestamp) -> CloudStatus {
    let code = main.and_then(Container::exit_code);
    let never_started = match task.stop_code() {
        Some(TaskStopCode::TaskFailedToStart) => true,
        Some(TaskStopCode::EssentialContainerExited) => return CloudStatus::Ended(code),
        Some(other) => return CloudStatus::Terminated(format!("{}: {}", other.as_str(), why(task, main))),
        None => code.is_none() && task.started_at().is_none(),
    };
    if !never_started {
        return CloudStatus::Ended(code);
    }
    let stopped = task.stopped_at().and_then(time);
    let fresh = stopped.is_none_or(|at| now.duration_since(at) < FAILED);
    // One without tags was stopped by us, or by somebody: it was seen.
    if fresh && !task.tags().is_empty() {
        CloudStatus::Failed(why(task, main))
    } else {
        CloudStatus::Terminated(format!("TaskFailedToStart: {}", why(task, main)))
    }
}

/// Amazon's words for why it stopped: the task's, and the container's where they say more.
fn why(task: &Task, main: Option<&Container>) -> String {
    let of_task = task.stopped_reason().unwrap_or_default();
    let of_container = main.and_then(Container::reason).unwrap_or_default();
    match (of_task, of_container) {
        ("", "") => "Amazon does not say why".to_owned(),
        (text, "") | ("", text) => text.to_owned(),
        (text, more) if text.contains(more) => text.to_owned(),
        (text, more) => format!("{text}: {more}"),
    }
}

fn lifecycle(task: &Task, main: Option<&Container>) -> String {
    let last = task.last_status().unwrap_or("UNKNOWN");
    let said = task.stopped_reason().is_some_and(|reason| !reason.is_empty());
    match task.stop_code() {
        Some(code) => format!("{last}: {}: {}", code.as_str(), why(task, main)),
        None if said => format!("{last}: {}", why(task, main)),
        None => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Attachment, KeyValuePair, Tag, builders::TaskBuilder};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn place(provider: &ProviderName) -> Place<'_> {
        Place {
            provider,
            region: "eu-central-1",
            now: NOW,
        }
    }

    fn claimed(stack: &str, intent: &str) -> Vec<Tag> {
        let pairs = [
            (ClaimLabels::STACK, stack),
            (INTENT, intent),
            (NAME, "prod-linux-brave-otter"),
            (TYPE, "0.25vcpu-0.5gb"),
            (CONTAINER, "agent"),
            (ADDRESS, PRIVATE),
        ];
        pairs
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .to_vec()
    }

    fn task(id: &str) -> TaskBuilder {
        let container = |name: &str, runtime: &str| Container::builder().name(name).runtime_id(runtime);
        Task::builder()
            .task_arn(format!("arn:aws:ecs:eu-central-1:1:task/agents/{id}"))
            .last_status("RUNNING")
            .desired_status("RUNNING")
            .created_at(DateTime::from_secs(60))
            .containers(container("sidecar", &format!("{id}-1")).build())
            .containers(container("agent", &format!("{id}-2")).build())
    }

    fn interface(details: &[(&str, &str)]) -> Attachment {
        let details = details
            .iter()
            .map(|(name, value)| KeyValuePair::builder().name(*name).value(*value).build());
        Attachment::builder()
            .r#type("ElasticNetworkInterface")
            .set_details(Some(details.collect()))
            .build()
    }

    #[test]
    fn an_attempt_is_a_batch_of_its_tasks() {
        let provider = "ecs".into();
        let tasks = [
            task("b")
                .set_tags(Some(claimed("prod", "i-1")))
                .capacity_provider_name(SPOT)
                .build(),
            task("a")
                .set_tags(Some(claimed("prod", "i-1")))
                .capacity_provider_name(SPOT)
                .build(),
            task("c").set_tags(Some(claimed("prod", "i-2"))).build(),
            task("d").set_tags(Some(claimed("other", "i-3"))).build(),
            task("e").started_by("somebody").build(),
        ];
        let seen = batches(&tasks, Some(&"prod".into()), place(&provider));
        let said: Vec<_> = seen
            .iter()
            .map(|seen| {
                let ids: Vec<_> = seen.members.iter().map(|member| member.id.as_str()).collect();
                (seen.target.id.as_str(), seen.size, ids.join(" "))
            })
            .collect();
        assert_eq!(
            said,
            [
                ("i-1", Some(2), "a b".to_owned()),
                ("i-2", Some(1), "c".to_owned())
            ]
        );
        assert_eq!(seen[0].name, "prod-linux-brave-otter");
        let offering = seen[0].offering.as_ref().map(ToString::to_string);
        assert_eq!(offering.as_deref(), Some("ecs/eu-central-1 0.25vcpu-0.5gb spot"));
        assert_eq!(seen[0].created_at, Timestamp::from_second(60).unwrap());
        assert_eq!(batches(&tasks, None, place(&provider)).len(), 3, "any stack's");
    }

    #[test]
    fn one_whose_tags_were_taken_off_by_stopping_it_is_known_by_who_started_it() {
        let provider = "ecs".into();
        let going = |id: &str, by: &str| {
            task(id)
                .started_by(by)
                .desired_status("STOPPED")
                .last_status("STOPPING")
        };
        let tasks = [
            task("a").set_tags(Some(claimed("prod", "i-1"))).build(),
            going("b", "i-1").stop_code(TaskStopCode::UserInitiated).build(),
            going("c", "i-9").build(),
        ];
        let seen = batches(&tasks, Some(&"prod".into()), place(&provider));
        assert_eq!(seen.len(), 1);
        let members: Vec<_> = seen[0]
            .members
            .iter()
            .map(|m| (m.id.as_str(), m.status.clone()))
            .collect();
        assert_eq!(
            members,
            [("a", CloudStatus::Running), ("b", CloudStatus::Deleting)]
        );
        assert_eq!(
            seen[0].members[1].hostname.as_deref(),
            Some("b-2"),
            "by the attempt's tags"
        );
    }

    #[test]
    fn a_runner_is_called_by_the_containers_id_or_by_the_interfaces_name() {
        let provider: ProviderName = "ecs".into();
        let with = |address: &str, task: TaskBuilder| {
            let labels = Labels::from([
                (ADDRESS.to_owned(), address.to_owned()),
                (CONTAINER.to_owned(), "agent".to_owned()),
            ]);
            let member = member(&task.build(), &labels, place(&provider)).unwrap();
            (member.hostname, member.addresses)
        };
        let attached = || {
            task("a").attachments(interface(&[
                ("privateIPv4Address", "10.0.0.5"),
                ("privateDnsName", "ip-10-0-0-5.eu-central-1.compute.internal"),
            ]))
        };
        let address = vec!["10.0.0.5".parse().unwrap()];
        assert_eq!(
            with(PRIVATE, attached()),
            (Some("a-2".to_owned()), address.clone())
        );
        let name = "ip-10-0-0-5.eu-central-1.compute.internal".to_owned();
        assert_eq!(with(PUBLIC, attached()), (Some(name), address));
        assert_eq!(with(PUBLIC, task("a")), (None, Vec::new()), "not attached yet");
        let none = Task::builder().task_arn("arn/a").build();
        let labels = Labels::new();
        assert_eq!(member(&none, &labels, place(&provider)).unwrap().hostname, None);
    }

    #[test]
    fn a_status_and_how_it_ended_are_a_table() {
        // Last and desired status, stop code, exit code and reason, and what that comes to.
        type Row = (
            &'static str,
            &'static str,
            Option<TaskStopCode>,
            Option<i32>,
            &'static str,
            CloudStatus,
        );
        use CloudStatus::{Deleting, Ended, Failed, Pending, Running, Terminated, Unknown};
        use TaskStopCode::{EssentialContainerExited, SpotInterruption, TaskFailedToStart, UserInitiated};
        let spot = "Your Spot Task was interrupted.";
        let gone = "CannotPullContainerError: image not found";
        let rows: [Row; 17] = [
            ("PROVISIONING", "RUNNING", None, None, "", Pending),
            ("PENDING", "RUNNING", None, None, "", Pending),
            ("ACTIVATING", "RUNNING", None, None, "", Pending),
            ("RUNNING", "RUNNING", None, None, "", Running),
            ("PENDING", "STOPPED", Some(UserInitiated), None, "", Deleting),
            ("RUNNING", "STOPPED", Some(SpotInterruption), None, spot, Deleting),
            (
                "DEACTIVATING",
                "STOPPED",
                Some(EssentialContainerExited),
                Some(0),
                "",
                Ended(Some(0)),
            ),
            (
                "STOPPING",
                "STOPPED",
                Some(UserInitiated),
                Some(143),
                "",
                Deleting,
            ),
            (
                "DEPROVISIONING",
                "STOPPED",
                Some(TaskFailedToStart),
                None,
                gone,
                Failed(gone.to_owned()),
            ),
            (
                "STOPPED",
                "STOPPED",
                Some(EssentialContainerExited),
                Some(3),
                "",
                Ended(Some(3)),
            ),
            (
                "STOPPED",
                "STOPPED",
                Some(EssentialContainerExited),
                None,
                "",
                Ended(None),
            ),
            (
                "STOPPED",
                "STOPPED",
                Some(SpotInterruption),
                Some(143),
                spot,
                Terminated(format!("SpotInterruption: {spot}")),
            ),
            (
                "STOPPED",
                "STOPPED",
                Some(UserInitiated),
                Some(143),
                "by hand",
                Terminated("UserInitiated: by hand".to_owned()),
            ),
            (
                "STOPPED",
                "STOPPED",
                Some(TaskFailedToStart),
                None,
                gone,
                Failed(gone.to_owned()),
            ),
            ("STOPPED", "STOPPED", None, Some(0), "", Ended(Some(0))),
            (
                "STOPPED",
                "STOPPED",
                None,
                None,
                "",
                Failed("Amazon does not say why".to_owned()),
            ),
            (
                "DREAMING",
                "RUNNING",
                None,
                None,
                "",
                Unknown("DREAMING".to_owned()),
            ),
        ];
        for (last, desired, stop, code, reason, expected) in rows {
            let main = Container::builder().name("agent").set_exit_code(code).build();
            let task = Task::builder().last_status(last).desired_status(desired);
            let task = task.set_stop_code(stop).stopped_reason(reason);
            let task = task
                .tags(Tag::builder().key("runfleet-stack").value("prod").build())
                .build();
            let now = Timestamp::UNIX_EPOCH;
            assert_eq!(
                status(&task, Some(&main), now),
                expected,
                "{last} {desired} {code:?}"
            );
        }
    }

    #[test]
    fn one_that_could_not_be_started_has_failed_for_a_while_and_until_it_is_stopped() {
        let task = |tags: Vec<Tag>| {
            let task = Task::builder().last_status("STOPPED").desired_status("STOPPED");
            let task = task
                .stop_code(TaskStopCode::TaskFailedToStart)
                .stopped_at(DateTime::from_secs(0));
            task.set_tags(Some(tags)).build()
        };
        let failed = |task: &Task, now: Timestamp| matches!(status(task, None, now), CloudStatus::Failed(_));
        let ours = task(claimed("prod", "i-1"));
        assert!(failed(&ours, NOW + SignedDuration::from_mins(9)));
        assert!(!failed(&ours, NOW + FAILED));
        assert!(!failed(&task(Vec::new()), NOW));
    }

    #[test]
    fn why_it_waits_or_ended_is_in_its_lifecycle() {
        let reason = |task: TaskBuilder, more: &str| {
            let main = Container::builder().reason(more).build();
            lifecycle(&task.build(), Some(&main))
        };
        assert_eq!(reason(Task::builder().last_status("PENDING"), ""), "PENDING");
        let failed = Task::builder()
            .last_status("STOPPED")
            .stop_code(TaskStopCode::TaskFailedToStart);
        let failed = failed.stopped_reason("Task failed to start");
        assert_eq!(
            reason(failed, "CannotPullContainerError: no such image"),
            "STOPPED: TaskFailedToStart: Task failed to start: CannotPullContainerError: no such image"
        );
    }

    #[test]
    fn a_batch_is_what_the_most_alive_of_its_tasks_is() {
        let provider: ProviderName = "ecs".into();
        let of = |statuses: &[(&str, &str)]| {
            let tasks: Vec<Task> = statuses
                .iter()
                .enumerate()
                .map(|(n, (last, desired))| {
                    let task = task(&n.to_string()).last_status(*last).desired_status(*desired);
                    task.stop_code(TaskStopCode::UserInitiated)
                        .set_tags(Some(claimed("prod", "i-1")))
                        .build()
                })
                .collect();
            batches(&tasks, None, place(&provider)).remove(0).status
        };
        let over = ("STOPPED", "STOPPED");
        assert_eq!(
            of(&[over, ("RUNNING", "RUNNING"), ("PENDING", "RUNNING")]),
            CloudStatus::Running
        );
        assert_eq!(
            of(&[over, ("STOPPING", "STOPPED"), ("PENDING", "RUNNING")]),
            CloudStatus::Pending
        );
        assert_eq!(of(&[over, ("STOPPING", "STOPPED")]), CloudStatus::Deleting);
        assert!(matches!(of(&[over]), CloudStatus::Terminated(_)));
    }

    #[test]
    fn a_nonce_that_amazon_does_not_take_is_shortened_and_always_alike() {
        let nonce = "0192f0c1-6f0e-7cc1-8f2a-1b2c3d4e5f60";
        assert_eq!(
            (started_by(nonce), token(nonce)),
            (nonce.to_owned(), nonce.to_owned())
        );
        let long = "x".repeat(65);
        assert_eq!((started_by(&long).len(), token(&long).len()), (SHORT, SHORT));
        assert_eq!(started_by(&long), started_by(&long));
        assert_eq!(started_by("a.b").len(), SHORT, "a dot is not taken");
        assert_eq!(token("a.b"), "a.b");
        assert_eq!(token("a b").len(), SHORT);
        assert_ne!(token(""), "");
    }
}
