//! The reference model: a bookkeeper that keeps every charge and computes each answer from the whole history.
//!
//! It shares with the library what reads a policy and says what a request is charged, and nothing else. It never
//! decides on its own: [`Model::judge`] says what it would decide, and whoever drives it then charges, or does not.

use super::ledger::{Bucket, Quota, Resolution, Window};
use std::collections::HashMap;
use tokenweir::policy::{Algorithm, Applied, Limit, Mode, ScopePart, Tokens};
use tokenweir::{Estimate, Now, Policy, Request, Usage};

/// What makes a counter the same counter under another policy.
type Identity = String;

fn identity(limit: &Limit) -> Identity {
    let period = match limit.algorithm() {
        Algorithm::Bucket { per, .. } => format!("bucket {per}"),
        Algorithm::Window { per, sub_windows, .. } => format!("window {per} {sub_windows}"),
        Algorithm::Quota { period, .. } => format!("quota {period}"),
        Algorithm::InFlight { .. } => "in flight".to_owned(),
    };
    format!("{:?} {:?} {} {period}", limit.name(), limit.scope(), limit.meter())
}

/// What one limit counts for one key.
#[derive(Debug, Clone)]
pub enum Ledger {
    Bucket(Bucket),
    Window(Window),
    Quota(Quota),
    InFlight { amount: u64 },
}

/// A counter: its ledger and its totals.
#[derive(Debug, Clone)]
pub struct Counter {
    pub limit: String,
    pub scope: Vec<(String, Vec<u8>)>,
    pub ledger: Ledger,
    identity: Identity,
    key: Vec<u8>,
    /// What all settled permits were charged in the end.
    pub settled: u128,
    /// A return has been judged on this bucket after some refill, or its resolution has changed: from then on the
    /// library may be stricter.
    pub loose: bool,
    /// Evicted at rest: the next request of this key starts a new counter.
    pub forgotten: bool,
    /// How often the ledger was begun anew, in other parts of a token, which orphans older charges.
    pub begun: u32,
    /// How often the limit was changed.
    changes: u32,
}

/// What a permit holds of one counter.
#[derive(Debug, Clone)]
struct Hold {
    counter: usize,
    rule: Applied,
    enforced: bool,
    charge: u64,
    /// Entries of the ledger, in the order they were made: the estimate, then what was observed beyond it.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    entry: usize,
    amount: u64,
    at: Now,
    begun: u32,
    changes: u32,
}

/// A permit and what became of it.
#[derive(Debug, Clone)]
pub struct Permit {
    pub open: bool,
    pub deadline: Option<u64>,
    tokens: Tokens,
    observed: (u64, u64),
    holds: Vec<Hold>,
}

/// How one limit stands towards a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub limit: String,
    pub shadow: bool,
    pub charge: u64,
    pub fits: bool,
    pub never_fits: bool,
    pub remaining: i128,
    /// Nanoseconds until it fits; `None`: not by the passing of time.
    pub wait: Option<u128>,
    pub status: u16,
    /// The library may be stricter here.
    pub loose: bool,
}

/// What the model would decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub standings: Vec<Standing>,
}

impl Verdict {
    pub fn enforced(&self) -> impl Iterator<Item = &Standing> {
        self.standings.iter().filter(|standing| !standing.shadow)
    }

    pub fn refusals(&self) -> impl Iterator<Item = &Standing> {
        self.enforced().filter(|standing| !standing.fits)
    }

    pub fn admitted(&self) -> bool {
        self.refusals().next().is_none()
    }

    pub fn shadow_refused(&self) -> Vec<String> {
        let refused = self.standings.iter().filter(|standing| standing.shadow && !standing.fits);
        refused.map(|standing| standing.limit.clone()).collect()
    }
}

/// How a permit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Usage(Usage),
    Cancel,
    Drop,
}

/// The bookkeeper.
#[derive(Debug, Clone)]
pub struct Model {
    policy: Policy,
    resolution: Resolution,
    /// An unused bucket of each bucket limit: new keys start as this.
    fresh: HashMap<Identity, Bucket>,
    pub counters: Vec<Counter>,
    index: HashMap<(Identity, Vec<u8>), usize>,
    pub permits: Vec<Permit>,
    pub ttl: Option<u64>,
}

