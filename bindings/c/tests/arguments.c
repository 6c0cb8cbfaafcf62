/* Every function with hostile arguments: a code, never a crash; and every code that there is, provoked. */
#include "check.h"

static const char POLICY[] = "[[limit]]\n"
                             "name = 'places'\n"
                             "meter = 'in_flight'\n"
                             "algorithm = 'in_flight'\n"
                             "amount = 100\n"
                             "[[limit]]\n"
                             "name = 'tokens of the project, whose name is longer than the place that a decision has for it'\n"
                             "meter = 'total'\n"
                             "algorithm = 'quota'\n"
                             "amount = 1_000\n"
                             "period = 'never'\n"
                             "scope = ['project']\n";

/* What the calls need to be valid but for one argument. */
static struct {
    tokenweir_policy *policy;
    tokenweir_clock *system, *coarse, *manual;
    tokenweir_ring *ring;
    tokenweir_limiter *limiter, *other;
    tokenweir_route *route;
    tokenweir_record *record;
    tokenweir_denial *denial;
    tokenweir_request request;
    tokenweir_estimate estimate;
    tokenweir_usage usage;
    tokenweir_decision decision;
    tokenweir_settlement settlement;
    tokenweir_now now;
    tokenweir_text *text;
} its;

static void set_up(void)
{
    tokenweir_options options = tokenweir_options_init();
    tokenweir_estimate too_much = tokenweir_estimate_of(2000, 0);
    its.policy = policy_of(POLICY);
    DONE(tokenweir_clock_new_system(&its.system, &error));
    DONE(tokenweir_clock_new_coarse(&its.coarse, &error));
    DONE(tokenweir_clock_new_manual(NULL, &its.manual, &error));
    DONE(tokenweir_ring_new(16, &its.ring, &error));
    options.clock = its.manual;
    options.ring = its.ring;
    DONE(tokenweir_limiter_new(its.policy, &options, &its.limiter, &error));
    DONE(tokenweir_limiter_new(its.policy, NULL, &its.other, &error));
    its.request = tokenweir_request_of("search", "gpt-4o");
    its.estimate = tokenweir_estimate_of(3, 4);
    its.usage = tokenweir_usage_of(1, 2);
    its.decision = tokenweir_decision_init();
    its.settlement = tokenweir_settlement_init();
    DONE(tokenweir_limiter_route(its.limiter, &its.request, NULL, &its.route, &error));
    DONE(tokenweir_route_admit(its.route, &too_much, NULL, &its.decision, &its.denial, &error));
    CHECK(its.denial != NULL);
    DONE(tokenweir_ring_poll(its.ring, &its.record, &error));
    CHECK(its.record != NULL);
}

static void tear_down(void)
{
    tokenweir_route_free(its.route);
    tokenweir_denial_free(its.denial);
    tokenweir_record_free(its.record);
    tokenweir_limiter_free(its.limiter);
    tokenweir_limiter_free(its.other);
    tokenweir_ring_free(its.ring);
    tokenweir_clock_free(its.system);
    tokenweir_clock_free(its.coarse);
    tokenweir_clock_free(its.manual);
    tokenweir_policy_free(its.policy);
}

static uint64_t admitted(const tokenweir_limiter *limiter)
{
    DONE(tokenweir_limiter_admit(limiter, &its.request, &its.estimate, NULL, &its.decision, NULL, &error));
    CHECK(its.decision.admitted == 1 && its.decision.permit != 0);
    return its.decision.permit;
}

static uint64_t open_permits(void)
{
    tokenweir_stats stats = tokenweir_stats_init();
    DONE(tokenweir_limiter_stats(its.limiter, &stats, &error));
    return stats.permits_open;
}

#define NONE(call) GIVES(TOKENWEIR_NULL_ARGUMENT, call)

