//! Histories under shuttle's scheduler: threads meet anywhere between two accesses to the engine's words.

use super::explore::explore as schedule;
use super::random::Random;
use super::record::{Each, Run, Stage};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const THREADS: usize = 3;
const CALLS: usize = 6;
const SCHEDULES: usize = 2000;

/// Records one history under each schedule, and has `explain` look at it.
pub fn explore(run: &Run, explain: impl Fn(&Each<'_>) + Send + Sync + 'static) {
    let policy = run.policy();
    let run = run.clone();
    let number = AtomicU64::new(0);
    schedule(SCHEDULES, move || {
        let number = number.fetch_add(1, Relaxed);
        let stage = Arc::new(Stage::new(&policy, THREADS, CALLS));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (run, stage) = (run.clone(), stage.clone());
                let mut random = Random::new(number * THREADS as u64 + thread as u64);
                thread::spawn(move || stage.play(&run, thread, &mut random))
            })
            .collect();
        let threads = threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect();
        explain(&Each::new(&run, &stage, threads));
    });
}
