//! Reading resource classes: all that the pools name, or the one of a runner.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::{
    Circleci,
    wire::{Runner, Runners, Running, Unclaimed},
};
use crate::{
    demand::{
        DemandError,
        answer::{self, Effect, accept, date, decode},
    },
    model::{
        demand::{Counts, Cursor, DemandSnapshot, PoolSelector, RunnerView, Wanted},
        ids::{PoolName, RegistrationId},
        resource::Completeness,
    },
    net::{Priority, Request},
};

/// How long one observation may take in all: less than the three minutes between two ticks of the timer.
pub(super) const OBSERVATION: Duration = Duration::from_secs(120);
/// Classes that are read at a time. The API's limits are not published: this is what a person with some tabs open does.
pub(super) const CLASSES_AT_ONCE: usize = 4;
/// A runner that was last heard from longer ago than this does not answer. One that waits asks every few seconds; five
/// minutes outlast a restart of its agent.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// Words of failures that a partial answer repeats.
const TOLD: usize = 3;

/// A resource class, and the pool whose runners serve it.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) pool: PoolName,
    pub(super) class: String,
}

/// What was read of one class.
struct Reading {
    of: Class,
    runners: Result<(Vec<Runner>, Timestamp), DemandError>,
    unclaimed: Result<(u32, Timestamp), DemandError>,
    running: Result<(u32, Timestamp), DemandError>,
}

/// The parts of a snapshot, while it is put together.
#[derive(Default)]
struct Gathered {
    counts: BTreeMap<PoolName, Counts>,
    runners: Vec<RunnerView>,
    classes: Vec<(RegistrationId, String)>,
    now: Option<Timestamp>,
    failures: Vec<(String, DemandError)>,
}

impl Gathered {
    fn take(&mut self, reading: Reading) {
        let Class { pool, class } = reading.of;
        let runners = self.part(&class, "runners", reading.runners);
        let unclaimed = self.part(&class, "unclaimed tasks", reading.unclaimed);
        let running = self.part(&class, "running tasks", reading.running);
        for (runner, seen) in runners.into_iter().flat_map(|(all, at)| with(all, at)) {
            let id = RegistrationId::from(runner.name.as_str());
            self.classes.push((id.clone(), class.clone()));
            self.runners
                .push(view(id, runner, seen, running.map(|(count, _)| count)));
        }
        let count = |part: Option<(u32, Timestamp)>| part.map_or(0, |(count, _)| count);
        let counts = Counts {
            queued: count(unclaimed),
            running: count(running),
        };
        self.counts.insert(pool, counts);
    }

    /// The part, if it was read, and the time of its answer noted.
    fn part<T>(
        &mut self,
        class: &str,
        what: &str,
        part: Result<(T, Timestamp), DemandError>,
    ) -> Option<(T, Timestamp)> {
        match part {
            Ok((part, at)) => {
                self.now = self.now.max(Some(at));
                Some((part, at))
            }
            Err(error) => {
                self.failures.push((format!("{class}: {what}"), error));
                None
            }
        }
    }

    fn completeness(&self) -> Completeness {
        if self.failures.is_empty() {
            return Completeness::Complete;
        }
        let told = self.failures.iter().take(TOLD);
        let mut words: Vec<String> = told.map(|(what, error)| format!("{what}: {error}")).collect();
        if let Some(more) = self.failures.len().checked_sub(TOLD).filter(|more| *more > 0) {
            words.push(format!("and {more} more"));
        }
        Completeness::partial(words.join("; "))
    }
}

fn with(runners: Vec<Runner>, seen: Timestamp) -> impl Iterator<Item = (Runner, Timestamp)> {
    runners.into_iter().map(move |runner| (runner, seen))
}

/// A runner as it was seen, with how many tasks its class ran after that; none where that is not known.
fn view(id: RegistrationId, runner: Runner, seen: Timestamp, running: Option<u32>) -> RunnerView {
    let fresh = runner
        .last_connected
        .is_some_and(|at| seen.duration_since(at) <= FRESH);
    RunnerView {
        registration: id,
        description: runner.name,
        // Whether one that is at work asks meanwhile is not documented: while its class runs something, silence says nothing.
        online: match (fresh, running) {
            (true, _) => Some(true),
            (false, Some(0)) => Some(false),
            (false, _) => None,
        },
        paused: false,
        last_contact: runner.last_connected,
        busy: (running == Some(0)).then_some(false),
    }
}

/// Each class once, with the first pool that names it; and those that name one of these again.
pub(super) fn by_class(pools: impl Iterator<Item = Class>) -> (Vec<Class>, Vec<Class>) {
    let mut seen = BTreeSet::new();
    pools.partition(|class| seen.insert(class.class.clone()))
}

/// The one tag of a pool. A pool without tags stands for groups that tell theirs when they are found.
fn class_of(selector: &PoolSelector) -> Option<Class> {
    match selector.tags.as_slice() {
        [class] => Some(Class {
            pool: selector.pool.clone(),
            class: class.clone(),
        }),
        _ => None,
    }
}

