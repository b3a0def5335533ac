//! The filters that end every `{{ … }}`: each writes any value so that its place in the output reads exactly that value.
//!
//! | filter | for | writes |
//! |---|---|---|
//! | `json` | YAML and JSON | JSON, which is YAML |
//! | `block(indent=N)` | YAML, a text of many lines | a literal block whose lines begin at column N, which is two more than its key's; a quoted string where a block could not hold the text exactly |
//! | `toml` | TOML | a TOML value |
//! | `sh` | POSIX shell | one quoted word, or one for each of a list |
//! | `b64` | anywhere | base64 in double quotes |
//! | `line` | a comment, a unit file | the text; an error when it is more than one plain line |

use std::{collections::HashMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tera::{Error, Filter, Tera};

/// The names of the filters that may end a `{{ … }}`.
pub(super) const WRITERS: [&str; 6] = ["json", "block", "toml", "sh", "b64", "line"];

type Args = HashMap<String, Value>;

struct Writer(fn(&Value, &Args) -> tera::Result<String>);

impl Filter for Writer {
    fn filter(&self, value: &Value, args: &Args) -> tera::Result<Value> {
        (self.0)(value, args).map(Value::String)
    }

    fn is_safe(&self) -> bool {
        true
    }
}

/// Adds the filters, and takes away what would let a template see the process.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("json", Writer(|value, _| Ok(json(value))));
    tera.register_filter("block", Writer(block));
    tera.register_filter("toml", Writer(|value, _| toml(value)));
    tera.register_filter("sh", Writer(|value, _| sh(value)));
    tera.register_filter(
        "b64",
        Writer(|value, _| Ok(quoted(&STANDARD.encode(text(value)?)))),
    );
    tera.register_filter("line", Writer(|value, _| line(value)));
    tera.register_function("get_env", |_: &Args| {
        Err(Error::msg("a template does not see the environment; use vars"))
    });
}

fn text(value: &Value) -> tera::Result<&str> {
    value.as_str().ok_or_else(|| Error::msg("takes text only"))
}

/// Whether a YAML reader takes the character for itself inside a quoted string; all else is escaped.
///
/// YAML 1.1 readers, as cloud-init's, fold U+0085, U+2028 and U+2029 as line breaks and refuse what is not printable.
fn is_plain(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The text in double quotes, read alike as JSON, YAML and TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_plain(c) => out.push(c),
            // All that is not plain is in the basic plane: four digits are enough.
            c => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

fn json(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", joined(items, ", ", json)),
        Value::Object(map) => {
            let entries: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", quoted(key), json(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn joined(items: &[Value], with: &str, each: fn(&Value) -> String) -> String {
    items.iter().map(each).collect::<Vec<_>>().join(with)
}

fn toml(value: &Value) -> tera::Result<String> {
    Ok(match value {
        Value::Null => return Err(Error::msg("TOML has no null")),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items = items.iter().map(toml).collect::<tera::Result<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| Ok(format!("{} = {}", quoted(key), toml(value)?)))
                .collect::<tera::Result<Vec<_>>>()?;
            format!("{{ {} }}", entries.join(", "))
        }
    })
}

fn sh(value: &Value) -> tera::Result<String> {
    Ok(match value {
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.contains('\0') => {
            return Err(Error::msg("a shell word cannot hold a NUL"));
        }
        Value::String(text) => format!("'{}'", text.replace('\'', r"'\''")),
        Value::Array(items) => items.iter().map(sh).collect::<tera::Result<Vec<_>>>()?.join(" "),
        Value::Null | Value::Object(_) => {
            return Err(Error::msg("a shell word is text, a number or a list of them"));
        }
    })
}

fn line(value: &Value) -> tera::Result<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => return Err(Error::msg("takes text or a number only")),
    };
    if text.chars().all(is_plain) {
        Ok(text)
    } else {
        Err(Error::msg("the text is more than one plain line"))
    }
}

