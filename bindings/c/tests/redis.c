/* Limits on a real server: `redis redis://127.0.0.1:PORT PID [ADDRESS...]`, the others a cluster and sentinels. One limit for all processes, permits settled by id in another,
 * what is decided while the server does not answer, what a fork gets, and every error of it. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <tokenweir_redis.h>

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AMOUNT = 1000, WORKERS = 4 };
static const char POLICY[] = "[[limit]]\nname = 'total'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1_000\n"
                             "period = 'never'\nscope = ['project']\n";
static const char PLACES[] = "[[limit]]\nname = 'at once'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3\n";

static const char *server;
static pid_t server_process;

/* Counters of its own for each scene and run. */
static tokenweir_redis_options options_of(const char *prefix)
{
    static char own[64];
    tokenweir_redis_options options = tokenweir_redis_options_init();
    snprintf(own, sizeof own, "%s %ld", prefix, (long)getpid());
    options.prefix = own;
    options.prefix_length = strlen(own);
    /* Where the machine is busy an answer is late, but it comes. */
    options.deadline_ns = UINT64_C(20000000000);
    return options;
}

static tokenweir_code connected(const char *address, const tokenweir_redis_options *options, tokenweir_redis **redis,
                                tokenweir_error **error)
{
    tokenweir_policy *policy = policy_of(POLICY);
    tokenweir_code code = tokenweir_redis_connect(address, strlen(address), policy, options, redis, error);
    tokenweir_policy_free(policy);
    return code;
}

static tokenweir_redis *redis_with(const tokenweir_redis_options *options)
{
    tokenweir_redis *redis = NULL;
    DONE(connected(server, options, &redis, &error));
    return redis;
}

static tokenweir_decision asked(const tokenweir_redis *redis, uint64_t tokens, uint32_t *by)
{
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(tokens, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    DONE(tokenweir_redis_admit(redis, &request, &estimate, &decision, by, NULL, &error));
    return decision;
}

static void holds(tokenweir_text *text, const char *wanted)
{
    if (strstr(tokenweir_text_chars(text), wanted) == NULL) {
        fprintf(stderr, "%s has no %s\n", tokenweir_text_chars(text), wanted);
        exit(1);
    }
    tokenweir_text_free(text);
}

static void left_is(const tokenweir_redis *redis, const char *wanted)
{
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_text *text = NULL;
    DONE(tokenweir_redis_remaining(redis, &request, &text, &error));
    holds(text, wanted);
}

static void a_request_is_decided_held_and_settled(void)
{
    tokenweir_redis_options options = options_of("life");
    tokenweir_redis *redis = redis_with(&options), *other = redis_with(&options);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(600, 0), large = tokenweir_estimate_of(401, 0);
    tokenweir_usage usage = tokenweir_usage_of(100, 50);
    tokenweir_decision decision = tokenweir_decision_init(), refused = tokenweir_decision_init();
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_denial *denial = NULL;
    tokenweir_text *text = NULL;
    tokenweir_policy *policy;
    uint32_t by = 9, spent = 9, told = 9;

    DONE(tokenweir_redis_admit(redis, &request, &estimate, &decision, &by, &denial, &error));
    CHECK(decision.admitted == 1 && decision.permit != 0 && by == TOKENWEIR_BY_SERVER && denial == NULL);
    DONE(tokenweir_redis_admit(other, &request, &large, &refused, &by, &denial, &error));
    CHECK(refused.admitted == 0 && refused.status == 403 && refused.remaining == 400 && by == TOKENWEIR_BY_SERVER);
    CHECK(strcmp(refused.limit, "total") == 0 && refused.refusals == 1);
    DONE(tokenweir_denial_json(denial, &text, &error));
    holds(text, "\"remaining\":{\"total\":400}");
    tokenweir_denial_free(denial);

    DONE(tokenweir_redis_observe(redis, decision.permit, NULL, 0, 300, &spent, &error));
    CHECK(spent == 0);
    left_is(redis, "\"remaining\":100");
    DONE(tokenweir_redis_observe(redis, decision.permit, NULL, 0, 100, &spent, &error));
    CHECK(spent == 1);
    DONE(tokenweir_redis_renew(redis, decision.permit, NULL, UINT64_C(3600000000000), &error));
    /* By its id in another limiter, once. */
    DONE(tokenweir_redis_settle(other, decision.permit, NULL, &usage, &settlement, &told, &error));
    CHECK(settlement.outcome == TOKENWEIR_OUTCOME_SETTLED && settlement.input == 100 && settlement.output == 50);
    CHECK(settlement.permit == decision.permit && told == 1);
    left_is(redis, "\"remaining\":850");
    left_is(redis, "\"charged_total\":150");
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, NULL, &error));

    decision = asked(redis, 850, NULL);
    DONE(tokenweir_redis_cancel(redis, decision.permit, &request, &settlement, &told, &error));
    CHECK(settlement.outcome == TOKENWEIR_OUTCOME_CANCELLED && told == 1);
    left_is(redis, "\"remaining\":850");
    decision = asked(redis, 50, NULL);
    DONE(tokenweir_redis_abandon(redis, decision.permit, NULL, &error));
    DONE(tokenweir_redis_flush(redis, UINT64_C(20000000000), &told, &error));
    CHECK(told == 1);
    left_is(redis, "\"remaining\":800");
    /* What cannot be ends the permit, and its estimate stands. */
    decision = asked(redis, 50, NULL);
    usage.cached_input = usage.input + 1;
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, NULL, &error));
    DONE(tokenweir_redis_flush(redis, UINT64_C(20000000000), NULL, &error));
    left_is(redis, "\"remaining\":750");

    policy = policy_of(PLACES);
    DONE(tokenweir_redis_set_policy(redis, policy, &error));
    tokenweir_policy_free(policy);
    left_is(redis, "\"charged_total\":null");
    DONE(tokenweir_redis_stats(redis, &text, &error));
    holds(text, "\"up\":true");
    tokenweir_redis_free(redis);
    tokenweir_redis_free(other);
}

