//! DigitalOcean's API, version 2, as of its description of 2026-08.
//!
//! Names are not unique and no create is idempotent, as in life: whoever asks twice has two droplets. A droplet is `new`
//! and without addresses until its create action has ended; while an action is under way a further one is refused. It
//! can be deleted at any time. Where the description does not word an error, its words are those that its users report.

mod actions;
mod catalog;
pub(crate) mod create;
mod droplets;
mod firewalls;
mod keys;
mod rules;
mod tags;
#[cfg(test)]
mod tests;
mod vpcs;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    api::{Answer, Call, Party, Reply, Route},
    dice,
    world::World,
};

/// Entries of a page, where none is asked for.
const PER_PAGE: u64 = 20;
/// The most entries of a page.
const PER_PAGE_MAX: u64 = 200;

const fn route(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    handler: super::api::Handler,
) -> Route {
    Route::new(Party::Digitalocean, method, path, name, handler)
}

#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    route("GET", "/account", "read the account", keys::account),
    route("GET", "/account/keys", "list ssh keys", keys::list),
    route("POST", "/account/keys", "create an ssh key", keys::create),
    route("GET", "/account/keys/{id}", "read an ssh key", keys::read),
    route("PUT", "/account/keys/{id}", "rename an ssh key", keys::update),
    route("DELETE", "/account/keys/{id}", "delete an ssh key", keys::delete),
    route("GET", "/actions", "list actions", actions::list),
    route("GET", "/actions/{id}", "read an action", actions::read),
    route("GET", "/droplets", "list droplets", droplets::list),
    route("POST", "/droplets", "create droplets", create::create),
    route("DELETE", "/droplets", "delete the droplets of a tag", droplets::delete_tagged),
    route("POST", "/droplets/actions", "act on the droplets of a tag", actions::act_on_tagged),
    route("GET", "/droplets/{id}", "read a droplet", droplets::read),
    route("DELETE", "/droplets/{id}", "delete a droplet", droplets::delete),
    route("GET", "/droplets/{id}/actions", "list a droplet's actions", actions::of_droplet),
    route("POST", "/droplets/{id}/actions", "act on a droplet", actions::act),
    route("GET", "/droplets/{id}/actions/{action_id}", "read a droplet's action", actions::one_of_droplet),
    route("GET", "/droplets/{id}/firewalls", "list a droplet's firewalls", firewalls::of_droplet),
    route("GET", "/firewalls", "list firewalls", firewalls::list),
    route("POST", "/firewalls", "create a firewall", firewalls::create),
    route("GET", "/firewalls/{id}", "read a firewall", firewalls::read),
    route("PUT", "/firewalls/{id}", "replace a firewall", firewalls::update),
    route("DELETE", "/firewalls/{id}", "delete a firewall", firewalls::delete),
    route("POST", "/firewalls/{id}/droplets", "put droplets behind a firewall", firewalls::add_droplets),
    route("DELETE", "/firewalls/{id}/droplets", "take droplets from behind a firewall", firewalls::remove_droplets),
    route("POST", "/firewalls/{id}/tags", "put tags behind a firewall", firewalls::add_tags),
    route("DELETE", "/firewalls/{id}/tags", "take tags from behind a firewall", firewalls::remove_tags),
    route("POST", "/firewalls/{id}/rules", "add rules to a firewall", firewalls::add_rules),
    route("DELETE", "/firewalls/{id}/rules", "delete rules of a firewall", firewalls::remove_rules),
    route("GET", "/images", "list images", catalog::images),
    route("GET", "/images/{id}", "read an image", catalog::image),
    route("PUT", "/images/{id}", "rename an image", catalog::update_image),
    route("DELETE", "/images/{id}", "delete an image", catalog::delete_image),
    route("GET", "/regions", "list regions", catalog::regions),
    route("GET", "/sizes", "list sizes", catalog::sizes),
    route("GET", "/snapshots", "list snapshots", catalog::snapshots),
    route("GET", "/snapshots/{id}", "read a snapshot", catalog::snapshot),
    route("DELETE", "/snapshots/{id}", "delete a snapshot", catalog::delete_snapshot),
    route("GET", "/tags", "list tags", tags::list),
    route("POST", "/tags", "create a tag", tags::create),
    route("GET", "/tags/{name}", "read a tag", tags::read),
    route("DELETE", "/tags/{name}", "delete a tag", tags::delete),
    route("POST", "/tags/{name}/resources", "tag resources", tags::tag),
    route("DELETE", "/tags/{name}/resources", "untag resources", tags::untag),
    route("GET", "/vpcs", "list VPCs", vpcs::list),
    route("POST", "/vpcs", "create a VPC", vpcs::create),
    route("GET", "/vpcs/{id}", "read a VPC", vpcs::read),
    route("PUT", "/vpcs/{id}", "replace a VPC", vpcs::replace),
    route("PATCH", "/vpcs/{id}", "change a VPC", vpcs::update),
    route("DELETE", "/vpcs/{id}", "delete a VPC", vpcs::delete),
    route("GET", "/vpcs/{id}/members", "list a VPC's members", vpcs::members),
];

