//! Routes: who calls what, resolved once to the counters that it meets.

use super::compiled::Compiled;
use super::rule::Rule;
use crate::policy::{ChargeRule, Tokens};
use crate::request::Request;
use crate::sync::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use crate::table::{Counter, Pins, Segments, hasher};
use ahash::RandomState;
use arc_swap::{ArcSwapOption, Guard};
use equivalent::Equivalent;
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One limit of a route.
#[derive(Debug)]
pub(crate) struct Leg {
    /// Index into the policy's limits.
    pub(crate) limit: usize,
    pub(crate) counter: Arc<Counter>,
    pub(crate) charge: ChargeRule,
    /// False for a shadow limit: it never refuses.
    pub(crate) enforced: bool,
}

/// A resolved route. It holds (pins) its counters for as long as it lives; permits and handles hold it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) compiled: Arc<Compiled>,
    /// In the one order in which limits are charged everywhere: ascending identity.
    pub(crate) legs: Box<[Leg]>,
    pub(crate) pins: Pins,
    /// Project, deployment and the caller keys that the policy names, so encoded that different ones are never alike.
    pub(crate) key: Box<[u8]>,
    /// Where it stands in the registry.
    pub(crate) index: AtomicUsize,
    pub(crate) wants_wall: bool,
    /// Whether one of its limits counts permits in flight.
    pub(crate) has_places: bool,
}

impl Resolved {
    #[inline]
    pub(crate) fn rule(&self, leg: &Leg) -> &Rule {
        &self.compiled.rules[leg.limit]
    }

    pub(crate) fn name(&self, leg: &Leg) -> &Arc<str> {
        self.compiled.policy.limits()[leg.limit].name()
    }

    /// The project and the deployment it was resolved for.
    pub(crate) fn caller(&self) -> (&[u8], &[u8]) {
        let (project, rest) = split(&self.key);
        (project, split(rest).0)
    }

    pub(crate) fn is_stale(&self, generation: u64) -> bool {
        self.compiled.generation != generation
    }
}

/// What a leg charges for these tokens.
pub(crate) fn charge_of(leg: &Leg, input: u64, output: u64) -> u64 {
    leg.charge.charge(&Tokens { input, cached_input: 0, output })
}

/// A route's key, on the stack where it is of ordinary length.
pub(crate) type RouteKey = SmallVec<[u8; 256]>;

/// Encodes what `names` of the request matter: each part with its length before it, absent keys marked as such.
pub(crate) fn encode(request: &Request<'_>, names: &[Arc<str>]) -> RouteKey {
    let mut key = RouteKey::new();
    let mut part = |value: Option<&[u8]>| {
        // Present values are counted from 1, so that an absent key and an empty one differ.
        let length = value.map_or(0, |value| value.len() as u64 + 1);
        key.extend_from_slice(&length.to_le_bytes());
        key.extend_from_slice(value.unwrap_or_default());
    };
    part(Some(request.project));
    part(Some(request.deployment));
    for name in names {
        part(request.key(name));
    }
    key
}

/// The first encoded part and the rest.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = key.split_first_chunk::<8>() else { return (&[], &[]) };
    let length = (u64::from_le_bytes(*length) as usize).saturating_sub(1);
    rest.split_at_checked(length).unwrap_or((rest, &[]))
}

struct Entry(Arc<Resolved>);

#[derive(Clone, Copy)]
struct Sought<'a>(&'a [u8]);

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.key);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Entry {}

impl Equivalent<Entry> for Sought<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        *self.0 == *entry.0.key
    }
}

/// A place in the registry.
#[derive(Debug, Default)]
struct Place(ArcSwapOption<Resolved>);

/// All routes: by key, for those who come with a request, and by index, for those who come with a permit.
///
/// Who finds a route pins it before use. A route leaves the map when a newer policy replaces it or room is needed, and
/// is freed (gives its counters free) when the last pin is gone.
pub(crate) struct Routes {
    map: papaya::HashMap<Entry, (), RandomState>,
    registry: Segments<Place>,
    /// Where the search for a free place begins.
    cursor: AtomicUsize,
    live: AtomicUsize,
    budget: usize,
}

