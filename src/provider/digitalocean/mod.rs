//! DigitalOcean: droplets with their ssh keys, firewalls and VPCs.
//!
//! # How the `digitalocean-api` crate is used
//! It builds paths and bodies (`requests`); they go through [`net::Client`], and answers are decoded by `wire`. The crate's own
//! sender has neither time-outs nor retries, shows no header and loses the body of most errors, and its models want every field. It
//! knows no firewalls and no VPCs, and takes user data for a flag: those bodies are ours.
//!
//! # Whose a resource is
//! A droplet carries its claim as tags (`tags`). Nothing else of ours can be tagged, so the claim stands where there is room:
//! - a **firewall** names a tag that no droplet carries and whose name is the claim. A second tag, carried by its droplets from their
//!   first second, is how it finds them: rules hold before user data runs. Five tags are what a firewall may have;
//! - an **ssh key** has the claim behind its name, after a space, and its age with it, which the API does not tell;
//! - a **VPC** has it as its description.
//!
//! # Guarantees
//! - There is no idempotency key, and names are not unique. A create looks its name up first and adopts the droplet of the same claim;
//!   after an unknown outcome it looks until the droplet is seen or [`SETTLE`] has passed. Of several that the same attempt made, the
//!   one with the lowest id stays.
//! - A droplet that is accepted (202) and then vanishes, or whose create action fails, is `NoCapacity`, and nothing is left of it.
//! - A firewall or a VPC that a droplet uses is not deleted, though the API would take the firewall away.
//! - A call ends within [`CALL_TIMEOUT`].
//!
//! # Caveats
//! - The first VPC of a region becomes its default one, which DigitalOcean lets nobody delete.
//! - GPU sizes are not offered: a listing by tag is not promised to show GPU droplets.
//! - Charged by the second since 2026-01-01, at least 60 s or 0.01 USD: the core knows the time and not the amount.
//! - Without a public IPv4 address a droplet has no public IPv6 address either, and needs a NAT gateway in its VPC.
//! - A tag that nothing carries lives on. The one of a droplet's own goes with it, those of a firewall with the firewall; a few that
//!   an interrupted create left stay until somebody removes them, and cost nothing.

