/*
 * Two projects under four limits: a stream is observed and settled, and a request that must wait is told how long.
 *
 *   cc gateway.c $(pkg-config --cflags --libs tokenweir) -o gateway
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <tokenweir.h>

static const char POLICY[] =
    "[[limit]]\n"
    "name = 'project rpm'\nmeter = 'requests'\nalgorithm = 'bucket'\namount = 600\nper = '1m'\nscope = ['project']\n"
    "[[limit]]\n"
    "name = 'project tpm'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 10_000\nburst = 2_000\nper = '1m'\n"
    "scope = ['project', 'deployment']\n"
    "[[limit]]\n"
    "name = 'deployment window'\nmeter = 'total'\nalgorithm = 'window'\namount = 60_000\nper = '1m'\n"
    "scope = ['deployment']\n"
    "[[limit]]\n"
    "name = 'project month'\nmeter = 'total'\nalgorithm = 'quota'\namount = 50_000_000\nperiod = 'monthly'\n"
    "scope = ['project']\n";

/* Ends the program with what the library says of a call that failed. */
static void done(tokenweir_code code, tokenweir_error *const *error)
{
    if (code != TOKENWEIR_OK) {
        fprintf(stderr, "%s: %s\n", tokenweir_code_name(code), tokenweir_error_message(*error));
        exit(1);
    }
}

static tokenweir_decision admit(const tokenweir_limiter *limiter, const char *project, uint64_t input, uint64_t output)
{
    tokenweir_request request = tokenweir_request_of(project, "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(input, output);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_error *error = NULL;
    done(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, &error), &error);
    if (decision.admitted)
        printf("%s: admitted\n", project);
    else
        printf("%s: denied by %s, status %" PRIu32 ", %" PRIu64 " ms to wait, Retry-After: %" PRIu64 "\n", project,
               decision.limit, decision.status, decision.retry_after_ns / 1000000, decision.retry_after_seconds);
    return decision;
}

int main(void)
{
    tokenweir_error *error = NULL;
    tokenweir_policy *policy = NULL;
    tokenweir_clock *clock = NULL;
    tokenweir_limiter *limiter = NULL;
    tokenweir_text *json = NULL;
    tokenweir_options options = tokenweir_options_init();
    tokenweir_decision decision;
    tokenweir_usage usage = tokenweir_usage_of(912, 380);
    tokenweir_settlement settlement = tokenweir_settlement_init();
    uint32_t spent = 0;

    done(tokenweir_policy_from_toml(POLICY, sizeof POLICY - 1, &policy, &error), &error);
    /* A clock that stands still makes the output below the same every time; without it the system's is used. */
    done(tokenweir_clock_new_manual(NULL, &clock, &error), &error);
    options.clock = clock;
    done(tokenweir_limiter_new(policy, &options, &limiter, &error), &error);

    /* A stream: its tokens are reported as they come, and settled once at the end. */
    decision = admit(limiter, "search", 900, 400);
    for (int chunk = 0; chunk < 4; chunk++)
        done(tokenweir_limiter_observe(limiter, decision.permit, 0, 95, NULL, &spent, &error), &error);
    printf("search: 380 tokens streamed, spent: %" PRIu32 "\n", spent);
    usage.cached_input = 512;
    done(tokenweir_limiter_settle(limiter, decision.permit, &usage, NULL, &settlement, &error), &error);
    printf("search: settled %" PRIu64 " input, %" PRIu64 " of them cached, %" PRIu64 " output\n", settlement.input,
           settlement.cached_input, settlement.output);

    /* Another project has limits of its own; its second request has to wait until its bucket has refilled. */
    decision = admit(limiter, "chat", 1200, 400);
    admit(limiter, "chat", 1000, 500);
    done(tokenweir_limiter_permit(limiter, decision.permit, NULL, &json, &error), &error);
    printf("chat: %s\n", strstr(tokenweir_text_chars(json), "\"remaining\""));
    done(tokenweir_limiter_cancel(limiter, decision.permit, NULL, NULL, &error), &error);
    admit(limiter, "chat", 1000, 500);

    tokenweir_text_free(json);
    tokenweir_limiter_free(limiter);
    tokenweir_clock_free(clock);
    tokenweir_policy_free(policy);
    return 0;
}
