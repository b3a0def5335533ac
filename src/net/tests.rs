#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::{
    collections::VecDeque,
    sync::{Mutex, atomic::AtomicUsize},
};

use axum::{Router, body::Body, extract::State, response::Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const TOKEN: &str = "s3cret-t0ken";

/// What a server has been asked, and what it answers in turn; the last answer for ever.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Response>>,
    asked: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

async fn answer(State(script): State<Arc<Script>>, request: http::Request<Body>) -> Response {
    script.asked.fetch_add(1, Ordering::SeqCst);
    let auth = request
        .headers()
        .get("authorization")
        .map(|v| v.to_str().unwrap().to_owned());
    script.seen.lock().unwrap().push(format!(
        "{} {} {}",
        request.method(),
        request.uri(),
        auth.unwrap_or_default()
    ));
    let mut answers = script.answers.lock().unwrap();
    answers.pop_front().unwrap_or_else(|| reply(200, &[]))
}

async fn serve(answers: Vec<Response>) -> (String, Arc<Script>) {
    let script = Arc::new(Script {
        answers: Mutex::new(answers.into()),
        ..Script::default()
    });
    let app = Router::new().fallback(answer).with_state(Arc::clone(&script));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (base, script)
}

fn reply(status: u16, headers: &[(&str, &str)]) -> Response {
    let mut builder = http::Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(r#"{"ok":true}"#)).unwrap()
}

fn config(base: &str) -> ClientConfig {
    ClientConfig {
        call_timeout: Duration::from_secs(2),
        total_timeout: Duration::from_secs(6),
        retries: 2,
        ..ClientConfig::new(base, Auth::Bearer(SecretString::from(TOKEN)))
    }
}

fn client(base: &str) -> Client {
    Client::new(config(base)).unwrap()
}

fn post() -> Request {
    Request::new(Method::POST, "/things").json(serde_json::json!({"user_data": TOKEN}))
}

/// Accepts connections, reads what comes, and answers with these bytes before it hangs up.
async fn raw(answer: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer).await;
        }
    });
    (base, count)
}

#[tokio::test]
async fn a_server_error_is_tried_again_only_for_what_is_idempotent() {
    let (base, script) = serve(vec![reply(503, &[]), reply(200, &[])]).await;
    let answer = client(&base).send(Request::get("/things")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), script.asked.load(Ordering::SeqCst)),
        (200, 2)
    );

    let (base, script) = serve(vec![reply(503, &[]), reply(200, &[])]).await;
    let answer = client(&base).send(post()).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), script.asked.load(Ordering::SeqCst)),
        (503, 1)
    );
}

#[tokio::test]
async fn too_many_requests_is_tried_again_for_all_after_the_time_asked_for() {
    let (base, script) = serve(vec![reply(429, &[("retry-after", "1")]), reply(201, &[])]).await;
    let begun = Instant::now();
    let answer = client(&base).send(post()).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), script.asked.load(Ordering::SeqCst)),
        (201, 2)
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_waited_for() {
    let (base, script) = serve(vec![reply(429, &[("retry-after", "60")])]).await;
    let begun = Instant::now();
    let answer = client(&base).send(Request::get("/things")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), script.asked.load(Ordering::SeqCst)),
        (429, 1)
    );
    assert_eq!(retry_after(&answer), Some(Duration::from_secs(60)));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn the_last_answer_is_returned_when_the_tries_are_used_up() {
    let (base, script) = serve(vec![
        reply(502, &[]),
        reply(502, &[]),
        reply(500, &[]),
        reply(200, &[]),
    ])
    .await;
    let answer = client(&base).send(Request::get("/things")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), script.asked.load(Ordering::SeqCst)),
        (500, 3)
    );
    assert_eq!(client(&base).calls(), 0);
}

