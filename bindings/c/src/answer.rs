//! What a client is told, in the words of its API, and what an upstream says of its own limits.

use crate::border::{Failure, array, bytes, free, guarded, handle, output, permit, plain_struct, shared, text};
use crate::code::tokenweir_code;
use crate::decision::tokenweir_denial;
use crate::error::tokenweir_error;
use crate::json;
use crate::limiter::tokenweir_limiter;
use crate::text::{Chars, guarded_json, tokenweir_text};
use crate::values::{tokenweir_key, tokenweir_now};
use std::ffi::c_char;
use tokenweir::{Clock, SystemClock};
use tokenweir_wire::{Dialect, Standing, UpstreamLimits, ietf_headers};

/// In whose words a client is answered.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_dialect {
    /// OpenAI's API.
    TOKENWEIR_DIALECT_OPENAI = 1,
    /// Azure OpenAI.
    TOKENWEIR_DIALECT_AZURE_OPENAI = 2,
    /// Anthropic's API.
    TOKENWEIR_DIALECT_ANTHROPIC = 3,
    /// Gemini and Vertex.
    TOKENWEIR_DIALECT_GEMINI = 4,
    /// An API behind Azure API Management.
    TOKENWEIR_DIALECT_APIM = 5,
}

impl tokenweir_dialect {
    pub(crate) fn read(number: u32) -> Result<Dialect, Failure> {
        const ALL: [(tokenweir_dialect, Dialect); 5] = [
            (tokenweir_dialect::TOKENWEIR_DIALECT_OPENAI, Dialect::OpenAi),
            (tokenweir_dialect::TOKENWEIR_DIALECT_AZURE_OPENAI, Dialect::AzureOpenAi),
            (tokenweir_dialect::TOKENWEIR_DIALECT_ANTHROPIC, Dialect::Anthropic),
            (tokenweir_dialect::TOKENWEIR_DIALECT_GEMINI, Dialect::Gemini),
            (tokenweir_dialect::TOKENWEIR_DIALECT_APIM, Dialect::Apim),
        ];
        let known = ALL.into_iter().find(|(known, _)| *known as u32 == number);
        let unknown = Failure::Argument { what: "dialect", given: number.into(), remedy: "give a tokenweir_dialect" };
        known.map(|(_, dialect)| dialect).ok_or(unknown)
    }
}

/// What a client is told: a status, headers, a body. Read it with tokenweir_answer_read().
///
/// Ownership: the caller's, until tokenweir_answer_free(). Threads: any number may read it at once.
pub struct tokenweir_answer {
    status: u16,
    /// Into the box of characters beside.
    headers: Box<[tokenweir_key]>,
    _characters: Box<[(Chars, Chars)]>,
    body: Chars,
}

impl tokenweir_answer {
    pub(crate) fn new<N: AsRef<str>>(status: u16, headers: &[(N, String)], body: &str) -> Self {
        let characters: Box<[_]> =
            headers.iter().map(|(name, value)| (Chars::new(name.as_ref()), Chars::new(value))).collect();
        let header = |(name, value): &(Chars, Chars)| tokenweir_key {
            name: name.pointer(),
            name_length: name.length(),
            value: value.pointer(),
            value_length: value.length(),
        };
        let headers = characters.iter().map(header).collect();
        tokenweir_answer { status, headers, _characters: characters, body: Chars::new(body) }
    }
}

/// An answer's parts. The call fills it; set size before. See tokenweir_answer_view_init(). The pointers are into the
/// answer and valid until it is freed; names, values and the body have a NUL behind them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_answer_view {
    /// sizeof(tokenweir_answer_view).
    pub size: u32,
    /// The HTTP status; 0 for an admitted request, whose status is the upstream's.
    pub status: u32,
    /// The headers: values of visible ASCII and spaces.
    pub headers: *const tokenweir_key,
    /// How many there are.
    pub header_count: usize,
    /// The body, JSON; "" for an admitted request.
    pub body: *const c_char,
    /// In bytes.
    pub body_length: usize,
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_answer_view);

