//! What one counter of each algorithm does, one atomic step at a time.
//!
//! Bucket (at a time that stands still), quota and in-flight take each charge and return in one step. A window takes a
//! charge in two (the total, then its sub-window) and a return in two (its sub-window, then the total): what leaves with
//! the sub-window in between is what was there.

use super::search::Specification;

/// A step on one counter. `now` counts sub-windows, periods, or the time in which one token comes back.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Time is seen to have reached `now`.
    Enter { now: u64 },
    /// A charge that fits. `by` is the permit.
    Take { by: usize, n: u64, now: u64 },
    /// A charge whatever there is.
    Force { by: usize, n: u64, now: u64 },
    /// A charge does not fit.
    Full { by: usize, n: u64, now: u64 },
    /// A charge fits, and is not taken.
    Fits { n: u64, now: u64 },
    /// So much of the permit's charge is given back.
    Give { by: usize, n: u64, now: u64 },
    /// So much is in use.
    Used { by: usize, used: u64, now: u64 },
    /// A window's second step of a charge made at `now`: it goes to the newest sub-window.
    Put { by: usize, n: u64, now: u64 },
    /// A window's first step of a return.
    Empty { by: usize, n: u64, now: u64 },
    /// The first part of a look at a bucket that refills: its word.
    Word { by: usize },
    /// The second part: how far time has been seen to reach.
    Time { by: usize, now: u64 },
    /// A return finds that its charge has left.
    Gone { by: usize, now: u64 },
}

fn fits(used: u64, n: u64, amount: u64) -> bool {
    if n == 0 { used < amount } else { used + n <= amount }
}

/// A bucket of so many tokens, while time stands still.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub capacity: u64,
    pub deficit: u64,
}

impl Specification for Bucket {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        match *step {
            Step::Enter { .. } => {}
            Step::Take { n, .. } if fits(self.deficit, n, self.capacity) => next.deficit += n,
            Step::Force { n, .. } => next.deficit += n,
            Step::Full { n, .. } if !fits(self.deficit, n, self.capacity) => {}
            Step::Fits { n, .. } if fits(self.deficit, n, self.capacity) => {}
            Step::Give { n, .. } => next.deficit = self.deficit.checked_sub(n)?,
            Step::Used { used, .. } if used == self.deficit => {}
            _ => return None,
        }
        Some(next)
    }
}

/// A bucket into which one token comes back at every tick of `now`. What is in it and how far time has been seen to
/// reach are two words, and whoever looks reads one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refilling {
    capacity: u64,
    /// Tokens on the line.
    position: u64,
    reach: u64,
    /// What the calls under way have read: the position, and how far time had been seen.
    read: Vec<(usize, u64, u64)>,
}

impl Refilling {
    pub fn new(capacity: u64) -> Self {
        Refilling { capacity, position: 0, reach: 0, read: Vec::new() }
    }
}

impl Specification for Refilling {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        let read = |by: usize| self.read.iter().find(|read| read.0 == by).map(|read| (read.1, read.2));
        match *step {
            Step::Enter { now } => next.reach = self.reach.max(now),
            Step::Word { by } => {
                next.read.push((by, self.position, 0));
                next.read.sort_unstable();
            }
            Step::Time { by, now } => {
                let read = next.read.iter_mut().find(|read| read.0 == by)?;
                read.2 = now.max(self.reach);
            }
            Step::Take { by, n, .. } | Step::Force { by, n, .. } => {
                let (position, line) = read(by)?;
                let forced = matches!(step, Step::Force { .. });
                let possible = forced || fits(position.saturating_sub(line), n, self.capacity);
                if position != self.position || !possible {
                    return None;
                }
                next.position = position.max(line) + n;
                next.read.retain(|read| read.0 != by);
            }
            Step::Full { by, n, .. } => {
                let (position, line) = read(by)?;
                next.read.retain(|read| read.0 != by);
                return (!fits(position.saturating_sub(line), n, self.capacity)).then_some(next);
            }
            Step::Used { by, used, .. } => {
                let (position, line) = read(by)?;
                next.read.retain(|read| read.0 != by);
                return (used == position.saturating_sub(line)).then_some(next);
            }
            _ => return None,
        }
        Some(next)
    }
}

/// A window of so many sub-windows and the one that time is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    pub amount: u64,
    pub sub_windows: u64,
    newest: u64,
    total: u64,
    /// What is in each sub-window that still counts.
    slots: Vec<(u64, u64)>,
    /// Of each permit's charge: where it was put, and when it was made.
    put: Vec<(usize, u64, u64)>,
}

impl Window {
    pub fn new(amount: u64, sub_windows: u64) -> Self {
        Window { amount, sub_windows, newest: 0, total: 0, slots: Vec::new(), put: Vec::new() }
    }

