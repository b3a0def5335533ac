//! Changes moto's answers to what AWS would say: states that are held, machines that are hidden, fields that moto leaves out.

use std::time::Duration;

use super::{
    flow::Inner,
    refuse_ec2::OURS,
    server::Reply,
    state::{Call, Machine, State},
    wire::{Asked, Service},
    xml::Element,
};

type Filters = [(String, Vec<String>)];

/// The answer to a call that reads.
pub fn read(inner: &Inner, asked: &Asked, filters: &Filters, reply: Reply, call: &mut Call) -> Reply {
    type Bend = fn(&State, &Asked, &Filters, &mut Element);
    let bend: Bend = match (asked.service, asked.action.as_str()) {
        (Service::Ec2, "DescribeInstances") => instances,
        (Service::Ec2, "DescribeInstanceStatus") => statuses,
        (Service::AutoScaling, "DescribeAutoScalingGroups") => auto_scaling_groups,
        (Service::AutoScaling, "DescribeAutoScalingInstances") => members,
        (Service::AutoScaling, "DescribePolicies") => policies,
        _ => return reply,
    };
    let Some(mut root) = Element::parse(&String::from_utf8_lossy(&reply.body)) else {
        return reply;
    };
    let motos = root.clone();
    bend(&inner.state(), asked, filters, &mut root);
    if root == motos {
        return reply;
    }
    call.bent = true;
    self::reply(&root, reply)
}

/// That answer with another body.
pub fn reply(root: &Element, old: Reply) -> Reply {
    Reply {
        body: root.document().into(),
        ..old
    }
}

/// Machines in the answer to RunInstances: they are not hidden there.
pub fn launched(state: &State, root: &mut Element) {
    if let Some(set) = root.at_mut("instancesSet") {
        for item in &mut set.children {
            instance(state, item);
        }
    }
}

fn instances(state: &State, _: &Asked, filters: &Filters, root: &mut Element) {
    let Some(reservations) = root.at_mut("reservationSet") else {
        return;
    };
    for reservation in &mut reservations.children {
        let Some(set) = reservation.at_mut("instancesSet") else {
            continue;
        };
        set.children.retain(|item| {
            let id = item.text_at("instanceId");
            let forgotten = state
                .machines
                .get(id)
                .is_some_and(|machine| state.forgot(machine));
            !state.hides(id) && !forgotten
        });
        for item in &mut set.children {
            instance(state, item);
        }
        set.children.retain(|item| passes(item, filters));
    }
    reservations
        .children
        .retain(|reservation| !reservation.list("instancesSet").is_empty());
}

/// The filters that the layer does, on the bent item.
fn passes(item: &Element, filters: &Filters) -> bool {
    filters.iter().all(|(name, values)| {
        OURS.iter()
            .find(|(filter, _)| filter == name)
            .is_none_or(|(_, path)| values.iter().any(|value| value == item.text_at(path)))
    })
}

fn instance(state: &State, item: &mut Element) {
    // moto writes an empty reason where AWS writes none.
    if item.text_at("stateReason/code").is_empty() {
        item.remove("stateReason");
    }
    // With a network interface in the request, moto leaves the groups with that alone.
    if item.list("groupSet").is_empty()
        && let Some(groups) = item.at("networkInterfaceSet/item/groupSet")
    {
        let groups = groups.clone();
        item.put(groups);
    }
    let Some(machine) = state.machines.get(item.text_at("instanceId")) else {
        return;
    };
    // moto launched it by the clock on the wall; the layer's had gone on by then.
    if let Ok(launched) = item.text_at("launchTime").parse::<jiff::Timestamp>() {
        item.set("launchTime", (launched + machine.born).to_string());
    }
    if let Some(token) = &machine.token {
        item.set("clientToken", token);
    }
    if machine.spot {
        item.set("instanceLifecycle", "spot");
    }
    if let Some((code, name)) = held(state, machine, item.text_at("instanceState/name")) {
        item.put(Element::node(
            "instanceState",
            vec![Element::leaf("code", code), Element::leaf("name", name)],
        ));
    }
    if machine.interrupted && machine.died.is_some() {
        let code = "Server.SpotInstanceTermination";
        let message = format!("{code}: Spot instance termination");
        item.set("reason", code);
        item.put(Element::node(
            "stateReason",
            vec![Element::leaf("code", code), Element::leaf("message", message)],
        ));
    }
}

/// The state that is shown instead of moto's.
fn held(state: &State, machine: &Machine, motos: &str) -> Option<(&'static str, &'static str)> {
    match motos {
        "running" if state.now < machine.pending_until => Some(("0", "pending")),
        "terminated" if state.leaving > Duration::ZERO && state.leaving(machine) => {
            Some(("32", "shutting-down"))
        }
        _ => None,
    }
}

fn statuses(state: &State, asked: &Asked, _: &Filters, root: &mut Element) {
    let all = asked.flag("IncludeAllInstances");
    let Some(set) = root.at_mut("instanceStatusSet") else {
        return;
    };
    let pending = |item: &Element| {
        state
            .machines
            .get(item.text_at("instanceId"))
            .is_some_and(|machine| machine.died.is_none() && state.now < machine.pending_until)
    };
    set.children
        .retain(|item| !state.hides(item.text_at("instanceId")) && (all || !pending(item)));
    for item in set.children.iter_mut().filter(|item| pending(item)) {
        item.put(Element::node(
            "instanceState",
            vec![Element::leaf("code", "0"), Element::leaf("name", "pending")],
        ));
    }
}

/// DescribeAutoScalingGroups: what is owed, lifecycle states, and members on their way out.
fn auto_scaling_groups(state: &State, asked: &Asked, filters: &Filters, root: &mut Element) {
    members(state, asked, filters, root);
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
fn members(state: &State, _: &Asked, _: &Filters, root: &mut Element) {
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
fn policies(state: &State, _: &Asked, _: &Filters, root: &mut Element) {
    let Some(policies) = root.at_mut("DescribePoliciesResult/ScalingPolicies") else {
        return;
    };
    for policy in &mut policies.children {
        let name = policy.text_at("PolicyName");
        let enabled = !state.disabled_policies.iter().any(|off| off == name);
        policy.set("Enabled", enabled.to_string());
    }
}
