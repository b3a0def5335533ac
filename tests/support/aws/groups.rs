//! Groups as moto has them, and what the layer does to their machines.
//!
//! A group that may not launch (its `Launch` process is suspended, or a test stalled it) *owes* what it is asked for: moto keeps
//! the smaller desired capacity, answers show the one asked for, and moto is told once launching is possible again.
//! A machine on its way out under a lifecycle hook is moto's `Standby`: a member that does not count.

use super::{flow::Inner, wire::Service, xml::Element};

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

    /// How many members count.
    pub(super) fn serving(&self) -> i64 {
        let serving = self.members.iter().filter(|m| m.lifecycle == "InService");
        i64::try_from(serving.count()).unwrap_or(i64::MAX)
    }
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

    pub(super) fn owed(&self, group: &GroupView) -> Option<i64> {
        self.state().group(&group.name).owed
    }

    pub(super) fn blocked(&self, group: &GroupView) -> bool {
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

    pub(super) async fn end_hook(&self, id: &str, ends: bool) {
        if let Some(machine) = self.state().machines.get_mut(id) {
            machine.hook = None;
            machine.lifecycle = None;
        }
        if ends {
            self.terminate(id).await;
        }
    }
}
