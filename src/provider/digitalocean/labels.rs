//! Puts labels on what is there: for adopting, importing, moving, and repairing what someone took off.

use crate::{
    model::{
        ids::ResourceKind,
        resource::{Labels, Observed, ResourceRef},
    },
    provider::ProviderError,
};

use super::{Digitalocean, unsupported};

impl Digitalocean {
    /// Puts these over what it carries now, not over what it carried when it was listed.
    pub(super) async fn put_labels(
        &self,
        target: &ResourceRef,
        labels: &Labels,
    ) -> Result<Observed, ProviderError> {
        match target.kind {
            ResourceKind::Machine => self.put_tags(target, labels).await,
            ResourceKind::SshKey => {
                let row = self.current_key(target).await?;
                let (name, before) = row.parts();
                let mut all = before.clone();
                all.extend(labels.clone());
                if all == before {
                    return Ok(self.observed(row));
                }
                self.rename_key(row.id, name, &all).await
            }
            ResourceKind::Firewall => self.relabel_firewall(target, labels).await,
            ResourceKind::Network => self.relabel_vpc(target, labels).await,
            ResourceKind::PlacementGroup | ResourceKind::Group | ResourceKind::Batch => {
                Err(unsupported(target.kind.as_str()))
            }
        }
    }
}
