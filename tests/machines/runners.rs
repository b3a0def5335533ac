//! The templates of Drone's and CircleCI's runners and of machines without a CI, and the user data of their launch templates.

use std::path::Path;

use proptest::prelude::*;
use runfleet::{
    model::demand::AgentPool,
    render::{self, Join},
    stack::Stack,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    USER_DATA_LIMIT, assert_ran, file, nasty, root, schema, spec, stack, templates, tool, verifier, verify,
    written, yaml,
};

/// EC2's, before base64.
const EC2_LIMIT: usize = 16 * 1024;

const DRONE: &str = "cloud-init/drone-runner.yaml.tera";
const MACHINE: &str = "cloud-init/machine.yaml.tera";
const CIRCLECI: &str = "cloud-init/circleci-runner.yaml.tera";
const AZURE: &str = "cloud-init/azure-devops-agent.yaml.tera";
const AZURE_ENV: &str = "/etc/azure-devops-agent.env";
const AZURE_CAPABILITIES: &str = "/etc/azure-devops-agent.capabilities";
const DRONE_ENV: &str = "/etc/drone-runner-docker.env";
const CIRCLECI_CONFIG: &str = "/etc/circleci-runner/circleci-runner-config.yaml";

/// A pool of agents that can do what its tags and capabilities say.
fn azure(capabilities: &[(&str, &str)], vars: Value) -> Stack {
    let mut stack = stack_of(AZURE, &[], vars);
    let capabilities = capabilities.iter();
    stack.pools[0].agents = Some(Box::new(AgentPool {
        pool: "Build agents".to_owned(),
        capabilities: capabilities
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }));
    stack
}

fn agent(capabilities: &[(&str, &str)], vars: Value) -> String {
    let url = "https://dev.azure.com/acme/";
    rendered_as(
        "test-linux-brave-otter",
        &azure(capabilities, vars),
        url,
        "s3cret",
    )
    .unwrap()
}

fn azure_full() -> Value {
    json!({
        "once": true,
        "docker": true,
        "agent_url": "https://download.agent.dev.azure.com/agent/4.248.0/vsts-agent-linux-x64-4.248.0.tar.gz",
        "agent_sha256": "0f1e",
        "secret_parameter": "/runfleet/azure/token",
        "registry_mirrors": ["https://mirror.example.com"],
        "ca_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "prune_hours": 12,
        "ansible": {"repo": "https://git.example.com/ops/finish.git", "checkout": "v1"},
    })
}

fn stack_of(template: &str, tags: &[&str], vars: Value) -> Stack {
    let mut stack = stack(vars);
    stack.pools[0].cloud_init = template.into();
    stack.pools[0].tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    stack
}

fn rendered_as(name: &str, stack: &Stack, url: &str, token: &str) -> Result<String, render::RenderError> {
    let join = Join {
        system_id: None,
        url: url.to_owned(),
        token: token.into(),
    };
    let mut spec = spec();
    spec.name = name.into();
    let data = render::user_data(templates(), stack, &stack.pools[0], &spec, &join)?;
    Ok(data.expose_secret().to_owned())
}

fn rendered(template: &str, tags: &[&str], vars: Value) -> String {
    let stack = stack_of(template, tags, vars);
    rendered_as(
        "test-linux-brave-otter",
        &stack,
        "https://ci.example.com/",
        "s3cret",
    )
    .unwrap()
}

fn drone_full() -> Value {
    json!({
        "runner_image": "registry.example.com/drone-runner:1",
        "privileged_images": ["plugins/docker", "plugins/ecr"],
        "volumes": ["/cache:/cache", "/data:/data"],
        "settings": {"DRONE_MEMORY_LIMIT": 1_000_000, "DRONE_RUNNER_ENVIRON": "A:1,B:2"},
        "secret_parameter": "/runfleet/drone/rpc-secret",
        "registry_mirrors": ["https://mirror.example.com"],
        "ca_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "prune_hours": 12,
        "ansible": {"repo": "https://git.example.com/ops/finish.git", "checkout": "v1"},
    })
}

