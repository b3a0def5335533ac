//! Days of the two autoscalers, from nothing to busy to nothing: Auto Scaling is moto's with the layer in front, which reports
//! machines to the sandbox's world, where they register from their launch template's user data, work and end.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    aws::{GroupShape, Layer, Options, Rule, TemplateShape, market, wire::Service},
    migration::{minutes, told},
    moto,
    support::{Project, Ran, Sandbox},
};

/// Minutes between two ticks.
const EVERY: i64 = 10;
/// What the launch templates say in place of a secret, which here is the secret.
const SECRET: &str = "in-the-parameter-store";

#[derive(Deserialize)]
struct Day {
    environment: String,
    group: Group,
    /// Jobs that end on purpose: with a machine that is taken back, or that was given up.
    #[serde(default)]
    killed: u32,
    step: Vec<Step>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    min: u32,
    max: u32,
    desired: u32,
    #[serde(default)]
    tags: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Step {
    at: String,
    say: String,
    jobs: Option<Value>,
    /// A scaling policy of somebody's; empty takes it away.
    policy: Option<String>,
    /// A call whose answer is lost once.
    lost: Option<String>,
    /// The desired capacity, set by a schedule.
    desired: Option<u32>,
    /// Whether the spot market takes a machine back.
    #[serde(default)]
    interrupt: bool,
}

/// Which of the two.
struct System {
    name: &'static str,
    scenario: &'static str,
    template: &'static str,
    token: &'static str,
}

impl System {
    fn file(&self, ending: &str) -> PathBuf {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
        PathBuf::from(format!("{folder}/{}.{ending}", self.scenario))
    }
}

/// Everything that a day is played with.
struct Stage {
    system: System,
    sandbox: Sandbox,
    layer: Layer,
    project: Project,
    runtime: tokio::runtime::Runtime,
    group: String,
}

impl Stage {
    /// None where there is no moto.
    fn set(system: System, day: &Day) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let moto = runtime.block_on(moto::endpoint())?;
        let project = Project::with_stack("", "t");
        std::fs::remove_file(project.path("stacks/test.toml")).unwrap();
        let world = format!(
            "[drone]\nrpc_secret = \"{SECRET}\"\n[[circleci.resource_classes]]\nname = \"acme/linux\"\ntoken = \"{SECRET}\"\n"
        );
        std::fs::write(project.path("world.toml"), world).unwrap();
        let file = project.path("world.toml").display().to_string();
        let sandbox = Sandbox::start_with(&["speed=0", "boot=20s", "action_time=0s"], &["--scenario", &file]);
        let options = Options {
            pending: Duration::from_secs(30),
            leaving: Duration::from_secs(30),
            control: Some(sandbox.addresses["control"].as_str().unwrap().to_owned()),
            ..Options::default()
        };
        let address = |party: &str| sandbox.addresses[party].as_str().unwrap().to_owned();
        let (drone, circleci) = (address("drone"), address("circleci"));
        let template = format!("{}/{}", env!("CARGO_MANIFEST_DIR"), system.template);
        let user_data = std::fs::read_to_string(template)
            .unwrap()
            .replace("DRONE_RPC_PROTO=https", "DRONE_RPC_PROTO=http")
            .replace("drone.example.com", drone.trim_start_matches("http://"))
            .replace("https://runner.circleci.com", &circleci);
        let shape = GroupShape {
            min: day.group.min,
            max: day.group.max,
            desired: day.group.desired,
            tags: day.group.tags.clone().into_iter().collect(),
            // moto takes none at all for AWS's own five minutes.
            cooldown: 1,
            template: TemplateShape {
                user_data,
                ..TemplateShape::default()
            },
            ..GroupShape::default()
        };
        let layer = runtime.block_on(async {
            let layer = Layer::start(&moto, options).await;
            // A list that does not answer is waited for by each tick.
            let price = market::product(&shape.template.instance_type, "eu-central-1", "0.0970000000");
            layer.set_products(Some(vec![price]));
            layer.make_group(&day.group.name, &shape).await;
            layer
        });
        let stage = Self {
            system,
            sandbox,
            layer,
            project,
            runtime,
            group: day.group.name.clone(),
        };
        stage.move_over(day, &drone, &circleci);
        Some(stage)
    }

    /// The stack file that `init` writes, then told where the emulators are.
    fn move_over(&self, day: &Day, drone: &str, circleci: &str) {
        let host = drone.trim_start_matches("http://");
        let environment = format!(
            "{}\nDRONE_SERVER_HOST={host}\nDRONE_SERVER_PROTO=http\nAWS_REGION=eu-central-1\n",
            day.environment
        );
        std::fs::write(self.project.path("scaler.env"), environment).unwrap();
        let from = [
            "init",
            "--from",
            self.system.name,
            "scaler.env",
            "--out",
            "stacks/test.toml",
        ];
        self.run(&from).exits(0);
        let endpoint = format!("endpoint = \"{}\"\nregion", self.layer.endpoint);
        self.project.edit("region", &endpoint);
        if self.system.name == "drone-autoscaler" {
            self.project
                .edit("[ci.drone]\n", "[ci.drone]\nsettle = \"50ms\"\n");
        } else {
            let table = format!("[ci.circleci]\nurl = \"{circleci}\"\n");
            self.project.edit("[ci.circleci]\n", &table);
        }
        self.run(&["validate"]).exits(0);
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self
            .project
            .command(arguments)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env(self.system.token, self.sandbox.token())
            .output()
            .unwrap();
        Ran::of(&output)
    }

