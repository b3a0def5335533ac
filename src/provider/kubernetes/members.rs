//! What a Job and its pod say of where a runner stands.

use std::net::IpAddr;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerState, ContainerStatus, Pod, PodStatus},
};

use crate::model::resource::CloudStatus;

/// Reasons of a container that waits for an image which cannot be had (kubelet, `pkg/kubelet/images`).
const NO_IMAGE: [&str; 5] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
];
/// Reasons of a container that cannot be made of what its pod says: a Secret that is not there, most often.
const NO_CONTAINER: [&str; 2] = ["CreateContainerConfigError", "RunContainerError"];
/// Reasons of a pod that was ended from outside.
const TAKEN: [&str; 8] = [
    "Evicted",
    "Preempting",
    "Preempted",
    "NodeLost",
    "NodeShutdown",
    "Terminated",
    "Shutdown",
    "DeadlineExceeded",
];
/// The longest host name; the kubelet cuts a longer pod's name.
const HOSTNAME_MAX: usize = 63;

/// What is known of a Job's pod.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen<'a> {
    /// The newest one.
    pub(super) pod: Option<&'a Pod>,
    /// Whether there may be one that was not read.
    pub(super) unread: bool,
}

/// What a runner is doing, and the cluster's word for it.
pub(super) fn status(job: &Job, seen: Seen<'_>) -> (CloudStatus, String) {
    if let Some(over) = over(job, seen.pod) {
        return over;
    }
    let Some(pod) = seen.pod else {
        return match (&job.metadata.deletion_timestamp, seen.unread) {
            (Some(_), _) => (CloudStatus::Deleting, "its Job is being deleted".to_owned()),
            (None, true) => {
                let why = "its pod could not be read";
                (CloudStatus::Unknown(why.to_owned()), why.to_owned())
            }
            (None, false) => (CloudStatus::Pending, "it has no pod yet".to_owned()),
        };
    };
    if job.metadata.deletion_timestamp.is_some() || pod.metadata.deletion_timestamp.is_some() {
        return (CloudStatus::Deleting, "Terminating".to_owned());
    }
    let status = pod.status.clone().unwrap_or_default();
    match status.phase.as_deref().unwrap_or("Pending") {
        "Running" => (CloudStatus::Running, "Running".to_owned()),
        "Pending" => waiting(&status),
        other => {
            let word = with(other, status.reason.as_deref());
            (CloudStatus::Unknown(word.clone()), word)
        }
    }
}

/// Why a pod is not running yet.
fn waiting(status: &PodStatus) -> (CloudStatus, String) {
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .find(|condition| condition.reason.is_some());
    if let Some(condition) = unscheduled {
        let reason = condition.reason.as_deref().unwrap_or_default();
        return (CloudStatus::Pending, with(reason, condition.message.as_deref()));
    }
    let states = containers(status).filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut word = "Pending".to_owned();
    for waiting in states {
        let Some(reason) = waiting.reason.as_deref() else {
            continue;
        };
        let why = with(reason, waiting.message.as_deref());
        if NO_IMAGE.contains(&reason) {
            return (
                CloudStatus::Failed(format!("its image cannot be pulled: {why}")),
                why,
            );
        }
        if NO_CONTAINER.contains(&reason) {
            return (
                CloudStatus::Failed(format!("its container cannot be made: {why}")),
                why,
            );
        }
        why.clone_into(&mut word);
    }
    (CloudStatus::Pending, word)
}

/// How it ended; none: it has not.
fn over(job: &Job, pod: Option<&Pod>) -> Option<(CloudStatus, String)> {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |kind: &str| {
        let mut all = conditions.into_iter().flatten();
        all.find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if holds("Complete").is_some() {
        return Some((CloudStatus::Ended(Some(0)), "Complete".to_owned()));
    }
    let failed = holds("Failed");
    let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
    if failed.is_none() {
        return match phase {
            Some("Succeeded") => Some((CloudStatus::Ended(Some(0)), "Succeeded".to_owned())),
            Some("Failed") => Some(pod_failed(pod)),
            _ => None,
        };
    }
    let condition = failed?;
    let reason = condition.reason.as_deref().unwrap_or("Failed");
    // Its pod is removed by the cluster: what is left is the Job's word.
    if reason == "DeadlineExceeded" {
        let word = with(reason, condition.message.as_deref());
        return Some((CloudStatus::Terminated(format!("evicted: {word}")), word));
    }
    if phase == Some("Failed") {
        return Some(pod_failed(pod));
    }
    let word = with(reason, condition.message.as_deref());
    Some((CloudStatus::Ended(pod.and_then(exit_code)), word))
}

/// How a pod that failed ended: by itself, or from outside.
fn pod_failed(pod: Option<&Pod>) -> (CloudStatus, String) {
    let status = pod.and_then(|pod| pod.status.clone()).unwrap_or_default();
    let disrupted = status.conditions.iter().flatten();
    let disrupted = disrupted
        .filter(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
        .map(|condition| {
            with(
                condition.reason.as_deref().unwrap_or("disrupted"),
                condition.message.as_deref(),
            )
        })
        .next();
    let reason = status.reason.as_deref();
    let taken = reason.filter(|reason| TAKEN.contains(reason));
    let taken = taken
        .map(|reason| with(reason, status.message.as_deref()))
        .or(disrupted);
    if let Some(word) = taken {
        return (CloudStatus::Terminated(format!("evicted: {word}")), word);
    }
    let code = pod.and_then(exit_code);
    let ended = containers(&status).find_map(|container| container.state.as_ref()?.terminated.as_ref());
    let why = ended.and_then(|ended| ended.reason.as_deref()).or(reason);
    (CloudStatus::Ended(code), with("Failed", why))
}

/// The exit code of a pod's containers: the first that is not 0.
fn exit_code(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?;
    let code = |state: &ContainerState| state.terminated.as_ref().map(|ended| ended.exit_code);
    let codes: Vec<i32> = containers(status)
        .filter_map(|container| code(container.state.as_ref()?))
        .collect();
    codes
        .iter()
        .copied()
        .find(|code| *code != 0)
        .or(codes.first().copied())
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let first = status.init_container_statuses.iter().flatten();
    first.chain(status.container_statuses.iter().flatten())
}

/// Whether no process has ever run in it, as far as it was seen.
pub(super) fn never_ran(pod: &Pod) -> bool {
    let status = pod.status.clone().unwrap_or_default();
    let has_run = |container: &ContainerStatus| {
        let began = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
        let states = [container.state.as_ref(), container.last_state.as_ref()];
        states.into_iter().flatten().any(began)
    };
    let waits = matches!(status.phase.as_deref(), None | Some("Pending"));
    waits && !containers(&status).any(has_run)
}

/// Whether nothing of it runs any more.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What a runner in a pod takes for its machine's name; none before it is given one.
pub(super) fn hostname(pod: &Pod) -> Option<String> {
    let said = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let name = said.or_else(|| pod.metadata.name.clone())?;
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    Some(cut.trim_end_matches(['-', '.']).to_owned())
}

/// Where it answers within the cluster.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    address.and_then(|text| text.parse().ok()).into_iter().collect()
}

fn with(word: &str, why: Option<&str>) -> String {
    match why.map(str::trim).filter(|why| !why.is_empty()) {
        Some(why) => format!("{word}: {why}"),
        None => word.to_owned(),
    }
}