/// The answer to a request that was denied, in a tokenweir_dialect: status, headers (how the limits stand, when to come
/// back, which limit refused, the body's type) and body. `with_ietf` 1: with RateLimit-Policy and RateLimit of the IETF
/// draft besides. `limiter` is the one that denied it, `now` the time of the denial.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_answer_refused(
    limiter: *const tokenweir_limiter,
    denial: *const tokenweir_denial,
    dialect: u32,
    with_ietf: u32,
    now: *const tokenweir_now,
    answer: *mut *mut tokenweir_answer,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (answer, limiter) = (handle(answer, "answer")?, &shared(limiter, "limiter")?.0);
            let (denied, dialect) = (&shared(denial, "denial")?.0, tokenweir_dialect::read(dialect)?);
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            let mut refused = dialect.refused(denied, denied.policy(), now);
            if with_ietf != 0 {
                refused.headers.extend(ietf_headers(&Standing::of(denied.policy(), &denied.remaining(), now)));
            }
            answer.give(tokenweir_answer::new(refused.status, &refused.headers, &refused.body));
            Ok(())
        })
    }
}

/// The headers for a request that was admitted: how the limits that its permit met stand. Ask before it is settled.
/// `with_ietf` as in tokenweir_answer_refused().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_answer_admitted(
    limiter: *const tokenweir_limiter,
    id: u64,
    dialect: u32,
    with_ietf: u32,
    now: *const tokenweir_now,
    answer: *mut *mut tokenweir_answer,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (answer, limiter) = (handle(answer, "answer")?, &shared(limiter, "limiter")?.0);
            let (dialect, id) = (tokenweir_dialect::read(dialect)?, permit(id)?);
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            // Observing nothing changes nothing, and says whether the permit is open.
            limiter.observe_at(id, 0, 0, now)?;
            let standings = Standing::of_permit(limiter, id, now);
            let mut headers = dialect.headers(&standings, now);
            if with_ietf != 0 {
                headers.extend(ietf_headers(&standings));
            }
            answer.give(tokenweir_answer::new(0, &headers, ""));
            Ok(())
        })
    }
}

/// The answer to a request that failed in another way, by its HTTP status (400 to 599): a key that is missing, a model that
/// is not there, an upstream that does not answer. `message` says what, in UTF-8. Its headers are the body's type and, where
/// trying again cannot help, `x-should-retry: false`, which the official OpenAI and Anthropic clients heed.
///
/// Codes: NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_answer_failed(
    dialect: u32,
    status: u32,
    message: *const c_char,
    length: usize,
    answer: *mut *mut tokenweir_answer,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (answer, message) = (handle(answer, "answer")?, text(message, length, "message")?);
            let dialect = tokenweir_dialect::read(dialect)?;
            let given = u16::try_from(status).ok().filter(|status| (400..600).contains(status));
            let remedy = "give the HTTP status of a failure, 400 to 599";
            let status = given.ok_or(Failure::Argument { what: "status", given: status.into(), remedy })?;
            let mut headers = dialect.error_headers(status);
            headers.push(("content-type".into(), "application/json".to_owned()));
            answer.give(tokenweir_answer::new(status, &headers, &dialect.error_body(status, message)));
            Ok(())
        })
    }
}

/// Reads an answer's parts.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_answer_read(
    answer: *const tokenweir_answer,
    view: *mut tokenweir_answer_view,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (view, answer) = (output(view)?, shared(answer, "answer")?);
            view.write(tokenweir_answer_view {
                size: size_of::<tokenweir_answer_view>() as u32,
                status: answer.status.into(),
                headers: answer.headers.as_ptr(),
                header_count: answer.headers.len(),
                body: answer.body.pointer(),
                body_length: answer.body.length(),
                reserved: [0; 4],
            });
            Ok(())
        })
    }
}

/// Frees an answer. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_answer_free(answer: *mut tokenweir_answer) {
    // SAFETY: NULL or an answer of ours that nobody uses any more, as the header asks.
    unsafe { free(answer) }
}

/// What the headers of an upstream's response say of its own limits, in JSON: under `requests`, `tokens`, `input_tokens`,
/// `output_tokens`, `project_tokens` and `quota_tokens` each limit, remaining and reset_ns; under `named` those of the IETF
/// draft with name, unit and window_ns besides; retry_after_ns. What is not said is null, and a header that cannot be read
/// is as if it were not there. `now` is when the response came; NULL: the system's time.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_wire_upstream_limits(
    headers: *const tokenweir_key,
    count: usize,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let mut readable = Vec::new();
            for header in array(headers, count, "headers")? {
                let name = bytes(header.name, header.name_length, "the name of a header")?;
                let value = bytes(header.value, header.value_length, "the value of a header")?;
                if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
                    readable.push((name, value));
                }
            }
            let now = tokenweir_now::read(now).unwrap_or_else(|| SystemClock::new().now());
            Ok(json::upstream(&UpstreamLimits::of(readable, now)))
        })
    }
}