/* What is used of every limit, and places that nobody holds on to. */
static void counters_are_seen_and_places_come_back(void)
{
    tokenweir_redis_options options = options_of("seen");
    tokenweir_redis *redis;
    tokenweir_policy *policy = policy_of(PLACES);
    tokenweir_usage_filter filter = tokenweir_usage_filter_init();
    tokenweir_text *text = NULL;
    const struct timespec pause = { 0, 10000000 };
    int held = 0;

    options.place_ttl_ns = UINT64_C(300000000);
    redis = redis_with(&options);
    DONE(tokenweir_redis_usage(redis, NULL, &text, &error));
    holds(text, "{\"counters\":[]}");
    CHECK(asked(redis, 400, NULL).admitted == 1);
    DONE(tokenweir_redis_usage(redis, NULL, &text, &error));
    holds(text, "\"used\":400");
    filter.limit = "total";
    filter.limit_length = strlen(filter.limit);
    DONE(tokenweir_redis_usage(redis, &filter, &text, &error));
    holds(text, "\"scope\":{\"project\":\"search\"}");
    filter.limit = "other";
    filter.limit_length = strlen(filter.limit);
    DONE(tokenweir_redis_usage(redis, &filter, &text, &error));
    holds(text, "{\"counters\":[]}");
    filter.size--;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_redis_usage(redis, &filter, &text, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_usage(NULL, NULL, &text, &error));

    DONE(tokenweir_redis_set_policy(redis, policy, &error));
    tokenweir_policy_free(policy);
    while (asked(redis, 1, NULL).admitted)
        CHECK(++held < 1000);
    CHECK(held >= 3);
    /* Their permits live for ten minutes. */
    for (int turn = 0; asked(redis, 1, NULL).admitted == 0; turn++) {
        CHECK(turn < 1000);
        nanosleep(&pause, NULL);
    }
    tokenweir_redis_free(redis);
}

