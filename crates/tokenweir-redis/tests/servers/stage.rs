//! What the tests share: policies, limiters, and what a limiter is asked.

use crate::support::RedisServer;
use std::time::Duration;
use tokenweir::{Estimate, Policy, Request};
use tokenweir_redis::{Builder, Decision, Permit, RedisLimiter, Server};

/// One limit for all, of requests.
pub fn requests(algorithm: &str) -> Policy {
    limits(&[&format!("name = 'hot'\nmeter = 'requests'\n{algorithm}")])
}

/// A policy of these limits.
pub fn limits(limits: &[&str]) -> Policy {
    let text: Vec<String> = limits.iter().map(|limit| format!("[[limit]]\n{limit}\n")).collect();
    Policy::from_toml(&text.concat()).expect("a policy")
}

pub const MONTH: &str =
    "name = 'month'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1000\nperiod = 'monthly'\nscope = ['project']";
pub const AT_ONCE: &str = "name = 'at once'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3";

/// A limiter that waits long: for tests that are not about waiting.
pub fn patient(server: &RedisServer, policy: Policy) -> Builder {
    RedisLimiter::builder(Server::parse(&server.url()).expect("an address"), policy).deadline(Duration::from_secs(20))
}

pub async fn connect(server: &RedisServer, policy: Policy) -> RedisLimiter {
    up(patient(server, policy)).await
}

/// A limiter that has reached its server, however slow the machine is.
pub async fn up(builder: Builder) -> RedisLimiter {
    let limiter = builder.connect().await.expect("a limiter");
    until("the server is reached", async || limiter.stats().up).await;
    limiter
}

pub async fn ask(limiter: &RedisLimiter, tokens: u64) -> Decision {
    limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(tokens, 0)).await.expect("a decision")
}

pub async fn admitted(limiter: &RedisLimiter, tokens: u64) -> Permit {
    let decision = ask(limiter, tokens).await;
    let shown = format!("{decision:?}");
    decision.admitted().unwrap_or_else(|| panic!("{shown}"))
}

/// What the first limit has left.
pub async fn left(limiter: &RedisLimiter) -> i64 {
    limiter.remaining(&Request::new("search", "gpt-4o")).await.expect("an answer")[0].remaining
}

/// Waits, about a minute at the most, until this is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..12_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to this in time: {what}");
}

/// Waits until the replica has all that the primary has decided so far.
pub async fn has_it_all(primary: &RedisServer, replica: &RedisServer) {
    let offset = primary.offset();
    until("the replica has it", async || replica.offset() >= offset).await;
}
