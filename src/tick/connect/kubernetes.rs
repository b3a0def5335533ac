//! From a stack's configuration to a cluster.

use std::{path::Path, sync::Arc};

use super::{ConnectError, Embedded, Trust};
use crate::{
    provider::Provider,
    stack::{ProviderConfig, Stack},
};

#[expect(
    clippy::unused_async,
    reason = "with the provider in the build there is something to await"
)]
pub(super) async fn provider(
    _: &Stack,
    config: &ProviderConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("providers.{} (Kubernetes)", config.name),
        feature: "kubernetes",
    })
}
