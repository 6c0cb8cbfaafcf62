//! The engine, driven by a trace.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use tokenweir::policy::{ScopePart, Tokens};
use tokenweir::store::Store;
use tokenweir::{Decision, Key, Limiter, ManualClock, Now, PermitId, Policy, Request, StoreOptions, UsageFilter};

use crate::trace::{Ending, Entry, Trace};
use crate::verdict::{Counter, Ended, Left, Meet, Refused, Settled, Verdict};
use crate::{Error, Row};

/// More permits than any trace opens at a time; their table grows as they are opened.
const PLENTY: usize = 1 << 24;

/// Counters that may be live at a time unless told otherwise.
const COUNTERS: usize = 1 << 18;

/// Longer than this, a wait is for a permit to expire, which none does here: nobody knows when a place comes free.
const FOREVER: u64 = (i64::MAX / 4) as u64;

/// Routes are remembered up to this many; a trace with more of them looks the rest up again.
const ROUTES: usize = 1 << 17;

/// What tells routes apart: project, deployment, and the keys that the policy looks at.
type RouteKey = (Vec<u8>, Vec<u8>, Vec<(String, Vec<u8>)>);

/// An admitted request that has not ended yet.
#[derive(Debug)]
struct Open {
    line: u64,
    permit: PermitId,
    ending: Ending,
    meets: Arc<[Meet]>,
    /// The shadow limits that were not charged, because they would have refused.
    uncharged: Vec<usize>,
}

/// A limiter that nothing has used before, unless a store has quotas of it, driven at the times of a trace.
///
/// Settlements that are due at or before a request's instant come before its decision, in the order of their
/// admission where they tie. Permits never expire here: a trace says itself how each request ends.
///
/// [`rows`](Replay::rows) does all of it. Whoever wants to look between the steps takes them one by one: while
/// [`next_due`](Replay::next_due) is not after the next request, [`settle_next`](Replay::settle_next); then
/// [`decide`](Replay::decide).
#[derive(Debug)]
pub struct Replay {
    policy: Policy,
    limiter: Limiter,
    places: HashMap<String, usize>,
    routes: HashMap<RouteKey, Arc<[Meet]>>,
    counters: Vec<Counter>,
    numbers: HashMap<Counter, usize>,
    /// What is due, the earliest first; of the same instant, the one that was admitted first.
    due: BinaryHeap<Reverse<(i64, u64)>>,
    open: HashMap<u64, Open>,
    admitted: u64,
    /// The instant of the last thing that happened.
    now: i64,
}

impl Replay {
    /// Under this policy, with room for 262,144 counters.
    pub fn new(policy: Policy) -> Self {
        Self::with_max_counters(policy, COUNTERS)
    }

    /// Under this policy, with at most this many counters live at a time, as the host that is tried out configures it.
    pub fn with_max_counters(policy: Policy, max_counters: usize) -> Self {
        Self::of(policy, max_counters, None)
    }

    /// The same, with quotas that begin with what `store` has of them. Its periods are compared with the times of the trace: one
    /// that is over by then begins anew, and of one that is still to come the trace uses. Once everything has been settled,
    /// [`give_back_leases`](Replay::give_back_leases) records exactly what is used.
    pub fn on_store(policy: Policy, max_counters: usize, store: Arc<dyn Store>) -> Self {
        Self::of(policy, max_counters, Some(store))
    }

