//! Permits that are settled by a process with another policy: against the counters that they charged.

use crate::stage::{AT_ONCE, admitted, connect, limits};
use crate::support::RedisServer;
use std::time::Duration;
use tokenweir::{Policy, Request, Usage};
use tokenweir_redis::{Error, RedisLimiter};

// So slow that nothing comes back while a test runs.
const BUCKET: &str = "name = 'bucket'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 1\nburst = 1000\nper = '366d'\nscope = ['project']";
const WINDOW: &str = "name = 'window'\nmeter = 'total'\nalgorithm = 'window'\namount = 1000\nper = '24h'";
const QUOTA: &str = "name = 'quota'\nmeter = 'input'\nalgorithm = 'quota'\namount = 1000\nperiod = 'weekly'\nweek_start = 'sunday'\ntime_zone = 'Asia/Kathmandu'\nscope = ['deployment']";
const EVERY: &str = "name = 'every'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1000\nperiod = { every = '900d' }";

fn all() -> Policy {
    limits(&[BUCKET, WINDOW, QUOTA, EVERY, AT_ONCE])
}

/// Policies that lack a limit or all, have other amounts, or the same names with other algorithms.
fn others() -> Vec<(&'static str, Policy)> {
    let amounts = |policy: &[&str], to: &str| {
        let changed: Vec<String> = policy.iter().map(|limit| limit.replace("= 1000", to).replace("= 3", to)).collect();
        limits(&changed.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let every = [BUCKET, WINDOW, QUOTA, EVERY, AT_ONCE];
    vec![
        ("the same", all()),
        ("no limits", Policy::default()),
        ("no bucket", limits(&[WINDOW, QUOTA, EVERY, AT_ONCE])),
        ("no window", limits(&[BUCKET, QUOTA, EVERY, AT_ONCE])),
        ("no quota", limits(&[BUCKET, WINDOW, AT_ONCE])),
        ("no places", limits(&[BUCKET, WINDOW, QUOTA, EVERY])),
        ("more", amounts(&every, "= 5000")),
        ("less", amounts(&every, "= 2")),
        ("another rate", limits(&[&BUCKET.replace("amount = 1\n", "amount = 40_000_000\n")])),
        ("other periods", limits(&[&BUCKET.replace("366d", "365d"), &WINDOW.replace("24h", "12h")])),
    ]
}

/// What each limit has left, and was charged in all.
async fn standing(limiter: &RedisLimiter) -> Vec<(i64, Option<u64>)> {
    let standing = limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
    standing.iter().map(|one| (one.remaining, one.charged_total)).collect()
}

fn used(used: u64, permits: i64) -> Vec<(i64, Option<u64>)> {
    let mut standing = vec![(1000 - used as i64, Some(used)); 4];
    standing.push((3 - permits, None));
    standing
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_used_comes_back_to_the_counters_that_were_charged() {
    let server = RedisServer::start();
    for (name, policy) in others() {
        let (here, there) = (connect(&server, all()).await, connect(&server, policy).await);
        let (one, other) = (admitted(&here, 100).await, admitted(&here, 200).await);
        assert_eq!(standing(&here).await, used(300, 2), "{name}");
        let ended = there.permit(one.into_id()).await.unwrap().settle(Usage::new(40, 0)).await.unwrap();
        assert!(ended.told && ended.settlement.input == 40, "{name}");
        assert_eq!(standing(&here).await, used(240, 1), "{name}");
        // The settler's amounts are not in force by that, so what was charged before still comes back.
        other.settle(Usage::new(70, 0)).await.unwrap();
        assert_eq!(standing(&here).await, used(110, 0), "{name}");
        server.command(&["FLUSHALL"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_beyond_the_estimate_is_charged_to_them() {
    let server = RedisServer::start();
    for (name, policy) in others() {
        let (here, there) = (connect(&server, all()).await, connect(&server, policy).await);
        let id = admitted(&here, 100).await.into_id();
        let permit = there.permit(id).await.unwrap();
        permit.renew(Duration::from_secs(3600)).await.unwrap();
        permit.observe(150, 0).await.unwrap();
        assert_eq!(standing(&here).await, used(150, 1), "{name}");
        let ended = permit.settle(Usage::new(180, 0)).await.unwrap();
        assert!(ended.told, "{name}");
        assert_eq!(standing(&here).await, used(180, 0), "{name}");
        assert!(matches!(there.permit(id).await, Err(Error::Engine(tokenweir::Error::PermitSettled { .. }))));
        server.command(&["FLUSHALL"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_has_gone_is_charged_the_excess_and_given_nothing() {
    let server = RedisServer::start();
    let forget = "for _, key in ipairs(redis.call('KEYS', '{tokenweir}c*')) do redis.call('DEL', key) end return 1";
    for (name, policy) in [("the same", all()), ("no limits", Policy::default())] {
        for (usage, left) in [(40, 0), (130, 30)] {
            let (here, there) = (connect(&server, all()).await, connect(&server, policy.clone()).await);
            let id = admitted(&here, 100).await.into_id();
            assert_eq!(server.command(&["EVAL", forget, "0"]), ":1\r\n");
            there.permit(id).await.unwrap().settle(Usage::new(usage, 0)).await.unwrap();
            assert_eq!(standing(&here).await, used(left, 0), "{name}");
            server.command(&["FLUSHALL"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_this_process_detached_is_settled_without_another_look() {
    let server = RedisServer::start();
    let limiter = connect(&server, all()).await;
    let id = admitted(&limiter, 100).await.into_id();
    limiter.set_policy(Policy::default()).unwrap();
    server.command(&["CONFIG", "RESETSTAT"]);
    limiter.permit(id).await.unwrap().settle(Usage::new(40, 0)).await.unwrap();
    let calls = server.command(&["INFO", "commandstats"]);
    assert!(!calls.contains("cmdstat_get:"), "{calls}");
    limiter.set_policy(all()).unwrap();
    assert_eq!(standing(&limiter).await, used(40, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_of_another_format_is_refused() {
    let server = RedisServer::start();
    let limiter = connect(&server, all()).await;
    let id = admitted(&limiter, 100).await.into_id();
    let key = format!("{{tokenweir}}p{:016x}", id.get());
    server.command(&["SETRANGE", &key, "0", "12345678"]);
    let other = connect(&server, Policy::default()).await;
    assert!(matches!(other.permit(id).await, Err(Error::Refused { .. })));
}
