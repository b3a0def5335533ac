//! Which runner goes, and may it go: order, billing and the way out.
//!
//! Nothing here looks at a snapshot; the rules are functions of a few values, so that each can be tested alone.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    ids::Address,
    money::Billing,
    reason::Reason,
    resource::{ControlProfile, CordonKind},
};

/// The longest settle time that one guarded retire waits out; with a longer one the delete is a later tick's.
pub const GUARDED_SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// The longest that a pause of all runners may wait to settle: others' jobs wait that long too, and the delete comes on
/// top.
pub const PAUSED_AT_MOST: SignedDuration = SignedDuration::from_secs(20);

/// Whether a runner takes new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    /// It does.
    No,
    /// It is paused without a record of ours, or an attempt to cordon or uncordon it was interrupted.
    Unknown,
    /// It does not, since then by the CI's clock.
    Since(Timestamp),
}

/// What decides the order in which idle runners go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank<'a> {
    /// It failed.
    pub failed: bool,
    /// It takes no new job already.
    pub cordoned: bool,
    /// Until when it is paid.
    pub paid_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its address.
    pub address: &'a Address,
}

impl PartialOrd for Rank<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank<'_> {
    /// Failed first, then cordoned, then least paid time left, then oldest, then by address.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .failed
            .cmp(&self.failed)
            .then(other.cordoned.cmp(&self.cordoned))
            .then(self.paid_until.cmp(&other.paid_until))
            .then(self.created_at.cmp(&other.created_at))
            .then(self.address.cmp(other.address))
    }
}

/// The longest time between two ticks that says something of the next one: a longer one was a pause.
pub const LONGEST_GAP: SignedDuration = SignedDuration::from_mins(20);

/// How long before a paid hour's end a machine must begin to go, to be gone in time: the time until the next tick (there
/// is no later chance), the cordon's settle time and the time of the delete together.
///
/// The next tick comes after the configured `interval`, or after the longest of the gaps between the last `ticks` (oldest
/// first) where those come more slowly than that: by hand, or by another timer. A settle time that one action does not
/// wait out takes one more tick, since one tick cordons and a later one deletes.
pub fn margin(
    interval: SignedDuration,
    ticks: &[Timestamp],
    settle: SignedDuration,
    delete_time: SignedDuration,
) -> SignedDuration {
    let longest = ticks
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]))
        .filter(|gap| *gap <= LONGEST_GAP)
        .fold(interval, SignedDuration::max);
    let chances = if settle <= GUARDED_SETTLE { 1 } else { 2 };
    longest
        .saturating_mul(chances)
        .saturating_add(settle)
        .saturating_add(delete_time)
}

/// A surplus idle machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The cloud's time.
    pub now: Timestamp,
    /// Until when the machine is paid.
    pub paid_until: Timestamp,
    /// How long it has been idle, by the CI's clock.
    pub idle: SignedDuration,
}

/// Whether a surplus idle machine is due to go by how it is billed: why, or why not yet.
///
/// # Errors
/// The reason for which it is kept.
pub fn due(
    billing: Billing,
    clocks: Clocks,
    margin: SignedDuration,
    idle_timeout: SignedDuration,
) -> Result<Reason, Reason> {
    let paid_until = clocks.paid_until;
    match billing {
        Billing::StartedHour if paid_until.duration_since(clocks.now) <= margin => {
            Ok(Reason::PaidHourEnds { paid_until })
        }
        Billing::StartedHour => Err(Reason::PaidUntil { until: paid_until }),
        Billing::PerSecond { .. } if clocks.idle < idle_timeout => Err(Reason::IdleShort {
            idle: clocks.idle,
            limit: idle_timeout,
        }),
        Billing::PerSecond { .. } if paid_until > clocks.now => Err(Reason::PaidUntil { until: paid_until }),
        Billing::PerSecond { .. } => Ok(Reason::IdleTooLong { idle: clocks.idle }),
    }
}

/// The next step of an idle runner that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One guarded action: cordon, settle, read again, delete.
    Retire,
    /// Cordon now; a later tick deletes.
    Cordon,
    /// It is cordoned, and the cordon has not settled.
    Wait,
    /// Nothing can be done from outside: it goes when it has left by itself.
    Leave,
}

