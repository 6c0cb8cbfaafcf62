//! Several processes that serve count as one.

use crate::program::*;
use crate::support::*;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokenweir_gateway::Digest;

const FOUR: [&str; 2] = ["--workers", "4"];
const QUOTA: &str = r#"project "search" on "same": token quota"#;
/// A call is estimated at 16 tokens and takes 16.
const MORE: &str = r#","max_tokens":8"#;

fn quota(tokens: u64) -> String {
    format!("[project.search.limits.same]\ntoken_quota = {tokens}\ntoken_quota_period = 'Yearly'\n")
}

/// So many calls, many at a time and each over a connection of its own. Their statuses.
async fn calls(gateway: &Program, path: &str, body: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for some in (0..count).collect::<Vec<_>>().chunks(25) {
        let asked = some.iter().map(|_| {
            let (address, request) = (gateway.address, post(path, KEY, body));
            tokio::spawn(async move { Answer::of(ask(address, request).await.expect("a response")).await.status })
        });
        for asked in asked.collect::<Vec<_>>() {
            statuses.push(asked.await.expect("no panic"));
        }
    }
    statuses
}

fn of(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

async fn chats(gateway: &Program, count: usize) -> Vec<u16> {
    calls(gateway, "/v1/chat/completions", &chat("same", MORE), count).await
}

fn log(gateway: &Program) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.directory.path().join("usage.jsonl")).expect("the log");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// An agent that takes three calls at a time, and a quota.
fn with_pilot(upstream: &Upstream) -> String {
    let pilot = format!(
        "{}[project.search.agents.pilot]\nregistration = {{ url = 'http://{}/agent', protocol = 'A2A' }}\n\
         limit = {{ concurrency = 3 }}\n",
        quota(1600),
        upstream.address
    );
    config(upstream.address, &pilot)
}

/// Three calls of the agent and some of the model, which have begun to be answered and do not end.
async fn under_way(
    gateway: &Program,
    upstream: &Upstream,
    models: usize,
) -> Vec<(Pipe, http::Response<hyper::body::Incoming>)> {
    let mut open = Vec::new();
    for at in 0..3 + models {
        let pipe = upstream.streams();
        pipe.send(PIECE);
        let request = match at {
            0..3 => post("/agents/search/pilot", KEY, "{}"),
            _ => post("/v1/chat/completions", KEY, &chat("same", r#","max_tokens":8,"stream":true"#)),
        };
        let mut response = gateway.ask(request).await;
        response.body_mut().frame().await.expect("more").expect("data");
        open.push((pipe, response));
    }
    open
}

/// Waits for what another process does, with a deadline that says what did not come about.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}, within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn four_workers_admit_what_one_limit_allows_and_are_seen_as_one() {
    let upstream = Upstream::start().await;
    (0..300).for_each(|_| upstream.answers(200, ANSWER));
    let gateway = Program::with(&FOUR, &config(upstream.address, &quota(1600)));
    let workers = gateway.workers().await;
    assert_eq!(workers.iter().collect::<HashSet<_>>().len(), 4);

    let statuses = chats(&gateway, 300).await;
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (100, 200), "{statuses:?}");
    assert_eq!(upstream.seen().len(), 100);
    // What each has told of its calls arrives after they were answered.
    until("the log is whole", async || log(&gateway).len() == 300).await;
    let usage = gateway.get("/admin/usage", LOOK).await.json();
    assert_eq!((usage["calls"]["admitted"].as_u64(), usage["calls"]["refused-quota"].as_u64()), (Some(100), Some(200)));
    assert_eq!((gateway.used(QUOTA).await, usage["open"].as_u64()), (1600, Some(0)));
    // Each process has a number of its own in its calls' ids.
    let ids: HashSet<String> =
        log(&gateway).iter().map(|record| record["correlation_id"].as_str().expect("an id")[..16].to_owned()).collect();
    assert!(ids.len() > 1, "more than one has served");

    let metrics = gateway.get("/metrics", LOOK).await.text;
    let sum = |outcome: &str| -> f64 {
        let of = |line: &&str| line.starts_with("tokenweir_gateway_requests") && line.contains(outcome);
        let values = metrics.lines().filter(of).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    };
    assert_eq!((sum("\"admitted\""), sum("\"refused-quota\"")), (100.0, 200.0), "{metrics}");
    let chart = gateway.get("/admin/chart", LOOK).await.json();
    let slots = chart["slots"].as_array().expect("slots").iter();
    let tokens: u64 = slots.filter_map(|slot| slot["projects"]["search"]["tokens"].as_u64()).sum();
    assert_eq!(tokens, 1600);
    assert!(gateway.get("/", "").await.text.contains("<html"), "the page needs no key");
    assert_eq!(gateway.get("/healthz", "").await.text, "ok\n");
    assert_eq!(gateway.get("/admin/status", "no key of anybody").await.status, 401);
    assert_eq!(gateway.workers().await, workers, "none of them has ended");
}

