//! Retiring machines that nothing but a pause of all their CI's runners keeps from new jobs: those that share one runner's
//! token, or a whole queue.
//!
//! # Expected flow
//! The first machine that is to go pauses; those that are to go too join it while there is time, since each pause makes
//! everybody else's jobs wait. Each waits until the pause has settled, has its own jobs read again and is deleted; the last
//! one lifts the pause.
//!
//! # Guarantees
//! - The pause is on record before it is made, and lifted in the same apply, whatever came of the deletes; one that is
//!   left by a crash is lifted at the beginning of the next apply.
//! - It lasts [`gate::PAUSE`] at most, as far as the CI takes the call that lifts it: a delete that would not be answered in time
//!   is not sent, and one that is not answered is no longer waited for.
//! - Between two pauses of the same runners they have the settle time to be handed jobs.
//! - What somebody else paused stays paused, where the CI tells.
//!
//! # A delete without an answer
//! A job must not come to a machine whose delete may still take effect, and the others must not wait for ever. So, under
//! the pause still, the machine is read, and the delete, which may be repeated, is sent once more. Its answer, or a reading
//! in which the machine is gone or going, ends the matter. So does a reading that was begun the cloud's settle time after
//! the last try and shows it running: what has not taken effect by then does not. Where the time is over before any of
//! these, the cloud answers nothing at all; then, and only then, the pause stays on record, for the next apply to lift.

mod gate;
#[cfg(test)]
mod tests;
mod unanswered;

use std::{mem, time::Duration};

use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout_at},
};

pub(super) use self::gate::Pauses;
use self::{
    gate::{DELETE_ROOM, Gate, LIFT_ROOM, PAUSE, Shut, State, Times, paused_as},
    unanswered::{Known, find_out},
};
use super::{
    End, Run,
    calm::is_process,
    hook::hook_failed,
    lease_ends,
    ledger::{LedgerError, new_intent},
    retire::{Sent, send_delete},
};
use crate::{
    demand::{DemandError, RunnerControl},
    model::{
        ids::{Address, CiName, RegistrationId},
        intent::{Intent, Step},
        reason::Reason,
        resource::{ControlProfile, ResourceRef},
        state::Pause,
    },
    plan::Action,
    provider::Provider,
    stack::hooks::Moment,
};

/// The waits before each try to lift a pause; each try repeats its call by itself.
const LIFTS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
/// The same for one that an earlier apply left: what is to be done now does not wait for a CI that is away.
const LEFTOVER_LIFTS: [Duration; 1] = [Duration::ZERO];

/// Who is retired, and through whom.
pub(super) struct Leaving<'a> {
    pub(super) action: &'a Action,
    pub(super) target: &'a ResourceRef,
    pub(super) profile: &'a ControlProfile,
    pub(super) registration: &'a RegistrationId,
    pub(super) control: &'a dyn RunnerControl,
    pub(super) provider: &'a dyn Provider,
}

/// How a machine came to be under a pause.
enum Entry {
    /// Under ours.
    Ours(Times),
    /// Under somebody else's, or it is not known to its CI at all.
    NotOurs,
    /// Not.
    Refused(End),
}

