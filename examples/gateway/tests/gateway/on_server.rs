//! Gateways whose counters are on one server.

use crate::program::{Program, directory, does_not_start_as, send};
use crate::redis::{RedisServer, spare_port};
use crate::support::*;

const QUOTA: &str = "[project.search.limits.same]\ntoken_quota = 800\ntoken_quota_period = 'Yearly'\n";
const LIMIT_NAME: &str = "project \"search\" on \"same\": token quota";

fn text(server: &RedisServer, upstream: &Upstream, more: &str) -> String {
    format!("store = '{}'\n{}\n[server]\ndeadline_ms = 20000\n{more}", server.url(), config(upstream.address, QUOTA))
}

async fn call(gateway: &Program) -> u16 {
    gateway.post("/v1/chat/completions", KEY, &chat("same", r#","max_tokens":8"#)).await.status
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !so().await {
        assert!(std::time::Instant::now() < deadline, "{what}, within a minute");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn server_is(gateway: &Program, up: bool) {
    until("it is told", async || gateway.get("/admin/configuration", LOOK).await.json()["server"]["up"] == up).await;
}

#[tokio::test]
async fn gateways_that_share_a_server_admit_together_what_the_limit_allows_and_a_killed_one_loses_nothing() {
    let (server, upstream) = (RedisServer::start(), Upstream::start().await);
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let (one, other) =
        (Program::with(&[], &text(&server, &upstream, "")), Program::with(&[], &text(&server, &upstream, "")));
    // 16 tokens each.
    for gateway in [&one, &other].into_iter().cycle().take(20) {
        assert_eq!(call(gateway).await, 200);
    }
    until("both see all of it", async || one.used(LIMIT_NAME).await == 320 && other.used(LIMIT_NAME).await == 320)
        .await;
    one.signal("KILL");
    let (_, directory) = one.ended();
    let one = Program::within(directory, &[], &text(&server, &upstream, ""));
    let mut admitted = 0;
    for gateway in [&one, &other].into_iter().cycle().take(60) {
        let status = call(gateway).await;
        assert!(matches!(status, 200 | 403), "{status}");
        admitted += usize::from(status == 200);
        until("it is settled", async || gateway.get("/admin/usage", LOOK).await.json()["open"] == 0).await;
    }
    // The last one is refused if what is left is less than its estimate, which is its usage.
    assert_eq!(admitted, 30);
    until("it is spent", async || one.used(LIMIT_NAME).await == 800).await;
    let status = one.get("/admin/status", LOOK).await;
    assert!(status.text.contains("800"), "{}", status.text);
}

#[tokio::test]
async fn workers_on_a_server_admit_together_what_the_limit_allows_and_follow_a_change_of_it() {
    let (server, upstream) = (RedisServer::start(), Upstream::start().await);
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let gateway = Program::with(&["--workers", "4"], &text(&server, &upstream, ""));
    // Each call comes over a connection of its own, so that all workers serve.
    for _ in 0..20 {
        assert_eq!(call(&gateway).await, 200);
    }
    until("the sum is seen", async || gateway.used(LIMIT_NAME).await == 320).await;
    let killed = gateway.workers().await[0];
    send("KILL", killed);
    until("another serves", async || {
        let workers = gateway.workers().await;
        workers.len() == 4 && !workers.contains(&killed)
    })
    .await;
    let limit = serde_json::json!({ "token_quota": 400, "token_quota_period": "Yearly" });
    let change = serde_json::json!({ "set_limit": { "project": "search", "deployment": "same", "limit": limit } });
    assert_eq!(gateway.operate(change).await.status, 200);
    let mut admitted = 0;
    for _ in 0..40 {
        admitted += usize::from(call(&gateway).await == 200);
    }
    assert_eq!(admitted, 5, "80 are left");
    gateway.signal("TERM");
    let (status, _) = gateway.ended();
    assert!(status.success());
}

#[tokio::test]
async fn a_stream_is_charged_while_it_runs_and_ends_where_the_quota_does() {
    for more in ["", "leases = true"] {
        stream_is_cut(more).await;
    }
}

async fn stream_is_cut(more: &str) {
    let (server, upstream) = (RedisServer::start(), Upstream::start().await);
    let gateway = Program::with(&[], &text(&server, &upstream, more));
    for _ in 0..6 {
        upstream.answers(200, ANSWER);
        assert_eq!(call(&gateway).await, 200);
    }
    let pipe = upstream.streams();
    let body = chat("same", r#","stream":true,"max_tokens":40"#);
    let response = gateway.ask(post("/v1/chat/completions", KEY, &body)).await;
    assert_eq!(response.status(), 200);
    let reading = tokio::spawn(Answer::of(response));
    // A token each, so that the quota of 800 is spent on the way.
    let began = std::time::Instant::now();
    while pipe.is_read() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "the stream is cut, within a minute");
        pipe.send(PIECE);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let answer = reading.await.expect("an answer");
    assert!(answer.text.contains("is spent"), "{}", &answer.text[answer.text.len().saturating_sub(400)..]);
    until("it is settled", async || gateway.get("/admin/usage", LOOK).await.json()["open"] == 0).await;
    until("all that passed is charged", async || gateway.used(LIMIT_NAME).await >= 800).await;
    let used = gateway.used(LIMIT_NAME).await;
    assert!(used < 4000, "{more}: {used}, a round trip after 800");
    assert_eq!(call(&gateway).await, 403);
}

/// A stream of so many pieces of a token each, in the end with what the provider counted. The pipe is kept until it is read.
async fn stream(gateway: &Program, upstream: &Upstream, pieces: usize, end: &str) -> Answer {
    let pipe = upstream.streams();
    let send = async {
        for piece in 0..pieces {
            pipe.send(PIECE);
            if piece % 50 == 49 {
                // Slowly enough to be cut on the way.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
        pipe.send(end);
        drop(pipe);
    };
    let body = chat("same", r#","stream":true,"max_tokens":20"#);
    tokio::join!(gateway.post("/v1/chat/completions", KEY, &body), send).0
}

#[tokio::test]
async fn with_leases_streams_beyond_their_estimates_are_cut_where_the_quota_ends_and_all_adds_up() {
    let (server, upstream) = (RedisServer::start(), Upstream::start().await);
    let text = text(&server, &upstream, "leases = true").replace("token_quota = 800", "token_quota = 20_000");
    let gateways = [Program::with(&[], &text), Program::with(&[], &text)];
    let (mut whole, mut cut) = (0, 0);
    for round in 0..20 {
        for gateway in gateways.iter().cycle().take(12) {
            upstream.answers(200, ANSWER);
            assert!(matches!(call(gateway).await, 200 | 403));
        }
        let gateway = &gateways[round % 2];
        // Each other one is reported to be less than what came.
        let (end, pieces) = if round % 4 < 2 { (USAGE, 2000) } else { ("", 2000) };
        let answer = stream(gateway, &upstream, pieces, &format!("{end}{DONE}")).await;
        match answer.status {
            200 if answer.text.contains("is spent") => cut += 1,
            200 => whole += 1,
            status => assert_eq!(status, 403, "{}", answer.text),
        }
        until("it is settled", async || gateway.get("/admin/usage", LOOK).await.json()["open"] == 0).await;
    }
    assert!(whole >= 9 && cut >= 1, "{whole} whole, {cut} cut");
    let mut counted = 0;
    for gateway in gateways {
        gateway.signal("TERM");
        let (status, directory) = gateway.ended();
        assert!(status.success());
        let log = std::fs::read_to_string(directory.path().join("usage.jsonl")).expect("the log");
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"));
        let tokens = |line: &serde_json::Value, which: &str| line[which].as_u64().unwrap_or(0);
        counted += lines.map(|line| tokens(&line, "charged_input") + tokens(&line, "charged_output")).sum::<u64>();
    }
    let looks = Program::with(&[], &text);
    until("it is seen", async || looks.used(LIMIT_NAME).await > 0).await;
    let used = looks.used(LIMIT_NAME).await;
    assert_eq!(used, counted, "what the server has beside the usage logs");
    assert!(server.command(&["KEYS", "*}p*"]).starts_with("*0"), "records are left");
    assert!((20_000..22_100).contains(&used), "no more over than what came before the cut: {used}");
}

#[tokio::test]
async fn while_the_server_is_away_calls_get_what_is_set_and_afterwards_all_is_as_before() {
    let (mut server, upstream) = (RedisServer::start(), Upstream::start().await);
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let denies = Program::with(&[], &text(&server, &upstream, ""));
    let shares = "prefix = 'shares'\nwhen_away = 'local_share'\nper_mille = 100";
    let shares = Program::with(&[], &text(&server, &upstream, shares));
    for gateway in [&denies, &shares] {
        assert_eq!(call(gateway).await, 200);
    }
    server.kill();
    server_is(&denies, false).await;
    server_is(&shares, false).await;
    let refused = denies.post("/v1/chat/completions", KEY, &chat("same", "")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(!refused.text.contains("127.0.0.1") && refused.text.contains("nothing was charged"), "{}", refused.text);
    // A tenth of 800 is five calls of 16.
    let mut passed = 0;
    for _ in 0..20 {
        passed += usize::from(call(&shares).await == 200);
    }
    assert_eq!(passed, 5);
    server.restart();
    server_is(&denies, true).await;
    server_is(&shares, true).await;
    assert_eq!(call(&denies).await, 200);
    // The server has begun anew, and was told what passed without it.
    until("the server is told", async || shares.used(LIMIT_NAME).await == 80).await;
    let told = async || shares.get("/admin/configuration", LOOK).await.json()["server"].clone();
    until("it is said to be back", async || told().await["recoveries"] == 1).await;
    assert_eq!(told().await["outages"], 1);
}

#[tokio::test]
async fn limits_are_changed_on_the_way_and_what_was_counted_stays() {
    let (server, upstream) = (RedisServer::start(), Upstream::start().await);
    (0..10).for_each(|_| upstream.answers(200, ANSWER));
    let gateway = Program::with(&[], &text(&server, &upstream, "leases = true"));
    assert_eq!(call(&gateway).await, 200);
    let limit = serde_json::json!({ "token_quota": 20, "token_quota_period": "Yearly" });
    let change = serde_json::json!({ "set_limit": { "project": "search", "deployment": "same", "limit": limit } });
    assert_eq!(gateway.operate(change).await.status, 200);
    assert_eq!(call(&gateway).await, 403);
    until("it is told", async || gateway.used(LIMIT_NAME).await == 16).await;
    gateway.signal("TERM");
    let (status, _) = gateway.ended();
    assert!(status.success());
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_the_start_and_passwords_are_not_told() {
    let address = "127.0.0.1:9".parse().expect("an address");
    let elsewhere = directory();
    let refused = |store: &str, more: &str| {
        let rest = config(address, "").replace('@', &elsewhere.path().display().to_string());
        let why = does_not_start_as(&[], &format!("store = '{store}'\n{rest}\n[server]\n{more}"));
        assert!(!why.contains("secret"), "{why}");
        why
    };
    let url = format!("redis://:secret@127.0.0.1:{}", spare_port());
    assert!(refused(&url, "deadline_ms = 0").contains("deadline"));
    assert!(refused(&url, "when_away = 'local_share'").contains("per_mille"));
    assert!(refused(&url, "per_mille = 3").contains("per_mille"));
    assert!(refused("redis+sentinel://:secret@a:1", "").contains("master"));
    assert!(refused("env:TOKENWEIR_NO_SUCH_VARIABLE", "").contains("TOKENWEIR_NO_SUCH_VARIABLE"));
}
