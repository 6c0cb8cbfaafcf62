//! Quotas: periods, clocks, and what is shared.

use crate::foundry::{keyed, on, tokens};
use crate::{SECOND, Service, ask, left, of, s, wall};
use tokenweir::apim::{First, Profile};
use tokenweir::gateway::model::{KeyPart, Limits};
use tokenweir::policy::Algorithm;
use tokenweir::{Estimate, Limiter, Now, Policy, Usage};

#[test]
fn e_04_shared_org_quota() {
    let now = wall("2026-08-07T10:38:27Z");
    let service = |org: i128| {
        let user = KeyPart::Caller("user".parse().expect("a name"));
        let limits = Limits {
            keyed: [
                (
                    "org".parse().expect("a name"),
                    keyed(&[KeyPart::Constant("org".into())], tokens(None, Some((org, "Hourly")))),
                ),
                ("user".parse().expect("a name"), keyed(&[user], tokens(None, Some((100_000, "Hourly"))))),
            ]
            .into(),
            ..Limits::default()
        };
        Service::new(Profile::v2(), limits)
    };
    let shared = service(400);
    let left = |user: &str, limit: &str| {
        let left = shared.left(user, now);
        left.into_iter().find(|(name, _)| name.contains(limit)).expect("the limit").1
    };
    let calls = [(319, 99_919), (238, 99_838), (157, 99_757), (76, 99_676), (-5, 99_595)];
    for (org, user) in calls {
        let permit = shared.admit(0, false, now);
        shared.settle(permit, 81, now);
        assert_eq!((left("u", "org"), left("u", "user")), (org, user));
    }
    assert_eq!(shared.remaining(now).quota_tokens, Some(0), "405 used of 400, clamped");
    for user in ["u", "v", "w"] {
        let answer = shared.decide(user, 0, false, now).expect_err("the quota is one for all");
        assert_eq!((answer.status, answer.retry_after), (403, Some(21 * 60 + 33)));
        assert_eq!(answer.message, "Token quota is exceeded. Try again in 21 minutes and 33 seconds.");
        assert_eq!((answer.source, answer.reason), ("llm-token-limit", "OpenAITokenQuotaExceeded"));
        assert_eq!(answer.limit, "key \"org\": token quota", "the service does not say which, the library does");
    }
    assert_eq!(left("v", "user"), 100_000, "a refusal charges nothing");
    // At equality it still admits.
    let equal = service(405);
    for _ in 0..6 {
        let permit = equal.admit(0, false, now);
        equal.settle(permit, 81, now);
    }
    assert_eq!(equal.refuse(0, false, now).status, 403);
}

#[test]
fn which_of_rate_and_quota_is_told_is_a_setting() {
    for (first, status) in [(First::Quota, 403), (First::Rate, 429), (First::InOrder, 429)] {
        let mut profile = Profile::v2();
        profile.first = first;
        let service = Service::new(profile, on("p", "d", tokens(Some(100), Some((100, "Monthly")))));
        let permit = service.admit(0, false, s(0));
        service.settle(permit, 101, s(0));
        let answer = service.refuse(0, false, s(0));
        assert_eq!(answer.status, status, "{first:?}");
        assert_eq!((answer.remaining.tokens, answer.remaining.quota_tokens), (Some(0), Some(0)));
    }
}

/// A quota of one token by these terms.
fn quota(terms: &str) -> Limiter {
    of(&format!("meter = \"total\"\nalgorithm = \"quota\"\namount = 1\n{terms}"))
}

/// The period that holds `now` and the retry-after in seconds of who comes after it is used up.
fn spent(limiter: &Limiter, now: Now) -> (i64, i64, Option<u64>) {
    let policy = limiter.policy();
    let Algorithm::Quota { period, .. } = policy.limits()[0].algorithm() else { panic!("a quota") };
    let bounds = period.bounds(now.wall);
    assert!(ask(limiter, Estimate::new(1, 0), now).is_ok(), "a new period");
    let (status, wait) = ask(limiter, Estimate::new(1, 0), now).expect_err("the period's token is gone");
    assert_eq!(status, 403);
    (bounds.start, bounds.end, wait.map(|wait| wait.div_ceil(SECOND)))
}

