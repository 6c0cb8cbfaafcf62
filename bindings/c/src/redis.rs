//! Limits on a Redis or Valkey server, which many processes and machines share.

use crate::border::{Failure, bytes, free, guarded, handle, input, permit, place, plain_struct, shared, text};
use crate::code::tokenweir_code;
use crate::decision::{Answer, guarded_end, tokenweir_decision, tokenweir_denial, tokenweir_settlement};
use crate::error::tokenweir_error;
use crate::json;
use crate::policy::tokenweir_policy;
use crate::text::{guarded_json, tokenweir_text};
use crate::values::{flag, tokenweir_estimate, tokenweir_request, tokenweir_usage};
use crate::view::{tokenweir_usage_filter, wanted};
use ::tokenweir_redis::{
    BlockingDecision, BlockingLimiter, BlockingPermit, Builder, By, Ended, Leases, OutageUse, RedisLimiter, Server,
    Standing, Stats, WhenAway,
};
use serde_json::{Value, json};
use std::ffi::c_char;
use std::time::Duration;
use tokenweir::PermitId;

/// A limiter whose counters are on a Redis or Valkey server, so that many processes and machines share its limits.
///
/// A decision is one call of one script on the server, for all limits of the request or none, by the server's clock; with leases
/// it is made in this process, as long as what was taken in advance lasts. No call waits longer than the deadline, and a server
/// that is away is a decision, too. Permits have ids for any process of the same server and prefix; those by a lease for this one.
///
/// Ownership: the caller's, until tokenweir_redis_free(). Threads: any number may use it at once; each waits for its own answer.
/// The limiter has one thread of its own, which a fork does not take along: connect in the process that uses it, where others
/// are REDIS_FORKED.
pub struct tokenweir_redis(BlockingLimiter);

/// What a request gets while the server does not answer.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_when_away {
    /// It is not admitted, with status 503: nobody could decide.
    TOKENWEIR_WHEN_AWAY_DENY = 0,
    /// It is admitted. What it takes is charged when the server is back; until then nothing bounds it.
    TOKENWEIR_WHEN_AWAY_ALLOW = 1,
    /// It is decided by this process's share of every limit (per_mille).
    TOKENWEIR_WHEN_AWAY_LOCAL_SHARE = 2,
}

/// Who decided on a request.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_decided_by {
    /// The server, over all limits in one step.
    TOKENWEIR_BY_SERVER = 0,
    /// This process, by what it has leased from the server of every limit of the request.
    TOKENWEIR_BY_LEASE = 1,
    /// No limit of the policy applies to the request.
    TOKENWEIR_BY_NO_LIMIT = 2,
    /// Nobody: the server is away, and the limiter denies then.
    TOKENWEIR_BY_OUTAGE_DENIED = 3,
    /// Nobody: the server is away, and the limiter allows then.
    TOKENWEIR_BY_OUTAGE_ALLOWED = 4,
    /// This process, by its share of every limit, because the server is away.
    TOKENWEIR_BY_LOCAL_SHARE = 5,
}

impl tokenweir_decided_by {
    fn of(by: By) -> u32 {
        let by = match by {
            By::Lease => tokenweir_decided_by::TOKENWEIR_BY_LEASE,
            By::NoLimit => tokenweir_decided_by::TOKENWEIR_BY_NO_LIMIT,
            By::OutageDenied => tokenweir_decided_by::TOKENWEIR_BY_OUTAGE_DENIED,
            By::OutageAllowed => tokenweir_decided_by::TOKENWEIR_BY_OUTAGE_ALLOWED,
            By::LocalShare => tokenweir_decided_by::TOKENWEIR_BY_LOCAL_SHARE,
            _ => tokenweir_decided_by::TOKENWEIR_BY_SERVER,
        };
        by as u32
    }
}

