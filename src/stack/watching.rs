//! What a stack says of `runfleet watch`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::SecretRef;

/// Where the watch tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// Where it listens; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// What a reader sends as a bearer token; always there where `listen` is not this machine only.
    pub secret: Option<SecretRef>,
}
