//! The plain structs that go in: who calls what, when, with which tokens.

use crate::border::{Failure, array, bytes, guarded_or, plain_struct, text};
use smallvec::SmallVec;
use std::ffi::c_char;
use tokenweir::{Estimate, Key, Now, Request, Usage};

/// The number of this header's interface. It grows when a program that was compiled with an older header could no
/// longer run with the library. The library says its own with tokenweir_abi_version().
pub const TOKENWEIR_ABI_VERSION: u32 = 1;

/// Absent: a usage that the provider did not report, a wait that has no end.
pub const TOKENWEIR_ABSENT: u64 = u64::MAX;

/// The interface that this library has, to be compared with TOKENWEIR_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn tokenweir_abi_version() -> u32 {
    guarded_or(0, || TOKENWEIR_ABI_VERSION)
}

/// The release of this library, as "0.1.0", to be compared with TOKENWEIR_VERSION. Static text.
#[unsafe(no_mangle)]
pub extern "C" fn tokenweir_version() -> *const c_char {
    guarded_or(c"".as_ptr(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}

/// An instant: both clocks, in nanoseconds. Every call that depends on time takes a pointer to one; NULL there: the
/// limiter's own clock is read. Do not mix the two on one limiter unless they tell the same time.
///
/// This struct stays as it is for good.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_now {
    /// Monotonic, from any origin that stays: what buckets and windows run on. 0 to 2^63 - 1.
    pub mono: u64,
    /// Since 1970-01-01T00:00:00Z: what calendar quotas run on.
    pub wall: i64,
}

impl From<Now> for tokenweir_now {
    fn from(now: Now) -> Self {
        tokenweir_now { mono: now.mono, wall: now.wall }
    }
}

impl From<&tokenweir_now> for Now {
    #[inline]
    fn from(now: &tokenweir_now) -> Self {
        Now::new(now.mono, now.wall)
    }
}

impl tokenweir_now {
    /// # Safety
    /// `now` is NULL or can be read.
    #[inline]
    pub(crate) unsafe fn read(now: *const tokenweir_now) -> Option<Now> {
        // SAFETY: the caller's word.
        unsafe { now.as_ref() }.map(Now::from)
    }
}

/// The tokens that the host expects a request to take; 0 where it does not know. See tokenweir_estimate_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_estimate {
    /// sizeof(tokenweir_estimate).
    pub size: u32,
    /// Zero.
    pub reserved0: u32,
    /// Input (prompt) tokens, at most 2^53.
    pub input: u64,
    /// The most output tokens, at most 2^53.
    pub output: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_estimate, reserved0 = 0, reserved = [0; 4]);

impl From<&tokenweir_estimate> for Estimate {
    #[inline]
    fn from(estimate: &tokenweir_estimate) -> Self {
        Estimate::new(estimate.input, estimate.output)
    }
}

/// The tokens that the provider reports afterwards. Unknown is TOKENWEIR_ABSENT, never 0. See tokenweir_usage_of() and
/// tokenweir_usage_unknown().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_usage {
    /// sizeof(tokenweir_usage).
    pub size: u32,
    /// Zero.
    pub reserved0: u32,
    /// Input tokens, the cached ones included; at most 2^53. Absent: the estimate stands.
    pub input: u64,
    /// Input tokens from the provider's cache; at most input. Absent: none were.
    pub cached_input: u64,
    /// Output tokens, reasoning included; at most 2^53. Absent: the estimate stands.
    pub output: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_usage, reserved0 = 0, reserved = [0; 4]);

impl From<&tokenweir_usage> for Usage {
    #[inline]
    fn from(usage: &tokenweir_usage) -> Self {
        let present = |tokens: u64| (tokens != TOKENWEIR_ABSENT).then_some(tokens);
        Usage { input: present(usage.input), cached_input: present(usage.cached_input), output: present(usage.output) }
    }
}

impl From<Usage> for tokenweir_usage {
    fn from(usage: Usage) -> Self {
        tokenweir_usage {
            size: size_of::<tokenweir_usage>() as u32,
            reserved0: 0,
            input: usage.input.unwrap_or(TOKENWEIR_ABSENT),
            cached_input: usage.cached_input.unwrap_or(TOKENWEIR_ABSENT),
            output: usage.output.unwrap_or(TOKENWEIR_ABSENT),
            reserved: [0; 4],
        }
    }
}

/// A name and a value, for instance a caller key ("user" and "u-17") or a header.
///
/// This struct stays as it is for good: it comes in arrays.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_key {
    /// UTF-8; a caller key's has no "key:" before it.
    pub name: *const c_char,
    /// In bytes.
    pub name_length: usize,
    /// Any bytes, not none.
    pub value: *const c_char,
    /// In bytes.
    pub value_length: usize,
}

/// Who calls what. The call that takes it reads what it points to and keeps no pointer. See tokenweir_request_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_request {
    /// sizeof(tokenweir_request).
    pub size: u32,
    /// Zero.
    pub reserved0: u32,
    /// The project that calls: any bytes, not none.
    pub project: *const c_char,
    /// In bytes.
    pub project_length: usize,
    /// The deployment or model that it calls: any bytes, not none.
    pub deployment: *const c_char,
    /// In bytes.
    pub deployment_length: usize,
    /// Further keys of the caller (user, subscription, agent, tool); the ones that no policy names are ignored.
    pub keys: *const tokenweir_key,
    /// How many keys there are.
    pub key_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_request, reserved0 = 0, reserved = [0; 4]);

/// Caller keys as the engine takes them; of up to eight, none is allocated for.
pub(crate) type Keys<'a> = SmallVec<[Key<'a>; 8]>;

impl tokenweir_request {
    /// Passes the request on as the engine takes it.
    ///
    /// # Safety
    /// Its pointers are NULL or can be read for their lengths, and nobody writes there during the call.
    #[inline]
    pub(crate) unsafe fn with<T, E>(&self, act: impl FnOnce(&Request<'_>) -> Result<T, E>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        // SAFETY: the caller's word.
        let (project, deployment) = unsafe {
            (
                bytes(self.project, self.project_length, "request.project")?,
                bytes(self.deployment, self.deployment_length, "request.deployment")?,
            )
        };
        if self.key_count == 0 {
            return Ok(act(&Request { project, deployment, keys: &[] })?);
        }
        // SAFETY: the caller's word.
        let keys = unsafe { keys(self.keys, self.key_count)? };
        Ok(act(&Request { project, deployment, keys: &keys })?)
    }
}

/// # Safety
/// `keys` and the pointers inside are NULL or can be read for their lengths, and nobody writes there during `'a`.
pub(crate) unsafe fn keys<'a>(keys: *const tokenweir_key, count: usize) -> Result<Keys<'a>, Failure> {
    // SAFETY: the caller's word.
    let keys = unsafe { array(keys, count, "keys")? };
    let read = |key: &tokenweir_key| {
        // SAFETY: the caller's word.
        unsafe {
            Ok(Key {
                name: text(key.name, key.name_length, "the name of a key")?,
                value: bytes(key.value, key.value_length, "the value of a key")?,
            })
        }
    };
    keys.iter().map(read).collect()
}

/// One bool as C's structs have it.
pub(crate) const fn flag(yes: bool) -> u32 {
    yes as u32
}
