/*
 * tokenweir: the token meter and gate that LLM gateways embed.
 *
 * It decides whether a request to a model may pass, holds its estimated tokens, settles them against what the model
 * really used, and answers for every token afterwards.
 *
 * Results. Every call that can fail returns a tokenweir_code, 0 for OK, and says more in an error object if it is given
 * a place for one. A denied request is a result: OK, with admitted 0 in the decision. What a call was to produce is NULL,
 * or as it was before, if it fails; it has then changed nothing.
 *
 * Handles (tokenweir_limiter and its like) are made by the library, belong to the caller and are freed by their own free
 * function, once, when no call uses them any more, in any order. NULL is refused by every call and ignored by every free.
 *
 * Threads. A pointer to const may be used from any number of threads at once; that is every argument but the places for
 * results. Nothing is kept by thread: a permit may be settled on another thread than the one it was admitted on.
 *
 * Text goes in as pointer and length, without a NUL; a pointer of length 0 may be NULL. Names of projects, deployments
 * and values of keys are any bytes. Text that comes out is UTF-8; the bodies of requests and responses stay as they are, to
 * the byte.
 *
 * Structs are the caller's own memory: a call reads or fills them and keeps no pointer to them. They begin with their
 * size, which the caller sets, and end with room for what may come; the functions at the end of this header prepare
 * them. Amounts are tokens (or what a limit's meter counts), times are nanoseconds.
 *
 * Panics do not leave the library: TOKENWEIR_PANIC. No signal is handled. The only threads are one for each limiter that keeps
 * its quotas in a file and renews its leases in the background, and one for each on a server (tokenweir_redis.h). Without such a file the only ones that are read are those
 * of the system's time zones, when a policy names one; it is then kept for the life of the process.
 *
 * This file is made from the library's sources; see bindings/c.
 */
#ifndef TOKENWEIR_H
#define TOKENWEIR_H


#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// The release that this header came with.
#define TOKENWEIR_VERSION "0.1.0"
#define TOKENWEIR_VERSION_MAJOR 0
#define TOKENWEIR_VERSION_MINOR 1
#define TOKENWEIR_VERSION_PATCH 0


/// The number of this header's interface. It grows when a program that was compiled with an older header could no
/// longer run with the library. The library says its own with tokenweir_abi_version().
#define TOKENWEIR_ABI_VERSION 1

/// Absent: a usage that the provider did not report, a wait that has no end.
#define TOKENWEIR_ABSENT UINT64_MAX

/// How much a tokenweir_usage_chunk_filter holds back at most, in bytes: what its calls put out is at most that much more
/// than they were given.
#define TOKENWEIR_MOST_HELD 4096

/// What a call came to. 0 is OK; that a request is denied is a result, not an error, so it is OK, too.
///
/// Codes are stable and never used again for something else; those below 1000, and those of quota files, shared regions and servers,
/// are the same in every language. A later
/// library may return codes that this header does not have: treat them as errors.
enum tokenweir_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// Done.
  TOKENWEIR_OK = 0,
  /// The policy is not valid; the message has a line for each problem.
  TOKENWEIR_POLICY_INVALID = 1,
  /// The project, the deployment or a caller key that the policy names is empty.
  TOKENWEIR_EMPTY_KEY = 10,
  /// A limit requires a caller key that the request lacks.
  TOKENWEIR_KEY_MISSING = 11,
  /// A limit counts cost and no price fits the deployment.
  TOKENWEIR_NO_PRICE = 12,
  /// The request gives the same caller key twice.
  TOKENWEIR_KEY_TWICE = 13,
  /// An estimate is above 2^53 tokens.
  TOKENWEIR_ESTIMATE_TOO_LARGE = 14,
  /// The reported usage cannot be.
  TOKENWEIR_USAGE_INVALID = 20,
  /// The permit was settled, cancelled or abandoned before, or it expired.
  TOKENWEIR_PERMIT_SETTLED = 21,
  /// This limiter never issued the permit.
  TOKENWEIR_PERMIT_UNKNOWN = 22,
  /// There are as many open permits as the limiter was made for.
  TOKENWEIR_PERMITS_EXHAUSTED = 30,
  /// A route cannot be held: the table of counters or routes is full of entries in use.
  TOKENWEIR_TABLE_FULL = 31,
  /// The store that keeps quotas failed.
  TOKENWEIR_STORE_FAILED = 40,
  /// The limiter is on a shared region, and that cannot do what was asked: this process was forked off the one that made the
  /// limiter, the region counts for another policy or cannot change it now, or something is larger than it has room for.
  TOKENWEIR_REGION_FAILED = 41,
  /// A pointer that must not be NULL is NULL.
  TOKENWEIR_NULL_ARGUMENT = 1000,
  /// A text is not UTF-8.
  TOKENWEIR_UTF8_INVALID = 1001,
  /// A struct's size field is not the size that this library knows.
  TOKENWEIR_STRUCT_SIZE = 1002,
  /// A reserved field of a struct is not zero.
  TOKENWEIR_RESERVED_NOT_ZERO = 1003,
  /// Another argument is out of its range.
  TOKENWEIR_ARGUMENT_INVALID = 1004,
  /// The clock is of another kind: only a coarse one ticks, only a manual one is set.
  TOKENWEIR_CLOCK_KIND = 1005,
  /// The text is no snapshot, or one of another version.
  TOKENWEIR_SNAPSHOT_INVALID = 1006,
  /// The body of a request is not one JSON object.
  TOKENWEIR_BODY_INVALID = 1007,
  /// The options of a console cannot be taken.
  TOKENWEIR_OPTIONS_INVALID = 1008,
  /// The console has no resource of this name.
  TOKENWEIR_RESOURCE_UNKNOWN = 1009,
  /// Another process has the quota file open, or this one has; or this one was forked from the one that opened it.
  TOKENWEIR_QUOTA_FILE_IN_USE = 1010,
  /// The quota file is damaged, or none. It is as it was.
  TOKENWEIR_QUOTA_FILE_DAMAGED = 1011,
  /// A release of another format has written the quota file. It is as it was.
  TOKENWEIR_QUOTA_FILE_VERSION = 1012,
  /// The operating system refused to open, read or write a quota file.
  TOKENWEIR_QUOTA_FILE_IO = 1013,
  /// Another limiter keeps its quotas in this file under this name.
  TOKENWEIR_STORE_NAME_IN_USE = 1014,
  /// The head of a response comes before its pieces, and once.
  TOKENWEIR_CALL_ORDER = 1015,
  /// The operating system refused to make, open, map or lock a shared region; or it has none.
  TOKENWEIR_REGION_IO = 1020,
  /// The file is no shared region, or a damaged one. It is as it was.
  TOKENWEIR_REGION_DAMAGED = 1021,
  /// A release of another format has made the shared region. It is as it was.
  TOKENWEIR_REGION_VERSION = 1022,
  /// The shared region was made with another layout.
  TOKENWEIR_REGION_LAYOUT = 1023,
  /// Others may use the shared region's file, or it is somebody else's.
  TOKENWEIR_REGION_NOT_PRIVATE = 1024,
  /// The shared region is from before the machine was restarted.
  TOKENWEIR_REGION_RESTARTED = 1025,
  /// As many limiters are on the shared region as there may be.
  TOKENWEIR_REGION_CROWDED = 1026,
  /// The address of a server is none.
  TOKENWEIR_REDIS_ADDRESS = 1030,
  /// A certificate for a server cannot be used.
  TOKENWEIR_REDIS_CERTIFICATE = 1031,
  /// A setting of a limiter on a server is out of its range.
  TOKENWEIR_REDIS_SETTING = 1032,
  /// Counters are to be spread over slots by a part that a limit's scope does not have; or a permit is asked for without its request
  /// where they are.
  TOKENWEIR_REDIS_ACROSS_SLOTS = 1033,
  /// A request meets more limits than one script decides on.
  TOKENWEIR_REDIS_TOO_MANY_LIMITS = 1034,
  /// The server answered, and not with a decision: it does not permit what is needed, or something else is under a key.
  TOKENWEIR_REDIS_REFUSED = 1035,
  /// Only the server can answer this, and it cannot be asked: it is away or late, or lets nobody in with this password.
  TOKENWEIR_REDIS_AWAY = 1036,
  /// The thread of a limiter on a server cannot be started.
  TOKENWEIR_REDIS_RUNTIME = 1037,
  /// This process was forked from the one that made the limiter on a server, whose thread it lacks.
  TOKENWEIR_REDIS_FORKED = 1038,
  /// The library panicked, which is a fault of its own. The limiter goes on.
  TOKENWEIR_PANIC = 1099,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_code tokenweir_code;
#else
typedef int32_t tokenweir_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// How a permit ended.
enum tokenweir_outcome
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// It has not, or there was none.
  TOKENWEIR_OUTCOME_NONE = 0,
  /// With the provider's usage, or without any: see estimated.
  TOKENWEIR_OUTCOME_SETTLED = 1,
  /// The request never reached the provider.
  TOKENWEIR_OUTCOME_CANCELLED = 2,
  /// Abandoned without a word of usage: the estimate stands.
  TOKENWEIR_OUTCOME_DROPPED = 3,
  /// It was not settled in time: the estimate stands.
  TOKENWEIR_OUTCOME_EXPIRED = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_outcome tokenweir_outcome;
#else
typedef uint32_t tokenweir_outcome;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a record is about.
enum tokenweir_record_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// Something that this header does not know.
  TOKENWEIR_RECORD_OTHER = 0,
  /// A request was admitted.
  TOKENWEIR_RECORD_ADMITTED = 1,
  /// A request was denied.
  TOKENWEIR_RECORD_DENIED = 2,
  /// A permit ended.
  TOKENWEIR_RECORD_SETTLED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_record_kind tokenweir_record_kind;
#else
typedef uint32_t tokenweir_record_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a new key gets when every counter is in use.
enum tokenweir_when_full
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// Requests that would need a new counter are denied.
  TOKENWEIR_WHEN_FULL_DENY = 0,
  /// They pass, as far as that limit is concerned, uncounted.
  TOKENWEIR_WHEN_FULL_ADMIT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_when_full tokenweir_when_full;
#else
typedef uint32_t tokenweir_when_full;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a request comes to whose charge a store cannot record.
enum tokenweir_when_store_fails
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// It is not admitted: STORE_FAILED. Nothing is charged.
  TOKENWEIR_WHEN_STORE_FAILS_REFUSE = 0,
  /// It is decided by what is known in memory, and recorded when the store answers again. A counter
  /// that could not be read begins with nothing used; from then on nothing is given back to the store.
  TOKENWEIR_WHEN_STORE_FAILS_ADMIT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_when_store_fails tokenweir_when_store_fails;
