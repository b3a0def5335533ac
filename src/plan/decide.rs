//! From a snapshot to a plan: the parts in their order.
//!
//! A function of its input alone: no clock, no environment, no randomness but the seed. Linear in what was seen.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{
    Goal, Plan, PoolReport, Selection, batches,
    ceiling::Ceilings,
    cost,
    creates::{self, Maker},
    draft::Draft,
    drift,
    facts::Facts,
    fleet::{self, Machine},
    groups::Groups,
    guard, hooks,
    made::{self, Made},
    moved,
    names::Names,
    pool::{self, Beside, Standing},
    purse::Purse,
    recover::{self, InFlight},
    resize,
    roll::{self, Roll},
    shared::{self, Wished},
    strays::{self, Found},
};
use crate::{
    model::{
        demand::PassedOver,
        ids::{Address, PoolName},
        reason::Reason,
        snapshot::Snapshot,
    },
    placement::LaunchBudgets,
    render::TemplateSet,
    scaling,
    stack::{Pool, Stack},
};

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
    if moved::is_needed(snapshot, stack, goal) {
        let mut renamed = snapshot.clone();
        moved::apply(&mut renamed, stack, goal);
        return decide_on(&DecideInput {
            snapshot: &renamed,
            ..*input
        });
    }
    decide_on(input)
}

