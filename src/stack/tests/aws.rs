//! Amazon's providers, Drone and CircleCI in the stack file: what is read, and every kind of problem with its message.
//!
//! Long because every message stands in it.

use super::*;
use crate::model::resource::Ec2Launch;

pub(super) const DRONE_ASG: &str = include_str!("../../../stacks/drone-asg.toml");
const EC2_EXAMPLE: &str = include_str!("../../../stacks/ec2.toml");
const CIRCLECI_ASG: &str = include_str!("../../../stacks/circleci-asg.toml");

/// A Drone server's agents in a group.
const DRONE: &str = r#"[stack]
name = "prod"

[providers.asg]
region = "eu-central-1"

[ci.drone]
url = "https://drone.example.com"
token = { env = "DRONE_TOKEN" }

[pools.agents]
ci = "drone"
tags = ["os=linux", "arch=amd64"]
max = 5
group = { provider = "asg", name = "drone-agents" }
"#;

/// CircleCI's runners in groups that are discovered.
const CIRCLECI: &str = r#"[stack]
name = "prod"

[providers.asg]
region = "eu-central-1"

[ci.circleci]
token = { env = "CIRCLE_TOKEN" }

[pools.runners]
ci = "circleci"
max = 5
group = { provider = "asg", discover = { namespace = "acme" } }
"#;

/// Instances for GitLab, and a login key for them.
pub(super) const EC2: &str = r#"[stack]
name = "prod"

[providers.ec2]
region = "eu-central-1"
vpc = "vpc-0a1b2c3d"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ci.gitlab]
token = { env = "GITLAB_API_TOKEN" }

[pools.linux]
ci = "gitlab"
tags = ["docker"]
max = 5

[[pools.linux.offerings]]
provider = "ec2"
type = "c7i.large"
locations = ["eu-central-1a"]
image = "ami-0a1b2c3d"
market = "spot"
max_price = "0.05 USD"
"#;

/// Machines of EC2 for CircleCI.
const CLASS: &str = r#"[stack]
name = "prod"

[providers.ec2]

[ci.circleci]
token = { env = "CIRCLE_TOKEN" }

[pools.linux]
ci = "circleci"
tags = ["acme/linux"]
max = 5
runner_token = { env = "LINUX_TOKEN" }
offerings = [{ provider = "ec2", type = "c7i.large", image = "ami-0a1b2c3d" }]
"#;

fn problems(base: &str, cases: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (old, new) in cases {
        assert!(base.contains(old), "{old}");
        let broken = base.replacen(old, new, 1);
        let Err(problems) = parse(&broken, "stacks/prod.toml") else {
            panic!("nothing is wrong with {new}");
        };
        let told = if new.is_empty() {
            format!("without {old}")
        } else {
            (*new).to_owned()
        };
        let _ = writeln!(text, "{}\n{}", told.replace('\n', " ⏎ "), brief(&problems));
    }
    text
}

fn read(base: &str, old: &str, new: &str) -> Stack {
    assert!(base.contains(old), "{old}");
    parse(&base.replacen(old, new, 1), "x").unwrap_or_else(|problems| panic!("{}", rendered(&problems)))
}

#[test]
fn the_example_stacks_are_valid_and_fit_the_schema() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (name, text) in [
        ("drone-asg", DRONE_ASG),
        ("circleci-asg", CIRCLECI_ASG),
        ("ec2", EC2_EXAMPLE),
        ("prod", DRONE),
        ("prod", CIRCLECI),
        ("prod", EC2),
        ("prod", CLASS),
    ] {
        let stack = parse(text, name).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
        assert_eq!(stack.name.as_str(), name);
        let json = tree::read(text).unwrap().to_json();
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let stack = parse(DRONE, "x").unwrap();
    let provider = &stack.providers["asg"];
    assert_eq!(provider.kind, ProviderKind::Asg);
    assert_eq!(
        provider.aws,
        AwsAccess {
            region: Some("eu-central-1".to_owned()),
            ..AwsAccess::default()
        }
    );
    let ci = &stack.ci["drone"];
    assert_eq!(
        (ci.kind, ci.pending_max, ci.running_max),
        (CiKind::Drone, None, None)
    );
    let pool = &stack.pools[0];
    assert_eq!(pool.cloud_init, "cloud-init/drone-runner.yaml.tera");
    assert_eq!(pool.offerings, []);
    let group = pool.group.as_ref().unwrap();
    assert_eq!(group.which, GroupSelector::Named("drone-agents".to_owned()));
    assert_eq!(group.leave, Leave::Terminate);

    let stack = parse(CIRCLECI, "x").unwrap();
    let ci = &stack.ci["circleci"];
    assert_eq!((&ci.url, ci.api), (&Endpoint::Default, CircleciApi::V3));
    let group = stack.pools[0].group.as_ref().unwrap();
    assert_eq!(
        group.which,
        GroupSelector::Tagged {
            key: "resource-class".to_owned(),
            namespace: "acme".to_owned()
        }
    );

    let stack = parse(CLASS, "x").unwrap();
    assert_eq!(stack.providers["ec2"].aws, AwsAccess::default());
    let offering = &stack.pools[0].offerings[0];
    assert_eq!(offering.image, ImageRef::Name("ami-0a1b2c3d".to_owned()));
    assert_eq!(offering.ec2.as_deref(), Some(&Ec2Launch::default()));
}

