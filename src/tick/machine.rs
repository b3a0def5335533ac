//! One machine that a person asks for by name: its record, and what its cloud says of it.

use super::{Session, TickError};
use crate::{
    journal::Fold,
    model::{
        ids::{Address, ProviderName},
        resource::Observed,
        state::{Record, State},
    },
    observe::ObserveError,
    plan::{
        Goal,
        find::{self, FindError},
    },
    provider::{Console, ProviderError},
    ssh::Ssh,
};

/// A machine on record, or a group's member, and what its cloud says of it.
#[derive(Clone, Debug)]
pub struct OneMachine {
    /// Its address.
    pub address: Address,
    /// What is on record.
    pub record: Record,
    /// What its cloud says.
    pub seen: Observed,
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// None is called so, or several are.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Our own state could not be read.
    #[error(transparent)]
    Tick(#[from] TickError),
    /// Its cloud does not have it any more.
    #[error("{address} is on record, and {provider} does not have it any more")]
    Gone {
        /// Which.
        address: Address,
        /// Its cloud.
        provider: ProviderName,
    },
    /// Its cloud could not be asked, or does not do that.
    #[error("providers.{provider}")]
    Provider {
        /// Its cloud.
        provider: ProviderName,
        /// Why.
        #[source]
        source: ProviderError,
    },
}

impl Session {
    /// The machine that is meant by this name, or its beginning ([`find::machine`]). One read of its cloud; where it may be a
    /// member of a group, all of a tick's reads.
    ///
    /// # Errors
    /// When none or several are meant, or it is not there any more.
    pub async fn machine(&self, named: &str) -> Result<OneMachine, MachineError> {
        let state = self.recorded().await?;
        match find::machine(&state, named) {
            Ok((address, record)) => self.seen_now(address, record).await,
            Err(FindError::Unknown { .. }) if self.stack().pools.iter().any(|pool| pool.group.is_some()) => {
                let planned = self.observe_and_decide(Goal::Converge).await?;
                let (address, record) = find::machine(&planned.snapshot.state, named)?;
                self.seen_now(address, record).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is on record, the journal included.
    async fn recorded(&self) -> Result<State, TickError> {
        let loaded = self.clients.store.load().await?;
        let empty = || State::empty(self.stack().name.clone(), self.new_lineage.clone());
        let mut fold = Fold::new(loaded.state.unwrap_or_else(empty));
        for entry in &loaded.entries {
            fold.push(entry).map_err(ObserveError::from)?;
        }
        Ok(fold.state().clone())
    }

    async fn seen_now(&self, address: &Address, record: &Record) -> Result<OneMachine, MachineError> {
        let name = &record.provider;
        let gone = || MachineError::Gone {
            address: address.clone(),
            provider: name.clone(),
        };
        let provider = self.clients.providers.get(name).ok_or_else(gone)?;
        let seen = provider.read(&record.target()).await;
        let seen = seen.map_err(|source| MachineError::Provider {
            provider: name.clone(),
            source,
        })?;
        Ok(OneMachine {
            address: address.clone(),
            record: record.clone(),
            seen: seen.ok_or_else(gone)?,
        })
    }

    /// What a machine has written to its console, as its cloud kept it.
    ///
    /// # Errors
    /// When its cloud cannot be asked, or keeps no console.
    pub async fn console(&self, machine: &OneMachine) -> Result<Console, MachineError> {
        let name = &machine.record.provider;
        let provider = self.clients.providers.get(name);
        let provider = provider.ok_or_else(|| MachineError::Gone {
            address: machine.address.clone(),
            provider: name.clone(),
        })?;
        let console = provider.console(&machine.record.target()).await;
        console.map_err(|source| MachineError::Provider {
            provider: name.clone(),
            source,
        })
    }

    /// How the stack's machines are logged in to.
    pub fn ssh(&self) -> Ssh {
        Ssh::new(self.stack(), self.loaded().folder())
    }
}
