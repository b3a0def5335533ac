//! What a container is started with: the variables of its own, of Secrets, of config maps, and what its pod is told of itself.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::super::World;
use super::{Key, Kind, labels, text};

impl World {
    /// The variables of a pod's first container, or why it cannot be started with them.
    pub(super) fn variables(&self, pod: &Value) -> Result<BTreeMap<String, String>, String> {
        let namespace = text(pod, "/metadata/namespace");
        let container = &pod["spec"]["containers"][0];
        let mut variables = BTreeMap::new();
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let prefix = text(from, "/prefix");
            for (kind, source) in [(Kind::Secret, "secretRef"), (Kind::ConfigMap, "configMapRef")] {
                let Some(source) = from.get(source) else {
                    continue;
                };
                let found = self
                    .cluster
                    .get(&Key::new(kind, namespace, text(source, "/name")));
                if found.is_none() && source["optional"] != true {
                    return Err(absent(kind, text(source, "/name")));
                }
                let data = found.and_then(|found| found["data"].as_object());
                for (key, value) in data.into_iter().flatten() {
                    variables.insert(format!("{prefix}{key}"), plain(kind, value));
                }
            }
        }
        for entry in container["env"].as_array().into_iter().flatten() {
            let value = match entry.get("valueFrom") {
                None => expanded(text(entry, "/value"), &variables),
                Some(from) => match self.value_from(pod, namespace, from)? {
                    Some(value) => value,
                    None => continue,
                },
            };
            variables.insert(text(entry, "/name").to_owned(), value);
        }
        Ok(variables)
    }

    fn value_from(&self, pod: &Value, namespace: &str, from: &Value) -> Result<Option<String>, String> {
        if let Some(field) = from.get("fieldRef") {
            let path = text(field, "/fieldPath");
            let label = path
                .strip_prefix("metadata.labels['")
                .and_then(|rest| rest.strip_suffix("']"));
            let known = match label {
                Some(label) => labels(pod).get(label).cloned().unwrap_or_default(),
                None => text(pod, &format!("/{}", path.replace('.', "/"))).to_owned(),
            };
            return Ok(Some(known));
        }
        for (kind, name) in [
            (Kind::Secret, "secretKeyRef"),
            (Kind::ConfigMap, "configMapKeyRef"),
        ] {
            let Some(source) = from.get(name) else {
                continue;
            };
            let (of, entry) = (text(source, "/name"), text(source, "/key"));
            let optional = source["optional"] == true;
            let Some(found) = self.cluster.get(&Key::new(kind, namespace, of)) else {
                return if optional { Ok(None) } else { Err(absent(kind, of)) };
            };
            return match found["data"].get(entry) {
                Some(value) => Ok(Some(plain(kind, value))),
                None if optional => Ok(None),
                None => Err(format!(
                    "couldn't find key {entry} in {} {namespace}/{of}",
                    kind.resource().name
                )),
            };
        }
        Ok(None)
    }
}

fn absent(kind: Kind, name: &str) -> String {
    format!("{} \"{name}\" not found", kind.resource().name.to_lowercase())
}

/// What stands in a Secret or in a config map.
fn plain(kind: Kind, value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    if kind == Kind::Secret {
        let bytes = STANDARD.decode(text).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        text.to_owned()
    }
}

/// `$(NAME)` stands for an earlier variable; `$$(` for `$(`.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let named = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some((name, tail)) = named {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_into_later_ones() {
        let known = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        assert_eq!(expanded("$(A)-$(B)-$$(A)-$", &known), "x-$(B)-$(A)-$");
    }
}
