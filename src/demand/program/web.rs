//! URLs: demand by GET, all else by POST with the request as its body.
//!
//! A plain document at a URL is a demand as good as any: `stack` and `cursor` are in the query, which it may pass over.
//! A 410 says that what is asked about is gone, which is what `cordon` and `forget` are for; a 404 does not, since a slip in the
//! URL gives one too.

use std::collections::BTreeMap;

use async_trait::async_trait;
use http::{Method, StatusCode};
use url::Url;

use super::{
    super::answer::{self, Effect, accept, unsent},
    Body, Reply, Transport, effect,
    request::{Act, Call, Request},
};
use crate::{
    demand::DemandError,
    net::{self, Client, ClientConfig, Priority},
    stack::source,
};

/// The URLs of one CI.
#[derive(Debug)]
pub(super) struct Web {
    /// The client of its origin, and the path and query there.
    places: BTreeMap<Call, (Client, String)>,
}

impl Web {
    /// Nothing is sent yet. `like` says how each origin is called.
    pub(super) fn new(calls: &source::Program, root: &str, like: &ClientConfig) -> Result<Self, DemandError> {
        let mut origins: BTreeMap<String, Client> = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (word, what) in calls.each() {
            let (Some(call), source::Call::Url(text)) = (Call::of(word), what) else {
                continue;
            };
            let url = resolve(root, text).ok_or_else(|| DemandError::Rejected {
                why: format!("`{}_url` is no URL", call.as_str()),
            })?;
            let base = url.origin().ascii_serialization();
            let known = origins.get(&base).cloned();
            let client = known.map_or_else(|| client_at(base.clone(), like), Ok)?;
            origins.insert(base, client.clone());
            let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
            places.insert(call, (client, format!("{}{query}", url.path())));
        }
        Ok(Self { places })
    }
}

/// A client of one origin.
fn client_at(base: String, like: &ClientConfig) -> Result<Client, DemandError> {
    let config = ClientConfig { base, ..like.clone() };
    Client::new(config).map_err(|error| unsent(&error, Effect::Read))
}

/// A URL that is whole, or one that begins with the CI's root.
pub fn resolve(root: &str, text: &str) -> Option<Url> {
    if text.starts_with('/') {
        return Url::parse(&format!("{}{text}", root.trim_end_matches('/'))).ok();
    }
    Url::parse(text).ok()
}

#[async_trait]
impl Transport for Web {
    async fn call(&self, request: &Request<'_>) -> Result<Reply, DemandError> {
        let call = request.call();
        let (client, path) = self.places.get(&call).ok_or_else(|| DemandError::Rejected {
            why: format!("there is no `{}`", self.key(call)),
        })?;
        let mut sent = if let Act::Demand { cursor, .. } = &request.act {
            let sent = net::Request::get(path.as_str()).query("stack", request.stack);
            match cursor {
                Some(cursor) => sent.query("cursor", *cursor),
                None => sent,
            }
        } else {
            let body = serde_json::to_value(request).map_err(|error| DemandError::Rejected {
                why: error.to_string(),
            })?;
            net::Request::new(Method::POST, path.as_str()).json(body)
        };
        sent.idempotent = call != Call::Register;
        if request.is_urgent() {
            sent.priority = Priority::Delete;
        }
        let reply = answer::send(client, sent).await?;
        let is_gone = reply.status == StatusCode::GONE && matches!(call, Call::Cordon | Call::Forget);
        if is_gone {
            return Ok(Reply {
                body: Body(Vec::new()),
                at: reply.date,
            });
        }
        let reply = accept(reply, effect(call))?;
        Ok(Reply {
            body: Body(reply.body),
            at: reply.date,
        })
    }

    async fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn key(&self, call: Call) -> String {
        format!("{}_url", call.as_str())
    }
}
