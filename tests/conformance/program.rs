//! A CI of one's own, by commands and at URLs: the rows `exec` and `http` of the suite.
//!
//! Behind both is one program that nobody of this crate's clients knows of, tests/tools/gitlab_program.py: it asks the sandbox's
//! GitLab. For `http` a small server runs it for each request.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    demand::{
        Demand, Registration, RunnerControl,
        program::{Program, ProgramConfig},
    },
    model::demand::PoolSelector,
    net::{Auth, ClientConfig},
    stack::source::{self, Call},
};
use secrecy::SecretString;
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    cases::Backend,
    ci::{Bench, Need, STACK, Trouble, Work, keeps_the_contract},
    gitlab::{OverHttp, pool},
};

const PROJECT: &str = "acme/app";
const CALLS: [&str; 5] = ["demand", "register", "cordon", "uncordon", "forget"];

struct Own {
    over: OverHttp,
    calls: source::Program,
    ci: Program,
}

fn tool() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/gitlab_program.py")
}

/// Whether there is a Python for the program; said aloud where there is none.
fn has_python() -> bool {
    let found = std::process::Command::new(tool())
        .stdin(Stdio::null())
        .output()
        .is_ok();
    if !found {
        println!("skipped: no python3, which tests/tools/gitlab_program.py is for");
    }
    found
}

fn calls(call: impl Fn(&str) -> Call) -> source::Program {
    source::Program {
        demand: call("demand"),
        register: Some(call("register")),
        cordon: Some(call("cordon")),
        uncordon: Some(call("uncordon")),
        forget: Some(call("forget")),
        timeout: SignedDuration::from_secs(60),
    }
}

impl Own {
    async fn by_command() -> Option<Box<dyn Bench>> {
        if !has_python() {
            return None;
        }
        let over = OverHttp::with(json!({})).await;
        let root = over.sandbox.addresses().gitlab.clone();
        let words = vec![tool().display().to_string(), root, PROJECT.to_owned()];
        Some(Self::of(over, calls(|_| Call::Command(words.clone()))))
    }

    async fn by_url() -> Option<Box<dyn Bench>> {
        if !has_python() {
            return None;
        }
        let over = OverHttp::with(json!({})).await;
        let at = serve(over.sandbox.addresses().gitlab.clone()).await;
        Some(Self::of(over, calls(|word| Call::Url(format!("{at}/{word}")))))
    }

    fn of(over: OverHttp, calls: source::Program) -> Box<dyn Bench> {
        let ci = client(&over, &calls, &over.sandbox.addresses().token);
        Box::new(Self { over, calls, ci })
    }

    async fn fault(&self, path: &str, fault: &str, more: serde_json::Value) {
        let mut rule = json!({"path": format!("/gitlab/api/v4{path}"), "fault": fault, "count": 1000});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.over.control("/faults", rule).await;
    }
}

fn client(over: &OverHttp, calls: &source::Program, token: &str) -> Program {
    let token = SecretString::from(token);
    let mut client = ClientConfig::new("", Auth::Bearer(token.clone()));
    client.call_timeout = std::time::Duration::from_secs(60);
    client.total_timeout = client.call_timeout;
    client.retries = 0;
    Program::new(ProgramConfig {
        name: "own".into(),
        stack: STACK.into(),
        pools: vec![pool()],
        calls: calls.clone(),
        root: over.sandbox.addresses().gitlab.clone(),
        folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        client,
        token: Some(token),
        settle: SignedDuration::from_secs(5),
        tokens: BTreeMap::new(),
    })
    .unwrap()
}

