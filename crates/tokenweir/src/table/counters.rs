//! The counters of all limits, by limit and key.

use super::{Directory, Entries, Pins, hasher};
use crate::counter::{
    bucket::Bucket, in_flight::InFlight, places::Places, quota::Quota, window::Window, words::Shared,
};
use crate::sync::{AtomicBool, AtomicU64, Ordering::Relaxed, Word};
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
    Shared(Box<SharedState>),
}

/// The words of one counter in a region.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(crate) words: SharedWords,
    /// The sum of all settled charges since the counter began.
    pub(crate) settled: &'static Word,
    /// Not 0: a process that has ended may have left more in it than there are charges.
    pub(crate) doubt: &'static Word,
    /// Keeps the record; none of a counter that is only looked at.
    pub(crate) _hold: Option<Hold>,
}

/// The same, by algorithm.
#[derive(Debug)]
pub(crate) enum SharedWords {
    Bucket(Bucket<Shared>),
    Window(Window<Shared>),
    Quota(Quota<Shared>),
    InFlight(Places),
    /// There was no room for the counter, and requests pass it uncounted.
    Absent,
}

/// A record of a directory, kept as long as this lives.
pub(crate) struct Hold {
    pub(crate) directory: Arc<Directory>,
    pub(crate) record: usize,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.record).finish()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.directory.release(self.record);
    }
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
    /// The sum of all settled charges since the counter began, unless the counter is in a region.
    pub(crate) settled: AtomicU64,
}

impl Counter {
    /// The sum of all settled charges since the counter began, wherever it is.
    pub(crate) fn settled(&self) -> &Word {
        match &self.state {
            State::Shared(shared) => shared.settled,
            _ => &self.settled,
        }
    }

    /// Its words in a region.
    pub(crate) fn shared(&self) -> Option<&SharedState> {
        match &self.state {
            State::Shared(shared) => Some(shared),
            _ => None,
        }
    }
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
            let counter = self.apart(identity, key, new()?);
            let Some(place) = self.entries.settle(&counter, |_| ()) else { continue };
            if self.entries.publish(hash, place, |other| is_it(other) && !other.pins.freed()).is_ok() {
                return Ok(Some(counter));
            }
            self.entries.vacate(place);
        }
    }

    /// A counter that is in no table, pinned for the caller.
    pub(crate) fn apart(&self, identity: u32, key: &[u8], state: State) -> Arc<Counter> {
        let counter = Arc::new(Counter {
            state,
            identity,
            low: AtomicBool::new(false),
            key: key.into(),
            pins: Pins::new(),
            settled: AtomicU64::new(0),
        });
        let held = counter.pins.pin();
        debug_assert!(held, "nobody else has seen it");
        counter
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
