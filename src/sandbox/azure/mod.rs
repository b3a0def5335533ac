//! Azure DevOps' API of an organisation, as far as it tells of agent pools, their agents and the requests for jobs.
//!
//! Agents and pools are as Microsoft's description of `distributedTask` (7.1) has them, with the collection's wrapper that
//! the server sends; requests for jobs, which are in no description, as bodies recorded of the service.

mod agents;
mod limit;
mod requests;

use serde_json::{Value, json};

use super::{
    api::{Answer, Call, Handler, Party, Reply, Route},
    dice,
    world::{World, azure::AgentPool},
};

pub(crate) use limit::{Limit, delayed, draw};
pub(crate) use requests::report;

/// Where the clients are told that the resources are.
const AGENTS: &str = "e298ef32-5878-4cab-993c-043836571f42";
const POOLS: &str = "a8c47e17-4d56-4a56-92bb-de7ea7dc65be";
const JOB_REQUESTS: &str = "fc825784-c92a-4299-9221-998a02d1b54f";
const RESOURCE_AREAS: &str = "e81700f7-3be2-46de-8624-2eb35882fcaa";
const CONNECTION_DATA: &str = "00d9565f-ed9c-4a06-9a50-00e7896ccab4";
/// The area of agents and pools.
const DISTRIBUTED_TASK: &str = "a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd";

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Azure, method, path, name, handler)
}

pub(crate) static ROUTES: &[Route] = &[
    route(
        "OPTIONS",
        "/{organization}/_apis",
        "list where the resources are",
        locations,
    ),
    route(
        "GET",
        "/{organization}/_apis/ResourceAreas",
        "list areas of resources",
        areas,
    ),
    route(
        "GET",
        "/{organization}/_apis/ResourceAreas/{areaId}",
        "read an area of resources",
        area,
    ),
    route(
        "GET",
        "/{organization}/_apis/connectionData",
        "read whose the token is",
        connection,
    ),
    route(
        "GET",
        "/{organization}/_apis/distributedtask/pools",
        "list agent pools",
        pools,
    ),
    route(
        "GET",
        "/{organization}/_apis/distributedtask/pools/{poolId}",
        "read an agent pool",
        pool,
    ),
    route(
        "GET",
        "/{organization}/_apis/distributedtask/pools/{poolId}/agents",
        "list agents",
        agents::list,
    ),
    route(
        "POST",
        "/{organization}/_apis/distributedtask/pools/{poolId}/agents",
        "register an agent",
        agents::add,
    ),
    route(
        "GET",
        "/{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "read an agent",
        agents::read,
    ),
    route(
        "PATCH",
        "/{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "enable or disable an agent",
        agents::update,
    ),
    route(
        "PUT",
        "/{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "replace an agent",
        agents::replace,
    ),
    route(
        "DELETE",
        "/{organization}/_apis/distributedtask/pools/{poolId}/agents/{agentId}",
        "remove an agent",
        agents::remove,
    ),
    route(
        "GET",
        "/{organization}/_apis/distributedtask/pools/{poolId}/jobrequests",
        "list requests for jobs",
        requests::list,
    ),
];

/// The service's one shape of an error. `key` is its type's name.
pub(crate) fn error(status: u16, key: &str, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({
            "$id": "1", "innerException": null, "message": message,
            "typeName": format!("Microsoft.TeamFoundation.DistributedTask.WebApi.{key}, Microsoft.TeamFoundation.DistributedTask.WebApi"),
            "typeKey": key, "errorCode": 0, "eventId": 3000,
        }),
    )
}

pub(crate) fn not_found() -> Reply {
    error(
        404,
        "VssResourceNotFoundException",
        "The controller for the path was not found or does not implement IController.",
    )
}

pub(crate) fn server_error(status: u16) -> Reply {
    error(status, "VssServiceException", "An error was ordered.")
}

