//! Waits for actions, many at a time: one poller for all creates that are under way.
//!
//! The API lists the account's actions, the newest first, 200 a page: one request tells of most of what is waited for, however many
//! wait. What that page lacks is asked for by its id. It runs only while somebody waits; a caller that gave up (its time is over) is
//! dropped at the next round.

#![expect(
    clippy::disallowed_methods,
    reason = "the poller ends when nobody waits for an action any more"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use digitalocean_api::api::Action as Builder;
use futures::{StreamExt as _, future, stream};
use tokio::sync::oneshot;

use super::{
    api::Api,
    pages::PER_PAGE,
    requests,
    wire::{Action, One, Page},
};

/// Up to so many are asked for one by one.
const FEW: usize = 2;

/// How many that a page of actions lacked are asked for in one round.
const BY_ID: usize = 10;

/// The first and the longest pause between two rounds: a droplet takes 20 to 60 s.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It did what it should.
    Completed,
    /// It did not; the API does not say why.
    Errored,
    /// The cloud does not know it, or does not let us see it.
    Unknown,
}

/// An action that ended, and of what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) end: End,
    /// The droplet.
    pub(super) resource: Option<u64>,
}

const UNKNOWN: Ended = Ended {
    end: End::Unknown,
    resource: None,
};

#[derive(Debug)]
pub(super) struct Poller {
    api: Api,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    running: bool,
    by_id: BTreeMap<u64, Vec<oneshot::Sender<Ended>>>,
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

    /// Waits until all have ended. Without a limit of its own.
    pub(super) async fn wait(self: &Arc<Self>, actions: &[u64]) -> Vec<Ended> {
        future::join_all(actions.iter().map(|id| self.wait_one(*id))).await
    }

    async fn wait_one(self: &Arc<Self>, id: u64) -> Ended {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.lock();
            waiting.by_id.entry(id).or_default().push(sender);
            if !waiting.running {
                waiting.running = true;
                tokio::spawn(run(Running {
                    poller: Arc::clone(self),
                    rested: false,
                }));
            }
        }
        receiver.await.unwrap_or(UNKNOWN)
    }

    /// The ids that somebody still waits for.
    fn ids(&self) -> Vec<u64> {
        let mut waiting = self.lock();
        waiting.by_id.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting.by_id.keys().copied().collect()
    }

    /// Ends the poller's run, unless somebody waits.
    fn rest(&self) -> bool {
        let mut waiting = self.lock();
        waiting.running = !waiting.by_id.is_empty();
        !waiting.running
    }

    async fn poll(&self, mut ids: Vec<u64>) {
        if ids.len() > FEW
            && let Ok(seen) = self.newest().await
        {
            for action in &seen {
                self.settle(action.id, ended(action));
            }
            ids.retain(|id| seen.iter().all(|action| action.id != *id));
        }
        // The oldest first: they have waited longest. The others have their turn in the next rounds.
        stream::iter(ids.into_iter().take(BY_ID))
            .for_each_concurrent(4, |id| self.poll_one(id))
            .await;
    }

    async fn newest(&self) -> Result<Vec<Action>, ()> {
        let request = requests::of(&Builder::list()).query("per_page", PER_PAGE.to_string());
        match self.api.get::<Page<Action>>(request).await {
            Ok(page) => Ok(page.rows),
            // A failed poll says nothing of the actions: the next round asks again, and whoever waits has a limit.
            Err(error) => {
                tracing::debug!(error = %error.of_read(), "actions could not be listed");
                Err(())
            }
        }
    }

    async fn poll_one(&self, id: u64) {
        let Ok(number) = usize::try_from(id) else { return };
        let request = requests::of(&Builder::get(number));
        match self.api.find::<One<Action>>(request).await {
            Ok(Some(One { row })) => self.settle(id, ended(&row)),
            Ok(None) => self.settle(id, Some(UNKNOWN)),
            // A token may make droplets and not see actions: the droplets themselves are looked at then.
            Err(failed) if failed.has_status(http::StatusCode::FORBIDDEN) => self.settle(id, Some(UNKNOWN)),
            Err(error) => tracing::debug!(id, error = %error.of_read(), "an action could not be polled"),
        }
    }

    fn settle(&self, id: u64, end: Option<Ended>) {
        let Some(end) = end else { return };
        for sender in self.lock().by_id.remove(&id).unwrap_or_default() {
            // Who gave up meanwhile does not want to know.
            let _ = sender.send(end);
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
        poller.poll(poller.ids()).await;
        // At once, so that whoever waits next begins with the short pause.
        if poller.rest() {
            running.rested = true;
            return;
        }
        pause = (pause + pause / 2).min(PAUSE.1);
    }
}

fn ended(action: &Action) -> Option<Ended> {
    let end = match action.status.as_str() {
        "completed" => End::Completed,
        "errored" => End::Errored,
        _ => return None,
    };
    Some(Ended {
        end,
        resource: action.resource_id,
    })
}
