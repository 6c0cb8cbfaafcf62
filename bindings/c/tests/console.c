/* The gateway model through its commands: the first steps of the vendor's page from an empty resource back to one, each wrong
   order with its code, what is saved and loaded, calls by threads; and hostile arguments. */
#include "check.h"
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>

/* Ready after 480 s, gone after 60; the time is the commands'. */
static const char OPTIONS[] = "{\"time\":\"given\",\"provider\":{\"ready_after\":480,\"delete_after\":60}}";

static tokenweir_console *console_of(const char *options)
{
    tokenweir_console *console = NULL;
    DONE(tokenweir_console_new(options, strlen(options), NULL, &console, &error));
    return console;
}

/* So many seconds after the last hour of a month began. */
static const char *at(unsigned seconds)
{
    static char instant[32];
    const int next = seconds >= 3600;
    sprintf(instant, "%s:%02u:%02uZ", next ? "2026-12-01T00" : "2026-11-30T23", (next ? seconds - 3600 : seconds) / 60,
            seconds % 60);
    return instant;
}

/* The answer to a command, of which the text may be thrown away. */
static json_t *answer_of(const tokenweir_console *console, uint32_t *refused, const char *command)
{
    tokenweir_text *text = NULL;
    json_t *answer;
    *refused = 7;
    DONE(tokenweir_console_command(console, command, strlen(command), &text, refused, &error));
    answer = json_loadb(tokenweir_text_chars(text), tokenweir_text_length(text), 0, NULL);
    CHECK(answer != NULL && json_object_size(answer) == 1);
    tokenweir_text_free(text);
    return answer;
}

/* What a command that is carried out comes to: `ok`, to be released. */
static json_t *ok(const tokenweir_console *console, const char *format, ...)
{
    char command[1024];
    uint32_t refused;
    json_t *answer, *came_to;
    va_list arguments;
    va_start(arguments, format);
    CHECK(vsnprintf(command, sizeof command, format, arguments) < (int)sizeof command);
    va_end(arguments);
    answer = answer_of(console, &refused, command);
    if (refused)
        fprintf(stderr, "%s: %s\n", command, json_dumps(answer, 0));
    CHECK(refused == 0);
    came_to = json_incref(json_object_get(answer, "ok"));
    json_decref(answer);
    return came_to;
}

#define DO(...) json_decref(ok(__VA_ARGS__))

/* The command is refused with this code, and says what to do. */
static void refused_with(const tokenweir_console *console, const char *code, const char *format, ...)
{
    char command[1024];
    uint32_t refused;
    json_t *answer, *error;
    va_list arguments;
    va_start(arguments, format);
    CHECK(vsnprintf(command, sizeof command, format, arguments) < (int)sizeof command);
    va_end(arguments);
    answer = answer_of(console, &refused, command);
    error = json_object_get(answer, "error");
    if (!error || strcmp(json_string_value(json_object_get(error, "code")), code)) {
        fprintf(stderr, "%s is not refused with %s\n", command, code);
        check_failed(__FILE__, __LINE__, json_dumps(answer, 0));
    }
    CHECK(refused == 1 && json_string_length(json_object_get(error, "next")) > 0);
    json_decref(answer);
}

#define ADA "\"apply\":{\"by\":\"ada\",\"operation\":{"
#define CONTOSO "\"resource\":\"contoso\""

/* The member at the end of a path, which is a text's or an integer's; borrowed. */
static const json_t *member(const json_t *value, const char *path)
{
    char name[40];
    for (size_t length; *path; path += length + (path[length] == '/')) {
        length = strcspn(path, "/");
        memcpy(name, path, length);
        name[length] = 0;
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(name)) : json_object_get(value, name);
    }
    CHECK(value != NULL);
    return value;
}

static void is_text(json_t *value, const char *path, const char *text)
{
    const char *found = json_string_value(member(value, path));
    if (!found || strcmp(found, text))
        check_failed(__FILE__, __LINE__, found ? found : path);
    json_decref(value);
}

static void is_integer(json_t *value, const char *path, long long number)
{
    const json_t *found = member(value, path);
    if (!json_is_integer(found) || json_integer_value(found) != number)
        check_failed(__FILE__, __LINE__, json_dumps(found, JSON_ENCODE_ANY));
    json_decref(value);
}

