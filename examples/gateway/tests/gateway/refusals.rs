//! Calls that are refused.

use crate::support::*;
use serde_json::json;

#[tokio::test]
async fn a_rate_is_429_with_the_wait_and_the_limit() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    let pipe = upstream.streams();
    let open =
        gateway.send(post("/v1/chat/completions", KEY, &chat("same", r#","stream":true,"max_tokens":5900"#))).await;
    let answer = gateway.chat("same", r#","max_tokens":1000"#).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    // 92 are left of 6,000; 1,008 are asked for, at a hundred a second.
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(answer.header("x-tokenweir-limit"), r#"project "search" on "same": tokens per minute"#);
    let error = answer.json()["error"].clone();
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("tokens")));
    drop((pipe, open));
    let refusals = gateway.get("/admin/refusals", LOOK).await.json();
    assert_eq!(refusals["refusals"][0]["outcome"], "refused-rate");
    assert_eq!(refusals["refusals"][0]["retry_after"], wait);
}

#[tokio::test]
async fn a_quota_is_403() {
    let upstream = Upstream::start().await;
    let quota = "[project.search.limits.sample]\ntoken_quota = 40\ntoken_quota_period = 'Yearly'\n";
    let gateway = Gateway::with(&config(upstream.address, quota)).await;
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 200);
    let answer = gateway.chat("sample", r#","max_tokens":24"#).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"]["code"], "insufficient_quota");
    let answer = gateway.post("/v1/messages", KEY, &chat("sample", r#","max_tokens":24"#)).await;
    assert_eq!((answer.status, &answer.json()["type"]), (403, &json!("error")));
}

#[tokio::test]
async fn a_stream_is_cut_where_its_quota_ends() {
    let upstream = Upstream::start().await;
    let quota = "[project.search.limits.same]\ntoken_quota = 24\ntoken_quota_period = 'Yearly'\n";
    let gateway = Gateway::with(&config(upstream.address, quota)).await;
    let pipe = upstream.streams();
    for _ in 0..100 {
        pipe.send(PIECE);
    }
    let request = post("/v1/chat/completions", KEY, &chat("same", r#","stream":true,"max_tokens":4"#));
    let answer = Answer::of(gateway.send(request).await).await;
    let last = answer.text.trim_end().rsplit("\n\n").next().expect("an event");
    assert!(last.contains("is spent") && last.starts_with("data: {\"error\""), "{last}");
    eventually("the upstream is let go of", || !pipe.is_read()).await;
}

#[tokio::test]
async fn callers_are_told_apart_by_key_and_by_header() {
    let upstream = Upstream::start().await;
    let limit = "limit = { calls = { calls = 1, renewal_seconds = 60 } }";
    let more = format!("[caller_headers]\nuser = 'x-user'\n[keyed.users]\nkey = [{{ caller = 'user' }}]\n{limit}\n");
    let gateway = Gateway::with(&config(upstream.address, &more)).await;
    let of = |user: &'static str| {
        let mut request = post("/v1/chat/completions", KEY, &chat("sample", ""));
        request.headers_mut().insert("x-user", user.parse().expect("a value"));
        gateway.send(request)
    };
    assert_eq!(of("ada").await.status(), 200);
    assert_eq!(of("ada").await.status(), 429);
    assert_eq!(of("bob").await.status(), 200);
}

#[tokio::test]
async fn api_managements_counting_answers_in_its_words() {
    let upstream = Upstream::start().await;
    let text = config(upstream.address, "[project.search.limits.sample]\ntokens_per_minute = 20\n");
    let gateway = Gateway::with(&text.replace("[admin]", "counting = 'apim-v2'\n[admin]")).await;
    assert_eq!(gateway.chat("sample", "").await.status, 200);
    let answer = gateway.chat("sample", "").await;
    assert_eq!((answer.status, &answer.json()["statusCode"]), (429, &json!(429)));
    assert!(answer.text.contains("Token limit is exceeded. Try again in"));
}