mod actions;
mod api;
mod check;
mod droplets;
mod images;
mod labels;
mod making;
mod networks;
mod offerings;
mod pages;
mod requests;
mod rules;
mod shared;
mod tags;
#[cfg(test)]
mod tests;
mod wire;
mod wire_catalog;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use digitalocean_api::api::Droplet as Builder;
use futures::future;
use http::Method;
use jiff::SignedDuration;
use rust_decimal::Decimal;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    model::{
        ids::{ProviderName, ResourceKind, StackName},
        money::Billing,
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
use pages::Pages;
use wire::{Droplet, Firewall, One, Resource, SshKey, Vpc, collection};

/// The address of the API, its version included.
pub const ENDPOINT: &str = "https://api.digitalocean.com/v2";

/// Requests per hour and token; each is forgotten after an hour. Source: the API's documentation, "Rate Limit".
pub const REQUESTS_PER_HOUR: u32 = 5000;

/// The burst limit's share of the hour's requests, in a minute: 250 of 5,000. Source: as above.
const PER_MINUTE_SHARE: u32 = 20;

/// The most bytes of user data. Source: the API's description, `droplets_create`.
pub const USER_DATA_LIMIT: usize = 64 * 1024;

/// The most droplets that one call makes. Source: the API's description, `droplets_create`.
pub const BATCH_SIZE: usize = 10;

/// The longest that one call may take: a create with its action takes 20 to 60 s.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long what was accepted may be absent from a listing.
pub const SETTLE: Duration = Duration::from_secs(10);

/// How long a call asks again while another action holds the resource.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a look-up before a create may take: it is no part of the call's time.
const PREPARING: Duration = Duration::from_secs(5);

/// One team's account at DigitalOcean.
#[derive(Debug)]
pub struct Digitalocean {
    profile: ProviderProfile,
    api: Api,
    poller: Arc<Poller>,
    images: Mutex<images::Images>,
    known: Mutex<Known>,
}

/// What was learnt of shared resources, and does not change while they are there.
#[derive(Debug, Default)]
struct Known {
    /// The tag by which a firewall finds its droplets, by the firewall's id.
    covering: BTreeMap<String, String>,
    /// Whether a VPC is somebody's choice, and not where its region puts everything.
    chosen: BTreeMap<String, bool>,
    /// The tags of a droplet's own, by its id, as it was last listed.
    own: BTreeMap<String, Vec<String>>,
}

impl Digitalocean {
    /// A provider under this name of the stack file, with so many calls at once. Connects to nothing yet.
    ///
    /// Without `requests_per_hour` the real API is held to [`REQUESTS_PER_HOUR`]; another address is not limited. A limit per hour
    /// brings that per minute with it.
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
        config.requests_per_minute = config.requests_per_hour.map(|hour| hour / PER_MINUTE_SHARE);
        let seconds = |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let profile = ProviderProfile {
            name,
            kind: "digitalocean".to_owned(),
            identity: Identity::Named,
            // Since 2026 (its pricing page): by the second, a minute or a cent at least, whichever is more.
            billing: Billing::PerSecond {
                minimum: SignedDuration::from_secs(60),
                least: Some(Decimal::new(1, 2)),
            },
            concurrency: config.concurrency,
            batch_size: BATCH_SIZE,
            user_data_limit: USER_DATA_LIMIT,
            requests_per_hour: config.requests_per_hour,
            settle: seconds(SETTLE),
            call_timeout: seconds(CALL_TIMEOUT),
            group_size: None,
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
            known: Mutex::default(),
        })
    }

    fn name(&self) -> &ProviderName {
        &self.profile.name
    }

    fn observed<T: Resource>(&self, row: T) -> Observed {
        row.observed(self.name())
    }

    async fn all<T: Resource>(&self, request: Request) -> Result<Pages<T>, Failed> {
        pages::all(&self.api, request).await
    }

    /// Every one of a kind that cannot be asked for by tag: those of others too.
    async fn every<T: Resource>(&self) -> Result<Pages<T>, Failed> {
        self.all(Request::get(collection(T::KIND).unwrap_or_default()))
            .await
    }

    async fn read_as<T: Resource>(&self, id: &str) -> Result<Option<T>, Failed> {
        let path = collection(T::KIND).unwrap_or_default();
        let one: Option<One<T>> = self.api.find(Request::get(format!("{path}/{id}"))).await?;
        Ok(one.map(|one| one.row))
    }

    /// Everything that carries a stack's label: this stack's, or any.
    async fn list_kinds(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let droplets = match stack {
            Some(stack) => requests::of(&Builder::list_by_tag(tags::of_stack(stack.as_str()))),
            None => requests::of(&Builder::list()),
        };
        let (droplets, keys, firewalls, vpcs) = future::join4(
            self.all::<Droplet>(droplets),
            self.every::<SshKey>(),
            self.every::<Firewall>(),
            self.every::<Vpc>(),
        )
        .await;
        let uses = match (&firewalls, &vpcs) {
            (Ok(firewalls), Ok(vpcs)) => {
                self.learn(&firewalls.rows, &vpcs.rows).await;
                let whole = [&firewalls.completeness, &vpcs.completeness];
                whole.iter().all(|part| part.is_complete())
            }
            _ => false,
        };
        let chosen = {
            let mut known = self.known.lock().await;
            let rows = droplets.iter().flat_map(|pages| &pages.rows);
            known.own = rows.map(|row| (row.id.to_string(), droplets::own(row))).collect();
            known.chosen.clone()
        };
        let walls = firewalls
            .as_ref()
            .map(|pages| pages.rows.as_slice())
            .unwrap_or_default();
        let droplets = droplets.map(|pages| {
            pages.map(|row| {
                let used = uses.then(|| droplets::uses(self.name(), &row, walls, &chosen));
                Observed {
                    uses: used,
                    ..self.observed(row)
                }
            })
        });
        let kinds = [
            droplets,
            keys.map(|pages| pages.map(|row| self.observed(row))),
            firewalls.map(|pages| pages.map(|row| self.observed(row))),
            vpcs.map(|pages| pages.map(|row| self.observed(row))),
        ];
        joined(kinds, stack)
    }

    /// Remembers what does not change.
    async fn learn(&self, firewalls: &[Firewall], vpcs: &[Vpc]) {
        let mut known = self.known.lock().await;
        let covering = firewalls
            .iter()
            .filter_map(|row| Some((row.id.clone(), row.covering()?.to_owned())));
        known.covering.extend(covering);
        let chosen = vpcs.iter().map(|row| (row.id.clone(), droplets::is_chosen(row)));
        known.chosen.extend(chosen);
    }

    async fn read_one(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let id = target.id.as_str();
        match target.kind {
            ResourceKind::Machine => return self.read_machine(id).await,
            ResourceKind::SshKey => self
                .read_as::<SshKey>(id)
                .await
                .map(|row| row.map(|row| self.observed(row))),
            ResourceKind::Firewall => self
                .read_as::<Firewall>(id)
                .await
                .map(|row| row.map(|row| self.observed(row))),
            ResourceKind::Network => self
                .read_as::<Vpc>(id)
                .await
                .map(|row| row.map(|row| self.observed(row))),
            ResourceKind::PlacementGroup | ResourceKind::Group | ResourceKind::Batch => {
                return Err(unsupported(target.kind.as_str()));
            }
        }
        .map_err(Failed::of_read)
    }

    async fn create_shared(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        match &claim.spec {
            ResourceSpec::SshKey(spec) => self.create_ssh_key(claim, spec).await,
            ResourceSpec::Firewall(spec) => self.create_firewall(claim, spec).await,
            ResourceSpec::Network(spec) => self.create_network(claim, spec).await,
            ResourceSpec::Machine(_)
            | ResourceSpec::PlacementGroup(_)
            | ResourceSpec::Group(_)
            | ResourceSpec::Batch(_) => Err(unsupported(claim.spec.kind().as_str())),
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
            ResourceSpec::PlacementGroup(_) | ResourceSpec::Group(_) | ResourceSpec::Batch(_) => {
                Err(unsupported(want.kind().as_str()))
            }
        }
    }

    async fn delete_one(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        match target.kind {
            ResourceKind::Machine => self.delete_machine(target).await,
            ResourceKind::SshKey => self.remove(target).await,
            ResourceKind::Firewall => self.delete_firewall(target).await,
            ResourceKind::Network => self.delete_network(target).await,
            ResourceKind::PlacementGroup | ResourceKind::Group | ResourceKind::Batch => {
                Err(unsupported(target.kind.as_str()))
            }
        }
    }

    /// Sends the delete; what is absent is deleted.
    async fn remove(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let path = collection(target.kind).unwrap_or_default();
        let request = Request::new(Method::DELETE, format!("{path}/{}", target.id));
        match self.api.call_patiently(request, PATIENCE).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.is_absent() => Ok(()),
            Err(failed) => Err(failed.of_write()),
        }
    }
}

