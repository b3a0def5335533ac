//! The layer in front of moto does what it says: what AWS does and moto does not, and nothing else.
//!
//! The client here is plain HTTP, so that a test sees statuses and bodies; Amazon's own client, boto3, is asked to agree.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    aws::{
        Activity, GroupShape, Layer, Options, Refusal, Rule, Spoke, SpotPrice, TemplateShape, client::Query,
        market, wire::Service, xml::Element,
    },
    moto,
};

const EC2: Service = Service::Ec2;
const GROUPS: Service = Service::AutoScaling;

async fn layer(options: Options) -> Option<Layer> {
    Some(Layer::start(&moto::endpoint().await?, options).await)
}

/// What a call was answered: its status, and its body or the code and message of its refusal.
async fn say(to: &Query, service: Service, action: &str, params: &[(&str, &str)]) -> Result<Element, String> {
    let (status, text) = to.send(service, action, params).await.unwrap();
    let root = Element::parse(&text).unwrap_or_else(|| panic!("{action}: no XML: {text}"));
    if status == 200 {
        return Ok(root);
    }
    let error = root
        .at("Errors/Error")
        .or_else(|| root.at("Error"))
        .unwrap_or_else(|| panic!("{text}"));
    Err(format!(
        "{status} {}: {}",
        error.text_at("Code"),
        error.text_at("Message")
    ))
}

#[track_caller]
fn refused(said: Result<Element, String>, begins: &str) {
    let problem = said.expect_err(begins);
    assert!(problem.starts_with(begins), "{problem}");
}

