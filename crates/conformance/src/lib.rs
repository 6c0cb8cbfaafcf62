//! The same scenes for every place where tokenweir counts: whatever holds of the counters of one process holds of a region,
//! of an embedded file and of a server, by one or by several limiters that share them.
//!
//! A place is a [`Place`]; [`SCENES`] are run on it one by one. A scene that does not hold panics with what it saw. Time is the
//! place's: a manual clock where it can be set, and the server's where it cannot, so scenes pass it in seconds and take
//! nothing for exact that trickles in meanwhile.

#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a scene that does not hold ends so")]

mod changes;
mod ends;
mod limits;
mod together;

use std::time::Duration;

use tokenweir::policy::Algorithm;
use tokenweir::{Denied, Estimate, PermitId, Policy, Request, Usage};

/// Where counters are.
pub trait Place {
    /// Limiters of this policy that share counters of which nothing is used yet: one, or as many as the place can have.
    fn begin(&self, policy: &Policy) -> Vec<Box<dyn Counting>>;

    /// How many tokens a bucket may lose by rounding with each return, on the strict side.
    fn slack(&self) -> u64 {
        0
    }

    /// Lets time pass.
    fn pass(&self, time: Duration);
}

/// One limiter, whatever it counts on. What a scene does not expect is an error of the place, which panics.
pub trait Counting: Send + Sync {
    /// Decides on a request. What it is admitted is held by its id, wherever it is ended.
    fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Answer;

    /// Tokens more that a stream has brought: whether a limit has nothing left.
    fn observe(&self, permit: PermitId, input: u64, output: u64) -> bool;

    /// Settles; the tokens it came to, or `None` if it had ended before.
    fn settle(&self, permit: PermitId, usage: Usage) -> Option<(u64, u64)>;

    /// Cancels; whether it had not ended before.
    fn cancel(&self, permit: PermitId) -> bool;

    /// Ends it without a word: the estimate stands.
    fn abandon(&self, permit: PermitId);

    /// Puts another policy in force: for all limiters of the place, or `false` if only for this one.
    fn change(&self, policy: &Policy) -> bool;
}

/// What a limiter decides.
#[derive(Debug)]
pub enum Answer {
    /// The request may pass.
    Admitted(PermitId),
    /// It may not.
    Denied(Box<Denied>),
}

/// A scene, by name.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// What it shows.
    pub name: &'static str,
    /// Shows it.
    pub run: fn(&Stage<'_>),
}

macro_rules! scenes {
    ($($module:ident :: $scene:ident),* $(,)?) => {
        /// All scenes.
        pub const SCENES: &[Scene] = &[$(Scene { name: stringify!($scene), run: $module::$scene }),*];
    };
}

scenes!(
    limits::all_limits_of_a_request_are_charged_or_none,
    limits::each_value_of_a_scope_counts_for_itself,
    limits::a_limit_that_overrides_stands_in_for_the_other,
    limits::weights_and_prices_are_charged_alike_everywhere,
    limits::what_never_fits_is_said_to,
    limits::every_limit_that_refuses_is_named_with_its_wait,
    limits::a_shadow_limit_refuses_nothing,
    limits::requests_without_tokens_pass_until_the_limit_is_reached,
    limits::a_window_is_free_again_when_it_has_passed,
    limits::a_bucket_refills,
    limits::a_quota_begins_anew_with_its_period,
    ends::what_was_not_used_can_be_had_again,
    ends::what_was_used_beyond_the_estimate_is_owed,
    ends::what_is_cancelled_was_never_there,
    ends::the_estimate_of_what_ends_without_a_word_stands,
    ends::a_permit_ends_once_whoever_ends_it,
    ends::what_a_stream_brings_beyond_its_estimate_is_charged_at_once,
    ends::a_place_is_free_when_its_request_ends,
    changes::what_was_counted_stays_counted_under_another_policy,
    together::no_more_is_admitted_than_the_limit_and_every_token_is_accounted_for,
    together::no_more_are_in_flight_than_there_are_places,
);

/// Runs every scene on a place, and says which.
pub fn run_all(place: &dyn Place) {
    for scene in SCENES {
        println!("{}", scene.name);
        (scene.run)(&Stage { place });
    }
}

/// A place, and what scenes do there.
pub struct Stage<'a> {
    place: &'a dyn Place,
}

