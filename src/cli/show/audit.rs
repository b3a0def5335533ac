//! `audit`: everything with a label of ours, whose it is, how old, and what it costs.

use std::fmt::Write as _;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    FORMAT_VERSION, Paint, counted,
    document::DiagnosticView,
    hourly, monthly,
    strays::{SumView, sums},
    table::{Cell, Table},
};
use crate::{
    model::money::Money,
    plan::{Plan, rebuild},
};

/// What `audit --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every cloud answered in full.
    pub complete: bool,
    /// Whose stack file was asked with.
    pub stack: String,
    /// Its lineage.
    pub lineage: String,
    /// Everything with our label, by standing.
    pub resources: Vec<AuditedView>,
    /// What all of it costs an hour.
    pub hourly: Vec<SumView>,
    /// What all of it costs a month of 730 hours, caps respected.
    pub monthly: Vec<SumView>,
    /// What a person should be told.
    pub diagnostics: Vec<DiagnosticView>,
}

/// A resource with our label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditedView {
    /// `on_record`, `unfinished` (an attempt is under way), `orphan`, `foreign`, `disowned` or `other_stack`.
    pub standing: String,
    /// Its address; null where it is not on record.
    pub address: Option<String>,
    /// The provider's key in the stack file.
    pub provider: String,
    /// The resource's kind.
    pub kind: String,
    /// The cloud's id of it.
    pub id: String,
    /// Its name in the cloud.
    pub name: String,
    /// The stack that its label names.
    pub stack: String,
    /// Its lineage; null for none.
    pub lineage: Option<String>,
    /// When it was made.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// How old it is, by its cloud's clock.
    pub age_seconds: i64,
    /// What an hour costs, as a decimal string; null for what costs nothing, or where that is not known.
    pub price_hourly: Option<String>,
    /// What a month of 730 hours costs, caps respected.
    pub price_monthly: Option<String>,
    /// The prices' currency.
    pub currency: Option<String>,
}

/// A resource with our label, as it is put together.
#[derive(Clone, Debug)]
pub struct Audited {
    /// As JSON has it.
    pub view: AuditedView,
    /// What an hour costs.
    pub hourly: Option<Money>,
    /// What a month costs.
    pub monthly: Option<Money>,
}

/// The order of standings, with their titles.
pub const STANDINGS: [(&str, &str); 6] = [
    ("on_record", "On record"),
    ("unfinished", "Unfinished: an attempt is under way"),
    ("orphan", "Orphans: of our lineage, without a record"),
    ("foreign", "Foreign: our stack's name, another lineage"),
    (
        "disowned",
        "Disowned: our stack's name, a lineage that is left alone",
    ),
    ("other_stack", "Other stacks'"),
];

/// Sums by currency, per hour and month.
pub fn audit_sums<'a>(all: impl Iterator<Item = &'a Audited>) -> (Vec<Money>, Vec<Money>) {
    let (mut hours, mut months) = (Vec::new(), Vec::new());
    for one in all {
        if let Some(money) = &one.hourly {
            rebuild::add(&mut hours, money);
        }
        if let Some(money) = &one.monthly {
            rebuild::add(&mut months, money);
        }
    }
    (hours, months)
}

/// The document of an audit.
pub fn audit(
    plan: &Plan,
    all: &[Audited],
    complete: bool,
    diagnostics: Vec<DiagnosticView>,
) -> AuditDocument {
    let (hours, months) = audit_sums(all.iter());
    AuditDocument {
        format_version: FORMAT_VERSION.into(),
        complete,
        stack: plan.stack.to_string(),
        lineage: plan.lineage.to_string(),
        resources: all.iter().map(|one| one.view.clone()).collect(),
        hourly: sums(&hours),
        monthly: sums(&months),
        diagnostics,
    }
}

/// The same as a person reads it.
pub fn audit_text(plan: &Plan, all: &[Audited], diagnostics: &[DiagnosticView], paint: Paint) -> String {
    let mut out = String::new();
    let (bold, dim, warning) = (paint.bold(), paint.dim(), paint.warning());
    let _ = writeln!(
        out,
        "{bold}Stack {}{bold:#} {dim}(lineage {}){dim:#}: {} with a label of runfleet{}",
        plan.stack,
        plan.lineage,
        counted(all.len(), "resource"),
        cost_words(all.iter())
    );
    for diagnostic in diagnostics {
        let _ = writeln!(
            out,
            "{warning}Warning: {}: {}{warning:#}",
            diagnostic.summary, diagnostic.detail
        );
    }
    for (standing, title) in STANDINGS {
        let own = || all.iter().filter(|one| one.view.standing == standing);
        if own().next().is_none() {
            continue;
        }
        let _ = writeln!(
            out,
            "\n{bold}{title}{bold:#}: {}{}",
            own().count(),
            cost_words(own())
        );
        let mut table = Table::<6>::new();
        for one in own() {
            let view = &one.view;
            let whose = match standing {
                "on_record" | "unfinished" | "orphan" => String::new(),
                "other_stack" => format!("stack {}", view.stack),
                _ => format!("lineage {}", view.lineage.as_deref().unwrap_or("(none)")),
            };
            table.row([
                view.address.clone().unwrap_or_else(|| view.name.clone()).into(),
                format!("{} {} {}", view.provider, view.kind, view.id).into(),
                crate::model::reason::span(jiff::SignedDuration::from_secs(view.age_seconds)).into(),
                Cell::right(one.hourly.as_ref().map(hourly).unwrap_or_default()),
                Cell::right(one.monthly.as_ref().map(monthly).unwrap_or_default()),
                Cell::styled(whose, dim),
            ]);
        }
        table.write(&mut out, "  ");
    }
    super::strays::write(&mut out, &super::strays::strays(plan), paint);
    out
}

fn cost_words<'a>(all: impl Iterator<Item = &'a Audited>) -> String {
    let (hours, months) = audit_sums(all);
    let each = hours.iter().map(hourly).chain(months.iter().map(monthly));
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        String::new()
    } else {
        format!(", {}", each.join(", "))
    }
}