/// Four listings as one: partial if one is, an error only if all failed.
fn joined(
    kinds: [Result<Pages<Observed>, Failed>; 4],
    stack: Option<&StackName>,
) -> Result<Listing, ProviderError> {
    let (mut resources, mut flaw, mut now, mut calls) = (Vec::new(), None, None, 0);
    let (mut failed, mut every) = (Vec::new(), true);
    for kind in kinds {
        match kind {
            Ok(pages) => {
                every = false;
                if let Completeness::Partial { why } = pages.completeness {
                    flaw.get_or_insert(why);
                }
                now = now.max(pages.now);
                calls += pages.calls;
                // Nothing else, whatever the server filters.
                resources.extend(pages.rows.into_iter().filter(|seen| {
                    seen.labels
                        .get(ClaimLabels::STACK)
                        .is_some_and(|carried| stack.is_none_or(|stack| carried == stack.as_str()))
                }));
            }
            Err(error) => {
                calls += 1;
                failed.push(error.of_read());
            }
        }
    }
    if let Some(error) = failed.into_iter().next() {
        if every {
            return Err(error);
        }
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

/// Whether a resource was made for the same thing: another attempt at it counts.
fn is_ours(labels: &Labels, claim: &ClaimLabels) -> bool {
    ClaimLabels::from_labels(labels).is_some_and(|seen| {
        (&seen.stack, &seen.lineage, &seen.pool, &seen.id)
            == (&claim.stack, &claim.lineage, &claim.pool, &claim.id)
    })
}

/// What is there under a claim's name and not its own.
fn name_taken(kind: &str, name: &str) -> ProviderError {
    ProviderError::Rejected {
        code: "name_taken".to_owned(),
        why: format!("the account has a {kind} named {name:?} that is not of this stack and lineage"),
    }
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
    until(Instant::now() + CALL_TIMEOUT, call, late).await
}

/// Bounds a part of a call by the end of the whole.
async fn until<T>(
    end: Instant,
    call: impl Future<Output = Result<T, ProviderError>>,
    late: fn(String) -> ProviderError,
) -> Result<T, ProviderError> {
    match tokio::time::timeout_at(end, call).await {
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
impl Provider for Digitalocean {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        within(Box::pin(self.read_offerings()), unavailable).await
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
            let look_up = self.image(&spec.image, &spec.offering.location);
            let _ = tokio::time::timeout(PREPARING, look_up).await;
        }
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        let mut answers: Vec<Option<Result<Observed, ProviderError>>> = claims.iter().map(|_| None).collect();
        let shared = claims.iter().enumerate().filter_map(|(at, claim)| {
            let is_shared = !matches!(claim.spec, ResourceSpec::Machine(_));
            is_shared.then_some(async move { (at, within(self.create_shared(claim), ambiguous).await) })
        });
        let (shared, machines) = future::join(future::join_all(shared), self.create_machines(claims)).await;
        for (at, answer) in shared.into_iter().chain(machines) {
            answers[at] = Some(answer);
        }
        let untold = || Err(ambiguous("the create ended without an answer".to_owned()));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(untold))
            .collect()
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
        within(Box::pin(self.check_choices(choices)), unavailable).await
    }
}
