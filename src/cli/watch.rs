//! `watch`: ticks until told to stop. The loop is [`crate::watch`]'s; a tick is what `scale` does.

mod tell;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use self::tell::Report;
use super::{
    args::Watch,
    context::{Context, close_quietly},
    error::Failure,
    exit::Exit,
    run::{self, Approval, Errand, Round},
    show::watch::WatchView,
    signals::{Hangups, Signals},
    told::Told,
};
use crate::{
    plan::{Goal, Selection},
    secrets::{self, Policy},
    state::{StateError, lock::lock_info},
    tick::{self, ConnectError, LastTick, LoadedStack, Session, Stop, TickError},
    watch::{
        self, Lead, Left, Orders, Reloaded, Said, Ticker, Trigger,
        board::Board,
        files::Files,
        listen::{ListenError, Listener, listen},
        notify::Notifier,
        pending,
        schedule::{Ended, Outcome},
    },
};

/// The verb, as the lock names it.
const OPERATION: &str = "watch";

pub(super) fn run(context: &Context, args: &Watch) -> Result<Exit, Failure> {
    let told = Told::new(context, OPERATION).brief();
    let errand = Errand {
        operation: OPERATION,
        goal: Goal::Converge,
        approval: Approval::Given,
        selection: Selection::default(),
        saved: None,
        wait: false,
    };
    let loaded = run::trusted(context, &errand).and_then(|()| {
        let file = tick::find(context.global.stack.as_deref())?;
        // Looked at before it is read: what changes in between is seen.
        let files = Files::of(&file);
        Ok((tick::load(&file)?, files))
    });
    if context.output.json {
        context.begin_lines();
        let stack = loaded.as_ref().ok().map(|(loaded, _)| loaded.stack.name.as_str());
        told.line(&Told::writer(true).version(stack, told.now()))?;
    }
    context.begin_looks();
    let outcome = loaded.and_then(|(loaded, files)| {
        context.block_on(async {
            let signals = Signals::listen()?;
            let hangups = Hangups::listen()?;
            tokio::select! {
                outcome = watched(&told, (loaded, files), &errand, args, &signals, &hangups) => outcome,
                () = signals.second() => Err(run::stopped()),
            }
        })
    });
    if let Err(failure) = &outcome {
        told.failed(failure)?;
    }
    outcome
}

async fn watched(
    told: &Told<'_>,
    (loaded, files): (LoadedStack, Files),
    errand: &Errand,
    args: &Watch,
    signals: &Signals,
    hangups: &Hangups,
) -> Result<Exit, Failure> {
    let notifier = Notifier::from_environment()
        .map_err(|error| Failure::error("telling the service manager (NOTIFY_SOCKET)").because(error))?;
    let last = LastTick::default();
    let interval = interval_of(&loaded);
    let board = Arc::new(Board::new(loaded.stack.name.as_str(), interval, last.clone()));
    let mut watcher = Watcher {
        told,
        errand,
        signals,
        loaded,
        files,
        session: None,
        last,
        report: Report::default(),
        quiet: None,
    };
    let listener = watcher.listen(args.listen, &board).await?;
    if let Some(listener) = &listener {
        let text = format!(
            "listens on http://{} (/healthz, /readyz, /metrics)",
            listener.address()
        );
        watcher.line("listens", &text, WatchView::default());
    }
    // What is wrong with the stack, its secrets or the place of its state ends it now; later it is tried again.
    tokio::select! {
        begun = watcher.begin() => begun?,
        () = signals.first() => return Ok(Exit::Done),
    }
    let orders = Orders {
        stop: signals.count(),
        reload: hangups.count(),
    };
    let left = watch::run(&mut watcher, &board, &notifier, orders, seed()).await;
    if let Some(session) = watcher.session.take() {
        session.close().await?;
    }
    Ok(match left {
        Left::Between => Exit::Done,
        Left::InTick => Exit::Partial,
    })
}

