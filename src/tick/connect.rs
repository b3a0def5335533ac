//! From a stack's configuration to clients: secrets, certificates, endpoints, the sandbox in this process.
//!
//! Long because what every client needs (secrets, certificates, trust) stands beside those that need it.

mod aws;
mod azure;
mod ci;
mod digitalocean;
mod kubernetes;
mod metrics;
mod program;
mod store;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use secrecy::SecretString;

use super::{Clients, Clock, LoadedStack, Session};
use crate::{
    demand::{
        Demand, DemandError, RunnerControl,
        gitlab::{Gitlab, GitlabConfig},
    },
    hooks::Hooks,
    model::ids::{CiName, PoolName},
    net::{Auth, ClientConfig},
    provider::{Provider, ProviderError},
    secrets::{self, SecretError},
    stack::{CiConfig, CiKind, Endpoint, ProviderConfig, ProviderKind, SecretRef, Stack, StateBackend},
    state::{StateError, StateStore, http::ConfigError},
};

/// One try of one call. GitLab's slow pages take seconds; a CI that answers in 15 s is not to be waited for.
const CALL: Duration = Duration::from_secs(10);
/// All tries of one call.
const TOTAL: Duration = Duration::from_secs(30);
/// Tries after the first.
const RETRIES: u32 = 4;
/// Requests that a Hetzner project may make per hour (its documentation, and `RateLimit-Limit`).
#[cfg(feature = "hetzner")]
const HETZNER_PER_HOUR: u32 = 3600;
/// The longest call of any provider, for who asks none: what a lock that was not given back is waited for.
const LONGEST_CALL: jiff::SignedDuration = jiff::SignedDuration::from_secs(120);
/// GitLab's public address.
const GITLAB_COM: &str = "https://gitlab.com";
/// Calls to a CI at once, at least: as many as its clouds are called with, since each create is a call to both.
const CI_CONCURRENCY: usize = 20;

/// How far a stack file is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// It is ours.
    #[default]
    Full,
    /// It came with a merge request: no commands, and no hosts but these.
    Untrusted {
        /// `RUNFLEET_HOSTS`
        hosts: Vec<String>,
    },
}

/// Why there are no clients.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A secret could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A certificate file could not be read.
    #[error("reading {place}")]
    CaFile {
        /// `providers.hetzner.ca_file`
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A host that an untrusted stack may not talk to.
    #[error("{place} names {host}, which is not in RUNFLEET_HOSTS")]
    HostNotAllowed {
        /// `providers.hetzner.endpoint`
        place: String,
        /// The host.
        host: String,
    },
    /// A provider's client could not be made.
    #[error("providers.{name}")]
    Provider {
        /// Its key.
        name: String,
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// A CI's client could not be made.
    #[error("ci.{name}")]
    Ci {
        /// Its key.
        name: String,
        /// Why.
        #[source]
        source: DemandError,
    },
    /// This program was built without it.
    #[error("{what} is not in this build: it was made without the feature {feature}")]
    NotBuilt {
        /// What.
        what: String,
        /// The cargo feature.
        feature: &'static str,
    },
    /// The place of the state is not usable.
    #[error(transparent)]
    State(#[from] StateError),
    /// What the stack file and the environment say of an HTTP state does not suffice.
    #[error("stack.state: {0}")]
    HttpState(#[from] ConfigError),
    /// The sandbox in this process did not start.
    #[error("the sandbox in this process: {why}")]
    Sandbox {
        /// Why.
        why: String,
    },
}

/// Where the sandbox in this process listens.
#[derive(Clone, Debug, Default)]
struct Embedded {
    #[cfg_attr(
        not(feature = "hetzner"),
        expect(dead_code, reason = "only its provider asks")
    )]
    hetzner: String,
    #[cfg_attr(
        not(feature = "digitalocean"),
        expect(dead_code, reason = "only its provider asks")
    )]
    digitalocean: String,
    gitlab: String,
    drone: String,
    circleci: String,
    azure: String,
    #[cfg_attr(
        not(feature = "kubernetes"),
        expect(dead_code, reason = "only its provider asks")
    )]
    kubernetes: String,
    /// A forward proxy through which the sandbox's machines are reached.
    exporters: String,
    /// The root of a Prometheus that scrapes them.
    prometheus: String,
    /// What runners join the sandbox's Drone with.
    drone_rpc_secret: String,
    token: String,
}

