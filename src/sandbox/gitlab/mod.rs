//! GitLab's REST API, version 4, and as much of its GraphQL as tells what is pending.
//!
//! Where GitLab's own description differs from what the server sends, this follows the server: `runners` lists are
//! arrays, ids are numbers, and the fields in [`NULLABLE`] may be null.

mod graphql;
mod graphql_group;
mod graphql_reader;
mod jobs;
mod json;
mod projects;
mod protected;
mod runner_api;
mod runners;
pub(crate) mod terraform_state;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    api::{Answer, Call, Handler, Party, Reply, Route},
    world::{World, forge::User},
};

/// Fields that the server sends as null though its generated description calls none nullable: what has not
/// happened yet, or was never given.
pub const NULLABLE: &[&str] = &[
    "architecture",
    "artifacts_expire_at",
    "avatar_url",
    "contacted_at",
    "coverage",
    "duration",
    "erased_at",
    "finished_at",
    "maintenance_note",
    "maximum_timeout",
    "parent_id",
    "platform",
    "revision",
    "runner",
    "runner_manager",
    "started_at",
    "token_expires_at",
    "version",
];

/// The version that the server says it has.
const VERSION: &str = "18.6.0";
/// The most entries of a page.
const PER_PAGE_MAX: u64 = 100;
/// Above this the server no longer counts.
const COUNT_MAX: usize = 10_000;

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Gitlab, method, path, name, handler)
}

#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    route("GET", "/api/v4/user", "read the token's user", projects::user),
    route("GET", "/api/v4/personal_access_tokens/self", "read the token's scopes", projects::token),
    route("GET", "/api/v4/version", "read the server's version", projects::version),
    route("GET", "/api/v4/metadata", "read the server's version", projects::version),
    route("GET", "/api/v4/projects", "list projects", projects::list),
    route("GET", "/api/v4/projects/{id}", "read a project", projects::read),
    route("GET", "/api/v4/groups/{id}", "read a group", projects::read_group),
    route("GET", "/api/v4/groups/{id}/projects", "list a group's projects", projects::of_group),
    route("GET", "/api/v4/projects/{id}/jobs", "list a project's jobs", jobs::list),
    route("GET", "/api/v4/projects/{id}/jobs/{job_id}", "read a job", jobs::read),
    route("POST", "/api/v4/projects/{id}/jobs/{job_id}/cancel", "cancel a job", jobs::cancel),
    route("GET", "/api/v4/projects/{id}/runners", "list a project's runners", runners::of_project),
    route("POST", "/api/v4/projects/{id}/runners", "assign a runner to a project", runners::assign),
    route("DELETE", "/api/v4/projects/{id}/runners/{runner_id}", "take a runner from a project", runners::unassign),
    route("GET", "/api/v4/projects/{id}/protected_branches", "list a project's protected branches", protected::branches),
    route("GET", "/api/v4/projects/{id}/protected_tags", "list a project's protected tags", protected::tags),
    route("GET", "/api/v4/groups/{id}/runners", "list a group's runners", runners::of_group),
    route("GET", "/api/v4/runners", "list the user's runners", runners::list),
    route("GET", "/api/v4/runners/all", "list all runners", runners::all),
    route("GET", "/api/v4/runners/{id}", "read a runner", runners::read),
    route("PUT", "/api/v4/runners/{id}", "pause or change a runner", runners::update),
    route("DELETE", "/api/v4/runners/{id}", "delete a runner", runners::delete),
    route("GET", "/api/v4/runners/{id}/jobs", "list a runner's jobs", jobs::of_runner),
    route("GET", "/api/v4/runners/{id}/managers", "list a runner's managers", runners::managers),
    route("GET", "/api/v4/runners/{id}/projects", "list a runner's projects", projects::of_runner),
    route("POST", "/api/v4/runners/{id}/reset_authentication_token", "renew a runner's token", runners::reset_token),
    route("POST", "/api/v4/user/runners", "create a runner", runners::create),
    route("POST", "/api/v4/runners", "register a runner (410: gone)", runner_api::register),
    route("DELETE", "/api/v4/runners", "delete a runner by its token", runner_api::unregister),
    route("DELETE", "/api/v4/runners/managers", "delete a manager by its runner's token", runner_api::remove_manager),
    route("POST", "/api/v4/runners/verify", "verify a runner's token", runner_api::verify),
    route("POST", "/api/v4/jobs/request", "ask for a job", runner_api::request_job),
    route("PUT", "/api/v4/jobs/{id}", "report a job's state", runner_api::update_job),
    route("PATCH", "/api/v4/jobs/{id}/trace", "append to a job's log", runner_api::append_trace),
    route("GET", "/api/v4/projects/{id}/terraform/state/{name}", "read a state", terraform_state::read),
    route("POST", "/api/v4/projects/{id}/terraform/state/{name}", "write a state", terraform_state::write),
    route("DELETE", "/api/v4/projects/{id}/terraform/state/{name}", "delete a state", terraform_state::delete),
    route("POST", "/api/v4/projects/{id}/terraform/state/{name}/lock", "lock a state", terraform_state::lock),
    route("DELETE", "/api/v4/projects/{id}/terraform/state/{name}/lock", "unlock a state", terraform_state::unlock),
    route("GET", "/api/v4/projects/{id}/terraform/state/{name}/versions/{serial}", "read an earlier state", terraform_state::version),
    route("POST", "/api/graphql", "query jobs and groups by GraphQL", graphql::query),
];

