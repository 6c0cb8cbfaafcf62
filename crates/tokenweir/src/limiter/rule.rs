//! One limit at present, and what it does to the words of one of its counters.

use crate::clock::Now;
use crate::counter::bucket::{self, Bucket, BucketRule, Charged, Stale};
use crate::counter::in_flight::InFlight;
use crate::counter::quota::Quota;
use crate::counter::window::{Window, WindowRule};
use crate::counter::{Look, Ready, fits};
use crate::policy::{Period, PeriodBounds, Until};
use crate::sync::{
    Ordering::{Acquire, Release},
    Word,
};
use crate::table::{SharedWords, State};
use std::sync::Arc;

/// A limit's algorithm with everything it needs that does not change from request to request.
#[derive(Debug)]
pub(crate) enum Rule {
    Bucket(BucketRule),
    Window(WindowRule, u32, Until),
    Quota(QuotaRule),
    InFlight(u64),
}

/// A quota's amount and periods.
#[derive(Debug)]
pub(crate) struct QuotaRule {
    pub(crate) amount: u64,
    until: Until,
    pub(crate) period: Period,
    /// If a store keeps the use: how.
    pub(crate) kept: Option<Kept>,
    /// The period asked for last, so that the calendar is seldom consulted. Both only grow, and `start` is written
    /// before `end` and read after it: a mixture of two periods is empty and never believed.
    start: Word,
    end: Word,
}

/// How a store keeps the use of a quota.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// What the store knows the limit by.
    pub(crate) name: Arc<str>,
    /// So much more than is used is recorded at a time.
    pub(crate) lease: u64,
}

/// Matches a rule with the words of a counter of its algorithm, wherever they are.
macro_rules! matched {
    ($rule:expr, $state:expr; $($kind:ident $limit:tt $words:ident => $then:expr),+; $otherwise:expr) => {
        match ($rule, $state) {
            $((Rule::$kind $limit, State::$kind($words)) => $then,)+
            (rule, State::Shared(shared)) => match (rule, &shared.words) {
                $((Rule::$kind $limit, SharedWords::$kind($words)) => $then,)+
                _ => $otherwise,
            },
            _ => $otherwise,
        }
    };
}

const SIGN: u64 = 1 << 63;

impl QuotaRule {
    /// The period that holds `wall`.
    #[inline]
    pub(crate) fn bounds(&self, wall: i64) -> PeriodBounds {
        let end = (self.end.load(Acquire) ^ SIGN) as i64;
        let start = (self.start.load(Acquire) ^ SIGN) as i64;
        if start <= wall && wall < end { PeriodBounds { start, end } } else { self.look_up(wall) }
    }

    #[cold]
    fn look_up(&self, wall: i64) -> PeriodBounds {
        let bounds = self.period.bounds(wall);
        self.start.fetch_max(bounds.start as u64 ^ SIGN, Release);
        self.end.fetch_max(bounds.end as u64 ^ SIGN, Release);
        bounds
    }
}

/// The rule with the amount that a charge of `n` has to stay within.
#[inline]
fn bound(rule: &WindowRule, until: Until, n: u64) -> WindowRule {
    WindowRule { amount: until.bound(rule.amount, n), ..*rule }
}

/// What a counter says of a charge without taking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    pub(crate) fits: bool,
    /// It does not fit even a counter that nobody uses.
    pub(crate) never_fits: bool,
    /// Amount less use; below 0 is debt.
    pub(crate) remaining: i64,
    /// Nanoseconds until it fits if nothing else happens; `None`: not by the passing of time.
    pub(crate) wait: Option<u64>,
}

fn left(amount: u64, used: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX).saturating_sub_unsigned(used)
}

/// A charge that was made, for giving a part of it back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) charge: u64,
    pub(crate) receipt: u64,
    /// Monotonic nanoseconds.
    pub(crate) at: u64,
}

impl Rule {
    pub(crate) fn quota(amount: u64, period: Period, until: Until, kept: Option<Kept>) -> Self {
        Rule::Quota(QuotaRule { amount, until, period, kept, start: Word::new(0), end: Word::new(0) })
    }

    pub(crate) fn window(amount: u64, per: u64, sub_windows: u32, until: Until) -> Self {
        let sub_window = (per / u64::from(sub_windows.max(1))).max(1);
        Rule::Window(WindowRule { amount, sub_window }, sub_windows, until)
    }

