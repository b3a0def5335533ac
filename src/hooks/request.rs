//! Sends a hook's request through the client that clouds are called by.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::SecretString;
use url::Url;

use super::HookError;
use crate::{
    net::{Auth, Client, ClientConfig, NetError, Request},
    stack::hooks::HttpCall,
};

/// How much of an answer is told.
const TOLD: usize = 300;

/// Sends `body`; once, since a hook has its own retries.
///
/// # Errors
/// When there is no answer within `limit`, or it is no success.
pub(super) async fn send(
    call: &HttpCall,
    token: Option<SecretString>,
    body: &[u8],
    limit: Duration,
) -> Result<(), HookError> {
    let url = Url::parse(&call.url).map_err(|error| no_answer("the address", &error))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let mut base = url.clone();
    base.set_query(None);
    let client = Client::new(ClientConfig {
        call_timeout: limit,
        total_timeout: limit,
        retries: 0,
        ..ClientConfig::new(base.as_str(), token.map_or(Auth::None, Auth::Bearer))
    });
    let client = client.map_err(|error| no_answer(&host, &error))?;
    let mut request = Request::new(method(&call.method), "");
    // The base loses the slash at its end.
    if base.path().len() > 1 && base.path().ends_with('/') {
        "/".clone_into(&mut request.path);
    }
    let query = url.query_pairs();
    request.query = query
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    request.text = Some(body.to_vec());
    request.more = headers(call);
    let reply = client.send(request).await;
    let reply = reply.map_err(|error| match error {
        NetError::Lost { .. } | NetError::NotSent { .. } | NetError::Tls { .. } | NetError::BadUrl { .. } => {
            no_answer(&host, &error)
        }
        NetError::Insecure { .. } => no_answer(&host, &"not https, and not this host"),
    })?;
    if reply.status.is_success() {
        return Ok(());
    }
    let told: String = String::from_utf8_lossy(&reply.body)
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(TOLD)
        .collect();
    Err(HookError::Answer {
        host,
        status: reply.status.as_u16(),
        body: told,
    })
}

fn no_answer(host: &str, why: &impl ToString) -> HookError {
    HookError::NoAnswer {
        host: host.to_owned(),
        why: why.to_string(),
    }
}

fn method(name: &str) -> Method {
    if name == "PUT" { Method::PUT } else { Method::POST }
}

/// Its own headers; the stack file was checked, so that each is one.
fn headers(call: &HttpCall) -> HeaderMap {
    let each = call.headers.iter();
    each.filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    })
    .collect()
}
