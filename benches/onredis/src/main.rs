//! One of several processes that ask limitador's limit on Redis, for `cargo bench -p tokenweir-redis --bench faults`. Arguments:
//! `plain` or `cached`, the server's address, and the job.

#[path = "../../../crates/tokenweir-redis/benches/processes/mod.rs"]
mod processes;

use limitador::AsyncRateLimiter;
use limitador::limit::{Context, Limit, Namespace};
use limitador::storage::AsyncCounterStorage;
use limitador::storage::redis::{AsyncRedisStorage, CachedRedisStorageBuilder};
use processes::asking::{Check, Job, ask};
use std::collections::HashMap;

struct Limitador {
    limiter: AsyncRateLimiter,
    namespace: Namespace,
}

/// A limiter of one limit: this amount an hour, on requests. Both storages are as they come.
async fn connect(kind: &str, address: &str, amount: u64) -> Limitador {
    let storage: Box<dyn AsyncCounterStorage> = match kind {
        "cached" => Box::new(CachedRedisStorageBuilder::new(address).build().await.expect("the server is there")),
        _ => Box::new(AsyncRedisStorage::new(address).await.expect("the server is there")),
    };
    let limiter = AsyncRateLimiter::new_with_storage(storage);
    let namespace = Namespace::from("gateway");
    let project = "project".try_into().expect("a variable");
    limiter.add_limit(Limit::new(namespace.clone(), amount, 3600, vec![], vec![project]));
    Limitador { limiter, namespace }
}

impl Check for Limitador {
    async fn check(&self) -> Option<bool> {
        let context = Context::from(HashMap::from([("project".to_owned(), "search".to_owned())]));
        let checked = self.limiter.check_rate_limited_and_update(&self.namespace, &context, 1).await;
        checked.ok().map(|result| !result.limited)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address, job @ ..] = &arguments[..] else { panic!("see the benchmark that starts this") };
    let job = Job::of(job);
    ask(connect(kind, address, job.amount), &job);
}
