//! Auto Scaling's own judgement where moto has none: bounds, cool-downs, membership, lifecycle hooks.

use super::{
    activities,
    errors::Refusal,
    flow::{Inner, Turn},
    groups::GroupView,
    state::State,
    wire::{Asked, Service},
};

/// What Auto Scaling would say, or that moto may speak.
pub(super) async fn judge(inner: &Inner, asked: &mut Asked, request: &str) -> Turn {
    let name = asked.param("AutoScalingGroupName").to_owned();
    match asked.action.as_str() {
        "DescribeAutoScalingGroups" => return listing(asked),
        "DescribeScalingActivities" => return Turn::Say(activities::of(&inner.state(), &name, request)),
        "DescribeInstanceRefreshes" => {
            return Turn::Say(activities::refreshes(&mut inner.state(), &name, request));
        }
        action if action.starts_with("Describe") => return Turn::Forward,
        _ => {}
    }
    let groups = match inner.groups().await {
        Ok(groups) => groups,
        Err(problem) => {
            inner.problem(problem);
            return Turn::Refuse(Refusal::internal());
        }
    };
    let judged = if asked.action == "TerminateInstanceInAutoScalingGroup" {
        return leave(inner, asked, &groups, request).await;
    } else if asked.action == "CreateAutoScalingGroup" {
        create(asked, &groups, &name)
    } else if name.is_empty() {
        Ok(())
    } else {
        match groups.iter().find(|group| group.name == name) {
            None => Err(Refusal::no_group(&name)),
            Some(group) if asked.action == "CompleteLifecycleAction" => {
                return completed(inner, asked, group, request).await;
            }
            Some(_) if asked.action == "RecordLifecycleActionHeartbeat" => {
                return Turn::Say(activities::answer(
                    "RecordLifecycleActionHeartbeat",
                    Vec::new(),
                    request,
                ));
            }
            Some(group) => existing(inner, asked, group),
        }
    };
    judged.map_or_else(Turn::Refuse, |()| Turn::Forward)
}

fn listing(asked: &Asked) -> Turn {
    if let Some(size) = asked.number("MaxRecords")
        && size > 100
    {
        return Turn::Refuse(Refusal::validation(format!(
            "1 validation error detected: Value '{size}' at 'maxRecords' failed to satisfy constraint: Member must have \
             value less than or equal to 100"
        )));
    }
    for (name, _) in asked.filters() {
        if name != "tag-key" && name != "tag-value" && !name.starts_with("tag:") {
            return Turn::Refuse(Refusal::validation(format!(
                "Filter type {name} is not correct. Allowed Filter types are: tag-key tag-value tag:<key>"
            )));
        }
    }
    Turn::Forward
}

fn create(asked: &Asked, groups: &[GroupView], name: &str) -> Result<(), Refusal> {
    if groups.iter().any(|group| group.name == name) {
        return Err(Refusal::new(
            400,
            "AlreadyExists",
            format!(
                "AutoScalingGroup by this name already exists - A group with the name {name} already exists"
            ),
        ));
    }
    let min = asked.number("MinSize").unwrap_or(0);
    let max = asked.number("MaxSize").unwrap_or(0);
    between(asked.number("DesiredCapacity").unwrap_or(min), min, max)
}

fn between(desired: i64, min: i64, max: i64) -> Result<(), Refusal> {
    if (min..=max).contains(&desired) {
        return Ok(());
    }
    Err(Refusal::validation(format!(
        "Desired capacity:{desired} must be between the specified min size:{min} and max size:{max}"
    )))
}

/// Calls about a group that exists.
fn existing(inner: &Inner, asked: &mut Asked, group: &GroupView) -> Result<(), Refusal> {
    match asked.action.as_str() {
        "SetDesiredCapacity" => {
            set_desired(&inner.state(), asked, group)?;
            hold_back(inner, asked, group);
        }
        "UpdateAutoScalingGroup" => {
            let min = asked.number("MinSize").unwrap_or(group.min);
            let max = asked.number("MaxSize").unwrap_or(group.max);
            if let Some(desired) = asked.number("DesiredCapacity") {
                between(desired, min, max)?;
                hold_back(inner, asked, group);
            }
        }
        "DetachInstances" | "EnterStandby" => {
            let ids = asked.list("InstanceIds");
            members(&ids, group, 20)?;
            let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
            if asked.flag("ShouldDecrementDesiredCapacity") && group.desired - count < group.min {
                // [unverified] words.
                return Err(Refusal::validation(format!(
                    "AutoScalingGroup {} has min-size={}, max-size={}, and desired-size={}. To detach {count} instance(s), \
                     update the AutoScalingGroup sizes appropriately.",
                    group.name, group.min, group.max, group.desired
                )));
            }
        }
        "SetInstanceProtection" => {
            let ids = asked.list("InstanceIds");
            members(&ids, group, 50)?;
            let state = inner.state();
            for member in group.members.iter().filter(|m| ids.contains(&m.id.as_str())) {
                let shown = state.lifecycle(&member.id, &member.lifecycle);
                if !["InService", "EnteringStandby", "Standby"].contains(&shown.as_str()) {
                    return Err(Refusal::validation(format!(
                        "The instance {} is not in InService or EnteringStandby or Standby.",
                        member.id
                    )));
                }
            }
        }
        "DeleteAutoScalingGroup" if !group.members.is_empty() && !asked.flag("ForceDelete") => {
            return Err(Refusal::new(
                400,
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still \
                 in the group.",
            ));
        }
        _ => {}
    }
    Ok(())
}

