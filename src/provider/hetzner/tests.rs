#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::sync::Mutex as StdMutex;

use axum::{Router, body::Body, extract::State, response::Response};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    model::{
        ids::ResourceKind,
        offering::{Market, OfferingKey},
        resource::{ImageRef, MachineSpec},
    },
    net::{Auth, ClientConfig},
};

use super::*;

type Answers = fn(&http::Method, &str, &str) -> (u16, Value);

struct Cloud {
    answers: Answers,
    asked: StdMutex<Vec<String>>,
}

async fn answer(State(cloud): State<Arc<Cloud>>, request: http::Request<Body>) -> Response {
    let (path, query) = (
        request.uri().path().to_owned(),
        request.uri().query().unwrap_or("").to_owned(),
    );
    cloud
        .asked
        .lock()
        .unwrap()
        .push(format!("{} {path}?{query}", request.method()));
    let (status, body) = (cloud.answers)(request.method(), &path, &query);
    let mut response = http::Response::builder().status(status);
    if status == 429 {
        response = response.header("retry-after", "3600");
    }
    response.body(Body::from(body.to_string())).unwrap()
}

async fn provider(answers: Answers) -> (Hetzner, Arc<Cloud>) {
    let cloud = Arc::new(Cloud {
        answers,
        asked: StdMutex::default(),
    });
    let app = Router::new().fallback(answer).with_state(Arc::clone(&cloud));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config = ClientConfig {
        retries: 0,
        ..ClientConfig::new(base, Auth::Bearer(SecretString::from("t")))
    };
    (Hetzner::new("hetzner".into(), config, 50).unwrap(), cloud)
}

fn page(key: &str, rows: &[Value], page: u64, last: Option<u64>, total: Option<u64>) -> Value {
    json!({key: rows, "meta": {"pagination": {"page": page, "per_page": 50, "previous_page": null,
        "next_page": last.filter(|last| page < *last).map(|_| page + 1), "last_page": last, "total_entries": total}}})
}

fn number(query: &str, key: &str) -> u64 {
    let pairs: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    pairs
        .iter()
        .find(|(name, _)| *name == key)
        .map_or(1, |(_, value)| value.parse().unwrap())
}

fn server(id: u64) -> Value {
    json!({"id": id, "name": format!("s{id}"), "status": "running", "created": "2026-11-01T00:00:00+00:00",
        "labels": {"runfleet-stack": "prod"}, "server_type": {"name": "cx33"}, "location": {"name": "fsn1"},
        "public_net": {"ipv4": null, "ipv6": null, "floating_ips": []}})
}

fn empty(path: &str) -> (u16, Value) {
    (200, page(path.trim_start_matches('/'), &[], 1, Some(1), Some(0)))
}

