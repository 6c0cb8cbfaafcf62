//! Requests as providers' clients send them: what they ask for, what they may cost, and their stream's usage.

use crate::border::{Failure, bytes, guarded, guarded_or, handle, input, output, place, plain_struct, shared};
use crate::code::tokenweir_code;
use crate::decision::fixed;
use crate::error::tokenweir_error;
use crate::limiter::tokenweir_limiter;
use crate::text::{Chars, tokenweir_text};
use crate::values::{TOKENWEIR_ABSENT, flag, tokenweir_estimate, tokenweir_request};
use std::borrow::Cow;
use std::ffi::c_char;
use tokenweir::Estimate;
use tokenweir_wire::{Api, Asked, Endpoint, OutputRule, StreamUsage};

/// The shape of a request and its response. Azure OpenAI has those of OpenAI, Vertex those of Gemini and Anthropic.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_api {
    /// Nothing that generates tokens, or not known.
    TOKENWEIR_API_NONE = 0,
    /// OpenAI Chat Completions.
    TOKENWEIR_API_CHAT_COMPLETIONS = 1,
    /// OpenAI Completions (legacy).
    TOKENWEIR_API_COMPLETIONS = 2,
    /// OpenAI Embeddings.
    TOKENWEIR_API_EMBEDDINGS = 3,
    /// OpenAI Responses.
    TOKENWEIR_API_RESPONSES = 4,
    /// Anthropic Messages.
    TOKENWEIR_API_MESSAGES = 5,
    /// Gemini and Vertex generateContent and streamGenerateContent.
    TOKENWEIR_API_GENERATE_CONTENT = 6,
}

use tokenweir_api::*;

impl tokenweir_api {
    fn of(api: Api) -> u32 {
        let api = match api {
            Api::ChatCompletions => TOKENWEIR_API_CHAT_COMPLETIONS,
            Api::Completions => TOKENWEIR_API_COMPLETIONS,
            Api::Embeddings => TOKENWEIR_API_EMBEDDINGS,
            Api::Responses => TOKENWEIR_API_RESPONSES,
            Api::Messages => TOKENWEIR_API_MESSAGES,
            Api::GenerateContent => TOKENWEIR_API_GENERATE_CONTENT,
            // The library has learnt another, which this header does not have.
            _ => TOKENWEIR_API_NONE,
        };
        api as u32
    }

    pub(crate) fn read(number: u32) -> Result<Api, Failure> {
        const APIS: [Api; 6] = [
            Api::ChatCompletions,
            Api::Completions,
            Api::Embeddings,
            Api::Responses,
            Api::Messages,
            Api::GenerateContent,
        ];
        let known = APIS.into_iter().find(|api| tokenweir_api::of(*api) == number);
        let remedy = "give a tokenweir_api that generates tokens, for instance that of tokenweir_wire_api_of()";
        known.ok_or(Failure::Argument { what: "api", given: number.into(), remedy })
    }
}

/// What a request asks for. The call fills it; set size before. See tokenweir_asked_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_asked {
    /// sizeof(tokenweir_asked).
    pub size: u32,
    /// A tokenweir_api.
    pub api: u32,
    /// 1: it asks for a stream.
    pub stream: u32,
    /// 1: it asks for the usage at the end of the stream (stream_options.include_usage).
    pub include_usage: u32,
    /// 1: it refers to input that is not in its body (an earlier response, cached content), so input is too low.
    pub input_elsewhere: u32,
    /// The length of the model's name in bytes; 0 if none is given.
    pub model_length: u32,
    /// Input tokens, estimated.
    pub input: u64,
    /// The most output tokens that it allows, for all answers; TOKENWEIR_ABSENT if it states none.
    pub output: u64,
    /// How many answers there will be; at least 1.
    pub answers: u64,
    /// The model or deployment that the path names, as written there, or the body; with a NUL behind it. Nothing where
    /// the name is longer than 256 bytes.
    pub model: [c_char; 264],
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_asked, reserved = [0; 4]);

const LONGEST_MODEL: usize = 256;

impl tokenweir_asked {
    fn of(asked: &Asked) -> Self {
        let model = asked.model.as_deref().filter(|model| model.len() <= LONGEST_MODEL).unwrap_or_default();
        tokenweir_asked {
            size: size_of::<tokenweir_asked>() as u32,
            api: tokenweir_api::of(asked.api),
            stream: flag(asked.stream),
            include_usage: flag(asked.include_usage),
            input_elsewhere: flag(asked.input_elsewhere),
            model_length: model.len() as u32,
            input: asked.input,
            output: asked.output.unwrap_or(TOKENWEIR_ABSENT),
            answers: asked.answers,
            model: fixed(model),
            reserved: [0; 4],
        }
    }

    /// As far as an estimate needs it.
    fn asked(&self) -> Result<Asked, Failure> {
        let output = (self.output != TOKENWEIR_ABSENT).then_some(self.output);
        let mut asked = Asked::new(tokenweir_api::read(self.api)?, self.input, output);
        asked.answers = self.answers;
        Ok(asked)
    }
}

