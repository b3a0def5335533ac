//! The Hetzner provider over real HTTP, with the sandbox as its cloud.

use std::time::Duration;

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::ResourceKind,
        offering::{Market, OfferingKey},
        resource::{CloudStatus, Completeness, ImageRef, ResourceSpec},
    },
    net::{Auth, Client, ClientConfig, Request},
    provider::{Choice, Provider, ProviderError, hetzner::Hetzner},
    sandbox::{self, Options, Sandbox, Settings},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    cases::Backend,
    claims,
    provider::{Harness, Trouble, keeps_the_contract},
};

struct OverHttp {
    provider: Hetzner,
    cloud: Client,
    control: Client,
    sandbox: Sandbox,
}

fn config(base: &str, token: &str) -> ClientConfig {
    ClientConfig {
        call_timeout: Duration::from_secs(5),
        retries: 1,
        ..ClientConfig::new(base, Auth::Bearer(SecretString::from(token)))
    }
}

impl OverHttp {
    async fn start(change: &[(&str, &str)]) -> Self {
        let mut settings = Settings::default();
        for (key, value) in [("action_time", "100ms"), ("rate_limit", "off")]
            .iter()
            .chain(change)
        {
            settings.set(key, value).expect("a setting");
        }
        let options = Options {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data: None,
            seed: 1,
            settings,
            scenario: None,
            token: None,
        };
        let sandbox = sandbox::start(options).await.expect("a sandbox");
        let at = sandbox.addresses().clone();
        let config = |base: &str| config(base, &at.token);
        Self {
            provider: Hetzner::new("hetzner".into(), config(&at.hetzner), 50).expect("a provider"),
            cloud: Client::new(config(&at.hetzner)).expect("a client"),
            control: Client::new(config(&at.control)).expect("a client"),
            sandbox,
        }
    }

    async fn fault(&self, rule: Value) {
        let request = Request::new(http::Method::POST, "/faults").json(rule);
        let reply = self.control.send(request).await.expect("an answer");
        assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    }

    async fn total(&self, path: &str) -> usize {
        let reply = self.cloud.send(Request::get(path)).await.expect("an answer");
        let body: Value = reply.json().expect("JSON");
        let total = body
            .pointer("/meta/pagination/total_entries")
            .and_then(Value::as_u64);
        usize::try_from(total.expect("a total")).expect("a number")
    }

    async fn take_down(self) {
        self.sandbox.stop().await.expect("it stops");
    }
}

#[async_trait]
impl Harness for OverHttp {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn offering(&self) -> OfferingKey {
        OfferingKey {
            provider: "hetzner".into(),
            location: "nbg1".to_owned(),
            machine_type: "cx33".to_owned(),
            market: Market::OnDemand,
        }
    }

    fn image(&self) -> ImageRef {
        ImageRef::Name("debian-12".to_owned())
    }

    async fn order(&self, trouble: Trouble) {
        let servers = "/hetzner/v1/servers";
        let rule = match trouble {
            Trouble::CreateReplyLost(kind) => {
                let path = match kind {
                    ResourceKind::SshKey => "/hetzner/v1/ssh_keys",
                    ResourceKind::Firewall => "/hetzner/v1/firewalls",
                    ResourceKind::Network => "/hetzner/v1/networks",
                    ResourceKind::PlacementGroup => "/hetzner/v1/placement_groups",
                    _ => servers,
                };
                json!({"path": path, "method": "POST", "fault": "reply-lost"})
            }
            Trouble::CreateRequestLost => json!({"path": servers, "method": "POST", "fault": "request-lost"}),
            Trouble::NoCapacity => json!({"path": servers, "method": "POST", "fault": "no-capacity"}),
            Trouble::Quota => json!({"path": servers, "method": "POST", "fault": "quota"}),
            Trouble::FailsAfterwards => {
                json!({"path": servers, "method": "POST", "fault": "create-then-fails"})
            }
            // As often as the client tries again, and once more.
            Trouble::PartialList => {
                json!({"path": servers, "method": "GET", "fault": "partial-list", "count": 100})
            }
            Trouble::DeleteReplyLost => json!({"path": "*", "method": "DELETE", "fault": "reply-lost"}),
            Trouble::Unauthorized => json!({"path": servers, "method": "POST", "fault": "unauthorized"}),
            Trouble::RelabelReplyLost => json!({"path": "*", "method": "PUT", "fault": "reply-lost"}),
            Trouble::ResizeReplyLost => unreachable!("a server is no group"),
        };
        self.fault(rule).await;
    }