/// An error body.
pub(crate) fn error(status: u16, id: &str, message: impl Into<String>) -> Reply {
    Reply::json(status, &json!({"id": id, "message": message.into()}))
}

pub(crate) fn unauthorized() -> Reply {
    error(401, "unauthorized", "Unable to authenticate you")
}

pub(crate) fn not_found() -> Reply {
    error(
        404,
        "not_found",
        "The resource you were accessing could not be found.",
    )
}

/// 422 with what is wrong.
pub(crate) fn invalid(message: impl Into<String>) -> Reply {
    error(422, "unprocessable_entity", message)
}

/// An error of the backend or of what stands before it.
pub(crate) fn server_error(status: u16) -> Reply {
    match status {
        503 => error(status, "service_unavailable", "Service Unavailable"),
        _ => error(status, "server_error", "Unexpected server-side error"),
    }
}

/// An error with the id of its request, as the API's have one.
pub(crate) fn signed(mut reply: Reply, world: &World) -> Reply {
    if reply.status < 400 {
        return reply;
    }
    let calls: u64 = world.api_calls.values().sum();
    let bits = |turn| dice::bits(world.seed, calls, turn);
    let id = format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        bits(0) >> 32,
        bits(1) >> 48,
        bits(2) & 0xfff,
        bits(3) & 0xfff,
        bits(4) >> 16
    );
    if let Ok(Value::Object(mut body)) = serde_json::from_slice(&reply.body) {
        if body.contains_key("id") {
            body.insert("request_id".to_owned(), id.clone().into());
        }
        reply.body = Value::Object(body).to_string().into_bytes();
    }
    reply.header("x-request-id", id)
}

/// How far a call leaves the limits of requests.
pub(crate) struct Limit {
    per_hour: u64,
    remaining: u64,
    reset: i64,
    /// Seconds until a request is free again, where the limit is reached.
    pub(crate) wait: Option<u64>,
}

impl Limit {
    pub(crate) fn onto(self, reply: Reply) -> Reply {
        reply
            .header("ratelimit-limit", self.per_hour.to_string())
            .header("ratelimit-remaining", self.remaining.to_string())
            .header("ratelimit-reset", self.reset.to_string())
    }
}

/// Counts a request against the limits: so many in any hour, a twentieth of them in any minute. One that is refused
/// does not count.
pub(crate) fn draw(world: &mut World) -> Option<Limit> {
    if !world.settings.rate_limit {
        return None;
    }
    let now = world.now.as_second();
    let per_hour = u64::from(world.settings.digitalocean_per_hour);
    let per_minute = (per_hour / 20).max(1);
    let [(hour, oldest), (minute, recent)] = world.ocean.requests.count(now);
    let full = [
        (hour >= per_hour).then_some(oldest).flatten(),
        (minute >= per_minute).then_some(recent).flatten(),
    ];
    let until = full.into_iter().flatten().max();
    if until.is_none() {
        world.ocean.requests.add(now);
    }
    Some(Limit {
        per_hour,
        remaining: per_hour.saturating_sub(hour + u64::from(until.is_none())),
        reset: oldest.unwrap_or(now + 3600),
        wait: until.map(|until| u64::try_from(until - now).unwrap_or(1).max(1)),
    })
}

