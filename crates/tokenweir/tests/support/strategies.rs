//! Random scenarios.

use super::trace::{DAY, HOUR, MINUTE, Op, SECOND, Scenario, Which, fastest, part};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

fn scope() -> impl Strategy<Value = Value> {
    select(vec![
        json!([]),
        json!(["project"]),
        json!(["deployment"]),
        json!(["project", "deployment"]),
        json!(["key:user"]),
    ])
}

fn meter() -> impl Strategy<Value = Value> {
    select(vec![
        json!({ "meter": "total" }),
        json!({ "meter": "total" }),
        json!({ "meter": "input" }),
        json!({ "meter": "output" }),
        json!({ "meter": "cost" }),
        json!({ "meter": "total", "weights": { "cached_input": 0, "output": 4000 } }),
        json!({ "meter": "total", "weights": { "input": 333, "deployment": { "d1": 2500 } } }),
        json!({ "meter": "requests" }),
    ])
}

/// A rate per minute, log-uniform from 1 to 10^10.
fn rate() -> impl Strategy<Value = u64> {
    (0..=10u32, 1..10u64).prop_map(|(magnitude, digit)| (10u64.pow(magnitude) * digit).min(10_000_000_000))
}

/// A number of tokens of the scale's order; for requests a small number.
fn amount(scale: u64, meter: &Value) -> BoxedStrategy<u64> {
    if meter["meter"] == "requests" {
        (1..12u64).boxed()
    } else {
        (20..2000u64).prop_map(move |percent| part(scale, percent)).boxed()
    }
}

fn bucket(scale: u64) -> impl Strategy<Value = Value> {
    let fields = (meter(), select(vec!["1s", "1m", "1h"]), rate(), any::<bool>());
    fields.prop_flat_map(move |(meter, per, rate, fitting)| {
        amount(scale, &meter).prop_map(move |burst| {
            // Half of the rates refill such a burst within minutes, the others are anything.
            let rate = if fitting { (burst / 3).max(1) } else { rate };
            let mut limit = meter.clone();
            limit["algorithm"] = json!("bucket");
            limit["amount"] = json!(rate.min(fastest(per)));
            limit["per"] = json!(per);
            limit["burst"] = json!(burst);
            limit
        })
    })
}

fn window(scale: u64) -> impl Strategy<Value = Value> {
    let shape = select(vec![("1s", 1), ("1s", 10), ("10s", 2), ("1m", 60), ("1m", 12), ("1m", 1), ("1h", 100)]);
    (meter(), shape).prop_flat_map(move |(meter, (per, sub_windows))| {
        amount(scale, &meter).prop_map(move |amount| {
            let mut limit = meter.clone();
            limit["algorithm"] = json!("window");
            limit["amount"] = json!(amount.min(1_000_000_000));
            limit["per"] = json!(per);
            limit["sub_windows"] = json!(sub_windows);
            limit
        })
    })
}

fn quota(scale: u64) -> impl Strategy<Value = Value> {
    let period = select(vec![
        json!("hourly"),
        json!("daily"),
        json!("weekly"),
        json!("monthly"),
        json!("yearly"),
        json!("never"),
        json!({ "every": "90m", "anchor": "2026-01-31T08:00:00Z" }),
    ]);
    let zone = select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]);
    (meter(), period, zone).prop_flat_map(move |(meter, period, zone)| {
        amount(scale, &meter).prop_map(move |amount| {
            let mut limit = meter.clone();
            limit["algorithm"] = json!("quota");
            limit["amount"] = json!(amount.saturating_mul(4));
            limit["period"] = period.clone();
            if period.is_string() && period != "never" {
                limit["time_zone"] = json!(zone);
            }
            limit
        })
    })
}

fn in_flight() -> impl Strategy<Value = Value> {
    (1..6u64).prop_map(|amount| json!({ "meter": "in_flight", "algorithm": "in_flight", "amount": amount }))
}

fn limits(scale: u64) -> impl Strategy<Value = Vec<Value>> {
    let limit = prop_oneof![
        4 => bucket(scale).boxed(),
        3 => window(scale).boxed(),
        3 => quota(scale).boxed(),
        1 => in_flight().boxed(),
    ];
    let limit = (limit, scope(), prop::bool::weighted(0.15), prop::bool::weighted(0.3));
    prop::collection::vec(limit, 1..=4).prop_map(|limits| {
        let named = limits.into_iter().enumerate().map(|(number, (mut limit, scope, shadow, passed))| {
            limit["name"] = json!(format!("l{number}"));
            limit["scope"] = scope;
            if shadow {
                limit["mode"] = json!("shadow");
            }
            if passed && (limit["algorithm"] == "window" || limit["algorithm"] == "quota") {
                limit["until"] = json!("passed");
            }
            limit
        });
        named.collect()
    })
}

/// From nothing to years, most of them short.
pub fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        2 => 1..2000u64,
        6 => 1..SECOND,
        6 => 1..MINUTE,
        3 => 1..2 * HOUR,
        2 => 1..3 * DAY,
        1 => 1..500 * DAY,
    ]
}

fn usage() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![1 => Just(None), 2 => Just(Some(0)), 8 => any::<u8>().prop_map(Some)]
}

fn op() -> impl Strategy<Value = Op> {
    let which = || any::<u16>().prop_map(Which);
    let user = prop::option::weighted(0.8, 0..2u8);
    prop_oneof![
        12 => (0..3u8, 0..2u8, user, any::<u8>(), any::<u8>(), any::<bool>()).prop_map(
            |(project, deployment, user, input, output, raii)| {
                Op::Admit { project, deployment, user, input, output, raii }
            }
        ),
        6 => wait().prop_map(Op::Wait),
        3 => (0..2u64).prop_map(|less| Op::WaitAsTold { less }),
        1 => (-40 * DAY as i64..2 * DAY as i64).prop_map(Op::SetWall),
        1 => wait().prop_map(Op::StepBack),
        2 => (which(), 0..128u8, any::<u8>()).prop_map(|(which, input, output)| Op::Observe { which, input, output }),
        6 => (which(), usage(), prop::option::of(any::<u8>()), usage()).prop_map(
            |(which, input, cached, output)| Op::Settle { which, input, cached, output }
        ),
        1 => which().prop_map(Op::Cancel),
        1 => which().prop_map(Op::Drop),
        1 => which().prop_map(Op::Again),
        1 => (which(), wait()).prop_map(|(which, ttl)| Op::Renew { which, ttl }),
        1 => Just(Op::Sweep),
        1 => (which(), any::<u8>(), any::<u8>()).prop_map(|(which, amount, rate)| Op::Swap { which, amount, rate }),
        1 => which().prop_map(Op::Toggle),
    ]
}

/// Anything that can happen, up to `steps` times.
pub fn scenario(steps: usize) -> impl Strategy<Value = Scenario> {
    (0..=11u32, 1..10u64).prop_flat_map(move |(magnitude, digit)| {
        let scale = 10u64.pow(magnitude) * digit;
        let ttl = select(vec![2 * SECOND, 10 * MINUTE, 400 * DAY]);
        let histories = select(vec![100, 100, 1, 0]);
        let fields = (limits(scale), ttl, histories, prop::collection::vec(op(), steps / 2..steps));
        fields.prop_map(move |(limits, ttl, histories, ops)| Scenario { limits, scale, ttl, histories, ops })
    })
}