pub(crate) fn rate_limited() -> Reply {
    error(
        429,
        "RequestBlockedException",
        "Request was blocked due to exceeding usage of resource 'Concurrency' in namespace 'User'.",
    )
}

/// 401 with no body.
pub(crate) fn unauthorized() -> Reply {
    Reply::empty(401).header("WWW-Authenticate", "Basic realm=\"https://dev.azure.com/\"")
}

/// What a call without a token that is known is answered: the page to sign in at for one that has none; one that is not
/// known is refused, or led to that page too, by setting.
pub(crate) fn refused(world: &World, call: &Call) -> Reply {
    match (world.settings.azure_sign_in, &call.token) {
        (302, _) => Reply::empty(302).header("Location", format!("{}/azure/_signin", call.origin)),
        (401, Some(_)) => unauthorized(),
        _ => Reply {
            body: b"<!DOCTYPE html><html><title>Azure DevOps Services | Sign In</title></html>".to_vec(),
            ..Reply::empty(203).header("Content-Type", "text/html; charset=utf-8")
        },
    }
}

/// Whether the call's token may read.
pub(crate) fn authorized(world: &World, call: &Call) -> bool {
    let token = call.token.as_deref();
    token.is_some_and(|token| world.pat(token).is_some())
}

/// A list as the service wraps it.
fn collection(values: &[Value]) -> Reply {
    Reply::json(200, &json!({"count": values.len(), "value": values}))
}

/// Refuses another organisation's path.
fn at_home(world: &World, call: &Call) -> Result<(), Reply> {
    let known = world.azure.organization.eq_ignore_ascii_case(call.param(0));
    if known { Ok(()) } else { Err(not_found()) }
}

/// Refuses a token that may only read.
fn manages(world: &World, call: &Call) -> Result<(), Reply> {
    let manages = call.token.as_deref().and_then(|token| world.pat(token));
    if manages == Some(true) {
        return Ok(());
    }
    Err(error(
        403,
        "AccessDeniedException",
        "Access denied. The token needs Manage permissions for the pool to perform the action.",
    ))
}

/// The pool of the call's path.
fn pool_of<'a>(world: &'a World, call: &Call) -> Result<&'a AgentPool, Reply> {
    at_home(world, call)?;
    let found = call.id(1).and_then(|id| world.azure.pools.get(&id));
    found.ok_or_else(|| {
        error(
            404,
            "TaskAgentPoolNotFoundException",
            &format!(
                "No agent pool found with identifier {}, or you have no access to it.",
                call.param(1)
            ),
        )
    })
}

/// An id as the service writes them, which follows from the seed.
fn guid(seed: u64, stream: u64, turn: u64) -> String {
    let (high, low) = (dice::bits(seed, stream, turn), dice::bits(seed, !stream, turn));
    let text = format!("{high:016x}{low:016x}");
    [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ]
    .join("-")
}

/// A time as the service writes it: to a ten-millionth of a second.
fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string()
}

fn base(world: &World, call: &Call) -> String {
    format!(
        "{}{}/{}",
        call.origin,
        Party::Azure.prefix(),
        world.azure.organization
    )
}

fn locations(world: &mut World, call: &Call) -> Answer {
    at_home(world, call)?;
    let place = |id: &str, area: &str, resource: &str, template: &str| {
        json!({
            "id": id, "area": area, "resourceName": resource, "routeTemplate": template, "resourceVersion": 1,
            "minVersion": "1.0", "maxVersion": "7.2", "releasedVersion": "7.1",
        })
    };
    let pool = "_apis/{area}/pools/{poolId}";
    Ok(collection(&[
        place(
            RESOURCE_AREAS,
            "Location",
            "ResourceAreas",
            "_apis/{resource}/{areaId}",
        ),
        place(CONNECTION_DATA, "Location", "connectionData", "_apis/{resource}"),
        place(
            POOLS,
            "distributedtask",
            "pools",
            "_apis/{area}/{resource}/{poolId}",
        ),
        place(
            AGENTS,
            "distributedtask",
            "agents",
            &format!("{pool}/{{resource}}/{{agentId}}"),
        ),
        place(
            JOB_REQUESTS,
            "distributedtask",
            "jobrequests",
            &format!("{pool}/{{resource}}/{{requestId}}"),
        ),
    ]))
}

