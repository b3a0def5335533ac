//! Droplets and what goes with them as the API has them, request by request.

use serde_json::{Value, json};

use super::super::{
    dispatch::{self, Request},
    faults::Rule,
    scenario::Scenario,
    settings::Settings,
    userdata::tests::example,
    world::{World, add},
};

const GITLAB: &str = "http://127.0.0.1:1/gitlab";

struct Api(World);

/// An answer.
struct Told {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Value,
}

impl Told {
    fn header(&self, name: &str) -> Option<u64> {
        let mut fitting = self.headers.iter().filter(|(known, _)| *known == name);
        fitting.next()?.1.parse().ok()
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Api {
    fn new() -> Self {
        Self::with(&[], "")
    }

    fn with(settings: &[(&str, &str)], scenario: &str) -> Self {
        let mut all = Settings::default();
        for (key, value) in settings {
            all.set(key, value).unwrap();
        }
        // The clock stands; `pass` moves the world.
        all.set("speed", "0").unwrap();
        let wall = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut world = World::new(7, None, &Scenario::parse(scenario).unwrap(), all, wall);
        world.gitlab_urls.insert(GITLAB.to_owned());
        Self(world)
    }

    /// The answer; `None` where the connection is closed without one.
    fn send(&mut self, method: &str, path: &str, body: &Value, token: &str) -> Option<Told> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method: method.to_owned(),
            path: format!("/digitalocean/v2{path}"),
            query: query.to_owned(),
            token: Some(token.to_owned()),
            content_type: "application/json".to_owned(),
            accept: String::new(),
            body: if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            },
            origin: "http://127.0.0.1:1".to_owned(),
        };
        let wall = "2026-11-01T00:00:00Z".parse().unwrap();
        let reply = dispatch::handle(&mut self.0, request, wall).reply?;
        Some(Told {
            status: reply.status,
            headers: reply.headers,
            body: serde_json::from_slice(&reply.body).unwrap_or_default(),
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
    fn call(&mut self, method: &str, path: &str, body: Value) -> Told {
        let token = self.0.token.clone();
        self.send(method, path, &body, &token).unwrap()
    }

    fn get(&mut self, path: &str) -> Value {
        let told = self.call("GET", path, Value::Null);
        assert_eq!(told.status, 200, "{path}: {}", told.body);
        told.body
    }

    fn refused(&mut self, method: &str, path: &str, body: Value) -> (u16, String) {
        let told = self.call(method, path, body);
        (told.status, told.message().to_owned())
    }

    fn fault(&mut self, rule: Value) {
        let rule: Rule = serde_json::from_value(rule).unwrap();
        self.0.faults.add(rule);
    }

    /// A droplet that was accepted; its id.
    fn droplet(&mut self, more: &Value) -> u64 {
        let told = self.call("POST", "/droplets", wanted(more));
        assert_eq!(told.status, 202, "{}", told.body);
        told.body["droplet"]["id"].as_u64().unwrap()
    }

    fn pass(&mut self, seconds: i64) {
        let by = jiff::SignedDuration::from_secs(seconds);
        self.0.clock.advance(by);
        let to = add(self.0.now, by);
        self.0.advance(to);
    }
}

fn wanted(more: &Value) -> Value {
    let mut body = json!({"name": "r1", "region": "nyc3", "size": "s-2vcpu-4gb", "image": "debian-12-x64"});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn ids(list: &Value, key: &str) -> Vec<u64> {
    let all = list[key].as_array().unwrap();
    all.iter().map(|one| one["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_droplet_is_new_until_its_action_has_ended_and_has_its_addresses_then() {
    let mut api = Api::new();
    let body = wanted(&json!({"tags": ["web", "env:prod"], "ipv6": true, "monitoring": true}));
    let told = api.call("POST", "/droplets", body);
    let droplet = &told.body["droplet"];
    assert_eq!((told.status, &droplet["status"]), (202, &json!("new")));
    assert_eq!(droplet["networks"], json!({"v4": [], "v6": []}));
    let link = &told.body["links"]["actions"][0];
    assert_eq!(link["rel"], "create");
    let action = format!("/actions/{}", link["id"]);
    assert_eq!(api.get(&action)["action"]["status"], "in-progress");
    api.pass(2);
    assert_eq!(api.get(&action)["action"]["status"], "completed");
    let read = api.get(&format!("/droplets/{}", droplet["id"]));
    let read = &read["droplet"];
    assert_eq!(read["status"], "active");
    assert_eq!(read["tags"], json!(["env:prod", "web"]));
    let kinds: Vec<_> = read["networks"]["v4"]
        .as_array()
        .unwrap()
        .iter()
        .map(|net| &net["type"])
        .collect();
    assert_eq!(kinds, ["private", "public"]);
    assert_eq!(read["networks"]["v6"][0]["netmask"], 64);
    assert_eq!(
        (&read["size"]["price_hourly"], &read["image"]["slug"]),
        (&json!(0.035_71), &json!("debian-12-x64"))
    );
}

#[test]
fn nothing_is_idempotent_and_names_are_not_unique() {
    let mut api = Api::new();
    let (first, second) = (api.droplet(&json!({})), api.droplet(&json!({})));
    assert_ne!(first, second);
    let found = api.get("/droplets?name=r1");
    assert_eq!(ids(&found, "droplets"), [first, second]);
    assert_eq!(found["meta"]["total"], 2);
}

#[test]
fn up_to_ten_droplets_come_of_one_call() {
    let mut api = Api::new();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let mut body = wanted(&json!({ "names": names }));
    body.as_object_mut().unwrap().remove("name");
    let told = api.call("POST", "/droplets", body.clone());
    assert_eq!(told.body["droplets"].as_array().unwrap().len(), 10);
    assert_eq!(told.body["links"]["actions"].as_array().unwrap().len(), 10);
    assert_eq!(told.body["links"]["actions"][9]["rel"], "multiple_create");
    body["names"] = json!(vec!["n"; 11]);
    assert_eq!(api.refused("POST", "/droplets", body).0, 422);
}

#[test]
fn what_is_wrong_with_a_droplet_is_said_and_nothing_comes_of_it() {
    let mut api = Api::with(
        &[("server_limit", "1")],
        "[[unavailable]]\ntype = \"c-2\"\nlocation = \"nyc3\"\n",
    );
    let table = [
        (json!({"name": "no_host"}), "valid hostnames"),
        (json!({"size": "huge"}), "invalid size"),
        (json!({"region": "mars1"}), "invalid region"),
        (json!({"image": "windows"}), "invalid image"),
        (json!({"ssh_keys": [17]}), "17 are invalid key identifiers"),
        (json!({"tags": ["no blanks"]}), "invalid characters"),
        (json!({"user_data": "x".repeat(65_537)}), "too large"),
        (json!({"vpc_uuid": "there is none"}), "VPC not found"),
        (json!({"size": "c-2"}), "Size is not available in this region."),
        (
            json!({"size": "g-4vcpu-16gb", "region": "tor1"}),
            "Size is not available in this region.",
        ),
    ];
    for (more, said) in table {
        let (status, message) = api.refused("POST", "/droplets", wanted(&more));
        assert!(
            status == 422 && message.contains(said),
            "{more}: {status} {message}"
        );
    }
    let sizes = api.get("/sizes?per_page=200");
    let size = sizes["sizes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|size| size["slug"] == "c-2");
    assert!(
        !size.unwrap()["regions"]
            .as_array()
            .unwrap()
            .contains(&json!("nyc3"))
    );
    api.droplet(&json!({"user_data": "x".repeat(65_536)}));
    let (status, message) = api.refused("POST", "/droplets", wanted(&json!({})));
    assert!(
        status == 422 && message.contains("exceed your droplet limit"),
        "{message}"
    );
    assert_eq!(api.get("/droplets")["meta"]["total"], 1);
}

#[test]
fn a_list_by_tag_has_pages_and_says_how_many_there_are() {
    let mut api = Api::new();
    let all: Vec<u64> = (0..25)
        .map(|n| api.droplet(&json!({"name": format!("n{n}"), "tags": ["a"]})))
        .collect();
    api.droplet(&json!({"tags": ["b"]}));
    let first = api.get("/droplets?tag_name=a&per_page=10");
    assert_eq!(ids(&first, "droplets"), all[..10]);
    assert_eq!(first["meta"]["total"], 25);
    assert_eq!(
        first["links"]["pages"]["next"],
        "http://127.0.0.1:1/digitalocean/v2/droplets?page=2&per_page=10&tag_name=a"
    );
    let last = api.get("/droplets?tag_name=a&per_page=10&page=3");
    assert_eq!(ids(&last, "droplets"), all[20..]);
    assert!(last["links"]["pages"].get("next").is_none());
    assert_eq!(api.get("/droplets?tag_name=none")["meta"]["total"], 0);
    assert_eq!(api.refused("GET", "/droplets?page=0", Value::Null).0, 422);
}

#[test]
fn what_is_deleted_is_gone_and_cannot_be_deleted_twice() {
    let mut api = Api::new();
    let id = api.droplet(&json!({"tags": ["a"]}));
    let path = format!("/droplets/{id}");
    assert_eq!(api.call("DELETE", &path, Value::Null).status, 204);
    for method in ["GET", "DELETE"] {
        let told = api.call(method, &path, Value::Null);
        assert_eq!((told.status, &told.body["id"]), (404, &json!("not_found")));
        assert_eq!(told.body["request_id"].as_str().unwrap().len(), 36);
    }
    for name in ["r2", "r3"] {
        api.droplet(&json!({"name": name, "tags": ["a"]}));
    }
    assert_eq!(
        api.call("DELETE", "/droplets?tag_name=a", Value::Null).status,
        204
    );
    assert_eq!(api.get("/droplets")["meta"]["total"], 0);
    assert_eq!(
        api.call("DELETE", "/droplets?tag_name=other", Value::Null).status,
        404
    );
}

#[test]
fn a_droplet_runs_jobs_as_its_user_data_says_and_takes_them_with_it() {
    let mut api = Api::new();
    let runner = {
        let id = api
            .0
            .forge
            .runners
            .keys()
            .next_back()
            .copied()
            .unwrap_or_default();
        let request = Request {
            method: "POST".to_owned(),
            path: "/gitlab/api/v4/user/runners".to_owned(),
            query: String::new(),
            token: Some(api.0.token.clone()),
            content_type: "application/json".to_owned(),
            accept: String::new(),
            body: json!({"runner_type": "instance_type", "tag_list": ["linux"]})
                .to_string()
                .into_bytes(),
            origin: "http://127.0.0.1:1".to_owned(),
        };
        let wall = "2026-11-01T00:00:00Z".parse().unwrap();
        let reply = dispatch::handle(&mut api.0, request, wall).reply.unwrap();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_ne!(body["id"].as_u64(), Some(id));
        body["token"].as_str().unwrap().to_owned()
    };
    let id = api.droplet(&json!({"user_data": example(GITLAB, &runner, 1)}));
    api.pass(60);
    assert!(api.0.is_registered(id));
    let jobs = serde_json::from_value(json!({"tags": ["linux"], "duration": "10m"})).unwrap();
    api.0.submit(jobs);
    api.pass(10);
    assert_eq!(api.0.running_on(id), 1);
    api.call("DELETE", &format!("/droplets/{id}"), Value::Null);
    assert_eq!(api.0.jobs_killed, 1);
}

#[test]
fn a_droplet_that_cannot_be_placed_vanishes_and_its_action_is_errored() {
    let mut api = Api::new();
    api.fault(json!({"path": "/droplets", "fault": "create-then-fails"}));
    let told = api.call("POST", "/droplets", wanted(&json!({"tags": ["a"]})));
    assert_eq!(told.status, 202);
    assert_eq!(api.get("/droplets?tag_name=a")["meta"]["total"], 1);
    api.pass(2);
    let action = format!("/actions/{}", told.body["links"]["actions"][0]["id"]);
    assert_eq!(api.get(&action)["action"]["status"], "errored");
    assert_eq!(api.get("/droplets?tag_name=a")["meta"]["total"], 0);
    let id = &told.body["droplet"]["id"];
    assert_eq!(
        api.call("GET", &format!("/droplets/{id}"), Value::Null).status,
        404
    );
}

#[test]
fn faults_speak_this_api_s_language() {
    let mut api = Api::new();
    api.fault(json!({"fault": "no-capacity", "args": {"type": "c-2", "location": "fra1"}}));
    api.droplet(&json!({"size": "c-2"}));
    let (status, message) = api.refused(
        "POST",
        "/droplets",
        wanted(&json!({"size": "c-2", "region": "fra1"})),
    );
    assert_eq!(
        (status, message.as_str()),
        (422, "Size is not available in this region.")
    );
    api.fault(json!({"fault": "quota"}));
    assert!(
        api.refused("POST", "/droplets", wanted(&json!({})))
            .1
            .contains("droplet limit")
    );
    api.fault(json!({"fault": "rate-limited", "args": {"retry_after": 7}}));
    let told = api.call("GET", "/droplets", Value::Null);
    assert_eq!((told.status, told.header("Retry-After")), (429, Some(7)));
    assert_eq!(told.body["id"], "too_many_requests");
    api.fault(json!({"fault": "server-error", "args": {"status": 503}}));
    assert_eq!(
        api.call("GET", "/droplets", Value::Null).body["id"],
        "service_unavailable"
    );
    api.fault(json!({"fault": "reply-lost"}));
    let token = api.0.token.clone();
    let lost = api.send("POST", "/droplets", &wanted(&json!({"name": "lost"})), &token);
    assert!(lost.is_none());
    assert_eq!(api.get("/droplets?name=lost")["meta"]["total"], 1);
    api.pass(60);
    api.droplet(&json!({"name": "young"}));
    api.fault(json!({"fault": "stale-list", "args": {"age": 30}}));
    assert_eq!(api.get("/droplets?name=young")["meta"]["total"], 0);
    api.fault(json!({"fault": "partial-list"}));
    assert_eq!(api.call("GET", "/droplets?page=2", Value::Null).status, 502);
    let other = api
        .send("GET", "/droplets", &Value::Null, "another's token")
        .unwrap();
    assert_eq!((other.status, &other.body["id"]), (401, &json!("unauthorized")));
}

#[test]
fn requests_are_limited_in_a_minute_and_in_an_hour() {
    let mut api = Api::with(&[("digitalocean_per_hour", "60")], "");
    for left in (57..60).rev() {
        let told = api.call("GET", "/account", Value::Null);
        assert_eq!(
            (told.header("ratelimit-limit"), told.header("ratelimit-remaining")),
            (Some(60), Some(left))
        );
    }
    let told = api.call("GET", "/account", Value::Null);
    assert_eq!((told.status, told.header("Retry-After")), (429, Some(60)));
    for _ in 0..19 {
        api.pass(60);
        for _ in 0..3 {
            assert_eq!(api.call("GET", "/account", Value::Null).status, 200);
        }
    }
    api.pass(60);
    let told = api.call("GET", "/account", Value::Null);
    // The first of the hour expire 40 minutes from now.
    assert_eq!((told.status, told.header("Retry-After")), (429, Some(2400)));
}

#[test]
fn tags_are_put_on_and_taken_off_and_count_what_bears_them() {
    let mut api = Api::new();
    let id = api.droplet(&json!({}));
    assert_eq!(
        api.call("POST", "/tags", json!({"name": "no blanks"})).status,
        400
    );
    for _ in 0..2 {
        assert_eq!(
            api.call("POST", "/tags", json!({"name": "runfleet-stack:prod"}))
                .status,
            201
        );
    }
    let path = "/tags/runfleet-stack:prod";
    let resources = json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    assert_eq!(
        api.call("POST", &format!("{path}/resources"), resources.clone())
            .status,
        204
    );
    let shown = api.get(path);
    assert_eq!(shown["tag"]["resources"]["droplets"]["count"], 1);
    assert_eq!(
        ids(&api.get("/droplets?tag_name=runfleet-stack:prod"), "droplets"),
        [id]
    );
    assert_eq!(
        api.call("DELETE", &format!("{path}/resources"), resources.clone())
            .status,
        204
    );
    assert_eq!(
        api.get("/droplets?tag_name=runfleet-stack:prod")["meta"]["total"],
        0
    );
    api.call("POST", &format!("{path}/resources"), resources);
    assert_eq!(api.call("DELETE", path, Value::Null).status, 204);
    assert_eq!(api.get(&format!("/droplets/{id}"))["droplet"]["tags"], json!([]));
    assert_eq!(api.call("GET", path, Value::Null).status, 404);
    let stranger = json!({"resources": [{"resource_id": "1", "resource_type": "droplet"}]});
    api.call("POST", "/tags", json!({"name": "a"}));
    assert_eq!(api.call("POST", "/tags/a/resources", stranger).status, 404);
}

#[test]
fn keys_are_found_by_id_and_by_fingerprint_and_are_there_once() {
    let mut api = Api::new();
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops";
    let made = api.call(
        "POST",
        "/account/keys",
        json!({"name": "ops", "public_key": line}),
    );
    assert_eq!(made.status, 201);
    let key = made.body["ssh_key"].clone();
    let twice = api.refused(
        "POST",
        "/account/keys",
        json!({"name": "again", "public_key": line}),
    );
    assert_eq!(
        twice,
        (422, "SSH Key is already in use on your account".to_owned())
    );
    assert_eq!(
        api.refused("POST", "/account/keys", json!({"name": "x", "public_key": "no"}))
            .0,
        422
    );
    let print = key["fingerprint"].as_str().unwrap();
    assert_eq!(
        api.get(&format!("/account/keys/{print}"))["ssh_key"]["id"],
        key["id"]
    );
    let path = format!("/account/keys/{}", key["id"]);
    assert_eq!(
        api.call("PUT", &path, json!({"name": "new"})).body["ssh_key"]["name"],
        "new"
    );
    api.droplet(&json!({"ssh_keys": [key["id"], print]}));
    assert_eq!(api.call("DELETE", &path, Value::Null).status, 204);
    assert_eq!(api.get("/account/keys")["meta"]["total"], 0);
}

#[test]
fn an_action_waits_for_the_one_before_it() {
    let mut api = Api::new();
    let id = api.droplet(&json!({}));
    let path = format!("/droplets/{id}/actions");
    let off = json!({"type": "power_off"});
    let early = api.refused("POST", &path, off.clone());
    assert_eq!(early, (422, "Droplet already has a pending event.".to_owned()));
    let status = |api: &mut Api| api.get(&format!("/droplets/{id}"))["droplet"]["status"].clone();
    api.pass(60);
    assert_eq!(api.call("POST", &path, off).status, 201);
    assert_eq!(status(&mut api), "off");
    api.pass(60);
    api.call("POST", &path, json!({"type": "power_on"}));
    assert_eq!(status(&mut api), "active");
    api.pass(60);
    api.call("POST", &path, json!({"type": "shutdown"}));
    api.pass(60);
    assert_eq!(status(&mut api), "off");
    let kinds: Vec<Value> = api.get(&path)["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action["type"].clone())
        .collect();
    assert_eq!(kinds, ["shutdown", "power_on", "power_off", "create"]);
    assert_eq!(
        api.refused("POST", &path, json!({"type": "fly"})).1,
        "You specified an invalid action type."
    );
}

#[test]
fn the_snapshots_of_a_tag_are_images() {
    let mut api = Api::with(
        &[],
        "[[droplet_snapshots]]\nname = \"old\"\ntags = [\"runner\"]\nage = \"2h\"\n\
         [[droplet_snapshots]]\nname = \"new\"\ntags = [\"runner\"]\nregions = [\"fra1\"]\n\
         [[droplet_snapshots]]\nname = \"other\"\n",
    );
    let found = api.get("/images?private=true&tag_name=runner");
    assert_eq!(found["meta"]["total"], 2);
    assert_eq!(found["images"][1]["name"], "new");
    assert_eq!(found["images"][1]["tags"], json!(["runner"]));
    assert_eq!(api.get("/images?private=true")["meta"]["total"], 3);
    assert_eq!(api.get("/snapshots?resource_type=droplet")["meta"]["total"], 3);
    let id = found["images"][1]["id"].clone();
    api.droplet(&json!({"region": "fra1", "image": id}));
    assert!(
        api.refused("POST", "/droplets", wanted(&json!({"image": id})))
            .1
            .contains("region")
    );
    assert_eq!(
        api.call("DELETE", &format!("/images/{id}"), Value::Null).status,
        204
    );
    assert_eq!(api.get("/images?tag_name=runner")["meta"]["total"], 1);
    assert_eq!(
        api.get("/images/debian-12-x64")["image"]["distribution"],
        "Debian"
    );
}

#[test]
fn a_firewall_covers_the_droplets_of_its_tags_from_their_first_second() {
    let mut api = Api::new();
    api.call("POST", "/tags", json!({"name": "walled"}));
    let rule = json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": ["10.0.0.0/8"]}});
    let body = json!({"name": "ssh", "tags": ["walled"], "inbound_rules": [rule.clone()]});
    let made = api.call("POST", "/firewalls", body.clone());
    assert_eq!(made.status, 202, "{}", made.body);
    let id = made.body["firewall"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        api.refused("POST", "/firewalls", body),
        (409, "duplicate name".to_owned())
    );
    let inside = api.droplet(&json!({"tags": ["walled"]}));
    let behind = api.get(&format!("/droplets/{inside}/firewalls"));
    assert_eq!(behind["firewalls"][0]["id"], json!(id));
    let outside = api.droplet(&json!({}));
    assert_eq!(
        api.get(&format!("/droplets/{outside}/firewalls"))["meta"]["total"],
        0
    );
    let path = format!("/firewalls/{id}");
    assert_eq!(
        api.call(
            "POST",
            &format!("{path}/droplets"),
            json!({"droplet_ids": [outside]})
        )
        .status,
        204
    );
    let shown = api.get(&path);
    assert_eq!(
        (&shown["firewall"]["status"], &shown["firewall"]["droplet_ids"]),
        (&json!("waiting"), &json!([outside]))
    );
    api.pass(2);
    assert_eq!(api.get(&path)["firewall"]["status"], "succeeded");
    let ping =
        json!({"protocol": "icmp", "ports": "8", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}});
    let rules = json!({"outbound_rules": [ping]});
    assert_eq!(
        api.call("POST", &format!("{path}/rules"), rules.clone()).status,
        204
    );
    assert_eq!(api.get(&path)["firewall"]["outbound_rules"][0]["ports"], "0");
    assert_eq!(api.call("DELETE", &format!("{path}/rules"), rules).status, 204);
    assert_eq!(api.get(&path)["firewall"]["outbound_rules"], json!([]));
    let bare = json!({"name": "ssh", "inbound_rules": [rule]});
    assert_eq!(
        api.call("PUT", &path, bare).body["firewall"]["tags"],
        json!([]),
        "what is left out is emptied"
    );
    api.call("DELETE", &format!("/droplets/{outside}"), Value::Null);
    assert_eq!(api.get(&path)["firewall"]["droplet_ids"], json!([]));
    let strange = json!({"name": "x1", "tags": ["none"], "inbound_rules": [{"protocol": "tcp", "ports": "1", "sources": {"addresses": ["::/0"]}}]});
    assert_eq!(api.refused("POST", "/firewalls", strange).0, 422);
    assert_eq!(api.refused("POST", "/firewalls", json!({"name": "empty"})).0, 400);
    assert_eq!(api.call("DELETE", &path, Value::Null).status, 204);
    assert_eq!(api.call("GET", &path, Value::Null).status, 404);
}

#[test]
fn a_vpc_has_one_range_and_stays_while_it_has_members() {
    let mut api = Api::new();
    let body = json!({"name": "lan", "region": "fra1", "ip_range": "10.9.0.0/28", "description": "d"});
    let made = api.call("POST", "/vpcs", body);
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.body["vpc"]["id"].as_str().unwrap().to_owned();
    let refused = [
        (json!({"name": "lan", "region": "fra1"}), 409, "already exists"),
        (
            json!({"name": "b", "region": "fra1", "ip_range": "10.9.0.0/24"}),
            422,
            "overlaps",
        ),
        (
            json!({"name": "b", "region": "fra1", "ip_range": "10.0.0.0/8"}),
            422,
            "not valid",
        ),
        (
            json!({"name": "b", "region": "fra1", "ip_range": "192.0.2.0/24"}),
            422,
            "not valid",
        ),
        (json!({"name": "b", "region": "mars"}), 422, "invalid region"),
        (json!({"name": "b c", "region": "fra1"}), 422, "invalid name"),
    ];
    for (body, status, said) in refused {
        let told = api.refused("POST", "/vpcs", body.clone());
        assert!(told.0 == status && told.1.contains(said), "{body}: {told:?}");
    }
    let inside = api.droplet(&json!({"region": "fra1", "vpc_uuid": id}));
    assert!(
        api.refused("POST", "/droplets", wanted(&json!({"vpc_uuid": id})))
            .1
            .contains("same region")
    );
    api.pass(2);
    let read = api.get(&format!("/droplets/{inside}"));
    assert_eq!(read["droplet"]["vpc_uuid"], json!(id));
    assert_eq!(read["droplet"]["networks"]["v4"][0]["ip_address"], "10.9.0.2");
    let path = format!("/vpcs/{id}");
    assert_eq!(
        api.get(&format!("{path}/members"))["members"][0]["urn"],
        json!(format!("do:droplet:{inside}"))
    );
    assert_eq!(
        api.refused("DELETE", &path, Value::Null),
        (403, "Can not delete VPC with members".to_owned())
    );
    let renamed = api.call("PATCH", &path, json!({"name": "lan2"}));
    assert_eq!(
        (&renamed.body["vpc"]["name"], &renamed.body["vpc"]["description"]),
        (&json!("lan2"), &json!("d"))
    );
    let replaced = api.call("PUT", &path, json!({"name": "lan2"}));
    assert_eq!(replaced.body["vpc"]["description"], "");
    api.call("DELETE", &format!("/droplets/{inside}"), Value::Null);
    assert_eq!(api.call("DELETE", &path, Value::Null).status, 204);
    // Every other droplet is in its region's default.
    let other = api.droplet(&json!({}));
    let default = api.get(&format!("/droplets/{other}"))["droplet"]["vpc_uuid"].clone();
    let path = format!("/vpcs/{}", default.as_str().unwrap());
    assert_eq!(api.get(&path)["vpc"]["default"], true);
    assert_eq!(api.refused("DELETE", &path, Value::Null).0, 403);
}

#[test]
fn a_world_with_droplets_is_read_back_with_its_indices() {
    let mut api = Api::new();
    let id = api.droplet(&json!({"tags": ["a"]}));
    let text = serde_json::to_string(&api.0).unwrap();
    let mut world: World = serde_json::from_str(&text).unwrap();
    let wall = world.now;
    world.revive(api.0.settings.clone(), wall);
    let mut again = Api(world);
    assert_eq!(ids(&again.get("/droplets?tag_name=a"), "droplets"), [id]);
    assert_eq!(ids(&again.get("/droplets?name=r1"), "droplets"), [id]);
}
