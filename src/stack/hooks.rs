//! What is called when something happens to a machine of a pool, and how machines are logged in to.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::model::metrics::AddressKind;

/// Something to do at some moments of a machine's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When; never empty.
    pub on: Vec<Moment>,
    /// What.
    pub call: HookCall,
    /// How long one try may take.
    pub timeout: SignedDuration,
    /// How often it is tried again.
    pub retries: u32,
    /// What a failure means.
    pub on_failure: OnFailure,
}

/// A moment of a machine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the cloud is asked for it.
    BeforeCreate,
    /// Once it has become ready; again where that was forgotten.
    AfterReady,
    /// Before it is deleted, once it is known to be idle.
    BeforeDelete,
    /// After it is gone.
    AfterDelete,
    /// When something about it failed: a create, a hook, a machine that never became ready.
    OnError,
}

impl Moment {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeCreate => "before_create",
            Self::AfterReady => "after_ready",
            Self::BeforeDelete => "before_delete",
            Self::AfterDelete => "after_delete",
            Self::OnError => "on_error",
        }
    }
}

/// The wait before a hook's second try.
pub const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// The longest wait between two tries of a hook, jitter aside: a receiver that needs longer to come back is met by the next tick.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(15);

/// What a hook does. Each is given the event as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookCall {
    /// A program of this host, the event on its standard input; relative to the stack file's folder where it has a slash.
    Command(Vec<String>),
    /// A request, the event as its body.
    Http(HttpCall),
    /// A command on the machine itself, over SSH, the event on its standard input.
    Ssh(String),
}

impl fmt::Display for HookCall {
    /// Enough to know it by: the program, the host, the machine's own first word. Arguments may be nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => f.write_str(words.first().map(String::as_str).unwrap_or_default()),
            Self::Http(call) => {
                let url = url::Url::parse(&call.url).ok();
                let host = url.as_ref().and_then(url::Url::host_str).unwrap_or_default();
                write!(f, "{} to {host}", call.method)
            }
            Self::Ssh(command) => {
                let first = command.split_whitespace().next().unwrap_or_default();
                write!(f, "{first} on the machine")
            }
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCall {
    /// Where to; https, or http to this host.
    pub url: String,
    /// `POST` or `PUT`.
    pub method: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretRef>,
    /// Other headers; no secrets.
    pub headers: BTreeMap<String, String>,
}

/// What a failure of a hook means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// What it goes before is not done now; what it goes after is tried again by the next tick, where that can be.
    #[default]
    Stop,
    /// It is reported, and all goes on.
    Continue,
}

/// How machines are logged in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// The private key's file, relative to the stack file's folder; none: what the client itself finds.
    pub key_file: Option<PathBuf>,
    /// The port.
    pub port: u16,
    /// Which address.
    pub address: AddressKind,
    /// A host to go through, as `ssh -J` takes it.
    pub jump: Option<String>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            user: "root".to_owned(),
            key_file: None,
            port: 22,
            address: AddressKind::default(),
            jump: None,
        }
    }
}
