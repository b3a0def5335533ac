//! The policy `step` in the stack file: what is read, and every kind of problem with its message.
//!
//! Long because every message stands in it.

use super::*;
use crate::{
    model::metrics::Finite,
    stack::step::{Change, Function, Matching, Operator, Reducer, StepPolicy, Subject},
};

/// A pool with a step in each direction.
const WEB: &str = r#"[stack]
name = "prod"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ci.metrics]
kind = "prometheus"
url = "https://prometheus.example.com"
scrape = { port = 9100 }

[pools.web]
ci = "metrics"
max = 5
policy = "step"
offerings = [{ provider = "hetzner", type = "cx33", image = "debian-12" }]

[[pools.web.steps]]
name = "load"
add = 1
conditions = [{ samples = ["node_load1"], operator = ">=", threshold = 2 }]

[[pools.web.steps]]
name = "calm"
remove = 1
conditions = [{ samples = ["node_load1"], operator = "<=", threshold = 0.5 }]
"#;

const LOAD: &str = r#"{ samples = ["node_load1"], operator = ">=", threshold = 2 }"#;

fn problems(cases: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (old, new) in cases {
        assert!(WEB.contains(old), "{old}");
        let broken = WEB.replacen(old, new, 1);
        let Err(problems) = parse(&broken, "stacks/prod.toml") else {
            panic!("nothing is wrong with {new}");
        };
        let told = if new.is_empty() {
            format!("without {old}")
        } else {
            (*new).to_owned()
        };
        let _ = writeln!(text, "{}\n{}", told.replace('\n', " ⏎ "), brief(&problems));
    }
    text
}

