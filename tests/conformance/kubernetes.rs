//! The Kubernetes provider over real HTTP, with the sandbox's small API server as its cluster: an own stand-in, since no registry has
//! a real one. That server answers the real kubectl, too (`tests/faithful`), and the provider is held against a fake client that
//! others maintain (`tests/kube-fake`).

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::SignedDuration;
use runfleet::{
    model::{
        ids::CloudId,
        money::Currency,
        offering::{Market, OfferingKey},
        resource::{ImageRef, KubernetesJob, TaskSpec},
    },
    net::{Auth, Client, ClientConfig, Request},
    provider::{
        Provider,
        kubernetes::{Access, Kubernetes, Options},
    },
    sandbox::{self, Sandbox, Settings},
    stack::OfferingChoice,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    cases::Backend,
    claims::SECRET,
    provider::{Batches, Harness, Need, Trouble, keeps_the_contract},
};

struct OverHttp {
    provider: Kubernetes,
    cluster: Client,
    control: Client,
    template: String,
    sandbox: Sandbox,
}

const JOBS: &str = "/apis/batch/v1/namespaces/ci/jobs";
const PODS: &str = "/api/v1/namespaces/ci/pods";
const GONE: &str = "registry.example.com/gone:1";

fn config(base: &str, token: &str) -> ClientConfig {
    ClientConfig {
        call_timeout: Duration::from_secs(5),
        retries: 1,
        ..ClientConfig::new(base, Auth::Bearer(SecretString::from(token)))
    }
}

fn task() -> TaskSpec {
    TaskSpec::Kubernetes(KubernetesJob {
        namespace: "ci".to_owned(),
        ttl: SignedDuration::from_mins(10),
        ..KubernetesJob::default()
    })
}

fn choice() -> OfferingChoice {
    OfferingChoice {
        provider: "kubernetes".into(),
        machine_type: "small".to_owned(),
        locations: Vec::new(),
        image: ImageRef::TaskTemplate,
        public_ipv4: false,
        market: Market::OnDemand,
        ec2: None,
        task: Some(Box::new(task())),
        price: None,
        priority: 0,
    }
}

impl OverHttp {
    async fn start() -> Self {
        let mut settings = Settings::default();
        settings.set("rate_limit", "off").expect("a setting");
        let scenario = json!({"kubernetes": {"namespaces": ["ci"], "bad_images": [GONE]}});
        let options = sandbox::Options {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data: None,
            seed: 1,
            settings,
            scenario: Some(serde_json::from_value(scenario).expect("a scenario")),
            token: None,
        };
        let sandbox = sandbox::start(options).await.expect("a sandbox");
        let at = sandbox.addresses().clone();
        let token = SecretString::from(at.token.clone());
        let access = Access::of_token(&at.kubernetes, token).expect("access");
        let client = access
            .client(config(&at.kubernetes, &at.token))
            .await
            .expect("a client");
        let options = Options {
            namespace: "ci".to_owned(),
            place: access.place().to_owned(),
            choices: vec![("pools.linux.offerings[0]".to_owned(), choice())],
            discovers: false,
            currency: Currency::new("EUR"),
            concurrency: 20,
            requests_per_hour: None,
            // So that the suite's many are more than one.
            page: 50,
        };
        // A runner that waits for tasks for ever: it runs until it is ended.
        let template = json!({"spec": {"containers": [{"name": "runner", "image": "circleci/runner-agent:machine-3", "env": [
            {"name": "CIRCLECI_RUNNER_API_URL", "value": at.circleci},
            {"name": "CIRCLECI_RUNNER_API_AUTH_TOKEN", "value": at.token},
            {"name": "NOT_SAID", "value": SECRET}]}]}});
        Self {
            provider: Kubernetes::new("kubernetes".into(), client, options),
            cluster: Client::new(config(&at.kubernetes, &at.token)).expect("a client"),
            control: Client::new(config(&at.control, &at.token)).expect("a client"),
            template: template.to_string(),
            sandbox,
        }
    }

    async fn ask(&self, at: &Client, request: Request) -> Value {
        let reply = at.send(request).await.expect("an answer");
        assert!(
            reply.status.is_success(),
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        reply.json().unwrap_or_default()
    }

    async fn fault(&self, rule: Value) {
        let request = Request::new(Method::POST, "/faults").json(rule);
        self.ask(&self.control, request).await;
    }

    async fn pass(&self, time: &str) {
        let request = Request::new(Method::POST, "/clock").json(json!({ "advance": time }));
        self.ask(&self.control, request).await;
    }

    async fn rows(&self, path: &str) -> Vec<Value> {
        let body = self.ask(&self.cluster, Request::get(path)).await;
        body["items"].as_array().cloned().unwrap_or_default()
    }

    /// The pod of a Job.
    async fn pod(&self, job: &CloudId) -> Value {
        let path = format!("{PODS}?labelSelector=job-name%3D{job}");
        self.rows(&path).await.pop().expect("a pod")
    }
}

#[async_trait]
impl Harness for OverHttp {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn offering(&self) -> OfferingKey {
        OfferingKey {
            provider: "kubernetes".into(),
            location: "cluster".to_owned(),
            machine_type: "small".to_owned(),
            market: Market::OnDemand,
        }
    }

