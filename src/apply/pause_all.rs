//! Retiring a machine that nothing but a pause of all its CI's runners keeps from new jobs: those that share one runner's
//! token, a whole queue.
//!
//! # Guarantees
//! - The pause is on record before it is made, and lifted in the same apply, whatever came of the delete; one that is
//!   left by a crash, or by a delete whose outcome is unknown, is lifted at the beginning of the next apply.
//! - One machine at a time: what one lifts, another would still need.
//! - What somebody else paused stays paused.

use super::{
    End, Run,
    calm::is_process,
    ledger::{LedgerError, new_intent},
};
use crate::{
    demand::RunnerControl,
    model::{
        ids::{Address, CiName, RegistrationId},
        intent::Step,
        reason::Reason,
        resource::{ControlProfile, ResourceRef},
        state::Pause,
    },
    plan::Action,
    provider::Provider,
};

/// Who is retired, and through whom.
pub(super) struct Leaving<'a> {
    pub(super) action: &'a Action,
    pub(super) target: &'a ResourceRef,
    pub(super) profile: &'a ControlProfile,
    pub(super) registration: &'a RegistrationId,
    pub(super) control: &'a dyn RunnerControl,
    pub(super) provider: &'a dyn Provider,
}

impl Run<'_> {
    /// Pauses all, waits until that has settled, reads this machine's jobs again, deletes it, and lets the others go on.
    pub(super) async fn retire_pausing_all(&self, leaving: &Leaving<'_>) -> Result<End, LedgerError> {
        let _alone = self.pausing.lock().await;
        if self.stop.requested() {
            return Ok(End::Stopped);
        }
        // A machine that is seen to work is no reason to make the others wait.
        let (known, paused) = match leaving.control.read(leaving.registration).await {
            Ok(Some(reading)) if reading.jobs == Some(0) => (true, reading.paused),
            Ok(Some(reading)) => {
                let reason = match reading.jobs {
                    Some(_) => Reason::BusyAfterCordon,
                    None => Reason::BusyUnknown,
                };
                return Ok(End::Held { reason });
            }
            Ok(None) => (false, false),
            Err(error) => return Ok(cordon_failed(&format!("its jobs could not be read: {error}"))),
        };
        if !known || paused {
            return self.while_paused(leaving).await;
        }
        let address = &leaving.action.address;
        let id = new_intent();
        let pause = Pause {
            what: leaving.registration.to_string(),
            owner: leaving.profile.ci.to_string(),
            since: self.ledger.now(),
        };
        let step = Step::Paused { pause: pause.clone() };
        self.ledger.write(address, &id, step).await?;
        let end = match leaving.control.cordon(leaving.registration).await {
            Ok(_) => self.while_paused(leaving).await,
            Err(error) => Ok(cordon_failed(&error.to_string())),
        };
        // Where the delete may still be under way a job must not come: the next apply lifts it.
        if !matches!(end, Ok(End::Open { .. })) {
            self.lift(address, pause, leaving.control).await?;
        }
        end
    }

    async fn while_paused(&self, leaving: &Leaving<'_>) -> Result<End, LedgerError> {
        let Leaving {
            action,
            target,
            profile,
            registration,
            control,
            provider,
        } = leaving;
        if !self.stop.sleep(profile.settle.unsigned_abs()).await {
            return Ok(End::Stopped);
        }
        if let Some(reason) = self.second_reading(*control, profile, registration).await {
            return Ok(End::Held { reason });
        }
        let owner = Some((profile.ci.clone(), (*registration).clone()));
        self.delete(&action.address, *provider, target, owner).await
    }

    /// Lets them take jobs again. One that cannot be lifted stays on record, unless what was paused is gone.
    async fn lift(
        &self,
        address: &Address,
        pause: Pause,
        control: &dyn RunnerControl,
    ) -> Result<(), LedgerError> {
        let registration = RegistrationId::from(pause.what.as_str());
        if let Err(error) = control.uncordon(&registration).await
            && !matches!(control.read(&registration).await, Ok(None))
        {
            tracing::error!(ci = %pause.owner, runner = %pause.what, %error, "paused by us, and still paused; the next tick tries again");
            return Ok(());
        }
        let step = Step::Resumed { pause };
        self.ledger.write(address, &new_intent(), step).await
    }

    /// Lifts what an earlier apply left paused.
    pub(super) async fn lift_leftovers(&self) -> Result<(), LedgerError> {
        for pause in self
            .ledger
            .pauses()
            .into_iter()
            .filter(|pause| !is_process(pause))
        {
            let ci = CiName::from(pause.owner.as_str());
            if let Some(control) = self.control(&ci) {
                let address = Address::machine(&pause.owner.as_str().into(), &pause.what.as_str().into());
                self.lift(&address, pause, control).await?;
            }
        }
        Ok(())
    }
}

fn cordon_failed(why: &str) -> End {
    End::Held {
        reason: Reason::CordonFailed { why: why.to_owned() },
    }
}
