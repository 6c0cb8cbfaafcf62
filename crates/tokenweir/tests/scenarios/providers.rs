//! How the services behind a gateway count, as limits of the engine: what a host puts before a deployment so as not to
//! run into them.

use crate::{MILLISECOND, ask, left, limiter, ms, of, s};
use tokenweir::{Decision, Estimate, Now, Policy, Request, Usage};

#[test]
fn e_14_azure_openai_pre_charge() {
    // Charged by the estimate at arrival and never given back: the usage is left unknown. The service's count begins
    // anew each minute; a sliding minute is never more generous.
    let minute = || of("meter = \"total\"\nalgorithm = \"window\"\namount = 10_000\nper = \"1m\"");
    let calls = |limiter: &tokenweir::Limiter, estimate: Estimate| {
        let mut admitted = 0;
        while let Ok(permit) = ask(limiter, estimate, s(admitted)) {
            limiter.settle_at(permit, Usage::UNKNOWN, s(admitted)).expect("settled");
            admitted += 1;
        }
        admitted
    };
    let limiter = minute();
    assert_eq!(calls(&limiter, Estimate::new(100, 1000)), 9);
    assert_eq!(left(&limiter, s(9)), 100, "9,900 are charged, though 9 x 150 may have been used");
    // Each step of best_of multiplies the output: 100 + 2 x 1,000 \[U\].
    assert_eq!(calls(&minute(), Estimate::new(100, 2 * 1000)), 4);
    // OpenAI's own count of the same request is the larger of the two: max(1,000, 100).
    let larger = |bound: u64, guess: u64| bound.max(guess);
    assert_eq!(calls(&minute(), Estimate::new(0, larger(1000, 100))), 10);
}

#[test]
fn e_15_rpm_slices() {
    // The service cuts time into slices; a sliding one is never more generous. It has slid on 20 ms (a sub-window) later.
    let slices = |per: u64, amount: u64| {
        let limiter = of(&format!(
            "meter = \"requests\"\nalgorithm = \"window\"\namount = {amount}\nper = \"{per}s\"\nsub_windows = {}",
            per * 50
        ));
        let count = |from: Now| {
            let passed = (0..amount).filter(|_| ask(&limiter, Estimate::default(), from).is_ok()).count() as u64;
            let late = Now::at(from.mono + (per * 1000 - 25) * MILLISECOND);
            let (status, _) = ask(&limiter, Estimate::default(), late).expect_err("one more in the same slice");
            assert_eq!(status, 429);
            passed
        };
        (count(s(0)), count(ms(per * 1000 + 20)))
    };
    // 600 requests per minute are 10 in a second or 100 in ten: the next slice passes again.
    assert_eq!(slices(1, 600 / 60), (10, 10));
    assert_eq!(slices(10, 600 / 6), (100, 100));
    // 240 units of an older chat model: 6 requests per 1,000 tokens per minute, 24 a second.
    let units = 240;
    assert_eq!((units * 1000, units * 6, units * 6 / 60), (240_000, 1440, 24));
    assert_eq!(slices(1, units * 6 / 60), (24, 24));
}

#[test]
fn e_16_ptu_sizing_and_leaky_bucket() {
    // Input tokens per minute as gpt-5.2 counts them: 8 for an output token; 3,400 for each unit; sold by 50.
    let (requests, input, output, ratio) = (1000u64, 100, 50, 8);
    let converted = requests * input + ratio * requests * output;
    assert_eq!(converted, 500_000);
    let units = converted as f64 / 3400.0;
    assert!((units - 147.06).abs() < 0.005);
    let sold = converted.div_ceil(3400).next_multiple_of(50);
    assert_eq!(sold, 150);
    // What they drain, as a bucket with the weight of the output: the estimate is put in, the difference comes out or is
    // added at completion, and above the brim nothing is taken.
    let limiter = of(&format!(
        "meter = \"total\"\nalgorithm = \"bucket\"\namount = {}\nper = \"1m\"\nweights = {{ output = {}, cached_input = 0 }}",
        sold * 3400,
        ratio * 1000
    ));
    for call in 0..1000 {
        let permit = ask(&limiter, Estimate::new(100, 50), ms(call * 60)).expect("a thousand a minute fit");
        limiter.settle_at(permit, Usage::new(100, 50), ms(call * 60)).expect("settled");
    }
    // A burst beyond: over-estimates are made good at completion.
    let now = s(60);
    let full = left(&limiter, now);
    let permit = ask(&limiter, Estimate::new(100, 5000), now).expect("there is room");
    assert_eq!(left(&limiter, now), full - 100 - 8 * 5000);
    limiter.settle_at(permit, Usage::new(100, 50).with_cached(60), now).expect("settled");
    assert_eq!(left(&limiter, now), full - 40 - 8 * 50);
}

#[test]
fn e_17_anthropic_counting() {
    let policy = "[[limit]]\nname = \"input\"\nmeter = \"input\"\nalgorithm = \"bucket\"\namount = 2_000_000\nper = \"1m\"\n\
                  weights = { cached_input = 0 }\n\
                  [[limit]]\nname = \"output\"\nmeter = \"output\"\nalgorithm = \"bucket\"\namount = 100_000\nper = \"1m\"\n";
    let limiter = limiter(Policy::from_toml(policy).expect("a policy"));
    let now = s(0);
    let used = || {
        let peek = limiter.peek_at(&Request::new("p", "d"), Estimate::default(), now).expect("a request");
        (2_000_000 - peek.limits[0].remaining, 100_000 - peek.limits[1].remaining)
    };
    // 200,000 read from the cache and 50 new ones are charged 50. The bound of 64,000 on the output is charged nothing:
    // what is generated counts, as it is generated.
    let permit = ask(&limiter, Estimate::new(50, 0), now).expect("admitted");
    assert_eq!(used(), (50, 0));
    limiter.observe_at(permit, 0, 120, now).expect("observed");
    assert_eq!(used(), (50, 120));
    limiter.settle_at(permit, Usage::new(200_050, 200).with_cached(200_000), now).expect("settled");
    assert_eq!(used(), (50, 200));
    // Tokens written to the cache are input like any other.
    let permit = ask(&limiter, Estimate::default(), now).expect("admitted");
    limiter.settle_at(permit, Usage::new(30 + 20, 0), now).expect("settled");
    assert_eq!(used(), (100, 200));
    // At four of five from the cache, 2,000,000 counted are 10,000,000 in all.
    let permit = ask(&limiter, Estimate::default(), now).expect("admitted");
    limiter.settle_at(permit, Usage::new(10_000_000, 0).with_cached(8_000_000), now).expect("settled");
    assert_eq!(used().0, 2_000_100);
    let Decision::Denied(denied) =
        limiter.admit_at(&Request::new("p", "d"), Estimate::default(), now).expect("decided")
    else {
        panic!("admitted")
    };
    assert_eq!(denied.limit(), "input");
}
