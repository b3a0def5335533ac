//! What `state history` prints: the states that are kept, what each changed, and what past ticks decided.
//!
//! # Contract
//! - Newest first, states and decisions alike.
//! - What a state changed is told only where the one before it is kept too, or where it is the first.
//! - A person is shown the last decisions and names of a few changes; JSON has them all.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        FORMAT_VERSION, Paint, counted,
        table::{Cell, Table},
    },
    StateChange, changes,
};
use crate::{
    model::{
        ids::Serial,
        state::{History, State},
    },
    stack::Stack,
};

/// How many changes a line of `state history` names before it counts the rest.
const NAMED: usize = 3;
/// How many past decisions a person is shown; JSON has them all.
const DECISIONS: usize = 10;

/// What `state history --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HistoryDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether the current state could be read.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// Newest first.
    pub states: Vec<KeptState>,
    /// What past ticks decided, newest first.
    pub decisions: Vec<DecisionView>,
}

/// A state that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeptState {
    /// Its serial.
    pub serial: u64,
    /// Whether it is the current one.
    pub current: bool,
    /// Whose.
    pub lineage: String,
    /// When it was written; null before format version 2.
    pub at: Option<String>,
    /// By whom: `user@host`.
    pub by: Option<String>,
    /// The verb that wrote it.
    pub operation: Option<String>,
    /// The version of runfleet that wrote it.
    pub version: Option<String>,
    /// How many resources are on record.
    pub resources: usize,
    /// What it changed against the one before it; null where that is not kept.
    pub changes: Option<Vec<StateChange>>,
}

/// What a tick decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DecisionView {
    /// When.
    pub at: String,
    /// A line for each pool, action and refusal.
    pub lines: Vec<String>,
}

/// The document of the states that are kept; `states` newest first.
pub fn history(
    stack: &Stack,
    states: &[State],
    current: Option<Serial>,
    history: &History,
    complete: bool,
) -> HistoryDocument {
    let kept = states.iter().enumerate().map(|(at, state)| {
        let before = states.get(at + 1);
        let follows = before.is_some_and(|before| before.serial.next() == state.serial);
        let written = state.written.as_ref();
        KeptState {
            serial: state.serial.0,
            current: Some(state.serial) == current,
            lineage: state.lineage.to_string(),
            at: written.map(|written| written.at.to_string()),
            by: written.map(|written| written.by.clone()),
            operation: written.map(|written| written.operation.clone()),
            version: written.map(|written| written.version.clone()),
            resources: state.resources.len(),
            changes: (follows || state.serial == Serial(1)).then(|| changes(before, state)),
        }
    });
    HistoryDocument {
        format_version: FORMAT_VERSION.into(),
        complete,
        stack: stack.name.to_string(),
        states: kept.collect(),
        decisions: history
            .decisions
            .iter()
            .rev()
            .map(|decision| DecisionView {
                at: decision.at.to_string(),
                lines: decision.lines.clone(),
            })
            .collect(),
    }
}

/// The same as a person reads it.
pub fn history_text(document: &HistoryDocument, paint: Paint) -> String {
    let (bold, dim) = (paint.bold(), paint.dim());
    let mut text = format!(
        "{bold}Stack {}{bold:#}: {} kept\n",
        document.stack,
        counted(document.states.len(), "state")
    );
    let mut table = Table::<7>::new();
    let titles = [
        "SERIAL",
        "WHEN",
        "WHO",
        "VERB",
        "RUNFLEET",
        "RESOURCES",
        "CHANGED",
    ];
    table.row(titles.map(|title| Cell::styled(title, dim)));
    for state in &document.states {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        let mark = if state.current { " *" } else { "" };
        table.row([
            format!("{}{mark}", state.serial).into(),
            state.at.as_deref().map_or_else(|| "?".to_owned(), minute).into(),
            or_unknown(&state.by).into(),
            or_unknown(&state.operation).into(),
            or_unknown(&state.version).into(),
            Cell::right(state.resources.to_string()),
            state.changes.as_deref().map_or_else(String::new, words).into(),
        ]);
    }
    if document.states.is_empty() {
        text.push_str("  none yet\n");
    } else {
        table.write(&mut text, "  ");
        text.push_str("  * current. An earlier one is made current again with: state rollback SERIAL\n");
    }
    if !document.decisions.is_empty() {
        let _ = writeln!(text, "\n{bold}Decisions{bold:#}, newest first");
        for decision in document.decisions.iter().take(DECISIONS) {
            let mut lines = decision.lines.iter();
            let first = lines.next().map_or("nothing", String::as_str);
            let _ = writeln!(text, "  {dim}{}{dim:#}  {first}", minute(&decision.at));
            for line in lines {
                let _ = writeln!(text, "                        {line}");
            }
        }
        if document.decisions.len() > DECISIONS {
            let _ = writeln!(
                text,
                "  and {} earlier, in --json",
                document.decisions.len() - DECISIONS
            );
        }
    }
    text
}

/// To the second, without what nobody reads.
fn minute(at: &str) -> String {
    at.parse::<jiff::Timestamp>().map_or_else(
        |_| at.to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

fn words(changes: &[StateChange]) -> String {
    let mut words: Vec<String> = changes.iter().take(NAMED).map(StateChange::word).collect();
    if changes.len() > NAMED {
        words.push(format!("and {} more", changes.len() - NAMED));
    }
    words.join(", ")
}
