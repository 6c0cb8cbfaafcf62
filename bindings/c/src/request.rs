//! A request's life: admitted, observed, settled, cancelled, abandoned, renewed.

use crate::border::{guarded, handle, input, permit, place, shared};
use crate::code::tokenweir_code;
use crate::decision::{Answer, guarded_end, tokenweir_decision, tokenweir_denial, tokenweir_settlement};
use crate::error::tokenweir_error;
use crate::limiter::tokenweir_limiter;
use crate::route::tokenweir_route;
use crate::values::{flag, tokenweir_estimate, tokenweir_now, tokenweir_request, tokenweir_usage};
use std::time::Duration;

/// Decides whether a request may pass, and if so holds its estimate on every limit it meets: on all or on none.
///
/// OK both ways: decision->admitted says which. An admitted request's permit has to be settled, cancelled or abandoned;
/// one that is not expires, and its estimate stands. `denial` may be NULL; otherwise a denied request's full denial is
/// put there, and NULL for an admitted one. Nothing is allocated for an admission where these limits were met before by
/// the same caller, up to 8 caller keys.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, ESTIMATE_TOO_LARGE, PERMITS_EXHAUSTED, TABLE_FULL, NULL_ARGUMENT,
/// UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_admit(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    now: *const tokenweir_now,
    decision: *mut tokenweir_decision,
    denial: *mut *mut tokenweir_denial,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let answer = Answer::new(decision, denial)?;
            let limiter = &shared(limiter, "limiter")?.0;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            let now = tokenweir_now::read(now);
            request.with(|request| {
                answer.put(match now {
                    Some(now) => limiter.admit_at(request, estimate, now),
                    None => limiter.admit(request, estimate),
                })
            })
        })
    }
}

/// Looks up who calls what, once, for reuse.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, TABLE_FULL, NULL_ARGUMENT, UTF8_INVALID (the name of a key),
/// STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_route(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    now: *const tokenweir_now,
    route: *mut *mut tokenweir_route,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let route = handle(route, "route")?;
            let (limiter, request) = (&shared(limiter, "limiter")?.0, input(request)?);
            route.give(tokenweir_route(match tokenweir_now::read(now) {
                Some(now) => request.with(|request| limiter.route_at(request, now))?,
                None => request.with(|request| limiter.route(request))?,
            }));
            Ok(())
        })
    }
}

/// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate is charged at once.
/// `spent` may be NULL; otherwise 1 is put there if a limit of the request has nothing left, so that a runaway stream may
/// be cut short, and 0 if not.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_observe(
    limiter: *const tokenweir_limiter,
    id: u64,
    input: u64,
    output: u64,
    now: *const tokenweir_now,
    spent: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let spent = if spent.is_null() { None } else { Some(place(spent, "spent")?) };
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            let observed = match tokenweir_now::read(now) {
                Some(now) => limiter.observe_at(id, input, output, now)?,
                None => limiter.observe(id, input, output)?,
            };
            if let Some(spent) = spent {
                spent.put(flag(observed.spent));
            }
            Ok(())
        })
    }
}

/// Settles a permit with what the provider reported: what was held beyond it is given back, what was used beyond the
/// estimate is charged. Once: whoever comes second gets PERMIT_SETTLED. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO. Nothing has
/// changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_settle(
    limiter: *const tokenweir_limiter,
    id: u64,
    usage: *const tokenweir_usage,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_end(settlement, error, || {
            let (limiter, id, usage) = (&shared(limiter, "limiter")?.0, permit(id)?, input(usage)?.into());
            Ok(match tokenweir_now::read(now) {
                Some(now) => limiter.settle_at(id, usage, now)?,
                None => limiter.settle(id, usage)?,
            })
        })
    }
}

/// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
/// request. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, STRUCT_SIZE. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_cancel(
    limiter: *const tokenweir_limiter,
    id: u64,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_end(settlement, error, || {
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            Ok(match tokenweir_now::read(now) {
                Some(now) => limiter.cancel_at(id, now)?,
                None => limiter.cancel(id)?,
            })
        })
    }
}

/// Ends a permit without a word of usage: the estimate stands. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, STRUCT_SIZE. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_abandon(
    limiter: *const tokenweir_limiter,
    id: u64,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_end(settlement, error, || {
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            Ok(match tokenweir_now::read(now) {
                Some(now) => limiter.abandon_at(id, now)?,
                None => limiter.abandon(id)?,
            })
        })
    }
}

/// Lets a permit live for `ttl_ns` nanoseconds from now on, for streams longer than the options' permit_ttl_ns.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_renew(
    limiter: *const tokenweir_limiter,
    id: u64,
    ttl_ns: u64,
    now: *const tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (limiter, id, ttl) = (&shared(limiter, "limiter")?.0, permit(id)?, Duration::from_nanos(ttl_ns));
            match tokenweir_now::read(now) {
                Some(now) => limiter.renew_at(id, ttl, now)?,
                None => limiter.renew(id, ttl)?,
            }
            Ok(())
        })
    }
}
