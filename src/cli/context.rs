//! What every verb needs: the flags, the output, the stack, and a runtime for those that talk to the world.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    args::Global, error::Failure, exit::Exit, output::Output, show::lines::Writer, signals::Signals,
};
use crate::{
    model::ids::{CiName, ProviderName},
    plan::{Goal, Selection, select},
    stack::{CiKind, Stack},
    tick::{self, Clock, LoadedStack, Planned, Request, Session, Trust},
};

/// What was typed for every verb, and where to answer.
#[derive(Debug)]
pub(super) struct Context {
    /// The flags.
    pub(super) global: Global,
    /// Where to answer.
    pub(super) output: Output,
    lines: AtomicBool,
    heard: Mutex<Option<Heard>>,
}

/// Notices of a verb that looks again and again: each is told when it is new, and not while it lasts.
#[derive(Debug, Default)]
struct Heard {
    last: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Context {
    /// From the flags.
    pub(super) fn new(global: Global) -> Self {
        let output = Output::new(&global);
        Self {
            global,
            output,
            lines: AtomicBool::new(false),
            heard: Mutex::default(),
        }
    }

    /// From now on a notice is told once for as long as it is repeated in each look.
    pub(super) fn begin_looks(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Heard::default());
    }

    /// A look has ended: what was not noticed in it is new when it comes again.
    pub(super) fn end_look(&self) {
        if let Some(heard) = self.heard.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            heard.last = std::mem::take(&mut heard.now);
        }
    }

    /// Whether this was not noticed in the look before, nor in this one yet.
    pub(super) fn is_news(&self, text: &str) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(heard) = heard.as_mut() else { return true };
        heard.now.insert(text.to_owned()) && !heard.last.contains(text)
    }

    /// Says that JSON lines are being printed, which a failure then ends, too.
    pub(super) fn begin_lines(&self) {
        self.lines.store(true, Ordering::Relaxed);
    }

    /// Whether JSON lines have been printed.
    pub(super) fn lines_begun(&self) -> bool {
        self.lines.load(Ordering::Relaxed)
    }

    /// The stack that is meant, with its templates.
    ///
    /// # Errors
    /// When there is none, or it is not valid.
    pub(super) fn load(&self) -> Result<LoadedStack, Failure> {
        let file = tick::find(self.global.stack.as_deref())?;
        Ok(tick::load(&file)?)
    }

    /// How far the stack file is trusted.
    pub(super) fn trust(&self) -> Trust {
        if self.global.untrusted {
            Trust::Untrusted {
                hosts: allowed_hosts(),
            }
        } else {
            Trust::Full
        }
    }

    /// Runs `work` on a runtime made for it: verbs that talk to nobody start without one.
    ///
    /// # Errors
    /// Those of `work`, and when the system gives no threads.
    #[expect(clippy::unused_self, reason = "reads as the others do")]
    pub(super) fn block_on<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::error("starting").because(error))?;
        let outcome = runtime.block_on(work);
        // A prompt that nobody answered must not keep the program from ending.
        runtime.shutdown_background();
        outcome
    }

    /// Reads everything and decides, for the verbs that only show. The first signal ends it.
    ///
    /// # Errors
    /// When there is no stack, no client, or no readable state.
    pub(super) fn look(&self) -> Result<Planned, Failure> {
        self.look_for(Selection::default())
    }

    /// As [`Self::look`], with what a person asked for.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub(super) fn look_for(&self, selection: Selection) -> Result<Planned, Failure> {
        self.look_with(self.load()?, selection)
    }

    /// As [`Self::look_for`], at a stack that is read already.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub(super) fn look_with(&self, loaded: LoadedStack, selection: Selection) -> Result<Planned, Failure> {
        self.block_on(async {
            let signals = Signals::listen()?;
            tokio::select! {
                planned = self.look_at(loaded, selection) => planned,
                () = signals.first() => Err(interrupted()),
            }
        })
    }

    async fn look_at(&self, loaded: LoadedStack, selection: Selection) -> Result<Planned, Failure> {
        let session = tick::connect(loaded, &self.trust()).await?;
        let request = Request {
            goal: Goal::Converge,
            selection: selection.clone(),
        };
        let planned = session.observe_and_decide(request).await;
        let known = planned
            .as_ref()
            .map_or(Ok(()), |planned| all_known(&selection, planned, session.stack()));
        let closed = session.close().await;
        let planned = planned?;
        closed?;
        known?;
        self.mended(&planned);
        Ok(planned)
    }

    /// Tells what had to be mended.
    pub(super) fn mended(&self, planned: &Planned) {
        for notice in &planned.mended {
            self.notice(notice);
        }
        if let Some(holder) = &planned.holder {
            self.notice(&format!(
                "{} of {} holds the lock since {}: what is unfinished is in progress there",
                holder.operation,
                holder.who,
                holder.created.strftime("%H:%M:%SZ")
            ));
        }
        self.silent_sources(planned);
    }

    /// Tells a person something beside the answer; among JSON lines it is one of them.
    #[expect(clippy::print_stderr, reason = "what is beside the answer goes to stderr")]
    pub(super) fn notice(&self, text: &str) {
        if !self.is_news(text) {
            return;
        }
        if self.lines_begun() {
            let line = Writer { complete: true }.log(text, Clock::system().now());
            if self.output.line(&line).is_ok() {
                return;
            }
        }
        eprintln!("Note: {text}");
    }

    /// How the program was called, as far as the next call must repeat it: `runfleet -s prod`.
    pub(super) fn again(&self) -> String {
        let mut words = vec!["runfleet".to_owned()];
        if let Some(folder) = &self.global.chdir {
            words.extend(["-C".to_owned(), quoted(&folder.display().to_string())]);
        }
        if let Some(stack) = &self.global.stack {
            words.extend(["-s".to_owned(), quoted(stack)]);
        }
        words.join(" ")
    }

    /// Whether this is a provider that Amazon's own tools let us into.
    fn is_amazons(planned: &Planned, place: &str) -> bool {
        let name = place.strip_prefix("providers.").unwrap_or_default();
        let providers = &planned.stack.providers;
        providers
            .get(&ProviderName::from(name))
            .is_some_and(|config| config.kind.is_aws())
    }

    /// Whether this is a CI that a command tells.
    fn is_command(planned: &Planned, place: &str) -> bool {
        let name = place.strip_prefix("ci.").unwrap_or_default();
        let systems = &planned.stack.ci;
        systems
            .get(&CiName::from(name))
            .is_some_and(|config| config.kind == CiKind::Exec)
    }

    /// Tells which sources gave nothing at all, and what to do about each.
    pub(super) fn silent_sources(&self, planned: &Planned) {
        for failure in &planned.failures {
            let place = &failure.place;
            let help = if failure.unauthorized && Self::is_amazons(planned, place) {
                "check who you are there: AWS_PROFILE, `aws sso login`, the machine's own role".to_owned()
            } else if failure.unauthorized {
                format!("check what {place}.token names; `runfleet validate --online` tries it")
            } else if Self::is_command(planned, place) {
                format!("try its command in {place}.demand by hand; nothing of it was changed")
            } else {
                format!("check the network, and the address in {place}; nothing of it was changed")
            };
            self.notice(&format!(
                "{place}: {}
      {help}",
                failure.why
            ));
        }
    }

    /// The exit code of a look: 1 when a token was refused or nothing at all could be read.
    pub(super) fn looked(&self, planned: &Planned) -> Exit {
        if planned.is_failed() {
            return Exit::Error;
        }
        self.held(planned.plan.held.iter().any(|held| held.warning))
    }

    /// The exit code where nothing went wrong: 3 with `--strict` when something is held with a warning.
    pub(super) fn held(&self, warned: bool) -> Exit {
        if warned && self.global.strict {
            Exit::Partial
        } else {
            Exit::Done
        }
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+:@%,=".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Closes a session after a failure: the failure is told, and not what closing says after it.
pub(super) async fn close_quietly(session: Session) {
    if let Err(error) = session.close().await {
        tracing::warn!(%error, "closing after a failure");
    }
}

/// Whether all that a person asked for is there.
///
/// # Errors
/// When some of it is neither on record nor in the stack file, with what has a like name.
pub(super) fn all_known(selection: &Selection, planned: &Planned, stack: &Stack) -> Result<(), Failure> {
    let unknown = select::unknown(selection, &planned.snapshot.state, stack);
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(unknown.into())
    }
}

/// A signal came before anything was changed.
pub(super) fn interrupted() -> Failure {
    Failure::new(Exit::Partial, "interrupted: nothing was changed")
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn allowed_hosts() -> Vec<String> {
    let hosts = std::env::var("RUNFLEET_HOSTS").unwrap_or_default();
    hosts
        .split([',', ' '])
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect()
}
