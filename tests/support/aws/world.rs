//! Between moto and a sandbox's world: launches and terminations are reported, and what powers itself off there ends here.
//!
//! The control address is the sandbox's: `POST /machines`, `DELETE /machines/ID`, `GET /machines`.
//!
//! Caveats: whether a machine leaves its group with a decrement is read from its plain user data, the words of the AWS
//! command line that it would run; compressed user data says nothing. A machine of a group that says nothing is terminated and
//! replaced, as AWS does.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    client::InstanceView,
    flow::Inner,
    state::{Hook, Machine},
    wire::Service,
    xml::Element,
};

/// A sandbox's control API.
#[derive(Clone, Debug)]
pub struct World {
    /// `http://127.0.0.1:PORT/control`.
    pub control: String,
    pub http: reqwest::Client,
}

/// What a machine was launched with.
struct Kit {
    /// As the API carries it.
    user_data: String,
    spot: bool,
    ends_when_off: bool,
}

impl World {
    async fn report(&self, machine: &InstanceView, user_data: &str) -> Result<(), String> {
        // What cloud-init calls the local host name: `ip-10-0-0-5`.
        let name = machine.host_name.split('.').next().unwrap_or(&machine.id);
        let body = json!({
            "id": machine.id, "name": name, "user_data_base64": user_data, "address": machine.address,
        });
        let request = self.http.post(format!("{}/machines", self.control)).json(&body);
        self.done(request, &machine.id).await
    }

    /// A container, by what its process is started with.
    pub(super) async fn report_container(
        &self,
        id: &str,
        name: &str,
        address: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let body = json!({"id": id, "name": name, "address": address, "environment": environment});
        let request = self.http.post(format!("{}/machines", self.control)).json(&body);
        self.done(request, id).await
    }

    pub(super) async fn ended(&self, id: &str) -> Result<(), String> {
        let request = self.http.delete(format!("{}/machines/{id}", self.control));
        self.done(request, id).await
    }

    async fn done(&self, request: reqwest::RequestBuilder, id: &str) -> Result<(), String> {
        let reply = request.send().await.map_err(|error| format!("{id}: {error}"))?;
        if reply.status().is_success() {
            return Ok(());
        }
        let status = reply.status();
        Err(format!(
            "the world and {id}: {status} {}",
            reply.text().await.unwrap_or_default()
        ))
    }

    /// The machines that are off.
    pub(super) async fn off(&self) -> Result<Vec<String>, String> {
        let said = async {
            let reply = self.http.get(format!("{}/machines", self.control)).send().await?;
            reply.error_for_status()?.json::<Value>().await
        };
        let said: Value = said.await.map_err(|error| error.to_string())?;
        let machines = said["machines"].as_array().into_iter().flatten();
        Ok(machines
            .filter(|machine| machine["state"] == "off")
            .filter_map(|machine| machine["id"].as_str().map(str::to_owned))
            .collect())
    }
}

impl Inner {
    /// Every instance that moto has, as its own XML.
    pub(super) async fn instances(&self) -> Result<Vec<Element>, String> {
        let mut found = Vec::new();
        let mut token = String::new();
        // As many pages as a test could ever fill.
        for _ in 0..100 {
            let mut params = vec![("MaxResults", "1000")];
            if !token.is_empty() {
                params.push(("NextToken", &token));
            }
            let page = self.moto.call(Service::Ec2, "DescribeInstances", &params).await?;
            for reservation in page.list("reservationSet") {
                found.extend_from_slice(reservation.list("instancesSet"));
            }
            let next = page.text_at("nextToken").to_owned();
            if next.is_empty() {
                return Ok(found);
            }
            token = next;
        }
        Err("DescribeInstances has no last page".to_owned())
    }

    /// Takes note of what came and went, and reports it. The caller is the one writer.
    pub(super) async fn observe(&self) {
        let items = match self.instances().await {
            Ok(items) => items,
            Err(problem) => return self.problem(problem),
        };
        for item in &items {
            let seen = InstanceView::of(item);
            let group = seen.tag("aws:autoscaling:groupName").map(str::to_owned);
            let known = self.state().machines.get(&seen.id).cloned();
            match known {
                None if !seen.dead() => self.born(item, &seen, group).await,
                Some(machine) if machine.died.is_none() && seen.dead() => self.died(&seen.id).await,
                Some(machine) if machine.died.is_none() && machine.group != group => {
                    if let Some(machine) = self.state().machines.get_mut(&seen.id) {
                        machine.group = group;
                    }
                }
                _ => {}
            }
        }
    }

