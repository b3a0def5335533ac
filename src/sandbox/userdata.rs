//! What a booting machine makes of its own user data.
//!
//! The sandbox looks only at what decides whether a runner comes up: a `#cloud-config` with one CI's configuration file
//! among its `write_files`, and a `runcmd` that starts its runner.
//!
//! | CI | file | what the step of `runcmd` names |
//! |---|---|---|
//! | GitLab | `/etc/gitlab-runner/config.toml` | `gitlab-runner` |
//! | Drone | `/etc/drone-runner-docker.env` | `drone-runner-docker` |
//! | CircleCI | `/etc/circleci-runner/circleci-runner-config.yaml` | `circleci-runner` |
//! | Azure DevOps | `/etc/azure-devops-agent.env` | `azure-devops-agent` |
//!
//! A step that unregisters at shutdown may stand anywhere in it. User data that begins with `## template: jinja` is
//! rendered first, as cloud-init does, with `v1.instance_id` and `v1.local_hostname` alone.

mod azure;
mod circleci;
mod drone;
pub(crate) mod environment;
mod gitlab;
mod gzip;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::settings::parse_length;

pub(crate) use azure::{AzureSetup, Removes};
pub(crate) use circleci::CircleSetup;
pub(crate) use drone::DroneSetup;
pub(crate) use gitlab::RunnerSetup;
pub(crate) use gzip::unpack;

/// The timer that switches a machine off whose runner never came up.
const WATCHDOG_PATH: &str = "/etc/systemd/system/runfleet-watchdog.timer";

/// The runner that a machine starts. Told apart by their fields in the world's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setup {
    Gitlab(RunnerSetup),
    Drone(DroneSetup),
    Circleci(CircleSetup),
    Azure(AzureSetup),
}

impl Setup {
    /// Whether the runner unregisters when its machine shuts down.
    pub(crate) fn unregisters(&self) -> bool {
        matches!(self, Self::Gitlab(setup) if setup.unregisters)
    }
}

/// What a machine is told of itself by its cloud.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance<'a> {
    /// Its id in the cloud.
    pub(crate) id: &'a str,
    /// Its host name.
    pub(crate) name: &'a str,
}

/// What user data amounts to.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The runner that it starts, or why it starts none, for the world's report.
    pub(crate) setup: Result<Setup, String>,
    /// The machine switches itself off when no runner came up so long after the boot.
    pub(crate) boot_timeout: Option<SignedDuration>,
}

#[derive(Deserialize)]
struct CloudConfig {
    #[serde(default)]
    write_files: Vec<WriteFile>,
    #[serde(default)]
    runcmd: Vec<Step>,
}

#[derive(Deserialize)]
struct WriteFile {
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Line(String),
    Words(Vec<String>),
}

impl CloudConfig {
    fn file(&self, path: &str) -> Option<&WriteFile> {
        self.write_files.iter().find(|file| file.path == path)
    }

    /// The text of a file that must be there.
    fn text(&self, path: &str) -> Result<String, String> {
        content(
            self.file(path)
                .ok_or_else(|| format!("write_files has no {path}"))?,
        )
    }

    /// Holds when a step of `runcmd` starts this runner.
    fn starts(&self, runner: &str) -> Result<(), String> {
        let starts = self.runcmd.iter().any(|step| match step {
            Step::Line(line) => line.contains(runner),
            Step::Words(words) => words.iter().any(|word| word.contains(runner)),
        });
        if starts {
            Ok(())
        } else {
            Err(format!("no step of runcmd starts {runner}"))
        }
    }

    /// Whether a file whose path begins so has one of these words.
    fn says(&self, path: &str, words: &[&str]) -> bool {
        self.write_files
            .iter()
            .filter(|file| file.path.starts_with(path))
            .filter_map(|file| content(file).ok())
            .any(|text| words.iter().any(|word| text.contains(word)))
    }

