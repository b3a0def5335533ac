//! What every party's handlers have in common: a call, its answer, and the table of routes.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{
    azure, circleci, control, digitalocean, drone, faults::Twists, gitlab, hetzner, kubernetes, prometheus,
    world::World,
};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// Hetzner Cloud, under `/hetzner/v1`.
    Hetzner,
    /// DigitalOcean, under `/digitalocean/v2`.
    Digitalocean,
    /// GitLab, under `/gitlab`.
    Gitlab,
    /// Drone, under `/drone`.
    Drone,
    /// CircleCI's API of self-hosted runners, under `/circleci`.
    Circleci,
    /// Azure DevOps, under `/azure`.
    Azure,
    /// Kubernetes, under `/kubernetes`.
    Kubernetes,
    /// Prometheus, which scrapes the machines, under `/prometheus`.
    Prometheus,
    /// The world's own controls, under `/control`.
    Control,
}

impl Party {
    const ALL: [Self; 9] = [
        Self::Hetzner,
        Self::Digitalocean,
        Self::Gitlab,
        Self::Drone,
        Self::Circleci,
        Self::Azure,
        Self::Kubernetes,
        Self::Prometheus,
        Self::Control,
    ];

    /// The path under which the party is served.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Hetzner => "/hetzner/v1",
            Self::Digitalocean => "/digitalocean/v2",
            Self::Gitlab => "/gitlab",
            Self::Drone => "/drone",
            Self::Circleci => "/circleci",
            Self::Azure => "/azure",
            Self::Kubernetes => "/kubernetes",
            Self::Prometheus => "/prometheus",
            Self::Control => "/control",
        }
    }

    /// `hetzner`, `digitalocean`, `gitlab`, `drone`, `circleci`, `azure`, `kubernetes`, `prometheus` or `control`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hetzner => "hetzner",
            Self::Digitalocean => "digitalocean",
            Self::Gitlab => "gitlab",
            Self::Drone => "drone",
            Self::Circleci => "circleci",
            Self::Azure => "azure",
            Self::Kubernetes => "kubernetes",
            Self::Prometheus => "prometheus",
            Self::Control => "control",
        }
    }

    /// Whose path this is, and the path below its prefix. `/control` may stand twice: once from the address that the
    /// first line of output names, once from the path as it is written everywhere.
    pub(crate) fn of(path: &str) -> Option<(Self, &str)> {
        let twice = path
            .strip_prefix("/control")
            .filter(|rest| rest.starts_with("/control/"));
        let path = twice.unwrap_or(path);
        Self::ALL.into_iter().find_map(|party| {
            let rest = path.strip_prefix(party.prefix())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((party, rest))
        })
    }
}

/// One operation that the sandbox serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Who is asked.
    pub party: Party,
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    pub method: &'static str,
    /// The path below the party's prefix, parameters in braces.
    pub path: &'static str,
    /// What it does, in a few words.
    pub name: &'static str,
}

/// A request as the handlers see it.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// What stands for the braces of the route's path, decoded.
    pub(crate) params: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    /// `Null` where there is none.
    pub(crate) body: Value,
    pub(crate) token: Option<String>,
    /// What kinds of answer are wanted, as the header says.
    pub(crate) accept: String,
    pub(crate) content_type: String,
    /// The sandbox's address, without a path.
    pub(crate) origin: String,
    /// The request's path, undecoded.
    pub(crate) path: String,
    pub(crate) twists: Twists,
    /// The wall's time.
    pub(crate) wall: Timestamp,
}

impl Call {
    pub(crate) fn param(&self, at: usize) -> &str {
        self.params.get(at).map_or("", String::as_str)
    }

    pub(crate) fn id(&self, at: usize) -> Option<u64> {
        self.param(at).parse().ok()
    }

    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a key, however the array is written: `k=a&k=b`, `k[]=a`, `k=a,b`.
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.query
            .iter()
            .filter(|(known, _)| known.strip_suffix("[]").unwrap_or(known) == key)
            .flat_map(|(_, value)| value.split(','))
            .filter(|value| !value.is_empty())
            .collect()
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.query(key)?.parse().ok()
    }

    /// A text in the body.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key)?.as_str()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// JSON, or nothing; unless a header says otherwise.
    pub(crate) body: Vec<u8>,
    /// What follows, for as long as it is watched.
    pub(crate) watch: Option<Box<kubernetes::Watch>>,
}

