/* Ten tags of 16 bits compared at once: the inner step of the hash indexes (ext/ledger/memory.pxi).
 *
 * A bucket is one cache line: 10 tags, a count of entries that had to go on to later buckets, 10 record numbers. The
 * idea is that of Facebook's F14 tables; the wider tags make a first guess right, which is what prefetching needs.
 */
#ifndef USHER_TAGS_H
#define USHER_TAGS_H

#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Bit i is set when tags[i] equals tag, for i < 10. Reads 24 bytes. */
static inline uint32_t usher_match_tags(const uint16_t *tags, uint16_t tag) {
#ifdef __SSE2__
    __m128i wanted = _mm_set1_epi16((short)tag);
    __m128i low = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)tags), wanted);
    __m128i high = _mm_cmpeq_epi16(_mm_loadl_epi64((const __m128i *)(tags + 8)), wanted);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high)) & 0x3FFu;
#else
    uint32_t found = 0;
    for (int i = 0; i < 10; i++) found |= (uint32_t)(tags[i] == tag) << i;
    return found;
#endif
}

#endif
