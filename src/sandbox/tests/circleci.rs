//! CircleCI over HTTP: counts of tasks, runners, and their leaving.

use serde_json::{Value, json};

use super::{super::userdata::tests::circle_example, Client, Got, Scenario, fresh, options, with};

const CLASS: &str = "acme/linux";

impl Client {
    async fn circle_as(&self, token: &str, path: &str) -> Got {
        let url = format!("{}{path}", self.sandbox.addresses().circleci);
        let answer = self
            .http
            .get(url)
            .header("Circle-Token", token)
            .send()
            .await
            .unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.json().await.unwrap();
        Got {
            status,
            headers,
            body,
        }
    }

    pub(super) async fn circle(&self, path: &str) -> Value {
        let got = self
            .circle_as(&self.sandbox.addresses().token.clone(), path)
            .await;
        assert_eq!(got.status, 200, "{}", got.body);
        got.body
    }

    /// Unclaimed and running tasks of a class.
    async fn counts(&self, class: &str) -> (u64, u64) {
        let unclaimed = self
            .circle(&format!("/api/v3/runner/tasks?resource-class={class}"))
            .await;
        let running = self
            .circle(&format!("/api/v3/runner/tasks/running?resource-class={class}"))
            .await;
        (
            unclaimed["unclaimed_task_count"].as_u64().unwrap(),
            running["running_runner_tasks"].as_u64().unwrap(),
        )
    }

