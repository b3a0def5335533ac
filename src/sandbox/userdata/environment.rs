//! What a container makes of the variables that its process is started with.
//!
//! | CI | what its variables begin with |
//! |---|---|
//! | Azure DevOps | `AZP_`; `AZP_URL` |
//! | CircleCI | `CIRCLECI_RUNNER_` (machine runner 3), `LAUNCH_AGENT_` (the launch agent before it) |

use std::collections::BTreeMap;

use super::{CircleSetup, Instance, Reading, Setup, azure, parse_length};

/// What the container does once it runs.
pub(crate) fn read(variables: &BTreeMap<String, String>, instance: Instance<'_>) -> Reading {
    let setup = if variables.contains_key("CIRCLECI_RUNNER_API_AUTH_TOKEN") {
        circleci("CIRCLECI_RUNNER_", variables, instance).map(Setup::Circleci)
    } else if variables.contains_key("AZP_URL") {
        azure::container(variables, instance).map(Setup::Azure)
    } else if variables.contains_key("LAUNCH_AGENT_API_AUTH_TOKEN") {
        circleci("LAUNCH_AGENT_", variables, instance).map(Setup::Circleci)
    } else {
        Err("its variables are no runner's".to_owned())
    };
    Reading {
        setup,
        boot_timeout: None,
    }
}

/// The variables of the runner's configuration, as "Machine runner 3 configuration reference" names them. The launch agent's
/// are called alike but for their beginning, and for `RUNNER_` before those of the runner itself ("Self-hosted runner
/// configuration reference").
fn circleci(
    prefix: &str,
    variables: &BTreeMap<String, String>,
    instance: Instance<'_>,
) -> Result<CircleSetup, String> {
    let get = |name: &str| {
        let named = variables.get(&format!("{prefix}{name}"));
        named.or_else(|| variables.get(&format!("{prefix}RUNNER_{name}")))
    };
    let single_task = match get("MODE").map(String::as_str) {
        None | Some("continuous") => false,
        Some("single-task") => true,
        Some(other) => return Err(format!("{prefix}MODE: there is no {other}")),
    };
    let idle_timeout = match get("IDLE_TIMEOUT") {
        None => None,
        Some(text) => Some(
            parse_length(text)
                .ok_or_else(|| format!("{prefix}IDLE_TIMEOUT: {text:?} is no length of time"))?,
        ),
    };
    let url = get("API_URL").map_or("https://runner.circleci.com", String::as_str);
    Ok(CircleSetup {
        url: url.trim_end_matches('/').to_owned(),
        resource_token: get("API_AUTH_TOKEN").cloned().unwrap_or_default(),
        name: Some(get("NAME").cloned().unwrap_or_else(|| instance.name.to_owned())),
        single_task,
        idle_timeout: idle_timeout.filter(|length| !length.is_zero()),
        // A container is over when its process is.
        powers_off: true,
    })
}
