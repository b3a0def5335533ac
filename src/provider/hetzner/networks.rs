//! Private networks with their subnets, and placement groups.
//!
//! Both are taken from under their servers when they are deleted, so a delete waits until no server uses them.

use hcloud::models::{
    CreateNetworkRequest, CreatePlacementgroupRequest, DeleteSubnetFromNetworkRequest, ReplaceNetworkRequest,
    ReplacePlacementgroupRequest, Subnet as WireSubnet, create_placementgroup_request::Type as GroupType,
    subnet::Type as SubnetType,
};
use http::Method;
use tokio::time::{Instant, sleep};

use crate::{
    model::resource::{NetworkSpec, Observed, PlacementGroupSpec, ResourceRef, Subnet},
    net::Request,
    provider::{Claim, ProviderError},
};

use super::{
    CALL_TIMEOUT, Hetzner, absent, ambiguous,
    api::Failed,
    machines::{LOOK_AGAIN, body},
    unsupported,
    wire::{Network, PlacementGroup, Resource as _, Shared},
};

impl Hetzner {
    pub(super) async fn create_network(
        &self,
        claim: &Claim,
        spec: &NetworkSpec,
    ) -> Result<Observed, ProviderError> {
        let request = CreateNetworkRequest {
            labels: Some(claim.labels.to_labels().into_iter().collect()),
            subnets: Some(spec.subnets.iter().map(wire_subnet).collect()),
            ..CreateNetworkRequest::new(spec.ip_range.clone(), spec.name.clone())
        };
        self.create_shared::<Network>(claim, body(&request)?).await
    }

    /// Changes name and subnets of what is there now. Subnets that should not be go first: one that changes its size overlaps itself.
    pub(super) async fn update_network(
        &self,
        have: &Observed,
        want: &NetworkSpec,
    ) -> Result<Observed, ProviderError> {
        let network = self.current_network(&have.target).await?;
        if network.ip_range != want.ip_range {
            return Err(unsupported("changing a network's range in place"));
        }
        let there = network.subnets();
        let gone = there.iter().filter(|subnet| !want.subnets.contains(subnet));
        let new = want.subnets.iter().filter(|subnet| !there.contains(subnet));
        let mut steps = Vec::new();
        for subnet in gone {
            let request = DeleteSubnetFromNetworkRequest::new(subnet.ip_range.clone());
            steps.push(("delete_subnet", body(&request)?));
        }
        for subnet in new {
            steps.push(("add_subnet", body(&wire_subnet(subnet))?));
        }
        for (done, (action, body)) in steps.into_iter().enumerate() {
            let path = format!("/networks/{}/actions/{action}", have.target.id);
            let step = self
                .act(Request::new(Method::POST, path).json(body), action)
                .await;
            // A refusal is definite only while nothing was changed.
            step.map_err(|error| match done {
                0 => error,
                done => ambiguous(format!("{action} failed after {done} other changes: {error}")),
            })?;
        }
        if network.name() != want.name {
            let replace = ReplaceNetworkRequest {
                name: Some(want.name.clone()),
                ..ReplaceNetworkRequest::new()
            };
            return self.put::<Network>(&have.target, body(&replace)?).await;
        }
        let network = self.current_network(&have.target).await?;
        Ok(self.observed(network))
    }

    async fn current_network(&self, target: &ResourceRef) -> Result<Network, ProviderError> {
        let read = self.read_as::<Network>(target.id.as_str()).await;
        read.map_err(Failed::of_read)?.ok_or_else(|| absent(target))
    }

    pub(super) async fn create_placement_group(
        &self,
        claim: &Claim,
        spec: &PlacementGroupSpec,
    ) -> Result<Observed, ProviderError> {
        let request = CreatePlacementgroupRequest {
            labels: Some(claim.labels.to_labels().into_iter().collect()),
            ..CreatePlacementgroupRequest::new(spec.name.clone(), GroupType::Spread)
        };
        self.create_shared::<PlacementGroup>(claim, body(&request)?).await
    }

    pub(super) async fn update_placement_group(
        &self,
        have: &Observed,
        want: &PlacementGroupSpec,
    ) -> Result<Observed, ProviderError> {
        let replace = ReplacePlacementgroupRequest {
            name: Some(want.name.clone()),
            ..ReplacePlacementgroupRequest::new()
        };
        self.put::<PlacementGroup>(&have.target, body(&replace)?).await
    }

    /// Waits for the last servers to vanish, as long as a delete of a firewall would be tried.
    pub(super) async fn wait_until_unused<T: Shared>(
        &self,
        target: &ResourceRef,
    ) -> Result<(), ProviderError> {
        let end = Instant::now() + CALL_TIMEOUT / 2;
        loop {
            let row = self.read_as::<T>(target.id.as_str()).await;
            let servers = row.map_err(Failed::of_read)?.map_or(0, |row| row.servers());
            if servers == 0 {
                return Ok(());
            }
            if Instant::now() + LOOK_AGAIN >= end {
                return Err(ProviderError::Unavailable {
                    why: format!("{target} is in use by {servers} servers"),
                });
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

fn wire_subnet(subnet: &Subnet) -> WireSubnet {
    WireSubnet {
        ip_range: Some(subnet.ip_range.clone()),
        ..WireSubnet::new(subnet.zone.clone(), SubnetType::Cloud)
    }
}
