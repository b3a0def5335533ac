//! One request against the world: faults, rate limit, token, route, handler. Synchronous; the transport waits and writes.
//!
//! Long because every party words its refusals in its own way, and this is where they stand side by side.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    api::{self, Call, Found, Party, Reply},
    azure, circleci,
    clock::http_date,
    control, digitalocean, drone,
    faults::{Blow, Target, Twists},
    gitlab, hetzner, kubernetes, prometheus,
    world::World,
};

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Undecoded, without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) token: Option<String>,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    pub(crate) body: Vec<u8>,
    pub(crate) origin: String,
}

/// What the transport is to do.
#[derive(Debug)]
pub(crate) struct Step {
    /// Before it answers or closes.
    pub(crate) wait: Duration,
    /// `None`: the connection closes without an answer.
    pub(crate) reply: Option<Reply>,
    /// The call may have changed the world.
    pub(crate) changed: bool,
}

/// Plays the world up to now and lets it answer.
pub(crate) fn handle(world: &mut World, request: Request, wall: Timestamp) -> Step {
    let now = world.clock.at(wall);
    world.advance(now);
    let Some((party, rest)) = Party::of(&request.path) else {
        return answered(world, control::not_found(), false);
    };
    let rest = rest.to_owned();
    let found = api::find(party, &request.method, &rest);
    count(world, party, &request.method, &found);
    let body = parse_body(&request);
    let (blow, twists) = struck(world, party, &request, body.as_ref().unwrap_or(&Value::Null));
    let base = if party == Party::Control {
        Duration::ZERO
    } else {
        world.settings.latency
    };
    let wait = base + twists.latency;
    match &blow {
        Some(Blow::RequestLost) => {
            return Step {
                wait,
                reply: None,
                changed: false,
            };
        }
        Some(Blow::Hang(length)) => {
            return Step {
                wait: wait + *length,
                reply: None,
                changed: false,
            };
        }
        _ => {}
    }
    let (reply_lost, delay) = (twists.reply_lost, twists.delay);
    let limit = draw(world, party);
    let held = limit.as_ref().map_or(Duration::ZERO, |limit| limit.delay(world));
    let refusal = limit
        .as_ref()
        .filter(|limit| limit.is_reached())
        .map(|limit| rate_limited(party, limit.wait()))
        .or_else(|| blow.map(|blow| blown(party, &blow)));
    let mut changed = false;
    let reply = if let Some(reply) = refusal {
        reply
    } else {
        let reads = ["GET", "OPTIONS"].contains(&request.method.as_str());
        let writes = !reads && !request.path.ends_with("/graphql");
        let reply = respond(world, party, found, request, body, twists, wall);
        // A refusal comes before any change.
        changed = writes && reply.status < 400;
        reply
    };
    let reply = limit.into_iter().fold(reply, |reply, limit| limit.onto(reply));
    let reply = match party {
        Party::Digitalocean => digitalocean::signed(reply, world),
        Party::Azure => delay
            .into_iter()
            .fold(reply, |reply, seconds| azure::delayed(reply, seconds as f64)),
        _ => reply,
    };
    let step = answered(world, reply, changed);
    Step {
        wait: wait + held,
        reply: step.reply.filter(|_| !reply_lost),
        changed,
    }
}

/// What the faults in force do to a call.
fn struck(world: &mut World, party: Party, request: &Request, body: &Value) -> (Option<Blow>, Twists) {
    if party == Party::Control {
        return (None, Twists::default());
    }
    let seed = world.seed;
    let (blow, mut twists) = world.faults.strike(seed, &Target::of(request, body));
    match blow {
        // A cluster takes the Job in; its pods wait.
        Some(Blow::NoCapacity) if party == Party::Kubernetes => {
            twists.no_room = true;
            (None, twists)
        }
        blow => (blow, twists),
    }
}

impl<'a> Target<'a> {
    fn of(request: &'a Request, body: &'a Value) -> Self {
        let mut page = 1;
        for (key, value) in url::form_urlencoded::parse(request.query.as_bytes()) {
            match key.as_ref() {
                "page" => page = value.parse().unwrap_or(1),
                "continue" | "cursor" | "id_before" | "id_after" if !value.is_empty() => page = u64::MAX,
                _ => {}
            }
        }
        let follows = body.pointer("/variables/after").is_some_and(Value::is_string);
        let inlined = body
            .get("query")
            .and_then(Value::as_str)
            .is_some_and(|text| text.contains("after: \""));
        if request.path.ends_with("/graphql") && (follows || inlined) {
            page = u64::MAX;
        }
        Self {
            method: &request.method,
            path: &request.path,
            page,
            body,
        }
    }
}

