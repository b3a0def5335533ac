//! The DigitalOcean provider over real HTTP, with the sandbox as its cloud.

use std::time::Duration;

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::ResourceKind,
        offering::{Market, OfferingKey},
        resource::{CloudStatus, ImageRef, Labels, NetworkSpec, ResourceSpec, Subnet},
    },
    net::{Auth, Client, ClientConfig, Request},
    provider::{Choice, Claim, Provider, ProviderError, digitalocean::Digitalocean},
    sandbox::{self, Options, Sandbox, Settings},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    cases::Backend,
    claims,
    provider::{Harness, Need, Trouble, keeps_the_contract},
};

struct OverHttp {
    provider: Digitalocean,
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
    async fn start() -> Self {
        let mut settings = Settings::default();
        for (key, value) in [
            ("action_time", "100ms"),
            ("rate_limit", "off"),
            ("server_limit", "1000"),
        ] {
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
            provider: Digitalocean::new("digitalocean".into(), config(&at.digitalocean), 50)
                .expect("a provider"),
            cloud: Client::new(config(&at.digitalocean)).expect("a client"),
            control: Client::new(config(&at.control)).expect("a client"),
            sandbox,
        }
    }

    async fn fault(&self, rule: Value) {
        let request = Request::new(http::Method::POST, "/faults").json(rule);
        let reply = self.control.send(request).await.expect("an answer");
        assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    }

    async fn send(&self, method: http::Method, path: &str, body: Value) -> Value {
        let mut request = Request::new(method, path);
        if !body.is_null() {
            request = request.json(body);
        }
        let reply = self.cloud.send(request).await.expect("an answer");
        assert!(
            reply.status.is_success(),
            "{path}: {}",
            String::from_utf8_lossy(&reply.body)
        );
        reply.json().unwrap_or_default()
    }

    async fn rows(&self, path: &str, key: &str) -> Vec<Value> {
        let body = self
            .send(http::Method::GET, &format!("{path}?per_page=200"), Value::Null)
            .await;
        body[key].as_array().expect("rows").clone()
    }

    /// The names of tags that are there.
    async fn tags(&self) -> Vec<String> {
        let rows = self.rows("/tags", "tags").await;
        rows.iter()
            .filter_map(|tag| Some(tag["name"].as_str()?.to_owned()))
            .collect()
    }

    async fn make(&self, claim: &Claim) -> Result<runfleet::model::resource::Observed, ProviderError> {
        self.provider.create(std::slice::from_ref(claim)).await.remove(0)
    }

    async fn take_down(self) {
        self.sandbox.stop().await.expect("it stops");
    }
}

const DROPLETS: &str = "/digitalocean/v2/droplets";

#[async_trait]
impl Harness for OverHttp {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn offering(&self) -> OfferingKey {
        OfferingKey {
            provider: "digitalocean".into(),
            location: "fra1".to_owned(),
            machine_type: "s-2vcpu-4gb".to_owned(),
            market: Market::OnDemand,
        }
    }

    fn image(&self) -> ImageRef {
        ImageRef::Name("debian-12-x64".to_owned())
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::Kind(ResourceKind::PlacementGroup),
            Need::Kind(ResourceKind::Network),
            Need::Trouble(Trouble::PartialList),
        ]
    }

    async fn order(&self, trouble: Trouble) {
        let rules = match trouble {
            Trouble::CreateReplyLost(kind) => {
                let path = match kind {
                    ResourceKind::SshKey => "/digitalocean/v2/account/keys",
                    ResourceKind::Firewall => "/digitalocean/v2/firewalls",
                    _ => DROPLETS,
                };
                vec![json!({"path": path, "method": "POST", "fault": "reply-lost"})]
            }
            Trouble::CreateRequestLost => {
                vec![json!({"path": DROPLETS, "method": "POST", "fault": "request-lost"})]
            }
            Trouble::NoCapacity => vec![json!({"path": DROPLETS, "method": "POST", "fault": "no-capacity"})],
            Trouble::Quota => vec![json!({"path": DROPLETS, "method": "POST", "fault": "quota"})],
            Trouble::FailsAfterwards => {
                vec![json!({"path": DROPLETS, "method": "POST", "fault": "create-then-fails"})]
            }
            Trouble::DeleteReplyLost => vec![json!({"path": "*", "method": "DELETE", "fault": "reply-lost"})],
            Trouble::Unauthorized => {
                vec![json!({"path": DROPLETS, "method": "POST", "fault": "unauthorized"})]
            }
            // Whichever a kind is relabelled by; a rule that did not strike is taken back.
            Trouble::RelabelReplyLost => {
                self.clear().await;
                vec![
                    json!({"path": "*", "method": "PUT", "fault": "reply-lost"}),
                    json!({"path": "/digitalocean/v2/tags/*", "method": "POST", "fault": "reply-lost"}),
                ]
            }
            Trouble::PartialList | Trouble::ResizeReplyLost => unreachable!("it is lacked"),
        };
        for rule in rules {
            self.fault(rule).await;
        }
    }

    async fn census(&self) -> usize {
        let kinds = [
            ("/droplets", "droplets"),
            ("/account/keys", "ssh_keys"),
            ("/firewalls", "firewalls"),
            ("/vpcs", "vpcs"),
        ];
        let mut all = 0;
        for (path, key) in kinds {
            let rows = self.rows(path, key).await;
            // A region's default VPC comes with its first droplet and stays: it is the cloud's own.
            all += rows.iter().filter(|row| row["default"] != json!(true)).count();
        }
        all
    }

    async fn stop(self: Box<Self>) {
        self.take_down().await;
    }
}

