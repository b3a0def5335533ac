//! Azure DevOps over HTTP: agent pools, agents, requests for jobs, and how they lie.
//!
//! Long because one client serves a dozen small tests.

use serde_json::{Value, json};

use super::{super::Scenario, Client, Got, fresh, options, with};

const POOLS: &str = "/_apis/distributedtask/pools";

impl Client {
    async fn azure_as(&self, token: Option<&str>, method: &str, path: &str, body: Option<Value>) -> Got {
        let url = format!("{}{path}", self.sandbox.addresses().azure);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(token) = token {
            request = request.basic_auth("", Some(token));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Got {
            status,
            headers,
            body,
        }
    }

    async fn azure(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let token = self.sandbox.addresses().token.clone();
        self.azure_as(Some(&token), method, path, body).await
    }

    /// What a list has, of the pool with that id.
    async fn of_pool(&self, pool: u64, path: &str) -> Vec<Value> {
        let got = self.azure("GET", &format!("{POOLS}/{pool}/{path}"), None).await;
        assert_eq!(got.status, 200, "{}", got.body);
        let rows = got.body["value"].as_array().unwrap().clone();
        assert_eq!(got.body["count"], rows.len());
        rows
    }

    async fn open_requests(&self) -> Vec<Value> {
        self.of_pool(1, "jobrequests?completedRequestCount=0").await
    }

    async fn agents(&self) -> Vec<Value> {
        self.of_pool(1, "agents?includeAssignedRequest=true&includeCapabilities=true")
            .await
    }

    async fn azure_jobs(&self, count: u32, demands: &[&str]) -> Vec<u64> {
        let spec = json!({"ci": "azure", "count": count, "demands": demands, "duration": "60s"});
        let made = self.control("POST", "/jobs", Some(spec)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let ids = made.body["jobs"].as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap()).collect()
    }

    /// A container of an agent, up; variables besides where it registers.
    async fn container(&self, name: &str, more: &[(&str, &str)]) {
        let addresses = self.sandbox.addresses();
        let mut variables =
            json!({"AZP_URL": addresses.azure, "AZP_TOKEN": addresses.token, "RUNFLEET_STACK": "test"});
        for (key, value) in more {
            variables[*key] = json!(value);
        }
        let body = json!({"id": name, "name": format!("host-{name}"), "environment": variables});
        let made = self.control("POST", "/machines", Some(body)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        self.advance("20s").await;
    }

    async fn outside(&self, id: &str) -> Value {
        let got = self.control("GET", "/machines", None).await;
        let machines = got.body["machines"].as_array().unwrap().clone();
        machines
            .into_iter()
            .find(|machine| machine["id"] == id)
            .unwrap_or_default()
    }

    async fn killed(&self) -> u64 {
        self.world().await["jobs_killed"].as_u64().unwrap()
    }

    async fn set(&self, settings: Value) {
        assert_eq!(
            self.control("POST", "/settings", Some(settings)).await.status,
            204
        );
    }

    async fn lie(&self, path: &str, fault: &str, args: Value) {
        let rule = json!({"path": path, "fault": fault, "args": args});
        assert_eq!(self.control("POST", "/faults", Some(rule)).await.status, 201);
    }

    async fn enable(&self, agent: u64, enabled: bool) -> Got {
        let body = json!({"id": agent, "enabled": enabled});
        self.azure("PATCH", &format!("{POOLS}/1/agents/{agent}"), Some(body))
            .await
    }
}

fn recorded() -> Option<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/specs/azdo-jobrequests-samples.json"
    );
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// Every path of keys below a value; lists by their first entry.
fn keys(value: &Value, at: &str, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let at = format!("{at}/{key}");
                found.insert(at.clone());
                keys(value, &at, found);
            }
        }
        Value::Array(all) => {
            if let Some(first) = all.first() {
                keys(first, &format!("{at}/0"), found);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_container_registers_takes_one_job_and_ends_and_stays_registered() {
    let client = fresh().await;
    client.azure_jobs(2, &[]).await;
    let waiting = client.open_requests().await;
    assert_eq!(waiting.len(), 2);
    assert!(waiting[0].get("assignTime").is_none() && waiting[0].get("reservedAgent").is_none());

    client.container("t1", &[]).await;
    let agents = client.agents().await;
    assert_eq!(agents.len(), 1);
    let agent = &agents[0];
    assert_eq!(
        (&agent["name"], &agent["status"], &agent["enabled"]),
        (&json!("host-t1"), &json!("online"), &json!(true))
    );
    // Its environment is told, and no secret of it.
    let told = &agent["systemCapabilities"];
    assert_eq!(
        (&told["RUNFLEET_STACK"], &told["Agent.OS"]),
        (&json!("test"), &json!("Linux"))
    );
    assert!(told.get("AZP_TOKEN").is_none(), "{told}");
    let running = client.open_requests().await;
    let runs = running
        .iter()
        .find(|row| row.get("receiveTime").is_some())
        .unwrap();
    assert_eq!(runs["reservedAgent"]["id"], agent["id"]);
    assert_eq!(agent["assignedRequest"]["requestId"], runs["requestId"]);
    assert_eq!(client.outside("t1").await["running_jobs"], 1);

    client.advance("60s").await;
    client.advance("5s").await;
    let machine = client.outside("t1").await;
    assert_eq!(
        (&machine["state"], &machine["registered"]),
        (&json!("off"), &json!(false))
    );
    let agents = client.agents().await;
    assert_eq!((&agents[0]["status"], agents.len()), (&json!("offline"), 1));
    assert!(agents[0].get("assignedRequest").is_none());
    // The other waits still, and what is done is told only to who asks for it.
    assert_eq!(client.open_requests().await.len(), 1);
    let all = client.of_pool(1, "jobrequests").await;
    let done = all.iter().find(|row| row["result"] == "succeeded").unwrap();
    assert!(done.get("finishTime").is_some() && done.get("matchedAgents").is_none());
    let path = format!("{POOLS}/1/agents/{}", agents[0]["id"]);
    assert_eq!(client.azure("DELETE", &path, None).await.status, 204);
    assert_eq!(client.agents().await, [Value::Null; 0]);
    assert_eq!(client.killed().await, 0);
}

#[tokio::test]
async fn who_removes_itself_and_when_is_up_to_the_container() {
    let client = fresh().await;
    for (name, removes) in [("asked", "asked"), ("ends", "ends"), ("never", "never")] {
        let pool = ("AZP_REMOVES", removes);
        client.container(name, &[pool, ("AZP_AGENT_NAME", name)]).await;
        client.container(&format!("{name}-idle"), &[pool]).await;
        client
            .control("DELETE", &format!("/machines/{name}-idle"), None)
            .await;
        client
            .azure_jobs(1, &[&format!("Agent.Name -equals {name}")])
            .await;
        client.advance("65s").await;
        client.advance("5s").await;
        assert_eq!(client.outside(name).await["state"], "off");
    }
    let agents = client.agents().await;
    let left: Vec<&str> = agents
        .iter()
        .map(|agent| agent["name"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["asked", "never", "host-never-idle"]);
    assert_eq!(client.killed().await, 0);
}

#[tokio::test]
async fn a_continuous_agent_goes_on_and_its_name_is_taken_over_when_it_comes_back() {
    let client = fresh().await;
    let more = [
        ("AZP_ONCE", "false"),
        ("AZP_AGENT_NAME", "a"),
        ("AZP_REMOVES", "never"),
    ];
    client.container("t1", &more).await;
    client.azure_jobs(2, &[]).await;
    client.advance("2m").await;
    assert_eq!(client.open_requests().await, [Value::Null; 0]);
    let first = client.agents().await[0]["id"].clone();
    // While it lives, nobody else is called so.
    client.container("t2", &more).await;
    let problem = client.outside("t2").await["problem"].clone();
    assert_eq!(problem, "there is a session of an agent a already");
    client.control("DELETE", "/machines/t1", None).await;
    assert_eq!(client.agents().await[0]["status"], "offline");
    client.container("t3", &more).await;
    let agents = client.agents().await;
    assert_eq!(
        (&agents[0]["id"], &agents[0]["status"]),
        (&first, &json!("online"))
    );
}

#[tokio::test]
async fn a_disabled_agent_is_assigned_nothing_but_in_the_moment_of_its_disabling() {
    let client = fresh().await;
    client.container("t1", &[("AZP_ONCE", "false")]).await;
    client.set(json!({"azure_disable": "3s"})).await;
    let agent = client.agents().await[0]["id"].as_u64().unwrap();
    let got = client.enable(agent, false).await;
    assert_eq!((got.status, &got.body["enabled"]), (200, &json!(false)));
    client.advance("2s").await;
    client.azure_jobs(1, &[]).await;
    assert_eq!(client.outside("t1").await["running_jobs"], 1);
    // It is not removed while it has a job.
    let path = format!("{POOLS}/1/agents/{agent}");
    let refused = client.azure("DELETE", &path, None).await;
    assert_eq!(
        (refused.status, &refused.body["typeKey"]),
        (400, &json!("TaskAgentJobStillRunningException"))
    );
    client.advance("60s").await;
    client.azure_jobs(1, &[]).await;
    assert_eq!(client.outside("t1").await["running_jobs"], 0);
    client.enable(agent, true).await;
    assert_eq!(client.outside("t1").await["running_jobs"], 1);
    client.advance("60s").await;
    // Removed, its container ends with it.
    assert_eq!(client.azure("DELETE", &path, None).await.status, 204);
    client.advance("5s").await;
    assert_eq!(client.outside("t1").await["state"], "off");
    assert_eq!(client.azure("DELETE", &path, None).await.status, 404);
    assert_eq!(client.killed().await, 0);
}

#[tokio::test]
async fn demands_are_matched_against_capabilities_and_pools_are_apart() {
    let mut options = options();
    let text = "[azure]\norganization = \"contoso\"\n[[azure.agent_pools]]\nname = \"linux\"\n\
        [[azure.agent_pools.agents]]\nname = \"template\"\ncapabilities = { java = \"17\" }\n";
    options.scenario = Some(Scenario::parse(text).unwrap());
    let client = with(options).await;
    assert!(client.sandbox.addresses().azure.ends_with("/azure/contoso"));
    let spec =
        json!({"ci": "azure", "pool": "linux", "demands": ["java", "size -equals BIG"], "name": "build"});
    client.control("POST", "/jobs", Some(spec)).await;
    let spec = json!({"ci": "azure", "pool": "linux", "demands": ["java"]});
    client.control("POST", "/jobs", Some(spec)).await;
    // One agent matches the second, though it is offline; the first matches none.
    let rows = client.of_pool(2, "jobrequests?completedRequestCount=0").await;
    assert_eq!(rows[0]["matchedAgents"][0]["name"], "template");
    assert!(rows[1].get("matchedAgents").is_none() && rows[1]["definition"]["name"] == "build");
    assert_eq!(rows[1]["demands"][2], "Agent.Version -gtVersion 2.182.1");
    client.container("d", &[("java", "1"), ("size", "big")]).await;
    assert_eq!(client.outside("d").await["running_jobs"], 0, "another pool's");
    client
        .container("l", &[("AZP_POOL", "linux"), ("Java", "1"), ("SIZE", "big")])
        .await;
    assert_eq!(client.outside("l").await["running_jobs"], 1);
    let named = client
        .azure("GET", &format!("{POOLS}?poolName=linux"), None)
        .await;
    assert_eq!(
        (&named.body["count"], &named.body["value"][0]["size"]),
        (&json!(1), &json!(2))
    );
    let fitting = client.of_pool(2, "agents?demands=java,size").await;
    assert_eq!((fitting.len(), &fitting[0]["name"]), (1, &json!("host-l")));
    let other = client.azure("GET", &format!("{POOLS}/7/agents"), None).await;
    assert_eq!(
        (other.status, &other.body["typeKey"]),
        (404, &json!("TaskAgentPoolNotFoundException"))
    );
    let spec = json!({"ci": "azure", "pool": "empty"});
    client.set(json!({"azure_needs_agent": "on"})).await;
    client.control("POST", "/jobs", Some(spec)).await;
    let world = client.world().await;
    let last = world["jobs"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["status"], &last["refused"]),
        (&json!("failed"), &json!(true))
    );
}

#[tokio::test]
async fn a_job_is_assigned_before_it_is_received_and_may_be_canceled_at_any_time() {
    let client = fresh().await;
    client
        .set(json!({"azure_assign": "2s", "azure_receive": "3s"}))
        .await;
    client.container("t1", &[("AZP_ONCE", "false")]).await;
    let ids = client.azure_jobs(2, &[]).await;
    assert!(client.open_requests().await[0].get("assignTime").is_none());
    client.advance("2s").await;
    let rows = client.open_requests().await;
    let assigned = rows.iter().find(|row| row.get("assignTime").is_some()).unwrap();
    assert!(assigned.get("receiveTime").is_none() && assigned["reservedAgent"]["name"] == "host-t1");
    assert_eq!(client.outside("t1").await["running_jobs"], 1);
    client.advance("3s").await;
    assert_eq!(client.world().await["jobs"][0]["status"], "running");
    // One that waits, then the one that runs, then none.
    for (id, status) in [(ids[1], 204), (ids[0], 204), (ids[0], 404)] {
        let got = client.control("POST", &format!("/jobs/{id}/cancel"), None).await;
        assert_eq!(got.status, status);
    }
    assert_eq!(client.open_requests().await, [Value::Null; 0]);
    let done = client.of_pool(1, "jobrequests?completedRequestCount=9").await;
    assert!(done.iter().all(|row| row["result"] == "canceled"));
    assert!(done.iter().any(|row| row.get("assignTime").is_none()));
    assert_eq!(
        (
            client.outside("t1").await["running_jobs"].clone(),
            client.killed().await
        ),
        (json!(0), 0)
    );
}

#[tokio::test]
async fn what_is_cut_off_dies_with_its_job_and_is_told_to_be_online_for_a_while() {
    let client = fresh().await;
    client.set(json!({"azure_offline": "5m"})).await;
    client.container("t1", &[("AZP_ONCE", "false")]).await;
    client.azure_jobs(1, &[]).await;
    client.control("DELETE", "/machines/t1", None).await;
    assert_eq!(client.killed().await, 1);
    let world = client.world().await;
    assert_eq!(
        (&world["jobs"][0]["status"], &world["agents"]),
        (&json!("failed"), &json!([]))
    );
    // A server's agent says nothing when its power is cut.
    let addresses = client.sandbox.addresses().clone();
    let data = azure_example(&addresses.azure, &addresses.token, "");
    client.server("s1", &data, json!({})).await;
    client.advance("20s").await;
    let agents = client.agents().await;
    assert_eq!(
        (&agents[0]["name"], &agents[0]["status"]),
        (&json!("s1"), &json!("online"))
    );
    assert_eq!(agents[0]["systemCapabilities"]["docker"], "true");
    let world = client.world().await;
    let server = world["servers"][0]["id"].as_u64().unwrap();
    client.cloud("DELETE", &format!("/servers/{server}"), None).await;
    assert_eq!(client.agents().await[0]["status"], "online");
    client.azure_jobs(1, &[]).await;
    assert!(client.open_requests().await[0].get("assignTime").is_none());
    client.advance("5m").await;
    assert_eq!(client.agents().await[0]["status"], "offline");
}

/// User data of an agent on a machine; further lines of its unit.
fn azure_example(url: &str, token: &str, unit: &str) -> String {
    format!(
        "#cloud-config\nwrite_files:\n  - path: /etc/azure-devops-agent.env\n    content: |\n      AZP_URL={url}/\n      AZP_TOKEN={token}\n      AZP_POOL=Default\n  - path: /etc/azure-devops-agent.capabilities\n    content: |\n      docker=true\n  - path: /etc/systemd/system/azure-devops-agent.service\n    content: |\n      [Service]\n      ExecStart=/opt/run.sh {unit}\nruncmd:\n  - systemctl enable --now azure-devops-agent.service\n"
    )
}

#[tokio::test]
async fn a_machine_whose_agent_runs_once_goes_off_and_unregisters_at_its_shutdown() {
    let client = fresh().await;
    let addresses = client.sandbox.addresses().clone();
    let once = azure_example(
        &addresses.azure,
        &addresses.token,
        "--once\n      ExecStopPost=+/usr/bin/systemctl poweroff",
    );
    let unregisters = once.replace(
        "runcmd:",
        "  - path: /etc/systemd/system/runfleet-unregister.service\n    content: ExecStop=/usr/local/lib/runfleet/unregister\nruncmd:",
    );
    client.server("stays", &once, json!({})).await;
    client.server("leaves", &unregisters, json!({})).await;
    client.azure_jobs(2, &[]).await;
    client.advance("80s").await;
    client.advance("5s").await;
    let world = client.world().await;
    let off = world["servers"].as_array().unwrap().iter();
    assert!(off.clone().all(|server| server["status"] == "off"), "{world}");
    let agents = client.agents().await;
    assert_eq!((agents.len(), &agents[0]["name"]), (1, &json!("stays")));
    assert_eq!(world["jobs_killed"], 0);
}

#[tokio::test]
async fn lists_lag_as_ordered() {
    let client = fresh().await;
    client.container("t1", &[("AZP_ONCE", "false")]).await;
    client.advance("1m").await;
    client.azure_jobs(1, &[]).await;
    client.advance("10s").await;
    let agents = format!("/acme{POOLS}/1/agents");
    client.lie(&agents, "busy-lag", json!({"seconds": 15})).await;
    let seen = client.agents().await;
    assert!(seen[0].get("assignedRequest").is_none() && seen[0]["status"] == "online");
    assert!(client.agents().await[0].get("assignedRequest").is_some());
    // A job that is running is told as waiting by a list that lags, and then as assigned only.
    let requests = format!("/acme{POOLS}/1/jobrequests");
    client.lie(&requests, "stale-list", json!({"age": 11})).await;
    assert_eq!(client.open_requests().await, [Value::Null; 0]);
    // An agent that came or went is not yet seen to have.
    client.advance("1m").await;
    client.control("DELETE", "/machines/t1", None).await;
    client.container("t2", &[]).await;
    client.lie(&agents, "stale-list", json!({"age": 30})).await;
    let seen = client.agents().await;
    assert_eq!((seen.len(), &seen[0]["name"]), (1, &json!("host-t1")));
    assert_eq!(client.agents().await[0]["name"], "host-t2");
}

#[tokio::test]
async fn a_bad_token_is_led_to_the_sign_in_page_or_refused_and_one_may_only_read() {
    let mut options = options();
    let text = "[[azure.tokens]]\ntoken = \"reads\"\nscopes = [\"vso.agentpools\"]\n";
    options.scenario = Some(Scenario::parse(text).unwrap());
    let client = with(options).await;
    let page = client.azure_as(None, "GET", POOLS, None).await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (203, "text/html; charset=utf-8")
    );
    assert_eq!(client.azure_as(Some("no"), "GET", POOLS, None).await.status, 401);
    client.set(json!({"azure_sign_in": "203"})).await;
    assert_eq!(client.azure_as(Some("no"), "GET", POOLS, None).await.status, 203);
    let url = format!("{}{POOLS}", client.sandbox.addresses().azure);
    let bearer = client
        .http
        .get(&url)
        .bearer_auth(&client.sandbox.addresses().token);
    assert_eq!(bearer.send().await.unwrap().status(), 200);
    assert_eq!(
        client.azure_as(Some("reads"), "GET", POOLS, None).await.status,
        200
    );
    let managed = client
        .azure_as(
            Some("reads"),
            "GET",
            &format!("{POOLS}?actionFilter=manage"),
            None,
        )
        .await;
    assert_eq!(managed.body["count"], 0);
    let body = json!({"name": "x", "version": "1"});
    let denied = client
        .azure_as(Some("reads"), "POST", &format!("{POOLS}/1/agents"), Some(body))
        .await;
    assert_eq!(
        (denied.status, &denied.body["typeKey"]),
        (403, &json!("AccessDeniedException"))
    );
    // Nor does an agent register with it.
    client.container("t1", &[("AZP_TOKEN", "reads")]).await;
    assert_eq!(client.agents().await, [Value::Null; 0]);
    assert_eq!(
        client.outside("t1").await["problem"],
        "its agent's token may not register agents here"
    );
}

#[tokio::test]
async fn who_asks_too_much_is_told_then_held_back_then_refused() {
    let mut options = options();
    options.settings.set("azure_tstu", "1").unwrap();
    let client = with(options).await;
    let mut seen = Vec::new();
    for _ in 0..17 {
        let got = client.azure("GET", POOLS, None).await;
        let left = got.header("x-ratelimit-remaining").to_owned();
        seen.push((got.status, left, got.header("x-ratelimit-delay").to_owned()));
    }
    assert_eq!(seen[0], (200, String::new(), String::new()));
    assert_eq!(seen[4].1, "0");
    assert_eq!((seen[8].0, seen[8].2.as_str()), (200, "30.000"));
    assert_eq!(seen[16].0, 429);
    let refused = client.azure("GET", POOLS, None).await;
    assert_eq!(refused.header("retry-after"), "300");
    client.advance("10m").await;
    assert_eq!(client.azure("GET", POOLS, None).await.status, 200);
    client
        .lie(&format!("/acme{POOLS}"), "delayed", json!({"seconds": 7}))
        .await;
    let got = client.azure("GET", POOLS, None).await;
    assert_eq!(
        (
            got.status,
            got.header("x-ratelimit-delay"),
            got.header("retry-after")
        ),
        (200, "7.000", "7")
    );
}

#[tokio::test]
async fn requests_have_the_keys_of_the_recorded_bodies() {
    let Some(recorded) = recorded() else {
        return;
    };
    let client = fresh().await;
    client.container("t1", &[("AZP_ONCE", "false")]).await;
    client.azure_jobs(2, &[]).await;
    let rows = client.open_requests().await;
    let waits = rows
        .iter()
        .find(|row| row.get("assignTime").is_none())
        .unwrap()
        .clone();
    let runs = rows
        .iter()
        .find(|row| row.get("receiveTime").is_some())
        .unwrap()
        .clone();
    client.advance("60s").await;
    let all = client.of_pool(1, "jobrequests").await;
    let done = all
        .iter()
        .find(|row| row.get("result").is_some())
        .unwrap()
        .clone();
    // An agent's system and access point are told of a reserved one in the recorded bodies, and of those that match not.
    let spared = ["/osDescription", "/accessPoint"];
    for (own, theirs, more) in [
        (waits, &recorded["testJobRequestResponse"]["value"][1], &[][..]),
        (runs, &recorded["assignedNotFinishedJob"], &[]),
        (done, &recorded["deadJob"], &["/finishTime"]),
    ] {
        let (mut has, mut wants) =
            <(std::collections::BTreeSet<_>, std::collections::BTreeSet<_>)>::default();
        keys(&own, "", &mut has);
        keys(theirs, "", &mut wants);
        wants.retain(|key| !spared.iter().any(|end| key.ends_with(end)));
        let lacks: Vec<_> = wants.difference(&has).collect();
        assert!(lacks.is_empty(), "{lacks:?}");
        let extra: Vec<_> = has.difference(&wants).collect();
        assert_eq!(extra, more.iter().collect::<Vec<_>>());
    }
    // With `$top` the shape is another.
    let rows = client.of_pool(1, "jobrequests?$top=1").await;
    assert_eq!(rows.len(), 1);
    assert!(rows[0].get("matchedAgents").is_none() && rows[0]["matchesAllAgentsInPool"] == true);
}

#[test]
fn the_environment_says_what_is_wrong_with_it() {
    use super::super::userdata::{Instance, environment};
    let instance = Instance {
        id: "t",
        name: "host",
    };
    for (more, why) in [
        (vec![], "AZP_TOKEN is missing"),
        (
            vec![("AZP_TOKEN", "t"), ("AZP_ONCE", "maybe")],
            "neither true nor false",
        ),
        (
            vec![("AZP_TOKEN", "t"), ("AZP_REMOVES", "soon")],
            "there is no soon",
        ),
    ] {
        let all = more.into_iter().chain([("AZP_URL", "http://h")]);
        let variables = all
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let problem = environment::read(&variables, instance).setup.unwrap_err();
        assert!(problem.contains(why), "{problem}");
    }
}
