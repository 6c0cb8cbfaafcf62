/* Threads that admit, settle for one another, poll, look and change the policy at once: nothing is lost, nothing is
   held at the end. threads [ROUNDS] */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

#define WORKERS 4
#define MAILBOX 64

static const char POLICIES[2][400] = {
    "[[limit]]\nname = 'quota'\nmeter = 'total'\nalgorithm = 'quota'\namount = 9_000_000_000\nperiod = 'never'\n"
    "scope = ['project']\n[[limit]]\nname = 'bucket'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 1_000\nper = '1s'\n"
    "[[limit]]\nname = 'places'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 100\n",
    "[[limit]]\nname = 'quota'\nmeter = 'total'\nalgorithm = 'quota'\namount = 8_000_000_000\nperiod = 'never'\n"
    "scope = ['project']\n[[limit]]\nname = 'bucket'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 2_000\nper = '1s'\n"
    "[[limit]]\nname = 'places'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 90\n",
};

static struct {
    tokenweir_limiter *limiter;
    tokenweir_clock *clock;
    tokenweir_ring *ring;
    tokenweir_route *routes[2];
    /* Permits that one thread admitted and another will settle. */
    _Atomic uint64_t mailbox[MAILBOX];
    atomic_ullong settled_tokens, decided, settled, polled;
    atomic_int over;
    long rounds;
} its;

static void settle(uint64_t id, unsigned random, const tokenweir_route *route)
{
    tokenweir_usage usage = tokenweir_usage_of(random % 5, random % 7);
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_code code = TOKENWEIR_OK;
    switch (random % 8) {
    case 0: code = tokenweir_route_cancel(route, id, NULL, &settlement, NULL); break;
    case 1: code = tokenweir_limiter_abandon(its.limiter, id, NULL, &settlement, NULL); break;
    case 2: code = tokenweir_limiter_settle(its.limiter, id, &usage, NULL, &settlement, NULL); break;
    default: code = tokenweir_route_settle(route, id, &usage, NULL, &settlement, NULL);
    }
    CHECK(code == TOKENWEIR_OK && settlement.permit == id);
    its.settled_tokens += settlement.input + settlement.output;
    its.settled++;
    /* Once is once, whoever comes second. */
    CHECK(tokenweir_route_settle(route, id, &usage, NULL, NULL, NULL) == TOKENWEIR_PERMIT_SETTLED);
}

static void *work(void *number)
{
    unsigned random = 2463534242u + *(int *)number;
    tokenweir_request request = tokenweir_request_of(*(int *)number % 2 ? "one" : "two", "gpt-4o");
    for (long round = 0; round < its.rounds; round++) {
        tokenweir_decision decision = tokenweir_decision_init();
        tokenweir_estimate estimate = tokenweir_estimate_of(random % 6, random % 3);
        const tokenweir_route *route = its.routes[random % 2];
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        if (random % 4)
            DONE(tokenweir_route_admit(route, &estimate, NULL, &decision, NULL, &error));
        else
            DONE(tokenweir_limiter_admit(its.limiter, &request, &estimate, NULL, &decision, NULL, &error));
        its.decided++;
        uint64_t id = decision.permit;
        if (!decision.admitted) {
            CHECK(id == 0 && decision.status == 429 && decision.limit[0] != 0);
            DONE(tokenweir_clock_advance(its.clock, 1000000, &error));
        } else if (random % 3 == 0) {
            DONE(tokenweir_limiter_observe(its.limiter, id, 0, 1, NULL, NULL, &error));
        }
        /* Leave it for another thread, and settle what another left. */
        id = atomic_exchange(&its.mailbox[random % MAILBOX], id);
        if (id)
            settle(id, random >> 8, route);
    }
    return NULL;
}

static void *poll_records(void *unused)
{
    int over;
    (void)unused;
    do {
        tokenweir_record *record = NULL;
        over = its.over;
        DONE(tokenweir_ring_poll(its.ring, &record, &error));
        while (record) {
            tokenweir_record_view view = tokenweir_record_view_init();
            DONE(tokenweir_record_read(record, &view, &error));
            CHECK(view.kind != TOKENWEIR_RECORD_OTHER && view.project_length == 3);
            tokenweir_record_free(record);
            its.polled++;
            DONE(tokenweir_ring_poll(its.ring, &record, &error));
        }
    } while (!over);
    return NULL;
}