/// Handlers answer early by `?`.
pub(crate) type Answer = Result<Reply, Reply>;

impl Reply {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        Self {
            status,
            headers: Vec::new(),
            // Only a map with keys that are no strings could fail, and no body has one.
            body: serde_json::to_vec(body).unwrap_or_default(),
            watch: None,
        }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            watch: None,
        }
    }

    pub(crate) fn header(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((key, value.into()));
        self
    }
}

pub(crate) type Handler = fn(&mut World, &Call) -> Answer;

/// An operation with what serves it.
pub(crate) struct Route {
    pub(crate) operation: Operation,
    pub(crate) handler: Handler,
}

impl Route {
    pub(crate) const fn new(
        party: Party,
        method: &'static str,
        path: &'static str,
        name: &'static str,
        handler: Handler,
    ) -> Self {
        Self {
            operation: Operation {
                party,
                method,
                path,
                name,
            },
            handler,
        }
    }
}

pub(crate) fn routes() -> impl Iterator<Item = &'static Route> {
    hetzner::ROUTES
        .iter()
        .chain(digitalocean::ROUTES)
        .chain(gitlab::ROUTES)
        .chain(drone::ROUTES)
        .chain(circleci::ROUTES)
        .chain(azure::ROUTES)
        .chain(kubernetes::routes())
        .chain(prometheus::ROUTES)
        .chain(control::ROUTES)
}

/// Every operation that is served, by party in the order of its routes.
pub fn operations() -> &'static [Operation] {
    static OPERATIONS: OnceLock<Vec<Operation>> = OnceLock::new();
    OPERATIONS.get_or_init(|| routes().map(|route| route.operation).collect())
}

/// What a path leads to.
pub(crate) enum Found {
    Route(&'static Route, Vec<String>),
    /// The path is known, with other methods.
    OtherMethod,
    Nothing,
}

/// Finds the route of a path below the party's prefix. Routes without parameters win.
pub(crate) fn find(party: Party, method: &str, path: &str) -> Found {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let mut known = false;
    let mut best: Option<(&'static Route, Vec<String>)> = None;
    for route in routes().filter(|route| route.operation.party == party) {
        let Some(params) = fit(route.operation.path, &segments) else {
            continue;
        };
        known = true;
        let better = best
            .as_ref()
            .is_none_or(|(_, chosen)| params.len() < chosen.len());
        if route.operation.method == method && better {
            best = Some((route, params));
        }
    }
    match best {
        Some((route, params)) => Found::Route(route, params),
        None if known => Found::OtherMethod,
        None => Found::Nothing,
    }
}

fn fit(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    if pattern.len() != segments.len() {
        return None;
    }
    let mut params = Vec::new();
    for (wanted, segment) in pattern.iter().zip(segments) {
        if wanted.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            params.push(decode(segment));
        } else if wanted != segment {
            return None;
        }
    }
    Some(params)
}

/// Undoes percent-encoding; what is no valid escape stays.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| {
                text.get(at + 1..at + 3)
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        plain.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_path_is_found_below_its_address_and_below_the_origin() {
        for path in ["/control/jobs", "/control/control/jobs"] {
            assert_eq!(Party::of(path), Some((Party::Control, "/jobs")));
        }
        assert_eq!(Party::of("/controls/jobs"), None);
    }

    #[test]
    fn a_fixed_path_wins_over_a_parameter() {
        let Found::Route(route, params) = find(Party::Gitlab, "GET", "/api/v4/runners/all") else {
            panic!("not found");
        };
        assert_eq!(route.operation.path, "/api/v4/runners/all");
        assert!(params.is_empty());
        let Found::Route(_, params) = find(Party::Gitlab, "GET", "/api/v4/projects/acme%2Fapp/jobs") else {
            panic!("not found");
        };
        assert_eq!(params, ["acme/app"]);
    }

    #[test]
    fn a_known_path_with_another_method_is_told_apart() {
        assert!(matches!(
            find(Party::Hetzner, "DELETE", "/servers"),
            Found::OtherMethod
        ));
        assert!(matches!(find(Party::Hetzner, "GET", "/nothing"), Found::Nothing));
    }

    #[test]
    fn no_operation_stands_twice() {
        let mut seen: Vec<_> = operations()
            .iter()
            .map(|op| (op.party.name(), op.method, op.path))
            .collect();
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
