//! The provider of Auto Scaling groups, over Amazon's own SDK: moto is the cloud, the layer before it says what moto does not,
//! and each test says which of the two spoke where that matters. boto3 looks at what was done, and must agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runfleet::{
    model::{
        ids::{CloudId, ResourceKind},
        offering::{Market, OfferingKey},
        resource::{
            CloudStatus, Completeness, GroupSpec, GroupView, Listing, Member, Observed, ResourceRef,
            ResourceSpec,
        },
    },
    provider::{
        Provider, ProviderError,
        aws::{
            Config,
            groups::{ACTIONS, CALL_TIMEOUT, DETACHED, Groups, LEAVING},
        },
    },
    stack::{GroupChoice, GroupSelector, Leave},
};
use serde_json::{Value, json};

use crate::{
    aws::{
        Activity, GroupShape, Layer, Options, Refusal, Rule, Spoke, SpotPrice, TemplateShape, market,
        wire::Service,
    },
    moto,
};

const REGION: &str = "eu-central-1";
pub(crate) const END: &str = "TerminateInstanceInAutoScalingGroup";

fn named(name: &str, leave: Leave) -> GroupChoice {
    GroupChoice {
        provider: "aws".into(),
        which: GroupSelector::Named(name.to_owned()),
        leave,
        runner: runfleet::stack::RunnerNaming::Id,
    }
}

pub(crate) fn tagged(namespace: &str) -> GroupChoice {
    GroupChoice {
        provider: "aws".into(),
        which: GroupSelector::Tagged {
            key: "resource-class".to_owned(),
            namespace: namespace.to_owned(),
        },
        leave: Leave::Terminate,
        runner: runfleet::stack::RunnerNaming::Id,
    }
}

/// The shortest that moto takes, in seconds: it takes none for AWS's own default.
pub(crate) const COOLDOWN: u32 = 1;

/// A layer with a world of its own; none where there is no moto.
async fn layer(options: Options) -> Option<Layer> {
    Some(Layer::start(&moto::endpoint().await?, options).await)
}

pub(crate) async fn provider(layer: &Layer, choices: Vec<GroupChoice>) -> Groups {
    let config = Config {
        name: "aws".into(),
        region: Some(REGION.to_owned()),
        profile: None,
        role_arn: None,
        keys: Some(("AKIAIOSFODNN7EXAMPLE".to_owned(), "secret".into())),
        endpoint: Some(layer.endpoint.clone()),
        ca_pem: None,
        concurrency: 10,
        call_timeout: Duration::from_secs(10),
        total_timeout: Duration::from_secs(10),
        retries: 1,
    };
    Groups::new(config, choices).await.unwrap()
}

/// A group `linux` of this size that has cooled down, and a provider of it.
async fn linux(layer: &Layer, leave: Leave, shape: GroupShape) -> Groups {
    let shape = GroupShape {
        cooldown: COOLDOWN,
        ..shape
    };
    layer.make_group("linux", &shape).await;
    layer.advance(Duration::from_secs(COOLDOWN.into())).await;
    provider(layer, vec![named("linux", leave)]).await
}

fn sized(min: u32, desired: u32, max: u32) -> GroupShape {
    GroupShape {
        min,
        max,
        desired,
        ..GroupShape::default()
    }
}

fn group(name: &str) -> ResourceRef {
    ResourceRef {
        provider: "aws".into(),
        kind: ResourceKind::Group,
        id: name.into(),
    }
}

fn machine(id: &CloudId) -> ResourceRef {
    ResourceRef {
        provider: "aws".into(),
        kind: ResourceKind::Machine,
        id: id.clone(),
    }
}

async fn list(provider: &Groups) -> Listing {
    provider.list(&"prod".into()).await.unwrap()
}

/// The group `linux`, in a listing that must be whole.
async fn listed(provider: &Groups) -> Observed {
    let listing = list(provider).await;
    assert_eq!(listing.completeness, Completeness::Complete);
    let mut found = listing.resources.into_iter();
    found
        .find(|seen| seen.target == group("linux"))
        .expect("it is listed")
}

fn view(seen: &Observed) -> &GroupView {
    seen.group.as_ref().expect("a group's view")
}

fn ids(seen: &Observed) -> Vec<CloudId> {
    seen.members.iter().map(|member| member.id.clone()).collect()
}

fn member<'a>(seen: &'a Observed, id: &CloudId) -> &'a Member {
    seen.members
        .iter()
        .find(|member| member.id == *id)
        .expect("a member")
}

fn spec(size: u32, from: u32, protected: &[CloudId]) -> ResourceSpec {
    ResourceSpec::Group(GroupSpec {
        name: "linux".to_owned(),
        size,
        from,
        protected: protected.iter().cloned().collect(),
    })
}

/// What moto holds of the group `linux`: its desired capacity, and its members.
async fn truth(layer: &Layer) -> (i64, Vec<String>) {
    let groups = layer.groups().await;
    let group = groups.iter().find(|group| group.name == "linux").unwrap();
    (
        group.desired,
        group.members.iter().map(|member| member.id.clone()).collect(),
    )
}

