//! A limiter whose counters and permits are in a region: what of it is shared, and what is each process's own.
//!
//! In the region are counters, permits, and the callers that permits name. Each process has its own index of counters and
//! routes, as a limiter without a region has; what it knows of, it holds in the region's directories.
//!
//! - `slots`: the permits;
//! - `admit`: charging; `settle`: ending;
//! - `clear_up`: what is done about a process that has ended; `abandon`: what it had open.

mod abandon;
mod admit;
mod clear_up;
mod settle;
mod slots;

pub(crate) use slots::{Slots, open_permits};

use super::compiled::Compiled;
use super::core::{Core, Found, WhenFull};
use super::route::{Resolved, RouteKey, request_of};
use super::rule::Rule;
use crate::clock::Now;
use crate::counter::bucket::Bucket;
use crate::counter::floors::Pool;
use crate::counter::places::Places;
use crate::counter::quota::Quota;
use crate::counter::window::Window;
use crate::policy::Policy;
use crate::region::{DOUBT, Head, KEPT, LEGS, Layout, Memory, RegionError, SETTLED, STATE, Sections, state_words};
use crate::store::StoreError;
use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire, Relaxed},
    Word,
};
use crate::table::{Directory, Hold, NoRecord, SharedState, SharedWords, State};
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// Why a counter cannot be made.
pub(crate) enum Unmade {
    Store(StoreError),
    /// All of the region's are in use.
    Full,
    Region(RegionError),
}

pub(crate) struct Shared {
    pub(super) memory: Arc<dyn Memory>,
    pub(super) layout: Layout,
    pub(super) sections: Sections,
    pub(super) counters: Arc<Directory>,
    pub(super) callers: Arc<Directory>,
    pub(super) pool: Pool,
    pub(super) seat: usize,
    /// The route of each caller that this process knows.
    routes: Box<[ArcSwapOption<Resolved>]>,
    /// Held by who clears up after others; nobody waits for it.
    clearing: Mutex<()>,
    /// No use looking for processes that have ended before this instant.
    clear_after: AtomicU64,
}

impl Shared {
    /// The region of a limiter for `policy`, if that is the region's.
    pub(super) fn new(memory: Arc<dyn Memory>, layout: &Layout, policy: &Policy) -> Result<Self, RegionError> {
        let sections = Sections::new(memory.words(), layout)?;
        for limit in policy.limits() {
            let (needs, room) = (state_words(limit.algorithm()), layout.counter_words);
            if needs > room {
                return Err(RegionError::CounterTooLarge { limit: limit.name().to_string(), needs, room });
            }
        }
        let head = |which| sections.head(which).load(Acquire);
        let seeds = (head(Head::SeedA), head(Head::SeedB));
        // Whoever comes first says which policy the region counts for.
        let digest = policy.digest(seeds);
        let in_force = sections.head(Head::Policy);
        if let Err(other) = in_force.compare_exchange(0, digest, AcqRel, Acquire)
            && other != digest
        {
            return Err(RegionError::OtherPolicy);
        }
        let seat = memory.seat();
        let (counter_shape, caller_shape) = layout.shapes();
        Ok(Shared {
            counters: Arc::new(Directory::new(sections.counters, counter_shape, seeds, seat)),
            callers: Arc::new(Directory::new(sections.callers, caller_shape, seeds, seat)),
            pool: Pool::new(sections.floors, seat),
            routes: (0..layout.callers).map(|_| ArcSwapOption::empty()).collect(),
            clearing: Mutex::new(()),
            clear_after: AtomicU64::new(0),
            memory,
            layout: *layout,
            sections,
            seat,
        })
    }

    pub(super) fn slots(&self) -> Slots {
        Slots::new(self.sections.slots, self.sections.notes, self.seat)
    }

