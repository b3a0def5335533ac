//! Tells what apply does while it does it: lines with elapsed time on a terminal, plain lines in a pipe, JSON lines for
//! a program.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    output::Output,
    show::{
        counted,
        document::DiagnosticView,
        lines::{Line, Writer, completed, elapsed, failed},
        progress_words,
    },
};
use crate::{
    plan::{Action, ActionId},
    tick::{Clock, Event, Reporter},
};

/// After this long, and again each time it passes, an action that goes on is said to go on: silence looks like a hang.
const STILL: Duration = Duration::from_secs(10);
/// How often the lines of a terminal move.
const FRAME: Duration = Duration::from_millis(100);

/// Where events go.
#[derive(Clone, Debug)]
enum Sink {
    Plain(Output),
    /// Only that a signal was heard: the rest is told when the tick has ended.
    Brief(Output),
    Bars(Output, MultiProgress),
    Json(Output, Writer, Clock),
}

/// An action in flight.
#[derive(Debug)]
struct Running {
    action: Action,
    since: Instant,
    told: u64,
    bar: Option<ProgressBar>,
}

type InFlight = Arc<Mutex<BTreeMap<ActionId, Running>>>;

/// Tells events as they come.
#[derive(Debug)]
pub(super) struct Progress {
    sink: Sink,
    running: InFlight,
    ticker: JoinHandle<()>,
}

impl Progress {
    /// For what stdout is. Needs a runtime.
    #[expect(clippy::disallowed_methods, reason = "the ticker ends when this is dropped")]
    pub(super) fn new(output: Output, complete: bool, brief: bool) -> Self {
        let sink = if output.json {
            Sink::Json(output, Writer { complete }, Clock::system())
        } else if brief {
            Sink::Brief(output)
        } else if output.terminal {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            Sink::Bars(output, bars)
        } else {
            Sink::Plain(output)
        };
        let running = InFlight::default();
        let ticker = tokio::spawn(tick(sink.clone(), Arc::clone(&running)));
        Self {
            sink,
            running,
            ticker,
        }
    }

    /// Says at once that a signal was heard.
    pub(super) fn stopping(&self) {
        let left = lock(&self.running).len();
        let left = counted(left, "action");
        let rest = "a second signal stops at once, and is safe too";
        let text = format!("{left} in flight; {rest}");
        match &self.sink {
            Sink::Brief(output) => Sink::Plain(*output).say(&format!("stopping: {text}")),
            _ => self.warn("stopping".to_owned(), text),
        }
    }