/* A call of `search`, settled with these tokens if it passes: what it is decided to be. */
static json_t *call(const tokenweir_console *console, unsigned seconds, unsigned input, unsigned output)
{
    json_t *decided =
        ok(console, "{\"now\":\"%s\",\"call\":{\"project\":\"search\",\"deployment\":\"d\"}}", at(seconds));
    const char *id = json_string_value(json_object_get(decided, "call"));
    if (id)
        DO(console, "{\"settle\":{\"call\":\"%s\",\"usage\":{\"input\":%u,\"output\":%u},\"response_code\":200}}", id, input,
           output);
    return decided;
}

static void declare(const tokenweir_console *console)
{
    DO(console, "{\"now\":\"%s\",\"declare\":{\"resource\":{\"name\":\"contoso\",\"public_network_access\":true,\"site\":"
                "{\"tenant\":\"t\",\"subscription\":\"s\",\"resource_group\":\"g\",\"region\":\"swedencentral\"}}}}", at(0));
    DO(console, "{\"declare\":{\"deployment\":{" CONTOSO ",\"name\":\"d\",\"model\":\"gpt-4o\"}}}");
    DO(console, "{\"declare\":{\"project\":{" CONTOSO ",\"name\":\"search\",\"created\":\"2026-01-01T00:00:00Z\"}}}");
    DO(console, "{\"declare\":{\"principal\":{\"id\":\"ada\",\"assignments\":[{\"role\":\"Owner\",\"scope\":"
                "\"/subscriptions/s\"},{\"role\":\"Foundry Owner\",\"scope\":\"/subscriptions/s\"}]}}}");
}

static void walk_through(void)
{
    static const char LIMIT[] = "{\"now\":\"%s\"," ADA "\"set_limit\":{" CONTOSO ",\"project\":\"search\",\"deployment\":\"d\","
                                "\"limit\":{\"tokens_per_minute\":100,\"token_quota\":250,\"token_quota_period\":\"Monthly\"}}}}}";
    static const char ADD[] = "{\"now\":\"%s\"," ADA "\"add_project\":{" CONTOSO ",\"project\":\"search\"}}}}";
    static const char DELETE[] = "{\"now\":\"%s\"," ADA "\"delete_instance\":{\"instance\":\"front\"}}}}";
    static const char DELETE_GATEWAY[] = "{\"now\":\"%s\"," ADA "\"delete_gateway\":{" CONTOSO "}}}}";
    static const char OF_SEARCH[] = "resources/contoso/projects/search/";
    static const char STATUS[] = "{\"now\":\"%s\",\"status\":{}}";
    char path[80];
    tokenweir_console *console = console_of(OPTIONS);

    refused_with(console, "NOW_MISSING", "{\"status\":{}}");
    declare(console);
    refused_with(console, "PERMISSION_DENIED", "{\"apply\":{\"by\":\"eve\",\"operation\":{\"create_gateway\":{" CONTOSO ",\"name\":\"front\"}}}}");
    is_text(ok(console, "{\"now\":\"%s\"," ADA "\"create_gateway\":{" CONTOSO ",\"name\":\"front\"}}}}", at(0)), "state", "Provisioning");
    refused_with(console, "GATEWAY_ALREADY_EXISTS", "{" ADA "\"create_gateway\":{" CONTOSO ",\"name\":\"other\"}}}}");
    refused_with(console, "GATEWAY_NOT_READY", ADD, at(10));
    is_text(ok(console, "{\"now\":\"%s\",\"refresh\":{}}", at(480)), "changes/0/state", "Enabled");
    /* What is not behind the gateway passes uncounted. */
    refused_with(console, "PROJECT_NOT_ENABLED", LIMIT, at(481));
    is_text(call(console, 481, 1000, 0), "outcome", "bypassed");
    DO(console, ADD, at(482));
    refused_with(console, "PROJECT_ALREADY_ENABLED", ADD, at(482));
    DO(console, LIMIT, at(482));
    sprintf(path, "%sstatus", OF_SEARCH);
    is_text(ok(console, STATUS, at(482)), path, "Enabled");
    sprintf(path, "%slimits/d/use/0/remaining", OF_SEARCH);
    is_integer(ok(console, STATUS, at(482)), path, 100);
    {
        json_t *checked = ok(console, "{\"verify\":{\"project\":\"search\",\"deployment\":\"d\"}}");
        CHECK(json_is_true(member(checked, "passed")));
        json_decref(checked);
    }
    is_text(call(console, 482, 80, 28), "outcome", "admitted");
    /* 110 of 100 are used: 11 tokens of refill until one is there. */
    is_integer(call(console, 482, 0, 0), "status", 429);
    is_text(call(console, 482, 0, 0), "headers/Retry-After", "7");
    is_text(call(console, 482, 0, 0), "body", "{\"statusCode\":429,\"message\":\"Token limit is exceeded. Try again in 7 seconds.\"}");
    is_integer(call(console, 488, 0, 0), "status", 429);
    is_text(call(console, 489, 141, 0), "outcome", "admitted");
    is_integer(call(console, 1000, 0, 0), "status", 403);
    is_integer(call(console, 1000, 0, 0), "retry_after", 3600 - 1000);
    sprintf(path, "%slimits/d/use/1/remaining", OF_SEARCH);
    is_integer(ok(console, STATUS, at(1000)), path, -1);
    is_text(call(console, 3600, 1, 0), "outcome", "admitted");

    refused_with(console, "GATEWAY_HAS_ENABLED_PROJECTS", DELETE_GATEWAY, at(3600));
    refused_with(console, "GATEWAY_STILL_ASSOCIATED", DELETE, at(3600));
    refused_with(console, "GATEWAY_DISABLE_UNSUPPORTED", "{" ADA "\"disable_gateway\":{" CONTOSO "}}}}");
    DO(console, "{" ADA "\"remove_project\":{" CONTOSO ",\"project\":\"search\"}}}}");
    is_text(call(console, 3600, 1000, 0), "outcome", "bypassed");
    is_text(ok(console, DELETE_GATEWAY, at(3601)), "state", "Orphaned");
    DO(console, DELETE, at(3602));
    DO(console, "{\"now\":\"%s\",\"refresh\":{}}", at(3662));
    is_text(ok(console, STATUS, at(3662)), "resources/contoso/state", "Absent");
    tokenweir_console_free(console);
}

