//! Who may call, and who may look.

use crate::support::*;
use http::Request;
use http_body_util::Full;
use serde_json::json;

#[tokio::test]
async fn a_key_that_is_missing_or_wrong_is_401_and_moves_no_counter() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let mut answers = Vec::new();
    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Basic a2V5")],
        vec![("authorization", "Bearer")],
        vec![("authorization", "")],
        vec![("api-key", "")],
        vec![("x-api-key", "wrong")],
        vec![("api-key", "wrong"), ("authorization", "Bearer key-of-search")],
        vec![("authorization", "Bearer key-of-admin")],
    ] {
        for path in ["/v1/chat/completions", "/mcp/search/tides", "/v1/elsewhere"] {
            let mut request = Request::post(path);
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::from(chat("same", ""))).expect("a request");
            let answer = Answer::of(gateway.send(request).await).await;
            assert_eq!(answer.status, 401, "{path} {headers:?}");
            answers.push(answer.text);
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "a missing key and a wrong one are answered alike: {answers:?}");
    assert_eq!((gateway.used(), upstream.seen().len(), gateway.records().len()), (vec![], 0, 0));
    assert_eq!(gateway.running.gate().figures().requests(), 0);
}

#[tokio::test]
async fn a_key_is_taken_as_each_client_brings_it_and_goes_no_further() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    for (name, value) in
        [("authorization", "bearer  key-of-search"), ("api-key", KEY), ("x-api-key", KEY), ("x-goog-api-key", KEY)]
    {
        upstream.answers(200, ANSWER);
        let request = Request::post("/v1/chat/completions").header(name, value);
        let answer = gateway.send(request.body(Full::from(chat("same", ""))).expect("a request")).await;
        assert_eq!(answer.status(), 200, "{name}");
    }
    for seen in upstream.seen() {
        // The operator's key comes out of the environment.
        assert_eq!(seen.headers["authorization"], format!("Bearer {}", env!("CARGO_PKG_NAME")));
        let text = format!("{:?}", seen.headers);
        assert!(!text.contains(KEY) && !seen.headers.contains_key("api-key"), "{text}");
    }
}

#[tokio::test]
async fn projects_have_counters_of_their_own() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let words = chat("sample", r#","max_tokens":4"#);
    assert_eq!(gateway.post("/v1/chat/completions", OTHER, &words).await.status, 200);
    assert_eq!(gateway.settled("sample").await, 0, "the other project has no limit");
    assert_eq!(gateway.records()[0]["project"], "support");
}

#[tokio::test]
async fn administration_without_its_key_gives_nothing_away() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    for path in
        ["/admin", "/admin/", "/admin/status", "/admin/usage", "/admin/operations", "/admin/nothing", "/metrics"]
    {
        for key in ["", "wrong", KEY, "key-of-admi"] {
            let answers = [gateway.get(path, key).await, gateway.post(path, key, "{}").await];
            for answer in answers.iter().filter(|answer| answer.status != 405 || path != "/metrics") {
                assert_eq!((answer.status, &*answer.text), (401, ""), "{path} {key}");
            }
        }
    }
    let block =
        json!({ "set_limit": { "project": "search", "deployment": "same", "limit": { "tokens_per_minute": 1 } } });
    let answer = gateway.post("/admin/operations", LOOK, &block.to_string()).await;
    assert_eq!(answer.status, 403);
    assert_eq!(gateway.get("/admin/status", LOOK).await.status, 200);
    assert_eq!(gateway.get("/metrics", LOOK).await.status, 200);
    assert_eq!(gateway.get("/admin/nothing", LOOK).await.status, 404);
}
