//! Auto Scaling where moto is not like AWS: bounds, cool-downs, suspended launches, lifecycle hooks, activities.
//!
//! A group that may not launch (its `Launch` process is suspended, or a test stalled it) *owes* what it is asked for: moto keeps
//! the smaller desired capacity, answers show the one asked for, and moto is told once launching is possible again.
//! A machine on its way out under a lifecycle hook is moto's `Standby`: a member that does not count.

use super::{
    errors::{Body, Refusal},
    layer::{Inner, Turn},
    state::{Activity, State},
    wire::{Asked, Service},
    xml::Element,
};

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub lifecycle: String,
    pub protected: bool,
}

/// A group as moto has it.
#[derive(Clone, Debug)]
pub struct GroupView {
    pub name: String,
    pub min: i64,
    pub max: i64,
    pub desired: i64,
    /// Seconds.
    pub cooldown: u64,
    pub suspended: Vec<String>,
    pub members: Vec<Member>,
}

impl GroupView {
    pub fn of(item: &Element) -> Self {
        let number = |name: &str| item.text_at(name).parse().unwrap_or(0);
        let members = item.list("Instances").iter().map(|member| Member {
            id: member.text_at("InstanceId").to_owned(),
            lifecycle: member.text_at("LifecycleState").to_owned(),
            protected: member.text_at("ProtectedFromScaleIn") == "true",
        });
        let suspended = item.list("SuspendedProcesses").iter();
        Self {
            name: item.text_at("AutoScalingGroupName").to_owned(),
            min: number("MinSize"),
            max: number("MaxSize"),
            desired: number("DesiredCapacity"),
            cooldown: item.text_at("DefaultCooldown").parse().unwrap_or(0),
            suspended: suspended
                .map(|process| process.text_at("ProcessName").to_owned())
                .collect(),
            members: members.collect(),
        }
    }

    fn serving(&self) -> i64 {
        let serving = self.members.iter().filter(|m| m.lifecycle == "InService");
        i64::try_from(serving.count()).unwrap_or(i64::MAX)
    }
}

