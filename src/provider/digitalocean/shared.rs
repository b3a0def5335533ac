//! Makes and changes what droplets share: ssh keys and firewalls.

use digitalocean_api::api::SshKey as Builder;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    model::resource::{Completeness, FirewallSpec, Labels, Observed, ResourceRef, SshKeySpec},
    net::Request,
    provider::{Claim, ProviderError},
};

use super::{
    CALL_TIMEOUT, Digitalocean, PATIENCE, SETTLE, absent,
    api::{Failed, decode},
    droplets::LOOK_AGAIN,
    is_ours, name_taken, requests, rules, tags, unsupported,
    wire::{CREATED, Droplet, Firewall, One, Page, Resource, SshKey},
};

impl Digitalocean {
    /// Everything of a kind, all of it.
    async fn whole<T: Resource>(&self) -> Result<(Vec<T>, Option<Timestamp>), ProviderError> {
        let pages = self.every::<T>().await.map_err(Failed::of_read)?;
        match pages.completeness {
            Completeness::Complete => Ok((pages.rows, pages.now)),
            Completeness::Partial { why } => Err(ProviderError::Unavailable { why }),
        }
    }

    /// What was made for a claim already, and the cloud's time.
    ///
    /// # Errors
    /// [`ProviderError::Rejected`] when something else has its name.
    pub(super) async fn there<T: Resource>(
        &self,
        claim: &Claim,
    ) -> Result<(Option<Observed>, Option<Timestamp>), ProviderError> {
        let (rows, now) = self.whole::<T>().await?;
        let name = claim.spec.name();
        let named = rows.into_iter().map(|row| self.observed(row));
        let mut named: Vec<_> = named.filter(|seen| seen.name == name).collect();
        match named.iter().position(|seen| is_ours(&seen.labels, &claim.labels)) {
            Some(at) => Ok((Some(named.swap_remove(at)), now)),
            None if named.is_empty() => Ok((None, now)),
            None => Err(name_taken(claim.spec.kind().as_str(), name)),
        }
    }