fn answered(world: &World, reply: Reply, changed: bool) -> Step {
    Step {
        wait: Duration::ZERO,
        reply: Some(reply.header("Date", http_date(world.now))),
        changed,
    }
}

fn count(world: &mut World, party: Party, method: &str, found: &Found) {
    let path = match found {
        Found::Route(route, _) => route.operation.path,
        Found::OtherMethod | Found::Nothing => "(unknown)",
    };
    if party != Party::Control {
        *world
            .api_calls
            .entry(format!("{} {method} {path}", party.name()))
            .or_default() += 1;
    }
}

fn respond(
    world: &mut World,
    party: Party,
    found: Found,
    request: Request,
    body: Result<Value, ()>,
    twists: Twists,
    wall: Timestamp,
) -> Reply {
    let call = Call {
        params: Vec::new(),
        query: url::form_urlencoded::parse(request.query.as_bytes())
            .into_owned()
            .collect(),
        body: Value::Null,
        token: request.token,
        origin: request.origin,
        path: request.path,
        accept: request.accept,
        content_type: request.content_type,
        twists,
        wall,
    };
    let (route, params) = match found {
        Found::Route(route, params) => (route, params),
        other => {
            return if authorized(world, party, "", "", &call) {
                unknown(party, &other)
            } else {
                refused(world, party, &call)
            };
        }
    };
    if !authorized(world, party, route.operation.method, route.operation.path, &call) {
        return refused(world, party, &call);
    }
    match body {
        Err(()) => bad_json(party),
        Ok(body) => (route.handler)(world, &Call { params, body, ..call }).unwrap_or_else(|refusal| refusal),
    }
}

fn authorized(world: &World, party: Party, method: &str, path: &str, call: &Call) -> bool {
    match party {
        Party::Hetzner | Party::Digitalocean => call.token.as_deref() == Some(&world.token),
        Party::Gitlab => gitlab::takes_runner_token(method, path) || gitlab::user_of(world, call).is_some(),
        Party::Drone | Party::Circleci => gitlab::user_of(world, call).is_some(),
        Party::Azure => azure::authorized(world, call),
        Party::Kubernetes => call
            .token
            .as_deref()
            .is_some_and(|token| world.is_known_to_cluster(token)),
        // A Prometheus asks for no token either.
        Party::Prometheus | Party::Control => true,
    }
}

fn refused(world: &World, party: Party, call: &Call) -> Reply {
    match party {
        Party::Azure => azure::refused(world, call),
        _ => unauthorized(party),
    }
}

fn unauthorized(party: Party) -> Reply {
    match party {
        Party::Azure => azure::unauthorized(),
        Party::Hetzner => hetzner::unauthorized(),
        Party::Drone => drone::unauthorized(),
        Party::Circleci => circleci::unauthorized(),
        Party::Kubernetes => kubernetes::unauthorized(),
        Party::Digitalocean => digitalocean::unauthorized(),
        Party::Gitlab | Party::Prometheus | Party::Control => gitlab::unauthorized(),
    }
}

fn unknown(party: Party, found: &Found) -> Reply {
    match (party, found) {
        (Party::Hetzner, Found::OtherMethod) => {
            hetzner::error(405, "method_not_allowed", "method not allowed", Value::Null)
        }
        (Party::Hetzner, _) => hetzner::not_found("endpoint"),
        (Party::Gitlab, Found::OtherMethod) => {
            Reply::json(405, &serde_json::json!({"error": "405 Not Allowed"}))
        }
        (Party::Gitlab, _) => Reply::json(404, &serde_json::json!({"error": "404 Not Found"})),
        (Party::Drone | Party::Prometheus, Found::OtherMethod) => Reply::empty(405),
        (Party::Drone, _) => drone::message(404, "Not Found"),
        (Party::Circleci, Found::OtherMethod) => circleci::message(405, "Method Not Allowed"),
        (Party::Azure, Found::OtherMethod) => azure::error(
            405,
            "VssRequestNotSupportedException",
            "The requested resource does not support this method.",
        ),
        (Party::Azure, _) => azure::not_found(),
        (Party::Circleci, _) => circleci::message(404, "Not Found"),
        (Party::Kubernetes, Found::OtherMethod) => kubernetes::other_method(),
        (Party::Kubernetes, _) => kubernetes::not_found(),
        (Party::Digitalocean, _) => digitalocean::not_found(),
        (Party::Prometheus, _) => Reply::empty(404),
        (Party::Control, _) => control::not_found(),
    }
}

