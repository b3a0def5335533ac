//! When the next tick is: pure functions of how the last one ended.
//!
//! - The ordinary pause is the stack's `interval`, counted from where the last tick began, give or take [`JITTER`], so that
//!   several watches do not ask their clouds all at once.
//! - It stretches to the quota: what ticks read stays within [`SHARE`] of the requests that any cloud lets us send in an
//!   hour. No other rule makes a pause shorter than that.
//! - It is shorter where something waits that is due before: an attempt or a cordon that settles.
//! - After a failed tick it begins at an eighth of the interval and doubles with each further one, up to [`longest`].

use std::time::Duration;

/// How far a pause is moved at random, as a share of itself.
pub const JITTER: f64 = 0.1;

/// The share of an hour's requests that the readings of ticks may use; the rest is for creates and deletes, and for people.
pub const SHARE: f64 = 0.5;

/// No pause is shorter: a tick that ends at once would otherwise follow itself.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// What the gaps between ticks may grow to before the billing margin no longer follows them ([`crate::drain::margin`]).
const MARGIN_FOLLOWS: Duration = Duration::from_mins(20);

/// How often one that stands by tries to take the lock, at most: a takeover is late by that, and each try is a request
/// where the state is kept elsewhere.
const STANDBY: Duration = Duration::from_secs(5);

/// How a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All was done, or nothing was to be done.
    Done,
    /// Some of it failed or was held back by a hook; the next tick goes on.
    Partial,
    /// A guard refused the plan as a whole.
    Refused,
    /// Nothing could be decided or recorded, a token is refused, or nobody answered.
    Failed,
    /// A signal came.
    Interrupted,
}

impl Outcome {
    /// Every outcome, for metrics that fall to zero rather than end.
    pub const ALL: [Self; 5] = [
        Self::Done,
        Self::Partial,
        Self::Refused,
        Self::Failed,
        Self::Interrupted,
    ];

    /// As metrics and JSON have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the stack was seen and decided on.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Done | Self::Partial)
    }
}

/// What reading a source takes of its quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// Where it stands in the stack file: `providers.hetzner`.
    pub place: String,
    /// Requests of one tick.
    pub calls: u32,
    /// Requests that it takes in an hour.
    pub per_hour: u32,
}

/// What a tick tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// What it read, where that is limited.
    pub reads: Vec<QuotaUse>,
    /// In how long something is due that waits, counted from the tick's end.
    pub due: Option<Duration>,
}

/// Why a pause is as long as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The stack's interval.
    Interval,
    /// That cloud's quota.
    Quota(String),
    /// Something is due.
    Due,
    /// So many ticks failed in a row.
    BackOff(u32),
    /// Another leads.
    Standby,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub pause: Duration,
    /// Why.
    pub why: Why,
}

/// The longest pause after failures: four intervals, but no longer than the billing margin follows.
pub fn longest(interval: Duration) -> Duration {
    interval.max(MARGIN_FOLLOWS.min(interval.saturating_mul(4)))
}

/// The pause after a tick that took so long. `failures`: how many failed in a row, this one included. `dice`: from 0 to
/// 1, see [`unit()`].
pub fn after(interval: Duration, took: Duration, failures: u32, ended: &Ended, dice: f64) -> Delay {
    let (floor, place) = quota(&ended.reads);
    let either_way = 1.0 + JITTER * (2.0 * dice - 1.0);
    let (wanted, why) = if failures > 0 {
        (
            back_off(interval, failures).mul_f64(either_way),
            Why::BackOff(failures),
        )
    } else {
        let ordinary = interval.mul_f64(either_way);
        match ended.due {
            // Never before it is due: only later.
            Some(due) if due + took < ordinary => (due.mul_f64(1.0 + JITTER * dice) + took, Why::Due),
            _ => (ordinary, Why::Interval),
        }
    };
    let (from_begin, why) = match place {
        Some(place) if floor > wanted => (floor, Why::Quota(place)),
        _ => (wanted, why),
    };
    // A failed tick may take as long as its calls wait: its pause is one after it, or there would be none.
    let spent = if failures > 0 { Duration::ZERO } else { took };
    Delay {
        pause: from_begin.saturating_sub(spent).max(SHORTEST),
        why,
    }
}