    /// The words of a counter that nobody has used yet.
    pub(crate) fn fresh(&self) -> State {
        match self {
            Rule::Bucket(rule) => State::Bucket(Bucket::new(rule)),
            Rule::Window(_, sub_windows, _) => State::Window(Window::new(*sub_windows)),
            Rule::Quota(rule) if rule.kept.is_some() => State::Quota(Quota::kept(None)),
            Rule::Quota(_) => State::Quota(Quota::new()),
            Rule::InFlight(_) => State::InFlight(InFlight::new()),
        }
    }

    pub(crate) fn amount(&self) -> u64 {
        match self {
            Rule::Bucket(rule) => rule.capacity,
            Rule::Window(rule, ..) => rule.amount,
            Rule::Quota(rule) => rule.amount,
            Rule::InFlight(amount) => *amount,
        }
    }

    /// The status of a refusal: 403 for a quota, 429 for everything else.
    pub(crate) fn status(&self) -> u16 {
        if matches!(self, Rule::Quota(_)) { 403 } else { 429 }
    }

    pub(crate) fn is_quota(&self) -> bool {
        matches!(self, Rule::Quota(_))
    }

    /// The quota and how a store keeps its use, if one does.
    #[inline]
    pub(crate) fn kept(&self) -> Option<(&QuotaRule, &Kept)> {
        match self {
            Rule::Quota(rule) => rule.kept.as_ref().map(|kept| (rule, kept)),
            _ => None,
        }
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self, Rule::InFlight(_))
    }

    /// Whether a charge of `n` fits at `now`.
    #[inline]
    pub(crate) fn fits(&self, state: &State, n: u64, now: Now) -> Result<bool, Stale> {
        Ok(matched!(self, state;
            Bucket(rule) bucket => bucket.fits(rule, n, now.mono)?,
            Window(rule, _, until) window => fits(window.used(rule, now.mono), n, until.bound(rule.amount, n)),
            Quota(rule) quota => {
                fits(quota.used(rule.bounds(now.wall).start).0, n, rule.until.bound(rule.amount, n))
            },
            InFlight(amount) places => places.open() < *amount;
            false))
    }

    /// Whether a charge of `n` fits, and if so, in `ready`, what makes it, for the common case. Changes nothing.
    #[inline(always)]
    pub(crate) fn look(&self, state: &State, n: u64, now: Now, ready: &mut Ready) -> Look {
        match (self, state) {
            (Rule::Bucket(rule), State::Bucket(bucket)) => bucket.look(rule, n, now.mono, ready),
            // Neither decides on a charge of nothing: that is for `charge`, which knows until when they pass.
            (Rule::Window(rule, ..), State::Window(window)) => window.look(rule, n, now.mono, ready),
            (Rule::Quota(rule), State::Quota(quota)) => quota.look(rule.bounds(now.wall).start, n, rule.amount, ready),
            (Rule::InFlight(amount), State::InFlight(places)) => places.look(*amount, ready),
            _ => Look::Unsure,
        }
    }

    /// What a look that fitted says of the limit.
    #[inline]
    pub(crate) fn outlook_of(&self, ready: &Ready) -> Outlook {
        let used = match self {
            Rule::Bucket(rule) => Bucket::found(rule, ready),
            Rule::Window(..) => Window::found(ready),
            Rule::Quota(_) => Quota::found(ready),
            Rule::InFlight(_) => ready.seen,
        };
        Outlook { fits: true, never_fits: false, remaining: left(self.amount(), used), wait: Some(0) }
    }

    /// Makes the charge that a look showed to fit; the receipt. `None` if the counter has changed since.
    #[inline]
    pub(crate) fn make(state: &State, ready: &Ready, now: Now) -> Option<u64> {
        match state {
            State::Bucket(bucket) => bucket.make(ready, now.mono).then_some(ready.next),
            State::Window(window) => window.make(ready),
            State::Quota(quota) => quota.make(ready),
            State::InFlight(places) => places.make(ready).then_some(0),
            // No look at one says that a charge fits.
            State::Shared(_) => None,
        }
    }

    /// Charges `n` if it fits; the receipt.
    #[inline]
    pub(crate) fn charge(&self, state: &State, n: u64, now: Now) -> Result<Option<u64>, Stale> {
        if let (Rule::InFlight(amount), State::InFlight(places)) = (self, state) {
            return Ok(places.charge(*amount).then_some(0));
        }
        // Places in a region are taken with a mark: see `Places`.
        Ok(matched!(self, state;
            Bucket(rule) bucket => match bucket.charge(rule, n, now.mono)? {
                Charged::Taken(receipt) => Some(receipt),
                Charged::Refused => None,
            },
            Window(rule, _, until) window => window.charge(&bound(rule, *until, n), n, now.mono),
            Quota(rule) quota => {
                quota.charge(rule.bounds(now.wall).start, n, rule.until.bound(rule.amount, n))
            };
            None))
    }

    /// Charges `n` whatever is left.
    pub(crate) fn force(&self, state: &State, n: u64, now: Now) -> Result<(), Stale> {
        self.force_with_receipt(state, n, now).map(|_| ())
    }

    /// The same; the receipt.
    #[inline]
    pub(crate) fn force_with_receipt(&self, state: &State, n: u64, now: Now) -> Result<u64, Stale> {
        Ok(matched!(self, state;
            Bucket(rule) bucket => bucket.force(rule, n, now.mono)?,
            Window(rule, _, _until) window => window.force(rule, n, now.mono),
            Quota(rule) quota => quota.force(rule.bounds(now.wall).start, n);
            0))
    }

    /// Gives back `back` of a charge, as if it had been smaller from the first; all of an in-flight place.
    pub(crate) fn give_back(&self, state: &State, made: Made, back: u64, now: Now) -> Result<(), Stale> {
        if let (Rule::InFlight(_), State::InFlight(places)) = (self, state) {
            places.release();
            return Ok(());
        }
        matched!(self, state;
            Bucket(rule) bucket => {
                bucket.give_back(rule, (made.charge, made.receipt, made.at), back, now.mono)?
            },
            Window(rule, _, _until) window => window.give_back(rule, (made.receipt, made.at), back, now.mono),
            Quota(rule) quota => quota.give_back(rule.bounds(now.wall).start, made.receipt, back);
            0);
        Ok(())
    }

    /// What counts as used at `now`: a bucket's deficit, what a window or a quota counts, the places taken.
    pub(crate) fn used(&self, state: &State, now: Now) -> Result<u64, Stale> {
        Ok(matched!(self, state;
            Bucket(rule) bucket => bucket.deficit(rule, now.mono)?,
            Window(rule, _, _until) window => window.used(rule, now.mono),
            Quota(rule) quota => quota.used(rule.bounds(now.wall).start).0,
            InFlight(_amount) places => places.open();
            0))
    }

    /// What would come of a charge of `n`. `deadlines` are those of the permits that hold the counter's in-flight
    /// places, in monotonic nanoseconds: a place is free when its permit's time is over. `due`: for some it may be.
    pub(crate) fn outlook(
        &self,
        state: &State,
        n: u64,
        now: Now,
        due: bool,
        deadlines: impl Fn() -> Vec<u64>,
    ) -> Result<Outlook, Stale> {
        let mut used = self.used(state, now)?;
        let amount = self.amount();
        // A bucket's use is rounded up to whole tokens: to a charge of nothing a part of one makes a difference.
        let mut fits = if n == 0 { self.fits(state, n, now)? } else { fits(used, n, amount) };
        let mut release = None;
        if self.is_in_flight() && (!fits || due) {
            let mut deadlines = deadlines();
            used = used.saturating_sub(deadlines.iter().filter(|deadline| **deadline <= now.mono).count() as u64);
            fits = used < amount;
            deadlines.retain(|deadline| *deadline > now.mono);
            let place = (used.saturating_sub(amount)) as usize;
            if place < deadlines.len() {
                release = Some(*deadlines.select_nth_unstable(place).1 - now.mono);
            }
        }
        let never_fits = n > amount;
        let wait = if fits {
            Some(0)
        } else if never_fits {
            None
        } else {
            matched!(self, state;
                Bucket(rule) bucket => bucket.ready(rule, n, now.mono)?.map(|at| at.saturating_sub(now.mono)),
                Window(rule, _, until) window => {
                    window.ready(&bound(rule, *until, n), n, now.mono).map(|at| at.saturating_sub(now.mono))
                },
                Quota(rule) _quota => self.resets(state, now).filter(|_| rule.amount > 0),
                InFlight(_amount) _places => release;
                None)
        };
        Ok(Outlook { fits, never_fits, remaining: left(amount, used), wait })
    }

    /// Nanoseconds of wall time until a quota's period is over; `None` if it never is, or for other algorithms.
    pub(crate) fn resets(&self, state: &State, now: Now) -> Option<u64> {
        let Rule::Quota(rule) = self else { return None };
        let bounds = rule.bounds(now.wall);
        // A clock that stepped back is in an older period than the counter: that one's end counts.
        let start = matched!(self, state; Quota(_rule) quota => quota.used(bounds.start).1; return None);
        let end = if start > bounds.start { rule.period.bounds(start).end } else { bounds.end };
        (end != i64::MAX).then(|| end.saturating_sub(now.wall).max(0) as u64)
    }

    /// Nanoseconds until the counter is as good as new if nothing else happens: 0 if it is now, `None` if never.
    pub(crate) fn rests(&self, state: &State, now: Now) -> Result<Option<u64>, Stale> {
        Ok(matched!(self, state;
            Bucket(rule) bucket => bucket.rests(rule, now.mono)?.map(|at| at.saturating_sub(now.mono)),
            Window(rule, _, _until) window => Some(window.empties(rule, now.mono).saturating_sub(now.mono)),
            Quota(rule) quota => {
                let start = rule.bounds(now.wall).start;
                let (used, newest) = quota.used(start);
                // A counter that remembers a newer period than the clock shows must go on remembering it.
                // One with a lease would come back with all of it used.
                let leased = quota.leased().is_some_and(|leased| leased.leased > 0 && leased.start() >= start);
                if used == 0 && newest <= start && !leased { Some(0) } else { self.resets(state, now) }
            },
            InFlight(_amount) places => (places.open() == 0).then_some(0);
            None))
    }
}

