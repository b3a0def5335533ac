//! Drone over HTTP: its queue, its runners, its pause.

use serde_json::{Value, json};

use super::{super::userdata::tests::drone_example, Client, Got, Scenario, fresh, options, with};

impl Client {
    async fn drone(&self, method: &str, path: &str) -> Got {
        let addresses = self.sandbox.addresses();
        let url = format!("{}{path}", addresses.drone);
        self.send(method, url, &addresses.token, None).await.unwrap()
    }

    async fn queue(&self) -> Vec<Value> {
        let got = self.drone("GET", "/api/queue").await;
        assert_eq!(got.status, 200, "{}", got.body);
        got.body.as_array().unwrap().clone()
    }

    /// What the queue says of each stage: id, status, machine.
    async fn statuses(&self) -> Vec<(u64, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |stage: &Value| {
            (
                stage["id"].as_u64().unwrap(),
                text(&stage["status"]),
                text(&stage["machine"]),
            )
        };
        self.queue().await.iter().map(of).collect()
    }

    async fn stages(&self, mut spec: Value) -> Vec<u64> {
        spec["ci"] = json!("drone");
        let made = self.control("POST", "/jobs", Some(spec)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let ids = made.body["jobs"].as_array().unwrap();
        ids.iter().map(|id| id.as_u64().unwrap()).collect()
    }

    /// A booted server with a Drone runner of its name.
    async fn drone_runner(&self, name: &str, lines: &[&str]) -> u64 {
        let addresses = self.sandbox.addresses();
        let name_line = format!("DRONE_RUNNER_NAME={name}");
        let lines: Vec<&str> = [name_line.as_str()]
            .into_iter()
            .chain(lines.iter().copied())
            .collect();
        let data = drone_example(&addresses.drone, &addresses.drone_rpc_secret, &lines);
        let made = self.server(name, &data, json!({})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        self.advance("20s").await;
        made.body["server"]["id"].as_u64().unwrap()
    }
}

fn row(id: u64, status: &str, machine: &str) -> (u64, String, String) {
    (id, status.to_owned(), machine.to_owned())
}

#[tokio::test]
async fn a_runner_boots_takes_stages_up_to_its_capacity_and_finishes_them() {
    let client = fresh().await;
    client
        .stages(json!({"count": 3, "duration": "60s", "name": "build", "repo": "acme/lib"}))
        .await;
    client.drone_runner("agent-1", &["DRONE_RUNNER_CAPACITY=2"]).await;
    let world = client.world().await;
    assert_eq!(world["servers"][0]["registered"], true, "{world}");
    assert_eq!(world["servers"][0]["running_jobs"], 2);
    assert_eq!(
        client.statuses().await,
        [
            row(1, "running", "agent-1"),
            row(2, "running", "agent-1"),
            row(3, "pending", "")
        ]
    );
    client.advance("60s").await;
    assert_eq!(client.statuses().await, [row(3, "running", "agent-1")]);
    client.advance("60s").await;
    assert_eq!(client.queue().await, Vec::<Value>::new());
    let world = client.world().await;
    let jobs = world["jobs"].as_array().unwrap();
    assert!(
        jobs.iter()
            .all(|job| job["ci"] == "drone" && job["status"] == "success"),
        "{world}"
    );
    assert_eq!((jobs.len(), &world["jobs_killed"]), (3, &json!(0)));
}

#[tokio::test]
async fn a_stage_has_the_fields_of_the_servers_answer() {
    let client = fresh().await;
    client
        .stages(json!({"name": "arm", "arch": "arm", "variant": "v7", "labels": {"pool": "a"}, "limit": 2, "throttle": 5}))
        .await;
    client.stages(json!({})).await;
    let queue = client.queue().await;
    let created = queue[0]["created"].as_i64().unwrap();
    assert_eq!(
        queue[0],
        json!({
            "id": 1, "repo_id": 1, "build_id": 1, "number": 1, "name": "arm", "kind": "pipeline", "type": "docker", "status": "pending",
            "errignore": false, "exit_code": 0, "os": "linux", "arch": "arm", "variant": "v7", "limit": 2, "throttle": 5, "started": 0,
            "stopped": 0, "created": created, "updated": created, "version": 2, "on_success": true, "on_failure": false,
            "labels": {"pool": "a"},
        })
    );
    let plain = queue[1].as_object().unwrap();
    for absent in [
        "machine",
        "variant",
        "kernel",
        "limit",
        "throttle",
        "depends_on",
        "labels",
    ] {
        assert!(!plain.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn a_wrong_secret_or_server_never_registers() {
    let client = fresh().await;
    client.stages(json!({})).await;
    let addresses = client.sandbox.addresses().clone();
    let secret = addresses.drone_rpc_secret.as_str();
    for (name, url, secret, why) in [
        ("a", addresses.drone.as_str(), "guess", "RPC secret"),
        (
            "b",
            addresses.drone.as_str(),
            addresses.token.as_str(),
            "RPC secret",
        ),
        ("c", "http://127.0.0.1:1/drone", secret, "not this Drone"),
    ] {
        let made = client
            .server(name, &drone_example(url, secret, &[]), json!({}))
            .await;
        let id = made.body["server"]["id"].clone();
        client.advance("60s").await;
        let world = client.world().await;
        let servers = world["servers"].as_array().unwrap();
        let server = servers.iter().find(|server| server["id"] == id).unwrap();
        assert_eq!(server["registered"], false);
        assert!(server["problem"].as_str().unwrap().contains(why), "{server}");
        assert!(!server.to_string().contains(secret), "{server}");
    }
    assert_eq!(client.statuses().await, [row(1, "pending", "")]);
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_and_lets_run_what_runs() {
    let client = fresh().await;
    client.drone_runner("agent-1", &[]).await;
    client.stages(json!({"duration": "60s"})).await;
    assert_eq!(client.drone("DELETE", "/api/queue").await.status, 204);
    client.stages(json!({"duration": "60s"})).await;
    assert_eq!(
        client.statuses().await,
        [row(1, "running", "agent-1"), row(2, "pending", "")]
    );
    client.advance("10m").await;
    client.drone_runner("agent-2", &[]).await;
    assert_eq!(client.statuses().await, [row(2, "pending", "")]);
    assert_eq!(client.world().await["drone_paused"], true);
    assert_eq!(client.drone("POST", "/api/queue").await.status, 204);
    assert_eq!(client.statuses().await[0].1, "running");
    client.advance("60s").await;
    assert!(client.queue().await.is_empty());
}

#[tokio::test]
async fn limits_and_throttles_hold_stages_though_a_runner_is_free() {
    let client = fresh().await;
    client.drone_runner("agent-1", &["DRONE_RUNNER_CAPACITY=9"]).await;
    // One deploy at a time; two stages of acme/slow at a time.
    client
        .stages(json!({"count": 2, "name": "deploy", "limit": 1, "duration": "60s"}))
        .await;
    client
        .stages(json!({"count": 3, "repo": "acme/slow", "throttle": 2, "duration": "60s"}))
        .await;
    let running = |rows: Vec<(u64, String, String)>| -> Vec<u64> {
        let running = rows.into_iter().filter(|row| row.1 == "running");
        running.map(|row| row.0).collect()
    };
    assert_eq!(running(client.statuses().await), [1, 3, 4]);
    client.advance("60s").await;
    assert_eq!(running(client.statuses().await), [2, 5]);
}

#[tokio::test]
async fn a_stage_is_in_the_queue_when_all_that_it_depends_on_is_done() {
    let client = fresh().await;
    client.drone_runner("agent-1", &[]).await;
    client
        .stages(json!({"name": "build", "build": "b", "duration": "60s"}))
        .await;
    client
        .stages(json!({"name": "test", "build": "b", "depends_on": ["build"], "duration": "60s"}))
        .await;
    assert_eq!(client.statuses().await, [row(1, "running", "agent-1")]);
    assert_eq!(
        client.world().await["jobs"][1]["status"],
        "waiting_on_dependencies"
    );
    client.advance("60s").await;
    let queue = client.queue().await;
    assert_eq!(client.statuses().await, [row(2, "running", "agent-1")]);
    assert_eq!(
        (&queue[0]["build_id"], &queue[0]["number"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(queue[0]["depends_on"], json!(["build"]));
}

#[tokio::test]
async fn what_depends_on_a_stage_that_was_killed_is_skipped() {
    let mut options = options();
    options.settings.set("drone_give_up", "1h").unwrap();
    let client = with(options).await;
    let id = client.drone_runner("agent-1", &[]).await;
    client.stages(json!({"name": "build", "duration": "10m"})).await;
    client
        .stages(json!({"name": "test", "depends_on": ["build"]}))
        .await;
    assert_eq!(
        client
            .cloud("DELETE", &format!("/servers/{id}"), None)
            .await
            .status,
        200
    );
    let world = client.world().await;
    assert_eq!(
        (&world["jobs_killed"], &world["jobs"][0]["status"]),
        (&json!(1), &json!("killed"))
    );
    // The server does not know until it gives up.
    client.advance("59m").await;
    assert_eq!(client.statuses().await, [row(1, "running", "agent-1")]);
    client.advance("1m").await;
    assert!(client.queue().await.is_empty());
    assert_eq!(client.world().await["jobs"][1]["status"], "skipped");
}

#[tokio::test]
async fn a_stage_is_pending_with_a_machine_before_it_runs() {
    let mut options = options();
    options.settings.set("drone_accept", "2s").unwrap();
    options.settings.set("drone_start", "3s").unwrap();
    let client = with(options).await;
    let id = client.drone_runner("agent-1", &[]).await;
    client.stages(json!({"duration": "60s"})).await;
    // It was handed out already: a pause comes too late for it.
    assert_eq!(client.drone("DELETE", "/api/queue").await.status, 204);
    assert_eq!(client.statuses().await, [row(1, "pending", "")]);
    client.advance("2s").await;
    assert_eq!(client.statuses().await, [row(1, "pending", "agent-1")]);
    client.advance("3s").await;
    assert_eq!(client.statuses().await, [row(1, "running", "agent-1")]);
    client.cloud("DELETE", &format!("/servers/{id}"), None).await;
    assert_eq!(client.world().await["jobs_killed"], 1);
}

#[tokio::test]
async fn a_stage_that_was_only_handed_out_survives_its_runner() {
    let mut options = options();
    options.settings.set("drone_accept", "2s").unwrap();
    let client = with(options).await;
    let id = client.drone_runner("agent-1", &[]).await;
    client.stages(json!({"duration": "60s"})).await;
    client.cloud("DELETE", &format!("/servers/{id}"), None).await;
    client.drone_runner("agent-2", &[]).await;
    client.advance("2s").await;
    assert_eq!(client.statuses().await, [row(1, "running", "agent-2")]);
    assert_eq!(client.world().await["jobs_killed"], 0);
}

#[tokio::test]
async fn only_an_administrator_sees_the_queue_and_only_of_enterprise() {
    let mut options = options();
    let text = "[drone]\nrpc_secret = \"given\"\n[[tokens]]\ntoken = \"dev\"\nusername = \"dev\"\n";
    options.scenario = Some(Scenario::parse(text).unwrap());
    let client = with(options).await;
    let addresses = client.sandbox.addresses().clone();
    assert_eq!(addresses.drone_rpc_secret, "given");
    let ask = async |method: &str, path: &str, token: &str| {
        let url = format!("{}{path}", addresses.drone);
        let got = client.send(method, url, token, None).await.unwrap();
        (got.status, got.body)
    };
    for (method, path) in [
        ("GET", "/api/queue"),
        ("DELETE", "/api/queue"),
        ("POST", "/api/queue"),
        ("GET", "/api/system/stats"),
    ] {
        let refused = (401, json!({"message": "Unauthorized"}));
        assert_eq!(ask(method, path, "other").await, refused);
        let forbidden = (403, json!({"message": "Forbidden"}));
        assert_eq!(ask(method, path, "dev").await, forbidden, "{method} {path}");
    }
    assert_eq!(ask("GET", "/api/user", "dev").await.1["admin"], false);
    assert_eq!(ask("GET", "/api/user", &addresses.token).await.1["admin"], true);
    assert_eq!(ask("GET", "/api/system/stats", &addresses.token).await.0, 200);
    let set = client
        .control("POST", "/settings", Some(json!({"drone": "oss"})))
        .await;
    assert_eq!(set.status, 204);
    for method in ["GET", "DELETE", "POST"] {
        let none = (501, json!({"message": "Not Implemented"}));
        assert_eq!(ask(method, "/api/queue", &addresses.token).await, none);
        assert_eq!(ask(method, "/api/queue", "dev").await.0, 403);
    }
    assert_eq!(ask("GET", "/api/user", &addresses.token).await.0, 200);
}

#[tokio::test]
async fn the_queue_can_lag() {
    let client = fresh().await;
    client.drone_runner("agent-1", &[]).await;
    client.stages(json!({"duration": "60s"})).await;
    client.advance("60s").await;
    client.stages(json!({"duration": "60s"})).await;
    client
        .fault(json!({"path": "/drone/api/queue", "fault": "busy-lag", "args": {"seconds": 10}}))
        .await;
    assert_eq!(client.statuses().await, [row(1, "running", "agent-1")]);
    assert_eq!(client.statuses().await, [row(2, "running", "agent-1")]);
}
