//! One model for each race between holding an entry and taking it away.

use super::Pins;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use loom::thread;
use std::sync::Arc;

#[test]
fn sealing_never_orphans_a_held_counter() {
    loom::model(|| {
        // The word stands for a counter's: a charge on an evicted one would be lost.
        let entry = Arc::new((Pins::new(), AtomicU64::new(0), AtomicBool::new(false)));
        let other = {
            let entry = entry.clone();
            thread::spawn(move || {
                if !entry.0.pin_unless_freed() {
                    return false;
                }
                assert!(!entry.2.load(Relaxed), "charged after it was evicted");
                entry.1.fetch_add(1, Relaxed);
                let _ = entry.0.unpin();
                true
            })
        };
        let at_rest = || entry.1.load(Relaxed) == 0;
        if !entry.0.held() && at_rest() && entry.0.seal_unheld() {
            if at_rest() && entry.0.free() {
                entry.2.store(true, Relaxed);
            } else {
                entry.0.unseal();
            }
        }
        let charged = other.join().unwrap();
        assert!(!(charged && entry.2.load(Relaxed)), "evicted with use in it");
    });
}

#[test]
fn a_retired_route_is_freed_once_and_after_its_last_holder() {
    loom::model(|| {
        let entry = Arc::new((Pins::new(), AtomicU64::new(0)));
        assert!(entry.0.pin());
        let collect = |entry: &(Pins, AtomicU64)| {
            if entry.0.retired_unheld() && entry.0.free() {
                entry.1.fetch_add(1, Relaxed);
            }
        };
        let holder = {
            let entry = entry.clone();
            thread::spawn(move || {
                assert_eq!(entry.1.load(Relaxed), 0, "freed under its holder");
                entry.0.unpin();
            })
        };
        let late = {
            let entry = entry.clone();
            thread::spawn(move || {
                if entry.0.pin() {
                    assert_eq!(entry.1.load(Relaxed), 0, "held after it was freed");
                    entry.0.unpin();
                }
                collect(&entry);
            })
        };
        entry.0.retire();
        collect(&entry);
        holder.join().unwrap();
        late.join().unwrap();
        collect(&entry);
        assert_eq!(entry.1.load(Relaxed), 1, "freed once");
    });
}
