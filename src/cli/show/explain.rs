//! `explain`: why each pool has the size that it has, and each runner the fate that it has.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::ids::{Address, PoolName},
    plan::{Plan, PoolReport},
};

use super::{
    FORMAT_VERSION, Paint,
    document::HeldView,
    strays::StraysView,
    table::{Cell, Table},
};

/// What `explain --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExplainDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// By pool, as declared.
    pub pools: Vec<PoolExplained>,
    /// What has no record: orphans and foreign resources; empty when there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub strays: Vec<StraysView>,
}

/// A pool's target and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PoolExplained {
    /// Its name.
    pub name: String,
    /// The size that it should have.
    pub target: u32,
    /// Jobs that wait for it.
    pub queued: u32,
    /// Jobs that run on it.
    pub running: u32,
    /// Machines that serve or will.
    pub serving: u32,
    /// How the target was computed.
    pub formula: String,
    /// What each step of its policy comes to, as declared; empty with another policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub steps: Vec<StepExplained>,
    /// What is decided for each of its machines, kept ones too.
    pub decisions: Vec<Decision>,
    /// What is refused.
    pub held: Vec<HeldView>,
}

/// What a step of a pool's policy comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepExplained {
    /// Its name.
    pub name: String,
    /// Whether its conditions hold; null where that is not known.
    pub holds: Option<bool>,
    /// What was measured, and what it is held against.
    pub reading: String,
}

/// What is decided for one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Decision {
    /// Which.
    pub address: String,
    /// `keep`, or the plan's verb.
    pub decision: String,
    /// Why, for a person.
    pub reason: String,
    /// Why, for a program.
    pub reason_code: String,
}

/// Explains every pool, or only one.
pub fn explain(plan: &Plan, only: Option<&PoolName>) -> ExplainDocument {
    let wanted = plan
        .pools
        .iter()
        .filter(|pool| only.is_none_or(|only| only == &pool.name));
    ExplainDocument {
        format_version: FORMAT_VERSION.into(),
        complete: plan.complete,
        stack: plan.stack.to_string(),
        pools: wanted.map(|pool| pool_explained(plan, pool)).collect(),
        strays: super::strays::strays(plan),
    }
}

fn pool_explained(plan: &Plan, pool: &PoolReport) -> PoolExplained {
    let ours = |address: &Address| address.pool.as_ref() == Some(&pool.name);
    let actions = plan.actions.iter().filter(|action| ours(&action.address));
    let kept = plan.kept.iter().filter(|kept| ours(&kept.address));
    let decision = |address: &Address, decision: &str, reason: &crate::model::reason::Reason| Decision {
        address: address.to_string(),
        decision: decision.to_owned(),
        reason: reason.to_string(),
        reason_code: reason.code().to_owned(),
    };
    let mut decisions: Vec<Decision> = actions
        .map(|action| decision(&action.address, action.verb.as_str(), &action.reason))
        .collect();
    decisions.extend(kept.map(|kept| decision(&kept.address, "keep", &kept.reason)));
    let about = |about: &str| {
        about == pool.name.as_str() || about.parse::<Address>().is_ok_and(|address| ours(&address))
    };
    PoolExplained {
        name: pool.name.to_string(),
        target: pool.target,
        queued: pool.queued,
        running: pool.running,
        serving: pool.serving,
        formula: pool.formula.clone(),
        steps: pool
            .steps
            .iter()
            .map(|step| StepExplained {
                name: step.name.clone(),
                holds: step.holds,
                reading: step.reading.clone(),
            })
            .collect(),
        decisions,
        held: super::document::held(plan)
            .into_iter()
            .filter(|held| about(&held.about))
            .collect(),
    }
}

