//! Taking on record what is there already: what `adopt` does.
//!
//! Pure: what was seen and what a person asked for in, actions or records out. Nothing here is decided by a tick: a
//! person asks for it, sees it and says yes. A machine keeps the registration that its label names, so that its jobs are
//! seen, and what runs is never ended by it. Labels and record change by [`Verb::Relabel`], whose intent holds the
//! record. What cannot be taken is said with its reason, and left as it is.

use std::collections::HashSet;

use super::{
    Action, ActionId, Plan, Verb, drift,
    facts::Facts,
    fleet,
    records::{Builder, Left, Why, left},
    strays,
};
use crate::model::{
    ids::{Address, IntentId, Lineage, PoolName},
    intent::Intent,
    reason::Reason,
    resource::{Labels, Observed},
    state::Record,
};

/// Something that is taken on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address that it gets.
    pub address: Address,
    /// What it is.
    pub have: Observed,
    /// Its labels.
    pub labels: Labels,
    /// Its record.
    pub record: Record,
    /// The address that it had on record.
    pub was: Option<Address>,
    /// Whose it was by its label; none where it carried none.
    pub from: Option<Lineage>,
    /// The address that its claim says, where something else has that.
    pub clashed: Option<Address>,
    /// Whether it runs jobs; none where that is not certain.
    pub busy: Option<bool>,
    /// Whether an earlier attempt to take it is gone on with.
    pub unfinished: bool,
}

impl Taken {
    /// Its pool, where the stack file does not have it: the machine leaves as soon as it is idle.
    pub fn unknown_pool(&self, has: impl Fn(&PoolName) -> bool) -> Option<&PoolName> {
        self.address.pool.as_ref().filter(|pool| !has(pool))
    }
}

/// What `adopt` would take, and what it would not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Shared resources first.
    pub taken: Vec<Taken>,
    /// What stays as it is.
    pub left: Vec<Left>,
}

/// Why nothing can be adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// A name or id that nothing adoptable has.
    #[error("there is nothing to adopt by the name or id {named:?}")]
    Unknown {
        /// What was typed.
        named: String,
        /// The names of what there is.
        there: Vec<String>,
    },
    /// A name or id of several.
    #[error("{named:?} is {} resources", .meant.len())]
    Ambiguous {
        /// What was typed.
        named: String,
        /// As `KIND/ID`.
        meant: Vec<String>,
    },
}

/// What `adopt` takes: all that is foreign or an orphan, or what is named, disowned ones too.
///
/// # Errors
/// When a name means nothing, or more than one.
pub fn adopt(facts: &Facts<'_>, named: &[String]) -> Result<Takeover, AdoptError> {
    let found = strays::find(facts);
    let mut builder = Builder::new(facts);
    let mut takeover = Takeover {
        taken: begun(facts),
        left: Vec::new(),
    };
    let mut open_targets = HashSet::new();
    for taken in &takeover.taken {
        open_targets.insert(taken.have.target.clone());
        builder.note(&taken.address, &taken.record);
    }
    let all = found.foreign.iter().chain(&found.orphans);
    let mut wanted: Vec<&Observed> = if named.is_empty() {
        all.copied().collect()
    } else {
        choose(&all.chain(&found.disowned).copied().collect::<Vec<_>>(), named)?
    };
    wanted.retain(|seen| !open_targets.contains(&seen.target));
    // What machines use has its address before they have theirs.
    wanted.sort_by_key(|seen| (!seen.target.kind.is_shared(), seen.target.clone()));
    for seen in wanted {
        match take(&mut builder, seen) {
            Ok(taken) => takeover.taken.push(taken),
            Err(why) => takeover.left.push(left(seen, why)),
        }
    }
    Ok(takeover)
}

/// What earlier attempts began to take, and is there.
pub fn begun(facts: &Facts<'_>) -> Vec<Taken> {
    let each = facts.snapshot.open.iter().filter_map(|open| {
        let Intent::Relabel {
            target,
            labels,
            record,
            was,
        } = &open.intent
        else {
            return None;
        };
        let have = facts.resource(target)?;
        Some(Taken {
            address: open.address.clone(),
            have: have.clone(),
            labels: labels.clone(),
            record: (**record).clone(),
            was: was.clone(),
            from: have
                .labels
                .get("runfleet-lineage")
                .map(|text| text.as_str().into()),
            clashed: None,
            busy: None,
            unfinished: true,
        })
    });
    each.collect()
}