fn bad_json(party: Party) -> Reply {
    match party {
        Party::Hetzner => hetzner::error(400, "json_error", "invalid JSON in the request", Value::Null),
        Party::Drone => drone::message(400, "Invalid JSON"),
        Party::Circleci => circleci::message(400, "Invalid JSON"),
        Party::Azure => azure::error(
            400,
            "VssPropertyValidationException",
            "The body is no JSON object.",
        ),
        Party::Kubernetes => {
            kubernetes::bad_request("couldn't get version/kind; json parse error: the body is no JSON object")
        }
        Party::Digitalocean => digitalocean::error(400, "bad_request", "Invalid JSON in the request body."),
        Party::Gitlab | Party::Prometheus | Party::Control => {
            Reply::json(400, &serde_json::json!({"error": "the body is no JSON object"}))
        }
    }
}

fn rate_limited(party: Party, retry_after: Option<u64>) -> Reply {
    let reply = match party {
        Party::Hetzner => hetzner::error(429, "rate_limit_exceeded", "rate limit exceeded", Value::Null),
        Party::Drone => drone::message(429, "Too Many Requests"),
        Party::Circleci => circleci::message(429, "Rate limit exceeded"),
        Party::Azure => azure::rate_limited(),
        Party::Kubernetes => kubernetes::too_many(retry_after),
        Party::Digitalocean => digitalocean::error(429, "too_many_requests", "API Rate limit exceeded."),
        Party::Gitlab | Party::Prometheus | Party::Control => gitlab::message(
            429,
            "This endpoint has been requested too many times. Try again later.",
        ),
    };
    retry_after.into_iter().fold(reply, |reply, seconds| {
        reply.header("Retry-After", seconds.to_string())
    })
}

fn blown(party: Party, blow: &Blow) -> Reply {
    match blow {
        Blow::RateLimited { retry_after } => rate_limited(party, *retry_after),
        Blow::Unauthorized => unauthorized(party),
        Blow::NoCapacity if party == Party::Digitalocean => digitalocean::create::no_capacity(),
        Blow::NoCapacity => hetzner::create::no_capacity(),
        Blow::Quota if party == Party::Digitalocean => digitalocean::create::quota(),
        Blow::Quota if party == Party::Kubernetes => kubernetes::quota(),
        Blow::Quota => hetzner::create::quota(),
        Blow::ServerError(status) => server_error(party, *status),
        Blow::Error {
            status,
            code,
            message,
        } if party == Party::Hetzner => hetzner::error(*status, code, message, Value::Null),
        Blow::Error {
            status,
            code,
            message,
        } if party == Party::Digitalocean => digitalocean::error(*status, code, message),
        Blow::Error {
            status,
            code,
            message,
        } if party == Party::Kubernetes => kubernetes::status(*status, code, message.as_str(), None),
        Blow::Error { status, message, .. } if party == Party::Prometheus => {
            prometheus::error(*status, "execution", message)
        }
        Blow::Error {
            status,
            code,
            message,
        } if party == Party::Azure => azure::error(*status, code, message),
        Blow::Error { status, message, .. } => gitlab::message(*status, message),
        Blow::RequestLost | Blow::Hang(_) => server_error(party, 500),
    }
}

fn server_error(party: Party, status: u16) -> Reply {
    match party {
        Party::Hetzner => hetzner::server_error(status),
        Party::Digitalocean => digitalocean::server_error(status),
        Party::Prometheus => prometheus::error(status, "internal", "an error was ordered"),
        Party::Azure => azure::server_error(status),
        Party::Kubernetes => kubernetes::server_error(status),
        // All of them say it so.
        Party::Gitlab | Party::Drone | Party::Circleci | Party::Control => {
            gitlab::message(status, &format!("{status} Internal Server Error"))
        }
    }
}