#[tokio::test]
async fn what_a_killed_worker_had_open_is_charged_and_its_places_are_free() {
    let upstream = Upstream::start().await;
    let gateway = Program::with(&FOUR, &with_pilot(&upstream));
    let open = under_way(&gateway, &upstream, 2).await;
    assert_eq!(calls(&gateway, "/agents/search/pilot", "{}", 8).await, [429; 8]);
    let before = gateway.workers().await;
    before.iter().for_each(|worker| send("KILL", *worker));
    until("four others serve", async || {
        let now = gateway.workers().await;
        now.len() == 4 && now.iter().all(|worker| !before.contains(worker))
    })
    .await;
    for (_, response) in open {
        assert!(response.into_body().collect().await.is_err(), "what was under way has broken off");
    }
    until("the places are free", async || gateway.get("/admin/usage", LOOK).await.json()["open"] == 0).await;
    assert_eq!(gateway.used(QUOTA).await, 32, "two estimates stand");

    upstream.answers(200, "{}");
    assert_eq!(gateway.post("/agents/search/pilot", KEY, "{}").await.status, 200);
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let statuses = chats(&gateway, 150).await;
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (98, 52), "{statuses:?}");
    assert_eq!(gateway.get("/admin/configuration", LOOK).await.json()["workers"]["replaced"], 4);
}

#[tokio::test]
async fn tools_agents_and_keys_are_with_four_workers_what_they_are_with_one() {
    let upstream = Upstream::start().await;
    let more = format!(
        "[project.search.tools.tides]\nurl = 'http://{0}/mcp'\nlimit = {{ calls = {{ calls = 5, renewal_seconds = 300 }} }}\n\
         [project.search.agents.pilot]\nregistration = {{ url = 'http://{0}/agent', protocol = 'A2A' }}\n",
        upstream.address
    );
    let gateway = Program::with(&FOUR, &config(upstream.address, &more));
    (0..30).for_each(|_| upstream.answers(200, "{}"));
    let statuses = calls(&gateway, "/mcp/search/tides", "{}", 25).await;
    assert_eq!((of(&statuses, 200), of(&statuses, 429)), (5, 20), "{statuses:?}");
    assert_eq!(calls(&gateway, "/mcp/search/other", "{}", 8).await, [404; 8]);

    assert_eq!(calls(&gateway, "/agents/search/pilot", "{}", 8).await, [200; 8]);
    let blocked = gateway.operate(json!({ "block_agent": { "project": "search", "agent": "pilot" } })).await;
    assert_eq!(blocked.status, 200, "{}", blocked.text);
    assert_eq!(calls(&gateway, "/agents/search/pilot", "{}", 16).await, [403; 16], "at once, in each of them");

    for key in ["", "no key of anybody", ADMIN] {
        assert_eq!(gateway.post("/v1/chat/completions", key, &chat("same", MORE)).await.status, 401);
    }
    let audit = gateway.get("/admin/audit", LOOK).await.json();
    assert_eq!(audit["entries"].as_array().expect("entries").last().expect("one")["event"], "block_agent");
    let refusals = gateway.get("/admin/refusals", LOOK).await.json();
    let refused = refusals["refusals"].as_array().expect("refusals").len();
    assert!(refused >= 36, "{refused}");
}

#[tokio::test]
async fn as_api_management_counts_four_workers_count_too() {
    let upstream = Upstream::start().await;
    (0..20).for_each(|_| upstream.answers(200, ANSWER));
    let text = format!("counting = 'apim-v2'\n{}", config(upstream.address, &quota(160)));
    let gateway = Program::with(&FOUR, &text);
    // Charged afterwards, so one after the other; they pass until the use has passed the amount.
    let mut statuses = Vec::new();
    for _ in 0..13 {
        statuses.push(gateway.post("/v1/chat/completions", KEY, &chat("same", MORE)).await.status);
    }
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (11, 2), "{statuses:?}");
}

