//! Objects of any kind: created, replaced, changed and deleted.

use serde_json::{Value, json};

use super::{
    super::{
        api::{Answer, Call, Reply},
        world::{
            World,
            cluster::{Key, Kind, Marks, Policy, is_leaving, map, normalise, text, uid},
        },
    },
    Target, about, absent, check,
    list::{Filter, shown},
    patch, status, target,
};

/// What the API server warns of when it leaves pods behind.
const ORPHANS: &str = "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
    set propagationPolicy=Orphan to suppress this warning\"";

/// Whether it is only to be seen whether it would work.
fn is_dry(call: &Call) -> bool {
    call.query("dryRun") == Some("All") || call.body["dryRun"] == json!(["All"])
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "create")?;
    if call.content_type == super::protobuf::CONTENT_TYPE {
        let message = "the body of the request was in an unknown format - accepted media types include: application/json";
        return Err(status(415, "UnsupportedMediaType", message, None));
    }
    make(world, call, &target, call.body.clone())
}

fn make(world: &mut World, call: &Call, target: &Target, mut object: Value) -> Answer {
    let resource = target.resource();
    if !target.name.is_empty() && call.body.get("metadata").is_none() {
        object["metadata"]["name"] = target.name.clone().into();
    }
    check::is_of(target, &object)?;
    if resource.namespaced {
        check::namespace(world, target)?;
    }
    let mut name = text(&object, "/metadata/name").to_owned();
    let base = text(&object, "/metadata/generateName").to_owned();
    if name.is_empty() && !base.is_empty() {
        name = format!("{base}{}", world.name_ending());
    }
    check::object(target.kind, &name, &object, call.query("fieldValidation"))?;
    let key = Key::new(target.kind, &target.namespace, &name);
    if world.cluster.get(&key).is_some() {
        let message = format!("{} \"{name}\" already exists", resource.full());
        return Err(status(409, "AlreadyExists", message, Some(about(target, &name))));
    }
    check::quota(world, target, &name)?;
    if is_dry(call) {
        map(&mut object, "metadata").insert("name".to_owned(), name.into());
        return Ok(shown(world, call, 201, &key, &object));
    }
    world.cluster_create(&key, object);
    let marks = Marks {
        mute: call.twists.mute,
        gone_image: call.twists.gone_image,
        no_room: call.twists.no_room,
        fails: call.twists.create_fails,
    };
    world.mark(&key, marks);
    let made = world.cluster.get(&key).ok_or_else(|| absent(target))?;
    Ok(shown(world, call, 201, &key, made))
}

pub(super) fn replace(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "update")?;
    check::is_of(&target, &call.body)?;
    if world.cluster.get(&target.key()).is_none() {
        return Err(absent(&target));
    }
    write(world, call, &target, call.body.clone())
}

pub(super) fn patch(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "patch")?;
    let applies = call.content_type.starts_with("application/apply-patch+yaml");
    if applies && call.query("fieldManager").unwrap_or_default().is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(status(422, "Invalid", message, None));
    }
    let Some(known) = world.cluster.get(&target.key()) else {
        return if applies {
            make(world, call, &target, call.body.clone())
        } else {
            Err(absent(&target))
        };
    };
    let mut object = known.clone();
    match call.content_type.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => patch::merge(&mut object, &call.body),
        "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => {
            patch::strategic(&mut object, &call.body);
        }
        other => {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml; it was {other}"
            );
            return Err(status(415, "UnsupportedMediaType", message, None));
        }
    }
    write(world, call, &target, object)
}