/* A gateway with a limit of 100 on `search`, at 480 s. */
static tokenweir_console *limited(void)
{
    tokenweir_console *console = console_of(OPTIONS);
    declare(console);
    DO(console, "{" ADA "\"create_gateway\":{" CONTOSO ",\"name\":\"front\"}}}}");
    DO(console, "{\"now\":\"%s\",\"refresh\":{}}", at(480));
    DO(console, "{" ADA "\"add_project\":{" CONTOSO ",\"project\":\"search\"}}}}");
    DO(console, "{" ADA "\"set_limit\":{" CONTOSO ",\"project\":\"search\",\"deployment\":\"d\",\"limit\":{\"tokens_per_minute\":100}}}}}");
    return console;
}

static void saved_and_loaded(void)
{
    tokenweir_console *before = limited(), *after = console_of(OPTIONS);
    json_t *saved, *load;
    char *command;
    uint32_t refused;
    json_decref(call(before, 480, 90, 0));
    saved = ok(before, "{\"save\":{}}");
    load = json_pack("{s:s,s:{s:O}}", "now", at(480), "load", "document", member(saved, "document"));
    command = json_dumps(load, 0);
    json_decref(answer_of(after, &refused, command));
    CHECK(refused == 0);
    /* What is restored owes one token more: its refill may have been about to reach the next. */
    is_integer(ok(after, "{\"status\":{}}"), "resources/contoso/projects/search/limits/d/use/0/remaining", 9);
    free(command);
    json_decref(load);
    json_decref(saved);
    tokenweir_console_free(before);
    tokenweir_console_free(after);
}

/* Records, calls that are observed and cancelled, and the clock of the host. */
static void calls(void)
{
    tokenweir_console *console = limited();
    tokenweir_clock *clock = NULL;
    const tokenweir_now now = {90000000000, 90000000000};
    json_t *decided = ok(console, "{\"call\":{\"project\":\"search\",\"deployment\":\"d\",\"streamed\":true,\"estimate\":{\"input\":60,\"output\":9}}}");
    const char *id = json_string_value(member(decided, "call"));
    json_t *observed = ok(console, "{\"observe\":{\"call\":\"%s\",\"output\":40}}", id);
    CHECK(json_is_true(member(observed, "spent")));
    json_decref(observed);
    DO(console, "{\"renew\":{\"call\":\"%s\"}}", id);
    DO(console, "{\"cancel\":{\"call\":\"%s\"}}", id);
    refused_with(console, "CALL_UNKNOWN", "{\"renew\":{\"call\":\"%s\"}}", id);
    refused_with(console, "CALL_UNKNOWN", "{\"settle\":{\"call\":\"%s\"}}", id);
    json_decref(decided);
    is_text(ok(console, "{\"records\":{}}"), "records/0/ended", "cancelled");
    tokenweir_console_free(console);

    DONE(tokenweir_clock_new_manual(&now, &clock, &error));
    DONE(tokenweir_console_new(NULL, 0, clock, &console, &error));
    is_text(ok(console, "{\"status\":{}}"), "now", "1970-01-01T00:01:30Z");
    refused_with(console, "NOW_NOT_TAKEN", "{\"now\":\"%s\",\"status\":{}}", at(0));
    tokenweir_console_free(console);
    GIVES(TOKENWEIR_OPTIONS_INVALID, tokenweir_console_new(OPTIONS, sizeof OPTIONS - 1, clock, &console, &error));
    CHECK(console == NULL);
    tokenweir_clock_free(clock);
}

