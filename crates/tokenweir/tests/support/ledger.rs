//! Ledgers: each counter's complete history, from which everything is computed anew.
//!
//! Nothing here is clever. A ledger keeps every charge that was ever made, with the amount that it has at present; a
//! return makes an old charge smaller, and the state is what follows from the history as it then reads. That is the
//! as-if rule of the contract taken literally.

use tokenweir::policy::{Period, PeriodBounds, Until};

/// Later monotonic instants are treated as this one.
pub const TIME_END: u64 = i64::MAX as u64;

/// Whether a charge of `n` fits where `used` of `amount` is taken: a charge of 0 needs something left, or, where
/// such pass until the amount has been passed, no debt.
fn fits(used: i128, n: u64, amount: u64, until: Until) -> bool {
    match until {
        Until::Passed if n == 0 => used <= i128::from(amount),
        Until::Reached if n == 0 => used < i128::from(amount),
        _ => used + i128::from(n) <= i128::from(amount),
    }
}

/// How finely a bucket counts: in how many parts it divides a token, by capacity, rate and period.
pub type Resolution = fn(u64, u64, u64) -> u64;

/// Exact: a token is divided in as many parts as the period has nanoseconds, so that a nanosecond of refill is
/// always a whole number of parts.
pub fn exact(_capacity: u64, _rate: u64, per: u64) -> u64 {
    per
}

/// Whole tokens become available one at a time, when they are complete.
pub fn whole(_capacity: u64, _rate: u64, _per: u64) -> u64 {
    1
}

/// The resolution that the library documents (DESIGN.md, bucket): the largest power of two, up to 2^30, in which a line
/// of 59 bits lasts 105 years and twice the capacity fits into 56 bits.
pub fn documented(capacity: u64, rate: u64, per: u64) -> u64 {
    let century = 105u128 * 31_557_600_000_000_000;
    let room = ((1u128 << 59) - 1) * u128::from(per) / (u128::from(rate) * century);
    let fine = if room == 0 { 0 } else { room.ilog2() };
    1 << fine.min(30).min(56 - (capacity.ilog2() + 1).min(56))
}

/// One line of a bucket's history. `line` is where the refill stood at that instant.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Charge {
        line: i128,
        amount: i128,
    },
    /// A change of capacity by so much: the balance stays, unless there is no room for it.
    Capacity {
        line: i128,
        change: i128,
    },
}

impl Entry {
    fn line(&self) -> i128 {
        match self {
            Entry::Charge { line, .. } | Entry::Capacity { line, .. } => *line,
        }
    }
}

/// A rate, and where it began: the instant, the line's position and the fraction beyond it, in 1/per.
#[derive(Debug, Clone, Copy)]
struct Refill {
    rate: u64,
    origin: u64,
    base: i128,
    rest: u128,
}

impl Refill {
    /// Parts that have come by `mono`, and the fraction beyond them in 1/per.
    fn brought(&self, mono: u64, parts: u64, per: u64) -> (i128, u128) {
        let elapsed = mono.min(TIME_END).saturating_sub(self.origin);
        let (rate, per, parts) = (u128::from(self.rate), u128::from(per), u128::from(parts));
        let tokens = u128::from(elapsed) * rate / per;
        let fraction = (u128::from(elapsed) * rate % per) * parts + self.rest;
        (self.base + (tokens * parts + fraction / per) as i128, fraction % per)
    }

    /// The first instant at which the line is at `position`.
    fn reaches(&self, position: i128, parts: u64, per: u64) -> Option<u128> {
        // The first elapsed time with (rest + elapsed * rate * parts) / per >= position - base.
        let sought = ((position - self.base) as u128).checked_mul(u128::from(per))? - self.rest;
        let speed = u128::from(self.rate) * u128::from(parts);
        Some(u128::from(self.origin) + sought.div_ceil(speed))
    }
}

/// A token bucket. Amounts within are in parts of a token.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub capacity: u64,
    per: u64,
    resolution: Resolution,
    pub parts: u64,
    /// The present rate, and the one before it, for clocks that are behind the last change.
    refill: Refill,
    before: Option<Refill>,
    /// The latest instant of a charge: time has been there.
    reach: u64,
    changes: u64,
    history: Vec<Entry>,
    /// The deficit right after each entry.
    after: Vec<i128>,
    /// Until a period after its parts last changed the library does not judge returns.
    pub unjudged_until: u64,
}

