/* A region that processes share: one limit for all of them, permits settled by id in another, what a killed one leaves, and
 * every error of it. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AMOUNT = 1000, WORKERS = 4, SEATS = 48, PAGE_WORDS = 512 };
static const char POLICY[] = "[[limit]]\nname = 'total'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1_000\n"
                             "period = 'never'\nscope = ['project']\n"
                             "[[limit]]\nname = 'at once'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 100\n"
                             "scope = ['project']\n";
static const char OTHER[] = "[[limit]]\nname = 'total'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1_001\n"
                            "period = 'never'\nscope = ['project']\n";

static char directory[] = "/tmp/tokenweir-region-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* Small, so that it is made quickly. */
static tokenweir_region_layout layout_of_tests(void)
{
    tokenweir_region_layout layout = tokenweir_region_layout_init();
    layout.counters = layout.callers = 16;
    layout.permits = 64;
    layout.histories = 1;
    return layout;
}

static tokenweir_code opened(const char *path, tokenweir_shared_region **region, tokenweir_error **error)
{
    tokenweir_region_layout layout = layout_of_tests();
    tokenweir_policy *policy = policy_of(POLICY);
    tokenweir_code code = tokenweir_shared_region_open(path, strlen(path), policy, &layout, region, error);
    tokenweir_policy_free(policy);
    return code;
}

static tokenweir_shared_region *region_of(const char *name)
{
    tokenweir_shared_region *region = NULL;
    DONE(opened(path_of(name), &region, &error));
    return region;
}

static tokenweir_code limiter_on(const tokenweir_shared_region *region, const char *toml, tokenweir_limiter **limiter,
                                 tokenweir_error **error)
{
    tokenweir_options options = tokenweir_options_init();
    tokenweir_policy *policy = policy_of(toml);
    tokenweir_code code;
    options.region = region;
    code = tokenweir_limiter_new(policy, &options, limiter, error);
    tokenweir_policy_free(policy);
    return code;
}

static tokenweir_limiter *made_on(const tokenweir_shared_region *region)
{
    tokenweir_limiter *limiter = NULL;
    DONE(limiter_on(region, POLICY, &limiter, &error));
    return limiter;
}

/* The permit, or 0 where it is denied. */
static uint64_t admitted(const tokenweir_limiter *limiter, uint64_t tokens)
{
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(tokens, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    DONE(tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, &error));
    return decision.admitted ? decision.permit : 0;
}

static unsigned long long status_of(const tokenweir_shared_region *region, const char *figure)
{
    tokenweir_text *text = NULL;
    unsigned long long value = 0;
    const char *found;
    char wanted[64];
    DONE(tokenweir_shared_region_status(region, &text, &error));
    snprintf(wanted, sizeof wanted, "\"%s\":", figure);
    found = strstr(tokenweir_text_chars(text), wanted);
    CHECK(found != NULL && sscanf(found + strlen(wanted), "%llu", &value) == 1);
    tokenweir_text_free(text);
    return value;
}

static void wait_for(pid_t child, int signal)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal);
}

