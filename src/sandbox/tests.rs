//! The sandbox as its clients see it: over HTTP, on a world whose clock moves only when told.

#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

mod azure;
mod circleci;
mod drone;
mod exporters;
mod kubernetes;
mod machines;

use serde_json::{Value, json};

use super::{
    Options, Sandbox, Scenario, Settings, start,
    userdata::tests::{drone_example, example},
};

struct Client {
    sandbox: Sandbox,
    http: reqwest::Client,
}

/// An answer: status, headers, body.
struct Got {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Got {
    fn header(&self, key: &str) -> &str {
        self.headers.get(key).map_or("", |value| value.to_str().unwrap())
    }
}

fn options() -> Options {
    let mut settings = Settings::default();
    settings.set("speed", "0").unwrap();
    Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: None,
        seed: 7,
        settings,
        scenario: None,
        token: None,
    }
}

async fn with(options: Options) -> Client {
    let sandbox = start(options).await.unwrap();
    let mut http = reqwest::Client::builder().no_proxy();
    if let Some(path) = &sandbox.addresses().ca_file {
        let pem = std::fs::read(path).unwrap();
        http = http.add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap());
    }
    let http = http.build().unwrap();
    Client { sandbox, http }
}

async fn fresh() -> Client {
    with(options()).await
}

impl Client {
    async fn send(
        &self,
        method: &str,
        url: String,
        token: &str,
        body: Option<Value>,
    ) -> Result<Got, reqwest::Error> {
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await?;
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        Ok(Got {
            status,
            headers,
            body,
        })
    }

    async fn cloud(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let addresses = self.sandbox.addresses();
        self.send(
            method,
            format!("{}{path}", addresses.hetzner),
            &addresses.token,
            body,
        )
        .await
        .unwrap()
    }

    async fn gitlab(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let addresses = self.sandbox.addresses();
        self.send(
            method,
            format!("{}/api/v4{path}", addresses.gitlab),
            &addresses.token,
            body,
        )
        .await
        .unwrap()
    }

    async fn control(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let addresses = self.sandbox.addresses();
        self.send(method, format!("{}{path}", addresses.control), "", body)
            .await
            .unwrap()
    }

    async fn advance(&self, length: &str) {
        assert_eq!(
            self.control("POST", "/clock", Some(json!({"advance": length})))
                .await
                .status,
            200
        );
    }

    async fn world(&self) -> Value {
        self.control("GET", "/world", None).await.body
    }

