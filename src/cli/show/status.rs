//! `status`: who is doing what, and what it costs.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        demand::{JobState, Wanted},
        ids::{Address, PoolName, ResourceKind},
        intent::{Intent, OpenIntent},
        money::{Currency, Money},
        offering::OfferingKey,
        reason::Reason,
        resource::ResourceSpec,
        runner::RunnerState,
        snapshot::Snapshot,
        state::{Phase, Record},
    },
    plan::{Action, Kept, Plan, Verb},
};

use super::{
    FORMAT_VERSION, Paint, counted, decimal,
    document::DiagnosticView,
    hourly, monthly,
    strays::StraysView,
    table::{Cell, Table},
};

/// What `status --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StatusDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// The state's serial.
    pub serial: u64,
    /// By pool, as declared; pools that left the stack file and still have runners come last.
    pub pools: Vec<PoolView>,
    /// What has no record: orphans and foreign resources; empty when there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub strays: Vec<StraysView>,
    /// What runs now costs.
    pub cost: FleetCost,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// The size that it should have.
    pub target: u32,
    /// Jobs that wait for it.
    pub queued: u32,
    /// Jobs that run on it.
    pub running: u32,
    /// Its machines, in order of name.
    pub runners: Vec<RunnerDocument>,
}

/// A runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RunnerDocument {
    /// Its short name.
    pub name: String,
    /// The cloud's id of its machine; null while that is unknown.
    pub id: Option<String>,
    /// The provider's key in the stack file.
    pub provider: String,
    /// The machine type.
    #[serde(rename = "type")]
    pub machine_type: Option<String>,
    /// The location.
    pub location: Option<String>,
    /// Where it stands.
    pub state: RunnerState,
    /// Whether it runs jobs; null where that is unknown.
    pub busy: Option<bool>,
    /// What an hour costs, as a decimal string.
    pub price_hourly: Option<String>,
    /// The price's currency.
    pub currency: Option<String>,
    /// Until when it is paid; null where that is unknown.
    #[schemars(with = "Option<String>")]
    pub paid_until: Option<Timestamp>,
    /// Why it is kept, or what is about to be done to it, for a person.
    pub reason: Option<String>,
    /// The same for a program; `docs/reasons.md` lists the codes.
    pub reason_code: Option<String>,
}

/// What the fleet costs now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FleetCost {
    /// Per hour, as a decimal string.
    pub hourly: String,
    /// Per month of 730 hours, caps respected.
    pub monthly: String,
    /// The currency; null when nothing runs and no offering says.
    pub currency: Option<String>,
    /// Sums in further currencies, where providers bill in several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub others: Vec<FleetCost>,
}

/// The document of a stack's present; `base` is what its sums are in where that is said.
pub fn status(plan: &Plan, snapshot: &Snapshot, base: Option<&Currency>) -> StatusDocument {
    let mut runners = runners(plan, snapshot);
    let mut pools: Vec<PoolView> = plan
        .pools
        .iter()
        .map(|pool| PoolView {
            name: pool.name.to_string(),
            target: pool.target,
            queued: pool.queued,
            running: pool.running,
            runners: runners.remove(&pool.name).unwrap_or_default(),
        })
        .collect();
    pools.extend(runners.into_iter().map(|(name, runners)| PoolView {
        name: name.to_string(),
        target: 0,
        queued: 0,
        running: 0,
        runners,
    }));
    StatusDocument {
        format_version: FORMAT_VERSION.into(),
        complete: plan.complete,
        stack: plan.stack.to_string(),
        serial: snapshot.state.serial.0,
        pools,
        strays: super::strays::strays(plan),
        cost: cost(plan, snapshot, base),
    }
}

/// Says of what is unfinished that it is in progress elsewhere, where another holds the lock: then nothing was lost.
pub fn in_progress(document: &mut StatusDocument, holder: &str) {
    let reason = Reason::InProgress {
        by: holder.to_owned(),
    };
    let unfinished = [
        Reason::Adopted.code(),
        Reason::Unfinished.code(),
        "unsettled",
        "never_made",
    ];
    let runners = document.pools.iter_mut().flat_map(|pool| &mut pool.runners);
    for runner in runners {
        let told = runner.reason_code.as_deref();
        if told.is_some_and(|code| unfinished.contains(&code)) || runner.state == RunnerState::Creating {
            runner.reason = Some(reason.to_string());
            runner.reason_code = Some(reason.code().to_owned());
        }
    }
}

