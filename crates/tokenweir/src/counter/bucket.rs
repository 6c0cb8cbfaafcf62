//! The token bucket: one word says everything that a decision needs.
//!
//! The word holds a position v on the limit's token line ([`Line`]): the bucket's deficit at t is `max(v, A(t)) -
//! A(t)`, its balance `B` less that. A charge of n moves v to `max(v, A) + n`, one compare-and-swap. Debt is a v
//! further than B ahead of the line.
//!
//! Positions are counted in units of 2^-k tokens, k as large as a century of refill leaves room for: one unit is at
//! most 6 ns of refill (or one token, if a token takes less). That is all that separates the line from the
//! continuous refill of the contract: an interval of S1 may be longer by that, never a token more than that brings.
//!
//! Beside the position the word carries the *epoch* of the limit's configuration (a change of capacity keeps the
//! balance, so it moves v, exactly once, by whoever comes first) and whether there are [`Floors`] to be kept: a charge
//! that began before they were there fails its swap and looks again. A charge's receipt has that bit as well, so that it is
//! known whether the floors have seen it.

mod kept;
mod saved;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use saved::Saved;

use super::floors::{Floors, Histories, Keeps, Taking};
use super::line::{LINE_END, Line};
use super::words::{Home, Own, Shared};
use super::{Look, Ready, fits};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};
use once_cell::race::OnceBox;
use std::sync::Arc;

/// A bucket this part of whose capacity is in use when it is charged keeps floors from then on.
const BUSY: u64 = 32;

const POSITION: u64 = (1 << 60) - 1;
const FLOORS: u64 = 1 << 60;
const EPOCH_SHIFT: u32 = 61;
const EPOCHS: u64 = 8;

/// What a limit is at present, as far as its buckets are concerned. Shared by all counters of the limit.
#[derive(Debug, Clone)]
pub(crate) struct BucketRule {
    /// Tokens that a full bucket holds.
    pub(crate) capacity: u64,
    /// Tokens that come per period.
    pub(crate) rate: u64,
    /// Nanoseconds.
    pub(crate) period: u64,
    line: Line,
    /// Positions count in 2^-unit tokens.
    unit: u32,
    /// The capacity as a length on the line.
    full: u64,
    /// Which configuration this is, and the newest that is in force: only that one brings buckets under itself. The
    /// epoch, which comes round again, does not tell a rule that is far behind from one that is ahead.
    serial: u64,
    newest: Newest,
    /// When it came into force, and how it follows the one before.
    since: u64,
    follows: Follows,
    /// The limiter's room for floors.
    histories: Arc<Histories>,
}

/// Where it is said which rule of a limit is the newest.
#[derive(Debug, Clone)]
enum Newest {
    /// The serial, for all rules of the limit.
    Own(Arc<AtomicU64>),
    /// In a region, for all limits: the rule is of the policy that this word named.
    Region(&'static Word, u64),
}

/// What a change of configuration does to a deficit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follows {
    /// Where the line stood until then, and in which unit.
    line: u64,
    unit: u32,
    /// By how many tokens the capacity grew.
    shift: i64,
    /// When that configuration had come into force.
    since: u64,
}

/// A century and a bit, in nanoseconds: for this long a line must not end.
const HORIZON: u128 = 105 * 31_557_600_000_000_000;

/// The finest unit, as log2 of its parts per token, in which a line of this rate lasts out the horizon.
fn unit(capacity: u64, rate: u64, period: u64) -> u32 {
    let room = (LINE_END as u128 * period as u128) / (rate.max(1) as u128 * HORIZON);
    let fine = if room == 0 { 0 } else { room.ilog2() };
    fine.min(30).min(56 - (capacity.ilog2() + 1).min(56))
}

/// Whole tokens as a length on the line, saturating: no capacity is as long.
#[inline]
fn length(tokens: u64, unit: u32) -> u64 {
    if tokens > POSITION >> unit { POSITION } else { tokens << unit }
}

/// The rule is older than the word: a new policy has come into force since it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// What an attempt to charge came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Charged {
    /// Taken; the receipt is the word as the charge left it.
    Taken(u64),
    Refused,
}

