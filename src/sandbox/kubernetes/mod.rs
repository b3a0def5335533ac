//! A small kube-apiserver: objects of the kinds in `world/cluster/kind.rs`, with Jobs and pods that live.
//!
//! Answers follow the Kubernetes API reference (v1.32) and "Kubernetes API Concepts"; the words of errors are the API server's own.
//! kubectl works with it: `tests/faithful` runs the real one.
//!
//! # Caveats
//! A CronJob is never started by its schedule. Server-side apply is a strategic merge that takes every field and tracks no
//! manager. Its binary form is read of two questions alone, so that `kubectl create job --from` is refused. A field that Kubernetes does not know is refused, where that is asked for, in Jobs, CronJobs and pods alone.

mod check;
mod discovery;
mod known;
mod list;
mod objects;
mod patch;
mod pods;
pub(crate) mod protobuf;
mod rights;
mod table;
mod watch;

use serde_json::{Value, json};

pub(crate) use pods::{evict, exit};
pub(crate) use watch::{Watch, poll};

use super::{
    api::{Call, Handler, Party, Reply, Route},
    world::{
        World,
        cluster::{Key, Kind, Resource},
    },
};

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Kubernetes, method, path, name, handler)
}

/// The operations on the objects of a kind, at its path in a namespace and at the one over all.
macro_rules! resource {
    ($all:literal, $path:literal, $one:literal, $many:literal) => {
        [
            route(
                "GET",
                $all,
                concat!("list ", $many, " of every namespace"),
                list::list,
            ),
            route("GET", $path, concat!("list or watch ", $many), list::list),
            route("POST", $path, concat!("create ", $one), objects::create),
            route("DELETE", $path, concat!("delete ", $many), objects::delete_all),
            route(
                "GET",
                concat!($path, "/{name}"),
                concat!("read ", $one),
                list::read,
            ),
            route(
                "PUT",
                concat!($path, "/{name}"),
                concat!("replace ", $one),
                objects::replace,
            ),
            route(
                "PATCH",
                concat!($path, "/{name}"),
                concat!("change ", $one),
                objects::patch,
            ),
            route(
                "DELETE",
                concat!($path, "/{name}"),
                concat!("delete ", $one),
                objects::delete,
            ),
        ]
    };
}

static PODS: [Route; 8] = resource!(
    "/api/v1/pods",
    "/api/v1/namespaces/{namespace}/pods",
    "a pod",
    "pods"
);
static JOBS: [Route; 8] = resource!(
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/namespaces/{namespace}/jobs",
    "a Job",
    "Jobs"
);
static CRON_JOBS: [Route; 8] = resource!(
    "/apis/batch/v1/cronjobs",
    "/apis/batch/v1/namespaces/{namespace}/cronjobs",
    "a CronJob",
    "CronJobs"
);
static CORE: [Route; 8] = resource!(
    "/api/v1/{resource}",
    "/api/v1/namespaces/{namespace}/{resource}",
    "an object of the core",
    "objects of the core"
);
static OTHERS: [Route; 8] = resource!(
    "/apis/{group}/v1/{resource}",
    "/apis/{group}/v1/namespaces/{namespace}/{resource}",
    "an object of a group",
    "objects of a group"
);
static MORE: &[Route] = &[
    route("GET", "/api", "list the versions of the core", discovery::core),
    route("GET", "/apis", "list groups", discovery::groups),
    route(
        "GET",
        "/api/v1",
        "list the resources of the core",
        discovery::resources,
    ),
    route(
        "GET",
        "/apis/{group}/v1",
        "list the resources of a group",
        discovery::resources,
    ),
    route("GET", "/version", "tell the version", discovery::version),
    route("GET", "/openapi/v3", "list descriptions", discovery::openapi),
    route(
        "GET",
        "/openapi/v3/api/v1",
        "describe the core",
        discovery::description,
    ),
    route(
        "GET",
        "/openapi/v3/apis/{group}/v1",
        "describe a group",
        discovery::description,
    ),
    route("GET", "/readyz", "tell whether it is ready", discovery::ready),
    route("GET", "/livez", "tell whether it lives", discovery::ready),
    route(
        "GET",
        "/api/v1/namespaces/{namespace}/pods/{name}/log",
        "read a pod's log",
        pods::log,
    ),
    route(
        "POST",
        "/api/v1/namespaces/{namespace}/pods/{name}/eviction",
        "evict a pod",
        pods::eviction,
    ),
    route(
        "POST",
        "/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        "make a service account's token",
        rights::token,
    ),
    route(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "ask whether one may",
        rights::access_review,
    ),
    route(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        "ask what one may",
        rights::rules_review,
    ),
    // Of what is in no namespace.
    route(
        "POST",
        "/api/v1/{resource}",
        "create a node or a namespace",
        objects::create,
    ),
    route(
        "GET",
        "/api/v1/{resource}/{name}",
        "read a node or a namespace",
        list::read,
    ),
    route(
        "PUT",
        "/api/v1/{resource}/{name}",
        "replace a node or a namespace",
        objects::replace,
    ),
    route(
        "PATCH",
        "/api/v1/{resource}/{name}",
        "change a node or a namespace",
        objects::patch,
    ),
    route(
        "DELETE",
        "/api/v1/{resource}/{name}",
        "delete a node or a namespace",
        objects::delete,
    ),
    route(
        "POST",
        "/apis/{group}/v1/{resource}",
        "create an object of the cluster",
        objects::create,
    ),
    route(
        "GET",
        "/apis/{group}/v1/{resource}/{name}",
        "read an object of the cluster",
        list::read,
    ),
    route(
        "PUT",
        "/apis/{group}/v1/{resource}/{name}",
        "replace an object of the cluster",
        objects::replace,
    ),
    route(
        "PATCH",
        "/apis/{group}/v1/{resource}/{name}",
        "change an object of the cluster",
        objects::patch,
    ),
    route(
        "DELETE",
        "/apis/{group}/v1/{resource}/{name}",
        "delete an object of the cluster",
        objects::delete,
    ),
];