    fn of(policy: Policy, max_counters: usize, store: Option<Arc<dyn Store>>) -> Self {
        let places = policy.limits().iter().enumerate().map(|(place, l)| (l.name().to_string(), place)).collect();
        let limiter = Limiter::builder(policy.clone())
            .clock(ManualClock::default())
            .permit_ttl(Duration::from_nanos(i64::MAX as u64))
            .max_permits(PLENTY)
            .max_counters(max_counters);
        let limiter = match store {
            Some(store) => limiter.store(store, StoreOptions::new()).build(),
            None => limiter.build(),
        };
        Replay {
            policy,
            limiter,
            places,
            routes: HashMap::new(),
            counters: Vec::new(),
            numbers: HashMap::new(),
            due: BinaryHeap::new(),
            open: HashMap::new(),
            admitted: 0,
            now: 0,
        }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Every counter that a request has met, by its number.
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// The instant of the last thing that happened, in nanoseconds since 1970; 0 before the first.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Every counter that is in use at `at`, in nanoseconds since 1970. Takes nothing.
    pub fn usage_at(&self, at: i64) -> Vec<Left> {
        let view = self.limiter.usage_at(&UsageFilter::default(), Now::at(at as u64));
        let known = view.into_iter().filter_map(|used| {
            let scope = used.scope.into_iter().map(|(_, value)| value).collect();
            let counter = Counter { limit: self.place(&used.limit)?, scope };
            Some(Left { counter: *self.numbers.get(&counter)?, remaining: used.remaining })
        });
        known.collect()
    }

    /// How many requests were denied because there was no room for another counter.
    pub fn refused_full(&self) -> u64 {
        self.limiter.stats().refused_full
    }

    /// When the next open request ends, in nanoseconds since 1970.
    pub fn next_due(&self) -> Option<i64> {
        self.due.peek().map(|&Reverse((due, _))| due)
    }

    /// Ends the open request that is due first; `None` if none is open.
    ///
    /// # Errors
    /// The engine does not accept its usage.
    pub fn settle_next(&mut self) -> Result<Option<Settled>, Error> {
        let Some(Reverse((due, number))) = self.due.pop() else { return Ok(None) };
        let open = self.open.remove(&number).expect("what is due is open");
        self.now = due;
        let now = Now::at(due as u64);
        let settlement = match open.ending {
            Ending::Usage(usage) => self.limiter.settle_at(open.permit, usage, now),
            Ending::Cancel => self.limiter.cancel_at(open.permit, now),
            Ending::Silence => self.limiter.abandon_at(open.permit, now),
        };
        let settlement = settlement.map_err(|source| Error::Request { line: open.line, source })?;
        let (input, cached_input, output) = (settlement.input, settlement.cached_input, settlement.output);
        let cancelled = open.ending == Ending::Cancel;
        let ended = Ended { cancelled, tokens: Tokens { input, cached_input, output } };
        let charged = open.meets.iter().filter(|meet| !open.uncharged.contains(&meet.limit));
        let charges = charged.map(|meet| (meet.counter, meet.charge(&ended))).collect();
        Ok(Some(Settled { line: open.line, at: due, ending: open.ending, ended, charges }))
    }

    /// Decides on a request, after everything that is due by then has been settled.
    ///
    /// # Errors
    /// The engine cannot decide on it, or does not accept the usage of one that ends before it.
    pub fn decide(&mut self, entry: &Entry) -> Result<Verdict, Error> {
        self.settle_until(entry.at)?;
        self.now = entry.at;
        let keys: Vec<Key<'_>> = entry.keys.iter().map(|(name, value)| Key::new(name, value)).collect();
        let request = Request::new(&entry.project, &entry.deployment).with_keys(&keys);
        let line = entry.line;
        let failed = |source: tokenweir::Error| Error::Request { line, source };
        let meets = self.meets(entry, &request).map_err(failed)?;
        let now = Now::at(entry.at as u64);
        match self.limiter.admit_at(&request, entry.estimate, now).map_err(failed)? {
            Decision::Admitted(permit) => {
                let remaining = self.in_order(permit.remaining_at(now));
                let shadow_refused = permit.shadow_refused();
                let mut shadow_refused: Vec<usize> =
                    shadow_refused.iter().filter_map(|name| self.place(name)).collect();
                shadow_refused.sort_unstable();
                let open = Open {
                    line,
                    permit: permit.into_id(),
                    ending: entry.ending,
                    meets: Arc::clone(&meets),
                    uncharged: shadow_refused.clone(),
                };
                self.open.insert(self.admitted, open);
                self.due.push(Reverse((entry.due, self.admitted)));
                self.admitted += 1;
                Ok(Verdict {
                    status: 200,
                    limit: None,
                    refused: Vec::new(),
                    retry_after: None,
                    never_fits: false,
                    remaining,
                    shadow_refused,
                    meets,
                })
            }
            Decision::Denied(denied) => {
                let mut refused: Vec<Refused> = denied
                    .refusals()
                    .filter_map(|r| {
                        let limit = self.place(r.limit)?;
                        Some(Refused { limit, retry_after: known(r.retry_after), never_fits: r.never_fits })
                    })
                    .collect();
                refused.sort_by_key(|r| r.limit);
                Ok(Verdict {
                    status: denied.status(),
                    limit: self.place(denied.limit()),
                    refused,
                    retry_after: known(denied.retry_after().map(|wait| wait.as_nanos() as u64)),
                    never_fits: denied.never_fits(),
                    remaining: self.in_order(denied.remaining()),
                    shadow_refused: Vec::new(),
                    meets,
                })
            }
        }
    }

    /// The row of a decision.
    pub fn row(&self, entry: &Entry, verdict: &Verdict) -> Row {
        let name = |limit: usize| Arc::clone(self.policy.limits()[limit].name());
        Row {
            line: entry.line,
            at: entry.at,
            at_text: entry.at_text.clone(),
            admitted: verdict.status == 200,
            status: verdict.status,
            limit: verdict.limit.map(name),
            refused_by: verdict.refused.iter().map(|refused| name(refused.limit)).collect(),
            retry_after: verdict.retry_after,
            never_fits: verdict.never_fits,
            remaining: verdict.remaining.iter().map(|&(limit, left)| (name(limit), left)).collect(),
            shadow_refused: verdict.shadow_refused.iter().map(|&limit| name(limit)).collect(),
        }
    }

    /// Settles everything that is still open, each at its own time.
    ///
    /// # Errors
    /// The engine does not accept the usage of one of them.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.settle_until(i64::MAX)
    }

