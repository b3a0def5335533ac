//! The state that a journal leads to: a fold of its entries over the state that it extends.
//!
//! Used live, entry by entry ([`Fold`]), and in recovery, all at once ([`fold`]); both are the same code, so that what
//! a crash leaves behind is read as it was meant. What holds of every journal:
//!
//! - J1: a registration and an outcome belong to an intent that was begun before them.
//! - J2: an intent begins once and ends once, and nothing of it follows its end.
//! - J3: all entries of an intent are at one address.
//! - J4: only the create of a machine gets a registration, and one of them.
//! - J5: an outcome fits its intent: see [`fits`].
//! - J6: what is begun or found present fits its address and is nowhere else on record (S4 to S8 of the state).
//!
//! An outcome changes a record only when the intent was about that very record: the delete of a double, the end of an
//! attempt that lost, a cordon of another registration leave the record at their address as it is.
//! A serial is not the fold's to raise: the folded state has that of its base, until it is written.

use std::collections::BTreeMap;

use crate::model::{
    ids::{Address, IntentId},
    intent::{Entry, Intent, OpenIntent, Outcome, Step},
    invariants::{self, Breach, Index},
    state::{Phase, Record, Refusal, State},
};

/// What a journal leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The state, with the serial of its base.
    pub state: State,
    /// Intents without an outcome, in the order in which they began.
    pub open: Vec<OpenIntent>,
    /// Offerings that said no, oldest first.
    pub refusals: Vec<Refusal>,
}

/// An entry that cannot follow those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {position} of the journal ({address}, attempt {intent}): {problem}")]
pub struct JournalError {
    /// Which entry, counted from 1.
    pub position: usize,
    /// The attempt that it names.
    pub intent: IntentId,
    /// What it touches.
    pub address: Address,
    /// Which invariant it breaks.
    pub problem: Box<Problem>,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// J1
    #[error("J1: the attempt was never begun")]
    NotBegun,
    /// J2
    #[error("J2: the attempt was begun before")]
    BegunTwice,
    /// J2
    #[error("J2: the attempt has ended")]
    Ended,
    /// J3
    #[error("J3: the attempt was begun at {begun}")]
    Moved {
        /// Where it was begun.
        begun: Address,
    },
    /// J4
    #[error("J4: only the create of a machine gets a registration")]
    NotRegistrable,
    /// J4
    #[error("J4: the attempt has a registration already")]
    RegisteredTwice,
    /// J5
    #[error("J5: {outcome} is no outcome of {intent}")]
    Misfit {
        /// What was begun.
        intent: &'static str,
        /// How it is said to have ended.
        outcome: &'static str,
    },
    /// J6
    #[error("J6: {0}")]
    Record(#[from] Breach),
}

/// Folds a whole journal.
///
/// # Errors
/// At the first entry that breaks an invariant.
pub fn fold(state: State, entries: &[Entry]) -> Result<Folded, JournalError> {
    let mut fold = Fold::new(state);
    for entry in entries {
        fold.push(entry)?;
    }
    Ok(fold.finish())
}

/// A fold that is under way: the state as it is after the entries so far.
#[derive(Clone, Debug)]
pub struct Fold {
    state: State,
    index: Index,
    /// Every intent that was begun, and its place in `open` while it has no outcome.
    begun: BTreeMap<IntentId, Option<usize>>,
    /// By the position of the entry that began it.
    open: BTreeMap<usize, OpenIntent>,
    refusals: Vec<Refusal>,
    position: usize,
}

impl Fold {
    /// Begins with the state that the journal extends.
    pub fn new(state: State) -> Self {
        let mut index = Index::default();
        for (address, record) in &state.resources {
            index.insert(address, record);
        }
        Self {
            state,
            index,
            begun: BTreeMap::new(),
            open: BTreeMap::new(),
            refusals: Vec::new(),
            position: 0,
        }
    }

    /// The state after the entries so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The intents that have no outcome yet, in the order in which they began.
    pub fn open(&self) -> impl Iterator<Item = &OpenIntent> {
        self.open.values()
    }

    /// The offerings that said no so far, oldest first.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// When it breaks an invariant; the fold is then as it was before.
    pub fn push(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let taken = match &entry.step {
            Step::Begin { intent } => self.begin(entry, intent),
            Step::Registered { ci, registration } => {
                self.open_of(entry).and_then(|open| match &open.intent {
                    _ if open.registration.is_some() => Err(Problem::RegisteredTwice),
                    Intent::Create {
                        spec: crate::model::resource::ResourceSpec::Machine(_),
                        ..
                    } => {
                        open.registration = Some((ci.clone(), registration.clone()));
                        Ok(())
                    }
                    _ => Err(Problem::NotRegistrable),
                })
            }
            Step::End { outcome } => self.end(entry, outcome),
            Step::Paused { pause } => {
                if !self.state.pauses.iter().any(|have| have.is_same(pause)) {
                    self.state.pauses.push(pause.clone());
                }
                Ok(())
            }
            Step::Resumed { pause } => {
                self.state.pauses.retain(|have| !have.is_same(pause));
                Ok(())
            }
        };
        taken.map_err(|problem| JournalError {
            position: self.position + 1,
            intent: entry.intent.clone(),
            address: entry.address.clone(),
            problem: Box::new(problem),
        })?;
        self.position += 1;
        Ok(())
    }

    /// Ends it.
    pub fn finish(self) -> Folded {
        Folded {
            state: self.state,
            open: self.open.into_values().collect(),
            refusals: self.refusals,
        }
    }

