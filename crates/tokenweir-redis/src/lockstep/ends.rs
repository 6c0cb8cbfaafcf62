//! Permits that are ended by one call, beside the same ones ended each by its own: every answer and every counter is the same, to
//! the byte.

use super::returns::Random;
use super::servers::RedisServer;
use super::trace::START;
use crate::answer::Status;
use crate::limiter::{Inner, RedisLimiter};
use crate::plan::Plan;
use crate::script::Scripts;
use crate::server::{Connection, Server};
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{Estimate, Policy, Request};

const POLICY: &str = "
    [[limit]]
    name = 'bucket'
    meter = 'total'
    algorithm = 'bucket'
    amount = 30_000
    burst = 3000
    per = '1m'
    [[limit]]
    name = 'window'
    meter = 'total'
    algorithm = 'window'
    amount = 40_000
    per = '10s'
    sub_windows = 10
    [[limit]]
    name = 'shadow'
    meter = 'total'
    algorithm = 'bucket'
    amount = 600
    per = '1m'
    mode = 'shadow'
    [[limit]]
    name = 'hour'
    meter = 'input'
    algorithm = 'quota'
    amount = 400_000
    period = { every = '13s' }
    [[limit]]
    name = 'places'
    meter = 'in_flight'
    algorithm = 'in_flight'
    amount = 25
";

struct Store {
    limiter: RedisLimiter,
    plan: Arc<Plan>,
}

impl Store {
    async fn new(server: &RedisServer, prefix: &str) -> Self {
        let policy = Policy::from_toml(POLICY).unwrap();
        let mut builder = RedisLimiter::builder(Server::parse(&server.url()).unwrap(), policy).prefix(prefix);
        builder.scripts = Scripts::with_clock("clock");
        let builder = builder.deadline(Duration::from_secs(20)).permit_ttl(Duration::from_secs(8));
        let limiter = builder.connect().await.unwrap();
        let plan = limiter.inner.rules.load().plan(&Request::new("search", "gpt-4o")).unwrap();
        Store { limiter, plan }
    }

    fn inner(&self) -> &Inner {
        &self.limiter.inner
    }

    async fn admit(&self, id: u64, n: u64) -> bool {
        let charges = [n, n, n, n, 1];
        let asked = (id, Estimate::new(n, 0));
        let mode = (0.0, self.inner().permit_ttl);
        self.inner().ask((&self.plan, &charges), asked, mode, self.inner().by()).await.unwrap().status == Status::Done
    }

    /// Every counter as it is kept.
    async fn counters(&self) -> Vec<redis::Value> {
        let mut own = Connection::clone(&self.inner().link.connection().unwrap());
        let mut counters = Vec::new();
        for leg in &self.plan.legs {
            let mut command = redis::cmd(if leg.kind.is_in_flight() { "ZRANGE" } else { "GET" });
            command.arg(&leg.key);
            if leg.kind.is_in_flight() {
                command.arg("0").arg("-1").arg("WITHSCORES");
            }
            counters.push(self.inner().link.send(&mut own, &command, self.inner().by()).await.unwrap());
        }
        counters
    }
}

/// How often permits were ended, given back, charged more, and found to be over.
async fn life(server: &RedisServer, seed: u64) -> [u64; 4] {
    server.command(&["FLUSHALL"]);
    let (mut now, mut random, mut seen) = (START as u64 / 1000, Random(seed), [0; 4]);
    server.command(&["SET", "clock", &now.to_string()]);
    let (alone, together) = (Store::new(server, "alone").await, Store::new(server, "together").await);
    let mut open = Vec::new();
    for _ in 0..40 {
        now += random.below(1_500_000) * random.below(2);
        server.command(&["SET", "clock", &now.to_string()]);
        for _ in 0..random.below(5) {
            let (id, n) = (alone.inner().ids.next(true).get(), 1 + random.below(700));
            let admitted = alone.admit(id, n).await;
            assert_eq!(admitted, together.admit(id, n).await, "seed {seed}");
            if admitted {
                open.push((id, n));
            }
        }
        let mut ends = Vec::new();
        while !open.is_empty() && random.below(3) > 0 {
            let (id, n) = open.swap_remove(random.below(open.len() as u64) as usize);
            let used = random.below(2 * n);
            // Some are ended twice, by two that have found them.
            for _ in 0..1 + random.below(8) / 7 {
                ends.push((id, vec![used, used, used, used, 1]));
            }
            seen[if used < n { 1 } else { 2 }] += 1;
        }
        if ends.len() < 2 {
            ends.extend([(2, vec![1; 5]), (4, vec![1; 5])]);
        }
        let mut statuses = Vec::new();
        for (id, charges) in &ends {
            let inner = alone.inner();
            let told = inner.settle(&alone.plan, &[(*id, charges)], 0.0, (0, 0), inner.by()).await.unwrap();
            statuses.push(f64::from(u8::from(told.status == Status::Not)));
            seen[3 * usize::from(told.status == Status::Not)] += 1;
        }
        let (inner, ends) = (together.inner(), ends.iter().map(|(id, charges)| (*id, &**charges)).collect::<Vec<_>>());
        let told = inner.settle(&together.plan, &ends, 0.0, (0, 0), inner.by()).await.unwrap();
        assert_eq!((told.status, told.totals), (Status::Done, statuses), "seed {seed}");
        assert_eq!(alone.counters().await, together.counters().await, "seed {seed}, {ends:?}");
    }
    let keys = |prefix: &str| server.command(&["KEYS", &format!("{{{prefix}}}*")]).replace(prefix, "").lines().count();
    assert_eq!(keys("alone"), keys("together"), "seed {seed}");
    seen
}

#[test]
fn permits_that_are_ended_together_are_each_ended_as_if_alone() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut seen = [0; 4];
    for seed in 0..25 {
        let one = runtime.block_on(life(&server, seed));
        seen.iter_mut().zip(one).for_each(|(all, one)| *all += one);
    }
    println!("ended, given back, charged more, over: {seen:?}");
    assert!(seen.iter().all(|times| *times > 200), "{seen:?}");
}
