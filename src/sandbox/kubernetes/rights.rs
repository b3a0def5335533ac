//! Who may do what: the sandbox's own token everything, a service account's what its roles say.

use serde_json::{Value, json};

use super::{
    super::{
        api::{Answer, Call, Reply},
        dice,
        world::{
            World, add,
            cluster::{Key, Kind, text},
            seconds,
        },
    },
    Target, about, absent, bad_request, status, target,
};
use jiff::SignedDuration;

/// What is to be done with what.
struct Wish<'a> {
    verb: &'a str,
    group: &'a str,
    /// `pods`, `pods/log`.
    resource: String,
    namespace: &'a str,
    name: &'a str,
}

/// The service account whose token it is; none for the sandbox's own.
fn account<'a>(world: &'a World, call: &Call) -> Option<&'a (String, String)> {
    world.cluster.tokens.get(call.token.as_deref()?)
}

fn user((namespace, name): &(String, String)) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Whether whoever calls may do this.
pub(super) fn allowed(world: &World, call: &Call, verb: &str, target: &Target) -> Result<(), Reply> {
    let Some(account) = account(world, call) else {
        return Ok(());
    };
    let resource = target.resource();
    let part = match target.part.as_str() {
        "" => resource.plural.to_owned(),
        part => format!("{}/{part}", resource.plural),
    };
    let wish = Wish {
        verb,
        group: resource.group,
        resource: part.clone(),
        namespace: &target.namespace,
        name: &target.name,
    };
    if may(world, account, &wish) {
        return Ok(());
    }
    let place = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let named = match target.name.as_str() {
        "" => String::new(),
        name => format!(" \"{name}\""),
    };
    let message = format!(
        "{}{named} is forbidden: User \"{}\" cannot {verb} resource \"{part}\" in API group \"{}\" {place}",
        resource.full(),
        user(account),
        resource.group,
    );
    Err(status(
        403,
        "Forbidden",
        message,
        Some(about(target, &target.name)),
    ))
}

/// The rules that hold for an account in a namespace.
fn rules(world: &World, account: &(String, String), namespace: &str) -> Vec<Value> {
    let bound = |binding: &Value| {
        let subjects = binding["subjects"].as_array();
        subjects.into_iter().flatten().any(|subject| {
            text(subject, "/kind") == "ServiceAccount"
                && text(subject, "/namespace") == account.0
                && text(subject, "/name") == account.1
        })
    };
    let mut found = Vec::new();
    for kind in [Kind::RoleBinding, Kind::ClusterRoleBinding] {
        for (key, binding) in world.cluster.of(kind) {
            if key.namespace != namespace && kind == Kind::RoleBinding || !bound(binding) {
                continue;
            }
            let role = text(binding, "/roleRef/name");
            let role = match text(binding, "/roleRef/kind") {
                "ClusterRole" => Key::new(Kind::ClusterRole, "", role),
                _ => Key::new(Kind::Role, &key.namespace, role),
            };
            let of_role = world.cluster.get(&role).and_then(|role| role["rules"].as_array());
            found.extend(of_role.into_iter().flatten().cloned());
        }
    }
    found
}

fn may(world: &World, account: &(String, String), wish: &Wish<'_>) -> bool {
    let says = |rule: &Value, key: &str, wanted: &str| {
        let all = rule[key].as_array();
        all.into_iter()
            .flatten()
            .any(|known| known == "*" || known == wanted)
    };
    rules(world, account, wish.namespace).iter().any(|rule| {
        let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
        says(rule, "verbs", wish.verb)
            && says(rule, "apiGroups", wish.group)
            && says(rule, "resources", &wish.resource)
            && names.is_none_or(|names| names.iter().any(|name| name == wish.name))
    })
}

pub(super) fn access_review(world: &mut World, call: &Call) -> Answer {
    let asked = &call.body["spec"]["resourceAttributes"];
    let of_path = call.body["spec"]["nonResourceAttributes"].is_object();
    if !asked.is_object() && !of_path {
        return Err(bad_request(
            "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: \"null\": \
             exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let resource = match text(asked, "/subresource") {
        "" => text(asked, "/resource").to_owned(),
        part => format!("{}/{part}", text(asked, "/resource")),
    };
    let wish = Wish {
        verb: text(asked, "/verb"),
        group: text(asked, "/group"),
        resource,
        namespace: text(asked, "/namespace"),
        name: text(asked, "/name"),
    };
    let allowed = account(world, call).is_none_or(|account| may(world, account, &wish));
    Ok(Reply::json(
        201,
        &json!({
            "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {"creationTimestamp": null},
            "spec": call.body["spec"], "status": {"allowed": allowed},
        }),
    ))
}

#[expect(clippy::unnecessary_wraps, reason = "handlers have one signature")]
pub(super) fn rules_review(world: &mut World, call: &Call) -> Answer {
    let namespace = text(&call.body, "/spec/namespace");
    let rules = match account(world, call) {
        Some(account) => rules(world, account, namespace),
        None => vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})],
    };
    Ok(Reply::json(
        201,
        &json!({
            "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {"creationTimestamp": null},
            "spec": call.body["spec"], "status": {"resourceRules": rules, "nonResourceRules": [], "incomplete": false},
        }),
    ))
}

/// A token of a service account, valid until that is deleted.
pub(super) fn token(world: &mut World, call: &Call) -> Answer {
    let target = target(world, call, "create")?;
    let uid = match world.cluster.get(&target.key()) {
        Some(account) => text(account, "/metadata/uid").to_owned(),
        None => return Err(absent(&target)),
    };
    let bits = uid.bytes().fold(0_u64, |all, byte| {
        all.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let token = dice::text(
        world.seed,
        dice::bits(world.seed, bits, world.cluster.revision),
        64,
    );
    world
        .cluster
        .tokens
        .insert(token.clone(), (target.namespace.clone(), target.name.clone()));
    let until = add(world.now, SignedDuration::from_hours(1));
    Ok(Reply::json(
        201,
        &json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {"name": target.name, "namespace": target.namespace},
            "spec": call.body["spec"], "status": {"token": token, "expirationTimestamp": seconds(until)},
        }),
    ))
}