#[tokio::test]
async fn a_key_that_changes_in_the_file_changes_in_every_worker() {
    let upstream = Upstream::start().await;
    (0..40).for_each(|_| upstream.answers(200, ANSWER));
    let text = config(upstream.address, &quota(1600));
    let gateway = Program::with(&FOUR, &text);
    assert_eq!(chats(&gateway, 8).await, [200; 8]);
    gateway.write(&text.replace(&Digest::of(KEY.as_bytes()).to_string(), &Digest::of(b"another").to_string()));
    until("it is taken up", async || gateway.get("/admin/configuration", LOOK).await.json()["taken_up"] == 2).await;
    assert_eq!(chats(&gateway, 16).await, [401; 16]);
    for _ in 0..8 {
        assert_eq!(gateway.post("/v1/chat/completions", "another", &chat("same", MORE)).await.status, 200);
    }
}

#[tokio::test]
async fn a_limit_that_changes_is_in_force_in_every_worker_and_keeps_its_use() {
    let upstream = Upstream::start().await;
    (0..60).for_each(|_| upstream.answers(200, ANSWER));
    let text = config(upstream.address, &quota(160));
    let gateway = Program::with(&FOUR, &text);
    assert_eq!(chats(&gateway, 6).await, [200; 6]);
    let limit = json!({ "token_quota": 320, "token_quota_period": "Yearly" });
    let set = json!({ "set_limit": { "project": "search", "deployment": "same", "limit": limit } });
    let answer = gateway.operate(set).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let statuses = chats(&gateway, 25).await;
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (14, 11), "{statuses:?}");
    // By the file, together with a key.
    let changed = config(upstream.address, &quota(400))
        .replace(&Digest::of(KEY.as_bytes()).to_string(), &Digest::of(b"another").to_string());
    gateway.write(&changed);
    until("it is taken up", async || gateway.get("/admin/configuration", LOOK).await.json()["taken_up"] == 2).await;
    assert_eq!(chats(&gateway, 8).await, [401; 8]);
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(gateway.post("/v1/chat/completions", "another", &chat("same", MORE)).await.status);
    }
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (5, 3), "{statuses:?}");

    // One that has ended has another in its place, by the limits in force; and so has the gateway, by those of the file.
    let worker = gateway.workers().await[0];
    send("KILL", worker);
    until("another serves", async || {
        let now = gateway.workers().await;
        now.len() == 4 && !now.contains(&worker)
    })
    .await;
    gateway.signal("TERM");
    let (status, directory) = gateway.ended();
    assert!(status.success());
    let gateway = Program::within(directory, &FOUR, &config(upstream.address, &quota(432)));
    assert_eq!(gateway.used(QUOTA).await, 400);
    let statuses = chats(&gateway, 8).await;
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (2, 6), "{statuses:?}");
}

