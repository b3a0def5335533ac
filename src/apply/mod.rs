//! Carries a plan out: walks its graph with bounded concurrency, the intent durable before each call and the outcome
//! after it.
//!
//! # Expected flow
//! Every action whose prerequisites have ended well is started, up to the provider's concurrency, the head of the
//! longest chain first. A create tries its ladder's rungs in order, without those for which a key, a network, a
//! firewall or a placement group could not be made; a retire cordons, waits the CI's settle time, reads the runner's jobs again, and deletes
//! only when that reading shows none.
//!
//! # Guarantees
//! Nothing is decided here that the plan did not decide: the ladder's next rung comes from `placement::next`. A call
//! whose outcome is unknown leaves its intent open, and the next tick's listing tells. Once a stop is requested no
//! action is begun; what is in flight ends or is recorded. A crash at any point leaves a journal that the next tick
//! resolves.
//!
//! # Assumptions
//! The caller holds the stack's lock, and the plan was made from the state that the store holds.

mod calm;
mod clock;
mod create;
mod events;
mod hook;
mod ledger;
mod pause_all;
mod retire;
mod simple;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::Semaphore, time::Instant};

use self::ledger::Ledger;
pub use self::{
    clock::{Clock, Stop},
    events::{Applied, Event, Failed, Reporter},
    ledger::{LedgerError, random_hex},
};
use crate::{
    demand::RunnerControl,
    graph::{Graph, GraphError, Schedule},
    hooks::Caller,
    journal::{Fold, Folded},
    model::{
        ids::{Address, CiName, PoolName, ProviderName, Serial},
        reason::Reason,
        resource::ClaimLabels,
        snapshot::Snapshot,
        state::{History, Refusal, Written},
    },
    placement::{LaunchBudgets, Refused},
    plan::{Action, Held, Plan, Tally, Verb},
    provider::Provider,
    render::{Prepared, RenderError, TemplateSet},
    stack::{Stack, hooks::Moment},
    state::{Lease, StateError, StateStore},
};

/// Actions in progress at once, over all providers: bounds memory. A create waits for minutes without calling anybody,
/// so this is far above what is called at once, which each client bounds.
const AT_ONCE: usize = 4096;
/// Actions per provider that may be at their calls, for each call that its client makes at once: while one is at the
/// cloud, another is at the CI, and a third waits for the disk.
const SLOTS_PER_CALL: usize = 3;

/// The longest that a call to a CI may take, retries included (`tick::connect`); a cloud says its own.
const CI_CALL: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

/// What went wrong with the record itself; no single action's failure.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The plan's dependencies do not make an order.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Nothing may be done that cannot be recorded.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was done could not be recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Everything that applying needs.
#[derive(Debug)]
pub struct Context<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// Its templates.
    pub templates: &'a TemplateSet,
    /// By their keys in the stack file.
    pub providers: &'a BTreeMap<ProviderName, Arc<dyn Provider>>,
    /// By their keys in the stack file.
    pub control: &'a BTreeMap<CiName, Arc<dyn RunnerControl>>,
    /// Carries the pools' hooks out.
    pub hooks: &'a dyn Caller,
    /// Where the state is.
    pub store: &'a dyn StateStore,
    /// The lock that is held.
    pub lease: Option<&'a Lease>,
    /// Our clock.
    pub clock: Clock,
    /// Whether the journal already extends the state on disk.
    pub has_journal: bool,
    /// Whether the stack has no state on disk yet.
    pub is_new: bool,
}

impl Context<'_> {
    /// Who writes the state now; none where nobody holds the lock, in tests.
    fn written(&self) -> Option<Written> {
        let lease = self.lease?;
        Some(Written::by(&lease.info, self.clock.now()))
    }
}

/// How one action ended.
enum End {
    Done {
        id: Option<String>,
    },
    /// Some of a batch were started, fewer than were asked for.
    Some {
        id: String,
        made: u32,
    },
    Failed {
        why: String,
    },
    Held {
        reason: Reason,
    },
    /// The outcome is unknown; the intent stays open.
    Open {
        why: String,
    },
    /// A stop was asked for before anything that matters was sent.
    Stopped,
}

