//! Azure DevOps as the sandbox serves it, over HTTP: its row of the suite, and what is Azure DevOps's own.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    demand::{
        Demand, Registration, RunnerControl,
        azure::{Azure, AzureConfig, auth},
    },
    model::demand::{AgentPool, Job, JobState, PoolSelector, Wanted},
    net::ClientConfig,
    stack::AzureAuth,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{
    cases::Backend,
    ci::{Bench, MACHINE, Need, STACK, Trouble, Work, joined, keeps_the_contract, view, whole},
    gitlab::OverHttp,
};

const POOL: &str = "Runners";

struct Organisation {
    over: OverHttp,
    ci: Azure,
}

impl Organisation {
    /// With an agent pool in which one agent is registered that is not there.
    async fn start() -> Self {
        let pools = json!({"agent_pools": [{"name": POOL, "agents": [{"name": "template"}]}]});
        let over = OverHttp::with(json!({ "azure": pools })).await;
        let ci = Self::client(&over, &over.sandbox.addresses().token);
        Self { over, ci }
    }

    fn client(over: &OverHttp, token: &str) -> Azure {
        let addresses = over.sandbox.addresses();
        let mut client = ClientConfig::new(
            addresses.azure.clone(),
            auth(AzureAuth::Pat, SecretString::from(token)),
        );
        client.retries = 0;
        Azure::new(AzureConfig {
            name: "azure".into(),
            stack: STACK.into(),
            client,
            root: addresses.azure.clone(),
            settle: SignedDuration::from_secs(5),
            agent_pools: BTreeMap::from([("linux".into(), POOL.to_owned())]),
            tokens: BTreeMap::from([("linux".into(), SecretString::from(addresses.token.clone()))]),
        })
        .unwrap()
    }

    /// A machine whose agent says whose it is.
    async fn boot_agent(&self, registration: &Registration, name: &str) {
        let token = registration.token.expose_secret();
        let lines = [
            format!("AZP_URL={}", registration.url),
            format!("AZP_TOKEN={token}"),
            format!("AZP_POOL={POOL}"),
            format!("AZP_AGENT_NAME={}", registration.id),
        ];
        let capabilities =
            format!("RUNFLEET_STACK={STACK}\nRUNFLEET_LINEAGE=0123456789abcdef\ndocker=true\n");
        let user_data = json!({
            "write_files": [
                {"path": "/etc/azure-devops-agent.env", "content": format!("{}\n", lines.join("\n"))},
                {"path": "/etc/azure-devops-agent.capabilities", "content": capabilities},
            ],
            "runcmd": [["systemctl", "enable", "--now", "azure-devops-agent.service"]],
        });
        self.over.boot_with(name, &user_data).await;
    }
}