/// Spreads the pauses of several watches: each has its own.
fn seed() -> u64 {
    let mut seed = 0;
    for byte in lock_info(OPERATION).id.bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    seed
}

fn interval_of(loaded: &LoadedStack) -> Duration {
    loaded.stack.interval.unsigned_abs()
}

/// Whether the stack's clouds and CI are in this process: they read their world when they start.
fn is_embedded(loaded: &LoadedStack) -> bool {
    loaded.stack.sandbox.is_some()
}

/// The world of a watch: the stack, its clients, and whoever reads along.
struct Watcher<'a> {
    told: &'a Told<'a>,
    errand: &'a Errand,
    signals: &'a Signals,
    loaded: LoadedStack,
    files: Files,
    /// None before the lock is had for the first time of a stack whose clouds are in this process.
    session: Option<Session>,
    last: LastTick,
    report: Report,
    /// Quiet ticks that were not told yet, and since when.
    quiet: Option<(u64, Timestamp)>,
}

impl Watcher<'_> {
    fn context(&self) -> &Context {
        self.told.context
    }

    async fn listen(
        &self,
        typed: Option<SocketAddr>,
        board: &Arc<Board>,
    ) -> Result<Option<Listener>, Failure> {
        let config = &self.loaded.stack.watch;
        let Some(address) = typed.or(config.listen) else {
            return Ok(None);
        };
        let secret = match &config.secret {
            None => None,
            Some(secret) => {
                let read = secrets::read(secret, "watch.secret", self.loaded.folder(), Policy::Trusted).await;
                Some(read.map_err(ConnectError::from)?)
            }
        };
        let refused = match listen(address, secret, Arc::clone(board)).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(refused) => refused,
        };
        let help = match &refused {
            ListenError::Open { .. } => {
                "add to the stack file: [watch] secret = { env = \"RUNFLEET_WATCH_SECRET\" }; or listen on 127.0.0.1"
            }
            ListenError::Bind { .. } => "choose another port: --listen 127.0.0.1:9091",
        };
        Err(Failure::of(&refused).help(help))
    }

    /// Makes the clients, and tries whether the place of the state answers.
    async fn begin(&mut self) -> Result<(), Failure> {
        let store = tick::store(&self.loaded, &self.context().trust()).await?;
        store.holder().await?;
        if !is_embedded(&self.loaded) {
            self.connect().await?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let session = tick::connect(self.loaded.clone(), &self.context().trust()).await?;
        self.session = Some(session.telling(self.last.clone()));
        Ok(())
    }

    /// Asks for the lock once.
    async fn ask(&mut self) -> Result<Lead, Failure> {
        if self.session.is_none() {
            // Another's world is not read while it holds the lock.
            let store = tick::store(&self.loaded, &self.context().trust()).await?;
            match store.lock(&lock_info(OPERATION), Duration::ZERO).await {
                Ok(lease) => store.unlock(lease).await?,
                Err(StateError::Locked { holder }) => return Ok(Lead::Anothers(holder)),
                Err(error) => return Err(error.into()),
            }
            self.connect().await?;
        }
        let Some(session) = &mut self.session else {
            return Err(Failure::error("there are no clients"));
        };
        if let Err(error) = session.let_go().await {
            tracing::debug!(%error, "a lock that had ended could not be given back");
        }
        match session.lock(OPERATION, Duration::ZERO).await {
            Ok(notices) => Ok(Lead::Ours(notices)),
            Err(TickError::State(StateError::Locked { holder })) => Ok(Lead::Anothers(holder)),
            Err(error) => Err(error.into()),
        }
    }

    /// How a tick ended, and what is told of it.
    fn ended(&mut self, round: Result<Option<Round>, Failure>) -> Ended {
        let mut ended = Ended {
            outcome: Outcome::Failed,
            reads: Vec::new(),
            due: None,
        };
        match round {
            Ok(None) => {}
            Ok(Some(round)) => {
                let (plan, applied) = (&round.planned.plan, &round.outcome.applied);
                ended.reads = pending::reads(&round.planned.snapshot);
                ended.due = pending::due(plan, &round.planned.snapshot, applied, self.told.now());
                ended.outcome = match round.exit(self.context()) {
                    _ if applied.interrupted => Outcome::Interrupted,
                    Exit::Done => Outcome::Done,
                    Exit::Partial => Outcome::Partial,
                    _ => Outcome::Failed,
                };
                self.report.pools.clone_from(&plan.pools);
                self.report.round = Some(round);
            }
            Err(_) if *self.signals.count().borrow() > 0 => ended.outcome = Outcome::Interrupted,
            Err(failure) => {
                if failure.exit == Exit::Refused {
                    ended.outcome = Outcome::Refused;
                }
                self.failed(&failure);
            }
        }
        ended
    }

    /// What is read only when the watch starts.
    fn only_at_the_start(&self, fresh: &LoadedStack) {
        if fresh.stack.watch != self.loaded.stack.watch {
            self.context().notice(
                "[watch] has changed: where it listens, and its secret, are read when the watch starts",
            );
        }
    }
}

