//! A plan as a person reads it.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    model::{money::Money, reason::Reason, runner::RunnerState},
    plan::{Action, ActionId, Kept, Plan, PoolReport, Summary, Verb},
};

use super::{
    Change, Paint, bought, counted,
    document::DiagnosticView,
    hourly, monthly, sections,
    table::{Cell, Table},
};

/// Above this many, kept resources and held ones are counted by reason rather than listed: a fleet of thousands must
/// not push what changes off the screen.
pub(super) const LISTED: usize = 20;

/// The whole plan: changes with reasons, what someone else changed, what is not ours, what stays and what is held, cost
/// before and after, requests. `again` is how the program was called, for what to type next: `runfleet -s prod`.
pub fn plan(plan: &Plan, unread: &[DiagnosticView], again: &str, paint: Paint) -> String {
    let mut out = String::with_capacity(1024 + plan.actions.len() * 160);
    header(&mut out, plan, paint);
    warnings(&mut out, plan.complete, unread, paint);
    if !plan.is_noop() {
        changes(&mut out, plan, paint);
        ladders(&mut out, plan, paint);
    }
    sections::drift(&mut out, plan, again, paint);
    sections::orphans(&mut out, plan, again, paint);
    sections::foreign(&mut out, plan, again, paint);
    sections::released(&mut out, plan, paint);
    held(&mut out, plan, paint);
    kept(&mut out, plan, paint);
    if !plan.is_noop() {
        pools(&mut out, plan, paint);
    }
    sections::breaches(&mut out, plan, paint);
    footer(&mut out, plan, paint);
    out
}

/// `Plan: 3 to create, 0 to update, …`
pub fn summary_line(summary: Summary) -> String {
    let Summary {
        create,
        update,
        replace,
        delete,
        forget,
        cordon,
        hook,
    } = summary;
    let hooks = if hook == 0 {
        String::new()
    } else {
        format!(", hooks to run for {hook}")
    };
    format!(
        "Plan: {create} to create, {update} to update, {replace} to replace, {delete} to delete, {forget} to forget, \
         {cordon} to cordon{hooks}."
    )
}

/// How a pool's target came about, in one line.
pub fn pool_line(pool: &PoolReport) -> String {
    format!(
        "{}: target {}, {} queued, {} running, {} serving  ({})",
        pool.name, pool.target, pool.queued, pool.running, pool.serving, pool.formula
    )
}

fn header(out: &mut String, plan: &Plan, paint: Paint) {
    let (bold, dim) = (paint.bold(), paint.dim());
    let _ = writeln!(
        out,
        "{bold}Stack {}{bold:#} {dim}(serial {}, {}){dim:#}",
        plan.stack,
        plan.serial,
        plan.made_at.strftime("%Y-%m-%d %H:%M:%SZ")
    );
}

/// Which sources did not answer in full, and what follows from it.
pub(super) fn warnings(out: &mut String, complete: bool, unread: &[DiagnosticView], paint: Paint) {
    let warning = paint.warning();
    for source in unread {
        let _ = writeln!(
            out,
            "{warning}Warning: {}: {}{warning:#}",
            source.summary, source.detail
        );
    }
    if !complete || !unread.is_empty() {
        let _ = writeln!(
            out,
            "{warning}Warning: what was not answered counts as alive and busy.{warning:#}"
        );
    }
}

fn changes(out: &mut String, plan: &Plan, paint: Paint) {
    out.push('\n');
    let kinds = Change::of_plan(plan);
    legend(out, &kinds, paint);
    let mut table = Table::<5>::new();
    let mut details: Vec<(usize, String)> = Vec::new();
    for (at, (action, change)) in plan.actions.iter().zip(kinds).enumerate() {
        let (place, price) = bought(action);
        table.row([
            Cell::styled(
                format!("{} {}", change.symbol(), action.verb.as_str()),
                paint.change(change),
            ),
            action.address.to_string().into(),
            place.unwrap_or_default().into(),
            Cell::right(price.map(hourly).unwrap_or_default()),
            Cell::styled(action.reason.to_string(), paint.dim()),
        ]);
        if let Verb::Update { changes, .. } = &action.verb {
            let style = paint.change(Change::Update);
            let text = changes.iter().fold(String::new(), |mut text, change| {
                let _ = writeln!(text, "      {style}~{style:#} {change}");
                text
            });
            details.push((at, text));
        }
    }
    let mut rows = String::with_capacity(plan.actions.len() * 160);
    table.write(&mut rows, "  ");
    if details.is_empty() {
        out.push_str(&rows);
        return;
    }
    let mut details = details.into_iter().peekable();
    for (at, line) in rows.lines().enumerate() {
        out.push_str(line);
        out.push('\n');
        if let Some((_, text)) = details.next_if(|(of, _)| *of == at) {
            out.push_str(&text);
        }
    }
}

