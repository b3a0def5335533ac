//! The two questions that kubectl puts in Kubernetes's binary form, whatever the server takes: what one may.
//!
//! `k8s\0`, then a `runtime.Unknown`: field 1 the type, field 2 the object (`k8s.io/api/authorization/v1/generated.proto`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The content type of it.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Fields that hold bytes, by number; a later one of the same number wins. `None` where it is no message.
fn fields(mut bytes: &[u8]) -> Option<BTreeMap<u64, &[u8]>> {
    let mut found = BTreeMap::new();
    while !bytes.is_empty() {
        let (tag, rest) = number(bytes)?;
        bytes = match tag & 7 {
            0 => number(rest)?.1,
            1 => rest.get(8..)?,
            5 => rest.get(4..)?,
            2 => {
                let (length, rest) = number(rest)?;
                let length = usize::try_from(length).ok()?;
                found.insert(tag >> 3, rest.get(..length)?);
                &rest[length..]
            }
            _ => return None,
        };
    }
    Some(found)
}

/// A number of variable length, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn text(fields: &BTreeMap<u64, &[u8]>, at: u64) -> String {
    let bytes = fields.get(&at).copied().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// A review as JSON; `None` for any other object.
pub(crate) fn review(body: &[u8]) -> Option<Value> {
    let unknown = fields(body.strip_prefix(b"k8s\0")?)?;
    let kind = text(&fields(unknown.get(&1)?)?, 2);
    let object = fields(unknown.get(&2)?)?;
    let spec = fields(object.get(&2).copied().unwrap_or_default())?;
    match kind.as_str() {
        "SelfSubjectAccessReview" => {
            let mut shown = json!({});
            if let Some(asked) = spec.get(&1) {
                let asked = fields(asked)?;
                let names = [
                    "namespace",
                    "verb",
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "name",
                ];
                for (at, name) in (1..).zip(names) {
                    shown["resourceAttributes"][name] = text(&asked, at).into();
                }
            }
            if let Some(asked) = spec.get(&2) {
                let asked = fields(asked)?;
                shown["nonResourceAttributes"] = json!({"path": text(&asked, 1), "verb": text(&asked, 2)});
            }
            Some(json!({"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": shown}))
        }
        "SelfSubjectRulesReview" => Some(json!({
            "kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": {"namespace": text(&spec, 1)},
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_asks_is_read_from_its_bytes() {
        // As `kubectl auth can-i create jobs -n ci` of 1.32 sends it.
        let body = b"k8s\0\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12?\n\x10\n\0\x12\0\x1a\0\"\0*\x002\08\0B\0\x12!\n\x1f\n\x02ci\x12\x06create\x1a\x05batch\"\0*\x04jobs2\0:\0\x1a\x08\x08\0\x12\0\x1a\0 \0\x1a\0\"\0";
        let read = review(body).unwrap();
        let asked = &read["spec"]["resourceAttributes"];
        let has = |key: &str| asked[key].as_str().unwrap();
        assert_eq!(
            (has("namespace"), has("verb"), has("group"), has("resource")),
            ("ci", "create", "batch", "jobs")
        );
        assert_eq!(review(&body[..40]), None);
        assert_eq!(review(b"{}"), None);
    }
}