/// A rung that cannot be used, since something that it needs could not be made.
struct Lost<'a> {
    at: usize,
    lacks: &'a Address,
}

/// What the actions of one apply share.
struct Run<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan,
    ledger: Ledger<'a>,
    reporter: &'a dyn Reporter,
    stop: &'a Stop,
    slots: BTreeMap<ProviderName, Semaphore>,
    /// The templates of the pools in which machines are made.
    prepared: BTreeMap<PoolName, Result<Prepared<'a>, RenderError>>,
    placement: Mutex<Placement>,
    /// What is paused so that machines may leave.
    pauses: pause_all::Pauses,
    /// Groups whose members leave.
    groups: calm::Groups<'a>,
    /// What hooks need, and what came of them.
    hooks: hook::Hooks<'a>,
}

/// What this apply has learnt of offerings.
struct Placement {
    refused: Refused,
    refusals: Vec<Refusal>,
    budgets: LaunchBudgets,
}

/// Carries the plan out. Returns when everything begun has ended, and the state is saved.
///
/// # Errors
/// When the state cannot be read or written: then nothing more is begun. A failed action is no error; it is in
/// [`Applied::failed`].
pub async fn apply(
    context: &Context<'_>,
    plan: &Plan,
    snapshot: &Snapshot,
    fold: &Fold,
    reporter: &dyn Reporter,
    stop: &Stop,
) -> Result<Applied, ApplyError> {
    let mut base = snapshot.state.serial;
    let owes = hook::is_outage_owed(context, snapshot);
    if plan.is_noop() && !context.has_journal && snapshot.state.pauses.is_empty() && !owes {
        context.store.save_history(&snapshot.history).await?;
        return Ok(Applied {
            serial: base.0,
            ..Applied::default()
        });
    }
    if context.is_new {
        // The lineage must be on disk before anything carries it.
        // As the journal has it: the snapshot's has the members of groups, too.
        let mut state = fold.state().clone();
        state.serial = base.next();
        state.written = context.written();
        context.store.save(&state, base).await?;
        base = state.serial;
    }
    let graph = Graph::of(&plan.actions)?;
    let run = Run {
        context,
        plan,
        ledger: Ledger::new(context.store, base, fold.clone(), context.clock.clone()),
        reporter,
        stop,
        slots: context
            .providers
            .iter()
            .map(|(name, provider)| {
                (
                    name.clone(),
                    Semaphore::new(SLOTS_PER_CALL * provider.profile().concurrency.max(1)),
                )
            })
            .collect(),
        prepared: create::prepared(context, plan),
        placement: Mutex::new(Placement {
            refused: Refused::default(),
            refusals: Vec::new(),
            budgets: LaunchBudgets::of(&plan.launch_budgets),
        }),
        pauses: pause_all::Pauses::default(),
        groups: calm::Groups::of(snapshot),
        hooks: hook::Hooks::of(context, snapshot),
    };
    let mut applied = Applied::default();
    run.ledger.supersede().await?;
    run.lift_leftovers().await?;
    run.resume_leftovers().await?;
    run.tell_outages().await;
    let mut broken = run.walk(graph.schedule(), &mut applied).await;
    if let Err(error) = run.stir().await {
        broken.get_or_insert(error);
    }
    let result = run.close(base, snapshot, &mut applied).await;
    match broken {
        Some(error) => Err(error.into()),
        None => result.map(|()| applied),
    }
}

