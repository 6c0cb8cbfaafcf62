//! Permits that are ended where nothing can be waited for, and a look at all counters.

use crate::stage::*;
use crate::support::RedisServer;
use std::time::Duration;
use tokenweir::elsewhere::{Counters, Decided, Permits};
use tokenweir::{Error, Estimate, Now, Outcome, PermitId, Policy, Request, Usage, UsageFilter};
use tokenweir_redis::{Leases, OpenPermits, RedisLimiter, WhenAway};

pub const NOW: Now = Now { mono: 0, wall: 0 };

async fn admit(permits: &OpenPermits, tokens: u64) -> Decided {
    permits.admit(&Request::new("search", "gpt-4o"), Estimate::new(0, tokens)).await.expect("a decision")
}

pub async fn admitted(permits: &OpenPermits, tokens: u64) -> PermitId {
    match admit(permits, tokens).await {
        Decided::Admitted(id) => id,
        Decided::Denied(denied) => panic!("{denied:?}"),
    }
}

pub fn lefts(permits: &OpenPermits, id: PermitId) -> Vec<(String, i64)> {
    let mut left = Vec::new();
    permits.each_left_at(id, NOW, &mut |limit, remaining| left.push((limit.name().to_string(), remaining)));
    left
}

pub async fn becomes(permits: &OpenPermits, wanted: i64) {
    let request = Request::new("search", "gpt-4o");
    let told = async || permits.limiter().remaining(&request).await.is_ok_and(|left| left[0].remaining == wanted);
    until("the server has been told", told).await;
}

#[tokio::test]
async fn what_a_call_comes_to_is_told_in_the_background_exactly() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(connect(&server, limits(&[MONTH])).await);
    let [settled, cancelled, dropped] =
        [admitted(&permits, 100).await, admitted(&permits, 100).await, admitted(&permits, 100).await];
    assert_eq!(lefts(&permits, dropped), [("month".to_owned(), 700)]);
    assert_eq!(permits.settle_at(settled, Usage::new(0, 40), NOW).map(|ended| ended.output), Ok(40));
    assert_eq!(permits.cancel_at(cancelled, NOW).map(|ended| ended.outcome), Ok(Outcome::Cancelled));
    assert_eq!(permits.abandon_at(dropped, NOW).map(|ended| ended.output), Ok(100));
    becomes(&permits, 860).await;
    for id in [settled, cancelled, dropped] {
        assert_eq!(permits.settle_at(id, Usage::new(0, 1), NOW).err(), Some(Error::PermitSettled { id }));
    }
    assert!(permits.is_empty());
}

#[tokio::test]
async fn a_usage_that_cannot_be_leaves_the_permit_open() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(connect(&server, limits(&[MONTH])).await);
    let id = admitted(&permits, 100).await;
    let wrong = permits.settle_at(id, Usage::new(1, 1).with_cached(2), NOW);
    assert!(matches!(wrong, Err(Error::UsageInvalid { .. })), "{wrong:?}");
    assert!(permits.settle_at(id, Usage::new(0, 10), NOW).is_ok());
    becomes(&permits, 990).await;
}

#[tokio::test]
async fn a_stream_that_brings_more_than_its_estimate_is_charged_while_it_runs_and_learns_that_a_limit_is_spent() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(connect(&server, limits(&[MONTH])).await);
    let id = admitted(&permits, 100).await;
    for _ in 0..10 {
        let observed = permits.observe_at(id, 0, 10, NOW).expect("open");
        assert!(!observed.spent, "within the estimate nobody is asked");
    }
    // Many at once: one call at a time tells all that has come.
    for _ in 0..90 {
        let _ = permits.observe_at(id, 0, 10, NOW).expect("open");
    }
    becomes(&permits, 0).await;
    until("it is known here", async || permits.observe_at(id, 0, 0, NOW).expect("open").spent).await;
    assert_eq!(lefts(&permits, id), [("month".to_owned(), 0)]);
    assert!(permits.settle_at(id, Usage::new(0, 950), NOW).is_ok());
    becomes(&permits, 50).await;
}

