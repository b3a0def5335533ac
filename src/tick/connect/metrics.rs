//! From a stack's configuration to the source that asks machines.

use std::path::Path;

use super::{
    CALL, Clock, ConnectError, Embedded, TOTAL, Trust, allowed, base_url, ca_pem,
    ci::{Both, both},
    token,
};
use crate::{
    demand::prometheus::{Prometheus, PrometheusConfig},
    model::ids::PoolName,
    net::{Auth, ClientConfig},
    stack::{CiConfig, Endpoint, Stack},
};

/// Tries after the first: the next tick asks again.
const RETRIES: u32 = 2;
/// Questions at once, those of a check too.
const CONCURRENCY: usize = 8;

pub(super) async fn connect(
    stack: &Stack,
    config: &CiConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Both, ConnectError> {
    let place = format!("ci.{}", config.name);
    let mut scrape = config.scrape.clone();
    if let Some(scrape) = &mut scrape {
        if let Some(proxy) = &scrape.proxy {
            allowed(trust, proxy, &format!("{place}.scrape.proxy"))?;
        } else if let (Endpoint::Sandbox, Some(at)) = (&config.url, embedded) {
            // The sandbox's machines have addresses that lead nowhere but through it.
            scrape.proxy = Some(at.exporters.clone());
        }
    }
    let (server, root) = match &config.url {
        Endpoint::Default => (None, String::new()),
        url => {
            let root = base_url(url, "", embedded.map(|at| at.prometheus.as_str()))?;
            allowed(trust, &root, &format!("{place}.url"))?;
            let root = root.trim_end_matches('/').to_owned();
            (
                Some(ClientConfig {
                    auth: auth(config, embedded, folder, trust).await?,
                    ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
                    call_timeout: CALL,
                    total_timeout: TOTAL,
                    retries: RETRIES,
                    requests_per_hour: None,
                    requests_per_minute: None,
                    concurrency: CONCURRENCY,
                    base: root.clone(),
                }),
                root,
            )
        }
    };
    let made = Prometheus::new(PrometheusConfig {
        name: config.name.clone(),
        scrape,
        server,
        root,
        questions: questions(stack, config),
        settle: config.settle,
        clock: Clock::system(),
    });
    both(made, config)
}

/// A server in a network of one's own often wants no token.
async fn auth(
    config: &CiConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Auth, ConnectError> {
    if config.token.is_none() && config.url != Endpoint::Sandbox {
        return Ok(Auth::None);
    }
    let place = format!("ci.{}", config.name);
    let token = token(
        config.token.as_ref(),
        &config.url,
        embedded,
        &place,
        folder,
        trust,
    )
    .await?;
    Ok(Auth::Bearer(token))
}

/// What the pools of this source ask its server.
fn questions(stack: &Stack, config: &CiConfig) -> Vec<(PoolName, String)> {
    let pools = stack.pools.iter().filter(|pool| pool.ci == config.name);
    let asked = pools.filter_map(|pool| Some((pool.name.clone(), pool.selector().metering?)));
    asked
        .flat_map(|(pool, metering)| {
            metering
                .queries
                .into_iter()
                .map(move |query| (pool.clone(), query))
        })
        .collect()
}