impl BucketRule {
    pub(crate) fn new(capacity: u64, rate: u64, period: u64, origin: u64, histories: Arc<Histories>) -> Self {
        let unit = unit(capacity, rate, period);
        let line = Line::new(rate << unit, period, origin);
        let follows = Follows { line: 0, unit, shift: 0, since: origin };
        let full = length(capacity, unit);
        let newest = Newest::Own(Arc::new(AtomicU64::new(0)));
        BucketRule { capacity, rate, period, line, unit, full, serial: 0, newest, since: origin, follows, histories }
    }

    /// The rule that follows this one at `at`: balances are kept, clamped to the new capacity.
    pub(crate) fn changed(&self, capacity: u64, rate: u64, at: u64) -> Self {
        if capacity == self.capacity && rate == self.rate {
            return self.clone();
        }
        // Changes are in the order in which they are made, whatever the clocks of those who make them show; and no two of
        // the same epoch are in one instant, since it is the instant that tells them apart.
        let turn = self.epoch() + 1 == EPOCHS;
        let at = at.max(self.since + u64::from(turn));
        let unit = unit(capacity, rate, self.period);
        let line = if unit == self.unit {
            self.line.with_rate(rate << unit, at)
        } else {
            self.line.with_steps(rate << unit, at)
        };
        let shift = capacity as i64 - self.capacity as i64;
        BucketRule {
            capacity,
            rate,
            period: self.period,
            line,
            unit,
            full: length(capacity, unit),
            serial: self.serial + 1,
            newest: self.newest.clone(),
            since: at,
            follows: Follows { line: self.line.position(at), unit: self.unit, shift, since: self.since },
            histories: self.histories.clone(),
        }
    }

    #[inline]
    fn length(&self, tokens: u64) -> u64 {
        length(tokens, self.unit)
    }

    /// Positions count in 2^-unit tokens.
    pub(crate) fn unit(&self) -> u32 {
        self.unit
    }

    #[inline]
    fn epoch(&self) -> u64 {
        self.serial % EPOCHS
    }

    /// A deficit of the configuration before, in this one's unit.
    fn converted(&self, deficit: u64) -> u64 {
        let unit = self.follows.unit;
        if unit > self.unit {
            deficit.div_ceil(1 << (unit - self.unit))
        } else {
            deficit.saturating_mul(1 << (self.unit - unit))
        }
    }

    /// What becomes of such a deficit: the balance is kept, but for the new brim.
    fn follow(&self, deficit: u64) -> u64 {
        let shift = self.follows.shift;
        let shifted = self.length(shift.unsigned_abs());
        if shift < 0 { deficit.saturating_sub(shifted) } else { deficit.saturating_add(shifted) }
    }

    /// Makes this the limit's rule, before anyone can find it: from now on no bucket is brought under an older one.
    pub(crate) fn put_in_force(&self) {
        if let Newest::Own(newest) = &self.newest {
            // Release: whoever sees a bucket under this rule sees that the older ones are none any more.
            newest.fetch_max(self.serial, Release);
        }
    }

    /// The same rule as one of a region's policy: it is in force as long as `word` says `named`.
    pub(crate) fn in_region(&self, word: &'static Word, named: u64) -> Self {
        BucketRule { newest: Newest::Region(word, named), ..self.clone() }
    }

    fn is_in_force(&self) -> bool {
        match &self.newest {
            Newest::Own(newest) => newest.load(Acquire) == self.serial,
            Newest::Region(word, named) => word.load(Acquire) == *named,
        }
    }

    fn word(&self, position: u64, floors: u64) -> u64 {
        position.min(POSITION) | floors | (self.epoch() << EPOCH_SHIFT)
    }

    /// Nanoseconds from empty to full, at most one period: the time scale on which returns are judged.
    fn filling(&self) -> u64 {
        let filling = self.capacity as u128 * self.period as u128 / self.rate.max(1) as u128;
        u64::try_from(filling).unwrap_or(u64::MAX)
    }
}

/// One bucket.
///
/// Its words are the one that decides, and the *reach*, the latest instant at which a charge was made: returns are judged
/// at no earlier one. An instant, not a position: positions mean something else after a change of the unit.
#[derive(Debug)]
pub(crate) struct Bucket<H: Home = Own> {
    words: H::Few<2>,
    floors: OnceBox<Floors<H>>,
    kept: H::Kept,
}

