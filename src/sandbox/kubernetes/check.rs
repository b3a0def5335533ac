//! What the API server refuses, in its words.

use serde_json::{Value, json};

use super::{
    super::{
        api::Reply,
        selector::{valid_key, valid_value},
        world::{
            World,
            cluster::{Key, Kind, is_leaving, is_quantity, text},
        },
    },
    Target, about, bad_request, known, status,
};

/// The longest name of a CronJob, so that a Job named after it fits.
const CRON_JOB_MAX: usize = 52;
/// The longest name of a Job, which is a label of its pods.
const JOB_MAX: usize = 63;

/// The object is of the kind of the path, and of its namespace and name.
pub(super) fn is_of(target: &Target, object: &Value) -> Result<(), Reply> {
    let resource = target.resource();
    let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let fits = |given: &str, wanted: &str| given.is_empty() || given == wanted;
    if !object.is_object() {
        return Err(bad_request(format!(
            "no object was given for {}",
            resource.full()
        )));
    }
    if !fits(version, &resource.api_version()) || !fits(kind, resource.name) {
        return Err(bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: the API version in the data ({version}) does not match the \
             expected API version ({})",
            resource.name,
            resource.api_version()
        )));
    }
    if !fits(text(object, "/metadata/namespace"), &target.namespace) {
        return Err(bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = text(object, "/metadata/name");
    if !target.name.is_empty() && !fits(name, &target.name) {
        return Err(bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

/// The namespace is there, and stays.
pub(super) fn namespace(world: &World, target: &Target) -> Result<(), Reply> {
    let name = &target.namespace;
    match world.cluster.get(&Key::new(Kind::Namespace, "", name)) {
        None => {
            let details = json!({"name": name, "kind": "namespaces"});
            Err(status(
                404,
                "NotFound",
                format!("namespaces \"{name}\" not found"),
                Some(details),
            ))
        }
        Some(space) if is_leaving(space) => {
            let message = format!(
                "{} is forbidden: unable to create new content in namespace {name} because it is being terminated",
                target.resource().full()
            );
            Err(status(403, "Forbidden", message, Some(about(target, ""))))
        }
        Some(_) => Ok(()),
    }
}

/// What is wrong with one field.
struct Cause {
    field: String,
    /// `FieldValueRequired`
    reason: &'static str,
    message: String,
}

impl Cause {
    fn required(field: &str, why: &str) -> Self {
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        Self {
            field: field.to_owned(),
            reason: "FieldValueRequired",
            message: format!("Required value{why}"),
        }
    }

    fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {why}"),
        }
    }
}

fn refuse(kind: Kind, name: &str, causes: &[Cause]) -> Result<(), Reply> {
    if causes.is_empty() {
        return Ok(());
    }
    let resource = kind.resource();
    let full = match resource.group {
        "" => resource.name.to_owned(),
        group => format!("{}.{group}", resource.name),
    };
    let said: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    let said = match said.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    };
    let listed: Vec<Value> = causes
        .iter()
        .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
        .collect();
    let mut details = json!({"name": name, "kind": resource.name, "causes": listed});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    let message = format!("{full} \"{name}\" is invalid: {said}");
    Err(status(422, "Invalid", message, Some(details)))
}

fn is_name(name: &str, longest: usize) -> bool {
    let ends = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let bytes = name.as_bytes();
    name.len() <= longest
        && bytes
            .iter()
            .all(|letter| ends(*letter) || matches!(letter, b'-' | b'.'))
        && bytes.first().is_some_and(|letter| ends(*letter))
        && bytes.last().is_some_and(|letter| ends(*letter))
}

/// The object could be stored. Fields that are not known are looked for where `validation` is `Strict`.
pub(super) fn object(kind: Kind, name: &str, object: &Value, validation: Option<&str>) -> Result<(), Reply> {
    if validation == Some("Strict") {
        let strange = known::strange(kind, object);
        if !strange.is_empty() {
            let said: Vec<String> = strange
                .iter()
                .map(|field| format!("unknown field \"{field}\""))
                .collect();
            let resource = kind.resource();
            return Err(bad_request(format!(
                "{} in version \"v1\" cannot be handled as a {}: strict decoding error: {}",
                resource.name,
                resource.name,
                said.join(", ")
            )));
        }
    }
    let mut causes = Vec::new();
    let longest = match kind {
        Kind::CronJob => CRON_JOB_MAX,
        Kind::Job | Kind::Namespace => JOB_MAX,
        _ => 253,
    };
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if name.len() > longest {
        let why = format!("must be no more than {longest} characters");
        causes.push(Cause::invalid("metadata.name", &name.into(), &why));
    } else if !is_name(name, longest)
        && !matches!(
            kind,
            Kind::Role | Kind::RoleBinding | Kind::ClusterRole | Kind::ClusterRoleBinding
        )
    {
        causes.push(Cause::invalid(
            "metadata.name",
            &name.into(),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character",
        ));
    }
    labels(object, "metadata.labels", "/metadata/labels", &mut causes);
    match kind {
        Kind::Job => job(&object["spec"], "spec", &mut causes),
        Kind::CronJob => {
            if text(object, "/spec/schedule").is_empty() {
                causes.push(Cause::required("spec.schedule", ""));
            } else if text(object, "/spec/schedule").split_whitespace().count() != 5
                && !text(object, "/spec/schedule").starts_with('@')
            {
                let why = "expected exactly 5 fields";
                causes.push(Cause::invalid("spec.schedule", &object["spec"]["schedule"], why));
            }
            job(
                &object["spec"]["jobTemplate"]["spec"],
                "spec.jobTemplate.spec",
                &mut causes,
            );
        }
        Kind::Pod => pod(&object["spec"], "spec", &mut causes),
        _ => {}
    }
    refuse(kind, name, &causes)
}

fn labels(object: &Value, field: &str, pointer: &str, causes: &mut Vec<Cause>) {
    let all = object.pointer(pointer).and_then(Value::as_object);
    for (key, value) in all.into_iter().flatten() {
        if !valid_key(key) {
            causes.push(Cause::invalid(
                field,
                &key.as_str().into(),
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
        if !value.as_str().is_some_and(valid_value) {
            causes.push(Cause::invalid(
                field,
                value,
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must be no more than 63 \
                 characters",
            ));
        }
    }
}

fn job(spec: &Value, field: &str, causes: &mut Vec<Cause>) {
    let policy = text(spec, "/template/spec/restartPolicy");
    if !matches!(policy, "Never" | "OnFailure") {
        let at = format!("{field}.template.spec.restartPolicy");
        causes.push(Cause::required(&at, "valid values: \"OnFailure\", \"Never\""));
    }
    for count in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        if let Some(value) = spec.get(count).filter(|value| value.as_u64().is_none()) {
            causes.push(Cause::invalid(
                &format!("{field}.{count}"),
                value,
                "must be greater than or equal to 0",
            ));
        }
    }
    labels(
        spec,
        &format!("{field}.template.metadata.labels"),
        "/template/metadata/labels",
        causes,
    );
    pod(
        &spec["template"]["spec"],
        &format!("{field}.template.spec"),
        causes,
    );
}

fn pod(spec: &Value, field: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().filter(|all| !all.is_empty());
    let Some(containers) = containers else {
        causes.push(Cause::required(&format!("{field}.containers"), ""));
        return;
    };
    for (at, container) in containers.iter().enumerate() {
        let field = format!("{field}.containers[{at}]");
        for needed in ["name", "image"] {
            if text(container, &format!("/{needed}")).is_empty() {
                causes.push(Cause::required(&format!("{field}.{needed}"), ""));
            }
        }
        for (at, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
            let field = format!("{field}.env[{at}]");
            if text(variable, "/name").is_empty() {
                causes.push(Cause::required(&format!("{field}.name"), ""));
            }
            if variable.get("value").is_some_and(|value| !value.is_string()) {
                causes.push(Cause::invalid(
                    &format!("{field}.value"),
                    &variable["value"],
                    "must be a string",
                ));
            }
        }
        for kind in ["requests", "limits"] {
            for (name, amount) in container["resources"][kind].as_object().into_iter().flatten() {
                if !is_quantity(amount) {
                    let why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    causes.push(Cause::invalid(
                        &format!("{field}.resources.{kind}[{name}]"),
                        amount,
                        why,
                    ));
                }
            }
        }
    }
}

/// What may not change has not.
pub(super) fn unchanged(kind: Kind, name: &str, before: &Value, after: &Value) -> Result<(), Reply> {
    let fixed: &[&str] = match kind {
        Kind::Job => &[
            "/spec/template",
            "/spec/selector",
            "/spec/completions",
            "/spec/completionMode",
        ],
        Kind::Pod => &["/spec/containers", "/spec/nodeName", "/spec/restartPolicy"],
        Kind::RoleBinding | Kind::ClusterRoleBinding => &["/roleRef"],
        _ => &[],
    };
    // A pod's containers keep all but their images.
    let (had, has) = (without_images(kind, before), without_images(kind, after));
    let changed = fixed
        .iter()
        .filter(|pointer| had.pointer(pointer) != has.pointer(pointer));
    let causes: Vec<Cause> = changed
        .map(|pointer| {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            Cause::invalid(
                &field,
                &after.pointer(pointer).cloned().unwrap_or_default(),
                "field is immutable",
            )
        })
        .collect();
    refuse(kind, name, &causes)
}

fn without_images(kind: Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if kind == Kind::Pod {
        for container in object["spec"]["containers"].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    object
}

/// A `ResourceQuota` of the namespace leaves room for one more.
pub(super) fn quota(world: &World, target: &Target, name: &str) -> Result<(), Reply> {
    let full = target.resource().full();
    let counted: Vec<String> = match target.kind {
        Kind::Pod => vec!["pods".to_owned(), "count/pods".to_owned()],
        Kind::ResourceQuota => return Ok(()),
        _ => vec![format!("count/{full}")],
    };
    for (key, quota) in world.cluster.of(Kind::ResourceQuota) {
        if key.namespace != target.namespace {
            continue;
        }
        for limit in &counted {
            let hard = &quota["spec"]["hard"][limit.as_str()];
            let hard = hard.as_u64().or_else(|| hard.as_str()?.parse().ok());
            let Some(hard) = hard else {
                continue;
            };
            let used = world
                .cluster
                .of(target.kind)
                .filter(|(known, _)| known.namespace == target.namespace)
                .count() as u64;
            if used >= hard {
                let message = format!(
                    "{full} \"{name}\" is forbidden: exceeded quota: {}, requested: {limit}=1, used: {limit}={used}, limited: {limit}={hard}",
                    key.name
                );
                return Err(status(403, "Forbidden", message, Some(about(target, name))));
            }
        }
    }
    Ok(())
}
