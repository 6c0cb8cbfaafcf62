//! A primary with a replica, whom sentinels put in its place.

use crate::stage::{admitted, has_it_all, limits, until, up};
use crate::support::Sentinels;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokenweir::{Estimate, Request, Usage};
use tokenweir_redis::{Builder, Decision, Leases, RedisLimiter, Server};

const AMOUNT: u64 = 4000;
const DEADLINE: Duration = Duration::from_millis(500);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);

/// What all that ask one limiter saw.
#[derive(Debug, Default)]
struct Seen {
    admitted: AtomicU64,
    unavailable: AtomicU64,
    denied: AtomicBool,
}

async fn load(limiter: RedisLimiter, seen: Arc<Seen>) {
    while !seen.denied.load(Relaxed) {
        let asked = Instant::now();
        let decision = limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(1, 0)).await.unwrap();
        assert!(asked.elapsed() < DEADLINE + SLACK, "{decision:?} after {:?}", asked.elapsed());
        match decision {
            Decision::Admitted(permit) => {
                seen.admitted.fetch_add(1, Relaxed);
                permit.into_id();
            }
            Decision::Unavailable => {
                seen.unavailable.fetch_add(1, Relaxed);
            }
            Decision::Denied { .. } => seen.denied.store(true, Relaxed),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_under_load_is_replaced_without_help() {
    let mut sentinels = Sentinels::start();
    let total = format!("name = 'total'\nmeter = 'requests'\nalgorithm = 'quota'\namount = {AMOUNT}\nperiod = 'never'");
    let builder = |prefix: &str| -> Builder {
        let server = Server::parse(&(sentinels.url() + sentinels.login())).unwrap();
        let builder = RedisLimiter::builder(server, limits(&[&total])).prefix(prefix);
        builder.deadline(DEADLINE).back_off(Duration::from_millis(50))
    };
    let leases = Leases::new().life(Duration::from_millis(100));
    let limiters = [up(builder("exact")).await, up(builder("leased").leases(leases)).await];
    let mut tasks = tokio::task::JoinSet::new();
    let seen: Vec<Arc<Seen>> = limiters.iter().map(|_| Arc::default()).collect();
    for (limiter, seen) in limiters.iter().zip(&seen) {
        for _ in 0..4 {
            tasks.spawn(load(limiter.clone(), seen.clone()));
        }
    }
    until("there is load", async || seen.iter().all(|seen| seen.admitted.load(Relaxed) > 300)).await;
    let count = || seen.iter().map(|seen| seen.admitted.load(Relaxed)).collect::<Vec<_>>();
    sentinels.are_quick();
    let kept = count();
    has_it_all(&sentinels.primary, &sentinels.replica).await;
    sentinels.primary.kill();
    let at_kill = count();
    until("all know that it is away", async || limiters.iter().all(|limiter| !limiter.stats().up)).await;
    until("all have found the other", async || limiters.iter().all(|limiter| limiter.stats().up)).await;
    assert!(sentinels.replica.command(&["ROLE"]).contains("master"));
    // Until nothing is left, so that the bound is one.
    let results = tasks.join_all().await;
    assert_eq!(results.len(), 8);
    for (at, (limiter, seen)) in limiters.iter().zip(&seen).enumerate() {
        until("all is told", async || limiter.flush(Duration::from_secs(5)).await).await;
        let standing = limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
        let charged = standing[0].charged_total.unwrap();
        let admitted = seen.admitted.load(Relaxed);
        // What the replica had not been sent yet: some of the moments before the kill, and of leases what was taken then.
        let (lost, may_be) = (admitted.saturating_sub(charged), at_kill[at] - kept[at] + 500);
        println!("{admitted} admitted, {charged} charged, {lost} of {may_be} lost, {seen:?}, {:?}", limiter.stats());
        assert!(charged <= AMOUNT && lost <= may_be, "{admitted} admitted, {charged} charged, {may_be}, {seen:?}");
        assert!(seen.unavailable.load(Relaxed) > 0);
        until("it is back", async || limiter.stats().recoveries == limiter.stats().outages).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_replaced_and_still_decides_is_left_without_an_outage() {
    let sentinels = Sentinels::start();
    let server = Server::parse(&(sentinels.url() + sentinels.login())).unwrap();
    let never = "name = 'never'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 1_000_000\nperiod = 'never'";
    let limiter = up(RedisLimiter::builder(server, limits(&[never])).deadline(Duration::from_secs(5))).await;
    let seen = Arc::<Seen>::default();
    let mut tasks = tokio::task::JoinSet::new();
    (0..4).for_each(|_| drop(tasks.spawn(load(limiter.clone(), seen.clone()))));
    until("there is load", async || seen.admitted.load(Relaxed) > 100).await;
    // It goes on deciding until the sentinels tell it otherwise, which takes them eight seconds.
    sentinels.fail_over();
    let decides = |said: String| said.contains("cmdstat_evalsha:");
    until("the other one decides", async || sentinels.replica.asked(&["INFO", "commandstats"]).is_ok_and(decides))
        .await;
    seen.denied.store(true, Relaxed);
    tasks.join_all().await;
    let stats = limiter.stats();
    assert_eq!((stats.outages, stats.late, seen.unavailable.load(Relaxed)), (0, 0, 0), "{stats:?}");
    let standing = limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
    let (admitted, charged) = (seen.admitted.load(Relaxed), standing[0].charged_total.unwrap());
    println!("{admitted} admitted, {charged} charged by the other one");
    assert!(charged > 100 && charged <= admitted, "{admitted} admitted, {charged} charged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_found_by_its_sentinels_with_its_database_and_by_their_login() {
    let sentinels = Sentinels::start();
    let hour = "name = 'hour'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1000\nperiod = 'hourly'";
    let builder = |words: &str| {
        let server = Server::parse(&format!("{}/3{words}", sentinels.url())).unwrap();
        RedisLimiter::builder(server, limits(&[hour])).deadline(Duration::from_secs(5))
    };
    for (words, told) in
        [("", "no permissions"), ("?sentinel-user=gateway&sentinel-password=other", "uthentication failed")]
    {
        let limiter = builder(words).connect().await.unwrap();
        let says_so = || limiter.stats().why.is_some_and(|why| why.contains(told));
        until(told, async || says_so()).await;
    }
    // One that hangs keeps nobody from hearing the others.
    sentinels.sentinels[0].pause();
    let limiter = up(builder(sentinels.login())).await;
    admitted(&limiter, 100).await.settle(Usage::new(40, 0)).await.unwrap();
    assert!(sentinels.primary.command(&["INFO", "keyspace"]).contains("db3:keys=1,"));
}
