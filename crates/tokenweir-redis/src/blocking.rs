//! The same limiter for programs without an asynchronous runtime.

use crate::builder::Builder;
use crate::decision::{By, Decision, Standing, Stats};
use crate::error::Error;
use crate::limiter::RedisLimiter;
use crate::permit::{Ended, Observed, Permit};
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{CounterUsage, Denied, Estimate, PermitId, Policy, Request, Usage};
use tokio::runtime::{Handle, Runtime};

/// [`RedisLimiter`], whose calls wait on the thread that makes them. It has one thread of its own, for the connection.
///
/// Cheap to clone; may be used from any thread at once. Not to be used within a tokio runtime, where it would stop a worker. In
/// a process that was forked from the one that made it, where its thread is not, every call is [`Error::Forked`], and whatever
/// is dropped there changes nothing.
#[derive(Debug, Clone)]
pub struct BlockingLimiter {
    home: Arc<Home>,
}

/// The limiter and the runtime that it is in; there until they are dropped.
#[derive(Debug)]
struct Home(Option<(RedisLimiter, Runtime)>);

impl Home {
    fn inside(&self) -> Result<(&RedisLimiter, &Handle), Error> {
        match &self.0 {
            Some((limiter, runtime)) if !limiter.inner.is_forked() => Ok((limiter, runtime.handle())),
            _ => Err(Error::Forked),
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.inside()?.1.block_on(work)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Some((limiter, runtime)) = self.0.take() else { return };
        if limiter.inner.is_forked() {
            // Its end would wait for threads that are in the other process.
            std::mem::forget((limiter, runtime));
            return;
        }
        drop(limiter);
        // The system may be looking up an address, which nobody can stop.
        runtime.shutdown_timeout(Duration::from_millis(500));
    }
}

/// Whether a request may pass, and who says so.
#[must_use = "an admitted request holds its tokens until its permit is settled"]
#[derive(Debug)]
pub enum BlockingDecision {
    /// It may. See [`Decision::Admitted`].
    Admitted(BlockingPermit),
    /// It may not, because of its limits.
    Denied {
        /// What every limit says.
        denied: Box<Denied>,
        /// Who decided.
        by: By,
    },
    /// It may not, because nobody could decide.
    Unavailable,
}

/// [`Permit`], whose calls wait.
#[must_use = "dropping a permit counts its estimate as used; settle or cancel it"]
#[derive(Debug)]
pub struct BlockingPermit {
    permit: Permit,
    home: Arc<Home>,
}

impl Builder {
    /// As [`connect`](Builder::connect), for programs without a runtime.
    ///
    /// # Errors
    /// As [`connect`](Builder::connect); [`Error::Runtime`] if the thread cannot be started.
    pub fn connect_blocking(self) -> Result<BlockingLimiter, Error> {
        let limiter = self.start()?;
        limiter.tried()?;
        Ok(limiter)
    }

    /// As [`connect_blocking`](Builder::connect_blocking), without a wait for the first attempt to reach the server:
    /// [`RedisLimiter::tried`] is that. Until the server is reached it counts as away.
    ///
    /// # Errors
    /// As [`connect_blocking`](Builder::connect_blocking).
    pub fn start(self) -> Result<BlockingLimiter, Error> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name("tokenweir-redis").enable_all();
        let runtime = runtime.build().map_err(|error| Error::Runtime { reason: error.to_string() })?;
        let limiter = {
            let _inside = runtime.enter();
            self.begin()?
        };
        Ok(BlockingLimiter { home: Arc::new(Home(Some((limiter, runtime)))) })
    }
}

impl BlockingLimiter {
    /// The same limiter for asynchronous use, and the runtime that its futures have to be polled in: for a host with an event
    /// loop of another kind.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn inside(&self) -> Result<(&RedisLimiter, &Handle), Error> {
        self.home.inside()
    }

    /// See [`RedisLimiter::tried`].
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn tried(&self) -> Result<(), Error> {
        let (limiter, runtime) = self.inside()?;
        runtime.block_on(limiter.tried());
        Ok(())
    }

    /// See [`RedisLimiter::admit`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Result<BlockingDecision, Error> {
        let (limiter, runtime) = self.inside()?;
        Ok(match runtime.block_on(limiter.admit(request, estimate))? {
            Decision::Admitted(permit) => BlockingDecision::Admitted(self.permit_of(permit)),
            Decision::Denied { denied, by } => BlockingDecision::Denied { denied, by },
            Decision::Unavailable => BlockingDecision::Unavailable,
        })
    }

    fn permit_of(&self, permit: Permit) -> BlockingPermit {
        BlockingPermit { permit, home: self.home.clone() }
    }

    /// See [`RedisLimiter::permit`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn permit(&self, id: PermitId) -> Result<BlockingPermit, Error> {
        let (limiter, runtime) = self.inside()?;
        runtime.block_on(limiter.permit(id)).map(|permit| self.permit_of(permit))
    }

    /// See [`RedisLimiter::permit_for`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn permit_for(&self, id: PermitId, request: &Request<'_>) -> Result<BlockingPermit, Error> {
        let (limiter, runtime) = self.inside()?;
        runtime.block_on(limiter.permit_for(id, request)).map(|permit| self.permit_of(permit))
    }

    /// See [`RedisLimiter::remaining`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn remaining(&self, request: &Request<'_>) -> Result<Vec<Standing>, Error> {
        let (limiter, runtime) = self.inside()?;
        runtime.block_on(limiter.remaining(request))
    }

    /// See [`RedisLimiter::usage`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn usage(&self) -> Result<Vec<CounterUsage>, Error> {
        let (limiter, runtime) = self.inside()?;
        runtime.block_on(limiter.usage())
    }

    /// See [`RedisLimiter::set_policy`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        self.inside()?.0.set_policy(policy)
    }

    /// See [`RedisLimiter::stats`].
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self.inside()?.0.stats())
    }

    /// See [`RedisLimiter::flush`].
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn flush(&self, patience: Duration) -> Result<bool, Error> {
        let (limiter, runtime) = self.inside()?;
        Ok(runtime.block_on(limiter.flush(patience)))
    }
}

impl BlockingPermit {
    /// See [`Permit::id`].
    pub fn id(&self) -> PermitId {
        self.permit.id()
    }

    /// See [`Permit::into_id`].
    pub fn into_id(self) -> PermitId {
        self.permit.into_id()
    }

    /// See [`Permit::by`].
    pub fn by(&self) -> By {
        self.permit.by()
    }

    /// See [`Permit::remaining`].
    pub fn remaining(&self) -> Vec<Standing> {
        self.permit.remaining()
    }

    /// See [`Permit::observe`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn observe(&self, input: u64, output: u64) -> Result<Observed, Error> {
        self.home.wait(self.permit.observe(input, output))
    }

    /// See [`Permit::settle`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn settle(self, usage: Usage) -> Result<Ended, Error> {
        self.home.wait(self.permit.settle(usage))
    }

    /// See [`Permit::cancel`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn cancel(self) -> Result<Ended, Error> {
        self.home.wait(self.permit.cancel())
    }

    /// See [`Permit::renew`].
    ///
    /// # Errors
    /// As there; [`Error::Forked`].
    pub fn renew(&self, ttl: Duration) -> Result<(), Error> {
        self.home.wait(self.permit.renew(ttl))
    }
}
