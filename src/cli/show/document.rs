//! `plan --json`: a plan as a program reads it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{ids::Address, money::Money, offering::Market},
    plan::{Action, Breach, Drift, DriftFate, Plan, Rung, Stray, Summary, Verb},
};

use super::{
    Change, FORMAT_VERSION, decimal,
    plan::paired,
    replaces,
    resource::{ResourceView, of_record, of_spec, priced},
    sections,
};

/// What `plan --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PlanDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full.
    pub complete: bool,
    /// Whose plan.
    pub stack: String,
    /// The identity of the stack's state.
    pub lineage: String,
    /// The state's serial when this was decided.
    pub serial: u64,
    /// When it is too old to be applied.
    #[schemars(with = "String")]
    pub expires: Timestamp,
    /// What would be done, in an order that respects every dependency.
    pub changes: Vec<ChangeView>,
    /// What is refused, and why.
    pub held: Vec<HeldView>,
    /// Guards that the plan breaks; one that is not allowed refuses it as a whole.
    pub breaches: Vec<BreachView>,
    /// What someone else changed.
    pub drift: Vec<DriftView>,
    /// Resources of our lineage without a record.
    pub orphans: Vec<StrayView>,
    /// Resources with our stack's name and another lineage.
    pub foreign: Vec<StrayView>,
    /// Taken off the record with `state rm`, and left alone.
    pub released: Vec<StrayView>,
    /// How many of each.
    pub summary: SummaryView,
    /// What the fleet costs before and after.
    pub cost: CostView,
    /// What applying takes in requests.
    pub api: ApiView,
    /// What a person should be told.
    pub diagnostics: Vec<DiagnosticView>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ChangeView {
    /// `machine.linux/brave-otter`
    pub address: String,
    /// The resource's kind: `machine`.
    pub kind: String,
    /// What it amounts to: `create`, `update`, `delete`, `forget`, `cordon` or `hook`.
    pub actions: Vec<String>,
    /// How it is done: `retire` is a delete that cordons first and reads the jobs again.
    pub verb: String,
    /// Why, for a person.
    pub reason: String,
    /// Why, for a program; `docs/reasons.md` lists the codes.
    pub reason_code: String,
    /// What a create takes the place of: an address, its own where that is removed first. Null where it is new.
    pub replaces: Option<String>,
    /// The offerings that a create tries, in order; empty for others.
    pub ladder: Vec<RungView>,
    /// The resource as it is on record; null where it is not.
    pub before: Option<ResourceView>,
    /// The resource as it will be; null where it goes. A create's is that of the first rung.
    pub after: Option<ResourceView>,
}

/// One offering of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RungView {
    /// The provider's key in the stack file.
    pub provider: String,
    /// The machine type; null for a shared resource.
    #[serde(rename = "type")]
    pub machine_type: Option<String>,
    /// The location; null for a shared resource.
    pub location: Option<String>,
    /// How it is bought; null for a shared resource.
    pub market: Option<Market>,
    /// What an hour costs, tax included; null for what costs nothing.
    pub price_hourly: Option<String>,
    /// The price's currency.
    pub currency: Option<String>,
    /// What the resource is made from, as a digest.
    pub hash: String,
}

/// A refusal to act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HeldView {
    /// Which pool or resource it is about.
    pub about: String,
    /// How many machines; zero where it is not about a number.
    pub count: u32,
    /// Why, for a person.
    pub reason: String,
    /// Why, for a program.
    pub reason_code: String,
    /// Whether `--strict` makes it exit code 3.
    pub warning: bool,
}

/// Something that someone else changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriftView {
    /// Which.
    pub address: String,
    /// What differs from the record.
    pub what: String,
    /// The fields that differ: `before` is what the record says, `after` what is there.
    pub changes: Vec<FieldView>,
    /// What becomes of it: `repaired`, `replaced` or `shown`.
    pub fate: String,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldView {
    /// Which.
    pub field: String,
    /// What the record says.
    pub before: serde_json::Value,
    /// What is there.
    pub after: serde_json::Value,
}

