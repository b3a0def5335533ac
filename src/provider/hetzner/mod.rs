//! Hetzner Cloud: servers with their ssh keys, firewalls, private networks and placement groups.
//!
//! # How the `hcloud` crate is used
//! Its models make the bodies of every write, so that a body cannot miss a field or misname one. Requests go through [`net::Client`]
//! and answers are decoded by `wire`, because hcloud's functions give no response headers (no `RateLimit-*`, no `Date`), know no
//! retry, its enums are closed (one unknown status would fail a whole listing) and its models lack `server_type.locations[].available`.
//!
//! # Guarantees
//! - A server's name is unique in its project: a create whose answer was lost, or that says that the name is taken, looks the name up
//!   and adopts the server if its claim is ours. An adopted server keeps its labels, the registration among them.
//! - Follow-up actions are awaited, and a server whose actions failed is deleted again.
//! - A network or a placement group that a server uses is not deleted, though the API would take it from under the server.
//! - A call ends within [`CALL_TIMEOUT`].
//!
//! # Caveats
//! - Whether a token may write is known only by writing: the API does not say.
//! - A key's public part cannot be changed in place, and is unique in its project whatever its name.
//! - Labels are replaced as a whole by the API: those that somebody puts on between our reading and our writing are lost.
//! - A subnet of a vSwitch is neither shown nor changed: only Hetzner Robot makes one.

mod actions;
mod api;
mod check;
mod labels;
mod machines;
mod networks;
mod offerings;
mod pages;
mod shared;
#[cfg(test)]
mod tests;
mod wire;
mod wire_catalog;
mod wire_networks;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future;
use http::Method;
use jiff::SignedDuration;
use tokio::sync::Mutex;

use crate::{
    model::{
        ids::{ProviderName, ResourceKind, StackName},
        money::Billing,
        offering::Architecture,
        resource::{
            ClaimLabels, Completeness, Identity, Labels, Listing, Observed, ProviderProfile, ResourceRef,
            ResourceSpec,
        },
    },
    net::{self, Request},
};

use super::{Choice, Claim, Offerings, Problem, Provider, ProviderError};
use actions::Poller;
use api::{Api, Failed};
use wire::{Firewall, One, Page, Resource, Server, SshKey, collection};
use wire_networks::{Network, PlacementGroup};

/// The address of the API, its version included.
pub const ENDPOINT: &str = "https://api.hetzner.cloud/v1";

/// Requests per hour and project, refilling evenly. Source: the API's documentation, "Rate Limiting".
pub const REQUESTS_PER_HOUR: u32 = 3600;

/// The most bytes of user data. Source: the API's documentation, `create_server`.
pub const USER_DATA_LIMIT: usize = 32 * 1024;

/// The longest that one call may take: a create with its actions takes 10 to 40 s, a busy day twice that.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a call asks again while another action holds the resource.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a look-up before a create may take: it is no part of the call's time.
const PREPARING: Duration = Duration::from_secs(5);

/// One project of Hetzner Cloud.
#[derive(Debug)]
pub struct Hetzner {
    profile: ProviderProfile,
    api: Api,
    poller: Arc<Poller>,
    images: Mutex<machines::Images>,
    architectures: Mutex<BTreeMap<String, Architecture>>,
}

impl Hetzner {
    /// A provider under this name of the stack file, with so many calls at once. Connects to nothing yet.
    ///
    /// Without `requests_per_hour` the real API is held to [`REQUESTS_PER_HOUR`]; another address is not limited.
    ///
    /// # Errors
    /// When the address or the certificates are not usable.
    pub fn new(
        name: ProviderName,
        mut config: net::ClientConfig,
        concurrency: usize,
    ) -> Result<Self, ProviderError> {
        config.concurrency = concurrency.max(1);
        if config.requests_per_hour.is_none() && config.base.trim_end_matches('/') == ENDPOINT {
            config.requests_per_hour = Some(REQUESTS_PER_HOUR);
        }
        let profile = ProviderProfile {
            name,
            kind: "hetzner".to_owned(),
            identity: Identity::Named,
            billing: Billing::StartedHour,
            concurrency: config.concurrency,
            batch_size: 1,
            user_data_limit: USER_DATA_LIMIT,
            requests_per_hour: config.requests_per_hour,
            settle: SignedDuration::from_secs(10),
            call_timeout: SignedDuration::try_from(CALL_TIMEOUT).unwrap_or(SignedDuration::from_secs(120)),
            // Hetzner's limit of a spread group: docs.hetzner.com, "Placement groups".
            group_size: Some(10),
            delete_time: SignedDuration::from_secs(30),
        };
        let client = net::Client::new(config).map_err(|error| ProviderError::Rejected {
            code: "configuration".to_owned(),
            why: error.to_string(),
        })?;
        let api = Api::new(client);
        Ok(Self {
            profile,
            poller: Arc::new(Poller::new(api.clone())),
            api,
            images: Mutex::default(),
            architectures: Mutex::default(),
        })
    }

