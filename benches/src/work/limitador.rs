//! limitador in memory, as a gateway would ask it: what to count by is in a context made for each request.

use limitador::RateLimiter;
use limitador::limit::{Context, Limit, Namespace};
use std::collections::HashMap;
use std::hint::black_box;

/// Limits of one namespace, windows of a minute and a little more.
pub struct Limitador {
    limiter: RateLimiter,
    namespace: Namespace,
}

/// As much as it takes never to refuse.
const PLENTY: u64 = u64::MAX / 2;

impl Limitador {
    /// A limit for each list of variables, with this amount. The windows differ, so that no two are the same limit.
    fn new(room: u64, limits: &[(&[&str], u64)]) -> Self {
        let (limiter, namespace) = (RateLimiter::new(room), Namespace::from("gateway"));
        for (at, (variables, amount)) in limits.iter().enumerate() {
            let variables: Vec<_> = variables.iter().map(|name| (*name).try_into().expect("a variable")).collect();
            limiter.add_limit(Limit::new(namespace.clone(), *amount, 60 + at as u64, vec![], variables));
        }
        Limitador { limiter, namespace }
    }

    /// One limit by project, with room for so many counters.
    pub fn one(room: u64) -> Self {
        Self::new(room, &[(&["project"], PLENTY)])
    }

    /// By project, by project and deployment, by deployment, by project; the last one of this amount.
    pub fn four(last: u64) -> Self {
        let (project, deployment): (&[&str], &[&str]) = (&["project"], &["deployment"]);
        let both: &[&str] = &["project", "deployment"];
        Self::new(10_000, &[(project, PLENTY), (both, PLENTY), (deployment, PLENTY), (project, last)])
    }

    /// Four that never refuse.
    pub fn four_plenty() -> Self {
        Self::four(PLENTY)
    }

    fn context(project: &str) -> Context<'static> {
        let pairs = [("project", black_box(project)), ("deployment", black_box("gpt-4o"))];
        let values: HashMap<String, String> =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Context::from(values)
    }

    /// Checks all limits and adds to them. Whether the request may pass.
    pub fn check(&self, project: &str, tokens: u64) -> bool {
        let checked = self.limiter.check_rate_limited_and_update(&self.namespace, &Self::context(project), tokens);
        !checked.expect("the limits are valid").limited
    }

    /// Reserves, and commits what was used. Whether the request might pass.
    pub fn reserve_and_commit(&self, project: &str, tokens: u64, used: u64) -> bool {
        let context = Self::context(project);
        let reserved = self.limiter.reserve(&self.namespace, &context, tokens, None).expect("the limits are valid");
        if reserved.limited {
            return false;
        }
        let id = reserved.reservation_id.as_ref();
        self.limiter.commit_reservation(&self.namespace, &context, id, used).expect("the limits are valid");
        true
    }
}
