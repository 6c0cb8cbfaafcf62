//! Branches within branches, against their plain meaning: for every request, the limits that are met are those of the
//! branches that it takes.

mod common;

use std::cell::Cell;

use common::{import, met};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Policy {
    Limit,
    Choose(Vec<(Condition, Vec<Policy>)>, Option<Vec<Policy>>),
}

#[derive(Debug, Clone)]
enum Condition {
    Is(usize, &'static str),
    Begins(usize, &'static str),
    There(usize),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

const HEADERS: [&str; 2] = ["a", "b"];
const VALUES: [&str; 3] = ["x", "xy", "z"];

impl Condition {
    fn written(&self) -> String {
        let header =
            |header: &usize| format!("context.Request.Headers.GetValueOrDefault(\"{}\",\"\")", HEADERS[*header]);
        match self {
            Condition::Is(of, value) => format!("{} == \"{value}\"", header(of)),
            Condition::Begins(of, value) => format!("{}.StartsWith(\"{value}\")", header(of)),
            Condition::There(of) => format!("context.Request.Headers.ContainsKey(\"{}\")", HEADERS[*of]),
            Condition::Not(one) => format!("!({})", one.written()),
            Condition::And(one, other) => format!("({} && {})", one.written(), other.written()),
            Condition::Or(one, other) => format!("({} || {})", one.written(), other.written()),
        }
    }

    fn holds(&self, headers: &[Option<&str>; 2]) -> bool {
        match self {
            Condition::Is(of, value) => headers[*of] == Some(value),
            Condition::Begins(of, value) => headers[*of].is_some_and(|header| header.starts_with(value)),
            Condition::There(of) => headers[*of].is_some(),
            Condition::Not(one) => !one.holds(headers),
            Condition::And(one, other) => one.holds(headers) && other.holds(headers),
            Condition::Or(one, other) => one.holds(headers) || other.holds(headers),
        }
    }
}

/// Writes policies; each limit allows a number of its own.
fn written(policies: &[Policy], next: &Cell<u64>) -> String {
    let one = |policy: &Policy| match policy {
        Policy::Limit => {
            let amount = next.get();
            next.set(amount + 1);
            let key = format!("@(\"{amount}\" + context.Subscription.Id)");
            format!("<rate-limit-by-key calls=\"{amount}\" renewal-period=\"60\" counter-key=\"{key}\" />")
        }
        Policy::Choose(whens, otherwise) => {
            let mut text = "<choose>".to_owned();
            for (condition, inner) in whens {
                text.push_str(&format!(
                    "<when condition=\"@({})\">{}</when>",
                    condition.written(),
                    written(inner, next)
                ));
            }
            if let Some(inner) = otherwise {
                text.push_str(&format!("<otherwise>{}</otherwise>", written(inner, next)));
            }
            text + "</choose>"
        }
    };
    policies.iter().map(one).collect()
}

/// The amounts that a request meets.
fn taken(policies: &[Policy], headers: &[Option<&str>; 2], next: &Cell<u64>, takes: bool, met: &mut Vec<u64>) {
    for policy in policies {
        match policy {
            Policy::Limit => {
                met.extend(takes.then(|| next.get()));
                next.set(next.get() + 1);
            }
            Policy::Choose(whens, otherwise) => {
                let mut open = takes;
                for (condition, inner) in whens {
                    let holds = condition.holds(headers);
                    taken(inner, headers, next, open && holds, met);
                    open &= !holds;
                }
                if let Some(inner) = otherwise {
                    taken(inner, headers, next, open, met);
                }
            }
        }
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        (0..2usize, 0..3usize).prop_map(|(of, value)| Condition::Is(of, VALUES[value])),
        (0..2usize).prop_map(|of| Condition::Begins(of, "x")),
        (0..2usize).prop_map(Condition::There),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|one| Condition::Not(Box::new(one))),
            two().prop_map(|(one, other)| Condition::And(Box::new(one), Box::new(other))),
            two().prop_map(|(one, other)| Condition::Or(Box::new(one), Box::new(other))),
        ]
    })
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let policy = Just(Policy::Limit).prop_recursive(2, 10, 3, |inner| {
        let body = || prop::collection::vec(inner.clone(), 0..3);
        (prop::collection::vec((condition(), body()), 1..4), prop::option::of(body()))
            .prop_map(|(whens, otherwise)| Policy::Choose(whens, otherwise))
    });
    prop::collection::vec(policy, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_request_meets_the_limits_of_the_branches_that_it_takes(policies in policies()) {
        let imported = import(&written(&policies, &Cell::new(1)));
        // Every condition here is one that a match can say.
        let listed: Vec<String> = imported.report.not_mapped.iter().flat_map(|one| one.notes.clone()).collect();
        prop_assert!(listed.is_empty(), "{listed:?}");
        for a in [None, Some("x"), Some("xy"), Some("z"), Some("w")] {
            for b in [None, Some("x"), Some("xy"), Some("z"), Some("w")] {
                let mut expected = Vec::new();
                taken(&policies, &[a, b], &Cell::new(1), true, &mut expected);
                let mut keys = vec![("subscription", "s")];
                keys.extend(a.map(|value| ("header:a", value)));
                keys.extend(b.map(|value| ("header:b", value)));
                let mut found = met(&imported, "d", &keys);
                // Cases of one limit that meet count alike.
                found.dedup();
                prop_assert_eq!(found, expected, "a {:?} b {:?}\n{}", a, b, imported.toml);
            }
        }
    }
}
