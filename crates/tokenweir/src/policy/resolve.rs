//! Which limits apply to a request, and why the others do not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ahash::HashMap;

use super::charge::ChargeRule;
use super::error::ResolveError;
use super::limit::{Limit, Policy, Price, ScopePart};
use super::pattern::Pattern;
use crate::Request;

/// What a match looks at. Shown as policies write it: `project`, `deployment`, `key:user`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchField {
    /// The project of the request.
    Project,
    /// The deployment of the request.
    Deployment,
    /// The caller key of this name.
    Key(Arc<str>),
}

impl MatchField {
    fn value<'a>(&self, request: &Request<'a>) -> Option<&'a [u8]> {
        match self {
            MatchField::Project => Some(request.project),
            MatchField::Deployment => Some(request.deployment),
            MatchField::Key(name) => request.key(name),
        }
    }
}

impl fmt::Display for MatchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MatchField::Project => f.write_str("project"),
            MatchField::Deployment => f.write_str("deployment"),
            MatchField::Key(name) => write!(f, "key:{name}"),
        }
    }
}

impl ScopePart {
    fn value<'a>(&self, request: &Request<'a>) -> Option<&'a [u8]> {
        match self {
            ScopePart::Project => Some(request.project),
            ScopePart::Deployment => Some(request.deployment),
            ScopePart::Key(name) => request.key(name),
        }
    }
}

/// What a policy says of one route, that is of all requests of the same project, deployment and caller keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// The limits that apply, in the order of the policy. None: the request is not governed.
    pub applied: Vec<Applied>,
    /// The other limits and why they do not apply, in the order of the policy; only
    /// [`explain`](Policy::explain) fills it.
    pub skipped: Vec<Skipped>,
}

/// A limit that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its place in [`Policy::limits`].
    pub limit: usize,
    /// Which of its counters: the values of its scope, so encoded that different values never give the same key.
    pub key: Vec<u8>,
    /// What it charges.
    pub charge: ChargeRule,
}

/// A limit that does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its place in [`Policy::limits`].
    pub limit: usize,
    /// Why it does not apply.
    pub reason: SkipReason,
}

/// Why a limit does not apply to a request. Values that are not UTF-8 are shown with U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// A field of its match does not fit.
    NoMatch {
        /// The field.
        field: MatchField,
        /// What the request has there.
        value: String,
        /// What it would have to look like.
        pattern: Pattern,
    },
    /// Its match looks at a caller key that the request lacks.
    MatchKeyAbsent {
        /// The name of the key, without `key:`.
        key: String,
    },
    /// Its scope counts by a caller key that the request lacks.
    ScopeKeyAbsent {
        /// The name of the key, without `key:`.
        key: String,
    },
    /// Another limit that applies stands in for it.
    Overridden {
        /// The name of that limit.
        by: Arc<str>,
    },
    /// It overrides a limit that a more specific one overrides, too.
    LessSpecific {
        /// The name of the limit that both override.
        of: Arc<str>,
        /// The name of the more specific one.
        than: Arc<str>,
    },
    /// It overrides a limit that does not apply because of [`LessSpecific`](SkipReason::LessSpecific).
    OverridesSkipped {
        /// The name of the limit that it overrides.
        overrides: Arc<str>,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SkipReason::NoMatch { field, value, pattern } => {
                write!(f, "{field} is {value:?} and the pattern is {:?}", pattern.as_str())
            }
            SkipReason::MatchKeyAbsent { key } => {
                write!(f, "the request has no key:{key}, which the match looks at")
            }
            SkipReason::ScopeKeyAbsent { key } => {
                write!(f, "the request has no key:{key}, by which the limit counts")
            }
            SkipReason::Overridden { by } => write!(f, "overridden by limit {by:?}"),
            SkipReason::LessSpecific { of, than } => {
                write!(f, "limit {than:?} overrides {of:?}, too, and is more specific")
            }
            SkipReason::OverridesSkipped { overrides } => {
                write!(f, "it stands in for limit {overrides:?}, which gives way to a more specific one")
            }
        }
    }
}