/// Puts a new version of an object in the place of the one that is there.
fn write(world: &mut World, call: &Call, target: &Target, mut object: Value) -> Answer {
    let key = target.key();
    let Some(known) = world.cluster.get(&key).cloned() else {
        return Err(absent(target));
    };
    let given = text(&object, "/metadata/resourceVersion");
    if !given.is_empty() && given != text(&known, "/metadata/resourceVersion") {
        return Err(conflict(
            target,
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    let of_object = uid(&object);
    if !of_object.is_empty() && of_object != uid(&known) {
        return Err(conflict(
            target,
            &format!(
                "Precondition failed: UID in precondition: {of_object}, UID in object meta: {}",
                uid(&known)
            ),
        ));
    }
    // What is the server's own stays.
    let metadata = map(&mut object, "metadata");
    for own in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "generation",
        "resourceVersion",
    ] {
        match known["metadata"].get(own) {
            Some(value) => metadata.insert(own.to_owned(), value.clone()),
            None => metadata.shift_remove(own),
        };
    }
    if target.kind != Kind::Node
        && let Some(of_known) = known.get("status")
    {
        object["status"] = of_known.clone();
    }
    normalise(target.kind, &mut object);
    check::object(target.kind, &key.name, &object, call.query("fieldValidation"))?;
    check::unchanged(target.kind, &key.name, &known, &object)?;
    if object.get("spec") != known.get("spec") {
        let generation = known["metadata"]["generation"].as_u64().unwrap_or(1);
        object["metadata"]["generation"] = (generation + 1).into();
    }
    if is_dry(call) {
        return Ok(shown(world, call, 200, &key, &object));
    }
    let now = world.now;
    world.cluster.edit(&key, now, |place| *place = object.clone());
    let written = world.cluster.get(&key).cloned().unwrap_or(object);
    world.was_changed(&key);
    Ok(shown(world, call, 200, &key, &written))
}

fn conflict(target: &Target, why: &str) -> Reply {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{}\": {why}",
        target.resource().full(),
        target.name
    );
    status(409, "Conflict", message, Some(about(target, &target.name)))
}

/// What becomes of what the object owns. The pods of a Job are left behind unless one says otherwise: so it was in the beginning.
fn policy(call: &Call, kind: Kind) -> Result<(Policy, bool), Reply> {
    let given = call
        .text("propagationPolicy")
        .or_else(|| call.query("propagationPolicy"));
    Ok(match given {
        Some("Background") => (Policy::Background, false),
        Some("Foreground") => (Policy::Foreground, false),
        Some("Orphan") => (Policy::Orphan, false),
        Some(other) => {
            let message = format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"{other}\": must be Foreground, Background or Orphan"
            );
            return Err(status(422, "Invalid", message, None));
        }
        None if kind == Kind::Job => (Policy::Orphan, true),
        None => (Policy::Background, false),
    })
}

fn grace(call: &Call) -> Option<u64> {
    let of_body = call.body.get("gracePeriodSeconds").and_then(Value::as_u64);
    of_body.or_else(|| call.number("gracePeriodSeconds"))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "delete")?;
    let key = target.key();
    let known = world.cluster.get(&key).cloned().ok_or_else(|| absent(&target))?;
    for (field, word, has) in [
        ("uid", "UID", uid(&known)),
        (
            "resourceVersion",
            "ResourceVersion",
            text(&known, "/metadata/resourceVersion"),
        ),
    ] {
        let wanted = call.body["preconditions"].get(field).and_then(Value::as_str);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != has) {
            return Err(conflict(
                &target,
                &format!(
                    "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {has}"
                ),
            ));
        }
    }
    let (policy, warns) = policy(call, target.kind)?;
    if !is_dry(call) {
        world.cluster_delete(&key, policy, grace(call));
    }
    let reply = if let Some(leaving) = world.cluster.get(&key).filter(|object| is_leaving(object)) {
        shown(world, call, 200, &key, leaving)
    } else {
        let mut details = about(&target, &key.name);
        details["uid"] = uid(&known).into();
        Reply::json(
            200,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
        )
    };
    Ok(if warns {
        reply.header("Warning", ORPHANS)
    } else {
        reply
    })
}

pub(super) fn delete_all(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "deletecollection")?;
    let filter = Filter::of(&target, call)?;
    let (policy, warns) = policy(call, target.kind)?;
    let meant: Vec<(Key, Value)> = world
        .cluster
        .of(target.kind)
        .filter(|(key, object)| filter.fits(key, object))
        .map(|(key, object)| (key.clone(), Value::clone(object)))
        .collect();
    if !is_dry(call) {
        for (key, _) in &meant {
            world.cluster_delete(key, policy, grace(call));
        }
    }
    let resource = target.resource();
    let reply = Reply::json(
        200,
        &json!({
            "kind": format!("{}List", resource.name), "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": world.cluster.revision.to_string()},
            "items": meant.into_iter().map(|(_, object)| object).collect::<Vec<_>>(),
        }),
    );
    Ok(if warns {
        reply.header("Warning", ORPHANS)
    } else {
        reply
    })
}
