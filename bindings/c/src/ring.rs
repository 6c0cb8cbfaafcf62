//! Decisions and settlements, for whoever polls.

use crate::border::{Failure, free, guarded, handle, output, place, plain_struct, shared};
use crate::code::tokenweir_code;
use crate::decision::tokenweir_outcome;
use crate::error::tokenweir_error;
use crate::json;
use crate::text::tokenweir_text;
use crate::values::{TOKENWEIR_ABSENT, flag, tokenweir_now};
use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;
use tokenweir::{Event, Record, RecordRing};

/// A ring in which a limiter keeps its decisions and settlements until they are polled. Writing never waits for a
/// reader: when the ring is full the newest record is dropped and counted.
///
/// Ownership: the caller's, until tokenweir_ring_free(). Limiters that were made with it keep what they need of it, so
/// it may be freed before them. Threads: any number may poll it at once.
pub struct tokenweir_ring(pub(crate) Arc<RecordRing>);

/// A decision or a settlement.
///
/// Ownership: the caller's, until tokenweir_record_free(). Threads: any number may read it at once.
pub struct tokenweir_record(Record);

/// What a record is about.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_record_kind {
    /// Something that this header does not know.
    TOKENWEIR_RECORD_OTHER = 0,
    /// A request was admitted.
    TOKENWEIR_RECORD_ADMITTED = 1,
    /// A request was denied.
    TOKENWEIR_RECORD_DENIED = 2,
    /// A permit ended.
    TOKENWEIR_RECORD_SETTLED = 3,
}

/// A record's fields. The call fills it; set size before. See tokenweir_record_view_init(). The pointers are into the
/// record and valid until it is freed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_record_view {
    /// sizeof(tokenweir_record_view).
    pub size: u32,
    /// A tokenweir_record_kind.
    pub kind: u32,
    /// When.
    pub at: tokenweir_now,
    /// The project: any bytes, no NUL behind them.
    pub project: *const c_char,
    /// In bytes.
    pub project_length: usize,
    /// The deployment: any bytes, no NUL behind them.
    pub deployment: *const c_char,
    /// In bytes.
    pub deployment_length: usize,
    /// What the request was expected to take, in tokens.
    pub estimated_input: u64,
    /// What the request was expected to take, in tokens.
    pub estimated_output: u64,
    /// Admitted, settled: the permit.
    pub permit: u64,
    /// Denied: nanoseconds, TOKENWEIR_ABSENT if no waiting helps.
    pub retry_after_ns: u64,
    /// Denied: the name of the limit that decided, UTF-8 without a NUL behind it; NULL otherwise.
    pub limit: *const c_char,
    /// In bytes.
    pub limit_length: usize,
    /// Denied: 429 or 403.
    pub status: u32,
    /// Denied: 1 if no waiting helps because the request is larger than a whole limit.
    pub never_fits: u32,
    /// Denied: how many limits refused; tokenweir_record_json() names them.
    pub refusals: u32,
    /// Admitted: 1 if a shadow limit would have refused it.
    pub shadow_refused: u32,
    /// Settled: a tokenweir_outcome.
    pub outcome: u32,
    /// Settled: 1 if a part of the tokens is the estimate, because the usage was absent.
    pub estimated: u32,
    /// Settled: input tokens that were charged in the end, cached ones included.
    pub input: u64,
    /// Settled: of these, how many came from the provider's cache.
    pub cached_input: u64,
    /// Settled: output tokens that were charged in the end.
    pub output: u64,
    /// Settled: input tokens as reported; TOKENWEIR_ABSENT if they were not.
    pub reported_input: u64,
    /// Settled: cached input tokens as reported; TOKENWEIR_ABSENT if they were not.
    pub reported_cached_input: u64,
    /// Settled: output tokens as reported; TOKENWEIR_ABSENT if they were not.
    pub reported_output: u64,
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_record_view);

