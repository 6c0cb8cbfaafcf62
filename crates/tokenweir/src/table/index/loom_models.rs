//! One model for each race between entries that come and go. Chains are written first to last.
//!
//! Two threads meet with up to three preemptions, three with one or two.

use super::stage::Stage;
use crate::counter::loom_models::model;
use crate::sync::Ordering::Relaxed;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;

/// A stage of four entries, of which 0, 1 and so on stand in chain 0 with these keys, in their first life.
fn stage(keys: &[u64]) -> Arc<Stage> {
    // loom tries another order only where it sees that two accesses clash, and of several reads of a word it remembers
    // the last, so that it overlooks some. Turns that all threads take at each step clash always. Relaxed: they order
    // nothing else.
    let stage = Stage::new(4, |turns| _ = turns.fetch_add(1, Relaxed));
    for (entry, key) in keys.iter().enumerate().rev() {
        assert_eq!(stage.insert(0, entry, *key), Ok(()));
    }
    assert_eq!(stage.chain(0).len(), keys.len());
    Arc::new(stage)
}

fn three_threads(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

fn meanwhile<T: 'static>(stage: &Arc<Stage>, act: impl FnOnce(&Stage) -> T + 'static) -> JoinHandle<T> {
    let stage = stage.clone();
    thread::spawn(move || act(&stage))
}

#[test]
fn of_two_inserts_of_a_key_one_succeeds() {
    model(|| {
        let stage = stage(&[1]);
        let other = meanwhile(&stage, |stage| stage.insert(0, 2, 7));
        let mine = stage.insert(0, 3, 7);
        match (mine, other.join().unwrap()) {
            (Ok(()), Err(3)) => assert_eq!(stage.chain(0), [3, 0]),
            (Err(2), Ok(())) => assert_eq!(stage.chain(0), [2, 0]),
            both => panic!("{both:?}"),
        }
    });
}

#[test]
fn two_keys_that_come_together_both_stay() {
    model(|| {
        let stage = stage(&[]);
        let other = meanwhile(&stage, |stage| stage.insert(0, 0, 1));
        assert_eq!(stage.insert(0, 1, 2), Ok(()));
        assert_eq!(other.join().unwrap(), Ok(()));
        assert_eq!(stage.keys(0), [1, 2]);
    });
}

#[test]
fn an_insert_before_one_that_leaves_stays() {
    for leaving in [0, 1] {
        model(move || {
            let stage = stage(&[1, 2]);
            let other = meanwhile(&stage, move |stage| {
                let removed = stage.remove(0, leaving, 1);
                assert!(!stage.meets(0, leaving), "still in the chain");
                removed
            });
            assert_eq!(stage.insert(0, 2, 3), Ok(()));
            assert!(other.join().unwrap());
            assert_eq!(stage.chain(0), [2, 1 - leaving]);
        });
    }
}

#[test]
fn an_insert_of_the_key_that_leaves_finds_it_or_takes_its_place() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| stage.remove(0, 1, 1));
        let inserted = stage.insert(0, 2, 2);
        assert!(other.join().unwrap());
        match inserted {
            Ok(()) => assert_eq!(stage.chain(0), [2, 0]),
            Err(1) => assert_eq!(stage.chain(0), [0]),
            Err(_) => panic!("{inserted:?}"),
        }
    });
}

#[test]
fn of_two_removals_of_an_entry_one_wins_and_its_next_life_is_safe() {
    model(|| {
        let stage = stage(&[1, 2]);
        let remove_and_use_again = |stage: &Stage| {
            let removed = stage.remove(0, 0, 1);
            if removed {
                assert_eq!(stage.insert(0, 0, 3), Ok(()));
            }
            removed
        };
        let other = meanwhile(&stage, remove_and_use_again);
        let mine = remove_and_use_again(&stage);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(stage.chain(0), [0, 1]);
        assert_eq!(stage.keys(0), [2, 3]);
    });
}

#[test]
fn neighbours_that_leave_together_are_out_when_they_are_used_again() {
    model(|| {
        let stage = stage(&[1, 2, 3]);
        let leave_for_chain_1 = |stage: &Stage, entry, key| {
            assert!(stage.remove(0, entry, 1));
            assert_eq!(stage.insert(1, entry, key), Ok(()));
        };
        let other = meanwhile(&stage, move |stage| leave_for_chain_1(stage, 1, 5));
        leave_for_chain_1(&stage, 0, 4);
        other.join().unwrap();
        assert_eq!(stage.chain(0), [2]);
        assert_eq!(stage.keys(1), [4, 5]);
    });
}

#[test]
fn neighbours_that_leave_together_are_out_on_return() {
    model(|| {
        let stage = stage(&[1, 2, 3]);
        let leave = |stage: &Stage, entry| {
            assert!(stage.remove(0, entry, 1));
            assert!(!stage.meets(0, entry), "still in the chain");
        };
        let other = meanwhile(&stage, move |stage| leave(stage, 2));
        leave(&stage, 1);
        other.join().unwrap();
        assert_eq!(stage.chain(0), [0]);
    });
}

#[test]
fn one_that_moves_to_another_chain_leads_no_insert_astray() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(1, 0, 1), Ok(()));
        });
        assert_eq!(stage.insert(0, 3, 2), Err(1), "the key was there all the while");
        other.join().unwrap();
        assert_eq!(stage.chain(0), [1]);
        assert_eq!(stage.chain(1), [0]);
    });
}