/// A guard that the plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BreachView {
    /// `max-delete` or `budget`, as `--allow` takes it.
    pub rule: String,
    /// What the plan does, and what is allowed.
    pub what: String,
    /// Whether it was allowed with `--allow`.
    pub allowed: bool,
}

/// A resource that is not on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StrayView {
    /// The provider's key in the stack file.
    pub provider: String,
    /// The resource's kind.
    pub kind: String,
    /// The cloud's id of it.
    pub id: String,
    /// Its name in the cloud.
    pub name: String,
    /// Its lineage.
    pub lineage: Option<String>,
    /// What an hour costs, where known.
    pub price_hourly: Option<String>,
    /// The price's currency.
    pub currency: Option<String>,
    /// What becomes of it, for a person.
    pub reason: String,
    /// What becomes of it, for a program.
    pub reason_code: String,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the words of the summary line")]
pub struct SummaryView {
    pub create: u32,
    pub update: u32,
    pub replace: u32,
    pub delete: u32,
    pub forget: u32,
    pub cordon: u32,
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(default)]
    pub hook: u32,
}

/// What the fleet costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CostView {
    /// The currency of the amounts; null when there is nothing that costs.
    pub currency: Option<String>,
    /// Now.
    pub before: AmountsView,
    /// After applying, creates at their dearest rung.
    pub after: AmountsView,
    /// Sums in further currencies, where providers bill in several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub others: Vec<CostView>,
}

/// Per hour and per month of 730 hours, as decimal strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the struct says it")]
pub struct AmountsView {
    pub hourly: String,
    pub monthly: String,
}

/// What applying takes.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ApiView {
    /// Requests, about.
    pub calls: u32,
    /// Seconds, about.
    pub seconds: u32,
    /// The share of the hour's quota of the provider that is used most, in per cent; null without a quota.
    pub quota_share: Option<f64>,
    /// Requests that making the plan took.
    pub observed: u32,
}

/// What a verb prints with `--json` when it fails, in place of its own document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailureDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Always false.
    pub complete: bool,
    /// What went wrong.
    pub diagnostics: Vec<DiagnosticView>,
}

/// Something that a person should be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiagnosticView {
    /// `error` or `warning`.
    pub severity: String,
    /// What.
    pub summary: String,
    /// Where and why; empty where the summary says all.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl DiagnosticView {
    /// A warning.
    pub fn warning(summary: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            severity: "warning".into(),
            summary: summary.into(),
            detail: detail.into(),
            hint: None,
        }
    }
}

/// The document of a plan.
pub fn plan(plan: &Plan, unread: &[DiagnosticView]) -> PlanDocument {
    PlanDocument {
        format_version: FORMAT_VERSION.into(),
        complete: plan.complete,
        stack: plan.stack.to_string(),
        lineage: plan.lineage.to_string(),
        serial: plan.serial.0,
        expires: plan.made_at.checked_add(plan.expires_in).unwrap_or(plan.made_at),
        changes: changes(plan),
        held: held(plan),
        breaches: plan.breaches.iter().map(breach).collect(),
        drift: plan.drift.iter().map(drift).collect(),
        orphans: plan.orphans.iter().map(stray).collect(),
        foreign: plan.foreign.iter().map(stray).collect(),
        released: plan.released.iter().map(stray).collect(),
        summary: plan.summary().into(),
        cost: cost(plan),
        api: ApiView {
            calls: plan.api.calls,
            seconds: plan.api.seconds,
            quota_share: plan.api.quota_share.map(|per_cent| per_cent / 100.0),
            observed: plan.api.observed,
        },
        diagnostics: unread.iter().cloned().chain(diagnostics(plan)).collect(),
    }
}

/// What is refused, as JSON has it.
pub fn held(plan: &Plan) -> Vec<HeldView> {
    let view = |held: &crate::plan::Held| HeldView {
        about: held.about.clone(),
        count: held.count,
        reason: held.reason.to_string(),
        reason_code: held.reason.code().into(),
        warning: held.warning,
    };
    plan.held.iter().map(view).collect()
}

