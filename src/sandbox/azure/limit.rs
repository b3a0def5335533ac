//! The service's rate limit: what a caller used in the last five minutes. Beyond it calls are delayed, far beyond it refused.

use jiff::SignedDuration;

use super::super::{
    api::Reply,
    world::{World, add},
};

/// The window in which use is counted.
const WINDOW: f64 = 300.0;
/// What a call costs, in units of a user's usual use (TSTU). The service measures; here each costs the same.
const COST: f64 = 0.125;
/// Calls are delayed by at most so many seconds.
const DELAY_MAX: f64 = 30.0;

/// The state of the limit after a call.
pub(crate) struct Limit {
    allowed: f64,
    used: f64,
    /// When nothing of it would be used.
    reset: i64,
    /// Seconds.
    pub(crate) delay: f64,
    /// Whether the call is refused.
    pub(crate) is_reached: bool,
}

impl Limit {
    /// Seconds after which a call that is refused may be made again.
    pub(crate) fn wait(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few minutes"
        )]
        let seconds = ((self.used - self.allowed).max(0.0) * WINDOW / self.allowed).ceil() as u64;
        seconds.max(1)
    }

    /// The headers, which are there once half is used.
    pub(crate) fn onto(self, reply: Reply) -> Reply {
        if self.used < self.allowed / 2.0 {
            return reply;
        }
        let reply = reply
            .header("X-RateLimit-Resource", "Concurrency")
            .header("X-RateLimit-Limit", format!("{:.0}", self.allowed))
            .header(
                "X-RateLimit-Remaining",
                format!("{:.0}", (self.allowed - self.used).max(0.0)),
            )
            .header("X-RateLimit-Reset", self.reset.to_string());
        if self.delay > 0.0 && !self.is_reached {
            delayed(reply, self.delay)
        } else {
            reply
        }
    }
}

/// Says that the answer was held back for so many seconds, and that the next call had better wait as long.
pub(crate) fn delayed(reply: Reply, seconds: f64) -> Reply {
    reply
        .header("X-RateLimit-Delay", format!("{seconds:.3}"))
        .header("Retry-After", format!("{:.0}", seconds.ceil()))
}

/// Counts a call. What is used drains evenly over the window.
pub(crate) fn draw(world: &mut World) -> Option<Limit> {
    if !world.settings.rate_limit {
        return None;
    }
    let allowed = f64::from(world.settings.azure_tstu);
    let (used, at) = world.azure.used.unwrap_or((0.0, world.now));
    let drained = world.now.duration_since(at).as_secs_f64() * allowed / WINDOW;
    let used = (used - drained).max(0.0);
    let is_reached = used >= allowed * 2.0;
    let used = if is_reached { used } else { used + COST };
    world.azure.used = Some((used, world.now));
    let over = (used - allowed).max(0.0);
    let seconds = SignedDuration::try_from_secs_f64(used * WINDOW / allowed).unwrap_or_default();
    Some(Limit {
        allowed,
        used,
        reset: add(world.now, seconds).as_second(),
        delay: (over * WINDOW / allowed).min(DELAY_MAX),
        is_reached,
    })
}