    fn enter(&mut self, now: u64) {
        self.newest = self.newest.max(now);
        let aged = |slot: &(u64, u64), newest: u64| slot.0 + self.sub_windows < newest;
        let left: u64 = self.slots.iter().filter(|slot| aged(slot, self.newest)).map(|slot| slot.1).sum();
        self.total -= left;
        self.slots.retain(|slot| slot.0 + self.sub_windows >= self.newest);
    }

    /// What counts at `now`, without entering it.
    fn used(&self, now: u64) -> u64 {
        let now = self.newest.max(now);
        if now > self.newest + self.sub_windows {
            return 0;
        }
        let aged = self.slots.iter().filter(|slot| slot.0 + self.sub_windows < now);
        self.total - aged.map(|slot| slot.1).sum::<u64>().min(self.total)
    }
}

impl Specification for Window {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        match *step {
            Step::Enter { now } => next.enter(now),
            Step::Take { n, now, .. } => {
                next.enter(now);
                if !fits(next.total, n, self.amount) {
                    return None;
                }
                next.total += n;
            }
            Step::Force { n, now, .. } => {
                next.enter(now);
                next.total += n;
            }
            Step::Put { by, n, now } => {
                next.put.retain(|put| put.0 != by);
                next.put.push((by, self.newest, now));
                next.put.sort_unstable();
                match next.slots.iter_mut().find(|slot| slot.0 == self.newest) {
                    Some(slot) => slot.1 += n,
                    None => next.slots.push((self.newest, n)),
                }
                next.slots.sort_unstable();
            }
            Step::Full { n, now, .. } => return (!fits(self.used(now), n, self.amount)).then_some(next),
            Step::Fits { n, now } => return fits(self.used(now), n, self.amount).then_some(next),
            Step::Empty { by, n, now } => {
                next.enter(now);
                let place = self.put.iter().find(|put| put.0 == by)?.1;
                let slot = next.slots.iter_mut().find(|slot| slot.0 == place)?;
                slot.1 = slot.1.checked_sub(n)?;
                next.slots.retain(|slot| slot.1 > 0);
            }
            // It is as old as its own clock said, wherever it was put.
            Step::Gone { by, now } => {
                next.enter(now);
                let (_, place, made) = self.put.iter().find(|put| put.0 == by)?;
                let gone = *place.min(made) + self.sub_windows < next.newest;
                next.put.retain(|put| put.0 != by);
                return gone.then_some(next);
            }
            Step::Give { by, n, .. } => {
                next.total = self.total.checked_sub(n)?;
                next.put.retain(|put| put.0 != by);
            }
            Step::Used { used, now, .. } => return (used == self.used(now)).then_some(next),
            Step::Word { .. } | Step::Time { .. } => return None,
        }
        Some(next)
    }
}

/// A quota whose periods are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quota {
    pub amount: u64,
    period: u64,
    used: u64,
    /// The period that each permit's charge was made in.
    made: Vec<(usize, u64)>,
}

impl Quota {
    pub fn new(amount: u64) -> Self {
        Quota { amount, period: 0, used: 0, made: Vec::new() }
    }

    fn enter(&mut self, now: u64) {
        if now > self.period {
            (self.period, self.used) = (now, 0);
        }
    }

    fn used(&self, now: u64) -> u64 {
        if now > self.period { 0 } else { self.used }
    }
}

impl Specification for Quota {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        match *step {
            Step::Enter { now } => next.enter(now),
            Step::Take { by, n, now } => {
                next.enter(now);
                if !fits(next.used, n, self.amount) {
                    return None;
                }
                next.used += n;
                next.made.retain(|made| made.0 != by);
                next.made.push((by, next.period));
                next.made.sort_unstable();
            }
            Step::Force { n, now, .. } => {
                next.enter(now);
                next.used += n;
            }
            Step::Full { n, now, .. } => return (!fits(self.used(now), n, self.amount)).then_some(next),
            Step::Fits { n, now } => return fits(self.used(now), n, self.amount).then_some(next),
            Step::Give { by, n, now } => {
                let made = self.made.iter().find(|made| made.0 == by)?.1;
                if made == self.period && now <= made {
                    next.used = self.used.checked_sub(n)?;
                }
                next.made.retain(|made| made.0 != by);
            }
            Step::Used { used, now, .. } => return (used == self.used(now)).then_some(next),
            _ => return None,
        }
        Some(next)
    }
}

/// So many places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Places {
    pub amount: u64,
    pub taken: u64,
}

impl Specification for Places {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        match *step {
            Step::Take { .. } if self.taken < self.amount => next.taken += 1,
            Step::Full { .. } if self.taken >= self.amount => {}
            Step::Fits { .. } if self.taken < self.amount => {}
            Step::Give { .. } => next.taken = self.taken.checked_sub(1)?,
            Step::Used { used, .. } if used == self.taken => {}
            Step::Enter { .. } => {}
            _ => return None,
        }
        Some(next)
    }
}