fn circleci_full() -> Value {
    json!({
        "mode": "continuous",
        "idle_timeout": "5m",
        "boot_timeout": "20m",
        "max_run_time": "1h30m",
        "docker": true,
        "leave_group": true,
        "runner_key": "F6403F6544A38863DAA0B6E03F01618A51312F3F",
        "secret_parameter": "/runfleet/circleci/token",
        "registry_mirrors": ["https://mirror.example.com"],
        "ca_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "prune_hours": 12,
        "ansible": {"repo": "https://git.example.com/ops/finish.git", "checkout": "v1"},
    })
}

fn machine_full() -> Value {
    json!({
        "exporter_port": 9110,
        "exporter_address": "private",
        "packages": ["nginx", "postgresql-client"],
        "ansible": {"repo": "https://git.example.com/ops/finish.git", "checkout": "v1"},
    })
}

/// Every rendering that the tools are asked about.
fn all() -> [String; 8] {
    [
        rendered(MACHINE, &[], json!({})),
        rendered(MACHINE, &[], machine_full()),
        rendered(DRONE, &["os=linux"], json!({})),
        rendered(DRONE, &["os=linux", "pool=a"], drone_full()),
        rendered(CIRCLECI, &["acme/linux"], json!({})),
        rendered(CIRCLECI, &["acme/linux"], circleci_full()),
        agent(&[], json!({})),
        agent(&[("docker", ""), ("java", "21")], azure_full()),
    ]
}

fn last_step(data: &Value) -> &str {
    let steps = data["runcmd"].as_array().unwrap();
    steps.last().unwrap().as_str().unwrap()
}

fn mode<'a>(data: &'a Value, path: &str) -> &'a Value {
    let files = data["write_files"].as_array().unwrap();
    &files.iter().find(|file| file["path"] == path).unwrap()["permissions"]
}

#[test]
fn a_drone_runner_says_of_itself_what_the_pools_tags_say() {
    let tags = ["os=linux", "arch=arm", "variant=v7", "pool=a", "note=a=b"];
    let text = rendered(DRONE, &tags, json!({}));
    assert_eq!(text.lines().next(), Some("#cloud-config"));
    let data = yaml(&text);
    assert_eq!(
        file(&data, DRONE_ENV),
        "DRONE_RPC_PROTO=https\nDRONE_RPC_HOST=ci.example.com\nDRONE_RPC_SECRET=s3cret\nDRONE_RUNNER_NAME=test-linux-brave-otter\n\
         DRONE_RUNNER_CAPACITY=2\nDRONE_RUNNER_LABELS=pool:a,note:a=b\nDRONE_PLATFORM_OS=linux\nDRONE_PLATFORM_ARCH=arm\n\
         DRONE_PLATFORM_VARIANT=v7\nDRONE_PLATFORM_KERNEL=\nDRONE_UI_DISABLE=true\n"
    );
    assert_eq!(mode(&data, DRONE_ENV), "0600");
    assert!(last_step(&data).ends_with("enable --now drone-runner-docker.service"));
    assert_eq!(text.matches("s3cret").count(), 1, "the secret is in one place");
    let error = rendered_as("a", &stack_of(DRONE, &["linux"], json!({})), "https://h", "t").unwrap_err();
    assert!(error.to_string().contains("key=value"), "{error}");
}

