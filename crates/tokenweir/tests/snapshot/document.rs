//! What is written, what is read, and what is made of a document that does not go with the policy.

use super::stage::{CALLERS, LIMITS, SECOND, START, admit, builder, carried, fits, limiter, policy};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenweir::{Estimate, LeftOutReason, Limiter, Now, Request, Snapshot, Usage, UsageFilter};

const HERE: Now = Now::new(0, START);

/// A limiter in which every kind of counter has something.
fn busy() -> Limiter {
    let limiter = limiter(&policy(&LIMITS), HERE);
    let id = admit(&limiter, CALLERS[1], 300, HERE).expect("it fits");
    limiter.settle_at(id, Usage::new(250, 0), HERE).expect("it is open");
    admit(&limiter, CALLERS[0], 100, Now::new(SECOND, START + SECOND as i64)).expect("it fits");
    limiter
}

fn value(limiter: &Limiter) -> Value {
    let snapshot = limiter.snapshot_at(Now::new(2 * SECOND, START + 2 * SECOND as i64));
    serde_json::to_value(carried(&snapshot)).expect("it can be written")
}

fn refused(document: Value) -> String {
    serde_json::from_value::<Snapshot>(document).expect_err("it is not to be read").to_string()
}

/// Version 1 is read for as long as it is said to be: what it looks like does not change.
#[test]
fn the_first_version_is_what_it_was() {
    let second = SECOND as i64;
    let wanted = json!({
        "version": 1,
        "taken_at": START + 2 * second,
        "limits": [
            { "name": "tokens", "meter": "total", "scope": ["project"], "algorithm": { "bucket": {
                "per": 60_000_000_000_u64, "amount": 6000, "burst": 500, "unit": 20,
                // 250 at 0, of which 150 are missing at 1, and 100 more; of these 150 are missing at 2.
                "counters": [{ "key": ["a"], "settled": 350, "state": { "balance": 350 << 20 } }],
            } } },
            { "name": "requests", "meter": "requests", "scope": [], "algorithm": { "bucket": {
                "per": 60_000_000_000_u64, "amount": 100, "burst": 7, "unit": 26,
                "counters": [{ "key": [], "settled": 2, "state": { "balance": 7 << 26 } }],
            } } },
            { "name": "window", "meter": "total", "scope": ["project", "key:user"], "algorithm": { "window": {
                "per": 10_000_000_000_u64, "sub_windows": 5, "counters": [
                    { "key": ["a", { "hex": "ff00" }], "settled": 250,
                      "state": { "counted": [[START + 12 * second, 250]] } },
                    { "key": ["a", "u"], "settled": 100, "state": { "counted": [[START + 12 * second, 100]] } },
                ],
            } } },
            { "name": "one", "meter": "requests", "scope": [], "algorithm": { "window": {
                "per": 6_000_000_000_u64, "sub_windows": 1,
                "counters": [{ "key": [], "settled": 2, "state": { "counted": [[START + 12 * second, 2]] } }],
            } } },
            { "name": "quota", "meter": "total", "scope": ["project"], "algorithm": { "quota": {
                "period": "every 30s",
                "counters": [{ "key": ["a"], "settled": 350, "state": { "period_start": START, "used": 350 } }],
            } } },
            { "name": "places", "meter": "in_flight", "scope": ["deployment"], "algorithm": { "in_flight": {
                "counters": [
                    { "key": ["e"], "settled": 1, "state": { "until": [] } },
                    { "key": ["d"], "settled": 0, "state": { "until": [START + 6 * second] } },
                ],
            } } },
        ],
    });
    assert_eq!(value(&busy()), wanted);
}

#[test]
fn keys_of_any_bytes_find_their_counters_again() {
    let before = limiter(&policy(&LIMITS[2..3]), HERE);
    for (at, caller) in CALLERS.into_iter().enumerate() {
        admit(&before, caller, 100 + at as u64, HERE).expect("it fits");
    }
    let after = limiter(&policy(&LIMITS[2..3]), Now::new(100 * SECOND, START));
    assert_eq!(after.restore_at(&carried(&before.snapshot_at(HERE)), Now::new(100 * SECOND, START)).counters, 4);
    let here = Now::new(100 * SECOND, START);
    for (at, caller) in CALLERS.into_iter().enumerate() {
        let left = 700 - at as u64;
        assert!(fits(&after, caller, left, here) && !fits(&after, caller, left + 1, here), "{caller:?}");
    }
}

