//! Responses as they pass: the usage out of them, and the chunk that a client did not ask for.

use crate::border::{Failure, bytes, free, guarded, handle, output, place, plain_struct, shared};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::values::{TOKENWEIR_ABSENT, flag, tokenweir_usage};
use crate::wire::tokenweir_api;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokenweir::Usage;
use tokenweir_wire::{Ended, Framing, Measured, ResponseMeter, UsageChunkFilter};

/// Reads the usage out of one response as it passes, and counts what it can see until then. Its memory stays below 8 KiB
/// whatever comes.
///
/// Ownership: the caller's, until tokenweir_response_meter_free(). Threads: any, one after the other; calls at once wait for
/// one another.
pub struct tokenweir_response_meter(Mutex<ResponseMeter>);

/// Withholds from a client the one chunk of a stream that it did not ask for: the one with the usage and no choices. Give
/// a response meter what the upstream sent, before this.
///
/// Ownership: the caller's, until tokenweir_usage_chunk_filter_free(). Threads: any, one after the other; calls at once wait
/// for one another.
pub struct tokenweir_usage_chunk_filter(Mutex<Filtering>);

struct Filtering {
    filter: UsageChunkFilter,
    passed: Vec<u8>,
}

/// How much a tokenweir_usage_chunk_filter holds back at most, in bytes: what its calls put out is at most that much more
/// than they were given.
pub const TOKENWEIR_MOST_HELD: usize = 4096;

const _: () = assert!(TOKENWEIR_MOST_HELD == UsageChunkFilter::MOST_HELD);

/// How a response ended, by its own word.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_ended {
    /// It said that it is over.
    TOKENWEIR_ENDED_COMPLETE = 1,
    /// It said that the call failed.
    TOKENWEIR_ENDED_FAILED = 2,
    /// It stopped in the middle, or has not ended yet.
    TOKENWEIR_ENDED_BROKEN = 3,
}

impl tokenweir_ended {
    fn of(ended: Ended) -> u32 {
        let ended = match ended {
            Ended::Complete => tokenweir_ended::TOKENWEIR_ENDED_COMPLETE,
            Ended::Failed => tokenweir_ended::TOKENWEIR_ENDED_FAILED,
            _ => tokenweir_ended::TOKENWEIR_ENDED_BROKEN,
        };
        ended as u32
    }
}

/// What a response has used. What is not known is TOKENWEIR_ABSENT. The call fills it; set size before. See
/// tokenweir_measured_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_measured {
    /// sizeof(tokenweir_measured).
    pub size: u32,
    /// A tokenweir_ended.
    pub ended: u32,
    /// 1 if input or output is not what the provider reported for the whole answer.
    pub estimated: u32,
    /// Not used.
    pub reserved0: u32,
    /// What to settle with: as the provider reported it, and the output that was counted where it did not.
    pub usage: tokenweir_usage,
    /// Of the input, what was written to the provider's cache.
    pub cache_write: u64,
    /// Of the input, what is audio.
    pub audio_input: u64,
    /// Of the output, what is reasoning.
    pub reasoning: u64,
    /// Of the output, what is audio.
    pub audio_output: u64,
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_measured);

impl tokenweir_measured {
    fn of(measured: &Measured) -> Self {
        let known = |tokens: Option<u64>| tokens.unwrap_or(TOKENWEIR_ABSENT);
        tokenweir_measured {
            size: size_of::<tokenweir_measured>() as u32,
            ended: tokenweir_ended::of(measured.ended),
            estimated: flag(measured.estimated),
            reserved0: 0,
            usage: Usage::from(measured.usage).into(),
            cache_write: known(measured.usage.cache_write),
            audio_input: known(measured.usage.audio_input),
            reasoning: known(measured.usage.reasoning),
            audio_output: known(measured.usage.audio_output),
            reserved: [0; 4],
        }
    }
}

/// After a panic it is used on: whatever it then holds is no more than a wrong count.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a meter for one response of a tokenweir_api. `content_type` is the response's header: server-sent events if it is
/// text/event-stream, else JSON.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_response_meter_new(
    api: u32,
    content_type: *const c_char,
    length: usize,
    meter: *mut *mut tokenweir_response_meter,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (meter, content_type) = (handle(meter, "meter")?, bytes(content_type, length, "content_type")?);
            let framing = Framing::of(std::str::from_utf8(content_type).ok());
            meter.give(tokenweir_response_meter(Mutex::new(ResponseMeter::new(tokenweir_api::read(api)?, framing))));
            Ok(())
        })
    }
}

