//! Whether a recorded history can be explained by a sequential specification: the search of Wing and Gong ("Testing and
//! verifying concurrent objects", 1993), with Lowe's memory of what has been tried ("Testing for linearizability", 2017).
//!
//! A call is one of several *programs*, each a row of atomic steps that take effect one after another between the call's
//! invocation and its response. Where every program has one step this is linearizability as Herlihy and Wing define it.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// What a counter is, one step at a time.
pub trait Specification: Clone + Eq + Hash + Debug {
    type Step: Debug;

    /// The state after the step; `None` if it cannot be taken here, or would not have shown what it showed.
    fn after(&self, step: &Self::Step) -> Option<Self>;
}

/// A call of one thread, with the ticks of one clock that all threads share.
#[derive(Debug)]
pub struct Call<S> {
    pub invoked: u64,
    pub returned: u64,
    /// What it may have done: one of these rows of steps.
    pub programs: Vec<Vec<S>>,
}

/// A history: the calls of each thread, in its order.
pub type History<S> = Vec<Vec<Call<S>>>;

/// Where a thread is: the call, and if it has begun, by which program and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    call: usize,
    under_way: Option<(usize, usize)>,
}

/// How far the search got: for a history that cannot be explained, the most calls that some order explains.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Explained,
    Unexplained { calls: usize },
}

/// Looks for an order of all steps that the specification allows, from `start` on.
pub fn search<P: Specification>(start: &P, history: &History<P::Step>) -> Verdict {
    let mut tried: HashSet<(Vec<Place>, P)> = HashSet::new();
    let places = vec![Place { call: 0, under_way: None }; history.len()];
    let mut open = vec![(places, start.clone())];
    let mut best = 0;
    while let Some((places, state)) = open.pop() {
        if !tried.insert((places.clone(), state.clone())) {
            continue;
        }
        best = best.max(places.iter().map(|place| place.call).sum());
        // A step is possible unless a call that is not done had returned before this one was invoked.
        let bound = (0..history.len()).filter_map(|thread| history[thread].get(places[thread].call));
        let bound = bound.map(|call| call.returned).min();
        let Some(bound) = bound else { return Verdict::Explained };
        for (thread, place) in places.iter().enumerate() {
            let Some(call) = history[thread].get(place.call).filter(|call| call.invoked <= bound) else { continue };
            let choices: Vec<(usize, usize)> = match place.under_way {
                Some(at) => vec![at],
                None => (0..call.programs.len()).map(|program| (program, 0)).collect(),
            };
            for (program, step) in choices {
                let steps = &call.programs[program];
                let Some(next) = state.after(&steps[step]) else { continue };
                let mut places = places.clone();
                places[thread] = match step + 1 < steps.len() {
                    true => Place { call: place.call, under_way: Some((program, step + 1)) },
                    false => Place { call: place.call + 1, under_way: None },
                };
                open.push((places, next));
            }
        }
    }
    Verdict::Unexplained { calls: best }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of room: takes what fits, and shows what is taken.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Room(u64);

    #[derive(Debug, Clone)]
    enum Step {
        Took(u64),
        Refused(u64),
        Gave(u64),
        Saw(u64),
    }
    use Step::{Gave, Refused, Saw, Took};

    impl Specification for Room {
        type Step = Step;

        fn after(&self, step: &Step) -> Option<Self> {
            match *step {
                Took(n) => (self.0 + n <= 10).then_some(Room(self.0 + n)),
                Refused(n) => (self.0 + n > 10).then_some(self.clone()),
                Gave(n) => self.0.checked_sub(n).map(Room),
                Saw(used) => (self.0 == used).then_some(self.clone()),
            }
        }
    }

    fn call(invoked: u64, returned: u64, step: Step) -> Call<Step> {
        Call { invoked, returned, programs: vec![vec![step]] }
    }

    fn explained(history: History<Step>) -> bool {
        search(&Room(0), &history) == Verdict::Explained
    }

    #[test]
    fn what_overlaps_may_be_in_either_order() {
        assert!(explained(vec![vec![call(1, 4, Took(6))], vec![call(2, 3, Saw(0))]]));
        assert!(explained(vec![vec![call(1, 4, Took(6))], vec![call(2, 3, Saw(6))]]));
        assert!(explained(vec![vec![call(1, 4, Took(6))], vec![call(2, 3, Refused(6))]]));
        assert!(explained(vec![vec![call(1, 6, Took(6))], vec![call(2, 3, Saw(0)), call(4, 5, Saw(6))]]));
        assert!(explained(vec![]));
    }

    #[test]
    fn an_overdraft_is_not_explained() {
        assert!(!explained(vec![vec![call(1, 4, Took(6))], vec![call(2, 3, Took(6))]]));
        assert!(explained(vec![vec![call(1, 4, Took(6)), call(5, 8, Gave(2))], vec![call(2, 7, Took(6))]]));
        assert!(!explained(vec![vec![call(1, 2, Took(6)), call(5, 6, Gave(2))], vec![call(3, 4, Took(6))]]));
    }

    #[test]
    fn a_refusal_that_nobody_stood_by_is_not_explained() {
        assert!(!explained(vec![vec![call(1, 2, Took(4))], vec![call(3, 4, Refused(6))]]));
        assert!(!explained(vec![vec![call(3, 4, Took(6))], vec![call(1, 2, Refused(6))]]));
    }

    #[test]
    fn what_was_seen_does_not_become_unseen() {
        // Real time: the look began after the charge had returned.
        assert!(!explained(vec![vec![call(1, 2, Took(6))], vec![call(3, 4, Saw(0))]]));
        // And while the charge is under way: new, then old.
        assert!(!explained(vec![vec![call(1, 6, Took(6))], vec![call(2, 3, Saw(6)), call(4, 5, Saw(0))]]));
        // A lost update: two charges that both returned, of which one is there.
        let lost = vec![vec![call(1, 4, Took(3)), call(5, 6, Saw(3))], vec![call(2, 3, Took(3))]];
        assert_eq!(search(&Room(0), &lost), Verdict::Unexplained { calls: 2 });
    }

    #[test]
    fn a_program_of_several_steps_may_be_seen_half_done() {
        let there_and_back =
            |invoked, returned| Call { invoked, returned, programs: vec![vec![Refused(6)], vec![Took(3), Gave(3)]] };
        let look = |seen| vec![vec![there_and_back(1, 6)], vec![call(2, 3, Saw(seen)), call(4, 5, Saw(0))]];
        assert!(explained(look(0)) && explained(look(3)));
        assert!(!explained(look(6)));
        assert!(!explained(vec![vec![there_and_back(1, 2)], vec![call(3, 4, Saw(3))]]));
    }
}
