//! Policies.

use crate::border::{Failure, free, guarded, handle, shared, text};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::json;
use crate::text::tokenweir_text;
use std::ffi::c_char;
use tokenweir::{Policy, PolicyError};

/// A policy: limits and prices, checked.
///
/// Ownership: the caller's, until tokenweir_policy_free(). Limiters that were made with it keep what they need of it,
/// so it may be freed before them. Threads: any number may use it at once.
pub struct tokenweir_policy(pub(crate) Policy);

/// # Safety
/// As the header asks of the two functions below.
unsafe fn read(
    source: *const c_char,
    length: usize,
    policy: *mut *mut tokenweir_policy,
    decode: fn(&str) -> Result<Policy, PolicyError>,
) -> Result<(), Failure> {
    // SAFETY: the pointers are as the header asks.
    let (policy, source) = unsafe { (handle(policy, "policy")?, text(source, length, "the policy")?) };
    policy.give(tokenweir_policy(decode(source).map_err(tokenweir::Error::from)?));
    Ok(())
}

/// Reads a policy from TOML. `source` has `length` bytes.
///
/// Codes: POLICY_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_policy_from_toml(
    source: *const c_char,
    length: usize,
    policy: *mut *mut tokenweir_policy,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded(error, || read(source, length, policy, Policy::from_toml)) }
}

/// Reads a policy from JSON. `source` has `length` bytes.
///
/// Codes: POLICY_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_policy_from_json(
    source: *const c_char,
    length: usize,
    policy: *mut *mut tokenweir_policy,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded(error, || read(source, length, policy, Policy::from_json)) }
}

/// The policy's limits in JSON, with `key_names`: the caller keys that any of them looks at, which are the ones worth
/// passing with a request.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_policy_json(
    policy: *const tokenweir_policy,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (json, policy) = (handle(json, "json")?, shared(policy, "policy")?);
            json.give(tokenweir_text::new(&json::policy(&policy.0).to_string()));
            Ok(())
        })
    }
}

/// Frees a policy. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_policy_free(policy: *mut tokenweir_policy) {
    // SAFETY: NULL or a policy of ours that nobody uses any more, as the header asks.
    unsafe { free(policy) }
}