fn view(record: &Record) -> tokenweir_record_view {
    let mut view = tokenweir_record_view {
        size: size_of::<tokenweir_record_view>() as u32,
        kind: tokenweir_record_kind::TOKENWEIR_RECORD_OTHER as u32,
        at: record.at.into(),
        project: record.project().as_ptr().cast(),
        project_length: record.project().len(),
        deployment: record.deployment().as_ptr().cast(),
        deployment_length: record.deployment().len(),
        estimated_input: record.estimate.input,
        estimated_output: record.estimate.output,
        permit: record.permit().map_or(0, |permit| permit.get()),
        retry_after_ns: 0,
        limit: ptr::null(),
        limit_length: 0,
        status: 0,
        never_fits: 0,
        refusals: 0,
        shadow_refused: 0,
        outcome: tokenweir_outcome::TOKENWEIR_OUTCOME_NONE as u32,
        estimated: 0,
        input: 0,
        cached_input: 0,
        output: 0,
        reported_input: TOKENWEIR_ABSENT,
        reported_cached_input: TOKENWEIR_ABSENT,
        reported_output: TOKENWEIR_ABSENT,
        reserved: [0; 4],
    };
    match &record.event {
        Event::Admitted { shadow_refused, .. } => {
            view.kind = tokenweir_record_kind::TOKENWEIR_RECORD_ADMITTED as u32;
            view.shadow_refused = flag(*shadow_refused);
        }
        Event::Denied(denied) => {
            view.kind = tokenweir_record_kind::TOKENWEIR_RECORD_DENIED as u32;
            view.retry_after_ns = json::wait(denied).unwrap_or(TOKENWEIR_ABSENT);
            view.limit = denied.limit().as_ptr().cast();
            view.limit_length = denied.limit().len();
            view.status = denied.status().into();
            view.never_fits = flag(denied.never_fits());
            view.refusals = denied.refusals().count() as u32;
        }
        Event::Settled { settlement, usage } => {
            view.kind = tokenweir_record_kind::TOKENWEIR_RECORD_SETTLED as u32;
            view.outcome = tokenweir_outcome::of(settlement.outcome);
            view.estimated = flag(settlement.estimated);
            view.input = settlement.input;
            view.cached_input = settlement.cached_input;
            view.output = settlement.output;
            view.reported_input = usage.input.unwrap_or(TOKENWEIR_ABSENT);
            view.reported_cached_input = usage.cached_input.unwrap_or(TOKENWEIR_ABSENT);
            view.reported_output = usage.output.unwrap_or(TOKENWEIR_ABSENT);
        }
        _ => {}
    }
    view
}

/// Makes a ring for `capacity` records that nobody has polled yet, 1 to 2^20, rounded up to a power of two. Its memory,
/// about 400 bytes for each, is taken at once.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_ring_new(
    capacity: usize,
    ring: *mut *mut tokenweir_ring,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let ring = handle(ring, "ring")?;
            if !(1..=1 << 20).contains(&capacity) {
                let (what, given) = ("capacity", capacity as u64);
                return Err(Failure::Argument { what, given, remedy: "give 1 to 1048576 records" });
            }
            ring.give(tokenweir_ring(Arc::new(RecordRing::new(capacity))));
            Ok(())
        })
    }
}

/// Takes the oldest record out of the ring; NULL if there is none. Never waits.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_ring_poll(
    ring: *const tokenweir_ring,
    record: *mut *mut tokenweir_record,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (record, ring) = (handle(record, "record")?, shared(ring, "ring")?);
            if let Some(polled) = ring.0.poll() {
                record.give(tokenweir_record(polled));
            }
            Ok(())
        })
    }
}

/// How many records were dropped since the ring was made, because it was full.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_ring_lost(
    ring: *const tokenweir_ring,
    lost: *mut u64,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (lost, ring) = (place(lost, "lost")?, shared(ring, "ring")?);
            lost.put(ring.0.lost());
            Ok(())
        })
    }
}

/// Frees a ring. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_ring_free(ring: *mut tokenweir_ring) {
    // SAFETY: NULL or a ring of ours that nobody uses any more, as the header asks.
    unsafe { free(ring) }
}

/// The record's fields.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_record_read(
    record: *const tokenweir_record,
    fields: *mut tokenweir_record_view,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (fields, record) = (output(fields)?, shared(record, "record")?);
            fields.write(view(&record.0));
            Ok(())
        })
    }
}

/// The record in JSON: at, project, deployment and estimate, and what the decision or the settlement came to; a denial
/// as tokenweir_denial_json() has it.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_record_json(
    record: *const tokenweir_record,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (json, record) = (handle(json, "json")?, shared(record, "record")?);
            json.give(tokenweir_text::new(&json::record(&record.0).to_string()));
            Ok(())
        })
    }
}

/// Frees a record. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_record_free(record: *mut tokenweir_record) {
    // SAFETY: NULL or a record of ours that nobody uses any more, as the header asks.
    unsafe { free(record) }
}
