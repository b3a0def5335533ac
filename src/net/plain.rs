//! Asks machines by their address, over plain http and TCP: exporters and health checks in private networks.
//!
//! # Contract
//! - Nothing secret is sent: a GET of a path, or a connection that is closed again. That is why http is fine here.
//! - One try, which ends within its time-out; an answer larger than its limit is none.
//! - No redirect is followed, and no proxy of the environment is used: only the one that was asked for, of which an HTTP
//!   resource is asked by its whole address, and a port by `CONNECT`.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use url::Url;

use super::{NetError, Reply, chain, parse_base, read};

/// The longest head of an answer to `CONNECT` that is read.
const HEAD_LIMIT: usize = 8 << 10;

/// Asks many machines, a bounded number at once. Clones share the bound and the count.
#[derive(Clone)]
pub struct Plain {
    http: reqwest::Client,
    /// `host:port`
    proxy: Option<String>,
    places: Arc<Semaphore>,
    calls: Arc<AtomicU32>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain")
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

impl Plain {
    /// For so many calls at once, through this proxy (`http://127.0.0.1:3128`) or none.
    ///
    /// # Errors
    /// When the proxy's address is not usable.
    pub fn new(proxy: Option<&str>, concurrency: usize) -> Result<Self, NetError> {
        let mut builder = reqwest::Client::builder()
            .use_rustls_tls()
            .tls_built_in_root_certs(false)
            .user_agent(concat!("runfleet/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let mut through = None;
        if let Some(proxy) = proxy {
            let url = parse_base(proxy)?;
            let bad = |why: &str| NetError::BadUrl {
                why: format!("the proxy: {why}"),
            };
            if url.scheme() != "http" {
                return Err(bad("it is not reached over http"));
            }
            let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
            through = Some(format!("{host}:{}", url.port_or_known_default().unwrap_or(80)));
            let proxy = reqwest::Proxy::http(url.as_str()).map_err(|e| bad(&chain(&e.without_url())))?;
            builder = builder.proxy(proxy);
        }
        Ok(Self {
            http: builder.build().map_err(|e| NetError::Tls { why: chain(&e) })?,
            proxy: through,
            places: Arc::new(Semaphore::new(concurrency.max(1))),
            calls: Arc::default(),
        })
    }

    /// How many times a machine was asked.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What is at this path of a machine; any status is an answer. `path` begins with a slash and may hold a query.
    ///
    /// # Errors
    /// When there is no whole answer in time, or it is larger than `limit` bytes.
    pub async fn get(
        &self,
        at: SocketAddr,
        path: &str,
        accept: Option<&'static str>,
        timeout: Duration,
        limit: usize,
    ) -> Result<Reply, NetError> {
        let url = Url::parse(&format!("http://{at}{path}"));
        let url = url.map_err(|e| NetError::BadUrl { why: e.to_string() })?;
        let mut builder = self.http.get(url);
        if let Some(accept) = accept {
            builder = builder.header(header::ACCEPT, HeaderValue::from_static(accept));
        }
        self.within(timeout, read(builder, limit)).await
    }

    /// Whether a port accepts a connection, which is closed at once.
    ///
    /// # Errors
    /// When it does not, or not in time.
    pub async fn connect(&self, at: SocketAddr, timeout: Duration) -> Result<(), NetError> {
        self.within(timeout, async {
            match &self.proxy {
                None => TcpStream::connect(at)
                    .await
                    .map(drop)
                    .map_err(|e| NetError::NotSent {
                        why: format!("{at}: {e}"),
                    }),
                Some(proxy) => tunnel(proxy, at).await,
            }
        })
        .await
    }

    /// A place among those that ask at once first: waiting for it is not the machine's fault.
    async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, NetError> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|e| NetError::NotSent { why: e.to_string() })?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let end = Instant::now() + timeout;
        timeout_at(end, work).await.unwrap_or_else(|_| {
            Err(NetError::Lost {
                why: format!("no whole answer within {timeout:.1?}"),
            })
        })
    }
}

/// A connection through a proxy, as far as its answer.
async fn tunnel(proxy: &str, at: SocketAddr) -> Result<(), NetError> {
    let fail = |e: std::io::Error| NetError::NotSent {
        why: format!("the proxy {proxy}: {e}"),
    };
    let mut stream = TcpStream::connect(proxy).await.map_err(fail)?;
    let head = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(fail)?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") && answer.len() < HEAD_LIMIT {
        if stream.read_buf(&mut answer).await.map_err(fail)? == 0 {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1));
    if status.is_some_and(|status| status.len() == 3 && status.starts_with('2')) {
        return Ok(());
    }
    let said: String = line.chars().take(80).collect();
    Err(NetError::NotSent {
        why: format!("{at}: the proxy {proxy} says {said:?}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests touch the world")]

    use axum::{Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(10);

    async fn server(app: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        at
    }

    /// A proxy that answers each connection so, and tells what it was sent first.
    async fn proxy(answer: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let count = stream.read(&mut head).await.unwrap();
                head.truncate(count);
                tell.send(String::from_utf8(head).unwrap()).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (at, told)
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_none() {
        let at = server(Router::new().route("/metrics", get(|| async { "x".repeat(2000) }))).await;
        let plain = Plain::new(None, 4).unwrap();
        let whole = plain.get(at, "/metrics", None, SECOND, 2000).await.unwrap();
        assert_eq!(whole.body.len(), 2000);
        let error = plain.get(at, "/metrics", None, SECOND, 1999).await.unwrap_err();
        assert!(matches!(error, NetError::Lost { .. }), "{error}");
        assert_eq!(plain.calls(), 2);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer() {
        let to = || async { axum::response::Redirect::temporary("http://127.0.0.1:1/metrics") };
        let at = server(Router::new().route("/", get(to))).await;
        let reply = Plain::new(None, 1).unwrap().get(at, "/", None, SECOND, 100).await;
        assert_eq!(reply.unwrap().status.as_u16(), 307);
    }

    #[tokio::test]
    async fn what_never_answers_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let plain = Plain::new(None, 1).unwrap();
        let short = Duration::from_millis(50);
        let error = plain.get(at, "/", None, short, 100).await.unwrap_err();
        assert!(matches!(error, NetError::Lost { .. }), "{error}");
        // Its place is free again.
        assert_eq!(plain.connect(at, SECOND).await, Ok(()));
    }

    #[tokio::test]
    async fn a_port_is_open_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let plain = Plain::new(None, 1).unwrap();
        assert_eq!(plain.connect(at, SECOND).await, Ok(()));
        drop(listener);
        let error = plain.connect(at, SECOND).await.unwrap_err();
        assert!(matches!(error, NetError::NotSent { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_all() {
        let there: SocketAddr = "10.0.0.7:9100".parse().unwrap();
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
        let (at, mut told) = proxy(ok).await;
        let plain = Plain::new(Some(&at), 1).unwrap();
        let reply = plain.get(there, "/metrics", None, SECOND, 100).await.unwrap();
        assert_eq!(reply.body, b"hi");
        assert!(
            told.recv()
                .await
                .unwrap()
                .starts_with("GET http://10.0.0.7:9100/metrics HTTP/1.1\r\n")
        );
        assert_eq!(plain.connect(there, SECOND).await, Ok(()));
        assert!(
            told.recv()
                .await
                .unwrap()
                .starts_with("CONNECT 10.0.0.7:9100 HTTP/1.1\r\n")
        );
    }

    #[tokio::test]
    async fn a_proxy_that_cannot_connect_says_so() {
        let (at, _told) = proxy("HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
        let plain = Plain::new(Some(&at), 1).unwrap();
        let there = "[2001:db8::7]:22".parse().unwrap();
        let error = plain.connect(there, SECOND).await.unwrap_err();
        assert!(error.to_string().contains("502"), "{error}");
    }

    #[test]
    fn a_proxy_is_an_http_address_without_a_password() {
        for bad in [
            "https://proxy:3128",
            "http://me:secret@proxy:3128",
            "socks5://proxy",
            "proxy",
        ] {
            let error = Plain::new(Some(bad), 1).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
