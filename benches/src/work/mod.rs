//! Pieces of work to time: the same for the library, for other limiters (feature `peers`), and for the machine itself.

mod denied;
mod floor;
mod four_limits;
pub mod keys;
#[cfg(feature = "peers")]
pub mod limitador;
mod mixed;
pub mod one_limit;
mod swap;

pub use keys::GROUP as KEYS_GROUP;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Does its work so many times and says how long that took.
pub type Timed = Box<dyn FnMut(u64) -> Duration>;

/// One piece of work.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is compared within.
    pub group: &'static str,
    /// What does it.
    pub name: &'static str,
    /// How often it is done in one round of the table of bars.
    pub round: u64,
    /// Gets it ready; may take a while, and memory.
    pub make: fn() -> Timed,
}

/// All pieces of work.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for add in [floor::add, one_limit::add, mixed::add, four_limits::add, denied::add, swap::add, keys::add] {
        add(&mut cases);
    }
    cases
}

/// An ordinary case of a million repetitions a round.
fn case(group: &'static str, name: &'static str, make: fn() -> Timed) -> Case {
    Case { group, name, round: 1_000_000, make }
}

/// Times a closure, called in a loop on this thread with 1, 2, 3 and so on, across rounds.
fn looped(mut act: impl FnMut(u64) + 'static) -> Timed {
    let mut count = 0;
    Box::new(move |times| {
        let start = Instant::now();
        for _ in 0..times {
            count += 1;
            act(count);
        }
        start.elapsed()
    })
}

/// So many times in a round: for work that takes microseconds.
#[cfg(feature = "peers")]
fn slow(case: Case) -> Case {
    Case { round: 50_000, ..case }
}

/// Times a closure called so many times by each of two threads at once: until the later one is done.
fn on_two_threads<S: Sync + Send + 'static>(shared: S, act: impl Fn(&S, usize, u64) + Sync + Send + 'static) -> Timed {
    let mut done = 0;
    Box::new(move |times| {
        let start_together = Barrier::new(2);
        let (shared, act, first) = (&shared, &act, done);
        done += times;
        let took = thread::scope(|scope| {
            let threads = [0, 1].map(|thread| {
                let start_together = &start_together;
                scope.spawn(move || {
                    start_together.wait();
                    let start = Instant::now();
                    for count in first..first + times {
                        act(shared, thread, count);
                    }
                    start.elapsed()
                })
            });
            threads.map(|thread| thread.join().expect("it does not panic"))
        });
        took[0].max(took[1])
    })
}
