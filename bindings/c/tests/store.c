/* Quotas that outlive the process: kept in a file, found again after a clean end and after a kill, and every error of it. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of the default part. */
enum { LEASE = 10 };
static const char POLICY[] = "[[limit]]\nname = 'month'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1_000\n"
                             "period = 'never'\nscope = ['project', 'key:user']\n";

static char directory[] = "/tmp/tokenweir-store-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", directory, name);
    return path[turn];
}

static tokenweir_quota_file *file_of(const char *name)
{
    tokenweir_quota_file *file = NULL;
    const char *path = path_of(name);
    DONE(tokenweir_quota_file_open(path, strlen(path), &file, &error));
    return file;
}

static tokenweir_limiter *kept_by(const tokenweir_store_options *store)
{
    tokenweir_options options = tokenweir_options_init();
    options.store = store;
    return limiter_of(POLICY, &options);
}

static tokenweir_limiter *kept_in(const tokenweir_quota_file *file, uint32_t renewal)
{
    tokenweir_store_options store = tokenweir_store_options_of(file, "gateway");
    store.renewal = renewal;
    return kept_by(&store);
}

static tokenweir_code charge(const tokenweir_limiter *limiter, const char *user, uint64_t tokens, tokenweir_error **error)
{
    tokenweir_key key = tokenweir_key_of("user", user);
    tokenweir_request request = tokenweir_request_of("search", "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(tokens, 0);
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_usage usage = tokenweir_usage_of(tokens, 0);
    tokenweir_code code;
    request.keys = &key;
    request.key_count = 1;
    code = tokenweir_limiter_admit(limiter, &request, &estimate, NULL, &decision, NULL, error);
    if (code != TOKENWEIR_OK)
        return code;
    CHECK(decision.admitted == 1);
    DONE(tokenweir_limiter_settle(limiter, decision.permit, &usage, NULL, NULL, &error));
    return TOKENWEIR_OK;
}

/* How much of the user's quota the file has as used; 0 if nothing. */
static uint64_t recorded(const tokenweir_quota_file *file, const char *user)
{
    tokenweir_text *text = NULL;
    const char *found;
    char wanted[64];
    unsigned long long used = 0;
    DONE(tokenweir_quota_file_records(file, &text, &error));
    snprintf(wanted, sizeof wanted, "\"key:user\":\"%s\"", user);
    found = strstr(tokenweir_text_chars(text), wanted);
    if (found != NULL) {
        /* Its members stand in the order of their names: scope, store, used. */
        found = strstr(found, "\"used\":");
        CHECK(found != NULL && sscanf(found, "\"used\":%llu", &used) == 1);
    }
    tokenweir_text_free(text);
    return used;
}

static uint64_t store_failures(const tokenweir_limiter *limiter)
{
    tokenweir_stats stats = tokenweir_stats_init();
    DONE(tokenweir_limiter_stats(limiter, &stats, &error));
    return stats.store_failures;
}

static void hostile_arguments(void)
{
    tokenweir_quota_file *file = file_of("hostile"), *none = file;
    tokenweir_text *text = NULL;
    tokenweir_policy *policy = policy_of(POLICY);
    tokenweir_limiter *limiter = NULL, *keeps = NULL;
    tokenweir_options options = tokenweir_options_init();
    tokenweir_store_options store = tokenweir_store_options_of(file, "gateway"), valid = store;
    options.store = &store;

    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_quota_file_open(NULL, 1, &none, &error));
    CHECK(none == NULL);
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_quota_file_open("x", 1, NULL, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_quota_file_open("x", 0, &none, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_quota_file_open("x", SIZE_MAX, &none, &error));
    GIVES(TOKENWEIR_QUOTA_FILE_IO, tokenweir_quota_file_open("a\0b", 3, &none, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_quota_file_backup(NULL, "x", 1, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_quota_file_backup(file, NULL, 1, &error));
    GIVES(TOKENWEIR_ARGUMENT_INVALID, tokenweir_quota_file_backup(file, NULL, 0, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_quota_file_records(NULL, &text, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_quota_file_records(file, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_renew_leases(NULL, NULL, &error));
    GIVES(TOKENWEIR_NULL_ARGUMENT, tokenweir_limiter_give_back_leases(NULL, &error));
    tokenweir_quota_file_free(NULL);

#define WRONG(code, change)                                                                                            \
    do {                                                                                                               \
        change;                                                                                                        \
        GIVES(code, tokenweir_limiter_new(policy, &options, &limiter, &error));                                        \
        CHECK(limiter == NULL);                                                                                        \
        store = valid;                                                                                                 \
    } while (0)
    WRONG(TOKENWEIR_STRUCT_SIZE, store.size--);
    WRONG(TOKENWEIR_STRUCT_SIZE, store.size = 0);
    WRONG(TOKENWEIR_RESERVED_NOT_ZERO, store.reserved0 = 1);
    WRONG(TOKENWEIR_RESERVED_NOT_ZERO, store.reserved[3] = 1);
    WRONG(TOKENWEIR_NULL_ARGUMENT, store.file = NULL);
    WRONG(TOKENWEIR_NULL_ARGUMENT, store.name = NULL);
    WRONG(TOKENWEIR_UTF8_INVALID, (store.name = "\xff", store.name_length = 1));
    WRONG(TOKENWEIR_ARGUMENT_INVALID, store.when_it_fails = 2);
    WRONG(TOKENWEIR_ARGUMENT_INVALID, store.renewal = 2);
    /* None of them has kept the name. */
    DONE(tokenweir_limiter_new(policy, &options, &keeps, &error));
    WRONG(TOKENWEIR_STORE_NAME_IN_USE, (void)0);
    tokenweir_limiter_free(keeps);
    /* Nor has who is gone. */
    DONE(tokenweir_limiter_new(policy, &options, &keeps, &error));
    tokenweir_limiter_free(keeps);
    tokenweir_policy_free(policy);
    tokenweir_quota_file_free(file);
}

static void errors_of_files(void)
{
    tokenweir_quota_file *file = file_of("quotas"), *other = NULL;
    const char *path = path_of("quotas");
    struct stat about;
    FILE *written;

    CHECK(stat(path, &about) == 0 && (about.st_mode & 0777) == 0600);
    GIVES(TOKENWEIR_QUOTA_FILE_IN_USE, tokenweir_quota_file_open(path, strlen(path), &other, &error));
    GIVES(TOKENWEIR_QUOTA_FILE_IO, tokenweir_quota_file_backup(file, path, strlen(path), &error));
    tokenweir_quota_file_free(file);
    /* Free again for another. */
    file = file_of("quotas");
    tokenweir_quota_file_free(file);

    path = path_of("no/such/directory");
    GIVES(TOKENWEIR_QUOTA_FILE_IO, tokenweir_quota_file_open(path, strlen(path), &other, &error));
    path = path_of("other");
    written = fopen(path, "w");
    CHECK(written != NULL && fputs("something else", written) >= 0 && fclose(written) == 0);
    GIVES(TOKENWEIR_QUOTA_FILE_DAMAGED, tokenweir_quota_file_open(path, strlen(path), &other, &error));
    CHECK(stat(path, &about) == 0 && about.st_size == 14);
    CHECK(other == NULL);
}

/* After a clean end the file has exactly what was used, whoever renews leases, and whatever is freed first. */
static void exact_after_a_clean_end(void)
{
    for (uint32_t renewal = 0; renewal < 2; renewal++) {
        tokenweir_quota_file *file = file_of(renewal ? "by host" : "in background"), *copied;
        tokenweir_limiter *limiter = kept_in(file, renewal);
        const char *copy = path_of(renewal ? "copy 1" : "copy 0");
        uint64_t had;

        DONE(charge(limiter, "ann", 7, &error));
        had = recorded(file, "ann");
        CHECK(had >= 7 && had <= 7 + 10);
        DONE(tokenweir_limiter_give_back_leases(limiter, &error));
        CHECK(recorded(file, "ann") == 7);
        DONE(tokenweir_quota_file_backup(file, copy, strlen(copy), &error));
        DONE(charge(limiter, "ann", 5, &error));
        CHECK(recorded(file, "ann") >= 12);
        tokenweir_quota_file_free(file);
        tokenweir_limiter_free(limiter);

        file = file_of(renewal ? "by host" : "in background");
        CHECK(recorded(file, "ann") == 12 && recorded(file, "bob") == 0);
        limiter = kept_in(file, renewal);
        DONE(charge(limiter, "ann", 3, &error));
        tokenweir_limiter_free(limiter);
        CHECK(recorded(file, "ann") == 15);
        tokenweir_quota_file_free(file);

        copied = file_of(renewal ? "copy 1" : "copy 0");
        CHECK(recorded(copied, "ann") == 7);
        tokenweir_quota_file_free(copied);
    }
}

/* What the records of a counter look like. */
static void records_name_the_counter(void)
{
    tokenweir_quota_file *file = file_of("named");
    tokenweir_limiter *limiter = kept_in(file, TOKENWEIR_LEASE_RENEWAL_BY_HOST);
    tokenweir_text *text = NULL;

    DONE(tokenweir_quota_file_records(file, &text, &error));
    CHECK(!strcmp(tokenweir_text_chars(text), "{\"records\":[]}"));
    tokenweir_text_free(text);
    DONE(charge(limiter, "ann", 7, &error));
    tokenweir_limiter_free(limiter);
    DONE(tokenweir_quota_file_records(file, &text, &error));
    CHECK(strstr(tokenweir_text_chars(text), "\"limit\":\"month\",\"meter\":\"total\",\"period\":\"never\",\"period_end\":null,\"period_start\":null"));
    CHECK(strstr(tokenweir_text_chars(text), "\"scope\":{\"key:user\":\"ann\",\"project\":\"search\"},\"store\":\"gateway\",\"used\":7"));
    tokenweir_text_free(text);
    tokenweir_quota_file_free(file);
}

/* A lease near its end is renewed by the host's call, or by the thread: nobody had to wait for that. */
static void leases_are_renewed(void)
{
    tokenweir_quota_file *file = file_of("renewed");
    tokenweir_store_options store = tokenweir_store_options_of(file, "by host");
    tokenweir_limiter *limiter;
    uint64_t renewed = 7, before;

    store.lease_part = 1;
    store.renewal = TOKENWEIR_LEASE_RENEWAL_BY_HOST;
    limiter = kept_by(&store);
    DONE(tokenweir_limiter_renew_leases(limiter, &renewed, &error));
    CHECK(renewed == 0);
    /* The lease is the whole amount, half of it is taken at a time. */
    DONE(charge(limiter, "ann", 1, &error));
    before = recorded(file, "ann");
    CHECK(before > 400 && before < 600);
    DONE(charge(limiter, "ann", before - 2, &error));
    CHECK(recorded(file, "ann") == before);
    DONE(tokenweir_limiter_renew_leases(limiter, &renewed, &error));
    CHECK(renewed == 1 && recorded(file, "ann") > before);
    DONE(tokenweir_limiter_renew_leases(limiter, NULL, &error));
    tokenweir_limiter_free(limiter);

    store = tokenweir_store_options_of(file, "in background");
    store.lease_part = 1;
    limiter = kept_by(&store);
    DONE(charge(limiter, "bob", 1, &error));
    before = recorded(file, "bob");
    DONE(charge(limiter, "bob", before - 2, &error));
    /* The charge was within its lease, so it is the thread that raises it. */
    for (int turn = 0; recorded(file, "bob") == before; turn++)
        CHECK(turn < 1000000);
    tokenweir_limiter_free(limiter);
    CHECK(recorded(file, "bob") == before - 1);
    tokenweir_quota_file_free(file);

    limiter = limiter_of(POLICY, NULL);
    DONE(tokenweir_limiter_renew_leases(limiter, &renewed, &error));
    DONE(tokenweir_limiter_give_back_leases(limiter, &error));
    CHECK(renewed == 0);
    tokenweir_limiter_free(limiter);
}

/* Nothing can be written beyond this many bytes of a file: what a full disk comes to. */
static void writable(rlim_t bytes)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes > limit.rlim_max ? limit.rlim_max : bytes;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void the_disk_is_full(void)
{
    tokenweir_quota_file *file = file_of("full");
    tokenweir_limiter *limiter = kept_in(file, TOKENWEIR_LEASE_RENEWAL_BY_HOST);
    tokenweir_store_options store = tokenweir_store_options_of(file, "admits");
    tokenweir_limiter *admits;
    uint64_t failures;

    store.when_it_fails = TOKENWEIR_WHEN_STORE_FAILS_ADMIT;
    store.renewal = TOKENWEIR_LEASE_RENEWAL_BY_HOST;
    admits = kept_by(&store);
    DONE(charge(limiter, "ann", 7, &error));
    writable(0);
    GIVES(TOKENWEIR_STORE_FAILED, charge(limiter, "ann", 50, &error));
    GIVES(TOKENWEIR_STORE_FAILED, charge(limiter, "ann", 50, &error));
    GIVES(TOKENWEIR_STORE_FAILED, tokenweir_limiter_give_back_leases(limiter, &error));
    failures = store_failures(limiter);
    CHECK(failures >= 3);
    DONE(charge(admits, "bob", 30, &error));
    CHECK(store_failures(admits) > 0);
    writable(RLIM_INFINITY);
    /* What was refused was not charged, and what was let pass is recorded after all. */
    DONE(charge(limiter, "ann", 1, &error));
    DONE(charge(admits, "bob", 1, &error));
    CHECK(store_failures(limiter) == failures);
    tokenweir_limiter_free(limiter);
    tokenweir_limiter_free(admits);
    CHECK(recorded(file, "ann") == 8);
    /* What the file had of bob could not be read, so nothing is given back: a lease more may stay. */
    CHECK(recorded(file, "bob") >= 31 && recorded(file, "bob") <= 31 + LEASE);
    tokenweir_quota_file_free(file);
}

/* A process is killed with a permit open and a lease half used: its use is found again, and at most a lease more. */
static void found_again_after_a_kill(void)
{
    uint64_t least = 0;
    for (int kills = 0; kills < 5; kills++) {
        pid_t child = fork();
        int status;
        tokenweir_quota_file *file;
        CHECK(child >= 0);
        if (child == 0) {
            tokenweir_limiter *limiter;
            file = file_of("killed");
            limiter = kept_in(file, TOKENWEIR_LEASE_RENEWAL_IN_BACKGROUND);
            for (int calls = 0; calls < 3 + kills; calls++)
                DONE(charge(limiter, "ann", 6, &error));
            raise(SIGKILL);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        file = file_of("killed");
        least += 6 * (3 + (uint64_t)kills);
        CHECK(recorded(file, "ann") >= least && recorded(file, "ann") <= least + LEASE);
        least = recorded(file, "ann");
        tokenweir_quota_file_free(file);
    }
}

/* A process that is forked from one with an open file has neither: it is told, frees without harm, and its parent goes on. */
static void a_fork_leaves_the_file_to_its_parent(void)
{
    tokenweir_quota_file *file = file_of("forked"), *second = NULL;
    const char *path = path_of("forked");
    tokenweir_store_options store = tokenweir_store_options_of(file, "by host");
    tokenweir_limiter *limiter = kept_in(file, TOKENWEIR_LEASE_RENEWAL_IN_BACKGROUND), *host;
    tokenweir_text *text = NULL;
    pid_t child;
    int status;

    store.renewal = TOKENWEIR_LEASE_RENEWAL_BY_HOST;
    host = kept_by(&store);
    DONE(charge(limiter, "ann", 7, &error));
    DONE(charge(host, "bob", 7, &error));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        GIVES(TOKENWEIR_QUOTA_FILE_IN_USE, tokenweir_quota_file_records(file, &text, &error));
        GIVES(TOKENWEIR_STORE_FAILED, charge(host, "bob", 500, &error));
        tokenweir_limiter_free(limiter);
        tokenweir_limiter_free(host);
        tokenweir_quota_file_free(file);
        /* All went well; not by exit, where Valgrind would count what the parent has. */
        raise(SIGKILL);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* It is still locked, and goes on. */
    GIVES(TOKENWEIR_QUOTA_FILE_IN_USE, tokenweir_quota_file_open(path, strlen(path), &second, &error));
    DONE(charge(limiter, "ann", 70, &error));
    tokenweir_limiter_free(limiter);
    tokenweir_limiter_free(host);
    CHECK(recorded(file, "ann") == 77 && recorded(file, "bob") == 7);
    tokenweir_quota_file_free(file);
    file = file_of("forked");
    CHECK(recorded(file, "ann") == 77 && recorded(file, "bob") == 7);
    tokenweir_quota_file_free(file);
}

int main(void)
{
    char command[64];
    CHECK(mkdtemp(directory) != NULL);
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    hostile_arguments();
    errors_of_files();
    exact_after_a_clean_end();
    records_name_the_counter();
    leases_are_renewed();
    the_disk_is_full();
    found_again_after_a_kill();
    a_fork_leaves_the_file_to_its_parent();
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK(system(command) == 0);
    puts("store: ok");
    return 0;
}
