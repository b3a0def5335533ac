//! Objects of a kind: listed page by page as they were at one moment, watched, and read one by one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    super::{
        api::{Answer, Call, Reply},
        selector::Selector,
        world::{
            World,
            cluster::{Key, Kind, labels},
        },
    },
    Target, absent, bad_request, server_error, table, target,
    watch::Watch,
};

/// A watch ends by itself after so many seconds of the wall's, as the API server's do after half an hour or more.
const WATCHED: u64 = 1800;

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    /// As rows, for kubectl.
    Table,
    Metadata,
}

impl Shape {
    pub(super) fn of(call: &Call) -> Self {
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
    pub(super) fn of(target: &Target, call: &Call) -> Result<Self, Reply> {
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
    if let Some((_, code)) = call.twists.partial {
        return Err(server_error(code));
    }
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
pub(super) fn shown(world: &World, call: &Call, code: u16, key: &Key, object: &Value) -> Reply {
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
