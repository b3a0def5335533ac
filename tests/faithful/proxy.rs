//! runfleet, a recording relay, Prism, a bending relay, the sandbox: what is said between them, held to the vendors'
//! descriptions.

use std::collections::{BTreeMap, BTreeSet};

use runfleet::{
    model::{
        offering::{Market, OfferingKey},
        resource::{
            ClaimLabels, FirewallSpec, ImageRef, Labels, MachineSpec, NetworkSpec, PlacementGroupSpec,
            ResourceSpec, SshKeySpec, Subnet,
        },
    },
    net::{Auth, ClientConfig},
    provider::{Accepted, Claim, Provider as _, hetzner::Hetzner},
    sandbox::Party,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    descriptions::{self, Description},
    operations,
    prism::Prism,
    relay::{Bend, Exchange, Options, Relay, Route, STRAIGHT},
    support::{Project, Sandbox, stack_text},
};

/// All that stands between runfleet and the world, and that world. Ends from the front to the back.
struct Line {
    front: Relay,
    _prisms: [Prism; 2],
    _back: Relay,
    sandbox: Sandbox,
    _folder: tempfile::TempDir,
}

/// `None` where the descriptions are not here.
fn descriptions() -> Option<[Description; 2]> {
    let both = descriptions::hetzner().zip(descriptions::gitlab());
    if both.is_none() {
        eprintln!("skipped: the vendors' API descriptions are not beside this project");
    }
    both.map(|(hetzner, gitlab)| [hetzner, gitlab])
}

impl Line {
    /// `request` bends runfleet's requests before they are validated, `answer` the sandbox's answers.
    fn start(request: Bend, answer: Bend) -> Option<Self> {
        let [hetzner, gitlab] = descriptions()?;
        let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faithful/scenario.toml");
        let sandbox = Sandbox::start_with(
            &["boot=20s", "action_time=200ms", "rate_limit=off"],
            &["--scenario", scenario],
        );
        let origin = sandbox.hetzner().strip_suffix("/hetzner/v1").unwrap().to_owned();
        let upstream = origin.clone();
        let straight = Options {
            request: STRAIGHT,
            answer,
            origin: origin.clone(),
        };
        let back = Relay::start(straight, move |_, path| Route {
            url: format!("{upstream}{path}"),
            validated: false,
        });
        let folder = tempfile::tempdir().unwrap();
        let prism = |description: &Description, root: &str| {
            let file = folder.path().join(format!("{}.json", &root[1..4]));
            description.write(&file);
            Prism::start(&file, &format!("{}{root}", back.address))
        };
        let prisms = [prism(&hetzner, "/hetzner/v1"), prism(&gitlab, "/gitlab")];
        let [clouds, forges] = [prisms[0].address.clone(), prisms[1].address.clone()];
        let aside = back.address.clone();
        let bending = Options {
            request,
            answer: STRAIGHT,
            origin: back.address.clone(),
        };
        let front = Relay::start(bending, move |method, path| {
            let described = |party, description: &Description| {
                let rest: Option<&str> = path.strip_prefix(party);
                rest.filter(|rest| description.has(method, rest))
                    .map(str::to_owned)
            };
            let validated = |address: &str, rest: String| Route {
                url: format!("{address}{rest}"),
                validated: true,
            };
            match (described("/hetzner/v1", &hetzner), described("/gitlab", &gitlab)) {
                (Some(rest), _) => validated(&clouds, rest),
                (_, Some(rest)) => validated(&forges, rest),
                // GitLab's description has no GraphQL, user, token or project.
                (None, None) => Route {
                    url: format!("{aside}{path}"),
                    validated: false,
                },
            }
        });
        // Machines are told the address that runfleet knows.
        sandbox.post(
            "/settings",
            &json!({"gitlab_alias": format!("{}/gitlab", front.address)}),
        );
        Some(Self {
            front,
            _prisms: prisms,
            _back: back,
            sandbox,
            _folder: folder,
        })
    }

    fn project(&self) -> Project {
        let front = &self.front.address;
        let text = stack_text(&format!("{front}/hetzner/v1"), &format!("{front}/gitlab"), "");
        Project::with_stack(&text, self.sandbox.token())
    }

    /// What the proxies found, with the calls that it was found in.
    fn violations(&self) -> Vec<String> {
        let told = |seen: Exchange| {
            let found = seen.violations?;
            Some(format!("{} {} {}: {found}", seen.method, seen.path, seen.status))
        };
        self.front.seen().into_iter().filter_map(told).collect()
    }
}

