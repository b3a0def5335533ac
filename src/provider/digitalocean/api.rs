//! Sends to the DigitalOcean API and tells its refusals apart.
//!
//! Errors are `{"id", "message", "request_id"}`. The id is the status in words: most refusals of a create are 422
//! `unprocessable_entity`, whether the account is full, the region is out of machines or the body is wrong, so that the message
//! decides what the id leaves open. Its words are from the vendor's issue trackers; others that say 422 are `Rejected`.

use std::time::Duration;

use backon::BackoffBuilder as _;
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    net::{self, NetError, Reply, Request},
    provider::ProviderError,
};

/// Why a call did not do what it should, before it is known what that means for the caller.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// No answer.
    Net(NetError),
    /// An answer that says no.
    Refused(Refusal),
    /// An answer that cannot be read.
    Malformed(String),
}

/// An error answer.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
    request_id: Option<String>,
    retry_after: Option<Duration>,
}

impl Failed {
    /// Whether the cloud says that there is no such thing.
    pub(super) fn is_absent(&self) -> bool {
        self.has_status(StatusCode::NOT_FOUND)
    }

    /// Whether it was refused with this status.
    pub(super) fn has_status(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == status)
    }

    /// Whether a write may have been done nevertheless.
    pub(super) fn may_be_done(&self) -> bool {
        match self {
            Self::Net(NetError::Lost { .. }) | Self::Malformed(_) => true,
            Self::Net(_) => false,
            Self::Refused(refusal) => refusal.status.is_server_error(),
        }
    }

    /// Whether another action on the resource is under way, after which this may be done.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_busy())
    }

    /// What it means when nothing was to be changed.
    pub(super) fn of_read(self) -> ProviderError {
        match self {
            Self::Net(error) => ProviderError::Unavailable {
                why: error.to_string(),
            },
            Self::Malformed(why) => ProviderError::Malformed { why },
            Self::Refused(refusal) => refusal.meaning(),
        }
    }

    /// What it means when the change was sent before, and this was only to see how it went.
    pub(super) fn after_sending(self) -> ProviderError {
        ProviderError::Ambiguous {
            why: format!("made, and not to be seen: {}", self.of_read()),
        }
    }

    /// What it means when something was to be changed.
    pub(super) fn of_write(self) -> ProviderError {
        if !self.may_be_done() {
            return self.of_read();
        }
        let why = match self {
            Self::Net(error) => error.to_string(),
            Self::Malformed(why) => why,
            Self::Refused(refusal) => refusal.words(),
        };
        ProviderError::Ambiguous { why }
    }
}

impl Refusal {
    fn words(&self) -> String {
        let status = self.status.as_u16();
        match &self.request_id {
            Some(id) => format!("{} (HTTP {status}, request {id})", self.message),
            None => format!("{} (HTTP {status})", self.message),
        }
    }

    /// Whether the message has one of these.
    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }

    fn is_busy(&self) -> bool {
        self.status == StatusCode::UNPROCESSABLE_ENTITY && self.says(&["pending event", "currently locked"])
    }

    /// Whether the account may have no more: "… will exceed your droplet limit", "This size is currently restricted …".
    fn is_quota(&self) -> bool {
        self.says(&["limit", "quota"]) && self.says(&["exceed", "reach", "droplet limit"])
            || self.says(&["restricted", "maximum number"])
    }

    /// Whether there is none to sell: "Size is not available in this region.", "… capacity …", "Droplet creation is disabled …".
    /// An image that is not in the region is another matter.
    fn is_capacity(&self) -> bool {
        !self.says(&["image"])
            && (self.says(&["capacity", "sold out"])
                || self.says(&["unavailable", "not available", "disabled"])
                    && self.says(&["region", "size", "droplet"]))
    }

    fn meaning(self) -> ProviderError {
        let why = self.words();
        match self.code.as_str() {
            "unauthorized" => return ProviderError::Unauthorized { why },
            "too_many_requests" => {
                return ProviderError::Throttled {
                    retry_after: self.retry_after,
                };
            }
            _ => {}
        }
        match self.status {
            StatusCode::FORBIDDEN if self.is_quota() => ProviderError::Quota { why },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProviderError::Unauthorized { why },
            StatusCode::TOO_MANY_REQUESTS => ProviderError::Throttled {
                retry_after: self.retry_after,
            },
            StatusCode::UNPROCESSABLE_ENTITY if self.is_busy() => ProviderError::Unavailable { why },
            StatusCode::UNPROCESSABLE_ENTITY if self.is_quota() => ProviderError::Quota { why },
            StatusCode::UNPROCESSABLE_ENTITY if self.is_capacity() => ProviderError::NoCapacity { why },
            status if status.is_server_error() => ProviderError::Unavailable { why },
            _ => ProviderError::Rejected { code: self.code, why },
        }
    }
}

/// The API with our credential.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: net::Client,
}

impl Api {
    pub(super) fn new(client: net::Client) -> Self {
        Self { client }
    }

    /// Sends; an answer is a success.
    pub(super) async fn call(&self, request: Request) -> Result<Reply, Failed> {
        let reply = self.client.send(request).await.map_err(Failed::Net)?;
        if reply.status.is_success() {
            Ok(reply)
        } else {
            Err(Failed::Refused(refusal(&reply)))
        }
    }

