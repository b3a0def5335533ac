//! GitLab as the sandbox serves it, over HTTP: its row of the suite, and what is GitLab's own.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    demand::{
        Demand, DemandError, Registration, RegistrationRequest, RunnerControl,
        gitlab::{Gitlab, GitlabConfig},
    },
    model::{
        demand::{Cursor, DemandSnapshot, JobState, PoolSelector},
        resource::{Completeness, CordonKind},
    },
    net::{Auth, ClientConfig},
    sandbox::{self, Options, Sandbox, Scenario, Settings},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{
    cases::Backend,
    ci::{Bench, MACHINE, Need, STACK, Trouble, Work, jobs, keeps_the_contract, view},
};

const READ_ONLY: &str = "glpat-read-only";

/// A world whose clock moves only when told.
pub(crate) struct OverHttp {
    pub(crate) sandbox: Sandbox,
    http: reqwest::Client,
}

impl OverHttp {
    async fn new() -> Self {
        Self::with(json!({
            "projects": ["acme/web"],
            "tokens": [{"token": READ_ONLY, "username": "reader", "scopes": ["read_api"]}],
        }))
        .await
    }

    pub(crate) async fn with(scenario: Value) -> Self {
        let mut settings = Settings::default();
        settings.set("speed", "0").unwrap();
        let sandbox = sandbox::start(Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: None,
            seed: 7,
            settings,
            scenario: Some(Scenario::parse(&scenario.to_string()).unwrap()),
            token: None,
        })
        .await
        .unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sandbox, http }
    }

    /// A client of its CI with the sandbox's own token.
    fn ci(&self, projects: &[&str]) -> Gitlab {
        self.ci_as(&self.sandbox.addresses().token, projects, Duration::from_secs(10))
    }

    fn ci_as(&self, token: &str, projects: &[&str], patience: Duration) -> Gitlab {
        Gitlab::new(self.config(token, projects, patience)).unwrap()
    }

    pub(crate) fn config(&self, token: &str, projects: &[&str], patience: Duration) -> GitlabConfig {
        let root = self.sandbox.addresses().gitlab.clone();
        let auth = Auth::Header {
            name: "private-token",
            value: SecretString::from(token),
        };
        let mut client = ClientConfig::new(format!("{root}/api/v4"), auth);
        client.call_timeout = patience;
        client.total_timeout = patience;
        client.retries = 0;
        GitlabConfig {
            name: "gitlab".into(),
            client,
            root,
            projects: projects.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
            instance: false,
            runner_tokens: BTreeMap::new(),
            settle: SignedDuration::from_secs(5),
        }
    }

    pub(crate) async fn post(&self, url: String, body: Value) -> Value {
        let reply = self
            .http
            .post(url)
            .bearer_auth(&self.sandbox.addresses().token)
            .json(&body)
            .send()
            .await
            .unwrap();
        let (status, text) = (reply.status(), reply.text().await.unwrap());
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        self.post(format!("{}{path}", self.sandbox.addresses().control), body)
            .await
    }

    pub(crate) async fn queue(&self, project: &str, tags: &[&str], count: u32) {
        let jobs =
            json!({"project": project, "tags": tags, "count": count, "duration": "60s", "name": "build"});
        self.control("/jobs", jobs).await;
    }

    pub(crate) async fn advance(&self, length: &str) {
        self.control("/clock", json!({"advance": length})).await;
    }

    async fn fault(&self, path: &str, fault: &str, more: Value) {
        let mut rule = json!({"path": format!("/gitlab/api/v4{path}"), "fault": fault});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.control("/faults", rule).await;
    }

    pub(crate) async fn world(&self) -> Value {
        let url = format!("{}/world", self.sandbox.addresses().control);
        let reply = self.http.get(url).send().await.unwrap();
        reply.json().await.unwrap()
    }

    pub(crate) async fn now(&self) -> Timestamp {
        self.world().await["now"].as_str().unwrap().parse().unwrap()
    }

    /// A machine that joins by what its user data says, one job at a time.
    pub(crate) async fn boot(&self, name: &str, registration: &Registration) {
        let config = format!(
            "concurrent = 1\n[[runners]]\nurl = \"{}\"\ntoken = \"{}\"\nexecutor = \"docker\"\n",
            registration.url,
            registration.token.expose_secret()
        );
        let mut files = vec![json!({"path": "/etc/gitlab-runner/config.toml", "content": config})];
        if let Some(system_id) = &registration.system_id {
            files.push(json!({"path": "/etc/gitlab-runner/.runner_system_id", "content": system_id}));
        }
        let user_data = json!({
            "write_files": files,
            "runcmd": [["systemctl", "enable", "--now", "gitlab-runner"]],
        });
        self.boot_with(name, &user_data).await;
    }

    /// A machine with these parts in its user data, once it has booted.
    pub(crate) async fn boot_with(&self, name: &str, user_data: &Value) {
        let server = json!({
            "name": name, "server_type": "cx23", "location": "fsn1", "image": "debian-12",
            "user_data": format!("#cloud-config\n{user_data}"),
        });
        let url = format!("{}/servers", self.sandbox.addresses().hetzner);
        self.post(url, server).await;
        self.advance("30s").await;
    }
}