async fn is_dead(layer: &Layer, id: &CloudId) -> bool {
    let machines = layer.instances().await;
    machines
        .iter()
        .find(|machine| machine.id == id.as_str())
        .unwrap()
        .dead()
}

/// Who answered each call of this action.
fn spoke(layer: &Layer, action: &str) -> Vec<Spoke> {
    layer.calls_of(action).iter().map(|call| call.spoke).collect()
}

#[track_caller]
fn rejected(error: &ProviderError, wanted: &str, says: &str) {
    let ProviderError::Rejected { code, why } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, wanted, "{why}");
    assert!(why.contains(says), "{why}");
}

#[tokio::test]
async fn groups_are_found_by_name_and_by_tag_over_two_pages_and_no_others() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let of = |class: &str| GroupShape {
        tags: vec![("resource-class".to_owned(), class.to_owned())],
        ..sized(0, 1, 3)
    };
    layer.make_group("linux", &sized(0, 2, 5)).await;
    layer.make_group("acme/arm", &of("acme/arm")).await;
    // 101 others carry the same key, so that what is ours is on both sides of a page's end.
    let template = layer
        .make_launch_template("others", &TemplateShape::default())
        .await;
    for n in 0..100 {
        let of_others = [
            ("AutoScalingGroupName", format!("other-{n}")),
            ("LaunchTemplate.LaunchTemplateId", template.clone()),
            ("MinSize", "0".to_owned()),
            ("MaxSize", "1".to_owned()),
            ("AvailabilityZones.member.1", format!("{REGION}a")),
            ("Tags.member.1.Key", "resource-class".to_owned()),
            ("Tags.member.1.Value", format!("acme-2/{n}")),
        ];
        let of_others = of_others.map(|(key, value)| (key.to_owned(), value));
        layer
            .furnish(Service::AutoScaling, "CreateAutoScalingGroup", &of_others)
            .await;
    }
    layer.make_group("x86", &of("acme/x86")).await;
    let choices = vec![
        named("linux", Leave::Terminate),
        named("nobody", Leave::Terminate),
        tagged("acme"),
    ];
    let provider = provider(&layer, choices).await;
    let listing = list(&provider).await;
    assert_eq!(
        listing.completeness,
        Completeness::Complete,
        "one that is nowhere is only absent"
    );
    let found: BTreeMap<_, _> = listing
        .resources
        .iter()
        .map(|seen| (seen.name.as_str(), (seen.size, seen.members.len())))
        .collect();
    let wanted = [
        ("acme/arm", (Some(1), 1)),
        ("linux", (Some(2), 2)),
        ("x86", (Some(1), 1)),
    ];
    assert_eq!(found, BTreeMap::from(wanted));
    let x86 = listing.resources.iter().find(|seen| seen.name == "x86").unwrap();
    assert_eq!(x86.labels["resource-class"], "acme/x86");
    assert_eq!(x86.target, group("x86"));
    let pages = layer.calls_of("DescribeAutoScalingGroups");
    assert_eq!(pages.len(), 3, "one by name, two pages by tag");
    assert!(pages.iter().all(|page| page.spoke == Spoke::Moto));
    assert_eq!(
        listing.calls as usize,
        layer.calls().len(),
        "each call is counted"
    );
    assert_eq!(
        layer.calls_of("DescribePolicies").len(),
        3,
        "of others nothing is asked"
    );
}

#[tokio::test]
async fn a_page_that_fails_makes_a_part_and_a_first_one_an_error() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 3)).await;
    let page = "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
                <AutoScalingGroupName>linux</AutoScalingGroupName><DesiredCapacity>1</DesiredCapacity>\
                <MinSize>0</MinSize><MaxSize>3</MaxSize></member></AutoScalingGroups><NextToken>2</NextToken>\
                </DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>";
    layer.rule(Rule::answer("DescribeAutoScalingGroups", page));
    layer.rule(Rule::refuse("DescribeAutoScalingGroups", Refusal::throttling()).always());
    let listing = list(&provider).await;
    assert_eq!(listing.resources.len(), 1);
    let Completeness::Partial { why } = &listing.completeness else {
        panic!("{:?}", listing.completeness);
    };
    assert!(why.contains("page 2") && why.contains("throttled"), "{why}");
    let error = provider.list(&"prod".into()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Throttled { .. }), "{error:?}");
    assert!(
        spoke(&layer, "DescribeAutoScalingGroups")
            .iter()
            .all(|spoke| *spoke == Spoke::Layer),
        "moto throttles nobody"
    );
}

