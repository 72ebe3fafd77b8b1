"""The records of the journal: the log's format, its writer and reader, snapshots, the disk behind them, and the committer.

    EventSource ──► Committer ──► LogWriter (which bytes, where) ──► Disk (real or simulated)
                        └──► CommitWatcher (committed position, descriptors to be woken)
    Disk ──► LogReader (events, or where and why it stops)
    state records ──► SnapshotFile ──► Disk ──► SnapshotCursor

Positions are bytes of the event stream since the broker's first start ("log positions"); those of an EventSource begin
anew with each run, `Committer.base` lies between the two. Times are CLOCK_MONOTONIC in nanoseconds.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from limits cimport LOOPS_MAX

cdef enum:
    # --- the format ------------------------------------------------------------------------------------------------
    LOG_VERSION = 1
    SEGMENT_HEADER_SIZE = 4096      # so that blocks begin on a page; what is used of it:
    SEGMENT_HEADER_USED = 64
    BLOCK_HEADER_SIZE = 16
    EVENT_SIZE_MIN = 64
    ZERO_RUN_SIZE_MIN = 48          # at a sector's end, in a block: what was there before the block
    SECTOR_SIZE = 512               # what a disk writes whole or not at all, or up to a byte
    # --- bounds -------------------------------------------------------------------------------------------------------
    SEGMENT_SIZE_MIN = 16384
    SEGMENT_SIZE_DEFAULT = 16777216
    SEGMENT_SIZE_CEILING = 1073741824
    GROUP_SIZE_MIN = 4096           # of the events of one block: more than the largest event
    GROUP_SIZE_DEFAULT = 262144
    GROUP_SIZE_CEILING = 1048576
    LOG_FILES_MAX = 4096            # in the log directory
    FILE_NAME_SIZE = 48
    COMMIT_WATCHERS_MAX = 16
    SPARE_SLICE_SIZE = 1048576      # of a spare segment, filled with zeros in one round
    GROUPS_BETWEEN_CHORES = 64      # at most, while there is always something to commit
    IDLE_WAIT_MS = 100              # who forgets to wake the committer waits no longer
    SYNC_BUCKET_COUNT = 20          # 16 µs, doubling: the last but one ends at 4.2 s
    SNAPSHOT_SYNC_SIZE = 4194304    # of a snapshot that is being written, before it is synced once more: no sync is long
    SMALL_FILE_SIZE_MAX = 65536     # what `LogDisk.load` reads

cdef enum:  # LogStop                  # where reading ends; broker/model/journal.py has the same numbers
    STOP_NONE = 0                   # it goes on
    STOP_END = 1
    STOP_TORN = 2
    STOP_HEADER = 3                 # from here on: refused
    STOP_VERSION = 4
    STOP_BROKER = 5
    STOP_MISNAMED = 6
    STOP_GAP = 7
    STOP_DUPLICATE = 8
    STOP_GENERATION = 9
    STOP_DAMAGED = 10
    STOP_EVENTS = 11
    STOP_SHORT = 12
    STOP_POSITION = 13
    STOP_SEGMENT = 14               # of this segment: go on with the next (never seen outside)

cdef enum:  # JournalStep              # what failed; broker/model/journal.py has the same numbers
    STEP_NONE = 0
    STEP_WRITE = 1
    STEP_SYNC = 2
    STEP_SEGMENT = 3                # a new segment: allocated, headed, named
    STEP_SOURCE = 4                 # events were lost before they were read
    STEP_SETTLE = 5                 # at the start: the last run's end made durable, its torn tail cut

cdef enum:  # CrashPoint               # where a test wants the process to die
    CRASH_NONE = 0
    CRASH_BEFORE_APPEND = 1
    CRASH_AFTER_APPEND = 2
    CRASH_AFTER_SYNC = 3
    CRASH_BEFORE_ANSWER = 4
    CRASH_MID_SNAPSHOT = 5
    CRASH_MID_RECOVERY = 6
    CRASH_POINT_COUNT = 7

cdef struct CrashState:
    uint64_t countdown              # of times that the place is reached
    uint8_t place

cdef struct SegmentHeader:          # little-endian, as it stands in the file; a snapshot's is the same
    uint8_t magic[8]
    uint32_t version
    uint32_t header_size
    uint64_t segment_size           # of a snapshot: of the file
    uint8_t broker_id[8]
    uint64_t generation
    uint64_t first                  # log position of the first event byte; of a snapshot: up to which it holds everything
    uint64_t salt
    uint32_t flags
    uint32_t crc                    # of the 60 bytes before it

cdef struct BlockHeader:
    uint32_t size                   # of the events behind it
    uint32_t crc
    uint64_t position

# --- sans I/O ------------------------------------------------------------------------------------------------------------

cdef struct LogWriter:
    uint8_t broker_id[8]
    uint64_t generation
    uint64_t salt_seed
    uint64_t segment_size
    uint64_t position               # of the next event byte
    uint64_t first                  # of the segment at hand
    uint64_t salt
    uint64_t offset                 # where its next block goes; 0: there is no segment yet

cdef struct LogReader:
    uint8_t broker_id[8]
    uint64_t wanted                 # events before it are verified, and skipped
    uint64_t position               # up to here all is verified
    uint64_t generation
    uint8_t is_begun
    uint8_t stop                    # LogStop
    # the segment at hand; `bytes` are the caller's
    uint8_t is_last
    uint8_t is_whole                # a torn block with something up to the end of each sector: perhaps not torn but damaged
    const uint8_t* bytes
    uint64_t size
    uint64_t name                   # position in its name
    uint64_t first
    uint64_t salt
    uint64_t offset                 # where the next block is expected; where reading stopped
    uint64_t block_offset           # of the last block that verified; 0: none in this segment
    uint64_t torn_size              # from `offset` on, to the last byte that is not zero
    uint64_t found                  # the position that stands where another was expected

cdef struct EventSpan:              # whole events inside the segment at hand
    uint64_t position
    uint64_t offset
    uint64_t size

cdef struct SnapshotFile:           # being written
    Disk* disk
    CrashState* crash
    int64_t file                    # -1: none
    uint64_t salt
    uint64_t size                   # of the events so far
    uint64_t offset                 # where the next block goes
    uint64_t unsynced_size
    uint8_t* block                  # room for one

cdef struct SnapshotCursor:         # being read
    Disk* disk
    int64_t file                    # -1: none
    uint64_t salt
    uint64_t file_size
    uint64_t position               # of the next event byte, in the snapshot's own stream
    uint64_t offset                 # of its block
    uint32_t size                   # of the events in `block`
    int64_t error                   # -errno of the last read that failed
    uint8_t* block                  # room for one

# --- the disk ------------------------------------------------------------------------------------------------------------

cdef struct FileName:
    char text[48]                   # FILE_NAME_SIZE

cdef enum OpenMode:
    OPEN_TO_READ = 0
    OPEN_TO_WRITE = 1
    OPEN_NEW = 2                    # made, or emptied

cdef struct Disk                    # a directory; each function gives 0 or more, or -errno

ctypedef int64_t (*disk_open_fn)(Disk* disk, const char* name, int mode) noexcept nogil
ctypedef int64_t (*disk_file_fn)(Disk* disk, int64_t file) noexcept nogil
ctypedef int64_t (*disk_allocate_fn)(Disk* disk, int64_t file, uint64_t size) noexcept nogil
ctypedef int64_t (*disk_write_fn)(Disk* disk, int64_t file, const uint8_t* data, uint64_t size, uint64_t offset) noexcept nogil
ctypedef int64_t (*disk_read_fn)(Disk* disk, int64_t file, uint8_t* target, uint64_t size, uint64_t offset) noexcept nogil
ctypedef int64_t (*disk_rename_fn)(Disk* disk, const char* name, const char* new_name) noexcept nogil
ctypedef int64_t (*disk_remove_fn)(Disk* disk, const char* name) noexcept nogil
ctypedef int64_t (*disk_fn)(Disk* disk) noexcept nogil
ctypedef int64_t (*disk_list_fn)(Disk* disk, FileName* names, uint32_t count_max) noexcept nogil
ctypedef int64_t (*disk_lock_fn)(Disk* disk, int64_t* holder) noexcept nogil

cdef struct Disk:
    void* inner                     # RealDirectory or SimulatedState
    disk_open_fn open_file          # gives a file
    disk_file_fn close_file
    disk_file_fn file_size
    disk_allocate_fn allocate       # reads as zeros
    disk_write_fn write_at          # may write less
    disk_read_fn read_at            # may read less
    disk_file_fn sync_data          # data and size; an error is final: what was pending may be lost, a second call proves nothing
    disk_rename_fn rename_file      # replaces
    disk_remove_fn remove_file
    disk_fn sync_names
    disk_list_fn list_files         # how many; -EOVERFLOW: more than fit
    disk_lock_fn take_lock          # -EAGAIN: held; `holder` is its process, 0 if that cannot be read
    disk_fn free_size               # bytes that can still be written
    disk_remove_fn read_ahead       # this file will be read soon
    disk_fn clock                   # now

# --- the committer ---------------------------------------------------------------------------------------------------------

ctypedef int64_t (*source_read_fn)(EventSource* source, uint8_t* target, uint64_t size_max) noexcept nogil
ctypedef void (*source_release_fn)(EventSource* source, uint64_t position) noexcept nogil

cdef struct EventSource:            # events in their order, each read once
    void* inner
    uint64_t position               # its own: up to where it was read
    source_read_fn read             # whole events, oldest first: how many bytes; -1: some were lost
    source_release_fn release       # committed up to here: their room may be used again

cdef struct CommitWatcher:
    uint64_t* committed             # a position of the source, stored before the descriptors are written; NULL: none
    int descriptors[16]             # LOOPS_MAX eventfds
    uint32_t descriptor_count

cdef struct FailureRecord:
    int64_t errno_value
    uint64_t position               # up to here all is committed
    uint8_t step                    # JournalStep

cdef struct JournalTotals:
    uint64_t groups
    uint64_t event_size
    uint64_t written_size           # with headers
    uint64_t syncs                  # of groups
    uint64_t sync_ns
    uint64_t sync_buckets[20]       # SYNC_BUCKET_COUNT
    uint64_t largest_group_size
    uint64_t rolls
    uint64_t rolls_without_spare
    uint64_t retired
    uint64_t wakes                  # of a committer that slept

cdef struct Spare:                  # the next segment, made ahead
    int64_t file                    # -1: none
    uint64_t filled
    uint8_t is_ready
    int64_t errno_value             # why there is none; 0: there is, or none was needed yet
    int64_t retry_due

cdef struct Committer:
    Disk* disk
    EventSource* source
    LogWriter writer
    uint8_t* group                  # room for a block
    uint64_t group_size_max
    int64_t file                    # of the segment at hand; -1: none
    Spare spare
    uint64_t* firsts                # of all segments, in order
    uint32_t segment_count
    uint32_t groups_since_chores
    int wake_fd
    int failure_fd
    int64_t sync_delay_ns           # added to each sync: for tests and benchmarks
    CrashState* crash
    # Written by any thread, or read by any (atomic):
    uint64_t base                   # log position = position of the source + base
    uint64_t committed              # log position
    uint64_t retire_below
    uint64_t oldest                 # log position of the first event byte that is kept
    uint8_t is_waiting
    uint8_t is_stopping
    uint8_t is_failed
    uint8_t is_begun
    FailureRecord failure           # stands before is_failed does
    JournalTotals totals
    void* watchers_mutex
    CommitWatcher watchers[16]      # COMMIT_WATCHERS_MAX
    uint32_t watcher_count

# --- the committer as other compiled modules reach it ------------------------------------------------------------------------

ctypedef void (*journal_wake_fn)(const JournalPort* port) noexcept nogil
ctypedef bint (*journal_watch_fn)(const JournalPort* port, uint64_t* committed, const int* descriptors, uint32_t count) noexcept nogil
ctypedef void (*journal_unwatch_fn)(const JournalPort* port, const uint64_t* committed) noexcept nogil

cdef struct JournalPort:
    uint32_t version                # JOURNAL_PORT_VERSION, asserted by who takes it
    Committer* committer
    journal_wake_fn wake            # events were written: costs a load unless the committer sleeps
    journal_watch_fn watch          # False: COMMIT_WATCHERS_MAX are there already
    journal_unwatch_fn unwatch      # before `committed` goes away

cdef extern from *:
    """
    #define USHER_JOURNAL_PORT_VERSION 1
    #define USHER_JOURNAL_PORT_NAME "broker._journal.port"
    """
    const unsigned int JOURNAL_PORT_VERSION "USHER_JOURNAL_PORT_VERSION"
    const char* JOURNAL_PORT_NAME "USHER_JOURNAL_PORT_NAME"
