//! A call that passes a gateway, until it has ended.

use crate::border::{Failure, free, guarded, input, place, plain_struct, shared};
use crate::code::tokenweir_code;
use crate::decision::{guarded_end, tokenweir_settlement};
use crate::error::tokenweir_error;
use crate::gate::{optional, present};
use crate::values::{flag, tokenweir_now, tokenweir_usage};
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokenweir::Now;
use tokenweir::gateway::{Completion, Gate, Passage};

/// A call that passes, until it has ended: it is settled or cancelled once.
///
/// Ownership: the caller's, until tokenweir_passage_free(), which ends a call that has not ended: what it was charged
/// stands. Threads: any number may use it at once; they wait for one another.
pub struct tokenweir_passage {
    gate: Gate,
    call: Mutex<Option<Passage>>,
}

/// How a call ended, as far as the host knows. See tokenweir_completion_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_completion {
    /// sizeof(tokenweir_completion).
    pub size: u32,
    /// What the caller was answered with; 0 if that is not known.
    pub response_code: u32,
    /// What the provider answered with; 0 if that is not known.
    pub backend_response_code: u32,
    /// 1 if a part of `usage` was counted by the host; 0 if the provider reported all of it.
    pub estimated: u32,
    /// What the provider reported.
    pub usage: tokenweir_usage,
    /// Of the output tokens, how many were spent on reasoning; TOKENWEIR_ABSENT if that is not known.
    pub reasoning: u64,
    /// Nanoseconds that the provider took; TOKENWEIR_ABSENT if that is not known.
    pub backend_ns: u64,
    /// Nanoseconds to the first piece of a stream; TOKENWEIR_ABSENT if that is not known.
    pub first_token_ns: u64,
    /// The deployment that served it, if it may be another than was asked for, in UTF-8; NULL if not.
    pub deployment_served: *const c_char,
    /// In bytes.
    pub deployment_served_length: usize,
    /// The model that the provider says served it, in UTF-8; NULL if it does not.
    pub model_served: *const c_char,
    /// In bytes.
    pub model_served_length: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_completion, reserved = [0; 4]);

impl tokenweir_completion {
    /// # Safety
    /// Its pointers are NULL or can be read for their lengths, and nobody writes there during `'a`.
    unsafe fn read<'a>(&'a self) -> Result<Completion<'a>, Failure> {
        // SAFETY: the caller's word, and `usage` is a struct of the header.
        let (usage, deployment_served, model_served) = unsafe {
            (
                input(&raw const self.usage)?.into(),
                optional(self.deployment_served, self.deployment_served_length, "completion.deployment_served")?,
                optional(self.model_served, self.model_served_length, "completion.model_served")?,
            )
        };
        let code = |what, given: u32| match given {
            0 => Ok(None),
            100..=999 => Ok(Some(given as u16)),
            _ => Err(Failure::Argument { what, given: given.into(), remedy: "give an HTTP status, or 0" }),
        };
        Ok(Completion {
            usage,
            estimated: self.estimated != 0,
            reasoning: present(self.reasoning),
            response_code: code("completion.response_code", self.response_code)?,
            backend_response_code: code("completion.backend_response_code", self.backend_response_code)?,
            deployment_served,
            model_served,
            backend_time: present(self.backend_ns).map(Duration::from_nanos),
            first_token_time: present(self.first_token_ns).map(Duration::from_nanos),
        })
    }
}

impl tokenweir_passage {
    pub(crate) fn new(gate: &Gate, call: Passage) -> Self {
        tokenweir_passage { gate: gate.clone(), call: Mutex::new(Some(call)) }
    }

    /// When something is done: known before the call is taken, so that nothing is lost if that cannot be said.
    fn at(&self, now: Option<Now>) -> Now {
        now.unwrap_or_else(|| self.gate.now())
    }

    fn open(&self) -> MutexGuard<'_, Option<Passage>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call, to be ended: nobody comes second.
    fn take(&self) -> Result<Passage, Failure> {
        self.open().take().ok_or(Failure::CallEnded)
    }
}

/// Reports tokens that a stream has brought, as tokenweir_limiter_observe() does. A call that bypasses is charged nothing.
///
/// Codes: PERMIT_SETTLED, USAGE_INVALID, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_passage_observe(
    passage: *const tokenweir_passage,
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
            let passage = shared(passage, "passage")?;
            let now = passage.at(tokenweir_now::read(now));
            let observed = passage.open().as_ref().ok_or(Failure::CallEnded)?.observe_at(input, output, now)?;
            if let Some(spent) = spent {
                spent.put(flag(observed.is_some_and(|observed| observed.spent)));
            }
            Ok(())
        })
    }
}

/// Lets the call's permit live for `ttl_ns` nanoseconds from now on, as tokenweir_limiter_renew() does: for streams that take
/// longer than the console's call_ttl_seconds. A call that bypasses has none, and needs none.
///
/// Codes: PERMIT_SETTLED if the call has ended or its permit has expired, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_passage_renew(
    passage: *const tokenweir_passage,
    ttl_ns: u64,
    now: *const tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let passage = shared(passage, "passage")?;
            let now = passage.at(tokenweir_now::read(now));
            passage.open().as_ref().ok_or(Failure::CallEnded)?.renew_at(Duration::from_nanos(ttl_ns), now)?;
            Ok(())
        })
    }
}

/// Ends the call with what is known of its end. `settlement` may be NULL; of a call that bypassed there is nothing to
/// settle, and its outcome is TOKENWEIR_OUTCOME_NONE.
///
/// Codes: USAGE_INVALID, after which what was charged stands; PERMIT_SETTLED if the call has ended or its permit has
/// expired. With either the call has ended. Without anything having changed: NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE,
/// RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_passage_settle(
    passage: *const tokenweir_passage,
    completion: *const tokenweir_completion,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_end(settlement, error, || {
            let (passage, completion) = (shared(passage, "passage")?, input(completion)?.read()?);
            let now = passage.at(tokenweir_now::read(now));
            let call = passage.take()?;
            Ok(call.settle_at(&completion, now)?)
        })
    }
}

/// Ends a call that never reached the provider: nothing is charged for it. `settlement` as in
/// tokenweir_passage_settle().
///
/// Codes: PERMIT_SETTLED, NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_passage_cancel(
    passage: *const tokenweir_passage,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_end(settlement, error, || {
            let passage = shared(passage, "passage")?;
            let now = passage.at(tokenweir_now::read(now));
            let call = passage.take()?;
            Ok(call.cancel_at(now)?)
        })
    }
}

/// Frees a passage; a call that has not ended ends, and what it was charged stands. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_passage_free(passage: *mut tokenweir_passage) {
    // SAFETY: NULL or a passage of ours that nobody uses any more, as the header asks.
    unsafe { free(passage) }
}
