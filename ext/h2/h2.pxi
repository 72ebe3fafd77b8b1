# Server-side gRPC over nghttp2's memory interface: bytes in, events and bytes out. No sockets, no clock, no GIL.
#
# A unit that serves connections includes this file whole: the layer is then compiled into it, with no call through a
# pointer in between. One concern a file, in the order in which they build on each other:
#
#     allocator   counted memory, nghttp2's too
#     streams     the table of calls, their names, the events
#     rates       what a peer may ask for in a while
#     texts       words, timeouts, percent and base64 encodings
#     messages    gRPC's framing inside DATA
#     requests    the head of a call
#     answers     messages, statuses and resets to a call
#     callbacks   what nghttp2 calls
#     connection  preface to end; feed, output, drain, on_time
#
# Errors of the peer are events or refusals, never exceptions; USHER_ASSERT is for ours. h2_records.pxd has the records.

from libc.stdint cimport INT32_MAX, INT64_MAX, INT64_MIN, UINT16_MAX, UINT32_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset, strlen

from h2_records cimport *
from limits cimport *
from nghttp2 cimport *

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

cdef extern from *:
    """
    #define USHER_NS_PER_SECOND 1000000000LL
    """
    const long long NS_PER_SECOND "USHER_NS_PER_SECOND"

include "allocator.pxi"
include "streams.pxi"
include "rates.pxi"
include "texts.pxi"
include "messages.pxi"
include "requests.pxi"
include "answers.pxi"
include "callbacks.pxi"
include "connection.pxi"
