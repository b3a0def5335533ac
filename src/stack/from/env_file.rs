//! Files of environment variables, as systemd's `EnvironmentFile=`, docker's `--env-file` and a shell take them.
//!
//! `KEY=VALUE` on a line of its own; blank lines; comments (`#`, `;`); `export`; quotes, which may hold several lines; a
//! backslash at a line's end. Where the three differ, what was meant is taken: quotes are no part of a value, and ` #`
//! begins a comment behind one. A bare `KEY` has the value of our own environment, as docker gives it. Of two lines for one
//! variable the last counts. An empty value is none. What refers to another variable (`$NAME`) is not looked up.
//!
//! A value is read only by who asks for it, and no error shows one: a file may hold secrets.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::{FromError, Left, Missing, go};

/// One variable of a file.
struct Found {
    /// From 1.
    line: usize,
    /// None where only its name stands there.
    value: Option<String>,
}

/// The variables of a file, with account of those that were asked for.
pub(super) struct Variables<'a> {
    found: BTreeMap<String, Found>,
    /// Where a further line would stand.
    end: usize,
    env: &'a dyn Fn(&str) -> Option<String>,
    read: BTreeSet<String>,
    /// What has no equivalent, as far as it was told.
    pub(super) left: Vec<Left>,
}

impl<'a> Variables<'a> {
    /// Reads a file; `env` looks a variable up that has no value in it.
    pub(super) fn read(text: &str, env: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, FromError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut scanner = Scanner { rest: text, line: 1 };
        let mut found = BTreeMap::new();
        while let Some((key, variable)) = scanner.entry()? {
            found.insert(key, variable);
        }
        Ok(Self {
            found,
            end: scanner.line + usize::from(!text.is_empty() && !text.ends_with('\n')),
            env,
            read: BTreeSet::new(),
            left: Vec::new(),
        })
    }

    /// Refuses a file that has none of these.
    pub(super) fn is_of(&self, system: &str, known: &[&str]) -> Result<(), FromError> {
        if known.iter().any(|key| self.found.contains_key(*key)) {
            return Ok(());
        }
        Err(FromError::WrongKind {
            why: format!("it has none of the variables of {system}: {}", known.join(", ")),
        })
    }

    /// Refuses a file that lacks one of these, each with what could be typed.
    pub(super) fn require(&mut self, wanted: &[(&'static str, &'static str)]) -> Result<(), FromError> {
        let mut missing = Vec::new();
        for (key, example) in wanted {
            if self.value(key).is_none() {
                missing.push(Missing {
                    line: self.found.get(*key).map_or(self.end, |found| found.line),
                    key,
                    example,
                });
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(FromError::Missing { missing })
    }

    fn value(&mut self, key: &str) -> Option<String> {
        self.read.insert(key.to_owned());
        let value = match &self.found.get(key)?.value {
            Some(value) => Some(value.clone()),
            None => (self.env)(key),
        };
        value.filter(|value| !value.is_empty())
    }

    /// That a value is none.
    pub(super) fn wrong(&self, key: &str, expected: &'static str) -> FromError {
        FromError::Value {
            line: self.found.get(key).map_or(self.end, |found| found.line),
            key: key.to_owned(),
            expected,
        }
    }

    /// A text that is no secret.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        if value.contains('$') {
            return Err(self.wrong(key, "written out: what `$` refers to is not looked up"));
        }
        if value.contains(char::is_control) {
            return Err(self.wrong(key, "a text on one line"));
        }
        Ok(Some(value))
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &mut self,
        key: &str,
        within: std::ops::RangeInclusive<u32>,
        expected: &'static str,
    ) -> Result<Option<u32>, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = value.parse().ok().filter(|number| within.contains(number));
        number.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// A length of time, negative ones too.
    pub(super) fn duration(&mut self, key: &str) -> Result<Option<SignedDuration>, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let duration = go::duration(&value);
        duration
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a length of time such as 30s, 10m or 1h30m"))
    }

    /// A switch.
    pub(super) fn boolean(&mut self, key: &str, default: bool) -> Result<bool, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        go::boolean(&value).ok_or_else(|| self.wrong(key, "true or false"))
    }

    /// Notes that a secret is in a variable, whose value is of no interest.
    pub(super) fn secret(&mut self, key: &str) {
        self.read.insert(key.to_owned());
    }

    /// Says why a variable has no equivalent, where the file has it.
    pub(super) fn leave(&mut self, key: &str, why: impl Into<String>) {
        if self.found.contains_key(key) {
            self.tell(key, why);
        }
    }

    /// Says why a variable has no equivalent, whether the file has it or not.
    pub(super) fn tell(&mut self, key: &str, why: impl Into<String>) {
        self.read.insert(key.to_owned());
        self.left.push(Left {
            key: key.to_owned(),
            why: why.into(),
        });
    }

    /// Names whatever was not asked for.
    pub(super) fn rest(&mut self, system: &str) {
        let unread: Vec<String> = self
            .found
            .keys()
            .filter(|key| !self.read.contains(*key))
            .cloned()
            .collect();
        for key in unread {
            let why = if key.starts_with("AWS_") {
                "read by Amazon's own chain of credentials: let runfleet have it in its environment too"
                    .to_owned()
            } else {
                format!("{system} knows no such variable either")
            };
            self.tell(&key, why);
        }
    }
}

/// A text on its way to variables.
struct Scanner<'t> {
    rest: &'t str,
    /// From 1.
    line: usize,
}

