//! Logs to stderr, in text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{
    args::{Global, LogFormat},
    output::colored,
};

/// Starts logging. `RUNFLEET_LOG`, in the words of tracing's filters, overrides `-v`.
pub(super) fn start(global: &Global) {
    let level = match global.verbose {
        0 => "error",
        1 => "runfleet=info",
        2 => "runfleet=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("RUNFLEET_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colored(global.color, io::stderr().is_terminal()));
    // A second start in one process, as in tests, is no error: the first one goes on.
    let _ = match global.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
