//! A TOML text as a tree of values that know where they stand.
//!
//! [`read`] reports every syntax error of the text, not only the first. Tables keep the order of the text.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

/// A place in the text, in bytes.
pub(super) type Span = Range<usize>;

/// A value and its place: that of the header for a `[table]`, that of the key for a table that is only implied.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// What TOML can say.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    String(String),
    /// None where it does not fit 64 bits.
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

/// A syntax error.
#[derive(Clone, Debug)]
pub(super) struct SyntaxError {
    pub(super) span: Span,
    pub(super) message: String,
}

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Node, Vec<SyntaxError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let end = text.find('\n').unwrap_or(text.len());
        return Ok(Node {
            span: 0..end,
            kind: Kind::Table(entries(table.get_ref())),
        });
    }
    Err(errors
        .into_iter()
        .map(|error| SyntaxError {
            span: error.span().unwrap_or(0..0),
            message: error.message().to_owned(),
        })
        .collect())
}

fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: Node {
                span: value.span(),
                kind: kind(value.get_ref()),
            },
        })
        .collect();
    // The parser's map is sorted by key; a stack's pools have the order in which they are declared.
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

fn kind(value: &DeValue<'_>) -> Kind {
    match value {
        DeValue::String(text) => Kind::String(text.to_string()),
        DeValue::Integer(integer) => {
            Kind::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        // A float that the parser took is one that Rust reads, "inf" and "nan" among them.
        DeValue::Float(float) => Kind::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Kind::Boolean(*boolean),
        DeValue::Datetime(datetime) => Kind::Datetime(datetime.to_string()),
        DeValue::Array(items) => Kind::Array(
            items
                .iter()
                .map(|item| Node {
                    span: item.span(),
                    kind: kind(item.get_ref()),
                })
                .collect(),
        ),
        DeValue::Table(table) => Kind::Table(entries(table)),
    }
}

impl Node {
    /// The entries of a table; of anything else none.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The entry under a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value at a path of keys, and of indexes into arrays written as numbers.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| match &node.kind {
            Kind::Table(_) => node.entry(step).map(|entry| &entry.node),
            Kind::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Where the value at a path stands; where there is none, the nearest table around it.
    pub(super) fn span_at(&self, path: &[&str]) -> Span {
        (0..=path.len())
            .rev()
            .find_map(|length| self.at(&path[..length]))
            .map_or(0..0, |node| node.span.clone())
    }

    /// Where the last key of a path stands; where it is missing, the nearest table around it.
    pub(super) fn key_span_at(&self, path: &[&str]) -> Span {
        let Some((last, around)) = path.split_last() else {
            return self.span.clone();
        };
        self.at(around)
            .and_then(|node| node.entry(last))
            .map_or_else(|| self.span_at(path), |entry| entry.key_span.clone())
    }

    /// As JSON. What JSON cannot say (`inf`, `nan`, numbers beyond 64 bits) is `null`.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::String(text) | Kind::Datetime(text) => Value::from(text.as_str()),
            Kind::Integer(integer) => Value::from(*integer),
            Kind::Float(float) => Value::from(*float),
            Kind::Boolean(boolean) => Value::from(*boolean),
            Kind::Array(items) => items.iter().map(Self::to_json).collect(),
            Kind::Table(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}