impl Bucket {
    /// What a look that fitted found in use, in whole tokens.
    pub(crate) fn found(rule: &BucketRule, ready: &Ready) -> u64 {
        (ready.seen & POSITION).saturating_sub(ready.with).div_ceil(1 << rule.unit)
    }

    /// A full bucket.
    pub(crate) fn new(rule: &BucketRule) -> Self {
        let words = [Word::new(rule.word(0, 0)), Word::new(0)];
        let bucket = Bucket { words, floors: OnceBox::new(), kept: () };
        // The models see the words, not the box: they find it made, and still wait for the word to say so.
        #[cfg(loom)]
        if let Some(place) = rule.histories.place() {
            bucket.floors.get_or_init(|| Box::new(Floors::new(rule.filling(), 0, place)));
        }
        bucket
    }
}

impl Bucket<Shared> {
    /// One in these words.
    pub(crate) fn shared(words: &'static [Word; 2], kept: Keeps) -> Self {
        Bucket { words, floors: OnceBox::new(), kept }
    }

    /// Makes the words those of a full bucket.
    pub(crate) fn begin(rule: &BucketRule, words: &[Word; 2]) {
        words[0].store(rule.word(0, 0), Relaxed);
        words[1].store(0, Relaxed);
    }
}

impl<H: Home> Bucket<H> {
    #[inline(always)]
    fn word(&self) -> &Word {
        &H::few(&self.words)[0]
    }

    #[inline(always)]
    fn reach(&self) -> &Word {
        &H::few(&self.words)[1]
    }

    /// The word under `rule`'s epoch, brought there if it is of the one before, or of an older one (its counter was made
    /// by a thread that was late).
    fn load(&self, rule: &BucketRule) -> Result<u64, Stale> {
        loop {
            let word = self.word().load(Acquire);
            let epoch = word >> EPOCH_SHIFT;
            if epoch == rule.epoch() {
                return Ok(word);
            }
            // After the word was read: nobody had brought it further than this rule by then, if it is still the newest.
            if !rule.is_in_force() {
                return Err(Stale);
            }
            let line = rule.line.position(rule.since);
            let before = rule.converted((word & POSITION).saturating_sub(rule.follows.line));
            let deficit = rule.follow(before);
            if word & FLOORS != 0
                && let Some(floors) = H::kept(&self.floors, &self.kept)
            {
                // The history has both: what the old brim swallowed does not come back with a higher one.
                floors.note(rule.since, line, deficit.min(before));
            }
            let next = rule.word(line.saturating_add(deficit), word & FLOORS);
            // AcqRel: as a charge, see `force`. Whoever wins, the word is of the new epoch: look again.
            let _ = self.word().compare_exchange(word, next, AcqRel, Acquire);
        }
    }

    /// Whether the counter is under `rule`.
    pub(crate) fn is_under(&self, rule: &BucketRule) -> bool {
        self.word().load(Acquire) >> EPOCH_SHIFT == rule.epoch()
    }

    /// Brings the counter under `rule`, where it is not yet.
    pub(crate) fn adopt(&self, rule: &BucketRule) -> Result<(), Stale> {
        self.load(rule).map(|_| ())
    }

    /// Whether a charge of `n` at `now` fits, and if so what makes it. Changes nothing.
    #[inline(always)]
    pub(crate) fn look(&self, rule: &BucketRule, n: u64, now: u64, ready: &mut Ready) -> Look {
        let word = self.word().load(Acquire);
        if word >> EPOCH_SHIFT != rule.epoch() || n == 0 {
            return Look::Unsure;
        }
        let line = self.line(rule, now);
        let start = (word & POSITION).max(line);
        let deficit = start - line;
        let n = rule.length(n);
        if deficit.saturating_add(n) > rule.full {
            return Look::Refused;
        }
        if word & FLOORS == 0 && deficit > rule.full / BUSY && rule.histories.has_room() {
            return Look::Unsure;
        }
        // What fits ends at most a capacity ahead of the line, and there is room for that behind its end.
        let next = (start + n) | word & !POSITION;
        *ready = Ready { seen: word, next, with: line };
        Look::Fits
    }

