//! What the verbs have in common that change the record on a person's word: lock, look, show, ask, carry out, say how it
//! ended; and what their errors mean to a person.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _},
};

use super::{
    args::Approve,
    context::{Context, close_quietly, interrupted},
    error::Failure,
    exit::Exit,
    progress::Progress,
    show::{counted, hourly},
    signals::Signals,
};
use crate::{
    model::{
        ids::{PoolName, ProviderName},
        money::Money,
    },
    plan::{
        adopt::AdoptError,
        import::ImportError,
        rebuild::{OfLineage, RebuildError},
        records::Why,
    },
    tick::{self, Applied, Event, Planned, Reporter, Session, Stop, surgery::SurgeryError},
};

/// Holds the lock around `work`. The first signal ends it while nothing is being changed.
///
/// # Errors
/// Those of connecting, locking and `work`.
pub(super) fn locked<T>(
    context: &Context,
    operation: &'static str,
    work: impl AsyncFnOnce(&Session, &Signals) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if context.global.untrusted {
        let what = format!("{operation} refuses an untrusted stack");
        return Err(Failure::new(Exit::Refused, what).help("--untrusted is for plan, validate and render"));
    }
    let loaded = context.load()?;
    context.block_on(async {
        let signals = Signals::listen()?;
        let mut session = tick::connect(loaded, &context.trust()).await?;
        let patience = context.global.lock_timeout;
        let locked = tokio::select! {
            locked = session.lock(operation, patience) => locked.map_err(Failure::from),
            () = signals.first() => Err(interrupted()),
        };
        let outcome = match locked {
            Ok(notices) => {
                for notice in notices {
                    context.notice(&notice);
                }
                work(&session, &signals).await
            }
            Err(failure) => Err(failure),
        };
        close(session, outcome).await
    })
}

/// Looks without the lock; the first signal ends it.
///
/// # Errors
/// Those of connecting and `work`.
pub(super) fn unlocked<T>(
    context: &Context,
    work: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let loaded = context.load()?;
    context.block_on(async {
        let signals = Signals::listen()?;
        let session = tick::connect(loaded, &context.trust()).await?;
        let outcome = tokio::select! {
            outcome = work(&session) => outcome,
            () = signals.first() => Err(interrupted()),
        };
        close(session, outcome).await
    })
}

async fn close<T>(session: Session, outcome: Result<T, Failure>) -> Result<T, Failure> {
    match outcome {
        Ok(answer) => {
            session.close().await?;
            Ok(answer)
        }
        Err(failure) => {
            close_quietly(session).await;
            Err(failure)
        }
    }
}

/// Ends early, with nothing changed, when the first signal comes.
pub(super) async fn unless_stopped<T>(
    signals: &Signals,
    work: impl Future<Output = Result<T, SurgeryError>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => Ok(outcome?),
        () = signals.first() => Err(interrupted()),
    }
}

/// Whether a person says yes; with `--auto-approve` nobody is asked.
///
/// # Errors
/// [`Exit::Refused`] where nobody can be asked.
pub(super) async fn approved(
    context: &Context,
    approve: Approve,
    question: &str,
    verb: &str,
    signals: &Signals,
) -> Result<bool, Failure> {
    if approve.auto_approve {
        return Ok(true);
    }
    if !context.output.can_ask() {
        let what = format!("{verb} changes nothing without approval, and nobody can be asked here");
        return Err(Failure::new(Exit::Refused, what).help("with --auto-approve nobody is asked"));
    }
    let bold = context.output.paint.bold();
    context.output.text(&format!(
        "\n{bold}{question}{bold:#}\n  Only 'yes' will be accepted.\n\n  Enter a value: "
    ))?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = tokio::select! {
        answer = answer => answer,
        () = signals.first() => return Err(interrupted()),
    };
    let answer = answer
        .map_err(|error| Failure::error("reading the answer").because(error))?
        .map_err(|error| Failure::error("reading the answer").because(error))?;
    if answer.trim() == "yes" {
        return Ok(true);
    }
    context.output.text("\nCancelled: nothing was changed.\n")?;
    Ok(false)
}

/// Says nothing: the verb ends in one document.
#[derive(Debug)]
struct Silent;