impl Routes {
    pub(crate) fn new(budget: usize) -> Self {
        let map = papaya::HashMap::builder().capacity(budget.min(1 << 20)).hasher(hasher()).build();
        Routes {
            map,
            registry: Segments::new(budget),
            cursor: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            budget: budget.min(1 << 24),
        }
    }

    /// The route of this key, pinned, if it is known and of this generation.
    #[inline]
    pub(crate) fn pin(&self, key: &[u8], generation: u64) -> Option<Arc<Resolved>> {
        let map = self.map.pin();
        let (entry, ()) = map.get_key_value(&Sought(key))?;
        if entry.0.is_stale(generation) {
            return None;
        }
        if !entry.0.pins.pin() {
            self.free(&entry.0);
            return None;
        }
        Some(entry.0.clone())
    }

    /// The route at `index`, which a permit of the caller's pins.
    pub(crate) fn at(&self, index: usize) -> Guard<Option<Arc<Resolved>>> {
        match self.registry.get(index) {
            Some(place) => place.0.load(),
            None => Guard::from_inner(None),
        }
    }

    /// Enters a route that the caller has pinned. False if there is no room.
    pub(crate) fn register(&self, route: &Arc<Resolved>) -> bool {
        // AcqRel: the budget is a bound, so a place is counted before it is sought.
        if self.live.fetch_add(1, AcqRel) >= self.budget {
            self.live.fetch_sub(1, AcqRel);
            return false;
        }
        loop {
            let length = self.registry.len();
            for _ in 0..=length.min(64) {
                let index = self.cursor.fetch_add(1, Relaxed) % length;
                if self.take_place(index, route) {
                    return true;
                }
            }
            if !self.registry.grow(length) && self.registry.len() == length {
                // Full grown: fewer are live than there are places, so a free one turns up.
                if (0..length).any(|index| self.take_place(index, route)) {
                    return true;
                }
            }
        }
    }

    fn take_place(&self, index: usize, route: &Arc<Resolved>) -> bool {
        let Some(place) = self.registry.get(index) else { return false };
        if place.0.load().is_some() {
            return false;
        }
        route.index.store(index, Relaxed);
        place.0.compare_and_swap(&None::<Arc<Resolved>>, Some(route.clone())).is_none()
    }

    /// Makes a registered route the one that its key leads to; the one before, if any, is retired.
    pub(crate) fn publish(&self, route: &Arc<Resolved>) {
        let map = self.map.pin();
        loop {
            if let Some((entry, ())) = map.get_key_value(&Sought(&route.key)) {
                let old = entry.0.clone();
                self.retire(&old);
            }
            if map.try_insert(Entry(route.clone()), ()).is_ok() {
                return;
            }
        }
    }

    /// Takes a route out of the map; the last one to let go frees it.
    pub(crate) fn retire(&self, route: &Arc<Resolved>) {
        let unheld = route.pins.retire();
        let _ = self.map.pin().remove_if(&Sought(&route.key), |entry, ()| Arc::ptr_eq(&entry.0, route));
        if unheld {
            self.free(route);
        }
    }

    /// Lets go of a route.
    #[inline]
    pub(crate) fn unpin(&self, route: &Resolved) {
        if route.pins.unpin() {
            self.free(route);
        }
    }

    fn free(&self, route: &Resolved) {
        if !route.pins.free() {
            return;
        }
        for leg in &route.legs {
            let _ = leg.counter.pins.unpin();
        }
        if let Some(place) = self.registry.get(route.index.load(Acquire)) {
            place.0.store(None);
        }
        self.live.fetch_sub(1, AcqRel);
    }

    /// Retires the routes that nobody holds and that `gone` says may go.
    pub(crate) fn evict(&self, gone: impl Fn(&Resolved) -> bool) {
        for (entry, ()) in &self.map.pin() {
            if !entry.0.pins.held() && gone(&entry.0) {
                self.retire(&entry.0.clone());
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
