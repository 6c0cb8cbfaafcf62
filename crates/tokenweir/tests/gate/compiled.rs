//! Limits as a policy of the engine.

use crate::foundry::{gateway, keyed, membership, name, on, resource, tokens};
use crate::{Scene, s};
use std::collections::BTreeMap;
use tokenweir::apim::{Profile, Tier};
use tokenweir::gateway::model::{CallQuota, KeyPart, KeyedLimit, LimitScope, Limits, ProjectName, WorkloadLimit};
use tokenweir::gateway::{Call, Code, CompileError, Gate, GateError, Terms};
use tokenweir::policy::{Algorithm, Mode, Until};
use tokenweir::{Estimate, Key, Policy};

const RATE: &str = "project \"P1\" on \"d\": tokens per minute";
const QUOTA: &str = "project \"P1\" on \"d\": token quota";

fn both() -> Limits {
    let limit = tokens(Some(100), Some((1000, "Monthly")));
    let mut limits = on("P1", "d", limit);
    limits.projects.insert(name("P2"), [(name("d"), limit)].into());
    limits.aggregate = Some(tokens(None, Some((5000, "Daily"))));
    limits
}

#[test]
fn each_limit_becomes_limits_named_after_what_they_are_on() {
    let policy = gateway(both()).policy(&Terms::native()).expect("a policy");
    let names: Vec<&str> = policy.limits().iter().map(|limit| &**limit.name()).collect();
    let p2 = ["project \"P2\" on \"d\": tokens per minute", "project \"P2\" on \"d\": token quota"];
    assert_eq!(names, [RATE, QUOTA, p2[0], p2[1], "all projects: token quota"]);
    assert!(policy.limits().iter().all(|limit| limit.mode() == Mode::Enforce && limit.until() == Until::Reached));
    assert!(policy.limits().iter().all(|limit| limit.weights().cached_input == 1000));
    // The console's toggle: limits that only count.
    let mut counting = gateway(both());
    counting.traffic.enforce = false;
    let counting = counting.policy(&Terms::native()).expect("a policy");
    assert!(counting.limits().iter().all(|limit| limit.mode() == Mode::Shadow));
}

#[test]
fn the_profile_says_how_they_are_counted() {
    let of = |profile: &Profile| {
        gateway(on("P1", "d", tokens(Some(100), Some((9, "Weekly"))))).policy(&Terms::from(profile))
    };
    let v2 = of(&Profile::v2()).expect("a policy");
    let classic = of(&Profile::classic()).expect("a policy");
    let minute = 60_000_000_000;
    assert_eq!(*v2.limits()[0].algorithm(), Algorithm::Bucket { amount: 100, per: minute, burst: 100 });
    assert_eq!(*classic.limits()[0].algorithm(), Algorithm::Window { amount: 100, per: minute, sub_windows: 240 });
    for policy in [&v2, &classic] {
        let [rate, quota] = policy.limits() else { panic!("two limits") };
        assert_eq!((rate.until(), quota.until()), (Until::Reached, Until::Passed));
        assert_eq!((rate.weights().cached_input, quota.weights().cached_input), (0, 0));
        let Algorithm::Quota { period, .. } = quota.algorithm() else { panic!("a quota") };
        assert_eq!(period.to_string(), "weekly");
    }
    let mut strict = Profile::classic();
    (strict.tokens_per_minute_until, strict.quota_until, strict.count_cached) = (Until::Passed, Until::Reached, true);
    strict.sub_windows = 7;
    let strict = of(&strict).expect("a policy");
    assert_eq!(*strict.limits()[0].algorithm(), Algorithm::Window { amount: 100, per: minute, sub_windows: 6 });
    assert_eq!((strict.limits()[0].until(), strict.limits()[1].until()), (Until::Passed, Until::Reached));
    assert_eq!(Profile::classic().tier, Tier::Classic);
    let mut sundays = gateway(on("P1", "d", tokens(None, Some((9, "Weekly")))));
    sundays.traffic.week_start = tokenweir::gateway::model::Weekday::Sunday;
    let Algorithm::Quota { period, .. } =
        sundays.policy(&Terms::native()).expect("a policy").limits()[0].algorithm().clone()
    else {
        panic!("a quota")
    };
    assert_eq!(period.to_string(), "weekly from sunday");
}

