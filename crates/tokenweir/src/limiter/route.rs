//! Routes: who calls what, resolved once to the counters that it meets.

use super::compiled::Compiled;
use super::rule::Rule;
use crate::policy::{ChargeRule, Tokens};
use crate::region::Name;
use crate::request::{Key, Request};
use crate::sync::{AtomicUsize, Ordering::Relaxed};
use crate::table::{Counter, Entries, Hold, Pins, hasher};
use ahash::RandomState;
use arc_swap::Guard;
use smallvec::SmallVec;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What a route has to do with one limit; shared by all routes that meet the same limits on the same terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Leg {
    /// Index into the policy's limits.
    pub(crate) limit: usize,
    pub(crate) charge: ChargeRule,
    /// False for a shadow limit: it never refuses.
    pub(crate) enforced: bool,
}

/// A resolved route. It holds (pins) its counters for as long as it lives; handles hold it, and so do open permits,
/// whose slots name it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) compiled: Arc<Compiled>,
    /// In the one order in which limits are charged everywhere: ascending identity.
    pub(crate) legs: Arc<[Leg]>,
    /// One for each leg.
    pub(crate) counters: SmallVec<[Arc<Counter>; 2]>,
    /// Handles, and who looks at it just now.
    pub(crate) pins: Pins,
    /// Project, deployment and the caller keys that the policy names, so encoded that different ones are never alike.
    pub(crate) key: RouteKey,
    /// Where it stands in the registry.
    pub(crate) index: AtomicUsize,
    /// The caller's record, if permits are in a region.
    pub(crate) caller_hold: Option<Box<Hold>>,
    pub(crate) wants_wall: bool,
    /// Whether one of its limits counts permits in flight.
    pub(crate) has_places: bool,
    /// Whether a store keeps the use of one of its limits.
    pub(crate) kept: bool,
}

impl Resolved {
    #[inline]
    pub(crate) fn rule(&self, leg: &Leg) -> &Rule {
        &self.compiled.rules[leg.limit]
    }

    /// Each leg with its counter.
    #[inline]
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Leg, &Counter)> {
        self.legs.iter().zip(self.counters.iter().map(|counter| &**counter))
    }

    /// What permits on it name it by: its place in the registry, or what a region knows it by.
    fn named(&self, index: usize) -> u64 {
        self.name_in_region().unwrap_or(index as u64)
    }

    /// What permits on it name it by in a region: its policy and its caller's record.
    #[inline]
    pub(crate) fn name_in_region(&self) -> Option<u64> {
        let Compiled { generation, place, .. } = *self.compiled;
        self.caller_hold.as_ref().map(|hold| Name { generation, place }.with(hold.record))
    }

    pub(crate) fn name(&self, leg: &Leg) -> &Arc<str> {
        self.compiled.policy.limits()[leg.limit].name()
    }

    /// The project and the deployment it was resolved for.
    pub(crate) fn caller(&self) -> (&[u8], &[u8]) {
        let mut parts = Parts(&self.key).map(Option::unwrap_or_default);
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    }

    #[inline]
    pub(crate) fn is_stale(&self, generation: u64) -> bool {
        self.compiled.generation != generation
    }
}

/// What a leg charges for these tokens.
#[inline]
pub(crate) fn charge_of(leg: &Leg, input: u64, output: u64) -> u64 {
    leg.charge.charge(&Tokens { input, cached_input: 0, output })
}

/// A route's key: each part with its length before it, absent keys marked as such.
pub(crate) type RouteKey = SmallVec<[u8; 40]>;

/// Who calls what, as far as a policy that knows these caller keys can tell.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    request: &'a Request<'a>,
    /// The caller keys that matter. None where the request has none: then all are absent, whichever they are.
    names: &'a [Arc<str>],
}

impl<'a> Caller<'a> {
    pub(crate) fn new(request: &'a Request<'a>, names: &'a [Arc<str>]) -> Self {
        Caller { request, names: if request.keys.is_empty() { &[] } else { names } }
    }

    /// The parts in their order; absent ones at the end are left out.
    fn parts(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let first = [Some(self.request.project), Some(self.request.deployment)].into_iter();
        first.chain(self.names.iter().map(|name| self.request.key(name)))
    }

    /// Whether this is the caller's key.
    #[inline]
    fn has_key(&self, key: &[u8]) -> bool {
        let mut theirs = Parts(key);
        // Absent parts at the end are left out of the key.
        self.parts().all(|part| part == theirs.next().flatten()) && theirs.0.is_empty()
    }

