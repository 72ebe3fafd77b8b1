# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The ledger: the one truth about seats. Sessions, charges, leases, pools, deadlines.

No I/O, no clock, no random source: time is an argument, and the same calls in the same order give the same answers,
byte for byte. One mutex; every call is bounded (256 commands, 256 due items, 4,096 scanned records) and lets the GIL
go before it takes the mutex. RULES.md beside this file states the rules as exactly as this code follows them, and
tests/model is their plain-Python twin: the two are driven in lockstep.

One translation unit, one concern a file, each included below in the order in which they build on each other:

    memory    numbered records, hash indexes, heaps, the text arena
    trail     the last commands, for who asks after a failure
    events    what changed, for journal, history and watchers
    pools     capacity, deficit, key grace
    charges   sharing groups, leases, linger and minimum hold
    requests  remembered answers
    sessions  found by id, alive until their deadline, ended once
    decide    where each seat of a request would come from
    verbs     open, renew, acquire, release, close
    tick      time passing
    seal      commands checked and hashed before the mutex is taken
    batch     many commands under one hold of the mutex
    commands  the Python face of a command and of a batch
    readings  what can be read, as plain values
    port      the face for other compiled modules
    replay    the events of a log done again, and a run that begins
    state     a ledger as a stream of events, written and read
    runs      the Python face of both
    shell     the Python face of the ledger

Times: callers give CLOCK_MONOTONIC in nanoseconds ("raw"). A gap of more than `stall_ns` between two calls means that
the process did not run; ledger time leaves it out, so that no deadline passes unserved. Proofs of keys are in raw time.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT64_MAX, INT64_MIN, int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

from limits cimport *
from port cimport PORT_NAME, PORT_VERSION, EventCursor, LedgerPort
from records cimport *
from siphash cimport siphash128
from words cimport *

import struct
import threading

from broker.model.answers import Answer, DenialView, LeaseView
from broker.model.commands import COMMAND_DUMP_HEAD, COMMAND_DUMP_MAGIC
from broker.model.events import EventsFull
from broker.model.terms import PoolTerms
from broker.model.views import Counters, PoolView, ProductView, Recovered, SessionView
from broker.model.words import DenialReason, EndReason, EventKind, LeaseState, LicenceModel, Sharing, StateKind, Status

cdef extern from "<sys/mman.h>" nogil:
    const int MAP_NORESERVE
    const int MADV_HUGEPAGE
    int madvise(void* address, size_t size, int advice)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

cdef extern from "usher_prefetch.h" nogil:
    void prefetch "usher_prefetch"(const void* address) noexcept

cdef extern from "usher_tags.h" nogil:
    uint32_t match_tags "usher_match_tags"(const uint16_t* tags, uint16_t tag) noexcept

cdef extern from *:
    """
    #define USHER_NS_PER_SECOND 1000000000LL
    #define USHER_NS_PER_MS 1000000LL
    #define usher_bswap64(word) __builtin_bswap64(word)
    #define usher_ctz(word) __builtin_ctz(word)
    """
    const long long NS_PER_SECOND "USHER_NS_PER_SECOND"
    const long long NS_PER_MS "USHER_NS_PER_MS"
    uint64_t byte_swap_64 "usher_bswap64"(uint64_t word) noexcept nogil
    int count_trailing_zeros "usher_ctz"(uint32_t word) noexcept nogil

include "memory.pxi"
include "trail.pxi"
include "events.pxi"
include "pools.pxi"
include "seal.pxi"
include "charges.pxi"
include "requests.pxi"
include "sessions.pxi"
include "decide.pxi"
include "verbs.pxi"
include "tick.pxi"
include "batch.pxi"
include "commands.pxi"
include "readings.pxi"
include "port.pxi"
include "replay.pxi"
include "state.pxi"
include "runs.pxi"
include "shell.pxi"
