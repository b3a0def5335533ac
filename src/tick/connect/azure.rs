//! From a stack's configuration to Azure DevOps.

use std::path::Path;

use super::{
    ConnectError, Embedded, Trust, base_url,
    ci::{Both, both, client, joining},
};
use crate::{
    demand::azure::{Azure, AzureConfig, auth},
    stack::{CiConfig, Stack},
};

pub(super) async fn connect(
    stack: &Stack,
    config: &CiConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Both, ConnectError> {
    // An organisation has no address of its own: the stack file was refused without one.
    let root = base_url(&config.url, "", embedded.map(|at| at.azure.as_str()))?;
    let kind = config.auth;
    let pools = stack.pools.iter().filter(|pool| pool.ci == config.name);
    let agent_pools = pools.filter_map(|pool| Some((pool.name.clone(), pool.agents.as_ref()?.pool.clone())));
    let made = Azure::new(AzureConfig {
        name: config.name.clone(),
        stack: stack.name.clone(),
        client: client(config, &root, |token| auth(kind, token), embedded, folder, trust).await?,
        root,
        settle: config.settle,
        agent_pools: agent_pools.collect(),
        tokens: joining(stack, config, embedded.map(|at| at.token.as_str()), folder, trust).await?,
    });
    both(made, config)
}