async fn run(layer: &Layer, more: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let image = layer.image().await;
    let mut params = vec![("ImageId", image.as_str())];
    let defaults = [
        ("InstanceType", "c6i.large"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
    ];
    params.extend(
        defaults
            .iter()
            .filter(|(key, _)| more.iter().all(|(other, _)| other != key)),
    );
    params.extend_from_slice(more);
    let root = say(&layer.client(), EC2, "RunInstances", &params).await?;
    let items = root.list("instancesSet").iter();
    Ok(items.map(|item| item.text_at("instanceId").to_owned()).collect())
}

/// The machines that a listing shows: id and state.
async fn listed(layer: &Layer, params: &[(&str, &str)]) -> Vec<(String, String)> {
    let root = say(&layer.client(), EC2, "DescribeInstances", params)
        .await
        .unwrap();
    let reservations = root.list("reservationSet").iter();
    let items = reservations.flat_map(|reservation| reservation.list("instancesSet"));
    items
        .map(|item| {
            (
                item.text_at("instanceId").to_owned(),
                item.text_at("instanceState/name").to_owned(),
            )
        })
        .collect()
}

async fn group(layer: &Layer, name: &str) -> Element {
    let params = [("AutoScalingGroupNames.member.1", name)];
    let root = say(&layer.client(), GROUPS, "DescribeAutoScalingGroups", &params)
        .await
        .unwrap();
    root.at("DescribeAutoScalingGroupsResult/AutoScalingGroups/member")
        .expect("a group")
        .clone()
}

/// Desired capacity, and id and lifecycle state of each member.
async fn members(layer: &Layer, name: &str) -> (String, Vec<(String, String)>) {
    let group = group(layer, name).await;
    let members = group.list("Instances").iter().map(|member| {
        (
            member.text_at("InstanceId").to_owned(),
            member.text_at("LifecycleState").to_owned(),
        )
    });
    (group.text_at("DesiredCapacity").to_owned(), members.collect())
}

async fn desire(layer: &Layer, name: &str, desired: &str) -> Result<Element, String> {
    let params = [("AutoScalingGroupName", name), ("DesiredCapacity", desired)];
    say(&layer.client(), GROUPS, "SetDesiredCapacity", &params).await
}

async fn leave(layer: &Layer, id: &str, decrement: &str) -> Result<Element, String> {
    let params = [("InstanceId", id), ("ShouldDecrementDesiredCapacity", decrement)];
    say(
        &layer.client(),
        GROUPS,
        "TerminateInstanceInAutoScalingGroup",
        &params,
    )
    .await
}

fn lines(states: &[(String, String)]) -> Vec<&str> {
    states.iter().map(|(_, state)| state.as_str()).collect()
}

#[tokio::test]
async fn each_layer_has_a_world_of_its_own_in_one_moto() {
    let Some(one) = layer(Options::default()).await else {
        return;
    };
    let other = layer(Options::default()).await.unwrap();
    let made = run(&one, &[]).await.unwrap();
    assert_eq!(listed(&one, &[]).await.len(), 1);
    assert_eq!(listed(&other, &[]).await, []);
    refused(
        say(
            &other.client(),
            EC2,
            "TerminateInstances",
            &[("InstanceId.1", &made[0])],
        )
        .await,
        "400 InvalidInstanceID.NotFound",
    );
}

#[tokio::test]
async fn a_call_that_nothing_speaks_against_is_motos_word() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let subnets = say(&layer.client(), EC2, "DescribeSubnets", &[]).await.unwrap();
    assert!(!subnets.list("subnetSet").is_empty());
    let calls = layer.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].spoke, calls[0].bent, calls[0].status),
        (Spoke::Moto, false, Some(200))
    );
    let body = json!({"Name": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"});
    let (status, found) = layer
        .client()
        .send_json(Service::Ssm, "AmazonSSM.GetParameter", &body)
        .await
        .unwrap();
    assert_eq!(status, 200, "{found}");
    let call = &layer.calls_of("GetParameter")[0];
    assert_eq!((call.service, call.spoke), (Service::Ssm, Spoke::Moto));
    assert_eq!(call.params["Name"], body["Name"].as_str().unwrap());
}

#[tokio::test]
async fn a_rule_strikes_the_nth_call_that_fits_in_the_words_of_the_service() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let capacity = Refusal::insufficient_capacity("c6i.large", "eu-central-1a");
    layer.rule(
        Rule::refuse("RunInstances", capacity)
            .when("type", "c6i.large")
            .when("zone", "eu-central-1a")
            .nth(2)
            .times(2),
    );
    layer.rule(
        Rule::refuse("RunInstances", Refusal::spot_quota())
            .when("market", "spot")
            .always(),
    );
    let zone = |zone| [("Placement.AvailabilityZone", zone)];
    run(&layer, &zone("eu-central-1a")).await.unwrap();
    run(&layer, &zone("eu-central-1b")).await.unwrap();
    for _ in 0..2 {
        let said = run(&layer, &zone("eu-central-1a")).await.unwrap_err();
        assert!(said.starts_with("500 InsufficientInstanceCapacity: "), "{said}");
    }
    run(&layer, &zone("eu-central-1a")).await.unwrap();
    let spot = [("InstanceMarketOptions.MarketType", "spot")];
    for _ in 0..3 {
        let said = run(&layer, &spot).await.unwrap_err();
        assert!(said.starts_with("400 MaxSpotInstanceCountExceeded"), "{said}");
    }
    let spoke: Vec<Spoke> = layer
        .calls_of("RunInstances")
        .iter()
        .map(|call| call.spoke)
        .collect();
    let (moto, ours) = (Spoke::Moto, Spoke::Layer);
    assert_eq!(spoke, [moto, moto, ours, ours, moto, ours, ours, ours]);
    assert_eq!(layer.instances().await.len(), 3, "moto heard of no refused one");

    layer.rule(Rule::refuse("DescribeAutoScalingGroups", Refusal::throttling()));
    layer.rule(Rule::refuse("DescribeInstances", Refusal::request_limit()));
    layer.rule(Rule::refuse("GetParameter", Refusal::throttling_exception()));
    let client = layer.client();
    refused(
        say(&client, GROUPS, "DescribeAutoScalingGroups", &[]).await,
        "400 Throttling: Rate exceeded",
    );
    let (status, text) = client.send(EC2, "DescribeInstances", &[]).await.unwrap();
    assert_eq!(status, 503);
    assert!(
        text.contains("<Response><Errors><Error><Code>RequestLimitExceeded</Code>"),
        "{text}"
    );
    let (status, said) = client
        .send_json(Service::Ssm, "AmazonSSM.GetParameter", &json!({"Name": "x"}))
        .await
        .unwrap();
    assert_eq!((status, &said["__type"]), (400, &json!("ThrottlingException")));
}

#[tokio::test]
async fn a_client_token_is_answered_once_and_for_all() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let token = ("ClientToken", "intent-1");
    let first = run(&layer, &[token]).await.unwrap();
    let again = run(&layer, &[token]).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(layer.instances().await.len(), 1);
    let spoke: Vec<Spoke> = layer
        .calls_of("RunInstances")
        .iter()
        .map(|call| call.spoke)
        .collect();
    assert_eq!(spoke, [Spoke::Moto, Spoke::Layer]);
    let said = run(&layer, &[token, ("InstanceType", "c6i.xlarge")])
        .await
        .unwrap_err();
    assert!(said.starts_with("400 IdempotentParameterMismatch"), "{said}");
    let filter = [
        ("Filter.1.Name", "client-token"),
        ("Filter.1.Value.1", "intent-1"),
        ("Filter.1.Value.2", "intent-2"),
    ];
    assert_eq!(listed(&layer, &filter).await.len(), 1);
    let other = [
        ("Filter.1.Name", "client-token"),
        ("Filter.1.Value.1", "intent-2"),
    ];
    assert_eq!(listed(&layer, &other).await, []);
    layer.terminate(&first[0]).await;
    let said = run(&layer, &[token]).await.unwrap_err();
    assert!(said.starts_with("400 IdempotentInstanceTerminated"), "{said}");
    assert_eq!(layer.instances().await.len(), 1);
}

