//! A server that is killed, stopped and started again: the configured verdict in time, nothing over the bound, and recovery
//! without help.

use crate::stage::{AT_ONCE, MONTH, admitted, ask, left, limits, until};
use crate::support::RedisServer;
use std::time::{Duration, Instant};
use tokenweir::{Policy, Usage};
use tokenweir_redis::{By, Decision, RedisLimiter, Server, WhenAway};

const DEADLINE: Duration = Duration::from_secs(1);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);

async fn limiter(server: &RedisServer, policy: Policy, when_away: WhenAway) -> RedisLimiter {
    with_deadline(DEADLINE, server, policy, when_away).await
}

async fn with_deadline(deadline: Duration, server: &RedisServer, policy: Policy, when_away: WhenAway) -> RedisLimiter {
    let builder = RedisLimiter::builder(Server::parse(&server.url()).unwrap(), policy).deadline(deadline);
    let limiter = builder.when_away(when_away).back_off(Duration::from_millis(50)).connect().await.unwrap();
    until("it is up", async || limiter.stats().up).await;
    limiter
}

/// A decision, which never takes longer than its deadline.
async fn in_time(limiter: &RedisLimiter, tokens: u64) -> Decision {
    let asked = Instant::now();
    let decision = ask(limiter, tokens).await;
    assert!(asked.elapsed() < DEADLINE + SLACK, "{decision:?} after {:?}", asked.elapsed());
    decision
}

