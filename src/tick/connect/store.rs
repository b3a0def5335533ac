//! From what a stack says of its state to a place that keeps it.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: the variables of Terraform's HTTP backend fill what the stack file does not say"
)]

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use jiff::SignedDuration;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::{ConnectError, Trust, allowed, ca_pem, secret};
use crate::{
    net::{Auth, Client, ClientConfig, Request},
    stack::{HttpBackend, Stack, StateBackend},
    state::{
        StateStore,
        file::FileStore,
        http::{HttpConfig, HttpState, JobWatch},
    },
};

/// The place that keeps a stack's state. `longest` is the longest call of its providers.
pub(super) async fn connect(
    stack: &Stack,
    folder: &Path,
    trust: &Trust,
    longest: SignedDuration,
    watch: Vec<Watched>,
) -> Result<Arc<dyn StateStore>, ConnectError> {
    match &stack.state {
        StateBackend::File => {
            let keep = usize::try_from(stack.keep_states).unwrap_or(usize::MAX);
            Ok(Arc::new(FileStore::new(folder, &stack.name).keeping(keep)))
        }
        StateBackend::Object(_) => object(stack, folder, trust, longest.max(CI_CALL)).await,
        StateBackend::Http(config) => http(stack, config, folder, trust, watch).await,
    }
}

/// The longest call to a CI.
const CI_CALL: SignedDuration = SignedDuration::from_secs(30);

#[cfg(feature = "object")]
async fn object(
    stack: &Stack,
    folder: &Path,
    trust: &Trust,
    longest: SignedDuration,
) -> Result<Arc<dyn StateStore>, ConnectError> {
    use crate::state::object::{
        ObjectOptions, ObjectState, lease_for,
        s3::{self, S3Config},
    };

    let StateBackend::Object(config) = &stack.state else {
        return Ok(Arc::new(FileStore::new(folder, &stack.name)));
    };
    match &config.endpoint {
        Some(endpoint) => allowed(trust, endpoint, "stack.state.endpoint")?,
        None => allowed(trust, "https://s3.amazonaws.com", "stack.state")?,
    }
    let keys = match &config.keys {
        None => None,
        Some((id, key)) => Some((
            secret(id, "stack.state.access_key", folder, trust).await?,
            secret(key, "stack.state.secret_key", folder, trust).await?,
        )),
    };
    let (objects, clock) = s3::connect(S3Config {
        bucket: config.bucket.clone(),
        region: config.region.clone(),
        endpoint: config.endpoint.clone(),
        keys,
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, "stack.state")?,
    })?;
    let place = format!("s3://{}/{}", config.bucket, config.prefix);
    Ok(Arc::new(ObjectState::new(
        objects,
        &stack.name,
        ObjectOptions {
            prefix: config.prefix.clone(),
            place: place.trim_end_matches('/').to_owned(),
            keep: stack.keep_states,
            times: lease_for(longest),
            clock,
        },
    )))
}

#[cfg(not(feature = "object"))]
#[expect(
    clippy::unused_async,
    reason = "with an object store in the build there is something to await"
)]
async fn object(
    _: &Stack,
    _: &Path,
    _: &Trust,
    _: SignedDuration,
) -> Result<Arc<dyn StateStore>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: "stack.state (S3)".to_owned(),
        feature: "object",
    })
}

async fn http(
    stack: &Stack,
    config: &HttpBackend,
    folder: &Path,
    trust: &Trust,
    watch: Vec<Watched>,
) -> Result<Arc<dyn StateStore>, ConnectError> {
    let password = match &config.password {
        None => None,
        Some(password) => Some(secret(password, "stack.state.password", folder, trust).await?),
    };
    let target = HttpConfig {
        address: config.address.clone(),
        update_method: config.update_method.clone(),
        lock_address: config.lock_address.clone(),
        lock_method: config.lock_method.clone(),
        unlock_address: config.unlock_address.clone(),
        unlock_method: config.unlock_method.clone(),
        username: config.username.clone(),
        password,
        retry_max: config.retry_max,
        retry_wait_min: config.retry_wait_min.map(SignedDuration::unsigned_abs),
        retry_wait_max: config.retry_wait_max.map(SignedDuration::unsigned_abs),
        ca_pem: ca_pem(config.ca_file.as_deref(), folder, "stack.state")?,
    }
    .complete(|name| std::env::var(name).ok())?;
    for address in target.addresses() {
        allowed(trust, address, "stack.state")?;
    }
    let watch: Arc<dyn JobWatch> = Arc::new(GitlabJobs(watch));
    Ok(Arc::new(HttpState::new(
        target,
        &stack.name,
        stack.keep_states,
        Some(watch),
    )?))
}

/// A GitLab of the stack, as it is asked whether a job has ended.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) root: String,
    pub(super) token: SecretString,
    pub(super) ca_pem: Option<Vec<u8>>,
}

/// The CI servers of the stack. Others are not asked: no token goes to an address that a lock names.
#[derive(Debug)]
struct GitlabJobs(Vec<Watched>);

#[derive(Deserialize)]
struct Job {
    status: String,
}

/// `/acme/app/-/jobs/7` behind the server's root, as project and job.
fn job_of<'a>(root: &str, address: &'a str) -> Option<(&'a str, u64)> {
    let root = root.trim_end_matches('/');
    let rest = address.strip_prefix(root)?.strip_prefix('/')?;
    let (project, job) = rest.split_once("/-/jobs/")?;
    let number = job.trim_end_matches('/').parse().ok()?;
    (!project.is_empty()).then_some((project, number))
}

#[async_trait]
impl JobWatch for GitlabJobs {
    async fn has_ended(&self, job: &str) -> Option<bool> {
        let (server, project, number) = self.0.iter().find_map(|server| {
            let (project, number) = job_of(&server.root, job)?;
            Some((server, project, number))
        })?;
        let mut path = Url::parse("http://localhost/").ok()?;
        path.path_segments_mut().ok()?.push(project);
        let project = path.path().trim_start_matches('/').replace('/', "%2F");
        let client = Client::new(ClientConfig {
            ca_pem: server.ca_pem.clone(),
            ..ClientConfig::new(
                server.root.trim_end_matches('/'),
                Auth::Header {
                    name: "private-token",
                    value: server.token.clone(),
                },
            )
        })
        .ok()?;
        let request = Request::get(format!("/api/v4/projects/{project}/jobs/{number}"));
        let reply = client.send(request).await.ok()?;
        let job: Job = reply.status.is_success().then(|| reply.json().ok())??;
        Some(matches!(
            job.status.as_str(),
            "success" | "failed" | "canceled" | "skipped"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_s_address_is_taken_apart_only_below_a_server_of_the_stack() {
        let root = "https://gitlab.example.com";
        let job = "https://gitlab.example.com/acme/sub/app/-/jobs/7";
        assert_eq!(job_of(root, job), Some(("acme/sub/app", 7)));
        assert_eq!(
            job_of("https://gitlab.example.com/", job),
            Some(("acme/sub/app", 7))
        );
        for other in [
            "https://gitlab.example.com.evil.org/acme/app/-/jobs/7",
            "https://gitlab.example.com/acme/app/-/pipelines/7",
            "https://gitlab.example.com/-/jobs/7",
            "https://gitlab.example.com/acme/app/-/jobs/x",
        ] {
            assert_eq!(job_of(root, other), None, "{other}");
        }
    }
}
