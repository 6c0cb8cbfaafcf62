//! The token line: how many tokens a refill of R per P has brought since its origin, exactly, at any instant.
//!
//! `A(t) = base + floor((rem + (t - origin) * R) / P)`. Nothing is accumulated, so nothing drifts however often or
//! seldom it is asked. A change of rate starts a new piece at its instant; `rem` carries the fraction of a token
//! over, so that not even that is lost.
//!
//! The division is a multiplication by a 120-bit reciprocal. With `M = ceil(R * 2^120 / P)` and `N = ceil(rem *
//! 2^120 / P)` the error of `dt * M + N` is below `(dt + 1) * P / 2^120` in units of 1/P, and `dt < 2^63`,
//! `P <= 2^56`, so it never reaches the next multiple of 1/P and the floor is exact (Granlund and Montgomery,
//! "Division by invariant integers using multiplication", 1994).

/// The highest position a line reaches: beyond it refill stops, which is the strict side. At 10^10 tokens a minute
/// that is after 109 years, at 10^11 after 10.
pub(crate) const LINE_END: u64 = (1 << 59) - 1;

/// The longest period, in nanoseconds (2.3 years); keeps the reciprocal exact.
pub(crate) const PERIOD_MAX: u64 = 1 << 56;

const FRACTION_BITS: u32 = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Monotonic nanoseconds at which this piece begins.
    origin: u64,
    /// `A(origin)`.
    base: u64,
    /// The fraction of a token that had accrued at the origin, in 1/P.
    rem: u64,
    rate: u64,
    /// `M` and `N` of the module's page.
    scale: u128,
    offset: u128,
}

impl Piece {
    fn new(origin: u64, base: u64, rem: u64, rate: u64, period: u64) -> Self {
        Piece { origin, base, rem, rate, scale: ratio(rate, period), offset: ratio(rem, period) }
    }

    /// A line that stands still: what lies before a beginning.
    fn standing(origin: u64, base: u64) -> Self {
        Piece { origin, base, rem: 0, rate: 0, scale: 0, offset: 0 }
    }

    #[inline]
    fn position(&self, t: u64) -> u64 {
        let elapsed = (t - self.origin).min(i64::MAX as u64) as u128;
        let low = elapsed * (self.scale as u64 as u128);
        let high = elapsed * (self.scale >> 64);
        let carry = ((low as u64 as u128) + (self.offset as u64 as u128)) >> 64;
        let sum = high + (low >> 64) + (self.offset >> 64) + carry;
        let tokens = sum >> (FRACTION_BITS - 64);
        if tokens > (LINE_END - self.base) as u128 { LINE_END } else { self.base + tokens as u64 }
    }
}

/// `ceil(numerator * 2^120 / period)`; the quotient of the integer part is at most a few bits.
fn ratio(numerator: u64, period: u64) -> u128 {
    let period = period as u128;
    let whole = (numerator as u128) / period;
    let mut rest = (numerator as u128) % period;
    let mut fraction = 0u128;
    // Long division, 60 bits at a time: rest < 2^56, so rest << 60 fits.
    for _ in 0..2 {
        rest <<= FRACTION_BITS / 2;
        fraction = (fraction << (FRACTION_BITS / 2)) | (rest / period);
        rest %= period;
    }
    (whole << FRACTION_BITS) + fraction + u128::from(rest > 0)
}

/// The refill of one limit over all time that still matters: the present rate and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    period: u64,
    piece: Piece,
    before: Piece,
}

impl Line {
    /// A refill of `rate` tokens per `period` nanoseconds from `origin` on.
    pub(crate) fn new(rate: u64, period: u64, origin: u64) -> Self {
        let period = period.clamp(1, PERIOD_MAX);
        Line { period, piece: Piece::new(origin, 0, 0, rate, period), before: Piece::standing(origin, 0) }
    }

    /// The same line, on which `rate` tokens come per period from `at` on. Elapsed time is credited at the old rate.
    pub(crate) fn with_rate(&self, rate: u64, at: u64) -> Self {
        let old = &self.piece;
        let at = at.max(old.origin);
        let accrued = old.rem as u128 + ((at - old.origin) as u128) * (old.rate as u128);
        let rem = (accrued % (self.period as u128)) as u64;
        let piece = Piece::new(at, old.position(at), rem, rate, self.period);
        Line { period: self.period, piece, before: *old }
    }

    /// The same line, whose steps from `at` on are of another size: `rate` of them come per period. It goes on from
    /// where it stands, so that positions never go back; less than one old step is lost. Earlier instants count as
    /// `at`: lengths before it would be in other steps.
    pub(crate) fn with_steps(&self, rate: u64, at: u64) -> Self {
        let at = at.max(self.piece.origin);
        let piece = Piece::new(at, self.piece.position(at), 0, rate, self.period);
        Line { period: self.period, piece, before: Piece::standing(at, piece.base) }
    }

    /// What tells it from all others of its rate and period.
    pub(crate) fn numbers(&self) -> [u64; 7] {
        let Line { piece, before, .. } = self;
        [piece.origin, piece.base, piece.rem, before.origin, before.base, before.rem, before.rate]
    }

