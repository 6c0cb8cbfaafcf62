//! What a policy means on the server: for each request its keys and what the scripts are told of each limit.

use crate::error::Error;
use crate::lease::{Allowance, Lease};
use crate::numbers::{Numbers, number};
use crate::together::Queues;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokenweir::elsewhere::Denials;
use tokenweir::policy::{Algorithm, ChargeRule, Limit, Mode, Period, ScopePart, Tokens, Until};
use tokenweir::{Policy, Request};

/// So many routes are remembered; then all are forgotten and found anew.
const MOST_PLANS: usize = 16_384;

/// A request meets at most so many limits: the server's scripts have room for no more at once.
pub(crate) const MOST_LEGS: usize = 256;

/// The periods of a quota, with the ones asked for last.
#[derive(Debug)]
pub(crate) struct Periods {
    period: Period,
    last: Mutex<[i64; 3]>,
}

/// Microseconds in which the scripts can count; beyond it nobody has a calendar.
const TIME_END: i64 = 9_007_000_000_000_000;

impl Periods {
    fn new(period: Period) -> Self {
        Periods { period, last: Mutex::new([0; 3]) }
    }

    /// Start and end of the period that holds `now`, and the end of the next; microseconds since 1970.
    pub(crate) fn at(&self, now: i64) -> [i64; 3] {
        let mut last = self.last.lock();
        if now < last[0] || last[1] <= now {
            let nanos = |micros: i64| micros.saturating_mul(1000);
            let micros = |nanos: i64| nanos.div_euclid(1000).clamp(-TIME_END, TIME_END);
            let this = self.period.bounds(nanos(now));
            let next = if this.end == i64::MAX { this } else { self.period.bounds(this.end) };
            *last = [micros(this.start), micros(this.end), micros(next.end)];
        }
        *last
    }

    /// When the period that begins at `start` or holds it is over; `None` if never.
    pub(crate) fn end(&self, start: i64) -> Option<i64> {
        let end = self.period.bounds(start.saturating_mul(1000)).end;
        (end != i64::MAX).then(|| end.div_euclid(1000))
    }
}

/// A limit's algorithm as the scripts know it.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Refill of `amount` in every `per` microseconds.
    Bucket {
        burst: u64,
        amount: u64,
        per: u64,
    },
    /// Sub-windows in nanoseconds.
    Window {
        amount: u64,
        until: Until,
        sub_window: u64,
        sub_windows: u64,
    },
    Quota {
        amount: u64,
        until: Until,
        periods: Arc<Periods>,
    },
    /// A place is held for so many microseconds, at most as long as its permit lives, unless it is renewed.
    InFlight {
        amount: u64,
        held: u64,
    },
}

impl Kind {
    fn of(algorithm: &Algorithm, until: Until, held: u64) -> Self {
        match algorithm {
            Algorithm::Bucket { amount, per, burst } => {
                Kind::Bucket { burst: *burst, amount: *amount, per: per / 1000 }
            }
            Algorithm::Window { amount, per, sub_windows } => Kind::Window {
                amount: *amount,
                until,
                sub_window: per / u64::from((*sub_windows).max(1)),
                sub_windows: u64::from(*sub_windows),
            },
            Algorithm::Quota { amount, period } => {
                Kind::Quota { amount: *amount, until, periods: Arc::new(Periods::new(period.clone())) }
            }
            Algorithm::InFlight { amount } => Kind::InFlight { amount: *amount, held },
        }
    }

