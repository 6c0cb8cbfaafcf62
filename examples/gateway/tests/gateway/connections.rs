//! Connections that stand still.

use crate::support::*;
use http_body_util::BodyExt;
use std::io::{Read, Write};
use std::net::TcpStream;
use tokio::task::spawn_blocking;

/// The file, with three seconds for whatever stands still.
fn hasty(address: std::net::SocketAddr) -> String {
    config(address, LIMIT)
        .replacen("listen =", "idle_seconds = 3\nlisten =", 1)
        .replace("[upstream.real]", "[upstream.real]\ntimeout_seconds = 3")
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_before_its_first_and_after_one() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&hasty(upstream.address)).await;
    for begins in ["", "POST /v1/chat/completions HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let address = gateway.running.address();
        let told = spawn_blocking(move || {
            let mut connection = TcpStream::connect(address).expect("connected");
            connection.write_all(begins.as_bytes()).expect("sent");
            let mut told = Vec::new();
            // It ends, or this test does not.
            connection.read_to_end(&mut told).expect("its end");
            told
        });
        let told = told.await.expect("no panic");
        let told = String::from_utf8(told).expect("text");
        assert_eq!(told.contains("200 OK"), begins.starts_with("GET"), "{begins:?}: {told}");
    }
    assert_eq!(gateway.settled("same").await, 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_let_go_of_and_pays_for_it() {
    let upstream = Upstream::start().await;
    let text = hasty(upstream.address).replace("timeout_seconds = 3", "timeout_seconds = 60");
    let gateway = Gateway::with(&text).await;
    let pipe = upstream.streams();
    // More than the buffers of two connections hold.
    for _ in 0..400 {
        pipe.send(&PIECE.repeat(1000));
    }
    let body = chat("same", r#","stream":true,"max_tokens":40"#);
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut connection = TcpStream::connect(gateway.running.address()).expect("connected");
    connection.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    eventually("the upstream is let go of", || !upstream.seen().is_empty() && !pipe.is_read()).await;
    assert!(gateway.settled("same").await > 40);
}

#[tokio::test]
async fn an_answer_that_stands_still_in_its_middle_breaks_and_is_paid_for() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&hasty(upstream.address)).await;
    let pipe = upstream.streams();
    pipe.send(PIECE);
    let response = gateway.stream("same").await;
    assert!(response.into_body().collect().await.is_err(), "the client learns of it");
    assert!(!pipe.is_read());
    assert_eq!(gateway.settled("same").await, 8 + 1);
}

#[tokio::test]
async fn a_request_of_which_no_more_comes_has_broken_off() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&hasty(upstream.address)).await;
    for (path, key) in [("/v1/chat/completions", KEY), ("/admin/operations", ADMIN)] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\ncontent-length: 1000\r\n\r\n{{");
        let address = gateway.running.address();
        let told = spawn_blocking(move || {
            let mut connection = TcpStream::connect(address).expect("connected");
            connection.write_all(head.as_bytes()).expect("sent");
            let mut told = Vec::new();
            // It ends, or this test does not.
            connection.read_to_end(&mut told).expect("its end");
            String::from_utf8(told).expect("text")
        });
        let told = told.await.expect("no panic");
        assert!(told.starts_with("HTTP/1.1 4"), "{path}: {told}");
    }
    assert_eq!((gateway.settled("same").await, upstream.seen().len()), (0, 0));
}