fn members(ids: &[&str], group: &GroupView, most: usize) -> Result<(), Refusal> {
    if ids.len() > most {
        // [unverified] words.
        return Err(Refusal::validation(format!(
            "The number of instances to act on cannot be more than {most}."
        )));
    }
    match ids.iter().find(|id| group.members.iter().all(|m| m.id != **id)) {
        None => Ok(()),
        Some(id) => Err(Refusal::validation(format!(
            "The instance {id} is not part of Auto Scaling group {}.",
            group.name
        ))),
    }
}

fn set_desired(state: &State, asked: &Asked, group: &GroupView) -> Result<(), Refusal> {
    let desired = asked.number("DesiredCapacity").unwrap_or(group.desired);
    let (side, bound) = if desired > group.max {
        ("above max", group.max)
    } else if desired < group.min {
        ("below min", group.min)
    } else {
        let last = state.groups.get(&group.name).and_then(|notes| notes.last_change);
        let cool = |last| last + std::time::Duration::from_secs(group.cooldown) <= state.now;
        return if asked.flag("HonorCooldown") && !last.is_none_or(cool) {
            Err(Refusal::activity_in_progress(&activities::activity_id(
                &group.name,
                "cooldown",
            )))
        } else {
            Ok(())
        };
    };
    Err(Refusal::validation(format!(
        "New SetDesiredCapacity value {desired} is {side} value {bound} for the AutoScalingGroup."
    )))
}

/// A group that may not launch is asked in moto for no more than it has; the rest is owed.
fn hold_back(inner: &Inner, asked: &mut Asked, group: &GroupView) {
    let Some(desired) = asked.number("DesiredCapacity") else {
        return;
    };
    let mut state = inner.state();
    let notes = state.group(&group.name);
    let blocked = notes.stalled || group.suspended.iter().any(|process| process == "Launch");
    notes.owed = (blocked && desired > group.serving()).then_some(desired);
    if notes.owed.is_some() {
        asked.set("DesiredCapacity", group.serving().to_string());
    }
}

/// TerminateInstanceInAutoScalingGroup.
async fn leave(inner: &Inner, asked: &mut Asked, groups: &[GroupView], request: &str) -> Turn {
    let id = asked.param("InstanceId").to_owned();
    let Some(group) = groups
        .iter()
        .find(|group| group.members.iter().any(|m| m.id == id))
    else {
        return Turn::Refuse(Refusal::not_a_member(&id));
    };
    let decrement = asked.flag("ShouldDecrementDesiredCapacity");
    let owed = inner.owed(group);
    let desired = owed.unwrap_or(group.desired);
    if decrement && desired <= group.min {
        return Turn::Refuse(Refusal::validation(format!(
            "Currently, desiredSize equals minSize ({}). Terminating instance without replacement will violate group's min \
             size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
            group.min
        )));
    }
    let standing_by = group
        .members
        .iter()
        .any(|member| member.id == id && member.lifecycle == "Standby");
    if standing_by {
        // It is on its way out already.
        return Turn::Say(activities::terminating(&group.name, &id, request));
    }
    if inner.blocked(group) {
        // moto would replace it; it leaves with a decrement there, and the group owes what AWS still counts.
        asked.set("ShouldDecrementDesiredCapacity", "true");
        let left = if decrement { desired - 1 } else { desired };
        inner.state().group(&group.name).owed = (left > group.serving() - 1).then_some(left);
    }
    let hook = inner
        .hook(&group.name, "autoscaling:EC2_INSTANCE_TERMINATING")
        .await;
    let Some(hook) = hook else {
        return Turn::Forward;
    };
    let decrement = asked.param("ShouldDecrementDesiredCapacity").to_owned();
    let params = [
        ("AutoScalingGroupName", group.name.as_str()),
        ("InstanceIds.member.1", id.as_str()),
        ("ShouldDecrementDesiredCapacity", decrement.as_str()),
    ];
    inner.ask(Service::AutoScaling, "EnterStandby", &params).await;
    if let Some(machine) = inner.state().machines.get_mut(&id) {
        machine.hook = Some(hook);
        machine.lifecycle = Some("Terminating:Wait".to_owned());
    }
    Turn::Say(activities::terminating(&group.name, &id, request))
}

async fn completed(inner: &Inner, asked: &Asked, group: &GroupView, request: &str) -> Turn {
    let id = asked.param("InstanceId").to_owned();
    let hook = inner
        .state()
        .machines
        .get(&id)
        .and_then(|machine| machine.hook.clone());
    let waits = group.members.iter().any(|member| member.id == id);
    let Some(hook) = hook.filter(|_| waits) else {
        return Turn::Refuse(Refusal::validation(format!(
            "No active Lifecycle Action found with instance ID {id}"
        )));
    };
    let ends = hook.leaving || asked.param("LifecycleActionResult") == "ABANDON";
    inner.end_hook(&id, ends).await;
    Turn::Say(activities::answer("CompleteLifecycleAction", Vec::new(), request))
}
