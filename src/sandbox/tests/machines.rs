//! Machines of outside clouds: reported, booted, at work, gone.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    super::{
        Options,
        userdata::tests::{circle_example, drone_example, example},
    },
    Client, fresh, options, with,
};

impl Client {
    async fn report(&self, body: Value) -> Value {
        let got = self.control("POST", "/machines", Some(body)).await;
        assert_eq!(got.status, 201, "{}", got.body);
        got.body
    }

    /// What is told of each machine: id, state, whether it is registered, how many jobs it runs.
    async fn machines(&self) -> Vec<(String, String, bool, u64)> {
        let got = self.control("GET", "/machines", None).await;
        let of = |machine: &Value| {
            (
                machine["id"].as_str().unwrap().to_owned(),
                machine["state"].as_str().unwrap().to_owned(),
                machine["registered"].as_bool().unwrap(),
                machine["running_jobs"].as_u64().unwrap(),
            )
        };
        got.body["machines"].as_array().unwrap().iter().map(of).collect()
    }

    async fn queue_jobs(&self, spec: Value) {
        let made = self.control("POST", "/jobs", Some(spec)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
}

fn told(id: &str, state: &str, registered: bool, jobs: u64) -> (String, String, bool, u64) {
    (id.to_owned(), state.to_owned(), registered, jobs)
}

#[tokio::test]
async fn a_reported_machine_boots_registers_works_and_is_killed_with_what_it_runs() {
    let client = fresh().await;
    let addresses = client.sandbox.addresses().clone();
    let data = drone_example(
        &addresses.drone,
        &addresses.drone_rpc_secret,
        &["DRONE_RUNNER_NAME={{ v1.instance_id }}"],
    );
    let data = format!("## template: jinja\n{data}");
    client
        .queue_jobs(json!({"ci": "drone", "count": 3, "duration": "10m"}))
        .await;
    let body = json!({"id": "i-0abc", "name": "ip-10-0-0-5", "address": "10.0.0.5", "user_data_base64": STANDARD.encode(data)});
    client.report(body.clone()).await;
    assert_eq!(client.machines().await, [told("i-0abc", "booting", false, 0)]);
    client.advance("20s").await;
    assert_eq!(client.machines().await, [told("i-0abc", "running", true, 2)]);
    // The same report again is nothing new, another of the same id is refused.
    client.report(body.clone()).await;
    assert_eq!(client.machines().await.len(), 1);
    let mut other = body;
    other["name"] = json!("else");
    assert_eq!(client.control("POST", "/machines", Some(other)).await.status, 409);
    let world = client.world().await;
    assert_eq!(world["machines"].as_array().unwrap().len(), 1);
    assert_eq!(world["servers"], json!([]));
    assert_eq!(world["jobs"][0]["machine"], "i-0abc");
    assert_eq!(
        client.cloud("GET", "/servers", None).await.body["servers"],
        json!([])
    );

    for _ in 0..2 {
        let gone = client.control("DELETE", "/machines/i-0abc", None).await;
        assert_eq!(gone.status, 204);
        assert_eq!(client.machines().await, []);
        assert_eq!(client.world().await["jobs_killed"], 2);
    }
}

#[tokio::test]
async fn jobs_of_all_cis_run_on_machines_from_outside_and_all_are_counted_when_killed() {
    let client = fresh().await;
    let addresses = client.sandbox.addresses().clone();
    let (_, token) = client.runner(&["linux"]).await;
    let gitlab = example(&addresses.gitlab, &token, 1);
    let drone = drone_example(&addresses.drone, &addresses.drone_rpc_secret, &[]);
    let circle = circle_example(&addresses.circleci, &addresses.token, "{idle_timeout: 5m}");
    for (id, data) in [("g", gitlab), ("d", drone), ("c", circle)] {
        client.report(json!({"id": id, "user_data": data})).await;
    }
    client.advance("20s").await;
    client
        .queue_jobs(json!({"tags": ["linux"], "duration": "1h"}))
        .await;
    client.queue_jobs(json!({"ci": "drone", "duration": "1h"})).await;
    client
        .queue_jobs(json!({"ci": "circleci", "resource_class": "acme/linux", "duration": "1h"}))
        .await;
    client.advance("3s").await;
    let busy = ["g", "d", "c"].map(|id| told(id, "running", true, 1));
    assert_eq!(client.machines().await, busy);
    let summary = client.control("GET", "/summary", None).await.body;
    assert_eq!(
        (&summary["jobs"]["running"], &summary["registered"]),
        (&json!(3), &json!(3))
    );
    let cis: Vec<Value> = client.world().await["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["ci"].clone())
        .collect();
    assert_eq!(cis, ["gitlab", "drone", "circleci"]);
    for id in ["g", "d", "c"] {
        client.control("DELETE", &format!("/machines/{id}"), None).await;
    }
    assert_eq!(client.world().await["jobs_killed"], 3);
}

#[tokio::test]
async fn a_machine_that_switches_itself_off_is_shown_off_until_its_end_is_reported() {
    let client = fresh().await;
    let addresses = client.sandbox.addresses().clone();
    let data = circle_example(&addresses.circleci, &addresses.token, "{idle_timeout: 1m}");
    client.report(json!({"id": "i-1", "user_data": data})).await;
    client
        .report(json!({"id": "i-2", "user_data": data, "never_registers": true}))
        .await;
    client.advance("20s").await;
    assert_eq!(
        client.machines().await,
        [told("i-1", "running", true, 0), told("i-2", "running", false, 0)]
    );
    client.advance("1m 5s").await;
    assert_eq!(
        client.machines().await,
        [told("i-1", "off", false, 0), told("i-2", "running", false, 0)]
    );
    // The other's watchdog.
    client.advance("10m").await;
    assert_eq!(client.machines().await[1], told("i-2", "off", false, 0));
    client.control("DELETE", "/machines/i-1", None).await;
    assert_eq!(client.machines().await.len(), 1);
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_refused() {
    let client = fresh().await;
    for body in [
        json!({"name": "a"}),
        json!({"id": ""}),
        json!({"id": "a", "user_data_base64": "%"}),
        json!({"id": "a", "user_data_base64": STANDARD.encode([0x1f, 0x8b, 8, 0])}),
        json!({"id": "a", "colour": "red"}),
    ] {
        let got = client.control("POST", "/machines", Some(body.clone())).await;
        assert_eq!(got.status, 400, "{body}");
    }
    assert_eq!(client.machines().await, []);
}

#[tokio::test]
async fn machines_stages_and_tasks_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data: Some(folder.path().join("world.json")),
        ..options()
    };
    let client = with(options.clone()).await;
    let addresses = client.sandbox.addresses().clone();
    let drone = drone_example(&addresses.drone, &addresses.drone_rpc_secret, &[]);
    let circle = circle_example(&addresses.circleci, &addresses.token, "{idle_timeout: 5m}");
    client.report(json!({"id": "d", "user_data": drone})).await;
    client.report(json!({"id": "c", "user_data": circle})).await;
    client.advance("20s").await;
    client
        .queue_jobs(json!({"ci": "drone", "count": 3, "duration": "60s"}))
        .await;
    client
        .queue_jobs(json!({"ci": "circleci", "resource_class": "acme/linux", "count": 2, "duration": "60s"}))
        .await;
    let before = client.machines().await;
    assert_eq!(
        before,
        [told("d", "running", true, 2), told("c", "running", true, 1)]
    );
    drop(client);

    let client = with(options).await;
    assert_eq!(
        client.sandbox.addresses().drone_rpc_secret,
        addresses.drone_rpc_secret
    );
    assert_eq!(client.machines().await, before);
    client.advance("2m").await;
    let world = client.world().await;
    let jobs = world["jobs"].as_array().unwrap();
    assert!(
        jobs.len() == 5 && jobs.iter().all(|job| job["status"] == "success"),
        "{world}"
    );
}