/// How a limiter on a server is to be; zero is the default for each field. See tokenweir_redis_options_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_redis_options {
    /// sizeof(tokenweir_redis_options).
    pub size: u32,
    /// A tokenweir_when_away.
    pub when_away: u32,
    /// With TOKENWEIR_WHEN_AWAY_LOCAL_SHARE: this process's share, in thousandths of every amount, 1 to 1000. Otherwise 0.
    pub per_mille: u32,
    /// 1: capacity is taken from the server in advance and spent in this process. 0: the server decides on every request.
    pub leases: u32,
    /// Nanoseconds that a call waits for the server at the longest, 1 ms to 1 minute; 0: 50 ms.
    pub deadline_ns: u64,
    /// Nanoseconds that a permit lives unless it is ended or renewed, 1 ms to 1 year; 0: 10 minutes.
    pub permit_ttl_ns: u64,
    /// Nanoseconds that a permit holds its places in flight unless it is renewed, 1 ms to 1 year, and at most as long as it lives;
    /// 0: as long as it lives. So the places of a process that was killed are free soon.
    pub place_ttl_ns: u64,
    /// Nanoseconds between two attempts to reach a server that is away, at the longest, 10 ms to 1 hour; 0: 2 seconds.
    pub back_off_ns: u64,
    /// With leases: nanoseconds that a lease may be spent, 10 ms to 1 minute; 0: 1 second.
    pub lease_life_ns: u64,
    /// With leases: a lease takes at most one part of so many of what its limit has left, 2 to 1000; 0: 8.
    pub lease_part: u32,
    /// Zero.
    pub reserved0: u32,
    /// What all keys begin with, 1 to 200 bytes of UTF-8 without braces; NULL: "tokenweir". Limiters with the same server, prefix
    /// and policy share their counters.
    pub prefix: *const c_char,
    /// Its bytes.
    pub prefix_length: usize,
    /// On a cluster, the part of every limit's scope by which counters are spread over slots, as policies write it: "project",
    /// "deployment", "key:user"; NULL: all keys are in one slot.
    pub slot_by: *const c_char,
    /// Its bytes.
    pub slot_by_length: usize,
    /// Over TLS, the certificate of the only authority to be trusted, PEM; NULL: those of Mozilla.
    pub trusting: *const c_char,
    /// Its bytes.
    pub trusting_length: usize,
    /// Over TLS, what is shown to a server that asks for a certificate, PEM; NULL: nothing.
    pub certificate: *const c_char,
    /// Its bytes.
    pub certificate_length: usize,
    /// The certificate's key, PEM.
    pub key: *const c_char,
    /// Its bytes.
    pub key_length: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_redis_options, reserved0 = 0, reserved = [0; 4]);

impl tokenweir_redis_options {
    /// # Safety
    /// Its texts are as long as is said.
    unsafe fn server(&self, server: Server) -> Result<Server, Failure> {
        // SAFETY: the caller's word.
        let (root, certificate, key) = unsafe {
            (
                bytes(self.trusting, self.trusting_length, "options.trusting")?,
                bytes(self.certificate, self.certificate_length, "options.certificate")?,
                bytes(self.key, self.key_length, "options.key")?,
            )
        };
        let server = if root.is_empty() { server } else { server.trusting(root)? };
        Ok(if certificate.is_empty() && key.is_empty() { server } else { server.shown_as(certificate, key)? })
    }

    /// # Safety
    /// Its texts are as long as is said.
    unsafe fn build(&self, builder: Builder) -> Result<Builder, Failure> {
        // SAFETY: the caller's word.
        let (prefix, slot_by) = unsafe {
            (
                text(self.prefix, self.prefix_length, "options.prefix")?,
                text(self.slot_by, self.slot_by_length, "options.slot_by")?,
            )
        };
        let set = |builder, given: u64, set: fn(Builder, Duration) -> Builder| match given {
            0 => builder,
            given => set(builder, Duration::from_nanos(given)),
        };
        let builder = set(builder, self.deadline_ns, Builder::deadline);
        let builder = set(builder, self.permit_ttl_ns, Builder::permit_ttl);
        let builder = set(builder, self.place_ttl_ns, Builder::place_ttl);
        let builder = set(builder, self.back_off_ns, Builder::back_off);
        let builder = if prefix.is_empty() { builder } else { builder.prefix(prefix) };
        let builder = match slot_by {
            "" => builder,
            part => builder.slot_by(part.parse().map_err(|wrong| Failure::Word { what: "options.slot_by", wrong })?),
        };
        if self.per_mille > 0 && self.when_away < 2 {
            let remedy = "it belongs to TOKENWEIR_WHEN_AWAY_LOCAL_SHARE; choose that for when_away, or leave it 0";
            return Err(Failure::Argument { what: "options.per_mille", given: self.per_mille.into(), remedy });
        }
        let builder = builder.when_away(match self.when_away {
            0 => WhenAway::Deny,
            1 => WhenAway::Allow,
            2 => WhenAway::LocalShare { per_mille: self.per_mille },
            given => {
                let remedy = "give a tokenweir_when_away";
                return Err(Failure::Argument { what: "options.when_away", given: given.into(), remedy });
            }
        });
        if self.leases > 1 {
            let remedy = "give 1 for leases, 0 for none";
            return Err(Failure::Argument { what: "options.leases", given: self.leases.into(), remedy });
        }
        if self.leases == 0 {
            let settings =
                [("options.lease_life_ns", self.lease_life_ns), ("options.lease_part", self.lease_part.into())];
            let remedy = "it belongs to leases; give 1 for leases as well, or leave it 0";
            return match settings.into_iter().find(|(_, given)| *given > 0) {
                Some((what, given)) => Err(Failure::Argument { what, given, remedy }),
                None => Ok(builder),
            };
        }
        let mut leases = Leases::new();
        if self.lease_life_ns > 0 {
            leases = leases.life(Duration::from_nanos(self.lease_life_ns));
        }
        if self.lease_part > 0 {
            leases = leases.part(self.lease_part);
        }
        Ok(builder.leases(leases))
    }
}

