//! Counters on a Redis or Valkey server, which gateways on many machines share.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokenweir::Policy;
use tokenweir::elsewhere::Counters;
use tokenweir::gateway::ConsoleBuilder;
use tokenweir_redis::{Leases, OpenPermits, RedisLimiter, Server, WhenAway};

use crate::config::{self, Config, ServerRules, StoreUrl};
use crate::estate::PERMIT_TTL;

/// How long a gateway that was killed has places in flight.
const PLACE_TTL: Duration = Duration::from_secs(60);

/// How long the end waits until the server has been told of everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// No more than one look at the counters in this time, since it goes through all that the server has.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct OnServer {
    permits: Arc<OpenPermits>,
    /// What was said last of the server, and how many outages there had been by then.
    said: Mutex<(bool, u64)>,
    /// When the counters were looked at last, and why not since.
    looked: tokio::sync::Mutex<Option<Instant>>,
    failed: Mutex<Option<String>>,
}

impl OnServer {
    /// The server that the file names, if it does.
    pub(crate) async fn of(config: &Config) -> Result<Option<Self>, String> {
        match &config.store {
            Some(StoreUrl::Server(address)) => {
                Self::connect(address, &config.server).await.map(Some).map_err(|wrong| format!("store: {wrong}"))
            }
            _ => Ok(None),
        }
    }

    /// The counters on this server. One that is away is tried again and again.
    async fn connect(address: &str, rules: &ServerRules) -> Result<Self, String> {
        let when_away = match (rules.when_away, rules.per_mille) {
            (config::WhenAway::LocalShare, Some(per_mille)) => WhenAway::LocalShare { per_mille },
            (config::WhenAway::LocalShare, None) => {
                return Err("when_away is \"local_share\" without per_mille; give 1 to 1000 thousandths".to_owned());
            }
            (_, Some(_)) => return Err("per_mille belongs to when_away = \"local_share\"; leave it out".to_owned()),
            (config::WhenAway::Deny, None) => WhenAway::Deny,
            (config::WhenAway::Allow, None) => WhenAway::Allow,
        };
        let server = Server::parse(address).map_err(|wrong| wrong.to_string())?;
        // The gate puts its own policy in force.
        let mut builder = RedisLimiter::builder(server, Policy::default())
            .prefix(&rules.prefix)
            .deadline(Duration::from_millis(rules.deadline_ms))
            .permit_ttl(PERMIT_TTL)
            .place_ttl(PLACE_TTL)
            .when_away(when_away);
        if rules.leases {
            builder = builder.leases(Leases::default());
        }
        let limiter = builder.connect().await.map_err(|wrong| wrong.to_string())?;
        Ok(OnServer {
            permits: Arc::new(OpenPermits::new(limiter)),
            said: Mutex::new((true, 0)),
            looked: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// The counters, for a gate.
    pub(crate) fn counters(&self) -> Arc<dyn Counters> {
        self.permits.clone()
    }

    /// A console whose gate has its counters here.
    pub(crate) fn under(&self, console: ConsoleBuilder) -> ConsoleBuilder {
        let counters = self.counters();
        console.counters_kept_by(move |_| Ok(counters.clone()))
    }

    /// Looks at the counters, for the views, and whether the server answers, which nobody knows who does not ask. If it does not
    /// they are as they were. One look a second serves all who ask.
    pub(crate) async fn look(&self) {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        let failed = self.permits.look().await.err().map(|wrong| wrong.to_string());
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        *looked = Some(Instant::now());
    }

    /// How many calls are open.
    pub(crate) fn open(&self) -> usize {
        self.permits.len()
    }

    /// One line when the server has gone away, and one when it is back.
    pub(crate) fn say(&self) {
        let stats = self.permits.limiter().stats();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (was_up, outages) = std::mem::replace(&mut *said, (stats.up, stats.outages));
        match stats.why {
            Some(why) if was_up => eprintln!("the server of the counters is away: {why}"),
            None if !was_up => eprintln!("the server of the counters is back"),
            None if stats.outages != outages => eprintln!("the server of the counters was away for a moment"),
            _ => {}
        }
    }

    /// Its figures, for operators.
    pub(crate) fn told(&self) -> Value {
        let stats = self.permits.limiter().stats();
        let not_seen = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let without = stats.without_server.iter().map(
            |one| json!({ "limit": one.limit, "requests": one.requests, "charged": one.charged, "owed": one.owed }),
        );
        json!({
            "up": stats.up, "why": stats.why, "not_seen": not_seen, "outages": stats.outages, "recoveries": stats.recoveries, "late": stats.late,
            "denied_by_outage": stats.denied_by_outage, "untold": stats.untold, "given_up": stats.given_up,
            "without_server": without.collect::<Vec<_>>(),
        })
    }

    /// Gives back what is leased, and waits until the server knows the end of every call.
    pub(crate) async fn stop(&self) {
        if !self.permits.limiter().flush(PATIENCE).await {
            eprintln!("the server of the counters was not told of every call's end: their estimates stand");
            for one in self.permits.limiter().stats().without_server.iter().filter(|one| one.owed > 0) {
                eprintln!(
                    "limit {:?}: {} were admitted while it was away, and it will not be charged them",
                    one.limit, one.owed
                );
            }
        }
    }
}