#[test]
fn changing_one_projects_limit_touches_no_other_counter_and_keeps_its_own() {
    let mut scene = Scene::new(both());
    scene.take(Call::model("P1", "d"), 60, s(0));
    scene.take(Call::model("P2", "d"), 70, s(0));
    let others = |scene: &Scene| {
        let mut counters = scene.counters(s(0));
        counters.retain(|counter| !counter.limit.contains("\"P1\""));
        counters
    };
    let before = others(&scene);
    assert_eq!(before.len(), 3);
    // The balance of 40 stays, whatever the rate becomes; use of the month stays as well.
    for (limit, quota_left) in [
        (tokens(Some(50), Some((100, "Monthly"))), 40),
        (tokens(Some(500), Some((50, "Monthly"))), -10),
        (tokens(None, Some((100_000, "Monthly"))), 99_940),
        (tokens(Some(100), Some((1000, "Monthly"))), 940),
    ] {
        scene.gateway().limits.projects.insert(name("P1"), [(name("d"), limit)].into());
        scene.update(s(0));
        assert_eq!(others(&scene), before, "{limit}");
        let left = |of: &str| scene.counters(s(0)).iter().find(|one| one.limit == of).map(|one| one.remaining);
        assert_eq!(left(QUOTA), Some(quota_left), "{limit}");
        assert_eq!(left(RATE), limit.tokens_per_minute().map(|_| 40), "{limit}");
    }
    // Another period is another counter.
    scene.gateway().limits.projects.insert(name("P1"), [(name("d"), tokens(None, Some((1000, "Daily"))))].into());
    scene.update(s(0));
    scene.take(Call::model("P1", "d"), 5, s(0));
    assert_eq!((scene.used(QUOTA, s(0)), others(&scene)[1..] == before[1..]), (5, true));
}

#[test]
fn removed_and_added_again_a_project_has_fresh_rates_and_its_old_quotas() {
    let mut scene = Scene::new(both());
    scene.take(Call::model("P1", "d"), 100, s(0));
    scene.take(Call::model("P2", "d"), 10, s(0));
    let call = Call::model("P1", "d").with_estimate(Estimate::new(1, 0));
    assert_eq!(scene.refuse(&call, s(0)).record().limit.as_deref(), Some(RATE));
    scene.gateway().memberships.insert(name("P1"), membership("disabled", 1));
    scene.update(s(0));
    scene.take(Call::model("P1", "d"), 5000, s(0));
    assert_eq!(scene.used(QUOTA, s(0)), 100, "what bypasses is not counted");
    scene.gateway().memberships.insert(name("P1"), membership("enabled", 2));
    scene.update(s(0));
    scene.take(Call::model("P1", "d"), 100, s(0));
    let refused = scene.refuse(&call, s(0));
    assert_eq!(refused.record().limit.as_deref(), Some("project \"P1\" on \"d\": tokens per minute #2"));
    assert_eq!(scene.used(QUOTA, s(0)), 200);
    assert_eq!(scene.used("project \"P2\" on \"d\": tokens per minute", s(0)), 10);
}

#[test]
fn an_aggregate_caps_all_projects_together() {
    let limits = Limits { aggregate: Some(tokens(None, Some((100, "Monthly")))), ..Limits::default() };
    let scene = Scene::new(limits);
    scene.take(Call::model("P1", "d"), 60, s(0));
    scene.take(Call::model("P2", "d2"), 40, s(0));
    for project in ["P1", "P2"] {
        let call = Call::model(project, "d").with_estimate(Estimate::new(1, 0));
        let refused = scene.refuse(&call, s(0));
        assert_eq!((refused.status(), refused.record().limit.as_deref()), (403, Some("all projects: token quota")));
    }
}