    fn name(&self) -> &ProviderName {
        &self.profile.name
    }

    fn observed<T: Resource>(&self, row: T) -> Observed {
        row.observed(self.name())
    }

    /// The resource with exactly this name.
    async fn find<T: Resource>(&self, name: &str) -> Result<Option<T>, Failed> {
        let Some(path) = collection(T::KIND) else {
            return Ok(None);
        };
        let page: Page<T> = self.api.get(Request::get(path).query("name", name)).await?;
        Ok(page.rows.into_iter().find(|row| row.name() == name))
    }

    async fn read_as<T: Resource>(&self, id: &str) -> Result<Option<T>, Failed> {
        let Some(path) = collection(T::KIND) else {
            return Ok(None);
        };
        match self.api.get::<One<T>>(Request::get(format!("{path}/{id}"))).await {
            Ok(one) => Ok(Some(one.row)),
            Err(failed) if failed.is_absent() => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Everything of a kind that carries a stack's label: this stack's, or any.
    async fn list_kind<T: Resource>(
        &self,
        stack: Option<&StackName>,
    ) -> Result<pages::Pages<Observed>, Failed> {
        let path = collection(T::KIND).unwrap_or_default();
        let selector = match stack {
            Some(stack) => format!("{}=={stack}", ClaimLabels::STACK),
            None => ClaimLabels::STACK.to_owned(),
        };
        let all = pages::all::<T>(&self.api, path, &[("label_selector", &selector)]).await?;
        let mut all = all.map(|row| self.observed(row));
        // Nothing else, even if the server forgets the selector.
        all.rows.retain(|seen| {
            seen.labels
                .get(ClaimLabels::STACK)
                .is_some_and(|carried| stack.is_none_or(|stack| carried == stack.as_str()))
        });
        Ok(all)
    }

    async fn list_kinds(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let kinds = future::join5(
            self.list_kind::<Server>(stack),
            self.list_kind::<SshKey>(stack),
            self.list_kind::<Firewall>(stack),
            self.list_kind::<Network>(stack),
            self.list_kind::<PlacementGroup>(stack),
        )
        .await;
        let kinds = [kinds.0, kinds.1, kinds.2, kinds.3, kinds.4];
        let every = kinds.len();
        let (mut resources, mut flaw, mut now, mut calls) = (Vec::new(), None, None, 0);
        let mut failed = Vec::new();
        for kind in kinds {
            match kind {
                Ok(pages) => {
                    if let Completeness::Partial { why } = pages.completeness {
                        flaw.get_or_insert(why);
                    }
                    now = now.max(pages.now);
                    calls += pages.calls;
                    resources.extend(pages.rows);
                }
                Err(error) => {
                    calls += 1;
                    failed.push(error.of_read());
                }
            }
        }
        let first = failed.first().cloned();
        if failed.len() == every
            && let Some(error) = first
        {
            return Err(error);
        }
        if let Some(error) = first {
            flaw.get_or_insert(error.to_string());
        }
        let now = now.ok_or_else(|| ProviderError::Malformed {
            why: "no answer says what time it is (no Date header)".to_owned(),
        })?;
        Ok(Listing {
            resources,
            completeness: flaw.map_or(Completeness::Complete, Completeness::partial),
            now,
            calls,
        })
    }

    /// One resource of this kind, as the rest of the program sees it.
    async fn read_kind<T: Resource>(&self, id: &str) -> Result<Option<Observed>, Failed> {
        let row = self.read_as::<T>(id).await?;
        Ok(row.map(|row| self.observed(row)))
    }

    async fn read_one(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let id = target.id.as_str();
        let seen = match target.kind {
            ResourceKind::Machine => self.read_kind::<Server>(id).await,
            ResourceKind::SshKey => self.read_kind::<SshKey>(id).await,
            ResourceKind::Firewall => self.read_kind::<Firewall>(id).await,
            ResourceKind::Network => self.read_kind::<Network>(id).await,
            ResourceKind::PlacementGroup => self.read_kind::<PlacementGroup>(id).await,
            ResourceKind::Group | ResourceKind::Batch => return Err(unsupported(target.kind.as_str())),
        };
        seen.map_err(Failed::of_read)
    }

    async fn create_one(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        match &claim.spec {
            ResourceSpec::Machine(spec) => self.create_machine(claim, spec).await,
            ResourceSpec::SshKey(spec) => self.create_ssh_key(claim, spec).await,
            ResourceSpec::Firewall(spec) => self.create_firewall(claim, spec).await,
            ResourceSpec::Network(spec) => self.create_network(claim, spec).await,
            ResourceSpec::PlacementGroup(spec) => self.create_placement_group(claim, spec).await,
            ResourceSpec::Group(_) | ResourceSpec::Batch(_) => Err(unsupported(claim.spec.kind().as_str())),
        }
    }

    async fn update_one(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        if have.target.kind != want.kind() {
            return Err(unsupported("changing a resource's kind"));
        }
        match want {
            ResourceSpec::Machine(spec) => self.update_machine(have, spec).await,
            ResourceSpec::SshKey(spec) => self.update_ssh_key(have, spec).await,
            ResourceSpec::Firewall(spec) => self.update_firewall(have, spec).await,
            ResourceSpec::Network(spec) => self.update_network(have, spec).await,
            ResourceSpec::PlacementGroup(spec) => self.update_placement_group(have, spec).await,
            ResourceSpec::Group(_) | ResourceSpec::Batch(_) => Err(unsupported(want.kind().as_str())),
        }
    }

    async fn delete_one(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let Some(path) = collection(target.kind) else {
            return Err(unsupported(target.kind.as_str()));
        };
        match target.kind {
            ResourceKind::Network => self.wait_until_unused::<Network>(target).await?,
            ResourceKind::PlacementGroup => self.wait_until_unused::<PlacementGroup>(target).await?,
            _ => {}
        }
        let request = Request::new(Method::DELETE, format!("{path}/{}", target.id));
        // A firewall is in use for as long as its last server takes to vanish.
        let codes = [api::BUSY, &["resource_in_use"]].concat();
        let answer = self.api.call_patiently(request, &codes, CALL_TIMEOUT / 2).await;
        let reply = match answer {
            Ok(reply) => reply,
            Err(failed) if failed.is_absent() => return Ok(()),
            Err(failed) => return Err(failed.of_write()),
        };
        self.await_deletion(target, &reply).await
    }

    /// Adopts what stands under the name of a claim, if it is that claim's; `otherwise` if nothing does.
    async fn adopt<T: Resource>(
        &self,
        claim: &Claim,
        otherwise: ProviderError,
    ) -> Result<Observed, ProviderError> {
        let name = claim.spec.name();
        match self.find::<T>(name).await {
            Ok(Some(row)) => {
                let seen = self.observed(row);
                if is_ours(&seen, &claim.labels) {
                    tracing::debug!(kind = %T::KIND, name, "adopted");
                    return Ok(seen);
                }
                let kind = T::KIND;
                Err(ProviderError::Rejected {
                    code: "name_taken".to_owned(),
                    why: format!(
                        "the project has a {kind} named {name:?} that is not of this stack and lineage"
                    ),
                })
            }
            // Not found, or not to be known: it may appear yet.
            Ok(None) | Err(_) => Err(otherwise),
        }
    }
}

/// Whether a resource was made for the same thing: another attempt at it counts.
fn is_ours(seen: &Observed, labels: &ClaimLabels) -> bool {
    seen.claim().is_some_and(|claim| {
        (&claim.stack, &claim.lineage, &claim.pool, &claim.id)
            == (&labels.stack, &labels.lineage, &labels.pool, &labels.id)
    })
}

/// What should be changed is not there.
fn absent(target: &ResourceRef) -> ProviderError {
    ProviderError::Rejected {
        code: "not_found".to_owned(),
        why: format!("there is no {target}"),
    }
}

fn unsupported(what: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: what.to_owned(),
    }
}

/// Bounds a call as a whole.
async fn within<T>(
    call: impl Future<Output = Result<T, ProviderError>>,
    late: fn(String) -> ProviderError,
) -> Result<T, ProviderError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(late(format!("not done within {} s", CALL_TIMEOUT.as_secs()))),
    }
}

fn unavailable(why: String) -> ProviderError {
    ProviderError::Unavailable { why }
}

fn ambiguous(why: String) -> ProviderError {
    ProviderError::Ambiguous { why }
}

#[async_trait]
impl Provider for Hetzner {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        within(self.read_offerings(), unavailable).await
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_kinds(Some(stack))), unavailable).await
    }

    async fn list_all(&self) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_kinds(None)), unavailable).await
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        within(self.read_one(target), unavailable).await
    }

    async fn prepare(&self, spec: &ResourceSpec) {
        if let ResourceSpec::Machine(spec) = spec {
            // Whether it fails does not matter: the create asks again, and says so.
            let look_up = self.image(&spec.image, &spec.offering.machine_type);
            let _ = tokio::time::timeout(PREPARING, look_up).await;
        }
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        future::join_all(
            claims
                .iter()
                .map(|claim| within(self.create_one(claim), ambiguous)),
        )
        .await
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        within(self.update_one(have, want), ambiguous).await
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        within(self.put_labels(&have.target, labels), ambiguous).await
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        within(self.delete_one(target), ambiguous).await
    }

    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        within(self.check_choices(choices), unavailable).await
    }
}
