//! The one HTTP client that clouds and CI systems send through.
//!
//! # Contract
//! - A secret goes only over https, or over http to this host; never along a redirect to another origin, never into a log, an error or
//!   a `Debug` text. Who sends none may use http anywhere: [`Client::without_secret`], and [`plain`] for machines by their address.
//! - Every call ends within [`ClientConfig::total_timeout`], its retries, waits and budget included.
//! - What may have been done is told from what certainly was not: [`NetError::Lost`] and [`NetError::NotSent`].
//! - A request that is not [`Request::idempotent`] is sent again only after an answer or an error that says that it was not done:
//!   429, or no connection.
//! - One budget of requests per credential, of which deletes keep a share for themselves ([`budget`]).

pub mod budget;
pub mod plain;
#[cfg(test)]
mod tests;

use std::{
    error::Error as _,
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use backon::BackoffBuilder as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use url::{Host, Url};

use budget::Budget;

/// The largest answer that is read. The largest known one, a page of 100 GitLab jobs, has 0.5 MB.
const BODY_LIMIT: usize = 64 << 20;

/// How long a connection may take: two lost SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The first and the longest wait between two tries; doubled in between, with jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(8));

/// How many redirects within one origin a GET follows: a renamed GitLab project takes one.
const REDIRECTS: u32 = 3;

/// How a request says who asks.
#[derive(Clone, Debug)]
pub enum Auth {
    /// It does not.
    None,
    /// `Authorization: Bearer …`
    Bearer(SecretString),
    /// A header of its own: GitLab's `PRIVATE-TOKEN`.
    Header {
        /// The header's name, in lower case.
        name: &'static str,
        /// Its value.
        value: SecretString,
    },
}

/// Where and how a client sends.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What every path is put behind, the version included: `https://api.hetzner.cloud/v1`. http only to this host.
    pub base: String,
    /// Who asks.
    pub auth: Auth,
    /// Certificates to trust besides the system's, in PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// The longest that one try may take.
    pub call_timeout: Duration,
    /// The longest that a call may take, retries and waits included.
    pub total_timeout: Duration,
    /// How many times a call is tried again.
    pub retries: u32,
    /// How many requests this credential may make in an hour; none where that is not limited.
    pub requests_per_hour: Option<u32>,
    /// How many it may make in any minute; none where that is not limited.
    pub requests_per_minute: Option<u32>,
    /// How many requests are under way at once.
    pub concurrency: usize,
}

impl ClientConfig {
    /// The usual times: 10 s for a try, 30 s and 4 more tries for a call, 20 calls at once, no limit per hour or minute.
    pub fn new(base: impl Into<String>, auth: Auth) -> Self {
        Self {
            base: base.into(),
            auth,
            ca_pem: None,
            call_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            retries: 4,
            requests_per_hour: None,
            requests_per_minute: None,
            concurrency: 20,
        }
    }
}

/// How a server is known and how we are known to it, where that is not as for everybody: what a kubeconfig says.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Our certificate and its key, in PEM, where those let us in.
    pub identity_pem: Option<SecretString>,
    /// Whether [`ClientConfig::ca_pem`] is all that is trusted; otherwise the system's certificates are too.
    pub only_ca: bool,
    /// Through which proxy, whatever the environment says.
    pub proxy: Option<String>,
}

/// Who goes first when requests are scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// What ends costs: a share of the budget is for these alone.
    Delete,
    /// All else.
    #[default]
    Normal,
}

/// One call.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path behind the base, escaped where it needs to be: `/servers`.
    pub path: String,
    /// The query, not escaped.
    pub query: Vec<(String, String)>,
    /// A JSON body; may hold secrets.
    pub body: Option<serde_json::Value>,
    /// A JSON body that is text already, instead of `body`.
    pub text: Option<Vec<u8>>,
    /// Headers of its own, by name in lower case. No credentials: those are the client's.
    pub headers: Vec<(&'static str, String)>,
    /// Headers with names that only the stack file, or another crate that sends through us, knows. Never shown.
    pub more: HeaderMap,
    /// The first and the longest wait between two tries; none: the usual ones.
    pub waits: Option<(Duration, Duration)>,
    /// Who goes first.
    pub priority: Priority,
    /// Whether it may be sent again after an unknown outcome.
    pub idempotent: bool,
}

