//! `adopt`, `state import` and `state rebuild`: what is taken on record, and what is not.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    FORMAT_VERSION, Paint, counted, decimal, hourly,
    refresh::{FailedView, failed},
    table::{Cell, Table},
};
use crate::{
    model::{
        ids::{PoolName, Serial},
        money::Money,
        state::Record,
    },
    plan::{
        Plan,
        adopt::Taken,
        rebuild::{self, Rebuilt},
        records::Left,
    },
    tick::Applied,
};

/// What `adopt --json` and `state import --json` print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AdoptDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The lineage that they carry now.
    pub lineage: String,
    /// The state's serial.
    pub serial: u64,
    /// What was taken on record.
    pub adopted: Vec<TakenView>,
    /// What was left as it is.
    pub left: Vec<LeftView>,
    /// What failed.
    pub failed: Vec<FailedView>,
}

/// Something that is taken on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TakenView {
    /// Its address.
    pub address: String,
    /// The provider's key in the stack file.
    pub provider: String,
    /// The cloud's id of it.
    pub id: String,
    /// Its name in the cloud.
    pub name: String,
    /// The lineage that it carried; null for none.
    pub from: Option<String>,
    /// Its registration at its CI; null where none is known.
    pub registration: Option<String>,
    /// Whether it runs jobs; null where that is unknown.
    pub busy: Option<bool>,
    /// What an hour costs, as a decimal string.
    pub price_hourly: Option<String>,
    /// The price's currency.
    pub currency: Option<String>,
}

/// Something that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftView {
    /// The provider's key in the stack file.
    pub provider: String,
    /// The resource's kind.
    pub kind: String,
    /// The cloud's id of it.
    pub id: String,
    /// Its name in the cloud.
    pub name: String,
    /// Why.
    pub why: String,
}

/// The document of what was taken.
pub fn adopt(plan: &Plan, taken: &[Taken], left: &[Left], applied: Option<&Applied>) -> AdoptDocument {
    let failed = failed(applied);
    let done = taken.iter().filter(|taken| {
        !failed
            .iter()
            .any(|failed| failed.address == taken.address.to_string())
    });
    AdoptDocument {
        format_version: FORMAT_VERSION.into(),
        complete: plan.complete,
        stack: plan.stack.to_string(),
        lineage: plan.lineage.to_string(),
        serial: applied.map_or(plan.serial.0, |applied| applied.serial),
        adopted: done.map(taken_view).collect(),
        left: left.iter().map(left_view).collect(),
        failed,
    }
}

fn taken_view(taken: &Taken) -> TakenView {
    let price = taken.record.price.as_ref().map(|price| &price.hourly);
    TakenView {
        address: taken.address.to_string(),
        provider: taken.record.provider.to_string(),
        id: taken.record.id.to_string(),
        name: taken.record.name.clone(),
        from: taken.from.as_ref().map(ToString::to_string),
        registration: taken.record.registration.as_ref().map(ToString::to_string),
        busy: taken.busy,
        price_hourly: price.map(|price| decimal(price.amount)),
        currency: price.map(|price| price.currency.to_string()),
    }
}

fn left_view(left: &Left) -> LeftView {
    LeftView {
        provider: left.target.provider.to_string(),
        kind: left.target.kind.to_string(),
        id: left.target.id.to_string(),
        name: left.name.clone(),
        why: left.why.to_string(),
    }
}

