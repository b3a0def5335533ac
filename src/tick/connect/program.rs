//! From a stack's configuration to a CI of one's own: its commands or URLs, and what they are let in with.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    ConnectError, RETRIES, Trust, allowed, ca_pem,
    ci::{Both, CONCURRENCY},
    runner_tokens, secret,
};
use crate::{
    demand::{
        DemandError,
        program::{Program, ProgramConfig, resolve},
    },
    net::{Auth, ClientConfig},
    secrets::SecretError,
    stack::{
        CiConfig, CiKind, Endpoint, Stack,
        source::{self, Call},
    },
};

/// All tries of one call, in tries: the first, one after a silence as long, and the waits between the others.
const PATIENCE: u32 = 3;

/// The client of a CI that is asked by commands or at URLs.
pub(super) async fn connect(
    stack: &Stack,
    config: &CiConfig,
    folder: &Path,
    trust: &Trust,
) -> Result<Both, ConnectError> {
    let failed = |source: DemandError| ConnectError::Ci {
        name: config.name.to_string(),
        source,
    };
    let Some(calls) = config.program.as_deref() else {
        return Err(failed(DemandError::Rejected {
            why: "it says neither what to run nor what to ask".to_owned(),
        }));
    };
    let root = match &config.url {
        Endpoint::Url(url) => url.clone(),
        Endpoint::Default | Endpoint::Sandbox => String::new(),
    };
    trusted(config, calls, &root, trust)?;
    let token = match &config.token {
        Some(token) => Some(secret(token, &format!("ci.{}.token", config.name), folder, trust).await?),
        None => None,
    };
    let call_timeout: Duration = calls.timeout.unsigned_abs();
    let client = ClientConfig {
        base: root.clone(),
        auth: match (&token, config.kind) {
            (Some(token), CiKind::Http) => Auth::Bearer(token.clone()),
            _ => Auth::None,
        },
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, &format!("ci.{}", config.name))?,
        call_timeout,
        total_timeout: call_timeout.saturating_mul(PATIENCE),
        retries: RETRIES,
        requests_per_hour: None,
        requests_per_minute: None,
        concurrency: CONCURRENCY,
    };
    let pools = stack.pools.iter().filter(|pool| pool.ci == config.name);
    let made = Program::new(ProgramConfig {
        name: config.name.clone(),
        stack: stack.name.clone(),
        pools: pools.map(crate::stack::Pool::selector).collect(),
        calls: calls.clone(),
        root,
        folder: folder.to_path_buf(),
        client,
        token,
        settle: config.settle,
        tokens: runner_tokens(stack, &config.name, folder, trust).await?,
    });
    let client = Arc::new(made.map_err(failed)?);
    Ok((client.clone(), client))
}

/// A stack file that came with a merge request runs no commands, and asks no hosts but those that are named.
fn trusted(
    config: &CiConfig,
    calls: &source::Program,
    root: &str,
    trust: &Trust,
) -> Result<(), ConnectError> {
    if *trust == Trust::Full {
        return Ok(());
    }
    for (key, call) in calls.each() {
        match call {
            Call::Command(words) => {
                return Err(ConnectError::Secret(SecretError::Refused {
                    program: words.first().cloned().unwrap_or_default(),
                    wanted_by: format!("ci.{}.{key}", config.name),
                }));
            }
            Call::Url(text) => {
                let url = resolve(root, text).map_or_else(String::new, |url| url.to_string());
                allowed(trust, &url, &format!("ci.{}.{key}_url", config.name))?;
            }
        }
    }
    Ok(())
}
