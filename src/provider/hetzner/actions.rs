//! Waits for actions, many at a time: one poller for all creates and deletes that are under way.
//!
//! It runs only while somebody waits. A caller that gave up (its time is over) is dropped at the next round.

#![expect(
    clippy::disallowed_methods,
    reason = "the poller ends when nobody waits for an action any more"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future, stream};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::net::{Priority, Request};

use super::{api::Api, wire::Action};

/// How many ids one request asks for: the API's default page, so that there never is a second one.
const IDS: usize = 25;

/// The first and the longest pause between two rounds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// What each request after a round's first adds to the pause, so that hundreds of waiting servers do not eat the hour's budget.
const PACE: Duration = Duration::from_millis(250);

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It did what it should.
    Success,
    /// It did not, and this is why.
    Failed { code: String, message: String },
    /// The cloud does not know it (any more).
    Unknown,
}

#[derive(Debug)]
pub(super) struct Poller {
    api: Api,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    running: bool,
    by_id: BTreeMap<u64, Waiter>,
}

#[derive(Debug, Default)]
struct Waiter {
    urgent: bool,
    senders: Vec<oneshot::Sender<Ended>>,
}

impl Poller {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            waiting: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all have ended: the first that failed, or is unknown, or success. Without a limit of its own.
    pub(super) async fn wait(self: &Arc<Self>, actions: &[Action], priority: Priority) -> Ended {
        let waits = actions.iter().map(|action| self.wait_one(action, priority));
        let ends = future::join_all(waits).await;
        let failed = ends.iter().find(|end| matches!(end, Ended::Failed { .. }));
        let other = ends.iter().find(|end| **end != Ended::Success);
        failed.or(other).cloned().unwrap_or(Ended::Success)
    }

    async fn wait_one(self: &Arc<Self>, action: &Action, priority: Priority) -> Ended {
        if let Some(end) = ended(action) {
            return end;
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.lock();
            let waiter = waiting.by_id.entry(action.id).or_default();
            waiter.urgent |= priority == Priority::Delete;
            waiter.senders.push(sender);
            if !waiting.running {
                waiting.running = true;
                tokio::spawn(run(Running {
                    poller: Arc::clone(self),
                    rested: false,
                }));
            }
        }
        receiver.await.unwrap_or(Ended::Unknown)
    }

    /// The ids that somebody still waits for.
    fn ids(&self) -> Vec<(u64, bool)> {
        let mut waiting = self.lock();
        waiting.by_id.retain(|_, waiter| {
            waiter.senders.retain(|sender| !sender.is_closed());
            !waiter.senders.is_empty()
        });
        waiting
            .by_id
            .iter()
            .map(|(id, waiter)| (*id, waiter.urgent))
            .collect()
    }

    /// Ends the poller's run, unless somebody waits.
    fn rest(&self) -> bool {
        let mut waiting = self.lock();
        waiting.running = !waiting.by_id.is_empty();
        !waiting.running
    }

    async fn poll(&self, ids: &[(u64, bool)]) {
        #[derive(Deserialize)]
        struct Answer {
            actions: Vec<Action>,
        }
        let mut request = Request::get("/actions");
        for (id, urgent) in ids {
            request = request.query("id", id.to_string());
            if *urgent {
                request.priority = Priority::Delete;
            }
        }
        // A failed poll says nothing of the actions: the next round asks again, and whoever waits has a limit.
        match self.api.get::<Answer>(request).await {
            Ok(answer) => self.settle(ids, &answer.actions),
            Err(error) => tracing::debug!(error = %error.of_read(), "actions could not be polled"),
        }
    }

    fn settle(&self, asked: &[(u64, bool)], answered: &[Action]) {
        let mut waiting = self.lock();
        for (id, _) in asked {
            let end = match answered.iter().find(|action| action.id == *id) {
                Some(action) => ended(action),
                None => Some(Ended::Unknown),
            };
            if let Some(end) = end {
                for sender in waiting.by_id.remove(id).map(|w| w.senders).unwrap_or_default() {
                    // Who gave up meanwhile does not want to know.
                    let _ = sender.send(end.clone());
                }
            }
        }
    }
}

/// A run of the poller; when it is cancelled with its runtime, the next one that waits starts another.
struct Running {
    poller: Arc<Poller>,
    rested: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.rested {
            self.poller.lock().running = false;
        }
    }
}

async fn run(mut running: Running) {
    let poller = Arc::clone(&running.poller);
    let mut pause = PAUSE.0;
    loop {
        tokio::time::sleep(pause).await;
        let ids = poller.ids();
        let batches: Vec<_> = ids.chunks(IDS).collect();
        let more = u32::try_from(batches.len().saturating_sub(1)).unwrap_or(u32::MAX);
        stream::iter(batches)
            .for_each_concurrent(4, |batch| poller.poll(batch))
            .await;
        // At once, so that whoever waits next begins with the short pause.
        if poller.rest() {
            running.rested = true;
            return;
        }
        pause = (pause + pause / 2).min(PAUSE.1).max(PACE.saturating_mul(more));
    }
}

fn ended(action: &Action) -> Option<Ended> {
    match action.status.as_str() {
        "success" => Some(Ended::Success),
        "error" => {
            let error = action.error.clone();
            Some(Ended::Failed {
                code: error
                    .as_ref()
                    .map_or_else(|| "action_failed".to_owned(), |e| e.code.clone()),
                message: error.map_or_else(|| "the action failed".to_owned(), |e| e.message),
            })
        }
        _ => None,
    }
}