pub(crate) fn pool() -> PoolSelector {
    PoolSelector {
        agents: None,
        pool: "linux".into(),
        tags: vec!["docker".to_owned(), "linux".to_owned()],
        run_untagged: false,
        protected_refs: false,
        metering: None,
    }
}

pub(crate) fn request(description: &str) -> RegistrationRequest {
    RegistrationRequest {
        description: description.to_owned(),
        selector: pool(),
    }
}

pub(crate) async fn observe(ci: &dyn Demand, since: &Cursor) -> DemandSnapshot {
    ci.observe(&STACK.into(), &[pool()], since).await.unwrap()
}

pub(crate) async fn complete(ci: &dyn Demand) -> DemandSnapshot {
    let snapshot = observe(ci, &Cursor::default()).await;
    assert_eq!(snapshot.completeness, Completeness::Complete);
    snapshot
}

/// One project of it, with a client that may do all.
struct OneProject {
    over: OverHttp,
    ci: Gitlab,
}

const PROJECT: &str = "acme/app";

impl OneProject {
    async fn start() -> Self {
        let over = OverHttp::new().await;
        let ci = over.ci(&[PROJECT]);
        Self { over, ci }
    }
}

#[async_trait]
impl Bench for OneProject {
    fn demand(&self) -> &dyn Demand {
        &self.ci
    }

    fn control(&self) -> &dyn RunnerControl {
        &self.ci
    }

    fn stranger(&self) -> Box<dyn Demand> {
        let patience = Duration::from_secs(10);
        Box::new(self.over.ci_as("glpat-wrong", &[PROJECT], patience))
    }

    fn pool(&self) -> PoolSelector {
        pool()
    }

    fn lacks(&self) -> Vec<Need> {
        vec![Need::HeldJobs, Need::MaxAges]
    }

    async fn queue(&self, work: Work, count: u32) {
        let (tag, duration) = match work {
            Work::Ours => ("linux", "60s"),
            Work::Endless => ("linux", "24h"),
            Work::OfOthers => ("gpu", "60s"),
            Work::Held => unreachable!("it tells no held jobs"),
        };
        let jobs =
            json!({"project": PROJECT, "tags": [tag], "count": count, "duration": duration, "name": "build"});
        self.over.control("/jobs", jobs).await;
        if work == Work::OfOthers {
            let untagged =
                json!({"project": PROJECT, "tags": [], "count": 1, "duration": duration, "name": "build"});
            self.over.control("/jobs", untagged).await;
        }
    }

    async fn boot(&self, name: &str, registration: &Registration) {
        self.over.boot(name, registration).await;
    }

    async fn advance(&self, by: SignedDuration) {
        self.over.advance(&format!("{}s", by.as_secs())).await;
    }

    async fn now(&self) -> Timestamp {
        self.over.now().await
    }

