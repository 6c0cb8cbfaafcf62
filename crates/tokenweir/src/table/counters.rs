//! The counters of all limits, by limit and key.

use super::{Entries, Pins, hasher};
use crate::counter::{bucket::Bucket, in_flight::InFlight, quota::Quota, window::Window};
use crate::sync::{AtomicBool, AtomicU64, Ordering::Relaxed};
use ahash::RandomState;
use smallvec::SmallVec;
use std::sync::Arc;

/// The words of one counter, by algorithm.
#[derive(Debug)]
pub(crate) enum State {
    Bucket(Bucket),
    Window(Window),
    Quota(Quota),
    InFlight(InFlight),
}

/// What one limit has counted for one key.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) state: State,
    /// Which limit, by the identity that outlives a change of policy.
    pub(crate) identity: u32,
    /// Somebody is to renew its lease.
    pub(crate) low: AtomicBool,
    /// The scope's values, encoded so that different ones are never alike.
    pub(crate) key: SmallVec<[u8; 24]>,
    /// Held by each route that leads here.
    pub(crate) pins: Pins,
    /// The sum of all settled charges since the counter began.
    pub(crate) settled: AtomicU64,
}

/// All live counters, at most as many as the budget says.
pub(crate) struct Counters {
    entries: Entries<Counter>,
    hasher: RandomState,
    evicted: AtomicU64,
}

impl Counters {
    /// Room for `budget` counters.
    pub(crate) fn new(budget: usize) -> Self {
        Counters { entries: Entries::new(budget), hasher: hasher(), evicted: AtomicU64::new(0) }
    }

    fn hash(&self, identity: u32, key: &[u8]) -> u64 {
        self.hasher.hash_one((identity, key))
    }

    /// The counter of this limit and key, held (pinned) for the caller; made by `new` if there is none. `None` if the
    /// budget is spent.
    pub(crate) fn pin<E>(
        &self,
        identity: u32,
        key: &[u8],
        new: impl Fn() -> Result<State, E>,
    ) -> Result<Option<Arc<Counter>>, E> {
        let hash = self.hash(identity, key);
        let is_it = |counter: &Counter| counter.identity == identity && *counter.key == *key;
        // One that was freed is on its way out, and another of the same key may take its place.
        let hold =
            |counter: &Arc<Counter>| (is_it(counter) && counter.pins.pin_unless_freed()).then(|| counter.clone());
        loop {
            if let Some(counter) = self.entries.find(hash, hold) {
                return Ok(Some(counter));
            }
            if self.entries.live() >= self.entries.budget() {
                // A look may miss what is there while its neighbours leave: before a new key is refused, look again.
                return Ok(self.entries.find(hash, hold));
            }
            let counter = Arc::new(Counter {
                state: new()?,
                identity,
                low: AtomicBool::new(false),
                key: key.into(),
                pins: Pins::new(),
                settled: AtomicU64::new(0),
            });
            let held = counter.pins.pin();
            debug_assert!(held, "nobody else has seen it");
            let Some(place) = self.entries.settle(&counter, |_| ()) else { continue };
            if self.entries.publish(hash, place, |other| is_it(other) && !other.pins.freed()).is_ok() {
                return Ok(Some(counter));
            }
            self.entries.vacate(place);
        }
    }

    /// Evicts every counter that nobody holds and that `rests`.
    pub(crate) fn evict(&self, rests: impl Fn(&Counter) -> bool) {
        self.entries.each(|place, counter| {
            // Unsealed it may still be taken hold of and charged, so only what is seen under the seal counts.
            if !counter.pins.held() && rests(counter) && counter.pins.seal_unheld() {
                if rests(counter) && counter.pins.free() {
                    // Once for each counter: it was freed once.
                    self.entries.retract(self.hash(counter.identity, &counter.key), place, counter);
                    self.entries.vacate(place);
                    self.evicted.fetch_add(1, Relaxed);
                } else {
                    counter.pins.unseal();
                }
            }
        });
    }

    pub(crate) fn each(&self, mut see: impl FnMut(&Arc<Counter>)) {
        self.entries.each(|_, counter| see(counter));
    }

    pub(crate) fn live(&self) -> usize {
        self.entries.live()
    }

    pub(crate) fn budget(&self) -> usize {
        self.entries.budget()
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }
}
