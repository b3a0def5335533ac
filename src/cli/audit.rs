//! `audit`: everything with a label of ours, on record or not, with its age and cost.

use std::collections::HashSet;

use super::{
    context::Context,
    error::Failure,
    exit::Exit,
    mend,
    show::{
        self,
        audit::{Audited, AuditedView, STANDINGS},
        decimal,
        document::DiagnosticView,
    },
};
use crate::{
    model::{
        intent::Intent,
        resource::{ClaimLabels, Completeness, Observed},
    },
    plan::{cost, facts::Facts, strays},
    stack::Stack,
    tick::surgery::Everything,
};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let (everything, all) = mend::unlocked(context, async |session| {
        let everything = session.everything().await?;
        let all = audited(&everything, session.stack());
        Ok((everything, all))
    })?;
    let planned = &everything.planned;
    context.mended(planned);
    let warnings = warnings(&everything);
    if context.output.json {
        let complete = warnings.is_empty();
        let document = show::audit::audit(&planned.plan, &all, complete, warnings);
        context.output.document(&document)?;
    } else {
        let text = show::audit::audit_text(&planned.plan, &all, &warnings, context.output.paint);
        context.output.text(&text)?;
    }
    Ok(if planned.is_failed() {
        Exit::Error
    } else {
        Exit::Done
    })
}

/// What is not known: a cloud that told a part, or only what this stack has.
fn warnings(everything: &Everything) -> Vec<DiagnosticView> {
    let narrow = everything.narrow.iter().map(|(name, why)| {
        DiagnosticView::warning(format!("providers.{name}: only this stack's"), why.clone())
    });
    let partial = everything
        .listings
        .iter()
        .filter_map(|(name, listing)| match &listing.completeness {
            Completeness::Complete => None,
            Completeness::Partial { why } => Some(DiagnosticView::warning(
                format!("providers.{name}: the listing is partial"),
                why.clone(),
            )),
        });
    narrow.chain(partial).collect()
}

/// Everything, by standing and then by its place.
fn audited(everything: &Everything, stack: &Stack) -> Vec<Audited> {
    let snapshot = &everything.planned.snapshot;
    let facts = Facts::of(snapshot, stack);
    let begun: HashSet<&str> = snapshot.open.iter().map(|open| open.id.as_str()).collect();
    let mut all: Vec<Audited> = Vec::new();
    for (name, listing) in &everything.listings {
        let mut known = HashSet::new();
        // A machine whose labels someone took off is in no listing by label, and on record.
        let reread = snapshot
            .clouds
            .values()
            .flat_map(|cloud| cloud.reread.values().flatten());
        let own = reread.filter(|seen| seen.target.provider == *name);
        for seen in listing.resources.iter().chain(own) {
            if known.insert(&seen.target) {
                all.push(one(&facts, seen, standing(&facts, seen, &begun), listing.now));
            }
        }
    }
    let rank = |one: &Audited| {
        let at = STANDINGS.iter().position(|(name, _)| *name == one.view.standing);
        let view = &one.view;
        (
            at,
            view.provider.clone(),
            view.kind.clone(),
            view.name.clone(),
            view.id.clone(),
        )
    };
    all.sort_by_cached_key(rank);
    all
}

fn standing(facts: &Facts<'_>, seen: &Observed, begun: &HashSet<&str>) -> &'static str {
    let state = &facts.snapshot.state;
    if facts.recorded(&seen.target).is_some() {
        return "on_record";
    }
    let relabelled = facts
        .snapshot
        .open
        .iter()
        .any(|open| matches!(&open.intent, Intent::Relabel { target, .. } if *target == seen.target));
    if relabelled || seen.claimed().is_some_and(|(intent, _)| begun.contains(intent)) {
        return "unfinished";
    }
    match seen.labels.get(ClaimLabels::STACK) {
        Some(stack) if stack != state.stack.as_str() => "other_stack",
        _ if strays::lineage_of(seen) == state.lineage => "orphan",
        _ if strays::is_disowned(state, seen) => "disowned",
        _ => "foreign",
    }
}

fn one(facts: &Facts<'_>, seen: &Observed, standing: &str, now: jiff::Timestamp) -> Audited {
    let record = facts
        .recorded(&seen.target)
        .and_then(|address| facts.snapshot.state.resources.get(address));
    let offered = || facts.price(seen.offering.as_ref()?, true);
    let price = record.and_then(|record| record.price.as_ref()).or_else(offered);
    let hourly = price.map(|price| price.hourly.clone());
    let monthly = price.map(cost::monthly);
    let label = |key: &str| seen.labels.get(key).cloned();
    Audited {
        view: AuditedView {
            standing: standing.to_owned(),
            address: facts.recorded(&seen.target).map(ToString::to_string),
            provider: seen.target.provider.to_string(),
            kind: seen.target.kind.to_string(),
            id: seen.target.id.to_string(),
            name: seen.name.clone(),
            stack: label(ClaimLabels::STACK).unwrap_or_default(),
            lineage: label("runfleet-lineage"),
            created_at: seen.created_at,
            age_seconds: now.duration_since(seen.created_at).as_secs(),
            price_hourly: hourly.as_ref().map(|money| decimal(money.amount)),
            price_monthly: monthly.as_ref().map(|money| decimal(money.amount)),
            currency: hourly.as_ref().map(|money| money.currency.to_string()),
        },
        hourly,
        monthly,
    }
}
