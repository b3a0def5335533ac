//! The account and its SSH keys.

#![expect(clippy::unnecessary_wraps, reason = "handlers have one signature")]

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    keys::{fingerprint, key_blob},
    world::{World, ocean::SshKey},
};
use super::{invalid, is_shown, listing, not_found};

pub(super) fn account(world: &mut World, _: &Call) -> Answer {
    let limit = world.settings.server_limit;
    let uuid = "b6fr89dbf6d9156cace5f3c78dc9851d957381ef";
    Ok(Reply::json(
        200,
        &json!({"account": {
            "droplet_limit": limit, "floating_ip_limit": 3, "volume_limit": 100, "email": "ops@sandbox.example",
            "name": "Sandbox", "uuid": uuid, "email_verified": true, "status": "active", "status_message": "",
            "team": {"uuid": uuid, "name": "Sandbox"},
        }}),
    ))
}

fn body(key: &SshKey) -> Value {
    json!({"id": key.id, "name": key.name, "fingerprint": key.fingerprint, "public_key": key.public_key})
}

/// The key of an id or a fingerprint.
pub(super) fn find<'a>(world: &'a World, wanted: &str) -> Option<&'a SshKey> {
    let id = wanted.parse().ok();
    let keys = &world.ocean.keys;
    keys.get(&id.unwrap_or_default())
        .or_else(|| keys.values().find(|key| key.fingerprint == wanted))
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let all = world
        .ocean
        .keys
        .values()
        .filter(|key| is_shown(key.created, world, call))
        .map(body)
        .collect();
    listing("ssh_keys", all, call)
}

/// Names are not unique, keys are.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = call.text("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| invalid("Name can't be blank"))?.to_owned();
    let public_key = call.text("public_key").unwrap_or_default().trim();
    let blob = key_blob(public_key).ok_or_else(|| {
        invalid("Key invalid, please double check you have copied the public key correctly")
    })?;
    let fingerprint = fingerprint(&blob);
    if find(world, &fingerprint).is_some() {
        return Err(invalid("SSH Key is already in use on your account"));
    }
    let key = SshKey {
        id: world.cloud.fresh(),
        name,
        fingerprint,
        public_key: public_key.to_owned(),
        created: world.now,
    };
    let answer = Reply::json(201, &json!({"ssh_key": body(&key)}));
    world.ocean.keys.insert(key.id, key);
    Ok(answer)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let key = find(world, call.param(0)).ok_or_else(not_found)?;
    Ok(Reply::json(200, &json!({"ssh_key": body(key)})))
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = find(world, call.param(0)).ok_or_else(not_found)?.id;
    let key = world.ocean.keys.get_mut(&id).ok_or_else(not_found)?;
    if let Some(name) = call.text("name").filter(|name| !name.is_empty()) {
        name.clone_into(&mut key.name);
    }
    Ok(Reply::json(200, &json!({"ssh_key": body(key)})))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let id = find(world, call.param(0)).ok_or_else(not_found)?.id;
    world.ocean.keys.remove(&id);
    Ok(Reply::empty(204))
}
