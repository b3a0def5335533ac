//! moto, an AWS to test against, for as long as a test binary runs: one process for all of its tests.
//!
//! Tests keep apart by bucket ([`bucket`]), or by account: moto holds a world per `x-moto-account-id`, which the layer in
//! `aws/` sends.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::print_stdout, reason = "a skip is told")]

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The server; it stops when its standard input ends, with this process at the latest.
struct Moto {
    _child: Child,
    endpoint: String,
}

fn moto() -> Option<&'static Moto> {
    static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
    MOTO.get_or_init(|| {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/moto.sh"))
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        loop {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Moto {
                    _child: child,
                    endpoint: format!("http://127.0.0.1:{port}"),
                });
            }
            match child.try_wait().unwrap() {
                None => std::thread::sleep(Duration::from_millis(50)),
                Some(status) if status.code() == Some(77) => {
                    println!("skipped: moto, an AWS to test against, cannot be had here");
                    return None;
                }
                Some(status) => panic!("moto.sh ended with {status}"),
            }
        }
    })
    .as_ref()
}

/// The server's address. None where there is no moto.
pub async fn endpoint() -> Option<String> {
    let moto = tokio::task::spawn_blocking(moto).await.unwrap()?;
    Some(moto.endpoint.clone())
}

/// A new bucket: the server's address and the bucket's name. None where there is no moto.
pub async fn bucket() -> Option<(String, String)> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let moto = tokio::task::spawn_blocking(moto).await.unwrap()?;
    let name = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = http
        .put(format!("{}/{name}", moto.endpoint))
        .send()
        .await
        .unwrap();
    assert!(made.status().is_success(), "{}", made.status());
    Some((moto.endpoint.clone(), name))
}
