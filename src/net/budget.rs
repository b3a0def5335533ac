//! The budget of requests that one credential may make in an hour, in which deletes come first.
//!
//! A bucket of the hour's requests that refills evenly, as Hetzner's does. Nine tenths of it are for everyone; the last tenth is for
//! deletes alone, so that a burst of listings can never keep a machine alive that should be gone.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
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

/// Room for requests.
#[derive(Debug)]
pub struct Budget {
    buckets: Option<Buckets>,
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
    /// A full budget of so many requests per hour; without a number, one without end.
    pub fn new(per_hour: Option<u32>) -> Self {
        let buckets = per_hour.map(|per_hour| Buckets {
            all: Bucket::new(per_hour),
            normal: Bucket::new(per_hour - per_hour / RESERVED),
            reserved: per_hour / RESERVED,
        });
        Self { buckets }
    }

    /// Waits until there is room for one more.
    ///
    /// # Errors
    /// [`NetError::NotSent`] when there is none before the deadline; then it does not wait.
    pub async fn take(&self, priority: Priority, deadline: Instant) -> Result<(), NetError> {
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
        let budget = Budget::new(Some(20));
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
        let budget = Budget::new(Some(100));
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
        let budget = Budget::new(None);
        budget.at_most(0);
        for _ in 0..1000 {
            budget.take(Priority::Normal, soon()).await.unwrap();
        }
    }
}