/// The whole of a fleet's life: from nothing, through work, to nothing.
fn live(line: &Line, project: &Project) {
    let sandbox = &line.sandbox;
    sandbox.jobs(5, "10m");
    project.run(&["validate", "--online"]).exits(0);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3);
    sandbox.advance("1m");
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["running"], 5, "{status:#}");
    project.edit("port = \"22\"", "port = \"2222\"");
    project.run(&["scale"]).exits(0);
    sandbox.advance("12m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("44m30s");
    project.run(&["scale"]).exits(0);
    assert!(sandbox.servers().is_empty());
    project.run(&["destroy", "--auto-approve"]).exits(0);
    let world = sandbox.world();
    for kind in [
        "servers",
        "ssh_keys",
        "firewalls",
        "networks",
        "placement_groups",
        "runners",
    ] {
        assert_eq!(world[kind], json!([]));
    }
    assert_eq!(world["jobs_killed"], 0);
}

/// Debian 12 for x86, as Hetzner numbers it.
const IMAGE: &str = "image = 114690387";

/// What the first life had no need of: two projects for a runner, an image by its id, a refusal, and a list that lags
/// behind what was created.
fn live_with_troubles(line: &Line, project: &Project) {
    let sandbox = &line.sandbox;
    project.edit("[\"acme/app\"]", "[\"acme/app\", \"acme/lib\"]");
    project.edit("image = \"debian-12\"", IMAGE);
    sandbox.jobs(2, "10m");
    project.run(&["validate", "--online"]).exits(0);
    let create = json!({"path": "/hetzner/v1/servers", "fault": "no-capacity", "count": 1, "args": {"location": "nbg1"}});
    sandbox.fault(&create);
    project.run(&["scale"]).exits(0).says("fsn1");
    assert_eq!(sandbox.servers().len(), 1);
    for kind in ["servers", "ssh_keys", "firewalls", "networks", "placement_groups"] {
        let path = format!("/hetzner/v1/{kind}");
        sandbox.fault(
            &json!({"path": path, "method": "GET", "fault": "stale-list", "count": 1, "args": {"age": 600}}),
        );
    }
    project.run(&["scale"]).exits(0);
    assert_eq!(
        sandbox.servers(),
        project.machines_on_record(),
        "a list that lags loses nothing"
    );
    sandbox.advance("1h");
    project.run(&["destroy", "--auto-approve"]).exits(0);
    assert!(sandbox.servers().is_empty());
}

/// What the provider does that those lives had no need of: a network whose subnets change, a group, a machine in both,
/// labels put on each, and names set right.
fn live_of_the_provider(line: &Line) {
    let base = format!("{}/hetzner/v1", line.front.address);
    let token = Auth::Bearer(SecretString::from(line.sandbox.token()));
    let provider = Hetzner::new("hetzner".into(), ClientConfig::new(base, token), 4).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let make = async |claim: Claim| provider.create(&[claim]).await.remove(0).unwrap();
        let lan = make(shared(network(&["10.0.0.0/24", "10.0.1.0/24"]))).await;
        let apart = make(shared(group())).await;
        let key = make(shared(login_key())).await;
        let wall = make(shared(wall())).await;
        let mut claim = machine();
        claim.shared = [&lan, &apart, &wall].map(|seen| seen.target.clone()).to_vec();
        let server = make(claim.clone()).await;
        assert_eq!(server.uses.as_ref().map(Vec::len), Some(3), "{server:?}");

        let want = network(&["10.0.0.0/24", "10.0.2.0/24"]);
        let changed = provider.update(&lan, &want).await.unwrap();
        assert_ne!(changed.network, lan.network);
        let labels = Labels::from([("team".to_owned(), "blue".to_owned())]);
        for seen in [&lan, &apart, &key, &wall, &server] {
            let labelled = provider.relabel(seen, &labels).await.unwrap();
            assert_eq!(labelled.labels.len(), seen.labels.len() + 1);
            assert_eq!(provider.read(&seen.target).await.unwrap(), Some(labelled));
        }
        let everything = provider.list_all().await.unwrap();
        assert!(everything.completeness.is_complete());
        assert_eq!(everything.resources.len(), 5);
        for seen in [&server, &wall, &key, &apart, &lan] {
            provider.delete(&seen.target).await.unwrap();
        }
        assert_eq!(provider.list(&"faithful".into()).await.unwrap().resources, []);
    });
}

