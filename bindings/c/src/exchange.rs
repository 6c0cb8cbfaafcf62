//! One admitted call, from its admission to its end: the rules of it, for hosts that pass responses on.

use crate::answer::tokenweir_dialect;
use crate::border::{
    Failure, bytes, free, guarded, guarded_or, handle, input, output, permit, place, plain_struct, shared,
};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::limiter::tokenweir_limiter;
use crate::text::{Chars, tokenweir_text};
use crate::values::{flag, tokenweir_estimate, tokenweir_now, tokenweir_usage};
use crate::wire::tokenweir_api;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokenweir::{Limiter, Now, Usage};
use tokenweir_wire::{CallRules, Characters, Cut, Exchange, Failed, Passed, ResponseHead, ResponseWatch, Unanswered};

/// Follows one admitted call of which the request is sent: it says what of the response goes to the client, observes it on
/// its way, keeps the permit alive, cuts a stream short whose limits are spent, and says by what to settle the permit,
/// which stays the host's to do. Its memory stays below 16 KiB.
///
/// Ownership: the caller's, until tokenweir_exchange_free(); it keeps its limiter going until then. Threads: any, one after
/// the other; calls at once wait for one another.
pub struct tokenweir_exchange {
    limiter: Limiter,
    state: Mutex<State>,
}

#[allow(clippy::large_enum_variant)]
enum State {
    Sent(Exchange),
    Answered(ResponseWatch<Characters>),
}

impl tokenweir_exchange {
    /// After a panic it is used on: whatever it then holds is no more than a wrong count.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Safety
    /// `now` is NULL or can be read.
    unsafe fn now(&self, now: *const tokenweir_now) -> Now {
        // SAFETY: the caller's word.
        unsafe { tokenweir_now::read(now) }.unwrap_or_else(|| self.limiter.now())
    }
}

/// Which limits cut a stream short that has used more than its estimate.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_cut {
    /// A quota that is spent: no waiting brings it back soon.
    TOKENWEIR_CUT_QUOTA = 0,
    /// None: what goes beyond is charged, and later requests wait for it.
    TOKENWEIR_CUT_NEVER = 1,
    /// Any limit on tokens or cost that is spent, rates included.
    TOKENWEIR_CUT_ANY = 2,
}

/// What a call is charged to which the provider answers with an error, and of which no usage is reported.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_failed {
    /// No tokens; it still counts as a request.
    TOKENWEIR_FAILED_NOTHING = 0,
    /// Its estimate: for providers that charge for what they fail at.
    TOKENWEIR_FAILED_ESTIMATE = 1,
}

/// What a call is charged that was sent and never answered.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_unanswered {
    /// Its estimate: what is not known is not nothing.
    TOKENWEIR_UNANSWERED_ESTIMATE = 0,
    /// The input that was estimated: it was sent, and nothing was produced that anyone has seen.
    TOKENWEIR_UNANSWERED_INPUT = 1,
    /// No tokens; it still counts as a request.
    TOKENWEIR_UNANSWERED_NOTHING = 2,
}

/// What an operator decides of calls that take more than was expected, fail, or are never answered; zero is the default for
/// each field. See tokenweir_call_rules_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_call_rules {
    /// sizeof(tokenweir_call_rules).
    pub size: u32,
    /// A tokenweir_cut.
    pub cut: u32,
    /// A tokenweir_failed.
    pub failed: u32,
    /// A tokenweir_unanswered.
    pub unanswered: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_call_rules, reserved = [0; 4]);

impl tokenweir_call_rules {
    fn rules(&self) -> Result<CallRules, Failure> {
        fn among<T: Copy>(all: &[T], what: &'static str, given: u32, remedy: &'static str) -> Result<T, Failure> {
            let known = all.get(given as usize).copied();
            known.ok_or(Failure::Argument { what, given: given.into(), remedy })
        }
        let cut = [Cut::Quota, Cut::Never, Cut::Any];
        let failed = [Failed::Nothing, Failed::Estimate];
        let unanswered = [Unanswered::Estimate, Unanswered::Input, Unanswered::Nothing];
        Ok(CallRules::new(
            among(&cut, "rules.cut", self.cut, "give a tokenweir_cut")?,
            among(&failed, "rules.failed", self.failed, "give a tokenweir_failed")?,
            among(&unanswered, "rules.unanswered", self.unanswered, "give a tokenweir_unanswered")?,
        ))
    }
}

/// The head of a response. See tokenweir_response_head_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_response_head {
    /// sizeof(tokenweir_response_head).
    pub size: u32,
    /// The HTTP status, 100 to 999.
    pub status: u32,
    /// A tokenweir_dialect: in whose words the client is told why a stream ends.
    pub dialect: u32,
    /// 1: the usage at the end of the stream was asked for, and not by the client (tokenweir_wire_ask_usage()), so it is kept
    /// back.
    pub withhold_usage: u32,
    /// The header of that name; NULL and 0 if there is none.
    pub content_type: *const c_char,
    /// In bytes.
    pub content_type_length: usize,
    /// The header of that name; NULL and 0 if there is none. What is compressed passes unseen, and the estimate stands.
    pub content_encoding: *const c_char,
    /// In bytes.
    pub content_encoding_length: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_response_head, reserved = [0; 4]);

