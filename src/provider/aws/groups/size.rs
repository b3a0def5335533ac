//! Changing a group: who of its members is protected, and how many it should have.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::types::{AutoScalingGroup, LifecycleState};

use crate::{
    model::{
        ids::CloudId,
        resource::{GroupSpec, Observed},
    },
    provider::{Disposition, ProviderError, aws::Clock},
};

use super::Groups;

/// How often protection is put right: between reading who serves and changing them somebody may leave, and then Amazon
/// changes none.
const TRIES: usize = 3;

impl Groups {
    /// Protects who should be, and then sets the size, if the group's is still the one that was decided from.
    pub(super) async fn resize(&self, have: &Observed, want: &GroupSpec) -> Result<Observed, ProviderError> {
        if have.target.id.as_str() != want.name {
            return Err(rejected("name", format!("{} is not {}", have.target, want.name)));
        }
        if want.size < want.from {
            let why = format!("{} shrinks member by member, not to {}", want.name, want.size);
            return Err(rejected("shrinking", why));
        }
        let clock = Clock::default();
        self.protect(&want.name, &want.protected, &clock).await?;
        if want.size > want.from {
            self.grow(want, &clock).await?;
        }
        match self.read_group(&want.name).await {
            Ok(Some(seen)) => Ok(seen),
            Ok(None) => Err(rejected("not_found", format!("{} is gone", want.name))),
            // It was done; only the answer is not the newest.
            Err(error) => {
                tracing::debug!(group = want.name, %error, "not read back");
                Ok(Observed {
                    size: Some(want.size),
                    ..have.clone()
                })
            }
        }
    }

    async fn grow(&self, want: &GroupSpec, clock: &Clock) -> Result<(), ProviderError> {
        let (group, _) = self.ours(&want.name, clock).await?;
        let count = |told: Option<i32>| told.and_then(|told| u32::try_from(told).ok());
        let desired = count(group.desired_capacity());
        if desired == Some(want.size) {
            return Ok(());
        }
        if desired != Some(want.from) {
            let is = desired.map_or_else(|| "unknown".to_owned(), |desired| desired.to_string());
            let why = format!("its size is {is} and no longer {}", want.from);
            return Err(rejected("size_changed", why));
        }
        if let Some(max) = count(group.max_size())
            && want.size > max
        {
            let why = format!("{} is more than its maximum, which is {max}", want.size);
            return Err(rejected("above_max", why));
        }
        let Err(error) = self.api.set_size(&want.name, want.size, clock).await else {
            return Ok(());
        };
        // An answer was lost, perhaps, and the SDK sent it again to a group that cools down since the first: look.
        match self.api.group(&want.name, clock).await {
            Ok(Some(group)) if count(group.desired_capacity()) == Some(want.size) => Ok(()),
            Err(_) if error.disposition() == Disposition::Retry => Err(ProviderError::Ambiguous {
                why: error.to_string(),
            }),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Protects exactly these of the members that serve.
    async fn protect(
        &self,
        name: &str,
        protected: &BTreeSet<CloudId>,
        clock: &Clock,
    ) -> Result<(), ProviderError> {
        let mut last = None;
        for _ in 0..TRIES {
            let (group, _) = self.ours(name, clock).await?;
            let (on, off) = differing(&group, protected);
            if Some(&(on.clone(), off.clone())) == last.as_ref().map(|(these, _)| these) {
                break;
            }
            let changed = match self.api.protect(name, &on, true, clock).await {
                Ok(()) => self.api.protect(name, &off, false, clock).await,
                refused => refused,
            };
            match changed {
                Ok(()) => return Ok(()),
                // One of them serves no more, and Amazon names only the first.
                Err(error @ ProviderError::Rejected { .. }) => last = Some(((on, off), error)),
                Err(error) => return Err(error),
            }
        }
        last.map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The members that serve and should be protected and are not, and those that are and should not be.
fn differing(group: &AutoScalingGroup, protected: &BTreeSet<CloudId>) -> (Vec<String>, Vec<String>) {
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for row in group.instances() {
        let (Some(id), Some(LifecycleState::InService)) = (row.instance_id(), row.lifecycle_state()) else {
            continue;
        };
        let wanted = protected.iter().any(|wanted| wanted.as_str() == id);
        match (wanted, row.protected_from_scale_in().unwrap_or(false)) {
            (true, false) => on.push(id.to_owned()),
            (false, true) => off.push(id.to_owned()),
            (true, true) | (false, false) => {}
        }
    }
    (on, off)
}

fn rejected(code: &str, why: String) -> ProviderError {
    ProviderError::Rejected {
        code: code.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::Instance;

    use super::*;

    #[test]
    fn only_members_that_serve_and_differ_are_changed() {
        let row = |id: &str, state: LifecycleState, protected| {
            Instance::builder()
                .instance_id(id)
                .lifecycle_state(state)
                .protected_from_scale_in(protected)
                .build()
        };
        let group = AutoScalingGroup::builder()
            .instances(row("i-busy", LifecycleState::InService, false))
            .instances(row("i-busy-and-protected", LifecycleState::InService, true))
            .instances(row("i-idle", LifecycleState::InService, false))
            .instances(row("i-idle-and-protected", LifecycleState::InService, true))
            .instances(row("i-going", LifecycleState::Terminating, false))
            .instances(row("i-coming", LifecycleState::Pending, true))
            .build();
        let wanted = ["i-busy", "i-busy-and-protected", "i-going", "i-gone"];
        let wanted = wanted.into_iter().map(CloudId::from).collect();
        let (on, off) = differing(&group, &wanted);
        assert_eq!(
            (on, off),
            (vec!["i-busy".to_owned()], vec!["i-idle-and-protected".to_owned()])
        );
    }
}
