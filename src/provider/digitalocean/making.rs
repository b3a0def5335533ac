//! Makes droplets, and finds those again whose answer was lost.
//!
//! Claims that differ in nothing but the name are made by one call, ten at most; what is each one's own (a tag) is put on then, and a
//! droplet that was left without it is found by its name. Each claim's user data holds its own join token on most CI systems, so that
//! this is for those that share one. It saves no requests, since a tag takes two; it is one decision for all ten.

use std::time::Duration;

use digitalocean_api::api::Droplet as Builder;
use futures::future;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    model::{
        ids::ResourceKind,
        resource::{Labels, MachineSpec, Observed, ResourceRef, ResourceSpec},
    },
    net::Request,
    provider::{Claim, ProviderError},
};

use super::{
    BATCH_SIZE, CALL_TIMEOUT, Digitalocean, PATIENCE, SETTLE,
    actions::{End, Ended},
    ambiguous,
    api::{Failed, decode},
    is_ours, name_taken, requests, tags, unavailable, unsupported, until,
    wire::{Droplet, Firewall, Made, reference},
};

/// The first and the longest pause between two looks for a droplet whose answer was lost.
const LOOK_FOR: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// What becomes of a droplet that finds no host.
const VANISHED: &str = "vanished while it came up";

/// A claim to a machine, and its place among the answers.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    at: usize,
    claim: &'a Claim,
    spec: &'a MachineSpec,
}

/// What a droplet is made from, but for its name and its own tag.
#[derive(Clone, PartialEq)]
struct Order {
    region: String,
    size: String,
    image: Value,
    tags: Vec<String>,
    rest: Map<String, Value>,
}

/// What is there under a claim's name.
enum Found {
    /// Made for this claim, the lowest id first; never empty.
    Ours(Vec<Droplet>),
    /// Made by somebody else.
    Theirs,
    Nothing,
}

type Answer = (usize, Result<Observed, ProviderError>);

