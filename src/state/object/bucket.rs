//! The objects of one stack: read, replaced only over what was read, listed, removed.
//!
//! Every conditional write is safe to be sent twice: where its answer was lost and the second try finds the condition
//! broken, what is there now is compared with what was written.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path,
};

use crate::state::{RemoteError, StateError};

/// How far the answering server's clock is ahead of ours, in milliseconds: its `Date` says so. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ServerClock(Arc<AtomicI64>);

impl ServerClock {
    /// The server said that it is `theirs` when it was `ours` here.
    pub fn heard(&self, theirs: Timestamp, ours: Timestamp) {
        let ahead = theirs.as_millisecond() - ours.as_millisecond();
        self.0.store(ahead, Ordering::Relaxed);
    }

    /// What the server's clock shows when ours shows this.
    pub(super) fn at(&self, ours: Timestamp) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.0.load(Ordering::Relaxed));
        ours.saturating_add(ahead).unwrap_or(ours)
    }
}

/// The objects of one stack.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    /// `s3://bucket/prefix`, for the errors.
    place: String,
}

/// An object as it is now.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) bytes: Bytes,
    pub(super) version: UpdateVersion,
    /// By the server's clock.
    pub(super) modified: Timestamp,
}

/// How a conditional write ended.
#[derive(Debug)]
pub(super) enum Swapped {
    /// It is there.
    Done(UpdateVersion),
    /// Another's is there, or nothing any more.
    Overtaken,
}

impl Bucket {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, place: String) -> Self {
        Self { objects, place }
    }

    /// Where an object is, for a person.
    pub(super) fn place_of(&self, path: &Path) -> String {
        let name = path.filename().unwrap_or_default();
        format!("{}/{name}", self.place)
    }

    pub(super) async fn get(&self, path: &Path) -> Result<Option<Found>, StateError> {
        let answer = match self.objects.get(path).await {
            Ok(answer) => answer,
            Err(error) => return self.absent(path, error),
        };
        let version = UpdateVersion {
            e_tag: answer.meta.e_tag.clone(),
            version: answer.meta.version.clone(),
        };
        let modified = Timestamp::from_millisecond(answer.meta.last_modified.timestamp_millis());
        match answer.bytes().await {
            Ok(bytes) => Ok(Some(Found {
                bytes,
                version,
                modified: modified.unwrap_or(Timestamp::MIN),
            })),
            Err(error) => self.absent(path, error),
        }
    }

    /// Which version is there; none when there is no such object.
    pub(super) async fn version(&self, path: &Path) -> Result<Option<UpdateVersion>, StateError> {
        match self.objects.head(path).await {
            Ok(meta) => Ok(Some(UpdateVersion {
                e_tag: meta.e_tag,
                version: meta.version,
            })),
            Err(error) => self.absent(path, error),
        }
    }

    fn absent<T>(&self, path: &Path, error: Error) -> Result<Option<T>, StateError> {
        match error {
            // A bucket that does not exist has no objects either.
            Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket") => Ok(None),
            other => Err(self.failed(path, &other)),
        }
    }

    /// Writes over this version, or where there must be nothing yet.
    pub(super) async fn swap(
        &self,
        path: &Path,
        bytes: &Bytes,
        over: Option<UpdateVersion>,
    ) -> Result<Swapped, StateError> {
        let mode = over.map_or(PutMode::Create, PutMode::Update);
        let payload = PutPayload::from(bytes.clone());
        match self.objects.put_opts(path, payload, PutOptions::from(mode)).await {
            Ok(done) => Ok(Swapped::Done(UpdateVersion {
                e_tag: done.e_tag,
                version: done.version,
            })),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                // An earlier try of ours may have been it.
                Ok(match self.get(path).await? {
                    Some(found) if found.bytes == *bytes => Swapped::Done(found.version),
                    _ => Swapped::Overtaken,
                })
            }
            Err(error @ Error::NotImplemented { .. }) => Err(RemoteError::NoLock {
                place: self.place.clone(),
                why: words(&error),
            }
            .into()),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    /// Whether a conditional write is refused when its condition does not hold: some servers ignore the condition.
    pub(super) async fn keeps_conditions(&self, path: &Path, now: &Bytes) -> Result<bool, StateError> {
        let wrong = UpdateVersion {
            e_tag: Some("\"00000000000000000000000000000000\"".to_owned()),
            version: None,
        };
        for mode in [PutMode::Create, PutMode::Update(wrong)] {
            let payload = PutPayload::from(now.clone());
            match self.objects.put_opts(path, payload, PutOptions::from(mode)).await {
                Ok(_) => return Ok(false),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return Err(self.failed(path, &error)),
            }
        }
        Ok(true)
    }

    pub(super) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), StateError> {
        let done = self.objects.put(path, PutPayload::from(bytes)).await;
        done.map(drop).map_err(|error| self.failed(path, &error))
    }

    /// Everything below this, in order of name.
    pub(super) async fn list(&self, below: &Path) -> Result<Vec<Path>, StateError> {
        let found: Result<Vec<Path>, Error> = self
            .objects
            .list(Some(below))
            .map_ok(|meta| meta.location)
            .try_collect()
            .await;
        let mut found = found.map_err(|error| self.failed(below, &error))?;
        found.sort();
        Ok(found)
    }

    /// Removes these. What cannot be removed stays, and is told in the log: nothing depends on its being gone.
    pub(super) async fn remove(&self, paths: Vec<Path>) {
        if paths.is_empty() {
            return;
        }
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut removed = self.objects.delete_stream(paths);
        while let Some(done) = removed.next().await {
            match done {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(place = self.place, error = words(&error), "not removed");
                }
            }
        }
    }

    fn failed(&self, path: &Path, error: &Error) -> StateError {
        let place = self.place_of(path);
        let why = words(error);
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                RemoteError::Unauthorized { place, why }
            }
            Error::NotFound { .. } => RemoteError::Missing {
                place: self.place.clone(),
                why,
            },
            Error::Generic { .. } if why.contains("token") || why.contains("credential") => {
                RemoteError::Unauthorized { place, why }
            }
            Error::Generic { .. } => RemoteError::Unreachable { place, why },
            _ => RemoteError::Unexpected { place, why },
        }
        .into()
    }
}

/// The innermost words of an error, one line of them: S3 wraps its answer several times.
fn words(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let tag = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value)
    };
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