/// Begins with a call that `limiter` admitted as `permit`, for `estimate`, and that is sent. `api` is a tokenweir_api;
/// TOKENWEIR_API_NONE: its response says nothing of tokens. `rules` may be NULL: the default ones.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID, PERMIT_UNKNOWN (0).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_new(
    limiter: *const tokenweir_limiter,
    api: u32,
    permit_id: u64,
    estimate: *const tokenweir_estimate,
    rules: *const tokenweir_call_rules,
    now: *const tokenweir_now,
    exchange: *mut *mut tokenweir_exchange,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (exchange, limiter) = (handle(exchange, "exchange")?, &shared(limiter, "limiter")?.0);
            let rules = if rules.is_null() { CallRules::default() } else { input(rules)?.rules()? };
            let (estimate, permit) = (input(estimate)?.into(), Some(permit(permit_id)?));
            let api = match api {
                0 => None,
                api => Some(tokenweir_api::read(api)?),
            };
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            let sent = State::Sent(Exchange::new(api, estimate, permit, rules, now));
            exchange.give(tokenweir_exchange { limiter: limiter.clone(), state: Mutex::new(sent) });
            Ok(())
        })
    }
}

/// Whether the permit has expired before the answer came (1 is put at `expired`, else 0), so that the answer would be had for
/// the estimate, whatever it says: 504 is for the client then.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_has_expired(
    exchange: *const tokenweir_exchange,
    now: *const tokenweir_now,
    expired: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (expired, exchange) = (place(expired, "expired")?, shared(exchange, "exchange")?);
            let now = exchange.now(now);
            expired.put(match &mut *exchange.state() {
                State::Sent(sent) => flag(sent.has_expired(&exchange.limiter, now)),
                State::Answered(_) => 0,
            });
            Ok(())
        })
    }
}

/// The head of the response has come.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID (a dialect or status that is none),
/// CALL_ORDER (it came before).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_answered(
    exchange: *const tokenweir_exchange,
    head: *const tokenweir_response_head,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (exchange, head) = (shared(exchange, "exchange")?, input(head)?);
            let dialect = tokenweir_dialect::read(head.dialect)?;
            let remedy = "give the response's HTTP status, 100 to 999";
            let status = u16::try_from(head.status).ok().filter(|status| (100..=999).contains(status));
            let wrong = Failure::Argument { what: "head.status", given: head.status.into(), remedy };
            let status = status.ok_or(wrong)?;
            let content_type = bytes(head.content_type, head.content_type_length, "head.content_type")?;
            let coding = bytes(head.content_encoding, head.content_encoding_length, "head.content_encoding")?;
            let mut state = exchange.state();
            let State::Sent(sent) = &*state else { return Err(Failure::CallOrder("the call has been answered")) };
            let read = |value| std::str::from_utf8(value).ok();
            let head_of = ResponseHead {
                status,
                content_type: read(content_type).filter(|value| !value.is_empty()),
                // A coding that cannot be read is some coding.
                content_encoding: Some(read(coding).unwrap_or("unknown")).filter(|value| !value.is_empty()),
            };
            let watch = sent.clone().answered(head_of, dialect, head.withhold_usage != 0, Characters::default());
            *state = State::Answered(watch);
            Ok(())
        })
    }
}

/// Whether what goes to the client is as long as what comes (1), unless the permit expires: if not, Content-Length has to go. 1
/// before the head has come, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_keeps_length(exchange: *const tokenweir_exchange) -> u32 {
    guarded_or(1, || {
        // SAFETY: NULL or live, as the header asks.
        let exchange = unsafe { exchange.as_ref() };
        exchange.map_or(1, |exchange| match &*exchange.state() {
            State::Sent(_) => 1,
            State::Answered(watch) => flag(watch.keeps_length()),
        })
    })
}

/// The next piece of the response has come; it may be cut anywhere, and its bytes are plain. `last` 1: no more will come; the
/// piece may be empty then. What goes to the client is put at `instead`: the bytes to send instead of the piece, which may be
/// none; NULL: the piece as it is. 1 is put at `ends` if the response ends with it though it has not come to its end,
/// otherwise 0.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID, CALL_ORDER (the head comes first).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_passes(
    exchange: *const tokenweir_exchange,
    piece: *const c_char,
    length: usize,
    last: u32,
    now: *const tokenweir_now,
    instead: *mut *mut tokenweir_text,
    ends: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (instead, ends) = (handle(instead, "instead")?, place(ends, "ends")?);
            let (exchange, piece) = (shared(exchange, "exchange")?, bytes(piece, length, "piece")?);
            let now = exchange.now(now);
            let State::Answered(watch) = &mut *exchange.state() else {
                return Err(Failure::CallOrder("the call has not been answered"));
            };
            let passed = watch.passes(piece, last != 0, &exchange.limiter, now);
            ends.put(flag(matches!(passed, Passed::Last(_))));
            if let Passed::Part(part) | Passed::Last(part) = passed {
                instead.give(tokenweir_text(Chars::of_bytes(part)));
            }
            Ok(())
        })
    }
}

/// By what the permit is to be settled if the call ends here: at its end, at the client's, or at the provider's. `unanswered`
/// 1: it was sent, and there will be no answer.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_used(
    exchange: *const tokenweir_exchange,
    unanswered: u32,
    usage: *mut tokenweir_usage,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (usage, exchange) = (output(usage)?, shared(exchange, "exchange")?);
            // The times that a record would have are not told.
            let now = Now::new(0, 0);
            usage.write(tokenweir_usage::from(match &*exchange.state() {
                State::Sent(sent) if unanswered != 0 => sent.unanswered(now).usage,
                State::Sent(_) => Usage::UNKNOWN,
                State::Answered(watch) => watch.completion(now).usage,
            }));
            Ok(())
        })
    }
}

/// Frees an exchange; its permit stays open. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_exchange_free(exchange: *mut tokenweir_exchange) {
    // SAFETY: NULL or an exchange of ours that nobody uses any more, as the header asks.
    unsafe { free(exchange) }
}
