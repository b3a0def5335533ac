//! Embedded clouds and CI servers: the parts of Hetzner Cloud's, DigitalOcean's, GitLab's, Drone's, CircleCI's, Azure DevOps',
//! Kubernetes' and Prometheus' HTTP APIs that runfleet uses, on loopback, over one simulated world.
//!
//! # Contract
//! - One process, one port: `/hetzner/v1`, `/digitalocean/v2`, `/gitlab` (its API at `/gitlab/api/v4`, `/gitlab/api/graphql`),
//!   `/drone`, `/circleci`, `/azure/ORGANIZATION`, `/kubernetes`, `/prometheus`, `/control`; and a forward proxy to the machines, see `exporters`.
//! - A machine registers a runner only with what its own user data says; see `userdata`.
//! - Every answer's `Date`, and every time in a body, is the world's time, which may run faster than the wall's.
//! - With a data file, a call that changes the world is answered after the change is in the file.
//! - The same seed and the same calls at the same times give the same world.
//! - It knows nothing of the rest of the crate, and no provider or CI module knows of it.
//!
//! # Caveats
//! It is for tests and for trying things out: no certificate is checked, no data survives a loss of power, and
//! `/control` asks for no token.

#![expect(
    clippy::disallowed_methods,
    reason = "the sandbox is a server with a clock of its own"
)]

mod api;
mod azure;
mod circleci;
mod clock;
mod control;
mod dice;
mod digitalocean;
mod dispatch;
mod drone;
mod exporters;
mod faults;
mod gitlab;
mod hetzner;
mod keys;
mod kubernetes;
mod machines;
mod prometheus;
mod reference;
mod scenario;
mod selector;
mod settings;
mod store;
mod tls;
mod transport;
mod tunnel;
mod userdata;
mod world;

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::task::JoinHandle;

pub use api::{Operation, Party, operations};
pub use faults::FAULTS;
pub use gitlab::NULLABLE as GITLAB_NULLABLE;
pub use reference::{Check, checks, reference};
pub use scenario::{
    AgentPoolSpec, AgentSpec, AzureSpec, Ci, CircleSpec, ClassSpec, DroneSpec, DropletSnapshotSpec, JobSpec,
    KubernetesSpec, NodeSpec, PatSpec, Scenario, ScenarioError, SnapshotSpec, TaintSpec, TokenSpec,
    UnavailableSpec,
};
pub use settings::{SettingError, Settings};
pub use store::StoreError;
pub use tls::TlsError;

use transport::{Front, Shared};
use world::World;

/// Open connections have this long to end when the sandbox stops.
const GRACE: Duration = Duration::from_millis(500);

/// What a sandbox is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file that the world is kept in; without, it is forgotten at the end.
    pub data: Option<PathBuf>,
    /// All chance follows from it.
    pub seed: u64,
    /// How the world behaves.
    pub settings: Settings,
    /// What a fresh world starts with. A world read from its file ignores it.
    pub scenario: Option<Scenario>,
    /// The one token that all parties accept; without, it follows from the seed, or is that of the world's file.
    pub token: Option<String>,
}

/// Where to find what; the sandbox's first line on stdout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Hetzner's endpoint with its version: `http://127.0.0.1:P/hetzner/v1`.
    pub hetzner: String,
    /// DigitalOcean's endpoint with its version: `http://127.0.0.1:P/digitalocean/v2`.
    pub digitalocean: String,
    /// GitLab's root: `http://127.0.0.1:P/gitlab`.
    pub gitlab: String,
    /// Drone's root: `http://127.0.0.1:P/drone`.
    pub drone: String,
    /// The root of CircleCI's runner API: `http://127.0.0.1:P/circleci`.
    pub circleci: String,
    /// An organisation of Azure DevOps: `http://127.0.0.1:P/azure/acme`.
    pub azure: String,
    /// The address of Kubernetes' API server: `http://127.0.0.1:P/kubernetes`.
    pub kubernetes: String,
    /// An HTTP forward proxy, through which the machines' own ports are reached: `http://127.0.0.1:P`.
    pub exporters: String,
    /// The root of a Prometheus that scrapes the machines: `http://127.0.0.1:P/prometheus`.
    pub prometheus: String,
    /// The controls: `http://127.0.0.1:P/control`.
    pub control: String,
    /// The token that all accept.
    pub token: String,
    /// What Drone's runners authenticate with.
    pub drone_rpc_secret: String,
    /// With TLS, the file with the certificate of the authority that signed the sandbox's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// With TLS, a kubeconfig for its Kubernetes, with the token: without TLS kubectl sends none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
}

