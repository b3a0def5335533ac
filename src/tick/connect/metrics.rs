//! To be connected.

use std::path::Path;

use super::{ConnectError, Embedded, Trust, ci::Both};
use crate::stack::{CiConfig, Stack};

#[expect(clippy::unused_async, reason = "to come")]
pub(super) async fn connect(
    _: &Stack,
    config: &CiConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Both, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("ci.{}", config.name),
        feature: "metrics",
    })
}
