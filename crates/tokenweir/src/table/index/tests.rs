use super::stage::Stage;
use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

fn quiet(entries: usize) -> Stage {
    Stage::new(entries, |_| ())
}

#[test]
fn what_is_put_in_is_found_until_it_is_taken_out() {
    let stage = quiet(3);
    assert_eq!(stage.find(0, 7), None);
    assert_eq!(stage.insert(0, 0, 7), Ok(()));
    assert_eq!(stage.find(0, 7), Some(0));
    assert_eq!(stage.find(1, 7), None, "another chain");
    assert_eq!(stage.insert(0, 1, 7), Err(0));
    assert_eq!(stage.insert(1, 1, 7), Ok(()));
    assert!(!stage.remove(1, 0, 1), "not in that chain");
    assert!(stage.remove(0, 0, 1));
    assert!(!stage.remove(0, 0, 1), "once");
    assert_eq!(stage.find(0, 7), None);
    assert_eq!(stage.find(1, 7), Some(1));
}

#[test]
fn an_entry_never_put_in_is_not_taken_out() {
    let stage = quiet(2);
    assert!(!stage.remove(0, 0, 0));
    assert_eq!(stage.insert(0, 0, 1), Ok(()));
    assert_eq!(stage.insert(0, 1, 1), Err(0));
    assert!(!stage.remove(0, 1, 1), "refused, so still its owner's");
    assert_eq!(stage.insert(0, 1, 2), Ok(()));
    assert_eq!(stage.chain(0), [1, 0]);
}

#[test]
fn the_next_life_of_an_entry_is_not_the_one_meant() {
    let stage = quiet(1);
    for life in 1..=3 {
        assert_eq!(stage.insert(0, 0, life), Ok(()));
        assert!(!stage.remove(0, 0, life - 1));
        assert!(stage.remove(0, 0, life));
    }
}

#[test]
fn any_order_of_removal_leaves_the_rest_of_a_chain() {
    for step in [1, 3, 7, 63] {
        let stage = quiet(64);
        for entry in 0..64 {
            assert_eq!(stage.insert(0, entry, entry as u64), Ok(()));
        }
        assert_eq!(stage.chain(0), (0..64).rev().collect::<Vec<_>>());
        for gone in 0..64 {
            let entry = gone * step % 64;
            assert!(stage.remove(0, entry, 1));
            assert_eq!(stage.chain(0).len(), 63 - gone);
            assert_eq!(stage.find(0, entry as u64), None);
            let rest = (0..64u64).filter(|key| stage.find(0, *key).is_some()).count();
            assert_eq!(rest, 63 - gone);
        }
    }
}

#[test]
fn a_look_up_in_a_ring_ends() {
    let stage = quiet(2);
    assert_eq!(stage.insert(0, 0, 0), Ok(()));
    assert_eq!(stage.insert(0, 1, 1), Ok(()));
    // No chain is ever a ring; what a walk sees while entries move may look like one.
    stage.entries.link(0).store(2, Relaxed);
    assert_eq!(stage.find(0, 9), None);
}

#[test]
fn an_entry_that_leaves_is_passed_over_and_helped_out() {
    let stage = quiet(4);
    for entry in 0..3 {
        assert_eq!(stage.insert(0, entry, entry as u64), Ok(()));
    }
    // As a thread leaves it that stops between the mark and the word before.
    for entry in [1, 2] {
        let link = stage.entries.link(entry);
        link.store(marked(link.load(Relaxed)), Relaxed);
    }
    assert_eq!(stage.insert(0, 3, 1), Ok(()), "1 is no longer there");
    assert_eq!(stage.chain(0), [3, 0]);
}

