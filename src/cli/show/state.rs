//! What the verbs of `state` print: records, what changed between two states, and, by [`history()`], the states
//! that are kept.

mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    FORMAT_VERSION, Paint, counted, hourly,
    table::{Cell, Table},
};
use crate::{
    model::{
        ids::{Address, Serial},
        resource::{ResourceRef, ResourceSpec},
        state::{Phase, Record, State},
    },
    stack::{Stack, StackPath},
};

pub use self::history::{DecisionView, HistoryDocument, KeptState, history, history_text};

/// What `state list --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateListDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether this is all.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The state's serial.
    pub serial: u64,
    /// In order of address.
    pub resources: Vec<ListedResource>,
    /// Taken off the record with `state rm`, and left alone.
    pub released: Vec<TargetView>,
}

/// One record, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ListedResource {
    /// `machine.linux/brave-otter`
    pub address: String,
    /// Its kind: `machine`.
    pub kind: String,
    /// Its pool; null for a shared resource.
    pub pool: Option<String>,
    /// The provider's key in the stack file.
    pub provider: String,
    /// The cloud's id of it.
    pub id: String,
    /// Its name in the cloud.
    pub name: String,
}

/// A resource of a cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TargetView {
    /// The provider's key in the stack file.
    pub provider: String,
    /// Its kind: `machine`.
    pub kind: String,
    /// The cloud's id of it.
    pub id: String,
}

/// What `state show --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether this is all.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The state's serial.
    pub serial: u64,
    /// Where it is on record.
    pub address: String,
    /// All of it, as in the state file.
    pub record: Record,
}

/// What `state mv`, `rm`, `push` and `rollback` print with `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateChangeDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether all was done.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The serial of the state that is current now.
    pub serial: u64,
    /// What is different on record now.
    pub changes: Vec<StateChange>,
}

/// One record that came, went, moved or says something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateChange {
    /// `added`, `removed`, `moved`, `changed`, or `released`.
    pub what: String,
    /// Where it is, or was.
    pub address: String,
    /// Where it was, for one that moved.
    pub from: Option<String>,
}

impl StateChange {
    fn new(what: &str, address: &Address, from: Option<&Address>) -> Self {
        Self {
            what: what.to_owned(),
            address: address.to_string(),
            from: from.map(ToString::to_string),
        }
    }

    /// `+machine.linux/brave-otter`
    fn word(&self) -> String {
        match (self.what.as_str(), &self.from) {
            ("added", _) => format!("+{}", self.address),
            ("moved", Some(from)) => format!("{from} -> {}", self.address),
            ("changed", _) => format!("~{}", self.address),
            _ => format!("-{}", self.address),
        }
    }
}

/// `1 entry`, `2 entries`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// As it is written in the stack file: `pools.linux`, `firewalls.default`.
pub(crate) fn path(path: &StackPath) -> String {
    path.to_string()
}

/// The document of what is on record.
pub fn list(state: &State, fits: impl Fn(&Address) -> bool) -> StateListDocument {
    let fitting = state.resources.iter().filter(|(address, _)| fits(address));
    StateListDocument {
        format_version: FORMAT_VERSION.into(),
        complete: true,
        stack: state.stack.to_string(),
        serial: state.serial.0,
        resources: fitting
            .map(|(address, record)| ListedResource {
                address: address.to_string(),
                kind: address.kind.to_string(),
                pool: address.pool.as_ref().map(ToString::to_string),
                provider: record.provider.to_string(),
                id: record.id.to_string(),
                name: record.name.clone(),
            })
            .collect(),
        released: state.released.iter().map(target).collect(),
    }
}

fn target(target: &ResourceRef) -> TargetView {
    TargetView {
        provider: target.provider.to_string(),
        kind: target.kind.to_string(),
        id: target.id.to_string(),
    }
}

/// One address per line, for a shell.
pub fn list_text(document: &StateListDocument) -> String {
    let mut text = String::new();
    for resource in &document.resources {
        let _ = writeln!(text, "{}", resource.address);
    }
    text
}

