//! The patterns: kinds of traffic that are known to find more than the limit.

use super::super::random::Random;
use super::race::{race, rush};
use super::traffic::{Caller, Open};
use super::{LIMIT, Log, MILLI, MINUTE, Peer, SECOND, Time};
use std::collections::VecDeque;

/// One kind of traffic. Where a kind has variants, the worst of them counts; each has a limiter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Ten minutes of nothing, then as much as there is.
    Idle,
    /// All there is at once, then as much as there is again and again, at nine paces.
    Burst,
    /// One token opens a window; all there is just before a minute later, at it, and just after.
    Edge,
    /// Two threads ask for as much as there is, of one limiter and, once each, of many fresh ones.
    Race,
    /// Estimates above the use, settled after up to three minutes.
    High,
    /// The same of calls that fail: all of the estimate is returned.
    Fail,
    /// Two threads, whose calls overlap and use a part of their estimates or fail.
    RaceLate,
    /// Random asking, holding, ending and waiting; estimates at or above the use.
    Random,
    /// Estimates a quarter of the use, sixteen calls at a time, settled when they end.
    Low,
}

impl Pattern {
    /// All, in the order of the table.
    pub const ALL: [Pattern; 9] = [
        Pattern::Idle,
        Pattern::Burst,
        Pattern::Edge,
        Pattern::Race,
        Pattern::High,
        Pattern::Fail,
        Pattern::RaceLate,
        Pattern::Random,
        Pattern::Low,
    ];

    /// A few words.
    pub fn title(self) -> &'static str {
        match self {
            Pattern::Idle => "after idling",
            Pattern::Burst => "after a burst",
            Pattern::Edge => "at a window's edge",
            Pattern::Race => "two racing threads",
            Pattern::High => "late settlement, estimates too high",
            Pattern::Fail => "late failures, all returned",
            Pattern::RaceLate => "two racing threads, late settlement",
            Pattern::Random => "random, late settlement",
            Pattern::Low => "late settlement, estimates a quarter of the use, 16 calls at a time",
        }
    }

    /// Every variant, with fresh limiters on fresh time: what each admitted, and how often was asked in all.
    pub fn run<P: Peer>(self, fresh: &dyn Fn() -> (P, std::sync::Arc<Time>)) -> (Vec<Log>, u64) {
        let mut logs = Vec::new();
        let mut asked = 0;
        let mut variant = |traffic: &dyn Fn(&mut Caller<'_, P>)| {
            let (peer, time) = fresh();
            let mut caller = Caller::new(&peer, &time);
            traffic(&mut caller);
            asked += caller.asked;
            logs.push(caller.log);
        };
        match self {
            Pattern::Idle => variant(&|caller| {
                caller.time.wait_until(10 * MINUTE);
                caller.drain_until(13 * MINUTE, 100 * MILLI);
            }),
            Pattern::Burst => {
                for pace in [100, 1000, 7000, 15_000, 29_999, 30_000, 59_999, 60_000, 60_001] {
                    variant(&|caller| caller.drain_until(3 * MINUTE, pace * MILLI));
                }
            }
            Pattern::Edge => {
                for (phase, lead) in [(0, MILLI), (0, SECOND), (250, 100 * MILLI), (900, SECOND), (59_900, 10 * MILLI)]
                {
                    variant(&|caller| edge(caller, phase * MILLI, lead));
                }
            }
            Pattern::Race | Pattern::RaceLate => {
                let late = self == Pattern::RaceLate;
                for lock_step in [true, false] {
                    let (peer, time) = fresh();
                    if lock_step && time.is_scaled() {
                        continue;
                    }
                    let (log, attempts) = race(&peer, &time, late, lock_step);
                    asked += attempts;
                    logs.push(log);
                }
                let rushes = if late { 0 } else { 2000 };
                for _ in 0..rushes {
                    let (peer, time) = fresh();
                    logs.push(rush(&peer, &time));
                    asked += 2;
                }
            }
            Pattern::High | Pattern::Fail => {
                let fail = self == Pattern::Fail;
                for seconds in [1, 15, 30, 45, 59, 61, 75, 90, 119, 121] {
                    variant(&|caller| hold_once(caller, seconds * SECOND, fail));
                }
                variant(&|caller| hold_thrice(caller, fail));
                for seed in 0..4 {
                    variant(&|caller| dense(caller, seed, fail));
                }
            }
            Pattern::Random => {
                let (seeds, moves) = if fresh().1.is_scaled() { (3, 60) } else { (300, 300) };
                for seed in 0..seeds {
                    variant(&|caller| random(caller, seed, moves));
                }
            }
            Pattern::Low => {
                for seed in 0..4 {
                    variant(&|caller| low(caller, seed));
                }
            }
        }
        (logs, asked)
    }
}

