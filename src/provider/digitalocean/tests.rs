#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::sync::Mutex as StdMutex;

use axum::{Router, body::Body, extract::State, response::Response};
use secrecy::SecretString;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    model::{
        offering::{Market, OfferingKey},
        resource::{CloudStatus, ImageRef, MachineSpec},
    },
    net::{Auth, ClientConfig},
};

use super::{wire::reference, *};

/// What the cloud answers to a method, a path and a query; none: the connection is cut.
type Answers = Box<dyn FnMut(&http::Method, &str, &str, &Value) -> Option<(u16, Value)> + Send>;

struct Cloud {
    answers: StdMutex<Answers>,
    asked: StdMutex<Vec<(String, Value)>>,
}

impl Cloud {
    /// What was asked: `GET /droplets?name=n`.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(line, _)| line.clone()).collect()
    }

    fn bodies(&self, line: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let those = asked.iter().filter(|(asked, _)| asked.starts_with(line));
        those.map(|(_, body)| body.clone()).collect()
    }
}

async fn answer(State(cloud): State<Arc<Cloud>>, request: http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (path, query) = (
        parts.uri.path().to_owned(),
        parts.uri.query().unwrap_or("").to_owned(),
    );
    let answer = (cloud.answers.lock().unwrap())(&parts.method, &path, &query, &body);
    let line = format!("{} {path}?{query}", parts.method);
    cloud.asked.lock().unwrap().push((line, body));
    let Some((status, body)) = answer else {
        // A body that breaks off: the answer is lost.
        let broken = futures::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("cut"))]);
        return http::Response::new(Body::from_stream(broken));
    };
    let mut response = http::Response::builder().status(status);
    if status == 429 {
        response = response.header("retry-after", "3600");
    }
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    response.body(Body::from(text)).unwrap()
}

