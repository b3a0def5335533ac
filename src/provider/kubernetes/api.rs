//! Asks the API server, and tells its refusals apart.
//!
//! Requests are built by `kube`'s own builder and sent by its client; answers are read here, since that client gives neither the
//! answer's `Date` nor its `Retry-After`. Long because each call stands beside what its refusal means.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ListMeta,
};
use kube::{
    Resource,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    client::AuthError,
    core::Request,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    net::{self, NetError},
    provider::ProviderError,
};

/// The most pages that are followed: a server may say "more" for ever.
const PAGES: usize = 200;

/// What is known of the answers to one of our calls.
#[derive(Debug, Default)]
pub(super) struct Trace {
    calls: AtomicU32,
    now: Mutex<Option<Timestamp>>,
}

impl Trace {
    /// Requests that were answered or lost.
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The answering server's clock.
    pub(super) fn now(&self) -> Result<Timestamp, ProviderError> {
        let now = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.ok_or_else(|| ProviderError::Malformed {
            why: "no answer says what time it is (no Date header)".to_owned(),
        })
    }

    fn answered(&self, at: Option<Timestamp>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = (*now).max(at);
    }
}

/// Why a call did not do what it should.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// No answer.
    Net(NetError),
    /// We have nothing that lets us in.
    Credential(String),
    /// An answer that says no.
    Refused(Refusal),
    /// An answer that cannot be read.
    Malformed(String),
}

/// A `Status` of Kubernetes that says no.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: String,
    message: String,
    retry_after: Option<Duration>,
}

impl Failed {
    /// Whether the server says that there is no such thing.
    pub(super) fn is_absent(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether the name is taken.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == StatusCode::CONFLICT && refusal.reason == "AlreadyExists")
    }

    /// Whether we may not ask this.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status() == Some(StatusCode::FORBIDDEN)
    }

    fn is_gone(&self) -> bool {
        self.status() == Some(StatusCode::GONE)
    }

    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Whether a write may have been done nevertheless.
    fn may_be_done(&self) -> bool {
        match self {
            Self::Net(NetError::Lost { .. }) | Self::Malformed(_) => true,
            Self::Net(_) | Self::Credential(_) => false,
            Self::Refused(refusal) => refusal.status.is_server_error(),
        }
    }

    /// What it means when nothing was to be changed.
    pub(super) fn of_read(self) -> ProviderError {
        match self {
            Self::Net(error) => ProviderError::Unavailable {
                why: error.to_string(),
            },
            Self::Credential(why) => ProviderError::Unauthorized { why },
            Self::Malformed(why) => ProviderError::Malformed { why },
            Self::Refused(refusal) => refusal.meaning(),
        }
    }

    /// What it means when something was to be changed.
    pub(super) fn of_write(self) -> ProviderError {
        if !self.may_be_done() {
            return self.of_read();
        }
        let why = match self {
            Self::Net(error) => error.to_string(),
            Self::Malformed(why) | Self::Credential(why) => why,
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
        match self.status {
            // What the quota's admission says: "exceeded quota: NAME, requested: …, used: …, limited: …".
            StatusCode::FORBIDDEN if self.message.contains("exceeded quota") => ProviderError::Quota { why },
            // A namespace on its way out takes nothing new, whoever asks.
            StatusCode::FORBIDDEN if self.message.contains("being terminated") => ProviderError::Rejected {
                code: "NamespaceTerminating".to_owned(),
                why,
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProviderError::Unauthorized { why },
            StatusCode::TOO_MANY_REQUESTS => ProviderError::Throttled {
                retry_after: self.retry_after,
            },
            // Somebody else wrote in between (a quota's count, too): nothing was done.
            StatusCode::CONFLICT if self.reason == "Conflict" => ProviderError::Unavailable { why },
            status if status.is_server_error() => ProviderError::Unavailable { why },
            _ => ProviderError::Rejected {
                code: if self.reason.is_empty() {
                    format!("http_{}", self.status.as_u16())
                } else {
                    self.reason
                },
                why,
            },
        }
    }
}

/// Rows of all pages, and why that may not be all.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub(super) rows: Vec<T>,
    pub(super) flaw: Option<String>,
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    // A list of none may be told as null.
    items: Option<Vec<T>>,
}

/// One namespace of a cluster, with our credential.
#[derive(Clone)]
pub(super) struct Api {
    client: kube::Client,
    namespace: String,
    page: u32,
}

