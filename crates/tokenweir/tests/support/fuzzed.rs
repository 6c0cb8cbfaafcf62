//! What must hold of any bytes at all: the fuzz targets, and the kept corpus as a test.

use super::bytes;
use super::lockstep::Lockstep;
use std::time::Duration;
use tokenweir::policy::{MatchField, SkipReason};
use tokenweir::{Decision, Estimate, Key, Limiter, ManualClock, Now, Policy, PolicyError, Request, Usage, UsageFilter};

/// Any sequence of calls: the library does as the reference model does.
pub fn calls(data: &[u8]) {
    Lockstep::run(&bytes::scenario(data));
}

/// Any text is a policy or an error that says where, why and what to do; a policy means the same in either syntax and
/// decides on any request at any time.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (toml, json) = (Policy::from_toml(text), Policy::from_json(text));
    for parsed in [&toml, &json] {
        match parsed {
            Ok(policy) => {
                resolve(policy);
                decide(policy);
            }
            Err(error) => explained(error),
        }
    }
    // A table of either kind is read in the order of its names here, since that is how both are written anew.
    if let Ok(value) = toml::from_str::<toml::Value>(text)
        && let Ok(value) = serde_json::to_string(&value)
        // Dates become tables of an unspeakable name, and numbers that are none become null.
        && !value.contains("$__toml") && !value.contains("null")
    {
        both(&value, toml.is_ok());
    }
    if json.is_ok() {
        let value: serde_json::Value = serde_json::from_str(text).expect("a policy is JSON");
        both(&value.to_string(), true);
    }
}

/// A document means the same in JSON and in TOML.
fn both(json: &str, valid: bool) {
    let value: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
    let policy = Policy::from_json(json).ok();
    assert_eq!(policy.is_some(), valid, "{json}");
    if let Ok(toml) = toml::to_string(&value) {
        assert_eq!(policy, Policy::from_toml(&toml).ok(), "{json}\n{toml}");
    }
}

fn explained(error: &PolicyError) {
    assert!(!error.problems().is_empty());
    let said = error.clone().with_file("policy.toml").to_string();
    assert!(said.lines().count() >= error.problems().len(), "{said}");
    for problem in error.problems() {
        assert!(!problem.remedy.is_empty() && said.contains(&problem.remedy), "{said}");
    }
}

/// Requests that two limits' matches describe together: the index finds what a look at all limits finds. The request that
/// a limit describes alone is one that it matches.
fn resolve(policy: &Policy) {
    let limits = policy.limits();
    let few = limits.len().min(8);
    for (one, other) in (0..few).flat_map(|one| (0..few).map(move |other| (one, other))) {
        let value = |limit: usize, field: MatchField| {
            let matched = limits[limit].matches().iter().find(|(other, _)| *other == field);
            matched.map_or("any".to_owned(), |(_, pattern)| pattern.as_str().replace('*', "x"))
        };
        let names = policy.key_names();
        let values: Vec<String> = names.iter().map(|name| value(one, MatchField::Key(name.clone()))).collect();
        let keys: Vec<Key<'_>> = names.iter().zip(&values).map(|(name, value)| Key::new(name, value)).collect();
        let (project, deployment) = (value(one, MatchField::Project), value(other, MatchField::Deployment));
        let request = Request::new(&project, &deployment).with_keys(&keys);
        let (found, all) = (policy.resolve(&request), policy.explain(&request));
        assert_eq!(found.map(|found| found.applied), all.clone().map(|all| all.applied), "{request:?}");
        if let Ok(all) = all
            && one == other
        {
            let skipped = all.skipped.iter().find(|skipped| skipped.limit == one);
            let mismatched = skipped.filter(|skipped| matches!(skipped.reason, SkipReason::NoMatch { .. }));
            assert!(mismatched.is_none(), "{request:?}: {mismatched:?}");
        }
    }
}

/// A few requests, some of them at the ends of time.
fn decide(policy: &Policy) {
    let builder = Limiter::builder(policy.clone()).clock(ManualClock::default());
    let limiter = builder.max_counters(64).max_routes(64).permit_ttl(Duration::from_secs(60)).build();
    let keys: Vec<Key<'_>> = policy.key_names().iter().map(|name| Key::new(name, "value")).collect();
    let requests = [
        Request::new("search", "gpt-4o"),
        Request::new("search", "gpt-4o").with_keys(&keys),
        Request::new(b"\xff\0", "d1").with_keys(&keys),
    ];
    let times = [Now::at(0), Now::at(1 << 60), Now::new(u64::MAX, i64::MAX), Now::new(5, i64::MIN), Now::at(1 << 60)];
    for (step, now) in times.into_iter().enumerate() {
        for request in &requests {
            // A required key that is missing, or a price: an error, here as there.
            let admitted = limiter.admit_at(request, Estimate::new(3, 1 << (step * 10)), now);
            assert_eq!(policy.resolve(request).is_err(), admitted.is_err(), "{admitted:?}");
            match admitted {
                Ok(Decision::Admitted(permit)) => {
                    for (limit, left) in permit.remaining_at(now) {
                        assert!(left >= 0, "{limit} has {left} left of an admission at {now:?}");
                    }
                    if step % 2 == 0 {
                        let _ = permit.into_id();
                    } else {
                        permit.settle_at(Usage::new(2, 0), now).expect("it is open");
                    }
                }
                Ok(Decision::Denied(denied)) => assert!(denied.table_full() || denied.refusals().count() > 0),
                Err(error) => assert!(error.to_string().contains(';'), "{error}"),
            }
            let _ = limiter.explain_at(request, Estimate::new(1, 1), now);
        }
        limiter.swap_policy_at(policy.clone(), now).unwrap();
        limiter.sweep_at(now);
        for counter in limiter.usage_at(&UsageFilter::default(), now) {
            assert_eq!(counter.remaining, counter.amount as i64 - counter.used as i64, "{counter:?}");
        }
    }
}
