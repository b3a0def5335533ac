//! Changes moto's answers to what AWS would say: states that are held, machines that are hidden, fields that moto leaves out.

use std::time::Duration;

use super::{
    groups,
    layer::Inner,
    refuse::OURS,
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
        (Service::AutoScaling, "DescribeAutoScalingGroups") => groups::bend_groups,
        (Service::AutoScaling, "DescribeAutoScalingInstances") => groups::bend_members,
        (Service::AutoScaling, "DescribePolicies") => groups::bend_policies,
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
    let Some(machine) = state.machines.get(item.text_at("instanceId")) else {
        return;
    };
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
