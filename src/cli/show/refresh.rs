//! `refresh`: what someone else changed.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    FORMAT_VERSION, Paint, counted,
    document::DiagnosticView,
    table::{Cell, Table},
};
use crate::{
    plan::{DriftFate, Plan},
    tick::Applied,
};

/// What `refresh --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RefreshDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The state's serial; after accepting, that of the state that was written.
    pub serial: u64,
    /// What someone else changed.
    pub drift: Vec<DriftedView>,
    /// The addresses whose record was made to say what is there.
    pub accepted: Vec<String>,
    /// Addresses of which that failed, with why.
    pub failed: Vec<FailedView>,
    /// What a person should be told.
    pub diagnostics: Vec<DiagnosticView>,
}

/// Something that someone else changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DriftedView {
    /// Which.
    pub address: String,
    /// What differs from the record, for a person.
    pub what: String,
    /// What becomes of it: `repaired`, `replaced` or `shown`.
    pub fate: String,
    /// The fields that differ.
    pub changes: Vec<FieldView>,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FieldView {
    /// Which.
    pub field: String,
    /// What the record says.
    pub before: Value,
    /// What is there.
    pub after: Value,
}

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailedView {
    /// Which.
    pub address: String,
    /// Why.
    pub why: String,
}

/// What failed, as JSON has it.
pub fn failed(applied: Option<&Applied>) -> Vec<FailedView> {
    let failed = applied.into_iter().flat_map(|applied| &applied.failed);
    failed
        .map(|failed| FailedView {
            address: failed.address.to_string(),
            why: failed.why.clone(),
        })
        .collect()
}

/// The document of a refresh, before or after accepting.
pub fn refresh(plan: &Plan, unread: &[DiagnosticView], applied: Option<&Applied>) -> RefreshDocument {
    let failed = failed(applied);
    let accepted = plan.actions.iter().map(|action| action.address.to_string());
    let accepted = accepted.filter(|address| !failed.iter().any(|failed| failed.address == *address));
    RefreshDocument {
        format_version: FORMAT_VERSION.into(),
        complete: plan.complete,
        stack: plan.stack.to_string(),
        serial: applied.map_or(plan.serial.0, |applied| applied.serial),
        drift: plan.drift.iter().map(drifted).collect(),
        accepted: if applied.is_some() {
            accepted.collect()
        } else {
            Vec::new()
        },
        failed,
        diagnostics: unread.to_vec(),
    }
}

fn drifted(drift: &crate::plan::Drift) -> DriftedView {
    DriftedView {
        address: drift.address.to_string(),
        what: drift.what.clone(),
        fate: match drift.fate {
            DriftFate::Repaired => "repaired",
            DriftFate::Replaced => "replaced",
            DriftFate::Shown => "shown",
        }
        .to_owned(),
        changes: drift
            .changes
            .iter()
            .map(|change| FieldView {
                field: change.field.clone(),
                before: change.before.clone(),
                after: change.after.clone(),
            })
            .collect(),
    }
}

/// The same as a person reads it.
pub fn refresh_text(plan: &Plan, unread: &[DiagnosticView], paint: Paint) -> String {
    let mut out = String::new();
    let (bold, dim) = (paint.bold(), paint.dim());
    let _ = writeln!(
        out,
        "{bold}Stack {}{bold:#} {dim}(serial {}){dim:#}: {}",
        plan.stack,
        plan.serial,
        if plan.drift.is_empty() {
            "no drift: what is there is what is on record".to_owned()
        } else {
            format!("{} by someone else", counted(plan.drift.len(), "change"))
        }
    );
    super::plan::warnings(&mut out, plan.complete, unread, paint);
    if plan.drift.is_empty() {
        return out;
    }
    out.push('\n');
    let mut table = Table::<3>::new();
    for drift in &plan.drift {
        let fate = match drift.fate {
            DriftFate::Repaired => "the next tick puts it back",
            DriftFate::Replaced => "the next ticks replace it",
            DriftFate::Shown => "only shown",
        };
        table.row([
            drift.address.to_string().into(),
            drift.what.clone().into(),
            Cell::styled(fate, dim),
        ]);
    }
    table.write(&mut out, "  ");
    out
}
