//! The event that a hook is given, as JSON: `docs/schemas/hook.json`.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::stack::hooks::Moment;

/// Rises when a key changes its meaning; a new key does not raise it.
pub const FORMAT_VERSION: &str = "1.0";

/// Something that happened, or is about to, to a machine; or that a pool's CI does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HookEvent {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// When.
    pub event: Moment,
    /// The stack's name.
    pub stack: String,
    /// The pool's name.
    pub pool: String,
    /// Which machine; null where it is about the pool's CI.
    pub machine: Option<EventMachine>,
    /// Why it is made, was kept, or goes, for a person.
    pub reason: String,
    /// The same for a program: docs/reasons.md lists them.
    pub reason_code: String,
    /// What went wrong; only at `on_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When this was told, by the clock of the host that runfleet runs on.
    #[schemars(with = "String")]
    pub time: Timestamp,
}

/// The machine of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventMachine {
    /// `machine.linux/brave-otter`
    pub address: String,
    /// Its name in the cloud.
    pub name: String,
    /// The cloud's id of it; null before it is made.
    pub id: Option<String>,
    /// The provider's key in the stack file. Before the machine is made: that of the offering that is tried first.
    pub provider: Option<String>,
    /// Its type; likewise.
    #[serde(rename = "type")]
    pub machine_type: Option<String>,
    /// Its location; likewise.
    pub location: Option<String>,
    /// Where it answers, public addresses first; empty before it is made, and where its cloud was not read.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    /// What an hour costs, as a decimal; null where that is not known.
    pub price_hourly: Option<String>,
    /// The price's currency.
    pub currency: Option<String>,
}

impl HookEvent {
    /// As a hook is given it: one line with its end.
    pub fn to_json(&self) -> Vec<u8> {
        // It is made of text, numbers and times: serde_json can write each of them.
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}
