//! The limiter.

use crate::border::{Failure, Place, free, guarded, handle, input, output, permit, place, plain_struct, shared, text};
use crate::clock::tokenweir_clock;
use crate::code::tokenweir_code;
use crate::decision::{Answer, Settled, tokenweir_decision, tokenweir_denial, tokenweir_settlement};
use crate::error::tokenweir_error;
use crate::json;
use crate::policy::tokenweir_policy;
use crate::ring::tokenweir_ring;
use crate::route::tokenweir_route;
use crate::text::tokenweir_text;
use crate::values::{flag, keys, tokenweir_estimate, tokenweir_key, tokenweir_now, tokenweir_request, tokenweir_usage};
use serde_json::{Value, json};
use std::ffi::c_char;
use std::time::Duration;
use tokenweir::{Limiter, UsageFilter, WhenFull};

/// Decides which requests may pass, holds their tokens and settles them.
///
/// Ownership: the caller's, until tokenweir_limiter_free(); its routes keep it going until they are freed, too.
/// Threads: any number may use it at once; admitting, observing and settling take no lock.
pub struct tokenweir_limiter(Limiter);

/// What a new key gets when every counter is in use.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_when_full {
    /// Requests that would need a new counter are denied.
    TOKENWEIR_WHEN_FULL_DENY = 0,
    /// They pass, as far as that limit is concerned, uncounted.
    TOKENWEIR_WHEN_FULL_ADMIT = 1,
}

/// How a limiter is to be made; zero is the default for each field. See tokenweir_options_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_options {
    /// sizeof(tokenweir_options).
    pub size: u32,
    /// A tokenweir_when_full.
    pub when_full: u32,
    /// Where the time comes from; NULL: the system's clocks. Buckets count their refill from what it shows when the
    /// limiter is made.
    pub clock: *const tokenweir_clock,
    /// Where decisions and settlements are kept for polling; NULL: nowhere.
    pub ring: *const tokenweir_ring,
    /// The most counters that may live at once; 0: 100,000.
    pub max_counters: u64,
    /// The most routes that are kept resolved; 0: as many as counters, or 65,536 if that is more; at most 2^24.
    pub max_routes: u64,
    /// The most permits that may be open at once; 0: 2^20; at most 2^24.
    pub max_permits: u64,
    /// Nanoseconds that a permit lives unless it is settled or renewed; 0: 10 minutes.
    pub permit_ttl_ns: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_options, reserved = [0; 4]);

/// Which counters to view; NULL or zero matches all. See tokenweir_usage_filter_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_usage_filter {
    /// sizeof(tokenweir_usage_filter).
    pub size: u32,
    /// Zero.
    pub reserved0: u32,
    /// Only counters of the limit of this name, in UTF-8; NULL: of all limits.
    pub limit: *const c_char,
    /// In bytes.
    pub limit_length: usize,
    /// Only counters whose scope has these values; names as policies write them: "project", "deployment", "key:user".
    pub scope: *const tokenweir_key,
    /// How many there are.
    pub scope_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_usage_filter, reserved0 = 0, reserved = [0; 4]);

/// The limiter's own figures. The call fills it; set size before. See tokenweir_stats_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_stats {
    /// sizeof(tokenweir_stats).
    pub size: u32,
    /// Not used.
    pub reserved0: u32,
    /// Live counters.
    pub counters: u64,
    /// How many there may be.
    pub max_counters: u64,
    /// Counters evicted, at rest, since the limiter was made.
    pub evicted: u64,
    /// Requests denied because there was no room for a counter.
    pub refused_full: u64,
    /// Limits passed over because there was no room for a counter.
    pub admitted_full: u64,
    /// Routes that are resolved.
    pub routes: u64,
    /// Open permits.
    pub permits_open: u64,
    /// Not used.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_stats);

