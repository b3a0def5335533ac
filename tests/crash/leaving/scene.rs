//! One world, shared by all who call: each call takes its time before and after it takes effect, and the world goes on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::world::{Ms, World};

/// The world's beginning, in seconds since 1970.
const BEGINNING: i64 = 1_800_000_000;

/// A handle on the world.
#[derive(Clone, Debug)]
pub struct Scene {
    start: Instant,
    world: Arc<Mutex<World>>,
}

impl Scene {
    pub fn new(world: World) -> Self {
        Self {
            start: Instant::now(),
            world: Arc::new(Mutex::new(world)),
        }
    }

    fn elapsed(&self) -> Ms {
        Ms::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    pub fn now(&self) -> Timestamp {
        timestamp(self.elapsed())
    }

    /// Looks at the world, or changes it, as it is now.
    pub fn at<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance(self.elapsed());
        look(&mut world)
    }

    pub async fn pass(&self, time: Ms) {
        tokio::time::sleep(Duration::from_millis(u64::try_from(time).unwrap())).await;
    }

    /// The half of a call: to the server, or back.
    pub async fn travel(&self) {
        let time = self.at(|world| {
            if world.chance(10) {
                world.between(500, 3_000)
            } else {
                world.between(10, 400)
            }
        });
        self.pass(time).await;
    }
}

/// That time of the world.
pub fn timestamp(at: Ms) -> Timestamp {
    let beginning = Timestamp::from_second(BEGINNING).unwrap();
    beginning + SignedDuration::from_millis(at)
}
