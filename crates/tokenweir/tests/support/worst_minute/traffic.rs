//! One caller: asks, holds, ends, and writes down what was admitted.

use super::{LIMIT, Log, Peer, Time};

/// An admitted call that has not ended.
#[derive(Debug)]
pub struct Open<H> {
    hold: H,
    used: Option<u64>,
}

/// A caller of one peer.
#[derive(Debug)]
pub struct Caller<'a, P: Peer> {
    peer: &'a P,
    /// The time that both live on.
    pub time: &'a Time,
    /// What was admitted.
    pub log: Log,
    /// How often was asked.
    pub asked: u64,
}

impl<'a, P: Peer> Caller<'a, P> {
    /// A caller that has asked for nothing yet.
    pub fn new(peer: &'a P, time: &'a Time) -> Self {
        Caller { peer, time, log: Log::default(), asked: 0 }
    }

    /// Asks for an estimate of which the call will use so much; `None`: it will fail.
    pub fn ask(&mut self, estimate: u64, used: Option<u64>) -> Option<Open<P::Hold>> {
        self.asked += 1;
        let from = self.time.now();
        let hold = self.peer.ask(estimate, from)?;
        self.log.push(from, self.time.now(), used.unwrap_or(0));
        Some(Open { hold, used })
    }

    /// The call ends now.
    pub fn end(&self, open: Open<P::Hold>) {
        self.peer.end(open.hold, open.used, self.time.now());
    }

    /// Asks for all there is and uses it at once: for the whole limit, then for half of it, and so on down to 1 token.
    pub fn drain(&mut self) {
        for size in sizes() {
            while let Some(open) = self.ask(size, Some(size)) {
                self.end(open);
            }
        }
    }

    /// Takes all there is in the same way and holds it; the calls will use one part in a hundred, or fail.
    pub fn hold_all(&mut self, fail: bool) -> Vec<Open<P::Hold>> {
        let mut held = Vec::new();
        for size in sizes() {
            while let Some(open) = self.ask(size, (!fail).then_some(size / 100)) {
                held.push(open);
            }
        }
        held
    }

    /// Takes all there is every `step` until `end`.
    pub fn drain_until(&mut self, end: u64, step: u64) {
        let mut at = self.time.now();
        while at < end {
            self.drain();
            at = (at + step).max(self.time.now());
            self.time.wait_until(at);
        }
        self.drain();
    }
}

/// The limit and its halves, down to 1.
fn sizes() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(LIMIT), |size| (*size > 1).then_some(size / 2))
}