impl tokenweir_options {
    /// # Safety
    /// Its clock and ring are NULL or live.
    unsafe fn build(&self, policy: &tokenweir_policy) -> Result<Limiter, Failure> {
        let mut builder = Limiter::builder(policy.0.clone());
        builder = match self.when_full {
            0 => builder.when_full(WhenFull::Deny),
            1 => builder.when_full(WhenFull::Admit),
            given => {
                let remedy = "give a tokenweir_when_full";
                return Err(Failure::Argument { what: "options.when_full", given: given.into(), remedy });
            }
        };
        // SAFETY: the caller's word.
        let (clock, ring) = unsafe { (self.clock.as_ref(), self.ring.as_ref()) };
        if let Some(clock) = clock {
            builder = clock.drive(builder);
        }
        if let Some(ring) = ring {
            builder = builder.observer(ring.0.clone());
        }
        let most = |given: u64| usize::try_from(given).unwrap_or(usize::MAX);
        if self.max_counters > 0 {
            builder = builder.max_counters(most(self.max_counters));
        }
        if self.max_routes > 0 {
            builder = builder.max_routes(most(self.max_routes));
        }
        if self.max_permits > 0 {
            builder = builder.max_permits(most(self.max_permits));
        }
        if self.permit_ttl_ns > 0 {
            builder = builder.permit_ttl(Duration::from_nanos(self.permit_ttl_ns));
        }
        Ok(builder.build())
    }
}

/// Makes a limiter that decides by `policy`. `options` may be NULL: every default.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_new(
    policy: *const tokenweir_policy,
    options: *const tokenweir_options,
    limiter: *mut *mut tokenweir_limiter,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (limiter, policy) = (handle(limiter, "limiter")?, shared(policy, "policy")?);
            limiter.give(tokenweir_limiter(match options.is_null() {
                true => Limiter::new(policy.0.clone()),
                false => input(options)?.build(policy)?,
            }));
            Ok(())
        })
    }
}

/// Frees a limiter. NULL is fine. Its open permits end with it; routes that were made from it keep it going.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_free(limiter: *mut tokenweir_limiter) {
    // SAFETY: NULL or a limiter of ours that nobody uses any more, as the header asks.
    unsafe { free(limiter) }
}

/// What the limiter's clock shows.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_now(
    limiter: *const tokenweir_limiter,
    now: *mut tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (now, limiter) = (place(now, "now")?, shared(limiter, "limiter")?);
            now.put(limiter.0.now().into());
            Ok(())
        })
    }
}

/// Decides whether a request may pass, and if so holds its estimate on every limit it meets: on all or on none.
///
/// OK both ways: decision->admitted says which. An admitted request's permit has to be settled, cancelled or abandoned;
/// one that is not expires, and its estimate stands. `denial` may be NULL; otherwise a denied request's full denial is
/// put there, and NULL for an admitted one. Nothing is allocated for an admission where these limits were met before by
/// the same caller, up to 8 caller keys.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, ESTIMATE_TOO_LARGE, PERMITS_EXHAUSTED, TABLE_FULL, NULL_ARGUMENT,
/// UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_admit(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    now: *const tokenweir_now,
    decision: *mut tokenweir_decision,
    denial: *mut *mut tokenweir_denial,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let answer = Answer::new(decision, denial)?;
            let limiter = &shared(limiter, "limiter")?.0;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            let now = tokenweir_now::read(now);
            request.with(|request| {
                answer.put(match now {
                    Some(now) => limiter.admit_at(request, estimate, now),
                    None => limiter.admit(request, estimate),
                })
            })
        })
    }
}

/// Looks up who calls what, once, for reuse.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, TABLE_FULL, NULL_ARGUMENT, UTF8_INVALID (the name of a key),
/// STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_route(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    now: *const tokenweir_now,
    route: *mut *mut tokenweir_route,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let route = handle(route, "route")?;
            let (limiter, request) = (&shared(limiter, "limiter")?.0, input(request)?);
            route.give(tokenweir_route(match tokenweir_now::read(now) {
                Some(now) => request.with(|request| limiter.route_at(request, now))?,
                None => request.with(|request| limiter.route(request))?,
            }));
            Ok(())
        })
    }
}

/// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate is charged at once.
/// `spent` may be NULL; otherwise 1 is put there if a limit of the request has nothing left, so that a runaway stream may
/// be cut short, and 0 if not.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_observe(
    limiter: *const tokenweir_limiter,
    id: u64,
    input: u64,
    output: u64,
    now: *const tokenweir_now,
    spent: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let spent = if spent.is_null() { None } else { Some(place(spent, "spent")?) };
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            let observed = match tokenweir_now::read(now) {
                Some(now) => limiter.observe_at(id, input, output, now)?,
                None => limiter.observe(id, input, output)?,
            };
            if let Some(spent) = spent {
                spent.put(flag(observed.spent));
            }
            Ok(())
        })
    }
}

/// Settles a permit with what the provider reported: what was held beyond it is given back, what was used beyond the
/// estimate is charged. Once: whoever comes second gets PERMIT_SETTLED. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO. Nothing has
/// changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_settle(
    limiter: *const tokenweir_limiter,
    id: u64,
    usage: *const tokenweir_usage,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let settled = Settled::new(settlement)?;
            let (limiter, id, usage) = (&shared(limiter, "limiter")?.0, permit(id)?, input(usage)?.into());
            settled.put(match tokenweir_now::read(now) {
                Some(now) => limiter.settle_at(id, usage, now)?,
                None => limiter.settle(id, usage)?,
            });
            Ok(())
        })
    }
}

/// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
/// request. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, STRUCT_SIZE. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_cancel(
    limiter: *const tokenweir_limiter,
    id: u64,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let settled = Settled::new(settlement)?;
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            settled.put(match tokenweir_now::read(now) {
                Some(now) => limiter.cancel_at(id, now)?,
                None => limiter.cancel(id)?,
            });
            Ok(())
        })
    }
}

/// Ends a permit without a word of usage: the estimate stands. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, STRUCT_SIZE. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_abandon(
    limiter: *const tokenweir_limiter,
    id: u64,
    now: *const tokenweir_now,
    settlement: *mut tokenweir_settlement,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let settled = Settled::new(settlement)?;
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            settled.put(match tokenweir_now::read(now) {
                Some(now) => limiter.abandon_at(id, now)?,
                None => limiter.abandon(id)?,
            });
            Ok(())
        })
    }
}

/// Lets a permit live for `ttl_ns` nanoseconds from now on, for streams longer than the options' permit_ttl_ns.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_renew(
    limiter: *const tokenweir_limiter,
    id: u64,
    ttl_ns: u64,
    now: *const tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (limiter, id, ttl) = (&shared(limiter, "limiter")?.0, permit(id)?, Duration::from_nanos(ttl_ns));
            match tokenweir_now::read(now) {
                Some(now) => limiter.renew_at(id, ttl, now)?,
                None => limiter.renew(id, ttl)?,
            }
            Ok(())
        })
    }
}

/// An open permit in JSON: under `remaining` what each enforced limit of its request has left now, by name; under
/// `shadow_refused` the shadow limits that would have refused it; and `spent`, as tokenweir_limiter_observe() has it.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_permit(
    limiter: *const tokenweir_limiter,
    id: u64,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let json = handle(json, "json")?;
            let (limiter, id) = (&shared(limiter, "limiter")?.0, permit(id)?);
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            // Observing nothing changes nothing, and says whether the permit is open.
            let spent = limiter.observe_at(id, 0, 0, now)?.spent;
            let remaining = json::remaining(limiter.remaining_at(id, now));
            let shadow_refused = limiter.shadow_refused(id);
            give(
                json,
                &json!({
                    "permit": id.get(),
                    "spent": spent,
                    "remaining": remaining,
                    "shadow_refused": shadow_refused,
                }),
            );
            Ok(())
        })
    }
}

fn give(json: Place<'_, *mut tokenweir_text>, value: &Value) {
    json.give(tokenweir_text::new(&value.to_string()));
}

/// What would come of a request now, in JSON, without taking anything: `admitted`, `denied` (null, or a denial as
/// tokenweir_denial_json() has it), and under `limits` what each limit of the request says: limit, mode, charge, amount,
/// remaining, fits, never_fits and wait_ns (0 if it fits, null if no waiting helps).
///
/// Codes: as tokenweir_limiter_route().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_peek(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let json = handle(json, "json")?;
            let limiter = &shared(limiter, "limiter")?.0;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            give(json, &json::peek(&request.with(|request| limiter.peek_at(request, estimate, now))?));
            Ok(())
        })
    }
}

