//! Several limiters on one server: limits hold over all of them, and permits belong to none.

use crate::stage::{AT_ONCE, MONTH, admitted, ask, connect, left, limits, patient, requests, up};
use crate::support::RedisServer;
use std::time::Duration;
use tokenweir::policy::ScopePart;
use tokenweir::{Estimate, Outcome, Request, Usage};
use tokenweir_redis::{BlockingDecision, By, Decision, Error, RedisLimiter};

/// So many of `each` requests by each of four clients were admitted.
async fn race(server: &RedisServer, policy: tokenweir::Policy, each: usize) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let limiter = connect(server, policy.clone()).await;
        tasks.spawn(async move {
            let mut asked = tokio::task::JoinSet::new();
            for _ in 0..each {
                let limiter = limiter.clone();
                asked.spawn(async move { ask(&limiter, 1).await });
            }
            asked.join_all().await
        });
    }
    let decisions = tasks.join_all().await;
    let admitted: Vec<_> = decisions.into_iter().flatten().filter_map(Decision::admitted).collect();
    assert!(admitted.iter().all(|permit| permit.by() == By::Server));
    admitted.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_clients_together_get_exactly_what_a_hot_limit_has() {
    let server = RedisServer::start();
    for algorithm in [
        "algorithm = 'quota'\namount = 700\nperiod = 'never'",
        "algorithm = 'window'\namount = 700\nper = '24h'",
        "algorithm = 'bucket'\namount = 1\nburst = 700\nper = '366d'",
    ] {
        assert_eq!(race(&server, requests(algorithm), 300).await, 700, "{algorithm}");
        server.command(&["FLUSHALL"]);
    }
    let places = limits(&["name = 'at once'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 700"]);
    assert_eq!(race(&server, places, 300).await, 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_is_settled_by_its_id_from_anywhere_exactly_once() {
    let server = RedisServer::start();
    let policy = limits(&[MONTH, AT_ONCE]);
    let (here, there) = (connect(&server, policy.clone()).await, connect(&server, policy).await);
    for round in 0..50 {
        let before = left(&here).await;
        let id = admitted(&here, 10).await.into_id();
        assert_eq!(left(&there).await, before - 10);
        let (one, other) = (here.permit(id).await.unwrap(), there.permit(id).await.unwrap());
        let (one, other) = tokio::join!(one.settle(Usage::new(4, 3)), other.settle(Usage::new(4, 3)));
        let results = [one, other];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "round {round}: {results:?}");
        let ended = results.iter().flatten().next().unwrap();
        assert!(ended.told && ended.settlement.outcome == Outcome::Settled && ended.settlement.id == id);
        assert_eq!(left(&here).await, before - 7);
        assert!(matches!(here.permit(id).await, Err(Error::Engine(tokenweir::Error::PermitSettled { .. }))));
    }
    // None holds a place, and nothing is lost.
    let standing = here.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
    assert_eq!((standing[0].charged_total, standing[1].charged_total), (Some(50 * 7), None));
    assert_eq!((standing[1].limit.as_str(), standing[1].remaining), ("at once", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_observed_renewed_or_dropped_is_told_to_the_server() {
    let server = RedisServer::start();
    let limiter = connect(&server, limits(&[MONTH, AT_ONCE])).await;
    admitted(&limiter, 400).await.cancel().await.unwrap();
    assert_eq!(left(&limiter).await, 1000);

    let permit = admitted(&limiter, 100).await;
    permit.renew(Duration::from_secs(3600)).await.unwrap();
    assert!(!permit.observe(60, 0).await.unwrap().spent);
    assert_eq!(left(&limiter).await, 900, "within the estimate nothing is charged");
    assert!(!permit.observe(60, 0).await.unwrap().spent);
    assert_eq!(left(&limiter).await, 880);
    assert!(permit.observe(880, 0).await.unwrap().spent, "a stream that has taken all");
    // Another process that finds the permit knows what was observed.
    let again = limiter.permit(permit.into_id()).await.unwrap();
    let ended = again.settle(Usage { input: None, ..Usage::new(0, 0) }).await.unwrap();
    assert_eq!((ended.settlement.input, ended.settlement.estimated), (1000, true));
    assert_eq!(left(&limiter).await, 0);

    server.command(&["FLUSHALL"]);
    drop(admitted(&limiter, 30).await);
    assert!(limiter.flush(Duration::from_secs(20)).await);
    let standing = limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
    assert_eq!((standing[0].remaining, standing[1].remaining), (970, 3), "the estimate stands, the place is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_nobody_settles_expires_and_its_estimate_stands() {
    let server = RedisServer::start();
    let limiter = up(patient(&server, limits(&[MONTH, AT_ONCE])).permit_ttl(Duration::from_secs(1))).await;
    let ids: Vec<_> = {
        let permits = [admitted(&limiter, 10).await, admitted(&limiter, 10).await, admitted(&limiter, 10).await];
        permits.into_iter().map(|permit| permit.into_id()).collect()
    };
    let Decision::Denied { denied, .. } = ask(&limiter, 10).await else { panic!("three places") };
    assert_eq!((denied.limit(), denied.status()), ("at once", 429));
    // S8: after the wait that was told, and not an instant earlier, by the server's clock.
    tokio::time::sleep(denied.retry_after().expect("a wait")).await;
    assert!(ask(&limiter, 10).await.is_admitted());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in ids {
        match limiter.permit(id).await {
            Ok(permit) => assert!(permit.settle(Usage::new(1, 0)).await.is_err()),
            Err(error) => assert!(matches!(error, Error::Engine(tokenweir::Error::PermitSettled { .. })), "{error}"),
        }
    }
    assert_eq!(left(&limiter).await, 960);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_takes_nothing_and_names_every_limit() {
    let server = RedisServer::start();
    let minute = "name = 'minute'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 600\nper = '1m'";
    let shadow = "name = 'watched'\nmeter = 'total'\nalgorithm = 'window'\namount = 500\nper = '1h'\nmode = 'shadow'";
    let limiter = connect(&server, limits(&[MONTH, minute, shadow])).await;
    let permit = admitted(&limiter, 600).await;
    assert_eq!(permit.shadow_refused(), ["watched"]);
    assert_eq!(permit.remaining()[0].remaining, 400);
    let Decision::Denied { denied, by } = ask(&limiter, 500).await else { panic!("too much") };
    assert_eq!(by, By::Server);
    let refused: Vec<_> = denied.refusals().map(|refusal| (refusal.limit, refusal.status)).collect();
    assert_eq!(refused, [("month", 403), ("minute", 429)]);
    let Decision::Denied { denied, .. } = ask(&limiter, 601).await else { panic!("too much") };
    assert!(denied.never_fits() && denied.retry_after().is_none());
    assert_eq!(left(&limiter).await, 400);
    permit.settle(Usage::new(600, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_keeps_what_was_consumed() {
    let server = RedisServer::start();
    let bucket = |amount, burst| {
        limits(&[&format!(
            "name = 'b'\nmeter = 'total'\nalgorithm = 'bucket'\namount = {amount}\nburst = {burst}\nper = '366d'"
        )])
    };
    let limiter = connect(&server, bucket(1, 100)).await;
    let permit = admitted(&limiter, 60).await;
    assert_eq!(left(&limiter).await, 40);
    limiter.set_policy(bucket(1, 1000)).unwrap();
    assert_eq!(left(&limiter).await, 40, "raised: not topped up");
    admitted(&limiter, 1).await.settle(Usage::new(1, 0)).await.unwrap();
    limiter.set_policy(bucket(1, 10)).unwrap();
    assert_eq!(left(&limiter).await, 10, "lowered: clamped to the brim");
    // What was charged under another capacity is not given back: the strict side.
    permit.settle(Usage::new(0, 0)).await.unwrap();
    assert_eq!(left(&limiter).await, 10);
    limiter.set_policy(limits(&[])).unwrap();
    assert_eq!(ask(&limiter, 10).await.by(), By::NoLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_may_be_spread_over_slots_by_a_part_of_their_scope() {
    let server = RedisServer::start();
    let limiter = up(patient(&server, limits(&[MONTH])).slot_by(ScopePart::Project)).await;
    let request = Request::new("}{odd%", "gpt-4o");
    let permit = limiter.admit(&request, Estimate::new(10, 0)).await.unwrap().admitted().unwrap();
    let id = permit.into_id();
    // Who does not know the permit has to know its slot.
    let other = up(patient(&server, limits(&[MONTH])).slot_by(ScopePart::Project)).await;
    assert!(matches!(other.permit(id).await, Err(Error::AcrossSlots { .. })));
    other.permit_for(id, &request).await.unwrap().cancel().await.unwrap();
    assert!(limiter.permit(id).await.unwrap().cancel().await.is_err());
    let keys = server.command(&["KEYS", "*"]);
    assert!(keys.contains("{tokenweir:%7d%7bodd%25}c"), "{keys}");
    let refused = patient(&server, limits(&[AT_ONCE])).slot_by(ScopePart::Project).connect().await;
    assert!(matches!(refused, Err(Error::AcrossSlots { limit, .. }) if limit == "at once"));
}

#[test]
fn a_program_without_a_runtime_has_the_same() {
    let server = RedisServer::start();
    let limiter = patient(&server, limits(&[MONTH])).connect_blocking().unwrap();
    let request = Request::new("search", "gpt-4o");
    let BlockingDecision::Admitted(permit) = limiter.admit(&request, Estimate::new(600, 0)).unwrap() else {
        panic!("there is room")
    };
    let BlockingDecision::Denied { denied, .. } = limiter.admit(&request, Estimate::new(600, 0)).unwrap() else {
        panic!("there is no room")
    };
    assert_eq!((denied.status(), denied.limit()), (403, "month"));
    let permit = limiter.permit(permit.into_id()).unwrap();
    assert!(permit.settle(Usage::new(100, 50)).unwrap().told);
    assert_eq!(limiter.remaining(&request).unwrap()[0].remaining, 850);
    let BlockingDecision::Admitted(permit) = limiter.admit(&request, Estimate::new(50, 0)).unwrap() else {
        panic!("there is room")
    };
    drop(permit);
    assert!(limiter.flush(Duration::from_secs(20)).unwrap());
    assert!(limiter.stats().unwrap().up);
    assert_eq!(limiter.remaining(&request).unwrap()[0].remaining, 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_was_detached_here_is_found_here_with_what_it_has_observed() {
    let server = RedisServer::start();
    let limiter = connect(&server, limits(&[MONTH])).await;
    let id = admitted(&limiter, 100).await.into_id();
    // Within the estimate the server is not told.
    for _ in 0..2 {
        let permit = limiter.permit(id).await.unwrap();
        permit.observe(0, 70).await.unwrap();
        assert_eq!(permit.into_id(), id);
    }
    let ended = limiter.permit(id).await.unwrap().settle(Usage::UNKNOWN).await.unwrap();
    assert_eq!((ended.settlement.input, ended.settlement.output), (100, 140));
    assert!(limiter.permit(id).await.is_err());
    // Nobody but this process knows of a request that no limit counts.
    let free = connect(&server, tokenweir::Policy::default()).await;
    let permit = admitted(&free, 5).await;
    assert_eq!(permit.by(), By::NoLimit);
    assert!(free.permit(permit.into_id()).await.unwrap().settle(Usage::new(5, 0)).await.unwrap().told);
}

#[test]
fn outside_of_a_runtime_it_says_so() {
    let server = tokenweir_redis::Server::parse("redis://127.0.0.1:1").unwrap();
    let connecting = RedisLimiter::builder(server, limits(&[MONTH])).connect();
    let mut connecting = std::pin::pin!(connecting);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = connecting.as_mut().poll(&mut context) else { panic!("it waits for nothing") };
    assert!(matches!(result, Err(Error::Runtime { .. })));
}