/// The same as a person reads it.
pub fn text(document: &StatusDocument, unread: &[DiagnosticView], paint: Paint) -> String {
    let runners: usize = document.pools.iter().map(|pool| pool.runners.len()).sum();
    let mut out = String::with_capacity(512 + runners * 120);
    let (bold, dim) = (paint.bold(), paint.dim());
    let _ = writeln!(
        out,
        "{bold}Stack {}{bold:#} {dim}(serial {}){dim:#}: {}, {}",
        document.stack,
        document.serial,
        counted(runners, "runner"),
        cost_text(&document.cost)
    );
    super::plan::warnings(&mut out, document.complete, unread, paint);
    for pool in &document.pools {
        let _ = writeln!(
            out,
            "\n{bold}{}{bold:#}: target {}, {} queued, {} running, {}",
            pool.name,
            pool.target,
            pool.queued,
            pool.running,
            counted(pool.runners.len(), "runner")
        );
        if !pool.runners.is_empty() {
            pool_table(pool, paint).write(&mut out, "  ");
        }
    }
    super::strays::write(&mut out, &document.strays, paint);
    out
}

fn pool_table(pool: &PoolView, paint: Paint) -> Table<8> {
    let dim = paint.dim();
    let mut table = Table::new();
    table.row(
        [
            "RUNNER",
            "ID",
            "STATE",
            "BUSY",
            "WHERE",
            "PRICE/H",
            "PAID UNTIL",
            "WHY",
        ]
        .map(|title| Cell::styled(title, dim)),
    );
    for runner in &pool.runners {
        let busy = match runner.busy {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let place = [Some(runner.provider.as_str()), runner.location.as_deref()];
        let place: Vec<&str> = place.into_iter().flatten().collect();
        let machine_type = runner.machine_type.as_deref().unwrap_or_default();
        let state = match runner.state {
            RunnerState::Failed => paint.error(),
            RunnerState::Idle | RunnerState::Busy => paint.good(),
            _ => paint.warning(),
        };
        let price = match (&runner.price_hourly, &runner.currency) {
            (Some(price), Some(currency)) => format!("{price} {currency}")
                .parse::<Money>()
                .map(|money| format!("{:.4} {}", money.amount.round_dp(4), money.currency))
                .unwrap_or_default(),
            _ => String::new(),
        };
        let paid = runner
            .paid_until
            .map(|until| until.strftime("%H:%M:%SZ").to_string());
        table.row([
            runner.name.clone().into(),
            runner.id.clone().unwrap_or_default().into(),
            Cell::styled(runner.state.as_str(), state),
            busy.into(),
            format!("{} {machine_type}", place.join("/")).into(),
            Cell::right(price),
            paid.unwrap_or_default().into(),
            Cell::styled(runner.reason.clone().unwrap_or_default(), dim),
        ]);
    }
    table
}

fn cost_text(cost: &FleetCost) -> String {
    let one = |cost: &FleetCost| {
        let Some(currency) = &cost.currency else {
            return "nothing to pay".to_owned();
        };
        let money = |amount: &str| format!("{amount} {currency}").parse::<Money>().ok();
        let hour = money(&cost.hourly)
            .map(|money| hourly(&money))
            .unwrap_or_default();
        let month = money(&cost.monthly)
            .map(|money| monthly(&money))
            .unwrap_or_default();
        format!("{hour}, {month}")
    };
    let all: Vec<String> = std::iter::once(cost).chain(&cost.others).map(one).collect();
    all.join("; ")
}

fn cost(plan: &Plan, snapshot: &Snapshot, base: Option<&Currency>) -> FleetCost {
    let months = &plan.cost.before_monthly;
    let mut sums = plan.cost.before_hourly.iter().map(|hour| {
        let month = months.iter().find(|month| month.currency == hour.currency);
        FleetCost {
            hourly: decimal(hour.amount),
            monthly: month.map_or_else(|| "0".into(), |month| decimal(month.amount)),
            currency: Some(hour.currency.to_string()),
            others: Vec::new(),
        }
    });
    let first = sums.next().unwrap_or_else(|| FleetCost {
        hourly: "0".into(),
        monthly: "0".into(),
        currency: base
            .map(Currency::to_string)
            .or_else(|| offered_currency(snapshot)),
        others: Vec::new(),
    });
    let others = sums.collect();
    FleetCost { others, ..first }
}

fn offered_currency(snapshot: &Snapshot) -> Option<String> {
    let mut offerings = snapshot.clouds.values().flat_map(|cloud| &cloud.offerings);
    offerings
        .next()
        .map(|offering| offering.price.hourly.currency.to_string())
}

/// What the plan says of each address.
struct Said<'a> {
    kept: BTreeMap<&'a Address, &'a Kept>,
    actions: BTreeMap<&'a Address, &'a Action>,
    busy: BTreeMap<(&'a str, &'a str), bool>,
}