/// How the limits of a request stand on a server.
fn standings(standings: &[Standing]) -> Value {
    let standing =
        |one: &Standing| json!({ "limit": one.limit, "remaining": one.remaining, "charged_total": one.charged_total });
    json!({ "limits": standings.iter().map(standing).collect::<Vec<_>>() })
}

/// The figures of a limiter on a server.
fn figures(stats: &Stats) -> Value {
    let outage_use = |one: &OutageUse| json!({ "limit": one.limit, "requests": one.requests, "charged": one.charged, "owed": one.owed });
    json!({
        "up": stats.up,
        "why": stats.why,
        "outages": stats.outages,
        "recoveries": stats.recoveries,
        "late": stats.late,
        "denied_by_outage": stats.denied_by_outage,
        "leases": stats.leases,
        "untold": stats.untold,
        "given_up": stats.given_up,
        "without_server": stats.without_server.iter().map(outage_use).collect::<Vec<_>>(),
    })
}

/// Makes a limiter for the server at this address, of `length` bytes, and this policy. The first attempt to reach the server is
/// waited for, up to a second; if it fails, the limiter decides as for a server that is away, and goes on trying. `options` may be
/// NULL: every default.
///
/// Addresses: `redis://user:password@host:6379/0`, `rediss://` for TLS, `redis+unix:///path` for a socket,
/// `redis+cluster://host:6379,host:6380`, `redis+sentinel://host:26379,host:26380/master/0` (`rediss+` for TLS to the server;
/// what the sentinels ask for themselves: `?sentinel-user=U&sentinel-password=P&sentinel-tls=yes`); `valkey` may stand for `redis`.
///
/// Codes: REDIS_ADDRESS, REDIS_CERTIFICATE, REDIS_SETTING, REDIS_ACROSS_SLOTS, REDIS_RUNTIME, NULL_ARGUMENT, UTF8_INVALID,
/// STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_connect(
    server: *const c_char,
    length: usize,
    policy: *const tokenweir_policy,
    options: *const tokenweir_redis_options,
    redis: *mut *mut tokenweir_redis,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let redis = handle(redis, "redis")?;
            let (mut server, policy) = (Server::parse(text(server, length, "the server")?)?, shared(policy, "policy")?);
            let options = if options.is_null() { None } else { Some(input(options)?) };
            if let Some(options) = options {
                server = options.server(server)?;
            }
            let mut builder = RedisLimiter::builder(server, policy.0.clone());
            if let Some(options) = options {
                builder = options.build(builder)?;
            }
            redis.give(tokenweir_redis(builder.connect_blocking()?));
            Ok(())
        })
    }
}

/// Decides whether a request may pass, and if so holds its estimate on every limit it meets: on all or on none.
///
/// OK both ways: decision->admitted says which. An admitted request's permit has to be settled, cancelled or abandoned; one that is
/// not expires, and its estimate stands. Where nobody could decide, because the server is away, decision->status is 503, and no
/// limit is named. `by`, which may be NULL, is where the tokenweir_decided_by goes. `denial` may be NULL; otherwise a denied
/// request's full denial is put there, and NULL for one that was admitted, or on which nobody could decide.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, ESTIMATE_TOO_LARGE, REDIS_TOO_MANY_LIMITS, REDIS_REFUSED, REDIS_FORKED,
/// NULL_ARGUMENT, UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID. Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_admit(
    redis: *const tokenweir_redis,
    request: *const tokenweir_request,
    estimate: *const tokenweir_estimate,
    decision: *mut tokenweir_decision,
    by: *mut u32,
    denial: *mut *mut tokenweir_denial,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let answer = Answer::new(decision, denial)?;
            let by = if by.is_null() { None } else { Some(place(by, "by")?) };
            let redis = &shared(redis, "redis")?.0;
            let (request, estimate) = (input(request)?, input(estimate)?.into());
            let decided_by = match request.with(|request| redis.admit(request, estimate))? {
                BlockingDecision::Admitted(permit) => {
                    let by = permit.by();
                    answer.put_admitted(permit.into_id());
                    by
                }
                BlockingDecision::Denied { denied, by } => {
                    answer.put_denied(*denied);
                    by
                }
                BlockingDecision::Unavailable => {
                    answer.put_unavailable();
                    By::OutageDenied
                }
            };
            if let Some(by) = by {
                by.put(tokenweir_decided_by::of(decided_by));
            }
            Ok(())
        })
    }
}

