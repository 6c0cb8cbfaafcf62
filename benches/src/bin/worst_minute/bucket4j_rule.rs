//! The rule of bucket4j's bucket with greedy refill, written from its documentation: a model of a Java library that does
//! not run here, not the library itself.
//!
//! It keeps the tokens, the instant of the last refill and the remainder that did not make a token. What a call did not
//! use goes back by `addTokens`, which stops at the capacity and asks nothing about the past; what it used beyond its
//! estimate is taken by `consumeIgnoringRateLimits`, below zero if need be.

use crate::worst_minute::{LIMIT, MINUTE, Peer};
use std::sync::Mutex;

#[derive(Debug)]
struct State {
    tokens: i64,
    refilled_at: u64,
    remainder: u64,
}

/// A bucket of the limit.
#[derive(Debug)]
pub struct Bucket4jRule(Mutex<State>);

impl Bucket4jRule {
    pub fn new() -> Self {
        Bucket4jRule(Mutex::new(State { tokens: LIMIT as i64, refilled_at: 0, remainder: 0 }))
    }

    /// Refills up to `now`, and gives the bucket to `act`.
    fn at<T>(&self, now: u64, act: impl FnOnce(&mut i64) -> T) -> T {
        let mut state = self.0.lock().expect("no thread panics inside");
        if let Some(elapsed) = now.checked_sub(state.refilled_at) {
            let refill = u128::from(elapsed) * u128::from(LIMIT) + u128::from(state.remainder);
            let minute = u128::from(MINUTE);
            state.tokens += (refill / minute) as i64;
            (state.refilled_at, state.remainder) = (now, (refill % minute) as u64);
        }
        if state.tokens >= LIMIT as i64 {
            (state.tokens, state.remainder) = (LIMIT as i64, 0);
        }
        act(&mut state.tokens)
    }
}

impl Peer for Bucket4jRule {
    type Hold = u64;

    fn ask(&self, estimate: u64, now: u64) -> Option<u64> {
        self.at(now, |tokens| {
            let fits = *tokens >= estimate as i64;
            fits.then(|| *tokens -= estimate as i64)
        })?;
        Some(estimate)
    }

    fn end(&self, estimate: u64, used: Option<u64>, now: u64) {
        let unused = estimate as i64 - used.unwrap_or(0) as i64;
        self.at(now, |tokens| *tokens = (*tokens + unused).min(LIMIT as i64));
    }
}
