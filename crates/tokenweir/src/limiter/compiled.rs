//! A policy made ready to decide by: one rule for each limit, and the identities that outlive a change of policy.
//!
//! `kept`: both as a region keeps them.

mod kept;

use super::route::Leg;
use super::rule::{Kept, Rule};
use crate::counter::bucket::BucketRule;
use crate::counter::floors::Histories;
use crate::policy::{Algorithm, Limit, Policy};
use crate::sync::Word;
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a store knows a quota by: its name, meter, period and scope, as JSON. Empty for other limits.
fn in_a_store(limit: &Limit) -> String {
    let Algorithm::Quota { period, .. } = limit.algorithm() else { return String::new() };
    let scope: Vec<String> = limit.scope().iter().map(ToString::to_string).collect();
    // A list of texts is always JSON.
    serde_json::to_string(&(&**limit.name(), limit.meter().as_str(), period.to_string(), scope)).unwrap_or_default()
}

/// An identity's number, and what its limit was last: a bucket's next rule follows it, and counters whose limit is not
/// in the policy for now go on by it.
#[derive(Debug)]
struct Known {
    id: u32,
    /// As far as its counters are concerned.
    limit: Limit,
    /// The last policy that had it.
    generation: u64,
    bucket: Option<BucketRule>,
    /// What a store knows a quota by.
    stored_as: Arc<str>,
}

/// The policy of a region, as its rules know it: in force as long as the word says its name.
pub(crate) type InRegion = (&'static Word, u64);

impl Known {
    fn rule(&self, lease_part: Option<u64>, region: Option<InRegion>) -> Rule {
        let until = self.limit.until();
        match (self.limit.algorithm(), &self.bucket) {
            (_, Some(rule)) => Rule::Bucket(match region {
                Some((word, named)) => rule.in_region(word, named),
                None => rule.clone(),
            }),
            (Algorithm::Window { amount, per, sub_windows }, _) => Rule::window(*amount, *per, *sub_windows, until),
            (Algorithm::Quota { amount, period }, _) => {
                let kept = lease_part.map(|part| Kept { name: self.stored_as.clone(), lease: (amount / part).max(1) });
                Rule::quota(*amount, period.clone(), until, kept)
            }
            (Algorithm::InFlight { amount } | Algorithm::Bucket { amount, .. }, _) => Rule::InFlight(*amount),
        }
    }
}

/// All identities that a policy or a counter has.
#[derive(Debug)]
pub(crate) struct Identities {
    /// By what [`Limit::identity`] says.
    known: HashMap<String, Known>,
    next: u32,
    generation: u64,
    histories: Arc<Histories>,
    /// If a store keeps the use of quotas: a lease is one part of so many of the amount.
    lease_part: Option<u64>,
}

type Legs = Vec<Arc<[Leg]>>;

/// So many lists of legs are shared between routes: few policies have more, and each is compared with a new route's.
const MOST_LISTS: usize = 64;

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
    /// The rules of identities that have counters, but no limit in this policy.
    absent: HashMap<u32, Rule>,
    /// Lists of legs that routes of this policy have; the first ones.
    legs: ArcSwap<Legs>,
    /// Counts policies; a route of an older one is stale.
    pub(crate) generation: u64,
    /// Where a region keeps it.
    pub(crate) place: usize,
    /// No identity so far has a higher number.
    last_identity: u32,
}

impl Compiled {
    /// These legs, in one copy for all routes that have the same: most do.
    pub(crate) fn shared(&self, legs: Vec<Leg>) -> Arc<[Leg]> {
        let known = |lists: &Legs| lists.iter().find(|list| ***list == *legs).cloned();
        let lists = self.legs.load();
        if let Some(list) = known(&lists) {
            return list;
        }
        let list: Arc<[Leg]> = legs.as_slice().into();
        if lists.len() < MOST_LISTS {
            self.legs.rcu(|lists| {
                let mut longer = Legs::clone(lists);
                longer.push(list.clone());
                longer
            });
        }
        list
    }

    pub(crate) fn limit_of(&self, identity: u32) -> Option<usize> {
        self.limits.get(&identity).copied()
    }

    /// The rule that counters of this identity go by, also while the policy does not have their limit.
    pub(crate) fn rule_of(&self, identity: u32) -> Option<&Rule> {
        match self.limits.get(&identity) {
            Some(limit) => Some(&self.rules[*limit]),
            None => self.absent.get(&identity),
        }
    }

    /// Whether nothing is left of this identity: no later policy has it either.
    pub(crate) fn is_forgotten(&self, identity: u32) -> bool {
        identity <= self.last_identity && self.rule_of(identity).is_none()
    }
}

impl Identities {
    /// None yet; their buckets share this room for histories. `lease_part`: see the field.
    pub(crate) fn new(histories: Arc<Histories>, lease_part: Option<u64>) -> Self {
        Identities { known: HashMap::new(), next: 0, generation: 0, histories, lease_part }
    }

    /// Where their buckets have room for histories.
    pub(crate) fn histories(&self) -> &Arc<Histories> {
        &self.histories
    }

    /// Makes `policy` ready, as of monotonic `now`. Buckets of limits that are still there go on from what they were.
    pub(crate) fn compile(&mut self, policy: Policy, now: u64) -> Compiled {
        self.change(&policy, now);
        self.compiled(policy, 0, None)
    }

    /// Takes up what `policy` says of its limits, as of monotonic `now`.
    fn change(&mut self, policy: &Policy, now: u64) {
        self.generation += 1;
        for limit in policy.limits() {
            let (next, generation) = (&mut self.next, self.generation);
            let known = self.known.entry(limit.identity()).or_insert_with(|| {
                *next += 1;
                Known { id: *next, limit: limit.bare(), generation, bucket: None, stored_as: in_a_store(limit).into() }
            });
            known.limit = limit.bare();
            known.generation = generation;
            if let Algorithm::Bucket { amount, per, burst } = limit.algorithm() {
                known.bucket = Some(match known.bucket.take() {
                    Some(before) => before.changed(*burst, *amount, now),
                    None => BucketRule::new(*burst, *amount, *per, now, self.histories.clone()),
                });
            }
        }
    }

    /// The policy that was taken up last, ready. `place`, `region`: where a region keeps it.
    pub(super) fn compiled(&self, policy: Policy, place: usize, region: Option<InRegion>) -> Compiled {
        let mut rules = Vec::with_capacity(policy.limits().len());
        let mut identities = Vec::with_capacity(policy.limits().len());
        for known in policy.limits().iter().filter_map(|limit| self.known.get(&limit.identity())) {
            rules.push(known.rule(self.lease_part, region));
            identities.push(known.id);
        }
        let limits: HashMap<u32, usize> = identities.iter().enumerate().map(|(limit, id)| (*id, limit)).collect();
        let absent = self.known.values().filter(|known| !limits.contains_key(&known.id));
        let absent = absent.map(|known| (known.id, known.rule(self.lease_part, region))).collect();
        let (legs, generation, last_identity) = (ArcSwap::default(), self.generation, self.next);
        Compiled { policy, rules, identities, limits, absent, legs, generation, place, last_identity }
    }

    /// Forgets the identities that neither the policy nor any counter has.
    pub(crate) fn retain(&mut self, policy: &Compiled, counted: &HashSet<u32>) {
        self.known.retain(|_, known| counted.contains(&known.id) || policy.limit_of(known.id).is_some());
    }
}
