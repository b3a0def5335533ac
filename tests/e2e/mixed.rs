//! One pool on three clouds, `stacks/mixed.toml` as it is shipped, from nothing to busy to nothing: in a good world, and while each
//! cloud in turn has no capacity, throttles, is down, or lets nobody in. Hetzner, DigitalOcean and GitLab are the sandbox's; EC2 is
//! moto's with the layer in front, which reports its machines to the same world.
//!
//! The table of the runs is tests/scenarios/mixed.txt; `BLESS=1` writes it.

use std::{fmt::Write as _, time::Duration};

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::{
    aws::{Layer, Options, Refusal, Rule, SpotPrice, market},
    moto,
    support::{Project, Ran, Sandbox},
};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/mixed.txt");
/// Minutes between two ticks.
const EVERY: u32 = 2;
/// Minutes after which the trouble is over.
const TROUBLE: u32 = 12;
/// Minutes after which nothing may be left.
const END: u32 = 90;
/// Machines that each of the two cheaper clouds has to sell, so that all three are needed.
const STOCK: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloud {
    Hetzner,
    Digitalocean,
    Ec2,
}

const CLOUDS: [Cloud; 3] = [Cloud::Hetzner, Cloud::Digitalocean, Cloud::Ec2];

impl Cloud {
    fn name(self) -> &'static str {
        match self {
            Self::Hetzner => "hetzner",
            Self::Digitalocean => "digitalocean",
            Self::Ec2 => "ec2",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    NoCapacity,
    Throttled,
    Down,
    Unauthorized,
}

impl Trouble {
    fn words(self) -> &'static str {
        match self {
            Self::NoCapacity => "has no capacity",
            Self::Throttled => "throttles",
            Self::Down => "is down",
            Self::Unauthorized => "lets nobody in",
        }
    }
}

/// Everything that a run is played with.
struct Stage<'a> {
    sandbox: Sandbox,
    layer: Layer,
    project: Project,
    runtime: &'a tokio::runtime::Runtime,
}

impl<'a> Stage<'a> {
    fn set(runtime: &'a tokio::runtime::Runtime, moto: &str) -> Self {
        let sandbox = Sandbox::start_with(&["speed=0", "boot=20s", "action_time=0s"], &[]);
        let options = Options {
            control: Some(sandbox.addresses["control"].as_str().unwrap().to_owned()),
            ..Options::default()
        };
        let (layer, image) = runtime.block_on(async {
            let layer = Layer::start(moto, options).await;
            let image = layer.image().await;
            (layer, image)
        });
        layer.set_products(Some(vec![market::product(
            "c6i.xlarge",
            "eu-central-1",
            "0.1940000000",
        )]));
        let spot = |zone: &str| SpotPrice::new("c6i.xlarge", zone, "0.062000", "2026-11-27T00:00:00Z");
        layer.set_spot_prices(vec![spot("eu-central-1a"), spot("eu-central-1b")]);
        let shipped =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/stacks/mixed.toml")).unwrap();
        let project = Project::with_stack(&shipped, sandbox.token());
        let at = |party: &str| sandbox.addresses[party].as_str().unwrap().to_owned();
        for (table, key, address) in [
            ("[providers.hetzner]", "endpoint", at("hetzner")),
            ("[providers.digitalocean]", "endpoint", at("digitalocean")),
            ("[providers.ec2]", "endpoint", layer.endpoint.clone()),
            ("[ci.gitlab]", "settle = \"50ms\"\nurl", at("gitlab")),
        ] {
            project.edit(
                &format!("{table}\n"),
                &format!("{table}\n{key} = \"{address}\"\n"),
            );
        }
        project.edit(
            "{ owner = \"136693071363\", name = \"debian-12-amd64-*\" }",
            &format!("\"{image}\""),
        );
        Self {
            sandbox,
            layer,
            project,
            runtime,
        }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self
            .project
            .command(arguments)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("DIGITALOCEAN_TOKEN", self.sandbox.token())
            .output()
            .unwrap();
        Ran::of(&output)
    }

