//! Checks of the policy `step`, and of what must answer before a machine counts.

use jiff::SignedDuration;

use super::{
    parse::Check,
    raw::step::{FunctionName, RawCondition, RawFunction, RawHealth, RawSample, RawStep},
    step::{Change, Condition, Function, Step, Subject},
};
use crate::model::metrics::{Finite, HealthCheck, HttpCheck, SampleName};

impl Check<'_> {
    /// The steps of a pool, in their order.
    pub(super) fn steps(&mut self, pool: &str, raw: Vec<RawStep>) -> Vec<Step> {
        let each = raw.into_iter().enumerate();
        each.filter_map(|(index, raw)| self.step(&["pools", pool, "steps", &index.to_string()], raw))
            .collect()
    }

    fn step(&mut self, path: &[&str; 4], raw: RawStep) -> Option<Step> {
        let hold = match &raw.hold {
            Some(text) => self.duration(&[&path[..], &["for"]].concat(), text)?,
            None => SignedDuration::ZERO,
        };
        let change = match (raw.add, raw.remove) {
            (Some(add), None) => Change::Add(add),
            (None, Some(remove)) => Change::Remove(remove),
            _ => {
                let what = "a step adds or removes: one of `add` and `remove`".to_owned();
                self.bad(
                    path,
                    what,
                    "needs one of the two",
                    "add `add = 1` or `remove = 1`",
                );
                return None;
            }
        };
        Some(Step {
            name: raw.name?,
            matching: raw.matching,
            conditions: raw.conditions?.into_iter().filter_map(condition).collect(),
            change,
            hold,
        })
    }

    /// What must answer on a machine of a pool.
    pub(super) fn health(&mut self, pool: &str, raw: RawHealth) -> Option<HealthCheck> {
        self.health_words(pool, &raw);
        Some(HealthCheck {
            timeout: self.positive(&["pools", pool, "health", "timeout"], &raw.timeout)?,
            tcp: raw.tcp,
            http: raw.http.map(|http| HttpCheck {
                port: http.port,
                path: http.path,
                status: http.status,
            }),
        })
    }
}

fn condition(raw: RawCondition) -> Option<Condition> {
    let subject = match raw.query {
        Some(query) => Subject::Query(query),
        None => Subject::Machines {
            samples: raw.samples.into_iter().filter_map(sample).collect(),
            reducer: raw.reducer.unwrap_or_default(),
            function: function(raw.function)?,
        },
    };
    Some(Condition {
        name: raw.name,
        subject,
        operator: raw.operator?,
        threshold: Finite::new(raw.threshold?)?,
    })
}

fn sample(raw: RawSample) -> Option<SampleName> {
    match raw {
        RawSample::Name(name) => Some(SampleName {
            name,
            labels: std::collections::BTreeMap::new(),
        }),
        RawSample::Labelled(raw) => Some(SampleName {
            name: raw.name?,
            labels: raw.labels,
        }),
    }
}

fn function(raw: Option<RawFunction>) -> Option<Function> {
    Some(match raw {
        None | Some(RawFunction::Name(FunctionName::Mean)) => Function::Mean,
        Some(RawFunction::Name(FunctionName::Min)) => Function::Min,
        Some(RawFunction::Name(FunctionName::Max)) => Function::Max,
        Some(RawFunction::Name(FunctionName::Median)) => Function::Median,
        Some(RawFunction::Quantile(raw)) => Function::Quantile(Finite::new(raw.quantile?)?),
    })
}