fn legend(out: &mut String, kinds: &[Change], paint: Paint) {
    out.push_str("Actions:");
    for change in Change::ALL {
        if kinds.contains(&change) {
            let style = paint.change(change);
            let _ = write!(out, "  {style}{}{style:#} {}", change.symbol(), change.as_str());
        }
    }
    out.push('\n');
}

/// Each distinct ladder with more than one rung, once: hundreds of creates share theirs.
fn ladders(out: &mut String, plan: &Plan, paint: Paint) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for action in &plan.actions {
        let Verb::Create { ladder, .. } = &action.verb else {
            continue;
        };
        if ladder.len() < 2 {
            continue;
        }
        let rungs = ladder.iter().map(|rung| match (&rung.offering, &rung.price) {
            (Some(offering), Some(price)) => format!("{offering} ({:.4})", price.hourly.amount.round_dp(4)),
            (Some(offering), None) => offering.to_string(),
            (None, _) => rung.provider.to_string(),
        });
        let pool = action.address.pool.as_ref().map(ToString::to_string);
        let rungs: Vec<String> = rungs.collect();
        *seen
            .entry(format!("{}: {}", pool.unwrap_or_default(), rungs.join(", ")))
            .or_default() += 1;
    }
    if seen.is_empty() {
        return;
    }
    heading(
        out,
        "Without capacity, the next offering is tried in this order",
        paint,
    );
    let dim = paint.dim();
    for ladder in seen.keys() {
        let _ = writeln!(out, "  {dim}{ladder}{dim:#}");
    }
}

fn held(out: &mut String, plan: &Plan, paint: Paint) {
    if plan.held.is_empty() {
        return;
    }
    heading(out, "Held: not done now, and why", paint);
    let style = |warning| {
        if warning { paint.warning() } else { paint.dim() }
    };
    let mut table = Table::<3>::new();
    if plan.held.len() <= LISTED {
        for held in &plan.held {
            let count = if held.count > 0 {
                format!("×{}", held.count)
            } else {
                String::new()
            };
            table.row([
                held.about.clone().into(),
                Cell::right(count),
                Cell::styled(held.reason.to_string(), style(held.warning)),
            ]);
        }
    } else {
        let mut by_reason: BTreeMap<&str, (usize, bool, &Reason)> = BTreeMap::new();
        for held in &plan.held {
            let entry = by_reason
                .entry(held.reason.code())
                .or_insert((0, false, &held.reason));
            entry.0 += 1;
            entry.1 |= held.warning;
        }
        for (code, (count, warning, reason)) in by_reason {
            table.row([
                code.into(),
                Cell::right(format!("×{count}")),
                Cell::styled(format!("for example: {reason}"), style(warning)),
            ]);
        }
    }
    table.write(out, "  ");
}

fn kept(out: &mut String, plan: &Plan, paint: Paint) {
    let kept: Vec<&Kept> = plan.kept.iter().filter(|kept| kept.state.is_some()).collect();
    if kept.is_empty() {
        return;
    }
    heading(out, "Kept", paint);
    let mut table = Table::<3>::new();
    if kept.len() <= LISTED {
        for kept in kept {
            table.row([
                kept.address.to_string().into(),
                kept.state.map(RunnerState::as_str).unwrap_or_default().into(),
                Cell::styled(kept.reason.to_string(), paint.dim()),
            ]);
        }
    } else {
        for ((state, code), count) in kept_by_reason(&kept) {
            table.row([
                Cell::right(counted(count, "machine")),
                state.into(),
                Cell::styled(meaning(code), paint.dim()),
            ]);
        }
    }
    table.write(out, "  ");
}

fn kept_by_reason<'a>(kept: &[&'a Kept]) -> BTreeMap<(&'static str, &'a str), usize> {
    let mut counts = BTreeMap::new();
    for kept in kept {
        let state = kept.state.map(RunnerState::as_str).unwrap_or_default();
        *counts.entry((state, kept.reason.code())).or_default() += 1;
    }
    counts
}

/// What a reason's code means, from the catalogue, without the words that the heading says already.
fn meaning(code: &str) -> String {
    let text = Reason::CATALOGUE
        .iter()
        .find(|(known, _)| *known == code)
        .map_or(code, |(_, meaning)| meaning.trim());
    text.trim_start_matches("Kept: ").trim_end_matches('.').to_owned()
}

fn pools(out: &mut String, plan: &Plan, paint: Paint) {
    if plan.pools.is_empty() {
        return;
    }
    heading(out, "Pools", paint);
    for pool in &plan.pools {
        let _ = writeln!(out, "  {}", pool_line(pool));
    }
}