#[test]
fn values_are_read_as_they_are_written() {
    let image = |written: &str| {
        let stack = read(EC2, "image = \"ami-0a1b2c3d\"", written);
        stack.pools[0].offerings[0].image.clone()
    };
    assert_eq!(
        image("image = { owner = \"self\", name = \"runner-*\" }"),
        ImageRef::Owned {
            owner: "self".to_owned(),
            name: "runner-*".to_owned()
        }
    );
    assert_eq!(
        image("image = { ssm = \"/ci/runner\" }"),
        ImageRef::Parameter("/ci/runner".to_owned())
    );
    assert_eq!(image("launch_template = \"ci\""), ImageRef::LaunchTemplate);
    assert_eq!(
        image("launch_template = \"ci\"\nimage = \"ami-1\""),
        ImageRef::Name("ami-1".to_owned())
    );

    let stack = read(
        EC2,
        "market = \"spot\"",
        "market = \"spot\"\nlaunch_template = \"lt-1\"\ntemplate_version = \"$Latest\"\nsubnets = [\"subnet-1\"]\n\
         security_groups = [\"sg-1\"]\ninstance_profile = \"runner\"\nroot_gib = 40",
    );
    let offering = &stack.pools[0].offerings[0];
    assert_eq!(offering.market, Market::Spot);
    assert_eq!(
        offering.ec2.as_deref(),
        Some(&Ec2Launch {
            launch_template: Some("lt-1".to_owned()),
            template_version: Some("$Latest".to_owned()),
            subnets: vec!["subnet-1".to_owned()],
            security_groups: vec!["sg-1".to_owned()],
            instance_profile: Some("runner".to_owned()),
            root_gib: Some(40),
            max_price: Some("0.05 USD".parse().unwrap()),
        })
    );

    let stack = read(
        EC2,
        "vpc = \"vpc-0a1b2c3d\"",
        "profile = \"ci\"\nrole_arn = \"arn:aws:iam::123456789012:role/ci/runfleet\"\n\
         access_key = { env = \"A\" }\nsecret_key = { file = \"b\" }",
    );
    let aws = &stack.providers["ec2"].aws;
    assert_eq!(aws.profile.as_deref(), Some("ci"));
    assert_eq!(
        aws.role_arn.as_deref(),
        Some("arn:aws:iam::123456789012:role/ci/runfleet")
    );
    assert_eq!(
        aws.keys,
        Some((SecretRef::Env("A".to_owned()), SecretRef::File("b".into())))
    );
}

#[test]
fn groups_cis_and_policies_are_read_as_they_are_written() {
    let policy = |written: &str| read(DRONE, "max = 5", written).pools[0].policy.clone();
    let min_age = SignedDuration::from_mins(10);
    assert_eq!(
        policy("max = 5\npolicy = \"drone-autoscaler\""),
        Policy::DroneAutoscaler { min_age }
    );
    let min_age = SignedDuration::ZERO;
    assert_eq!(
        policy("max = 5\npolicy = { kind = \"drone-autoscaler\", min_age = \"0s\" }"),
        Policy::DroneAutoscaler { min_age }
    );
    assert_eq!(
        policy("max = 5\npolicy = \"asg-increment\""),
        Policy::AsgIncrement
    );
    let stack = read(
        DRONE,
        "url = \"https://drone.example.com\"",
        "url = \"https://drone.example.com/\"\npending_max = \"2h\"\nrunning_max = \"6h\"\nsettle = \"20s\"",
    );
    let ci = &stack.ci["drone"];
    assert_eq!(ci.url, Endpoint::Url("https://drone.example.com".to_owned()));
    assert_eq!(
        (ci.pending_max, ci.running_max),
        (
            Some(SignedDuration::from_hours(2)),
            Some(SignedDuration::from_hours(6))
        )
    );
    let stack = read(
        DRONE,
        "name = \"drone-agents\"",
        "name = \"x\", leave = \"detach\"",
    );
    assert_eq!(stack.pools[0].group.as_ref().unwrap().leave, Leave::Detach);
    let stack = read(
        DRONE,
        "tags = [\"os=linux\", \"arch=amd64\"]",
        "run_untagged = true",
    );
    assert!(stack.pools[0].run_untagged && stack.pools[0].tags.is_empty());

    let stack = read(
        CIRCLECI,
        "{ env = \"CIRCLE_TOKEN\" }",
        "{ env = \"T\" }\napi = \"v2\"\nurl = \"https://runner.example.com\"",
    );
    assert_eq!(stack.ci["circleci"].api, CircleciApi::V2);
    let stack = read(CIRCLECI, "discover = { ", "discover = { tag = \"class\", ");
    let group = stack.pools[0].group.clone().unwrap();
    assert!(matches!(group.which, GroupSelector::Tagged { key, .. } if key == "class"));
    let stack = read(
        CIRCLECI,
        "max = 5\ngroup = { provider = \"asg\", discover = { namespace = \"acme\" } }",
        "max = 5\ntags = [\"acme/linux\"]\ngroup = { provider = \"asg\", name = \"acme/linux\" }",
    );
    assert_eq!(stack.pools[0].tags, ["acme/linux"]);
}

#[test]
fn in_the_sandbox_a_ci_needs_neither_token_nor_address() {
    let text = DRONE
        .replace(
            "url = \"https://drone.example.com\"\ntoken = { env = \"DRONE_TOKEN\" }",
            "url = \"sandbox\"",
        )
        .replace(
            "[providers.asg]\nregion = \"eu-central-1\"",
            "[sandbox]\n\n[providers.hetzner]\nendpoint = \"sandbox\"",
        )
        .replace(
            "group = { provider = \"asg\", name = \"drone-agents\" }",
            "offerings = [{ provider = \"hetzner\", type = \"cx23\", image = \"debian-12\" }]",
        );
    let stack = parse(&text, "x").unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    assert_eq!(stack.ci["drone"].url, Endpoint::Sandbox);
    assert_eq!(stack.pools[0].registering.runner_token, None);
}