impl Model {
    pub fn new(policy: Policy, resolution: Resolution) -> Self {
        let mut model = Model {
            policy: policy.clone(),
            resolution,
            fresh: HashMap::new(),
            counters: Vec::new(),
            index: HashMap::new(),
            permits: Vec::new(),
            ttl: None,
        };
        model.swap(policy, Now::default());
        model
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A new policy applies from `now` on.
    pub fn swap(&mut self, policy: Policy, now: Now) {
        for limit in policy.limits() {
            let identity = identity(limit);
            if let Algorithm::Bucket { amount, per, burst } = limit.algorithm() {
                match self.fresh.get_mut(&identity) {
                    Some(bucket) => {
                        bucket.change_unused(*burst, *amount, now.mono);
                    }
                    None => {
                        let mut bucket = Bucket::new(*burst, *amount, *per, self.resolution);
                        bucket.begin(now.mono);
                        self.fresh.insert(identity.clone(), bucket);
                    }
                }
            }
            for counter in self.counters.iter_mut().filter(|counter| counter.identity == identity && !counter.forgotten)
            {
                counter.changes += 1;
                match (&mut counter.ledger, limit.algorithm()) {
                    (Ledger::Bucket(bucket), Algorithm::Bucket { amount, burst, .. }) => {
                        counter.loose |= bucket.is_past(now.mono);
                        if !bucket.change(*burst, *amount, now.mono) {
                            counter.begun += 1;
                        }
                    }
                    (Ledger::Window(window), Algorithm::Window { amount, .. }) => {
                        (window.amount, window.until) = (*amount, limit.until());
                    }
                    (Ledger::Quota(quota), Algorithm::Quota { amount, .. }) => {
                        (quota.amount, quota.until) = (*amount, limit.until());
                    }
                    (Ledger::InFlight { amount }, Algorithm::InFlight { amount: new }) => *amount = *new,
                    (ledger, algorithm) => unreachable!("{ledger:?} is not {algorithm:?}"),
                }
            }
        }
        // What neither the policy nor any counter knows begins anew if it comes back.
        let known = |identity: &Identity| {
            let mut counters = self.counters.iter().filter(|counter| !counter.forgotten);
            counters.any(|counter| counter.identity == *identity)
        };
        let limits: Vec<Identity> = policy.limits().iter().map(identity).collect();
        self.fresh.retain(|identity, _| limits.contains(identity) || known(identity));
        self.policy = policy;
    }

    /// The counter of this key, made if there is none.
    fn counter(&mut self, applied: &Applied, request: &Request<'_>) -> usize {
        let limit = &self.policy.limits()[applied.limit];
        let identity = identity(limit);
        let known = (identity.clone(), applied.key.clone());
        if let Some(counter) = self.index.get(&known) {
            return *counter;
        }
        let ledger = match limit.algorithm() {
            Algorithm::Bucket { .. } => Ledger::Bucket(self.fresh[&identity].clone()),
            Algorithm::Window { amount, per, sub_windows } => {
                let mut window = Window::new(*amount, *per, *sub_windows);
                window.until = limit.until();
                Ledger::Window(window)
            }
            Algorithm::Quota { amount, period } => {
                let mut quota = Quota::new(*amount, period.clone());
                quota.until = limit.until();
                Ledger::Quota(quota)
            }
            Algorithm::InFlight { amount } => Ledger::InFlight { amount: *amount },
        };
        let value = |part: &ScopePart| match part {
            ScopePart::Project => request.project.to_vec(),
            ScopePart::Deployment => request.deployment.to_vec(),
            ScopePart::Key(name) => request.key(name).unwrap_or_default().to_vec(),
        };
        self.counters.push(Counter {
            limit: limit.name().to_string(),
            scope: limit.scope().iter().map(|part| (part.to_string(), value(part))).collect(),
            ledger,
            identity,
            key: applied.key.clone(),
            settled: 0,
            loose: false,
            forgotten: false,
            begun: 0,
            changes: 0,
        });
        self.index.insert(known, self.counters.len() - 1);
        self.counters.len() - 1
    }

    fn applied(&self, request: &Request<'_>) -> Vec<Applied> {
        self.policy.resolve(request).expect("the traces' requests resolve").applied
    }

    /// Charges that unsettled permits hold on a counter.
    pub fn held(&self, counter: usize) -> u128 {
        let open = self.permits.iter().filter(|permit| permit.open);
        let holds = open.flat_map(|permit| &permit.holds).filter(|hold| hold.counter == counter);
        holds.map(|hold| u128::from(hold.charge)).sum()
    }

    /// What counts as used now: a bucket's deficit in whole tokens, rounded up; what windows and quotas count; permits.
    pub fn used(&self, counter: usize, now: Now) -> i128 {
        match &self.counters[counter].ledger {
            Ledger::Bucket(bucket) => i128::from(bucket.capacity) - bucket.balance(now.mono),
            Ledger::Window(window) => window.counted(now.mono),
            Ledger::Quota(quota) => quota.used(now.wall),
            Ledger::InFlight { .. } => self.held(counter) as i128,
        }
    }

    pub fn amount(&self, counter: usize) -> u64 {
        match &self.counters[counter].ledger {
            Ledger::Bucket(bucket) => bucket.capacity,
            Ledger::Window(window) => window.amount,
            Ledger::Quota(quota) => quota.amount,
            Ledger::InFlight { amount } => *amount,
        }
    }

    /// When `places` permits of this counter will have expired, in monotonic nanoseconds.
    fn released(&self, counter: usize, places: usize) -> Option<u128> {
        let holds = |permit: &&Permit| permit.open && permit.holds.iter().any(|hold| hold.counter == counter);
        let deadlines = self.permits.iter().filter(holds).filter_map(|permit| permit.deadline);
        let mut deadlines: Vec<u64> = deadlines.collect();
        deadlines.sort_unstable();
        deadlines.get(places.checked_sub(1)?).map(|deadline| u128::from(*deadline))
    }

    /// What would be decided, and why. Takes nothing.
    pub fn judge(&mut self, request: &Request<'_>, estimate: Estimate, now: Now) -> Verdict {
        self.expire(now);
        let tokens = Tokens { input: estimate.input, cached_input: 0, output: estimate.output };
        let mut standings = Vec::new();
        for applied in self.applied(request) {
            let counter = self.counter(&applied, request);
            let limit = &self.policy.limits()[applied.limit];
            let n = applied.charge.charge(&tokens);
            let remaining = i128::from(self.amount(counter)) - self.used(counter, now);
            let until = |at: u128| at.saturating_sub(u128::from(now.mono));
            let (fits, wait) = match &self.counters[counter].ledger {
                Ledger::Bucket(bucket) => (bucket.fits(n, now.mono), bucket.ready(n, now.mono).map(until)),
                Ledger::Window(window) => (window.fits(n, now.mono), window.ready(n, now.mono).map(until)),
                Ledger::Quota(quota) => (quota.fits(n, now.wall), quota.wait(n, now.wall)),
                Ledger::InFlight { .. } if remaining > 0 => (true, Some(0)),
                Ledger::InFlight { .. } => (false, self.released(counter, (1 - remaining) as usize).map(until)),
            };
            let quota = matches!(self.counters[counter].ledger, Ledger::Quota(_));
            standings.push(Standing {
                limit: limit.name().to_string(),
                shadow: limit.mode() == Mode::Shadow,
                charge: n,
                fits,
                never_fits: n > self.amount(counter),
                remaining,
                wait,
                status: if quota { 403 } else { 429 },
                loose: self.counters[counter].loose,
            });
        }
        Verdict { standings }
    }

    /// Every counter was looked at by this clock: a look moves nothing, but shows what has expired as expired.
    pub fn see_all(&mut self, now: Now) {
        self.expire(now);
    }

    /// The counter of this limit and scope.
    pub fn find(&self, limit: &str, scope: &[(String, Vec<u8>)]) -> Option<usize> {
        let same = |counter: &Counter| !counter.forgotten && counter.limit == limit && counter.scope == scope;
        self.counters.iter().position(same)
    }

    /// The monotonic clock of the next calls is behind. Before a bucket's last change its line is the one before.
    pub fn step_back(&mut self, mono: u64) {
        for counter in &mut self.counters {
            if let Ledger::Bucket(bucket) = &counter.ledger {
                counter.loose |= bucket.is_past(mono);
            }
        }
    }

    /// The counters that are at rest though their limit is not in the policy: a sweep evicts them, and no view shows it.
    pub fn hidden_at_rest(&mut self, now: Now) -> Vec<usize> {
        self.expire(now);
        let pinned = |counter: usize| {
            let mut open = self.permits.iter().filter(|permit| permit.open);
            open.any(|permit| permit.holds.iter().any(|hold| hold.counter == counter))
        };
        let hidden = |counter: &Counter| !counter.forgotten && self.policy.limit(&counter.limit).is_none();
        let at_rest = |counter: &usize| self.used(*counter, now) == 0 && !pinned(*counter);
        (0..self.counters.len()).filter(|counter| hidden(&self.counters[*counter])).filter(at_rest).collect()
    }

    /// The counter was evicted.
    pub fn forget(&mut self, counter: usize) {
        let counter = &mut self.counters[counter];
        counter.forgotten = true;
        self.index.remove(&(counter.identity.clone(), counter.key.clone()));
    }

    /// What the permit is charged for at present.
    pub fn tokens(&self, permit: usize) -> Tokens {
        self.permits[permit].tokens
    }

    /// Whether an enforced limit of the permit that counts tokens has nothing left, and whether that is loose.
    pub fn spent(&self, permit: usize, now: Now) -> (bool, bool) {
        let (mut spent, mut loose) = (false, false);
        let holds = self.permits[permit].holds.iter();
        for hold in holds.filter(|hold| hold.enforced && !hold.rule.charge.is_per_request()) {
            spent |= self.used(hold.counter, now) >= i128::from(self.amount(hold.counter));
            loose |= self.counters[hold.counter].loose;
        }
        (spent, loose)
    }

    /// The request was admitted, whatever the model thinks of it. `skipped` names the shadow limits that were not
    /// charged because they would have refused. The permit's number.
    pub fn charge(&mut self, request: &Request<'_>, estimate: Estimate, now: Now, skipped: &[String]) -> usize {
        let tokens = Tokens { input: estimate.input, cached_input: 0, output: estimate.output };
        let mut holds = Vec::new();
        for rule in self.applied(request) {
            let counter = self.counter(&rule, request);
            let limit = &self.policy.limits()[rule.limit];
            let enforced = limit.mode() == Mode::Enforce;
            if skipped.iter().any(|name| *name == **limit.name()) {
                self.tried(counter, now);
                continue;
            }
            let charge = rule.charge.charge(&tokens);
            let piece = self.put(counter, charge, now);
            holds.push(Hold { counter, rule, enforced, charge, pieces: vec![piece] });
        }
        let deadline = self.ttl.map(|ttl| now.mono.saturating_add(ttl));
        self.permits.push(Permit { open: true, deadline, tokens, observed: (0, 0), holds });
        self.permits.len() - 1
    }

    /// The request was denied. A lone limit is charged without being asked first, so it has been tried.
    pub fn denied(&mut self, request: &Request<'_>, now: Now) {
        if let [rule] = &self.applied(request)[..] {
            let counter = self.counter(rule, request);
            self.tried(counter, now);
        }
    }

    /// A charge was tried on this counter, and did not fit.
    fn tried(&mut self, counter: usize, now: Now) {
        if let Ledger::Window(window) = &mut self.counters[counter].ledger {
            window.enter(now.mono);
        }
    }

    fn put(&mut self, counter: usize, amount: u64, at: Now) -> Piece {
        let counter = &mut self.counters[counter];
        let entry = match &mut counter.ledger {
            Ledger::Bucket(bucket) => {
                // From before a change of its parts the library's line is not known, and taken to stand at the change.
                counter.loose |= bucket.is_past(at.mono);
                bucket.charge(amount, at.mono)
            }
            Ledger::Window(window) => window.charge(amount, at.mono),
            Ledger::Quota(quota) => quota.charge(amount, at.wall),
            Ledger::InFlight { .. } => 0,
        };
        Piece { entry, amount, at, begun: counter.begun, changes: counter.changes }
    }

    /// Takes `back` out of the pieces, the newest first.
    fn take_back(&mut self, hold: &mut Hold, mut back: u64, now: Now) {
        let counter = &mut self.counters[hold.counter];
        let first = hold.pieces[0];
        for (number, piece) in hold.pieces.iter_mut().enumerate().rev() {
            let part = back.min(piece.amount);
            if part == 0 {
                continue;
            }
            back -= part;
            piece.amount -= part;
            match &mut counter.ledger {
                Ledger::Bucket(bucket) => {
                    let past = piece.at.mono != now.mono || piece.changes != counter.changes;
                    // The charge stands where time had been, not where its own clock was.
                    let past = past || bucket.is_past(now.mono);
                    counter.loose |= past || number > 0 || piece.at.mono < bucket.unjudged_until;
                    if piece.begun == counter.begun {
                        bucket.give_back(piece.entry, part);
                    } else {
                        bucket.forgive(part);
                    }
                }
                Ledger::Window(window) => {
                    window.enter(now.mono);
                    // A charge is as old as its own clock said, even if time was further where it was put down.
                    counter.loose |= !window.together(first.entry, piece.entry) || window.has_left(first.at.mono);
                    window.give_back(piece.entry, part);
                }
                Ledger::Quota(quota) => {
                    counter.loose |= !quota.together(first.entry, piece.entry);
                    quota.give_back(piece.entry, part, now.wall);
                }
                Ledger::InFlight { .. } => {}
            }
        }
    }

    /// Brings what a permit holds of each counter to what these tokens charge.
    fn recharge(&mut self, permit: usize, tokens: Tokens, cancelled: bool, now: Now) {
        let mut holds = std::mem::take(&mut self.permits[permit].holds);
        for hold in &mut holds {
            let charge = if cancelled { 0 } else { hold.rule.charge.charge(&tokens) };
            if charge > hold.charge {
                let piece = self.put(hold.counter, charge - hold.charge, now);
                hold.pieces.push(piece);
            } else {
                self.take_back(hold, hold.charge - charge, now);
            }
            hold.charge = charge;
        }
        self.permits[permit].holds = holds;
    }

    /// The stream has brought so many tokens in all. False if the permit is no longer open.
    pub fn observe(&mut self, permit: usize, input: u64, output: u64, now: Now) -> bool {
        self.expire(now);
        if !self.permits[permit].open {
            return false;
        }
        let mut tokens = self.permits[permit].tokens;
        tokens.input = tokens.input.max(input);
        tokens.output = tokens.output.max(output);
        self.recharge(permit, tokens, false, now);
        self.permits[permit].tokens = tokens;
        true
    }

    /// The stream has brought so many tokens more.
    pub fn observe_more(&mut self, permit: usize, input: u64, output: u64, now: Now) -> bool {
        let seen = self.permits[permit].observed;
        let seen = (seen.0 + input, seen.1 + output);
        self.permits[permit].observed = seen;
        self.observe(permit, seen.0, seen.1, now)
    }

    /// The permit ends. False, and nothing changes, if it has ended before.
    pub fn end(&mut self, permit: usize, end: End, now: Now) -> bool {
        self.expire(now);
        if !self.permits[permit].open {
            return false;
        }
        let standing = self.permits[permit].tokens;
        match end {
            End::Usage(usage) => {
                let input = usage.input.unwrap_or(standing.input);
                let cached_input = usage.cached_input.unwrap_or(0).min(input);
                let output = usage.output.unwrap_or(standing.output);
                self.recharge(permit, Tokens { input, cached_input, output }, false, now);
            }
            End::Cancel => self.recharge(permit, Tokens::default(), true, now),
            End::Drop => {}
        }
        self.close(permit);
        true
    }

    fn close(&mut self, permit: usize) {
        self.permits[permit].open = false;
        let holds = self.permits[permit].holds.clone();
        for hold in holds {
            self.counters[hold.counter].settled += u128::from(hold.charge);
        }
    }

    /// Permits whose time is up are closed: the estimate stands.
    pub fn expire(&mut self, now: Now) {
        for permit in 0..self.permits.len() {
            let due = self.permits[permit].deadline.is_some_and(|deadline| deadline <= now.mono);
            if self.permits[permit].open && due {
                self.close(permit);
            }
        }
    }

    /// The permit lives until `ttl` from now.
    pub fn renew(&mut self, permit: usize, ttl: u64, now: Now) -> bool {
        self.expire(now);
        self.permits[permit].deadline = Some(now.mono.saturating_add(ttl));
        self.permits[permit].open
    }

    /// What the permit was charged on each limit, by the limit's name.
    pub fn charges(&self, permit: usize) -> Vec<(String, u64)> {
        let holds = self.permits[permit].holds.iter();
        holds.map(|hold| (self.counters[hold.counter].limit.clone(), hold.charge)).collect()
    }
}