/// A permit by its id, and the request where it is needed.
///
/// # Safety
/// `redis` is NULL or live; `request` is NULL or as [`input`] asks.
unsafe fn found(
    redis: *const tokenweir_redis,
    id: PermitId,
    request: *const tokenweir_request,
) -> Result<BlockingPermit, Failure> {
    // SAFETY: the caller's word.
    let redis = unsafe { &shared(redis, "redis")?.0 };
    if request.is_null() {
        return Ok(redis.permit(id)?);
    }
    // SAFETY: the caller's word.
    unsafe { input(request)?.with(|request| redis.permit_for(id, request)) }
}

/// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate, and beyond what leases have, is
/// charged at once; within it nobody is asked, where this process admitted the request. `request` is the permit's, and needed where
/// counters are spread over slots; otherwise it may be NULL. `spent` may be NULL; otherwise 1 is put there if a limit of the request had nothing left when
/// the server last said, so that a runaway stream may be cut short, and 0 if not. A permit is used by one thread at a time.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED,
/// NULL_ARGUMENT, and those of a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_observe(
    redis: *const tokenweir_redis,
    id: u64,
    request: *const tokenweir_request,
    input: u64,
    output: u64,
    spent: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let spent = if spent.is_null() { None } else { Some(place(spent, "spent")?) };
            let permit = found(redis, permit(id)?, request)?;
            let observed = permit.observe(input, output);
            // It lives on.
            permit.into_id();
            let observed = observed?;
            if let Some(spent) = spent {
                spent.put(flag(observed.spent));
            }
            Ok(())
        })
    }
}

/// Settles a permit with what the provider reported: what was held beyond it is given back, what was used beyond the estimate is
/// charged. Once: whoever comes second gets PERMIT_SETTLED. `request` as for tokenweir_redis_observe(). `settlement` may be NULL.
/// `told` may be NULL; otherwise 1 is put there if the server has it, and 0 if it is told as soon as it is back: if the permit has
/// expired by then, the estimate stands.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, STRUCT_SIZE,
/// RESERVED_NOT_ZERO, and those of a request; USAGE_INVALID, after which the permit has ended and its estimate stands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_settle(
    redis: *const tokenweir_redis,
    id: u64,
    request: *const tokenweir_request,
    usage: *const tokenweir_usage,
    settlement: *mut tokenweir_settlement,
    told: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_end(settlement, error, || {
            let usage = input(usage)?.into();
            ended(told, || Ok(found(redis, permit(id)?, request)?.settle(usage)?))
        })
    }
}

/// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a request.
/// `request`, `settlement` and `told` as for tokenweir_redis_settle().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, STRUCT_SIZE,
/// and those of a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_cancel(
    redis: *const tokenweir_redis,
    id: u64,
    request: *const tokenweir_request,
    settlement: *mut tokenweir_settlement,
    told: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded_end(settlement, error, || ended(told, || Ok(found(redis, permit(id)?, request)?.cancel()?))) }
}

/// # Safety
/// `told` is NULL or may be written.
unsafe fn ended(
    told: *mut u32,
    end: impl FnOnce() -> Result<Ended, Failure>,
) -> Result<tokenweir::Settlement, Failure> {
    // SAFETY: the caller's word.
    let told = if told.is_null() { None } else { Some(unsafe { place(told, "told")? }) };
    let ended = end()?;
    if let Some(told) = told {
        told.put(flag(ended.told));
    }
    Ok(ended.settlement)
}

/// Ends a permit without a word of usage: its estimate stands, and its in-flight places are free, both told to the server in the
/// background. `request` as for tokenweir_redis_observe().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, and those of
/// a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_abandon(
    redis: *const tokenweir_redis,
    id: u64,
    request: *const tokenweir_request,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            drop(found(redis, permit(id)?, request)?);
            Ok(())
        })
    }
}

