//! From the answers of a CI's HTTP API to [`DemandError`]s, in one place for all of them.
//!
//! A status means the same at each: 401 and 403 that the token does not do, 429 to come back later, 501 that this server
//! has no such thing, any other 5xx nothing certain. What a change without an answer may have done is never guessed.

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::DemandError;
use crate::net::{self, Client, NetError, Reply, Request};

/// Longest part of an answer's words that an error repeats.
const WORDS: usize = 200;

/// Whether a call changes something: an unknown outcome means nothing for a reading, and much for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reads.
    Read,
    /// It changes something.
    Write,
}

/// Sends it; any status is an answer.
pub(super) async fn send(client: &Client, request: Request) -> Result<Reply, DemandError> {
    let effect = effect(&request.method);
    client.send(request).await.map_err(|error| unsent(&error, effect))
}

/// The answer, if it is a success.
pub(super) fn accept(reply: Reply, effect: Effect) -> Result<Reply, DemandError> {
    if reply.status.is_success() {
        Ok(reply)
    } else {
        Err(refusal(&reply, effect))
    }
}

/// What a status that is no success means.
pub(super) fn refusal(reply: &Reply, effect: Effect) -> DemandError {
    let why = words(reply);
    match reply.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => DemandError::Unauthorized { why },
        StatusCode::TOO_MANY_REQUESTS => DemandError::Throttled {
            retry_after: net::retry_after(reply),
        },
        // Whatever was asked for, this server does not do it.
        StatusCode::NOT_IMPLEMENTED => DemandError::Rejected { why },
        status if status.is_server_error() && effect == Effect::Write => DemandError::Ambiguous { why },
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            DemandError::Unavailable { why }
        }
        _ => DemandError::Rejected { why },
    }
}

/// The answering server's clock.
pub(super) fn date(reply: &Reply) -> Result<Timestamp, DemandError> {
    reply.date.ok_or_else(|| DemandError::Malformed {
        why: "an answer without a Date header, which ages are measured by".to_owned(),
    })
}

/// The body, understood. Never for a body that holds a secret: the error may repeat a value.
pub(super) fn decode<T: DeserializeOwned>(reply: &Reply) -> Result<T, DemandError> {
    reply.json().map_err(|error| DemandError::Malformed {
        why: cut(&error.to_string()),
    })
}

fn effect(method: &Method) -> Effect {
    if method == Method::GET {
        Effect::Read
    } else {
        Effect::Write
    }
}

/// What the lack of an answer means.
pub(super) fn unsent(error: &NetError, effect: Effect) -> DemandError {
    let why = error.to_string();
    match error {
        NetError::Insecure { .. } | NetError::BadUrl { .. } => DemandError::Rejected { why },
        NetError::Lost { .. } if effect == Effect::Write => DemandError::Ambiguous { why },
        NetError::Lost { .. } | NetError::NotSent { .. } | NetError::Tls { .. } => {
            DemandError::Unavailable { why }
        }
    }
}

/// The CI's own words, which stand under one of three keys, or else the status'.
fn words(reply: &Reply) -> String {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let said = body.as_ref().and_then(|body| {
        ["message", "error_description", "error"]
            .iter()
            .find_map(|key| body.get(key))
    });
    let code = reply.status.as_str();
    match said {
        Some(Value::String(text)) if text.starts_with(code) => cut(text),
        Some(Value::String(text)) => cut(&format!("{code} {text}")),
        Some(other) => cut(&format!("{code} {other}")),
        None => reply.status.to_string(),
    }
}

/// The beginning of a text that somebody else wrote.
pub(super) fn cut(text: &str) -> String {
    if text.chars().count() <= WORDS {
        return text.to_owned();
    }
    text.chars().take(WORDS).chain(['…']).collect()
}