    async fn runner(&self, tags: &[&str]) -> (u64, String) {
        let made = self
            .gitlab(
                "POST",
                "/user/runners",
                Some(json!({"runner_type": "instance_type", "tag_list": tags, "run_untagged": false})),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        (
            made.body["id"].as_u64().unwrap(),
            made.body["token"].as_str().unwrap().to_owned(),
        )
    }

    async fn server(&self, name: &str, user_data: &str, labels: Value) -> Got {
        self.cloud(
            "POST",
            "/servers",
            Some(json!({
                "name": name, "server_type": "cx23", "location": "fsn1", "image": "debian-12", "user_data": user_data, "labels": labels,
            })),
        )
        .await
    }

    /// A server with a runner of its own, booted. Its id and its runner's.
    async fn machine(&self, name: &str, concurrent: u32) -> (u64, u64) {
        let (runner, token) = self.runner(&["linux"]).await;
        let data = example(&self.sandbox.addresses().gitlab, &token, concurrent);
        let made = self.server(name, &data, json!({"pool": "linux"})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        self.advance("20s").await;
        (made.body["server"]["id"].as_u64().unwrap(), runner)
    }

    async fn jobs(&self, count: u32, duration: &str) {
        let made = self
            .control(
                "POST",
                "/jobs",
                Some(json!({"tags": ["linux"], "count": count, "duration": duration})),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    async fn fault(&self, rule: Value) {
        let made = self.control("POST", "/faults", Some(rule)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
}

#[tokio::test]
async fn a_server_boots_registers_by_its_user_data_and_works_off_the_jobs() {
    let client = fresh().await;
    client.jobs(3, "60s").await;
    let (server, runner) = client.machine("linux-1", 2).await;

    let manager = client
        .gitlab("GET", &format!("/runners/{runner}/managers"), None)
        .await
        .body;
    assert_eq!(manager[0]["system_id"], format!("s_{server}"));
    assert_eq!(manager[0]["status"], "online");
    let running = client
        .gitlab("GET", &format!("/runners/{runner}/jobs?status=running"), None)
        .await
        .body;
    assert_eq!(running.as_array().unwrap().len(), 2);
    let pending = client
        .gitlab("GET", "/projects/acme%2Fapp/jobs?scope[]=pending", None)
        .await
        .body;
    assert_eq!(pending.as_array().unwrap().len(), 1);
    assert_eq!(pending[0]["runner"], Value::Null);

    client.advance("2m 10s").await;
    let world = client.world().await;
    assert!(
        world["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|job| job["status"] == "success"),
        "{world}"
    );
    assert_eq!(world["jobs_killed"], 0);
}

#[tokio::test]
async fn a_broken_token_line_never_registers() {
    let client = fresh().await;
    let (_, token) = client.runner(&["linux"]).await;
    let data = example(&client.sandbox.addresses().gitlab, &token, 1).replace("token = ", "tokn = ");
    client.server("linux-1", &data, json!({})).await;
    client.advance("10m").await;
    let server = &client.world().await["servers"][0];
    assert_eq!(server["registered"], false);
    assert!(server["problem"].as_str().unwrap().contains("token"), "{server}");
}

#[tokio::test]
async fn deleting_a_busy_server_kills_its_jobs_and_is_counted() {
    let client = fresh().await;
    client.jobs(2, "10m").await;
    let (server, _) = client.machine("linux-1", 2).await;
    let deleted = client.cloud("DELETE", &format!("/servers/{server}"), None).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.body["action"]["command"], "delete_server");
    let world = client.world().await;
    assert_eq!(world["jobs_killed"], 2);
    assert_eq!(world["jobs"][0]["status"], "failed");
}

#[tokio::test]
async fn deleting_a_busy_runner_kills_its_jobs() {
    let client = fresh().await;
    client.jobs(1, "10m").await;
    let (_, runner) = client.machine("linux-1", 2).await;
    assert_eq!(
        client
            .gitlab("DELETE", &format!("/runners/{runner}"), None)
            .await
            .status,
        204
    );
    assert_eq!(
        client
            .gitlab("GET", &format!("/runners/{runner}"), None)
            .await
            .status,
        404
    );
    assert_eq!(client.world().await["jobs_killed"], 1);
}

#[tokio::test]
async fn a_shutdown_lets_running_jobs_end() {
    let client = fresh().await;
    client.jobs(2, "60s").await;
    let (server, _) = client.machine("linux-1", 1).await;
    assert_eq!(
        client
            .cloud("POST", &format!("/servers/{server}/actions/shutdown"), None)
            .await
            .status,
        201
    );
    client.advance("70s").await;
    let world = client.world().await;
    assert_eq!(world["servers"][0]["status"], "off");
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(world["jobs"][0]["status"], "success");
    assert_eq!(world["jobs"][1]["status"], "pending");
}

#[tokio::test]
async fn pausing_a_shared_runner_pauses_all_its_machines() {
    let client = fresh().await;
    let (runner, token) = client.runner(&["linux"]).await;
    let data = example(&client.sandbox.addresses().gitlab, &token, 1);
    for name in ["a", "b"] {
        client.server(name, &data, json!({})).await;
    }
    client.advance("30s").await;
    let paused = client
        .gitlab(
            "PUT",
            &format!("/runners/{runner}"),
            Some(json!({"paused": true})),
        )
        .await;
    assert_eq!(paused.body["paused"], true);
    client.jobs(2, "10s").await;
    client.advance("1m").await;
    assert_eq!(
        client.control("GET", "/summary", None).await.body["jobs"]["pending"],
        2
    );
    client
        .gitlab(
            "PUT",
            &format!("/runners/{runner}"),
            Some(json!({"paused": false})),
        )
        .await;
    client.advance("3s").await;
    assert_eq!(
        client.control("GET", "/summary", None).await.body["jobs"]["running"],
        2
    );
}

#[tokio::test]
async fn a_runner_long_unheard_of_is_offline() {
    let client = fresh().await;
    let (server, runner) = client.machine("linux-1", 1).await;
    let status = async || {
        client
            .gitlab("GET", &format!("/runners/{runner}"), None)
            .await
            .body["status"]
            .clone()
    };
    assert_eq!(status().await, "online");
    client.cloud("DELETE", &format!("/servers/{server}"), None).await;
    assert_eq!(status().await, "online");
    client.advance("2h 1m").await;
    assert_eq!(status().await, "offline");
    client.advance("170h").await;
    assert_eq!(status().await, "stale");
    let (never, _) = client.runner(&["x"]).await;
    assert_eq!(
        client
            .gitlab("GET", &format!("/runners/{never}"), None)
            .await
            .body["status"],
        "never_contacted"
    );
}

#[tokio::test]
async fn another_token_or_none_is_refused_in_each_partys_own_words() {
    let client = fresh().await;
    let addresses = client.sandbox.addresses();
    let got = client
        .send("GET", format!("{}/servers", addresses.hetzner), "wrong", None)
        .await
        .unwrap();
    assert_eq!(
        (got.status, got.body["error"]["code"].as_str()),
        (401, Some("unauthorized"))
    );
    let got = client
        .send("GET", format!("{}/api/v4/user", addresses.gitlab), "wrong", None)
        .await
        .unwrap();
    assert_eq!(
        (got.status, got.body),
        (401, json!({"message": "401 Unauthorized"}))
    );
}

#[tokio::test]
async fn names_are_unique_and_input_is_checked() {
    let client = fresh().await;
    assert_eq!(client.server("linux-1", "", json!({})).await.status, 201);
    let again = client.server("linux-1", "", json!({})).await;
    assert_eq!(
        (again.status, again.body["error"]["code"].as_str()),
        (409, Some("uniqueness_error"))
    );
    let long = client
        .server("linux-2", &"x".repeat(32 * 1024 + 1), json!({}))
        .await;
    assert_eq!(
        (
            long.status,
            long.body["error"]["details"]["fields"][0]["name"].as_str()
        ),
        (422, Some("user_data"))
    );
    for (body, field) in [
        (
            json!({"name": "a_b", "server_type": "cx23", "image": "debian-12"}),
            "name",
        ),
        (
            json!({"name": "a", "server_type": "cx99", "image": "debian-12"}),
            "server_type",
        ),
        (
            json!({"name": "a", "server_type": "cx23", "image": "debian-7"}),
            "image",
        ),
        (
            json!({"name": "a", "server_type": "cx23", "image": "debian-12", "location": "moon"}),
            "location",
        ),
        (
            json!({"name": "a", "server_type": "cx23", "image": "debian-12", "location": "ash"}),
            "location",
        ),
        (
            json!({"name": "a", "server_type": "cx23", "image": "debian-12", "labels": {"a": "b c"}}),
            "labels",
        ),
    ] {
        let got = client.cloud("POST", "/servers", Some(body)).await;
        assert_eq!(
            (
                got.status,
                got.body["error"]["details"]["fields"][0]["name"].as_str()
            ),
            (422, Some(field)),
            "{}",
            got.body
        );
    }
}

#[tokio::test]
async fn a_list_is_paged_and_selected_by_labels() {
    let client = fresh().await;
    for n in 0..7 {
        client
            .server(
                &format!("s{n}"),
                "",
                json!({"pool": if n < 5 { "a" } else { "b" }}),
            )
            .await;
    }
    let got = client
        .cloud("GET", "/servers?label_selector=pool%3Da&per_page=2&page=3", None)
        .await;
    assert_eq!(got.body["servers"].as_array().unwrap().len(), 1);
    assert_eq!(
        got.body["meta"]["pagination"],
        json!({"page": 3, "per_page": 2, "previous_page": 2, "next_page": null, "last_page": 3, "total_entries": 5})
    );
    let got = client
        .cloud(
            "GET",
            "/servers?label_selector=pool+notin+(a)&sort=name:desc",
            None,
        )
        .await;
    assert_eq!(got.body["servers"][0]["name"], "s6");
    assert_eq!(
        client.cloud("GET", "/servers?name=s3", None).await.body["meta"]["pagination"]["total_entries"],
        1
    );
    assert_eq!(
        client
            .cloud("GET", "/servers?label_selector=a%3Db%3Dc", None)
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn actions_run_for_a_while_and_then_succeed() {
    let client = fresh().await;
    let made = client.server("s", "", json!({})).await.body;
    let ids = [
        made["action"]["id"].as_u64().unwrap(),
        made["next_actions"][0]["id"].as_u64().unwrap(),
    ];
    assert_eq!(made["action"]["status"], "running");
    assert_eq!(made["server"]["status"], "initializing");
    client.advance("2s").await;
    let got = client
        .cloud("GET", &format!("/actions?id={}&id={}", ids[0], ids[1]), None)
        .await
        .body;
    let statuses: Vec<_> = got["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action["status"].clone())
        .collect();
    assert_eq!(statuses, ["success", "success"]);
    let server = client
        .cloud("GET", &format!("/servers/{}", made["server"]["id"]), None)
        .await
        .body;
    assert_eq!(server["server"]["status"], "running");
}

#[tokio::test]
async fn a_firewall_in_use_is_not_deleted() {
    let client = fresh().await;
    let rule = json!({"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0"]});
    let wall = client
        .cloud("POST", "/firewalls", Some(json!({"name": "w", "rules": [rule]})))
        .await;
    assert_eq!(wall.status, 201, "{}", wall.body);
    let id = wall.body["firewall"]["id"].as_u64().unwrap();
    let made = client
        .cloud("POST", "/servers", Some(json!({"name": "s", "server_type": "cax11", "image": "debian-12", "firewalls": [{"firewall": id}]})))
        .await;
    assert_eq!(made.body["server"]["image"]["architecture"], "arm");
    let refused = client.cloud("DELETE", &format!("/firewalls/{id}"), None).await;
    assert_eq!(
        (refused.status, refused.body["error"]["code"].as_str()),
        (422, Some("resource_in_use"))
    );
    client
        .cloud("DELETE", &format!("/servers/{}", made.body["server"]["id"]), None)
        .await;
    assert_eq!(
        client
            .cloud("DELETE", &format!("/firewalls/{id}"), None)
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn an_ssh_key_is_unique_by_name_and_by_key() {
    let client = fresh().await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ/CJpMb1HSv7gi2kCKb6qhnIDtgv1XrSGCZxeXgEpvc test";
    let post = |name: &'static str, key: &'static str| {
        client.cloud(
            "POST",
            "/ssh_keys",
            Some(json!({"name": name, "public_key": key})),
        )
    };
    assert_eq!(post("a", key).await.status, 201);
    assert_eq!(post("b", key).await.status, 409);
    assert_eq!(post("b", "ssh-ed25519 none").await.status, 422);
    assert_eq!(
        client.cloud("GET", "/ssh_keys?name=a", None).await.body["ssh_keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn the_rate_limit_is_counted_down_and_refills_with_the_worlds_time() {
    let mut options = options();
    options.settings.set("rate_limit_per_hour", "2").unwrap();
    let client = with(options).await;
    let got = client.cloud("GET", "/locations", None).await;
    assert_eq!(
        (got.header("ratelimit-limit"), got.header("ratelimit-remaining")),
        ("2", "1")
    );
    client.cloud("GET", "/locations", None).await;
    let got = client.cloud("GET", "/locations", None).await;
    assert_eq!(
        (got.status, got.body["error"]["code"].as_str()),
        (429, Some("rate_limit_exceeded"))
    );
    client.advance("30m").await;
    assert_eq!(client.cloud("GET", "/locations", None).await.status, 200);
}

#[tokio::test]
async fn every_answer_has_the_worlds_date() {
    let client = fresh().await;
    let before = client.cloud("GET", "/locations", None).await;
    client.advance("9600h").await;
    let after = client.gitlab("GET", "/version", None).await;
    let parse = |text: &str| jiff::fmt::rfc2822::parse(text).unwrap().timestamp();
    let passed = parse(after.header("date")).duration_since(parse(before.header("date")));
    assert_eq!(passed.as_hours(), 9600);
}

#[tokio::test]
async fn a_lost_reply_has_taken_effect_and_a_lost_request_has_not() {
    let client = fresh().await;
    let addresses = client.sandbox.addresses().clone();
    let body = |name: &str| Some(json!({"name": name, "server_type": "cx23", "image": "debian-12"}));
    for (fault, name) in [("reply-lost", "kept"), ("request-lost", "lost")] {
        client
            .fault(json!({"path": "/hetzner/v1/servers", "method": "POST", "fault": fault}))
            .await;
        let got = client
            .send(
                "POST",
                format!("{}/servers", addresses.hetzner),
                &addresses.token,
                body(name),
            )
            .await;
        assert!(got.is_err(), "{fault} was answered");
    }
    let servers = client.cloud("GET", "/servers", None).await.body["servers"].clone();
    assert_eq!(servers.as_array().unwrap().len(), 1);
    assert_eq!(servers[0]["name"], "kept");
}

#[tokio::test]
async fn faults_answer_as_the_party_would() {
    let client = fresh().await;
    client
        .fault(json!({"path": "/hetzner/v1/*", "fault": "rate-limited", "args": {"retry_after": 7}}))
        .await;
    let got = client.cloud("GET", "/servers", None).await;
    assert_eq!(
        (
            got.status,
            got.header("retry-after"),
            got.body["error"]["code"].as_str()
        ),
        (429, "7", Some("rate_limit_exceeded"))
    );
    client
        .fault(json!({"path": "/gitlab/*", "fault": "server-error", "args": {"status": 503}}))
        .await;
    assert_eq!(client.gitlab("GET", "/user", None).await.status, 503);
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "no-capacity", "args": {"location": "fsn1"}}))
        .await;
    let got = client.server("s", "", json!({})).await;
    assert_eq!(
        (got.status, got.body["error"]["code"].as_str()),
        (412, Some("resource_unavailable"))
    );
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "quota"}))
        .await;
    assert_eq!(client.server("s", "", json!({})).await.status, 403);
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "gone-image", "method": "POST"}))
        .await;
    assert_eq!(
        client.server("s", "", json!({})).await.body["error"]["details"]["fields"][0]["name"],
        "image"
    );
    assert_eq!(client.server("s", "", json!({})).await.status, 201);
}

#[tokio::test]
async fn a_stale_list_misses_the_new_and_shows_the_deleted() {
    let client = fresh().await;
    let old = client.server("old", "", json!({})).await.body["server"]["id"].clone();
    client.advance("5m").await;
    client.cloud("DELETE", &format!("/servers/{old}"), None).await;
    client.server("new", "", json!({})).await;
    client.advance("10s").await;
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "stale-list", "args": {"age": 60}}))
        .await;
    let names = |body: &Value| {
        body["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|server| server["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&client.cloud("GET", "/servers", None).await.body), ["old"]);
    assert_eq!(names(&client.cloud("GET", "/servers", None).await.body), ["new"]);
}

