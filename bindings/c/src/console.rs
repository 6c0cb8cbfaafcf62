//! The gateway model, behind commands in JSON.

use crate::border::{Failure, free, guarded, handle, place, shared, text};
use crate::clock::tokenweir_clock;
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::text::{Chars, tokenweir_text};
use crate::values::flag;
use std::ffi::c_char;
use tokenweir::gateway::{Console, ConsoleOptions, ConsoleTime};

/// The Admin console of Foundry resources and the traffic through their gateways, driven by commands in JSON.
///
/// Ownership: the caller's, until tokenweir_console_free(). Threads: any number may use it at once. Calls by command
/// wait while an operation, a view or a document is worked on; those through a tokenweir_gate do not.
pub struct tokenweir_console(pub(crate) Console);

/// Makes a console without resources. `options` is a JSON object of `length` bytes, in which each field may be absent, or
/// nothing, for every default: `profile` (how gateways count and answer: as API Management does; null: as limiters do),
/// `provider` ({"ready_after": seconds, "delete_after": seconds, ...}: how long instances take), `time` ("system", or
/// "given": by commands, as `now`), `records` (how many usage records are kept), `max_calls`, `max_counters`,
/// `call_ttl_seconds`. `clock` is where the time comes from unless commands give it; NULL: the system's clocks.
///
/// Codes: OPTIONS_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_console_new(
    options: *const c_char,
    length: usize,
    clock: *const tokenweir_clock,
    console: *mut *mut tokenweir_console,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (console, source) = (handle(console, "console")?, text(options, length, "options")?);
            let options: ConsoleOptions = match source {
                "" => ConsoleOptions::default(),
                source => serde_json::from_str(source).map_err(|error| Failure::Options(error.to_string()))?,
            };
            let mut builder = Console::builder().options(&options);
            if let Some(clock) = clock.as_ref() {
                if options.time == ConsoleTime::Given {
                    let twice = "\"time\" is \"given\", by commands, and a clock was passed";
                    return Err(Failure::Options(twice.to_owned()));
                }
                builder = builder.clock(clock.shared());
            }
            console.give(tokenweir_console(builder.build()));
            Ok(())
        })
    }
}

/// Carries out a command: a JSON object with the command's name, and `now` (an instant like "2026-11-23T17:30:00Z") where the
/// console is told the time. The answer is {"ok": ...} or {"error": {"code", "message", "next", "findings"}}; the words of
/// `code` are stable. A command that is refused is an answer, so the code is OK; it has changed nothing but the audit
/// trail. `refused` may be NULL; otherwise 1 is put there if it was, and 0 if not. Where there is one resource, `resource` may
/// be left out, except in operations.
///
///   apply       by, operation                                  what it came to
///   declare     resource, deployment, project, principal, ...  what it came to
///   refresh                                                    changes: what came to an end
///   status      resource                                       resources, instances with states, limits and their use
///   candidates  by, resource                                   each instance, with what keeps it from hosting the gateway
///   verify      resource, project, deployment, usage           passed, checks
///   call        resource, project, deployment, agent, tool, keys, estimate, streamed, correlation_id, operation
///                                                              outcome, and call to end it by, or status, headers, body
///   observe     call, input, output                            spent
///   settle      call, usage, response_code, ...                settlement, remaining, record
///   cancel      call                                           as settle
///   diagnose    resource, seen                                 causes
///   audit       after, most                                    entries, dropped
///   records     most                                           records, the oldest that were not taken, dropped
///   policy      resource                                       the limits as one policy
///   rules                                                      the requirements V-01 to V-23
///   save        counters                                       document
///   load        document                                       restored, left_out
///
/// Codes: NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_console_command(
    console: *const tokenweir_console,
    command: *const c_char,
    length: usize,
    answer: *mut *mut tokenweir_text,
    refused: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let answer = handle(answer, "answer")?;
            let (console, command) = (&shared(console, "console")?.0, text(command, length, "command")?);
            let answered = console.command(command);
            if !refused.is_null() {
                // An answer has one member.
                place(refused, "refused")?.put(flag(answered.starts_with("{\"error\":")));
            }
            answer.give(tokenweir_text(Chars::new(&answered)));
            Ok(())
        })
    }
}

/// Frees a console. NULL is fine. Calls that are under way end as dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_console_free(console: *mut tokenweir_console) {
    // SAFETY: NULL or a console of ours that nobody uses any more, as the header asks.
    unsafe { free(console) }
}
