//! Calls that end badly.

use crate::support::*;
use http_body_util::BodyExt;
use serde_json::json;
use std::io::{Read, Write};

#[tokio::test]
async fn a_client_that_hangs_up_stops_the_upstream_and_pays_for_what_has_passed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let pipe = upstream.streams();
    pipe.send(PIECE);
    pipe.send(PIECE);
    let mut response = gateway.stream("same").await;
    let mut read = Vec::new();
    while read.len() < 2 * PIECE.len() {
        let frame = response.body_mut().frame().await.expect("more").expect("data");
        read.extend_from_slice(&frame.into_data().expect("data"));
    }
    assert!(gateway.used().iter().any(|(_, _, held)| *held > 0) && pipe.is_read());
    drop(response);
    eventually("the upstream is let go of", || !pipe.is_read()).await;
    // Estimated input, and two tokens that were seen.
    assert_eq!(gateway.settled("same").await, 8 + 2);
    let record = &gateway.records()[0];
    assert_eq!((&record["output"], &record["estimated"]), (&json!(2), &json!(true)));
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_pays_the_estimate() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    // An upstream that takes the connection and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    gateway.write(&config(address, LIMIT));
    let taken_up = || async { gateway.get("/admin/configuration", LOOK).await.json()["taken_up"] == 2 };
    while !taken_up().await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let call = tokio::spawn({
        let (client, address) = (gateway.client.clone(), gateway.running.address());
        let mut request = post("/v1/chat/completions", KEY, &chat("same", r#","max_tokens":40"#));
        *request.uri_mut() = format!("http://{address}/v1/chat/completions").parse().expect("an address");
        async move { client.request(request).await.map(drop) }
    });
    let _connection = silent.accept().await.expect("a connection");
    eventually("the call is held", || gateway.used().iter().any(|(_, _, held)| *held == 48)).await;
    call.abort();
    assert_eq!(gateway.settled("same").await, 48);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_an_error_to_the_client_and_paid_for_what_has_passed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let pipe = upstream.streams();
    pipe.send(PIECE);
    let mut response = gateway.stream("same").await;
    response.body_mut().frame().await.expect("more").expect("data");
    pipe.break_off();
    let mut error = None;
    while let Some(frame) = response.body_mut().frame().await {
        error = frame.err();
    }
    assert!(error.is_some(), "the client learns of it");
    assert_eq!(gateway.settled("same").await, 8 + 1);
}

#[tokio::test]
async fn an_error_of_the_upstream_is_passed_on_and_costs_no_tokens() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    for status in [400, 429, 503] {
        let response = http::Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("retry-after", "7")
            .header("x-ratelimit-remaining-requests", "12345");
        upstream.push(response.body(r#"{"error":{"message":"not now"}}"#.into()).expect("a response"));
        let answer = gateway.chat("same", "").await;
        assert_eq!((answer.status, &*answer.text), (status, r#"{"error":{"message":"not now"}}"#));
        assert_eq!((answer.header("retry-after"), answer.header("x-ratelimit-remaining-requests")), ("7", ""));
    }
    assert_eq!(gateway.settled("same").await, 0);
    assert_eq!(gateway.records().len(), 3);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_costs_nothing() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let keyed =
        "[keyed.calls]\nkey = [{ caller = 'key' }]\nlimit = { calls = { calls = 100, renewal_seconds = 60 } }\n";
    let gateway = Gateway::with(&config(free, &format!("{LIMIT}\n{keyed}"))).await;
    let answer = gateway.chat("same", "").await;
    assert_eq!(answer.status, 502);
    let message = answer.json()["error"]["message"].clone();
    assert_eq!(message, "The gateway cannot reach the upstream.");
    assert_eq!(gateway.settled("same").await, 0);
    assert!(gateway.used().iter().all(|(_, settled, held)| (*settled, *held) == (0, 0)), "{:?}", gateway.used());
    assert_eq!(gateway.records()[0]["ended"], "cancelled");
}

#[tokio::test]
async fn an_upstream_that_takes_too_long_or_breaks_off_costs_what_the_file_says() {
    for (rule, charged) in [("", 48), ("estimate", 48), ("input", 8), ("nothing", 0)] {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = silent.local_addr().expect("an address");
        let rule = if rule.is_empty() { String::new() } else { format!("unanswered = {rule:?}\n") };
        let text = config(address, LIMIT).replace("[estimate]", &format!("[estimate]\n{rule}"));
        // It answers after no time at all, that is, never in time.
        let gateway = Gateway::with(&text.replace("[upstream.real]", "[upstream.real]\ntimeout_seconds = 0")).await;
        assert_eq!(gateway.chat("same", r#","max_tokens":40"#).await.status, 504);
        assert_eq!(gateway.settled("same").await, charged, "{rule}");

        let gateway = Gateway::with(&text).await;
        let closing = async {
            // What was queued for the first gateway is closed as well.
            while let Ok((connection, _)) = silent.accept().await {
                drop(connection);
            }
        };
        let answer = tokio::select! {
            answer = gateway.chat("same", r#","max_tokens":40"#) => answer,
            () = closing => unreachable!("it goes on accepting"),
        };
        assert_eq!((answer.status, answer.header("x-should-retry")), (502, ""));
        assert_eq!(gateway.settled("same").await, charged, "{rule}");
        let record = gateway.records().pop().expect("a record");
        assert_eq!((&record["response_code"], &record["ended"]), (&json!(502), &json!("settled")));
    }
}

#[tokio::test]
async fn an_upstream_that_changes_to_another_protocol_is_an_error_and_costs_the_estimate() {
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gateway = Gateway::with(&config(upstream.local_addr().expect("an address"), LIMIT)).await;
    let switches = tokio::task::spawn_blocking(move || {
        let (mut connection, _) = upstream.accept().expect("a connection");
        let mut read = [0; 4096];
        assert!(connection.read(&mut read).expect("a request") > 0);
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        connection.write_all(answer).expect("sent");
    });
    assert_eq!(gateway.chat("same", r#","max_tokens":40"#).await.status, 502);
    switches.await.expect("no panic");
    assert_eq!(gateway.settled("same").await, 48);
}