/// The warnings among what is held, and the guards that the plan breaks.
pub fn diagnostics(plan: &Plan) -> Vec<DiagnosticView> {
    let warned = plan.held.iter().filter(|held| held.warning);
    let held =
        warned.map(|held| DiagnosticView::warning(format!("{}: held", held.about), held.reason.to_string()));
    let broken = plan.breaches.iter().map(|breach| {
        let then = if breach.allowed { "allowed" } else { "refused" };
        let rule = sections::guard(breach.rule);
        DiagnosticView::warning(format!("{rule}: {then}"), breach.what.clone())
    });
    held.chain(broken).collect()
}

fn breach(breach: &Breach) -> BreachView {
    BreachView {
        rule: sections::guard(breach.rule).into(),
        what: breach.what.clone(),
        allowed: breach.allowed,
    }
}

/// A drift as JSON has it.
pub(super) fn drift(drift: &Drift) -> DriftView {
    let field = |change: &crate::model::kind::Change| FieldView {
        field: change.field.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
    };
    let fate = match drift.fate {
        DriftFate::Repaired => "repaired",
        DriftFate::Replaced => "replaced",
        DriftFate::Shown => "shown",
    };
    DriftView {
        address: drift.address.to_string(),
        what: drift.what.clone(),
        changes: drift.changes.iter().map(field).collect(),
        fate: fate.into(),
    }
}

fn changes(plan: &Plan) -> Vec<ChangeView> {
    let mut replaces = replaces(plan);
    let actions = plan.actions.iter();
    actions
        .map(|action| ChangeView {
            replaces: replaces.remove(&action.id),
            ..change(action)
        })
        .collect()
}

fn change(action: &Action) -> ChangeView {
    let change = Change::of(&action.verb);
    let before = action.before.as_deref().map(of_record);
    let after = after(action, before.as_ref());
    let ladder = match &action.verb {
        Verb::Create { ladder, .. } => ladder.iter().map(rung).collect(),
        _ => Vec::new(),
    };
    ChangeView {
        address: action.address.to_string(),
        kind: action.address.kind.to_string(),
        actions: vec![change.as_str().into()],
        verb: action.verb.as_str().into(),
        reason: action.reason.to_string(),
        reason_code: action.reason.code().into(),
        replaces: None,
        ladder,
        before,
        after,
    }
}

fn after(action: &Action, before: Option<&ResourceView>) -> Option<ResourceView> {
    match &action.verb {
        Verb::Create { ladder, .. } => ladder.first().map(|rung| {
            let mut view = of_spec(&rung.spec, rung.provider.as_str());
            priced(&mut view, rung.price.as_ref());
            view.hash = Some(rung.hash.to_string());
            view
        }),
        Verb::Adopt { record, .. } | Verb::Relabel { record, .. } => Some(of_record(record)),
        Verb::Update { have, want, .. } => {
            let mut view = of_spec(want, have.target.provider.as_str());
            view.id = Some(have.target.id.to_string());
            view.created_at = Some(have.created_at);
            Some(view)
        }
        Verb::Cordon { .. } | Verb::Uncordon { .. } | Verb::Hook { .. } => before.cloned(),
        Verb::Retire { .. }
        | Verb::Delete { .. }
        | Verb::Forget { .. }
        | Verb::Unregister { .. }
        | Verb::Abandon { .. } => None,
    }
}

fn rung(rung: &Rung) -> RungView {
    let offering = rung.offering.as_ref();
    RungView {
        provider: rung.provider.to_string(),
        machine_type: offering.map(|key| key.machine_type.clone()),
        location: offering.map(|key| key.location.clone()),
        market: offering.map(|key| key.market),
        price_hourly: rung.price.as_ref().map(|price| decimal(price.hourly.amount)),
        currency: rung.price.as_ref().map(|price| price.hourly.currency.to_string()),
        hash: rung.hash.to_string(),
    }
}

fn stray(stray: &Stray) -> StrayView {
    StrayView {
        provider: stray.target.provider.to_string(),
        kind: stray.target.kind.to_string(),
        id: stray.target.id.to_string(),
        name: stray.name.clone(),
        lineage: stray.lineage.as_ref().map(ToString::to_string),
        price_hourly: stray.price.as_ref().map(|price| decimal(price.amount)),
        currency: stray.price.as_ref().map(|price| price.currency.to_string()),
        reason: stray.reason.to_string(),
        reason_code: stray.reason.code().into(),
    }
}

