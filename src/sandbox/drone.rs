//! Drone's API, as far as it tells what is queued and holds the queue: the server of harness/drone, version 2, Enterprise
//! or, by setting, the open source build.
//!
//! Shapes follow the server's source: `core/stage.go`, `handler/api/queue`, `handler/api/acl`.

use serde_json::{Map, Value, json};

use super::{
    api::{Answer, Call, Handler, Party, Reply, Route},
    gitlab::user_of,
    world::{
        World, millis,
        stage::{Stage, StageStatus},
    },
};

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Drone, method, path, name, handler)
}

pub(crate) static ROUTES: &[Route] = &[
    route("GET", "/api/queue", "list stages that wait or run", items),
    route("DELETE", "/api/queue", "pause the queue", pause),
    route("POST", "/api/queue", "resume the queue", resume),
    route("GET", "/api/user", "read the token's user", user),
    route("GET", "/api/system/stats", "read counts", stats),
];

/// `{"message": …}`, Drone's one error.
pub(crate) fn message(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"message": text}))
}

pub(crate) fn unauthorized() -> Reply {
    message(401, "Unauthorized")
}

/// The routes that only an administrator may use, and only Enterprise has.
fn enterprise(world: &World, call: &Call) -> Result<(), Reply> {
    let user = user_of(world, call).ok_or_else(unauthorized)?;
    if !user.admin {
        return Err(message(403, "Forbidden"));
    }
    if world.settings.drone_oss {
        return Err(message(501, "Not Implemented"));
    }
    Ok(())
}

fn items(world: &mut World, call: &Call) -> Answer {
    enterprise(world, call)?;
    let then = call.twists.jobs_as_of(world.now);
    let listed = world.drone.listed(then);
    let shown: Vec<Value> = listed
        .into_iter()
        .map(|(stage, status)| {
            let then = then.unwrap_or(world.now);
            body(stage, status, then)
        })
        .collect();
    Ok(Reply::json(200, &shown))
}

/// A stage as it was at `then`. Fields that are empty are left out, as Go does by `omitempty`.
fn body(stage: &Stage, status: StageStatus, then: jiff::Timestamp) -> Value {
    let by = |time: Option<jiff::Timestamp>| time.filter(|time| *time <= then);
    let second = |time: Option<jiff::Timestamp>| by(time).map_or(0, jiff::Timestamp::as_second);
    let accepted = stage.accepted.as_ref().filter(|(_, at)| *at <= then);
    let updated = [
        by(stage.stopped),
        by(stage.started),
        accepted.map(|(_, at)| *at),
        by(stage.queued),
    ];
    let updated = updated.into_iter().flatten().max().unwrap_or(stage.created);
    let need = &stage.need;
    let all = [
        ("id", json!(stage.id)),
        ("repo_id", json!(stage.repo_id)),
        ("build_id", json!(stage.build)),
        ("number", json!(stage.number)),
        ("name", json!(stage.name)),
        ("kind", json!("pipeline")),
        ("type", json!(need.kind)),
        ("status", json!(status.name())),
        ("errignore", json!(false)),
        ("exit_code", json!(0)),
        (
            "machine",
            json!(accepted.map_or("", |(machine, _)| machine.as_str())),
        ),
        ("os", json!(need.os)),
        ("arch", json!(need.arch)),
        ("variant", json!(need.variant)),
        ("kernel", json!(need.kernel)),
        ("limit", json!(stage.limit)),
        ("throttle", json!(stage.throttle)),
        ("started", json!(second(stage.started))),
        ("stopped", json!(second(stage.stopped))),
        ("created", json!(stage.created.as_second())),
        ("updated", json!(updated.as_second())),
        ("version", json!(stage.version)),
        ("on_success", json!(true)),
        ("on_failure", json!(false)),
        ("depends_on", json!(stage.depends_on)),
        ("labels", json!(need.labels)),
    ];
    let optional = [
        "machine",
        "variant",
        "kernel",
        "limit",
        "throttle",
        "depends_on",
        "labels",
    ];
    let is_empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        other => other == &json!(0),
    };
    let shown = all
        .into_iter()
        .filter(|(key, value)| !(optional.contains(key) && is_empty(value)));
    Value::Object(
        shown
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn pause(world: &mut World, call: &Call) -> Answer {
    enterprise(world, call)?;
    world.drone.paused = true;
    Ok(Reply::empty(204))
}

fn resume(world: &mut World, call: &Call) -> Answer {
    enterprise(world, call)?;
    world.drone.paused = false;
    world.hand_out();
    Ok(Reply::empty(204))
}

fn user(world: &mut World, call: &Call) -> Answer {
    let user = user_of(world, call).ok_or_else(unauthorized)?;
    Ok(Reply::json(
        200,
        &json!({
            "id": user.id, "login": user.username, "email": format!("{}@example.com", user.username), "machine": false,
            "admin": user.admin, "active": true, "avatar": "", "syncing": false, "synced": 0, "created": 0, "updated": 0,
            "last_login": 0,
        }),
    ))
}

fn stats(world: &mut World, call: &Call) -> Answer {
    enterprise(world, call)?;
    let listed = world.drone.listed(None);
    let builds = |wanted: StageStatus| {
        let fitting = listed.iter().filter(|(_, status)| *status == wanted);
        let mut builds: Vec<u64> = fitting.map(|(stage, _)| stage.build).collect();
        builds.sort_unstable();
        builds.dedup();
        builds.len()
    };
    Ok(Reply::json(
        200,
        &json!({
            "users": {"total": world.forge.users.len() + 1}, "repos": {"active": world.drone.repo_count()},
            "builds": {"pending": builds(StageStatus::Pending), "running": builds(StageStatus::Running), "total": world.drone.next_build},
            "pipelines": [], "events": {"subscribers": 0}, "streams": {}, "watchers": null,
        }),
    ))
}

/// A stage in the world's report. One whose runner is gone is `killed` there, though Drone lists it still.
pub(crate) fn report(stage: &Stage) -> Value {
    json!({
        "ci": "drone", "id": stage.id, "name": stage.name, "repo": stage.repo, "build": stage.build, "type": stage.need.kind,
        "os": stage.need.os, "arch": stage.need.arch, "labels": stage.need.labels, "status": stage.report_status().name(),
        "created": millis(stage.created), "started": stage.started.map(millis), "finished": stage.lost.or(stage.stopped).map(millis),
        "machine": stage.accepted.as_ref().map(|(machine, _)| machine),
    })
}