fn block(value: &Value, args: &Args) -> tera::Result<String> {
    let text = text(value)?;
    let indent = args
        .get("indent")
        .and_then(Value::as_u64)
        .and_then(|indent| usize::try_from(indent).ok())
        .filter(|indent| (2..=64).contains(indent))
        .ok_or_else(|| Error::msg("wants indent=N, the column of its lines"))?;
    // The header tells the indentation (two more than the key's), so that lines may begin with blanks, and whether
    // there is a last line feed.
    let (body, header) = match text.strip_suffix('\n') {
        Some(body) => (body, "|2"),
        None => (text, "|2-"),
    };
    let exact = !body.is_empty()
        && !body.ends_with('\n')
        && body.lines().any(|line| !line.trim().is_empty())
        && body.chars().all(|c| is_plain(c) || matches!(c, '\n' | '\t'))
        && body.lines().last().is_some_and(|line| !line.trim().is_empty());
    if !exact {
        return Ok(quoted(text));
    }
    let mut out = String::with_capacity(body.len() + indent * 16);
    out.push_str(header);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            let _ = write!(out, "{:indent$}{line}", "");
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn indent(n: u64) -> Args {
        Args::from([("indent".to_owned(), json!(n))])
    }

    #[test]
    fn quoted_text_hides_nothing_and_ends_nowhere_else() {
        assert_eq!(
            quoted("a\"b\\c\n\u{85}\u{2028}é😀"),
            r#""a\"b\\c\n\u0085\u2028é😀""#
        );
    }

    #[test]
    fn values_are_written_in_the_language_of_their_place() {
        let value = json!({"a": [1, true, "x'y"], "b c": "$HOME"});
        assert_eq!(json(&value), r#"{"a": [1, true, "x'y"], "b c": "$HOME"}"#);
        assert_eq!(
            toml(&value).unwrap(),
            r#"{ "a" = [1, true, "x'y"], "b c" = "$HOME" }"#
        );
        assert_eq!(sh(&json!(["x'y", 3])).unwrap(), r"'x'\''y' 3");
        assert!(toml(&json!([null])).is_err());
        assert!(sh(&value).is_err());
        assert_eq!(line(&json!("a b")).unwrap(), "a b");
        assert!(line(&json!("a\nb")).is_err());
    }

    #[test]
    fn a_block_is_used_only_where_it_holds_the_text_exactly() {
        assert_eq!(
            block(&json!(" a\n\nb\n"), &indent(6)).unwrap(),
            "|2\n       a\n\n      b"
        );
        assert_eq!(block(&json!("a"), &indent(4)).unwrap(), "|2-\n    a");
        for odd in ["", "\n", " ", "a\n\n", "a\r\n", "\u{2028}", "a\n  "] {
            assert!(
                block(&json!(odd), &indent(4)).unwrap().starts_with('"'),
                "{odd:?}"
            );
        }
        assert!(block(&json!("a"), &Args::new()).is_err());
    }

    fn yaml(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_text_reads_back_from_yaml_toml_and_json(text in "(?s).{0,40}") {
            let value = json!(text);
            let written = json(&value);
            prop_assert_eq!(&serde_json::from_str::<Value>(&written).unwrap(), &value);
            prop_assert_eq!(&yaml(&format!("v: {written}\n"))["v"], &value);
            let table: ::toml::Table = format!("v = {}", toml(&value).unwrap()).parse().unwrap();
            prop_assert_eq!(table["v"].as_str(), Some(text.as_str()));
        }

        #[test]
        fn any_text_reads_back_from_a_block(text in r"([ab:#\-'\t\\{}é😀\u{85}]| |\n){0,30}") {
            let written = block(&json!(text), &indent(6)).unwrap();
            prop_assert_eq!(&yaml(&format!("l:\n  - k: 1\n    v: {written}\n    w: 2\n"))["l"][0]["v"], &json!(text));
        }
    }
}
