//! The library, driven by a trace: every call to the limiter is made here.
//!
//! The rest of the command sees limits by their place in the policy, instants as nanoseconds since 1970, and none of
//! the limiter's types but the permit's id.

use std::collections::HashMap;
use std::time::Duration;

use tokenweir::policy::{Algorithm, ChargeRule, Limit, Meter, Mode, ScopePart, Tokens};
use tokenweir::{Decision, Estimate, Key, Limiter, ManualClock, Now, PermitId, Policy, Request, UsageFilter};

use crate::instant;
use crate::text::{grouped, printable};
use crate::trace::{Ending, Entry};

/// More permits than any trace opens at a time; their table grows as they are opened.
const PLENTY: usize = 1 << 24;

/// Longer than this, a wait is for a permit to expire, which none does here: nobody knows when a place comes free.
const FOREVER: u64 = (i64::MAX / 4) as u64;

/// A limit as the summary and the report name it.
#[derive(Debug, Clone)]
pub struct LimitFacts {
    /// Its name.
    pub name: String,
    /// What it counts, in the plural: `tokens`, `requests`.
    pub unit: &'static str,
    /// The most that can be in use at a time: the burst of a bucket, the amount of the others.
    pub ceiling: u64,
    /// Algorithm and amount in words: `bucket, 100,000 tokens per 1 min, burst 20,000`.
    pub terms: String,
    /// What its counters are told apart by: `project`, `deployment`, `key:user`.
    pub scope: Vec<String>,
    /// Whether it refuses; otherwise it only counts.
    pub enforced: bool,
}

impl LimitFacts {
    /// All limits of a policy, in its order.
    pub fn of(policy: &Policy) -> Vec<Self> {
        policy.limits().iter().map(Self::new).collect()
    }

    fn new(limit: &Limit) -> Self {
        let unit = match limit.meter() {
            Meter::Requests => "requests",
            Meter::Input => "input tokens",
            Meter::Output => "output tokens",
            Meter::Total => "tokens",
            Meter::Cost => "micro-units",
            Meter::InFlight => "permits",
        };
        let amount = format!("{} {unit}", grouped(limit.algorithm().amount()));
        let (ceiling, terms) = match limit.algorithm() {
            Algorithm::Bucket { amount: refill, per, burst } => {
                let burst_text = if burst == refill { String::new() } else { format!(", burst {}", grouped(*burst)) };
                (*burst, format!("bucket, {amount} per {}{burst_text}", instant::span_text(*per)))
            }
            Algorithm::Window { amount: most, per, .. } => {
                (*most, format!("window, {amount} in any {}", instant::span_text(*per)))
            }
            Algorithm::Quota { amount: most, period } => (*most, format!("quota, {amount} {period}")),
            Algorithm::InFlight { amount: most } => (*most, format!("in flight, {} at a time", grouped(*most))),
        };
        LimitFacts {
            name: limit.name().to_string(),
            unit,
            ceiling,
            terms,
            scope: limit.scope().iter().map(ToString::to_string).collect(),
            enforced: limit.mode() == Mode::Enforce,
        }
    }

    /// `by project and deployment`, or `one counter for all`.
    pub fn scope_text(&self) -> String {
        match &self.scope[..] {
            [] => "one counter for all".into(),
            [one] => format!("by {}", printable(one.as_bytes())),
            [most @ .., last] => {
                let most: Vec<String> = most.iter().map(|part| printable(part.as_bytes())).collect();
                format!("by {} and {}", most.join(", "), printable(last.as_bytes()))
            }
        }
    }
}

/// A limit that a request meets.
#[derive(Debug, Clone)]
pub struct Meet {
    /// Its place in the policy.
    pub limit: usize,
    /// The values of its scope, which name the counter.
    pub scope: Vec<Vec<u8>>,
    /// What it charges.
    rule: ChargeRule,
}

impl Meet {
    /// What the limit is charged for a request that ended so.
    pub fn charge(&self, ended: &Ended) -> u64 {
        if ended.cancelled { 0 } else { self.rule.charge(&ended.tokens) }
    }
}

/// What a request came to.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// It never reached the provider.
    pub cancelled: bool,
    /// Its tokens; the estimate where nothing was reported.
    pub tokens: Tokens,
}

/// A limit that refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its place in the policy.
    pub limit: usize,
    /// The wait it advises, in nanoseconds.
    pub retry_after: Option<u64>,
    /// Whether the request is larger than the limit can ever hold.
    pub never_fits: bool,
}

/// A decision, with limits by their places in the policy.
#[derive(Debug)]
pub struct Verdict {
    /// The permit, if it was admitted.
    pub permit: Option<PermitId>,
    /// 200, 429 (a rate) or 403 (a quota).
    pub status: u16,
    /// The limit that decided, if it was denied.
    pub limit: Option<usize>,
    /// Every limit that refused, in the order of the policy.
    pub refused: Vec<Refused>,
    /// The wait that the deciding limit advises, in nanoseconds.
    pub retry_after: Option<u64>,
    /// Whether the request can never be admitted.
    pub never_fits: bool,
    /// What every enforced limit has left after the decision, in the order of the policy.
    pub remaining: Vec<(usize, i64)>,
    /// The shadow limits that would have refused. They were not charged.
    pub shadow_refused: Vec<usize>,
}

