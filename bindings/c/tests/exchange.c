/* One admitted call from its admission to its end: what goes to the client, what is settled, and each call with hostile
   arguments. */
#include "check.h"

static const char POLICY[] = "[[limit]]\nname = 'month'\nmeter = 'total'\nalgorithm = 'quota'\namount = 100\nperiod = 'monthly'\n";
static const char EVENTS[] = "text/event-stream";
static const char HELLO[] = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello there!\"}}]}\n\n";
static const char USAGE[] = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
static const char BODY[] = "{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}],"
                           "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}";

static uint64_t admitted(tokenweir_limiter *limiter, uint64_t input, uint64_t output)
{
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(input, output);
    tokenweir_decision decision = tokenweir_decision_init();
    DONE(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, &error));
    CHECK(decision.admitted == 1);
    return decision.permit;
}

static tokenweir_exchange *begun(tokenweir_limiter *limiter, uint64_t permit, uint64_t output, const tokenweir_call_rules *rules)
{
    tokenweir_estimate estimate = tokenweir_estimate_of(10, output);
    tokenweir_exchange *exchange = NULL;
    DONE(tokenweir_exchange_new(limiter, TOKENWEIR_API_CHAT_COMPLETIONS, permit, &estimate, rules, NULL, &exchange, &error));
    return exchange;
}

static tokenweir_usage used(const tokenweir_exchange *exchange, uint32_t unanswered)
{
    tokenweir_usage usage = tokenweir_usage_unknown();
    DONE(tokenweir_exchange_used(exchange, unanswered, &usage, &error));
    return usage;
}

/* The piece passes; what goes to the client instead, if it is not the piece itself. */
static tokenweir_text *passed(const tokenweir_exchange *exchange, const char *piece, uint32_t last, uint32_t ends)
{
    tokenweir_text *instead = NULL;
    uint32_t seen = 7;
    DONE(tokenweir_exchange_passes(exchange, piece, strlen(piece), last, NULL, &instead, &seen, &error));
    CHECK(seen == ends);
    return instead;
}

static void bodies_and_streams(void)
{
    tokenweir_limiter *limiter = limiter_of(POLICY, NULL);
    tokenweir_response_head body = tokenweir_response_head_of(200, "application/json", TOKENWEIR_DIALECT_OPENAI);
    tokenweir_response_head events = tokenweir_response_head_of(200, EVENTS, TOKENWEIR_DIALECT_OPENAI);
    uint64_t permit = admitted(limiter, 10, 20);
    tokenweir_exchange *exchange = begun(limiter, permit, 20, NULL);
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_usage usage;
    tokenweir_text *instead;
    uint32_t expired = 7;

    CHECK(tokenweir_exchange_keeps_length(exchange) == 1 && tokenweir_exchange_keeps_length(NULL) == 1);
    DONE(tokenweir_exchange_has_expired(exchange, NULL, &expired, &error));
    CHECK(expired == 0);
    /* Nothing has come: what is charged is the operator's to say. */
    CHECK(used(exchange, 0).output == TOKENWEIR_ABSENT && used(exchange, 1).output == TOKENWEIR_ABSENT);
    DONE(tokenweir_exchange_answered(exchange, &body, &error));
    CHECK(tokenweir_exchange_keeps_length(exchange) == 1);
    CHECK(passed(exchange, BODY, 1, 0) == NULL);
    usage = used(exchange, 0);
    CHECK(usage.input == 9 && usage.output == 4);
    DONE(tokenweir_limiter_settle(limiter, permit, &usage, NULL, &settlement, &error));
    CHECK(settlement.output == 4);
    tokenweir_exchange_free(exchange);
    tokenweir_exchange_free(NULL);

    /* A stream whose usage the client did not ask for. */
    permit = admitted(limiter, 10, 20);
    exchange = begun(limiter, permit, 20, NULL);
    events.withhold_usage = 1;
    DONE(tokenweir_exchange_answered(exchange, &events, &error));
    CHECK(tokenweir_exchange_keeps_length(exchange) == 0);
    instead = passed(exchange, HELLO, 0, 0);
    CHECK(instead != NULL && !strcmp(tokenweir_text_chars(instead), HELLO));
    tokenweir_text_free(instead);
    instead = passed(exchange, USAGE, 1, 0);
    CHECK(instead != NULL && !strcmp(tokenweir_text_chars(instead), "data: [DONE]\n\n"));
    tokenweir_text_free(instead);
    usage = used(exchange, 0);
    CHECK(usage.input == 9 && usage.output == 4);
    DONE(tokenweir_limiter_settle(limiter, permit, &usage, NULL, NULL, &error));
    tokenweir_exchange_free(exchange);
    tokenweir_limiter_free(limiter);
}

