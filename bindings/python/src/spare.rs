//! Objects that have done their work, for use again: making and freeing one costs as much as a decision.

use crate::permit::{Permit, Settlement};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// So many of each kind: a caller that keeps the last one while it asks for the next has two at a time.
const KEPT: usize = 4;

/// The spares of one issuer. An object is of use again when nobody but this holds it: then nobody can tell it from a new
/// one (neither class can be referred to weakly).
#[derive(Default)]
pub struct Spares {
    /// Ended permits. One that is given out is not kept here meanwhile, so that it ends when its holder drops it.
    permits: [Option<Py<Permit>>; KEPT],
    /// Settlements, those that are given out as well.
    settlements: [Option<Py<Settlement>>; KEPT],
    /// The settlement that makes way for the next, where all are held.
    oldest: usize,
    closed: bool,
}

impl Spares {
    /// A permit that nobody holds.
    #[inline]
    pub fn permit<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, Permit>> {
        let spare = self.permits.iter_mut().find(|kept| kept.as_ref().is_some_and(|kept| unheld(kept, py)))?;
        spare.take().map(|permit| permit.into_bound(py))
    }

    /// Takes a permit that has ended, if there is room.
    #[inline]
    pub fn keep(&mut self, permit: &Bound<'_, Permit>) {
        if !self.closed
            && let Some(room) = self.permits.iter_mut().find(|kept| kept.is_none())
        {
            *room = Some(permit.clone().unbind());
        }
    }

    /// A settlement that nobody holds.
    #[inline]
    pub fn settlement<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Settlement>> {
        self.settlements.iter().flatten().find(|kept| unheld(kept, py)).map(|kept| kept.bind(py).clone())
    }

    /// Notes a settlement that is given out. Returns the one that makes way for it.
    pub fn lend(&mut self, settlement: &Bound<'_, Settlement>) -> Option<Py<Settlement>> {
        self.oldest = (self.oldest + 1) % KEPT;
        self.settlements[self.oldest].replace(settlement.clone().unbind())
    }

    /// Keeps no permits from now on, and hands over those there are.
    pub fn close(&mut self) -> [Option<Py<Permit>>; KEPT] {
        self.closed = true;
        std::mem::take(&mut self.permits)
    }

    /// Shows the permits to the garbage collector. (Settlements refer to nothing.)
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.permits.iter().try_for_each(|permit| visit.call(permit))
    }
}

/// Whether the spares alone hold an object. Then nobody can come to hold it, so it stays that way; also where other threads
/// run meanwhile.
#[inline]
#[expect(deprecated, reason = "what is to be used instead is unsafe")]
fn unheld<T>(kept: &Py<T>, py: Python<'_>) -> bool {
    kept.get_refcnt(py) == 1
}
