/* Twelve tags compared at once: the inner step of the hash indexes (ext/ledger/memory.pxi).
 *
 * A bucket is one cache line: 12 tags, a count of entries that had to go on to later buckets, 12 record numbers. The
 * layout is that of Facebook's F14 tables, drawn in memory.pxi.
 */
#ifndef USHER_TAGS_H
#define USHER_TAGS_H

#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Bit i is set when tags[i] equals tag, for i < 12. Reads 16 bytes. */
static inline uint32_t usher_match_tags(const uint8_t *tags, uint8_t tag) {
#ifdef __SSE2__
    __m128i all = _mm_loadu_si128((const __m128i *)tags);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_set1_epi8((char)tag))) & 0xFFFu;
#else
    uint32_t found = 0;
    for (int i = 0; i < 12; i++) found |= (uint32_t)(tags[i] == tag) << i;
    return found;
#endif
}

#endif