    /// The line of these numbers; `None` if there is none.
    pub(crate) fn of(rate: u64, period: u64, numbers: [u64; 7]) -> Option<Self> {
        let period = period.clamp(1, PERIOD_MAX);
        let [origin, base, rem, before_origin, before_base, before_rem, before_rate] = numbers;
        let is_sound = base.max(before_base) <= LINE_END && rem.max(before_rem) < period && before_origin <= origin;
        is_sound.then(|| Line {
            period,
            piece: Piece::new(origin, base, rem, rate, period),
            before: Piece::new(before_origin, before_base, before_rem, before_rate, period),
        })
    }

    /// `A(t)`. Instants before the one-but-last change of rate count as that change's: the line from there on is known,
    /// and a charge that is put down there is not refilled for more than its age.
    #[inline]
    pub(crate) fn position(&self, t: u64) -> u64 {
        if t >= self.piece.origin {
            return self.piece.position(t);
        }
        self.before.position(t.max(self.before.origin))
    }

    /// The first instant `t >= from` with `A(t) >= position`; `None` if the line never gets there.
    pub(crate) fn reaches(&self, position: u64, from: u64) -> Option<u64> {
        if self.position(from) >= position {
            return Some(from);
        }
        // `from` may lie on the earlier piece, and the answer too.
        if from < self.piece.origin && self.before.position(self.piece.origin) >= position {
            return solve(&self.before, position, self.period).map(|t| t.max(from));
        }
        solve(&self.piece, position, self.period).map(|t| t.max(from))
    }
}

fn solve(piece: &Piece, position: u64, period: u64) -> Option<u64> {
    if position > LINE_END || piece.rate == 0 {
        return None;
    }
    let needed = (position.saturating_sub(piece.base)) as u128 * period as u128;
    let needed = needed.saturating_sub(piece.rem as u128);
    let elapsed = match (u64::try_from(needed), piece.rate) {
        (Ok(needed), rate) => needed.div_ceil(rate),
        (Err(_), rate) => u64::try_from(needed.div_ceil(rate as u128)).ok()?,
    };
    piece.origin.checked_add(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000_000;
    const YEAR: u64 = 31_557_600_000_000_000;

    fn exact(rate: u64, period: u64, elapsed: u64) -> u64 {
        let tokens = (elapsed as u128 * rate as u128) / period as u128;
        tokens.min(LINE_END as u128) as u64
    }

    #[test]
    fn a_century_at_one_and_at_ten_billion_a_minute_is_exact_to_the_token() {
        for rate in [1, 7, 10_000_000_000] {
            let line = Line::new(rate, MINUTE, 0);
            for step in [1, 59_999_999_999, 60_000_000_000, YEAR / 7, YEAR] {
                let mut t = 0u64;
                for _ in 0..1000 {
                    assert_eq!(line.position(t), exact(rate, MINUTE, t), "rate {rate} at {t}");
                    t = (t + step).min(100 * YEAR);
                }
                assert_eq!(line.position(100 * YEAR), exact(rate, MINUTE, 100 * YEAR));
            }
        }
        assert_eq!(Line::new(10_000_000_000, MINUTE, 0).position(100 * YEAR), 525_960_000_000_000_000);
    }

    #[test]
    fn the_end_of_time_neither_wraps_nor_panics() {
        let line = Line::new(100_000_000_000, MINUTE, 0);
        assert_eq!(line.position(u64::MAX), LINE_END);
        assert_eq!(line.reaches(LINE_END + 1, 0), None);
        assert_eq!(Line::new(1, PERIOD_MAX, 0).reaches(1 << 40, 0), None);
        assert_eq!(Line::new(1, MINUTE, 100).position(5), 0);
    }

    proptest! {
        #[test]
        fn the_reciprocal_is_the_division(rate in 1u64..=100_000_000_000, period in 1u64..=PERIOD_MAX, t in 0u64..=i64::MAX as u64) {
            prop_assume!(rate as u128 * MINUTE as u128 <= 100_000_000_000 * period as u128);
            prop_assert_eq!(Line::new(rate, period, 0).position(t), exact(rate, period, t));
        }

        #[test]
        fn the_reciprocal_is_exact_on_every_edge(rate in 1u64..=10_000_000, period in 1_000_000_000u64..=PERIOD_MAX, token in 1u64..1_000_000) {
            let line = Line::new(rate, period, 0);
            let edge = (token as u128 * period as u128).div_ceil(rate as u128);
            prop_assume!(edge <= i64::MAX as u128);
            let edge = edge as u64;
            prop_assert_eq!(line.position(edge), exact(rate, period, edge));
            prop_assert_eq!(line.position(edge - 1), exact(rate, period, edge - 1));
            let reached = line.reaches(token, 0).unwrap();
            prop_assert_eq!(reached, edge);
        }

        #[test]
        fn a_change_of_rate_loses_no_fraction(rates in prop::collection::vec((1u64..1_000_000, 1u64..10_000_000_000), 1..20)) {
            let mut line = Line::new(rates[0].0, MINUTE, 0);
            let (mut numerator, mut now, mut rate) = (0u128, 0u64, rates[0].0);
            for (next, after) in rates {
                numerator += after as u128 * rate as u128;
                now += after;
                prop_assert_eq!(line.position(now), (numerator / MINUTE as u128) as u64);
                let before = line;
                line = line.with_rate(next, now);
                prop_assert_eq!(line.position(now), before.position(now));
                prop_assert_eq!(line.position(now - after / 2), before.position(now - after / 2));
                rate = next;
            }
        }
    }
}