static void leases_are_spent_here(void)
{
    tokenweir_redis_options options = options_of("leases");
    tokenweir_usage usage = tokenweir_usage_of(1, 0);
    tokenweir_redis *redis;
    uint32_t by, told, leased = 0;
    int count = 0;

    options.leases = 1;
    options.lease_part = 4;
    redis = redis_with(&options);
    for (int turn = 0; turn < AMOUNT + 100; turn++) {
        tokenweir_decision decision = asked(redis, 1, &by);
        if (!decision.admitted) {
            /* What is on its way back to the server is not lost. */
            DONE(tokenweir_redis_flush(redis, UINT64_C(20000000000), NULL, &error));
            decision = asked(redis, 1, &by);
        }
        if (!decision.admitted)
            break;
        leased += by == TOKENWEIR_BY_LEASE;
        DONE(tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, &told, &error));
        CHECK(told == 1);
        count++;
    }
    CHECK(leased > 0 && count == AMOUNT);
    tokenweir_redis_free(redis);
}

/* A wrong address is told from a server that is away. */
static void a_server_that_lets_nobody_in_says_why(void)
{
    tokenweir_redis_options options = options_of("stranger");
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_redis *redis = NULL;
    tokenweir_text *text = NULL;
    tokenweir_error *said = NULL;
    char address[64];

    CHECK((size_t)snprintf(address, sizeof address, "%s/99", server) < sizeof address);
    DONE(connected(address, &options, &redis, &error));
    DONE(tokenweir_redis_stats(redis, &text, &error));
    CHECK(strstr(tokenweir_text_chars(text), "\"up\":false") != NULL);
    holds(text, "database");
    CHECK(tokenweir_redis_remaining(redis, &request, &text, &said) == TOKENWEIR_REDIS_AWAY);
    CHECK(strstr(tokenweir_error_message(said), "database") != NULL);
    tokenweir_error_free(said);
    tokenweir_redis_free(redis);
    redis = redis_with(&options);
    DONE(tokenweir_redis_stats(redis, &text, &error));
    holds(text, "\"why\":null");
    tokenweir_redis_free(redis);
}

static void a_server_that_does_not_answer_gives_what_was_chosen(void)
{
    static const uint32_t DECIDED[] = { TOKENWEIR_BY_OUTAGE_DENIED, TOKENWEIR_BY_OUTAGE_ALLOWED,
                                        TOKENWEIR_BY_LOCAL_SHARE };
    tokenweir_redis_options options = options_of("away");
    tokenweir_redis *redis;
    tokenweir_text *text = NULL;
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_usage usage = tokenweir_usage_of(1, 0);

    for (uint32_t when_away = 0; when_away < 3; when_away++) {
        tokenweir_decision decision;
        uint32_t by = 9, told = 9;
        options.deadline_ns = 20000000;
        options.when_away = when_away;
        options.per_mille = when_away == TOKENWEIR_WHEN_AWAY_LOCAL_SHARE ? 100 : 0;
        redis = redis_with(&options);
        CHECK(kill(server_process, SIGSTOP) == 0);
        decision = asked(redis, 90, &by);
        CHECK(by == DECIDED[when_away] && decision.admitted == (when_away != TOKENWEIR_WHEN_AWAY_DENY));
        if (decision.admitted) {
            DONE(tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, &told, &error));
            CHECK(told == 0);
        } else {
            CHECK(decision.status == 503 && decision.limit[0] == 0 && decision.permit == 0);
            CHECK(decision.retry_after_ns == TOKENWEIR_ABSENT);
        }
        GIVES(TOKENWEIR_REDIS_AWAY, tokenweir_redis_remaining(redis, &request, &text, &error));
        CHECK(text == NULL);
        DONE(tokenweir_redis_stats(redis, &text, &error));
        holds(text, "\"late\":");
        CHECK(kill(server_process, SIGCONT) == 0);
        tokenweir_redis_free(redis);
    }
}

