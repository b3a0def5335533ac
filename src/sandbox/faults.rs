//! Misbehaviour to order: rules that say which calls go wrong, how, and how often.
//!
//! A rule fits a path, exactly or as a prefix that ends in `*`, and perhaps a method. It strikes `count` times after
//! `skip` fitting calls, or each time with `probability`, drawn from the world's seed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{api::Party, dice, kubernetes};

/// Every fault by its name in `POST /control/faults`, and what it does; its arguments with their defaults.
pub const FAULTS: &[(&str, &str)] = &[
    ("latency", "The answer takes `ms` (1000) longer, wall time."),
    (
        "delayed",
        "Azure DevOps says that it held its answer back for `seconds` (5), and how long to wait.",
    ),
    ("rate-limited", "429; with `retry_after` seconds that header too."),
    ("server-error", "`status` (502)."),
    (
        "reply-lost",
        "The call takes effect, then the connection closes without an answer.",
    ),
    ("request-lost", "The connection closes without effect."),
    (
        "hang",
        "No answer for `seconds` (60), then the connection closes, without effect.",
    ),
    ("stale-list", "A list is as it was `age` (60) seconds ago."),
    (
        "partial-list",
        "Page `page` (2) of a list, or a later one, is answered with `status` (502).",
    ),
    (
        "changed-total",
        "On a page after the first the total is `by` (1) more.",
    ),
    (
        "next-page-for-ever",
        "A list claims a next page for ever; without `count`, until lifted.",
    ),
    (
        "no-capacity",
        "The cloud refuses a server or droplets whose `type` (size) and `location` (region) fit, where given. Kubernetes takes the Job, and no node has room for its pods.",
    ),
    (
        "quota",
        "The cloud's limit of servers or droplets is reached; a quota of Kubernetes' namespace forbids another Job.",
    ),
    (
        "error",
        "`status` (409) with `code` (conflict) and `message`, as the party words its errors.",
    ),
    (
        "never-registers",
        "The server, or the Job's pod, that is created boots, and its runner never registers.",
    ),
    (
        "create-then-fails",
        "The server is created, its action ends in error, and it never boots; a droplet vanishes with that. The container of a Job's pod cannot be started.",
    ),
    (
        "busy-lag",
        "Lists of jobs, and of agents with theirs, say of each what was true `seconds` (30) ago.",
    ),
    ("unauthorized", "401."),
    (
        "gone-image",
        "No image is found; that of a Job's pod cannot be pulled.",
    ),
    ("action-error", "The actions of this call end in error."),
];

/// What goes wrong; [`FAULTS`] has it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The answer takes `ms` (1000) longer, wall time.
    Latency,
    /// Azure DevOps says that it held its answer back for `seconds` (5), and how long to wait.
    Delayed,
    /// 429; with `retry_after` seconds that header too.
    RateLimited,
    /// `status` (502).
    ServerError,
    /// The call takes effect, then the connection closes without an answer.
    ReplyLost,
    /// The connection closes without effect.
    RequestLost,
    /// No answer for `seconds` (60), then the connection closes, without effect.
    Hang,
    /// A list is as it was `age` (60) seconds ago.
    StaleList,
    /// Page `page` (2) of a list, or a later one, is answered with `status` (502).
    PartialList,
    /// On a page after the first the total is `by` (1) more.
    ChangedTotal,
    /// A list claims a next page for ever; without `count`, until lifted.
    NextPageForEver,
    /// The cloud refuses a server or droplets whose `type` (size) and `location` (region) fit, where given.
    NoCapacity,
    /// The cloud's limit of servers or droplets is reached.
    Quota,
    /// `status` (409) with `code` (conflict) and `message`, as the party words its errors.
    Error,
    /// The server that is created boots, and its runner never registers.
    NeverRegisters,
    /// The server is created, its action ends in error, and it never boots; a droplet vanishes with that.
    CreateThenFails,
    /// Lists of jobs, and of agents with theirs, say of each what was true `seconds` (30) ago.
    BusyLag,
    /// 401.
    Unauthorized,
    /// No image is found.
    GoneImage,
    /// The actions of this call end in error.
    ActionError,
}

