//! Connects DigitalOcean.

use std::{path::Path, sync::Arc};

use super::{ConnectError, Embedded, Trust};
use crate::{provider::Provider, stack::ProviderConfig};

#[cfg(feature = "digitalocean")]
pub(super) async fn provider(
    config: &ProviderConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    use super::{CALL, RETRIES, TOTAL, allowed, base_url, ca_pem, token};
    use crate::{
        net::{Auth, ClientConfig},
        provider::digitalocean::{Digitalocean, ENDPOINT, REQUESTS_PER_HOUR},
    };

    let place = format!("providers.{}", config.name);
    let base = base_url(
        &config.endpoint,
        ENDPOINT,
        embedded.map(|at| at.digitalocean.as_str()),
    )?;
    allowed(trust, &base, &format!("{place}.endpoint"))?;
    let token = token(
        config.token.as_ref(),
        &config.endpoint,
        embedded,
        &place,
        folder,
        trust,
    )
    .await?;
    let client = ClientConfig {
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
        call_timeout: CALL,
        total_timeout: TOTAL,
        retries: RETRIES,
        requests_per_hour: Some(config.requests_per_hour.unwrap_or(REQUESTS_PER_HOUR)),
        ..ClientConfig::new(base, Auth::Bearer(token))
    };
    let made = Digitalocean::new(config.name.clone(), client, config.concurrency);
    let provider = made.map_err(|source| ConnectError::Provider {
        name: config.name.to_string(),
        source,
    })?;
    Ok(Arc::new(provider))
}

#[cfg(not(feature = "digitalocean"))]
#[expect(
    clippy::unused_async,
    reason = "with the provider in the build there is something to await"
)]
pub(super) async fn provider(
    config: &ProviderConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("providers.{} (DigitalOcean)", config.name),
        feature: "digitalocean",
    })
}