    /// Asks for this, once.
    pub(super) async fn get<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failed> {
        let path = request.path.clone();
        decode(&self.call(request).await?, &path)
    }

    /// Asks for what may not be there.
    pub(super) async fn find<T: DeserializeOwned>(&self, request: Request) -> Result<Option<T>, Failed> {
        match self.get(request).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.is_absent() => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Sends, and sends again for at most `patience` while another action holds the resource.
    pub(super) async fn call_patiently(&self, request: Request, patience: Duration) -> Result<Reply, Failed> {
        let end = tokio::time::Instant::now() + patience;
        let mut waits = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(4))
            .without_max_times()
            .build();
        loop {
            let answer = self.call(request.clone()).await;
            let busy = answer.as_ref().err().is_some_and(Failed::is_busy);
            match waits.next() {
                Some(wait) if busy && tokio::time::Instant::now() + wait < end => {
                    tokio::time::sleep(wait).await;
                }
                _ => return answer,
            }
        }
    }
}

/// The body as this; `what` says what it was.
pub(super) fn decode<T: DeserializeOwned>(reply: &Reply, what: &str) -> Result<T, Failed> {
    reply
        .json()
        .map_err(|e| Failed::Malformed(format!("{what}: {e}")))
}

fn refusal(reply: &Reply) -> Refusal {
    #[derive(Deserialize)]
    struct Body {
        id: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        request_id: Option<String>,
    }
    let (code, message, request_id) = match reply.json::<Body>() {
        Ok(body) => (body.id, body.message, body.request_id),
        // A proxy's page, or nothing.
        Err(_) => (
            format!("http_{}", reply.status.as_u16()),
            reply.status.canonical_reason().unwrap_or("an error").to_owned(),
            None,
        ),
    };
    Refusal {
        status: reply.status,
        code,
        message,
        request_id,
        retry_after: net::retry_after(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Failed {
        Failed::Refused(refusal(&Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            date: None,
        }))
    }

    fn said(status: u16, code: &str, message: &str) -> Failed {
        let body = serde_json::json!({"id": code, "message": message, "request_id": "r-1"});
        refused(status, &body.to_string())
    }

    #[test]
    fn every_refusal_is_a_decision() {
        use ProviderError as P;
        type Check = fn(&ProviderError) -> bool;
        let no_capacity: Check = |e| matches!(e, P::NoCapacity { .. });
        let quota: Check = |e| matches!(e, P::Quota { .. });
        let rejected: Check = |e| matches!(e, P::Rejected { .. });
        let unauthorized: Check = |e| matches!(e, P::Unauthorized { .. });
        let unavailable: Check = |e| matches!(e, P::Unavailable { .. });
        let ambiguous: Check = |e| matches!(e, P::Ambiguous { .. });
        let unprocessable = "unprocessable_entity";
        let cases: [(u16, &str, &str, Check); 18] = [
            (
                422,
                unprocessable,
                "creating this/these droplet(s) will exceed your droplet limit",
                quota,
            ),
            (
                422,
                unprocessable,
                "This size is currently restricted, please contact support.",
                quota,
            ),
            (403, "forbidden", "You have reached the droplet limit", quota),
            (
                422,
                unprocessable,
                "Size is not available in this region.",
                no_capacity,
            ),
            (422, unprocessable, "size is unavailable", no_capacity),
            (422, unprocessable, "Region is not available", no_capacity),
            (
                422,
                unprocessable,
                "Not enough capacity in this region",
                no_capacity,
            ),
            (
                422,
                unprocessable,
                "Droplet creation in this region is disabled",
                no_capacity,
            ),
            (
                422,
                unprocessable,
                "The image you specified is not available in the selected region",
                rejected,
            ),
            (
                422,
                unprocessable,
                "You specified an invalid size for Droplet creation.",
                rejected,
            ),
            (
                422,
                unprocessable,
                "Name Only valid hostname characters are allowed.",
                rejected,
            ),
            (
                422,
                unprocessable,
                "Droplet already has a pending event.",
                unavailable,
            ),
            (
                404,
                "not_found",
                "The resource you were accessing could not be found.",
                rejected,
            ),
            (409, "conflict", "duplicate name", rejected),
            (401, "unauthorized", "Unable to authenticate you", unauthorized),
            (
                403,
                "forbidden",
                "You do not have access for the attempted action.",
                unauthorized,
            ),
            (500, "server_error", "Unexpected server-side error", ambiguous),
            (503, "service_unavailable", "Service Unavailable", ambiguous),
        ];
        for (status, code, message, check) in cases {
            let error = said(status, code, message).of_write();
            assert!(check(&error), "{message}: {error}");
        }
        let throttled = said(429, "too_many_requests", "API Rate limit exceeded.").of_write();
        assert_eq!(throttled, P::Throttled { retry_after: None });
        assert!(unavailable(&said(500, "server_error", "m").of_read()));
    }

    #[test]
    fn an_error_names_the_request_so_that_the_vendor_can_find_it() {
        let error = said(422, "unprocessable_entity", "no").of_write();
        assert!(error.to_string().contains("request r-1"), "{error}");
    }

    #[test]
    fn a_page_of_a_proxy_is_a_refusal_too() {
        let error = refused(502, "<html>Bad Gateway</html>").of_write();
        assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error}");
        assert!(matches!(
            refused(407, "").of_write(),
            ProviderError::Rejected { .. }
        ));
    }
}