/// Why a sandbox could not start or stop.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address is not of this host alone: the controls ask for no token.
    #[error("{0} is no loopback address")]
    NotLoopback(SocketAddr),
    /// The world's file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The authority's certificate, or the kubeconfig that names it, cannot be written.
    #[error("cannot write {path}: {source}")]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server ended with an error.
    #[error("the sandbox's server failed: {0}")]
    Server(std::io::Error),
}

/// A running sandbox. Dropped, its server goes on until the runtime ends; [`Sandbox::stop`] ends it in order.
#[derive(Debug)]
pub struct Sandbox {
    addresses: Addresses,
    handle: Handle<SocketAddr>,
    server: JoinHandle<std::io::Result<()>>,
    saver: Option<JoinHandle<()>>,
    world: Arc<Mutex<World>>,
    data: Option<PathBuf>,
}

/// Binds, reads or makes the world, and serves it from a task of the current runtime.
pub async fn start(options: Options) -> Result<Sandbox, SandboxError> {
    if !options.listen.ip().is_loopback() {
        return Err(SandboxError::NotLoopback(options.listen));
    }
    let listen = |source| SandboxError::Listen {
        address: options.listen,
        source,
    };
    let listener = TcpListener::bind(options.listen).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let local = listener.local_addr().map_err(listen)?;
    let opening = options.clone();
    let mut world = tokio::task::spawn_blocking(move || open(&opening))
        .await
        .map_err(|error| SandboxError::Server(std::io::Error::other(error)))??;
    let scheme = if options.settings.tls { "https" } else { "http" };
    let origin = format!("{scheme}://{local}");
    let of = |party: Party| format!("{origin}{}", party.prefix());
    world.gitlab_urls.insert(of(Party::Gitlab));
    world.drone.urls.insert(of(Party::Drone));
    world.circle.urls.insert(of(Party::Circleci));
    let organization = format!("{}/{}", of(Party::Azure), world.azure.organization);
    world.azure.urls.insert(organization.clone());
    let secure = options
        .settings
        .tls
        .then(|| secure(&options, local))
        .transpose()?;
    let addresses = Addresses {
        hetzner: of(Party::Hetzner),
        digitalocean: of(Party::Digitalocean),
        gitlab: of(Party::Gitlab),
        drone: of(Party::Drone),
        circleci: of(Party::Circleci),
        azure: organization,
        kubernetes: of(Party::Kubernetes),
        exporters: origin.clone(),
        prometheus: of(Party::Prometheus),
        control: of(Party::Control),
        token: world.token.clone(),
        drone_rpc_secret: world.drone_secret(),
        ca_file: secure.as_ref().map(|(_, path)| path.display().to_string()),
        kubeconfig: None,
    };
    let kubeconfig = secure
        .as_ref()
        .map(|(_, path)| kubeconfig(&addresses, path))
        .transpose()?;
    let addresses = Addresses {
        kubeconfig,
        ..addresses
    };
    if let Some(path) = &options.data {
        store::write(path, &store::encode(&world))?;
    }
    let world = Arc::new(Mutex::new(world));
    let saver = options
        .data
        .clone()
        .map(|path| store::Saver::start(path, Arc::clone(&world)));
    let (saver, saving) = saver.map_or((None, None), |(saver, task)| (Some(saver), Some(task)));
    let handle = Handle::new();
    let front = Front(Arc::new(Shared {
        world: Arc::clone(&world),
        saver,
        origin,
    }));
    let server = axum_server::from_tcp(listener)
        .map_err(listen)?
        .handle(handle.clone());
    let server = match secure {
        None => tokio::spawn(server.acceptor(NoDelayAcceptor::new()).serve(front)),
        Some((config, _)) => tokio::spawn(
            server
                .acceptor(RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new()))
                .serve(front),
        ),
    };
    Ok(Sandbox {
        addresses,
        handle,
        server,
        saver: saving,
        world,
        data: options.data,
    })
}

