//! What a host says of one call to a model: who calls what, what it may cost, and what it did cost.

use std::num::NonZeroU64;

/// A caller key: a name that the policy knows (`key:user` in a scope or a match) and its value, any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The name without the `key:` prefix, for instance `user`.
    pub name: &'a str,
    /// The value; any bytes, not empty.
    pub value: &'a [u8],
}

impl<'a> Key<'a> {
    /// A caller key of text or bytes.
    pub fn new(name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Key { name, value: value.as_ref() }
    }
}

/// Who calls what.
///
/// # Example
/// ```
/// use tokenweir::{Key, Request};
/// let keys = [Key::new("user", "u-17")];
/// let request = Request::new("search", "gpt-4o").with_keys(&keys);
/// assert_eq!(request.project, b"search");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The project that calls; any bytes, not empty.
    pub project: &'a [u8],
    /// The deployment or model that it calls; any bytes, not empty.
    pub deployment: &'a [u8],
    /// Further keys of the caller (user, subscription, agent, tool); the ones no policy names are ignored.
    pub keys: &'a [Key<'a>],
}

impl<'a> Request<'a> {
    /// A request without caller keys.
    pub fn new(project: &'a (impl AsRef<[u8]> + ?Sized), deployment: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Request { project: project.as_ref(), deployment: deployment.as_ref(), keys: &[] }
    }

    /// The same request with these caller keys.
    pub fn with_keys(self, keys: &'a [Key<'a>]) -> Self {
        Request { keys, ..self }
    }

    /// The value of the caller key `name`, if the request has it.
    pub fn key(&self, name: &str) -> Option<&'a [u8]> {
        self.keys.iter().find(|key| key.name == name).map(|key| key.value)
    }
}

/// The tokens that the host expects a request to take; 0 where it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Input (prompt) tokens, at most 2^53.
    pub input: u64,
    /// The most output tokens it may produce, at most 2^53.
    pub output: u64,
}

impl Estimate {
    /// Input and output tokens.
    pub const fn new(input: u64, output: u64) -> Self {
        Estimate { input, output }
    }
}

/// The tokens that the provider reports afterwards. Unknown is `None`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input tokens, the cached ones included. Absent: the estimate stands.
    pub input: Option<u64>,
    /// Input tokens that the provider served from its cache; at most `input`. Absent: none were.
    pub cached_input: Option<u64>,
    /// Output tokens, reasoning included. Absent: the estimate stands.
    pub output: Option<u64>,
}

impl Usage {
    /// Input and output tokens, none of them cached.
    pub const fn new(input: u64, output: u64) -> Self {
        Usage { input: Some(input), cached_input: None, output: Some(output) }
    }

    /// The same usage, of whose input tokens `cached` came from the provider's cache.
    pub const fn with_cached(self, cached: u64) -> Self {
        Usage { cached_input: Some(cached), ..self }
    }

    /// Nothing is known: the estimate stands.
    pub const UNKNOWN: Usage = Usage { input: None, cached_input: None, output: None };
}

/// Identifies a permit, from any thread, until it is settled. Never 0.
///
/// Ids of settled permits are not reused (a slot's 40-bit generation would have to wrap), and those of another
/// limiter are recognised except by a chance of about 2^-40.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermitId(pub(crate) NonZeroU64);

impl PermitId {
    /// The id as a plain number, for C, logs and other processes.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// An id from its number; `None` for 0. Whether it names a permit shows when it is used.
    pub const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(PermitId(id)),
            None => None,
        }
    }
}