    fn boot_timeout(&self) -> Option<SignedDuration> {
        let timer = self.text(WATCHDOG_PATH).ok()?;
        let after = timer
            .lines()
            .find_map(|line| line.trim().strip_prefix("OnBootSec="))?;
        parse_length(after)
    }
}

/// What the machine does at its first boot.
pub(crate) fn read(user_data: &str, instance: Instance<'_>) -> Reading {
    let config = rendered(user_data, instance).and_then(|text| {
        if text.lines().next().map(str::trim_end) != Some("#cloud-config") {
            return Err("the user data is no cloud-config".to_owned());
        }
        serde_saphyr::from_str::<CloudConfig>(&text)
            .map_err(|error| format!("the cloud-config is no valid YAML: {error}"))
            .map(|config| (config, text))
    });
    match config {
        Ok((config, text)) => Reading {
            boot_timeout: config.boot_timeout(),
            setup: setup(&config, &text),
        },
        Err(problem) => Reading {
            setup: Err(problem),
            boot_timeout: None,
        },
    }
}

fn setup(config: &CloudConfig, text: &str) -> Result<Setup, String> {
    if config.file(drone::CONFIG_PATH).is_some() {
        drone::parse(config).map(Setup::Drone)
    } else if config.file(circleci::CONFIG_PATH).is_some() {
        circleci::parse(config).map(Setup::Circleci)
    } else if config.file(azure::CONFIG_PATH).is_some() {
        azure::parse(config).map(Setup::Azure)
    } else {
        gitlab::parse(config, text).map(Setup::Gitlab)
    }
}

/// The user data as cloud-init goes on with it: what is no template stays as it is.
fn rendered(user_data: &str, instance: Instance<'_>) -> Result<String, String> {
    let Some(rest) = user_data.strip_prefix("## template: jinja") else {
        return Ok(user_data.to_owned());
    };
    let mut text = String::new();
    let mut rest = rest
        .trim_start_matches([' ', '\t', '\r'])
        .trim_start_matches('\n');
    while let Some((before, tail)) = rest.split_once("{{") {
        let (expression, tail) = tail
            .split_once("}}")
            .ok_or("a {{ of the jinja template is not closed")?;
        text.push_str(before);
        text.push_str(match expression.trim() {
            "v1.instance_id" => instance.id,
            "v1.local_hostname" => instance.name,
            other => return Err(format!("the sandbox knows no {other} for a jinja template")),
        });
        rest = tail;
    }
    text.push_str(rest);
    Ok(text)
}

