//! What has no record, in one line each: how much it is, what it costs, and what to type.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{money::Money, reason::Reason},
    plan::{Plan, Stray},
};

use super::{Paint, counted, decimal, hourly};

/// Resources without a record, together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StraysView {
    /// `orphans` (of our lineage), `foreign` (our stack's name, another lineage: nothing is created meanwhile), or
    /// `disowned` (foreign, and left alone for ever).
    pub kind: String,
    /// How many.
    pub count: usize,
    /// What an hour of them costs, where that is known; one sum per currency.
    pub hourly: Vec<SumView>,
    /// The same for a person.
    pub text: String,
    /// What to type; any one of these.
    pub commands: Vec<String>,
}

/// An amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SumView {
    /// As a decimal string.
    pub amount: String,
    /// Of what.
    pub currency: String,
}

/// Sums by currency, as JSON has them.
pub fn sums(sums: &[Money]) -> Vec<SumView> {
    let view = |money: &Money| SumView {
        amount: decimal(money.amount),
        currency: money.currency.to_string(),
    };
    sums.iter().map(view).collect()
}

/// What a plan found without a record; empty when there is nothing.
pub fn strays(plan: &Plan) -> Vec<StraysView> {
    let stack = &plan.stack;
    let (disowned, foreign): (Vec<&Stray>, Vec<&Stray>) = plan
        .foreign
        .iter()
        .partition(|stray| stray.reason == Reason::Disowned);
    let orphans: Vec<&Stray> = plan.orphans.iter().collect();
    let mut views = Vec::new();
    views.extend(view(
        "orphans",
        &orphans,
        "of our lineage without a record",
        "removed when two ticks have seen them, and nothing runs on them",
        vec![format!("runfleet -s {stack} adopt")],
    ));
    views.extend(view(
        "foreign",
        &foreign,
        "with our stack's name and another lineage",
        "nothing is created while they are there",
        commands(plan, &format!("runfleet -s {stack}")),
    ));
    views.extend(view(
        "disowned",
        &disowned,
        "of a lineage that was disowned",
        "left alone",
        Vec::new(),
    ));
    views
}

/// The ways out while something foreign is there, the likeliest first. `again` is how runfleet was called.
fn commands(plan: &Plan, again: &str) -> Vec<String> {
    let rebuild = format!("{again} state rebuild");
    let adopt = format!("{again} adopt");
    let new = format!("{again} init --new-lineage");
    if is_lost(plan) {
        vec![rebuild, adopt, new]
    } else {
        vec![adopt, new]
    }
}

/// Whether nothing is on record: the state was lost, or never was here.
fn is_lost(plan: &Plan) -> bool {
    plan.kept.is_empty() && plan.actions.iter().all(|action| action.before.is_none())
}

/// What to type while something foreign is there, for a person.
pub(super) fn ways_out(plan: &Plan, again: &str) -> String {
    let mut text = String::from("  While they are there nothing is created. Type one of:\n");
    let commands = commands(plan, again);
    let width = commands.iter().map(String::len).max().unwrap_or_default();
    for command in commands {
        let meaning = match command.rsplit(' ').next() {
            Some("rebuild") => "the state was lost, and there is no copy: make it again from their labels",
            Some("adopt") => "they are ours: take them on record here",
            _ => "they are someone else's, another checkout's perhaps: leave them alone for ever",
        };
        let _ = writeln!(text, "    {command:<width$}  {meaning}");
    }
    text
}

fn view(kind: &str, strays: &[&Stray], what: &str, fate: &str, commands: Vec<String>) -> Option<StraysView> {
    if strays.is_empty() {
        return None;
    }
    let mut hours: Vec<Money> = Vec::new();
    for price in strays.iter().filter_map(|stray| stray.price.as_ref()) {
        crate::plan::rebuild::add(&mut hours, price);
    }
    let cost: Vec<String> = hours.iter().map(hourly).collect();
    let cost = if cost.is_empty() {
        String::new()
    } else {
        format!(", {}", cost.join(" + "))
    };
    Some(StraysView {
        kind: kind.to_owned(),
        count: strays.len(),
        hourly: sums(&hours),
        text: format!("{} {what}{cost}: {fate}", counted(strays.len(), "resource")),
        commands,
    })
}

/// One line for each, and what to type.
pub fn write(out: &mut String, strays: &[StraysView], paint: Paint) {
    for (at, view) in strays.iter().enumerate() {
        if at == 0 {
            out.push('\n');
        }
        let style = if view.kind == "disowned" {
            paint.dim()
        } else {
            paint.warning()
        };
        let mut title = view.kind.clone();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let _ = write!(out, "{style}{title}: {}.{style:#}", view.text);
        if !view.commands.is_empty() {
            let _ = write!(out, " Type: {}", view.commands.join(", or "));
        }
        out.push('\n');
    }
}
