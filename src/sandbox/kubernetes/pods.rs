//! What only pods have: a log, and eviction.

use serde_json::{Value, json};

use super::{
    super::{
        api::{Answer, Call, Reply},
        control::bad,
        selector::Selector,
        world::{
            World,
            cluster::{Key, Kind, Policy, labels, text},
        },
    },
    absent, bad_request, target,
};

pub(super) fn log(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "get")?;
    let key = target.key();
    let Some(pod) = world.cluster.get(&key) else {
        return Err(absent(&target));
    };
    let own = text(pod, "/spec/containers/0/name");
    let wanted = call.query("container").unwrap_or(own);
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    if !containers
        .into_iter()
        .flatten()
        .any(|known| known["name"] == wanted)
    {
        return Err(bad_request(format!(
            "container {wanted} is not valid for pod {}",
            key.name
        )));
    }
    let Some(lines) = world.log_of(&key) else {
        let reason = pod.pointer("/status/containerStatuses/0/state/waiting/reason");
        let message = match reason.and_then(Value::as_str) {
            Some(reason) => format!(
                "container \"{wanted}\" in pod \"{}\" is waiting to start: {reason}",
                key.name
            ),
            None => format!("pod {} does not have a host assigned", key.name),
        };
        return Err(bad_request(message));
    };
    let tail = call
        .number("tailLines")
        .and_then(|tail| usize::try_from(tail).ok());
    let skip = lines.len().saturating_sub(tail.unwrap_or(usize::MAX));
    let mut text = lines[lines.len().min(skip)..].join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(Reply {
        body: text.into_bytes(),
        ..Reply::empty(200).header("Content-Type", "text/plain; charset=utf-8")
    })
}

/// Deletes a pod with its grace, as `kubectl drain` asks.
pub(super) fn eviction(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "create")?;
    let key = target.key();
    if world.cluster.get(&key).is_none() {
        return Err(absent(&target));
    }
    let grace = call.body["deleteOptions"]["gracePeriodSeconds"].as_u64();
    world.cluster_delete(&key, Policy::Background, grace);
    Ok(Reply::json(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// `POST /control/exit`: the process of a pod ends by itself: `{"pod": …, "code": 3}`, in `namespace` or anywhere; without a code, with 0.
pub(crate) fn exit(world: &mut World, call: &Call) -> Answer {
    let (Some(pod), namespace) = (call.text("pod"), call.text("namespace")) else {
        return Err(bad("pod is missing"));
    };
    let code = call.body["code"].as_i64().unwrap_or(0);
    let all = world.cluster.of(Kind::Pod).map(|(key, _)| key);
    let meant = all.filter(|key| key.name == pod && namespace.is_none_or(|name| name == key.namespace));
    let meant: Vec<Key> = meant.cloned().collect();
    for key in &meant {
        world.end_pod(key, code);
    }
    let names: Vec<&str> = meant.iter().map(|key| key.name.as_str()).collect();
    Ok(Reply::json(200, &json!({"ended": names})))
}

/// `POST /control/evict`: nodes run out of memory, and evict pods: `{"pod": …}`, or `{"selector": …}`, in `namespace` or anywhere.
pub(crate) fn evict(world: &mut World, call: &Call) -> Answer {
    let selector = call.text("selector").unwrap_or_default();
    let selector = Selector::parse(selector).ok_or_else(|| bad(format!("{selector:?} is no selector")))?;
    let (pod, namespace) = (call.text("pod"), call.text("namespace"));
    if pod.is_none() && selector.terms.is_empty() {
        return Err(bad("pod or selector is missing"));
    }
    let running = world
        .cluster
        .of(Kind::Pod)
        .filter(|(_, pod)| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"));
    let meant: Vec<Key> = running
        .filter(|(key, _)| pod.is_none_or(|name| name == key.name))
        .filter(|(key, _)| namespace.is_none_or(|name| name == key.namespace))
        .filter(|(_, pod)| selector.matches(&labels(pod)))
        .map(|(key, _)| key.clone())
        .collect();
    for key in &meant {
        world.evict_pod(key);
    }
    let names: Vec<&str> = meant.iter().map(|key| key.name.as_str()).collect();
    Ok(Reply::json(200, &json!({"evicted": names})))
}