#define ROUNDS 150

static void *call_and_settle(void *console)
{
    for (int round = 0; round < ROUNDS; round++)
        is_text(call(console, 481, 2, 1), "outcome", "admitted");
    return NULL;
}

static void *administer(void *console)
{
    for (int round = 0; round < ROUNDS / 4; round++) {
        DO(console, "{" ADA "\"set_limit\":{" CONTOSO ",\"project\":\"search\",\"deployment\":\"d\",\"limit\":{\"tokens_per_minute\":%d}}}}}",
           100000 + round % 2);
        DO(console, "{\"status\":{}}");
    }
    return NULL;
}

static void threads(void)
{
    tokenweir_console *console = limited();
    pthread_t some[3];
    json_t *trail;
    DO(console, "{" ADA "\"set_limit\":{" CONTOSO ",\"project\":\"search\",\"deployment\":\"d\",\"limit\":{\"tokens_per_minute\":100000}}}}}");
    for (int at = 0; at < 3; at++)
        CHECK(pthread_create(&some[at], NULL, at ? call_and_settle : administer, console) == 0);
    for (int at = 0; at < 3; at++)
        CHECK(pthread_join(some[at], NULL) == 0);
    is_integer(ok(console, "{\"status\":{}}"), "resources/contoso/requests/admitted", 2 * ROUNDS);
    trail = ok(console, "{\"records\":{}}");
    CHECK(json_array_size(member(trail, "records")) == 2 * ROUNDS);
    json_decref(trail);
    tokenweir_console_free(console);
}

static void hostile(void)
{
    static const char *const bad[] = {"", "{", "[]", "{}", "{\"refresh\":{},\"status\":{}}", "{\"refresh\":{\"x\":1}}", "{\"now\":\"soon\",\"refresh\":{}}"};
    tokenweir_console *console = console_of(""), *none = console;
    tokenweir_text *text = NULL;
    char *deep = malloc(200000);
    for (size_t at = 0; at < sizeof bad / sizeof bad[0]; at++)
        refused_with(console, "COMMAND_INVALID", "%s", bad[at]);
    CHECK(deep != NULL);
    memset(deep, '[', 200000);
    DONE(tokenweir_console_command(console, deep, 200000, &text, NULL, &error));
    CHECK(strstr(tokenweir_text_chars(text), "COMMAND_INVALID") != NULL);
    tokenweir_text_free(text);
    free(deep);
    DONE(tokenweir_console_command(console, NULL, 0, &text, NULL, &error));
    tokenweir_text_free(text);
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_console_command(console, "\xff", 1, &text, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_command(NULL, "{}", 2, &text, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_command(console, NULL, 2, &text, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_command(console, "{}", 2, NULL, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_console_command(console, "{}", SIZE_MAX, &text, NULL, &error));
    CHECK(text == NULL);
    GIVES(TOKENWEIR_OPTIONS_INVALID, tokenweir_console_new("{", 1, NULL, &none, &error));
    CHECK(none == NULL);
    GIVES(TOKENWEIR_OPTIONS_INVALID, tokenweir_console_new("{\"tiem\":1}", 10, NULL, &none, &error));
    GIVES(TOKENWEIR_UTF8_INVALID, tokenweir_console_new("\xff", 1, NULL, &none, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_new(NULL, 1, NULL, &none, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_console_new(NULL, 0, NULL, NULL, &error));
    tokenweir_console_free(console);
    tokenweir_console_free(NULL);
}

int main(void)
{
    walk_through();
    saved_and_loaded();
    calls();
    threads();
    hostile();
    puts("console: ok");
    return 0;
}