/// One counter, as the usage view shows it.
#[derive(Debug)]
pub struct Counter {
    /// The place of its limit in the policy.
    pub limit: usize,
    /// The values of its scope.
    pub scope: Vec<Vec<u8>>,
    /// What is left of it.
    pub remaining: i64,
}

/// A limiter on a manual clock.
#[derive(Debug)]
pub struct Drive {
    policy: Policy,
    limiter: Limiter,
    places: HashMap<String, usize>,
}

impl Drive {
    /// A limiter that nothing has used yet, whose permits outlast every trace.
    pub fn new(policy: Policy, max_counters: usize) -> Self {
        let places = policy.limits().iter().enumerate().map(|(place, l)| (l.name().to_string(), place)).collect();
        let limiter = Limiter::builder(policy.clone())
            .clock(ManualClock::default())
            .permit_ttl(Duration::from_nanos(i64::MAX as u64))
            .max_permits(PLENTY)
            .max_counters(max_counters)
            .build();
        Drive { policy, limiter, places }
    }

    /// The limits that a request meets.
    ///
    /// # Errors
    /// In words: a limit requires a key that it lacks, or counts cost without a price.
    pub fn meets(&self, entry: &Entry) -> Result<Vec<Meet>, String> {
        let keys = keys(entry);
        let request = request(entry, &keys);
        let resolution = self.policy.resolve(&request).map_err(|e| e.to_string())?;
        let scope = |limit: usize| {
            let parts = self.policy.limits()[limit].scope().iter();
            parts.map(|part| match part {
                ScopePart::Project => entry.project.clone(),
                ScopePart::Deployment => entry.deployment.clone(),
                ScopePart::Key(name) => request.key(name).unwrap_or_default().to_vec(),
            })
        };
        let meets = resolution.applied.into_iter();
        Ok(meets.map(|a| Meet { limit: a.limit, scope: scope(a.limit).collect(), rule: a.charge }).collect())
    }

    /// Whether the policy looks at the caller key `name`.
    pub fn looks_at(&self, name: &str) -> bool {
        self.policy.key_names().iter().any(|known| **known == *name)
    }

    /// Decides on a request at its instant.
    ///
    /// # Errors
    /// In words.
    pub fn admit(&self, entry: &Entry) -> Result<Verdict, String> {
        let keys = keys(entry);
        let now = Now::at(entry.at as u64);
        match self.limiter.admit_at(&request(entry, &keys), entry.estimate, now).map_err(|e| e.to_string())? {
            Decision::Admitted(permit) => {
                let remaining = self.in_order(permit.remaining_at(now));
                let mut shadow_refused: Vec<usize> =
                    permit.shadow_refused().iter().filter_map(|name| self.place(name)).collect();
                shadow_refused.sort_unstable();
                Ok(Verdict {
                    permit: Some(permit.into_id()),
                    status: 200,
                    limit: None,
                    refused: Vec::new(),
                    retry_after: None,
                    never_fits: false,
                    remaining,
                    shadow_refused,
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
                    permit: None,
                    status: denied.status(),
                    limit: self.place(denied.limit()),
                    refused,
                    retry_after: known(denied.retry_after().map(|wait| wait.as_nanos() as u64)),
                    never_fits: denied.never_fits(),
                    remaining: self.in_order(denied.remaining()),
                    shadow_refused: Vec::new(),
                })
            }
        }
    }

    /// Ends a request at `at`.
    ///
    /// # Errors
    /// In words.
    pub fn end(&self, permit: PermitId, ending: Ending, at: i64) -> Result<Ended, String> {
        let now = Now::at(at as u64);
        let settlement = match ending {
            Ending::Usage(usage) => self.limiter.settle_at(permit, usage, now),
            Ending::Cancel => self.limiter.cancel_at(permit, now),
            Ending::Silence => self.limiter.abandon_at(permit, now),
        };
        let settlement = settlement.map_err(|e| e.to_string())?;
        let (input, cached_input, output) = (settlement.input, settlement.cached_input, settlement.output);
        Ok(Ended { cancelled: ending == Ending::Cancel, tokens: Tokens { input, cached_input, output } })
    }

    /// Every counter that is in use at `at`. Takes nothing.
    pub fn counters(&self, at: i64) -> Vec<Counter> {
        let view = self.limiter.usage_at(&UsageFilter::default(), Now::at(at as u64));
        let known = view.into_iter().filter_map(|counter| {
            let scope = counter.scope.into_iter().map(|(_, value)| value).collect();
            Some(Counter { limit: self.place(&counter.limit)?, scope, remaining: counter.remaining })
        });
        known.collect()
    }

    /// Requests that were denied because there was no room for another counter.
    pub fn refused_full(&self) -> u64 {
        self.limiter.stats().refused_full
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

fn keys(entry: &Entry) -> Vec<Key<'_>> {
    entry.keys.iter().map(|(name, value)| Key::new(name, value)).collect()
}

fn request<'a>(entry: &'a Entry, keys: &'a [Key<'a>]) -> Request<'a> {
    Request::new(&entry.project, &entry.deployment).with_keys(keys)
}

/// What the policy says of one request when nothing has been used yet.
///
/// # Errors
/// In words.
pub fn explain(policy: Policy, request: &Request<'_>, estimate: Estimate) -> Result<tokenweir::Explanation, String> {
    Limiter::builder(policy)
        .clock(ManualClock::default())
        .build()
        .explain_at(request, estimate, Now::at(0))
        .map_err(|e| e.to_string())
}
