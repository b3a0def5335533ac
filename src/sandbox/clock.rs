//! The world's clock: wall time, scaled and shifted.
//!
//! Nothing here reads a clock; the wall time is an argument, so that the world stays a pure value.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// World time = `world` + (wall - `wall`) × `speed`, in whole milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Clock {
    world: Timestamp,
    wall: Timestamp,
    speed: f64,
}

impl Clock {
    /// A clock that shows the wall's time at `wall`.
    pub(crate) fn new(wall: Timestamp, speed: f64) -> Self {
        let wall = whole_millis(wall);
        Self {
            world: wall,
            wall,
            speed,
        }
    }

    /// The world's time when the wall shows `wall`. A wall clock set back stops the world, never turns it back.
    pub(crate) fn at(&self, wall: Timestamp) -> Timestamp {
        let passed = wall.as_millisecond().saturating_sub(self.wall.as_millisecond());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float of milliseconds saturates"
        )]
        let scaled = (passed.max(0) as f64 * self.speed) as i64;
        self.world
            .checked_add(SignedDuration::from_millis(scaled))
            .unwrap_or(Timestamp::MAX)
    }

    /// Moves the world ahead by `by`; a negative length is ignored.
    pub(crate) fn advance(&mut self, by: SignedDuration) {
        let by = SignedDuration::from_millis(i64::try_from(by.as_millis()).unwrap_or(0).max(0));
        self.world = self.world.checked_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Goes on at another speed from the moment `wall`.
    pub(crate) fn set_speed(&mut self, speed: f64, wall: Timestamp) {
        self.world = self.at(wall);
        self.wall = whole_millis(wall);
        self.speed = speed;
    }
}

fn whole_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// The `Date` header's form (RFC 9110: `Sun, 06 Nov 1994 08:49:37 GMT`).
pub(crate) fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn sixty_seconds_pass_in_one_at_speed_sixty() {
        let clock = Clock::new(at("2026-01-01T00:00:00Z"), 60.0);
        assert_eq!(clock.at(at("2026-01-01T00:00:01Z")), at("2026-01-01T00:01:00Z"));
    }

    #[test]
    fn a_change_of_speed_does_not_jump() {
        let mut clock = Clock::new(at("2026-01-01T00:00:00Z"), 60.0);
        clock.set_speed(1.0, at("2026-01-01T00:00:10Z"));
        assert_eq!(clock.at(at("2026-01-01T00:00:11Z")), at("2026-01-01T00:10:01Z"));
    }

    #[test]
    fn a_wall_clock_set_back_never_turns_the_world_back() {
        let mut clock = Clock::new(at("2026-01-01T00:00:00Z"), 1.0);
        clock.advance(SignedDuration::from_mins(10));
        assert_eq!(clock.at(at("2025-01-01T00:00:00Z")), at("2026-01-01T00:10:00Z"));
    }

    #[test]
    fn the_date_header_has_the_form_of_http() {
        assert_eq!(
            http_date(at("1994-11-06T08:49:37Z")),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }
}