#[test]
fn what_cannot_be_read_says_what_and_what_to_do() {
    let with = |change: fn(&mut Value)| {
        let mut document = value(&busy());
        change(&mut document);
        refused(document)
    };
    let document = serde_json::to_string(&busy().snapshot_at(HERE)).expect("it can be written");
    let newer = document.replacen("\"version\":1,", "\"version\":2,\"something\":\"new\",", 1);
    let newer = serde_json::from_str::<Snapshot>(&newer).expect_err("it is not known").to_string();
    assert!(newer.contains("version 2") && newer.contains("reads version 1"), "{newer}");
    let unknown = with(|document| document["something"] = json!("new"));
    assert!(unknown.contains("unknown field `something`"), "{unknown}");
    let long = with(|document| {
        document["limits"][0]["algorithm"]["bucket"]["counters"][0]["key"] = json!(["a", "b"]);
    });
    assert!(long.contains("limit \"tokens\", counter 0") && long.contains("2 parts"), "{long}");
    let empty = with(|document| document["limits"][0]["algorithm"]["bucket"]["counters"][0]["key"] = json!([""]));
    assert!(empty.contains("a part is empty"), "{empty}");
    let hex = with(|document| {
        document["limits"][0]["algorithm"]["bucket"]["counters"][0]["key"] = json!([{"hex": "0x"}]);
    });
    assert!(hex.contains("\"0x\" is not pairs of hexadecimal digits"), "{hex}");
    let balance = with(|document| {
        document["limits"][0]["algorithm"]["bucket"]["counters"][0]["state"]["balance"] = json!(1.5);
    });
    assert!(balance.contains("1.5"), "{balance}");
}

/// The limits as they are, but for one line of one of them.
fn changed(limit: usize, from: &str, to: &str) -> Limiter {
    assert!(LIMITS[limit].contains(from));
    let line = LIMITS[limit].replace(from, to);
    let limits: Vec<&str> =
        LIMITS.iter().enumerate().map(|(at, as_it_was)| if at == limit { &line } else { *as_it_was }).collect();
    limiter(&policy(&limits), Now::new(100 * SECOND, START))
}

#[test]
fn a_limit_that_counts_something_else_begins_anew_and_is_reported() {
    let snapshot = carried(&busy().snapshot_at(HERE));
    let changes = [
        (0, "per = '1m'", "per = '2m'", LeftOutReason::Changed),
        (0, "scope = ['project']", "scope = ['deployment']", LeftOutReason::Changed),
        (0, "meter = 'total'", "meter = 'input'", LeftOutReason::Changed),
        (0, "name = 'tokens'", "name = 'token'", LeftOutReason::NoSuchLimit),
        (2, "sub_windows = 5", "sub_windows = 10", LeftOutReason::Changed),
        (2, "per = '10s'", "per = '20s'", LeftOutReason::Changed),
        (4, "every = '30s'", "every = '31s'", LeftOutReason::Changed),
        (
            4,
            "algorithm = 'quota'\namount = 2000\nperiod = { every = '30s' }",
            "algorithm = 'bucket'\namount = 2000\nper = '30s'",
            LeftOutReason::Changed,
        ),
    ];
    for (limit, from, to, reason) in changes {
        let after = changed(limit, from, to);
        let restored = after.restore_at(&snapshot, Now::new(100 * SECOND, START));
        let [left_out] = &restored.left_out[..] else { panic!("{to}: {restored:?}") };
        assert!(LIMITS[limit].contains(&format!("name = '{}'", left_out.limit)), "{to}: {left_out:?}");
        assert_eq!((left_out.reason, restored.counters + left_out.counters), (reason, snapshot.counters()), "{to}");
        let books =
            after.usage_at(&UsageFilter { limit: Some(left_out.limit.clone()), ..UsageFilter::default() }, HERE);
        assert!(books.is_empty(), "{to}: {books:?}");
    }
}

#[test]
fn no_room_is_reported_and_what_there_was_room_for_is_taken_up() {
    let (snapshot, here) = (carried(&busy().snapshot_at(HERE)), Now::new(100 * SECOND, START));
    let after = builder(&policy(&LIMITS), here).max_counters(3).build();
    let restored = after.restore_at(&snapshot, here);
    assert_eq!(restored.counters, 3);
    assert!(restored.left_out.iter().all(|left_out| left_out.reason == LeftOutReason::NoRoom), "{restored:?}");
    assert_eq!(restored.left_out.iter().map(|left_out| left_out.counters).sum::<usize>(), snapshot.counters() - 3);
    // A permit that is in the way of the one that is to hold a place.
    let crowded = builder(&policy(&LIMITS), here).max_permits(1).build();
    admit(&crowded, CALLERS[2], 1, here).expect("it fits");
    let restored = crowded.restore_at(&snapshot, here);
    assert_eq!(restored.left_out.len(), 1, "{restored:?}");
    assert_eq!((&*restored.left_out[0].limit, restored.left_out[0].counters), ("places", 1));
}