    fn advance(&self) {
        self.sandbox.advance(&format!("{EVERY}m"));
        self.runtime.block_on(async {
            self.layer
                .advance(Duration::from_secs(u64::from(EVERY) * 60))
                .await;
            self.layer.sync_world().await;
        });
    }

    /// What is always so: the cheaper clouds have little to sell.
    fn scarce(&self) {
        self.sandbox.fault(&json!({
            "path": "/hetzner/v1/servers", "method": "POST", "fault": "no-capacity", "skip": STOCK, "count": 100_000
        }));
        self.layer.set_capacity("c6i.xlarge", i64::from(STOCK));
    }

    fn begin(&self, cloud: Cloud, trouble: Trouble) {
        if cloud == Cloud::Ec2 {
            return self.begin_at_amazon(trouble);
        }
        let root = match cloud {
            Cloud::Hetzner => "/hetzner/v1",
            Cloud::Digitalocean | Cloud::Ec2 => "/digitalocean/v2",
        };
        let machines = match cloud {
            Cloud::Hetzner => "servers",
            Cloud::Digitalocean | Cloud::Ec2 => "droplets",
        };
        let rule = match trouble {
            Trouble::NoCapacity => {
                json!({"path": format!("{root}/{machines}"), "method": "POST", "fault": "no-capacity", "count": 100_000})
            }
            Trouble::Throttled => {
                json!({"path": format!("{root}/*"), "fault": "rate-limited", "count": 100_000, "args": {"retry_after": 120}})
            }
            Trouble::Down => {
                json!({"path": format!("{root}/*"), "fault": "server-error", "count": 100_000, "args": {"status": 503}})
            }
            Trouble::Unauthorized => {
                json!({"path": format!("{root}/*"), "fault": "unauthorized", "count": 100_000})
            }
        };
        self.sandbox.fault(&rule);
    }

    fn begin_at_amazon(&self, trouble: Trouble) {
        let every = [
            "DescribeInstances",
            "DescribeImages",
            "DescribeSecurityGroups",
            "DescribeKeyPairs",
            "DescribeSubnets",
            "DescribeVpcs",
            "DescribeInstanceTypes",
            "DescribeInstanceTypeOfferings",
            "DescribeSpotPriceHistory",
            "RunInstances",
        ];
        match trouble {
            Trouble::NoCapacity => self.layer.set_capacity("c6i.xlarge", 0),
            Trouble::Throttled => {
                for action in every {
                    self.layer
                        .rule(Rule::refuse(action, Refusal::request_limit()).always());
                }
            }
            Trouble::Down => {
                for action in every {
                    self.layer
                        .rule(Rule::refuse(action, Refusal::service_unavailable()).always());
                }
            }
            Trouble::Unauthorized => {
                for action in every {
                    self.layer
                        .rule(Rule::refuse(action, Refusal::auth_failure()).always());
                }
            }
        }
    }

    /// The trouble is over: the clouds have all that one wants.
    fn end(&self) {
        self.sandbox.clear_faults();
        self.layer.clear_rules();
        self.layer.set_capacity("c6i.xlarge", 100);
    }

    fn jobs(&self, count: u32) {
        self.sandbox.post(
            "/jobs",
            &json!({"project": "acme/app", "name": "build", "tags": ["linux"], "count": count, "duration": "20m"}),
        );
    }

    /// Machines on record, by cloud.
    fn on_record(&self) -> Vec<String> {
        let state = self.project.state();
        let resources = state["resources"].as_object().unwrap();
        let machines = resources
            .iter()
            .filter(|(address, _)| address.starts_with("machine."));
        machines
            .map(|(address, record)| format!("{} {address}", record["provider"].as_str().unwrap()))
            .collect()
    }
}

/// What a run came to.
struct Came {
    /// Machines that were made, by cloud.
    made: [usize; 3],
    /// EUR, from what each tick's `status` says of an hour.
    cost: Decimal,
    /// Seconds that jobs waited, sorted.
    waits: Vec<i64>,
    killed: Value,
}

