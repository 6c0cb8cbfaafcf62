//! What permits add up to.

use crate::foundry::{on, tokens};
use crate::{Service, ask, left, of, s};
use tokenweir::apim::Profile;
use tokenweir::{Error, Estimate, Usage, UsageFilter};

#[test]
fn e_10_reconcile_arithmetic() {
    let limiter = of("meter = \"total\"\nalgorithm = \"quota\"\namount = 1000\nperiod = \"never\"");
    let now = s(0);
    let admit = |tokens| ask(&limiter, Estimate::new(tokens, 0), now).expect("admitted");
    let used = || 1000 - left(&limiter, now);
    let permit = admit(120);
    assert_eq!(left(&limiter, now), 880);
    limiter.settle_at(permit, Usage::new(100, 50), now).expect("settled");
    assert_eq!(used(), 150);
    let permit = admit(300);
    limiter.settle_at(permit, Usage::new(40, 0), now).expect("settled");
    assert_eq!(used(), 190);
    let permit = admit(200);
    limiter.cancel_at(permit, now).expect("the backend failed before any output");
    assert_eq!(used(), 190);
    // A stream is cut after 35 output tokens that were counted; no usage came.
    let permit = admit(90);
    assert_eq!(used(), 280);
    for _ in 0..5 {
        limiter.observe_at(permit, 0, 7, now).expect("observed");
    }
    let cut = limiter.settle_at(permit, Usage::UNKNOWN, now).expect("settled");
    assert_eq!((cut.input + cut.output, cut.estimated), (125, true));
    assert_eq!(used(), 315);
    assert_eq!(limiter.settle_at(permit, Usage::new(1, 1), now), Err(Error::PermitSettled { id: permit }));
    assert_eq!(used(), 315);

    // Overshoot: charged afterwards, in full, and shown as nothing left.
    let service = Service::new(Profile::v2(), on("p", "d", tokens(None, Some((1000, "Yearly")))));
    let permit = service.admit(0, false, now);
    service.settle(permit, 990, now);
    let permit = service.admit(0, false, now);
    service.settle(permit, 81, now);
    assert_eq!(service.left("u", now)[0].1, 1000 - 1071);
    assert_eq!(service.remaining(now).quota_tokens, Some(0));
    assert_eq!(service.refuse(0, false, now).status, 403);
}

#[test]
fn e_11_concurrency_overshoot_bound() {
    // Nothing reserved: what was admitted together may all overshoot, by less than the calls in flight bring.
    let service = Service::new(Profile::v2(), on("p", "d", tokens(None, Some((1000, "Yearly")))));
    let permit = service.admit(0, false, s(0));
    service.settle(permit, 999, s(0));
    let together: Vec<_> = (0..8).map(|_| service.admit(0, false, s(0))).collect();
    together.into_iter().for_each(|permit| service.settle(permit, 200, s(0)));
    assert_eq!(1000 - service.left("u", s(0))[0].1, 2599);
    // Exact estimates: never above.
    let limiter = of("meter = \"total\"\nalgorithm = \"quota\"\namount = 1000\nperiod = \"never\"");
    let first = ask(&limiter, Estimate::new(999, 0), s(0)).expect("admitted");
    limiter.settle_at(first, Usage::new(999, 0), s(0)).expect("settled");
    assert!((0..8).all(|_| ask(&limiter, Estimate::new(200, 0), s(0)).is_err()));
    assert_eq!(left(&limiter, s(0)), 1);

    // 64 threads, 10,000 calls of one token each: none is lost and none is charged twice.
    let limiter = of("meter = \"total\"\nalgorithm = \"quota\"\namount = 10_000_000\nperiod = \"never\"");
    std::thread::scope(|scope| {
        for thread in 0..64u64 {
            let limiter = &limiter;
            scope.spawn(move || {
                for call in 0..10_000 {
                    // Half of them reserve their token, half are charged for it afterwards.
                    let permit = ask(limiter, Estimate::new((thread + call) % 2, 0), s(0)).expect("there is room");
                    limiter.settle_at(permit, Usage::new(1, 0), s(0)).expect("settled once");
                }
            });
        }
    });
    let usage = limiter.usage_at(&UsageFilter::default(), s(0));
    assert_eq!((usage[0].used, usage[0].held, usage[0].settled_total), (640_000, 0, 640_000));
}