/// The page that a call asks for.
pub(crate) struct Page {
    page: u64,
    per_page: u64,
}

impl Page {
    /// A number that is none is invalid; more than the most is the most.
    pub(crate) fn of(call: &Call) -> Result<Self, Reply> {
        let number = |key: &str, default: u64| match call.query(key) {
            None => Ok(default),
            Some(text) => text
                .parse::<u64>()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| invalid(format!("{key} must be a number above zero"))),
        };
        let page = Self {
            page: number("page", 1)?,
            per_page: number("per_page", PER_PAGE)?.min(PER_PAGE_MAX),
        };
        match call.twists.partial {
            Some((from, status)) if page.page >= from => Err(server_error(status)),
            _ => Ok(page),
        }
    }

    pub(crate) fn start(&self) -> usize {
        usize::try_from((self.page - 1).saturating_mul(self.per_page)).unwrap_or(usize::MAX)
    }

    pub(crate) fn length(&self) -> usize {
        usize::try_from(self.per_page).unwrap_or(usize::MAX)
    }

    /// What goes with the entries: `links` and `meta`.
    pub(crate) fn around(&self, total: usize, call: &Call) -> Around {
        let more = if self.page > 1 {
            call.twists.more_in_total
        } else {
            0
        };
        let total = total as u64 + more;
        let last = if call.twists.endless {
            u64::MAX
        } else {
            total.div_ceil(self.per_page).max(1)
        };
        let mut pages = Map::new();
        let mut link = |rel: &str, page: u64| {
            pages.insert(rel.to_owned(), self.link(page, call).into());
        };
        if self.page > 1 {
            link("first", 1);
            link("prev", self.page - 1);
        }
        if self.page < last {
            link("next", self.page + 1);
            link("last", last.min(self.page + 1_000_000));
        }
        Around {
            links: if pages.is_empty() {
                json!({})
            } else {
                json!({ "pages": pages })
            },
            meta: json!({ "total": total }),
        }
    }

    fn link(&self, page: u64, call: &Call) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("page", &page.to_string());
        query.append_pair("per_page", &self.per_page.to_string());
        for (key, value) in &call.query {
            if !matches!(key.as_str(), "page" | "per_page") {
                query.append_pair(key, value);
            }
        }
        format!("{}{}?{}", call.origin, call.path, query.finish())
    }
}

/// What every list has besides its entries.
#[derive(Debug, Serialize)]
pub(crate) struct Around {
    pub(crate) links: Value,
    pub(crate) meta: Value,
}

/// Answers a list under its key.
pub(crate) fn listing(key: &str, mut all: Vec<Value>, call: &Call) -> Answer {
    let page = Page::of(call)?;
    let around = page.around(all.len(), call);
    let mut entries = all.split_off(page.start().min(all.len()));
    entries.truncate(page.length());
    let mut body = Map::new();
    body.insert(key.to_owned(), entries.into());
    body.insert("links".to_owned(), around.links);
    body.insert("meta".to_owned(), around.meta);
    Ok(Reply::json(200, &body))
}

/// Whether a list of things that are only made and deleted shows one: a list that lags behind lacks the youngest.
pub(crate) fn is_shown(created: Timestamp, world: &World, call: &Call) -> bool {
    call.twists.as_of(world.now).is_none_or(|then| created <= then)
}

/// The ids of a body's array, `droplet_ids`.
pub(crate) fn numbers(body: &Value, key: &str) -> Result<Vec<u64>, Reply> {
    let given = body.get(key).and_then(Value::as_array);
    let ids = given.into_iter().flatten().map(Value::as_u64);
    ids.collect::<Option<_>>()
        .ok_or_else(|| error(400, "bad_request", "error parsing request body"))
}

/// The texts of a body's array, `tags`.
pub(crate) fn texts(body: &Value, key: &str) -> Result<Vec<String>, Reply> {
    let given = body.get(key).and_then(Value::as_array);
    let all = given
        .into_iter()
        .flatten()
        .map(|text| text.as_str().map(str::to_owned));
    all.collect::<Option<_>>()
        .ok_or_else(|| error(400, "bad_request", "error parsing request body"))
}