#[tokio::test]
async fn members_are_what_auto_scaling_and_ec2_together_say() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let spot = GroupShape {
        template: TemplateShape {
            spot: true,
            ..TemplateShape::default()
        },
        zones: vec!["a".to_owned()],
        ..sized(0, 5, 9)
    };
    let provider = linux(&layer, Leave::Terminate, spot).await;
    let seen = listed(&provider).await;
    let all = ids(&seen);
    assert_eq!((seen.size, all.len()), (Some(5), 5));
    let listing = list(&provider).await;
    for member in &seen.members {
        assert_eq!(member.status, CloudStatus::Running);
        assert_eq!(
            (member.lifecycle.as_str(), member.protected),
            ("InService", false)
        );
        let key = OfferingKey {
            provider: "aws".into(),
            location: format!("{REGION}a"),
            machine_type: "c6i.large".to_owned(),
            market: Market::Spot,
        };
        assert_eq!(member.offering, Some(key));
        assert!(!member.addresses.is_empty());
        let age = listing.now.duration_since(member.created_at);
        assert!((0..600).contains(&age.as_secs()), "by the cloud's clock: {age}");
    }
    let states = [
        ("Terminating:Wait", Some(CloudStatus::Deleting)),
        ("Pending:Wait", Some(CloudStatus::Pending)),
        ("Standby", None),
        ("Warmed:Stopped", None),
    ];
    for (id, (lifecycle, _)) in all.iter().zip(&states) {
        layer.set_lifecycle(id.as_str(), Some(lifecycle));
    }
    let seen = listed(&provider).await;
    for (id, (lifecycle, status)) in all.iter().zip(states) {
        let found = seen.members.iter().find(|member| member.id == *id);
        assert_eq!(found.map(|member| member.status.clone()), status, "{lifecycle}");
    }
    assert_eq!(member(&seen, &all[4]).status, CloudStatus::Running);
    assert!(
        layer
            .calls_of("DescribeAutoScalingGroups")
            .iter()
            .any(|call| call.bent),
        "the layer's states"
    );
    let filters = &layer.calls_of("DescribeInstances")[0].params;
    assert!(
        !filters.values().any(|value| value == "terminated"),
        "{filters:?}"
    );
}

#[tokio::test]
async fn a_member_that_boots_is_pending_and_no_reason_to_wait() {
    let pending = Options {
        pending: Duration::from_secs(60),
        ..Options::default()
    };
    let Some(layer) = layer(pending).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 3)).await;
    let seen = listed(&provider).await;
    assert_eq!(seen.members[0].status, CloudStatus::Pending);
    assert_eq!(view(&seen).waits, None, "who boots is counted one by one");
    layer.advance(Duration::from_secs(60)).await;
    assert_eq!(listed(&provider).await.members[0].status, CloudStatus::Running);
}

#[tokio::test]
async fn an_instance_that_the_spot_market_took_back_says_so() {
    let leaving = Options {
        leaving: Duration::from_secs(60),
        ..Options::default()
    };
    let Some(layer) = layer(leaving).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 3)).await;
    let id = ids(&listed(&provider).await).remove(0);
    let read = provider.read(&machine(&id)).await.unwrap().unwrap();
    assert_eq!((read.status, read.target), (CloudStatus::Running, machine(&id)));
    layer.interrupt(id.as_str()).await;
    assert_eq!(
        member(&listed(&provider).await, &id).status,
        CloudStatus::Deleting
    );
    layer.advance(Duration::from_secs(60)).await;
    assert!(
        !ids(&listed(&provider).await).contains(&id),
        "its group replaced it"
    );
    let read = provider.read(&machine(&id)).await.unwrap().unwrap();
    assert_eq!(
        read.status,
        CloudStatus::Terminated("spot interruption".to_owned())
    );
    assert_eq!(provider.delete(&machine(&id)).await, Ok(()), "it is gone");
    assert_eq!(
        provider.read(&machine(&"i-0123456789abcdef0".into())).await,
        Ok(None)
    );
    assert_eq!(provider.read(&group("nobody")).await, Ok(None));
    assert_eq!(
        provider.delete(&machine(&"i-0123456789abcdef0".into())).await,
        Ok(())
    );
}

#[tokio::test]
async fn members_that_ec2_cannot_tell_of_make_a_part() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 3)).await;
    layer.rule(Rule::refuse("DescribeInstances", Refusal::service_unavailable()).always());
    let listing = list(&provider).await;
    let Completeness::Partial { why } = &listing.completeness else {
        panic!("{:?}", listing.completeness);
    };
    assert!(why.contains("instances"), "{why}");
    let seen = &listing.resources[0].members[0];
    assert_eq!(
        (&seen.status, &seen.offering),
        (&CloudStatus::Running, &None),
        "what is known is told"
    );
}

#[tokio::test]
async fn a_size_is_absolute_and_set_only_from_the_one_that_was_read() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 4)).await;
    let have = listed(&provider).await;
    let after = provider.update(&have, &spec(3, 1, &[])).await.unwrap();
    assert_eq!((after.size, after.members.len()), (Some(3), 3));
    let again = provider.update(&have, &spec(3, 1, &[])).await.unwrap();
    assert_eq!(again.size, Some(3), "it is so already");
    let calls = layer.calls_of("SetDesiredCapacity");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].spoke, Spoke::Moto);
    assert_eq!(calls[0].params["HonorCooldown"], "true");
    let error = provider.update(&have, &spec(4, 2, &[])).await.unwrap_err();
    rejected(&error, "size_changed", "its size is 3 and no longer 2");
    let error = provider.update(&have, &spec(5, 3, &[])).await.unwrap_err();
    rejected(&error, "above_max", "5 is more than its maximum, which is 4");
    let error = provider.update(&have, &spec(1, 3, &[])).await.unwrap_err();
    rejected(&error, "shrinking", "member by member");
    assert_eq!(
        layer.calls_of("SetDesiredCapacity").len(),
        1,
        "none of these was sent"
    );
    assert_eq!(truth(&layer).await.0, 3);
    let Some(boto3) = layer.look(&["group", "linux"]).await else {
        return;
    };
    assert_eq!((&boto3["desired"], &boto3["max"]), (&json!(3), &json!(4)));
}

