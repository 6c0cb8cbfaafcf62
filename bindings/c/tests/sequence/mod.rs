//! Any bytes as a sequence of calls of the C interface with hostile arguments: a code each time, never a panic, and
//! nothing left open at the end. For the test beside and for the fuzzer.

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};
use tokenweir_capi::*;

const OK: tokenweir_code = tokenweir_code::TOKENWEIR_OK;

const POLICIES: [&[u8]; 6] = [
    b"[[limit]]\nname = 'quota'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1_000\nperiod = 'hourly'\nscope = ['project']\n\
      [[limit]]\nname = 'bucket'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 500\nper = '1s'\n",
    b"[[limit]]\nname = 'bucket'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 700\nper = '1s'\n\
      [[limit]]\nname = 'window'\nmeter = 'output'\nalgorithm = 'window'\namount = 400\nper = '1m'\nscope = ['key:user']\n",
    b"[[limit]]\nname = 'places'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3\n\
      [[limit]]\nname = 'must'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 9\nperiod = 'never'\nscope = ['key:user']\n\
      require = true\n[[limit]]\nname = 'cost'\nmeter = 'cost'\nalgorithm = 'quota'\namount = 9\nperiod = 'never'\n\
      [[price]]\ndeployment = 'd'\ninput = 7\noutput = 9\n",
    b"{\"limit\": [{\"name\": \"q\", \"meter\": \"total\", \"algorithm\": \"quota\", \"amount\": 9, \"period\": \"never\"}]}",
    b"limit = 1",
    b"\xff\xfe",
];

const NAMES: [&[u8]; 6] = [b"p", b"d", b"\xff\0", b"user", b"", b"project"];

/// What is left of the bytes; 0 without end behind them.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::from(self.byte()) % most.max(1)
    }

    fn rarely(&mut self) -> bool {
        self.byte().is_multiple_of(64)
    }

    fn number(&mut self) -> u64 {
        match self.byte() % 16 {
            0 => u64::MAX,
            1 => 1 << 53,
            2 => (1 << 53) + 1,
            3 => u64::from(self.byte()) << 32,
            _ => self.byte().into(),
        }
    }

    /// A pointer to the value, or NULL now and then.
    fn pointer<T>(&mut self, value: &T) -> *const T {
        if self.rarely() { null() } else { value }
    }

    fn place<T>(&mut self, value: &mut T) -> *mut T {
        if self.rarely() { null_mut() } else { value }
    }

    /// Any size, mostly the right one.
    fn size<T>(&mut self) -> u32 {
        if self.rarely() { u32::from(self.byte()) } else { size_of::<T>() as u32 }
    }

    fn reserved(&mut self) -> [u64; 4] {
        if self.rarely() { [0, 1, 0, 0] } else { [0; 4] }
    }

    /// A pointer and a length.
    fn text(&mut self, of: &[&[u8]]) -> (*const c_char, usize) {
        let text = of[self.below(of.len())];
        match self.byte() % 32 {
            0 => (null(), text.len()),
            1 => (text.as_ptr().cast(), 0),
            // Longer than any memory: nobody reads that.
            2 => (text.as_ptr().cast(), usize::MAX - self.below(9)),
            _ => (text.as_ptr().cast(), text.len()),
        }
    }

    fn keys(&mut self) -> Vec<tokenweir_key> {
        let count = self.below(16).saturating_sub(12);
        let key = |_| {
            let ((name, name_length), (value, value_length)) = (self.text(&NAMES), self.text(&NAMES));
            tokenweir_key { name, name_length, value, value_length }
        };
        (0..count).map(key).collect()
    }

    /// How many there are, or are said to be.
    fn count(&mut self, there: usize) -> usize {
        if self.rarely() { usize::MAX - self.below(9) } else { there }
    }

    fn request(&mut self, keys: &[tokenweir_key]) -> tokenweir_request {
        let ((project, project_length), (deployment, deployment_length)) =
            (self.text(&NAMES[..3]), self.text(&NAMES[1..3]));
        tokenweir_request {
            size: self.size::<tokenweir_request>(),
            reserved0: 0,
            project,
            project_length,
            deployment,
            deployment_length,
            keys: if self.rarely() { null() } else { keys.as_ptr() },
            key_count: self.count(keys.len()),
            reserved: self.reserved(),
        }
    }

    fn estimate(&mut self) -> tokenweir_estimate {
        let (size, reserved) = (self.size::<tokenweir_estimate>(), self.reserved());
        tokenweir_estimate { size, reserved0: 0, input: self.number(), output: self.number(), reserved }
    }

    fn usage(&mut self) -> tokenweir_usage {
        let (size, reserved) = (self.size::<tokenweir_usage>(), self.reserved());
        let (input, cached_input, output) = (self.number(), self.number(), self.number());
        tokenweir_usage { size, reserved0: 0, input, cached_input, output, reserved }
    }
}