/// A rule as it is posted and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default)]
    pub(crate) id: u64,
    /// Without, every path of the clouds and CI servers.
    #[serde(default = "everywhere")]
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    pub(crate) fault: Kind,
    /// How often it still strikes. Without, once, or for ever where there is a probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probability: Option<f64>,
    /// Fitting calls that pass first.
    #[serde(default)]
    pub(crate) skip: u64,
    #[serde(default)]
    pub(crate) args: Map<String, Value>,
    /// Fitting calls so far.
    #[serde(default)]
    pub(crate) seen: u64,
    /// Strikes so far.
    #[serde(default)]
    pub(crate) struck: u64,
}

fn everywhere() -> String {
    "*".to_owned()
}

impl Rule {
    fn fits(&self, target: &Target<'_>) -> bool {
        let Target {
            method,
            path,
            page,
            body,
        } = *target;
        let path_fits = fits(&self.path, path);
        let of_cluster = path.strip_prefix(Party::Kubernetes.prefix());
        let creates = method == "POST"
            && (path.ends_with("/servers")
                || path.ends_with("/droplets")
                || of_cluster.is_some_and(|below| below.ends_with("/jobs") || below.ends_with("/pods")));
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let lists = match of_cluster {
            Some(below) => method == "GET" && kubernetes::lists(below),
            None => path.ends_with("/graphql") || (method == "GET" && last.parse::<u64>().is_err()),
        };
        let kind_fits = match self.fault {
            Kind::NoCapacity | Kind::Quota | Kind::NeverRegisters | Kind::CreateThenFails => creates,
            Kind::GoneImage => creates || path.contains("/images"),
            Kind::PartialList => lists && page >= self.number("page", 2),
            Kind::ChangedTotal => lists && page >= 2,
            Kind::StaleList | Kind::NextPageForEver | Kind::BusyLag => lists,
            Kind::ActionError => method != "GET",
            _ => true,
        };
        path_fits
            && self
                .method
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && kind_fits
            && self.arg_fits("type", body.get("server_type").or_else(|| body.get("size")))
            && self.arg_fits("location", body.get("location").or_else(|| body.get("region")))
    }

    fn arg_fits(&self, key: &str, given: Option<&Value>) -> bool {
        self.args.get(key).is_none_or(|wanted| Some(wanted) == given)
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.args.get(key).and_then(Value::as_u64).unwrap_or(default)
    }

    fn text(&self, key: &str, default: &str) -> String {
        self.args
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or(default)
            .to_owned()
    }

    fn status(&self) -> u16 {
        u16::try_from(self.number("status", 502)).unwrap_or(502)
    }

    fn length(&self, key: &str, default: u64) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.number(key, default)).unwrap_or(i64::MAX))
    }
}

/// What of a call decides whether a rule fits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a str,
    /// With the party's prefix.
    pub(crate) path: &'a str,
    /// The page of a list; one that is asked for by a cursor is later than any number.
    pub(crate) page: u64,
    pub(crate) body: &'a Value,
}

/// What the transport does to a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Blow {
    RateLimited {
        retry_after: Option<u64>,
    },
    ServerError(u16),
    RequestLost,
    Hang(Duration),
    NoCapacity,
    Quota,
    Unauthorized,
    Error {
        status: u16,
        code: String,
        message: String,
    },
}

/// What the handlers do differently.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Twists {
    pub(crate) stale: Option<SignedDuration>,
    pub(crate) busy_lag: Option<SignedDuration>,
    /// Page and status.
    pub(crate) partial: Option<(u64, u16)>,
    pub(crate) more_in_total: u64,
    pub(crate) endless: bool,
    pub(crate) mute: bool,
    pub(crate) create_fails: bool,
    pub(crate) gone_image: bool,
    /// No node has room for the pods that come of this.
    pub(crate) no_room: bool,
    pub(crate) action_error: bool,
    pub(crate) reply_lost: bool,
    /// Seconds.
    pub(crate) delay: Option<u64>,
    pub(crate) latency: Duration,
}

