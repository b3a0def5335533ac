//! One condition, one step: numbers, three values, words.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::stack::step::Operator;

fn finite(number: f64) -> Finite {
    Finite::new(number).unwrap()
}

fn sample(name: &str) -> SampleName {
    SampleName {
        name: name.to_owned(),
        labels: BTreeMap::new(),
    }
}

fn condition(samples: &[&str], reducer: Reducer, function: Function, threshold: f64) -> Condition {
    Condition {
        name: String::new(),
        subject: Subject::Machines {
            samples: samples.iter().map(|name| sample(name)).collect(),
            reducer,
            function,
        },
        operator: Operator::AtLeast,
        threshold: finite(threshold),
    }
}

fn step(change: Change, matching: Matching, conditions: Vec<Condition>) -> Step {
    Step {
        name: "s".to_owned(),
        matching,
        conditions,
        change,
        hold: SignedDuration::ZERO,
    }
}

/// Machines `a`, `b`, … that tell these numbers of `x` and 2 of `y`; one without a number does not answer.
fn told(numbers: &[Option<f64>]) -> (Vec<(String, RegistrationId)>, PoolMetrics) {
    let mut metrics = PoolMetrics::default();
    let mut machines = Vec::new();
    for (name, number) in ('a'..='z').zip(numbers) {
        let told = match number {
            Some(number) => {
                let told = [("x", *number), ("y", 2.0)];
                let told = told.map(|(name, number)| (name.to_owned(), finite(number)));
                MachineMetrics::Read(BTreeMap::from(told))
            }
            None => MachineMetrics::Unreachable {
                why: "refused".to_owned(),
            },
        };
        let registration = RegistrationId::from(name.to_string().as_str());
        metrics.machines.insert(registration.clone(), told);
        machines.push((name.to_string(), registration));
    }
    (machines, metrics)
}

fn judged(step: &Step, numbers: &[Option<f64>]) -> Verdict {
    let (machines, metrics) = told(numbers);
    let ready = machines.iter().map(|(name, registration)| Ready {
        name,
        registration: Some(registration),
    });
    judge(step, &ready.collect::<Vec<_>>(), Some(&metrics))
}

fn one(change: Change, condition: Condition, numbers: &[Option<f64>]) -> Verdict {
    judged(&step(change, Matching::All, vec![condition]), numbers)
}

#[test]
fn functions_are_those_of_promql() {
    let numbers = [4.0, 1.0, 3.0, 2.0].map(Some);
    let table = [
        (Function::Min, "1"),
        (Function::Max, "4"),
        (Function::Median, "2.5"),
        (Function::Mean, "2.5"),
        (Function::Quantile(finite(0.9)), "3.7"),
        (Function::Quantile(finite(0.0)), "1"),
        (Function::Quantile(finite(1.0)), "4"),
        (Function::Quantile(finite(0.25)), "1.75"),
    ];
    for (function, value) in table {
        let verdict = one(
            Change::Add(1),
            condition(&["x"], Reducer::Add, function, 9.0),
            &numbers,
        );
        assert_eq!(verdict.reading, format!("{function}(x) = {value}, not >= 9"));
        let alone = condition(&["x"], Reducer::Add, function, 7.0);
        assert_eq!(one(Change::Add(1), alone, &[Some(7.0)]).holds, Some(true));
    }
}

#[test]
fn samples_are_reduced_from_the_left() {
    for (reducer, value) in [
        (Reducer::Add, "16"),
        (Reducer::Subtract, "8"),
        (Reducer::Multiply, "48"),
        (Reducer::Divide, "3"),
    ] {
        let condition = condition(&["x", "y", "y"], reducer, Function::Max, 99.0);
        let verdict = one(Change::Add(1), condition, &[Some(12.0)]);
        let expected = format!("max(x {reducer} y {reducer} y) = {value}, not >= 99");
        assert_eq!(verdict.reading, expected);
    }
}