#[test]
fn the_key_of_an_entry_that_has_moved_away_is_nobodys_duplicate() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(1, 0, 3), Ok(()));
        });
        assert_eq!(stage.insert(0, 3, 3), Ok(()), "chain 0 never had the key");
        other.join().unwrap();
        assert_eq!(stage.chain(0), [3, 1]);
        assert_eq!(stage.chain(1), [0]);
    });
}

#[test]
fn one_that_comes_again_to_the_head_is_not_taken_for_its_former_life() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            stage.insert(0, 0, 3)
        });
        let mine = stage.insert(0, 3, 3);
        match (mine, other.join().unwrap()) {
            (Ok(()), Err(3)) => assert_eq!(stage.chain(0), [3, 1]),
            (Err(0), Ok(())) => assert_eq!(stage.chain(0), [0, 1]),
            both => panic!("{both:?}"),
        }
    });
}

#[test]
fn a_head_that_leads_to_the_same_entry_again_is_not_as_it_was() {
    model(|| {
        let stage = stage(&[1]);
        let other = meanwhile(&stage, |stage| {
            let inserted = stage.insert(0, 1, 3);
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(0, 0, 4), Ok(()));
            inserted
        });
        let mine = stage.insert(0, 3, 3);
        match (mine, other.join().unwrap()) {
            (Ok(()), Err(3)) | (Err(1), Ok(())) => assert_eq!(stage.keys(0), [3, 4]),
            both => panic!("{both:?}"),
        }
    });
}

#[test]
fn whoever_helps_an_entry_out_does_not_cut_off_its_next_life() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            assert!(stage.remove(0, 1, 1));
            assert_eq!(stage.insert(0, 0, 3), Ok(()));
        });
        assert_eq!(stage.insert(0, 3, 4), Ok(()));
        other.join().unwrap();
        assert_eq!(stage.keys(0), [3, 4]);
    });
}

#[test]
fn a_removal_next_to_one_that_moves_is_complete() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(0, 0, 3), Ok(()));
        });
        assert!(stage.remove(0, 1, 1));
        assert_eq!(stage.insert(1, 1, 2), Ok(()));
        other.join().unwrap();
        assert_eq!(stage.chain(0), [0]);
        assert_eq!(stage.chain(1), [1]);
    });
}

#[test]
fn a_look_up_past_one_that_leaves_finds_the_rest() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| stage.remove(0, 0, 1));
        assert_eq!(stage.find(0, 2), Some(1));
        assert!(matches!(stage.find(0, 1), None | Some(0)));
        assert!(other.join().unwrap());
        assert_eq!(stage.find(0, 1), None);
    });
}

#[test]
fn a_look_up_among_entries_that_move_ends_and_an_insert_finds_what_it_missed() {
    model(|| {
        let stage = stage(&[1, 2]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(1, 0, 3), Ok(()));
        });
        let found = stage.find(0, 2);
        assert!(matches!(found, None | Some(1)));
        if found.is_none() {
            assert_eq!(stage.insert(0, 3, 2), Err(1));
        }
        other.join().unwrap();
        assert_eq!(stage.find(0, 2), Some(1));
        assert_eq!(stage.find(1, 3), Some(0));
    });
}

#[test]
fn an_entry_found_is_seen_as_it_came_in() {
    model(|| {
        let stage = stage(&[]);
        let other = meanwhile(&stage, |stage| stage.insert(0, 0, 1));
        // A key of 0 would be the word before the entry was written.
        assert_eq!(stage.find(0, 0), None);
        assert_eq!(other.join().unwrap(), Ok(()));
    });
    // The same by way of an entry that was in before, and has come again in front of the new one.
    model(|| {
        let stage = stage(&[1]);
        let other = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(0, 1, 2), Ok(()));
            assert_eq!(stage.insert(0, 0, 3), Ok(()));
        });
        assert_eq!(stage.find(0, 0), None);
        other.join().unwrap();
    });
}

#[test]
fn one_moves_within_its_chain_while_its_neighbour_leaves_and_another_comes() {
    three_threads(1, || {
        let stage = stage(&[1, 2]);
        let moves = meanwhile(&stage, |stage| {
            assert!(stage.remove(0, 0, 1));
            stage.insert(0, 0, 3)
        });
        let leaves = meanwhile(&stage, |stage| assert!(stage.remove(0, 1, 1)));
        let comes = stage.insert(0, 3, 3);
        leaves.join().unwrap();
        match (comes, moves.join().unwrap()) {
            (Ok(()), Err(3)) => assert_eq!(stage.chain(0), [3]),
            (Err(0), Ok(())) => assert_eq!(stage.chain(0), [0]),
            both => panic!("{both:?}"),
        }
    });
}

#[test]
fn two_come_under_one_key_while_the_one_that_has_it_leaves() {
    three_threads(2, || {
        let stage = stage(&[1]);
        let leaves = meanwhile(&stage, |stage| assert!(stage.remove(0, 0, 1)));
        let other = meanwhile(&stage, |stage| stage.insert(0, 1, 1));
        let mine = stage.insert(0, 2, 1);
        leaves.join().unwrap();
        match (mine, other.join().unwrap()) {
            (Ok(()), Err(0 | 2)) => assert_eq!(stage.chain(0), [2]),
            (Err(0 | 1), Ok(())) => assert_eq!(stage.chain(0), [1]),
            (Err(0), Err(0)) => assert_eq!(stage.chain(0), [0; 0]),
            both => panic!("{both:?}"),
        }
    });
}
