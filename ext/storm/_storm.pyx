# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The compiled load generator: gRPC clients over nghttp2 in one thread without the GIL, for loadtests only.

One concern a file, in the order in which they build on each other:

    measure   clocks, chance, arrivals, histograms
    messages  requests from templates, just enough reading of answers
    faults    what was wrong, with an example each
    rings     who is next
    cycles    what is sent next, what answers must say
    calls     calls over nghttp2
    links     sockets and TLS
    drive     the loop and its phases
    face      what Python sees
"""

from libc.errno cimport ENOMEM, errno
from libc.math cimport log
from libc.stdint cimport INT64_MAX, INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset, strlen

from nghttp2 cimport *
from openssl cimport *
from storm_records cimport *
from storm_system cimport *

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

cdef extern from *:
    """
    #define USHER_STORM_NS_A_SECOND 1000000000LL
    #define USHER_STORM_NONE UINT32_MAX
    #define USHER_STORM_MARK_TIMER UINT64_MAX
    #define USHER_STORM_MARK_WAKE (UINT64_MAX - 1)
    """
    const int64_t NS_A_SECOND "USHER_STORM_NS_A_SECOND"
    const uint32_t NO_LINK "USHER_STORM_NONE"
    const uint64_t MARK_TIMER "USHER_STORM_MARK_TIMER"
    const uint64_t MARK_WAKE "USHER_STORM_MARK_WAKE"
    int leading_zeros "__builtin_clzll"(uint64_t value) noexcept nogil

cdef enum:
    STATUS_CANCELLED = 1            # what calls are told by a server that stops
    STATUS_UNAVAILABLE = 14
    RECONNECT_NS = 50000000         # before a connection that failed or broke is made again
    GOAWAY_NS = 1000000             # before one that ended in good order
    LOOK_NS = 50000000              # the longest sleep
    FAILURES_MAX = 20               # to connect in a row, beyond one for each link: the server is gone
    FRAME_ROOM = 16640              # one frame as nghttp2 hands it out: 16 KiB of payload, a head, padding
    STREAM_WINDOW = 65535
    LINK_WINDOW = 16777216

cdef int64_t FINISH_NS = 5 * NS_A_SECOND  # late arrivals are sent for as long as the measurement took, at least this long

include "measure.pxi"
include "messages.pxi"
include "faults.pxi"
include "rings.pxi"
include "cycles.pxi"
include "calls.pxi"
include "links.pxi"
include "drive.pxi"
include "face.pxi"
