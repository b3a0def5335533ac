//! A step's conditions against what was measured: one number each, and its comparison.
//!
//! No measurement is an error. What is not known is unknown, and says what is missing, and where.

use std::fmt::Write as _;

use crate::{
    model::{
        ids::RegistrationId,
        metrics::{Finite, MachineMetrics, Measured, PoolMetrics, SampleName},
    },
    stack::step::{Change, Condition, Function, Matching, Reducer, Step, Subject},
};

/// How many machines a gap names before it only counts them.
const NAMED: usize = 3;

/// A machine that serves and is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready<'a> {
    /// Its name in the cloud, for a person.
    pub name: &'a str,
    /// What its numbers are filed under; none: it has none.
    pub registration: Option<&'a RegistrationId>,
}

/// Why a condition is not known to hold or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What is missing, and where, for a person.
    pub why: String,
    /// Whether a person should look: not where there is only no machine yet.
    pub alarming: bool,
}

/// What a step's conditions come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether they hold; none where that is not known.
    pub holds: Option<bool>,
    /// What was measured and what it is held against, for a person: `mean(node_load1) = 3.1 >= 2`.
    pub reading: String,
    /// What keeps it from being known; only where `holds` is none.
    pub gap: Option<Gap>,
}

/// A number over the machines that could be read.
struct Number {
    value: Option<Finite>,
    /// Machines whose number it is made of, where not all are.
    of: Option<(usize, usize)>,
    /// Why it is not made of all.
    gap: Option<Gap>,
}

