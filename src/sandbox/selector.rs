//! Hetzner's label selectors and label rules.
//!
//! Grammar (from the API's description, "Label Selector"): terms joined by commas, all of which must hold:
//! `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (v1,v2)`, `k notin (v1,v2)`. `k!=v` and `notin` hold for an absent key.

use std::collections::BTreeMap;

/// Labels of a resource.
pub(crate) type Labels = BTreeMap<String, String>;

/// One condition on the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    Present(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// A parsed selector: every term must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) terms: Vec<Term>,
}

impl Selector {
    /// `None` where the text is not a selector.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let terms = split_terms(text)?
            .into_iter()
            .map(|term| parse_term(term.trim()))
            .collect::<Option<_>>()?;
        Some(Self { terms })
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Present(key) => labels.contains_key(key),
            Term::Absent(key) => !labels.contains_key(key),
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        })
    }
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> Option<Vec<&str>> {
    let mut terms = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' if inside => return None,
            '(' => inside = true,
            ')' if !inside => return None,
            ')' => inside = false,
            ',' if !inside => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    (!inside).then_some(terms)
}

fn parse_term(term: &str) -> Option<Term> {
    if let Some((head, list)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let values = list
            .split(',')
            .map(|value| value_of(value.trim()))
            .collect::<Option<Vec<_>>>()?;
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        let key = key_of(key.trim())?;
        return match word {
            "in" => Some(Term::In(key, values)),
            "notin" => Some(Term::NotIn(key, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Some(Term::NotIn(key_of(key.trim())?, vec![value_of(value.trim())?]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some(Term::In(key_of(key.trim())?, vec![value_of(value.trim())?]));
    }
    match term.strip_prefix('!') {
        Some(key) => Some(Term::Absent(key_of(key.trim())?)),
        None => Some(Term::Present(key_of(term)?)),
    }
}

fn key_of(text: &str) -> Option<String> {
    valid_key(text).then(|| text.to_owned())
}

fn value_of(text: &str) -> Option<String> {
    valid_value(text).then(|| text.to_owned())
}

/// A label's key: `[prefix/]name`, the name 1 to 63 characters, the prefix a DNS subdomain.
pub(crate) fn valid_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    !name.is_empty()
        && valid_value(name)
        && prefix
            .is_none_or(|prefix| prefix.len() <= 253 && prefix != "hetzner.cloud" && valid_hostname(prefix))
}

/// A label's value: empty, or at most 63 letters, digits, `-`, `_` and `.`, the ends letters or digits.
pub(crate) fn valid_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.len() <= 63
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && [bytes.first(), bytes.last()]
            .into_iter()
            .flatten()
            .all(u8::is_ascii_alphanumeric)
}

/// RFC 1123: labels of 1 to 63 letters, digits and inner hyphens, joined by dots.
pub(crate) fn valid_hostname(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            (1..=63).contains(&bytes.len())
                && bytes
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
                && bytes.first() != Some(&b'-')
                && bytes.last() != Some(&b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        [("env", "production"), ("type", "web"), ("bare", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn selectors_hold_as_the_description_says() {
        for (text, holds) in [
            ("", true),
            ("env", true),
            ("!env", false),
            ("none", false),
            ("!none", true),
            ("env=production", true),
            ("env==production", true),
            ("env = production", true),
            ("env!=production", false),
            ("none!=x", true),
            ("env in (staging,production)", true),
            ("env in (staging, testing)", false),
            ("env notin (staging,testing)", true),
            ("none notin (a)", true),
            ("env=production,type!=database", true),
            ("env in (production),type notin (web)", false),
            ("bare=", true),
            ("example.com/x=y", false),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().matches(&labels()),
                holds,
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "a,",
            ",",
            "=v",
            "a in b",
            "a in (b",
            "a)b(",
            "a around (b)",
            "a=b=c",
            "a b",
            "-a",
            "a=-",
        ] {
            assert_eq!(Selector::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn labels_keep_to_their_rules() {
        for key in ["a", "a.b-c_d", "example.com/my", &"k".repeat(63)] {
            assert!(valid_key(key), "{key}");
        }
        for key in [
            "",
            "a/",
            "/a",
            "hetzner.cloud/x",
            "-a",
            "a-",
            "a b",
            "ä",
            &"k".repeat(64),
        ] {
            assert!(!valid_key(key), "{key}");
        }
        assert!(valid_value(""));
        assert!(!valid_value("a:b"));
    }

    #[test]
    fn hostnames_are_those_of_rfc_1123() {
        for name in ["a", "linux-1a", "a.example.com", "0"] {
            assert!(valid_hostname(name), "{name}");
        }
        for name in ["", "-a", "a-", "a_b", "a..b", "a.", &"a".repeat(64)] {
            assert!(!valid_hostname(name), "{name}");
        }
    }
}