    fn image(&self) -> ImageRef {
        ImageRef::TaskTemplate
    }

    fn lacks(&self) -> Vec<Need> {
        vec![Need::Trouble(Trouble::NoCapacity)]
    }

    async fn order(&self, trouble: Trouble) {
        let jobs = format!("/kubernetes{JOBS}");
        // Each of a batch is a call of its own, and the suite's batches in trouble have two.
        let post =
            |fault: &str, count: u32| json!({"path": jobs, "method": "POST", "fault": fault, "count": count});
        let rule = match trouble {
            Trouble::CreateReplyLost(_) => post("reply-lost", 1),
            Trouble::CreateRequestLost => post("request-lost", 2),
            Trouble::Quota => post("quota", 2),
            Trouble::Unauthorized => post("unauthorized", 2),
            // As often as the client tries again, and once more.
            Trouble::PartialList => {
                json!({"path": jobs, "method": "GET", "fault": "partial-list", "count": 100})
            }
            Trouble::DeleteReplyLost => json!({"path": "*", "method": "DELETE", "fault": "reply-lost"}),
            Trouble::RelabelReplyLost => json!({"path": "*", "method": "PATCH", "fault": "reply-lost"}),
            Trouble::NoCapacity | Trouble::FailsAfterwards | Trouble::ResizeReplyLost => {
                unreachable!("it is lacked")
            }
        };
        self.fault(rule).await;
    }

    /// Jobs that are neither over nor have a pod that is.
    async fn census(&self) -> usize {
        let over = |pod: &&Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let pods = self.rows(PODS).await;
        let ended: Vec<&str> = pods
            .iter()
            .filter(over)
            .filter_map(|pod| pod["metadata"]["ownerReferences"][0]["name"].as_str())
            .collect();
        let jobs = self.rows(JOBS).await;
        let lives = |job: &&Value| {
            let name = job["metadata"]["name"].as_str().unwrap_or_default();
            let failed = job["status"]["failed"].as_u64().unwrap_or(0);
            failed == 0 && !ended.contains(&name) && job["metadata"]["deletionTimestamp"].is_null()
        };
        jobs.iter().filter(lives).count()
    }

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }

    async fn stop(self: Box<Self>) {
        self.sandbox.stop().await.expect("it stops");
    }
}

#[async_trait]
impl Batches for OverHttp {
    fn template(&self) -> String {
        self.template.clone()
    }

    fn task(&self) -> TaskSpec {
        task()
    }

    fn never_was(&self) -> CloudId {
        "never-was-00000000-0".into()
    }

    async fn run(&self) {
        self.pass("2m").await;
    }

    async fn end(&self, container: &CloudId, code: i32) {
        let pod = self.pod(container).await;
        let body = json!({"pod": pod["metadata"]["name"], "code": code});
        let request = Request::new(Method::POST, "/exit").json(body);
        let ended = self.ask(&self.control, request).await;
        assert_eq!(ended["ended"][0], pod["metadata"]["name"]);
    }

    async fn cannot_start(&self, container: &CloudId) {
        // Its pod is there, and no node has begun to start it.
        self.pass("600ms").await;
        let pod = self.pod(container).await;
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let body = json!({"spec": {"containers": [{"name": "runner", "image": GONE}]}});
        let mut request = Request::new(Method::PATCH, format!("{PODS}/{name}"));
        request.text = Some(body.to_string().into_bytes());
        let kind = "application/strategic-merge-patch+json"
            .parse()
            .expect("a header");
        request.more.insert(http::header::CONTENT_TYPE, kind);
        self.ask(&self.cluster, request).await;
        self.pass("10s").await;
    }

    async fn start_only(&self, count: u32) {
        let path = format!("/kubernetes{JOBS}");
        self.fault(json!({"path": path, "method": "POST", "fault": "quota", "skip": count}))
            .await;
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "kubernetes",
        "own stand-in, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(OverHttp::start().await) as Box<dyn Harness>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_over_http_keeps_the_contract() {
    keeps_the_contract("kubernetes").await;
}
