//! One model for each race between processes that come to a record and those that let it go.

use super::directory::{Directory, Shape};
use crate::counter::loom_models::model;
use crate::sync::Word;
use loom::thread;
use std::sync::Arc;

const SHAPE: Shape = Shape { records: 2, key_bytes: 8, data: 1 };

/// The directory of an empty region, as each of two processes has it.
fn two() -> [Arc<Directory>; 2] {
    // Leaked: in a region words stay where they are.
    let words: &'static [Word] = Box::leak((0..SHAPE.words()).map(|_| Word::new(0)).collect());
    [0, 1].map(|me| Arc::new(Directory::new(words, SHAPE, (1, 2), me)))
}

fn hold(directory: &Directory) -> usize {
    directory.hold(1, b"key", |_| ()).expect("there is room")
}

fn evict(directory: &Directory) -> usize {
    directory.evict(|| |_: usize| true, |_| ())
}

#[test]
fn a_key_that_two_processes_come_with_has_one_record() {
    model(|| {
        let [one, other] = two();
        let theirs = {
            let other = other.clone();
            thread::spawn(move || hold(&other))
        };
        let mine = hold(&one);
        assert_eq!(mine, theirs.join().unwrap());
        assert!(one.is_held_by(mine, 0) && one.is_held_by(mine, 1));
    });
}

#[test]
fn a_record_is_held_or_evicted_and_never_both() {
    model(|| {
        let [one, other] = two();
        let record = hold(&one);
        one.release(record);
        let theirs = {
            let other = other.clone();
            thread::spawn(move || hold(&other))
        };
        evict(&one);
        let theirs = theirs.join().unwrap();
        assert!(one.is_held_by(theirs, 1), "whoever holds it holds it");
        assert_eq!(hold(&one), theirs, "and it is the key's");
        assert_eq!(one.key(theirs), (1, b"key".to_vec()));
    });
}

/// Two threads of one process: one lets go of the record, the other comes to it; a third process would evict it.
#[test]
fn who_comes_while_another_thread_lets_go_holds_it() {
    model(|| {
        let [one, other] = two();
        let record = hold(&one);
        let comes = {
            let one = one.clone();
            thread::spawn(move || hold(&one))
        };
        one.release(record);
        let theirs = comes.join().unwrap();
        assert_eq!(evict(&other), 0, "it is held");
        assert!(one.is_held_by(theirs, 0));
        one.release(theirs);
        assert!(!one.is_held_by(theirs, 0), "nobody wants it any more");
        assert_eq!(evict(&other), 1);
    });
}

#[test]
fn what_a_process_leaves_is_free_for_another() {
    model(|| {
        let [one, other] = two();
        let record = hold(&other);
        let heir = {
            let one = one.clone();
            thread::spawn(move || one.forget(1, false, |_| ()))
        };
        let mine = hold(&one);
        heir.join().unwrap();
        assert_eq!(mine, record);
        assert!(one.is_held_by(record, 0) && !one.is_held_by(record, 1));
    });
}
