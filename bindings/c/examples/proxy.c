/*
 * What a proxy's filter does: reads a request, admits it, has its stream end with the usage, meters the stream as it
 * passes, settles; and refuses in the words of the client's API.
 *
 *   cc proxy.c $(pkg-config --cflags --libs tokenweir) -o proxy && ./proxy policy.toml
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <tokenweir.h>

/* What a client sends, and what the upstream will answer, in chunks cut anywhere. */
static const char PATH[] = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
static const char STREAMED[] = "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"When is high water?\"}]}";
static const char BOUNDED[] = "{\"max_tokens\":1500,\"messages\":[{\"role\":\"user\",\"content\":\"And low water?\"}]}";
static const char STREAM[] =
    "data: {\"choices\":[{\"delta\":{\"content\":\"At noon, \"}}],\"usage\":null}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"more or less.\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":13,\"completion_tokens\":7}}\n\n"
    "data: [DONE]\n\n";
enum { CHUNK = 23 };

/* Ends the program with what the library says of a call that failed. */
static void done(tokenweir_code code, tokenweir_error *const *error)
{
    if (code != TOKENWEIR_OK) {
        fprintf(stderr, "%s: %s\n", tokenweir_code_name(code), tokenweir_error_message(*error));
        exit(1);
    }
}

static void print(const tokenweir_answer *answer)
{
    tokenweir_answer_view view = tokenweir_answer_view_init();
    tokenweir_error *error = NULL;
    done(tokenweir_answer_read(answer, &view, &error), &error);
    if (view.status)
        printf("%" PRIu32 "\n", view.status);
    for (size_t at = 0; at < view.header_count; at++)
        printf("  %s: %s\n", view.headers[at].name, view.headers[at].value);
    if (view.body_length)
        printf("  %s\n", view.body);
}

/* The permit; 0 if the client has been refused. */
static uint64_t admit(const tokenweir_limiter *limiter, const char *body, uint32_t *api)
{
    tokenweir_asked asked = tokenweir_asked_init();
    tokenweir_output_rule rule = tokenweir_output_rule_of(400);
    tokenweir_estimate estimate = tokenweir_estimate_of(0, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_denial *denial = NULL;
    tokenweir_answer *answer = NULL;
    tokenweir_error *error = NULL;
    tokenweir_request request;

    done(tokenweir_wire_request_read(0, PATH, strlen(PATH), body, strlen(body), &asked, &error), &error);
    request = tokenweir_request_of("search", asked.model);
    done(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error), &error);
    done(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, &denial, &error), &error);
    printf("%s: %" PRIu64 " input and %" PRIu64 " output tokens, %s\n", asked.model, estimate.input, estimate.output,
           decision.admitted ? "admitted" : "refused");
    if (decision.admitted)
        done(tokenweir_answer_admitted(limiter, decision.permit, TOKENWEIR_DIALECT_OPENAI, 0, NULL, &answer, &error), &error);
    else
        done(tokenweir_answer_refused(limiter, denial, TOKENWEIR_DIALECT_OPENAI, 1, NULL, &answer, &error), &error);
    print(answer);
    tokenweir_answer_free(answer);
    tokenweir_denial_free(denial);
    *api = asked.api;
    return decision.permit;
}

/* Passes the stream on and settles with what it has used. */
static void pass_on(const tokenweir_limiter *limiter, uint64_t permit, uint32_t api)
{
    static const char type[] = "text/event-stream";
    char out[CHUNK + TOKENWEIR_MOST_HELD];
    tokenweir_response_meter *meter = NULL;
    tokenweir_usage_chunk_filter *filter = NULL;
    tokenweir_measured measured = tokenweir_measured_init();
    tokenweir_settlement settlement = tokenweir_settlement_init();
    tokenweir_error *error = NULL;
    uint64_t output = 0;
    uint32_t spent = 0;
    size_t written = 0;

    done(tokenweir_response_meter_new(api, type, strlen(type), &meter, &error), &error);
    done(tokenweir_usage_chunk_filter_new(&filter, &error), &error);
    for (size_t at = 0; at < strlen(STREAM); at += CHUNK) {
        const size_t length = strlen(STREAM) - at < CHUNK ? strlen(STREAM) - at : CHUNK;
        done(tokenweir_response_meter_feed(meter, STREAM + at, length, &output, &error), &error);
        done(tokenweir_limiter_observe(limiter, permit, 0, output, NULL, &spent, &error), &error);
        /* The client did not ask for the usage. A host may cut the stream where `spent` says that nothing is left. */
        done(tokenweir_usage_chunk_filter_feed(filter, STREAM + at, length, out, sizeof out, &written, &error), &error);
        fwrite(out, 1, written, stdout);
    }
    done(tokenweir_usage_chunk_filter_finish(filter, out, sizeof out, &written, &error), &error);
    fwrite(out, 1, written, stdout);
    done(tokenweir_response_meter_measured(meter, &measured, &error), &error);
    done(tokenweir_limiter_settle(limiter, permit, &measured.usage, NULL, &settlement, &error), &error);
    printf("settled %" PRIu64 " input and %" PRIu64 " output tokens, estimated: %" PRIu32 "\n", settlement.input,
           settlement.output, measured.estimated);
    tokenweir_usage_chunk_filter_free(filter);
    tokenweir_response_meter_free(meter);
}

int main(int count, char **arguments)
{
    static char source[65536];
    FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;
    tokenweir_error *error = NULL;
    tokenweir_policy *policy = NULL;
    tokenweir_clock *clock = NULL;
    tokenweir_limiter *limiter = NULL;
    tokenweir_text *sent = NULL;
    tokenweir_options options = tokenweir_options_init();
    uint64_t permit;
    uint32_t api, client_asked = 0;
    size_t length;

    if (file == NULL) {
        fprintf(stderr, "give the policy's file\n");
        return 2;
    }
    length = fread(source, 1, sizeof source, file);
    fclose(file);
    done(tokenweir_policy_from_toml(source, length, &policy, &error), &error);
    /* A clock that stands still makes the output below the same every time; without it the system's is used. */
    done(tokenweir_clock_new_manual(NULL, &clock, &error), &error);
    options.clock = clock;
    done(tokenweir_limiter_new(policy, &options, &limiter, &error), &error);

    permit = admit(limiter, STREAMED, &api);
    done(tokenweir_wire_ask_usage(api, STREAMED, strlen(STREAMED), &client_asked, &sent, &error), &error);
    /* NULL: the client asked for it, and its own body goes on. */
    printf("sent: %s\n", sent ? tokenweir_text_chars(sent) : STREAMED);
    pass_on(limiter, permit, api);

    /* While one call runs there is no room for another of its kind. */
    permit = admit(limiter, BOUNDED, &api);
    admit(limiter, BOUNDED, &api);
    done(tokenweir_limiter_cancel(limiter, permit, NULL, NULL, &error), &error);

    tokenweir_text_free(sent);
    tokenweir_limiter_free(limiter);
    tokenweir_clock_free(clock);
    tokenweir_policy_free(policy);
    return 0;
}
