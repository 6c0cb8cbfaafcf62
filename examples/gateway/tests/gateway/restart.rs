//! The gateway stops, and starts again.

use crate::support::{client as client_of_its_own, *};
use http_body_util::BodyExt;
use serde_json::json;
use tokenweir_gateway::{Sample, start};

const QUOTA: &str = "[project.search.limits.same]\ntoken_quota = 100\ntoken_quota_period = 'Yearly'\n[project.search.agents.pilot]\nregistration = { url = 'http://sample.internal/agent', protocol = 'A2A' }\n";

#[tokio::test]
async fn calls_under_way_end_and_their_use_is_there_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, QUOTA)).await;
    let pipe = upstream.streams();
    pipe.send(PIECE);
    let mut response = gateway.stream("same").await;
    response.body_mut().frame().await.expect("more").expect("data");
    let Gateway { running, directory, client } = gateway;
    let (address, limiter) = (running.address(), running.gate().limiter().clone());
    let stopping = tokio::spawn(running.shutdown());
    // Nobody new is let in while the call goes on.
    let refused = || async {
        let request = http::Request::get(format!("http://{address}/healthz")).body(Default::default());
        client_of_its_own().request(request.expect("a request")).await.is_err()
    };
    while !refused().await {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished() && limiter.stats().permits_open == 1);
    pipe.send(PIECE);
    pipe.send(USAGE);
    pipe.send(DONE);
    drop(pipe);
    let rest = response.into_body().collect().await.expect("it ends well").to_bytes();
    assert!(rest.ends_with(DONE.as_bytes()));
    drop(client);
    stopping.await.expect("it stops");

    let gateway = Gateway::within(directory, &config(upstream.address, QUOTA)).await;
    assert_eq!(gateway.running.gate().limiter().usage(&Default::default())[0].used, 16);
    // 8 and 76 are 84: all that is left.
    upstream.answers(200, ANSWER);
    assert_eq!(gateway.chat("same", r#","max_tokens":77"#).await.status, 403);
    assert_eq!(gateway.chat("same", r#","max_tokens":76"#).await.status, 200);
}

#[tokio::test]
async fn what_was_administered_is_there_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&config(upstream.address, QUOTA)).await;
    gateway.operate(json!({ "block_agent": { "project": "search", "agent": "pilot" } })).await;
    let Gateway { running, directory, client } = gateway;
    drop(client);
    running.shutdown().await;
    let gateway = Gateway::within(directory, &config(upstream.address, QUOTA)).await;
    assert_eq!(gateway.post("/agents/search/pilot", KEY, "{}").await.status, 403);
    let audit = gateway.get("/admin/audit", LOOK).await.json();
    let blocked = audit["entries"].as_array().expect("entries").iter().find(|entry| entry["event"] == "block_agent");
    assert_eq!(blocked.expect("it is remembered")["by"], "administrator");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_stops_the_start() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("state")).expect("made");
    let state = directory.path().join("state/state.json");
    let path = directory.path().join("gateway.toml");
    let text = config(upstream.address, QUOTA).replace('@', &directory.path().display().to_string());
    std::fs::write(&path, text).expect("written");
    for wrong in [
        "",
        "{",
        r#"{"format":"another","declared":{"deployments":{},"projects":{},"all_projects":null,"keyed":{},"traffic":null},"document":{}}"#,
    ] {
        std::fs::write(&state, wrong).expect("written");
        let error = start(&path, Sample::default()).await.err().expect("it does not start").to_string();
        assert!(error.contains("state.json") && error.contains("move it away"), "{error}");
        assert_eq!(std::fs::read_to_string(&state).expect("there"), wrong, "it is left alone");
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    let error = |text: Option<String>| {
        let path = path.clone();
        async move {
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            start(&path, Sample::default()).await.err().expect("it does not start").to_string()
        }
    };
    assert!(error(None).await.contains("gateway.toml"));
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let text = |more: &str| config(address, more).replace('@', &directory.path().display().to_string());
    assert!(error(Some(text("").replace("127.0.0.1:0", &address.to_string()))).await.contains("cannot listen"));
    assert!(
        error(Some(text("[project.search.limits.none]\ntokens_per_minute = 1\n")))
            .await
            .contains("add [deployment.none]")
    );
    assert!(error(Some(text("[project.p.keys]\na = 'abc'\n"))).await.contains("64 hexadecimal digits"));
    let error = error(Some(text("[project.search.limits.real]\ntoken_quota = 1\n"))).await;
    assert!(error.contains("QUOTA_PERIOD_MISMATCH"), "{error}");
}