    /// What the limit has at most.
    pub(crate) fn amount(&self) -> u64 {
        match self {
            Kind::Bucket { burst, .. } => *burst,
            Kind::Window { amount, .. } | Kind::Quota { amount, .. } | Kind::InFlight { amount, .. } => *amount,
        }
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self, Kind::InFlight { .. })
    }

    /// How long a place of it is held, in microseconds; 0 if it has none.
    pub(crate) fn held(&self) -> u64 {
        if let Kind::InFlight { held, .. } = self { *held } else { 0 }
    }

    /// How long a lease that was charged at `now` may be spent, by the counter's own rules: a quota's until its period ends.
    pub(crate) fn rest(&self, period: f64, now: i64) -> Duration {
        let Kind::Quota { periods, .. } = self else { return Duration::MAX };
        let end = periods.end(period as i64);
        end.map_or(Duration::MAX, |end| Duration::from_micros(end.saturating_sub(now).max(0) as u64))
    }

    /// What the scripts are told of a charge of `n`, as of `now` in microseconds.
    fn words(&self, enforced: bool, n: u64, now: i64) -> [f64; 8] {
        let shadow = if enforced { 0.0 } else { 1.0 };
        let most = |amount: u64, until: Until| match n {
            // A charge of nothing must stay below the bound.
            0 => until.bound(amount, 0) - 1,
            n => until.bound(amount, n),
        };
        let (kind, rest) = match self {
            Kind::Bucket { burst, amount, per } => (1.0, [number(*burst), number(*amount), number(*per), 0.0, 0.0]),
            Kind::Window { amount, until, sub_window, sub_windows } => {
                let lives = (sub_window * (sub_windows + 1)).div_ceil(1_000_000) + 1000;
                let length = *sub_window as f64 / 1000.0;
                (2.0, [number(most(*amount, *until)), length, number(*sub_windows), number(lives), 0.0])
            }
            Kind::Quota { amount, until, periods } => {
                let [start, end, next] = periods.at(now).map(|at| at as f64);
                (3.0, [number(most(*amount, *until)), start, end, next, 0.0])
            }
            Kind::InFlight { amount, held } => (4.0, [number(*amount), number(*held), 0.0, 0.0, 0.0]),
        };
        let [a, b, c, d, last] = rest;
        [kind, shadow, number(n), a, b, c, d, last]
    }
}

/// One limit of a request.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    /// Its place in the policy's limits; the number of them, if a permit from elsewhere was charged for one that the policy does
    /// not have.
    pub(crate) limit: usize,
    pub(crate) name: Arc<str>,
    /// The counter's key on the server, and where in it the limit's identity stands.
    pub(crate) key: Vec<u8>,
    pub(crate) identity: std::ops::Range<usize>,
    pub(crate) kind: Kind,
    pub(crate) charge: ChargeRule,
    pub(crate) enforced: bool,
}

/// All limits of a request, and the slot that they are in.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) legs: Vec<Leg>,
    /// What every key begins with.
    pub(crate) tag: Vec<u8>,
    /// What is leased of each limit; none if the server decides all.
    pub(crate) allowances: Vec<Arc<Allowance>>,
    /// Requests and ends of permits that wait to go together.
    pub(crate) queues: Queues,
}

impl Plan {
    /// The charge of each limit for these tokens.
    pub(crate) fn charges(&self, tokens: &Tokens) -> Vec<u64> {
        self.legs.iter().map(|leg| leg.charge.charge(tokens)).collect()
    }

    /// These numbers, then what the scripts are told of each limit and its charge.
    pub(crate) fn numbers(&self, head: &[f64], charges: &[u64], now: i64) -> Numbers {
        let mut numbers = Numbers::with_capacity(head.len() + 8 * self.legs.len());
        numbers.extend(head);
        for (leg, n) in self.legs.iter().zip(charges) {
            numbers.extend(&leg.kind.words(leg.enforced, *n, now));
        }
        numbers
    }

    /// These numbers, then what the script is told of a lease of the first limit: at most `want`, and one part of `part` of what
    /// is left; nothing, if that is less than `least`.
    pub(crate) fn lease_numbers(&self, head: &[f64], (least, want, part): (u64, u64, u32), now: i64) -> Numbers {
        let mut numbers = Numbers::with_capacity(head.len() + 8);
        numbers.extend(head);
        for leg in self.legs.iter().take(1) {
            let [kind, _, want, a, b, c, d, _] = leg.kind.words(true, want, now);
            numbers.extend(&[kind, number(least), want, a, b, c, d, f64::from(part)]);
        }
        numbers
    }

    /// One limit of it alone.
    pub(crate) fn single(&self, leg: usize) -> Arc<Plan> {
        let legs = self.legs.get(leg).cloned().into_iter().collect();
        Arc::new(Plan { legs, tag: self.tag.clone(), allowances: Vec::new(), queues: Queues::default() })
    }