/* Each pointer that must not be NULL is NULL once; what was to be made is NULL then. */
static void null_arguments(void)
{
    uint64_t id = admitted(its.limiter), lost;
    tokenweir_policy *policy = its.policy;
    tokenweir_clock *clock = its.manual;
    tokenweir_ring *ring = its.ring;
    tokenweir_limiter *limiter = its.limiter;
    tokenweir_route *route = its.route;
    tokenweir_record *record = its.record;
    tokenweir_record_view view = tokenweir_record_view_init();
    tokenweir_stats stats = tokenweir_stats_init();

    NONE(tokenweir_clock_new_system(NULL, &error));
    NONE(tokenweir_clock_new_coarse(NULL, &error));
    NONE(tokenweir_clock_new_manual(&its.now, NULL, &error));
    NONE(tokenweir_clock_now(NULL, &its.now, &error));
    NONE(tokenweir_clock_now(its.manual, NULL, &error));
    NONE(tokenweir_clock_tick(NULL, &error));
    NONE(tokenweir_clock_set(NULL, &its.now, &error));
    NONE(tokenweir_clock_set(its.manual, NULL, &error));
    NONE(tokenweir_clock_advance(NULL, 1, &error));
    (void)clock;

    NONE(tokenweir_policy_from_toml(NULL, 1, &policy, &error));
    CHECK(policy == NULL);
    NONE(tokenweir_policy_from_toml(POLICY, 1, NULL, &error));
    policy = its.policy;
    NONE(tokenweir_policy_from_json(NULL, 1, &policy, &error));
    CHECK(policy == NULL);
    NONE(tokenweir_policy_from_json("{}", 2, NULL, &error));
    NONE(tokenweir_policy_json(NULL, &its.text, &error));
    CHECK(its.text == NULL);
    NONE(tokenweir_policy_json(its.policy, NULL, &error));

    NONE(tokenweir_ring_new(2, NULL, &error));
    NONE(tokenweir_ring_poll(NULL, &record, &error));
    CHECK(record == NULL);
    NONE(tokenweir_ring_poll(its.ring, NULL, &error));
    NONE(tokenweir_ring_lost(NULL, &lost, &error));
    NONE(tokenweir_ring_lost(its.ring, NULL, &error));
    NONE(tokenweir_record_read(NULL, &view, &error));
    NONE(tokenweir_record_read(its.record, NULL, &error));
    NONE(tokenweir_record_json(NULL, &its.text, &error));
    NONE(tokenweir_record_json(its.record, NULL, &error));
    (void)ring;

    NONE(tokenweir_denial_json(NULL, &its.text, &error));
    NONE(tokenweir_denial_json(its.denial, NULL, &error));

    NONE(tokenweir_limiter_new(NULL, NULL, &limiter, &error));
    CHECK(limiter == NULL);
    NONE(tokenweir_limiter_new(its.policy, NULL, NULL, &error));
    NONE(tokenweir_limiter_now(NULL, &its.now, &error));
    NONE(tokenweir_limiter_now(its.limiter, NULL, &error));
    NONE(tokenweir_limiter_admit(NULL, &its.request, &its.estimate, NULL, &its.decision, NULL, &error));
    NONE(tokenweir_limiter_admit(its.limiter, NULL, &its.estimate, NULL, &its.decision, NULL, &error));
    NONE(tokenweir_limiter_admit(its.limiter, &its.request, NULL, NULL, &its.decision, NULL, &error));
    NONE(tokenweir_limiter_admit(its.limiter, &its.request, &its.estimate, NULL, NULL, NULL, &error));
    NONE(tokenweir_limiter_route(NULL, &its.request, NULL, &route, &error));
    CHECK(route == NULL);
    NONE(tokenweir_limiter_route(its.limiter, NULL, NULL, &route, &error));
    NONE(tokenweir_limiter_route(its.limiter, &its.request, NULL, NULL, &error));
    NONE(tokenweir_limiter_observe(NULL, id, 1, 1, NULL, NULL, &error));
    NONE(tokenweir_limiter_settle(NULL, id, &its.usage, NULL, NULL, &error));
    NONE(tokenweir_limiter_settle(its.limiter, id, NULL, NULL, NULL, &error));
    NONE(tokenweir_limiter_cancel(NULL, id, NULL, NULL, &error));
    NONE(tokenweir_limiter_abandon(NULL, id, NULL, NULL, &error));
    NONE(tokenweir_limiter_renew(NULL, id, 1, NULL, &error));
    NONE(tokenweir_limiter_permit(NULL, id, NULL, &its.text, &error));
    NONE(tokenweir_limiter_permit(its.limiter, id, NULL, NULL, &error));
    NONE(tokenweir_limiter_peek(NULL, &its.request, &its.estimate, NULL, &its.text, &error));
    NONE(tokenweir_limiter_peek(its.limiter, NULL, &its.estimate, NULL, &its.text, &error));
    NONE(tokenweir_limiter_peek(its.limiter, &its.request, NULL, NULL, &its.text, &error));
    NONE(tokenweir_limiter_peek(its.limiter, &its.request, &its.estimate, NULL, NULL, &error));
    NONE(tokenweir_limiter_explain(NULL, &its.request, &its.estimate, NULL, &its.text, &error));
    NONE(tokenweir_limiter_explain(its.limiter, NULL, &its.estimate, NULL, &its.text, &error));
    NONE(tokenweir_limiter_explain(its.limiter, &its.request, NULL, NULL, &its.text, &error));
    NONE(tokenweir_limiter_explain(its.limiter, &its.request, &its.estimate, NULL, NULL, &error));
    NONE(tokenweir_limiter_usage(NULL, NULL, NULL, &its.text, &error));
    NONE(tokenweir_limiter_usage(its.limiter, NULL, NULL, NULL, &error));
    NONE(tokenweir_limiter_stats(NULL, &stats, &error));
    NONE(tokenweir_limiter_stats(its.limiter, NULL, &error));
    NONE(tokenweir_limiter_policy(NULL, &policy, &error));
    NONE(tokenweir_limiter_policy(its.limiter, NULL, &error));
    NONE(tokenweir_limiter_swap_policy(NULL, its.policy, NULL, &error));
    NONE(tokenweir_limiter_swap_policy(its.limiter, NULL, NULL, &error));
    NONE(tokenweir_limiter_sweep(NULL, NULL, &error));

    NONE(tokenweir_route_admit(NULL, &its.estimate, NULL, &its.decision, NULL, &error));
    NONE(tokenweir_route_admit(its.route, NULL, NULL, &its.decision, NULL, &error));
    NONE(tokenweir_route_admit(its.route, &its.estimate, NULL, NULL, NULL, &error));
    NONE(tokenweir_route_settle(NULL, id, &its.usage, NULL, NULL, &error));
    NONE(tokenweir_route_settle(its.route, id, NULL, NULL, NULL, &error));
    NONE(tokenweir_route_cancel(NULL, id, NULL, NULL, &error));

    /* Nothing of that has moved anything, and errors need not be asked for. */
    CHECK(open_permits() == 1);
    CHECK(tokenweir_limiter_settle(NULL, id, &its.usage, NULL, NULL, NULL) == TOKENWEIR_NULL_ARGUMENT);
    DONE(tokenweir_limiter_cancel(its.limiter, id, NULL, NULL, &error));

    /* What frees ignores NULL, what reads has an answer. */
    tokenweir_error_free(NULL);
    tokenweir_text_free(NULL);
    tokenweir_clock_free(NULL);
    tokenweir_policy_free(NULL);
    tokenweir_ring_free(NULL);
    tokenweir_record_free(NULL);
    tokenweir_denial_free(NULL);
    tokenweir_limiter_free(NULL);
    tokenweir_route_free(NULL);
    CHECK(tokenweir_error_code(NULL) == TOKENWEIR_OK && tokenweir_error_message(NULL)[0] == 0);
    CHECK(tokenweir_text_chars(NULL)[0] == 0 && tokenweir_text_length(NULL) == 0);
}

