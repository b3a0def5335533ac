//! The lock in a bucket: one object that is replaced only over what was read, with a lease that its holder renews.
//!
//! - `epoch` rises with each taking, also of a lock that was given back: the object stays, so that no number comes twice.
//! - A lease has ended when the server's clock shows its last renewal (`Last-Modified`) more than its length ago. Whoever
//!   takes it then first waits the longest call, and takes it only if it was not renewed meanwhile.
//! - The lease of a process of this very host that is gone has ended, and nothing waits for its calls: whatever they came to,
//!   recovery finds, as after a crash under the lock of a file.
//! - The holder goes by its own clock, from before it sent the renewal: it always thinks that it has less than it has.
//! - A lock that was not given back in order (it ended, or was broken) is *fenced* by whoever takes it: the state is
//!   rewritten with the new epoch, so that the old holder's next write over what it read fails.

#![expect(clippy::disallowed_methods, reason = "the shell: a lease goes by the clock")]

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::{UpdateVersion, path::Path};
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, Found, ServerClock, Swapped};
use crate::state::{LockInfo, RemoteError, StateError, Until, lock, remote::unwritable};

/// The version of the lock's format that this program writes.
const VERSION: u32 = 1;

/// How a held lock is polled by those who wait for it.
const POLL: Duration = Duration::from_millis(500);

/// The shortest pause between two renewals, however short the lease is.
const BREATH: Duration = Duration::from_millis(100);

/// The lengths of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long it holds from its last renewal. It is renewed at a third of it.
    pub length: Duration,
    /// The longest call that a holder may still be in: whoever takes an ended lease waits for that long first.
    pub longest_call: Duration,
}

impl LeaseTimes {
    /// For calls that take so long at the most: between two renewals there is always time for one, and a minute more.
    pub fn for_calls(longest_call: Duration) -> Self {
        Self {
            length: longest_call * 2 + Duration::from_secs(60),
            longest_call,
        }
    }
}

/// The lock object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockObject {
    version: u32,
    /// How often it was taken.
    pub(super) epoch: u64,
    /// Who holds it; none: nobody.
    pub(super) holder: Option<LockInfo>,
    /// The length of the lease.
    lease_seconds: u64,
    /// Counts renewals, so that no two writes are alike.
    renewals: u64,
    /// Whether the last holder gave it back; else it is fenced by the next.
    in_order: bool,
}

/// The lock object and how to replace it.
#[derive(Clone, Debug)]
pub(super) struct LockFile {
    bucket: Bucket,
    path: Path,
    clock: ServerClock,
    times: LeaseTimes,
}

/// What was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) object: LockObject,
    pub(super) until: Until,
    pub(super) version: UpdateVersion,
    /// Whether whoever held it before may still think so.
    pub(super) fence: bool,
    pub(super) from: Option<LockInfo>,
}

impl LockFile {
    pub(super) fn new(bucket: Bucket, path: Path, clock: ServerClock, times: LeaseTimes) -> Self {
        Self {
            bucket,
            path,
            clock,
            times,
        }
    }

    pub(super) async fn read(&self) -> Result<Option<(LockObject, Found)>, StateError> {
        let Some(found) = self.bucket.get(&self.path).await? else {
            return Ok(None);
        };
        let place = self.bucket.place_of(&self.path);
        let object: LockObject =
            serde_json::from_slice(&found.bytes).map_err(|error| StateError::Corrupt {
                place: place.clone(),
                why: error.to_string(),
            })?;
        if object.version > VERSION {
            return Err(StateError::Newer {
                place,
                found: u64::from(object.version),
                known: VERSION,
            });
        }
        Ok(Some((object, found)))
    }

    async fn write(&self, object: &LockObject, over: Option<UpdateVersion>) -> Result<Swapped, StateError> {
        let text = self.text(object)?;
        self.bucket.swap(&self.path, &text, over).await
    }

    fn text(&self, object: &LockObject) -> Result<Bytes, StateError> {
        let mut text = serde_json::to_vec_pretty(object)
            .map_err(|error| unwritable(&self.bucket.place_of(&self.path), &error))?;
        text.push(b'\n');
        Ok(text.into())
    }

    fn has_ended(&self, object: &LockObject, found: &Found) -> bool {
        let length = SignedDuration::try_from(Duration::from_secs(object.lease_seconds));
        let ends = found
            .modified
            .saturating_add(length.unwrap_or(SignedDuration::MAX));
        ends.is_ok_and(|ends| self.clock.at(now()) >= ends)
    }

