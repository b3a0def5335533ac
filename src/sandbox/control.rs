//! The world's own controls, under `/control`: put jobs in, look, turn the clock, order faults.
//!
//! Open to everyone who reaches the loopback address.

#![expect(clippy::unnecessary_wraps, reason = "handlers have one signature")]

use serde_json::{Value, json};

use super::{
    api::{Answer, Call, Handler, Party, Reply, Route},
    azure, circleci, drone, exporters,
    faults::Rule,
    kubernetes, machines,
    scenario::JobSpec,
    settings::parse_length,
    world::{
        World,
        azure::Agent,
        cloud::Server,
        forge::{Job, JobStatus, Runner},
        millis,
        ocean::Droplet,
    },
};

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Control, method, path, name, handler)
}

pub(crate) static ROUTES: &[Route] = &[
    route("POST", "/jobs", "queue jobs", jobs),
    route(
        "POST",
        "/jobs/{id}/cancel",
        "cancel a job of Azure DevOps",
        cancel,
    ),
    route(
        "GET",
        "/machines",
        "list machines of outside clouds",
        machines::list,
    ),
    route(
        "POST",
        "/machines",
        "report a machine of an outside cloud",
        machines::add,
    ),
    route(
        "DELETE",
        "/machines/{id}",
        "report the end of an outside machine",
        machines::remove,
    ),
    route("POST", "/evict", "evict pods", kubernetes::evict),
    route("POST", "/exit", "end a pod's process", kubernetes::exit),
    route("GET", "/world", "show everything", world),
    route("GET", "/summary", "show counts", summary),
    route("POST", "/clock", "advance the world's time", clock),
    route("GET", "/faults", "list the faults in force", list_faults),
    route("POST", "/faults", "order a fault", add_fault),
    route("DELETE", "/faults", "lift every fault", clear_faults),
    route(
        "POST",
        "/metrics",
        "set what machines tell of themselves",
        exporters::set,
    ),
    route("POST", "/settings", "change settings", settings),
];

pub(crate) fn bad(message: impl Into<String>) -> Reply {
    Reply::json(400, &json!({"error": message.into()}))
}

pub(crate) fn not_found() -> Reply {
    Reply::json(404, &json!({"error": "no such control"}))
}

fn jobs(world: &mut World, call: &Call) -> Answer {
    let spec: JobSpec = serde_json::from_value(call.body.clone()).map_err(|error| bad(error.to_string()))?;
    spec.check().map_err(bad)?;
    let ids = world.submit(spec);
    Ok(Reply::json(201, &json!({"jobs": ids})))
}

/// 204; 404 for one that is not known or has ended.
fn cancel(world: &mut World, call: &Call) -> Answer {
    let canceled = call.id(0).is_some_and(|id| world.cancel_request(id));
    if canceled {
        Ok(Reply::empty(204))
    } else {
        Err(Reply::json(404, &json!({"error": "no such job waits or runs"})))
    }
}

fn clock(world: &mut World, call: &Call) -> Answer {
    let text = match call.body.get("advance") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(seconds)) => seconds.to_string(),
        _ => return Err(bad("advance is missing, a length such as 10m")),
    };
    let by = parse_length(&text).ok_or_else(|| bad(format!("{text:?} is no length of time such as 10m")))?;
    world.clock.advance(by);
    let now = world.clock.at(call.wall);
    world.advance(now);
    Ok(Reply::json(200, &json!({"now": millis(world.now)})))
}

fn settings(world: &mut World, call: &Call) -> Answer {
    let given = call
        .body
        .as_object()
        .ok_or_else(|| bad("an object of settings is needed"))?;
    let mut changed = world.settings.clone();
    for (key, value) in given {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        changed.set(key, &text).map_err(|error| bad(error.to_string()))?;
    }
    if changed.tls != world.settings.tls {
        return Err(bad("tls can be set only at start"));
    }
    world.clock.set_speed(changed.speed, call.wall);
    world.settings = changed;
    Ok(Reply::empty(204))
}

