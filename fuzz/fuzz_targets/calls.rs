//! Any sequence of calls, with any times and amounts: no panic, no quota above its amount while estimates hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use tokenweir::{Estimate, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage, UsageFilter};

const POLICY: &str = r#"
    [[limit]]
    name = "bucket"
    meter = "total"
    algorithm = "bucket"
    amount = 1000
    per = "1s"
    scope = ["project"]

    [[limit]]
    name = "window"
    meter = "output"
    algorithm = "window"
    amount = 500
    per = "1m"

    [[limit]]
    name = "quota"
    meter = "total"
    algorithm = "quota"
    amount = 5000
    period = "hourly"
"#;

fuzz_target!(|calls: Vec<(u8, u16, u16, i64)>| {
    let Ok(policy) = Policy::from_toml(POLICY) else { panic!("the policy is valid") };
    let limiter = Limiter::builder(policy).clock(Arc::new(ManualClock::default())).max_permits(64).build();
    let mut ids: Vec<PermitId> = Vec::new();
    let mut now = Now::default();
    for (what, a, b, time) in calls {
        if what & 0x80 != 0 {
            now = Now::new(now.mono.wrapping_add(time as u64), now.wall.wrapping_add(time));
        }
        let id = ids.get(usize::from(a) % ids.len().max(1)).copied();
        match (what & 0x7, id) {
            (0..=3, _) => {
                let project = [what & 0x10, 1];
                let estimate = Estimate::new(a.into(), b.into());
                if let Ok(decision) = limiter.admit_at(&Request::new(&project, "d"), estimate, now) {
                    ids.extend(decision.admitted().map(|permit| permit.into_id()));
                }
            }
            (4, Some(id)) => drop(limiter.settle_at(id, Usage::new(0, 0), now)),
            (5, Some(id)) => drop(limiter.cancel_at(id, now)),
            (6, Some(id)) => drop(limiter.observe_at(id, 0, 0, now)),
            (7, _) => limiter.sweep_at(now),
            _ => {}
        }
    }
    for counter in limiter.usage_at(&UsageFilter { limit: Some("quota".into()), scope: Vec::new() }, now) {
        assert!(counter.used <= counter.amount);
    }
});
