//! CircleCI as the sandbox serves it, over HTTP: its row of the suite, and what is CircleCI's own.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    demand::{
        Demand, Registration, RunnerControl,
        circleci::{Circleci, CircleciConfig},
    },
    model::demand::PoolSelector,
    net::{Auth, ClientConfig},
    stack::CircleciApi,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{
    cases::Backend,
    ci::{Bench, MACHINE, Need, Trouble, Work, counted, joined, keeps_the_contract, view, whole},
    gitlab::OverHttp,
};

const CLASS: &str = "acme/linux";

struct Class {
    over: OverHttp,
    ci: Circleci,
}

impl Class {
    async fn start(api: CircleciApi) -> Self {
        let classes = json!({"resource_classes": [{"name": CLASS, "token": "class-token"}]});
        let over = OverHttp::with(json!({ "circleci": classes })).await;
        let ci = Self::client(&over, &over.sandbox.addresses().token, api);
        Self { over, ci }
    }

    fn client(over: &OverHttp, token: &str, api: CircleciApi) -> Circleci {
        let root = over.sandbox.addresses().circleci.clone();
        let auth = Auth::Header {
            name: "circle-token",
            value: SecretString::from(token),
        };
        let mut client = ClientConfig::new(root.clone(), auth);
        client.retries = 0;
        Circleci::new(CircleciConfig {
            name: "circleci".into(),
            client,
            root,
            api,
            settle: SignedDuration::from_secs(5),
            classes: BTreeMap::from([("linux".into(), CLASS.to_owned())]),
            tokens: BTreeMap::from([("linux".into(), SecretString::from("class-token"))]),
        })
        .unwrap()
    }

    /// A machine whose runner has this configuration, which goes off when it ends.
    async fn boot_runner(&self, registration: &Registration, name: &str, more: &str) {
        let config = format!(
            "api:\n  url: {}\n  auth_token: {}\nrunner:\n  name: {}\n{more}",
            registration.url,
            registration.token.expose_secret(),
            registration.id,
        );
        let unit = "[Service]\nRestart=no\nExecStopPost=+/usr/bin/systemctl poweroff\n";
        let user_data = json!({
            "write_files": [
                {"path": "/etc/circleci-runner/circleci-runner-config.yaml", "content": config},
                {"path": "/etc/systemd/system/circleci-runner.service.d/runfleet.conf", "content": unit},
            ],
            "runcmd": [["systemctl", "start", "circleci-runner.service"]],
        });
        self.over.boot_with(name, &user_data).await;
    }
}

#[async_trait]
impl Bench for Class {
    fn demand(&self) -> &dyn Demand {
        &self.ci
    }

    fn control(&self) -> &dyn RunnerControl {
        &self.ci
    }

    fn stranger(&self) -> Box<dyn Demand> {
        Box::new(Self::client(&self.over, "wrong", CircleciApi::V3))
    }

    fn pool(&self) -> PoolSelector {
        PoolSelector {
            agents: None,
            pool: "linux".into(),
            tags: vec![CLASS.to_owned()],
            run_untagged: false,
            protected_refs: false,
            metering: None,
        }
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::Jobs,
            Need::FinishedJobs,
            Need::ReadsJobs,
            Need::TellsPauses,
            Need::OwnRegistrations,
            Need::HeldJobs,
            Need::MaxAges,
            Need::Trouble(Trouble::EndlessPages),
            Need::Trouble(Trouble::RegisterReplyLost),
            Need::Trouble(Trouble::ForgetReplyLost),
            Need::Trouble(Trouble::CordonReplyLost),
            Need::Trouble(Trouble::BusyLags),
        ]
    }

    async fn queue(&self, work: Work, count: u32) {
        let (class, duration) = match work {
            Work::Ours => (CLASS, "60s"),
            Work::Endless => (CLASS, "24h"),
            Work::OfOthers => ("acme/mac", "60s"),
            Work::Held => unreachable!("it tells no held jobs"),
        };
        let tasks = json!({"ci": "circleci", "resource_class": class, "count": count, "duration": duration});
        self.over.control("/jobs", tasks).await;
    }

    async fn boot(&self, name: &str, registration: &Registration) {
        self.boot_runner(registration, name, "").await;
    }

    async fn advance(&self, by: SignedDuration) {
        self.over.advance(&format!("{}s", by.as_secs())).await;
    }

    async fn now(&self) -> Timestamp {
        self.over.now().await
    }

    async fn order(&self, trouble: Trouble) {
        let (path, fault) = match trouble {
            Trouble::PartFails => ("/circleci/api/v3/runner", "server-error"),
            Trouble::NothingAnswers => ("/circleci/*", "server-error"),
            Trouble::Throttled => ("/circleci/*", "rate-limited"),
            other => unreachable!("{other:?} is lacking"),
        };
        let rule = json!({"path": path, "fault": fault, "count": 1000});
        self.over.control("/faults", rule).await;
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
        "circleci",
        "the sandbox, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(Class::start(CircleciApi::V3).await) as Box<dyn Bench>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn circleci_over_http_keeps_the_contract() {
    keeps_the_contract("circleci").await;
}

#[tokio::test]
async fn version_two_of_the_api_says_the_same() {
    let bench = Class::start(CircleciApi::V2).await;
    bench.queue(Work::Ours, 3).await;
    joined(&bench, MACHINE).await;
    let snapshot = whole(&bench).await;
    assert_eq!(counted(&snapshot), (2, 1));
    assert_eq!(snapshot.runners.len(), 1);
    Box::new(bench).stop().await;
}

/// While anything of the class runs, no runner is idle; when nothing does, each is.
#[tokio::test]
async fn a_runner_is_idle_only_when_its_class_runs_nothing() {
    let bench = Class::start(CircleciApi::V3).await;
    let (one, other) = (
        joined(&bench, "prod-linux-a").await,
        joined(&bench, "prod-linux-b").await,
    );
    let busy = |snapshot: &_, id| view(snapshot, id).busy;
    let snapshot = whole(&bench).await;
    assert_eq!(
        (busy(&snapshot, &one), busy(&snapshot, &other)),
        (Some(false), Some(false))
    );
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_secs(10)).await;
    let snapshot = whole(&bench).await;
    assert_eq!(counted(&snapshot), (0, 1));
    assert_eq!((busy(&snapshot, &one), busy(&snapshot, &other)), (None, None));
    for runner in [&one, &other] {
        let reading = bench.control().read(runner).await.unwrap().unwrap();
        assert_eq!(reading.jobs, None);
    }
    Box::new(bench).stop().await;
}

/// It ends by its own idle time-out, and then it is no longer heard from.
#[tokio::test]
async fn a_runner_that_ended_by_itself_is_not_online() {
    let bench = Class::start(CircleciApi::V3).await;
    let request = runfleet::demand::RegistrationRequest {
        description: MACHINE.to_owned(),
        selector: bench.pool(),
    };
    let made = bench.control().register(&request).await.unwrap();
    bench.boot_runner(&made, MACHINE, "  idle_timeout: 5m\n").await;
    assert_eq!(view(&whole(&bench).await, &made.id).online, Some(true));
    bench.advance(SignedDuration::from_mins(12)).await;
    let snapshot = whole(&bench).await;
    let online = snapshot
        .runners
        .iter()
        .any(|view| view.registration == made.id && view.online == Some(true));
    assert!(!online, "{snapshot:?}");
    Box::new(bench).stop().await;
}