#[test]
fn what_cannot_be_computed_is_unknown_and_named() {
    let gap = |condition, numbers: &[Option<f64>]| one(Change::Add(1), condition, numbers).gap.unwrap().why;
    let by = |samples: &[&str], reducer| condition(samples, reducer, Function::Mean, 1.0);
    assert_eq!(
        gap(by(&["y", "x"], Reducer::Divide), &[Some(0.0), Some(0.0)]),
        "division by x = 0 on a, b"
    );
    assert_eq!(gap(by(&["z"], Reducer::Add), &[Some(0.0)]), "z is missing on a");
    assert_eq!(
        gap(by(&["x"], Reducer::Add), &[None]),
        "no answer (refused) from a"
    );
    assert_eq!(gap(by(&["x"], Reducer::Add), &[]), "no machine is ready");
    assert_eq!(
        gap(by(&["x", "x"], Reducer::Multiply), &[Some(f64::MAX)]),
        "too large a number on a"
    );
    assert_eq!(
        gap(by(&["x"], Reducer::Add), &[Some(f64::MAX), Some(f64::MAX)]),
        "the mean of all machines is too large a number"
    );
    assert_eq!(
        gap(by(&["x"], Reducer::Add), &[None; 5]),
        "no answer (refused) from a, b, c and trouble with 2 more"
    );
    let mixed = by(&["y", "x"], Reducer::Divide);
    let verdict = one(Change::Remove(1), mixed, &[Some(4.0), Some(0.0), None]);
    assert_eq!(verdict.holds, None);
    assert_eq!(verdict.reading, "mean(y / x) = 0.5 (1 of 3 machines), >= 1?");
    assert_eq!(
        verdict.gap.unwrap().why,
        "division by x = 0 on b and trouble with 1 more"
    );
}

#[test]
fn a_number_over_some_machines_may_add_and_not_remove() {
    let high = || condition(&["x"], Reducer::Add, Function::Mean, 1.0);
    let numbers = [Some(5.0), None];
    assert_eq!(one(Change::Add(1), high(), &numbers).holds, Some(true));
    assert_eq!(one(Change::Remove(1), high(), &numbers).holds, None);
}

#[test]
fn what_is_unknown_stays_so_unless_the_others_decide() {
    let (yes, no, unknown) = (Some(true), Some(false), None);
    let table = [
        ([yes, yes], yes, yes),
        ([yes, no], no, yes),
        ([no, no], no, no),
        ([yes, unknown], unknown, yes),
        ([unknown, no], no, unknown),
        ([unknown, unknown], unknown, unknown),
    ];
    for (holds, all, any) in table {
        assert_eq!(join(Matching::All, &holds), all, "{holds:?}");
        assert_eq!(join(Matching::Any, &holds), any, "{holds:?}");
    }
    let known = |threshold| condition(&["x"], Reducer::Add, Function::Max, threshold);
    let missing = condition(&["z"], Reducer::Add, Function::Max, 1.0);
    let decided = step(Change::Add(1), Matching::All, vec![missing.clone(), known(9.0)]);
    let verdict = judged(&decided, &[Some(5.0)]);
    assert_eq!((verdict.holds, verdict.gap), (Some(false), None));
    assert_eq!(verdict.reading, "max(z) unknown, >= 1? and max(x) = 5, not >= 9");
    let open = step(Change::Add(1), Matching::All, vec![known(5.0), missing]);
    assert!(judged(&open, &[Some(5.0)]).gap.unwrap().alarming);
}

#[test]
fn numbers_are_short_and_still_tell_what_is_compared_apart() {
    for (number, text) in [
        (0.0, "0"),
        (2.0, "2"),
        (0.25, "0.25"),
        (-1.5, "-1.5"),
        (1234.56, "1235"),
        (99_999.0, "1e5"),
        (12_345.0, "12345"),
        (123_456.0, "1.235e5"),
        (2_068_099_072.0, "2.068e9"),
        (0.000_012_3, "1.23e-5"),
        (0.001, "0.001"),
    ] {
        assert_eq!(short(number, DIGITS), text);
    }
    let near = apart(2_068_099_071.0, 2_068_099_072.0);
    assert_eq!(near, ("2.068099071e9".to_owned(), "2.068099072e9".to_owned()));
    assert_eq!(apart(2.0, 2.0), ("2".to_owned(), "2".to_owned()));
    assert_eq!(apart(1.9e9, 2_068_099_072.0).0, "1.9e9");
}

proptest! {
    #[test]
    fn no_measurement_is_a_crash(
        numbers in prop::collection::vec(prop::option::of(prop::num::f64::NORMAL | prop::num::f64::ZERO), 0..6),
        divide: bool,
        share in 0.0..=1.0,
    ) {
        let reducer = if divide { Reducer::Divide } else { Reducer::Multiply };
        let subject = condition(&["x", "x", "y"], reducer, Function::Quantile(finite(share)), 1.0);
        let verdict = one(Change::Remove(1), subject, &numbers);
        prop_assert_eq!(verdict.holds.is_none(), verdict.gap.is_some());
    }

    #[test]
    fn two_numbers_are_written_alike_only_if_they_are(one in prop::num::f64::NORMAL, steps in 0..4_u32) {
        let other = (0..steps).fold(one, |number, _| number.next_up());
        let (left, right) = apart(one, other);
        prop_assert_eq!(left == right, one.total_cmp(&other).is_eq(), "{} {}", left, right);
    }
}
