//! The model: what a policy says once it has been read and checked.

use std::fmt;
use std::sync::Arc;

use super::document::{self, Syntax};
use super::error::PolicyError;
use super::pattern::Pattern;
use super::period::Period;
use super::resolve::{Index, MatchField};
use super::{decode, resolve};

/// The limits and prices of a gateway, read and checked as a whole.
///
/// Written in TOML or JSON with the same names. A limit has `name`, `meter`, `algorithm`, `amount` and, by algorithm,
///
/// | algorithm | fields |
/// |---|---|
/// | `bucket` | `per`; `burst`, default `amount` |
/// | `window` | `per`; `sub_windows`, 1 to 500, into which `per` divides without a rest; default 60, or the next below that divides |
/// | `quota` | `period`; `time_zone`, default UTC; `week_start`, default monday |
/// | `in_flight` | none; its meter is `in_flight` |
///
/// A window or a quota may say `until = "passed"`: requests that are charged nothing at admission pass until use has
/// passed the amount, not only until it has reached it.
///
/// Each of them may have `scope`, `match`, `overrides`, `mode`, `require` and `weights`, all optional. Amounts, `burst`
/// and prices end at 2^53, weights at 1,000,000 per mille, rates at 10^11 per minute; `per` is 1 second to 366 days,
/// written `90s` or `1h30m`.
///
/// It is immutable and shared: cloning it costs one reference count.
///
/// # Example
/// ```
/// use tokenweir::{Policy, Request};
/// let policy = Policy::from_toml(r#"
///     [[limit]]
///     name = "project tpm"
///     meter = "total"
///     algorithm = "bucket"
///     amount = 100_000
///     per = "1m"
///     scope = ["project"]
/// "#)?;
/// let resolution = policy.resolve(&Request::new("search", "gpt-4o"))?;
/// assert_eq!(resolution.applied.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Policy(pub(super) Arc<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) limits: Vec<Limit>,
    pub(super) prices: Vec<Price>,
    pub(super) key_names: Vec<Arc<str>>,
    pub(super) index: Index,
}

impl Policy {
    /// Reads a policy from TOML.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and remedy. Documents of more than 16 MiB are refused.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        Self::read(text, Syntax::Toml)
    }

    /// Reads a policy from JSON, with the same names: `{"limit": [...], "price": [...]}`.
    ///
    /// # Errors
    /// As [`from_toml`](Policy::from_toml).
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        Self::read(text, Syntax::Json)
    }

    fn read(text: &str, syntax: Syntax) -> Result<Self, PolicyError> {
        let root = document::read(text, syntax).map_err(PolicyError::new)?;
        let (limits, prices) = decode::decode(&root, syntax).map_err(PolicyError::new)?;
        let key_names = resolve::key_names(&limits);
        let index = Index::new(&limits, &prices);
        Ok(Policy(Arc::new(Inner { limits, prices, key_names, index })))
    }

    /// The limits, in the order of the document. [`Applied::limit`](super::Applied) counts them from 0.
    pub fn limits(&self) -> &[Limit] {
        &self.0.limits
    }

    /// The prices, in the order of the document.
    pub fn prices(&self) -> &[Price] {
        &self.0.prices
    }

    /// The limit of this name.
    pub fn limit(&self, name: &str) -> Option<&Limit> {
        self.0.index.by_name(name).and_then(|limit| self.0.limits.get(limit))
    }

    /// The place of the limit of this name among [`limits`](Policy::limits).
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.0.index.by_name(name)
    }

    /// The caller keys that any scope or match names, without `key:`, sorted and each once.
    ///
    /// Nothing else about a caller has any influence on a decision.
    pub fn key_names(&self) -> &[Arc<str>] {
        &self.0.key_names
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        // The rest is computed from these two.
        self.0.limits == other.0.limits && self.0.prices == other.0.prices
    }
}

impl Eq for Policy {}

/// One limit: a meter, an algorithm with its amount, and a scope. Its name is its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub(super) name: Arc<str>,
    pub(super) meter: Meter,
    pub(super) algorithm: Algorithm,
    pub(super) scope: Vec<ScopePart>,
    pub(super) matches: Vec<(MatchField, Pattern)>,
    pub(super) overrides: Option<Arc<str>>,
    pub(super) mode: Mode,
    pub(super) require: bool,
    pub(super) weights: Weights,
    pub(super) until: Until,
}

impl Limit {
    /// The name; not empty, and of no other limit of the policy.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it counts.
    pub fn meter(&self) -> Meter {
        self.meter
    }

    /// How it counts, and up to what.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// Each distinct combination of these values has a counter of its own; empty: one counter for all.
    ///
    /// In the order of the document, each part at most once.
    pub fn scope(&self) -> &[ScopePart] {
        &self.scope
    }

    /// What a request must look like for the limit to apply: all of these; empty: anything.
    pub fn matches(&self) -> &[(MatchField, Pattern)] {
        &self.matches
    }

    /// The limit that this one stands in for where it applies.
    pub fn overrides(&self) -> Option<&str> {
        self.overrides.as_deref()
    }

    /// Whether it refuses, or only counts and reports.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a request that lacks a caller key of the scope is an error; otherwise the limit does not apply to it.
    pub fn require(&self) -> bool {
        self.require
    }