static void hostile_arguments(void)
{
    tokenweir_shared_region *region = region_of("hostile"), *none = region;
    tokenweir_region_layout layout = layout_of_tests(), valid = layout;
    tokenweir_policy *policy = policy_of(POLICY), *policy_in_force = NULL;
    tokenweir_limiter *limiter = NULL;
    tokenweir_options options = tokenweir_options_init();
    tokenweir_store_options store = tokenweir_store_options_of(NULL, "gateway");
    tokenweir_clock *clock = NULL;
    tokenweir_text *text = NULL;

    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_open(NULL, 1, policy, NULL, &none, &error));
    CHECK(none == NULL);
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_open("x", 1, policy, NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_open("x", 1, NULL, NULL, &none, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_shared_region_open("x", 0, policy, NULL, &none, &error));
    GIVES(TOKENWEIR_REGION_IO, tokenweir_shared_region_open("a\0b", 3, policy, NULL, &none, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_status(NULL, &text, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_status(region, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_policy(NULL, &policy_in_force, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_shared_region_policy(region, NULL, &error));
    tokenweir_shared_region_free(NULL);

#define WRONG(code, change)                                                                                            \
    do {                                                                                                               \
        const char *path = path_of("hostile");                                                                         \
        change;                                                                                                        \
        GIVES(code, tokenweir_shared_region_open(path, strlen(path), policy, &layout, &none, &error));                 \
        CHECK(none == NULL);                                                                                           \
        layout = valid;                                                                                                \
    } while (0)
    WRONG(TOKENWEIR_STRUCT_SIZE, layout.size--);
    WRONG(TOKENWEIR_RESERVED_NOT_ZERO, layout.reserved0 = 1);
    WRONG(TOKENWEIR_RESERVED_NOT_ZERO, layout.reserved[1] = 1);
    WRONG(TOKENWEIR_REGION_LAYOUT, layout.counters++);

    DONE(tokenweir_clock_new_manual(NULL, &clock, &error));
    options.region = region;
    options.clock = clock;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_limiter_new(policy, &options, &limiter, &error));
    options.clock = NULL;
    options.store = &store;
    GIVES(TOKENWEIR_REGION_FAILED, tokenweir_limiter_new(policy, &options, &limiter, &error));
    CHECK(limiter == NULL);
    tokenweir_clock_free(clock);
    tokenweir_policy_free(policy);
    tokenweir_shared_region_free(region);
}

/* FNV-1a of the words, and of the release, as the page of a region has it. */
static uint64_t checksum(const uint64_t *words, int count)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (int at = 0; at < 8 * count; at++)
        sum = (sum ^ (words[at / 8] >> 8 * (at % 8) & 0xff)) * 0x100000001b3u;
    for (const char *release = TOKENWEIR_VERSION; *release; release++)
        sum = (sum ^ (uint64_t)*release) * 0x100000001b3u;
    return sum;
}

/* Changes a word of the page, and makes its checksum fit where it is to. */
static void change(const char *path, int word, int fits)
{
    uint64_t words[13];
    int file = open(path, O_RDWR);
    CHECK(file >= 0 && pread(file, words, sizeof words, 0) == (ssize_t)sizeof words);
    words[word] ^= 1;
    if (fits)
        words[12] = checksum(words, 12);
    CHECK(pwrite(file, words, sizeof words, 0) == (ssize_t)sizeof words && close(file) == 0);
}

static void errors_of_files(void)
{
    tokenweir_shared_region *region = region_of("file"), *none = NULL;
    const char *path = path_of("file");
    struct stat about;

    CHECK(stat(path, &about) == 0 && (about.st_mode & 0777) == 0600 && about.st_size > PAGE_WORDS * 8);
    tokenweir_shared_region_free(region);
    CHECK(chmod(path, 0644) == 0);
    GIVES(TOKENWEIR_REGION_NOT_PRIVATE, opened(path, &none, &error));
    CHECK(chmod(path, 0600) == 0);
    change(path, 1, 0);
    GIVES(TOKENWEIR_REGION_VERSION, opened(path, &none, &error));
    change(path, 1, 0);
    change(path, 7, 0);
    GIVES(TOKENWEIR_REGION_DAMAGED, opened(path, &none, &error));
    change(path, 7, 0);
    change(path, 3, 1);
    GIVES(TOKENWEIR_REGION_RESTARTED, opened(path, &none, &error));
    change(path, 3, 1);
    tokenweir_shared_region_free(region_of("file"));
    GIVES(TOKENWEIR_REGION_IO, opened(path_of("no/such/directory"), &none, &error));
    CHECK(none == NULL);
}

/* A limiter of another policy than the region's is refused, unless it takes that; and so is the forty-ninth limiter. */
static void errors_of_limiters(void)
{
    tokenweir_shared_region *region = region_of("limiters");
    tokenweir_limiter *limiters[SEATS], *none = NULL;
    tokenweir_policy *same = policy_of(POLICY);

    for (int at = 0; at < SEATS; at++)
        limiters[at] = made_on(region);
    GIVES(TOKENWEIR_REGION_CROWDED, limiter_on(region, POLICY, &none, &error));
    tokenweir_limiter_free(limiters[SEATS - 1]);
    GIVES(TOKENWEIR_REGION_FAILED, limiter_on(region, OTHER, &none, &error));
    CHECK(none == NULL);
    DONE(tokenweir_limiter_swap_policy(limiters[0], same, NULL, &error));
    CHECK(status_of(region, "policies") == 1);
    for (int at = 0; at < SEATS - 1; at++)
        tokenweir_limiter_free(limiters[at]);
    tokenweir_policy_free(same);
    tokenweir_shared_region_free(region);
}

/* One worker puts another policy in force, and all go by it; a permit of before is settled to the token. */
static void a_policy_changes_for_all(void)
{
    tokenweir_shared_region *region = region_of("policies");
    tokenweir_policy *other = policy_of(OTHER), *found = NULL;
    tokenweir_usage usage = tokenweir_usage_of(1, 0);
    tokenweir_options options = tokenweir_options_init();
    tokenweir_limiter *limiter, *late = NULL;
    uint64_t permit;
    pid_t worker;

    DONE(tokenweir_shared_region_policy(region, &found, &error));
    CHECK(found == NULL);
    limiter = made_on(region);
    permit = admitted(limiter, 1);
    CHECK(permit != 0 && status_of(region, "policies") == 1);
    worker = fork();
    CHECK(worker >= 0);
    if (worker == 0) {
        tokenweir_limiter *own = made_on(region);
        DONE(tokenweir_limiter_swap_policy(own, other, NULL, &error));
        DONE(tokenweir_limiter_swap_policy(own, other, NULL, &error));
        DONE(tokenweir_limiter_settle(own, permit, &usage, NULL, NULL, &error));
        tokenweir_limiter_free(own);
        raise(SIGKILL);
    }
    wait_for(worker, SIGKILL);
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_limiter_settle(limiter, permit, &usage, NULL, NULL, &error));
    CHECK(status_of(region, "policies") == 2);
    GIVES(TOKENWEIR_REGION_FAILED, limiter_on(region, POLICY, &late, &error));
    CHECK(late == NULL);
    options.region = region;
    options.policy_of_region = 2;
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_limiter_new(other, &options, &late, &error));
    options.policy_of_region = 1;
    DONE(tokenweir_limiter_new(other, &options, &late, &error));
    DONE(tokenweir_shared_region_policy(region, &found, &error));
    CHECK(found != NULL);
    /* It is the policy in force, so nothing changes. */
    DONE(tokenweir_limiter_swap_policy(late, found, NULL, &error));
    CHECK(status_of(region, "policies") == 2);
    tokenweir_limiter_free(late);
    tokenweir_limiter_free(limiter);
    tokenweir_policy_free(found);
    tokenweir_policy_free(other);
    tokenweir_shared_region_free(region);
}

