//! A watch: what happens to objects of a kind, as lines of JSON while it happens.

use serde_json::{Value, json};

use super::{
    super::world::{World, cluster::Kind},
    list::{Filter, Shape},
    table,
};

/// Where a watch stands.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(super) kind: Kind,
    pub(super) filter: Filter,
    pub(super) shape: Shape,
    /// What is told next came after this.
    pub(super) revision: u64,
    /// The objects that are there are told first.
    pub(super) from_now: bool,
    /// Wall seconds that it lasts.
    pub(crate) seconds: u64,
    /// The columns of a table are told once.
    pub(super) told: bool,
    pub(crate) over: bool,
}

/// The lines since the last poll; empty when nothing happened.
pub(crate) fn poll(world: &World, watch: &mut Watch) -> Vec<u8> {
    let mut lines = Vec::new();
    if std::mem::take(&mut watch.from_now) {
        for (key, object) in world.cluster.of(watch.kind) {
            if watch.filter.fits(key, object) {
                line(watch, "ADDED", object, world, &mut lines);
            }
        }
        watch.revision = world.cluster.revision;
    }
    let Some(changes) = world.cluster.since(watch.revision) else {
        watch.over = true;
        let gone = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
            "message": format!("too old resource version: {} ({})", watch.revision, world.cluster.revision),
        });
        write(&mut lines, &json!({"type": "ERROR", "object": gone}));
        return lines;
    };
    let mut told = Vec::new();
    for change in changes {
        if change.key.kind != watch.kind {
            continue;
        }
        let before = change
            .before
            .as_ref()
            .filter(|object| watch.filter.fits(&change.key, object));
        let after = change
            .after
            .as_ref()
            .filter(|object| watch.filter.fits(&change.key, object));
        match (before, after) {
            (None, Some(object)) => told.push(("ADDED", object)),
            (Some(_), Some(object)) => told.push(("MODIFIED", object)),
            (Some(object), None) => told.push(("DELETED", object)),
            (None, None) => {}
        }
    }
    for (event, object) in told {
        line(watch, event, object, world, &mut lines);
    }
    watch.revision = world.cluster.revision;
    lines
}

fn line(watch: &mut Watch, event: &str, object: &Value, world: &World, lines: &mut Vec<u8>) {
    let mut shown = match watch.shape {
        Shape::Whole => object.clone(),
        Shape::Metadata => table::metadata(object),
        Shape::Table => table::table(watch.kind, [object], world.now),
    };
    if watch.shape == Shape::Table && std::mem::replace(&mut watch.told, true) {
        shown["columnDefinitions"] = Value::Null;
    }
    write(lines, &json!({"type": event, "object": shown}));
}

fn write(lines: &mut Vec<u8>, event: &Value) {
    lines.extend(event.to_string().into_bytes());
    lines.push(b'\n');
}