    pub(super) fn head(&self, which: Head) -> &'static Word {
        self.sections.head(which)
    }

    /// The instant from which buckets count their refill.
    pub(super) fn origin(&self) -> u64 {
        self.head(Head::Origin).load(Acquire)
    }

    pub(super) fn check(&self) -> Result<(), RegionError> {
        if self.memory.is_ours() { Ok(()) } else { Err(RegionError::Forked) }
    }

    /// No other policy than the region's.
    pub(super) fn check_policy(&self, policy: &Policy) -> Result<(), RegionError> {
        let head = |which| self.head(which).load(Acquire);
        let digest = policy.digest((head(Head::SeedA), head(Head::SeedB)));
        if digest == head(Head::Policy) { Ok(()) } else { Err(RegionError::PolicyFixed) }
    }

    /// No more limits than a permit has room for.
    pub(super) fn check_limits(&self, limits: usize) -> Result<(), RegionError> {
        if limits > LEGS { Err(RegionError::TooManyLimits { limits, room: LEGS }) } else { Ok(()) }
    }

    /// The counter of this limit and key, held; begun if there is none.
    pub(super) fn counter(&self, limit: &str, identity: u32, key: &[u8], rule: &Rule) -> Result<State, Unmade> {
        let begin = |data: &'static [Word]| {
            data[DOUBT].store(0, Relaxed);
            data[SETTLED].store(0, Relaxed);
            begin_counter(rule, &data[STATE..]);
        };
        match self.counters.hold(identity, key, begin) {
            Ok(record) => {
                let hold = Hold { directory: self.counters.clone(), record };
                Ok(self.state(record, rule, Some(hold)))
            }
            Err(NoRecord::Full) => Err(Unmade::Full),
            Err(NoRecord::KeyTooLong) => {
                let (bytes, room) = (key.len(), self.layout.key_bytes);
                Err(Unmade::Region(RegionError::KeyTooLong { what: format!("limit {limit:?}"), bytes, room }))
            }
        }
    }

    /// The counter in a record.
    pub(super) fn state(&self, record: usize, rule: &Rule, hold: Option<Hold>) -> State {
        let data = self.counters.data(record);
        let words = words_of(rule, data, self.pool, record).unwrap_or(SharedWords::Absent);
        State::Shared(Box::new(SharedState { words, settled: &data[SETTLED], doubt: &data[DOUBT], _hold: hold }))
    }

    /// What stands in for a counter that there is no room for.
    pub(super) fn absent(&self) -> State {
        // Nothing is ever written of it, or read.
        let nowhere = &self.sections.header[self.sections.header.len() - 1];
        State::Shared(Box::new(SharedState {
            words: SharedWords::Absent,
            settled: nowhere,
            doubt: nowhere,
            _hold: None,
        }))
    }

    /// The caller's record, held.
    pub(super) fn caller(&self, key: &[u8]) -> Result<Hold, Unmade> {
        match self.callers.hold(0, key, |_| ()) {
            Ok(record) => Ok(Hold { directory: self.callers.clone(), record }),
            Err(NoRecord::Full) => Err(Unmade::Full),
            Err(NoRecord::KeyTooLong) => {
                let (bytes, room) = (key.len(), self.layout.caller_bytes);
                Err(Unmade::Region(RegionError::KeyTooLong { what: "the caller".to_owned(), bytes, room }))
            }
        }
    }

    /// Makes a route the one that permits of its caller are settled by.
    pub(super) fn register(&self, route: &Arc<Resolved>) {
        if let Some(place) = route.record().and_then(|record| self.routes.get(record)) {
            place.store(Some(route.clone()));
        }
    }

    /// Forgets a route that is about to go.
    pub(super) fn unregister(&self, route: &Arc<Resolved>) {
        if let Some(place) = route.record().and_then(|record| self.routes.get(record)) {
            place.compare_and_swap(route, None);
        }
    }

    /// The known route of a caller's record.
    pub(super) fn known(&self, record: usize) -> Option<Arc<Resolved>> {
        self.routes.get(record)?.load_full()
    }

    /// Frees what nobody holds: counters at rest, and callers that no permit names.
    pub(super) fn evict(&self, core: &Core, compiled: &Compiled, now: Now) {
        let rests = |record: usize| {
            let (identity, _) = self.counters.key(record);
            let rule = compiled.rule_of(identity)?;
            rule.rests(&self.state(record, rule, None), now).ok().flatten()
        };
        let last = |record: usize| self.pool.take_back(record, &self.counters.data(record)[KEPT]);
        self.counters.evict(|| |record| rests(record) == Some(0), last);
        let named = || {
            let named: std::collections::HashSet<usize> = core.slab.held_routes().collect();
            move |record: usize| !named.contains(&record)
        };
        self.callers.evict(named, |_| ());
    }

    /// From now on nothing is let go of: whoever clears up after this process does that, with regard to its permits.
    pub(super) fn close(&self) {
        self.counters.close();
        self.callers.close();
    }

    /// Where the generations of permits start.
    pub(super) fn first(&self) -> u64 {
        self.head(Head::First).load(Acquire)
    }

    /// A counter may have more in it than there are charges: this is its word for it.
    pub(super) fn doubt(&self, word: &Word) {
        word.store(1, Relaxed);
        // AcqRel: whoever finds that there are doubts finds them.
        self.head(Head::Doubts).fetch_add(1, AcqRel);
    }

    /// Whether no counter is free.
    pub(super) fn is_full(&self) -> bool {
        self.counters.is_full()
    }

    /// How many counters there are.
    pub(super) fn live(&self) -> usize {
        let mut live = 0;
        self.counters.each_live(|_, _| live += 1);
        live
    }
}

