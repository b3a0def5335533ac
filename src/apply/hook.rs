//! A pool's hooks around its actions: when they run, what they are told, and what their failure means.
//!
//! # When
//! `before_create` before the intent of a machine's first rung; `before_delete` once it is certain that the machine runs no job
//! and takes none; `after_delete` once its absence is on record; `after_ready` as an action of its own; `on_error` after an
//! action about a machine of the pool failed, before the first action on a machine that never became ready, and once when the pool's
//! CI does not answer, or not in full, until it does again.
//!
//! # Guarantees
//! What a failed hook goes before is not begun: no intent, no registration, no call. The machine stays on record, and the next
//! tick decides anew. A crash around a hook leaves what a crash before or after it leaves: hooks write nothing to the journal,
//! and each may run again.
//!
//! # Caveats
//! A crash between the record of an absence and the end of `after_delete` loses that call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Semaphore;

use super::{Context, End, Failed, Run, failed};
use crate::{
    hooks::{EventMachine, FORMAT_VERSION, HookEvent, HookPlace},
    model::{
        ids::{Address, CiName, PoolName, ResourceKind},
        money::Price,
        offering::OfferingKey,
        reason::Reason,
        resource::{Completeness, Observed, ResourceRef},
        snapshot::Snapshot,
        state::{History, MachineMemory},
    },
    plan::{Action, Rung, Verb},
    stack::{
        Mode, Pool, Stack,
        hooks::{Hook, HookCall, Moment, OnFailure},
    },
};

/// Hooks that run at once: each may be a program of this host, which also has the clouds to call.
const AT_ONCE: usize = 16;

/// What hooks need, and what came of them.
pub(super) struct Hooks<'a> {
    /// What was seen of each machine; empty where no pool has hooks.
    seen: HashMap<&'a ResourceRef, &'a Observed>,
    memories: &'a History,
    snapshot: &'a Snapshot,
    places: Semaphore,
    done: Mutex<Done>,
}

/// What came of hooks.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Those that failed after what they go after was done.
    pub(super) failed: Vec<Failed>,
    /// Machines whose `after_ready` hooks ran.
    ready: Vec<Address>,
    /// Machines whose failure was told.
    told: Vec<Address>,
    /// Machines that are gone.
    pub(super) gone: Vec<ResourceRef>,
    /// Pools that were told of their CI's failure.
    outages: Vec<(CiName, PoolName)>,
}

/// The pools whose `on_error` hooks have not been told that their CI does not answer, each with why it does not.
fn untold<'s>(
    stack: &'s Stack,
    snapshot: &'s Snapshot,
) -> impl Iterator<Item = (&'s Pool, &'s CiName, &'s str)> {
    let acting = stack.pools.iter().filter(|pool| {
        let mut hooks = pool.hooks_of(Moment::OnError);
        pool.mode == Mode::Act && hooks.any(|(_, hook)| !is_on_machine(hook))
    });
    acting.filter_map(|pool| {
        let (ci, outage) = snapshot.history.outages.get_key_value(&pool.ci)?;
        let demand = snapshot.demand.get(ci)?;
        let Completeness::Partial { why } = &demand.completeness else {
            return None;
        };
        (!outage.told.contains(&pool.name)).then_some((pool, ci, why.as_str()))
    })
}

/// Whether a hook runs on the machine that it is about: of a CI there is none.
fn is_on_machine(hook: &Hook) -> bool {
    matches!(hook.call, HookCall::Ssh(_))
}

/// Whether some pool is to be told that its CI does not answer.
pub(super) fn is_outage_owed(context: &Context<'_>, snapshot: &Snapshot) -> bool {
    untold(context.stack, snapshot).next().is_some()
}

impl<'a> Hooks<'a> {
    pub(super) fn of(context: &Context<'a>, snapshot: &'a Snapshot) -> Self {
        let any = context.stack.pools.iter().any(|pool| !pool.hooks.is_empty());
        let clouds = snapshot.clouds.values().filter(|_| any);
        let seen = clouds.flat_map(|cloud| {
            let reread = cloud.reread.values().flatten();
            cloud.listing.resources.iter().chain(reread)
        });
        Self {
            seen: seen.map(|seen| (&seen.target, seen)).collect(),
            memories: &snapshot.history,
            snapshot,
            places: Semaphore::new(AT_ONCE),
            done: Mutex::default(),
        }
    }

