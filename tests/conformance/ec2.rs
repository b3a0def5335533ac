//! The EC2 provider over Amazon's own SDK, with moto as its cloud and a layer of ours in front that says what moto does not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::{PoolName, ResourceKind},
        offering::{Market, OfferingKey},
        resource::{CloudStatus, Ec2Launch, ImageRef, MachineSpec, Observed, ResourceRef, ResourceSpec},
    },
    provider::{
        Choice, Claim, Provider, ProviderError,
        aws::{
            Config,
            ec2::{Ec2, OPERATIONS, Options},
        },
    },
    stack::OfferingChoice,
};
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    aws::{self, Layer, Refusal, Rule, Spoke, SpotPrice, TemplateShape, market, wire::Service},
    cases::Backend,
    claims, moto,
    provider::{Harness, Need, Trouble, keeps_the_contract},
};

const REGION: &str = "eu-central-1";
const ZONES: [&str; 2] = ["eu-central-1a", "eu-central-1b"];

struct OnMoto {
    layer: Arc<Layer>,
    provider: Ec2,
    image: String,
}

fn config(layer: &Layer) -> Config {
    Config {
        name: "aws".into(),
        region: Some(REGION.to_owned()),
        profile: None,
        role_arn: None,
        keys: Some(("AKIAIOSFODNN7EXAMPLE".to_owned(), SecretString::from("secret"))),
        endpoint: Some(layer.endpoint.clone()),
        ca_pem: None,
        concurrency: 20,
        call_timeout: Duration::from_secs(20),
        total_timeout: Duration::from_secs(30),
        retries: 1,
    }
}

fn choice(machine_type: &str, market: Market, image: &str) -> OfferingChoice {
    OfferingChoice {
        provider: "aws".into(),
        machine_type: machine_type.to_owned(),
        locations: ZONES.map(str::to_owned).to_vec(),
        image: ImageRef::Name(image.to_owned()),
        public_ipv4: true,
        market,
        ec2: None,
        task: None,
        price: None,
        priority: 0,
    }
}

impl OnMoto {
    /// None where there is no moto.
    async fn start(shape: aws::Options) -> Option<Self> {
        let layer = Arc::new(Layer::start(&moto::endpoint().await?, shape).await);
        let image = layer.image().await;
        layer.set_products(Some(vec![
            market::product("c6i.large", REGION, "0.0970000000"),
            market::product("c6g.large", REGION, "0.0776000000"),
        ]));
        let choices = vec![
            choice("c6i.large", Market::OnDemand, &image),
            choice("c6i.large", Market::Spot, &image),
        ];
        layer.set_spot_prices(spot_prices());
        let options = Options {
            choices,
            ..Options::default()
        };
        let provider = Ec2::new(config(&layer), options).await.expect("a provider");
        Some(Self {
            layer,
            provider,
            image,
        })
    }