#[test]
fn a_keyed_limit_counts_by_its_key() {
    let user = || KeyPart::Caller(name("user"));
    let limits = Limits {
        keyed: [
            (name("each user"), keyed(&[user()], tokens(Some(10), None))),
            (name("user in project"), keyed(&[KeyPart::Project, user()], tokens(Some(7), None))),
        ]
        .into(),
        ..Limits::default()
    };
    let scene = Scene::new(limits);
    let keys = |user| [Key::new("user", user)];
    scene.take(Call::model("P1", "d").with_keys(&keys("u")), 7, s(0));
    let refused = |project: &str, user: &str| {
        let keys = [Key::new("user", user)];
        let call = Call::model(project, "d").with_keys(&keys).with_estimate(Estimate::new(4, 0));
        let verdict = scene.gate.admit_at(&call, s(0)).expect("a decision");
        verdict.refused().map(|refused| refused.record().refused_by.clone())
    };
    let (each, in_project) = ("key \"each user\": tokens per minute", "key \"user in project\": tokens per minute");
    assert_eq!(refused("P1", "u"), Some(vec![each.to_owned(), in_project.to_owned()]));
    assert_eq!(refused("P2", "u"), Some(vec![each.to_owned()]));
    assert_eq!(refused("P2", "v"), None);
    // A caller without the key is not limited by it, and shares no counter with others.
    scene.take(Call::model("P1", "d"), 100, s(0));
}

#[test]
fn what_cannot_be_put_in_force_is_an_error_that_names_it() {
    let refused = |limits: Limits| gateway(limits).policy(&Terms::native()).expect_err("not a policy");
    let star = refused(on("p*", "d", tokens(Some(1), None)));
    assert_eq!((star.code(), star.to_string().contains("\"p*\" has a *")), (Code::NameInvalid, true));
    let large = refused(on("p", "d", tokens(None, Some((1 << 60, "Yearly")))));
    assert_eq!(
        (large.code(), large.to_string().contains("token quota: 1152921504606846976")),
        (Code::OutOfRange, true)
    );
    let quota = CallQuota::new(Some(5), Some(1000), 0).expect("a quota");
    let bandwidth = WorkloadLimit::new(None, Some(quota), None, None).expect("a limit");
    let tools = [(name("p"), BTreeMap::from([(name("t"), bandwidth)]))].into();
    let bandwidth = refused(Limits { tools, ..Limits::default() });
    assert_eq!(
        (bandwidth.code(), bandwidth.to_string().contains("tool \"t\" of \"p\"")),
        (Code::BandwidthUnsupported, true)
    );
    // Names that would read alike stay apart.
    let alike = [("a\" on \"b", "c"), ("a", "b\" on \"c")];
    let projects =
        alike.map(|(project, deployment)| (name(project), BTreeMap::from([(name(deployment), tokens(Some(1), None))])));
    assert_eq!(
        gateway(Limits { projects: projects.into(), ..Limits::default() })
            .policy(&Terms::native())
            .map(|policy| policy.limits().len()),
        Ok(2)
    );
}

#[test]
fn one_key_is_one_counter() {
    let on_project = |project: &str, per_minute| {
        let scope = LimitScope { project: Some(name(project)), deployment: None };
        KeyedLimit { scope, ..keyed(&[KeyPart::Constant("org".into())], tokens(Some(per_minute), None)) }
    };
    let of = |limits: &[(&str, KeyedLimit)]| {
        let keyed = limits.iter().map(|(limit, keyed)| (name(limit), keyed.clone())).collect();
        gateway(Limits { keyed, ..Limits::default() }).policy(&Terms::native())
    };
    let conflict = |result: Result<Policy, CompileError>| match result.expect_err("a conflict") {
        CompileError::CounterConflict { first, second, .. } => (first.to_string(), second.to_string()),
        other => panic!("{other}"),
    };
    let pair = || ("a".to_owned(), "b".to_owned());
    assert_eq!(conflict(of(&[("a", on_project("p", 5)), ("b", on_project("p", 6))])), pair());
    assert_eq!(conflict(of(&[("a", on_project("p", 5)), ("b", on_project("q", 5))])), pair());
    assert_eq!(of(&[("a", on_project("p", 5)), ("b", on_project("p", 5))]).map(|policy| policy.limits().len()), Ok(1));
    // One of them is on everything: it is the counter.
    let all = KeyedLimit { scope: LimitScope::default(), ..on_project("p", 5) };
    let policy = of(&[("a", on_project("p", 5)), ("b", all)]).expect("a policy");
    assert_eq!((policy.limits().len(), policy.limits()[0].matches().len()), (1, 0));
    assert_eq!(&**policy.limits()[0].name(), "key \"b\": tokens per minute");
}

