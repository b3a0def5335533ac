//! What machines and the management node are handed: the shipped templates, units and alert rules, checked by the
//! tools that read them.
//!
//! A tool that cannot be had here is skipped with a word on stderr; its script says so by exit code 77.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells what it skips"
)]

#[path = "machines/packaging.rs"]
mod packaging;
#[path = "machines/runners.rs"]
mod runners;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use runfleet::{
    model::{
        ids::Serial,
        offering::{Market, OfferingKey},
        reason::Reason,
        resource::{ImageRef, MachineSpec},
    },
    plan::{ApiUse, Cost, Held, Plan, PoolReport},
    render::{self, Join, TemplateSet},
    stack::{
        Budget, CiConfig, CiKind, Endpoint, Mode, OfferingChoice, Policy, Pool, Stack, StateBackend, Watching,
    },
    telemetry::{self, Outcomes},
    tick::LastTick,
    watch::board::Board,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Hetzner's, the smallest of the clouds' but EC2's.
const USER_DATA_LIMIT: usize = 32 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn templates() -> &'static TemplateSet {
    static TEMPLATES: OnceLock<TemplateSet> = OnceLock::new();
    TEMPLATES.get_or_init(render::builtin)
}

#[test]
fn every_template_of_the_project_is_shipped() {
    let mut files = BTreeMap::new();
    // User data for launch templates is no template of ours.
    for folder in ["cloud-init", "templates", "templates/ecs", "templates/kubernetes"] {
        for entry in fs_err::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                continue;
            }
            let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
            files.insert(name, fs_err::read_to_string(entry.path()).unwrap());
        }
    }
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        templates().files.keys().collect::<Vec<_>>()
    );
    assert_eq!(files, templates().files);
}

fn stack(vars: Value) -> Stack {
    let ci = CiConfig {
        auth: runfleet::stack::AzureAuth::default(),
        max: None,
        name: "gitlab".into(),
        kind: CiKind::Gitlab,
        url: Endpoint::Url("https://gitlab.example.com".into()),
        token: None,
        ca_file: None,
        projects: vec![],
        groups: Vec::new(),
        instance: false,
        settle: SignedDuration::from_secs(1),
        api: runfleet::stack::CircleciApi::default(),
        pending_max: None,
        running_max: None,
        scrape: None,
        program: None,
    };
    let pool = Pool {
        agents: None,
        discover: None,
        name: "linux".into(),
        ci: "gitlab".into(),
        mode: Mode::Act,
        tags: vec!["docker".into()],
        run_untagged: false,
        jobs_per_runner: 2,
        min: 0,
        max: 5,
        burst: None,
        policy: Policy::Queue { idle: 0 },
        ready_timeout: SignedDuration::from_mins(10),
        idle_timeout: SignedDuration::from_mins(5),
        cloud_init: "cloud-init/gitlab-runner.yaml.tera".into(),
        vars: serde_json::from_value(vars).unwrap(),
        ssh_keys: vec![],
        firewalls: vec![],
        networks: Vec::new(),
        spread: runfleet::stack::Spread::No,
        keeping: runfleet::stack::Keeping::default(),
        registering: runfleet::stack::Registering::default(),
        offerings: vec![OfferingChoice {
            price: None,
            task: None,
            provider: "hetzner".into(),
            machine_type: "cx33".into(),
            locations: vec![],
            image: ImageRef::Name("debian-12".into()),
            public_ipv4: true,
            market: Market::OnDemand,
            ec2: None,
            priority: 0,
        }],
        group: None,
        order: runfleet::stack::Order::default(),
        health: None,
        hooks: Vec::new(),
    };
    Stack {
        name: "test".into(),
        state: StateBackend::File,
        interval: SignedDuration::from_mins(3),
        providers: BTreeMap::new(),
        ci: BTreeMap::from([("gitlab".into(), ci)]),
        ssh_keys: BTreeMap::new(),
        firewalls: BTreeMap::new(),
        pools: vec![pool],
        budget: Budget::default(),
        currency: runfleet::stack::Currencies::default(),
        login: runfleet::stack::hooks::Login::default(),
        networks: BTreeMap::new(),
        guard: runfleet::stack::Guard::default(),
        moved: Vec::new(),
        keep_states: 10,
        plan_key: None,
        metrics_file: None,
        watch: Watching::default(),
        sandbox: None,
        source_hash: String::new(),
    }
}