fn runners(plan: &Plan, snapshot: &Snapshot) -> BTreeMap<PoolName, Vec<RunnerDocument>> {
    let said = Said {
        kept: plan.kept.iter().map(|kept| (&kept.address, kept)).collect(),
        actions: plan
            .actions
            .iter()
            .filter(|action| !matches!(action.verb, Verb::Hook { .. }))
            .map(|action| (&action.address, action))
            .collect(),
        busy: busy(snapshot),
    };
    let mut found: BTreeMap<PoolName, Vec<RunnerDocument>> = BTreeMap::new();
    let mut add = |address: &Address, runner: RunnerDocument| {
        if let Some(pool) = &address.pool {
            found.entry(pool.clone()).or_default().push(runner);
        }
    };
    for (address, record) in &snapshot.state.resources {
        if address.kind == ResourceKind::Machine {
            add(address, on_record(address, record, snapshot, &said));
        }
    }
    for open in &snapshot.open {
        if !snapshot.state.resources.contains_key(&open.address)
            && let Some(runner) = unfinished(open, &said)
        {
            add(&open.address, runner);
        }
    }
    for runners in found.values_mut() {
        runners.sort_by(|a, b| a.name.cmp(&b.name));
    }
    found
}

/// What the CI says of each registration: a running job makes it busy, whatever its flag says.
fn busy(snapshot: &Snapshot) -> BTreeMap<(&str, &str), bool> {
    let mut busy = BTreeMap::new();
    for (ci, demand) in &snapshot.demand {
        for runner in &demand.runners {
            if let Some(flag) = runner.busy {
                busy.insert((ci.as_str(), runner.registration.as_str()), flag);
            }
        }
        if let Wanted::Jobs(jobs) = &demand.wanted {
            let running = jobs.iter().filter(|job| job.state == JobState::Running);
            for registration in running.filter_map(|job| job.runner.as_ref()) {
                busy.insert((ci.as_str(), registration.as_str()), true);
            }
        }
    }
    busy
}

fn on_record(address: &Address, record: &Record, snapshot: &Snapshot, said: &Said<'_>) -> RunnerDocument {
    let kept = said.kept.get(address);
    let action = said.actions.get(address);
    let flag = match (&record.ci, &record.registration) {
        (Some(ci), Some(registration)) => said.busy.get(&(ci.as_str(), registration.as_str())).copied(),
        _ => None,
    };
    let busy = kept.map_or(flag, |kept| kept.busy);
    let state = kept
        .and_then(|kept| kept.state)
        .unwrap_or_else(|| state_of(record, action.copied(), busy));
    let reason = kept
        .map(|kept| &kept.reason)
        .or(action.map(|action| &action.reason));
    let paid_until = kept.and_then(|kept| kept.paid_until).or_else(|| {
        let cloud = snapshot.clouds.get(&record.provider)?;
        let hourly = record.price.as_ref().map(|price| price.hourly.amount);
        let billing = cloud.profile.billing;
        Some(billing.paid_until(record.created_at, cloud.listing.now, hourly))
    });
    let price = record.price.as_ref().map(|price| &price.hourly);
    view(
        address,
        Some(record.id.to_string()),
        record.provider.as_str(),
        record.offering(),
        price,
        (state, busy, paid_until, reason),
    )
}

/// Where a machine stands that the plan acts on: the plan says what becomes of it, not what it is.
fn state_of(record: &Record, action: Option<&Action>, busy: Option<bool>) -> RunnerState {
    let cordoned = matches!(record.phase, Phase::Cordoned { .. });
    match action.map(|action| (&action.verb, &action.reason)) {
        Some((Verb::Forget { .. }, _)) => RunnerState::Gone,
        Some((_, Reason::NeverReady { .. } | Reason::Broken { .. })) => RunnerState::Failed,
        Some((_, Reason::Ended)) => RunnerState::Ended,
        Some((_, Reason::Unfinished)) => RunnerState::Deleting,
        _ if cordoned && busy == Some(true) => RunnerState::Draining,
        _ if cordoned => RunnerState::Cordoned,
        _ if busy == Some(true) => RunnerState::Busy,
        _ => RunnerState::Idle,
    }
}

fn unfinished(open: &OpenIntent, said: &Said<'_>) -> Option<RunnerDocument> {
    let Intent::Create {
        spec: ResourceSpec::Machine(spec),
        provider,
        price,
        ..
    } = &open.intent
    else {
        return None;
    };
    let action = said.actions.get(&open.address);
    let id = match action.map(|action| &action.verb) {
        Some(Verb::Adopt { record, .. }) => Some(record.id.to_string()),
        _ => None,
    };
    let price = price.as_ref().map(|price| &price.hourly);
    Some(view(
        &open.address,
        id,
        provider.as_str(),
        Some(&spec.offering),
        price,
        (
            RunnerState::Creating,
            None,
            None,
            action.map(|action| &action.reason),
        ),
    ))
}