/// What Auto Scaling would say, or that moto may speak.
pub(super) async fn judge(inner: &Inner, asked: &mut Asked, request: &str) -> Turn {
    let name = asked.param("AutoScalingGroupName").to_owned();
    match asked.action.as_str() {
        "DescribeAutoScalingGroups" => return listing(asked),
        "DescribeScalingActivities" => return Turn::Say(activities(&inner.state(), &name, request)),
        "DescribeInstanceRefreshes" => return Turn::Say(refreshes(&mut inner.state(), &name, request)),
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
                return Turn::Say(answer("RecordLifecycleActionHeartbeat", Vec::new(), request));
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
            Err(Refusal::activity_in_progress(&activity_id(
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
        return Turn::Say(terminating(&group.name, &id, request));
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
    Turn::Say(terminating(&group.name, &id, request))
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
    Turn::Say(answer("CompleteLifecycleAction", Vec::new(), request))
}

impl Inner {
    /// All groups, as moto has them.
    pub(super) async fn groups(&self) -> Result<Vec<GroupView>, String> {
        let mut found = Vec::new();
        let mut token = String::new();
        for _ in 0..100 {
            let mut params = vec![("MaxRecords", "100")];
            if !token.is_empty() {
                params.push(("NextToken", &token));
            }
            let page = self
                .moto
                .call(Service::AutoScaling, "DescribeAutoScalingGroups", &params)
                .await?;
            let result = "DescribeAutoScalingGroupsResult";
            let groups = page.list(&format!("{result}/AutoScalingGroups"));
            found.extend(groups.iter().map(GroupView::of));
            let next = page.text_at(&format!("{result}/NextToken")).to_owned();
            if next.is_empty() {
                return Ok(found);
            }
            token = next;
        }
        Err("DescribeAutoScalingGroups has no last page".to_owned())
    }

    async fn group_of(&self, id: &str) -> Option<GroupView> {
        let groups = match self.groups().await {
            Ok(groups) => groups,
            Err(problem) => {
                self.problem(problem);
                return None;
            }
        };
        groups
            .into_iter()
            .find(|group| group.members.iter().any(|m| m.id == id))
    }

    fn owed(&self, group: &GroupView) -> Option<i64> {
        self.state().group(&group.name).owed
    }

    fn blocked(&self, group: &GroupView) -> bool {
        self.state().group(&group.name).stalled || group.suspended.iter().any(|process| process == "Launch")
    }

    /// Launches what a group owes, where it may.
    pub(super) async fn launch_owed(&self, name: &str) {
        let groups = self.groups().await.unwrap_or_else(|problem| {
            self.problem(problem);
            Vec::new()
        });
        let Some(group) = groups.iter().find(|group| group.name == name) else {
            return;
        };
        if self.blocked(group) {
            return;
        }
        let owed = self.state().group(name).owed.take();
        if let Some(desired) = owed {
            let desired = desired.to_string();
            let params = [
                ("AutoScalingGroupName", name),
                ("DesiredCapacity", desired.as_str()),
            ];
            self.ask(Service::AutoScaling, "SetDesiredCapacity", &params)
                .await;
        }
    }

    /// Terminates a machine as EC2 does: its group replaces it, where it may launch.
    pub(super) async fn terminate(&self, id: &str) {
        self.leave_blocked_group(id).await;
        self.ask(Service::Ec2, "TerminateInstances", &[("InstanceId.1", id)])
            .await;
    }

    /// Takes a machine that is about to be terminated out of a group that may not replace it; moto would.
    pub(super) async fn leave_blocked_group(&self, id: &str) {
        let Some(group) = self.group_of(id).await else {
            return;
        };
        if self.blocked(&group) {
            let desired = self.owed(&group).unwrap_or(group.desired);
            self.terminate_with_decrement(id).await;
            self.state().group(&group.name).owed = Some(desired);
        }
    }

    /// The machine leaves its group with a decrement; false where it is in none, or the group's least size forbids it.
    pub(super) async fn leave_group(&self, id: &str) -> bool {
        let Some(group) = self.group_of(id).await else {
            return false;
        };
        let owed = self.owed(&group);
        if owed.unwrap_or(group.desired) <= group.min {
            return false;
        }
        self.terminate_with_decrement(id).await;
        if let Some(owed) = owed {
            self.state().group(&group.name).owed = Some(owed - 1);
        }
        true
    }

    async fn terminate_with_decrement(&self, id: &str) {
        let params = [("InstanceId", id), ("ShouldDecrementDesiredCapacity", "true")];
        self.ask(
            Service::AutoScaling,
            "TerminateInstanceInAutoScalingGroup",
            &params,
        )
        .await;
    }

    /// Ends the lifecycle hooks whose time is over.
    pub(super) async fn end_hooks(&self) {
        let over: Vec<(String, bool)> = {
            let state = self.state();
            let machines = state.machines.values();
            machines
                .filter_map(|machine| Some((machine.id.clone(), machine.hook.as_ref()?)))
                .filter(|(_, hook)| hook.until <= state.now)
                .map(|(id, hook)| (id, hook.leaving || hook.abandons))
                .collect()
        };
        for (id, ends) in &over {
            self.end_hook(id, *ends).await;
        }
        if !over.is_empty() {
            self.observe().await;
        }
    }

    async fn end_hook(&self, id: &str, ends: bool) {
        if let Some(machine) = self.state().machines.get_mut(id) {
            machine.hook = None;
            machine.lifecycle = None;
        }
        if ends {
            self.terminate(id).await;
        }
    }
}

/// DescribeAutoScalingGroups: what is owed, lifecycle states, and members on their way out.
pub fn bend_groups(state: &State, asked: &Asked, filters: &[(String, Vec<String>)], root: &mut Element) {
    bend_members(state, asked, filters, root);
    let Some(groups) = root.at_mut("DescribeAutoScalingGroupsResult/AutoScalingGroups") else {
        return;
    };
    for group in &mut groups.children {
        let name = group.text_at("AutoScalingGroupName").to_owned();
        if let Some(owed) = state.groups.get(&name).and_then(|notes| notes.owed) {
            group.set("DesiredCapacity", owed.to_string());
        }
        if let Some(instances) = group.at_mut("Instances") {
            let ghosts = state
                .machines
                .values()
                .filter(|machine| machine.group.as_deref() == Some(&name) && state.leaving(machine));
            instances.children.extend(ghosts.map(|machine| {
                Element::node(
                    "member",
                    vec![
                        Element::leaf("InstanceId", &machine.id),
                        Element::leaf("InstanceType", &machine.instance_type),
                        Element::leaf("AvailabilityZone", &machine.zone),
                        Element::leaf("LifecycleState", "Terminating"),
                        Element::leaf("HealthStatus", "Unhealthy"),
                        Element::leaf("ProtectedFromScaleIn", "false"),
                    ],
                )
            }));
        }
    }
}

/// Lifecycle states, wherever members are listed.
pub fn bend_members(state: &State, _: &Asked, _: &[(String, Vec<String>)], root: &mut Element) {
    root.walk(&mut |element| {
        let shown = element.at("LifecycleState").map(|motos| {
            let id = element.text_at("InstanceId");
            state.lifecycle(id, &motos.text)
        });
        if let Some(shown) = shown {
            element.set("LifecycleState", shown);
        }
    });
}

/// DescribePolicies: whether each is enabled, which moto does not say.
pub fn bend_policies(state: &State, _: &Asked, _: &[(String, Vec<String>)], root: &mut Element) {
    let Some(policies) = root.at_mut("DescribePoliciesResult/ScalingPolicies") else {
        return;
    };
    for policy in &mut policies.children {
        let name = policy.text_at("PolicyName");
        let enabled = !state.disabled_policies.iter().any(|off| off == name);
        policy.set("Enabled", enabled.to_string());
    }
}

/// An answer of the layer's own.
fn answer(action: &str, result: Vec<Element>, request: &str) -> Body {
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

fn activity_id(group: &str, what: &str) -> String {
    let sum = crc32fast::hash(format!("{group}/{what}").as_bytes());
    format!("{sum:08x}-0000-4000-8000-000000000000")
}

fn activity(group: &str, activity: &Activity) -> Element {
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

fn terminating(group: &str, id: &str, request: &str) -> Body {
    let activity = Activity {
        id: activity_id(group, id),
        description: format!("Terminating EC2 instance: {id}"),
        cause: format!("instance {id} was taken out of service in response to a user request."),
        status: "InProgress".to_owned(),
        message: String::new(),
        progress: 0,
    };
    let mut member = self::activity(group, &activity);
    member.name = "Activity".to_owned();
    answer("TerminateInstanceInAutoScalingGroup", vec![member], request)
}

/// The activities that follow from what comes and goes, and those that the test told.
fn activities(state: &State, group: &str, request: &str) -> Body {
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
        found.push(self::activity(name, &activity));
    }
    for (name, notes) in state.groups.iter().filter(|(name, _)| of(&name.as_str())) {
        found.extend(notes.activities.iter().map(|told| activity(name, told)));
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
            found.push(activity(name, &failed));
        }
    }
    answer(
        "DescribeScalingActivities",
        vec![Element::node("Activities", found)],
        request,
    )
}

fn refreshes(state: &mut State, group: &str, request: &str) -> Body {
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