/// A plain struct as C clears it, with a size that is right or not.
fn cleared<T: Copy>() -> T {
    // SAFETY: only called for the plain structs of the header, of which any bits are a value.
    unsafe { std::mem::zeroed() }
}

/// What the calls have made, and NULL where they have made nothing.
struct Made {
    clocks: [*mut tokenweir_clock; 3],
    rings: [*mut tokenweir_ring; 2],
    policies: [*mut tokenweir_policy; 3],
    limiters: [*mut tokenweir_limiter; 2],
    routes: [*mut tokenweir_route; 4],
    wire: Wire,
    gateway: Gateway,
    /// Of any limiter, open or not.
    permits: Vec<u64>,
    now: tokenweir_now,
}

/// A call has come back: not from a panic, and with an error where one was asked for.
fn came_back(code: tokenweir_code, error: *mut tokenweir_error, asked: bool) -> tokenweir_code {
    // SAFETY: the error is the call's, or NULL.
    unsafe {
        let message = CStr::from_ptr(tokenweir_error_message(error)).to_bytes();
        assert_ne!(code, tokenweir_code::TOKENWEIR_PANIC, "{}", String::from_utf8_lossy(message));
        assert_eq!(!error.is_null(), asked && code != OK);
        if !error.is_null() {
            assert_eq!(tokenweir_error_code(error), code);
            assert!(!message.is_empty());
        }
        tokenweir_error_free(error);
    }
    code
}

/// Calls with a place for the error, or without.
macro_rules! call {
    ($bytes:ident, $function:ident($($argument:expr),*)) => {{
        let mut error = null_mut();
        let asked = !$bytes.rarely();
        let place: *mut *mut tokenweir_error = if asked { &mut error } else { null_mut() };
        let code = $function($($argument,)* place);
        came_back(code, error, asked)
    }};
}

// Behind the macro that they call by.
mod gateway;
mod wire;
use gateway::Gateway;
use wire::Wire;

impl Made {
    fn permit(&self, bytes: &mut Bytes<'_>) -> u64 {
        match bytes.byte() % 32 {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(bytes.byte()),
            _ => match self.permits.len() {
                0 => 1,
                many => self.permits[bytes.below(many)] ^ if bytes.rarely() { 1 << bytes.below(64) } else { 0 },
            },
        }
    }

    fn now(&mut self, bytes: &mut Bytes<'_>) -> *const tokenweir_now {
        match bytes.byte() % 16 {
            0 => return null(),
            1 => {
                self.now = tokenweir_now {
                    mono: bytes.number().wrapping_mul(1 << 11),
                    wall: bytes.number().wrapping_mul(1 << 11) as i64,
                };
            }
            2..8 => {
                let step = u64::from(bytes.byte()) << 22;
                self.now = tokenweir_now {
                    mono: self.now.mono.saturating_add(step),
                    wall: self.now.wall.saturating_add(step as i64),
                };
            }
            _ => {}
        }
        &self.now
    }

    /// # Safety
    /// `text` is a text of the library or NULL.
    unsafe fn read(text: *mut tokenweir_text) {
        // SAFETY: the caller's word.
        unsafe {
            let chars = CStr::from_ptr(tokenweir_text_chars(text)).to_bytes();
            assert_eq!(chars.len(), tokenweir_text_length(text));
            assert_eq!(text.is_null(), chars.is_empty());
            assert!(std::str::from_utf8(chars).is_ok());
            tokenweir_text_free(text);
        }
    }

    /// Makes something anew in a place that is then freed of what was there.
    ///
    /// # Safety
    /// What was there is the library's or NULL, and `free` its function.
    unsafe fn replace<T>(place: &mut *mut T, with: *mut T, free: unsafe extern "C" fn(*mut T)) {
        // SAFETY: the caller's word.
        unsafe { free(std::mem::replace(place, with)) }
    }

