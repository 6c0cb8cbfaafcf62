/* Calls through a gateway by plain structs: decided, observed, settled, cancelled, dropped; by threads; and with hostile
   arguments. */
#include "check.h"
#include <pthread.h>

#define ADA "{\"apply\":{\"by\":\"ada\",\"operation\":{"

static struct {
    tokenweir_clock *clock;
    tokenweir_console *console;
    tokenweir_gate *gate;
} its;

/* A command that is carried out; what it comes to holds this text. */
static void does(const char *command, const char *holds)
{
    tokenweir_text *text = NULL;
    uint32_t refused = 7;
    DONE(tokenweir_console_command(its.console, command, strlen(command), &text, &refused, &error));
    if (refused || !strstr(tokenweir_text_chars(text), holds))
        check_failed(__FILE__, __LINE__, tokenweir_text_chars(text));
    tokenweir_text_free(text);
}

static void set_up(void)
{
    const tokenweir_now now = {0, INT64_C(1795000000000000000)};
    DONE(tokenweir_clock_new_manual(&now, &its.clock, &error));
    DONE(tokenweir_console_new(NULL, 0, its.clock, &its.console, &error));
    does("{\"declare\":{\"resource\":{\"name\":\"contoso\",\"public_network_access\":true,\"site\":{\"tenant\":\"t\","
         "\"subscription\":\"s\",\"resource_group\":\"g\",\"region\":\"swedencentral\"}}}}", "ok");
    does("{\"declare\":{\"deployment\":{\"resource\":\"contoso\",\"name\":\"d\",\"model\":\"gpt-4o\"}}}", "ok");
    does("{\"declare\":{\"project\":{\"resource\":\"contoso\",\"name\":\"search\",\"created\":\"2026-01-01T00:00:00Z\"}}}", "ok");
    does("{\"declare\":{\"project\":{\"resource\":\"contoso\",\"name\":\"chat\",\"created\":\"2026-01-01T00:00:00Z\"}}}", "ok");
    does("{\"declare\":{\"principal\":{\"id\":\"ada\",\"assignments\":[{\"role\":\"Owner\",\"scope\":\"/subscriptions/s\"},"
         "{\"role\":\"Foundry Owner\",\"scope\":\"/subscriptions/s\"}]}}}", "ok");
    does(ADA "\"create_gateway\":{\"resource\":\"contoso\",\"name\":\"front\"}}}}", "Enabled");
    does(ADA "\"add_project\":{\"resource\":\"contoso\",\"project\":\"search\"}}}}", "ok");
    does(ADA "\"set_limit\":{\"resource\":\"contoso\",\"project\":\"search\",\"deployment\":\"d\",\"limit\":{\"tokens_per_minute\":100}}}}}", "ok");
    DONE(tokenweir_console_gate(its.console, "contoso", 7, &its.gate, &error));
}

static tokenweir_verdict admitted(const tokenweir_call *call, tokenweir_passage **passage, tokenweir_answer **answer)
{
    tokenweir_verdict verdict = tokenweir_verdict_init();
    DONE(tokenweir_gate_admit(its.gate, call, NULL, &verdict, passage, answer, &error));
    CHECK((*passage != NULL) == (verdict.status == 0));
    return verdict;
}

