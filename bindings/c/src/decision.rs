//! What comes of an admission and of a settlement.

use crate::border::{Failure, Place, free, guarded, handle, output, plain_struct, shared};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::json;
use crate::text::{guarded_json, tokenweir_text};
use crate::values::{TOKENWEIR_ABSENT, flag};
use std::ffi::c_char;
use tokenweir::{Decision, Denied, Error, Outcome, PermitId, Settlement};

/// Whether a request may pass. The call fills it; set size before. See tokenweir_decision_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_decision {
    /// sizeof(tokenweir_decision).
    pub size: u32,
    /// 1: it may, and its estimated tokens are held. 0: it may not, and nothing was taken.
    pub admitted: u32,
    /// The permit's id, to be settled exactly once; 0 if denied.
    pub permit: u64,
    /// Denied: nanoseconds after which, with no other traffic, the request is admitted, and not one earlier;
    /// TOKENWEIR_ABSENT if no waiting helps. 0 if admitted.
    pub retry_after_ns: u64,
    /// The same in whole seconds, rounded up, as the Retry-After header has it.
    pub retry_after_seconds: u64,
    /// Denied: what the limit that decided has left; below 0 is debt.
    pub remaining: i64,
    /// Denied: the largest charge that would fit that limit now.
    pub fits_now: u64,
    /// Denied: the HTTP status to answer with, 429 for a rate, 403 for a quota, 503 where the server that counts is away. 0 if
    /// admitted.
    pub status: u32,
    /// Denied: 1 if the request is larger than a whole limit, so that no waiting helps.
    pub never_fits: u32,
    /// Denied: 1 if there was no room for another counter, and no limit is used up.
    pub table_full: u32,
    /// Denied: how many limits refused. One that never fits decides, then the longest wait.
    pub refusals: u32,
    /// The length of the name of the limit that decided, in bytes, also where it is longer than the field below.
    pub limit_length: u32,
    /// Not used.
    pub reserved0: u32,
    /// The name of the limit that decided: UTF-8 with a NUL behind it, cut between characters if it is longer.
    pub limit: [c_char; 64],
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_decision);

/// A denial, with every limit that refused.
///
/// Ownership: the caller's, until tokenweir_denial_free(). Threads: any number may read it at once. It keeps the policy
/// that it was made under; free it soon.
pub struct tokenweir_denial(pub(crate) Denied);

/// How a permit ended.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_outcome {
    /// It has not, or there was none.
    TOKENWEIR_OUTCOME_NONE = 0,
    /// With the provider's usage, or without any: see estimated.
    TOKENWEIR_OUTCOME_SETTLED = 1,
    /// The request never reached the provider.
    TOKENWEIR_OUTCOME_CANCELLED = 2,
    /// Abandoned without a word of usage: the estimate stands.
    TOKENWEIR_OUTCOME_DROPPED = 3,
    /// It was not settled in time: the estimate stands.
    TOKENWEIR_OUTCOME_EXPIRED = 4,
}

impl tokenweir_outcome {
    pub(crate) fn of(outcome: Outcome) -> u32 {
        let outcome = match outcome {
            Outcome::Settled => tokenweir_outcome::TOKENWEIR_OUTCOME_SETTLED,
            Outcome::Cancelled => tokenweir_outcome::TOKENWEIR_OUTCOME_CANCELLED,
            Outcome::Dropped => tokenweir_outcome::TOKENWEIR_OUTCOME_DROPPED,
            Outcome::Expired => tokenweir_outcome::TOKENWEIR_OUTCOME_EXPIRED,
            // The engine has learnt to end permits in another way.
            _ => tokenweir_outcome::TOKENWEIR_OUTCOME_NONE,
        };
        outcome as u32
    }
}

/// What settling a permit came to. The call fills it; set size before. See tokenweir_settlement_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_settlement {
    /// sizeof(tokenweir_settlement).
    pub size: u32,
    /// A tokenweir_outcome.
    pub outcome: u32,
    /// The permit.
    pub permit: u64,
    /// Input tokens that were charged in the end, cached ones included.
    pub input: u64,
    /// Of these, how many came from the provider's cache.
    pub cached_input: u64,
    /// Output tokens that were charged in the end.
    pub output: u64,
    /// 1 if a part of this is the estimate, because the usage was absent.
    pub estimated: u32,
    /// Not used.
    pub reserved0: u32,
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_settlement);

/// Where a decision goes, and the denial if the caller wants it.
pub(crate) struct Answer<'a> {
    decision: *mut tokenweir_decision,
    denial: Option<Place<'a, *mut tokenweir_denial>>,
}

