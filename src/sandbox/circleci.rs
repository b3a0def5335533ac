//! CircleCI's API of self-hosted runners: how many tasks wait and run in a resource class, and which runners it knows.
//!
//! Served as version 3 and as version 2, which differ in their paths alone. Shapes are those of "Self-hosted runner API".

use serde_json::{Value, json};

use super::{
    api::{Answer, Call, Handler, Party, Reply, Route},
    world::{
        World,
        circleci::{Task, TaskStatus},
        millis, seconds,
    },
};

/// The version that the runners say they have.
const VERSION: &str = "3.1.13";

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Circleci, method, path, name, handler)
}

pub(crate) static ROUTES: &[Route] = &[
    route(
        "GET",
        "/api/v3/runner/tasks",
        "count a resource class's unclaimed tasks",
        unclaimed,
    ),
    route(
        "GET",
        "/api/v3/runner/tasks/running",
        "count a resource class's running tasks",
        running,
    ),
    route("GET", "/api/v3/runner", "list runners", runners),
    route(
        "GET",
        "/api/v2/tasks",
        "count a resource class's unclaimed tasks",
        unclaimed,
    ),
    route(
        "GET",
        "/api/v2/tasks/running",
        "count a resource class's running tasks",
        running,
    ),
    route("GET", "/api/v2/runner", "list runners", runners),
];

/// `{"message": …}`.
pub(crate) fn message(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"message": text}))
}

pub(crate) fn unauthorized() -> Reply {
    message(401, "You must log in first.")
}

fn class(call: &Call) -> Result<&str, Reply> {
    call.query("resource-class")
        .filter(|class| !class.is_empty())
        .ok_or_else(|| message(400, "resource-class is required"))
}

fn count(world: &World, call: &Call, status: TaskStatus) -> Result<usize, Reply> {
    let then = call.twists.jobs_as_of(world.now);
    Ok(world.circle.count(class(call)?, status, then))
}

fn unclaimed(world: &mut World, call: &Call) -> Answer {
    let count = count(world, call, TaskStatus::Pending)?;
    Ok(Reply::json(200, &json!({"unclaimed_task_count": count})))
}

fn running(world: &mut World, call: &Call) -> Answer {
    let count = count(world, call, TaskStatus::Running)?;
    Ok(Reply::json(200, &json!({"running_runner_tasks": count})))
}

fn runners(world: &mut World, call: &Call) -> Answer {
    let world = &*world;
    let classes: Vec<&str> = match (class(call), call.query("namespace")) {
        (Ok(class), _) => vec![class],
        (Err(_), Some(namespace)) => {
            let of = |class: &&String| class.split_once('/').is_some_and(|(own, _)| own == namespace);
            world
                .circle
                .classes
                .keys()
                .filter(of)
                .map(String::as_str)
                .collect()
        }
        (Err(_), None) => return Err(message(400, "resource-class or namespace is required")),
    };
    let then = call.twists.as_of(world.now).unwrap_or(world.now);
    let items: Vec<Value> = classes
        .into_iter()
        .flat_map(|class| {
            world
                .circle_runners(class)
                .into_iter()
                .map(move |runner| (class, runner))
        })
        .filter(|(_, runner)| runner.first_connected <= then)
        .map(|(class, runner)| {
            json!({
                "resource_class": class, "hostname": runner.hostname, "name": runner.name,
                "first_connected": seconds(runner.first_connected),
                "last_connected": seconds(runner.last_connected(then, world.settings.poll)),
                "last_used": runner.last_used.map(seconds), "version": VERSION,
            })
        })
        .collect();
    Ok(Reply::json(200, &json!({"items": items})))
}

/// A task in the world's report.
pub(crate) fn report(task: &Task) -> Value {
    json!({
        "ci": "circleci", "id": task.id, "name": task.name, "resource_class": task.class, "status": task.status.name(),
        "created": millis(task.created), "started": task.started.map(millis), "finished": task.finished.map(millis),
        "runner": task.runner.as_ref().map(|(runner, _)| runner),
    })
}