#[test]
fn every_var_of_a_drone_pool_reaches_its_place() {
    let data = yaml(&rendered(DRONE, &[], drone_full()));
    let env = file(&data, DRONE_ENV);
    for line in [
        "DRONE_RUNNER_PRIVILEGED_IMAGES=plugins/docker,plugins/ecr",
        "DRONE_RUNNER_VOLUMES=/cache:/cache,/data:/data",
        "DRONE_MEMORY_LIMIT=1000000",
        "DRONE_RUNNER_ENVIRON=A:1,B:2",
        "SSL_CERT_DIR=/certs",
    ] {
        assert!(env.lines().any(|known| known == line), "{line} is not in\n{env}");
    }
    let bootstrap = file(&data, "/usr/local/lib/runfleet/bootstrap");
    assert!(bootstrap.contains("docker pull --quiet 'registry.example.com/drone-runner:1'"));
    assert!(bootstrap.contains("--name '/runfleet/drone/rpc-secret'"));
    let unit = file(&data, "/etc/systemd/system/drone-runner-docker.service");
    assert!(
        unit.contains(":/certs:ro registry.example.com/drone-runner:1\n"),
        "{unit}"
    );
    let stack = stack_of(DRONE, &[], drone_full());
    assert_eq!(
        templates().unread_vars(&stack.pools[0]).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_machine_without_a_ci_tells_of_itself_once_it_is_set_up() {
    let text = rendered(MACHINE, &[], json!({}));
    assert!(!text.contains("s3cret"), "it joins nothing");
    let data = yaml(&text);
    let exporter = file(&data, "/usr/local/lib/runfleet/exporter");
    assert!(exporter.contains("port=9100\naddress='all'\n"), "{exporter}");
    assert!(last_step(&data).ends_with("bootstrap && systemctl enable --now runfleet-exporter.service"));
    let unit = file(&data, "/etc/systemd/system/runfleet-exporter.service");
    assert!(
        unit.contains("User=prometheus\n") && unit.contains("NoNewPrivileges=yes\n"),
        "{unit}"
    );
    let block = file(&data, "/usr/local/lib/runfleet/block-metadata");
    assert!(
        block.contains("! --uid-owner 0 -j REJECT") && block.contains("169.254.169.254"),
        "{block}"
    );
}

#[test]
fn every_var_of_a_machine_without_a_ci_reaches_its_place() {
    let data = yaml(&rendered(MACHINE, &[], machine_full()));
    let exporter = file(&data, "/usr/local/lib/runfleet/exporter");
    assert!(exporter.contains("port=9110\naddress='private'\n"), "{exporter}");
    let bootstrap = file(&data, "/usr/local/lib/runfleet/bootstrap");
    assert!(
        bootstrap.contains("prometheus-node-exporter 'nginx' 'postgresql-client'\n"),
        "{bootstrap}"
    );
    assert!(bootstrap.contains("ansible-pull --url 'https://git.example.com/ops/finish.git'"));
    let stack = stack_of(MACHINE, &[], machine_full());
    assert_eq!(
        templates().unread_vars(&stack.pools[0]).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_circleci_runner_takes_one_task_and_its_machine_goes_off() {
    let text = rendered(CIRCLECI, &["acme/linux"], json!({}));
    let data = yaml(&text);
    let config = yaml(file(&data, CIRCLECI_CONFIG));
    assert_eq!(
        config["api"],
        json!({"auth_token": "s3cret", "url": "https://ci.example.com/"})
    );
    let runner = &config["runner"];
    assert_eq!(
        (&runner["name"], &runner["mode"], &runner["idle_timeout"]),
        (
            &json!("test-linux-brave-otter"),
            &json!("single-task"),
            &json!("10m")
        )
    );
    assert_eq!(mode(&data, CIRCLECI_CONFIG), "0600");
    let unit = file(
        &data,
        "/etc/systemd/system/circleci-runner.service.d/runfleet.conf",
    );
    assert!(unit.contains("Restart=no") && unit.contains("poweroff"), "{unit}");
    assert!(file(&data, "/etc/systemd/system/runfleet-watchdog.timer").contains("OnBootSec=10m"));
    assert!(last_step(&data).ends_with("enable --now circleci-runner.service"));
    assert_eq!(text.matches("s3cret").count(), 1, "the token is in one place");
}

#[test]
fn every_var_of_a_circleci_pool_reaches_its_place() {
    let data = yaml(&rendered(CIRCLECI, &["acme/linux"], circleci_full()));
    let config = yaml(file(&data, CIRCLECI_CONFIG));
    for (key, value) in [
        ("mode", "continuous"),
        ("idle_timeout", "5m"),
        ("max_run_time", "1h30m"),
    ] {
        assert_eq!(config["runner"][key], value);
    }
    assert!(file(&data, "/etc/systemd/system/runfleet-watchdog.timer").contains("OnBootSec=20m"));
    let unit = file(
        &data,
        "/etc/systemd/system/circleci-runner.service.d/runfleet.conf",
    );
    assert!(
        unit.contains("ExecStopPost=/usr/local/lib/runfleet/leave"),
        "{unit}"
    );
    let bootstrap = file(&data, "/usr/local/lib/runfleet/bootstrap");
    for part in [
        "--groups docker circleci",
        "gpgkey 'F6403F6544A38863DAA0B6E03F01618A51312F3F'",
        "--name '/runfleet/circleci/token'",
        "update-ca-certificates",
    ] {
        assert!(bootstrap.contains(part), "{part}");
    }
    let stack = stack_of(CIRCLECI, &["acme/linux"], circleci_full());
    assert_eq!(
        templates().unread_vars(&stack.pools[0]).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn an_agent_of_azure_devops_says_of_itself_what_the_pool_says() {
    let text = agent(
        &[("Agent.OS", "Linux"), ("docker", ""), ("java", "21")],
        json!({}),
    );
    assert_eq!(text.lines().next(), Some("#cloud-config"));
    let data = yaml(&text);
    assert_eq!(
        file(&data, AZURE_ENV),
        "AZP_URL=https://dev.azure.com/acme\nAZP_TOKEN=s3cret\nAZP_POOL=Build agents\nAZP_AGENT_NAME=test-linux-brave-otter\n\
         RUNFLEET_STACK=test\n"
    );
    assert_eq!(mode(&data, AZURE_ENV), "0600");
    let capabilities = file(&data, AZURE_CAPABILITIES);
    let told: Vec<&str> = capabilities.lines().collect();
    assert_eq!(
        told,
        [
            "RUNFLEET_STACK=test",
            "RUNFLEET_POOL=linux",
            "docker=true",
            "java=21"
        ]
    );
    assert!(
        last_step(&data).ends_with("enable --now runfleet-unregister.service azure-devops-agent.service")
    );
    assert_eq!(text.matches("s3cret").count(), 1, "the token is in one place");
    let bootstrap = file(&data, "/usr/local/lib/runfleet/bootstrap");
    assert!(
        !bootstrap.contains("--token"),
        "arguments are everybody's to read"
    );
    let unit = file(&data, "/etc/systemd/system/azure-devops-agent.service");
    assert!(
        unit.contains("run.sh\n") && unit.contains("Restart=always"),
        "{unit}"
    );
}

#[test]
fn every_var_of_an_azure_devops_pool_reaches_its_place() {
    let data = yaml(&agent(&[], azure_full()));
    let bootstrap = file(&data, "/usr/local/lib/runfleet/bootstrap");
    for part in [
        "package='https://download.agent.dev.azure.com/agent/4.248.0/vsts-agent-linux-x64-4.248.0.tar.gz'\n",
        "sum='0f1e'\n",
        "--groups docker azure-agent",
        "--name '/runfleet/azure/token'",
        "update-ca-certificates",
        "ansible-pull --url 'https://git.example.com/ops/finish.git'",
    ] {
        assert!(bootstrap.contains(part), "{part}");
    }
    let unit = file(&data, "/etc/systemd/system/azure-devops-agent.service");
    assert!(
        unit.contains("run.sh --once\n") && unit.contains("Restart=no") && unit.contains("poweroff"),
        "{unit}"
    );
    assert_eq!(
        templates()
            .unread_vars(&azure(&[], azure_full()).pools[0])
            .unwrap(),
        Vec::<String>::new()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A line of an environment file cannot hold every text; what it cannot hold is refused, and never becomes a line
    /// of its own.
    #[test]
    fn any_value_of_a_drone_runner_arrives_exactly_or_is_refused(token in nasty(), volume in nasty(), label in nasty()) {
        let tag = format!("pool={label}");
        let stack = stack_of(DRONE, &[&tag], json!({"volumes": [volume]}));
        if let Ok(text) = rendered_as("a", &stack, "https://h", &token) {
            let data = yaml(&text);
            let env = file(&data, DRONE_ENV);
            let of = |key: &str| {
                let lines: Vec<&str> = env.split('\n').filter_map(|line| line.strip_prefix(key)).collect();
                prop_assert_eq!(lines.len(), 1, "{}", env);
                Ok(lines[0].to_owned())
            };
            prop_assert_eq!(of("DRONE_RPC_SECRET=")?, token);
            prop_assert_eq!(of("DRONE_RUNNER_VOLUMES=")?, volume);
            prop_assert_eq!(of("DRONE_RUNNER_LABELS=")?, format!("pool:{label}"));
            prop_assert_eq!(env.split('\n').count(), 13);
        }
    }

    #[test]
    fn any_value_of_a_circleci_runner_arrives_exactly(token in nasty(), url in nasty(), timeout in nasty()) {
        let stack = stack_of(CIRCLECI, &["acme/linux"], json!({"idle_timeout": timeout}));
        let text = rendered_as("a", &stack, &url, &token).unwrap();
        let data = yaml(&text);
        let config = yaml(file(&data, CIRCLECI_CONFIG));
        prop_assert_eq!(&config["api"], &json!({"auth_token": token, "url": url}));
        prop_assert_eq!(&config["runner"]["idle_timeout"], &json!(timeout));
    }
}

#[test]
fn user_data_is_valid_by_the_official_schema_and_fits() {
    for text in all() {
        assert!(
            text.len() < USER_DATA_LIMIT / 2 && text.len() < EC2_LIMIT,
            "{} bytes",
            text.len()
        );
        let Some(schema) = schema() else { continue };
        let errors: Vec<_> = schema
            .iter_errors(&yaml(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }
}

#[test]
fn user_data_is_valid_by_cloud_init_itself() {
    let folder = tempfile::tempdir().unwrap();
    for (number, text) in all().iter().enumerate() {
        let path = written(folder.path(), &format!("{number}.yaml"), text);
        let Some(output) = tool("cloud-init-schema.sh", &[path.to_str().unwrap()]) else {
            return;
        };
        assert_ran(&output);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Valid") && !said.contains("deprecat"), "{said}");
    }
}

#[test]
fn a_machines_scripts_are_sound_shell() {
    let folder = tempfile::tempdir().unwrap();
    for text in all() {
        let data = yaml(&text);
        let files = data["write_files"].as_array().unwrap();
        let scripts = files.iter().filter(|file| {
            file["content"]
                .as_str()
                .is_some_and(|text| text.starts_with("#!/bin/sh\n"))
        });
        let mut seen = 0;
        for script in scripts {
            seen += 1;
            let path = written(folder.path(), "script", script["content"].as_str().unwrap());
            assert_ran(
                &std::process::Command::new("sh")
                    .arg("-n")
                    .arg(&path)
                    .output()
                    .unwrap(),
            );
            let arguments = ["--shell=sh", "--exclude=SC1091", path.to_str().unwrap()];
            if let Some(output) = tool("shellcheck.sh", &arguments) {
                assert_ran(&output);
            }
        }
        assert!(seen >= 2);
    }
}

#[test]
fn the_units_of_a_machine_are_valid() {
    if !verifier() {
        return;
    }
    for (text, count) in all().iter().zip([2, 2, 4, 4, 5, 5]) {
        let folder = tempfile::tempdir().unwrap();
        let data = yaml(text);
        let units: Vec<_> = data["write_files"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|file| {
                let name = file["path"].as_str()?.strip_prefix("/etc/systemd/system/")?;
                let text = file["content"].as_str()?.to_owned();
                (!name.contains('/')).then(|| (name.to_owned(), text))
            })
            .collect();
        assert_eq!(units.len(), count);
        verify(folder.path(), &units);
    }
}

/// The user data of a launch template: the template's own, of a runner that is named by its instance.
fn launch_template(template: &str, tags: &[&str], url: &str, vars: Value) -> String {
    let stack = stack_of(template, tags, vars);
    let text = rendered_as("{{ v1.instance_id }}", &stack, url, "in-the-parameter-store").unwrap();
    let (head, rest) = text.split_once("\n# {{ v1.instance_id }}: ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    format!(
        "## template: jinja\n{}\n# User data for the launch template of an Auto Scaling group: see docs/cloud-init.md. Written by\n\
         # `BLESS=1 cargo test --test machines launch`.\n{rest}",
        head.trim_end()
    )
}

fn drone_launch_template() -> String {
    let vars = json!({"secret_parameter": "/runfleet/drone/rpc-secret"});
    launch_template(
        DRONE,
        &["os=linux", "arch=amd64"],
        "https://drone.example.com",
        vars,
    )
}

fn circleci_launch_template() -> String {
    let vars = json!({"secret_parameter": "/runfleet/circleci/token", "leave_group": true});
    launch_template(CIRCLECI, &["acme/linux"], "https://runner.circleci.com", vars)
}

#[test]
fn launch_templates_are_as_the_templates_are() {
    for (name, text) in [
        ("drone-runner.yaml", drone_launch_template()),
        ("circleci-runner.yaml", circleci_launch_template()),
    ] {
        let path = root().join("cloud-init/launch-template").join(name);
        if std::env::var_os("BLESS").is_some() {
            fs_err::write(&path, &text).unwrap();
        }
        assert_eq!(
            fs_err::read_to_string(&path).unwrap(),
            text,
            "BLESS=1 writes it anew"
        );
        assert!(text.len() < EC2_LIMIT, "{} bytes", text.len());
        assert!(text.starts_with("## template: jinja\n#cloud-config\n"));
        assert_eq!(
            text.matches("    content: |2\n").count(),
            text.matches("    content: ").count(),
            "a file is to be read by people"
        );
        // Jinja finds in it what it is to find, and nothing else.
        assert_eq!(
            text.matches("{{").count(),
            text.matches("{{ v1.instance_id }}").count()
        );
        assert!(
            text.contains("{{ v1.instance_id }}") && !text.contains("{%") && !text.contains("{#"),
            "{text}"
        );
        let plain = text.replace("{{ v1.instance_id }}", "i-0abc");
        let folder = tempfile::tempdir().unwrap();
        let path = written(
            folder.path(),
            name,
            plain.strip_prefix("## template: jinja\n").unwrap(),
        );
        if let Some(output) = tool("cloud-init-schema.sh", &[path.to_str().unwrap()]) {
            assert_ran(&output);
        }
    }
}

#[cfg(feature = "sandbox")]
mod at_work {
    //! The templates in the sandbox: what they make registers, works and leaves.

    use runfleet::sandbox::{self, Options, Sandbox, Settings};

    use super::*;

    async fn sandbox() -> Sandbox {
        let mut settings = Settings::default();
        settings.set("speed", "0").unwrap();
        sandbox::start(Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: None,
            seed: 7,
            settings,
            scenario: None,
            token: None,
        })
        .await
        .unwrap()
    }

    async fn control(sandbox: &Sandbox, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", sandbox.addresses().control);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.request(method.parse().unwrap(), url).json(&body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let text = answer.bytes().await.unwrap();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    async fn advance(sandbox: &Sandbox, length: &str) {
        control(sandbox, "POST", "/clock", json!({"advance": length})).await;
    }

    async fn machine(sandbox: &Sandbox) -> Value {
        let all = control(sandbox, "GET", "/machines", json!({})).await;
        all["machines"][0].clone()
    }

    /// Boots a machine with this user data, and lets it do the one job that waits.
    async fn lives(sandbox: &Sandbox, user_data: &str, job: Value) -> Value {
        control(sandbox, "POST", "/jobs", job).await;
        control(
            sandbox,
            "POST",
            "/machines",
            json!({"id": "i-0abc", "user_data": user_data}),
        )
        .await;
        advance(sandbox, "20s").await;
        let busy = machine(sandbox).await;
        assert_eq!(
            (&busy["registered"], &busy["running_jobs"]),
            (&json!(true), &json!(1)),
            "{busy}"
        );
        advance(sandbox, "60s").await;
        let world = control(sandbox, "GET", "/world", json!({})).await;
        assert_eq!(
            (&world["jobs"][0]["status"], &world["jobs_killed"]),
            (&json!("success"), &json!(0))
        );
        world["jobs"][0].clone()
    }

    #[tokio::test]
    async fn a_drone_runner_of_the_template_takes_a_stage_and_finishes_it() {
        let sandbox = sandbox().await;
        let addresses = sandbox.addresses().clone();
        let stack = stack_of(DRONE, &["arch=arm64", "pool=a"], json!({}));
        let data = rendered_as("otter", &stack, &addresses.drone, &addresses.drone_rpc_secret).unwrap();
        let job = json!({"ci": "drone", "arch": "arm64", "labels": {"pool": "a"}, "duration": "60s"});
        assert_eq!(lives(&sandbox, &data, job).await["machine"], "otter");
        assert_eq!(machine(&sandbox).await["state"], "running");
    }

    #[tokio::test]
    async fn a_circleci_runner_of_the_template_does_one_task_and_its_machine_goes_off() {
        let sandbox = sandbox().await;
        let addresses = sandbox.addresses().clone();
        let stack = stack_of(CIRCLECI, &["acme/linux"], json!({}));
        let data = rendered_as("otter", &stack, &addresses.circleci, &addresses.token).unwrap();
        let job = json!({"ci": "circleci", "resource_class": "acme/linux", "duration": "60s"});
        assert_eq!(lives(&sandbox, &data, job).await["runner"], "otter");
        advance(&sandbox, "5s").await;
        assert_eq!(machine(&sandbox).await["state"], "off");
    }

    #[tokio::test]
    async fn a_circleci_machine_whose_runner_never_came_up_is_switched_off_by_its_watchdog() {
        let sandbox = sandbox().await;
        let addresses = sandbox.addresses().clone();
        let stack = stack_of(CIRCLECI, &["acme/linux"], json!({"boot_timeout": "3m"}));
        let data = rendered_as("otter", &stack, &addresses.circleci, "of no class").unwrap();
        control(
            &sandbox,
            "POST",
            "/machines",
            json!({"id": "i-0abc", "user_data": data}),
        )
        .await;
        advance(&sandbox, "3m 19s").await;
        let up = machine(&sandbox).await;
        assert_eq!(
            (&up["state"], &up["registered"]),
            (&json!("running"), &json!(false)),
            "{up}"
        );
        advance(&sandbox, "6s").await;
        assert_eq!(machine(&sandbox).await["state"], "off");
    }

    #[tokio::test]
    async fn the_members_of_a_group_name_their_runners_by_their_instances() {
        let sandbox = sandbox().await;
        let addresses = sandbox.addresses().clone();
        let secret = |text: String, secret: &str| text.replace("in-the-parameter-store", secret);
        let (_, host) = addresses.drone.split_once("://").unwrap();
        let data = drone_launch_template()
            .replace("DRONE_RPC_PROTO=https", "DRONE_RPC_PROTO=http")
            .replace("drone.example.com", host);
        let job = json!({"ci": "drone", "duration": "60s"});
        let stage = lives(&sandbox, &secret(data, &addresses.drone_rpc_secret), job).await;
        assert_eq!(stage["machine"], "i-0abc");

        let sandbox = self::sandbox().await;
        let addresses = sandbox.addresses().clone();
        let data = circleci_launch_template().replace("https://runner.circleci.com", &addresses.circleci);
        let job = json!({"ci": "circleci", "resource_class": "acme/linux", "duration": "60s"});
        let task = lives(&sandbox, &secret(data, &addresses.token), job).await;
        assert_eq!(task["runner"], "i-0abc");
        advance(&sandbox, "5s").await;
        assert_eq!(machine(&sandbox).await["state"], "off");
    }
}

/// The folder of launch templates holds these two and nothing else.
#[test]
fn there_is_a_launch_template_for_each_ci_of_groups() {
    let folder: &Path = &root().join("cloud-init/launch-template");
    let mut names: Vec<_> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["circleci-runner.yaml", "drone-runner.yaml"]);
}
