//! From a stack's configuration to Amazon's clients.

use std::{path::Path, sync::Arc};

use super::{ConnectError, Trust};
use crate::{
    provider::Provider,
    stack::{ProviderConfig, Stack},
};

/// The client of a provider of Amazon's.
#[cfg(feature = "aws")]
pub(super) async fn provider(
    stack: &Stack,
    config: &ProviderConfig,
    folder: &Path,
    trust: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    use crate::stack::ProviderKind;

    match config.kind {
        // What the SDK loads is large.
        ProviderKind::Ec2 => Box::pin(with_sdk::ec2(stack, config, folder, trust)).await,
        ProviderKind::Asg => Box::pin(with_sdk::groups(stack, config, folder, trust)).await,
        ProviderKind::Ecs => Box::pin(with_sdk::ecs(stack, config, folder, trust)).await,
        ProviderKind::Kubernetes | ProviderKind::Digitalocean | ProviderKind::Hetzner => {
            Err(ConnectError::NotBuilt {
                what: format!("providers.{} ({})", config.name, config.kind.as_str()),
                feature: "aws",
            })
        }
    }
}

/// The client of a provider of Amazon's.
#[cfg(not(feature = "aws"))]
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

#[cfg(feature = "aws")]
mod with_sdk {
    use std::{collections::BTreeMap, path::Path, sync::Arc};

    use secrecy::ExposeSecret as _;

    use super::super::{CALL, ConnectError, RETRIES, TOTAL, Trust, allowed, ca_pem, secret};
    use crate::{
        provider::{
            Provider, ProviderError,
            aws::{
                Config,
                ec2::{Ec2, Options},
                ecs::{self, Ecs},
                groups::Groups,
            },
        },
        stack::{Endpoint, ProviderConfig, Stack},
    };

    /// What lets in to Amazon.
    pub(super) async fn access(
        config: &ProviderConfig,
        folder: &Path,
        trust: &Trust,
    ) -> Result<Config, ConnectError> {
        let place = format!("providers.{}", config.name);
        let endpoint = match &config.endpoint {
            Endpoint::Default => None,
            Endpoint::Url(url) => {
                allowed(trust, url, &format!("{place}.endpoint"))?;
                Some(url.clone())
            }
            Endpoint::Sandbox => {
                return Err(ConnectError::NotBuilt {
                    what: format!("{place}: a sandbox of Amazon's"),
                    feature: "sandbox",
                });
            }
        };
        let keys = match &config.aws.keys {
            None => None,
            Some((id, key)) => {
                let id = secret(id, &format!("{place}.access_key"), folder, trust).await?;
                let key = secret(key, &format!("{place}.secret_key"), folder, trust).await?;
                // Its id is no secret: it stands in each request in the open.
                Some((id.expose_secret().to_owned(), key))
            }
        };
        Ok(Config {
            name: config.name.clone(),
            region: config.aws.region.clone(),
            profile: config.aws.profile.clone(),
            role_arn: config.aws.role_arn.clone(),
            keys,
            endpoint,
            ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
            concurrency: config.concurrency,
            call_timeout: CALL,
            total_timeout: TOTAL,
            retries: RETRIES,
        })
    }

    pub(super) fn failed(config: &ProviderConfig, source: ProviderError) -> ConnectError {
        ConnectError::Provider {
            name: config.name.to_string(),
            source,
        }
    }

    pub(super) async fn ec2(
        stack: &Stack,
        config: &ProviderConfig,
        folder: &Path,
        trust: &Trust,
    ) -> Result<Arc<dyn Provider>, ConnectError> {
        let (mut choices, mut ssh_keys) = (Vec::new(), BTreeMap::new());
        for pool in &stack.pools {
            let ours = pool
                .offerings
                .iter()
                .filter(|choice| choice.provider == config.name);
            let before = choices.len();
            choices.extend(ours.cloned());
            if choices.len() > before {
                ssh_keys.insert(pool.name.clone(), pool.ssh_keys.clone());
            }
        }
        let options = Options {
            vpc: config.aws.vpc.clone(),
            choices,
            ssh_keys,
        };
        let access = access(config, folder, trust).await?;
        let made = Ec2::new(access, options).await;
        Ok(Arc::new(made.map_err(|source| failed(config, source))?))
    }

    pub(super) async fn ecs(
        stack: &Stack,
        config: &ProviderConfig,
        folder: &Path,
        trust: &Trust,
    ) -> Result<Arc<dyn Provider>, ConnectError> {
        let choices = stack.pools.iter().flat_map(|pool| &pool.offerings);
        let ours = choices.filter(|choice| choice.provider == config.name);
        let options = ecs::Options {
            home: config.ecs.clone().unwrap_or_default(),
            choices: ours.cloned().collect(),
        };
        let access = access(config, folder, trust).await?;
        let made = Ecs::new(access, options).await;
        Ok(Arc::new(made.map_err(|source| failed(config, source))?))
    }

    pub(super) async fn groups(
        stack: &Stack,
        config: &ProviderConfig,
        folder: &Path,
        trust: &Trust,
    ) -> Result<Arc<dyn Provider>, ConnectError> {
        let groups = stack.pools.iter().filter_map(|pool| pool.group.clone());
        let choices = groups.filter(|choice| choice.provider == config.name).collect();
        let access = access(config, folder, trust).await?;
        let made = Groups::new(access, choices).await;
        Ok(Arc::new(made.map_err(|source| failed(config, source))?))
    }
}