impl Twists {
    /// The moment that a list of jobs shows.
    pub(crate) fn jobs_as_of(&self, now: Timestamp) -> Option<Timestamp> {
        self.busy_lag
            .max(self.stale)
            .map(|lag| super::world::sub(now, lag))
    }

    pub(crate) fn as_of(&self, now: Timestamp) -> Option<Timestamp> {
        self.stale.map(|age| super::world::sub(now, age))
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    pub(crate) rules: Vec<Rule>,
    last: u64,
}

impl Faults {
    /// Adds a rule; one without count and probability strikes once, a list without end for ever.
    pub(crate) fn add(&mut self, mut rule: Rule) -> &Rule {
        self.last += 1;
        rule.id = self.last;
        (rule.seen, rule.struck) = (0, 0);
        if rule.count.is_none() && rule.probability.is_none() && rule.fault != Kind::NextPageForEver {
            rule.count = Some(1);
        }
        let at = self.rules.len();
        self.rules.push(rule);
        &self.rules[at]
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Which rules strike this call.
    pub(crate) fn strike(&mut self, seed: u64, target: &Target<'_>) -> (Option<Blow>, Twists) {
        let mut blow = None;
        let mut twists = Twists::default();
        for rule in &mut self.rules {
            if !rule.fits(target) {
                continue;
            }
            rule.seen += 1;
            let spent = rule.count.is_some_and(|count| rule.struck >= count);
            let lucky = rule
                .probability
                .is_some_and(|probability| dice::unit(seed, rule.id ^ 0xfa17, rule.seen) >= probability);
            if rule.seen <= rule.skip || spent || lucky {
                continue;
            }
            rule.struck += 1;
            apply(rule, &mut blow, &mut twists);
        }
        self.rules
            .retain(|rule| rule.count.is_none_or(|count| rule.struck < count));
        (blow, twists)
    }
}

fn apply(rule: &Rule, blow: &mut Option<Blow>, twists: &mut Twists) {
    let dealt = match rule.fault {
        Kind::RateLimited => Some(Blow::RateLimited {
            retry_after: rule.args.get("retry_after").and_then(Value::as_u64),
        }),
        Kind::ServerError => Some(Blow::ServerError(rule.status())),
        Kind::RequestLost => Some(Blow::RequestLost),
        Kind::Hang => Some(Blow::Hang(Duration::from_secs(
            rule.number("seconds", 60).min(60),
        ))),
        Kind::NoCapacity => Some(Blow::NoCapacity),
        Kind::Quota => Some(Blow::Quota),
        Kind::Error => Some(Blow::Error {
            status: u16::try_from(rule.number("status", 409)).unwrap_or(409),
            code: rule.text("code", "conflict"),
            message: rule.text("message", "a fault was ordered"),
        }),
        Kind::Unauthorized => Some(Blow::Unauthorized),
        Kind::Latency => {
            twists.latency += Duration::from_millis(rule.number("ms", 1000));
            None
        }
        Kind::Delayed => {
            twists.delay = Some(rule.number("seconds", 5));
            None
        }
        Kind::ReplyLost => {
            twists.reply_lost = true;
            None
        }
        Kind::StaleList => {
            twists.stale = Some(rule.length("age", 60));
            None
        }
        Kind::BusyLag => {
            twists.busy_lag = Some(rule.length("seconds", 30));
            None
        }
        Kind::PartialList => {
            twists.partial = Some((rule.number("page", 2), rule.status()));
            None
        }
        Kind::ChangedTotal => {
            twists.more_in_total = rule.number("by", 1);
            None
        }
        Kind::NextPageForEver => {
            twists.endless = true;
            None
        }
        Kind::NeverRegisters => {
            twists.mute = true;
            None
        }
        Kind::CreateThenFails => {
            twists.create_fails = true;
            None
        }
        Kind::GoneImage => {
            twists.gone_image = true;
            None
        }
        Kind::ActionError => {
            twists.action_error = true;
            None
        }
    };
    if blow.is_none() {
        *blow = dealt;
    }
}

/// Whether a rule's path names this one: whole, or as it is below its party's prefix (`/servers`, as in the world's
/// `api_calls`); with a `*` at its end as the beginning of either.
fn fits(rule: &str, path: &str) -> bool {
    let below = Party::of(path).map_or(path, |(_, below)| below);
    if let Some(prefix) = rule.strip_suffix('*') {
        return path.starts_with(prefix) || below.starts_with(prefix);
    }
    let rule = rule.trim_end_matches('/');
    path.trim_end_matches('/') == rule || below.trim_end_matches('/') == rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at<'a>(method: &'a str, path: &'a str, body: &'a Value) -> Target<'a> {
        Target {
            method,
            path,
            page: 1,
            body,
        }
    }

