//! Droplets that are there: what they use, their name and their tags, and their end.

use std::{collections::BTreeMap, time::Duration};

use digitalocean_api::api::{Droplet as Builder, Tag};
use futures::future;

use crate::{
    model::{
        ids::{ProviderName, ResourceKind},
        resource::{Labels, MachineSpec, Observed, ResourceRef},
    },
    net::{Priority, Request},
    provider::ProviderError,
};

use super::{
    Digitalocean, PATIENCE, absent,
    actions::End,
    ambiguous,
    api::Failed,
    requests, tags, unsupported,
    wire::{Action, Droplet, Firewall, One, Vpc, reference},
};
use crate::provider::digitalocean::api::decode;

/// How often a droplet is looked at while it comes up.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The API's word for what is tagged.
const DROPLET: &str = "droplet";

/// The firewalls and the VPC that a droplet uses, sorted. Its region's default VPC is nobody's choice, and left out.
pub(super) fn uses(
    provider: &ProviderName,
    row: &Droplet,
    firewalls: &[Firewall],
    chosen: &BTreeMap<String, bool>,
) -> Vec<ResourceRef> {
    let walls = firewalls
        .iter()
        .filter(|wall| wall.covers(row.id, &row.tags))
        .map(|wall| reference(provider, ResourceKind::Firewall, &wall.id));
    let vpc = row
        .vpc_uuid
        .iter()
        .filter(|id| chosen.get(id.as_str()).copied().unwrap_or(true))
        .map(|id| reference(provider, ResourceKind::Network, id));
    let mut uses: Vec<_> = walls.chain(vpc).collect();
    uses.sort();
    uses
}

/// Whether a VPC is somebody's choice: ours, or one that is not its region's default.
pub(super) fn is_chosen(row: &Vpc) -> bool {
    !row.default || !row.labels().is_empty()
}

/// The tags that go with a droplet.
pub(super) fn own(row: &Droplet) -> Vec<String> {
    row.tags.iter().filter(|tag| tags::is_own(tag)).cloned().collect()
}

/// A droplet's number, as the crate wants it.
pub(super) fn number(id: &str) -> Option<usize> {
    id.parse().ok()
}

/// A refusal is definite only while nothing was changed.
fn after_change(done: bool, error: ProviderError) -> ProviderError {
    if done && error.is_definite() {
        return ambiguous(format!("changed in part: {error}"));
    }
    error
}

impl Digitalocean {
    pub(super) async fn read_machine(&self, id: &str) -> Result<Option<Observed>, ProviderError> {
        let row = self.read_as::<Droplet>(id).await.map_err(Failed::of_read)?;
        match row {
            Some(row) => self.with_uses(row).await.map(Some),
            None => Ok(None),
        }
    }

    /// With what it uses, for which the firewalls are read; without, where they cannot be.
    pub(super) async fn with_uses(&self, row: Droplet) -> Result<Observed, ProviderError> {
        let firewalls = self.every::<Firewall>().await.map_err(Failed::of_read)?;
        self.learn(&firewalls.rows, &[]).await;
        if let Some(id) = &row.vpc_uuid
            && !self.known.lock().await.chosen.contains_key(id)
        {
            let vpc = self.read_as::<Vpc>(id).await.map_err(Failed::of_read)?;
            self.learn(&[], &Vec::from_iter(vpc)).await;
        }
        let known = self.known.lock().await;
        let whole = firewalls.completeness.is_complete();
        let used = whole.then(|| uses(self.name(), &row, &firewalls.rows, &known.chosen));
        drop(known);
        Ok(Observed {
            uses: used,
            ..self.observed(row)
        })
    }

    /// Looks at a droplet until it is no longer coming up; none when it vanishes.
    pub(super) async fn wait_until_up(&self, id: u64) -> Result<Option<Droplet>, ProviderError> {
        loop {
            match self.read_as::<Droplet>(&id.to_string()).await {
                Ok(Some(row)) if row.is_coming_up() => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(row) => return Ok(row),
                Err(failed) => return Err(failed.after_sending()),
            }
        }
    }

    pub(super) async fn update_machine(
        &self,
        have: &Observed,
        want: &MachineSpec,
    ) -> Result<Observed, ProviderError> {
        if have.offering.as_ref() != Some(&want.offering) {
            return Err(unsupported("changing a droplet's size or region in place"));
        }
        let row = self.current(&have.target).await?;
        let renamed = row.name != want.name;
        if renamed {
            self.rename(row.id, &want.name).await?;
        }
        // Of its labels, these are known from what it should be; `relabel` repairs the others.
        let labels = Labels::from([
            ("runfleet-pool".to_owned(), want.pool.to_string()),
            ("runfleet-id".to_owned(), want.runner.to_string()),
        ]);
        let retagged = self.retag(&row, &labels).await;
        retagged.map_err(|error| after_change(renamed, error))?;
        let row = self.current(&have.target).await;
        let row = row.map_err(|error| after_change(true, error))?;
        self.with_uses(row)
            .await
            .map_err(|error| after_change(true, error))
    }

