//! What comes of a call, for Python.

use super::limiter::Source;
use super::permit;
use crate::convert::left_dict;
use crate::denial::Denial;
use crate::errors::{bad_redis, refused};
use crate::permit::Settlement;
use crate::value::value;
use crate::view::used;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokenweir_redis::{By, Decision, Error, Permit};

/// What comes of a call.
pub enum Answer {
    Connected,
    Decided(Decision),
    /// Of who wants a permit or nothing.
    Granted(Decision),
    Found(Permit),
    Ended(tokenweir_redis::Ended),
    Spent(bool),
    Renewed,
    Standings(Vec<tokenweir_redis::Standing>),
    Counters(Vec<tokenweir::CounterUsage>),
    Told(bool),
}

impl Answer {
    pub fn for_python<'py>(self, py: Python<'py>, source: &Source) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Answer::Connected => source.limiter(py),
            Answer::Decided(Decision::Admitted(permit)) | Answer::Granted(Decision::Admitted(permit)) => {
                permit::of(py, source, permit)
            }
            Answer::Decided(Decision::Denied { denied, by }) => RedisDenial::of(py, *denied, by),
            Answer::Granted(Decision::Denied { denied, by }) => Err(refused(py, RedisDenial::of(py, *denied, by)?)),
            Answer::Decided(Decision::Unavailable) => {
                let unavailable = Unavailable { by: By::OutageDenied.as_str(), status: 503, why: source.why_away() };
                Ok(Bound::new(py, unavailable)?.into_any())
            }
            Answer::Granted(Decision::Unavailable) => Err(bad_redis(Error::Away { reason: source.why_away() })),
            Answer::Found(permit) => permit::of(py, source, permit),
            Answer::Ended(ended) => {
                let settlement = Py::new(py, Settlement::of(&ended.settlement))?;
                Ok(Bound::new(py, Ended { settlement, told: ended.told })?.into_any())
            }
            Answer::Renewed => Ok(py.None().into_bound(py)),
            Answer::Spent(yes) | Answer::Told(yes) => Ok(yes.into_pyobject(py)?.to_owned().into_any()),
            Answer::Standings(standings) => {
                let standing = |standing: tokenweir_redis::Standing| {
                    let tokenweir_redis::Standing { limit, remaining, charged_total, .. } = standing;
                    Standing { limit, remaining, charged_total }
                };
                standings.into_iter().map(standing).collect::<Vec<_>>().into_pyobject(py)
            }
            Answer::Counters(counters) => {
                let counters: Vec<_> = counters.into_iter().map(|one| used(py, one)).collect::<PyResult<_>>()?;
                counters.into_pyobject(py)
            }
        }
    }

    /// Nobody wants it any more: a request that was just admitted does not go out.
    pub async fn discard(self) {
        match self {
            Answer::Decided(Decision::Admitted(permit)) | Answer::Granted(Decision::Admitted(permit)) => {
                // Where the server does not answer, it is told later.
                let _ = permit.cancel().await;
            }
            Answer::Found(permit) => {
                permit.into_id();
            }
            _ => {}
        }
    }
}

/// What each limit has left, by its name.
pub fn by_name(py: Python<'_>, standings: Vec<tokenweir_redis::Standing>) -> PyResult<Bound<'_, PyDict>> {
    left_dict(py, standings.into_iter().map(|standing| (standing.limit, standing.remaining)).collect())
}

/// A Denial that says who decided. It is falsy; nothing was taken.
#[pyclass(frozen, extends = Denial, module = "tokenweir.redis")]
pub struct RedisDenial(By);

impl RedisDenial {
    fn of(py: Python<'_>, denied: tokenweir::Denied, by: By) -> PyResult<Bound<'_, PyAny>> {
        let made = PyClassInitializer::from(Denial(denied)).add_subclass(RedisDenial(by));
        Ok(Bound::new(py, made)?.into_any())
    }
}

#[pymethods]
impl RedisDenial {
    /// Who decided: `server`, or `local_share` while it is away.
    #[getter]
    fn by(&self) -> &'static str {
        self.0.as_str()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        crate::value::repr(slf.as_any(), &["status", "limit", "retry_after", "never_fits", "remaining", "by"])
    }
}

value! {
    /// Nobody could decide: the server is away, and the limiter was made to deny then. It is falsy; nothing was taken, and the
    /// caller is not at fault.
    Unavailable as "tokenweir.redis" {
        /// `outage_denied`.
        by: &'static str,
        /// The HTTP status to answer with: 503.
        status: u16,
        /// What is known of the server: a refused connection, a wrong password, no answer in time.
        why: String,
    }
    {
        /// False.
        #[getter]
        fn admitted(&self) -> bool {
            false
        }

        fn __bool__(&self) -> bool {
            false
        }

        fn __str__(&self) -> String {
            format!("the server that keeps the limits cannot be asked: {}; try again later", self.why)
        }
    }
}

value! {
    /// What ending a permit came to.
    Ended as "tokenweir.redis" {
        /// How it ended.
        settlement: Py<Settlement>,
        /// Whether the server has it. Otherwise it is told as soon as it is back, if that is before the permit expires: after
        /// that the estimate stands.
        told: bool,
    }
}

value! {
    /// How one limit stands, as the server says.
    Standing as "tokenweir.redis" {
        /// The limit's name.
        limit: String,
        /// What it has left; below 0 is debt.
        remaining: i64,
        /// What its counter was charged in all, since it was last at rest for long. None of in-flight limits, which have no
        /// such sum.
        charged_total: Option<u64>,
    }
}

value! {
    /// How much of one limit was admitted without the server.
    OutageUse as "tokenweir.redis" {
        /// The limit's name.
        limit: String,
        /// Requests, since the limiter began.
        requests: u64,
        /// What they took, in units of the limit's meter; of those that still run, by their estimate.
        charged: u64,
        /// Of this, what the server has not been told yet.
        owed: u64,
    }
}

value! {
    /// A limiter's own figures.
    RedisStats as "tokenweir.redis" {
        /// Whether the server is thought to be there.
        up: bool,
        /// Why not: what came of the last attempt to reach it. None while it is up.
        why: Option<String>,
        /// How often it was found to be away.
        outages: u64,
        /// How often it was reached again.
        recoveries: u64,
        /// Calls that had no answer within the deadline.
        late: u64,
        /// Requests denied because the server was away.
        denied_by_outage: u64,
        /// Leases taken from the server.
        leases: u64,
        /// Ends of permits that are still to be told to the server.
        untold: usize,
        /// Ends of permits that were given up because too many were waiting: their estimates stand.
        given_up: u64,
        /// What was admitted without the server, as OutageUse, by limit.
        without_server: Vec<Py<OutageUse>>,
    }
}

impl RedisStats {
    pub fn of(py: Python<'_>, stats: tokenweir_redis::Stats) -> PyResult<Self> {
        let one = |one: tokenweir_redis::OutageUse| {
            let tokenweir_redis::OutageUse { limit, requests, charged, owed, .. } = one;
            Py::new(py, OutageUse { limit, requests, charged, owed })
        };
        Ok(RedisStats {
            up: stats.up,
            why: stats.why,
            outages: stats.outages,
            recoveries: stats.recoveries,
            late: stats.late,
            denied_by_outage: stats.denied_by_outage,
            leases: stats.leases,
            untold: stats.untold,
            given_up: stats.given_up,
            without_server: stats.without_server.into_iter().map(one).collect::<PyResult<_>>()?,
        })
    }
}
