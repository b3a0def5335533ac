//! A lost state, made again from the labels of what is in the clouds: what `state rebuild` does.
//!
//! The records are those of one lineage, which is the state's from then on, so that labels and records agree and nothing
//! has to be written to a cloud. What the labels do not tell (image, keys) is taken from the stack file's pool. What
//! cannot be recorded, the double of another for one, is of our lineage without a record afterwards: an orphan, which two
//! ticks judge.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    facts::Facts,
    records::{Builder, Left, Why, left},
    strays,
};
use crate::model::{
    ids::{Address, CloudId, Lineage, ProviderName, ResourceKind},
    money::Money,
    resource::{ClaimLabels, Observed},
    state::Record,
};

/// What carries one lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfLineage {
    /// Which; empty for what carries none.
    pub lineage: Lineage,
    /// How many machines.
    pub machines: usize,
    /// How many shared resources.
    pub shared: usize,
    /// What an hour of them costs, by currency.
    pub hourly: Vec<Money>,
    /// When the youngest was made.
    pub youngest: Timestamp,
}

/// A state's records, made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Whose.
    pub lineage: Lineage,
    /// The records.
    pub resources: BTreeMap<Address, Record>,
    /// What is left without one.
    pub left: Vec<Left>,
}

/// Why nothing can be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Nothing carries the stack's name.
    #[error("nothing in the clouds carries this stack's name")]
    Nothing,
    /// There is more than one, and none was chosen.
    #[error("{} lineages carry this stack's name", .lineages.len())]
    Choose {
        /// Those that are there.
        lineages: Vec<OfLineage>,
    },
    /// The one that was chosen is not there.
    #[error("nothing carries the lineage {asked}")]
    Unknown {
        /// What was typed.
        asked: String,
        /// Those that are there.
        lineages: Vec<OfLineage>,
    },
    /// A cloud did not tell all: a state without some of its machines would be worse than none.
    #[error("{provider}'s answer was partial: {why}")]
    Partial {
        /// Which.
        provider: ProviderName,
        /// Why.
        why: String,
    },
}

/// Everything without a record that carries the stack's name, by lineage.
pub fn lineages(facts: &Facts<'_>) -> Vec<OfLineage> {
    summed(facts, &strangers(facts))
}

/// Makes the records again.
///
/// # Errors
/// When the lineage is not certain, or a cloud's listing is not whole.
pub fn rebuild(facts: &Facts<'_>, lineage: Option<&str>) -> Result<Rebuilt, RebuildError> {
    for provider in facts.stack.providers.keys() {
        if let Some(why) = facts.cloud_gap(provider) {
            let provider = provider.clone();
            return Err(RebuildError::Partial { provider, why });
        }
    }
    let all = strangers(facts);
    let there = summed(facts, &all);
    let known: Vec<&OfLineage> = there
        .iter()
        .filter(|of| !of.lineage.as_str().is_empty())
        .collect();
    let lineage = match (lineage, known.as_slice()) {
        (_, []) => return Err(RebuildError::Nothing),
        (None, [only]) => only.lineage.clone(),
        (None, _) => return Err(RebuildError::Choose { lineages: there }),
        (Some(asked), known) => {
            let mut fit = known.iter().filter(|of| of.lineage.as_str().starts_with(asked));
            match (fit.next(), fit.next()) {
                (Some(one), None) if !asked.is_empty() => one.lineage.clone(),
                _ => {
                    return Err(RebuildError::Unknown {
                        asked: asked.to_owned(),
                        lineages: there,
                    });
                }
            }
        }
    };
    let mut own: Vec<&Observed> = all
        .into_iter()
        .filter(|seen| strays::lineage_of(seen) == lineage)
        .collect();
    // Of doubles the lowest id is kept, as everywhere.
    own.sort_by_key(|seen| (!seen.target.kind.is_shared(), numeric(&seen.target.id)));
    let mut rebuilt = Rebuilt {
        lineage,
        resources: BTreeMap::new(),
        left: Vec::new(),
    };
    let mut builder = Builder::empty(facts);
    for seen in own {
        let taken = seen
            .claim()
            .ok_or(Why::Unlabelled)
            .and_then(|claim| one(&builder, seen, &claim));
        match taken {
            Ok((address, record)) => {
                builder.note(&address, &record);
                rebuilt.resources.insert(address, record);
            }
            Err(why) => rebuilt.left.push(left(seen, why)),
        }
    }
    Ok(rebuilt)
}

fn one(builder: &Builder<'_, '_>, seen: &Observed, claim: &ClaimLabels) -> Result<(Address, Record), Why> {
    let address = claim.address(seen.target.kind);
    if address.pool.is_some() == address.kind.is_shared() {
        return Err(Why::NoPool);
    }
    if let Some(of) = builder.double_of(&address, &claim.intent) {
        return Err(Why::Double { of });
    }
    let (record, _) = builder.record(seen, claim, &address)?;
    Ok((address, record))
}

fn strangers<'a>(facts: &Facts<'a>) -> Vec<&'a Observed> {
    let found = strays::find(facts);
    let mut all = found.foreign;
    all.extend(found.disowned);
    all.extend(found.orphans);
    all
}

fn summed(facts: &Facts<'_>, all: &[&Observed]) -> Vec<OfLineage> {
    let mut by_lineage: BTreeMap<Lineage, OfLineage> = BTreeMap::new();
    for seen in all {
        let lineage = strays::lineage_of(seen);
        let of = by_lineage.entry(lineage.clone()).or_insert_with(|| OfLineage {
            lineage,
            machines: 0,
            shared: 0,
            hourly: Vec::new(),
            youngest: seen.created_at,
        });
        of.youngest = of.youngest.max(seen.created_at);
        if seen.target.kind == ResourceKind::Machine {
            of.machines += 1;
        } else {
            of.shared += 1;
        }
        let price = seen
            .offering
            .as_ref()
            .and_then(|offering| facts.price(offering, true));
        if let Some(price) = price {
            add(&mut of.hourly, &price.hourly);
        }
    }
    by_lineage.into_values().collect()
}

/// Adds to the sum in its currency.
pub fn add(sums: &mut Vec<Money>, money: &Money) {
    match sums.iter_mut().find(|sum| sum.currency == money.currency) {
        Some(sum) => sum.amount += money.amount,
        None => sums.push(money.clone()),
    }
}

fn numeric(id: &CloudId) -> (u64, CloudId) {
    (id.as_str().parse().unwrap_or(u64::MAX), id.clone())
}