impl Request {
    /// A request without query and body; idempotent unless it is a POST or a PATCH, urgent if it is a DELETE.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            priority: if method == Method::DELETE {
                Priority::Delete
            } else {
                Priority::Normal
            },
            idempotent: method != Method::POST && method != Method::PATCH,
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            text: None,
            headers: Vec::new(),
            more: HeaderMap::new(),
            waits: None,
        }
    }

    /// Asks for this.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// With this in its query.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.push((key.to_owned(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn json(mut self, body: serde_json::Value) -> Self {
        self.body = Some(body);
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        f.write_str(if self.body.is_some() { " (body)" } else { "" })
    }
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; may hold secrets.
    pub body: Vec<u8>,
    /// The answering server's clock.
    pub date: Option<Timestamp>,
}

impl Reply {
    /// The body as this.
    ///
    /// # Errors
    /// When it is not that. The error's text may quote a scalar of the body: do not decode a secret into anything but a string.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.status, self.body.len())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// A secret would go over the net in the clear.
    #[error("{url} is not https; http is for this host (127.0.0.1, ::1, localhost) only")]
    Insecure {
        /// Where to.
        url: String,
    },
    /// Not an address of a web server.
    #[error("not a usable address: {why}")]
    BadUrl {
        /// What is wrong with it.
        why: String,
    },
    /// Certificates: ours cannot be read, or the server's is not trusted. Nothing was sent.
    #[error("certificates: {why}")]
    Tls {
        /// What is wrong.
        why: String,
    },
    /// Certainly not done: refused, no route, no such name, or the budget would not have had room in time.
    #[error("not sent: {why}")]
    NotSent {
        /// What happened.
        why: String,
    },
    /// Sent, and no whole answer came: it may be done.
    #[error("sent, but the answer was lost: {why}")]
    Lost {
        /// What happened.
        why: String,
    },
}

/// Room for one request; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _place: OwnedSemaphorePermit,
}