static void *look_and_change(void *unused)
{
    tokenweir_request request = tokenweir_request_of("one", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 1);
    (void)unused;
    for (int turn = 0; !its.over; turn++) {
        tokenweir_text *text = NULL;
        tokenweir_policy *policy = policy_of(POLICIES[turn % 2]);
        DONE(tokenweir_limiter_swap_policy(its.limiter, policy, NULL, &error));
        tokenweir_policy_free(policy);
        DONE(tokenweir_limiter_usage(its.limiter, NULL, NULL, &text, &error));
        tokenweir_text_free(text);
        DONE(tokenweir_limiter_explain(its.limiter, &request, &estimate, NULL, &text, &error));
        tokenweir_text_free(text);
        DONE(tokenweir_limiter_sweep(its.limiter, NULL, &error));
    }
    return NULL;
}

/* The sum of a number that every counter of a limit has, from the usage view. */
static uint64_t sum(const char *limit, const char *field)
{
    tokenweir_usage_filter filter = tokenweir_usage_filter_init();
    tokenweir_text *text = NULL;
    uint64_t sum = 0;
    char named[40];
    filter.limit = limit;
    filter.limit_length = strlen(limit);
    DONE(tokenweir_limiter_usage(its.limiter, &filter, NULL, &text, &error));
    sprintf(named, "\"%s\":", field);
    for (const char *at = tokenweir_text_chars(text); (at = strstr(at, named)) != NULL;) {
        at += strlen(named);
        sum += strtoull(at, NULL, 10);
    }
    tokenweir_text_free(text);
    return sum;
}

int main(int count, char **arguments)
{
    pthread_t workers[WORKERS], pollers[2], changer;
    int numbers[WORKERS];
    tokenweir_options options = tokenweir_options_init();
    tokenweir_stats stats = tokenweir_stats_init();
    tokenweir_request one = tokenweir_request_of("one", "gpt-4o"), two = tokenweir_request_of("two", "gpt-4o");
    uint64_t lost;
    its.rounds = count > 1 ? atol(arguments[1]) : 50000;
    DONE(tokenweir_clock_new_manual(NULL, &its.clock, &error));
    DONE(tokenweir_ring_new(1024, &its.ring, &error));
    options.clock = its.clock;
    options.ring = its.ring;
    its.limiter = limiter_of(POLICIES[0], &options);
    DONE(tokenweir_limiter_route(its.limiter, &one, NULL, &its.routes[0], &error));
    DONE(tokenweir_limiter_route(its.limiter, &two, NULL, &its.routes[1], &error));

    for (int at = 0; at < WORKERS; at++) {
        numbers[at] = at;
        CHECK(pthread_create(&workers[at], NULL, work, &numbers[at]) == 0);
    }
    for (int at = 0; at < 2; at++)
        CHECK(pthread_create(&pollers[at], NULL, poll_records, NULL) == 0);
    CHECK(pthread_create(&changer, NULL, look_and_change, NULL) == 0);
    for (int at = 0; at < WORKERS; at++)
        CHECK(pthread_join(workers[at], NULL) == 0);
    for (int at = 0; at < MAILBOX; at++) {
        uint64_t id = atomic_exchange(&its.mailbox[at], 0);
        if (id)
            settle(id, (unsigned)at, its.routes[0]);
    }
    its.over = 1;
    for (int at = 0; at < 2; at++)
        CHECK(pthread_join(pollers[at], NULL) == 0);
    CHECK(pthread_join(changer, NULL) == 0);

    DONE(tokenweir_ring_lost(its.ring, &lost, &error));
    CHECK(its.polled + lost == its.decided + its.settled);
    DONE(tokenweir_limiter_stats(its.limiter, &stats, &error));
    CHECK(stats.permits_open == 0);
    CHECK(sum("quota", "settled_total") == its.settled_tokens && sum("quota", "used") == its.settled_tokens);
    CHECK(sum("quota", "held") == 0 && sum("places", "used") == 0);
    CHECK(its.settled > 0 && its.settled_tokens > 0 && its.polled > 0);
    printf("threads: %llu decided, %llu settled, %llu polled, %llu dropped\n", its.decided, its.settled, its.polled,
           (unsigned long long)lost);
    tokenweir_route_free(its.routes[0]);
    tokenweir_route_free(its.routes[1]);
    tokenweir_limiter_free(its.limiter);
    tokenweir_ring_free(its.ring);
    tokenweir_clock_free(its.clock);
    return 0;
}