/// Lets a permit live for `ttl_ns` nanoseconds from now on, for streams longer than the options' permit_ttl_ns, and hold its places
/// in flight, for those longer than place_ttl_ns. `request` as for tokenweir_redis_observe().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, and those of
/// a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_renew(
    redis: *const tokenweir_redis,
    id: u64,
    request: *const tokenweir_request,
    ttl_ns: u64,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let permit = found(redis, permit(id)?, request)?;
            let renewed = permit.renew(Duration::from_nanos(ttl_ns));
            permit.into_id();
            Ok(renewed?)
        })
    }
}

/// What each enforced limit has left for this request, as of now, in JSON: under `limits` for each its name, `remaining` (below 0
/// is debt), and `charged_total`, what its counter was charged in all since it was last at rest for long (null for in-flight
/// limits). Nothing is taken.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, REDIS_TOO_MANY_LIMITS, REDIS_AWAY, REDIS_REFUSED, REDIS_FORKED,
/// NULL_ARGUMENT, UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_remaining(
    redis: *const tokenweir_redis,
    request: *const tokenweir_request,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (redis, request) = (&shared(redis, "redis")?.0, input(request)?);
            Ok(standings(&request.with(|request| redis.remaining(request))?))
        })
    }
}

/// The counters on the server of all limits of the policy, in JSON as of tokenweir_limiter_usage(), by limit and scope: one that
/// nobody has charged yet, or that has been as good as new for long, is not there. `held` is 0, since the server has no sum of it,
/// and `settled_total` is what was charged in all, the estimates of open permits included. `filter` may be NULL: all. It goes
/// through all keys of the server (SCAN), a thousand at a time, each step within the deadline: for consoles, not for the path of a
/// request.
///
/// Codes: REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS where counters are spread over slots, REDIS_FORKED, NULL_ARGUMENT,
/// UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_usage(
    redis: *const tokenweir_redis,
    filter: *const tokenweir_usage_filter,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded_json(json, error, || {
            let (redis, filter) = (&shared(redis, "redis")?.0, wanted(filter)?);
            let mut counters = redis.usage()?;
            counters.retain(|counter| filter.matches(counter));
            Ok(json::usage(&counters))
        })
    }
}

/// Puts another policy in force in this process, for the next decision; give every process the same. Consumption is kept where a
/// limit's name and scope are; open permits settle against the counters they charged.
///
/// Codes: REDIS_ACROSS_SLOTS, after which the old policy stays; REDIS_FORKED, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_set_policy(
    redis: *const tokenweir_redis,
    policy: *const tokenweir_policy,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (redis, policy) = (&shared(redis, "redis")?.0, shared(policy, "policy")?);
            Ok(redis.set_policy(policy.0.clone())?)
        })
    }
}

/// The limiter's own figures, in JSON: `up`, whether the server is thought to be there, and `why` it is not (null while it is),
/// such as a refused connection or a wrong password; `outages` and `recoveries`, how often it was found to be away and reached again; `late`, calls without an answer within the deadline; `denied_by_outage`; `leases` taken;
/// `untold` and `given_up`, ends of permits that the server is still to be told, and never will; and under `without_server` for each
/// limit how many requests were admitted without the server, what they were charged, and of this what the server is still owed.
///
/// Codes: REDIS_FORKED, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_stats(
    redis: *const tokenweir_redis,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded_json(json, error, || Ok(figures(&shared(redis, "redis")?.0.stats()?))) }
}

/// Gives back what is leased, and waits until the server has been told of every permit that has ended, `patience_ns` nanoseconds at
/// the most: at a clean end. `told` may be NULL; otherwise 0 is put there if something is left untold, whose estimates stand
/// then, and 1 if not.
///
/// Codes: REDIS_FORKED, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_flush(
    redis: *const tokenweir_redis,
    patience_ns: u64,
    told: *mut u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let all = shared(redis, "redis")?.0.flush(Duration::from_nanos(patience_ns))?;
            if !told.is_null() {
                place(told, "told")?.put(flag(all));
            }
            Ok(())
        })
    }
}

/// Frees a limiter. NULL is fine. What the server has not been told by then it is not told: flush before. In a process that was
/// forked it does nothing but free the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_redis_free(redis: *mut tokenweir_redis) {
    // SAFETY: NULL or a limiter of ours that nobody uses any more, as the header asks.
    unsafe { free(redis) }
}