#[tokio::test]
async fn lists_can_break_in_the_middle_change_their_total_or_never_end() {
    let client = fresh().await;
    for n in 0..4 {
        client.server(&format!("s{n}"), "", json!({})).await;
    }
    let page = async |n: u32| {
        client
            .cloud("GET", &format!("/servers?per_page=2&page={n}"), None)
            .await
    };
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "partial-list"}))
        .await;
    assert_eq!((page(1).await.status, page(2).await.status), (200, 502));
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "changed-total"}))
        .await;
    let total = |got: Got| got.body["meta"]["pagination"]["total_entries"].clone();
    assert_eq!((total(page(1).await), total(page(2).await)), (json!(4), json!(5)));
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "next-page-for-ever"}))
        .await;
    assert_eq!(page(9).await.body["meta"]["pagination"]["next_page"], 10);
}

#[tokio::test]
async fn a_busy_flag_can_lag() {
    let client = fresh().await;
    client.machine("linux-1", 1).await;
    client.jobs(1, "10m").await;
    client.advance("3s").await;
    client
        .fault(json!({"path": "/gitlab/api/v4/runners/*", "fault": "busy-lag", "args": {"seconds": 30}}))
        .await;
    let running = async || {
        client
            .gitlab("GET", "/runners/1/jobs?status=running", None)
            .await
            .body
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(running().await, 0);
    assert_eq!(running().await, 1);
}

#[tokio::test]
async fn a_server_can_be_made_and_then_fail_or_stay_mute() {
    let client = fresh().await;
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "create-then-fails"}))
        .await;
    let made = client.server("failing", "", json!({})).await.body;
    client
        .fault(json!({"path": "/hetzner/v1/servers", "fault": "never-registers"}))
        .await;
    let (server, _) = client.machine("mute", 1).await;
    let action = client
        .cloud("GET", &format!("/actions/{}", made["action"]["id"]), None)
        .await
        .body;
    assert_eq!(action["action"]["status"], "error");
    let world = client.world().await;
    assert_eq!(world["servers"][0]["status"], "off");
    assert_eq!(
        (
            world["servers"][1]["id"].as_u64(),
            &world["servers"][1]["registered"]
        ),
        (Some(server), &json!(false))
    );
}