/// What is held for the output of a request that states no bound: tokens, and a share of the input, for each answer. It is
/// cut to a share of each limit, and never makes a request too large that its input alone is not. See
/// tokenweir_output_rule_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_output_rule {
    /// sizeof(tokenweir_output_rule).
    pub size: u32,
    /// The thousandths of a limit that it may take, 1 to 1000; 0: 250.
    pub share_per_mille: u32,
    /// So many tokens.
    pub tokens: u64,
    /// And so many thousandths of the input: 500 is half as much output as input.
    pub per_mille_of_input: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_output_rule, reserved = [0; 4]);

impl tokenweir_output_rule {
    fn rule(&self) -> Result<OutputRule, Failure> {
        let rule = OutputRule::per_mille_of_input(self.per_mille_of_input).plus_tokens(self.tokens);
        match self.share_per_mille {
            0 => Ok(rule),
            share @ 1..=1000 => Ok(rule.within_share(share.into())),
            given => {
                let remedy = "give 1 to 1000 thousandths, or 0 for 250";
                Err(Failure::Argument { what: "rule.share_per_mille", given: given.into(), remedy })
            }
        }
    }
}

/// The tokenweir_api that a URL's path names by its last segments, whatever stands before them; a query is ignored.
/// TOKENWEIR_API_NONE for what generates no tokens (/v1/models), what is not known, and what is not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_wire_api_of(path: *const c_char, length: usize) -> u32 {
    guarded_or(TOKENWEIR_API_NONE as u32, || {
        // SAFETY: the pointer is as the header asks.
        let path = unsafe { bytes(path, length, "path") }.ok().and_then(|path| std::str::from_utf8(path).ok());
        path.and_then(Endpoint::of).map_or(TOKENWEIR_API_NONE as u32, |endpoint| tokenweir_api::of(endpoint.api))
    })
}

/// Reads a request: what it asks for, and what it may cost, by four characters to a token and the like. With api 0 the
/// path says which API it is, and what it says of model and stream goes before what the body says; otherwise the path is
/// not looked at. The whole body in one piece; memory beside it stays below 8 KiB.
///
/// Codes: BODY_INVALID, NULL_ARGUMENT, STRUCT_SIZE, ARGUMENT_INVALID (an api that is none, or a path that names none).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_wire_request_read(
    api: u32,
    path: *const c_char,
    path_length: usize,
    body: *const c_char,
    body_length: usize,
    asked: *mut tokenweir_asked,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (asked, body) = (output(asked)?, bytes(body, body_length, "body")?);
            let endpoint = match api {
                0 => std::str::from_utf8(bytes(path, path_length, "path")?).ok().and_then(Endpoint::of),
                _ => None,
            };
            asked.write(tokenweir_asked::of(&match endpoint {
                Some(endpoint) => endpoint.read(body)?,
                None => Asked::read(tokenweir_api::read(api)?, body)?,
            }));
            Ok(())
        })
    }
}

/// What to admit a request with: its estimated input, and the output that it states. Where it states none, what `rule`
/// says, cut to the limits that `request` meets. Nothing is taken from them.
///
/// Codes: as tokenweir_limiter_route().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_wire_estimate(
    asked: *const tokenweir_asked,
    rule: *const tokenweir_output_rule,
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *mut tokenweir_estimate,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let estimate = output(estimate)?;
            let (asked, rule) = (input(asked)?.asked()?, input(rule)?.rule()?);
            let (limiter, request) = (&shared(limiter, "limiter")?.0, input(request)?);
            let Estimate { input, output } = request.with(|request| asked.estimate(&rule, limiter, request))?;
            estimate.write(tokenweir_estimate {
                size: size_of::<tokenweir_estimate>() as u32,
                reserved0: 0,
                input,
                output,
                reserved: [0; 4],
            });
            Ok(())
        })
    }
}

/// Has a stream end with its usage, which Chat Completions and Completions report only where the request asks for it.
/// `sent` is the body to send instead: the bytes that were given, with one insertion or replacement; NULL if they can be
/// sent as they are. `client_asked` may be NULL; otherwise 0 is put there if the client does not expect the usage, so that
/// a tokenweir_usage_chunk_filter should keep it back, and 1 if it does, or gets it from this API anyway.
///
/// Codes: BODY_INVALID, NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_wire_ask_usage(
    api: u32,
    body: *const c_char,
    length: usize,
    client_asked: *mut u32,
    sent: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (sent, body) = (handle(sent, "sent")?, bytes(body, length, "body")?);
            let usage = StreamUsage::of(tokenweir_api::read(api)?, body)?;
            if !client_asked.is_null() {
                place(client_asked, "client_asked")?.put(flag(usage.client_asked()));
            }
            if let Cow::Owned(asking) = usage.ask(body) {
                sent.give(tokenweir_text(Chars::of_bytes(asking)));
            }
            Ok(())
        })
    }
}