#[tokio::test]
async fn a_stream_that_runs_may_end_when_the_gateway_stops() {
    let upstream = Upstream::start().await;
    let text = config(upstream.address, &quota(1600));
    let gateway = Program::with(&FOUR, &text);
    let pipe = upstream.streams();
    pipe.send(PIECE);
    let body = chat("same", r#","max_tokens":40,"stream":true"#);
    let mut response = gateway.ask(post("/v1/chat/completions", KEY, &body)).await;
    response.body_mut().frame().await.expect("more").expect("data");
    let workers = gateway.workers().await;
    gateway.signal("TERM");
    let address = gateway.address;
    until("nobody new is let in", async || {
        let request = http::Request::get("/healthz").body(Default::default()).expect("a request");
        ask(address, request).await.is_err()
    })
    .await;
    assert!(workers.iter().any(|worker| lives(*worker)));
    pipe.send(USAGE);
    pipe.send(DONE);
    drop(pipe);
    let rest = response.into_body().collect().await.expect("it ends well").to_bytes();
    assert!(rest.ends_with(DONE.as_bytes()));
    let (status, directory) = gateway.ended();
    assert!(status.success() && !workers.iter().any(|worker| lives(*worker)));
    let log = std::fs::read_to_string(directory.path().join("usage.jsonl")).expect("the log");
    let record: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("a record");
    assert_eq!((&record["ended"], &record["charged_output"]), (&json!("settled"), &json!(5)));
    let gateway = Program::within(directory, &FOUR, &text);
    assert_eq!(gateway.used(QUOTA).await, 16);
}

#[tokio::test]
async fn a_gateway_that_is_killed_leaves_no_worker_and_the_next_one_counts_on() {
    let upstream = Upstream::start().await;
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let text = config(upstream.address, &quota(1600));
    let gateway = Program::with(&FOUR, &text);
    assert_eq!(chats(&gateway, 40).await, [200; 40]);
    let workers = gateway.workers().await;
    gateway.signal("KILL");
    let (status, directory) = gateway.ended();
    assert!(!status.success());
    until("no worker is left", async || !workers.iter().any(|worker| lives(*worker))).await;
    // Nothing was saved: the region has it.
    let gateway = Program::within(directory, &FOUR, &text);
    assert_eq!(gateway.used(QUOTA).await, 640);
    let statuses = chats(&gateway, 75).await;
    assert_eq!((of(&statuses, 200), of(&statuses, 403)), (60, 15), "{statuses:?}");
}

#[tokio::test]
async fn what_is_killed_all_at_once_leaves_its_estimates_and_no_places() {
    let upstream = Upstream::start().await;
    let gateway = Program::with(&FOUR, &with_pilot(&upstream));
    let _open = under_way(&gateway, &upstream, 1).await;
    let workers = gateway.workers().await;
    gateway.signal("KILL");
    workers.iter().for_each(|worker| send("KILL", *worker));
    let (_, directory) = gateway.ended();
    until("no worker is left", async || !workers.iter().any(|worker| lives(*worker))).await;
    let gateway = Program::within(directory, &FOUR, &with_pilot(&upstream));
    assert_eq!(gateway.get("/admin/usage", LOOK).await.json()["open"], 0);
    assert_eq!(gateway.used(QUOTA).await, 16);
    (0..3).for_each(|_| upstream.answers(200, "{}"));
    assert_eq!(calls(&gateway, "/agents/search/pilot", "{}", 3).await, [200; 3]);
}

#[tokio::test]
async fn a_killed_gateways_address_is_free_at_once_while_its_last_calls_end() {
    let upstream = Upstream::start().await;
    let text = config(upstream.address, &quota(1600));
    let gateway = Program::with(&FOUR, &text);
    let pipe = upstream.streams();
    pipe.send(PIECE);
    let body = chat("same", r#","max_tokens":40,"stream":true"#);
    let mut response = gateway.ask(post("/v1/chat/completions", KEY, &body)).await;
    response.body_mut().frame().await.expect("more").expect("data");
    let address = gateway.address;
    gateway.signal("KILL");
    let (_, directory) = gateway.ended();
    until("nobody is let in", async || {
        let request = http::Request::get("/healthz").body(Default::default()).expect("a request");
        ask(address, request).await.is_err()
    })
    .await;
    // At the same address, on the same region.
    let there = text.replace("127.0.0.1:0", &address.to_string());
    let next = Program::within(directory, &FOUR, &there);
    assert_eq!(next.address, address);
    assert_eq!(next.get("/admin/usage", LOOK).await.json()["open"], 1, "whose process goes on has its permit");
    pipe.send(USAGE);
    pipe.send(DONE);
    drop(pipe);
    let rest = response.into_body().collect().await.expect("it ends well").to_bytes();
    assert!(rest.ends_with(DONE.as_bytes()));
    until("it is settled", async || next.get("/admin/usage", LOOK).await.json()["open"] == 0).await;
    assert_eq!(next.used(QUOTA).await, 16);
}

#[tokio::test]
async fn a_region_is_for_one_gateway_at_a_time() {
    let upstream = Upstream::start().await;
    upstream.answers(200, ANSWER);
    let gateway = Program::with(&FOUR, &config(upstream.address, &quota(1600)));
    let region = format!("region = '{}/region'\n", gateway.directory.path().display());
    let other = directory();
    for limit in [1600, 800] {
        let text = format!("{region}{}", config(upstream.address, &quota(limit)));
        let text = text.replace('@', &other.path().display().to_string());
        let why = does_not_start_as(&FOUR, &text);
        assert!(why.contains("runs on this region; stop it"), "{why}");
    }
    assert_eq!(chats(&gateway, 1).await, [200]);
    assert_eq!(gateway.used(QUOTA).await, 16);
}

#[tokio::test]
async fn what_was_counted_without_workers_is_there_with_workers_again() {
    let upstream = Upstream::start().await;
    (0..100).for_each(|_| upstream.answers(200, ANSWER));
    let text = config(upstream.address, &quota(160));
    let mut directory = directory();
    for (arguments, used) in [(&FOUR[..], 64), (&[], 128), (&FOUR, 160)] {
        let gateway = Program::within(directory, arguments, &text);
        let statuses = chats(&gateway, 4).await;
        assert_eq!(of(&statuses, 200), if used == 160 { 2 } else { 4 }, "{statuses:?}");
        until("it is counted", async || gateway.used(QUOTA).await == used).await;
        gateway.signal("TERM");
        let (status, left) = gateway.ended();
        assert!(status.success());
        directory = left;
    }
}

#[tokio::test]
async fn a_gateway_whose_workers_cannot_start_any_more_ends_and_says_why() {
    let upstream = Upstream::start().await;
    let gateway = Program::with(&FOUR, &config(upstream.address, &quota(160)));
    let workers = gateway.workers().await;
    std::fs::remove_file(gateway.directory.path().join("region")).expect("there");
    workers.iter().for_each(|worker| send("KILL", *worker));
    let (status, _) = gateway.ended();
    assert!(!status.success());
}

#[tokio::test]
async fn a_process_that_stands_still_keeps_nobody_waiting() {
    let upstream = Upstream::start().await;
    let more = format!(
        "{}[project.search.agents.pilot]\nregistration = {{ url = 'http://{}/agent', protocol = 'A2A' }}\n",
        quota(16_000),
        upstream.address
    );
    let gateway = Program::with(&FOUR, &config(upstream.address, &more));
    (0..400).for_each(|_| upstream.answers(200, ANSWER));
    // The first one: what it has not heard yet, it hears when it goes on.
    gateway.signal("STOP");
    assert_eq!(chats(&gateway, 300).await, [200; 300]);
    gateway.signal("CONT");
    until("the log is whole", async || log(&gateway).len() == 300).await;
    assert_eq!(gateway.get("/admin/configuration", LOOK).await.json()["workers"]["records_dropped"], 0);

    let worker = gateway.workers().await[0];
    send("STOP", worker);
    let blocked = gateway.operate(json!({ "block_agent": { "project": "search", "agent": "pilot" } })).await;
    assert_eq!(blocked.status, 200, "{}", blocked.text);
    send("CONT", worker);
    until("all have taken it up", async || calls(&gateway, "/agents/search/pilot", "{}", 16).await == [403; 16]).await;
    // One that ends by itself has another in its place, with what is in force.
    send("TERM", worker);
    until("another serves", async || {
        let now = gateway.workers().await;
        now.len() == 4 && !now.contains(&worker)
    })
    .await;
    assert_eq!(calls(&gateway, "/agents/search/pilot", "{}", 16).await, [403; 16]);
}

#[tokio::test]
async fn what_cannot_be_with_workers_is_refused_at_the_start() {
    let address = "127.0.0.1:9".parse().expect("an address");
    let store = format!("store = 'redb:@/quotas.redb'\n{}", config(address, ""));
    assert!(does_not_start(&FOUR, &store).contains("leave one of the two out"));
    for none in ["0", "33"] {
        assert!(does_not_start(&["--workers", none], &config(address, "")).contains("1 to 32 workers"));
    }
    assert!(does_not_start(&["--workers", "many"], &config(address, "")).contains("how many processes"));
    let key = config(address, "").replace("CARGO_PKG_NAME", "NOT_IN_THE_ENVIRONMENT");
    assert!(does_not_start(&FOUR, &key).contains("NOT_IN_THE_ENVIRONMENT"));
}

#[tokio::test]
async fn workers_have_the_programs_name_and_their_number_may_be_in_one_word() {
    let upstream = Upstream::start().await;
    let gateway = Program::with(&["--workers=2"], &config(upstream.address, ""));
    let workers = gateway.workers().await;
    assert_eq!(workers.len(), 2);
    for worker in workers {
        let name = std::fs::read_to_string(format!("/proc/{worker}/comm")).expect("it is there");
        // Of a name the system keeps 15 bytes.
        assert_eq!(name.trim_end(), "tokenweir-gatew");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_is_named_with_what_to_do() {
    let address = "127.0.0.1:9".parse().expect("an address");
    let directory = directory();
    let home = directory.path().display();
    let rest = config(address, "").replace('@', &format!("{home}/files"));
    let refused = |region: &str| does_not_start_as(&FOUR, &format!("region = '{region}'\n{rest}"));
    let told = refused(&home.to_string());
    assert!(told.contains(&format!("{home}: not a region: it is a directory; give")), "{told}");
    let long = format!("{home}/{}/region", "d".repeat(100));
    let told = refused(&long);
    assert!(told.contains(&long) && told.contains("give a region with a shorter path"), "{told}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let listener = std::net::TcpListener::bind(taken).expect("it is free");
    let told = does_not_start(&[], &config(address, "").replace("127.0.0.1:0", &taken.to_string()));
    assert!(told.contains(&format!("cannot listen on {taken}")) && told.contains("give another port"), "{told}");
    drop(listener);
}
