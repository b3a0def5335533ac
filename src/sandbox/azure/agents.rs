//! The agents of a pool: listed, registered, disabled, removed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{
        api::{Answer, Call, Party, Reply},
        world::{
            World,
            azure::{Agent, VERSION},
        },
    },
    collection, error, manages, pool_of, requests, time,
};

/// What is told of an agent besides itself.
struct Wishes {
    capabilities: bool,
    assigned: bool,
    last_completed: bool,
}

impl Wishes {
    fn of(call: &Call) -> Self {
        let wished = |key| {
            call.query(key)
                .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        Self {
            capabilities: wished("includeCapabilities"),
            assigned: wished("includeAssignedRequest"),
            last_completed: wished("includeLastCompletedRequest"),
        }
    }
}

fn status(agent: &Agent, then: Timestamp) -> &'static str {
    if agent.is_online(then) {
        "online"
    } else {
        "offline"
    }
}

/// What others refer to an agent by.
pub(super) fn reference(world: &World, agent: &Agent, then: Timestamp, origin: &str) -> Value {
    let home = format!("{origin}{}/{}", Party::Azure.prefix(), world.azure.organization);
    let (pool, id) = (agent.pool, agent.id);
    json!({
        "_links": {
            "self": {"href": format!("{home}/_apis/distributedtask/pools/{pool}/agents/{id}")},
            "web": {"href": format!("{home}/_settings/agentpools?view=jobs&poolId={pool}&agentId={id}")},
        },
        "id": id, "name": agent.name, "version": VERSION, "enabled": agent.was_enabled(then),
        "status": status(agent, then), "provisioningState": "Provisioned",
    })
}

/// An agent as it was at `then`; what it had to do as the list that lags has it.
fn shown(world: &World, agent: &Agent, wishes: &Wishes, call: &Call) -> Value {
    let then = call.twists.as_of(world.now).unwrap_or(world.now);
    let jobs = call.twists.jobs_as_of(world.now).unwrap_or(world.now);
    let mut body = reference(world, agent, then, &call.origin);
    body["maxParallelism"] = json!(1);
    body["createdOn"] = json!(time(agent.created));
    body["statusChangedOn"] = json!(time(agent.status_changed));
    body["osDescription"] = json!("Linux 6.1.0-18-cloud-amd64 #1 SMP PREEMPT_DYNAMIC");
    body["accessPoint"] = json!("CodexAccessMapping");
    if wishes.capabilities {
        body["systemCapabilities"] = json!(agent.system_capabilities);
        if !agent.user_capabilities.is_empty() {
            body["userCapabilities"] = json!(agent.user_capabilities);
        }
    }
    if wishes.assigned
        && let Some(request) = world.azure.assigned(agent, jobs)
    {
        body["assignedRequest"] = requests::shown(world, request, jobs, &call.origin, false);
    }
    let last = agent.last_request.and_then(|id| world.azure.requests.get(&id));
    if let Some(request) = last.filter(|_| wishes.last_completed) {
        body["lastCompletedRequest"] = requests::shown(world, request, jobs, &call.origin, false);
    }
    body
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let world = &*world;
    let pool = pool_of(world, call)?.id;
    let wishes = Wishes::of(call);
    let then = call.twists.as_of(world.now).unwrap_or(world.now);
    let name = call.query("agentName").filter(|name| !name.is_empty());
    let demands = call.all("demands");
    let agents: Vec<Value> = world
        .azure
        .listed(pool, then)
        .into_iter()
        .filter(|agent| name.is_none_or(|name| agent.name.eq_ignore_ascii_case(name)))
        .filter(|agent| demands.iter().all(|demand| agent.fits(demand)))
        .map(|agent| shown(world, agent, &wishes, call))
        .collect();
    Ok(collection(&agents))
}

