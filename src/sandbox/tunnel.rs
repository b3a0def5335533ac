//! The forward proxy on the wire: requests in absolute form, and tunnels.

#![expect(
    clippy::disallowed_methods,
    reason = "the sandbox is a server with a clock of its own"
)]

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, Response, Uri, header},
};
use hyper::{server::conn::http1, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    clock::http_date,
    exporters::{self, GREETING, Service, Told},
    transport::Shared,
    world::World,
};

/// Answers a request for another host, or opens a tunnel to it.
pub(crate) fn forward<B>(shared: &Arc<Shared>, mut request: Request<B>) -> Response<Body> {
    let reached = in_world(shared, |world| exporters::reach(world, request.uri()));
    match reached {
        Err(told) => written(shared, told),
        Ok((machine, service)) if request.method() == Method::CONNECT => {
            let upgrade = hyper::upgrade::on(&mut request);
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                // Whoever asked is gone where there is none.
                if let Ok(upgraded) = upgrade.await {
                    serve(shared, upgraded, machine, service).await;
                }
            });
            Response::new(Body::empty())
        }
        Ok((machine, service)) => answer(
            shared,
            machine,
            service,
            request.method(),
            request.uri(),
            request.headers(),
        ),
    }
}

fn in_world<T>(shared: &Shared, then: impl FnOnce(&mut World) -> T) -> T {
    let mut world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
    let now = world.clock.at(Timestamp::now());
    world.advance(now);
    then(&mut world)
}

fn answer(
    shared: &Shared,
    machine: u64,
    service: Service,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let told = in_world(shared, |world| {
        exporters::answer(
            world,
            machine,
            service,
            method.as_str(),
            uri.path(),
            accept.unwrap_or_default(),
        )
    });
    written(shared, told)
}

fn written(shared: &Shared, told: Told) -> Response<Body> {
    let date = in_world(shared, |world| http_date(world.now));
    let response = Response::builder()
        .status(told.status)
        .header(header::CONTENT_TYPE, told.content_type)
        .header(header::DATE, date)
        .body(Body::from(told.body));
    // Every header of ours is one that HTTP allows.
    response.unwrap_or_default()
}

/// What is at the other end of a tunnel, until whoever opened it closes it.
async fn serve(shared: Arc<Shared>, upgraded: Upgraded, machine: u64, service: Service) {
    let mut io = TokioIo::new(upgraded);
    if service == Service::Ssh {
        let mut said = [0; 256];
        if io.write_all(GREETING).await.is_ok() && io.flush().await.is_ok() {
            while io.read(&mut said).await.is_ok_and(|length| length > 0) {}
        }
        return;
    }
    let answering = service_fn(move |request: Request<hyper::body::Incoming>| {
        let reply = answer(
            &shared,
            machine,
            service,
            request.method(),
            request.uri(),
            request.headers(),
        );
        async move { Ok::<_, Infallible>(reply) }
    });
    // A connection that breaks is the client's matter.
    let _ = http1::Builder::new()
        .serve_connection(io.into_inner(), answering)
        .await;
}
