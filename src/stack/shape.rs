//! One shape that a value may have by the JSON schema, and the words for what fits it.

use serde_json::{Map, Value};

use super::tree::Kind;

/// An object of the schema without reference and union.
pub(super) type Shape = Map<String, Value>;

/// The names of the JSON types that it allows.
pub(super) fn types(shape: &Shape) -> Vec<&str> {
    match shape.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether it says by enumeration what it allows.
pub(super) fn is_closed(shape: &Shape) -> bool {
    shape.contains_key("const") || shape.contains_key("enum")
}

/// Whether a value of this kind may have the shape, whatever is in it.
pub(super) fn fits(shape: &Shape, kind: &Kind) -> bool {
    let types = types(shape);
    if types.is_empty() {
        return matches!(kind, Kind::String(_));
    }
    types.iter().any(|name| {
        matches!(
            (*name, kind),
            ("string", Kind::String(_))
                | ("integer", Kind::Integer(_))
                | ("number", Kind::Integer(_) | Kind::Float(_))
                | ("boolean", Kind::Boolean(_))
                | ("array", Kind::Array(_))
                | ("object", Kind::Table(_))
        )
    })
}

/// The keys that a table must have.
pub(super) fn required(shape: &Shape) -> impl Iterator<Item = &str> {
    shape
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// The known word that was probably meant.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let lower = word.to_lowercase();
    // Of signs each is as near as the other, and means something else.
    let known = known.filter(|candidate| candidate.chars().any(char::is_alphanumeric));
    known
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, candidate)| {
            let shorter = candidate.chars().count().min(lower.chars().count());
            *distance <= 1.max(shorter / 3)
                || strsim::jaro_winkler(&lower, candidate) > 0.9
                || (shorter >= 4 && (candidate.contains(&lower) || lower.contains(candidate)))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b`, `c` ``
pub(super) fn listed(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// `` `a`, `b` or `c` ``
pub(super) fn quoted<S: AsRef<str>>(words: &[S], quote: char) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("{quote}{}{quote}", word.as_ref()))
        .collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// What a value is, in words.
pub(super) fn found(kind: &Kind) -> &'static str {
    match kind {
        Kind::String(_) => "a string",
        Kind::Integer(_) => "a whole number",
        Kind::Float(_) => "a number with a fraction",
        Kind::Boolean(_) => "true or false",
        Kind::Datetime(_) => "a date or time",
        Kind::Array(_) => "a list",
        Kind::Table(_) => "a table",
    }
}

/// What would have fitted, in words.
pub(super) fn expected(shapes: &[&Shape]) -> String {
    let mut expected: Vec<&str> = Vec::new();
    for shape in shapes {
        let kinds = types(shape);
        let kinds = if kinds.is_empty() { vec!["string"] } else { kinds };
        for kind in kinds {
            let word =
                match kind {
                    "string" => shape
                        .get("title")
                        .and_then(Value::as_str)
                        .map_or("a string", |title| match title {
                            "duration" => "a length of time in quotes",
                            "money" => "an amount of money in quotes",
                            _ => "a string",
                        }),
                    "integer" => "a whole number",
                    "number" => "a number",
                    "boolean" => "true or false",
                    "array" => "a list",
                    _ => "a table",
                };
            if !expected.contains(&word) {
                expected.push(word);
            }
        }
    }
    expected.join(" or ")
}
