//! Checks of the policy `step`, and of what must answer before a machine counts.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{
    StackProblem,
    parse::{Check, dotted},
    raw::step::{FunctionName, RawCondition, RawFunction, RawHealth, RawSample, RawStep},
    step::{Change, Condition, Function, Reducer, Step, StepPolicy, Subject, both_hold, never_holds},
};
use crate::model::metrics::{Finite, HealthCheck, HttpCheck, SampleName};

impl Check<'_> {
    /// The steps of a pool, in their order; `max` is the pool's.
    pub(super) fn steps(&mut self, pool: &str, raw: Vec<RawStep>, max: Option<u32>) -> Vec<Step> {
        let path = ["pools", pool, "steps"];
        if raw.is_empty() && !self.written(&path) {
            let problem = StackProblem::new(
                "stack::missing_key",
                self.span(&["pools", pool, "policy"]),
                format!("the policy \"step\" of the pool `{pool}` has no steps"),
                "needs `steps`",
            )
            .help(format!(
                "add [[pools.{pool}.steps]] with name, add or remove, and conditions = [{{ samples = [\"node_load1\"], \
                 operator = \">=\", threshold = 2 }}]"
            ));
            self.report(problem);
        }
        let mut steps: Vec<(String, Step)> = Vec::new();
        for (index, raw) in raw.into_iter().enumerate() {
            let index = index.to_string();
            let path = [path[0], path[1], path[2], index.as_str()];
            if let Some(name) = &raw.name {
                self.step_name(&path, name);
                if let Some((first, _)) = steps.iter().find(|(_, step)| step.name == *name) {
                    let problem = StackProblem::new(
                        "stack::duplicate",
                        self.span(&[&path[..], &["name"]].concat()),
                        format!("the pool `{pool}` has two steps \"{name}\""),
                        "again",
                    )
                    .also(self.span(&[&path[..3], &[first, "name"]].concat()), "first here")
                    .help("give each step a name of its own: reports go by it, and the memory of `for`");
                    self.report(problem);
                }
            }
            if let Some(step) = self.step(&path, raw, max) {
                steps.push((index, step));
            }
        }
        self.steps_apart(pool, &steps);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    /// Steps without the policy that goes by them.
    pub(super) fn no_steps(&mut self, pool: &str) {
        let path = ["pools", pool, "steps"];
        if self.written(&path) {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&path),
                format!("`{}` says nothing to this pool's policy", dotted(&path)),
                "only for \"step\"",
            )
            .help("write policy = \"step\", or take the steps out");
            self.report(problem);
        }
    }

    /// The pauses after an act: what is measured after the other direction's must have settled for as long at least.
    pub(super) fn pauses(&mut self, pool: &str, policy: &StepPolicy) {
        let path = ["pools", pool, "policy", "hysteresis"];
        if policy.hysteresis < policy.cooldown && self.written(&path) {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.span(&path),
                format!("`{}` is shorter than `cooldown`", dotted(&path)),
                "shorter than `cooldown`",
            )
            .help(
                "the other direction waits at least as long as the same one, or the two fight: twice `cooldown` is what it is \
                 without the key",
            );
            self.report(problem);
        }
    }

    fn step_name(&mut self, path: &[&str], name: &str) {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(good) {
            let problem = StackProblem::new(
                "stack::bad_name",
                self.span(&[path, &["name"]].concat()),
                format!("\"{name}\" is no name for a step"),
                "not a name",
            )
            .help("letters, digits, `_`, `-` and `.`: \"mem_avail\"");
            self.report(problem);
        }
    }

    fn step(&mut self, path: &[&str; 4], raw: RawStep, max: Option<u32>) -> Option<Step> {
        let hold = match &raw.hold {
            Some(text) => self.duration(&[&path[..], &["for"]].concat(), text),
            None => Some(SignedDuration::ZERO),
        };
        let change = self.change(path, &raw, max);
        let mut conditions = Vec::new();
        let mut whole = true;
        for (index, raw) in raw.conditions?.into_iter().enumerate() {
            let index = index.to_string();
            match self.condition(&[&path[..], &["conditions", &index]].concat(), raw) {
                Some(condition) => conditions.push(condition),
                None => whole = false,
            }
        }
        let step = Step {
            name: raw.name?,
            matching: raw.matching,
            conditions,
            change: change?,
            hold: hold?,
        };
        (whole && !step.conditions.is_empty()).then_some(step)
    }

    fn change(&mut self, path: &[&str; 4], raw: &RawStep, max: Option<u32>) -> Option<Change> {
        let (key, count, change) = match (raw.add, raw.remove) {
            (Some(add), None) => ("add", add, Change::Add(add)),
            (None, Some(remove)) => ("remove", remove, Change::Remove(remove)),
            (None, None) if !self.untouched(path) => return None,
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
        if let Some(max) = max
            && count > max
        {
            let what = format!("a step cannot {key} {count} machines: the pool has at most max = {max}");
            let help = format!("write {key} = {} or fewer, or raise `max`", max.max(1));
            self.bad(&[&path[..], &[key]].concat(), what, "more than max", help);
        }
        Some(change)
    }

    fn condition(&mut self, path: &[&str], raw: RawCondition) -> Option<Condition> {
        let subject = self.subject(path, &raw);
        Some(Condition {
            name: raw.name,
            subject: subject?,
            operator: raw.operator?,
            threshold: Finite::new(raw.threshold?)?,
        })
    }

    fn subject(&mut self, path: &[&str], raw: &RawCondition) -> Option<Subject> {
        let at = |key: &'static str| [path, &[key]].concat();
        let asks = raw.query.is_some();
        for key in ["samples", "reducer", "function"] {
            if asks && self.written(&at(key)) {
                self.idle_key(&at(key), "a question in PromQL comes to one number by itself");
            }
        }
        if let Some(query) = &raw.query {
            if query.trim().is_empty() {
                let help = "write query = \"avg(node_load1)\", or name `samples`";
                self.bad(
                    &at("query"),
                    "an empty question has no answer".to_owned(),
                    "empty",
                    help,
                );
            }
            return Some(Subject::Query(query.trim().to_owned()));
        }
        if raw.samples.is_empty() {
            if self.untouched(path) {
                let problem = StackProblem::new(
                    "stack::missing_key",
                    self.span(path),
                    "a condition goes by `samples` of each machine, or by a `query`",
                    "neither",
                )
                .help("add samples = [\"node_load1\"], or query = \"avg(node_load1)\"");
                self.report(problem);
            }
            return None;
        }
        if raw.samples.len() == 1 && self.written(&at("reducer")) {
            self.idle_key(&at("reducer"), "one sample is one number by itself");
        }
        let mut samples = Vec::new();
        for (index, raw) in raw.samples.iter().enumerate() {
            let index = index.to_string();
            samples.push(self.sample(&[path, &["samples", &index]].concat(), raw)?);
        }
        Some(Subject::Machines {
            samples,
            reducer: raw.reducer.unwrap_or(Reducer::Add),
            function: self.function(&at("function"), raw.function.as_ref())?,
        })
    }

    fn idle_key(&mut self, path: &[&str], why: &str) {
        let key = path.last().copied().unwrap_or_default();
        let problem = StackProblem::new(
            "stack::contradiction",
            self.key_span(path),
            format!("`{key}` says nothing here: {why}"),
            "no use",
        )
        .help(format!("take `{key}` out"));
        self.report(problem);
    }

    fn sample(&mut self, path: &[&str], raw: &RawSample) -> Option<SampleName> {
        let (name, labels, place) = match raw {
            RawSample::Name(name) => (name.clone(), BTreeMap::new(), path.to_vec()),
            RawSample::Labelled(raw) => (raw.name.clone()?, raw.labels.clone(), [path, &["name"]].concat()),
        };
        if !is_word(&name, true) {
            let help = match name.split_once('{') {
                Some((bare, _)) => {
                    format!("labels stand apart: {{ name = \"{bare}\", labels = {{ mountpoint = \"/\" }} }}")
                }
                None => "letters, digits, `_` and `:`, not beginning with a digit: \"node_load1\"".to_owned(),
            };
            let what = format!("\"{name}\" is no name of a sample");
            self.bad(&place, what, "not a name", help);
        }
        for label in labels.keys().filter(|label| !is_word(label, false)) {
            let what = format!("\"{label}\" is no name of a label");
            let help = "letters, digits and `_`, not beginning with a digit: \"mountpoint\"";
            self.bad(&[path, &["labels", label]].concat(), what, "not a name", help);
        }
        Some(SampleName { name, labels })
    }

    fn function(&mut self, path: &[&str], raw: Option<&RawFunction>) -> Option<Function> {
        Some(match raw {
            None | Some(RawFunction::Name(FunctionName::Mean)) => Function::Mean,
            Some(RawFunction::Name(FunctionName::Min)) => Function::Min,
            Some(RawFunction::Name(FunctionName::Max)) => Function::Max,
            Some(RawFunction::Name(FunctionName::Median)) => Function::Median,
            Some(RawFunction::Quantile(raw)) => {
                let share = raw.quantile?;
                if !(0.0..=1.0).contains(&share) {
                    let path = [path, &["quantile"]].concat();
                    let what = format!("there is no quantile {share}");
                    self.bad(&path, what, "not a share", "from 0 to 1: { quantile = 0.9 }");
                }
                Function::Quantile(Finite::new(share)?)
            }
        })
    }

    /// Whether no two steps want opposite things for the same numbers, and each can hold at all.
    fn steps_apart(&mut self, pool: &str, steps: &[(String, Step)]) {
        let place = |index: &str| {
            vec!["pools", pool, "steps"]
                .into_iter()
                .chain([index])
                .map(str::to_owned)
                .collect()
        };
        let span = |check: &Self, index: &str| {
            let path: Vec<String> = place(index);
            check.span(&path.iter().map(String::as_str).collect::<Vec<_>>())
        };
        for (index, step) in steps {
            if let Some(subject) = never_holds(step) {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    span(self, index),
                    format!(
                        "the step \"{}\" never holds: no {subject} fits all its conditions",
                        step.name
                    ),
                    "never holds",
                )
                .help("write match = \"any\", or mend a threshold");
                self.report(problem);
            }
        }
        let adds = |step: &Step| matches!(step.change, Change::Add(_));
        for (up_at, up) in steps.iter().filter(|(_, step)| adds(step)) {
            for (down_at, down) in steps.iter().filter(|(_, step)| !adds(step)) {
                if let Some(both) = both_hold(up, down) {
                    let problem = StackProblem::new(
                        "stack::contradiction",
                        span(self, down_at),
                        format!(
                            "the step \"{}\" removes what the step \"{}\" adds: both hold with {both}",
                            down.name, up.name
                        ),
                        "removes",
                    )
                    .also(span(self, up_at), "adds")
                    .help("leave room between their thresholds, so that the pool does not grow and shrink in turns");
                    self.report(problem);
                }
            }
        }
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

/// Whether it is a name in Prometheus' alphabet (its documentation, "Metric names and labels"); only a sample's may have
/// colons.
fn is_word(word: &str, colons: bool) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    word.starts_with(first) && word.chars().all(|c| first(c) || c.is_ascii_digit())
}
