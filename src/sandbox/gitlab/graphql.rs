//! The GraphQL queries that tell an autoscaler something: `jobs`, `group`, `currentUser`, `projects`.
//!
//! A document is one operation with one or more of these fields. Anything else is answered with GraphQL `errors` and
//! status 200, as GitLab does. **The trap:** `jobs` is for administrators, and for anyone else it is empty, not an error.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        forge::{Job, JobStatus, User},
        millis,
    },
};
use super::{
    graphql_reader::{Field, Parser},
    json as shape, reader,
};

pub(super) fn query(world: &mut World, call: &Call) -> Answer {
    // Without a token GitLab answers as to anybody who is not signed in; the sandbox refuses, as with every call.
    let user = reader(world, call)?;
    if let Some((_, status)) = call.twists.partial {
        return Err(super::message(status, "upstream failed"));
    }
    let variables = call.body.get("variables").cloned().unwrap_or_default();
    let parsed = call
        .text("query")
        .ok_or_else(|| "An empty query".to_owned())
        .and_then(|text| Parser::new(text, &variables).document());
    let answer = parsed.and_then(|fields| {
        let mut data = Map::new();
        for field in &fields {
            data.insert(field.alias.clone(), resolve(world, call, &user, field)?);
        }
        Ok(data)
    });
    Ok(match answer {
        Ok(data) => Reply::json(200, &json!({"data": data})),
        Err(problem) => Reply::json(
            200,
            &json!({"errors": [{"message": problem, "locations": [{"line": 1, "column": 1}]}]}),
        ),
    })
}

fn resolve(world: &World, call: &Call, user: &User, field: &Field) -> Result<Value, String> {
    match field.name.as_str() {
        "currentUser" => select(
            field,
            &json!({"id": format!("gid://gitlab/User/{}", user.id), "username": user.username, "name": user.username}),
        ),
        "projects" => {
            let membership = field.args.get("membership") == Some(&Value::Bool(true));
            let rows = world
                .forge
                .projects
                .values()
                .filter(|project| if membership { user.is_member(&project.path) } else { user.sees(&project.path) })
                .map(|project| {
                    (project.id, json!({"id": format!("gid://gitlab/Project/{}", project.id), "fullPath": project.path, "name": project.path}))
                })
                .collect();
            connection(field, rows, call)
        }
        "group" => super::graphql_group::group(world, call, user, field),
        "jobs" => {
            interface_only(field)?;
            let rows = if user.admin {
                jobs(world, call, field)?
            } else {
                Vec::new()
            };
            connection(field, rows, call)
        }
        other => Err(format!("Field '{other}' doesn't exist on type 'Query'")),
    }
}

/// `jobs` gives the interface of all kinds of jobs: what only one kind has must be asked for `... on CiJob`.
fn interface_only(jobs: &Field) -> Result<(), String> {
    let nodes = jobs.fields.iter().filter(|field| field.name == "nodes");
    for field in nodes.flat_map(|nodes| &nodes.fields) {
        if field.name == "runnerManager" && field.on.as_deref() != Some("CiJob") {
            return Err("Field 'runnerManager' doesn't exist on type 'CiJobInterface'".to_owned());
        }
    }
    Ok(())
}

fn jobs(world: &World, call: &Call, field: &Field) -> Result<Vec<(u64, Value)>, String> {
    let wanted: Option<Vec<String>> = field.args.get("statuses").map(|value| {
        let all = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        all.iter()
            .filter_map(Value::as_str)
            .map(str::to_lowercase)
            .collect()
    });
    let runner = match field.args.get("compatibleRunnerId").and_then(Value::as_str) {
        None => None,
        Some(_) if wanted.as_deref() != Some(&["pending".to_owned()]) => {
            return Err(
                "compatibleRunnerId can only be used when the `statuses` argument is set to exactly PENDING"
                    .to_owned(),
            );
        }
        Some(gid) => Some(
            gid.rsplit('/')
                .next()
                .and_then(|id| id.parse().ok())
                .and_then(|id: u64| world.forge.runners.get(&id))
                .ok_or_else(|| "The resource that you are attempting to access does not exist".to_owned())?,
        ),
    };
    let then = call.twists.jobs_as_of(world.now).unwrap_or(world.now);
    let statuses = JobStatus::ALL.into_iter().filter(|status| {
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|name| name == status.name()))
    });
    let mut ids: Vec<u64> = if then < world.now {
        world.forge.jobs.keys().copied().collect()
    } else {
        let statuses: Vec<JobStatus> = statuses.clone().collect();
        world
            .forge
            .by_status
            .iter()
            .filter(|((_, status), _)| statuses.contains(status))
            .flat_map(|(_, ids)| ids)
            .copied()
            .collect()
    };
    let statuses: Vec<JobStatus> = statuses.collect();
    // The newest first, as GitLab does.
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids
        .into_iter()
        .filter_map(|id| world.forge.jobs.get(&id))
        .filter(|job| {
            job.status_at(then)
                .is_some_and(|status| statuses.contains(&status))
        })
        .filter(|job| {
            runner.is_none_or(|runner| {
                job.tags.iter().all(|tag| runner.tags.contains(tag))
                    && (runner.run_untagged || !job.tags.is_empty())
            })
        })
        .map(|job| (job.id, job_json(world, call, job, then)))
        .collect())
}

