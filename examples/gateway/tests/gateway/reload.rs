//! The file changes while the gateway runs.

use crate::support::*;
use serde_json::Value;
use std::time::Duration;

async fn configuration(gateway: &Gateway, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..6000 {
        let configuration = gateway.get("/admin/configuration", ADMIN).await.json();
        if is_so(&configuration) {
            return configuration;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the file is looked at, within a minute");
}

async fn taken_up(gateway: &Gateway, times: u64) {
    configuration(gateway, |configuration| configuration["taken_up"] == times).await;
}

fn limit(tokens: u64) -> String {
    format!("[project.search.limits.sample]\ntoken_quota = {tokens}\ntoken_quota_period = 'Yearly'\n")
}

fn used(gateway: &Gateway) -> u64 {
    gateway.running.gate().limiter().usage(&Default::default()).iter().map(|counter| counter.used).sum()
}

#[tokio::test]
async fn a_limit_that_changes_keeps_its_use() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, &limit(40))).await;
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 200);
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 403);
    gateway.write(&config(upstream.address, &limit(64)));
    taken_up(&gateway, 2).await;
    assert_eq!(used(&gateway), 32);
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 200);
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 403);
    assert_eq!(used(&gateway), 64);
}

#[tokio::test]
async fn a_file_that_is_wrong_is_reported_and_changes_nothing() {
    let upstream = Upstream::start().await;
    let good = config(upstream.address, &limit(4000));
    let gateway = Gateway::with(&good).await;
    let reload = "[project.search.limits.sample]\ntokens_per_minute = 0\n";
    for (text, reason) in [
        ("listen = ".to_owned(), "TOML parse error"),
        (good.replace("[estimate]", "[estimat]"), "unknown field `estimat`"),
        (good.replace("upstream = \"real\"", "upstream = \"away\""), "\"away\", which is not there"),
        (good.replace("127.0.0.1:0", "127.0.0.1:1"), "listen has changed, which needs a restart"),
        (good.replace("CARGO_PKG_NAME", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE, which is not set"),
        // The first change could be made, the second could not: neither is.
        (
            config(upstream.address, reload).replace("[project.support.keys]", "[project.added.keys]"),
            "LIMIT_NOT_POSITIVE",
        ),
    ] {
        gateway.write(&text);
        let is_reported = |configuration: &Value| {
            configuration["error"]
                .as_str()
                .is_some_and(|error| error.contains(reason) && error.contains("gateway.toml"))
        };
        let configuration = configuration(&gateway, is_reported).await;
        assert_eq!(configuration["taken_up"], 1);
        assert_eq!(gateway.chat("sample", r#","max_tokens":1"#).await.status, 200);
        let status = gateway.get("/admin/status", ADMIN).await.json();
        let projects = status["resources"]["gateway"]["projects"].as_object().expect("projects").clone();
        assert_eq!(projects.keys().collect::<Vec<_>>(), ["search", "support"]);
    }
    gateway.write(&good);
    configuration(&gateway, |configuration| configuration["error"].is_null()).await;
}

#[tokio::test]
async fn a_key_that_is_taken_away_and_a_project_that_comes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, "")).await;
    let words = chat("sample", "");
    assert_eq!(gateway.post("/v1/chat/completions", OTHER, &words).await.status, 200);
    gateway.write(&config(upstream.address, "").replace("[project.support.keys]", "[project.sales.keys]"));
    taken_up(&gateway, 2).await;
    assert_eq!(gateway.post("/v1/chat/completions", OTHER, &words).await.status, 200);
    assert_eq!(gateway.records()[1]["project"], "sales");
    let without = config(upstream.address, "");
    let without = &without[..without.find("[project.support.keys]").expect("it is there")];
    gateway.write(without);
    taken_up(&gateway, 3).await;
    assert_eq!(gateway.post("/v1/chat/completions", OTHER, &words).await.status, 401);
    assert_eq!(gateway.chat("sample", "").await.status, 200);
}

#[tokio::test]
async fn what_was_administered_stays_until_the_file_changes_the_same_thing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, &limit(4000))).await;
    let lower = serde_json::json!({ "set_limit": { "project": "search", "deployment": "sample",
        "limit": { "token_quota": 10, "token_quota_period": "Yearly" } } });
    assert_eq!(gateway.operate(lower).await.status, 200);
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 403);
    // Something else changes.
    gateway.write(&config(upstream.address, &format!("{}\n[all_projects]\ntokens_per_minute = 9000\n", limit(4000))));
    taken_up(&gateway, 2).await;
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 403);
    gateway.write(&config(upstream.address, &limit(5000)));
    taken_up(&gateway, 3).await;
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 200);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_reported_until_it_can() {
    let upstream = Upstream::start().await;
    let good = config(upstream.address, &limit(40));
    let gateway = Gateway::with(&good).await;
    gateway.write_bytes(b"\xff\xfe");
    let error = configuration(&gateway, |configuration| configuration["error"] != Value::Null).await["error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("UTF-8")), "{error}");
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 200);
    gateway.write(&good);
    configuration(&gateway, |configuration| configuration["error"] == Value::Null).await;
}