impl Api {
    pub(super) fn new(client: kube::Client, namespace: String, page: u32) -> Self {
        Self {
            client,
            namespace,
            page: page.max(1),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn path<K>(&self) -> String
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        K::url_path(&(), Some(&self.namespace))
    }

    fn of<K>(&self) -> Request
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Request::new(self.path::<K>())
    }

    /// Everything of a kind that fits the selector, page by page. A list that grew too old on the way is begun again, once.
    pub(super) async fn list<K>(&self, selector: &str, trace: &Trace) -> Result<Rows<K>, Failed>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let mut begun_again = false;
        let mut rows = Vec::new();
        let mut params = ListParams::default().labels(selector).limit(self.page);
        for _ in 0..PAGES {
            let page: Page<K> = match self.get_json(self.of::<K>().list(&params), trace).await {
                Ok(page) => page,
                Err(failed) if failed.is_gone() && !begun_again => {
                    begun_again = true;
                    rows.clear();
                    params.continue_token = None;
                    continue;
                }
                // Nothing was read.
                Err(failed) if rows.is_empty() => return Err(failed),
                Err(failed) => {
                    let flaw = Some(failed.of_read().to_string());
                    return Ok(Rows { rows, flaw });
                }
            };
            rows.extend(page.items.unwrap_or_default());
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(Rows { rows, flaw: None });
            }
        }
        let flaw = Some(format!("more than {PAGES} pages"));
        Ok(Rows { rows, flaw })
    }

    /// The one of this name; none when the server says that there is none.
    pub(super) async fn read<K>(&self, name: &str, trace: &Trace) -> Result<Option<K>, Failed>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        self.read_as(self.path::<K>(), name, trace).await
    }

    /// The same, in whatever words the server has for it: nothing that this version does not know is lost.
    pub(super) async fn read_whole<K>(
        &self,
        name: &str,
        trace: &Trace,
    ) -> Result<Option<serde_json::Value>, Failed>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.read_as(self.path::<K>(), name, trace).await
    }

    async fn read_as<T: DeserializeOwned>(
        &self,
        path: String,
        name: &str,
        trace: &Trace,
    ) -> Result<Option<T>, Failed> {
        let request = Request::new(path).get(name, &GetParams::default());
        match self.get_json(request, trace).await {
            Ok(one) => Ok(Some(one)),
            Err(failed) if failed.is_absent() => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Whether the namespace is there; an error when we may not look.
    pub(super) async fn has_namespace(&self, trace: &Trace) -> Result<bool, Failed> {
        let path = "/api/v1/namespaces".to_owned();
        let seen: Option<serde_json::Value> = self.read_as(path, &self.namespace, trace).await?;
        Ok(seen.is_some())
    }

    /// Makes a Job.
    pub(super) async fn create(&self, job: &serde_json::Value, trace: &Trace) -> Result<Job, Failed> {
        let body = serde_json::to_vec(job).map_err(|error| Failed::Malformed(error.to_string()))?;
        let request = self.of::<Job>().create(&PostParams::default(), body);
        self.get_json(request, trace).await
    }

    /// Asks something that is asked by making it: a review of what we may do.
    pub(super) async fn review<K>(&self, review: &K, trace: &Trace) -> Result<K, Failed>
    where
        K: Resource<DynamicType = ()> + serde::Serialize + DeserializeOwned,
    {
        let body = serde_json::to_vec(review).map_err(|error| Failed::Malformed(error.to_string()))?;
        let request = Request::new(K::url_path(&(), None)).create(&PostParams::default(), body);
        self.get_json(request, trace).await
    }

    /// Puts labels on a Job, over those of the same keys.
    pub(super) async fn label(
        &self,
        name: &str,
        labels: &crate::model::resource::Labels,
        trace: &Trace,
    ) -> Result<Job, Failed> {
        let patch = serde_json::json!({ "metadata": { "labels": labels } });
        let request = self
            .of::<Job>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch));
        self.get_json(request, trace).await
    }

    /// Removes a Job and, behind it, its pods: this one, and not another that got its name since. Absent is removed.
    pub(super) async fn delete(&self, name: &str, uid: Option<&str>, trace: &Trace) -> Result<(), Failed> {
        let mut params = DeleteParams::background();
        params.preconditions = uid.map(|uid| kube::api::Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        match self.text(self.of::<Job>().delete(name, &params), trace).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.is_absent() => Ok(()),
            // Another Job has the name: ours is gone.
            Err(Failed::Refused(refusal)) if uid.is_some() && refusal.status == StatusCode::CONFLICT => {
                Ok(())
            }
            Err(failed) => Err(failed),
        }
    }

    /// Removes a pod if it is still as it was seen; says whether it is gone.
    pub(super) async fn delete_pod_as_seen(&self, pod: &Pod, trace: &Trace) -> Result<bool, Failed> {
        let Some(name) = pod.metadata.name.as_deref() else {
            return Ok(true);
        };
        let mut params = DeleteParams::background();
        params.preconditions = Some(kube::api::Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
        });
        match self.text(self.of::<Pod>().delete(name, &params), trace).await {
            Ok(_) => Ok(true),
            Err(failed) if failed.is_absent() => Ok(true),
            Err(Failed::Refused(refusal)) if refusal.status == StatusCode::CONFLICT => Ok(false),
            Err(failed) => Err(failed),
        }
    }

    /// The end of what a pod has written; none where the server has none.
    pub(super) async fn log(&self, pod: &str, lines: u32, trace: &Trace) -> Result<Option<String>, Failed> {
        let path = self.path::<Pod>();
        let request = http::Request::get(format!("{path}/{pod}/log?tailLines={lines}")).body(Vec::new());
        match self.send(request.map_err(|e| unbuilt(&e)), trace).await {
            Ok(body) => Ok(Some(String::from_utf8_lossy(&body).into_owned())),
            Err(failed) if failed.is_absent() || failed.status() == Some(StatusCode::BAD_REQUEST) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    async fn get_json<T: DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        trace: &Trace,
    ) -> Result<T, Failed> {
        let what = request
            .as_ref()
            .map(|request| request.uri().path().to_owned())
            .unwrap_or_default();
        let body = self.text(request, trace).await?;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| Failed::Malformed(format!("{what}: at {}: not as expected", error.path())))
    }

    async fn text(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        trace: &Trace,
    ) -> Result<Vec<u8>, Failed> {
        self.send(request.map_err(|e| unbuilt(&e)), trace).await
    }

    /// One call. An answer is a success.
    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, Failed>,
        trace: &Trace,
    ) -> Result<Vec<u8>, Failed> {
        let request = request?.map(kube::client::Body::from);
        let write = request.method() != Method::GET;
        trace.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self
            .client
            .send(request)
            .await
            .map_err(|e| unanswered(e, write))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect_bytes().await.map_err(|e| unanswered(e, write))?;
        let reply = net::Reply {
            status: parts.status,
            date: net::date(&parts.headers),
            headers: parts.headers,
            body: body.to_vec(),
        };
        trace.answered(reply.date);
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        Err(Failed::Refused(refusal(&reply)))
    }
}

