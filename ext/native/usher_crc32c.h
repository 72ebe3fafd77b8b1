/* CRC32C (Castagnoli): the checksum of the log, as in RFC 3720 (iSCSI), ext4 and btrfs.
 *
 * By the processor's instruction where there is one (SSE4.2), else by eight tables; both give the same, which tests hold.
 * `crc` is the checksum of what came before (0: nothing), so that pieces can be summed one after the other.
 */
#ifndef USHER_CRC32C_H
#define USHER_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

static uint32_t usher_crc32c_tables[8][256];
static int usher_crc32c_is_native;

/* Once, before the first sum. */
static void usher_crc32c_begin(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t sum = i;
        for (int bit = 0; bit < 8; bit++) sum = (sum >> 1) ^ (0x82F63B78u & (0u - (sum & 1u)));
        usher_crc32c_tables[0][i] = sum;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++) {
            uint32_t before = usher_crc32c_tables[t - 1][i];
            usher_crc32c_tables[t][i] = (before >> 8) ^ usher_crc32c_tables[0][before & 0xFFu];
        }
#if defined(__x86_64__)
    usher_crc32c_is_native = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

/* Eight bytes a step; for machines of little-endian order, as all of the log. */
static uint32_t usher_crc32c_by_table(uint32_t crc, const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    uint32_t sum = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word ^= sum;
        sum = usher_crc32c_tables[7][word & 0xFF] ^ usher_crc32c_tables[6][(word >> 8) & 0xFF] ^
              usher_crc32c_tables[5][(word >> 16) & 0xFF] ^ usher_crc32c_tables[4][(word >> 24) & 0xFF] ^
              usher_crc32c_tables[3][(word >> 32) & 0xFF] ^ usher_crc32c_tables[2][(word >> 40) & 0xFF] ^
              usher_crc32c_tables[1][(word >> 48) & 0xFF] ^ usher_crc32c_tables[0][word >> 56];
    }
    for (; size; size--, at++) sum = (sum >> 8) ^ usher_crc32c_tables[0][(sum ^ *at) & 0xFFu];
    return ~sum;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t usher_crc32c_by_processor(uint32_t crc, const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    uint64_t sum = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        sum = _mm_crc32_u64(sum, word);
    }
    for (; size; size--, at++) sum = _mm_crc32_u8((uint32_t)sum, *at);
    return ~(uint32_t)sum;
}
#endif

static inline uint32_t usher_crc32c(uint32_t crc, const void *data, size_t size) {
#if defined(__x86_64__)
    if (usher_crc32c_is_native) return usher_crc32c_by_processor(crc, data, size);
#endif
    return usher_crc32c_by_table(crc, data, size);
}

#endif