/* Ids that are gone, were never there, or are another limiter's: every call that takes one says so. */
static void ids(void)
{
    uint64_t settled = admitted(its.limiter), another = admitted(its.other), open = admitted(its.limiter);
    DONE(tokenweir_limiter_settle(its.limiter, settled, &its.usage, NULL, &its.settlement, &error));
    const struct {
        uint64_t id;
        tokenweir_code code;
    } bad[] = {
        {settled, TOKENWEIR_PERMIT_SETTLED}, {another, TOKENWEIR_PERMIT_UNKNOWN},  {0, TOKENWEIR_PERMIT_UNKNOWN},
        {1, TOKENWEIR_PERMIT_UNKNOWN},       {UINT64_MAX, TOKENWEIR_PERMIT_UNKNOWN}, {open ^ (UINT64_C(1) << 63), TOKENWEIR_PERMIT_UNKNOWN},
    };
    for (size_t at = 0; at < sizeof bad / sizeof bad[0]; at++) {
        const uint64_t id = bad[at].id;
        const tokenweir_code code = bad[at].code;
        uint32_t spent;
        GIVES(code, tokenweir_limiter_observe(its.limiter, id, 1, 1, NULL, &spent, &error));
        GIVES(code, tokenweir_limiter_settle(its.limiter, id, &its.usage, NULL, &its.settlement, &error));
        GIVES(code, tokenweir_limiter_cancel(its.limiter, id, NULL, &its.settlement, &error));
        GIVES(code, tokenweir_limiter_abandon(its.limiter, id, NULL, &its.settlement, &error));
        GIVES(code, tokenweir_limiter_renew(its.limiter, id, 1, NULL, &error));
        GIVES(code, tokenweir_limiter_permit(its.limiter, id, NULL, &its.text, &error));
        GIVES(code, tokenweir_route_settle(its.route, id, &its.usage, NULL, &its.settlement, &error));
        GIVES(code, tokenweir_route_cancel(its.route, id, NULL, &its.settlement, &error));
        CHECK(its.text == NULL);
    }
    CHECK(open_permits() == 1);
    DONE(tokenweir_route_cancel(its.route, open, NULL, &its.settlement, &error));
    CHECK(its.settlement.outcome == TOKENWEIR_OUTCOME_CANCELLED && its.settlement.permit == open);
    DONE(tokenweir_limiter_abandon(its.other, another, NULL, NULL, &error));
}

#define SIZES(value, call)                                                                                             \
    do {                                                                                                               \
        const uint32_t right = (value).size;                                                                           \
        const uint32_t wrong[] = {0, right - 1, right + 8, UINT32_MAX};                                                \
        for (size_t at = 0; at < 4; at++) {                                                                            \
            (value).size = wrong[at];                                                                                  \
            GIVES(TOKENWEIR_STRUCT_SIZE, call);                                                                        \
        }                                                                                                              \
        (value).size = right;                                                                                          \
    } while (0)

#define RESERVED(field, call)                                                                                          \
    do {                                                                                                               \
        (field) = 1;                                                                                                   \
        GIVES(TOKENWEIR_RESERVED_NOT_ZERO, call);                                                                      \
        (field) = 0;                                                                                                   \
    } while (0)

