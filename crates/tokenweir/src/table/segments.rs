//! An array that grows by doubling and never moves what it holds, so that an index is good for life.

use crate::sync::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire},
};
use once_cell::race::OnceBox;

#[cfg(not(any(loom, shuttle)))]
const FIRST: usize = 64;
#[cfg(any(loom, shuttle))]
const FIRST: usize = 2;
const SEGMENTS: usize = 20;

/// Up to 2^24 items, made by `T::default()` a segment at a time.
#[derive(Debug)]
pub(crate) struct Segments<T> {
    segments: [OnceBox<Box<[T]>>; SEGMENTS],
    ready: AtomicUsize,
    most: usize,
}

impl<T: Default> Segments<T> {
    /// An array of at least `most` items when it is full grown; one segment at first.
    pub(crate) fn new(most: usize) -> Self {
        let array = Segments {
            segments: std::array::from_fn(|_| OnceBox::new()),
            ready: AtomicUsize::new(0),
            most: most.clamp(1, 1 << 24),
        };
        array.grow(0);
        array
    }

    /// How many items there are at present.
    pub(crate) fn len(&self) -> usize {
        self.ready.load(Acquire)
    }

    /// The item at `index`; `None` beyond the present length.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let at = index + FIRST;
        let segment = (at / FIRST).ilog2() as usize;
        self.segments.get(segment)?.get()?.get(at - (FIRST << segment))
    }

    /// Adds the next segment to an array of `length`, unless somebody has or it is full grown.
    pub(crate) fn grow(&self, length: usize) -> bool {
        if length >= self.most {
            return false;
        }
        let segment = ((length + FIRST) / FIRST).ilog2() as usize;
        let size = (FIRST << segment).min(self.most - length);
        self.segments[segment].get_or_init(|| Box::new((0..size).map(|_| T::default()).collect()));
        // AcqRel: a length is seen after the items it counts.
        self.ready.fetch_max(length + size, AcqRel);
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        (0..self.len()).filter_map(|index| Some((index, self.get(index)?)))
    }
}
