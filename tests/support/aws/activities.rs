//! What goes on in a group: scaling activities, instance refreshes, which moto does not have.

use super::{
    errors::Body,
    state::{Activity, State},
    xml::Element,
};

/// An answer of the layer's own.
pub fn answer(action: &str, result: Vec<Element>, request: &str) -> Body {
    let metadata = Element::node("ResponseMetadata", vec![Element::leaf("RequestId", request)]);
    let mut root = Element::node(
        &format!("{action}Response"),
        vec![Element::node(&format!("{action}Result"), result), metadata],
    );
    root.namespace = Some("http://autoscaling.amazonaws.com/doc/2011-01-01/".to_owned());
    Body {
        status: 200,
        content_type: "text/xml",
        text: root.document(),
    }
}

/// The id of an activity.
pub fn activity_id(group: &str, what: &str) -> String {
    let sum = crc32fast::hash(format!("{group}/{what}").as_bytes());
    format!("{sum:08x}-0000-4000-8000-000000000000")
}

fn member(group: &str, activity: &Activity) -> Element {
    Element::node(
        "member",
        vec![
            Element::leaf("ActivityId", &activity.id),
            Element::leaf("AutoScalingGroupName", group),
            Element::leaf("Description", &activity.description),
            Element::leaf("Cause", &activity.cause),
            Element::leaf("StartTime", "2026-01-01T00:00:00Z"),
            Element::leaf("StatusCode", &activity.status),
            Element::leaf("StatusMessage", &activity.message),
            Element::leaf("Progress", activity.progress.to_string()),
        ],
    )
}

/// The answer to a termination that a lifecycle hook holds up.
pub fn terminating(group: &str, id: &str, request: &str) -> Body {
    let activity = Activity {
        id: activity_id(group, id),
        description: format!("Terminating EC2 instance: {id}"),
        cause: format!("instance {id} was taken out of service in response to a user request."),
        status: "InProgress".to_owned(),
        message: String::new(),
        progress: 0,
    };
    let mut member = member(group, &activity);
    "Activity".clone_into(&mut member.name);
    answer("TerminateInstanceInAutoScalingGroup", vec![member], request)
}

/// The activities that follow from what comes and goes, and those that the test told.
pub fn of(state: &State, group: &str, request: &str) -> Body {
    let of = |name: &&str| group.is_empty() || group == *name;
    let mut found = Vec::new();
    for machine in state.machines.values() {
        let Some(name) = machine.group.as_deref().filter(of) else {
            continue;
        };
        let (verb, status, progress) = if machine.died.is_none() && state.now < machine.pending_until {
            ("Launching a new", "PreInService", 30)
        } else if machine.died.is_none() && machine.hook.is_some() {
            ("Moving", "MidLifecycleAction", 60)
        } else if state.leaving(machine) {
            ("Terminating", "InProgress", 0)
        } else {
            continue;
        };
        let activity = Activity {
            id: activity_id(name, &machine.id),
            description: format!("{verb} EC2 instance: {}", machine.id),
            cause: "a difference between desired and actual capacity".to_owned(),
            status: status.to_owned(),
            message: String::new(),
            progress,
        };
        found.push(member(name, &activity));
    }
    for (name, notes) in state.groups.iter().filter(|(name, _)| of(&name.as_str())) {
        found.extend(notes.activities.iter().map(|told| member(name, told)));
        if notes.stalled && notes.owed.is_some() {
            let failed = Activity {
                id: activity_id(name, "stalled"),
                description: "Launching a new EC2 instance.  Status Reason: We currently do not have sufficient capacity. \
                              Launching EC2 instance failed."
                    .to_owned(),
                cause: "a difference between desired and actual capacity".to_owned(),
                status: "Failed".to_owned(),
                message: "We currently do not have sufficient capacity. Launching EC2 instance failed.".to_owned(),
                progress: 100,
            };
            found.push(member(name, &failed));
        }
    }
    answer(
        "DescribeScalingActivities",
        vec![Element::node("Activities", found)],
        request,
    )
}

/// The instance refreshes that the test told.
pub fn refreshes(state: &mut State, group: &str, request: &str) -> Body {
    let told = state.group(group).refreshes.iter();
    let members = told.map(|(id, status)| {
        Element::node(
            "member",
            vec![
                Element::leaf("InstanceRefreshId", id),
                Element::leaf("AutoScalingGroupName", group),
                Element::leaf("Status", status),
            ],
        )
    });
    let members = members.collect();
    answer(
        "DescribeInstanceRefreshes",
        vec![Element::node("InstanceRefreshes", members)],
        request,
    )
}
