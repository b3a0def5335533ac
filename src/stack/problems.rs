//! What is wrong with a stack file: every problem, each with its place, what is wrong, and what to do.
//!
//! Values that look like secrets are blotted out of the text that is kept for showing, byte for byte, so that a token
//! written into the file by mistake is not copied into a log.

use std::{fmt, ops::Range};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use super::tree::{Kind, Node, Span};

/// One thing that is wrong. A [`Diagnostic`] whose source is that of the [`StackProblems`] around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what}")]
pub struct StackProblem {
    /// Its kind, for programs: `stack::unknown_key`. The closed list is [`StackProblem::CODES`].
    pub code: &'static str,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// What is wrong, in one line.
    pub what: String,
    /// What stands beside the caret.
    pub label: String,
    /// Further places that belong to it, each with what stands there.
    pub also: Vec<(Range<usize>, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl StackProblem {
    /// Every code that a problem can have.
    pub const CODES: [&'static str; 10] = [
        "stack::syntax",
        "stack::unknown_key",
        "stack::missing_key",
        "stack::wrong_type",
        "stack::bad_value",
        "stack::bad_name",
        "stack::literal_secret",
        "stack::dangling",
        "stack::duplicate",
        "stack::contradiction",
    ];

    pub(super) fn new(
        code: &'static str,
        span: Span,
        what: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Self {
            code,
            span,
            what: what.into(),
            label: label.into(),
            also: Vec::new(),
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }
}

impl Diagnostic for StackProblem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let main = LabeledSpan::new_primary_with_span(Some(self.label.clone()), self.span.clone());
        let also = self
            .also
            .iter()
            .map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.clone()));
        Some(Box::new(std::iter::once(main).chain(also)))
    }
}

/// Everything that is wrong with one stack file, in the order of the text; never empty.
#[derive(Clone, Debug)]
pub struct StackProblems {
    /// The file's name as it was given.
    pub file_name: String,
    /// What is wrong.
    pub problems: Vec<StackProblem>,
    source: NamedSource<String>,
}

impl StackProblems {
    /// Sorts the problems by place and drops repetitions. `text` must be blotted already.
    pub(super) fn new(file_name: &str, text: String, mut problems: Vec<StackProblem>) -> Self {
        problems
            .sort_by(|a, b| (a.span.start, a.span.end, &a.what).cmp(&(b.span.start, b.span.end, &b.what)));
        problems.dedup();
        Self {
            file_name: file_name.to_owned(),
            source: NamedSource::new(file_name, text),
            problems,
        }
    }

    /// The file's text, with secrets blotted out.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// Line and column of a problem, both from 1; the column counts characters.
    pub fn position(&self, problem: &StackProblem) -> (usize, usize) {
        let bytes = self.text().as_bytes();
        let before = String::from_utf8_lossy(&bytes[..problem.span.start.min(bytes.len())]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

impl fmt::Display for StackProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "{} has a problem", self.file_name),
            count => write!(f, "{} has {count} problems", self.file_name),
        }
    }
}

impl std::error::Error for StackProblems {}

impl Diagnostic for StackProblems {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.problems.iter().map(|problem| problem as &dyn Diagnostic),
        ))
    }
}

/// The text with every value blotted out that stands under a key that sounds like a secret's.
pub(super) fn blot_tree(text: &str, root: &Node) -> String {
    let mut spans = Vec::new();
    collect_secrets(root, false, &mut spans);
    blot(text, &spans)
}

fn collect_secrets(node: &Node, secret: bool, spans: &mut Vec<Span>) {
    match &node.kind {
        Kind::String(value) if secret || has_password(value) || value.contains("PRIVATE KEY") => {
            spans.push(node.span.clone());
        }
        Kind::Integer(_) | Kind::Float(_) if secret => spans.push(node.span.clone()),
        Kind::Array(items) => items.iter().for_each(|item| collect_secrets(item, secret, spans)),
        // Below the key a table says where the secret is, which is no secret; under any other word it may be one.
        Kind::Table(entries) => entries.iter().for_each(|entry| {
            let place = ["env", "file", "command", "credential"].contains(&entry.key.as_str());
            let literal = is_secret_key(&entry.key) || (secret && !(place && names_a_place(&entry.node)));
            collect_secrets(&entry.node, literal, spans);
        }),
        _ => {}
    }
}

/// Whether what stands under `env` could be a variable: a token pasted there is none.
fn names_a_place(node: &Node) -> bool {
    match &node.kind {
        Kind::String(value) => !looks_like_a_token(value),
        _ => true,
    }
}

/// Whether a text has the shape of a token that is known to be one, wherever it stands.
pub(super) fn looks_like_a_token(text: &str) -> bool {
    ["glpat-", "glrt-", "gldt-", "ghp_", "github_pat_"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
        || (text.len() == 20 && (text.starts_with("AKIA") || text.starts_with("ASIA")))
        || (text.len() >= 60 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The same for a text that does not parse: line by line, from the value of such a key to the line's end.
pub(super) fn blot_lines(text: &str) -> String {
    let mut spans = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for (at, _) in line.match_indices('=') {
            let key = line[..at].trim_end().trim_end_matches(['"', '\'']);
            let word = key
                .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
                .map_or(key, |end| {
                    key[end..].trim_start_matches(|c: char| !c.is_alphanumeric())
                });
            let value = line[at + 1..].trim_start();
            if is_secret_key(word) && !value.starts_with('{') {
                spans.push(start + at + 1..start + line.len());
                break;
            }
        }
        if has_password(line) || line.contains("PRIVATE KEY") {
            spans.push(start..start + line.len());
        }
        start += line.len();
    }
    blot(text, &spans)
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "secret", "passw", "api_key", "access_key", "private_key"]
        .iter()
        .any(|word| key.contains(word))
        || key
            .split(['_', '-'])
            .any(|part| strsim::damerau_levenshtein(part, "token") <= 1)
}

/// Whether a text holds an address with a user's part: `https://user:password@host`.
fn has_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', '"', '\'']).next().unwrap_or_default();
        authority.contains('@')
    })
}

/// Stars for every byte, but for the quotes around and the ends of lines: places stay where they are.
fn blot(text: &str, spans: &[Span]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        let end = span.end.min(bytes.len());
        for byte in &mut bytes[span.start.min(end)..end] {
            if !matches!(*byte, b'\n' | b'\r' | b'"' | b'\'' | b' ') {
                *byte = b'*';
            }
        }
    }
    // Whole characters were replaced, so this is text still; were it not, showing nothing is the safe answer.
    String::from_utf8(bytes).unwrap_or_default()
}