#[test]
fn an_answer_about_an_entry_that_has_left_meanwhile_does_not_count() {
    let stage = quiet(3);
    assert_eq!(stage.insert(0, 0, 5), Ok(()));
    assert_eq!(stage.insert(0, 1, 6), Ok(()));
    let mut asked = Vec::new();
    let inserted = stage.index.insert(&stage.entries, 0, 2, |other| {
        asked.push(other);
        // While the walk looks at entry 0, it leaves and comes again under the key that is looked for.
        if other == 0 {
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(1, 0, 7), Ok(()));
        }
        stage.key(other) == 7
    });
    assert_eq!(inserted, Ok(()));
    assert_eq!(asked, [1, 0, 1]);
    assert_eq!(stage.chain(0), [2, 1]);
}

#[test]
fn a_head_that_leads_to_the_same_entry_again_is_not_as_it_was() {
    let stage = quiet(3);
    assert_eq!(stage.insert(0, 0, 1), Ok(()));
    let inserted = stage.index.insert(&stage.entries, 0, 2, |other| {
        // While the walk looks at entry 0, the key comes in before it, and entry 0 again before that.
        if stage.life(other) == 1 && stage.life(1) == 0 {
            assert_eq!(stage.insert(0, 1, 7), Ok(()));
            assert!(stage.remove(0, 0, 1));
            assert_eq!(stage.insert(0, 0, 2), Ok(()));
        }
        stage.key(other) == 7
    });
    assert_eq!(inserted, Err(1));
    assert_eq!(stage.chain(0), [0, 1]);
}

#[test]
fn a_tag_that_ends_begins_again() {
    let word = !MARK;
    assert_eq!(turned(word, 5), 5);
    assert_eq!(marked(word), TARGET | MARK);
    assert_eq!(target(turned(word, MOST as u64)), Some(MOST - 1));
    assert_eq!(target(turned(7, 0)), None);
    let stage = quiet(1);
    stage.entries.link(0).store(!(TARGET | MARK), Relaxed);
    for life in 1..4 {
        assert_eq!(stage.insert(0, 0, 1), Ok(()));
        assert!(stage.remove(0, 0, life));
    }
}

