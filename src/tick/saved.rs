//! Saved plans: the key that signs them, the file that holds them, and taking one up again.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{ConnectError, LoadedStack, Planned, Session, TickError, Trust, remember};
use crate::{
    model::state::{AppliedPlan, History},
    plan::saved::{Difference, SavedError, SavedPlan, check},
    scaling,
    secrets::{self, Policy},
};

/// The largest file that is read: a plan of 10,000 creates with five rungs each has some 100 MiB.
const LARGEST: u64 = 1 << 30;

/// What went wrong with the file.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", .path.display())]
pub struct PlanFileError {
    /// `reading`, `writing`
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The key of the MAC, where the stack has one.
///
/// # Errors
/// As those of the tokens: it is not where the stack file says.
pub async fn plan_key(loaded: &LoadedStack, trust: &Trust) -> Result<Option<SecretString>, ConnectError> {
    let Some(reference) = &loaded.stack.plan_key else {
        return Ok(None);
    };
    let policy = match trust {
        Trust::Full => Policy::Trusted,
        Trust::Untrusted { .. } => Policy::Untrusted,
    };
    Ok(Some(
        secrets::read(reference, "stack.plan_key", loaded.folder(), policy).await?,
    ))
}

/// Writes a plan's text, readable by its owner alone; a file that was there is replaced whole, or not at all.
///
/// # Errors
/// When the folder or the disk does not take it; then what was there is as it was.
pub fn write_plan(path: &Path, text: &str) -> Result<(), PlanFileError> {
    let failed = |source| PlanFileError {
        doing: "writing",
        path: path.to_path_buf(),
        source,
    };
    // A slip of the fingers must not cost a state or a stack file: only a plan is written over.
    if let Ok(there) = fs_err::read(path)
        && matches!(SavedPlan::parse(&there, None), Err(SavedError::NotAPlan { .. }))
    {
        let why = "it is there already and is no plan; nothing was written";
        return Err(failed(std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            why,
        )));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Made with mode 0600, and removed again when it does not come to the rename.
    let mut file = tempfile::Builder::new()
        .prefix(".plan-")
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    fs_err::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// Reads a plan's bytes.
///
/// # Errors
/// When there is no such file, or it is larger than any plan.
pub fn read_plan(path: &Path) -> Result<Vec<u8>, PlanFileError> {
    let failed = |source| PlanFileError {
        doing: "reading",
        path: path.to_path_buf(),
        source,
    };
    let size = fs_err::metadata(path).map_err(failed)?.len();
    if size > LARGEST {
        let why = format!("it has {size} bytes, which no plan has");
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)));
    }
    fs_err::read(path).map_err(failed)
}

impl Session {
    /// The identity that the state begins with, if there is none yet: that of a plan made before there was one.
    pub fn begin_as(&mut self, saved: &SavedPlan) {
        if saved.plan.serial.0 == 0 {
            self.new_lineage = saved.plan.lineage.clone();
        }
    }

    /// Reads everything again, and holds a saved plan against it: what comes back is what that plan says, to be applied
    /// now, or everything that does not fit.
    ///
    /// # Errors
    /// When our own state cannot be read.
    pub async fn take_up(&self, saved: &SavedPlan) -> Result<Result<Planned, Vec<Difference>>, TickError> {
        let seen = self.see().await?;
        let (mut snapshot, stack) = (seen.snapshot, seen.stack);
        crate::plan::moved::apply(&mut snapshot, &stack, crate::plan::Goal::Converge);
        let history = std::mem::take(&mut snapshot.history);
        snapshot.history = scaling::learn(history, &snapshot, &stack);
        let plan = match check(saved, &snapshot, &stack, &self.loaded.templates) {
            Ok(plan) => plan,
            Err(differences) => return Ok(Err(differences)),
        };
        remember(&mut snapshot.history, &plan, &saved.selection);
        let applied = &mut snapshot.history.applied;
        applied.push(AppliedPlan {
            digest: saved.digest.clone(),
            at: snapshot.now,
        });
        let surplus = applied.len().saturating_sub(History::EVENTS);
        applied.drain(..surplus);
        Ok(Ok(Planned {
            plan,
            snapshot,
            stack,
            mended: seen.mended,
            is_new: seen.is_new,
            has_journal: seen.has_journal,
            fold: seen.fold,
            failures: seen.failures,
            holder: None,
        }))
    }
}