/// The names of all caller keys that limits look at, sorted.
pub(super) fn key_names(limits: &[Limit]) -> Vec<Arc<str>> {
    let mut names = BTreeSet::new();
    for limit in limits {
        names.extend(limit.scope.iter().filter_map(|part| match part {
            ScopePart::Key(name) => Some(name),
            _ => None,
        }));
        names.extend(limit.matches.iter().filter_map(|(field, _)| match field {
            MatchField::Key(name) => Some(name),
            _ => None,
        }));
    }
    names.into_iter().cloned().collect()
}

/// Where to look for the limits of a request, so that not all of them need be looked at.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: HashMap<Arc<str>, usize>,
    /// Limits with an exact project.
    projects: HashMap<Box<[u8]>, ProjectIndex>,
    /// Limits with an exact deployment and any project.
    deployments: HashMap<Box<[u8]>, Vec<usize>>,
    /// Limits with neither: each request looks at all of them.
    rest: Vec<usize>,
    /// By limit: the limit it overrides.
    overridden: Vec<Option<usize>>,
    exact_prices: HashMap<Box<[u8]>, usize>,
    /// The prices with stars, the ones that win first.
    pattern_prices: Vec<usize>,
}

#[derive(Debug, Default)]
struct ProjectIndex {
    any_deployment: Vec<usize>,
    deployments: HashMap<Box<[u8]>, Vec<usize>>,
}

impl Index {
    pub(super) fn new(limits: &[Limit], prices: &[Price]) -> Self {
        let mut index = Index::default();
        for (at, limit) in limits.iter().enumerate() {
            index.names.insert(limit.name.clone(), at);
            let exact = |wanted: MatchField| {
                let (_, pattern) = limit.matches.iter().find(|(field, _)| *field == wanted)?;
                pattern.is_exact().then(|| Box::from(pattern.as_str().as_bytes()))
            };
            match (exact(MatchField::Project), exact(MatchField::Deployment)) {
                (Some(project), Some(deployment)) => {
                    let project = index.projects.entry(project).or_default();
                    project.deployments.entry(deployment).or_default().push(at);
                }
                (Some(project), None) => index.projects.entry(project).or_default().any_deployment.push(at),
                (None, Some(deployment)) => index.deployments.entry(deployment).or_default().push(at),
                (None, None) => index.rest.push(at),
            }
        }
        index.overridden = limits
            .iter()
            .map(|limit| limit.overrides.as_ref().and_then(|name| index.names.get(name).copied()))
            .collect();
        for (at, price) in prices.iter().enumerate() {
            if price.deployment.is_exact() {
                index.exact_prices.insert(Box::from(price.deployment.as_str().as_bytes()), at);
            } else {
                index.pattern_prices.push(at);
            }
        }
        // The longest first, and of the same length the later one.
        index.pattern_prices.sort_by_key(|at| std::cmp::Reverse((prices[*at].deployment.rank(), *at)));
        index
    }

    pub(super) fn by_name(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The limits whose exact project and deployment, where they have them, are those of the request; ascending.
    fn candidates(&self, request: &Request<'_>) -> Vec<usize> {
        let mut found = self.rest.clone();
        if let Some(project) = self.projects.get(request.project) {
            found.extend(&project.any_deployment);
            found.extend(project.deployments.get(request.deployment).into_iter().flatten());
        }
        found.extend(self.deployments.get(request.deployment).into_iter().flatten());
        found.sort_unstable();
        found
    }

    fn price<'p>(&self, prices: &'p [Price], deployment: &[u8]) -> Option<&'p Price> {
        let exact = self.exact_prices.get(deployment).copied();
        let at = exact.or_else(|| {
            let fits = |at: &usize| prices.get(*at).is_some_and(|price| price.deployment.matches(deployment));
            self.pattern_prices.iter().copied().find(fits)
        })?;
        prices.get(at)
    }
}