#[tokio::test]
async fn a_lost_answer_to_a_post_is_lost_and_not_sent_again() {
    let (base, count) = raw(b"").await;
    let error = client(&base).send(post()).await.unwrap_err();
    assert!(matches!(error, NetError::Lost { .. }), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1);

    let error = client(&base).send(Request::get("/things")).await.unwrap_err();
    assert!(matches!(error, NetError::Lost { .. }), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn half_an_answer_is_a_lost_one() {
    let (base, count) = raw(b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"ser").await;
    let error = client(&base).send(post()).await.unwrap_err();
    assert!(matches!(error, NetError::Lost { .. }), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_answer_in_time_is_a_lost_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut config = config(&base);
    config.call_timeout = Duration::from_millis(100);
    let error = Client::new(config).unwrap().send(post()).await.unwrap_err();
    assert!(matches!(error, NetError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_certainly_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&base).send(post()).await.unwrap_err();
    assert!(matches!(error, NetError::NotSent { .. }), "{error}");
}

#[tokio::test]
async fn the_token_is_sent_and_appears_nowhere_else() {
    let (base, script) = serve(vec![]).await;
    let client = client(&base);
    let request = post().query("label_selector", "runfleet-stack==prod");
    let before = format!("{client:?} {request:?} {:?}", config(&base));
    let answer = client.send(request).await.unwrap();
    let said = format!("{before} {answer:?} {:?}", raw_error().await);
    assert!(!said.contains(TOKEN), "{said}");
    assert_eq!(
        script.seen.lock().unwrap()[0],
        format!("POST /v1/things?label_selector=runfleet-stack%3D%3Dprod Bearer {TOKEN}")
    );
}

async fn raw_error() -> NetError {
    let (base, _) = raw(b"nonsense\r\n\r\n").await;
    client(&base).send(post()).await.unwrap_err()
}

#[tokio::test]
async fn the_servers_clock_is_read() {
    let (base, _) = serve(vec![reply(200, &[("date", "Sun, 06 Nov 1994 08:49:37 GMT")])]).await;
    let answer = client(&base).send(Request::get("/")).await.unwrap();
    assert_eq!(answer.date, Some("1994-11-06T08:49:37Z".parse().unwrap()));
}

#[tokio::test]
async fn what_the_server_says_is_left_of_the_budget_is_kept_to() {
    let (base, script) = serve(vec![reply(200, &[("ratelimit-remaining", "0")])]).await;
    let mut config = config(&base);
    config.requests_per_hour = Some(3600);
    config.total_timeout = Duration::from_millis(500);
    let client = Client::new(config).unwrap();
    client.send(Request::get("/things")).await.unwrap();
    let error = client.send(Request::get("/things")).await.unwrap_err();
    assert!(matches!(error, NetError::NotSent { .. }), "{error}");
    assert_eq!(script.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_is_followed_within_the_origin_only() {
    let (base, script) = serve(vec![reply(301, &[("location", "/v1/renamed")]), reply(200, &[])]).await;
    assert_eq!(
        client(&base).send(Request::get("/things")).await.unwrap().status,
        200
    );
    assert!(script.seen.lock().unwrap()[1].starts_with("GET /v1/renamed Bearer"));

    let (other, elsewhere) = serve(vec![]).await;
    let (base, _) = serve(vec![reply(302, &[("location", &other)])]).await;
    assert_eq!(
        client(&base).send(Request::get("/things")).await.unwrap().status,
        302
    );
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_more_than_the_concurrency_is_under_way() {
    let (base, _) = serve(vec![]).await;
    let mut config = config(&base);
    config.concurrency = 1;
    config.total_timeout = Duration::from_millis(50);
    let client = Client::new(config).unwrap();
    let held = client.permit(Priority::Normal).await.unwrap();
    assert!(matches!(
        client.send(Request::get("/")).await,
        Err(NetError::NotSent { .. })
    ));
    drop(held);
    client.send(Request::get("/")).await.unwrap();
}

#[test]
fn a_secret_goes_in_the_clear_to_this_host_only() {
    let new = |base: &str| Client::new(config(base)).map(|_| ());
    for fine in [
        "http://127.0.0.1:1",
        "http://localhost:1/v1",
        "http://[::1]:1",
        "http://127.9.9.9",
    ] {
        assert_eq!(new(fine), Ok(()), "{fine}");
    }
    for bad in [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0",
        "http://10.0.0.1",
    ] {
        assert!(matches!(new(bad), Err(NetError::Insecure { .. })), "{bad}");
    }
    for bad in [
        "ftp://example.com",
        "example.com",
        "https://u:p@example.com",
        "https://example.com?x",
    ] {
        assert!(matches!(new(bad), Err(NetError::BadUrl { .. })), "{bad}");
    }
    assert!(!format!("{:?}", new("https://user:hunter2@example.com")).contains("hunter2"));
}

#[tokio::test]
async fn a_path_cannot_leave_the_origin() {
    let (base, script) = serve(vec![]).await;
    let bare = base.trim_end_matches("/v1");
    let error = client(bare)
        .send(Request::get("@example.com/"))
        .await
        .unwrap_err();
    assert!(matches!(error, NetError::BadUrl { .. }), "{error}");
    assert_eq!(script.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_ca_file_without_a_certificate_is_an_error() {
    let mut config = config("https://example.com");
    config.ca_pem = Some(b"not a certificate".to_vec());
    assert!(matches!(Client::new(config), Err(NetError::Tls { .. })));
}

#[cfg(feature = "sandbox")]
mod tls {
    use super::*;

    async fn serve_tls() -> (String, Vec<u8>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let pem = signed.cert.pem();
        let config = axum_server::tls_rustls::RustlsConfig::from_der(
            vec![signed.cert.der().to_vec()],
            signed.signing_key.serialize_der(),
        )
        .await
        .unwrap();
        let handle = axum_server::Handle::<std::net::SocketAddr>::new();
        let server = axum_server::bind_rustls("127.0.0.1:0".parse().unwrap(), config).handle(handle.clone());
        let app = Router::new().fallback(|| async { "fine" });
        tokio::spawn(async move { server.serve(app.into_make_service()).await });
        let port = handle.listening().await.unwrap().port();
        (format!("https://localhost:{port}"), pem.into_bytes())
    }

    #[tokio::test]
    async fn a_ca_file_is_trusted_besides_the_systems() {
        let (base, pem) = serve_tls().await;
        let mut trusting = config(&base);
        trusting.ca_pem = Some(pem);
        let answer = Client::new(trusting)
            .unwrap()
            .send(Request::get("/"))
            .await
            .unwrap();
        assert_eq!(answer.body, b"fine");

        let error = client(&base).send(post()).await.unwrap_err();
        assert!(matches!(error, NetError::Tls { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rest_holds_the_next_call_back_and_the_longest_counts() {
    let client = Client::without_secret(ClientConfig::new("http://127.0.0.1:1", Auth::None)).unwrap();
    client.rest(Duration::from_secs(12));
    client.rest(Duration::from_secs(3));
    let begun = Instant::now();
    client.permit(Priority::Normal).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(12));
    client.permit(Priority::Delete).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(12), "it is over");
    client.rest(Duration::from_secs(31));
    let error = client.permit(Priority::Delete).await.unwrap_err();
    assert!(
        matches!(error, NetError::NotSent { .. }),
        "it would end after the call may"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(12), "and is not waited for");
}