/// The id of the agent that the path names.
fn agent_of(world: &World, call: &Call) -> Result<u64, Reply> {
    let pool = pool_of(world, call)?;
    let found = call.id(2).and_then(|id| world.azure.agents.get(&id));
    let own = found.filter(|agent| agent.pool == pool.id);
    own.map(|agent| agent.id).ok_or_else(|| {
        error(
            404,
            "TaskAgentNotFoundException",
            &format!(
                "No agent exists in pool {} with identifier {}.",
                pool.id,
                call.param(2)
            ),
        )
    })
}

fn answered(world: &World, id: u64, call: &Call) -> Reply {
    let wishes = Wishes::of(call);
    let agent = world.azure.agents.get(&id);
    Reply::json(200, &agent.map(|agent| shown(world, agent, &wishes, call)))
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    // What the description calls the same operation: may the caller manage it?
    if call
        .query("isCheckPermissions")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        agent_of(world, call)?;
        return Ok(Reply::json(200, &manages(world, call).is_ok()));
    }
    let id = agent_of(world, call)?;
    Ok(answered(world, id, call))
}

fn bad(message: &str) -> Reply {
    error(400, "VssPropertyValidationException", message)
}

/// The name in the body, for an agent that is registered or replaced.
fn name_of(call: &Call) -> Result<&str, Reply> {
    call.text("name")
        .filter(|name| !name.is_empty())
        .ok_or_else(|| bad("The agent's name is missing."))
}

/// Takes over what a body says of an agent's capabilities.
fn describe(world: &mut World, id: u64, body: &Value) {
    let Some(agent) = world.azure.agents.get_mut(&id) else {
        return;
    };
    if let Some(given) = body["systemCapabilities"].as_object() {
        let texts = given
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        agent.system_capabilities.extend(texts);
    }
}

pub(super) fn add(world: &mut World, call: &Call) -> Answer {
    let pool = pool_of(world, call)?.id;
    manages(world, call)?;
    let name = name_of(call)?;
    if world.azure.agent_named(pool, name).is_some() {
        return Err(error(
            409,
            "TaskAgentExistsException",
            &format!("Pool {pool} already contains an agent with name {name}."),
        ));
    }
    let now = world.now;
    let id = world.azure.put_agent(pool, name, now);
    describe(world, id, &call.body);
    if call.body["enabled"] == json!(false) {
        world.enable_agent(id, false);
    }
    Ok(answered(world, id, call))
}

/// The body's id, where there is one, must be the path's.
fn same_id(call: &Call, id: u64) -> Result<(), Reply> {
    match call.body.get("id") {
        None | Some(Value::Null) => Ok(()),
        Some(given) if given.as_u64() == Some(id) => Ok(()),
        Some(_) => Err(bad("The agent's id in the body is not that of the path.")),
    }
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = agent_of(world, call)?;
    manages(world, call)?;
    same_id(call, id)?;
    if let Some(enabled) = call.body.get("enabled").and_then(Value::as_bool) {
        world.enable_agent(id, enabled);
    }
    Ok(answered(world, id, call))
}

pub(super) fn replace(world: &mut World, call: &Call) -> Answer {
    let id = agent_of(world, call)?;
    manages(world, call)?;
    same_id(call, id)?;
    let name = name_of(call)?.to_owned();
    let pool = world.azure.agents.get(&id).map(|agent| agent.pool);
    let other = pool.and_then(|pool| world.azure.agent_named(pool, &name));
    if other.is_some_and(|other| other.id != id) {
        return Err(error(
            409,
            "TaskAgentExistsException",
            &format!("The pool already contains an agent with name {name}."),
        ));
    }
    if let Some(agent) = world.azure.agents.get_mut(&id) {
        agent.name = name;
    }
    describe(world, id, &call.body);
    world.enable_agent(id, call.body["enabled"] != json!(false));
    Ok(answered(world, id, call))
}

/// 204; one that has a job is not removed.
pub(super) fn remove(world: &mut World, call: &Call) -> Answer {
    let id = agent_of(world, call)?;
    manages(world, call)?;
    if world.remove_agent(id) {
        return Ok(Reply::empty(204));
    }
    Err(error(
        400,
        "TaskAgentJobStillRunningException",
        &format!("Agent {id} is still running a job and cannot be deleted."),
    ))
}
