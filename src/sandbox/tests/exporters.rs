//! The machines' own ports through the forward proxy, and the Prometheus that scrapes them.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Client, Got, drone_example, fresh, options, with};

impl Client {
    fn ocean_url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.addresses().digitalocean)
    }

    async fn ocean(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let token = &self.sandbox.addresses().token;
        let got = self.send(method, self.ocean_url(path), token, body).await;
        got.unwrap()
    }

    /// A droplet that works for Drone, and its public address and its private one.
    async fn working_droplet(&self, name: &str, tags: &[&str]) -> (u64, String, String) {
        let addresses = self.sandbox.addresses();
        let data = drone_example(&addresses.drone, &addresses.drone_rpc_secret, &[]);
        let body = json!({
            "name": name, "region": "fra1", "size": "s-2vcpu-4gb", "image": "debian-12-x64", "ipv6": true,
            "tags": tags, "user_data": data,
        });
        let made = self.ocean("POST", "/droplets", Some(body)).await;
        assert_eq!(made.status, 202, "{}", made.body);
        let id = made.body["droplet"]["id"].as_u64().unwrap();
        self.advance("5s").await;
        let read = self.ocean("GET", &format!("/droplets/{id}"), None).await;
        let four = &read.body["droplet"]["networks"]["v4"];
        let address = |kind: &str| {
            let all = four.as_array().unwrap();
            let found = all.iter().find(|net| net["type"] == kind).unwrap();
            found["ip_address"].as_str().unwrap().to_owned()
        };
        (id, address("public"), address("private"))
    }

    /// What a machine answers to a GET through the proxy: status, content type, text.
    async fn scrape(&self, url: &str, accept: Option<&str>) -> (u16, String, String) {
        let proxy = reqwest::Proxy::http(&self.sandbox.addresses().exporters).unwrap();
        let http = reqwest::Client::builder().proxy(proxy).build().unwrap();
        let mut request = http.get(url);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (status, kind, answer.text().await.unwrap())
    }

    /// What a tunnel says first, or the proxy's status where there is none.
    async fn tunnel(&self, to: &str, say: &str) -> Result<String, u16> {
        let at = self.sandbox.addresses().exporters.clone();
        let mut stream = TcpStream::connect(at.strip_prefix("http://").unwrap())
            .await
            .unwrap();
        let asked = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 200 {
            return Err(status);
        }
        stream.write_all(say.as_bytes()).await.unwrap();
        let mut first = vec![0; 64];
        let length = stream.read(&mut first).await.unwrap();
        Ok(String::from_utf8_lossy(&first[..length]).into_owned())
    }

    async fn metrics(&self, body: Value) -> Got {
        self.control("POST", "/metrics", Some(body)).await
    }

    async fn query(&self, text: &str) -> Got {
        let mut url: url::Url = format!("{}/api/v1/query", self.sandbox.addresses().prometheus)
            .parse()
            .unwrap();
        url.query_pairs_mut().append_pair("query", text);
        self.send("GET", url.into(), "", None).await.unwrap()
    }

    /// The value of a query with one result.
    async fn value(&self, text: &str) -> String {
        let got = self.query(text).await;
        let result = got.body["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 1, "{}", got.body);
        result[0]["value"][1].as_str().unwrap().to_owned()
    }
}

/// The value of a series in a text.
fn sample(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    value.parse().ok()
}

