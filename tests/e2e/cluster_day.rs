//! CircleCI's runners as Jobs of a cluster, `stacks/circleci-kubernetes.toml` as it is shipped, from nothing to busy to nothing: the
//! CronJobs, Secrets and resource classes are those of its own `[sandbox]`, in a sandbox of another process.
//!
//! The transcript is tests/scenarios/circleci_kubernetes.txt; `BLESS=1` writes it.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Value, json};

use crate::{
    migration::told,
    support::{Project, Ran, Sandbox},
};

const SHIPPED: &str = include_str!("../../stacks/circleci-kubernetes.toml");
const TRANSCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/scenarios/circleci_kubernetes.txt"
);
const NAMESPACE: &str = "circleci-runners";

struct Stage {
    sandbox: Sandbox,
    project: Project,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn set() -> Self {
        let stack: Value = toml::from_str(SHIPPED).unwrap();
        let mut world = stack["sandbox"]["scenario"].clone();
        // Jobs come when the day says so.
        world["jobs"] = json!([]);
        let project = Project::with_stack("", "t");
        std::fs::remove_file(project.path("stacks/test.toml")).unwrap();
        std::fs::write(project.path("world.json"), world.to_string()).unwrap();
        let alias = stack["sandbox"]["settings"]["circleci_alias"].as_str().unwrap();
        let settings = ["speed=0", "boot=20s", &format!("circleci_alias={alias}")];
        let file = project.path("world.json").display().to_string();
        let sandbox = Sandbox::start_with(&settings, &["--scenario", &file]);
        let (before, _) = SHIPPED.split_once("# -- the simulated world").unwrap();
        std::fs::write(project.path("stacks/test.toml"), before).unwrap();
        let at = |party: &str| sandbox.addresses[party].as_str().unwrap().to_owned();
        for (key, party) in [
            ("endpoint  = \"sandbox\"", "kubernetes"),
            ("url = \"sandbox\"", "circleci"),
        ] {
            let name = key.split_whitespace().next().unwrap();
            project.edit(
                key,
                &format!("{name} = \"{}\"\ntoken = {{ env = \"SANDBOX\" }}", at(party)),
            );
        }
        let stage = Self {
            sandbox,
            project,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        };
        stage.run(&["validate"]).exits(0);
        stage
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self
            .project
            .command(arguments)
            .env("SANDBOX", self.sandbox.token())
            .output()
            .unwrap();
        Ran::of(&output)
    }

    /// The objects of a kind in the namespace.
    fn objects(&self, path: &str) -> Vec<Value> {
        let root = self.sandbox.addresses["kubernetes"].as_str().unwrap();
        let request = self
            .http
            .get(format!("{root}{path}"))
            .bearer_auth(self.sandbox.token());
        let list: Value = self
            .runtime
            .block_on(async { request.send().await.unwrap().json().await.unwrap() });
        list["items"].as_array().unwrap().clone()
    }

    fn jobs(&self) -> Vec<Value> {
        self.objects(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs"))
    }

    /// The Jobs whose runner has not left.
    fn serving(&self) -> BTreeSet<String> {
        let active = self
            .jobs()
            .into_iter()
            .filter(|job| job["status"]["active"].is_u64());
        active
            .map(|job| job["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn tick(&self) -> String {
        let before = self.serving();
        let plan = self.run(&["plan", "--json"]).exits(0).json();
        self.run(&["scale"]).exits(0);
        let after = self.serving();
        assert!(
            before.is_subset(&after),
            "a Job went whose runner had not left: {before:?} {after:?}"
        );
        told(&plan)
    }

    fn tasks(&self, class: &str, count: u32, duration: &str) {
        let jobs = json!({"ci": "circleci", "resource_class": class, "count": count, "duration": duration});
        self.sandbox.post("/jobs", &jobs);
    }

    fn standing(&self) -> String {
        let world = self.sandbox.world();
        let tasks = world["jobs"].as_array().unwrap();
        let count = |status: &str| tasks.iter().filter(|job| job["status"] == status).count();
        format!(
            "  = {} Jobs, {} active, tasks: {} wait, {} run, {} done, {} killed\n",
            self.jobs().len(),
            self.serving().len(),
            count("pending"),
            count("running"),
            count("success"),
            world["jobs_killed"]
        )
    }
}

#[test]
fn a_day_of_runners_in_a_cluster_goes_as_its_transcript_says() {
    let stage = Stage::set();
    let mut text = String::new();
    for minute in 0..=60_u32 {
        match minute {
            4 => stage.tasks("acme/linux", 2, "6m"),
            6 => stage.tasks("acme/linux", 6, "6m"),
            _ => {}
        }
        if minute % 2 == 0 {
            let told = stage.tick();
            if !told.is_empty() {
                let _ = write!(text, "{minute}m\n{told}{}\n", stage.standing());
            }
        }
        stage.sandbox.advance("1m");
    }
    let world = stage.sandbox.world();
    let tasks = world["jobs"].as_array().unwrap();
    assert_eq!(tasks.len(), 8);
    assert!(tasks.iter().all(|task| task["status"] == "success"), "{text}");
    assert_eq!(world["jobs_killed"], 0, "{text}");
    assert_eq!(stage.jobs(), Vec::<Value>::new(), "{text}");
    assert_eq!(
        stage.objects(&format!("/api/v1/namespaces/{NAMESPACE}/pods")),
        Vec::<Value>::new()
    );
    // Each task had a Job, and no Job or pod was deleted by us: they left, and their time to live did the rest.
    let calls = world["api_calls"].as_object().unwrap();
    let of_cluster = calls.keys().filter(|call| call.starts_with("kubernetes"));
    let writes: Vec<_> = of_cluster.filter(|call| !call.contains(" GET ")).collect();
    let create = "kubernetes POST /apis/batch/v1/namespaces/{namespace}/jobs";
    assert_eq!(writes, [create]);
    assert_eq!(calls[create], 8);
    // The CronJob is as it was: a template that nobody has touched.
    let templates = stage.objects(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs"));
    assert_eq!(templates.len(), 1);
    assert_eq!(templates[0]["metadata"]["generation"], 1);
    let state = stage.run(&["state", "list"]).exits(0);
    assert!(
        !state.stdout.contains("machine.") && !state.stdout.contains("batch."),
        "{}",
        state.stdout
    );
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(TRANSCRIPT, &text).unwrap();
    }
    let golden = std::fs::read_to_string(TRANSCRIPT).unwrap_or_default();
    assert!(
        golden == text,
        "the transcript differs; BLESS=1 writes this one:\n{text}"
    );
}