#[tokio::test]
async fn keyset_pages_follow_the_link_and_offset_pages_have_totals() {
    let client = fresh().await;
    client.jobs(5, "1s").await;
    let first = client
        .gitlab(
            "GET",
            "/projects/1/jobs?scope[]=pending&per_page=2&pagination=keyset&order_by=id",
            None,
        )
        .await;
    assert_eq!(first.body[0]["id"], 5);
    let mut next = Some(first.header("link").to_owned());
    let mut pages = 1;
    while let Some(link) = next.take().filter(|link| !link.is_empty()) {
        let url = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        let got = client
            .send("GET", url, &client.sandbox.addresses().token, None)
            .await
            .unwrap();
        pages += 1;
        next = Some(got.header("link").to_owned());
        if next.as_deref() == Some("") {
            assert_eq!(got.body[0]["id"], 1);
        }
    }
    assert_eq!(pages, 3);
    let got = client
        .gitlab("GET", "/projects/1/jobs?per_page=2&page=3", None)
        .await;
    assert_eq!(
        (
            got.header("x-total"),
            got.header("x-total-pages"),
            got.header("x-next-page")
        ),
        ("5", "3", "")
    );
    assert!(got.header("link").contains("rel=\"last\""));
}

#[tokio::test]
async fn graphql_is_empty_for_who_is_no_administrator() {
    let mut options = options();
    options.scenario = Some(
        Scenario::parse("[[tokens]]\ntoken = \"plain\"\nusername = \"joe\"\nscopes = [\"read_api\"]\n")
            .unwrap(),
    );
    let client = with(options).await;
    client.jobs(3, "1s").await;
    let addresses = client.sandbox.addresses().clone();
    let ask = async |token: &str, query: &str| {
        let url = format!("{}/api/graphql", addresses.gitlab);
        client
            .send("POST", url, token, Some(json!({"query": query})))
            .await
            .unwrap()
            .body
    };
    let query = "{ jobs(statuses: [PENDING], first: 2) { nodes { id tags queuedAt } pageInfo { hasNextPage endCursor } } }";
    let all = ask(&addresses.token, query).await;
    assert_eq!(all["data"]["jobs"]["nodes"][0]["id"], "gid://gitlab/Ci::Build/3");
    assert_eq!(all["data"]["jobs"]["pageInfo"]["hasNextPage"], true);
    assert_eq!(ask("plain", query).await["data"]["jobs"]["nodes"], json!([]));
    assert_eq!(
        ask("plain", "{ currentUser { username } }").await["data"]["currentUser"]["username"],
        "joe"
    );
    assert!(ask("plain", "{ runners { nodes { id } } }").await["errors"].is_array());

    let refused = client
        .send(
            "POST",
            format!("{}/api/v4/user/runners", addresses.gitlab),
            "plain",
            Some(json!({"runner_type": "project_type", "project_id": 1})),
        )
        .await
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["error"].as_str()),
        (403, Some("insufficient_scope"))
    );
    let refused = client
        .send(
            "GET",
            format!("{}/api/v4/runners/all", addresses.gitlab),
            "plain",
            None,
        )
        .await
        .unwrap();
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn a_runner_from_outside_takes_a_job_and_reports_its_end() {
    let client = fresh().await;
    let (_, token) = client.runner(&["linux"]).await;
    let none = client
        .gitlab(
            "POST",
            "/jobs/request",
            Some(json!({"token": token, "system_id": "s_x"})),
        )
        .await;
    assert_eq!(none.status, 204);
    client.jobs(1, "1s").await;
    let job = client
        .gitlab(
            "POST",
            "/jobs/request",
            Some(json!({"token": token, "system_id": "s_x"})),
        )
        .await;
    assert_eq!(job.status, 201, "{}", job.body);
    let (id, own) = (job.body["id"].clone(), job.body["token"].clone());
    client.advance("1m").await;
    assert_eq!(
        client.control("GET", "/summary", None).await.body["jobs"]["running"],
        1
    );
    assert_eq!(
        client
            .gitlab(
                "PUT",
                &format!("/jobs/{id}"),
                Some(json!({"token": "no", "state": "success"}))
            )
            .await
            .status,
        403
    );
    assert_eq!(
        client
            .gitlab(
                "PUT",
                &format!("/jobs/{id}"),
                Some(json!({"token": own, "state": "success"}))
            )
            .await
            .status,
        200
    );
    assert_eq!(
        client.control("GET", "/summary", None).await.body["jobs"]["success"],
        1
    );
    let gone = client
        .gitlab(
            "DELETE",
            &format!("/runners/managers?token={token}&system_id=s_x"),
            None,
        )
        .await;
    assert_eq!(gone.status, 204);
    assert_eq!(
        client
            .gitlab("POST", "/runners/verify", Some(json!({"token": "glrt-none"})))
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn the_world_outlives_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data: Some(folder.path().join("world.json")),
        ..options()
    };
    let client = with(options.clone()).await;
    client.jobs(2, "60s").await;
    let (runner, token) = client.runner(&["linux"]).await;
    // Born with this process's address, booted under the next one's.
    let data = example(&client.sandbox.addresses().gitlab, &token, 1);
    client.server("linux-1", &data, json!({"pool": "linux"})).await;
    let before = client.sandbox.addresses().clone();
    // As after a kill: nothing is stopped in order.
    drop(client);

    let client = with(options).await;
    assert_eq!(client.sandbox.addresses().token, before.token);
    client.advance("30s").await;
    let world = client.world().await;
    assert_eq!(world["servers"][0]["registered"], true, "{world}");
    assert_eq!(world["servers"][0]["runner"], runner);
    assert_eq!(
        client
            .cloud("GET", "/servers?label_selector=pool", None)
            .await
            .body["meta"]["pagination"]["total_entries"],
        1
    );
    client.advance("3m").await;
    assert_eq!(
        client.control("GET", "/summary", None).await.body["jobs"]["success"],
        2
    );
    client.sandbox.stop().await.unwrap();
}

