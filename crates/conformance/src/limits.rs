//! What limits charge and say.

use tokenweir::{Estimate, Key, Request};

use crate::{Answer, Stage, of_each_kind};

pub(crate) fn all_limits_of_a_request_are_charged_or_none(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'wide'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 100\n\
         [[limit]]\nname = 'narrow'\nmeter = 'output'\nalgorithm = 'window'\nper = '30d'\nsub_windows = 1\namount = 10\n\
         [[limit]]\nname = 'calls'\nmeter = 'requests'\nalgorithm = 'window'\nper = '30d'\nsub_windows = 1\namount = 3\n",
    );
    // The second limit refuses: the first and the third have not been charged.
    for turn in 0..6 {
        assert_eq!(limiters.denied(turn, 10, 11).limit(), "narrow");
    }
    let all = limiters.admitted(0, 90, 10);
    assert!(limiters.turn(1).cancel(all));
    for turn in 0..3 {
        limiters.admitted(turn, 10, 2);
    }
    assert_eq!(limiters.denied(3, 1, 1).limit(), "calls");
}

pub(crate) fn each_value_of_a_scope_counts_for_itself(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'each'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 10\nscope = ['project', 'key:user']\n",
    );
    let ask = |turn: usize, project: &str, user: Option<&str>| {
        let keys: Vec<Key<'_>> = user.iter().map(|user| Key::new("user", user)).collect();
        let request = Request::new(project, "d").with_keys(&keys);
        matches!(limiters.turn(turn).admit(&request, Estimate::new(10, 0)), Answer::Admitted(_))
    };
    // Values that would read alike one after the other are different all the same.
    for (turn, (project, user)) in
        [("a", "bc"), ("ab", "c"), ("abc", "d"), ("a\0", "b"), ("a", "\0b")].iter().enumerate()
    {
        assert!(ask(turn, project, Some(user)), "{project:?} {user:?}");
        assert!(!ask(turn + 1, project, Some(user)), "{project:?} {user:?}");
    }
    // Who has no such key meets no limit.
    assert!((0..3).all(|turn| ask(turn, "a", None)));
}

pub(crate) fn a_limit_that_overrides_stands_in_for_the_other(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'all'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 10\nscope = ['project']\n\
         [[limit]]\nname = 'search'\noverrides = 'all'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 20\n\
         scope = ['project']\nmatch = { project = 'search' }\n",
    );
    limiters.admitted(0, 20, 0);
    assert_eq!(limiters.denied(1, 1, 0).limit(), "search");
    let other = Request::new("support", "gpt-4o");
    assert!(matches!(limiters.turn(1).admit(&other, Estimate::new(10, 0)), Answer::Admitted(_)));
    assert!(matches!(limiters.turn(0).admit(&other, Estimate::new(1, 0)), Answer::Denied(_)));
}

pub(crate) fn weights_and_prices_are_charged_alike_everywhere(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'weighted'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 100\n\
         weights = { input = 1000, cached_input = 100, output = 4000 }\n",
    );
    // 20 + 4 * 20, and then half of the input came from the cache: 10 + 1 + 80.
    let permit = limiters.admitted(0, 20, 20);
    limiters.refuses(1, 1, 0);
    let usage = tokenweir::Usage::new(20, 20).with_cached(10);
    assert_eq!(limiters.turn(1).settle(permit, usage), Some((20, 20)));
    limiters.has_exactly(0, 9);
}

pub(crate) fn what_never_fits_is_said_to(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        let limiters = stage.begin(policy);
        let denied = limiters.denied(0, 1001, 0);
        assert!(denied.never_fits() && denied.retry_after().is_none(), "{policy}: {denied:?}");
        limiters.has_exactly(1, 1000);
    });
}

