//! One model for each race on a region's in-flight word: whoever ends between two steps leaves no place in doubt.

use super::loom_models::model;
use super::places::{Marks, Places, Taker};
use crate::sync::Word;
use loom::thread;
use std::sync::Arc;

struct Stage {
    word: &'static Word,
    marks: [Word; 3],
}

impl Marks for Stage {
    fn mark(&self, slot: usize, _: usize) -> &Word {
        &self.marks[slot.min(2)]
    }
}

fn stage() -> Arc<Stage> {
    // Leaked: in a region words stay where they are.
    let word: &'static Word = Box::leak(Box::new(Word::new(0)));
    Arc::new(Stage { word, marks: std::array::from_fn(|_| Word::new(0)) })
}

fn taker(slot: usize) -> Taker {
    Taker { slot, leg: 1, generation: 1 }
}

#[test]
fn places_one_place_goes_to_one() {
    model(|| {
        let stage = stage();
        let other = {
            let stage = stage.clone();
            thread::spawn(move || Places::shared(stage.word).take(taker(1), 1, &*stage))
        };
        let places = Places::shared(stage.word);
        let mine = places.take(taker(0), 1, &*stage);
        let theirs = other.join().unwrap();
        assert!(mine ^ theirs);
        assert_eq!(places.open(), 1);
        assert_eq!(places.clear_up(taker(0), &*stage), mine);
        assert_eq!(places.clear_up(taker(1), &*stage), theirs);
    });
}

/// Slot 0 has written its intent, and perhaps made its change, when it ends; another changes the word meanwhile, and a third
/// clears up.
fn ends(taking: bool, done: bool) {
    model(move || {
        let stage = stage();
        let places = Places::shared(stage.word);
        if !taking {
            assert!(places.take(taker(0), 5, &*stage));
        }
        let before = places.open();
        // What `take` and `give_back` do up to there.
        let (intent, change) = if taking { (1, 1) } else { (3, u64::MAX) };
        stage.marks[0].store(1 << 4 | intent, loom::sync::atomic::Ordering::Release);
        let tag = (1 << 25 | 1 << 1 | u64::from(taking)) << 20;
        let other = {
            let stage = stage.clone();
            thread::spawn(move || {
                let places = Places::shared(stage.word);
                assert!(places.take(taker(1), 5, &*stage));
                places.give_back(taker(1), &*stage);
            })
        };
        if done {
            loop {
                let word = stage.word.load(loom::sync::atomic::Ordering::Acquire);
                // It helps the one before it, as all do.
                Places::help(word, &*stage);
                let next = (word & 0xfffff).wrapping_add(change) & 0xfffff | tag;
                let order = loom::sync::atomic::Ordering::AcqRel;
                if stage.word.compare_exchange(word, next, order, loom::sync::atomic::Ordering::Acquire).is_ok() {
                    break;
                }
            }
        }
        let has = places.clear_up(taker(0), &*stage);
        other.join().unwrap();
        assert_eq!(has, taking == done, "what was done counts, what was not does not");
        assert_eq!(places.open(), before.wrapping_add(if done { change } else { 0 }));
        assert_eq!(places.open(), u64::from(has));
    });
}

#[test]
fn places_a_taker_that_ends_before_its_change_has_no_place() {
    ends(true, false);
}

#[test]
fn places_a_taker_that_ends_after_its_change_has_one() {
    ends(true, true);
}

#[test]
fn places_a_giver_that_ends_before_its_change_still_has_its_place() {
    ends(false, false);
}

#[test]
fn places_a_giver_that_ends_after_its_change_has_none() {
    ends(false, true);
}