#else
typedef uint32_t tokenweir_when_store_fails;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// Who renews leases before they run out.
enum tokenweir_lease_renewal
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// A thread that the limiter starts, and stops when it is freed. A fork does not take it along: make the limiter in the
  /// process that uses it.
  TOKENWEIR_LEASE_RENEWAL_IN_BACKGROUND = 0,
  /// The host, by tokenweir_limiter_renew_leases(). A request whose lease has run out before renews it itself, and waits
  /// for the disk.
  TOKENWEIR_LEASE_RENEWAL_BY_HOST = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_lease_renewal tokenweir_lease_renewal;
#else
typedef uint32_t tokenweir_lease_renewal;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// The shape of a request and its response. Azure OpenAI has those of OpenAI, Vertex those of Gemini and Anthropic.
enum tokenweir_api
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
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
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_api tokenweir_api;
#else
typedef uint32_t tokenweir_api;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// How a response ended, by its own word.
enum tokenweir_ended
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// It said that it is over.
  TOKENWEIR_ENDED_COMPLETE = 1,
  /// It said that the call failed.
  TOKENWEIR_ENDED_FAILED = 2,
  /// It stopped in the middle, or has not ended yet.
  TOKENWEIR_ENDED_BROKEN = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_ended tokenweir_ended;
#else
typedef uint32_t tokenweir_ended;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// Which limits cut a stream short that has used more than its estimate.
enum tokenweir_cut
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// A quota that is spent: no waiting brings it back soon.
  TOKENWEIR_CUT_QUOTA = 0,
  /// None: what goes beyond is charged, and later requests wait for it.
  TOKENWEIR_CUT_NEVER = 1,
  /// Any limit on tokens or cost that is spent, rates included.
  TOKENWEIR_CUT_ANY = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_cut tokenweir_cut;
#else
typedef uint32_t tokenweir_cut;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a call is charged to which the provider answers with an error, and of which no usage is reported.
enum tokenweir_failed
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// No tokens; it still counts as a request.
  TOKENWEIR_FAILED_NOTHING = 0,
  /// Its estimate: for providers that charge for what they fail at.
  TOKENWEIR_FAILED_ESTIMATE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_failed tokenweir_failed;
#else
typedef uint32_t tokenweir_failed;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a call is charged that was sent and never answered.
enum tokenweir_unanswered
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// Its estimate: what is not known is not nothing.
  TOKENWEIR_UNANSWERED_ESTIMATE = 0,
  /// The input that was estimated: it was sent, and nothing was produced that anyone has seen.
  TOKENWEIR_UNANSWERED_INPUT = 1,
  /// No tokens; it still counts as a request.
  TOKENWEIR_UNANSWERED_NOTHING = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_unanswered tokenweir_unanswered;
#else
typedef uint32_t tokenweir_unanswered;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// In whose words a client is answered.
enum tokenweir_dialect
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /// OpenAI's API.
  TOKENWEIR_DIALECT_OPENAI = 1,
  /// Azure OpenAI.
  TOKENWEIR_DIALECT_AZURE_OPENAI = 2,
  /// Anthropic's API.
  TOKENWEIR_DIALECT_ANTHROPIC = 3,
  /// Gemini and Vertex.
  TOKENWEIR_DIALECT_GEMINI = 4,
  /// An API behind Azure API Management.
  TOKENWEIR_DIALECT_APIM = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_dialect tokenweir_dialect;
#else
typedef uint32_t tokenweir_dialect;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What came of a call at the gateway.
enum tokenweir_call_outcome
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
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
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tokenweir_call_outcome tokenweir_call_outcome;
#else
typedef uint32_t tokenweir_call_outcome;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a client is told: a status, headers, a body. Read it with tokenweir_answer_read().
///
/// Ownership: the caller's, until tokenweir_answer_free(). Threads: any number may read it at once.
typedef struct tokenweir_answer tokenweir_answer;

/// Where a limiter's time comes from: the system's clocks, a coarse clock that the host ticks, or a manual one that the
/// host sets.
///
/// Ownership: the caller's, until tokenweir_clock_free(). Limiters that were made with it keep what they need of it, so
/// it may be freed before them. Threads: any number may use it at once, to read as to tick or set.
typedef struct tokenweir_clock tokenweir_clock;

/// The Admin console of Foundry resources and the traffic through their gateways, driven by commands in JSON.
///
/// Ownership: the caller's, until tokenweir_console_free(). Threads: any number may use it at once. Calls by command
/// wait while an operation, a view or a document is worked on; those through a tokenweir_gate do not.
typedef struct tokenweir_console tokenweir_console;

/// A denial, with every limit that refused.
///
/// Ownership: the caller's, until tokenweir_denial_free(). Threads: any number may read it at once. It keeps the policy
/// that it was made under; free it soon.
typedef struct tokenweir_denial tokenweir_denial;

/// What went wrong in one call, with the thing it names and the next step.
///
/// Every call that can fail takes `tokenweir_error **error`. NULL there: the code is enough, and nothing is allocated.
/// Otherwise the call puts a new error there if it fails, and NULL if it does not.
///
/// Ownership: the caller's, until tokenweir_error_free(). Threads: any number may read it at once.
typedef struct tokenweir_error tokenweir_error;

/// Follows one admitted call of which the request is sent: it says what of the response goes to the client, observes it on
/// its way, keeps the permit alive, cuts a stream short whose limits are spent, and says by what to settle the permit,
/// which stays the host's to do. Its memory stays below 16 KiB.
///
/// Ownership: the caller's, until tokenweir_exchange_free(); it keeps its limiter going until then. Threads: any, one after
/// the other; calls at once wait for one another.
typedef struct tokenweir_exchange tokenweir_exchange;

/// The data path of one gateway: what is administered on the console applies to its next call.
///
/// Ownership: the caller's, until tokenweir_gate_free(). It may outlive the console's handle, and its calls may outlive it.
/// Threads: any number may use it at once.
typedef struct tokenweir_gate tokenweir_gate;

/// Decides which requests may pass, holds their tokens and settles them.
///
/// Ownership: the caller's, until tokenweir_limiter_free(); its routes keep it going until they are freed, too.
/// Threads: any number may use it at once; admitting, observing and settling take no lock.
typedef struct tokenweir_limiter tokenweir_limiter;

/// A call that passes, until it has ended: it is settled or cancelled once.
///
/// Ownership: the caller's, until tokenweir_passage_free(), which ends a call that has not ended: what it was charged
/// stands. Threads: any number may use it at once; they wait for one another.
typedef struct tokenweir_passage tokenweir_passage;

/// A policy: limits and prices, checked.
///
/// Ownership: the caller's, until tokenweir_policy_free(). Limiters that were made with it keep what they need of it,
/// so it may be freed before them. Threads: any number may use it at once.
typedef struct tokenweir_policy tokenweir_policy;

/// A file in which limiters keep the use of their quotas.
///
/// A limiter with such a store decides in memory as any other; what it may use is recorded in the file a lease ahead, synced
/// before it counts. After a kill or a power cut the recovered use is never below the real one, and above it by a lease at
/// most; after the limiter was freed it is exact. One process has a file open at a time: open it after the fork in the
/// process that uses it, where it was opened before it is QUOTA_FILE_IN_USE.
///
/// Ownership: the caller's, until tokenweir_quota_file_free(). Limiters that were made with it keep what they need of it, so
/// it may be freed before them; it is closed with the last of them and of their routes. Threads: any number may use it at
/// once.
typedef struct tokenweir_quota_file tokenweir_quota_file;

/// A decision or a settlement.
///
/// Ownership: the caller's, until tokenweir_record_free(). Threads: any number may read it at once.
typedef struct tokenweir_record tokenweir_record;

/// Reads the usage out of one response as it passes, and counts what it can see until then. Its memory stays below 8 KiB
/// whatever comes.
///
/// Ownership: the caller's, until tokenweir_response_meter_free(). Threads: any, one after the other; calls at once wait for
/// one another.
typedef struct tokenweir_response_meter tokenweir_response_meter;

/// A ring in which a limiter keeps its decisions and settlements until they are polled. Writing never waits for a
/// reader: when the ring is full the newest record is dropped and counted.
///
/// Ownership: the caller's, until tokenweir_ring_free(). Limiters that were made with it keep what they need of it, so
/// it may be freed before them. Threads: any number may poll it at once.
typedef struct tokenweir_ring tokenweir_ring;

/// Who calls what, looked up once: the quickest way to decide for callers that come again. It follows changes of policy
/// by itself, and its counters are not evicted as long as it lives.
///
/// Ownership: the caller's, until tokenweir_route_free(). It may outlive the limiter's handle: the limiter goes on as
/// long as anything of it is used. Threads: any number may use it at once.
typedef struct tokenweir_route tokenweir_route;

/// Counters and permits that the worker processes of a host share, in a memory-mapped file. Linux only.
///
/// On a region a limit counts once, not once for each worker; a permit that one worker was given is settled by its id in
/// another. The words are lock-free: a worker may be killed at any instruction, and what it was at is finished or undone by the
/// others. The counters outlive the workers, but not a restart of the machine. All processes run the same release, as the
/// same user, with the same policy, which any of them may change: tokenweir_limiter_swap_policy(). At most 48 limiters are on a
/// region.
///
/// Ownership: the caller's, until tokenweir_shared_region_free(). It may be freed before the limiters that were made with it,
/// and opened before a fork. Limiters are not taken along by a fork: make them in the process that uses them, where others are
/// REGION_FAILED. Threads: any number may use it at once.
typedef struct tokenweir_shared_region tokenweir_shared_region;

/// A text that a call returned: UTF-8, mostly JSON; where a call says so, the bytes of a body as they came.
///
/// Ownership: the caller's, until tokenweir_text_free(). Threads: any number may read it at once.
typedef struct tokenweir_text tokenweir_text;

/// Withholds from a client the one chunk of a stream that it did not ask for: the one with the usage and no choices. Give
/// a response meter what the upstream sent, before this.
///
/// Ownership: the caller's, until tokenweir_usage_chunk_filter_free(). Threads: any, one after the other; calls at once wait
/// for one another.
typedef struct tokenweir_usage_chunk_filter tokenweir_usage_chunk_filter;