#[test]
fn every_problem_of_an_account_of_amazons_has_its_message() {
    let cases: &[(&str, &str)] = &[
        ("region = \"eu-central-1\"", "token = { env = \"T\" }"),
        ("region = \"eu-central-1\"", "endpoint = \"sandbox\""),
        (
            "region = \"eu-central-1\"",
            "endpoint = \"http://moto.example.com\"",
        ),
        ("region = \"eu-central-1\"", "region = \"eu-central-1a\""),
        ("region = \"eu-central-1\"", "region = \"Frankfurt\""),
        ("region = \"eu-central-1\"", "region = \"EU-CENTRAL-1\""),
        ("region = \"eu-central-1\"", "region = \"\""),
        ("region = \"eu-central-1\"", "profile = \" \""),
        ("region = \"eu-central-1\"", "role_arn = \"runfleet\""),
        ("region = \"eu-central-1\"", "access_key = { env = \"A\" }"),
        ("region = \"eu-central-1\"", "secret_key = { env = \"A\" }"),
        (
            "region = \"eu-central-1\"",
            "access_key = \"AKIAIOSFODNN7EXAMPLE\"\nsecret_key = \"x\"",
        ),
        (
            "region = \"eu-central-1\"",
            "access_key = { env = \"AKIAIOSFODNN7EXAMPLE\" }\nsecret_key = { env = \"A\" }",
        ),
        ("vpc = \"vpc-0a1b2c3d\"", "vpc = \"default\""),
        (
            "token = { env = \"HCLOUD_TOKEN\" }",
            "token = { env = \"HCLOUD_TOKEN\" }\nregion = \"fsn1\"\nprofile = \"x\"",
        ),
        ("[providers.ec2]", "[providers.aws]"),
        ("[providers.ec2]", "[providers.ec2]\nkind = \"aws\""),
    ];
    insta::assert_snapshot!(problems(EC2, cases), @r#"
    token = { env = "T" }
    5:1 stack::contradiction `providers.ec2.token` says nothing to ec2
      = take `token` out

    endpoint = "sandbox"
    5:12 stack::dangling `providers.ec2.endpoint` is the sandbox, and there is none
      = add a table `[sandbox]`; it may be empty
    5:12 stack::bad_value the sandbox has no ec2
      = take `endpoint` out, or name an emulator's address: "http://127.0.0.1:5000"
    20:12 stack::contradiction the pool `linux` has its machines and its jobs in different worlds
      = let both be "sandbox", or neither

    endpoint = "http://moto.example.com"
    5:12 stack::bad_value `providers.ec2.endpoint` would send the token over plain http
      = write "https://moto.example.com"; plain http goes only to this machine

    region = "eu-central-1a"
    5:10 stack::bad_value `providers.ec2.region` cannot be "eu-central-1a"
      = that is a zone of it: write "eu-central-1"

    region = "Frankfurt"
    5:10 stack::bad_value `providers.ec2.region` cannot be "Frankfurt"
      = write it as Amazon does: "eu-central-1"

    region = "EU-CENTRAL-1"
    5:10 stack::bad_value "EU-CENTRAL-1" is no region
      = write it as the cloud does: "eu-central-1"

    region = ""
    5:10 stack::bad_value "" is no region
      = name one, or take the key out

    profile = " "
    5:11 stack::bad_value `providers.ec2.profile` must not be empty
      = name a profile of ~/.aws/config, or take the key out

    role_arn = "runfleet"
    5:12 stack::bad_value `providers.ec2.role_arn` is not the ARN of a role
      = write it whole: "arn:aws:iam::123456789012:role/runfleet"

    access_key = { env = "A" }
    5:14 stack::missing_key `providers.ec2.access_key` is half of a key
      = add `secret_key`; or take `access_key` out, to be let in as Amazon's own tools are

    secret_key = { env = "A" }
    5:14 stack::missing_key `providers.ec2.secret_key` is half of a key
      = add `access_key`; or take `secret_key` out, to be let in as Amazon's own tools are

    access_key = "AKIAIOSFODNN7EXAMPLE" ⏎ secret_key = "x"
    5:14 stack::literal_secret `providers.ec2.access_key` must not stand in the stack file
      = say where it is found: { env = "AWS_ACCESS_KEY_ID" }, { file = "path" }, { command = ["pass", "show", "…"] } or { credential = "name" }; if this was the real one, replace it, for it has been written to a file
    6:14 stack::literal_secret `providers.ec2.secret_key` must not stand in the stack file
      = say where it is found: { env = "AWS_SECRET_ACCESS_KEY" }, { file = "path" }, { command = ["pass", "show", "…"] } or { credential = "name" }; if this was the real one, replace it, for it has been written to a file

    access_key = { env = "AKIAIOSFODNN7EXAMPLE" } ⏎ secret_key = { env = "A" }
    5:14 stack::bad_value `providers.ec2.access_key` does not say where the secret is
      = name the variable, without `$`: { env = "HCLOUD_TOKEN" }

    vpc = "default"
    6:7 stack::bad_value `providers.ec2.vpc` is not a VPC's id
      = write "vpc-0a1b2c3d"

    token = { env = "HCLOUD_TOKEN" } ⏎ region = "fsn1" ⏎ profile = "x"
    10:1 stack::contradiction `providers.hetzner.region` says nothing to hetzner
      = take `region` out
    11:1 stack::contradiction `providers.hetzner.profile` says nothing to hetzner
      = take `profile` out

    [providers.aws]
    4:1 stack::missing_key missing key `kind` in `providers.aws`
      = only where the name is a kind may it be left out: add kind = "ec2"
    20:12 stack::dangling `pools.linux.offerings.provider` names the provider "ec2", which is not declared
      = declared under `[providers]`: `aws`, `hetzner`; or add a table `[providers.ec2]`

    [providers.ec2] ⏎ kind = "aws"
    5:8 stack::bad_value `providers.ec2.kind` cannot be "aws"
      = `providers.ec2.kind` is "digitalocean", "hetzner", "ec2", "asg", "ecs" or "kubernetes"
    "#);
    insta::assert_snapshot!(problems(DRONE, &[("region = \"eu-central-1\"", "vpc = \"vpc-1\"")]), @r#"
    vpc = "vpc-1"
    5:1 stack::contradiction `providers.asg.vpc` says nothing to asg
      = take `vpc` out
    "#);
}

#[test]
fn every_problem_of_a_ci_has_its_message() {
    let url = "url = \"https://drone.example.com\"";
    let cases: &[(&str, &str)] = &[
        (url, ""),
        (url, "url = \"https://drone.example.com/api\""),
        (url, "url = \"http://drone.example.com\""),
        ("token = { env = \"DRONE_TOKEN\" }", ""),
        ("token = { env = \"DRONE_TOKEN\" }", "token = \"verysecret\""),
        (
            url,
            "url = \"https://drone.example.com\"\nprojects = [\"acme/app\"]\ninstance = true\napi = \"v2\"",
        ),
        (url, "url = \"https://drone.example.com\"\npending_max = \"0s\""),
        (url, "url = \"https://drone.example.com\"\nrunning_max = \"-1s\""),
        (url, "url = \"https://drone.example.com\"\nrunning_max = \"long\""),
        (url, "url = \"https://drone.example.com\"\nsettle = \"21s\""),
    ];
    insta::assert_snapshot!(problems(DRONE, cases), @r#"
    without url = "https://drone.example.com"
    7:1 stack::missing_key missing key `url` in `ci.drone`
      = each Drone server is somebody's own: add url = "https://drone.example.com"

    url = "https://drone.example.com/api"
    8:7 stack::bad_value `ci.drone.url` is the server's root, without `/api`
      = write url = "https://drone.example.com"

    url = "http://drone.example.com"
    8:7 stack::bad_value `ci.drone.url` would send the token over plain http
      = write "https://drone.example.com"; plain http goes only to this machine

    without token = { env = "DRONE_TOKEN" }
    7:1 stack::missing_key missing key `token` in `ci.drone`
      = add token = { env = "DRONE_TOKEN" }

    token = "verysecret"
    9:9 stack::literal_secret `ci.drone.token` must not stand in the stack file
      = say where it is found: { env = "DRONE_TOKEN" }, { file = "path" }, { command = ["pass", "show", "…"] } or { credential = "name" }; if this was the real one, replace it, for it has been written to a file

    url = "https://drone.example.com" ⏎ projects = ["acme/app"] ⏎ instance = true ⏎ api = "v2"
    9:1 stack::contradiction `ci.drone.projects` says nothing to drone
      = take `projects` out
    10:1 stack::contradiction `ci.drone.instance` says nothing to drone
      = take `instance` out
    11:1 stack::contradiction `ci.drone.api` says nothing to drone
      = take `api` out

    url = "https://drone.example.com" ⏎ pending_max = "0s"
    9:15 stack::bad_value `ci.drone.pending_max` cannot be zero
      = write "90s", "3m" or "1h 30m"

    url = "https://drone.example.com" ⏎ running_max = "-1s"
    9:15 stack::bad_value `ci.drone.running_max` cannot be negative
      = write "90s", "3m" or "1h 30m"

    url = "https://drone.example.com" ⏎ running_max = "long"
    9:15 stack::bad_value `ci.drone.running_max` cannot be "long": not a length of time
      = write "90s", "3m" or "1h 30m"

    url = "https://drone.example.com" ⏎ settle = "21s"
    9:10 stack::bad_value `ci.drone.settle` is longer than a queue may be paused
      = write "20s" or less, or take it out
    "#);
    let token = "token = { env = \"CIRCLE_TOKEN\" }";
    let cases: &[(&str, &str)] = &[
        (token, ""),
        (token, "token = \"verysecret\""),
        (token, "token = { env = \"CIRCLE_TOKEN\" }\napi = \"v1\""),
        (
            token,
            "token = { env = \"CIRCLE_TOKEN\" }\npending_max = \"1h\"\nrunning_max = \"1h\"",
        ),
        (
            token,
            "token = { env = \"CIRCLE_TOKEN\" }\nurl = \"https://runner.circleci.com/api/v2\"",
        ),
    ];
    insta::assert_snapshot!(problems(CIRCLECI, cases), @r#"
    without token = { env = "CIRCLE_TOKEN" }
    7:1 stack::missing_key missing key `token` in `ci.circleci`
      = add token = { env = "CIRCLE_TOKEN" }

    token = "verysecret"
    8:9 stack::literal_secret `ci.circleci.token` must not stand in the stack file
      = say where it is found: { env = "CIRCLE_TOKEN" }, { file = "path" }, { command = ["pass", "show", "…"] } or { credential = "name" }; if this was the real one, replace it, for it has been written to a file

    token = { env = "CIRCLE_TOKEN" } ⏎ api = "v1"
    9:7 stack::bad_value `ci.circleci.api` cannot be "v1": did you mean "v3"?
      = `ci.circleci.api` is "v3" or "v2"

    token = { env = "CIRCLE_TOKEN" } ⏎ pending_max = "1h" ⏎ running_max = "1h"
    9:1 stack::contradiction `ci.circleci.pending_max` says nothing to circleci
      = take `pending_max` out
    10:1 stack::contradiction `ci.circleci.running_max` says nothing to circleci
      = take `running_max` out

    token = { env = "CIRCLE_TOKEN" } ⏎ url = "https://runner.circleci.com/api/v2"
    9:7 stack::bad_value `ci.circleci.url` is the server's root, without `/api/v2`
      = write url = "https://runner.circleci.com"
    "#);
    let token = "token = { env = \"GITLAB_API_TOKEN\" }";
    let cases: &[(&str, &str)] = &[(
        token,
        "token = { env = \"T\" }\napi = \"v3\"\npending_max = \"1h\"",
    )];
    insta::assert_snapshot!(problems(EC2, cases), @r#"
    token = { env = "T" } ⏎ api = "v3" ⏎ pending_max = "1h"
    13:1 stack::contradiction `ci.gitlab.api` says nothing to gitlab
      = take `api` out
    14:1 stack::contradiction `ci.gitlab.pending_max` says nothing to gitlab
      = take `pending_max` out
    "#);
}

#[test]
fn every_problem_of_a_group_has_its_message() {
    let group = "group = { provider = \"asg\", name = \"drone-agents\" }";
    let tags = "tags = [\"os=linux\", \"arch=amd64\"]";
    let cases: &[(&str, &str)] = &[
        (group, ""),
        (group, "group = {}"),
        (group, "group = \"drone-agents\""),
        (group, "group = { provider = \"asg\" }"),
        (group, "group = { provider = \"asg\", name = \" \" }"),
        (group, "group = { provider = \"asg\", name = 5 }"),
        (
            group,
            "group = { provider = \"asg\", name = \"a\", leave = \"stop\" }",
        ),
        (
            group,
            "group = { provider = \"asg\", name = \"a\", discover = { namespace = \"acme\" } }",
        ),
        (group, "group = { provider = \"agg\", discover = {} }"),
        (
            group,
            "group = { provider = \"asg\", discover = { namespace = \"acme\" } }",
        ),
        (
            group,
            "group = { provider = \"asg\", name = \"a\" }\nofferings = [{ provider = \"asg\", type = \"t3.large\", image = \"ami-1\" }]",
        ),
        (
            group,
            "group = { provider = \"asg\", name = \"a\" }\nburst = 2\nroll = 1\nrunner_token = { env = \"R\" }",
        ),
        (
            group,
            "runner_token = { env = \"R\" }\nofferings = [{ provider = \"asg\", type = \"t3.large\" }]",
        ),
        (tags, ""),
        (tags, "tags = [\"linux\"]"),
        (tags, "tags = [\"os=linux\", \"os=windows\", \"=x\"]"),
        (tags, "tags = [\"os=linux\"]\nprotected_refs = true"),
        (
            "max = 5",
            "max = 5\npolicy = { kind = \"drone-autoscaler\", idle = 1 }",
        ),
        (
            "max = 5",
            "max = 5\npolicy = { kind = \"drone-autoscaler\", min_age = \"-1m\" }",
        ),
        (
            "max = 5",
            "max = 5\npolicy = { kind = \"queue\", min_age = \"10m\" }",
        ),
        (
            "max = 5",
            "max = 5\npolicy = { kind = \"asg-increment\", idle = 1, min_age = \"10m\" }",
        ),
        ("max = 5", "max = 5\npolicy = { min_age = \"10m\" }"),
        ("max = 5", "max = 5\npolicy = \"asg_increment\""),
        (
            group,
            "group = { provider = \"asg\", name = \"a\" }\n[pools.more]\nci = \"drone\"\nrun_untagged = true\nmax = 1\n\
             group = { provider = \"asg\", name = \"a\" }",
        ),
        (
            "[ci.drone]",
            "[sandbox]\n[ci.gitlab]\nurl = \"sandbox\"\n[pools.b]\nci = \"gitlab\"\ntags = [\"x\"]\nmax = 1\n\
             group = { provider = \"asg\", name = \"b\" }\n[ci.drone]",
        ),
    ];
    insta::assert_snapshot!(problems(DRONE, cases), @r#"
    without group = { provider = "asg", name = "drone-agents" }
    11:1 stack::missing_key missing key `offerings` in `pools.agents`
      = say what it may buy: [[pools.agents.offerings]]

    group = {}
    15:9 stack::missing_key `pools.agents.group` does not say which group
      = add name = "drone-agents", or discover = { namespace = "acme" }
    15:9 stack::missing_key missing key `provider` in `pools.agents.group`
      = add `provider`, as in `provider = "asg"`: The provider of kind `asg` that has it, by its name under `[providers]`

    group = "drone-agents"
    15:9 stack::wrong_type `pools.agents.group` must be a table, not a string
      = write group = { provider = "asg", name = "drone-agents" }

    group = { provider = "asg" }
    15:9 stack::missing_key `pools.agents.group` does not say which group
      = add name = "drone-agents", or discover = { namespace = "acme" }

    group = { provider = "asg", name = " " }
    15:36 stack::bad_value `pools.agents.group.name` must not be empty
      = write the group's name

    group = { provider = "asg", name = 5 }
    15:36 stack::wrong_type `pools.agents.group.name` must be a string, not a whole number
      = for example: "drone-agents"

    group = { provider = "asg", name = "a", leave = "stop" }
    15:49 stack::bad_value `pools.agents.group.leave` cannot be "stop"
      = `pools.agents.group.leave` is "terminate" or "detach"

    group = { provider = "asg", name = "a", discover = { namespace = "acme" } }
    15:41 stack::contradiction `pools.agents.group` names a group, and discovers groups too
      = take one of the two out

    group = { provider = "agg", discover = {} }
    15:22 stack::dangling `pools.agents.group.provider` names the provider "agg", which is not declared
      = declared under `[providers]`: `asg`
    15:40 stack::missing_key missing key `namespace` in `pools.agents.group.discover`
      = add `namespace`, as in `namespace = "acme"`: What stands before the slash of its value

    group = { provider = "asg", discover = { namespace = "acme" } }
    15:29 stack::contradiction the pool `agents` discovers groups, and serves Drone
      = name the group, and say what its agents are given: tags = ["os=linux", "arch=amd64"], or run_untagged = true

    group = { provider = "asg", name = "a" } ⏎ offerings = [{ provider = "asg", type = "t3.large", image = "ami-1" }]
    15:1 stack::contradiction the pool `agents` has a group, and offerings too
      = take one of the two out
    16:27 stack::bad_value `pools.agents.offerings.provider` names a provider of groups
      = name one of kind "ec2"; or let the pool have group = { provider = …, name = … }

    group = { provider = "asg", name = "a" } ⏎ burst = 2 ⏎ roll = 1 ⏎ runner_token = { env = "R" }
    16:1 stack::contradiction `pools.agents.burst` says nothing to a group
      = take `burst` out
    17:1 stack::contradiction `pools.agents.roll` says nothing to a group
      = take `roll` out
    18:1 stack::contradiction `pools.agents.runner_token` says nothing to a group
      = take `runner_token` out

    runner_token = { env = "R" } ⏎ offerings = [{ provider = "asg", type = "t3.large" }]
    16:27 stack::bad_value `pools.agents.offerings.provider` names a provider of groups
      = name one of kind "ec2"; or let the pool have group = { provider = …, name = … }

    without tags = ["os=linux", "arch=amd64"]
    11:1 stack::contradiction no job would ever fit the pool `agents`
      = add tags = ["os=linux", "arch=amd64"]; or run_untagged = true, for every build

    tags = ["linux"]
    13:9 stack::bad_value "linux" says nothing to Drone
      = write tags = ["os=linux", "arch=amd64"]; other keys are labels: "pool=big"

    tags = ["os=linux", "os=windows", "=x"]
    13:21 stack::contradiction `pools.agents.tags` gives `os` two values
      = a build has one: take one of the two out
    13:35 stack::bad_value "=x" says nothing to Drone
      = write tags = ["os=linux", "arch=amd64"]; other keys are labels: "pool=big"

    tags = ["os=linux"] ⏎ protected_refs = true
    14:1 stack::contradiction `pools.agents.protected_refs` says nothing to drone
      = take `protected_refs` out

    max = 5 ⏎ policy = { kind = "drone-autoscaler", idle = 1 }
    15:39 stack::contradiction `pools.agents.policy.idle` says nothing to this policy
      = take `idle` out

    max = 5 ⏎ policy = { kind = "drone-autoscaler", min_age = "-1m" }
    15:49 stack::bad_value `pools.agents.policy.min_age` cannot be negative
      = write "90s", "3m" or "1h 30m"

    max = 5 ⏎ policy = { kind = "queue", min_age = "10m" }
    15:28 stack::contradiction `pools.agents.policy.min_age` says nothing to this policy
      = take `min_age` out

    max = 5 ⏎ policy = { kind = "asg-increment", idle = 1, min_age = "10m" }
    15:36 stack::contradiction `pools.agents.policy.idle` says nothing to this policy
      = take `idle` out
    15:46 stack::contradiction `pools.agents.policy.min_age` says nothing to this policy
      = take `min_age` out

    max = 5 ⏎ policy = { min_age = "10m" }
    15:10 stack::missing_key missing key `kind` in `pools.agents.policy`
      = add `kind`, as in `kind = "queue"`: Which policy

    max = 5 ⏎ policy = "asg_increment"
    15:10 stack::bad_value `pools.agents.policy` cannot be "asg_increment": did you mean "asg-increment"?
      = `pools.agents.policy` is "queue", "drone-autoscaler", "asg-increment", "ado-delta" or "step"

    group = { provider = "asg", name = "a" } ⏎ [pools.more] ⏎ ci = "drone" ⏎ run_untagged = true ⏎ max = 1 ⏎ group = { provider = "asg", name = "a" }
    20:9 stack::duplicate the pools `agents` and `more` are the same group
      = let one pool have it

    [sandbox] ⏎ [ci.gitlab] ⏎ url = "sandbox" ⏎ [pools.b] ⏎ ci = "gitlab" ⏎ tags = ["x"] ⏎ max = 1 ⏎ group = { provider = "asg", name = "b" } ⏎ [ci.drone]
    14:1 stack::contradiction the pool `b` has a group, and serves GitLab
      = GitLab knows a machine by a registration of its own: let the pool have offerings
    14:22 stack::contradiction the pool `b` has its machines and its jobs in different worlds
      = let both be "sandbox", or neither
    "#);
}

#[test]
fn every_problem_of_a_resource_class_has_its_message() {
    let cases: &[(&str, &str)] = &[
        ("{ namespace = \"acme\" }", "{ namespace = \"acme/linux\" }"),
        ("{ namespace = \"acme\" }", "{ namespace = \"\", tag = \"\" }"),
        ("{ namespace = \"acme\" }", "{ tag = \"class\" }"),
        ("max = 5", "max = 5\ntags = [\"acme/linux\"]"),
        ("max = 5", "max = 5\nrun_untagged = true\njobs_per_runner = 2"),
        ("discover = { namespace = \"acme\" }", "name = \"acme/linux\""),
        (
            "max = 5",
            "max = 1\ngroup = { provider = \"asg\", discover = { namespace = \"acme\" } }\n[pools.more]\nci = \"circleci\"\nmax = 5",
        ),
    ];
    insta::assert_snapshot!(problems(CIRCLECI, cases), @r#"
    { namespace = "acme/linux" }
    13:54 stack::bad_value `pools.runners.group.discover.namespace` cannot be "acme/linux"
      = write what stands before the slash of the tag's value: "acme"

    { namespace = "", tag = "" }
    13:54 stack::bad_value `pools.runners.group.discover.namespace` cannot be ""
      = write what stands before the slash of the tag's value: "acme"
    13:64 stack::bad_value `pools.runners.group.discover.tag` must not be empty
      = write the tag's key, or take `tag` out: "resource-class"

    { tag = "class" }
    13:40 stack::missing_key missing key `namespace` in `pools.runners.group.discover`
      = add `namespace`, as in `namespace = "acme"`: What stands before the slash of its value

    max = 5 ⏎ tags = ["acme/linux"]
    13:1 stack::contradiction `pools.runners.tags` says nothing to what is discovered
      = take `tags` out

    max = 5 ⏎ run_untagged = true ⏎ jobs_per_runner = 2
    13:1 stack::contradiction `pools.runners.run_untagged` says nothing to circleci
      = take `run_untagged` out
    14:19 stack::bad_value a runner of CircleCI cannot run 2 tasks at once
      = write jobs_per_runner = 1, or take it out

    name = "acme/linux"
    10:1 stack::bad_value the pool `runners` names no resource class of CircleCI
      = write the one that its runners serve: tags = ["acme/linux"]

    max = 1 ⏎ group = { provider = "asg", discover = { namespace = "acme" } } ⏎ [pools.more] ⏎ ci = "circleci" ⏎ max = 5
    17:9 stack::duplicate the pools `runners` and `more` are the same group
      = let one pool have it
    "#);
    let cases: &[(&str, &str)] = &[
        ("tags = [\"acme/linux\"]", ""),
        ("tags = [\"acme/linux\"]", "tags = [\"linux\"]"),
        ("tags = [\"acme/linux\"]", "tags = [\"acme/linux\", \"acme/arm\"]"),
        ("runner_token = { env = \"LINUX_TOKEN\" }", ""),
        (
            "runner_token = { env = \"LINUX_TOKEN\" }",
            "runner_token = \"verysecret\"",
        ),
        (
            "offerings",
            "offerings = [{ provider = \"ec2\", type = \"m7i.large\", image = \"ami-1\" }]\n[pools.more]\nci = \"circleci\"\n\
             tags = [\"acme/linux\"]\nmax = 1\nrunner_token = { env = \"T\" }\nofferings",
        ),
    ];
    insta::assert_snapshot!(problems(CLASS, cases), @r#"
    without tags = ["acme/linux"]
    9:1 stack::bad_value the pool `linux` names no resource class of CircleCI
      = write the one that its runners serve: tags = ["acme/linux"]

    tags = ["linux"]
    11:8 stack::bad_value the pool `linux` names no resource class of CircleCI
      = write the one that its runners serve: tags = ["acme/linux"]

    tags = ["acme/linux", "acme/arm"]
    11:8 stack::bad_value the pool `linux` names no resource class of CircleCI
      = write the one that its runners serve: tags = ["acme/linux"]

    without runner_token = { env = "LINUX_TOKEN" }
    9:1 stack::missing_key missing key `runner_token` in `pools.linux`
      = its machines join with the resource class's token: add runner_token = { env = "CIRCLECI_RESOURCE_CLASS_TOKEN" }

    runner_token = "verysecret"
    13:16 stack::literal_secret `pools.linux.runner_token` must not stand in the stack file
      = say where it is found: { env = "RUNNER_TOKEN" }, { file = "path" }, { command = ["pass", "show", "…"] } or { credential = "name" }; if this was the real one, replace it, for it has been written to a file

    offerings = [{ provider = "ec2", type = "m7i.large", image = "ami-1" }] ⏎ [pools.more] ⏎ ci = "circleci" ⏎ tags = ["acme/linux"] ⏎ max = 1 ⏎ runner_token = { env = "T" } ⏎ offerings
    17:8 stack::duplicate the pools `linux` and `more` serve the same resource class
      = let one pool have it
    "#);
}

#[test]
fn every_problem_of_an_instance_has_its_message() {
    let image = "image = \"ami-0a1b2c3d\"";
    let market = "market = \"spot\"\nmax_price = \"0.05 USD\"";
    let cases: &[(&str, &str)] = &[
        (image, ""),
        (image, "image = \"debian-12\""),
        (image, "image = 67"),
        (image, "image = { selector = \"role=runner\" }"),
        (image, "image = { owner = \"self\" }"),
        (image, "image = { owner = \"self\", name = \"x\", ssm = \"/y\" }"),
        (
            image,
            "image = { owner = \"self\", name = \"x\", newest = false }",
        ),
        (image, "image = { ssm = \"\" }"),
        (
            "locations = [\"eu-central-1a\"]",
            "locations = [\"eu-central-1\"]",
        ),
        ("type = \"c7i.large\"", "type = \"C7i.large\""),
        (market, "max_price = \"0.05 USD\""),
        (market, "market = \"spot\"\nmax_price = \"0.05 EUR\""),
        (market, "market = \"spot\"\nmax_price = 0.05"),
        (market, "market = \"sport\"\nmax_price = \"0.05 USD\""),
        (
            market,
            "subnets = [\"eu-central-1a\"]\nsecurity_groups = [\"default\", \"default\"]",
        ),
        (market, "template_version = \"3\""),
        (market, "launch_template = \"\"\ninstance_profile = \"\""),
        (market, "root_gib = 0"),
        ("max = 5", "max = 5\nspread = true"),
        (
            "provider = \"ec2\"\ntype = \"c7i.large\"\nlocations = [\"eu-central-1a\"]\nimage = \"ami-0a1b2c3d\"\nmarket = \"spot\"\n",
            "provider = \"hetzner\"\ntype = \"cx33\"\nimage = { ssm = \"/y\" }\nsubnets = [\"subnet-1\"]\n",
        ),
    ];
    insta::assert_snapshot!(problems(EC2, cases), @r#"
    without image = "ami-0a1b2c3d"
    19:1 stack::missing_key missing key `image` in `pools.linux.offerings`
      = add image = "ami-…", image = { owner = "136693071363", name = "debian-12-amd64-*" }, or a launch_template that has one

    image = "debian-12"
    23:9 stack::bad_value "debian-12" is no AMI's id
      = write "ami-0a1b2c3d", { owner = "136693071363", name = "debian-12-amd64-*" } or { ssm = "/path" }

    image = 67
    23:9 stack::bad_value 67 is no AMI's id
      = write "ami-0a1b2c3d"

    image = { selector = "role=runner" }
    23:9 stack::bad_value `pools.linux.offerings.image` goes by labels, which AMIs are not chosen by
      = write "ami-0a1b2c3d", { owner = "136693071363", name = "debian-12-amd64-*" } or { ssm = "/path" }

    image = { owner = "self" }
    23:9 stack::bad_value `pools.linux.offerings.image` does not say which AMI
      = write "ami-0a1b2c3d", { owner = "136693071363", name = "debian-12-amd64-*" } or { ssm = "/path" }

    image = { owner = "self", name = "x", ssm = "/y" }
    23:9 stack::bad_value `pools.linux.offerings.image` does not say which AMI
      = write "ami-0a1b2c3d", { owner = "136693071363", name = "debian-12-amd64-*" } or { ssm = "/path" }

    image = { owner = "self", name = "x", newest = false }
    23:48 stack::contradiction `pools.linux.offerings.image` does not say which of several images
      = write newest = true, or name the image by its id

    image = { ssm = "" }
    23:9 stack::bad_value `pools.linux.offerings.image` does not say which AMI
      = write "ami-0a1b2c3d", { owner = "136693071363", name = "debian-12-amd64-*" } or { ssm = "/path" }

    locations = ["eu-central-1"]
    22:14 stack::bad_value "eu-central-1" is a region of EC2's, and not a zone
      = write its zones: ["eu-central-1a", "eu-central-1b"]; the region is the provider's `region`

    type = "C7i.large"
    21:8 stack::bad_value "C7i.large" is no machine type
      = write it as the cloud does: "c7i.large"

    max_price = "0.05 USD"
    24:1 stack::contradiction `pools.linux.offerings.max_price` is for the spot market
      = add market = "spot", or take `max_price` out

    market = "spot" ⏎ max_price = "0.05 EUR"
    25:13 stack::bad_value `pools.linux.offerings.max_price` cannot be in EUR
      = Amazon's spot prices are in dollars: "0.05 USD"

    market = "spot" ⏎ max_price = 0.05
    25:13 stack::wrong_type `pools.linux.offerings.max_price` must be an amount of money in quotes, not a number with a fraction
      = write an amount with its currency, as "2.50 EUR"

    market = "sport" ⏎ max_price = "0.05 USD"
    24:10 stack::bad_value `pools.linux.offerings.market` cannot be "sport": did you mean "spot"?
      = `pools.linux.offerings.market` is "on-demand" or "spot"

    subnets = ["eu-central-1a"] ⏎ security_groups = ["default", "default"]
    24:12 stack::bad_value "eu-central-1a" in `pools.linux.offerings.subnets` is not an id
      = write "subnet-0a1b2c3d"
    25:20 stack::bad_value "default" in `pools.linux.offerings.security_groups` is not an id
      = write "sg-0a1b2c3d"
    25:31 stack::bad_value "default" in `pools.linux.offerings.security_groups` is not an id
      = write "sg-0a1b2c3d"
    25:31 stack::duplicate "default" stands twice in `pools.linux.offerings.security_groups`
      = take one out

    template_version = "3"
    24:1 stack::contradiction `pools.linux.offerings.template_version` is the version of no template
      = add `launch_template`, or take `template_version` out

    launch_template = "" ⏎ instance_profile = ""
    24:19 stack::bad_value `pools.linux.offerings.launch_template` must not be empty
      = name one, or take `launch_template` out
    25:20 stack::bad_value `pools.linux.offerings.instance_profile` must not be empty
      = name one, or take `instance_profile` out

    root_gib = 0
    24:12 stack::bad_value `pools.linux.offerings.root_gib` cannot be 0
      = the least is 1

    max = 5 ⏎ spread = true
    18:1 stack::contradiction `pools.linux.spread` says nothing to ec2
      = take `spread` out

    provider = "hetzner" ⏎ type = "cx33" ⏎ image = { ssm = "/y" } ⏎ subnets = ["subnet-1"] ⏎ 
    22:9 stack::bad_value `pools.linux.offerings.image` names an AMI, and hetzner has none
      = write "debian-12", or { selector = "role=runner" }
    23:1 stack::contradiction `pools.linux.offerings.subnets` says nothing to hetzner
      = take `subnets` out
    24:1 stack::contradiction `pools.linux.offerings.max_price` says nothing to hetzner
      = take `max_price` out
    "#);
}
