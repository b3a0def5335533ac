//! Puts labels on what is there: for adopting, importing, moving, and repairing what someone took off.

use hcloud::models::{
    ReplaceFirewallRequest, ReplaceNetworkRequest, ReplacePlacementgroupRequest, ReplaceServerRequest,
    ReplaceSshKeyRequest,
};

use crate::{
    model::{
        ids::ResourceKind,
        resource::{Labels, Observed, ResourceRef},
    },
    provider::ProviderError,
};

use super::{
    Hetzner, absent,
    machines::body,
    unsupported,
    wire::{Firewall, Network, PlacementGroup, Server, SshKey},
};

impl Hetzner {
    /// Puts these over what it carries now, not over what it carried when it was listed: the API replaces labels as a whole.
    pub(super) async fn put_labels(
        &self,
        target: &ResourceRef,
        labels: &Labels,
    ) -> Result<Observed, ProviderError> {
        let Some(seen) = self.read_one(target).await? else {
            return Err(absent(target));
        };
        let mut all = seen.labels.clone();
        all.extend(labels.clone());
        if all == seen.labels {
            return Ok(seen);
        }
        let labels = Some(all.into_iter().collect());
        match target.kind {
            ResourceKind::Machine => {
                let replace = ReplaceServerRequest {
                    labels,
                    ..ReplaceServerRequest::new()
                };
                self.put::<Server>(target, body(&replace)?).await
            }
            ResourceKind::SshKey => {
                let replace = ReplaceSshKeyRequest {
                    labels,
                    ..ReplaceSshKeyRequest::new()
                };
                self.put::<SshKey>(target, body(&replace)?).await
            }
            ResourceKind::Firewall => {
                let replace = ReplaceFirewallRequest {
                    labels,
                    ..ReplaceFirewallRequest::new()
                };
                self.put::<Firewall>(target, body(&replace)?).await
            }
            ResourceKind::Network => {
                let replace = ReplaceNetworkRequest {
                    labels,
                    ..ReplaceNetworkRequest::new()
                };
                self.put::<Network>(target, body(&replace)?).await
            }
            ResourceKind::PlacementGroup => {
                let replace = ReplacePlacementgroupRequest {
                    labels,
                    ..ReplacePlacementgroupRequest::new()
                };
                self.put::<PlacementGroup>(target, body(&replace)?).await
            }
            ResourceKind::Group | ResourceKind::Batch => Err(unsupported(target.kind.as_str())),
        }
    }
}