/// An instant: both clocks, in nanoseconds. Every call that depends on time takes a pointer to one; NULL there: the
/// limiter's own clock is read. Do not mix the two on one limiter unless they tell the same time.
///
/// This struct stays as it is for good.
typedef struct {
  /// Monotonic, from any origin that stays: what buckets and windows run on. 0 to 2^63 - 1.
  uint64_t mono;
  /// Since 1970-01-01T00:00:00Z: what calendar quotas run on.
  int64_t wall;
} tokenweir_now;

/// A record's fields. The call fills it; set size before. See tokenweir_record_view_init(). The pointers are into the
/// record and valid until it is freed.
typedef struct {
  /// sizeof(tokenweir_record_view).
  uint32_t size;
  /// A tokenweir_record_kind.
  uint32_t kind;
  /// When.
  tokenweir_now at;
  /// The project: any bytes, no NUL behind them.
  const char *project;
  /// In bytes.
  size_t project_length;
  /// The deployment: any bytes, no NUL behind them.
  const char *deployment;
  /// In bytes.
  size_t deployment_length;
  /// What the request was expected to take, in tokens.
  uint64_t estimated_input;
  /// What the request was expected to take, in tokens.
  uint64_t estimated_output;
  /// Admitted, settled: the permit.
  uint64_t permit;
  /// Denied: nanoseconds, TOKENWEIR_ABSENT if no waiting helps.
  uint64_t retry_after_ns;
  /// Denied: the name of the limit that decided, UTF-8 without a NUL behind it; NULL otherwise.
  const char *limit;
  /// In bytes.
  size_t limit_length;
  /// Denied: 429 or 403.
  uint32_t status;
  /// Denied: 1 if no waiting helps because the request is larger than a whole limit.
  uint32_t never_fits;
  /// Denied: how many limits refused; tokenweir_record_json() names them.
  uint32_t refusals;
  /// Admitted: 1 if a shadow limit would have refused it.
  uint32_t shadow_refused;
  /// Settled: a tokenweir_outcome.
  uint32_t outcome;
  /// Settled: 1 if a part of the tokens is the estimate, because the usage was absent.
  uint32_t estimated;
  /// Settled: input tokens that were charged in the end, cached ones included.
  uint64_t input;
  /// Settled: of these, how many came from the provider's cache.
  uint64_t cached_input;
  /// Settled: output tokens that were charged in the end.
  uint64_t output;
  /// Settled: input tokens as reported; TOKENWEIR_ABSENT if they were not.
  uint64_t reported_input;
  /// Settled: cached input tokens as reported; TOKENWEIR_ABSENT if they were not.
  uint64_t reported_cached_input;
  /// Settled: output tokens as reported; TOKENWEIR_ABSENT if they were not.
  uint64_t reported_output;
  /// Not used.
  uint64_t reserved[4];
} tokenweir_record_view;

/// How much a shared region has room for; zero is the default for each field. See tokenweir_region_layout_init().
typedef struct {
  /// sizeof(tokenweir_region_layout).
  uint32_t size;
  /// Zero.
  uint32_t reserved0;
  /// The most counters; 0: 16,384; at most 2^24.
  uint64_t counters;
  /// The most callers (project, deployment and caller keys) that are known at once; 0: 16,384; at most 2^24.
  uint64_t callers;
  /// The most permits that may be open at once, 384 bytes each; 0: 16,384; at most 2^20.
  uint64_t permits;
  /// The most buckets that may keep a history, 12 KiB each; 0: 1,000.
  uint64_t histories;
  /// The longest key of a counter in bytes: its values, and one or two bytes for each; 0: 128; at most 4,096.
  uint64_t key_bytes;
  /// The longest caller in bytes: project, deployment and caller keys, and one or two bytes for each; 0: 256; at most 16,384.
  uint64_t caller_bytes;
  /// The room for a policy in bytes, which is taken eight times; 0: twice what this one takes, and at least 65,536; at least
  /// 4,096, at most 2^26.
  uint64_t policy_bytes;
  /// Zero.
  uint64_t reserved[1];
} tokenweir_region_layout;