#[async_trait]
impl Bench for Organisation {
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
            agents: Some(Box::new(AgentPool {
                pool: POOL.to_owned(),
                capabilities: BTreeMap::from([("docker".to_owned(), "true".to_owned())]),
            })),
            pool: "linux".into(),
            tags: Vec::new(),
            run_untagged: false,
            protected_refs: false,
            metering: None,
        }
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::FinishedJobs,
            Need::OwnRegistrations,
            Need::HeldJobs,
            Need::MaxAges,
            Need::Trouble(Trouble::EndlessPages),
            Need::Trouble(Trouble::RegisterReplyLost),
            Need::Trouble(Trouble::ForgetReplyLost),
        ]
    }

    async fn queue(&self, work: Work, count: u32) {
        let (demand, duration) = match work {
            Work::Ours => ("docker", "60s"),
            Work::Endless => ("docker", "24h"),
            Work::OfOthers => ("gpu", "60s"),
            Work::Held => unreachable!("it tells no held jobs"),
        };
        let jobs =
            json!({"ci": "azure", "pool": POOL, "demands": [demand], "count": count, "duration": duration});
        self.over.control("/jobs", jobs).await;
    }

    async fn boot(&self, name: &str, registration: &Registration) {
        self.boot_agent(registration, name).await;
    }

    async fn advance(&self, by: SignedDuration) {
        self.over.advance(&format!("{}s", by.as_secs())).await;
    }

    async fn now(&self) -> Timestamp {
        self.over.now().await
    }

    async fn order(&self, trouble: Trouble) {
        // The first agent pool is `Default`.
        let agents = "/azure/acme/_apis/distributedtask/pools/2/agents";
        let rule = match trouble {
            Trouble::PartFails => json!({"path": agents, "fault": "server-error", "count": 1000}),
            Trouble::NothingAnswers => json!({"path": "/azure/*", "fault": "server-error", "count": 1000}),
            Trouble::Throttled => json!({"path": "/azure/*", "fault": "rate-limited", "count": 1000}),
            Trouble::CordonReplyLost => {
                json!({"path": format!("{agents}/*"), "method": "PATCH", "fault": "reply-lost", "count": 1})
            }
            Trouble::BusyLags => {
                json!({"path": agents, "fault": "busy-lag", "args": {"seconds": 60}, "count": 1})
            }
            other => unreachable!("{other:?} is lacking"),
        };
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
        "azure-devops",
        "the sandbox, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(Organisation::start().await) as Box<dyn Bench>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_devops_over_http_keeps_the_contract() {
    keeps_the_contract("azure-devops").await;
}

fn all(wanted: &Wanted) -> &[Job] {
    match wanted {
        Wanted::Jobs(jobs) => jobs,
        Wanted::Counts(_) => panic!("it tells jobs"),
    }
}

/// A job that was handed to an agent which has not asked for it yet waits, and names that agent; both are kept.
#[tokio::test]
async fn a_job_that_is_handed_out_waits_with_its_agent() {
    let bench = Organisation::start().await;
    bench
        .over
        .control("/settings", json!({"azure_receive": "20s"}))
        .await;
    let runner = joined(&bench, MACHINE).await;
    bench.queue(Work::Ours, 1).await;
    bench.advance(SignedDuration::from_secs(5)).await;
    let snapshot = whole(&bench).await;
    let job = &all(&snapshot.wanted)[0];
    assert_eq!(
        (job.state, job.runner.as_ref()),
        (JobState::Queued, Some(&runner))
    );
    assert_eq!(view(&snapshot, &runner).busy, Some(true));
    let reading = bench.control().read(&runner).await.unwrap().unwrap();
    assert_eq!(reading.jobs, Some(1), "it is about to run it");
    let refused = bench.control().forget(&runner).await;
    assert!(refused.is_err(), "an agent with a job is not removed");
    bench.advance(SignedDuration::from_secs(20)).await;
    let snapshot = whole(&bench).await;
    let job = &all(&snapshot.wanted)[0];
    assert_eq!(
        (job.state, job.runner.as_ref()),
        (JobState::Running, Some(&runner))
    );
    Box::new(bench).stop().await;
}

/// An agent that was disabled and is idle is removed, and nothing of it is left.
#[tokio::test]
async fn an_agent_leaves_by_being_disabled_and_removed() {
    let bench = Organisation::start().await;
    let (one, other) = (
        joined(&bench, MACHINE).await,
        joined(&bench, "prod-linux-calm-yak").await,
    );
    let control = bench.control();
    control.cordon(&one).await.unwrap();
    assert!(view(&whole(&bench).await, &one).paused);
    control.forget(&one).await.unwrap();
    let snapshot = whole(&bench).await;
    let known = |id| snapshot.runners.iter().any(|view| view.registration == id);
    assert!(!known(one.clone()) && known(other));
    assert_eq!(control.read(&one).await, Ok(None));
    assert!(
        view(&snapshot, &"template".into()).online == Some(false),
        "others stay"
    );
    Box::new(bench).stop().await;
}
