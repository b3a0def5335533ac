//! Calls to GitLab's REST and GraphQL APIs, and the one place where its answers become [`DemandError`]s.

use std::time::Duration;

use http::{Method, StatusCode, header::RETRY_AFTER};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::{
    demand::DemandError,
    net::{Client, ClientConfig, NetError, Priority, Reply, Request},
};

/// Longest part of an answer's words that an error repeats.
const WORDS: usize = 200;

/// A query, in order.
pub(super) type Query = Vec<(String, String)>;

/// Whether a call changes something: an unknown outcome means nothing for a reading, and much for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reads.
    Read,
    /// It changes something.
    Write,
}

/// The client, and the address that it calls.
pub(super) struct Api {
    client: Client,
    /// Of the address that GraphQL is below: the same server and token.
    above: Client,
    base: Url,
}

/// What GraphQL answers: data, or errors, or both.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

#[derive(Deserialize)]
struct GraphqlError {
    #[serde(default)]
    message: String,
}

impl Api {
    pub(super) fn new(config: ClientConfig) -> Result<Self, DemandError> {
        let base = Url::parse(&config.base).map_err(|error| DemandError::Rejected {
            why: format!("the address {:?}: {error}", config.base),
        })?;
        let above = ClientConfig {
            base: config.base.trim_end_matches("/v4").to_owned(),
            ..config.clone()
        };
        let made = |config| Client::new(config).map_err(|error| unsent(&error, Effect::Read));
        Ok(Self {
            client: made(config)?,
            above: made(above)?,
            base,
        })
    }

    /// The address that paths are appended to.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Requests sent so far.
    pub(super) fn calls(&self) -> u32 {
        self.client.calls() + self.above.calls()
    }

    /// Reads by GraphQL; with the answering server's clock. An answer with errors in it is none: what could not be read
    /// stands in it as if it were not there.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        query: &str,
        variables: Value,
        deadline: Instant,
    ) -> Result<(T, Option<Timestamp>), DemandError> {
        let mut request =
            Request::new(Method::POST, "/graphql").json(json!({"query": query, "variables": variables}));
        request.idempotent = true;
        let reply = timeout_at(deadline, self.above.send(request))
            .await
            .map_err(|_| DemandError::Unavailable {
                why: "the time that one observation may take is over".to_owned(),
            })?
            .map_err(|error| unsent(&error, Effect::Read))?;
        let reply = accept(reply, Effect::Read)?;
        let envelope: Envelope<T> = decode(&reply)?;
        if let Some(first) = envelope.errors.first() {
            return Err(DemandError::Rejected {
                why: cut(&format!("GraphQL: {}", first.message)),
            });
        }
        let data = envelope.data.ok_or_else(|| DemandError::Malformed {
            why: "GraphQL answered with neither data nor errors".to_owned(),
        })?;
        Ok((data, reply.date))
    }

    /// Sends it; any status is an answer.
    pub(super) async fn send(&self, request: Request) -> Result<Reply, DemandError> {
        let effect = effect(&request.method);
        self.client
            .send(request)
            .await
            .map_err(|error| unsent(&error, effect))
    }

    /// Reads one thing; none when GitLab does not know it.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, DemandError> {
        let reply = self.send(get(path, Query::new())).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        decode(&accept(reply, Effect::Read)?).map(Some)
    }
}

/// A reading.
pub(super) fn get(path: &str, query: Query) -> Request {
    let mut request = Request::get(path);
    request.query = query;
    request
}

/// A change that may be repeated. All of these lead to a delete or undo its beginning, so they share its priority.
pub(super) fn change(method: Method, path: &str, body: Option<Value>) -> Request {
    let mut request = Request::new(method, path);
    request.body = body;
    request.priority = Priority::Delete;
    request
}

/// A change that is made anew by each repetition.
pub(super) fn make(path: &str, body: Value) -> Request {
    Request::new(Method::POST, path).json(body)
}

/// Query pairs from words.
pub(super) fn query(pairs: &[(&str, &str)]) -> Query {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A project path (or id) as one segment of a path: `acme/app` becomes `acme%2Fapp`.
pub(super) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
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
            retry_after: retry_after(reply),
        },
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

fn unsent(error: &NetError, effect: Effect) -> DemandError {
    let why = error.to_string();
    match error {
        NetError::Insecure { .. } | NetError::BadUrl { .. } => DemandError::Rejected { why },
        NetError::Lost { .. } if effect == Effect::Write => DemandError::Ambiguous { why },
        NetError::Lost { .. } | NetError::NotSent { .. } | NetError::Tls { .. } => {
            DemandError::Unavailable { why }
        }
    }
}

/// GitLab's own words, which stand under one of three keys, or else the status'.
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

fn cut(text: &str) -> String {
    if text.chars().count() <= WORDS {
        return text.to_owned();
    }
    text.chars().take(WORDS).chain(['…']).collect()
}

fn retry_after(reply: &Reply) -> Option<Duration> {
    let seconds = reply.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