    pub(crate) fn key(&self) -> RouteKey {
        let mut key = RouteKey::new();
        let mut absent = 0;
        for part in self.parts() {
            let Some(part) = part else {
                absent += 1;
                continue;
            };
            key.extend(std::iter::repeat_n(0, absent));
            absent = 0;
            // Lengths count from 1, so that an absent key and an empty one differ; 7 bits a byte, the lowest first.
            let mut length = part.len() as u64 + 1;
            while length >= 0x80 {
                key.push(length as u8 | 0x80);
                length >>= 7;
            }
            key.push(length as u8);
            key.extend_from_slice(part);
        }
        key
    }
}

/// The first encoded part (`None`: absent) and the rest.
#[inline]
fn split(key: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let (mut length, mut shift) = (0u64, 0);
    for (at, byte) in key.iter().enumerate() {
        length |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let rest = &key[at + 1..];
            return match length.checked_sub(1) {
                None => (None, rest),
                Some(length) => match rest.split_at_checked(length as usize) {
                    Some((part, rest)) => (Some(part), rest),
                    None => (None, &[]),
                },
            };
        }
    }
    (None, &[])
}

/// The parts of an encoded key.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (part, rest) = split(self.0);
        self.0 = rest;
        Some(part)
    }
}

/// Passes the request that a route's key is of, as far as a policy with these caller keys can tell.
pub(crate) fn request_of<T>(key: &[u8], names: &[Arc<str>], act: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut parts = Parts(key);
    let mut next = || parts.next().flatten();
    let (project, deployment) = (next().unwrap_or_default(), next().unwrap_or_default());
    let keys: SmallVec<[Key<'_>; 8]> = names.iter().filter_map(|name| Some(Key { name, value: next()? })).collect();
    act(&Request { project, deployment, keys: &keys })
}

/// An encoded key, as far as its hash goes.
struct Encoded<'a>(&'a [u8]);

impl Hash for Encoded<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Parts(self.0).for_each(|part| hash_part(part, state));
    }
}

impl Hash for Caller<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut absent = 0;
        for part in self.parts() {
            if part.is_none() {
                absent += 1;
                continue;
            }
            (0..absent).for_each(|_| hash_part(None, state));
            absent = 0;
            hash_part(part, state);
        }
    }
}

/// Only equal parts need equal hashes: the length is left to the comparison.
#[inline]
fn hash_part<H: Hasher>(part: Option<&[u8]>, state: &mut H) {
    match part {
        Some(part) => state.write(part),
        None => state.write_u8(0),
    }
}

/// All routes: by key, for those who come with a request, and by index, for those who come with a permit.
///
/// Who finds a route pins it before use. A route leaves the map when a newer policy replaces it or room is needed: it
/// is retired, and freed (gives its counters free) by the next [`collect`](Routes::collect) that finds nobody holding
/// it, neither by a pin nor by a permit's slot.
pub(crate) struct Routes {
    entries: Entries<Resolved>,
    hasher: RandomState,
}

impl Routes {
    /// Room for `budget` routes.
    pub(crate) fn new(budget: usize) -> Self {
        Routes { entries: Entries::new(budget), hasher: hasher() }
    }

    fn hash(&self, route: &Resolved) -> u64 {
        self.hasher.hash_one(Encoded(&route.key))
    }

    /// Passes on the caller's route if it is known and of this generation; it stays pinned meanwhile.
    #[inline]
    pub(crate) fn with<T>(
        &self,
        caller: Caller<'_>,
        generation: u64,
        mut act: impl FnMut(&Arc<Resolved>) -> T,
    ) -> Option<T> {
        self.entries.find(self.hasher.hash_one(caller), |route| {
            if !caller.has_key(&route.key) || route.is_stale(generation) || !route.pins.pin() {
                return None;
            }
            let done = act(route);
            route.pins.unpin();
            Some(done)
        })
    }

