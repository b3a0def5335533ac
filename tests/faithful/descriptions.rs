//! The vendors' own descriptions of their APIs, where they are present beside the project.

use std::path::{Path, PathBuf};

use runfleet::sandbox::GITLAB_NULLABLE;
use serde_json::{Value, json};

use crate::operations::matches;

/// One API, as its vendor describes it.
pub(crate) struct Description {
    document: Value,
}

fn read(name: &str) -> Option<Value> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/specs")
        .join(name);
    let text = fs_err::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// Hetzner Cloud, OpenAPI 3.
pub(crate) fn hetzner() -> Option<Description> {
    let document = read("hetzner-cloud.json")?;
    Some(Description { document })
}

/// DigitalOcean, OpenAPI 3, with an error mended; its paths begin with the version.
pub(crate) fn digitalocean() -> Option<Description> {
    let mut document = read("digitalocean.json")?;
    // Exactly one of two must fit, of which the first fits whatever the second does.
    let body = &mut document["paths"]["/v2/droplets/actions"]["post"]["requestBody"];
    let schema = body["content"]["application/json"]["schema"]
        .as_object_mut()
        .unwrap();
    let either = schema.remove("oneOf").unwrap();
    schema.insert("anyOf".to_owned(), either);
    Some(Description { document })
}

/// Agent pools and agents of Azure DevOps, Swagger 2, with its errors mended, each of which the official package contradicts:
/// a list is wrapped with its count; a pool is listed by any name or none; an agent is read, and not only whether it may be
/// managed; a demand is a text; what is removed leaves nothing to tell; fields are null. It is asked with the version in a header
/// where the package asks, and its security is OAuth alone, though a personal access token is taken.
pub(crate) fn azure() -> Option<Description> {
    let mut document = read("azdo-distributedTask-7.1-taskAgent.json")?;
    let top = document.as_object_mut().unwrap();
    top.remove("securityDefinitions");
    top["parameters"]["api-Version"]["required"] = false.into();
    for operation in top["paths"].as_object_mut().unwrap().values_mut() {
        for operation in operation.as_object_mut().unwrap().values_mut() {
            let operation = operation.as_object_mut().unwrap();
            operation.remove("security");
            let list = &mut operation["responses"]["200"]["schema"];
            if list["type"] == "array" {
                *list = json!({
                    "type": "object", "required": ["count", "value"],
                    "properties": {"count": {"type": "integer"}, "value": list.take()},
                });
            }
        }
    }
    let pools = "/{organization}/_apis/distributedtask/pools";
    let agent = format!("{pools}/{{poolId}}/agents/{{agentId}}");
    let optional = |operation: &mut Value, name: &str| {
        let parameters = operation["parameters"].as_array_mut().unwrap();
        let parameter = parameters.iter_mut().find(|one| one["name"] == name).unwrap();
        parameter["required"] = false.into();
    };
    optional(&mut document["paths"][pools]["get"], "poolIds");
    let read = &mut document["paths"][&agent]["get"];
    optional(read, "isCheckPermissions");
    assert_eq!(read["responses"]["200"]["schema"]["type"], "boolean");
    read["responses"]["200"]["schema"] = json!({"$ref": "#/definitions/TaskAgent"});
    document["paths"][&agent]["delete"]["responses"] = json!({"204": {"description": "it is gone"}});
    document["definitions"]["Demand"] = json!({"type": "string"});
    for field in ["targetSize", "agentCloudId"] {
        document["definitions"]["TaskAgentPool"]["properties"][field]["x-nullable"] = true.into();
    }
    Some(Description { document })
}

/// Listings that the description calls one object: its generator was not told that they are arrays.
const LISTINGS: [&str; 7] = [
    "/api/v4/groups/{id}/runners",
    "/api/v4/projects/{id}/runners",
    "/api/v4/runners",
    "/api/v4/runners/all",
    "/api/v4/runners/{id}/jobs",
    "/api/v4/runners/{id}/managers",
    "/api/v4/runners/{id}/projects",
];

/// Fields that the description calls strings, or one object, because its generator was told no type; the examples of
/// GitLab's handbook of the API, and the server's source, have these.
const FIELDS: [(&str, &str); 9] = [
    (
        "API_Entities_Ci_RunnerRegistrationDetails/properties/id",
        "integer",
    ),
    ("API_Entities_Ci_RunnerDetails/properties/tag_list", "array"),
    ("API_Entities_Ci_RunnerDetails/properties/run_untagged", "boolean"),
    ("API_Entities_Ci_RunnerDetails/properties/locked", "boolean"),
    (
        "API_Entities_Ci_RunnerDetails/properties/maximum_timeout",
        "integer",
    ),
    ("API_Entities_Ci_RunnerDetails/properties/projects", "array"),
    ("API_Entities_Ci_RunnerDetails/properties/groups", "array"),
    (
        "API_Entities_Ci_Job/properties/project/properties/ci_job_token_scope_enabled",
        "boolean",
    ),
    (
        "API_Entities_Ci_JobBasic/properties/project/properties/ci_job_token_scope_enabled",
        "boolean",
    ),
];

/// GitLab's runners and jobs, Swagger 2, with its errors mended: those that the README beside it tells, and those
/// above. It calls no field nullable, though the server sends nulls, and describes the body of a 204.
pub(crate) fn gitlab() -> Option<Description> {
    let mut document = read("gitlab-ci-runners-jobs.swagger2.json")?;
    for path in LISTINGS {
        let one = &mut document["paths"][path]["get"]["responses"]["200"]["schema"];
        if one.get("$ref").is_some() {
            *one = json!({"type": "array", "items": one.take()});
        }
        assert_eq!(one["type"], "array", "{path}");
    }
    for (pointer, kind) in FIELDS {
        let field = document.pointer_mut(&format!("/definitions/{pointer}")).unwrap();
        *field = match kind {
            "array" if field["type"] != "array" => json!({"type": "array", "items": field.take()}),
            "array" => field.take(),
            kind => json!({"type": kind}),
        };
    }
    // Both `project_id` and `group_id` are said to be required; each goes with one type of runner.
    let body = &mut document["definitions"]["postApiV4UserRunners"]["required"];
    assert!(body.is_array());
    *body = json!(["runner_type"]);
    for operation in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in operation.as_object_mut().unwrap().values_mut() {
            if let Some(empty) = operation
                .pointer_mut("/responses/204")
                .and_then(Value::as_object_mut)
            {
                empty.remove("schema");
            }
        }
    }
    let definitions = document["definitions"].clone();
    for definition in document["definitions"].as_object_mut().unwrap().values_mut() {
        make_nullable(definition, &definitions);
    }
    Some(Description { document })
}

fn make_nullable(schema: &mut Value, definitions: &Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties {
        if !GITLAB_NULLABLE.contains(&name.as_str()) {
            continue;
        }
        // Beside a reference nothing counts, so what it leads to takes its place.
        if let Some(to) = property.get("$ref").and_then(Value::as_str) {
            *property = definitions[to.rsplit('/').next().unwrap()].clone();
        }
        property["x-nullable"] = true.into();
    }
}

impl Description {
    /// Whether it has this operation; the path is below the API's root.
    pub(crate) fn has(&self, method: &str, path: &str) -> bool {
        let method = method.to_ascii_lowercase();
        self.document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .any(|(pattern, operations)| operations.get(&method).is_some() && matches(pattern, path))
    }

    pub(crate) fn write(&self, path: &Path) {
        fs_err::write(path, self.document.to_string()).unwrap();
    }
}