#[tokio::test]
async fn a_lost_request_did_nothing_and_a_lost_reply_did_all() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let image = layer.image().await;
    let params = [
        ("ImageId", image.as_str()),
        ("InstanceType", "c6i.large"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("ClientToken", "intent-1"),
    ];
    layer.rule(Rule::lose_request("RunInstances"));
    layer.rule(Rule::lose_reply("RunInstances"));
    let client = layer.client();
    let lost = client.send(EC2, "RunInstances", &params).await.unwrap_err();
    assert!(lost.is_request(), "{lost:?}");
    assert_eq!(layer.instances().await.len(), 0);
    client.send(EC2, "RunInstances", &params).await.unwrap_err();
    assert_eq!(layer.instances().await.len(), 1);
    let root = say(&client, EC2, "RunInstances", &params).await.unwrap();
    let id = root.text_at("instancesSet/item/instanceId");
    assert_eq!(id, layer.instances().await[0].id);
    let calls: Vec<_> = layer
        .calls_of("RunInstances")
        .iter()
        .map(|call| (call.spoke, call.status))
        .collect();
    assert_eq!(
        calls,
        [
            (Spoke::Layer, None),
            (Spoke::Moto, None),
            (Spoke::Layer, Some(200))
        ]
    );
}

#[tokio::test]
async fn a_new_machine_is_hidden_then_pending_then_running_as_time_goes() {
    let Some(layer) = layer(Options {
        hidden: Duration::from_secs(5),
        pending: Duration::from_secs(20),
        leaving: Duration::from_secs(30),
        ..Options::default()
    })
    .await
    else {
        return;
    };
    let id = run(&layer, &[]).await.unwrap().remove(0);
    let named = [("InstanceId.1", id.as_str())];
    assert_eq!(listed(&layer, &[]).await, []);
    refused(
        say(&layer.client(), EC2, "DescribeInstances", &named).await,
        "400 InvalidInstanceID.NotFound: The instance ID",
    );
    layer.advance(Duration::from_secs(5)).await;
    assert_eq!(lines(&listed(&layer, &named).await), ["pending"]);
    let state = |state| {
        [
            ("Filter.1.Name", "instance-state-name"),
            ("Filter.1.Value.1", state),
        ]
    };
    assert_eq!(listed(&layer, &state("pending")).await.len(), 1);
    assert_eq!(listed(&layer, &state("running")).await, []);
    assert!(layer.calls_of("DescribeInstances").last().unwrap().bent);
    layer.advance(Duration::from_secs(15)).await;
    assert_eq!(lines(&listed(&layer, &named).await), ["running"]);

    say(&layer.client(), EC2, "TerminateInstances", &named)
        .await
        .unwrap();
    assert_eq!(lines(&listed(&layer, &named).await), ["shutting-down"]);
    layer.advance(Duration::from_secs(30)).await;
    assert_eq!(lines(&listed(&layer, &named).await), ["terminated"]);
    layer.advance(Duration::from_secs(3600)).await;
    assert_eq!(listed(&layer, &[]).await, [], "AWS forgets it after an hour");
    refused(
        say(&layer.client(), EC2, "DescribeInstances", &named).await,
        "400 InvalidInstanceID.NotFound",
    );
}

#[tokio::test]
async fn ec2_refuses_what_moto_takes() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let client = layer.client();
    refused(
        say(&client, EC2, "DescribeInstances", &[("MaxResults", "2")]).await,
        "400 InvalidParameterValue: Value ( 2 ) for parameter maxResults is invalid.",
    );
    let bogus = [("Filter.1.Name", "bogus"), ("Filter.1.Value.1", "x")];
    for action in ["DescribeInstances", "DescribeSubnets", "DescribeImages"] {
        refused(
            say(&client, EC2, action, &bogus).await,
            "400 InvalidParameterValue: The filter 'bogus' is invalid",
        );
    }
    let tag = [
        ("ResourceId.1", "i-0123456789abcdef0"),
        ("Tag.1.Key", "a"),
        ("Tag.1.Value", "b"),
    ];
    refused(
        say(&client, EC2, "CreateTags", &tag).await,
        "400 InvalidInstanceID.NotFound",
    );
    let large = STANDARD.encode(vec![b'x'; 16_385]);
    let said = run(&layer, &[("UserData", &large)]).await.unwrap_err();
    assert!(said.starts_with("400 InvalidParameterValue: User data"), "{said}");
    let said = run(&layer, &[("MinCount", "2"), ("MaxCount", "1")])
        .await
        .unwrap_err();
    assert!(said.starts_with("400 InvalidParameterValue"), "{said}");
    assert_eq!(layer.instances().await.len(), 0);

    let most = [("MinCount", "2"), ("MaxCount", "4")];
    assert_eq!(run(&layer, &most).await.unwrap().len(), 4, "as many as may be");
    layer.set_capacity("c6i.large", 3);
    assert_eq!(
        run(&layer, &most).await.unwrap().len(),
        3,
        "as many as there is room for"
    );
    let said = run(&layer, &most).await.unwrap_err();
    assert!(said.starts_with("500 InsufficientInstanceCapacity"), "{said}");
    layer.set_capacity("c6i.large", 9);
    let nobody = [("InstanceType", "c6i.huge")];
    let said = run(&layer, &nobody).await.unwrap_err();
    assert!(
        said.starts_with("400 InvalidInstanceType"),
        "moto checks types: {said}"
    );
    let nobody = [("IamInstanceProfile.Name", "nobody")];
    let said = run(&layer, &nobody).await.unwrap_err();
    assert!(
        said.starts_with("400 InvalidParameterValue: Value (nobody) for parameter iamInstanceProfile.name"),
        "{said}"
    );
    let no_image = [("ImageId", "ami-00000000000000000")];
    let said = run(&layer, &no_image).await.unwrap_err();
    assert!(
        said.starts_with("400 InvalidAMIID.NotFound"),
        "moto checks images: {said}"
    );
}