    async fn order(&self, trouble: Trouble) {
        let runners = "/projects/acme%2Fapp/runners";
        let (path, fault, more) = match trouble {
            Trouble::PartFails => (runners, "server-error", json!({"count": 1000, "method": "GET"})),
            Trouble::NothingAnswers => ("/*", "server-error", json!({"count": 1000})),
            Trouble::Throttled => ("/*", "rate-limited", json!({"count": 1000})),
            Trouble::EndlessPages => {
                // More than a page of runners.
                for number in 0..101 {
                    let wish = request(&format!("prod-linux-{number}"));
                    self.ci.register(&wish).await.unwrap();
                }
                (
                    runners,
                    "next-page-for-ever",
                    json!({"count": 1000, "method": "GET"}),
                )
            }
            Trouble::RegisterReplyLost => ("/user/runners", "reply-lost", json!({"count": 1})),
            Trouble::CordonReplyLost => ("/runners/*", "reply-lost", json!({"count": 1, "method": "PUT"})),
            Trouble::ForgetReplyLost => (
                "/runners/*",
                "reply-lost",
                json!({"count": 1, "method": "DELETE"}),
            ),
            Trouble::BusyLags => {
                for runner in self.over.world().await["runners"].as_array().unwrap() {
                    let path = format!("/runners/{}/jobs", runner["id"]);
                    let lag = json!({"args": {"seconds": 60}});
                    self.over.fault(&path, "busy-lag", lag).await;
                }
                return;
            }
        };
        self.over.fault(path, fault, more).await;
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
        "gitlab",
        "the sandbox, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(OneProject::start().await) as Box<dyn Bench>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_over_http_keeps_the_contract() {
    keeps_the_contract("gitlab").await;
}

#[tokio::test]
async fn observing_counts_the_jobs_that_the_pools_could_run_in_every_project() {
    let bench = OverHttp::new().await;
    bench.queue("acme/app", &["linux"], 3).await;
    bench.queue("acme/web", &["docker", "linux"], 2).await;
    bench.queue("acme/app", &["gpu"], 4).await;
    bench.queue("acme/app", &[], 1).await;
    for projects in [vec!["acme/app", "acme/web"], vec![]] {
        let snapshot = complete(&bench.ci(&projects)).await;
        assert_eq!(jobs(&snapshot, JobState::Queued).len(), 5, "{projects:?}");
        assert!(snapshot.now.duration_since(bench.now().await).abs() < SignedDuration::from_secs(1));
        assert_eq!(snapshot.control.cordon, CordonKind::Pause);
    }
    let one = complete(&bench.ci(&["acme/web"])).await;
    let queued = jobs(&one, JobState::Queued);
    assert_eq!(queued.len(), 2);
    assert_eq!(
        (queued[0].name.as_str(), queued[0].project.as_str()),
        ("build", "acme/web")
    );
}

#[tokio::test]
async fn many_jobs_are_read_page_by_page() {
    let bench = OverHttp::new().await;
    bench.queue("acme/app", &["linux"], 250).await;
    let snapshot = complete(&bench.ci(&["acme/app"])).await;
    assert_eq!(jobs(&snapshot, JobState::Queued).len(), 250);
    assert_eq!(
        snapshot.calls, 5,
        "three pages of jobs, one of runners, one of finished jobs"
    );
}

#[tokio::test]
async fn a_registration_becomes_a_runner_that_works_drains_and_is_forgotten() {
    let bench = OverHttp::new().await;
    let ci = bench.ci(&["acme/app"]);
    bench.queue("acme/app", &["linux"], 2).await;

    let made = ci.register(&request(MACHINE)).await.unwrap();
    let fresh = view(&complete(&ci).await, &made.id);
    assert_eq!(fresh.description, MACHINE);
    assert_eq!((fresh.last_contact, fresh.paused), (None, false));
    assert_ne!(fresh.online, Some(true));

    bench.boot(MACHINE, &made).await;
    let working = complete(&ci).await;
    let runner = view(&working, &made.id);
    assert_eq!((runner.online, runner.busy), (Some(true), Some(true)));
    assert!(runner.last_contact.is_some());
    assert_eq!(jobs(&working, JobState::Queued).len(), 1);
    let running = jobs(&working, JobState::Running);
    assert_eq!(running[0].runner, Some(made.id.clone()));
    assert!(running[0].started_at.is_some());
    let reading = ci.read(&made.id).await.unwrap().unwrap();
    assert_eq!((reading.jobs, reading.paused), (Some(1), false));

    let cordoned = ci.cordon(&made.id).await.unwrap();
    assert!(cordoned.since.duration_since(bench.now().await).abs() < SignedDuration::from_secs(1));
    let reading = ci.read(&made.id).await.unwrap().unwrap();
    assert_eq!((reading.jobs, reading.paused), (Some(1), true), "its job goes on");
    bench.advance("5m").await;
    let reading = ci.read(&made.id).await.unwrap().unwrap();
    assert_eq!((reading.jobs, reading.paused), (Some(0), true));
    let drained = observe(&ci, &working.cursor).await;
    assert_eq!(jobs(&drained, JobState::Queued).len(), 1, "it took no new job");
    assert!(view(&drained, &made.id).paused);
    let finished = jobs(&drained, JobState::Finished);
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].runner, Some(made.id.clone()));
    assert!(finished[0].finished_at > finished[0].started_at);

    ci.forget(&made.id).await.unwrap();
    let gone = observe(&ci, &drained.cursor).await;
    assert!(gone.runners.is_empty());
    assert!(jobs(&gone, JobState::Finished).is_empty(), "told once");
    assert_eq!(ci.read(&made.id).await, Ok(None));
    assert_eq!(bench.world().await["jobs_killed"], 0);
}

