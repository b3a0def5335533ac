//! Colours, as Terraform's users know them.

use anstyle::{AnsiColor, Style};

use super::Change;

/// Whether to colour. Without colour every style is empty, so that callers never ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    color: bool,
}

impl Paint {
    /// For a pipe or a file.
    pub const PLAIN: Self = Self { color: false };

    /// With colour, or without.
    pub fn new(color: bool) -> Self {
        Self { color }
    }

    fn when(self, style: Style) -> Style {
        if self.color { style } else { Style::new() }
    }

    fn fg(self, color: AnsiColor) -> Style {
        self.when(Style::new().fg_color(Some(color.into())))
    }

    /// For headings and the summary.
    pub fn bold(self) -> Style {
        self.when(Style::new().bold())
    }

    /// For what is beside the point.
    pub fn dim(self) -> Style {
        self.when(Style::new().dimmed())
    }

    /// For what a person should look at.
    pub fn warning(self) -> Style {
        self.fg(AnsiColor::Yellow)
    }

    /// For what went wrong.
    pub fn error(self) -> Style {
        self.fg(AnsiColor::Red)
    }

    /// For what went well.
    pub fn good(self) -> Style {
        self.fg(AnsiColor::Green)
    }

    /// A change's own colour.
    pub fn change(self, change: Change) -> Style {
        match change {
            Change::Create => self.fg(AnsiColor::Green),
            Change::Update | Change::CreateFirst | Change::DeleteFirst => self.fg(AnsiColor::Yellow),
            Change::Delete => self.fg(AnsiColor::Red),
            Change::Forget => self.fg(AnsiColor::BrightBlack),
            Change::Cordon => self.fg(AnsiColor::Magenta),
            Change::Hook => self.fg(AnsiColor::Cyan),
        }
    }
}
