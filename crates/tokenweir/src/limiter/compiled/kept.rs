//! A policy with its identities as a region keeps it: a document that every process reads.

use super::{Histories, Identities, Known};
use crate::counter::bucket::BucketRule;
use crate::policy::{Algorithm, Limit, Policy};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Document {
    generation: u64,
    /// The highest number of an identity so far.
    next: u32,
    policy: Box<RawValue>,
    /// By limit of the policy.
    limits: Vec<Kept>,
    absent: Vec<Absent>,
}

/// An identity's number, and a bucket's rule.
#[derive(Serialize, Deserialize)]
struct Kept(u32, #[serde(default, skip_serializing_if = "Vec::is_empty")] Vec<u64>);

/// An identity that the policy does not have.
#[derive(Serialize, Deserialize)]
struct Absent {
    limit: Box<RawValue>,
    generation: u64,
    kept: Kept,
}

impl Known {
    fn kept(&self) -> Kept {
        Kept(self.id, self.bucket.as_ref().map(BucketRule::numbers).unwrap_or_default())
    }

    fn of(limit: &Limit, Kept(id, numbers): &Kept, generation: u64, histories: &Arc<Histories>) -> Option<Self> {
        let bucket = match limit.algorithm() {
            Algorithm::Bucket { amount, per, burst } => {
                Some(BucketRule::of(*burst, *amount, *per, numbers, histories.clone())?)
            }
            _ => None,
        };
        // No store keeps what is in a region.
        Some(Known { id: *id, limit: limit.bare(), generation, bucket, stored_as: "".into() })
    }
}

impl Identities {
    /// Takes up `policy`, as of monotonic `now`, and forgets the identities that no counter has and no policy has had
    /// `lately`. What there is to be kept of it; `None` if that could not be read as the same.
    pub(in crate::limiter) fn keep(
        &mut self,
        policy: &Policy,
        now: u64,
        counted: &HashSet<u32>,
        lately: u64,
    ) -> Option<String> {
        self.change(policy, now);
        let generation = self.generation;
        self.known
            .retain(|_, known| counted.contains(&known.id) || generation.saturating_sub(known.generation) < lately);
        let is_in = |known: &Known| known.generation == generation;
        let raw = |text| RawValue::from_string(text).ok();
        let text = policy.to_json();
        if Policy::from_json(&text).ok()? != *policy {
            return None;
        }
        let known = |limit: &Limit| self.known.get(&limit.identity()).map(Known::kept);
        let absent = self.known.values().filter(|known| !is_in(known)).map(|known| {
            Some(Absent { limit: raw(known.limit.bare_to_json())?, generation: known.generation, kept: known.kept() })
        });
        let document = Document {
            generation,
            next: self.next,
            policy: raw(text)?,
            limits: policy.limits().iter().map(known).collect::<Option<_>>()?,
            absent: absent.collect::<Option<_>>()?,
        };
        serde_json::to_string(&document).ok()
    }

    /// What such a document says; `None` if it is none.
    pub(in crate::limiter) fn read(document: &[u8], histories: &Arc<Histories>) -> Option<(Policy, Self)> {
        let document: Document = serde_json::from_slice(document).ok()?;
        let policy = Policy::from_json(document.policy.get()).ok()?;
        if policy.limits().len() != document.limits.len() {
            return None;
        }
        let generation = document.generation;
        let mut known = HashMap::with_capacity(document.limits.len() + document.absent.len());
        for (limit, kept) in policy.limits().iter().zip(&document.limits) {
            known.insert(limit.identity(), Known::of(limit, kept, generation, histories)?);
        }
        for absent in &document.absent {
            let limit = Limit::bare_from_json(absent.limit.get())?;
            known.insert(limit.identity(), Known::of(&limit, &absent.kept, absent.generation, histories)?);
        }
        let histories = histories.clone();
        let identities = Identities { known, next: document.next, generation, histories, lease_part: None };
        Some((policy, identities))
    }
}
