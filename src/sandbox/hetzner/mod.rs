//! Hetzner Cloud's API, version 1, as of its description of 2026-06 without what left it since.

mod catalog;
pub(crate) mod create;
mod firewalls;
mod networks;
mod placement_groups;
mod server_actions;
mod server_changes;
mod servers;
mod ssh_keys;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::{
    api::{Answer, Call, Party, Reply, Route},
    selector::{self, Labels, Selector},
    world::{World, cloud::Action, seconds},
};

/// The most entries of a page.
const PER_PAGE_MAX: u64 = 50;

const fn route(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    handler: super::api::Handler,
) -> Route {
    Route::new(Party::Hetzner, method, path, name, handler)
}

#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    route("GET", "/servers", "list servers", servers::list),
    route("POST", "/servers", "create a server", create::create),
    route("GET", "/servers/actions", "list actions of servers", catalog::server_actions),
    route("GET", "/servers/actions/{id}", "read an action of a server", catalog::action),
    route("GET", "/servers/{id}", "read a server", servers::read),
    route("PUT", "/servers/{id}", "rename or label a server", servers::update),
    route("DELETE", "/servers/{id}", "delete a server", servers::delete),
    route("GET", "/servers/{id}/actions", "list a server's actions", server_actions::list),
    route("GET", "/servers/{id}/actions/{action_id}", "read a server's action", server_actions::read),
    route("POST", "/servers/{id}/actions/poweron", "switch a server on", server_actions::power_on),
    route("POST", "/servers/{id}/actions/poweroff", "cut a server's power", server_actions::power_off),
    route("POST", "/servers/{id}/actions/shutdown", "shut a server down", server_actions::shutdown),
    route("POST", "/servers/{id}/actions/reboot", "reboot a server", server_actions::reboot),
    route("POST", "/servers/{id}/actions/reset", "reset a server", server_actions::reset),
    route("POST", "/servers/{id}/actions/change_protection", "protect a server", server_actions::change_protection),
    route("POST", "/servers/{id}/actions/change_type", "change a server's type", server_changes::change_type),
    route("POST", "/servers/{id}/actions/attach_to_network", "attach a server to a network", server_changes::attach),
    route("POST", "/servers/{id}/actions/detach_from_network", "detach a server from a network", server_changes::detach),
    route("POST", "/servers/{id}/actions/add_to_placement_group", "put a server in a placement group", server_changes::join_group),
    route("POST", "/servers/{id}/actions/remove_from_placement_group", "take a server out of its placement group", server_changes::leave_group),
    route("GET", "/ssh_keys", "list ssh keys", ssh_keys::list),
    route("POST", "/ssh_keys", "create an ssh key", ssh_keys::create),
    route("GET", "/ssh_keys/{id}", "read an ssh key", ssh_keys::read),
    route("PUT", "/ssh_keys/{id}", "rename or label an ssh key", ssh_keys::update),
    route("DELETE", "/ssh_keys/{id}", "delete an ssh key", ssh_keys::delete),
    route("GET", "/firewalls", "list firewalls", firewalls::list),
    route("POST", "/firewalls", "create a firewall", firewalls::create),
    route("GET", "/firewalls/actions", "list actions of firewalls", catalog::firewall_actions),
    route("GET", "/firewalls/actions/{id}", "read an action of a firewall", catalog::action),
    route("GET", "/firewalls/{id}", "read a firewall", firewalls::read),
    route("PUT", "/firewalls/{id}", "rename or label a firewall", firewalls::update),
    route("DELETE", "/firewalls/{id}", "delete a firewall", firewalls::delete),
    route("GET", "/firewalls/{id}/actions", "list a firewall's actions", firewalls::actions),
    route("GET", "/firewalls/{id}/actions/{action_id}", "read a firewall's action", firewalls::action),
    route("POST", "/firewalls/{id}/actions/set_rules", "set a firewall's rules", firewalls::set_rules),
    route("POST", "/firewalls/{id}/actions/apply_to_resources", "apply a firewall", firewalls::apply_to),
    route("POST", "/firewalls/{id}/actions/remove_from_resources", "lift a firewall", firewalls::remove_from),
    route("GET", "/networks", "list networks", networks::list),
    route("POST", "/networks", "create a network", networks::create),
    route("GET", "/networks/actions", "list actions of networks", networks::all_actions),
    route("GET", "/networks/actions/{id}", "read an action of a network", catalog::action),
    route("GET", "/networks/{id}", "read a network", networks::read),
    route("PUT", "/networks/{id}", "rename or label a network", networks::update),
    route("DELETE", "/networks/{id}", "delete a network", networks::delete),
    route("GET", "/networks/{id}/actions", "list a network's actions", networks::actions),
    route("GET", "/networks/{id}/actions/{action_id}", "read a network's action", networks::action),
    route("POST", "/networks/{id}/actions/add_subnet", "add a subnet to a network", networks::add_subnet),
    route("POST", "/networks/{id}/actions/delete_subnet", "delete a subnet of a network", networks::delete_subnet),
    route("POST", "/networks/{id}/actions/change_protection", "protect a network", networks::change_protection),
    route("GET", "/placement_groups", "list placement groups", placement_groups::list),
    route("POST", "/placement_groups", "create a placement group", placement_groups::create),
    route("GET", "/placement_groups/{id}", "read a placement group", placement_groups::read),
    route("PUT", "/placement_groups/{id}", "rename or label a placement group", placement_groups::update),
    route("DELETE", "/placement_groups/{id}", "delete a placement group", placement_groups::delete),
    route("GET", "/server_types", "list server types", catalog::server_types),
    route("GET", "/server_types/{id}", "read a server type", catalog::server_type),
    route("GET", "/locations", "list locations", catalog::locations),
    route("GET", "/locations/{id}", "read a location", catalog::location),
    route("GET", "/images", "list images", catalog::images),
    route("GET", "/images/{id}", "read an image", catalog::image),
    route("GET", "/pricing", "read the prices", catalog::pricing),
    route("GET", "/actions", "read actions by id", catalog::actions),
    route("GET", "/actions/{id}", "read an action", catalog::action),
    route("GET", "/primary_ips", "list primary IPs", catalog::primary_ips),
    route("GET", "/primary_ips/{id}", "read a primary IP", catalog::primary_ip),
    route("GET", "/datacenters", "list data centers (410: gone)", catalog::datacenters),
    route("GET", "/datacenters/{id}", "read a data center (410: gone)", catalog::datacenters),
];

