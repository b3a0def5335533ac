//! What a booting machine makes of its own user data.
//!
//! The sandbox looks only at what decides whether a runner comes up: a `#cloud-config`, the file
//! `/etc/gitlab-runner/config.toml` among its `write_files`, and a `runcmd` that starts gitlab-runner. A step that
//! unregisters at shutdown may stand anywhere in it.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// Where gitlab-runner reads its configuration.
const CONFIG_PATH: &str = "/etc/gitlab-runner/config.toml";
/// Where gitlab-runner keeps what tells it from others with the same token.
const SYSTEM_ID_PATH: &str = "/etc/gitlab-runner/.runner_system_id";

/// The runner that a machine starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunnerSetup {
    /// Jobs at a time.
    pub(crate) concurrent: u32,
    /// The GitLab that it asks, without a trailing slash.
    pub(crate) url: String,
    /// Its authentication token.
    pub(crate) token: String,
    pub(crate) executor: String,
    /// Whether it unregisters when the machine shuts down.
    pub(crate) unregisters: bool,
    /// What it calls itself, where its user data says so in the form that gitlab-runner takes.
    #[serde(default)]
    pub(crate) system_id: Option<String>,
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

#[derive(Deserialize)]
struct RunnerConfig {
    #[serde(default = "one")]
    concurrent: u32,
    #[serde(default)]
    runners: Vec<RunnerSection>,
}

#[derive(Deserialize)]
struct RunnerSection {
    url: String,
    token: String,
    #[serde(default)]
    executor: String,
}

fn one() -> u32 {
    1
}

/// The runner that this user data starts, or why it starts none, for the world's report.
pub(crate) fn parse(user_data: &str) -> Result<RunnerSetup, String> {
    if user_data.lines().next().map(str::trim_end) != Some("#cloud-config") {
        return Err("the user data is no cloud-config".to_owned());
    }
    let config: CloudConfig = serde_saphyr::from_str(user_data)
        .map_err(|error| format!("the cloud-config is no valid YAML: {error}"))?;
    let file = config
        .write_files
        .iter()
        .find(|file| file.path == CONFIG_PATH)
        .ok_or_else(|| format!("write_files has no {CONFIG_PATH}"))?;
    if !config.runcmd.iter().any(|step| match step {
        Step::Line(line) => line.contains("gitlab-runner"),
        Step::Words(words) => words.iter().any(|word| word.contains("gitlab-runner")),
    }) {
        return Err("no step of runcmd starts gitlab-runner".to_owned());
    }
    let text = content(file)?;
    let runner: RunnerConfig =
        toml::from_str(&text).map_err(|error| format!("{CONFIG_PATH}: {}", error.message()))?;
    let section = runner
        .runners
        .first()
        .ok_or_else(|| format!("{CONFIG_PATH} has no [[runners]]"))?;
    Ok(RunnerSetup {
        concurrent: runner.concurrent,
        url: section.url.trim_end_matches('/').to_owned(),
        token: section.token.clone(),
        executor: section.executor.clone(),
        system_id: config
            .write_files
            .iter()
            .find(|file| file.path == SYSTEM_ID_PATH)
            .and_then(|file| content(file).ok())
            .map(|text| text.trim().to_owned())
            .filter(|id| is_system_id(id)),
        unregisters: user_data.contains("unregister")
            || config
                .write_files
                .iter()
                .any(|file| content(file).is_ok_and(|text| text.contains("unregister"))),
    })
}

/// As `common/system_id_state.go` of gitlab-runner has it: anything else is replaced by an id of its own making.
fn is_system_id(text: &str) -> bool {
    let rest = text.strip_prefix("s_").or_else(|| text.strip_prefix("r_"));
    rest.is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
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
}