static void sizes_and_reserved_fields(void)
{
    uint64_t id = admitted(its.limiter);
    tokenweir_stats stats = tokenweir_stats_init();
    tokenweir_record_view view = tokenweir_record_view_init();
    tokenweir_options options = tokenweir_options_init();
    tokenweir_usage_filter filter = tokenweir_usage_filter_init();
    tokenweir_limiter *limiter;
    tokenweir_route *route;

    SIZES(its.request, tokenweir_limiter_admit(its.limiter, &its.request, &its.estimate, NULL, &its.decision, NULL, &error));
    SIZES(its.estimate, tokenweir_limiter_admit(its.limiter, &its.request, &its.estimate, NULL, &its.decision, NULL, &error));
    SIZES(its.decision, tokenweir_limiter_admit(its.limiter, &its.request, &its.estimate, NULL, &its.decision, NULL, &error));
    SIZES(its.request, tokenweir_limiter_route(its.limiter, &its.request, NULL, &route, &error));
    SIZES(its.estimate, tokenweir_route_admit(its.route, &its.estimate, NULL, &its.decision, NULL, &error));
    SIZES(its.decision, tokenweir_route_admit(its.route, &its.estimate, NULL, &its.decision, NULL, &error));
    SIZES(its.usage, tokenweir_limiter_settle(its.limiter, id, &its.usage, NULL, NULL, &error));
    SIZES(its.settlement, tokenweir_limiter_settle(its.limiter, id, &its.usage, NULL, &its.settlement, &error));
    SIZES(its.settlement, tokenweir_limiter_cancel(its.limiter, id, NULL, &its.settlement, &error));
    SIZES(its.settlement, tokenweir_limiter_abandon(its.limiter, id, NULL, &its.settlement, &error));
    SIZES(its.usage, tokenweir_route_settle(its.route, id, &its.usage, NULL, NULL, &error));
    SIZES(its.settlement, tokenweir_route_settle(its.route, id, &its.usage, NULL, &its.settlement, &error));
    SIZES(its.settlement, tokenweir_route_cancel(its.route, id, NULL, &its.settlement, &error));
    SIZES(its.request, tokenweir_limiter_peek(its.limiter, &its.request, &its.estimate, NULL, &its.text, &error));
    SIZES(its.estimate, tokenweir_limiter_explain(its.limiter, &its.request, &its.estimate, NULL, &its.text, &error));
    SIZES(stats, tokenweir_limiter_stats(its.limiter, &stats, &error));
    SIZES(view, tokenweir_record_read(its.record, &view, &error));
    SIZES(options, tokenweir_limiter_new(its.policy, &options, &limiter, &error));
    SIZES(filter, tokenweir_limiter_usage(its.limiter, &filter, NULL, &its.text, &error));

    RESERVED(its.request.reserved0, tokenweir_limiter_route(its.limiter, &its.request, NULL, &route, &error));
    RESERVED(its.request.reserved[0], tokenweir_limiter_route(its.limiter, &its.request, NULL, &route, &error));
    RESERVED(its.request.reserved[3], tokenweir_limiter_route(its.limiter, &its.request, NULL, &route, &error));
    RESERVED(its.estimate.reserved[3], tokenweir_route_admit(its.route, &its.estimate, NULL, &its.decision, NULL, &error));
    RESERVED(its.usage.reserved[1], tokenweir_route_settle(its.route, id, &its.usage, NULL, NULL, &error));
    RESERVED(options.reserved[0], tokenweir_limiter_new(its.policy, &options, &limiter, &error));
    RESERVED(filter.reserved0, tokenweir_limiter_usage(its.limiter, &filter, NULL, &its.text, &error));

    CHECK(open_permits() == 1);
    DONE(tokenweir_route_settle(its.route, id, &its.usage, NULL, NULL, &error));
}

