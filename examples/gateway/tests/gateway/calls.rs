//! Calls that pass, in every API.

use crate::support::*;
use http::Request;
use http_body_util::Full;
use serde_json::json;

#[tokio::test]
async fn a_call_reaches_the_upstream_as_its_own_and_is_settled() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    upstream.answers(200, ANSWER);
    let answer = gateway.chat("real", r#","max_tokens":40,"temperature":1.0"#).await;
    assert_eq!((answer.status, &*answer.text), (200, ANSWER));
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), "6000");
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), "5952");
    let seen = &upstream.seen()[0];
    assert_eq!(seen.path, "/base/v1/chat/completions");
    let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
    assert_eq!(body["model"], "real-1");
    assert!(String::from_utf8_lossy(&seen.body).contains(r#""temperature":1.0"#));
    assert_eq!(seen.headers["content-length"], seen.body.len().to_string());
    assert_eq!(seen.headers["accept-encoding"], "identity");
    assert_eq!(gateway.settled("real").await, 16);
    let record = &gateway.records()[0];
    assert_eq!(
        (&record["project"], &record["deployment"], &record["model"]),
        (&json!("search"), &json!("real"), &json!("real-1"))
    );
    assert_eq!(
        (&record["input"], &record["output"], &record["caller"]["key"]),
        (&json!(11), &json!(5), &json!("laptop"))
    );
}

#[tokio::test]
async fn a_body_that_needs_no_change_is_not_touched() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    upstream.answers(200, ANSWER);
    gateway.post("/v1/chat/completions", KEY, r#"{ "model" : "same",  "messages":[]}"#).await;
    assert_eq!(&upstream.seen()[0].body[..], br#"{ "model" : "same",  "messages":[]}"#);
}

#[tokio::test]
async fn a_stream_passes_and_is_settled_by_the_usage_that_the_client_did_not_ask_for() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let pipe = upstream.streams();
    for piece in [PIECE, PIECE, USAGE, DONE] {
        pipe.send(piece);
    }
    drop(pipe);
    let answer = Answer::of(gateway.stream("same").await).await;
    assert_eq!(answer.text, [PIECE, PIECE, DONE].concat());
    let asked = String::from_utf8_lossy(&upstream.seen()[0].body).into_owned();
    assert!(asked.contains(r#""stream_options":{"include_usage":true}"#), "{asked}");
    assert_eq!(gateway.settled("same").await, 16);
}

#[tokio::test]
async fn every_api_of_the_sample_is_metered() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let words = r#""messages":[{"role":"user","content":"word"}]"#;
    let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"word"}]}],"generationConfig":{"maxOutputTokens":6}}"#;
    let mut expected = 0;
    for (path, body, used) in [
        ("/v1/chat/completions", format!(r#"{{"model":"sample",{words}}}"#), 8 + 24),
        ("/v1/chat/completions", format!(r#"{{"model":"sample","stream":true,"max_tokens":5,{words}}}"#), 8 + 5),
        ("/v1/completions", r#"{"model":"sample","prompt":"word","max_tokens":7}"#.to_owned(), 1 + 7),
        ("/v1/completions", r#"{"model":"sample","prompt":"word","stream":true,"max_tokens":7}"#.to_owned(), 1 + 7),
        ("/v1/embeddings", r#"{"model":"sample","input":["word","word"]}"#.to_owned(), 2),
        ("/v1/responses", r#"{"model":"sample","input":"word","max_output_tokens":16}"#.to_owned(), 1 + 3 + 16),
        ("/v1/responses", r#"{"model":"sample","input":"word","stream":true}"#.to_owned(), 1 + 3 + 24),
        ("/v1/messages", format!(r#"{{"model":"sample","max_tokens":9,{words}}}"#), 8 + 9),
        ("/v1/messages", format!(r#"{{"model":"sample","max_tokens":9,"stream":true,{words}}}"#), 8 + 9),
        ("/v1beta/models/sample:generateContent", gemini.to_owned(), 8 + 6),
        ("/v1beta/models/sample:streamGenerateContent", gemini.to_owned(), 8 + 6),
        ("/v1beta/models/sample:streamGenerateContent?alt=sse", gemini.to_owned(), 8 + 6),
        ("/openai/deployments/sample/chat/completions?api-version=1", format!("{{{words}}}"), 8 + 24),
    ] {
        let answer = gateway.post(path, KEY, &body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
        let before = expected;
        expected += used;
        let settled = gateway.settled("sample").await;
        assert_eq!(settled - before, used, "{path} {body}: {}", answer.text);
    }
    let operations: Vec<_> = gateway.records().iter().map(|record| record["operation"].clone()).collect();
    assert_eq!(operations[4], "embeddings");
    assert!(gateway.records().iter().all(|record| record["estimated"] == false), "all of it was reported");
}

#[tokio::test]
async fn models_are_listed_for_who_has_a_key() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let models = gateway.get("/v1/models", KEY).await.json();
    let ids: Vec<_> = models["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["real", "same", "sample"]);
    assert_eq!(gateway.get("/v1/models", "no key").await.status, 401);
    assert_eq!(gateway.used(), []);
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_words() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let answer = gateway.chat("nothing", "").await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"]["message"].as_str().expect("text").contains("no deployment \"nothing\""));
    assert_eq!(gateway.post("/v1/elsewhere", KEY, "{}").await.status, 404);
    let looked_at = gateway.get("/v1/chat/completions", KEY).await;
    assert_eq!((looked_at.status, looked_at.header("allow")), (405, "POST"));
    assert!(looked_at.text.contains("Send the request by POST"), "{}", looked_at.text);
    assert_eq!(gateway.used(), []);
    assert_eq!(gateway.get("/healthz", "").await.text, "ok\n");
    let page = gateway.get("/status", "").await;
    assert!(
        page.text.starts_with("<!doctype html>")
            && page.header("content-security-policy").contains("default-src 'none'")
    );
    assert_eq!(upstream.seen().len(), 0);
}

/// A lenient reader takes these, and another one could find another model in them than was metered.
#[tokio::test]
async fn a_body_that_only_lenient_readers_take_reaches_nobody_and_costs_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let bodies: [&[u8]; 4] = [
        b"\xef\xbb\xbf{\"model\":\"same\",\"messages\":[]}",
        b"{\"model\":\"same\",\"messages\":[],\"\\ud800\":1}",
        b"{\"model\":\"same\",\"messages\":[],\"n\":01}",
        b"{\"model\":\"same\",\"messages\":[],\"x\":\"\xff\"}",
    ];
    for body in bodies {
        let request = Request::post("/openai/deployments/real/chat/completions").header("api-key", KEY);
        let request = request.body(Full::from(body)).expect("a request");
        let status = Answer::of(gateway.send(request).await).await.status;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(body));
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(gateway.settled("real").await, 0);
}

#[tokio::test]
async fn a_model_that_is_named_twice_is_nobodys() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    for body in [
        r#"{"model":"same","messages":[],"model":"dear"}"#,
        r#"{"model":"dear","messages":[],"model":"same"}"#,
        r#"{"model":"same","messages":[],"\u006dodel":null}"#,
        r#"{"model":{"model":"same"},"messages":[],"model":"same"}"#,
        r#"{"model":"same","messages":[],"Model":"dear"}"#,
    ] {
        let answer = gateway.post("/v1/chat/completions", KEY, body).await;
        assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (400, Some("invalid_request_error")));
        assert!(answer.text.contains("more than once"), "{}", answer.text);
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(gateway.settled("same").await, 0);
}
