/*
 * tokenweir on Redis and Valkey: limits that many processes and machines share.
 *
 * What tokenweir.h says of results, handles, threads, text and structs holds here. The library has these functions if it was
 * installed with them (bindings/c/install --with-redis), and then this header is beside the other.
 *
 * This file is made from the library's sources; see bindings/c.
 */
#ifndef TOKENWEIR_REDIS_H
#define TOKENWEIR_REDIS_H

#include <tokenweir.h>


#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// What a request gets while the server does not answer.
enum tokenweir_when_away
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// It is not admitted, with status 503: nobody could decide.
  TOKENWEIR_WHEN_AWAY_DENY = 0,
  /// It is admitted. What it takes is charged when the server is back; until then nothing bounds it.
  TOKENWEIR_WHEN_AWAY_ALLOW = 1,
  /// It is decided by this process's share of every limit (per_mille).
  TOKENWEIR_WHEN_AWAY_LOCAL_SHARE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_when_away tokenweir_when_away;
#else
typedef uint32_t tokenweir_when_away;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// Who decided on a request.
enum tokenweir_decided_by
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
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
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_decided_by tokenweir_decided_by;
#else
typedef uint32_t tokenweir_decided_by;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// A limiter whose counters are on a Redis or Valkey server, so that many processes and machines share its limits.
///
/// A decision is one call of one script on the server, for all limits of the request or none, by the server's clock; with leases
/// it is made in this process, as long as what was taken in advance lasts. No call waits longer than the deadline, and a server
/// that is away is a decision, too. Permits have ids for any process of the same server and prefix; those by a lease for this one.
///
/// Ownership: the caller's, until tokenweir_redis_free(). Threads: any number may use it at once; each waits for its own answer.
/// The limiter has one thread of its own, which a fork does not take along: connect in the process that uses it, where others
/// are REDIS_FORKED.
typedef struct tokenweir_redis tokenweir_redis;

