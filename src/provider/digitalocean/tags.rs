//! Claims as tags, and as text where there are no tags.
//!
//! A tag is made of letters, digits, `:`, `-` and `_`, has at most 255 of them, and keeps the capitals that it was first written with,
//! whoever writes it next. So values are written in lower case, and every other byte as `_` and two hex digits.
//!
//! - A droplet carries `runfleet-stack:prod`, `runfleet-lineage:…`, `runfleet-pool:…` and `runfleet-hash:…`, which many share, and one
//!   `runfleet-claim:INTENT:ID:REGISTRATION` of its own: a tag lives on when nothing carries it any more, and that one, unique by its
//!   nonce, can be deleted with its droplet without untagging another's.
//! - A firewall, a key and a VPC cannot be tagged. Their labels are one text, `runfleet:stack:prod:lineage:…`: see [`text`].

use std::collections::BTreeMap;

use crate::{
    model::resource::{ClaimLabels, Labels},
    provider::ProviderError,
};

/// The most characters of a tag, and of a VPC's description. Source: the API's description of both.
pub(super) const LENGTH: usize = 255;

/// What our labels begin with.
const OURS: &str = "runfleet-";

/// The key of a droplet's own tag, and the labels that it holds, in order.
const CLAIM: &str = "runfleet-claim";
const CLAIMED: [&str; 3] = ["runfleet-intent", "runfleet-id", "runfleet-registration"];

/// The key of the tags by which firewalls find their droplets. No label of anything.
const FIREWALL: &str = "runfleet-firewall";

/// How the text of labels begins.
const TEXT: &str = "runfleet:";

/// One tag for one label.
fn tag(key: &str, value: &str) -> Result<String, ProviderError> {
    let tag = if key.starts_with(OURS) {
        format!("{key}:{}", escaped(value))
    } else if value.is_empty() {
        key.to_owned()
    } else {
        format!("{key}:{value}")
    };
    let fits = tag.len() <= LENGTH && tag.bytes().all(|byte| byte == b':' || may_stand(byte));
    fits.then_some(tag).ok_or_else(|| ProviderError::Rejected {
        code: "invalid_tag".to_owned(),
        why: format!(
            "the label {key}={value:?} is no tag: those have letters, digits, `:`, `-` and `_`, {LENGTH} at most"
        ),
    })
}

/// The tag of every droplet of a stack.
pub(super) fn of_stack(stack: &str) -> String {
    format!("{}:{}", ClaimLabels::STACK, escaped(stack))
}

/// The tags of a droplet with these labels.
pub(super) fn of_droplet(labels: &Labels) -> Result<Vec<String>, ProviderError> {
    let mut tags = of_many(labels)?;
    if let Some(own) = of_one(labels)? {
        tags.push(own);
    }
    Ok(tags)
}

/// Those of its tags that others may carry too.
pub(super) fn of_many(labels: &Labels) -> Result<Vec<String>, ProviderError> {
    let shared = labels.iter().filter(|(key, _)| !CLAIMED.contains(&key.as_str()));
    shared.map(|(key, value)| tag(key, value)).collect()
}

/// The one that is its own; none where it claims nothing of that kind.
pub(super) fn of_one(labels: &Labels) -> Result<Option<String>, ProviderError> {
    let held = CLAIMED.map(|key| labels.get(key).map(String::as_str).unwrap_or_default());
    if held.iter().all(|value| value.is_empty()) {
        return Ok(None);
    }
    let text = held.map(escaped).join(":");
    let own = format!("{CLAIM}:{}", text.trim_end_matches(':'));
    if own.len() > LENGTH {
        return Err(too_long(&own));
    }
    Ok(Some(own))
}

/// Whether a tag is one droplet's alone, so that it goes with it.
pub(super) fn is_own(tag: &str) -> bool {
    tag.strip_prefix(CLAIM)
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(':'))
}

