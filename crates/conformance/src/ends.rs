//! How requests end.

use tokenweir::{Estimate, Request, Usage};

use crate::{Answer, Stage, of_each_kind};

pub(crate) fn what_was_not_used_can_be_had_again(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        let limiters = stage.begin(policy);
        let permit = limiters.admitted(0, 400, 600);
        limiters.refuses(1, 1, 0);
        limiters.settle(1, permit, 390, 10);
        limiters.has_exactly(0, 600);
    });
}

pub(crate) fn what_was_used_beyond_the_estimate_is_owed(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        let limiters = stage.begin(policy);
        let permit = limiters.admitted(0, 100, 100);
        limiters.settle(1, permit, 100, 850);
        limiters.has_exactly(1, 50);
        let permit = limiters.admitted(1, 50, 0);
        limiters.settle(0, permit, 5000, 0);
        for turn in 0..4 {
            limiters.refuses(turn, 1, 0);
        }
    });
}

pub(crate) fn what_is_cancelled_was_never_there(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'calls'\nmeter = 'requests'\nalgorithm = 'window'\nper = '30d'\nsub_windows = 1\namount = 2\n\
         [[limit]]\nname = 'tokens'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 100\n",
    );
    for turn in 0..10 {
        let permit = limiters.admitted(turn, 50, 50);
        assert!(limiters.turn(turn + 1).cancel(permit));
    }
    limiters.admitted(0, 50, 0);
    limiters.admitted(1, 50, 0);
    limiters.refuses(0, 0, 0);
}

pub(crate) fn the_estimate_of_what_ends_without_a_word_stands(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        let limiters = stage.begin(policy);
        let permit = limiters.admitted(0, 300, 300);
        limiters.turn(0).abandon(permit);
        limiters.has_exactly(1, 400);
        // What the provider does not report is what was estimated.
        let permit = limiters.admitted(1, 100, 100);
        assert_eq!(limiters.turn(0).settle(permit, Usage::UNKNOWN), Some((100, 100)));
        limiters.has_exactly(0, 200);
    });
}

pub(crate) fn a_permit_ends_once_whoever_ends_it(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        let limiters = stage.begin(policy);
        let permit = limiters.admitted(0, 500, 0);
        limiters.settle(1, permit, 300, 0);
        for turn in 0..2 {
            assert_eq!(limiters.turn(turn).settle(permit, Usage::new(1, 0)), None);
            assert!(!limiters.turn(turn).cancel(permit));
        }
        let permit = limiters.admitted(1, 700, 0);
        assert!(limiters.turn(0).cancel(permit));
        assert_eq!(limiters.turn(1).settle(permit, Usage::new(1, 0)), None);
        limiters.has_exactly(0, 700);
    });
}

pub(crate) fn what_a_stream_brings_beyond_its_estimate_is_charged_at_once(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        let limiters = stage.begin(policy);
        let permit = limiters.admitted(0, 100, 100);
        assert!(!limiters.turn(0).observe(permit, 0, 100), "within the estimate");
        limiters.has_exactly(1, 800);
        assert!(!limiters.turn(0).observe(permit, 0, 300));
        limiters.has_exactly(1, 500);
        assert!(limiters.turn(0).observe(permit, 0, 500), "nothing is left");
        limiters.refuses(1, 1, 0);
        // It was less than had been counted.
        limiters.settle(1, permit, 100, 700);
        limiters.has_exactly(0, 200);
    });
}

pub(crate) fn a_place_is_free_when_its_request_ends(stage: &Stage<'_>) {
    let limiters =
        stage.begin("[[limit]]\nname = 'places'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 2\n");
    let first = limiters.admitted(0, 1, 1);
    let second = limiters.admitted(1, 1, 1);
    let denied = limiters.denied(0, 1, 1);
    assert_eq!((denied.status(), denied.limit()), (429, "places"));
    limiters.settle(1, first, 1, 1);
    let third = limiters.admitted(0, 1, 1);
    assert!(limiters.turn(0).cancel(second));
    let fourth = limiters.admitted(1, 1, 1);
    limiters.refuses(0, 1, 1);
    limiters.turn(0).abandon(third);
    limiters.turn(1).abandon(fourth);
    let request = Request::new("search", "gpt-4o");
    assert!(matches!(limiters.turn(0).admit(&request, Estimate::default()), Answer::Admitted(_)));
}