impl Scanner<'_> {
    fn syntax(&self, why: &str) -> FromError {
        FromError::Syntax {
            line: self.line,
            why: why.to_owned(),
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        if letter == '\n' {
            self.line += 1;
        }
        Some(letter)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn skip(&mut self, is: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&is) {
            self.next();
        }
    }

    /// The next variable; none at the end.
    fn entry(&mut self) -> Result<Option<(String, Found)>, FromError> {
        loop {
            self.skip(char::is_whitespace);
            match self.peek() {
                None => return Ok(None),
                Some('#' | ';') => self.skip(|letter| letter != '\n'),
                Some(_) => break,
            }
        }
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.rest = after;
            self.skip(is_blank);
        }
        let line = self.line;
        let length = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let key = self.rest[..length].to_owned();
        let named = key.starts_with(|c: char| !c.is_ascii_digit());
        self.rest = &self.rest[length..];
        self.skip(is_blank);
        let value = match self.peek() {
            Some('=') if named => {
                self.next();
                Some(self.value()?)
            }
            None | Some('\n') if named => None,
            _ => return Err(self.syntax("neither KEY=VALUE nor a comment")),
        };
        Ok(Some((key, Found { line, value })))
    }

    /// What stands behind `=`, to the line's end.
    fn value(&mut self) -> Result<String, FromError> {
        self.skip(is_blank);
        let mut value = String::new();
        // Blanks that are in quotes are part of a value, those at its end are not.
        let mut kept = 0;
        loop {
            match self.next() {
                None | Some('\n') => break,
                Some('#') if value.is_empty() || value.ends_with(is_blank) => {
                    self.skip(|letter| letter != '\n');
                }
                Some(quote @ ('"' | '\'')) => {
                    self.quoted(quote, &mut value)?;
                    kept = value.len();
                }
                Some('\\') => match self.next() {
                    None | Some('\n') => {}
                    Some('\r') if self.peek() == Some('\n') => {
                        self.next();
                    }
                    Some(letter) => {
                        value.push(letter);
                        kept = value.len();
                    }
                },
                Some(letter) => value.push(letter),
            }
        }
        let bare = value.trim_end().len();
        value.truncate(kept.max(bare));
        Ok(value)
    }

    fn quoted(&mut self, quote: char, value: &mut String) -> Result<(), FromError> {
        let opened = self.line;
        loop {
            match self.next() {
                None => {
                    self.line = opened;
                    return Err(self.syntax("a quote that is not closed"));
                }
                Some(letter) if letter == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.next() {
                    Some(letter @ ('"' | '\\' | '$' | '`')) => value.push(letter),
                    Some('\n') | None => {}
                    Some(letter) => {
                        value.push('\\');
                        value.push(letter);
                    }
                },
                Some(letter) => value.push(letter),
            }
        }
    }
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn value(text: &str) -> Option<String> {
        Variables::read(text, &nothing).unwrap().value("A")
    }

    #[test]
    fn the_forms_of_systemd_docker_and_a_shell_are_read() {
        for (text, expected) in [
            ("A=1", "1"),
            ("# A=2\n; A=3\n\n  A=1  \n", "1"),
            ("export A=1", "1"),
            ("export\tA='1'", "1"),
            ("A=\"1 2\"", "1 2"),
            ("A='  1 '", "  1 "),
            ("A=1 # the first", "1"),
            ("A='1' # the first", "1"),
            ("A=a#b", "a#b"),
            ("A=\"a\\\"b\\\\c\\n\"", "a\"b\\c\\n"),
            ("A='a\\b'", "a\\b"),
            ("A=one\\\ntwo\nB=3", "onetwo"),
            ("A=\"one\ntwo\"\nB=3", "one\ntwo"),
            ("A=1\r\nB=2\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("A=1\nA=2", "2"),
            ("A = 1", "1"),
            ("A=http://host:80/?q=1", "http://host:80/?q=1"),
        ] {
            assert_eq!(value(text).as_deref(), Some(expected), "{text:?}");
        }
        for text in ["", "B=1", "A=", "A=\"\"", "A= # none", "A"] {
            assert_eq!(value(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_bare_name_has_the_value_of_the_environment() {
        let env = |name: &str| (name == "A").then(|| "7".to_owned());
        let mut variables = Variables::read("A\nB\n", &env).unwrap();
        assert_eq!(
            (variables.value("A"), variables.value("B")),
            (Some("7".to_owned()), None)
        );
        assert_eq!(variables.value("C"), None);
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_its_line() {
        let refused = |text: &str| Variables::read(text, &nothing).err().unwrap().to_string();
        assert_eq!(
            refused("A=1\n{\"B\": 1}"),
            "line 2: neither KEY=VALUE nor a comment"
        );
        assert_eq!(
            refused("A=1\nsome words\n"),
            "line 2: neither KEY=VALUE nor a comment"
        );
        assert_eq!(refused("1A=1\n"), "line 1: neither KEY=VALUE nor a comment");
        assert_eq!(
            refused("A=1\nB=\"secret\nC=2\n"),
            "line 2: a quote that is not closed"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([A-Z]{0,2}[= ]?[\"'\\\\#\n\r\\PC]{0,3}){0,20}") {
            if let Ok(mut variables) = Variables::read(&text, &nothing) {
                variables.rest("a system");
                prop_assert_eq!(variables.left.len(), variables.found.len());
            }
        }
    }
}
