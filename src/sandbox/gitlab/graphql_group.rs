//! `group(fullPath)`: its projects, those of subgroups too, and whether each has pipelines of a status.

use serde_json::{Map, Value, json};

use super::super::{
    api::Call,
    world::{
        World,
        forge::{JobStatus, Project, User},
    },
};
use super::{
    graphql::{connection, select},
    graphql_reader::Field,
    projects,
};

/// Null for a group that is not there, or that the user may not see.
pub(super) fn group(world: &World, call: &Call, user: &User, field: &Field) -> Result<Value, String> {
    let wanted = field.args.get("fullPath").and_then(Value::as_str);
    let wanted = wanted.ok_or("Field 'group' is missing required arguments: fullPath")?;
    let found = world.forge.groups.iter().find(|(_, path)| *path == wanted);
    let Some((id, path)) = found.filter(|(id, _)| projects::sees_group(world, user, **id)) else {
        return Ok(Value::Null);
    };
    // An administrator is nobody in a group that they are not a member of.
    let member = user.projects.is_none();
    let level = if member { user.level } else { 0 };
    let plain = json!({
        "id": format!("gid://gitlab/Group/{id}"), "fullPath": path, "name": path.rsplit('/').next(),
        "maxAccessLevel": {"integerValue": level, "stringValue": null},
    });
    let mut answer = Map::new();
    for wanted in &field.fields {
        let value = if wanted.name == "projects" {
            connection(wanted, rows(world, user, *id, wanted), call)?
        } else {
            let only = Field {
                fields: vec![wanted.clone()],
                ..field.clone()
            };
            select(&only, &plain)?[&wanted.alias].take()
        };
        answer.insert(wanted.alias.clone(), value);
    }
    Ok(Value::Object(answer))
}

fn rows(world: &World, user: &User, group: u64, field: &Field) -> Vec<(u64, Value)> {
    let below = field.args.get("includeSubgroups") == Some(&Value::Bool(true));
    let nodes = field.fields.iter().filter(|field| field.name == "nodes");
    let asked: Vec<&Field> = nodes
        .flat_map(|nodes| &nodes.fields)
        .filter(|field| field.name == "pipelines")
        .collect();
    let in_group =
        |project: &&Project| project.group == group || (below && world.forge.is_below(project, group));
    world
        .forge
        .projects
        .values()
        .filter(in_group)
        .filter(|project| user.sees(&project.path))
        .map(|project| {
            let mut row = json!({
                "id": format!("gid://gitlab/Project/{}", project.id), "fullPath": project.path, "name": project.path,
            });
            for field in &asked {
                row[format!("pipelines#{}", field.alias)] = pipelines(world, project, field);
            }
            (project.id, row)
        })
        .collect()
}

/// The pipelines of a status: each job of the world has one of its own. A child pipeline is listed only where its source
/// is asked for.
fn pipelines(world: &World, project: &Project, field: &Field) -> Value {
    let text = |key: &str| field.args.get(key).and_then(Value::as_str);
    let status = text("status").map(str::to_lowercase);
    let child = text("source") == Some("parent_pipeline");
    let first = field.args.get("first").and_then(Value::as_u64).unwrap_or(100);
    let nodes: Vec<Value> = JobStatus::ALL
        .into_iter()
        .filter(|known| status.as_deref().is_none_or(|wanted| wanted == known.name()))
        .filter_map(|status| world.forge.by_status.get(&(project.id, status)))
        .flatten()
        .filter_map(|id| world.forge.jobs.get(id))
        .filter(|job| job.child == child)
        .take(usize::try_from(first.min(100)).unwrap_or(100))
        .map(|job| {
            json!({
                "id": format!("gid://gitlab/Ci::Pipeline/{}", job.id), "iid": job.id.to_string(),
                "status": job.status.name().to_uppercase(),
            })
        })
        .collect();
    json!({"nodes": nodes})
}