    /// Has the store record what is used and no more, if there is one.
    ///
    /// # Errors
    /// [`tokenweir::Error::Store`]; then it has at least what is used.
    pub fn give_back_leases(&self) -> Result<(), tokenweir::Error> {
        self.limiter.give_back_leases()
    }

    /// The rows of a whole trace, then the end of everything that it leaves open.
    pub fn rows<R: BufRead>(self, trace: Trace<R>) -> Rows<R> {
        Rows { replay: self, trace, done: false }
    }

    /// Settles what is due at or before `at`.
    fn settle_until(&mut self, at: i64) -> Result<(), Error> {
        while self.next_due().is_some_and(|due| due <= at) {
            self.settle_next()?;
        }
        Ok(())
    }

    /// The limits that a request meets.
    fn meets(&mut self, entry: &Entry, request: &Request<'_>) -> Result<Arc<[Meet]>, tokenweir::Error> {
        let mut keys = entry.keys.clone();
        keys.retain(|(name, _)| self.policy.key_names().iter().any(|known| **known == **name));
        keys.sort_unstable();
        let key = (entry.project.clone(), entry.deployment.clone(), keys);
        if let Some(meets) = self.routes.get(&key) {
            return Ok(Arc::clone(meets));
        }
        let resolution = self.policy.resolve(request)?;
        let mut meets = Vec::with_capacity(resolution.applied.len());
        for applied in resolution.applied {
            let scope = self.policy.limits()[applied.limit].scope().iter().map(|part| match part {
                ScopePart::Project => entry.project.clone(),
                ScopePart::Deployment => entry.deployment.clone(),
                ScopePart::Key(name) => request.key(name).unwrap_or_default().to_vec(),
            });
            let counter = Counter { limit: applied.limit, scope: scope.collect() };
            let next = self.counters.len();
            let number = *self.numbers.entry(counter.clone()).or_insert(next);
            if number == next {
                self.counters.push(counter);
            }
            meets.push(Meet { limit: applied.limit, counter: number, rule: applied.charge });
        }
        let meets: Arc<[Meet]> = meets.into();
        if self.routes.len() >= ROUTES {
            self.routes.clear();
        }
        self.routes.insert(key, Arc::clone(&meets));
        Ok(meets)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    fn in_order(&self, remaining: Vec<(String, i64)>) -> Vec<(usize, i64)> {
        let known = remaining.into_iter().filter_map(|(name, left)| Some((self.place(&name)?, left)));
        let mut remaining: Vec<(usize, i64)> = known.collect();
        remaining.sort_unstable();
        remaining
    }
}

/// A wait, unless only the expiry of permits would end it.
fn known(wait: Option<u64>) -> Option<u64> {
    wait.filter(|&wait| wait < FOREVER)
}

/// The decisions on a trace, one [`Row`] for each request; ends after the first error.
#[derive(Debug)]
pub struct Rows<R> {
    replay: Replay,
    trace: Trace<R>,
    done: bool,
}

impl<R> Rows<R> {
    /// The replay as it stands; after the last row everything has been settled.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }
}

impl<R: BufRead> Rows<R> {
    fn step(&mut self) -> Result<Option<Row>, Error> {
        let Some(entry) = self.trace.next_entry()? else {
            self.replay.finish()?;
            return Ok(None);
        };
        let verdict = self.replay.decide(&entry)?;
        Ok(Some(self.replay.row(&entry, &verdict)))
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}