    async fn current(&self, target: &ResourceRef) -> Result<Droplet, ProviderError> {
        let row = self.read_as::<Droplet>(target.id.as_str()).await;
        row.map_err(Failed::of_read)?.ok_or_else(|| absent(target))
    }

    async fn rename(&self, id: u64, name: &str) -> Result<(), ProviderError> {
        let Some(number) = number(&id.to_string()) else {
            return Err(unsupported("a droplet of this id"));
        };
        // The same name twice is the same name.
        let request = Request {
            idempotent: true,
            ..requests::of(&Builder::get(number).rename(name))
        };
        let reply = self.api.call_patiently(request, PATIENCE).await;
        let reply = reply.map_err(Failed::of_write)?;
        let action: One<Action> = decode(&reply, "the rename").map_err(Failed::of_write)?;
        let ended = self.poller.wait(&[action.row.id]).await;
        if ended.iter().any(|action| action.end == End::Errored) {
            return Err(ambiguous("the rename ended errored".to_owned()));
        }
        Ok(())
    }

    /// Puts labels over those of a droplet.
    pub(super) async fn put_tags(
        &self,
        target: &ResourceRef,
        labels: &Labels,
    ) -> Result<Observed, ProviderError> {
        let row = self.current(target).await?;
        if !self.retag(&row, labels).await? {
            return self.with_uses(row).await;
        }
        let row = self.current(target).await;
        let row = row.map_err(|error| after_change(true, error))?;
        self.with_uses(row)
            .await
            .map_err(|error| after_change(true, error))
    }

    /// Whether anything was to be changed. What is new goes on before what is old comes off: it never is without a claim.
    async fn retag(&self, row: &Droplet, labels: &Labels) -> Result<bool, ProviderError> {
        let (add, take) = tags::change(&row.tags, labels)?;
        let mut done = false;
        for tag in &add {
            let tagged = self.tag(tag, row.id).await;
            tagged.map_err(|failed| after_change(done, failed.of_write()))?;
            done = true;
        }
        for tag in &take {
            let gone = if tags::is_own(tag) {
                self.delete_tag(tag).await
            } else {
                let built =
                    Tag::get(tag.as_str()).remove_resources(vec![(row.id.to_string().as_str(), DROPLET)]);
                let request = Request {
                    priority: Priority::Normal,
                    ..requests::of(&built)
                };
                self.api.call(request).await.map(|_| ())
            };
            match gone {
                Ok(()) => {}
                Err(failed) if failed.is_absent() => {}
                Err(failed) => return Err(after_change(done, failed.of_write())),
            }
            done = true;
        }
        let changed = !add.is_empty() || !take.is_empty();
        if changed {
            // Learnt anew by the next listing, or read.
            self.known.lock().await.own.remove(&row.id.to_string());
        }
        Ok(changed)
    }

    /// Makes a tag; one that is there already is as good.
    pub(super) async fn make_tag(&self, tag: &str) -> Result<(), Failed> {
        let request = Request {
            idempotent: true,
            ..requests::of(&Tag::create(tag))
        };
        self.api.call(request).await.map(|_| ())
    }

    /// Makes a tag and puts it on a droplet.
    pub(super) async fn tag(&self, tag: &str, droplet: u64) -> Result<(), Failed> {
        self.make_tag(tag).await?;
        let id = droplet.to_string();
        let request = Request {
            idempotent: true,
            ..requests::of(&Tag::get(tag).add_resources(vec![(id.as_str(), DROPLET)]))
        };
        self.api.call(request).await.map(|_| ())
    }

    async fn delete_tag(&self, tag: &str) -> Result<(), Failed> {
        let request = Request {
            priority: Priority::Normal,
            ..requests::of(&Tag::delete(tag))
        };
        self.api.call(request).await.map(|_| ())
    }

    /// Deletes tags that nothing carries any more. One that stays costs nothing and is nobody's, so that a failure is only noted.
    pub(super) async fn sweep(&self, unused: impl IntoIterator<Item = String>) {
        future::join_all(unused.into_iter().map(|tag| async move {
            match self.delete_tag(&tag).await {
                Ok(()) => {}
                Err(failed) if failed.is_absent() => {}
                Err(failed) => {
                    tracing::debug!(tag, error = %failed.of_read(), "a tag stays that nothing carries");
                }
            }
        }))
        .await;
    }

    pub(super) async fn delete_machine(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let known = self.known.lock().await.own.get(target.id.as_str()).cloned();
        let own = match known {
            Some(own) => own,
            None => match self.read_as::<Droplet>(target.id.as_str()).await {
                Ok(Some(row)) => self::own(&row),
                Ok(None) => return Ok(()),
                // It goes nevertheless, and its tag stays.
                Err(_) => Vec::new(),
            },
        };
        self.remove(target).await?;
        self.known.lock().await.own.remove(target.id.as_str());
        self.sweep(own).await;
        Ok(())
    }
}
