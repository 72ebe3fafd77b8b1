/* Asserts that stop a thread without the GIL: log file and line, abort.
 *
 * A Cython `assert` in a nogil function prints, returns 0 and runs on; this one does not. It is for our own
 * bugs, never for input, and stays armed in release builds.
 */
#ifndef USHER_ASSERT_H
#define USHER_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

static inline void usher_assert_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "usher: assertion failed: %s (%s:%d)\n", condition, file, line);
    fflush(stderr);
    abort();
}

#define USHER_ASSERT(condition) \
    do { \
        if (__builtin_expect(!(condition), 0)) usher_assert_failed(#condition, __FILE__, __LINE__); \
    } while (0)

#endif
