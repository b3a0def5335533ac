//! From a stack's configuration to Azure DevOps.

use std::path::Path;

use super::{ConnectError, Embedded, Trust, ci::Both};
use crate::{
    demand::DemandError,
    stack::{CiConfig, Stack},
};

#[expect(clippy::unused_async, reason = "with the client there is something to await")]
pub(super) async fn connect(
    _: &Stack,
    config: &CiConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Both, ConnectError> {
    Err(ConnectError::Ci {
        name: config.name.to_string(),
        source: DemandError::Rejected {
            why: "Azure DevOps is not in this build".to_owned(),
        },
    })
}
