//! The policies and droplets of do-scaler, as its JSON files have them.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use super::ini::Problem;
use crate::{
    model::metrics::Finite,
    stack::{
        raw::step::FunctionName,
        step::{Matching, Operator, Reducer},
    },
};

/// The keys that nobody knows. Their values are of no interest, and may be secret.
#[derive(Debug)]
pub(super) struct Rest(pub(super) BTreeSet<String>);

impl<'de> Deserialize<'de> for Rest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Rest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys with values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rest, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            keys.insert(key);
        }
        Ok(Rest(keys))
    }
}

/// A file of `policies`.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    /// For a person.
    pub(super) name: String,
    /// In the order in which they are called.
    pub(super) actions: Vec<String>,
    /// How its conditions are joined.
    #[serde(rename = "match")]
    pub(super) matching: Matching,
    /// Its conditions.
    pub(super) conditions: Vec<Condition>,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// A condition of a policy.
#[derive(Debug, Deserialize)]
pub(super) struct Condition {
    /// For a person.
    #[serde(default)]
    pub(super) name: String,
    /// How a droplet's samples become one number.
    pub(super) reducer: Option<Reducer>,
    /// What is looked at.
    pub(super) samples: Vec<Sample>,
    /// The comparison.
    pub(super) operator: Operator,
    /// With what; a text there.
    #[serde(deserialize_with = "threshold")]
    pub(super) threshold: Finite,
    /// How the droplets' numbers become one.
    pub(super) function: FunctionName,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// A sample of a droplet. Its `family` follows from its name.
#[derive(Debug, Deserialize)]
pub(super) struct Sample {
    /// Its name, as the exporter has it.
    #[serde(deserialize_with = "sample_name")]
    pub(super) name: String,
}

/// A file of `droplets`. Keys and images may be numbers.
#[derive(Debug, Deserialize)]
pub(super) struct Droplet {
    /// `web-{}`
    pub(super) name: Option<String>,
    /// `s-1vcpu-1gb`
    #[serde(alias = "size")]
    pub(super) size_slug: String,
    /// A slug, or an id.
    pub(super) image: NumberOrText,
    /// `fra1`
    pub(super) region: String,
    /// Ids, fingerprints, or keys themselves.
    #[serde(default)]
    pub(super) ssh_keys: Option<Vec<NumberOrText>>,
    /// Whether it has a private address.
    #[serde(default)]
    pub(super) private_networking: Option<bool>,
    /// Its tags.
    #[serde(default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// An id, or a word.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "neither a number nor a text")]
pub(super) enum NumberOrText {
    /// An id.
    Number(u64),
    /// A word, which may be an id as well.
    Text(String),
}

impl NumberOrText {
    /// Its id, where it is one.
    pub(super) fn id(&self) -> Option<u64> {
        match self {
            Self::Number(id) => Some(*id),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Reads a file.
pub(super) fn read<'t, T: Deserialize<'t>>(text: &'t str, what: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        let why = words.rsplit_once(" at line ").map_or(&*words, |(why, _)| why);
        Problem {
            line: error.line().max(1),
            why: why.to_owned(),
            help: format!("{what}, as JSON, is wanted here; correct that line"),
        }
    })
}

fn sample_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_str(SampleWord)
}

/// Visitors say where the value is that they refuse; what looks at it afterwards knows only where its object ends.
struct SampleWord;

impl Visitor<'_> for SampleWord {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        if name.bytes().all(is_word) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() {
            return Ok(name.to_owned());
        }
        Err(E::custom(
            "a sample's name is letters, digits, `_` and `:`, such as \"node_load1\"",
        ))
    }
}

/// What Python's `float` takes, infinities and "not a number" aside, with which no comparison says anything.
fn threshold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Finite, D::Error> {
    deserializer.deserialize_any(Threshold)
}

struct Threshold;

impl Threshold {
    fn finite<E: de::Error>(number: Option<f64>) -> Result<Finite, E> {
        let finite = number.and_then(Finite::new);
        finite.ok_or_else(|| E::custom("a threshold is a number, such as \"2.5\""))
    }
}

impl Visitor<'_> for Threshold {
    type Value = Finite;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, such as \"2.5\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Finite, E> {
        Self::finite(float(text))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Finite, E> {
        Self::finite(Some(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Finite, E> {
        Self::finite(float(&number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Finite, E> {
        Self::finite(float(&number.to_string()))
    }
}

/// As Python's `float` reads a text: blanks around it, and `_` between digits.
fn float(text: &str) -> Option<f64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let between = |at: usize| {
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1)) && digit(at.checked_add(1))
    };
    let good = text.match_indices('_').all(|(at, _)| between(at));
    good.then(|| text.replace('_', "").parse().ok()).flatten()
}
