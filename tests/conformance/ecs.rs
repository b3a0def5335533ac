//! ECS on Fargate over Amazon's own SDK, with moto as its cloud and a layer of ours in front that says what moto does not.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::{CloudId, ResourceKind},
        offering::{Market, OfferingKey},
        resource::{
            BatchSpec, CloudStatus, Completeness, EcsTask, ImageRef, Observed, ResourceRef, ResourceSpec,
            TaskSpec,
        },
    },
    provider::{
        Choice, Claim, Provider, ProviderError,
        aws::{
            Config,
            ecs::{ACTIONS, Ecs, Options},
        },
    },
    stack::{EcsHome, OfferingChoice},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    aws::{self, Layer, Refusal, Rule, wire::Service},
    batches::batch,
    cases::Backend,
    claims::{SECRET, stack},
    moto,
    provider::{Batches, Harness, Need, Trouble, keeps_the_contract},
};

const REGION: &str = "eu-central-1";
const CLUSTER: &str = "agents";
const SIZE: &str = "0.25vcpu-0.5gb";
/// As AWS says it of an image that is not there.
const NO_IMAGE: &str = "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
                        docker.io/example/agent:1: not found";

struct OnMoto {
    layer: Layer,
    provider: Ecs,
    subnets: Vec<String>,
}

fn config(layer: &Layer) -> Config {
    Config {
        name: "ecs".into(),
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

fn home() -> EcsHome {
    EcsHome {
        cluster: CLUSTER.to_owned(),
        create: true,
        log_group: Some("/runfleet/agents".to_owned()),
    }
}

/// The price list's item of an hour of this usage.
fn product(usage: &str, usd: &str) -> Value {
    json!({
        "product": {
            "productFamily": "Compute", "sku": usage,
            "attributes": {"servicecode": "AmazonECS", "regionCode": REGION, "usagetype": format!("EUC1-{usage}")},
        },
        "serviceCode": "AmazonECS",
        "terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": {
            "unit": "hours", "pricePerUnit": {"USD": usd},
        }}}}},
    })
}

fn layer_options() -> aws::Options {
    aws::Options {
        // Until they are told to come up.
        pending: Duration::MAX,
        ..aws::Options::default()
    }
}

impl OnMoto {
    /// None where there is no moto.
    async fn start() -> Option<Self> {
        let layer = Layer::start(&moto::endpoint().await?, layer_options()).await;
        layer.set_products(Some(vec![
            product("Fargate-vCPU-Hours:perCPU", "0.0465600000"),
            product("Fargate-GB-Hours", "0.0051100000"),
            product("Fargate-Windows-vCPU-Hours:perCPU", "9.0000000000"),
        ]));
        let found = layer.furnish(Service::Ec2, "DescribeSubnets", &[]).await;
        let subnets = found
            .list("subnetSet")
            .iter()
            .map(|subnet| subnet.text_at("subnetId").to_owned());
        let subnets: Vec<String> = subnets.take(2).collect();
        let provider = made(&layer, &subnets, home()).await;
        Some(Self {
            layer,
            provider,
            subnets,
        })
    }

    async fn create(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        self.provider.create(std::slice::from_ref(claim)).await.remove(0)
    }

    async fn listed(&self) -> Vec<Observed> {
        let listing = self.provider.list(&stack()).await.expect("a listing");
        assert_eq!(listing.completeness, Completeness::Complete);
        listing.resources
    }

    /// A batch with a change.
    fn batch(&self, intent: &str, count: u32, change: impl FnOnce(&mut BatchSpec)) -> Claim {
        let mut claim = batch(self, "brave-otter", intent, count);
        if let ResourceSpec::Batch(spec) = &mut claim.spec {
            change(spec);
        }
        claim
    }

    fn asked(&self, action: &str) -> Vec<Value> {
        let parsed = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        let calls = self.layer.calls_of(action).into_iter();
        let bodies = calls.map(|call| {
            call.params
                .iter()
                .map(|(key, text)| (key.clone(), parsed(text)))
                .collect()
        });
        bodies
            .map(|body: serde_json::Map<String, Value>| Value::Object(body))
            .collect()
    }
}