/// How an idle runner that is to go goes, by its CI's cordon. `now` is the CI's clock.
pub fn way(control: &ControlProfile, cordon: Cordon, now: Timestamp) -> Way {
    match (control.cordon, cordon) {
        (CordonKind::Leaves, _) => Way::Leave,
        (CordonKind::PauseAll, _) if control.settle > PAUSED_AT_MOST => Way::Leave,
        _ if control.settle <= GUARDED_SETTLE => Way::Retire,
        (_, Cordon::Since(since)) if now.duration_since(since) >= control.settle => Way::Retire,
        (_, Cordon::Since(_)) => Way::Wait,
        (_, Cordon::No | Cordon::Unknown) => Way::Cordon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    fn control(cordon: CordonKind, settle: i64) -> ControlProfile {
        ControlProfile {
            ci: "gitlab".into(),
            cordon,
            settle: secs(settle),
            lists_runners: true,
        }
    }

    #[test]
    fn the_order_is_failed_cordoned_least_paid_oldest_and_then_by_address() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let addresses: Vec<Address> = names
            .map(|name| Address::machine(&"linux".into(), &name.into()))
            .to_vec();
        let rank = |name: usize, failed, cordoned, paid, created| Rank {
            failed,
            cordoned,
            paid_until: Some(at(paid)),
            created_at: at(created),
            address: &addresses[name],
        };
        let wished = [
            rank(5, true, false, 900, 90),
            rank(4, false, true, 900, 90),
            rank(3, false, false, 100, 90),
            rank(2, false, false, 200, 10),
            rank(0, false, false, 200, 20),
            rank(1, false, false, 200, 20),
        ];
        let mut sorted = wished.to_vec();
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, wished);
        let unknown = Rank {
            paid_until: None,
            ..wished[3].clone()
        };
        assert!(unknown < wished[3]);
    }

    #[test]
    fn the_margin_is_the_interval_the_settle_and_the_delete_together() {
        assert_eq!(margin(secs(180), &[], secs(5), secs(15)), secs(200));
        assert_eq!(margin(secs(180), &[], secs(60), secs(15)), secs(255));
    }

    #[test]
    fn a_settle_that_takes_two_ticks_leaves_room_for_two() {
        assert_eq!(margin(secs(180), &[], secs(61), secs(15)), secs(436));
    }

    #[test]
    fn ticks_that_come_more_slowly_than_the_interval_widen_the_margin() {
        let margin = |ticks: &[i64]| {
            let ticks: Vec<Timestamp> = ticks.iter().map(|tick| at(*tick)).collect();
            super::margin(secs(180), &ticks, secs(5), secs(15))
        };
        assert_eq!(margin(&[0]), secs(200));
        assert_eq!(margin(&[0, 179]), secs(200));
        assert_eq!(margin(&[0, 60, 460, 700]), secs(420));
        assert_eq!(margin(&[0, 1200]), secs(1220));
        assert_eq!(margin(&[0, 1201]), secs(200), "a pause says nothing");
        assert_eq!(margin(&[0, 1201, 1501]), secs(320));
    }

    #[test]
    fn by_the_started_hour_a_machine_goes_within_the_margin_of_its_end() {
        let due = |paid_left| {
            let clocks = Clocks {
                now: at(0),
                paid_until: at(paid_left),
                idle: secs(100_000),
            };
            super::due(Billing::StartedHour, clocks, secs(200), secs(1))
        };
        assert_eq!(due(200), Ok(Reason::PaidHourEnds { paid_until: at(200) }));
        assert_eq!(due(201), Err(Reason::PaidUntil { until: at(201) }));
        assert!(due(1).is_ok());
    }

    #[test]
    fn by_the_second_a_machine_goes_when_it_has_been_idle_for_long_enough_and_its_minimum_is_over() {
        let billing = Billing::PerSecond {
            minimum: secs(60),
            least: None,
        };
        let due = |idle, paid_left| {
            let clocks = Clocks {
                now: at(0),
                paid_until: at(paid_left),
                idle: secs(idle),
            };
            super::due(billing, clocks, secs(200), secs(300))
        };
        assert_eq!(
            due(299, 0),
            Err(Reason::IdleShort {
                idle: secs(299),
                limit: secs(300)
            })
        );
        assert_eq!(due(300, 0), Ok(Reason::IdleTooLong { idle: secs(300) }));
        assert_eq!(due(301, 1), Err(Reason::PaidUntil { until: at(1) }));
    }

    #[test]
    fn a_settle_of_seconds_is_one_guarded_action_and_a_longer_one_two() {
        let pause = CordonKind::Pause;
        for cordon in [Cordon::No, Cordon::Unknown, Cordon::Since(at(-1))] {
            assert_eq!(way(&control(pause, 60), cordon, at(0)), Way::Retire);
        }
        let long = control(pause, 61);
        assert_eq!(way(&long, Cordon::No, at(0)), Way::Cordon);
        assert_eq!(way(&long, Cordon::Unknown, at(0)), Way::Cordon);
        assert_eq!(way(&long, Cordon::Since(at(-60)), at(0)), Way::Wait);
        assert_eq!(way(&long, Cordon::Since(at(-61)), at(0)), Way::Retire);
    }

    #[test]
    fn what_pauses_all_is_one_action_or_none() {
        let all = CordonKind::PauseAll;
        assert_eq!(way(&control(all, 20), Cordon::No, at(0)), Way::Retire);
        for cordon in [Cordon::No, Cordon::Since(at(-9999))] {
            assert_eq!(way(&control(all, 21), cordon, at(0)), Way::Leave);
        }
    }

    #[test]
    fn what_leaves_by_itself_is_left_to() {
        for settle in [0, 600] {
            let control = control(CordonKind::Leaves, settle);
            assert_eq!(way(&control, Cordon::Since(at(-9999)), at(0)), Way::Leave);
        }
    }
}