#[tokio::test]
async fn a_permit_that_the_server_has_forgotten_is_known_to_be_gone() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(connect(&server, limits(&[MONTH])).await);
    let [renewed, observed] = [admitted(&permits, 100).await, admitted(&permits, 100).await];
    assert_eq!(permits.renew_at(renewed, Duration::from_secs(60), NOW), Ok(()));
    server.command(&["FLUSHALL"]);
    until("renewing shows it", async || permits.renew_at(renewed, Duration::from_secs(60), NOW).is_err()).await;
    until("observing shows it", async || permits.observe_at(observed, 0, 101, NOW).is_err()).await;
    for id in [renewed, observed] {
        assert_eq!(permits.settle_at(id, Usage::new(0, 1), NOW).err(), Some(Error::PermitSettled { id }));
    }
    assert!(permits.is_empty());
}

#[tokio::test]
async fn without_the_server_it_is_decided_as_set_and_the_server_is_charged_afterwards() {
    let mut server = RedisServer::start();
    let denies = OpenPermits::new(connect(&server, limits(&[MONTH])).await);
    let allowing = patient(&server, limits(&[MONTH])).prefix("other").when_away(WhenAway::Allow);
    let allows = OpenPermits::new(up(allowing).await);
    server.kill();
    let request = Request::new("search", "gpt-4o");
    let estimate = Estimate::new(0, 100);
    until("it is known", async || matches!(denies.admit(&request, estimate).await, Err(Error::Store(_)))).await;
    let id = admitted(&allows, 100).await;
    assert!(lefts(&allows, id).is_empty());
    let _ = allows.observe_at(id, 0, 150, NOW).expect("open");
    assert!(allows.settle_at(id, Usage::new(0, 150), NOW).is_ok());
    server.restart();
    becomes(&allows, 850).await;
    becomes(&denies, 1000).await;
}

#[tokio::test]
async fn a_stream_that_was_admitted_without_the_server_is_charged_and_spent_when_it_is_back() {
    let mut server = RedisServer::start();
    let allowing = patient(&server, limits(&[MONTH])).when_away(WhenAway::Allow);
    let permits = OpenPermits::new(up(allowing).await);
    server.kill();
    until("it is known", async || {
        let _ = permits.look().await;
        !permits.limiter().stats().up
    })
    .await;
    let id = admitted(&permits, 100).await;
    server.restart();
    becomes(&permits, 900).await;
    let _ = permits.observe_at(id, 0, 1000, NOW).expect("open");
    becomes(&permits, 0).await;
    until("it is known here", async || permits.observe_at(id, 0, 0, NOW).expect("open").spent).await;
    assert!(permits.settle_at(id, Usage::new(0, 1000), NOW).is_ok());
    becomes(&permits, 0).await;
}

#[tokio::test]
async fn a_server_that_answers_and_decides_nothing_is_tried_with_back_off() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(connect(&server, limits(&[MONTH])).await);
    let held: Vec<PermitId> = [admitted(&permits, 10).await, admitted(&permits, 10).await].into();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    for id in held {
        assert!(permits.settle_at(id, Usage::new(0, 5), NOW).is_ok());
    }
    until("it is away", async || !permits.limiter().stats().up).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let stats = permits.limiter().stats();
    // 10, 20, 40 ... 640 ms, a third more or less each time; said once.
    assert_eq!((stats.outages, stats.recoveries), (1, 0));
    let connections = server.command(&["INFO", "stats"]);
    let connections = connections.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    let connections: u32 = connections.expect("a figure").trim().parse().expect("a number");
    assert!(connections < 60, "{connections}");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    becomes(&permits, 990).await;
    until("it is back", async || permits.limiter().stats().recoveries == 1).await;
}

#[tokio::test]
async fn what_leases_have_is_ended_in_this_process() {
    let server = RedisServer::start();
    let limiter = up(patient(&server, limits(&[MONTH])).leases(Leases::default())).await;
    let permits = OpenPermits::new(limiter);
    for _ in 0..50 {
        let id = admitted(&permits, 10).await;
        let _ = permits.observe_at(id, 0, 12, NOW).expect("open");
        assert!(permits.renew_at(id, Duration::from_secs(60), NOW).is_ok());
        assert!(permits.settle_at(id, Usage::new(0, 5), NOW).is_ok());
    }
    assert!(permits.limiter().flush(Duration::from_secs(10)).await);
    becomes(&permits, 750).await;
}

