//! Sends to the Hetzner API and tells its refusals apart.

use std::time::Duration;

use backon::BackoffBuilder as _;
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    net::{self, NetError, Reply, Request},
    provider::ProviderError,
};

/// Codes of refusals that pass when another action on the resource has ended.
pub(super) const BUSY: &[&str] = &["conflict", "locked"];

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
    retry_after: Option<Duration>,
}

impl Failed {
    /// The API's code, where it gave one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    /// Whether the cloud says that there is no such thing.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND)
    }

    /// Whether a write may have been done nevertheless.
    pub(super) fn may_be_done(&self) -> bool {
        match self {
            Self::Net(NetError::Lost { .. }) | Self::Malformed(_) => true,
            Self::Net(_) => false,
            Self::Refused(refusal) => refusal.status.is_server_error(),
        }
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
        format!("{} (HTTP {})", self.message, self.status.as_u16())
    }

    fn meaning(self) -> ProviderError {
        let why = self.words();
        // By code first: the statuses that the API's documents give for a code have changed over time.
        match self.code.as_str() {
            "resource_unavailable" | "placement_error" => return ProviderError::NoCapacity { why },
            "resource_limit_exceeded" => return ProviderError::Quota { why },
            "unauthorized" | "token_readonly" | "forbidden" => return ProviderError::Unauthorized { why },
            "conflict" | "locked" | "maintenance" => return ProviderError::Unavailable { why },
            _ => {}
        }
        match self.status {
            StatusCode::UNAUTHORIZED => ProviderError::Unauthorized { why },
            StatusCode::TOO_MANY_REQUESTS => ProviderError::Throttled {
                retry_after: self.retry_after,
            },
            status if status.is_server_error() => ProviderError::Unavailable { why },
            _ => ProviderError::Rejected { code: self.code, why },
        }
    }
}

/// What an action's failure means, once nothing of it is left.
pub(super) fn action_failure(code: &str, message: &str) -> ProviderError {
    let why = format!("{message} ({code})");
    match code {
        "resource_unavailable" | "placement_error" => ProviderError::NoCapacity { why },
        "resource_limit_exceeded" => ProviderError::Quota { why },
        _ => ProviderError::Unavailable { why },
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

    /// Sends, and sends again for at most `patience` while the answer is one of these codes: all of them say that nothing was done.
    pub(super) async fn call_patiently(
        &self,
        request: Request,
        codes: &[&str],
        patience: Duration,
    ) -> Result<Reply, Failed> {
        let end = tokio::time::Instant::now() + patience;
        let mut waits = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(4))
            .without_max_times()
            .build();
        loop {
            let answer = self.call(request.clone()).await;
            let busy = answer
                .as_ref()
                .err()
                .and_then(Failed::code)
                .is_some_and(|code| codes.contains(&code));
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
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        #[serde(default)]
        message: String,
    }
    let (code, message) = match reply.json::<Body>() {
        Ok(Body { error }) => (error.code, error.message),
        // A proxy's page, or nothing.
        Err(_) => (
            format!("http_{}", reply.status.as_u16()),
            reply.status.canonical_reason().unwrap_or("an error").to_owned(),
        ),
    };
    Refusal {
        status: reply.status,
        code,
        message,
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

    fn coded(status: u16, code: &str) -> Failed {
        refused(
            status,
            &format!(r#"{{"error":{{"code":"{code}","message":"m","details":null}}}}"#),
        )
    }

    #[test]
    fn every_refusal_is_a_decision() {
        use ProviderError as P;
        type Check = fn(&ProviderError) -> bool;
        let cases: [(u16, &str, Check); 13] = [
            (412, "resource_unavailable", |e| matches!(e, P::NoCapacity { .. })),
            (422, "placement_error", |e| matches!(e, P::NoCapacity { .. })),
            (403, "resource_limit_exceeded", |e| matches!(e, P::Quota { .. })),
            (401, "unauthorized", |e| matches!(e, P::Unauthorized { .. })),
            (401, "token_readonly", |e| matches!(e, P::Unauthorized { .. })),
            (403, "forbidden", |e| matches!(e, P::Unauthorized { .. })),
            (429, "rate_limit_exceeded", |e| matches!(e, P::Throttled { .. })),
            (423, "locked", |e| matches!(e, P::Unavailable { .. })),
            (409, "conflict", |e| matches!(e, P::Unavailable { .. })),
            (423, "protected", |e| matches!(e, P::Rejected { .. })),
            (422, "invalid_input", |e| matches!(e, P::Rejected { .. })),
            (500, "server_error", |e| matches!(e, P::Ambiguous { .. })),
            (504, "timeout", |e| matches!(e, P::Ambiguous { .. })),
        ];
        for (status, code, check) in cases {
            let error = coded(status, code).of_write();
            assert!(check(&error), "{code}: {error}");
        }
        assert!(matches!(
            coded(500, "server_error").of_read(),
            P::Unavailable { .. }
        ));
    }

    #[test]
    fn a_page_of_a_proxy_is_a_refusal_too() {
        let error = refused(502, "<html>Bad Gateway</html>");
        assert_eq!(error.code(), Some("http_502"));
        assert!(matches!(error.of_write(), ProviderError::Ambiguous { .. }));
        assert!(matches!(
            refused(407, "").of_write(),
            ProviderError::Rejected { .. }
        ));
    }
}
