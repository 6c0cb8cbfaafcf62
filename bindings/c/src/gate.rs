//! Calls through a gateway, by plain structs.

use crate::answer::tokenweir_answer;
use crate::border::{Failure, free, guarded, handle, input, output, plain_struct, shared, text};
use crate::code::tokenweir_code;
use crate::console::tokenweir_console;
use crate::error::tokenweir_error;
use crate::passage::tokenweir_passage;
use crate::values::{TOKENWEIR_ABSENT, flag, keys, tokenweir_key, tokenweir_now};
use std::ffi::c_char;
use tokenweir::Estimate;
use tokenweir::gateway::{Call, CallOutcome, Gate, RefusedCall, Verdict};

/// The data path of one gateway: what is administered on the console applies to its next call.
///
/// Ownership: the caller's, until tokenweir_gate_free(). It may outlive the console's handle, and its calls may outlive it.
/// Threads: any number may use it at once.
pub struct tokenweir_gate(Gate);

/// What came of a call at the gateway.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_call_outcome {
    /// Something that this header does not know.
    TOKENWEIR_CALL_OTHER = 0,
    /// It is governed, and every limit had room.
    TOKENWEIR_CALL_ADMITTED = 1,
    /// It is not governed, and passes uncounted by limits.
    TOKENWEIR_CALL_BYPASSED = 2,
    /// A limit on tokens per minute, on calls or on concurrency refused it.
    TOKENWEIR_CALL_REFUSED_RATE = 3,
    /// A quota refused it.
    TOKENWEIR_CALL_REFUSED_QUOTA = 4,
    /// It is not governed, or of a project, deployment or tool that the resource does not have, and that was denied.
    TOKENWEIR_CALL_REFUSED_UNGOVERNED = 5,
    /// The agent that it is for is blocked.
    TOKENWEIR_CALL_REFUSED_AGENT_BLOCKED = 6,
}

impl tokenweir_call_outcome {
    fn of(outcome: CallOutcome) -> u32 {
        let outcome = match outcome {
            CallOutcome::Admitted => tokenweir_call_outcome::TOKENWEIR_CALL_ADMITTED,
            CallOutcome::Bypassed => tokenweir_call_outcome::TOKENWEIR_CALL_BYPASSED,
            CallOutcome::RefusedRate => tokenweir_call_outcome::TOKENWEIR_CALL_REFUSED_RATE,
            CallOutcome::RefusedQuota => tokenweir_call_outcome::TOKENWEIR_CALL_REFUSED_QUOTA,
            CallOutcome::RefusedUngoverned => tokenweir_call_outcome::TOKENWEIR_CALL_REFUSED_UNGOVERNED,
            CallOutcome::RefusedAgentBlocked => tokenweir_call_outcome::TOKENWEIR_CALL_REFUSED_AGENT_BLOCKED,
            _ => tokenweir_call_outcome::TOKENWEIR_CALL_OTHER,
        };
        outcome as u32
    }
}

/// One call to a model, an agent or a tool of a project. Text is UTF-8; NULL where there is none. See
/// tokenweir_call_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_call {
    /// sizeof(tokenweir_call).
    pub size: u32,
    /// 1: its response is streamed.
    pub streamed: u32,
    /// The project that calls.
    pub project: *const c_char,
    /// In bytes.
    pub project_length: usize,
    /// The deployment that it calls, if it calls a model.
    pub deployment: *const c_char,
    /// In bytes.
    pub deployment_length: usize,
    /// The custom agent that is called, or on whose behalf.
    pub agent: *const c_char,
    /// In bytes.
    pub agent_length: usize,
    /// The tool that is called.
    pub tool: *const c_char,
    /// In bytes.
    pub tool_length: usize,
    /// Who calls: user, subscription, address and what else limits or records tell callers apart by.
    pub keys: *const tokenweir_key,
    /// How many there are.
    pub key_count: usize,
    /// What it is expected to take; TOKENWEIR_ABSENT, both of them, if that is not known.
    pub estimated_input: u64,
    /// What it is expected to take; TOKENWEIR_ABSENT, both of them, if that is not known.
    pub estimated_output: u64,
    /// The host's id of the call; the gate makes one if there is none.
    pub correlation_id: *const c_char,
    /// In bytes.
    pub correlation_id_length: usize,
    /// What is done: "chat", "embeddings", "execute_tool".
    pub operation: *const c_char,
    /// In bytes.
    pub operation_length: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_call, reserved = [0; 4]);

/// What a gate decides on a call. The call fills it; set size before. See tokenweir_verdict_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_verdict {
    /// sizeof(tokenweir_verdict).
    pub size: u32,
    /// A tokenweir_call_outcome.
    pub outcome: u32,
    /// Refused: the HTTP status to answer with. 0 if it passes.
    pub status: u32,
    /// Refused: 1 if no waiting helps because the call is larger than a whole limit.
    pub never_fits: u32,
    /// Refused: whole seconds to wait; TOKENWEIR_ABSENT if none are told. 0 if it passes.
    pub retry_after_seconds: u64,
    /// The permit that holds its tokens; 0 if it is refused or bypasses.
    pub permit: u64,
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_verdict);

/// Text that may be absent: of no length.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn optional<'a>(
    data: *const c_char,
    length: usize,
    what: &'static str,
) -> Result<Option<&'a str>, Failure> {
    // SAFETY: the caller's word.
    Ok(Some(unsafe { text(data, length, what)? }).filter(|text| !text.is_empty()))
}