/// The document of one record.
pub fn record(state: &State, address: &Address, record: &Record) -> RecordDocument {
    RecordDocument {
        format_version: FORMAT_VERSION.into(),
        complete: true,
        stack: state.stack.to_string(),
        serial: state.serial.0,
        address: address.to_string(),
        record: record.clone(),
    }
}

/// One record as a person reads it.
pub fn record_text(address: &Address, record: &Record, paint: Paint) -> String {
    let (bold, dim) = (paint.bold(), paint.dim());
    let mut text = format!("{bold}{address}{bold:#}\n");
    let mut table = Table::<2>::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([Cell::styled(name, dim), value.into()]);
        }
    };
    row("name", record.name.clone());
    row("id", format!("{} {}", record.provider, record.id));
    row(
        "created",
        record.created_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    );
    if let Some(price) = &record.price {
        row("price", hourly(&price.hourly));
    }
    if let (Some(ci), Some(registration)) = (&record.ci, &record.registration) {
        row("runner", format!("{ci} {registration}"));
    }
    match &record.phase {
        Phase::Live => {}
        Phase::Cordoned { since, why } => {
            row(
                "cordoned",
                format!("since {}: {why}", since.strftime("%Y-%m-%d %H:%M:%SZ")),
            );
        }
    }
    spec(&record.spec, &mut row);
    row("made by", format!("attempt {}", record.intent));
    row("from", format!("hash {}", record.hash));
    table.write(&mut text, "  ");
    text
}

fn spec(spec: &ResourceSpec, row: &mut impl FnMut(&str, String)) {
    match spec {
        ResourceSpec::Machine(machine) => {
            row("offering", machine.offering.to_string());
            row("image", machine.image.to_string());
            row(
                "public ipv4",
                if machine.public_ipv4 { "yes" } else { "no" }.to_owned(),
            );
            row("ssh keys", machine.ssh_keys.join(", "));
            row("firewalls", machine.firewalls.join(", "));
            row("networks", machine.networks.join(", "));
            row("group", machine.placement_group.clone().unwrap_or_default());
        }
        ResourceSpec::SshKey(key) => row("public key", key.public_key.clone()),
        other => {
            // The other kinds say all that they are in the words of a plan.
            let fields = crate::model::kind::describe(other.kind()).fields;
            for field in fields {
                let items = match (field.wanted)(other) {
                    Some(serde_json::Value::Array(items)) => items,
                    Some(value) => vec![value],
                    None => continue,
                };
                for item in items {
                    let words = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                    row(field.name, words);
                }
            }
        }
    }
}

/// What differs between two states' records; against nothing, all of it came.
pub fn changes(before: Option<&State>, after: &State) -> Vec<StateChange> {
    let empty = BTreeMap::new();
    let old = before.map_or(&empty, |state| &state.resources);
    let places: BTreeMap<ResourceRef, &Address> = old
        .iter()
        .map(|(address, record)| (record.target(), address))
        .collect();
    let mut changes = Vec::new();
    let mut left = BTreeSet::new();
    for (address, record) in &after.resources {
        match (old.get(address), places.get(&record.target())) {
            (Some(same), _) if same == record => {}
            (_, Some(from)) if *from != address => {
                left.insert(*from);
                changes.push(StateChange::new("moved", address, Some(from)));
            }
            (Some(_), _) => changes.push(StateChange::new("changed", address, None)),
            (None, _) => changes.push(StateChange::new("added", address, None)),
        }
    }
    for address in old.keys() {
        if !after.resources.contains_key(address) && !left.contains(address) {
            changes.push(StateChange::new("removed", address, None));
        }
    }
    changes
}

/// The document of a move.
pub(crate) fn moved(
    stack: &Stack,
    serial: Serial,
    moves: &BTreeMap<Address, Address>,
) -> StateChangeDocument {
    let changes = moves.iter().map(|(new, old)| {
        if new == old {
            StateChange::new("changed", new, None)
        } else {
            StateChange::new("moved", new, Some(old))
        }
    });
    changed(stack, serial, changes.collect())
}