    fn rule(body: Value) -> Rule {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_path_is_named_whole_or_as_it_is_below_its_party() {
        for rule in ["/hetzner/v1/servers", "/servers", "/hetzner/v1/*", "/serv*", "*"] {
            assert!(fits(rule, "/hetzner/v1/servers"), "{rule}");
        }
        for rule in ["/server", "/hetzner/v1/servers/1", "/gitlab/*"] {
            assert!(!fits(rule, "/hetzner/v1/servers"), "{rule}");
        }
    }

    #[test]
    fn a_rule_strikes_as_often_as_it_says_and_is_gone() {
        let mut faults = Faults::default();
        faults.add(rule(json!({"path": "/hetzner/v1/servers", "fault": "server-error", "count": 2, "skip": 1, "args": {"status": 503}})));
        let mut strike = || {
            faults
                .strike(1, &at("GET", "/hetzner/v1/servers", &Value::Null))
                .0
        };
        assert_eq!(strike(), None);
        assert_eq!(strike(), Some(Blow::ServerError(503)));
        assert_eq!(strike(), Some(Blow::ServerError(503)));
        assert_eq!(strike(), None);
        assert!(faults.rules.is_empty());
    }

    #[test]
    fn every_fault_in_words_is_one_that_can_be_ordered() {
        for (name, _) in FAULTS {
            let rule = rule(json!({"fault": name}));
            assert_eq!(serde_json::to_value(rule.fault).unwrap(), *name);
        }
    }

    #[test]
    fn a_fault_of_lists_spares_the_reading_of_one() {
        let mut faults = Faults::default();
        faults.add(rule(json!({"path": "/hetzner/v1/*", "fault": "stale-list"})));
        assert_eq!(
            faults
                .strike(1, &at("GET", "/hetzner/v1/servers/7", &Value::Null))
                .1
                .stale,
            None
        );
        assert!(
            faults
                .strike(1, &at("GET", "/hetzner/v1/servers", &Value::Null))
                .1
                .stale
                .is_some()
        );
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let run = |seed| {
            let mut faults = Faults::default();
            faults.add(rule(
                json!({"path": "*", "fault": "reply-lost", "probability": 0.5}),
            ));
            (0..64)
                .map(|_| faults.strike(seed, &at("GET", "/x", &Value::Null)).1.reply_lost)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(1).contains(&true) && run(1).contains(&false));
    }

    #[test]
    fn capacity_lacks_only_where_it_was_said() {
        let mut faults = Faults::default();
        faults.add(rule(json!({"path": "/hetzner/v1/servers", "fault": "no-capacity", "probability": 1.0, "args": {"type": "cx23", "location": "fsn1"}})));
        let mut strike = |body| faults.strike(1, &at("POST", "/hetzner/v1/servers", &body)).0;
        assert_eq!(strike(json!({"server_type": "cx23", "location": "nbg1"})), None);
        assert_eq!(
            strike(json!({"server_type": "cx23", "location": "fsn1"})),
            Some(Blow::NoCapacity)
        );
    }
}
