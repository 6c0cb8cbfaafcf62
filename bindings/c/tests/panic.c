/* A panic inside comes out as its code, and the limiter goes on. For builds with the feature test-panic. */
#include "check.h"

/* Only in such builds, and in no header. */
tokenweir_code tokenweir_test_clock_new(tokenweir_clock **clock, tokenweir_error **error);
tokenweir_code tokenweir_test_clock_panics(const uint32_t *yes, tokenweir_error **error);

static const char POLICY[] = "[[limit]]\nname = 'quota'\nmeter = 'total'\nalgorithm = 'quota'\namount = 100\n"
                             "period = 'never'\nscope = ['project']\n";

static const char EMPTY[] = "{\"version\":1,\"taken_at\":0,\"limits\":[]}";

static const char REFRESH[] = "{\"refresh\":{}}";

static const char DECLARE[] = "{\"declare\":{\"resource\":{\"name\":\"r\",\"public_network_access\":true,\"site\":{\"tenant\":\"t\","
                              "\"subscription\":\"s\",\"resource_group\":\"g\",\"region\":\"swedencentral\"}}}}";

static void panics(uint32_t yes)
{
    DONE(tokenweir_test_clock_panics(&yes, &error));
}

#define PANICS(call) GIVES(TOKENWEIR_PANIC, call)

