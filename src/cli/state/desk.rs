//! What the verbs that write share: the lock around them, the state with its journal folded in, and the save.

use std::{
    io::{self, BufRead as _},
    sync::Arc,
};

use crate::{
    cli::{args::Approve, context::Context, error::Failure, exit::Exit, show::state as show},
    journal::{self, Folded},
    model::{
        ids::{Address, Serial},
        state::{History, State, Written},
    },
    state::{Lease, StateStore, lock::lock_info},
    tick::{self, LoadedStack},
};

/// A stack's state, with the lock held.
pub(super) struct Desk<'a> {
    pub(super) context: &'a Context,
    pub(super) loaded: LoadedStack,
    pub(super) store: Arc<dyn StateStore>,
    lease: Lease,
    operation: &'static str,
    /// The state with its journal folded in; none when the stack has none.
    state: Option<State>,
    /// How many entries the journal has.
    entries: usize,
    /// The serial of the state as it is kept.
    base: Serial,
    history: History,
}

/// Runs `work` with the lock held, and lets go of it whatever comes of that.
pub(super) fn with<W>(context: &Context, operation: &'static str, work: W) -> Result<Exit, Failure>
where
    W: AsyncFnOnce(&mut Desk<'_>) -> Result<Exit, Failure>,
{
    if context.global.untrusted {
        let what = format!("{operation} refuses an untrusted stack");
        return Err(Failure::new(Exit::Refused, what).help("--untrusted is for plan, validate and render"));
    }
    let loaded = context.load()?;
    context.block_on(async {
        let store = tick::store(&loaded, &context.trust()).await?;
        let lease = store
            .lock(&lock_info(operation), context.global.lock_timeout)
            .await?;
        let mut desk = match Desk::open(context, loaded, Arc::clone(&store), lease, operation).await {
            Ok(desk) => desk,
            Err((lease, failure)) => {
                store.unlock(lease).await?;
                return Err(failure);
            }
        };
        let outcome = work(&mut desk).await;
        let unlocked = store.unlock(desk.lease).await;
        let exit = outcome?;
        unlocked?;
        Ok(exit)
    })
}

impl<'a> Desk<'a> {
    async fn open(
        context: &'a Context,
        loaded: LoadedStack,
        store: Arc<dyn StateStore>,
        lease: Lease,
        operation: &'static str,
    ) -> Result<Self, (Lease, Failure)> {
        if let Some(notice) = lease.notice() {
            context.notice(&notice);
        }
        let kept = match store.load().await {
            Ok(kept) => kept,
            Err(error) => return Err((lease, error.into())),
        };
        for notice in &kept.mended {
            context.notice(notice);
        }
        let (entries, base) = (kept.entries.len(), kept.state.as_ref().map(|state| state.serial));
        let folded = match kept
            .state
            .map(|state| journal::fold(state, &kept.entries))
            .transpose()
        {
            Ok(folded) => folded,
            Err(error) => {
                let failure = Failure::error("the journal contradicts itself").because(error);
                return Err((lease, failure));
            }
        };
        // Without a state nothing was ever begun but the first lineage, which is in no journal.
        let (state, open) = match folded {
            Some(Folded { state, open, .. }) => (Some(state), open),
            None => (None, Vec::new()),
        };
        if let Some(first) = open.first() {
            let failure = Failure::new(
                Exit::Refused,
                format!(
                    "{} unfinished, the first of {} at {}: what came of it is not known yet",
                    show::count(open.len(), "attempt is", "attempts are"),
                    first.at.strftime("%H:%M:%SZ"),
                    first.address
                ),
            );
            let help = format!(
                "nothing was changed. A tick finds out: runfleet -s {} scale; then type this again",
                loaded.stack.name
            );
            return Err((lease, failure.help(help)));
        }
        Ok(Self {
            context,
            loaded,
            store,
            lease,
            operation,
            state,
            entries,
            base: base.unwrap_or_default(),
            history: kept.history,
        })
    }

    /// The state, the journal folded in.
    pub(super) fn state(&self) -> Result<&State, Failure> {
        self.state.as_ref().ok_or_else(|| no_state(&self.loaded))
    }

    /// The same where there may be none.
    pub(super) fn found(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// What is remembered.
    pub(super) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// Writes what the journal holds into the state first, where it holds anything, so that it is among the kept ones.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        if self.entries > 0
            && let Some(state) = self.state.clone()
        {
            self.save(state).await?;
        }
        Ok(())
    }

    /// Saves this as the next state; answers with its serial.
    pub(super) async fn save(&mut self, mut state: State) -> Result<Serial, Failure> {
        // Where there is none, one that is put back goes on counting.
        if self.base > Serial(0) {
            state.serial = self.base.next();
        }
        state.written = Some(Written::by(&self.lease.info, tick::Clock::system().now()));
        self.store.save(&state, self.base).await?;
        self.base = state.serial;
        self.entries = 0;
        self.state = Some(state);
        Ok(self.base)
    }

    /// Saves what is remembered. That it could not be is no failure: it may be lost.
    pub(super) async fn save_history(&self) {
        if let Err(error) = self.store.save_history(&self.history).await {
            self.context
                .notice(&format!("idle times and lengths were not kept: {error}"));
        }
    }

    /// Asks, unless that was answered beforehand; false when a person said no.
    pub(super) async fn approved(&self, question: &str, approve: Approve) -> Result<bool, Failure> {
        if approve.auto_approve {
            return Ok(true);
        }
        let output = &self.context.output;
        if !output.can_ask() {
            let what = format!(
                "{} changes nothing without approval, and nobody can be asked here",
                self.operation
            );
            return Err(Failure::new(Exit::Refused, what).help("type it again with --auto-approve"));
        }
        let bold = output.paint.bold();
        output.text(&format!(
            "\n{bold}{question}{bold:#}\n  Only 'yes' will be accepted.\n\n  Enter a value: "
        ))?;
        let answer = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer).map(|_| answer)
        });
        let answer = answer
            .await
            .map_err(|error| Failure::error("reading the answer").because(error))?
            .map_err(|error| Failure::error("reading the answer").because(error))?;
        if answer.trim() == "yes" {
            return Ok(true);
        }
        output.text("\nCancelled: nothing was changed.\n")?;
        Ok(false)
    }
}

/// That the stack has no state.
pub(super) fn no_state(loaded: &LoadedStack) -> Failure {
    let name = &loaded.stack.name;
    Failure::error(format!("stack {name} has no state yet")).help(format!(
        "the first tick makes one: runfleet -s {name} scale; one that was lost is made again from what the clouds hold: \
         runfleet -s {name} state rebuild"
    ))
}

/// That an address is not on record, with what may have been meant.
pub(super) fn unknown(state: &State, address: &Address) -> Failure {
    let wanted = address.to_string();
    let near = state
        .resources
        .keys()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &known.to_string()), known))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    let help = match near {
        Some((_, near)) => format!("did you mean {near}?"),
        None if state.resources.is_empty() => "nothing is on record".to_owned(),
        None => format!(
            "{} on record: `runfleet -s {} state list` names them",
            show::count(state.resources.len(), "address is", "addresses are"),
            state.stack
        ),
    };
    Failure::error(format!("{address} is not on record")).help(help)
}