#[tokio::test]
async fn a_machine_of_a_launch_template_is_what_the_template_says() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let shape = TemplateShape {
        spot: true,
        tags: vec![("pool".to_owned(), "linux".to_owned())],
        ..TemplateShape::default()
    };
    let template = layer.make_launch_template("linux", &shape).await;
    let subnets = say(&layer.client(), EC2, "DescribeSubnets", &[]).await.unwrap();
    let subnet = subnets.text_at("subnetSet/item/subnetId");
    let groups = say(&layer.client(), EC2, "DescribeSecurityGroups", &[])
        .await
        .unwrap();
    let security = groups.text_at("securityGroupInfo/item/groupId");
    let launch = [
        ("LaunchTemplate.LaunchTemplateId", template.as_str()),
        ("LaunchTemplate.Version", "$Latest"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("NetworkInterface.1.DeviceIndex", "0"),
        ("NetworkInterface.1.SubnetId", subnet),
        ("NetworkInterface.1.SecurityGroupId.1", security),
    ];
    layer.rule(Rule::refuse("RunInstances", Refusal::vcpu_quota(32)).when("subnet", subnet));
    let client = layer.client();
    refused(
        say(&client, EC2, "RunInstances", &launch).await,
        "400 VcpuLimitExceeded",
    );
    let root = say(&client, EC2, "RunInstances", &launch).await.unwrap();
    let item = root.at("instancesSet/item").unwrap();
    assert_eq!(item.text_at("instanceType"), "c6i.large");
    assert_eq!(item.text_at("instanceLifecycle"), "spot");
    assert_eq!(item.text_at("groupSet/item/groupId"), security);
    assert_eq!(layer.instances().await[0].tag("pool"), Some("linux"));
}

#[tokio::test]
async fn a_rule_may_put_an_answer_into_motos_mouth() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let stale = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    run(&layer, &[]).await.unwrap();
    layer.rule(Rule::answer("DescribeInstances", stale).nth(2));
    assert_eq!(listed(&layer, &[]).await.len(), 1);
    assert_eq!(listed(&layer, &[]).await, []);
    assert_eq!(listed(&layer, &[]).await.len(), 1);
    let spoke: Vec<Spoke> = layer
        .calls_of("DescribeInstances")
        .iter()
        .map(|call| call.spoke)
        .collect();
    assert_eq!(spoke, [Spoke::Moto, Spoke::Layer, Spoke::Moto]);
}

#[tokio::test]
async fn a_call_that_moto_fails_on_is_an_error_of_awss_and_spoils_the_test() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    refused(
        say(
            &layer.client(),
            GROUPS,
            "StartInstanceRefresh",
            &[("Strategy", "Rolling")],
        )
        .await,
        "500 InternalError",
    );
    assert_eq!(layer.problems().len(), 1);
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(layer)));
    assert!(dropped.is_err(), "a layer whose own calls failed shows nothing");
}