async fn provider(
    answers: impl FnMut(&http::Method, &str, &str, &Value) -> Option<(u16, Value)> + Send + 'static,
) -> (Digitalocean, Arc<Cloud>) {
    let cloud = Arc::new(Cloud {
        answers: StdMutex::new(Box::new(answers)),
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
    (Digitalocean::new("do".into(), config, 50).unwrap(), cloud)
}

#[expect(clippy::unnecessary_wraps, reason = "an answer")]
fn page(key: &str, rows: &[Value], total: u64) -> Option<(u16, Value)> {
    Some((200, json!({key: rows, "links": {}, "meta": {"total": total}})))
}

/// An empty page of whatever a path lists.
fn empty(path: &str) -> Option<(u16, Value)> {
    let key = match path {
        "/account/keys" => "ssh_keys",
        _ => path.rsplit('/').next().unwrap(),
    };
    page(key, &[], 0)
}

fn not_found() -> Option<(u16, Value)> {
    refusal(
        404,
        "not_found",
        "The resource you were accessing could not be found.",
    )
}

#[expect(clippy::unnecessary_wraps, reason = "an answer")]
fn refusal(status: u16, id: &str, message: &str) -> Option<(u16, Value)> {
    Some((status, json!({"id": id, "message": message, "request_id": "r"})))
}

fn droplet(id: u64, name: &str, status: &str, tags: &[&str]) -> Value {
    json!({"id": id, "name": name, "status": status, "created_at": "2026-11-01T00:00:00Z", "size_slug": "s-1vcpu-1gb",
        "region": {"slug": "fra1", "name": "Frankfurt 1"}, "tags": tags, "networks": {"v4": [], "v6": []},
        "vpc_uuid": "v-default"})
}

const PROD: &[&str] = &["runfleet-stack:prod"];

/// The tags of [`machine`]'s droplet, made by an attempt.
fn claimed(id: &str, intent: &str) -> Vec<String> {
    let own = format!("runfleet-claim:{intent}:{id}");
    [
        "runfleet-stack:prod",
        "runfleet-lineage:l",
        "runfleet-pool:linux",
        "runfleet-hash:h",
        &own,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn machine(id: &str) -> Claim {
    Claim {
        labels: ClaimLabels {
            stack: "prod".into(),
            lineage: "l".into(),
            pool: Some("linux".into()),
            id: id.to_owned(),
            hash: "h".into(),
            intent: format!("i-{id}").as_str().into(),
            registration: None,
        },
        spec: ResourceSpec::Machine(MachineSpec {
            task: None,
            networks: Vec::new(),
            placement_group: None,
            ec2: None,
            parts: BTreeMap::new(),
            pool: "linux".into(),
            runner: id.into(),
            name: format!("prod-linux-{id}"),
            offering: OfferingKey {
                provider: "do".into(),
                location: "fra1".to_owned(),
                machine_type: "s-1vcpu-1gb".to_owned(),
                market: Market::OnDemand,
            },
            image: ImageRef::Name("debian-12-x64".to_owned()),
            public_ipv4: true,
            ssh_keys: vec![],
            firewalls: vec![],
        }),
        user_data: Some(SecretString::from("#cloud-config\n")),
        shared: vec![],
        accepted: crate::provider::Accepted::default(),
    }
}

fn target(kind: ResourceKind, id: &str) -> ResourceRef {
    reference(&"do".into(), kind, id)
}

fn strings(tags: &[String]) -> Vec<&str> {
    tags.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_makes_the_listing_partial_and_hides_no_other() {
    let (provider, cloud) = provider(|_, path, _, _| match path {
        "/droplets" => {
            let rows = [
                droplet(1, "s1", "active", PROD),
                json!({"id": 2, "name": 7}),
                droplet(3, "s3", "active", PROD),
            ];
            page("droplets", &rows, 3)
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
    let asked = cloud.asked();
    let by_tag = "GET /droplets?tag_name=runfleet-stack%3Aprod&per_page=200&page=1";
    assert!(asked.iter().any(|line| line == by_tag), "{asked:?}");
}

#[tokio::test]
async fn pages_that_say_no_end_are_bounded_and_never_whole() {
    let (provider, _) = provider(|_, path, query, _| match path {
        "/droplets" => {
            let number = query.rsplit('=').next().unwrap().parse().unwrap();
            page("droplets", &[droplet(number, "n", "active", PROD)], u64::MAX)
        }
        _ => empty(path),
    })
    .await;
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert!(!listing.completeness.is_complete());
    assert_eq!((listing.resources.len(), listing.calls), (500, 503));
}

#[tokio::test]
async fn a_listing_tells_which_firewalls_and_which_vpc_a_droplet_uses_where_it_knows_them_all() {
    fn answers(path: &str, whole: bool) -> Option<(u16, Value)> {
        match path {
            "/droplets" => {
                let tags = ["runfleet-stack:prod", "runfleet-firewall:prod-default:i"];
                let mut chosen = droplet(2, "s2", "active", &tags);
                chosen["vpc_uuid"] = "v-ours".into();
                page("droplets", &[droplet(1, "s1", "active", PROD), chosen], 2)
            }
            "/firewalls" => {
                let row = json!({"id": "f-1", "name": "prod-default", "created_at": "2026-11-01T00:00:00Z",
                    "tags": ["runfleet-firewall:prod-default:i", "runfleet:stack:prod"], "droplet_ids": [],
                    "inbound_rules": [], "outbound_rules": []});
                page("firewalls", &[row], if whole { 1 } else { 2 })
            }
            "/vpcs" => {
                let vpc = |id: &str, default: bool| {
                    json!({"id": id, "name": id, "description": "", "region": "fra1",
                    "ip_range": "10.0.0.0/20", "default": default, "created_at": "2026-11-01T00:00:00Z"})
                };
                page("vpcs", &[vpc("v-default", true), vpc("v-ours", false)], 2)
            }
            _ => empty(path),
        }
    }
    for whole in [true, false] {
        let (provider, _) = provider(move |_, path, _, _| answers(path, whole)).await;
        let listing = provider.list(&"prod".into()).await.unwrap();
        let uses = |id: &str| {
            let seen = listing
                .resources
                .iter()
                .find(|seen| seen.target.id.as_str() == id);
            seen.unwrap().uses.clone()
        };
        let both = vec![
            target(ResourceKind::Network, "v-ours"),
            target(ResourceKind::Firewall, "f-1"),
        ];
        assert_eq!(uses("1"), whole.then(Vec::new));
        assert_eq!(uses("2"), whole.then_some(both));
    }
}

/// A cloud in which creates are accepted, and their droplets come up at the next look.
#[derive(Default)]
struct Account {
    droplets: Vec<Value>,
    /// How their actions end.
    errored: bool,
    /// Whether what was accepted is not there when it is looked at.
    vanishes: bool,
    /// How many answers to creates are lost.
    lost: u32,
    /// How often one create is done.
    doubled: bool,
}

impl Account {
    fn answer(
        &mut self,
        method: &http::Method,
        path: &str,
        query: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let id = |path: &str| path.rsplit('/').next().and_then(|id| id.parse::<u64>().ok());
        match (method.as_str(), path) {
            ("GET", "/droplets") => {
                let name = query.split('&').find_map(|pair| pair.strip_prefix("name="));
                let rows: Vec<_> = self
                    .droplets
                    .iter()
                    .filter(|row| name.is_none_or(|name| row["name"] == name))
                    .cloned()
                    .collect();
                page("droplets", &rows, rows.len() as u64)
            }
            ("POST", "/droplets") => self.create(body),
            ("GET", "/actions") => {
                let rows: Vec<_> = self.droplets.iter().map(|row| self.action(row)).collect();
                page("actions", &rows, rows.len() as u64)
            }
            ("GET", path) if path.starts_with("/actions/") => {
                let row = self
                    .droplets
                    .iter()
                    .find(|row| row["id"].as_u64().map(|id| id * 10) == id(path));
                row.map_or_else(not_found, |row| Some((200, json!({"action": self.action(row)}))))
            }
            ("GET", path) if path.starts_with("/droplets/") => {
                let row = self
                    .droplets
                    .iter_mut()
                    .find(|row| row["id"].as_u64() == id(path));
                let Some(row) = row.filter(|_| !self.vanishes) else {
                    return not_found();
                };
                row["status"] = "active".into();
                Some((200, json!({"droplet": row})))
            }
            ("DELETE", path) if path.starts_with("/droplets/") => {
                self.droplets.retain(|row| row["id"].as_u64() != id(path));
                Some((204, Value::Null))
            }
            ("POST", "/tags") => Some((201, json!({"tag": body}))),
            ("POST", path) if path.starts_with("/tags/") => {
                let tag = path.trim_start_matches("/tags/").trim_end_matches("/resources");
                let id = body["resources"][0]["resource_id"]
                    .as_str()
                    .and_then(|id| id.parse::<u64>().ok());
                let row = self
                    .droplets
                    .iter_mut()
                    .find(|row| row["id"].as_u64() == id)
                    .unwrap();
                row["tags"].as_array_mut().unwrap().push(tag.into());
                Some((204, Value::Null))
            }
            ("DELETE", _) => Some((204, Value::Null)),
            ("GET", "/vpcs/v-default") => {
                let row = json!({"id": "v-default", "name": "default-fra1", "region": "fra1", "ip_range": "10.0.0.0/20",
                    "default": true, "created_at": "2026-11-01T00:00:00Z"});
                Some((200, json!({ "vpc": row })))
            }
            _ => empty(path),
        }
    }

    fn action(&self, row: &Value) -> Value {
        let status = if self.errored { "errored" } else { "completed" };
        json!({"id": row["id"].as_u64().unwrap() * 10, "status": status, "type": "create", "resource_id": row["id"]})
    }

    fn create(&mut self, body: &Value) -> Option<(u16, Value)> {
        let several = body["names"].as_array().cloned();
        let names = several.clone().unwrap_or_else(|| vec![body["name"].clone()]);
        let mut made = Vec::new();
        for _ in 0..=u32::from(self.doubled) {
            for name in &names {
                let tags: Vec<_> = body["tags"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|tag| tag.as_str().unwrap())
                    .collect();
                let row = droplet(
                    100 + self.droplets.len() as u64,
                    name.as_str().unwrap(),
                    "new",
                    &tags,
                );
                self.droplets.push(row.clone());
                made.push(row);
            }
        }
        if self.lost > 0 {
            self.lost -= 1;
            return None;
        }
        let actions: Vec<_> = made
            .iter()
            .map(|row| json!({"id": row["id"].as_u64().unwrap() * 10, "rel": "create"}))
            .collect();
        let links = json!({"actions": actions});
        Some((
            202,
            match several {
                Some(_) => json!({"droplets": made, "links": links}),
                None => json!({"droplet": made[0], "links": links}),
            },
        ))
    }
}

async fn with(account: Account) -> (Digitalocean, Arc<Cloud>, Arc<StdMutex<Account>>) {
    let account = Arc::new(StdMutex::new(account));
    let cloud = Arc::clone(&account);
    let (provider, asked) =
        provider(move |method, path, query, body| cloud.lock().unwrap().answer(method, path, query, body))
            .await;
    (provider, asked, account)
}

async fn create(provider: &Digitalocean, claim: &Claim) -> Result<Observed, ProviderError> {
    provider.create(std::slice::from_ref(claim)).await.remove(0)
}

#[tokio::test]
async fn a_create_says_all_that_a_runner_needs_and_ends_when_it_is_up() {
    let (provider, cloud, _) = with(Account::default()).await;
    let made = create(&provider, &machine("a")).await.unwrap();
    assert_eq!(
        (made.status, made.uses.as_deref()),
        (CloudStatus::Running, Some(&[][..]))
    );
    assert_eq!(made.labels, machine("a").labels.to_labels());
    let expected = json!({"name": "prod-linux-a", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
        "tags": ["runfleet-hash:h", "runfleet-lineage:l", "runfleet-pool:linux", "runfleet-stack:prod", "runfleet-claim:i-a:a"],
        "ssh_keys": [], "monitoring": true, "ipv6": true, "user_data": "#cloud-config\n"});
    assert_eq!(cloud.bodies("POST /droplets"), [expected]);
}

#[tokio::test]
async fn claims_that_differ_in_the_name_alone_are_made_ten_at_a_time_and_each_has_its_own_tag() {
    let (provider, cloud, _) = with(Account::default()).await;
    let mut claims: Vec<_> = (0..12).map(|n| machine(&format!("m{n}"))).collect();
    claims[3].user_data = Some(SecretString::from("#cloud-config\n# another token\n"));
    let answers = provider.create(&claims).await;
    for (claim, answer) in claims.iter().zip(answers) {
        let seen = answer.unwrap();
        assert_eq!(
            (seen.name.as_str(), &seen.claim().unwrap()),
            (claim.spec.name(), &claim.labels)
        );
    }
    let sizes: Vec<_> = cloud
        .bodies("POST /droplets")
        .iter()
        .map(|body| body["names"].as_array().map(Vec::len))
        .collect();
    let (mut many, single): (Vec<_>, Vec<_>) = sizes.into_iter().partition(Option::is_some);
    many.sort_unstable();
    assert_eq!(
        (many, single.len()),
        (vec![Some(10)], 2),
        "one of another token, and the eleventh"
    );
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_found_and_not_made_again() {
    let (provider, cloud, _) = with(Account {
        lost: 1,
        ..Account::default()
    })
    .await;
    let made = create(&provider, &machine("a")).await.unwrap();
    assert_eq!(made.target.id.as_str(), "100");
    let again = create(&provider, &machine("a")).await.unwrap();
    assert_eq!(
        (again.target, cloud.bodies("POST /droplets").len()),
        (made.target, 1)
    );
}

#[tokio::test]
async fn of_two_droplets_of_one_attempt_the_lowest_id_stays_and_those_of_another_attempt_are_let_be() {
    let another = claimed("a", "i-before");
    let account = Account {
        droplets: vec![droplet(
            300,
            "prod-linux-b",
            "active",
            &strings(&claimed("b", "i-b")),
        )],
        lost: 1,
        doubled: true,
        ..Account::default()
    };
    let (provider, _, account) = with(account).await;
    let made = create(&provider, &machine("a")).await.unwrap();
    assert_eq!(made.target.id.as_str(), "101");
    let ids = |account: &StdMutex<Account>| {
        let account = account.lock().unwrap();
        account
            .droplets
            .iter()
            .map(|row| row["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&account), [300, 101]);
    account
        .lock()
        .unwrap()
        .droplets
        .push(droplet(400, "prod-linux-a", "active", &strings(&another)));
    let again = create(&provider, &machine("a")).await.unwrap();
    assert_eq!(again.target, made.target);
    assert_eq!(
        ids(&account),
        [300, 101, 400],
        "it may run a job: a plan removes it with care"
    );
}

#[tokio::test]
async fn what_one_call_made_and_a_crash_left_without_its_tag_is_found_by_its_name() {
    let left = &claimed("a", "i")[..4];
    let account = Account {
        droplets: vec![droplet(7, "prod-linux-a", "active", &strings(left))],
        ..Account::default()
    };
    let (provider, cloud, _) = with(account).await;
    let adopted = create(&provider, &machine("a")).await.unwrap();
    assert_eq!(adopted.claim(), Some(machine("a").labels));
    assert_eq!(cloud.bodies("POST /droplets").len(), 0);
}

#[tokio::test]
async fn a_droplet_of_somebody_else_with_the_name_is_never_taken() {
    let mut foreign = claimed("a", "i-a");
    foreign[1] = "runfleet-lineage:other".to_owned();
    for tags in [foreign, vec![]] {
        let account = Account {
            droplets: vec![droplet(7, "prod-linux-a", "active", &strings(&tags))],
            ..Account::default()
        };
        let (provider, cloud, _) = with(account).await;
        let error = create(&provider, &machine("a")).await.unwrap_err();
        assert!(
            matches!(&error, ProviderError::Rejected { code, .. } if code == "name_taken"),
            "{error}"
        );
        assert_eq!(cloud.bodies("POST /droplets").len(), 0);
    }
}

#[tokio::test]
async fn what_was_accepted_and_failed_or_vanished_is_no_capacity_and_leaves_nothing() {
    for (errored, vanishes) in [(true, false), (false, true), (true, true)] {
        let (provider, cloud, account) = with(Account {
            errored,
            vanishes,
            ..Account::default()
        })
        .await;
        let error = create(&provider, &machine("a")).await.unwrap_err();
        assert!(matches!(error, ProviderError::NoCapacity { .. }), "{error}");
        if errored {
            assert!(account.lock().unwrap().droplets.is_empty());
        }
        let asked = cloud.asked();
        let swept = asked
            .iter()
            .any(|line| line.starts_with("DELETE /tags/runfleet-claim:i-a:a"));
        assert!(swept, "its own tag goes too: {asked:?}");
    }
}

#[tokio::test]
async fn a_404_is_absence_and_a_422_is_not() {
    let (provider, _) = provider(|method, path, _, _| match (method.as_str(), path) {
        ("DELETE", _) => refusal(422, "unprocessable_entity", "The droplet cannot be deleted."),
        ("GET", "/droplets/1") => Some((200, json!({"droplet": droplet(1, "n", "active", PROD)}))),
        ("GET", "/firewalls") => empty(path),
        _ => not_found(),
    })
    .await;
    assert_eq!(provider.read(&target(ResourceKind::Machine, "2")).await, Ok(None));
    assert_eq!(provider.delete(&target(ResourceKind::Machine, "2")).await, Ok(()));
    let error = provider
        .delete(&target(ResourceKind::Machine, "1"))
        .await
        .unwrap_err();
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
}

#[tokio::test]
async fn a_machine_is_not_made_without_the_firewall_that_it_names() {
    let (provider, cloud, _) = with(Account::default()).await;
    let mut claim = machine("a");
    if let ResourceSpec::Machine(spec) = &mut claim.spec {
        spec.firewalls = vec!["default".to_owned()];
    }
    claim.shared = vec![ResourceRef {
        provider: "another".into(),
        ..target(ResourceKind::Firewall, "f-1")
    }];
    let error = create(&provider, &claim).await.unwrap_err();
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    assert_eq!(cloud.asked(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_after_another_change_of_the_same_droplet_is_not_definite() {
    for tagged in [false, true] {
        let (provider, _) = provider(move |method, path, _, _| match (method.as_str(), path) {
            ("GET", "/droplets/1") => Some((200, json!({"droplet": droplet(1, "n", "active", PROD)}))),
            ("POST", "/tags") => Some((201, json!({}))),
            ("POST", _) if tagged => Some((204, Value::Null)),
            _ => refusal(422, "unprocessable_entity", "no"),
        })
        .await;
        let have = Droplet::deserialize(droplet(1, "n", "active", PROD)).unwrap();
        let have = provider.observed(have);
        let next = Labels::from([("runfleet-stack".to_owned(), "next".to_owned())]);
        let error = provider.relabel(&have, &next).await.unwrap_err();
        assert_eq!(error.is_definite(), !tagged, "{error}");
    }
}

#[tokio::test]
async fn a_firewall_is_not_taken_from_a_droplet() {
    let mut left = 2;
    let (provider, cloud) = provider(move |method, path, query, _| match (method.as_str(), path) {
        ("GET", "/firewalls/f-1") => {
            let row = json!({"id": "f-1", "name": "prod-default", "created_at": "2026-11-01T00:00:00Z", "droplet_ids": [],
                "tags": ["runfleet-firewall:prod-default:i", "runfleet:stack:prod"], "inbound_rules": [], "outbound_rules": []});
            Some((200, json!({ "firewall": row })))
        }
        ("GET", "/droplets") => {
            assert!(query.contains("tag_name=runfleet-firewall"), "not that of the claim: {query}");
            left -= 1;
            page("droplets", &[], left)
        }
        _ => Some((204, Value::Null)),
    })
    .await;
    provider
        .delete(&target(ResourceKind::Firewall, "f-1"))
        .await
        .unwrap();
    let asked = cloud.asked();
    let looks = asked
        .iter()
        .filter(|line| line.starts_with("GET /droplets"))
        .count();
    let deletes: Vec<_> = asked.iter().filter(|line| line.starts_with("DELETE")).collect();
    assert_eq!((looks, deletes.len()), (2, 3), "{asked:?}");
    assert_eq!(deletes[0], "DELETE /firewalls/f-1?");
}

#[tokio::test]
async fn the_default_vpc_of_a_region_is_told_from_one_in_use() {
    let (provider, _) = provider(|method, path, _, _| match (method.as_str(), path) {
        ("GET", "/vpcs/v-1") => {
            let row = json!({"id": "v-1", "name": "prod-lan", "description": "", "region": "fra1", "ip_range": "10.0.0.0/20",
                "default": true, "created_at": "2026-11-01T00:00:00Z"});
            Some((200, json!({ "vpc": row })))
        }
        _ => refusal(403, "forbidden", "Can not delete default VPCs"),
    })
    .await;
    let error = provider
        .delete(&target(ResourceKind::Network, "v-1"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ProviderError::Rejected { code, .. } if code == "default_vpc"),
        "{error}"
    );
}

#[tokio::test]
async fn many_creates_are_waited_for_by_few_requests() {
    let (provider, cloud, _) = with(Account::default()).await;
    let mut claims: Vec<_> = (0..40).map(|n| machine(&format!("m{n}"))).collect();
    for (n, claim) in claims.iter_mut().enumerate() {
        claim.user_data = Some(SecretString::from(format!("# token {n}\n")));
    }
    for made in provider.create(&claims).await {
        made.unwrap();
    }
    let asked = cloud.asked();
    let polls = asked
        .iter()
        .filter(|line| line.starts_with("GET /actions"))
        .count();
    assert!((1..10).contains(&polls), "{polls}");
}

#[tokio::test]
async fn too_many_requests_says_when_to_ask_again() {
    let (provider, _) =
        provider(|_, _, _, _| refusal(429, "too_many_requests", "API Rate limit exceeded.")).await;
    let error = create(&provider, &machine("a")).await.unwrap_err();
    let retry_after = Some(Duration::from_secs(3600));
    assert_eq!(error, ProviderError::Throttled { retry_after });
}

#[test]
fn the_real_api_is_never_asked_without_a_budget() {
    let new = |base: &str| Digitalocean::new("do".into(), ClientConfig::new(base, Auth::None), 1).unwrap();
    assert_eq!(new(ENDPOINT).profile().requests_per_hour, Some(REQUESTS_PER_HOUR));
    assert_eq!(new("http://127.0.0.1:1").profile().requests_per_hour, None);
}
