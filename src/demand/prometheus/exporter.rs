//! One machine, asked what it tells of itself and whether it is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use futures::future::{join, join_all};
use http::StatusCode;
use jiff::Timestamp;

use super::text::{self, Exposition, Found};
use crate::{
    model::metrics::{AddressKind, Finite, HealthCheck, HttpCheck, MachineMetrics, MachineSeen, SampleName},
    net::{NetError, plain::Plain},
    stack::source::Scrape,
};

/// The largest answer of an exporter that is read: node_exporter's has 0.2 MB, a large Kubernetes node's 2 MB.
const BODY_LIMIT: usize = 4 << 20;

/// The largest answer to a health check that is read: nobody looks at it.
const HEALTH_LIMIT: usize = 1 << 20;

/// The text format first: it is what a person sees who looks at the exporter with curl, and so what the stack file names.
const ACCEPT: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";

/// What was seen of one machine.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    /// Its samples; none where only the server is asked.
    pub(super) metrics: Option<MachineMetrics>,
    /// Whether it is well.
    pub(super) online: bool,
    /// Whether it runs jobs; none where that is not known.
    pub(super) busy: Option<bool>,
    /// Its clock.
    pub(super) date: Option<Timestamp>,
}

impl Look {
    /// Of a machine that was not asked, and why not.
    pub(super) fn unasked(scrape: Option<&Scrape>, why: &str) -> Self {
        let counted = scrape.is_some_and(|scrape| scrape.jobs.is_some());
        Self {
            metrics: scrape.map(|_| MachineMetrics::Unreachable { why: why.to_owned() }),
            online: false,
            busy: (!counted).then_some(false),
            date: None,
        }
    }
}

/// Asks it all at once. One that is off is not asked.
pub(super) async fn look(
    plain: &Plain,
    scrape: Option<&Scrape>,
    machine: &MachineSeen,
    samples: &[SampleName],
    health: Option<&HealthCheck>,
) -> Look {
    if !machine.running {
        return Look::unasked(scrape, "its cloud does not say that it is on");
    }
    let told = async {
        let scrape = scrape?;
        Some(told(plain, scrape, machine, samples).await)
    };
    let well = async {
        let health = health?;
        let kind = scrape.map(|scrape| scrape.address).unwrap_or_default();
        Some(check(plain, kind, machine, health).await)
    };
    let (told, well) = join(told, well).await;
    if let Some(Err(why)) = &well {
        tracing::debug!(machine = %machine.name, why, "a machine's health check failed");
    }
    let online = match (&well, &told) {
        (Some(well), _) => well.is_ok(),
        (None, Some(told)) => told.is_ok(),
        (None, None) => true,
    };
    let busy = match (scrape.and_then(|scrape| scrape.jobs.as_deref()), &told) {
        (None, _) => Some(false),
        (Some(jobs), Some(Ok((exposition, _)))) => exposition.sum(jobs).map(|jobs| jobs.get() > 0.0),
        (Some(_), _) => None,
    };
    Look {
        online,
        busy,
        date: told.as_ref().and_then(|told| told.as_ref().ok()?.1),
        metrics: told.map(|told| match told {
            Ok((exposition, _)) => MachineMetrics::Read(numbers(&exposition, machine, samples)),
            Err(why) => MachineMetrics::Unreachable { why },
        }),
    }
}

/// How many jobs a machine says that it runs; none where it does not say so.
pub(super) async fn jobs(plain: &Plain, scrape: &Scrape, jobs: &str, machine: &MachineSeen) -> Option<u32> {
    if !machine.running {
        return None;
    }
    let told = told(plain, scrape, machine, &[]).await;
    let (exposition, _) = told
        .inspect_err(
            |why| tracing::debug!(machine = %machine.name, why, "a machine's jobs could not be read"),
        )
        .ok()?;
    let jobs = exposition.sum(jobs)?.get();
    if jobs <= 0.0 {
        return Some(0);
    }
    // Half a job is one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of floats stops at the ends"
    )]
    Some(jobs.ceil() as u32)
}

