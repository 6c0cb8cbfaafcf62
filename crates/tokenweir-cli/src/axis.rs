//! A time axis of bounded length: its steps widen as the trace goes on, and series follow.

/// Nanoseconds in a millisecond.
const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;
const DAY: i64 = 86_400 * S;

/// Widths of a step. Each divides the next, so that steps merge whole.
const WIDTHS: [i64; 27] = [
    MS,
    5 * MS,
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    S,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    300 * S,
    600 * S,
    1_800 * S,
    3_600 * S,
    3 * 3_600 * S,
    6 * 3_600 * S,
    12 * 3_600 * S,
    DAY,
    7 * DAY,
    28 * DAY,
    56 * DAY,
    112 * DAY,
    224 * DAY,
    448 * DAY,
    896 * DAY,
    8_960 * DAY,
];

/// Steps of equal width that cover everything seen so far, at most `most` of them.
#[derive(Debug, Clone)]
pub struct Axis {
    most: i64,
    level: usize,
    first: Option<i64>,
    last: i64,
}

impl Axis {
    /// An axis of at most `most` steps.
    pub fn new(most: u16) -> Self {
        Axis { most: i64::from(most), level: 0, first: None, last: 0 }
    }

    /// Makes the axis reach `at`, which is not before what it has reached. Steps widen where they must.
    pub fn include(&mut self, at: i64) {
        self.first.get_or_insert(at);
        self.last = self.last.max(at);
        self.expect(self.last);
    }

    /// Makes the steps as wide as they will have to be at `until`, without reaching for it yet. Saves widening them
    /// again and again; nothing before the first instant is seen.
    pub fn expect(&mut self, until: i64) {
        let Some(first) = self.first else { return };
        while self.level + 1 < WIDTHS.len() && until / self.width() - first / self.width() >= self.most {
            self.level += 1;
        }
    }

    /// The width of a step, in nanoseconds.
    pub fn width(&self) -> i64 {
        WIDTHS[self.level]
    }

    /// The step that holds `at`, counted from 1970.
    pub fn step(&self, at: i64) -> i64 {
        at / self.width()
    }

    /// The first and the last step; `None` before anything was seen.
    pub fn ends(&self) -> Option<(i64, i64)> {
        self.first.map(|first| (self.step(first), self.step(self.last)))
    }
}

/// What a series does with two values of one step.
pub trait Merge: Copy {
    /// Both in one.
    fn merge(&mut self, other: Self);
}

/// The most of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most(pub u64);

impl Merge for Most {
    fn merge(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }
}

/// How many of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts<const N: usize>(pub [u64; N]);

impl<const N: usize> Merge for Counts<N> {
    fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// Values by step of an [`Axis`], only for steps that have one, in order of time.
#[derive(Debug, Clone)]
pub struct Series<T> {
    level: usize,
    points: Vec<(i64, T)>,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Series { level: 0, points: Vec::new() }
    }
}

impl<T: Merge> Series<T> {
    /// Adds a value at an instant that is not before the last one, and that the axis includes.
    pub fn add(&mut self, axis: &Axis, at: i64, value: T) {
        self.widen(axis);
        push(&mut self.points, axis.step(at), value);
    }

    /// Brings the series to the steps of the axis.
    fn widen(&mut self, axis: &Axis) {
        if self.level < axis.level {
            let ratio = axis.width() / WIDTHS[self.level];
            let mut wide = Vec::new();
            for &(step, value) in &self.points {
                push(&mut wide, step / ratio, value);
            }
            self.points = wide;
        }
        self.level = axis.level;
    }

    /// The values at the steps of the axis, in order of time.
    pub fn points(&self, axis: &Axis) -> Vec<(i64, T)> {
        let mut series = self.clone();
        series.widen(axis);
        series.points
    }
}

fn push<T: Merge>(points: &mut Vec<(i64, T)>, step: i64, value: T) {
    match points.last_mut() {
        Some((last, merged)) if *last == step => merged.merge(value),
        _ => points.push((step, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_width_divides_the_next() {
        assert!(WIDTHS.windows(2).all(|pair| pair[1] % pair[0] == 0 && pair[1] > pair[0]));
        // The axis takes the whole of time within its bound.
        assert!(i64::MAX / WIDTHS[WIDTHS.len() - 1] < 24);
    }

    #[test]
    fn steps_widen_and_values_merge() {
        let mut axis = Axis::new(10);
        let (mut most, mut counts) = (Series::default(), Series::default());
        for second in 0..3_600_u64 {
            let at = second as i64 * S;
            axis.include(at);
            most.add(&axis, at, Most(second));
            counts.add(&axis, at, Counts([1]));
        }
        assert_eq!((axis.width(), axis.ends()), (600 * S, Some((0, 5))));
        let most: Vec<u64> = most.points(&axis).iter().map(|(_, value)| value.0).collect();
        assert_eq!(most, [599, 1199, 1799, 2399, 2999, 3599]);
        assert!(counts.points(&axis).iter().all(|(_, value)| value.0 == [600]));
    }

    #[test]
    fn an_axis_of_all_time_stays_short() {
        let mut axis = Axis::new(120);
        axis.include(0);
        axis.include(i64::MAX);
        let (first, last) = axis.ends().expect("it has seen something");
        assert!(last - first < 120);
    }
}