fn spec() -> MachineSpec {
    MachineSpec {
        task: None,
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: "brave-otter".into(),
        name: "test-linux-brave-otter".into(),
        offering: OfferingKey {
            provider: "hetzner".into(),
            location: "fsn1".into(),
            machine_type: "cx33".into(),
            market: Market::OnDemand,
        },
        image: ImageRef::Name("debian-12".into()),
        public_ipv4: true,
        ssh_keys: vec![],
        firewalls: vec![],
    }
}

fn rendered(url: &str, token: &str, vars: Value) -> String {
    let stack = stack(vars);
    let join = Join {
        system_id: None,
        url: url.to_owned(),
        token: token.into(),
    };
    render::user_data(templates(), &stack, &stack.pools[0], &spec(), &join)
        .unwrap()
        .expose_secret()
        .to_owned()
}

fn plain() -> String {
    rendered("https://gitlab.example.com", "glrt-secret", json!({}))
}

fn full() -> Value {
    json!({
        "image": "registry.example.com/ci/base:1",
        "privileged": true,
        "pull_policy": ["always", "if-not-present"],
        "volumes": ["/cache", "/var/run/docker.sock:/var/run/docker.sock"],
        "environment": ["A=1", "B=it's \"quoted\" $HOME `id`\nand more"],
        "cache": {"Type": "s3", "Shared": true, "s3": {"ServerAddress": "s3.example.com", "BucketName": "ci"}},
        "registry_mirrors": ["https://mirror.example.com"],
        "ca_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "prune_hours": 12,
        "ansible": {"repo": "https://gitlab.example.com/ops/runner's finish.git", "checkout": "v1"},
    })
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn file<'a>(data: &'a Value, path: &str) -> &'a str {
    data["write_files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["path"] == path)
        .unwrap_or_else(|| panic!("no {path}"))["content"]
        .as_str()
        .unwrap()
}

