//! What a person asks for beside a tick: adopting, importing, accepting drift, rebuilding, disowning, and a look at all
//! that is there.
//!
//! Each observes as a tick does, and puts what was asked in the place of what the tick would do; carrying it out is the
//! tick's own [`Session::apply`]. The verbs that write need the lock. Only rebuilding and disowning write the state
//! without the journal: they touch no cloud, and replace the file whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Planned, Session, TickError, random_hex, remember};
use crate::{
    model::{
        ids::{Address, CloudId, IntentId, Lineage, ProviderName, Serial},
        resource::{Listing, Observed, ResourceRef},
        state::State,
    },
    plan::{
        Action, Goal, accept,
        adopt::{self, AdoptError, Taken, Takeover},
        facts::Facts,
        import::{self, ImportError},
        rebuild::{self, OfLineage, RebuildError, Rebuilt},
    },
    provider::ProviderError,
};

/// Why what was asked for is not done.
#[derive(Debug, thiserror::Error)]
pub enum SurgeryError {
    /// As a tick fails.
    #[error(transparent)]
    Tick(#[from] TickError),
    /// Nothing can be adopted.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// It cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Nothing can be rebuilt.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// There is a state with records: it is not lost.
    #[error("{place} is there, with {resources} resources on record (serial {serial})")]
    HasState {
        /// Where.
        place: String,
        /// Its serial.
        serial: Serial,
        /// How many records it has.
        resources: usize,
    },
    /// Attempts have no outcome yet.
    #[error("{count} attempts have no outcome yet")]
    Unfinished {
        /// How many.
        count: usize,
    },
    /// A provider that the stack does not have, or none named where there are several.
    #[error("which provider?")]
    NoProvider {
        /// What was typed.
        named: Option<String>,
        /// Those that the stack has.
        there: Vec<ProviderName>,
    },
    /// The cloud has no such resource.
    #[error("there is no {target}")]
    Absent {
        /// Which.
        target: ResourceRef,
    },
    /// The cloud could not be asked.
    #[error("providers.{provider}")]
    Provider {
        /// Which.
        provider: ProviderName,
        /// Why.
        #[source]
        source: ProviderError,
    },
}

impl From<crate::state::StateError> for SurgeryError {
    fn from(error: crate::state::StateError) -> Self {
        Self::Tick(error.into())
    }
}

/// What `init --new-lineage` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disowned {
    /// The stack's lineage.
    pub lineage: Lineage,
    /// Whether it is new.
    pub is_new: bool,
    /// The state's serial.
    pub serial: Serial,
    /// What is left alone from now on.
    pub disowned: Vec<OfLineage>,
}

/// Everything with a label of ours, of whatever stack.
#[derive(Debug)]
pub struct Everything {
    /// What a tick saw.
    pub planned: Planned,
    /// By provider: all that carries our label, or only this stack's where the provider cannot say more.
    pub listings: BTreeMap<ProviderName, Listing>,
    /// Providers of which only this stack's resources are known, and why.
    pub narrow: Vec<(ProviderName, String)>,
}

impl Session {
    /// What `adopt` takes, and the plan that takes it.
    ///
    /// # Errors
    /// When our own state cannot be read, or a name means nothing.
    pub async fn adoption(&self, named: &[String]) -> Result<(Planned, Takeover), SurgeryError> {
        let planned = self.observe_and_decide(Goal::Converge).await?;
        let takeover = adopt::adopt(&Facts::of(&planned.snapshot, self.stack()), named)?;
        let actions = adopt::actions(&takeover.taken);
        Ok((instead(planned, actions), takeover))
    }

    /// What someone else changed, and the plan that makes it the record's.
    ///
    /// # Errors
    /// When our own state cannot be read.
    pub async fn acceptance(&self) -> Result<Planned, SurgeryError> {
        let planned = self.observe_and_decide(Goal::Converge).await?;
        let actions = accept::accept(&Facts::of(&planned.snapshot, self.stack()));
        Ok(instead(planned, actions))
    }

    /// What `state import` takes, and the plan that takes it.
    ///
    /// # Errors
    /// When the resource is not there, or cannot be taken.
    pub async fn import(
        &self,
        address: &Address,
        id: &str,
        provider: Option<&str>,
    ) -> Result<(Planned, Taken), SurgeryError> {
        let seen = self.read_by_id(address, id, provider).await?;
        let planned = self.observe_and_decide(Goal::Converge).await?;
        let facts = Facts::of(&planned.snapshot, self.stack());
        let begun = adopt::begun(&facts);
        let mut begun = begun
            .into_iter()
            .filter(|one| one.address == *address && one.have.target == seen.target);
        let taken = if let Some(begun) = begun.next() {
            begun
        } else {
            let intent = IntentId::from(random_hex(8));
            import::import(&facts, &self.loaded.templates, address, &seen, intent)?
        };
        let actions = adopt::actions(std::slice::from_ref(&taken));
        Ok((instead(planned, actions), taken))
    }

