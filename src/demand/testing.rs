//! A small scripted server for the tests of CI clients: answers as it is told, and remembers what it was asked.

#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request as HttpRequest,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use secrecy::SecretString;
use serde_json::Value;

use crate::net::{Auth, ClientConfig};

/// The server's time: 1767268800 s.
pub(super) const DATE: &str = "Thu, 01 Jan 2026 12:00:00 GMT";
/// The same in seconds.
pub(super) const NOW: i64 = 1_767_268_800;
/// What its clients send, which nothing may repeat.
pub(super) const TOKEN: &str = "token-that-stays-secret";

/// A call as the server saw it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// `GET /api/queue`
    pub(super) what: String,
    pub(super) query: String,
    /// The credential, by whatever header.
    pub(super) credential: String,
}

/// What it answers; none: never.
type Script = dyn Fn(&Call) -> Option<(u16, String)> + Send + Sync;

pub(super) struct Server {
    pub(super) root: String,
    seen: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    pub(super) async fn start(
        script: impl Fn(&Call) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let app = Router::new().fallback({
            let seen = Arc::clone(&seen);
            move |request: HttpRequest| answer(request, Arc::clone(&seen), Arc::clone(&script))
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { root, seen }
    }

    /// One answer to whatever is asked.
    pub(super) async fn saying(status: u16, body: impl ToString) -> Self {
        let body = body.to_string();
        Self::start(move |_| Some((status, body.clone()))).await
    }

    /// How a client calls it: each call once, with the time that a busy computer takes.
    pub(super) fn client(&self, auth: impl FnOnce(SecretString) -> Auth) -> ClientConfig {
        let mut client = ClientConfig::new(self.root.clone(), auth(SecretString::from(TOKEN)));
        client.call_timeout = Duration::from_secs(10);
        client.total_timeout = Duration::from_secs(10);
        client.retries = 0;
        client
    }

    pub(super) fn seen(&self) -> Vec<Call> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.seen().into_iter().map(|call| call.what).collect()
    }
}

async fn answer(request: HttpRequest, seen: Arc<Mutex<Vec<Call>>>, script: Arc<Script>) -> Response {
    let call = call_of(&request);
    seen.lock().unwrap().push(call.clone());
    let Some((status, body)) = script(&call) else {
        return std::future::pending().await;
    };
    let status = StatusCode::from_u16(status).unwrap();
    let headers = [(header::DATE, DATE), (header::CONTENT_TYPE, "application/json")];
    (status, headers, Body::from(body)).into_response()
}

fn call_of(request: &HttpRequest) -> Call {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    Call {
        what: format!("{} {}", request.method(), request.uri().path()),
        query: request.uri().query().unwrap_or_default().to_owned(),
        credential: header("authorization")
            .or_else(|| header("circle-token"))
            .unwrap_or_default()
            .to_owned(),
    }
}

/// A file of `../shared/specs`; none, said aloud, where there is none.
pub(super) fn sample(name: &str) -> Option<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/specs")
        .join(name);
    let found = fs_err::read_to_string(&path).ok();
    if found.is_none() {
        skipped(&format!("../shared/specs/{name} is not here"));
    }
    found.map(|text| serde_json::from_str(&text).unwrap())
}

/// Says aloud what is not tested here.
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