static void lengths_and_text(void)
{
    const char torn[] = "\xc3(", nul[] = "a\0b";
    tokenweir_key keys[9] = {tokenweir_key_of("user", "u-17")};
    tokenweir_request request = its.request;
    tokenweir_usage_filter filter = tokenweir_usage_filter_init();
    tokenweir_policy *policy;
    tokenweir_route *route;
    const char *no_memory = "";

    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_policy_from_toml(torn, 2, &policy, &error));
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_policy_from_json(torn, 2, &policy, &error));
    GIVES(TOKENWEIR_POLICY_INVALID, tokenweir_policy_from_toml("limit = 1", 9, &policy, &error));
    GIVES(TOKENWEIR_POLICY_INVALID, tokenweir_policy_from_toml(nul, 3, &policy, &error));
    GIVES(TOKENWEIR_POLICY_INVALID, tokenweir_policy_from_json("{\"limit\": [}", 12, &policy, &error));
    GIVES(TOKENWEIR_POLICY_INVALID, tokenweir_policy_from_json(NULL, 0, &policy, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_policy_from_json("{}", SIZE_MAX, &policy, &error));
    CHECK(policy == NULL);

    /* No length, any pointer: empty names are refused as such. */
    for (int at = 0; at < 2; at++) {
        request = its.request;
        request.project = at ? NULL : no_memory;
        request.project_length = 0;
        GIVES(TOKENWEIR_EMPTY_KEY, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
        request = its.request;
        request.deployment = at ? NULL : no_memory;
        request.deployment_length = 0;
        GIVES(TOKENWEIR_EMPTY_KEY, tokenweir_limiter_peek(its.limiter, &request, &its.estimate, NULL, &its.text, &error));
    }
    request = its.request;
    request.project = NULL;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    request = its.request;
    request.deployment_length = SIZE_MAX;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    request = its.request;
    request.key_count = SIZE_MAX / sizeof(tokenweir_key);
    request.keys = keys;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    request.keys = NULL;
    request.key_count = 1;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_explain(its.limiter, &request, &its.estimate, NULL, &its.text, &error));
    request.keys = keys;
    keys[0].name = torn;
    keys[0].name_length = 2;
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    keys[0].name = NULL;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    /* Names that no policy has are nobody's business, be they nameless; more of them than fit beside. */
    for (int at = 0; at < 9; at++) {
        keys[at] = tokenweir_key_of("a\0b\0c\0d\0e\0f\0g\0h\0i" + 2 * at, NULL);
    }
    request.key_count = 9;
    DONE(tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    tokenweir_route_free(route);
    keys[8] = keys[0];
    GIVES(TOKENWEIR_KEY_TWICE, tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    /* Values are any bytes. */
    request = tokenweir_request_of(torn, NULL);
    request.deployment = nul;
    request.deployment_length = 3;
    DONE(tokenweir_limiter_route(its.limiter, &request, NULL, &route, &error));
    tokenweir_route_free(route);

    filter.limit = torn;
    filter.limit_length = 2;
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_limiter_usage(its.limiter, &filter, NULL, &its.text, &error));
    filter.limit = NULL;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_usage(its.limiter, &filter, NULL, &its.text, &error));
    filter.limit_length = 0;
    filter.scope_count = 1;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_usage(its.limiter, &filter, NULL, &its.text, &error));
    keys[0] = tokenweir_key_of("project", "nobody");
    filter.scope = keys;
    DONE(tokenweir_limiter_usage(its.limiter, &filter, NULL, &its.text, &error));
    CHECK(!strcmp(tokenweir_text_chars(its.text), "{\"counters\":[]}"));
    tokenweir_text_free(its.text);
}

static void ranges(void)
{
    tokenweir_options options = tokenweir_options_init();
    tokenweir_ring *ring;
    tokenweir_limiter *limiter;
    tokenweir_estimate large = tokenweir_estimate_of(0, (UINT64_C(1) << 53) + 1);
    tokenweir_usage odd = tokenweir_usage_of(1, 0);
    const tokenweir_now ends[] = {{UINT64_MAX, INT64_MAX}, {0, INT64_MIN}, {UINT64_MAX, INT64_MIN}};
    uint64_t id = admitted(its.limiter);

    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_ring_new(0, &ring, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_ring_new(SIZE_MAX, &ring, &error));
    CHECK(ring == NULL);
    options.when_full = 2;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_limiter_new(its.policy, &options, &limiter, &error));
    options.when_full = UINT32_MAX;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_limiter_new(its.policy, &options, &limiter, &error));
    CHECK(limiter == NULL);
    options.when_full = TOKENWEIR_WHEN_FULL_ADMIT;
    options.max_routes = options.max_permits = options.permit_ttl_ns = UINT64_MAX;
    DONE(tokenweir_limiter_new(its.policy, &options, &limiter, &error));
    DONE(tokenweir_limiter_cancel(limiter, admitted(limiter), NULL, NULL, &error));
    tokenweir_limiter_free(limiter);

    GIVES(TOKENWEIR_CLOCK_KIND, tokenweir_clock_tick(its.system, &error));
    GIVES(TOKENWEIR_CLOCK_KIND, tokenweir_clock_tick(its.manual, &error));
    GIVES(TOKENWEIR_CLOCK_KIND, tokenweir_clock_set(its.system, &its.now, &error));
    GIVES(TOKENWEIR_CLOCK_KIND, tokenweir_clock_advance(its.coarse, 1, &error));

    GIVES(TOKENWEIR_ESTIMATE_TOO_LARGE, tokenweir_route_admit(its.route, &large, NULL, &its.decision, NULL, &error));
    large.output = UINT64_MAX;
    GIVES(TOKENWEIR_ESTIMATE_TOO_LARGE,
          tokenweir_limiter_admit(its.limiter, &its.request, &large, NULL, &its.decision, NULL, &error));
    odd.cached_input = 2;
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_route_settle(its.route, id, &odd, NULL, NULL, &error));
    odd = tokenweir_usage_of(UINT64_MAX - 1, 0);
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_limiter_settle(its.limiter, id, &odd, NULL, NULL, &error));
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_limiter_observe(its.limiter, id, UINT64_MAX, 0, NULL, NULL, &error));
    DONE(tokenweir_limiter_renew(its.limiter, id, UINT64_MAX, NULL, &error));
    for (size_t at = 0; at < 3; at++) {
        DONE(tokenweir_limiter_explain(its.limiter, &its.request, &its.estimate, &ends[at], &its.text, &error));
        tokenweir_text_free(its.text);
        DONE(tokenweir_limiter_usage(its.limiter, NULL, &ends[at], &its.text, &error));
        tokenweir_text_free(its.text);
        DONE(tokenweir_limiter_sweep(its.limiter, &ends[at], &error));
    }
    DONE(tokenweir_limiter_observe(its.limiter, id, 0, 5000, NULL, NULL, &error));
    DONE(tokenweir_limiter_cancel(its.limiter, id, NULL, NULL, &error));
}