fn read(old: &str, new: &str) -> StepPolicy {
    assert!(WEB.contains(old), "{old}");
    let stack = parse(&WEB.replacen(old, new, 1), "x");
    let stack = stack.unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    match &stack.pools[0].policy {
        Policy::Step(policy) => (**policy).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let policy = read("", "");
    assert_eq!(policy.cooldown, SignedDuration::from_mins(5));
    assert_eq!(policy.hysteresis, SignedDuration::from_mins(10));
    let [load, calm] = &policy.steps[..] else {
        panic!("{policy:?}")
    };
    assert_eq!((load.change, calm.change), (Change::Add(1), Change::Remove(1)));
    assert_eq!((load.matching, load.hold), (Matching::All, SignedDuration::ZERO));
    let condition = &load.conditions[0];
    assert_eq!(condition.operator, Operator::AtLeast);
    assert_eq!(condition.threshold, Finite::new(2.0).unwrap());
    let Subject::Machines {
        reducer, function, ..
    } = &condition.subject
    else {
        panic!("{condition:?}")
    };
    assert_eq!((*reducer, *function), (Reducer::Add, Function::Mean));
    let longer = read(
        "policy = \"step\"",
        "policy = { kind = \"step\", cooldown = \"3m\" }",
    );
    assert_eq!(longer.hysteresis, SignedDuration::from_mins(6));
}

#[test]
fn everything_that_a_step_can_say_is_read() {
    let policy = read(
        LOAD,
        r#"{ name = "disk", samples = [{ name = "free", labels = { mount = "/" } }, "size"], reducer = "/", function = { quantile = 0.1 }, operator = "<", threshold = 0.1 },
           { query = " avg(up) ", operator = "!=", threshold = -1.5e3 }"#,
    );
    let conditions = &policy.steps[0].conditions;
    assert_eq!(
        conditions[0].subject.to_string(),
        "quantile 0.1(free{mount=\"/\"} / size)"
    );
    assert_eq!(conditions[1].subject, Subject::Query("avg(up)".to_owned()));
    assert_eq!(conditions[1].threshold, Finite::new(-1500.0).unwrap());
    let step = &read(
        "name = \"load\"",
        "name = \"load\"\nmatch = \"any\"\nfor = \"2m\"",
    )
    .steps[0];
    assert_eq!(
        (step.matching, step.hold),
        (Matching::Any, SignedDuration::from_mins(2))
    );
}

#[test]
fn a_step_says_what_it_goes_by_and_what_it_does() {
    insta::assert_snapshot!(problems(&[
        ("add = 1\n", ""),
        ("add = 1", "add = 1\nremove = 1"),
        ("add = 1", "add = 0"),
        ("add = 1", "add = 6"),
        ("remove = 1", "remove = 9"),
        ("name = \"load\"\n", ""),
        ("name = \"load\"", "name = \"\""),
        ("name = \"load\"", "name = \"load avg\""),
        ("name = \"calm\"", "name = \"load\""),
        ("name = \"load\"", "name = \"load\"\nfor = \"5\""),
        ("name = \"load\"", "name = \"load\"\nuntil = \"5m\""),
        ("name = \"load\"", "name = \"load\"\nmatch = \"some\""),
        (LOAD, ""),
    ]), @r#"
    without add = 1 ⏎ 
    18:1 stack::bad_value a step adds or removes: one of `add` and `remove`
      = add `add = 1` or `remove = 1`

    add = 1 ⏎ remove = 1
    18:1 stack::bad_value a step adds or removes: one of `add` and `remove`
      = add `add = 1` or `remove = 1`

    add = 0
    20:7 stack::bad_value `pools.web.steps.add` cannot be 0
      = the least is 1

    add = 6
    20:7 stack::bad_value a step cannot add 6 machines: the pool has at most max = 5
      = write add = 5 or fewer, or raise `max`

    remove = 9
    25:10 stack::bad_value a step cannot remove 9 machines: the pool has at most max = 5
      = write remove = 5 or fewer, or raise `max`

    without name = "load" ⏎ 
    18:1 stack::missing_key missing key `name` in `pools.web.steps`
      = add `name`, as in `name = "mem_avail"`: Its name, for a person

    name = ""
    19:8 stack::bad_name "" is no name for a step
      = letters, digits, `_`, `-` and `.`: "mem_avail"

    name = "load avg"
    19:8 stack::bad_name "load avg" is no name for a step
      = letters, digits, `_`, `-` and `.`: "mem_avail"

    name = "load"
    24:8 stack::duplicate the pool `web` has two steps "load"
      = give each step a name of its own: reports go by it, and the memory of `for`

    name = "load" ⏎ for = "5"
    20:7 stack::bad_value `pools.web.steps.for` cannot be "5": not a length of time
      = say of what: "5s" or "5m"

    name = "load" ⏎ until = "5m"
    20:1 stack::unknown_key unknown key `until`
      = known in `pools.web.steps`: `name`, `match`, `add`, `remove`, `for`, `conditions`

    name = "load" ⏎ match = "some"
    20:9 stack::bad_value `pools.web.steps.match` cannot be "some"
      = `pools.web.steps.match` is "all" or "any"

    without { samples = ["node_load1"], operator = ">=", threshold = 2 }
    21:14 stack::bad_value `pools.web.steps.conditions` must not be empty
      = name at least 1
    "#);
}

#[test]
fn a_condition_is_a_number_and_a_threshold() {
    insta::assert_snapshot!(problems(&[
        ("samples = [\"node_load1\"], operator = \">=\"", "operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [], operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "query = \" \", operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"x\"], query = \"up\", operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "query = \"up\", function = \"max\", reducer = \"+\", operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"x\"], reducer = \"+\", operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"x\", \"y\"], reducer = \"%\", operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"x\"], function = \"avg\", operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"x\"], function = { quantile = 1.5 }, operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"x\"], function = { quantile = 90 }, operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"node load1\"], operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [\"free{mount='/'}\"], operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [{ name = \"free\", labels = { \"a:b\" = \"/\" } }], operator = \">=\""),
        ("samples = [\"node_load1\"], operator = \">=\"", "samples = [{ labels = { a = \"/\" } }], operator = \">=\""),
        ("operator = \">=\"", "operator = \"=>\""),
        ("operator = \">=\", ", ""),
        ("threshold = 2", "threshold = inf"),
        ("threshold = 2", "threshold = \"2\""),
        (", threshold = 2", ""),
    ]), @r#"
    operator = ">="
    21:15 stack::missing_key a condition goes by `samples` of each machine, or by a `query`
      = add samples = ["node_load1"], or query = "avg(node_load1)"

    samples = [], operator = ">="
    21:15 stack::missing_key a condition goes by `samples` of each machine, or by a `query`
      = add samples = ["node_load1"], or query = "avg(node_load1)"

    query = " ", operator = ">="
    21:25 stack::bad_value an empty question has no answer
      = write query = "avg(node_load1)", or name `samples`

    samples = ["x"], query = "up", operator = ">="
    21:17 stack::contradiction `samples` says nothing here: a question in PromQL comes to one number by itself
      = take `samples` out

    query = "up", function = "max", reducer = "+", operator = ">="
    21:31 stack::contradiction `function` says nothing here: a question in PromQL comes to one number by itself
      = take `function` out
    21:49 stack::contradiction `reducer` says nothing here: a question in PromQL comes to one number by itself
      = take `reducer` out

    samples = ["x"], reducer = "+", operator = ">="
    21:34 stack::contradiction `reducer` says nothing here: one sample is one number by itself
      = take `reducer` out

    samples = ["x", "y"], reducer = "%", operator = ">="
    21:49 stack::bad_value `pools.web.steps.conditions.reducer` cannot be "%"
      = `pools.web.steps.conditions.reducer` is "+", "-", "*" or "/"

    samples = ["x"], function = "avg", operator = ">="
    21:45 stack::bad_value `pools.web.steps.conditions.function` cannot be "avg"
      = `pools.web.steps.conditions.function` is "min", "max", "median" or "mean"

    samples = ["x"], function = { quantile = 1.5 }, operator = ">="
    21:58 stack::bad_value there is no quantile 1.5
      = from 0 to 1: { quantile = 0.9 }

    samples = ["x"], function = { quantile = 90 }, operator = ">="
    21:58 stack::bad_value there is no quantile 90
      = from 0 to 1: { quantile = 0.9 }

    samples = ["node load1"], operator = ">="
    21:28 stack::bad_value "node load1" is no name of a sample
      = letters, digits, `_` and `:`, not beginning with a digit: "node_load1"

    samples = ["free{mount='/'}"], operator = ">="
    21:28 stack::bad_value "free{mount='/'}" is no name of a sample
      = labels stand apart: { name = "free", labels = { mountpoint = "/" } }

    samples = [{ name = "free", labels = { "a:b" = "/" } }], operator = ">="
    21:64 stack::bad_value "a:b" is no name of a label
      = letters, digits and `_`, not beginning with a digit: "mountpoint"

    samples = [{ labels = { a = "/" } }], operator = ">="
    21:28 stack::missing_key missing key `name` in `pools.web.steps.conditions.samples`
      = add `name`: Its name

    operator = "=>"
    21:54 stack::bad_value `pools.web.steps.conditions.operator` cannot be "=>"
      = `pools.web.steps.conditions.operator` is "<", "<=", ">", ">=", "==" or "!="

    without operator = ">=", 
    21:15 stack::missing_key missing key `operator` in `pools.web.steps.conditions`
      = add `operator`: The comparison

    threshold = inf
    21:72 stack::bad_value `inf` and `nan` cannot be passed on
      = write a number, or the word in quotes

    threshold = "2"
    21:72 stack::wrong_type `pools.web.steps.conditions.threshold` must be a number, not a string
      = for example: 2.0

    without , threshold = 2
    21:15 stack::missing_key missing key `threshold` in `pools.web.steps.conditions`
      = add `threshold`, as in `threshold = 2.0`: With what
    "#);
}

#[test]
fn steps_and_their_policy_belong_together() {
    insta::assert_snapshot!(problems(&[
        ("policy = \"step\"", "policy = { kind = \"step\", cooldown = \"5m\", hysteresis = \"4m\" }"),
        ("policy = \"step\"", "policy = { kind = \"step\", cooldown = \"20m\", hysteresis = \"10m\" }"),
        ("policy = \"step\"", "policy = { kind = \"step\", idle = 1 }"),
        ("policy = \"step\"", "policy = { kind = \"step\", cooldown = \"-1m\" }"),
    ]), @r#"
    policy = { kind = "step", cooldown = "5m", hysteresis = "4m" }
    15:57 stack::contradiction `pools.web.policy.hysteresis` is shorter than `cooldown`
      = the other direction waits at least as long as the same one, or the two fight: twice `cooldown` is what it is without the key

    policy = { kind = "step", cooldown = "20m", hysteresis = "10m" }
    15:58 stack::contradiction `pools.web.policy.hysteresis` is shorter than `cooldown`
      = the other direction waits at least as long as the same one, or the two fight: twice `cooldown` is what it is without the key

    policy = { kind = "step", idle = 1 }
    15:27 stack::contradiction `pools.web.policy.idle` says nothing to this policy
      = take `idle` out

    policy = { kind = "step", cooldown = "-1m" }
    15:38 stack::bad_value `pools.web.policy.cooldown` cannot be negative
      = write "90s", "3m" or "1h 30m"
    "#);
    let without = WEB.split("\n[[pools.web.steps]]").next().unwrap();
    let problems = parse(without, "stacks/prod.toml").expect_err("no steps");
    insta::assert_snapshot!(brief(&problems), @r#"
    15:10 stack::missing_key the policy "step" of the pool `web` has no steps
      = add [[pools.web.steps]] with name, add or remove, and conditions = [{ samples = ["node_load1"], operator = ">=", threshold = 2 }]
    "#);
    let other =
        SMALL.to_owned() + "\n[[pools.linux.steps]]\nname = \"load\"\nadd = 1\nconditions = [" + LOAD + "]\n";
    let problems = parse(&other, "stacks/prod.toml").expect_err("no such policy");
    insta::assert_snapshot!(brief(&problems), @r#"
    33:15 stack::contradiction `pools.linux.steps` says nothing to this pool's policy
      = write policy = "step", or take the steps out
    "#);
}

#[test]
fn steps_that_would_fight_are_refused() {
    insta::assert_snapshot!(problems(&[
        ("threshold = 0.5", "threshold = 2"),
        ("threshold = 0.5", "threshold = 2.5"),
        ("operator = \"<=\", threshold = 0.5", "operator = \"!=\", threshold = 2"),
        ("samples = [\"node_load1\"], operator = \"<=\", threshold = 0.5", "samples = [\"node_load1\"], operator = \">\", threshold = 5"),
        ("conditions = [{ samples = [\"node_load1\"], operator = \"<=\", threshold = 0.5 }]",
         "match = \"any\"\nconditions = [{ query = \"up\", operator = \"<\", threshold = 1 }, { samples = [\"node_load1\"], operator = \"<\", threshold = 3 }]"),
        (LOAD, "{ samples = [\"a\"], operator = \">\", threshold = 3 }, { samples = [\"a\"], operator = \"<\", threshold = 3 }"),
    ]), @r#"
    threshold = 2
    23:1 stack::contradiction the step "calm" removes what the step "load" adds: both hold with mean(node_load1) = 2
      = leave room between their thresholds, so that the pool does not grow and shrink in turns

    threshold = 2.5
    23:1 stack::contradiction the step "calm" removes what the step "load" adds: both hold with mean(node_load1) = 2
      = leave room between their thresholds, so that the pool does not grow and shrink in turns

    operator = "!=", threshold = 2
    23:1 stack::contradiction the step "calm" removes what the step "load" adds: both hold with mean(node_load1) = 4
      = leave room between their thresholds, so that the pool does not grow and shrink in turns

    samples = ["node_load1"], operator = ">", threshold = 5
    23:1 stack::contradiction the step "calm" removes what the step "load" adds: both hold with mean(node_load1) = 10
      = leave room between their thresholds, so that the pool does not grow and shrink in turns

    match = "any" ⏎ conditions = [{ query = "up", operator = "<", threshold = 1 }, { samples = ["node_load1"], operator = "<", threshold = 3 }]
    23:1 stack::contradiction the step "calm" removes what the step "load" adds: both hold with mean(node_load1) = 2
      = leave room between their thresholds, so that the pool does not grow and shrink in turns

    { samples = ["a"], operator = ">", threshold = 3 }, { samples = ["a"], operator = "<", threshold = 3 }
    18:1 stack::contradiction the step "load" never holds: no mean(a) fits all its conditions
      = write match = "any", or mend a threshold
    "#);
    for (old, new) in [
        // Between the two lies nothing, and nothing of both.
        (
            "operator = \"<=\", threshold = 0.5",
            "operator = \"<\", threshold = 2",
        ),
        // Another number may tell them apart.
        (
            "operator = \"<=\", threshold = 0.5",
            "function = \"max\", operator = \"<=\", threshold = 3",
        ),
        (
            "[{ samples = [\"node_load1\"], operator = \"<=\", threshold = 0.5 }]",
            "[{ samples = [\"node_load1\"], operator = \"<=\", threshold = 3 }, { samples = [\"free\"], operator = \">\", threshold = 1 }]",
        ),
        // Both add.
        ("remove = 1", "add = 1"),
    ] {
        read(old, new);
    }
}

#[test]
fn a_problem_of_a_step_is_shown_at_its_place() {
    let broken = WEB.replacen("threshold = 0.5", "threshold = 3", 1);
    let problems = parse(&broken, "stacks/prod.toml").expect_err("they fight");
    insta::assert_snapshot!(rendered(&problems), @r#"
      × stacks/prod.toml has a problem

    Error: stack::contradiction

      × the step "calm" removes what the step "load" adds: both hold with mean(node_load1) = 2
        ╭─[stacks/prod.toml:23:1]
     17 │ 
     18 │ [[pools.web.steps]]
        · ─────────┬─────────
        ·          ╰── adds
     19 │ name = "load"
     20 │ add = 1
     21 │ conditions = [{ samples = ["node_load1"], operator = ">=", threshold = 2 }]
     22 │ 
     23 │ [[pools.web.steps]]
        · ─────────┬─────────
        ·          ╰── removes
     24 │ name = "calm"
        ╰────
      help: leave room between their thresholds, so that the pool does not grow and shrink in turns
    "#);
}