fn job_json(world: &World, call: &Call, job: &Job, then: jiff::Timestamp) -> Value {
    let status = job.status_at(then).unwrap_or(job.status);
    let project = world.forge.projects.get(&job.project);
    let path = project.map_or("", |project| project.path.as_str());
    json!({
        "id": format!("gid://gitlab/Ci::Build/{}", job.id), "name": job.name, "status": status.name().to_uppercase(), "tags": job.tags,
        "createdAt": millis(job.created), "queuedAt": millis(job.created), "startedAt": job.started.filter(|at| *at <= then).map(millis),
        "finishedAt": job.finished.filter(|at| *at <= then).map(millis), "duration": null, "refName": job.git_ref, "createdByTag": job.of_tag, "active": job.finished.is_none(),
        "webPath": format!("/{path}/-/jobs/{}", job.id), "shortSha": &shape::sha(job.project)[..8],
        "project": {"id": format!("gid://gitlab/Project/{}", job.project), "fullPath": path, "name": path, "webUrl": format!("{}/{path}", shape::base(call)), "sharedRunnersEnabled": true},
        "runner": job.runner.map(|id| json!({"id": format!("gid://gitlab/Ci::Runner/{id}")})),
        "runnerManager": job.manager.map(|id| json!({"id": format!("gid://gitlab/Ci::RunnerManager/{id}"), "systemId": job.system_id})),
        "pipeline": {"id": format!("gid://gitlab/Ci::Pipeline/{}", job.id), "iid": job.id.to_string()},
    })
}

/// A page of a connection, by `first` (at most 100) and `after`.
pub(super) fn connection(field: &Field, rows: Vec<(u64, Value)>, call: &Call) -> Result<Value, String> {
    let first = field
        .args
        .get("first")
        .and_then(Value::as_u64)
        .unwrap_or(100)
        .min(100);
    let after = match field.args.get("after").and_then(Value::as_str) {
        None | Some("") => None,
        Some(cursor) => Some(read_cursor(cursor).ok_or_else(|| format!("Invalid cursor: {cursor}"))?),
    };
    let total = rows.len();
    let start = after.map_or(0, |after| {
        rows.iter()
            .position(|(id, _)| *id == after)
            .map_or(total, |at| at + 1)
    });
    let page: Vec<(u64, Value)> = rows
        .into_iter()
        .skip(start)
        .take(usize::try_from(first).unwrap_or(usize::MAX))
        .collect();
    let cursor = |row: Option<&(u64, Value)>| {
        row.map(|(id, _)| URL_SAFE_NO_PAD.encode(json!({"id": id.to_string()}).to_string()))
    };
    let info = json!({
        "hasNextPage": start + page.len() < total || call.twists.endless, "hasPreviousPage": start > 0, "startCursor": cursor(page.first()), "endCursor": cursor(page.last()),
    });
    let nodes: Vec<Value> = page.into_iter().map(|(_, row)| row).collect();
    select(
        field,
        &json!({"count": total as u64 + if start > 0 { call.twists.more_in_total } else { 0 }, "nodes": nodes, "pageInfo": info}),
    )
}

fn read_cursor(cursor: &str) -> Option<u64> {
    let value: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?).ok()?;
    value["id"].as_str()?.parse().ok()
}

/// What is selected of a value; a field that it lacks is an error.
pub(super) fn select(field: &Field, value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Array(all) if !field.fields.is_empty() => all.iter().map(|one| select(field, one)).collect(),
        Value::Object(all) => {
            if field.fields.is_empty() {
                return Err(format!("Field must have selections (field '{}')", field.name));
            }
            let mut picked = Map::new();
            for wanted in &field.fields {
                let found = match wanted.name.as_str() {
                    "__typename" => Value::String(field.name.clone()),
                    name => select(
                        wanted,
                        // What an argument changes is there by its alias.
                        all.get(&format!("{name}#{}", wanted.alias))
                            .or_else(|| all.get(name))
                            .ok_or_else(|| format!("Field '{name}' doesn't exist on '{}'", field.name))?,
                    )?,
                };
                picked.insert(wanted.alias.clone(), found);
            }
            Ok(Value::Object(picked))
        }
        plain if field.fields.is_empty() => Ok(plain.clone()),
        _ => Err(format!(
            "Selections can't be made on scalars (field '{}')",
            field.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_an_error() {
        let field = Parser::new("{ currentUser { usernam } }", &Value::Null)
            .document()
            .unwrap()
            .remove(0);
        assert!(select(&field, &json!({"username": "root"})).is_err());
        assert!(select(&field, &json!({"usernam": "root"})).is_ok());
    }
}