/* The codes that depend on the policy or on how full a limiter is. */
static void codes_of_policies(void)
{
    static const char PRICED[] = "[[limit]]\nname = 'cost'\nmeter = 'cost'\nalgorithm = 'quota'\namount = 5\n"
                                 "period = 'never'\n[[price]]\ndeployment = 'gpt-4o'\ninput = 1\noutput = 1\n";
    static const char REQUIRED[] = "[[limit]]\nname = 'users'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 5\n"
                                   "period = 'never'\nscope = ['key:user']\nrequire = true\n";
    tokenweir_options options = tokenweir_options_init();
    tokenweir_request other = tokenweir_request_of("search", "other");
    tokenweir_limiter *limiter = limiter_of(PRICED, NULL);
    tokenweir_route *route = NULL, *second = NULL;
    uint64_t id;

    GIVES(TOKENWEIR_NO_PRICE, tokenweir_limiter_admit(limiter, &other, &its.estimate, NULL, &its.decision, NULL, &error));
    tokenweir_limiter_free(limiter);
    limiter = limiter_of(REQUIRED, NULL);
    GIVES(TOKENWEIR_KEY_MISSING, tokenweir_limiter_route(limiter, &other, NULL, &route, &error));
    tokenweir_limiter_free(limiter);

    options.max_permits = 1;
    options.max_counters = 2;
    limiter = limiter_of(POLICY, &options);
    id = admitted(limiter);
    GIVES(TOKENWEIR_PERMITS_EXHAUSTED,
          tokenweir_limiter_admit(limiter, &its.request, &its.estimate, NULL, &its.decision, NULL, &error));
    DONE(tokenweir_limiter_route(limiter, &its.request, NULL, &route, &error));
    other = tokenweir_request_of("another", "gpt-4o");
    GIVES(TOKENWEIR_TABLE_FULL, tokenweir_limiter_route(limiter, &other, NULL, &second, &error));
    CHECK(second == NULL);
    DONE(tokenweir_limiter_admit(limiter, &other, &its.estimate, NULL, &its.decision, NULL, &error));
    CHECK(its.decision.admitted == 0 && its.decision.table_full == 1);
    /* The route keeps the limiter going. */
    tokenweir_limiter_free(limiter);
    DONE(tokenweir_route_cancel(route, id, NULL, &its.settlement, &error));
    tokenweir_route_free(route);
}

