//! Small numbers for threads: each of the first 64 that admit has one to itself until it ends.

/// How many threads can have a number at a time.
pub(crate) const OWNERS: usize = 64;

#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::{current, move_on};

#[cfg(not(any(loom, shuttle)))]
mod real {
    use super::OWNERS;
    use std::cell::Cell;
    use std::sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed, Release},
    };

    /// The numbers that are taken, a bit each.
    static TAKEN: AtomicU64 = AtomicU64::new(0);

    const NOT_ASKED: usize = usize::MAX;
    const NONE: usize = OWNERS;

    /// A thread's number, given back when the thread ends; and which of its own slots it looks at next.
    struct Number {
        number: Cell<usize>,
        next: Cell<usize>,
    }

    thread_local! {
        static NUMBER: Number = const { Number { number: Cell::new(NOT_ASKED), next: Cell::new(0) } };
    }

    impl Drop for Number {
        fn drop(&mut self) {
            if self.number.get() < OWNERS {
                // Release: whoever takes the number finds what this thread did with what belongs to it.
                TAKEN.fetch_and(!(1 << self.number.get()), Release);
            }
        }
    }

    /// This thread's number, and which of its own slots to look at. None for threads beyond the first, and for one that
    /// is being torn down.
    #[inline]
    pub(crate) fn current() -> Option<(usize, usize)> {
        let number = NUMBER.try_with(|own| match own.number.get() {
            NOT_ASKED => (ask(own), own.next.get()),
            number => (number, own.next.get()),
        });
        number.ok().filter(|(number, _)| *number < OWNERS)
    }

    /// Looks at the next of its own slots from now on.
    pub(crate) fn move_on() {
        let _ = NUMBER.try_with(|own| own.next.set(own.next.get().wrapping_add(1)));
    }

    #[cold]
    fn ask(own: &Number) -> usize {
        let mut taken = TAKEN.load(Relaxed);
        let number = loop {
            let free = (!taken).trailing_zeros() as usize;
            if free >= OWNERS {
                break NONE;
            }
            // Acquire: as the one before let go of it.
            match TAKEN.compare_exchange_weak(taken, taken | 1 << free, AcqRel, Relaxed) {
                Ok(_) => break free,
                Err(seen) => taken = seen,
            }
        };
        own.number.set(number);
        number
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn threads_at_a_time_have_different_numbers_and_give_them_back() {
            let barrier = std::sync::Barrier::new(8);
            let numbers = std::thread::scope(|scope| {
                let threads = [(); 8].map(|()| {
                    scope.spawn(|| {
                        let number = current();
                        assert_eq!(number, current());
                        barrier.wait();
                        number
                    })
                });
                threads.map(|thread| thread.join().expect("no panic"))
            });
            let mut numbers: Vec<usize> = numbers.into_iter().flatten().map(|(number, _)| number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert!(numbers.len() == 8 && numbers.iter().all(|number| *number < OWNERS));
            // More threads than numbers, one after the other: each finds one free.
            for _ in 0..OWNERS * 2 {
                assert!(std::thread::spawn(current).join().expect("no panic").is_some());
            }
        }
    }
}

/// Under a model checker all threads share the slots, which is the harder case.
#[cfg(any(loom, shuttle))]
pub(crate) fn current() -> Option<(usize, usize)> {
    None
}

#[cfg(any(loom, shuttle))]
pub(crate) fn move_on() {}
