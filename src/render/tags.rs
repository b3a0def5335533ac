//! Reads a template's tags with their lines, which the engine's own syntax tree does not keep.
//!
//! Not a parser: it only tells text, comments and raw sections from `{{ … }}` and `{% … %}`, and knows quotes. What is
//! no valid template is told by the engine.

/// One `{{ … }}` or `{% … %}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Whether it prints.
    pub(super) prints: bool,
    /// What is between its marks.
    pub(super) inner: &'a str,
}

/// A piece of a tag's inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// A name, with its dots: `vars.image`.
    Name(&'a str),
    /// A literal in quotes, without them.
    Text(&'a str),
    /// Any other character but white space.
    Mark(char),
}

/// The tags of a template, in order.
pub(super) fn tags(source: &str) -> Vec<Tag<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut raw = false;
    while let Some(open) = source[at..].find('{').map(|offset| at + offset) {
        let rest = &source[open..];
        let close = match rest.as_bytes().get(1) {
            Some(b'{') if !raw => "}}",
            Some(b'%') => "%}",
            Some(b'#') if !raw => {
                at = rest.find("#}").map_or(source.len(), |end| open + end + 2);
                continue;
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        let Some(length) = end_of_tag(&rest[2..], close) else {
            break;
        };
        let inner = rest[2..2 + length].trim_matches('-').trim();
        at = open + 2 + length + 2;
        if raw {
            raw = inner != "endraw";
            if raw {
                at = open + 1;
            }
        } else if inner == "raw" && close == "%}" {
            raw = true;
        } else {
            found.push(Tag {
                line: source[..open].matches('\n').count() + 1,
                prints: close == "}}",
                inner,
            });
        }
    }
    found
}

/// How far it is to the tag's end, which no quoted text holds.
fn end_of_tag(text: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match quote {
            Some(q) if q == c => quote = None,
            Some(_) => {}
            None if text[index..].starts_with(close) => return Some(index),
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None => {}
        }
    }
    None
}

fn pieces(inner: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = inner.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if matches!(first, '"' | '\'' | '`') {
            let end = rest[1..].find(first).map_or(rest.len(), |end| end + 1);
            found.push(Piece::Text(&rest[1..end]));
            (end + 1).min(rest.len())
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(rest.len());
            found.push(Piece::Name(&rest[..end]));
            end
        } else {
            found.push(Piece::Mark(first));
            first.len_utf8()
        };
        rest = rest[length..].trim_start();
    }
    found
}

impl<'a> Tag<'a> {
    /// The templates that it includes, imports or extends.
    pub(super) fn partials(&self) -> Vec<&'a str> {
        let pieces = pieces(self.inner);
        match pieces.first() {
            Some(Piece::Name("include" | "import" | "extends")) if !self.prints => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Text(text) => Some(*text),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The filter that has the last word on what it prints.
    pub(super) fn last_filter(&self) -> Option<&'a str> {
        let pieces = pieces(self.inner);
        let bar = pieces.iter().rposition(|piece| *piece == Piece::Mark('|'))?;
        match pieces.get(bar + 1..)? {
            [Piece::Name(name)] => Some(name),
            [
                Piece::Name(name),
                Piece::Mark('('),
                between @ ..,
                Piece::Mark(')'),
            ] => (!between
                .iter()
                .any(|piece| matches!(piece, Piece::Mark('(' | ')'))))
            .then_some(*name),
            _ => None,
        }
    }

    /// Whether it reads the variable without saying what to take in its place.
    pub(super) fn needs(&self, variable: &str) -> bool {
        let pieces = pieces(self.inner);
        pieces.iter().enumerate().any(|(index, piece)| {
            *piece == Piece::Name(variable)
                && !matches!(
                    pieces.get(index + 1..),
                    Some([Piece::Mark('|'), Piece::Name("default"), ..] | [Piece::Name("is"), ..])
                )
        })
    }

    /// The keys of `vars` that it reads.
    pub(super) fn vars(&self) -> Vec<&'a str> {
        pieces(self.inner)
            .iter()
            .filter_map(|piece| match piece {
                Piece::Name(name) => name.strip_prefix("vars.")?.split('.').next(),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_their_lines_and_comments_and_raw_text_have_none() {
        let source =
            "a\n{# {{ no }} #}\n{{ yes }}{% raw %}{{ no }}\n{% if %}{% endraw %}\n{%- if \"%}\" == x -%}{ {";
        let found = tags(source);
        assert_eq!(
            found
                .iter()
                .map(|tag| (tag.line, tag.prints, tag.inner))
                .collect::<Vec<_>>(),
            [(3, true, "yes"), (5, false, "if \"%}\" == x")]
        );
    }

    #[test]
    fn an_open_tag_ends_the_reading() {
        assert_eq!(tags("{{ a"), []);
        assert_eq!(tags("{% raw %}{{ a"), []);
    }

    fn one(source: &str) -> Tag<'_> {
        tags(source).remove(0)
    }

    #[test]
    fn partials_are_read_from_all_three_tags() {
        assert_eq!(one("{% include \"a\" %}").partials(), ["a"]);
        assert_eq!(
            one("{% include ['a', 'b'] ignore missing %}").partials(),
            ["a", "b"]
        );
        assert_eq!(one("{% import \"m\" as m %}").partials(), ["m"]);
        assert_eq!(one("{% if x == \"a\" %}").partials(), Vec::<&str>::new());
    }

    #[test]
    fn the_last_filter_is_the_one_after_the_last_bar() {
        assert_eq!(
            one("{{ a | default(value=\"|\") | json }}").last_filter(),
            Some("json")
        );
        assert_eq!(one("{{ a | block(indent=6) }}").last_filter(), Some("block"));
        assert_eq!(one("{{ a }}").last_filter(), None);
        assert_eq!(one("{{ a | json ~ b }}").last_filter(), None);
        assert_eq!(one("{{ a | json or b }}").last_filter(), None);
        assert_eq!(one("{{ f(x=a | json) }}").last_filter(), None);
    }

    #[test]
    fn a_variable_with_a_default_is_not_needed() {
        assert!(one("{{ vars.a | json }}").needs("vars.a"));
        assert!(!one("{{ vars.a | default(value=1) }}").needs("vars.a"));
        assert!(!one("{% if vars.a is defined %}").needs("vars.a"));
        assert!(!one("{{ \"vars.a\" | json }}").needs("vars.a"));
        assert_eq!(one("{{ vars.a.b ~ vars.c }}").vars(), ["a", "c"]);
    }
}