/// Holds a step's conditions against what was measured of the machines that are ready.
///
/// A number over some of the machines is good enough for a step that adds, and unknown to one that removes: those that
/// were not read may be the ones that need the others.
pub fn judge(step: &Step, ready: &[Ready<'_>], metrics: Option<&PoolMetrics>) -> Verdict {
    let partial_will_do = matches!(step.change, Change::Add(_));
    let mut readings = Vec::new();
    let mut holds = Vec::new();
    let mut gaps = Vec::new();
    for condition in &step.conditions {
        let number = number(&condition.subject, ready, metrics);
        let value = number.value.filter(|_| partial_will_do || number.gap.is_none());
        let held = value.map(|value| condition.operator.holds(value, condition.threshold));
        readings.push(reading(condition, &number, held));
        holds.push(held);
        if held.is_none() {
            gaps.extend(number.gap);
        }
    }
    let holds = join(step.matching, &holds);
    let word = match step.matching {
        Matching::All => " and ",
        Matching::Any => " or ",
    };
    Verdict {
        holds,
        reading: readings.join(word),
        gap: gaps.into_iter().next().filter(|_| holds.is_none()),
    }
}

/// Three values joined: what is unknown stays so unless the others decide.
fn join(matching: Matching, holds: &[Option<bool>]) -> Option<bool> {
    let decisive = matching == Matching::Any;
    if holds.contains(&Some(decisive)) {
        Some(decisive)
    } else if holds.contains(&None) {
        None
    } else {
        Some(!decisive)
    }
}

fn number(subject: &Subject, ready: &[Ready<'_>], metrics: Option<&PoolMetrics>) -> Number {
    match subject {
        Subject::Machines {
            samples,
            reducer,
            function,
        } => over_machines(samples, *reducer, *function, ready, metrics),
        Subject::Query(query) => {
            let missing = |why: String| Number {
                value: None,
                of: None,
                gap: Some(Gap { why, alarming: true }),
            };
            match metrics.and_then(|metrics| metrics.queries.get(query)) {
                Some(Measured::Value(value)) => Number {
                    value: Some(*value),
                    of: None,
                    gap: None,
                },
                Some(Measured::Missing { why }) => missing(format!("{query}: {why}")),
                None => missing(format!("{query}: it was not asked")),
            }
        }
    }
}

fn over_machines(
    samples: &[SampleName],
    reducer: Reducer,
    function: Function,
    ready: &[Ready<'_>],
    metrics: Option<&PoolMetrics>,
) -> Number {
    let mut values = Vec::with_capacity(ready.len());
    let mut troubles: Vec<(String, &str)> = Vec::new();
    for machine in ready {
        let told = machine
            .registration
            .and_then(|registration| metrics?.machines.get(registration));
        let value = match told {
            Some(MachineMetrics::Read(told)) => reduce(samples, reducer, |name| {
                told.get(&name.to_string()).map(|value| value.get())
            }),
            Some(MachineMetrics::Unreachable { why }) => Err(format!("no answer ({why}) from")),
            None => Err("nothing was measured on".to_owned()),
        };
        match value {
            Ok(value) => values.push(value),
            Err(trouble) => troubles.push((trouble, machine.name)),
        }
    }
    if ready.is_empty() {
        return Number {
            value: None,
            of: None,
            gap: Some(Gap {
                why: "no machine is ready".to_owned(),
                alarming: false,
            }),
        };
    }
    let of = (!troubles.is_empty()).then_some((values.len(), ready.len()));
    let mut gap = told_gap(&troubles);
    let value = if values.is_empty() {
        None
    } else {
        let value = Finite::new(fold(function, values));
        if value.is_none() {
            gap = gap.or(Some(Gap {
                why: format!("the {function} of all machines is too large a number"),
                alarming: true,
            }));
        }
        value
    };
    Number { value, of, gap }
}

/// The samples of a machine as one number, from the left.
fn reduce(
    samples: &[SampleName],
    reducer: Reducer,
    get: impl Fn(&SampleName) -> Option<f64>,
) -> Result<f64, String> {
    let mut result: Option<f64> = None;
    for name in samples {
        let value = get(name).ok_or_else(|| format!("{name} is missing on"))?;
        result = Some(match (result, reducer) {
            (None, _) => value,
            (Some(left), Reducer::Add) => left + value,
            (Some(left), Reducer::Subtract) => left - value,
            (Some(left), Reducer::Multiply) => left * value,
            (Some(_), Reducer::Divide) if value == 0.0 => {
                return Err(format!("division by {name} = 0 on"));
            }
            (Some(left), Reducer::Divide) => left / value,
        });
    }
    result
        .filter(|value| value.is_finite())
        .ok_or_else(|| "too large a number on".to_owned())
}

/// The first trouble with the machines that have it, and how many have others.
fn told_gap(troubles: &[(String, &str)]) -> Option<Gap> {
    let (first, _) = troubles.first()?;
    let alike: Vec<&str> = troubles
        .iter()
        .filter(|(trouble, _)| trouble == first)
        .map(|(_, name)| *name)
        .collect();
    let named = alike.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let mut why = format!("{first} {named}");
    let rest = troubles.len() - alike.len().min(NAMED);
    if rest > 0 {
        let _ = write!(why, " and trouble with {rest} more");
    }
    Some(Gap { why, alarming: true })
}

/// The numbers of machines as one; `values` is not empty.
fn fold(function: Function, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match function {
        Function::Min => quantile(&values, 0.0),
        Function::Max => quantile(&values, 1.0),
        Function::Median => quantile(&values, 0.5),
        Function::Quantile(share) => quantile(&values, share.get()),
        Function::Mean => {
            let count = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
            values.iter().sum::<f64>() / count
        }
    }
}

/// Linear between neighbours, as PromQL's `quantile`: of n sorted numbers, that at the place `share * (n - 1)`.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = f64::from(u32::try_from(sorted.len()).unwrap_or(u32::MAX)) - 1.0;
    let place = share * last;
    let mut below = 0.0;
    for pair in sorted.windows(2) {
        if place <= below {
            return pair[0];
        }
        if place < below + 1.0 {
            return pair[0] + (pair[1] - pair[0]) * (place - below);
        }
        below += 1.0;
    }
    sorted.last().copied().unwrap_or(f64::NAN)
}

/// A condition as it came out, for a person.
fn reading(condition: &Condition, number: &Number, held: Option<bool>) -> String {
    let subject = if condition.name.is_empty() {
        condition.subject.to_string()
    } else {
        condition.name.clone()
    };
    let operator = condition.operator;
    let Some(value) = number.value else {
        let threshold = short(condition.threshold.get(), DIGITS);
        return format!("{subject} unknown, {operator} {threshold}?");
    };
    let (value, threshold) = apart(value.get(), condition.threshold.get());
    let of = number.of.map(|(read, of)| format!(" ({read} of {of} machines)"));
    let of = of.unwrap_or_default();
    match held {
        Some(true) => format!("{subject} = {value}{of} {operator} {threshold}"),
        Some(false) => format!("{subject} = {value}{of}, not {operator} {threshold}"),
        None => format!("{subject} = {value}{of}, {operator} {threshold}?"),
    }
}

/// How many digits a person reads at a glance.
const DIGITS: usize = 4;

/// Two numbers, short, and with as many digits as tell them apart.
fn apart(one: f64, other: f64) -> (String, String) {
    let written = |digits| (short(one, digits), short(other, digits));
    for digits in [DIGITS, 2 * DIGITS] {
        let (left, right) = written(digits);
        if left != right || one.total_cmp(&other).is_eq() {
            return (left, right);
        }
    }
    // As many digits as tell any two numbers of this kind apart.
    written(17)
}

/// A number in so many digits: `0.25`, `1234`, `2.068e9`.
fn short(number: f64, digits: usize) -> String {
    let text = format!("{number:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -3..=4) => {
            let behind = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent;
            trim(&format!("{number:.*}", usize::try_from(behind).unwrap_or(0)))
        }
        _ => format!("{}e{exponent}", trim(mantissa)),
    }
}

#[cfg(test)]
mod tests;