#[tokio::test]
async fn auto_scaling_refuses_what_moto_takes() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let shape = GroupShape {
        min: 1,
        max: 2,
        desired: 1,
        ..GroupShape::default()
    };
    layer.make_group("acme/linux", &shape).await;
    let client = layer.client();
    refused(
        desire(&layer, "acme/linux", "3").await,
        "400 ValidationError: New SetDesiredCapacity value 3 is above max value 2 for the AutoScalingGroup.",
    );
    refused(
        desire(&layer, "acme/linux", "0").await,
        "400 ValidationError: New SetDesiredCapacity value 0 is below min value 1",
    );
    refused(
        desire(&layer, "nobody", "1").await,
        "400 ValidationError: AutoScalingGroup name not found",
    );
    let (_, before) = members(&layer, "acme/linux").await;
    let only = before[0].0.as_str();
    refused(
        leave(&layer, only, "true").await,
        "400 ValidationError: Currently, desiredSize equals minSize (1).",
    );
    refused(
        leave(&layer, "i-0123456789abcdef0", "true").await,
        "400 ValidationError: Instance Id not found",
    );
    refused(
        say(
            &client,
            GROUPS,
            "DescribeAutoScalingGroups",
            &[("MaxRecords", "101")],
        )
        .await,
        "400 ValidationError: 1 validation error detected: Value '101' at 'maxRecords'",
    );
    let again = [
        ("AutoScalingGroupName", "acme/linux"),
        ("LaunchTemplate.LaunchTemplateName", "acme/linux"),
        ("MinSize", "0"),
        ("MaxSize", "1"),
        ("AvailabilityZones.member.1", "eu-central-1a"),
    ];
    refused(
        say(&client, GROUPS, "CreateAutoScalingGroup", &again).await,
        "400 AlreadyExists",
    );
    let protect = [
        ("AutoScalingGroupName", "acme/linux"),
        ("InstanceIds.member.1", "i-0123456789abcdef0"),
        ("ProtectedFromScaleIn", "true"),
    ];
    refused(
        say(&client, GROUPS, "SetInstanceProtection", &protect).await,
        "400 ValidationError: The instance i-0123456789abcdef0 is not part of Auto Scaling group acme/linux.",
    );
    refused(
        say(
            &client,
            GROUPS,
            "DeleteAutoScalingGroup",
            &[("AutoScalingGroupName", "acme/linux")],
        )
        .await,
        "400 ResourceInUse",
    );
    assert_eq!(
        members(&layer, "acme/linux").await,
        ("1".to_owned(), before.clone())
    );

    let honoured = [
        ("AutoScalingGroupName", "acme/linux"),
        ("DesiredCapacity", "2"),
        ("HonorCooldown", "true"),
    ];
    refused(
        say(&client, GROUPS, "SetDesiredCapacity", &honoured).await,
        "400 ScalingActivityInProgress",
    );
    layer.advance(Duration::from_secs(300)).await;
    say(&client, GROUPS, "SetDesiredCapacity", &honoured)
        .await
        .unwrap();
    leave(&layer, only, "true").await.unwrap();
    let (desired, after) = members(&layer, "acme/linux").await;
    assert_eq!((desired.as_str(), after.len()), ("1", 1));
    assert_ne!(after[0].0, only);
}

#[tokio::test]
async fn a_group_that_may_not_launch_owes_what_it_is_asked_for() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let shape = GroupShape {
        desired: 1,
        ..GroupShape::default()
    };
    layer.make_group("linux", &shape).await;
    let launch = [
        ("AutoScalingGroupName", "linux"),
        ("ScalingProcesses.member.1", "Launch"),
    ];
    let client = layer.client();
    say(&client, GROUPS, "SuspendProcesses", &launch).await.unwrap();
    desire(&layer, "linux", "3").await.unwrap();
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!((desired.as_str(), shown.len()), ("3", 1));
    // Nor is one that is gone replaced.
    layer.terminate(&shown[0].0).await;
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!((desired.as_str(), shown.len()), ("3", 0));
    say(&client, GROUPS, "ResumeProcesses", &launch).await.unwrap();
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!((desired.as_str(), shown.len()), ("3", 3));

    layer.stall("linux");
    desire(&layer, "linux", "5").await.unwrap();
    leave(&layer, &shown[0].0, "false").await.unwrap();
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!((desired.as_str(), shown.len()), ("5", 2));
    let activities = say(&client, GROUPS, "DescribeScalingActivities", &[])
        .await
        .unwrap();
    let failed = activities
        .at("DescribeScalingActivitiesResult/Activities/member")
        .unwrap();
    assert_eq!(failed.text_at("StatusCode"), "Failed");
    // Fewer are asked for again: nothing is owed, and one goes.
    desire(&layer, "linux", "1").await.unwrap();
    assert_eq!(members(&layer, "linux").await.1.len(), 1);
    desire(&layer, "linux", "2").await.unwrap();
    layer.unstall("linux").await;
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!((desired.as_str(), shown.len()), ("2", 2));
    assert_eq!(layer.groups().await[0].desired, 2);
}

