//! HTTP on loopback: requests in, answers out, connections closed without one where a fault says so.

#![expect(
    clippy::disallowed_methods,
    reason = "the sandbox is a server with a clock of its own"
)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    http::{HeaderMap, Request, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use thiserror::Error;
use tower_service::Service;

use super::{
    api::Party,
    dispatch, exporters,
    kubernetes::{self, Watch},
    store::Saver,
    tunnel,
    world::World,
};

/// How often a watch looks at the world.
const WATCH_POLL: Duration = Duration::from_millis(50);

/// The largest body that is read; the largest that is meant has 32 KiB of user data.
const BODY_MAX: usize = 1024 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) saver: Option<Saver>,
    /// `http://127.0.0.1:PORT`.
    pub(crate) origin: String,
}

/// The connection is to be closed without an answer.
#[derive(Debug, Error)]
#[error("a fault closes the connection")]
pub(crate) struct Lost;

/// Makes the service of each connection.
#[derive(Debug, Clone)]
pub(crate) struct Front(pub(crate) Arc<Shared>);

impl Service<SocketAddr> for Front {
    type Response = Connection;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Connection, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: SocketAddr) -> Self::Future {
        std::future::ready(Ok(Connection(Arc::clone(&self.0))))
    }
}

/// Serves one connection. An error makes hyper close it without a word.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Arc<Shared>);

impl<B> Service<Request<B>> for Connection
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Lost;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Lost>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        if exporters::is_meant(request.uri()) {
            return Box::pin(async move { Ok(tunnel::forward(&shared, request)) });
        }
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(Body::new(body), BODY_MAX).await.map_err(|_| Lost)?;
            let request = dispatch::Request {
                method: parts.method.as_str().to_owned(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                token: token(parts.uri.path(), &parts.headers),
                content_type: text(&parts.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default(),
                accept: text(&parts.headers, header::ACCEPT.as_str()).unwrap_or_default(),
                body: body.to_vec(),
                origin: shared.origin.clone(),
            };
            serve(&shared, request).await
        })
    }
}

async fn serve(shared: &Arc<Shared>, request: dispatch::Request) -> Result<Response<Body>, Lost> {
    let step = {
        let mut world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
        dispatch::handle(&mut world, request, Timestamp::now())
    };
    if !step.wait.is_zero() {
        tokio::time::sleep(step.wait).await;
    }
    if step.changed
        && let Some(saver) = &shared.saver
        && let Err(problem) = saver.saved().await
    {
        tracing::error!(problem, "the sandbox's world was not saved");
        return Ok(plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the world was not saved",
        ));
    }
    let reply = step.reply.ok_or(Lost)?;
    let mut response = Response::builder().status(reply.status);
    for (key, value) in &reply.headers {
        response = response.header(*key, value);
    }
    let says = |(key, _): &(&str, String)| key.eq_ignore_ascii_case("content-type");
    if !reply.body.is_empty() && !reply.headers.iter().any(says) {
        response = response.header(header::CONTENT_TYPE, "application/json");
    }
    let body = match reply.watch {
        Some(watch) => watched(Arc::clone(shared), *watch),
        None => Body::from(reply.body),
    };
    Ok(response.body(body).unwrap_or_else(|_| {
        plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "an answer with a header that HTTP forbids",
        )
    }))
}

/// What happens in the cluster while somebody watches it. The world is looked at again and again: its clock is not the wall's.
fn watched(shared: Arc<Shared>, watch: Watch) -> Body {
    let ends = tokio::time::Instant::now() + Duration::from_secs(watch.seconds);
    let lines = futures::stream::unfold((shared, watch), move |(shared, mut watch)| async move {
        loop {
            if watch.over || tokio::time::Instant::now() >= ends {
                return None;
            }
            let lines = {
                let mut world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
                let now = world.clock.at(Timestamp::now());
                world.advance(now);
                kubernetes::poll(&world, &mut watch)
            };
            if lines.is_empty() {
                tokio::time::sleep(WATCH_POLL).await;
            } else {
                return Some((Ok::<_, Infallible>(Bytes::from(lines)), (shared, watch)));
            }
        }
    });
    Body::from_stream(lines)
}

fn plain(status: StatusCode, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    response
}

fn text(headers: &HeaderMap, key: &str) -> Option<String> {
    headers
        .get(key)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// The token of a call, wherever its party takes it.
fn token(path: &str, headers: &HeaderMap) -> Option<String> {
    let authorization = |wanted: &str| {
        let value = text(headers, header::AUTHORIZATION.as_str())?;
        let (scheme, rest) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case(wanted)
            .then(|| rest.trim().to_owned())
    };
    let bearer = || authorization("bearer");
    // The two sides of `user:password`.
    let basic = || {
        let pair = STANDARD.decode(authorization("basic")?).ok()?;
        let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    };
    match Party::of(path).map(|(party, _)| party) {
        Some(Party::Drone | Party::Kubernetes) => bearer(),
        // A personal access token is the password, of whatever user.
        Some(Party::Azure) => bearer().or_else(|| basic().map(|(_, password)| password)),
        Some(Party::Circleci) => text(headers, "circle-token").or_else(|| basic().map(|(user, _)| user)),
        _ => text(headers, "private-token")
            .or_else(|| text(headers, "job-token"))
            .or_else(bearer)
            // As Terraform's HTTP backend sends it.
            .or_else(|| basic().map(|(_, password)| password)),
    }
}
