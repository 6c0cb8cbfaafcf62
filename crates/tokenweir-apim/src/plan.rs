//! Limits found in documents, made into limits of a policy.
//!
//! A policy's match says what a request must look like, never what it must not. So what a limit does not apply to is
//! said by another limit that overrides it there: the one that applies instead, where there is one that fits exactly,
//! or else a shadow limit, which refuses nothing.

use std::collections::{BTreeMap, BTreeSet};

use tokenweir::policy::Pattern;

use crate::limits::{Dimension, Slot};
use crate::value::{Guard, Piece, shown};
use crate::walk::Occurrence;

/// The most parts of a scope or match of a policy.
const MAX_PARTS: usize = 16;
/// The longest name.
const MAX_NAME: usize = 160;

/// A limit of the policy to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) dimension: Dimension,
    pub(crate) amount: u64,
    pub(crate) scope: Vec<String>,
    pub(crate) require: bool,
    pub(crate) matches: BTreeMap<String, String>,
    pub(crate) overrides: Option<String>,
    /// It takes requests out of the limit that it overrides.
    pub(crate) exempts: bool,
    /// The elements it comes from, the first one first; the others share its counter.
    pub(crate) elements: Vec<usize>,
    pub(crate) uses: BTreeSet<usize>,
    pub(crate) key: Vec<Piece>,
    pub(crate) guard: Guard,
    pub(crate) differs: BTreeSet<String>,
    pub(crate) answers: Vec<(String, String)>,
}

/// Limits that would share a counter and do not allow the same.
#[derive(Debug)]
pub(crate) struct Conflict {
    pub(crate) element: usize,
    pub(crate) first: usize,
    pub(crate) key: String,
    pub(crate) amounts: (u64, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) limits: Vec<Planned>,
    pub(crate) conflicts: Vec<Conflict>,
    /// Elements with a case that no limit says, and why.
    pub(crate) not_mapped: Vec<(usize, String)>,
}

/// Makes the plan. `rename`: parts that are called otherwise in the policy.
pub(crate) fn plan(occurrences: Vec<Occurrence>, rename: &BTreeMap<String, String>, classic: bool) -> Plan {
    let mut plan = Plan::default();
    let mut merged: Vec<Occurrence> = Vec::new();
    for group in grouped(occurrences) {
        for (place, one) in group.iter().enumerate() {
            // Each case would have a counter, and the cases together would be let through that often.
            let split = group.iter().enumerate().any(|(other, two)| other != place && two.slot == one.slot);
            if split && one.slot.key.iter().all(|piece| part_of(piece).is_none()) {
                let reason = format!(
                    "several cases share one counter, {:?}, and no single match says them: {}",
                    shown(&one.slot.key),
                    one.guard
                );
                plan.not_mapped.push((one.element, reason));
            } else {
                merged.push(one.clone());
            }
        }
    }
    plan.share(merged, classic);
    let planned = std::mem::take(&mut plan.limits);
    let mut excluded: Vec<(usize, Vec<BTreeMap<String, String>>)> = Vec::new();
    for mut limit in planned {
        match limit.terms(rename) {
            Ok(exclusions) => {
                excluded.push((plan.limits.len(), exclusions));
                plan.limits.push(limit);
            }
            Err(reason) => {
                plan.not_mapped.extend(limit.elements.iter().map(|element| (*element, reason.clone())));
            }
        }
    }
    plan.names();
    plan.exclude(excluded);
    plan
}

/// The occurrences of each element and slot, with as few guards as say the same; elements in their order.
fn grouped(occurrences: Vec<Occurrence>) -> Vec<Vec<Occurrence>> {
    let mut order: Vec<usize> = Vec::new();
    let mut groups: BTreeMap<usize, Vec<Occurrence>> = BTreeMap::new();
    for occurrence in occurrences {
        if !groups.contains_key(&occurrence.element) {
            order.push(occurrence.element);
        }
        let group = groups.entry(occurrence.element).or_default();
        match group.iter_mut().find(|one| one.slot == occurrence.slot && one.guard == occurrence.guard) {
            Some(same) => {
                same.uses.extend(occurrence.uses);
                same.differs.extend(occurrence.differs);
            }
            None => group.push(occurrence),
        }
    }
    order
        .into_iter()
        .filter_map(|element| groups.remove(&element))
        .map(|mut group| {
            while let Some((one, other, guard)) = union(&group) {
                let removed = group.remove(one.max(other));
                let kept = &mut group[one.min(other)];
                kept.guard = guard;
                kept.uses.extend(removed.uses);
                kept.differs.extend(removed.differs);
            }
            group
        })
        .collect()
}

/// Two occurrences of one slot that are one, with the guard of both.
fn union(group: &[Occurrence]) -> Option<(usize, usize, Guard)> {
    group.iter().enumerate().find_map(|(place, one)| {
        let others = group.iter().enumerate().filter(|(other, two)| *other != place && two.slot == one.slot);
        others
            .map(|(other, two)| (other, one.guard.union(&two.guard)))
            .find_map(|(other, guard)| Some((place, other, guard?)))
    })
}

type Identity = (Dimension, String, Option<usize>);