/// How a limiter keeps its quotas in a file; zero is the default where there is one. See tokenweir_store_options_of().
typedef struct {
  /// sizeof(tokenweir_store_options).
  uint32_t size;
  /// A tokenweir_when_store_fails.
  uint32_t when_it_fails;
  /// The file.
  const tokenweir_quota_file *file;
  /// The name under which the limiter's quotas are found again, in UTF-8. Limiters on one file need different ones.
  const char *name;
  /// Its bytes.
  size_t name_length;
  /// A lease is one part of so many of a quota's amount, at least 1 token: what a killed process may at most leave behind
  /// as used beyond what it has used. 0: 100. There is a write for about every half of a lease that is used.
  uint64_t lease_part;
  /// A tokenweir_lease_renewal.
  uint32_t renewal;
  /// Zero.
  uint32_t reserved0;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_store_options;

/// How a limiter is to be made; zero is the default for each field. See tokenweir_options_init().
typedef struct {
  /// sizeof(tokenweir_options).
  uint32_t size;
  /// A tokenweir_when_full.
  uint32_t when_full;
  /// Where the time comes from; NULL: the system's clocks. Buckets count their refill from what it shows when the
  /// limiter is made.
  const tokenweir_clock *clock;
  /// Where decisions and settlements are kept for polling; NULL: nowhere.
  const tokenweir_ring *ring;
  /// The most counters that may live at once; 0: 100,000.
  uint64_t max_counters;
  /// The most routes that are kept resolved; 0: as many as counters, or 65,536 if that is more; at most 2^24.
  uint64_t max_routes;
  /// The most permits that may be open at once; 0: 2^20; at most 2^24.
  uint64_t max_permits;
  /// Nanoseconds that a permit lives unless it is settled or renewed; 0: 10 minutes.
  uint64_t permit_ttl_ns;
  /// The most buckets that may keep a history at once, 12 KiB each; 0: 5,000. Further ones give back less of what was
  /// estimated and not used, the less the longer a call lasted; see tokenweir_stats.
  uint64_t max_histories;
  /// Where the use of quotas is kept so that it outlives the process; NULL: nowhere. It is read during the call.
  const tokenweir_store_options *store;
  /// What the limiter shares with those of other processes; NULL: nothing. Its time is the host's, so `clock` is NULL
  /// then, and so is `store`; how many counters, permits and histories there may be is the region's layout's to say.
  const tokenweir_shared_region *region;
  /// Where the region counts for another policy already: 0: that is REGION_FAILED; 1: the limiter takes that one.
  uint32_t policy_of_region;
  /// Zero.
  uint32_t reserved[1];
} tokenweir_options;

/// A name and a value, for instance a caller key ("user" and "u-17") or a header.
///
/// This struct stays as it is for good: it comes in arrays.
typedef struct {
  /// UTF-8; a caller key's has no "key:" before it.
  const char *name;
  /// In bytes.
  size_t name_length;
  /// Any bytes, not none.
  const char *value;
  /// In bytes.
  size_t value_length;
} tokenweir_key;

/// Who calls what. The call that takes it reads what it points to and keeps no pointer. See tokenweir_request_of().
typedef struct {
  /// sizeof(tokenweir_request).
  uint32_t size;
  /// Zero.
  uint32_t reserved0;
  /// The project that calls: any bytes, not none.
  const char *project;
  /// In bytes.
  size_t project_length;
  /// The deployment or model that it calls: any bytes, not none.
  const char *deployment;
  /// In bytes.
  size_t deployment_length;
  /// Further keys of the caller (user, subscription, agent, tool); the ones that no policy names are ignored.
  const tokenweir_key *keys;
  /// How many keys there are.
  size_t key_count;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_request;

/// The tokens that the host expects a request to take; 0 where it does not know. See tokenweir_estimate_of().
typedef struct {
  /// sizeof(tokenweir_estimate).
  uint32_t size;
  /// Zero.
  uint32_t reserved0;
  /// Input (prompt) tokens, at most 2^53.
  uint64_t input;
  /// The most output tokens, at most 2^53.
  uint64_t output;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_estimate;

/// Whether a request may pass. The call fills it; set size before. See tokenweir_decision_init().
typedef struct {
  /// sizeof(tokenweir_decision).
  uint32_t size;
  /// 1: it may, and its estimated tokens are held. 0: it may not, and nothing was taken.
  uint32_t admitted;
  /// The permit's id, to be settled exactly once; 0 if denied.
  uint64_t permit;
  /// Denied: nanoseconds after which, with no other traffic, the request is admitted, and not one earlier;
  /// TOKENWEIR_ABSENT if no waiting helps. 0 if admitted.
  uint64_t retry_after_ns;
  /// The same in whole seconds, rounded up, as the Retry-After header has it.
  uint64_t retry_after_seconds;
  /// Denied: what the limit that decided has left; below 0 is debt.
  int64_t remaining;
  /// Denied: the largest charge that would fit that limit now.
  uint64_t fits_now;
  /// Denied: the HTTP status to answer with, 429 for a rate, 403 for a quota, 503 where the server that counts is away. 0 if
  /// admitted.
  uint32_t status;
  /// Denied: 1 if the request is larger than a whole limit, so that no waiting helps.
  uint32_t never_fits;
  /// Denied: 1 if there was no room for another counter, and no limit is used up.
  uint32_t table_full;
  /// Denied: how many limits refused. One that never fits decides, then the longest wait.
  uint32_t refusals;
  /// The length of the name of the limit that decided, in bytes, also where it is longer than the field below.
  uint32_t limit_length;
  /// Not used.
  uint32_t reserved0;
  /// The name of the limit that decided: UTF-8 with a NUL behind it, cut between characters if it is longer.
  char limit[64];
  /// Not used.
  uint64_t reserved[4];
} tokenweir_decision;

/// The tokens that the provider reports afterwards. Unknown is TOKENWEIR_ABSENT, never 0. See tokenweir_usage_of() and
/// tokenweir_usage_unknown().
typedef struct {
  /// sizeof(tokenweir_usage).
  uint32_t size;
  /// Zero.
  uint32_t reserved0;
  /// Input tokens, the cached ones included; at most 2^53. Absent: the estimate stands.
  uint64_t input;
  /// Input tokens from the provider's cache; at most input. Absent: none were.
  uint64_t cached_input;
  /// Output tokens, reasoning included; at most 2^53. Absent: the estimate stands.
  uint64_t output;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_usage;

/// What settling a permit came to. The call fills it; set size before. See tokenweir_settlement_init().
typedef struct {
  /// sizeof(tokenweir_settlement).
  uint32_t size;
  /// A tokenweir_outcome.
  uint32_t outcome;
  /// The permit.
  uint64_t permit;
  /// Input tokens that were charged in the end, cached ones included.
  uint64_t input;
  /// Of these, how many came from the provider's cache.
  uint64_t cached_input;
  /// Output tokens that were charged in the end.
  uint64_t output;
  /// 1 if a part of this is the estimate, because the usage was absent.
  uint32_t estimated;
  /// Not used.
  uint32_t reserved0;
  /// Not used.
  uint64_t reserved[4];
} tokenweir_settlement;

/// Which counters to view; NULL or zero matches all. See tokenweir_usage_filter_init().
typedef struct {
  /// sizeof(tokenweir_usage_filter).
  uint32_t size;
  /// Zero.
  uint32_t reserved0;
  /// Only counters of the limit of this name, in UTF-8; NULL: of all limits.
  const char *limit;
  /// In bytes.
  size_t limit_length;
  /// Only counters whose scope has these values; names as policies write them: "project", "deployment", "key:user".
  const tokenweir_key *scope;
  /// How many there are.
  size_t scope_count;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_usage_filter;

/// The limiter's own figures. The call fills it; set size before. See tokenweir_stats_init().
typedef struct {
  /// sizeof(tokenweir_stats).
  uint32_t size;
  /// Not used.
  uint32_t reserved0;
  /// Live counters.
  uint64_t counters;
  /// How many there may be.
  uint64_t max_counters;
  /// Counters evicted, at rest, since the limiter was made.
  uint64_t evicted;
  /// Requests denied because there was no room for a counter.
  uint64_t refused_full;
  /// Limits passed over because there was no room for a counter.
  uint64_t admitted_full;
  /// Routes that are resolved.
  uint64_t routes;
  /// Open permits.
  uint64_t permits_open;
  /// Buckets that keep a history of their deficit.
  uint64_t histories;
  /// How many may.
  uint64_t max_histories;
  /// How often the store failed to read or record.
  uint64_t store_failures;
  /// Not used.
  uint64_t reserved[1];
} tokenweir_stats;

/// What a request asks for. The call fills it; set size before. See tokenweir_asked_init().
typedef struct {
  /// sizeof(tokenweir_asked).
  uint32_t size;
  /// A tokenweir_api.
  uint32_t api;
  /// 1: it asks for a stream.
  uint32_t stream;
  /// 1: it asks for the usage at the end of the stream (stream_options.include_usage).
  uint32_t include_usage;
  /// 1: it refers to input that is not in its body (an earlier response, cached content), so input is too low.
  uint32_t input_elsewhere;
  /// The length of the model's name in bytes; 0 if none is given.
  uint32_t model_length;
  /// Input tokens, estimated.
  uint64_t input;
  /// The most output tokens that it allows, for all answers; TOKENWEIR_ABSENT if it states none.
  uint64_t output;
  /// How many answers there will be; at least 1.
  uint64_t answers;
  /// The model or deployment that the path names, as written there, or the body; with a NUL behind it. Nothing where
  /// the name is longer than 256 bytes.
  char model[264];
  /// Zero.
  uint64_t reserved[4];
} tokenweir_asked;

/// What is held for the output of a request that states no bound: tokens, and a share of the input, for each answer. It is
/// cut to a share of each limit, and never makes a request too large that its input alone is not. See
/// tokenweir_output_rule_of().
typedef struct {
  /// sizeof(tokenweir_output_rule).
  uint32_t size;
  /// The thousandths of a limit that it may take, 1 to 1000; 0: 250.
  uint32_t share_per_mille;
  /// So many tokens.
  uint64_t tokens;
  /// And so many thousandths of the input: 500 is half as much output as input.
  uint64_t per_mille_of_input;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_output_rule;

/// What a response has used. What is not known is TOKENWEIR_ABSENT. The call fills it; set size before. See
/// tokenweir_measured_init().
typedef struct {
  /// sizeof(tokenweir_measured).
  uint32_t size;
  /// A tokenweir_ended.
  uint32_t ended;
  /// 1 if input or output is not what the provider reported for the whole answer.
  uint32_t estimated;
  /// Not used.
  uint32_t reserved0;
  /// What to settle with: as the provider reported it, and the output that was counted where it did not.
  tokenweir_usage usage;
  /// Of the input, what was written to the provider's cache.
  uint64_t cache_write;
  /// Of the input, what is audio.
  uint64_t audio_input;
  /// Of the output, what is reasoning.
  uint64_t reasoning;
  /// Of the output, what is audio.
  uint64_t audio_output;
  /// Not used.
  uint64_t reserved[4];
} tokenweir_measured;

/// An answer's parts. The call fills it; set size before. See tokenweir_answer_view_init(). The pointers are into the
/// answer and valid until it is freed; names, values and the body have a NUL behind them.
typedef struct {
  /// sizeof(tokenweir_answer_view).
  uint32_t size;
  /// The HTTP status; 0 for an admitted request, whose status is the upstream's.
  uint32_t status;
  /// The headers: values of visible ASCII and spaces.
  const tokenweir_key *headers;
  /// How many there are.
  size_t header_count;
  /// The body, JSON; "" for an admitted request.
  const char *body;
  /// In bytes.
  size_t body_length;
  /// Not used.
  uint64_t reserved[4];
} tokenweir_answer_view;

/// What an operator decides of calls that take more than was expected, fail, or are never answered; zero is the default for
/// each field. See tokenweir_call_rules_init().
typedef struct {
  /// sizeof(tokenweir_call_rules).
  uint32_t size;
  /// A tokenweir_cut.
  uint32_t cut;
  /// A tokenweir_failed.
  uint32_t failed;
  /// A tokenweir_unanswered.
  uint32_t unanswered;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_call_rules;

/// The head of a response. See tokenweir_response_head_of().
typedef struct {
  /// sizeof(tokenweir_response_head).
  uint32_t size;
  /// The HTTP status, 100 to 999.
  uint32_t status;
  /// A tokenweir_dialect: in whose words the client is told why a stream ends.
  uint32_t dialect;
  /// 1: the usage at the end of the stream was asked for, and not by the client (tokenweir_wire_ask_usage()), so it is kept
  /// back.
  uint32_t withhold_usage;
  /// The header of that name; NULL and 0 if there is none.
  const char *content_type;
  /// In bytes.
  size_t content_type_length;
  /// The header of that name; NULL and 0 if there is none. What is compressed passes unseen, and the estimate stands.
  const char *content_encoding;
  /// In bytes.
  size_t content_encoding_length;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_response_head;

/// One call to a model, an agent or a tool of a project. Text is UTF-8; NULL where there is none. See
/// tokenweir_call_of().
typedef struct {
  /// sizeof(tokenweir_call).
  uint32_t size;
  /// 1: its response is streamed.
  uint32_t streamed;
  /// The project that calls.
  const char *project;
  /// In bytes.
  size_t project_length;
  /// The deployment that it calls, if it calls a model.
  const char *deployment;
  /// In bytes.
  size_t deployment_length;
  /// The custom agent that is called, or on whose behalf.
  const char *agent;
  /// In bytes.
  size_t agent_length;
  /// The tool that is called.
  const char *tool;
  /// In bytes.
  size_t tool_length;
  /// Who calls: user, subscription, address and what else limits or records tell callers apart by.
  const tokenweir_key *keys;
  /// How many there are.
  size_t key_count;
  /// What it is expected to take; TOKENWEIR_ABSENT, both of them, if that is not known.
  uint64_t estimated_input;
  /// What it is expected to take; TOKENWEIR_ABSENT, both of them, if that is not known.
  uint64_t estimated_output;
  /// The host's id of the call; the gate makes one if there is none.
  const char *correlation_id;
  /// In bytes.
  size_t correlation_id_length;
  /// What is done: "chat", "embeddings", "execute_tool".
  const char *operation;
  /// In bytes.
  size_t operation_length;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_call;

/// What a gate decides on a call. The call fills it; set size before. See tokenweir_verdict_init().
typedef struct {
  /// sizeof(tokenweir_verdict).
  uint32_t size;
  /// A tokenweir_call_outcome.
  uint32_t outcome;
  /// Refused: the HTTP status to answer with. 0 if it passes.
  uint32_t status;
  /// Refused: 1 if no waiting helps because the call is larger than a whole limit.
  uint32_t never_fits;
  /// Refused: whole seconds to wait; TOKENWEIR_ABSENT if none are told. 0 if it passes.
  uint64_t retry_after_seconds;
  /// The permit that holds its tokens; 0 if it is refused or bypasses.
  uint64_t permit;
  /// Not used.
  uint64_t reserved[4];
} tokenweir_verdict;

/// How a call ended, as far as the host knows. See tokenweir_completion_of().
typedef struct {
  /// sizeof(tokenweir_completion).
  uint32_t size;
  /// What the caller was answered with; 0 if that is not known.
  uint32_t response_code;
  /// What the provider answered with; 0 if that is not known.
  uint32_t backend_response_code;
  /// 1 if a part of `usage` was counted by the host; 0 if the provider reported all of it.
  uint32_t estimated;
  /// What the provider reported.
  tokenweir_usage usage;
  /// Of the output tokens, how many were spent on reasoning; TOKENWEIR_ABSENT if that is not known.
  uint64_t reasoning;
  /// Nanoseconds that the provider took; TOKENWEIR_ABSENT if that is not known.
  uint64_t backend_ns;
  /// Nanoseconds to the first piece of a stream; TOKENWEIR_ABSENT if that is not known.
  uint64_t first_token_ns;
  /// The deployment that served it, if it may be another than was asked for, in UTF-8; NULL if not.
  const char *deployment_served;
  /// In bytes.
  size_t deployment_served_length;
  /// The model that the provider says served it, in UTF-8; NULL if it does not.
  const char *model_served;
  /// In bytes.
  size_t model_served_length;
  /// Zero.
  uint64_t reserved[4];
} tokenweir_completion;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// The stable name of a code, without the prefix: "PERMIT_SETTLED". Static text; NULL for a number that is no code.
const char *tokenweir_code_name(int32_t code);

/// The interface that this library has, to be compared with TOKENWEIR_ABI_VERSION.
uint32_t tokenweir_abi_version(void);

/// The release of this library, as "0.1.0", to be compared with TOKENWEIR_VERSION. Static text.
const char *tokenweir_version(void);

/// The code: the same that the call returned. TOKENWEIR_OK for NULL.
tokenweir_code tokenweir_error_code(const tokenweir_error *error);

/// The message: UTF-8 with a NUL behind it, valid until the error is freed; a policy's has a line for each problem. ""
/// for NULL.
const char *tokenweir_error_message(const tokenweir_error *error);

/// Frees an error. NULL is fine.
void tokenweir_error_free(tokenweir_error *error);

/// The characters: UTF-8 with a NUL behind them, valid until the text is freed. "" for NULL.
const char *tokenweir_text_chars(const tokenweir_text *text);

/// How many bytes the text has, without the NUL. 0 for NULL.
size_t tokenweir_text_length(const tokenweir_text *text);

/// Frees a text. NULL is fine.
void tokenweir_text_free(tokenweir_text *text);

/// Makes the operating system's clocks: monotonic time from now on, and wall time. On Linux the monotonic one does not
/// advance while the machine is suspended. A limiter that is given no clock has one of these.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_clock_new_system(tokenweir_clock **clock, tokenweir_error **error);

/// Makes the operating system's clocks, whose monotonic time began `past_ns` nanoseconds ago, or now where the platform
/// cannot say when that was. For a limiter that takes up the counters of another process: what its windows counted lies
/// before its own beginning, so give it the length of the longest window.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_clock_new_system_with_past(uint64_t past_ns, tokenweir_clock **clock, tokenweir_error **error);

/// Makes a clock that shows the present instant until the first tokenweir_clock_tick(), for event loops that keep a
/// cached time: reading it costs next to nothing, and every decision until the next tick sees the same instant.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_clock_new_coarse(tokenweir_clock **clock, tokenweir_error **error);

/// Makes a clock that shows `now` (NULL: zero and zero) until it is set or advanced, for tests and simulation.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_clock_new_manual(const tokenweir_now *now, tokenweir_clock **clock, tokenweir_error **error);

/// What the clock shows.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_clock_now(const tokenweir_clock *clock, tokenweir_now *now, tokenweir_error **error);

/// Makes a coarse clock show the present instant.
///
/// Codes: NULL_ARGUMENT, CLOCK_KIND.
tokenweir_code tokenweir_clock_tick(const tokenweir_clock *clock, tokenweir_error **error);

/// Makes a manual clock show `now`. It may go backwards.
///
/// Codes: NULL_ARGUMENT, CLOCK_KIND.
tokenweir_code tokenweir_clock_set(const tokenweir_clock *clock, const tokenweir_now *now, tokenweir_error **error);

/// Moves both readings of a manual clock on by `nanoseconds`.
///
/// Codes: NULL_ARGUMENT, CLOCK_KIND.
tokenweir_code tokenweir_clock_advance(const tokenweir_clock *clock, uint64_t nanoseconds, tokenweir_error **error);

/// Frees a clock. NULL is fine.
void tokenweir_clock_free(tokenweir_clock *clock);

/// Reads a policy from TOML. `source` has `length` bytes.
///
/// Codes: POLICY_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
tokenweir_code tokenweir_policy_from_toml(const char *source,
                                          size_t length,
                                          tokenweir_policy **policy,
                                          tokenweir_error **error);

/// Reads a policy from JSON. `source` has `length` bytes.
///
/// Codes: POLICY_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
tokenweir_code tokenweir_policy_from_json(const char *source,
                                          size_t length,
                                          tokenweir_policy **policy,
                                          tokenweir_error **error);

/// The policy's limits in JSON, with `key_names`: the caller keys that any of them looks at, which are the ones worth
/// passing with a request.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_policy_json(const tokenweir_policy *policy, tokenweir_text **json, tokenweir_error **error);

/// Frees a policy. NULL is fine.
void tokenweir_policy_free(tokenweir_policy *policy);

/// Makes a ring for `capacity` records that nobody has polled yet, 1 to 2^20, rounded up to a power of two. Its memory,
/// about 400 bytes for each, is taken at once.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_ring_new(size_t capacity, tokenweir_ring **ring, tokenweir_error **error);

/// Takes the oldest record out of the ring; NULL if there is none. Never waits.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_ring_poll(const tokenweir_ring *ring, tokenweir_record **record, tokenweir_error **error);

/// How many records were dropped since the ring was made, because it was full.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_ring_lost(const tokenweir_ring *ring, uint64_t *lost, tokenweir_error **error);

/// Frees a ring. NULL is fine.
void tokenweir_ring_free(tokenweir_ring *ring);

/// The record's fields.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
tokenweir_code tokenweir_record_read(const tokenweir_record *record,
                                     tokenweir_record_view *fields,
                                     tokenweir_error **error);

/// The record in JSON: at, project, deployment and estimate, and what the decision or the settlement came to; a denial
/// as tokenweir_denial_json() has it.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_record_json(const tokenweir_record *record, tokenweir_text **json, tokenweir_error **error);

/// Frees a record. NULL is fine.
void tokenweir_record_free(tokenweir_record *record);

/// Opens a file of quotas, which is made if there is none: readable and writable by its owner alone. `path` has `length`
/// bytes (on Windows UTF-8). After a crash the last write that was synced is found again; this may take as long as reading
/// the file does. A file that is refused is left as it is.
///
/// Codes: QUOTA_FILE_IN_USE, QUOTA_FILE_DAMAGED, QUOTA_FILE_VERSION, QUOTA_FILE_IO, NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_quota_file_open(const char *path,
                                         size_t length,
                                         tokenweir_quota_file **file,
                                         tokenweir_error **error);

/// Writes a copy of the file to `path`, of `length` bytes, as it is at some instant of the call. Requests go on meanwhile.
/// Whoever goes on with a copy goes on with the use of that moment.
///
/// Codes: QUOTA_FILE_IO, if the path exists or cannot be written; QUOTA_FILE_IN_USE, QUOTA_FILE_DAMAGED, NULL_ARGUMENT,
/// ARGUMENT_INVALID.
tokenweir_code tokenweir_quota_file_backup(const tokenweir_quota_file *file,
                                           const char *path,
                                           size_t length,
                                           tokenweir_error **error);

/// All that is recorded, as it is at some instant of the call. In JSON: under `records` for each counter the store's name, the
/// limit's name, its meter, period and scope, period_start and period_end (wall time in nanoseconds since
/// 1970-01-01T00:00:00Z; null for `never`), and how much of it may have been used.
///
/// Codes: QUOTA_FILE_IN_USE, QUOTA_FILE_DAMAGED, QUOTA_FILE_IO, NULL_ARGUMENT.
tokenweir_code tokenweir_quota_file_records(const tokenweir_quota_file *file,
                                            tokenweir_text **json,
                                            tokenweir_error **error);

/// Frees a file of quotas. NULL is fine. It stays open for the limiters that were made with it.
void tokenweir_quota_file_free(tokenweir_quota_file *file);

/// Renews the leases that are near their end, so that no request has to wait for the disk: now and then, where no thread of
/// the limiter does. How many were renewed, 0 without a store, goes to `renewed`, which may be NULL.
///
/// Codes: STORE_FAILED, NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_renew_leases(const tokenweir_limiter *limiter,
                                              uint64_t *renewed,
                                              tokenweir_error **error);

/// Gives back what is leased and not used, so that the store has exactly what is used. Requests that are admitted or settled
/// afterwards lease anew. Freeing the limiter does the same but cannot say whether it succeeded. Takes time in proportion to
/// the number of live counters.
///
/// Codes: STORE_FAILED, NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_give_back_leases(const tokenweir_limiter *limiter,
                                                  tokenweir_error **error);

/// Opens the shared region in the file at `path`, of `length` bytes, which is made if there is none: of several processes that
/// do so at once one makes it, with mode 0600, and takes its room. The file belongs in /dev/shm or /run. `policy` says how large
/// counters and policies are; `layout` may be NULL: every default. Limiters are put on it by `region` of tokenweir_options. A file that is
/// refused is left as it is.
///
/// Codes: REGION_IO, REGION_DAMAGED, REGION_VERSION, REGION_LAYOUT, REGION_NOT_PRIVATE, REGION_RESTARTED, NULL_ARGUMENT,
/// ARGUMENT_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO.
tokenweir_code tokenweir_shared_region_open(const char *path,
                                            size_t length,
                                            const tokenweir_policy *policy,
                                            const tokenweir_region_layout *layout,
                                            tokenweir_shared_region **region,
                                            tokenweir_error **error);

/// The policy that the region counts for, for limiters of this process; NULL, and OK, if none was made on it yet.
///
/// Codes: NULL_ARGUMENT, REGION_FAILED if it cannot be read.
tokenweir_code tokenweir_shared_region_policy(const tokenweir_shared_region *region,
                                              tokenweir_policy **policy,
                                              tokenweir_error **error);

/// What is in the region. In JSON: counters, callers, permits_open, histories; policies, how many have been in force, the
/// present one included; cleared_up, how many limiters have ended and been cleared up after; unsure_steps, how many steps that a process was at when it was killed may or may not have been made, each
/// of which may have left the charge of one request on one limit too much counted; and under `attached` for each limiter its
/// seat, the process, since when (wall time in nanoseconds since 1970-01-01T00:00:00Z) and whether it is alive. Reads the whole
/// region.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_shared_region_status(const tokenweir_shared_region *region,
                                              tokenweir_text **json,
                                              tokenweir_error **error);

/// Frees a region. NULL is fine. The file stays, and so do the limiters that were made with it.
void tokenweir_shared_region_free(tokenweir_shared_region *region);

/// Makes a limiter that decides by `policy`. `options` may be NULL: every default.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID; with a store also UTF8_INVALID, STORE_NAME_IN_USE,
/// QUOTA_FILE_IN_USE, and STORE_FAILED if there can be no thread to renew leases; on a region also REGION_FAILED if it counts
/// for another policy, or there is a store as well, REGION_CROWDED, REGION_DAMAGED if its file was replaced, REGION_IO.
tokenweir_code tokenweir_limiter_new(const tokenweir_policy *policy,
                                     const tokenweir_options *options,
                                     tokenweir_limiter **limiter,
                                     tokenweir_error **error);

/// Frees a limiter. NULL is fine. Its open permits end with it; routes that were made from it keep it going. One with a
/// store gives its leases back, which waits for the disk: after that the file has exactly what is used. What its routes
/// are charged later is leased anew and not given back, so free them first.
void tokenweir_limiter_free(tokenweir_limiter *limiter);

/// What the limiter's clock shows.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_now(const tokenweir_limiter *limiter, tokenweir_now *now, tokenweir_error **error);

/// The policy in force, to be freed by the caller.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_policy(const tokenweir_limiter *limiter,
                                        tokenweir_policy **policy,
                                        tokenweir_error **error);

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
tokenweir_code tokenweir_limiter_swap_policy(const tokenweir_limiter *limiter,
                                             const tokenweir_policy *policy,
                                             const tokenweir_now *now,
                                             tokenweir_error **error);

/// Ends permits whose time is over and evicts counters at rest that nobody holds. This happens by itself when room is
/// needed; a host may call it when it is idle.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_sweep(const tokenweir_limiter *limiter,
                                       const tokenweir_now *now,
                                       tokenweir_error **error);

/// The counters as a JSON document, to be taken up by the limiter of another process with tokenweir_limiter_restore():
/// after an upgrade, or on the host's next start. What open permits hold counts as spent; what is admitted later is not in
/// it. Traffic goes on meanwhile. Takes time in proportion to the number of live counters and open permits.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_snapshot(const tokenweir_limiter *limiter,
                                          const tokenweir_now *now,
                                          tokenweir_text **json,
                                          tokenweir_error **error);

/// Takes up the counters of another limiter, before the first request: what a counter has already stays, and what is
/// restored comes on top. A counter is the same if its limit has the same name, scope, meter, algorithm and period; it never
/// allows more than the one that was saved. In JSON: under `counters` how many were taken up, under `left_out` those that
/// begin anew, by limit: limit, counters and reason ("no_such_limit", "changed", "kept" by a store, "shared" in a region,
/// "no_room"). Give the limiter a clock made
/// with tokenweir_clock_new_system_with_past().
///
/// Codes: SNAPSHOT_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID. Nothing has changed then.
tokenweir_code tokenweir_limiter_restore(const tokenweir_limiter *limiter,
                                         const char *snapshot,
                                         size_t length,
                                         const tokenweir_now *now,
                                         tokenweir_text **json,
                                         tokenweir_error **error);

/// The denial in JSON: status, limit, retry_after_ns (null: no waiting helps), never_fits, table_full, every limit that
/// refused under `refusals`, and what each enforced limit of the request has left under `remaining`.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_denial_json(const tokenweir_denial *denial, tokenweir_text **json, tokenweir_error **error);

/// Frees a denial. NULL is fine.
void tokenweir_denial_free(tokenweir_denial *denial);

/// Decides whether a request may pass, and if so holds its estimate on every limit it meets: on all or on none.
///
/// OK both ways: decision->admitted says which. An admitted request's permit has to be settled, cancelled or abandoned;
/// one that is not expires, and its estimate stands. `denial` may be NULL; otherwise a denied request's full denial is
/// put there, and NULL for an admitted one. Nothing is allocated for an admission where these limits were met before by
/// the same caller, up to 8 caller keys.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, ESTIMATE_TOO_LARGE, PERMITS_EXHAUSTED, TABLE_FULL, NULL_ARGUMENT,
/// UTF8_INVALID (the name of a key), STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID. Nothing has changed then.
tokenweir_code tokenweir_limiter_admit(const tokenweir_limiter *limiter,
                                       const tokenweir_request *request,
                                       const tokenweir_estimate *estimate,
                                       const tokenweir_now *now,
                                       tokenweir_decision *decision,
                                       tokenweir_denial **denial,
                                       tokenweir_error **error);

/// Looks up who calls what, once, for reuse.
///
/// Codes: EMPTY_KEY, KEY_MISSING, KEY_TWICE, NO_PRICE, TABLE_FULL, NULL_ARGUMENT, UTF8_INVALID (the name of a key),
/// STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
tokenweir_code tokenweir_limiter_route(const tokenweir_limiter *limiter,
                                       const tokenweir_request *request,
                                       const tokenweir_now *now,
                                       tokenweir_route **route,
                                       tokenweir_error **error);

/// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate is charged at once.
/// `spent` may be NULL; otherwise 1 is put there if a limit of the request has nothing left, so that a runaway stream may
/// be cut short, and 0 if not.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_observe(const tokenweir_limiter *limiter,
                                         uint64_t id,
                                         uint64_t input,
                                         uint64_t output,
                                         const tokenweir_now *now,
                                         uint32_t *spent,
                                         tokenweir_error **error);

/// Settles a permit with what the provider reported: what was held beyond it is given back, what was used beyond the
/// estimate is charged. Once: whoever comes second gets PERMIT_SETTLED. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, USAGE_INVALID, NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO. Nothing has
/// changed then.
tokenweir_code tokenweir_limiter_settle(const tokenweir_limiter *limiter,
                                        uint64_t id,
                                        const tokenweir_usage *usage,
                                        const tokenweir_now *now,
                                        tokenweir_settlement *settlement,
                                        tokenweir_error **error);

/// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
/// request. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, STRUCT_SIZE. Nothing has changed then.
tokenweir_code tokenweir_limiter_cancel(const tokenweir_limiter *limiter,
                                        uint64_t id,
                                        const tokenweir_now *now,
                                        tokenweir_settlement *settlement,
                                        tokenweir_error **error);

/// Ends a permit without a word of usage: the estimate stands. `settlement` may be NULL.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, STRUCT_SIZE. Nothing has changed then.
tokenweir_code tokenweir_limiter_abandon(const tokenweir_limiter *limiter,
                                         uint64_t id,
                                         const tokenweir_now *now,
                                         tokenweir_settlement *settlement,
                                         tokenweir_error **error);

/// Lets a permit live for `ttl_ns` nanoseconds from now on, for streams longer than the options' permit_ttl_ns.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_renew(const tokenweir_limiter *limiter,
                                       uint64_t id,
                                       uint64_t ttl_ns,
                                       const tokenweir_now *now,
                                       tokenweir_error **error);

