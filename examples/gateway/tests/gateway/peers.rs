//! Tools and agents behind the gateway.

use crate::support::*;
use http::Request;
use http_body_util::Full;
use serde_json::json;

fn peers(address: std::net::SocketAddr) -> String {
    config(
        address,
        &format!(
            r#"
            [project.search.tools.tides]
            url = "http://{address}/mcp"
            limit = {{ calls = {{ calls = 2, renewal_seconds = 60 }} }}
            [project.search.tools.sample]
            url = "http://sample.internal/mcp"
            [project.search.agents.pilot]
            registration = {{ url = "http://sample.internal/agent", protocol = "A2A" }}
            limit = {{ calls = {{ calls = 3, renewal_seconds = 60 }} }}
            "#
        ),
    )
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"high_water"}}"#;

#[tokio::test]
async fn calls_of_a_tool_pass_and_are_limited() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&peers(upstream.address)).await;
    for _ in 0..2 {
        upstream.answers(200, r#"{"result":{}}"#);
        let request = Request::post("/mcp/search/tides/more?q=1")
            .header("api-key", KEY)
            .header("authorization", "Bearer for-the-tool")
            .header("mcp-session-id", "s-1");
        let answer = gateway.send(request.body(Full::from(CALL)).expect("a request")).await;
        assert_eq!(answer.status(), 200);
    }
    let seen = &upstream.seen()[0];
    assert_eq!((&*seen.path, &seen.body[..]), ("/mcp/more?q=1", CALL.as_bytes()));
    // Who calls proves itself to the tool as before; the gateway's key stays here.
    assert_eq!(seen.headers["authorization"], "Bearer for-the-tool");
    assert_eq!(seen.headers["mcp-session-id"], "s-1");
    assert!(!seen.headers.contains_key("api-key"));
    let answer = gateway.post("/mcp/search/tides", KEY, CALL).await;
    assert_eq!((answer.status, answer.header("x-tokenweir-limit")), (429, r#"tool "tides" of "search": calls"#));
    assert!(answer.header("retry-after").parse::<u64>().is_ok());
    assert_eq!(gateway.post("/mcp/search/sample", KEY, CALL).await.json()["result"]["isError"], false);
    let record = &gateway.records()[0];
    assert_eq!((&record["tool"], &record["operation"]), (&json!("tides"), &json!("execute_tool")));
}

#[tokio::test]
async fn what_is_below_a_tool_is_the_tools_whatever_it_is_called() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&peers(upstream.address)).await;
    upstream.answers(200, "{}");
    let request = Request::post("/mcp/search/tides/v1/chat/completions").header("api-key", KEY);
    let request = request.header("authorization", format!("Bearer {KEY}")).body(Full::from("no JSON"));
    assert_eq!(gateway.send(request.expect("a request")).await.status(), 200);
    let seen = &upstream.seen()[0];
    assert_eq!((&*seen.path, &seen.body[..]), ("/mcp/v1/chat/completions", &b"no JSON"[..]));
    assert!(!format!("{:?}", seen.headers).contains(KEY), "the key came twice, and goes no further either way");
    assert_eq!(gateway.post("/agents/search/none/v1/messages", KEY, "{}").await.status, 404);
}

#[tokio::test]
async fn an_agent_is_reached_at_the_gateway_as_its_card_says() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&peers(upstream.address)).await;
    let card = gateway.get("/agents/search/pilot/.well-known/agent-card.json", KEY).await.json();
    let address = gateway.running.address();
    assert_eq!(card["url"], format!("http://{address}/agents/search/pilot"));
    let answer = gateway.post("/agents/search/pilot", KEY, r#"{"jsonrpc":"2.0","id":7,"method":"message/send"}"#).await;
    assert_eq!(answer.json()["id"], 7);
    let record = &gateway.records()[1];
    assert_eq!((&record["agent"], &record["operation"]), (&json!("pilot"), &json!("invoke_agent")));
}

#[tokio::test]
async fn a_blocked_agent_is_refused_until_it_is_unblocked() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&peers(upstream.address)).await;
    let agent = json!({ "project": "search", "agent": "pilot" });
    assert_eq!(gateway.operate(json!({ "block_agent": agent })).await.status, 200);
    let answer = gateway.post("/agents/search/pilot", KEY, "{}").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("is blocked"));
    assert_eq!(gateway.operate(json!({ "unblock_agent": agent })).await.status, 200);
    assert_eq!(gateway.post("/agents/search/pilot", KEY, "{}").await.status, 200);
}

#[tokio::test]
async fn what_belongs_to_another_project_is_not_there() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&peers(upstream.address)).await;
    for (path, key) in [
        ("/mcp/search/tides", OTHER),
        ("/mcp/support/tides", OTHER),
        ("/mcp/support/tides", KEY),
        ("/mcp/search/nothing", KEY),
        ("/agents/search/tides", KEY),
        ("/mcp/search/tides/../../secret", KEY),
        ("/mcp/search/tides/%2e%2e/secret", KEY),
    ] {
        assert_eq!(gateway.post(path, key, CALL).await.status, 404, "{path}");
    }
    assert_eq!((upstream.seen().len(), gateway.used()), (0, vec![]));
}

#[tokio::test]
async fn a_tool_that_is_made_by_the_administrator_is_reached_at_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, "")).await;
    let url = format!("http://{}/mcp", upstream.address);
    let make =
        json!({ "create_tool": { "project": "search", "tool": "new", "kind": "mcp", "auth": "key", "url": url } });
    assert_eq!(gateway.operate(make).await.status, 200);
    upstream.answers(200, "{}");
    assert_eq!(gateway.post("/mcp/search/new", KEY, CALL).await.status, 200);
}

#[tokio::test]
async fn no_path_climbs_out_of_a_tools_address() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&peers(upstream.address)).await;
    for rest in ["../admin", "%2e%2e/admin", "..%2fadmin", "..%5cadmin", "a/..%2F..%2Fadmin"] {
        assert_eq!(gateway.post(&format!("/mcp/search/tides/{rest}"), KEY, CALL).await.status, 404, "{rest}");
    }
    assert!(upstream.seen().is_empty());
}
