/* What the tests share: checks that name themselves, and short ways to what every test needs. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <tokenweir.h>

static inline void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

/* The call gives this code, an error with the same code and a message if it is one, and none if it is not. */
#define GIVES(code, call)                                                                                              \
    do {                                                                                                               \
        tokenweir_error *error = NULL;                                                                                 \
        tokenweir_code given = (call);                                                                                 \
        if (given != (code)) {                                                                                         \
            fprintf(stderr, "%s gives %d %s: ", #call, (int)given, tokenweir_error_message(error));                    \
            check_failed(__FILE__, __LINE__, "not " #code);                                                            \
        }                                                                                                              \
        CHECK(tokenweir_error_code(error) == given);                                                                   \
        CHECK((error == NULL) == (given == TOKENWEIR_OK));                                                             \
        CHECK((tokenweir_error_message(error)[0] == 0) == (given == TOKENWEIR_OK));                                    \
        tokenweir_error_free(error);                                                                                   \
    } while (0)

#define DONE(call) GIVES(TOKENWEIR_OK, call)

static inline tokenweir_policy *policy_of(const char *toml)
{
    tokenweir_policy *policy = NULL;
    DONE(tokenweir_policy_from_toml(toml, strlen(toml), &policy, &error));
    return policy;
}

/* A limiter on a manual clock at zero; other options as given, which may be NULL. */
static inline tokenweir_limiter *limiter_of(const char *toml, const tokenweir_options *given)
{
    tokenweir_options options = given ? *given : tokenweir_options_init();
    tokenweir_policy *policy = policy_of(toml);
    tokenweir_clock *clock = NULL;
    tokenweir_limiter *limiter = NULL;
    if (options.clock == NULL) {
        DONE(tokenweir_clock_new_manual(NULL, &clock, &error));
        options.clock = clock;
    }
    DONE(tokenweir_limiter_new(policy, &options, &limiter, &error));
    /* The limiter keeps what it needs of both. */
    tokenweir_clock_free(clock);
    tokenweir_policy_free(policy);
    return limiter;
}

#endif
