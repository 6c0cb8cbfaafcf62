//! Making a limiter, and what is done to it as a whole.

use crate::border::{Failure, free, guarded, handle, input, place, plain_struct, shared, text};
use crate::clock::tokenweir_clock;
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::json;
use crate::policy::tokenweir_policy;
use crate::region::tokenweir_shared_region;
use crate::ring::tokenweir_ring;
use crate::store::tokenweir_store_options;
use crate::text::{guarded_json, tokenweir_text};
use crate::values::tokenweir_now;
use std::ffi::c_char;
use std::time::Duration;
use tokenweir::{Limiter, Snapshot, WhenFull};
use tokenweir_redb::Renewer;

/// Decides which requests may pass, holds their tokens and settles them.
///
/// Ownership: the caller's, until tokenweir_limiter_free(); its routes keep it going until they are freed, too.
/// Threads: any number may use it at once; admitting, observing and settling take no lock.
pub struct tokenweir_limiter(
    pub(crate) Limiter,
    // Dropped with it: that gives the leases back.
    #[allow(dead_code)] Option<Renewer>,
);

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
    /// The most buckets that may keep a history at once, 12 KiB each; 0: 5,000. Further ones give back less of what was
    /// estimated and not used, the less the longer a call lasted; see tokenweir_stats.
    pub max_histories: u64,
    /// Where the use of quotas is kept so that it outlives the process; NULL: nowhere. It is read during the call.
    pub store: *const tokenweir_store_options,
    /// What the limiter shares with those of other processes; NULL: nothing. Its time is the host's, so `clock` is NULL
    /// then, and so is `store`; how many counters, permits and histories there may be is the region's layout's to say.
    pub region: *const tokenweir_shared_region,
    /// Where the region counts for another policy already: 0: that is REGION_FAILED; 1: the limiter takes that one.
    pub policy_of_region: u32,
    /// Zero.
    pub reserved: [u32; 1],
}

plain_struct!(tokenweir_options, reserved = [0; 1]);

impl tokenweir_options {
    /// # Safety
    /// Its clock, ring, store and region are NULL or live.
    unsafe fn build(&self, policy: &tokenweir_policy) -> Result<tokenweir_limiter, Failure> {
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
        let (clock, ring, region) = unsafe { (self.clock.as_ref(), self.ring.as_ref(), self.region.as_ref()) };
        if region.is_some() && clock.is_some() {
            return Err(Failure::WithRegion("options.clock"));
        }
        if region.is_some() && !self.store.is_null() {
            return Err(tokenweir::Error::from(tokenweir::region::RegionError::WithStore).into());
        }
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
        if self.max_histories > 0 {
            builder = builder.max_histories(most(self.max_histories));
        }
        if self.permit_ttl_ns > 0 {
            builder = builder.permit_ttl(Duration::from_nanos(self.permit_ttl_ns));
        }
        builder = match self.policy_of_region {
            0 => builder,
            1 => builder.policy_of_region(true),
            given => {
                let remedy = "give 0 or 1";
                return Err(Failure::Argument { what: "options.policy_of_region", given: given.into(), remedy });
            }
        };
        if let Some(region) = region {
            return Ok(tokenweir_limiter(region.build(builder)?, None));
        }
        if self.store.is_null() {
            return Ok(tokenweir_limiter(builder.build(), None));
        }
        // SAFETY: the caller's word.
        let (limiter, renewer) = unsafe { input(self.store)?.build(builder)? };
        Ok(tokenweir_limiter(limiter, Some(renewer)))
    }
}

/// Makes a limiter that decides by `policy`. `options` may be NULL: every default.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID; with a store also UTF8_INVALID, STORE_NAME_IN_USE,
/// QUOTA_FILE_IN_USE, and STORE_FAILED if there can be no thread to renew leases; on a region also REGION_FAILED if it counts
/// for another policy, or there is a store as well, REGION_CROWDED, REGION_DAMAGED if its file was replaced, REGION_IO.
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
            limiter.give(match options.is_null() {
                true => tokenweir_limiter(Limiter::new(policy.0.clone()), None),
                false => input(options)?.build(policy)?,
            });
            Ok(())
        })
    }
}

/// Frees a limiter. NULL is fine. Its open permits end with it; routes that were made from it keep it going. One with a
/// store gives its leases back, which waits for the disk: after that the file has exactly what is used. What its routes
/// are charged later is leased anew and not given back, so free them first.
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
/// On a shared region it is in force for all its limiters, each of which goes by it from its next call on; a permit is settled
/// by the policy that it was admitted under, in whichever process. If it is in force already nothing happens, so that all
/// workers may be told of a new file. REGION_FAILED, with nothing changed: the policy or one of its counters is too large for
/// the region, permits are open that were admitted under seven other policies, another process has been changing the policy
/// for five seconds, or this one was forked off.
///
/// Codes: NULL_ARGUMENT, REGION_FAILED.
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
                Some(now) => limiter.0.swap_policy_at(policy.0.clone(), now)?,
                None => limiter.0.swap_policy(policy.0.clone())?,
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

/// The counters as a JSON document, to be taken up by the limiter of another process with tokenweir_limiter_restore():
/// after an upgrade, or on the host's next start. What open permits hold counts as spent; what is admitted later is not in
/// it. Traffic goes on meanwhile. Takes time in proportion to the number of live counters and open permits.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_snapshot(
    limiter: *const tokenweir_limiter,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let limiter = &shared(limiter, "limiter")?.0;
            let snapshot = limiter.snapshot_at(tokenweir_now::read(now).unwrap_or_else(|| limiter.now()));
            serde_json::to_string(&snapshot).map_err(Failure::Snapshot)
        })
    }
}

/// Takes up the counters of another limiter, before the first request: what a counter has already stays, and what is
/// restored comes on top. A counter is the same if its limit has the same name, scope, meter, algorithm and period; it never
/// allows more than the one that was saved. In JSON: under `counters` how many were taken up, under `left_out` those that
/// begin anew, by limit: limit, counters and reason ("no_such_limit", "changed", "kept" by a store, "shared" in a region,
/// "no_room"). Give the limiter a clock made
/// with tokenweir_clock_new_system_with_past().
///
/// Codes: SNAPSHOT_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_restore(
    limiter: *const tokenweir_limiter,
    snapshot: *const c_char,
    length: usize,
    now: *const tokenweir_now,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (limiter, source) = (&shared(limiter, "limiter")?.0, text(snapshot, length, "the snapshot")?);
            let snapshot: Snapshot = serde_json::from_str(source).map_err(Failure::Snapshot)?;
            let now = tokenweir_now::read(now).unwrap_or_else(|| limiter.now());
            Ok(json::restored(&limiter.restore_at(&snapshot, now)))
        })
    }
}
