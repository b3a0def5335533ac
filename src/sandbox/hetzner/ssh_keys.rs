//! SSH keys.

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    keys::{fingerprint, key_blob},
    world::{World, cloud::SshKey, seconds},
};
use super::{invalid, label_selector, labels, listing, not_found, required_name, sort, unique};

fn body(key: &SshKey) -> Value {
    json!({
        "id": key.id, "name": key.name, "fingerprint": key.fingerprint, "public_key": key.public_key,
        "labels": key.labels, "created": seconds(key.created),
    })
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let selector = label_selector(call)?;
    let as_of = call.twists.as_of(world.now);
    let mut all: Vec<Value> = world
        .cloud
        .ssh_keys
        .values()
        .filter(|key| selector.matches(&key.labels))
        .filter(|key| as_of.is_none_or(|then| key.created <= then))
        .filter(|key| call.query("name").is_none_or(|name| name == key.name))
        .filter(|key| {
            call.query("fingerprint")
                .is_none_or(|wanted| wanted == key.fingerprint)
        })
        .map(body)
        .collect();
    sort(&mut all, call, &["id", "name"])?;
    listing("ssh_keys", all, call)
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = required_name(&call.body)?.to_owned();
    let labels = labels(&call.body)?.unwrap_or_default();
    let public_key = call.text("public_key").unwrap_or_default().trim();
    let blob = key_blob(public_key).ok_or_else(|| invalid("public_key", "is not a valid public key"))?;
    let fingerprint = fingerprint(&blob);
    if world.cloud.ssh_keys.values().any(|key| key.name == name) {
        return Err(unique("SSH key name is already used", "name"));
    }
    if world
        .cloud
        .ssh_keys
        .values()
        .any(|key| key.fingerprint == fingerprint)
    {
        return Err(unique(
            "SSH key with the same fingerprint already exists",
            "public_key",
        ));
    }
    let key = SshKey {
        id: world.cloud.fresh(),
        name,
        fingerprint,
        public_key: public_key.to_owned(),
        labels,
        created: world.now,
    };
    let answer = Reply::json(201, &json!({"ssh_key": body(&key)}));
    world.cloud.ssh_keys.insert(key.id, key);
    Ok(answer)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let key = call
        .id(0)
        .and_then(|id| world.cloud.ssh_keys.get(&id))
        .ok_or_else(|| not_found("ssh_key"))?;
    Ok(Reply::json(200, &json!({"ssh_key": body(key)})))
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let labels = labels(&call.body)?;
    let id = call.id(0).unwrap_or_default();
    let name = call.text("name").map(str::to_owned);
    if world
        .cloud
        .ssh_keys
        .values()
        .any(|key| key.id != id && Some(&key.name) == name.as_ref())
    {
        return Err(unique("SSH key name is already used", "name"));
    }
    let key = world
        .cloud
        .ssh_keys
        .get_mut(&id)
        .ok_or_else(|| not_found("ssh_key"))?;
    if let Some(name) = name {
        key.name = name;
    }
    if let Some(labels) = labels {
        key.labels = labels;
    }
    Ok(Reply::json(200, &json!({"ssh_key": body(key)})))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    call.id(0)
        .and_then(|id| world.cloud.ssh_keys.remove(&id))
        .map(|_| Reply::empty(204))
        .ok_or_else(|| not_found("ssh_key"))
}