/// Amounts and bursts change without starting a counter anew: a balance is kept, clamped to a lower brim, and not topped
/// up by a higher one; while nobody ran, the slower refill and the lower brim count.
#[test]
fn a_bucket_whose_limit_has_changed_keeps_its_balance() {
    let limit = |amount: u64, burst: u64| {
        let (amount, burst) = (format!("amount = {amount}"), format!("burst = {burst}"));
        policy(&[&LIMITS[0].replace("amount = 6000", &amount).replace("burst = 500", &burst)])
    };
    // From 100 of 500, at 100 tokens a second: after so many seconds under another limit, what is left.
    let cases = [
        (6000, 500, 0, 100),
        (6000, 500, 2, 300),
        (6000, 900, 0, 100),
        (6000, 900, 3, 400),
        (6000, 900, 60, 500),
        (6000, 50, 0, 50),
        (6000, 200, 60, 200),
        (12_000, 500, 2, 300),
        (600, 500, 2, 120),
        (6_000_000_000, 500, 2, 300),
        (60, 1 << 40, 2, 102),
    ];
    for (amount, burst, seconds, left) in cases {
        let before = limiter(&limit(6000, 500), HERE);
        admit(&before, CALLERS[0], 400, HERE).expect("it fits");
        let here = Now::new(7, START + (seconds * SECOND) as i64);
        let after = limiter(&limit(amount, burst), here);
        let restored = after.restore_at(&carried(&before.snapshot_at(HERE)), here);
        assert_eq!((restored.counters, restored.left_out.len()), (1, 0));
        let what = format!("{amount}, {burst} after {seconds} s");
        assert!(!fits(&after, CALLERS[0], left + 1, here), "{what}: more than {left}");
        // A unit of the line is missing: a whole token where the line has no finer ones.
        assert!(fits(&after, CALLERS[0], left - 1, here), "{what}: less than {left}");
    }
}

#[test]
fn lower_amounts_put_the_others_in_debt() {
    let snapshot = carried(&busy().snapshot_at(Now::new(SECOND, START + SECOND as i64)));
    let here = Now::new(100 * SECOND, START + SECOND as i64);
    for (limit, from, to, caller) in [
        (2, "amount = 800", "amount = 200", CALLERS[1]),
        (4, "amount = 2000", "amount = 300", CALLERS[0]),
        (5, "amount = 3", "amount = 1", CALLERS[0]),
    ] {
        let after = changed(limit, from, to);
        assert_eq!(after.restore_at(&snapshot, here).left_out, []);
        assert!(!fits(&after, caller, 1, here), "{to}");
    }
}

#[test]
fn shadow_limits_are_carried_too() {
    let shadow = format!("{}\nmode = 'shadow'", LIMITS[4]);
    let before = limiter(&policy(&[&shadow]), HERE);
    admit(&before, CALLERS[0], 1900, HERE).expect("it fits");
    let after = limiter(&policy(&LIMITS[4..5]), HERE);
    assert_eq!(after.restore_at(&carried(&before.snapshot_at(HERE)), HERE).counters, 1);
    assert!(!fits(&after, CALLERS[0], 101, HERE) && fits(&after, CALLERS[0], 100, HERE));
}

#[test]
fn nothing_is_written_of_counters_as_good_as_new() {
    let before = limiter(&policy(&LIMITS), HERE);
    for caller in CALLERS {
        before.cancel_at(admit(&before, caller, 100, HERE).expect("it fits"), HERE).expect("it is open");
    }
    let request = Request::new("p", "d");
    before.peek_at(&request, Estimate::new(1, 0), HERE).expect("it resolves");
    // But for the quota's newest period.
    assert_eq!(before.snapshot_at(HERE).counters(), 2);
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -10i64..10, Just(START), START - 100..START + 100]
}

proptest! {
    /// Whatever numbers are in it, a document that can be read is taken up without a panic, and nothing gets more room.
    #[test]
    fn any_numbers_are_taken_up(
        numbers in prop::collection::vec(any_number(), 40),
        units in any::<u32>(),
        now in (prop_oneof![0u64..100 * SECOND, any::<u64>()], any_number()),
    ) {
        fn scramble(value: &mut Value, numbers: &mut impl Iterator<Item = i64>) {
            match value {
                Value::Number(number) => {
                    let next = numbers.next().unwrap_or(7);
                    *value = if number.is_u64() { json!(next.unsigned_abs()) } else { json!(next) };
                }
                Value::Array(values) => values.iter_mut().for_each(|value| scramble(value, numbers)),
                Value::Object(fields) => {
                    let keep = ["version", "unit", "per", "sub_windows"];
                    fields.iter_mut().filter(|(name, _)| !keep.contains(&&***name)).for_each(|(_, value)| scramble(value, numbers));
                }
                _ => {}
            }
        }
        let mut document = value(&busy());
        scramble(&mut document, &mut numbers.into_iter().cycle());
        document["limits"][0]["algorithm"]["bucket"]["unit"] = json!(units);
        // Some are above what the field can hold: errors, then.
        if let Ok(snapshot) = serde_json::from_value::<Snapshot>(document) {
            let now = Now::new(now.0, now.1);
            let after = limiter(&policy(&LIMITS), now);
            after.restore_at(&snapshot, now);
            after.restore_at(&snapshot, now);
            for (limit, amount) in [("tokens", 500), ("window", 800), ("quota", 2000), ("places", 3)] {
                let filter = UsageFilter { limit: Some(limit.to_owned()), ..UsageFilter::default() };
                for counter in after.usage_at(&filter, now) {
                    prop_assert!(counter.remaining <= amount);
                }
            }
            for caller in CALLERS {
                admit(&after, caller, 1, now);
            }
            carried(&after.snapshot_at(now));
            after.sweep_at(Now::new(u64::MAX, i64::MAX));
        }
    }
}
