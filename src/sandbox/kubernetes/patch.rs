//! Changes to objects: JSON Merge Patch (RFC 7386), and Kubernetes's strategic one, which knows lists whose elements have keys.

use serde_json::{Map, Value};

/// The key of the elements of a list that is merged; a list with another name is replaced whole.
fn merge_key(list: &str) -> Option<&'static str> {
    Some(match list {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" | "secrets" => "name",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "ports" => "containerPort",
        "hostAliases" => "ip",
        "ownerReferences" => "uid",
        "conditions" => "type",
        "taints" => "key",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(into) = object else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            into.shift_remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

pub(super) fn strategic(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if changes.get("$patch").is_some_and(|how| how == "replace") || !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(into) = object else {
        return;
    };
    if let Some(Value::Array(kept)) = changes.get("$retainKeys") {
        into.retain(|key, _| kept.iter().any(|known| known == key));
    }
    for (key, value) in changes {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(Value::Array(all)) = into.get_mut(list) {
                all.retain(|known| !gone.contains(known));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        match value {
            Value::Null => {
                into.shift_remove(key);
            }
            Value::Object(_) => strategic(into.entry(key.clone()).or_insert(Value::Null), value),
            Value::Array(new) => {
                let known = into
                    .entry(key.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                list(known, key, new);
            }
            other => {
                into.insert(key.clone(), other.clone());
            }
        }
    }
    if let Value::Object(all) = object {
        let orders: Vec<(String, Vec<Value>)> = changes
            .iter()
            .filter_map(|(key, order)| {
                let list = key.strip_prefix("$setElementOrder/")?;
                Some((list.to_owned(), order.as_array()?.clone()))
            })
            .collect();
        for (name, order) in orders {
            if let Some(Value::Array(elements)) = all.get_mut(&name) {
                sort(elements, merge_key(&name), &order);
            }
        }
    }
}

/// Brings the elements that an order names into that order; the others follow.
fn sort(elements: &mut [Value], key: Option<&str>, order: &[Value]) {
    let place = |element: &Value| {
        let same = |wanted: &&Value| match key {
            Some(key) => wanted[key] == element[key],
            None => **wanted == *element,
        };
        order
            .iter()
            .position(|wanted| same(&wanted))
            .unwrap_or(order.len())
    };
    elements.sort_by_key(place);
}

fn list(known: &mut Value, name: &str, new: &[Value]) {
    if name == "finalizers" {
        let Some(all) = known.as_array_mut() else {
            return;
        };
        for one in new {
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
        return;
    }
    let keyed = merge_key(name).filter(|key| {
        let all = known.as_array().into_iter().flatten();
        all.chain(new)
            .all(|element| element.get(key).is_some() || element.get("$patch").is_some())
    });
    let (Some(key), Some(all)) = (keyed, known.as_array_mut()) else {
        *known = Value::Array(new.to_vec());
        return;
    };
    if new.iter().any(|one| one["$patch"] == "replace") {
        all.clear();
    }
    for one in new {
        let at = all
            .iter()
            .position(|known| known[key] == one[key] && one.get(key).is_some());
        match (one["$patch"].as_str(), at) {
            (Some("delete"), Some(at)) => {
                all.remove(at);
            }
            (Some("delete" | "replace"), _) => {}
            (_, Some(at)) => strategic(&mut all[at], one),
            (_, None) => {
                let mut fresh = Value::Null;
                strategic(&mut fresh, one);
                all.push(fresh);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_replaces_lists_and_null_removes() {
        let mut object = json!({"a": [1, 2], "b": {"c": 1, "d": 2}});
        merge(&mut object, &json!({"a": [3], "b": {"c": null, "e": 5}}));
        assert_eq!(object, json!({"a": [3], "b": {"d": 2, "e": 5}}));
    }

    #[test]
    fn a_strategic_patch_merges_elements_by_their_keys() {
        let mut object = json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "N", "value": "1"}]}, {"name": "b", "image": "y"}]});
        let patch = json!({
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [
                {"name": "a", "env": [{"name": "N", "value": "2"}, {"name": "M", "value": "3"}]},
                {"name": "b", "$patch": "delete"},
                {"name": "c", "image": "z"},
            ],
        });
        strategic(&mut object, &patch);
        assert_eq!(
            object,
            json!({"containers": [
                {"name": "c", "image": "z"},
                {"name": "a", "image": "x", "env": [{"name": "N", "value": "2"}, {"name": "M", "value": "3"}]},
            ]})
        );
        // A list without keys is replaced, as by a merge.
        let mut object = json!({"tolerations": [{"key": "a"}], "args": ["a", "b"]});
        strategic(
            &mut object,
            &json!({"tolerations": [{"key": "b"}], "args": ["c"]}),
        );
        assert_eq!(object, json!({"tolerations": [{"key": "b"}], "args": ["c"]}));
    }

    #[test]
    fn finalizers_are_added_and_taken_out_one_by_one() {
        let mut object = json!({"finalizers": ["a", "b"]});
        strategic(
            &mut object,
            &json!({"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}),
        );
        let mut left: Vec<&str> = object["finalizers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(left, ["b", "c"]);
    }
}
