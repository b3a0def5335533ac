//! Retiring: cordon, settle, read the jobs again, delete, forget. No step is skipped, and each refusal has its reason.

use tokio::time::{Instant, timeout_at};

use super::{
    End, Run, lease_ends,
    ledger::{LedgerError, new_intent},
    pause_all::Leaving,
};
use crate::{
    demand::{DemandError, RunnerControl},
    model::{
        ids::{Address, CiName, IntentId, RegistrationId},
        intent::{Intent, Outcome},
        reason::Reason,
        resource::{ControlProfile, CordonKind, ResourceRef},
    },
    plan::{Action, IfBusy, Verb},
    provider::{Disposition, Provider},
    stack::hooks::Moment,
};

impl Run<'_> {
    pub(super) async fn retire(&self, action: &Action) -> Result<End, LedgerError> {
        let Verb::Retire {
            target,
            ci,
            registration,
            control: profile,
            if_busy,
        } = &action.verb
        else {
            return Ok(End::Failed {
                why: "not a retire".to_owned(),
            });
        };
        let (Some(control), Some(provider)) = (self.control(ci), self.provider(&target.provider)) else {
            return Ok(End::Failed {
                why: format!("the stack has no {ci} or no {}", target.provider),
            });
        };
        match profile.cordon {
            CordonKind::Pause => {}
            CordonKind::PauseAll => {
                let leaving = Leaving {
                    action,
                    target,
                    profile,
                    registration,
                    control,
                    provider,
                };
                return self.retire_pausing_all(&leaving).await;
            }
            CordonKind::Remove | CordonKind::Leaves => {
                return Ok(End::Failed {
                    why: format!("{ci} has no cordon for one runner"),
                });
            }
        }
        let cordon = self.cordon_runner(action, control, ci, registration).await?;
        if let Err(error) = cordon {
            return Ok(End::Held {
                reason: Reason::CordonFailed {
                    why: error.to_string(),
                },
            });
        }
        // From here on a stop leaves the runner cordoned, on record: the next tick goes on from there.
        if !self.stop.sleep(profile.settle.unsigned_abs()).await {
            return Ok(End::Stopped);
        }
        if let Some(reason) = self.second_reading(control, profile, registration).await {
            if *if_busy == IfBusy::Uncordon
                && let Err(error) = self.uncordon_runner(action, control, ci, registration).await?
            {
                tracing::warn!(address = %action.address, %error, "the cordon could not be lifted; the next tick does");
            }
            return Ok(End::Held { reason });
        }
        if let Some(end) = self.hooks_before(action, Moment::BeforeDelete).await {
            return Ok(end);
        }
        let owner = Some((ci.clone(), registration.clone()));
        self.delete(&action.address, provider, target, owner).await
    }

    /// Why the machine must stay, or none when the CI says that it runs nothing and takes nothing.
    pub(super) async fn second_reading(
        &self,
        control: &dyn RunnerControl,
        profile: &ControlProfile,
        registration: &RegistrationId,
    ) -> Option<Reason> {
        match control.read(registration).await {
            // The CI has no such runner: it can be handed nothing.
            Ok(None) => None,
            // One that lists no runners does not tell of a pause either.
            Ok(Some(reading)) if !reading.paused && profile.lists_runners => Some(Reason::CordonFailed {
                why: format!("{} says that it is not paused", profile.ci),
            }),
            Ok(Some(reading)) => match reading.jobs {
                Some(0) => None,
                Some(_) => Some(Reason::BusyAfterCordon),
                None => Some(Reason::BusyUnknown),
            },
            Err(error) => Some(Reason::CordonFailed {
                why: format!("its jobs could not be read: {error}"),
            }),
        }
    }

    /// Deletes the resource, then its registration.
    pub(super) async fn delete(
        &self,
        address: &Address,
        provider: &dyn Provider,
        target: &ResourceRef,
        registration: Option<(CiName, RegistrationId)>,
    ) -> Result<End, LedgerError> {
        let Some(_slot) = self.slot(&target.provider).await else {
            return Ok(End::Failed {
                why: format!("the stack has no provider {}", target.provider),
            });
        };
        if self.stop.requested() {
            return Ok(End::Stopped);
        }
        if !self.lease_outlasts(provider.profile().call_timeout) {
            return Ok(lease_ends());
        }
        self.calm(address).await?;
        let id = new_intent();
        let intent = Intent::Delete {
            target: target.clone(),
            registration: registration.clone(),
        };
        self.ledger.begin(address, &id, intent).await?;
        let limit = provider.profile().call_timeout.unsigned_abs() * 2;
        match send_delete(provider, target, Instant::now() + limit).await {
            Sent::Done => self.deleted(address, &id, registration).await,
            Sent::Refused(why) => {
                self.refused(address, &id, &why).await?;
                Ok(End::Failed { why })
            }
            Sent::Unknown(why) => Ok(End::Open { why }),
        }
    }

    /// After a delete: forgets the registration, and records that the resource is gone.
    pub(super) async fn deleted(
        &self,
        address: &Address,
        id: &IntentId,
        registration: Option<(CiName, RegistrationId)>,
    ) -> Result<End, LedgerError> {
        if let Some((ci, registration)) = &registration {
            self.forget_loser(ci, registration).await;
        }
        self.ledger.end(address, id, Outcome::Absent).await?;
        Ok(End::Done { id: None })
    }

    pub(super) async fn cordon_runner(
        &self,
        action: &Action,
        control: &dyn RunnerControl,
        ci: &CiName,
        registration: &RegistrationId,
    ) -> Result<Result<(), DemandError>, LedgerError> {
        let id = new_intent();
        let intent = Intent::Cordon {
            ci: ci.clone(),
            registration: registration.clone(),
            why: action.reason.to_string(),
        };
        self.ledger.begin(&action.address, &id, intent).await?;
        let answer = control
            .cordon(registration)
            .await
            .map(|cordoned| Outcome::Cordoned {
                since: cordoned.since,
                why: action.reason.to_string(),
            });
        self.control_ended(&action.address, &id, answer).await
    }

    pub(super) async fn uncordon_runner(
        &self,
        action: &Action,
        control: &dyn RunnerControl,
        ci: &CiName,
        registration: &RegistrationId,
    ) -> Result<Result<(), DemandError>, LedgerError> {
        let id = new_intent();
        let intent = Intent::Uncordon {
            ci: ci.clone(),
            registration: registration.clone(),
        };
        self.ledger.begin(&action.address, &id, intent).await?;
        let answer = control.uncordon(registration).await.map(|()| Outcome::Uncordoned);
        self.control_ended(&action.address, &id, answer).await
    }

    /// Records what a CI's answer means. An unknown one stays open: the next tick reads whether the runner is paused.
    async fn control_ended(
        &self,
        address: &Address,
        id: &IntentId,
        answer: Result<Outcome, DemandError>,
    ) -> Result<Result<(), DemandError>, LedgerError> {
        match answer {
            Ok(outcome) => {
                self.ledger.end(address, id, outcome).await?;
                Ok(Ok(()))
            }
            Err(error) => {
                if !matches!(
                    error,
                    DemandError::Ambiguous { .. } | DemandError::Malformed { .. }
                ) {
                    self.refused(address, id, &error.to_string()).await?;
                }
                Ok(Err(error))
            }
        }
    }

    pub(super) async fn refused(
        &self,
        address: &Address,
        id: &IntentId,
        why: &str,
    ) -> Result<(), LedgerError> {
        let outcome = Outcome::Refused {
            offering: None,
            quota: false,
            why: why.to_owned(),
        };
        self.ledger.end(address, id, outcome).await
    }
}

/// How a delete ended.
pub(super) enum Sent {
    /// What was to go is gone.
    Done,
    /// Certainly nothing was done.
    Refused(String),
    /// It may have been done.
    Unknown(String),
}

/// Deletes, and waits for the answer until `end`.
pub(super) async fn send_delete(provider: &dyn Provider, target: &ResourceRef, end: Instant) -> Sent {
    match timeout_at(end, provider.delete(target)).await {
        Ok(Ok(())) => Sent::Done,
        Ok(Err(error)) if error.disposition() == Disposition::Relist => Sent::Unknown(error.to_string()),
        Ok(Err(error)) => Sent::Refused(error.to_string()),
        Err(_) => Sent::Unknown("no answer in time".to_owned()),
    }
}
