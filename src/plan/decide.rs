//! From a snapshot to a plan: the parts in their order.
//!
//! A function of its input alone: no clock, no environment, no randomness but the seed. Linear in what was seen.

use super::{
    Drift, DriftFate, Goal, Plan, Selection, cost,
    creates::{self, Maker, Purse},
    draft::Draft,
    facts::Facts,
    fleet::{self, Machine, Presence},
    guard,
    names::Names,
    pool::{self, Beside},
    recover, shared, strays,
};
use crate::{
    model::{reason::Reason, snapshot::Snapshot},
    placement::LaunchBudgets,
    render::TemplateSet,
    scaling,
    stack::Stack,
};
use jiff::SignedDuration;

/// How long a saved plan is good for.
const EXPIRES_IN: SignedDuration = SignedDuration::from_hours(1);

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct DecideInput<'a> {
    /// What was seen; its history is the one that [`scaling::learn`] gave back.
    pub snapshot: &'a Snapshot,
    /// What is wished.
    pub stack: &'a Stack,
    /// What machines are made from.
    pub templates: &'a TemplateSet,
    /// Whether to converge or to remove everything.
    pub goal: Goal,
    /// What a person asked for beyond it.
    pub selection: &'a Selection,
    /// For names.
    pub seed: u64,
}

/// What should be done, and why.
pub fn decide(input: &DecideInput<'_>) -> Plan {
    let DecideInput {
        snapshot,
        stack,
        goal,
        ..
    } = *input;
    let facts = Facts::of(snapshot, stack);
    let mut draft = Draft::new(stack);
    let machines = fleet::machines(&facts);
    let found = strays::find(&facts);
    let in_flight = recover::resolve(&facts, &machines, &mut draft);
    let loads = scaling::loads(&facts);

    let mut reports = Vec::new();
    let mut wishes = Vec::new();
    for pool in &stack.pools {
        let beside = Beside {
            in_flight: in_flight.machines.get(&pool.name).cloned().unwrap_or_default(),
            orphans: found.machines_of(&pool.name),
        };
        let own = machines.get(&pool.name).map(Vec::as_slice).unwrap_or_default();
        let load = loads.get(&pool.name).copied().unwrap_or_default();
        let (report, wish) = pool::decide(&facts, pool, own, load, &beside, goal, &mut draft);
        reports.push(report);
        wishes.push(wish);
    }
    for (name, own) in &machines {
        if stack.pool(name).is_none() {
            pool::dissolve(&facts, name, own, goal, &mut draft);
        }
        drift(own, &mut draft);
    }
    strays::judge(&facts, &found, goal, &mut draft);

    let wished = shared::wished(&facts);
    let budgets = launch_budgets(snapshot);
    let mut maker = Maker {
        facts: &facts,
        templates: input.templates,
        wished: &wished,
        in_flight: &in_flight,
        names: Names::new(&facts, input.seed),
        purse: Purse::new(&facts, &cost::hourly(&facts, &in_flight, &found)),
        limits: budgets.clone(),
        budgets,
    };
    let mut made = Vec::new();
    if let (false, Ok(count)) = (found.foreign.is_empty(), u32::try_from(found.foreign.len())) {
        draft.warn(&stack.name, count, Reason::ForeignPresent { count });
    } else {
        // Those that are only advised on come last: they take no money or launches from those that act.
        let (advised, acting): (Vec<_>, Vec<_>) =
            wishes.iter().partition(|wish| draft.is_advised(&wish.pool.name));
        for wish in acting.into_iter().chain(advised) {
            made.extend(maker.make(wish, &mut draft));
        }
    }
    let launch_budgets = maker.limits.to_map();
    let (advised, made): (Vec<_>, Vec<_>) = made
        .into_iter()
        .partition(|machine| draft.is_advised(&machine.bootstrap.pool));
    let needed = creates::needed(&made);
    let shared = shared::decide(&facts, &wished, &needed, &in_flight, &found, goal, &mut draft);
    creates::push(made, &shared, &mut draft);
    creates::push(advised, &shared, &mut draft);
    recover::hold_rest(&facts, &mut draft);
    draft.close_advice(&machines);

    let cost = cost::cost(&facts, &in_flight, &found, &draft.actions);
    let plan = Plan {
        stack: stack.name.clone(),
        lineage: snapshot.state.lineage.clone(),
        serial: snapshot.state.serial,
        made_at: snapshot.now,
        api: cost::api(&facts, &draft.actions),
        complete: is_complete(&facts),
        kept: draft.kept,
        held: draft.held,
        pools: reports,
        drift: draft.drift,
        orphans: draft.orphans,
        foreign: draft.foreign,
        breaches: guard::breaches(
            &draft.actions,
            &cost,
            &snapshot.state,
            stack,
            goal,
            input.selection,
        ),
        cost,
        actions: draft.actions,
        launch_budgets,
        expires_in: EXPIRES_IN,
    };
    #[cfg(debug_assertions)]
    {
        let violations = super::invariants::check(&plan, snapshot, stack);
        debug_assert!(violations.is_empty(), "{violations:#?}");
    }
    plan
}

fn launch_budgets(snapshot: &Snapshot) -> LaunchBudgets {
    let mut budgets = LaunchBudgets::default();
    for (offering, launches) in &snapshot.history.launch_budgets {
        budgets.limit(offering, *launches);
    }
    budgets
}

/// What someone else changed of a machine, other than switching it off, which is acted on.
fn drift(machines: &[Machine<'_>], draft: &mut Draft) {
    for machine in machines {
        let Presence::Here(seen) = machine.presence else {
            continue;
        };
        let mut what = Vec::new();
        if let (Some(have), Some(want)) = (&seen.offering, machine.record.offering())
            && have.machine_type != want.machine_type
        {
            what.push(format!("type: {} -> {}", want.machine_type, have.machine_type));
        }
        if seen.name != machine.record.name {
            what.push(format!("name: {} -> {}", machine.record.name, seen.name));
        }
        if seen.claimed().is_none() {
            what.push("labels: our claim is gone".to_owned());
        }
        if !what.is_empty() {
            draft.drift.push(Drift {
                address: machine.address.clone(),
                what: what.join(", "),
                changes: Vec::new(),
                fate: DriftFate::Shown,
            });
        }
    }
}

fn is_complete(facts: &Facts<'_>) -> bool {
    let snapshot = facts.snapshot;
    let clouds = facts.stack.providers.keys().chain(snapshot.clouds.keys());
    let cis = facts.stack.ci.keys().chain(snapshot.demand.keys());
    clouds
        .into_iter()
        .all(|provider| facts.cloud_gap(provider).is_none())
        && cis.into_iter().all(|ci| facts.demand_gap(ci).is_none())
        && snapshot
            .clouds
            .values()
            .all(|cloud| cloud.offerings_complete.is_complete())
}
