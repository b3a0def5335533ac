//! The budget of requests that one credential may make in an hour, and in a minute, in which deletes come first.
//!
//! The hour's is a bucket that refills evenly, as Hetzner's does; the minute's is a window that slides, as DigitalOcean's does. Nine
//! tenths of each are for everyone; the last tenth is for deletes alone, so that a burst of listings can never keep a machine alive
//! that should be gone.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::{NetError, Priority};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// One part in this many is for deletes alone.
const RESERVED: u32 = 10;

/// A minute, and a second for what travels: the server counts a request when it arrives.
const MINUTE: Duration = Duration::from_secs(61);

/// Room for requests.
#[derive(Debug)]
pub struct Budget {
    buckets: Option<Buckets>,
    minute: Option<Window>,
}

#[derive(Debug)]
struct Buckets {
    /// Everyone's requests.
    all: Bucket,
    /// Those that are not deletes.
    normal: Bucket,
    /// What is for deletes alone.
    reserved: u32,
}

impl Budget {
    /// A full budget of so many requests per hour and per minute; without a number, one without end.
    pub fn new(per_hour: Option<u32>, per_minute: Option<u32>) -> Self {
        let buckets = per_hour.map(|per_hour| Buckets {
            all: Bucket::new(per_hour),
            normal: Bucket::new(per_hour - per_hour / RESERVED),
            reserved: per_hour / RESERVED,
        });
        Self {
            buckets,
            minute: per_minute.map(Window::new),
        }
    }

    /// Waits until there is room for one more.
    ///
    /// # Errors
    /// [`NetError::NotSent`] when there is none before the deadline; then it does not wait.
    pub async fn take(&self, priority: Priority, deadline: Instant) -> Result<(), NetError> {
        if let Some(minute) = &self.minute {
            minute.take(priority, deadline).await?;
        }
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        if priority == Priority::Normal {
            buckets.normal.take(deadline).await?;
        }
        buckets.all.take(deadline).await
    }

    /// The server says that so many are left: others use the same credential, or an earlier run did.
    pub fn at_most(&self, left: u32) {
        if let Some(buckets) = &self.buckets {
            buckets.all.lower(left);
            buckets.normal.lower(left.saturating_sub(buckets.reserved));
        }
    }
}

#[derive(Debug)]
struct Bucket {
    limiter: Limiter,
    /// What was left after the last take; refilling since then is not counted, so that it is never too much.
    level: AtomicU32,
}

impl Bucket {
    fn new(per_hour: u32) -> Self {
        let size = NonZeroU32::new(per_hour).unwrap_or(NonZeroU32::MIN);
        let each = Duration::from_secs(3600) / size.get();
        let quota = Quota::with_period(each)
            .unwrap_or(Quota::per_hour(size))
            .allow_burst(size);
        Self {
            limiter: RateLimiter::direct(quota).with_middleware(),
            level: AtomicU32::new(size.get()),
        }
    }

