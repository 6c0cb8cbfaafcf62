//! Streams that bring more than their estimates, by leases: charged while they run, told where a limit is spent, and exact in the
//! end, whatever the server does meanwhile.

use crate::leases::{by_lease, leasing};
use crate::open::{NOW, admitted, becomes, lefts};
use crate::stage::*;
use crate::support::RedisServer;
use std::time::Duration;
use tokenweir::elsewhere::Permits;
use tokenweir::{PermitId, Request, Usage};
use tokenweir_redis::{By, Error, Leases, OpenPermits, RedisLimiter, WhenAway};

const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the server has a record of any permit or lease.
fn has_records(server: &RedisServer) -> bool {
    !server.command(&["KEYS", "*}p*"]).starts_with("*0")
}

async fn charged(limiter: &RedisLimiter) -> u64 {
    limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap()[0].charged_total.expect("a sum")
}

/// Asks until a lease decides.
async fn open_by_lease(permits: &OpenPermits, tokens: u64) -> PermitId {
    let mut last = None;
    until("a lease decides", async || {
        let id = admitted(permits, tokens).await;
        // Ids that the server knows are even.
        last = (id.get() % 2 == 1).then_some(id);
        last.is_some() || permits.cancel_at(id, NOW).is_err()
    })
    .await;
    last.expect("a permit")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_brings_beyond_its_lease_is_charged_while_it_runs_and_given_back_if_it_was_not_used() {
    let server = RedisServer::start();
    let (exact, limiter) = (connect(&server, limits(&[MONTH])).await, leasing(&server, limits(&[MONTH])).await);
    let permit = by_lease(&limiter, 2).await;
    for _ in 0..40 {
        // At the end of it the lease has nothing more.
        let _ = permit.observe(10, 0).await.unwrap();
    }
    until("all of it is charged", async || left(&exact).await == 600).await;
    assert_eq!(permit.remaining()[0].remaining, 600);
    assert!(!permit.observe(0, 0).await.unwrap().spent);
    assert!(permit.observe(600, 0).await.unwrap().spent);
    assert!(!ask(&exact, 1).await.is_admitted());
    assert!(permit.settle(Usage::new(50, 0)).await.unwrap().told);
    assert!(limiter.flush(PATIENCE).await);
    assert_eq!((left(&exact).await, charged(&exact).await), (950, 50), "S5");
    assert!(!has_records(&server));
    // As do a cancel, an end that is not told, and a permit that is found by its id.
    let (cancelled, dropped, detached) =
        (by_lease(&limiter, 2).await, by_lease(&limiter, 2).await, by_lease(&limiter, 2).await);
    for permit in [&cancelled, &dropped, &detached] {
        let _ = permit.observe(200, 0).await.unwrap();
    }
    assert!(cancelled.cancel().await.unwrap().told);
    drop(dropped);
    let found = limiter.permit(detached.into_id()).await.unwrap();
    let _ = found.observe(100, 0).await.unwrap();
    found.settle(Usage::new(150, 0)).await.unwrap();
    assert!(limiter.flush(PATIENCE).await);
    assert_eq!(charged(&exact).await, 50 + 200 + 150);
    assert!(!has_records(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_waited_for_one_call_at_a_time_tells_all_and_the_end_comes_behind() {
    let server = RedisServer::start();
    let permits = OpenPermits::new(leasing(&server, limits(&[MONTH])).await);
    let id = open_by_lease(&permits, 2).await;
    assert!(lefts(&permits, id)[0].1 > 900, "what was left when it was leased");
    for _ in 0..1000 {
        let _ = permits.observe_at(id, 0, 1, NOW).expect("open");
    }
    becomes(&permits, 0).await;
    until("it is known here", async || permits.observe_at(id, 0, 0, NOW).expect("open").spent).await;
    assert_eq!(lefts(&permits, id), [("month".to_owned(), 0)]);
    assert!(permits.settle_at(id, Usage::new(0, 998), NOW).is_ok());
    assert!(permits.limiter().flush(PATIENCE).await);
    assert_eq!(charged(permits.limiter()).await, 998);
    assert!(!has_records(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_end_at_any_instant_of_a_call_that_tells() {
    let server = RedisServer::start();
    let year = "name = 'year'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1_000_000\nperiod = 'yearly'";
    let permits = OpenPermits::new(leasing(&server, limits(&[year])).await);
    const ROUNDS: u64 = 2000;
    for round in 0..ROUNDS {
        let id = open_by_lease(&permits, 1).await;
        // More than there is in any lease.
        for part in 0..round % 4 {
            let _ = permits.observe_at(id, 0, 200_000, NOW).expect("open");
            if part + 1 < round % 4 {
                std::thread::sleep(Duration::from_micros(round % 100));
            }
        }
        assert!(permits.settle_at(id, Usage::new(0, 3), NOW).is_ok());
        if round % 5 == 4 {
            until("all are told", async || permits.limiter().stats().untold == 0).await;
        }
    }
    assert!(permits.limiter().flush(PATIENCE).await);
    assert_eq!(charged(permits.limiter()).await, 3 * ROUNDS);
    assert!(!has_records(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_while_is_told_once_and_all_of_it() {
    let mut server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let builder = patient(&server, limits(&[MONTH])).deadline(Duration::from_secs(1));
    let builder = builder.back_off(Duration::from_millis(50)).when_away(WhenAway::Deny);
    let limiter = up(builder.leases(Leases::new().life(Duration::from_secs(60)))).await;
    let back = async || until("it is back", async || limiter.stats().up).await;
    // Killed before, while and after the stream is told of, and stopped while it is.
    let [before, between, ended] =
        [by_lease(&limiter, 1).await, by_lease(&limiter, 1).await, by_lease(&limiter, 1).await];
    let _ = between.observe(200, 0).await.unwrap();
    server.kill();
    until("it is known", async || {
        let _ = ask(&limiter, 999).await;
        !limiter.stats().up
    })
    .await;
    for permit in [&before, &between, &ended] {
        let _ = permit.observe(100, 0).await.unwrap();
    }
    assert!(!ended.settle(Usage::new(40, 0)).await.unwrap().told);
    server.restart();
    back().await;
    let _ = before.observe(1, 0).await.unwrap();
    assert!(before.settle(Usage::new(60, 0)).await.unwrap().told);
    assert!(between.settle(Usage::new(70, 0)).await.unwrap().told);
    assert!(limiter.flush(PATIENCE).await);
    assert_eq!(charged(&limiter).await, 40 + 60 + 70);
    let permit = by_lease(&limiter, 1).await;
    server.pause();
    // Unanswered, and carried out all the same when the server goes on.
    let _ = permit.observe(300, 0).await.unwrap();
    assert_eq!(permit.by(), By::Lease);
    assert!(!permit.settle(Usage::new(30, 0)).await.unwrap().told);
    server.resume();
    back().await;
    assert!(limiter.flush(PATIENCE).await);
    assert_eq!(charged(&limiter).await, 40 + 60 + 70 + 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_longer_than_its_permit_is_renewed_or_gone() {
    let server = RedisServer::start();
    let builder = patient(&server, limits(&[MONTH])).permit_ttl(Duration::from_millis(1500));
    let permits = OpenPermits::new(up(builder.leases(Leases::new())).await);
    let [renewed, gone] = [open_by_lease(&permits, 1).await, open_by_lease(&permits, 1).await];
    for id in [renewed, gone] {
        let _ = permits.observe_at(id, 0, 100, NOW).expect("open");
    }
    until("it is charged", async || {
        lefts(&permits, renewed)[0].1 <= 900
            && lefts(&permits, gone)[0].1 <= 900
            && charged(permits.limiter()).await >= 200
    })
    .await;
    assert_eq!(permits.renew_at(renewed, Duration::from_secs(60), NOW), Ok(()));
    let mut brought = 100;
    until("its time is over", async || {
        brought += 1;
        permits.observe_at(gone, 0, 1, NOW).is_err()
    })
    .await;
    assert!(permits.settle_at(gone, Usage::new(0, 1), NOW).is_err());
    let _ = permits.observe_at(renewed, 0, 10, NOW).expect("renewed");
    assert!(permits.settle_at(renewed, Usage::new(0, 7), NOW).is_ok());
    assert!(permits.limiter().flush(PATIENCE).await);
    let charged = charged(permits.limiter()).await;
    assert!((107..7 + brought + 1).contains(&charged), "{charged} of {brought}: what it had brought stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_renewed_while_its_first_call_is_on_its_way_lives_so_long() {
    let server = RedisServer::start();
    let builder = patient(&server, limits(&[MONTH])).permit_ttl(Duration::from_millis(1500));
    let permits = OpenPermits::new(up(builder.leases(Leases::new().life(Duration::from_millis(500)))).await);
    let id = open_by_lease(&permits, 1).await;
    let _ = permits.observe_at(id, 0, 200, NOW).expect("open");
    assert_eq!(permits.renew_at(id, Duration::from_secs(60), NOW), Ok(()));
    // Beyond the life that it was made with, and that of the lease.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(2300) {
        let _ = permits.observe_at(id, 0, 1, NOW).expect("open still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(permits.settle_at(id, Usage::new(0, 7), NOW).is_ok());
    assert!(permits.limiter().flush(PATIENCE).await);
    assert_eq!(charged(permits.limiter()).await, 7, "what it had of the lease came back, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_has_something_again_is_not_spent_and_an_error_names_the_permit() {
    let server = RedisServer::start();
    let (exact, limiter) = (connect(&server, limits(&[MONTH])).await, leasing(&server, limits(&[MONTH])).await);
    let (stream, large) = (by_lease(&limiter, 1).await, crate::stage::admitted(&exact, 800).await);
    until("it is spent", async || stream.observe(10, 0).await.unwrap().spent).await;
    assert!(large.cancel().await.unwrap().told);
    let again = by_lease(&limiter, 1).await;
    assert!(!stream.observe(1, 0).await.unwrap().spent, "a lease had it");
    assert!(stream.remaining()[0].remaining > 0);
    again.cancel().await.unwrap();
    // One that did not take part stays as it was.
    let output = "name = 'output'\nmeter = 'output'\nalgorithm = 'quota'\namount = 500\nperiod = 'monthly'";
    let both = leasing(&server, limits(&[MONTH, output])).await;
    let two = by_lease(&both, 1).await;
    assert!(two.observe(0, 600).await.unwrap().spent);
    assert!(two.observe(3, 0).await.unwrap().spent, "input has something, output has not");
    assert!(two.cancel().await.unwrap().told);
    server.command(&["FLUSHALL"]);
    let id = stream.id();
    let ended = stream.settle(Usage::new(5, 0)).await;
    assert!(
        matches!(ended, Err(Error::Engine(tokenweir::Error::PermitSettled { id: named })) if named == id),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_detached_and_never_ended_stays_charged_for_what_it_brought() {
    let mut server = RedisServer::with(&["--appendonly", "yes"]);
    let builder = patient(&server, limits(&[MONTH])).permit_ttl(Duration::from_millis(1500));
    let limiter = up(builder.leases(Leases::new().life(Duration::from_secs(60)))).await;
    let [told, untold] = [by_lease(&limiter, 1).await, by_lease(&limiter, 1).await];
    let _ = told.observe(300, 0).await.unwrap();
    server.kill();
    until("it is known", async || {
        let _ = limiter.remaining(&Request::new("search", "gpt-4o")).await;
        !limiter.stats().up
    })
    .await;
    let _ = untold.observe(200, 0).await.unwrap();
    let ids = [told.into_id(), untold.into_id()];
    server.restart();
    until("they are gone", async || {
        let counters = limiter.remaining(&Request::new("search", "gpt-4o")).await;
        limiter.flush(PATIENCE).await && counters.is_ok_and(|limits| limits[0].charged_total == Some(500))
    })
    .await;
    for id in ids {
        assert!(limiter.permit(id).await.is_err());
    }
}
