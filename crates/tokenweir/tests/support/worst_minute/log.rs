//! What was admitted, and the fullest interval of it.

/// One admission: its tokens, and the instants between which it was decided.
#[derive(Debug, Clone, Copy)]
struct Admission {
    from: u64,
    to: u64,
    tokens: u64,
}

/// Everything that one limiter admitted.
///
/// An admission is decided at some instant while it is asked for, and an interval counts it only if all of that time lies
/// within. What is found too full therefore was too full, whenever exactly the decisions fell. On stepped time that
/// stands during the call the two instants are one.
#[derive(Debug, Default)]
pub struct Log {
    admissions: Vec<Admission>,
}

impl Log {
    /// `tokens` were admitted between `from` and `to`.
    pub fn push(&mut self, from: u64, to: u64, tokens: u64) {
        self.admissions.push(Admission { from, to, tokens });
    }

    /// Everything of another log as well.
    pub fn append(&mut self, mut other: Log) {
        self.admissions.append(&mut other.admissions);
    }

    /// All tokens admitted.
    pub fn total(&self) -> u64 {
        self.admissions.iter().map(|admission| admission.tokens).sum()
    }

    /// Tokens in the fullest interval of `length` nanoseconds, both its ends included, wherever it begins.
    pub fn worst(&self, length: u64) -> u64 {
        let within = self.admissions.iter().filter(|admission| admission.to - admission.from <= length);
        let mut by_start: Vec<Admission> = within.copied().collect();
        let mut by_end = by_start.clone();
        by_start.sort_unstable_by_key(|admission| admission.from);
        by_end.sort_unstable_by_key(|admission| admission.to);
        // The fullest interval may be moved on until it begins with an admission that it counts.
        let (mut inside, mut worst, mut ended) = (0, 0, 0);
        for (begun, first) in by_start.iter().enumerate() {
            while ended < by_end.len() && by_end[ended].to - first.from.min(by_end[ended].to) <= length {
                inside += by_end[ended].tokens;
                ended += 1;
            }
            worst = worst.max(inside);
            // Whatever begins first has ended by now, for none lasts longer than `length`.
            debug_assert!(begun < ended);
            inside -= first.tokens;
        }
        worst
    }

    /// By how many nanoseconds of refill the fullest interval of any length exceeds `burst` and the refill of `rate`
    /// tokens in `per` nanoseconds, rounded up; 0 if none does. `None` if the instants of the decisions are not known.
    pub fn ahead(&self, burst: u64, rate: u64, per: u64) -> Option<u64> {
        if self.admissions.iter().any(|admission| admission.from < admission.to) {
            return None;
        }
        let mut admissions = self.admissions.clone();
        admissions.sort_unstable_by_key(|admission| admission.to);
        let (per, rate) = (i128::from(per), i128::from(rate));
        // The fullest interval that ends here, less its refill: it goes on from the one before, or begins here.
        let (mut fullest, mut before, mut worst) = (0i128, 0, 0i128);
        for admission in admissions {
            let refill = i128::from(admission.to - before) * rate;
            fullest = (fullest - refill).max(0) + i128::from(admission.tokens) * per;
            before = admission.to;
            worst = worst.max(fullest - i128::from(burst) * per);
        }
        Some(((worst + rate - 1) / rate) as u64)
    }
}