/// Routes that runners use with their own tokens.
pub(crate) fn takes_runner_token(method: &str, path: &str) -> bool {
    matches!(
        (method, path),
        (
            "POST",
            "/api/v4/runners" | "/api/v4/runners/verify" | "/api/v4/jobs/request"
        ) | ("DELETE", "/api/v4/runners" | "/api/v4/runners/managers")
            | ("PUT", "/api/v4/jobs/{id}")
            | ("PATCH", "/api/v4/jobs/{id}/trace")
    )
}

/// `{"message": …}`, GitLab's usual error.
pub(crate) fn message(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"message": text}))
}

pub(crate) fn unauthorized() -> Reply {
    message(401, "401 Unauthorized")
}

pub(crate) fn not_found(what: &str) -> Reply {
    message(404, &format!("404 {what} Not Found"))
}

/// A parameter that does not validate.
fn bad(parameter: &str, problem: &str) -> Reply {
    Reply::json(400, &json!({"error": format!("{parameter} {problem}")}))
}

fn forbidden() -> Reply {
    message(403, "403 Forbidden")
}

/// Whose token the call carries: the sandbox's own is an administrator's.
pub(crate) fn user_of(world: &World, call: &Call) -> Option<User> {
    let token = call.token.as_deref()?;
    if token == world.token {
        return Some(User {
            id: 1,
            username: "root".to_owned(),
            admin: true,
            scopes: vec!["api".to_owned(), "admin_mode".to_owned()],
            projects: None,
            level: 50,
        });
    }
    world.forge.users.get(token).cloned()
}

fn reader(world: &World, call: &Call) -> Result<User, Reply> {
    user_of(world, call).ok_or_else(unauthorized)
}

/// The user, if the token may write: by `api`, or by the narrower scope.
fn writer(world: &World, call: &Call, narrower: &str) -> Result<User, Reply> {
    let user = reader(world, call)?;
    if user
        .scopes
        .iter()
        .any(|scope| scope == "api" || scope == narrower)
    {
        return Ok(user);
    }
    Err(Reply::json(
        403,
        &json!({
            "error": "insufficient_scope",
            "error_description": "The request requires higher privileges than provided by the access token.",
            "scope": format!("api {narrower}"),
        }),
    ))
}

impl User {
    fn sees(&self, path: &str) -> bool {
        self.admin || self.is_member(path)
    }

    fn is_member(&self, path: &str) -> bool {
        self.projects
            .as_ref()
            .is_none_or(|projects| projects.iter().any(|known| known == path))
    }
}

/// A parameter, in the body or in the query.
fn given<'a>(call: &'a Call, key: &str) -> Option<std::borrow::Cow<'a, str>> {
    match call.body.get(key) {
        Some(Value::String(text)) => Some(text.as_str().into()),
        Some(Value::Null) | None => call.query(key).map(Into::into),
        Some(other) => Some(other.to_string().into()),
    }
}

/// The server takes every word for yes and no that its framework knows; python-gitlab says `True`.
fn given_bool(call: &Call, key: &str) -> Result<Option<bool>, Reply> {
    match given(call, key).map(|word| word.to_ascii_lowercase()).as_deref() {
        None | Some("") => Ok(None),
        Some("true" | "t" | "yes" | "y" | "on" | "1") => Ok(Some(true)),
        Some("false" | "f" | "no" | "n" | "off" | "0") => Ok(Some(false)),
        Some(_) => Err(bad(key, "is invalid")),
    }
}

/// A list: an array, or words joined by commas.
fn given_list(call: &Call, key: &str) -> Option<Vec<String>> {
    let words: Vec<String> = match call.body.get(key) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => text.split(',').map(|word| word.trim().to_owned()).collect(),
        _ => {
            let words = call.all(key);
            if words.is_empty() {
                return None;
            }
            words.into_iter().map(str::to_owned).collect()
        }
    };
    Some(words.into_iter().filter(|word| !word.is_empty()).collect())
}

/// How a list is to be cut.
struct Paging {
    per_page: u64,
    page: u64,
    /// By id, after the cursor's; else by page.
    keyset: bool,
    after: Option<u64>,
    ascending: bool,
}

