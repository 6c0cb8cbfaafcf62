//! Faults under load, with and without leases: nobody waits beyond the deadline, the configured verdict, nothing over the bound,
//! recovery without help, and an account that fits.

use crate::stage::{limits, until};
use crate::support::{Network, RedisServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokenweir::{Estimate, Request, Usage};
use tokenweir_redis::{By, Decision, Error, Leases, RedisLimiter, Server, WhenAway};

const DEADLINE: Duration = Duration::from_millis(250);
const LIFE: Duration = Duration::from_millis(200);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);
const AMOUNT: u64 = 4000;
const CLIENTS: u64 = 2;

/// What all clients together saw.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    /// Admitted by the server or by what it had leased.
    admitted: AtomicU64,
    by_lease: AtomicU64,
    without: AtomicU64,
    unavailable: AtomicU64,
    /// The server has been out of reach for so long that nothing but the configured verdict may come.
    away: AtomicBool,
    wrong: AtomicU64,
}

async fn load(limiter: RedisLimiter, seen: Arc<Seen>, when_away: WhenAway) {
    while !seen.stop.load(Relaxed) {
        let (was_away, asked) = (seen.away.load(Relaxed), Instant::now());
        let decision = limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(1, 0)).await.unwrap();
        assert!(asked.elapsed() < DEADLINE + SLACK, "{decision:?} after {:?}", asked.elapsed());
        let by = decision.by();
        let verdict = match when_away {
            WhenAway::Deny => By::OutageDenied,
            WhenAway::Allow => By::OutageAllowed,
            _ => By::LocalShare,
        };
        if was_away && seen.away.load(Relaxed) && by != verdict {
            seen.wrong.fetch_add(1, Relaxed);
        }
        match decision {
            Decision::Admitted(permit) => {
                match by {
                    By::Server => seen.admitted.fetch_add(1, Relaxed),
                    By::Lease => {
                        seen.by_lease.fetch_add(1, Relaxed);
                        seen.admitted.fetch_add(1, Relaxed)
                    }
                    _ => seen.without.fetch_add(1, Relaxed),
                };
                let asked = Instant::now();
                // A server that was started again does not know it.
                let ended = permit.settle(Usage::new(1, 0)).await;
                assert!(
                    matches!(ended, Ok(_) | Err(Error::Engine(tokenweir::Error::PermitSettled { .. }))),
                    "{ended:?}"
                );
                assert!(asked.elapsed() < DEADLINE + SLACK);
            }
            Decision::Unavailable => {
                seen.unavailable.fetch_add(1, Relaxed);
            }
            Decision::Denied { .. } => {}
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// It is up, and has told the server all that it missed.
fn is_back(limiter: &RedisLimiter) -> bool {
    let stats = limiter.stats();
    stats.up && stats.recoveries == stats.outages
}

async fn faults(leases: Option<Leases>, when_away: WhenAway) {
    let mut server = RedisServer::start();
    let network = Network::to(server.port);
    let total = format!("name = 'total'\nmeter = 'requests'\nalgorithm = 'quota'\namount = {AMOUNT}\nperiod = 'never'");
    let policy = limits(&[&total]);
    let seen = Arc::new(Seen::default());
    let (mut limiters, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for _ in 0..CLIENTS {
        let address = Server::parse(&format!("redis://127.0.0.1:{}", network.port)).unwrap();
        let builder = RedisLimiter::builder(address, policy.clone()).deadline(DEADLINE).when_away(when_away);
        let builder = builder.back_off(Duration::from_millis(50));
        let builder = if let Some(leases) = leases { builder.leases(leases) } else { builder };
        let limiter = builder.connect().await.unwrap();
        until("it is up", async || limiter.stats().up).await;
        for _ in 0..4 {
            tasks.spawn(load(limiter.clone(), seen.clone(), when_away));
        }
        limiters.push(limiter);
    }
    for fault in ["paused", "cut off", "killed"] {
        tokio::time::sleep(Duration::from_millis(150)).await;
        match fault {
            "paused" => server.pause(),
            "cut off" => network.cut(),
            _ => server.kill(),
        }
        until("all know that it is away", async || limiters.iter().all(|limiter| !limiter.stats().up)).await;
        // What was leased before is spent for so long, and what was asked before has its deadline.
        tokio::time::sleep(LIFE + DEADLINE).await;
        seen.away.store(true, Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
        seen.away.store(false, Relaxed);
        match fault {
            "paused" => server.resume(),
            "cut off" => network.mend(),
            // It has forgotten everything: the limit is there once more.
            _ => server.restart(),
        }
        until("all have found it again", async || limiters.iter().all(is_back)).await;
    }
    // Until nothing is left, so that the bound is one.
    until("the limit is reached", async || {
        limiters[0].remaining(&Request::new("search", "gpt-4o")).await.is_ok_and(|standing| standing[0].remaining <= 0)
    })
    .await;
    seen.stop.store(true, Relaxed);
    tasks.join_all().await;
    let context = format!("{leases:?} {when_away:?}: {seen:?}");
    assert_eq!(seen.wrong.load(Relaxed), 0, "{context}");
    assert!(seen.admitted.load(Relaxed) <= 2 * AMOUNT, "{context}");
    assert_eq!(seen.by_lease.load(Relaxed) > 0, leases.is_some(), "{context}");
    let (mut requests, mut charged) = (0, 0);
    for limiter in &limiters {
        until("the server has been told all", async || {
            limiter.flush(Duration::from_secs(5)).await
                && limiter.stats().without_server.iter().all(|one| one.owed == 0)
        })
        .await;
        until("it is back", async || is_back(limiter)).await;
        // On a busy machine an answer may be late without a fault, which is an outage, too.
        let stats = limiter.stats();
        assert!(stats.outages >= 3, "{stats:?}");
        requests += stats.without_server.iter().map(|one| one.requests).sum::<u64>();
        charged += stats.without_server.iter().map(|one| one.charged).sum::<u64>();
    }
    // The account is of exactly what was admitted without the server.
    let without = seen.without.load(Relaxed);
    assert_eq!((requests, charged), (without, without), "{context}");
    match when_away {
        WhenAway::Deny => assert!(without == 0 && seen.unavailable.load(Relaxed) > 0, "{context}"),
        WhenAway::Allow => assert!(without > 0 && seen.unavailable.load(Relaxed) == 0, "{context}"),
        _ => assert!(without > 0 && without <= CLIENTS * AMOUNT / 100, "{context}"),
    }
}

async fn every_verdict(leases: Option<Leases>) {
    tokio::join!(
        faults(leases, WhenAway::Deny),
        faults(leases, WhenAway::Allow),
        faults(leases, WhenAway::LocalShare { per_mille: 10 })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_paused_cut_off_and_killed_under_load_costs_nobody_more_than_the_deadline() {
    every_verdict(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_leases() {
    every_verdict(Some(Leases::new().life(LIFE))).await;
}