/// A server that runs the program for each request; its address.
async fn serve(root: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let ask = |State(root): State<String>,
               headers: HeaderMap,
               Query(query): Query<BTreeMap<String, String>>| async move {
        let mut asked = json!({"request": "demand", "stack": query["stack"]});
        if let Some(cursor) = query.get("cursor") {
            asked["cursor"] = json!(cursor);
        }
        run(&root, &headers, asked.to_string().as_bytes()).await
    };
    let tell = |State(root): State<String>,
                Path(call): Path<String>,
                headers: HeaderMap,
                body: axum::body::Bytes| async move {
        assert!(CALLS.contains(&call.as_str()), "{call}");
        run(&root, &headers, &body).await
    };
    let app = Router::new()
        .route("/demand", get(ask))
        .route("/{call}", post(tell))
        .with_state(root);
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

/// What the program says, with the status that its exit code stands for.
async fn run(root: &str, headers: &HeaderMap, input: &[u8]) -> (StatusCode, Vec<u8>) {
    let bearer = headers["authorization"].to_str().unwrap();
    let mut child = Command::new(tool())
        .args([root, PROJECT])
        .env("RUNFLEET_TOKEN", bearer.strip_prefix("Bearer ").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    let ended = child.wait_with_output().await.unwrap();
    let status = match ended.status.code() {
        Some(0) => StatusCode::OK,
        Some(65) => StatusCode::UNPROCESSABLE_ENTITY,
        Some(75) => StatusCode::TOO_MANY_REQUESTS,
        Some(77) => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_GATEWAY,
    };
    (status, ended.stdout)
}

#[async_trait]
impl Bench for Own {
    fn demand(&self) -> &dyn Demand {
        &self.ci
    }

    fn control(&self) -> &dyn RunnerControl {
        &self.ci
    }

    fn stranger(&self) -> Box<dyn Demand> {
        Box::new(client(&self.over, &self.calls, "glpat-wrong"))
    }

    fn pool(&self) -> PoolSelector {
        pool()
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::HeldJobs,
            Need::MaxAges,
            Need::Trouble(Trouble::RegisterReplyLost),
            Need::Trouble(Trouble::BusyLags),
        ]
    }

    async fn queue(&self, work: Work, count: u32) {
        let (tags, duration) = match work {
            Work::Ours => (["linux"], "60s"),
            Work::Endless => (["linux"], "24h"),
            Work::OfOthers => (["gpu"], "60s"),
            Work::Held => unreachable!("it tells no held jobs"),
        };
        let jobs =
            json!({"project": PROJECT, "tags": tags, "count": count, "duration": duration, "name": "build"});
        self.over.control("/jobs", jobs).await;
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
        match trouble {
            Trouble::PartFails => {
                self.fault(runners, "server-error", json!({"method": "GET"}))
                    .await;
            }
            Trouble::NothingAnswers => self.fault("/*", "server-error", json!({})).await,
            Trouble::Throttled => self.fault("/*", "rate-limited", json!({})).await,
            Trouble::EndlessPages => {
                // More than a page of jobs.
                self.queue(Work::Ours, 101).await;
                let jobs = "/projects/acme%2Fapp/jobs";
                self.fault(jobs, "next-page-for-ever", json!({"method": "GET"}))
                    .await;
            }
            Trouble::CordonReplyLost => {
                let once = json!({"count": 1, "method": "PUT"});
                self.fault("/runners/*", "reply-lost", once).await;
            }
            Trouble::ForgetReplyLost => {
                let once = json!({"count": 1, "method": "DELETE"});
                self.fault("/runners/*", "reply-lost", once).await;
            }
            Trouble::RegisterReplyLost | Trouble::BusyLags => unreachable!("{trouble:?} is lacking"),
        }
    }

    async fn killed(&self) -> u64 {
        self.over.world().await["jobs_killed"].as_u64().unwrap()
    }

    async fn stop(self: Box<Self>) {
        self.over.sandbox.stop().await.unwrap();
    }
}

const PARTY: &str = "the sandbox's GitLab, by a program";

pub(crate) fn exec() -> Backend<dyn Bench> {
    Backend::new("exec", PARTY, Some(|| Box::pin(Own::by_command())))
}

pub(crate) fn http() -> Backend<dyn Bench> {
    Backend::new("http", PARTY, Some(|| Box::pin(Own::by_url())))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keep_the_contract() {
    keeps_the_contract("exec").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_keep_the_contract() {
    keeps_the_contract("http").await;
}
