# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The journal: the log of what happened, written before anybody is told, and snapshots of where that led. Formats, disks, committer.

Everything but the Python faces runs without the GIL. The committer is one thread (`Journal.run`); it shares with others only
what journal_records.pxd calls atomic, the list of watchers (a mutex), and the event source.

FORMAT, version 1. All numbers are little-endian; a *log position* is a byte of the event stream since the broker's first start.

A log is a directory of segments; `lock` (flock; the holder's process number), `spare` (the next segment, being made),
`torn-<position>-<generation>` (cut off after a crash) and `damaged-*` (snapshots that did not verify), both kept for who wants to look, are not
read. Snapshots lie beside them, and `state` (broker/journal/state.py).

A segment is a file of a fixed size, allocated whole and zero where nothing was written. Its name is the log position of its first
event byte, 16 hexadecimal digits, and `.log`:

       0  magic "USHERLOG"            8  version u32 = 1           12  header size u32 = 4096
      16  segment size u64           24  broker id, 8 bytes        32  generation u64 (start of the broker)
      40  first position u64         48  salt u64                  56  flags u32 = 0
      60  CRC32C u32 of bytes 0-59   64  zeros up to 4096
    4096  blocks, one behind the other

    block    0  size u32 of the events: a multiple of 8, 64 to 1 MiB
             4  CRC32C u32 of: salt u64, position u64, size u64, events
             8  position u64 of its first event byte
            16  whole events, as ext/ledger/events.pxi draws them

In every later version magic, version and the checksum of the first 60 bytes stay where they are. CRC32C: RFC 3720. The salt is another one in each
segment, so that bytes of another segment's life never verify. Blocks follow each other without a hole, in position and in the file;
a segment ends where the next one begins. Each start of a broker begins a segment.

A block is written when the one before it is synced, so that a crash can leave at most one that is not whole. A file gets a segment's name when
its header is synced, and events when its name is. Assumed of the disk: a sector of 512 bytes that is written over holds the old
bytes, the new ones, or new ones up to a byte and old ones behind; bytes that do not change are not lost.

READING stops where no block verifies. In this order:

    a valid block of this segment lies behind it        DAMAGED: refused
    a later segment is there                            it must begin exactly here: else GAP, DUPLICATE: refused
    only zeros are behind                               END
    else                                                TORN: the rest is kept aside and cut; it was never told as committed

Refused as well: a header that does not verify, a newer version, another broker's, a wrong name, an earlier generation behind a
later one, a block without whole events, an end before what is known to have been committed. `broker/model/journal.py` says what to do about each.
What cannot be told from a crash is damage of the very last block; LogEnd.is_whole warns of it.

A snapshot holds everything up to a log position: events that make the same state anew (ext/ledger says which). Its name is that position, 16
hexadecimal digits, and `.snap`. Its header is a segment's, but for the magic USHERSNP; segment size is the size of the whole file, first
position is where the snapshot ends. Blocks as above lie behind it to the end of the file without a hole; their positions count from 0. It is written as
`snapshot-new`, header last, and gets its name when all of it is synced: a named one is whole, so that whatever does not verify is damage. All
of it is verified before anything of it is used.

STARTING. What was read may be in memory only: the write may have failed, or never have been synced. So before anything
builds on it the last block is written again, the torn rest is cut, and both are synced, with the names.

One translation unit, one concern a file:

    format      headers and blocks as bytes
    writer      events to blocks (sans I/O)
    reader      segments to events, or a verdict (sans I/O)
    real_disk   the table of disk functions over Linux
    simulated_disk  the same over memory, with crashes and faults
    source      the ledger's ring, or a queue
    watchers    who is told, who wakes
    segments    spare, next, old, and the last run's end
    committer   rounds
    snapshots   written, and read
    crash       places where a test wants the process to die
    places, reading, snapshot_faces, face   the Python faces
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport atoi, calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset, strcmp, strcpy, strlen

from files cimport *
from journal_records cimport *
from limits cimport LOOPS_MAX, UNIT_SIZE_MAX
from linux cimport *
from port cimport PORT_NAME, PORT_VERSION, EventCursor, LedgerPort
from records cimport State
from simulated_records cimport *

import os
from pathlib import Path

from broker.errors import AlreadyRunning, DataDirectoryError
from broker.model.journal import JournalCounters, JournalFailure, JournalStep, LogDamaged, LogEnd, LogStop, SnapshotDamaged

cdef extern from "usher_assert.h" nogil:
    void USHER_ASSERT(bint condition) noexcept

include "crash.pxi"
include "format.pxi"
include "writer.pxi"
include "reader.pxi"
include "real_disk.pxi"
include "simulated_disk.pxi"
include "source.pxi"
include "watchers.pxi"
include "segments.pxi"
include "committer.pxi"
include "places.pxi"
include "reading.pxi"
include "snapshots.pxi"
include "snapshot_faces.pxi"
include "face.pxi"

USHER_ASSERT(sizeof(SegmentHeader) == SEGMENT_HEADER_USED and sizeof(BlockHeader) == BLOCK_HEADER_SIZE)
USHER_ASSERT(sizeof(FileName) == FILE_NAME_SIZE)
crc32c_begin()
