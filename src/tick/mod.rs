//! One tick, put together: observe, decide, apply, over the clients that a stack names.
//!
//! `plan`, `scale`, `apply`, `destroy` and `status` differ only in which of the three they run.

mod connect;
mod load;
mod machine;
mod metrics;
mod saved;
pub mod surgery;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use self::metrics::Tally;

pub use self::{
    connect::{ConnectError, Trust, connect, store},
    load::{LoadError, LoadedStack, find, load, sources},
    machine::{MachineError, OneMachine},
    metrics::LastTick,
    saved::{PlanFileError, plan_key, read_plan, write_plan},
};
pub use crate::apply::{Applied, Clock, Event, Failed, Reporter, Stop};
use crate::{
    apply::{self, ApplyError, Context, random_hex},
    demand::{Demand, DemandError, RunnerControl},
    hooks::{Caller, Hooks},
    journal::Fold,
    model::{
        ids::{CiName, Lineage, ProviderName},
        snapshot::Snapshot,
        state::{History, PastDecision},
    },
    observe::{self, ObserveError, Seen, SourceFailure, Sources},
    plan::{self, DecideInput, Goal, Plan, Selection},
    provider::{Choice, Problem, Provider, ProviderError},
    scaling,
    secrets::Policy,
    stack::Stack,
    state::{Lease, LockInfo, StateError, StateStore, lock::lock_info},
};

/// The clients that a stack names, by their keys in the stack file.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Clouds.
    pub providers: BTreeMap<ProviderName, Arc<dyn Provider>>,
    /// CI systems, reading.
    pub demand: BTreeMap<CiName, Arc<dyn Demand>>,
    /// CI systems, writing.
    pub control: BTreeMap<CiName, Arc<dyn RunnerControl>>,
    /// Where the state is.
    pub store: Arc<dyn StateStore>,
}

/// What went wrong in a tick.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// Our own state could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Carrying out stopped, since it could not be recorded.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The lock could not be taken or released, or the state not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The sandbox in this process could not save its world.
    #[error("the sandbox in this process: {0}")]
    Sandbox(String),
}

/// What a plan is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether to converge or to remove everything.
    pub goal: Goal,
    /// What a person asked for beyond it.
    pub selection: Selection,
}

impl From<Goal> for Request {
    fn from(goal: Goal) -> Self {
        Self {
            goal,
            selection: Selection::default(),
        }
    }
}

/// A plan, and what it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// What was seen, the learned history included.
    pub snapshot: Snapshot,
    /// The stack that was decided on: with the pools that were found.
    pub stack: Stack,
    /// Notices for a person: a torn journal, a lost history.
    pub mended: Vec<String>,
    /// Whether the stack has no state yet.
    pub is_new: bool,
    /// Whether the journal holds entries that the state file does not.
    pub has_journal: bool,
    /// The journal's fold so far.
    pub fold: Fold,
    /// Sources that gave nothing at all.
    pub failures: Vec<SourceFailure>,
    /// Who has the stack's lock, where that is not us and something is unfinished: it is in progress there.
    pub holder: Option<LockInfo>,
}

impl Planned {
    /// Whether a person must look, whatever was planned: a token is refused, or nothing at all could be read.
    pub fn is_failed(&self) -> bool {
        let sources = self.snapshot.clouds.len() + self.snapshot.demand.len();
        let silent = !self.failures.is_empty() && self.failures.len() == sources;
        silent || self.failures.iter().any(|failure| failure.unauthorized)
    }
}

/// A stack with its clients, ready to be ticked.
#[derive(Debug)]
pub struct Session {
    loaded: LoadedStack,
    clients: Clients,
    hooks: Arc<dyn Caller>,
    lease: Option<Lease>,
    clock: Clock,
    new_lineage: Lineage,
    last: Option<LastTick>,
    #[cfg(feature = "sandbox")]
    sandbox: Option<crate::sandbox::Sandbox>,
}

impl Session {
    /// A session over these clients: what [`connect`] makes, and tests.
    pub fn new(loaded: LoadedStack, clients: Clients, clock: Clock) -> Self {
        let hooks = Arc::new(Hooks::new(&loaded.stack, loaded.folder(), Policy::Trusted));
        Self {
            loaded,
            clients,
            hooks,
            lease: None,
            clock,
            new_lineage: Lineage::from(random_hex(16)),
            last: None,
            #[cfg(feature = "sandbox")]
            sandbox: None,
        }
    }