/// What counters are told apart by in API Management.
fn identity(slot: &Slot, element: usize, classic: bool) -> Identity {
    let dimension = match &slot.dimension {
        // In the v2 tiers a key stands for one counter, whatever the period.
        Dimension::CallRate { .. } if !classic => Dimension::CallRate { seconds: 0 },
        other => other.clone(),
    };
    (dimension, shown(&slot.key), slot.own.then_some(element))
}

impl Plan {
    /// One limit for each counter; what shares a counter must allow the same.
    fn share(&mut self, occurrences: Vec<Occurrence>, classic: bool) {
        let mut by_identity: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for occurrence in occurrences {
            let Occurrence { element, guard, slot, uses, differs, answers } = occurrence;
            let own = by_identity.entry(identity(&slot, element, classic)).or_default();
            let mut differs = differs;
            let mut shared = None;
            for earlier in own.iter().copied() {
                let limit = &self.limits[earlier];
                if limit.elements.contains(&element) {
                    // Cases of one element: another amount is meant.
                    let parts: BTreeSet<&str> = limit.key.iter().filter_map(part_of).collect();
                    let apart = guard.literals().iter().chain(limit.guard.literals());
                    if !apart.into_iter().all(|literal| parts.contains(literal.part.as_str())) {
                        differs.insert(
                            "API Management has one counter for all cases of a key; here each case has its own".into(),
                        );
                    }
                    continue;
                }
                let Some(both) = limit.guard.and(&guard) else { continue };
                if (limit.amount, &limit.dimension) != (slot.amount, &slot.dimension) {
                    self.conflicts.push(Conflict {
                        element,
                        first: limit.elements[0],
                        key: shown(&slot.key),
                        amounts: (limit.amount, slot.amount),
                    });
                } else if both == guard {
                    shared = Some(earlier);
                    break;
                } else if both == limit.guard {
                    // The later one applies to more: it takes the place.
                    self.limits[earlier].guard = guard.clone();
                    shared = Some(earlier);
                    break;
                } else {
                    differs.insert(
                        "API Management has one counter for this key wherever it is used; here this limit has its own"
                            .into(),
                    );
                }
            }
            if let Some(earlier) = shared {
                let limit = &mut self.limits[earlier];
                limit.elements.push(element);
                limit.uses.extend(uses);
                limit.differs.extend(differs);
                continue;
            }
            own.push(self.limits.len());
            self.limits.push(Planned {
                name: String::new(),
                dimension: slot.dimension,
                amount: slot.amount,
                scope: Vec::new(),
                require: false,
                matches: BTreeMap::new(),
                overrides: None,
                exempts: false,
                elements: vec![element],
                uses,
                key: slot.key,
                guard,
                differs,
                answers,
            });
        }
    }

    /// Each limit has a name that says what it counts and for whom, and that no other has.
    fn names(&mut self) {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for limit in &mut self.limits {
            limit.name = unique(limit.title(), &mut taken);
        }
    }

    /// Takes out of each limit what it does not apply to.
    fn exclude(&mut self, excluded: Vec<(usize, Vec<BTreeMap<String, String>>)>) {
        let mut taken: BTreeSet<String> = self.limits.iter().map(|limit| limit.name.clone()).collect();
        let mut exempting: Vec<Planned> = Vec::new();
        for (at, exclusions) in excluded {
            let apart = exclusions
                .iter()
                .enumerate()
                .all(|(place, one)| exclusions[..place].iter().all(|other| disjoint(one, other)));
            for exclusion in exclusions {
                // Of several that override a limit one applies, so they must never meet.
                let instead = self.limits.iter().position(|other| {
                    let same = other.dimension.kind() == self.limits[at].dimension.kind();
                    apart && same && other.overrides.is_none() && other.covers() == exclusion
                });
                let limit = &self.limits[at];
                let name = limit.name.clone();
                if let Some(instead) = instead.filter(|instead| *instead != at) {
                    self.limits[instead].overrides = Some(name);
                    continue;
                }
                let title = format!("{name} does not count {}", conditions(&exclusion));
                exempting.push(Planned {
                    name: unique(title, &mut taken),
                    scope: Vec::new(),
                    require: false,
                    matches: exclusion,
                    overrides: Some(name),
                    exempts: true,
                    differs: BTreeSet::new(),
                    answers: Vec::new(),
                    ..limit.clone()
                });
            }
        }
        for limit in exempting {
            let after = self.limits.iter().position(|other| Some(&other.name) == limit.overrides.as_ref());
            self.limits.insert(after.map_or(self.limits.len(), |after| after + 1), limit);
        }
    }
}