impl Rule {
    /// A bucket as it stands at `now`, for another process; none of another algorithm.
    pub(crate) fn save_bucket(&self, state: &State, now: Now) -> Option<bucket::Saved> {
        matched!(self, state; Bucket(rule) bucket => bucket.save(rule, now.mono).ok(); None)
    }

    /// The same of a window: what leaves when.
    pub(crate) fn save_window(&self, state: &State, now: Now) -> Option<Vec<(u64, u64)>> {
        matched!(self, state; Window(rule, _, _until) window => Some(window.save(rule, now.mono)); None)
    }

    /// The use in a quota's newest period of all, and that period's start.
    pub(crate) fn save_quota(&self, state: &State) -> Option<(u64, i64)> {
        matched!(self, state; Quota(_rule) quota => Some(quota.used(i64::MIN)); None)
    }

    /// Takes up what was saved of a bucket `elapsed` nanoseconds ago.
    pub(crate) fn take_up_bucket(&self, state: &State, saved: &bucket::Saved, elapsed: u64, now: Now) {
        matched!(self, state; Bucket(rule) bucket => drop(bucket.take_up(rule, saved, elapsed, now.mono)); ());
    }

    /// Takes up an amount of a window's that leaves at this instant.
    pub(crate) fn take_up_window(&self, state: &State, leaves: u64, amount: u64) {
        matched!(self, state; Window(rule, _, _until) window => window.take_up(rule, leaves, amount); ());
    }

    /// Takes up the use of a quota's period.
    pub(crate) fn take_up_quota(&self, state: &State, start: i64, used: u64) {
        matched!(self, state; Quota(_rule) quota => drop(quota.force(start, used)); ());
    }

    /// Makes this the limit's rule, before anyone can find it.
    pub(crate) fn put_in_force(&self) {
        if let Rule::Bucket(rule) = self {
            rule.put_in_force();
        }
    }

    /// Whether the counter is under this rule, where a change of policy requires that it is brought there.
    pub(crate) fn is_adopted(&self, state: &State) -> bool {
        matched!(self, state; Bucket(rule) bucket => bucket.is_under(rule); true)
    }

    /// Brings a counter under this rule where a change of policy requires it, unless a newer one is in force.
    pub(crate) fn adopt(&self, state: &State) -> Result<(), Stale> {
        matched!(self, state; Bucket(rule) bucket => bucket.adopt(rule); Ok(()))
    }
}