impl Reporter for Silent {
    fn event(&self, _: &Event<'_>) {}
}

/// Carries it out; a signal lets what is in flight end.
pub(super) async fn carry_out(
    context: &Context,
    session: &Session,
    planned: &Planned,
    signals: &Signals,
) -> Result<Applied, Failure> {
    let stop = Stop::new();
    let progress =
        (!context.output.json).then(|| Progress::new(context.output, planned.plan.complete, false));
    let reporter: &dyn Reporter = match &progress {
        Some(progress) => progress,
        None => &Silent,
    };
    let work = session.apply(planned, reporter, &stop);
    tokio::pin!(work);
    let applied = tokio::select! {
        applied = &mut work => applied,
        () = signals.first() => {
            stop.request();
            work.await
        }
    };
    Ok(applied?)
}

/// How it ended, by what was done: 3 when some of it was not.
pub(super) fn exit_of(applied: &Applied) -> Exit {
    if applied.interrupted || !applied.failed.is_empty() || applied.skipped > 0 || applied.open > 0 {
        Exit::Partial
    } else {
        Exit::Done
    }
}

/// What failed, each with why, and what to do.
pub(super) fn failed_text(applied: &Applied) -> String {
    let mut text = String::new();
    for failed in &applied.failed {
        let _ = writeln!(text, "  {} {}: {}", failed.verb, failed.address, failed.why);
    }
    if !applied.failed.is_empty() || applied.skipped > 0 {
        text.push_str("Run it again: what was begun is gone on with, and nothing is taken twice.\n");
    }
    text
}

/// A sum for each currency: `0.0300 EUR/h`.
pub(super) fn sums(hours: &[Money]) -> String {
    let each: Vec<String> = hours.iter().map(hourly).collect();
    each.join(" + ")
}

/// One line for each lineage.
pub(super) fn lineage_lines(lineages: &[OfLineage]) -> String {
    let each = lineages.iter().map(|of| {
        let name = if of.lineage.as_str().is_empty() {
            "(none)"
        } else {
            of.lineage.as_str()
        };
        let cost = if of.hourly.is_empty() {
            String::new()
        } else {
            format!(", {}", sums(&of.hourly))
        };
        format!(
            "  {name}: {}, {} shared{cost}, the youngest of {}",
            counted(of.machines, "machine"),
            of.shared,
            of.youngest.strftime("%Y-%m-%d %H:%M:%SZ")
        )
    });
    each.collect::<Vec<_>>().join("\n")
}

impl From<SurgeryError> for Failure {
    fn from(error: SurgeryError) -> Self {
        let said = Self::error(error.to_string());
        match error {
            SurgeryError::Tick(error) => error.into(),
            SurgeryError::Adopt(AdoptError::Unknown { there, .. }) if there.is_empty() => {
                said.help("there is nothing to adopt at all: everything with this stack's name is on record")
            }
            SurgeryError::Adopt(AdoptError::Unknown { there, .. }) => {
                said.help(format!("there are: {}\nsee them with: runfleet audit", there.join(", ")))
            }
            SurgeryError::Adopt(AdoptError::Ambiguous { meant, .. }) => {
                said.help(format!("say which: {}", meant.join(" or ")))
            }
            SurgeryError::Import(error) => import(said, &error),
            SurgeryError::Rebuild(error) => rebuild(said, &error),
            SurgeryError::HasState { place, .. } => said.help(format!(
                "nothing was changed: what is on record is not lost. What the clouds have besides is taken on record \
                 with: runfleet adopt\nto begin from the labels all the same, move {place} and its journal away first"
            )),
            SurgeryError::Unfinished { .. } => {
                said.help("nothing was changed. Let a tick find out how they ended, and run this again: runfleet scale")
            }
            SurgeryError::NoProvider { there, .. } => {
                let names: Vec<&str> = there.iter().map(ProviderName::as_str).collect();
                said.help(format!("name one with --provider: {}", names.join(", ")))
            }
            SurgeryError::Absent { target } => said.help(format!(
                "the id is the cloud's own id of the {}, as its console shows it",
                target.kind
            )),
            SurgeryError::Provider { source, .. } => said.because(source),
        }
    }
}

fn import(said: Failure, error: &ImportError) -> Failure {
    match error {
        ImportError::AddressTaken { .. } => said.help("choose another address"),
        ImportError::OnRecord { address, .. } => {
            said.help(format!("give it another address with: runfleet state mv {address} …"))
        }
        ImportError::Claimed { target, ours: true, .. } => {
            said.help(format!("take it on record with: runfleet adopt {}/{}", target.kind, target.id))
        }
        ImportError::Claimed { .. } => said.help(
            "nothing was changed. If that stack is no more, take the label runfleet-stack off it at the provider",
        ),
        ImportError::NoPool { there, .. } => {
            let names: Vec<&str> = there.iter().map(PoolName::as_str).collect();
            said.help(format!("there are: {}", names.join(", ")))
        }
        ImportError::Left(Why::Kind { .. }) => {
            said.help("machine, ssh_key, firewall, network and placement_group can be imported")
        }
        ImportError::Left(_) => said,
        ImportError::Render(error) => said.because(error),
    }
}

fn rebuild(said: Failure, error: &RebuildError) -> Failure {
    match error {
        RebuildError::Nothing => {
            said.help("there is nothing to make a state from: runfleet scale begins anew")
        }
        RebuildError::Choose { lineages } => said.help(format!(
            "choose the one that was lost with --lineage; what carries the others stays foreign:\n{}",
            lineage_lines(lineages)
        )),
        RebuildError::Unknown { lineages, .. } => {
            said.help(format!("these are there:\n{}", lineage_lines(lineages)))
        }
        RebuildError::Partial { .. } => said.help(
            "nothing was changed: what was not listed would be missing. Run it again when the cloud answers",
        ),
    }
}
