//! The journal's writing side: every intent is durable before its call, every outcome after it.

#![expect(
    clippy::disallowed_methods,
    reason = "the time stands in for a random source that failed"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rand::TryRng;

use super::Clock;
use crate::{
    journal::{Fold, Folded, JournalError},
    model::{
        ids::{Address, CiName, IntentId, Serial},
        intent::{Entry, Intent, OpenIntent, Outcome, Step},
        money::Price,
        resource::{ClaimLabels, Observed, ResourceRef, ResourceSpec},
        state::{Pause, Phase, Record},
    },
    state::{StateError, StateStore},
};

/// Writes entries, and folds them into the state as they are written.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    store: &'a dyn StateStore,
    base: Serial,
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    fold: Fold,
    wrote: bool,
}

/// Why an entry is not in the journal.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// It cannot follow those before it: a slip of ours, found before anything was done.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl<'a> Ledger<'a> {
    pub(super) fn new(store: &'a dyn StateStore, base: Serial, fold: Fold, clock: Clock) -> Self {
        let inner = Mutex::new(Inner { fold, wrote: false });
        Self {
            store,
            base,
            clock,
            inner,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Announces what is about to be done; durable when it returns.
    pub(super) async fn begin(
        &self,
        address: &Address,
        id: &IntentId,
        intent: Intent,
    ) -> Result<(), LedgerError> {
        self.write(address, id, Step::Begin { intent }).await
    }

    /// Says how it ended; durable when it returns.
    pub(super) async fn end(
        &self,
        address: &Address,
        id: &IntentId,
        outcome: Outcome,
    ) -> Result<(), LedgerError> {
        self.write(address, id, Step::End { outcome }).await
    }

    /// Ends what an earlier process began and the plan has looked past: every open intent but creates, whose
    /// resources only a listing finds, and relabels, which are gone on with. What they were about is on record still, and was decided on anew.
    pub(super) async fn supersede(&self) -> Result<(), LedgerError> {
        let open: Vec<OpenIntent> = self.lock().fold.open().cloned().collect();
        for old in open {
            if matches!(old.intent, Intent::Create { .. } | Intent::Relabel { .. }) {
                continue;
            }
            let why = "interrupted; decided on anew".to_owned();
            let outcome = match old.intent {
                // It may have taken effect, and then it is ours to lift.
                Intent::Cordon { .. } => Outcome::Cordoned {
                    since: self.now(),
                    why,
                },
                _ => Outcome::Refused {
                    offering: None,
                    quota: false,
                    why,
                },
            };
            self.end(&old.address, &old.id, outcome).await?;
        }
        Ok(())
    }

    pub(super) async fn write(
        &self,
        address: &Address,
        id: &IntentId,
        step: Step,
    ) -> Result<(), LedgerError> {
        let entry = Entry {
            at: self.now(),
            intent: id.clone(),
            address: address.clone(),
            step,
        };
        // Folded first, so that an entry that cannot follow is never written. Where writing then fails, nothing that a
        // beginning announces is done, and its open intent keeps the state from being saved without it.
        {
            let mut inner = self.lock();
            inner.fold.push(&entry)?;
            inner.wrote = true;
        }
        self.store.record(self.base, std::slice::from_ref(&entry)).await?;
        Ok(())
    }

    /// What we paused and have not resumed.
    pub(super) fn pauses(&self) -> Vec<Pause> {
        self.lock().fold.state().pauses.clone()
    }

    /// An unfinished relabel of this resource at this address.
    pub(super) fn open_relabel(&self, address: &Address, have: &ResourceRef) -> Option<IntentId> {
        let inner = self.lock();
        let mut open = inner.fold.open();
        let same = open.find(|open| {
            open.address == *address
                && matches!(&open.intent, Intent::Relabel { target, .. } if target == have)
        })?;
        Some(same.id.clone())
    }

    /// The cloud's own reference of a shared resource of this stack.
    pub(super) fn shared(&self, address: &Address) -> Option<ResourceRef> {
        let inner = self.lock();
        inner.fold.state().resources.get(address).map(Record::target)
    }

    /// The fold of all that was there and was written, and whether anything was written.
    pub(super) fn close(self) -> (Folded, bool) {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        (inner.fold.finish(), inner.wrote)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A nonce for one attempt: 16 hex digits from the system's random source.
pub(super) fn new_intent() -> IntentId {
    IntentId::from(random_hex(8))
}

/// That many random bytes from the system, in hex.
///
/// The system's source does not fail on the platforms that runfleet is built for; should it, the time stands in, since
/// a nonce must be unique and need not be secret.
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    if rand::rngs::SysRng.try_fill_bytes(&mut buffer).is_err() {
        let nanos = Timestamp::now().as_nanosecond().to_le_bytes();
        for (slot, byte) in buffer.iter_mut().zip(nanos.iter().cycle()) {
            *slot = *byte;
        }
    }
    hex::encode(buffer)
}

/// A record of what was made.
pub(super) fn record_of(
    claim: &ClaimLabels,
    spec: ResourceSpec,
    seen: &Observed,
    price: Option<Price>,
    ci: Option<CiName>,
) -> Record {
    Record {
        provider: seen.target.provider.clone(),
        id: seen.target.id.clone(),
        name: seen.name.clone(),
        intent: claim.intent.clone(),
        hash: claim.hash.clone(),
        created_at: seen.created_at,
        spec,
        price,
        ci,
        registration: claim.registration.clone(),
        phase: Phase::Live,
    }
}
