//! The `kube` crate's client over our own connections: one TLS, one budget, one place for time-outs and retries.
//!
//! `kube` says who we are (a token, a file of one that changes, a plug-in) and what is asked; [`net::Client`] sends it. Its own
//! connections are not used: they know no budget, log the text of a refusal, and would bring a second way to TLS.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Response, header};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use tower_service::Service;

use crate::net::{self, NetError, Request};

/// A client of `kube` that sends through this one, with the credential that `config` has. A plug-in of a kubeconfig is run by this,
/// and blocks.
///
/// # Errors
/// Where the credential cannot be had.
pub(super) fn client(net: net::Client, config: &kube::Config) -> Result<kube::Client, kube::Error> {
    let builder = ClientBuilder::new(Sender { net }, config.default_namespace.clone())
        .with_layer(&config.extra_headers_layer()?);
    Ok(match config.auth_layer()? {
        Some(layer) => builder.with_layer(&layer).build(),
        None => builder.build(),
    })
}

/// What `kube` passes on as it is: a [`NetError`].
type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Sender {
    net: net::Client,
}

impl Service<http::Request<Body>> for Sender {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Room is waited for inside the call, where deletes go first.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let net = self.net.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.map_err(|_| NetError::NotSent {
                why: "the request has no body that can be sent".to_owned(),
            })?;
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let mut send = Request::new(parts.method, path);
            send.more = only_ours(&parts.headers);
            send.text = (!body.is_empty()).then(|| body.to_vec());
            let reply = net.send(send).await?;
            let mut answer = Response::new(Body::from(reply.body));
            *answer.status_mut() = reply.status;
            *answer.headers_mut() = reply.headers;
            Ok(answer)
        })
    }
}

/// All but what the connection sets by itself.
fn only_ours(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION] {
        kept.remove(name);
    }
    kept
}
