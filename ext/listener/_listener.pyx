# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The data plane: client apps' gRPC from the socket to the ledger and back, in threads that never take the GIL.

A Listener has one or more loops, each run by one thread; listener_records.pxd draws a loop's round. Only the files named
"the Python face" below touch Python, and they read what the loops write without stopping them. Threads meet in the
ledger, in the mailboxes and in the atomic fields of `Shared`. Times are CLOCK_MONOTONIC in nanoseconds, read once a round.

One translation unit, one concern a file. From other folders, the layers without I/O:

    ext/tls     spans, context, identity, connection, files, server_context
    ext/h2      h2.pxi: gRPC over nghttp2
    ext/wire    reader, spans, intake, writer, sentences, refusals, answers

and of this folder, in the order in which they build on each other:

    totals      what calls came to: counts and histograms
    answering   an answer, said now or held until its events are committed
    streams     KeepAlive streams (with watched and outbox)
    notices     what happened to the sessions of these streams
    health      grpc.health.v1
    service     events to commands, outcomes to answers
    timers      when each peer is looked at
    sockets     connections taken and handed over, bytes in and out
    peers       a connection from accept to close
    loop        rounds, waiting, draining
    fatal       what a fatal signal prints, and leaves behind
    counting    the Python face of what was counted
    face        the Python face of the listener
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset, strchr, strcpy, strlen
from libc.time cimport tm

from journal_records cimport JOURNAL_PORT_NAME, JOURNAL_PORT_VERSION, JournalPort
from limits cimport *
from linux cimport *
from listener_records cimport *
from openssl cimport *
from port cimport *
from records cimport *
from siphash cimport siphash128
from stream_records cimport *
from tls_records cimport *
from wire cimport *
from words cimport *

import os
from struct import calcsize

from broker.errors import ConfigError, ConfigFault
from broker.model.commands import COMMAND_DUMP_HEAD
from broker.model.listener import CallCounts, ListenerCounters
from broker.model.tls import TlsError

include "../tls/spans.pxi"
include "../tls/context.pxi"
include "../tls/identity.pxi"
include "../tls/connection.pxi"
include "../tls/files.pxi"
include "../tls/server_context.pxi"
include "../h2/h2.pxi"
include "../wire/reader.pxi"
include "../wire/spans.pxi"
include "../wire/intake.pxi"
include "../wire/writer.pxi"
include "../wire/sentences.pxi"
include "../wire/refusals.pxi"
include "../wire/answers.pxi"
include "totals.pxi"
include "answering.pxi"
include "streams.pxi"
include "notices.pxi"
include "health.pxi"
include "service.pxi"
include "timers.pxi"
include "sockets.pxi"
include "peers.pxi"
include "loop.pxi"
include "fatal.pxi"
include "counting.pxi"
include "face.pxi"