/// What would be taken, and what a person should know before saying yes.
pub fn adopt_text(
    plan: &Plan,
    taken: &[Taken],
    left: &[Left],
    has: impl Fn(&PoolName) -> bool,
    paint: Paint,
) -> String {
    let mut out = String::new();
    let (bold, dim, warning) = (paint.bold(), paint.dim(), paint.warning());
    let _ = writeln!(
        out,
        "{bold}Stack {}{bold:#} {dim}(serial {}, lineage {}){dim:#}\n",
        plan.stack, plan.serial, plan.lineage
    );
    let mut table = Table::<6>::new();
    let mut hours: Vec<Money> = Vec::new();
    for one in taken {
        let price = one.record.price.as_ref().map(|price| &price.hourly);
        if let Some(price) = price {
            rebuild::add(&mut hours, price);
        }
        let from = match &one.from {
            _ if one.unfinished => "begun earlier".to_owned(),
            Some(lineage) if *lineage == plan.lineage => "orphan".to_owned(),
            Some(lineage) => format!("of lineage {lineage}"),
            None => "without labels of ours".to_owned(),
        };
        let work = match (one.address.pool.is_some(), one.busy) {
            (false, _) => "",
            (true, Some(true)) => "busy",
            (true, Some(false)) => "idle",
            (true, None) => "busy?",
        };
        table.row([
            one.address.to_string().into(),
            one.have.target.to_string().into(),
            one.have.name.clone().into(),
            work.into(),
            Cell::right(price.map(hourly).unwrap_or_default()),
            Cell::styled(from, dim),
        ]);
    }
    table.write(&mut out, "  ");
    let cost: Vec<String> = hours.iter().map(hourly).collect();
    let cost = if cost.is_empty() {
        String::new()
    } else {
        format!(", {}", cost.join(" + "))
    };
    let _ = writeln!(
        out,
        "\n{}{cost}. Their labels and our record change; what runs on them goes on.",
        counted(taken.len(), "resource")
    );
    let elsewhere = taken
        .iter()
        .any(|one| one.from.as_ref().is_some_and(|from| *from != plan.lineage));
    if elsewhere {
        out.push_str(
            "  Where a state elsewhere, another checkout's for one, still has them on record, stop its ticks first.\n",
        );
    }
    for one in taken {
        if let Some(said) = &one.clashed {
            let _ = writeln!(
                out,
                "  {} becomes {}: {said} is another's.",
                one.have.name, one.address
            );
        }
        if one.address.pool.is_some() && one.record.registration.is_none() && !one.unfinished {
            let _ = writeln!(
                out,
                "{warning}  {}: no registration is known, so nobody can say whether it is at work: it is never deleted \
                 by runfleet.{warning:#}",
                one.address
            );
        }
    }
    let mut leaving: Vec<&PoolName> = taken.iter().filter_map(|one| one.unknown_pool(&has)).collect();
    leaving.sort();
    leaving.dedup();
    for pool in leaving {
        let _ = writeln!(
            out,
            "{warning}  Pool {pool} is not in the stack file: its machines leave as soon as they are idle.{warning:#}"
        );
    }
    left_text(&mut out, left);
    out
}

/// What is left as it is, with why.
pub fn left_text(out: &mut String, left: &[Left]) {
    if left.is_empty() {
        return;
    }
    out.push_str("\nLeft as they are:\n");
    let mut table = Table::<3>::new();
    for one in left {
        table.row([
            one.target.to_string().into(),
            one.name.clone().into(),
            one.why.to_string().into(),
        ]);
    }
    table.write(out, "  ");
}

/// What `state rebuild --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RebuildDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Always true: a partial listing rebuilds nothing.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The state's lineage.
    pub lineage: String,
    /// The serial of the state that was written.
    pub serial: u64,
    /// The addresses on record.
    pub resources: Vec<String>,
    /// What has no record.
    pub left: Vec<LeftView>,
}

/// The document of a state that was made again.
pub fn rebuild(stack: &str, serial: Serial, rebuilt: &Rebuilt) -> RebuildDocument {
    RebuildDocument {
        format_version: FORMAT_VERSION.into(),
        complete: true,
        stack: stack.to_owned(),
        lineage: rebuilt.lineage.to_string(),
        serial: serial.0,
        resources: rebuilt.resources.keys().map(ToString::to_string).collect(),
        left: rebuilt.left.iter().map(left_view).collect(),
    }
}

/// The records that would be made again.
pub fn rebuild_text(stack: &str, rebuilt: &Rebuilt, paint: Paint) -> String {
    let mut out = String::new();
    let (bold, dim) = (paint.bold(), paint.dim());
    let _ = writeln!(
        out,
        "{bold}Stack {stack}{bold:#} {dim}(lineage {}){dim:#}: {} by their labels\n",
        rebuilt.lineage,
        counted(rebuilt.resources.len(), "record")
    );
    let mut table = Table::<5>::new();
    for (address, record) in &rebuilt.resources {
        table.row([
            address.to_string().into(),
            record.target().to_string().into(),
            record.name.clone().into(),
            registration(record).into(),
            Cell::right(
                record
                    .price
                    .as_ref()
                    .map(|price| hourly(&price.hourly))
                    .unwrap_or_default(),
            ),
        ]);
    }
    table.write(&mut out, "  ");
    left_text(&mut out, &rebuilt.left);
    out
}

fn registration(record: &Record) -> String {
    match (&record.ci, &record.registration) {
        (Some(ci), Some(registration)) => format!("{ci} {registration}"),
        (Some(ci), None) => format!("{ci} ?"),
        _ => String::new(),
    }
}