/* Workers that want more than there is have admitted exactly that, all together. */
static void a_limit_counts_once(void)
{
    tokenweir_shared_region *region = region_of("workers");
    tokenweir_usage usage = tokenweir_usage_of(1, 0);
    pid_t workers[WORKERS];
    int counts[2];
    unsigned long long all = 0;

    CHECK(pipe(counts) == 0);
    for (int at = 0; at < WORKERS; at++) {
        workers[at] = fork();
        CHECK(workers[at] >= 0);
        if (workers[at] == 0) {
            tokenweir_limiter *limiter = made_on(region);
            unsigned long long count = 0;
            for (int turn = 0; turn < AMOUNT; turn++) {
                uint64_t permit = admitted(limiter, 1);
                if (permit == 0)
                    continue;
                DONE(tokenweir_limiter_settle(limiter, permit, &usage, NULL, NULL, &error));
                count++;
            }
            CHECK(write(counts[1], &count, sizeof count) == (ssize_t)sizeof count);
            tokenweir_limiter_free(limiter);
            /* Not by exit, where Valgrind would count what the parent has. */
            raise(SIGKILL);
        }
    }
    for (int at = 0; at < WORKERS; at++) {
        unsigned long long count;
        wait_for(workers[at], SIGKILL);
        CHECK(read(counts[0], &count, sizeof count) == (ssize_t)sizeof count);
        all += count;
    }
    CHECK(all == AMOUNT);
    CHECK(status_of(region, "permits_open") == 0 && status_of(region, "unsure_steps") == 0);
    CHECK(close(counts[0]) == 0 && close(counts[1]) == 0);
    tokenweir_shared_region_free(region);
}