#[tokio::test]
async fn members_pass_through_their_lifecycle_and_its_hooks() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.make_group("linux", &GroupShape::default()).await;
    let client = layer.client();
    layer.hold(Duration::from_secs(20), Duration::ZERO, Duration::from_secs(10));
    desire(&layer, "linux", "1").await.unwrap();
    let (_, shown) = members(&layer, "linux").await;
    assert_eq!(lines(&shown), ["Pending"]);
    let first = shown[0].0.clone();
    let activities = say(&client, GROUPS, "DescribeScalingActivities", &[])
        .await
        .unwrap();
    let activity = activities
        .at("DescribeScalingActivitiesResult/Activities/member")
        .unwrap();
    assert_eq!(activity.text_at("StatusCode"), "PreInService");
    layer.advance(Duration::from_secs(20)).await;
    assert_eq!(lines(&members(&layer, "linux").await.1), ["InService"]);

    for (name, transition, result) in [
        ("in", "autoscaling:EC2_INSTANCE_LAUNCHING", "CONTINUE"),
        ("out", "autoscaling:EC2_INSTANCE_TERMINATING", "CONTINUE"),
    ] {
        let hook = [
            ("AutoScalingGroupName", "linux"),
            ("LifecycleHookName", name),
            ("LifecycleTransition", transition),
            ("HeartbeatTimeout", "60"),
            ("DefaultResult", result),
        ];
        say(&client, GROUPS, "PutLifecycleHook", &hook).await.unwrap();
    }
    desire(&layer, "linux", "2").await.unwrap();
    leave(&layer, &first, "true").await.unwrap();
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!(desired, "1");
    let state = |shown: &[(String, String)], id: &str| {
        shown
            .iter()
            .find(|(other, _)| other == id)
            .map(|(_, state)| state.clone())
    };
    let second = shown
        .iter()
        .find(|(id, _)| *id != first)
        .map(|(id, _)| id.clone())
        .unwrap();
    assert_eq!(state(&shown, &first).as_deref(), Some("Terminating:Wait"));
    assert_eq!(state(&shown, &second).as_deref(), Some("Pending:Wait"));
    let running: Vec<_> = listed(&layer, &[("InstanceId.1", &first)]).await;
    assert_eq!(lines(&running), ["running"], "the hook holds the machine");
    let complete = [
        ("AutoScalingGroupName", "linux"),
        ("LifecycleHookName", "out"),
        ("InstanceId", first.as_str()),
        ("LifecycleActionResult", "CONTINUE"),
    ];
    say(&client, GROUPS, "CompleteLifecycleAction", &complete)
        .await
        .unwrap();
    let (desired, shown) = members(&layer, "linux").await;
    assert_eq!(
        desired, "1",
        "a machine that waited is not replaced when it is gone"
    );
    assert_eq!(state(&shown, &first).as_deref(), Some("Terminating"));
    layer.advance(Duration::from_secs(60)).await;
    assert_eq!(
        members(&layer, "linux").await.1,
        [(second.clone(), "InService".to_owned())]
    );
    layer.set_lifecycle(&second, Some("Terminating:Wait"));
    assert_eq!(lines(&members(&layer, "linux").await.1), ["Terminating:Wait"]);
}

#[tokio::test]
async fn what_goes_on_in_a_group_is_told() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    layer.make_group("linux", &GroupShape::default()).await;
    let client = layer.client();
    let of = [("AutoScalingGroupName", "linux")];
    let told = |action: &'static str, list: &'static str| {
        let client = client.clone();
        async move {
            let root = say(&client, GROUPS, action, &of).await.unwrap();
            root.list(&format!("{action}Result/{list}")).to_vec()
        }
    };
    assert_eq!(told("DescribeScalingActivities", "Activities").await, []);
    assert_eq!(told("DescribeInstanceRefreshes", "InstanceRefreshes").await, []);
    let activity = Activity {
        id: "a-1".to_owned(),
        description: "Launching a new EC2 instance".to_owned(),
        cause: "by hand".to_owned(),
        status: "InProgress".to_owned(),
        message: String::new(),
        progress: 50,
    };
    layer.set_activities("linux", vec![activity]);
    layer.set_refreshes("linux", &[("r-1", "InProgress")]);
    let policy = [
        of[0],
        ("PolicyName", "busy"),
        ("PolicyType", "TargetTrackingScaling"),
        ("TargetTrackingConfiguration.TargetValue", "50"),
        (
            "TargetTrackingConfiguration.PredefinedMetricSpecification.PredefinedMetricType",
            "ASGAverageCPUUtilization",
        ),
    ];
    say(&client, GROUPS, "PutScalingPolicy", &policy).await.unwrap();
    let activities = told("DescribeScalingActivities", "Activities").await;
    assert_eq!(activities[0].text_at("StatusCode"), "InProgress");
    let refreshes = told("DescribeInstanceRefreshes", "InstanceRefreshes").await;
    assert_eq!(refreshes[0].text_at("Status"), "InProgress");
    let policies = told("DescribePolicies", "ScalingPolicies").await;
    assert_eq!(policies[0].text_at("Enabled"), "true");
    layer.disable_policy("busy");
    let policies = told("DescribePolicies", "ScalingPolicies").await;
    assert_eq!(policies[0].text_at("Enabled"), "false");
}

