//! Calls of the gateway model: commands, and calls through a gate by plain structs.

use super::*;

/// What makes a gateway with a limit, in this order.
const SET_UP: [&[u8]; 7] = [
    br#"{"declare":{"resource":{"name":"r","public_network_access":true,"site":{"tenant":"t","subscription":"s","resource_group":"g","region":"swedencentral"}}}}"#,
    br#"{"declare":{"deployment":{"resource":"r","name":"d","model":"gpt-4o"}}}"#,
    br#"{"declare":{"project":{"resource":"r","name":"pp","created":"2026-01-01T00:00:00Z"}}}"#,
    br#"{"declare":{"principal":{"id":"ada","assignments":[{"role":"Owner","scope":"/subscriptions/s"},{"role":"Foundry Owner","scope":"/subscriptions/s"}]}}}"#,
    br#"{"apply":{"by":"ada","operation":{"create_gateway":{"resource":"r","name":"front"}}}}"#,
    br#"{"apply":{"by":"ada","operation":{"add_project":{"resource":"r","project":"pp"}}}}"#,
    br#"{"apply":{"by":"ada","operation":{"set_limit":{"resource":"r","project":"pp","deployment":"d","limit":{"tokens_per_minute":500}}}}}"#,
];

const COMMANDS: [&[u8]; 12] = [
    br#"{"status":{}}"#,
    br#"{"records":{"most":3}}"#,
    br#"{"verify":{"project":"pp","deployment":"d"}}"#,
    br#"{"call":{"project":"pp","deployment":"d","estimate":{"input":9,"output":18446744073709551615}}}"#,
    br#"{"apply":{"by":"ada","operation":{"remove_project":{"resource":"r","project":"pp"}}}}"#,
    br#"{"apply":{"by":"eve","operation":{"delete_gateway":{"resource":"r"}}}}"#,
    br#"{"apply":{"by":"ada","operation":{"delete_gateway":{"resource":"r"}}}}"#,
    br#"{"save":{}}"#,
    br#"{"load":{"document":{"format":1}}}"#,
    br#"{"now":"2026-11-23T09:00:00Z","refresh":{}}"#,
    br#"{"refresh":"#,
    b"\xff",
];