#[tokio::test]
async fn a_policy_put_in_force_applies_to_the_next_decision() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(connect(&server, Policy::default()).await);
    let free = admitted(&permits, 5000).await;
    assert!(permits.settle_at(free, Usage::new(0, 5000), NOW).is_ok());
    permits.put_in_force(limits(&[MONTH])).expect("in force");
    assert!(matches!(admit(&permits, 5000).await, Decided::Denied(denied) if denied.limit() == "month"));
}

#[tokio::test]
async fn a_look_shows_every_counter_as_the_server_has_it() {
    let server = RedisServer::start();
    // A prefix that a pattern would read as more than itself, and one that has it as a beginning.
    let other = connect(&server, limits(&[MONTH])).await;
    let policy = limits(&[
        MONTH,
        AT_ONCE,
        "name = 'minute'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 60\nper = '1m'\nburst = 500\nscope = ['project', 'key:user']",
    ]);
    let permits = OpenPermits::new(up(patient(&server, policy).prefix("[ab]*?\\")).await);
    for user in ["u1", "u2"] {
        let keys = [tokenweir::Key::new("user", user)];
        let request = Request::new("search", "gpt-4o").with_keys(&keys);
        let decided = permits.admit(&request, Estimate::new(0, 100)).await.expect("a decision");
        assert!(matches!(decided, Decided::Admitted(_)));
    }
    let _held = ask(&other, 7).await;
    assert!(permits.usage(&UsageFilter::default()).is_empty(), "nobody has looked");
    permits.look().await.expect("an answer");
    let mut seen: Vec<_> = permits.usage(&UsageFilter::default());
    seen.sort_by(|a, b| (&a.limit, &a.scope).cmp(&(&b.limit, &b.scope)));
    let shown: Vec<_> =
        seen.iter().map(|one| (one.limit.as_str(), one.scope.len(), one.amount, one.remaining)).collect();
    assert_eq!(shown[0], ("at once", 0, 3, 1));
    assert_eq!((shown[1].0, shown[1].1, shown[1].2), ("minute", 2, 500));
    assert!((400..=450).contains(&shown[1].3), "{shown:?}");
    assert_eq!(shown[3], ("month", 1, 1000, 800));
    assert_eq!((seen[3].used, seen[3].settled_total, seen.len()), (200, 200, 4));
    assert!(seen[3].resets_at.is_some() && seen[0].resets_at.is_none());
    let only = UsageFilter { limit: Some("minute".into()), scope: vec![("key:user".into(), b"u2".to_vec())] };
    assert_eq!(permits.usage(&only).len(), 1);
}

/// Places that the second limit has left.
async fn places(limiter: &RedisLimiter) -> i64 {
    limiter.remaining(&Request::new("search", "gpt-4o")).await.expect("an answer")[1].remaining
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_process_that_is_killed_are_free_soon_and_those_of_open_calls_are_held() {
    let server = RedisServer::start();
    let place_ttl = Duration::from_secs(2);
    let many = AT_ONCE.replace('3', "100");
    let builder = || patient(&server, limits(&[MONTH, &many])).place_ttl(place_ttl);
    let (killed, permits) = (up(builder()).await, OpenPermits::new(up(builder()).await));
    let lives = [admitted(&permits, 1).await, admitted(&permits, 1).await];
    // Alone and together; nobody hears of them any more.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let killed = killed.clone();
        tasks.spawn(async move { crate::stage::admitted(&killed, 1).await.into_id() });
    }
    let ids = tasks.join_all().await;
    until("they are free", async || places(permits.limiter()).await == 98).await;
    assert_eq!(left(permits.limiter()).await, 938, "what they are charged stands");
    // Whoever is there after all has its place again.
    let late = killed.permit(ids[0]).await.expect("a permit");
    late.renew(Duration::from_secs(60)).await.expect("renewed");
    assert_eq!(places(permits.limiter()).await, 97);
    late.settle(Usage::new(3, 0)).await.expect("settled");
    let held = std::time::Instant::now();
    while held.elapsed() < place_ttl * 3 {
        assert_eq!(places(permits.limiter()).await, 98);
        tokio::time::sleep(place_ttl / 20).await;
    }
    for id in lives {
        assert!(permits.settle_at(id, Usage::new(0, 1), NOW).is_ok());
    }
    until("they are free", async || places(permits.limiter()).await == 100).await;
    becomes(&permits, 936).await;
}
