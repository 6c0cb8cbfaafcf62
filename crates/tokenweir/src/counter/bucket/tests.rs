//! What a bucket gives back, with a history and without, and under which rule.

use super::*;
use std::collections::BTreeMap;

/// Room for one history.
fn one_place() -> Arc<Histories> {
    Arc::new(Histories::new(1))
}

/// A bucket of 100,000 a minute.
const RATE: u64 = 100_000;
const PERIOD: u64 = 60_000_000_000;

/// The deficit after these charges (instant and amount) at `now`, by the definition.
fn exact(charges: &[(u64, u64)], now: u64) -> f64 {
    let refilled = |from: u64, to: u64| (to - from) as f64 * RATE as f64 / PERIOD as f64;
    let (mut deficit, mut last) = (0.0, 0);
    for (at, amount) in charges {
        deficit = f64::max(deficit - refilled(last, *at), 0.0) + *amount as f64;
        last = *at;
    }
    f64::max(deficit - refilled(last, now), 0.0)
}

/// Charges and returns at random; in the middle `midway` happens. Says how much the definition would have given back, and
/// how much was: it is never more, after any of them.
fn returned(histories: &Arc<Histories>, mut midway: impl FnMut()) -> (f64, u64) {
    let rule = BucketRule::new(RATE, RATE, PERIOD, 0, histories.clone());
    let bucket = Bucket::new(&rule);
    let mut seed = 12_345u64;
    let mut below = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    let mut charges: Vec<(u64, u64)> = Vec::new();
    let mut due: BTreeMap<(u64, usize), (u64, u64, u64)> = BTreeMap::new();
    let (mut now, mut wanted, mut got) = (0, 0.0, 0);
    for step in 0..1500 {
        if step == 750 {
            midway();
        }
        now += below(200_000_000);
        while let Some(first) = due.first_entry().filter(|first| first.key().0 <= now) {
            let ((at, index), made) = first.remove_entry();
            let back = made.0 * 2 / 3;
            let before = exact(&charges, at);
            charges[index].1 -= back;
            wanted += before - exact(&charges, at);
            got += bucket.give_back(&rule, made, back, at).unwrap();
            let deficit = bucket.deficit(&rule, at).unwrap();
            assert!(deficit as f64 >= exact(&charges, at) - 1.0, "given back too much at {at}");
        }
        let n = 300 + below(2000);
        if let Ok(Charged::Taken(receipt)) = bucket.charge(&rule, n, now) {
            charges.push((now, n));
            due.insert((now + below(30_000_000_000), charges.len() - 1), (n, receipt, charges[charges.len() - 1].0));
        }
    }
    assert!(wanted > 100_000.0);
    (wanted, got)
}

/// From the first instant of the clock on, where every word of the floors is still as it was made.
#[test]
fn early_and_late_returns_give_back_nearly_all_and_never_more() {
    let (wanted, got) = returned(&one_place(), || {});
    assert!(got as f64 >= 0.98 * wanted, "{got} of {wanted}");
}

/// Such a load leaves little for what one charge alone warrants, and nothing more is given back.
#[test]
fn without_a_history_something_is_given_back_and_never_more() {
    let histories = Arc::new(Histories::new(0));
    let (wanted, got) = returned(&histories, || {});
    assert!(histories.refused() && got > 0 && (got as f64) < 0.5 * wanted, "{got} of {wanted}");
}

#[test]
fn a_history_that_begins_late_gives_back_more_from_then_on_and_never_too_much() {
    let histories = one_place();
    let mut taken = histories.place();
    let (wanted, got) = returned(&histories, || taken = None);
    let (_, without) = returned(&Arc::new(Histories::new(0)), || {});
    assert!(got > 2 * without && (got as f64) < wanted, "{got} of {wanted}, {without} without");
    assert_eq!(histories.kept(), 0, "its place is free again");
}