/// The areas that are served, each at the organisation's own address.
fn all_areas(world: &World, call: &Call) -> [Value; 2] {
    let url = base(world, call);
    [
        json!({"id": DISTRIBUTED_TASK, "name": "distributedtask", "locationUrl": url}),
        json!({"id": "e81700f7-3be2-46de-8624-2eb35882fcaa", "name": "location", "locationUrl": url}),
    ]
}

fn areas(world: &mut World, call: &Call) -> Answer {
    at_home(world, call)?;
    Ok(collection(&all_areas(world, call)))
}

fn area(world: &mut World, call: &Call) -> Answer {
    at_home(world, call)?;
    let wanted = call.param(1);
    let known = all_areas(world, call);
    let found = known.iter().find(|area| {
        area["id"]
            .as_str()
            .is_some_and(|id| id.eq_ignore_ascii_case(wanted))
    });
    found.map(|area| Reply::json(200, area)).ok_or_else(not_found)
}

fn connection(world: &mut World, call: &Call) -> Answer {
    at_home(world, call)?;
    let user = json!({
        "id": guid(world.seed, 1, 0), "descriptor": "Microsoft.IdentityModel.Claims.ClaimsIdentity;runfleet",
        "subjectDescriptor": "aad.cnVuZmxlZXQ", "providerDisplayName": "runfleet", "isActive": true,
        "resourceVersion": 2, "metaTypeId": 0, "properties": {},
    });
    Ok(Reply::json(
        200,
        &json!({
            "authenticatedUser": user, "authorizedUser": user, "instanceId": guid(world.seed, 2, 0),
            "deploymentId": guid(world.seed, 3, 0), "deploymentType": "hosted",
            "locationServiceData": {"serviceOwner": guid(world.seed, 4, 0), "defaultAccessMappingMoniker": "PublicAccessMapping", "lastChangeId": 1, "lastChangeId64": 1},
        }),
    ))
}

fn shown(world: &World, pool: &AgentPool) -> Value {
    let size = world.azure.agents.values().filter(|agent| agent.pool == pool.id);
    json!({
        "createdOn": time(pool.created), "autoProvision": false, "autoUpdate": true, "autoSize": true, "targetSize": null,
        "agentCloudId": null, "id": pool.id, "scope": guid(world.seed, 5, pool.id), "name": pool.name, "isHosted": false,
        "poolType": "automation", "size": size.count(), "isLegacy": false, "options": "none",
    })
}

fn pools(world: &mut World, call: &Call) -> Answer {
    at_home(world, call)?;
    let world = &*world;
    let name = call.query("poolName").filter(|name| !name.is_empty());
    let ids: Vec<u64> = call
        .all("poolIds")
        .iter()
        .filter_map(|id| id.parse().ok())
        .collect();
    let manages = call.token.as_deref().and_then(|token| world.pat(token));
    let hidden = call.query("actionFilter") == Some("manage") && manages != Some(true);
    let found: Vec<Value> = world
        .azure
        .pools
        .values()
        .filter(|pool| name.is_none_or(|name| pool.name.eq_ignore_ascii_case(name)))
        .filter(|pool| ids.is_empty() || ids.contains(&pool.id))
        .filter(|_| !hidden)
        .map(|pool| shown(world, pool))
        .collect();
    Ok(collection(&found))
}

fn pool(world: &mut World, call: &Call) -> Answer {
    let pool = pool_of(world, call)?;
    Ok(Reply::json(200, &shown(world, pool)))
}