fn add_fault(world: &mut World, call: &Call) -> Answer {
    let rule: Rule = serde_json::from_value(call.body.clone()).map_err(|error| bad(error.to_string()))?;
    if rule
        .probability
        .is_some_and(|probability| !(0.0..=1.0).contains(&probability))
    {
        return Err(bad("probability must be from 0 to 1"));
    }
    let rule = world.faults.add(rule);
    Ok(Reply::json(201, rule))
}

fn list_faults(world: &mut World, _: &Call) -> Answer {
    Ok(Reply::json(200, &json!({"faults": world.faults.rules})))
}

fn clear_faults(world: &mut World, _: &Call) -> Answer {
    world.faults.clear();
    Ok(Reply::empty(204))
}

fn server(world: &World, server: &Server) -> Value {
    let manager = server.host.manager.and_then(|id| world.forge.managers.get(&id));
    json!({
        "provider": "hetzner", "id": server.id, "name": server.name, "status": server.status(world.now), "labels": server.labels,
        "created": millis(server.created), "type": server.kind, "location": server.location, "firewalls": server.firewalls,
        "networks": server.networks.keys().collect::<Vec<_>>(), "placement_group": server.placement_group,
        "registered": world.is_registered(server.id), "runner": manager.map(|manager| manager.runner),
        "running_jobs": world.running_on(server.id), "problem": server.host.setup_problem,
    })
}

fn droplet(world: &World, droplet: &Droplet) -> Value {
    let manager = droplet.host.manager.and_then(|id| world.forge.managers.get(&id));
    json!({
        "provider": "digitalocean", "id": droplet.id, "name": droplet.name, "status": droplet.status(world.now), "labels": {}, "tags": droplet.tags,
        "created": millis(droplet.created), "type": droplet.size, "location": droplet.region, "vpc": droplet.vpc,
        "registered": world.is_registered(droplet.id), "runner": manager.map(|manager| manager.runner),
        "running_jobs": world.running_on(droplet.id), "problem": droplet.host.setup_problem,
    })
}

/// What the DigitalOcean project has besides droplets.
fn ocean(world: &World) -> Value {
    let ocean = &world.ocean;
    let named = |id: Value, name: &str| json!({"id": id, "name": name});
    let keys = ocean.keys.values();
    let walls = ocean.firewalls.values();
    let nets = ocean.vpcs.values();
    json!({
        "ssh_keys": keys.map(|key| named(key.id.into(), &key.name)).collect::<Vec<_>>(),
        "firewalls": walls.map(|wall| named(wall.id.as_str().into(), &wall.name)).collect::<Vec<_>>(),
        "vpcs": nets.map(|net| named(net.id.as_str().into(), &net.name)).collect::<Vec<_>>(),
        "tags": ocean.tags.keys().collect::<Vec<_>>(),
        "snapshots": ocean.snapshots.keys().collect::<Vec<_>>(),
    })
}

fn job(world: &World, job: &Job) -> Value {
    json!({
        "ci": "gitlab", "id": job.id, "name": job.name, "project": world.forge.projects.get(&job.project).map(|project| &project.path), "tags": job.tags,
        "status": job.status.name(), "created": millis(job.created), "started": job.started.map(millis), "finished": job.finished.map(millis),
        "runner": job.runner, "system_id": job.system_id, "failure_reason": job.failure,
    })
}

fn runner(world: &World, runner: &Runner) -> Value {
    let managers: Vec<Value> = runner
        .managers
        .iter()
        .filter_map(|id| world.forge.managers.get(id))
        .map(|manager| {
            json!({
                "id": manager.id, "system_id": manager.system_id, "server": manager.server, "running_jobs": manager.running.len(),
                "contacted_at": manager.contacted_at(world.now, world.settings.poll).map(millis),
            })
        })
        .collect();
    json!({
        "id": runner.id, "description": runner.description, "type": runner.kind.name(), "paused": runner.paused, "tags": runner.tags,
        "run_untagged": runner.run_untagged, "created": millis(runner.created), "managers": managers,
    })
}

/// An agent of Azure DevOps.
fn agent(world: &World, agent: &Agent) -> Value {
    let pool = world.azure.pools.get(&agent.pool);
    let machine = agent
        .host
        .and_then(|host| world.with_instance(host, |instance| instance.id.to_owned()));
    json!({
        "id": agent.id, "name": agent.name, "pool": pool.map(|pool| &pool.name), "enabled": agent.enabled,
        "online": agent.is_online(world.now), "machine": machine, "job": agent.request, "created": millis(agent.created),
    })
}

