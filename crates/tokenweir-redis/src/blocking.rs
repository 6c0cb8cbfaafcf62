//! The same limiter for programs without an asynchronous runtime.

use crate::builder::Builder;
use crate::error::Error;
use crate::limiter::{By, Decision, RedisLimiter, Standing, Stats};
use crate::permit::{Ended, Observed, Permit};
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{Denied, Estimate, PermitId, Policy, Request, Usage};
use tokio::runtime::Runtime;

/// [`RedisLimiter`], whose calls wait on the thread that makes them. It has one thread of its own, for the connection.
///
/// Cheap to clone; may be used from any thread at once. Not to be used within a tokio runtime, where it would stop a worker.
#[derive(Debug, Clone)]
pub struct BlockingLimiter {
    // Dropped before its runtime.
    limiter: RedisLimiter,
    runtime: Arc<Runtime>,
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
    runtime: Arc<Runtime>,
}

impl Builder {
    /// As [`connect`](Builder::connect), for programs without a runtime.
    ///
    /// # Errors
    /// As [`connect`](Builder::connect); [`Error::Runtime`] if the thread cannot be started.
    pub fn connect_blocking(self) -> Result<BlockingLimiter, Error> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name("tokenweir-redis").enable_all();
        let runtime = runtime.build().map_err(|error| Error::Runtime { reason: error.to_string() })?;
        let limiter = runtime.block_on(self.connect())?;
        Ok(BlockingLimiter { limiter, runtime: Arc::new(runtime) })
    }
}

impl BlockingLimiter {
    /// See [`RedisLimiter::admit`].
    ///
    /// # Errors
    /// As there.
    pub fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Result<BlockingDecision, Error> {
        Ok(match self.runtime.block_on(self.limiter.admit(request, estimate))? {
            Decision::Admitted(permit) => BlockingDecision::Admitted(self.permit_of(permit)),
            Decision::Denied { denied, by } => BlockingDecision::Denied { denied, by },
            Decision::Unavailable => BlockingDecision::Unavailable,
        })
    }

    fn permit_of(&self, permit: Permit) -> BlockingPermit {
        BlockingPermit { permit, runtime: self.runtime.clone() }
    }

    /// See [`RedisLimiter::permit`].
    ///
    /// # Errors
    /// As there.
    pub fn permit(&self, id: PermitId) -> Result<BlockingPermit, Error> {
        self.runtime.block_on(self.limiter.permit(id)).map(|permit| self.permit_of(permit))
    }

    /// See [`RedisLimiter::remaining`].
    ///
    /// # Errors
    /// As there.
    pub fn remaining(&self, request: &Request<'_>) -> Result<Vec<Standing>, Error> {
        self.runtime.block_on(self.limiter.remaining(request))
    }

    /// See [`RedisLimiter::set_policy`].
    ///
    /// # Errors
    /// As there.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        self.limiter.set_policy(policy)
    }

    /// See [`RedisLimiter::stats`].
    pub fn stats(&self) -> Stats {
        self.limiter.stats()
    }

    /// See [`RedisLimiter::flush`].
    pub fn flush(&self, patience: Duration) -> bool {
        self.runtime.block_on(self.limiter.flush(patience))
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
    /// As there.
    pub fn observe(&self, input: u64, output: u64) -> Result<Observed, Error> {
        self.runtime.block_on(self.permit.observe(input, output))
    }

    /// See [`Permit::settle`].
    ///
    /// # Errors
    /// As there.
    pub fn settle(self, usage: Usage) -> Result<Ended, Error> {
        self.runtime.block_on(self.permit.settle(usage))
    }

    /// See [`Permit::cancel`].
    ///
    /// # Errors
    /// As there.
    pub fn cancel(self) -> Result<Ended, Error> {
        self.runtime.block_on(self.permit.cancel())
    }

    /// See [`Permit::renew`].
    ///
    /// # Errors
    /// As there.
    pub fn renew(&self, ttl: Duration) -> Result<(), Error> {
        self.runtime.block_on(self.permit.renew(ttl))
    }
}