#[tokio::test]
async fn a_size_whose_answer_was_lost_is_set_once_more_to_the_same() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 9)).await;
    let have = listed(&provider).await;
    layer.rule(Rule::lose_request("SetDesiredCapacity").times(2));
    let error = provider.update(&have, &spec(3, 1, &[])).await.unwrap_err();
    assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error:?}");
    assert_eq!(truth(&layer).await.0, 1);
    layer.clear_calls();
    layer.rule(Rule::lose_reply("SetDesiredCapacity"));
    let after = provider.update(&have, &spec(3, 1, &[])).await.unwrap();
    assert_eq!((after.size, truth(&layer).await.0), (Some(3), 3));
    let said = spoke(&layer, "SetDesiredCapacity");
    assert_eq!(
        said,
        [Spoke::Moto, Spoke::Layer],
        "done, and then told that the group cools down"
    );
    layer.advance(Duration::from_secs(COOLDOWN.into())).await;
    layer.rule(Rule::lose_reply("SetDesiredCapacity").times(2));
    let after = provider.update(&after, &spec(4, 3, &[])).await.unwrap();
    assert_eq!(
        (after.size, truth(&layer).await.0),
        (Some(4), 4),
        "no answer came, and it was looked at"
    );
}

#[tokio::test]
async fn a_size_is_not_set_while_the_group_cools_down() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.make_group("linux", &sized(0, 1, 9)).await;
    let provider = provider(&layer, vec![named("linux", Leave::Terminate)]).await;
    let have = listed(&provider).await;
    let error = provider.update(&have, &spec(2, 1, &[])).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert_eq!(*spoke(&layer, "SetDesiredCapacity").last().unwrap(), Spoke::Layer);
    layer.advance(Duration::from_secs(300)).await;
    let after = provider.update(&have, &spec(2, 1, &[])).await.unwrap();
    assert_eq!(after.size, Some(2));
}

/// DescribeScalingActivities with one activity that succeeded at that time: the layer's own have no end.
fn ended(at: &str) -> String {
    format!(
        "<DescribeScalingActivitiesResponse><DescribeScalingActivitiesResult><Activities><member>\
         <ActivityId>a</ActivityId><Description>Launching a new EC2 instance: i-1</Description>\
         <StartTime>2026-01-01T00:00:00Z</StartTime><EndTime>{at}</EndTime>\
         <StatusCode>Successful</StatusCode></member></Activities>\
         </DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>"
    )
}

#[tokio::test]
async fn a_group_says_why_it_waits_and_others_go_on() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.make_group("linux", &sized(0, 1, 9)).await;
    layer.make_group("arm", &sized(0, 1, 9)).await;
    let choices = ["linux", "arm"]
        .map(|name| named(name, Leave::Terminate))
        .to_vec();
    let provider = provider(&layer, choices).await;
    let waits = async |name: &str| {
        let listing = list(&provider).await;
        let seen = listing.resources.iter().find(|seen| seen.name == name).unwrap();
        view(seen).waits.clone()
    };
    let now = list(&provider).await.now;
    layer.rule(Rule::answer("DescribeScalingActivities", ended(&now.to_string())).when("group", "linux"));
    let until = now.checked_add(Duration::from_secs(300)).unwrap();
    let words = format!("cooling down until {}", until.strftime("%H:%M:%SZ"));
    assert_eq!(waits("linux").await, Some(words));
    assert_eq!(waits("arm").await, None);
    let long_ago = ended("2026-01-01T00:00:00Z");
    layer.rule(Rule::answer("DescribeScalingActivities", long_ago).when("group", "linux"));
    assert_eq!(waits("linux").await, None);
    let activity = Activity {
        id: "a-1".to_owned(),
        description: "Placing Spot instance request.".to_owned(),
        cause: String::new(),
        status: "WaitingForSpotInstanceId".to_owned(),
        message: String::new(),
        progress: 10,
    };
    layer.set_activities("linux", vec![activity]);
    let words = "Placing Spot instance request. (WaitingForSpotInstanceId)";
    assert_eq!(waits("linux").await.as_deref(), Some(words));
    assert_eq!(waits("arm").await, None);
    let asked = spoke(&layer, "DescribeScalingActivities");
    assert!(
        asked.iter().all(|spoke| *spoke == Spoke::Layer),
        "moto has no activities"
    );
}