/// Makes the clients that a stack names.
///
/// # Errors
/// When a secret, a certificate, an address or the sandbox is not to be had.
pub async fn connect(loaded: LoadedStack, trust: &Trust) -> Result<Session, ConnectError> {
    #[cfg(feature = "sandbox")]
    let sandbox = start_sandbox(&loaded).await?;
    #[cfg(feature = "sandbox")]
    let embedded = sandbox.as_ref().map(|sandbox| {
        let addresses = sandbox.addresses();
        Embedded {
            hetzner: addresses.hetzner.clone(),
            digitalocean: addresses.digitalocean.clone(),
            gitlab: addresses.gitlab.clone(),
            drone: addresses.drone.clone(),
            circleci: addresses.circleci.clone(),
            azure: addresses.azure.clone(),
            kubernetes: addresses.kubernetes.clone(),
            exporters: addresses.exporters.clone(),
            prometheus: addresses.prometheus.clone(),
            drone_rpc_secret: addresses.drone_rpc_secret.clone(),
            token: addresses.token.clone(),
        }
    });
    #[cfg(not(feature = "sandbox"))]
    let embedded: Option<Embedded> = None;

    let folder = loaded.folder().to_path_buf();
    let stack = &loaded.stack;
    let mut providers: BTreeMap<_, Arc<dyn Provider>> = BTreeMap::new();
    for (name, config) in &stack.providers {
        let provider = match config.kind {
            ProviderKind::Digitalocean => {
                digitalocean::provider(config, embedded.as_ref(), &folder, trust).await?
            }
            ProviderKind::Hetzner => provider(config, embedded.as_ref(), &folder, trust).await?,
            ProviderKind::Ec2 | ProviderKind::Asg | ProviderKind::Ecs => {
                aws::provider(stack, config, &folder, trust).await?
            }
            ProviderKind::Kubernetes => {
                kubernetes::provider(stack, config, embedded.as_ref(), &folder, trust).await?
            }
        };
        providers.insert(name.clone(), provider);
    }
    let at_clouds: usize = stack.providers.values().map(|config| config.concurrency).sum();
    let concurrency = at_clouds.max(CI_CONCURRENCY);
    let mut demand: BTreeMap<_, Arc<dyn Demand>> = BTreeMap::new();
    let mut control: BTreeMap<_, Arc<dyn RunnerControl>> = BTreeMap::new();
    let mut watch = Vec::new();
    for (name, config) in &stack.ci {
        if config.kind != CiKind::Gitlab {
            let (reading, writing) = ci::connect(stack, config, embedded.as_ref(), &folder, trust).await?;
            demand.insert(name.clone(), reading);
            control.insert(name.clone(), writing);
            continue;
        }
        let tokens = runner_tokens(stack, name, &folder, trust).await?;
        let client = gitlab(config, tokens, concurrency, embedded.as_ref(), &folder, trust).await?;
        let client = Arc::new(client);
        // Asked whether the job that holds the lock of an HTTP state has ended.
        if matches!(stack.state, StateBackend::Http(_)) {
            watch.push(store::Watched {
                root: base_url(
                    &config.url,
                    GITLAB_COM,
                    embedded.as_ref().map(|at| at.gitlab.as_str()),
                )?,
                token: token(
                    config.token.as_ref(),
                    &config.url,
                    embedded.as_ref(),
                    &format!("ci.{name}"),
                    &folder,
                    trust,
                )
                .await?,
                ca_pem: ca_pem(config.ca_file.as_deref(), &folder, &format!("ci.{name}"))?,
            });
        }
        demand.insert(name.clone(), client.clone());
        control.insert(name.clone(), client);
    }
    let calls = providers.values().map(|provider| provider.profile().call_timeout);
    let longest = calls.max().unwrap_or_default();
    let store = store::connect(stack, &folder, trust, longest, watch).await?;
    let clients = Clients {
        providers,
        demand,
        control,
        store,
    };
    let mut session = Session::new(loaded, clients, Clock::system());
    session.hooks = Arc::new(Hooks::new(
        session.stack(),
        session.loaded().folder(),
        policy(trust),
    ));
    #[cfg(feature = "sandbox")]
    {
        session.sandbox = sandbox;
    }
    Ok(session)
}