    fn advance(&self, by: i64) {
        self.sandbox.advance(&format!("{by}m"));
        let by = Duration::from_secs(u64::try_from(by).unwrap() * 60);
        self.runtime.block_on(async {
            self.layer.advance(by).await;
            self.layer.sync_world().await;
        });
    }

    /// What happens at a step, apart from the tick.
    fn play(&self, step: &Step) {
        if let Some(jobs) = &step.jobs {
            self.sandbox.post("/jobs", jobs);
        }
        self.layer.clear_rules();
        if let Some(action) = &step.lost {
            self.layer.rule(Rule::lose_reply(action));
        }
        let group = ("AutoScalingGroupName".to_owned(), self.group.clone());
        let furnish = |action: &str, more: &[(&str, &str)]| {
            let more = more
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let params: Vec<(String, String)> = std::iter::once(group.clone()).chain(more).collect();
            self.runtime.block_on(async {
                self.layer.furnish(Service::AutoScaling, action, &params).await;
                self.layer.observe().await;
            });
        };
        match step.policy.as_deref() {
            Some("") => furnish("DeletePolicy", &[("PolicyName", "cpu-50")]),
            Some(name) => furnish(
                "PutScalingPolicy",
                &[
                    ("PolicyName", name),
                    ("PolicyType", "TargetTrackingScaling"),
                    ("TargetTrackingConfiguration.TargetValue", "50"),
                    (
                        "TargetTrackingConfiguration.PredefinedMetricSpecification.PredefinedMetricType",
                        "ASGAverageCPUUtilization",
                    ),
                ],
            ),
            None => {}
        }
        if let Some(desired) = step.desired {
            furnish("SetDesiredCapacity", &[("DesiredCapacity", &desired.to_string())]);
        }
        if step.interrupt {
            let taken = self
                .runtime
                .block_on(self.layer.instances())
                .into_iter()
                .find(|machine| !machine.dead())
                .expect("a machine to take back");
            self.runtime.block_on(self.layer.interrupt(&taken.id));
        }
    }

    fn tick(&self) -> String {
        let plan = self.run(&["plan", "--json"]).exits(0).json();
        let ran = self.run(&["scale"]);
        // 3: a machine stays because a job came, or an answer was lost.
        assert!(matches!(ran.code, 0 | 3), "{}\n{}", ran.stdout, ran.stderr);
        let mut text = told(&plan);
        if ran.code == 3 {
            text.push_str("  done in part\n");
        }
        text
    }

    fn standing(&self) -> String {
        let machines = self.runtime.block_on(self.layer.instances());
        let alive = machines.iter().filter(|machine| !machine.dead()).count();
        let world = self.sandbox.world();
        let jobs = world["jobs"].as_array().unwrap();
        let count = |status: &str| jobs.iter().filter(|job| job["status"] == status).count();
        format!(
            "  = {alive} machines, {} jobs wait, {} run, {} killed\n",
            count("pending"),
            count("running"),
            world["jobs_killed"]
        )
    }
}

fn plays(system: System) {
    let scenario = std::fs::read_to_string(system.file("toml")).unwrap();
    let day: Day = toml::from_str(&scenario).unwrap();
    let transcript = system.file("txt");
    let Some(stage) = Stage::set(system, &day) else {
        return;
    };
    let mut text = String::new();
    let mut now = 0;
    for step in &day.step {
        let at = minutes(&step.at);
        while at > now {
            let next = at.min(now + EVERY);
            stage.advance(next - now);
            now = next;
            if now < at {
                let told = stage.tick();
                if !told.is_empty() {
                    let _ = writeln!(text, "{now}m\n{told}");
                }
            }
        }
        stage.play(step);
        let _ = writeln!(text, "{}  {}", step.at, step.say);
        text.push_str(&stage.tick());
        let _ = writeln!(text, "{}", stage.standing());
    }
    assert_eq!(stage.sandbox.world()["jobs_killed"], json!(day.killed), "{text}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&transcript, &text).unwrap();
    }
    let golden = std::fs::read_to_string(transcript).unwrap_or_default();
    assert!(
        golden == text,
        "the transcript differs; BLESS=1 writes this one:\n{text}"
    );
}

#[test]
fn a_day_of_drone_autoscaler_goes_as_its_transcript_says() {
    plays(System {
        name: "drone-autoscaler",
        scenario: "drone_autoscaler",
        template: "cloud-init/launch-template/drone-runner.yaml",
        token: "DRONE_SERVER_AUTH_TOKEN",
    });
}

#[test]
fn a_day_of_circleci_runner_autoscaler_goes_as_its_transcript_says() {
    plays(System {
        name: "circleci-runner-autoscaler",
        scenario: "circleci_runner_autoscaler",
        template: "cloud-init/launch-template/circleci-runner.yaml",
        token: "APP_CIRCLE_TOKEN",
    });
}
