//! A Drone runner: the environment of drone-runner-docker, with its own defaults (`command/daemon/config.go`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CloudConfig;

/// The environment that the runner's container is started with.
pub(super) const CONFIG_PATH: &str = "/etc/drone-runner-docker.env";

/// The runner that a machine starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DroneSetup {
    /// The Drone that it asks, without a trailing slash.
    pub(crate) url: String,
    pub(crate) rpc_secret: String,
    /// Without, the machine's host name.
    pub(crate) name: Option<String>,
    /// Stages at a time.
    pub(crate) capacity: u32,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) variant: String,
    pub(crate) kernel: String,
    pub(crate) labels: BTreeMap<String, String>,
}

pub(super) fn parse(config: &CloudConfig) -> Result<DroneSetup, String> {
    let text = config.text(CONFIG_PATH)?;
    config.starts("drone-runner-docker")?;
    let given: BTreeMap<&str, &str> = text
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let value = |key: &str| given.get(key).copied();
    let required = |key: &str| value(key).ok_or_else(|| format!("{CONFIG_PATH} has no {key}"));
    let or = |key: &str, default: &str| value(key).unwrap_or(default).to_owned();
    let proto = value("DRONE_RPC_PROTO").unwrap_or("http");
    Ok(DroneSetup {
        url: format!("{proto}://{}", required("DRONE_RPC_HOST")?.trim_end_matches('/')),
        rpc_secret: required("DRONE_RPC_SECRET")?.to_owned(),
        name: value("DRONE_RUNNER_NAME").map(str::to_owned),
        capacity: or("DRONE_RUNNER_CAPACITY", "2")
            .parse()
            .map_err(|_| format!("{CONFIG_PATH}: DRONE_RUNNER_CAPACITY is no number"))?,
        os: or("DRONE_PLATFORM_OS", "linux"),
        arch: or("DRONE_PLATFORM_ARCH", "amd64"),
        variant: or("DRONE_PLATFORM_VARIANT", ""),
        kernel: or("DRONE_PLATFORM_KERNEL", ""),
        labels: labels(value("DRONE_RUNNER_LABELS").unwrap_or_default())?,
    })
}

/// `key:value,key:value`.
fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair
                .split_once(':')
                .ok_or_else(|| format!("{CONFIG_PATH}: DRONE_RUNNER_LABELS: {pair:?} is no key:value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