/// Decides whether a request of this route may pass, as tokenweir_limiter_admit() does.
///
/// Codes: ESTIMATE_TOO_LARGE, PERMITS_EXHAUSTED, NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO; after a change of policy
/// also those of tokenweir_limiter_admit().
tokenweir_code tokenweir_route_admit(const tokenweir_route *route,
                                     const tokenweir_estimate *estimate,
                                     const tokenweir_now *now,
                                     tokenweir_decision *decision,
                                     tokenweir_denial **denial,
                                     tokenweir_error **error);

/// Settles a permit, as tokenweir_limiter_settle() does: any permit of the limiter, but quicker if this route admitted
/// it.
///
/// Codes: as tokenweir_limiter_settle().
tokenweir_code tokenweir_route_settle(const tokenweir_route *route,
                                      uint64_t id,
                                      const tokenweir_usage *usage,
                                      const tokenweir_now *now,
                                      tokenweir_settlement *settlement,
                                      tokenweir_error **error);

/// Cancels a permit, as tokenweir_limiter_cancel() does: any permit of the limiter, but quicker if this route admitted
/// it.
///
/// Codes: as tokenweir_limiter_cancel().
tokenweir_code tokenweir_route_cancel(const tokenweir_route *route,
                                      uint64_t id,
                                      const tokenweir_now *now,
                                      tokenweir_settlement *settlement,
                                      tokenweir_error **error);

