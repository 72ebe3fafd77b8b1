/* nghttp2, and its own flood limits where the library has them.
 *
 * The two limits came with security fixes that distributions carried back into older versions, so that no version
 * number tells whether they are there: they are asked for as weak symbols. Ours are stricter and come first; the
 * library's are set so that they do not cut off a peer that ours lets pass.
 */
#ifndef USHER_NGHTTP2_H
#define USHER_NGHTTP2_H

#include <nghttp2/nghttp2.h>

extern void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t) __attribute__((weak));
extern void nghttp2_option_set_max_continuations(nghttp2_option *, size_t) __attribute__((weak));

static inline void usher_loosen_limits(nghttp2_option *option) {
    if (nghttp2_option_set_stream_reset_rate_limit)
        nghttp2_option_set_stream_reset_rate_limit(option, UINT32_MAX, UINT32_MAX);
    if (nghttp2_option_set_max_continuations) nghttp2_option_set_max_continuations(option, 64);
}

#endif