    /// With another that carries hooks out.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Arc<dyn Caller>) -> Self {
        self.hooks = hooks;
        self
    }

    /// Tells the metrics of each tick here, too.
    #[must_use]
    pub fn telling(mut self, last: LastTick) -> Self {
        self.last = Some(last);
        self
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.loaded.stack
    }

    /// The stack with its file and templates.
    pub fn loaded(&self) -> &LoadedStack {
        &self.loaded
    }

    /// The clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Takes the stack's lock, waiting at most `patience`. Answers with notices for a person.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another holds it for longer.
    pub async fn lock(&mut self, operation: &str, patience: Duration) -> Result<Vec<String>, TickError> {
        let info: LockInfo = lock_info(operation);
        let lease = self.clients.store.lock(&info, patience).await?;
        let notices = lease.notice().into_iter().collect();
        self.lease = Some(lease);
        Ok(notices)
    }

    /// Whether the lock is held, as far as our own clock tells: a lease that was not renewed in time has ended.
    pub fn holds_lock(&self) -> bool {
        let until = self.lease.as_ref().map(|lease| lease.until.as_ref());
        until.is_some_and(|until| until.is_none_or(|until| until.at() > self.clock.now()))
    }

    /// Whether the lock is held, as its place tells: nobody took it away by force.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub async fn still_holds_lock(&self) -> Result<bool, TickError> {
        let Some(lease) = self.lease.as_ref().filter(|_| self.holds_lock()) else {
            return Ok(false);
        };
        let holder = self.clients.store.holder().await?;
        Ok(holder.is_some_and(|holder| holder.id == lease.info.id))
    }

    /// Lets go of the lock, whether it was still ours or not.
    ///
    /// # Errors
    /// When its place cannot be reached; it is let go of here all the same.
    pub async fn let_go(&mut self) -> Result<(), TickError> {
        if let Some(lease) = self.lease.take() {
            self.clients.store.unlock(lease).await?;
        }
        Ok(())
    }

    /// Reads everything, and decides. Changes nothing.
    ///
    /// # Errors
    /// When our own state cannot be read.
    pub async fn observe_and_decide(&self, request: impl Into<Request>) -> Result<Planned, TickError> {
        let seen = self.see().await?;
        let mut planned = self.decide(seen, &request.into());
        if self.lease.is_none() && !planned.snapshot.open.is_empty() {
            planned.holder = self.clients.store.holder().await?;
        }
        Ok(planned)
    }

    /// Reads everything.
    async fn see(&self) -> Result<Seen, TickError> {
        Ok(observe::observe(&Sources {
            stack: self.stack(),
            providers: &self.clients.providers,
            demand: &self.clients.demand,
            control: &self.clients.control,
            store: self.clients.store.as_ref(),
            now: self.clock.now(),
            new_lineage: &self.new_lineage,
        })
        .await?)
    }

    /// Decides on what was seen.
    fn decide(&self, seen: Seen, request: &Request) -> Planned {
        let (mut snapshot, stack) = (seen.snapshot, seen.stack);
        plan::moved::apply(&mut snapshot, &stack, request.goal);
        let history = std::mem::take(&mut snapshot.history);
        snapshot.history = scaling::learn(history, &snapshot, &stack);
        let plan = plan::decide(&DecideInput {
            snapshot: &snapshot,
            stack: &stack,
            templates: &self.loaded.templates,
            goal: request.goal,
            selection: &request.selection,
            seed: seed_of(&snapshot),
        });
        remember(&mut snapshot.history, &plan, &request.selection);
        Planned {
            plan,
            snapshot,
            stack,
            mended: seen.mended,
            is_new: seen.is_new,
            has_journal: seen.has_journal,
            fold: seen.fold,
            failures: seen.failures,
            holder: None,
        }
    }

    /// Carries a plan out. The lock must be held.
    ///
    /// # Errors
    /// When what is done cannot be recorded. A failed action is no error.
    pub async fn apply(
        &self,
        planned: &Planned,
        reporter: &dyn Reporter,
        stop: &Stop,
    ) -> Result<Applied, TickError> {
        let context = self.context(planned);
        let tally = Tally::new(reporter);
        let begun = Instant::now();
        let applied = apply::apply(
            &context,
            &planned.plan,
            &planned.snapshot,
            &planned.fold,
            &tally,
            stop,
        )
        .await?;
        let took = begun.elapsed();
        if let Some(last) = &self.last
            && let Err(error) = tally.keep(last, &planned.plan, self.clock.now(), took)
        {
            tracing::error!(%error, "the metrics could not be told");
        }
        if let Some(file) = &self.stack().metrics_file {
            let path = self.loaded.folder().join(file);
            // What was done is done: numbers that cannot be written do not make it undone, and the alert on a tick's
            // age tells.
            if let Err(error) = tally.write(&path, &planned.plan, self.clock.now(), took) {
                tracing::error!(%error, "the metrics could not be written");
            }
        }
        Ok(applied)
    }

    fn context<'a>(&'a self, planned: &'a Planned) -> Context<'a> {
        Context {
            stack: &planned.stack,
            templates: &self.loaded.templates,
            providers: &self.clients.providers,
            control: &self.clients.control,
            hooks: self.hooks.as_ref(),
            store: self.clients.store.as_ref(),
            lease: self.lease.as_ref(),
            clock: self.clock.clone(),
            has_journal: planned.has_journal,
            is_new: planned.is_new,
        }
    }

    /// Lifts what an earlier apply left paused, and does nothing else. The lock must be held.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn lift_pauses(&self, planned: &Planned) -> Result<(), TickError> {
        if planned.snapshot.state.pauses.is_empty() {
            return Ok(());
        }
        let mut nothing = planned.plan.clone();
        nothing.actions.clear();
        apply::apply(
            &self.context(planned),
            &nothing,
            &planned.snapshot,
            &planned.fold,
            &(),
            &Stop::new(),
        )
        .await?;
        Ok(())
    }

    /// Asks the clouds and CI systems whether they have what the stack names, and let us do what it needs.
    ///
    /// # Errors
    /// Never as a whole: what could not be asked is a problem of its own in the answer.
    pub async fn check_online(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, provider) in &self.clients.providers {
            match provider.check(&self.choices(name)).await {
                Ok(found) => problems.extend(found),
                Err(error) => problems.push(provider_problem(name, &error)),
            }
        }
        for (name, demand) in &self.clients.demand {
            match demand.check().await {
                Ok(found) => problems.extend(found),
                Err(error) => problems.push(demand_problem(name, &error)),
            }
        }
        problems
    }

    fn choices(&self, provider: &ProviderName) -> Vec<Choice> {
        let pools = self.stack().pools.iter();
        pools
            .flat_map(|pool| {
                let offerings = pool.offerings.iter().enumerate();
                offerings
                    .filter(|(_, choice)| &choice.provider == provider)
                    .map(|(at, choice)| Choice {
                        place: format!("pools.{}.offerings[{at}]", pool.name),
                        machine_type: choice.machine_type.clone(),
                        locations: choice.locations.clone(),
                        image: choice.image.clone(),
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Releases the lock, and stops the sandbox in this process.
    ///
    /// # Errors
    /// When the lock file or the sandbox's world cannot be written.
    pub async fn close(mut self) -> Result<(), TickError> {
        self.let_go().await?;
        #[cfg(feature = "sandbox")]
        if let Some(sandbox) = self.sandbox.take() {
            sandbox
                .stop()
                .await
                .map_err(|error| TickError::Sandbox(error.to_string()))?;
        }
        Ok(())
    }
}

fn provider_problem(name: &ProviderName, error: &ProviderError) -> Problem {
    let key = match error {
        ProviderError::Unauthorized { .. } => "token",
        _ => "endpoint",
    };
    Problem {
        place: format!("providers.{name}.{key}"),
        what: error.to_string(),
        hint: None,
    }
}

fn demand_problem(name: &CiName, error: &DemandError) -> Problem {
    let key = match error {
        DemandError::Unauthorized { .. } => "token",
        _ => "url",
    };
    Problem {
        place: format!("ci.{name}.{key}"),
        what: error.to_string(),
        hint: None,
    }
}

/// A seed that the snapshot determines, and that differs from tick to tick, so that names of the past do not come back.
fn seed_of(snapshot: &Snapshot) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(snapshot.state.lineage.as_str());
    hasher.update(snapshot.now.as_nanosecond().to_le_bytes());
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// What was decided, and what a person wants made anew: that may take more ticks than this one.
fn remember(history: &mut History, plan: &Plan, selection: &Selection) {
    scaling::remember(history, plan);
    let machines = selection
        .replace
        .iter()
        .filter(|address| !address.kind.is_shared());
    for address in machines {
        if let Some(memory) = history.machines.get_mut(address) {
            memory.replace_asked.get_or_insert(plan.made_at);
        }
    }
    let lines = plan
        .pools
        .iter()
        .map(|pool| {
            format!(
                "{}: target {} ({}), {} queued, {} running, {} serving",
                pool.name, pool.target, pool.formula, pool.queued, pool.running, pool.serving
            )
        })
        .chain(
            plan.actions
                .iter()
                .map(|action| format!("{} {}: {}", action.verb.as_str(), action.address, action.reason)),
        )
        .chain(
            plan.held
                .iter()
                .map(|held| format!("held {}: {}", held.about, held.reason)),
        )
        .take(50)
        .collect();
    history.decisions.push(PastDecision {
        at: plan.made_at,
        lines,
    });
    let surplus = history.decisions.len().saturating_sub(History::DECISIONS);
    history.decisions.drain(..surplus);
}