#[tokio::test]
async fn one_runner_serves_every_project() {
    let bench = OverHttp::new().await;
    let ci = bench.ci(&["acme/app", "acme/web"]);
    let made = ci.register(&request(MACHINE)).await.unwrap();
    assert_eq!(complete(&ci).await.runners.len(), 1);
    bench.boot(MACHINE, &made).await;
    bench.queue("acme/web", &["linux"], 1).await;
    bench.advance("5s").await;
    let snapshot = complete(&ci).await;
    let running = jobs(&snapshot, JobState::Running);
    assert_eq!(running[0].runner, Some(made.id.clone()));
}

#[tokio::test]
async fn a_token_that_may_only_read_observes_and_changes_nothing() {
    let bench = OverHttp::new().await;
    bench.queue("acme/app", &["linux"], 1).await;
    let reader = bench.ci_as(READ_ONLY, &["acme/app"], Duration::from_secs(10));
    assert_eq!(jobs(&complete(&reader).await, JobState::Queued).len(), 1);
    let error = reader.register(&request(MACHINE)).await.unwrap_err();
    assert!(matches!(error, DemandError::Unauthorized { .. }), "{error:?}");
    let problems = reader.check().await.unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].place, "ci.gitlab.token");
}

#[tokio::test]
async fn a_check_names_a_project_that_is_not_there() {
    let bench = OverHttp::new().await;
    assert_eq!(bench.ci(&["acme/app", "acme/web"]).check().await, Ok(vec![]));
    assert_eq!(bench.ci(&[]).check().await, Ok(vec![]));
    let problems = bench.ci(&["acme/apq"]).check().await.unwrap();
    assert_eq!(problems[0].place, "ci.gitlab.projects[0]");
    assert!(problems[0].hint.as_deref().unwrap().contains("acme/app"));
}

#[tokio::test]
async fn a_check_with_another_token_is_refused() {
    let bench = OverHttp::new().await;
    let stranger = bench.ci_as("glpat-wrong", &["acme/app"], Duration::from_secs(10));
    let error = stranger
        .observe(&STACK.into(), &[pool()], &Cursor::default())
        .await
        .unwrap_err();
    assert!(matches!(error, DemandError::Unauthorized { .. }), "{error:?}");
    assert!(matches!(
        stranger.check().await,
        Err(DemandError::Unauthorized { .. })
    ));
}

#[tokio::test]
async fn whatever_goes_wrong_with_the_runners_the_jobs_are_told_and_the_answer_is_partial() {
    let faults = [
        ("server-error", json!({}), "502"),
        ("hang", json!({}), "unavailable"),
        ("reply-lost", json!({}), "unavailable"),
        ("unauthorized", json!({}), "401"),
        ("rate-limited", json!({}), "throttled"),
        ("partial-list", json!({"args": {"status": 500}}), "500"),
        ("changed-total", json!({}), "total"),
        ("next-page-for-ever", json!({"count": 1000}), "next"),
    ];
    for (fault, more, said) in faults {
        let bench = OverHttp::with(json!({})).await;
        let ci = bench.ci_as(
            &bench.sandbox.addresses().token,
            &["acme/app"],
            Duration::from_secs(2),
        );
        for number in 0..101 {
            ci.register(&request(&format!("prod-linux-{number}")))
                .await
                .unwrap();
        }
        bench.queue("acme/app", &["linux"], 1).await;
        // Each page is a call of its own, so that a fault in a later page strikes there.
        let mut rule = json!({"count": 2, "method": "GET"});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        bench.fault("/projects/acme%2Fapp/runners", fault, rule).await;
        let snapshot = observe(&ci, &Cursor::default()).await;
        let Completeness::Partial { why } = &snapshot.completeness else {
            panic!("{fault}: complete with {} runners", snapshot.runners.len());
        };
        assert!(why.contains(said), "{fault}: {why}");
        assert_eq!(jobs(&snapshot, JobState::Queued).len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn a_list_of_jobs_that_lags_does_not_make_a_busy_runner_idle() {
    let bench = OverHttp::new().await;
    let ci = bench.ci(&["acme/app"]);
    let made = ci.register(&request(MACHINE)).await.unwrap();
    bench.boot(MACHINE, &made).await;
    bench.queue("acme/app", &["linux"], 1).await;
    bench.advance("5s").await;
    bench
        .fault(
            &format!("/runners/{}/jobs", made.id),
            "busy-lag",
            json!({"args": {"seconds": 60}}),
        )
        .await;
    assert_eq!(
        ci.read(&made.id).await.unwrap().unwrap().jobs,
        None,
        "the witnesses disagree"
    );
    assert_eq!(ci.read(&made.id).await.unwrap().unwrap().jobs, Some(1));
}