/* What comes out beside codes: a denial's fields and a name that is cut, records, the limiter's own words. */
static void results(void)
{
    const char *name = "tokens of the project, whose name is longer than the place that a decision has for it";
    tokenweir_record_view view = tokenweir_record_view_init();
    tokenweir_stats stats = tokenweir_stats_init();
    tokenweir_policy *policy = NULL;
    tokenweir_estimate much = tokenweir_estimate_of(2000, 0);
    uint64_t id, lost;
    uint32_t spent;

    while (its.record) {
        tokenweir_record_free(its.record);
        DONE(tokenweir_ring_poll(its.ring, &its.record, &error));
    }
    DONE(tokenweir_clock_set(its.manual, &its.now, &error));
    DONE(tokenweir_limiter_admit(its.limiter, &its.request, &much, NULL, &its.decision, NULL, &error));
    CHECK(its.decision.admitted == 0 && its.decision.permit == 0 && its.decision.status == 403);
    CHECK(its.decision.never_fits == 1 && its.decision.retry_after_ns == TOKENWEIR_ABSENT);
    CHECK(its.decision.retry_after_seconds == TOKENWEIR_ABSENT && its.decision.refusals == 1);
    CHECK(its.decision.limit_length == strlen(name) && strlen(its.decision.limit) == 63);
    CHECK(!strncmp(its.decision.limit, name, 63) && its.decision.table_full == 0);
    id = admitted(its.limiter);
    DONE(tokenweir_limiter_observe(its.limiter, id, 0, 4000, NULL, &spent, &error));
    CHECK(spent == 1);
    its.usage.cached_input = 1;
    DONE(tokenweir_limiter_settle(its.limiter, id, &its.usage, NULL, &its.settlement, &error));
    CHECK(its.settlement.outcome == TOKENWEIR_OUTCOME_SETTLED && its.settlement.estimated == 0);
    CHECK(its.settlement.input == 1 && its.settlement.cached_input == 1 && its.settlement.output == 2);

    DONE(tokenweir_ring_poll(its.ring, &its.record, &error));
    DONE(tokenweir_record_read(its.record, &view, &error));
    CHECK(view.kind == TOKENWEIR_RECORD_DENIED && view.limit_length == strlen(name));
    CHECK(!memcmp(view.limit, name, view.limit_length) && view.status == 403 && view.refusals == 1);
    CHECK(view.retry_after_ns == TOKENWEIR_ABSENT && view.estimated_input == 2000 && view.permit == 0);
    DONE(tokenweir_record_json(its.record, &its.text, &error));
    CHECK(strstr(tokenweir_text_chars(its.text), name) != NULL);
    tokenweir_text_free(its.text);
    tokenweir_record_free(its.record);
    DONE(tokenweir_ring_poll(its.ring, &its.record, &error));
    DONE(tokenweir_record_read(its.record, &view, &error));
    CHECK(view.kind == TOKENWEIR_RECORD_ADMITTED && view.permit == id && view.shadow_refused == 0);
    CHECK(view.project_length == 6 && !memcmp(view.project, "search", 6) && view.limit == NULL);
    tokenweir_record_free(its.record);
    DONE(tokenweir_ring_poll(its.ring, &its.record, &error));
    DONE(tokenweir_record_read(its.record, &view, &error));
    CHECK(view.kind == TOKENWEIR_RECORD_SETTLED && view.permit == id && view.outcome == TOKENWEIR_OUTCOME_SETTLED);
    CHECK(view.input == 1 && view.output == 2 && view.reported_cached_input == 1 && view.estimated_output == 4);
    tokenweir_record_free(its.record);
    DONE(tokenweir_ring_poll(its.ring, &its.record, &error));
    CHECK(its.record == NULL);
    for (int at = 0; at < 20; at++) {
        DONE(tokenweir_limiter_admit(its.limiter, &its.request, &much, NULL, &its.decision, NULL, &error));
    }
    DONE(tokenweir_ring_lost(its.ring, &lost, &error));
    CHECK(lost == 4);

    DONE(tokenweir_limiter_stats(its.limiter, &stats, &error));
    CHECK(stats.permits_open == 0 && stats.counters > 0 && stats.max_counters == 100000 && stats.refused_full == 0);
    CHECK(stats.max_histories == 5000);
    DONE(tokenweir_limiter_policy(its.limiter, &policy, &error));
    DONE(tokenweir_policy_json(policy, &its.text, &error));
    CHECK(strstr(tokenweir_text_chars(its.text), "\"key_names\":[]") != NULL);
    CHECK(strstr(tokenweir_text_chars(its.text), name) != NULL);
    tokenweir_text_free(its.text);
    DONE(tokenweir_limiter_swap_policy(its.limiter, policy, NULL, &error));
    tokenweir_policy_free(policy);
}

/* What the project's tokens have used, from the usage view. */
static unsigned long long used(const tokenweir_limiter *limiter)
{
    tokenweir_usage_filter filter = tokenweir_usage_filter_init();
    tokenweir_text *text = NULL;
    unsigned long long used;
    const tokenweir_key project = tokenweir_key_of("project", "search");
    filter.scope = &project;
    filter.scope_count = 1;
    DONE(tokenweir_limiter_usage(limiter, &filter, NULL, &text, &error));
    used = strtoull(strstr(tokenweir_text_chars(text), "\"used\":") + 7, NULL, 10);
    tokenweir_text_free(text);
    return used;
}

