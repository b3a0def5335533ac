//! What is called when something happens to a machine, and how machines are logged in to.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    super::{
        SecretRef,
        hooks::{Moment, OnFailure},
    },
    DurationText,
};
use crate::model::metrics::AddressKind;

/// Something to do at some moments of a machine's life: one of `command`, `http` and `ssh`. Each is given the event as JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hook")]
pub(in crate::stack) struct RawHook {
    /// When.
    #[schemars(required, length(min = 1), extend("examples" = [["after_ready", "before_delete"]]))]
    pub(in crate::stack) on: Option<Vec<Moment>>,
    /// A program of this host with its arguments, the event on its standard input. One with a slash is found from the stack file's folder.
    #[serde(default)]
    #[schemars(extend("examples" = [["./register.sh"]]))]
    pub(in crate::stack) command: Vec<String>,
    /// A request, the event as its body.
    pub(in crate::stack) http: Option<RawHttpCall>,
    /// A command on the machine, over SSH, the event on its standard input.
    #[schemars(extend("examples" = ["systemctl stop web"]))]
    pub(in crate::stack) ssh: Option<String>,
    /// How long one try may take.
    #[serde(default = "half_a_minute")]
    pub(in crate::stack) timeout: DurationText,
    /// How often it is tried again.
    #[serde(default)]
    #[schemars(range(max = 10))]
    pub(in crate::stack) retries: u32,
    /// What a failure means: `stop` keeps what it goes before from being done, `continue` reports it and goes on.
    #[serde(default)]
    pub(in crate::stack) on_failure: OnFailure,
}

/// A request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpCall")]
pub(in crate::stack) struct RawHttpCall {
    /// Where to. Plain http goes only to this machine.
    #[schemars(required, extend("examples" = ["https://hooks.example.com/runners"]))]
    pub(in crate::stack) url: Option<String>,
    /// `POST` or `PUT`.
    #[serde(default = "post")]
    pub(in crate::stack) method: String,
    /// Sent as `Authorization: Bearer …`.
    pub(in crate::stack) token: Option<SecretRef>,
    /// Other headers. No secrets.
    #[serde(default)]
    pub(in crate::stack) headers: BTreeMap<String, String>,
}

/// How machines are logged in to, by `runfleet ssh`, `runfleet logs` and hooks that say `ssh`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ssh")]
pub(in crate::stack) struct RawSsh {
    /// As whom.
    #[serde(default = "root")]
    pub(in crate::stack) user: String,
    /// The private key's file, relative to the stack file's folder. Without: what the client finds itself.
    #[schemars(extend("examples" = ["/root/.ssh/id_ed25519"]))]
    pub(in crate::stack) key_file: Option<PathBuf>,
    /// The port.
    #[serde(default = "ssh_port")]
    #[schemars(range(min = 1))]
    pub(in crate::stack) port: u16,
    /// Which address of a machine.
    #[serde(default)]
    pub(in crate::stack) address: AddressKind,
    /// A host to go through.
    #[schemars(extend("examples" = ["ops@bastion.example.com"]))]
    pub(in crate::stack) jump: Option<String>,
}

impl Default for RawSsh {
    fn default() -> Self {
        Self {
            user: root(),
            key_file: None,
            port: ssh_port(),
            address: AddressKind::default(),
            jump: None,
        }
    }
}

fn half_a_minute() -> DurationText {
    DurationText("30s".to_owned())
}

fn post() -> String {
    "POST".to_owned()
}

fn root() -> String {
    "root".to_owned()
}

fn ssh_port() -> u16 {
    22
}
