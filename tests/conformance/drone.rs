//! Drone as the sandbox serves it, over HTTP: its row of the suite, and what is Drone's own.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    demand::{
        Demand, DemandError, Registration, RegistrationRequest, RunnerControl,
        drone::{Drone, DroneConfig},
    },
    model::{
        demand::{Cursor, JobState, PassedOver, PoolSelector},
        ids::RegistrationId,
    },
    net::{Auth, ClientConfig},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{
    cases::Backend,
    ci::{Bench, MACHINE, MAX_AGE, Need, STACK, Trouble, Work, jobs, joined, keeps_the_contract, whole},
    gitlab::OverHttp,
};

struct Queue {
    over: OverHttp,
    ci: Drone,
}

impl Queue {
    async fn start() -> Self {
        let over = OverHttp::with(json!({})).await;
        let ci = Self::client(&over, &over.sandbox.addresses().token);
        Self { over, ci }
    }

    fn client(over: &OverHttp, token: &str) -> Drone {
        let addresses = over.sandbox.addresses();
        let mut client = ClientConfig::new(addresses.drone.clone(), Auth::Bearer(SecretString::from(token)));
        client.retries = 0;
        let secret = SecretString::from(addresses.drone_rpc_secret.clone());
        Drone::new(DroneConfig {
            name: "drone".into(),
            client,
            root: addresses.drone.clone(),
            pending_max: Some(MAX_AGE),
            running_max: Some(MAX_AGE),
            settle: SignedDuration::from_secs(5),
            rpc_secrets: BTreeMap::from([("linux".into(), secret)]),
        })
        .unwrap()
    }

    async fn stages(&self, count: u32, more: Value) {
        let mut stages = json!({"ci": "drone", "count": count, "duration": "60s", "name": "build"});
        stages
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.over.control("/jobs", stages).await;
    }
}

#[async_trait]
impl Bench for Queue {
    fn demand(&self) -> &dyn Demand {
        &self.ci
    }

    fn control(&self) -> &dyn RunnerControl {
        &self.ci
    }

    fn stranger(&self) -> Box<dyn Demand> {
        Box::new(Self::client(&self.over, "wrong"))
    }

    fn pool(&self) -> PoolSelector {
        PoolSelector {
            agents: None,
            pool: "linux".into(),
            tags: vec!["os=linux".to_owned(), "pool=a".to_owned()],
            run_untagged: false,
            protected_refs: false,
            metering: None,
        }
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::FinishedJobs,
            Need::ListsRunners,
            Need::TellsPauses,
            Need::OwnRegistrations,
            Need::Trouble(Trouble::PartFails),
            Need::Trouble(Trouble::EndlessPages),
            Need::Trouble(Trouble::RegisterReplyLost),
            Need::Trouble(Trouble::ForgetReplyLost),
            Need::Trouble(Trouble::BusyLags),
        ]
    }

    async fn queue(&self, work: Work, count: u32) {
        let labels = json!({"pool": "a"});
        match work {
            Work::Ours => self.stages(count, json!({ "labels": labels })).await,
            Work::Endless => {
                let more = json!({"labels": labels, "duration": "24h"});
                self.stages(count, more).await;
            }
            Work::OfOthers => {
                self.stages(count, json!({"labels": labels, "arch": "arm64"}))
                    .await;
                self.stages(1, json!({})).await;
            }
            Work::Held => {
                // Behind one of the same name that no runner of ours takes.
                let held = json!({"labels": labels, "name": "deploy", "repo": "acme/held", "limit": 1});
                let mut first = held.clone();
                first["arch"] = json!("arm64");
                self.stages(1, first).await;
                self.stages(count, held).await;
            }
        }
    }

    async fn boot(&self, name: &str, registration: &Registration) {
        let (proto, host) = registration.url.split_once("://").unwrap();
        let lines = [
            format!("DRONE_RPC_PROTO={proto}"),
            format!("DRONE_RPC_HOST={host}"),
            format!("DRONE_RPC_SECRET={}", registration.token.expose_secret()),
            format!("DRONE_RUNNER_NAME={}", registration.id),
            "DRONE_RUNNER_CAPACITY=1".to_owned(),
            "DRONE_RUNNER_LABELS=pool:a".to_owned(),
        ];
        let user_data = json!({
            "write_files": [{"path": "/etc/drone-runner-docker.env", "content": format!("{}\n", lines.join("\n"))}],
            "runcmd": [["systemctl", "enable", "--now", "drone-runner-docker.service"]],
        });
        self.over.boot_with(name, &user_data).await;
    }

    async fn advance(&self, by: SignedDuration) {
        self.over.advance(&format!("{}s", by.as_secs())).await;
    }

    async fn now(&self) -> Timestamp {
        self.over.now().await
    }

    async fn order(&self, trouble: Trouble) {
        let rule = match trouble {
            Trouble::NothingAnswers => json!({"fault": "server-error", "count": 1000}),
            Trouble::Throttled => json!({"fault": "rate-limited", "count": 1000}),
            Trouble::CordonReplyLost => json!({"fault": "reply-lost", "count": 1, "method": "DELETE"}),
            other => unreachable!("{other:?} is lacking"),
        };
        let mut whole = rule;
        whole["path"] = json!("/drone/api/queue");
        self.over.control("/faults", whole).await;
    }

    async fn killed(&self) -> u64 {
        self.over.world().await["jobs_killed"].as_u64().unwrap()
    }

    async fn stop(self: Box<Self>) {
        self.over.sandbox.stop().await.unwrap();
    }
}