    fn begin(&mut self, entry: &Entry, intent: &Intent) -> Result<(), Problem> {
        if self.begun.contains_key(&entry.intent) {
            return Err(Problem::BegunTwice);
        }
        if let Intent::Create { spec, .. } | Intent::Update { spec, .. } = intent {
            invariants::check_place(&entry.address, spec)?;
        }
        if let Intent::Relabel { record, .. } = intent {
            invariants::check_record(&entry.address, record)?;
        }
        self.begun.insert(entry.intent.clone(), Some(self.position));
        self.open.insert(
            self.position,
            OpenIntent {
                id: entry.intent.clone(),
                address: entry.address.clone(),
                at: entry.at,
                intent: intent.clone(),
                registration: None,
            },
        );
        Ok(())
    }

    /// The open intent that an entry belongs to.
    fn open_of(&mut self, entry: &Entry) -> Result<&mut OpenIntent, Problem> {
        let place = self
            .begun
            .get(&entry.intent)
            .ok_or(Problem::NotBegun)?
            .ok_or(Problem::Ended)?;
        let open = self.open.get_mut(&place).ok_or(Problem::Ended)?;
        if open.address == entry.address {
            Ok(open)
        } else {
            Err(Problem::Moved {
                begun: open.address.clone(),
            })
        }
    }

    fn end(&mut self, entry: &Entry, outcome: &Outcome) -> Result<(), Problem> {
        let address = &entry.address;
        let intent = &self.open_of(entry)?.intent;
        if !fits(intent, outcome) {
            return Err(Problem::Misfit {
                intent: intent_word(intent),
                outcome: outcome_word(outcome),
            });
        }
        let intent = intent.clone();
        let about = |record: &Record| is_about(&entry.intent, &intent, record);
        match outcome {
            Outcome::Present(record) => {
                invariants::check_record(address, record)?;
                if let Intent::Relabel { was: Some(was), .. } = &intent
                    && self.state.resources.get(was).is_some_and(about)
                    && let Some(old) = self.state.resources.remove(was)
                {
                    self.index.remove(&old);
                }
                self.index.check(address, record)?;
                if let Some(old) = self.state.resources.insert(address.clone(), (**record).clone()) {
                    self.index.remove(&old);
                }
                self.index.insert(address, record);
                // What was released and is taken on record again is ours again (S10).
                self.state.released.remove(&record.target());
            }
            Outcome::Cordoned { since, why } => {
                if let Some(record) = self.state.resources.get_mut(address).filter(|r| about(r)) {
                    record.phase = Phase::Cordoned {
                        since: *since,
                        why: why.clone(),
                    };
                }
            }
            Outcome::Uncordoned => {
                if let Some(record) = self.state.resources.get_mut(address).filter(|r| about(r)) {
                    record.phase = Phase::Live;
                }
            }
            Outcome::Done => {}
            Outcome::Absent => {
                if self.state.resources.get(address).is_some_and(about)
                    && let Some(old) = self.state.resources.remove(address)
                {
                    self.index.remove(&old);
                }
            }
            Outcome::Refused { offering, quota, .. } => {
                self.refusals.extend(offering.as_ref().map(|offering| Refusal {
                    offering: offering.clone(),
                    at: entry.at,
                    quota: *quota,
                }));
            }
        }
        if let Some(place) = self.begun.insert(entry.intent.clone(), None).flatten() {
            self.open.remove(&place);
        }
        Ok(())
    }
}

/// Whether an intent may end so (J5). Anything may be refused or turn out to be gone; only what makes or changes a
/// resource finds it present; a delete may end in a cordon that stays, or is lifted, when jobs turn up.
pub fn fits(intent: &Intent, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Absent | Outcome::Refused { .. } => true,
        Outcome::Done => matches!(
            intent,
            Intent::Update {
                spec: crate::model::resource::ResourceSpec::Group(_),
                ..
            }
        ),
        Outcome::Present(_) => matches!(
            intent,
            Intent::Create { .. } | Intent::Update { .. } | Intent::Relabel { .. }
        ),
        Outcome::Cordoned { .. } => matches!(intent, Intent::Cordon { .. } | Intent::Delete { .. }),
        Outcome::Uncordoned => matches!(
            intent,
            Intent::Cordon { .. } | Intent::Uncordon { .. } | Intent::Delete { .. }
        ),
    }
}

/// Whether an intent is about this record, and not about another thing at its address.
fn is_about(id: &IntentId, intent: &Intent, record: &Record) -> bool {
    let registered =
        |registration| record.registration.is_none() || record.registration.as_ref() == Some(registration);
    match intent {
        Intent::Create { .. } => record.intent == *id,
        Intent::Update { target, .. } | Intent::Relabel { target, .. } | Intent::Delete { target, .. } => {
            record.target() == *target
        }
        Intent::Cordon { registration, .. } | Intent::Uncordon { registration, .. } => {
            registered(registration)
        }
        Intent::Forget { registration } => registration.as_ref().is_none_or(|(_, id)| registered(id)),
    }
}

fn intent_word(intent: &Intent) -> &'static str {
    match intent {
        Intent::Create { .. } => "a create",
        Intent::Update { .. } => "an update",
        Intent::Relabel { .. } => "a relabel",
        Intent::Cordon { .. } => "a cordon",
        Intent::Uncordon { .. } => "an uncordon",
        Intent::Delete { .. } => "a delete",
        Intent::Forget { .. } => "a forget",
    }
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Present(_) => "present",
        Outcome::Done => "done",
        Outcome::Cordoned { .. } => "cordoned",
        Outcome::Uncordoned => "uncordoned",
        Outcome::Absent => "absent",
        Outcome::Refused { .. } => "refused",
    }
}

#[cfg(test)]
mod tests;
