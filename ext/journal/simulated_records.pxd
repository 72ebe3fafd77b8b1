"""The records of a disk that is none: what its files say now, what would be left of them, and what may go wrong."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    SIMULATED_FILES_MAX = 4096
    SIMULATED_SIZE_MAX = 1073741824     # of all files

cdef enum SimulatedOperation:
    OPERATION_OPEN = 0
    OPERATION_CLOSE = 1
    OPERATION_SIZE = 2
    OPERATION_ALLOCATE = 3
    OPERATION_WRITE = 4
    OPERATION_READ = 5
    OPERATION_SYNC = 6
    OPERATION_RENAME = 7
    OPERATION_REMOVE = 8
    OPERATION_SYNC_NAMES = 9
    OPERATION_LIST = 10
    OPERATION_LOCK = 11
    OPERATION_COUNT = 12

cdef struct PendingWrite:           # not yet synced; data NULL: the file grew to `offset`
    uint8_t* data
    uint64_t offset
    uint64_t size

cdef struct SimulatedFile:
    uint8_t* visible                # what reads give
    uint8_t* durable                # what is on the medium
    uint64_t visible_size
    uint64_t durable_size
    uint64_t capacity               # of each of the two; what is beyond the size is zero
    PendingWrite* pending
    uint32_t pending_count
    uint32_t pending_capacity
    uint32_t generation             # of the slot: who opened an earlier one gets EBADF
    uint8_t is_used

cdef struct SimulatedName:
    char text[48]                   # FILE_NAME_SIZE
    uint32_t file

cdef struct NameTable:
    SimulatedName* entries          # SIMULATED_FILES_MAX
    uint32_t count

cdef struct NameChange:             # not yet synced: `text` leads to `file`; `old_text` ("": none) leads nowhere any more
    char text[48]                   # "": a removal
    char old_text[48]
    uint32_t file

cdef struct Fault:
    uint64_t after                  # operations of this kind that still succeed
    int64_t errno_value             # 0: none
    int64_t cost_ns                 # how much time each takes
    uint8_t is_lasting              # and so do all that come after

cdef struct SimulatedState:
    SimulatedFile* files            # SIMULATED_FILES_MAX
    NameTable names
    NameTable durable_names
    NameChange* changes             # SIMULATED_FILES_MAX
    uint32_t change_count
    uint64_t chance                 # splitmix64's state
    uint64_t size_max               # of all files as they read: a full disk
    uint64_t operations
    uint64_t power_off_at           # after so many operations nothing happens any more; 0: never
    int64_t now
    Fault faults[12]                # OPERATION_COUNT
    uint8_t writes_short            # a third of the writes take only a part
    uint8_t is_locked