fn footer(out: &mut String, plan: &Plan, paint: Paint) {
    let bold = paint.bold();
    out.push('\n');
    if plan.is_noop() {
        let wanting = plan.held.iter().any(|held| held.warning || held.count > 0);
        let why = if wanting {
            "See what is held, and why, above."
        } else {
            "The fleet is as it should be."
        };
        let _ = writeln!(out, "{bold}No changes.{bold:#} {why}");
        for pool in &plan.pools {
            let _ = writeln!(out, "  {}", pool_line(pool));
        }
    } else {
        let _ = writeln!(out, "{bold}{}{bold:#}", summary_line(plan.summary()));
    }
    cost(out, plan);
    api(out, plan);
}

fn cost(out: &mut String, plan: &Plan) {
    let cost = &plan.cost;
    let pairs = paired(&cost.before_hourly, &cost.after_hourly);
    let months = paired(&cost.before_monthly, &cost.after_monthly);
    if pairs.is_empty() {
        return;
    }
    let mut parts = Vec::new();
    for (before, after) in pairs {
        let month = months
            .iter()
            .find(|(_, month)| month.currency == after.currency)
            .map(|(before, after)| format!(", {}", arrow(&monthly(before), &monthly(after))))
            .unwrap_or_default();
        parts.push(format!("{}{month}", arrow(&hourly(&before), &hourly(&after))));
    }
    let dearest = plan
        .actions
        .iter()
        .any(|action| matches!(&action.verb, Verb::Create { ladder, .. } if ladder.len() > 1));
    let bound = if dearest {
        ", if only the dearest offerings are left"
    } else {
        ""
    };
    let _ = writeln!(out, "Cost: {}{bound}.", parts.join("; "));
}

fn arrow(before: &str, after: &str) -> String {
    if before == after {
        after.to_owned()
    } else {
        let amount = before.split(' ').next().unwrap_or_default();
        format!("{amount} → {after}")
    }
}

/// Before and after in each currency that either has.
pub(super) fn paired(before: &[Money], after: &[Money]) -> Vec<(Money, Money)> {
    let find = |list: &[Money], like: &Money| {
        list.iter()
            .find(|money| money.currency == like.currency)
            .cloned()
            .unwrap_or_else(|| Money::zero(like.currency.clone()))
    };
    let mut pairs: Vec<(Money, Money)> = before
        .iter()
        .map(|money| (money.clone(), find(after, money)))
        .collect();
    for money in after {
        if !pairs.iter().any(|(known, _)| known.currency == money.currency) {
            pairs.push((Money::zero(money.currency.clone()), money.clone()));
        }
    }
    pairs
}

fn api(out: &mut String, plan: &Plan) {
    let api = &plan.api;
    let _ = write!(out, "API: {} to read", counted(api.observed as usize, "request"));
    if !plan.is_noop() {
        let _ = write!(out, "; to apply about {} and {} s", api.calls, api.seconds);
        if let Some(share) = api.quota_share {
            let _ = write!(out, ", {share:.1} % of the hour's quota");
        }
    }
    out.push_str(".\n");
}

pub(super) fn heading(out: &mut String, title: &str, paint: Paint) {
    let bold = paint.bold();
    let _ = writeln!(out, "\n{bold}{title}{bold:#}");
}