impl Planned {
    /// Sets scope and match; what it is not for is returned, a match for each.
    fn terms(&mut self, rename: &BTreeMap<String, String>) -> Result<Vec<BTreeMap<String, String>>, String> {
        let called = |part: &str| rename.get(part).map_or(part, String::as_str).to_owned();
        for piece in &self.key {
            if let Piece::Part { part, .. } = piece {
                let part = called(part);
                if !self.scope.contains(&part) {
                    self.scope.push(part);
                }
            }
        }
        let mut matches: BTreeMap<String, String> = BTreeMap::new();
        for literal in self.guard.literals().iter().filter(|literal| literal.fits) {
            let part = called(&literal.part);
            let pattern = match matches.get(&part) {
                None => literal.pattern.clone(),
                Some(other) => narrower(other, &literal.pattern)
                    .ok_or_else(|| format!("{part} has to fit two patterns, {other:?} and {:?}", literal.pattern))?,
            };
            matches.insert(part, pattern);
        }
        let mut exclusions: Vec<BTreeMap<String, String>> = Vec::new();
        for literal in self.guard.literals().iter().filter(|literal| !literal.fits) {
            let part = called(&literal.part);
            let pattern = match matches.get(&part) {
                None => literal.pattern.clone(),
                Some(own) => narrower(own, &literal.pattern)
                    .ok_or_else(|| format!("{part} has to fit {own:?} and not {:?}", literal.pattern))?,
            };
            let mut exclusion = matches.clone();
            exclusion.insert(part, pattern);
            if !exclusions.contains(&exclusion) {
                exclusions.push(exclusion);
            }
        }
        self.require = self.scope.iter().any(|part| part.starts_with("key:") && !matches.contains_key(part));
        // That a part of the scope is there, the scope itself says.
        matches.retain(|part, pattern| pattern != "*" || !(part.starts_with("key:") && self.scope.contains(part)));
        self.matches = matches;
        let most = self.scope.len().max(self.matches.len() + 1);
        if most > MAX_PARTS {
            return Err(format!("its scope or match names {most} parts, and a policy takes {MAX_PARTS}"));
        }
        Ok(exclusions)
    }

    /// The requests that it stands for, as a match: those that have the parts of its scope included.
    fn covers(&self) -> BTreeMap<String, String> {
        let mut covers = self.matches.clone();
        if !self.require {
            for part in self.scope.iter().filter(|part| part.starts_with("key:")) {
                covers.entry(part.clone()).or_insert_with(|| "*".into());
            }
        }
        covers
    }

    fn title(&self) -> String {
        let mut title = match &self.dimension {
            Dimension::TokenRate => "tokens per minute".to_owned(),
            Dimension::TokenQuota { period } => format!("{period} tokens"),
            Dimension::CallRate { seconds } => format!("calls per {seconds} s"),
            Dimension::CallQuota { seconds: 0, .. } => "calls in all".to_owned(),
            Dimension::CallQuota { seconds, .. } => format!("calls every {seconds} s"),
            Dimension::Concurrency => "calls at a time".to_owned(),
        };
        let parts: Vec<&str> = self.scope.iter().map(|part| short(part)).collect();
        if !parts.is_empty() {
            title.push_str(&format!(" by {}", parts.join(" and ")));
        } else {
            title.push_str(&format!(" of {:?}", shown(&self.key)));
        }
        if !self.matches.is_empty() {
            title.push_str(&format!(" where {}", conditions(&self.matches)));
        }
        title
    }
}

impl Dimension {
    /// Dimensions that may stand in for one another.
    fn kind(&self) -> u8 {
        match self {
            Dimension::TokenRate => 0,
            Dimension::TokenQuota { .. } => 1,
            Dimension::CallRate { .. } => 2,
            Dimension::CallQuota { .. } => 3,
            Dimension::Concurrency => 4,
        }
    }
}

fn part_of(piece: &Piece) -> Option<&str> {
    match piece {
        Piece::Part { part, .. } => Some(part),
        Piece::Known(_) => None,
    }
}

fn short(part: &str) -> &str {
    part.strip_prefix("key:").unwrap_or(part)
}

fn conditions(matches: &BTreeMap<String, String>) -> String {
    let each = matches.iter().map(|(part, pattern)| match pattern.as_str() {
        "*" => format!("{} is there", short(part)),
        _ => format!("{} is {pattern}", short(part)),
    });
    each.collect::<Vec<_>>().join(" and ")
}

/// The pattern that says both, where one of them does.
fn narrower(one: &str, other: &str) -> Option<String> {
    let (a, b) = (Pattern::new(one), Pattern::new(other));
    let within = |inner: &Pattern, outer: &Pattern| {
        inner == outer || outer.as_str() == "*" || (inner.is_exact() && outer.matches(inner.as_str().as_bytes()))
    };
    if within(&a, &b) {
        Some(one.to_owned())
    } else if within(&b, &a) {
        Some(other.to_owned())
    } else {
        None
    }
}

/// Whether no request fits both.
fn disjoint(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    one.iter().any(|(part, pattern)| {
        other.get(part).is_some_and(|against| !Pattern::new(pattern).can_intersect(&Pattern::new(against)))
    })
}

fn unique(title: String, taken: &mut BTreeSet<String>) -> String {
    // A name is read by people: no control characters, and no longer than a line.
    let clean: String = title.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let mut short: String = clean.trim().chars().take(MAX_NAME).collect();
    if short.len() < clean.trim().len() {
        short.push_str("...");
    }
    let mut name = short.clone();
    for number in 2.. {
        if taken.insert(name.clone()) {
            break;
        }
        name = format!("{short} ({number})");
    }
    name
}
