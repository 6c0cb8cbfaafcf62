//! One model for each race on a permit, and on a change of policy.

use super::slab::{Cells, Gone, Seen, Slab};
use crate::counter::bucket::{Bucket, BucketRule, Charged};
use crate::counter::floors::Histories;
use crate::counter::loom_models::model;
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::table::Pins;
use loom::thread;
use std::sync::Arc;

#[test]
fn a_permit_is_settled_exactly_once() {
    model(|| {
        let slab = Arc::new(Slab::new(2, 7));
        let id = slab.open(slab.claim(1).unwrap());
        let settle = move |slab: &Slab| {
            let Ok(seen) = slab.find(id) else { return false };
            let won = slab.begin_settling(seen).is_ok();
            if won {
                assert!(slab.end_settling(seen.slot));
            }
            won
        };
        let other = {
            let slab = slab.clone();
            thread::spawn(move || settle(&slab))
        };
        let mine = settle(&slab);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(slab.find(id).err(), Some(Gone::Settled));
    });
}

#[test]
fn what_is_observed_is_settled_or_refused() {
    model(|| {
        let slab = Arc::new(Slab::new(2, 7));
        let id = slab.open(slab.claim(1).unwrap());
        let other = {
            let slab = slab.clone();
            thread::spawn(move || {
                let Ok(seen) = slab.find(id) else { return (false, false) };
                if slab.enter(seen).is_err() {
                    return (false, false);
                }
                let observed = slab.observe(seen.slot, 0, 5).is_ok();
                (observed, slab.leave(seen.slot))
            })
        };
        let seen = slab.find(id).unwrap();
        let (_, output) = slab.begin_settling(seen).unwrap();
        let freed = slab.end_settling(seen.slot);
        let (observed, freed_by_observer) = other.join().unwrap();
        assert_eq!(output, if observed { 5 } else { 0 }, "settled by what was observed");
        assert!(freed ^ freed_by_observer, "the slot is freed once, by the last to leave");
        assert!(slab.find(id).is_err());
    });
}

#[test]
fn a_slot_used_again_is_not_reached_by_the_old_id() {
    model(|| {
        let slab = Arc::new(Slab::new(1, 7));
        let old = slab.open(slab.claim(1).unwrap());
        let other = {
            let slab = slab.clone();
            thread::spawn(move || match slab.find(old) {
                Ok(seen) => slab.begin_settling(seen).map(|_| assert!(slab.end_settling(seen.slot))).is_ok(),
                Err(_) => false,
            })
        };
        let seen = slab.find(old);
        let mine = seen.is_ok_and(|seen| slab.begin_settling(seen).map(|_| slab.end_settling(seen.slot)).is_ok());
        let new = slab.claim(1).map(|index| slab.open(index));
        let theirs = other.join().unwrap();
        assert!(mine ^ theirs);
        if let Some(new) = new {
            assert_ne!(new, old);
            assert!(slab.find(new).is_ok(), "still open");
        }
    });
}

/// Its owner claims a slot again, without a swap, while another settles the permit in it by its id, twice.
#[test]
fn an_owner_claims_its_slot_only_when_it_is_free() {
    model(|| {
        let cells = Arc::new(Cells::default());
        let slab = Arc::new(Slab::new(2, 7));
        fn settle(slab: &Slab, seen: Seen<'_>) -> bool {
            slab.begin_settling(seen).map(|_| slab.end_settling(seen.slot)).is_ok()
        }
        let first = slab.claim_as_owner(cells.slot(), 0).expect("it is free");
        slab.open(first);
        let other = {
            let (cells, slab) = (cells.clone(), slab.clone());
            thread::spawn(move || {
                let seen = slab.seen(cells.slot(), 0).expect("it is open");
                assert!(settle(&slab, seen), "nobody else settles it");
                assert!(!settle(&slab, seen), "it was settled, whatever came after");
            })
        };
        let second = slab.claim_as_owner(cells.slot(), 0).map(|claimed| slab.open(claimed));
        other.join().unwrap();
        assert_eq!(slab.seen(cells.slot(), 0).is_some(), second.is_some(), "the second is still open");
    });
}

