/* The header alone, twice, in the first of two translation units; for C99, C11 and C++17. */
#include <tokenweir.h>
#include <tokenweir.h>

int other_unit(void);

int main(void)
{
    tokenweir_estimate estimate = tokenweir_estimate_of(1, 2);
    tokenweir_usage usage = tokenweir_usage_of(3, 4);
    return estimate.size == sizeof(tokenweir_estimate) && usage.cached_input == TOKENWEIR_ABSENT &&
                   tokenweir_abi_version() == TOKENWEIR_ABI_VERSION && other_unit() == 0
               ? 0
               : 1;
}
