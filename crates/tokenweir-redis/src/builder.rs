//! How a shared limiter is to be.

use crate::error::Error;
use crate::lease::Leases;
use crate::limiter::{Inner, RedisLimiter};
use crate::outage::WhenAway;
use crate::script::Scripts;
use crate::server::Server;
use std::time::Duration;
use tokenweir::Policy;
use tokenweir::policy::ScopePart;

/// How a [`RedisLimiter`] is to be built.
#[derive(Debug)]
pub struct Builder {
    pub(crate) server: Server,
    pub(crate) policy: Policy,
    pub(crate) deadline: Duration,
    pub(crate) permit_ttl: Duration,
    pub(crate) place_ttl: Option<Duration>,
    pub(crate) prefix: String,
    pub(crate) slot_by: Option<ScopePart>,
    pub(crate) when_away: WhenAway,
    pub(crate) back_off: Duration,
    pub(crate) leases: Option<Leases>,
    pub(crate) scripts: Scripts,
    /// So many calls of one route are on their way before others wait to go together.
    pub(crate) alone: usize,
}

impl Builder {
    pub(crate) fn new(server: Server, policy: Policy) -> Self {
        Builder {
            server,
            policy,
            deadline: Duration::from_millis(50),
            permit_ttl: Duration::from_secs(600),
            place_ttl: None,
            prefix: "tokenweir".to_owned(),
            slot_by: None,
            when_away: WhenAway::default(),
            back_off: Duration::from_secs(2),
            leases: None,
            scripts: Scripts::new(),
            alone: crate::together::ALONE,
        }
    }

    /// The longest that any call waits for the server; 50 ms unless set, 1 ms to 1 minute.
    pub fn deadline(self, deadline: Duration) -> Self {
        Builder { deadline, ..self }
    }

    /// How long a permit lives that nobody settles or renews; 10 minutes unless set, 1 ms to 1 year. Then its estimate stands
    /// and its in-flight places are free.
    pub fn permit_ttl(self, permit_ttl: Duration) -> Self {
        Builder { permit_ttl, ..self }
    }

    /// How long a permit holds its places in flight unless it is [renewed](crate::Permit::renew), at most as long as it lives;
    /// as `permit_ttl` unless set, 1 ms to 1 year. So the places of a process that was killed are free soon, also where calls may
    /// take long. [`OpenPermits`](crate::OpenPermits) holds those of its open permits, about three times in each `place_ttl`.
    pub fn place_ttl(self, place_ttl: Duration) -> Self {
        Builder { place_ttl: Some(place_ttl), ..self }
    }

    /// What all keys begin with, in braces; `tokenweir` unless set. Limiters share counters if server and prefix are the same.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Builder { prefix: prefix.into(), ..self }
    }

    /// On a cluster: spreads counters over its slots by this part of their scope, which every limit must then have. Unless
    /// set, all keys are in one slot, so on one node.
    pub fn slot_by(self, part: ScopePart) -> Self {
        Builder { slot_by: Some(part), ..self }
    }

    /// What is decided while the server does not answer; nothing passes unless set.
    pub fn when_away(self, when_away: WhenAway) -> Self {
        Builder { when_away, ..self }
    }

    /// The longest time between two attempts to reach a server that is away; 2 s unless set, 10 ms to 1 hour. The first
    /// follows after 10 ms, each later one after twice the time.
    pub fn back_off(self, back_off: Duration) -> Self {
        Builder { back_off, ..self }
    }

    /// Capacity is leased from the server in advance and spent in this process ([`Leases`]). Unless set, the server decides on
    /// every request.
    pub fn leases(self, leases: Leases) -> Self {
        Builder { leases: Some(leases), ..self }
    }

    fn check(&self) -> Result<(), Error> {
        let span = |setting, value: Duration, least: Duration, most: Duration, remedy| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::Setting { setting, value: format!("{value:?}"), remedy })
        };
        let (millisecond, minute) = (Duration::from_millis(1), Duration::from_secs(60));
        span("deadline", self.deadline, millisecond, minute, "give 1 ms to 1 minute")?;
        let year = minute * 60 * 24 * 366;
        span("permit_ttl", self.permit_ttl, millisecond, year, "give 1 ms to 1 year")?;
        span("place_ttl", self.place_ttl.unwrap_or(self.permit_ttl), millisecond, year, "give 1 ms to 1 year")?;
        span("back_off", self.back_off, millisecond * 10, minute * 60, "give 10 ms to 1 hour")?;
        if self.prefix.is_empty() || self.prefix.len() > 200 || self.prefix.contains(['{', '}']) {
            let value = format!("{:?}", self.prefix);
            return Err(Error::Setting { setting: "prefix", value, remedy: "give 1 to 200 bytes without braces" });
        }
        if let Some(leases) = self.leases {
            span("life", leases.life, millisecond * 10, minute, "give 10 ms to 1 minute")?;
            if !(2..=1000).contains(&leases.part) {
                let value = leases.part.to_string();
                return Err(Error::Setting { setting: "part", value, remedy: "give 2 to 1000" });
            }
        }
        match self.when_away {
            WhenAway::LocalShare { per_mille } if !(1..=1000).contains(&per_mille) => Err(Error::Setting {
                setting: "per_mille",
                value: per_mille.to_string(),
                remedy: "give 1 to 1000 thousandths of every amount",
            }),
            _ => Ok(()),
        }
    }

    /// Builds the limiter in the tokio runtime that this is called in, and makes the first attempt to reach the server, for up
    /// to a second. If that fails the limiter is there all the same, decides as for an outage, and goes on trying.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::AcrossSlots`], [`Error::Runtime`] outside of a runtime.
    pub async fn connect(self) -> Result<RedisLimiter, Error> {
        let limiter = self.begin()?;
        limiter.tried().await;
        Ok(limiter)
    }

    /// The limiter, before anything has been tried.
    pub(crate) fn begin(self) -> Result<RedisLimiter, Error> {
        self.check()?;
        Ok(RedisLimiter { inner: Inner::start(self)? })
    }
}