    /// Takes the lock, waiting at most `patience` for another to give it back, and as long as the longest call takes where
    /// one's lease has ended.
    pub(super) async fn take(&self, info: &LockInfo, patience: Duration) -> Result<Taken, StateError> {
        let began = tokio::time::Instant::now();
        // The version that was seen to have ended, and since when.
        let mut ended: Option<(UpdateVersion, tokio::time::Instant)> = None;
        loop {
            let current = self.read().await?;
            let holder = current
                .as_ref()
                .and_then(|(object, _)| object.holder.clone())
                .filter(|holder| holder.id != info.id);
            let (Some((object, found)), Some(holder)) = (&current, holder) else {
                match self.try_take(info, current, None).await? {
                    Some(taken) => return Ok(taken),
                    None => continue,
                }
            };
            if lock::has_died_here(&holder, info) {
                match self.try_take(info, current, Some(holder)).await? {
                    Some(taken) => return Ok(taken),
                    None => continue,
                }
            }
            if self.has_ended(object, found) {
                let since = match &ended {
                    Some((version, since)) if *version == found.version => *since,
                    _ => {
                        tracing::info!(
                            holder = holder.who,
                            seconds = self.times.longest_call.as_secs(),
                            "the lease of the lock has ended; waiting for calls that may be under way"
                        );
                        tokio::time::Instant::now()
                    }
                };
                ended = Some((found.version.clone(), since));
                let left = self.times.longest_call.saturating_sub(since.elapsed());
                if left.is_zero() {
                    match self.try_take(info, current, Some(holder)).await? {
                        Some(taken) => return Ok(taken),
                        None => continue,
                    }
                }
                tokio::time::sleep(left).await;
                continue;
            }
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                let holder = Box::new(holder);
                return Err(StateError::Locked { holder });
            }
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    /// Tries once; none when another was faster.
    async fn try_take(
        &self,
        info: &LockInfo,
        current: Option<(LockObject, Found)>,
        from: Option<LockInfo>,
    ) -> Result<Option<Taken>, StateError> {
        let sent = now();
        let first = current.is_none();
        let object = LockObject {
            version: VERSION,
            epoch: current.as_ref().map_or(1, |(object, _)| object.epoch + 1),
            holder: Some(info.clone()),
            lease_seconds: self.times.length.as_secs(),
            renewals: 0,
            in_order: false,
        };
        let fence = current.as_ref().is_some_and(|(object, _)| !object.in_order);
        let over = current.map(|(_, found)| found.version);
        let Swapped::Done(version) = self.write(&object, over).await? else {
            return Ok(None);
        };
        if first
            && !self
                .bucket
                .keeps_conditions(&self.path, &self.text(&object)?)
                .await?
        {
            return Err(RemoteError::NoLock {
                place: self.bucket.place_of(&self.path),
                why: "it wrote over an object though it was told not to (If-None-Match, If-Match)".to_owned(),
            }
            .into());
        }
        Ok(Some(Taken {
            object,
            until: Until::new(self.ends(sent)),
            version,
            fence,
            from,
        }))
    }

    fn ends(&self, sent: Timestamp) -> Timestamp {
        let length = SignedDuration::try_from(self.times.length).unwrap_or(SignedDuration::MAX);
        sent.saturating_add(length).unwrap_or(Timestamp::MAX)
    }

    /// Renews the lease until it is lost; then its end is now.
    pub(super) async fn renew(self, mut object: LockObject, mut version: UpdateVersion, until: Until) {
        let third = (self.times.length / 3).max(BREATH);
        let mut pause = third;
        loop {
            tokio::time::sleep(pause).await;
            let sent = now();
            object.renewals += 1;
            match self.write(&object, Some(version.clone())).await {
                Ok(Swapped::Done(fresh)) => {
                    version = fresh;
                    until.move_to(self.ends(sent));
                    pause = third;
                }
                Ok(Swapped::Overtaken) => {
                    tracing::error!("the lock was taken by another; nothing more is begun");
                    until.move_to(Timestamp::MIN);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, until = %until.at(), "the lock could not be renewed");
                    // Often enough to be back in time, where the server is.
                    pause = (third / 8).max(BREATH);
                }
            }
        }
    }

    /// Gives it back, or breaks it: it keeps its epoch. Answers with who held it, or whose it is where it is another's.
    pub(super) async fn give_back(
        &self,
        id: &str,
        in_order: bool,
    ) -> Result<Result<Option<LockInfo>, LockInfo>, StateError> {
        loop {
            let Some((object, found)) = self.read().await? else {
                return Ok(Ok(None));
            };
            let Some(holder) = object.holder.clone() else {
                return Ok(Ok(None));
            };
            if holder.id != id {
                return Ok(Err(holder));
            }
            let free = LockObject {
                holder: None,
                in_order,
                renewals: object.renewals + 1,
                ..object
            };
            // Overtaken by our own renewal at the most, or by who took it.
            if let Swapped::Done(_) = self.write(&free, Some(found.version)).await? {
                return Ok(Ok(Some(holder)));
            }
        }
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
