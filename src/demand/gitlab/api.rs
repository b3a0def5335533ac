//! Calls to GitLab's REST and GraphQL APIs.

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub(super) use crate::demand::answer::{Effect, accept, date, decode, refusal};
use crate::{
    demand::{
        DemandError,
        answer::{self, cut, unsent},
    },
    net::{Client, ClientConfig, Priority, Reply, Request},
};

/// A query, in order.
pub(super) type Query = Vec<(String, String)>;

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
        answer::send(&self.client, request).await
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
