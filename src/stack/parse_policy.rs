//! Checks of policies.

use jiff::SignedDuration;

use super::{
    Policy, StackProblem,
    parse::{Check, dotted},
    raw::{PolicyName, PolicyTable, RawPolicy, step::RawStep},
    step::StepPolicy,
};

/// As drone-autoscaler has it (`DRONE_AGENT_MIN_RETIREMENT_AGE`).
const MIN_AGE: SignedDuration = SignedDuration::from_mins(10);

/// Longer than a machine takes to boot and to tell what it bears.
const COOLDOWN: SignedDuration = SignedDuration::from_mins(5);

impl Check<'_> {
    /// A policy and its settings; each policy takes its own.
    pub(super) fn policy(
        &mut self,
        pool: &str,
        raw: RawPolicy,
        steps: Vec<RawStep>,
        max: Option<u32>,
    ) -> Option<Policy> {
        let path = ["pools", pool, "policy"];
        let table = match raw {
            RawPolicy::Name(kind) => PolicyTable {
                kind: Some(kind),
                idle: 0,
                min_age: None,
                cooldown: None,
                hysteresis: None,
            },
            RawPolicy::Table(table) => table,
        };
        let kind = table.kind?;
        for (key, own) in [
            ("idle", PolicyName::Queue),
            ("min_age", PolicyName::DroneAutoscaler),
            ("cooldown", PolicyName::Step),
            ("hysteresis", PolicyName::Step),
        ] {
            let path = [&path[..], &[key]].concat();
            if kind != own && self.written(&path) {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.key_span(&path),
                    format!("`{}` says nothing to this policy", dotted(&path)),
                    format!("only for \"{}\"", own.as_str()),
                )
                .help(format!("take `{key}` out"));
                self.report(problem);
            }
        }
        if kind != PolicyName::Step {
            self.no_steps(pool);
        }
        Some(match kind {
            PolicyName::Queue => Policy::Queue { idle: table.idle },
            PolicyName::DroneAutoscaler => Policy::DroneAutoscaler {
                min_age: match &table.min_age {
                    Some(age) => self.duration(&[&path[..], &["min_age"]].concat(), age)?,
                    None => MIN_AGE,
                },
            },
            PolicyName::AsgIncrement => Policy::AsgIncrement,
            PolicyName::AdoDelta => Policy::AdoDelta,
            PolicyName::Step => {
                let steps = self.steps(pool, steps, max);
                let cooldown = match &table.cooldown {
                    Some(text) => self.duration(&[&path[..], &["cooldown"]].concat(), text)?,
                    None => COOLDOWN,
                };
                let hysteresis = match &table.hysteresis {
                    Some(text) => self.duration(&[&path[..], &["hysteresis"]].concat(), text)?,
                    None => cooldown * 2,
                };
                let policy = StepPolicy {
                    steps,
                    cooldown,
                    hysteresis,
                };
                self.pauses(pool, &policy);
                Policy::Step(Box::new(policy))
            }
        })
    }
}
