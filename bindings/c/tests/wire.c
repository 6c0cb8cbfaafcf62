/* Requests and responses of providers, cut anywhere; what clients are told; each of these calls with hostile arguments.
   wire FIXTURE... takes the responses of crates/tokenweir-wire/tests/fixtures. */
#include "check.h"
#include <pthread.h>

static const char CHAT_PATH[] = "/v1/chat/completions";
static const char CHAT[] = "{\"model\":\"gpt-4o\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"When is high water?\"}]}";
static const char POLICY[] = "[[limit]]\nname = 'tpm'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 1_000\nper = '1m'\n"
                             "scope = ['project']\n[[limit]]\nname = 'rpm'\nmeter = 'requests'\nalgorithm = 'bucket'\n"
                             "amount = 60\nper = '1m'\n";

static tokenweir_asked asked_of(uint32_t api, const char *path, const char *body)
{
    tokenweir_asked asked = tokenweir_asked_init();
    DONE(tokenweir_wire_request_read(api, path, path ? strlen(path) : 0, body, strlen(body), &asked, &error));
    return asked;
}

static void paths(void)
{
    const struct {
        const char *path;
        uint32_t api;
    } known[] = {
        {"/v1/chat/completions", TOKENWEIR_API_CHAT_COMPLETIONS}, {"/v1/completions", TOKENWEIR_API_COMPLETIONS},
        {"/v1/embeddings?x=1", TOKENWEIR_API_EMBEDDINGS},         {"/openai/v1/responses", TOKENWEIR_API_RESPONSES},
        {"/anthropic/v1/messages", TOKENWEIR_API_MESSAGES},       {"/v1beta/models/g:generateContent", TOKENWEIR_API_GENERATE_CONTENT},
        {"/v1/models", TOKENWEIR_API_NONE},                       {"", TOKENWEIR_API_NONE},
        {"\xff/chat/completions", TOKENWEIR_API_NONE},
    };
    for (size_t at = 0; at < sizeof known / sizeof known[0]; at++)
        CHECK(tokenweir_wire_api_of(known[at].path, strlen(known[at].path)) == known[at].api);
    CHECK(tokenweir_wire_api_of(NULL, 0) == TOKENWEIR_API_NONE && tokenweir_wire_api_of(NULL, 9) == TOKENWEIR_API_NONE);
    CHECK(tokenweir_wire_api_of("/v1/completions", SIZE_MAX) == TOKENWEIR_API_NONE);
}

