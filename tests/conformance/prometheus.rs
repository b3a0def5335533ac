//! Machines without a CI: an exporter for each, behind a proxy, and a Prometheus server. Their row of the suite.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use axum::{Router, extract::Request};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    apply::Clock,
    demand::{
        Demand, Registration, RunnerControl,
        prometheus::{Prometheus, PrometheusConfig},
    },
    model::{
        demand::{Cursor, PoolSelector},
        metrics::{AddressKind, MachineSeen, Metering, SampleName},
    },
    net::{Auth, ClientConfig},
    stack::source::Scrape,
};
use secrecy::SecretString;

use crate::{
    cases::Backend,
    ci::{Bench, MACHINE, Need, STACK, Trouble, Work, joined, keeps_the_contract, view, whole},
};

/// When its world begins.
const BEGIN: i64 = 1_800_000_000;
/// How long a job takes.
const JOB: SignedDuration = SignedDuration::from_mins(1);
const TOKEN: &str = "let-me-in";

/// Machines that are given work by somebody whom nobody knows.
#[derive(Debug)]
struct World {
    now: Timestamp,
    machines: Vec<Machine>,
    waiting: u32,
}

#[derive(Debug)]
struct Machine {
    seen: MachineSeen,
    /// When its job ends.
    job: Option<Timestamp>,
}

impl World {
    fn new() -> Self {
        Self {
            now: Timestamp::from_second(BEGIN).unwrap(),
            machines: Vec::new(),
            waiting: 0,
        }
    }

    /// Jobs end, and others begin wherever there is room.
    fn work(&mut self) {
        for machine in &mut self.machines {
            machine.job = machine.job.filter(|end| *end > self.now);
            if machine.job.is_none() && self.waiting > 0 {
                self.waiting -= 1;
                machine.job = Some(self.now + JOB);
            }
        }
    }

    /// What the exporter at an address tells.
    fn told(&self, host: &str) -> Option<String> {
        let machine = self
            .machines
            .iter()
            .find(|machine| format!("{}:9100", machine.seen.addresses[0]) == host)?;
        let jobs = u8::from(machine.job.is_some());
        Some(format!(
            "# TYPE jobs_running gauge\njobs_running{{kind=\"any\"}} {jobs}\nload {jobs}\n"
        ))
    }

    fn metering(&self) -> Metering {
        Metering {
            samples: vec![SampleName {
                name: "load".to_owned(),
                labels: std::collections::BTreeMap::new(),
            }],
            machines: self.machines.iter().map(|machine| machine.seen.clone()).collect(),
            now: Some(self.now),
            ..Metering::default()
        }
    }
}

struct Exporters {
    world: Arc<Mutex<World>>,
    root: String,
    fails: Arc<AtomicBool>,
    source: Prometheus,
}

