//! A GitLab runner: `config.toml`, and the id that tells it from others with the same token.

use serde::{Deserialize, Serialize};

use super::{CloudConfig, content};

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

pub(super) fn parse(config: &CloudConfig, user_data: &str) -> Result<RunnerSetup, String> {
    let text = config.text(CONFIG_PATH)?;
    config.starts("gitlab-runner")?;
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
            .file(SYSTEM_ID_PATH)
            .and_then(|file| content(file).ok())
            .map(|text| text.trim().to_owned())
            .filter(|id| is_system_id(id)),
        unregisters: user_data.contains("unregister") || config.says("", &["unregister"]),
    })
}

/// As `common/system_id_state.go` of gitlab-runner has it: anything else is replaced by an id of its own making.
fn is_system_id(text: &str) -> bool {
    let rest = text.strip_prefix("s_").or_else(|| text.strip_prefix("r_"));
    rest.is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
