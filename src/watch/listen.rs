//! `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.
//!
//! - Without a secret it listens on this machine only, and answers everybody in full.
//! - With one, `/metrics` wants it as a bearer token. The other two answer without it, since a kubelet's probe has none,
//!   and then say one word: who leads is told only with it.
//! - At most `CONNECTIONS` at a time, each of one request, and each over within `LONGEST`.
//!
//! hyper by itself, since three answers need no router: it is here already, beneath the client.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: a listener answers while the loop rests or ticks"
)]

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

use super::board::Board;

/// Connections at a time: a scraper or two, some probes, and a person.
const CONNECTIONS: usize = 32;
/// How long a connection may take altogether.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(5);
/// The most of a request's head that is read.
const HEAD_BYTES: usize = 16 * 1024;
/// After an accept that failed (no descriptors left) it is not tried again at once.
const BREATH: Duration = Duration::from_millis(200);

/// The Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others reach it, and anybody could read it.
    #[error("{address} can be reached by others, and there is no secret")]
    Open {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The system does not let us.
    #[error("listening on {address}")]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A listener; gone when dropped.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Where it listens, the port included that the system chose for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers there from now on, by what the board says.
///
/// # Errors
/// When the address is not this machine's own and there is no secret, or it cannot be listened on.
pub async fn listen(
    address: SocketAddr,
    secret: Option<SecretString>,
    board: Arc<Board>,
) -> Result<Listener, ListenError> {
    if secret.is_none() && !address.ip().is_loopback() {
        return Err(ListenError::Open { address });
    }
    let fail = |source| ListenError::Bind { address, source };
    let socket = TcpListener::bind(address).await.map_err(fail)?;
    let address = socket.local_addr().map_err(fail)?;
    let teller = Arc::new(Teller { board, secret });
    let task = tokio::spawn(accept(socket, teller));
    Ok(Listener { address, task })
}

async fn accept(socket: TcpListener, teller: Arc<Teller>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, _)) => {
                let teller = Arc::clone(&teller);
                tokio::spawn(async move {
                    // One that takes longer, or breaks, is the asker's matter.
                    let _ = tokio::time::timeout(LONGEST, serve(stream, teller)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, teller: Arc<Teller>) -> hyper::Result<()> {
    let answering = service_fn(move |request: Request<Incoming>| {
        let reply = teller.answer(&request);
        async move { Ok::<_, Infallible>(reply) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering)
        .await
}

struct Teller {
    board: Arc<Board>,
    secret: Option<SecretString>,
}

impl Teller {
    fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut reply = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
            reply
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return reply;
        }
        let trusted = self.trusts(request.headers().get(AUTHORIZATION));
        match request.uri().path() {
            "/healthz" => self.probe(self.board.alive().map(|()| "lives".to_owned()), trusted),
            "/readyz" => self.probe(self.board.ready(), trusted),
            "/metrics" if !trusted => {
                let mut reply = plain(StatusCode::UNAUTHORIZED, "a bearer token is needed\n".to_owned());
                let ask = HeaderValue::from_static("Bearer realm=\"runfleet\"");
                reply.headers_mut().insert(WWW_AUTHENTICATE, ask);
                reply
            }
            "/metrics" => match self.board.exposition() {
                Ok(text) => {
                    let mut reply = plain(StatusCode::OK, text);
                    let kind = HeaderValue::from_static(TEXT_FORMAT);
                    reply.headers_mut().insert(CONTENT_TYPE, kind);
                    reply
                }
                Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            _ => plain(StatusCode::NOT_FOUND, "/healthz, /readyz, /metrics\n".to_owned()),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as the others do")]
    fn probe(&self, said: Result<String, String>, trusted: bool) -> Response<String> {
        let (status, word) = match said {
            Ok(_) => (StatusCode::OK, "ok"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ok"),
        };
        let text = match said {
            Ok(text) | Err(text) if trusted => format!("{word}: {text}\n"),
            _ => format!("{word}\n"),
        };
        plain(status, text)
    }

    /// Compared by digest and to the end, so that the time it takes tells nothing of the secret.
    fn trusts(&self, sent: Option<&HeaderValue>) -> bool {
        let Some(secret) = &self.secret else { return true };
        let sent = sent.and_then(|value| value.as_bytes().split_at_checked("Bearer ".len()));
        let Some((scheme, token)) = sent else { return false };
        let wanted = Sha256::digest(secret.expose_secret().as_bytes());
        let differs = wanted
            .iter()
            .zip(Sha256::digest(token))
            .fold(0, |differs, (one, other)| differs | (one ^ other));
        scheme.eq_ignore_ascii_case(b"Bearer ") && differs == 0
    }
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut reply = Response::new(text);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tick::LastTick,
        watch::{board::Role, schedule::Outcome},
    };

    fn board() -> Arc<Board> {
        let board = Board::new("prod", Duration::from_secs(60), LastTick::default());
        board.is(Role::Leads);
        Arc::new(board)
    }

    async fn get(at: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
        let http = reqwest::Client::builder()
            .use_rustls_tls()
            .no_proxy()
            .build()
            .unwrap();
        let mut request = http.get(format!("http://{at}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn without_a_secret_it_answers_this_machine_in_full_and_no_other() {
        let board = board();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let refused = listen(everywhere, None, Arc::clone(&board)).await.unwrap_err();
        assert!(matches!(refused, ListenError::Open { .. }), "{refused}");
        let here = listen(loopback(), None, Arc::clone(&board)).await.unwrap();
        let at = here.address();
        assert_eq!(get(at, "/healthz", None).await, (200, "ok: lives\n".into()));
        let first = "not ok: the first tick is under way\n";
        assert_eq!(get(at, "/readyz", None).await, (503, first.into()));
        board.ticked(Outcome::Done, Duration::ZERO, 0, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(get(at, "/readyz", None).await, (200, "ok: leads\n".into()));
        let (status, text) = get(at, "/metrics", None).await;
        assert_eq!(status, 200);
        assert!(
            text.contains("runfleet_watch_is_leader{stack=\"prod\"} 1.0\n"),
            "{text}"
        );
        assert_eq!(get(at, "/", None).await.0, 404);
        drop(here);
        let http = reqwest::Client::builder()
            .use_rustls_tls()
            .no_proxy()
            .build()
            .unwrap();
        let gone = async {
            while http.get(format!("http://{at}/healthz")).send().await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    }

    #[tokio::test]
    async fn with_a_secret_metrics_want_it_and_probes_say_one_word_without_it() {
        let board = board();
        board.is(Role::StandsBy("watch of ops@node-1".into()));
        let secret = SecretString::from("s3cr3t".to_owned());
        let here = listen(loopback(), Some(secret), board).await.unwrap();
        let at = here.address();
        for wrong in [None, Some("s3cr3"), Some("s3cr3tt"), Some("")] {
            assert_eq!(get(at, "/metrics", wrong).await.0, 401, "{wrong:?}");
            assert_eq!(get(at, "/readyz", wrong).await, (200, "ok\n".into()));
        }
        let (status, text) = get(at, "/metrics", Some("s3cr3t")).await;
        assert_eq!(status, 200);
        assert!(!text.contains("s3cr3t"));
        assert_eq!(
            get(at, "/readyz", Some("s3cr3t")).await,
            (200, "ok: stands by: watch of ops@node-1 leads\n".into())
        );
    }

    #[tokio::test]
    async fn more_connections_than_it_takes_wait_and_idle_ones_are_closed() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let here = listen(loopback(), None, board()).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(here.address()).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
            idle.push(stream);
        }
        // Answered once the idle ones have been closed for saying nothing more.
        assert_eq!(get(here.address(), "/healthz", None).await.0, 200);
        let mut rest = Vec::new();
        for mut stream in idle {
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
}