/// Sends requests to one server with one credential. Clones share budget and connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    base: Url,
    http: reqwest::Client,
    auth: Option<(HeaderName, HeaderValue)>,
    places: Arc<Semaphore>,
    budget: Budget,
    /// Until when nothing is sent, since the server asked for that.
    rests_until: Mutex<Option<Instant>>,
    calls: AtomicU32,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.inner.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// When the address is not usable or not safe, or the certificates cannot be read.
    pub fn new(config: ClientConfig) -> Result<Self, NetError> {
        Self::with_peer(config, &Peer::default())
    }

    /// As [`Self::new`], for a server that is known in a way of its own.
    ///
    /// # Errors
    /// As [`Self::new`]; and when our certificate, its key or the proxy's address cannot be read.
    pub fn with_peer(config: ClientConfig, peer: &Peer) -> Result<Self, NetError> {
        let base = parse_base(&config.base)?;
        if base.scheme() == "http" && !is_loopback(&base) {
            return Err(NetError::Insecure {
                url: base.to_string(),
            });
        }
        Self::to(base, config, peer)
    }

    /// A client that may use http anywhere, for a server that is told nothing secret: no credential, and none in a body.
    ///
    /// # Errors
    /// When the address is not usable or, with a credential, not safe, or the certificates cannot be read.
    pub fn without_secret(config: ClientConfig) -> Result<Self, NetError> {
        match config.auth {
            Auth::None => Self::to(parse_base(&config.base)?, config, &Peer::default()),
            _ => Self::new(config),
        }
    }

    fn to(base: Url, config: ClientConfig, peer: &Peer) -> Result<Self, NetError> {
        let here = is_loopback(&base);
        let mut builder = reqwest::Client::builder()
            .use_rustls_tls()
            .user_agent(concat!("runfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(config.call_timeout))
            .redirect(reqwest::redirect::Policy::none());
        if here {
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // Reading the system's certificates takes longer than a whole start-up may.
            builder = builder.tls_built_in_root_certs(false);
        }
        if let Some(pem) = &config.ca_pem {
            let certificates =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|e| NetError::Tls { why: chain(&e) })?;
            if certificates.is_empty() {
                let why = "the CA file holds no certificate in PEM".to_owned();
                return Err(NetError::Tls { why });
            }
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
            if peer.only_ca {
                builder = builder.tls_built_in_root_certs(false);
            }
        }
        builder = known_to(peer, builder)?;
        Ok(Self {
            inner: Arc::new(Inner {
                base,
                http: builder.build().map_err(|e| NetError::Tls { why: chain(&e) })?,
                auth: auth_header(&config.auth)?,
                places: Arc::new(Semaphore::new(config.concurrency.max(1))),
                budget: Budget::new(config.requests_per_hour, config.requests_per_minute),
                rests_until: Mutex::default(),
                calls: AtomicU32::new(0),
                config,
            }),
        })
    }

    /// How many requests were sent, tries included.
    pub fn calls(&self) -> u32 {
        self.inner.calls.load(Ordering::Relaxed)
    }

    /// Sends nothing for this long: for servers that ask for it with an answer that is no refusal. A longer rest that was asked for
    /// before stays. A call that cannot wait for its end is [`NetError::NotSent`].
    pub fn rest(&self, time: Duration) {
        let mut until = self
            .inner
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + time));
    }

    fn rests(&self) -> Option<Instant> {
        let until = self.inner.rests_until.lock();
        *until.unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections underneath, for callers that send through another crate: ask for a [`Self::permit`] first. Follows no
    /// redirect and sends no credential by itself.
    pub fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    /// Waits for room for one request, at most the total time-out, and counts it.
    ///
    /// # Errors
    /// [`NetError::NotSent`] when there is none in time.
    pub async fn permit(&self, priority: Priority) -> Result<Permit, NetError> {
        self.permit_until(priority, Instant::now() + self.inner.config.total_timeout)
            .await
    }

    async fn permit_until(&self, priority: Priority, deadline: Instant) -> Result<Permit, NetError> {
        let inner = &self.inner;
        if let Some(until) = self.rests() {
            if until > deadline {
                let left = until.saturating_duration_since(Instant::now());
                let why = format!("the server asked for no call for {left:.0?} more");
                return Err(NetError::NotSent { why });
            }
            tokio::time::sleep_until(until).await;
        }
        // The budget first: who waits for it must not hold a place that a delete could use.
        inner.budget.take(priority, deadline).await?;
        let place = timeout_at(deadline, Arc::clone(&inner.places).acquire_owned()).await;
        match place {
            Ok(Ok(place)) => {
                inner.calls.fetch_add(1, Ordering::Relaxed);
                Ok(Permit { _place: place })
            }
            _ => Err(NetError::NotSent {
                why: format!(
                    "no room among {} requests at once in time",
                    inner.config.concurrency
                ),
            }),
        }
    }

    /// Sends, and sends again where that is right. The last answer is returned, whatever its status.
    ///
    /// Tried again with jittered back-off, or after the time that the server asks for: 429 and [`NetError::NotSent`] always; server
    /// errors and [`NetError::Lost`] if the request is idempotent.
    ///
    /// # Errors
    /// When the last try has no answer; see [`NetError`] for whether it may have been done.
    pub async fn send(&self, request: Request) -> Result<Reply, NetError> {
        let config = &self.inner.config;
        let url = self.url(&request)?;
        let deadline = Instant::now() + config.total_timeout;
        let mut waits = backon::ExponentialBuilder::default()
            .with_min_delay(request.waits.unwrap_or(BACKOFF).0)
            .with_max_delay(request.waits.unwrap_or(BACKOFF).1)
            .with_max_times(config.retries as usize)
            .with_jitter()
            .with_jitter_seed(RandomState::new().hash_one(0))
            .build();
        // Once an answer was lost, a later refusal does not prove that nothing was done.
        let mut lost = None;
        loop {
            let tried = self.try_once(&request, url.clone(), deadline).await;
            let again = match &tried {
                Ok(reply) => {
                    reply.status == StatusCode::TOO_MANY_REQUESTS
                        || (request.idempotent
                            && reply.status.is_server_error()
                            && reply.status != StatusCode::NOT_IMPLEMENTED)
                }
                Err(NetError::NotSent { .. }) => true,
                Err(NetError::Lost { .. }) => request.idempotent,
                Err(_) => false,
            };
            if let Err(error @ NetError::Lost { .. }) = &tried {
                lost = Some(error.clone());
            }
            let wait = if again { waits.next() } else { None };
            let wait = wait.map(|wait| match &tried {
                Ok(reply) => asked_wait(reply, wait, deadline),
                Err(_) => wait,
            });
            match (wait, tried) {
                (Some(wait), _) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                (_, Ok(reply)) => return Ok(reply),
                (_, Err(error @ NetError::NotSent { .. })) => return Err(lost.unwrap_or(error)),
                (_, Err(error)) => return Err(error),
            }
        }
    }

    fn url(&self, request: &Request) -> Result<Url, NetError> {
        let text = format!(
            "{}{}",
            self.inner.base.as_str().trim_end_matches('/'),
            request.path
        );
        let mut url = Url::parse(&text).map_err(|e| NetError::BadUrl {
            why: format!("{}: {e}", request.path),
        })?;
        if url.origin() != self.inner.base.origin() {
            return Err(NetError::BadUrl {
                why: format!("{:?} is not a path", request.path),
            });
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(url)
    }

    /// One try, redirects within the origin included.
    async fn try_once(&self, request: &Request, mut url: Url, deadline: Instant) -> Result<Reply, NetError> {
        for _ in 0..REDIRECTS {
            let reply = self.exchange(request, url.clone(), deadline).await?;
            match same_origin_target(request, &url, &reply) {
                Some(target) => url = target,
                None => return Ok(reply),
            }
        }
        self.exchange(request, url, deadline).await
    }

    /// One request, one answer.
    async fn exchange(&self, request: &Request, url: Url, deadline: Instant) -> Result<Reply, NetError> {
        let inner = &self.inner;
        let _permit = self.permit_until(request.priority, deadline).await?;
        let mut builder = inner.http.request(request.method.clone(), url);
        if let Some((name, value)) = &inner.auth {
            builder = builder.header(name.clone(), value.clone());
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder = builder.headers(request.more.clone());
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        if let Some(text) = &request.text {
            if !request.more.contains_key(header::CONTENT_TYPE) {
                builder = builder.header(header::CONTENT_TYPE, "application/json");
            }
            builder = builder.body(text.clone());
        }
        let begun = Instant::now();
        let end = deadline.min(begun + inner.config.call_timeout);
        let outcome = timeout_at(end, read(builder, BODY_LIMIT))
            .await
            .unwrap_or_else(|_| {
                Err(NetError::Lost {
                    why: format!("no whole answer within {:.1?}", end - begun),
                })
            });
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (method, path) = (&request.method, &request.path);
        match &outcome {
            Ok(reply) => {
                let status = reply.status.as_u16();
                tracing::debug!(%method, path, status, milliseconds, "call");
                if let Some(left) = number(reply, "ratelimit-remaining") {
                    inner.budget.at_most(u32::try_from(left).unwrap_or(0));
                }
            }
            Err(error) => tracing::debug!(%method, path, %error, milliseconds, "call"),
        }
        outcome
    }
}

/// With our own certificate and the proxy, where there are such.
fn known_to(peer: &Peer, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, NetError> {
    if let Some(pem) = &peer.identity_pem {
        // What the library says of it may quote it.
        let identity = reqwest::Identity::from_pem(pem.expose_secret().as_bytes());
        builder = builder.identity(identity.map_err(|_| NetError::Tls {
            why: "our certificate and its key cannot be read as PEM".to_owned(),
        })?);
    }
    if let Some(proxy) = &peer.proxy {
        // Its address may hold a password.
        let proxy = reqwest::Proxy::all(proxy.as_str()).map_err(|_| NetError::BadUrl {
            why: "the proxy's address cannot be read".to_owned(),
        })?;
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}

/// Sends and reads the whole answer, up to the limit.
async fn read(builder: reqwest::RequestBuilder, limit: usize) -> Result<Reply, NetError> {
    let mut response = builder.send().await.map_err(classify)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| NetError::Lost {
        why: chain(&e.without_url()),
    })? {
        if body.len() + part.len() > limit {
            return Err(NetError::Lost {
                why: format!("an answer of more than {} MiB", limit >> 20),
            });
        }
        body.extend_from_slice(&part);
    }
    Ok(Reply {
        status,
        date: date(&headers),
        headers,
        body,
    })
}

/// What an error of the HTTP library says about whether the request was sent.
fn classify(error: reqwest::Error) -> NetError {
    let host = error
        .url()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let error = error.without_url();
    let why = chain(&error);
    if error.is_builder() {
        NetError::BadUrl { why }
    } else if error.is_connect() {
        // rustls is not a direct dependency here, so that its error can only be known by its words.
        if why.contains("certificate") {
            NetError::Tls { why }
        } else {
            NetError::NotSent { why: at(host, &why) }
        }
    } else {
        NetError::Lost { why: at(host, &why) }
    }
}

/// An error with the host that was asked: never more of the address, which may hold what is nobody's business.
fn at(host: Option<String>, why: &str) -> String {
    match host {
        Some(host) => format!("{host}: {why}"),
        None => why.to_owned(),
    }
}

/// An error with its causes, each said once.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

/// How long to wait after this answer: as long as the server asks for, else `wait`.
fn asked_wait(reply: &Reply, wait: Duration, deadline: Instant) -> Duration {
    let wait = if reply.status == StatusCode::TOO_MANY_REQUESTS {
        wait.max(Duration::from_millis(500))
    } else {
        wait
    };
    if let Some(asked) = retry_after(reply) {
        return asked.max(wait.min(BACKOFF.0));
    }
    // `RateLimit-Reset` says when the whole budget is back, often long after the next request is welcome: it is obeyed
    // only where that is soon.
    let reset = number(reply, "ratelimit-reset")
        .zip(reply.date)
        .map(|(at, now)| at - now.as_second());
    match reset
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
    {
        Some(reset)
            if number(reply, "ratelimit-remaining") == Some(0) && Instant::now() + reset < deadline =>
        {
            reset.max(wait)
        }
        _ => wait,
    }
}

/// When the server wants to be asked again, from `Retry-After`: seconds or a date.
pub fn retry_after(reply: &Reply) -> Option<Duration> {
    let value = reply.headers.get(header::RETRY_AFTER)?;
    let seconds = match value.to_str().ok()?.trim().parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => parse_date(value)?.as_second() - reply.date?.as_second(),
    };
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The answering server's clock, from an answer's headers.
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(header::DATE).and_then(parse_date)
}

fn number(reply: &Reply, header: &str) -> Option<i64> {
    reply.header(header)?.trim().parse().ok()
}

fn parse_date(value: &HeaderValue) -> Option<Timestamp> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(value.to_str().ok()?).ok()
}

/// Where a GET goes on within its own origin; none when this is the answer.
fn same_origin_target(request: &Request, at: &Url, reply: &Reply) -> Option<Url> {
    if request.method != Method::GET || !reply.status.is_redirection() {
        return None;
    }
    let target = at.join(reply.header("location")?).ok()?;
    (target.origin() == at.origin()).then_some(target)
}

fn parse_base(text: &str) -> Result<Url, NetError> {
    // The text is not quoted in errors: somebody may have put a password into it.
    let bad = |why: String| NetError::BadUrl { why };
    let url = Url::parse(text).map_err(|e| bad(e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(
            "it holds a user or a password; credentials have a key of their own".to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it holds a query or a fragment".to_owned()));
    }
    match url.scheme() {
        "https" | "http" => Ok(url),
        other => Err(bad(format!("{other:?} is neither https nor http"))),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

fn auth_header(auth: &Auth) -> Result<Option<(HeaderName, HeaderValue)>, NetError> {
    let (name, text) = match auth {
        Auth::None => return Ok(None),
        Auth::Bearer(token) => (header::AUTHORIZATION, format!("Bearer {}", token.expose_secret())),
        Auth::Header { name, value } => (HeaderName::from_static(name), value.expose_secret().to_owned()),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| NetError::BadUrl {
        why: "the token holds characters that no header may have, such as a line's end".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}