/// A limit whose match fits, before overrides are looked at.
struct Eligible {
    limit: usize,
    /// `None`: it requires a caller key that the request lacks, which is an error if it comes to apply.
    key: Option<Vec<u8>>,
    skipped: Option<SkipReason>,
}

impl Policy {
    /// The limits that apply to `request`, with the counter and the charge of each.
    ///
    /// A limit applies if its match fits and the request has the caller keys of its scope, unless a limit that
    /// overrides it does, too. Of several that override the same limit, the most specific one applies and the
    /// others do not: more exact fields in its match, then more fields, then longer patterns, then the later one.
    ///
    /// The answer holds for every request of the same project, deployment and caller keys, so a host may keep it.
    /// Looks only at the limits whose exact project and deployment are the request's, and those without either.
    ///
    /// # Errors
    /// A request that has an empty project, deployment or caller key, the same caller key twice, lacks a required
    /// one, or calls a deployment that is limited by cost and has no price.
    pub fn resolve(&self, request: &Request<'_>) -> Result<Resolution, ResolveError> {
        self.check(request)?;
        self.decide(request, &self.0.index.candidates(request), None)
    }

    /// As [`resolve`](Policy::resolve), and says of every other limit why it does not apply. Looks at all of them.
    ///
    /// # Errors
    /// As [`resolve`](Policy::resolve).
    pub fn explain(&self, request: &Request<'_>) -> Result<Resolution, ResolveError> {
        self.check(request)?;
        let all: Vec<usize> = (0..self.0.limits.len()).collect();
        let mut skipped = Vec::new();
        let mut resolution = self.decide(request, &all, Some(&mut skipped))?;
        skipped.sort_by_key(|skipped| skipped.limit);
        resolution.skipped = skipped;
        Ok(resolution)
    }

    /// How many limits [`resolve`](Policy::resolve) looks at.
    #[cfg(test)]
    fn candidates(&self, request: &Request<'_>) -> usize {
        self.0.index.candidates(request).len()
    }

    fn check(&self, request: &Request<'_>) -> Result<(), ResolveError> {
        let empty = |part: String| Err(ResolveError::EmptyKey { part });
        if request.project.is_empty() {
            return empty("project".to_owned());
        }
        if request.deployment.is_empty() {
            return empty("deployment".to_owned());
        }
        let known = |name: &str| self.0.key_names.binary_search_by(|known| (**known).cmp(name)).is_ok();
        for key in request.keys {
            if key.value.is_empty() && known(key.name) {
                return empty(format!("key:{}", key.name));
            }
        }
        let twice = |name: &str| Err(ResolveError::KeyTwice { key: name.to_owned() });
        if request.keys.len() <= 8 {
            for (at, key) in request.keys.iter().enumerate() {
                if request.keys[..at].iter().any(|earlier| earlier.name == key.name) {
                    return twice(key.name);
                }
            }
        } else {
            // Never quadratic, whatever a caller sends.
            let mut seen = BTreeSet::new();
            for key in request.keys {
                if !seen.insert(key.name) {
                    return twice(key.name);
                }
            }
        }
        Ok(())
    }

