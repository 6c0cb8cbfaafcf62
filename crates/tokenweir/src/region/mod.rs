//! A region: the words of counters and permits in memory that several processes share.
//!
//! - `layout`: how the words are divided;
//! - `policies`: the policy in force, and those that open permits were admitted under;
//! - `error`: what a region cannot do; `status`: what is in it.
//!
//! The core has no `unsafe`, so it maps nothing: whoever does ([`Memory`]) hands it the words, for the life of the process,
//! and says which of the processes are still there. `tokenweir-shared` does.

mod error;
mod layout;
mod policies;
mod status;

pub use error::RegionError;
pub use layout::Layout;
pub(crate) use layout::{
    DOUBT, Head, KEPT, LEGS, NOTE, POLICIES, SEAT_OBSERVING, SEAT_PROCESS, SEAT_SINCE, SEAT_TAKEN, SETTLED, SLOT,
    STATE, Sections, state_words,
};
pub(crate) use policies::{Name, Policies};
pub use status::{RegionStatus, Seat, policy_in_force};

use crate::sync::Word;

/// The most limiters that may be attached to a region at once.
pub const ATTACHMENTS_MOST: usize = crate::table::PROCESSES;

/// One limiter's attachment to a region.
///
/// An attachment has a *seat*, a number below [`ATTACHMENTS_MOST`], which is its alone as long as its process lives: what it
/// is at stands in the region under that number.
pub trait Memory: Send + Sync {
    /// The region's words ([`std::sync::atomic::AtomicU64`]): the same ones in every process, [`Layout::words`] of them.
    fn words(&self) -> &'static [Word];

    /// This attachment's seat.
    fn seat(&self) -> usize;

    /// Takes the seat of an attachment that has ended, so that nobody else gets it meanwhile. False if somebody sits there,
    /// which this attachment does on its own. Never waits.
    fn take(&self, seat: usize) -> bool;

    /// Leaves a seat that was [taken](Memory::take).
    fn leave(&self, seat: usize);

    /// Whether this is the process that attached; one that was forked off it is not.
    fn is_ours(&self) -> bool;
}

/// A point between two steps, where a test may end the process.
#[inline(always)]
pub(crate) fn step(name: &'static str) {
    #[cfg(feature = "steps")]
    steps::pass(name);
    #[cfg(not(feature = "steps"))]
    let _ = name;
}

/// Ends a thread at one of the points between two steps, as if its process had been killed there. For tests.
#[cfg(feature = "steps")]
pub mod steps {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// What a thread that ends at a step unwinds with: the step's name.
    #[derive(Debug)]
    pub struct Ended(pub &'static str);

    /// This thread ends at its `nth` step from now, from 0; `u64::MAX`: at none.
    pub fn end_at(nth: u64) {
        LEFT.with(|left| left.set(nth));
    }

    pub(crate) fn pass(name: &'static str) {
        let now = LEFT.with(|left| match left.get() {
            u64::MAX => false,
            0 => true,
            more => {
                left.set(more - 1);
                false
            }
        });
        if now {
            LEFT.with(|left| left.set(u64::MAX));
            std::panic::resume_unwind(Box::new(Ended(name)));
        }
    }
}