/// Written by the sandbox as it was before there were Drone, CircleCI, Azure DevOps and machines from outside: one server at work,
/// one that boots, a job that waits and one that is to come.
const EARLIER: &str = include_str!("tests/world-before-drone.json");

#[tokio::test]
async fn a_world_of_an_earlier_version_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    std::fs::write(&path, EARLIER).unwrap();
    let client = with(Options {
        data: Some(path),
        ..options()
    })
    .await;
    let world = client.world().await;
    let state = |at: usize| {
        (
            &world["servers"][at]["registered"],
            &world["servers"][at]["running_jobs"],
        )
    };
    assert_eq!(state(0), (&json!(true), &json!(1)), "{world}");
    assert_eq!(state(1), (&json!(false), &json!(0)));
    client.advance("20s").await;
    assert_eq!(client.world().await["servers"][1]["registered"], true);
    client.advance("10m").await;
    let world = client.world().await;
    let jobs = world["jobs"].as_array().unwrap();
    assert!(
        jobs.len() == 3 && jobs.iter().all(|job| job["status"] == "success"),
        "{world}"
    );
    // What is new is there, and empty.
    assert_eq!(world["machines"], json!([]));
    let addresses = client.sandbox.addresses();
    assert_eq!(addresses.token, "the-token-of-then");
    let queue = client
        .send(
            "GET",
            format!("{}/api/queue", addresses.drone),
            &addresses.token,
            None,
        )
        .await
        .unwrap();
    assert_eq!((queue.status, queue.body), (200, json!([])));
    let pools = format!("{}/_apis/distributedtask/pools", addresses.azure);
    let pools = client.send("GET", pools, &addresses.token, None).await.unwrap();
    assert_eq!(pools.body["value"][0]["name"], "Default");
    client.sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_or_foreign_world_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    for text in ["{", "{\"format\": 99}"] {
        std::fs::write(&path, text).unwrap();
        assert!(
            start(Options {
                data: Some(path.clone()),
                ..options()
            })
            .await
            .is_err(),
            "{text}"
        );
    }
    assert!(
        start(Options {
            listen: "0.0.0.0:0".parse().unwrap(),
            ..options()
        })
        .await
        .is_err()
    );
}