impl Bucket {
    pub fn new(capacity: u64, rate: u64, per: u64, resolution: Resolution) -> Self {
        let parts = resolution(capacity, rate, per);
        Bucket {
            capacity,
            per,
            resolution,
            parts,
            refill: Refill { rate, origin: 0, base: 0, rest: 0 },
            before: None,
            reach: 0,
            changes: 0,
            history: Vec::new(),
            after: Vec::new(),
            unjudged_until: 0,
        }
    }

    /// The refill begins at `mono`.
    pub fn begin(&mut self, mono: u64) {
        self.refill.origin = mono;
    }

    /// A new capacity and rate for a bucket that nobody has used: it stays full.
    pub fn change_unused(&mut self, capacity: u64, rate: u64, mono: u64) {
        self.change(capacity, rate, mono);
        self.history.clear();
        self.after.clear();
    }

    /// Parts that the refill has brought by `mono`.
    fn refilled(&self, mono: u64) -> i128 {
        let refill = match &self.before {
            Some(before) if mono < self.refill.origin => before,
            _ => &self.refill,
        };
        refill.brought(mono, self.parts, self.per).0
    }

    /// The line's position now. Time does not run backwards here.
    fn line(&self, mono: u64) -> i128 {
        let last = self.history.last().map_or(0, Entry::line);
        self.refilled(mono.max(self.reach)).max(last)
    }

    /// Whether this instant is before the last charge or the last change.
    pub fn is_past(&self, mono: u64) -> bool {
        mono < self.refill.origin.max(self.reach)
    }

    /// How far the balance is below the brim.
    pub fn deficit(&self, mono: u64) -> i128 {
        let Some(last) = self.history.last() else { return 0 };
        let after = self.after[self.after.len() - 1];
        (after - (self.line(mono) - last.line())).max(0)
    }

    /// Replays the history from entry `from` on: a queue that is served by the refill.
    fn replay(&mut self, from: usize) {
        self.after.truncate(from);
        for index in from..self.history.len() {
            let entry = self.history[index];
            let found = match index {
                0 => 0,
                _ => (self.after[index - 1] - (entry.line() - self.history[index - 1].line())).max(0),
            };
            self.after.push(match entry {
                Entry::Charge { amount, .. } => found + amount,
                Entry::Capacity { change, .. } => (found + change).max(0),
            });
        }
    }

    /// Whole tokens in the bucket; below 0 is debt.
    pub fn balance(&self, mono: u64) -> i128 {
        let parts = i128::from(self.parts);
        (i128::from(self.capacity) * parts - self.deficit(mono)).div_euclid(parts)
    }

    pub fn fits(&self, n: u64, mono: u64) -> bool {
        let balance = i128::from(self.capacity) * i128::from(self.parts) - self.deficit(mono);
        if n == 0 { balance > 0 } else { balance >= i128::from(n) * i128::from(self.parts) }
    }

    /// The first instant from `mono` on at which a charge of `n` fits; `None` if it never does.
    pub fn ready(&self, n: u64, mono: u64) -> Option<u128> {
        if n > self.capacity {
            return None;
        }
        if self.fits(n, mono) {
            return Some(u128::from(mono));
        }
        let need = (i128::from(n) * i128::from(self.parts)).max(1);
        let missing = self.deficit(mono) + need - i128::from(self.capacity) * i128::from(self.parts);
        let position = self.line(mono) + missing;
        let early = self.before.filter(|_| mono < self.refill.origin && self.refilled(self.refill.origin) >= position);
        early.unwrap_or(self.refill).reaches(position, self.parts, self.per)
    }

    /// Charges `n`, whatever the balance. The index of the charge in the history. A charge of nothing leaves nothing
    /// there, not even the time that it was made at.
    pub fn charge(&mut self, n: u64, mono: u64) -> usize {
        if n == 0 {
            return usize::MAX;
        }
        self.reach = self.reach.max(mono.min(TIME_END));
        let line = self.line(mono);
        self.history.push(Entry::Charge { line, amount: i128::from(n) * i128::from(self.parts) });
        self.replay(self.history.len() - 1);
        self.history.len() - 1
    }

