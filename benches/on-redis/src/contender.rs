//! The limiters, each as its own documentation has it, with a deadline of 100 ms where it takes one.

use limitador::AsyncRateLimiter;
use limitador::limit::{Context, Limit, Namespace};
use limitador::storage::redis::{AsyncRedisStorage, CachedRedisStorageBuilder};
use std::collections::HashMap;
use std::time::Duration;
use tokenweir::{Estimate, Policy, Request};
use tokenweir_redis::{Decision, Leases, RedisLimiter, Server, WhenAway};

const DEADLINE: Duration = Duration::from_millis(100);

pub const KINDS: [&str; 4] =
    ["tokenweir, by the server", "tokenweir, by leases", "limitador, by the server", "limitador, cached"];

pub enum Contender {
    Tokenweir(RedisLimiter),
    Limitador(AsyncRateLimiter, Namespace),
}

impl Contender {
    /// A limiter of one limit: this amount an hour, on requests.
    pub async fn connect(kind: &str, address: &str, amount: u64) -> Contender {
        match kind {
            "limitador, by the server" => {
                let storage = AsyncRedisStorage::new(address).await.expect("the server is there");
                Self::limitador(AsyncRateLimiter::new_with_storage(Box::new(storage)), amount)
            }
            "limitador, cached" => {
                let storage = CachedRedisStorageBuilder::new(address).response_timeout(DEADLINE).build();
                let storage = storage.await.expect("the server is there");
                Self::limitador(AsyncRateLimiter::new_with_storage(Box::new(storage)), amount)
            }
            _ => {
                let policy = format!(
                    "[[limit]]\nname = 'hot'\nmeter = 'requests'\nalgorithm = 'window'\namount = {amount}\nper = '1h'\n"
                );
                let policy = Policy::from_toml(&policy).expect("a policy");
                let server = Server::parse(address).expect("an address");
                let builder = RedisLimiter::builder(server, policy).deadline(DEADLINE).when_away(WhenAway::Deny);
                let builder = if kind == KINDS[1] { builder.leases(Leases::new()) } else { builder };
                Contender::Tokenweir(builder.connect().await.expect("the server is there"))
            }
        }
    }

    fn limitador(limiter: AsyncRateLimiter, amount: u64) -> Contender {
        let namespace = Namespace::from("gateway");
        let project = "project".try_into().expect("a variable");
        limiter.add_limit(Limit::new(namespace.clone(), amount, 3600, vec![], vec![project]));
        Contender::Limitador(limiter, namespace)
    }

    /// Whether one request more may pass; nothing if the server was away. A permit is left to expire, as nobody settles it.
    pub async fn check(&self) -> Option<bool> {
        match self {
            Contender::Tokenweir(limiter) => {
                match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(0, 0)).await {
                    Ok(Decision::Admitted(permit)) => {
                        permit.into_id();
                        Some(true)
                    }
                    Ok(Decision::Denied { .. }) => Some(false),
                    Ok(_) | Err(_) => None,
                }
            }
            Contender::Limitador(limiter, namespace) => {
                let values = HashMap::from([("project".to_owned(), "search".to_owned())]);
                let context = Context::from(values);
                let checked = limiter.check_rate_limited_and_update(namespace, &context, 1, false).await;
                checked.ok().map(|result| !result.limited)
            }
        }
    }
}