fn plays(stage: &Stage<'_>, trouble: Option<(Cloud, Trouble)>) -> Came {
    stage.scarce();
    if let Some((cloud, trouble)) = trouble {
        stage.begin(cloud, trouble);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cost = Decimal::ZERO;
    for minute in (0..=END).step_by(usize::try_from(EVERY).unwrap()) {
        match minute {
            0 => stage.jobs(8),
            6 => stage.jobs(4),
            TROUBLE => stage.end(),
            _ => {}
        }
        let ran = stage.run(&["scale"]);
        // 1: a token is refused; 3: something was not done. Every other cloud goes on.
        assert!(
            matches!(ran.code, 0 | 1 | 3),
            "{trouble:?} at {minute}m\n{}\n{}",
            ran.stdout,
            ran.stderr
        );
        assert!(
            minute < TROUBLE || ran.code != 1,
            "{trouble:?} at {minute}m\n{}\n{}",
            ran.stdout,
            ran.stderr
        );
        seen.extend(stage.on_record());
        let status = stage.run(&["status", "--json"]).json();
        let hourly = status["cost"]["hourly"].as_str().unwrap_or("0");
        assert_eq!(status["cost"]["currency"], json!("EUR"), "{status}");
        cost += hourly.parse::<Decimal>().unwrap() * Decimal::from(EVERY) / Decimal::from(60);
        stage.advance();
    }
    let world = stage.sandbox.world();
    let jobs = world["jobs"].as_array().unwrap();
    assert!(
        jobs.iter().all(|job| job["status"] == "success"),
        "{trouble:?}: {jobs:#?}"
    );
    assert_eq!(stage.on_record(), Vec::<String>::new(), "{trouble:?}");
    let time = |job: &Value, key: &str| job[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let mut waits: Vec<i64> = jobs
        .iter()
        .map(|job| {
            time(job, "started")
                .duration_since(time(job, "created"))
                .as_secs()
        })
        .collect();
    waits.sort_unstable();
    let made = CLOUDS.map(|cloud| {
        let prefix = format!("{} ", cloud.name());
        seen.iter().filter(|machine| machine.starts_with(&prefix)).count()
    });
    Came {
        made,
        cost,
        waits,
        killed: world["jobs_killed"].clone(),
    }
}

#[test]
fn one_pool_on_three_clouds_fills_elsewhere_whatever_one_of_them_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let Some(moto) = runtime.block_on(moto::endpoint()) else {
        return;
    };
    let mut table = String::from(
        "12 jobs of 20 minutes, a tick every 2 minutes; trouble for the first 12; hetzner and spot at ec2 have 2 machines each.\n\n\
         run                             hetzner  digitalocean  ec2    cost EUR  wait p50  wait max  killed\n",
    );
    let troubles = [
        Trouble::NoCapacity,
        Trouble::Throttled,
        Trouble::Down,
        Trouble::Unauthorized,
    ];
    let each = CLOUDS
        .into_iter()
        .flat_map(|cloud| troubles.map(|trouble| Some((cloud, trouble))));
    for trouble in std::iter::once(None).chain(each) {
        let stage = Stage::set(&runtime, &moto);
        let came = plays(&stage, trouble);
        assert_eq!(came.killed, json!(0), "{trouble:?}");
        let name = trouble.map_or("nothing is wrong".to_owned(), |(cloud, trouble)| {
            format!("{} {}", cloud.name(), trouble.words())
        });
        if let Some((cloud, Trouble::Down | Trouble::Unauthorized)) = trouble {
            let others = CLOUDS.iter().zip(came.made).filter(|(other, _)| **other != cloud);
            assert!(others.map(|(_, made)| made).sum::<usize>() > 0, "{name}");
        }
        let [hetzner, digitalocean, ec2] = came.made;
        let (middle, most) = (came.waits[came.waits.len() / 2], came.waits[came.waits.len() - 1]);
        let _ = writeln!(
            table,
            "{name:<31} {hetzner:>7}  {digitalocean:>12}  {ec2:>3}  {:>10.4}  {middle:>7}s  {most:>7}s  {:>6}",
            came.cost, came.killed
        );
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(TABLE, &table).unwrap();
    }
    let golden = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        golden == table,
        "the table differs; BLESS=1 writes this one:\n{table}"
    );
}