impl Run<'_> {
    /// Runs every action that may run. Answers with the error that made recording impossible, if one did.
    async fn walk(&self, mut schedule: Schedule<'_>, applied: &mut Applied) -> Option<LedgerError> {
        let mut running = FuturesUnordered::new();
        let tallies = self.plan.tallies();
        let mut broken = None;
        let mut told = false;
        let mut begun = 0_usize;
        loop {
            let halted = self.stop.requested() || broken.is_some();
            while !halted && running.len() < AT_ONCE {
                let Some(id) = schedule.next_ready() else {
                    break;
                };
                begun += 1;
                let action = &self.plan.actions[id.0 as usize];
                // Everything that a rung needs has ended by now, so that this is certain.
                let lost = self.lost(&schedule, action);
                running.push(async move { (id, self.act(action, &lost).await) });
            }
            if halted && !told && !running.is_empty() {
                told = true;
                self.reporter.event(&Event::Draining { left: running.len() });
            }
            let Some((id, ended)) = running.next().await else {
                break;
            };
            let action = &self.plan.actions[id.0 as usize];
            let ok = match ended {
                Ok(end) => Self::tally(action, tallies[id.0 as usize], end, applied),
                Err(error) => {
                    applied.failed.push(Failed {
                        address: action.address.clone(),
                        verb: action.verb.as_str(),
                        why: error.to_string(),
                    });
                    broken.get_or_insert(error);
                    false
                }
            };
            for skipped in schedule.done(id, ok) {
                applied.skipped += 1;
                begun += 1;
                self.reporter.event(&Event::Skipped {
                    action: &self.plan.actions[skipped.0 as usize],
                    because: &action.address,
                });
            }
        }
        let left = self.plan.actions.len() - begun;
        applied.skipped += u32::try_from(left).unwrap_or(u32::MAX);
        applied.interrupted =
            self.stop.requested() && (applied.skipped > 0 || applied.open > 0 || !applied.held.is_empty());
        broken
    }

    /// The rungs of a create that cannot be used, each with what it lacks.
    fn lost(&self, schedule: &Schedule<'_>, action: &Action) -> Vec<Lost<'_>> {
        let Verb::Create { ladder, .. } = &action.verb else {
            return Vec::new();
        };
        let lost = ladder.iter().enumerate().filter_map(|(at, rung)| {
            let lacks = schedule.lacks(rung)?;
            let lacks = &self.plan.actions[lacks.0 as usize].address;
            Some(Lost { at, lacks })
        });
        lost.collect()
    }

    /// Counts how an action ended; answers whether what waits for it may begin.
    fn tally(action: &Action, tally: Tally, end: End, applied: &mut Applied) -> bool {
        match end {
            End::Done { .. } => {
                let all = u32::try_from(action.verb.count()).unwrap_or(u32::MAX);
                applied.done.add(tally, all);
                true
            }
            End::Some { made, .. } => {
                applied.done.add(tally, made);
                true
            }
            End::Stopped => {
                applied.skipped += 1;
                false
            }
            End::Failed { why } => {
                applied.failed.push(failed(action, why));
                false
            }
            End::Open { why } => {
                applied.open += 1;
                applied.failed.push(failed(action, why));
                false
            }
            End::Held { reason } => {
                applied.held.push(Held {
                    about: action.address.to_string(),
                    count: 1,
                    reason,
                    warning: true,
                });
                false
            }
        }
    }

    async fn act(&self, action: &Action, lost: &[Lost<'_>]) -> Result<End, LedgerError> {
        let started = Instant::now();
        self.reporter.event(&Event::Start { action });
        let end = if self.lease_outlasts(CI_CALL) {
            self.tell_broken(action).await;
            self.carry_out(action, lost).await?
        } else {
            lease_ends()
        };
        let seconds = started.elapsed().as_secs_f64();
        self.reporter.event(&match &end {
            End::Done { id } => Event::Complete {
                action,
                seconds,
                id: id.as_deref(),
            },
            End::Some { id, .. } => Event::Complete {
                action,
                seconds,
                id: Some(id.as_str()),
            },
            End::Failed { why } | End::Open { why } => Event::Errored { action, seconds, why },
            End::Held { reason } => Event::Held { action, reason },
            End::Stopped => Event::Stopped { action },
        });
        self.hooks_after(action, &end).await;
        Ok(end)
    }

    async fn carry_out(&self, action: &Action, lost: &[Lost<'_>]) -> Result<End, LedgerError> {
        match &action.verb {
            // Before any intent. Whether the lease still lasts, and nobody asked to stop, is looked at after it.
            Verb::Create { .. } => match self.hooks_before(action, Moment::BeforeCreate).await {
                Some(end) => Ok(end),
                None => self.create(action, lost).await,
            },
            Verb::Retire { .. } => self.retire(action).await,
            Verb::Delete { .. } => match self.hooks_before(action, Moment::BeforeDelete).await {
                Some(end) => Ok(end),
                None => self.simple(action).await,
            },
            Verb::Hook { moment } => Ok(self.hook_action(action, *moment).await),
            _ => self.simple(action).await,
        }
    }

    /// Folds what was written into the state, and saves it.
    ///
    /// While an intent is open the journal stays: it is what the next tick resolves.
    async fn close(self, base: Serial, snapshot: &Snapshot, applied: &mut Applied) -> Result<(), ApplyError> {
        let mut history = snapshot.history.clone();
        let placement = self
            .placement
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        keep_refusals(&mut history, placement.refusals);
        let hooked = self.hooks.close();
        hooked.remember(&mut history, self.context.clock.now());
        self.context.hooks.forget(&hooked.gone).await;
        applied.failed.extend(hooked.failed);
        let (Folded { mut state, open, .. }, wrote) = self.ledger.close();
        applied.open = u32::try_from(open.len()).unwrap_or(u32::MAX);
        applied.serial = base.0;
        let store = self.context.store;
        if open.is_empty() && (wrote || self.context.has_journal) {
            state.serial = base.next();
            state.written = self.context.written();
            store.save(&state, base).await?;
            applied.serial = state.serial.0;
        }
        store.save_history(&history).await?;
        Ok(())
    }

    fn note(&self, action: &Action, text: &str) {
        self.reporter.event(&Event::Note { action, text });
    }

    fn provider(&self, name: &ProviderName) -> Option<&dyn Provider> {
        self.context.providers.get(name).map(AsRef::as_ref)
    }

    fn control(&self, name: &CiName) -> Option<&dyn RunnerControl> {
        self.context.control.get(name).map(AsRef::as_ref)
    }

    /// A place among a provider's calls. `None` only for a provider that the stack does not have.
    async fn slot(&self, name: &ProviderName) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.slots.get(name)?.acquire().await.ok()
    }

    fn placement(&self) -> std::sync::MutexGuard<'_, Placement> {
        self.placement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim_labels(&self, address: &Address, hash: crate::model::ids::SpecHash) -> ClaimLabels {
        ClaimLabels {
            stack: self.plan.stack.clone(),
            lineage: self.plan.lineage.clone(),
            pool: address.pool.clone(),
            id: address.name.clone(),
            hash,
            intent: ledger::new_intent(),
            registration: None,
        }
    }

    /// Whether a lease that ends would outlast one more call. A lease without an end lasts as long as the process.
    fn lease_outlasts(&self, call: jiff::SignedDuration) -> bool {
        let until = self.context.lease.and_then(|lease| lease.until.as_ref());
        until.is_none_or(|until| self.ledger.now() + call < until.at())
    }
}

/// Nothing was sent, since another might hold the lock before the answer came.
fn lease_ends() -> End {
    End::Failed {
        why: "the lock would end before the call does".to_owned(),
    }
}

fn failed(action: &Action, why: String) -> Failed {
    Failed {
        address: action.address.clone(),
        verb: action.verb.as_str(),
        why,
    }
}

fn keep_refusals(history: &mut History, refusals: Vec<Refusal>) {
    for refusal in refusals {
        if !history.refusals.contains(&refusal) {
            history.refusals.push(refusal);
        }
    }
    let surplus = history.refusals.len().saturating_sub(History::EVENTS);
    history.refusals.drain(..surplus);
}
