//! The journal's writing side: every intent is durable before its call, every outcome after it.

use std::{collections::BTreeMap, sync::Mutex};

use jiff::Timestamp;
use rand::TryRng;

use super::Clock;
use crate::{
    journal,
    model::{
        ids::{Address, IntentId, Serial},
        intent::{Entry, Intent, Outcome, Step},
        resource::ResourceRef,
        state::{Record, State},
    },
    state::{StateError, StateStore},
};

/// Writes entries, and remembers them to fold into the state at the end.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    store: &'a dyn StateStore,
    base: Serial,
    clock: Clock,
    written: Mutex<Vec<Entry>>,
    /// What creates may refer to: the shared resources that are there, by address.
    shared: Mutex<BTreeMap<Address, ResourceRef>>,
}

/// What the entries of one apply make of the state.
pub(super) struct Closed {
    pub(super) folded: journal::Folded,
    pub(super) wrote: bool,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(store: &'a dyn StateStore, state: &State, clock: Clock) -> Self {
        let shared = state
            .resources
            .iter()
            .filter(|(address, _)| address.kind.is_shared())
            .map(|(address, record)| (address.clone(), record.target()))
            .collect();
        Self {
            store,
            base: state.serial,
            clock,
            written: Mutex::default(),
            shared: Mutex::new(shared),
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
    ) -> Result<(), StateError> {
        self.write(address, id, Step::Begin { intent }).await
    }

    /// Says how it ended; durable when it returns.
    pub(super) async fn end(
        &self,
        address: &Address,
        id: &IntentId,
        outcome: Outcome,
    ) -> Result<(), StateError> {
        if let (Outcome::Present(record), true) = (&outcome, address.kind.is_shared()) {
            self.lock_shared().insert(address.clone(), record.target());
        }
        self.write(address, id, Step::End { outcome }).await
    }

    pub(super) async fn write(&self, address: &Address, id: &IntentId, step: Step) -> Result<(), StateError> {
        let entry = Entry {
            at: self.now(),
            intent: id.clone(),
            address: address.clone(),
            step,
        };
        self.store.record(self.base, std::slice::from_ref(&entry)).await?;
        self.written
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(entry);
        Ok(())
    }

    /// The cloud's own reference of a shared resource of this stack.
    pub(super) fn shared(&self, address: &Address) -> Option<ResourceRef> {
        self.lock_shared().get(address).cloned()
    }

    fn lock_shared(&self) -> std::sync::MutexGuard<'_, BTreeMap<Address, ResourceRef>> {
        self.shared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Folds what was written onto the entries that were there before.
    pub(super) fn close(self, mut before: journal::Folded) -> Result<Closed, journal::JournalError> {
        let written = self
            .written
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let wrote = !written.is_empty();
        before.extend(&written)?;
        Ok(Closed {
            folded: before,
            wrote,
        })
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
    claim: &crate::model::resource::ClaimLabels,
    spec: crate::model::resource::ResourceSpec,
    seen: &crate::model::resource::Observed,
    price: Option<crate::model::money::Price>,
    ci: Option<crate::model::ids::CiName>,
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
        phase: crate::model::state::Phase::Live,
    }
}
