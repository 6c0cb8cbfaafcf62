//! Entries that are found by hash and named by their place, both without locks.

use super::Segments;
use super::index::{Index, Links};
use crate::sync::{
    AtomicUsize,
    Ordering::{AcqRel, Relaxed},
    Word,
};
use arc_swap::{ArcSwapOption, Guard};
use std::sync::Arc;

/// A place: an entry, and the link by which the index leads on from it.
struct Place<T> {
    link: Word,
    entry: ArcSwapOption<T>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Place { link: Word::new(0), entry: ArcSwapOption::empty() }
    }
}

struct Places<T>(Segments<Place<T>>);

impl<T> Links for Places<T> {
    #[inline]
    fn link(&self, index: usize) -> &Word {
        // The index only holds places that were claimed; the first segment is made with the table.
        let place = self.0.get(index).or_else(|| self.0.get(0));
        &place.expect("the first segment is made with the table").link
    }
}

/// Up to so many entries. What an entry's key is, and when it may go, is for the owner to say.
pub(crate) struct Entries<T> {
    index: Index,
    places: Places<T>,
    /// Where the search for a free place begins.
    cursor: AtomicUsize,
    live: AtomicUsize,
    budget: usize,
}

impl<T> Entries<T> {
    /// Room for `budget` entries, at most 2^24. The index is sized for it from the first, 16 to 32 bytes for each; a
    /// place takes 16 bytes once it is needed.
    pub(crate) fn new(budget: usize) -> Self {
        let budget = budget.min(1 << 24);
        // Some places more, so that the search for a free one is short even when nearly all are taken.
        let places = Segments::new(budget + budget / 8 + 1);
        Entries {
            index: Index::new(budget),
            places: Places(places),
            cursor: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            budget,
        }
    }

    /// The entry at `place`; none if it is free.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Guard<Option<Arc<T>>> {
        match self.places.0.get(place) {
            Some(place) => place.entry.load(),
            None => Guard::from_inner(None),
        }
    }

    /// Passes entries that may have this hash until `see` returns something. It may miss an entry while others leave.
    #[inline]
    pub(crate) fn find<R>(&self, hash: u64, mut see: impl FnMut(&Arc<T>) -> Option<R>) -> Option<R> {
        self.index.find(&self.places, hash, |place| {
            let entry = self.at(place);
            entry.as_ref().and_then(&mut see)
        })
    }

    /// Puts an entry in a place of its own, where nobody finds it yet; `None` if the budget is spent. `told` learns the
    /// place before anyone else can see it there.
    pub(crate) fn settle(&self, entry: &Arc<T>, told: impl Fn(usize)) -> Option<usize> {
        // AcqRel: the budget is a bound, so a place is counted before it is sought.
        if self.live.fetch_add(1, AcqRel) >= self.budget {
            self.live.fetch_sub(1, AcqRel);
            return None;
        }
        let take = |at: usize| {
            let place = self.places.0.get(at).filter(|place| place.entry.load().is_none())?;
            told(at);
            place.entry.compare_and_swap(&None::<Arc<T>>, Some(entry.clone())).is_none().then_some(at)
        };
        loop {
            let length = self.places.0.len();
            for _ in 0..=length.min(64) {
                let taken = take(self.cursor.fetch_add(1, Relaxed) % length);
                if taken.is_some() {
                    return taken;
                }
            }
            if !self.places.0.grow(length) && self.places.0.len() == length {
                // Full grown: fewer are live than there are places, so a free one turns up.
                let taken = (0..length).find_map(take);
                if taken.is_some() {
                    return taken;
                }
            }
        }
    }

    /// Lets an entry that has a place be found by its hash, unless the `same` one is there already: then `Err` with it
    /// (or with none if it is just leaving).
    pub(crate) fn publish(&self, hash: u64, place: usize, same: impl Fn(&T) -> bool) -> Result<(), Option<Arc<T>>> {
        let is_same = |other: usize| self.at(other).as_ref().is_some_and(|entry| same(entry));
        self.index.insert(&self.places, hash, place, is_same).map_err(|other| self.at(other).clone())
    }

    /// Lets an entry that was published not be found any more. True for one caller.
    pub(crate) fn retract(&self, hash: u64, place: usize, entry: &Arc<T>) -> bool {
        let meant = || self.at(place).as_ref().is_some_and(|there| Arc::ptr_eq(there, entry));
        self.index.remove(&self.places, hash, place, meant)
    }

    /// Frees the place of an entry that nobody can find any more.
    pub(crate) fn vacate(&self, place: usize) {
        if let Some(place) = self.places.0.get(place) {
            place.entry.store(None);
            self.live.fetch_sub(1, AcqRel);
        }
    }

    /// Every entry, whether it can be found or not, and its place.
    pub(crate) fn each(&self, mut see: impl FnMut(usize, &Arc<T>)) {
        for (at, place) in self.places.0.iter() {
            if let Some(entry) = place.entry.load().as_ref() {
                see(at, entry);
            }
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Relaxed).min(self.budget)
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget
    }
}
