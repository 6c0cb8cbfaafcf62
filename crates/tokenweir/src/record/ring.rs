//! A ring of records between the threads that decide and those that read.
//!
//! A slot's turn says whose it is: equal to a position, that position's writer may claim it; one more, it is written
//! and that position's reader may; a whole lap more, it is the next lap's writer's. Who has won the swap on `written`
//! or `read` has the slot to himself until he passes its turn on, so its lock is never contended; it stands where a
//! cell without checks would need `unsafe`.

use super::{Decided, Observer, Settled, Settlement};
use crate::clock::Now;
use crate::limiter::Denied;
use crate::request::{Estimate, PermitId, Usage};
use crate::sync::{
    Ordering::{Acquire, Relaxed, Release},
    Word,
};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::fmt;

/// Decisions and settlements for whoever polls: an [`Observer`] that keeps them until they are read.
///
/// Writing never blocks and never waits for a reader. When the ring is full the newest record is dropped and
/// [`lost`](RecordRing::lost) counts it: what was kept before is still in order and without gaps. Any number of threads
/// write and any number poll. A record is read in the order in which its place was taken, so a permit's decision comes
/// before its settlement; a thread that is stopped while it writes holds back the records after its own.
///
/// Memory is taken when the ring is made, about 400 bytes for each record; nothing is allocated for a record whose
/// project and deployment have 64 bytes together. A denial keeps the policy it was made under until it is read.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use tokenweir::{Estimate, Event, Limiter, Policy, RecordRing, Request};
/// # let policy = Policy::from_toml("[[limit]]\nname = 'rpm'\nmeter = 'requests'\nalgorithm = 'bucket'\namount = 1\nper = '1m'")?;
/// let ring = Arc::new(RecordRing::new(1024));
/// let limiter = Limiter::builder(policy).observer(ring.clone()).build();
/// limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400))?.admitted().expect("room").cancel()?;
///
/// let admitted = ring.poll().expect("the decision");
/// assert_eq!(admitted.project(), b"search");
/// assert!(matches!(admitted.event, Event::Admitted { .. }));
/// assert!(matches!(ring.poll().expect("the end").event, Event::Settled { .. }));
/// assert!(ring.poll().is_none());
/// # Ok::<(), tokenweir::Error>(())
/// ```
pub struct RecordRing {
    slots: Box<[Slot]>,
    /// The next position to write.
    written: Word,
    /// The next position to read.
    read: Word,
    lost: Word,
}

struct Slot {
    turn: Word,
    record: Mutex<Option<Record>>,
}

/// A decision or a settlement, kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Record {
    /// When.
    pub at: Now,
    /// What the host expected the request to take.
    pub estimate: Estimate,
    /// What happened.
    pub event: Event,
    /// The project, then the deployment.
    names: SmallVec<[u8; 64]>,
    project_length: usize,
}

/// What happened to a request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// It was admitted.
    Admitted {
        /// Its permit.
        permit: PermitId,
        /// Whether a shadow limit would have refused it.
        shadow_refused: bool,
    },
    /// It was denied.
    Denied(Denied),
    /// Its permit ended.
    Settled {
        /// What came of it.
        settlement: Settlement,
        /// The usage as the host reported it.
        usage: Usage,
    },
}

impl Event {
    /// All words for what may happen.
    pub const WORDS: [&'static str; 3] = ["admitted", "denied", "settled"];

    /// The word for it: `admitted`, `denied` or `settled`.
    pub const fn as_str(&self) -> &'static str {
        let [admitted, denied, settled] = Event::WORDS;
        match self {
            Event::Admitted { .. } => admitted,
            Event::Denied(_) => denied,
            Event::Settled { .. } => settled,
        }
    }
}

impl Record {
    fn new(at: Now, requested: super::Requested<'_>, event: Event) -> Self {
        let mut names = SmallVec::from_slice(requested.project);
        names.extend_from_slice(requested.deployment);
        Record { at, estimate: requested.estimate, event, names, project_length: requested.project.len() }
    }

