//! What `scale`, `apply` and `destroy` have in common: lock, observe, decide, show, ask, apply, say how it ended.
//! Long because these steps are taken in this order by each of them.

use std::{
    collections::BTreeSet,
    future::Future,
    io::{self, BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    context::{Context, all_known, close_quietly, interrupted},
    error::Failure,
    exit::Exit,
    progress::Progress,
    refuse,
    show::outcome::Outcome,
    signals::Signals,
    told::Told,
};
use crate::{
    model::{
        ids::{Address, ResourceKind},
        intent::Intent,
        reason::Reason,
    },
    plan::{Goal, Held, Plan, Selection, Verb, saved::SavedPlan},
    stack::hooks::Moment,
    state::lock::lock_info,
    tick::{self, Applied, LoadedStack, Planned, Request, Session, Stop},
};

/// How often `destroy --wait` looks again: jobs take minutes, and each look costs some requests of the hour's quota.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// A plan that waited longer for its answer is made anew before it is carried out: the world went on meanwhile.
const FRESH: Duration = Duration::from_mins(1);

/// Whether a person must say yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    /// Nobody is asked.
    Given,
    /// Nothing is done without it.
    Required,
    /// A person at a terminal is asked; elsewhere the verb itself is the approval.
    WhereAsked,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    /// The verb, as the lock names it.
    pub(super) operation: &'static str,
    /// What the plan is for.
    pub(super) goal: Goal,
    /// What a person asked for beyond it.
    pub(super) selection: Selection,
    /// Whether a person must say yes.
    pub(super) approval: Approval,
    /// A plan that was kept: exactly this is done, or nothing.
    pub(super) saved: Option<PathBuf>,
    /// Whether to repeat until nothing is left.
    pub(super) wait: bool,
}

impl Errand {
    fn request(&self) -> Request {
        Request {
            goal: self.goal,
            selection: self.selection.clone(),
        }
    }
}

/// Runs an errand. With `--json` the first line is a `version` and the last one a `change_summary`, whatever happens.
pub(super) fn run(context: &Context, errand: &Errand) -> Result<Exit, Failure> {
    let told = Told::new(context, errand.operation);
    let loaded = trusted(context, errand).and_then(|()| context.load());
    if context.output.json {
        context.begin_lines();
        let stack = loaded.as_ref().ok().map(|loaded| loaded.stack.name.as_str());
        told.line(&Told::writer(true).version(stack, told.now()))?;
    }
    let outcome = loaded.and_then(|loaded| {
        context.block_on(async {
            let signals = Signals::listen()?;
            tokio::select! {
                outcome = locked(&told, loaded, errand, &signals) => outcome,
                () = signals.second() => Err(stopped()),
            }
        })
    });
    if let Err(failure) = &outcome {
        told.failed(failure)?;
    }
    outcome
}

/// Only what reads may be done for a stack file that a stranger wrote.
pub(super) fn trusted(context: &Context, errand: &Errand) -> Result<(), Failure> {
    if !context.global.untrusted {
        return Ok(());
    }
    let what = format!("{} refuses an untrusted stack", errand.operation);
    Err(Failure::new(Exit::Refused, what).help("--untrusted is for plan, validate and render"))
}

pub(super) fn stopped() -> Failure {
    let what = "stopped at once: what was in flight is on record";
    Failure::new(Exit::Partial, what).help("run it again: the next tick finds out how it ended")
}

/// Holds the lock around everything, and the sandbox.
async fn locked(
    told: &Told<'_>,
    loaded: LoadedStack,
    errand: &Errand,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let trust = told.context.trust();
    let saved = match &errand.saved {
        Some(path) => Some(unless_stopped(signals, saved(told, &loaded, path)).await?),
        None => None,
    };
    let mut patience = told.context.global.lock_timeout;
    if loaded.stack.sandbox.is_some() && !patience.is_zero() {
        // The sandbox in this process reads its world when it starts: not before another has let go of it.
        let began = Instant::now();
        unless_stopped(signals, async {
            let store = tick::store(&loaded, &trust).await?;
            let lease = store.lock(&lock_info(errand.operation), patience).await?;
            Ok(store.unlock(lease).await?)
        })
        .await?;
        patience = patience.saturating_sub(began.elapsed());
    }
    let mut session = unless_stopped(signals, async { Ok(tick::connect(loaded, &trust).await?) }).await?;
    let lock = unless_stopped(signals, async {
        Ok(session.lock(errand.operation, patience).await?)
    })
    .await;
    let outcome = match lock {
        Ok(notices) => {
            for notice in notices {
                told.context.notice(&notice);
            }
            match &saved {
                Some(saved) => {
                    session.begin_as(saved);
                    exactly(told, &session, errand, saved, signals).await
                }
                None => rounds(told, &session, errand, signals).await,
            }
        }
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(exit) => {
            session.close().await?;
            Ok(exit)
        }
        Err(failure) => {
            close_quietly(session).await;
            Err(failure)
        }
    }
}