    fn done(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(self) -> Done {
        self.done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Done {
    /// Remembers what ran, so that it does not run again.
    pub(super) fn remember(&self, history: &mut History, now: jiff::Timestamp) {
        let mut mark = |address: &Address, set: fn(&mut MachineMemory, jiff::Timestamp)| {
            set(history.machines.entry(address.clone()).or_default(), now);
        };
        for address in &self.ready {
            mark(address, |memory, now| memory.hooked_at = Some(now));
        }
        for address in &self.told {
            mark(address, |memory, now| memory.error_told_at = Some(now));
        }
        for (ci, pool) in &self.outages {
            if let Some(outage) = history.outages.get_mut(ci) {
                outage.told.insert(pool.clone());
            }
        }
    }
}

impl Run<'_> {
    /// The pool of the action's machine, where it has hooks of this moment.
    fn hooked(&self, action: &Action, moment: Moment) -> Option<&Pool> {
        // A batch is made by one action; its containers are machines afterwards.
        match action.address.kind {
            ResourceKind::Machine => {}
            ResourceKind::Batch if moment == Moment::BeforeCreate => {}
            _ => return None,
        }
        let pool = self.context.stack.pool(action.address.pool.as_ref()?)?;
        pool.has_hooks(moment).then_some(pool)
    }

    /// Runs the hooks of a moment, in order.
    ///
    /// # Errors
    /// Why the first failed whose failure stops.
    async fn hook(&self, action: &Action, moment: Moment, error: Option<&str>) -> Result<(), String> {
        let Some(pool) = self.hooked(action, moment) else {
            return Ok(());
        };
        let Ok(_place) = self.hooks.places.acquire().await else {
            return Ok(());
        };
        let target = target_of(action);
        let event = self.event(action, pool, moment, error);
        for (index, hook) in pool.hooks_of(moment) {
            let place = HookPlace {
                pool: &pool.name,
                index,
            };
            self.note(action, &format!("{} hook: {}", moment.as_str(), hook.call));
            let called = self
                .context
                .hooks
                .call(place, hook, &event, target.as_ref())
                .await;
            let Err(error) = called else { continue };
            let why = format!("{place}: {error}");
            if hook.on_failure == OnFailure::Stop {
                return Err(why);
            }
            tracing::warn!(address = %action.address, hook = %place, moment = moment.as_str(), %error, "a hook failed; all goes on");
            self.note(
                action,
                &format!("{} hook failed, and all goes on: {why}", moment.as_str()),
            );
        }
        Ok(())
    }

    /// Runs the hooks that go before something. An end where it is not to be done now.
    pub(super) async fn hooks_before(&self, action: &Action, moment: Moment) -> Option<End> {
        self.hooked(action, moment)?;
        if self.stop.requested() {
            return Some(End::Stopped);
        }
        let why = self.hook(action, moment, None).await.err()?;
        Some(End::Held {
            reason: hook_failed(moment, why),
        })
    }

    /// Runs an `after_ready` action.
    pub(super) async fn hook_action(&self, action: &Action, moment: Moment) -> End {
        match self.hook(action, moment, None).await {
            Ok(()) => {
                self.hooks.done().ready.push(action.address.clone());
                End::Done { id: None }
            }
            Err(why) => End::Failed { why },
        }
    }

    /// Before the first action on a machine that never became ready, or broke: tells that.
    pub(super) async fn tell_broken(&self, action: &Action) {
        if !matches!(action.reason, Reason::NeverReady { .. } | Reason::Broken { .. })
            || self.hooked(action, Moment::OnError).is_none()
        {
            return;
        }
        let memory = self.hooks.memories.machines.get(&action.address);
        if memory.is_some_and(|memory| memory.error_told_at.is_some()) {
            return;
        }
        if self
            .tell(action, Moment::OnError, Some(&action.reason.to_string()))
            .await
        {
            self.hooks.done().told.push(action.address.clone());
        }
    }

    /// Tells each pool that has not been told that its CI does not answer. One whose hooks fail is told again by the next tick.
    pub(super) async fn tell_outages(&self) {
        for (pool, ci, why) in untold(self.context.stack, self.hooks.snapshot) {
            if self.stop.requested() {
                return;
            }
            match self.outage(pool, ci, why).await {
                Ok(()) => {
                    let told = (ci.clone(), pool.name.clone());
                    self.hooks.done().outages.push(told);
                }
                Err(why) => self.hooks.done().failed.push(Failed {
                    address: Address {
                        kind: ResourceKind::Machine,
                        pool: Some(pool.name.clone()),
                        name: ci.to_string(),
                    },
                    verb: Moment::OnError.as_str(),
                    why,
                }),
            }
        }
    }

    async fn outage(&self, pool: &Pool, ci: &CiName, why: &str) -> Result<(), String> {
        let reason = Reason::PartialDemand {
            ci: ci.clone(),
            why: why.to_owned(),
        };
        let event = HookEvent {
            format_version: FORMAT_VERSION.to_owned(),
            event: Moment::OnError,
            stack: self.plan.stack.to_string(),
            pool: pool.name.to_string(),
            machine: None,
            reason: reason.to_string(),
            reason_code: reason.code().to_owned(),
            error: Some(format!("ci.{ci}: {why}")),
            time: self.ledger.now(),
        };
        let hooks = pool.hooks_of(Moment::OnError);
        for (index, hook) in hooks.filter(|(_, hook)| !is_on_machine(hook)) {
            let place = HookPlace {
                pool: &pool.name,
                index,
            };
            let Err(error) = self.context.hooks.call(place, hook, &event, None).await else {
                continue;
            };
            if hook.on_failure == OnFailure::Stop {
                return Err(format!("{place}: {error}"));
            }
            tracing::warn!(%ci, hook = %place, %error, "a hook failed; all goes on");
        }
        Ok(())
    }

    /// What follows an action that has ended.
    pub(super) async fn hooks_after(&self, action: &Action, end: &End) {
        let removes = matches!(
            action.verb,
            Verb::Retire { .. } | Verb::Delete { .. } | Verb::Forget { .. }
        );
        match end {
            End::Done { .. } if removes && action.address.kind == ResourceKind::Machine => {
                self.hooks.done().gone.extend(target_of(action));
                self.tell(action, Moment::AfterDelete, None).await;
            }
            End::Done { .. } | End::Some { .. } | End::Stopped => {}
            End::Failed { why } | End::Open { why } => {
                self.tell(action, Moment::OnError, Some(why)).await;
            }
            // What was to be made and is not, or was held by a hook, is told; to wait for a job is no error.
            End::Held { reason } => {
                let is_create = matches!(action.verb, Verb::Create { .. });
                if is_create || matches!(reason, Reason::HookFailed { .. }) {
                    self.tell(action, Moment::OnError, Some(&reason.to_string()))
                        .await;
                }
            }
        }
    }

    /// Runs hooks whose failure undoes nothing: it is reported. Answers whether they went well.
    async fn tell(&self, action: &Action, moment: Moment, error: Option<&str>) -> bool {
        let Err(why) = self.hook(action, moment, error).await else {
            return true;
        };
        self.note(action, &format!("{} hook failed: {why}", moment.as_str()));
        self.hooks.done().failed.push(Failed {
            verb: moment.as_str(),
            ..failed(action, why)
        });
        false
    }

    fn event(&self, action: &Action, pool: &Pool, moment: Moment, error: Option<&str>) -> HookEvent {
        HookEvent {
            format_version: FORMAT_VERSION.to_owned(),
            event: moment,
            stack: self.plan.stack.to_string(),
            pool: pool.name.to_string(),
            machine: Some(self.event_machine(action)),
            reason: action.reason.to_string(),
            reason_code: action.reason.code().to_owned(),
            error: error.map(str::to_owned),
            time: self.ledger.now(),
        }
    }

    fn event_machine(&self, action: &Action) -> EventMachine {
        let target = target_of(action);
        let seen = target
            .as_ref()
            .and_then(|target| self.hooks.seen.get(target).copied());
        let record = action.before.as_deref();
        let rung = first_rung(action);
        let name = record.map(|record| record.name.clone());
        let name = name.or_else(|| Some(rung?.spec.name().to_owned()));
        let name = name.or_else(|| Some(seen?.name.clone()));
        let offering: Option<&OfferingKey> = record
            .and_then(|record| record.offering())
            .or_else(|| rung?.offering.as_ref())
            .or_else(|| seen?.offering.as_ref());
        let price: Option<&Price> = record
            .and_then(|record| record.price.as_ref())
            .or_else(|| rung?.price.as_ref());
        let provider = target.as_ref().map(|target| &target.provider);
        let provider = provider.or_else(|| Some(&rung?.provider));
        EventMachine {
            address: action.address.to_string(),
            name: name.unwrap_or_else(|| action.address.name.clone()),
            id: target.as_ref().map(|target| target.id.to_string()),
            provider: provider.map(ToString::to_string),
            machine_type: offering.map(|offering| offering.machine_type.clone()),
            location: offering.map(|offering| offering.location.clone()),
            addresses: seen.map(|seen| seen.addresses.clone()).unwrap_or_default(),
            price_hourly: price.map(|price| price.hourly.amount.to_string()),
            currency: price.map(|price| price.hourly.currency.to_string()),
        }
    }
}

/// Said where a hook keeps something from being done.
pub(super) fn hook_failed(moment: Moment, why: String) -> Reason {
    Reason::HookFailed {
        moment: moment.as_str().to_owned(),
        why,
    }
}

/// What the action is about in its cloud; none before it is made.
fn target_of(action: &Action) -> Option<ResourceRef> {
    match &action.verb {
        Verb::Retire { target, .. } | Verb::Delete { target, .. } => Some(target.clone()),
        Verb::Adopt { record, .. } => Some(record.target()),
        Verb::Create { .. } => None,
        _ => action.before.as_ref().map(|record| record.target()),
    }
}

fn first_rung(action: &Action) -> Option<&Rung> {
    let Verb::Create { ladder, .. } = &action.verb else {
        return None;
    };
    ladder.first().filter(|rung| rung.spec.each().is_some())
}
