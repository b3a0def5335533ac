//! Logs to stderr, in text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{
    args::{Global, LogFormat},
    output::colored,
};

/// Starts logging. Only this program's own events: a library's could hold what a request carried, a token among it.
pub(super) fn start(global: &Global) {
    let filter = EnvFilter::new(match global.verbose {
        0 => "off,runfleet=error",
        1 => "off,runfleet=info",
        2 => "off,runfleet=debug",
        _ => "off,runfleet=trace",
    });
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
