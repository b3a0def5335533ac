//! From every earlier version of the state's format to the one that this program writes: a chain of pure functions
//! over JSON.
//!
//! A step takes a whole state of its version and gives one of the next; it never fails, since what it does not know it
//! leaves for the reading that follows. Nothing here writes: an upgraded state reaches its file with the next save.

use serde_json::{Value, json};

use super::state::STATE_VERSION;

/// One step: from the version that is its place in [`STEPS`], counted from 1, to the next.
type Step = fn(Value) -> Value;

/// `STEPS[0]` leads from version 1 to version 2.
const STEPS: [Step; STATE_VERSION as usize - 1] = [one_to_two];

/// A `version` that cannot be read as one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// There is none.
    #[error("it has no `version`; a state has one, from 1 to {STATE_VERSION}")]
    Missing,
    /// It is something else than a version.
    #[error("its `version` is {found}; it should be a number from 1 to {STATE_VERSION}")]
    NoVersion {
        /// As JSON.
        found: String,
    },
    /// A later program wrote it.
    #[error("format version {found} is newer than {STATE_VERSION}")]
    Newer {
        /// What it is.
        found: u64,
    },
}

/// Reads a `version`: one that this program knows.
///
/// # Errors
/// When it is missing, zero, negative, a fraction, no number at all, or newer.
pub fn version(found: Option<&Value>) -> Result<u32, VersionError> {
    let found = found.ok_or(VersionError::Missing)?;
    match found.as_u64() {
        None | Some(0) => Err(VersionError::NoVersion {
            found: found.to_string(),
        }),
        Some(number) => match u32::try_from(number) {
            Ok(version) if version <= STATE_VERSION => Ok(version),
            _ => Err(VersionError::Newer { found: number }),
        },
    }
}

/// The same state in the format of this program.
///
/// # Errors
/// As [`version`].
pub fn upgrade(state: Value) -> Result<Value, VersionError> {
    let from = version(state.get("version"))?;
    let skipped = usize::try_from(from).unwrap_or(usize::MAX) - 1;
    Ok(STEPS.iter().skip(skipped).fold(state, |state, step| step(state)))
}

/// Version 2 adds `disowned`, `released` and `written` of a state, and `networks`, `placement_group` and `parts` of a
/// machine's spec. All may be absent, and mean nothing then: only the number changes.
fn one_to_two(mut state: Value) -> Value {
    if let Some(state) = state.as_object_mut() {
        state.insert("version".to_owned(), json!(2));
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_version_is_refused_by_name() {
        assert_eq!(version(None), Err(VersionError::Missing));
        for found in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("1"),
            json!(null),
            json!([1]),
        ] {
            let refused = version(Some(&found)).unwrap_err();
            assert!(
                matches!(refused, VersionError::NoVersion { .. }),
                "{found}: {refused}"
            );
            assert!(refused.to_string().contains(&found.to_string()), "{refused}");
        }
        for found in [u64::from(STATE_VERSION) + 1, u64::from(u32::MAX) + 2, u64::MAX] {
            assert_eq!(version(Some(&json!(found))), Err(VersionError::Newer { found }));
        }
        for known in 1..=STATE_VERSION {
            assert_eq!(version(Some(&json!(known))), Ok(known));
        }
    }

    #[test]
    fn every_earlier_version_becomes_the_current_one_and_keeps_what_it_holds() {
        for from in 1..=STATE_VERSION {
            let before = json!({"version": from, "lineage": "l", "serial": 4, "resources": {"a": 1}});
            let after = upgrade(before.clone()).unwrap();
            assert_eq!(after["version"], json!(STATE_VERSION));
            assert_eq!(after["resources"], before["resources"]);
            assert_eq!(after.as_object().unwrap().keys().next().unwrap(), "version");
        }
    }
}