    /// # Safety
    /// All handles are the library's or NULL, which this keeps up.
    unsafe fn make(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: handles are the caller's word; everything else points to locals, or is NULL and refused.
        unsafe {
            match bytes.byte() % 8 {
                0 => {
                    let (at, now) = (bytes.below(3), self.now(bytes));
                    let mut clock = null_mut();
                    match bytes.byte() % 3 {
                        0 => call!(bytes, tokenweir_clock_new_system(bytes.place(&mut clock))),
                        1 => call!(bytes, tokenweir_clock_new_coarse(bytes.place(&mut clock))),
                        _ => call!(bytes, tokenweir_clock_new_manual(now, bytes.place(&mut clock))),
                    };
                    Self::replace(&mut self.clocks[at], clock, tokenweir_clock_free);
                }
                1 => {
                    let mut ring = null_mut();
                    let capacity = bytes.number() as usize;
                    // What is allowed is taken at once; a fuzzer would rather have little.
                    let capacity = if capacity > 1 << 12 { usize::MAX } else { capacity };
                    let code = call!(bytes, tokenweir_ring_new(capacity, bytes.place(&mut ring)));
                    assert!(code == OK || ring.is_null());
                    let at = bytes.below(2);
                    Self::replace(&mut self.rings[at], ring, tokenweir_ring_free);
                }
                2 | 3 => {
                    let mut policy = null_mut();
                    let (source, length) = bytes.text(&POLICIES);
                    let code = match bytes.byte() % 4 {
                        0 => call!(bytes, tokenweir_policy_from_json(source, length, bytes.place(&mut policy))),
                        _ => call!(bytes, tokenweir_policy_from_toml(source, length, bytes.place(&mut policy))),
                    };
                    assert_eq!(code == OK, !policy.is_null());
                    let at = bytes.below(3);
                    Self::replace(&mut self.policies[at], policy, tokenweir_policy_free);
                }
                4 | 5 => {
                    let mut limiter = null_mut();
                    let [_, reserved @ .., _, _] = bytes.reserved();
                    let options = tokenweir_options {
                        size: bytes.size::<tokenweir_options>(),
                        when_full: bytes.byte().into(),
                        clock: self.clocks[bytes.below(3)],
                        ring: self.rings[bytes.below(2)],
                        max_counters: (bytes.number() % 1000),
                        max_routes: (bytes.number() % 1000),
                        max_permits: (bytes.number() % 100),
                        permit_ttl_ns: bytes.number() << 20,
                        max_histories: (bytes.number() % 10),
                        // `tests/store.c` has that, and `tests/region.c`.
                        store: null(),
                        region: null(),
                        policy_of_region: 0,
                        reserved: reserved.map(|word| word as u32),
                    };
                    let options = tokenweir_options { when_full: options.when_full % 3, ..options };
                    let policy = self.policies[bytes.below(3)];
                    let code =
                        call!(bytes, tokenweir_limiter_new(policy, bytes.pointer(&options), bytes.place(&mut limiter)));
                    assert_eq!(code == OK, !limiter.is_null());
                    let at = bytes.below(2);
                    Self::replace(&mut self.limiters[at], limiter, tokenweir_limiter_free);
                }
                _ => {
                    let keys = bytes.keys();
                    let request = bytes.request(&keys);
                    let mut route = null_mut();
                    let (limiter, now) = (self.limiters[bytes.below(2)], self.now(bytes));
                    let code = call!(
                        bytes,
                        tokenweir_limiter_route(limiter, bytes.pointer(&request), now, bytes.place(&mut route))
                    );
                    assert_eq!(code == OK, !route.is_null());
                    let at = bytes.below(4);
                    Self::replace(&mut self.routes[at], route, tokenweir_route_free);
                }
            }
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn admit(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let keys = bytes.keys();
            let (request, estimate) = (bytes.request(&keys), bytes.estimate());
            let mut decision =
                tokenweir_decision { size: bytes.size::<tokenweir_decision>(), admitted: 7, ..cleared() };
            let mut denial = null_mut();
            let now = self.now(bytes);
            let code = if bytes.byte().is_multiple_of(2) {
                let route = self.routes[bytes.below(4)];
                call!(
                    bytes,
                    tokenweir_route_admit(
                        route,
                        bytes.pointer(&estimate),
                        now,
                        bytes.place(&mut decision),
                        bytes.place(&mut denial)
                    )
                )
            } else {
                let limiter = self.limiters[bytes.below(2)];
                call!(
                    bytes,
                    tokenweir_limiter_admit(
                        limiter,
                        bytes.pointer(&request),
                        bytes.pointer(&estimate),
                        now,
                        bytes.place(&mut decision),
                        bytes.place(&mut denial)
                    )
                )
            };
            if code == OK {
                assert!(decision.admitted <= 1);
                assert_eq!(decision.admitted == 1, decision.permit != 0);
                assert!(decision.admitted == 0 || denial.is_null());
                assert_eq!(decision.refusals == 0, decision.admitted == 1);
                if decision.permit != 0 {
                    self.permits.push(decision.permit);
                }
            } else {
                assert_eq!(decision.admitted, 7, "what fails writes nothing");
                assert!(denial.is_null());
            }
            let mut text = null_mut();
            call!(bytes, tokenweir_denial_json(denial, bytes.place(&mut text)));
            Self::read(text);
            if !denial.is_null() || bytes.rarely() {
                self.refuse(bytes, denial);
            }
            tokenweir_denial_free(denial);
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn end(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let (id, usage) = (self.permit(bytes), bytes.usage());
            let (limiter, route) = (self.limiters[bytes.below(2)], self.routes[bytes.below(4)]);
            let mut settlement = tokenweir_settlement { size: bytes.size::<tokenweir_settlement>(), ..cleared() };
            let now = self.now(bytes);
            let what = bytes.byte() % 8;
            let (usage, place) = (bytes.pointer(&usage), bytes.place(&mut settlement));
            match what {
                0 => call!(bytes, tokenweir_limiter_settle(limiter, id, usage, now, place)),
                1 => call!(bytes, tokenweir_route_settle(route, id, usage, now, place)),
                2 => call!(bytes, tokenweir_limiter_cancel(limiter, id, now, place)),
                3 => call!(bytes, tokenweir_route_cancel(route, id, now, place)),
                4 => call!(bytes, tokenweir_limiter_abandon(limiter, id, now, place)),
                5 => call!(bytes, tokenweir_limiter_renew(limiter, id, bytes.number(), now)),
                _ => {
                    let mut spent = 7;
                    let (input, output) = (bytes.number(), bytes.number());
                    let place = bytes.place(&mut spent);
                    let code = call!(bytes, tokenweir_limiter_observe(limiter, id, input, output, now, place));
                    assert!(spent <= 1 || code != OK || place.is_null());
                    code
                }
            };
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn look(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let keys = bytes.keys();
            let (request, estimate) = (bytes.request(&keys), bytes.estimate());
            let (limiter, policy) = (self.limiters[bytes.below(2)], self.policies[bytes.below(3)]);
            let (id, now) = (self.permit(bytes), self.now(bytes));
            let mut text = null_mut();
            let what = bytes.byte() % 12;
            let (request, estimate) = (bytes.pointer(&request), bytes.pointer(&estimate));
            let place = bytes.place(&mut text);
            match what {
                0 | 1 => call!(bytes, tokenweir_limiter_peek(limiter, request, estimate, now, place)),
                2 => call!(bytes, tokenweir_limiter_explain(limiter, request, estimate, now, place)),
                3 | 4 => {
                    let (limit, limit_length) = bytes.text(&NAMES);
                    let filter = tokenweir_usage_filter {
                        size: bytes.size::<tokenweir_usage_filter>(),
                        reserved0: 0,
                        limit,
                        limit_length,
                        scope: keys.as_ptr(),
                        scope_count: bytes.count(keys.len()),
                        reserved: bytes.reserved(),
                    };
                    call!(bytes, tokenweir_limiter_usage(limiter, bytes.pointer(&filter), now, place))
                }
                5 => call!(bytes, tokenweir_limiter_permit(limiter, id, now, place)),
                6 => call!(bytes, tokenweir_policy_json(policy, place)),
                7 => call!(bytes, tokenweir_limiter_swap_policy(limiter, policy, now)),
                8 => call!(bytes, tokenweir_limiter_sweep(limiter, now)),
                9 => {
                    let mut stats = tokenweir_stats { size: bytes.size::<tokenweir_stats>(), ..cleared() };
                    call!(bytes, tokenweir_limiter_stats(limiter, bytes.place(&mut stats)))
                }
                10 => {
                    let mut policy = null_mut();
                    let code = call!(bytes, tokenweir_limiter_policy(limiter, bytes.place(&mut policy)));
                    assert_eq!(code == OK, !policy.is_null());
                    let at = bytes.below(3);
                    Self::replace(&mut self.policies[at], policy, tokenweir_policy_free);
                    code
                }
                _ => {
                    let mut shown = tokenweir_now { mono: 0, wall: 0 };
                    call!(bytes, tokenweir_limiter_now(limiter, bytes.place(&mut shown)))
                }
            };
            Self::read(text);
        }
    }

    /// # Safety
    /// As for `make`.
    unsafe fn clocks_and_records(&mut self, bytes: &mut Bytes<'_>) {
        // SAFETY: as for `make`.
        unsafe {
            let (clock, ring, now) = (self.clocks[bytes.below(3)], self.rings[bytes.below(2)], self.now(bytes));
            match bytes.byte() % 6 {
                0 => call!(bytes, tokenweir_clock_tick(clock)),
                1 => call!(bytes, tokenweir_clock_set(clock, now)),
                2 => call!(bytes, tokenweir_clock_advance(clock, bytes.number())),
                3 => {
                    let mut lost = 0;
                    call!(bytes, tokenweir_ring_lost(ring, bytes.place(&mut lost)))
                }
                _ => {
                    let (mut record, mut text) = (null_mut(), null_mut());
                    let code = call!(bytes, tokenweir_ring_poll(ring, bytes.place(&mut record)));
                    assert!(code == OK || record.is_null());
                    call!(bytes, tokenweir_record_json(record, bytes.place(&mut text)));
                    Self::read(text);
                    let mut view = tokenweir_record_view { size: bytes.size::<tokenweir_record_view>(), ..cleared() };
                    if call!(bytes, tokenweir_record_read(record, bytes.place(&mut view))) == OK && view.kind != 0 {
                        let name = std::slice::from_raw_parts(view.project.cast::<u8>(), view.project_length);
                        assert!(NAMES.contains(&name), "{name:?}");
                    }
                    tokenweir_record_free(record);
                    code
                }
            };
        }
    }

    /// Whatever has been called, each limiter's permits can be ended, and then nothing is held.
    ///
    /// # Safety
    /// As for `make`.
    unsafe fn finish(mut self) {
        // SAFETY: as for `make`.
        unsafe {
            for limiter in self.limiters.into_iter().filter(|limiter| !limiter.is_null()) {
                for permit in &self.permits {
                    tokenweir_limiter_cancel(limiter, *permit, &self.now, null_mut(), null_mut());
                }
                let mut stats =
                    tokenweir_stats { size: size_of::<tokenweir_stats>() as u32, permits_open: 7, ..cleared() };
                assert_eq!(tokenweir_limiter_stats(limiter, &mut stats, null_mut()), OK);
                assert_eq!(stats.permits_open, 0);
            }
            // In an order in which what others were made of goes first.
            self.clocks.iter_mut().for_each(|clock| tokenweir_clock_free(*clock));
            self.rings.iter_mut().for_each(|ring| tokenweir_ring_free(*ring));
            self.policies.iter_mut().for_each(|policy| tokenweir_policy_free(*policy));
            self.limiters.iter_mut().for_each(|limiter| tokenweir_limiter_free(*limiter));
            self.routes.iter_mut().for_each(|route| tokenweir_route_free(*route));
            self.wire.finish();
            self.gateway.finish();
        }
    }
}

/// Makes the calls that the bytes say. How many requests were admitted.
pub fn run(bytes: &[u8]) -> usize {
    let mut bytes = Bytes(bytes);
    let mut made = Made {
        clocks: [null_mut(); 3],
        rings: [null_mut(); 2],
        policies: [null_mut(); 3],
        limiters: [null_mut(); 2],
        routes: [null_mut(); 4],
        wire: Wire::new(),
        gateway: Gateway::new(),
        permits: Vec::new(),
        now: tokenweir_now { mono: 0, wall: 0 },
    };
    // SAFETY: all handles are NULL at first, and each of these keeps them the library's.
    unsafe {
        // Something to begin with: most calls need it.
        let source = POLICIES[bytes.below(3)];
        let mut error = null_mut();
        let code = tokenweir_policy_from_toml(source.as_ptr().cast(), source.len(), &mut made.policies[0], &mut error);
        assert_eq!(came_back(code, error, true), OK);
        assert_eq!(tokenweir_clock_new_manual(null(), &mut made.clocks[0], null_mut()), OK);
        assert_eq!(tokenweir_ring_new(8, &mut made.rings[0], null_mut()), OK);
        let mut options: tokenweir_options = cleared();
        options.size = size_of::<tokenweir_options>() as u32;
        (options.clock, options.ring, options.max_permits) = (made.clocks[0], made.rings[0], 20);
        (options.max_counters, options.max_routes) = (50, 50);
        assert_eq!(tokenweir_limiter_new(made.policies[0], &options, &mut made.limiters[0], null_mut()), OK);
        assert_eq!(tokenweir_limiter_new(made.policies[0], &options, &mut made.limiters[1], null_mut()), OK);
        while !bytes.0.is_empty() {
            match bytes.byte() % 16 {
                0 | 1 => made.make(&mut bytes),
                2..7 => made.admit(&mut bytes),
                7..12 => made.end(&mut bytes),
                12 | 13 => made.look(&mut bytes),
                14 => made.clocks_and_records(&mut bytes),
                _ if bytes.byte().is_multiple_of(2) => made.wire(&mut bytes),
                _ => made.gateway(&mut bytes),
            }
        }
        let admitted = made.permits.len();
        made.finish();
        admitted
    }
}