/// A request that could not be made of what we have: a name that is none, most likely. Nothing was sent.
fn unbuilt(error: &dyn std::error::Error) -> Failed {
    Failed::Net(NetError::BadUrl {
        why: error.to_string(),
    })
}

fn refusal(reply: &net::Reply) -> Refusal {
    let status: kube::core::Status = match reply.json() {
        Ok(status) => status,
        // A proxy's page, or nothing.
        Err(_) => kube::core::Status::failure(
            reply.status.canonical_reason().unwrap_or("an error"),
            &format!("http_{}", reply.status.as_u16()),
        ),
    };
    let asked = status.details.map(|details| details.retry_after_seconds);
    let asked = asked.filter(|seconds| *seconds > 0);
    Refusal {
        status: reply.status,
        reason: status.reason,
        message: status.message,
        retry_after: net::retry_after(reply).or(asked.map(|s| Duration::from_secs(u64::from(s)))),
    }
}

/// What an error of `kube`'s means. Never its own words where it may quote what a plug-in printed.
fn unanswered(error: kube::Error, write: bool) -> Failed {
    match error {
        kube::Error::Auth(error) => Failed::Credential(credential(&error)),
        kube::Error::Service(error) => match error.downcast::<NetError>() {
            Ok(error) => Failed::Net(*error),
            Err(error) => match error.downcast::<AuthError>() {
                Ok(error) => Failed::Credential(credential(&error)),
                Err(error) => lost(error.to_string(), write),
            },
        },
        other => lost(other.to_string(), write),
    }
}

fn lost(why: String, write: bool) -> Failed {
    Failed::Net(if write {
        NetError::Lost { why }
    } else {
        NetError::NotSent { why }
    })
}