/// The resources that are meant by their names or ids, or as `KIND/ID`.
fn choose<'a>(there: &[&'a Observed], named: &[String]) -> Result<Vec<&'a Observed>, AdoptError> {
    let mut chosen: Vec<&Observed> = Vec::new();
    for name in named {
        let means = |seen: &&&Observed| {
            seen.name == *name
                || seen.target.id.as_str() == name
                || format!("{}/{}", seen.target.kind, seen.target.id) == *name
        };
        let meant: Vec<&&Observed> = there.iter().filter(means).collect();
        match meant.as_slice() {
            [] => {
                return Err(AdoptError::Unknown {
                    named: name.clone(),
                    there: there.iter().map(|seen| seen.name.clone()).collect(),
                });
            }
            [one] if chosen.iter().any(|seen| seen.target == one.target) => {}
            [one] => chosen.push(one),
            several => {
                return Err(AdoptError::Ambiguous {
                    named: name.clone(),
                    meant: several
                        .iter()
                        .map(|seen| format!("{}/{}", seen.target.kind, seen.target.id))
                        .collect(),
                });
            }
        }
    }
    Ok(chosen)
}

/// Takes what carries a claim under our lineage; where its address is taken, under one of its own.
fn take(builder: &mut Builder<'_, '_>, seen: &Observed) -> Result<Taken, Why> {
    let facts = builder.facts;
    let state = &facts.snapshot.state;
    if let Some(address) = facts.recorded(&seen.target)
        && let Some(record) = state.resources.get(address)
    {
        return Ok(Taken {
            address: address.clone(),
            have: seen.clone(),
            labels: drift::claim_of(state, address, record).to_labels(),
            record: record.clone(),
            was: None,
            from: Some(strays::lineage_of(seen)),
            clashed: None,
            busy: fleet::work(facts, address, record).busy(),
            unfinished: false,
        });
    }
    let mut claim = seen.claim().ok_or(Why::Unlabelled)?;
    let from = claim.lineage.clone();
    let said = claim.address(seen.target.kind);
    let clashes = builder.addresses.contains(&said);
    if clashes {
        claim.id = format!("{}-{}", claim.id, seen.target.id);
    }
    if builder.intents.contains(&claim.intent) {
        claim.intent = IntentId::new(format!("{}-{}", claim.intent, seen.target.id));
    }
    claim.lineage = facts.snapshot.state.lineage.clone();
    let address = claim.address(seen.target.kind);
    let (record, work) = builder.record(seen, &claim, &address)?;
    claim.registration.clone_from(&record.registration);
    builder.note(&address, &record);
    Ok(Taken {
        clashed: clashes.then_some(said),
        address,
        have: seen.clone(),
        labels: claim.to_labels(),
        record,
        was: None,
        from: Some(from),
        busy: work.busy(),
        unfinished: false,
    })
}

/// The actions that take these on record.
pub fn actions(taken: &[Taken]) -> Vec<Action> {
    let each = taken.iter().zip(0_u32..);
    each.map(|(taken, id)| Action {
        id: ActionId(id),
        address: taken.address.clone(),
        verb: Verb::Relabel {
            have: Box::new(taken.have.clone()),
            labels: taken.labels.clone(),
            record: Box::new(taken.record.clone()),
            was: taken.was.clone(),
        },
        reason: if taken.unfinished {
            Reason::Unfinished
        } else {
            Reason::AdoptAsked
        },
        after: Vec::new(),
        before: None,
    })
    .collect()
}

/// The plan with these actions in the place of its own: what a person asked for, and nothing else.
pub fn instead(plan: Plan, actions: Vec<Action>) -> Plan {
    Plan {
        actions,
        kept: Vec::new(),
        held: Vec::new(),
        breaches: Vec::new(),
        ..plan
    }
}

#[cfg(test)]
mod tests;