    /// Decides over `candidates`, which are ascending; the others do not match.
    fn decide(
        &self,
        request: &Request<'_>,
        candidates: &[usize],
        mut skipped: Option<&mut Vec<Skipped>>,
    ) -> Result<Resolution, ResolveError> {
        let limits = &self.0.limits;
        let mut eligible = Vec::with_capacity(candidates.len().min(16));
        for &at in candidates {
            let limit = &limits[at];
            match look_at(limit, request) {
                Ok(key) => eligible.push(Eligible { limit: at, key, skipped: None }),
                // The reason is built only where someone wants it: it takes text.
                Err(unfit) => {
                    if let Some(skipped) = skipped.as_deref_mut() {
                        skipped.push(Skipped { limit: at, reason: unfit.reason(request) });
                    }
                }
            }
        }
        if eligible.iter().any(|one| self.0.index.overridden[one.limit].is_some()) {
            self.settle_overrides(&mut eligible);
        }
        let mut applied = Vec::with_capacity(eligible.len());
        for one in eligible {
            if let Some(reason) = one.skipped {
                if let Some(skipped) = skipped.as_deref_mut() {
                    skipped.push(Skipped { limit: one.limit, reason });
                }
                continue;
            }
            let limit = &limits[one.limit];
            let Some(key) = one.key else {
                return Err(ResolveError::KeyMissing {
                    limit: limit.name.to_string(),
                    key: missing_key(limit, request).unwrap_or_default().to_owned(),
                });
            };
            let price = match limit.meter {
                super::Meter::Cost => self.0.index.price(&self.0.prices, request.deployment),
                _ => None,
            };
            let Some(charge) = ChargeRule::compile(limit, price, request.deployment) else {
                return Err(ResolveError::NoPrice {
                    limit: limit.name.to_string(),
                    deployment: String::from_utf8_lossy(request.deployment).into_owned(),
                });
            };
            applied.push(Applied { limit: one.limit, key, charge });
        }
        Ok(Resolution { applied, skipped: Vec::new() })
    }

    /// Marks the eligible limits that others stand in for.
    ///
    /// An eligible limit stands in for the one it names also if it is itself overridden: in a chain the last one
    /// stands in for all. Where several override the same limit, those that lose take with them what overrides
    /// them: a family of limits never applies twice.
    fn settle_overrides(&self, eligible: &mut [Eligible]) {
        let limits = &self.0.limits;
        let parent = |limit: usize| self.0.index.overridden[limit];
        // The most specific eligible limit that overrides each limit.
        let mut winners: HashMap<usize, usize> = HashMap::default();
        for one in eligible.iter() {
            if let Some(overridden) = parent(one.limit) {
                let winner = winners.entry(overridden).or_insert(one.limit);
                // Eligible limits are ascending: of the same rank the later one wins.
                if specificity(&limits[one.limit]) >= specificity(&limits[*winner]) {
                    *winner = one.limit;
                }
            }
        }
        let ids: Vec<usize> = eligible.iter().map(|one| one.limit).collect();
        let is_eligible = |limit: usize| ids.binary_search(&limit).is_ok();
        let lost_to = |limit: usize| {
            let of = parent(limit)?;
            winners.get(&of).copied().filter(|winner| *winner != limit).map(|than| (of, than))
        };
        // Whether a limit lost, or anything that it stands in for by way of eligible limits. Overrides have no
        // cycles, and each limit is asked once.
        let mut gone: HashMap<usize, bool> = HashMap::default();
        for &limit in &ids {
            let mut path = Vec::new();
            let mut at = Some(limit);
            let mut result = false;
            while let Some(limit) = at.filter(|limit| is_eligible(*limit)) {
                if let Some(known) = gone.get(&limit) {
                    result = *known;
                    break;
                }
                path.push(limit);
                if lost_to(limit).is_some() {
                    result = true;
                    break;
                }
                at = parent(limit);
            }
            gone.extend(path.into_iter().map(|limit| (limit, result)));
        }
        for one in eligible {
            let name = |limit: usize| limits[limit].name.clone();
            one.skipped = if let Some((of, than)) = lost_to(one.limit) {
                Some(SkipReason::LessSpecific { of: name(of), than: name(than) })
            } else if gone.get(&one.limit).copied().unwrap_or(false) {
                parent(one.limit).map(|of| SkipReason::OverridesSkipped { overrides: name(of) })
            } else {
                winners.get(&one.limit).map(|by| SkipReason::Overridden { by: name(*by) })
            };
        }
    }
}

/// How specific a match is: exact fields, then fields, then the length of the patterns.
fn specificity(limit: &Limit) -> (usize, usize, usize) {
    let exact = limit.matches.iter().filter(|(_, pattern)| pattern.is_exact()).count();
    let length = limit.matches.iter().map(|(_, pattern)| pattern.as_str().len()).sum();
    (exact, limit.matches.len(), length)
}

