//! From a stack's configuration to the clients of Drone and CircleCI.

use std::{path::Path, sync::Arc};

use super::{ConnectError, Embedded, Trust};
use crate::{
    demand::{Demand, RunnerControl},
    stack::{CiConfig, Stack},
};

/// A CI's client, to read and to write.
pub(super) type Both = (Arc<dyn Demand>, Arc<dyn RunnerControl>);

/// The client of a CI that is no GitLab.
#[expect(clippy::unused_async, reason = "with a client there is something to await")]
pub(super) async fn connect(
    _: &Stack,
    config: &CiConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Both, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("ci.{} ({})", config.name, config.kind.as_str()),
        feature: "default",
    })
}