fn choice(machine_type: &str, market: Market, subnets: &[String]) -> OfferingChoice {
    OfferingChoice {
        provider: "ecs".into(),
        machine_type: machine_type.to_owned(),
        locations: Vec::new(),
        image: ImageRef::TaskTemplate,
        public_ipv4: true,
        market,
        ec2: None,
        task: Some(Box::new(TaskSpec::Ecs(task(subnets)))),
        price: None,
        priority: 0,
    }
}

fn task(subnets: &[String]) -> EcsTask {
    EcsTask {
        cluster: CLUSTER.to_owned(),
        subnets: subnets.to_vec(),
        security_groups: Vec::new(),
        platform_version: Some("1.4.0".to_owned()),
    }
}

async fn made(layer: &Layer, subnets: &[String], home: EcsHome) -> Ecs {
    let options = Options {
        home,
        choices: vec![
            choice(SIZE, Market::OnDemand, subnets),
            choice(SIZE, Market::Spot, subnets),
            choice("2vcpu-4gb", Market::OnDemand, subnets),
        ],
    };
    Ecs::new(config(layer), options).await.expect("a provider")
}

#[async_trait]
impl Batches for OnMoto {
    fn template(&self) -> String {
        json!({
            "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
            "tags": [{"key": "team", "value": "blue"}],
            "containerDefinitions": [{
                "name": "agent", "image": "example/agent:1", "essential": true,
                "environment": [{"name": "GREETING", "value": SECRET}],
                "secrets": [{"name": "AZP_TOKEN", "valueFrom": "arn:aws:ssm:eu-central-1:123456789012:parameter/pat"}],
            }],
        })
        .to_string()
    }

    fn task(&self) -> TaskSpec {
        TaskSpec::Ecs(task(&self.subnets))
    }

    fn never_was(&self) -> CloudId {
        "0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a".into()
    }

    async fn run(&self) {
        self.layer.run_tasks();
    }

    async fn end(&self, container: &CloudId, code: i32) {
        self.layer.task_exits(container.as_str(), code).await;
    }

    async fn cannot_start(&self, container: &CloudId) {
        self.layer.task_fails(container.as_str(), NO_IMAGE).await;
    }

    async fn start_only(&self, count: u32) {
        self.layer.room_for(count.into());
    }
}

#[async_trait]
impl Harness for OnMoto {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn offering(&self) -> OfferingKey {
        OfferingKey {
            provider: "ecs".into(),
            location: REGION.to_owned(),
            machine_type: SIZE.to_owned(),
            market: Market::OnDemand,
        }
    }

    fn image(&self) -> ImageRef {
        ImageRef::TaskTemplate
    }

    async fn order(&self, trouble: Trouble) {
        let layer = &self.layer;
        match trouble {
            Trouble::CreateReplyLost(_) => layer.rule(Rule::lose_reply("RunTask")),
            // As often as the client tries again.
            Trouble::CreateRequestLost => layer.rule(Rule::lose_request("RunTask").times(2)),
            Trouble::NoCapacity => layer.room_for(0),
            Trouble::Quota => layer.rule(Rule::refuse("RunTask", Refusal::fargate_quota())),
            Trouble::PartialList => {
                layer.rule(Rule::refuse("ListTasks", Refusal::ecs_denied("ListTasks")).nth(2));
            }
            Trouble::DeleteReplyLost => layer.rule(Rule::lose_reply("StopTask")),
            Trouble::Unauthorized => layer.rule(Rule::refuse("RunTask", Refusal::ecs_denied("RunTask"))),
            other => panic!("{other:?} is no trouble of batches"),
        }
    }

