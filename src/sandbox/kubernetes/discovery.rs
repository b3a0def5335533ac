//! What the API server says of itself: groups, resources, version, and as much of its OpenAPI as kubectl asks for before it
//! sends an object: that a change may be validated by the server.

#![expect(clippy::unnecessary_wraps, reason = "handlers have one signature")]

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    super::{
        api::{Answer, Call, Party, Reply},
        world::{
            World,
            cluster::{RESOURCES, Resource},
        },
    },
    not_found,
};

const AUTHORIZATION: &str = "authorization.k8s.io";

pub(super) fn ready(_: &mut World, _: &Call) -> Answer {
    Ok(Reply {
        body: b"ok".to_vec(),
        ..Reply::empty(200).header("Content-Type", "text/plain; charset=utf-8")
    })
}

pub(super) fn version(_: &mut World, _: &Call) -> Answer {
    Ok(Reply::json(
        200,
        &json!({
            "major": "1", "minor": "32", "gitVersion": "v1.32.4", "gitCommit": "", "gitTreeState": "clean", "buildDate": "2025-04-22T16:03:58Z",
            "goVersion": "go1.23.6", "compiler": "gc", "platform": "linux/amd64",
        }),
    ))
}

pub(super) fn core(_: &mut World, call: &Call) -> Answer {
    let address = call.origin.split_once("://").map_or("", |(_, address)| address);
    Ok(Reply::json(
        200,
        &json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }),
    ))
}

/// The named groups, as they are listed.
fn names() -> BTreeSet<&'static str> {
    let named = RESOURCES
        .iter()
        .map(|resource| resource.group)
        .filter(|group| !group.is_empty());
    named.chain([AUTHORIZATION]).collect()
}

pub(super) fn groups(_: &mut World, _: &Call) -> Answer {
    let groups: Vec<Value> = names()
        .into_iter()
        .map(|name| {
            let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        })
        .collect();
    Ok(Reply::json(
        200,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
    ))
}

fn group_of(call: &Call) -> Result<&str, Reply> {
    let group = call.param(0);
    if group.is_empty() || names().contains(group) {
        Ok(group)
    } else {
        Err(not_found())
    }
}

fn of_group(group: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| resource.group == group)
}

pub(super) fn resources(_: &mut World, call: &Call) -> Answer {
    let group = group_of(call)?;
    let verbs = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let mut all: Vec<Value> = of_group(group)
        .map(|resource| {
            let mut one = json!({
                "name": resource.plural, "singularName": resource.name.to_lowercase(), "namespaced": resource.namespaced,
                "kind": resource.name, "verbs": verbs,
            });
            if !resource.short.is_empty() {
                one["shortNames"] = resource.short.into();
            }
            if matches!(resource.plural, "pods" | "jobs" | "cronjobs" | "services" | "deployments") {
                one["categories"] = json!(["all"]);
            }
            one
        })
        .collect();
    let part = |name: &str, kind: &str, namespaced: bool, verb: &str| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": [verb]});
    if group.is_empty() {
        all.push(part("pods/log", "Pod", true, "get"));
        let mut eviction = part("pods/eviction", "Eviction", true, "create");
        eviction["group"] = "policy".into();
        eviction["version"] = "v1".into();
        all.push(eviction);
        let mut token = part("serviceaccounts/token", "TokenRequest", true, "create");
        token["group"] = "authentication.k8s.io".into();
        token["version"] = "v1".into();
        all.push(token);
    }
    if group == AUTHORIZATION {
        for (name, kind) in [
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ] {
            all.push(part(name, kind, false, "create"));
        }
    }
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    Ok(Reply::json(
        200,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": all}),
    ))
}

pub(super) fn openapi(_: &mut World, _: &Call) -> Answer {
    let mut paths = Map::new();
    let named = names().into_iter().map(|name| format!("apis/{name}/v1"));
    for path in named.chain(["api/v1".to_owned()]) {
        let url = format!("{}/openapi/v3/{path}?hash=1", Party::Kubernetes.prefix());
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    Ok(Reply::json(200, &json!({"paths": paths})))
}

/// Which objects may be changed, and that the server validates what it is sent; no schemas.
pub(super) fn description(_: &mut World, call: &Call) -> Answer {
    let group = group_of(call)?;
    let mut paths = Map::new();
    let validation = json!([{"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": true}}]);
    for resource in of_group(group) {
        let root = if group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{group}/v1")
        };
        let within = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let kind = json!({"group": group, "version": "v1", "kind": resource.name});
        let operation = |action: &str| json!({"parameters": validation, "responses": {"200": {"description": "OK"}}, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind});
        let path = format!("{root}{within}/{}", resource.plural);
        paths.insert(path.clone(), json!({"post": operation("post")}));
        paths.insert(
            format!("{path}/{{name}}"),
            json!({"patch": operation("patch"), "put": operation("put")}),
        );
    }
    Ok(Reply::json(
        200,
        &json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.32.4"}, "paths": paths}),
    ))
}