/// What a machine's exporter tells, and its clock.
async fn told(
    plain: &Plain,
    scrape: &Scrape,
    machine: &MachineSeen,
    samples: &[SampleName],
) -> Result<(Exposition, Option<Timestamp>), String> {
    let at = socket(machine, scrape.address, scrape.port)?;
    let jobs = scrape.jobs.as_deref();
    let names = samples.iter().map(|sample| sample.name.as_str()).chain(jobs);
    scrape_at(
        plain,
        at,
        &scrape.path,
        ACCEPT,
        scrape.timeout.unsigned_abs(),
        &names.collect(),
    )
    .await
}

/// What an exporter tells of these names, and its clock.
pub(super) async fn scrape_at(
    plain: &Plain,
    at: SocketAddr,
    path: &str,
    accept: &'static str,
    timeout: Duration,
    names: &BTreeSet<&str>,
) -> Result<(Exposition, Option<Timestamp>), String> {
    let reply = plain.get(at, path, Some(accept), timeout, BODY_LIMIT).await;
    let reply = reply.map_err(|error| error.to_string())?;
    if reply.status != StatusCode::OK {
        return Err(format!("{at}{path} answers {}", reply.status));
    }
    let exposition = text::read(&reply.body, reply.header("content-type"), names)
        .map_err(|why| format!("{at}{path} is no exporter's: {why}"))?;
    Ok((exposition, reply.date))
}

/// The samples that are one number each. What is amiss with the others a person is told.
fn numbers(
    exposition: &Exposition,
    machine: &MachineSeen,
    samples: &[SampleName],
) -> BTreeMap<String, Finite> {
    let mut numbers = BTreeMap::new();
    for sample in samples {
        match exposition.one(sample) {
            Found::One(number) => {
                numbers.insert(sample.to_string(), number);
            }
            Found::None => {}
            Found::Several(count) => tracing::warn!(
                machine = %machine.name, %sample, count,
                "several series have this name: say with labels which one is meant"
            ),
            Found::NotANumber => {
                tracing::warn!(machine = %machine.name, %sample, "it is not a finite number");
            }
        }
    }
    numbers
}

/// Whether all that must answer on a machine does; else what does not.
async fn check(
    plain: &Plain,
    kind: AddressKind,
    machine: &MachineSeen,
    health: &HealthCheck,
) -> Result<(), String> {
    let timeout = health.timeout.unsigned_abs();
    let ports = health.tcp.iter().map(|port| async move {
        let at = socket(machine, kind, *port)?;
        plain
            .connect(at, timeout)
            .await
            .map_err(|error| error.to_string())
    });
    let resource = async {
        match &health.http {
            Some(http) => resource(plain, socket(machine, kind, http.port)?, http, timeout).await,
            None => Ok(()),
        }
    };
    let (ports, resource) = join(join_all(ports), resource).await;
    ports.into_iter().collect::<Result<(), String>>().and(resource)
}

async fn resource(plain: &Plain, at: SocketAddr, http: &HttpCheck, timeout: Duration) -> Result<(), String> {
    let reply = plain.get(at, &http.path, None, timeout, HEALTH_LIMIT).await;
    let status = reply.map_err(|error: NetError| error.to_string())?.status;
    let good = match http.status {
        Some(wanted) => status.as_u16() == wanted,
        None => status.is_success(),
    };
    good.then_some(())
        .ok_or_else(|| format!("{at}{} answers {status}", http.path))
}

fn socket(machine: &MachineSeen, kind: AddressKind, port: u16) -> Result<SocketAddr, String> {
    let address = kind.of(&machine.addresses).ok_or_else(|| {
        let kind = match kind {
            AddressKind::Private => "private IPv4",
            AddressKind::Public => "public IPv4",
            AddressKind::Ipv6 => "IPv6",
        };
        format!("its cloud tells no {kind} address of it")
    })?;
    Ok(SocketAddr::new(address, port))
}