    async fn census(&self) -> usize {
        let living = self
            .layer
            .tasks()
            .iter()
            .filter(|task| task.end.is_none())
            .count();
        assert_eq!(living, self.layer.motos_tasks().await, "as moto has it");
        living
    }

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }

    fn lacks(&self) -> Vec<Need> {
        Vec::new()
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "ecs",
        "moto, and a layer in front of it",
        Some(|| Box::pin(async { Some(Box::new(OnMoto::start().await?) as Box<dyn Harness>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_on_moto_keep_the_contract() {
    keeps_the_contract("ecs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_call_with_the_attempts_token_and_its_claim_as_tags() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let claim = cloud.batch("attempt-1", 3, |batch| batch.each.public_ipv4 = true);
    cloud.create(&claim).await.expect("it is started");
    let [asked] = cloud.asked("RunTask").try_into().expect("one call");
    assert_eq!(asked["count"], 3);
    assert_eq!(asked["cluster"], CLUSTER);
    assert_eq!(
        (&asked["clientToken"], &asked["startedBy"]),
        (&json!("attempt-1"), &json!("attempt-1"))
    );
    assert_eq!(
        (&asked["launchType"], &asked["platformVersion"]),
        (&json!("FARGATE"), &json!("1.4.0"))
    );
    let vpc = &asked["networkConfiguration"]["awsvpcConfiguration"];
    assert_eq!(
        *vpc,
        json!({"subnets": cloud.subnets, "assignPublicIp": "ENABLED"})
    );
    let tags = asked["tags"].as_array().expect("tags");
    let tag = |key: &str| {
        tags.iter()
            .find(|tag| tag["key"] == key)
            .map(|tag| tag["value"].clone())
    };
    for (key, value) in claim.labels.to_labels() {
        assert_eq!(tag(&key), Some(json!(value)), "{key}");
    }
    assert_eq!(tag("team"), Some(json!("blue")), "the template's own");
    assert_eq!(tag("Name"), Some(json!("conformance-linux-brave-otter")));
    // What was registered is the template's own JSON, completed.
    let [registered] = cloud
        .asked("RegisterTaskDefinition")
        .try_into()
        .expect("one definition");
    assert_eq!(registered["family"], "runfleet-conformance-linux");
    assert_eq!(
        (&registered["cpu"], &registered["memory"]),
        (&json!(256), &json!(512))
    );
    let container = &registered["containerDefinitions"][0];
    assert_eq!(container["secrets"][0]["name"], "AZP_TOKEN");
    assert_eq!(
        container["logConfiguration"]["options"]["awslogs-create-group"],
        "true"
    );
    // A cluster that was not there was made, with both markets.
    let [cluster] = cloud.asked("CreateCluster").try_into().expect("one cluster");
    assert_eq!(cluster["capacityProviders"], json!(["FARGATE", "FARGATE_SPOT"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_definition_is_registered_once_and_again_only_when_it_is_another() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let registered = || cloud.asked("RegisterTaskDefinition").len();
    let claims = [
        cloud.batch("one", 1, |_| ()),
        cloud.batch("two", 2, |_| ()),
        cloud.batch("three", 1, |_| ()),
    ];
    for answer in cloud.provider.create(&claims).await {
        answer.expect("it is started");
    }
    assert_eq!(registered(), 1, "a burst registers once");
    // Another process finds it.
    let other = made(&cloud.layer, &cloud.subnets, home()).await;
    other
        .create(&[cloud.batch("four", 1, |_| ())])
        .await
        .remove(0)
        .expect("it is started");
    assert_eq!(registered(), 1);
    let larger = cloud.batch("five", 1, |batch| {
        "2vcpu-4gb".clone_into(&mut batch.each.offering.machine_type);
    });
    other.create(&[larger]).await.remove(0).expect("it is started");
    assert_eq!(registered(), 2, "another size is another definition");
    let revisions: BTreeSet<String> = cloud
        .layer
        .tasks()
        .into_iter()
        .map(|task| task.definition)
        .collect();
    assert_eq!(revisions.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spot_market_is_a_capacity_provider_and_may_take_tasks_back() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let claim = cloud.batch("spot-1", 2, |batch| batch.each.offering.market = Market::Spot);
    let started = cloud.create(&claim).await.expect("it is started");
    let asked = cloud.asked("RunTask").remove(0);
    assert_eq!(
        asked["capacityProviderStrategy"],
        json!([{"capacityProvider": "FARGATE_SPOT", "weight": 1}])
    );
    assert_eq!(asked.get("launchType"), None);
    cloud.layer.run_tasks();
    cloud.layer.task_interrupted(started.members[0].id.as_str()).await;
    let seen = cloud.listed().await.remove(0);
    let market = |member: &runfleet::model::resource::Member| member.offering.as_ref().map(|key| key.market);
    assert!(
        seen.members
            .iter()
            .all(|member| market(member) == Some(Market::Spot))
    );
    let gone = seen
        .members
        .iter()
        .find(|member| member.id == started.members[0].id)
        .expect("it is told");
    let why = "SpotInterruption: Your Spot Task was interrupted.".to_owned();
    assert_eq!(gone.status, CloudStatus::Terminated(why.clone()));
    assert_eq!(gone.lifecycle, format!("STOPPED: {why}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_started_has_failed_until_it_was_seen() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let started = cloud
        .create(&cloud.batch("failing", 3, |_| ()))
        .await
        .expect("it is started");
    let (first, second) = (started.members[0].id.clone(), started.members[1].id.clone());
    for id in [&first, &second] {
        cloud.layer.task_fails(id.as_str(), NO_IMAGE).await;
    }
    let failed = async || {
        let seen = cloud.listed().await.remove(0);
        let failed = seen
            .members
            .into_iter()
            .filter(|member| matches!(member.status, CloudStatus::Failed(_)));
        failed.map(|member| member.id).collect::<Vec<_>>()
    };
    assert_eq!(failed().await.len(), 2);
    let target = ResourceRef {
        kind: ResourceKind::Machine,
        id: first,
        ..started.target
    };
    cloud
        .provider
        .delete(&target)
        .await
        .expect("it is stopped already");
    assert_eq!(failed().await, [second], "what was acted on is not told again");
    cloud.layer.advance(Duration::from_secs(600)).await;
    assert_eq!(failed().await, [], "nor what nobody can remove, for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_spot_market_is_told_and_not_changed() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let target = format!("{}.CreateCluster", aws::tasks::TARGET);
    let made_by_hand = json!({"clusterName": CLUSTER, "capacityProviders": ["FARGATE"]});
    cloud
        .layer
        .moto()
        .send_json(Service::Ecs, &target, &made_by_hand)
        .await
        .expect("a cluster");
    let claim = cloud.batch("spot-2", 1, |batch| batch.each.offering.market = Market::Spot);
    let error = cloud.create(&claim).await.expect_err("it has no such provider");
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    let problems = cloud.provider.check(&[]).await.expect("a check");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].place, "providers.ecs.cluster");
    assert!(problems[0].what.contains("FARGATE_SPOT"), "{problems:?}");
    assert!(cloud.asked("CreateCluster").is_empty() && cloud.asked("PutClusterCapacityProviders").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_address_tell_what_the_runner_is_called() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    for (intent, public) in [("private", false), ("public", true)] {
        let claim = cloud.batch(intent, 2, |batch| batch.each.public_ipv4 = public);
        let started = cloud.create(&claim).await.expect("it is started");
        assert!(
            public || started.members.iter().all(|member| member.hostname.is_none()),
            "not known yet"
        );
    }
    cloud.layer.run_tasks();
    for seen in cloud.listed().await {
        let public = seen.target.id.as_str() == "public";
        for member in &seen.members {
            let name = member.hostname.as_deref().expect("it runs");
            assert_eq!(
                name.starts_with("ip-") && name.ends_with(".internal"),
                public,
                "{name}"
            );
            let task = cloud
                .layer
                .tasks()
                .into_iter()
                .find(|task| task.id == member.id.as_str());
            let runtime = task.expect("moto has it").runtime();
            assert_eq!(name == runtime, !public, "{name}");
            assert_eq!(member.addresses.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_started_otherwise_is_not_started_again() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let claim = cloud.batch("once", 2, |_| ());
    let first = cloud.create(&claim).await.expect("it is started");
    // The stack file came to name one subnet, and the same attempt is tried again.
    let again = cloud.batch("once", 2, |batch| {
        batch.each.task = Some(Box::new(TaskSpec::Ecs(task(&cloud.subnets[..1]))));
    });
    let adopted = cloud.create(&again).await.expect("it is adopted");
    let ids = |seen: &Observed| {
        seen.members
            .iter()
            .map(|member| member.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&adopted), ids(&first));
    assert_eq!(cloud.census().await, 2);
    // Where fewer are seen than it counts, nobody knows.
    let more = cloud.batch("once", 3, |_| ());
    let error = cloud.create(&more).await.expect_err("two are seen");
    assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error}");
    assert_eq!(cloud.census().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_started_just_now_may_be_unseen_and_is_not_taken_for_stopped() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    cloud
        .layer
        .hold(Duration::MAX, Duration::from_secs(60), Duration::ZERO);
    let claim = cloud.batch("hidden", 2, |_| ());
    let started = cloud.create(&claim).await.expect("it is started");
    assert_eq!(cloud.listed().await, [], "ECS does not know of it yet");
    let one = ResourceRef {
        kind: ResourceKind::Machine,
        id: started.members[0].id.clone(),
        ..started.target.clone()
    };
    for target in [&one, &started.target] {
        let error = cloud
            .provider
            .delete(target)
            .await
            .expect_err("it is not stopped");
        assert!(matches!(error, ProviderError::Unavailable { .. }), "{error}");
    }
    assert_eq!(cloud.census().await, 2);
    cloud.layer.advance(Duration::from_secs(60)).await;
    assert_eq!(cloud.listed().await.len(), 1);
    cloud
        .provider
        .delete(&started.target)
        .await
        .expect("it is stopped");
    assert_eq!(cloud.census().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ecs_says_is_a_decision() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let refusals = [
        (
            Refusal::new(400, "ThrottlingException", "Rate exceeded"),
            "throttled",
        ),
        (Refusal::fargate_quota(), "quota"),
        (
            Refusal::new(400, "ClientException", "Capacity is unavailable at this time."),
            "capacity",
        ),
        (
            Refusal::new(400, "ClientException", "ECS was unable to assume the role"),
            "rejected",
        ),
        (
            Refusal::new(
                400,
                "PlatformTaskDefinitionIncompatibilityException",
                "The platform has no such feature.",
            ),
            "rejected",
        ),
        (
            Refusal::new(400, "BlockedException", "Your account has been blocked."),
            "unauthorized",
        ),
        (
            Refusal::new(
                500,
                "ServerException",
                "Service Unavailable. Please try again later.",
            ),
            "ambiguous",
        ),
    ];
    for (n, (refusal, expected)) in refusals.into_iter().enumerate() {
        cloud.layer.clear_rules();
        cloud.layer.rule(Rule::refuse("RunTask", refusal).always());
        let claim = cloud.batch(&format!("refused-{n}"), 1, |_| ());
        let error = cloud.create(&claim).await.expect_err("it is refused");
        let said = match error {
            ProviderError::NoCapacity { .. } => "capacity",
            ProviderError::Quota { .. } => "quota",
            ProviderError::Throttled { .. } => "throttled",
            ProviderError::Rejected { .. } => "rejected",
            ProviderError::Unauthorized { .. } => "unauthorized",
            ProviderError::Ambiguous { .. } => "ambiguous",
            _ => "other",
        };
        assert_eq!(said, expected, "{error}");
    }
    assert_eq!(cloud.census().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_shows_a_secret_starts_nothing_and_is_not_shown() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let mut claim = cloud.batch("open", 1, |_| ());
    let open = json!({"containerDefinitions": [{
        "name": "agent", "image": "example/agent:1", "environment": [{"name": "AZP_TOKEN", "value": SECRET}],
    }]});
    claim.user_data = Some(SecretString::from(open.to_string()));
    let error = cloud.create(&claim).await.expect_err("it is refused");
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    assert!(
        error.to_string().contains("AZP_TOKEN") && !format!("{error:?}").contains(SECRET),
        "{error}"
    );
    assert!(
        cloud
            .layer
            .calls()
            .iter()
            .all(|call| call.action != "RegisterTaskDefinition")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_ecs_cannot_start_by_one_call_is_refused_before_any() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let wrong = [
        cloud.batch("eleven", 11, |_| ()),
        cloud.batch("none", 0, |_| ()),
        cloud.batch("elsewhere", 1, |batch| {
            "eu-west-1".clone_into(&mut batch.each.offering.location);
        }),
        cloud.batch("odd", 1, |batch| {
            "1vcpu-1gb".clone_into(&mut batch.each.offering.machine_type);
        }),
        cloud.batch("not-a-task", 1, |batch| batch.each.task = None),
    ];
    for answer in cloud.provider.create(&wrong).await {
        let error = answer.expect_err("it is refused");
        assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    }
    assert!(cloud.layer.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_missing_is_empty_where_it_is_ours_to_make_and_else_told() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    assert_eq!(cloud.listed().await, [], "it will be made with the first batch");
    let home = EcsHome {
        create: false,
        ..home()
    };
    let strict = made(&cloud.layer, &cloud.subnets, home).await;
    let error = strict.list(&stack()).await.expect_err("there is no cluster");
    assert!(
        error
            .to_string()
            .contains("there is no cluster agents in eu-central-1"),
        "{error}"
    );
    let error = strict
        .create(&[cloud.batch("x", 1, |_| ())])
        .await
        .remove(0)
        .expect_err("nor here");
    assert!(
        error.to_string().contains("create = true in providers.ecs"),
        "{error}"
    );
    let problems = strict.check(&[]).await.expect("a check");
    assert_eq!(problems[0].place, "providers.ecs.cluster");
    assert!(
        problems[0]
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("aws ecs create-cluster"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_there_are_told_by_their_places() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let place = |at: usize| format!("pools.linux.offerings[{at}]");
    let choice_of = |at: usize, machine_type: &str, locations: &[&str]| Choice {
        place: place(at),
        machine_type: machine_type.to_owned(),
        locations: locations.iter().map(|location| (*location).to_owned()).collect(),
        image: ImageRef::TaskTemplate,
    };
    let good = choice_of(0, SIZE, &[]);
    assert_eq!(cloud.provider.check(&[good]).await.expect("a check"), []);
    let mut lost = choice("4vcpu-8gb", Market::OnDemand, &["subnet-0a1b2c3d".to_owned()]);
    if let Some(TaskSpec::Ecs(how)) = lost.task.as_deref_mut() {
        how.security_groups = vec!["sg-0a1b2c3d".to_owned()];
    }
    let options = Options {
        home: home(),
        choices: vec![lost],
    };
    let provider = Ecs::new(config(&cloud.layer), options).await.expect("a provider");
    let choices = [
        choice_of(0, "1vcpu-1gb", &[]),
        choice_of(1, SIZE, &["eu-central-1a"]),
        choice_of(2, "4vcpu-8gb", &[]),
    ];
    let problems = provider.check(&choices).await.expect("a check");
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    let expected = [
        "pools.linux.offerings[0].type",
        "pools.linux.offerings[1].locations[0]",
        "pools.linux.offerings[2].subnets[0]",
        "pools.linux.offerings[2].security_groups[0]",
    ];
    assert_eq!(places, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_the_price_lists_or_else_of_a_table() {
    let Some(cloud) = OnMoto::start().await else {
        return;
    };
    let priced = |provider: Ecs| async move {
        let all = provider.offerings().await.expect("offerings");
        assert_eq!(all.completeness, Completeness::Complete);
        let said = all.offerings.iter().map(|offering| {
            (
                offering.key.to_string(),
                offering.price_without_ipv4.hourly.to_string(),
            )
        });
        said.collect::<Vec<_>>()
    };
    let expected = [
        ("ecs/eu-central-1 0.25vcpu-0.5gb", "0.014195 USD"),
        ("ecs/eu-central-1 0.25vcpu-0.5gb spot", "0.005678 USD"),
        ("ecs/eu-central-1 2vcpu-4gb", "0.11356 USD"),
    ]
    .map(|(key, price)| (key.to_owned(), price.to_owned()));
    let silent = || cloud.layer.set_products(None);
    assert_eq!(
        priced(made(&cloud.layer, &cloud.subnets, home()).await).await,
        expected
    );
    silent();
    assert_eq!(
        priced(made(&cloud.layer, &cloud.subnets, home()).await).await,
        expected,
        "the table agrees"
    );
    // The list counts where it answers.
    cloud.layer.set_products(Some(vec![
        product("Fargate-vCPU-Hours:perCPU", "0.0400000000"),
        product("Fargate-GB-Hours", "0.0040000000"),
    ]));
    let cheaper = priced(made(&cloud.layer, &cloud.subnets, home()).await).await;
    assert_eq!(cheaper[2].1, "0.096 USD");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_started_in_the_world_and_their_end_there_is_theirs_here() {
    let Some(moto) = moto::endpoint().await else {
        return;
    };
    let world = crate::aws_layer::Stub::default();
    let options = aws::Options {
        control: Some(world.serve().await),
        ..layer_options()
    };
    let layer = Layer::start(&moto, options).await;
    layer.hold_secret("arn:aws:ssm:eu-central-1:123456789012:parameter/pat", "the-token");
    let found = layer.furnish(Service::Ec2, "DescribeSubnets", &[]).await;
    let subnets = vec![found.list("subnetSet")[0].text_at("subnetId").to_owned()];
    let provider = made(&layer, &subnets, home()).await;
    let cloud = OnMoto {
        layer,
        provider,
        subnets,
    };
    let started = cloud
        .create(&cloud.batch("world", 2, |_| ()))
        .await
        .expect("it is started");
    cloud.layer.run_tasks();
    let seen = cloud.listed().await.remove(0);
    for member in &seen.members {
        let told = world.machine(member.id.as_str()).expect("it is reported");
        assert_eq!(
            told["name"].as_str(),
            member.hostname.as_deref(),
            "its own name for itself"
        );
        assert_eq!(
            told["environment"],
            json!({
                "AZP_TOKEN": "the-token", "GREETING": SECRET,
                "RUNFLEET_STACK": "conformance", "RUNFLEET_LINEAGE": "lineage-1", "RUNFLEET_POOL": "linux",
            })
        );
    }
    world.power_off(started.members[0].id.as_str());
    let seen = cloud.listed().await.remove(0);
    let status = |at: usize| {
        let id = &started.members[at].id;
        let member = seen.members.iter().find(|member| member.id == *id);
        member.map(|member| member.status.clone())
    };
    assert_eq!(status(0), Some(CloudStatus::Ended(Some(0))));
    assert_eq!(status(1), Some(CloudStatus::Running));
    cloud
        .provider
        .delete(&started.target)
        .await
        .expect("it is stopped");
    assert_eq!(cloud.census().await, 0);
    assert_eq!(world.machine(started.members[1].id.as_str()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_is_why_a_task_failed() {
    let Some(moto) = moto::endpoint().await else {
        return;
    };
    let world = crate::aws_layer::Stub::default();
    let options = aws::Options {
        control: Some(world.serve().await),
        ..layer_options()
    };
    let layer = Layer::start(&moto, options).await;
    let found = layer.furnish(Service::Ec2, "DescribeSubnets", &[]).await;
    let subnets = vec![found.list("subnetSet")[0].text_at("subnetId").to_owned()];
    let provider = made(&layer, &subnets, home()).await;
    let cloud = OnMoto {
        layer,
        provider,
        subnets,
    };
    cloud
        .create(&cloud.batch("poor", 1, |_| ()))
        .await
        .expect("it is started");
    let seen = cloud.listed().await.remove(0);
    let CloudStatus::Failed(why) = &seen.members[0].status else {
        panic!("{seen:?}")
    };
    assert!(
        why.starts_with("ResourceInitializationError: unable to pull secrets"),
        "{why}"
    );
}

/// What a policy of IAM must allow beyond what is called: starting a task hands it its roles.
const PASSED: &str = "iam:PassRole";

#[test]
fn the_policy_allows_what_the_code_calls_and_nothing_else() {
    let text = include_str!("../../packaging/iam/ecs.json");
    let policy: Value = serde_json::from_str(text).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let mut allowed: Vec<&str> = statements
        .iter()
        .flat_map(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            statement["Action"].as_array().unwrap()
        })
        .map(|action| action.as_str().unwrap())
        .filter(|action| *action != PASSED)
        .collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ACTIONS);
    // The list beside the code is what the code calls, too: each operation of the SDK is named where it is sent.
    let code = concat!(
        include_str!("../../src/provider/aws/ecs/api.rs"),
        include_str!("../../src/provider/aws/ecs/rates.rs"),
    );
    let code: String = code.split_whitespace().collect();
    let clients = [
        ("self.ecs.", "ecs"),
        ("self.ec2.", "ec2"),
        ("self.client.", "pricing"),
    ];
    let mut called: Vec<String> = clients
        .into_iter()
        .flat_map(|(client, service)| {
            let calls = code.split(client).skip(1);
            calls.map(move |rest| {
                let operation = rest.split('(').next().unwrap_or_default();
                let words = operation.split('_').map(|word| {
                    let (first, rest) = word.split_at(1);
                    first.to_uppercase() + rest
                });
                format!("{service}:{}", words.collect::<String>())
            })
        })
        .collect();
    called.sort_unstable();
    called.dedup();
    assert_eq!(called, ACTIONS);
}
