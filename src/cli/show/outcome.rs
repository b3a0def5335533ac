//! How an apply ended, as a person and as a program reads it.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    Paint, counted,
    document::DiagnosticView,
    lines::{Line, Writer, elapsed},
};
use crate::{plan::Summary, tick::Applied};

/// Failures and held actions beyond this many are counted: each has been told when it happened.
const LISTED: usize = 20;

/// What became of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was done and what was not.
    pub applied: Applied,
    /// How long it took.
    pub seconds: f64,
    /// Whether every source had answered in full.
    pub complete: bool,
}

impl Outcome {
    fn changed(&self) -> bool {
        self.applied.done != Summary::default()
    }

    fn in_part(&self) -> bool {
        self.applied.interrupted || !self.applied.failed.is_empty() || self.applied.skipped > 0
    }

    fn is_nothing(&self) -> bool {
        !self.changed() && !self.in_part() && self.applied.held.is_empty() && self.applied.open == 0
    }
}

/// What was done, what failed, what is left, and what to type.
pub fn text(outcome: &Outcome, left: usize, again: bool, paint: Paint) -> String {
    let mut out = String::new();
    if !outcome.is_nothing() {
        summary(&mut out, outcome, paint);
    }
    if left > 0 {
        let warning = paint.warning();
        let then = if again {
            "looking again in a while (--wait)"
        } else {
            "run it again, or with --wait"
        };
        let _ = writeln!(
            out,
            "{warning}{} left, at work or not to be removed yet: {then}.{warning:#}",
            counted(left, "runner")
        );
    }
    out
}

fn summary(out: &mut String, outcome: &Outcome, paint: Paint) {
    let applied = &outcome.applied;
    let (style, word) = if outcome.in_part() {
        (paint.warning(), "Done in part")
    } else {
        (paint.good(), "Done")
    };
    let _ = writeln!(
        out,
        "\n{style}{word}:{style:#} {} in {} (serial {}).",
        done_words(applied.done),
        elapsed(outcome.seconds),
        applied.serial
    );
    let red = paint.error();
    for failed in applied.failed.iter().take(LISTED) {
        let _ = writeln!(
            out,
            "  {red}failed{red:#}  {} {}: {}",
            failed.verb, failed.address, failed.why
        );
    }
    if applied.failed.len() > LISTED {
        let _ = writeln!(out, "  and {} more that failed", applied.failed.len() - LISTED);
    }
    for held in applied.held.iter().take(LISTED) {
        let _ = writeln!(out, "  held    {}: {}", held.about, held.reason);
    }
    if applied.skipped > 0 {
        let _ = writeln!(out, "  {} not begun", counted(applied.skipped as usize, "action"));
    }
    if applied.open > 0 {
        let _ = writeln!(
            out,
            "  {} whose end is unknown: the next tick finds out",
            counted(applied.open as usize, "attempt")
        );
    }
    if applied.interrupted {
        out.push_str("Interrupted: what was in flight has ended or is on record. Run it again to go on.\n");
    } else if outcome.in_part() {
        out.push_str("The state is consistent. Run it again to go on.\n");
    }
}

/// `3 created, 1 deleted`; the words of what did not happen are left out.
pub(super) fn done_words(done: Summary) -> String {
    let words = [
        (done.create, "created"),
        (done.update, "updated"),
        (done.replace, "replaced"),
        (done.delete, "deleted"),
        (done.forget, "forgotten"),
        (done.cordon, "cordoned"),
        (done.hook, "given their hooks"),
    ];
    let words: Vec<String> = words
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if words.is_empty() {
        "nothing changed".to_owned()
    } else {
        words.join(", ")
    }
}

/// The last lines of a run: what a program should be told, then the summary.
pub fn lines(outcome: &Outcome, left: usize, operation: &str, now: Timestamp) -> Vec<Line> {
    let applied = &outcome.applied;
    let writer = Writer {
        complete: outcome.complete,
    };
    let mut lines = Vec::new();
    if applied.interrupted {
        let what = format!("{} not begun", counted(applied.skipped as usize, "action"));
        lines.push(writer.diagnostic(DiagnosticView::warning("interrupted", what), now));
    }
    if applied.open > 0 {
        let what = counted(applied.open as usize, "attempt");
        let unknown =
            DiagnosticView::warning(format!("{what} whose end is unknown"), "the next tick finds out");
        lines.push(writer.diagnostic(unknown, now));
    }
    if left > 0 {
        let what = format!("{} left", counted(left, "runner"));
        lines.push(writer.diagnostic(DiagnosticView::warning(what, "run it again, or with --wait"), now));
    }
    let message = format!("{} in {}", done_words(applied.done), elapsed(outcome.seconds));
    let failed = u32::try_from(applied.failed.len()).unwrap_or(u32::MAX);
    lines.push(writer.summary(applied.done, failed, applied.skipped, operation, message, now));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::reason::Reason, plan::Held, tick::Failed};

    fn outcome() -> Outcome {
        Outcome {
            applied: Applied {
                done: Summary {
                    create: 3,
                    ..Summary::default()
                },
                serial: 13,
                ..Applied::default()
            },
            seconds: 2.14,
            complete: true,
        }
    }

    #[test]
    fn a_run_that_did_everything_says_so_in_one_line() {
        insta::assert_snapshot!(text(&outcome(), 0, false, Paint::PLAIN).trim(), @"Done: 3 created in 2.1s (serial 13).");
    }

    #[test]
    fn a_run_that_did_a_part_says_what_is_left_and_what_to_do() {
        let mut outcome = outcome();
        outcome.applied.failed.push(Failed {
            address: "machine.linux/keen-wolf".parse().unwrap(),
            verb: "create",
            why: "no capacity".into(),
        });
        outcome.applied.held.push(Held {
            about: "machine.linux/old-crab".into(),
            count: 0,
            reason: Reason::BusyAfterCordon,
            warning: false,
        });
        outcome.applied.interrupted = true;
        outcome.applied.skipped = 2;
        outcome.applied.open = 1;
        insta::assert_snapshot!(text(&outcome, 1, false, Paint::PLAIN).trim(), @r"
        Done in part: 3 created in 2.1s (serial 13).
          failed  create machine.linux/keen-wolf: no capacity
          held    machine.linux/old-crab: a job came before the cordon took effect
          2 actions not begun
          1 attempt whose end is unknown: the next tick finds out
        Interrupted: what was in flight has ended or is on record. Run it again to go on.
        1 runner left, at work or not to be removed yet: run it again, or with --wait.
        ");
    }

    #[test]
    fn a_run_with_nothing_to_do_adds_nothing_to_its_plan() {
        let nothing = Outcome {
            applied: Applied::default(),
            ..outcome()
        };
        assert_eq!(text(&nothing, 0, false, Paint::PLAIN), "");
        let lines = lines(&nothing, 0, "apply", "2026-03-01T01:30:00Z".parse().unwrap());
        assert_eq!(lines.len(), 1, "the summary is always the last line");
    }
}