    /// The route at `index`, which a permit's slot names.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Guard<Option<Arc<Resolved>>> {
        self.entries.at(index)
    }

    /// Enters a route that the caller has pinned. False if there is no room.
    pub(crate) fn register(&self, route: &Arc<Resolved>) -> bool {
        self.entries.settle(route, |index| route.index.store(index, Relaxed)).is_some()
    }

    /// Makes a registered route the one that its key leads to; the one before, if any, is retired.
    pub(crate) fn publish(&self, route: &Arc<Resolved>) {
        let (hash, index) = (self.hash(route), route.index.load(Relaxed));
        while let Err(before) = self.entries.publish(hash, index, |other| other.key == route.key) {
            if let Some(before) = before.filter(|before| before.key == route.key) {
                self.retire(&before);
            }
        }
    }

    /// Takes a route out of the index. A later [`collect`](Routes::collect) frees it.
    fn retire(&self, route: &Arc<Resolved>) {
        route.pins.retire();
        self.entries.retract(self.hash(route), route.index.load(Relaxed), route);
    }

    /// Retires the routes that nobody holds, neither by a pin nor (`held`) by a permit, and that `gone` says may go.
    pub(crate) fn evict(&self, held: &HashSet<u64>, gone: impl Fn(&Resolved) -> bool) {
        self.entries.each(|index, route| {
            if !route.pins.held() && !route.pins.retired_unheld() && !held.contains(&route.named(index)) && gone(route)
            {
                self.retire(route);
            }
        });
    }

    /// Frees the retired routes that nobody holds any more. `held`: the routes that permits hold, asked for once.
    ///
    /// A retired route that nobody has pinned can get no further permits, so what its permits are is asked after that
    /// was seen, and not before.
    pub(crate) fn collect<H: Iterator<Item = u64>>(&self, held: impl FnOnce() -> H, gone: impl Fn(&Arc<Resolved>)) {
        let mut retired = Vec::new();
        self.entries.each(|index, route| {
            if route.pins.retired_unheld() {
                retired.push((index, route.clone()));
            }
        });
        if retired.is_empty() {
            return;
        }
        let held: HashSet<u64> = held().collect();
        for (index, route) in retired {
            if !held.contains(&route.named(index)) && route.pins.free() {
                // Whoever retired it may not have got to this.
                self.entries.retract(self.hash(&route), index, &route);
                route.counters.iter().for_each(|counter| counter.pins.unpin());
                gone(&route);
                self.entries.vacate(index);
            }
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.entries.live()
    }

    pub(crate) fn budget(&self) -> usize {
        self.entries.budget()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::request::Key;
    use proptest::prelude::*;

    fn names() -> Vec<Arc<str>> {
        vec!["user".into(), "tier".into(), "agent".into()]
    }

    /// What is left of a request when only what matters is kept.
    fn essence(request: &Request<'_>) -> Vec<Option<Vec<u8>>> {
        let mut parts = vec![Some(request.project.to_vec()), Some(request.deployment.to_vec())];
        parts.extend(names().iter().map(|name| request.key(name).map(<[u8]>::to_vec)));
        parts
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(0u8..3, 0..4),
            prop::collection::vec(any::<u8>(), 120..140),
            prop::collection::vec(0u8..1, 16380..16388)
        ]
    }

    fn hash(value: &impl Hash) -> u64 {
        RandomState::with_seeds(1, 2, 3, 4).hash_one(value)
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_when_the_callers_are(
            a in (value(), value(), prop::collection::vec(prop::option::of(value()), 3)),
            b in (value(), value(), prop::collection::vec(prop::option::of(value()), 3)),
            same in any::<bool>(),
        ) {
            let b = if same { a.clone() } else { b };
            let names = names();
            let keys = |keys: &'_ [Option<Vec<u8>>]| -> Vec<(usize, Vec<u8>)> {
                keys.iter().cloned().enumerate().filter_map(|(at, key)| Some((at, key?))).collect()
            };
            let (keys_a, keys_b) = (keys(&a.2), keys(&b.2));
            let keys_a: Vec<Key<'_>> = keys_a.iter().map(|(at, key)| Key::new(&names[*at], key)).collect();
            let keys_b: Vec<Key<'_>> = keys_b.iter().map(|(at, key)| Key::new(&names[*at], key)).collect();
            let request_a = Request::new(&a.0, &a.1).with_keys(&keys_a);
            let request_b = Request::new(&b.0, &b.1).with_keys(&keys_b);
            let (caller_a, caller_b) = (Caller::new(&request_a, &names), Caller::new(&request_b, &names));
            let equal = essence(&request_a) == essence(&request_b);
            prop_assert_eq!(caller_a.key() == caller_b.key(), equal);
            let (key_a, key_b) = (caller_a.key(), caller_b.key());
            prop_assert_eq!(caller_a.has_key(&key_b), equal);
            prop_assert_eq!(hash(&caller_a), hash(&Encoded(&key_a)));
            let parts: Vec<_> = Parts(&key_a).map(|part| part.map(<[u8]>::to_vec)).collect();
            let mut wanted = essence(&request_a);
            while wanted.last() == Some(&None) {
                wanted.pop();
            }
            prop_assert_eq!(parts, wanted);
        }
    }
}