fn not_implemented(path: &str) -> (u16, Value) {
    (404, json!({"error": {"code": "not_found", "message": path}}))
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_makes_the_listing_partial_and_hides_no_other() {
    let (provider, _) = provider(|_, path, _| match path {
        "/servers" => {
            let rows = vec![server(1), json!({"id": 2, "name": 7}), server(3)];
            (200, page("servers", &rows, 1, Some(1), Some(3)))
        }
        _ => empty(path),
    })
    .await;
    let listing = provider.list(&"prod".into()).await.unwrap();
    let names: Vec<_> = listing.resources.iter().map(|seen| seen.name.as_str()).collect();
    assert_eq!(names, ["s1", "s3"]);
    let Completeness::Partial { why } = listing.completeness else {
        panic!("complete");
    };
    assert!(why.contains("row with id 2"), "{why}");
}

#[tokio::test]
async fn a_server_that_always_answers_the_same_page_is_partial() {
    // As a mock server from the API's own example answers.
    let (provider, cloud) = provider(|_, path, _| {
        (
            200,
            page(path.trim_start_matches('/'), &[], 3, Some(4), Some(100)),
        )
    })
    .await;
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert!(!listing.completeness.is_complete());
    assert_eq!(cloud.asked.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn the_number_of_pages_that_are_read_is_bounded() {
    let (provider, cloud) = provider(|_, path, query| match path {
        "/servers" => {
            let number = number(query, "page");
            (
                200,
                page("servers", &[server(number)], number, Some(1_000_000_000), None),
            )
        }
        _ => empty(path),
    })
    .await;
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert!(!listing.completeness.is_complete());
    assert_eq!((listing.resources.len(), listing.calls), (2000, 2004));
    assert_eq!(cloud.asked.lock().unwrap().len(), 2004);
}

#[tokio::test]
async fn two_hundred_pages_are_read_and_add_up() {
    let (provider, _) = provider(|_, path, query| match path {
        "/servers" => {
            let number = number(query, "page");
            let rows: Vec<_> = (0..50).map(|n| server(number * 50 + n)).collect();
            (200, page("servers", &rows, number, Some(200), Some(10_000)))
        }
        _ => empty(path),
    })
    .await;
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert_eq!(listing.completeness, Completeness::Complete);
    assert_eq!((listing.resources.len(), listing.calls), (10_000, 204));
}

fn machine(n: u32) -> Claim {
    let runner = format!("m{n}");
    Claim {
        labels: ClaimLabels {
            stack: "prod".into(),
            lineage: "l".into(),
            pool: Some("linux".into()),
            id: runner.clone(),
            hash: "h".into(),
            intent: "i".into(),
            registration: None,
        },
        spec: ResourceSpec::Machine(MachineSpec {
            task: None,
            networks: Vec::new(),
            placement_group: None,
            ec2: None,
            parts: std::collections::BTreeMap::new(),
            pool: "linux".into(),
            runner: runner.as_str().into(),
            name: format!("prod-linux-{runner}"),
            offering: OfferingKey {
                provider: "hetzner".into(),
                location: "fsn1".to_owned(),
                machine_type: "cx33".to_owned(),
                market: Market::OnDemand,
            },
            image: ImageRef::NewestOf("role=runner".to_owned()),
            public_ipv4: false,
            ssh_keys: vec![],
            firewalls: vec![],
        }),
        user_data: None,
        shared: vec![],
        accepted: crate::provider::Accepted::default(),
    }
}

/// Creates whose actions run until they are polled for.
fn creating(method: &http::Method, path: &str, query: &str) -> (u16, Value) {
    let image = |id: u64, architecture: &str, created: &str, status: &str| json!({"id": id, "name": null, "architecture": architecture, "created": created, "status": status});
    match (method.as_str(), path) {
        ("GET", "/server_types") => {
            let row = json!({"id": 1, "name": "cx33", "cores": 4, "memory": 8, "architecture": "x86", "prices": []});
            (200, page("server_types", &[row], 1, Some(1), Some(1)))
        }
        ("GET", "/images") => {
            let rows = vec![
                image(1, "x86", "2026-01-01T00:00:00Z", "available"),
                image(2, "x86", "2026-03-01T00:00:00Z", "available"),
                image(3, "arm", "2026-04-01T00:00:00Z", "available"),
                image(4, "x86", "2026-05-01T00:00:00Z", "creating"),
            ];
            (200, page("images", &rows, 1, Some(1), Some(4)))
        }
        ("POST", "/servers") => {
            let action = |id: u64| json!({"id": id, "command": "c", "status": "running", "progress": 0, "error": null});
            let id = u64::from(rand_id());
            let mut server = server(id);
            server["status"] = "initializing".into();
            (
                201,
                json!({"server": server, "action": action(id * 2), "next_actions": [action(id * 2 + 1)], "root_password": null}),
            )
        }
        ("GET", "/actions") => {
            let ids = query.split('&').filter_map(|pair| pair.strip_prefix("id="));
            let actions: Vec<_> = ids
                .map(|id| json!({"id": id.parse::<u64>().unwrap(), "status": "success", "error": null}))
                .collect();
            (200, json!({"actions": actions}))
        }
        _ => not_implemented(path),
    }
}

fn rand_id() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test]
async fn the_actions_of_many_creates_are_polled_together() {
    let (provider, cloud) = provider(creating).await;
    let claims: Vec<_> = (0..40).map(machine).collect();
    for made in provider.create(&claims).await {
        assert_eq!(made.unwrap().status, crate::model::resource::CloudStatus::Running);
    }
    let asked = cloud.asked.lock().unwrap();
    let polls: Vec<_> = asked
        .iter()
        .filter(|line| line.starts_with("GET /actions"))
        .collect();
    assert!(polls.iter().all(|line| line.matches("id=").count() <= 25));
    // 80 actions are 4 requests, if all servers are made before the first poll; never one for each.
    assert!(polls.len() < 20, "{}", polls.len());
    let once = |path: &str| asked.iter().filter(|line| line.contains(path)).count();
    assert_eq!(
        (once("/images"), once("/server_types")),
        (1, 1),
        "an image is looked up once for a burst"
    );
}

#[tokio::test]
async fn what_was_prepared_is_not_looked_up_again() {
    let (provider, cloud) = provider(creating).await;
    let claim = machine(1);
    provider.prepare(&claim.spec).await;
    let before: Vec<_> = cloud.asked.lock().unwrap().drain(..).collect();
    assert_eq!(
        before.len(),
        2,
        "the type's architecture and the image: {before:?}"
    );
    provider.create(&[claim]).await.remove(0).unwrap();
    let first = cloud.asked.lock().unwrap()[0].clone();
    assert!(first.starts_with("POST /servers"), "{first}");
}

#[tokio::test]
async fn the_newest_usable_image_of_the_right_architecture_is_booted() {
    let (provider, _) = provider(creating).await;
    let selector = ImageRef::NewestOf("role=runner".to_owned());
    assert_eq!(
        provider.find_image(&selector, Architecture::X86).await.unwrap(),
        Some(2)
    );
    assert_eq!(
        provider.find_image(&selector, Architecture::Arm).await.unwrap(),
        Some(3)
    );
}

#[tokio::test]
async fn a_machine_is_not_made_without_the_firewall_that_it_names() {
    let (provider, cloud) = provider(creating).await;
    let mut claim = machine(1);
    if let ResourceSpec::Machine(spec) = &mut claim.spec {
        spec.firewalls = vec!["default".to_owned()];
    }
    claim.shared = vec![ResourceRef {
        provider: "another".into(),
        kind: ResourceKind::Firewall,
        id: "1".into(),
    }];
    let error = provider.create(&[claim]).await.remove(0).unwrap_err();
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    assert!(cloud.asked.lock().unwrap().is_empty());
}

fn target(kind: ResourceKind, id: &str) -> ResourceRef {
    ResourceRef {
        provider: "hetzner".into(),
        kind,
        id: id.into(),
    }
}

fn network(servers: &[u64]) -> (u16, Value) {
    let part = json!({"type": "cloud", "ip_range": "10.0.0.0/24", "network_zone": "eu-central", "gateway": "10.0.0.1"});
    let network = json!({"id": 1, "name": "prod-lan", "created": "2026-11-01T00:00:00Z", "labels": {},
        "ip_range": "10.0.0.0/16", "subnets": [part], "servers": servers});
    (200, json!({"network": network}))
}

#[tokio::test]
async fn a_network_is_not_taken_from_under_a_server() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let (provider, cloud) = provider(|method, path, _| match method.as_str() {
        "GET" if ASKED.fetch_add(1, Ordering::Relaxed) == 0 => network(&[7]),
        "GET" => network(&[]),
        "DELETE" => (204, Value::Null),
        _ => not_implemented(path),
    })
    .await;
    provider
        .delete(&target(ResourceKind::Network, "1"))
        .await
        .unwrap();
    let asked = cloud.asked.lock().unwrap();
    let methods: Vec<_> = asked
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(method, _)| method)
        .collect();
    assert_eq!(methods, ["GET", "GET", "DELETE"]);
}