/// The body as JSON: an object, or null where there is none. A form becomes an object of strings.
fn parse_body(request: &Request) -> Result<Value, ()> {
    let kind = request.content_type.split(';').next().unwrap_or_default().trim();
    // `curl -d` and urllib send JSON as a form unless told otherwise; no form of these APIs begins with a brace.
    let kind = if request.body.trim_ascii_start().starts_with(b"{") {
        "application/json"
    } else {
        kind
    };
    match kind {
        // What is no review is refused by whoever gets it.
        kubernetes::protobuf::CONTENT_TYPE => {
            Ok(kubernetes::protobuf::review(&request.body).unwrap_or_default())
        }
        "application/x-www-form-urlencoded" => Ok(Value::Object(
            url::form_urlencoded::parse(&request.body)
                .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
                .collect(),
        )),
        "" | "application/json" if !request.body.is_empty() => match serde_json::from_slice(&request.body) {
            Ok(body @ (Value::Object(_) | Value::Null)) => Ok(body),
            _ => Err(()),
        },
        _ => Ok(Value::Null),
    }
}

/// The state of a cloud's rate limit after a call.
enum Limit {
    Hetzner(Bucket),
    Digitalocean(digitalocean::Limit),
    Azure(azure::Limit),
}

impl Limit {
    fn is_reached(&self) -> bool {
        match self {
            Self::Hetzner(bucket) => bucket.exhausted,
            Self::Digitalocean(limit) => limit.wait.is_some(),
            Self::Azure(limit) => limit.is_reached,
        }
    }

    /// Seconds to wait, where the cloud says how long.
    fn wait(&self) -> Option<u64> {
        match self {
            Self::Hetzner(_) => None,
            Self::Digitalocean(limit) => limit.wait,
            Self::Azure(limit) => Some(limit.wait()),
        }
    }

    /// How long, by the wall, the answer is held back.
    fn delay(&self, world: &World) -> Duration {
        match self {
            Self::Azure(limit) if world.settings.speed > 0.0 => {
                Duration::from_secs_f64(limit.delay / world.settings.speed)
            }
            _ => Duration::ZERO,
        }
    }

    fn onto(self, reply: Reply) -> Reply {
        match self {
            Self::Hetzner(bucket) => bucket.onto(reply),
            Self::Digitalocean(limit) => limit.onto(reply),
            Self::Azure(limit) => limit.onto(reply),
        }
    }
}

fn draw(world: &mut World, party: Party) -> Option<Limit> {
    match party {
        Party::Hetzner => draw_token(world).map(Limit::Hetzner),
        Party::Digitalocean => digitalocean::draw(world).map(Limit::Digitalocean),
        Party::Azure => azure::draw(world).map(Limit::Azure),
        _ => None,
    }
}

/// The state of Hetzner's rate limit after a call.
struct Bucket {
    per_hour: u32,
    remaining: f64,
    exhausted: bool,
    reset: i64,
}

impl Bucket {
    fn onto(self, reply: Reply) -> Reply {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0 and the limit, a u32"
        )]
        let remaining = self.remaining.max(0.0) as u32;
        reply
            .header("RateLimit-Limit", self.per_hour.to_string())
            .header("RateLimit-Remaining", remaining.to_string())
            .header("RateLimit-Reset", self.reset.to_string())
    }
}

/// Takes a token from the bucket, which refills by the limit per hour of world time.
fn draw_token(world: &mut World) -> Option<Bucket> {
    if !world.settings.rate_limit {
        return None;
    }
    let limit = world.settings.rate_limit_per_hour;
    let full = f64::from(limit);
    let per_second = full / 3600.0;
    let (left, at) = world.cloud.bucket.unwrap_or((full, world.now));
    let left = (left + world.now.duration_since(at).as_secs_f64() * per_second).min(full);
    let exhausted = left < 1.0;
    let remaining = if exhausted { left } else { left - 1.0 };
    world.cloud.bucket = Some((remaining, world.now));
    #[expect(clippy::cast_possible_truncation, reason = "at most an hour in seconds")]
    let missing = ((full - remaining) / per_second).ceil() as i64;
    Some(Bucket {
        per_hour: limit,
        remaining,
        exhausted,
        reset: world.now.as_second() + missing,
    })
}