/// The labels that a droplet's tags say.
pub(super) fn labels<'a>(tags: impl IntoIterator<Item = &'a str>) -> Labels {
    let mut labels = Labels::new();
    for tag in tags {
        let (key, value) = tag.split_once(':').unwrap_or((tag, ""));
        match key {
            FIREWALL => {}
            CLAIM => {
                let values = value.split(':').map(unescaped);
                let held = CLAIMED.iter().zip(values).filter(|(_, value)| !value.is_empty());
                labels.extend(held.map(|(key, value)| ((*key).to_owned(), value)));
            }
            _ if key.starts_with(OURS) => {
                labels.insert(key.to_owned(), unescaped(value));
            }
            _ => {
                labels.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    labels
}

/// What to put on and what to take off, so that a droplet with these tags has these labels over its others.
pub(super) fn change(tags: &[String], over: &Labels) -> Result<(Vec<String>, Vec<String>), ProviderError> {
    let mut all = labels(tags.iter().map(String::as_str));
    all.extend(over.clone());
    let want = of_droplet(&all)?;
    let add = want.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
    let is_replaced = |tag: &&String| {
        let key = tag.split_once(':').map_or(tag.as_str(), |(key, _)| key);
        let ours = key == CLAIM || over.contains_key(key);
        ours && !want.contains(tag)
    };
    Ok((add, tags.iter().filter(is_replaced).cloned().collect()))
}

/// The tag by which a firewall finds its droplets: no other firewall has it, and droplets carry it from their first second.
pub(super) fn covering(name: &str, unique: &str) -> String {
    format!("{FIREWALL}:{}:{}", escaped(name), escaped(unique))
}

/// Whether it is such a tag.
pub(super) fn is_covering(tag: &str) -> bool {
    tag.strip_prefix(FIREWALL)
        .is_some_and(|rest| rest.starts_with(':'))
}

/// Labels as one text, which is a tag too: `runfleet:stack:prod:lineage:…`; a label that is not ours has its key behind a `/`.
pub(super) fn text(labels: &Labels) -> Result<String, ProviderError> {
    let pairs = labels.iter().map(|(key, value)| {
        let key = key
            .strip_prefix(OURS)
            .map_or_else(|| escaped(format!("/{key}")), escaped);
        format!("{key}:{}", escaped(value))
    });
    let text = format!("{TEXT}{}", pairs.collect::<Vec<_>>().join(":"));
    if text.len() > LENGTH {
        return Err(too_long(&text));
    }
    Ok(text)
}

/// The labels of such a text; none where it is none.
pub(super) fn labels_of_text(text: &str) -> Option<Labels> {
    let mut parts = text.strip_prefix(TEXT)?.split(':');
    let mut labels = BTreeMap::new();
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        let key = unescaped(key);
        let key = match key.strip_prefix('/') {
            Some(other) => other.to_owned(),
            None => format!("{OURS}{key}"),
        };
        labels.insert(key, unescaped(value));
    }
    Some(labels)
}

/// Whether it is such a text.
pub(super) fn is_text(tag: &str) -> bool {
    tag.starts_with(TEXT)
}

fn too_long(text: &str) -> ProviderError {
    ProviderError::Rejected {
        code: "labels_too_long".to_owned(),
        why: format!(
            "its labels take {} characters, and DigitalOcean has room for {LENGTH}: give the stack or the resource a shorter name",
            text.len()
        ),
    }
}

fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn escaped(value: impl AsRef<str>) -> String {
    let mut text = String::with_capacity(value.as_ref().len());
    for byte in value.as_ref().bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' {
            text.push(char::from(byte));
        } else {
            text.push('_');
            text.push_str(&hex::encode([byte]));
        }
    }
    text
}