pub(crate) fn routes() -> impl Iterator<Item = &'static Route> {
    PODS.iter()
        .chain(&JOBS)
        .chain(&CRON_JOBS)
        .chain(&CORE)
        .chain(&OTHERS)
        .chain(MORE)
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    kind: Kind,
    /// Empty for all, and for what is in none.
    namespace: String,
    /// Empty for all.
    name: String,
    /// `log`, `status`.
    part: String,
}

impl Target {
    /// Of a path below the party's prefix, undecoded: no name has anything to be escaped.
    fn parse(path: &str) -> Option<Self> {
        let all: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match all.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, "v1", rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let [plural, rest @ ..] = rest else {
            return None;
        };
        let kind = Kind::of(group, plural)?;
        let at = |index: usize| {
            rest.get(index)
                .map_or_else(String::new, |part| (*part).to_owned())
        };
        Some(Self {
            kind,
            namespace: namespace.to_owned(),
            name: at(0),
            part: at(1),
        })
    }

    fn resource(&self) -> &'static Resource {
        self.kind.resource()
    }

    fn key(&self) -> Key {
        Key::new(self.kind, &self.namespace, &self.name)
    }
}

/// The target of a call, if whoever calls may do this with it.
fn target(world: &World, call: &Call, verb: &str) -> Result<Target, Reply> {
    let below = call
        .path
        .strip_prefix(Party::Kubernetes.prefix())
        .unwrap_or_default();
    let target = Target::parse(below).ok_or_else(not_found)?;
    let resource = target.resource();
    let must = resource.namespaced && target.namespace.is_empty();
    // Over all namespaces things are only listed.
    if must && (verb != "list" && verb != "watch") {
        return Err(not_found());
    }
    rights::allowed(world, call, verb, &target)?;
    Ok(target)
}

/// Whether a path of this party's names all of something, and not one.
pub(crate) fn lists(path: &str) -> bool {
    Target::parse(path).is_some_and(|target| target.name.is_empty())
}

/// A failure as the API server tells it.
pub(crate) fn status(code: u16, reason: &str, message: impl Into<String>, details: Option<Value>) -> Reply {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message.into(), "reason": reason,
    });
    if let Some(details) = details {
        body["details"] = details;
    }
    body["code"] = code.into();
    Reply::json(code, &body)
}

pub(crate) fn unauthorized() -> Reply {
    status(401, "Unauthorized", "Unauthorized", None)
}

/// The path is none.
pub(crate) fn not_found() -> Reply {
    status(
        404,
        "NotFound",
        "the server could not find the requested resource",
        Some(json!({})),
    )
}

pub(crate) fn other_method() -> Reply {
    status(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        Some(json!({})),
    )
}

pub(crate) fn bad_request(message: impl Into<String>) -> Reply {
    status(400, "BadRequest", message, None)
}

pub(crate) fn too_many(retry_after: Option<u64>) -> Reply {
    let seconds = retry_after.unwrap_or(1);
    status(
        429,
        "TooManyRequests",
        "the server has received too many requests and has asked us to try again later",
        Some(json!({"retryAfterSeconds": seconds})),
    )
}

pub(crate) fn server_error(code: u16) -> Reply {
    let (reason, message) = match code {
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => (
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        ),
        _ => ("InternalError", "Internal error occurred: an error was ordered"),
    };
    status(code, reason, message, None)
}

/// Quotas, as a fault orders it.
pub(crate) fn quota() -> Reply {
    status(
        403,
        "Forbidden",
        "jobs.batch is forbidden: exceeded quota: runners, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: \
         count/jobs.batch=0",
        Some(json!({"group": "batch", "kind": "jobs"})),
    )
}

/// What a failure is about.
fn about(target: &Target, name: &str) -> Value {
    let resource = target.resource();
    let mut details = json!({"name": name, "kind": resource.plural});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    details
}

fn absent(target: &Target) -> Reply {
    let message = format!("{} \"{}\" not found", target.resource().full(), target.name);
    status(404, "NotFound", message, Some(about(target, &target.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_kinds_namespaces_and_objects() {
        let target = |path: &str| {
            Target::parse(path).map(|known| (known.kind, known.namespace, known.name, known.part))
        };
        let some = |kind, namespace: &str, name: &str, part: &str| {
            Some((kind, namespace.to_owned(), name.to_owned(), part.to_owned()))
        };
        assert_eq!(target("/api/v1/namespaces"), some(Kind::Namespace, "", "", ""));
        assert_eq!(
            target("/api/v1/namespaces/ci"),
            some(Kind::Namespace, "", "ci", "")
        );
        assert_eq!(target("/api/v1/pods"), some(Kind::Pod, "", "", ""));
        assert_eq!(
            target("/api/v1/namespaces/ci/pods/a/log"),
            some(Kind::Pod, "ci", "a", "log")
        );
        assert_eq!(
            target("/apis/batch/v1/namespaces/ci/jobs/a"),
            some(Kind::Job, "ci", "a", "")
        );
        assert_eq!(target("/apis/batch/v1/pods"), None);
        assert_eq!(target("/version"), None);
        assert!(lists("/apis/batch/v1/namespaces/ci/jobs"));
        assert!(!lists("/apis/batch/v1/namespaces/ci/jobs/a"));
    }
}
