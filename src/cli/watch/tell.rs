//! What a watch says as it goes: to a person in a line, to a program in one of JSON.

use std::time::Duration;

use super::Watcher;
use crate::{
    cli::{
        error::Failure,
        run::Round,
        show::{
            lines::Writer,
            watch::{self as show, Tick, WatchView},
        },
    },
    model::reason::Reason,
    plan::{PoolReport, Summary},
    watch::{
        Said, Trigger,
        schedule::{Delay, Why},
    },
};

/// Quiet ticks are told at least that often, so that silence means that nobody watches.
const QUIET: Duration = Duration::from_mins(60);

/// Failures and refusals of one tick beyond this many are in `--json`, the log and `explain`.
const LISTED: usize = 20;

/// What is told of the last tick.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) round: Option<Round>,
    pub(super) pools: Vec<PoolReport>,
    /// Whether it failed as a whole: the first that succeeds after it is told.
    failed: bool,
}

impl Watcher<'_> {
    /// A line for a person, with the time; or one of JSON. A stdout that is gone stops no tick.
    pub(super) fn line(&self, event: &str, text: &str, view: WatchView) {
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
    pub(super) fn failed(&self, failure: &Failure) {
        let context = self.context();
        if context.output.json {
            if let Err(unwritten) = self.told.failed(failure) {
                tracing::warn!(?unwritten, "a line could not be written");
            }
        } else if context.is_news(&failure.rendered(false)) {
            failure.report(Some(&context.global));
        }
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

    /// Tells how the watch goes on.
    pub(super) fn tell(&mut self, said: &Said<'_>) {
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