#[tokio::test]
async fn a_machine_tells_of_itself_once_it_is_up_and_what_it_tells_follows_its_jobs() {
    let client = fresh().await;
    let (id, public, private) = client.working_droplet("m1", &["web"]).await;
    let url = format!("http://{public}:9100/metrics");
    assert_eq!(client.scrape(&url, None).await.0, 502, "it is booting");
    client.advance("30s").await;
    let (status, kind, text) = client.scrape(&url, None).await;
    assert_eq!(
        (status, kind.as_str()),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(sample(&text, "node_load1"), Some(0.02));
    let idle = sample(&text, "node_memory_MemAvailable_bytes").unwrap();

    let jobs = json!({"ci": "drone", "count": 2, "duration": "10m"});
    client.control("POST", "/jobs", Some(jobs)).await;
    client.advance("1m").await;
    // do-agent's are at the root, on another port; and the machine is known by each of its addresses.
    let (_, _, text) = client.scrape(&format!("http://{private}:9110/"), None).await;
    assert_eq!(sample(&text, "runfleet_sandbox_jobs"), Some(2.0));
    assert_eq!(sample(&text, "node_load5"), Some(2.02));
    assert!(sample(&text, "node_memory_MemAvailable_bytes").unwrap() < idle);
    client.advance("1m").await;
    let read = client.ocean("GET", &format!("/droplets/{id}"), None).await;
    let six = read.body["droplet"]["networks"]["v6"][0]["ip_address"].clone();
    let six = format!("http://[{}]:9100/metrics", six.as_str().unwrap());
    let open = "application/openmetrics-text; version=1.0.0";
    let (status, kind, text) = client.scrape(&six, Some(open)).await;
    assert!(
        status == 200 && kind.starts_with("application/openmetrics-text"),
        "{status} {kind}"
    );
    assert!(
        text.ends_with("# EOF\n") && text.contains("# TYPE node_cpu_seconds counter\n"),
        "{text}"
    );
    let busy = sample(&text, "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"}");
    assert!(busy.unwrap() >= 120.0, "{busy:?}");

    client.ocean("DELETE", &format!("/droplets/{id}"), None).await;
    assert_eq!(client.scrape(&url, None).await.0, 502, "it is gone");
}

#[tokio::test]
async fn tunnels_lead_to_the_open_ports_of_a_machine_that_is_up() {
    let client = fresh().await;
    let (id, public, _) = client.working_droplet("m1", &[]).await;
    assert_eq!(client.tunnel(&format!("{public}:22"), "").await, Err(502));
    client.advance("30s").await;
    let greeting = client.tunnel(&format!("{public}:22"), "").await.unwrap();
    assert!(greeting.starts_with("SSH-2.0-"), "{greeting}");
    for port in [80, 9100, 9110] {
        let said = format!("GET /metrics HTTP/1.1\r\nHost: {public}\r\n\r\n");
        let told = client.tunnel(&format!("{public}:{port}"), &said).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 200 OK"), "{port}: {told}");
    }
    assert_eq!(client.tunnel(&format!("{public}:443"), "").await, Err(502));
    assert_eq!(client.tunnel("192.0.2.1:22", "").await, Err(502));
    client.advance("1m").await;
    let off = json!({"type": "power_off"});
    client
        .ocean("POST", &format!("/droplets/{id}/actions"), Some(off))
        .await;
    assert_eq!(client.tunnel(&format!("{public}:22"), "").await, Err(502));
    assert_eq!(client.world().await["api_calls"]["exporters"], 8);
}

#[tokio::test]
async fn a_server_of_hetzner_has_an_exporter_too() {
    let client = fresh().await;
    let made = client.server("h1", "", json!({})).await;
    let four = &made.body["server"]["public_net"]["ipv4"]["ip"];
    client.advance("30s").await;
    let url = format!("http://{}:9100/metrics", four.as_str().unwrap());
    let (status, _, text) = client.scrape(&url, None).await;
    assert_eq!(status, 200);
    assert_eq!(
        sample(&text, "node_memory_MemTotal_bytes"),
        Some(4.0 * 1_073_741_824.0)
    );
    assert_eq!(
        client.scrape(&url.replace("/metrics", "/other"), None).await.0,
        404
    );
}

#[tokio::test]
async fn values_are_set_by_hand_by_name_by_tag_and_for_all() {
    let client = fresh().await;
    let (_, first, _) = client.working_droplet("m1", &["web"]).await;
    let (_, second, _) = client.working_droplet("m2", &["web", "eu"]).await;
    client.advance("30s").await;
    let set = client
        .metrics(json!({"machines": "web", "samples": {"node_load1": 3.5, "app_queue{kind=\"a\"}": 7}}))
        .await;
    assert_eq!((set.status, &set.body["machines"]), (200, &json!(["m1", "m2"])));
    client
        .metrics(json!({"machines": "m2", "samples": {"node_load1": null, "node_load5": "NaN", "node_load15": "absent"}}))
        .await;
    let of = |address: &str| format!("http://{address}:9100/metrics");
    let (_, _, text) = client.scrape(&of(&first), None).await;
    assert_eq!(sample(&text, "node_load1"), Some(3.5));
    assert_eq!(sample(&text, "app_queue{kind=\"a\"}"), Some(7.0));
    let (_, _, text) = client.scrape(&of(&second), None).await;
    assert_eq!(sample(&text, "node_load1"), Some(0.02));
    assert!(
        text.contains("node_load5 NaN\n") && !text.contains("node_load15"),
        "{text}"
    );

    client
        .metrics(json!({"machines": "eu", "unreachable": true}))
        .await;
    assert_eq!(client.scrape(&of(&second), None).await.0, 502);
    client
        .metrics(json!({"machines": "*", "unreachable": false}))
        .await;
    assert_eq!(client.scrape(&of(&second), None).await.0, 200);

    assert_eq!(client.metrics(json!({"machines": "none"})).await.status, 404);
    for wrong in [
        json!({"machines": "*", "samples": {"a b": 1}}),
        json!({"machines": "*", "samples": {"a": "high"}}),
        json!({"machine": "*"}),
    ] {
        assert_eq!(client.metrics(wrong.clone()).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn prometheus_answers_a_small_part_of_its_language() {
    let client = fresh().await;
    client.working_droplet("m1", &["web"]).await;
    client.working_droplet("m2", &["web", "eu"]).await;
    client.advance("30s").await;
    client
        .metrics(json!({"machines": "m1", "samples": {"node_load1": 3}}))
        .await;
    client
        .metrics(json!({"machines": "m2", "samples": {"node_load1": 1}}))
        .await;
    assert_eq!(client.value("avg(node_load1{tag=\"web\"})").await, "2");
    assert_eq!(client.value("max(node_load1)").await, "3");
    assert_eq!(client.value("count(node_load1{tag!=\"eu\"})").await, "1");
    let got = client.query("node_load1{name=\"m2\"}").await;
    let series = &got.body["data"]["result"][0];
    assert_eq!(series["metric"]["tag"], ",eu,web,");
    assert_eq!(
        (&series["metric"]["job"], &series["value"][1]),
        (&json!("machines"), &json!("1"))
    );
    assert_eq!(
        client
            .value("node_cpu_seconds_total{mode=\"idle\",name=\"m1\"}")
            .await
            .parse::<f64>()
            .map(|seconds| seconds.abs() < f64::EPSILON),
        Ok(true)
    );
    let scalar = client.query("42").await;
    assert_eq!(scalar.body["data"]["resultType"], "scalar");
    assert_eq!(
        client.query("avg(no_such_metric)").await.body["data"]["result"],
        json!([])
    );
    for wrong in ["", "rate(node_load1[5m])"] {
        let got = client.query(wrong).await;
        assert_eq!((got.status, &got.body["errorType"]), (400, &json!("bad_data")));
    }
    client
        .metrics(json!({"machines": "m1", "unreachable": true}))
        .await;
    assert_eq!(client.value("avg(node_load1)").await, "1");
    // In the body of a POST, as a form, it is the same.
    let url = format!("{}/api/v1/query", client.sandbox.addresses().prometheus);
    let form = client
        .http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("query=max%28node_load1%29");
    let told: Value = serde_json::from_slice(&form.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(told["data"]["result"][0]["value"][1], "1");
}

#[tokio::test]
async fn droplets_and_what_was_set_of_them_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let kept = || super::Options {
        data: Some(folder.path().join("world.json")),
        ..options()
    };
    let client = with(kept()).await;
    client.working_droplet("m1", &["web"]).await;
    client
        .metrics(json!({"machines": "m1", "samples": {"node_load1": "NaN"}}))
        .await;
    client.sandbox.stop().await.unwrap();
    let client = with(kept()).await;
    client.advance("1m").await;
    let found = client.ocean("GET", "/droplets?tag_name=web", None).await;
    assert_eq!(found.body["meta"]["total"], 1);
    let world = client.world().await;
    assert_eq!(
        (
            &world["servers"][0]["provider"],
            &world["servers"][0]["registered"]
        ),
        (&json!("digitalocean"), &json!(true))
    );
    assert_eq!(client.value("node_load1").await, "NaN");
}