const OPTIONS: [&[u8]; 4] = [b"", br#"{"time":"given"}"#, br#"{"profile":null,"max_calls":2,"max_counters":3}"#, b"[1"];

const PROJECTS: [&[u8]; 4] = [b"pp", b"nobody", b"", b"\xff"];

/// What the calls have made, and NULL where they have made nothing.
pub(super) struct Gateway {
    console: *mut tokenweir_console,
    gate: *mut tokenweir_gate,
    passages: [*mut tokenweir_passage; 2],
}

impl Gateway {
    pub(super) fn new() -> Self {
        Gateway { console: null_mut(), gate: null_mut(), passages: [null_mut(); 2] }
    }

    /// # Safety
    /// As for `Made::make`.
    pub(super) unsafe fn finish(self) {
        // SAFETY: the caller's word.
        unsafe {
            tokenweir_console_free(self.console);
            tokenweir_gate_free(self.gate);
            self.passages.into_iter().for_each(|passage| tokenweir_passage_free(passage));
        }
    }
}

impl Made {
    /// # Safety
    /// As for `make`.
    pub(super) unsafe fn gateway(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            match bytes.byte() % 10 {
                0 => {
                    let ((options, length), clock) = (bytes.text(&OPTIONS), self.clocks[bytes.below(3)]);
                    let mut console = null_mut();
                    let place = bytes.place(&mut console);
                    let code = call!(bytes, tokenweir_console_new(options, length, clock, place));
                    assert_eq!(code == OK, !console.is_null());
                    Self::replace(&mut self.gateway.console, console, tokenweir_console_free);
                    if bytes.byte().is_multiple_of(2) {
                        self.set_up_gateway(bytes);
                    }
                }
                1 => {
                    let (command, length) = bytes.text(&COMMANDS);
                    self.command(bytes, command, length);
                }
                2 => {
                    let (command, length) = bytes.text(&SET_UP);
                    self.command(bytes, command, length);
                }
                3 => {
                    let (resource, length) = bytes.text(&[b"r", b"r", b"x", b"\xff"]);
                    let mut gate = null_mut();
                    let (console, place) = (self.gateway.console, bytes.place(&mut gate));
                    let code = call!(bytes, tokenweir_console_gate(console, resource, length, place));
                    assert_eq!(code == OK, !gate.is_null());
                    Self::replace(&mut self.gateway.gate, gate, tokenweir_gate_free);
                }
                4..7 => self.pass(bytes),
                _ => self.end_passage(bytes),
            }
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn set_up_gateway(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            for command in SET_UP {
                self.command(bytes, command.as_ptr().cast(), command.len());
            }
            let mut gate = null_mut();
            tokenweir_console_gate(self.gateway.console, c"r".as_ptr(), 1, &mut gate, null_mut());
            Self::replace(&mut self.gateway.gate, gate, tokenweir_gate_free);
        }
    }

    /// # Safety
    /// As for `make`; the command is as C gives it.
    unsafe fn command(&mut self, bytes: &mut Bytes<'_>, command: *const c_char, length: usize) {
        // SAFETY: as for `make`.
        unsafe {
            let (mut text, mut refused) = (null_mut(), 7);
            let place = bytes.place(&mut text);
            let code =
                call!(bytes, tokenweir_console_command(self.gateway.console, command, length, place, &mut refused));
            assert_eq!(code == OK, refused <= 1);
            Self::read(text);
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn pass(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let keys = bytes.keys();
            let ((project, project_length), (deployment, deployment_length)) =
                (bytes.text(&PROJECTS), bytes.text(&[b"d", b"d", b"x", b""]));
            let (agent, agent_length) = bytes.text(&[b"", b"", b"a"]);
            let call = tokenweir_call {
                size: bytes.size::<tokenweir_call>(),
                streamed: bytes.below(2) as u32,
                project,
                project_length,
                deployment,
                deployment_length,
                agent,
                agent_length,
                keys: keys.as_ptr(),
                key_count: bytes.count(keys.len()),
                estimated_input: bytes.number(),
                estimated_output: bytes.number(),
                reserved: bytes.reserved(),
                ..cleared()
            };
            let mut verdict = tokenweir_verdict { size: bytes.size::<tokenweir_verdict>(), ..cleared() };
            let (mut passage, mut answer) = (null_mut(), null_mut());
            let now = self.now(bytes);
            let (call, gate) = (bytes.pointer(&call), self.gateway.gate);
            let (decided, place, told) =
                (bytes.place(&mut verdict), bytes.place(&mut passage), bytes.place(&mut answer));
            let code = call!(bytes, tokenweir_gate_admit(gate, call, now, decided, place, told));
            assert_eq!(code == OK && verdict.status == 0, !passage.is_null());
            assert!(answer.is_null() || code == OK);
            wire::read(bytes, answer);
            let at = bytes.below(2);
            Self::replace(&mut self.gateway.passages[at], passage, tokenweir_passage_free);
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn end_passage(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let (passage, now) = (self.gateway.passages[bytes.below(2)], self.now(bytes));
            let mut settlement = tokenweir_settlement { size: bytes.size::<tokenweir_settlement>(), ..cleared() };
            let place = bytes.place(&mut settlement);
            match bytes.byte() % 5 {
                0 => {
                    let (input, output) = (bytes.number(), bytes.number());
                    call!(bytes, tokenweir_passage_observe(passage, input, output, now, null_mut()));
                }
                4 => {
                    let ttl = bytes.number();
                    call!(bytes, tokenweir_passage_renew(passage, ttl, now));
                }
                1 => {
                    call!(bytes, tokenweir_passage_cancel(passage, now, place));
                }
                _ => {
                    let (model_served, model_served_length) = bytes.text(&NAMES);
                    let completion = tokenweir_completion {
                        size: bytes.size::<tokenweir_completion>(),
                        response_code: bytes.number() as u32,
                        usage: bytes.usage(),
                        reasoning: bytes.number(),
                        backend_ns: bytes.number(),
                        model_served,
                        model_served_length,
                        reserved: bytes.reserved(),
                        ..cleared()
                    };
                    let completion = bytes.pointer(&completion);
                    call!(bytes, tokenweir_passage_settle(passage, completion, now, place));
                }
            }
        }
    }
}