/// Why a limit on its own does not apply.
enum Unfit<'l> {
    NoMatch(&'l MatchField, &'l Pattern),
    MatchKeyAbsent(&'l str),
    ScopeKeyAbsent(&'l str),
}

impl Unfit<'_> {
    fn reason(&self, request: &Request<'_>) -> SkipReason {
        match self {
            Unfit::NoMatch(field, pattern) => SkipReason::NoMatch {
                field: (*field).clone(),
                value: String::from_utf8_lossy(field.value(request).unwrap_or_default()).into_owned(),
                pattern: (*pattern).clone(),
            },
            Unfit::MatchKeyAbsent(key) => SkipReason::MatchKeyAbsent { key: (*key).to_owned() },
            Unfit::ScopeKeyAbsent(key) => SkipReason::ScopeKeyAbsent { key: (*key).to_owned() },
        }
    }
}

/// The key of the counter that the request would meet; `None` if a required caller key is missing.
fn look_at<'l>(limit: &'l Limit, request: &Request<'_>) -> Result<Option<Vec<u8>>, Unfit<'l>> {
    for (field, pattern) in &limit.matches {
        match (field.value(request), field) {
            (Some(value), _) if pattern.matches(value) => {}
            (None, MatchField::Key(name)) => return Err(Unfit::MatchKeyAbsent(name)),
            _ => return Err(Unfit::NoMatch(field, pattern)),
        }
    }
    match missing_key(limit, request) {
        Some(_) if limit.require => Ok(None),
        Some(name) => Err(Unfit::ScopeKeyAbsent(name)),
        None => Ok(Some(encode_key(limit.scope.iter().filter_map(|part| part.value(request))))),
    }
}

/// The first caller key of the scope that the request lacks.
fn missing_key<'l>(limit: &'l Limit, request: &Request<'_>) -> Option<&'l str> {
    limit.scope.iter().find_map(|part| match part {
        ScopePart::Key(name) if request.key(name).is_none() => Some(&**name),
        _ => None,
    })
}

/// Each value after its length, in groups of seven bits. Where a value ends is thus never told by its bytes, and
/// no two lists of values have the same encoding.
pub(crate) fn encode_key<'v>(values: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut key = Vec::new();
    for value in values {
        let mut length = value.len();
        while length >= 0x80 {
            key.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        key.push(length as u8);
        key.extend_from_slice(value);
    }
    key
}

