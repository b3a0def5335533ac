//! GitLab's Terraform states: one document per project and name, every version kept by its serial, and a lock.
//!
//! What is surprising is GitLab's own: whoever is refused a lock is told the holder's id, user and time, but its own
//! operation, info, version and path; an unlock without an id takes the lock from anybody; a serial is used once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Reply, World, message, not_found, projects, unauthorized, user_of};

/// The keys that a lock must have.
const LOCK_KEYS: [&str; 7] = ["ID", "Operation", "Info", "Who", "Version", "Created", "Path"];
/// The longest id of a lock.
const ID_MAX: usize = 255;
/// The largest document; GitLab's limit is set by its administrator, and none without.
const SIZE_MAX: usize = 32 << 20;

/// One state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TerraformState {
    /// By serial.
    versions: BTreeMap<u64, Value>,
    lock: Option<Held>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    id: String,
    who: String,
    created: Timestamp,
}

fn key(world: &World, call: &Call) -> Result<String, Reply> {
    let user = user_of(world, call).ok_or_else(unauthorized)?;
    let project = projects::visible(world, &user, call.param(0))?;
    Ok(format!("{}/{}", project.id, call.param(1)))
}

fn state<'w>(world: &'w World, call: &Call) -> Result<&'w TerraformState, Reply> {
    let key = key(world, call)?;
    world
        .forge
        .states
        .get(&key)
        .ok_or_else(|| not_found("Terraform state"))
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    match state(world, call)?.versions.last_key_value() {
        Some((_, document)) => Ok(Reply::json(200, document)),
        None => Ok(Reply::empty(204)),
    }
}

pub(super) fn version(world: &mut World, call: &Call) -> Answer {
    let serial = call.id(2).ok_or_else(|| not_found("Version"))?;
    match state(world, call)?.versions.get(&serial) {
        Some(document) => Ok(Reply::json(200, document)),
        None => Err(not_found("Version")),
    }
}

pub(super) fn write(world: &mut World, call: &Call) -> Answer {
    let key = key(world, call)?;
    if call.body.is_null() {
        return Ok(Reply::empty(204));
    }
    if call.body.to_string().len() > SIZE_MAX {
        return Err(message(413, "413 Request Entity Too Large"));
    }
    let serial = call
        .body
        .get("serial")
        .and_then(Value::as_u64)
        .ok_or_else(|| message(422, "Validation failed: Version is not a number"))?;
    let state = world.forge.states.entry(key).or_default();
    if let Some(held) = &state.lock
        && call.query("ID") != Some(&held.id)
    {
        return Err(refused(held, &json!({})));
    }
    if state.versions.contains_key(&serial) {
        return Err(message(422, "Validation failed: Version has already been taken"));
    }
    state.versions.insert(serial, call.body.clone());
    Ok(Reply::empty(200))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let key = key(world, call)?;
    world
        .forge
        .states
        .remove(&key)
        .map(|_| Reply::empty(200))
        .ok_or_else(|| not_found("Terraform state"))
}

pub(super) fn lock(world: &mut World, call: &Call) -> Answer {
    let key = key(world, call)?;
    for name in LOCK_KEYS {
        if call.text(name).is_none() {
            return Err(Reply::json(400, &json!({"error": format!("{name} is missing")})));
        }
    }
    let id = call.text("ID").unwrap_or_default().to_owned();
    if id.is_empty() || id.len() > ID_MAX {
        return Err(Reply::json(400, &json!({"error": "ID is invalid"})));
    }
    let who = user_of(world, call).map(|user| user.username).unwrap_or_default();
    let created = world.now;
    let state = world.forge.states.entry(key).or_default();
    if let Some(held) = &state.lock {
        return Err(refused(held, &call.body));
    }
    state.lock = Some(Held { id, who, created });
    Ok(Reply::empty(200))
}

/// The holder's id, user and time, and of all else what the one who asks said of itself.
fn refused(held: &Held, asked: &Value) -> Reply {
    let theirs = |name: &str| asked.get(name).cloned().unwrap_or_else(|| json!(""));
    Reply::json(
        409,
        &json!({
            "ID": held.id,
            "Operation": theirs("Operation"),
            "Info": theirs("Info"),
            "Who": held.who,
            "Version": theirs("Version"),
            "Created": held.created.to_string(),
            "Path": theirs("Path"),
        }),
    )
}

pub(super) fn unlock(world: &mut World, call: &Call) -> Answer {
    let key = key(world, call)?;
    let id = call.text("ID").or_else(|| call.query("ID")).map(str::to_owned);
    let state = world
        .forge
        .states
        .get_mut(&key)
        .ok_or_else(|| not_found("Terraform state"))?;
    if let (Some(held), Some(id)) = (&state.lock, &id)
        && held.id != *id
    {
        return Err(refused(held, &call.body));
    }
    state.lock = None;
    Ok(Reply::empty(200))
}
