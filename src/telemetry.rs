//! What a tick tells of itself: metrics for node_exporter's textfile collector.
//!
//! The metrics are those of one tick, so all are gauges; the file is replaced whole, so a scrape sees one tick or the
//! next. A tick that could not decide writes nothing: `runfleet_last_tick_timestamp_seconds` then stays where it is,
//! which is what to alert on. Prices are floating-point here and nowhere else.

use std::{
    collections::BTreeMap,
    fmt,
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use rust_decimal::prelude::ToPrimitive;

use crate::{
    model::{money::Money, runner::RunnerState},
    plan::{Plan, Verb},
};

/// What applying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Actions by verb (`create`) and result (`done`, `failed`, `held`, `skipped`).
    pub actions: BTreeMap<(&'static str, &'static str), u32>,
}

impl Outcomes {
    /// Counts one action.
    pub fn count(&mut self, verb: &Verb, result: &'static str) {
        *self.actions.entry((verb.as_str(), result)).or_default() += 1;
    }
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the metrics to {}", path.display())]
pub struct MetricsError {
    /// Where.
    pub path: PathBuf,
    /// What happened.
    pub source: io::Error,
}

/// Replaces the metrics file by what this tick came to.
///
/// `finished` is our own clock, as the alerts compare it with Prometheus's. The file is readable by all: its reader is
/// another user.
pub fn write_metrics(
    path: &Path,
    plan: &Plan,
    outcomes: &Outcomes,
    finished: Timestamp,
    took: Duration,
) -> Result<(), MetricsError> {
    let fail = |source| MetricsError {
        path: path.to_owned(),
        source,
    };
    let text = exposition(plan, outcomes, finished, took).map_err(|error| fail(io::Error::other(error)))?;
    replace(path, &text).map_err(fail)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Not named *.prom: the collector would read it half written.
    let mut file = tempfile::Builder::new()
        .prefix(".runfleet-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

type Labels = Vec<(&'static str, String)>;
type Series = Family<Labels, Gauge<f64, AtomicU64>>;

struct Metrics(Registry);

impl Metrics {
    fn family(&mut self, name: &str, help: &str) -> Series {
        let series = Series::default();
        self.0.register(name, help, series.clone());
        series
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help).get_or_create(&Vec::new()).set(value);
    }
}

/// What a tick came to, in Prometheus's text format, ending in `# EOF`.
///
/// # Errors
/// Never, but for what the encoder's own types say.
pub fn exposition(
    plan: &Plan,
    outcomes: &Outcomes,
    finished: Timestamp,
    took: Duration,
) -> Result<String, fmt::Error> {
    let stack = [("stack".into(), plan.stack.to_string().into())];
    let mut metrics = Metrics(Registry::with_prefix_and_labels("runfleet", stack.into_iter()));
    pools(&mut metrics, plan);
    machines(&mut metrics, plan);
    refusals(&mut metrics, plan);

    let cost = metrics.family(
        "cost_per_hour",
        "What an hour costs after the tick's plan, by currency; machines being made count at their dearest offering",
    );
    for money in &plan.cost.after_hourly {
        cost.get_or_create(&vec![("currency", money.currency.to_string())])
            .set(amount(money));
    }
    let actions = metrics.family("last_tick_actions", "Actions of the last tick by verb and result");
    for ((verb, result), count) in &outcomes.actions {
        actions
            .get_or_create(&vec![
                ("verb", (*verb).to_owned()),
                ("result", (*result).to_owned()),
            ])
            .set(f64::from(*count));
    }
    metrics.gauge(
        "last_tick_reads",
        "Requests that observing took of clouds and CI systems",
        f64::from(plan.api.observed),
    );
    metrics.gauge(
        "last_tick_timestamp_seconds",
        "When the last tick ended, in seconds since 1970",
        finished.as_second() as f64,
    );
    metrics.gauge(
        "last_tick_duration_seconds",
        "How long the last tick took",
        took.as_secs_f64(),
    );
    metrics.gauge(
        "last_tick_complete",
        "Whether every cloud and CI system answered the last tick in full",
        f64::from(u8::from(plan.complete)),
    );
    let mut text = String::new();
    text::encode(&mut text, &metrics.0)?;
    Ok(text)
}

fn pools(metrics: &mut Metrics, plan: &Plan) {
    let target = metrics.family("pool_target_runners", "Runners that the pool should have");
    let serving = metrics.family(
        "pool_serving_runners",
        "Runners that serve the pool or will: booting ones too, those that leave not",
    );
    let queued = metrics.family("pool_queued_jobs", "Jobs that wait for the pool");
    let running = metrics.family("pool_running_jobs", "Jobs that run on the pool");
    for pool in &plan.pools {
        let labels = vec![("pool", pool.name.to_string())];
        for (series, value) in [
            (&target, pool.target),
            (&serving, pool.serving),
            (&queued, pool.queued),
            (&running, pool.running),
        ] {
            series.get_or_create(&labels).set(f64::from(value));
        }
    }
}

/// Every state of every pool, so that a series falls to zero rather than ends.
fn machines(metrics: &mut Metrics, plan: &Plan) {
    let mut counts = BTreeMap::new();
    for pool in &plan.pools {
        for state in RunnerState::ALL {
            counts.insert((pool.name.to_string(), state.to_string()), 0_u32);
        }
    }
    let kept = plan
        .kept
        .iter()
        .filter_map(|kept| Some((&kept.address, kept.state?)));
    let acted = plan
        .actions
        .iter()
        .filter_map(|action| Some((&action.address, leads_to(&action.verb)?)));
    for (address, state) in kept.chain(acted) {
        if let Some(pool) = &address.pool {
            *counts.entry((pool.to_string(), state.to_string())).or_default() += 1;
        }
    }
    let machines = metrics.family(
        "machines",
        "Machines by pool and state; one that the tick acts on has the state that the action leads to",
    );
    for ((pool, state), count) in counts {
        machines
            .get_or_create(&vec![("pool", pool), ("state", state)])
            .set(f64::from(count));
    }
}

fn leads_to(verb: &Verb) -> Option<RunnerState> {
    match verb {
        Verb::Create { .. } => Some(RunnerState::Creating),
        Verb::Adopt { .. } => Some(RunnerState::Booting),
        Verb::Cordon { .. } => Some(RunnerState::Cordoned),
        Verb::Uncordon { .. } => Some(RunnerState::Idle),
        Verb::Retire { .. } | Verb::Delete { .. } => Some(RunnerState::Deleting),
        Verb::Update { .. }
        | Verb::Relabel { .. }
        | Verb::Abandon { .. }
        | Verb::Forget { .. }
        | Verb::Unregister { .. }
        | Verb::Hook { .. } => None,
    }
}

fn refusals(metrics: &mut Metrics, plan: &Plan) {
    let held = metrics.family("held", "Refusals to act by reason; docs/reasons.md tells each");
    let held_machines = metrics.family(
        "held_machines",
        "Machines that are held back or kept by a refusal",
    );
    for entry in &plan.held {
        let labels = vec![
            ("reason", entry.reason.code().to_owned()),
            ("about", entry.about.clone()),
        ];
        held.get_or_create(&labels).inc();
        held_machines
            .get_or_create(&labels)
            .inc_by(f64::from(entry.count));
    }
    for (name, help, count) in [
        (
            "orphans",
            "Resources of our lineage without a record",
            plan.orphans.len(),
        ),
        (
            "foreign",
            "Resources with our stack's name and another lineage",
            plan.foreign.len(),
        ),
        ("drifted", "Resources that someone else changed", plan.drift.len()),
    ] {
        metrics.gauge(name, help, count as f64);
    }
}

fn amount(money: &Money) -> f64 {
    money.amount.to_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        model::{ids::Serial, reason::Reason},
        plan::{ApiUse, Cost, Held, PoolReport},
    };

    fn plan() -> Plan {
        Plan {
            breaches: Vec::new(),
            stack: "prod".into(),
            lineage: "l".into(),
            serial: Serial(3),
            made_at: Timestamp::UNIX_EPOCH,
            actions: vec![],
            kept: vec![],
            held: vec![Held {
                about: "pool \"linux\"".into(),
                count: 2,
                reason: Reason::MaxReached { wanted: 7, max: 5 },
                warning: true,
            }],
            pools: vec![PoolReport {
                name: "linux".into(),
                target: 5,
                queued: 9,
                running: 4,
                serving: 3,
                formula: String::new(),
                steps: Vec::new(),
                memory: None,
            }],
            drift: vec![],
            orphans: vec![],
            foreign: vec![],
            released: vec![],
            cost: Cost {
                before_hourly: vec![],
                after_hourly: vec!["0.0125 EUR".parse().unwrap()],
                before_monthly: vec![],
                after_monthly: vec![],
                projected: Vec::new(),
            },
            api: ApiUse {
                observed: 7,
                calls: 3,
                seconds: 1,
                quota_share: None,
            },
            complete: true,
            launch_budgets: BTreeMap::new(),
            expires_in: SignedDuration::from_hours(1),
        }
    }

    #[test]
    fn the_file_is_replaced_whole_and_everybody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runfleet.prom");
        let mut outcomes = Outcomes::default();
        outcomes.actions.insert(("create", "done"), 2);
        for _ in 0..2 {
            write_metrics(
                &path,
                &plan(),
                &outcomes,
                Timestamp::UNIX_EPOCH,
                Duration::from_millis(1500),
            )
            .unwrap();
        }
        let text = fs_err::read_to_string(&path).unwrap();
        for line in [
            "runfleet_pool_target_runners{stack=\"prod\",pool=\"linux\"} 5.0",
            "runfleet_machines{stack=\"prod\",pool=\"linux\",state=\"idle\"} 0.0",
            "runfleet_cost_per_hour{stack=\"prod\",currency=\"EUR\"} 0.0125",
            "runfleet_last_tick_actions{stack=\"prod\",verb=\"create\",result=\"done\"} 2.0",
            "runfleet_held_machines{stack=\"prod\",reason=\"max_reached\",about=\"pool \\\"linux\\\"\"} 2.0",
            "runfleet_last_tick_reads{stack=\"prod\"} 7.0",
            "runfleet_last_tick_duration_seconds{stack=\"prod\"} 1.5",
            "runfleet_last_tick_complete{stack=\"prod\"} 1.0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nis not in\n{text}"
            );
        }
        assert_eq!(
            fs_err::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let error = write_metrics(
            Path::new("/no/such/folder/runfleet.prom"),
            &plan(),
            &Outcomes::default(),
            Timestamp::UNIX_EPOCH,
            Duration::ZERO,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write the metrics to /no/such/folder/runfleet.prom"
        );
    }
}