/// Reads a saved plan, and what can be said of it before anybody is asked.
async fn saved(told: &Told<'_>, loaded: &LoadedStack, path: &Path) -> Result<SavedPlan, Failure> {
    let key = tick::plan_key(loaded, &told.context.trust()).await?;
    let bytes = tick::read_plan(path)?;
    let stack = &loaded.stack;
    SavedPlan::parse(&bytes, key.as_ref())
        .and_then(|saved| {
            saved.admit(&stack.name, &stack.source_hash, told.now())?;
            Ok(saved)
        })
        .map_err(|error| refuse::file(path, &error, &told.context.again()))
}

/// Does what a saved plan says, all of it, or nothing. Nobody is asked: the plan was looked at when it was made.
async fn exactly(
    told: &Told<'_>,
    session: &Session,
    errand: &Errand,
    saved: &SavedPlan,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let again = told.context.again();
    let taken = unless_stopped(signals, async { Ok(session.take_up(saved).await?) }).await?;
    let mut planned = taken.map_err(|differences| refuse::differences(&differences, &again))?;
    for breach in &mut planned.plan.breaches {
        breach.allowed |= errand.selection.allow.contains(&breach.rule);
    }
    told.context.mended(&planned);
    told.plan(&planned)?;
    refuse::breaches(&planned.plan, errand, &again)?;
    let outcome = carry_out(told, session, &planned, &Stop::new(), signals).await?;
    told.ended(&outcome, 0, false)?;
    Ok(exit_of(told.context, &planned, &outcome.applied, 0))
}

/// One round, or with `--wait` as many as it takes. Only the first asks.
async fn rounds(
    told: &Told<'_>,
    session: &Session,
    errand: &Errand,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let stop = Stop::new();
    let mut approval = errand.approval;
    loop {
        let Some(round) = round(told, session, errand, approval, &stop, signals).await? else {
            return Ok(Exit::Error);
        };
        approval = Approval::Given;
        if !round.again {
            return Ok(round.exit(told.context));
        }
        tokio::select! {
            _ = stop.sleep(LOOK_AGAIN) => {}
            () = signals.first() => stop.request(),
        }
        if stop.requested() {
            return Ok(Exit::Partial);
        }
    }
}

/// What one round came to.
#[derive(Debug)]
pub(super) struct Round {
    /// What was decided, and on what.
    pub(super) planned: Planned,
    /// What became of it.
    pub(super) outcome: Outcome,
    left: usize,
    again: bool,
}

impl Round {
    /// How a program ends that does nothing more.
    pub(super) fn exit(&self, context: &Context) -> Exit {
        exit_of(context, &self.planned, &self.outcome.applied, self.left)
    }
}

/// Plans, asks where that is needed, carries out, and tells: one tick. None when a person said no. The lock must be held.
pub(super) async fn round(
    told: &Told<'_>,
    session: &Session,
    errand: &Errand,
    approval: Approval,
    stop: &Stop,
    signals: &Signals,
) -> Result<Option<Round>, Failure> {
    let Some(planned) = approved(told, session, errand, approval, signals).await? else {
        return Ok(None);
    };
    let outcome = carry_out(told, session, &planned, stop, signals).await?;
    let left = match errand.goal {
        Goal::Destroy => left(&planned, &outcome.applied),
        Goal::Converge => 0,
    };
    // What is protected stays however long one waits.
    let again = errand.wait && left > protected(&planned.plan) && !stop.requested();
    told.ended(&outcome, left, again)?;
    Ok(Some(Round {
        planned,
        outcome,
        left,
        again,
    }))
}

/// Plans, shows, and asks where that is needed; none when a person said no.
async fn approved(
    told: &Told<'_>,
    session: &Session,
    errand: &Errand,
    approval: Approval,
    signals: &Signals,
) -> Result<Option<Planned>, Failure> {
    loop {
        let planned = unless_stopped(signals, async {
            Ok(session.observe_and_decide(errand.request()).await?)
        })
        .await?;
        told.context.mended(&planned);
        all_known(&errand.selection, &planned, session.stack())?;
        told.plan(&planned)?;
        if let Err(refused) = refuse::breaches(&planned.plan, errand, &told.context.again()) {
            // What a crash left paused makes everybody's jobs wait, whatever is wrong with the plan.
            session.lift_pauses(&planned).await?;
            return Err(refused);
        }
        let can_ask = told.context.output.can_ask();
        let nobody = !io::stdin().is_terminal();
        let given = approval == Approval::Given || (approval == Approval::WhereAsked && nobody);
        if given || planned.plan.is_noop() {
            return Ok(Some(planned));
        }
        if !can_ask {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "{} changes nothing without approval, and nobody can be asked here",
                    errand.operation
                ),
            )
            .help(format!(
                "type: {} {} --auto-approve",
                told.context.again(),
                errand.operation
            )));
        }
        let asked = Instant::now();
        let yes = unless_stopped(signals, ask(told, errand, &planned.plan)).await?;
        if !yes {
            told.context.output.text("\nCancelled: nothing was changed.\n")?;
            return Ok(None);
        }
        if asked.elapsed() <= FRESH {
            return Ok(Some(planned));
        }
        let again = unless_stopped(signals, async {
            Ok(session.observe_and_decide(errand.request()).await?)
        })
        .await?;
        if same(&planned.plan, &again.plan) {
            return Ok(Some(again));
        }
        told.context
            .output
            .text("\nThe world has changed since that plan was made. Here is a new one.\n\n")?;
    }
}