#[tokio::test]
async fn who_else_sets_the_size_is_named() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 9)).await;
    let governed = async || view(&listed(&provider).await).governed.clone();
    assert_eq!(governed().await, None);
    let metric = "TargetTrackingConfiguration.PredefinedMetricSpecification.PredefinedMetricType";
    let policy = [
        ("AutoScalingGroupName", "linux"),
        ("PolicyName", "cpu-50"),
        ("PolicyType", "TargetTrackingScaling"),
        ("TargetTrackingConfiguration.TargetValue", "50"),
        (metric, "ASGAverageCPUUtilization"),
    ];
    let policy = policy.map(|(key, value)| (key.to_owned(), value.to_owned()));
    layer
        .furnish(Service::AutoScaling, "PutScalingPolicy", &policy)
        .await;
    assert_eq!(governed().await.as_deref(), Some("scaling policy cpu-50"));
    assert!(
        layer
            .calls_of("DescribePolicies")
            .iter()
            .all(|call| call.spoke == Spoke::Moto)
    );
    let problems = provider.check(&[]).await.unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].place, "providers.aws");
    assert!(
        problems[0].what.contains("linux is set by scaling policy cpu-50"),
        "{problems:?}"
    );
    layer.disable_policy("cpu-50");
    assert_eq!(governed().await, None, "one that is off sets nothing");
    layer.set_refreshes("linux", &[("r-2", "InProgress"), ("r-1", "Successful")]);
    assert_eq!(governed().await.as_deref(), Some("instance refresh r-2"));
    layer.set_refreshes("linux", &[("r-2", "Cancelled"), ("r-1", "Successful")]);
    assert_eq!(governed().await, None);
}

#[tokio::test]
async fn a_group_of_which_it_cannot_be_said_who_sets_its_size_waits_and_the_listing_is_a_part() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 9)).await;
    let denied = Refusal::access_denied("autoscaling:DescribePolicies");
    layer.rule(Rule::refuse("DescribePolicies", denied).always());
    let listing = list(&provider).await;
    assert!(!listing.completeness.is_complete());
    let waits = view(&listing.resources[0]).waits.clone().unwrap();
    assert!(waits.contains("could not be read"), "{waits}");
    let problems = provider.check(&[]).await.unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].what.starts_with("autoscaling:DescribePolicies"),
        "{problems:?}"
    );
    assert!(
        problems[0]
            .hint
            .as_ref()
            .unwrap()
            .contains("packaging/iam/asg.json")
    );
}

#[tokio::test]
async fn who_runs_jobs_is_protected_and_nobody_else_of_the_group() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let shape = GroupShape {
        protected: true,
        ..sized(0, 3, 9)
    };
    let provider = linux(&layer, Leave::Terminate, shape).await;
    let have = listed(&provider).await;
    let all = ids(&have);
    assert!(have.members.iter().all(|member| member.protected));
    let after = provider.update(&have, &spec(3, 3, &all[..1])).await.unwrap();
    let protected =
        |seen: &Observed| -> Vec<bool> { all.iter().map(|id| member(seen, id).protected).collect() };
    assert_eq!(protected(&after), [true, false, false]);
    let calls = layer.calls_of("SetInstanceProtection");
    assert_eq!(calls.len(), 1, "only those that differ: {calls:?}");
    let after = provider.update(&after, &spec(3, 3, &all[1..])).await.unwrap();
    assert_eq!(protected(&after), [false, true, true]);
    // One that serves no more cannot be protected: that is no error, and the others are.
    layer.set_lifecycle(all[0].as_str(), Some("Terminating:Wait"));
    let after = provider.update(&after, &spec(3, 3, &all[..2])).await.unwrap();
    assert!(member(&after, &all[1]).protected && !member(&after, &all[2]).protected);
    assert_eq!(layer.calls_of("SetDesiredCapacity").len(), 0);
    assert!(
        spoke(&layer, "SetInstanceProtection")
            .iter()
            .all(|spoke| *spoke == Spoke::Moto)
    );
    let Some(boto3) = layer.look(&["group", "linux"]).await else {
        return;
    };
    let theirs: Vec<_> = boto3["members"].as_array().unwrap().iter().collect();
    let theirs = theirs.iter().filter(|member| member["protected"] == true);
    let theirs: Vec<_> = theirs.map(|member| member["id"].as_str().unwrap()).collect();
    assert_eq!(theirs, [all[1].as_str()]);
}

#[tokio::test]
async fn a_member_that_stopped_serving_between_reading_and_protecting_is_no_error() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 2, 9)).await;
    let have = listed(&provider).await;
    let all = ids(&have);
    let stale = layer.client();
    let group = [("AutoScalingGroupNames.member.1", "linux")];
    let (_, before) = stale
        .send(Service::AutoScaling, "DescribeAutoScalingGroups", &group)
        .await
        .unwrap();
    layer.set_lifecycle(all[0].as_str(), Some("Terminating:Wait"));
    layer.rule(Rule::answer("DescribeAutoScalingGroups", before));
    let after = provider.update(&have, &spec(2, 2, &all)).await.unwrap();
    assert!(member(&after, &all[1]).protected);
    let said = spoke(&layer, "SetInstanceProtection");
    assert_eq!(said, [Spoke::Layer, Spoke::Moto], "refused, and then without it");
}