/* Workers that want more than there is have admitted exactly that, all together. */
static void a_limit_counts_once(void)
{
    tokenweir_redis_options options = options_of("workers");
    tokenweir_usage usage = tokenweir_usage_of(1, 0);
    pid_t workers[WORKERS];
    int counts[2];
    unsigned long long all = 0;

    CHECK(pipe(counts) == 0);
    for (int at = 0; at < WORKERS; at++) {
        workers[at] = fork();
        CHECK(workers[at] >= 0);
        if (workers[at] == 0) {
            tokenweir_redis *redis = redis_with(&options);
            unsigned long long count = 0;
            for (int turn = 0; turn < AMOUNT / 2; turn++) {
                tokenweir_decision decision = asked(redis, 1, NULL);
                if (!decision.admitted)
                    continue;
                DONE(tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, NULL, &error));
                count++;
            }
            CHECK(write(counts[1], &count, sizeof count) == (ssize_t)sizeof count);
            tokenweir_redis_free(redis);
            /* Not by exit, where Valgrind would count what the parent has. */
            raise(SIGKILL);
        }
    }
    for (int at = 0; at < WORKERS; at++) {
        unsigned long long count;
        int status;
        CHECK(waitpid(workers[at], &status, 0) == workers[at]);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK(read(counts[0], &count, sizeof count) == (ssize_t)sizeof count);
        all += count;
    }
    CHECK(all == AMOUNT);
    CHECK(close(counts[0]) == 0 && close(counts[1]) == 0);
}

/* A limiter is not taken along by a fork. The child is told, frees it without harm, and its parent goes on. */
static void a_fork_makes_its_own_limiter(void)
{
    tokenweir_redis_options options = options_of("forked");
    tokenweir_redis *redis = redis_with(&options);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    uint64_t permit = asked(redis, 100, NULL).permit;
    pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        tokenweir_redis *own;
        tokenweir_text *text = NULL;
        GIVES(TOKENWEIR_REDIS_FORKED,
              tokenweir_redis_admit(redis, &request, &estimate, &decision, NULL, NULL, &error));
        GIVES(TOKENWEIR_REDIS_FORKED, tokenweir_redis_abandon(redis, permit, NULL, &error));
        GIVES(TOKENWEIR_REDIS_FORKED, tokenweir_redis_stats(redis, &text, &error));
        tokenweir_redis_free(redis);
        own = redis_with(&options);
        CHECK(asked(own, 500, NULL).admitted);
        tokenweir_redis_free(own);
        raise(SIGKILL);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    left_is(redis, "\"remaining\":400");
    DONE(tokenweir_redis_cancel(redis, permit, NULL, NULL, NULL, &error));
    left_is(redis, "\"remaining\":500");
    tokenweir_redis_free(redis);
}

static void hostile_arguments(void)
{
    tokenweir_redis_options options = options_of("hostile"), valid = options;
    tokenweir_redis *redis = redis_with(&options), *none = redis;
    tokenweir_policy *policy = policy_of(POLICY);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o"), nobody = tokenweir_request_of("", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 0);
    tokenweir_usage usage = tokenweir_usage_of(1, 0);
    tokenweir_decision decision = tokenweir_decision_init(), small = decision;
    tokenweir_text *text = NULL;
    uint64_t permit = asked(redis, 1, NULL).permit;

    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_connect(NULL, 1, policy, NULL, &none, &error));
    CHECK(none == NULL);
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_connect(server, strlen(server), NULL, NULL, &none, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_connect(server, strlen(server), policy, NULL, NULL, &error));
    GIVES(TOKENWEIR_REDIS_ADDRESS, tokenweir_redis_connect("", 0, policy, NULL, &none, &error));
    GIVES(TOKENWEIR_REDIS_ADDRESS, tokenweir_redis_connect("localhost", 9, policy, NULL, &none, &error));
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_redis_connect("\xff", 1, policy, NULL, &none, &error));