/// One token a nanosecond: what the last charge found was 2, because another's return went unseen.
#[test]
fn a_history_judges_nothing_that_was_charged_before_it_once_returns_may_have_gone_unseen() {
    let histories = one_place();
    let rule = BucketRule::new(10, 1_000_000_000, 1_000_000_000, 0, histories.clone());
    let bucket = Bucket::new(&rule);
    let charge = |at: u64| match bucket.charge(&rule, 5, at) {
        Ok(Charged::Taken(receipt)) => (5, receipt, at),
        other => panic!("{other:?}"),
    };
    let taken = histories.place();
    let (first, second) = (charge(0), charge(0));
    assert_eq!(bucket.give_back(&rule, first, 5, 0), Ok(5), "its own charge warrants it");
    drop(taken);
    charge(3);
    assert_eq!(histories.kept(), 1, "a bucket in use takes the place that is free");
    assert_eq!(bucket.give_back(&rule, second, 5, 3), Ok(2));
}

#[test]
fn no_more_buckets_keep_a_history_than_there_is_room_for() {
    let histories = Arc::new(Histories::new(3));
    let rule = BucketRule::new(RATE, RATE, PERIOD, 0, histories.clone());
    let mut buckets: Vec<Bucket> = (0..8).map(|_| Bucket::new(&rule)).collect();
    for (at, bucket) in buckets.iter().enumerate() {
        for _ in 0..3 {
            assert!(matches!(bucket.charge(&rule, RATE / 4, 0), Ok(Charged::Taken(_))), "with a history or without");
        }
        assert_eq!(bucket.word().load(Relaxed) & FLOORS != 0, at < 3);
        let mut ready = Ready::default();
        assert_eq!(bucket.look(&rule, 1, 0, &mut ready), Look::Fits, "the quick way is open to either");
    }
    assert_eq!(histories.kept(), 3);
    buckets.drain(1..3);
    assert_eq!(histories.kept(), 1, "a history goes with its bucket");
    assert!(matches!(buckets[4].charge(&rule, 1, 0), Ok(Charged::Taken(_))));
    assert_eq!(histories.kept(), 2, "and makes room for another's");
}

/// A limit of which so many changes are made, one after the other.
fn changes(count: u64) -> Vec<BucketRule> {
    let mut rules = vec![BucketRule::new(1000, RATE, PERIOD, 0, one_place())];
    for change in 1..=count {
        rules.push(rules[rules.len() - 1].changed(1000 + change % 2, RATE, change));
    }
    rules
}

/// A thread that stood still while the policy was changed several times holds a rule that is far behind. The epoch
/// alone, which comes round again, does not tell it from one that is ahead.
#[test]
fn a_rule_that_is_far_behind_moves_nothing() {
    let rules = changes(20);
    let bucket = Bucket::new(&rules[0]);
    for (newest, rule) in rules.iter().enumerate() {
        rule.put_in_force();
        bucket.charge(rule, 10, newest as u64).unwrap();
        let word = bucket.word().load(Relaxed);
        for behind in (1..EPOCHS as usize).filter(|behind| *behind <= newest) {
            assert_eq!(bucket.fits(&rules[newest - behind], 1, 0), Err(Stale), "{behind} behind {newest}");
            assert_eq!(bucket.word().load(Relaxed), word);
        }
    }
}

/// A counter that such a thread made comes under the newest rule all the same, whoever finds it.
#[test]
fn a_counter_made_under_a_rule_that_is_far_behind_comes_under_the_newest() {
    for behind in 0..EPOCHS as usize {
        let rules = changes(20);
        rules.iter().for_each(BucketRule::put_in_force);
        let bucket = Bucket::new(&rules[20 - behind]);
        assert_eq!(bucket.fits(&rules[20], 900, 20), Ok(true), "{behind} behind");
        assert_eq!(bucket.fits(&rules[20], 1001, 20), Ok(false));
    }
}