/* Counters that outlive their limiter; and documents that are none. */
static void snapshots(void)
{
    tokenweir_limiter *after = limiter_of(POLICY, NULL), *other = NULL;
    tokenweir_text *snapshot = NULL, *restored = NULL;
    const char *document;
    size_t length;
    uint64_t id = admitted(its.limiter);

    DONE(tokenweir_limiter_snapshot(its.limiter, NULL, &snapshot, &error));
    document = tokenweir_text_chars(snapshot);
    length = tokenweir_text_length(snapshot);
    CHECK(!strncmp(document, "{\"version\":1,", 13));
    DONE(tokenweir_limiter_restore(after, document, length, NULL, &restored, &error));
    CHECK(!strcmp(tokenweir_text_chars(restored), "{\"counters\":2,\"left_out\":[]}"));
    tokenweir_text_free(restored);
    CHECK(used(after) == used(its.limiter) && used(after) >= 7);
    tokenweir_limiter_free(after);
    /* Another limit of the name, and one that is gone. */
    other = limiter_of("[[limit]]\nname = 'places'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 9\nperiod = 'never'\n", NULL);
    DONE(tokenweir_limiter_restore(other, document, length, &its.now, &restored, &error));
    CHECK(strstr(tokenweir_text_chars(restored), "\"reason\":\"changed\"") != NULL);
    CHECK(strstr(tokenweir_text_chars(restored), "\"reason\":\"no_such_limit\"") != NULL);
    tokenweir_text_free(restored);

    GIVES(TOKENWEIR_SNAPSHOT_INVALID, tokenweir_limiter_restore(other, document, length - 1, NULL, &restored, &error));
    GIVES(TOKENWEIR_SNAPSHOT_INVALID, tokenweir_limiter_restore(other, "{\"version\":2}", 13, NULL, &restored, &error));
    GIVES(TOKENWEIR_SNAPSHOT_INVALID, tokenweir_limiter_restore(other, NULL, 0, NULL, &restored, &error));
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_limiter_restore(other, "\xff", 1, NULL, &restored, &error));
    NONE(tokenweir_limiter_restore(NULL, document, length, NULL, &restored, &error));
    NONE(tokenweir_limiter_restore(other, NULL, length, NULL, &restored, &error));
    NONE(tokenweir_limiter_restore(other, document, length, NULL, NULL, &error));
    NONE(tokenweir_limiter_snapshot(NULL, NULL, &its.text, &error));
    NONE(tokenweir_limiter_snapshot(its.limiter, NULL, NULL, &error));
    CHECK(restored == NULL && its.text == NULL);
    tokenweir_text_free(snapshot);
    tokenweir_limiter_free(other);
    DONE(tokenweir_limiter_cancel(its.limiter, id, NULL, NULL, &error));
}

static void clocks(void)
{
    const uint64_t day = UINT64_C(86400000000000);
    tokenweir_clock *past = NULL;
    tokenweir_now first, second;
    DONE(tokenweir_clock_now(its.system, &first, &error));
    DONE(tokenweir_clock_now(its.system, &second, &error));
    CHECK(second.mono >= first.mono && first.wall > INT64_C(1577836800000000000));
    DONE(tokenweir_clock_now(its.coarse, &first, &error));
    DONE(tokenweir_clock_now(its.coarse, &second, &error));
    CHECK(second.mono == first.mono && second.wall == first.wall);
    do {
        DONE(tokenweir_clock_tick(its.coarse, &error));
        DONE(tokenweir_clock_now(its.coarse, &second, &error));
    } while (second.mono == first.mono);
    CHECK(second.mono > first.mono);
    first.mono = 5;
    first.wall = -7;
    DONE(tokenweir_clock_set(its.manual, &first, &error));
    DONE(tokenweir_clock_advance(its.manual, 10, &error));
    DONE(tokenweir_limiter_now(its.limiter, &second, &error));
    CHECK(second.mono == 15 && second.wall == 3);
    DONE(tokenweir_clock_new_system_with_past(day, &past, &error));
    DONE(tokenweir_clock_now(past, &first, &error));
    /* A machine may not have been up for a day. */
    CHECK(first.mono < 2 * day && first.wall > INT64_C(1577836800000000000));
    tokenweir_clock_free(past);
    DONE(tokenweir_clock_new_system_with_past(UINT64_MAX, &past, &error));
    tokenweir_clock_free(past);
    NONE(tokenweir_clock_new_system_with_past(day, NULL, &error));
}

static void version(void)
{
    char numbers[32];
    CHECK(tokenweir_abi_version() == TOKENWEIR_ABI_VERSION);
    CHECK(!strcmp(tokenweir_version(), TOKENWEIR_VERSION));
    sprintf(numbers, "%d.%d.%d", TOKENWEIR_VERSION_MAJOR, TOKENWEIR_VERSION_MINOR, TOKENWEIR_VERSION_PATCH);
    CHECK(!strcmp(numbers, TOKENWEIR_VERSION));
    CHECK(!strcmp(tokenweir_code_name(TOKENWEIR_OK), "OK"));
    CHECK(!strcmp(tokenweir_code_name(TOKENWEIR_PERMIT_SETTLED), "PERMIT_SETTLED"));
    CHECK(tokenweir_code_name(-1) == NULL && tokenweir_code_name(INT32_MAX) == NULL);
}

int main(void)
{
    version();
    set_up();
    null_arguments();
    ids();
    sizes_and_reserved_fields();
    lengths_and_text();
    ranges();
    codes_of_policies();
    results();
    snapshots();
    clocks();
    tear_down();
    /* In another order: what was made with others goes on without them. */
    set_up();
    tokenweir_policy_free(its.policy);
    tokenweir_clock_free(its.manual);
    tokenweir_ring_free(its.ring);
    tokenweir_limiter_free(its.limiter);
    its.policy = NULL;
    its.manual = NULL;
    its.ring = NULL;
    its.limiter = NULL;
    DONE(tokenweir_route_admit(its.route, &its.estimate, NULL, &its.decision, NULL, &error));
    DONE(tokenweir_route_settle(its.route, its.decision.permit, &its.usage, NULL, NULL, &error));
    tear_down();
    puts("arguments: ok");
    return 0;
}
