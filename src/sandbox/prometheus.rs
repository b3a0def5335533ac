//! A Prometheus that scrapes the machines, of which queries can be asked.

use serde_json::json;

use super::api::{Reply, Route};

pub(crate) static ROUTES: &[Route] = &[];

/// An error body, by its type: `bad_data`.
pub(crate) fn error(status: u16, kind: &str, message: impl Into<String>) -> Reply {
    Reply::json(
        status,
        &json!({"status": "error", "errorType": kind, "error": message.into()}),
    )
}