    /// Sends a create; after an unknown outcome looks until it is seen, or the settle time has passed.
    pub(super) async fn create_with<T: Resource>(
        &self,
        claim: &Claim,
        request: Request,
    ) -> Result<Observed, ProviderError> {
        let made = match self.api.call_patiently(request, PATIENCE).await {
            Ok(reply) => decode::<One<T>>(&reply, "the new resource"),
            Err(failed) => Err(failed),
        };
        let failed = match made {
            Ok(one) => return Ok(self.observed(one.row)),
            Err(failed) if failed.may_be_done() => failed,
            Err(failed) => return Err(failed.of_write()),
        };
        let end = Instant::now() + SETTLE;
        loop {
            if let Ok((Some(seen), _)) = self.there::<T>(claim).await {
                return Ok(seen);
            }
            if Instant::now() + LOOK_AGAIN >= end {
                return Err(failed.of_write());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Changes a resource; sent twice, it is done once.
    pub(super) async fn put<T: Resource>(
        &self,
        method: Method,
        path: String,
        body: Value,
    ) -> Result<Observed, ProviderError> {
        let request = Request {
            idempotent: true,
            ..Request::new(method, path).json(body)
        };
        let reply = self.api.call_patiently(request, PATIENCE).await;
        let reply = reply.map_err(Failed::of_write)?;
        let one: One<T> = decode(&reply, "the changed resource").map_err(Failed::of_write)?;
        Ok(self.observed(one.row))
    }

    pub(super) async fn create_ssh_key(
        &self,
        claim: &Claim,
        spec: &SshKeySpec,
    ) -> Result<Observed, ProviderError> {
        let (there, now) = self.there::<SshKey>(claim).await?;
        if let Some(seen) = there {
            return Ok(seen);
        }
        let (keys, _) = self.whole::<SshKey>().await?;
        if let Some(key) = keys
            .into_iter()
            .find(|key| same_key(&key.public_key, &spec.public_key))
        {
            let seen = self.observed(key);
            if is_ours(&seen.labels, &claim.labels) {
                return Ok(seen);
            }
            return Err(ProviderError::Rejected {
                code: "key_taken".to_owned(),
                why: format!(
                    "the account has this public key already, under the name {:?} and not of this stack; use another key pair, or remove that one",
                    seen.name
                ),
            });
        }
        let mut labels = claim.labels.to_labels();
        if let Some(now) = now {
            labels.insert(CREATED.to_owned(), now.as_second().to_string());
        }
        let name = key_name(&spec.name, &labels)?;
        let request = requests::of(&Builder::create(name.as_str(), spec.public_key.as_str()));
        self.create_with::<SshKey>(claim, request).await
    }

    pub(super) async fn update_ssh_key(
        &self,
        have: &Observed,
        want: &SshKeySpec,
    ) -> Result<Observed, ProviderError> {
        if !have
            .public_key
            .as_deref()
            .is_some_and(|key| same_key(key, &want.public_key))
        {
            return Err(unsupported("changing a key's public part in place"));
        }
        let row = self.current_key(&have.target).await?;
        let (_, labels) = row.parts();
        self.rename_key(row.id, &want.name, &labels).await
    }

    pub(super) async fn current_key(&self, target: &ResourceRef) -> Result<SshKey, ProviderError> {
        let row = self.read_as::<SshKey>(target.id.as_str()).await;
        row.map_err(Failed::of_read)?.ok_or_else(|| absent(target))
    }

    /// Gives a key a name with these labels behind it.
    pub(super) async fn rename_key(
        &self,
        id: u64,
        name: &str,
        labels: &Labels,
    ) -> Result<Observed, ProviderError> {
        let name = key_name(name, labels)?;
        let built = requests::of(&Builder::update(id).name(name));
        let body = built.body.unwrap_or_default();
        self.put::<SshKey>(built.method, built.path, body).await
    }

    pub(super) async fn create_firewall(
        &self,
        claim: &Claim,
        spec: &FirewallSpec,
    ) -> Result<Observed, ProviderError> {
        let (inbound, outbound) = rules::wanted(&spec.rules)?;
        if let (Some(seen), _) = self.there::<Firewall>(claim).await? {
            return Ok(seen);
        }
        let named = [
            tags::text(&claim.labels.to_labels())?,
            tags::covering(&spec.name, claim.labels.intent.as_str()),
        ];
        // A firewall may only name tags that are there.
        for tag in &named {
            self.make_tag(tag).await.map_err(Failed::of_read)?;
        }
        let body = json!({
            "name": spec.name,
            "inbound_rules": inbound,
            "outbound_rules": outbound,
            "droplet_ids": [],
            "tags": named,
        });
        let request = Request::new(Method::POST, "/firewalls").json(body);
        let made = self.create_with::<Firewall>(claim, request).await;
        if made.as_ref().is_err_and(ProviderError::is_definite) {
            self.sweep(named).await;
        }
        made
    }

    pub(super) async fn current_firewall(&self, target: &ResourceRef) -> Result<Firewall, ProviderError> {
        let row = self.read_as::<Firewall>(target.id.as_str()).await;
        row.map_err(Failed::of_read)?.ok_or_else(|| absent(target))
    }

    /// Replaces name and rules, and keeps the rest: the API replaces a firewall as a whole.
    pub(super) async fn update_firewall(
        &self,
        have: &Observed,
        want: &FirewallSpec,
    ) -> Result<Observed, ProviderError> {
        let (inbound, outbound) = rules::wanted(&want.rules)?;
        let row = self.current_firewall(&have.target).await?;
        let body = json!({
            "name": want.name,
            "inbound_rules": inbound,
            "outbound_rules": outbound,
            "droplet_ids": row.droplet_ids.clone().unwrap_or_default(),
            "tags": row.tags(),
        });
        self.put::<Firewall>(Method::PUT, format!("/firewalls/{}", row.id), body)
            .await
    }

    /// Waits until no droplet is behind it: the API would leave them without it.
    pub(super) async fn delete_firewall(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let end = Instant::now() + CALL_TIMEOUT / 2;
        let row = loop {
            let row = self.read_as::<Firewall>(target.id.as_str()).await;
            let Some(row) = row.map_err(Failed::of_read)? else {
                return Ok(());
            };
            let behind = self.behind(&row).await?;
            if behind == 0 {
                break row;
            }
            if Instant::now() + LOOK_AGAIN >= end {
                return Err(ProviderError::Unavailable {
                    why: format!("{target} is in use by {behind} droplets"),
                });
            }
            sleep(LOOK_AGAIN).await;
        };
        self.remove(target).await?;
        let ours = row
            .tags()
            .iter()
            .filter(|tag| tags::is_covering(tag) || tags::is_text(tag));
        self.sweep(ours.cloned()).await;
        self.known.lock().await.covering.remove(&row.id);
        Ok(())
    }

    /// How many droplets it covers, at least.
    async fn behind(&self, row: &Firewall) -> Result<u64, ProviderError> {
        let assigned = row.droplet_ids.as_ref().map_or(0, Vec::len);
        let mut all = u64::try_from(assigned).unwrap_or(u64::MAX);
        for tag in row.tags().iter().filter(|tag| !tags::is_text(tag)) {
            let request = Request::get("/droplets")
                .query("tag_name", tag.as_str())
                .query("per_page", "1");
            let page: Option<Page<Droplet>> = self.api.find(request).await.map_err(Failed::of_read)?;
            all = all.saturating_add(page.map_or(0, |page| {
                let told = page.rows.len() as u64;
                page.meta.total.unwrap_or(told)
            }));
        }
        Ok(all)
    }

    /// Puts labels over those of a firewall: the tag that names them is another one then.
    pub(super) async fn relabel_firewall(
        &self,
        target: &ResourceRef,
        labels: &Labels,
    ) -> Result<Observed, ProviderError> {
        let row = self.current_firewall(target).await?;
        let mut all = row.labels();
        all.extend(labels.clone());
        let text = tags::text(&all)?;
        let (old, mut named): (Vec<_>, Vec<_>) = row
            .tags()
            .iter()
            .cloned()
            .partition(|tag| tags::is_text(tag) && *tag != text);
        let mut new: Vec<_> = (!named.contains(&text)).then_some(text).into_iter().collect();
        if row.covering().is_none() {
            new.push(tags::covering(&row.name, &row.id));
        }
        if new.is_empty() && old.is_empty() {
            return Ok(self.observed(row));
        }
        for tag in &new {
            self.make_tag(tag).await.map_err(Failed::of_write)?;
        }
        named.extend(new);
        let body = json!({
            "name": row.name,
            "inbound_rules": row.inbound_rules.clone().unwrap_or_default(),
            "outbound_rules": row.outbound_rules.clone().unwrap_or_default(),
            "droplet_ids": row.droplet_ids.clone().unwrap_or_default(),
            "tags": named,
        });
        let put = self
            .put::<Firewall>(Method::PUT, format!("/firewalls/{}", row.id), body)
            .await?;
        self.sweep(old).await;
        Ok(put)
    }
}

/// A key's name with its labels behind it.
fn key_name(name: &str, labels: &Labels) -> Result<String, ProviderError> {
    if labels.is_empty() {
        return Ok(name.to_owned());
    }
    let name = format!("{name} {}", tags::text(labels)?);
    if name.len() > tags::LENGTH {
        return Err(ProviderError::Rejected {
            code: "labels_too_long".to_owned(),
            why: format!(
                "the key's name with its claim takes {} characters, and {} is what a name may have: give the stack or the key a shorter name",
                name.len(),
                tags::LENGTH
            ),
        });
    }
    Ok(name)
}

/// Whether two keys are the same, whatever their comments.
fn same_key(one: &str, other: &str) -> bool {
    one.split_whitespace()
        .take(2)
        .eq(other.split_whitespace().take(2))
}