/// Takes the next chunk in; it may be cut anywhere. The bytes must be plain: what the upstream compressed is to be decoded
/// before. Nothing that comes is an error: what cannot be read is counted as text or left unknown. `output` may be NULL;
/// otherwise the output tokens are put there that it adds to earlier ones, to be given to tokenweir_limiter_observe().
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_response_meter_feed(
    meter: *const tokenweir_response_meter,
    chunk: *const c_char,
    length: usize,
    output: *mut u64,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (meter, chunk) = (shared(meter, "meter")?, bytes(chunk, length, "chunk")?);
            let more = locked(&meter.0).feed(chunk);
            if !output.is_null() {
                place(output, "output")?.put(more);
            }
            Ok(())
        })
    }
}

/// What the response has used, if it ended here. Settle with measured->usage.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_response_meter_measured(
    meter: *const tokenweir_response_meter,
    measured: *mut tokenweir_measured,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (measured, meter) = (output(measured)?, shared(meter, "meter")?);
            measured.write(tokenweir_measured::of(&locked(&meter.0).measured()));
            Ok(())
        })
    }
}

/// Frees a meter. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_response_meter_free(meter: *mut tokenweir_response_meter) {
    // SAFETY: NULL or a meter of ours that nobody uses any more, as the header asks.
    unsafe { free(meter) }
}

/// Makes a filter for one stream.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_usage_chunk_filter_new(
    filter: *mut *mut tokenweir_usage_chunk_filter,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let filtering = Filtering { filter: UsageChunkFilter::new(), passed: Vec::new() };
            handle(filter, "filter")?.give(tokenweir_usage_chunk_filter(Mutex::new(filtering)));
            Ok(())
        })
    }
}

/// Takes the next chunk in, and puts out what the client may have: `written` bytes at `out`, which has room for
/// `capacity`, at least length + TOKENWEIR_MOST_HELD.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_usage_chunk_filter_feed(
    filter: *const tokenweir_usage_chunk_filter,
    chunk: *const c_char,
    length: usize,
    out: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (filter, chunk) = (shared(filter, "filter")?, bytes(chunk, length, "chunk")?);
            pass(filter, chunk.len(), (out, capacity, written), |filtering| {
                filtering.filter.feed(chunk, &mut filtering.passed);
            })
        })
    }
}

/// The stream is over: puts out what was held back of an event without an end, at most TOKENWEIR_MOST_HELD bytes. The
/// filter is then as new.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_usage_chunk_filter_finish(
    filter: *const tokenweir_usage_chunk_filter,
    out: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            pass(shared(filter, "filter")?, 0, (out, capacity, written), |filtering| {
                std::mem::take(&mut filtering.filter).finish(&mut filtering.passed);
            })
        })
    }
}

/// Does something to a filter and puts out what it lets pass.
///
/// # Safety
/// `out` is NULL or has room for `capacity` bytes, `written` is NULL or may be written.
unsafe fn pass(
    filter: &tokenweir_usage_chunk_filter,
    length: usize,
    (out, capacity, written): (*mut c_char, usize, *mut usize),
    act: impl FnOnce(&mut Filtering),
) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    let written = unsafe { place(written, "written")? };
    if out.is_null() {
        return Err(Failure::Null("out"));
    }
    if capacity < length.saturating_add(TOKENWEIR_MOST_HELD) {
        let remedy = "give room for TOKENWEIR_MOST_HELD bytes more than the chunk has";
        return Err(Failure::Argument { what: "capacity", given: capacity as u64, remedy });
    }
    let mut filtering = locked(&filter.0);
    act(&mut filtering);
    let passed = &mut filtering.passed;
    assert!(passed.len() <= capacity, "no more comes out than went in or was held back");
    // SAFETY: the room is checked above, and is the caller's, so no part of ours.
    unsafe { out.copy_from_nonoverlapping(passed.as_ptr().cast(), passed.len()) };
    written.put(passed.len());
    passed.clear();
    // A large chunk is not to be paid for until the stream's end.
    passed.shrink_to(2 * TOKENWEIR_MOST_HELD);
    Ok(())
}

/// Frees a filter. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_usage_chunk_filter_free(filter: *mut tokenweir_usage_chunk_filter) {
    // SAFETY: NULL or a filter of ours that nobody uses any more, as the header asks.
    unsafe { free(filter) }
}