static void ends_that_are_not_well(void)
{
    tokenweir_limiter *limiter = limiter_of(POLICY, NULL);
    tokenweir_response_head failed = tokenweir_response_head_of(503, NULL, TOKENWEIR_DIALECT_OPENAI);
    tokenweir_response_head events = tokenweir_response_head_of(200, EVENTS, TOKENWEIR_DIALECT_OPENAI);
    tokenweir_call_rules rules = tokenweir_call_rules_init();
    uint64_t permit = admitted(limiter, 10, 20);
    tokenweir_exchange *exchange;
    tokenweir_text *instead;

    /* What is charged that was never answered, and what the provider failed at. */
    rules.unanswered = TOKENWEIR_UNANSWERED_INPUT;
    exchange = begun(limiter, permit, 20, &rules);
    CHECK(used(exchange, 1).output == 0 && used(exchange, 1).input == TOKENWEIR_ABSENT);
    DONE(tokenweir_exchange_answered(exchange, &failed, &error));
    CHECK(passed(exchange, "no", 1, 0) == NULL);
    CHECK(used(exchange, 0).input == 0 && used(exchange, 0).output == 0);
    tokenweir_exchange_free(exchange);
    rules.failed = TOKENWEIR_FAILED_ESTIMATE;
    exchange = begun(limiter, permit, 20, &rules);
    DONE(tokenweir_exchange_answered(exchange, &failed, &error));
    CHECK(used(exchange, 0).input == TOKENWEIR_ABSENT && used(exchange, 0).output == TOKENWEIR_ABSENT);
    tokenweir_exchange_free(exchange);
    DONE(tokenweir_limiter_cancel(limiter, permit, NULL, NULL, &error));

    /* A stream that goes beyond its estimate and the quota is cut between two events, and says so. */
    permit = admitted(limiter, 90, 1);
    exchange = begun(limiter, permit, 1, NULL);
    DONE(tokenweir_exchange_answered(exchange, &events, &error));
    CHECK(tokenweir_exchange_keeps_length(exchange) == 0);
    instead = NULL;
    for (int at = 0; at < 20 && instead == NULL; at++) {
        uint32_t ends = 7;
        DONE(tokenweir_exchange_passes(exchange, HELLO, strlen(HELLO), 0, NULL, &instead, &ends, &error));
        CHECK(ends == (instead != NULL));
    }
    CHECK(instead != NULL && strstr(tokenweir_text_chars(instead), "month") != NULL);
    CHECK(!strncmp(tokenweir_text_chars(instead), HELLO, strlen(HELLO)));
    tokenweir_text_free(instead);
    tokenweir_exchange_free(exchange);

    /* Where nothing is to be cut, everything passes as it is. */
    rules.cut = TOKENWEIR_CUT_NEVER;
    exchange = begun(limiter, permit, 1, &rules);
    DONE(tokenweir_exchange_answered(exchange, &events, &error));
    CHECK(tokenweir_exchange_keeps_length(exchange) == 1);
    for (int at = 0; at < 20; at++)
        CHECK(passed(exchange, HELLO, 0, 0) == NULL);
    /* It broke off: what was seen is what it used. */
    CHECK(used(exchange, 0).output == 60);
    tokenweir_exchange_free(exchange);
    tokenweir_limiter_free(limiter);
}

static void permits_live_as_long_as_their_calls(void)
{
    tokenweir_options options = tokenweir_options_init();
    tokenweir_clock *clock = NULL;
    tokenweir_now now = {0, 0};
    tokenweir_response_head events = tokenweir_response_head_of(200, EVENTS, TOKENWEIR_DIALECT_OPENAI);
    tokenweir_limiter *limiter;
    tokenweir_exchange *exchange;
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_usage usage;
    uint64_t permit;
    uint32_t expired = 7;

    DONE(tokenweir_clock_new_manual(NULL, &clock, &error));
    options.clock = clock;
    options.permit_ttl_ns = 1000000000;
    limiter = limiter_of(POLICY, &options);
    permit = admitted(limiter, 10, 20);
    exchange = begun(limiter, permit, 20, NULL);
    tokenweir_limiter_free(limiter); /* the exchange keeps it going */
    DONE(tokenweir_exchange_answered(exchange, &events, &error));
    for (int at = 0; at < 5; at++) {
        now.mono += 600000000;
        now.wall += 600000000;
        DONE(tokenweir_clock_set(clock, &now, &error));
        CHECK(passed(exchange, HELLO, 0, 0) == NULL);
    }
    usage = used(exchange, 0);
    CHECK(usage.output == 15);
    tokenweir_exchange_free(exchange);

    limiter = limiter_of(POLICY, &options);
    permit = admitted(limiter, 10, 20);
    exchange = begun(limiter, permit, 20, NULL);
    now.mono += 1000000001;
    DONE(tokenweir_exchange_has_expired(exchange, &now, &expired, &error));
    CHECK(expired == 1);
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_limiter_settle(limiter, permit, &usage, &now, &settlement, &error));
    tokenweir_exchange_free(exchange);
    tokenweir_limiter_free(limiter);
    tokenweir_clock_free(clock);
}