    /// Makes the charge that a look showed to fit. False if the word has changed since; then nothing has happened but
    /// what any charge notes before it.
    #[inline]
    pub(crate) fn make(&self, ready: &Ready, now: u64) -> bool {
        let line = ready.with;
        self.note(ready.seen, now, line, (ready.seen & POSITION).saturating_sub(line));
        // AcqRel: as in `take`.
        self.word().compare_exchange(ready.seen, ready.next, AcqRel, Relaxed).is_ok()
    }

    /// What is noted before a charge: whoever sees the charge sees what it found.
    #[inline]
    fn note(&self, word: u64, now: u64, line: u64, deficit: u64) {
        if self.reach().load(Relaxed) < now {
            self.reach().fetch_max(now, Relaxed);
        }
        if word & FLOORS != 0
            && let Some(floors) = H::kept(&self.floors, &self.kept)
        {
            floors.note(now, line, deficit);
        }
    }

    /// Charges `n` at `now` if the balance has it.
    pub(crate) fn charge(&self, rule: &BucketRule, n: u64, now: u64) -> Result<Charged, Stale> {
        self.take(rule, rule.length(n), now, false)
    }

    /// Charges `n` at `now` whatever the balance: debt.
    pub(crate) fn force(&self, rule: &BucketRule, n: u64, now: u64) -> Result<u64, Stale> {
        match self.take(rule, rule.length(n), now, true)? {
            Charged::Taken(receipt) => Ok(receipt),
            Charged::Refused => Ok(0),
        }
    }

    /// Where the line stands: at `now`, or where a thread with a newer clock has seen it. Time has been there, so a
    /// slower reader of the clock is not refused what has been refilled.
    #[inline]
    fn line(&self, rule: &BucketRule, now: u64) -> u64 {
        rule.line.position(now.max(self.reach().load(Relaxed)))
    }

    /// Charges `n`, a length on the line.
    fn take(&self, rule: &BucketRule, n: u64, now: u64, force: bool) -> Result<Charged, Stale> {
        let capacity = rule.full;
        loop {
            let word = self.load(rule)?;
            // After the word: what moved it had reached no further than this.
            let line = self.line(rule, now);
            let start = (word & POSITION).max(line);
            let deficit = start - line;
            if !force && !fits(deficit, n, capacity) {
                return Ok(Charged::Refused);
            }
            let next = rule.word(start.saturating_add(n), word & FLOORS);
            if n == 0 {
                return Ok(Charged::Taken(next));
            }
            let begins = word & FLOORS == 0 && deficit > capacity / BUSY && !cfg!(loom);
            if begins && self.floors(rule, now).is_some() {
                continue;
            }
            self.note(word, now, line, deficit);
            // AcqRel: publishes the notes above, and orders them after those of the charge before.
            if self.word().compare_exchange_weak(word, next, AcqRel, Acquire).is_ok() {
                return Ok(Charged::Taken(next));
            }
        }
    }