impl Answer<'_> {
    /// # Safety
    /// `decision` is NULL or a struct of the size that its first field says, `denial` NULL or a place for a pointer; both
    /// may be written during the call.
    #[inline]
    pub(crate) unsafe fn new(
        decision: *mut tokenweir_decision,
        denial: *mut *mut tokenweir_denial,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's word.
        unsafe {
            let denial = if denial.is_null() { None } else { Some(handle(denial, "denial")?) };
            Ok(Answer { decision: output(decision)?, denial })
        }
    }

    /// Takes the whole result, so that a decision, which has room for a denial, is not moved about.
    #[inline]
    pub(crate) fn put(self, decided: Result<Decision<'_>, Error>) -> Result<(), Error> {
        match decided {
            Ok(Decision::Admitted(permit)) => self.put_admitted(permit.into_id()),
            Ok(Decision::Denied(denied)) => self.put_denied(denied),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn put_admitted(self, permit: PermitId) {
        self.put_nameless(1, permit.get(), 0, 0);
    }

    /// Nobody could decide.
    #[cfg(feature = "redis")]
    #[cold]
    pub(crate) fn put_unavailable(self) {
        self.put_nameless(0, 0, TOKENWEIR_ABSENT, 503);
    }

    /// What no limit has decided.
    #[inline]
    fn put_nameless(self, admitted: u32, permit: u64, retry_after: u64, status: u32) {
        // SAFETY: `output` has found a struct of this size there, and it may be written.
        unsafe {
            let decision = self.decision;
            (*decision).admitted = admitted;
            (*decision).permit = permit;
            (*decision).retry_after_ns = retry_after;
            (*decision).retry_after_seconds = retry_after;
            (*decision).remaining = 0;
            (*decision).fits_now = 0;
            (*decision).status = status;
            (*decision).never_fits = 0;
            (*decision).table_full = 0;
            (*decision).refusals = 0;
            (*decision).limit_length = 0;
            (*decision).limit[0] = 0;
        }
    }

    #[cold]
    pub(crate) fn put_denied(self, denied: Denied) {
        let decided_by = denied.refusals().find(|refusal| refusal.limit == denied.limit());
        // SAFETY: `output` has found a struct of this size there, and it may be written.
        unsafe {
            let decision = self.decision;
            (*decision).admitted = 0;
            (*decision).permit = 0;
            (*decision).retry_after_ns = json::wait(&denied).unwrap_or(TOKENWEIR_ABSENT);
            (*decision).retry_after_seconds = denied.retry_after_seconds().unwrap_or(TOKENWEIR_ABSENT);
            (*decision).remaining = decided_by.map_or(0, |refusal| refusal.remaining);
            (*decision).fits_now = decided_by.map_or(0, |refusal| refusal.fits_now);
            (*decision).status = denied.status().into();
            (*decision).never_fits = flag(denied.never_fits());
            (*decision).table_full = flag(denied.table_full());
            (*decision).refusals = denied.refusals().count() as u32;
            (*decision).limit_length = u32::try_from(denied.limit().len()).unwrap_or(u32::MAX);
            (*decision).limit = fixed(denied.limit());
        }
        if let Some(place) = self.denial {
            place.give(tokenweir_denial(denied));
        }
    }
}

/// As much of the name as goes before a NUL.
pub(crate) fn fixed<const ROOM: usize>(name: &str) -> [c_char; ROOM] {
    let mut chars = [0; ROOM];
    let mut end = name.len().min(ROOM - 1);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in chars.iter_mut().zip(&name.as_bytes()[..end]) {
        *to = *from as c_char;
    }
    chars
}

/// Runs an entry point that ends a permit; see [`guarded`].
///
/// # Safety
/// `settlement` is NULL or a struct of the size that its first field says, which may be written during the call; `error`
/// is NULL or may be written.
#[inline]
pub(crate) unsafe fn guarded_end<S: Into<Option<Settlement>>>(
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
    end: impl FnOnce() -> Result<S, Failure>,
) -> tokenweir_code {
    // SAFETY: the caller's word; and what is written below is a struct of this size.
    unsafe {
        guarded(error, || {
            // Before anything is ended.
            let wanted = !settlement.is_null();
            let settlement = if wanted { output(settlement)? } else { settlement };
            let came_to = end()?;
            if !wanted {
            } else if let Some(came_to) = came_to.into() {
                (*settlement).outcome = tokenweir_outcome::of(came_to.outcome);
                (*settlement).permit = came_to.id.get();
                (*settlement).input = came_to.input;
                (*settlement).cached_input = came_to.cached_input;
                (*settlement).output = came_to.output;
                (*settlement).estimated = flag(came_to.estimated);
            } else {
                settlement.write(tokenweir_settlement {
                    size: size_of::<tokenweir_settlement>() as u32,
                    outcome: tokenweir_outcome::TOKENWEIR_OUTCOME_NONE as u32,
                    permit: 0,
                    input: 0,
                    cached_input: 0,
                    output: 0,
                    estimated: 0,
                    reserved0: 0,
                    reserved: [0; 4],
                });
            }
            Ok(())
        })
    }
}

/// The denial in JSON: status, limit, retry_after_ns (null: no waiting helps), never_fits, table_full, every limit that
/// refused under `refusals`, and what each enforced limit of the request has left under `remaining`.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_denial_json(
    denial: *const tokenweir_denial,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded_json(json, error, || Ok(json::denial(&shared(denial, "denial")?.0))) }
}

/// Frees a denial. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_denial_free(denial: *mut tokenweir_denial) {
    // SAFETY: NULL or a denial of ours that nobody uses any more, as the header asks.
    unsafe { free(denial) }
}
