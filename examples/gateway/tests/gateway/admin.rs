//! What an operator sees and does.

use crate::support::*;
use serde_json::{Value, json};
use std::io::Read;

fn set(tokens: i64) -> Value {
    json!({ "set_limit": { "project": "search", "deployment": "sample", "limit": { "tokens_per_minute": tokens } } })
}

#[tokio::test]
async fn a_limit_that_is_set_is_in_force_at_once_and_seen_everywhere() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, "")).await;
    assert_eq!(gateway.chat("sample", "").await.status, 200);
    let applied = gateway.operate(set(20)).await;
    assert_eq!((applied.status, &applied.json()["state"]), (200, &json!("20 TPM")), "{}", applied.text);
    assert_eq!(gateway.chat("sample", r#","max_tokens":4"#).await.status, 200);
    assert_eq!(gateway.chat("sample", r#","max_tokens":24"#).await.status, 429);

    let status = gateway.get("/admin/status", LOOK).await.json();
    let shown = &status["resources"]["gateway"]["projects"]["search"];
    assert_eq!(shown["limits"]["sample"]["use"][0]["settled_total"], 12);
    assert_eq!((&shown["requests"]["admitted"], &shown["requests"]["refused-rate"]), (&json!(2), &json!(1)));
    let usage = gateway.get("/admin/usage", LOOK).await.json();
    assert_eq!((&usage["counters"][0]["amount"], &usage["open"]), (&json!(20), &json!(0)));
    let policy = gateway.get("/admin/limits", LOOK).await.json();
    assert_eq!(policy["limit"][0]["amount"], 20);
    let chart = gateway.get("/admin/chart", LOOK).await.json();
    let sum = |what: &str| -> u64 {
        let slots = chart["slots"].as_array().expect("slots");
        slots.iter().map(|slot| slot["projects"]["search"][what].as_u64().unwrap_or(0)).sum()
    };
    assert_eq!((sum("tokens"), sum("calls"), sum("refused")), (32 + 12, 2, 1));
    let metrics = gateway.get("/metrics", LOOK).await.text;
    let counted =
        r#"tokenweir_gateway_requests{resource="gateway",project="search",deployment="sample",outcome="admitted"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn an_operation_that_is_refused_says_why_and_leaves_a_trace() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, "")).await;
    let refused = gateway.operate(set(0)).await;
    assert_eq!(refused.status, 422);
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "LIMIT_NOT_POSITIVE");
    assert!(error["next"].as_str().is_some_and(|next| !next.is_empty()));
    assert_eq!(gateway.chat("sample", "").await.status, 200);
    let audit = gateway.get("/admin/audit", LOOK).await.json();
    let last = audit["entries"].as_array().and_then(|entries| entries.last()).cloned().expect("an entry");
    assert_eq!((&last["event"], &last["by"]), (&json!("set_limit"), &json!("administrator")));
    assert_eq!(last["outcome"]["refused"]["codes"][0], "LIMIT_NOT_POSITIVE");

    for (body, status) in [
        ("nonsense", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"fly": {}}"#, 400),
        (r#"{"set_limit": 7}"#, 400),
        (r#"{"set_limit": {"project": "search", "deployment": "none", "limit": {"tokens_per_minute": 1}}}"#, 422),
        (r#"{"delete_gateway": {}}"#, 422),
        (r#"{"create_project": {"project": "mine"}}"#, 422),
    ] {
        let answer = gateway.post("/admin/operations", ADMIN, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
}

#[tokio::test]
async fn a_project_that_is_not_governed_passes_uncounted() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    assert_eq!(gateway.operate(json!({ "remove_project": { "project": "search" } })).await.status, 200);
    assert_eq!(gateway.chat("sample", r#","max_tokens":100000"#).await.status, 200);
    assert_eq!(gateway.used(), []);
    assert_eq!(gateway.records()[0]["outcome"], "bypassed");
    assert_eq!(gateway.operate(json!({ "add_project": { "project": "search" } })).await.status, 200);
    assert_eq!(gateway.chat("sample", r#","max_tokens":100000"#).await.status, 429);
}

#[tokio::test]
async fn who_has_no_key_waits_for_nobody_and_keeps_nobody_waiting() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, LIMIT)).await;
    // The state is written where nothing is taken until somebody reads: a disk that stands still.
    let pipe = gateway.directory.path().join("state/state.json.new");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo, of the system's own tools");
    assert!(made.success());
    let operation = gateway.operate(set(20));
    let meanwhile = async {
        // Once it has been applied its state is being written.
        while gateway.chat("sample", r#","max_tokens":24"#).await.status != 429 {}
        let mut statuses = Vec::new();
        for key in ["wrong", KEY, LOOK] {
            statuses.push(gateway.get("/admin/status", key).await.status);
            statuses.push(gateway.get("/metrics", key).await.status);
            statuses.push(gateway.post("/admin/operations", key, "{}").await.status);
        }
        // Read, so that it goes on, and out of the way, so that what is written next goes into a file.
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = std::fs::File::open(&pipe).expect("it is being written");
            std::fs::remove_file(&pipe).expect("it is there");
            let mut state = String::new();
            reader.read_to_string(&mut state).expect("the state");
            state
        });
        (statuses, read.await.expect("no panic"))
    };
    let (operation, (statuses, state)) = tokio::join!(operation, meanwhile);
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 200, 200, 403]);
    assert_eq!(operation.status, 200);
    assert!(state.starts_with('{'), "{state}");
}
