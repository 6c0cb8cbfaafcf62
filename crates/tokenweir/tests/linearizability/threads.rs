//! Histories of real threads, which meet where the machine lets them: on a busy one seldom.

use super::random::Random;
use super::record::{Each, Event, Recorded, Run, Stage};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;

/// As many as can run at once, but no more than three: a search is long where many meet.
const MOST_THREADS: usize = 3;
const CALLS: usize = 60;
/// Histories that are recorded in one go, each begun by all threads together.
const GO: usize = 50;
/// Histories in which calls overlap that are enough, histories that are tried at most for that many, and how few there
/// may be then: on a machine so busy that threads hardly ever meet the test fails rather than pass for want of a race.
const ENOUGH: usize = 400;
const MOST: usize = 8000;
const FEWEST: usize = 20;

/// One test at a time: its threads need the processors to themselves, or they do not meet.
static ALONE: Mutex<()> = Mutex::new(());

/// What one thread did in each history of a go.
type Went = Vec<Vec<Recorded>>;

/// Records histories, and has `explain` look at each.
pub fn explore(run: &Run, explain: impl Fn(&Each<'_>)) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let policy = run.policy();
    let threads = thread::available_parallelism().map_or(2, |most| most.get().clamp(2, MOST_THREADS));
    let (mut overlapping, mut denied, mut admitted, mut histories) = (0, 0, 0, 0);
    let mut randoms: Vec<Random> = (0..threads as u64).map(Random::new).collect();
    while histories < MOST && overlapping < ENOUGH {
        let stages: Vec<Stage> = (0..GO).map(|_| Stage::new(&policy, threads, CALLS)).collect();
        let mut went = go(run, &stages, &mut randoms);
        for stage in stages.iter().rev() {
            let each = Each::new(run, stage, went.iter_mut().filter_map(Vec::pop).collect());
            histories += 1;
            overlapping += usize::from(each.meets());
            denied += each.calls().filter(|call| matches!(call.event, Event::Denied { .. })).count();
            admitted += each.calls().filter(|call| matches!(call.event, Event::Admitted { .. })).count();
            explain(&each);
        }
    }
    println!("{overlapping} of {histories} histories overlap; {admitted} admitted, {denied} denied");
    assert!(
        overlapping >= FEWEST,
        "only {overlapping} of {histories} histories overlap: let the machine do less beside"
    );
    assert!(denied > histories && admitted > histories, "{admitted} admitted, {denied} denied in {histories}");
}

/// Plays one history on each stage, which all threads begin together.
fn go(run: &Run, stages: &[Stage], randoms: &mut [Random]) -> Vec<Went> {
    let (threads, gate, ready) = (randoms.len(), Barrier::new(randoms.len()), AtomicUsize::new(0));
    let play = |thread: usize, random: &mut Random| -> Went {
        let _lets_go = LetsGo(&ready);
        gate.wait();
        let one = |(before, stage): (usize, &Stage)| {
            ready.fetch_add(1, SeqCst);
            let mut spins = 0;
            while ready.load(SeqCst) < (before + 1) * threads {
                spins += 1;
                if spins < 20_000 { std::hint::spin_loop() } else { thread::yield_now() }
            }
            stage.play(run, thread, random)
        };
        stages.iter().enumerate().map(one).collect()
    };
    let play = &play;
    thread::scope(|scope| {
        let all = randoms.iter_mut().enumerate().map(|(thread, random)| scope.spawn(move || play(thread, random)));
        let all: Vec<_> = all.collect();
        all.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// A thread that panics is not waited for by the others.
struct LetsGo<'a>(&'a AtomicUsize);

impl Drop for LetsGo<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fetch_add(usize::MAX / 2, SeqCst);
        }
    }
}
