//! A limiter whose counters and permits are in a region: what of it is shared, and what is each process's own.
//!
//! In the region are counters, permits, and the callers that permits name. Each process has its own index of counters and
//! routes, as a limiter without a region has; what it knows of, it holds in the region's directories.
//!
//! - `slots`: the permits;
//! - `change`: the policy;
//! - `admit`: charging; `settle`: ending;
//! - `clear_up`: what is done about a process that has ended; `abandon`: what it had open.

mod abandon;
mod admit;
mod change;
mod clear_up;
mod settle;
mod slots;

pub(crate) use change::kept_policy;
pub(crate) use slots::{Slots, open_permits};

use super::compiled::Compiled;
use super::core::{Core, Found, WhenFull};
use super::route::{Resolved, RouteKey, request_of};
use super::rule::Rule;
use crate::clock::Now;
use crate::counter::bucket::Bucket;
use crate::counter::floors::{Histories, Pool};
use crate::counter::places::Places;
use crate::counter::quota::Quota;
use crate::counter::window::Window;
use crate::policy::Policy;
use crate::region::{
    DOUBT, Head, KEPT, LEGS, Layout, Memory, Name, POLICIES, Policies, RegionError, SETTLED, STATE, Sections,
};
use crate::store::StoreError;
use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire, Relaxed},
    Word,
};
use crate::table::{Directory, Hold, NoRecord, SharedState, SharedWords, State};
use arc_swap::ArcSwapOption;
use once_cell::race::OnceBox;
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
    pub(super) histories: Arc<Histories>,
    policies: Policies,
    /// By place: policies that this process has met and that are in force no more.
    past: [ArcSwapOption<Compiled>; POLICIES],
    /// The route of each caller that this process knows, by the place of its policy and the caller's record.
    routes: [OnceBox<Box<[ArcSwapOption<Resolved>]>>; POLICIES],
    /// Held by who clears up after others; nobody waits for it.
    clearing: Mutex<()>,
    /// No use looking for processes that have ended before this instant.
    clear_after: AtomicU64,
}

impl Shared {
    /// The region of a limiter for `policy`, if that is the region's, or if the region's is taken `anyway`; and the policy.
    pub(super) fn new(
        memory: Arc<dyn Memory>,
        layout: &Layout,
        policy: &Policy,
        anyway: bool,
    ) -> Result<(Self, Compiled), RegionError> {
        let sections = Sections::new(memory.words(), layout)?;
        let head = |which| sections.head(which).load(Acquire);
        let seeds = (head(Head::SeedA), head(Head::SeedB));
        let seat = memory.seat();
        let (counter_shape, caller_shape) = layout.shapes();
        let pool = Pool::new(sections.floors, seat);
        let shared = Shared {
            counters: Arc::new(Directory::new(sections.counters, counter_shape, seeds, seat)),
            callers: Arc::new(Directory::new(sections.callers, caller_shape, seeds, seat)),
            pool,
            histories: Arc::new(Histories::shared(pool)),
            policies: Policies::new(&sections, layout),
            past: std::array::from_fn(|_| ArcSwapOption::empty()),
            routes: std::array::from_fn(|_| OnceBox::new()),
            clearing: Mutex::new(()),
            clear_after: AtomicU64::new(0),
            memory,
            layout: *layout,
            sections,
            seat,
        };
        // Of whoever sat here before, if it was changing the policy.
        shared.forget_changer(seat);
        let compiled = shared.begin(policy)?;
        if !anyway && compiled.policy != *policy {
            return Err(RegionError::OtherPolicy);
        }
        Ok((shared, compiled))
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

    fn place_of(&self, name: u64) -> Option<&ArcSwapOption<Resolved>> {
        let (policy, record) = Name::and_record(name);
        let empty = || Box::new((0..self.layout.callers).map(|_| ArcSwapOption::empty()).collect());
        self.routes.get(policy.place)?.get_or_init(empty).get(record)
    }

    /// Makes a route the one that permits of its caller are settled by.
    pub(super) fn register(&self, route: &Arc<Resolved>) {
        if let Some(place) = route.name_in_region().and_then(|name| self.place_of(name)) {
            place.store(Some(route.clone()));
        }
    }

    /// Forgets a route that is about to go.
    pub(super) fn unregister(&self, route: &Arc<Resolved>) {
        if let Some(place) = route.name_in_region().and_then(|name| self.place_of(name)) {
            place.compare_and_swap(route, None);
        }
    }

    /// The known route of this name.
    pub(super) fn known(&self, name: u64) -> Option<Arc<Resolved>> {
        self.place_of(name)?.load_full().filter(|route| route.name_in_region() == Some(name))
    }

    /// Frees what nobody holds: counters at rest, and callers that no permit names.
    pub(super) fn evict(&self, core: &Core, compiled: &Compiled, now: Now) {
        self.evict_counters(compiled, now, |_| true);
        let named = || {
            let named: std::collections::HashSet<usize> =
                core.slab.held_routes().map(|name| Name::and_record(name).1).collect();
            move |record: usize| !named.contains(&record)
        };
        self.callers.evict(named, |_| ());
    }

    /// Frees the counters at rest that nobody holds, of identities that `may` go.
    fn evict_counters(&self, compiled: &Compiled, now: Now, may: impl Fn(u32) -> bool) {
        let rests = |record: usize| {
            let (identity, _) = self.counters.key(record);
            if !may(identity) {
                return None;
            }
            let Some(rule) = compiled.rule_of(identity) else {
                return compiled.is_forgotten(identity).then_some(0);
            };
            let state = self.state(record, rule, None);
            // What is not held is only read: a bucket that is to be adopted first is none that goes.
            if rule.is_adopted(&state) { rule.rests(&state, now).ok().flatten() } else { None }
        };
        let last = |record: usize| self.pool.take_back(record, &self.counters.data(record)[KEPT]);
        self.counters.evict(|| |record| rests(record) == Some(0), last);
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
    /// The route of a permit whose slot names it so. None if it cannot be resolved any more, or never could.
    pub(super) fn route_in_region(&self, shared: &Shared, name: u64) -> Option<Arc<Resolved>> {
        if let Some(route) = shared.known(name) {
            return Some(route);
        }
        let (policy, record) = Name::and_record(name);
        if record >= shared.layout.callers {
            return None;
        }
        let compiled = self.policy_of(shared, policy)?;
        let (_, key) = shared.callers.key(record);
        let key = RouteKey::from_vec(key);
        let found = request_of(&key, compiled.policy.key_names(), |request| {
            self.resolve_under(&compiled, request, WhenFull::Admit, self.clamped(None))
        });
        match found {
            Ok(Found::Route(route)) => {
                route.pins.unpin();
                (route.name_in_region() == Some(name)).then_some(route)
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
                && let Ok(Some(counter)) = self.counter(&compiled, limit, &key, now)
            {
                counter.pins.unpin();
            }
        }
    }
}