#[tokio::test]
async fn concurrent_creates_share_their_saves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    let client = with(Options {
        data: Some(path.clone()),
        ..options()
    })
    .await;
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    let made = futures::future::join_all(names.iter().map(|name| client.server(name, "", json!({})))).await;
    assert!(made.iter().all(|got| got.status == 201));
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["cloud"]["servers"].as_object().unwrap().len(), 50);
}

#[tokio::test]
async fn with_tls_clients_trust_its_authority() {
    let mut options = options();
    options.settings.set("tls", "on").unwrap();
    let client = with(options).await;
    assert!(
        client
            .sandbox
            .addresses()
            .hetzner
            .starts_with("https://127.0.0.1:")
    );
    assert_eq!(client.cloud("GET", "/locations", None).await.status, 200);
    client.sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn prices_types_and_images_are_there_to_be_read() {
    let mut options = options();
    options.scenario = Some(
        Scenario::parse("[[images]]\ndescription = \"runner\"\nlabels = { role = \"runner\" }\nage = \"24h\"\n[[unavailable]]\ntype = \"cx23\"\nlocation = \"hel1\"\n").unwrap(),
    );
    let client = with(options).await;
    let pricing = client.cloud("GET", "/pricing", None).await.body["pricing"].clone();
    assert_eq!(pricing["currency"], "EUR");
    assert_eq!(
        pricing["primary_ips"][0]["prices"][0]["price_hourly"]["net"],
        "0.0008000000"
    );
    let types = client.cloud("GET", "/server_types?name=cx23", None).await.body;
    let places: Vec<_> = types["server_types"][0]["locations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| place["available"].clone())
        .collect();
    assert_eq!(places, [true, true, false]);
    let images = client
        .cloud(
            "GET",
            "/images?type=snapshot&label_selector=role%3Drunner&sort=created:desc",
            None,
        )
        .await
        .body;
    assert_eq!(images["images"][0]["description"], "runner");
    assert_eq!(
        client
            .cloud("GET", "/images?name=debian-12&architecture=arm", None)
            .await
            .body["images"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(client.cloud("GET", "/datacenters", None).await.status, 410);
}
