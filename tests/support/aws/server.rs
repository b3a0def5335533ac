//! HTTP on loopback, where an error of the service closes the connection without a byte: what a lost reply looks like.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    http::{HeaderMap, Request, Response, header},
};
use tower_service::Service;

use super::{errors, flow::Inner, wire::Asked};

/// The largest body that is read: user data is 16 KiB at most, and the S3 of other tests passes by.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the layer closes the connection")]
pub struct Lost;

/// A call as it came.
pub struct Arrived {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer on its way out.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl From<errors::Body> for Reply {
    fn from(body: errors::Body) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static(body.content_type),
        );
        Self {
            status: body.status,
            headers,
            body: body.text.into(),
        }
    }
}

impl Arrived {
    pub fn asked(&self) -> Asked {
        let target = self
            .headers
            .get("x-amz-target")
            .and_then(|value| value.to_str().ok());
        Asked::parse(&self.method, &self.path, target, &self.body)
    }
}

/// Makes the service of each connection.
#[derive(Clone)]
pub struct Front(pub Arc<Inner>);

impl Service<SocketAddr> for Front {
    type Response = Connection;
    type Error = Infallible;
    type Future = Ready<Result<Connection, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: SocketAddr) -> Self::Future {
        ready(Ok(Connection(Arc::clone(&self.0))))
    }
}

/// Serves one connection.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

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
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(Body::new(body), BODY_MAX).await.map_err(|_| Lost)?;
            let arrived = Arrived {
                method: parts.method.as_str().to_owned(),
                path: parts
                    .uri
                    .path_and_query()
                    .map_or_else(|| "/".to_owned(), ToString::to_string),
                headers: parts.headers,
                body,
            };
            // AWS finishes what it was sent, whether or not the sender lives to hear of it.
            let clock = Arc::clone(&inner);
            let answer = tokio::spawn(async move { inner.answer(&arrived).await });
            let mut reply = answer.await.map_err(|_| Lost)??;
            let date = clock.date();
            reply
                .headers
                .insert(header::DATE, date.parse().map_err(|_| Lost)?);
            let mut response = Response::builder().status(reply.status);
            if let Some(headers) = response.headers_mut() {
                *headers = reply.headers;
            }
            response.body(Body::from(reply.body)).map_err(|_| Lost)
        })
    }
}
