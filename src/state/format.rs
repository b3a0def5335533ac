//! The text of a state and of a history: versioned, checked, the same at every place where they are kept.
//!
//! - A state of an earlier version is read as what it means now ([`upgrade`]); one of a later version is refused.
//! - What is read and what is written holds the invariants S1 to S11, or is refused with the one that it breaks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StateError;
use crate::model::{
    ids::{Serial, StackName},
    state::{History, STATE_VERSION, State},
    upgrade::{self, VersionError},
};

/// The version of the history's format that this program writes. Histories without one are of version 1.
const HISTORY_VERSION: u32 = 1;

/// What is read first, since all else may differ in another version.
#[derive(Deserialize)]
struct Versioned {
    version: Option<Value>,
}

/// Reads a state. `place` is for the errors.
///
/// # Errors
/// [`StateError::Newer`], [`StateError::OtherStack`], or [`StateError::Corrupt`] with line and column, or the invariant.
pub fn read_state(bytes: &[u8], stack: &StackName, place: &str) -> Result<State, StateError> {
    let corrupt = |why| StateError::Corrupt {
        place: place.to_owned(),
        why,
    };
    if bytes.is_empty() {
        return Err(corrupt("it is empty".to_owned()));
    }
    let read: Result<Versioned, _> = serde_json::from_slice(bytes);
    let Versioned { version } = read.map_err(|error| corrupt(error.to_string()))?;
    let version = upgrade::version(version.as_ref()).map_err(|error| match error {
        VersionError::Newer { found } => StateError::Newer {
            place: place.to_owned(),
            found,
            known: STATE_VERSION,
        },
        error => corrupt(error.to_string()),
    })?;
    let state: Result<State, String> = if version == STATE_VERSION {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    } else {
        // Read once as it is, for the line and column of what is wrong with it, which a value does not know.
        let value: Result<Value, _> = serde_json::from_slice(bytes);
        value.map_err(|error| error.to_string()).and_then(|value| {
            let upgraded = upgrade::upgrade(value).map_err(|error| error.to_string())?;
            serde_json::from_value(upgraded).map_err(|error| match serde_json::from_slice::<State>(bytes) {
                Err(located) => located.to_string(),
                Ok(_) => error.to_string(),
            })
        })
    };
    let state = state.map_err(corrupt)?;
    if state.stack != *stack {
        return Err(StateError::OtherStack {
            place: place.to_owned(),
            found: state.stack,
            expected: stack.clone(),
        });
    }
    state.check().map_err(|breach| StateError::Corrupt {
        place: place.to_owned(),
        why: breach.to_string(),
    })?;
    Ok(state)
}

/// The text of a state, for people too.
///
/// # Errors
/// When it has no JSON, which no state that holds its invariants has.
pub fn write_state(state: &State, place: &str) -> Result<Vec<u8>, StateError> {
    let mut text = serde_json::to_vec_pretty(state).map_err(|error| StateError::Corrupt {
        place: place.to_owned(),
        why: format!("what would be written is wrong, so it was not: {error}"),
    })?;
    text.push(b'\n');
    Ok(text)
}

/// Whether this state may be written where `found` is now: it is this stack's, holds its invariants, and follows.
/// A first state may have any serial: one that is put back goes on counting.
///
/// # Errors
/// [`StateError::Stale`], [`StateError::OtherStack`], or [`StateError::Corrupt`]: then nothing may be written.
pub fn may_write(
    state: &State,
    expected: Serial,
    found: Serial,
    stack: &StackName,
    place: &str,
) -> Result<(), StateError> {
    if found != expected {
        return Err(StateError::Stale { expected, found });
    }
    let refuse = |why: String| StateError::Corrupt {
        place: place.to_owned(),
        why: format!("what would be written is wrong, so it was not: {why}"),
    };
    state.check().map_err(|breach| refuse(breach.to_string()))?;
    if found > Serial(0) && Some(state.serial.0) != expected.0.checked_add(1) {
        return Err(refuse(format!(
            "serial {} does not follow {expected}",
            state.serial
        )));
    }
    if state.stack != *stack {
        return Err(StateError::OtherStack {
            place: place.to_owned(),
            found: state.stack.clone(),
            expected: stack.clone(),
        });
    }
    Ok(())
}

#[derive(Serialize)]
struct HistoryText<'a> {
    version: u32,
    #[serde(flatten)]
    history: &'a History,
}

/// Reads a history.
///
/// # Errors
/// [`StateError::Newer`] where a later program wrote it, and then it must not be overwritten either;
/// [`StateError::Corrupt`] where it is nothing: it may be begun anew.
pub fn read_history(bytes: &[u8], place: &str) -> Result<History, StateError> {
    let corrupt = |error: serde_json::Error| StateError::Corrupt {
        place: place.to_owned(),
        why: error.to_string(),
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
    let found = version.as_ref().and_then(Value::as_u64).unwrap_or_default();
    if found > u64::from(HISTORY_VERSION) {
        return Err(StateError::Newer {
            place: place.to_owned(),
            found,
            known: HISTORY_VERSION,
        });
    }
    serde_json::from_slice(bytes).map_err(corrupt)
}

/// The text of a history.
///
/// # Errors
/// When it has no JSON.
pub fn write_history(history: &History, place: &str) -> Result<Vec<u8>, StateError> {
    let text = HistoryText {
        version: HISTORY_VERSION,
        history,
    };
    let mut text = serde_json::to_vec(&text).map_err(|error| StateError::Corrupt {
        place: place.to_owned(),
        why: error.to_string(),
    })?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_without_a_version_is_read_and_one_of_a_later_version_is_refused() {
        assert_eq!(
            read_history(b"{\"machines\":{}}", "h").unwrap(),
            History::default()
        );
        let text = write_history(&History::default(), "h").unwrap();
        assert!(
            text.starts_with(b"{\"version\":1,"),
            "{}",
            String::from_utf8_lossy(&text)
        );
        assert_eq!(read_history(&text, "h").unwrap(), History::default());
        assert!(matches!(
            read_history(b"{\"version\":2,\"machines\":7}", "h"),
            Err(StateError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ));
        assert!(matches!(read_history(b"{", "h"), Err(StateError::Corrupt { .. })));
    }
}