#[tokio::test]
async fn the_spot_market_has_prices_and_takes_machines_back() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let shape = GroupShape {
        desired: 1,
        template: TemplateShape {
            spot: true,
            ..TemplateShape::default()
        },
        ..GroupShape::default()
    };
    layer.make_group("linux", &shape).await;
    let alone = run(&layer, &[("InstanceMarketOptions.MarketType", "spot")])
        .await
        .unwrap()
        .remove(0);
    run(&layer, &[]).await.unwrap();
    let spot = [
        ("Filter.1.Name", "instance-lifecycle"),
        ("Filter.1.Value.1", "spot"),
    ];
    assert_eq!(listed(&layer, &spot).await.len(), 2);
    layer.interrupt(&alone).await;
    let member = members(&layer, "linux").await.1.remove(0).0;
    layer.interrupt(&member).await;
    for id in [&alone, &member] {
        let root = say(&layer.client(), EC2, "DescribeInstances", &[("InstanceId.1", id)])
            .await
            .unwrap();
        let item = root.at("reservationSet/item/instancesSet/item").unwrap();
        assert_eq!(item.text_at("instanceState/name"), "terminated");
        assert_eq!(item.text_at("stateReason/code"), "Server.SpotInstanceTermination");
    }
    let (_, shown) = members(&layer, "linux").await;
    assert_eq!(lines(&shown), ["InService"], "its group replaced it");
    assert_ne!(shown[0].0, member);

    let asked = [
        ("InstanceType.1", "c6i.large"),
        ("ProductDescription.1", "Linux/UNIX"),
    ];
    let history = |root: Element| root.list("spotPriceHistorySet").to_vec();
    let none = say(&layer.client(), EC2, "DescribeSpotPriceHistory", &asked).await;
    assert_eq!(history(none.unwrap()), []);
    layer.set_spot_prices(vec![
        SpotPrice::new("c6i.large", "eu-central-1a", "0.034500", "2026-11-01T00:00:00Z"),
        SpotPrice::new("c6i.large", "eu-central-1a", "0.041000", "2026-11-02T00:00:00Z"),
        SpotPrice::new("c6i.xlarge", "eu-central-1a", "0.080000", "2026-11-02T00:00:00Z"),
    ]);
    let rows = say(&layer.client(), EC2, "DescribeSpotPriceHistory", &asked).await;
    let rows = history(rows.unwrap());
    let prices: Vec<&str> = rows.iter().map(|row| row.text_at("spotPrice")).collect();
    assert_eq!(prices, ["0.041000", "0.034500"]);
}

#[tokio::test]
async fn the_price_list_is_silent_until_it_is_set() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let client = layer.client();
    let filter = |field: &str, value: &str| json!({"Type": "TERM_MATCH", "Field": field, "Value": value});
    let ask = |filters: Value| {
        let client = client.clone();
        async move {
            let body = json!({"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters});
            client
                .send_json(Service::Pricing, "AWSPriceListService.GetProducts", &body)
                .await
                .unwrap()
        }
    };
    let (status, said) = ask(json!([])).await;
    assert_eq!((status, &said["__type"]), (500, &json!("InternalErrorException")));
    layer.set_products(Some(vec![
        market::product("c6i.large", "eu-central-1", "0.0970000000"),
        market::product("c6i.xlarge", "eu-central-1", "0.1940000000"),
        market::product("c6i.large", "us-east-1", "0.0850000000"),
    ]));
    let here = filter("regionCode", "eu-central-1");
    let (status, said) = ask(json!([here, filter("instanceType", "c6i.large")])).await;
    assert_eq!(status, 200, "{said}");
    let list = said["PriceList"].as_array().unwrap();
    assert_eq!(list.len(), 1);
    let item: Value = serde_json::from_str(list[0].as_str().unwrap()).unwrap();
    let terms = item["terms"]["OnDemand"].as_object().unwrap();
    let dimensions = terms.values().next().unwrap()["priceDimensions"]
        .as_object()
        .unwrap();
    assert_eq!(
        dimensions.values().next().unwrap()["pricePerUnit"]["USD"],
        "0.0970000000"
    );
    assert_eq!(
        ask(json!([here])).await.1["PriceList"].as_array().unwrap().len(),
        2
    );
}

/// A sandbox's control API in small: machines as they were reported, and whether each is off.
#[derive(Clone, Default)]
pub(crate) struct Stub(Arc<Mutex<BTreeMap<String, (Value, bool)>>>);

impl Stub {
    pub(crate) async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (post, list, delete) = (self.clone(), self.clone(), self.clone());
        let app = Router::new()
            .route(
                "/control/machines",
                get(async move || {
                    let machines = list.0.lock().unwrap();
                    let shown = machines.iter().map(|(id, (_, off))| {
                        let state = if *off { "off" } else { "running" };
                        json!({"id": id, "name": id, "state": state, "registered": true, "running_jobs": 0})
                    });
                    Json(json!({"machines": shown.collect::<Vec<_>>()}))
                })
                .post(async move |Json(machine): Json<Value>| {
                    let id = machine["id"].as_str().unwrap().to_owned();
                    post.0.lock().unwrap().insert(id, (machine, false));
                    StatusCode::CREATED
                }),
            )
            .route(
                "/control/machines/{id}",
                axum::routing::delete(async move |Path(id): Path<String>| {
                    match delete.0.lock().unwrap().remove(&id) {
                        Some(_) => StatusCode::NO_CONTENT,
                        None => StatusCode::NOT_FOUND,
                    }
                }),
            );
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/control")
    }

    fn user_data(&self) -> BTreeMap<String, String> {
        let machines = self.0.lock().unwrap();
        let told = machines.iter().map(|(id, (machine, _))| {
            let encoded = machine["user_data_base64"].as_str().unwrap();
            let text = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            (id.clone(), text)
        });
        told.collect()
    }

    /// A machine as it was reported.
    pub(crate) fn machine(&self, id: &str) -> Option<Value> {
        self.0.lock().unwrap().get(id).map(|(machine, _)| machine.clone())
    }

    pub(crate) fn power_off(&self, id: &str) {
        self.0.lock().unwrap().get_mut(id).unwrap().1 = true;
    }
}