fn network(ranges: &[&str]) -> ResourceSpec {
    let subnet = |range: &&str| Subnet {
        ip_range: (*range).to_owned(),
        zone: "eu-central".to_owned(),
    };
    ResourceSpec::Network(NetworkSpec {
        name: "faithful-lan".to_owned(),
        ip_range: "10.0.0.0/16".to_owned(),
        subnets: ranges.iter().map(subnet).collect(),
    })
}

fn group() -> ResourceSpec {
    ResourceSpec::PlacementGroup(PlacementGroupSpec {
        name: "faithful-linux-1".to_owned(),
    })
}

fn login_key() -> ResourceSpec {
    ResourceSpec::SshKey(SshKeySpec {
        name: "faithful-ops".to_owned(),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops"
            .to_owned(),
    })
}

fn wall() -> ResourceSpec {
    ResourceSpec::Firewall(FirewallSpec {
        name: "faithful-default".to_owned(),
        rules: Vec::new(),
    })
}

fn shared(spec: ResourceSpec) -> Claim {
    Claim {
        labels: ClaimLabels {
            stack: "faithful".into(),
            lineage: "l".into(),
            pool: None,
            id: spec.name().to_owned(),
            hash: "h".into(),
            intent: spec.name().into(),
            registration: None,
        },
        spec,
        user_data: None,
        shared: Vec::new(),
        accepted: Accepted::default(),
    }
}

fn machine() -> Claim {
    let spec = MachineSpec {
        task: None,
        pool: "linux".into(),
        runner: "calm-heron".into(),
        name: "faithful-linux-calm-heron".to_owned(),
        offering: OfferingKey {
            provider: "hetzner".into(),
            location: "nbg1".to_owned(),
            machine_type: "cx33".to_owned(),
            market: Market::OnDemand,
        },
        image: ImageRef::Name("debian-12".to_owned()),
        public_ipv4: true,
        ssh_keys: Vec::new(),
        firewalls: vec!["default".to_owned()],
        networks: vec!["lan".to_owned()],
        placement_group: Some("linux-1".to_owned()),
        parts: BTreeMap::new(),
        ec2: None,
    };
    shared(ResourceSpec::Machine(spec))
}

