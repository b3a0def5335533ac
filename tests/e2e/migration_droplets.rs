//! Coming from do-scaler: its folder becomes a stack file, its droplets come in, and its day is played with both.

use std::{fmt::Write as _, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    migration::{minutes, told},
    support::{Project, Sandbox},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/do_scaler");
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/do_scaler.toml");
const TRANSCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/do_scaler.txt");

/// Minutes between two ticks: the scaler's interval.
const EVERY: i64 = 2;

#[derive(Deserialize)]
struct Day {
    /// Droplets that do-scaler made, by name.
    droplets: Vec<String>,
    step: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    at: String,
    say: String,
    /// What machines tell from now on, as `POST /control/metrics` takes it.
    #[serde(default)]
    metrics: Vec<Value>,
    fault: Option<Value>,
    /// The pool's mode from now on.
    mode: Option<String>,
    /// What `explain` says before the tick.
    explained: Option<String>,
    /// A droplet that somebody removes.
    removed: Option<String>,
}

/// A project with do-scaler's folder in it, and no stack file.
fn project(token: &str) -> Project {
    let project = Project::with_stack("", token);
    std::fs::remove_file(project.path("stacks/test.toml")).unwrap();
    copy(Path::new(FOLDER), &project.path("do-scaler"));
    project
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn edited(project: &Project, file: &str, from: &str, to: &str) {
    let path = project.path(&format!("do-scaler/{file}"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_folder_is_taken_over_and_what_has_no_equivalent_is_named() {
    let project = project("t");
    let told = project
        .run(&["init", "--from", "do-scaler", "do-scaler"])
        .exits(0)
        .says("conf.d/web.cfg: do_token: a secret that stands in a file is not copied")
        .says("conf.d/droplets/web.json: tags: web: new machines carry runfleet's own tags alone")
        .says("Wrote stacks/droplets.toml");
    let text = std::fs::read_to_string(project.path("stacks/droplets.toml")).unwrap();
    for line in [
        "interval = \"2m\"",
        "token = { env = \"DIGITALOCEAN_TOKEN\" }",
        "mode          = \"advise\"",
        "# [digitalocean_create_droplet] max",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!format!("{text}{}{}", told.stdout, told.stderr).contains("dop_v1"));
    project.run(&["-s", "droplets", "validate"]).exits(0);
    let again = ["init", "--from", "do-scaler", "do-scaler"];
    project.run(&again).exits(1).says("is there already");
    // Its main file stands for its folder.
    let by_file = [
        "--json",
        "init",
        "--from",
        "do-scaler",
        "do-scaler/do-scaler.cfg",
        "--out",
        "stacks/web.toml",
    ];
    let document = project.run(&by_file).exits(0).json();
    assert_eq!(document["stack"], "web");
    assert_eq!(document["left"][0]["key"], "conf.d/droplets/web.json: name");
}

#[test]
fn a_folder_that_is_none_writes_nothing_and_says_what_to_type() {
    let project = project("t");
    let refused = |path: &str| project.run(&["init", "--from", "do-scaler", path]).exits(1);
    refused("nowhere").says("do-scaler.cfg: cannot be read: there is no such file or folder");
    edited(&project, "conf.d/policies/down.json", "\"max\"", "\"highest\"");
    refused("do-scaler")
        .says("conf.d/policies/down.json, line ")
        .says("unknown variant `highest`, expected one of `min`, `max`, `median`,")
        .says("nothing was written");
    edited(&project, "conf.d/web.cfg", "max = 4", "most = 4");
    refused("do-scaler").says("conf.d/policies/down.json");
    edited(&project, "conf.d/policies/down.json", "\"highest\"", "\"max\"");
    refused("do-scaler")
        .says("conf.d/web.cfg, line 11: max is missing in [digitalocean_create_droplet]")
        .says("write `max = 8` there");
    project
        .run(&["init", "--from", "do-scaler"])
        .exits(1)
        .says("runfleet init --from do-scaler /etc/do-scaler");
    assert!(!project.path("stacks/droplets.toml").exists());
}

/// Everything that the day is played with.
struct Stage {
    sandbox: Sandbox,
    project: Project,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Stage {
    fn set(day: &Day) -> Self {
        let sandbox = Sandbox::start(&["speed=0", "boot=20s", "action_time=0s"]);
        let project = project(sandbox.token());
        let stage = Self {
            sandbox,
            project,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let from = [
            "init",
            "--from",
            "do-scaler",
            "do-scaler",
            "--out",
            "stacks/test.toml",
        ];
        stage.run(&from).exits(0);
        let address = |party: &str| stage.sandbox.addresses[party].as_str().unwrap();
        let endpoint = format!(
            "[providers.digitalocean]\nendpoint = \"{}\"\n",
            address("digitalocean")
        );
        stage.project.edit("[providers.digitalocean]\n", &endpoint);
        let proxy = format!("address = \"private\", proxy = \"{}\" }}", address("exporters"));
        stage.project.edit("address = \"private\" }", &proxy);
        stage.project.edit(
            "kind   = \"prometheus\"\n",
            "kind   = \"prometheus\"\nsettle = \"50ms\"\n",
        );
        for name in &day.droplets {
            stage.droplet(name);
        }
        stage.sandbox.advance("1m");
        stage
    }

    /// As do-scaler makes one.
    fn droplet(&self, name: &str) {
        let body = json!({
            "name": name, "size": "s-2vcpu-4gb", "image": "debian-12-x64", "region": "fra1", "tags": ["web"],
            "private_networking": true,
        });
        self.by_hand(reqwest::Method::POST, "/droplets", &body);
    }

    fn by_hand(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        let root = self.sandbox.addresses["digitalocean"].as_str().unwrap();
        self.runtime.block_on(async {
            let request = self.http.request(method, format!("{root}{path}"));
            let request = request.bearer_auth(self.sandbox.token()).json(body);
            let reply = request.send().await.unwrap();
            let status = reply.status();
            let text = reply.text().await.unwrap();
            assert!(status.is_success(), "{path}: {status} {text}");
            serde_json::from_str(&text).unwrap_or(Value::Null)
        })
    }

    /// Name and id of each droplet with the scaler's tag.
    fn droplets(&self) -> Vec<(String, u64)> {
        let listed = self.by_hand(
            reqwest::Method::GET,
            "/droplets?tag_name=web&per_page=200",
            &json!({}),
        );
        let droplets = listed["droplets"].as_array().unwrap();
        let each = droplets.iter().map(|droplet| {
            (
                droplet["name"].as_str().unwrap().to_owned(),
                droplet["id"].as_u64().unwrap(),
            )
        });
        each.collect()
    }

    fn run(&self, arguments: &[&str]) -> crate::support::Ran {
        let mut command = self.project.command(arguments);
        let output = command.env("DIGITALOCEAN_TOKEN", self.sandbox.token()).output();
        crate::support::Ran::of(&output.unwrap())
    }

    /// What happens at a step, apart from the tick.
    fn play(&self, step: &Step) {
        for told in &step.metrics {
            self.sandbox.post("/metrics", told);
        }
        self.sandbox.clear_faults();
        if let Some(fault) = &step.fault {
            self.sandbox.fault(fault);
        }
        if let Some(mode) = &step.mode {
            let other = if mode == "act" { "advise" } else { "act" };
            self.project.edit(
                &format!("mode          = \"{other}\""),
                &format!("mode          = \"{mode}\""),
            );
        }
        if let Some(name) = &step.removed {
            let droplets = self.droplets();
            let (_, id) = droplets.iter().find(|(other, _)| other == name).unwrap();
            self.by_hand(reqwest::Method::DELETE, &format!("/droplets/{id}"), &json!({}));
        }
    }

    fn tick(&self) -> String {
        let plan = self.run(&["plan", "--json"]).exits(0).json();
        let ran = self.run(&["scale"]);
        // 3: a create that a fault let fail.
        assert!(matches!(ran.code, 0 | 3), "{}\n{}", ran.stdout, ran.stderr);
        let mut text = nameless(&told(&plan));
        if ran.code == 3 {
            text.push_str("  done in part\n");
        }
        text
    }

    fn standing(&self) -> String {
        let world = self.sandbox.world();
        let machines = self.sandbox.servers().len();
        format!("  = {machines} machines, {} jobs killed\n", world["jobs_killed"])
    }
}

/// The machines that runfleet made without their names, which are drawn anew in each run.
fn nameless(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', '\n']);
        if bare.starts_with("test-web-") {
            word.replace(bare, "NEW")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_day_of_do_scaler_goes_as_its_transcript_says() {
    let day: Day = toml::from_str(&std::fs::read_to_string(SCENARIO).unwrap()).unwrap();
    let stage = Stage::set(&day);
    stage.run(&["validate"]).exits(0);
    let mut text = String::new();
    for (name, id) in stage.droplets() {
        let address = format!("machine.web/{name}");
        stage
            .run(&["state", "import", &address, &id.to_string()])
            .exits(0);
        let _ = writeln!(text, "imported {address}");
    }
    text.push('\n');
    let mut now = 0;
    for step in &day.step {
        let at = minutes(&step.at);
        while at > now {
            let next = at.min(now + EVERY);
            stage.sandbox.advance(&format!("{}m", next - now));
            now = next;
            if now < at {
                let told = stage.tick();
                if !told.is_empty() {
                    let _ = writeln!(text, "{now}m\n{told}");
                }
            }
        }
        stage.play(step);
        if let Some(words) = &step.explained {
            stage.run(&["explain"]).exits(0).says(words);
        }
        let _ = writeln!(text, "{}  {}", step.at, step.say);
        text.push_str(&stage.tick());
        let _ = writeln!(text, "{}", stage.standing());
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(TRANSCRIPT, &text).unwrap();
    }
    let golden = std::fs::read_to_string(TRANSCRIPT).unwrap_or_default();
    assert!(
        golden == text,
        "the transcript differs; BLESS=1 writes this one:\n{text}"
    );
}