/// The world of the file, or a fresh one.
fn open(options: &Options) -> Result<World, SandboxError> {
    let wall = Timestamp::now();
    let kept = match &options.data {
        Some(path) => store::load(path, &options.settings, wall)?,
        None => None,
    };
    Ok(match kept {
        Some(mut world) => {
            if let Some(token) = &options.token {
                world.token.clone_from(token);
            }
            world
        }
        None => World::new(
            options.seed,
            options.token.clone(),
            options.scenario.as_ref().unwrap_or(&Scenario::default()),
            options.settings.clone(),
            wall,
        ),
    })
}

/// TLS's configuration, and the file with the authority's certificate: beside the data, or in the folder for such.
fn secure(options: &Options, local: SocketAddr) -> Result<(RustlsConfig, PathBuf), SandboxError> {
    let (config, pem) = tls::make(local.ip())?;
    let path = match &options.data {
        Some(data) => data.with_extension("ca.pem"),
        None => std::env::temp_dir().join(format!(
            "runfleet-sandbox-{}-{}.ca.pem",
            std::process::id(),
            local.port()
        )),
    };
    fs_err::write(&path, pem).map_err(|source| SandboxError::CaFile {
        path: path.clone(),
        source,
    })?;
    Ok((RustlsConfig::from_config(Arc::new(config)), path))
}

/// Writes what kubectl needs to find the sandbox's Kubernetes, beside the authority's certificate; its path.
fn kubeconfig(addresses: &Addresses, ca_file: &std::path::Path) -> Result<String, SandboxError> {
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": {"server": addresses.kubernetes, "certificate-authority": ca_file}}],
        "users": [{"name": "sandbox", "user": {"token": addresses.token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox", "namespace": "default"}}],
    });
    // `world.ca.pem` and `world.kubeconfig`.
    let path = ca_file.with_extension("").with_extension("kubeconfig");
    let fail = |source| SandboxError::CaFile {
        path: path.clone(),
        source,
    };
    // It holds the token: nobody else reads it. One that is there from before is replaced, so that its rights are ours.
    let _ = fs_err::remove_file(&path);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(fail)?;
    file.write_all(text.to_string().as_bytes()).map_err(fail)?;
    Ok(path.display().to_string())
}

impl Sandbox {
    /// Where it listens, and its token.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Ends the server and saves the world. Open connections have half a second.
    pub async fn stop(self) -> Result<(), SandboxError> {
        self.handle.graceful_shutdown(Some(GRACE));
        match self.server.await {
            Ok(ended) => ended.map_err(SandboxError::Server)?,
            Err(error) => return Err(SandboxError::Server(std::io::Error::other(error))),
        }
        if let Some(saver) = self.saver {
            saver.abort();
            // An abort is how it is meant to end.
            let _ = saver.await;
        }
        if let Some(path) = &self.data {
            let text = store::encode(&self.world.lock().unwrap_or_else(PoisonError::into_inner));
            store::write(path, &text)?;
        }
        if self.data.is_none() {
            for path in self.addresses.ca_file.iter().chain(&self.addresses.kubeconfig) {
                // Its port is no longer ours; a file that is gone already is fine.
                let _ = fs_err::remove_file(path);
            }
        }
        Ok(())
    }
}