#[test]
fn two_gateways_never_share_a_counter() {
    // The same names everywhere: only the gates differ.
    let (one, other) = (Scene::new(both()), Scene::new(both()));
    one.take(Call::model("P1", "d"), 100, s(0));
    assert!(other.counters(s(0)).is_empty());
    other.take(Call::model("P1", "d"), 100, s(0));
    // A gate does not follow the model to another gateway, though it has the name of the old one.
    let mut scene = one;
    scene.gateway().created = "2027-01-01T00:00:00Z".parse().expect("an instant");
    let refused = scene.gate.update_at(&scene.resource, s(0)).expect_err("another gateway");
    let gateway = || name("gateway");
    assert_eq!(refused, GateError::AnotherGateway { was: gateway(), now: gateway() });
    // Not even by way of none.
    let gone = tokenweir::gateway::model::FoundryResource { gateway: None, ..scene.resource.clone() };
    scene.gate.update_at(&gone, s(0)).expect("deleted");
    assert_eq!(scene.gate.update_at(&scene.resource, s(0)).expect_err("another gateway"), refused);
    scene.take(Call::model("P1", "d"), 100, s(0));
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    let mut scene = Scene::new(both());
    scene.take(Call::model("P1", "d"), 60, s(0));
    scene.gateway().memberships.clear();
    scene.gateway().limits.projects.insert(name("p*"), [(name("d"), tokens(Some(1), None))].into());
    assert!(matches!(scene.gate.update_at(&scene.resource, s(0)), Err(GateError::Compile(CompileError::Star { .. }))));
    let call = Call::model("P1", "d").with_estimate(Estimate::new(41, 0));
    assert_eq!(scene.refuse(&call, s(0)).status(), 429, "still governed, by the limits before");
    let broken = resource("eastus2", scene.resource.gateway.clone().expect("a gateway").limits);
    assert!(Gate::builder(name("account"), &broken).build().is_err());
}

#[test]
fn a_gate_that_only_follows_who_is_governed_leaves_the_limits_to_others() {
    let mut scene = Scene::new(both());
    let call = Call::model("P1", "d");
    scene.take(call, 60, s(0));
    let (p1, p2): (ProjectName, ProjectName) = (name("P1"), name("P2"));
    scene.gateway().limits.projects.remove(&p1);
    scene.gateway().memberships.remove(&p2);
    scene.gate.update_standing(&scene.resource).expect("it is the same gateway");
    assert_eq!(scene.pass(&Call::model("P2", "d"), s(0)).permit(), None, "P2 is governed no more");
    assert_eq!((scene.used(RATE, s(0)), scene.gate.limiter().policy().limits().len()), (60, 5));
    scene.gateway().created = s(9).into();
    let refused = scene.gate.update_standing(&scene.resource).expect_err("a new gateway");
    assert!(matches!(refused, GateError::AnotherGateway { .. }));
}

#[test]
fn whoever_builds_the_limiter_may_say_why_not() {
    let resource = resource("eastus2", both());
    let built = Gate::builder(name("account"), &resource)
        .limiter(|limiter| limiter.max_counters(7))
        .built_by(|limiter| Ok(limiter.build()))
        .build()
        .expect("a gate");
    assert_eq!(built.limiter().stats().max_counters, 7);
    let not_built = |_| Err(GateError::NotBuilt { reason: "the region is full; make a larger one".to_owned() });
    let error = Gate::builder(name("account"), &resource).built_by(not_built).build().expect_err("not built");
    assert_eq!(error.to_string(), "the region is full; make a larger one");
}