/// A window that begins with its first token: all that is left of it in its last moments, and all of the next.
fn edge<P: Peer>(caller: &mut Caller<'_, P>, phase: u64, lead: u64) {
    caller.time.wait_until(phase);
    if let Some(open) = caller.ask(1, Some(1)) {
        caller.end(open);
    }
    let edge = caller.time.now() + MINUTE;
    caller.time.wait_until(edge - lead);
    caller.drain_until(edge + 2 * lead, lead / 8);
    caller.drain_until(edge + MINUTE + lead, 100 * MILLI);
}

/// All is taken and held, given back when time has refilled it, and taken again.
fn hold_once<P: Peer>(caller: &mut Caller<'_, P>, duration: u64, fail: bool) {
    let held = caller.hold_all(fail);
    caller.time.wait_until(duration);
    caller.drain();
    for open in held {
        caller.end(open);
        caller.drain();
    }
    caller.drain_until(duration + 2 * MINUTE, 100 * MILLI);
}

/// The same with what three minutes bring, given back in the fourth.
fn hold_thrice<P: Peer>(caller: &mut Caller<'_, P>, fail: bool) {
    let mut held = Vec::new();
    for minute in 0..3 {
        // A moment after the minute: a window that begins with its first token is over then.
        caller.time.wait_until(minute * (MINUTE + 10 * MILLI));
        held.append(&mut caller.hold_all(fail));
    }
    caller.time.wait_until(3 * (MINUTE + 10 * MILLI));
    caller.drain();
    for open in held {
        caller.end(open);
        caller.drain();
    }
    caller.drain_until(5 * MINUTE, 100 * MILLI);
}

/// Twenty milliseconds from call to call, estimates four times the use (or failures), up to two minutes long; five
/// minutes in all.
pub fn dense<P: Peer>(caller: &mut Caller<'_, P>, seed: u64, fail: bool) {
    let mut random = Random::new(seed);
    let estimate = LIMIT / 100;
    let mut open: Vec<(u64, Open<P::Hold>)> = Vec::new();
    let mut at = 0;
    while at < 5 * MINUTE {
        for (_, ended) in open.extract_if(.., |(end, _)| *end <= at) {
            caller.end(ended);
        }
        // When all fail nothing would be counted: half of them do.
        let failed = fail && random.below(2) == 0;
        if let Some(admitted) = caller.ask(estimate, (!failed).then_some(estimate / 4)) {
            open.push((at + random.below(2 * MINUTE), admitted));
        }
        at = (at + 20 * MILLI).max(caller.time.now());
        caller.time.wait_until(at);
    }
}

/// So many random moves.
fn random<P: Peer>(caller: &mut Caller<'_, P>, seed: u64, moves: u64) {
    let mut random = Random::new(seed);
    let mut open: VecDeque<Open<P::Hold>> = VecDeque::new();
    for _ in 0..moves {
        match random.below(8) {
            0 | 1 => caller.drain(),
            2 => {
                let fail = random.below(2) == 0;
                open.extend(caller.hold_all(fail));
            }
            3 => {
                let estimate = 1 + random.below(LIMIT);
                let used = random.below(estimate + 1);
                open.extend(caller.ask(estimate, (random.below(4) > 0).then_some(used)));
            }
            4 => {
                for _ in 0..=random.below(4) {
                    open.pop_front().into_iter().for_each(|ended| caller.end(ended));
                    open.pop_back().into_iter().for_each(|ended| caller.end(ended));
                }
            }
            5 => open.drain(..).for_each(|ended| caller.end(ended)),
            _ => {
                let now = caller.time.now();
                let second = (now / SECOND + 1) * SECOND;
                let at = match random.below(8) {
                    0 => now + 1,
                    1 => second - 1,
                    2 => second,
                    3 => now + random.below(SECOND),
                    4 => now + MINUTE - random.below(3),
                    5 => second + 59 * SECOND - random.below(3),
                    _ => now + random.below(MINUTE),
                };
                caller.time.wait_until(at.max(now));
            }
        }
    }
    open.into_iter().for_each(|ended| caller.end(ended));
}

/// Sixteen calls at a time, each begun as soon as one has ended and the limiter lets it.
fn low<P: Peer>(caller: &mut Caller<'_, P>, seed: u64) {
    let mut random = Random::new(seed);
    let mut open: Vec<(u64, Open<P::Hold>)> = Vec::new();
    let mut at = 0;
    while at < 5 * MINUTE {
        for (_, ended) in open.extract_if(.., |(end, _)| *end <= at) {
            caller.end(ended);
        }
        while open.len() < LOW_CALLS {
            let Some(admitted) = caller.ask(LOW_ESTIMATE, Some(4 * LOW_ESTIMATE)) else { break };
            open.push((at + SECOND / 2 + random.below(7 * SECOND / 2), admitted));
        }
        at = (at + 100 * MILLI).max(caller.time.now());
        caller.time.wait_until(at);
    }
}

/// Calls at a time in [`Pattern::Low`].
pub const LOW_CALLS: usize = 16;
/// Their estimate; they use four times as much.
pub const LOW_ESTIMATE: u64 = LIMIT / 400;
