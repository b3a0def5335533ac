//! `scale`, `watch`, `apply` and `destroy --json`: one line for each event, in the words of Terraform's machine-readable UI.
//!
//! The first line is a `version`, the last one a `change_summary`, whatever happens between them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::ids::Address,
    plan::{Action, Drift, Plan, Summary},
};

use super::{
    Change, FORMAT_VERSION,
    document::{DiagnosticView, SummaryView, pool_of},
    plan::summary_line,
    progress_words,
    sections::fate,
    watch::WatchView,
};

/// What tells these lines from those of other programs in one stream.
const MODULE: &str = "runfleet.ui";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    /// `info`, `warn` or `error`.
    #[serde(rename = "@level")]
    pub level: String,
    /// The event as a person reads it.
    #[serde(rename = "@message")]
    pub message: String,
    /// Always `runfleet.ui`.
    #[serde(rename = "@module")]
    pub module: String,
    /// When, by our clock.
    #[serde(rename = "@timestamp")]
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full; true until they have been asked.
    pub complete: bool,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// The first line.
    Version {
        /// This program's version.
        runfleet: String,
        /// The stack's name; null where it could not be read.
        stack: Option<String>,
    },
    /// Something that someone else changed; not a change of the plan.
    ResourceDrift {
        /// What.
        change: DriftChange,
    },
    /// Something will be done.
    PlannedChange {
        /// What.
        change: PlannedChange,
    },
    /// It is being done.
    ApplyStart {
        /// What.
        hook: Hook,
    },
    /// It is still being done, or goes on otherwise than hoped: another offering.
    ApplyProgress {
        /// What.
        hook: Hook,
    },
    /// It is done.
    ApplyComplete {
        /// What.
        hook: Hook,
    },
    /// It failed.
    ApplyErrored {
        /// What.
        hook: Hook,
    },
    /// Something that happened beside the plan: a lock that was taken over, a journal that was mended. Its words are
    /// `@message`.
    Log,
    /// Something that a person should be told.
    Diagnostic {
        /// What.
        diagnostic: DiagnosticView,
    },
    /// How `watch` goes on: it leads, stands by, has ticked. The line of a tick follows those of its plan.
    Watch {
        /// What happened.
        watch: WatchView,
    },
    /// How many of each: of the plan, and as the last line of what was done.
    ChangeSummary {
        /// The numbers.
        changes: Changes,
    },
}

/// A change before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedChange {
    /// To what.
    pub resource: ResourceName,
    /// `create`, `update`, `replace`, `delete`, `forget`, `cordon` or `hook`.
    pub action: String,
    /// Why, for a person.
    pub reason: String,
    /// Why, for a program.
    pub reason_code: String,
}

/// A change that someone else made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriftChange {
    /// To what.
    pub resource: ResourceName,
    /// Always `update`: what is gone is a `forget` of the plan.
    pub action: String,
    /// What differs from the record, for a person.
    pub what: String,
    /// What becomes of it: `repaired`, `replaced` or `shown`.
    pub fate: String,
}

/// A change while it is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Hook {
    /// To what.
    pub resource: ResourceName,
    /// `create`, `update`, `delete`, `forget`, `cordon` or `hook`.
    pub action: String,
    /// Since it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_seconds: Option<f64>,
    /// `id`, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_key: Option<String>,
    /// The cloud's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_value: Option<String>,
}

/// A resource's address and its parts, under Terraform's keys and runfleet's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResourceName {
    /// `machine.linux/brave-otter`
    pub addr: String,
    /// Always empty: runfleet has no modules.
    pub module: String,
    /// As `addr`.
    pub resource: String,
    /// Always `runfleet`.
    pub implied_provider: String,
    /// `machine`
    pub resource_type: String,
    /// `linux`; a shared resource's own name.
    pub resource_name: String,
    /// `brave-otter`; null for a shared resource.
    pub resource_key: Option<String>,
    /// `machine`
    pub kind: String,
    /// `linux`; null for a shared resource.
    pub pool: Option<String>,
    /// `brave-otter`
    pub name: String,
}

/// How many of each, in runfleet's words and in Terraform's (`add`, `change`, `remove`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changes {
    /// runfleet's words.
    #[serde(flatten)]
    pub summary: SummaryView,
    /// Creates and replacements.
    pub add: u32,
    /// Updates and cordons.
    pub change: u32,
    /// Taken on record from outside: always 0, since that is what `adopt` and `state import` do.
    pub import: u32,
    /// Deletes and replacements.
    pub remove: u32,
    /// What failed.
    pub failed: u32,
    /// What was not begun, since something before it failed or a signal came.
    pub skipped: u32,
    /// `plan`, `apply` or `destroy`.
    pub operation: String,
}

