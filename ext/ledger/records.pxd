"""The records of the ledger: one screen for everything that it remembers.

Records live in flat arrays that are reserved once and touched as they fill; a record is named by its number
(`NONE`: no record), never by a pointer, so that nothing dangles and a name takes four bytes. Sizes are asserted
when the ledger is made: 64 bytes is a cache line, and the bar is 400 bytes a session with two leases.

    session 64 ── leases 32 each ── charge 64 each ── pool
       │  └ text (sizes and bytes of user, host, app, label, instance id, identity)
       └ request 48 (what its Open answers when it is sent again)
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from limits cimport (
    ITEMS_MAX, POOLS_MAX, POOLS_OF_PRODUCT_MAX, PRIORITY_LEVELS, PRODUCT_SIZE_MAX, PRODUCTS_MAX, SOURCES_MAX, UNIT_SIZE_MAX,
)
from words cimport DENIAL_REASON_COUNT, END_REASON_COUNT

cdef extern from *:
    """
    #define USHER_NONE 0xFFFFFFFFu
    #define USHER_NO_PRODUCT 0xFFFFu
    #define USHER_SESSION_LINK 0x80000000u
    """
    const unsigned int NONE "USHER_NONE"
    const unsigned int NO_PRODUCT "USHER_NO_PRODUCT"
    const unsigned int SESSION_LINK "USHER_SESSION_LINK"

cdef enum:  # Verb
    VERB_OPEN = 1
    VERB_RENEW = 2
    VERB_ACQUIRE = 3
    VERB_RELEASE = 4
    VERB_CLOSE = 5

cdef enum:  # TextPart
    TEXT_USER = 0
    TEXT_HOST = 1
    TEXT_APP = 2
    TEXT_LABEL = 3
    TEXT_INSTANCE = 4
    TEXT_IDENTITY = 5
    TEXT_PARTS = 6

# --- what fills up ------------------------------------------------------------------------------------------

cdef enum:  # SessionState
    SESSION_FREE = 0
    SESSION_LIVE = 1
    SESSION_OVER = 2                # the Open is remembered, and with is_close_remembered the Close too
    SESSION_CLOSE_ONLY = 3          # the Open is forgotten already

cdef struct Session:                # 64 bytes; stays where it is until its requests are forgotten
    uint64_t fence                  # generation << 40 | counter; 0: a free record
    int64_t deadline                # ledger time: last renew + ttl + renew grace; once over: when it is forgotten
    int64_t opened                  # once over: keyed hash of the Close that ended it
    uint64_t text                   # offset in the text arena
    uint32_t ttl_ms
    uint32_t change_version
    uint32_t heap_position          # in the heap of deadlines; NONE once its time there has come
    uint32_t first_lease            # in the order of granting
    uint32_t request                # the remembered Open
    uint32_t instance_hash          # 0: opened without an instance id
    uint16_t newest_page            # of its newest event in this run: the last 16 bits of the page's number, see session_position
    uint8_t lease_count             # records, ended ones included
    uint8_t priority
    uint8_t ended_count             # of its lease records: those that ended and have not been acknowledged
    uint8_t state
    uint8_t end_reason
    uint8_t is_close_remembered

cdef struct Lease:                  # 32 bytes
    uint32_t session
    uint32_t charge                 # NONE once ended
    uint32_t next_of_session
    uint32_t next_of_charge         # older
    uint32_t previous_of_charge     # newer
    uint32_t changed_version        # the session's change_version that told of the end
    uint16_t product
    uint16_t pool
    uint8_t state                   # LEASE_ACTIVE or LEASE_ENDED
    uint8_t end_reason
    uint8_t reserved[2]

cdef struct Charge:                 # 64 bytes
    uint64_t fence                  # 0: a free record
    uint64_t group[2]               # keyed hash of the sharing group; zeros when the group is one session
    int64_t granted                 # ledger time
    uint32_t first_lease            # newest
    uint32_t lease_count            # 0: lingering
    uint32_t newer                  # in its pool and priority level
    uint32_t older
    uint32_t roomy_earlier          # the group's charges with room, in the order in which they got it
    uint32_t roomy_later
    uint32_t heap_position          # in the heap of linger ends; NONE while leases stand on it
    uint16_t pool
    uint8_t priority
    uint8_t is_roomy

cdef enum RequestKind:
    REQUEST_OPENED = 1              # owner: the session's record, which knows whether it lives; forgotten with it
    REQUEST_DENIED = 2              # owner: the remembered denial
    REQUEST_ACQUIRED = 3            # owner: the session's fence, as for the next
    REQUEST_RELEASED = 4            # was_held

cdef struct Request:                # 48 bytes
    uint64_t lookup[2]              # keyed hash of scope and request_id
    uint64_t fingerprint            # keyed hash of the body
    uint64_t owner
    int64_t expires                 # ledger time; of an Open: see its session
    uint8_t kind
    uint8_t was_held
    uint8_t reserved[6]

cdef struct DenialRecord:           # 40 bytes
    int64_t retry_after
    int32_t capacity
    int32_t in_use
    int32_t reserved
    int32_t withheld
    int32_t deficit
    int32_t waiters
    uint16_t product
    uint8_t reason
    uint8_t item                    # which product of the request

# --- what the site declares ------------------------------------------------------------------------------------

cdef struct Level:                  # the charges of one priority in a pool
    uint32_t newest
    uint32_t oldest

cdef struct Pool:
    uint16_t product
    uint8_t model
    uint8_t sharing
    uint8_t is_emulated
    uint8_t is_starting
    uint8_t loss_cause              # of the source that was last given up: why forced ends end
    uint32_t share_max
    int32_t weight
    int64_t linger
    int64_t min_hold
    int64_t capacity                # seats of proven sources
    int64_t grace_seats             # seats of lapsed sources
    int64_t used
    int64_t used_peak
    uint32_t charge_count
    uint32_t lingering_count
    uint32_t lease_count
    uint32_t grace_count            # charges in key grace
    uint32_t grace_edge             # the last of them in the order
    uint64_t charge_total
    Level levels[PRIORITY_LEVELS]

cdef struct DenialBucket:           # singly up to a rate, counted above it (semantics rule 27)
    int64_t second
    uint32_t single_count
    uint32_t pending_count
    uint8_t last_reason

cdef struct Product:
    uint8_t name[PRODUCT_SIZE_MAX]
    uint8_t name_size
    uint8_t pool_count
    uint16_t pools[POOLS_OF_PRODUCT_MAX]    # in the order in which they are tried
    uint64_t lease_total
    uint64_t denial_totals[DENIAL_REASON_COUNT]
    uint64_t end_totals[END_REASON_COUNT]
    DenialBucket bucket

cdef enum:  # SourceState
    SOURCE_ABSENT = 0
    SOURCE_PROVEN = 1
    SOURCE_LAPSED = 2

cdef struct Source:                 # one licence on one present key; times are raw, see _ledger.pyx
    int64_t proven_until
    int64_t grace_until
    int32_t seats
    uint16_t pool
    uint8_t state
    uint8_t cause

# --- one command and its outcome ---------------------------------------------------------------------------------

cdef struct Names:                  # the products of a request as they came
    uint32_t count
    uint8_t sizes[ITEMS_MAX]
    const uint8_t* bytes[ITEMS_MAX]

cdef struct Command:
    # As it came. Texts and names are owned by the caller until it is executed.
    uint8_t verb
    uint8_t invalid                 # InvalidField; what the caller found, then what sealing found
    uint8_t priority
    uint8_t sizes[TEXT_PARTS]
    uint16_t text_size
    uint16_t optional               # bit i: item i is optional
    uint8_t session_id[32]
    uint64_t change_version
    # Sealed: checked, hashed and resolved before the mutex is taken.
    uint64_t fence                  # of a genuine session id; else 0
    uint32_t place                  # of the id too: the number of the session's record
    uint64_t lookup[2]
    uint64_t fingerprint
    uint32_t ttl_ms
    uint32_t instance_hash
    uint8_t item_count
    uint16_t products[ITEMS_MAX]    # NO_PRODUCT: unknown
    # As it came, again: what a renew does not need.
    uint8_t request_id[16]
    uint64_t salt[2]                # hash of what else makes the request what it is
    int64_t ttl                     # asked for; 0: the ledger's
    const uint8_t* text             # all parts in their order
    Names names

cdef struct LeaseOut:
    int64_t key_grace
    uint64_t fence
    int32_t seats
    uint16_t product
    uint16_t pool
    uint8_t state
    uint8_t end_reason
    uint8_t is_shared
    uint8_t is_emulated

cdef struct Outcome:
    uint8_t status
    uint8_t end_reason
    uint8_t is_replayed
    uint8_t detail
    uint8_t lease_count
    uint8_t unavailable_count
    uint32_t first_lease            # in the batch's arena
    uint32_t first_unavailable
    uint64_t fence
    uint64_t change_version
    uint64_t position               # the answer waits for what lies before it; 0: for all events of the batch
    int64_t ttl
    uint32_t place                  # of a granted session's record
    uint8_t session_id[32]
    DenialRecord denial

cdef struct Workspace:              # where the answers of one batch put what varies in length
    LeaseOut* leases
    DenialRecord* unavailable
    uint32_t lease_count
    uint32_t unavailable_count

# --- machinery -----------------------------------------------------------------------------------------------------

cdef struct Slab:                   # numbered records of one size
    uint8_t* base
    uint32_t* free_numbers          # a stack, so that the next ones can be seen ahead
    uint32_t free_count
    uint32_t high                   # numbers below it have been used
    uint32_t count_max
    uint32_t live
    uint32_t record_size

cdef struct Bucket:                 # 64 bytes, see memory.pxi
    uint16_t tags[10]
    uint32_t overflow
    uint32_t numbers[10]

cdef struct Index:
    Bucket* buckets
    uint64_t bucket_count

cdef struct Heap:                   # least first, four children a node
    int64_t* times
    uint32_t* numbers
    uint32_t count
    uint32_t is_of_charges

cdef struct Arena:                  # texts, in classes of 4 bytes
    uint8_t* base
    uint64_t size_max
    uint64_t high
    uint64_t live
    uint64_t free_heads[160]        # offset + 1 of the first free block of each class

cdef struct Queue:                  # what is forgotten, in that order: requests, and sessions that are over
    uint32_t* links                 # a ring: a request's number, or a session's with SESSION_LINK
    uint32_t count_max
    uint32_t first
    uint32_t count

cdef struct Ring:                   # events, in bytes; positions only grow
    uint8_t* base
    uint64_t size
    uint64_t oldest                 # the first that is still whole; what lies before head was drained, and can still be read
    uint64_t head                   # next to be drained
    uint64_t tail                   # next to be written
    uint64_t oldest_at              # where the oldest and the next one stand: positions modulo size
    uint64_t tail_at
    uint64_t sequence
    uint64_t last_at                # where the last event stands
    uint64_t unit_sequence          # of the last event of the last command that is done
    bint is_lossy                   # the oldest events give way to new ones, drained or not
    bint is_released                # a journal gives the room back: nobody drains

cdef enum:
    TRAIL_SEGMENTS = 16             # COMMAND_RING_SIZE // COMMAND_SEGMENT_SIZE; asserted

cdef struct Trail:                  # the last commands, see trail.pxi
    uint8_t* base
    uint8_t* at                     # where the next record will stand, if it fits before the end of the segment
    uint8_t* end
    uint64_t turn                   # segments begun before this one
    uint32_t fills[TRAIL_SEGMENTS]  # bytes of those that are full

cdef struct Totals:
    uint64_t opened
    uint64_t renewed
    uint64_t acquired
    uint64_t released
    uint64_t replayed
    uint64_t denied
    uint64_t not_found
    uint64_t reused
    uint64_t invalid
    uint64_t overloaded
    uint64_t events_full
    uint64_t drained
    uint64_t not_writable
    uint64_t events_dropped
    uint64_t stalls
    uint64_t ended[END_REASON_COUNT]

cdef enum:  # RunPhase
    PHASE_RUNNING = 0               # commands are executed, events are written
    PHASE_LOADING = 1               # a snapshot is being replayed
    PHASE_REPLAYING = 2             # events are

cdef struct Replay:                 # what happened before this run, see replay.pxi
    uint64_t fence_max              # of all sessions and charges so far
    int64_t wall_max                # the journaled high-water mark of the wall clock
    int64_t time                    # ledger time of the last event
    uint32_t generation             # of the last run that began
    uint32_t note_count
    uint32_t expected_kind          # what the event before makes necessary; 0: nothing
    uint32_t leases_missing         # active ones that stand on no charge yet
    uint32_t roomy_missing          # charges with room that are in no list yet
    uint32_t last_charge            # number of the charge that STATE_LEASES go on with
    uint32_t last_missing           # its leases that are still to come
    bint is_last_alone
    bint is_ended                   # the last run was ended, and nothing happened since
    uint64_t expected_charge
    uint32_t pending_size           # of a command whose last event has not come
    uint8_t pending[UNIT_SIZE_MAX]

cdef struct State:
    uint8_t broker_id[8]
    uint64_t secret[2]
    uint64_t fence_next
    int64_t start                   # raw time of the making
    int64_t raw                     # the newest CLOCK_MONOTONIC seen
    int64_t skipped                 # time in which the process did not run
    int64_t now                     # ledger time: raw - skipped
    int64_t stalled
    int64_t ttl
    int64_t renew_grace
    int64_t request_window
    int64_t denial_window
    int64_t stall_limit
    int64_t next_source_due         # raw
    uint32_t session_count          # that live
    uint32_t session_count_max
    uint32_t close_count            # remembered
    bint is_draining                # no new session is let in
    bint is_read_only               # the journal cannot be written: nothing new is given
    bint is_recovered               # something was replayed before this run
    uint8_t phase
    int64_t learning_until          # ledger time: until then no new charge is given
    Replay replay
    Slab sessions
    Slab leases
    Slab charges
    Slab requests
    Slab denials
    Index by_instance
    Index by_request
    Index by_group
    Heap deadlines
    Heap lingers
    Arena texts
    Queue requests_to_forget
    Queue denials_to_forget
    Ring ring
    Trail trail
    Totals totals
    DenialBucket unknown_bucket
    uint32_t product_count
    uint32_t pool_count
    uint32_t source_high
    uint64_t grace_total            # charges in key grace, over all pools: while 0, a renew looks at no lease
    uint16_t product_cells[PRODUCTS_MAX * 2]    # product number + 1 by hash of its id
    uint64_t reserved_size          # bytes of address space
    Product products[PRODUCTS_MAX]
    Pool pools[POOLS_MAX]
    Source sources[SOURCES_MAX]