#[tokio::test]
async fn a_member_is_ended_once_though_the_answer_was_lost() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 3, 9)).await;
    let all = ids(&listed(&provider).await);
    layer.rule(Rule::lose_reply(END));
    assert_eq!(
        provider.delete(&machine(&all[1])).await,
        Ok(()),
        "the instance was looked at"
    );
    let calls = layer.calls_of(END);
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].spoke, calls[0].status), (Spoke::Moto, None));
    assert_eq!(calls[0].params["ShouldDecrementDesiredCapacity"], "true");
    let (desired, members) = truth(&layer).await;
    assert_eq!((desired, members.len()), (2, 2));
    assert!(is_dead(&layer, &all[1]).await);
    assert_eq!(provider.delete(&machine(&all[1])).await, Ok(()), "again is fine");
    assert_eq!((layer.calls_of(END).len(), truth(&layer).await.0), (1, 2));

    layer.rule(Rule::lose_request(END));
    let error = provider.delete(&machine(&all[0])).await.unwrap_err();
    assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error:?}");
    assert_eq!(layer.calls_of(END).len(), 2, "not sent again by itself");
    assert_eq!(truth(&layer).await.0, 2);
    assert_eq!(provider.delete(&machine(&all[0])).await, Ok(()));
    assert_eq!(truth(&layer).await, (1, vec![all[2].to_string()]));
    let Some(boto3) = layer.look(&["group", "linux"]).await else {
        return;
    };
    assert_eq!(boto3["desired"], 1);
    assert_eq!(boto3["members"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_throttled_end_is_sent_again_since_nothing_was_done() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 2, 9)).await;
    let all = ids(&listed(&provider).await);
    layer.rule(Rule::refuse(END, Refusal::throttling()));
    assert_eq!(provider.delete(&machine(&all[0])).await, Ok(()));
    assert_eq!(spoke(&layer, END), [Spoke::Layer, Spoke::Moto]);
    assert_eq!(truth(&layer).await.0, 1);
    layer.rule(Rule::refuse(END, Refusal::throttling()).always());
    let error = provider.delete(&machine(&all[1])).await.unwrap_err();
    assert!(matches!(error, ProviderError::Throttled { .. }), "{error:?}");
    layer.clear_rules();
    layer.rule(Rule::refuse(END, Refusal::contention()));
    let error = provider.delete(&machine(&all[1])).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert_eq!(truth(&layer).await, (1, vec![all[1].to_string()]));
}

#[tokio::test]
async fn a_hook_is_respected_and_a_member_that_it_holds_is_on_its_way() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 2, 9)).await;
    let all = ids(&listed(&provider).await);
    let hook = [
        ("AutoScalingGroupName", "linux"),
        ("LifecycleHookName", "out"),
        ("LifecycleTransition", "autoscaling:EC2_INSTANCE_TERMINATING"),
        ("HeartbeatTimeout", "60"),
    ];
    let hook = hook.map(|(key, value)| (key.to_owned(), value.to_owned()));
    layer
        .furnish(Service::AutoScaling, "PutLifecycleHook", &hook)
        .await;
    assert_eq!(provider.delete(&machine(&all[0])).await, Ok(()));
    let seen = listed(&provider).await;
    let leaver = member(&seen, &all[0]);
    assert_eq!(
        (leaver.lifecycle.as_str(), &leaver.status),
        ("Terminating:Wait", &CloudStatus::Deleting)
    );
    assert_eq!(
        (seen.size, &view(&seen).waits),
        (Some(1), &None),
        "its leaving is no reason to wait"
    );
    assert!(!is_dead(&layer, &all[0]).await, "the hook holds it");
    assert_eq!(provider.delete(&machine(&all[0])).await, Ok(()));
    assert_eq!(
        layer.calls_of(END).len(),
        1,
        "what is on its way is not sent off twice"
    );
    assert_eq!(layer.calls_of("CompleteLifecycleAction").len(), 0);
    layer.advance(Duration::from_secs(60)).await;
    assert_eq!(truth(&layer).await, (1, vec![all[1].to_string()]));
}

#[tokio::test]
async fn a_group_is_never_made_smaller_than_its_minimum() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    for leave in [Leave::Terminate, Leave::Detach] {
        let name = format!("{leave:?}");
        layer.make_group(&name, &sized(1, 1, 3)).await;
        let provider = provider(&layer, vec![named(&name, leave)]).await;
        let id = list(&provider).await.resources[0].members[0].id.clone();
        let error = provider.delete(&machine(&id)).await.unwrap_err();
        rejected(&error, "below_min", "min");
        assert!(!is_dead(&layer, &id).await);
    }
    assert_eq!(spoke(&layer, END), [Spoke::Layer]);
    assert_eq!(layer.calls_of("CreateTags").len(), 0, "who stays is not marked");
}

