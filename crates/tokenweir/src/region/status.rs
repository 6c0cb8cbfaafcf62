//! What is in a region, for operators: read without being part of it.

use super::layout::{Head, SEAT_PROCESS, SEAT_SINCE, SEAT_TAKEN, Sections};
use super::{Layout, Policies, RegionError};
use crate::counter::floors::{Histories, Pool};
use crate::limiter::{kept_policy, open_permits};
use crate::policy::Policy;
use crate::sync::{
    Ordering::{Acquire, Relaxed},
    Word,
};
use crate::table::{Directory, PROCESSES};

/// A seat that somebody took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seat {
    /// Its number.
    pub number: usize,
    /// The process, as its own name space numbers it.
    pub process: u32,
    /// When it attached, in wall nanoseconds.
    pub since: i64,
}

/// What is in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatus {
    /// The seats that are taken, or that were and nobody has cleared up after.
    pub seats: Vec<Seat>,
    /// Counters.
    pub counters: usize,
    /// Callers that are known.
    pub callers: usize,
    /// Open permits.
    pub permits_open: usize,
    /// Buckets that keep a history.
    pub histories: usize,
    /// How many attachments have ended and been cleared up after.
    pub cleared_up: u64,
    /// How many steps that a process was at when it was killed may or may not have been made. Each may have left the charge of
    /// one request on one limit too much counted, never too little.
    pub unsure_steps: u64,
    /// How many policies have been in force, the present one included; 0: no limiter has been built yet.
    pub policies: u64,
}

/// The policy in force in these words, which are of this layout. `None` if no limiter has been built on the region yet.
///
/// # Errors
/// [`RegionError::WrongSize`], [`RegionError::PolicyDamaged`].
pub fn policy_in_force(words: &'static [Word], layout: &Layout) -> Result<Option<Policy>, RegionError> {
    let policies = Policies::new(&Sections::new(words, layout)?, layout);
    let Some((document, _)) = policies.in_force()? else { return Ok(None) };
    let policy = kept_policy(&document, &Histories::new(0).into()).ok_or(RegionError::PolicyDamaged)?;
    Ok(Some(policy))
}

impl RegionStatus {
    /// What is in these words, which are of this layout. Each figure is of some moment of the call.
    ///
    /// # Errors
    /// [`RegionError::WrongSize`].
    pub fn read(words: &'static [Word], layout: &Layout) -> Result<Self, RegionError> {
        let sections = Sections::new(words, layout)?;
        let (counters, callers) = layout.shapes();
        let live = |words, shape| Directory::count(words, shape);
        let seat = |number| {
            let word = |which| sections.seat(number, which);
            (word(SEAT_TAKEN).load(Acquire) != 0).then(|| Seat {
                number,
                process: word(SEAT_PROCESS).load(Relaxed) as u32,
                since: word(SEAT_SINCE).load(Relaxed) as i64,
            })
        };
        Ok(RegionStatus {
            seats: (0..PROCESSES).filter_map(seat).collect(),
            counters: live(sections.counters, counters),
            callers: live(sections.callers, callers),
            permits_open: open_permits(sections.slots),
            histories: Pool::new(sections.floors, 0).kept(),
            cleared_up: sections.head(Head::ClearedUp).load(Relaxed),
            unsure_steps: sections.head(Head::UnsureSteps).load(Relaxed),
            policies: Policies::new(&sections, layout).name().map_or(0, |name| name.generation),
        })
    }
}