    /// Gives back up to `back` of a charge of `charged` made at `charged_at` with `receipt`, as if that charge had
    /// been smaller from the first (section 3 of the contract). Says how much was given back, in whole tokens.
    pub(crate) fn give_back(
        &self,
        rule: &BucketRule,
        (charged, receipt, charged_at): (u64, u64, u64),
        back: u64,
        now: u64,
    ) -> Result<u64, Stale> {
        if back == 0 {
            return Ok(0);
        }
        let charged_line = rule.line.position(charged_at);
        let (charged, back) = (rule.length(charged), rule.length(back));
        // A lowered capacity since then took its part of the deficit away. After two changes, or one of the unit,
        // nothing is known; epochs come round again, so the times have to agree with them.
        let rescaled = rule.follows.unit != rule.unit;
        let lost = match (rule.epoch() + EPOCHS - (receipt >> EPOCH_SHIFT)) % EPOCHS {
            0 if charged_at >= rule.since => 0,
            1 if charged_at >= rule.follows.since && !rescaled => rule.length(rule.follows.shift.min(0).unsigned_abs()),
            _ => POSITION,
        };
        // The ticks around a change of the unit hold lengths of both.
        let mixed = rescaled && charged_at < rule.since.saturating_add(rule.period);
        let end = (receipt & POSITION).saturating_sub(lost);
        let mut before: Option<Taking> = None;
        loop {
            let word = self.load(rule)?;
            // Time has been where the policy was changed, even if this clock has not.
            let reach = self.line(rule, now.max(rule.since));
            let deficit = (word & POSITION).saturating_sub(reach);
            // This charge alone kept the deficit above what of it had not refilled yet, whatever others did.
            let own = charged.saturating_sub(reach.saturating_sub(charged_line)).saturating_sub(lost);
            let most = before.as_ref().map_or(back, |before| before.amount).min(deficit);
            if most == 0 {
                return Ok(0);
            }
            // The last charge of a bucket without a history needs none to be given back: no later charge found or
            // followed it, so nobody will ask what was taken here.
            let alone = word == receipt && word & FLOORS == 0 && most <= own;
            let floors = if alone { None } else { self.floors(rule, now) };
            // Without a history, what the charge alone warrants: it holds whatever else was charged or given back.
            let mut taken = most.min(own);
            if let Some(floors) = floors {
                floors.reach(now, reach);
                let (history, mut taking) = floors.bound(charged_at, end, before.as_ref());
                // What was charged before there were floors is judged by them as long as no return can have gone unseen.
                let unseen = receipt & FLOORS == 0 && rule.histories.refused();
                let history = if lost == POSITION || mixed || unseen { 0 } else { history };
                taking.amount = most.min(own.max(history));
                if taking.amount > 0 {
                    floors.take(charged_at, before.as_ref(), &taking);
                }
                taken = taking.amount;
                before = Some(taking);
            }
            if taken == 0 {
                return Ok(0);
            }
            // The word says whether floors are kept as they were when this was worked out.
            let word = if floors.is_some() { word | FLOORS } else { word };
            let next = (word & !POSITION) | ((word & POSITION) - taken);
            // AcqRel: publishes the lowered floors before the tokens they stand for.
            if self.word().compare_exchange(word, next, AcqRel, Acquire).is_ok() {
                return Ok(taken >> rule.unit);
            }
        }
    }

    /// The floors, brought into being by the first return among overlapping calls, or by a charge of a bucket in use. From
    /// the moment the word says so every charge keeps them. `None`: the limiter has no room for more.
    fn floors(&self, rule: &BucketRule, now: u64) -> Option<&Floors<H>> {
        let floors = match H::kept(&self.floors, &self.kept) {
            Some(floors) => floors,
            None => {
                let floors = H::floors(&self.kept, &rule.histories, rule.filling(), now)?;
                self.floors.get_or_init(|| Box::new(floors))
            }
        };
        if self.word().load(Relaxed) & FLOORS == 0 {
            self.word().fetch_or(FLOORS, AcqRel);
        }
        Some(floors)
    }

    /// How many tokens the bucket is below its brim at `now`, rounded up; more than the capacity is debt.
    pub(crate) fn deficit(&self, rule: &BucketRule, now: u64) -> Result<u64, Stale> {
        let deficit = (self.load(rule)? & POSITION).saturating_sub(self.line(rule, now));
        Ok(deficit.div_ceil(1 << rule.unit))
    }

    /// Whether a charge of `n` would be admitted at `now`.
    pub(crate) fn fits(&self, rule: &BucketRule, n: u64, now: u64) -> Result<bool, Stale> {
        let deficit = (self.load(rule)? & POSITION).saturating_sub(self.line(rule, now));
        Ok(fits(deficit, rule.length(n), rule.full))
    }

    /// Whether the bucket is as good as new at `now`, and if not, when it will be.
    pub(crate) fn rests(&self, rule: &BucketRule, now: u64) -> Result<Option<u64>, Stale> {
        let position = self.load(rule)? & POSITION;
        if position <= self.line(rule, now) {
            return Ok(Some(now));
        }
        Ok(if position > LINE_END { None } else { rule.line.reaches(position, now) })
    }

    /// The first instant, from `now` on, at which a charge of `n` is admitted if nothing else happens; `None` if
    /// never. For `n` of 0 the balance must be above 0.
    pub(crate) fn ready(&self, rule: &BucketRule, n: u64, now: u64) -> Result<Option<u64>, Stale> {
        if n > rule.capacity {
            return Ok(None);
        }
        let position = self.load(rule)? & POSITION;
        let need = rule.length(n).max(1);
        let target = position.saturating_add(need).saturating_sub(rule.full);
        if target <= self.line(rule, now) {
            return Ok(Some(now));
        }
        Ok(if target > LINE_END { None } else { rule.line.reaches(target, now) })
    }
}
