//! What the tests of the whole program share: the program itself, a sandbox in another process, a project's folder.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The program under test.
pub const RUNFLEET: &str = env!("CARGO_BIN_EXE_runfleet");

/// A sandbox in a process of its own; gone when dropped.
pub struct Sandbox {
    child: Child,
    pub addresses: Value,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Sandbox {
    /// Starts one with these settings (`boot=20s`), without the API's own rate limit unless asked.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_with(settings, &[])
    }

    pub fn start_with(settings: &[&str], arguments: &[&str]) -> Self {
        let mut command = Command::new(RUNFLEET);
        command
            .args(["sandbox", "--listen", "127.0.0.1:0"])
            .args(arguments);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the sandbox starts");
        let mut first = String::new();
        let mut reader = BufReader::new(child.stdout.take().expect("it has a standard output"));
        reader.read_line(&mut first).expect("its first line");
        let addresses = serde_json::from_str(&first).expect("its first line is JSON");
        Self {
            child,
            addresses,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    pub fn hetzner(&self) -> &str {
        self.addresses["hetzner"].as_str().expect("hetzner")
    }

    pub fn gitlab(&self) -> &str {
        self.addresses["gitlab"].as_str().expect("gitlab")
    }

    pub fn token(&self) -> &str {
        self.addresses["token"].as_str().expect("token")
    }

    fn control(&self, path: &str) -> String {
        format!("{}{path}", self.addresses["control"].as_str().expect("control"))
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.runtime.block_on(async {
            let reply = self
                .http
                .post(self.control(path))
                .json(body)
                .send()
                .await
                .expect("an answer");
            let status = reply.status();
            let text = reply.text().await.expect("a body");
            assert!(status.is_success(), "POST {path} {body}: {status} {text}");
            serde_json::from_str(&text).unwrap_or(Value::Null)
        })
    }

    pub fn get(&self, path: &str) -> Value {
        self.runtime.block_on(async {
            let reply = self.http.get(self.control(path)).send().await.expect("an answer");
            reply.json().await.expect("JSON")
        })
    }

    /// A call of Hetzner's API, as somebody else makes it by hand.
    pub fn by_hand(&self, method: &str, path: &str, body: &Value) -> Value {
        let method = method.parse().expect("a method");
        self.runtime.block_on(async {
            let request = self.http.request(method, format!("{}{path}", self.hetzner()));
            let reply = request
                .bearer_auth(self.token())
                .json(body)
                .send()
                .await
                .expect("an answer");
            let status = reply.status();
            let text = reply.text().await.expect("a body");
            assert!(status.is_success(), "{path} {body}: {status} {text}");
            serde_json::from_str(&text).unwrap_or(Value::Null)
        })
    }

    /// The server at this place of the world.
    pub fn server(&self, at: usize) -> Value {
        self.world()["servers"][at].clone()
    }

    /// A call of the sandbox's GitLab by a person: below `/api/v4`, with the sandbox's token.
    pub fn gitlab_post(&self, path: &str, body: &Value) -> Value {
        self.gitlab_call(reqwest::Method::POST, path, body)
    }

    /// Likewise.
    pub fn gitlab_put(&self, path: &str, body: &Value) -> Value {
        self.gitlab_call(reqwest::Method::PUT, path, body)
    }

    /// Likewise.
    pub fn gitlab_get(&self, path: &str) -> Value {
        self.gitlab_call(reqwest::Method::GET, path, &Value::Null)
    }

    fn gitlab_call(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        self.runtime.block_on(async {
            let url = format!("{}/api/v4{path}", self.gitlab());
            let request = self.http.request(method, url).bearer_auth(self.token());
            let reply = request.json(body).send().await.expect("an answer");
            let status = reply.status();
            let text = reply.text().await.expect("a body");
            assert!(status.is_success(), "{path} {body}: {status} {text}");
            serde_json::from_str(&text).expect("JSON")
        })
    }

    pub fn jobs(&self, count: u32, duration: &str) {
        self.post(
            "/jobs",
            &json!({"ci": "gitlab", "tags": ["linux"], "count": count, "duration": duration}),
        );
    }

    pub fn advance(&self, by: &str) {
        self.post("/clock", &json!({"advance": by}));
    }

    pub fn fault(&self, fault: &Value) {
        self.post("/faults", fault);
    }

    pub fn clear_faults(&self) {
        self.runtime.block_on(async {
            self.http
                .delete(self.control("/faults"))
                .send()
                .await
                .expect("an answer");
        });
    }

    pub fn world(&self) -> Value {
        self.get("/world")
    }

    /// The names of the servers that are there, sorted.
    pub fn servers(&self) -> Vec<String> {
        let world = self.world();
        let servers = world["servers"].as_array().expect("servers");
        let mut names: Vec<String> = servers
            .iter()
            .map(|server| server["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(
            all.contains(text),
            "{text:?} is not in stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A folder with a stack file; gone when dropped.
pub struct Project {
    folder: tempfile::TempDir,
    pub hetzner_token: String,
    pub gitlab_token: String,
}

impl Project {
    /// A project whose stack `test` lives in that sandbox; `pool` is added to the pool's table.
    pub fn new(sandbox: &Sandbox, pool: &str) -> Self {
        let text = stack_text(sandbox.hetzner(), sandbox.gitlab(), pool);
        Self::with_stack(&text, sandbox.token())
    }

    pub fn with_stack(text: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("stacks")).expect("a folder");
        std::fs::write(folder.path().join("stacks/test.toml"), text).expect("a stack file");
        Self {
            folder,
            hetzner_token: token.to_owned(),
            gitlab_token: token.to_owned(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn edit(&self, from: &str, to: &str) {
        let path = self.path("stacks/test.toml");
        let text = std::fs::read_to_string(&path).expect("the stack file");
        assert!(text.contains(from), "{from:?} is not in the stack file");
        std::fs::write(path, text.replace(from, to)).expect("the stack file");
    }

    /// The program, in this folder, with nothing of the environment but the two tokens.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(RUNFLEET);
        command
            .args(["-C", &self.folder.path().display().to_string()])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HCLOUD_TOKEN", &self.hetzner_token)
            .env("GITLAB_API_TOKEN", &self.gitlab_token)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().expect("the program runs"))
    }

    pub fn state(&self) -> Value {
        let text = std::fs::read_to_string(self.path("stacks/test.json")).expect("a state file");
        serde_json::from_str(&text).expect("the state file is JSON")
    }

    /// The cloud names of the machines on record, sorted.
    pub fn machines_on_record(&self) -> Vec<String> {
        let state = self.state();
        let resources = state["resources"].as_object().expect("resources");
        let mut names: Vec<String> = resources
            .iter()
            .filter(|(address, _)| address.starts_with("machine."))
            .map(|(_, record)| record["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    }
}

/// A stack file for one pool `linux` of a sandbox.
pub fn stack_text(hetzner: &str, gitlab: &str, pool: &str) -> String {
    format!(
        r#"[stack]
name = "test"
state = "file"
interval = "3m"

[providers.hetzner]
token = {{ env = "HCLOUD_TOKEN" }}
endpoint = "{hetzner}"

[ci.gitlab]
kind = "gitlab"
url = "{gitlab}"
token = {{ env = "GITLAB_API_TOKEN" }}
projects = ["acme/app"]
settle = "50ms"

[ssh_keys.ops]
provider = "hetzner"
public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops"

[firewalls.default]
provider = "hetzner"
rules = [{{ direction = "in", protocol = "tcp", port = "22", networks = ["10.0.0.0/8"] }}]

[pools.linux]
ci = "gitlab"
tags = ["docker", "linux"]
jobs_per_runner = 2
min = 0
max = 20
ssh_keys = ["ops"]
firewalls = ["default"]
{pool}

[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
locations = ["nbg1", "fsn1"]
image = "debian-12"
"#
    )
}

/// Waits until a condition holds, at most that long.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::yield_now();
    }
}

/// All that is in a folder's files, for searches.
pub fn everything_in(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.push_str(&everything_in(&path));
        } else if let Ok(mut file) = std::fs::File::open(&path) {
            let mut bytes = Vec::new();
            let _ = file.read_to_end(&mut bytes);
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    all
}