fn view(
    address: &Address,
    id: Option<String>,
    provider: &str,
    offering: Option<&OfferingKey>,
    price: Option<&Money>,
    (state, busy, paid_until, reason): (RunnerState, Option<bool>, Option<Timestamp>, Option<&Reason>),
) -> RunnerDocument {
    RunnerDocument {
        name: address.name.clone(),
        id,
        provider: provider.to_owned(),
        machine_type: offering.map(|key| key.machine_type.clone()),
        location: offering.map(|key| key.location.clone()),
        state,
        busy,
        price_hourly: price.map(|price| decimal(price.amount)),
        currency: price.map(|price| price.currency.to_string()),
        paid_until,
        reason: reason.map(ToString::to_string),
        reason_code: reason.map(|reason| reason.code().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn every_machine_is_shown_with_where_it_stands() {
        let document = status(&fixture::plan(), &fixture::snapshot(), None);
        insta::assert_snapshot!(text(&document, &[], Paint::PLAIN), @"
        Stack prod (serial 0): 6 runners, 0.0190 EUR/h, 13.87 EUR/month

        linux: target 1, 0 queued, 1 running, 6 runners
          RUNNER     ID  STATE     BUSY  WHERE              PRICE/H     PAID UNTIL  WHY
          calm-fox   41  busy      yes   hetzner/nbg1 cx33  0.0095 EUR  02:20:00Z   runs 1 job
          dry-hare   42  idle      no    hetzner/nbg1 cx33  0.0095 EUR  02:20:00Z   paid until 02:20:00Z
          lost-seal  45  gone      ?     hetzner/nbg1 cx33  0.0095 EUR  02:20:00Z   the cloud does not have it any more
          new-moth       creating  ?     hetzner/nbg1 cx33  0.0095 EUR
          old-crab   43  idle      no    hetzner/nbg1 cx33  0.0095 EUR  02:20:00Z   idle, and paid until 01:31:00Z
          tall-newt  44  busy      yes   hetzner/nbg1 cx33  0.0095 EUR  02:20:00Z   above max = 3

        Orphans: 1 resource of our lineage without a record, 0.0095 EUR/h: removed when two ticks have seen them, and nothing runs on them. Type: runfleet -s prod adopt
        Foreign: 1 resource with our stack's name and another lineage, 0.0095 EUR/h: nothing is created while they are there. Type: runfleet -s prod adopt, or runfleet -s prod init --new-lineage
        ");
    }

    #[test]
    fn the_document_of_a_status_has_the_keys_that_were_promised_and_is_valid_by_its_schema() {
        let json = serde_json::to_value(status(&fixture::plan(), &fixture::snapshot(), None)).unwrap();
        let keys = |value: &serde_json::Value| {
            let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.join(" ")
        };
        assert_eq!(
            keys(&json),
            "format_version complete stack serial pools strays cost"
        );
        assert_eq!(keys(&json["pools"][0]), "name target queued running runners");
        assert_eq!(
            keys(&json["pools"][0]["runners"][0]),
            "name id provider type location state busy price_hourly currency paid_until reason reason_code"
        );
        assert_eq!(keys(&json["cost"]), "hourly monthly currency");
        let schema = serde_json::to_value(schemars::schema_for!(StatusDocument)).unwrap();
        jsonschema::validate(&schema, &json).unwrap();
    }

    #[test]
    fn what_another_process_has_in_hand_is_in_progress_and_not_lost() {
        let mut document = status(&fixture::plan(), &fixture::snapshot(), None);
        in_progress(&mut document, "scale of ci@runner-7");
        let runners = &document.pools[0].runners;
        let why = |name: &str| {
            let runner = runners.iter().find(|runner| runner.name == name).unwrap();
            runner.reason.clone().unwrap_or_default()
        };
        assert_eq!(why("new-moth"), "in progress by scale of ci@runner-7");
        assert_eq!(why("calm-fox"), "runs 1 job");
    }

    #[test]
    fn a_fleet_of_nothing_costs_nothing() {
        let mut plan = fixture::quiet();
        plan.cost.before_hourly.clear();
        let mut snapshot = fixture::snapshot();
        snapshot.state.resources.clear();
        snapshot.open.clear();
        let document = status(&plan, &snapshot, None);
        assert_eq!(document.cost.hourly, "0");
        assert!(text(&document, &[], Paint::PLAIN).contains("0 runners, nothing to pay"));
    }

    #[test]
    fn nothing_costs_nothing_in_the_stacks_own_currency() {
        let mut plan = fixture::plan();
        plan.cost.before_hourly.clear();
        plan.cost.before_monthly.clear();
        let base = Currency::new("CHF");
        let document = status(&plan, &fixture::snapshot(), Some(&base));
        assert_eq!(document.cost.hourly, "0");
        assert_eq!(document.cost.currency.as_deref(), Some("CHF"));
    }
}
