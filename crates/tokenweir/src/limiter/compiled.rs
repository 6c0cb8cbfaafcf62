//! A policy made ready to decide by: one rule for each limit, and the identities that outlive a change of policy.

use super::rule::Rule;
use crate::counter::bucket::BucketRule;
use crate::policy::{Algorithm, Limit, Meter, Policy};
use std::collections::{HashMap, HashSet};

/// What makes a counter the same counter under another policy: the limit's name and scope, and what the contract
/// says starts a new one when it changes (algorithm and period). The meter belongs to it too, since tokens cannot be
/// compared with requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    name: String,
    scope: Vec<String>,
    meter: Meter,
    algorithm: &'static str,
    period: String,
}

impl Identity {
    fn of(limit: &Limit) -> Self {
        let period = match limit.algorithm() {
            Algorithm::Bucket { per, .. } => per.to_string(),
            Algorithm::Window { per, sub_windows, .. } => format!("{per}/{sub_windows}"),
            Algorithm::Quota { period, .. } => format!("{period:?}"),
            Algorithm::InFlight { .. } => String::new(),
        };
        Identity {
            name: limit.name().to_string(),
            scope: limit.scope().iter().map(ToString::to_string).collect(),
            meter: limit.meter(),
            algorithm: limit.algorithm().as_str(),
            period,
        }
    }
}

/// All identities that have counters, with the bucket rule each had last: the next one follows it.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    known: HashMap<Identity, (u32, Option<BucketRule>)>,
    next: u32,
    generation: u64,
}

/// A policy with its rules. Immutable; a new policy is a new one of these.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) policy: Policy,
    /// One for each limit, in the policy's order.
    pub(crate) rules: Vec<Rule>,
    /// The identity of each limit.
    pub(crate) identities: Vec<u32>,
    /// The limit of each identity, for those that this policy has.
    limits: HashMap<u32, usize>,
    /// Counts policies; a route of an older one is stale.
    pub(crate) generation: u64,
}

impl Compiled {
    pub(crate) fn limit_of(&self, identity: u32) -> Option<usize> {
        self.limits.get(&identity).copied()
    }
}

impl Identities {
    /// Makes `policy` ready, as of monotonic `now`. Buckets of limits that are still there go on from what they were.
    pub(crate) fn compile(&mut self, policy: Policy, now: u64) -> Compiled {
        let mut rules = Vec::with_capacity(policy.limits().len());
        let mut identities = Vec::with_capacity(policy.limits().len());
        for limit in policy.limits() {
            let (next, known) = (&mut self.next, &mut self.known);
            let (id, bucket) = known.entry(Identity::of(limit)).or_insert_with(|| {
                *next += 1;
                (*next, None)
            });
            let rule = match limit.algorithm() {
                Algorithm::Bucket { amount, per, burst } => {
                    let rule = match bucket.take() {
                        Some(before) => before.changed(*burst, *amount, now),
                        None => BucketRule::new(*burst, *amount, *per, now),
                    };
                    *bucket = Some(rule.clone());
                    Rule::Bucket(rule)
                }
                algorithm @ Algorithm::Window { amount, .. } => {
                    Rule::window(algorithm).unwrap_or(Rule::InFlight(*amount))
                }
                Algorithm::Quota { amount, period } => Rule::quota(*amount, period.clone()),
                Algorithm::InFlight { amount } => Rule::InFlight(*amount),
            };
            rules.push(rule);
            identities.push(*id);
        }
        let limits = identities.iter().enumerate().map(|(limit, id)| (*id, limit)).collect();
        self.generation += 1;
        Compiled { policy, rules, identities, limits, generation: self.generation }
    }

    /// Forgets the identities that neither the policy nor any counter has.
    pub(crate) fn retain(&mut self, policy: &Compiled, counted: &HashSet<u32>) {
        self.known.retain(|_, (id, _)| counted.contains(id) || policy.limit_of(*id).is_some());
    }
}