async fn ask(told: &Told<'_>, errand: &Errand, plan: &Plan) -> Result<bool, Failure> {
    let question = match errand.goal {
        Goal::Destroy => format!("Remove everything of stack {}?", plan.stack),
        Goal::Converge => format!("Do this to stack {}?", plan.stack),
    };
    let bold = told.context.output.paint.bold();
    told.context.output.text(&format!(
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
    Ok(answer.trim() == "yes")
}

/// Whether two plans do the same, names of new machines aside: those are drawn anew each time.
fn same(one: &Plan, other: &Plan) -> bool {
    let essence = |plan: &Plan| {
        let mut all: Vec<String> = plan
            .actions
            .iter()
            .map(|action| match &action.verb {
                Verb::Create { ladder, .. } => {
                    let first = ladder.first().and_then(|rung| rung.offering.as_ref());
                    format!("create {:?} {first:?}", action.address.pool)
                }
                verb => format!("{} {}", verb.as_str(), action.address),
            })
            .collect();
        all.sort();
        all
    };
    essence(one) == essence(other)
}

async fn carry_out(
    told: &Told<'_>,
    session: &Session,
    planned: &Planned,
    stop: &Stop,
    signals: &Signals,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let applied = {
        let progress = Progress::new(told.context.output, planned.plan.complete, told.is_brief());
        let work = session.apply(planned, &progress, stop);
        tokio::pin!(work);
        tokio::select! {
            applied = &mut work => applied,
            () = signals.first() => {
                stop.request();
                progress.stopping();
                work.await
            }
        }
    };
    let applied = applied?;
    Ok(Outcome {
        applied,
        seconds: began.elapsed().as_secs_f64(),
        complete: planned.plan.complete,
    })
}

/// How many machines remain after a destroy: on record or begun and not removed, and orphans not yet condemned.
fn left(planned: &Planned, applied: &Applied) -> usize {
    let plan = &planned.plan;
    // What is gone is gone, whatever the hook after it came to.
    let hooks_alone = |failed: &&tick::Failed| failed.verb != Moment::AfterDelete.as_str();
    let undone: BTreeSet<String> = applied
        .failed
        .iter()
        .filter(hooks_alone)
        .map(|failed| failed.address.to_string())
        .chain(applied.held.iter().map(|held| held.about.clone()))
        .collect();
    let ends = |verb: &Verb| {
        matches!(
            verb,
            Verb::Retire { .. } | Verb::Delete { .. } | Verb::Forget { .. } | Verb::Abandon { .. }
        )
    };
    let ended: BTreeSet<&Address> = plan
        .actions
        .iter()
        .filter(|action| ends(&action.verb) && !undone.contains(&action.address.to_string()))
        .map(|action| &action.address)
        .collect();
    let state = &planned.snapshot.state.resources;
    let begun =
        planned.snapshot.open.iter().filter(|open| {
            matches!(open.intent, Intent::Create { .. }) && !state.contains_key(&open.address)
        });
    // A group keeps what its own minimum says; the group is not ours to remove.
    let minimum = plan
        .kept
        .iter()
        .filter(|kept| matches!(kept.reason, Reason::GroupMinimum { .. }))
        .count();
    let machines = state
        .keys()
        .chain(begun.map(|open| &open.address))
        .filter(|address| address.kind == ResourceKind::Machine && !ended.contains(address))
        .count();
    let orphans = plan
        .orphans
        .iter()
        .filter(|stray| matches!(stray.reason, Reason::CondemnedOnce { .. }))
        .count();
    machines.saturating_sub(minimum) + orphans + plan.foreign.len() + applied.skipped as usize
}

fn protected(plan: &Plan) -> usize {
    let kept = plan.kept.iter();
    kept.filter(|kept| kept.reason == Reason::Protected).count()
}

fn exit_of(context: &Context, planned: &Planned, applied: &Applied, left: usize) -> Exit {
    if planned.is_failed() {
        return Exit::Error;
    }
    if applied.interrupted || !applied.failed.is_empty() || applied.skipped > 0 || left > 0 {
        return Exit::Partial;
    }
    // A hook that keeps something from being done wants somebody to look, whatever waits rightly.
    let by_hook = |held: &Held| matches!(held.reason, Reason::HookFailed { .. });
    if applied.held.iter().any(by_hook) {
        return Exit::Partial;
    }
    match context.looked(planned) {
        Exit::Done => context.held(applied.held.iter().any(|held| held.warning)),
        worse => worse,
    }
}

/// Ends early, with nothing changed, when the first signal comes.
async fn unless_stopped<T>(
    signals: &Signals,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        () = signals.first() => Err(interrupted()),
    }
}