fn world(world: &mut World, _: &Call) -> Answer {
    let world = &*world;
    let droplets = world.ocean.droplets.values();
    let servers: Vec<Value> = world
        .cloud
        .servers
        .values()
        .map(|found| server(world, found))
        .chain(droplets.map(|found| droplet(world, found)))
        .collect();
    let mut jobs: Vec<Value> = world.forge.jobs.values().map(|found| job(world, found)).collect();
    jobs.extend(world.drone.stages.values().map(drone::report));
    jobs.extend(world.circle.tasks.values().map(circleci::report));
    jobs.extend(
        world
            .azure
            .requests
            .values()
            .map(|request| azure::report(world, request)),
    );
    let agents: Vec<Value> = world
        .azure
        .agents
        .values()
        .map(|found| agent(world, found))
        .collect();
    let runners: Vec<Value> = world
        .forge
        .runners
        .values()
        .map(|found| runner(world, found))
        .collect();
    let named = |id: &u64, name: &str, labels: &super::selector::Labels| json!({"id": id, "name": name, "labels": labels});
    let keys: Vec<Value> = world
        .cloud
        .ssh_keys
        .values()
        .map(|key| named(&key.id, &key.name, &key.labels))
        .collect();
    let walls: Vec<Value> = world
        .cloud
        .firewalls
        .values()
        .map(|wall| named(&wall.id, &wall.name, &wall.labels))
        .collect();
    let nets: Vec<Value> = world
        .cloud
        .networks
        .values()
        .map(|net| named(&net.id, &net.name, &net.labels))
        .collect();
    let groups: Vec<Value> = world
        .cloud
        .placement_groups
        .values()
        .map(|group| named(&group.id, &group.name, &group.labels))
        .collect();
    Ok(Reply::json(
        200,
        &json!({
            "now": millis(world.now), "servers": servers, "machines": machines::all(world), "networks": nets, "placement_groups": groups, "ssh_keys": keys, "firewalls": walls, "jobs": jobs, "runners": runners, "agents": agents,
            "digitalocean": ocean(world), "drone_paused": world.drone.paused, "jobs_killed": world.jobs_killed, "api_calls": world.api_calls,
        }),
    ))
}

fn summary(world: &mut World, _: &Call) -> Answer {
    let gitlab = |status: JobStatus| -> usize {
        let all = world.forge.by_status.iter();
        let fitting = all.filter(|((_, known), _)| *known == status);
        fitting.map(|(_, ids)| ids.len()).sum()
    };
    let elsewhere = |status: &str| {
        let stages = world
            .drone
            .stages
            .values()
            .filter(|stage| stage.report_status().name() == status);
        let tasks = world
            .circle
            .tasks
            .values()
            .filter(|task| task.status.name() == status);
        let requests = world
            .azure
            .requests
            .values()
            .filter(|request| request.status() == status);
        stages.count() + tasks.count() + requests.count()
    };
    let jobs: serde_json::Map<String, Value> = JobStatus::ALL
        .into_iter()
        .map(|status| {
            let count = gitlab(status) + elsewhere(status.name());
            (status.name().to_owned(), count.into())
        })
        .collect();
    let machines = world.outside.machines.keys();
    let registered = world
        .cloud
        .servers
        .keys()
        .chain(world.ocean.droplets.keys())
        .chain(machines)
        .filter(|id| world.is_registered(**id));
    Ok(Reply::json(
        200,
        &json!({
            "now": millis(world.now), "servers": world.cloud.servers.len() + world.ocean.droplets.len(),
            "machines": world.outside.machines.len(), "registered": registered.count(),
            "ssh_keys": world.cloud.ssh_keys.len(), "firewalls": world.cloud.firewalls.len(),
            "networks": world.cloud.networks.len(), "placement_groups": world.cloud.placement_groups.len(), "runners": world.forge.runners.len(),
            "jobs": jobs, "jobs_killed": world.jobs_killed, "api_calls": world.api_calls.values().sum::<u64>(),
        }),
    ))
}
