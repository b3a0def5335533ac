//! What stands between the provider and the fake.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use kube::client::Body;
use kube_fake_client::ClientBuilder;
use runfleet::net::NetError;
use serde_json::{Value, json};
use tower::service_fn;

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is done, and the answer is lost.
    ReplyLost,
    /// It is not done, and no answer comes.
    RequestLost,
    /// It is refused, with this status, reason and message.
    Refused(u16, &'static str, &'static str),
}

/// When: the method, a part of the path and query, and how many such calls go well before.
type Rule = (Method, &'static str, usize, Fault);

/// The cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Asks the fake itself.
    pub fake: kube::Client,
    rules: Arc<Mutex<VecDeque<Rule>>>,
    refused: Arc<Mutex<BTreeSet<String>>>,
    /// Whether the namespace is there: the fake knows none.
    namespace: Arc<Mutex<bool>>,
    /// Each call, as `METHOD path?query`.
    pub calls: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    pub async fn with(objects: Vec<Value>) -> Self {
        let fake = ClientBuilder::new().with_runtime_objects(objects).build().await;
        Self {
            fake: fake.expect("a fake cluster"),
            rules: Arc::default(),
            refused: Arc::default(),
            namespace: Arc::default(),
            calls: Arc::default(),
        }
    }

    /// Orders a fault for the next call like this, after so many that go well.
    pub fn order(&self, method: Method, path: &'static str, after: usize, fault: Fault) {
        self.rules.lock().unwrap().push_back((method, path, after, fault));
    }

    /// Lets `VERB RESOURCE` be refused to whoever asks.
    pub fn refuse(&self, what: &str) {
        self.refused.lock().unwrap().insert(what.to_owned());
    }

    /// Lets the namespace be there.
    pub fn has_namespace(&self) {
        *self.namespace.lock().unwrap() = true;
    }

    /// A client that goes through this layer.
    pub fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { cluster.answer(request).await }
        });
        kube::Client::new(service, "ci")
    }

    fn strikes(&self, method: &Method, uri: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let at = rules
            .iter()
            .position(|(on, part, ..)| on == method && uri.contains(part))?;
        if rules[at].2 > 0 {
            rules[at].2 -= 1;
            return None;
        }
        rules.remove(at).map(|(.., fault)| fault)
    }

    async fn answer(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut parts, body) = request.into_parts();
        let uri = parts.uri.to_string();
        self.calls.lock().unwrap().push(format!("{} {uri}", parts.method));
        let fault = self.strikes(&parts.method, &uri);
        let lost = |why: &str| Box::new(NetError::Lost { why: why.to_owned() });
        match fault {
            Some(Fault::RequestLost) => return Err(lost("the request was lost")),
            Some(Fault::Refused(code, reason, message)) => return Ok(refused(code, reason, message)),
            _ => {}
        }
        if uri.contains("selfsubjectaccessreviews") {
            let body = body.collect_bytes().await?;
            return Ok(answered(
                StatusCode::CREATED,
                &self.review(serde_json::from_slice(&body)?),
            ));
        }
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        if path == "/api/v1/namespaces/ci" {
            return Ok(if *self.namespace.lock().unwrap() {
                let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ci"}});
                answered(StatusCode::OK, &body)
            } else {
                refused(404, "NotFound", "namespaces \"ci\" not found")
            });
        }
        let mut page = None;
        if parts.method == Method::GET && query.contains("limit=") {
            let get = |key: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(name, _)| *name == key)
                    .and_then(|(_, value)| value.parse::<usize>().ok())
            };
            page = Some((get("continue").unwrap_or(0), get("limit").unwrap_or(500)));
            let rest: Vec<&str> = query
                .split('&')
                .filter(|pair| !pair.starts_with("limit=") && !pair.starts_with("continue="))
                .collect();
            parts.uri = format!("{path}?{}", rest.join("&")).parse()?;
        }
        let answer = self.fake.send(Request::from_parts(parts, body)).await?;
        if matches!(fault, Some(Fault::ReplyLost)) {
            return Err(lost("the reply was lost"));
        }
        let (head, body) = answer.into_parts();
        let mut body: Value = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
        if let (Some((from, limit)), Some(items)) = (page, body["items"].as_array().cloned()) {
            let end = (from + limit).min(items.len());
            let more = if end < items.len() {
                end.to_string()
            } else {
                String::new()
            };
            body["items"] = items[from.min(end)..end].into();
            body["metadata"]["continue"] = more.into();
        }
        Ok(answered(head.status, &body))
    }

    fn review(&self, mut review: Value) -> Value {
        let asked = &review["spec"]["resourceAttributes"];
        let text = |key: &str| asked[key].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            sub => format!("{}/{sub}", text("resource")),
        };
        let what = format!("{} {resource}", text("verb"));
        let allowed = !self.refused.lock().unwrap().contains(&what);
        review["status"] = json!({ "allowed": allowed });
        review
    }
}

fn answered(status: StatusCode, body: &Value) -> Response<Body> {
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    let mut answer = Response::new(Body::from(body.to_string().into_bytes()));
    *answer.status_mut() = status;
    if let Ok(date) = date {
        let date = date.parse().expect("a header");
        answer.headers_mut().insert(header::DATE, date);
    }
    answer
}

fn refused(code: u16, reason: &str, message: &str) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message});
    answered(StatusCode::from_u16(code).expect("a status"), &body)
}