#[async_trait(?Send)]
impl Ticker for Watcher<'_> {
    async fn lead(&mut self) -> Result<Lead, String> {
        match self.ask().await {
            Ok(lead) => Ok(lead),
            Err(failure) => {
                self.failed(&failure);
                Err(failure.in_a_line())
            }
        }
    }

    async fn tick(&mut self) -> Ended {
        self.report.round = None;
        let Some(session) = &self.session else {
            return self.ended(Err(Failure::error("there are no clients")));
        };
        let stop = Stop::new();
        let round = run::round(
            self.told,
            session,
            self.errand,
            Approval::Given,
            &stop,
            self.signals,
        )
        .await;
        self.ended(round)
    }

    fn holds(&self) -> bool {
        self.session.as_ref().is_some_and(Session::holds_lock)
    }

    async fn still_holds(&mut self) -> bool {
        let Some(session) = &self.session else {
            return false;
        };
        // Where its place does not answer, the lease tells.
        session.still_holds_lock().await.unwrap_or_else(|_| self.holds())
    }

    async fn reload(&mut self, trigger: Trigger) -> Reloaded {
        self.files.are_read();
        let fresh = match tick::load(&self.loaded.file) {
            Ok(fresh) => fresh,
            Err(error) => {
                self.failed(&error.into());
                return Reloaded::Refused;
            }
        };
        let same = fresh.stack.source_hash == self.loaded.stack.source_hash
            && fresh.templates.files == self.loaded.templates.files;
        if same && trigger == Trigger::File {
            return Reloaded::Same;
        }
        if fresh.stack.name != self.loaded.stack.name {
            let what = format!(
                "the stack's name has become {}: a watch is of one stack",
                fresh.stack.name
            );
            self.failed(&Failure::error(what).help("start another watch for it, and end this one"));
            return Reloaded::Refused;
        }
        self.only_at_the_start(&fresh);
        if is_embedded(&fresh) || is_embedded(&self.loaded) {
            // Its world is written before it is read again.
            if let Some(session) = self.session.take() {
                close_quietly(session).await;
            }
            self.loaded = fresh;
            return Reloaded::Taken;
        }
        let before = std::mem::replace(&mut self.loaded, fresh);
        let session = self.session.take();
        if let Err(failure) = self.connect().await {
            (self.loaded, self.session) = (before, session);
            self.failed(&failure);
            return Reloaded::Refused;
        }
        if let Some(session) = session {
            close_quietly(session).await;
        }
        Reloaded::Taken
    }

    fn changed(&mut self) -> bool {
        self.files.changed()
    }

    fn interval(&self) -> Duration {
        interval_of(&self.loaded)
    }

    fn now(&self) -> Timestamp {
        self.told.now()
    }

    fn say(&mut self, said: &Said<'_>) {
        self.tell(said);
    }
}