/// Decides, what was moved being at its new address.
fn decide_on(input: &DecideInput<'_>) -> Plan {
    let DecideInput {
        snapshot,
        stack,
        goal,
        ..
    } = *input;
    let facts = Facts::of(snapshot, stack);
    let mut draft = Draft::new(stack, input.selection);
    let machines = fleet::machines(&facts);
    let found = strays::find(&facts);
    let mut in_flight = recover::resolve(&facts, &machines, &mut draft);
    batches::count_unseen(&facts, &mut in_flight);
    moved::relabel(&facts, &mut draft);
    let mut wished = shared::wished(&facts);
    strays::beside_disowned(&facts, &found, &mut wished);
    let parts = Parts {
        input,
        facts: &facts,
        wished: &wished,
        machines: &machines,
        in_flight: &in_flight,
        found: &found,
    };
    let (reports, made, launch_budgets, groups) = parts.pools(&mut draft);
    for (name, own) in &machines {
        if goal == Goal::Converge && moved::present(stack, name).is_some() {
            moved::wait(&facts, name, own, &mut draft);
        } else if stack.pool(name).is_none() {
            pool::dissolve(&facts, name, own, goal, &mut draft);
        }
    }
    strays::judge(&facts, &found, goal, &mut draft);
    batches::settle(&facts, &mut draft);
    passed_over(snapshot, &mut draft);
    let (advised, made): (Vec<_>, Vec<_>) = made
        .into_iter()
        .partition(|machine| draft.is_advised(&machine.bootstrap.pool));
    let mut needed = made::needed(&made);
    if goal == Goal::Converge {
        needed.extend(parts.replace_shared(&mut draft));
    }
    for address in needed.keys().chain(made.iter().map(|machine| &machine.address)) {
        draft.scope.admit(address);
    }
    let mut all_wished = wished.clone();
    all_wished.extend(groups);
    let shared = shared::decide(&facts, &all_wished, &needed, &in_flight, &found, goal, &mut draft);
    made::push(made, &shared, &mut draft);
    made::push(advised, &shared, &mut draft);
    drift::find(&facts, goal, &mut draft);
    recover::hold_rest(&facts, &mut draft);
    draft.close_advice(&machines);
    draft.close_targets(&facts, &machines);
    if goal == Goal::Converge {
        hooks::after_ready(&facts, &machines, &mut draft);
    }

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
        released: draft.released,
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

/// Each pool's report, what is made, how many launches each offering has left, and the placement groups that are used.
type Pools = (
    Vec<PoolReport>,
    Vec<Made>,
    BTreeMap<String, u32>,
    BTreeMap<Address, Wished>,
);

/// What the steps of a decision share.
struct Parts<'a, 'f> {
    input: &'f DecideInput<'a>,
    facts: &'f Facts<'a>,
    wished: &'f BTreeMap<Address, Wished>,
    machines: &'f BTreeMap<&'a PoolName, Vec<Machine<'a>>>,
    in_flight: &'f InFlight,
    found: &'f Found<'a>,
}

impl<'a> Parts<'a, '_> {
    /// Every pool of the stack: first what each needs, then what is made, then who leaves. With what each offering may
    /// be asked for.
    fn pools(&self, draft: &mut Draft) -> Pools {
        let (facts, goal) = (self.facts, self.input.goal);
        let snapshot = facts.snapshot;
        let loads = scaling::loads(facts);
        let mut standing = Vec::new();
        for pool in &facts.stack.pools {
            let own = self
                .machines
                .get(&pool.name)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let mut beside = Beside {
                in_flight: self
                    .in_flight
                    .machines
                    .get(&pool.name)
                    .cloned()
                    .unwrap_or_default(),
                orphans: self.found.machines_of(&pool.name),
                load: loads.get(&pool.name).copied().unwrap_or_default(),
            };
            for was in moved::former(facts.stack, &pool.name) {
                let made = self.in_flight.machines.get(was).into_iter().flatten();
                beside.in_flight.extend(made.cloned());
                let waiting = self.machines.get(was).map(|own| moved::waiting(own));
                beside.in_flight.extend(waiting.unwrap_or_default());
                beside.orphans += self.found.machines_of(was);
            }
            let roll = self.roll(pool, own, draft);
            let pool = pool::begin(facts, pool, own, &beside, goal, &roll, draft);
            standing.push((pool, roll));
        }
        let budgets = launch_budgets(snapshot);
        let mut maker = Maker {
            facts,
            templates: self.input.templates,
            wished: self.wished,
            in_flight: self.in_flight,
            groups: Groups::of(facts, self.in_flight, self.found),
            names: Names::new(facts, self.input.seed),
            purse: Purse::new(facts, &cost::running(facts, self.in_flight, self.found)),
            limits: budgets.clone(),
            budgets,
            located: creates::located(self.machines, self.in_flight),
        };
        if let (false, Ok(count)) = (
            self.found.foreign.is_empty(),
            u32::try_from(self.found.foreign.len()),
        ) {
            draft.warn(&facts.stack.name, count, Reason::ForeignPresent { count });
        }
        // Those that are only advised on come last: they take no money or launches from those that act.
        let mut order: Vec<_> = standing.iter_mut().collect();
        order.sort_by_key(|(standing, _)| draft.is_advised(&standing.pool.name));
        let all = order.iter().map(|(standing, _)| standing);
        let mut ceilings = Ceilings::of(facts, all, self.machines);
        let mut made = Vec::new();
        for (standing, roll) in order {
            standing.licensed = ceilings.trim(&mut standing.wish, draft);
            let own = self.make(standing, roll, &mut maker, draft);
            let pool = standing.pool;
            let mut count = own.len();
            // A group's raise, or a batch, is one action for many.
            if pool.group.is_some() || pool.runs_tasks() {
                count = count.max(standing.wish.reasons.len());
            }
            ceilings.take(&pool.ci, u32::try_from(count).unwrap_or(u32::MAX));
            made.extend(own);
        }
        let limits = maker.limits.to_map();
        let groups = maker.groups.into_wished();
        let reports = standing
            .into_iter()
            .map(|(standing, roll)| pool::end(facts, standing, goal, &roll, draft))
            .collect();
        (reports, made, limits, groups)
    }

    /// Which of a pool's machines are to be made anew: where only some machines are targeted, only those.
    fn roll(&self, pool: &'a Pool, machines: &[Machine<'a>], draft: &mut Draft) -> Roll<'a> {
        let DecideInput {
            templates,
            selection,
            goal,
            ..
        } = *self.input;
        // A group's members are made by it, from its own launch template.
        // Containers that run once are made anew by themselves.
        if goal == Goal::Destroy || pool.group.is_some() || pool.runs_tasks() {
            return Roll::default();
        }
        for address in &selection.replace {
            if pool.keeping.protect && address.pool.as_ref() == Some(&pool.name) {
                draft.warn(address, 1, Reason::Protected);
            }
        }
        let targeted = machines.iter().filter(|m| draft.scope.covers(m.address));
        let targeted: Vec<&Machine<'_>> = targeted.collect();
        roll::stale(
            self.facts,
            templates,
            self.wished,
            pool,
            &targeted,
            &selection.replace,
        )
    }

    fn make(
        &self,
        standing: &Standing<'a, '_>,
        roll: &mut Roll<'a>,
        maker: &mut Maker<'a, '_>,
        draft: &mut Draft,
    ) -> Vec<Made> {
        let wish = &standing.wish;
        let may_create = self.found.foreign.is_empty();
        let mut made = Vec::new();
        if wish.pool.group.is_some() {
            if self.input.goal == Goal::Converge {
                let (pool, machines) = (wish.pool, standing.machines);
                resize::decide(self.facts, pool, machines, &wish.reasons, &mut maker.purse, draft);
            }
            return made;
        }
        if !draft.scope.covers_pool(&wish.pool.name) {
            draft.pass_over(u32::try_from(wish.reasons.len()).unwrap_or(u32::MAX));
        } else if may_create {
            made = maker.make(wish, draft);
        }
        if self.input.goal == Goal::Converge && standing.is_whole() {
            let create = u32::try_from(made.len()).unwrap_or(u32::MAX);
            let maker = may_create.then_some(maker);
            made.extend(roll::decide(standing, roll, create, maker, draft));
        }
        made
    }

    /// Shared resources that a person wants made anew, with who needs them.
    fn replace_shared(&self, draft: &mut Draft) -> BTreeMap<Address, PoolName> {
        let asked = self.input.selection.replace.iter();
        asked
            .filter(|address| address.kind.is_shared())
            .filter_map(|address| {
                let by = roll::replace_shared(
                    self.facts,
                    self.wished,
                    self.in_flight,
                    self.found,
                    address,
                    draft,
                )?;
                Some((address.clone(), by))
            })
            .collect()
    }
}

/// Says which jobs wait and are no demand.
fn passed_over(snapshot: &Snapshot, draft: &mut Draft) {
    for (ci, demand) in &snapshot.demand {
        for (why, jobs) in &demand.passed_over {
            let why = match why {
                PassedOver::HeldBack => "their CI holds them back",
                PassedOver::TooOld => "they have waited for longer than pending_max",
                PassedOver::NoPool => "no pool could run them",
            };
            let reason = Reason::PassedOver {
                jobs: *jobs,
                why: why.to_owned(),
            };
            draft.hold(ci, *jobs, reason);
        }
    }
}

fn launch_budgets(snapshot: &Snapshot) -> LaunchBudgets {
    let mut budgets = LaunchBudgets::default();
    for (offering, launches) in &snapshot.history.launch_budgets {
        budgets.limit(offering, *launches);
    }
    budgets
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
