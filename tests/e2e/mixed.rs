//! One pool on three clouds, `stacks/mixed.toml` as it is shipped, from nothing to busy to nothing: in a good world, and while each
//! cloud in turn has no capacity, throttles, is down, or lets nobody in. Hetzner, DigitalOcean and GitLab are the sandbox's; EC2 is
//! moto's with the layer in front, which reports its machines to the same world.
//!
//! The tables of the runs are tests/scenarios/mixed_*.txt; `BLESS=1` writes them.

use std::{fmt::Write as _, time::Duration};

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::{
    aws::{Layer, Options, Refusal, Rule, SpotPrice, market},
    moto,
    support::{Project, Ran, Sandbox},
};

/// When ticks are, in minutes: often while jobs come, and until nothing may be left.
const TICKS: [u64; 15] = [0, 2, 4, 6, 8, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
/// The tick at which the trouble is over.
const OVER: u64 = 4;
/// What a dollar is worth in euros, as the stack file says it.
const USD: &str = "0.92";
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

    fn advance(&self, minutes: u64) {
        self.sandbox.advance(&format!("{minutes}m"));
        self.runtime.block_on(async {
            self.layer.advance(Duration::from_secs(minutes * 60)).await;
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

    /// Machines on record, each with its cloud and what an hour of it costs in euros.
    fn on_record(&self) -> Vec<(String, String, Decimal)> {
        let file = std::fs::read_to_string(self.project.path("stacks/mixed.json")).unwrap();
        let state: Value = serde_json::from_str(&file).unwrap();
        let resources = state["resources"].as_object().unwrap();
        let machines = resources
            .iter()
            .filter(|(address, _)| address.starts_with("machine."));
        machines
            .map(|(address, record)| {
                let price = &record["price"]["hourly"];
                let amount: Decimal = price["amount"].as_str().unwrap().parse().unwrap();
                let rate = match price["currency"].as_str().unwrap() {
                    "USD" => USD.parse().unwrap(),
                    other => {
                        assert_eq!(other, "EUR");
                        Decimal::ONE
                    }
                };
                let cloud = record["provider"].as_str().unwrap().to_owned();
                (cloud, address.clone(), amount * rate)
            })
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
    let ends = TICKS.iter().skip(1).chain(TICKS.last());
    for (minute, next) in TICKS.iter().zip(ends) {
        match *minute {
            0 => stage.jobs(8),
            2 => stage.jobs(4),
            OVER => stage.end(),
            _ => {}
        }
        let ran = stage.run(&["scale"]);
        // 1: a token is refused; 3: something was not done. Every other cloud goes on.
        let may = if *minute < OVER { &[0, 1, 3][..] } else { &[0, 3] };
        assert!(may.contains(&ran.code), "{trouble:?} at {minute}m: {ran:?}");
        for (cloud, address, hourly) in stage.on_record() {
            cost += hourly * Decimal::from(next - minute) / Decimal::from(60);
            seen.insert(format!("{cloud} {address}"));
        }
        stage.advance(next - minute);
    }
    let world = stage.sandbox.world();
    let jobs = world["jobs"].as_array().unwrap();
    assert!(
        jobs.iter().all(|job| job["status"] == "success"),
        "{trouble:?}: {jobs:#?}"
    );
    assert_eq!(stage.on_record(), [], "{trouble:?}");
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

/// Plays each of these, and compares what they came to with the table of that name.
fn table(name: &str, runs: &[Option<(Cloud, Trouble)>]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let Some(moto) = runtime.block_on(moto::endpoint()) else {
        return;
    };
    let mut table = String::from(
        "run                          hetzner  digitalocean  ec2    cost EUR  wait p50  wait max  killed\n",
    );
    for trouble in runs {
        let came = plays(&Stage::set(&runtime, &moto), *trouble);
        assert_eq!(came.killed, json!(0), "{trouble:?}");
        let name = trouble.map_or("nothing is wrong".to_owned(), |(cloud, trouble)| {
            format!("{} {}", cloud.name(), trouble.words())
        });
        let [hetzner, digitalocean, ec2] = came.made;
        let (middle, most) = (came.waits[came.waits.len() / 2], came.waits[came.waits.len() - 1]);
        let _ = writeln!(
            table,
            "{name:<28} {hetzner:>7}  {digitalocean:>12}  {ec2:>3}  {:>10.4}  {middle:>7}s  {most:>7}s  {:>6}",
            came.cost,
            came.killed.to_string()
        );
    }
    let file = format!("{}/tests/scenarios/mixed_{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    let golden = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        golden == table,
        "the table differs; BLESS=1 writes this one:\n{table}"
    );
}

/// All that may go wrong with one cloud.
fn troubles(cloud: Cloud) -> [Option<(Cloud, Trouble)>; 4] {
    [
        Trouble::NoCapacity,
        Trouble::Throttled,
        Trouble::Down,
        Trouble::Unauthorized,
    ]
    .map(|trouble| Some((cloud, trouble)))
}

#[test]
fn one_pool_on_three_clouds_takes_the_cheapest_of_each() {
    table("good", &[None]);
}

#[test]
fn one_pool_on_three_clouds_fills_elsewhere_whatever_hetzner_does() {
    table("hetzner", &troubles(Cloud::Hetzner));
}

#[test]
fn one_pool_on_three_clouds_fills_elsewhere_whatever_digitalocean_does() {
    table("digitalocean", &troubles(Cloud::Digitalocean));
}

#[test]
fn one_pool_on_three_clouds_fills_elsewhere_whatever_ec2_does() {
    table("ec2", &troubles(Cloud::Ec2));
}