/* One is killed with permits open: another settles one of them by its id, and the counters have outlived them all. */
static void permits_outlive_their_process(void)
{
    tokenweir_shared_region *region = region_of("killed");
    tokenweir_usage usage = tokenweir_usage_of(300, 0);
    tokenweir_limiter *limiter;
    tokenweir_settlement settlement = tokenweir_settlement_init();
    uint64_t permits[2];
    int ids[2];
    pid_t child;

    CHECK(pipe(ids) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        limiter = made_on(region);
        for (int at = 0; at < 2; at++)
            permits[at] = admitted(limiter, 400);
        CHECK(write(ids[1], permits, sizeof permits) == (ssize_t)sizeof permits);
        raise(SIGKILL);
    }
    wait_for(child, SIGKILL);
    CHECK(read(ids[0], permits, sizeof permits) == (ssize_t)sizeof permits && permits[0] != 0 && permits[1] != 0);
    limiter = made_on(region);
    CHECK(admitted(limiter, 201) == 0);
    DONE(tokenweir_limiter_settle(limiter, permits[0], &usage, NULL, &settlement, &error));
    CHECK(settlement.input == 300);
    GIVES(TOKENWEIR_PERMIT_SETTLED, tokenweir_limiter_settle(limiter, permits[0], &usage, NULL, NULL, &error));
    CHECK(admitted(limiter, 301) == 0);
    CHECK(admitted(limiter, 300) != 0);
    CHECK(status_of(region, "cleared_up") == 1);
    tokenweir_limiter_free(limiter);
    CHECK(close(ids[0]) == 0 && close(ids[1]) == 0);
    tokenweir_shared_region_free(region);
}

/* A limiter is not taken along by a fork. The child is told, frees it without harm, and its parent goes on. */
static void a_fork_makes_its_own_limiter(void)
{
    tokenweir_shared_region *region = region_of("forked");
    tokenweir_limiter *limiter = made_on(region);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        tokenweir_limiter *own;
        GIVES(TOKENWEIR_REGION_FAILED,
              tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, &error));
        tokenweir_limiter_free(limiter);
        own = made_on(region);
        CHECK(admitted(own, 600) != 0);
        tokenweir_limiter_free(own);
        raise(SIGKILL);
    }
    wait_for(child, SIGKILL);
    CHECK(admitted(limiter, 401) == 0);
    CHECK(admitted(limiter, 400) != 0);
    tokenweir_limiter_free(limiter);
    tokenweir_shared_region_free(region);
}

int main(void)
{
    char command[64];
    CHECK(mkdtemp(directory) != NULL);
    hostile_arguments();
    errors_of_files();
    errors_of_limiters();
    a_policy_changes_for_all();
    a_limit_counts_once();
    permits_outlive_their_process();
    a_fork_makes_its_own_limiter();
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK(system(command) == 0);
    puts("region: ok");
    return 0;
}