/// Where a stack's state is kept: all that the verbs need that look into it, and talk to no cloud and no CI.
///
/// # Errors
/// When a secret or a certificate of the place is not to be had, or the place is not in this build.
pub async fn store(loaded: &LoadedStack, trust: &Trust) -> Result<Arc<dyn StateStore>, ConnectError> {
    store::connect(&loaded.stack, loaded.folder(), trust, LONGEST_CALL, Vec::new()).await
}

/// Whether anything of the stack is in this process.
#[cfg(feature = "sandbox")]
fn wants_sandbox(stack: &crate::stack::Stack) -> bool {
    stack
        .providers
        .values()
        .any(|config| config.endpoint == Endpoint::Sandbox)
        || stack.ci.values().any(|config| config.url == Endpoint::Sandbox)
}

#[cfg(feature = "sandbox")]
async fn start_sandbox(loaded: &LoadedStack) -> Result<Option<crate::sandbox::Sandbox>, ConnectError> {
    use crate::sandbox::{Options, Settings};

    let fail = |error: &dyn std::fmt::Display| ConnectError::Sandbox {
        why: error.to_string(),
    };
    if !wants_sandbox(&loaded.stack) {
        return Ok(None);
    }
    let config = loaded.stack.sandbox.clone().unwrap_or_default();
    let mut settings = Settings::default();
    for (key, value) in &config.settings {
        settings.set(key, value).map_err(|error| fail(&error))?;
    }
    let scenario = match config.scenario {
        serde_json::Value::Null => None,
        scenario => Some(serde_json::from_value(scenario).map_err(|error| fail(&error))?),
    };
    let options = Options {
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        data: Some(loaded.folder().join(format!("{}.world.json", loaded.stack.name))),
        seed: 1,
        settings,
        scenario,
        token: None,
    };
    let sandbox = crate::sandbox::start(options)
        .await
        .map_err(|error| fail(&error))?;
    Ok(Some(sandbox))
}

#[cfg(feature = "hetzner")]
async fn provider(
    config: &ProviderConfig,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    use crate::provider::hetzner::{ENDPOINT, Hetzner};

    let place = format!("providers.{}", config.name);
    let base = base_url(&config.endpoint, ENDPOINT, embedded.map(|at| at.hetzner.as_str()))?;
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
        base,
        auth: Auth::Bearer(token),
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
        call_timeout: CALL,
        total_timeout: TOTAL,
        retries: RETRIES,
        requests_per_hour: Some(config.requests_per_hour.unwrap_or(HETZNER_PER_HOUR)),
        requests_per_minute: None,
        concurrency: config.concurrency,
    };
    let made = Hetzner::new(config.name.clone(), client, config.concurrency);
    let provider = made.map_err(|source| ConnectError::Provider {
        name: config.name.to_string(),
        source,
    })?;
    Ok(Arc::new(provider))
}

#[cfg(not(feature = "hetzner"))]
#[expect(
    clippy::unused_async,
    reason = "with a provider in the build there is something to await"
)]
async fn provider(
    config: &ProviderConfig,
    _: Option<&Embedded>,
    _: &Path,
    _: &Trust,
) -> Result<Arc<dyn Provider>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: format!("providers.{} (Hetzner)", config.name),
        feature: "hetzner",
    })
}

/// The tokens of runners that the machines of this CI's pools share.
async fn runner_tokens(
    stack: &Stack,
    ci: &CiName,
    folder: &Path,
    trust: &Trust,
) -> Result<BTreeMap<PoolName, SecretString>, ConnectError> {
    let mut tokens = BTreeMap::new();
    for pool in stack.pools.iter().filter(|pool| pool.ci == *ci) {
        if let Some(reference) = &pool.registering.runner_token {
            let wanted_by = format!("pools.{}.runner_token", pool.name);
            let token = secrets::read(reference, &wanted_by, folder, policy(trust)).await?;
            tokens.insert(pool.name.clone(), token);
        }
    }
    Ok(tokens)
}