    async fn tasks(&self, class: &str, count: u32, duration: &str) {
        let spec = json!({"ci": "circleci", "resource_class": class, "count": count, "duration": duration});
        let made = self.control("POST", "/jobs", Some(spec)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    /// A booted server with a machine runner.
    async fn circle_runner(&self, name: &str, token: &str, mode: &str) {
        let runner = format!("{{name: {name}, mode: {mode}, idle_timeout: 5m}}");
        let data = circle_example(&self.sandbox.addresses().circleci, token, &runner);
        let made = self.server(name, &data, json!({})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        self.advance("20s").await;
    }

    async fn server_named(&self, name: &str) -> Value {
        let world = self.world().await;
        let servers = world["servers"].as_array().unwrap();
        let found = servers.iter().find(|server| server["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {world}")).clone()
    }
}

#[tokio::test]
async fn a_runner_claims_one_task_at_a_time_and_its_machine_goes_off_after_the_one() {
    let client = fresh().await;
    let token = client.sandbox.addresses().token.clone();
    client.tasks(CLASS, 2, "60s").await;
    assert_eq!(client.counts(CLASS).await, (2, 0));
    client.circle_runner("r1", &token, "single-task").await;
    assert_eq!(client.counts(CLASS).await, (1, 1));
    let server = client.server_named("r1").await;
    assert_eq!(
        (&server["registered"], &server["running_jobs"]),
        (&json!(true), &json!(1))
    );
    client.advance("60s").await;
    // It ended after its task, though another waits.
    assert_eq!(client.counts(CLASS).await, (1, 0));
    client.advance("5s").await;
    let server = client.server_named("r1").await;
    assert_eq!(
        (&server["status"], &server["registered"]),
        (&json!("off"), &json!(false))
    );
    let world = client.world().await;
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(world["jobs"][0], {
        let job = &world["jobs"][0];
        json!({"ci": "circleci", "id": 1, "name": "job", "resource_class": CLASS, "status": "success", "created": job["created"],
            "started": job["started"], "finished": job["finished"], "runner": "r1"})
    });
}

#[tokio::test]
async fn a_continuous_runner_goes_on_until_its_idle_timeout_and_claims_until_then() {
    let client = fresh().await;
    let token = client.sandbox.addresses().token.clone();
    client.circle_runner("r1", &token, "continuous").await;
    client.advance("4m 59s").await;
    client.tasks(CLASS, 2, "60s").await;
    assert_eq!(client.counts(CLASS).await, (1, 1));
    client.advance("2m").await;
    assert_eq!(client.counts(CLASS).await, (0, 0));
    client.advance("4m 59s").await;
    assert_eq!(client.server_named("r1").await["registered"], true);
    client.advance("1s").await;
    assert_eq!(client.server_named("r1").await["registered"], false);
    // It has ended: a task waits though its machine is still on.
    client.tasks(CLASS, 1, "60s").await;
    assert_eq!(client.counts(CLASS).await, (1, 0));
    client.advance("5s").await;
    assert_eq!(client.server_named("r1").await["status"], "off");
}

#[tokio::test]
async fn runners_are_listed_by_class_and_namespace_for_a_while_after_they_left() {
    let mut options = options();
    let text = "[[circleci.resource_classes]]\nname = \"acme/linux\"\ntoken = \"t1\"\n\
        [[circleci.resource_classes]]\nname = \"acme/arm\"\ntoken = \"t2\"\n";
    options.scenario = Some(Scenario::parse(text).unwrap());
    let client = with(options).await;
    client.circle_runner("r1", "t1", "continuous").await;
    client.circle_runner("r2", "t2", "continuous").await;
    let names = |listed: &Value| -> Vec<String> {
        let items = listed["items"].as_array().unwrap();
        let name = |item: &Value| {
            format!(
                "{}={}",
                item["resource_class"].as_str().unwrap(),
                item["name"].as_str().unwrap()
            )
        };
        items.iter().map(name).collect()
    };
    let of = |query: &str| format!("/api/v3/runner?{query}");
    assert_eq!(
        names(&client.circle(&of("resource-class=acme%2Flinux")).await),
        ["acme/linux=r1"]
    );
    assert_eq!(
        names(&client.circle(&of("namespace=acme")).await),
        ["acme/arm=r2", "acme/linux=r1"]
    );
    assert_eq!(
        names(&client.circle("/api/v2/runner?namespace=acme").await).len(),
        2
    );
    assert_eq!(names(&client.circle(&of("namespace=other")).await).len(), 0);
    // A task of one class is nothing to the runners of another.
    client.tasks("acme/mac", 1, "60s").await;
    client.tasks("acme/arm", 1, "60s").await;
    assert_eq!(
        (client.counts("acme/mac").await, client.counts("acme/arm").await),
        ((1, 0), (0, 1))
    );
    let items = client.circle(&of("resource-class=acme/arm")).await;
    let item = items["items"][0].as_object().unwrap();
    assert_eq!(
        item.keys().collect::<Vec<_>>(),
        [
            "resource_class",
            "hostname",
            "name",
            "first_connected",
            "last_connected",
            "last_used",
            "version"
        ]
    );
    client.advance("1h").await;
    let before = client.circle(&of("resource-class=acme/linux")).await;
    client.advance("10h").await;
    let later = client.circle(&of("resource-class=acme/linux")).await;
    assert_eq!(later, before, "it left an hour ago and is listed as it was");
    client.advance("2h").await;
    assert_eq!(
        names(&client.circle(&of("resource-class=acme/linux")).await).len(),
        0
    );
}

#[tokio::test]
async fn a_token_of_no_class_never_registers_and_the_watchdog_switches_its_machine_off() {
    let client = fresh().await;
    client.tasks(CLASS, 1, "60s").await;
    client.circle_runner("r1", "guess", "single-task").await;
    let server = client.server_named("r1").await;
    assert_eq!(server["registered"], false);
    assert!(
        server["problem"].as_str().unwrap().contains("no resource class"),
        "{server}"
    );
    client.advance("9m 59s").await;
    assert_eq!(client.server_named("r1").await["status"], "running");
    client.advance("6s").await;
    assert_eq!(client.server_named("r1").await["status"], "off");
    assert_eq!(client.counts(CLASS).await, (1, 0));
}

#[tokio::test]
async fn calls_are_refused_without_a_personal_token_or_a_resource_class() {
    let client = fresh().await;
    let token = client.sandbox.addresses().token.clone();
    let path = format!("/api/v3/runner/tasks?resource-class={CLASS}");
    assert_eq!(client.circle_as("other", &path).await.status, 401);
    let url = format!("{}{path}", client.sandbox.addresses().circleci);
    let bearer = client.send("GET", url.clone(), &token, None).await.unwrap();
    assert_eq!(bearer.status, 401, "a bearer's token is a resource class's");
    let basic = client
        .http
        .get(url)
        .basic_auth(&token, Some(""))
        .send()
        .await
        .unwrap();
    assert_eq!(basic.status(), 200);
    for path in ["/api/v3/runner", "/api/v3/runner/tasks", "/api/v2/tasks/running"] {
        assert_eq!(client.circle_as(&token, path).await.status, 400, "{path}");
    }
    let bad = client
        .control("POST", "/jobs", Some(json!({"ci": "circleci"})))
        .await;
    assert_eq!(bad.status, 400, "{}", bad.body);
}

#[tokio::test]
async fn counts_can_lag() {
    let client = fresh().await;
    client.tasks(CLASS, 2, "60s").await;
    client.advance("30s").await;
    client.tasks(CLASS, 1, "60s").await;
    client
        .fault(json!({"path": "/circleci/*", "fault": "stale-list", "args": {"age": 10}}))
        .await;
    assert_eq!(client.counts(CLASS).await, (2, 0));
    assert_eq!(client.counts(CLASS).await, (3, 0));
}