#define WRONG(code, change)                                                                                            \
    do {                                                                                                               \
        change;                                                                                                        \
        GIVES(code, connected(server, &options, &none, &error));                                                       \
        CHECK(none == NULL);                                                                                           \
        options = valid;                                                                                               \
    } while (0)
#define TEXT(field, value) (options.field = (value), options.field##_length = sizeof(value) - 1)
    WRONG(TOKENWEIR_STRUCT_SIZE, options.size--);
    WRONG(TOKENWEIR_RESERVED_NOT_ZERO, options.reserved0 = 1);
    WRONG(TOKENWEIR_RESERVED_NOT_ZERO, options.reserved[3] = 1);
    WRONG(TOKENWEIR_ARGUMENT_INVALID, options.when_away = 3);
    WRONG(TOKENWEIR_ARGUMENT_INVALID, options.leases = 2);
    WRONG(TOKENWEIR_ARGUMENT_INVALID, options.lease_life_ns = UINT64_C(1000000000));
    WRONG(TOKENWEIR_ARGUMENT_INVALID, options.lease_part = 8);
    WRONG(TOKENWEIR_ARGUMENT_INVALID, options.per_mille = 100);
    WRONG(TOKENWEIR_ARGUMENT_INVALID, (options.when_away = TOKENWEIR_WHEN_AWAY_ALLOW, options.per_mille = 100));
    WRONG(TOKENWEIR_ARGUMENT_INVALID, TEXT(slot_by, "user"));
    WRONG(TOKENWEIR_REDIS_ACROSS_SLOTS, TEXT(slot_by, "deployment"));
    WRONG(TOKENWEIR_REDIS_SETTING, options.deadline_ns = 1);
    WRONG(TOKENWEIR_REDIS_SETTING, options.deadline_ns = UINT64_MAX);
    WRONG(TOKENWEIR_REDIS_SETTING, options.permit_ttl_ns = 1);
    WRONG(TOKENWEIR_REDIS_SETTING, options.place_ttl_ns = 1);
    WRONG(TOKENWEIR_REDIS_SETTING, options.back_off_ns = 1);
    WRONG(TOKENWEIR_REDIS_SETTING, options.when_away = TOKENWEIR_WHEN_AWAY_LOCAL_SHARE);
    WRONG(TOKENWEIR_REDIS_SETTING, (options.leases = 1, options.lease_life_ns = 1));
    WRONG(TOKENWEIR_REDIS_SETTING, (options.leases = 1, options.lease_part = 1));
    WRONG(TOKENWEIR_REDIS_SETTING, TEXT(prefix, "{"));
    WRONG(TOKENWEIR_UTF8_INVALID, TEXT(prefix, "\xff"));
    WRONG(TOKENWEIR_REDIS_CERTIFICATE, TEXT(trusting, "no certificate"));
    WRONG(TOKENWEIR_REDIS_CERTIFICATE, TEXT(certificate, "no certificate"));
    WRONG(TOKENWEIR_NULL_ARGUMENT, (options.key = NULL, options.key_length = 1));

    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_admit(NULL, &request, &estimate, &decision, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_admit(redis, NULL, &estimate, &decision, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_admit(redis, &request, NULL, &decision, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_admit(redis, &request, &estimate, NULL, NULL, NULL, &error));
    GIVES(TOKENWEIR_EMPTY_KEY, tokenweir_redis_admit(redis, &nobody, &estimate, &decision, NULL, NULL, &error));
    small.size--;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_redis_admit(redis, &request, &estimate, &small, NULL, NULL, &error));
    estimate.input = UINT64_MAX;
    GIVES(TOKENWEIR_ESTIMATE_TOO_LARGE,
          tokenweir_redis_admit(redis, &request, &estimate, &decision, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_observe(NULL, permit, NULL, 1, 1, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_UNKNOWN, tokenweir_redis_observe(redis, 0, NULL, 1, 1, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_redis_observe(redis, 2, NULL, 1, 1, NULL, &error));
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_redis_observe(redis, permit, NULL, UINT64_MAX, 1, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_settle(NULL, permit, NULL, &usage, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_settle(redis, permit, NULL, NULL, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_cancel(NULL, permit, NULL, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_abandon(NULL, permit, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_renew(NULL, permit, NULL, 1, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_redis_renew(redis, 2, NULL, 1, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_remaining(NULL, &request, &text, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_remaining(redis, &request, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_set_policy(redis, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_stats(NULL, &text, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_redis_flush(NULL, 1, NULL, &error));
    /* After all of that it is still open. */
    DONE(tokenweir_redis_settle(redis, permit, NULL, &usage, NULL, NULL, &error));
    tokenweir_redis_free(NULL);
    tokenweir_policy_free(policy);
    tokenweir_redis_free(redis);
}

/* More limits than a script takes; and permits across slots, which need their request. */
static void what_a_script_does_not_do(void)
{
    static char many[1 << 16];
    tokenweir_redis_options options = options_of("many");
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_usage usage = tokenweir_usage_of(1, 0);
    tokenweir_redis *redis = NULL, *other;
    tokenweir_policy *policy;
    size_t length = 0;

    for (int at = 0; at < 300; at++)
        length += (size_t)snprintf(many + length, sizeof many - length,
                                   "[[limit]]\nname = '%d'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 1\n"
                                   "period = 'never'\n",
                                   at);
    policy = policy_of(many);
    DONE(tokenweir_redis_connect(server, strlen(server), policy, &options, &redis, &error));
    GIVES(TOKENWEIR_REDIS_TOO_MANY_LIMITS,
          tokenweir_redis_admit(redis, &request, &estimate, &decision, NULL, NULL, &error));
    tokenweir_policy_free(policy);
    tokenweir_redis_free(redis);

    options.slot_by = "project";
    options.slot_by_length = strlen(options.slot_by);
    redis = redis_with(&options);
    other = redis_with(&options);
    decision = asked(redis, 1, NULL);
    GIVES(TOKENWEIR_REDIS_ACROSS_SLOTS,
          tokenweir_redis_settle(other, decision.permit, NULL, &usage, NULL, NULL, &error));
    DONE(tokenweir_redis_settle(other, decision.permit, &request, &usage, NULL, NULL, &error));
    tokenweir_redis_free(redis);
    tokenweir_redis_free(other);
}

static void it_is_reached(const char *address)
{
    tokenweir_redis_options options = options_of("reached");
    tokenweir_redis *redis = NULL;
    DONE(connected(address, &options, &redis, &error));
    uint32_t by = 0;
    tokenweir_decision decision = asked(redis, 600, &by);
    CHECK(decision.admitted && by == TOKENWEIR_BY_SERVER);
    tokenweir_usage usage = tokenweir_usage_of(100, 0);
    DONE(tokenweir_redis_settle(redis, decision.permit, NULL, &usage, NULL, NULL, &error));
    left_is(redis, "\"remaining\":900");
    tokenweir_redis_free(redis);
}

int main(int count, char **arguments)
{
    CHECK(count >= 3);
    server = arguments[1];
    server_process = (pid_t)strtol(arguments[2], NULL, 10);
    CHECK(server_process > 1);
    hostile_arguments();
    what_a_script_does_not_do();
    a_request_is_decided_held_and_settled();
    counters_are_seen_and_places_come_back();
    leases_are_spent_here();
    a_server_that_lets_nobody_in_says_why();
    a_server_that_does_not_answer_gives_what_was_chosen();
    a_limit_counts_once();
    a_fork_makes_its_own_limiter();
    for (int address = 3; address < count; address++) {
        it_is_reached(arguments[address]);
    }
    puts("redis: ok");
    return 0;
}