#[tokio::test]
async fn a_member_is_detached_and_then_ended() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Detach, sized(0, 2, 9)).await;
    let all = ids(&listed(&provider).await);
    assert_eq!(provider.delete(&machine(&all[0])).await, Ok(()));
    assert_eq!(truth(&layer).await, (1, vec![all[1].to_string()]));
    assert!(is_dead(&layer, &all[0]).await);
    assert_eq!(layer.calls_of(END).len(), 0);
    assert_eq!(ids(&listed(&provider).await), [all[1].clone()]);
    assert_eq!(provider.delete(&machine(&all[0])).await, Ok(()), "again is fine");
    assert_eq!(layer.calls_of("DetachInstances").len(), 1);
    let Some(boto3) = layer
        .look(&["instances", "--tag", &format!("{LEAVING}=linux")])
        .await
    else {
        return;
    };
    assert_eq!(boto3[0]["id"], all[0].as_str());
    assert_eq!(boto3[0]["state"], "terminated");
}

#[tokio::test]
async fn a_detachment_that_broke_off_is_gone_on_with() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Detach, sized(0, 3, 9)).await;
    let all = ids(&listed(&provider).await);
    let leaver = machine(&all[0]);
    // Marked, and no more: still a member.
    layer.rule(Rule::lose_request("DetachInstances"));
    let error = provider.delete(&leaver).await.unwrap_err();
    assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error:?}");
    let seen = listed(&provider).await;
    assert_eq!(
        (seen.size, member(&seen, &all[0]).lifecycle.as_str()),
        (Some(3), "InService")
    );
    // Detached though the answer was lost, and not ended.
    layer.rule(Rule::lose_reply("DetachInstances"));
    layer.rule(Rule::refuse("TerminateInstances", Refusal::request_limit()).always());
    let error = provider.delete(&leaver).await.unwrap_err();
    assert!(matches!(error, ProviderError::Throttled { .. }), "{error:?}");
    assert_eq!(truth(&layer).await.0, 2, "out of the group, once");
    let seen = listed(&provider).await;
    assert_eq!(
        (seen.size, seen.members.len()),
        (Some(2), 3),
        "it is shown, and does not count"
    );
    let left = member(&seen, &all[0]);
    assert_eq!(
        (left.lifecycle.as_str(), &left.status),
        (DETACHED, &CloudStatus::Running)
    );
    layer.clear_rules();
    assert_eq!(provider.delete(&leaver).await, Ok(()));
    assert!(is_dead(&layer, &all[0]).await);
    assert_eq!(listed(&provider).await.members.len(), 2);
    assert_eq!(truth(&layer).await.0, 2, "its size went down once");
    assert_eq!(layer.calls_of("DetachInstances").len(), 2);
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.make_group("theirs", &sized(0, 1, 3)).await;
    let theirs = CloudId::new(layer.groups().await[0].members[0].id.clone());
    let provider = linux(&layer, Leave::Detach, sized(0, 1, 3)).await;
    let error = provider.delete(&machine(&theirs)).await.unwrap_err();
    rejected(&error, "not_chosen", "theirs");
    let detached = [
        ("AutoScalingGroupName", "theirs"),
        ("InstanceIds.member.1", theirs.as_str()),
        ("ShouldDecrementDesiredCapacity", "true"),
    ];
    let detached = detached.map(|(key, value)| (key.to_owned(), value.to_owned()));
    layer
        .furnish(Service::AutoScaling, "DetachInstances", &detached)
        .await;
    let error = provider.delete(&machine(&theirs)).await.unwrap_err();
    rejected(&error, "not_a_member", "was not taken out of one by us");
    assert!(!is_dead(&layer, &theirs).await);
    let error = provider
        .suspend(&group("theirs"), "AZRebalance")
        .await
        .unwrap_err();
    rejected(&error, "not_chosen", "theirs");
    for error in [
        provider.delete(&group("linux")).await.unwrap_err(),
        provider
            .suspend(&machine(&theirs), "AZRebalance")
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_process_is_suspended_and_goes_on() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 3)).await;
    let suspended = async || view(&listed(&provider).await).suspended.contains("AZRebalance");
    for _ in 0..2 {
        provider.suspend(&group("linux"), "AZRebalance").await.unwrap();
        assert!(suspended().await);
    }
    let boto3 = layer.look(&["group", "linux"]).await;
    for _ in 0..2 {
        provider.resume(&group("linux"), "AZRebalance").await.unwrap();
        assert!(!suspended().await);
    }
    assert_eq!(provider.resume(&group("gone"), "AZRebalance").await, Ok(()));
    assert_eq!(spoke(&layer, "SuspendProcesses"), [Spoke::Moto, Spoke::Moto]);
    if let Some(boto3) = boto3 {
        assert_eq!(boto3["suspended"], json!(["AZRebalance"]));
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_whatever_was_asked() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let provider = linux(&layer, Leave::Terminate, sized(0, 1, 3)).await;
    let have = listed(&provider).await;
    let id = ids(&have).remove(0);
    let denied = || Refusal::access_denied("autoscaling:…");
    layer.rule(Rule::refuse("SetDesiredCapacity", denied()).always());
    layer.rule(Rule::refuse(END, denied()).always());
    let unauthorized = |error: ProviderError| {
        assert!(matches!(error, ProviderError::Unauthorized { .. }), "{error:?}");
    };
    unauthorized(provider.update(&have, &spec(2, 1, &[])).await.unwrap_err());
    unauthorized(provider.delete(&machine(&id)).await.unwrap_err());
    assert_eq!(truth(&layer).await, (1, vec![id.to_string()]));
    layer.rule(Rule::refuse("DescribeAutoScalingGroups", denied()).always());
    unauthorized(provider.list(&"prod".into()).await.unwrap_err());
    unauthorized(provider.check(&[]).await.unwrap_err());
}

