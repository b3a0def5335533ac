//! `watch`: ticks until told to stop. The loop is [`crate::watch`]'s; a tick is what `scale` does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    args::Watch,
    context::{Context, close_quietly},
    error::Failure,
    exit::Exit,
    run::{self, Approval, Errand, Round},
    show::{
        lines::Writer,
        watch::{self as show, Tick, WatchView},
    },
    signals::{Hangups, Signals},
    told::Told,
};
use crate::{
    model::reason::Reason,
    plan::{Goal, PoolReport, Selection, Summary},
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
        schedule::{Delay, Ended, Outcome, Why},
    },
};

/// The verb, as the lock names it.
const OPERATION: &str = "watch";

/// Quiet ticks are told at least that often, so that silence means that nobody watches.
const QUIET: Duration = Duration::from_mins(60);

/// Failures and refusals of one tick beyond this many are in `--json`, the log and `explain`.
const LISTED: usize = 20;

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

/// What is told of the last tick.
#[derive(Debug, Default)]
struct Report {
    round: Option<Round>,
    pools: Vec<PoolReport>,
    /// Whether it failed as a whole: the first that succeeds after it is told.
    failed: bool,
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

    /// A line for a person, with the time; or one of JSON. A stdout that is gone stops no tick.
    fn line(&self, event: &str, text: &str, view: WatchView) {
        let (context, now) = (self.context(), self.told.now());
        let outcome = if context.output.json {
            let view = WatchView {
                event: event.to_owned(),
                ..view
            };
            context
                .output
                .line(&Writer { complete: true }.watch(text, view, now))
        } else {
            context.output.text(&format!("{} {text}\n", show::clock(now)))
        };
        if let Err(failure) = outcome {
            tracing::warn!(text, ?failure, "a line could not be written");
        }
    }

    /// Tells why something failed, unless that was told of the look before.
    fn failed(&self, failure: &Failure) {
        let context = self.context();
        if context.output.json {
            if let Err(unwritten) = self.told.failed(failure) {
                tracing::warn!(?unwritten, "a line could not be written");
            }
        } else if context.is_news(&failure.rendered(false)) {
            failure.report(Some(&context.global));
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

    /// What failed and what is held with a warning, each as long as it lasts told once.
    fn details(&self) -> Vec<String> {
        let Some(round) = &self.report.round else {
            return Vec::new();
        };
        let context = self.context();
        let failed = round.outcome.applied.failed.iter().filter_map(|failed| {
            // The address differs from try to try.
            let news = context.is_news(&format!("{} {}", failed.verb, failed.why));
            news.then(|| format!("{} {} failed: {}", failed.verb, failed.address, failed.why))
        });
        let held = round.planned.plan.held.iter().chain(&round.outcome.applied.held);
        let held = held.filter(|held| held.warning).filter_map(|held| {
            let settles = matches!(held.reason, Reason::Unsettled { .. });
            let news = !settles && context.is_news(&format!("{} {}", held.about, held.reason.code()));
            news.then(|| format!("held {}: {}", held.about, held.reason))
        });
        failed.chain(held).take(LISTED).collect()
    }

    fn say_tick(&mut self, told: &Said<'_>) {
        let Said::Ticked {
            number,
            ended,
            took,
            next,
            failures,
        } = *told
        else {
            return;
        };
        let details = self.details();
        self.context().end_look();
        let applied = self.report.round.as_ref().map(|round| &round.outcome.applied);
        let changed = applied.is_some_and(|applied| {
            let quiet = applied.done == Summary::default() && applied.failed.is_empty();
            !quiet || applied.open > 0 || applied.skipped > 0
        });
        let failed = !ended.outcome.is_success();
        // Of a failure that lasts, the first line and then each doubling.
        let worth = if failed {
            failures.max(1).is_power_of_two()
        } else {
            changed || number == 1 || self.report.failed
        };
        self.report.failed = failed;
        let worth = worth || !details.is_empty();
        if !worth && !self.context().output.json {
            self.count_quiet();
            return;
        }
        self.tell_quiet();
        let tick = Tick {
            number,
            applied: self.report.round.as_ref().map(|round| &round.outcome.applied),
            pools: if failed { &[] } else { &self.report.pools },
            took,
            next,
        };
        let text = show::tick(&tick, failed, self.context().output.paint);
        let view = WatchView {
            tick: Some(number),
            outcome: Some(ended.outcome.as_str().to_owned()),
            seconds: Some(took.as_secs_f64()),
            next_seconds: Some(next.pause.as_secs_f64()),
            ..WatchView::default()
        };
        self.line("tick", &text, view);
        if !self.context().output.json {
            for detail in details {
                self.line("detail", &format!("  {detail}"), WatchView::default());
            }
        }
    }

    fn count_quiet(&mut self) {
        let now = self.told.now();
        let (count, since) = self.quiet.take().unwrap_or((0, now));
        self.quiet = Some((count + 1, since));
        if now.duration_since(since).unsigned_abs() >= QUIET {
            self.tell_quiet();
        }
    }

    fn tell_quiet(&mut self) {
        if let Some((count, since)) = self.quiet.take() {
            let text = show::quiet(count, since, &self.report.pools);
            self.line("quiet", &text, WatchView::default());
        }
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
        match said {
            Said::Ticked { .. } => return self.say_tick(said),
            Said::Reloaded { .. } | Said::NotReloaded { .. } => {}
            _ => self.tell_quiet(),
        }
        let (name, paint) = (&self.loaded.stack.name, self.context().output.paint);
        let view = WatchView::default();
        match said {
            Said::Ticked { .. } => {}
            Said::Leads { notices, again } => {
                self.context().end_look();
                for notice in *notices {
                    self.context().notice(notice);
                }
                if !again {
                    let every = self.loaded.stack.interval;
                    self.line(
                        "leads",
                        &format!("leads: ticks stack {name} every {every:#}"),
                        view,
                    );
                }
            }
            Said::StandsBy { holder } => {
                let words = format!("{} of {}", holder.operation, holder.who);
                let since = show::clock(holder.created);
                let text = format!("stands by: {words} holds the lock since {since}");
                let holder = Some(words);
                self.line("stands_by", &text, WatchView { holder, ..view });
            }
            Said::Lost => {
                let style = paint.warning();
                let text = format!(
                    "{style}lost the lock{style:#}: nothing more is begun, and it is asked for again"
                );
                self.line("lost", &text, view);
            }
            Said::Reloaded { trigger } => {
                let text = format!("read the stack anew ({}): it is in force", because(*trigger));
                self.line("reloaded", &text, view);
            }
            Said::NotReloaded { trigger } => {
                let style = paint.warning();
                let text = format!(
                    "{style}read the stack anew ({}), and it cannot be used{style:#}: the one before goes on",
                    because(*trigger)
                );
                self.line("not_reloaded", &text, view);
            }
            // Of a trouble that lasts, the first line and then each doubling.
            Said::Trouble {
                next:
                    Delay {
                        why: Why::BackOff(failures),
                        ..
                    },
                ..
            } if !failures.is_power_of_two() => {}
            Said::Trouble { why, next } => {
                let text = format!("cannot ask for the lock: {why}; {}", show::next(next));
                let next_seconds = Some(next.pause.as_secs_f64());
                self.line("trouble", &text, WatchView { next_seconds, ..view });
            }
            Said::Stopping => self.line("stopping", "stopping", view),
        }
    }
}

fn because(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Signal => "SIGHUP",
        Trigger::File => "a file changed",
    }
}
