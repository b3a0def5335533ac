//! Retiring: cordon, settle, read the jobs again, delete, forget. No step is skipped, and each refusal has its reason.

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
            Ok(Some(reading)) if !reading.paused => Some(Reason::CordonFailed {
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
        let why = match tokio::time::timeout(limit, provider.delete(target)).await {
            Ok(Ok(())) => {
                if let Some((ci, registration)) = &registration {
                    self.forget_loser(ci, registration).await;
                }
                self.ledger.end(address, &id, Outcome::Absent).await?;
                return Ok(End::Done { id: None });
            }
            Ok(Err(error)) if error.disposition() != Disposition::Relist => {
                let why = error.to_string();
                let outcome = Outcome::Refused {
                    offering: None,
                    quota: false,
                    why: why.clone(),
                };
                self.ledger.end(address, &id, outcome).await?;
                return Ok(End::Failed { why });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in twice the call's time".to_owned(),
        };
        Ok(End::Open { why })
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
