//! What a watch tells of itself: how far it is, whether it lives, whether it is ready, and its metrics.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType, TypedMetric, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
    },
    registry::Registry,
};
use tokio::time::Instant;

use super::schedule::Outcome;
use crate::tick::LastTick;

/// The loop turns at least that often while it rests ([`super::LOOK`] is far below).
const RESTING: Duration = Duration::from_secs(30);

/// What a tick may take before the loop counts as stuck: as `TimeoutStartSec` of the shipped service of one tick.
const TICKING: Duration = Duration::from_mins(15);

/// After so many intervals without a tick that succeeded, a watch is not ready.
const INTERVALS: u32 = 3;

/// Bounds of the histogram of ticks' lengths, in seconds: a no-op takes about one, a wave of machines some minutes.
const BUCKETS: [f64; 10] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

/// Which part a watch has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has not been told yet.
    Starting,
    /// It holds the lock, and ticks.
    Leads,
    /// Another holds the lock: `watch of ops@node-1`.
    StandsBy(String),
    /// The lock cannot be asked for: why.
    Troubled(String),
}

#[derive(Debug)]
struct Facts {
    role: Role,
    interval: Duration,
    /// When the loop last turned.
    turned: Instant,
    /// Whether it is in a tick, or waits for an ended lease.
    busy: bool,
    /// When a tick last succeeded, or the lock was last asked for in vain; and by the clock on the wall.
    well: Option<Instant>,
    success: Option<Timestamp>,
    failures: u32,
    next: Option<Instant>,
    ticks: BTreeMap<Outcome, u64>,
    reloads: BTreeMap<&'static str, u64>,
}

/// What is known of a watch; shared by its loop and its listener.
#[derive(Debug)]
pub struct Board {
    stack: String,
    facts: Mutex<Facts>,
    seconds: Histogram,
    last: LastTick,
}

