//! What refuses a plan, in words: a saved plan that is not one to apply, differences, guards.

use std::{fmt::Write as _, path::Path};

use super::{error::Failure, exit::Exit, run::Errand, show::sections::guard};
use crate::plan::{
    Plan,
    saved::{Difference, SavedError},
};

/// Differences beyond this many are counted.
const LISTED: usize = 20;

/// A file that is no plan, or not one to apply here and now.
pub(super) fn file(path: &Path, error: &SavedError, again: &str) -> Failure {
    let exit = match error {
        SavedError::NotAPlan { .. } | SavedError::Version { .. } => Exit::Error,
        _ => Exit::Refused,
    };
    let place = path.display();
    let anew = format!("nothing was changed. Make a new one: {again} plan --out NAME.plan");
    let help = match error {
        SavedError::NoMac | SavedError::Mac => {
            format!("{anew}\nwith the key that stack.plan_key names; this file may be someone's forgery")
        }
        SavedError::OtherStack { found, .. } => {
            format!("name its stack: runfleet -s {found} apply {place}; nothing was changed")
        }
        SavedError::OtherTool { found, .. } => format!("{anew}\nor apply it with runfleet {found}"),
        SavedError::OtherStackFile => format!("{anew}\nor put the stack file back to what it was"),
        _ => anew,
    };
    Failure::new(exit, format!("the plan in {place} is not applied: {error}")).help(help)
}

/// A plan that does not fit what is there.
pub(super) fn differences(differences: &[Difference], again: &str) -> Failure {
    let mut help = String::new();
    if differences.len() > 1 {
        for difference in differences.iter().take(LISTED) {
            let _ = writeln!(help, "- {difference}");
        }
        if differences.len() > LISTED {
            let _ = writeln!(help, "- and {} more", differences.len() - LISTED);
        }
    }
    let _ = write!(help, "nothing was changed. Look at a new plan: {again} plan");
    let what = match differences {
        [one] => format!("the plan does not fit any more: {one}"),
        all => format!("the plan does not fit any more, for {} reasons", all.len()),
    };
    Failure::new(Exit::Refused, what).help(help)
}

/// Refuses a plan that breaks a guard which nobody allowed.
///
/// # Errors
/// With exit code 5, and what to type to let it pass.
pub(super) fn breaches(plan: &Plan, errand: &Errand, again: &str) -> Result<(), Failure> {
    let refused: Vec<_> = plan.breaches.iter().filter(|breach| !breach.allowed).collect();
    let Some(first) = refused.first() else {
        return Ok(());
    };
    let more = match refused.len() {
        1 => String::new(),
        several => format!(", and {} more", several - 1),
    };
    let allow: Vec<String> = refused
        .iter()
        .map(|breach| format!("--allow {}", guard(breach.rule)))
        .collect();
    let saved = errand.saved.as_ref();
    let saved = saved.map(|path| format!(" {}", super::context::quoted(&path.display().to_string())));
    let what = format!("the plan is refused: it {}{more}", first.what);
    Err(Failure::new(Exit::Refused, what).help(format!(
        "nothing was changed. To let it pass this once: {again} {}{} {}",
        errand.operation,
        saved.unwrap_or_default(),
        allow.join(" ")
    )))
}
