//! From a stack's configuration to Amazon's clients.

use std::{path::Path, sync::Arc};

use super::{ConnectError, Trust};
use crate::{
    provider::Provider,
    stack::{ProviderConfig, Stack},
};

/// The client of a provider of Amazon's.
#[expect(clippy::unused_async, reason = "with the feature there is something to await")]
pub(super) async fn provider(
    _: &Stack,
    config: &ProviderConfig,
    _: &Path,
    _: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("providers.{} ({})", config.name, config.kind.as_str()),
        feature: "aws",
    })
}