    async fn take(&self, deadline: Instant) -> Result<(), NetError> {
        loop {
            let wait = match self.limiter.check() {
                Ok(state) => {
                    self.level
                        .store(state.remaining_burst_capacity(), Ordering::Relaxed);
                    return Ok(());
                }
                Err(not_until) => wait(&not_until),
            };
            if Instant::now() + wait >= deadline {
                return Err(NetError::NotSent {
                    why: format!("the hour's budget of requests is used up; room again in {wait:.0?}"),
                });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes what is above `left` out.
    fn lower(&self, left: u32) {
        let surplus = self.level.load(Ordering::Relaxed).saturating_sub(left);
        if let Some(surplus) = NonZeroU32::new(surplus) {
            // Should somebody have taken some meanwhile, so that it is refused, the next answer lowers it.
            if let Ok(Ok(state)) = self.limiter.check_n(surplus) {
                self.level
                    .store(state.remaining_burst_capacity(), Ordering::Relaxed);
            }
        }
    }
}

/// The requests of the last minute.
#[derive(Debug)]
struct Window {
    /// How many there may be.
    size: usize,
    /// Of those, how many are for deletes alone.
    reserved: usize,
    /// When each was sent, the oldest first; never more than `size`.
    sent: Mutex<VecDeque<Instant>>,
}

impl Window {
    fn new(per_minute: u32) -> Self {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            size: count(per_minute.max(1)),
            reserved: count(per_minute / RESERVED),
            sent: Mutex::default(),
        }
    }

    async fn take(&self, priority: Priority, deadline: Instant) -> Result<(), NetError> {
        while let Some(room) = self.room(priority) {
            if room >= deadline {
                let wait = room - Instant::now();
                return Err(NetError::NotSent {
                    why: format!("the minute's budget of requests is used up; room again in {wait:.0?}"),
                });
            }
            tokio::time::sleep_until(room).await;
        }
        Ok(())
    }

    /// Counts one more; or, where there is no room, says when there will be.
    fn room(&self, priority: Priority) -> Option<Instant> {
        let now = Instant::now();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        while sent.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            sent.pop_front();
        }
        let most = match priority {
            Priority::Delete => self.size,
            Priority::Normal => self.size - self.reserved,
        };
        let full = sent.len().checked_sub(most).and_then(|over| sent.get(over));
        let room = full.map(|oldest| *oldest + MINUTE);
        if room.is_none() {
            sent.push_back(now);
        }
        room
    }
}

fn wait(not_until: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>) -> Duration {
    // A hair more, so that rounding does not make the next check come too early.
    not_until.wait_time_from(DefaultClock::default().now()) + Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(5)
    }

    #[tokio::test]
    async fn the_last_tenth_is_for_deletes() {
        let budget = Budget::new(Some(20), None);
        for _ in 0..18 {
            budget.take(Priority::Normal, soon()).await.unwrap();
        }
        assert!(matches!(
            budget.take(Priority::Normal, soon()).await,
            Err(NetError::NotSent { .. })
        ));
        for _ in 0..2 {
            budget.take(Priority::Delete, soon()).await.unwrap();
        }
        assert!(budget.take(Priority::Delete, soon()).await.is_err());
    }

    #[tokio::test]
    async fn what_the_server_says_is_left_lowers_the_budget() {
        let budget = Budget::new(Some(100), None);
        budget.at_most(13);
        for _ in 0..3 {
            budget.take(Priority::Normal, soon()).await.unwrap();
        }
        assert!(budget.take(Priority::Normal, soon()).await.is_err());
        for _ in 0..9 {
            budget.take(Priority::Delete, soon()).await.unwrap();
        }
        budget.at_most(0);
        assert!(budget.take(Priority::Delete, soon()).await.is_err());
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let budget = Budget::new(None, None);
        budget.at_most(0);
        for _ in 0..1000 {
            budget.take(Priority::Normal, soon()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_ever_has_more_requests_than_it_may() {
        let budget = Budget::new(None, Some(20));
        let end = Instant::now() + Duration::from_secs(600);
        let mut sent = Vec::new();
        for _ in 0..100 {
            budget.take(Priority::Normal, end).await.unwrap();
            sent.push(Instant::now());
        }
        for window in sent.windows(19) {
            assert!(window[18] - window[0] >= Duration::from_secs(60));
        }
        // 18 at once, then 18 a minute: no slower than it need be.
        assert!(sent[99] - sent[0] <= Duration::from_secs(5 * 61));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_tenth_of_a_minute_is_for_deletes() {
        let budget = Budget::new(None, Some(20));
        for _ in 0..18 {
            budget.take(Priority::Normal, soon()).await.unwrap();
        }
        let error = budget.take(Priority::Normal, soon()).await.unwrap_err();
        assert!(error.to_string().contains("minute's budget"), "{error}");
        for _ in 0..2 {
            budget.take(Priority::Delete, soon()).await.unwrap();
        }
        assert!(budget.take(Priority::Delete, soon()).await.is_err());
    }
}
