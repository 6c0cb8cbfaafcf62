//! Servers that permit little, forget, or have something else under a key.

use crate::stage::{MONTH, admitted, ask, connect, left, limits, patient, until, up};
use crate::support::RedisServer;
use std::time::Duration;
use tokenweir::{Estimate, Request, Usage};
use tokenweir_redis::{Error, RedisLimiter, Server};

const RULES: [&str; 4] = ["~{tokenweir}*", "+@all", "-@admin", "-script"];

async fn as_user(server: &RedisServer, rules: &[&str]) -> RedisLimiter {
    let mut command = vec!["ACL", "SETUSER", "gateway", "reset", "on", ">secret"];
    command.extend(RULES);
    command.extend(rules);
    assert!(server.command(&command).starts_with("+OK"));
    let address = format!("redis://gateway:secret@127.0.0.1:{}", server.port);
    let builder = RedisLimiter::builder(Server::parse(&address).unwrap(), limits(&[MONTH]));
    up(builder.deadline(Duration::from_secs(20))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_permits_no_script_commands_but_eval_is_enough() {
    let server = RedisServer::start();
    for rules in [&[][..], &["-evalsha"], &["-evalsha", "-ping", "-select", "-client"]] {
        server.command(&["FLUSHALL"]);
        let limiter = as_user(&server, rules).await;
        assert!(limiter.stats().up, "{rules:?}: {:?}", limiter.stats());
        let permit = admitted(&limiter, 100).await;
        permit.settle(Usage::new(40, 0)).await.unwrap();
        assert_eq!(left(&limiter).await, 960, "{rules:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_permits_no_scripts_at_all_is_an_error_that_says_so() {
    let server = RedisServer::start();
    let limiter = as_user(&server, &["-evalsha", "-eval"]).await;
    let error = limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(1, 0)).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { reason } if reason.contains("eval")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_or_a_database_that_is_wrong_is_an_outage_that_says_so_and_shows_no_password() {
    let server = RedisServer::with(&["--requirepass", "right"]);
    for (address, wanted) in [("redis://:false@127.0.0.1", "auth"), ("redis://:right@127.0.0.1", "database")] {
        let address = Server::parse(&format!("{address}:{}/99", server.port)).unwrap();
        let builder = RedisLimiter::builder(address, limits(&[MONTH])).deadline(Duration::from_secs(20));
        let limiter = builder.connect().await.unwrap();
        let why = || limiter.stats().why.unwrap_or_default();
        until(wanted, async || why().to_lowercase().contains(wanted)).await;
        let (why, stats) = (why(), limiter.stats());
        assert!(!stats.up, "{why}");
        let error = limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap_err();
        assert!(matches!(&error, Error::Away { reason } if reason.to_lowercase().contains(wanted)), "{error}");
        let error = error.to_string();
        assert!(error.contains("cannot be asked") && error.contains("correct the address"), "{error}");
        assert!(![&error, &why].iter().any(|text| text.contains("false") || text.contains("right")), "{error}");
    }
    let right = Server::parse(&format!("redis://:right@127.0.0.1:{}", server.port)).unwrap();
    let limiter = up(RedisLimiter::builder(right, limits(&[MONTH])).deadline(Duration::from_secs(20))).await;
    assert_eq!((limiter.stats().up, limiter.stats().why), (true, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_flushed_are_sent_again() {
    let server = RedisServer::start();
    let limiter = connect(&server, limits(&[MONTH])).await;
    for round in 1..=20 {
        server.command(&["SCRIPT", "FLUSH"]);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let limiter = limiter.clone();
            tasks.spawn(async move { admitted(&limiter, 1).await.settle(Usage::new(1, 0)).await.unwrap() });
        }
        assert!(tasks.join_all().await.iter().all(|ended| ended.told));
        assert_eq!(left(&limiter).await, 1000 - 10 * round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_everything_begins_anew_without_error() {
    let server = RedisServer::start();
    let limiter = connect(&server, limits(&[MONTH])).await;
    let permit = admitted(&limiter, 600).await;
    server.command(&["FLUSHALL"]);
    let error = permit.settle(Usage::new(500, 0)).await.unwrap_err();
    assert!(matches!(error, Error::Engine(tokenweir::Error::PermitSettled { .. })), "{error}");
    assert_eq!(left(&limiter).await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_under_a_key_is_an_error_that_names_it_and_nothing_is_charged() {
    let server = RedisServer::start();
    let hour = "name = 'hour'\nmeter = 'total'\nalgorithm = 'window'\namount = 1000\nper = '1h'";
    let places = "name = 'at once'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3";
    let policy = limits(&[MONTH, hour, places]);
    let limiter = connect(&server, policy.clone()).await;
    drop(admitted(&limiter, 10).await);
    assert!(limiter.flush(Duration::from_secs(20)).await);
    let keys = server.command(&["KEYS", "*c?\"*"]);
    let keys: Vec<&str> = keys.split("\r\n").filter(|line| line.starts_with('{')).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    let hour = keys.iter().find(|key| key.contains("hour")).unwrap();
    let place = hour.replace("hour", "at once").replace("total", "in_flight");
    let place = format!("{}[\"at once\",\"in_flight\",\"in_flight\",[]]", &place[..place.find('[').unwrap()]);
    for (key, put) in [
        (*hour, &["RPUSH", *hour, "1"][..]),
        (*hour, &["SET", *hour, "short"]),
        (*hour, &["SET", *hour, &"x".repeat(200)]),
        (place.as_str(), &["SET", place.as_str(), "a string"]),
    ] {
        server.command(&["DEL", key]);
        server.command(put);
        let error = limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(10, 0)).await.unwrap_err();
        let named = error.to_string().contains("hour") && error.to_string().contains("prefix");
        assert!(matches!(error, Error::Refused { .. }) && (named || key == place), "{error}");
        server.command(&["DEL", key]);
        // The other limits were not touched.
        assert_eq!(left(&limiter).await, 990, "{put:?}");
    }
    drop(ask(&limiter, 10).await);
    // A permit that is none.
    let permit = admitted(&limiter, 10).await;
    let id = permit.into_id();
    server.command(&["SET", &format!("{{tokenweir}}p{:016x}", id.get()), "something"]);
    let other = connect(&server, policy).await;
    assert!(matches!(other.permit(id).await, Err(Error::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_out_of_range_are_refused_before_anything_is_connected() {
    let server = RedisServer::start();
    let with = |change: fn(tokenweir_redis::Builder) -> tokenweir_redis::Builder| {
        change(patient(&server, limits(&[MONTH]))).connect()
    };
    for (result, setting) in [
        (with(|builder| builder.deadline(Duration::ZERO)).await, "deadline"),
        (with(|builder| builder.permit_ttl(Duration::MAX)).await, "permit_ttl"),
        (with(|builder| builder.back_off(Duration::ZERO)).await, "back_off"),
        (with(|builder| builder.prefix("a}b")).await, "prefix"),
        (with(|builder| builder.when_away(tokenweir_redis::WhenAway::LocalShare { per_mille: 0 })).await, "per_mille"),
    ] {
        assert!(matches!(&result, Err(Error::Setting { setting: named, .. }) if *named == setting), "{result:?}");
    }
}