/// A machine each for a group, for the whole instance, of protected refs, and with a runner that a person made.
fn live_wider(line: &Line) {
    let sandbox = &line.sandbox;
    let made = json!({"runner_type": "project_type", "project_id": 1, "tag_list": ["docker", "linux"]});
    let token = sandbox.gitlab_post("/user/runners", &made)["token"].clone();
    for (scope, pool) in [
        ("groups = [\"acme\"]", ""),
        ("instance = true", ""),
        ("projects = [\"acme/app\"]", "protected_refs = true"),
        (
            "projects = [\"acme/app\"]",
            "runner_token = { file = \"fleet.token\" }",
        ),
    ] {
        let project = line.project();
        project.edit("projects = [\"acme/app\"]", scope);
        project.edit("max = 20", &format!("max = 20\n{pool}"));
        std::fs::write(project.path("stacks/fleet.token"), token.as_str().unwrap()).unwrap();
        sandbox.jobs(1, "10m");
        project.run(&["validate", "--online"]).exits(0);
        project.run(&["scale"]).exits(0);
        assert_eq!(sandbox.servers().len(), 1, "{scope} {pool}");
        sandbox.advance("1h");
        project.run(&["destroy", "--auto-approve"]).exits(0);
        assert!(sandbox.servers().is_empty(), "{scope} {pool}");
    }
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_fleet_lives_and_ends_without_a_violation_in_either_direction() {
    let Some(line) = Line::start(STRAIGHT, STRAIGHT) else {
        return;
    };
    let project = line.project();
    live(&line, &project);
    live_with_troubles(&line, &project);
    live_of_the_provider(&line);
    live_wider(&line);

    assert_eq!(line.violations(), [""; 0]);
    let mut validated = BTreeMap::new();
    let (mut aside, mut refusals) = (BTreeSet::new(), BTreeSet::new());
    for seen in line.front.seen() {
        let operation = operations::of(&seen.method, &seen.path);
        let operation = operation.unwrap_or_else(|| panic!("no operation: {seen:?}"));
        if seen.status >= 400 {
            refusals.insert((operation.clone(), seen.status));
        }
        if seen.validated {
            *validated.entry(operation).or_insert(0_u32) += 1;
        } else {
            aside.insert(operation);
        }
    }
    let (calls, least) = (validated.values().sum::<u32>(), validated.values().min());
    eprintln!(
        "validated: {calls} exchanges of {} operations, each {least:?} times or more",
        validated.len()
    );
    assert_eq!(refusals, [("hetzner POST /servers".to_owned(), 412)].into());
    // docs/sandbox.md says the same.
    let by_sdk = [Party::Digitalocean, Party::Azure];
    let said = operations::claimed(|check| check.proxy && !by_sdk.contains(&check.operation.party));
    let validated: BTreeSet<_> = validated.into_keys().collect();
    assert_eq!(validated, said);
    let sdks = operations::claimed(|check| check.sdk.is_ok());
    let unchecked: Vec<_> = validated
        .union(&aside)
        .filter(|name| !sdks.contains(*name))
        .collect();
    assert!(
        unchecked.is_empty(),
        "runfleet calls what no SDK exercises: {unchecked:?}"
    );
}

/// A run with a defect in it; whether runfleet copes with it is not the question here.
#[track_caller]
fn is_seen(request: Bend, answer: Bend, operation: &str, what: &str) {
    let Some(line) = Line::start(request, answer) else {
        return;
    };
    let project = line.project();
    line.sandbox.jobs(1, "10m");
    project.run(&["scale"]);
    let violations = line.violations();
    let fits = |told: &String| told.starts_with(operation) && told.contains(what);
    assert!(violations.iter().any(fits), "{violations:#?}");
}

/// The fields of the server types in a list of them.
fn server_types(method: &str, path: &str, body: &mut Value, change: fn(&mut serde_json::Map<String, Value>)) {
    if method == "GET" && path == "/hetzner/v1/server_types" {
        let types = body["server_types"].as_array_mut().unwrap();
        types.iter_mut().filter_map(Value::as_object_mut).for_each(change);
    }
}

#[test]
fn a_field_dropped_from_an_answer_is_seen() {
    is_seen(
        STRAIGHT,
        |method, path, body| {
            server_types(method, path, body, |fields| {
                fields.remove("architecture");
            });
        },
        "GET /hetzner/v1/server_types",
        "architecture",
    );
}

#[test]
fn a_wrong_type_in_an_answer_is_seen() {
    is_seen(
        STRAIGHT,
        |method, path, body| {
            server_types(method, path, body, |fields| {
                fields.insert("cores".to_owned(), "four".into());
            });
        },
        "GET /hetzner/v1/server_types",
        "cores",
    );
}

#[test]
fn a_subnet_without_its_zone_is_seen() {
    let Some(line) = Line::start(
        |method, path, body| {
            if method == "POST" && path.ends_with("/actions/add_subnet") {
                body.as_object_mut().unwrap().remove("network_zone");
            }
        },
        |method, path, body| {
            if method == "POST" && path == "/hetzner/v1/placement_groups" {
                body["placement_group"]["servers"] = "none".into();
            }
        },
    ) else {
        return;
    };
    let base = format!("{}/hetzner/v1", line.front.address);
    let token = Auth::Bearer(SecretString::from(line.sandbox.token()));
    let config = ClientConfig {
        retries: 0,
        ..ClientConfig::new(base, token)
    };
    let provider = Hetzner::new("hetzner".into(), config, 4).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Whether the provider copes with it is not the question here.
    runtime.block_on(async {
        let lan = provider
            .create(&[shared(network(&["10.0.0.0/24"]))])
            .await
            .remove(0);
        let _ = provider.update(&lan.unwrap(), &network(&["10.0.1.0/24"])).await;
        let _ = provider.create(&[shared(group())]).await;
    });
    let violations = line.violations();
    for (operation, what) in [
        ("add_subnet", "network_zone"),
        ("POST /hetzner/v1/placement_groups", "servers"),
    ] {
        let fits = |told: &String| told.contains(operation) && told.contains(what);
        assert!(violations.iter().any(fits), "{operation}: {violations:#?}");
    }
}

#[test]
fn a_bad_request_is_seen() {
    is_seen(
        |method, path, body| {
            if (method, path) == ("POST", "/gitlab/api/v4/user/runners") {
                body.as_object_mut().unwrap().remove("runner_type");
            }
        },
        STRAIGHT,
        "POST /gitlab/api/v4/user/runners",
        "runner_type",
    );
}