    async fn born(&self, item: &Element, seen: &InstanceView, group: Option<String>) {
        let kit = self.kit(item, seen).await;
        let hook = match &group {
            Some(group) => self.hook(group, "autoscaling:EC2_INSTANCE_LAUNCHING").await,
            None => None,
        };
        let script = STANDARD.decode(&kit.user_data).unwrap_or_default();
        let script = String::from_utf8_lossy(&script).into_owned();
        let leaves = ["terminate-instance-in-auto-scaling-group", "detach-instances"];
        let leaves_group = leaves.iter().any(|command| script.contains(command))
            && script.contains(" --should-decrement-desired-capacity");
        {
            let mut state = self.state();
            let now = state.now;
            let machine = Machine {
                id: seen.id.clone(),
                instance_type: seen.instance_type.clone(),
                zone: seen.zone.clone(),
                group: group.clone(),
                born: now,
                pending_until: now + state.pending,
                hidden_until: now + state.hidden,
                died: None,
                token: None,
                spot: kit.spot,
                interrupted: false,
                lifecycle: hook.as_ref().map(|_| "Pending:Wait".to_owned()),
                hook,
                ends_when_off: kit.ends_when_off || group.is_some(),
                leaves_group,
            };
            state.machines.insert(seen.id.clone(), machine);
            if let Some(group) = &group {
                state.group(group).last_change = Some(now);
            }
        }
        if let Some(world) = &self.world
            && let Err(problem) = world.report(seen, &kit.user_data).await
        {
            self.problem(problem);
        }
    }

    async fn died(&self, id: &str) {
        {
            let mut state = self.state();
            let now = state.now;
            let Some(machine) = state.machines.get_mut(id) else {
                return;
            };
            machine.died = Some(now);
            machine.lifecycle = None;
            machine.hook = None;
            let (group, instance_type) = (machine.group.clone(), machine.instance_type.clone());
            if let Some(group) = group {
                state.group(&group).last_change = Some(now);
            } else if let Some(left) = state.capacity.get_mut(&instance_type) {
                *left += 1;
            }
        }
        if let Some(world) = &self.world
            && let Err(problem) = world.ended(id).await
        {
            self.problem(problem);
        }
    }

    /// moto does not carry a launch template's market and shutdown behaviour over to the machine.
    async fn kit(&self, item: &Element, seen: &InstanceView) -> Kit {
        let attribute = |name: &'static str| async move {
            let params = [("InstanceId", seen.id.as_str()), ("Attribute", name)];
            let answer = self.ask(Service::Ec2, "DescribeInstanceAttribute", &params).await;
            answer.map_or_else(String::new, |answer| {
                answer.text_at(&format!("{name}/value")).to_owned()
            })
        };
        let user_data = attribute("userData").await;
        let shutdown = attribute("instanceInitiatedShutdownBehavior").await;
        let mut kit = Kit {
            user_data,
            spot: item.text_at("instanceLifecycle") == "spot",
            ends_when_off: shutdown == "terminate",
        };
        if let Some(template) = seen.tag("aws:ec2launchtemplate:id") {
            let version = seen.tag("aws:ec2launchtemplate:version").unwrap_or("$Default");
            let params = [
                ("LaunchTemplateId", template),
                ("LaunchTemplateVersion.1", version),
            ];
            let found = self
                .ask(Service::Ec2, "DescribeLaunchTemplateVersions", &params)
                .await
                .unwrap_or_default();
            let data = "launchTemplateVersionSet/item/launchTemplateData";
            kit.spot |= found.text_at(&format!("{data}/instanceMarketOptions/marketType")) == "spot";
            kit.ends_when_off |=
                found.text_at(&format!("{data}/instanceInitiatedShutdownBehavior")) == "terminate";
            if kit.user_data.is_empty() {
                found
                    .text_at(&format!("{data}/userData"))
                    .clone_into(&mut kit.user_data);
            }
        }
        kit
    }

    /// The first lifecycle hook of that transition, as a wait that begins now.
    pub(super) async fn hook(&self, group: &str, transition: &str) -> Option<Hook> {
        let params = [("AutoScalingGroupName", group)];
        let found = self
            .ask(Service::AutoScaling, "DescribeLifecycleHooks", &params)
            .await?;
        let hook = found
            .list("DescribeLifecycleHooksResult/LifecycleHooks")
            .iter()
            .find(|hook| hook.text_at("LifecycleTransition") == transition)?;
        // AWS's default of an hour.
        let seconds = hook.text_at("HeartbeatTimeout").parse().unwrap_or(3600);
        let now = self.state().now;
        Some(Hook {
            until: now + std::time::Duration::from_secs(seconds),
            leaving: transition.ends_with("TERMINATING"),
            abandons: hook.text_at("DefaultResult") != "CONTINUE",
        })
    }

    /// Ends what is off in the world.
    pub(super) async fn sync_world(&self) {
        let Some(world) = &self.world else {
            return;
        };
        let off = match world.off().await {
            Ok(off) => off,
            Err(problem) => return self.problem(problem),
        };
        let alive = |id: &String| {
            self.state()
                .machines
                .get(id)
                .filter(|machine| machine.died.is_none())
                .cloned()
        };
        if !off.iter().any(|id| alive(id).is_some()) {
            return;
        }
        let _one = self.one_writer.lock().await;
        // Looked at again: somebody else may have ended it meanwhile.
        let off: Vec<Machine> = off.iter().filter_map(alive).collect();
        for machine in off {
            if machine.leaves_group && self.leave_group(&machine.id).await {
                continue;
            }
            if machine.ends_when_off {
                self.terminate(&machine.id).await;
            } else {
                self.ask(
                    Service::Ec2,
                    "StopInstances",
                    &[("InstanceId.1", machine.id.as_str())],
                )
                .await;
            }
        }
        self.observe().await;
    }
}
