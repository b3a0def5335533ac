//! A saved plan: what `plan --out FILE` writes, and `apply FILE` reads, checks and does.
//!
//! The file is one JSON object: [`SavedPlan`] with a `digest` beside it, and a `mac` where the stack has a `plan_key`.
//! The digest is the SHA-256 of the object's canonical form (keys in order, no white space) without these two; the MAC
//! is the HMAC-SHA256 of the same text. A digest tells a damaged file from a whole one, and only a MAC tells who made
//! it. There is no secret in the file: join tokens are minted by apply, and the rest of a plan is data of the stack.
//!
//! What a file says is judged in two steps. [`SavedPlan::parse`] and [`SavedPlan::admit`] need no look at the world;
//! [`check`] is given a fresh snapshot, and says of each resource that the plan touches whether it is as it was.

mod difference;
mod fits;
mod room;
mod same;

pub use difference::Difference;
pub use fits::check;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Plan, Selection};
use crate::model::ids::StackName;

/// The file's `format`.
pub const FORMAT: &str = "runfleet-plan";
/// The file's `format_version`: rises when a key changes its meaning. Another one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// A plan as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// [`FORMAT`]
    pub format: String,
    /// [`FORMAT_VERSION`]
    pub format_version: u32,
    /// The version of the program that made it; another one may mean something else by it.
    pub tool_version: String,
    /// The SHA-256 of the stack file's bytes, in hex.
    pub stack_file: String,
    /// When it is too old to be applied.
    pub expires: Timestamp,
    /// What a person asked for when it was made.
    pub selection: Selection,
    /// The plan; its keys stand beside these.
    #[serde(flatten)]
    pub plan: Plan,
    /// The file's own digest, in hex; empty until it has been written or read.
    #[serde(skip)]
    pub digest: String,
}

/// Why a file is no plan, or not one to apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SavedError {
    /// It is not a plan file at all.
    #[error("it is not a plan file: {why}")]
    NotAPlan {
        /// What is wrong.
        why: String,
    },
    /// Another version of the format.
    #[error("it has format_version {found}, and this version of runfleet reads {FORMAT_VERSION}")]
    Version {
        /// The file's.
        found: u64,
    },
    /// Its content is not what was written.
    #[error("its digest does not fit its content: it was damaged, or edited")]
    Digest,
    /// The stack wants a MAC.
    #[error("it has no MAC, and the stack has a plan_key")]
    NoMac,
    /// Its MAC was made with another key, or for another content.
    #[error("its MAC is not of the stack's plan_key: it was made elsewhere, or edited")]
    Mac,
    /// It is too old.
    #[error("it expired at {expires}")]
    Expired {
        /// When.
        expires: Timestamp,
    },
    /// It is another stack's.
    #[error("it is a plan of stack {found}, and this is {ours}")]
    OtherStack {
        /// The plan's.
        found: StackName,
        /// The one that is meant.
        ours: StackName,
    },
    /// Another version of the program made it.
    #[error("runfleet {found} made it, and this is {ours}")]
    OtherTool {
        /// The plan's.
        found: String,
        /// This one.
        ours: String,
    },
    /// The stack file was edited.
    #[error("the stack file has changed since")]
    OtherStackFile,
}

impl SavedPlan {
    /// A plan with what it was made from.
    pub fn new(plan: Plan, stack_file: &str, selection: Selection) -> Self {
        let mut plan = plan;
        // Hundredths of a per cent tell enough, and read back as they were written.
        plan.api.quota_share = plan.api.quota_share.map(|share| (share * 100.0).round() / 100.0);
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            stack_file: stack_file.to_owned(),
            expires: plan.made_at.checked_add(plan.expires_in).unwrap_or(plan.made_at),
            selection,
            plan,
            digest: String::new(),
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never for a plan that `decide` made: all its keys are text.
    pub fn to_text(&self, key: Option<&SecretString>) -> Result<String, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        let text = canonical(&value);
        if let Value::Object(map) = &mut value {
            map.insert("digest".to_owned(), Value::String(digest(&text)));
            if let Some(key) = key {
                map.insert("mac".to_owned(), Value::String(hex::encode(mac(&text, key))));
            }
        }
        let mut text = serde_json::to_string_pretty(&value)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a file. With a key its MAC must be of that key; without one its digest must fit.
    ///
    /// # Errors
    /// For any bytes that [`Self::to_text`] did not make, or not with this key.
    pub fn parse(bytes: &[u8], key: Option<&SecretString>) -> Result<Self, SavedError> {
        let not = |why: String| SavedError::NotAPlan { why };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| not(error.to_string()))?;
        let Value::Object(mut map) = value else {
            return Err(not("it is not a JSON object".to_owned()));
        };
        if map.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(not(format!("its format is not {FORMAT}")));
        }
        match map.get("format_version").and_then(Value::as_u64) {
            Some(found) if found != u64::from(FORMAT_VERSION) => return Err(SavedError::Version { found }),
            Some(_) => {}
            None => return Err(not("it has no format_version".to_owned())),
        }
        let (said, signed) = (text_of(&mut map, "digest"), text_of(&mut map, "mac"));
        let value = Value::Object(map);
        let text = canonical(&value);
        let digest = digest(&text);
        if said.as_deref() != Some(digest.as_str()) {
            return Err(SavedError::Digest);
        }
        if let Some(key) = key {
            let signed = signed.ok_or(SavedError::NoMac)?;
            let signed = hex::decode(signed).map_err(|_| SavedError::Mac)?;
            hasher(&text, key)
                .verify_slice(&signed)
                .map_err(|_| SavedError::Mac)?;
        }
        let mut saved: Self = serde_json::from_value(value).map_err(|error| not(error.to_string()))?;
        saved.digest = digest;
        Ok(saved)
    }

    /// Whether it may be applied to this stack now, as far as that shows without a look at the world.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn admit(&self, stack: &StackName, stack_file: &str, now: Timestamp) -> Result<(), SavedError> {
        let ours = env!("CARGO_PKG_VERSION");
        if self.plan.stack != *stack {
            return Err(SavedError::OtherStack {
                found: self.plan.stack.clone(),
                ours: stack.clone(),
            });
        }
        if self.tool_version != ours {
            return Err(SavedError::OtherTool {
                found: self.tool_version.clone(),
                ours: ours.to_owned(),
            });
        }
        if self.stack_file != stack_file {
            return Err(SavedError::OtherStackFile);
        }
        if now >= self.expires {
            return Err(SavedError::Expired {
                expires: self.expires,
            });
        }
        Ok(())
    }
}

fn text_of(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn hasher(text: &str, key: &SecretString) -> Hmac<Sha256> {
    // HMAC takes a key of any length: a longer one than a block is hashed first, as RFC 2104 has it.
    let key = key.expose_secret().as_bytes();
    let mut hasher = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| Hmac::<Sha256>::new(&Sha256::digest(key).into_iter().collect()));
    hasher.update(text.as_bytes());
    hasher
}

fn mac(text: &str, key: &SecretString) -> Vec<u8> {
    hasher(text, key).finalize().into_bytes().to_vec()
}

/// JSON with every object's keys in order and no white space.
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (at, key) in keys.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write(map.get(key).unwrap_or(&Value::Null), out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests;