static void ends(void)
{
    tokenweir_call call = tokenweir_call_of("search", "d"), other = tokenweir_call_of("chat", "d");
    tokenweir_completion completion = tokenweir_completion_of(90, 20);
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_passage *passage = NULL;
    tokenweir_answer *answer = NULL;
    tokenweir_answer_view view = tokenweir_answer_view_init();
    tokenweir_verdict verdict;
    uint32_t spent = 7;

    /* Cancelled: nothing was taken. Once. */
    call.streamed = 1;
    call.estimated_input = 60;
    verdict = admitted(&call, &passage, NULL);
    CHECK(verdict.outcome == TOKENWEIR_CALL_ADMITTED && verdict.permit != 0 && verdict.retry_after_seconds == 0);
    DONE(tokenweir_passage_cancel(passage, NULL, &settlement, &error));
    CHECK(settlement.outcome == TOKENWEIR_OUTCOME_CANCELLED && settlement.permit == verdict.permit);
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_cancel(passage, NULL, &settlement, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_settle(passage, &completion, NULL, &settlement, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_observe(passage, 0, 1, NULL, NULL, &error));
    tokenweir_passage_free(passage);

    /* A call that takes longer than ten minutes: renewed twice, then left alone. */
    verdict = admitted(&call, &passage, NULL);
    for (int times = 0; times < 2; times++) {
        DONE(tokenweir_clock_advance(its.clock, UINT64_C(400000000000), &error));
        DONE(tokenweir_passage_renew(passage, UINT64_C(600000000000), NULL, &error));
        DONE(tokenweir_passage_observe(passage, 0, 1, NULL, NULL, &error));
    }
    DONE(tokenweir_clock_advance(its.clock, UINT64_C(600000000000), &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_renew(passage, 1, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_cancel(passage, NULL, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_renew(passage, 1, NULL, &error));
    tokenweir_passage_free(passage);

    call = tokenweir_call_of("search", "d");
    call.correlation_id = "mine";
    call.correlation_id_length = 4;
    admitted(&call, &passage, &answer);
    DONE(tokenweir_answer_read(answer, &view, &error));
    CHECK(view.status == 0 && view.body_length == 0);
    tokenweir_answer_free(answer);
    DONE(tokenweir_passage_observe(passage, 0, 10, NULL, &spent, &error));
    CHECK(spent == 0);
    completion.deployment_served = "spill";
    completion.deployment_served_length = 5;
    completion.backend_ns = 2000000000;
    DONE(tokenweir_passage_settle(passage, &completion, NULL, &settlement, &error));
    CHECK(settlement.input == 90 && settlement.output == 20 && settlement.outcome == TOKENWEIR_OUTCOME_SETTLED);
    tokenweir_passage_free(passage);

    /* 110 of 100 are used: 11 tokens of refill until one is there. */
    verdict = admitted(&call, &passage, &answer);
    CHECK(verdict.outcome == TOKENWEIR_CALL_REFUSED_RATE && verdict.status == 429 && verdict.permit == 0);
    CHECK(verdict.retry_after_seconds == 7 && verdict.never_fits == 0);
    DONE(tokenweir_answer_read(answer, &view, &error));
    CHECK(view.status == 429 && !strcmp(view.body, "{\"statusCode\":429,\"message\":\"Token limit is exceeded. Try again in 7 seconds.\"}"));
    CHECK(!strcmp(view.headers[0].name, "Retry-After") && !strcmp(view.headers[0].value, "7"));
    tokenweir_answer_free(answer);
    CHECK(admitted(&call, &passage, NULL).status == 429);

    /* What is not behind the gateway bypasses it; a project that is not there does not pass. */
    verdict = admitted(&other, &passage, NULL);
    CHECK(verdict.outcome == TOKENWEIR_CALL_BYPASSED && verdict.permit == 0);
    DONE(tokenweir_passage_observe(passage, 5, 5, NULL, &spent, &error));
    DONE(tokenweir_passage_renew(passage, 5, NULL, &error));
    DONE(tokenweir_passage_settle(passage, &completion, NULL, &settlement, &error));
    CHECK(spent == 0 && settlement.outcome == TOKENWEIR_OUTCOME_NONE && settlement.input == 0);
    tokenweir_passage_free(passage);
    does(ADA "\"set_traffic\":{\"resource\":\"contoso\",\"traffic\":{\"unknown_project\":\"deny\"}}}}}", "ok");
    other = tokenweir_call_of("nobody", "d");
    verdict = admitted(&other, &passage, &answer);
    CHECK(verdict.outcome == TOKENWEIR_CALL_REFUSED_UNGOVERNED && verdict.status == 404);
    DONE(tokenweir_answer_read(answer, &view, &error));
    CHECK(view.status == verdict.status && view.body_length > 0);
    tokenweir_answer_free(answer);

    /* Freed without a word, and with a usage that cannot be: both have ended, and say so. */
    DONE(tokenweir_clock_advance(its.clock, UINT64_C(120000000000), &error));
    admitted(&call, &passage, NULL);
    tokenweir_passage_free(passage);
    admitted(&call, &passage, NULL);
    completion.usage.cached_input = 91;
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_passage_settle(passage, &completion, NULL, &settlement, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_passage_cancel(passage, NULL, NULL, &error));
    tokenweir_passage_free(passage);
    does("{\"records\":{}}", "\"deployment_served\":\"spill\"");
    does("{\"status\":{}}", "\"bypassed\":1");
}

#define ROUNDS 2000

static void *work(void *unused)
{
    tokenweir_call call = tokenweir_call_of("search", "d");
    tokenweir_completion completion = tokenweir_completion_of(2, 1);
    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        tokenweir_passage *passage = NULL;
        CHECK(admitted(&call, &passage, NULL).outcome == TOKENWEIR_CALL_ADMITTED);
        DONE(tokenweir_passage_observe(passage, 0, 1, NULL, NULL, &error));
        DONE(tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
        tokenweir_passage_free(passage);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t some[4];
    char holds[60];
    does(ADA "\"set_limit\":{\"resource\":\"contoso\",\"project\":\"search\",\"deployment\":\"d\",\"limit\":{\"tokens_per_minute\":1000000}}}}}", "ok");
    DONE(tokenweir_clock_advance(its.clock, UINT64_C(120000000000), &error));
    for (int at = 0; at < 4; at++)
        CHECK(pthread_create(&some[at], NULL, work, NULL) == 0);
    for (int at = 0; at < 4; at++)
        CHECK(pthread_join(some[at], NULL) == 0);
    sprintf(holds, "\"remaining\":%d", 1000000 - 4 * ROUNDS * 3);
    does("{\"status\":{}}", holds);
}

static void hostile(void)
{
    const char torn[] = "\xff";
    const tokenweir_call good = tokenweir_call_of("search", "d");
    tokenweir_call call = good;
    tokenweir_completion completion = tokenweir_completion_of(1, 1);
    tokenweir_verdict verdict = tokenweir_verdict_init();
    tokenweir_passage *passage = NULL;
    tokenweir_answer *answer = NULL;
    tokenweir_gate *gate = its.gate;
    const char **texts[] = {&call.project, &call.deployment, &call.agent, &call.tool, &call.correlation_id, &call.operation};
    size_t *lengths[] = {&call.project_length, &call.deployment_length, &call.agent_length, &call.tool_length, &call.correlation_id_length, &call.operation_length};

    GIVES(TOKENWEIR_RESOURCE_UNKNOWN, tokenweir_console_gate(its.console, "nobody", 6, &gate, &error));
    CHECK(gate == NULL);
    GIVES(TOKENWEIR_RESOURCE_UNKNOWN, tokenweir_console_gate(its.console, NULL, 0, &gate, &error));
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_console_gate(its.console, torn, 1, &gate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_gate(its.console, NULL, 1, &gate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_gate(NULL, "contoso", 7, &gate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_gate(its.console, "contoso", 7, NULL, &error));

    verdict.outcome = 77;
    for (size_t at = 0; at < 6; at++) {
        call = good;
        *texts[at] = torn;
        *lengths[at] = 1;
        GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));
        *texts[at] = NULL;
        GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));
        *lengths[at] = SIZE_MAX;
        *texts[at] = torn;
        GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));
    }
    call = good;
    call.key_count = 1;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));
    call = good;
    call.reserved[3] = 1;
    GIVES(TOKENWEIR_RESERVED_NOT_ZERO, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));
    call.size = 8;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));
    call = good;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_gate_admit(NULL, &call, NULL, &verdict, &passage, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_gate_admit(its.gate, NULL, NULL, &verdict, &passage, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_gate_admit(its.gate, &call, NULL, NULL, &passage, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, NULL, &answer, &error));
    CHECK(passage == NULL && answer == NULL && verdict.outcome == 77);
    verdict.size--;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_gate_admit(its.gate, &call, NULL, &verdict, &passage, &answer, &error));

    /* What cannot be read ends nothing. */
    admitted(&call, &passage, NULL);
    completion.response_code = 70000;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    completion.response_code = 0;
    completion.usage.size = 0;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    completion = tokenweir_completion_of(1, 1);
    completion.model_served = torn;
    completion.model_served_length = 1;
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    completion.model_served = NULL;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    completion.model_served_length = 0;
    completion.reserved[3] = 1;
    GIVES(TOKENWEIR_RESERVED_NOT_ZERO, tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    completion.reserved[3] = 0;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_passage_settle(passage, NULL, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_passage_settle(NULL, &completion, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_passage_cancel(NULL, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_passage_observe(NULL, 1, 1, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_passage_renew(NULL, 1, NULL, &error));
    GIVES(TOKENWEIR_USAGE_INVALID, tokenweir_passage_observe(passage, UINT64_MAX, 0, NULL, NULL, &error));
    DONE(tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    tokenweir_passage_free(passage);
    tokenweir_passage_free(NULL);
    tokenweir_gate_free(NULL);

    /* A gate outlives its console, a call its gate. */
    tokenweir_console_free(its.console);
    tokenweir_clock_free(its.clock);
    admitted(&call, &passage, NULL);
    tokenweir_gate_free(its.gate);
    DONE(tokenweir_passage_settle(passage, &completion, NULL, NULL, &error));
    tokenweir_passage_free(passage);
}

int main(void)
{
    set_up();
    ends();
    threads();
    hostile();
    puts("gate: ok");
    return 0;
}