int main(void)
{
    tokenweir_options options = tokenweir_options_init();
    tokenweir_policy *policy = policy_of(POLICY);
    tokenweir_clock *clock = NULL;
    tokenweir_limiter *limiter = NULL, *second = NULL;
    tokenweir_route *route = NULL, *none = NULL;
    tokenweir_error *error = NULL;
    tokenweir_text *text = NULL;
    tokenweir_answer *answer = NULL;
    tokenweir_console *console = NULL;
    tokenweir_gate *gate = NULL;
    tokenweir_call call = tokenweir_call_of("p", "d");
    tokenweir_verdict verdict = tokenweir_verdict_init();
    tokenweir_passage *passage = NULL, *refused = NULL;
    tokenweir_completion completion = tokenweir_completion_of(1, 2);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o"), other = tokenweir_request_of("new", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(10, 20);
    tokenweir_usage usage = tokenweir_usage_of(1, 2);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_stats stats = tokenweir_stats_init();
    tokenweir_now now;
    uint64_t id;

    DONE(tokenweir_test_clock_new(&clock, &error));
    options.clock = clock;
    DONE(tokenweir_limiter_new(policy, &options, &limiter, &error));
    DONE(tokenweir_limiter_route(limiter, &request, NULL, &route, &error));
    DONE(tokenweir_route_admit(route, &estimate, NULL, &decision, NULL, &error));
    id = decision.permit;
    DONE(tokenweir_console_new(NULL, 0, clock, &console, &error));
    DONE(tokenweir_console_command(console, DECLARE, sizeof DECLARE - 1, &text, NULL, &error));
    tokenweir_text_free(text);
    text = NULL;
    DONE(tokenweir_console_gate(console, "r", 1, &gate, &error));

    for (int turn = 0; turn < 3; turn++) {
        DONE(tokenweir_gate_admit(gate, &call, NULL, &verdict, &passage, NULL, &error));
        panics(1);
        CHECK(tokenweir_route_admit(route, &estimate, NULL, &decision, NULL, NULL) == TOKENWEIR_PANIC);
        CHECK(tokenweir_route_admit(route, &estimate, NULL, &decision, NULL, &error) == TOKENWEIR_PANIC);
        CHECK(strstr(tokenweir_error_message(error), "provoked") != NULL);
        tokenweir_error_free(error);
        PANICS(tokenweir_clock_now(clock, &now, &error));
        PANICS(tokenweir_limiter_now(limiter, &now, &error));
        PANICS(tokenweir_limiter_new(policy, &options, &second, &error));
        PANICS(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, &error));
        PANICS(tokenweir_limiter_route(limiter, &other, NULL, &none, &error));
        PANICS(tokenweir_limiter_observe(limiter, id, 1, 1, NULL, NULL, &error));
        PANICS(tokenweir_limiter_settle(limiter, id, &usage, NULL, &settlement, &error));
        PANICS(tokenweir_limiter_cancel(limiter, id, NULL, &settlement, &error));
        PANICS(tokenweir_limiter_abandon(limiter, id, NULL, &settlement, &error));
        PANICS(tokenweir_limiter_renew(limiter, id, 1, NULL, &error));
        PANICS(tokenweir_limiter_permit(limiter, id, NULL, &text, &error));
        PANICS(tokenweir_limiter_peek(limiter, &request, &estimate, NULL, &text, &error));
        PANICS(tokenweir_limiter_explain(limiter, &request, &estimate, NULL, &text, &error));
        PANICS(tokenweir_limiter_usage(limiter, NULL, NULL, &text, &error));
        PANICS(tokenweir_limiter_snapshot(limiter, NULL, &text, &error));
        PANICS(tokenweir_limiter_restore(limiter, EMPTY, sizeof EMPTY - 1, NULL, &text, &error));
        PANICS(tokenweir_answer_admitted(limiter, id, TOKENWEIR_DIALECT_OPENAI, 0, NULL, &answer, &error));
        PANICS(tokenweir_gate_admit(gate, &call, NULL, &verdict, &refused, NULL, &error));
        PANICS(tokenweir_passage_observe(passage, 1, 1, NULL, NULL, &error));
        PANICS(tokenweir_passage_renew(passage, 1, NULL, &error));
        PANICS(tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
        PANICS(tokenweir_passage_cancel(passage, NULL, NULL, &error));
        PANICS(tokenweir_console_command(console, REFRESH, sizeof REFRESH - 1, &text, NULL, &error));
        PANICS(tokenweir_limiter_swap_policy(limiter, policy, NULL, &error));
        PANICS(tokenweir_limiter_sweep(limiter, NULL, &error));
        PANICS(tokenweir_route_settle(route, id, &usage, NULL, &settlement, &error));
        PANICS(tokenweir_route_cancel(route, id, NULL, &settlement, &error));
        CHECK(second == NULL && none == NULL && text == NULL && answer == NULL && refused == NULL);
        panics(0);
        /* Nothing has moved: the permit is open, and what it holds is all that is held. */
        DONE(tokenweir_limiter_stats(limiter, &stats, &error));
        CHECK(stats.permits_open == 1);
        DONE(tokenweir_limiter_usage(limiter, NULL, NULL, &text, &error));
        CHECK(strstr(tokenweir_text_chars(text), "\"held\":30") != NULL);
        tokenweir_text_free(text);
        text = NULL;
        DONE(tokenweir_console_command(console, REFRESH, sizeof REFRESH - 1, &text, NULL, &error));
        tokenweir_text_free(text);
        text = NULL;
        /* So is the call. */
        DONE(tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
        tokenweir_passage_free(passage);
        /* It can be settled, the policy be changed, and the next request be admitted. */
        DONE(tokenweir_limiter_settle(limiter, id, &usage, NULL, &settlement, &error));
        CHECK(settlement.input == 1 && settlement.output == 2);
        DONE(tokenweir_limiter_swap_policy(limiter, policy, NULL, &error));
        DONE(tokenweir_route_admit(route, &estimate, NULL, &decision, NULL, &error));
        CHECK(decision.admitted == 1);
        id = decision.permit;
    }
    DONE(tokenweir_limiter_usage(limiter, NULL, NULL, &text, &error));
    CHECK(strstr(tokenweir_text_chars(text), "\"settled_total\":9") != NULL);
    tokenweir_text_free(text);
    tokenweir_route_free(route);
    tokenweir_limiter_free(limiter);
    tokenweir_policy_free(policy);
    tokenweir_gate_free(gate);
    tokenweir_console_free(console);
    tokenweir_clock_free(clock);
    puts("panic: ok");
    return 0;
}