/// Makes lines; holds what all have in common.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// Whether every source answered in full.
    pub complete: bool,
}

impl Writer {
    fn line(self, level: &str, message: String, now: Timestamp, body: Body) -> Line {
        Line {
            level: level.into(),
            message,
            module: MODULE.into(),
            timestamp: now,
            format_version: FORMAT_VERSION.into(),
            complete: self.complete,
            body,
        }
    }

    /// The first line.
    pub fn version(self, stack: Option<&str>, now: Timestamp) -> Line {
        let version = env!("CARGO_PKG_VERSION");
        let body = Body::Version {
            runfleet: version.into(),
            stack: stack.map(Into::into),
        };
        self.line("info", format!("runfleet {version}"), now, body)
    }

    /// Something that happened beside the plan.
    pub fn log(self, message: &str, now: Timestamp) -> Line {
        self.line("info", message.to_owned(), now, Body::Log)
    }

    /// How a watch goes on.
    pub fn watch(self, message: &str, watch: WatchView, now: Timestamp) -> Line {
        let level = match watch.event.as_str() {
            "lost" | "not_reloaded" | "trouble" => "warn",
            _ => "info",
        };
        self.line(level, message.to_owned(), now, Body::Watch { watch })
    }

    fn drift(self, drift: &Drift, now: Timestamp) -> Line {
        let view = super::document::drift(drift);
        let message = format!("{}: drift: {} ({})", view.address, view.what, fate(drift.fate));
        let change = DriftChange {
            resource: ResourceName::of(&drift.address),
            action: "update".into(),
            what: view.what,
            fate: view.fate,
        };
        self.line("info", message, now, Body::ResourceDrift { change })
    }

    /// What someone else changed, each action of a plan, then its summary.
    pub fn planned(self, plan: &Plan, unread: &[DiagnosticView], now: Timestamp) -> Vec<Line> {
        let change = |(action, kind): (&Action, Change)| {
            let word = kind.as_str();
            let change = PlannedChange {
                resource: ResourceName::of(&action.address),
                action: word.into(),
                reason: action.reason.to_string(),
                reason_code: action.reason.code().into(),
            };
            let message = format!("{}: plan to {word}: {}", action.address, action.reason);
            self.line("info", message, now, Body::PlannedChange { change })
        };
        let mut lines: Vec<Line> = plan.drift.iter().map(|drift| self.drift(drift, now)).collect();
        let kinds = Change::of_plan(plan);
        lines.extend(plan.actions.iter().zip(kinds).map(change));
        for told in unread.iter().cloned().chain(super::document::diagnostics(plan)) {
            lines.push(self.diagnostic(told, now));
        }
        lines.push(self.summary(plan.summary(), 0, 0, "plan", summary_line(plan.summary()), now));
        lines
    }

    /// An action has begun.
    pub fn start(self, action: &Action, now: Timestamp) -> Line {
        let message = format!("{}: {}…", action.address, progress_words(&action.verb).0);
        let hook = Hook::of(action, None);
        self.line("info", message, now, Body::ApplyStart { hook })
    }

    /// An action goes on.
    pub fn progress(self, action: &Action, message: &str, seconds: Option<f64>, now: Timestamp) -> Line {
        let message = format!("{}: {message}", action.address);
        let hook = Hook::of(action, seconds);
        self.line("info", message, now, Body::ApplyProgress { hook })
    }

    /// An action has ended well.
    pub fn complete(self, action: &Action, seconds: f64, id: Option<&str>, now: Timestamp) -> Line {
        let message = completed(action, seconds, id);
        let hook = Hook {
            id_key: id.map(|_| "id".into()),
            id_value: id.map(Into::into),
            ..Hook::of(action, Some(seconds))
        };
        self.line("info", message, now, Body::ApplyComplete { hook })
    }

    /// An action has failed.
    pub fn errored(self, action: &Action, seconds: f64, why: &str, now: Timestamp) -> Line {
        let message = failed(action, seconds, why);
        let hook = Hook::of(action, Some(seconds));
        self.line("error", message, now, Body::ApplyErrored { hook })
    }

    /// Something to be told.
    pub fn diagnostic(self, diagnostic: DiagnosticView, now: Timestamp) -> Line {
        let level = if diagnostic.severity == "error" {
            "error"
        } else {
            "warn"
        };
        let message = if diagnostic.detail.is_empty() {
            diagnostic.summary.clone()
        } else {
            format!("{}: {}", diagnostic.summary, diagnostic.detail)
        };
        self.line(level, message, now, Body::Diagnostic { diagnostic })
    }

