//! Azure DevOps' agent: its environment on a machine or in a container, with the variables that the vendor's own container
//! script is told by.
//!
//! | variable | meaning |
//! |---|---|
//! | `AZP_URL`, `AZP_TOKEN` | the organisation, and a token that may register agents; both are needed |
//! | `AZP_POOL` | the agent pool; without, `Default` |
//! | `AZP_AGENT_NAME` | the agent's name; without, the host's |
//! | `AZP_ONCE` | `true` or `1`: it ends after one job; without, in a container |
//! | `AZP_REMOVES` | when it removes its registration: `never`, when `asked` to end (without, in a container), or whenever it `ends` |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CloudConfig, Instance, content};

pub(super) const CONFIG_PATH: &str = "/etc/azure-devops-agent.env";
/// What of its environment is no secret.
const CAPABILITIES_PATH: &str = "/etc/azure-devops-agent.capabilities";
const REMOVING_PATH: &str = "/etc/systemd/system/runfleet-unregister.service";
const UNIT_PATH: &str = "/etc/systemd/system/azure-devops-agent.service";
const PROGRAM: &str = "azure-devops-agent";
/// What an agent keeps from its capabilities, as the vendor's script tells it to.
const IGNORED: [&str; 2] = ["AZP_TOKEN", "AZP_TOKEN_FILE"];

/// When an agent removes its own registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Removes {
    Never,
    /// When it is asked to end.
    Asked,
    /// Whenever it ends in order.
    Ends,
}

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AzureSetup {
    /// Without a slash at its end.
    pub(crate) organization_url: String,
    pub(crate) pat: String,
    pub(crate) pool: String,
    pub(crate) name: Option<String>,
    /// It ends after one job.
    pub(crate) once: bool,
    pub(crate) removes: Removes,
    /// Its machine goes off when it ends.
    pub(crate) powers_off: bool,
    /// Of its environment what it tells: every variable is a capability.
    pub(crate) capabilities: BTreeMap<String, String>,
}

/// An agent that a machine starts by a unit. What is appended to its environment is a file of its own.
pub(super) fn parse(config: &CloudConfig) -> Result<AzureSetup, String> {
    let text = config.text(CONFIG_PATH)?;
    config.starts(PROGRAM)?;
    let told = config.file(CAPABILITIES_PATH).map(content).transpose()?;
    let once = config.says(UNIT_PATH, &["--once"]);
    // Its unit is stopped whenever the machine goes off in order.
    let removes = if config.says(REMOVING_PATH, &["runfleet/unregister"]) {
        Removes::Ends
    } else {
        Removes::Never
    };
    let mut setup = of(&variables(CONFIG_PATH, &text)?, once, removes)
        .map_err(|problem| format!("{CONFIG_PATH}: {problem}"))?;
    setup.capabilities = variables(CAPABILITIES_PATH, &told.unwrap_or_default())?;
    setup.powers_off = config.says(UNIT_PATH, &["poweroff", "shutdown", "runfleet/leave"]);
    Ok(setup)
}

/// The lines of a file of `KEY=VALUE`, as they stand.
fn variables(path: &str, text: &str) -> Result<BTreeMap<String, String>, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("{path}: a line is no KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// An agent that is a container's process. The container is over when it is.
pub(super) fn container(
    variables: &BTreeMap<String, String>,
    instance: Instance<'_>,
) -> Result<AzureSetup, String> {
    let mut setup = of(variables, true, Removes::Asked)?;
    setup.powers_off = true;
    setup.name.get_or_insert_with(|| instance.name.to_owned());
    Ok(setup)
}

fn of(variables: &BTreeMap<String, String>, once: bool, removes: Removes) -> Result<AzureSetup, String> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let needed = |name: &str| get(name).cloned().ok_or_else(|| format!("{name} is missing"));
    let once = match get("AZP_ONCE").map(String::as_str) {
        None => once,
        Some("true" | "1") => true,
        Some("false" | "0") => false,
        Some(other) => return Err(format!("AZP_ONCE: {other} is neither true nor false")),
    };
    let removes = match get("AZP_REMOVES").map(String::as_str) {
        None => removes,
        Some("never") => Removes::Never,
        Some("asked") => Removes::Asked,
        Some("ends") => Removes::Ends,
        Some(other) => return Err(format!("AZP_REMOVES: there is no {other}")),
    };
    Ok(AzureSetup {
        organization_url: needed("AZP_URL")?.trim_end_matches('/').to_owned(),
        pat: needed("AZP_TOKEN")?,
        pool: get("AZP_POOL").cloned().unwrap_or_else(|| "Default".to_owned()),
        name: get("AZP_AGENT_NAME").cloned(),
        once,
        removes,
        powers_off: false,
        capabilities: variables
            .iter()
            .filter(|(key, _)| !IGNORED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}
