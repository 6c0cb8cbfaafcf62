//! The counters of all limits, by limit and key.

use super::{Pins, hasher};
use crate::counter::{bucket::Bucket, in_flight::InFlight, quota::Quota, window::Window};
use crate::sync::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};
use ahash::RandomState;
use equivalent::Equivalent;
use std::hash::{Hash, Hasher};
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
    /// The scope's values, encoded so that different ones are never alike.
    pub(crate) key: Box<[u8]>,
    /// Held by each route that leads here.
    pub(crate) pins: Pins,
    /// The sum of all settled charges since the counter began.
    pub(crate) settled: AtomicU64,
}

/// A counter as the map knows it: by identity and key, stored once.
struct Entry(Arc<Counter>);

#[derive(Clone, Copy)]
struct Sought<'a>(u32, &'a [u8]);

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Sought(self.0.identity, &self.0.key).hash(state);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.0);
        state.write(self.1);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity == other.0.identity && self.0.key == other.0.key
    }
}

impl Eq for Entry {}

impl Equivalent<Entry> for Sought<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        self.0 == entry.0.identity && *self.1 == *entry.0.key
    }
}

/// All live counters, at most as many as the budget says.
pub(crate) struct Counters {
    map: papaya::HashMap<Entry, (), RandomState>,
    live: AtomicUsize,
    budget: usize,
    evicted: AtomicU64,
}

impl Counters {
    /// Room for `budget` counters. The map is sized for it from the first: growing in small steps slows its readers.
    pub(crate) fn new(budget: usize) -> Self {
        let map = papaya::HashMap::builder().capacity(budget.min(1 << 20)).hasher(hasher()).build();
        Counters { map, live: AtomicUsize::new(0), budget, evicted: AtomicU64::new(0) }
    }

    /// The counter of this limit and key, held (pinned) for the caller; made by `new` if there is none. `None` if the
    /// budget is spent.
    pub(crate) fn pin(&self, identity: u32, key: &[u8], new: impl Fn() -> State) -> Option<Arc<Counter>> {
        let map = self.map.pin();
        loop {
            if let Some((entry, ())) = map.get_key_value(&Sought(identity, key)) {
                if entry.0.pins.pin_unless_freed() {
                    return Some(entry.0.clone());
                }
                // Freed and on its way out: helping to remove it is quicker than waiting, and never blocks.
                self.remove(&entry.0.clone());
                continue;
            }
            // AcqRel: the budget is a bound, so a place is taken before the counter is made.
            if self.live.fetch_add(1, AcqRel) >= self.budget {
                self.live.fetch_sub(1, AcqRel);
                return None;
            }
            let counter = Arc::new(Counter {
                state: new(),
                identity,
                key: key.into(),
                pins: Pins::new(),
                settled: AtomicU64::new(0),
            });
            let held = counter.pins.pin();
            debug_assert!(held, "nobody else has seen it");
            match map.try_insert(Entry(counter.clone()), ()) {
                Ok(_) => return Some(counter),
                Err(_) => {
                    self.live.fetch_sub(1, AcqRel);
                }
            }
        }
    }

    fn remove(&self, counter: &Arc<Counter>) {
        let sought = Sought(counter.identity, &counter.key);
        let map = self.map.pin();
        if let Ok(Some(_)) = map.remove_if(&sought, |entry, ()| Arc::ptr_eq(&entry.0, counter)) {
            self.live.fetch_sub(1, AcqRel);
            self.evicted.fetch_add(1, Relaxed);
        }
    }

    /// Evicts every counter that nobody holds and that `rests`.
    pub(crate) fn evict(&self, rests: impl Fn(&Counter) -> bool) {
        self.each(|counter| {
            // Unsealed it may still be taken hold of and charged, so only what is seen under the seal counts.
            if !counter.pins.held() && rests(counter) && counter.pins.seal_unheld() {
                if rests(counter) && counter.pins.free() {
                    self.remove(counter);
                } else {
                    counter.pins.unseal();
                }
            }
        });
    }

    pub(crate) fn each(&self, mut see: impl FnMut(&Arc<Counter>)) {
        for (entry, ()) in &self.map.pin() {
            see(&entry.0);
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Relaxed).min(self.budget)
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }
}