/// The pause of one that stands by.
pub fn standby(interval: Duration, dice: f64) -> Delay {
    let pause = STANDBY
        .min(interval / 4)
        .mul_f64(1.0 + JITTER * (2.0 * dice - 1.0));
    Delay {
        pause: pause.max(SHORTEST / 4),
        why: Why::Standby,
    }
}

/// The pause before the lock is tried again, after so many errors in a row.
pub fn trouble(interval: Duration, failures: u32, dice: f64) -> Delay {
    let pause = back_off(interval, failures.max(1)).mul_f64(1.0 + JITTER * (2.0 * dice - 1.0));
    Delay {
        pause: pause.max(SHORTEST),
        why: Why::BackOff(failures),
    }
}

fn back_off(interval: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let first = (interval / 8).max(SHORTEST);
    first.saturating_mul(1 << doublings).min(longest(interval))
}

/// The shortest time between the beginnings of two ticks by the quotas, and whose quota that is.
fn quota(reads: &[QuotaUse]) -> (Duration, Option<String>) {
    let mut floor = (Duration::ZERO, None);
    for read in reads.iter().filter(|read| read.per_hour > 0) {
        let seconds = f64::from(read.calls) * 3600.0 / (f64::from(read.per_hour) * SHARE);
        let wanted = Duration::from_secs_f64(seconds);
        if wanted > floor.0 {
            floor = (wanted, Some(read.place.clone()));
        }
    }
    floor
}