    /// The charge `index` becomes smaller by `back` tokens: as if it had never been larger.
    pub fn give_back(&mut self, index: usize, back: u64) {
        if let Some(Entry::Charge { amount, .. }) = self.history.get_mut(index) {
            *amount = (*amount - i128::from(back) * i128::from(self.parts)).max(0);
            self.replay(index);
        }
    }

    /// Gives back `back` tokens of a charge that can no longer be judged, as far as the deficit goes: the most that
    /// anything could give back.
    pub fn forgive(&mut self, back: u64) {
        // Where the last entry stands: a return does not say where time has been.
        let line = self.history.last().map_or(0, Entry::line);
        let change = -i128::from(back) * i128::from(self.parts);
        self.history.push(Entry::Capacity { line, change });
        self.replay(self.history.len() - 1);
    }

    /// What the contract's formula says that a return of `back` tokens of charge `index` gives back at `mono`:
    /// `min(back, min over u in (t, s] of D(u))`. The deficit only falls between entries, so its minimum is
    /// right before one of the later entries, right after one that raised the capacity's brim, or now.
    pub fn formula(&self, index: usize, back: u64, mono: u64) -> i128 {
        let mut least = i128::from(back) * i128::from(self.parts);
        for later in index.saturating_add(1)..self.history.len() {
            let found = self.after[later - 1] - (self.history[later].line() - self.history[later - 1].line());
            least = least.min(found.max(0)).min(self.after[later]);
        }
        least.min(self.deficit(mono))
    }

    /// A new capacity and rate from `mono` on. Elapsed time is credited at the old rate, and the balance is kept.
    /// Says whether the history still counts in the same parts: if not, older charges can no longer be judged.
    pub fn change(&mut self, capacity: u64, rate: u64, mono: u64) -> bool {
        if (capacity, rate) == (self.capacity, self.refill.rate) {
            return true;
        }
        // Changes are in the order in which they are made, whatever the clocks show; the library tells changes apart by
        // their instants, and puts at least one of eight a nanosecond later.
        self.changes += 1;
        let mono = mono.max(self.refill.origin + u64::from(self.changes.is_multiple_of(8)));
        let line = self.line(mono);
        let (base, rest) = self.refill.brought(mono, self.parts, self.per);
        let parts = (self.resolution)(capacity, rate, self.per);
        let change = i128::from(capacity) - i128::from(self.capacity);
        let kept = parts == self.parts;
        if kept {
            self.before = Some(self.refill);
            self.refill = Refill { rate, origin: mono, base, rest };
            self.history.push(Entry::Capacity { line, change: change * i128::from(parts) });
            self.replay(self.history.len() - 1);
        } else {
            // Rounded up: a part more of deficit is the strict side.
            let deficit = self.deficit(mono) * i128::from(parts);
            let deficit = (deficit + i128::from(self.parts) - 1) / i128::from(self.parts);
            let opening = (deficit + change * i128::from(parts)).max(0);
            self.before = None;
            self.refill = Refill { rate, origin: mono, base: 0, rest: 0 };
            self.parts = parts;
            self.history = vec![Entry::Charge { line: 0, amount: opening }];
            self.unjudged_until = mono.saturating_add(self.per);
            self.replay(0);
        }
        self.capacity = capacity;
        kept
    }
}

/// A sliding window of `count` sub-windows.
#[derive(Debug, Clone)]
pub struct Window {
    pub amount: u64,
    pub until: Until,
    sub_window: u64,
    count: u64,
    /// The newest sub-window that a charge was tried in.
    newest: u64,
    /// Each charge: its sub-window and its present amount.
    charges: Vec<(u64, u64)>,
}

impl Window {
    pub fn new(amount: u64, per: u64, sub_windows: u32) -> Self {
        let count = u64::from(sub_windows);
        Window { amount, until: Until::Reached, sub_window: per / count, count, newest: 0, charges: Vec::new() }
    }

    /// The sub-window of an instant. Time does not run backwards here.
    fn index(&self, mono: u64) -> u64 {
        (mono.min(TIME_END) / self.sub_window).max(self.newest)
    }

    /// A charge is tried, or a part of one given back: time has been here.
    pub fn enter(&mut self, mono: u64) {
        self.newest = self.index(mono);
    }