static void requests(void)
{
    char body[600];
    tokenweir_asked asked = asked_of(0, CHAT_PATH, CHAT);
    CHECK(asked.api == TOKENWEIR_API_CHAT_COMPLETIONS && asked.stream == 1 && asked.include_usage == 0);
    CHECK(!strcmp(asked.model, "gpt-4o") && asked.model_length == 6 && asked.input_elsewhere == 0);
    CHECK(asked.input == 5 + 4 + 3 && asked.output == TOKENWEIR_ABSENT && asked.answers == 1);
    asked = asked_of(TOKENWEIR_API_MESSAGES, NULL, "{\"model\":\"claude\",\"max_tokens\":64,\"messages\":[]}");
    CHECK(asked.output == 64 && asked.stream == 0 && !strcmp(asked.model, "claude"));
    asked = asked_of(0, "/openai/deployments/mine/chat/completions?api-version=1", CHAT);
    CHECK(!strcmp(asked.model, "mine") && asked.stream == 1);
    asked = asked_of(0, "/v1beta/models/g:streamGenerateContent", "{\"contents\":[],\"model\":\"other\"}");
    CHECK(asked.api == TOKENWEIR_API_GENERATE_CONTENT && asked.stream == 1 && !strcmp(asked.model, "g"));
    asked = asked_of(TOKENWEIR_API_RESPONSES, NULL, "{\"n\":3,\"input\":\"x\",\"previous_response_id\":\"r\"}");
    CHECK(asked.input_elsewhere == 1 && asked.model_length == 0 && asked.model[0] == 0);
    /* A name that is cut would be another's: it is left out. */
    for (int length = 256; length <= 257; length++) {
        sprintf(body, "{\"model\":\"%0*d\"}", length, 7);
        asked = asked_of(0, CHAT_PATH, body);
        CHECK(asked.model_length == (length == 256 ? 256u : 0u) && strlen(asked.model) == asked.model_length);
        sprintf(body, "/deployments/%0*d/completions", length, 7);
        asked = asked_of(0, body, "{}");
        CHECK(asked.model_length == (length == 256 ? 256u : 0u) && strlen(asked.model) == asked.model_length);
    }

    memset(&asked, 7, sizeof asked);
    asked.size = sizeof asked;
    GIVES(TOKENWEIR_BODY_INVALID, tokenweir_wire_request_read(1, NULL, 0, "{\"a\"", 4, &asked, &error));
    GIVES(TOKENWEIR_BODY_INVALID, tokenweir_wire_request_read(1, NULL, 0, "[]", 2, &asked, &error));
    GIVES(TOKENWEIR_BODY_INVALID, tokenweir_wire_request_read(1, NULL, 0, NULL, 0, &asked, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_request_read(1, NULL, 0, NULL, 1, &asked, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_request_read(0, NULL, 1, "{}", 2, &asked, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_request_read(1, NULL, 0, "{}", 2, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_request_read(0, NULL, 0, "{}", 2, &asked, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_request_read(0, "/v1/models", 10, "{}", 2, &asked, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_request_read(7, NULL, 0, "{}", 2, &asked, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_request_read(1, NULL, 0, "{}", SIZE_MAX, &asked, &error));
    CHECK(asked.api == 0x07070707);
    asked.size--;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_wire_request_read(1, NULL, 0, "{}", 2, &asked, &error));
}

static void estimates(void)
{
    tokenweir_limiter *limiter = limiter_of(POLICY, NULL);
    tokenweir_asked asked = asked_of(0, CHAT_PATH, CHAT);
    tokenweir_request request = tokenweir_request_of("search", asked.model), nobody = tokenweir_request_of("", "d");
    tokenweir_output_rule rule = tokenweir_output_rule_of(100);
    tokenweir_estimate estimate = tokenweir_estimate_of(0, 0);

    DONE(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    CHECK(estimate.input == 12 && estimate.output == 100);
    rule.per_mille_of_input = 500;
    asked.answers = 2;
    DONE(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    CHECK(estimate.output == 2 * (100 + 6));
    rule.tokens = 100000; /* a quarter of the limit at most, or what share is given */
    DONE(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    CHECK(estimate.output == 250);
    rule.share_per_mille = 500;
    DONE(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    CHECK(estimate.output == 500);
    asked.output = 900; /* what is stated is not cut */
    DONE(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    CHECK(estimate.input == 12 && estimate.output == 900);

    rule.share_per_mille = 1001;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    rule = tokenweir_output_rule_of(UINT64_MAX);
    rule.per_mille_of_input = UINT64_MAX;
    asked.output = TOKENWEIR_ABSENT;
    asked.answers = asked.input = UINT64_MAX; /* no room is left for any output */
    DONE(tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    CHECK(estimate.input == UINT64_MAX && estimate.output == 0);
    GIVES(TOKENWEIR_EMPTY_KEY, tokenweir_wire_estimate(&asked, &rule, limiter, &nobody, &estimate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_estimate(NULL, &rule, limiter, &request, &estimate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_estimate(&asked, NULL, limiter, &request, &estimate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_estimate(&asked, &rule, NULL, &request, &estimate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_estimate(&asked, &rule, limiter, NULL, &estimate, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_estimate(&asked, &rule, limiter, &request, NULL, &error));
    asked.reserved[3] = 1;
    GIVES(TOKENWEIR_RESERVED_NOT_ZERO, tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    asked.reserved[3] = 0;
    rule.reserved[0] = 1;
    GIVES(TOKENWEIR_RESERVED_NOT_ZERO, tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    rule.reserved[0] = 0;
    rule.size++;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    rule.size--;
    asked.size = 0;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    asked.size = sizeof asked;
    asked.api = TOKENWEIR_API_NONE;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_estimate(&asked, &rule, limiter, &request, &estimate, &error));
    tokenweir_limiter_free(limiter);
}

static void usage_is_asked_for(void)
{
    const char asks[] = "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    const char odd[] = "{\"stream\":true,\"user\":\"\xff\"}";
    tokenweir_text *sent = NULL;
    uint32_t client_asked = 7;
    DONE(tokenweir_wire_ask_usage(TOKENWEIR_API_CHAT_COMPLETIONS, CHAT, strlen(CHAT), &client_asked, &sent, &error));
    CHECK(client_asked == 0 && tokenweir_text_length(sent) == strlen(CHAT) + 40);
    CHECK(!strncmp(tokenweir_text_chars(sent), "{\"stream_options\":{\"include_usage\":true},\"model\"", 47));
    CHECK(!strcmp(tokenweir_text_chars(sent) + 41, CHAT + 1));
    tokenweir_text_free(sent);
    DONE(tokenweir_wire_ask_usage(TOKENWEIR_API_CHAT_COMPLETIONS, asks, strlen(asks), &client_asked, &sent, &error));
    CHECK(client_asked == 1 && sent == NULL);
    DONE(tokenweir_wire_ask_usage(TOKENWEIR_API_MESSAGES, "{\"stream\":true}", 15, &client_asked, &sent, &error));
    CHECK(client_asked == 1 && sent == NULL);
    /* Bytes stay as they are, be they no UTF-8. */
    DONE(tokenweir_wire_ask_usage(TOKENWEIR_API_COMPLETIONS, odd, strlen(odd), NULL, &sent, &error));
    CHECK(tokenweir_text_length(sent) == strlen(odd) + 40 && !strcmp(tokenweir_text_chars(sent) + 41, odd + 1));
    tokenweir_text_free(sent);
    client_asked = 7;
    GIVES(TOKENWEIR_BODY_INVALID, tokenweir_wire_ask_usage(1, CHAT, 9, &client_asked, &sent, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_ask_usage(1, NULL, 9, &client_asked, &sent, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_ask_usage(0, CHAT, 9, &client_asked, &sent, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_ask_usage(1, CHAT, strlen(CHAT), &client_asked, NULL, &error));
    CHECK(client_asked == 7 && sent == NULL);
}

static const char STREAM[] = "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\xc3\xbc\xc3\x9f" "e\"}}]}\n\n"
                             "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
static const char USAGE_CHUNK[] = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3,"
                                  "\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n";
static const char STREAM_END[] = "data: [DONE]\n\n";
static const char EVENTS[] = "text/event-stream; charset=utf-8";

static tokenweir_response_meter *meter_of(uint32_t api, const char *content_type)
{
    tokenweir_response_meter *meter = NULL;
    DONE(tokenweir_response_meter_new(api, content_type, strlen(content_type), &meter, &error));
    return meter;
}

/* The tokens that are newly seen, in chunks of `step` bytes. */
static uint64_t fed(tokenweir_response_meter *meter, const char *bytes, size_t length, size_t step)
{
    uint64_t sum = 0, more = 7;
    for (size_t at = 0; at < length; at += step) {
        DONE(tokenweir_response_meter_feed(meter, bytes + at, length - at < step ? length - at : step, &more, &error));
        sum += more;
    }
    return sum;
}

static tokenweir_measured measured_of(const tokenweir_response_meter *meter)
{
    tokenweir_measured measured = tokenweir_measured_init();
    DONE(tokenweir_response_meter_measured(meter, &measured, &error));
    return measured;
}

static void responses(void)
{
    tokenweir_response_meter *meter = meter_of(TOKENWEIR_API_CHAT_COMPLETIONS, EVENTS);
    tokenweir_measured measured = measured_of(meter);
    CHECK(measured.usage.input == TOKENWEIR_ABSENT && measured.usage.output == TOKENWEIR_ABSENT && measured.estimated == 1);
    CHECK(measured.ended == TOKENWEIR_ENDED_BROKEN);
    CHECK(fed(meter, STREAM, strlen(STREAM), 1) == 2);
    measured = measured_of(meter);
    CHECK(measured.usage.output == 2 && measured.estimated == 1 && measured.ended == TOKENWEIR_ENDED_COMPLETE);
    CHECK(fed(meter, USAGE_CHUNK, strlen(USAGE_CHUNK), 7) == 1 && fed(meter, STREAM_END, strlen(STREAM_END), 3) == 0);
    measured = measured_of(meter);
    CHECK(measured.usage.input == 11 && measured.usage.output == 3 && measured.usage.size == sizeof measured.usage);
    CHECK(measured.usage.cached_input == TOKENWEIR_ABSENT && measured.reasoning == 1 && measured.audio_output == TOKENWEIR_ABSENT);
    CHECK(measured.estimated == 0 && measured.ended == TOKENWEIR_ENDED_COMPLETE);

    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_response_meter_feed(NULL, "x", 1, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_response_meter_feed(meter, NULL, 1, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_response_meter_feed(meter, "x", SIZE_MAX, NULL, &error));
    DONE(tokenweir_response_meter_feed(meter, NULL, 0, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_response_meter_measured(NULL, &measured, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_response_meter_measured(meter, NULL, &error));
    measured.size = 8;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_response_meter_measured(meter, &measured, &error));
    tokenweir_response_meter_free(meter);
    tokenweir_response_meter_free(NULL);
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_response_meter_new(0, NULL, 0, &meter, &error));
    CHECK(meter == NULL);
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_response_meter_new(1, NULL, 1, &meter, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_response_meter_new(1, NULL, 0, NULL, &error));
    /* A type that is no text is not that of events. */
    meter = meter_of(TOKENWEIR_API_CHAT_COMPLETIONS, "\xff");
    CHECK(fed(meter, "{\"choices\":[],\"error\":{}}", 25, 25) == 0);
    CHECK(measured_of(meter).ended == TOKENWEIR_ENDED_FAILED);
    tokenweir_response_meter_free(meter);
}

/* Each response of the fixtures comes to the same, however it is cut. */
static void fixture(const char *path)
{
    static const struct {
        const char *name;
        uint32_t api;
    } names[] = {
        {"chat", TOKENWEIR_API_CHAT_COMPLETIONS}, {"completions", TOKENWEIR_API_COMPLETIONS}, {"embeddings", TOKENWEIR_API_EMBEDDINGS},
        {"responses", TOKENWEIR_API_RESPONSES},   {"messages", TOKENWEIR_API_MESSAGES},       {"gemini", TOKENWEIR_API_GENERATE_CONTENT},
    };
    static char bytes[1 << 16];
    const char *name = strrchr(path, '/') + 1;
    const char *content_type = strstr(name, ".sse") ? EVENTS : "application/json";
    FILE *file = fopen(path, "rb");
    size_t length, at = 0;
    tokenweir_measured whole, cut;
    CHECK(file != NULL);
    length = fread(bytes, 1, sizeof bytes, file);
    CHECK(length > 0 && length < sizeof bytes && fclose(file) == 0);
    while (strncmp(name, names[at].name, strlen(names[at].name)))
        CHECK(++at < sizeof names / sizeof names[0]);
    for (size_t step = length; step > 0; step = step > 40 ? step / 2 : step - 1) {
        tokenweir_response_meter *meter = meter_of(names[at].api, content_type);
        uint64_t seen = fed(meter, bytes, length, step);
        cut = measured_of(meter);
        tokenweir_response_meter_free(meter);
        if (step == length)
            whole = cut;
        CHECK(!memcmp(&whole, &cut, sizeof whole));
        CHECK(cut.usage.input > 0 && cut.usage.input != TOKENWEIR_ABSENT && cut.ended == TOKENWEIR_ENDED_COMPLETE);
        CHECK(names[at].api == TOKENWEIR_API_EMBEDDINGS || (cut.usage.output > 0 && cut.usage.output != TOKENWEIR_ABSENT));
        /* What was told as it came is no less than the end of it; an estimate in between may have been higher. */
        CHECK(names[at].api == TOKENWEIR_API_EMBEDDINGS || seen >= cut.usage.output);
    }
}

static void usage_is_kept_back(void)
{
    char stream[1024], out[sizeof stream + TOKENWEIR_MOST_HELD], passed[sizeof stream];
    tokenweir_usage_chunk_filter *filter = NULL;
    size_t written = 0;
    const size_t length = (size_t)sprintf(stream, "%s%s%s", STREAM, USAGE_CHUNK, STREAM_END);
    DONE(tokenweir_usage_chunk_filter_new(&filter, &error));
    for (size_t step = 1; step <= length; step += 13) {
        size_t sum = 0;
        for (size_t at = 0; at < length; at += step) {
            const size_t some = length - at < step ? length - at : step;
            DONE(tokenweir_usage_chunk_filter_feed(filter, stream + at, some, out, some + TOKENWEIR_MOST_HELD, &written, &error));
            memcpy(passed + sum, out, written);
            sum += written;
        }
        DONE(tokenweir_usage_chunk_filter_finish(filter, out, sizeof out, &written, &error));
        CHECK(written == 0 && sum == strlen(STREAM) + strlen(STREAM_END));
        CHECK(!memcmp(passed, STREAM, strlen(STREAM)) && !memcmp(passed + strlen(STREAM), STREAM_END, strlen(STREAM_END)));
    }
    /* What has no end comes out at the end; then it is as new. */
    DONE(tokenweir_usage_chunk_filter_feed(filter, "data: {", 7, out, sizeof out, &written, &error));
    CHECK(written == 0);
    DONE(tokenweir_usage_chunk_filter_finish(filter, out, TOKENWEIR_MOST_HELD, &written, &error));
    CHECK(written == 7 && !memcmp(out, "data: {", 7));
    written = 77;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_usage_chunk_filter_new(NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_usage_chunk_filter_feed(NULL, "x", 1, out, sizeof out, &written, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_usage_chunk_filter_feed(filter, NULL, 1, out, sizeof out, &written, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_usage_chunk_filter_feed(filter, "x", 1, NULL, sizeof out, &written, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_usage_chunk_filter_feed(filter, "x", 1, out, sizeof out, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_usage_chunk_filter_feed(filter, "x", 1, out, TOKENWEIR_MOST_HELD, &written, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_usage_chunk_filter_feed(filter, "x", SIZE_MAX, out, SIZE_MAX, &written, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_usage_chunk_filter_finish(filter, out, TOKENWEIR_MOST_HELD - 1, &written, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_usage_chunk_filter_finish(NULL, out, sizeof out, &written, &error));
    CHECK(written == 77);
    DONE(tokenweir_usage_chunk_filter_finish(filter, out, sizeof out, &written, &error));
    CHECK(written == 0);
    tokenweir_usage_chunk_filter_free(filter);
    tokenweir_usage_chunk_filter_free(NULL);
}

/* The value of a header, which has a NUL behind it; NULL if there is none. */
static const char *header(const tokenweir_answer_view *view, const char *name)
{
    for (size_t at = 0; at < view->header_count; at++) {
        CHECK(view->headers[at].name_length == strlen(view->headers[at].name));
        CHECK(view->headers[at].value_length == strlen(view->headers[at].value));
        if (!strcmp(view->headers[at].name, name))
            return view->headers[at].value;
    }
    return NULL;
}

static tokenweir_answer_view view_of(const tokenweir_answer *answer)
{
    tokenweir_answer_view view = tokenweir_answer_view_init();
    DONE(tokenweir_answer_read(answer, &view, &error));
    CHECK(view.body_length == strlen(view.body));
    return view;
}

static void answers(void)
{
    static const char *const bodies[] = {"\"rate_limit_exceeded\"", "\"code\":\"429\"", "\"rate_limit_error\"", "\"RESOURCE_EXHAUSTED\"", "\"statusCode\":429"};
    tokenweir_limiter *limiter = limiter_of(POLICY, NULL);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(400, 500);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_denial *denial = NULL;
    tokenweir_answer *answer = NULL;
    tokenweir_answer_view view;
    uint64_t id;
    const tokenweir_now later = {30000000000, 30000000000};

    DONE(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, &error));
    id = decision.permit;
    DONE(tokenweir_answer_admitted(limiter, id, TOKENWEIR_DIALECT_OPENAI, 1, NULL, &answer, &error));
    view = view_of(answer);
    CHECK(view.status == 0 && view.body_length == 0);
    CHECK(!strcmp(header(&view, "x-ratelimit-remaining-tokens"), "100") && !strcmp(header(&view, "x-ratelimit-limit-requests"), "60"));
    CHECK(strstr(header(&view, "ratelimit"), "\"tpm\";r=100;t=54") && strstr(header(&view, "ratelimit-policy"), "\"tpm\";q=1000;w=60"));
    tokenweir_answer_free(answer);
    DONE(tokenweir_answer_admitted(limiter, id, TOKENWEIR_DIALECT_APIM, 0, &later, &answer, &error));
    CHECK(view_of(answer).header_count == 0);
    tokenweir_answer_free(answer);

    DONE(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, &denial, &error));
    CHECK(decision.admitted == 0);
    for (uint32_t dialect = TOKENWEIR_DIALECT_OPENAI; dialect <= TOKENWEIR_DIALECT_APIM; dialect++) {
        DONE(tokenweir_answer_refused(limiter, denial, dialect, dialect % 2, NULL, &answer, &error));
        view = view_of(answer);
        CHECK(view.status == 429 && strstr(view.body, bodies[dialect - 1]) != NULL);
        CHECK(!strcmp(header(&view, "content-type"), "application/json") && !strcmp(header(&view, "x-tokenweir-limit"), "tpm"));
        CHECK(!strcmp(header(&view, "retry-after"), "48"));
        CHECK((header(&view, "ratelimit") != NULL) == (dialect % 2 == 1));
        tokenweir_answer_free(answer);
        DONE(tokenweir_answer_failed(dialect, 401, "no \"key\"", 8, &answer, &error));
        view = view_of(answer);
        CHECK(view.status == 401 && strstr(view.body, "no \\\"key\\\"") != NULL && view.header_count == 2);
        CHECK(!strcmp(header(&view, "x-should-retry"), "false") && !strcmp(header(&view, "content-type"), "application/json"));
        tokenweir_answer_free(answer);
        DONE(tokenweir_answer_failed(dialect, 503, "busy", 4, &answer, &error));
        view = view_of(answer);
        CHECK(view.header_count == 1 && header(&view, "x-should-retry") == NULL);
        tokenweir_answer_free(answer);
    }

    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_answer_refused(limiter, denial, 0, 0, NULL, &answer, &error));
    CHECK(answer == NULL);
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_answer_admitted(limiter, id, 6, 0, NULL, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_refused(NULL, denial, 1, 0, NULL, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_refused(limiter, NULL, 1, 0, NULL, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_refused(limiter, denial, 1, 0, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_admitted(NULL, id, 1, 0, NULL, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_admitted(limiter, id, 1, 0, NULL, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_UNKNOWN, tokenweir_answer_admitted(limiter, 0, 1, 0, NULL, &answer, &error));
    DONE(tokenweir_limiter_cancel(limiter, id, NULL, NULL, &error));
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_answer_admitted(limiter, id, 1, 0, NULL, &answer, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_answer_failed(1, 399, "x", 1, &answer, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_answer_failed(1, 65536 + 429, "x", 1, &answer, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_answer_failed(9, 429, "x", 1, &answer, &error));
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_answer_failed(1, 429, "\xff", 1, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_failed(1, 429, NULL, 1, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_failed(1, 429, "x", 1, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_read(NULL, &view, &error));
    CHECK(answer == NULL);
    DONE(tokenweir_answer_failed(1, 500, NULL, 0, &answer, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_answer_read(answer, NULL, &error));
    view.size = 0;
    GIVES(TOKENWEIR_STRUCT_SIZE, tokenweir_answer_read(answer, &view, &error));
    tokenweir_answer_free(answer);
    tokenweir_answer_free(NULL);
    /* A denial outlives its limiter's use of it. */
    DONE(tokenweir_answer_refused(limiter, denial, 1, 0, &later, &answer, &error));
    tokenweir_denial_free(denial);
    tokenweir_limiter_free(limiter);
    CHECK(view_of(answer).status == 429);
    tokenweir_answer_free(answer);
}

static void upstream(void)
{
    const tokenweir_now now = {0, 0};
    tokenweir_text *text = NULL;
    tokenweir_key headers[] = {
        tokenweir_key_of("X-RateLimit-Remaining-Tokens", "149984"), tokenweir_key_of("x-ratelimit-reset-tokens", "6m0s"),
        tokenweir_key_of("RateLimit", "\"day\";r=5;t=9"),           tokenweir_key_of("retry-after", "Thu, 01 Jan 1970 00:00:07 GMT"),
        tokenweir_key_of("x-ratelimit-limit-requests", "\xff"),     tokenweir_key_of("x-ratelimit-limit-tokens", "many"),
    };
    DONE(tokenweir_wire_upstream_limits(headers, 6, &now, &text, &error));
    CHECK(strstr(tokenweir_text_chars(text), "\"tokens\":{\"limit\":null,\"remaining\":149984,\"reset_ns\":360000000000}"));
    CHECK(strstr(tokenweir_text_chars(text), "\"name\":\"day\"") && strstr(tokenweir_text_chars(text), "\"retry_after_ns\":7000000000"));
    CHECK(strstr(tokenweir_text_chars(text), "\"requests\":{\"limit\":null,\"remaining\":null,\"reset_ns\":null}"));
    tokenweir_text_free(text);
    DONE(tokenweir_wire_upstream_limits(NULL, 0, NULL, &text, &error));
    tokenweir_text_free(text);
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_upstream_limits(NULL, 1, &now, &text, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_upstream_limits(headers, 1, &now, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_wire_upstream_limits(headers, SIZE_MAX / 8, &now, &text, &error));
    headers[1].value = NULL;
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_wire_upstream_limits(headers, 2, &now, &text, &error));
    CHECK(text == NULL);
}

#define EVENTS_OF_EACH 2000

static void *feed_events(void *meter)
{
    static const char event[] = "data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\n";
    uint64_t *sum = calloc(1, sizeof *sum), more;
    CHECK(sum != NULL);
    for (int turn = 0; turn < EVENTS_OF_EACH; turn++) {
        DONE(tokenweir_response_meter_feed(meter, event, sizeof event - 1, &more, &error));
        *sum += more;
        measured_of(meter);
    }
    return sum;
}

/* Calls at once wait for one another: whole events by two threads are all counted, each once. */
static void threads(void)
{
    tokenweir_response_meter *meter = meter_of(TOKENWEIR_API_CHAT_COMPLETIONS, EVENTS);
    pthread_t both[2];
    void *sums[2];
    for (int at = 0; at < 2; at++)
        CHECK(pthread_create(&both[at], NULL, feed_events, meter) == 0);
    for (int at = 0; at < 2; at++)
        CHECK(pthread_join(both[at], &sums[at]) == 0);
    CHECK(*(uint64_t *)sums[0] + *(uint64_t *)sums[1] == 2 * EVENTS_OF_EACH);
    CHECK(measured_of(meter).usage.output == 2 * EVENTS_OF_EACH);
    free(sums[0]);
    free(sums[1]);
    tokenweir_response_meter_free(meter);
}

int main(int count, char **arguments)
{
    paths();
    requests();
    estimates();
    usage_is_asked_for();
    responses();
    CHECK(count > 10);
    for (int at = 1; at < count; at++)
        fixture(arguments[at]);
    usage_is_kept_back();
    answers();
    upstream();
    threads();
    printf("wire: ok, %d responses\n", count - 1);
    return 0;
}