/// Frees a route. NULL is fine. Its open permits stay open.
void tokenweir_route_free(tokenweir_route *route);

/// An open permit in JSON: under `remaining` what each enforced limit of its request has left now, by name; under
/// `shadow_refused` the shadow limits that would have refused it; and `spent`, as tokenweir_limiter_observe() has it.
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT.
tokenweir_code tokenweir_limiter_permit(const tokenweir_limiter *limiter,
                                        uint64_t id,
                                        const tokenweir_now *now,
                                        tokenweir_text **json,
                                        tokenweir_error **error);

/// What would come of a request now, in JSON, without taking anything: `admitted`, `denied` (null, or a denial as
/// tokenweir_denial_json() has it), and under `limits` what each limit of the request says: limit, mode, charge, amount,
/// remaining, fits, never_fits and wait_ns (0 if it fits, null if no waiting helps).
///
/// Codes: as tokenweir_limiter_route(), and ESTIMATE_TOO_LARGE.
tokenweir_code tokenweir_limiter_peek(const tokenweir_limiter *limiter,
                                      const tokenweir_request *request,
                                      const tokenweir_estimate *estimate,
                                      const tokenweir_now *now,
                                      tokenweir_text **json,
                                      tokenweir_error **error);

/// Every limit of the policy, in JSON: under `applied` those that the request meets, each as in tokenweir_limiter_peek()
/// with its `scope`, the counter's values; under `skipped` the others, each with the reason. Walks the whole policy.
///
/// Codes: as tokenweir_limiter_route(), and ESTIMATE_TOO_LARGE.
tokenweir_code tokenweir_limiter_explain(const tokenweir_limiter *limiter,
                                         const tokenweir_request *request,
                                         const tokenweir_estimate *estimate,
                                         const tokenweir_now *now,
                                         tokenweir_text **json,
                                         tokenweir_error **error);

/// The counters, in JSON, by limit and key: under `counters` each with limit, meter, scope (part to value; {"hex": ...}
/// if it is not UTF-8), amount, used, held, remaining (below 0 is debt), resets_at (null, or mono and wall in
/// nanoseconds) and settled_total. `filter` may be NULL: all. Walks all counters and open permits: for consoles, not for
/// the path of a request.
///
/// Codes: NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
tokenweir_code tokenweir_limiter_usage(const tokenweir_limiter *limiter,
                                       const tokenweir_usage_filter *filter,
                                       const tokenweir_now *now,
                                       tokenweir_text **json,
                                       tokenweir_error **error);

/// The limiter's own figures. Walks the open permits.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
tokenweir_code tokenweir_limiter_stats(const tokenweir_limiter *limiter,
                                       tokenweir_stats *stats,
                                       tokenweir_error **error);

/// The tokenweir_api that a URL's path names by its last segments, whatever stands before them; a query is ignored.
/// TOKENWEIR_API_NONE for what generates no tokens (/v1/models), what is not known, and what is not UTF-8.
uint32_t tokenweir_wire_api_of(const char *path, size_t length);

/// Reads a request: what it asks for, and what it may cost, by four characters to a token and the like. With api 0 the
/// path says which API it is, and what it says of model and stream goes before what the body says; otherwise the path is
/// not looked at. The whole body in one piece; memory beside it stays below 8 KiB.
///
/// Codes: BODY_INVALID, NULL_ARGUMENT, STRUCT_SIZE, ARGUMENT_INVALID (an api that is none, or a path that names none).
tokenweir_code tokenweir_wire_request_read(uint32_t api,
                                           const char *path,
                                           size_t path_length,
                                           const char *body,
                                           size_t body_length,
                                           tokenweir_asked *asked,
                                           tokenweir_error **error);

