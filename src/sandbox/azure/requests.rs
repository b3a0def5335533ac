//! Requests for jobs: the endpoint that Microsoft publishes no description of. Its shapes are those of recorded bodies.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    super::{
        api::{Answer, Call, Party},
        world::{World, add, azure::Request, millis},
    },
    agents, collection, guid, pool_of, time,
};

/// So long an agent holds a job without a word.
const LOCK: SignedDuration = SignedDuration::from_mins(10);
/// With no word of how many finished ones are wanted, so many are told.
const COMPLETED: usize = 50;
/// The most rows that are told where their number is asked for.
const TOP_MAX: usize = 200;

/// A request as it was at `then`. Which agents could run it is told of one that is not finished, unless `brief`.
pub(super) fn shown(world: &World, request: &Request, then: Timestamp, origin: &str, matched: bool) -> Value {
    let by = |at: Option<Timestamp>| at.filter(|at| *at <= then);
    let agents = &world.azure.agents;
    let home = format!("{origin}{}/{}", Party::Azure.prefix(), world.azure.organization);
    let plan = guid(world.seed, 0xb11d, request.id);
    let project = guid(world.seed, 0xb11d, 0);
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
    put("requestId", json!(request.id));
    put("queueTime", json!(time(request.queued)));
    if let Some(assigned) = by(request.assigned) {
        put("assignTime", json!(time(assigned)));
    }
    if let Some(received) = by(request.received) {
        put("receiveTime", json!(time(received)));
        put(
            "lockedUntil",
            json!(time(add(then.min(request.finished.unwrap_or(then)), LOCK))),
        );
    }
    let finished = by(request.finished);
    if let Some(finished) = finished {
        put("finishTime", json!(time(finished)));
        put("result", json!(request.result));
    }
    put("serviceOwner", json!("00025394-6065-48ca-87d9-7f5672854ef7"));
    put("hostId", json!(guid(world.seed, 2, 0)));
    put("scopeId", json!(project));
    put("planType", json!("Build"));
    put("planId", json!(plan));
    put("jobId", json!(guid(world.seed, 0x10b, request.id)));
    put("demands", json!(request.demands));
    let reserved = by(request.assigned).and_then(|_| agents.get(&request.agent?));
    if let Some(agent) = reserved {
        put("reservedAgent", agents::reference(world, agent, then, origin));
    }
    if matched && finished.is_none() {
        let fitting = world.azure.listed(request.pool, then).into_iter();
        let fitting: Vec<Value> = fitting
            .filter(|agent| request.demands.iter().all(|demand| agent.fits(demand)))
            .map(|agent| agents::reference(world, agent, then, origin))
            .collect();
        if !fitting.is_empty() {
            put("matchedAgents", json!(fitting));
        }
    }
    let links = |web: String, own: String| json!({"web": {"href": web}, "self": {"href": own}});
    put(
        "definition",
        json!({
            "_links": links(
                format!("{home}/{project}/_build/definition?definitionId=1"),
                format!("{home}/{project}/_apis/build/Definitions/1"),
            ),
            "id": 1, "name": request.name,
        }),
    );
    put(
        "owner",
        json!({
            "_links": links(
                format!("{home}/{project}/_build/results?buildId={}", request.id),
                format!("{home}/{project}/_apis/build/Builds/{}", request.id),
            ),
            "id": request.id, "name": format!("{}.{}", request.queued.strftime("%Y%m%d"), request.id),
        }),
    );
    put(
        "data",
        json!({"ParallelismTag": "Private", "IsScheduledKey": "False"}),
    );
    put("poolId", json!(request.pool));
    put("orchestrationId", json!(format!("{plan}.build.__default")));
    put("priority", json!(0));
    Value::Object(body)
}

/// All that are not finished, and the newest that are, as many as asked for. With `$top`, at most so many of all, the
/// newest first, without the agents that each matches: another shape.
pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let world = &*world;
    let pool = pool_of(world, call)?.id;
    let then = call.twists.jobs_as_of(world.now).unwrap_or(world.now);
    let own = world.azure.requests.values().rev();
    let known: Vec<&Request> = own
        .filter(|request| request.pool == pool && !request.refused && request.queued <= then)
        .collect();
    let is_done = |request: &&&Request| request.finished.is_some_and(|at| at <= then);
    if let Some(top) = call.number("$top") {
        let top = usize::try_from(top).unwrap_or(TOP_MAX).min(TOP_MAX);
        let rows = known.iter().take(top).map(|request| {
            let mut row = shown(world, request, then, &call.origin, false);
            row["matchesAllAgentsInPool"] = json!(request.demands.len() <= 1);
            row
        });
        return Ok(collection(&rows.collect::<Vec<_>>()));
    }
    let wanted = call.number("completedRequestCount");
    let wanted = wanted.map_or(COMPLETED, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let open = known.iter().filter(|request| !is_done(request));
    let done = known.iter().filter(is_done).take(wanted);
    let rows = open
        .chain(done)
        .map(|request| shown(world, request, then, &call.origin, true));
    Ok(collection(&rows.collect::<Vec<_>>()))
}

/// A request in the world's report.
pub(crate) fn report(world: &World, request: &Request) -> Value {
    let pool = world.azure.pools.get(&request.pool);
    json!({
        "ci": "azure", "id": request.id, "name": request.name, "pool": pool.map(|pool| &pool.name), "demands": request.demands,
        "status": request.status(), "created": millis(request.queued), "assigned": request.assigned.map(millis),
        "started": request.received.map(millis), "finished": request.finished.map(millis), "agent": request.agent_name,
        "refused": request.refused,
    })
}
