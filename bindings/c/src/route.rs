//! Routes: who calls what, held.

use crate::border::{free, guarded, input, permit, shared};
use crate::code::tokenweir_code;
use crate::decision::{Answer, Settled, tokenweir_decision, tokenweir_denial, tokenweir_settlement};
use crate::error::tokenweir_error;
use crate::values::{tokenweir_estimate, tokenweir_now, tokenweir_usage};
use tokenweir::Route;

/// Who calls what, looked up once: the quickest way to decide for callers that come again. It follows changes of policy
/// by itself, and its counters are not evicted as long as it lives.
///
/// Ownership: the caller's, until tokenweir_route_free(). It may outlive the limiter's handle: the limiter goes on as
/// long as anything of it is used. Threads: any number may use it at once.
pub struct tokenweir_route(pub(crate) Route);

/// Decides whether a request of this route may pass, as tokenweir_limiter_admit() does.
///
/// Codes: ESTIMATE_TOO_LARGE, PERMITS_EXHAUSTED, NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO; after a change of policy
/// also those of tokenweir_limiter_admit().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_route_admit(
    route: *const tokenweir_route,
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
            let (route, estimate) = (shared(route, "route")?, input(estimate)?.into());
            answer.put(match tokenweir_now::read(now) {
                Some(now) => route.0.admit_at(estimate, now),
                None => route.0.admit(estimate),
            })?;
            Ok(())
        })
    }
}

/// Settles a permit, as tokenweir_limiter_settle() does: any permit of the limiter, but quicker if this route admitted
/// it.
///
/// Codes: as tokenweir_limiter_settle().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_route_settle(
    route: *const tokenweir_route,
    id: u64,
    usage: *const tokenweir_usage,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let settled = Settled::new(settlement)?;
            let (route, id, usage) = (shared(route, "route")?, permit(id)?, input(usage)?.into());
            settled.put(match tokenweir_now::read(now) {
                Some(now) => route.0.settle_at(id, usage, now)?,
                None => route.0.settle(id, usage)?,
            });
            Ok(())
        })
    }
}

/// Cancels a permit, as tokenweir_limiter_cancel() does: any permit of the limiter, but quicker if this route admitted
/// it.
///
/// Codes: as tokenweir_limiter_cancel().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_route_cancel(
    route: *const tokenweir_route,
    id: u64,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let settled = Settled::new(settlement)?;
            let (route, id) = (shared(route, "route")?, permit(id)?);
            settled.put(match tokenweir_now::read(now) {
                Some(now) => route.0.cancel_at(id, now)?,
                None => route.0.cancel(id)?,
            });
            Ok(())
        })
    }
}

/// Frees a route. NULL is fine. Its open permits stay open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_route_free(route: *mut tokenweir_route) {
    // SAFETY: NULL or a route of ours that nobody uses any more, as the header asks.
    unsafe { free(route) }
}