pub(crate) fn backend() -> Backend<dyn Bench> {
    Backend::new(
        "drone",
        "the sandbox, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(Queue::start().await) as Box<dyn Bench>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn drone_over_http_keeps_the_contract() {
    keeps_the_contract("drone").await;
}

/// Stages of each kind that the server holds, beside runners that would take them: what we call demand is what it hands out.
#[tokio::test]
async fn what_counts_as_demand_is_what_the_server_hands_out() {
    let bench = Queue::start().await;
    let ours = json!({"labels": {"pool": "a"}});
    let with = |more: Value| {
        let mut all = ours.clone();
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        all
    };
    bench
        .stages(3, with(json!({"name": "limited", "limit": 2})))
        .await;
    bench
        .stages(
            4,
            with(json!({"name": "throttled", "repo": "acme/slow", "throttle": 1})),
        )
        .await;
    bench
        .stages(
            2,
            with(json!({"name": "build", "repo": "acme/two", "build": "one"})),
        )
        .await;
    let after = json!({"name": "test", "repo": "acme/two", "build": "one", "depends_on": ["build"]});
    bench.stages(1, with(after)).await;
    bench
        .stages(1, json!({"name": "elsewhere", "variant": "v8"}))
        .await;
    let snapshot = whole(&bench).await;
    let queued = jobs(&snapshot, JobState::Queued).len();
    assert_eq!(queued, 2 + 1 + 2, "{snapshot:?}");
    // What waits for others of its build is in no list at all.
    let passed = [(PassedOver::HeldBack, 1 + 3), (PassedOver::NoPool, 1)];
    assert_eq!(snapshot.passed_over, BTreeMap::from(passed));

    for number in 0..10 {
        joined(&bench, &format!("{MACHINE}-{number}")).await;
    }
    let world = bench.over.world().await;
    let begun = world["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|job| job["started"].is_string() && job["finished"].is_null())
        .count();
    let snapshot = whole(&bench).await;
    assert_eq!(jobs(&snapshot, JobState::Running).len(), begun);
    assert!(begun > 0 && begun <= 10);
    Box::new(bench).stop().await;
}

/// A stage that was handed out and not accepted is in the queue without a runner: it is what the settle time is for.
#[tokio::test]
async fn a_stage_that_was_handed_out_before_the_pause_is_seen_after_the_settle_time() {
    let bench = Queue::start().await;
    bench
        .over
        .control("/settings", json!({"drone_accept": "3s"}))
        .await;
    let runner = joined(&bench, MACHINE).await;
    bench.queue(Work::Ours, 1).await;
    bench.control().cordon(&runner).await.unwrap();
    let at_once = bench.control().read(&runner).await.unwrap().unwrap();
    assert_eq!(at_once.jobs, Some(0), "it is not its runner's yet");
    bench.advance(bench.control().profile().settle).await;
    let settled = bench.control().read(&runner).await.unwrap().unwrap();
    assert_eq!(settled.jobs, Some(1));
    Box::new(bench).stop().await;
}

#[tokio::test]
async fn an_open_source_build_is_told_and_is_no_empty_queue() {
    let bench = Queue::start().await;
    bench.over.control("/settings", json!({"drone": "oss"})).await;
    let seen = bench
        .demand()
        .observe(&STACK.into(), &[bench.pool()], &Cursor::default())
        .await;
    assert!(matches!(seen, Err(DemandError::Rejected { .. })), "{seen:?}");
    let problems = bench.demand().check().await.unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].place, "ci.drone.url");
    let refused = bench.control().cordon(&RegistrationId::from("any")).await;
    assert!(
        matches!(refused, Err(DemandError::Rejected { .. })),
        "{refused:?}"
    );
    Box::new(bench).stop().await;
}

#[tokio::test]
async fn a_user_who_is_no_administrator_is_told() {
    let tokens = json!([{"token": "plain", "username": "reader", "scopes": ["read_api"]}]);
    let over = OverHttp::with(json!({ "tokens": tokens })).await;
    let ci = Queue::client(&over, "plain");
    let bench = Queue { over, ci };
    let seen = bench
        .demand()
        .observe(&STACK.into(), &[bench.pool()], &Cursor::default())
        .await;
    assert!(matches!(seen, Err(DemandError::Unauthorized { .. })), "{seen:?}");
    let problems = bench.demand().check().await.unwrap();
    assert_eq!(problems[0].place, "ci.drone.token");
    Box::new(bench).stop().await;
}

#[tokio::test]
async fn without_a_secret_nothing_is_registered() {
    let bench = Queue::start().await;
    let mut selector = bench.pool();
    selector.pool = "other".into();
    let request = RegistrationRequest {
        description: MACHINE.to_owned(),
        selector,
    };
    let refused = bench.control().register(&request).await;
    assert!(
        matches!(refused, Err(DemandError::Rejected { .. })),
        "{refused:?}"
    );
    Box::new(bench).stop().await;
}