/// Back again; what was not written by us stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('_') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let byte = rest
            .get(at + 1..at + 3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[at + 3..];
            }
            None => return text.to_owned(),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> Labels {
        ClaimLabels {
            stack: "prod".into(),
            lineage: "6f0c".into(),
            pool: Some("linux".into()),
            id: "brave-otter".into(),
            hash: "0123abcd".into(),
            intent: "99aa".into(),
            registration: Some("42.r_3K9".into()),
        }
        .to_labels()
    }

    #[test]
    fn what_many_droplets_share_is_apart_from_what_is_ones_own() {
        let tags = of_droplet(&claim()).unwrap();
        assert_eq!(
            tags,
            [
                "runfleet-hash:0123abcd",
                "runfleet-lineage:6f0c",
                "runfleet-pool:linux",
                "runfleet-stack:prod",
                "runfleet-claim:99aa:brave-otter:42_2er_5f3_4b9",
            ]
        );
        let own: Vec<_> = tags.iter().filter(|tag| is_own(tag)).collect();
        assert_eq!(own.len(), 1);
        assert_eq!(labels(tags.iter().map(String::as_str)), claim());
        assert!(
            !is_own("runfleet-claim::brave-otter"),
            "without its nonce it may be another's too"
        );
    }

    #[test]
    fn a_tag_of_somebody_elses_is_a_label_and_that_of_a_firewall_is_none() {
        let tags = ["web", "team:blue", "runfleet-firewall:prod-default:99aa"];
        let expected = [("team", "blue"), ("web", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(labels(tags), Labels::from(expected));
        assert_eq!(of_many(&labels(tags)).unwrap(), ["team:blue", "web"]);
        assert!(is_covering(tags[2]) && !is_covering("runfleet-stack:prod"));
    }

    #[test]
    fn a_change_takes_off_what_it_replaces_and_nothing_else() {
        let mut tags = of_droplet(&claim()).unwrap();
        tags.extend(["web".to_owned(), "runfleet-firewall:prod-default:99aa".to_owned()]);
        let over = Labels::from([
            ("runfleet-stack".to_owned(), "next".to_owned()),
            ("runfleet-id".to_owned(), "calm-heron".to_owned()),
        ]);
        let (add, take) = change(&tags, &over).unwrap();
        assert_eq!(
            add,
            [
                "runfleet-stack:next",
                "runfleet-claim:99aa:calm-heron:42_2er_5f3_4b9"
            ]
        );
        assert_eq!(
            take,
            [
                "runfleet-stack:prod",
                "runfleet-claim:99aa:brave-otter:42_2er_5f3_4b9"
            ]
        );
        assert_eq!(change(&tags, &claim()).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn a_label_that_no_tag_can_say_is_refused() {
        let strange = Labels::from([("team".to_owned(), "blue corp".to_owned())]);
        let error = of_droplet(&strange).unwrap_err();
        assert!(error.to_string().contains("team"), "{error}");
        let long = Labels::from([("runfleet-stack".to_owned(), "x".repeat(300))]);
        assert!(text(&long).is_err() && of_droplet(&long).is_err());
    }

    proptest! {
        #[test]
        fn any_labels_read_back_from_tags_and_from_text(values in proptest::array::uniform7("[ -~äß]{1,8}")) {
            let keys = ["stack", "lineage", "pool", "id", "hash", "intent", "registration"];
            let labels_in: Labels = keys.iter().zip(values).map(|(key, value)| (format!("runfleet-{key}"), value)).collect();
            let tags = of_droplet(&labels_in).unwrap();
            for tag in &tags {
                prop_assert!(tag.bytes().all(|byte| byte == b':' || may_stand(byte)), "{tag}");
                prop_assert_eq!(tag.to_ascii_lowercase(), tag.as_str());
            }
            prop_assert_eq!(&labels(tags.iter().map(String::as_str)), &labels_in);
            if let Ok(text) = text(&labels_in) {
                prop_assert!(text.bytes().all(|byte| byte == b':' || may_stand(byte)), "{text}");
                prop_assert_eq!(labels_of_text(&text), Some(labels_in));
            }
        }
    }
}