    fn start(&self, action: &Action) {
        let bar = match &self.sink {
            Sink::Plain(_) => {
                self.sink.say(&format!(
                    "{}: {}…",
                    action.address,
                    progress_words(&action.verb).0
                ));
                None
            }
            Sink::Json(_, writer, clock) => {
                self.sink.line(&writer.start(action, clock.now()));
                None
            }
            Sink::Brief(_) => None,
            Sink::Bars(_, bars) => {
                let bar = ProgressBar::new_spinner().with_message(doing(action));
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                    bar.set_style(style);
                }
                Some(bars.add(bar))
            }
        };
        let running = Running {
            action: action.clone(),
            since: Instant::now(),
            told: 0,
            bar,
        };
        lock(&self.running).insert(action.id, running);
    }

    fn end(&self, action: &Action) {
        let ended = lock(&self.running).remove(&action.id);
        if let Some(bar) = ended.and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
    }

    fn note(&self, action: &Action, text: &str) {
        match &self.sink {
            Sink::Plain(_) => self.sink.say(&format!("{}: {text}", action.address)),
            Sink::Brief(_) => {}
            Sink::Json(_, writer, clock) => {
                let since = lock(&self.running)
                    .get(&action.id)
                    .map(|running| running.since.elapsed());
                let seconds = since.map(|since| since.as_secs_f64());
                self.sink
                    .line(&writer.progress(action, text, seconds, clock.now()));
            }
            Sink::Bars(..) => {
                if let Some(bar) = lock(&self.running)
                    .get(&action.id)
                    .and_then(|running| running.bar.as_ref())
                {
                    bar.set_message(format!("{} ({text})", doing(action)));
                }
            }
        }
    }

    fn warn(&self, summary: String, detail: String) {
        match &self.sink {
            Sink::Json(_, writer, clock) => {
                let diagnostic = DiagnosticView::warning(summary, detail);
                self.sink.line(&writer.diagnostic(diagnostic, clock.now()));
            }
            _ => self.sink.say(&format!("{summary}: {detail}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ticker.abort();
        for running in std::mem::take(&mut *lock(&self.running)).into_values() {
            if let Some(bar) = running.bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl Reporter for Progress {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Start { action } => self.start(action),
            Event::Note { action, text } => self.note(action, text),
            Event::Complete { action, seconds, id } => {
                self.end(action);
                match &self.sink {
                    Sink::Json(_, writer, clock) => {
                        let line = writer.complete(action, *seconds, *id, clock.now());
                        self.sink.line(&line);
                    }
                    _ => self.sink.say(&completed(action, *seconds, *id)),
                }
            }
            // A stop came before its first call: nothing failed.
            Event::Errored { action, why: "", .. } => {
                self.end(action);
                self.warn(action.address.to_string(), "not begun".to_owned());
            }
            Event::Errored { action, seconds, why } => {
                self.end(action);
                match &self.sink {
                    Sink::Json(_, writer, clock) => {
                        let line = writer.errored(action, *seconds, why, clock.now());
                        self.sink.line(&line);
                    }
                    Sink::Plain(output) | Sink::Brief(output) | Sink::Bars(output, _) => {
                        let red = output.paint.error();
                        self.sink
                            .say(&format!("{red}{}{red:#}", failed(action, *seconds, why)));
                    }
                }
            }
            Event::Held { action, reason } => {
                self.end(action);
                self.warn(action.address.to_string(), format!("not done: {reason}"));
            }
            Event::Skipped { action, because } => {
                self.warn(
                    action.address.to_string(),
                    format!("not begun, since {because} failed"),
                );
            }
            Event::Stopped { action } => {
                self.end(action);
                self.warn(
                    action.address.to_string(),
                    "not done: a stop was asked for".to_owned(),
                );
            }
            // Told when the signal came, by `stopping`: apply notices it only when something ends.
            Event::Draining { .. } => {}
        }
    }
}

impl Sink {
    /// One line for a person. A stdout that cannot be written to must not stop what is in flight.
    fn say(&self, text: &str) {
        let outcome = match self {
            Self::Brief(_) => return,
            Self::Bars(output, bars) => bars.suspend(|| output.text(&format!("{text}\n"))),
            Self::Plain(output) | Self::Json(output, ..) => output.text(&format!("{text}\n")),
        };
        if let Err(failure) = outcome {
            tracing::warn!(text, ?failure, "progress could not be written");
        }
    }

    fn line(&self, line: &Line) {
        if let Self::Json(output, ..) = self
            && let Err(failure) = output.line(line)
        {
            tracing::warn!(?failure, "progress could not be written");
        }
    }
}

fn doing(action: &Action) -> String {
    format!("{}: {}…", action.address, progress_words(&action.verb).0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A reporter that panicked leaves a map that is as good as before.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves a terminal's lines, and says elsewhere what still goes on.
async fn tick(sink: Sink, running: InFlight) {
    let period = match &sink {
        Sink::Bars(..) => FRAME,
        _ => Duration::from_secs(1),
    };
    let mut interval = tokio::time::interval(period);
    loop {
        interval.tick().await;
        for entry in lock(&running).values_mut() {
            if let Some(bar) = &entry.bar {
                bar.tick();
                continue;
            }
            let since = entry.since.elapsed();
            let periods = since.as_secs() / STILL.as_secs();
            if periods > entry.told {
                entry.told = periods;
                still(&sink, &entry.action, since);
            }
        }
    }
}

fn still(sink: &Sink, action: &Action, since: Duration) {
    let doing = progress_words(&action.verb).0;
    let seconds = since.as_secs_f64();
    let text = format!("still {doing}… [{} elapsed]", elapsed(seconds.floor()));
    match sink {
        Sink::Json(_, writer, clock) => {
            sink.line(&writer.progress(action, &text, Some(seconds), clock.now()));
        }
        _ => sink.say(&format!("{}: {text}", action.address)),
    }
}