impl OverHttp {
    async fn clear(&self) {
        let request = Request::new(http::Method::DELETE, "/faults");
        let reply = self.control.send(request).await.expect("an answer");
        assert!(reply.status.is_success());
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "digitalocean",
        "the sandbox, over HTTP",
        Some(|| Box::pin(async { Some(Box::new(OverHttp::start().await) as Box<dyn Harness>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn digitalocean_over_http_keeps_the_contract() {
    keeps_the_contract("digitalocean").await;
}

fn lan() -> Claim {
    let range = "10.77.0.0/20".to_owned();
    let spec = ResourceSpec::Network(NetworkSpec {
        name: "conformance-lan".to_owned(),
        ip_range: range.clone(),
        subnets: vec![Subnet {
            ip_range: range,
            zone: "fra1".to_owned(),
        }],
    });
    claims::claim(ResourceKind::Network, "lan", "network-1", spec)
}

#[tokio::test]
async fn a_vpc_keeps_its_claim_and_goes_when_its_last_droplet_has() {
    let harness = OverHttp::start().await;
    // The first VPC of a region is its default one, and stays for ever: let that be another.
    let other = json!({"name": "default-fra1", "region": "fra1", "ip_range": "10.78.0.0/20"});
    harness.send(http::Method::POST, "/vpcs", other).await;
    let claim = lan();
    let network = harness.make(&claim).await.expect("a VPC");
    assert_eq!(network.claim().as_ref(), Some(&claim.labels));
    assert_eq!(
        harness.make(&claim).await.expect("adopted").target,
        network.target
    );
    assert!(
        network
            .network
            .as_ref()
            .is_some_and(|(range, subnets)| range == "10.77.0.0/20" && subnets[0].zone == "fra1")
    );

    let mut machine = claims::any_machine(&harness);
    machine.shared = vec![network.target.clone()];
    if let ResourceSpec::Machine(spec) = &mut machine.spec {
        spec.networks = vec!["lan".to_owned()];
    }
    let droplet = harness.make(&machine).await.expect("a droplet");
    let used = Some(vec![network.target.clone()]);
    assert_eq!(droplet.uses, used);
    let read = harness.provider.read(&droplet.target).await.expect("a reading");
    assert_eq!(read.expect("it is there").uses, used);
    let private = droplet.addresses.iter().map(ToString::to_string);
    assert!(private.into_iter().any(|address| address.starts_with("10.77.")));

    let listing = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect("a listing");
    assert_eq!(listing.resources.len(), 2);
    let seen = listing
        .resources
        .iter()
        .find(|seen| seen.target == droplet.target);
    assert_eq!(seen.expect("it is listed").uses, used);
    let moved = Labels::from([("runfleet-stack".to_owned(), "next".to_owned())]);
    let moved = harness.provider.relabel(&network, &moved).await.expect("labels");
    assert_eq!(moved.claim().expect("a claim").stack.as_str(), "next");
    assert_eq!(
        (&moved.target, &moved.network),
        (&network.target, &network.network)
    );

    let both = futures::future::join(
        harness.provider.delete(&network.target),
        harness.provider.delete(&droplet.target),
    );
    let (gone, removed) = both.await;
    removed.expect("the droplet goes");
    gone.expect("and then its VPC");
    harness.take_down().await;
}

#[tokio::test]
async fn a_droplet_is_behind_its_firewall_from_its_first_second_and_leaves_no_tag_of_its_own() {
    let harness = OverHttp::start().await;
    let wall = harness
        .make(&claims::firewall(&[claims::rule("22")]))
        .await
        .expect("a firewall");
    let mut machine = claims::any_machine(&harness);
    machine.shared = vec![wall.target.clone()];
    if let ResourceSpec::Machine(spec) = &mut machine.spec {
        spec.firewalls = vec!["default".to_owned()];
    }
    let droplet = harness.make(&machine).await.expect("a droplet");
    let path = format!("/droplets/{}/firewalls", droplet.target.id);
    let behind = harness.rows(&path, "firewalls").await;
    assert_eq!(behind.len(), 1);
    assert_eq!(behind[0]["id"], json!(wall.target.id.as_str()));
    // What lets everything out is there, though no rule of ours says so.
    assert_eq!(behind[0]["outbound_rules"].as_array().map(Vec::len), Some(3));

    // A firewall is not taken from a droplet that is there.
    let both = futures::future::join(
        harness.provider.delete(&wall.target),
        harness.provider.delete(&droplet.target),
    );
    let (gone, removed) = both.await;
    removed.expect("the droplet goes");
    gone.expect("and then its firewall");
    let left = harness.tags().await;
    let ours = |tag: &&String| {
        tag.starts_with("runfleet-claim")
            || tag.starts_with("runfleet-firewall")
            || tag.starts_with("runfleet:")
    };
    assert_eq!(left.iter().find(ours), None, "{left:?}");
    harness.take_down().await;
}

#[tokio::test]
async fn what_somebody_changes_by_hand_is_seen_and_put_right() {
    let harness = OverHttp::start().await;
    let claim = claims::any_machine(&harness);
    let made = harness.make(&claim).await.expect("it is made");
    assert_eq!(made.uses, Some(Vec::new()), "it uses nothing, and that is known");
    let id = made.target.id.as_str();
    let act = format!("/droplets/{id}/actions");
    let post = http::Method::POST;
    harness
        .send(post.clone(), &act, json!({"type": "rename", "name": "by-hand"}))
        .await;
    // Until the rename has ended.
    let later = Request::new(post.clone(), "/clock").json(json!({"advance": "10s"}));
    assert!(
        harness
            .control
            .send(later)
            .await
            .expect("an answer")
            .status
            .is_success()
    );
    harness
        .send(post.clone(), &act, json!({"type": "power_off"}))
        .await;
    let mine = json!({"resources": [{"resource_id": id, "resource_type": "droplet"}]});
    let tags = harness.tags().await;
    let own = tags.iter().find(|tag| tag.starts_with("runfleet-claim:"));
    let own = own.expect("its own tag");
    harness
        .send(
            http::Method::DELETE,
            &format!("/tags/{own}/resources"),
            mine.clone(),
        )
        .await;
    harness
        .send(post.clone(), "/tags", json!({"name": "team:blue"}))
        .await;
    harness.send(post, "/tags/team:blue/resources", mine).await;

    let listing = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect("a listing");
    let seen = &listing.resources[0];
    assert_eq!((&seen.target, seen.name.as_str()), (&made.target, "by-hand"));
    assert_eq!((seen.status.clone(), seen.claim()), (CloudStatus::Off, None));

    let named = harness
        .provider
        .update(seen, &claim.spec)
        .await
        .expect("it is renamed");
    assert_eq!(named.name, made.name);
    let labels = claim.labels.to_labels();
    let whole = harness.provider.relabel(&named, &labels).await.expect("labels");
    assert_eq!(whole.claim(), Some(claim.labels));
    assert_eq!(whole.labels.get("team").map(String::as_str), Some("blue"));
    harness.take_down().await;
}

#[tokio::test]
async fn a_listing_of_more_than_a_page_is_whole_or_says_that_it_is_not() {
    let harness = OverHttp::start().await;
    let claims: Vec<_> = (0..201)
        .map(|n| claims::machine(&harness, &format!("m{n}"), &format!("many-{n}")))
        .collect();
    for answer in harness.provider.create(&claims).await {
        answer.expect("it is made");
    }
    let listing = harness
        .provider
        .list(&"conformance".into())
        .await
        .expect("a listing");
    assert!(listing.completeness.is_complete(), "{:?}", listing.completeness);
    assert_eq!((listing.resources.len(), listing.calls), (201, 5));
    for fault in ["changed-total", "partial-list"] {
        harness
            .fault(json!({"path": DROPLETS, "method": "GET", "fault": fault, "count": 100}))
            .await;
        let listing = harness
            .provider
            .list(&"conformance".into())
            .await
            .expect("a listing");
        assert!(!listing.completeness.is_complete(), "{fault}");
        harness.clear().await;
    }
    harness.take_down().await;
}

#[tokio::test]
async fn the_newest_image_with_a_tag_is_booted_where_it_is() {
    let harness = OverHttp::start().await;
    let mut claim = claims::any_machine(&harness);
    if let ResourceSpec::Machine(spec) = &mut claim.spec {
        spec.image = ImageRef::NewestOf("runner".to_owned());
    }
    let error = harness.make(&claim).await.expect_err("there is none");
    assert!(error.to_string().contains("fra1"), "{error}");

    let base = harness
        .make(&claims::machine(&harness, "base", "base"))
        .await
        .expect("a droplet");
    let act = format!("/droplets/{}/actions", base.target.id);
    let snapshot = json!({"type": "snapshot", "name": "runner-1"});
    harness.send(http::Method::POST, &act, snapshot).await;
    let images = harness
        .send(http::Method::GET, "/images?private=true", Value::Null)
        .await;
    let image = images["images"][0]["id"].as_u64().expect("an image");
    let tagged = json!({"resources": [{"resource_id": image.to_string(), "resource_type": "image"}]});
    harness
        .send(http::Method::POST, "/tags", json!({"name": "runner"}))
        .await;
    harness
        .send(http::Method::POST, "/tags/runner/resources", tagged)
        .await;
    let made = harness.make(&claim).await.expect("there is one now");
    let path = format!("/droplets/{}", made.target.id);
    let droplet = harness.send(http::Method::GET, &path, Value::Null).await;
    assert_eq!(droplet["droplet"]["image"]["id"], json!(image));
    harness.take_down().await;
}

#[tokio::test]
async fn names_that_digitalocean_does_not_have_are_told_with_what_it_has() {
    let harness = OverHttp::start().await;
    let choice = |machine_type: &str, region: &str, image: &str| Choice {
        place: "p".to_owned(),
        machine_type: machine_type.to_owned(),
        locations: vec![region.to_owned()],
        image: ImageRef::Name(image.to_owned()),
    };
    let choices = [
        choice("s-2vcpu-4gbb", "fra1", "debian-12-x64"),
        choice("s-2vcpu-4gb", "fra9", "debian-12-x64"),
        choice("s-2vcpu-4gb", "fra1", "debian-12"),
        choice("s-2vcpu-4gb", "fra1", "debian-12-x64"),
    ];
    let problems = harness.provider.check(&choices).await.expect("a check");
    let said: Vec<_> = problems
        .iter()
        .map(|p| (p.place.as_str(), p.hint.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(said[0].0, "p.type");
    assert!(said[0].1.contains("did you mean"), "{said:?}");
    assert_eq!(said[1], ("p.locations[0]", "did you mean \"fra1\"?"));
    assert_eq!(said[2].0, "p.image");
    assert_eq!(said.len(), 3, "{said:?}");
    harness.take_down().await;
}

#[tokio::test]
async fn a_wrong_token_is_told_by_every_call() {
    let harness = OverHttp::start().await;
    let base = harness.sandbox.addresses().digitalocean.clone();
    let provider = Digitalocean::new("digitalocean".into(), config(&base, "wrong"), 5).expect("a provider");
    let unauthorized = |error: &ProviderError| matches!(error, ProviderError::Unauthorized { .. });
    let listed = provider.list(&"conformance".into()).await;
    assert!(listed.as_ref().is_err_and(unauthorized), "{listed:?}");
    let checked = provider.check(&[]).await;
    assert!(checked.as_ref().is_err_and(unauthorized), "{checked:?}");
    let offered = provider.offerings().await;
    assert!(offered.as_ref().is_err_and(unauthorized), "{offered:?}");
    harness.take_down().await;
}

#[tokio::test]
async fn a_server_error_while_creating_is_never_taken_for_a_no() {
    let harness = OverHttp::start().await;
    harness
        .fault(json!({"path": DROPLETS, "method": "POST", "fault": "server-error", "count": 1, "args": {"status": 503}}))
        .await;
    let error = harness.make(&claims::any_machine(&harness)).await;
    assert!(matches!(error, Err(ProviderError::Ambiguous { .. })), "{error:?}");
    harness.take_down().await;
}