impl Digitalocean {
    /// Makes or adopts each claim to a machine; answers in any order, each with the claim's place.
    pub(super) async fn create_machines(&self, claims: &[Claim]) -> Vec<Answer> {
        let end = Instant::now() + CALL_TIMEOUT;
        let wanted = claims.iter().enumerate().filter_map(|(at, claim)| {
            let ResourceSpec::Machine(spec) = &claim.spec else {
                return None;
            };
            Some(Wanted { at, claim, spec })
        });
        let begun = wanted.map(|one| async move { (one, until(end, self.begin(one), unavailable).await) });
        let mut answers = Vec::new();
        let mut batches: Vec<(Order, Vec<Wanted<'_>>)> = Vec::new();
        for (one, begun) in future::join_all(begun).await {
            match begun {
                Ok(Err(order)) => {
                    let open = batches
                        .iter_mut()
                        .find(|(other, members)| *other == order && members.len() < BATCH_SIZE);
                    match open {
                        Some((_, members)) => members.push(one),
                        None => batches.push((order, vec![one])),
                    }
                }
                Ok(Ok(seen)) => answers.push((one.at, Ok(seen))),
                Err(error) => answers.push((one.at, Err(error))),
            }
        }
        let made = batches
            .iter()
            .map(|(order, members)| self.make(order, members, end));
        answers.extend(future::join_all(made).await.into_iter().flatten());
        answers
    }

    /// What is there for the claim already; or what to make.
    async fn begin(&self, wanted: Wanted<'_>) -> Result<Result<Observed, Order>, ProviderError> {
        let order = self.order(wanted.claim, wanted.spec).await?;
        match self.find(wanted).await.map_err(Failed::of_read)? {
            Found::Ours(rows) => self.adopt(wanted.claim, rows).await.map(Ok),
            Found::Theirs => Err(name_taken("droplet", &wanted.spec.name)),
            Found::Nothing => Ok(Err(order)),
        }
    }

    /// What a claim's droplet is made from. Asks for nothing before it is clear that nothing is missing.
    async fn order(&self, claim: &Claim, spec: &MachineSpec) -> Result<Order, ProviderError> {
        let ids = |kind: ResourceKind| {
            let ours = claim.shared.iter();
            ours.filter(move |used| used.kind == kind && used.provider == *self.name())
                .map(|used| used.id.as_str())
                .collect::<Vec<_>>()
        };
        if spec.placement_group.is_some() {
            return Err(unsupported("a placement group"));
        }
        let keys: Vec<u64> = ids(ResourceKind::SshKey)
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect();
        let firewalls = ids(ResourceKind::Firewall);
        let networks = ids(ResourceKind::Network);
        if spec.networks.len() > 1 {
            return Err(unsupported("more than one network of a droplet"));
        }
        // Better no droplet than one without its firewall, or outside of its network.
        if keys.len() < spec.ssh_keys.len()
            || firewalls.len() < spec.firewalls.len()
            || networks.len() < spec.networks.len()
        {
            return Err(missing(&spec.name));
        }
        let mut carried = tags::of_many(&claim.labels.to_labels())?;
        for id in firewalls {
            carried.push(self.covering(id).await?.ok_or_else(|| missing(&spec.name))?);
        }
        let mut rest = Map::new();
        rest.insert("ssh_keys".to_owned(), json!(keys));
        rest.insert("monitoring".to_owned(), json!(true));
        rest.insert("ipv6".to_owned(), json!(spec.public_ipv4));
        if !spec.public_ipv4 {
            rest.insert("public_networking".to_owned(), json!(false));
        }
        if let Some(id) = networks.first().filter(|_| !spec.networks.is_empty()) {
            rest.insert("vpc_uuid".to_owned(), json!(id));
        }
        if let Some(data) = &claim.user_data {
            rest.insert("user_data".to_owned(), json!(data.expose_secret()));
        }
        Ok(Order {
            region: spec.offering.location.clone(),
            size: spec.offering.machine_type.clone(),
            image: self.image(&spec.image, &spec.offering.location).await?,
            tags: carried,
            rest,
        })
    }

    /// The tag by which a firewall finds its droplets; none when there is no such firewall, or it has none.
    async fn covering(&self, id: &str) -> Result<Option<String>, ProviderError> {
        if let Some(tag) = self.known.lock().await.covering.get(id) {
            return Ok(Some(tag.clone()));
        }
        let row = self.read_as::<Firewall>(id).await.map_err(Failed::of_read)?;
        self.learn(&Vec::from_iter(row), &[]).await;
        Ok(self.known.lock().await.covering.get(id).cloned())
    }

    /// Makes those of one order, and says what became of each.
    async fn make(&self, order: &Order, members: &[Wanted<'_>], end: Instant) -> Vec<Answer> {
        let request = match request(order, members) {
            Ok(request) => request,
            Err(error) => return members.iter().map(|one| (one.at, Err(error.clone()))).collect(),
        };
        let called = async {
            let reply = self.api.call_patiently(request, PATIENCE).await?;
            decode::<Made>(&reply, "the new droplets").map(Made::parts)
        };
        match tokio::time::timeout_at(end, called).await {
            Ok(Ok((rows, actions))) => {
                for one in members {
                    one.claim.accepted.tell();
                }
                self.finish(members, rows, &actions, end).await
            }
            Ok(Err(failed)) if failed.may_be_done() => {
                let error = failed.of_write();
                let looked = members.iter().map(|one| async {
                    let found = self.adopt_late(*one, error.clone());
                    (one.at, until(end, found, ambiguous).await)
                });
                future::join_all(looked).await
            }
            Ok(Err(failed)) => {
                let error = failed.of_write();
                members.iter().map(|one| (one.at, Err(error.clone()))).collect()
            }
            Err(_) => {
                let error = ambiguous("the droplets were not made in time".to_owned());
                members.iter().map(|one| (one.at, Err(error.clone()))).collect()
            }
        }
    }

    /// Waits for what was accepted: 202 promises nothing.
    async fn finish(
        &self,
        members: &[Wanted<'_>],
        rows: Vec<Droplet>,
        actions: &[u64],
        end: Instant,
    ) -> Vec<Answer> {
        let several = members.len() > 1;
        let tagged = members.iter().map(|one| async {
            let row = rows.iter().find(|row| row.name == one.spec.name);
            match (row, own_tag(one.claim)) {
                (Some(row), Ok(Some(own))) if several => {
                    self.tag(&own, row.id).await.map_err(Failed::after_sending)
                }
                (_, Err(error)) => Err(error),
                _ => Ok(()),
            }
        });
        let tagged = future::join_all(tagged).await;
        let ended = tokio::time::timeout_at(end, self.poller.wait(actions)).await;
        let ended = ended.unwrap_or_default();
        let finished = members.iter().zip(tagged).map(|(one, tagged)| {
            let row = rows.iter().find(|row| row.name == one.spec.name);
            let ended = &ended;
            async move {
                let answer = async {
                    let Some(row) = row else {
                        let why = format!("the answer has no droplet {:?}", one.spec.name);
                        return self.adopt_late(*one, ambiguous(why)).await;
                    };
                    tagged?;
                    self.finish_one(*one, row.id, errored(ended, row.id, several))
                        .await
                };
                (one.at, until(end, answer, ambiguous).await)
            }
        });
        future::join_all(finished).await
    }

    async fn finish_one(&self, one: Wanted<'_>, id: u64, errored: bool) -> Result<Observed, ProviderError> {
        if errored {
            let target = reference(self.name(), ResourceKind::Machine, &id.to_string());
            return Err(match self.remove(&target).await {
                Ok(()) => self.no_room(one.claim, "its create action failed").await,
                Err(error) => ambiguous(format!(
                    "the create of {:?} failed, and what was made could not be removed: {error}",
                    one.spec.name
                )),
            });
        }
        match self.wait_until_up(id).await? {
            Some(row) => Ok(self.with_claimed(row, one.claim)),
            None => Err(self.no_room(one.claim, VANISHED).await),
        }
    }

    /// A new droplet uses what its claim says: the firewalls need not be read again.
    fn with_claimed(&self, row: Droplet, claim: &Claim) -> Observed {
        let kinds = [ResourceKind::Firewall, ResourceKind::Network];
        let shared = claim.shared.iter();
        let used = shared.filter(|used| kinds.contains(&used.kind) && used.provider == *self.name());
        let mut uses: Vec<ResourceRef> = used.cloned().collect();
        uses.sort();
        Observed {
            uses: Some(uses),
            ..self.observed(row)
        }
    }

    /// It was accepted, and is not there any more: there was no room for it.
    async fn no_room(&self, claim: &Claim, what: &str) -> ProviderError {
        if let Ok(Some(own)) = own_tag(claim) {
            self.sweep([own]).await;
        }
        ProviderError::NoCapacity {
            why: format!("{:?} was accepted, and {what}", claim.spec.name()),
        }
    }

    /// The droplets under a claim's name.
    async fn find(&self, wanted: Wanted<'_>) -> Result<Found, Failed> {
        let name = &wanted.spec.name;
        let request = requests::of(&Builder::list()).query("name", name.as_str());
        let pages = self.all::<Droplet>(request).await?;
        let named = pages.rows.into_iter().filter(|row| row.name == *name);
        let (mut ours, theirs): (Vec<_>, Vec<_>) =
            named.partition(|row| is_droplet_of(&row.labels(), wanted.claim));
        ours.sort_by_key(|row| row.id);
        Ok(match (ours.is_empty(), theirs.is_empty()) {
            (false, _) => Found::Ours(ours),
            (true, false) => Found::Theirs,
            (true, true) if pages.completeness.is_complete() => Found::Nothing,
            (true, true) => {
                return Err(Failed::Malformed(format!(
                    "the droplets named {name:?} are not all told"
                )));
            }
        })
    }

    /// Takes the droplet with the lowest id, and removes those that the same attempt made besides: they are seconds old. Those of
    /// other attempts may run jobs: they are orphans, which a plan removes with care.
    async fn adopt(&self, claim: &Claim, rows: Vec<Droplet>) -> Result<Observed, ProviderError> {
        let mut rows = rows.into_iter();
        let Some(kept) = rows.next() else {
            return Err(ambiguous(format!("{:?} is not there", claim.spec.name())));
        };
        tracing::debug!(id = kept.id, name = kept.name, "adopted");
        let intent = |row: &Droplet| row.labels().remove("runfleet-intent");
        let of_kept = intent(&kept);
        for double in rows.filter(|row| of_kept.is_some() && intent(row) == of_kept) {
            tracing::warn!(
                id = double.id,
                kept = kept.id,
                "an attempt made two droplets: this one goes"
            );
            let target = reference(self.name(), ResourceKind::Machine, &double.id.to_string());
            // The tag that both carry stays with the other: not through `delete_machine`.
            let gone = self.remove(&target).await;
            gone.map_err(|error| ambiguous(format!("two are there, and one could not be removed: {error}")))?;
        }
        if of_kept.is_none()
            && let Some(own) = own_tag(claim)?
        {
            self.tag(&own, kept.id).await.map_err(Failed::after_sending)?;
        }
        match self.wait_until_up(kept.id).await? {
            Some(row) => self.with_uses(row).await.map_err(|error| {
                ambiguous(format!(
                    "{:?} is there, and not to be seen: {error}",
                    claim.spec.name()
                ))
            }),
            None => Err(self.no_room(claim, VANISHED).await),
        }
    }

    /// After an unknown outcome: looks until it is seen, or the settle time has passed.
    async fn adopt_late(
        &self,
        wanted: Wanted<'_>,
        otherwise: ProviderError,
    ) -> Result<Observed, ProviderError> {
        let end = Instant::now() + SETTLE;
        let mut pause = LOOK_FOR.0;
        loop {
            match self.find(wanted).await {
                Ok(Found::Ours(rows)) => return self.adopt(wanted.claim, rows).await,
                Ok(Found::Theirs | Found::Nothing) | Err(_) => {}
            }
            if Instant::now() + pause >= end {
                return Err(otherwise);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_FOR.1);
        }
    }
}

/// The one call for all of these.
fn request(order: &Order, members: &[Wanted<'_>]) -> Result<Request, ProviderError> {
    let (region, size) = (order.region.as_str(), order.size.as_str());
    let mut request = match members {
        [one] => {
            let mut carried = order.tags.clone();
            carried.extend(own_tag(one.claim)?);
            let name = one.spec.name.as_str();
            requests::of(&Builder::create(name, region, size, "").tags(carried))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.spec.name.as_str()).collect();
            requests::of(&Builder::create_multiple(names, region, size, "").tags(order.tags.clone()))
        }
    };
    if let Some(Value::Object(body)) = &mut request.body {
        body.insert("image".to_owned(), order.image.clone());
        body.extend(order.rest.clone());
    }
    Ok(request)
}

/// The tag of a claim's own.
fn own_tag(claim: &Claim) -> Result<Option<String>, ProviderError> {
    tags::of_one(&claim.labels.to_labels())
}

/// Whether a droplet was made for a claim: it says so, or says as much as those of one call say before each has its own tag.
fn is_droplet_of(labels: &Labels, claim: &Claim) -> bool {
    let ours = claim.labels.to_labels();
    let same = |key: &str| labels.get(key) == ours.get(key);
    let untold = ["runfleet-id", "runfleet-intent"]
        .iter()
        .all(|key| !labels.contains_key(*key));
    is_ours(labels, &claim.labels)
        || untold
            && ["runfleet-stack", "runfleet-lineage", "runfleet-pool"]
                .iter()
                .all(|key| same(key))
}

/// Whether a droplet's create failed.
fn errored(ended: &[Ended], droplet: u64, several: bool) -> bool {
    let failed = ended.iter().filter(|action| action.end == End::Errored);
    let mut of_it = failed.filter(|action| match action.resource {
        Some(id) => id == droplet,
        // With several it could be another's: it is looked at instead.
        None => !several,
    });
    of_it.next().is_some()
}

fn missing(name: &str) -> ProviderError {
    ProviderError::Rejected {
        code: "missing_prerequisite".to_owned(),
        why: format!("not every ssh key, firewall and network of {name:?} has an id, or is there"),
    }
}
