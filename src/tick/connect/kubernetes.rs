//! From a stack's configuration to a cluster.

use std::{path::Path, sync::Arc};

use super::{ConnectError, Embedded, Trust};
use crate::{
    provider::Provider,
    stack::{ProviderConfig, Stack},
};

/// The client of a cluster: by an address with a token where the stack file has an `endpoint`, else by a kubeconfig or the pod's own
/// account. A kubeconfig's plug-in is a program: an untrusted stack runs none.
#[cfg(feature = "kubernetes")]
pub(super) async fn provider(
    stack: &Stack,
    config: &ProviderConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    use super::{CALL, RETRIES, TOTAL, allowed, base_url, ca_pem, token};
    use crate::{
        model::money::Currency,
        net::{Auth, ClientConfig},
        provider::{
            ProviderError,
            kubernetes::{Access, AccessError, Kubeconfig, Kubernetes, Options, PAGE},
        },
        stack::Endpoint,
    };

    let place = format!("providers.{}", config.name);
    let failed = |error: AccessError| ConnectError::Provider {
        name: config.name.to_string(),
        source: match error {
            AccessError::Credential(why) => ProviderError::Unauthorized { why },
            error => ProviderError::Rejected {
                code: "configuration".to_owned(),
                why: error.to_string(),
            },
        },
    };
    let home = config.kubernetes.clone().unwrap_or_default();
    let access = if config.endpoint == Endpoint::Default {
        let file = home.kubeconfig.as_ref().map(|file| folder.join(file));
        let from = match &file {
            _ if home.in_cluster => Kubeconfig::InCluster,
            Some(file) => Kubeconfig::File(file),
            None => Kubeconfig::Usual,
        };
        let programs = *trust == Trust::Full;
        let access = Access::of_kubeconfig(from, home.context.as_deref(), programs).await;
        access.map_err(failed)?
    } else {
        let base = base_url(&config.endpoint, "", embedded.map(|at| at.kubernetes.as_str()))?;
        let token = token(
            config.token.as_ref(),
            &config.endpoint,
            embedded,
            &place,
            folder,
            trust,
        )
        .await?;
        Access::of_token(&base, token).map_err(failed)?
    };
    allowed(trust, &access.address(), &format!("{place}.endpoint"))?;
    let client = ClientConfig {
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
        call_timeout: CALL,
        total_timeout: TOTAL,
        retries: RETRIES,
        requests_per_hour: config.requests_per_hour,
        concurrency: config.concurrency,
        ..ClientConfig::new("", Auth::None)
    };
    let client = access.client(client).await.map_err(failed)?;
    let mut choices = Vec::new();
    for pool in &stack.pools {
        let own = pool.offerings.iter().enumerate();
        let own = own.filter(|(_, choice)| choice.provider == config.name);
        choices.extend(own.map(|(index, choice)| {
            let place = format!("pools.{}.offerings[{index}]", pool.name);
            (place, choice.clone())
        }));
    }
    let discovers = stack.pools.iter().any(|pool| pool.discover.is_some());
    let options = Options {
        namespace: home.namespace,
        place: access.place().to_owned(),
        choices,
        discovers,
        currency: stack
            .counted_in()
            .cloned()
            .unwrap_or_else(|| Currency::new("USD")),
        concurrency: config.concurrency,
        requests_per_hour: config.requests_per_hour,
        page: PAGE,
    };
    Ok(Arc::new(Kubernetes::new(config.name.clone(), client, options)))
}

#[cfg(not(feature = "kubernetes"))]
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