/// What to admit a request with: its estimated input, and the output that it states. Where it states none, what `rule`
/// says, cut to the limits that `request` meets. Nothing is taken from them.
///
/// Codes: as tokenweir_limiter_route().
tokenweir_code tokenweir_wire_estimate(const tokenweir_asked *asked,
                                       const tokenweir_output_rule *rule,
                                       const tokenweir_limiter *limiter,
                                       const tokenweir_request *request,
                                       tokenweir_estimate *estimate,
                                       tokenweir_error **error);

/// Has a stream end with its usage, which Chat Completions and Completions report only where the request asks for it.
/// `sent` is the body to send instead: the bytes that were given, with one insertion or replacement; NULL if they can be
/// sent as they are. `client_asked` may be NULL; otherwise 0 is put there if the client does not expect the usage, so that
/// a tokenweir_usage_chunk_filter should keep it back, and 1 if it does, or gets it from this API anyway.
///
/// Codes: BODY_INVALID, NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_wire_ask_usage(uint32_t api,
                                        const char *body,
                                        size_t length,
                                        uint32_t *client_asked,
                                        tokenweir_text **sent,
                                        tokenweir_error **error);

/// Makes a meter for one response of a tokenweir_api. `content_type` is the response's header: server-sent events if it is
/// text/event-stream, else JSON.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_response_meter_new(uint32_t api,
                                            const char *content_type,
                                            size_t length,
                                            tokenweir_response_meter **meter,
                                            tokenweir_error **error);

/// Takes the next chunk in; it may be cut anywhere. The bytes must be plain: what the upstream compressed is to be decoded
/// before. Nothing that comes is an error: what cannot be read is counted as text or left unknown. `output` may be NULL;
/// otherwise the output tokens are put there that it adds to earlier ones, to be given to tokenweir_limiter_observe().
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_response_meter_feed(const tokenweir_response_meter *meter,
                                             const char *chunk,
                                             size_t length,
                                             uint64_t *output,
                                             tokenweir_error **error);

/// What the response has used, if it ended here. Settle with measured->usage.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
tokenweir_code tokenweir_response_meter_measured(const tokenweir_response_meter *meter,
                                                 tokenweir_measured *measured,
                                                 tokenweir_error **error);

/// Frees a meter. NULL is fine.
void tokenweir_response_meter_free(tokenweir_response_meter *meter);

/// Makes a filter for one stream.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_usage_chunk_filter_new(tokenweir_usage_chunk_filter **filter, tokenweir_error **error);

/// Takes the next chunk in, and puts out what the client may have: `written` bytes at `out`, which has room for
/// `capacity`, at least length + TOKENWEIR_MOST_HELD.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID. Nothing has changed then.
tokenweir_code tokenweir_usage_chunk_filter_feed(const tokenweir_usage_chunk_filter *filter,
                                                 const char *chunk,
                                                 size_t length,
                                                 char *out,
                                                 size_t capacity,
                                                 size_t *written,
                                                 tokenweir_error **error);

/// The stream is over: puts out what was held back of an event without an end, at most TOKENWEIR_MOST_HELD bytes. The
/// filter is then as new.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID. Nothing has changed then.
tokenweir_code tokenweir_usage_chunk_filter_finish(const tokenweir_usage_chunk_filter *filter,
                                                   char *out,
                                                   size_t capacity,
                                                   size_t *written,
                                                   tokenweir_error **error);

/// Frees a filter. NULL is fine.
void tokenweir_usage_chunk_filter_free(tokenweir_usage_chunk_filter *filter);

/// The answer to a request that was denied, in a tokenweir_dialect: status, headers (how the limits stand, when to come
/// back, which limit refused, the body's type) and body. `with_ietf` 1: with RateLimit-Policy and RateLimit of the IETF
/// draft besides. `limiter` is the one that denied it, `now` the time of the denial.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_answer_refused(const tokenweir_limiter *limiter,
                                        const tokenweir_denial *denial,
                                        uint32_t dialect,
                                        uint32_t with_ietf,
                                        const tokenweir_now *now,
                                        tokenweir_answer **answer,
                                        tokenweir_error **error);

/// The headers for a request that was admitted: how the limits that its permit met stand. Ask before it is settled.
/// `with_ietf` as in tokenweir_answer_refused().
///
/// Codes: PERMIT_SETTLED, PERMIT_UNKNOWN, NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_answer_admitted(const tokenweir_limiter *limiter,
                                         uint64_t id,
                                         uint32_t dialect,
                                         uint32_t with_ietf,
                                         const tokenweir_now *now,
                                         tokenweir_answer **answer,
                                         tokenweir_error **error);

/// The answer to a request that failed in another way, by its HTTP status (400 to 599): a key that is missing, a model that
/// is not there, an upstream that does not answer. `message` says what, in UTF-8. Its headers are the body's type and, where
/// trying again cannot help, `x-should-retry: false`, which the official OpenAI and Anthropic clients heed.
///
/// Codes: NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
tokenweir_code tokenweir_answer_failed(uint32_t dialect,
                                       uint32_t status,
                                       const char *message,
                                       size_t length,
                                       tokenweir_answer **answer,
                                       tokenweir_error **error);

/// Reads an answer's parts.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
tokenweir_code tokenweir_answer_read(const tokenweir_answer *answer,
                                     tokenweir_answer_view *view,
                                     tokenweir_error **error);

/// Frees an answer. NULL is fine.
void tokenweir_answer_free(tokenweir_answer *answer);

/// What the headers of an upstream's response say of its own limits, in JSON: under `requests`, `tokens`, `input_tokens`,
/// `output_tokens`, `project_tokens` and `quota_tokens` each limit, remaining and reset_ns; under `named` those of the IETF
/// draft with name, unit and window_ns besides; retry_after_ns. What is not said is null, and a header that cannot be read
/// is as if it were not there. `now` is when the response came; NULL: the system's time.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID.
tokenweir_code tokenweir_wire_upstream_limits(const tokenweir_key *headers,
                                              size_t count,
                                              const tokenweir_now *now,
                                              tokenweir_text **json,
                                              tokenweir_error **error);

/// Begins with a call that `limiter` admitted as `permit`, for `estimate`, and that is sent. `api` is a tokenweir_api;
/// TOKENWEIR_API_NONE: its response says nothing of tokens. `rules` may be NULL: the default ones.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID, PERMIT_UNKNOWN (0).
tokenweir_code tokenweir_exchange_new(const tokenweir_limiter *limiter,
                                      uint32_t api,
                                      uint64_t permit_id,
                                      const tokenweir_estimate *estimate,
                                      const tokenweir_call_rules *rules,
                                      const tokenweir_now *now,
                                      tokenweir_exchange **exchange,
                                      tokenweir_error **error);

/// Whether the permit has expired before the answer came (1 is put at `expired`, else 0), so that the answer would be had for
/// the estimate, whatever it says: 504 is for the client then.
///
/// Codes: NULL_ARGUMENT.
tokenweir_code tokenweir_exchange_has_expired(const tokenweir_exchange *exchange,
                                              const tokenweir_now *now,
                                              uint32_t *expired,
                                              tokenweir_error **error);

/// The head of the response has come.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID (a dialect or status that is none),
/// CALL_ORDER (it came before).
tokenweir_code tokenweir_exchange_answered(const tokenweir_exchange *exchange,
                                           const tokenweir_response_head *head,
                                           tokenweir_error **error);

/// Whether what goes to the client is as long as what comes (1), unless the permit expires: if not, Content-Length has to go. 1
/// before the head has come, and for NULL.
uint32_t tokenweir_exchange_keeps_length(const tokenweir_exchange *exchange);

/// The next piece of the response has come; it may be cut anywhere, and its bytes are plain. `last` 1: no more will come; the
/// piece may be empty then. What goes to the client is put at `instead`: the bytes to send instead of the piece, which may be
/// none; NULL: the piece as it is. 1 is put at `ends` if the response ends with it though it has not come to its end,
/// otherwise 0.
///
/// Codes: NULL_ARGUMENT, ARGUMENT_INVALID, CALL_ORDER (the head comes first).
tokenweir_code tokenweir_exchange_passes(const tokenweir_exchange *exchange,
                                         const char *piece,
                                         size_t length,
                                         uint32_t last,
                                         const tokenweir_now *now,
                                         tokenweir_text **instead,
                                         uint32_t *ends,
                                         tokenweir_error **error);

/// By what the permit is to be settled if the call ends here: at its end, at the client's, or at the provider's. `unanswered`
/// 1: it was sent, and there will be no answer.
///
/// Codes: NULL_ARGUMENT, STRUCT_SIZE.
tokenweir_code tokenweir_exchange_used(const tokenweir_exchange *exchange,
                                       uint32_t unanswered,
                                       tokenweir_usage *usage,
                                       tokenweir_error **error);

/// Frees an exchange; its permit stays open. NULL is fine.
void tokenweir_exchange_free(tokenweir_exchange *exchange);

/// Makes a console without resources. `options` is a JSON object of `length` bytes, in which each field may be absent, or
/// nothing, for every default: `profile` (how gateways count and answer: as API Management does; null: as limiters do),
/// `provider` ({"ready_after": seconds, "delete_after": seconds, ...}: how long instances take), `time` ("system", or
/// "given": by commands, as `now`), `records` (how many usage records are kept), `max_calls`, `max_counters`,
/// `call_ttl_seconds`. `clock` is where the time comes from unless commands give it; NULL: the system's clocks.
///
/// Codes: OPTIONS_INVALID, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
tokenweir_code tokenweir_console_new(const char *options,
                                     size_t length,
                                     const tokenweir_clock *clock,
                                     tokenweir_console **console,
                                     tokenweir_error **error);

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
tokenweir_code tokenweir_console_command(const tokenweir_console *console,
                                         const char *command,
                                         size_t length,
                                         tokenweir_text **answer,
                                         uint32_t *refused,
                                         tokenweir_error **error);

/// Frees a console. NULL is fine. Calls that are under way end as dropped.
void tokenweir_console_free(tokenweir_console *console);

/// The gate of the resource of this name, for calls that are not to pass through JSON. It follows what is administered on
/// the console until the gateway is deleted or a document is loaded; ask for it again then.
///
/// Codes: RESOURCE_UNKNOWN, NULL_ARGUMENT, UTF8_INVALID, ARGUMENT_INVALID.
tokenweir_code tokenweir_console_gate(const tokenweir_console *console,
                                      const char *resource,
                                      size_t length,
                                      tokenweir_gate **gate,
                                      tokenweir_error **error);

