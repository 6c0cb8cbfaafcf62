//! Limiters that lease: never over the limit in all, nothing stranded, and what becomes of leases when somebody dies.

use crate::stage::{MONTH, admitted, ask, connect, left, limits, patient, requests, until, up};
use crate::support::RedisServer;
use std::time::{Duration, Instant};
use tokenweir::{Estimate, Policy, Request, Usage};
use tokenweir_redis::{By, Decision, Leases, RedisLimiter, WhenAway};

const LIFE: Duration = Duration::from_millis(200);

pub async fn leasing(server: &RedisServer, policy: Policy) -> RedisLimiter {
    up(patient(server, policy).leases(Leases::new().life(LIFE))).await
}

/// Asks until a lease decides.
pub async fn by_lease(limiter: &RedisLimiter, tokens: u64) -> tokenweir_redis::Permit {
    let mut last = None;
    until("a lease decides", async || {
        let permit = admitted(limiter, tokens).await;
        let leased = permit.by() == By::Lease;
        if leased {
            last = Some(permit);
        } else {
            permit.cancel().await.unwrap();
        }
        leased
    })
    .await;
    last.expect("a permit")
}

/// What one client was admitted by leases and by the server, until nothing fits any more.
async fn hammer(limiter: RedisLimiter, seed: u64) -> (u64, u64) {
    let (mut by_lease, mut by_server, mut denied, mut number) = (0, 0, 0, seed);
    // What others have leased may come back: denied for two lives of a lease.
    while denied < 20 {
        number += 1;
        let (estimate, used) = (1 + number * 7 % 40, number * 3 % 40);
        let estimate = if denied > 0 { 1 } else { estimate };
        match ask(&limiter, estimate).await {
            Decision::Admitted(permit) => {
                let by = permit.by();
                let used = used.min(estimate);
                permit.settle(Usage::new(used, 0)).await.unwrap();
                *(if by == By::Lease { &mut by_lease } else { &mut by_server }) += used;
            }
            _ => {
                denied += 1;
                tokio::time::sleep(LIFE / 10).await;
            }
        }
    }
    (by_lease, by_server)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_clients_that_lease_get_all_of_a_hot_limit_and_never_more() {
    let server = RedisServer::start();
    const AMOUNT: u64 = 300_000;
    for algorithm in ["quota'\nperiod = 'never'", "window'\nper = '24h'", "bucket'\nburst = 300_000\nper = '366d'"] {
        let amount = if algorithm.starts_with("bucket") { 1 } else { AMOUNT };
        let text = format!("name = 'hot'\nmeter = 'total'\namount = {amount}\nalgorithm = '{algorithm}");
        let policy = limits(&[&text]);
        let mut tasks = tokio::task::JoinSet::new();
        let mut limiters = Vec::new();
        for seed in 0..4 {
            let limiter = leasing(&server, policy.clone()).await;
            limiters.push(limiter.clone());
            tasks.spawn(hammer(limiter, seed));
        }
        let sums = tasks.join_all().await;
        let (by_lease, by_server) = sums.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let all = by_lease + by_server;
        assert!(all <= AMOUNT, "{algorithm}: {all}");
        // A bucket gives back by its ticks only; windows and quotas give back everything.
        let least = if algorithm.starts_with("bucket") { AMOUNT * 95 / 100 } else { AMOUNT * 98 / 100 };
        assert!(all >= least, "{algorithm}: {all} of {AMOUNT}, {by_server} by the server");
        assert!(by_lease > AMOUNT / 2, "{algorithm}: {by_lease} by leases, {by_server} by the server");
        for limiter in &limiters {
            assert!(limiter.flush(Duration::from_secs(20)).await);
            assert!(limiter.stats().leases > 0);
        }
        let total = limiters[0].remaining(&Request::new("search", "gpt-4o")).await.unwrap()[0].charged_total;
        assert_eq!(total, Some(all), "S5, {algorithm}");
        server.command(&["FLUSHALL"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_leased_and_not_used_comes_back_when_its_time_is_over() {
    let server = RedisServer::start();
    let (exact, limiter) = (connect(&server, limits(&[MONTH])).await, leasing(&server, limits(&[MONTH])).await);
    let first = by_lease(&limiter, 3).await;
    let second = by_lease(&limiter, 2).await;
    assert!(left(&exact).await < 995, "more is leased than was asked for");
    // Both are open still, as long calls are: the rest comes back, what they hold does not.
    until("the rest is back", async || left(&exact).await == 995).await;
    assert!(first.settle(Usage::new(1, 0)).await.unwrap().told);
    until("what was not used is back", async || left(&exact).await == 997).await;
    second.settle(Usage::new(2, 8)).await.unwrap();
    until("what was used beyond the estimate is charged", async || left(&exact).await == 989).await;
    // A clean end gives all back at once, and what is dropped stays charged.
    drop(by_lease(&limiter, 4).await);
    assert!(limiter.flush(Duration::from_secs(20)).await);
    assert_eq!(left(&exact).await, 985);
    let standing = exact.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
    assert_eq!(standing[0].charged_total, Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_also_gives_back_the_lease_that_was_on_its_way() {
    let server = RedisServer::start();
    let leases = Leases::new().life(Duration::from_secs(60));
    let limiter = up(patient(&server, limits(&[MONTH])).leases(leases)).await;
    let exact = connect(&server, limits(&[MONTH])).await;
    for round in 1..=50 {
        // The third asks for a lease, or for the next one.
        for _ in 0..4 {
            admitted(&limiter, 1).await.settle(Usage::new(1, 0)).await.unwrap();
        }
        assert!(limiter.flush(Duration::from_secs(20)).await);
        assert_eq!(left(&exact).await, 1000 - 4 * round);
    }
    assert!(limiter.stats().leases > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_by_a_lease_is_settled_by_its_id_once() {
    let server = RedisServer::start();
    let limiter = leasing(&server, limits(&[MONTH])).await;
    let id = by_lease(&limiter, 10).await.into_id();
    let permit = limiter.permit(id).await.unwrap();
    assert_eq!(permit.by(), By::Lease);
    assert!(limiter.permit(id).await.is_err(), "somebody has it");
    permit.observe(6, 0).await.unwrap();
    permit.renew(Duration::from_secs(60)).await.unwrap();
    let id = permit.into_id();
    limiter.permit(id).await.unwrap().settle(Usage::new(7, 0)).await.unwrap();
    assert!(limiter.permit(id).await.is_err());
    assert!(limiter.flush(Duration::from_secs(20)).await);
    assert_eq!(left(&limiter).await, 993);
    // A stream that brings more than its estimate is charged as it comes.
    let permit = by_lease(&limiter, 1).await;
    permit.observe(40, 0).await.unwrap();
    permit.settle(Usage::new(40, 0)).await.unwrap();
    until("it is charged", async || {
        limiter.flush(Duration::from_secs(20)).await;
        left(&limiter).await == 953
    })
    .await;
    assert!(permit_of_everything(&limiter).await);
}

/// Whether a request for all that is left passes, whatever was leased before.
async fn permit_of_everything(limiter: &RedisLimiter) -> bool {
    drop(by_lease(limiter, 1).await);
    let rest = left(limiter).await;
    // What is leased here is left, too: all of it is 952.
    assert!(rest < 952);
    ask(limiter, 952).await.is_admitted() && !ask(limiter, 1).await.is_admitted()
}

#[test]
fn what_a_process_had_leased_that_dies_counts_as_spent() {
    let server = RedisServer::start();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dying = runtime();
    let limiter = dying.block_on(async {
        let limiter = leasing(&server, limits(&[MONTH])).await;
        drop(by_lease(&limiter, 5).await);
        limiter
    });
    // All that it does stops at once, and nothing is told.
    dying.shutdown_background();
    runtime().block_on(async {
        let exact = connect(&server, limits(&[MONTH])).await;
        tokio::time::sleep(LIFE * 3).await;
        let rest = left(&exact).await;
        assert!(rest < 995, "{rest}");
        assert!(ask(&exact, rest as u64).await.is_admitted() && !ask(&exact, 1).await.is_admitted());
    });
    drop(limiter);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_cannot_be_leased_are_decided_by_the_server() {
    let server = RedisServer::start();
    let places = "name = 'at once'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3";
    let limiter = leasing(&server, limits(&[MONTH, places])).await;
    for _ in 0..50 {
        let permit = admitted(&limiter, 1).await;
        assert_eq!(permit.by(), By::Server);
        permit.settle(Usage::new(1, 0)).await.unwrap();
    }
    assert_eq!((limiter.stats().leases, left(&limiter).await), (0, 950));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_what_was_leased_for_its_life_and_then_the_configured_verdict() {
    let mut server = RedisServer::start();
    for when_away in [WhenAway::Deny, WhenAway::Allow, WhenAway::LocalShare { per_mille: 100 }] {
        let builder = patient(&server, limits(&[MONTH])).deadline(Duration::from_secs(1));
        let builder = builder.back_off(Duration::from_millis(50)).when_away(when_away).leases(Leases::new().life(LIFE));
        let limiter = up(builder).await;
        let open = by_lease(&limiter, 2).await;
        server.kill();
        let killed = Instant::now();
        let (mut leased, mut without, mut denied) = (0, 0, 0);
        while killed.elapsed() < LIFE * 3 {
            let asked = Instant::now();
            let decision = ask(&limiter, 1).await;
            assert!(asked.elapsed() < Duration::from_secs(2));
            match decision.by() {
                By::Lease => {
                    assert!(asked < killed + LIFE + Duration::from_millis(50), "{:?}", killed.elapsed());
                    leased += 1;
                }
                By::OutageDenied => denied += 1,
                By::OutageAllowed => without += 1,
                By::LocalShare if decision.is_admitted() => without += 1,
                By::LocalShare => denied += 1,
                by => panic!("{by:?} while it is away"),
            }
            drop(decision);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(leased <= 125, "no more than one part in eight of the month: {leased}");
        match when_away {
            WhenAway::Deny => assert!(without == 0 && denied > 0),
            WhenAway::Allow => assert!(without > 0 && denied == 0),
            _ => assert!(without > 0 && without <= 100, "{without}"),
        }
        assert!(open.settle(Usage::new(1, 0)).await.is_ok());
        server.restart();
        until("it decides again", async || ask(&limiter, 1).await.by() == By::Server).await;
        until("what was admitted without it is charged", async || {
            limiter.stats().without_server.iter().all(|one| one.owed == 0)
        })
        .await;
        let charged: u64 = limiter.stats().without_server.iter().map(|one| one.charged).sum();
        assert!(charged >= without, "{charged} of {without}");
        until("leases come back", async || !matches!(by_lease(&limiter, 1).await.by(), By::Server)).await;
        assert!(limiter.flush(Duration::from_secs(20)).await);
        server.command(&["FLUSHALL"]);
    }
}

/// Admissions of requests of one token: each happened between these two instants.
async fn record(limiter: RedisLimiter, for_so_long: Duration) -> Vec<(f64, f64)> {
    let wall = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let (began, mut admissions) = (Instant::now(), Vec::new());
    while began.elapsed() < for_so_long {
        let before = wall();
        if let Decision::Admitted(permit) = limiter.admit(&Request::new("p", "d"), Estimate::new(1, 0)).await.unwrap() {
            admissions.push((before, wall()));
            drop(permit);
        } else {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    admissions
}

/// The most admissions that surely lie within an interval of this length.
fn fullest(mut admissions: Vec<(f64, f64)>, length: f64) -> usize {
    admissions.sort_by(|one, other| one.0.total_cmp(&other.0));
    let from = |at: usize| {
        let begins = admissions[at].0;
        let near = admissions[at..].iter().take_while(|one| one.0 <= begins + length);
        near.filter(|one| one.1 <= begins + length).count()
    };
    (0..admissions.len()).map(from).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_stretch_an_interval_by_their_life_and_by_nothing_else() {
    let server = RedisServer::start();
    let run = async |algorithm: &str| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let limiter = leasing(&server, requests(algorithm)).await;
            tasks.spawn(record(limiter, Duration::from_secs(3)));
        }
        let admissions: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert!(admissions.len() >= 500, "{algorithm}: {}", admissions.len());
        server.command(&["FLUSHALL"]);
        admissions
    };
    let life = LIFE.as_secs_f64();
    // Less than the window by the life of a lease.
    let window = run("algorithm = 'window'\namount = 500\nper = '1s'\nsub_windows = 10").await;
    let most = fullest(window, 1.0 - life);
    assert!(most <= 500, "window: {most}");
    let bucket = run("algorithm = 'bucket'\namount = 500\nburst = 200\nper = '1s'").await;
    for length in [0.1, 0.5, 1.0] {
        let most = fullest(bucket.clone(), length);
        assert!(most as f64 <= 200.0 + 500.0 * (length + life) + 1.0, "bucket: {most} in {length} s");
    }
    // A quota is not stretched at all.
    let quota =
        run("algorithm = 'quota'\namount = 500\nperiod = { every = '1s', anchor = '2026-01-01T00:00:00Z' }").await;
    let surely = quota.iter().filter(|one| one.0.floor() == one.1.floor());
    let mut periods = std::collections::BTreeMap::<u64, usize>::new();
    surely.for_each(|one| *periods.entry(one.0 as u64).or_default() += 1);
    assert!(periods.values().all(|admitted| *admitted <= 500), "{periods:?}");
}