/// An error body.
#[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
pub(crate) fn error(status: u16, code: &str, message: impl Into<String>, details: Value) -> Reply {
    Reply::json(
        status,
        &json!({"error": {"code": code, "message": message.into(), "details": details}}),
    )
}

pub(crate) fn unauthorized() -> Reply {
    error(401, "unauthorized", "unable to authenticate", Value::Null)
}

pub(crate) fn not_found(what: &str) -> Reply {
    error(404, "not_found", format!("{what} not found"), Value::Null)
}

/// 422 for one field.
pub(crate) fn invalid(field: &str, problem: &str) -> Reply {
    error(
        422,
        "invalid_input",
        format!("invalid input in field '{field}': {problem}"),
        json!({"fields": [{"name": field, "messages": [problem]}]}),
    )
}

pub(crate) fn unique(message: &str, field: &str) -> Reply {
    error(
        409,
        "uniqueness_error",
        message,
        json!({"fields": [{"name": field}]}),
    )
}

/// An error of the backend or of what stands before it.
pub(crate) fn server_error(status: u16) -> Reply {
    let code = match status {
        503 => "unavailable",
        504 => "timeout",
        _ => "server_error",
    };
    error(status, code, "an error occurred in the backend", Value::Null)
}

/// The page that a call asks for.
pub(crate) struct Page {
    pub(crate) page: u64,
    pub(crate) per_page: u64,
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
                .ok_or_else(|| invalid(key, "must be a number above zero")),
        };
        let page = Self {
            page: number("page", 1)?,
            per_page: number("per_page", 25)?.min(PER_PAGE_MAX),
        };
        match call.twists.partial {
            Some((from, status)) if page.page >= from => Err(server_error(status)),
            _ => Ok(page),
        }
    }

    pub(crate) fn cut<T>(&self, mut all: Vec<T>) -> Vec<T> {
        let start = self.start().min(all.len());
        let mut page = all.split_off(start);
        page.truncate(usize::try_from(self.per_page).unwrap_or(usize::MAX));
        page
    }

    pub(crate) fn start(&self) -> usize {
        usize::try_from((self.page - 1).saturating_mul(self.per_page)).unwrap_or(usize::MAX)
    }

    pub(crate) fn meta(&self, total: usize, call: &Call) -> Value {
        let total = total as u64
            + if self.page > 1 {
                call.twists.more_in_total
            } else {
                0
            };
        let last = total.div_ceil(self.per_page).max(1);
        let (next, last) = if call.twists.endless {
            (Some(self.page + 1), last.max(self.page + 1))
        } else {
            ((self.page < last).then_some(self.page + 1), last)
        };
        json!({"pagination": {
            "page": self.page, "per_page": self.per_page,
            "previous_page": (self.page > 1).then(|| self.page - 1),
            "next_page": next, "last_page": last, "total_entries": total,
        }})
    }
}

/// Answers a list under its key.
pub(crate) fn listing(key: &str, all: Vec<Value>, call: &Call) -> Answer {
    let page = Page::of(call)?;
    let meta = page.meta(all.len(), call);
    let mut body = Map::new();
    body.insert(key.to_owned(), page.cut(all).into());
    body.insert("meta".to_owned(), meta);
    Ok(Reply::json(200, &body))
}

