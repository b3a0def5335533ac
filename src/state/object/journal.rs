//! The journal in a bucket: one object per batch of entries, named by the epoch of the lock and a number.
//!
//! `NAME.journal/0000000007-00000042` is the 43rd batch that the seventh holder of the lock wrote. Each object is a
//! journal file of its own (`journal_file`), whose first line also says who wrote it and, by epoch, up to which batch
//! its writer had read what others wrote before (`seen`).
//!
//! Which batches count, given the serial of the state:
//!
//! 1. Those that extend this serial. What extends an older one was folded into the state already.
//! 2. Of the newest epoch all; of an older epoch those that the newest one had seen. What a holder wrote after it had
//!    lost the lock was seen by nobody, and what it announces was decided on anew: it is passed over.
//! 3. Within an epoch the numbers follow each other.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        ids::{Lineage, Serial, StackName},
        intent::Entry,
    },
    state::{
        StateError,
        journal_file::{self, Header},
        remote::unwritable,
    },
};

/// Which holding of the lock, and which of its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) epoch: u64,
    pub(super) number: u64,
}

impl Name {
    pub(super) fn at(self, folder: &Path) -> Path {
        folder
            .clone()
            .join(format!("{:010}-{:08}", self.epoch, self.number))
    }

    /// None for what is not ours.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let (epoch, number) = path.filename()?.split_once('-')?;
        Some(Self {
            epoch: epoch.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// By epoch, the last batch that was read.
pub(super) type Seen = BTreeMap<u64, u64>;

/// The first line of a batch.
#[derive(Serialize)]
struct FirstLine<'a> {
    #[serde(flatten)]
    header: Header,
    writer: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    seen: &'a Seen,
}

/// What is read of the first line besides the header.
#[derive(Debug, Deserialize)]
struct Marks {
    writer: String,
    #[serde(default)]
    seen: Seen,
}

#[derive(Deserialize)]
struct Marked {
    journal: Marks,
}

/// What a batch extends, who writes it, and what its writer had read.
pub(super) struct Origin<'a> {
    pub(super) stack: &'a StackName,
    pub(super) lineage: Option<&'a Lineage>,
    pub(super) base: Serial,
    pub(super) writer: &'a str,
    pub(super) seen: &'a Seen,
}

impl Origin<'_> {
    /// The text of a batch.
    pub(super) fn write<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
        place: &str,
    ) -> Result<Vec<u8>, StateError> {
        let first = FirstLine {
            header: Header::new(self.stack.clone(), self.lineage.cloned(), self.base),
            writer: self.writer,
            seen: self.seen,
        };
        let wrong = |error| unwritable(place, &error);
        let mut text = journal_file::line("journal", &first).map_err(wrong)?.into_bytes();
        for entry in entries {
            text.extend(journal_file::lines(std::slice::from_ref(entry)).map_err(wrong)?);
        }
        Ok(text)
    }
}

/// A batch as it was read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) name: Name,
    pub(super) header: Header,
    pub(super) writer: String,
    seen: Seen,
    entries: Vec<Entry>,
}

impl Batch {
    pub(super) fn read(name: Name, bytes: &[u8], place: &str) -> Result<Self, StateError> {
        let corrupt = |why: &str| StateError::Corrupt {
            place: place.to_owned(),
            why: why.to_owned(),
        };
        let scan = journal_file::scan(bytes, place)?;
        // An object is there whole or not at all, so nothing that a crash does tears one.
        if scan.torn > 0 {
            return Err(corrupt("its last line is torn"));
        }
        let header = scan.header.ok_or_else(|| corrupt("it is empty"))?;
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let marked: Result<Marked, _> = serde_json::from_slice(first);
        let Marked { journal } = marked.map_err(|error| corrupt(&format!("line 1: {error}")))?;
        Ok(Self {
            name,
            header,
            writer: journal.writer,
            seen: journal.seen,
            entries: scan.entries,
        })
    }
}

/// The entries that count, oldest first; up to where they were read; and which batches were passed over.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub(super) entries: Vec<Entry>,
    pub(super) seen: Seen,
    pub(super) passed_over: Vec<Name>,
}

/// Of batches that all extend one serial, those that count.
pub(super) fn select(mut batches: Vec<Batch>, place: &str) -> Result<Selected, StateError> {
    batches.sort_by_key(|batch| batch.name);
    let mut selected = Selected::default();
    let Some(newest) = batches.last().map(|batch| batch.name.epoch) else {
        return Ok(selected);
    };
    let known: Seen = batches
        .iter()
        .find(|batch| batch.name.epoch == newest)
        .map(|batch| batch.seen.clone())
        .unwrap_or_default();
    for batch in batches {
        let Name { epoch, number } = batch.name;
        if epoch != newest && known.get(&epoch).is_none_or(|last| number > *last) {
            selected.passed_over.push(batch.name);
            continue;
        }
        if let Some(last) = selected.seen.insert(epoch, number)
            && number != last + 1
        {
            return Err(StateError::Corrupt {
                place: place.to_owned(),
                why: format!(
                    "batch {number} of epoch {epoch} follows batch {last}: what was between is missing"
                ),
            });
        }
        selected.entries.extend(batch.entries);
    }
    Ok(selected)
}