#[test]
fn two_claims_get_two_slots() {
    model(|| {
        let slab = Arc::new(Slab::new(2, 7));
        let other = {
            let slab = slab.clone();
            thread::spawn(move || slab.open(slab.claim(1).unwrap()))
        };
        let mine = slab.open(slab.claim(1).unwrap());
        assert_ne!(mine, other.join().unwrap());
        assert_eq!(slab.open_slots().count(), 2);
    });
}

#[test]
fn a_decision_after_the_swap_is_the_new_policys() {
    model(|| {
        let old = Arc::new(BucketRule::new(10, 1_000_000_000, 1_000_000_000, 0, Arc::new(Histories::new(8))));
        let new = Arc::new(old.changed(4, 1_000_000_000, 0));
        let shared = Arc::new((Bucket::new(&old), AtomicU64::new(1)));
        let other = {
            let (old, new, shared) = (old.clone(), new.clone(), shared.clone());
            thread::spawn(move || {
                loop {
                    let generation = shared.1.load(Acquire);
                    let rule = if generation == 1 { &old } else { &new };
                    match shared.0.charge(rule, 6, 0) {
                        Ok(charged) => return (generation, matches!(charged, Charged::Taken(_))),
                        Err(_) => loom::thread::yield_now(),
                    }
                }
            })
        };
        new.put_in_force();
        shared.1.store(2, Release);
        shared.0.adopt(&new).expect("it is the newest");
        // From here on 6 can never fit 4.
        assert_eq!(shared.0.charge(&new, 6, 0), Ok(Charged::Refused));
        let (generation, admitted) = other.join().unwrap();
        assert!(!admitted || generation == 1, "admitted by the policy that was gone");
        // Admitted under the old policy it left a balance of 4, which the new capacity just holds.
        assert_eq!(shared.0.deficit(&new, 0), Ok(0));
    });
}

/// A route, as far as its life goes: pins, and how often it was freed. It is the one that slots name as 7.
struct Life {
    slab: Slab,
    pins: Pins,
    freed: AtomicU64,
}

impl Life {
    /// Opens a permit on the route, which the caller holds.
    fn admit(&self) -> crate::PermitId {
        let claimed = self.slab.claim(1).expect("room");
        claimed.slot.route().store(7, Relaxed);
        self.slab.open(claimed)
    }

    /// The route is still there when a permit on it is settled.
    fn settle(&self, id: crate::PermitId) {
        let seen = self.slab.find(id).expect("it is open");
        self.slab.begin_settling(seen).expect("nobody else settles it");
        assert_eq!(self.freed.load(Relaxed), 0, "freed under an open permit");
        self.slab.end_settling(seen.slot);
    }

    /// What `Routes::collect` does.
    fn collect(&self) {
        if self.pins.retired_unheld() && !self.slab.held_routes().any(|route| route == 7) && self.pins.free() {
            self.freed.fetch_add(1, Relaxed);
        }
    }
}

/// Runs `user` on a route that is retired and collected meanwhile; at the end a last collection frees it, once.
fn a_retired_route(user: fn(&Life)) {
    model(move || {
        let life = Arc::new(Life { slab: Slab::new(2, 7), pins: Pins::new(), freed: AtomicU64::new(0) });
        assert!(life.pins.pin(), "a handle");
        let other = {
            let life = life.clone();
            thread::spawn(move || user(&life))
        };
        life.pins.retire();
        life.collect();
        other.join().unwrap();
        life.collect();
        assert_eq!(life.freed.load(Relaxed), 1);
    });
}

#[test]
fn a_permit_outlives_the_handle_that_it_was_admitted_by() {
    a_retired_route(|life| {
        let id = life.admit();
        life.pins.unpin();
        life.settle(id);
    });
}

#[test]
fn a_permit_outlives_the_look_up_that_found_its_route() {
    a_retired_route(|life| {
        life.pins.unpin();
        // Found by key, as others retire it: held while it is charged, or looked up anew.
        if life.pins.pin() {
            let id = life.admit();
            life.pins.unpin();
            life.settle(id);
        }
    });
}