/// The same as a person reads it.
pub fn text(document: &ExplainDocument, paint: Paint) -> String {
    let mut out = String::new();
    for (at, pool) in document.pools.iter().enumerate() {
        let bold = paint.bold();
        if at > 0 {
            out.push('\n');
        }
        let _ = writeln!(
            out,
            "{bold}{}{bold:#}: target {} = {}\n  {} queued, {} running, {} serving",
            pool.name, pool.target, pool.formula, pool.queued, pool.running, pool.serving
        );
        let mut table = Table::<3>::new();
        for step in &pool.steps {
            let holds = match step.holds {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "unknown",
            };
            table.row([
                format!("step {}", step.name).into(),
                holds.to_owned().into(),
                step.reading.clone().into(),
            ]);
        }
        for held in &pool.held {
            let style = if held.warning {
                paint.warning()
            } else {
                paint.dim()
            };
            table.row([
                held.about.clone().into(),
                Cell::styled("held", style),
                held.reason.clone().into(),
            ]);
        }
        for decision in &pool.decisions {
            table.row([
                decision.address.clone().into(),
                decision.decision.clone().into(),
                decision.reason.clone().into(),
            ]);
        }
        table.write(&mut out, "  ");
    }
    super::strays::write(&mut out, &document.strays, paint);
    out
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};
    use crate::plan::StepReport;

    #[test]
    fn a_pool_is_explained_by_its_target_and_its_machines() {
        let document = explain(&fixture::plan(), Some(&"linux".into()));
        insta::assert_snapshot!(text(&document, Paint::PLAIN), @"
        linux: target 1 = ceil((0 + 1) / 2) + 0 = 1
          0 queued, 1 running, 2 serving
          linux                      held    5 wanted, max = 3
          machine.linux/calm-fox     held    no certain word on whether it runs jobs
          machine.linux/brave-otter  create  5 queued and 1 running jobs want 3 runners
          machine.linux/keen-wolf    create  5 queued and 1 running jobs want 3 runners
          machine.linux/old-crab     retire  idle, and paid until 01:31:00Z
          machine.linux/tall-newt    cordon  above max = 3
          machine.linux/lost-seal    forget  the cloud does not have it any more
          machine.linux/calm-fox     keep    runs 1 job
          machine.linux/dry-hare     keep    paid until 02:20:00Z

        Orphans: 1 resource of our lineage without a record, 0.0095 EUR/h: removed when two ticks have seen them, and nothing runs on them. Type: runfleet -s prod adopt
        Foreign: 1 resource with our stack's name and another lineage, 0.0095 EUR/h: nothing is created while they are there. Type: runfleet -s prod adopt, or runfleet -s prod init --new-lineage
        ");
        let schema = serde_json::to_value(schemars::schema_for!(ExplainDocument)).unwrap();
        jsonschema::validate(&schema, &serde_json::to_value(&document).unwrap()).unwrap();
    }

    #[test]
    fn steps_are_told_with_what_was_measured() {
        let mut plan = fixture::plan();
        plan.held.clear();
        plan.kept.clear();
        plan.actions.clear();
        (plan.orphans, plan.foreign) = (Vec::new(), Vec::new());
        let step = |name: &str, holds, reading: &str| StepReport {
            name: name.to_owned(),
            holds,
            reading: reading.to_owned(),
        };
        plan.pools[0].formula = "mem_avail: mean(free) = 1.9e9 <= 2.068e9, +1 = 3".to_owned();
        plan.pools[0].steps = vec![
            step("mem_avail", Some(true), "mean(free) = 1.9e9 <= 2.068e9"),
            step("loadavg", Some(false), "mean(node_load1) = 0.4, not >= 2"),
            step("down", None, "max(node_load1) = 0.5 (1 of 2 machines), <= 0.5?"),
        ];
        let document = explain(&plan, Some(&"linux".into()));
        insta::assert_snapshot!(text(&document, Paint::PLAIN), @"
        linux: target 1 = mem_avail: mean(free) = 1.9e9 <= 2.068e9, +1 = 3
          0 queued, 1 running, 2 serving
          step mem_avail  holds          mean(free) = 1.9e9 <= 2.068e9
          step loadavg    does not hold  mean(node_load1) = 0.4, not >= 2
          step down       unknown        max(node_load1) = 0.5 (1 of 2 machines), <= 0.5?
        ");
        let schema = serde_json::to_value(schemars::schema_for!(ExplainDocument)).unwrap();
        jsonschema::validate(&schema, &serde_json::to_value(&document).unwrap()).unwrap();
    }
}