impl Circleci {
    pub(super) async fn observe_classes(
        &self,
        pools: &[PoolSelector],
    ) -> Result<DemandSnapshot, DemandError> {
        let calls = self.client.calls();
        let deadline = Instant::now() + OBSERVATION;
        let mut all = Gathered::default();
        for selector in pools.iter().filter(|selector| selector.tags.len() > 1) {
            let why = "it names several resource classes".to_owned();
            all.failures
                .push((format!("pool {}", selector.pool), DemandError::Rejected { why }));
        }
        let (classes, doubles) = by_class(pools.iter().filter_map(class_of));
        for Class { pool, class } in doubles {
            tracing::warn!(%pool, %class, "another pool has this resource class already: it alone is given its tasks");
            all.counts.insert(pool, Counts::default());
        }
        let readings: Vec<Reading> = stream::iter(classes)
            .map(|class| self.read_class(class, deadline))
            .buffered(CLASSES_AT_ONCE)
            .collect()
            .await;
        for reading in readings {
            all.take(reading);
        }
        self.remember(all.classes.drain(..));
        let completeness = all.completeness();
        let now = match all.now {
            Some(now) => now,
            None if all.failures.is_empty() => self.server_time(deadline).await?,
            None => {
                let (what, error) = all.failures.swap_remove(0);
                return Err(match error {
                    DemandError::Rejected { why } => DemandError::Rejected {
                        why: format!("{what}: {why}"),
                    },
                    error => error,
                });
            }
        };
        Ok(DemandSnapshot {
            ci: self.profile.ci.clone(),
            wanted: Wanted::Counts(all.counts),
            runners: all.runners,
            completeness,
            cursor: Cursor::default(),
            now,
            calls: self.client.calls().saturating_sub(calls),
            control: self.profile.clone(),
            passed_over: BTreeMap::new(),
            metrics: BTreeMap::new(),
        })
    }

    /// The server's clock, where there is no class to ask for: asked for none it refuses, with the time on its answer.
    pub(super) async fn server_time(&self, deadline: Instant) -> Result<Timestamp, DemandError> {
        let request = Request::get(self.paths.runners);
        let reply = timeout_at(deadline, answer::send(&self.client, request)).await;
        let reply = reply.map_err(|_| late())??;
        match accept(reply.clone(), Effect::Read) {
            Ok(_) | Err(DemandError::Rejected { .. }) => date(&reply),
            Err(error) => Err(error),
        }
    }

    /// Runners first: a task that is claimed after they were seen is in the count of those that run.
    async fn read_class(&self, of: Class, deadline: Instant) -> Reading {
        let (paths, class) = (self.paths, of.class.as_str());
        let runners = self
            .ask::<Runners>(paths.runners, class, Priority::Normal, deadline)
            .await;
        let (unclaimed, running) = tokio::join!(
            self.ask::<Unclaimed>(paths.unclaimed, class, Priority::Normal, deadline),
            self.ask::<Running>(paths.running, class, Priority::Normal, deadline),
        );
        Reading {
            runners: runners.map(|(all, at)| (all.items, at)),
            unclaimed: unclaimed.map(|(count, at)| (count.unclaimed_task_count, at)),
            running: running.map(|(count, at)| (count.running_runner_tasks, at)),
            of,
        }
    }

    /// One question about one class.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        class: &str,
        priority: Priority,
        deadline: Instant,
    ) -> Result<(T, Timestamp), DemandError> {
        let mut request = Request::get(path).query("resource-class", class);
        request.priority = priority;
        let reply = timeout_at(deadline, answer::send(&self.client, request)).await;
        let reply = accept(reply.map_err(|_| late())??, Effect::Read)?;
        let at = date(&reply)?;
        Ok((decode(&reply)?, at))
    }

    /// Whether the class of a runner runs nothing; of one that was never seen, whether no class of ours runs anything.
    pub(super) async fn runs_nothing(&self, runner: &RegistrationId) -> Result<bool, DemandError> {
        let classes: BTreeSet<String> = {
            let known = self.class_of.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(runner) {
                Some(class) => BTreeSet::from([class.clone()]),
                None => known.values().chain(self.classes.values()).cloned().collect(),
            }
        };
        let deadline = Instant::now() + OBSERVATION;
        let mut nothing = !classes.is_empty();
        let mut counts = stream::iter(classes)
            .map(|class| async move {
                let path = self.paths.running;
                self.ask::<Running>(path, &class, Priority::Delete, deadline)
                    .await
            })
            .buffer_unordered(CLASSES_AT_ONCE);
        while let Some(count) = counts.next().await {
            nothing &= count?.0.running_runner_tasks == 0;
        }
        Ok(nothing)
    }

    /// Notes which class these runners are of.
    pub(super) fn remember(&self, classes: impl IntoIterator<Item = (RegistrationId, String)>) {
        let mut known = self.class_of.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(classes);
    }
}

fn late() -> DemandError {
    DemandError::Unavailable {
        why: "the time that one observation may take is over".to_owned(),
    }
}
