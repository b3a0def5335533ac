//! What a watch says: one line for each tick that changed something, one for many that did not.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Paint, counted, lines::elapsed, outcome::done_words};
use crate::{
    plan::{PoolReport, Summary},
    tick::Applied,
    watch::schedule::{Delay, Why},
};

/// Pools beyond this many are counted: the line is one.
const POOLS: usize = 6;

/// How a watch goes on, for a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct WatchView {
    /// `listens`, `leads`, `stands_by`, `lost`, `tick`, `reloaded`, `not_reloaded`, `trouble` or `stopping`.
    pub event: String,
    /// Which tick, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tick: Option<u64>,
    /// How it ended: `done`, `partial`, `refused` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// In how long the next one is, or the lock is asked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_seconds: Option<f64>,
    /// Who leads, where that is another: `watch of ops@node-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

/// A tick that ended, as far as a line tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    /// Counted from 1.
    pub number: u64,
    /// What was done; none when nothing could be decided.
    pub applied: Option<&'a Applied>,
    /// What the pools have and want.
    pub pools: &'a [PoolReport],
    /// How long it took.
    pub took: Duration,
    /// When the next is.
    pub next: &'a Delay,
}

/// `tick 12: 2 created, 1 deleted in 3.2s; linux 5 of 5, 3 queued; next in 3m 2s`
pub fn tick(tick: &Tick<'_>, failed: bool, paint: Paint) -> String {
    let mut line = format!("tick {}: ", tick.number);
    let took = elapsed(tick.took.as_secs_f64());
    match tick.applied {
        Some(applied) if !failed => {
            let in_part = !applied.failed.is_empty() || applied.skipped > 0;
            let style = if in_part { paint.warning() } else { paint.good() };
            let words = if applied.done == Summary::default() && !in_part {
                "nothing to do".to_owned()
            } else {
                done_words(applied.done)
            };
            let _ = write!(line, "{style}{words}{style:#}");
            let skipped = usize::try_from(applied.skipped).unwrap_or(usize::MAX);
            for (count, what) in [(applied.failed.len(), "failed"), (skipped, "not begun")] {
                if count > 0 {
                    let _ = write!(line, ", {count} {what}");
                }
            }
            if applied.open > 0 {
                let open = usize::try_from(applied.open).unwrap_or(usize::MAX);
                let _ = write!(line, ", {} whose end is unknown", counted(open, "attempt"));
            }
            let _ = write!(line, " in {took}");
        }
        _ => {
            let red = paint.error();
            let _ = write!(line, "{red}failed{red:#} after {took}");
        }
    }
    let pools = pools(tick.pools);
    if !pools.is_empty() {
        let _ = write!(line, "; {pools}");
    }
    let _ = write!(line, "; {}", next(tick.next));
    line
}

/// `14 quiet ticks since 08:36:00Z; linux 5 of 5`
pub fn quiet(count: u64, since: Timestamp, pools_of: &[PoolReport]) -> String {
    let ticks = counted(usize::try_from(count).unwrap_or(usize::MAX), "quiet tick");
    let mut line = format!("{ticks} since {}", clock(since));
    let pools = pools(pools_of);
    if !pools.is_empty() {
        let _ = write!(line, "; {pools}");
    }
    line
}

/// `08:36:00Z`
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

fn pools(pools: &[PoolReport]) -> String {
    let mut words: Vec<String> = pools
        .iter()
        .take(POOLS)
        .map(|pool| {
            let mut word = format!("{} {} of {}", pool.name, pool.serving, pool.target);
            if pool.queued > 0 {
                let _ = write!(word, ", {} queued", pool.queued);
            }
            word
        })
        .collect();
    if pools.len() > POOLS {
        words.push(counted(pools.len() - POOLS, "more pool"));
    }
    words.join("; ")
}

/// `next in 3m 2s`, and why where that is not the interval.
pub fn next(next: &Delay) -> String {
    let pause = spoken(next.pause);
    match &next.why {
        Why::Interval | Why::Standby => format!("next in {pause}"),
        Why::Quota(place) => format!("next in {pause}, by the quota of {place}"),
        Why::Due => format!("next in {pause}, when something has settled"),
        Why::BackOff(1) => format!("tried again in {pause}"),
        Why::BackOff(failures) => format!("tried again in {pause}, after {failures} failures in a row"),
    }
}

fn spoken(pause: Duration) -> String {
    let seconds = pause.as_secs_f64().round();
    if seconds < 60.0 {
        format!("{:.0}s", seconds.max(1.0))
    } else {
        elapsed(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::show::fixture, tick::Failed};

    fn pool(name: &str, serving: u32, target: u32, queued: u32) -> PoolReport {
        PoolReport {
            name: name.into(),
            target,
            queued,
            running: 0,
            serving,
            formula: String::new(),
            steps: Vec::new(),
            memory: None,
        }
    }

    #[test]
    fn a_tick_is_one_line_with_what_was_done_what_there_is_and_when_the_next_is() {
        let pools = [pool("linux", 5, 5, 3), pool("arm", 0, 0, 0)];
        let line = |applied: Option<&Applied>, why, failed| {
            let next = Delay {
                pause: Duration::from_millis(182_400),
                why,
            };
            let told = Tick {
                number: 12,
                applied,
                pools: &pools,
                took: Duration::from_millis(3_210),
                next: &next,
            };
            tick(&told, failed, Paint::PLAIN)
        };
        let mut applied = Applied::default();
        let mut said = vec![line(Some(&applied), Why::Interval, false)];
        (applied.done.create, applied.done.delete) = (2, 1);
        said.push(line(
            Some(&applied),
            Why::Quota("providers.hetzner".into()),
            false,
        ));
        applied.failed.push(Failed {
            address: fixture::plan().actions[0].address.clone(),
            verb: "create",
            why: "no".into(),
        });
        (applied.skipped, applied.open) = (3, 1);
        said.push(line(Some(&applied), Why::Due, false));
        said.push(line(None, Why::BackOff(3), true));
        said.push(quiet(14, fixture::at("01:30:00"), &pools));
        insta::assert_snapshot!(said.join("\n"), @r"
        tick 12: nothing to do in 3.2s; linux 5 of 5, 3 queued; arm 0 of 0; next in 3m 2s
        tick 12: 2 created, 1 deleted in 3.2s; linux 5 of 5, 3 queued; arm 0 of 0; next in 3m 2s, by the quota of providers.hetzner
        tick 12: 2 created, 1 deleted, 1 failed, 3 not begun, 1 attempt whose end is unknown in 3.2s; linux 5 of 5, 3 queued; arm 0 of 0; next in 3m 2s, when something has settled
        tick 12: failed after 3.2s; linux 5 of 5, 3 queued; arm 0 of 0; tried again in 3m 2s, after 3 failures in a row
        14 quiet ticks since 01:30:00Z; linux 5 of 5, 3 queued; arm 0 of 0
        ");
    }

    #[test]
    fn many_pools_are_counted() {
        let many: Vec<_> = (0..8)
            .map(|number| pool(&format!("p{number}"), 1, 1, 0))
            .collect();
        assert!(pools(&many).ends_with("p5 1 of 1; 2 more pools"));
    }
}