impl Board {
    /// Of a watch that starts now. `last` holds the metrics of the last tick.
    pub fn new(stack: &str, interval: Duration, last: LastTick) -> Self {
        Self {
            stack: stack.to_owned(),
            facts: Mutex::new(Facts {
                role: Role::Starting,
                interval,
                turned: Instant::now(),
                busy: false,
                well: None,
                success: None,
                failures: 0,
                next: None,
                ticks: Outcome::ALL.into_iter().map(|outcome| (outcome, 0)).collect(),
                reloads: BTreeMap::from([("done", 0), ("refused", 0)]),
            }),
            seconds: Histogram::new(BUCKETS),
            last,
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Facts that a panic left are as good as before.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop turns, and rests.
    pub fn turn(&self) {
        let mut facts = self.facts();
        (facts.turned, facts.busy) = (Instant::now(), false);
    }

    /// The loop begins what may take a while.
    pub fn begin(&self) {
        let mut facts = self.facts();
        (facts.turned, facts.busy, facts.next) = (Instant::now(), true, None);
    }

    /// Which part it has now.
    pub fn is(&self, role: Role) {
        let mut facts = self.facts();
        if matches!(role, Role::StandsBy(_)) {
            // The leader tells of the pools now; twice would be summed.
            self.last.set(String::new());
            facts.well = Some(Instant::now());
            facts.failures = 0;
        }
        facts.role = role;
    }

    /// A tick ended; `now` is our own clock.
    pub fn ticked(&self, outcome: Outcome, took: Duration, failures: u32, now: Timestamp) {
        self.seconds.observe(took.as_secs_f64());
        let mut facts = self.facts();
        *facts.ticks.entry(outcome).or_default() += 1;
        facts.failures = failures;
        if outcome.is_success() {
            facts.well = Some(Instant::now());
            facts.success = Some(now);
        }
    }

    /// The next turn is in so long.
    pub fn rests(&self, pause: Duration) {
        self.facts().next = Some(Instant::now() + pause);
    }

    /// The stack was read anew, with this interval now; none: it was refused.
    pub fn reloaded(&self, interval: Option<Duration>) {
        let mut facts = self.facts();
        let result = if interval.is_some() { "done" } else { "refused" };
        *facts.reloads.entry(result).or_default() += 1;
        facts.interval = interval.unwrap_or(facts.interval);
    }

    /// Whether the loop lives; else since when it does not turn.
    ///
    /// # Errors
    /// In words.
    pub fn alive(&self) -> Result<(), String> {
        let facts = self.facts();
        let bound = if facts.busy {
            TICKING.max(facts.interval * INTERVALS)
        } else {
            RESTING
        };
        let since = facts.turned.elapsed();
        if since <= bound {
            return Ok(());
        }
        Err(format!(
            "stuck: the loop has not turned for {} s",
            since.as_secs()
        ))
    }

    /// Whether it does its part: `leads`, or `stands by: watch of ops@node-1 leads`.
    ///
    /// It does when a tick succeeded within the last three intervals, or, of one that stands by, the lock was found held
    /// within them.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn ready(&self) -> Result<String, String> {
        self.alive()?;
        let facts = self.facts();
        // An interval that the quota stretches is one all the same.
        let resting = facts
            .next
            .map(|next| next.saturating_duration_since(Instant::now()));
        let bound = facts.interval.max(resting.unwrap_or_default()) * INTERVALS;
        let well = facts
            .well
            .is_some_and(|well| well.elapsed() <= bound.max(RESTING));
        match &facts.role {
            Role::Starting => Err("starting".to_owned()),
            Role::Troubled(why) => Err(format!("the lock cannot be asked for: {why}")),
            Role::StandsBy(holder) if well => Ok(format!("stands by: {holder} leads")),
            Role::Leads if well => Ok("leads".to_owned()),
            Role::Leads if facts.well.is_none() && facts.failures == 0 => {
                Err("the first tick is under way".to_owned())
            }
            Role::Leads | Role::StandsBy(_) => Err(format!(
                "no tick has succeeded for {INTERVALS} intervals ({} failed in a row)",
                facts.failures
            )),
        }
    }

    /// The metrics of the last tick and of the watch, in Prometheus's text format. They hold no secret.
    ///
    /// # Errors
    /// Never, but for what the encoder's own types say.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        let stack = [("stack".into(), self.stack.clone().into())];
        let mut registry = Registry::with_prefix_and_labels("runfleet_watch", stack.into_iter());
        self.fill(&mut registry);
        let mut own = String::new();
        text::encode(&mut own, &registry)?;
        let tick = self.last.text();
        let end = "# EOF\n";
        Ok(format!(
            "{}{}",
            tick.trim_end_matches(end),
            own.trim_end_matches(end)
        ))
    }

