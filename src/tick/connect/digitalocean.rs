//! To be connected.

use crate::{provider::Provider, stack::ProviderConfig};
use std::{path::Path, sync::Arc};

use super::{ConnectError, Embedded, Trust};

#[expect(clippy::unused_async, reason = "to come")]
pub(super) async fn provider(
    config: &ProviderConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("providers.{}", config.name),
        feature: "digitalocean",
    })
}