/// A number from 0 up to 1 that a seed and a count determine (the finaliser of splitmix64).
pub fn unit(seed: u64, count: u64) -> f64 {
    let mut bits = seed.wrapping_add(count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 53 bits: all that a float of that range tells apart.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(180);

    fn done() -> Ended {
        Ended {
            outcome: Outcome::Done,
            reads: Vec::new(),
            due: None,
        }
    }

    fn reads(calls: u32, per_hour: u32) -> Vec<QuotaUse> {
        vec![QuotaUse {
            place: "providers.hetzner".into(),
            calls,
            per_hour,
        }]
    }

    #[test]
    fn a_quiet_stack_is_ticked_at_its_interval_from_beginning_to_beginning() {
        let delay = after(INTERVAL, Duration::from_secs(20), 0, &done(), 0.5);
        assert_eq!(delay.pause, Duration::from_secs(160));
        assert_eq!(delay.why, Why::Interval);
    }

    #[test]
    fn a_listing_of_many_pages_stretches_the_interval_to_half_the_quota() {
        // 200 pages of an hour's 3,600: at most nine ticks of them an hour.
        let ended = Ended {
            reads: reads(200, 3600),
            ..done()
        };
        let delay = after(INTERVAL, Duration::ZERO, 0, &ended, 0.5);
        assert_eq!(delay.pause, Duration::from_secs(400));
        assert_eq!(delay.why, Why::Quota("providers.hetzner".into()));
    }

    #[test]
    fn failures_begin_soon_and_double_to_four_intervals() {
        let failed = Ended {
            outcome: Outcome::Failed,
            ..done()
        };
        let pauses: Vec<f64> = (1..=8)
            .map(|failures| {
                after(INTERVAL, Duration::from_secs(30), failures, &failed, 0.5)
                    .pause
                    .as_secs_f64()
            })
            .collect();
        assert_eq!(pauses, [22.5, 45.0, 90.0, 180.0, 360.0, 720.0, 720.0, 720.0]);
        assert_eq!(longest(Duration::from_mins(30)), Duration::from_mins(30));
        assert_eq!(longest(Duration::from_mins(10)), Duration::from_mins(20));
    }

    #[test]
    fn what_settles_before_the_interval_is_looked_at_when_it_has() {
        let ended = Ended {
            due: Some(Duration::from_secs(30)),
            ..done()
        };
        let delay = after(INTERVAL, Duration::from_secs(5), 0, &ended, 0.0);
        assert_eq!((delay.pause, delay.why), (Duration::from_secs(30), Why::Due));
        let late = Ended {
            due: Some(Duration::from_secs(600)),
            ..done()
        };
        assert_eq!(after(INTERVAL, Duration::ZERO, 0, &late, 0.5).why, Why::Interval);
    }

    #[test]
    fn one_that_stands_by_tries_every_few_seconds() {
        assert_eq!(standby(INTERVAL, 0.5).pause, Duration::from_secs(5));
        assert_eq!(
            standby(Duration::from_secs(2), 0.5).pause,
            Duration::from_millis(500)
        );
    }

    fn outcome() -> impl Strategy<Value = Ended> {
        let due = proptest::option::of((0_u64..10_000).prop_map(Duration::from_millis));
        (prop::collection::vec((0_u32..2000, 1_u32..10_000), 0..4), due).prop_map(|(reads, due)| Ended {
            outcome: Outcome::Done,
            reads: reads
                .into_iter()
                .map(|(calls, per_hour)| QuotaUse {
                    place: "providers.x".into(),
                    calls,
                    per_hour,
                })
                .collect(),
            due,
        })
    }

    proptest! {
        #[test]
        fn no_chance_and_no_failure_uses_more_than_the_share_of_the_quota(
            ended in outcome(), seconds in 1_u64..4000, took in 0_u64..600_000, failures in 0_u32..40, dice in 0.0..1.0_f64
        ) {
            let took = Duration::from_millis(took);
            let delay = after(Duration::from_secs(seconds), took, failures, &ended, dice);
            let between = (delay.pause + took).as_secs_f64();
            for read in &ended.reads {
                let in_an_hour = f64::from(read.calls) * 3600.0 / between;
                prop_assert!(in_an_hour <= f64::from(read.per_hour) * SHARE * 1.000_001);
            }
        }

        #[test]
        fn a_pause_is_never_too_short_and_only_the_quota_makes_it_long(
            ended in outcome(), seconds in 1_u64..4000, took in 0_u64..600_000, failures in 0_u32..40, dice in 0.0..1.0_f64
        ) {
            let interval = Duration::from_secs(seconds);
            let delay = after(interval, Duration::from_millis(took), failures, &ended, dice);
            prop_assert!(delay.pause >= SHORTEST);
            let bound = longest(interval).mul_f64(1.0 + JITTER).max(SHORTEST.mul_f64(1.0 + JITTER));
            if !matches!(delay.why, Why::Quota(_)) {
                prop_assert!(delay.pause <= bound, "{:?} {bound:?}", delay);
            }
        }

        #[test]
        fn what_is_due_is_never_looked_at_too_early(
            due in 0_u64..100_000, took in 0_u64..60_000, dice in 0.0..1.0_f64
        ) {
            let due = Duration::from_millis(due);
            let ended = Ended { due: Some(due), ..done() };
            let delay = after(INTERVAL, Duration::from_millis(took), 0, &ended, dice);
            if delay.why == Why::Due {
                prop_assert!(delay.pause + Duration::from_nanos(100) >= due);
            }
        }

        #[test]
        fn more_failures_never_make_a_shorter_pause(failures in 1_u32..40, seconds in 1_u64..4000, dice in 0.0..1.0_f64) {
            let interval = Duration::from_secs(seconds);
            let pause = |failures| after(interval, Duration::ZERO, failures, &done(), dice).pause;
            prop_assert!(pause(failures + 1) >= pause(failures));
        }

        #[test]
        fn chance_is_even_enough_and_below_one(seed in any::<u64>()) {
            let all: Vec<f64> = (0..256).map(|count| unit(seed, count)).collect();
            prop_assert!(all.iter().all(|one| (0.0..1.0).contains(one)));
            let mean = all.iter().sum::<f64>() / 256.0;
            prop_assert!((0.35..0.65).contains(&mean), "{mean}");
        }
    }
}