/// The limiters of a scene, taking turns.
struct Limiters {
    all: Vec<Box<dyn Counting>>,
    slack: u64,
}

impl Stage<'_> {
    #[track_caller]
    fn begin(&self, policy: &str) -> Limiters {
        let policy = Policy::from_toml(policy).unwrap_or_else(|wrong| panic!("{wrong}"));
        let is_bucket = policy.limits().iter().any(|limit| matches!(limit.algorithm(), Algorithm::Bucket { .. }));
        Limiters { all: self.place.begin(&policy), slack: if is_bucket { self.place.slack() } else { 0 } }
    }

    fn pass_seconds(&self, seconds: u64) {
        self.place.pass(Duration::from_secs(seconds));
    }
}

impl Limiters {
    /// The one whose turn it is.
    fn turn(&self, turn: usize) -> &dyn Counting {
        &*self.all[turn % self.all.len()]
    }

    /// Puts another policy in force, by the one whose turn it is if that does for all.
    #[track_caller]
    fn change(&self, turn: usize, policy: &str) {
        let policy = Policy::from_toml(policy).unwrap_or_else(|wrong| panic!("{wrong}"));
        if !self.turn(turn).change(&policy) {
            self.all.iter().for_each(|limiter| {
                limiter.change(&policy);
            });
        }
    }

    #[track_caller]
    fn admitted(&self, turn: usize, input: u64, output: u64) -> PermitId {
        match self.turn(turn).admit(&Request::new("search", "gpt-4o"), Estimate::new(input, output)) {
            Answer::Admitted(permit) => permit,
            Answer::Denied(denied) => panic!("{input} + {output} tokens are denied: {denied:?}"),
        }
    }

    #[track_caller]
    fn denied(&self, turn: usize, input: u64, output: u64) -> Denied {
        match self.turn(turn).admit(&Request::new("search", "gpt-4o"), Estimate::new(input, output)) {
            Answer::Denied(denied) => *denied,
            Answer::Admitted(_) => panic!("{input} + {output} tokens are admitted"),
        }
    }

    #[track_caller]
    fn refuses(&self, turn: usize, input: u64, output: u64) {
        drop(self.denied(turn, input, output));
    }

    /// So many tokens are left and not one more.
    #[track_caller]
    fn has_exactly(&self, turn: usize, tokens: u64) {
        self.has(turn, tokens, 1);
    }

    /// So many tokens are left after so many returns, and not one more.
    #[track_caller]
    fn has(&self, turn: usize, tokens: u64, returns: u64) {
        let slack = self.slack * returns;
        let request = Request::new("search", "gpt-4o");
        let had = (0..=slack).map(|less| tokens.saturating_sub(less)).find_map(|tokens| {
            match self.turn(turn).admit(&request, Estimate::new(tokens, 0)) {
                Answer::Admitted(permit) => Some(permit),
                Answer::Denied(_) => None,
            }
        });
        match had {
            Some(permit) => {
                self.refuses(turn + 1, 1 + slack, 0);
                assert!(self.turn(turn).cancel(permit));
            }
            None => {
                let left = self.denied(turn, tokens.max(1), 0).remaining();
                assert_eq!(tokens, 0, "tokens that ought to be left, of which there are {left:?}");
            }
        }
    }

    #[track_caller]
    fn settle(&self, turn: usize, permit: PermitId, input: u64, output: u64) {
        assert_eq!(self.turn(turn).settle(permit, Usage::new(input, output)), Some((input, output)));
    }
}

/// A limit on all tokens of all requests, of each kind that keeps what it was charged while a scene lasts.
const KINDS: [&str; 3] = [
    "algorithm = 'window'\nper = '30d'\nsub_windows = 1",
    "algorithm = 'quota'\nperiod = 'never'",
    // Nothing comes back within the time of a scene: a token in more than five minutes.
    "algorithm = 'bucket'\nper = '366d'\nburst = 1000",
];

fn of_each_kind(amount: u64, mut scene: impl FnMut(&str)) {
    for kind in KINDS {
        let kind = kind.replace("1000", &amount.to_string());
        println!("  {}", kind.replace('\n', ", "));
        scene(&format!("[[limit]]\nname = 'tokens'\nmeter = 'total'\namount = {amount}\n{kind}\n"));
    }
}