    async fn census(&self) -> usize {
        let kinds = ["servers", "ssh_keys", "firewalls", "networks", "placement_groups"];
        let mut all = 0;
        for kind in kinds {
            all += self.total(&format!("/{kind}")).await;
        }
        all
    }

    async fn stop(self: Box<Self>) {
        self.take_down().await;
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "hetzner",
        "the sandbox, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(OverHttp::start(&[]).await) as Box<dyn Harness>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hetzner_over_http_keeps_the_contract() {
    keeps_the_contract("hetzner").await;
}

#[tokio::test]
async fn a_server_error_while_creating_is_never_taken_for_a_no() {
    let harness = OverHttp::start(&[]).await;
    harness
        .fault(json!({"path": "/hetzner/v1/servers", "method": "POST", "fault": "server-error", "count": 1, "args": {"status": 503}}))
        .await;
    let error = harness
        .provider
        .create(&[claims::any_machine(&harness)])
        .await
        .remove(0);
    assert!(matches!(error, Err(ProviderError::Ambiguous { .. })), "{error:?}");
    harness.take_down().await;
}

#[tokio::test]
async fn a_listing_is_whole_only_if_totals_and_ids_agree_and_it_always_ends() {
    let harness = OverHttp::start(&[]).await;
    let claims = claims::machines(&harness, 60);
    for answer in harness.provider.create(&claims).await {
        answer.expect("it is made");
    }
    for (fault, whole) in [
        ("changed-total", false),
        ("partial-list", false),
        ("next-page-for-ever", true),
    ] {
        let rule = json!({"path": "/hetzner/v1/servers", "method": "GET", "fault": fault, "count": 100});
        harness.fault(rule).await;
        let listing = harness
            .provider
            .list(&"conformance".into())
            .await
            .expect("a listing");
        assert_eq!(
            listing.completeness.is_complete(),
            whole,
            "{fault}: {:?}",
            listing.completeness
        );
        assert_eq!(listing.resources.len() == 60, fault != "partial-list", "{fault}");
        clear(&harness).await;
    }
    let listing = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect("a listing");
    assert_eq!(listing.completeness, Completeness::Complete);
    assert_eq!((listing.resources.len(), listing.calls), (60, 6));
    harness.take_down().await;
}

async fn clear(harness: &OverHttp) {
    let request = Request::new(http::Method::DELETE, "/faults");
    assert!(
        harness
            .control
            .send(request)
            .await
            .expect("an answer")
            .status
            .is_success()
    );
}

#[tokio::test]
async fn what_somebody_changes_by_hand_is_seen() {
    let harness = OverHttp::start(&[]).await;
    let claim = claims::any_machine(&harness);
    let made = harness
        .provider
        .create(std::slice::from_ref(&claim))
        .await
        .remove(0);
    let made = made.expect("it is made");
    assert_eq!(
        made.uses,
        Some(Vec::new()),
        "it uses nothing, and the API says so"
    );
    let path = format!("/servers/{}", made.target.id);
    let send = async |method: http::Method, path: String, body: Value| {
        let request = Request::new(method, path).json(body);
        let reply = harness.cloud.send(request).await.expect("an answer");
        assert!(
            reply.status.is_success(),
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
    };
    let act = |action: &str| format!("{path}/actions/{action}");
    let post = http::Method::POST;
    let wanted = json!({"server_type": "cx43", "upgrade_disk": false});
    send(post.clone(), act("poweroff"), json!({})).await;
    send(post.clone(), act("change_type"), wanted).await;
    send(post, act("poweroff"), json!({})).await;
    let changed = json!({"name": "by-hand", "labels": {"runfleet-stack": "conformance", "team": "blue"}});
    send(http::Method::PUT, path.clone(), changed).await;
    let listing = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect("a listing");
    let seen = &listing.resources[0];
    assert_eq!((&seen.target, seen.name.as_str()), (&made.target, "by-hand"));
    assert_eq!(seen.status, CloudStatus::Off);
    assert_eq!(
        seen.offering.as_ref().map(|key| key.machine_type.as_str()),
        Some("cx43")
    );
    assert_eq!((seen.claim(), seen.labels.len()), (None, 2));

    // Its name comes back with what its spec knows of its labels, the rest by `relabel`; its type does not.
    let mut want = claim.spec.clone();
    if let ResourceSpec::Machine(spec) = &mut want {
        spec.offering.machine_type = "cx43".to_owned();
    }
    let named = harness.provider.update(seen, &want).await.expect("it is renamed");
    assert_eq!((&named.name, named.labels.len()), (&made.name, 4));
    let labels = claim.labels.to_labels();
    let whole = harness.provider.relabel(&named, &labels).await.expect("labels");
    assert_eq!(whole.claim(), Some(claim.labels));
    assert_eq!(whole.labels.get("team").map(String::as_str), Some("blue"));
    harness.take_down().await;
}

#[tokio::test]
async fn names_that_hetzner_does_not_have_are_told_with_what_it_has() {
    let harness = OverHttp::start(&[]).await;
    let choice = |machine_type: &str, location: &str, image: &str| Choice {
        place: "p".to_owned(),
        machine_type: machine_type.to_owned(),
        locations: vec![location.to_owned()],
        image: ImageRef::Name(image.to_owned()),
    };
    let choices = [
        choice("cx34", "nbg1", "debian-12"),
        choice("cx33", "nbg2", "debian-12"),
        choice("cx33", "ash", "debian-12"),
        choice("cx33", "nbg1", "debian-1"),
        choice("cax11", "nbg1", "debian-12"),
    ];
    let problems = harness.provider.check(&choices).await.expect("a check");
    let said: Vec<_> = problems
        .iter()
        .map(|p| (p.place.as_str(), p.hint.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(said[0].0, "p.type");
    assert!(said[0].1.contains("did you mean"), "{said:?}");
    assert_eq!(said[1], ("p.locations[0]", "did you mean \"nbg1\"?"));
    assert_eq!(said[2].0, "p.locations[0]");
    assert!(said[2].1.contains("fsn1"), "{said:?}");
    assert_eq!(said[3].0, "p.image");
    assert_eq!(said.len(), 4, "{said:?}");
    harness.take_down().await;
}

#[tokio::test]
async fn a_wrong_token_is_told_by_every_call() {
    let harness = OverHttp::start(&[]).await;
    let provider = Hetzner::new(
        "hetzner".into(),
        config(&harness.sandbox.addresses().hetzner, "wrong"),
        5,
    )
    .expect("a provider");
    let listed = provider.list(&"conformance".into()).await;
    assert!(
        matches!(listed, Err(ProviderError::Unauthorized { .. })),
        "{listed:?}"
    );
    let checked = provider.check(&[]).await;
    assert!(
        matches!(checked, Err(ProviderError::Unauthorized { .. })),
        "{checked:?}"
    );
    let offered = provider.offerings().await;
    assert!(
        matches!(offered, Err(ProviderError::Unauthorized { .. })),
        "{offered:?}"
    );
    harness.take_down().await;
}

#[tokio::test]
async fn a_server_error_in_a_listing_is_partial_and_all_of_them_are_an_error() {
    let harness = OverHttp::start(&[]).await;
    harness
        .fault(json!({"path": "/hetzner/v1/firewalls", "fault": "server-error", "count": 100}))
        .await;
    let listing = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect("some of it");
    assert!(!listing.completeness.is_complete());
    harness
        .fault(json!({"path": "/hetzner/v1/*", "fault": "server-error", "count": 100}))
        .await;
    let error = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect_err("nothing");
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error}");
    harness.take_down().await;
}