    async fn read_by_id(
        &self,
        address: &Address,
        id: &str,
        named: Option<&str>,
    ) -> Result<Observed, SurgeryError> {
        let there = &self.clients.providers;
        let provider = match named {
            Some(named) => there.get_key_value(named),
            None if there.len() == 1 => there.first_key_value(),
            None => None,
        };
        let Some((name, provider)) = provider else {
            return Err(SurgeryError::NoProvider {
                named: named.map(str::to_owned),
                there: there.keys().cloned().collect(),
            });
        };
        let target = ResourceRef {
            provider: name.clone(),
            kind: address.kind,
            id: CloudId::from(id),
        };
        let found = provider
            .read(&target)
            .await
            .map_err(|source| SurgeryError::Provider {
                provider: name.clone(),
                source,
            })?;
        found.ok_or(SurgeryError::Absent { target })
    }

    /// What `state rebuild` would put on record. Refuses where a state with records is there.
    ///
    /// # Errors
    /// When nothing is lost, or what was lost is not certain.
    pub async fn rebuilding(&self, lineage: Option<&str>) -> Result<(Planned, Rebuilt), SurgeryError> {
        let planned = self.observe_and_decide(Goal::Converge).await?;
        let state = planned.snapshot.own_state();
        if !state.resources.is_empty() {
            return Err(SurgeryError::HasState {
                place: self.clients.store.place(),
                serial: state.serial,
                resources: state.resources.len(),
            });
        }
        settled(&planned)?;
        let rebuilt = rebuild::rebuild(&Facts::of(&planned.snapshot, self.stack()), lineage)?;
        Ok((planned, rebuilt))
    }

    /// Writes the state with these records. The lock must be held.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write_rebuilt(&self, planned: &Planned, rebuilt: &Rebuilt) -> Result<State, SurgeryError> {
        let before = &planned.snapshot.state;
        // It goes on counting where the lost one stopped, so that no kept state is written over or hidden.
        let kept = self.clients.store.versions().await?;
        let latest = kept
            .iter()
            .map(|version| version.serial)
            .max()
            .unwrap_or_default();
        let serial = match before.serial {
            Serial(0) => latest.next(),
            serial => serial.next(),
        };
        let mut state = State {
            lineage: rebuilt.lineage.clone(),
            serial,
            resources: rebuilt.resources.clone(),
            ..before.clone()
        };
        state.disowned.remove(&rebuilt.lineage);
        self.clients.store.save(&state, before.serial).await?;
        Ok(state)
    }

    /// Leaves every lineage that is not the state's alone from now on; a stack without a state gets one. The lock must
    /// be held.
    ///
    /// # Errors
    /// When attempts are unfinished, a listing is not whole, or the state cannot be written.
    pub async fn disown(&self) -> Result<Disowned, SurgeryError> {
        let planned = self.observe_and_decide(Goal::Converge).await?;
        settled(&planned)?;
        let facts = Facts::of(&planned.snapshot, self.stack());
        for provider in self.stack().providers.keys() {
            if let Some(why) = facts.cloud_gap(provider) {
                let provider = provider.clone();
                return Err(RebuildError::Partial { provider, why }.into());
            }
        }
        let before = planned.snapshot.own_state();
        let mut lineages = rebuild::lineages(&facts);
        lineages.retain(|of| of.lineage != before.lineage && !before.disowned.contains(&of.lineage));
        let mut state = before.clone();
        let new: BTreeSet<Lineage> = lineages.iter().map(|of| of.lineage.clone()).collect();
        state.disowned.extend(new);
        if planned.is_new || state.disowned != before.disowned {
            state.serial = before.serial.next();
            self.clients.store.save(&state, before.serial).await?;
        }
        Ok(Disowned {
            lineage: state.lineage,
            is_new: planned.is_new,
            serial: state.serial,
            disowned: lineages,
        })
    }

    /// Everything with a label of ours, over every provider of the stack.
    ///
    /// # Errors
    /// When our own state cannot be read.
    pub async fn everything(&self) -> Result<Everything, SurgeryError> {
        let each = self
            .clients
            .providers
            .iter()
            .map(|(name, provider)| async move { (name.clone(), provider.list_all().await) });
        let answers = futures::future::join_all(each).await;
        let planned = self.observe_and_decide(Goal::Converge).await?;
        let mut listings = BTreeMap::new();
        let mut narrow = Vec::new();
        for (name, answer) in answers {
            match answer {
                Ok(listing) => {
                    listings.insert(name, listing);
                }
                Err(error) => {
                    if let Some(cloud) = planned.snapshot.clouds.get(&name) {
                        listings.insert(name.clone(), cloud.listing.clone());
                    }
                    narrow.push((name, error.to_string()));
                }
            }
        }
        Ok(Everything {
            planned,
            listings,
            narrow,
        })
    }
}

/// The plan with what was asked for in the place of what a tick would do.
fn instead(mut planned: Planned, actions: Vec<Action>) -> Planned {
    planned.plan = adopt::instead(planned.plan, actions);
    // What the tick would have done is not remembered as decided.
    planned.snapshot.history.decisions.pop();
    remember(
        &mut planned.snapshot.history,
        &planned.plan,
        &crate::plan::Selection::default(),
    );
    // A step that would have acted did not, and what is taken on record is no surplus.
    for memory in planned.snapshot.history.steps.values_mut() {
        memory.size = None;
    }
    planned
}

/// Nothing is written over a journal that says what may have happened.
fn settled(planned: &Planned) -> Result<(), SurgeryError> {
    match planned.snapshot.open.len() {
        0 => Ok(()),
        count => Err(SurgeryError::Unfinished { count }),
    }
}