    fn counted_in(&self, index: u64) -> i128 {
        let counts = |(charged, _): &&(u64, u64)| charged + self.count >= index;
        self.charges.iter().rev().take_while(counts).map(|(_, amount)| i128::from(*amount)).sum()
    }

    /// What counts now: a charge counts until the end of the sub-window `count` after its own.
    pub fn counted(&self, mono: u64) -> i128 {
        self.counted_in(self.index(mono))
    }

    pub fn fits(&self, n: u64, mono: u64) -> bool {
        fits(self.counted(mono), n, self.amount, self.until)
    }

    pub fn ready(&self, n: u64, mono: u64) -> Option<u128> {
        if n > self.amount {
            return None;
        }
        if self.fits(n, mono) {
            return Some(u128::from(mono));
        }
        // Something leaves only when a sub-window does.
        let leaves = self.charges.iter().map(|(index, _)| index + self.count + 1);
        let ready = leaves.filter(|index| *index > self.index(mono));
        let ready = ready.filter(|index| fits(self.counted_in(*index), n, self.amount, self.until)).min()?;
        Some(u128::from(ready) * u128::from(self.sub_window))
    }

    pub fn charge(&mut self, n: u64, mono: u64) -> usize {
        self.enter(mono);
        self.charges.push((self.newest, n));
        self.charges.len() - 1
    }

    /// Whether two charges were made in the same sub-window.
    pub fn together(&self, one: usize, other: usize) -> bool {
        self.charges[one].0 == self.charges[other].0
    }

    /// Whether what was charged at this instant, by that clock, has left the window.
    pub fn has_left(&self, mono: u64) -> bool {
        mono.min(TIME_END) / self.sub_window + self.count < self.newest
    }

    /// The charge becomes smaller. Where it has left the window, nobody will notice.
    pub fn give_back(&mut self, charge: usize, back: u64) {
        let (_, amount) = &mut self.charges[charge];
        *amount = amount.saturating_sub(back);
    }
}

/// A quota by calendar periods.
#[derive(Debug, Clone)]
pub struct Quota {
    pub amount: u64,
    pub until: Until,
    period: Period,
    newest: Option<PeriodBounds>,
    /// Each charge: the start of its period and its present amount.
    charges: Vec<(i64, u64)>,
}

impl Quota {
    pub fn new(amount: u64, period: Period) -> Self {
        Quota { amount, until: Until::Reached, period, newest: None, charges: Vec::new() }
    }

    /// The period that counts at `wall`: never one before the newest seen.
    pub fn current(&self, wall: i64) -> PeriodBounds {
        let bounds = self.period.bounds(wall);
        match self.newest {
            Some(newest) if newest.start > bounds.start => newest,
            _ => bounds,
        }
    }

    pub fn used(&self, wall: i64) -> i128 {
        let start = self.current(wall).start;
        self.charges.iter().filter(|charge| charge.0 == start).map(|charge| i128::from(charge.1)).sum()
    }

    pub fn fits(&self, n: u64, wall: i64) -> bool {
        fits(self.used(wall), n, self.amount, self.until)
    }

    /// Nanoseconds of wall time until a charge of `n` fits; `None` if time alone does not bring it about.
    pub fn wait(&self, n: u64, wall: i64) -> Option<u128> {
        if self.fits(n, wall) {
            return Some(0);
        }
        let end = self.current(wall).end;
        let opens = n <= self.amount && end != i64::MAX;
        opens.then(|| (i128::from(end) - i128::from(wall)) as u128)
    }

    /// A charge, be it of 0, enters its period: from then on no older one opens again.
    pub fn charge(&mut self, n: u64, wall: i64) -> usize {
        self.newest = Some(self.current(wall));
        self.charges.push((self.current(wall).start, n));
        self.charges.len() - 1
    }

    /// Whether two charges were made in the same period.
    pub fn together(&self, one: usize, other: usize) -> bool {
        self.charges[one].0 == self.charges[other].0
    }

    /// The charge becomes smaller, unless its period is over.
    pub fn give_back(&mut self, charge: usize, back: u64, wall: i64) {
        let current = self.current(wall).start;
        let (start, amount) = &mut self.charges[charge];
        if *start == current {
            *amount = amount.saturating_sub(back);
        }
    }
}
