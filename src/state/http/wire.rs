//! What goes over the wire: the lock as Terraform's HTTP backend has it, and the one document that holds everything.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::{LockInfo, StateError, remote};
use crate::model::{
    ids::{Lineage, Serial, StackName},
    intent::Entry,
    state::{History, State},
};

/// The version of the document's format that this program writes.
const VERSION: u32 = 1;

/// The longest id of a lock that GitLab takes.
const ID_MAX: usize = 255;

/// A lock, with all seven keys that GitLab wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireLock {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    info: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    path: String,
}

impl WireLock {
    /// GitLab tells whoever is refused only the id, the user and the time of the holder; the other four keys are those of
    /// the one who asks. So what the others must know, the operation and the CI job, is part of the id.
    pub(super) fn of(info: &LockInfo, stack: &StackName) -> Self {
        let long = format!("{}/{}/{}", info.id, info.operation, info.info);
        let short = format!("{}/{}/", info.id, info.operation);
        Self {
            id: if long.len() <= ID_MAX { long } else { short },
            operation: info.operation.clone(),
            info: info.info.clone(),
            who: info.who.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created: info.created.to_string(),
            path: stack.to_string(),
        }
    }

    /// Who holds it, seen by the one who asked with `ours`. What is not told is empty.
    pub(super) fn holder(&self, ours: &Self) -> LockInfo {
        let mut parts = self.id.splitn(3, '/');
        let id = parts.next().unwrap_or_default().to_owned();
        let (operation, info) = if let (Some(operation), Some(info)) = (parts.next(), parts.next()) {
            (operation.to_owned(), info.to_owned())
        } else {
            // Not ours. GitLab repeats what we said of ourselves, so what is alike tells nothing.
            let told = |theirs: &str, ours: &str| {
                let told = if theirs == ours { "" } else { theirs };
                told.to_owned()
            };
            let operation = told(&self.operation, &ours.operation);
            (
                operation.trim_start_matches("OperationType").to_lowercase(),
                told(&self.info, &ours.info),
            )
        };
        LockInfo {
            id,
            operation,
            host: self
                .who
                .split_once('@')
                .map(|(_, host)| host.to_owned())
                .unwrap_or_default(),
            who: self.who.clone(),
            boot_id: String::new(),
            pid_namespace: String::new(),
            pid: 0,
            pid_start: 0,
            created: self.created.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            info,
        }
    }
}

/// Everything that is kept of a stack.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    /// How often it was written.
    pub(super) wire: u64,
    /// Names the write that made it.
    pub(super) writer: String,
    pub(super) state: Option<State>,
    /// The journal that extends the state.
    pub(super) entries: Vec<Entry>,
    pub(super) history: History,
    /// What was wrong and could be mended.
    pub(super) mended: Vec<String>,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    version: u32,
    lineage: Lineage,
    serial: u64,
    stack: &'a StackName,
    writer: &'a str,
    state: Option<&'a State>,
    journal: OutgoingJournal<'a>,
    history: &'a History,
}

#[derive(Serialize)]
struct OutgoingJournal<'a> {
    extends: Serial,
    entries: &'a [Entry],
}

#[derive(Deserialize)]
struct Incoming {
    serial: u64,
    stack: StackName,
    writer: String,
    state: Option<Box<RawValue>>,
    journal: IncomingJournal,
    history: Box<RawValue>,
}

#[derive(Deserialize)]
struct IncomingJournal {
    extends: Serial,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
    terraform_version: Option<String>,
}

impl Document {
    /// The serial of the state; the document's own rises with every write.
    pub(super) fn serial(&self) -> Serial {
        self.state.as_ref().map_or(Serial(0), |state| state.serial)
    }

    pub(super) fn write(&self, stack: &StackName) -> Result<Vec<u8>, serde_json::Error> {
        let lineage = self.state.as_ref().map(|state| state.lineage.clone());
        serde_json::to_vec(&Outgoing {
            version: VERSION,
            lineage: lineage.unwrap_or_else(|| Lineage::from(String::new())),
            serial: self.wire,
            stack,
            writer: &self.writer,
            state: self.state.as_ref(),
            journal: OutgoingJournal {
                extends: self.serial(),
                entries: &self.entries,
            },
            history: &self.history,
        })
    }

    pub(super) fn read(bytes: &[u8], stack: &StackName, place: &str) -> Result<Self, StateError> {
        let corrupt = |why: String| StateError::Corrupt {
            place: place.to_owned(),
            why,
        };
        let wrong = |error: serde_json::Error| corrupt(error.to_string());
        let Versioned {
            version,
            terraform_version,
        } = serde_json::from_slice(bytes).map_err(wrong)?;
        if let Some(version) = terraform_version {
            return Err(corrupt(format!(
                "it is a state of Terraform {version}, not of runfleet"
            )));
        }
        if version > u64::from(VERSION) {
            return Err(StateError::Newer {
                place: place.to_owned(),
                found: version,
                known: VERSION,
            });
        }
        let incoming: Incoming = serde_json::from_slice(bytes).map_err(wrong)?;
        if incoming.stack != *stack {
            return Err(StateError::OtherStack {
                place: place.to_owned(),
                found: incoming.stack,
                expected: stack.clone(),
            });
        }
        let state = incoming
            .state
            .map(|raw| remote::parse(raw.get().as_bytes(), stack, place))
            .transpose()?;
        let serial = state.as_ref().map_or(Serial(0), |state| state.serial);
        if incoming.journal.extends != serial {
            return Err(corrupt(format!(
                "its journal extends serial {}, and its state has {serial}",
                incoming.journal.extends
            )));
        }
        let mut mended = Vec::new();
        let history = serde_json::from_str(incoming.history.get()).unwrap_or_else(|why| {
            mended.push(format!(
                "{place}: its history is unreadable ({why}); idle times and lengths are learnt anew"
            ));
            History::default()
        });
        Ok(Self {
            wire: incoming.serial,
            writer: incoming.writer,
            state,
            entries: incoming.journal.entries,
            history,
            mended,
        })
    }
}