fn config(data: &Value) -> toml::Table {
    let text = file(data, "/etc/gitlab-runner/config.toml");
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_runner_is_configured_and_started_with_its_token() {
    let text = plain();
    assert_eq!(text.lines().next(), Some("#cloud-config"));
    assert!(text.len() < USER_DATA_LIMIT / 2, "{} bytes", text.len());
    let data = yaml(&text);
    let config = config(&data);
    assert_eq!(config["concurrent"].as_integer(), Some(2));
    assert_eq!(config["check_interval"].as_integer(), Some(3));
    let runner = &config["runners"][0];
    assert_eq!(runner["name"].as_str(), Some("test-linux-brave-otter"));
    assert_eq!(runner["url"].as_str(), Some("https://gitlab.example.com"));
    assert_eq!(runner["token"].as_str(), Some("glrt-secret"));
    assert_eq!(runner["executor"].as_str(), Some("docker"));
    assert_eq!(runner["docker"]["privileged"].as_bool(), Some(false));
    assert_eq!(data["write_files"][0]["permissions"], "0600");
    let last = data["runcmd"].as_array().unwrap().last().unwrap();
    assert!(
        last.as_str()
            .unwrap()
            .ends_with("enable --now gitlab-runner.service")
    );
    assert!(file(&data, "/usr/local/lib/runfleet/block-metadata").contains("169.254.169.254"));
    assert!(
        file(&data, "/etc/systemd/system/runfleet-unregister.service")
            .contains("gitlab-runner unregister --all-runners")
    );
    assert_eq!(
        text.matches("glrt-secret").count(),
        1,
        "the token is in one place"
    );
}

#[test]
fn every_var_reaches_its_place() {
    let vars = full();
    let text = rendered("https://gitlab.example.com", "t", vars.clone());
    assert!(text.len() < USER_DATA_LIMIT / 2, "{} bytes", text.len());
    let data = yaml(&text);
    let config = config(&data);
    let runner = &config["runners"][0];
    let as_json = |value: &toml::Value| serde_json::to_value(value).unwrap();
    assert_eq!(as_json(&runner["environment"]), vars["environment"]);
    assert_eq!(as_json(&runner["cache"]), vars["cache"]);
    for key in ["image", "privileged", "pull_policy", "volumes"] {
        assert_eq!(as_json(&runner["docker"][key]), vars[key], "{key}");
    }
    assert_eq!(
        json!(file(&data, "/etc/gitlab-runner/certs/ca.pem")),
        vars["ca_pem"]
    );
    let daemon: Value = serde_json::from_str(file(&data, "/etc/docker/daemon.json")).unwrap();
    assert_eq!(daemon["registry-mirrors"], vars["registry_mirrors"]);
    assert!(
        file(&data, "/usr/local/lib/runfleet/bootstrap")
            .contains(r"--url 'https://gitlab.example.com/ops/runner'\''s finish.git'")
    );
    assert!(file(&data, "/etc/systemd/system/runfleet-prune.service").contains("until=12h"));
    let stack = stack(vars);
    assert_eq!(
        templates().unread_vars(&stack.pools[0]).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_preview_shows_the_token_nowhere() {
    let stack = stack(json!({}));
    let text = render::preview(
        templates(),
        &stack,
        &stack.pools[0],
        &spec(),
        "https://gitlab.example.com",
    )
    .unwrap();
    assert!(text.contains("token = \"***\""));
    assert_eq!(text.replace("***", "glrt-secret"), plain());
}

/// Texts that have broken somebody's template, and whatever else there is.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "(?s).{0,24}",
        2 => r#"[ \t\n\r"'`\\{}%#:|>&*!?@,$()\[\]~\-=\u{0}\u{85}\u{2028}\u{feff}é😀a0]{0,12}"#,
        1 => prop::sample::select(vec![
            "{{ token }}", "{% raw %}", "{#", "yes", "null", "~", "1e3", "0x1f", "- a", "a: b", "a #b", "&a *a", "!!str", "<<",
            "\"", "\\", "'''", "\"\"\"", "---\n", "...\n", "%YAML", "=", "\n\n", " ", "", "2001-01-01", "12:30:45",
            "$(reboot)", "#cloud-config", "## template: jinja", "\u{1f600}", "\u{10ffff}", "\u{7f}", "\r\n",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    // 500 cases of at least 20 texts: 10,000 of them.
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_arrives_exactly(
        url in nasty(),
        token in nasty(),
        image in nasty(),
        pem in nasty(),
        key in nasty(),
        environment in prop::collection::vec(nasty(), 10..20),
        mirrors in prop::collection::vec(nasty(), 6..10),
    ) {
        let vars = json!({"image": image, "environment": environment, "registry_mirrors": mirrors, "ca_pem": pem, "cache": {&key: key}});
        let text = rendered(&url, &token, vars);
        let data = yaml(&text);
        let config = config(&data);
        let runner = &config["runners"][0];
        prop_assert_eq!(runner["url"].as_str(), Some(url.as_str()));
        prop_assert_eq!(runner["token"].as_str(), Some(token.as_str()));
        prop_assert_eq!(runner["docker"]["image"].as_str(), Some(image.as_str()));
        prop_assert_eq!(runner["cache"].get(&key).and_then(toml::Value::as_str), Some(key.as_str()));
        prop_assert_eq!(serde_json::to_value(&runner["environment"]).unwrap(), json!(environment));
        prop_assert_eq!(file(&data, "/etc/gitlab-runner/certs/ca.pem"), pem.as_str());
        let daemon: Value = serde_json::from_str(file(&data, "/etc/docker/daemon.json")).unwrap();
        prop_assert_eq!(&daemon["registry-mirrors"], &json!(mirrors));
        if let Some(schema) = schema() {
            prop_assert!(schema.is_valid(&data), "{}", text);
        }
    }
}

/// The official schema of cloud-config, where the workspace has it.
fn schema() -> Option<&'static jsonschema::Validator> {
    static SCHEMA: OnceLock<Option<jsonschema::Validator>> = OnceLock::new();
    SCHEMA
        .get_or_init(|| {
            let path = root().join("../shared/specs/cloud-init/schema-cloud-config-v1.json");
            let Ok(text) = fs_err::read_to_string(&path) else {
                eprintln!("skipped: the official schema is not at {}", path.display());
                return None;
            };
            Some(jsonschema::draft4::new(&serde_json::from_str(&text).unwrap()).unwrap())
        })
        .as_ref()
}

#[test]
fn user_data_is_valid_by_the_official_schema() {
    let Some(schema) = schema() else { return };
    for vars in [json!({}), full()] {
        let data = yaml(&rendered("https://gitlab.example.com", "t", vars));
        let errors: Vec<_> = schema
            .iter_errors(&data)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }
    assert!(
        !schema.is_valid(&json!({"write_files": [{"content": 1}]})),
        "the schema refuses nothing"
    );
}

/// Runs a script of `tests/tools`; none where it says that it cannot.
fn tool(script: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(root().join("tests/tools").join(script))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}

fn assert_ran(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs_err::write(&path, text).unwrap();
    path
}

#[test]
fn user_data_is_valid_by_cloud_init_itself() {
    let folder = tempfile::tempdir().unwrap();
    let nasty = "\"'\n\t{{ x }} é 😀 \u{85}\u{2028}\u{feff}\u{7f} a: b #c - *d";
    let mut vars = full();
    for key in ["image", "ca_pem"] {
        vars[key] = json!(nasty);
    }
    let good = [
        written(folder.path(), "plain.yaml", &plain()),
        written(folder.path(), "full.yaml", &rendered(nasty, nasty, vars)),
    ];
    let bad = written(
        folder.path(),
        "bad.yaml",
        "#cloud-config\nwrite_files: [{content: 1}]\n",
    );
    for path in &good {
        let Some(output) = tool("cloud-init-schema.sh", &[path.to_str().unwrap()]) else {
            return;
        };
        assert_ran(&output);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Valid") && !said.contains("deprecat"), "{said}");
    }
    let output = tool("cloud-init-schema.sh", &[bad.to_str().unwrap()]).unwrap();
    assert!(!output.status.success(), "cloud-init refuses nothing");
}

#[test]
fn a_machines_scripts_are_sound_shell() {
    let folder = tempfile::tempdir().unwrap();
    for vars in [json!({}), full()] {
        let data = yaml(&rendered("https://gitlab.example.com", "t", vars));
        for name in ["bootstrap", "block-metadata"] {
            let path = written(
                folder.path(),
                name,
                file(&data, &format!("/usr/local/lib/runfleet/{name}")),
            );
            assert_ran(&Command::new("sh").arg("-n").arg(&path).output().unwrap());
            if let Some(output) = tool(
                "shellcheck.sh",
                &["--shell=sh", "--exclude=SC1091", path.to_str().unwrap()],
            ) {
                assert_ran(&output);
            }
        }
    }
}

#[test]
fn the_scripts_of_the_tests_are_sound_shell() {
    let scripts: Vec<_> = fs_err::read_dir(root().join("tests/tools"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "sh"))
        .map(|path| path.display().to_string())
        .collect();
    let mut arguments = vec!["--shell=sh", "--external-sources", "--source-path=tests/tools"];
    arguments.extend(scripts.iter().map(String::as_str));
    if let Some(output) = tool("shellcheck.sh", &arguments) {
        assert_ran(&output);
    }
}

/// Whether `systemd-analyze` is here.
fn verifier() -> bool {
    let found = Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: no systemd-analyze here");
    }
    found
}

/// Programs that only the target has stand for one that is here.
fn verify(folder: &Path, units: &[(String, String)]) {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    for (name, text) in units {
        let text = [
            "/usr/bin/runfleet",
            "/usr/bin/docker",
            "/usr/local/lib/runfleet/block-metadata",
            "/usr/local/lib/runfleet/exporter",
        ]
        .iter()
        .fold(text.clone(), |text, program| text.replace(program, "/bin/true"));
        command.arg(written(folder, name, &text));
    }
    let output = command.output().unwrap();
    assert_ran(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_units_of_the_management_node_are_valid() {
    if !verifier() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let units: Vec<_> = [
        "runfleet.service",
        "runfleet.timer",
        "runfleet-failed@.service",
        "runfleet-watch@.service",
    ]
    .into_iter()
    .map(|name| {
        let path = root().join("packaging/systemd").join(name);
        (name.to_owned(), fs_err::read_to_string(path).unwrap())
    })
    .collect();
    verify(folder.path(), &units);
}

#[test]
fn the_units_of_a_machine_are_valid() {
    if !verifier() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = yaml(&plain());
    let units: Vec<_> = data["write_files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| {
            let name = file["path"].as_str()?.strip_prefix("/etc/systemd/system/")?;
            (!name.contains('/')).then(|| (name.to_owned(), file["content"].as_str().unwrap().to_owned()))
        })
        .collect();
    assert_eq!(units.len(), 4);
    verify(folder.path(), &units);
}

#[test]
fn alert_rules_are_valid_and_do_what_their_tests_say() {
    let rules = "packaging/prometheus/alerts.yml";
    let Some(output) = tool("promtool.sh", &["check", "rules", rules]) else {
        return;
    };
    assert_ran(&output);
    assert_ran(
        &tool(
            "promtool.sh",
            &["test", "rules", "packaging/prometheus/alerts_test.yml"],
        )
        .unwrap(),
    );
    // Every metric of a rule is one that is written.
    let written = metrics();
    for word in fs_err::read_to_string(root().join(rules))
        .unwrap()
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("runfleet_"))
    {
        assert!(written.contains(&format!("# TYPE {word} gauge\n")), "{word}");
    }
}

#[test]
fn alert_rules_of_a_watch_are_valid_and_do_what_their_tests_say() {
    let rules = "packaging/prometheus/watch_alerts.yml";
    let board = Board::new("prod", Duration::from_secs(60), LastTick::default());
    let told = board.exposition().unwrap();
    for word in fs_err::read_to_string(root().join(rules))
        .unwrap()
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("runfleet_"))
    {
        assert!(told.contains(&format!("# TYPE {word} ")), "{word}");
    }
    if let Some(output) = tool("promtool.sh", &["check", "rules", rules]) {
        assert_ran(&output);
        let tests = "packaging/prometheus/watch_alerts_test.yml";
        assert_ran(&tool("promtool.sh", &["test", "rules", tests]).unwrap());
    }
}

fn metrics() -> String {
    let plan = Plan {
        released: Vec::new(),
        breaches: Vec::new(),
        stack: "prod".into(),
        lineage: "l".into(),
        serial: Serial(1),
        made_at: Timestamp::UNIX_EPOCH,
        actions: vec![],
        kept: vec![],
        held: vec![Held {
            about: "linux".into(),
            count: 1,
            reason: Reason::Advise,
            warning: false,
        }],
        pools: vec![PoolReport {
            name: "linux".into(),
            target: 1,
            queued: 1,
            running: 0,
            serving: 0,
            formula: String::new(),
            steps: Vec::new(),
            memory: None,
        }],
        drift: vec![],
        orphans: vec![],
        foreign: vec![],
        cost: Cost {
            before_hourly: vec![],
            after_hourly: vec!["0.01 EUR".parse().unwrap()],
            before_monthly: vec![],
            after_monthly: vec![],
            projected: Vec::new(),
        },
        api: ApiUse {
            observed: 1,
            calls: 1,
            seconds: 1,
            quota_share: None,
        },
        complete: true,
        launch_budgets: BTreeMap::new(),
        expires_in: SignedDuration::from_hours(1),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runfleet.prom");
    let mut outcomes = Outcomes::default();
    outcomes.actions.insert(("create", "done"), 1);
    telemetry::write_metrics(
        &path,
        &plan,
        &outcomes,
        Timestamp::UNIX_EPOCH,
        Duration::from_secs(1),
    )
    .unwrap();
    fs_err::read_to_string(path).unwrap()
}

#[test]
fn metrics_follow_prometheus_conventions() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "runfleet.prom", &metrics());
    let Some(_) = tool("promtool.sh", &["--version"]) else {
        return;
    };
    let output = Command::new(root().join("tests/tools/promtool.sh"))
        .args(["check", "metrics"])
        .stdin(fs_err::File::open(path).unwrap().into_file())
        .output()
        .unwrap();
    assert_ran(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_playbook_passes_its_linter() {
    if let Some(output) = tool("ansible-lint.sh", &[]) {
        assert_ran(&output);
    }
}