impl Run<'_> {
    /// Pauses all, waits until that has settled, reads this machine's jobs again, deletes it, and lets the others go on.
    pub(super) async fn retire_pausing_all(&self, leaving: &Leaving<'_>) -> Result<End, LedgerError> {
        // Before the pause, whose time is everybody's.
        self.calm(&leaving.action.address).await?;
        let gate = self.pauses.gate(&leaving.profile.ci, leaving.registration);
        match self.enter(&gate, leaving).await? {
            Entry::Refused(end) => Ok(end),
            Entry::NotOurs => self.while_paused_by_another(leaving).await,
            Entry::Ours(times) => {
                let left = self.while_paused(leaving, times).await;
                // The pause ends whatever came of it, a record that cannot be written included.
                let in_doubt = matches!(left, Ok(End::Open { .. }));
                self.exit(&gate, leaving.control, in_doubt).await?;
                left
            }
        }
    }

    /// Joins the pause that is up, or makes one.
    async fn enter(&self, gate: &Gate, leaving: &Leaving<'_>) -> Result<Entry, LedgerError> {
        let settle = leaving.profile.settle.unsigned_abs();
        loop {
            let ended = gate.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let mut state = gate.state.lock().await;
            if self.stop.requested() {
                return Ok(Entry::Refused(End::Stopped));
            }
            match &mut *state {
                State::Shut(shut) if shut.times.has_room() => {
                    shut.leaving += 1;
                    return Ok(Entry::Ours(shut.times));
                }
                State::Shut(_) => {
                    drop(state);
                    ended.await;
                }
                State::Stuck => {
                    let why = "the pause before is not lifted yet; the next apply does";
                    return Ok(Entry::Refused(cordon_failed(why)));
                }
                State::Lifted(at) if at.elapsed() < settle => {
                    let rest = settle.saturating_sub(at.elapsed());
                    drop(state);
                    self.stop.sleep(rest).await;
                }
                State::Open | State::Lifted(_) => return self.shut(state, leaving).await,
            }
        }
    }

    /// Pauses, unless this machine needs none.
    async fn shut(
        &self,
        mut state: MutexGuard<'_, State>,
        leaving: &Leaving<'_>,
    ) -> Result<Entry, LedgerError> {
        // A machine that is seen to work is no reason to make the others wait.
        match leaving.control.read(leaving.registration).await {
            Ok(Some(reading)) if reading.jobs == Some(0) && !reading.paused => {}
            Ok(Some(reading)) if reading.jobs == Some(0) => return Ok(Entry::NotOurs),
            Ok(None) => return Ok(Entry::NotOurs),
            Ok(Some(reading)) => {
                let reason = match reading.jobs {
                    Some(_) => Reason::BusyAfterCordon,
                    None => Reason::BusyUnknown,
                };
                return Ok(Entry::Refused(End::Held { reason }));
            }
            Err(error) => {
                let why = format!("its jobs could not be read: {error}");
                return Ok(Entry::Refused(cordon_failed(&why)));
            }
        }
        let settle = leaving.profile.settle.unsigned_abs();
        let address = leaving.action.address.clone();
        let pause = Pause {
            what: paused_as(leaving.registration).1,
            owner: leaving.profile.ci.to_string(),
            since: self.ledger.now(),
        };
        let step = Step::Paused { pause: pause.clone() };
        self.ledger.write(&address, &new_intent(), step).await?;
        let end = Instant::now() + PAUSE - LIFT_ROOM;
        let answer_by = end - DELETE_ROOM - settle.min(PAUSE / 2);
        let cordoned = timeout_at(answer_by, leaving.control.cordon(leaving.registration)).await;
        let times = Times {
            settled: Instant::now() + settle,
            end,
        };
        let why = match cordoned {
            Ok(Ok(_)) if times.has_room() => {
                *state = State::Shut(Shut {
                    pause,
                    address,
                    times,
                    leaving: 1,
                    in_doubt: false,
                });
                return Ok(Entry::Ours(times));
            }
            Ok(Ok(_)) => "it took so long that no time is left to delete".to_owned(),
            Ok(Err(error @ (DemandError::Rejected { .. } | DemandError::Unauthorized { .. }))) => {
                // It was refused, and so would be lifting it.
                let step = Step::Resumed { pause };
                self.ledger.write(&address, &new_intent(), step).await?;
                return Ok(Entry::Refused(cordon_failed(&error.to_string())));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        *state = State::Stuck;
        if self.lift(&address, pause, leaving.control, &LIFTS).await? {
            *state = State::Lifted(Instant::now());
        }
        Ok(Entry::Refused(cordon_failed(&why)))
    }

    /// Ends this machine's part in a pause; the last one lifts it.
    async fn exit(
        &self,
        gate: &Gate,
        control: &dyn RunnerControl,
        in_doubt: bool,
    ) -> Result<(), LedgerError> {
        let mut state = gate.state.lock().await;
        let State::Shut(shut) = &mut *state else {
            return Ok(());
        };
        shut.leaving -= 1;
        shut.in_doubt |= in_doubt;
        if shut.leaving > 0 {
            return Ok(());
        }
        let State::Shut(shut) = mem::replace(&mut *state, State::Stuck) else {
            return Ok(());
        };
        let lifted = if shut.in_doubt {
            tracing::error!(
                ci = %shut.pause.owner, paused = %shut.pause.what,
                "still paused by us: the cloud does not say whether a machine is being deleted, and a job must not come to it; \
                 the next tick lifts the pause. Should there be none, see that the machine is gone and resume by hand"
            );
            Ok(false)
        } else {
            self.lift(&shut.address, shut.pause, control, &LIFTS).await
        };
        if matches!(lifted, Ok(true)) {
            *state = State::Lifted(Instant::now());
        }
        gate.ended.notify_waiters();
        lifted.map(drop)
    }

    /// Under a pause that is not ours: nobody waits for this machine alone.
    async fn while_paused_by_another(&self, leaving: &Leaving<'_>) -> Result<End, LedgerError> {
        let profile = leaving.profile;
        if !self.stop.sleep(profile.settle.unsigned_abs()).await {
            return Ok(End::Stopped);
        }
        if let Some(reason) = self
            .second_reading(leaving.control, profile, leaving.registration)
            .await
        {
            return Ok(End::Held { reason });
        }
        if let Some(end) = self.hooks_before(leaving.action, Moment::BeforeDelete).await {
            return Ok(end);
        }
        let address = &leaving.action.address;
        self.delete(address, leaving.provider, leaving.target, Some(owner(leaving)))
            .await
    }

    /// Under ours. [`End::Open`] only while the delete may still take effect.
    async fn while_paused(&self, leaving: &Leaving<'_>, times: Times) -> Result<End, LedgerError> {
        let rest = times.settled.saturating_duration_since(Instant::now());
        if !self.stop.sleep(rest).await {
            return Ok(End::Stopped);
        }
        let latest = times.end - DELETE_ROOM;
        let reading = self.second_reading(leaving.control, leaving.profile, leaving.registration);
        match timeout_at(latest, reading).await {
            Ok(None) => {}
            Ok(Some(reason)) => return Ok(End::Held { reason }),
            Err(_) => return Ok(too_late()),
        }
        // Everybody's jobs wait meanwhile: a hook that takes longer than the pause may last is ended, and the machine stays.
        match timeout_at(latest, self.hooks_before(leaving.action, Moment::BeforeDelete)).await {
            Ok(None) => {}
            Ok(Some(end)) => return Ok(end),
            Err(_) => {
                let why = "it took longer than all runners may be paused".to_owned();
                let reason = hook_failed(Moment::BeforeDelete, why);
                return Ok(End::Held { reason });
            }
        }
        let name = &leaving.target.provider;
        let slot = match timeout_at(latest, self.slot(name)).await {
            Ok(Some(slot)) => slot,
            Ok(None) => {
                return Ok(End::Failed {
                    why: format!("the stack has no provider {name}"),
                });
            }
            Err(_) => return Ok(too_late()),
        };
        if self.stop.requested() {
            return Ok(End::Stopped);
        }
        if !self.lease_outlasts(leaving.provider.profile().call_timeout) {
            return Ok(lease_ends());
        }
        let end = self.delete_by(leaving, times.end).await;
        drop(slot);
        end
    }

    /// Deletes the machine, then its registration, and finds out what an unanswered delete did, all before `end`.
    async fn delete_by(&self, leaving: &Leaving<'_>, end: Instant) -> Result<End, LedgerError> {
        let Leaving {
            action,
            target,
            provider,
            ..
        } = leaving;
        let address = &action.address;
        let id = new_intent();
        let intent = Intent::Delete {
            target: (*target).clone(),
            registration: Some(owner(leaving)),
        };
        self.ledger.begin(address, &id, intent).await?;
        if Instant::now() + DELETE_ROOM > end {
            self.refused(address, &id, TOO_LATE).await?;
            return Ok(too_late());
        }
        let sent = send_delete(*provider, target, Instant::now() + DELETE_ROOM).await;
        let known = match &sent {
            Sent::Done => Known::Gone,
            Sent::Refused(_) => Known::Stays,
            Sent::Unknown(_) => find_out(*provider, target, end).await,
        };
        let (Sent::Refused(why) | Sent::Unknown(why)) = sent else {
            return self.deleted(address, &id, Some(owner(leaving))).await;
        };
        match known {
            Known::Gone => self.deleted(address, &id, Some(owner(leaving))).await,
            Known::Stays => {
                self.refused(address, &id, &why).await?;
                Ok(End::Failed { why })
            }
            Known::Nothing => Ok(End::Open { why }),
        }
    }

    /// Lets them take jobs again, and says whether it could. What cannot be lifted stays on record, unless what was paused
    /// is gone.
    async fn lift(
        &self,
        address: &Address,
        pause: Pause,
        control: &dyn RunnerControl,
        tries: &[Duration],
    ) -> Result<bool, LedgerError> {
        let registration = RegistrationId::from(pause.what.as_str());
        let mut last = None;
        for wait in tries {
            tokio::time::sleep(*wait).await;
            let Err(error) = control.uncordon(&registration).await else {
                last = None;
                break;
            };
            let refused = matches!(error, DemandError::Rejected { .. });
            if refused && matches!(control.read(&registration).await, Ok(None)) {
                last = None;
                break;
            }
            tracing::warn!(ci = %pause.owner, paused = %pause.what, %error, "the pause could not be lifted");
            last = Some(error);
        }
        if let Some(error) = last {
            tracing::error!(
                ci = %pause.owner, paused = %pause.what, %error,
                "paused by us, and still paused: no job is handed out. The next tick tries again; by hand, resume the queue \
                 (drone queue resume) or the runner (its page in GitLab)"
            );
            return Ok(false);
        }
        let step = Step::Resumed { pause };
        self.ledger.write(address, &new_intent(), step).await?;
        Ok(true)
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
                self.lift(&address, pause, control, &LEFTOVER_LIFTS).await?;
            }
        }
        Ok(())
    }
}

fn owner(leaving: &Leaving<'_>) -> (CiName, RegistrationId) {
    (leaving.profile.ci.clone(), leaving.registration.clone())
}

/// Said where the pause is too old for a delete.
const TOO_LATE: &str = "the pause had to be lifted before it could be deleted";

fn too_late() -> End {
    cordon_failed(TOO_LATE)
}

fn cordon_failed(why: &str) -> End {
    End::Held {
        reason: Reason::CordonFailed { why: why.to_owned() },
    }
}
