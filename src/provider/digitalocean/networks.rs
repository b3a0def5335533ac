//! VPCs: a network of ours with one subnet, which is the whole of it, in the region that the subnet's zone names.

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    model::resource::{Labels, NetworkSpec, Observed, ResourceRef},
    net::Request,
    provider::{Claim, ProviderError},
};

use super::{
    CALL_TIMEOUT, Digitalocean, absent,
    api::Failed,
    droplets::LOOK_AGAIN,
    tags, unsupported,
    wire::{Member, Page, Vpc},
};

impl Digitalocean {
    pub(super) async fn create_network(
        &self,
        claim: &Claim,
        spec: &NetworkSpec,
    ) -> Result<Observed, ProviderError> {
        let region = region(spec)?;
        if let (Some(seen), _) = self.there::<Vpc>(claim).await? {
            return Ok(seen);
        }
        let body = json!({
            "name": spec.name,
            "description": tags::text(&claim.labels.to_labels())?,
            "region": region,
            "ip_range": spec.ip_range,
        });
        let request = Request::new(Method::POST, "/vpcs").json(body);
        self.create_with::<Vpc>(claim, request).await
    }

    pub(super) async fn update_network(
        &self,
        have: &Observed,
        want: &NetworkSpec,
    ) -> Result<Observed, ProviderError> {
        let row = self.current_vpc(&have.target).await?;
        if row.ip_range != want.ip_range || row.region != region(want)? {
            return Err(unsupported("changing a VPC's range or region in place"));
        }
        if row.name == want.name {
            return Ok(self.observed(row));
        }
        self.patch(&row.id, json!({"name": want.name})).await
    }

    /// Puts labels over those of a VPC.
    pub(super) async fn relabel_vpc(
        &self,
        target: &ResourceRef,
        labels: &Labels,
    ) -> Result<Observed, ProviderError> {
        let row = self.current_vpc(target).await?;
        let mut all = row.labels();
        all.extend(labels.clone());
        if all == row.labels() {
            return Ok(self.observed(row));
        }
        self.patch(&row.id, json!({"description": tags::text(&all)?}))
            .await
    }

    async fn patch(&self, id: &str, body: Value) -> Result<Observed, ProviderError> {
        self.put::<Vpc>(Method::PATCH, format!("/vpcs/{id}"), body).await
    }

    async fn current_vpc(&self, target: &ResourceRef) -> Result<Vpc, ProviderError> {
        let row = self.read_as::<Vpc>(target.id.as_str()).await;
        row.map_err(Failed::of_read)?.ok_or_else(|| absent(target))
    }

    /// Waits for the last droplets to vanish. A 403 says that it has members yet, or that it is its region's default.
    pub(super) async fn delete_network(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let end = Instant::now() + CALL_TIMEOUT / 2;
        loop {
            let row = self.read_as::<Vpc>(target.id.as_str()).await;
            let Some(row) = row.map_err(Failed::of_read)? else {
                return Ok(());
            };
            if row.default {
                return Err(ProviderError::Rejected {
                    code: "default_vpc".to_owned(),
                    why: format!(
                        "{:?} is the default VPC of {}, which cannot be deleted: make another one the default first",
                        row.name, row.region
                    ),
                });
            }
            let members = self.members(&row.id).await?;
            if members == 0 {
                match self.remove(target).await {
                    Err(ProviderError::Unauthorized { .. }) if self.members(&row.id).await? > 0 => {}
                    answer => return answer,
                }
            }
            if Instant::now() + LOOK_AGAIN >= end {
                return Err(ProviderError::Unavailable {
                    why: format!("{target} is in use by {members} resources"),
                });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn members(&self, id: &str) -> Result<u64, ProviderError> {
        let request = Request::get(format!("/vpcs/{id}/members")).query("per_page", "1");
        let page: Option<Page<Member>> = self.api.find(request).await.map_err(Failed::of_read)?;
        Ok(page.map_or(0, |page| {
            let told = page.rows.len() as u64;
            page.meta.total.unwrap_or(told)
        }))
    }
}

/// The region of a network that a VPC can be.
///
/// # Errors
/// [`ProviderError::Unsupported`] for one with several subnets, or with one that is only a part of it.
fn region(spec: &NetworkSpec) -> Result<&str, ProviderError> {
    match spec.subnets.as_slice() {
        [one] if one.ip_range == spec.ip_range => Ok(&one.zone),
        _ => Err(unsupported("a network whose subnet is not the whole of it")),
    }
}
