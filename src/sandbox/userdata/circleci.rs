//! A CircleCI machine runner: `circleci-runner-config.yaml`, with its own defaults ("Machine runner 3 configuration
//! reference").

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{super::settings::parse_length, CloudConfig};

/// Where circleci-runner reads its configuration.
pub(super) const CONFIG_PATH: &str = "/etc/circleci-runner/circleci-runner-config.yaml";
/// Its unit and what is added to that.
const UNIT_PATH: &str = "/etc/systemd/system/circleci-runner.service";

/// The runner that a machine starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CircleSetup {
    /// The CircleCI that it asks, without a trailing slash.
    pub(crate) url: String,
    /// Its resource class's token.
    pub(crate) resource_token: String,
    /// Without, the machine's host name.
    pub(crate) name: Option<String>,
    /// It ends after one task; otherwise it goes on.
    pub(crate) single_task: bool,
    /// It ends when it claimed nothing for so long.
    pub(crate) idle_timeout: Option<SignedDuration>,
    /// The machine goes off when the runner ends; otherwise systemd starts the runner again.
    pub(crate) powers_off: bool,
}

#[derive(Deserialize)]
struct Config {
    api: Api,
    #[serde(default)]
    runner: Runner,
}

#[derive(Deserialize)]
struct Api {
    auth_token: String,
    #[serde(default)]
    url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Runner {
    name: Option<String>,
    mode: Option<String>,
    idle_timeout: Option<String>,
}

pub(super) fn parse(config: &CloudConfig) -> Result<CircleSetup, String> {
    let text = config.text(CONFIG_PATH)?;
    config.starts("circleci-runner")?;
    let Config { api, runner } =
        serde_saphyr::from_str(&text).map_err(|error| format!("{CONFIG_PATH}: {error}"))?;
    let single_task = match runner.mode.as_deref() {
        None | Some("continuous") => false,
        Some("single-task") => true,
        Some(other) => return Err(format!("{CONFIG_PATH}: runner.mode: there is no {other}")),
    };
    let idle_timeout = runner
        .idle_timeout
        .map(|text| {
            parse_length(&text)
                .ok_or_else(|| format!("{CONFIG_PATH}: runner.idle_timeout: {text:?} is no length of time"))
        })
        .transpose()?
        .filter(|length| !length.is_zero());
    let url = api
        .url
        .unwrap_or_else(|| "https://runner.circleci.com".to_owned());
    Ok(CircleSetup {
        url: url.trim_end_matches('/').to_owned(),
        resource_token: api.auth_token,
        name: runner.name,
        single_task,
        idle_timeout,
        powers_off: config.says(UNIT_PATH, &["poweroff", "shutdown", "runfleet/leave"]),
    })
}