/// Why there is no credential.
pub(super) fn credential(error: &AuthError) -> String {
    match error {
        // With it comes all that the program printed.
        AuthError::AuthExecRun { cmd, status, .. } => {
            format!("the kubeconfig's plug-in {cmd:?} failed ({status}); run it by hand to see why")
        }
        AuthError::AuthExecStart(error) => format!("the kubeconfig's plug-in did not start: {error}"),
        AuthError::AuthExecParse(_) => "the kubeconfig's plug-in printed no credential".to_owned(),
        AuthError::ReadTokenFile(error, path) => format!("the token file {}: {error}", path.display()),
        AuthError::MissingCommand => "the kubeconfig's plug-in has no command".to_owned(),
        _ => "the kubeconfig's credential cannot be used; try it with `kubectl auth whoami`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, reason: &str, message: &str) -> Failed {
        let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status});
        Failed::Refused(refusal(&net::Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: serde_json::to_vec(&body).unwrap(),
            date: None,
        }))
    }

    #[test]
    fn every_refusal_is_a_decision() {
        use ProviderError as P;
        type Check = fn(&ProviderError) -> bool;
        let cases: [(u16, &str, &str, Check); 12] = [
            (401, "Unauthorized", "Unauthorized", |e| {
                matches!(e, P::Unauthorized { .. })
            }),
            (
                403,
                "Forbidden",
                "jobs.batch is forbidden: User \"x\" cannot create",
                |e| matches!(e, P::Unauthorized { .. }),
            ),
            (
                403,
                "Forbidden",
                "jobs.batch \"a\" is forbidden: exceeded quota: ci, requested: count/jobs.batch=1",
                |e| matches!(e, P::Quota { .. }),
            ),
            (
                403,
                "Forbidden",
                "unable to create new content in namespace ci because it is being terminated",
                |e| matches!(e, P::Rejected { .. }),
            ),
            (
                404,
                "NotFound",
                "namespaces \"ci\" not found",
                |e| matches!(e, P::Rejected { code, .. } if code == "NotFound"),
            ),
            (409, "Conflict", "the object has been modified", |e| {
                matches!(e, P::Unavailable { .. })
            }),
            (409, "AlreadyExists", "jobs.batch \"a\" already exists", |e| {
                matches!(e, P::Rejected { .. })
            }),
            (422, "Invalid", "Job.batch \"a\" is invalid", |e| {
                matches!(e, P::Rejected { .. })
            }),
            (429, "TooManyRequests", "slow down", |e| {
                matches!(e, P::Throttled { .. })
            }),
            (500, "InternalError", "etcdserver: request timed out", |e| {
                matches!(e, P::Ambiguous { .. })
            }),
            (503, "ServiceUnavailable", "apiserver is shutting down", |e| {
                matches!(e, P::Ambiguous { .. })
            }),
            (504, "Timeout", "the server was unable to answer in time", |e| {
                matches!(e, P::Ambiguous { .. })
            }),
        ];
        for (status, reason, message, check) in cases {
            let error = refused(status, reason, message).of_write();
            assert!(check(&error), "{status} {reason}: {error}");
        }
        let read = refused(500, "InternalError", "x").of_read();
        assert!(matches!(read, P::Unavailable { .. }));
    }

    #[test]
    fn what_a_plug_in_printed_is_in_no_error() {
        use std::os::unix::process::ExitStatusExt as _;
        let error = AuthError::AuthExecRun {
            cmd: "aws".to_owned(),
            status: std::process::ExitStatus::from_raw(256),
            out: std::process::Output {
                status: std::process::ExitStatus::from_raw(256),
                stdout: b"k8s-aws-v1.secret".to_vec(),
                stderr: b"secret".to_vec(),
            },
        };
        let failed = unanswered(kube::Error::Auth(error), false).of_read();
        assert!(matches!(failed, ProviderError::Unauthorized { .. }));
        assert!(!format!("{failed} {failed:?}").contains("secret"));
    }

    #[test]
    fn a_page_of_a_proxy_is_a_refusal_too() {
        let reply = net::Reply {
            status: StatusCode::BAD_GATEWAY,
            headers: http::HeaderMap::new(),
            body: b"<html>Bad Gateway</html>".to_vec(),
            date: None,
        };
        let failed = Failed::Refused(refusal(&reply));
        assert!(matches!(
            failed.clone().of_write(),
            ProviderError::Ambiguous { .. }
        ));
        assert!(failed.of_read().to_string().contains("Bad Gateway"));
    }
}