    /// What this process has leased of a limit.
    pub(crate) fn lease(&self, leg: usize) -> Option<Arc<Lease>> {
        self.allowances.get(leg)?.current()
    }

    pub(crate) fn permit_key(&self, id: u64) -> Vec<u8> {
        permit_key(&self.tag, id)
    }
}

/// Where the record of a permit is.
pub(crate) fn permit_key(tag: &[u8], id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(tag.len() + 17);
    key.extend_from_slice(tag);
    key.extend_from_slice(format!("p{id:016x}").as_bytes());
    key
}

/// A policy, ready for the server.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) denials: Denials,
    kinds: Vec<Kind>,
    identities: Vec<String>,
    /// Sorted, so that the one which a counter's key begins with is found.
    by_identity: BTreeMap<Vec<u8>, usize>,
    plans: RwLock<HashMap<Vec<u8>, Arc<Plan>>>,
    /// By the counter's key; `None` without leases.
    allowances: Option<Mutex<HashMap<Vec<u8>, Arc<Allowance>>>>,
    prefix: String,
    slot_by: Option<ScopePart>,
    /// Decides by a share of every amount while the server is away.
    pub(crate) local: Option<tokenweir::Limiter>,
    held: u64,
}

impl Rules {
    pub(crate) fn new(
        policy: Policy,
        prefix: &str,
        slot_by: Option<ScopePart>,
        local: Option<tokenweir::Limiter>,
        (leased, place_ttl): (bool, Option<Duration>),
    ) -> Result<Self, Error> {
        let held = place_ttl.map_or(TIME_END as u64, |place_ttl| place_ttl.as_micros() as u64);
        if let Some(part) = &slot_by
            && let Some(limit) = policy.limits().iter().find(|limit| !limit.scope().contains(part))
        {
            return Err(Error::AcrossSlots { limit: limit.name().to_string(), part: part.to_string() });
        }
        let kinds = policy.limits().iter().map(|limit| Kind::of(limit.algorithm(), limit.until(), held)).collect();
        let identities: Vec<String> = policy.limits().iter().map(|limit| limit.identity()).collect();
        let by_identity =
            identities.iter().enumerate().map(|(limit, identity)| (identity.as_bytes().to_vec(), limit)).collect();
        let plans = RwLock::new(HashMap::new());
        let denials = Denials::new(policy);
        let (allowances, prefix) = (leased.then(Mutex::default), prefix.to_owned());
        Ok(Rules { denials, kinds, identities, by_identity, plans, allowances, prefix, slot_by, local, held })
    }

    /// What a request meets.
    pub(crate) fn plan(&self, request: &Request<'_>) -> Result<Arc<Plan>, Error> {
        let policy = self.denials.policy();
        let mut route = Vec::with_capacity(64);
        let mut part = |value: Option<&[u8]>| {
            // Lengths count from 1, so that an absent key and an empty one differ.
            route.extend_from_slice(&value.map_or(0, |value| value.len() as u64 + 1).to_le_bytes());
            route.extend_from_slice(value.unwrap_or_default());
        };
        part(Some(request.project));
        part(Some(request.deployment));
        policy.key_names().iter().for_each(|name| part(request.key(name)));
        // What a caller sends twice is an error that the look-up would not see.
        let plain = request.keys.len() <= 1;
        if plain && let Some(plan) = self.plans.read().get(&route) {
            return Ok(plan.clone());
        }
        let resolved = policy.resolve(request).map_err(tokenweir::Error::from)?;
        if !plain && let Some(plan) = self.plans.read().get(&route) {
            return Ok(plan.clone());
        }
        if resolved.applied.len() > MOST_LEGS {
            return Err(Error::TooManyLimits { limits: resolved.applied.len(), most: MOST_LEGS });
        }
        let tag = self.tag(request);
        let legs = resolved.applied.into_iter().map(|applied| {
            let limit = &policy.limits()[applied.limit];
            let (key, identity) = counter_key(&tag, &self.identities[applied.limit], &applied.key);
            Leg {
                limit: applied.limit,
                name: limit.name().clone(),
                key,
                identity,
                kind: self.kinds[applied.limit].clone(),
                charge: applied.charge,
                enforced: limit.mode() == Mode::Enforce,
            }
        });
        let legs: Vec<Leg> = legs.collect();
        let plan = Arc::new(Plan { allowances: self.allowances(&legs), legs, tag, queues: Queues::default() });
        let mut plans = self.plans.write();
        if plans.len() >= MOST_PLANS {
            plans.clear();
            if let Some(allowances) = &self.allowances {
                allowances.lock().clear();
            }
        }
        plans.insert(route, plan.clone());
        Ok(plan)
    }