#[tokio::test]
async fn a_world_is_told_of_machines_and_ends_them_by_powering_off() {
    let world = Stub::default();
    let Some(layer) = layer(Options {
        control: Some(world.serve().await),
        ..Options::default()
    })
    .await
    else {
        return;
    };
    let by_hand = STANDARD.encode("#cloud-config\n# by hand\n");
    let alone = run(
        &layer,
        &[
            ("UserData", &by_hand),
            ("InstanceInitiatedShutdownBehavior", "terminate"),
        ],
    )
    .await
    .unwrap()
    .remove(0);
    let template = |user_data: &str| TemplateShape {
        user_data: user_data.to_owned(),
        ..TemplateShape::default()
    };
    let leaves = "#cloud-config\n# aws autoscaling terminate-instance-in-auto-scaling-group \
                  --should-decrement-desired-capacity --instance-id …\n";
    for (name, user_data) in [("leaves", leaves), ("stays", "#cloud-config\n")] {
        let shape = GroupShape {
            template: template(user_data),
            ..GroupShape::default()
        };
        layer.make_group(name, &shape).await;
        desire(&layer, name, "2").await.unwrap();
    }
    let told = world.user_data();
    assert_eq!(told.len(), 5);
    assert_eq!(told[&alone], "#cloud-config\n# by hand\n");
    let first = async |name: &str| members(&layer, name).await.1.remove(0).0;
    let (leaver, stayer) = (first("leaves").await, first("stays").await);
    assert_eq!(told[&leaver], leaves);

    for id in [&alone, &leaver, &stayer] {
        world.power_off(id);
    }
    let gone = [("InstanceId.1", alone.as_str())];
    assert_eq!(lines(&listed(&layer, &gone).await), ["terminated"]);
    let (desired, shown) = members(&layer, "leaves").await;
    assert_eq!(
        (desired.as_str(), shown.len()),
        ("1", 1),
        "it left with a decrement"
    );
    let (desired, shown) = members(&layer, "stays").await;
    assert_eq!((desired.as_str(), shown.len()), ("2", 2), "it was replaced");
    assert!(shown.iter().all(|(id, _)| *id != stayer));
    let told: Vec<String> = world.user_data().into_keys().collect();
    let mut alive: Vec<String> = layer
        .instances()
        .await
        .into_iter()
        .filter(|machine| !machine.dead())
        .map(|machine| machine.id)
        .collect();
    alive.sort();
    assert_eq!(told, alive, "the world knows those that are there, and no other");
}

#[tokio::test]
async fn boto3_sees_what_was_made() {
    let Some(layer) = layer(Options::default()).await else {
        return;
    };
    let tagged = [
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "runfleet-stack"),
        ("TagSpecification.1.Tag.1.Value", "prod"),
        ("UserData", "aGVsbG8="),
    ];
    let id = run(&layer, &tagged).await.unwrap().remove(0);
    run(&layer, &[]).await.unwrap();
    let shape = GroupShape {
        desired: 2,
        tags: vec![("resource-class".to_owned(), "acme/linux".to_owned())],
        protected: true,
        ..GroupShape::default()
    };
    layer.make_group("acme/linux", &shape).await;
    let Some(seen) = layer.look(&["instances", "--tag", "runfleet-stack=prod"]).await else {
        return;
    };
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(seen[0]["id"], id);
    assert_eq!(seen[0]["state"], "running");
    assert_eq!(seen[0]["user_data"], "aGVsbG8=");
    let seen = layer.look(&["group", "acme/linux"]).await.unwrap();
    assert_eq!((&seen["desired"], &seen["max"]), (&json!(2), &json!(5)));
    assert_eq!(seen["tags"], json!({"resource-class": "acme/linux"}));
    let seen = seen["members"].as_array().unwrap().clone();
    assert!(seen.iter().all(|member| member["protected"] == true));
    let mut ids: Vec<String> = members(&layer, "acme/linux")
        .await
        .1
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    ids.sort();
    let theirs: Vec<&str> = seen.iter().map(|member| member["id"].as_str().unwrap()).collect();
    assert_eq!(theirs, ids);
    assert_eq!(layer.look(&["group", "nobody"]).await, Some(Value::Null));
    assert_eq!(
        layer.look(&["groups"]).await.unwrap().as_array().unwrap().len(),
        1
    );
}
