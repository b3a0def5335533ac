//! Networks and placement groups as the API has them, call by call.

use serde_json::{Value, json};

use super::super::{
    api::{Call, Found, Party, Reply, find},
    faults::Twists,
    scenario::Scenario,
    settings::Settings,
    world::{World, add},
};

struct Api(World);

impl Api {
    fn new() -> Self {
        let wall = "2026-11-01T00:00:00Z".parse().unwrap();
        Self(World::new(
            7,
            None,
            &Scenario::default(),
            Settings::default(),
            wall,
        ))
    }

    fn twisted(&mut self, method: &str, path: &str, body: Value, twists: Twists) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Found::Route(route, params) = find(Party::Hetzner, method, path) else {
            panic!("no route {path}");
        };
        let call = Call {
            params,
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            body,
            twists,
            ..Call::default()
        };
        let told = |reply: Reply| {
            (
                reply.status,
                serde_json::from_slice(&reply.body).unwrap_or_default(),
            )
        };
        (route.handler)(&mut self.0, &call).map_or_else(told, told)
    }

    fn call(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.twisted(method, path, body, Twists::default())
    }

    /// The code of a refusal.
    fn refused(&mut self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, body) = self.call(method, path, body);
        (
            status,
            body["error"]["code"].as_str().unwrap_or_default().to_owned(),
        )
    }

    fn network(&mut self, name: &str, range: &str, parts: &[(&str, &str)]) -> u64 {
        let parts: Vec<Value> = parts
            .iter()
            .map(|(range, zone)| json!({"type": "cloud", "ip_range": range, "network_zone": zone}))
            .collect();
        let body = json!({"name": name, "ip_range": range, "subnets": parts});
        let (status, body) = self.call("POST", "/networks", body);
        assert_eq!(status, 201, "{body}");
        body["network"]["id"].as_u64().unwrap()
    }

    fn group(&mut self, name: &str) -> u64 {
        let (status, body) = self.call(
            "POST",
            "/placement_groups",
            json!({"name": name, "type": "spread"}),
        );
        assert_eq!(status, 201, "{body}");
        body["placement_group"]["id"].as_u64().unwrap()
    }

    fn server(&mut self, more: &Value) -> (u16, Value) {
        let name = format!("s{}", self.0.cloud.servers.len());
        let mut body = json!({"name": name, "server_type": "cx23", "image": "debian-12", "location": "nbg1"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.call("POST", "/servers", body)
    }

    fn pass(&mut self) {
        let to = add(self.0.now, jiff::SignedDuration::from_mins(1));
        self.0.advance(to);
    }
}

#[test]
fn a_server_is_attached_once_it_is_initialized_and_its_network_says_so() {
    let mut api = Api::new();
    let network = api.network("lan", "10.0.0.0/16", &[("10.0.0.0/24", "eu-central")]);
    let (status, made) = api.server(&json!({"networks": [network]}));
    assert_eq!((status, &made["server"]["private_net"]), (201, &json!([])));
    let commands: Vec<_> = made["next_actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["command"])
        .collect();
    assert_eq!(commands, ["attach_to_network", "start_server"]);
    api.pass();
    let id = &made["server"]["id"];
    let (_, read) = api.call("GET", &format!("/servers/{id}"), Value::Null);
    let net = &read["server"]["private_net"][0];
    assert_eq!(
        (&net["network"], &net["ip"]),
        (&json!(network), &json!("10.0.0.2"))
    );
    let path = format!("/networks/{network}");
    assert_eq!(
        api.call("GET", &path, Value::Null).1["network"]["servers"],
        json!([id])
    );
    api.call("DELETE", &format!("/servers/{id}"), Value::Null);
    assert_eq!(
        api.call("GET", &path, Value::Null).1["network"]["servers"],
        json!([])
    );
}

#[test]
fn a_network_that_is_deleted_is_taken_from_under_its_servers() {
    let mut api = Api::new();
    let network = api.network("lan", "10.0.0.0/16", &[("10.0.0.0/24", "eu-central")]);
    let group = api.group("apart");
    let (_, made) = api.server(&json!({"networks": [network], "placement_group": group}));
    assert_eq!(
        made["server"]["placement_group"]["servers"],
        json!([made["server"]["id"]])
    );
    api.pass();
    let protect = format!("/networks/{network}/actions/change_protection");
    assert_eq!(api.call("POST", &protect, json!({"delete": true})).0, 201);
    let path = format!("/networks/{network}");
    assert_eq!(
        api.refused("DELETE", &path, Value::Null),
        (423, "protected".to_owned())
    );
    api.pass();
    assert_eq!(api.call("POST", &protect, json!({"delete": false})).0, 201);
    assert_eq!(api.call("DELETE", &path, Value::Null).0, 204);
    assert_eq!(
        api.call("DELETE", &format!("/placement_groups/{group}"), Value::Null)
            .0,
        204
    );
    let (_, read) = api.call("GET", &format!("/servers/{}", made["server"]["id"]), Value::Null);
    assert_eq!(read["server"]["private_net"], json!([]));
    assert_eq!(read["server"]["placement_group"], Value::Null);
}

#[test]
fn subnets_stay_apart_and_within_and_change_one_at_a_time() {
    let mut api = Api::new();
    let network = api.network("lan", "10.0.0.0/16", &[("10.0.0.0/24", "eu-central")]);
    let path = |action: &str| format!("/networks/{network}/actions/{action}");
    let part = |range: &str| json!({"type": "cloud", "ip_range": range, "network_zone": "eu-central"});
    for range in [
        "10.0.0.128/25",
        "10.1.0.0/24",
        "10.0.1.0/31",
        "10.0.1.1/24",
        "lan",
    ] {
        let refused = api.refused("POST", &path("add_subnet"), part(range));
        assert_eq!(refused, (422, "invalid_input".to_owned()), "{range}");
    }
    assert_eq!(api.call("POST", &path("add_subnet"), part("10.0.1.0/24")).0, 201);
    let refused = api.refused("POST", &path("add_subnet"), part("10.0.2.0/24"));
    assert_eq!(refused, (409, "conflict".to_owned()));
    api.pass();
    let anywhere = json!({"type": "cloud", "network_zone": "us-east"});
    let (status, body) = api.call("POST", &path("add_subnet"), anywhere);
    assert_eq!((status, &body["action"]["command"]), (201, &json!("add_subnet")));
    api.pass();
    api.server(&json!({"networks": [network]}));
    api.pass();
    let refused = api.refused("POST", &path("delete_subnet"), json!({"ip_range": "10.0.0.0/24"}));
    assert_eq!(refused, (422, "service_error".to_owned()));
    assert_eq!(
        api.call("POST", &path("delete_subnet"), json!({"ip_range": "10.0.1.0/24"}))
            .0,
        201
    );
    let (_, read) = api.call("GET", &format!("/networks/{network}"), Value::Null);
    let ranges: Vec<_> = read["network"]["subnets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["ip_range"])
        .collect();
    assert_eq!(ranges, ["10.0.0.0/24", "10.0.2.0/24"]);
}

#[test]
fn a_server_needs_a_subnet_in_its_zone_and_ranges_that_do_not_overlap() {
    let mut api = Api::new();
    let far = api.network("far", "10.0.0.0/16", &[("10.0.0.0/24", "us-east")]);
    let near = api.network("near", "10.1.0.0/16", &[("10.1.0.0/24", "eu-central")]);
    let over = api.network("over", "10.1.0.0/24", &[("10.1.0.0/24", "eu-central")]);
    for (networks, code) in [
        (json!([far]), "no_subnet_available"),
        (json!([near, over]), "networks_overlap"),
        (json!([4711]), "invalid_input"),
    ] {
        let (status, body) = api.server(&json!({"networks": networks}));
        assert_eq!((status, &body["error"]["code"]), (422, &json!(code)));
    }
    assert!(api.0.cloud.servers.is_empty());
}

#[test]
fn a_group_holds_ten_and_the_eleventh_is_refused() {
    let mut api = Api::new();
    let group = api.group("apart");
    for _ in 0..10 {
        assert_eq!(api.server(&json!({"placement_group": group})).0, 201);
    }
    let (status, body) = api.server(&json!({"placement_group": group}));
    let code = "placement_group_member_limit_reached";
    assert_eq!((status, &body["error"]["code"]), (422, &json!(code)));
    assert_eq!(api.0.cloud.servers.len(), 10);
    let first = *api.0.cloud.servers.keys().next().unwrap();
    api.call("DELETE", &format!("/servers/{first}"), Value::Null);
    let made = api.call(
        "POST",
        "/servers",
        json!({"name": "new", "server_type": "cx23", "image": "debian-12", "placement_group": group}),
    );
    assert_eq!(made.0, 201, "a place was free");
}

#[test]
fn names_are_unique_and_labels_select() {
    let mut api = Api::new();
    api.network("lan", "10.0.0.0/16", &[]);
    let again = api.refused(
        "POST",
        "/networks",
        json!({"name": "lan", "ip_range": "10.1.0.0/16"}),
    );
    assert_eq!(again, (409, "uniqueness_error".to_owned()));
    let public = api.refused(
        "POST",
        "/networks",
        json!({"name": "pub", "ip_range": "8.8.0.0/16"}),
    );
    assert_eq!(public, (422, "invalid_input".to_owned()));
    let group = api.group("apart");
    let again = api.refused(
        "POST",
        "/placement_groups",
        json!({"name": "apart", "type": "spread"}),
    );
    assert_eq!(again, (409, "uniqueness_error".to_owned()));
    let path = format!("/placement_groups/{group}");
    let labelled = api.call("PUT", &path, json!({"labels": {"stack": "a"}}));
    assert_eq!(
        (labelled.0, &labelled.1["placement_group"]["name"]),
        (200, &json!("apart"))
    );
    for (selector, count) in [("stack==a", 1), ("stack", 1), ("stack==b", 0)] {
        let (_, body) = api.call(
            "GET",
            &format!("/placement_groups?label_selector={selector}"),
            Value::Null,
        );
        assert_eq!(body["meta"]["pagination"]["total_entries"], count, "{selector}");
    }
}

#[test]
fn what_somebody_changes_on_a_server_is_seen() {
    let mut api = Api::new();
    let network = api.network("lan", "10.0.0.0/16", &[("10.0.0.0/24", "eu-central")]);
    let group = api.group("apart");
    let (_, made) = api.server(&json!({}));
    let path = format!("/servers/{}", made["server"]["id"]);
    let act = |action: &str| format!("{path}/actions/{action}");
    api.pass();
    let wanted = json!({"server_type": "cx33", "upgrade_disk": false});
    let refused = api.refused("POST", &act("change_type"), wanted.clone());
    assert_eq!(refused, (422, "server_not_stopped".to_owned()));
    api.call("POST", &act("poweroff"), Value::Null);
    api.pass();
    assert_eq!(
        api.call(
            "POST",
            &act("add_to_placement_group"),
            json!({"placement_group": group})
        )
        .0,
        201
    );
    assert_eq!(
        api.call("POST", &act("attach_to_network"), json!({"network": network}))
            .0,
        201
    );
    assert_eq!(api.call("POST", &act("change_type"), wanted).0, 201);
    api.pass();
    let (_, read) = api.call("GET", &path, Value::Null);
    let server = &read["server"];
    assert_eq!(server["server_type"]["name"], "cx33");
    assert_eq!(server["status"], "running");
    assert_eq!(server["placement_group"]["id"], group);
    assert_eq!(server["private_net"][0]["network"], network);
    assert_eq!(
        api.call("POST", &act("detach_from_network"), json!({"network": network}))
            .0,
        201
    );
    assert_eq!(
        api.call("POST", &act("remove_from_placement_group"), Value::Null)
            .0,
        201
    );
    let (_, read) = api.call("GET", &path, Value::Null);
    assert_eq!(
        (&read["server"]["private_net"], &read["server"]["placement_group"]),
        (&json!([]), &Value::Null)
    );
}

#[test]
fn a_world_that_is_read_back_has_them_and_one_of_an_earlier_version_has_none() {
    let mut api = Api::new();
    let network = api.network("lan", "10.0.0.0/16", &[("10.0.0.0/24", "eu-central")]);
    let group = api.group("apart");
    let (_, made) = api.server(&json!({"networks": [network], "placement_group": group}));
    api.pass();
    let paths = [
        format!("/servers/{}", made["server"]["id"]),
        format!("/networks/{network}"),
        format!("/placement_groups/{group}"),
    ];
    let shown = |api: &mut Api| paths.clone().map(|path| api.call("GET", &path, Value::Null));
    let before = shown(&mut api);
    let mut file = serde_json::to_value(&api.0).unwrap();
    let revived = |file: &Value| {
        let mut world: World = serde_json::from_value(file.clone()).unwrap();
        let wall = world.now;
        world.revive(Settings::default(), wall);
        Api(world)
    };
    assert_eq!(shown(&mut revived(&file)), before);
    let cloud = file["cloud"].as_object_mut().unwrap();
    cloud.remove("networks");
    cloud.remove("placement_groups");
    for server in cloud["servers"].as_object_mut().unwrap().values_mut() {
        let server = server.as_object_mut().unwrap();
        assert!(server.remove("networks").is_some() && server.remove("placement_group").is_some());
    }
    let [server, network, group] = shown(&mut revived(&file));
    assert_eq!((server.0, network.0, group.0), (200, 404, 404));
    assert_eq!(server.1["server"]["private_net"], json!([]));
}

#[test]
fn a_change_whose_action_is_to_fail_changes_nothing() {
    let mut api = Api::new();
    let network = api.network("lan", "10.0.0.0/16", &[]);
    let twists = Twists {
        action_error: true,
        ..Twists::default()
    };
    let part = json!({"type": "cloud", "ip_range": "10.0.0.0/24", "network_zone": "eu-central"});
    let path = format!("/networks/{network}/actions/add_subnet");
    let (status, body) = api.twisted("POST", &path, part, twists);
    assert_eq!(status, 201);
    api.pass();
    let (_, action) = api.call("GET", &format!("/actions/{}", body["action"]["id"]), Value::Null);
    assert_eq!(action["action"]["status"], "error");
    let (_, read) = api.call("GET", &format!("/networks/{network}"), Value::Null);
    assert_eq!(read["network"]["subnets"], json!([]));
}
