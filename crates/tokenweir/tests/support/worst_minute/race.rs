//! Two threads at one limiter.

use super::super::random::Random;
use super::traffic::{Caller, Open};
use super::{LIMIT, Log, MILLI, MINUTE, Peer, Time};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

/// How often each thread asks per step of stepped time.
const ATTEMPTS: u64 = 200;
/// From one step to the next.
const STEP: u64 = 50 * MILLI;

/// Two threads ask for all kinds of amounts, five minutes of stepped time or thirty of scaled time. In lock step time
/// stands while they ask, and is moved on when both are done; otherwise the first moves it on while the second asks.
/// What was admitted, and how often was asked.
pub fn race<P: Peer>(peer: &P, time: &Time, late: bool, lock_step: bool) -> (Log, u64) {
    let barrier = Barrier::new(2);
    let end = if time.is_scaled() { 30 * MINUTE } else { 5 * MINUTE };
    let thread = |number: u64| {
        let mut caller = Caller::new(peer, time);
        let mut random = Random::new(number);
        let mut open = Vec::new();
        // The threads decide alike how often they go round, or one would wait for ever.
        let mut at = 0;
        while if lock_step { at < end } else { time.now() < end } {
            for _ in 0..ATTEMPTS {
                attempt(&mut caller, &mut random, &mut open, late);
            }
            at += STEP;
            if lock_step {
                barrier.wait();
            }
            if number == 0 && !time.is_scaled() {
                time.wait_until(at);
            }
            if lock_step {
                barrier.wait();
            }
        }
        open.into_iter().for_each(|ended| caller.end(ended));
        (caller.log, caller.asked)
    };
    thread::scope(|scope| {
        let second = scope.spawn(|| thread(1));
        let (mut log, asked) = thread(0);
        let (other, more) = second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        log.append(other);
        (log, asked + more)
    })
}

/// Two threads ask a fresh limiter for the whole limit at the same moment.
pub fn rush<P: Peer>(peer: &P, time: &Time) -> Log {
    let (ready, go) = (AtomicBool::new(false), AtomicBool::new(false));
    let ask = || {
        let mut caller = Caller::new(peer, time);
        let open = caller.ask(LIMIT, Some(LIMIT));
        open.into_iter().for_each(|ended| caller.end(ended));
        caller.log
    };
    // Spinning, so that both begin at once; but the other may need this very core to get there.
    let wait = |flag: &AtomicBool| {
        for spun in 0u32.. {
            match flag.load(SeqCst) {
                true => break,
                false if spun < 10_000 => std::hint::spin_loop(),
                false => thread::yield_now(),
            }
        }
    };
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            ready.store(true, SeqCst);
            wait(&go);
            ask()
        });
        wait(&ready);
        go.store(true, SeqCst);
        let mut log = ask();
        log.append(second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        log
    })
}

/// Asks once; ends what is to end.
fn attempt<P: Peer>(caller: &mut Caller<'_, P>, random: &mut Random, open: &mut Vec<Open<P::Hold>>, late: bool) {
    let estimate = [LIMIT, LIMIT / 2, LIMIT / 3, LIMIT / 10, LIMIT / 100, 7, 1][random.below(7) as usize];
    if !late {
        caller.ask(estimate, Some(estimate)).into_iter().for_each(|admitted| caller.end(admitted));
        return;
    }
    let used = match random.below(4) {
        0 => None,
        1 => Some(random.below(estimate + 1)),
        _ => Some(estimate),
    };
    open.extend(caller.ask(estimate, used));
    // Most calls are short; those that are not last until they are the oldest of many, or by chance end earlier.
    let ended = match random.below(500) {
        0 if !open.is_empty() => Some(open.swap_remove(random.below(open.len() as u64) as usize)),
        1..250 => open.pop(),
        _ if open.len() > 64 => Some(open.remove(0)),
        _ => None,
    };
    ended.into_iter().for_each(|ended| caller.end(ended));
}
