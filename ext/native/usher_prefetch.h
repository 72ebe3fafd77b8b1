/* Asking for a cache line ahead of its use.
 *
 * __builtin_prefetch alone is not enough: GCC takes a function that only prefetches for one without effect and drops
 * the calls to it, which cost us a factor of two at a million sessions before it was seen. Volatile asm is kept.
 */
#ifndef USHER_PREFETCH_H
#define USHER_PREFETCH_H

static inline void usher_prefetch(const void *address) {
#if defined(__x86_64__)
    __asm__ volatile("prefetcht0 %0" : : "m"(*(const char *)address));
#else
    __asm__ volatile("" : : "r"(address));
    __builtin_prefetch(address, 1);
#endif
}

#endif