/// The parts of a key and their values, for those who look at counters. Stops where the key is not one of the scope.
pub(crate) fn decode_key(scope: &[impl ToString], key: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut parts = Vec::with_capacity(scope.len());
    let mut rest = key;
    for part in scope {
        let mut length = 0usize;
        let mut shift = 0;
        loop {
            let Some((byte, tail)) = rest.split_first() else { return parts };
            rest = tail;
            if shift >= usize::BITS {
                return parts;
            }
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let Some((value, tail)) = rest.split_at_checked(length) else { return parts };
        parts.push((part.to_string(), value.to_vec()));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use proptest::prelude::*;

    /// Limits of one line each: name, then what else it says.
    fn policy(limits: &[(&str, &str)]) -> Policy {
        let text: String = limits
            .iter()
            .map(|(name, more)| {
                format!("[[limit]]\nname = '{name}'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 1\nper = '1s'\n{more}\n")
            })
            .collect();
        Policy::from_toml(&text).unwrap()
    }

    /// The names of the limits that apply; `explain` has to agree and to account for every limit.
    #[track_caller]
    fn applied<'p>(policy: &'p Policy, request: &Request<'_>) -> Vec<&'p str> {
        let resolution = policy.resolve(request).unwrap();
        let explained = policy.explain(request).unwrap();
        assert_eq!(resolution.applied, explained.applied);
        assert!(resolution.applied.is_sorted_by_key(|applied| applied.limit));
        let mut all: Vec<usize> = explained.applied.iter().map(|applied| applied.limit).collect();
        all.extend(explained.skipped.iter().map(|skipped| skipped.limit));
        all.sort_unstable();
        assert_eq!(all, (0..policy.limits().len()).collect::<Vec<_>>());
        resolution.applied.iter().map(|applied| &**policy.limits()[applied.limit].name()).collect()
    }

    fn reason(policy: &Policy, request: &Request<'_>, name: &str) -> String {
        let resolution = policy.explain(request).unwrap();
        let at = policy.0.index.by_name(name).unwrap();
        resolution.skipped.iter().find(|skipped| skipped.limit == at).unwrap().reason.to_string()
    }

    #[test]
    fn matches_and_says_why_not() {
        let policy = policy(&[
            ("all", ""),
            ("b", "match = { project = 'b*' }"),
            ("ad", "match = { project = 'a', deployment = 'd' }"),
            ("d", "match = { deployment = 'd' }"),
            ("free", "match = { 'key:tier' = 'free' }"),
            ("user", "scope = ['key:user']"),
        ]);
        let request = Request::new("a", "d");
        assert_eq!(applied(&policy, &request), ["all", "ad", "d"]);
        assert_eq!(reason(&policy, &request, "b"), "project is \"a\" and the pattern is \"b*\"");
        assert_eq!(reason(&policy, &request, "free"), "the request has no key:tier, which the match looks at");
        assert_eq!(reason(&policy, &request, "user"), "the request has no key:user, by which the limit counts");
        let keys = [Key::new("user", "u"), Key::new("tier", "free"), Key::new("other", "")];
        assert_eq!(applied(&policy, &Request::new("bb", "x").with_keys(&keys)), ["all", "b", "free", "user"]);
        assert_eq!(policy.key_names().iter().map(|name| &**name).collect::<Vec<_>>(), ["tier", "user"]);
    }

    #[test]
    fn an_override_stands_in_where_it_matches() {
        let policy = policy(&[("default", ""), ("search", "overrides = 'default'\nmatch = { project = 'search' }")]);
        assert_eq!(applied(&policy, &Request::new("x", "d")), ["default"]);
        let search = Request::new("search", "d");
        assert_eq!(applied(&policy, &search), ["search"]);
        assert_eq!(reason(&policy, &search, "default"), "overridden by limit \"search\"");
    }

    #[test]
    fn an_override_that_lacks_its_key_does_not_stand_in() {
        let policy = policy(&[("default", ""), ("user", "overrides = 'default'\nscope = ['key:user']")]);
        assert_eq!(applied(&policy, &Request::new("p", "d")), ["default"]);
        let keys = [Key::new("user", "u")];
        assert_eq!(applied(&policy, &Request::new("p", "d").with_keys(&keys)), ["user"]);
    }

    #[test]
    fn chains_stand_in_for_all() {
        let policy = policy(&[
            ("c", "overrides = 'b'\nmatch = { deployment = 'd' }"),
            ("b", "overrides = 'a'\nmatch = { project = 'p' }"),
            ("a", ""),
        ]);
        assert_eq!(applied(&policy, &Request::new("p", "d")), ["c"]);
        assert_eq!(applied(&policy, &Request::new("p", "x")), ["b"]);
        assert_eq!(applied(&policy, &Request::new("x", "x")), ["a"]);
        // Where b does not match, there is nothing that c stands in for.
        assert_eq!(applied(&policy, &Request::new("x", "d")), ["c", "a"]);
    }

    #[test]
    fn the_most_specific_override_wins() {
        let policy = policy(&[
            ("a", ""),
            ("exact", "overrides = 'a'\nmatch = { project = 'search' }"),
            ("glob and glob", "overrides = 'a'\nmatch = { project = 's*', deployment = '*' }"),
            ("long", "overrides = 'a'\nmatch = { project = 'sear*' }"),
            ("short", "overrides = 'a'\nmatch = { project = 's*' }"),
            ("same", "overrides = 'a'\nmatch = { project = '*s' }"),
            ("on long", "overrides = 'long'\nmatch = { deployment = 'd*' }"),
        ]);
        let request = Request::new("search", "d");
        assert_eq!(applied(&policy, &request), ["exact"]);
        assert_eq!(reason(&policy, &request, "long"), "limit \"exact\" overrides \"a\", too, and is more specific");
        assert_eq!(
            reason(&policy, &request, "on long"),
            "it stands in for limit \"long\", which gives way to a more specific one"
        );
        assert_eq!(applied(&policy, &Request::new("sear", "d")), ["glob and glob"]);
        assert_eq!(applied(&policy, &Request::new("as", "d")), ["same", "on long"]);
        let policy = self::policy(&[
            ("a", ""),
            ("first", "overrides = 'a'\nmatch = { project = 's*' }"),
            ("later", "overrides = 'a'\nmatch = { project = '*s' }"),
            ("longer", "overrides = 'a'\nmatch = { project = 'ss*' }"),
        ]);
        assert_eq!(applied(&policy, &Request::new("s", "d")), ["later"]);
        assert_eq!(applied(&policy, &Request::new("ss", "d")), ["longer"]);
    }

    #[test]
    fn a_required_key_is_an_error_only_where_the_limit_applies() {
        let policy = policy(&[
            ("user", "scope = ['key:user']\nrequire = true\nmatch = { project = 'p*' }"),
            ("batch", "overrides = 'user'\nmatch = { project = 'pb' }"),
        ]);
        let missing = ResolveError::KeyMissing { limit: "user".into(), key: "user".into() };
        assert_eq!(policy.resolve(&Request::new("p", "d")), Err(missing.clone()));
        assert_eq!(policy.explain(&Request::new("p", "d")), Err(missing));
        assert_eq!(applied(&policy, &Request::new("x", "d")), [""; 0]);
        assert_eq!(applied(&policy, &Request::new("pb", "d")), ["batch"]);
    }

    #[test]
    fn empty_and_repeated_keys_are_errors() {
        let policy = policy(&[("user", "scope = ['key:user']")]);
        let empty = |part: &str| Err(ResolveError::EmptyKey { part: part.into() });
        assert_eq!(policy.resolve(&Request::new("", "d")), empty("project"));
        assert_eq!(policy.resolve(&Request::new("p", "")), empty("deployment"));
        let keys = [Key::new("user", "")];
        assert_eq!(policy.resolve(&Request::new("p", "d").with_keys(&keys)), empty("key:user"));
        let keys = [Key::new("team", "")];
        assert!(policy.resolve(&Request::new("p", "d").with_keys(&keys)).is_ok(), "no limit looks at it");
        let keys = [Key::new("user", "a"), Key::new("user", "b")];
        let twice = Err(ResolveError::KeyTwice { key: "user".into() });
        assert_eq!(policy.resolve(&Request::new("p", "d").with_keys(&keys)), twice);
        let names: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
        let mut keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(name, "v")).collect();
        assert!(policy.resolve(&Request::new("p", "d").with_keys(&keys)).is_ok());
        keys.push(Key::new("k3", "w"));
        let twice = Err(ResolveError::KeyTwice { key: "k3".into() });
        assert_eq!(policy.resolve(&Request::new("p", "d").with_keys(&keys)), twice);
    }

    #[test]
    fn a_deployment_without_a_price_is_an_error_where_cost_counts() {
        let text = "[[limit]]\nname = 'c'\nmeter = 'cost'\nalgorithm = 'quota'\nperiod = 'daily'\namount = 1\n\
                    [[price]]\ndeployment = 'gpt*'\ninput = 1000\noutput = 1000\n\
                    [[price]]\ndeployment = 'gpt-4*'\ninput = 2000\noutput = 1000\n\
                    [[price]]\ndeployment = 'gpt-4'\ninput = 3000\noutput = 1000\n";
        let policy = Policy::from_toml(text).unwrap();
        let tokens = crate::policy::Tokens { input: 1, cached_input: 0, output: 0 };
        for (deployment, cost) in [("gpt-3", 1), ("gpt-4o", 2), ("gpt-4", 3)] {
            let resolution = policy.resolve(&Request::new("p", deployment)).unwrap();
            assert_eq!(resolution.applied[0].charge.charge(&tokens), cost, "{deployment}");
        }
        assert_eq!(
            policy.resolve(&Request::new("p", "claude")).unwrap_err().to_string(),
            "limit \"c\" counts cost and no price fits the deployment \"claude\"; \
             add a [[price]] for it to the policy"
        );
    }

    #[test]
    fn keys_follow_the_scope() {
        let policy = policy(&[("one", ""), ("some", "scope = ['key:user', 'project']")]);
        let keys = [Key::new("user", b"\0\xff")];
        let resolution = policy.resolve(&Request::new("p", "d").with_keys(&keys)).unwrap();
        assert_eq!(resolution.applied[0].key, b"");
        let scope = policy.limit("some").unwrap().scope();
        let decoded = decode_key(scope, &resolution.applied[1].key);
        assert_eq!(decoded, [("key:user".into(), b"\0\xff".to_vec()), ("project".into(), b"p".to_vec())]);
        // Nonsense ends early and harmlessly.
        assert_eq!(decode_key(scope, &[0xff; 40]), []);
        assert_eq!(decode_key(scope, b"\x05ab"), []);
        assert_eq!(decode_key(scope, b""), []);
    }

    #[test]
    fn ten_thousand_limits_resolve_by_index() {
        let mut text = String::new();
        let mut limit = |name: String, fields: String| {
            text.push_str(&format!(
                "[[limit]]\nname = '{name}'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 1000\nper = '1m'\n\
                 scope = ['project', 'deployment']\nmatch = {{ {fields} }}\n"
            ));
        };
        for project in 0..300 {
            for deployment in 0..32 {
                limit(
                    format!("p{project} d{deployment}"),
                    format!("project = 'p{project}', deployment = 'd{deployment}'"),
                );
            }
            limit(format!("p{project}"), format!("project = 'p{project}'"));
        }
        for deployment in 0..95 {
            limit(format!("d{deployment}"), format!("deployment = 'd{deployment}', project = 'p*'"));
        }
        for any in 0..5 {
            limit(format!("any {any}"), "project = 'p1*'".to_owned());
        }
        let policy = Policy::from_toml(&text).unwrap();
        assert_eq!(policy.limits().len(), 10_000);
        let request = Request::new("p17", "d5");
        assert_eq!(policy.candidates(&request), 1 + 1 + 1 + 5);
        assert_eq!(applied(&policy, &request), ["p17 d5", "p17", "d5", "any 0", "any 1", "any 2", "any 3", "any 4"]);
        assert_eq!(policy.candidates(&Request::new("nobody", "nothing")), 5);
        assert_eq!(policy.limit("p299 d31").unwrap().name().as_ref(), "p299 d31");
    }

    proptest! {
        #[test]
        fn different_values_have_different_keys(
            a in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 3),
            b in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 3),
            c in prop::collection::vec(prop::collection::vec(0..3u8, 0..3), 3),
            d in prop::collection::vec(prop::collection::vec(0..3u8, 0..3), 3),
        ) {
            let scope = [ScopePart::Project, ScopePart::Deployment, ScopePart::Key("k".into())];
            let encode = |values: &[Vec<u8>]| encode_key(values.iter().map(|value| value.as_slice()));
            for values in [&a, &b, &c, &d] {
                let decoded: Vec<_> = decode_key(&scope, &encode(values)).into_iter().map(|(_, value)| value).collect();
                prop_assert_eq!(&decoded, values);
            }
            prop_assert_eq!(encode(&c) == encode(&d), c == d);
        }
    }
}
