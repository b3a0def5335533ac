//! From a stack's configuration to the clients of Drone and CircleCI.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use secrecy::SecretString;

use super::{
    CALL, ConnectError, Embedded, RETRIES, TOTAL, Trust, allowed, azure, base_url, ca_pem, metrics, program,
    runner_tokens, token,
};
use crate::{
    demand::{
        Demand, DemandError, RunnerControl,
        circleci::{Circleci, CircleciConfig},
        drone::{Drone, DroneConfig},
    },
    model::ids::PoolName,
    net::{Auth, ClientConfig},
    stack::{CiConfig, CiKind, Endpoint, Stack},
};

/// A CI's client, to read and to write.
pub(super) type Both = (Arc<dyn Demand>, Arc<dyn RunnerControl>);

/// CircleCI's own address.
const CIRCLECI_COM: &str = "https://runner.circleci.com";
/// Calls at once: three per resource class, or a queue and the readings before deletes.
pub(super) const CONCURRENCY: usize = 16;

/// The client of a CI that is no GitLab.
pub(super) async fn connect(
    stack: &Stack,
    config: &CiConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Both, ConnectError> {
    match config.kind {
        CiKind::Drone => drone(stack, config, embedded, folder, trust).await,
        CiKind::Circleci => circleci(stack, config, embedded, folder, trust).await,
        CiKind::AzureDevops => azure::connect(stack, config, embedded, folder, trust).await,
        CiKind::Prometheus => metrics::connect(stack, config, embedded, folder, trust).await,
        CiKind::Exec | CiKind::Http => program::connect(stack, config, folder, trust).await,
        CiKind::Gitlab => Err(ConnectError::Ci {
            name: config.name.to_string(),
            source: DemandError::Rejected {
                why: "a GitLab is connected elsewhere".to_owned(),
            },
        }),
    }
}

async fn drone(
    stack: &Stack,
    config: &CiConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Both, ConnectError> {
    // A Drone server has no address of its own: the stack file was refused without one.
    let root = base_url(&config.url, "", embedded.map(|at| at.drone.as_str()))?;
    let secret = embedded.map(|at| at.drone_rpc_secret.as_str());
    let rpc_secrets = joining(stack, config, secret, folder, trust).await?;
    let made = Drone::new(DroneConfig {
        name: config.name.clone(),
        client: client(config, &root, Auth::Bearer, embedded, folder, trust).await?,
        root,
        pending_max: config.pending_max,
        running_max: config.running_max,
        settle: config.settle,
        rpc_secrets,
    });
    both(made, config)
}

async fn circleci(
    stack: &Stack,
    config: &CiConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Both, ConnectError> {
    let root = base_url(&config.url, CIRCLECI_COM, embedded.map(|at| at.circleci.as_str()))?;
    let auth = |value| Auth::Header {
        name: "circle-token",
        value,
    };
    let token = embedded.map(|at| at.token.as_str());
    let made = Circleci::new(CircleciConfig {
        name: config.name.clone(),
        client: client(config, &root, auth, embedded, folder, trust).await?,
        root,
        api: config.api,
        settle: config.settle,
        classes: classes(stack, config),
        tokens: joining(stack, config, token, folder, trust).await?,
    });
    both(made, config)
}

pub(super) fn both<C: Demand + RunnerControl + 'static>(
    made: Result<C, DemandError>,
    config: &CiConfig,
) -> Result<Both, ConnectError> {
    let client = Arc::new(made.map_err(|source| ConnectError::Ci {
        name: config.name.to_string(),
        source,
    })?);
    Ok((client.clone(), client))
}

/// How it is called.
pub(super) async fn client(
    config: &CiConfig,
    root: &str,
    auth: impl FnOnce(SecretString) -> Auth,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<ClientConfig, ConnectError> {
    let place = format!("ci.{}", config.name);
    allowed(trust, root, &format!("{place}.url"))?;
    let token = token(
        config.token.as_ref(),
        &config.url,
        embedded,
        &place,
        folder,
        trust,
    )
    .await?;
    Ok(ClientConfig {
        base: root.trim_end_matches('/').to_owned(),
        auth: auth(token),
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
        call_timeout: CALL,
        total_timeout: TOTAL,
        retries: RETRIES,
        requests_per_hour: None,
        requests_per_minute: None,
        concurrency: CONCURRENCY,
    })
}

/// What the machines of each pool join with; at the sandbox, for pools that say nothing, what it takes.
pub(super) async fn joining(
    stack: &Stack,
    config: &CiConfig,
    sandboxs: Option<&str>,
    folder: &Path,
    trust: &Trust,
) -> Result<BTreeMap<PoolName, SecretString>, ConnectError> {
    let mut tokens = runner_tokens(stack, &config.name, folder, trust).await?;
    if let (Endpoint::Sandbox, Some(token)) = (&config.url, sandboxs) {
        for pool in stack.pools.iter().filter(|pool| pool.ci == config.name) {
            tokens
                .entry(pool.name.clone())
                .or_insert_with(|| SecretString::from(token));
        }
    }
    Ok(tokens)
}

/// The resource class of each pool that names one.
fn classes(stack: &Stack, config: &CiConfig) -> BTreeMap<PoolName, String> {
    let pools = stack.pools.iter().filter(|pool| pool.ci == config.name);
    pools
        .filter_map(|pool| match pool.tags.as_slice() {
            [class] => Some((pool.name.clone(), class.clone())),
            _ => None,
        })
        .collect()
}
