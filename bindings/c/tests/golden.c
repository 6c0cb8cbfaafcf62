/* Runs the golden scripts (golden/README.md) through the C interface, twice: by request, and by route. golden FILE... */
#include "check.h"
#include <jansson.h>

/* What differed from the expectation, of the script at hand. */
static int differences;
static const char *script_name;
static size_t step_number;

static void differs(const char *field, const json_t *expected, const json_t *found)
{
    char *wanted = expected ? json_dumps(expected, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char *given = found ? json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (script_name)
        fprintf(stderr, "%s, step %zu: %s is %s, not %s\n", script_name, step_number, field, given ? given : "absent",
                wanted ? wanted : "absent");
    free(wanted);
    free(given);
    differences++;
}

static uint64_t integer(const json_t *value)
{
    CHECK(json_is_integer(value) && json_integer_value(value) >= 0);
    return (uint64_t)json_integer_value(value);
}

/* Bytes: text, or {"hex": ...}. */
typedef struct {
    char *data;
    size_t length;
} bytes;

static bytes bytes_of(const json_t *value)
{
    bytes read;
    const json_t *hex = json_object_get(value, "hex");
    const char *text = json_string_value(hex ? hex : value);
    size_t length = json_string_length(hex ? hex : value);
    CHECK(text != NULL);
    read.length = hex ? length / 2 : length;
    read.data = malloc(read.length + 1);
    CHECK(read.data != NULL);
    if (!hex) {
        memcpy(read.data, text, length);
    } else {
        for (size_t at = 0; at < read.length; at++) {
            unsigned byte;
            CHECK(sscanf(text + 2 * at, "%2x", &byte) == 1);
            read.data[at] = (char)byte;
        }
    }
    return read;
}

static int same_bytes(const json_t *one, const json_t *other)
{
    bytes a = bytes_of(one), b = bytes_of(other);
    int same = a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
    free(a.data);
    free(b.data);
    return same;
}

static int is_set(const char *field)
{
    return !strcmp(field, "refused_by") || !strcmp(field, "shadow_refused") || !strcmp(field, "applied") ||
           !strcmp(field, "skipped");
}

static int has(const json_t *array, const json_t *value)
{
    size_t at;
    json_t *one;
    json_array_foreach(array, at, one) if (json_equal(one, value)) return 1;
    return 0;
}

static int same_set(const json_t *one, const json_t *other)
{
    size_t at;
    json_t *value;
    if (!json_is_array(one) || !json_is_array(other))
        return 0;
    json_array_foreach(one, at, value) if (!has(other, value)) return 0;
    json_array_foreach(other, at, value) if (!has(one, value)) return 0;
    return 1;
}

/* Every field that is expected is there, and the call failed only where it should. */
static void check(const json_t *expect, const json_t *found)
{
    const char *field;
    json_t *wanted;
    json_object_foreach((json_t *)expect, field, wanted)
    {
        const json_t *given = json_object_get(found, field);
        if (!given || !(is_set(field) ? same_set(wanted, given) : json_equal(wanted, given)))
            differs(field, wanted, given);
    }
    if (json_object_get(found, "error") && !json_object_get(expect, "error"))
        differs("error", NULL, json_object_get(found, "error"));
}

static json_t *failed(tokenweir_code code)
{
    return json_pack("{s:i}", "error", (int)code);
}

/* The JSON of a text, which is freed. */
static json_t *parsed(tokenweir_text *text)
{
    json_error_t error;
    CHECK(strlen(tokenweir_text_chars(text)) == tokenweir_text_length(text));
    json_t *value = json_loads(tokenweir_text_chars(text), JSON_ALLOW_NUL, &error);
    if (!value)
        fprintf(stderr, "%s: %s\n", error.text, tokenweir_text_chars(text));
    CHECK(value != NULL);
    tokenweir_text_free(text);
    return value;
}

/* The names under "limit" of an array of objects. */
static json_t *names(const json_t *array)
{
    json_t *names = json_array(), *one;
    size_t at;
    json_array_foreach(array, at, one) json_array_append(names, json_object_get(one, "limit"));
    return names;
}

#define MOST_KEYS 16

typedef struct {
    tokenweir_request request;
    tokenweir_key keys[MOST_KEYS];
    bytes held[MOST_KEYS + 2];
    size_t holds;
} request;

static void request_of(const json_t *step, request *request)
{
    const json_t *given = json_object_get(step, "request");
    const char *name;
    json_t *value;
    request->request = tokenweir_request_of(NULL, NULL);
    request->held[0] = bytes_of(json_object_get(given, "project"));
    request->held[1] = bytes_of(json_object_get(given, "deployment"));
    request->holds = 2;
    request->request.project = request->held[0].data;
    request->request.project_length = request->held[0].length;
    request->request.deployment = request->held[1].data;
    request->request.deployment_length = request->held[1].length;
    request->request.keys = request->keys;
    json_object_foreach(json_object_get(given, "keys"), name, value)
    {
        tokenweir_key *key = &request->keys[request->request.key_count++];
        CHECK(request->request.key_count <= MOST_KEYS);
        bytes held = request->held[request->holds++] = bytes_of(value);
        *key = tokenweir_key_of(name, NULL);
        key->value = held.data;
        key->value_length = held.length;
    }
}

static void request_free(request *request)
{
    while (request->holds)
        free(request->held[--request->holds].data);
}

static tokenweir_estimate estimate_of(const json_t *step)
{
    const json_t *estimate = json_object_get(step, "estimate");
    return tokenweir_estimate_of(integer(json_object_get(estimate, "input")),
                                 integer(json_object_get(estimate, "output")));
}

/* ---- the script ---- */

typedef struct {
    tokenweir_limiter *limiter;
    json_t *permits; /* name to id, as a signed number */
    int by_route;
} run;

static uint64_t permit_of(const run *run, const json_t *step)
{
    const char *name = json_string_value(json_object_get(step, "permit"));
    const json_t *id = json_object_get(run->permits, name);
    if (id)
        return (uint64_t)json_integer_value(id);
    CHECK(!strcmp(name, "unknown"));
    return UINT64_MAX;
}

static json_t *admit(run *run, const json_t *step, const tokenweir_now *now)
{
    request request;
    request_of(step, &request);
    tokenweir_estimate estimate = estimate_of(step);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_denial *denial = NULL;
    tokenweir_error *error = NULL;
    tokenweir_text *text = NULL;
    tokenweir_route *route = NULL;
    tokenweir_code code;
    /* What cannot be held, for instance because the table is full, is still a request. */
    if (run->by_route)
        tokenweir_limiter_route(run->limiter, &request.request, now, &route, NULL);
    if (route)
        code = tokenweir_route_admit(route, &estimate, now, &decision, &denial, &error);
    else
        code = tokenweir_limiter_admit(run->limiter, &request.request, &estimate, now, &decision, &denial, &error);
    tokenweir_route_free(route);
    request_free(&request);
    CHECK(tokenweir_error_code(error) == code);
    tokenweir_error_free(error);
    if (code != TOKENWEIR_OK)
        return failed(code);
    if (decision.admitted) {
        CHECK(denial == NULL && decision.permit != 0 && decision.limit[0] == 0);
        json_object_set_new(run->permits, json_string_value(json_object_get(step, "as")),
                            json_integer((json_int_t)decision.permit));
        DONE(tokenweir_limiter_permit(run->limiter, decision.permit, now, &text, &error));
        json_t *found = parsed(text);
        json_object_set_new(found, "decision", json_string("admitted"));
        return found;
    }
    CHECK(denial != NULL && decision.permit == 0);
    DONE(tokenweir_denial_json(denial, &text, &error));
    tokenweir_denial_free(denial);
    json_t *found = parsed(text);
    json_object_set_new(found, "refused_by", names(json_object_get(found, "refusals")));
    /* The plain struct says the same as the JSON. */
    json_t *wait =
        decision.retry_after_ns == TOKENWEIR_ABSENT ? json_null() : json_integer((json_int_t)decision.retry_after_ns);
    json_t *plain = json_pack("{s:s, s:i, s:b, s:b, s:o}", "limit", decision.limit, "status", (int)decision.status,
                              "never_fits", (int)decision.never_fits, "table_full", (int)decision.table_full,
                              "retry_after_ns", wait);
    check(plain, found);
    json_decref(plain);
    CHECK(decision.limit_length == strlen(decision.limit));
    CHECK(decision.refusals == json_array_size(json_object_get(found, "refusals")));
    return found;
}

static json_t *end(run *run, const char *op, const json_t *step, const tokenweir_now *now)
{
    static const char *const OUTCOMES[] = {"none", "settled", "cancelled", "dropped", "expired"};
    const json_t *given = json_object_get(step, "usage");
    const json_t *input = json_object_get(given, "input"), *cached = json_object_get(given, "cached_input"),
                 *output = json_object_get(given, "output");
    tokenweir_usage usage = tokenweir_usage_unknown();
    tokenweir_settlement settlement = tokenweir_settlement_init();
    uint64_t id = permit_of(run, step);
    tokenweir_code code;
    if (input)
        usage.input = integer(input);
    if (cached)
        usage.cached_input = integer(cached);
    if (output)
        usage.output = integer(output);
    if (!strcmp(op, "settle"))
        code = tokenweir_limiter_settle(run->limiter, id, &usage, now, &settlement, NULL);
    else if (!strcmp(op, "cancel"))
        code = tokenweir_limiter_cancel(run->limiter, id, now, &settlement, NULL);
    else
        code = tokenweir_limiter_abandon(run->limiter, id, now, &settlement, NULL);
    if (code != TOKENWEIR_OK)
        return failed(code);
    CHECK(settlement.permit == id && settlement.outcome < 5);
    return json_pack("{s:s, s:I, s:I, s:I, s:b}", "outcome", OUTCOMES[settlement.outcome], "input",
                     (json_int_t)settlement.input, "cached_input", (json_int_t)settlement.cached_input, "output",
                     (json_int_t)settlement.output, "estimated", (int)settlement.estimated);
}

static json_t *observe(run *run, const json_t *step, const tokenweir_now *now)
{
    uint32_t spent = 7;
    tokenweir_code code =
        tokenweir_limiter_observe(run->limiter, permit_of(run, step), integer(json_object_get(step, "input")),
                                  integer(json_object_get(step, "output")), now, &spent, NULL);
    return code == TOKENWEIR_OK ? json_pack("{s:b}", "spent", (int)spent) : failed(code);
}

static json_t *renew(run *run, const json_t *step, const tokenweir_now *now)
{
    tokenweir_code code = tokenweir_limiter_renew(run->limiter, permit_of(run, step),
                                                  integer(json_object_get(step, "ttl")), now, NULL);
    return code == TOKENWEIR_OK ? json_object() : failed(code);
}

/* Peek's limits by name; explain's as sets of names. */
static json_t *look(run *run, const char *op, const json_t *step, const tokenweir_now *now)
{
    request request;
    request_of(step, &request);
    tokenweir_estimate estimate = estimate_of(step);
    tokenweir_text *text = NULL;
    int peeks = !strcmp(op, "peek");
    if (peeks)
        DONE(tokenweir_limiter_peek(run->limiter, &request.request, &estimate, now, &text, &error));
    else
        DONE(tokenweir_limiter_explain(run->limiter, &request.request, &estimate, now, &text, &error));
    request_free(&request);
    json_t *found = parsed(text);
    if (peeks) {
        const json_t *expected = json_object_get(json_object_get(step, "expect"), "limits");
        const char *name;
        json_t *wanted, *limit;
        size_t at;
        json_object_foreach((json_t *)expected, name, wanted)
        {
            const json_t *view = NULL;
            json_array_foreach(json_object_get(found, "limits"), at, limit)
            {
                if (!strcmp(json_string_value(json_object_get(limit, "limit")), name))
                    view = limit;
            }
            if (view)
                check(wanted, view);
            else
                differs(name, wanted, NULL);
        }
        /* Compared above, field by field. */
        if (expected)
            json_object_set(found, "limits", (json_t *)expected);
    } else {
        json_object_set_new(found, "applied", names(json_object_get(found, "applied")));
        json_object_set_new(found, "skipped", names(json_object_get(found, "skipped")));
    }
    return found;
}

static int same_counter(const json_t *one, const json_t *other)
{
    const json_t *scope = json_object_get(one, "scope"), *other_scope = json_object_get(other, "scope");
    const char *part;
    json_t *value;
    if (!json_equal(json_object_get(one, "limit"), json_object_get(other, "limit")) ||
        json_object_size(scope) != json_object_size(other_scope))
        return 0;
    json_object_foreach((json_t *)scope, part, value)
    {
        const json_t *same = json_object_get(other_scope, part);
        if (!same || !same_bytes(value, same))
            return 0;
    }
    return 1;
}

static void usage(run *run, const json_t *step, const tokenweir_now *now)
{
    const json_t *expected = json_object_get(json_object_get(step, "expect"), "counters");
    tokenweir_text *text = NULL;
    DONE(tokenweir_limiter_usage(run->limiter, NULL, now, &text, &error));
    json_t *found = parsed(text), *counter, *wanted;
    size_t at, other, listed = 0;
    json_array_foreach(json_object_get(found, "counters"), at, counter)
    {
        const json_t *match = NULL;
        json_array_foreach(expected, other, wanted) if (same_counter(wanted, counter)) match = wanted;
        if (match) {
            json_t *fields = json_copy((json_t *)match);
            json_object_del(fields, "scope");
            check(fields, counter);
            json_decref(fields);
            listed++;
        } else {
            json_t *unused = json_pack("{s:i, s:i, s:i}", "used", 0, "held", 0, "settled_total", 0);
            check(unused, counter);
            json_decref(unused);
        }
    }
    if (listed != json_array_size(expected))
        differs("counters", expected, json_object_get(found, "counters"));
    json_decref(found);
}

static json_t *swap(run *run, const json_t *step, const tokenweir_now *now)
{
    char *source = json_dumps(json_object_get(step, "policy"), 0);
    tokenweir_policy *policy = NULL;
    tokenweir_code code = tokenweir_policy_from_json(source, strlen(source), &policy, NULL);
    free(source);
    if (code != TOKENWEIR_OK)
        return failed(code);
    DONE(tokenweir_limiter_swap_policy(run->limiter, policy, now, &error));
    tokenweir_policy_free(policy);
    return json_object();
}

static void step_of(run *run, const json_t *step)
{
    const char *op = json_string_value(json_object_get(step, "op"));
    const json_t *at = json_object_get(step, "at");
    tokenweir_now now;
    json_t *found = NULL;
    CHECK(json_is_integer(json_object_get(at, "wall")));
    now.mono = integer(json_object_get(at, "mono"));
    now.wall = json_integer_value(json_object_get(at, "wall"));
    if (!strcmp(op, "admit"))
        found = admit(run, step, &now);
    else if (!strcmp(op, "settle") || !strcmp(op, "cancel") || !strcmp(op, "abandon"))
        found = end(run, op, step, &now);
    else if (!strcmp(op, "observe"))
        found = observe(run, step, &now);
    else if (!strcmp(op, "renew"))
        found = renew(run, step, &now);
    else if (!strcmp(op, "peek") || !strcmp(op, "explain"))
        found = look(run, op, step, &now);
    else if (!strcmp(op, "usage"))
        usage(run, step, &now);
    else if (!strcmp(op, "swap"))
        found = swap(run, step, &now);
    else if (!strcmp(op, "sweep"))
        DONE(tokenweir_limiter_sweep(run->limiter, &now, &error));
    else
        differs("op", json_object_get(step, "op"), NULL);
    if (found)
        check(json_object_get(step, "expect"), found);
    json_decref(found);
}

static size_t run_script(const json_t *script, int by_route)
{
    const json_t *given = json_object_get(script, "options");
    const json_t *ttl = json_object_get(given, "permit_ttl"), *counters = json_object_get(given, "max_counters");
    char *source = json_dumps(json_object_get(script, "policy"), 0);
    tokenweir_options options = tokenweir_options_init();
    tokenweir_policy *policy = NULL;
    tokenweir_clock *clock = NULL;
    run run = {NULL, json_object(), by_route};
    json_t *step;
    size_t at;
    if (ttl)
        options.permit_ttl_ns = integer(ttl);
    if (counters)
        options.max_counters = integer(counters);
    DONE(tokenweir_clock_new_manual(NULL, &clock, &error));
    DONE(tokenweir_policy_from_json(source, strlen(source), &policy, &error));
    options.clock = clock;
    DONE(tokenweir_limiter_new(policy, &options, &run.limiter, &error));
    tokenweir_clock_free(clock);
    tokenweir_policy_free(policy);
    free(source);
    json_array_foreach(json_object_get(script, "steps"), at, step)
    {
        step_number = at;
        step_of(&run, step);
    }
    tokenweir_limiter_free(run.limiter);
    json_decref(run.permits);
    return at;
}

/* A runner that finds no fault in anything would be of no use. */
static int finds_fault(const char *expect)
{
    json_error_t error;
    json_t *expected = json_loads(expect, 0, &error);
    json_t *script = json_pack(
        "{s:{s:[{s:s, s:s, s:s, s:i, s:s}]}, s:[{s:s, s:{s:i, s:i}, s:{s:s, s:s}, s:{s:i, s:i}, s:s, s:o}]}",
        "policy", "limit", "name", "q", "meter", "total", "algorithm", "quota", "amount", 10, "period", "never",
        "steps", "op", "admit", "at", "mono", 0, "wall", 0, "request", "project", "p", "deployment", "d", "estimate",
        "input", 1, "output", 2, "as", "a", "expect", expected);
    CHECK(expected != NULL && script != NULL);
    differences = 0;
    run_script(script, 0);
    json_decref(script);
    return differences > 0;
}

int main(int count, char **files)
{
    size_t steps = 0;
    CHECK(!finds_fault("{\"decision\": \"admitted\", \"remaining\": {\"q\": 7}, \"shadow_refused\": []}"));
    CHECK(finds_fault("{\"decision\": \"denied\"}"));
    CHECK(finds_fault("{\"decision\": \"admitted\", \"remaining\": {\"q\": 8}}"));
    CHECK(finds_fault("{\"decision\": \"admitted\", \"remaining\": {}}"));
    CHECK(finds_fault("{\"decision\": \"admitted\", \"shadow_refused\": [\"q\"]}"));
    CHECK(finds_fault("{\"error\": 10}"));
    differences = 0;
    for (int file = 1; file < count; file++) {
        json_error_t error;
        json_t *script = json_load_file(files[file], JSON_ALLOW_NUL, &error);
        if (!script)
            fprintf(stderr, "%s:%d: %s\n", files[file], error.line, error.text);
        CHECK(script != NULL);
        script_name = files[file];
        steps += run_script(script, 0);
        steps += run_script(script, 1);
        json_decref(script);
    }
    CHECK(count > 1 && steps > 0);
    printf("golden: %d scripts, %zu steps, %d differences\n", count - 1, steps, differences);
    return differences != 0;
}