#[test]
fn e_05_period_truncation() {
    for (now, period, start, end, length, retry) in [
        ("2028-02-29T23:59:59Z", "hourly", "2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z", 3600, 1),
        ("2026-12-31T23:59:59.250Z", "hourly", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z", 3600, 1),
        ("2028-02-28T23:59:59Z", "daily", "2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z", 86_400, 1),
        ("2027-02-28T12:00:00Z", "daily", "2027-02-28T00:00:00Z", "2027-03-01T00:00:00Z", 86_400, 43_200),
        ("2027-02-10T06:30:00Z", "monthly", "2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z", 2_419_200, 1_618_200),
        ("2028-02-10T06:30:00Z", "monthly", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", 2_505_600, 1_704_600),
        ("2100-02-28T23:00:00Z", "monthly", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z", 2_419_200, 3600),
        ("2000-02-29T12:00:00Z", "monthly", "2000-02-01T00:00:00Z", "2000-03-01T00:00:00Z", 2_505_600, 43_200),
        ("2026-04-30T23:59:30Z", "monthly", "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z", 2_592_000, 30),
        ("2026-12-15T00:00:00Z", "monthly", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", 2_678_400, 1_468_800),
        ("2026-08-07T10:00:00Z", "monthly", "2026-08-01T00:00:00Z", "2026-09-01T00:00:00Z", 2_678_400, 2_124_000),
        ("2027-06-15T00:00:00Z", "yearly", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z", 31_536_000, 17_280_000),
        ("2028-06-15T00:00:00Z", "yearly", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z", 31_622_400, 17_280_000),
        ("2028-12-31T23:59:59Z", "yearly", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z", 31_622_400, 1),
    ] {
        let limiter = quota(&format!("period = \"{period}\""));
        let (from, to) = (wall(start).wall, wall(end).wall);
        assert_eq!((to - from) / SECOND as i64, length, "{now}");
        assert_eq!(spent(&limiter, wall(now)), (from, to, Some(retry)), "{now} {period}");
        // The last instant belongs to the period, the next one to another.
        assert!(ask(&limiter, Estimate::new(1, 0), Now::new(wall(end).mono - 1, to - 1)).is_err(), "{now} {period}");
        assert!(ask(&limiter, Estimate::new(1, 0), wall(end)).is_ok(), "{now} {period}");
    }
    // The wait of a live message of that date, in its words.
    let service = Service::new(Profile::v2(), on("p", "d", tokens(None, Some((1, "Monthly")))));
    let now = wall("2026-08-07T10:00:00Z");
    let permit = service.admit(0, false, now);
    service.settle(permit, 2, now);
    assert_eq!(service.refuse(0, false, now).message, "Token quota is exceeded. Try again in 24 days, 14 hours.");
}

#[test]
fn e_06_weekly_start() {
    let days = ["monday", "sunday", "thursday"];
    for (now, weeks) in [
        (
            "2026-11-22T23:59:59Z",
            [
                ("2026-11-16", "2026-11-23", 1),
                ("2026-11-22", "2026-11-29", 518_401),
                ("2026-11-19", "2026-11-26", 259_201),
            ],
        ),
        (
            "2026-11-23T00:00:00Z",
            [
                ("2026-11-23", "2026-11-30", 604_800),
                ("2026-11-22", "2026-11-29", 518_400),
                ("2026-11-19", "2026-11-26", 259_200),
            ],
        ),
        (
            "2027-01-01T00:00:00Z",
            [
                ("2026-12-28", "2027-01-04", 259_200),
                ("2026-12-27", "2027-01-03", 172_800),
                ("2026-12-31", "2027-01-07", 518_400),
            ],
        ),
        (
            "2028-02-29T12:00:00Z",
            [
                ("2028-02-28", "2028-03-06", 475_200),
                ("2028-02-27", "2028-03-05", 388_800),
                ("2028-02-24", "2028-03-02", 129_600),
            ],
        ),
    ] {
        for (day, (start, end, retry)) in days.into_iter().zip(weeks) {
            let midnight = |date: &str| wall(&format!("{date}T00:00:00Z")).wall;
            let limiter = quota(&format!("period = \"weekly\"\nweek_start = \"{day}\""));
            assert_eq!(spent(&limiter, wall(now)), (midnight(start), midnight(end), Some(retry)), "{now} {day}");
        }
    }
}

#[test]
fn e_12_window_straddle() {
    let (admitted, completed) = (wall("2026-11-23T10:59:59.900Z"), wall("2026-11-23T11:00:00.100Z"));
    let hourly = || of("meter = \"total\"\nalgorithm = \"quota\"\namount = 1000\nperiod = \"hourly\"");
    // Reserved: the period of the admission has it, the next one nothing.
    let limiter = hourly();
    let permit = ask(&limiter, Estimate::new(80, 0), admitted).expect("admitted");
    assert_eq!(left(&limiter, admitted), 920);
    let settled = limiter.settle_at(permit, Usage::new(80, 0), completed).expect("settled");
    assert_eq!((settled.input, left(&limiter, completed)), (80, 1000));
    // Not reserved: the period of the completion has it.
    let limiter = hourly();
    let permit = ask(&limiter, Estimate::default(), admitted).expect("admitted");
    assert_eq!(left(&limiter, admitted), 1000);
    limiter.settle_at(permit, Usage::new(80, 0), completed).expect("settled");
    assert_eq!(left(&limiter, completed), 920);
    // In part: each token in one period, and none in both.
    let limiter = hourly();
    let permit = ask(&limiter, Estimate::new(30, 0), admitted).expect("admitted");
    assert_eq!(left(&limiter, admitted), 970);
    limiter.settle_at(permit, Usage::new(80, 0), completed).expect("settled");
    assert_eq!(left(&limiter, completed), 950);
}

#[test]
fn e_13_backward_or_frozen_clock() {
    // A wall clock that steps back over a boundary does not open the period before it, nor this one again.
    let limiter = quota("period = \"hourly\"");
    let (before, after) = (wall("2026-11-23T10:59:59Z"), wall("2026-11-23T11:00:01Z"));
    assert!(ask(&limiter, Estimate::new(1, 0), before).is_ok());
    assert!(ask(&limiter, Estimate::new(1, 0), after).is_ok());
    let back = Now::new(after.mono, before.wall);
    let (_, wait) = ask(&limiter, Estimate::new(1, 0), back).expect_err("used up");
    assert_eq!(wait, Some(3601 * SECOND), "until the end of the newest period");
    assert!(ask(&limiter, Estimate::new(1, 0), after).is_err());
    // A frozen clock: no refill, and the same advice each time.
    let policy = "[[limit]]\nname = \"b\"\nmeter = \"total\"\nalgorithm = \"bucket\"\namount = 60\nper = \"1m\"\n\
                  [[limit]]\nname = \"w\"\nmeter = \"total\"\nalgorithm = \"window\"\namount = 60\nper = \"1m\"\n";
    let limiter = crate::limiter(Policy::from_toml(policy).expect("a policy"));
    let frozen = s(5);
    let permit = ask(&limiter, Estimate::new(60, 0), frozen).expect("admitted");
    limiter.settle_at(permit, Usage::new(60, 0), frozen).expect("settled");
    let first = ask(&limiter, Estimate::new(1, 0), frozen).expect_err("spent");
    for _ in 0..100 {
        assert_eq!(ask(&limiter, Estimate::new(1, 0), frozen), Err(first));
    }
    // Rates run on the monotonic clock: the wall clock may do what it likes.
    assert!(ask(&limiter, Estimate::new(1, 0), Now::new(frozen.mono, i64::MAX)).is_err());
    assert!(ask(&limiter, Estimate::new(1, 0), Now::new(frozen.mono + 61 * SECOND, 0)).is_ok());
}

#[test]
fn e_18_quota_by_key_windows() {
    let now = "2026-11-23T17:30:00Z";
    for (every, anchor, now, start, end, retry) in [
        (3600, None, now, "2026-11-23T17:00:00Z", "2026-11-23T18:00:00Z", 1800),
        (86_400, None, now, "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", 23_400),
        (604_800, None, now, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", 541_800),
        (2_592_000, None, now, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", 628_200),
        (2_629_800, None, now, "2026-11-16T15:00:00Z", "2026-12-17T01:30:00Z", 2_016_000),
        (
            2_592_000,
            Some("2026-01-31T08:00:00Z"),
            "2026-03-01T08:00:00Z",
            "2026-01-31T08:00:00Z",
            "2026-03-02T08:00:00Z",
            86_400,
        ),
        // Before the anchor, by floor division; whether the service does the same is not confirmed.
        (
            2_592_000,
            Some("2026-01-31T08:00:00Z"),
            "2026-01-31T07:59:59Z",
            "2026-01-01T08:00:00Z",
            "2026-01-31T08:00:00Z",
            1,
        ),
    ] {
        let anchor = anchor.map_or(String::new(), |anchor| format!(", anchor = \"{anchor}\""));
        let limiter = of(&format!(
            "meter = \"requests\"\nalgorithm = \"quota\"\namount = 1\nperiod = {{ every = \"{every}s\"{anchor} }}"
        ));
        assert_eq!(spent(&limiter, wall(now)), (wall(start).wall, wall(end).wall, Some(retry)), "{every} {now}");
    }
    // A renewal period of 0 never renews, and advises no retry.
    let limiter = of("meter = \"requests\"\nalgorithm = \"quota\"\namount = 1\nperiod = \"never\"");
    assert!(ask(&limiter, Estimate::default(), wall(now)).is_ok());
    assert_eq!(ask(&limiter, Estimate::default(), wall("2200-01-01T00:00:00Z")), Err((403, None)));
}