pub(crate) fn present(number: u64) -> Option<u64> {
    (number != TOKENWEIR_ABSENT).then_some(number)
}

impl tokenweir_call {
    /// Passes the call on as the gate takes it.
    ///
    /// # Safety
    /// Its pointers are NULL or can be read for their lengths, and nobody writes there during the call.
    unsafe fn with<T>(&self, act: impl FnOnce(&Call<'_>) -> Result<T, tokenweir::Error>) -> Result<T, Failure> {
        // SAFETY: the caller's word.
        let (project, deployment, agent, tool, correlation_id, operation, keys) = unsafe {
            (
                text(self.project, self.project_length, "call.project")?,
                optional(self.deployment, self.deployment_length, "call.deployment")?,
                optional(self.agent, self.agent_length, "call.agent")?,
                optional(self.tool, self.tool_length, "call.tool")?,
                optional(self.correlation_id, self.correlation_id_length, "call.correlation_id")?,
                optional(self.operation, self.operation_length, "call.operation")?,
                keys(self.keys, self.key_count)?,
            )
        };
        let mut call = Call::model(project, "").with_keys(&keys);
        (call.deployment, call.agent, call.tool) = (deployment, agent, tool);
        (call.correlation_id, call.operation) = (correlation_id, operation);
        call.streamed = self.streamed != 0;
        call.estimate = match (present(self.estimated_input), present(self.estimated_output)) {
            (None, None) => None,
            (input, output) => Some(Estimate::new(input.unwrap_or(0), output.unwrap_or(0))),
        };
        Ok(act(&call)?)
    }
}

fn told(headers: Vec<(String, u64)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

fn refusal(gate: &Gate, refused: &RefusedCall) -> tokenweir_answer {
    let mut headers = told(gate.refusal_headers(refused));
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    tokenweir_answer::new(refused.status(), &headers, &refused.body())
}

/// The gate of the resource of this name, for calls that are not to pass through JSON. It follows what is administered on
/// the console until the gateway is deleted or a document is loaded; ask for it again then.
///
/// Codes: RESOURCE_UNKNOWN, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_console_gate(
    console: *const tokenweir_console,
    resource: *const c_char,
    length: usize,
    gate: *mut *mut tokenweir_gate,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (gate, console) = (handle(gate, "gate")?, &shared(console, "console")?.0);
            let resource = text(resource, length, "resource")?;
            let found = resource.parse().ok().and_then(|name| console.gate(&name));
            gate.give(tokenweir_gate(found.ok_or_else(|| Failure::Resource(resource.chars().take(64).collect()))?));
            Ok(())
        })
    }
}

/// Frees a gate. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_gate_free(gate: *mut tokenweir_gate) {
    // SAFETY: NULL or a gate of ours that nobody uses any more, as the header asks.
    unsafe { free(gate) }
}

/// Decides on a call: it passes, governed or not, or it is refused, in which case it has been counted and recorded.
///
/// OK both ways: `passage` is where a call that passes is put, to be ended, and NULL if it is refused. `answer` may be NULL;
/// otherwise what the caller is told is put there: a refusal, or the headers of a call that passes, with status 0, all as
/// the console's profile words them.
///
/// Codes: as tokenweir_limiter_admit(); the call is recorded as failed then, and no limit has been charged. Not recorded:
/// NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_gate_admit(
    gate: *const tokenweir_gate,
    call: *const tokenweir_call,
    now: *const tokenweir_now,
    verdict: *mut tokenweir_verdict,
    passage: *mut *mut tokenweir_passage,
    answer: *mut *mut tokenweir_answer,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (verdict, passage) = (output(verdict)?, handle(passage, "passage")?);
            let answer = if answer.is_null() { None } else { Some(handle(answer, "answer")?) };
            let (gate, call) = (&shared(gate, "gate")?.0, input(call)?);
            let now = tokenweir_now::read(now).unwrap_or_else(|| gate.now());
            let mut decided = tokenweir_verdict {
                size: size_of::<tokenweir_verdict>() as u32,
                outcome: tokenweir_call_outcome::TOKENWEIR_CALL_OTHER as u32,
                status: 0,
                never_fits: 0,
                retry_after_seconds: 0,
                permit: 0,
                reserved: [0; 4],
            };
            let told = match call.with(|call| gate.admit_at(call, now))? {
                Verdict::Passed(passed) => {
                    decided.outcome = tokenweir_call_outcome::of(passed.outcome());
                    decided.permit = passed.permit().map_or(0, |permit| permit.get());
                    let told = answer.map(|answer| {
                        let headers = told(gate.headers(passed.remaining_at(now), None));
                        (answer, tokenweir_answer::new(0, &headers, ""))
                    });
                    passage.give(tokenweir_passage::new(gate, passed));
                    told
                }
                Verdict::Refused(refused) => {
                    decided.outcome = tokenweir_call_outcome::of(refused.record().outcome);
                    decided.status = refused.status().into();
                    decided.never_fits = flag(refused.record().never_fits);
                    decided.retry_after_seconds = refused.retry_after().unwrap_or(TOKENWEIR_ABSENT);
                    answer.map(|answer| (answer, refusal(gate, &refused)))
                }
            };
            if let Some((answer, told)) = told {
                answer.give(told);
            }
            verdict.write(decided);
            Ok(())
        })
    }
}
