//! Calls of the wire helpers: requests, responses, answers, and snapshots, which are documents as well.

use super::*;

const PATHS: [&[u8]; 5] = [
    b"/v1/chat/completions",
    b"/openai/deployments/d/completions?x",
    b"/models/g:streamGenerateContent",
    b"/v1/models",
    b"\xff/responses",
];

const BODIES: [&[u8]; 6] = [
    b"{\"model\":\"d\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
    b"{\"stream\":true,\"stream_options\":null,\"max_tokens\":9,\"n\":2}",
    b"{\"contents\":[],\"max_output_tokens\":1e9}",
    b"{\"model\":\"\\ud800\0\xff\"}",
    b"[]",
    b"{\"model\":",
];

const CHUNKS: [&[u8]; 8] = [
    b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n",
    b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n",
    b"data: [DONE]\n\n",
    b"data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":18446744073709551616}}\r",
    b"{\"usageMetadata\":{\"promptTokenCount\":3}}",
    b"\n",
    b"\xff\0{",
    b"event: x\ndata: \"",
];

const TYPES: [&[u8]; 3] = [b"text/event-stream", b"application/json", b"\xff"];

const HEADERS: [&[u8]; 6] = [
    b"retry-after",
    b"ratelimit",
    b"x-ratelimit-reset-tokens",
    b"\"a\";r=5;t=",
    b"6m0s",
    b"Fri, 27 Nov 2026 12:00:00 GMT",
];

/// What the calls have made, and NULL where they have made nothing.
pub(super) struct Wire {
    meters: [*mut tokenweir_response_meter; 2],
    filter: *mut tokenweir_usage_chunk_filter,
    exchange: *mut tokenweir_exchange,
}

impl Wire {
    pub(super) fn new() -> Self {
        Wire { meters: [null_mut(); 2], filter: null_mut(), exchange: null_mut() }
    }

    /// # Safety
    /// As for `Made::make`.
    pub(super) unsafe fn finish(self) {
        // SAFETY: the caller's word.
        unsafe {
            self.meters.into_iter().for_each(|meter| tokenweir_response_meter_free(meter));
            tokenweir_usage_chunk_filter_free(self.filter);
            tokenweir_exchange_free(self.exchange);
        }
    }
}

/// An answer is read and freed.
///
/// # Safety
/// The answer is the library's or NULL.
pub(super) unsafe fn read(bytes: &mut Bytes<'_>, answer: *mut tokenweir_answer) {
    // SAFETY: the caller's word; what is read is said to be there.
    unsafe {
        let mut view = tokenweir_answer_view { size: bytes.size::<tokenweir_answer_view>(), ..cleared() };
        if call!(bytes, tokenweir_answer_read(answer, bytes.place(&mut view))) == OK && !view.body.is_null() {
            assert_eq!(CStr::from_ptr(view.body).to_bytes().len(), view.body_length);
            for header in std::slice::from_raw_parts(view.headers, view.header_count) {
                let value = CStr::from_ptr(header.value).to_bytes();
                assert_eq!(value.len(), header.value_length);
                assert!(value.iter().all(|byte| (b' '..=b'~').contains(byte)));
            }
        }
        tokenweir_answer_free(answer);
    }
}

impl Made {
    /// # Safety
    /// As for `make`; the denial is the library's or NULL.
    pub(super) unsafe fn refuse(&mut self, bytes: &mut Bytes<'_>, denial: *const tokenweir_denial) {
        // SAFETY: as for `make`.
        unsafe {
            let (limiter, now) = (self.limiters[bytes.below(2)], self.now(bytes));
            let (dialect, ietf) = (bytes.below(7) as u32, bytes.below(2) as u32);
            let mut answer = null_mut();
            let code =
                call!(bytes, tokenweir_answer_refused(limiter, denial, dialect, ietf, now, bytes.place(&mut answer)));
            assert_eq!(code == OK, !answer.is_null());
            read(bytes, answer);
        }
    }

