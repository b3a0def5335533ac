//! The sections of a plan that are about what is not as it was left: drift, orphans, foreign resources, guards.

use std::fmt::Write as _;

use super::{
    Paint, counted, hourly,
    plan::{LISTED, heading},
    table::{Cell, Table},
    together,
};
use crate::{
    model::reason::Reason,
    plan::{DriftFate, GuardRule, Plan, Stray},
};

/// What becomes of a drift, for a person.
pub fn fate(fate: DriftFate) -> &'static str {
    match fate {
        DriftFate::Repaired => "changed back by this plan",
        DriftFate::Replaced => "made anew by this plan, or by a later one",
        DriftFate::Shown => "left as it is",
    }
}

/// A guard's word, as `--allow` takes it.
pub fn guard(rule: GuardRule) -> &'static str {
    match rule {
        GuardRule::MaxDelete => "max-delete",
        GuardRule::Budget => "budget",
    }
}

pub(super) fn drift(out: &mut String, plan: &Plan, again: &str, paint: Paint) {
    if plan.drift.is_empty() {
        return;
    }
    heading(out, "Drift: changed by someone else since the last tick", paint);
    let mut table = Table::<3>::new();
    for drift in &plan.drift {
        table.row([
            drift.address.to_string().into(),
            drift.what.clone().into(),
            Cell::styled(fate(drift.fate), paint.dim()),
        ]);
    }
    table.write(out, "  ");
    if plan.drift.iter().any(|drift| drift.fate == DriftFate::Shown) {
        let _ = writeln!(
            out,
            "  To make what is there the record's: {again} refresh --accept"
        );
    }
}

pub(super) fn orphans(out: &mut String, plan: &Plan, again: &str, paint: Paint) {
    if plan.orphans.is_empty() {
        return;
    }
    let title = "Orphans: of our lineage, without a record";
    strays(out, &plan.orphans, title, paint);
    let _ = writeln!(
        out,
        "  What a later tick sees again is removed when it is idle. To keep it: {again} adopt NAME"
    );
}

pub(super) fn foreign(out: &mut String, plan: &Plan, again: &str, paint: Paint) {
    if plan.foreign.is_empty() {
        return;
    }
    let title = "Foreign: our stack's name, another lineage; never touched";
    strays(out, &plan.foreign, title, paint);
    if plan.foreign.iter().all(|stray| stray.reason == Reason::Disowned) {
        return;
    }
    out.push_str(&super::strays::ways_out(plan, again));
}

pub(super) fn released(out: &mut String, plan: &Plan, paint: Paint) {
    if !plan.released.is_empty() {
        let title = "Released by state rm: left alone, and paid for";
        strays(out, &plan.released, title, paint);
    }
}

fn strays(out: &mut String, strays: &[Stray], title: &str, paint: Paint) {
    heading(out, title, paint);
    let mut table = Table::<4>::new();
    for stray in strays.iter().take(LISTED) {
        table.row([
            stray.target.to_string().into(),
            stray.name.clone().into(),
            Cell::right(stray.price.as_ref().map(hourly).unwrap_or_default()),
            Cell::styled(stray.reason.to_string(), paint.dim()),
        ]);
    }
    table.write(out, "  ");
    if strays.len() > LISTED {
        let _ = writeln!(out, "  and {} more: audit lists them all", strays.len() - LISTED);
    }
    let prices = strays.iter().filter_map(|stray| stray.price.as_ref());
    if let Some(cost) = together(prices) {
        let _ = writeln!(out, "  {}, {cost} together.", counted(strays.len(), "resource"));
    }
}

pub(super) fn breaches(out: &mut String, plan: &Plan, paint: Paint) {
    if plan.breaches.is_empty() {
        return;
    }
    heading(out, "Guards that this plan breaks", paint);
    for breach in &plan.breaches {
        let rule = guard(breach.rule);
        let (style, then) = if breach.allowed {
            (paint.dim(), format!("allowed by --allow {rule}"))
        } else {
            (paint.error(), format!("refused without --allow {rule}"))
        };
        let _ = writeln!(out, "  {style}{rule}: {}: {then}{style:#}", breach.what);
    }
}