    async fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            choices: vec![choice("c6i.large", Market::OnDemand, &self.image)],
            ..Options::default()
        };
        change(&mut options);
        self.provider = Ec2::new(config(&self.layer), options).await.expect("a provider");
        self
    }

    async fn count(&self, action: &str, list: &str, counts: fn(&aws::xml::Element) -> bool) -> usize {
        let found = self.layer.furnish(Service::Ec2, action, &[]).await;
        found.list(list).iter().filter(|item| counts(item)).count()
    }

    async fn create(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        self.provider.create(std::slice::from_ref(claim)).await.remove(0)
    }

    fn machine(&self, change: impl FnOnce(&mut MachineSpec)) -> Claim {
        let mut claim = claims::any_machine(self);
        if let ResourceSpec::Machine(spec) = &mut claim.spec {
            change(spec);
        }
        claim
    }

    /// What boto3 sees of the stack's machines; none where there is no boto3.
    async fn boto3(&self) -> Option<Vec<Value>> {
        let seen = self
            .layer
            .look(&["instances", "--tag", "runfleet-stack=conformance"])
            .await?;
        Some(seen.as_array().expect("a list").clone())
    }

    /// The next instance is taken back while it comes up.
    fn fail_afterwards(&self) {
        let layer = Arc::clone(&self.layer);
        layer.hold(Duration::from_secs(3600), Duration::ZERO, Duration::ZERO);
        tokio::spawn(async move {
            loop {
                if let Some(born) = layer.instances().await.iter().find(|one| !one.dead()) {
                    layer.interrupt(&born.id).await;
                    layer.hold(Duration::ZERO, Duration::ZERO, Duration::ZERO);
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
    }

    fn spoke(&self, action: &str) -> Vec<Spoke> {
        self.layer
            .calls_of(action)
            .iter()
            .map(|call| call.spoke)
            .collect()
    }
}

fn spot_prices() -> Vec<SpotPrice> {
    let old = SpotPrice::new("c6i.large", ZONES[0], "0.090000", "2026-11-01T00:00:00Z");
    let now = ZONES.map(|zone| SpotPrice::new("c6i.large", zone, "0.034500", "2026-11-27T00:00:00Z"));
    now.into_iter().chain([old]).collect()
}

#[async_trait]
impl Harness for OnMoto {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn offering(&self) -> OfferingKey {
        OfferingKey {
            provider: "aws".into(),
            location: ZONES[0].to_owned(),
            machine_type: "c6i.large".to_owned(),
            market: Market::OnDemand,
        }
    }

    fn image(&self) -> ImageRef {
        ImageRef::Name(self.image.clone())
    }

    fn lacks(&self) -> Vec<Need> {
        vec![
            Need::Kind(ResourceKind::Network),
            Need::Kind(ResourceKind::PlacementGroup),
        ]
    }

    async fn order(&self, trouble: Trouble) {
        let layer = &self.layer;
        match trouble {
            Trouble::CreateReplyLost(ResourceKind::SshKey) => layer.rule(Rule::lose_reply("ImportKeyPair")),
            Trouble::CreateReplyLost(ResourceKind::Firewall) => {
                layer.rule(Rule::lose_reply("CreateSecurityGroup"));
            }
            Trouble::CreateReplyLost(_) => layer.rule(Rule::lose_reply("RunInstances")),
            // As often as the client tries again.
            Trouble::CreateRequestLost => layer.rule(Rule::lose_request("RunInstances").times(2)),
            Trouble::NoCapacity => {
                let refusal = Refusal::insufficient_capacity("c6i.large", ZONES[0]);
                layer.rule(Rule::refuse("RunInstances", refusal));
            }
            Trouble::Quota => layer.rule(Rule::refuse("RunInstances", Refusal::vcpu_quota(32))),
            Trouble::FailsAfterwards => self.fail_afterwards(),
            // Which is not tried again.
            Trouble::PartialList => {
                layer.rule(Rule::refuse("DescribeInstances", Refusal::unauthorized_operation()).nth(2));
            }
            Trouble::DeleteReplyLost => {
                for action in ["TerminateInstances", "DeleteKeyPair", "DeleteSecurityGroup"] {
                    layer.rule(Rule::lose_reply(action));
                }
            }
            Trouble::RelabelReplyLost => layer.rule(Rule::lose_reply("CreateTags")),
            Trouble::Unauthorized => layer.rule(Rule::refuse("RunInstances", Refusal::auth_failure())),
            Trouble::ResizeReplyLost => unreachable!("it has no groups"),
        }
    }

    async fn census(&self) -> usize {
        let machines = self
            .layer
            .instances()
            .await
            .iter()
            .filter(|one| !one.dead())
            .count();
        let keys = self.count("DescribeKeyPairs", "keySet", |_| true).await;
        let groups = self
            .count("DescribeSecurityGroups", "securityGroupInfo", |group| {
                group.text_at("groupName") != "default"
            })
            .await;
        let volumes = self
            .count("DescribeVolumes", "volumeSet", |volume| {
                volume.text_at("status") == "available"
            })
            .await;
        machines + keys + groups + volumes
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "ec2",
        "moto, and a layer in front of it",
        Some(|| {
            Box::pin(async {
                let harness = OnMoto::start(aws::Options::default()).await?;
                Some(Box::new(harness) as Box<dyn Harness>)
            })
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ec2_on_moto_keeps_the_contract() {
    keeps_the_contract("ec2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_launched_is_as_asked_and_boto3_agrees() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let (key, firewall) = (claims::key(), claims::firewall(&[claims::rule("22")]));
    let key = cloud.create(&key).await.expect("a key pair");
    let firewall = cloud.create(&firewall).await.expect("a security group");
    let mut claim = cloud.machine(|spec| {
        spec.offering.market = Market::Spot;
        spec.ssh_keys = vec!["default".to_owned()];
        spec.firewalls = vec!["default".to_owned()];
        spec.ec2 = Some(Box::new(Ec2Launch {
            root_gib: Some(40),
            max_price: Some("0.05 USD".parse().expect("money")),
            ..Ec2Launch::default()
        }));
    });
    claim.shared = vec![key.target.clone(), firewall.target.clone()];
    let seen = cloud.create(&claim).await.expect("it is launched");
    assert_eq!(seen.status, CloudStatus::Running);
    assert_eq!(seen.offering.as_ref().map(|key| key.market), Some(Market::Spot));
    assert_eq!(cloud.spoke("RunInstances"), [Spoke::Moto]);

    let call = cloud.layer.calls_of("RunInstances").remove(0);
    let param = |name: &str| call.params[name].as_str();
    assert_eq!(param("ClientToken"), claim.labels.intent.as_str());
    assert_eq!(param("InstanceMarketOptions.SpotOptions.MaxPrice"), "0.05");
    assert_eq!(
        param("InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"),
        "terminate"
    );
    assert_eq!(param("InstanceInitiatedShutdownBehavior"), "terminate");
    assert_eq!(param("NetworkInterface.1.AssociatePublicIpAddress"), "true");

    let Some(looked) = cloud.boto3().await else { return };
    assert_eq!(looked.len(), 1);
    let one = &looked[0];
    assert_eq!(one["id"], seen.target.id.as_str());
    assert_eq!(
        (&one["type"], &one["zone"]),
        (&"c6i.large".into(), &ZONES[0].into())
    );
    assert_eq!(
        (&one["market"], &one["key"]),
        (&"spot".into(), &"conformance-default".into())
    );
    assert_eq!(
        (&one["metadata"]["tokens"], &one["metadata"]["hops"]),
        (&"required".into(), &1.into())
    );
    assert_eq!(one["image"], cloud.image.as_str());
    let volume = &one["volumes"][0];
    assert_eq!(
        (&volume["type"], &volume["size"], &volume["encrypted"]),
        (&"gp3".into(), &40.into(), &true.into())
    );
    let mut tags = claim.labels.to_labels();
    tags.insert("Name".to_owned(), claim.spec.name().to_owned());
    assert_eq!(one["tags"], serde_json::json!(tags));
    let cloud = &cloud;
    for target in [&seen.target, &firewall.target, &key.target] {
        cloud.provider.delete(target).await.expect("it is deleted");
    }
    let looked = cloud.boto3().await.expect("boto3 is here");
    assert!(
        looked.iter().all(|one| one["state"] == "terminated"),
        "{looked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attempt_is_one_instance_though_its_answer_was_lost_and_its_image_changed() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let claim = cloud.machine(|_| {});
    // The answer is lost, and the SDK asks again with the same token.
    cloud.layer.rule(Rule::lose_reply("RunInstances"));
    let first = cloud.create(&claim).await.expect("it is found out");
    assert_eq!(
        cloud.spoke("RunInstances"),
        [Spoke::Moto, Spoke::Layer],
        "the layer remembers the token"
    );

    // The same attempt once more, with something else in it, while no listing shows the first: EC2 knows the token.
    cloud.layer.rule(Rule::answer("DescribeInstances", NOTHING));
    let other = cloud.machine(|spec| spec.public_ipv4 = false);
    assert_eq!(other.labels, claim.labels);
    let again = cloud.create(&other).await.expect("it is adopted");
    assert_eq!(again.target, first.target);
    assert_eq!(cloud.census().await, 1);
}

/// A listing in which nothing is.
const NOTHING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><reservationSet/></DescribeInstancesResponse>"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ec2_does_not_show_yet_is_neither_absent_nor_gone() {
    // For longer than it is watched: by the layer's clock, which stands still.
    let hidden = aws::Options {
        hidden: Duration::from_secs(3600),
        pending: Duration::from_secs(3600),
        ..aws::Options::default()
    };
    let Some(cloud) = OnMoto::start(hidden).await else {
        return;
    };
    let claim = cloud.machine(|_| {});
    let create = cloud.create(&claim);
    let meanwhile = async {
        claim.accepted.told().await;
        let id = cloud.layer.instances().await.remove(0).id;
        let target = ResourceRef {
            provider: "aws".into(),
            kind: ResourceKind::Machine,
            id: id.into(),
        };
        let read = cloud.provider.read(&target).await;
        assert!(matches!(read, Err(ProviderError::Unavailable { .. })), "{read:?}");
        cloud.layer.advance(Duration::from_secs(3601)).await;
        target
    };
    let (seen, target) = futures::future::join(create, meanwhile).await;
    let seen = seen.expect("it appears");
    assert_eq!((&seen.target, seen.status), (&target, CloudStatus::Running));
    assert_eq!(cloud.spoke("RunInstances"), [Spoke::Moto]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spot_instance_that_was_taken_back_is_gone_with_its_reason() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let claim = cloud.machine(|spec| spec.offering.market = Market::Spot);
    let seen = cloud.create(&claim).await.expect("it is launched");
    cloud.layer.interrupt(seen.target.id.as_str()).await;
    let listing = cloud.provider.list(&claims::stack()).await.expect("a listing");
    assert_eq!(listing.resources, [], "terminated ones are never fetched");
    assert!(listing.completeness.is_complete());
    let read = cloud
        .provider
        .read(&seen.target)
        .await
        .expect("a reading")
        .expect("it is told of");
    assert_eq!(
        read.status,
        CloudStatus::Terminated("spot interruption".to_owned())
    );
    let again = cloud.create(&claim).await;
    assert!(
        again.is_err_and(|error| error.is_definite()),
        "its token is spent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_passed_on_at_once_and_a_throttle_is_waited_for() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let capacity = Refusal::insufficient_capacity("c6i.large", ZONES[0]);
    cloud.layer.rule(Rule::refuse("RunInstances", capacity).always());
    let claim = cloud.machine(|_| {});
    let error = cloud.create(&claim).await.expect_err("there is none");
    assert!(matches!(error, ProviderError::NoCapacity { .. }), "{error}");
    assert_eq!(
        cloud.spoke("RunInstances"),
        [Spoke::Layer],
        "the next rung is not kept waiting"
    );

    cloud.layer.clear_rules();
    cloud.layer.clear_calls();
    cloud
        .layer
        .rule(Rule::refuse("RunInstances", Refusal::request_limit()));
    cloud.create(&claim).await.expect("it is asked again");
    assert_eq!(cloud.spoke("RunInstances"), [Spoke::Layer, Spoke::Moto]);

    cloud
        .layer
        .rule(Rule::refuse("DescribeInstances", Refusal::request_limit()).always());
    let listing = cloud
        .provider
        .list(&claims::stack())
        .await
        .expect("keys and groups");
    assert!(!listing.completeness.is_complete());
    for action in ["DescribeKeyPairs", "DescribeSecurityGroups"] {
        cloud
            .layer
            .rule(Rule::refuse(action, Refusal::request_limit()).always());
    }
    let error = cloud.provider.list(&claims::stack()).await.expect_err("nothing");
    assert!(matches!(error, ProviderError::Throttled { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_the_lists_and_the_spot_markets_of_today() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let all = cloud.provider.offerings().await.expect("offerings");
    assert!(all.completeness.is_complete(), "{:?}", all.completeness);
    let said: Vec<_> = all
        .offerings
        .iter()
        .map(|o| (o.key.to_string(), o.price.hourly.to_string()))
        .collect();
    let expected = [
        ("aws/eu-central-1a c6i.large", "0.102 USD"),
        ("aws/eu-central-1a c6i.large spot", "0.0395 USD"),
        ("aws/eu-central-1b c6i.large", "0.102 USD"),
        ("aws/eu-central-1b c6i.large spot", "0.0395 USD"),
    ];
    assert_eq!(
        said,
        expected.map(|(key, price)| (key.to_owned(), price.to_owned()))
    );
    assert_eq!(
        (
            cloud.spoke("GetProducts"),
            cloud.spoke("DescribeSpotPriceHistory")
        ),
        (vec![Spoke::Layer], vec![Spoke::Layer])
    );
    assert_eq!(cloud.spoke("DescribeInstanceTypeOfferings"), [Spoke::Moto]);

    // A day's prices are kept: the list is not asked again, the spot market is.
    cloud.provider.offerings().await.expect("offerings");
    assert_eq!(cloud.layer.calls_of("GetProducts").len(), 1);
    assert_eq!(cloud.layer.calls_of("DescribeSpotPriceHistory").len(), 2);

    // Without the list, the table says; what it does not know is named, and not sold.
    cloud.layer.set_products(None);
    let image = cloud.image.clone();
    let cloud = cloud
        .with(|options| {
            options
                .choices
                .push(choice("c6g.large", Market::OnDemand, &image));
        })
        .await;
    let all = cloud.provider.offerings().await.expect("offerings");
    let on_demand: BTreeSet<_> = all
        .offerings
        .iter()
        .map(|o| o.key.machine_type.as_str())
        .collect();
    assert_eq!(on_demand, BTreeSet::from(["c6i.large"]));
    assert!(
        format!("{:?}", all.completeness).contains("aws/eu-central-1a c6g.large"),
        "{:?}",
        all.completeness
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_its_owner_by_a_parameter_or_in_the_template() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let parameter = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
    let template = cloud
        .layer
        .make_launch_template("runners", &TemplateShape::default())
        .await;
    let how = |name: &str| {
        Some(Box::new(Ec2Launch {
            launch_template: Some(name.to_owned()),
            ..Ec2Launch::default()
        }))
    };
    let cases = [
        (ImageRef::Parameter(parameter.to_owned()), None),
        (
            ImageRef::Owned {
                owner: "amazon".to_owned(),
                name: "amzn2-ami-*".to_owned(),
            },
            None,
        ),
        (ImageRef::LaunchTemplate, how(&template)),
        (ImageRef::LaunchTemplate, how("runners")),
    ];
    for (at, (image, how)) in cases.into_iter().enumerate() {
        let mut claim = cloud.machine(|spec| {
            spec.image = image.clone();
            spec.ec2.clone_from(&how);
        });
        claim.labels.intent = format!("m-{at}").into();
        cloud.provider.prepare(&claim.spec).await;
        let asked = cloud.layer.calls_of("DescribeImages").len();
        let seen = cloud
            .create(&claim)
            .await
            .unwrap_or_else(|error| panic!("{image}: {error}"));
        assert_eq!(
            cloud.layer.calls_of("DescribeImages").len(),
            asked,
            "what was prepared is not asked again"
        );
        cloud.provider.delete(&seen.target).await.expect("it is deleted");
    }
    cloud.layer.clear_calls();
    for image in [
        ImageRef::Parameter("/no/such".to_owned()),
        ImageRef::Name("ami-00000000".to_owned()),
        ImageRef::Owned {
            owner: "amazon".to_owned(),
            name: "no-such-*".to_owned(),
        },
    ] {
        let error = cloud
            .create(&cloud.machine(|spec| spec.image = image.clone()))
            .await;
        let error = error.expect_err("there is none");
        assert!(
            matches!(error, ProviderError::Rejected { .. }),
            "{image}: {error}"
        );
    }
    assert!(
        cloud.layer.calls_of("RunInstances").is_empty(),
        "nothing was asked for that could not be"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_the_region_does_not_have_are_told_with_what_it_has() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let image = cloud.image.clone();
    let with = |machine_type: &str, zone: &str, how: Ec2Launch| OfferingChoice {
        locations: vec![zone.to_owned()],
        ec2: Some(Box::new(how)),
        ..choice(machine_type, Market::OnDemand, &image)
    };
    let choices = [
        with("c6i.lage", ZONES[0], Ec2Launch::default()),
        with("c6i.large", "eu-central-1z", Ec2Launch::default()),
        with(
            "c6i.xlarge",
            ZONES[0],
            Ec2Launch {
                subnets: vec!["subnet-0a1b2c3d".to_owned()],
                security_groups: vec!["sg-0a1b2c3d".to_owned()],
                instance_profile: Some("arn:aws:iam::1:role/x".to_owned()),
                ..Ec2Launch::default()
            },
        ),
        with(
            "c6i.2xlarge",
            ZONES[0],
            Ec2Launch {
                launch_template: Some("no-such".to_owned()),
                ..Ec2Launch::default()
            },
        ),
        // An image for another architecture.
        with("c6g.large", ZONES[0], Ec2Launch::default()),
    ];
    let asked: Vec<Choice> = choices
        .iter()
        .enumerate()
        .map(|(at, choice)| Choice {
            place: format!("o[{at}]"),
            machine_type: choice.machine_type.clone(),
            locations: choice.locations.clone(),
            image: choice.image.clone(),
        })
        .collect();
    let cloud = cloud
        .with(|options| {
            options.choices = choices.to_vec();
            options
                .ssh_keys
                .insert(PoolName::from("linux"), vec!["a".to_owned(), "b".to_owned()]);
        })
        .await;
    let problems = cloud.provider.check(&asked).await.expect("a check");
    let places: BTreeSet<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    let expected = [
        "pools.linux.ssh_keys",
        "o[0].type",
        "o[1].locations[0]",
        "o[2].subnets[0]",
        "o[2].locations[0]",
        "o[2].security_groups[0]",
        "o[2].instance_profile",
        "o[3].launch_template",
        "o[4].image",
    ];
    assert_eq!(places, BTreeSet::from(expected), "{problems:#?}");
    let hint = |place: &str| {
        let problem = problems.iter().find(|problem| problem.place == place);
        problem
            .and_then(|problem| problem.hint.clone())
            .unwrap_or_default()
    };
    assert_eq!(hint("o[0].type"), "did you mean \"c6i.large\"?");
    assert!(
        hint("o[1].locations[0]").starts_with("did you mean"),
        "{problems:#?}"
    );

    // The right to launch is asked for, and nothing is launched.
    cloud
        .layer
        .rule(Rule::refuse("RunInstances", Refusal::unauthorized_operation()));
    let good = Choice {
        locations: vec![ZONES[0].to_owned()],
        machine_type: "c6i.large".to_owned(),
        ..asked[0].clone()
    };
    let problems = cloud
        .provider
        .check(std::slice::from_ref(&good))
        .await
        .expect("a check");
    let told = problems
        .iter()
        .find(|problem| problem.place == "o[0]")
        .expect("it is told");
    assert!(told.what.contains("may not launch"), "{problems:?}");
    let problems = cloud
        .provider
        .check(std::slice::from_ref(&good))
        .await
        .expect("a check");
    assert!(
        problems
            .iter()
            .all(|problem| problem.place == "pools.linux.ssh_keys"),
        "{problems:?}"
    );
    assert_eq!(cloud.layer.instances().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_read_and_that_of_no_instance_is_an_error() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let seen = cloud
        .create(&cloud.machine(|_| {}))
        .await
        .expect("it is launched");
    let console = cloud.provider.console(&seen.target).await.expect("its console");
    assert!(
        console.text.starts_with("Linux version ") && console.text.contains("Kernel command line: "),
        "{console:?}"
    );
    assert!(console.at.is_some());
    let nobody = ResourceRef {
        id: "i-0a1b2c3d4e5f60718".into(),
        ..seen.target
    };
    let error = cloud.provider.console(&nobody).await.expect_err("there is none");
    assert!(error.is_definite(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_that_the_policy_does_not_allow() {
    let Some(cloud) = OnMoto::start(aws::Options::default()).await else {
        return;
    };
    let shared = [claims::key(), claims::firewall(&[claims::rule("22")])];
    let mut targets = Vec::new();
    for claim in &shared {
        targets.push(cloud.create(claim).await.expect("it is made").target);
    }
    let seen = cloud
        .create(&cloud.machine(|_| {}))
        .await
        .expect("it is launched");
    cloud
        .provider
        .relabel(&seen, &[("team".to_owned(), "blue".to_owned())].into())
        .await
        .expect("labels");
    cloud.provider.list_all().await.expect("a listing");
    cloud.provider.console(&seen.target).await.expect("its console");
    cloud.provider.offerings().await.expect("offerings");
    cloud.provider.check(&[]).await.expect("a check");
    for target in [&seen.target, &targets[1], &targets[0]] {
        cloud.provider.delete(target).await.expect("it is deleted");
    }
    let allowed: BTreeSet<&str> = OPERATIONS.iter().map(|(_, action)| *action).collect();
    let called: BTreeSet<String> = cloud
        .layer
        .calls()
        .iter()
        .map(|call| call.action.clone())
        .collect();
    let beyond: Vec<_> = called
        .iter()
        .filter(|action| !allowed.contains(action.as_str()))
        .collect();
    assert_eq!(beyond, [] as [&String; 0]);
    assert!(called.len() > 14, "{called:?}");
}
