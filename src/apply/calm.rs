//! Keeping a cloud from moving a group's members about while some of them leave.
//!
//! When members leave one zone, a group that rebalances its zones ends others elsewhere and makes new ones. Those that work
//! are protected from that; those that are idle are not, and would be made anew for nothing.
//!
//! # Guarantees
//! - The suspension is on record before it is made, and lifted at the end of the same apply; one that a crash leaves is lifted
//!   at the beginning of the next.
//! - What somebody else suspended stays suspended.
//! - A group that cannot be calmed does not keep a member from leaving.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::Mutex;

use super::{
    Run,
    ledger::{LedgerError, new_intent},
};
use crate::model::{
    ids::{Address, CloudId, ProviderName, ResourceKind},
    intent::Step,
    resource::ResourceRef,
    snapshot::Snapshot,
    state::Pause,
};

/// The process that moves members from zone to zone (Auto Scaling user guide, "Suspend and resume processes").
const REBALANCE: &str = "AZRebalance";
/// What stands between a process and its group in a pause.
const OF: &str = " of ";

/// Which machines are members of which group, and what was done to those groups.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    members: &'a BTreeMap<Address, ResourceRef>,
    /// Groups that somebody suspended before us.
    calm: BTreeSet<ResourceRef>,
    /// What this apply suspended, or found that it need not.
    done: Mutex<BTreeMap<ResourceRef, Option<Pause>>>,
}

impl<'a> Groups<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let listed = snapshot
            .clouds
            .values()
            .flat_map(|cloud| &cloud.listing.resources);
        let calm = listed
            .filter(|seen| {
                let view = seen.group.as_ref();
                view.is_some_and(|view| view.suspended.contains(REBALANCE))
            })
            .map(|seen| seen.target.clone())
            .collect();
        Self {
            members: &snapshot.members,
            calm,
            done: Mutex::default(),
        }
    }
}

/// Whether a pause is of a cloud's process, and not of a CI.
pub(super) fn is_process(pause: &Pause) -> bool {
    pause.what.contains(OF)
}

impl Run<'_> {
    /// Suspends the rebalancing of the group that this machine is a member of, once.
    pub(super) async fn calm(&self, address: &Address) -> Result<(), LedgerError> {
        let Some(group) = self.groups.members.get(address) else {
            return Ok(());
        };
        let mut done = self.groups.done.lock().await;
        if done.contains_key(group) {
            return Ok(());
        }
        let Some(provider) = self
            .provider(&group.provider)
            .filter(|_| !self.groups.calm.contains(group))
        else {
            done.insert(group.clone(), None);
            return Ok(());
        };
        let pause = Pause {
            what: format!("{REBALANCE}{OF}{}", group.id),
            owner: group.provider.to_string(),
            since: self.ledger.now(),
        };
        let step = Step::Paused { pause: pause.clone() };
        self.ledger.write(address, &new_intent(), step).await?;
        if let Err(error) = provider.suspend(group, REBALANCE).await {
            tracing::warn!(%group, %error, "its rebalancing could not be suspended while a member leaves");
        }
        done.insert(group.clone(), Some(pause));
        Ok(())
    }

    /// Lets every group that this apply calmed rebalance again.
    pub(super) async fn stir(&self) -> Result<(), LedgerError> {
        let done = std::mem::take(&mut *self.groups.done.lock().await);
        for pause in done.into_values().flatten() {
            self.resume(pause).await?;
        }
        Ok(())
    }

    /// Lifts what an earlier apply left suspended.
    pub(super) async fn resume_leftovers(&self) -> Result<(), LedgerError> {
        for pause in self.ledger.pauses().into_iter().filter(is_process) {
            self.resume(pause).await?;
        }
        Ok(())
    }

    /// Lifts one; one that cannot be lifted stays on record.
    async fn resume(&self, pause: Pause) -> Result<(), LedgerError> {
        let name = ProviderName::from(pause.owner.as_str());
        let (Some(provider), Some((process, group))) = (self.provider(&name), pause.what.split_once(OF))
        else {
            return Ok(());
        };
        let target = ResourceRef {
            provider: name.clone(),
            kind: ResourceKind::Group,
            id: CloudId::from(group),
        };
        let gone = || async { matches!(provider.read(&target).await, Ok(None)) };
        if let Err(error) = provider.resume(&target, process).await
            && !gone().await
        {
            tracing::error!(%target, process, %error, "suspended by us, and still suspended; the next tick tries again");
            return Ok(());
        }
        let address = Address {
            kind: ResourceKind::Group,
            pool: Some(pause.owner.as_str().into()),
            name: group.to_owned(),
        };
        self.ledger
            .write(&address, &new_intent(), Step::Resumed { pause })
            .await
    }
}
