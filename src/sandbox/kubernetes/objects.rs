//! Objects of any kind: read, listed page by page, created, replaced, changed and deleted.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    super::{
        api::{Answer, Call, Reply},
        selector::Selector,
        world::{
            World,
            cluster::{Key, Kind, Marks, Policy, is_leaving, labels, map, normalise, text, uid},
        },
    },
    Target, about, absent, bad_request, check, patch, status, table, target,
    watch::Watch,
};

/// A watch ends by itself after so many seconds of the wall's, as the API server's do after half an hour or more.
const WATCHED: u64 = 1800;
/// What the API server warns of when it leaves pods behind.
const ORPHANS: &str = "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
    set propagationPolicy=Orphan to suppress this warning\"";

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    /// As rows, for kubectl.
    Table,
    Metadata,
}

impl Shape {
    fn of(call: &Call) -> Self {
        if call.accept.contains("as=Table") {
            Self::Table
        } else if call.accept.contains("as=PartialObjectMetadata") {
            Self::Metadata
        } else {
            Self::Whole
        }
    }
}

/// Which objects of a kind are meant.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    namespace: String,
    labels: Selector,
    /// Field, whether it is to be this, and what.
    fields: Vec<(String, bool, String)>,
}

impl Filter {
    fn of(target: &Target, call: &Call) -> Result<Self, Reply> {
        let text = call.query("labelSelector").unwrap_or_default();
        let labels = Selector::parse(text).ok_or_else(|| {
            bad_request(format!(
                "unable to parse requirement: {text:?} is no label selector"
            ))
        })?;
        let mut fields = Vec::new();
        let selector = call.query("fieldSelector").unwrap_or_default();
        for term in selector.split(',').filter(|term| !term.is_empty()) {
            let split = term.split_once("!=").map(|pair| (pair, false)).or_else(|| {
                term.split_once("==")
                    .or_else(|| term.split_once('='))
                    .map(|pair| (pair, true))
            });
            let Some(((field, value), is)) = split else {
                return Err(bad_request(format!("invalid field selector: {term}")));
            };
            if !known_field(target.kind, field) {
                return Err(bad_request(format!("field label not supported: {field}")));
            }
            fields.push((field.to_owned(), is, value.to_owned()));
        }
        Ok(Self {
            namespace: target.namespace.clone(),
            labels,
            fields,
        })
    }

    pub(super) fn fits(&self, key: &Key, object: &Value) -> bool {
        (self.namespace.is_empty() || self.namespace == key.namespace)
            && (self.labels.terms.is_empty() || self.labels.matches(&labels(object)))
            && self.fields.iter().all(|(field, is, value)| {
                let pointer = format!("/{}", field.replace('.', "/"));
                let has = match object.pointer(&pointer) {
                    Some(Value::Number(number)) => number.to_string(),
                    Some(Value::String(text)) => text.clone(),
                    _ => String::new(),
                };
                (has == *value) == *is
            })
    }
}

fn known_field(kind: Kind, field: &str) -> bool {
    match field {
        "metadata.name" | "metadata.namespace" => true,
        "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "status.phase"
        | "status.podIP" => kind == Kind::Pod || (field == "status.phase" && kind == Kind::Namespace),
        "status.successful" => kind == Kind::Job,
        "type" => matches!(kind, Kind::Secret | Kind::Event),
        "spec.unschedulable" => kind == Kind::Node,
        "reason" | "source" => kind == Kind::Event,
        _ => kind == Kind::Event && field.starts_with("involvedObject."),
    }
}

/// Where a list goes on: the revision that it shows, and the last that was shown.
fn token(revision: u64, after: &Key) -> String {
    let text = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("{}/{}", after.namespace, after.name)});
    URL_SAFE_NO_PAD.encode(text.to_string())
}

