//! What `state import` does: a resource of the cloud, without labels of ours, taken on record.

use super::{
    adopt::Taken,
    facts::Facts,
    records::{Builder, Why},
};
use crate::{
    model::{
        ids::{Address, IntentId, PoolName},
        resource::{ClaimLabels, Observed, ResourceRef, ResourceSpec},
    },
    render::{self, RenderError, TemplateSet},
};

/// Why a resource cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something else has the address.
    #[error("{address} is on record already: {target}")]
    AddressTaken {
        /// Which.
        address: Address,
        /// What is there.
        target: ResourceRef,
    },
    /// It has an address already.
    #[error("{target} is on record already, at {address}")]
    OnRecord {
        /// Which.
        target: ResourceRef,
        /// Where.
        address: Address,
    },
    /// It carries the labels of a stack.
    #[error("{target} is labelled as stack {stack}'s")]
    Claimed {
        /// Which.
        target: ResourceRef,
        /// Whose.
        stack: String,
        /// Whether that is this stack.
        ours: bool,
    },
    /// A pool that the stack file does not have.
    #[error("there is no pool {pool}")]
    NoPool {
        /// Which.
        pool: PoolName,
        /// Those that are there.
        there: Vec<PoolName>,
    },
    /// It cannot be taken.
    #[error(transparent)]
    Left(#[from] Why),
    /// What it would be made from cannot be told.
    #[error("hashing its template")]
    Render(#[from] RenderError),
}

/// What `state import` takes: a resource without labels of ours, at the address that a person gave.
///
/// It counts as made from what the stack file says now. A machine whose registration is not found by its name has none,
/// and is kept for ever, since nobody can say whether it is at work. Where there is no CI, a machine is its own, by its name.
///
/// # Errors
/// When address or resource are on record, or it cannot be taken.
pub fn import(
    facts: &Facts<'_>,
    templates: &TemplateSet,
    address: &Address,
    seen: &Observed,
    intent: IntentId,
) -> Result<Taken, ImportError> {
    let state = &facts.snapshot.state;
    if let Some(record) = state.resources.get(address) {
        return Err(ImportError::AddressTaken {
            address: address.clone(),
            target: record.target(),
        });
    }
    if let Some(at) = facts.recorded(&seen.target) {
        return Err(ImportError::OnRecord {
            target: seen.target.clone(),
            address: at.clone(),
        });
    }
    if let Some(stack) = seen.labels.get(ClaimLabels::STACK) {
        return Err(ImportError::Claimed {
            target: seen.target.clone(),
            stack: stack.clone(),
            ours: stack == state.stack.as_str(),
        });
    }
    let mut claim = ClaimLabels {
        stack: state.stack.clone(),
        lineage: state.lineage.clone(),
        pool: address.pool.clone(),
        id: address.name.clone(),
        hash: "imported".into(),
        intent,
        registration: None,
    };
    let pool = match &address.pool {
        None => None,
        Some(name) => Some(facts.stack.pool(name).ok_or_else(|| ImportError::NoPool {
            pool: name.clone(),
            there: facts.stack.pools.iter().map(|pool| pool.name.clone()).collect(),
        })?),
    };
    let builder = Builder::new(facts);
    let (mut record, work) = builder.record(seen, &claim, address)?;
    record.hash = match (
        &record.spec,
        pool,
        pool.and_then(|pool| facts.stack.ci.get(&pool.ci)),
    ) {
        (ResourceSpec::Machine(spec), Some(pool), Some(ci)) => render::spec_hash(templates, pool, ci, spec)?,
        (spec, ..) => render::shared_hash(spec),
    };
    claim.hash = record.hash.clone();
    claim.registration.clone_from(&record.registration);
    Ok(Taken {
        address: address.clone(),
        have: seen.clone(),
        labels: claim.to_labels(),
        record,
        was: None,
        from: None,
        clashed: None,
        busy: work.busy(),
        unfinished: false,
    })
}