/// How a limiter on a server is to be; zero is the default for each field. See tokenweir_redis_options_init().
typedef struct {
  /// sizeof(tokenweir_redis_options).
  uint32_t size;
  /// A tokenweir_when_away.
  uint32_t when_away;
  /// With TOKENWEIR_WHEN_AWAY_LOCAL_SHARE: this process's share, in thousandths of every amount, 1 to 1000. Otherwise 0.
  uint32_t per_mille;
  /// 1: capacity is taken from the server in advance and spent in this process. 0: the server decides on every request.
  uint32_t leases;
  /// Nanoseconds that a call waits for the server at the longest, 1 ms to 1 minute; 0: 50 ms.
  uint64_t deadline_ns;
  /// Nanoseconds that a permit lives unless it is ended or renewed, 1 ms to 1 year; 0: 10 minutes.
  uint64_t permit_ttl_ns;
  /// Nanoseconds that a permit holds its places in flight unless it is renewed, 1 ms to 1 year, and at most as long as it lives;
  /// 0: as long as it lives. So the places of a process that was killed are free soon.
  uint64_t place_ttl_ns;
  /// Nanoseconds between two attempts to reach a server that is away, at the longest, 10 ms to 1 hour; 0: 2 seconds.
  uint64_t back_off_ns;
  /// With leases: nanoseconds that a lease may be spent, 10 ms to 1 minute; 0: 1 second.
  uint64_t lease_life_ns;
  /// With leases: a lease takes at most one part of so many of what its limit has left, 2 to 1000; 0: 8.
  uint32_t lease_part;
  /// Zero.
  uint32_t reserved0;
  /// What all keys begin with, 1 to 200 bytes of UTF-8 without braces; NULL: "tokenweir". Limiters with the same server, prefix
  /// and policy share their counters.
  const char *prefix;
  /// Its bytes.
  size_t prefix_length;
  /// On a cluster, the part of every limit's scope by which counters are spread over slots, as policies write it: "project",
  /// "deployment", "key:user"; NULL: all keys are in one slot.
  const char *slot_by;
  /// Its bytes.
  size_t slot_by_length;
  /// Over TLS, the certificate of the only authority to be trusted, PEM; NULL: those of Mozilla.
  const char *trusting;
  /// Its bytes.
  size_t trusting_length;
  /// Over TLS, what is shown to a server that asks for a certificate, PEM; NULL: nothing.
  const char *certificate;
  /// Its bytes.
  size_t certificate_length;
  /// The certificate's key, PEM.
  const char *key;
  /// Its bytes.
  size_t key_length;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_redis_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

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
tokenweir_code tokenweir_redis_connect(const char *server,
                                       size_t length,
                                       const tokenweir_policy *policy,
                                       const tokenweir_redis_options *options,
                                       tokenweir_redis **redis,
                                       tokenweir_error **error);

/// Decides whether a request may pass, and if so holds its estimate on every limit it meets: on all or on none.
///
/// OK both ways: decision->admitted says which. An admitted request's permit has to be settled, cancelled or abandoned; one that is
/// not expires, and its estimate stands. Where nobody could decide, because the server is away, decision->status is 503, and no
/// limit is named. `by`, which may be NULL, is where the tokenweir_decided_by goes. `denial` may be NULL; otherwise a denied
/// request's full denial is put there, and NULL for one that was admitted, or on which nobody could decide.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, ESTIMATE_TOO_LARGE, REDIS_TOO_MANY_LIMITS, REDIS_REFUSED, REDIS_FORKED,
/// NULL_ARGUMENT, UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID. Nothing has changed then.
tokenweir_code tokenweir_redis_admit(const tokenweir_redis *redis,
                                     const tokenweir_request *request,
                                     const tokenweir_estimate *estimate,
                                     tokenweir_decision *decision,
                                     uint32_t *by,
                                     tokenweir_denial **denial,
                                     tokenweir_error **error);

/// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate, and beyond what leases have, is
/// charged at once; within it nobody is asked, where this process admitted the request. `request` is the permit's, and needed where
/// counters are spread over slots; otherwise it may be NULL. `spent` may be NULL; otherwise 1 is put there if a limit of the request had nothing left when
/// the server last said, so that a runaway stream may be cut short, and 0 if not. A permit is used by one thread at a time.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED,
/// NULL_ARGUMENT, and those of a request.
tokenweir_code tokenweir_redis_observe(const tokenweir_redis *redis,
                                       uint64_t id,
                                       const tokenweir_request *request,
                                       uint64_t input,
                                       uint64_t output,
                                       uint32_t *spent,
                                       tokenweir_error **error);

/// Settles a permit with what the provider reported: what was held beyond it is given back, what was used beyond the estimate is
/// charged. Once: whoever comes second gets PERMIT_SETTLED. `request` as for tokenweir_redis_observe(). `settlement` may be NULL.
/// `told` may be NULL; otherwise 1 is put there if the server has it, and 0 if it is told as soon as it is back: if the permit has
/// expired by then, the estimate stands.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, STRUCT_SIZE,
/// RESERVED_NOT_ZERO, and those of a request; USAGE_INVALID, after which the permit has ended and its estimate stands.
tokenweir_code tokenweir_redis_settle(const tokenweir_redis *redis,
                                      uint64_t id,
                                      const tokenweir_request *request,
                                      const tokenweir_usage *usage,
                                      tokenweir_settlement *settlement,
                                      uint32_t *told,
                                      tokenweir_error **error);

/// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a request.
/// `request`, `settlement` and `told` as for tokenweir_redis_settle().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, STRUCT_SIZE,
/// and those of a request.
tokenweir_code tokenweir_redis_cancel(const tokenweir_redis *redis,
                                      uint64_t id,
                                      const tokenweir_request *request,
                                      tokenweir_settlement *settlement,
                                      uint32_t *told,
                                      tokenweir_error **error);

/// Ends a permit without a word of usage: its estimate stands, and its in-flight places are free, both told to the server in the
/// background. `request` as for tokenweir_redis_observe().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, and those of
/// a request.
tokenweir_code tokenweir_redis_abandon(const tokenweir_redis *redis,
                                       uint64_t id,
                                       const tokenweir_request *request,
                                       tokenweir_error **error);

/// Lets a permit live for `ttl_ns` nanoseconds from now on, for streams longer than the options' permit_ttl_ns, and hold its places
/// in flight, for those longer than place_ttl_ns. `request` as for tokenweir_redis_observe().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS, REDIS_FORKED, NULL_ARGUMENT, and those of
/// a request.
tokenweir_code tokenweir_redis_renew(const tokenweir_redis *redis,
                                     uint64_t id,
                                     const tokenweir_request *request,
                                     uint64_t ttl_ns,
                                     tokenweir_error **error);

/// What each enforced limit has left for this request, as of now, in JSON: under `limits` for each its name, `remaining` (below 0
/// is debt), and `charged_total`, what its counter was charged in all since it was last at rest for long (null for in-flight
/// limits). Nothing is taken.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, REDIS_TOO_MANY_LIMITS, REDIS_AWAY, REDIS_REFUSED, REDIS_FORKED,
/// NULL_ARGUMENT, UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
tokenweir_code tokenweir_redis_remaining(const tokenweir_redis *redis,
                                         const tokenweir_request *request,
                                         tokenweir_text **json,
                                         tokenweir_error **error);

/// The counters on the server of all limits of the policy, in JSON as of tokenweir_limiter_usage(), by limit and scope: one that
/// nobody has charged yet, or that has been as good as new for long, is not there. `held` is 0, since the server has no sum of it,
/// and `settled_total` is what was charged in all, the estimates of open permits included. `filter` may be NULL: all. It goes
/// through all keys of the server (SCAN), a thousand at a time, each step within the deadline: for consoles, not for the path of a
/// request.
///
/// Codes: REDIS_AWAY, REDIS_REFUSED, REDIS_ACROSS_SLOTS where counters are spread over slots, REDIS_FORKED, NULL_ARGUMENT,
/// UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
tokenweir_code tokenweir_redis_usage(const tokenweir_redis *redis,
                                     const tokenweir_usage_filter *filter,
                                     tokenweir_text **json,
                                     tokenweir_error **error);

/// Puts another policy in force in this process, for the next decision; give every process the same. Consumption is kept where a
/// limit's name and scope are; open permits settle against the counters they charged.
///
/// Codes: REDIS_ACROSS_SLOTS, after which the old policy stays; REDIS_FORKED, NULL_ARGUMENT.
tokenweir_code tokenweir_redis_set_policy(const tokenweir_redis *redis,
                                          const tokenweir_policy *policy,
                                          tokenweir_error **error);

/// The limiter's own figures, in JSON: `up`, whether the server is thought to be there, and `why` it is not (null while it is),
/// such as a refused connection or a wrong password; `outages` and `recoveries`, how often it was found to be away and reached again; `late`, calls without an answer within the deadline; `denied_by_outage`; `leases` taken;
/// `untold` and `given_up`, ends of permits that the server is still to be told, and never will; and under `without_server` for each
/// limit how many requests were admitted without the server, what they were charged, and of this what the server is still owed.
///
/// Codes: REDIS_FORKED, NULL_ARGUMENT.
tokenweir_code tokenweir_redis_stats(const tokenweir_redis *redis,
                                     tokenweir_text **json,
                                     tokenweir_error **error);

/// Gives back what is leased, and waits until the server has been told of every permit that has ended, `patience_ns` nanoseconds at
/// the most: at a clean end. `told` may be NULL; otherwise 0 is put there if something is left untold, whose estimates stand
/// then, and 1 if not.
///
/// Codes: REDIS_FORKED, NULL_ARGUMENT.
tokenweir_code tokenweir_redis_flush(const tokenweir_redis *redis,
                                     uint64_t patience_ns,
                                     uint32_t *told,
                                     tokenweir_error **error);

/// Frees a limiter. NULL is fine. What the server has not been told by then it is not told: flush before. In a process that was
/// forked it does nothing but free the handle.
void tokenweir_redis_free(tokenweir_redis *redis);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/// A limiter on a server as it is by default.
static inline tokenweir_redis_options tokenweir_redis_options_init(void)
{
    tokenweir_redis_options options;
    memset(&options, 0, sizeof options);
    options.size = (uint32_t)sizeof options;
    return options;
}

#endif /* TOKENWEIR_REDIS_H */