    fn fill(&self, registry: &mut Registry) {
        let facts = self.facts();
        let ticks = Family::<Labels, Total>::default();
        for (outcome, count) in &facts.ticks {
            let labels = vec![("outcome", outcome.as_str().to_owned())];
            ticks.get_or_create(&labels).0.inc_by(*count);
        }
        registry.register("ticks_total", "Ticks since the start by outcome", ticks);
        let reloads = Family::<Labels, Total>::default();
        for (result, count) in &facts.reloads {
            let labels = vec![("result", (*result).to_owned())];
            reloads.get_or_create(&labels).0.inc_by(*count);
        }
        registry.register(
            "reloads_total",
            "How often the stack file was read anew, and whether it was taken or refused",
            reloads,
        );
        registry.register(
            "tick_duration_seconds",
            "How long ticks take, observing and deciding included",
            self.seconds.clone(),
        );
        let next = facts
            .next
            .map(|next| next.saturating_duration_since(Instant::now()));
        let gauges = [
            (
                "next_turn_seconds",
                "Seconds until the next tick, or of one that stands by until it asks for the lock; 0 in a tick",
                next.unwrap_or_default().as_secs_f64(),
            ),
            (
                "last_success_timestamp_seconds",
                "When a tick of this process last succeeded, in seconds since 1970; 0: none yet",
                facts.success.map_or(0.0, |at| at.as_second() as f64),
            ),
            (
                "is_leader",
                "Whether this process holds the stack's lock and ticks",
                f64::from(u8::from(facts.role == Role::Leads)),
            ),
            (
                "failures_in_a_row",
                "Ticks that failed since the last that succeeded",
                f64::from(facts.failures),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// A counter as Prometheus's text format has it: `_total` is part of its family's name. What the crate writes of its own
/// counters is OpenMetrics, where it is not.
#[derive(Clone, Debug, Default)]
struct Total(Counter);

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0.get() as f64))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn board() -> Board {
        Board::new("prod", INTERVAL, LastTick::default())
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_ready_once_a_tick_succeeded_and_for_three_intervals_after_it() {
        let board = board();
        assert_eq!(board.ready(), Err("starting".to_owned()));
        board.is(Role::Leads);
        assert_eq!(board.ready(), Err("the first tick is under way".to_owned()));
        board.ticked(Outcome::Failed, INTERVAL, 1, Timestamp::UNIX_EPOCH);
        assert!(board.ready().is_err());
        board.ticked(Outcome::Done, INTERVAL, 0, Timestamp::UNIX_EPOCH);
        assert_eq!(board.ready(), Ok("leads".to_owned()));
        pass(179).await;
        board.turn();
        assert_eq!(board.ready(), Ok("leads".to_owned()));
        pass(2).await;
        board.turn();
        board.ticked(Outcome::Failed, INTERVAL, 2, Timestamp::UNIX_EPOCH);
        let why = board.ready().unwrap_err();
        assert_eq!(why, "no tick has succeeded for 3 intervals (2 failed in a row)");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stands_by_is_ready_while_it_finds_the_lock_held() {
        let board = board();
        board.is(Role::StandsBy("watch of ops@node-1".into()));
        assert_eq!(
            board.ready(),
            Ok("stands by: watch of ops@node-1 leads".to_owned())
        );
        board.is(Role::Troubled("no answer".into()));
        assert_eq!(
            board.ready(),
            Err("the lock cannot be asked for: no answer".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_is_stuck_sooner_at_rest_than_in_a_tick() {
        let board = board();
        board.turn();
        pass(29).await;
        assert_eq!(board.alive(), Ok(()));
        pass(2).await;
        assert_eq!(
            board.alive(),
            Err("stuck: the loop has not turned for 31 s".to_owned())
        );
        board.begin();
        pass(800).await;
        assert_eq!(board.alive(), Ok(()));
        pass(200).await;
        assert!(board.alive().is_err() && board.ready().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn its_metrics_are_those_of_the_last_tick_and_its_own_in_the_text_format() {
        let board = board();
        board
            .last
            .set("# HELP runfleet_x X.\n# TYPE runfleet_x gauge\nrunfleet_x 1.0\n# EOF\n".to_owned());
        board.is(Role::Leads);
        board.ticked(
            Outcome::Done,
            Duration::from_secs(2),
            0,
            Timestamp::from_second(77).unwrap(),
        );
        board.reloaded(None);
        board.rests(Duration::from_secs(30));
        let text = board.exposition().unwrap();
        for line in [
            "runfleet_x 1.0",
            "# TYPE runfleet_watch_ticks_total counter",
            "runfleet_watch_ticks_total{stack=\"prod\",outcome=\"done\"} 1.0",
            "runfleet_watch_ticks_total{stack=\"prod\",outcome=\"failed\"} 0.0",
            "runfleet_watch_reloads_total{stack=\"prod\",result=\"refused\"} 1.0",
            "runfleet_watch_tick_duration_seconds_sum{stack=\"prod\"} 2.0",
            "runfleet_watch_tick_duration_seconds_bucket{stack=\"prod\",le=\"2.5\"} 1",
            "runfleet_watch_next_turn_seconds{stack=\"prod\"} 30.0",
            "runfleet_watch_last_success_timestamp_seconds{stack=\"prod\"} 77.0",
            "runfleet_watch_is_leader{stack=\"prod\"} 1.0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nis not in\n{text}"
            );
        }
        assert!(!text.contains("EOF"), "{text}");
    }
}