/// Makes these words those of a counter that nobody has used.
fn begin_counter(rule: &Rule, words: &'static [Word]) {
    words.iter().for_each(|word| word.store(0, Relaxed));
    match rule {
        Rule::Bucket(rule) => {
            if let Some(words) = words.first_chunk() {
                Bucket::begin(rule, words);
            }
        }
        Rule::Quota(_) => {
            if let Some(words) = words.first_chunk() {
                Quota::begin(words);
            }
        }
        Rule::Window(..) | Rule::InFlight(_) => {}
    }
}

/// The words of a record as those of its algorithm. There are enough: it was looked at when the limiter was built.
fn words_of(rule: &Rule, data: &'static [Word], pool: Pool, record: usize) -> Option<SharedWords> {
    let words = &data[STATE..];
    Some(match rule {
        Rule::Bucket(_) => SharedWords::Bucket(Bucket::shared(words.first_chunk()?, pool.keeps(record, &data[KEPT]))),
        Rule::Window(_, sub_windows, _) => {
            SharedWords::Window(Window::shared(words.get(..Window::words(*sub_windows))?))
        }
        Rule::Quota(_) => SharedWords::Quota(Quota::shared(words.first_chunk()?)),
        Rule::InFlight(_) => SharedWords::InFlight(Places::shared(words.first()?)),
    })
}

impl Core {
    /// The route of a permit whose slot names this record. None if it cannot be resolved any more, or never could.
    pub(super) fn route_in_region(&self, shared: &Shared, record: usize) -> Option<Arc<Resolved>> {
        if let Some(route) = shared.known(record) {
            return Some(route);
        }
        if record >= shared.layout.callers {
            return None;
        }
        let (_, key) = shared.callers.key(record);
        let key = RouteKey::from_vec(key);
        let compiled = self.compiled.load_full();
        let found = request_of(&key, compiled.policy.key_names(), |request| {
            self.resolve_when_full(request, WhenFull::Admit, self.clamped(None))
        });
        match found {
            Ok(Found::Route(route)) => {
                route.pins.unpin();
                (route.record() == Some(record)).then_some(route)
            }
            _ => None,
        }
    }

    /// Makes this process know every counter of the region, for who looks at all of them.
    pub(super) fn know_all(&self, shared: &Shared, now: Now) {
        let compiled = self.compiled.load_full();
        let mut records = Vec::new();
        shared.counters.each_live(|record, _| records.push(shared.counters.key(record)));
        for (identity, key) in records {
            if let Some(limit) = compiled.limit_of(identity)
                && let Ok(Some(counter)) = self.counter(&compiled, limit, identity, &key, now)
            {
                counter.pins.unpin();
            }
        }
    }
}
