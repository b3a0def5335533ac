//! Whether conditions can hold at once, by their thresholds alone.

use super::{Condition, Function, Matching, Reducer, Step, Subject};
use crate::model::metrics::Finite;

/// Numbers for which two steps hold at once.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stack) struct Both(Vec<(Subject, Finite)>);

impl std::fmt::Display for Both {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each = self
            .0
            .iter()
            .map(|(subject, number)| format!("{subject} = {number}"));
        f.pad(&each.collect::<Vec<_>>().join(" and "))
    }
}

/// Numbers for which two steps hold at once, where both go by the same numbers; none where they cannot, and where one goes
/// by a number that the other does not: that may tell them apart.
pub(in crate::stack) fn both_hold(one: &Step, other: &Step) -> Option<Both> {
    let ways = alternatives(one).into_iter().flat_map(|left| {
        alternatives(other)
            .into_iter()
            .map(move |right| (left.clone(), right))
    });
    ways.into_iter().find_map(|(left, right)| {
        let same = |one: &[&Condition], other: &[&Condition]| {
            let known = |subject| other.iter().any(|condition| is_same(&condition.subject, subject));
            one.iter().all(|condition| known(&condition.subject))
        };
        if !same(&left, &right) || !same(&right, &left) {
            return None;
        }
        together(&[left, right].concat()).map(Both)
    })
}

/// The number for which the conditions of a step contradict each other.
pub(in crate::stack) fn never_holds(step: &Step) -> Option<&Subject> {
    if step.matching == Matching::Any {
        return None;
    }
    let conditions: Vec<&Condition> = step.conditions.iter().collect();
    let mut subjects = conditions.iter().map(|condition| &condition.subject);
    subjects.find(|subject| witness(&conditions, subject).is_none())
}

/// The sets of conditions of which one must hold as a whole.
fn alternatives(step: &Step) -> Vec<Vec<&Condition>> {
    match step.matching {
        Matching::All => vec![step.conditions.iter().collect()],
        Matching::Any => step.conditions.iter().map(|condition| vec![condition]).collect(),
    }
}

/// A number for each subject, for which all conditions hold.
fn together(conditions: &[&Condition]) -> Option<Vec<(Subject, Finite)>> {
    let mut numbers: Vec<(Subject, Finite)> = Vec::new();
    for condition in conditions {
        let subject = &condition.subject;
        if !numbers.iter().any(|(known, _)| is_same(known, subject)) {
            numbers.push((subject.clone(), witness(conditions, subject)?));
        }
    }
    Some(numbers)
}

/// A number for which all conditions on a subject hold. Between two thresholds that follow each other nothing changes, so
/// that one number of each stretch is enough.
fn witness(conditions: &[&Condition], subject: &Subject) -> Option<Finite> {
    let own = conditions.iter().filter(|own| is_same(&own.subject, subject));
    let own: Vec<&&Condition> = own.collect();
    let mut marks: Vec<f64> = own.iter().map(|condition| condition.threshold.get()).collect();
    marks.sort_by(f64::total_cmp);
    let between = marks.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
    let below = marks.first().map(|first| first - first.abs().max(1.0));
    let above = marks.last().map(|last| last + last.abs().max(1.0));
    let all = marks.iter().copied().chain(between).chain(below).chain(above);
    let holds = |number: &Finite| {
        own.iter()
            .all(|condition| condition.operator.holds(*number, condition.threshold))
    };
    all.filter_map(Finite::new).find(holds)
}

/// Whether two subjects are one number, however they are written.
fn is_same(one: &Subject, other: &Subject) -> bool {
    match (one, other) {
        (Subject::Query(one), Subject::Query(other)) => one.trim() == other.trim(),
        (
            Subject::Machines {
                samples: left,
                reducer,
                function,
            },
            Subject::Machines {
                samples: right,
                reducer: other_reducer,
                function: other_function,
            },
        ) => {
            let (mut left, mut right) = (left.clone(), right.clone());
            if matches!(reducer, Reducer::Add | Reducer::Multiply) {
                left.sort();
                right.sort();
            }
            left == right
                && (reducer == other_reducer || left.len() == 1)
                && plain(*function) == plain(*other_function)
        }
        _ => false,
    }
}

/// Quantiles that have names of their own by these.
fn plain(function: Function) -> Function {
    match function {
        Function::Quantile(share) => [
            (0.0, Function::Min),
            (0.5, Function::Median),
            (1.0, Function::Max),
        ]
        .into_iter()
        .find(|(known, _)| Finite::new(*known) == Some(share))
        .map_or(function, |(_, named)| named),
        named => named,
    }
}