fn cost(plan: &Plan) -> CostView {
    let hours = paired(&plan.cost.before_hourly, &plan.cost.after_hourly);
    let months = paired(&plan.cost.before_monthly, &plan.cost.after_monthly);
    let amounts = |hour: &Money, month: Option<&Money>| AmountsView {
        hourly: decimal(hour.amount),
        monthly: month.map_or_else(|| "0".into(), |month| decimal(month.amount)),
    };
    let mut views = hours.iter().map(|(before, after)| {
        let month = months.iter().find(|(month, _)| month.currency == after.currency);
        CostView {
            currency: Some(after.currency.to_string()),
            before: amounts(before, month.map(|(before, _)| before)),
            after: amounts(after, month.map(|(_, after)| after)),
            others: Vec::new(),
        }
    });
    let nothing = || AmountsView {
        hourly: "0".into(),
        monthly: "0".into(),
    };
    let first = views.next().unwrap_or_else(|| CostView {
        currency: None,
        before: nothing(),
        after: nothing(),
        others: Vec::new(),
    });
    let others = views.collect();
    CostView { others, ..first }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl From<Summary> for SummaryView {
    fn from(summary: Summary) -> Self {
        let Summary {
            create,
            update,
            replace,
            delete,
            forget,
            cordon,
            hook,
        } = summary;
        Self {
            create,
            update,
            replace,
            delete,
            forget,
            cordon,
            hook,
        }
    }
}

/// The pool's name in an address, as JSON has it.
pub(super) fn pool_of(address: &Address) -> Option<String> {
    address.pool.as_ref().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn the_document_of_a_plan_has_the_keys_that_were_promised() {
        let json = serde_json::to_value(plan(&fixture::plan(), &[])).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        let promised = "format_version complete stack lineage serial expires changes held breaches drift orphans foreign \
                        released summary cost api diagnostics";
        assert_eq!(keys, promised.split_whitespace().collect::<Vec<_>>());
        insta::assert_json_snapshot!(json["changes"][1], @r#"
        {
          "address": "machine.linux/brave-otter",
          "kind": "machine",
          "actions": [
            "create"
          ],
          "verb": "create",
          "reason": "5 queued and 1 running jobs want 3 runners",
          "reason_code": "demand",
          "replaces": null,
          "ladder": [
            {
              "provider": "hetzner",
              "type": "cx33",
              "location": "nbg1",
              "market": "on-demand",
              "price_hourly": "0.0095",
              "currency": "EUR",
              "hash": "abc"
            },
            {
              "provider": "hetzner",
              "type": "cx33",
              "location": "fsn1",
              "market": "on-demand",
              "price_hourly": "0.0095",
              "currency": "EUR",
              "hash": "abc"
            }
          ],
          "before": null,
          "after": {
            "provider": "hetzner",
            "id": null,
            "name": "prod-linux-brave-otter",
            "type": "cx33",
            "location": "nbg1",
            "image": "debian-12",
            "public_ipv4": true,
            "ssh_keys": [
              "ops"
            ],
            "firewalls": [
              "default"
            ],
            "price_hourly": "0.0095",
            "currency": "EUR",
            "hash": "abc"
          }
        }
        "#);
        insta::assert_json_snapshot!(json["cost"], @r#"
        {
          "currency": "EUR",
          "before": {
            "hourly": "0.019",
            "monthly": "13.87"
          },
          "after": {
            "hourly": "0.0285",
            "monthly": "20.805"
          }
        }
        "#);
    }

    #[test]
    fn the_document_of_a_plan_is_valid_by_its_schema() {
        let schema = serde_json::to_value(schemars::schema_for!(PlanDocument)).unwrap();
        let json = serde_json::to_value(plan(&fixture::plan(), &[])).unwrap();
        jsonschema::validate(&schema, &json).unwrap();
    }
}
