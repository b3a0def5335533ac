//! One look at every machine, and every question once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, future::join, stream};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{
    Prometheus,
    exporter::{self, Look},
    query,
};
use crate::{
    demand::DemandError,
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector, RunnerView, Wanted, description},
        ids::PoolName,
        metrics::{MachineSeen, Measured, Metering, PoolMetrics},
        resource::Completeness,
    },
};

/// The longest that a look at all machines may take: those that do not answer take their time-out, some at a time.
pub(super) const OBSERVATION: Duration = Duration::from_secs(60);

/// Questions to the server at once; it has a limit of its own, 20 where nobody said otherwise (`--query.max-concurrency`).
const QUESTIONS_AT_ONCE: usize = 8;

/// Answers by their question, and the server's clock.
type Answers = (BTreeMap<String, Result<Measured, DemandError>>, Option<Timestamp>);

impl Prometheus {
    pub(super) async fn observe_pools(&self, pools: &[PoolSelector]) -> Result<DemandSnapshot, DemandError> {
        let calls = self.calls();
        let deadline = Instant::now() + OBSERVATION;
        let (looks, (answers, server)) =
            join(self.looks(pools, deadline), self.answers(pools, deadline)).await;
        // Where the server is all that there is, its silence is the source's.
        if self.scrape.is_none()
            && !answers.is_empty()
            && let Some(error) = answers.values().find_map(|answer| answer.as_ref().err())
            && answers.values().all(Result::is_err)
        {
            return Err(error.clone());
        }
        let told = pools.iter().filter_map(|pool| pool.metering.as_ref()?.now).max();
        let exporter = looks.iter().filter_map(|(.., look)| look.date).max();
        let now = told.or(server).or(exporter).unwrap_or_else(|| self.clock.now());
        let mut runners = Vec::with_capacity(looks.len());
        let mut metrics: BTreeMap<PoolName, PoolMetrics> = BTreeMap::new();
        for (pool, machine, look) in looks {
            runners.push(self.view(machine, &look, now));
            let of_pool = metrics.entry(pool.clone()).or_default();
            if let Some(told) = look.metrics {
                of_pool.machines.insert(machine.registration.clone(), told);
            }
        }
        for pool in pools {
            let Some(metering) = &pool.metering else { continue };
            let of_pool = metrics.entry(pool.pool.clone()).or_default();
            of_pool.queries = metering
                .queries
                .iter()
                .map(|question| (question.clone(), measured(answers.get(question), question)))
                .collect();
        }
        self.remember(pools, now);
        Ok(DemandSnapshot {
            ci: self.profile.ci.clone(),
            wanted: Wanted::Counts(BTreeMap::new()),
            runners,
            completeness: Completeness::Complete,
            cursor: Cursor::default(),
            now,
            calls: self.calls().saturating_sub(calls),
            control: self.profile.clone(),
            passed_over: BTreeMap::new(),
            metrics,
        })
    }

    /// Every machine of every pool, some at a time.
    async fn looks<'a>(
        &self,
        pools: &'a [PoolSelector],
        deadline: Instant,
    ) -> Vec<(&'a PoolName, &'a MachineSeen, Look)> {
        let mut looks = Vec::new();
        for pool in pools {
            let Some(metering) = pool.metering.as_deref() else {
                continue;
            };
            for machine in &metering.machines {
                looks
                    .push(async move { (&pool.pool, machine, self.look(metering, machine, deadline).await) });
            }
        }
        stream::iter(looks)
            .buffered(super::MACHINES_AT_ONCE)
            .collect()
            .await
    }

    async fn look(&self, metering: &Metering, machine: &MachineSeen, deadline: Instant) -> Look {
        let scrape = self.scrape.as_ref();
        let health = metering.health.as_ref();
        let look = exporter::look(&self.plain, scrape, machine, &metering.samples, health);
        timeout_at(deadline, look).await.unwrap_or_else(|_| {
            let why = "the time that a look at all machines may take is over";
            Look::unasked(scrape, why)
        })
    }

    /// Every question of every pool, once.
    async fn answers(&self, pools: &[PoolSelector], deadline: Instant) -> Answers {
        let questions: BTreeSet<&String> = pools
            .iter()
            .filter_map(|pool| pool.metering.as_ref())
            .flat_map(|metering| &metering.queries)
            .collect();
        let mut answers = BTreeMap::new();
        let mut clock = None;
        let Some(server) = &self.server else {
            return (answers, clock);
        };
        let mut asking = Vec::new();
        for question in questions {
            asking.push(async move {
                let answer = timeout_at(deadline, query::ask(server, question)).await;
                let late = || DemandError::Unavailable {
                    why: "no answer in the time that one observation may take".to_owned(),
                };
                (question, answer.unwrap_or_else(|_| Err(late())))
            });
        }
        let mut asked = stream::iter(asking).buffer_unordered(QUESTIONS_AT_ONCE);
        while let Some((question, answer)) = asked.next().await {
            let answer = answer.map(|(measured, date)| {
                clock = clock.max(date);
                measured
            });
            answers.insert(question.clone(), answer);
        }
        (answers, clock)
    }

    /// A machine as a runner of its own.
    fn view(&self, machine: &MachineSeen, look: &Look, now: Timestamp) -> RunnerView {
        RunnerView {
            registration: machine.registration.clone(),
            description: match &machine.lineage {
                Some(lineage) => description(&machine.name, lineage),
                None => machine.name.clone(),
            },
            online: Some(look.online),
            paused: self.is_cordoned(&machine.registration),
            last_contact: look.online.then_some(now),
            busy: look.busy,
        }
    }
}

fn measured(answer: Option<&Result<Measured, DemandError>>, question: &str) -> Measured {
    let why = match answer {
        Some(Ok(measured)) => return measured.clone(),
        Some(Err(error)) => error.to_string(),
        None => "there is no server to ask: the source has no `url`".to_owned(),
    };
    tracing::warn!(question, why, "a question has no answer");
    Measured::Missing { why }
}