/// Frees a gate. NULL is fine.
void tokenweir_gate_free(tokenweir_gate *gate);

/// Decides on a call: it passes, governed or not, or it is refused, in which case it has been counted and recorded.
///
/// OK both ways: `passage` is where a call that passes is put, to be ended, and NULL if it is refused. `answer` may be NULL;
/// otherwise what the caller is told is put there: a refusal, or the headers of a call that passes, with status 0, all as
/// the console's profile words them.
///
/// Codes: as tokenweir_limiter_admit(); the call is recorded as failed then, and no limit has been charged. Not recorded:
/// NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO, ARGUMENT_INVALID.
tokenweir_code tokenweir_gate_admit(const tokenweir_gate *gate,
                                    const tokenweir_call *call,
                                    const tokenweir_now *now,
                                    tokenweir_verdict *verdict,
                                    tokenweir_passage **passage,
                                    tokenweir_answer **answer,
                                    tokenweir_error **error);

/// Reports tokens that a stream has brought, as tokenweir_limiter_observe() does. A call that bypasses is charged nothing.
///
/// Codes: PERMIT_SETTLED, USAGE_INVALID, NULL_ARGUMENT.
tokenweir_code tokenweir_passage_observe(const tokenweir_passage *passage,
                                         uint64_t input,
                                         uint64_t output,
                                         const tokenweir_now *now,
                                         uint32_t *spent,
                                         tokenweir_error **error);

/// Lets the call's permit live for `ttl_ns` nanoseconds from now on, as tokenweir_limiter_renew() does: for streams that take
/// longer than the console's call_ttl_seconds. A call that bypasses has none, and needs none.
///
/// Codes: PERMIT_SETTLED if the call has ended or its permit has expired, NULL_ARGUMENT.
tokenweir_code tokenweir_passage_renew(const tokenweir_passage *passage,
                                       uint64_t ttl_ns,
                                       const tokenweir_now *now,
                                       tokenweir_error **error);

/// Ends the call with what is known of its end. `settlement` may be NULL; of a call that bypassed there is nothing to
/// settle, and its outcome is TOKENWEIR_OUTCOME_NONE.
///
/// Codes: USAGE_INVALID, after which what was charged stands; PERMIT_SETTLED if the call has ended or its permit has
/// expired. With either the call has ended. Without anything having changed: NULL_ARGUMENT, UTF8_INVALID, STRUCT_SIZE,
/// RESERVED_NOT_ZERO, ARGUMENT_INVALID.
tokenweir_code tokenweir_passage_settle(const tokenweir_passage *passage,
                                        const tokenweir_completion *completion,
                                        const tokenweir_now *now,
                                        tokenweir_settlement *settlement,
                                        tokenweir_error **error);

/// Ends a call that never reached the provider: nothing is charged for it. `settlement` as in
/// tokenweir_passage_settle().
///
/// Codes: PERMIT_SETTLED, NULL_ARGUMENT, STRUCT_SIZE.
tokenweir_code tokenweir_passage_cancel(const tokenweir_passage *passage,
                                        const tokenweir_now *now,
                                        tokenweir_settlement *settlement,
                                        tokenweir_error **error);

/// Frees a passage; a call that has not ended ends, and what it was charged stands. NULL is fine.
void tokenweir_passage_free(tokenweir_passage *passage);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/* ---- What prepares the structs above ---- */

/// The tokens that a request is expected to take.
static inline tokenweir_estimate tokenweir_estimate_of(uint64_t input, uint64_t output)
{
    tokenweir_estimate estimate;
    memset(&estimate, 0, sizeof estimate);
    estimate.size = (uint32_t)sizeof estimate;
    estimate.input = input;
    estimate.output = output;
    return estimate;
}

/// The default rules.
static inline tokenweir_call_rules tokenweir_call_rules_init(void)
{
    tokenweir_call_rules rules;
    memset(&rules, 0, sizeof rules);
    rules.size = (uint32_t)sizeof rules;
    return rules;
}

/// The head of a response of this status and type (a string; may be NULL), whose client is told things in this
/// tokenweir_dialect.
static inline tokenweir_response_head tokenweir_response_head_of(uint32_t status, const char *content_type,
                                                                 uint32_t dialect)
{
    tokenweir_response_head head;
    memset(&head, 0, sizeof head);
    head.size = (uint32_t)sizeof head;
    head.status = status;
    head.dialect = dialect;
    head.content_type = content_type;
    head.content_type_length = content_type ? strlen(content_type) : 0;
    return head;
}

/// A usage of which nothing is known: the estimate stands.
static inline tokenweir_usage tokenweir_usage_unknown(void)
{
    tokenweir_usage usage;
    memset(&usage, 0, sizeof usage);
    usage.size = (uint32_t)sizeof usage;
    usage.input = usage.cached_input = usage.output = TOKENWEIR_ABSENT;
    return usage;
}

/// The tokens that a provider reported, none of them cached; set cached_input where some were.
static inline tokenweir_usage tokenweir_usage_of(uint64_t input, uint64_t output)
{
    tokenweir_usage usage = tokenweir_usage_unknown();
    usage.input = input;
    usage.output = output;
    return usage;
}

/// A name and a value that end with a NUL. The pointers are kept in it.
static inline tokenweir_key tokenweir_key_of(const char *name, const char *value)
{
    tokenweir_key key;
    key.name = name;
    key.name_length = name ? strlen(name) : 0;
    key.value = value;
    key.value_length = value ? strlen(value) : 0;
    return key;
}

/// A request without caller keys, of names that end with a NUL. The pointers are kept in it.
static inline tokenweir_request tokenweir_request_of(const char *project, const char *deployment)
{
    tokenweir_request request;
    memset(&request, 0, sizeof request);
    request.size = (uint32_t)sizeof request;
    request.project = project;
    request.project_length = project ? strlen(project) : 0;
    request.deployment = deployment;
    request.deployment_length = deployment ? strlen(deployment) : 0;
    return request;
}

/// Room for a decision.
static inline tokenweir_decision tokenweir_decision_init(void)
{
    tokenweir_decision decision;
    memset(&decision, 0, sizeof decision);
    decision.size = (uint32_t)sizeof decision;
    return decision;
}

/// Room for a settlement.
static inline tokenweir_settlement tokenweir_settlement_init(void)
{
    tokenweir_settlement settlement;
    memset(&settlement, 0, sizeof settlement);
    settlement.size = (uint32_t)sizeof settlement;
    return settlement;
}

/// Every option as it is by default.
static inline tokenweir_options tokenweir_options_init(void)
{
    tokenweir_options options;
    memset(&options, 0, sizeof options);
    options.size = (uint32_t)sizeof options;
    return options;
}

/// A store in this file, of a name that ends with a NUL, which renews its leases in the background. The pointers are kept in
/// it.
static inline tokenweir_store_options tokenweir_store_options_of(const tokenweir_quota_file *file, const char *name)
{
    tokenweir_store_options options;
    memset(&options, 0, sizeof options);
    options.size = (uint32_t)sizeof options;
    options.file = file;
    options.name = name;
    options.name_length = name ? strlen(name) : 0;
    return options;
}

/// A region with room for what is usual.
static inline tokenweir_region_layout tokenweir_region_layout_init(void)
{
    tokenweir_region_layout layout;
    memset(&layout, 0, sizeof layout);
    layout.size = (uint32_t)sizeof layout;
    return layout;
}

/// A filter that lets every counter pass.
static inline tokenweir_usage_filter tokenweir_usage_filter_init(void)
{
    tokenweir_usage_filter filter;
    memset(&filter, 0, sizeof filter);
    filter.size = (uint32_t)sizeof filter;
    return filter;
}

/// Room for a limiter's figures.
static inline tokenweir_stats tokenweir_stats_init(void)
{
    tokenweir_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.size = (uint32_t)sizeof stats;
    return stats;
}

/// Room for a record's fields.
static inline tokenweir_record_view tokenweir_record_view_init(void)
{
    tokenweir_record_view view;
    memset(&view, 0, sizeof view);
    view.size = (uint32_t)sizeof view;
    return view;
}

/// Room for what a request asks for.
static inline tokenweir_asked tokenweir_asked_init(void)
{
    tokenweir_asked asked;
    memset(&asked, 0, sizeof asked);
    asked.size = (uint32_t)sizeof asked;
    return asked;
}

/// Room for what a response has used.
static inline tokenweir_measured tokenweir_measured_init(void)
{
    tokenweir_measured measured;
    memset(&measured, 0, sizeof measured);
    measured.size = (uint32_t)sizeof measured;
    return measured;
}

/// Room for an answer's parts.
static inline tokenweir_answer_view tokenweir_answer_view_init(void)
{
    tokenweir_answer_view view;
    memset(&view, 0, sizeof view);
    view.size = (uint32_t)sizeof view;
    return view;
}

/// So many output tokens for each answer of a request that states no bound, within a quarter of any limit.
static inline tokenweir_output_rule tokenweir_output_rule_of(uint64_t tokens)
{
    tokenweir_output_rule rule;
    memset(&rule, 0, sizeof rule);
    rule.size = (uint32_t)sizeof rule;
    rule.tokens = tokens;
    return rule;
}

/// A call to a model deployment, of names that end with a NUL, without an estimate. The pointers are kept in it.
static inline tokenweir_call tokenweir_call_of(const char *project, const char *deployment)
{
    tokenweir_call call;
    memset(&call, 0, sizeof call);
    call.size = (uint32_t)sizeof call;
    call.project = project;
    call.project_length = project ? strlen(project) : 0;
    call.deployment = deployment;
    call.deployment_length = deployment ? strlen(deployment) : 0;
    call.estimated_input = call.estimated_output = TOKENWEIR_ABSENT;
    return call;
}

/// Room for a verdict.
static inline tokenweir_verdict tokenweir_verdict_init(void)
{
    tokenweir_verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    verdict.size = (uint32_t)sizeof verdict;
    return verdict;
}

/// A call that went well and took so many tokens.
static inline tokenweir_completion tokenweir_completion_of(uint64_t input, uint64_t output)
{
    tokenweir_completion completion;
    memset(&completion, 0, sizeof completion);
    completion.size = (uint32_t)sizeof completion;
    completion.response_code = completion.backend_response_code = 200;
    completion.usage = tokenweir_usage_of(input, output);
    completion.reasoning = completion.backend_ns = completion.first_token_ns = TOKENWEIR_ABSENT;
    return completion;
}

#endif /* TOKENWEIR_H */