    /// How many of each.
    pub fn summary(
        self,
        summary: Summary,
        failed: u32,
        skipped: u32,
        operation: &str,
        message: String,
        now: Timestamp,
    ) -> Line {
        let changes = Changes {
            summary: summary.into(),
            add: summary.create + summary.replace,
            change: summary.update + summary.cordon,
            import: 0,
            remove: summary.delete + summary.replace,
            failed,
            skipped,
            operation: operation.into(),
        };
        self.line("info", message, now, Body::ChangeSummary { changes })
    }
}

/// `machine.linux/brave-otter: created in 2.1s [id 42]`
pub fn completed(action: &Action, seconds: f64, id: Option<&str>) -> String {
    let id = id.map(|id| format!(" [id {id}]")).unwrap_or_default();
    let done = progress_words(&action.verb).1;
    format!("{}: {done} in {}{id}", action.address, elapsed(seconds))
}

/// `machine.linux/brave-otter: creating failed after 2.1s: no capacity`
pub fn failed(action: &Action, seconds: f64, why: &str) -> String {
    let doing = progress_words(&action.verb).0;
    format!(
        "{}: {doing} failed after {}: {why}",
        action.address,
        elapsed(seconds)
    )
}

/// `2.1s`, `1m 5s`
pub fn elapsed(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds of one run"
    )]
    let whole = seconds as u64;
    format!("{}m {}s", whole / 60, whole % 60)
}

impl Hook {
    fn of(action: &Action, seconds: Option<f64>) -> Self {
        Self {
            resource: ResourceName::of(&action.address),
            action: Change::of(&action.verb).as_str().into(),
            elapsed_seconds: seconds,
            id_key: None,
            id_value: None,
        }
    }
}

impl ResourceName {
    fn of(address: &Address) -> Self {
        let pool = address.pool.as_ref();
        Self {
            addr: address.to_string(),
            module: String::new(),
            resource: address.to_string(),
            implied_provider: "runfleet".into(),
            resource_type: address.kind.to_string(),
            resource_name: pool.map_or_else(|| address.name.clone(), ToString::to_string),
            resource_key: pool.map(|_| address.name.clone()),
            kind: address.kind.to_string(),
            pool: pool_of(address),
            name: address.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn every_line_is_valid_by_the_schema_and_the_summary_comes_last() {
        let plan = fixture::plan();
        let now = fixture::at("01:30:00");
        let writer = Writer { complete: true };
        let mut lines = vec![writer.version(Some("prod"), now)];
        lines.push(writer.log("took over a lock", now));
        let leads = WatchView {
            event: "leads".into(),
            ..WatchView::default()
        };
        lines.push(writer.watch("leads", leads, now));
        lines.extend(writer.planned(&plan, &[], now));
        lines.push(writer.start(&plan.actions[1], now));
        lines.push(writer.progress(&plan.actions[1], "rung 2: cx33 in fsn1", None, now));
        lines.push(writer.complete(&plan.actions[1], 2.14, Some("42"), now));
        lines.push(writer.errored(&plan.actions[2], 61.0, "no capacity", now));
        lines.push(writer.summary(Summary::default(), 1, 0, "apply", "Done.".into(), now));
        let schema = serde_json::to_value(schemars::schema_for!(Line)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut seen = Vec::new();
        for line in &lines {
            let json = serde_json::to_value(line).unwrap();
            validator.validate(&json).unwrap();
            seen.push(format!("{} {}", json["type"].as_str().unwrap(), line.message));
        }
        insta::assert_snapshot!(seen.join("\n"), @"
        version runfleet 0.1.0
        log took over a lock
        watch leads
        resource_drift machine.linux/calm-fox: drift: type: cx33 → cx43 (left as it is)
        planned_change firewall/default: plan to update: rules differs from the stack file
        planned_change machine.linux/brave-otter: plan to create: 5 queued and 1 running jobs want 3 runners
        planned_change machine.linux/keen-wolf: plan to create: 5 queued and 1 running jobs want 3 runners
        planned_change machine.linux/old-crab: plan to delete: idle, and paid until 01:31:00Z
        planned_change machine.linux/tall-newt: plan to cordon: above max = 3
        planned_change machine.linux/lost-seal: plan to forget: the cloud does not have it any more
        diagnostic linux: held: 5 wanted, max = 3
        change_summary Plan: 2 to create, 1 to update, 0 to replace, 1 to delete, 1 to forget, 1 to cordon.
        apply_start machine.linux/brave-otter: creating…
        apply_progress machine.linux/brave-otter: rung 2: cx33 in fsn1
        apply_complete machine.linux/brave-otter: created in 2.1s [id 42]
        apply_errored machine.linux/keen-wolf: creating failed after 1m 1s: no capacity
        change_summary Done.
        ");
    }
}