fn content(file: &WriteFile) -> Result<String, String> {
    match file.encoding.as_deref() {
        None | Some("text/plain") => Ok(file.content.clone()),
        Some("b64" | "base64") => {
            let packed: String = file.content.split_whitespace().collect();
            STANDARD
                .decode(packed)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| format!("{}: its content is no base64 of text", file.path))
        }
        Some(other) => Err(format!("{}: the sandbox cannot read encoding {other}", file.path)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const INSTANCE: Instance<'_> = Instance {
        id: "i-0abc",
        name: "ip-10-0-0-5",
    };

    fn setup_of(user_data: &str) -> Result<Setup, String> {
        read(user_data, INSTANCE).setup
    }

    fn parse(user_data: &str) -> Result<RunnerSetup, String> {
        match setup_of(user_data)? {
            Setup::Gitlab(setup) => Ok(setup),
            other => panic!("{other:?}"),
        }
    }

    /// User data as a template would render it.
    pub(crate) fn example(url: &str, token: &str, concurrent: u32) -> String {
        format!(
            "#cloud-config\nwrite_files:\n  - path: /etc/gitlab-runner/config.toml\n    permissions: \"0600\"\n    content: |\n      concurrent = {concurrent}\n      check_interval = 3\n      [[runners]]\n        name = \"x\"\n        url = \"{url}\"\n        token = \"{token}\"\n        executor = \"docker\"\n        [runners.docker]\n          image = \"alpine\"\nruncmd:\n  - [systemctl, enable, --now, gitlab-runner]\n  - echo done\n"
        )
    }

    #[test]
    fn a_rendered_template_starts_its_runner() {
        let setup = parse(&example("http://127.0.0.1:1/gitlab/", "glrt-abc", 2)).unwrap();
        assert_eq!(setup.concurrent, 2);
        assert_eq!(setup.url, "http://127.0.0.1:1/gitlab");
        assert_eq!(setup.token, "glrt-abc");
        assert!(!setup.unregisters);
    }

    #[test]
    fn base64_is_unpacked() {
        let toml =
            "concurrent = 3\n[[runners]]\nurl = \"http://h\"\ntoken = \"glrt-x\"\nexecutor = \"shell\"\n";
        let data = format!(
            "#cloud-config\nwrite_files:\n- {{path: /etc/gitlab-runner/config.toml, encoding: b64, content: {}}}\nruncmd: [\"gitlab-runner start\"]\n",
            STANDARD.encode(toml)
        );
        assert_eq!(parse(&data).unwrap().concurrent, 3);
    }

    #[test]
    fn json_written_by_a_filter_is_yaml_too() {
        let data = "#cloud-config\n{\"write_files\":[{\"path\":\"/etc/gitlab-runner/config.toml\",\"content\":\"[[runners]]\\nurl=\\\"http://h\\\"\\ntoken=\\\"t\\\"\\n\"}],\"runcmd\":[[\"gitlab-runner\",\"start\"]]}";
        assert_eq!(parse(data).unwrap().token, "t");
    }

    #[test]
    fn each_broken_part_is_named() {
        let good = example("http://h", "glrt-abc", 1);
        for (data, why) in [
            (good.replace("#cloud-config", "#!/bin/sh"), "no cloud-config"),
            (
                good.replace("gitlab-runner/config.toml", "gitlab-runner/other.toml"),
                "write_files has no",
            ),
            (good.replace("--now, gitlab-runner", "--now, docker"), "runcmd"),
            (
                good.replace("token = \"glrt-abc\"", "tokn = \"glrt-abc\""),
                "missing field `token`",
            ),
            (
                good.replace("write_files:\n", "write_files: [\n"),
                "no valid YAML",
            ),
        ] {
            let error = parse(&data).unwrap_err();
            assert!(error.contains(why), "{error} lacks {why}");
        }
    }

    /// User data of a Drone runner; further lines of its file after the three that it needs.
    pub(crate) fn drone_example(url: &str, secret: &str, lines: &[&str]) -> String {
        let (proto, host) = url.split_once("://").unwrap();
        let more = lines
            .iter()
            .fold(String::new(), |text, line| text + "\n      " + line);
        format!(
            "#cloud-config\nwrite_files:\n  - path: /etc/drone-runner-docker.env\n    permissions: \"0600\"\n    content: |\n      # The runner's.\n      DRONE_RPC_PROTO={proto}\n      DRONE_RPC_HOST={host}\n      DRONE_RPC_SECRET={secret}{more}\nruncmd:\n  - systemctl enable --now drone-runner-docker.service\n"
        )
    }

    /// User data of a CircleCI machine runner, whose machine goes off with it.
    pub(crate) fn circle_example(url: &str, token: &str, runner: &str) -> String {
        format!(
            "#cloud-config\nwrite_files:\n  - path: /etc/circleci-runner/circleci-runner-config.yaml\n    content: |\n      api:\n        url: {url}\n        auth_token: {token}\n      runner: {runner}\n  - path: /etc/systemd/system/circleci-runner.service.d/runfleet.conf\n    content: |\n      [Service]\n      Restart=no\n      ExecStopPost=+/usr/bin/systemctl poweroff\n  - path: /etc/systemd/system/runfleet-watchdog.timer\n    content: |\n      [Timer]\n      OnBootSec=10m\nruncmd:\n  - systemctl start circleci-runner.service\n"
        )
    }

    #[test]
    fn a_drone_runner_is_read_from_its_environment() {
        let lines = [
            "DRONE_RUNNER_NAME=a b",
            "DRONE_RUNNER_CAPACITY=3",
            "DRONE_RUNNER_LABELS=pool:a,size:big",
            "DRONE_PLATFORM_ARCH=arm64",
        ];
        let Setup::Drone(setup) =
            setup_of(&drone_example("http://127.0.0.1:1/drone", "s=1", &lines)).unwrap()
        else {
            panic!();
        };
        assert_eq!(setup.url, "http://127.0.0.1:1/drone");
        assert_eq!((setup.rpc_secret.as_str(), setup.capacity), ("s=1", 3));
        assert_eq!(setup.name.as_deref(), Some("a b"));
        assert_eq!((setup.os.as_str(), setup.arch.as_str()), ("linux", "arm64"));
        let labels: Vec<_> = setup.labels.into_iter().collect();
        assert_eq!(
            labels,
            [("pool", "a"), ("size", "big")].map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_a_drone_runner_lacks_is_named() {
        let good = drone_example("http://h/drone", "s", &[]);
        for (data, why) in [
            (good.replace("DRONE_RPC_SECRET=s", ""), "DRONE_RPC_SECRET"),
            (good.replace("DRONE_RPC_HOST", "DRONE_HOST"), "DRONE_RPC_HOST"),
            (
                good.replace("enable --now drone-runner-docker", "enable --now docker"),
                "runcmd",
            ),
            (
                good.replace("DRONE_RPC_PROTO=http", "DRONE_RUNNER_CAPACITY=many"),
                "DRONE_RUNNER_CAPACITY",
            ),
        ] {
            let error = setup_of(&data).unwrap_err();
            assert!(error.contains(why), "{error} lacks {why}");
        }
    }

    #[test]
    fn a_circleci_runner_is_read_from_its_configuration() {
        let data = circle_example(
            "http://h/circleci/",
            "t",
            "{name: a, mode: single-task, idle_timeout: 1h30m}",
        );
        let reading = read(&data, INSTANCE);
        assert_eq!(reading.boot_timeout, Some(SignedDuration::from_mins(10)));
        let Setup::Circleci(setup) = reading.setup.unwrap() else {
            panic!();
        };
        assert_eq!(setup.url, "http://h/circleci");
        assert_eq!(
            (setup.resource_token.as_str(), setup.name.as_deref()),
            ("t", Some("a"))
        );
        assert!(setup.single_task && setup.powers_off);
        assert_eq!(setup.idle_timeout, Some(SignedDuration::from_mins(90)));
        let Setup::Circleci(setup) = setup_of(
            &data
                .replace("poweroff", "status")
                .replace("single-task", "continuous"),
        )
        .unwrap() else {
            panic!();
        };
        assert!(!setup.single_task && !setup.powers_off);
        let error = setup_of(&data.replace("single-task", "once")).unwrap_err();
        assert!(error.contains("runner.mode"), "{error}");
    }

    #[test]
    fn a_jinja_template_learns_who_the_machine_is_and_nothing_else() {
        let plain = drone_example(
            "http://h",
            "s",
            &["DRONE_RUNNER_NAME={{ v1.instance_id }}@{{v1.local_hostname}}"],
        );
        let name = |data: &str| match setup_of(data) {
            Ok(Setup::Drone(setup)) => setup.name.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            name(&format!("## template: jinja\n{plain}")),
            "i-0abc@ip-10-0-0-5"
        );
        assert_eq!(name(&plain), "{{ v1.instance_id }}@{{v1.local_hostname}}");
        let other = plain.replace("v1.instance_id", "v1.region");
        let error = setup_of(&format!("## template: jinja\n{other}")).unwrap_err();
        assert!(error.contains("v1.region"), "{error}");
    }
}
