# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The wire codec: bytes of the Sessions messages in, commands of the ledger out; outcomes in, bytes out.

No I/O, no clock, no allocation, no GIL: every function works in memory that its caller gives, is linear in the size of the message,
and may be called from any thread. The contract is that of the grpcio data plane, which stays the reference: the same bytes
are refused, with the same status and google.rpc.ErrorInfo; a request becomes the same command, with the same salt; an
outcome becomes the same bytes. tests/wire drives both and compares.

One concern a file, each included below in the order in which they build on each other:

    reader     varints, tags, spans, skipping, UTF-8
    spans      the request messages, field by field
    intake     bounds, texts, salt: from spans to commands
    writer     fields written from the back
    sentences  what answers say to people
    refusals   statuses other than OK
    answers    the response messages
    face       the Python face, for tests only

A data plane includes the same files, but for the last, into its own unit.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport UINT32_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset, strchr, strlen

from limits cimport *
from records cimport *
from siphash cimport siphash128
from wire cimport *
from words cimport *

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

cdef extern from *:
    """
    #define USHER_NS_PER_SECOND 1000000000LL
    """
    const long long NS_PER_SECOND "USHER_NS_PER_SECOND"

include "reader.pxi"
include "spans.pxi"
include "intake.pxi"
include "writer.pxi"
include "sentences.pxi"
include "refusals.pxi"
include "answers.pxi"
include "face.pxi"
