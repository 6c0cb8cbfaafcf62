//! The fullest minute under every pattern, late settlement and two racing threads included: a window never holds more
//! than its amount, a bucket never more than its burst and a minute's refill.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use support::worst_minute::library::Tokenweir;
use support::worst_minute::pattern::{LOW_CALLS, LOW_ESTIMATE, Pattern};
use support::worst_minute::{LIMIT, Log, MINUTE, SECOND, Time};

/// Runs a pattern, and holds `bound` against the fullest interval of each of several lengths. All that was admitted.
fn check(
    pattern: Pattern,
    fresh: &dyn Fn(&Arc<Time>) -> Tokenweir,
    lengths: &[u64],
    bound: &dyn Fn(u64) -> u64,
) -> Vec<Log> {
    let (logs, asked) = pattern.run(&|| {
        let time = Arc::new(Time::stepped());
        (fresh(&time), time)
    });
    println!("{pattern:?}: asked {asked} times");
    assert!(logs.iter().any(|log| log.total() > LIMIT), "{pattern:?}: next to nothing was admitted");
    for length in lengths {
        let worst = logs.iter().map(|log| log.worst(*length)).max().unwrap_or(0);
        assert!(worst <= bound(*length), "{pattern:?}: {worst} tokens in {length} ns, {} allowed", bound(*length));
    }
    logs
}

/// What estimates that are too low may add: the excess of what is in flight.
fn excess(pattern: Pattern) -> u64 {
    if pattern == Pattern::Low { LOW_CALLS as u64 * 3 * LOW_ESTIMATE } else { 0 }
}

#[test]
fn a_window_holds_no_more_than_its_amount() {
    for pattern in Pattern::ALL {
        check(pattern, &Tokenweir::window, &[0, SECOND, MINUTE], &|_| LIMIT + excess(pattern));
    }
}

fn a_bucket_holds_no_more_than_its_burst_and_refill(burst: u64) {
    let lengths = [0, SECOND, 10 * SECOND, MINUTE, 2 * MINUTE];
    for pattern in Pattern::ALL {
        let refill = |length: u64| (u128::from(LIMIT) * u128::from(length) / u128::from(MINUTE)) as u64;
        let bound = |length: u64| burst + refill(length) + excess(pattern);
        let logs = check(pattern, &|time| Tokenweir::bucket(time, burst), &lengths, &bound);
        // And every interval there is, stretched by one unit of the bucket's line: at most 6 ns.
        let ahead: Vec<u64> = logs.iter().filter_map(|log| log.ahead(burst + excess(pattern), LIMIT, MINUTE)).collect();
        assert!(!ahead.is_empty() && ahead.iter().all(|ahead| *ahead <= 6), "{pattern:?}: {ahead:?} ns ahead");
    }
}

#[test]
fn a_bucket_of_the_limit_holds_no_more_than_twice_the_limit() {
    a_bucket_holds_no_more_than_its_burst_and_refill(LIMIT);
}

#[test]
fn a_bucket_of_a_quarter_holds_no_more_than_five_quarters() {
    a_bucket_holds_no_more_than_its_burst_and_refill(LIMIT / 4);
}

/// A quota counts calendar periods: two of them may meet in one minute, and no more.
#[test]
fn a_quota_holds_no_more_than_two_periods() {
    for pattern in Pattern::ALL {
        check(pattern, &Tokenweir::quota, &[MINUTE], &|_| 2 * (LIMIT + excess(pattern)));
    }
}

/// The measure itself must be able to find an overfull minute.
#[test]
fn the_fullest_interval_is_found() {
    let mut log = Log::default();
    for (at, tokens) in [(0, 5), (10, 7), (70, 2), (71, 4)] {
        log.push(at, at, tokens);
    }
    assert_eq!([0, 1, 9, 10, 60, 61, 70, 71].map(|length| log.worst(length)), [7, 7, 7, 12, 12, 13, 14, 18]);
    assert_eq!(log.ahead(11, 1, 1), Some(0));
    // 18 tokens in 71 of time, which refills 0.71.
    assert_eq!(log.ahead(17, 1, 100), Some(29));
    assert_eq!(log.ahead(18, 1, 100), Some(0));
    // Decided somewhere between 9 and 12: no interval of 1 is sure to hold it.
    log.push(9, 12, 100);
    assert_eq!([1, 2, 3].map(|length| log.worst(length)), [7, 7, 107]);
    assert_eq!(log.ahead(18, 1, 100), None);
}