static void hostile_arguments(void)
{
    tokenweir_limiter *limiter = limiter_of(POLICY, NULL);
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 1);
    tokenweir_call_rules rules = tokenweir_call_rules_init();
    tokenweir_response_head head = tokenweir_response_head_of(200, EVENTS, TOKENWEIR_DIALECT_OPENAI);
    tokenweir_usage usage = tokenweir_usage_unknown();
    tokenweir_exchange *exchange = NULL;
    tokenweir_text *instead = NULL;
    uint32_t flag = 7;
    const uint64_t permit = admitted(limiter, 1, 1);

#define NEW(limiter, api, permit, estimate, rules, place) \
    tokenweir_exchange_new(limiter, api, permit, estimate, rules, NULL, place, &error)
    GIVES(TOKENWEIR_NULL_ARGUMENT, NEW(NULL, 1, permit, &estimate, &rules, &exchange));
    GIVES(TOKENWEIR_NULL_ARGUMENT, NEW(limiter, 1, permit, NULL, &rules, &exchange));
    GIVES(TOKENWEIR_NULL_ARGUMENT, NEW(limiter, 1, permit, &estimate, &rules, NULL));
    GIVES(TOKENWEIR_PERMIT_UNKNOWN, NEW(limiter, 1, 0, &estimate, &rules, &exchange));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, NEW(limiter, 7, permit, &estimate, &rules, &exchange));
    rules.cut = 3;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, NEW(limiter, 1, permit, &estimate, &rules, &exchange));
    rules.cut = 0, rules.failed = 2;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, NEW(limiter, 1, permit, &estimate, &rules, &exchange));
    rules.failed = 0, rules.unanswered = UINT32_MAX;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, NEW(limiter, 1, permit, &estimate, &rules, &exchange));
    rules.unanswered = 0, rules.reserved[3] = 1;
    GIVES(TOKENWEIR_RESERVED_NOT_ZERO, NEW(limiter, 1, permit, &estimate, &rules, &exchange));
    rules.reserved[3] = 0, rules.size++;
    GIVES(TOKENWEIR_STRUCT_SIZE, NEW(limiter, 1, permit, &estimate, &rules, &exchange));
    CHECK(exchange == NULL);
    /* A response of which nothing is known says nothing of tokens. */
    DONE(NEW(limiter, TOKENWEIR_API_NONE, permit, &estimate, NULL, &exchange));

    GIVES(TOKENWEIR_CALL_ORDER, tokenweir_exchange_passes(exchange, "x", 1, 0, NULL, &instead, &flag, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_answered(exchange, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_answered(NULL, &head, &error));
    head.status = 99;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_exchange_answered(exchange, &head, &error));
    head.status = 1000;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_exchange_answered(exchange, &head, &error));
    head.status = 200, head.dialect = 0;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_exchange_answered(exchange, &head, &error));
    head.dialect = TOKENWEIR_DIALECT_GEMINI, head.content_encoding_length = 4;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_answered(exchange, &head, &error));
    head.content_encoding = "gzip", head.reserved[0] = 1;
    GIVES(TOKENWEIR_RESERVED_NOT_ZERO, tokenweir_exchange_answered(exchange, &head, &error));
    head.reserved[0] = 0, head.size = 4;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_exchange_answered(exchange, &head, &error));
    head.size = sizeof head;
    DONE(tokenweir_exchange_answered(exchange, &head, &error));
    GIVES(TOKENWEIR_CALL_ORDER, tokenweir_exchange_answered(exchange, &head, &error));

    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_passes(NULL, "x", 1, 0, NULL, &instead, &flag, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_passes(exchange, NULL, 1, 0, NULL, &instead, &flag, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_passes(exchange, "x", 1, 0, NULL, NULL, &flag, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_passes(exchange, "x", 1, 0, NULL, &instead, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_exchange_passes(exchange, "x", SIZE_MAX, 0, NULL, &instead, &flag, &error));
    CHECK(instead == NULL && flag == 7);
    DONE(tokenweir_exchange_passes(exchange, "\xff\0{", 3, 0, NULL, &instead, &flag, &error));
    DONE(tokenweir_exchange_passes(exchange, NULL, 0, 1, NULL, &instead, &flag, &error));
    CHECK(instead == NULL && flag == 0);
    flag = 7;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_has_expired(NULL, NULL, &flag, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_has_expired(exchange, NULL, NULL, &error));
    CHECK(flag == 7);
    DONE(tokenweir_exchange_has_expired(exchange, NULL, &flag, &error));
    CHECK(flag == 0);
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_used(NULL, 0, &usage, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_exchange_used(exchange, 0, NULL, &error));
    usage.size = 0;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_exchange_used(exchange, 0, &usage, &error));
    CHECK(used(exchange, 0).output == TOKENWEIR_ABSENT);
    tokenweir_exchange_free(exchange);
    tokenweir_limiter_free(limiter);
}

int main(void)
{
    bodies_and_streams();
    ends_that_are_not_well();
    permits_live_as_long_as_their_calls();
    hostile_arguments();
    puts("exchange: ok");
    return 0;
}
