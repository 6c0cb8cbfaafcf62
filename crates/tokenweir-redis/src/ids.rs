//! Ids of permits: random, so that no two processes give the same one but by a chance of 2^-62.

use std::hash::{BuildHasher, Hasher, RandomState};
use tokenweir::PermitId;

/// A random number, from the randomness that the system gives for hashing.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The ids of one limiter: one random start, then another number each time.
pub(crate) struct Ids {
    first: u64,
    given: std::sync::atomic::AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Ids { first: random(), given: std::sync::atomic::AtomicU64::new(random()) }
    }

    /// The next one: even for the server's permits, odd for those that it does not know yet.
    pub(crate) fn next(&self, server: bool) -> PermitId {
        loop {
            let count = self.given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Steele, Lea and Flood's finisher: a different number for each count, of which one bit is left out.
            let mut mixed = (count & (u64::MAX >> 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.first;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = (mixed ^ (mixed >> 31)) & !1 | u64::from(!server);
            if let Some(id) = PermitId::new(id) {
                return id;
            }
        }
    }
}