async fn away(limiter: &RedisLimiter) {
    until("it is known to be away", async || {
        let _ = in_time(limiter, 0).await;
        !limiter.stats().up
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again_it_denies_in_between_and_goes_on() {
    let mut server = RedisServer::start();
    let limiter = limiter(&server, limits(&[MONTH]), WhenAway::Deny).await;
    for round in 1..=3 {
        assert!(in_time(&limiter, 1).await.is_admitted());
        server.kill();
        away(&limiter).await;
        for _ in 0..100 {
            let decision = in_time(&limiter, 1).await;
            assert_eq!((decision.by(), decision.is_admitted()), (By::OutageDenied, false));
        }
        server.restart();
        until("it decides again", async || in_time(&limiter, 1).await.is_admitted()).await;
        // When it has been told everything.
        until("it is back", async || limiter.stats().recoveries == round).await;
        let stats = limiter.stats();
        assert_eq!((stats.up, stats.outages), (true, round));
        assert!(stats.denied_by_outage >= 100 && stats.without_server.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_allowed_without_the_server_is_charged_when_it_is_back() {
    let mut server = RedisServer::start();
    let limiter = limiter(&server, limits(&[MONTH, AT_ONCE]), WhenAway::Allow).await;
    server.kill();
    away(&limiter).await;
    // (Asking whether it is away has admitted requests of nothing, which were dropped.)
    let before = limiter.stats().without_server[0].requests;
    let settled = admitted(&limiter, 300).await;
    let cancelled = admitted(&limiter, 300).await;
    let dropped = admitted(&limiter, 20).await;
    let open = admitted(&limiter, 900).await;
    let by_id = admitted(&limiter, 50).await;
    assert_eq!(open.by(), By::OutageAllowed);
    assert!(!settled.settle(Usage::new(100, 10)).await.unwrap().told);
    assert!(!cancelled.cancel().await.unwrap().told);
    drop(dropped);
    let id = by_id.into_id();
    let uses = limiter.stats().without_server;
    let month = uses.iter().find(|one| one.limit == "month").unwrap();
    assert_eq!((month.requests - before, month.charged, month.owed), (5, 110 + 20 + 900 + 50, 1080));
    server.restart();
    until("it is charged", async || {
        let stats = limiter.stats();
        stats.up && stats.without_server.iter().all(|one| one.owed == 0)
    })
    .await;
    assert_eq!(left(&limiter).await, 1000 - 1080, "debt");
    assert!(!in_time(&limiter, 1).await.is_admitted());
    // The ones that are still open are the server's now.
    assert!(open.settle(Usage::new(200, 0)).await.unwrap().told);
    assert!(limiter.permit(id).await.unwrap().settle(Usage::new(50, 0)).await.unwrap().told);
    assert!(limiter.permit(id).await.is_err());
    assert_eq!(left(&limiter).await, 1000 - 110 - 20 - 200 - 50);
    let standing = limiter.remaining(&tokenweir::Request::new("search", "gpt-4o")).await.unwrap();
    assert_eq!(standing[1].remaining, 3, "no place is held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_share_admits_so_much_and_no_more_however_many_outages_there_are() {
    let mut server = RedisServer::start();
    let limiter = limiter(&server, limits(&[MONTH]), WhenAway::LocalShare { per_mille: 100 }).await;
    let mut passed = 0;
    for _ in 0..3 {
        server.kill();
        away(&limiter).await;
        for _ in 0..60 {
            match in_time(&limiter, 3).await {
                Decision::Admitted(permit) => {
                    assert_eq!(permit.by(), By::LocalShare);
                    passed += 3;
                    permit.settle(Usage::new(3, 0)).await.unwrap();
                }
                Decision::Denied { denied, by } => {
                    assert_eq!((by, denied.limit(), denied.status()), (By::LocalShare, "month", 403));
                }
                Decision::Unavailable => panic!("the share decides"),
            }
        }
        server.restart();
        until("it is back and charged", async || {
            let stats = limiter.stats();
            stats.up && stats.without_server.iter().all(|one| one.owed == 0)
        })
        .await;
    }
    // A tenth of the month, less what does not fit.
    assert_eq!(passed, 99);
    assert_eq!(limiter.stats().without_server[0].charged, 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_keeps_nobody_waiting_and_what_it_took_meanwhile_is_given_back() {
    let server = RedisServer::start();
    let limiter = limiter(&server, limits(&[MONTH, AT_ONCE]), WhenAway::Deny).await;
    let permit = admitted(&limiter, 100).await;
    server.pause();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let limiter = limiter.clone();
        tasks.spawn(async move { in_time(&limiter, 10).await });
    }
    assert!(tasks.join_all().await.iter().all(|decision| decision.by() == By::OutageDenied));
    // Settled while it is stopped: told later.
    let asked = Instant::now();
    assert!(!permit.settle(Usage::new(70, 0)).await.unwrap().told);
    assert!(asked.elapsed() < DEADLINE + SLACK);
    away(&limiter).await;
    server.resume();
    until("it is back and has been told", async || {
        let stats = limiter.stats();
        stats.up && stats.untold == 0
    })
    .await;
    // The server has taken, once it went on, what nobody waited for any more: up to three requests had a place.
    until("everything is given back", async || left(&limiter).await == 930).await;
    let standing = limiter.remaining(&tokenweir::Request::new("search", "gpt-4o")).await.unwrap();
    assert_eq!(standing[1].remaining, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_kills_pauses_and_restarts_admit_nothing_over_the_limit() {
    let mut server = RedisServer::start();
    let day = "name = 'day'\nmeter = 'requests'\nalgorithm = 'window'\namount = 5000\nper = '24h'";
    // Shorter than it stands still below.
    let limiter = with_deadline(DEADLINE / 10, &server, limits(&[day]), WhenAway::Deny).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (limiter, stop) = (limiter.clone(), stop.clone());
        tasks.spawn(async move {
            let mut admitted = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                match in_time(&limiter, 1).await {
                    Decision::Admitted(permit) => {
                        admitted += 1;
                        let _ = permit.settle(Usage::new(1, 0)).await;
                    }
                    Decision::Denied { .. } => tokio::time::sleep(Duration::from_millis(1)).await,
                    Decision::Unavailable => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
            admitted
        });
    }
    let mut lives = 1;
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        if round % 2 == 0 {
            server.pause();
            tokio::time::sleep(Duration::from_millis(400)).await;
            server.resume();
        } else {
            // It comes back empty: each of its lives has the limit once.
            server.restart();
            lives += 1;
        }
        until("it decides again", async || !matches!(in_time(&limiter, 1).await, Decision::Unavailable)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let admitted: i64 = tasks.join_all().await.into_iter().sum();
    assert!(admitted > 0 && admitted <= 5000 * lives, "{admitted} in {lives} lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn permits_that_are_renewed_while_they_are_made_known_to_the_server_are_not_gone() {
    let mut server = RedisServer::start();
    let limiter = limiter(&server, limits(&[MONTH]), WhenAway::Allow).await;
    server.kill();
    away(&limiter).await;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(admitted(&limiter, 1).await);
    }
    server.restart();
    until("it is back", async || {
        for permit in &open {
            permit.renew(Duration::from_secs(60)).await.expect("it is open");
        }
        limiter.stats().up
    })
    .await;
    for permit in open {
        permit.renew(Duration::from_secs(60)).await.expect("it is open");
        permit.settle(Usage::new(2, 0)).await.expect("it is open");
    }
    assert!(limiter.flush(Duration::from_secs(20)).await);
    assert_eq!(left(&limiter).await, 600);
}
