//! The five requests of an HTTP state, and what their answers mean.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use md5::{Digest as _, Md5};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    super::{RemoteError, StateError, remote::unwritable},
    config::HttpTarget,
    wire::{Document, WireLock},
};
use crate::{
    model::ids::StackName,
    net::{Auth, Client, ClientConfig, NetError, Reply, Request},
};

/// One try of one call: a state of 10,000 resources has 15 MB.
const CALL: std::time::Duration = std::time::Duration::from_secs(30);
/// All tries of one call.
const TOTAL: std::time::Duration = std::time::Duration::from_secs(90);

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// It is there.
    Done,
    /// A document with this serial is there already.
    SerialUsed,
}

/// Asks one server.
#[derive(Debug)]
pub(super) struct Exchange {
    stack: StackName,
    target: HttpTarget,
    state: Client,
    lock: Client,
    unlock: Client,
}

impl Exchange {
    pub(super) fn new(target: HttpTarget, stack: &StackName) -> Result<Self, StateError> {
        let auth = match &target.login {
            None => Auth::None,
            Some((user, password)) => {
                let pair = format!("{user}:{}", password.expose_secret());
                Auth::Header {
                    name: "authorization",
                    value: SecretString::from(format!("Basic {}", STANDARD.encode(pair))),
                }
            }
        };
        let client = |base: &str| {
            Client::new(ClientConfig {
                ca_pem: target.ca_pem.clone(),
                call_timeout: CALL,
                total_timeout: TOTAL,
                retries: target.retry_max,
                ..ClientConfig::new(base, auth.clone())
            })
            .map_err(|error| unsent(base, error))
        };
        Ok(Self {
            stack: stack.clone(),
            state: client(&target.address)?,
            lock: client(&target.lock_address)?,
            unlock: client(&target.unlock_address)?,
            target,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.target.address
    }

    pub(super) fn keeps_versions(&self) -> bool {
        self.target.keeps_versions()
    }

    /// The document; none where there is none yet.
    pub(super) async fn get(&self) -> Result<Option<Document>, StateError> {
        self.read("").await
    }

    /// A document that was replaced: GitLab keeps them by serial.
    pub(super) async fn get_version(&self, wire: u64) -> Result<Option<Document>, StateError> {
        self.read(&format!("/versions/{wire}")).await
    }

    async fn read(&self, path: &str) -> Result<Option<Document>, StateError> {
        let reply = self.send(&self.state, Request::get(path)).await?;
        match reply.status {
            StatusCode::OK if reply.body.is_empty() => Ok(None),
            StatusCode::OK => Document::read(&reply.body, &self.stack, self.place()).map(Some),
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(&reply, 0)),
        }
    }

    /// Replaces the document, under this lock.
    pub(super) async fn post(&self, text: Vec<u8>, lock: Option<&WireLock>) -> Result<Posted, StateError> {
        let size = text.len();
        let mut request = with_body(self.target.update_method.clone(), text);
        if let Some(lock) = lock {
            request = request.query("ID", &lock.id);
        }
        let reply = self.send(&self.state, request).await?;
        match reply.status {
            status if status.is_success() => Ok(Posted::Done),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Posted::SerialUsed),
            StatusCode::CONFLICT | StatusCode::LOCKED => {
                let holder = reply.json::<WireLock>().ok().map(|found| {
                    let ours = lock.unwrap_or(&found);
                    Box::new(found.holder(ours))
                });
                Err(match (lock, holder) {
                    (None, Some(holder)) => StateError::Locked { holder },
                    (_, by) => RemoteError::LeaseEnded {
                        place: self.place().to_owned(),
                        by,
                    }
                    .into(),
                })
            }
            _ => Err(self.refused(&reply, size)),
        }
    }

    /// Takes the lock; answers with who holds it where another does.
    pub(super) async fn lock(&self, lock: &WireLock) -> Result<Option<WireLock>, StateError> {
        let request = with_body(self.target.lock_method.clone(), text_of(lock, self.place())?);
        let reply = self.send(&self.lock, request).await?;
        match reply.status {
            status if status.is_success() => Ok(None),
            StatusCode::CONFLICT | StatusCode::LOCKED => {
                let holder = self.holder_in(&reply)?;
                // A try of ours whose answer was lost.
                Ok((holder.id != lock.id).then_some(holder))
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST => {
                Err(RemoteError::NoLock {
                    place: self.target.lock_address.clone(),
                    why: format!(
                        "{} to {}: {}",
                        reply.status,
                        self.target.lock_method,
                        words(&reply)
                    ),
                }
                .into())
            }
            _ => Err(self.refused(&reply, 0)),
        }
    }

    /// Gives back the lock with this id; answers with who holds it where another does.
    pub(super) async fn unlock(&self, lock: &WireLock) -> Result<Option<WireLock>, StateError> {
        let request = with_body(self.target.unlock_method.clone(), text_of(lock, self.place())?);
        let reply = self.send(&self.unlock, request).await?;
        match reply.status {
            status if status.is_success() => Ok(None),
            // A try of ours whose answer was lost.
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::CONFLICT | StatusCode::LOCKED => self.holder_in(&reply).map(Some),
            _ => Err(self.refused(&reply, 0)),
        }
    }

    fn holder_in(&self, reply: &Reply) -> Result<WireLock, StateError> {
        reply.json().map_err(|_| {
            RemoteError::Unexpected {
                place: self.target.lock_address.clone(),
                why: format!("{} without saying who holds the lock", reply.status),
            }
            .into()
        })
    }

    async fn send(&self, client: &Client, request: Request) -> Result<Reply, StateError> {
        let request = Request {
            waits: Some(self.target.waits),
            ..request
        };
        client
            .send(request)
            .await
            .map_err(|error| unsent(self.place(), error))
    }

    fn refused(&self, reply: &Reply, bytes: usize) -> StateError {
        let place = self.place().to_owned();
        let why = format!("{} {}", reply.status, words(reply)).trim().to_owned();
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RemoteError::Unauthorized { place, why },
            StatusCode::NOT_FOUND => RemoteError::Missing { place, why },
            StatusCode::PAYLOAD_TOO_LARGE => RemoteError::TooLarge { place, bytes },
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                RemoteError::Unreachable { place, why }
            }
            _ => RemoteError::Unexpected { place, why },
        }
        .into()
    }
}

/// All are safe to be sent again: a write names its serial, a lock its id.
fn with_body(method: Method, text: Vec<u8>) -> Request {
    let sum = STANDARD.encode(Md5::digest(&text));
    Request {
        headers: vec![("content-md5", sum)],
        text: Some(text),
        idempotent: true,
        ..Request::new(method, "")
    }
}

fn text_of(lock: &WireLock, place: &str) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(lock).map_err(|error| unwritable(place, &error))
}

/// What the server said, one short line.
fn words(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let message = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|body| {
            let said = body.get("message").or_else(|| body.get("error"))?;
            Some(said.as_str().map_or_else(|| said.to_string(), str::to_owned))
        });
    let text = message.unwrap_or_else(|| text.into_owned());
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().take(200).collect()
}

fn unsent(place: &str, error: NetError) -> StateError {
    let place = place.to_owned();
    match error {
        NetError::BadUrl { why } => RemoteError::Missing { place, why },
        NetError::Insecure { .. } => RemoteError::Missing {
            place,
            why: "it is not https; http is for this host only".to_owned(),
        },
        NetError::Tls { why } | NetError::NotSent { why } | NetError::Lost { why } => {
            RemoteError::Unreachable { place, why }
        }
    }
    .into()
}
