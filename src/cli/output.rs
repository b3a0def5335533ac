//! The only place that writes to stdout, and that knows whether it is a terminal.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::{
    args::{Color, Global},
    error::Failure,
    show::Paint,
};

/// What stdout is, and how it is written to.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether a program reads it.
    pub json: bool,
    /// How it is coloured.
    pub paint: Paint,
    /// Whether it is a terminal.
    pub terminal: bool,
}

impl Output {
    /// By the flags, the environment and what stdout is.
    pub fn new(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json: global.json,
            paint: Paint::new(colored(global.color, terminal)),
            terminal,
        }
    }

    /// Whether a person is there to be asked.
    pub fn can_ask(self) -> bool {
        self.terminal && !self.json && io::stdin().is_terminal()
    }

    /// Writes a text in one piece.
    ///
    /// A reader that has gone (`runfleet status | head`) is no error: it has read what it wanted.
    ///
    /// # Errors
    /// When stdout cannot be written to for another reason: a full disk.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::error("writing to stdout").because(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes one document, indented, since people read JSON too.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub fn document(self, document: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::error("writing JSON").because(error))?;
        text.push('\n');
        self.text(&text)
    }

    /// Writes one line of JSON.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub fn line(self, line: &impl Serialize) -> Result<(), Failure> {
        let mut text =
            serde_json::to_string(line).map_err(|error| Failure::error("writing JSON").because(error))?;
        text.push('\n');
        self.text(&text)
    }
}

/// Whether to colour a stream.
pub fn colored(when: Color, terminal: bool) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !set("NO_COLOR") && !is("TERM", "dumb"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn is(name: &str, value: &str) -> bool {
    std::env::var_os(name).is_some_and(|found| found == value)
}