    /// The project that called.
    pub fn project(&self) -> &[u8] {
        &self.names[..self.project_length]
    }

    /// The deployment that it called.
    pub fn deployment(&self) -> &[u8] {
        &self.names[self.project_length..]
    }

    /// The permit, unless the request was denied.
    pub fn permit(&self) -> Option<PermitId> {
        match &self.event {
            Event::Admitted { permit, .. } => Some(*permit),
            Event::Denied(_) => None,
            Event::Settled { settlement, .. } => Some(settlement.id),
        }
    }
}

impl fmt::Debug for RecordRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRing")
            .field("capacity", &self.capacity())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl RecordRing {
    /// A ring for `capacity` records that nobody has read yet: rounded up to a power of two, from 2 to 2^20.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(2, 1 << 20).next_power_of_two() as u64;
        let slot = |position| Slot { turn: Word::new(position), record: Mutex::new(None) };
        RecordRing {
            slots: (0..capacity).map(slot).collect(),
            written: Word::new(0),
            read: Word::new(0),
            lost: Word::new(0),
        }
    }

    /// How many records it holds at most.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many records were dropped since the ring was made, because it was full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// The oldest record that nobody has read yet; `None` if there is none. Never waits.
    pub fn poll(&self) -> Option<Record> {
        let mut position = self.read.load(Relaxed);
        loop {
            let slot = self.slot(position);
            // Acquire: the record is seen with the turn that its writer passed on.
            let turn = slot.turn.load(Acquire);
            if turn < position + 1 {
                return None;
            }
            if turn == position + 1 {
                // Relaxed: the slot's turn is what orders.
                match self.read.compare_exchange_weak(position, position + 1, Relaxed, Relaxed) {
                    Ok(_) => {
                        let record = slot.record.try_lock().and_then(|mut record| record.take());
                        debug_assert!(record.is_some(), "the slot is ours");
                        // Release: the slot is empty for whoever writes it a lap later.
                        slot.turn.store(position + self.slots.len() as u64, Release);
                        return record;
                    }
                    Err(now) => position = now,
                }
            } else {
                position = self.read.load(Relaxed);
            }
        }
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    /// Keeps what `record` makes, or drops it unmade. `record` must not panic: its slot would stay claimed.
    fn write(&self, record: impl FnOnce() -> Record) {
        let mut position = self.written.load(Relaxed);
        loop {
            let slot = self.slot(position);
            // Acquire: whoever read the slot a lap before is done with it.
            let turn = slot.turn.load(Acquire);
            if turn < position {
                self.lost.fetch_add(1, Relaxed);
                return;
            }
            if turn == position {
                match self.written.compare_exchange_weak(position, position + 1, Relaxed, Relaxed) {
                    Ok(_) => {
                        let free = slot.record.try_lock().map(|mut place| *place = Some(record()));
                        debug_assert!(free.is_some(), "the slot is ours");
                        // Release: the record is there for whoever reads.
                        slot.turn.store(position + 1, Release);
                        return;
                    }
                    Err(now) => position = now,
                }
            } else {
                position = self.written.load(Relaxed);
            }
        }
    }
}

impl Observer for RecordRing {
    fn decided(&self, decided: &Decided<'_>) {
        let record = |event| Record::new(decided.at, decided.requested, event);
        if let Some(permit) = decided.permit {
            self.write(|| record(Event::Admitted { permit, shadow_refused: decided.shadow_refused }));
        } else if let Some(denied) = decided.denied {
            self.write(|| record(Event::Denied(denied.clone())));
        }
    }

    fn settled(&self, settled: &Settled<'_>) {
        let event = Event::Settled { settlement: *settled.settlement, usage: settled.usage };
        self.write(|| Record::new(settled.at, settled.requested, event));
    }
}