fn read_token(kind: Kind, given: &str) -> Option<(u64, Key)> {
    let text = URL_SAFE_NO_PAD.decode(given).ok()?;
    let value: Value = serde_json::from_slice(&text).ok()?;
    let (namespace, name) = value["start"].as_str()?.split_once('/')?;
    Some((value["rv"].as_u64()?, Key::new(kind, namespace, name)))
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    if matches!(call.query("watch"), Some("true" | "1")) {
        return watch(world, call);
    }
    let target = target(world, call, "list")?;
    let filter = Filter::of(&target, call)?;
    let cluster = &world.cluster;
    let given = call.query("continue").filter(|token| !token.is_empty());
    let (revision, after) = match given.map(|token| read_token(target.kind, token)) {
        Some(None) => return Err(bad_request("continue key is not valid")),
        // The rest of a list that cannot be told as it was, is told as it is.
        Some(Some((0, after))) => (cluster.revision, Some(after)),
        Some(Some((revision, after))) => (revision, Some(after)),
        None => {
            let then = call.twists.as_of(world.now);
            (
                then.map_or(cluster.revision, |then| cluster.revision_at(then)),
                None,
            )
        }
    };
    let Some(all) = cluster.at(target.kind, revision) else {
        return Err(expired(after.as_ref()));
    };
    let mut fitting = all
        .into_iter()
        .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
        .filter(|(key, object)| filter.fits(key, object));
    let limit = call.number("limit").filter(|limit| *limit > 0);
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let page: Vec<_> = fitting.by_ref().take(limit).collect();
    let left = fitting.count();
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some((last, _)) = page.last().filter(|_| left > 0 || call.twists.endless) {
        metadata["continue"] = token(revision, last).into();
        if filter.labels.terms.is_empty() && filter.fields.is_empty() {
            metadata["remainingItemCount"] = (left as u64 + call.twists.more_in_total).into();
        }
    } else if let Some(after) = after.filter(|_| call.twists.endless) {
        metadata["continue"] = token(revision, &after).into();
    }
    let items = page.into_iter().map(|(_, object)| &**object);
    let resource = target.resource();
    Ok(Reply::json(
        200,
        &match Shape::of(call) {
            Shape::Whole => json!({
                "kind": format!("{}List", resource.name), "apiVersion": resource.api_version(), "metadata": metadata,
                "items": items.collect::<Vec<_>>(),
            }),
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items.map(table::metadata).collect::<Vec<_>>(),
            }),
            Shape::Table => {
                let mut shown = table::table(target.kind, items, world.now);
                shown["metadata"] = metadata;
                shown
            }
        },
    ))
}

/// The rest of a list is no longer known.
fn expired(after: Option<&Key>) -> Reply {
    let mut reply = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
            continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the \
            provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first \
            chunk was returned and now may show up in the list.",
    });
    if let Some(after) = after {
        reply["metadata"]["continue"] = token(0, after).into();
    }
    Reply::json(410, &reply)
}

fn watch(world: &World, call: &Call) -> Answer {
    let target = target(world, call, "watch")?;
    let given = call.query("resourceVersion").unwrap_or_default();
    let revision: u64 = match given {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| bad_request(format!("Invalid value: {text:?}")))?,
    };
    let mut reply = Reply::empty(200).header("Content-Type", "application/json");
    reply.watch = Some(Box::new(Watch {
        kind: target.kind,
        filter: Filter::of(&target, call)?,
        shape: Shape::of(call),
        revision,
        from_now: revision == 0,
        seconds: call.number("timeoutSeconds").unwrap_or(WATCHED).min(WATCHED),
        told: false,
        over: false,
    }));
    Ok(reply)
}

/// An object as it is asked for.
fn shown(world: &World, call: &Call, code: u16, key: &Key, object: &Value) -> Reply {
    match Shape::of(call) {
        Shape::Table => Reply::json(code, &table::table(key.kind, [object], world.now)),
        Shape::Metadata => Reply::json(code, &table::metadata(object)),
        Shape::Whole => Reply::json(code, object),
    }
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "get")?;
    let key = target.key();
    let found = world.cluster.get(&key).ok_or_else(|| absent(&target))?;
    Ok(shown(world, call, 200, &key, found))
}

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
    let reply = match world.cluster.get(&key).filter(|object| is_leaving(object)) {
        Some(leaving) => shown(world, call, 200, &key, leaving),
        None => {
            let mut details = about(&target, &key.name);
            details["uid"] = uid(&known).into();
            Reply::json(
                200,
                &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
            )
        }
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