/// Sorts entries by `sort=key[:asc|:desc]`, for the keys that the list knows; ids ascending otherwise.
pub(crate) fn sort(all: &mut [Value], call: &Call, keys: &[&str]) -> Result<(), Reply> {
    // The first is the foremost, so the last is sorted by first; the sort is stable.
    for order in call.all("sort").into_iter().rev() {
        let (key, descending) = match order.split_once(':') {
            Some((key, "desc")) => (key, true),
            Some((key, "asc")) => (key, false),
            None => (order, false),
            Some(_) => return Err(invalid("sort", "unknown order")),
        };
        if !keys.contains(&key) {
            return Err(invalid("sort", "unknown key"));
        }
        all.sort_by(|a, b| {
            let order = match (a[key].as_u64(), b[key].as_u64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a[key].as_str().cmp(&b[key].as_str()),
            };
            if descending { order.reverse() } else { order }
        });
    }
    Ok(())
}

/// The call's label selector, where it has one.
pub(crate) fn label_selector(call: &Call) -> Result<Selector, Reply> {
    Selector::parse(call.query("label_selector").unwrap_or_default())
        .ok_or_else(|| invalid("label_selector", "invalid label selector"))
}

/// Labels of a body, by the rules; `None` where it names none.
pub(crate) fn labels(body: &Value) -> Result<Option<Labels>, Reply> {
    let Some(given) = body.get("labels").filter(|given| !given.is_null()) else {
        return Ok(None);
    };
    let given = given
        .as_object()
        .ok_or_else(|| invalid("labels", "must be an object"))?;
    let mut labels = Labels::new();
    for (key, value) in given {
        let value = value
            .as_str()
            .ok_or_else(|| invalid("labels", "values must be strings"))?;
        if !selector::valid_key(key) || !selector::valid_value(value) {
            return Err(invalid("labels", &format!("invalid label {key}={value}")));
        }
        labels.insert(key.clone(), value.to_owned());
    }
    Ok(Some(labels))
}

/// A name of a body: required, not empty, at most 128 characters.
pub(crate) fn required_name(body: &Value) -> Result<&str, Reply> {
    body.get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty() && name.len() <= 128)
        .ok_or_else(|| invalid("name", "is required, 1 to 128 characters"))
}

impl World {
    /// Records an action of the usual length; with a twist it ends in error.
    pub(crate) fn act(&mut self, command: &str, resources: &[(&str, u64)], call: &Call) -> Action {
        let ends = super::world::add(
            self.now,
            jiff::SignedDuration::try_from(self.settings.action_time).unwrap_or_default(),
        );
        self.act_until(command, ends, resources, call)
    }

    pub(crate) fn act_until(
        &mut self,
        command: &str,
        ends: jiff::Timestamp,
        resources: &[(&str, u64)],
        call: &Call,
    ) -> Action {
        let mut action = self.cloud.act(command, self.now, ends, resources);
        if call.twists.action_error {
            action.error = Some(("action_failed".to_owned(), "Action failed".to_owned()));
            self.cloud.actions.insert(action.id, action.clone());
        }
        action
    }

    /// An action as it stands now.
    pub(crate) fn action_json(&self, action: &Action) -> Value {
        let ended = self.now >= action.ends;
        let failed = action.error.as_ref().filter(|_| ended);
        let progress = if ended {
            100
        } else {
            let whole = action.ends.duration_since(action.started).as_millis().max(1);
            self.now.duration_since(action.started).as_millis() * 100 / whole
        };
        let resources: Vec<Value> = action
            .resources
            .iter()
            .map(|(kind, id)| json!({"id": id, "type": kind}))
            .collect();
        json!({
            "id": action.id, "command": action.command,
            "status": match (ended, failed) { (false, _) => "running", (true, None) => "success", (true, Some(_)) => "error" },
            "started": seconds(action.started),
            "finished": ended.then(|| seconds(action.ends)),
            "progress": i64::try_from(progress).unwrap_or(100),
            "resources": resources,
            "error": failed.map(|(code, message)| json!({"code": code, "message": message})),
        })
    }
}

/// Gives the answer of a call that reads one action among a resource's.
pub(crate) fn one_action(world: &World, kind: &str, call: &Call) -> Answer {
    let owner = call.id(0);
    let action = call
        .id(1)
        .and_then(|id| world.cloud.actions.get(&id))
        .filter(|action| {
            action
                .resources
                .iter()
                .any(|(known, id)| known == kind && Some(*id) == owner)
        })
        .ok_or_else(|| not_found("action"))?;
    Ok(Reply::json(200, &json!({"action": world.action_json(action)})))
}

/// Lists actions, those of a kind of resource or of one resource.
pub(crate) fn list_actions(world: &World, kind: &str, owner: Option<u64>, call: &Call) -> Answer {
    let statuses = call.all("status");
    let ids = call.all("id");
    let mut all: Vec<Value> = world
        .cloud
        .actions
        .values()
        .filter(|action| {
            action
                .resources
                .iter()
                .any(|(known, id)| known == kind && owner.is_none_or(|owner| owner == *id))
        })
        .filter(|action| ids.is_empty() || ids.contains(&action.id.to_string().as_str()))
        .map(|action| world.action_json(action))
        .filter(|action| {
            statuses.is_empty()
                || action["status"]
                    .as_str()
                    .is_some_and(|status| statuses.contains(&status))
        })
        .collect();
    sort(
        &mut all,
        call,
        &["id", "command", "status", "started", "finished"],
    )?;
    listing("actions", all, call)
}
