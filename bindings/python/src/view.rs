//! Looking without taking.

use crate::clock::Now;
use crate::convert::{scope_dict, seconds};
use crate::denial::Denial;
use crate::value::value;
use pyo3::prelude::*;
use pyo3::types::PyDict;

value! {
    /// What one limit says of a request, without taking anything. All numbers are in units of its meter.
    LimitView {
        /// The limit's name.
        limit: String,
        /// `enforce`, or `shadow`: it only reports what it would have done.
        mode: &'static str,
        /// What the request would take from it.
        charge: u64,
        /// The limit's amount; a bucket's capacity.
        amount: u64,
        /// What it has left; below 0 is debt.
        remaining: i64,
        /// Whether the charge fits now.
        fits: bool,
        /// Whether the charge is larger than the whole limit.
        never_fits: bool,
        /// Nanoseconds until it fits with no other traffic: 0 if it does, None if no waiting helps.
        wait_ns: Option<u64>,
    }
    {
        /// Seconds until it fits with no other traffic: 0.0 if it does, None if no waiting helps.
        #[getter]
        fn wait(&self) -> Option<f64> {
            self.wait_ns.map(seconds)
        }
    }
}

value! {
    /// What would come of a request, as of now.
    Peek {
        /// Whether it would be admitted.
        admitted: bool,
        /// The denial that it would get, or None.
        denial: Option<Py<Denial>>,
        /// What each of its limits says, as LimitView, in the order in which they are charged.
        limits: Vec<Py<LimitView>>,
    }
    {
        fn __bool__(&self) -> bool {
            self.admitted
        }
    }
}

value! {
    /// One limit that a request meets.
    ExplainedLimit {
        /// What it says of the request, as LimitView.
        view: Py<LimitView>,
        /// The counter: each part of the limit's scope with its value.
        scope: Py<PyDict>,
    }
}

value! {
    /// One limit that a request does not meet.
    SkippedLimit {
        /// The limit's name.
        limit: String,
        /// Why, as a sentence.
        reason: String,
    }
}

value! {
    /// Every limit of the policy: met by the request, or skipped, and why.
    Explanation {
        /// Whether the request would be admitted.
        admitted: bool,
        /// The limits that it meets, as ExplainedLimit.
        applied: Vec<Py<ExplainedLimit>>,
        /// The others, as SkippedLimit.
        skipped: Vec<Py<SkippedLimit>>,
    }
}

value! {
    /// One counter. All numbers are in units of its meter.
    CounterUsage {
        /// The limit's name.
        limit: String,
        /// `requests`, `input`, `output`, `total`, `cost` (micro-units) or `in_flight`.
        meter: &'static str,
        /// Each part of the limit's scope with its value.
        scope: Py<PyDict>,
        /// The limit's amount; a bucket's capacity.
        amount: u64,
        /// What counts now, held estimates included.
        used: u64,
        /// What open permits hold of it.
        held: u64,
        /// `amount` less `used`; below 0 is debt.
        remaining: i64,
        /// When it will be as good as new with no other traffic, as Now. None: never by the passing of time alone.
        resets_at: Option<Now>,
        /// The sum of all settled charges since the counter began.
        settled_total: u64,
    }
}

value! {
    /// The limiter's own figures.
    Stats {
        /// Live counters.
        counters: usize,
        /// How many there may be.
        max_counters: usize,
        /// Counters evicted, at rest, since the limiter began.
        evicted: u64,
        /// Requests denied because there was no room for a counter.
        refused_full: u64,
        /// Limits passed over because there was no room for a counter (`when_full="admit"`).
        admitted_full: u64,
        /// Routes that are resolved.
        routes: usize,
        /// Open permits.
        permits_open: usize,
        /// Buckets that keep a history of their deficit, 12 KiB each.
        histories: usize,
        /// How many may. Once as many do, further ones go without and give back less.
        max_histories: usize,
        /// How often the store failed to read or record.
        store_failures: u64,
    }
}

impl Stats {
    pub fn of(stats: tokenweir::Stats) -> Self {
        Stats {
            counters: stats.counters,
            max_counters: stats.max_counters,
            evicted: stats.evicted,
            refused_full: stats.refused_full,
            admitted_full: stats.admitted_full,
            routes: stats.routes,
            permits_open: stats.permits_open,
            histories: stats.histories,
            max_histories: stats.max_histories,
            store_failures: stats.store_failures,
        }
    }
}

fn limit_view(py: Python<'_>, view: tokenweir::LimitView) -> PyResult<Py<LimitView>> {
    let mode = view.mode.as_str();
    let tokenweir::LimitView { limit, charge, amount, remaining, fits, never_fits, wait, .. } = view;
    Py::new(py, LimitView { limit, mode, charge, amount, remaining, fits, never_fits, wait_ns: wait })
}

pub fn peeked(py: Python<'_>, peek: tokenweir::Peek) -> PyResult<Peek> {
    Ok(Peek {
        admitted: peek.admitted,
        denial: peek.denied.map(|denied| Py::new(py, Denial(denied))).transpose()?,
        limits: peek.limits.into_iter().map(|view| limit_view(py, view)).collect::<PyResult<_>>()?,
    })
}

pub fn explanation(py: Python<'_>, explanation: tokenweir::Explanation) -> PyResult<Explanation> {
    let applied = explanation.applied.into_iter().map(|limit| {
        let scope = scope_dict(py, &limit.scope)?;
        Py::new(py, ExplainedLimit { view: limit_view(py, limit.view)?, scope })
    });
    let skipped = explanation.skipped.into_iter();
    let skipped = skipped.map(|(limit, reason)| Py::new(py, SkippedLimit { limit, reason: reason.to_string() }));
    Ok(Explanation {
        admitted: explanation.admitted,
        applied: applied.collect::<PyResult<_>>()?,
        skipped: skipped.collect::<PyResult<_>>()?,
    })
}

pub fn used(py: Python<'_>, counter: tokenweir::CounterUsage) -> PyResult<CounterUsage> {
    Ok(CounterUsage {
        scope: scope_dict(py, &counter.scope)?,
        limit: counter.limit,
        meter: counter.meter.as_str(),
        amount: counter.amount,
        used: counter.used,
        held: counter.held,
        remaining: counter.remaining,
        resets_at: counter.resets_at.map(Now),
        settled_total: counter.settled_total,
    })
}