async fn gitlab(
    config: &CiConfig,
    runner_tokens: BTreeMap<PoolName, SecretString>,
    concurrency: usize,
    embedded: Option<&Embedded>,
    folder: &Path,
    trust: &Trust,
) -> Result<Gitlab, ConnectError> {
    let place = format!("ci.{}", config.name);
    let root = base_url(&config.url, GITLAB_COM, embedded.map(|at| at.gitlab.as_str()))?;
    let root = root.trim_end_matches('/').to_owned();
    allowed(trust, &root, &format!("{place}.url"))?;
    let token = token(
        config.token.as_ref(),
        &config.url,
        embedded,
        &place,
        folder,
        trust,
    )
    .await?;
    let client = ClientConfig {
        base: format!("{root}/api/v4"),
        auth: Auth::Header {
            name: "private-token",
            value: token,
        },
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, &place)?,
        call_timeout: CALL,
        total_timeout: TOTAL,
        retries: RETRIES,
        requests_per_hour: None,
        requests_per_minute: None,
        concurrency,
    };
    let made = Gitlab::new(GitlabConfig {
        name: config.name.clone(),
        client,
        root,
        projects: config.projects.clone(),
        groups: config.groups.clone(),
        instance: config.instance,
        runner_tokens,
        settle: config.settle,
    });
    made.map_err(|source| ConnectError::Ci {
        name: config.name.to_string(),
        source,
    })
}

fn base_url(endpoint: &Endpoint, default: &str, embedded: Option<&str>) -> Result<String, ConnectError> {
    match (endpoint, embedded) {
        (Endpoint::Default, _) => Ok(default.to_owned()),
        (Endpoint::Url(url), _) => Ok(url.clone()),
        (Endpoint::Sandbox, Some(at)) => Ok(at.to_owned()),
        (Endpoint::Sandbox, None) => Err(ConnectError::NotBuilt {
            what: "the embedded sandbox".to_owned(),
            feature: "sandbox",
        }),
    }
}

async fn token(
    reference: Option<&SecretRef>,
    endpoint: &Endpoint,
    embedded: Option<&Embedded>,
    place: &str,
    folder: &Path,
    trust: &Trust,
) -> Result<SecretString, ConnectError> {
    if let (Endpoint::Sandbox, Some(at)) = (endpoint, embedded) {
        return Ok(SecretString::from(at.token.clone()));
    }
    let wanted_by = format!("{place}.token");
    let Some(reference) = reference else {
        return Err(ConnectError::Ci {
            name: place.to_owned(),
            source: DemandError::Rejected {
                why: format!("{wanted_by} is missing"),
            },
        });
    };
    secret(reference, &wanted_by, folder, trust).await
}

async fn secret(
    reference: &SecretRef,
    wanted_by: &str,
    folder: &Path,
    trust: &Trust,
) -> Result<SecretString, ConnectError> {
    Ok(secrets::read(reference, wanted_by, folder, policy(trust)).await?)
}

fn policy(trust: &Trust) -> secrets::Policy {
    match trust {
        Trust::Full => secrets::Policy::Trusted,
        Trust::Untrusted { .. } => secrets::Policy::Untrusted,
    }
}

fn ca_pem(file: Option<&Path>, folder: &Path, place: &str) -> Result<Option<Vec<u8>>, ConnectError> {
    let Some(file) = file else { return Ok(None) };
    fs_err::read(folder.join(file))
        .map(Some)
        .map_err(|source| ConnectError::CaFile {
            place: format!("{place}.ca_file"),
            source,
        })
}

fn allowed(trust: &Trust, base: &str, place: &str) -> Result<(), ConnectError> {
    let Trust::Untrusted { hosts } = trust else {
        return Ok(());
    };
    let host = url::Url::parse(base)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default();
    if hosts.contains(&host) {
        return Ok(());
    }
    Err(ConnectError::HostNotAllowed {
        place: place.to_owned(),
        host,
    })
}
