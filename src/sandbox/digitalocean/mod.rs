//! DigitalOcean's API, version 2, as of its description of 2026.

use serde_json::json;

use super::api::{Reply, Route};

pub(crate) static ROUTES: &[Route] = &[];

/// An error body.
pub(crate) fn error(status: u16, id: &str, message: impl Into<String>) -> Reply {
    Reply::json(status, &json!({"id": id, "message": message.into()}))
}

pub(crate) fn unauthorized() -> Reply {
    error(401, "unauthorized", "Unable to authenticate you")
}

pub(crate) fn not_found() -> Reply {
    error(
        404,
        "not_found",
        "The resource you were accessing could not be found.",
    )
}

/// An error of the backend or of what stands before it.
pub(crate) fn server_error(status: u16) -> Reply {
    match status {
        503 => error(status, "service_unavailable", "Service Unavailable"),
        _ => error(status, "server_error", "Unexpected server-side error"),
    }
}
