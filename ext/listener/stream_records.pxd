"""The records of the KeepAlive streams of one loop, and of the sessions that they speak for.

    StreamTable (one a loop) ── Keeper (a stream: numbered, found by its caller) ── Unsaid (messages that wait to leave, in order)
          │                       └─ list of its Watched
          ├─ Watched (a session that a stream speaks for), found by (fence, stream) and by fence
          ├─ Change, EndedLease: what the block of events being worked through says about watched sessions
          └─ GraceScan: which pools' key grace the watched sessions still have to be looked at for

Records are named by their numbers (NONE: no record) in arrays that grow by doubling and are given back when nothing is
watched any more. Nothing here is seen by another thread, but for counts that are read whole.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from limits cimport (
    ITEMS_MAX, KEEP_ALIVE_STREAMS_MAX, LEASES_OF_SESSION_MAX, NOTICES_PEEKS_MAX, NOTICES_READ_SIZE, NOTICES_READS_MAX, POOLS_MAX,
    RENEWALS_PER_MESSAGE_MAX, SESSION_ID_SIZE, SESSIONS_PER_STREAM_MAX, STREAM_WAITING_SIZE_MAX, STREAMS_WAITING_SIZE_MAX,
    WATCHED_SESSIONS_MAX,
)
from listener_records cimport Caller
from port cimport EventCursor
from records cimport LeaseOut
from wire cimport Failure

cdef enum:
    POOL_WORDS = (POOLS_MAX + 63) >> 6
    LEDGER_EVENT_SIZE = 64          # the smallest
    CHANGES_MAX = NOTICES_READ_SIZE >> 6
    TOLD_LEASES_MAX = 2 * LEASES_OF_SESSION_MAX     # in one notice

cdef struct LedgerEvent:            # the head of each event, as ext/ledger/events.pxi lays it out
    uint32_t size                   # with what follows; a multiple of 8
    uint16_t kind
    uint8_t reason
    uint8_t flags
    uint64_t sequence
    int64_t time
    uint64_t fence
    uint64_t charge
    int32_t pool
    int32_t product
    int32_t seats
    int32_t deficit
    uint64_t reserved

# --- what waits to be said -----------------------------------------------------------------------------------------------

cdef struct Unsaid:                 # a message; its bytes follow
    Unsaid* next
    uint64_t position               # leaves when this is committed
    uint32_t fill
    uint32_t capacity
    uint32_t part_size              # as is_over_message counts
    uint8_t is_open                 # notices: more of them may join

# --- streams -----------------------------------------------------------------------------------------------------------------

cdef struct Keeper:                 # a KeepAlive stream
    Caller caller
    Unsaid* first_unsaid
    Unsaid* last_unsaid
    Failure* failure                # what it ends with, once all is said; NULL: well. Owned
    uint64_t waiting_size
    uint32_t next_of_call           # in the bucket by caller; of a free one: the next free
    uint32_t next_of_peer
    uint32_t previous_of_peer
    uint32_t next_listed
    uint32_t first_watched
    uint32_t watched_count
    uint32_t pending_count          # of its renewals, in the batch
    uint8_t is_open                 # no free record
    uint8_t is_half_closed          # ends well as soon as nothing of it is in the batch
    uint8_t is_ending               # ends as soon as all is said
    uint8_t is_blocked              # h2 has no room for it: H2_WRITABLE will come
    uint8_t is_withheld             # h2 lets in no more requests, until nothing waits here
    uint8_t is_listed               # has something that may leave before h2 says anything; stays set in a free record

cdef struct Watched:                # a session that a stream speaks for
    uint64_t fence                  # 0: a free record
    uint64_t graced[POOL_WORDS]     # pools in which its lease was in key grace when this stream was last told
    uint64_t doubted                # by pool % 64: its lease there joined a charge since, which may have been in key grace
    uint32_t change_version         # that the stream last answered
    uint32_t keeper
    uint32_t next_of_keeper         # of a free one: the next free
    uint32_t previous_of_keeper
    uint32_t next_of_pair           # in the bucket by (fence, stream)
    uint32_t next_of_fence          # in the bucket by fence
    uint32_t previous_of_fence
    uint16_t change                 # number of its change in this block + 1; in one of the session's records
    uint8_t session_id[SESSION_ID_SIZE]

# --- news ------------------------------------------------------------------------------------------------------------------------

cdef struct EndedLease:
    uint16_t product
    uint16_t pool
    uint16_t next                   # of the session, + 1
    uint8_t reason

cdef struct Change:                 # of one session, in one block of events
    uint64_t fence
    uint16_t first_ended            # + 1; 0: none
    uint16_t last_ended
    uint8_t end_reason              # END_NONE: it lives

cdef struct GraceScan:              # by cursor over the Watched
    uint64_t pools[POOL_WORDS]      # of this pass
    uint64_t dirty[POOL_WORDS]      # of the next
    uint32_t at
    uint8_t is_running
    uint8_t is_whole                # events were lost: this pass asks how each session stands
    uint8_t is_next_whole

cdef struct Answer:                 # to one KeepAlive message, while its results come
    uint8_t* bytes
    uint32_t fill
    uint32_t capacity
    uint64_t position               # leaves when this is committed
    uint32_t part_size
    uint32_t part_count             # full ones
    uint32_t part_ends[RENEWALS_PER_MESSAGE_MAX]
    uint8_t is_refused              # nothing of it is told; `failure` says why
    Failure failure

cdef struct StreamTable:
    Keeper* keepers
    uint32_t* call_buckets          # as many as records, a power of two
    uint32_t keeper_capacity
    uint32_t keeper_high
    uint32_t first_free_keeper
    uint32_t keeper_count
    uint32_t first_listed
    Watched* watched
    uint32_t* pair_buckets
    uint32_t* fence_buckets
    uint32_t watched_capacity
    uint32_t watched_high
    uint32_t first_free_watched
    uint32_t watched_count
    uint32_t pending_count          # renewals of all streams, in the batch
    uint64_t waiting_size           # of all streams
    uint64_t notices                # told since the start
    EventCursor cursor
    uint64_t lost_seen
    int64_t polled
    int64_t poll_due
    uint8_t* block                  # NOTICES_READ_SIZE
    uint32_t change_count
    uint32_t ended_count
    uint32_t peek_count             # in this poll
    Change changes[CHANGES_MAX]
    EndedLease ended[CHANGES_MAX]
    GraceScan scan
    Answer answer