    /// How much a token weighs. Only the meters `input`, `output` and `total` look at it.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// For how long requests that are charged nothing at admission pass. Only windows and quotas look at it.
    pub fn until(&self) -> Until {
        self.until
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meter {
    /// Requests, 1 each.
    Requests,
    /// Input tokens.
    Input,
    /// Output tokens.
    Output,
    /// Input and output tokens.
    Total,
    /// Micro-units of a currency.
    Cost,
    /// Requests that are not yet settled, 1 each.
    InFlight,
}

impl Meter {
    /// All of them.
    pub const ALL: [Meter; 6] =
        [Meter::Requests, Meter::Input, Meter::Output, Meter::Total, Meter::Cost, Meter::InFlight];

    /// The word that policies use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Meter::Requests => "requests",
            Meter::Input => "input",
            Meter::Output => "output",
            Meter::Total => "total",
            Meter::Cost => "cost",
            Meter::InFlight => "in_flight",
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a limit counts. Amounts are in what the meter counts, 1 to 2^53; times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// A token bucket: holds `burst`, starts full, refills `amount` in every `per`, continuously.
    Bucket {
        /// Refill in every `per`; `amount` to `per` is at most 10^11 per minute.
        amount: u64,
        /// Nanoseconds: whole seconds, 1 second to 366 days.
        per: u64,
        /// Capacity.
        burst: u64,
    },
    /// A sliding window: at most `amount` in any `per`, counted by sub-windows.
    Window {
        /// The most that any `per` may hold; `amount` to `per` is at most 10^11 per minute.
        amount: u64,
        /// Nanoseconds: whole seconds, 1 second to 366 days; a multiple of `sub_windows`.
        per: u64,
        /// 1 to 500.
        sub_windows: u32,
    },
    /// A fixed window: at most `amount` in every calendar period.
    Quota {
        /// The most that a period may hold.
        amount: u64,
        /// When it begins anew.
        period: Period,
    },
    /// At most `amount` permits at a time.
    InFlight {
        /// The most permits at a time.
        amount: u64,
    },
}

impl Algorithm {
    /// The word that policies use.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Algorithm::Bucket { .. } => "bucket",
            Algorithm::Window { .. } => "window",
            Algorithm::Quota { .. } => "quota",
            Algorithm::InFlight { .. } => "in_flight",
        }
    }

    /// The `amount` of the limit.
    pub const fn amount(&self) -> u64 {
        match self {
            Algorithm::Bucket { amount, .. }
            | Algorithm::Window { amount, .. }
            | Algorithm::Quota { amount, .. }
            | Algorithm::InFlight { amount } => *amount,
        }
    }
}

/// Whether a limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It refuses what does not fit.
    #[default]
    Enforce,
    /// It counts and reports, and never refuses.
    Shadow,
}

impl Mode {
    /// The word that policies use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For how long requests that are charged nothing at admission pass: those of a host that charges at settlement.
///
/// It makes no difference to a charge of 1 or more, which passes if it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Until use has reached the amount.
    #[default]
    Reached,
    /// Until use has passed the amount: one more passes where use equals it.
    Passed,
}

impl Until {
    /// The word that policies use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Until::Reached => "reached",
            Until::Passed => "passed",
        }
    }

    /// What a charge of `n` must stay within, where a charge of nothing must stay below it.
    #[inline]
    pub const fn bound(self, amount: u64, n: u64) -> u64 {
        match self {
            // Amounts end at 2^53.
            Until::Passed if n == 0 => amount + 1,
            _ => amount,
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What tells the counters of one limit apart. Shown as policies write it: `project`, `deployment`, `key:user`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopePart {
    /// The project of the request.
    Project,
    /// The deployment of the request.
    Deployment,
    /// The caller key of this name.
    Key(Arc<str>),
}

impl fmt::Display for ScopePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScopePart::Project => f.write_str("project"),
            ScopePart::Deployment => f.write_str("deployment"),
            ScopePart::Key(name) => write!(f, "key:{name}"),
        }
    }
}

/// What tokens cost at the deployments that fit a pattern.
///
/// All prices are nano-units of a currency per token, 0 to 2^53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The deployments it is for. An exact price beats one with stars, a longer pattern a shorter one.
    pub deployment: Pattern,
    /// An input token.
    pub input: u64,
    /// An input token from the provider's cache; as `input` where the policy does not say.
    pub cached_input: u64,
    /// An output token.
    pub output: u64,
}

/// How much a token weighs, per mille: 1000 is one token. Each is 0 to 1,000,000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// An input token that did not come from the cache.
    pub input: u64,
    /// An input token from the provider's cache.
    pub cached_input: u64,
    /// An output token.
    pub output: u64,
    /// By which the sum is multiplied, by deployment. An exact pattern beats one with stars, a longer one a shorter.
    pub deployment: Vec<(Pattern, u64)>,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { input: 1000, cached_input: 1000, output: 1000, deployment: Vec::new() }
    }
}

impl Weights {
    /// The multiplier per mille for `deployment`; 1000 where none is given.
    pub fn deployment_multiplier(&self, deployment: &[u8]) -> u64 {
        self.deployment
            .iter()
            .filter(|(pattern, _)| pattern.matches(deployment))
            // Of several of the same rank the last one counts.
            .max_by_key(|(pattern, _)| pattern.rank())
            .map_or(1000, |(_, multiplier)| *multiplier)
    }
}
