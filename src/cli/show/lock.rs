//! Who holds a stack's lock, for a person and for a program.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::FORMAT_VERSION;
use crate::{
    cli::{error::Failure, exit::Exit},
    model::ids::StackName,
    state::LockInfo,
};

/// What `unlock --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether this is all.
    pub complete: bool,
    /// Whose lock.
    pub stack: String,
    /// Whether it is held now.
    pub locked: bool,
    /// Whether it was taken from its holder just now.
    pub taken: bool,
    /// Who holds it, or held it until just now; null when nobody does.
    pub holder: Option<HolderView>,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HolderView {
    /// What `unlock --force` wants to be told.
    pub id: String,
    /// `user@host`
    pub who: String,
    /// The verb that runs: `scale`.
    pub operation: String,
    /// Since when, in UTC.
    pub since: String,
    /// The host's name.
    pub host: String,
    /// The process on that host.
    pub pid: u32,
    /// The CI job that runs it: its URL; null where none does.
    pub job: Option<String>,
}

/// The document.
pub fn document(stack: &StackName, holder: Option<&LockInfo>, taken: bool) -> LockDocument {
    LockDocument {
        format_version: FORMAT_VERSION.into(),
        complete: true,
        stack: stack.to_string(),
        locked: holder.is_some() && !taken,
        taken,
        holder: holder.map(view),
    }
}

fn view(holder: &LockInfo) -> HolderView {
    HolderView {
        id: holder.id.clone(),
        who: holder.who.clone(),
        operation: holder.operation.clone(),
        since: holder.created.to_string(),
        host: holder.host.clone(),
        pid: holder.pid,
        job: Some(holder.info.clone()).filter(|job| !job.is_empty()),
    }
}

/// As a person reads it.
pub fn text(stack: &StackName, holder: Option<&LockInfo>, taken: bool) -> String {
    let Some(holder) = holder else {
        return format!("Nobody holds the lock of stack {stack}.\n");
    };
    if taken {
        return format!(
            "Took the lock of stack {stack} from {} of {}, who had it since {}.\n{}\nIf that process still runs, its next \
             write is refused. What it began is found by the next tick: runfleet -s {stack} scale\n",
            holder.operation,
            holder.who,
            holder.created.strftime("%Y-%m-%d %H:%M:%SZ"),
            facts(holder)
        );
    }
    format!(
        "Stack {stack} is locked.\n{}\nWait for it:              runfleet -s {stack} scale --lock-timeout 5m\nTake it, if that is dead: \
         runfleet -s {stack} unlock --force {}\n",
        facts(holder),
        holder.id
    )
}

fn facts(holder: &LockInfo) -> String {
    let mut text = String::new();
    let since = holder.created.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let pid = holder.pid.to_string();
    let all = [
        ("who", holder.who.as_str()),
        ("what", &holder.operation),
        ("since", &since),
        ("host", &holder.host),
        ("process", &pid),
        ("CI job", &holder.info),
        ("id", &holder.id),
    ];
    for (name, value) in all {
        if !value.is_empty() && value != "0" {
            let _ = writeln!(text, "  {name:<8} {value}");
        }
    }
    text
}

/// Why it was not taken.
pub(crate) fn refused(stack: &StackName, asked: &str, holder: &LockInfo) -> Failure {
    if holder.id == asked {
        let what = format!(
            "{} of {} still runs and holds the lock (process {} on {}): it cannot be taken from it",
            holder.operation, holder.who, holder.pid, holder.host
        );
        return Failure::new(Exit::Locked, what).help(format!(
            "end that process first: kill {} on {}; it finishes what is in flight, and its lock goes with it",
            holder.pid, holder.host
        ));
    }
    let what = format!(
        "the lock of stack {stack} has another id: {} of {} holds it since {}",
        holder.operation,
        holder.who,
        holder.created.strftime("%Y-%m-%d %H:%M:%SZ")
    );
    Failure::new(Exit::Locked, what).help(format!(
        "if that one is dead: runfleet -s {stack} unlock --force {}",
        holder.id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> LockInfo {
        LockInfo {
            id: "6f1c".into(),
            operation: "scale".into(),
            who: "ci@runner-7".into(),
            host: "runner-7".into(),
            boot_id: "b".into(),
            pid_namespace: String::new(),
            pid: 4711,
            pid_start: 9,
            created: "2026-03-01T01:30:00Z".parse().unwrap(),
            info: "https://gitlab.example.com/acme/app/-/jobs/17".into(),
        }
    }

    #[test]
    fn a_holder_is_told_with_what_to_type() {
        insta::assert_snapshot!(text(&"prod".into(), Some(&holder()), false), @"
        Stack prod is locked.
          who      ci@runner-7
          what     scale
          since    2026-03-01 01:30:00Z
          host     runner-7
          process  4711
          CI job   https://gitlab.example.com/acme/app/-/jobs/17
          id       6f1c

        Wait for it:              runfleet -s prod scale --lock-timeout 5m
        Take it, if that is dead: runfleet -s prod unlock --force 6f1c
        ");
        insta::assert_snapshot!(text(&"prod".into(), Some(&holder()), true), @"
        Took the lock of stack prod from scale of ci@runner-7, who had it since 2026-03-01 01:30:00Z.
          who      ci@runner-7
          what     scale
          since    2026-03-01 01:30:00Z
          host     runner-7
          process  4711
          CI job   https://gitlab.example.com/acme/app/-/jobs/17
          id       6f1c

        If that process still runs, its next write is refused. What it began is found by the next tick: runfleet -s prod scale
        ");
        insta::assert_snapshot!(text(&"prod".into(), None, false), @"Nobody holds the lock of stack prod.");
    }

    #[test]
    fn why_a_lock_was_not_taken_is_told_with_its_holder() {
        let other = refused(&"prod".into(), "77", &holder());
        assert_eq!(other.exit, Exit::Locked);
        insta::assert_snapshot!(other.rendered(false), @"
        × the lock of stack prod has another id: scale of ci@runner-7 holds it since 2026-03-01 01:30:00Z
        help: if that one is dead: runfleet -s prod unlock --force 6f1c
        ");
        let alive = refused(&"prod".into(), "6f1c", &holder());
        insta::assert_snapshot!(alive.rendered(false), @"
        × scale of ci@runner-7 still runs and holds the lock (process 4711 on runner-7): it cannot be taken from
        │ it
        help: end that process first: kill 4711 on runner-7; it finishes what is in flight, and its lock goes with
              it
        ");
    }
}