#[cfg(test)]
mod test_records {
    use super::*;

    pub(super) fn record(permit: u64) -> Record {
        let requested = super::super::Requested { project: b"p", deployment: b"d", estimate: Estimate::new(1, 2) };
        let permit = PermitId::new(permit).expect("not 0");
        Record::new(Now::default(), requested, Event::Admitted { permit, shadow_refused: false })
    }

    pub(super) fn poll(ring: &RecordRing) -> Option<u64> {
        ring.poll().and_then(|record| record.permit()).map(PermitId::get)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::test_records::{poll, record};
    use super::*;

    #[test]
    fn a_full_ring_drops_the_newest_counts_it_and_goes_on_when_read() {
        let ring = RecordRing::new(3);
        assert_eq!((ring.capacity(), poll(&ring)), (4, None));
        for lap in 0..3 {
            for permit in 1..=6 {
                ring.write(|| record(permit + 10 * lap));
            }
            assert_eq!(ring.lost(), 2 * (lap + 1));
            let read: Vec<u64> = std::iter::from_fn(|| poll(&ring)).collect();
            assert_eq!(read, (1..=4).map(|permit| permit + 10 * lap).collect::<Vec<_>>());
        }
    }

    #[test]
    fn capacity_is_a_power_of_two_within_bounds() {
        let capacities = [0, 1, 2, 5, 1 << 10, (1 << 20) + 1].map(|asked| RecordRing::new(asked).capacity());
        assert_eq!(capacities, [2, 2, 2, 8, 1 << 10, 1 << 20]);
    }

    #[test]
    fn names_are_split_where_they_were_joined() {
        let long = [7u8; 300];
        for (project, deployment) in [(&b"a"[..], &b"bc"[..]), (b"\xff\0", &long), (&long, b"")] {
            let requested = super::super::Requested { project, deployment, estimate: Estimate::default() };
            let permit = PermitId::new(1).expect("not 0");
            let record = Record::new(Now::default(), requested, Event::Admitted { permit, shadow_refused: false });
            assert_eq!((record.project(), record.deployment()), (project, deployment));
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::test_records::{poll, record};
    use super::*;
    use crate::counter::loom_models::model;
    use loom::thread;
    use std::sync::Arc;

    #[test]
    fn ring_keeps_or_counts_each_record_once_and_in_its_writer_s_order() {
        model(|| {
            let ring = Arc::new(RecordRing::new(2));
            let writer = {
                let ring = ring.clone();
                thread::spawn(move || {
                    ring.write(|| record(1));
                    ring.write(|| record(2));
                })
            };
            let reader = {
                let ring = ring.clone();
                thread::spawn(move || [poll(&ring), poll(&ring)])
            };
            ring.write(|| record(3));
            writer.join().unwrap();
            let early = reader.join().unwrap();
            let mut read: Vec<u64> = early.into_iter().flatten().collect();
            read.extend(std::iter::from_fn(|| poll(&ring)));
            assert_eq!(read.len() as u64 + ring.lost(), 3, "kept or counted");
            let order = |permit| read.iter().position(|read| *read == permit);
            assert!(read.iter().all(|permit| read.iter().filter(|other| *other == permit).count() == 1));
            assert!(order(1).is_none() || order(2).is_none() || order(1) < order(2));
        });
    }

    #[test]
    fn ring_two_readers_never_share_a_record() {
        model(|| {
            let ring = Arc::new(RecordRing::new(2));
            ring.write(|| record(1));
            let reader = {
                let ring = ring.clone();
                thread::spawn(move || poll(&ring))
            };
            let mut read = vec![poll(&ring)];
            ring.write(|| record(2));
            read.push(reader.join().unwrap());
            read.push(poll(&ring));
            read.sort_unstable();
            read.retain(Option::is_some);
            assert_eq!((read, ring.lost()), (vec![Some(1), Some(2)], 0));
        });
    }
}