    /// # Safety
    /// As for `make`.
    pub(super) unsafe fn wire(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            match bytes.byte() % 14 {
                0 | 1 => self.read_request(bytes),
                2 => {
                    let ((body, length), api) = (bytes.text(&BODIES), bytes.below(8) as u32);
                    let (mut asked, mut sent) = (7, null_mut());
                    let (asked, place) = (bytes.place(&mut asked), bytes.place(&mut sent));
                    let code = call!(bytes, tokenweir_wire_ask_usage(api, body, length, asked, place));
                    assert!(code == OK || sent.is_null());
                    if !sent.is_null() {
                        assert!(tokenweir_text_length(sent) > length);
                    }
                    tokenweir_text_free(sent);
                }
                3 => {
                    let ((content_type, length), api) = (bytes.text(&TYPES), bytes.below(8) as u32);
                    let mut meter = null_mut();
                    let place = bytes.place(&mut meter);
                    let code = call!(bytes, tokenweir_response_meter_new(api, content_type, length, place));
                    assert_eq!(code == OK, !meter.is_null());
                    let at = bytes.below(2);
                    Self::replace(&mut self.wire.meters[at], meter, tokenweir_response_meter_free);
                }
                4..7 => self.feed_meter(bytes),
                7 | 8 => self.feed_filter(bytes),
                9 => {
                    let (limiter, id, now) = (self.limiters[bytes.below(2)], self.permit(bytes), self.now(bytes));
                    let (dialect, ietf) = (bytes.below(7) as u32, bytes.below(2) as u32);
                    let mut answer = null_mut();
                    let place = bytes.place(&mut answer);
                    if bytes.byte().is_multiple_of(2) {
                        call!(bytes, tokenweir_answer_admitted(limiter, id, dialect, ietf, now, place));
                    } else {
                        let ((message, length), status) = (bytes.text(&NAMES), (bytes.number() as u32).wrapping_mul(4));
                        call!(bytes, tokenweir_answer_failed(dialect, status, message, length, place));
                    }
                    read(bytes, answer);
                }
                10 => {
                    let headers: Vec<_> = (0..bytes.below(4))
                        .map(|_| {
                            let ((name, name_length), (value, value_length)) =
                                (bytes.text(&HEADERS), bytes.text(&HEADERS));
                            tokenweir_key { name, name_length, value, value_length }
                        })
                        .collect();
                    let (count, now) = (bytes.count(headers.len()), self.now(bytes));
                    let mut text = null_mut();
                    let place = bytes.place(&mut text);
                    call!(bytes, tokenweir_wire_upstream_limits(headers.as_ptr(), count, now, place));
                    Self::read(text);
                }
                11 | 12 => self.exchange(bytes),
                _ => self.outlive(bytes),
            }
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn exchange(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            match bytes.byte() % 4 {
                0 => {
                    let (limiter, id, now) = (self.limiters[bytes.below(2)], self.permit(bytes), self.now(bytes));
                    let (api, estimate) = (bytes.below(8) as u32, bytes.estimate());
                    let rules = tokenweir_call_rules {
                        size: bytes.size::<tokenweir_call_rules>(),
                        cut: bytes.below(4) as u32,
                        failed: bytes.below(3) as u32,
                        unanswered: bytes.below(4) as u32,
                        reserved: bytes.reserved(),
                    };
                    let mut exchange = null_mut();
                    let (estimate, rules) = (bytes.pointer(&estimate), bytes.pointer(&rules));
                    let place = bytes.place(&mut exchange);
                    let code = call!(bytes, tokenweir_exchange_new(limiter, api, id, estimate, rules, now, place));
                    assert_eq!(code == OK, !exchange.is_null());
                    Self::replace(&mut self.wire.exchange, exchange, tokenweir_exchange_free);
                }
                1 => {
                    let (content_type, content_type_length) = bytes.text(&TYPES);
                    let (content_encoding, content_encoding_length) =
                        if bytes.rarely() { bytes.text(&NAMES) } else { (null(), 0) };
                    let head = tokenweir_response_head {
                        size: bytes.size::<tokenweir_response_head>(),
                        status: [200, 200, 200, 503, 0, 70_000][bytes.below(6)],
                        dialect: bytes.below(7) as u32,
                        withhold_usage: bytes.below(2) as u32,
                        content_type,
                        content_type_length,
                        content_encoding,
                        content_encoding_length,
                        reserved: bytes.reserved(),
                    };
                    let head = bytes.pointer(&head);
                    call!(bytes, tokenweir_exchange_answered(self.wire.exchange, head));
                }
                2 => {
                    let ((piece, length), last, now) =
                        (bytes.text(&CHUNKS), bytes.below(8) as u32 / 7, self.now(bytes));
                    let (mut instead, mut ends) = (null_mut(), 7);
                    let (text, place) = (bytes.place(&mut instead), bytes.place(&mut ends));
                    let exchange = self.wire.exchange;
                    let code = call!(bytes, tokenweir_exchange_passes(exchange, piece, length, last, now, text, place));
                    assert!(code == OK || instead.is_null() && ends == 7);
                    tokenweir_text_free(instead);
                }
                _ => {
                    let (mut usage, mut expired, now) = (bytes.usage(), 7, self.now(bytes));
                    let exchange = self.wire.exchange;
                    let (unanswered, place) = (bytes.below(2) as u32, bytes.place(&mut usage));
                    if call!(bytes, tokenweir_exchange_used(exchange, unanswered, place)) == OK {
                        let known = |tokens: u64| tokens <= 1 << 53 || tokens == TOKENWEIR_ABSENT;
                        assert!(known(usage.input) && known(usage.output));
                    }
                    let place = bytes.place(&mut expired);
                    call!(bytes, tokenweir_exchange_has_expired(exchange, now, place));
                    assert!(tokenweir_exchange_keeps_length(exchange) <= 1);
                }
            }
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn read_request(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let ((path, path_length), (body, length)) = (bytes.text(&PATHS), bytes.text(&BODIES));
            let api = if bytes.byte().is_multiple_of(2) { 0 } else { bytes.below(8) as u32 };
            let mut asked = tokenweir_asked { size: bytes.size::<tokenweir_asked>(), ..cleared() };
            let place = bytes.place(&mut asked);
            let code = call!(bytes, tokenweir_wire_request_read(api, path, path_length, body, length, place));
            if code == OK {
                assert!(asked.api == tokenweir_wire_api_of(path, path_length) || asked.api == api);
                assert!(asked.answers > 0);
            }
            if bytes.rarely() {
                (asked.input, asked.output, asked.answers) = (bytes.number(), bytes.number(), bytes.number());
            }
            let rule = tokenweir_output_rule {
                size: bytes.size::<tokenweir_output_rule>(),
                share_per_mille: bytes.below(255) as u32 * 4,
                tokens: bytes.number(),
                per_mille_of_input: bytes.number(),
                reserved: bytes.reserved(),
            };
            let keys = bytes.keys();
            let (request, limiter) = (bytes.request(&keys), self.limiters[bytes.below(2)]);
            let mut estimate = bytes.estimate();
            let (asked, rule) = (bytes.pointer(&asked), bytes.pointer(&rule));
            let (request, place) = (bytes.pointer(&request), bytes.place(&mut estimate));
            call!(bytes, tokenweir_wire_estimate(asked, rule, limiter, request, place));
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn feed_meter(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let (meter, (chunk, length)) = (self.wire.meters[bytes.below(2)], bytes.text(&CHUNKS));
            // Cut anywhere.
            let length = if length < 200 { length.min(usize::from(bytes.byte())) } else { length };
            let mut output = 0;
            let place = bytes.place(&mut output);
            call!(bytes, tokenweir_response_meter_feed(meter, chunk, length, place));
            assert!(output <= 1 << 53);
            let mut measured = tokenweir_measured { size: bytes.size::<tokenweir_measured>(), ..cleared() };
            let place = bytes.place(&mut measured);
            if call!(bytes, tokenweir_response_meter_measured(meter, place)) == OK && measured.ended != 0 {
                assert!(measured.estimated <= 1 && (1..=3).contains(&measured.ended));
                assert!(measured.usage.size as usize == size_of::<tokenweir_usage>());
                // The engine takes whatever a meter says.
                let (limiter, id, now) = (self.limiters[bytes.below(2)], self.permit(bytes), self.now(bytes));
                let code = call!(bytes, tokenweir_limiter_settle(limiter, id, &measured.usage, now, null_mut()));
                assert_ne!(code, tokenweir_code::TOKENWEIR_USAGE_INVALID);
            }
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn feed_filter(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let mut out = vec![0; 200 + TOKENWEIR_MOST_HELD];
            let capacity = if bytes.rarely() { bytes.below(9) } else { out.len() };
            let mut written = 0;
            match bytes.byte() % 8 {
                0 => {
                    let mut filter = null_mut();
                    let code = call!(bytes, tokenweir_usage_chunk_filter_new(bytes.place(&mut filter)));
                    assert_eq!(code == OK, !filter.is_null());
                    Self::replace(&mut self.wire.filter, filter, tokenweir_usage_chunk_filter_free);
                }
                1 => {
                    let place = bytes.place(&mut written);
                    let out = out.as_mut_ptr();
                    call!(bytes, tokenweir_usage_chunk_filter_finish(self.wire.filter, out, capacity, place));
                }
                _ => {
                    let (chunk, length) = bytes.text(&CHUNKS);
                    let place = bytes.place(&mut written);
                    let (filter, out) = (self.wire.filter, out.as_mut_ptr());
                    call!(bytes, tokenweir_usage_chunk_filter_feed(filter, chunk, length, out, capacity, place));
                }
            }
            assert!(written <= capacity);
        }
    }

    /// The counters of one limiter in a fresh one, by the document as it is or with a byte changed.
    ///
    /// # Safety
    /// As for `make`.
    unsafe fn outlive(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let (from, policy, now) = (self.limiters[bytes.below(2)], self.policies[bytes.below(3)], self.now(bytes));
            let (mut text, mut limiter, mut restored) = (null_mut(), null_mut(), null_mut());
            call!(bytes, tokenweir_limiter_snapshot(from, now, bytes.place(&mut text)));
            let mut document = CStr::from_ptr(tokenweir_text_chars(text)).to_bytes().to_vec();
            Self::read(text);
            let whole = !document.is_empty() && !bytes.rarely();
            if !whole && !document.is_empty() {
                let at = (bytes.below(256) * 256 + bytes.below(256)) % document.len();
                document[at] ^= bytes.byte();
            }
            let options = tokenweir_options {
                size: size_of::<tokenweir_options>() as u32,
                clock: self.clocks[bytes.below(3)],
                max_counters: bytes.number() % 100,
                max_permits: bytes.number() % 100,
                ..cleared()
            };
            call!(bytes, tokenweir_limiter_new(policy, &options, &mut limiter));
            let (source, place) = (document.as_ptr().cast(), bytes.place(&mut restored));
            let code = call!(bytes, tokenweir_limiter_restore(limiter, source, document.len(), now, place));
            assert!(!whole || code != tokenweir_code::TOKENWEIR_SNAPSHOT_INVALID);
            Self::read(restored);
            let mut usage = null_mut();
            call!(bytes, tokenweir_limiter_usage(limiter, null(), now, &mut usage));
            Self::read(usage);
            tokenweir_limiter_free(limiter);
        }
    }
}