    /// What is leased of these limits; none if one of them cannot be.
    fn allowances(&self, legs: &[Leg]) -> Vec<Arc<Allowance>> {
        let leasable = |leg: &Leg| leg.enforced && !leg.kind.is_in_flight();
        match &self.allowances {
            Some(allowances) if legs.iter().all(leasable) => {
                let mut allowances = allowances.lock();
                legs.iter().map(|leg| allowances.entry(leg.key.clone()).or_default().clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What every key of the request begins with: all that is within its braces decides on the slot.
    pub(crate) fn tag(&self, request: &Request<'_>) -> Vec<u8> {
        let value = match &self.slot_by {
            None => None,
            Some(ScopePart::Project) => Some(request.project),
            Some(ScopePart::Deployment) => Some(request.deployment),
            Some(ScopePart::Key(name)) => request.key(name),
        };
        let mut tag = format!("{{{}", self.prefix).into_bytes();
        if let Some(value) = value {
            tag.push(b':');
            for byte in value {
                match byte {
                    // The braces would end the tag, and a percent sign would make two values one.
                    b'{' | b'}' | b'%' => {
                        let mut escaped = String::new();
                        let _ = write!(escaped, "%{byte:02x}");
                        tag.extend_from_slice(escaped.as_bytes());
                    }
                    byte => tag.push(*byte),
                }
            }
        }
        tag.push(b'}');
        tag
    }

    /// The tag of a store whose keys are all in one slot.
    pub(crate) fn one_tag(&self) -> Option<Vec<u8>> {
        self.slot_by.is_none().then(|| format!("{{{}}}", self.prefix).into_bytes())
    }

    /// How long the identity is that a counter's key has behind its tag; `None` if it is no limit's of this policy.
    pub(crate) fn identity_in(&self, key: &[u8]) -> Option<usize> {
        // A list of JSON says where it ends, so none is the beginning of another, and none lies between one and what begins with it.
        let (identity, _) = self.by_identity.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(identity).then_some(identity.len())
    }

    /// A limit that a permit from elsewhere was charged for: as this policy has it, or, if it does not, as the identity in the
    /// counter's key says. `None` if that is none.
    pub(crate) fn leg(&self, key: Vec<u8>, identity: std::ops::Range<usize>, charge: ChargeRule) -> Option<Leg> {
        let named = key.get(identity.clone())?;
        let limits = self.denials.policy().limits();
        if let Some(&limit) = self.by_identity.get(named) {
            let (kind, name) = (self.kinds[limit].clone(), limits[limit].name().clone());
            let enforced = limits[limit].mode() == Mode::Enforce;
            return Some(Leg { limit, name, key, identity, kind, charge, enforced });
        }
        let gone = Limit::from_identity(std::str::from_utf8(named).ok()?)?;
        let (mut kind, name) = (Kind::of(gone.algorithm(), gone.until(), self.held), gone.name().clone());
        // A bucket's refill depends on its amounts, and they are on the server; those of the others only decide.
        if let Kind::Bucket { burst, amount, .. } = &mut kind {
            (*burst, *amount) = (0, 0);
        }
        Some(Leg { limit: limits.len(), name, key, identity, kind, charge, enforced: false })
    }
}

/// The key of a counter. The identity is a JSON list, which says where it ends, and the scope's values tell their lengths: no
/// two counters have one key.
fn counter_key(tag: &[u8], identity: &str, scope: &[u8]) -> (Vec<u8>, std::ops::Range<usize>) {
    let mut key = Vec::with_capacity(tag.len() + 1 + identity.len() + scope.len());
    key.extend_from_slice(tag);
    key.push(b'c');
    let from = key.len();
    key.extend_from_slice(identity.as_bytes());
    let to = key.len();
    key.extend_from_slice(scope);
    (key, from..to)
}