impl Exporters {
    async fn start() -> Self {
        let world = Arc::new(Mutex::new(World::new()));
        let fails = Arc::new(AtomicBool::new(false));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback({
            let (world, fails) = (Arc::clone(&world), Arc::clone(&fails));
            move |request: Request| std::future::ready(answer(&request, &world, &fails))
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let scrape = Scrape {
            port: 9100,
            path: "/metrics".to_owned(),
            address: AddressKind::Private,
            timeout: SignedDuration::from_secs(10),
            proxy: Some(root.clone()),
            jobs: Some("jobs_running".to_owned()),
        };
        Self {
            source: source(Some(scrape), &root, TOKEN),
            world,
            root,
            fails,
        }
    }

    /// A tick: whoever reads a runner's jobs has observed it before.
    async fn tick(&self) {
        let seen = self
            .source
            .observe(&STACK.into(), &[self.pool()], &Cursor::default())
            .await;
        seen.unwrap();
    }
}

fn answer(request: &Request, world: &Mutex<World>, fails: &AtomicBool) -> (StatusCode, String) {
    if fails.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    let host = request.uri().authority().map(ToString::to_string);
    if let Some(told) = host.and_then(|host| world.lock().unwrap().told(&host)) {
        return (StatusCode::OK, told);
    }
    let credential = request.headers().get(header::AUTHORIZATION);
    if credential.is_none_or(|value| value.as_bytes() != format!("Bearer {TOKEN}").as_bytes()) {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let one = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
    (StatusCode::OK, one.to_owned())
}

fn source(scrape: Option<Scrape>, root: &str, token: &str) -> Prometheus {
    let mut server = ClientConfig::new(root, Auth::Bearer(SecretString::from(token)));
    server.retries = 0;
    Prometheus::new(PrometheusConfig {
        name: "metrics".into(),
        scrape,
        server: Some(server),
        root: root.to_owned(),
        questions: vec![("linux".into(), "up".to_owned())],
        settle: SignedDuration::from_secs(5),
        clock: Clock::system(),
    })
    .unwrap()
}

#[async_trait]
impl Bench for Exporters {
    fn demand(&self) -> &dyn Demand {
        &self.source
    }

    fn control(&self) -> &dyn RunnerControl {
        &self.source
    }

    /// Machines take no token: only the server does.
    fn stranger(&self) -> Box<dyn Demand> {
        Box::new(source(None, &self.root, "wrong"))
    }

    fn pool(&self) -> PoolSelector {
        PoolSelector {
            agents: None,
            pool: "linux".into(),
            tags: Vec::new(),
            run_untagged: false,
            protected_refs: false,
            metering: Some(Box::new(Metering {
                queries: vec!["up".to_owned()],
                ..self.world.lock().unwrap().metering()
            })),
        }
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::CountsJobs,
            Need::Jobs,
            Need::FinishedJobs,
            Need::HeldJobs,
            Need::MaxAges,
            Need::Cordons,
            Need::OwnRegistrations,
            Need::Trouble(Trouble::PartFails),
            Need::Trouble(Trouble::NothingAnswers),
            Need::Trouble(Trouble::Throttled),
            Need::Trouble(Trouble::EndlessPages),
            Need::Trouble(Trouble::RegisterReplyLost),
            Need::Trouble(Trouble::CordonReplyLost),
            Need::Trouble(Trouble::ForgetReplyLost),
            Need::Trouble(Trouble::BusyLags),
        ]
    }

    async fn queue(&self, _: Work, count: u32) {
        let mut world = self.world.lock().unwrap();
        world.waiting += count;
        world.work();
    }

    async fn boot(&self, name: &str, registration: &Registration) {
        {
            let mut world = self.world.lock().unwrap();
            let number = u8::try_from(world.machines.len() + 1).unwrap();
            let seen = MachineSeen {
                registration: registration.id.clone(),
                name: name.to_owned(),
                lineage: None,
                running: true,
                addresses: vec![[10, 0, 0, number].into()],
                created_at: world.now,
            };
            world.machines.push(Machine { seen, job: None });
            world.work();
        }
        self.tick().await;
    }

    async fn advance(&self, by: SignedDuration) {
        {
            let mut world = self.world.lock().unwrap();
            world.now += by;
            world.work();
        }
        self.tick().await;
    }

    async fn now(&self) -> Timestamp {
        self.world.lock().unwrap().now
    }

    async fn order(&self, trouble: Trouble) {
        unreachable!("{trouble:?} is lacking");
    }

    async fn killed(&self) -> u64 {
        0
    }
}

pub(crate) fn backend() -> Backend<dyn Bench> {
    Backend::new(
        "prometheus",
        "exporters and a server of the tests, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(Exporters::start().await) as Box<dyn Bench>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_over_http_keeps_the_contract() {
    keeps_the_contract("prometheus").await;
}

/// What the suite cannot ask, for here silence is each machine's own.
#[tokio::test]
async fn machines_that_fail_are_unreachable_and_never_idle() {
    let bench = Exporters::start().await;
    let runner = joined(&bench, MACHINE).await;
    assert_eq!(view(&whole(&bench).await, &runner).busy, Some(false));
    bench.fails.store(true, Ordering::SeqCst);
    let snapshot = whole(&bench).await;
    let seen = view(&snapshot, &runner);
    assert_eq!((seen.online, seen.busy), (Some(false), None));
    let reading = bench.control().read(&runner).await.unwrap().unwrap();
    assert_eq!(reading.jobs, None);
}