#[test]
fn the_number_of_heads_is_a_power_of_two_and_bounded() {
    for (entries, heads) in [(0, 2), (1, 2), (3, 8), (64, 128), (65, 256)] {
        assert_eq!(Index::new(entries).heads.len(), heads);
    }
    assert_eq!(Index::new(usize::MAX).heads.len(), HEADS);
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    Remove(u64),
    Find(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn it_is_a_map(
        chains in 1u64..=2,
        steps in prop::collection::vec(
            (0..3, 0u64..12).prop_map(|(kind, key)| match kind {
                0 => Step::Insert(key),
                1 => Step::Remove(key),
                _ => Step::Find(key),
            }),
            0..200,
        ),
    ) {
        let stage = quiet(8);
        let mut map = HashMap::new();
        let mut free: Vec<usize> = (0..8).collect();
        for step in steps {
            match step {
                Step::Insert(key) => {
                    let Some(entry) = free.pop() else { continue };
                    let inserted = stage.insert(key % chains, entry, key);
                    prop_assert_eq!(inserted.err(), map.get(&key).copied());
                    match inserted {
                        Ok(()) => _ = map.insert(key, entry),
                        Err(_) => free.push(entry),
                    }
                }
                Step::Remove(key) => match map.remove(&key) {
                    Some(entry) => {
                        prop_assert!(stage.remove(key % chains, entry, stage.life(entry)));
                        free.insert(0, entry);
                    }
                    None => prop_assert_eq!(stage.find(key % chains, key), None),
                },
                Step::Find(key) => prop_assert_eq!(stage.find(key % chains, key), map.get(&key).copied()),
            }
            for chain in 0..chains {
                let mut keys: Vec<_> = map.keys().copied().filter(|key| key % chains == chain).collect();
                keys.sort_unstable();
                prop_assert_eq!(stage.keys(chain), keys);
            }
        }
    }
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// A number below `n`, from this thread's own sequence.
fn random(n: u64) -> u64 {
    let mut seed = RANDOM.get();
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    RANDOM.set(seed);
    seed % n
}

const KEYS: u64 = 5;
const THREADS: u64 = 4;
const TURNS: u64 = 250_000;

/// Threads put in and take out a few keys, two to four to a chain, and use each entry again as soon as they own it.
///
/// With `alone`, who takes an entry out has claimed it first, so it may be said beforehand that the key is gone, and
/// that a key is in only once can be checked at every instant. Otherwise all try, and one must win.
fn stress(alone: bool) {
    // In the middle of a step, wherever a walk has come to an entry, the others get their turn.
    let stage = Stage::new(12, |_| {
        if random(32) == 0 {
            thread::yield_now();
        }
    });
    let zeros = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (present, put_in, taken_out) = (zeros(KEYS), zeros(KEYS), zeros(KEYS));
    let owned: Vec<_> = (0..12).map(|_| AtomicBool::new(true)).collect();
    // The life in which an entry is in and may be claimed; 0 if none.
    let open = zeros(12);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (stage, present, put_in, taken_out) = (&stage, &present, &put_in, &taken_out);
            let (owned, open) = (&owned, &open);
            scope.spawn(move || {
                RANDOM.set(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number + 1));
                let mut free: Vec<usize> = (0..3).map(|n| number as usize * 3 + n).collect();
                for _ in 0..TURNS {
                    let key = random(KEYS);
                    let chain = key % 2;
                    if random(2) == 0 {
                        let Some(entry) = free.pop() else { continue };
                        // Off before the insert: from then on somebody else may win it.
                        assert!(owned[entry].swap(false, AcqRel));
                        match stage.insert(chain, entry, key) {
                            Ok(()) => {
                                put_in[key as usize].fetch_add(1, AcqRel);
                                if alone {
                                    assert_eq!(present[key as usize].fetch_add(1, AcqRel), 0, "key {key} is in twice");
                                    open[entry].store(stage.life(entry), Release);
                                }
                            }
                            Err(_) => {
                                assert!(!owned[entry].swap(true, AcqRel));
                                free.push(entry);
                            }
                        }
                        continue;
                    }
                    let Some(entry) = stage.find(chain, key) else { continue };
                    let life = stage.life(entry);
                    if alone {
                        if life == 0 || open[entry].compare_exchange(life, 0, AcqRel, Relaxed).is_err() {
                            continue;
                        }
                        // Held now; it may be another key's life than the one that was found.
                        let key = stage.key(entry);
                        present[key as usize].fetch_sub(1, AcqRel);
                        assert!(stage.remove(key % 2, entry, life), "claimed, so nobody else takes it out");
                        taken_out[key as usize].fetch_add(1, AcqRel);
                    } else {
                        let key = stage.key(entry);
                        if !stage.remove(key % 2, entry, life) {
                            continue;
                        }
                        taken_out[stage.key(entry) as usize].fetch_add(1, AcqRel);
                    }
                    assert!(!owned[entry].swap(true, AcqRel), "taken out twice");
                    free.push(entry);
                }
            });
        }
    });
    let mut left = 0;
    for key in 0..KEYS as usize {
        let chain = key as u64 % 2;
        let times = stage.keys(chain).iter().filter(|other| **other == key as u64).count() as u64;
        assert!(times <= 1, "key {key} is in {times} times");
        assert_eq!(put_in[key].load(Acquire) - taken_out[key].load(Acquire), times, "key {key}");
        assert!(taken_out[key].load(Acquire) > TURNS / 100, "hardly anything happened");
        left += times as usize;
    }
    assert_eq!(stage.chain(0).len() + stage.chain(1).len(), left);
    assert_eq!(owned.iter().filter(|owned| owned.load(Acquire)).count() + left, 12, "an entry is lost");
}

#[test]
fn under_threads_a_key_is_in_once_at_every_instant() {
    stress(true);
}

#[test]
fn under_threads_one_of_many_removals_wins() {
    stress(false);
}