fn paging(call: &Call) -> Result<Paging, Reply> {
    let number = |key: &str, default: u64| match call.query(key) {
        None => Ok(default),
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| bad(key, "is invalid")),
    };
    let after = match call.query("cursor") {
        Some(cursor) if !cursor.is_empty() => {
            Some(read_cursor(cursor).ok_or_else(|| bad("cursor", "is invalid"))?)
        }
        _ => call.number("id_after").or_else(|| call.number("id_before")),
    };
    let keyset = call.query("pagination") == Some("keyset") || after.is_some();
    if keyset && call.query("order_by").is_some_and(|key| key != "id") {
        return Err(Reply::json(
            405,
            &json!({"error": "Keyset pagination is not yet available for this type of request"}),
        ));
    }
    let paging = Paging {
        per_page: number("per_page", 20)?.min(PER_PAGE_MAX),
        page: number("page", 1)?,
        keyset,
        after,
        ascending: call.query("sort") == Some("asc"),
    };
    if let Some((from, status)) = call.twists.partial {
        // A keyset list has no page numbers; any page but the first counts.
        if paging.page >= from || paging.after.is_some() {
            return Err(message(status, "upstream failed"));
        }
    }
    Ok(paging)
}

fn read_cursor(cursor: &str) -> Option<u64> {
    let text = URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?;
    let value: Value = serde_json::from_slice(&text).ok()?;
    value["id"].as_str()?.parse().ok()
}

fn write_cursor(id: u64) -> String {
    URL_SAFE_NO_PAD.encode(json!({"id": id.to_string(), "_kd": "n"}).to_string())
}

/// Cuts a list of ids, ascending, into the page that a call asks for, and presents it.
fn listing(
    call: &Call,
    mut ids: Vec<u64>,
    ascending: bool,
    present: impl Fn(u64) -> Option<Value>,
) -> Answer {
    let paging = paging(call)?;
    let ascending = ascending || paging.ascending;
    if !ascending {
        ids.reverse();
    }
    let size = usize::try_from(paging.per_page).unwrap_or(usize::MAX);
    let total = ids.len();
    let start = match paging.after {
        Some(after) if ascending => ids.partition_point(|id| *id <= after),
        Some(after) => ids.partition_point(|id| *id >= after),
        None if paging.keyset => 0,
        None => usize::try_from((paging.page - 1).saturating_mul(paging.per_page))
            .unwrap_or(usize::MAX)
            .min(total),
    };
    let page = &ids[start..(start + size).min(total)];
    let more = start + page.len() < total || call.twists.endless;
    let rows: Vec<Value> = page.iter().filter_map(|id| present(*id)).collect();
    let reply = Reply::json(200, &rows).header("X-Per-Page", paging.per_page.to_string());
    let last = page.last().copied().or(paging.after).unwrap_or(0);
    Ok(if paging.keyset {
        let next = more.then(|| {
            link(
                call,
                &[
                    ("cursor", write_cursor(last)),
                    ("per_page", paging.per_page.to_string()),
                ],
                "next",
            )
        });
        next.into_iter()
            .fold(reply, |reply, link| reply.header("Link", link))
    } else {
        paged_headers(reply, call, &paging, total, more)
    })
}

fn paged_headers(reply: Reply, call: &Call, paging: &Paging, total: usize, more: bool) -> Reply {
    let size = paging.per_page;
    let counted = total as u64
        + if paging.page > 1 {
            call.twists.more_in_total
        } else {
            0
        };
    let pages = counted.div_ceil(size).max(1);
    let at = |page: u64| [("page", page.to_string()), ("per_page", size.to_string())];
    let mut links = vec![link(call, &at(1), "first")];
    if more {
        links.push(link(call, &at(paging.page + 1), "next"));
    }
    if paging.page > 1 {
        links.push(link(call, &at(paging.page - 1), "prev"));
    }
    let mut reply = reply
        .header("X-Page", paging.page.to_string())
        .header(
            "X-Next-Page",
            if more {
                (paging.page + 1).to_string()
            } else {
                String::new()
            },
        )
        .header(
            "X-Prev-Page",
            if paging.page > 1 {
                (paging.page - 1).to_string()
            } else {
                String::new()
            },
        );
    if total <= COUNT_MAX {
        reply = reply
            .header("X-Total", counted.to_string())
            .header("X-Total-Pages", pages.to_string());
        links.push(link(call, &at(pages), "last"));
    }
    reply.header("Link", links.join(", "))
}

/// An entry of a `Link` header: the call's own address with some parameters replaced.
fn link(call: &Call, replaced: &[(&str, String)], rel: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in &call.query {
        let stale = replaced.iter().any(|(known, _)| known == key)
            || (key == "page" && replaced.iter().any(|(known, _)| *known == "cursor"));
        if !stale {
            query.append_pair(key, value);
        }
    }
    for (key, value) in replaced {
        query.append_pair(key, value);
    }
    format!("<{}{}?{}>; rel=\"{rel}\"", call.origin, call.path, query.finish())
}