/// The ids of the actions that must end before `action`, whatever the rung.
pub(super) fn needs(action: &Action) -> Vec<ActionId> {
    let mut needs = action.after.clone();
    if let Verb::Create { ladder, .. } = &action.verb {
        needs.extend(ladder.iter().flat_map(|rung| rung.needs.iter().copied()));
    }
    needs.sort_unstable();
    needs.dedup();
    needs
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn a_plan_with_everything_reads_well() {
        insta::assert_snapshot!(plan(&fixture::plan(), &[], "runfleet -s prod", Paint::PLAIN), @"
        Stack prod (serial 12, 2026-03-01 01:30:00Z)

        Actions:  + create  ~ update  - delete  . forget  ! cordon
          ~ update  firewall/default                                            rules differs from the stack file
              ~ rules: +22/tcp
          + create  machine.linux/brave-otter  hetzner/nbg1 cx33  0.0095 EUR/h  5 queued and 1 running jobs want 3 runners
          + create  machine.linux/keen-wolf    hetzner/nbg1 cx33  0.0095 EUR/h  5 queued and 1 running jobs want 3 runners
          - retire  machine.linux/old-crab     hetzner/nbg1 cx33  0.0095 EUR/h  idle, and paid until 01:31:00Z
          ! cordon  machine.linux/tall-newt    hetzner/nbg1 cx33  0.0095 EUR/h  above max = 3
          . forget  machine.linux/lost-seal    hetzner/nbg1 cx33  0.0095 EUR/h  the cloud does not have it any more

        Without capacity, the next offering is tried in this order
          linux: hetzner/nbg1 cx33 (0.0095), hetzner/fsn1 cx33 (0.0095)

        Drift: changed by someone else since the last tick
          machine.linux/calm-fox  type: cx33 → cx43  left as it is
          To make what is there the record's: runfleet -s prod refresh --accept

        Orphans: of our lineage, without a record
          hetzner machine 99  prod-linux-stray  0.0095 EUR/h  without a record since 01:30:00Z, deleted if seen again
          1 resource, 0.0095 EUR/h together.
          What a later tick sees again is removed when it is idle. To keep it: runfleet -s prod adopt NAME

        Foreign: our stack's name, another lineage; never touched
          hetzner machine 99  prod-linux-other  0.0095 EUR/h  1 resource with our stack's name and another lineage
          1 resource, 0.0095 EUR/h together.
          While they are there nothing is created. Type one of:
            runfleet -s prod adopt               they are ours: take them on record here
            runfleet -s prod init --new-lineage  they are someone else's, another checkout's perhaps: leave them alone for ever

        Held: not done now, and why
          linux                   ×2  5 wanted, max = 3
          machine.linux/calm-fox      no certain word on whether it runs jobs

        Kept
          machine.linux/calm-fox  busy  runs 1 job
          machine.linux/dry-hare  idle  paid until 02:20:00Z

        Pools
          linux: target 1, 0 queued, 1 running, 2 serving  (ceil((0 + 1) / 2) + 0 = 1)

        Plan: 2 to create, 1 to update, 0 to replace, 1 to delete, 1 to forget, 1 to cordon.
        Cost: 0.0190 → 0.0285 EUR/h, 13.87 → 20.80 EUR/month, if only the dearest offerings are left.
        API: 7 requests to read; to apply about 12 and 4 s, 0.3 % of the hour's quota.
        ");
    }

    #[test]
    fn both_halves_of_making_something_anew_have_terraforms_symbol() {
        let mut replacing = fixture::plan();
        replacing.actions[1].reason = Reason::Replacement {
            of: "machine.linux/old-crab".into(),
        };
        let text = plan(&replacing, &[], "runfleet", Paint::PLAIN);
        assert!(text.contains("+/- replace"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("  +/- ")).collect();
        assert!(
            rows[0].contains("create  machine.linux/brave-otter") && rows[0].contains("takes the place of"),
            "{text}"
        );
        assert!(rows[1].contains("retire  machine.linux/old-crab"), "{text}");
        let document = crate::cli::show::document::plan(&replacing, &[]);
        assert_eq!(
            document.changes[1].replaces.as_deref(),
            Some("machine.linux/old-crab")
        );
    }

    #[test]
    fn no_changes_says_why_for_each_pool() {
        insta::assert_snapshot!(plan(&fixture::quiet(), &[], "runfleet -s prod", Paint::PLAIN), @r"
        Stack prod (serial 12, 2026-03-01 01:30:00Z)

        Kept
          machine.linux/calm-fox  busy  runs 1 job
          machine.linux/dry-hare  idle  paid until 02:20:00Z

        No changes. The fleet is as it should be.
          linux: target 1, 0 queued, 1 running, 2 serving  (ceil((0 + 1) / 2) + 0 = 1)
        Cost: 0.0190 EUR/h, 13.87 EUR/month.
        API: 7 requests to read.
        ");
    }

    #[test]
    fn a_partial_reading_is_said_first() {
        let mut quiet = fixture::quiet();
        quiet.complete = false;
        let text = plan(&quiet, &[], "runfleet -s prod", Paint::PLAIN);
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("Warning: ")),
            "{text}"
        );
    }

    #[test]
    fn many_kept_machines_are_counted_by_reason() {
        let text = plan(&fixture::large(10_000), &[], "runfleet -s prod", Paint::PLAIN);
        assert!(
            text.contains("10000 machines  busy  it runs jobs"),
            "{}",
            &text[text.len() - 900..]
        );
        assert!(text.lines().count() < 10_030);
    }

    #[test]
    fn without_colour_there_is_no_escape_and_with_it_there_is() {
        assert!(!plan(&fixture::plan(), &[], "runfleet -s prod", Paint::PLAIN).contains('\u{1b}'));
        let colored = plan(&fixture::plan(), &[], "runfleet -s prod", Paint::new(true));
        assert!(colored.contains("\u{1b}[32m+ create\u{1b}[0m"));
        let plain = anstream::adapter::strip_str(&colored).to_string();
        assert_eq!(
            plain,
            plan(&fixture::plan(), &[], "runfleet -s prod", Paint::PLAIN)
        );
    }
}
