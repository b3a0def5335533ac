//! An HTTP relay that records what passes and, where told, bends it: one stands before the validating proxies, one
//! between them and the sandbox.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Response, header},
};
use serde_json::Value;

/// How the body of some call, or of its answer, is changed on its way.
pub(crate) type Bend = fn(method: &str, path: &str, body: &mut Value);

/// Bends nothing.
pub(crate) const STRAIGHT: Bend = |_, _, _| {};

/// What passed.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// It went through a validating proxy.
    pub(crate) validated: bool,
    /// What that proxy found.
    pub(crate) violations: Option<String>,
}

/// Where a path goes.
pub(crate) struct Route {
    /// With the path.
    pub(crate) url: String,
    pub(crate) validated: bool,
}

type Routing = dyn Fn(&str, &str) -> Route + Send + Sync;

pub(crate) struct Relay {
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    route: Box<Routing>,
    request: Bend,
    answer: Bend,
    /// The address in links, and what stands there instead.
    links: (String, String),
    http: reqwest::Client,
    seen: Mutex<Vec<Exchange>>,
}

/// What a relay does to what passes.
pub(crate) struct Options {
    pub(crate) request: Bend,
    pub(crate) answer: Bend,
    /// Links to this address are turned to the relay's own, as a GitLab behind a proxy is told its external address.
    pub(crate) origin: String,
}

impl Relay {
    pub(crate) fn start(
        options: Options,
        route: impl Fn(&str, &str) -> Route + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            route: Box::new(route),
            request: options.request,
            answer: options.answer,
            links: (options.origin, address.clone()),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            seen: Mutex::default(),
        });
        let app = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        runtime.spawn(async { axum::serve(listener, app).await });
        Self {
            address,
            shared,
            _runtime: runtime,
        }
    }

    /// What has passed, in the order of the answers.
    pub(crate) fn seen(&self) -> Vec<Exchange> {
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let (method, path) = (parts.method.as_str().to_owned(), parts.uri.path().to_owned());
    let route = (shared.route)(&method, &path);
    let query = parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let body = bent(shared.request, &method, &path, body);
    let sent = shared
        .http
        .request(parts.method, format!("{}{query}", route.url))
        .headers(end_to_end(&parts.headers))
        .body(body)
        .send()
        .await;
    let Ok(answer) = sent else {
        return Response::builder().status(599).body(Body::empty()).unwrap();
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.unwrap_or_default();
    let exchange = Exchange {
        status: status.as_u16(),
        validated: route.validated,
        violations: headers
            .get("sl-violations")
            .map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned()),
        method,
        path,
    };
    let body = bent(shared.answer, &exchange.method, &exchange.path, body);
    shared
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(exchange);
    let mut reply = Response::builder().status(status).body(Body::from(body)).unwrap();
    *reply.headers_mut() = end_to_end(&headers);
    let (from, to) = &shared.links;
    if let Some(link) = headers.get(header::LINK) {
        let link = link.to_str().unwrap().replace(from, to);
        reply.headers_mut().insert(header::LINK, link.parse().unwrap());
    }
    reply
}

fn bent(bend: Bend, method: &str, path: &str, body: Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    let before = value.clone();
    bend(method, path, &mut value);
    if value == before {
        body
    } else {
        value.to_string().into()
    }
}

/// The headers that are not about one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    const HOP: [HeaderName; 5] = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::ACCEPT_ENCODING,
    ];
    let mut kept = headers.clone();
    for name in HOP {
        kept.remove(name);
    }
    kept
}