pub(crate) fn every_limit_that_refuses_is_named_with_its_wait(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'minute'\nmeter = 'total'\nalgorithm = 'window'\nper = '1h'\nsub_windows = 1\namount = 10\n\
         [[limit]]\nname = 'calls'\nmeter = 'requests'\nalgorithm = 'window'\nper = '1h'\nsub_windows = 1\namount = 1\n\
         [[limit]]\nname = 'roomy'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 1000\n",
    );
    limiters.admitted(0, 10, 0);
    let denied = limiters.denied(1, 5, 0);
    let named: Vec<(String, u16)> =
        denied.refusals().map(|refusal| (refusal.limit.to_owned(), refusal.status)).collect();
    assert_eq!(named, [("minute".to_owned(), 429), ("calls".to_owned(), 429)]);
    // An hour, as the sub-window that it lies in goes; and twice that at most, as it came at its beginning.
    let wait = denied.retry_after().expect("it passes").as_secs();
    assert!((3500..=7200).contains(&wait), "{wait} s");
    assert_eq!(denied.status(), 429);

    let limiters =
        stage.begin("[[limit]]\nname = 'q'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'yearly'\namount = 5\n");
    limiters.admitted(0, 5, 0);
    let denied = limiters.denied(1, 1, 0);
    assert_eq!((denied.status(), denied.limit(), denied.never_fits()), (403, "q", false));
    assert!(denied.retry_after().expect("a year ends").as_secs() <= 366 * 86_400);
}

pub(crate) fn a_shadow_limit_refuses_nothing(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'shadow'\nmode = 'shadow'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 5\n\
         [[limit]]\nname = 'real'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = 'never'\namount = 20\n",
    );
    limiters.admitted(0, 10, 0);
    limiters.admitted(1, 10, 0);
    let denied = limiters.denied(0, 1, 0);
    assert_eq!(denied.refusals().map(|refusal| refusal.limit).collect::<Vec<_>>(), ["real"]);
}

pub(crate) fn requests_without_tokens_pass_until_the_limit_is_reached(stage: &Stage<'_>) {
    of_each_kind(1000, |policy| {
        // A bucket is below its burst again a moment later.
        if policy.contains("bucket") {
            return;
        }
        let limiters = stage.begin(policy);
        for turn in 0..5 {
            limiters.admitted(turn, 0, 0);
        }
        limiters.admitted(0, 1000, 0);
        limiters.refuses(1, 0, 0);
    });
}

pub(crate) fn a_window_is_free_again_when_it_has_passed(stage: &Stage<'_>) {
    let limiters = stage.begin(
        "[[limit]]\nname = 'w'\nmeter = 'total'\nalgorithm = 'window'\nper = '2s'\nsub_windows = 1\namount = 10\n",
    );
    let permit = limiters.admitted(0, 10, 0);
    limiters.settle(1, permit, 10, 0);
    limiters.refuses(1, 1, 0);
    stage.pass_seconds(4);
    limiters.has_exactly(1, 10);
}

pub(crate) fn a_bucket_refills(stage: &Stage<'_>) {
    // 2 tokens a second, 10 at most.
    let limiters = stage
        .begin("[[limit]]\nname = 'b'\nmeter = 'total'\nalgorithm = 'bucket'\nper = '1m'\namount = 120\nburst = 10\n");
    let permit = limiters.admitted(0, 10, 0);
    limiters.settle(1, permit, 10, 0);
    limiters.refuses(1, 9, 0);
    stage.pass_seconds(2);
    limiters.admitted(1, 4, 0);
    limiters.refuses(0, 6, 0);
}

pub(crate) fn a_quota_begins_anew_with_its_period(stage: &Stage<'_>) {
    let limiters = stage
        .begin("[[limit]]\nname = 'q'\nmeter = 'total'\nalgorithm = 'quota'\nperiod = { every = '2s' }\namount = 10\n");
    let permit = limiters.admitted(0, 10, 0);
    limiters.settle(1, permit, 10, 0);
    stage.pass_seconds(2);
    limiters.admitted(1, 10, 0);
}