/// Every limit of the policy, in JSON: under `applied` those that the request meets, each as in tokenweir_limiter_peek()
/// with its `scope`, the counter's values; under `skipped` the others, each with the reason. Walks the whole policy.
///
/// Codes: as tokenweir_limiter_route().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_explain(
    limiter: *const tokenweir_limiter,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let json = handle(json, "json")?;
            let limiter = &shared(limiter, "limiter")?.0;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            give(json, &json::explanation(&request.with(|request| limiter.explain_at(request, estimate, now))?));
            Ok(())
        })
    }
}

impl tokenweir_usage_filter {
    /// # Safety
    /// Its pointers are NULL or can be read for their lengths, and nobody writes there during the call.
    unsafe fn read(&self) -> Result<UsageFilter, Failure> {
        // SAFETY: the caller's word.
        let (limit, scope) =
            unsafe { (text(self.limit, self.limit_length, "filter.limit")?, keys(self.scope, self.scope_count)?) };
        Ok(UsageFilter {
            limit: (!limit.is_empty()).then(|| limit.to_owned()),
            scope: scope.iter().map(|part| (part.name.to_owned(), part.value.to_owned())).collect(),
        })
    }
}

/// The counters, in JSON, by limit and key: under `counters` each with limit, meter, scope (part to value; {"hex": ...}
/// if it is not UTF-8), amount, used, held, remaining (below 0 is debt), resets_at (null, or mono and wall in
/// nanoseconds) and settled_total. `filter` may be NULL: all. Walks all counters and open permits: for consoles, not for
/// the path of a request.
///
/// Codes: NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_usage(
    limiter: *const tokenweir_limiter,
    filter: *const tokenweir_usage_filter,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let json = handle(json, "json")?;
            let limiter = &shared(limiter, "limiter")?.0;
            let filter = if filter.is_null() { UsageFilter::default() } else { input(filter)?.read()? };
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            give(json, &json::usage(&limiter.usage_at(&filter, now)));
            Ok(())
        })
    }
}

/// The limiter's own figures. Walks the open permits.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_stats(
    limiter: *const tokenweir_limiter,
    stats: *mut tokenweir_stats,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (stats, limiter) = (output(stats)?, shared(limiter, "limiter")?);
            let now = limiter.0.stats();
            stats.write(tokenweir_stats {
                size: size_of::<tokenweir_stats>() as u32,
                reserved0: 0,
                counters: now.counters as u64,
                max_counters: now.max_counters as u64,
                evicted: now.evicted,
                refused_full: now.refused_full,
                admitted_full: now.admitted_full,
                routes: now.routes as u64,
                permits_open: now.permits_open as u64,
                reserved: [0; 4],
            });
            Ok(())
        })
    }
}

/// The policy in force, to be freed by the caller.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_policy(
    limiter: *const tokenweir_limiter,
    policy: *mut *mut tokenweir_policy,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (policy, limiter) = (handle(policy, "policy")?, shared(limiter, "limiter")?);
            policy.give(tokenweir_policy(limiter.0.policy()));
            Ok(())
        })
    }
}

/// Puts another policy in force: it applies to the next decision. Consumption is kept where a limit's name and scope
/// are; open permits settle against the counters they charged. Traffic goes on meanwhile. Takes time in proportion to
/// the number of live counters.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_swap_policy(
    limiter: *const tokenweir_limiter,
    policy: *const tokenweir_policy,
    now: *const tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (limiter, policy) = (shared(limiter, "limiter")?, shared(policy, "policy")?);
            match tokenweir_now::read(now) {
                Some(now) => limiter.0.swap_policy_at(policy.0.clone(), now),
                None => limiter.0.swap_policy(policy.0.clone()),
            }
            Ok(())
        })
    }
}

/// Ends permits whose time is over and evicts counters at rest that nobody holds. This happens by itself when room is
/// needed; a host may call it when it is idle.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_sweep(
    limiter: *const tokenweir_limiter,
    now: *const tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let limiter = shared(limiter, "limiter")?;
            match tokenweir_now::read(now) {
                Some(now) => limiter.0.sweep_at(now),
                None => limiter.0.sweep(),
            }
            Ok(())
        })
    }
}
