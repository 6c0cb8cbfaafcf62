//! Looking without taking.

use crate::border::{Failure, guarded, input, output, permit, plain_struct, shared, text};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::json;
use crate::limiter::tokenweir_limiter;
use crate::text::{guarded_json, tokenweir_text};
use crate::values::{keys, tokenweir_estimate, tokenweir_key, tokenweir_now, tokenweir_request};
use serde_json::json;
use std::ffi::c_char;
use tokenweir::{Limiter, Now, UsageFilter};

/// Which counters to view; NULL or zero matches all. See tokenweir_usage_filter_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_usage_filter {
    /// sizeof(tokenweir_usage_filter).
    pub size: u32,
    /// Zero.
    pub reserved0: u32,
    /// Only counters of the limit of this name, in UTF-8; NULL: of all limits.
    pub limit: *const c_char,
    /// In bytes.
    pub limit_length: usize,
    /// Only counters whose scope has these values; names as policies write them: "project", "deployment", "key:user".
    pub scope: *const tokenweir_key,
    /// How many there are.
    pub scope_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_usage_filter, reserved0 = 0, reserved = [0; 4]);

/// The limiter's own figures. The call fills it; set size before. See tokenweir_stats_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_stats {
    /// sizeof(tokenweir_stats).
    pub size: u32,
    /// Not used.
    pub reserved0: u32,
    /// Live counters.
    pub counters: u64,
    /// How many there may be.
    pub max_counters: u64,
    /// Counters evicted, at rest, since the limiter was made.
    pub evicted: u64,
    /// Requests denied because there was no room for a counter.
    pub refused_full: u64,
    /// Limits passed over because there was no room for a counter.
    pub admitted_full: u64,
    /// Routes that are resolved.
    pub routes: u64,
    /// Open permits.
    pub permits_open: u64,
    /// Buckets that keep a history of their deficit.
    pub histories: u64,
    /// How many may.
    pub max_histories: u64,
    /// How often the store failed to read or record.
    pub store_failures: u64,
    /// Not used.
    pub reserved: [u64; 1],
}

plain_struct!(tokenweir_stats);

/// An open permit in JSON: under `remaining` what each enforced limit of its request has left now, by name; under
/// `shadow_refused` the shadow limits that would have refused it; and `spent`, as tokenweir_limiter_observe() has it.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_permit(
    limiter: *const tokenweir_limiter,
    id: u64,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (limiter, now) = limiter_at(limiter, now)?;
            let id = permit(id)?;
            // Observing nothing changes nothing, and says whether the permit is open.
            let spent = limiter.observe_at(id, 0, 0, now)?.spent;
            Ok(json!({
                "permit": id.get(),
                "spent": spent,
                "remaining": json::remaining(limiter.remaining_at(id, now)),
                "shadow_refused": limiter.shadow_refused(id),
            }))
        })
    }
}

/// The limiter, and the caller's time or what its clock shows.
///
/// # Safety
/// As for [`shared`], both.
unsafe fn limiter_at<'a>(
    limiter: *const tokenweir_limiter,
    now: *const tokenweir_now,
) -> Result<(&'a Limiter, Now), Failure> {
    // SAFETY: the caller's word.
    let (limiter, now) = unsafe { (&shared(limiter, "limiter")?.0, tokenweir_now::read(now)) };
    Ok((limiter, now.unwrap_or_else(|| limiter.now())))
}

/// What would come of a request now, in JSON, without taking anything: `admitted`, `denied` (null, or a denial as
/// tokenweir_denial_json() has it), and under `limits` what each limit of the request says: limit, mode, charge, amount,
/// remaining, fits, never_fits and wait_ns (0 if it fits, null if no waiting helps).
///
/// Codes: as tokenweir_limiter_route(), and ESTIMATE_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_peek(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (limiter, now) = limiter_at(limiter, now)?;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            Ok(json::peek(&request.with(|request| limiter.peek_at(request, estimate, now))?))
        })
    }
}

/// Every limit of the policy, in JSON: under `applied` those that the request meets, each as in tokenweir_limiter_peek()
/// with its `scope`, the counter's values; under `skipped` the others, each with the reason. Walks the whole policy.
///
/// Codes: as tokenweir_limiter_route(), and ESTIMATE_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_explain(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (limiter, now) = limiter_at(limiter, now)?;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            Ok(json::explanation(&request.with(|request| limiter.explain_at(request, estimate, now))?))
        })
    }
}

impl tokenweir_usage_filter {
    /// # Safety
    /// Its pointers are NULL or can be read for their lengths, and nobody writes there during the call.
    unsafe fn read(&self) -> Result<UsageFilter, Failure> {
        // SAFETY: the caller's word.
        let (limit, scope) =
            unsafe { (text(self.limit, self.limit_length, "filter.limit")?, keys(self.scope, self.scope_count)?) };
        Ok(UsageFilter {
            limit: (!limit.is_empty()).then(|| limit.to_owned()),
            scope: scope.iter().map(|part| (part.name.to_owned(), part.value.to_owned())).collect(),
        })
    }
}

/// The counters to view; all, if nothing is said.
///
/// # Safety
/// `filter` is NULL, or as [`input`] asks and [`tokenweir_usage_filter::read`].
pub(crate) unsafe fn wanted(filter: *const tokenweir_usage_filter) -> Result<UsageFilter, Failure> {
    // SAFETY: the caller's word.
    unsafe { if filter.is_null() { Ok(UsageFilter::default()) } else { input(filter)?.read() } }
}

/// The counters, in JSON, by limit and key: under `counters` each with limit, meter, scope (part to value; {"hex": ...}
/// if it is not UTF-8), amount, used, held, remaining (below 0 is debt), resets_at (null, or mono and wall in
/// nanoseconds) and settled_total. `filter` may be NULL: all. Walks all counters and open permits: for consoles, not for
/// the path of a request.
///
/// Codes: NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_usage(
    limiter: *const tokenweir_limiter,
    filter: *const tokenweir_usage_filter,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (limiter, now) = limiter_at(limiter, now)?;
            Ok(json::usage(&limiter.usage_at(&wanted(filter)?, now)))
        })
    }
}

/// The limiter's own figures. Walks the open permits.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_stats(
    limiter: *const tokenweir_limiter,
    stats: *mut tokenweir_stats,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (stats, limiter) = (output(stats)?, shared(limiter, "limiter")?);
            let now = limiter.0.stats();
            stats.write(tokenweir_stats {
                size: size_of::<tokenweir_stats>() as u32,
                reserved0: 0,
                counters: now.counters as u64,
                max_counters: now.max_counters as u64,
                evicted: now.evicted,
                refused_full: now.refused_full,
                admitted_full: now.admitted_full,
                routes: now.routes as u64,
                permits_open: now.permits_open as u64,
                histories: now.histories as u64,
                max_histories: now.max_histories as u64,
                store_failures: now.store_failures,
                reserved: [0; 1],
            });
            Ok(())
        })
    }
}
