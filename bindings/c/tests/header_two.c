/* The second translation unit of header_one.c. */
#include <tokenweir.h>

int other_unit(void);

int other_unit(void)
{
    tokenweir_decision decision = tokenweir_decision_init();
    tokenweir_code code = tokenweir_limiter_admit(NULL, NULL, NULL, NULL, &decision, NULL, NULL);
    return code == TOKENWEIR_NULL_ARGUMENT && decision.admitted == 0 ? 0 : 1;
}