#[tokio::test]
async fn a_check_names_the_group_that_is_not_there_and_the_nearest_that_is() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.make_group("linux", &sized(0, 0, 3)).await;
    let choices = vec![named("linus", Leave::Terminate), tagged("acme")];
    let provider = provider(&layer, choices).await;
    let problems = provider.check(&[]).await.unwrap();
    let what: Vec<_> = problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "there is no Auto Scaling group \"linus\" in eu-central-1",
            "no Auto Scaling group in eu-central-1 has a tag \"resource-class\" that says \"acme/…\"",
        ]
    );
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean \"linux\"?"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_a_call_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        name: "aws".into(),
        region: Some(REGION.to_owned()),
        profile: None,
        role_arn: None,
        keys: Some(("AKIAIOSFODNN7EXAMPLE".to_owned(), "secret".into())),
        endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
        ca_pem: None,
        concurrency: 10,
        call_timeout: Duration::from_secs(10),
        total_timeout: Duration::from_secs(30),
        retries: 4,
    };
    let provider = Groups::new(config, vec![named("linux", Leave::Terminate)])
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    let error = provider.list(&"prod".into()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert!(begun.elapsed() <= CALL_TIMEOUT, "{:?}", begun.elapsed());
}

/// What EC2's offerings call for the members' prices.
const PRICES: [&str; 4] = [
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeSpotPriceHistory",
    "pricing:GetProducts",
];

#[tokio::test]
async fn members_have_the_prices_of_what_they_are() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.set_products(Some(vec![market::product("c6i.large", REGION, "0.0970000000")]));
    let spot = SpotPrice::new("c6g.large", "eu-central-1b", "0.031000", "2026-11-01T00:00:00Z");
    layer.set_spot_prices(vec![spot]);
    layer.make_group("linux", &sized(0, 2, 9)).await;
    let arm = GroupShape {
        zones: vec!["b".to_owned()],
        template: TemplateShape {
            instance_type: "c6g.large".to_owned(),
            spot: true,
            ..TemplateShape::default()
        },
        ..sized(0, 1, 3)
    };
    layer.make_group("arm", &arm).await;
    layer.make_group("empty", &sized(0, 0, 3)).await;
    let names = ["linux", "arm", "empty"];
    let choices = names.map(|name| named(name, Leave::Terminate)).to_vec();
    let provider = provider(&layer, choices).await;
    for _ in 0..2 {
        let found = provider.offerings().await.unwrap();
        let said: Vec<_> = found
            .offerings
            .iter()
            .map(|sold| format!("{}: {}", sold.key, sold.price_without_ipv4.hourly))
            .collect();
        let expected = [
            "aws/eu-central-1a c6i.large: 0.097 USD",
            "aws/eu-central-1b c6g.large spot: 0.031 USD",
        ];
        assert_eq!(said, expected, "{:?}", found.completeness);
    }
    let listing = list(&provider).await;
    let keys: BTreeSet<_> = listing
        .resources
        .iter()
        .flat_map(|seen| &seen.members)
        .map(|member| member.offering.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(keys.len(), 2, "as members are called, so are prices: {keys:?}");
    let asked: BTreeSet<_> = layer.calls().iter().map(|call| call.action.clone()).collect();
    for action in PRICES {
        assert!(
            asked.contains(action.split_once(':').unwrap().1),
            "{action}: {asked:?}"
        );
    }
}

#[test]
fn the_policy_allows_what_the_code_calls_and_nothing_else() {
    let text = include_str!("../../packaging/iam/asg.json");
    let policy: Value = serde_json::from_str(text).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let mut allowed: Vec<_> = statements
        .iter()
        .flat_map(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            statement["Action"].as_array().unwrap()
        })
        .map(|action| action.as_str().unwrap())
        .collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ACTIONS);
    // The list beside the code is what the code calls, too: each operation of the SDK is named where it is sent.
    let code = concat!(
        include_str!("../../src/provider/aws/groups/api.rs"),
        include_str!("../../src/provider/aws/groups/writes.rs"),
    );
    let code: String = code.split_whitespace().collect();
    let mut called: Vec<String> = [("self.groups.", "autoscaling"), ("self.ec2.", "ec2")]
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
    called.extend(PRICES.map(str::to_owned));
    called.sort_unstable();
    called.dedup();
    assert_eq!(called, ACTIONS);
}