#[tokio::test]
async fn a_refusal_after_another_change_of_the_same_network_is_not_definite() {
    fn answers(method: &http::Method, path: &str, deletes: bool) -> (u16, Value) {
        match (method.as_str(), path) {
            ("GET", "/networks/1") => network(&[]),
            ("POST", "/networks/1/actions/delete_subnet") if deletes => {
                let action = json!({"id": 5, "status": "success", "error": null});
                (201, json!({"action": action}))
            }
            _ => (
                422,
                json!({"error": {"code": "service_error", "message": "servers are attached"}}),
            ),
        }
    }
    let want = ResourceSpec::Network(crate::model::resource::NetworkSpec {
        name: "prod-lan".to_owned(),
        ip_range: "10.0.0.0/16".to_owned(),
        subnets: vec![crate::model::resource::Subnet {
            ip_range: "10.0.1.0/24".to_owned(),
            zone: "eu-central".to_owned(),
        }],
    });
    let cases: [(Answers, bool); 2] = [
        (|method, path, _| answers(method, path, false), true),
        (|method, path, _| answers(method, path, true), false),
    ];
    for (answers, definite) in cases {
        let (provider, _) = provider(answers).await;
        let have = provider
            .read(&target(ResourceKind::Network, "1"))
            .await
            .unwrap()
            .unwrap();
        let error = provider.update(&have, &want).await.unwrap_err();
        assert_eq!(error.is_definite(), definite, "{error}");
    }
}

#[tokio::test]
async fn too_many_requests_says_when_to_ask_again() {
    let (provider, _) = provider(|_, _, _| {
        (
            429,
            json!({"error": {"code": "rate_limit_exceeded", "message": "m"}}),
        )
    })
    .await;
    let error = provider
        .delete(&target(ResourceKind::Machine, "1"))
        .await
        .unwrap_err();
    let retry_after = Some(Duration::from_secs(3600));
    assert_eq!(error, ProviderError::Throttled { retry_after });
}

#[test]
fn the_real_api_is_never_asked_without_a_budget() {
    let new = |base: &str| Hetzner::new("h".into(), ClientConfig::new(base, Auth::None), 1).unwrap();
    assert_eq!(new(ENDPOINT).profile().requests_per_hour, Some(REQUESTS_PER_HOUR));
    assert_eq!(new("http://127.0.0.1:1").profile().requests_per_hour, None);
}