/// A move as a person reads it.
pub(crate) fn moved_text(document: &StateChangeDocument) -> String {
    let mut text = String::new();
    for change in document.changes.iter().filter(|change| change.what == "moved") {
        let _ = writeln!(text, "{}", change.word());
    }
    let also = document
        .changes
        .iter()
        .filter(|change| change.what == "changed")
        .count();
    if also > 0 {
        let _ = writeln!(text, "{} that names it", count(also, "record", "records"));
    }
    let _ = writeln!(
        text,
        "\nDone (serial {}). Nothing is made anew; the labels in the cloud follow with the next tick.",
        document.serial
    );
    text
}

/// The document of a removal from the record.
pub(crate) fn removed(stack: &Stack, serial: Serial, removed: &[(Address, Record)]) -> StateChangeDocument {
    let changes = removed
        .iter()
        .map(|(address, _)| StateChange::new("released", address, None));
    changed(stack, serial, changes.collect())
}

/// What will be taken off the record, and what that means.
pub(crate) fn removal_text(removed: &[(Address, Record)]) -> String {
    let mut text = "Off the record:\n".to_owned();
    let mut table = Table::<3>::new();
    for (address, record) in removed {
        table.row([
            address.to_string().into(),
            record.target().to_string().into(),
            Cell::right(
                record
                    .price
                    .as_ref()
                    .map(|price| hourly(&price.hourly))
                    .unwrap_or_default(),
            ),
        ]);
    }
    table.write(&mut text, "  ");
    text.push_str(
        "\nIt stays in the cloud, and is paid for. From now on runfleet leaves it alone: it is neither counted nor\n\
         deleted, and is shown as released. Its labels stay. What is registered with a CI goes on taking jobs.\n",
    );
    if removed
        .iter()
        .any(|(_, record)| matches!(record.phase, Phase::Cordoned { .. }))
    {
        text.push_str("What is cordoned stays so until someone lifts that at the CI.\n");
    }
    text
}

/// The document of a state that was put in the place of another.
pub(crate) fn replaced(stack: &Stack, serial: Serial, changes: &[StateChange]) -> StateChangeDocument {
    changed(stack, serial, changes.to_vec())
}

fn changed(stack: &Stack, serial: Serial, changes: Vec<StateChange>) -> StateChangeDocument {
    StateChangeDocument {
        format_version: FORMAT_VERSION.into(),
        complete: true,
        stack: stack.name.to_string(),
        serial: serial.0,
        changes,
    }
}

/// What a rollback would do.
pub(crate) fn rollback_text(earlier: &State, changes: &[StateChange]) -> String {
    let mut text = format!("Serial {}", earlier.serial);
    if let Some(written) = &earlier.written {
        let _ = write!(
            text,
            ", written by {} of {} at {}",
            written.operation,
            written.by,
            written.at.strftime("%Y-%m-%d %H:%M:%SZ")
        );
    }
    let _ = writeln!(text, ", becomes current again. On record then:\n");
    for change in changes {
        let _ = writeln!(text, "  {}", change.word());
    }
    if changes.is_empty() {
        text.push_str("  the same resources\n");
    }
    text.push_str(
        "\nThe clouds are not touched. The next plan shows the difference: what comes back on record and is not there is\n\
         dropped again, and what leaves the record and is there is an orphan, which later ticks delete once it is idle.\n",
    );
    text
}

/// What became of a push or a rollback.
pub(crate) fn replaced_text(serial: Serial, state: &State, changes: &[StateChange], done: &str) -> String {
    format!(
        "\nDone: {} on record, {} different (serial {serial}, {done}). The clouds are as they were; see the plan:\n  runfleet \
         -s {} plan\n",
        counted(state.resources.len(), "resource"),
        changes.len(),
        state.stack
    )
}

#[cfg(test)]
mod tests;
