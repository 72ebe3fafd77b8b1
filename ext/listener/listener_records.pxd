"""The records of the data plane's listener: loops, the peers of each, and what a loop does for the calls of its peers.

    Shared (one a listener) ── Loop (one a thread) ── Peer (a connection: slot and generation)
                                  └─ Service (the calls: batch, slips, held answers, KeepAlive streams, health)

One thread owns a loop and all that hangs on it; threads meet only in `Shared`, in mailboxes and in the ledger. An answer
on its way names (loop, slot, generation, call), never a pointer: who is gone by then is simply not found.

One round of a loop:

    epoll_wait → for each ready peer: read ≤ LOOP_READ_SIZE → tls → h2 feed → service_take (decodes into the batch)
               → service_round: the batch runs, answers are said to the peers, which are touched by it
               → touched peers: h2 output → tls → send; what the socket does not take waits in the peer's own memory,
                 and nothing more is read from that peer until it is sent
               → mailbox, timers, ledger time (loop 0), notices

Times are CLOCK_MONOTONIC in nanoseconds.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from h2_records cimport Connection, H2Events, Server
from journal_records cimport JournalPort
from limits cimport BATCH_MAX, LOOPS_MAX
from linux cimport epoll_event
from port cimport EventCursor, LedgerPort
from records cimport Command, Outcome, Workspace
from tls_records cimport TlsConnection, TlsContext
from wire cimport Extras

cdef enum:
    METHOD_KEEP_ALIVE = 5           # numbers of the methods as they are registered with h2: Open, Renew, Acquire, Release,
    METHOD_OPEN_WAITING = 6         # Close are 0..4, then these
    METHOD_HEALTH_CHECK = 7
    METHOD_HEALTH_WATCH = 8
    METHOD_COUNT = 9
    OUTCOME_COUNT = 12              # of a call, in the order of broker/verbs/stats.py OUTCOMES
    LATENCY_BUCKET_COUNT = 20       # its BUCKET_BOUNDS_SECONDS and one for what took longer

# --- a connection ------------------------------------------------------------------------------------------------------

cdef struct Waiting:                # bytes that the socket has not taken
    uint8_t* bytes
    uint32_t head
    uint32_t fill
    uint32_t capacity

cdef struct Peer:
    Connection h2
    TlsConnection* tls              # NULL: plaintext
    int fd                          # -1: a free slot
    uint32_t slot
    uint32_t generation             # grows with each connection of the slot
    uint32_t next_free
    uint32_t next_touched           # list of peers to whom something was said in this round
    uint32_t timer_next             # neighbours in the timer wheel's slot
    uint32_t timer_previous
    uint32_t timer_place
    int64_t timer_due               # when it is looked at: not later than it must be
    int64_t handshake_due
    int64_t write_due               # when something of what waits must have been taken; INT64_MAX: nothing waits
    int64_t parting_due             # when a peer that has said its last, or to whom we have, is cut; INT64_MAX: neither
    Waiting waiting
    uint32_t first_stream           # of its KeepAlive streams (streams.pxi); NONE
    uint32_t watched                # what is awaited: EPOLLIN of `epoll_fd`, EPOLLOUT of `sending_fd`, 0: nothing
    uint8_t is_touched
    uint8_t is_ending               # it is freed when it is flushed
    uint8_t is_shut                 # nothing more comes to h2: end of stream, close_notify or a fault
    uint8_t is_parting              # we have said our last; what still comes is thrown away
    uint8_t is_gone                 # the peer has shut its side of the socket
    uint8_t is_cut_off              # and did so in the handshake or with calls under way

# --- calls ----------------------------------------------------------------------------------------------------------------

cdef struct Caller:                 # whom an answer goes to
    uint64_t call                   # h2's name
    uint32_t slot
    uint32_t generation

cdef struct Slip:                   # beside a command in the batch
    Caller caller
    int64_t received                # when its bytes were read
    uint32_t stream                 # the KeepAlive stream; NONE: the answer ends the call
    uint8_t method
    uint8_t is_last                 # of its KeepAlive message
    Extras extras

cdef struct HeldAnswer:             # waits until the events behind `position` are committed; `size` + `text_size` bytes follow
    uint64_t position
    int64_t received
    Caller caller
    uint32_t size                   # of the message, or of the status details
    uint16_t text_size              # of the status message
    uint8_t status                  # gRPC's
    uint8_t has_message             # the status is OK
    uint8_t method
    uint8_t outcome                 # counted when it leaves

cdef struct HeldBlock:              # a piece of the line of held answers, which lie in it one behind the other
    HeldBlock* next
    uint32_t head
    uint32_t fill
    uint32_t capacity
    uint32_t reserved
    # the bytes follow

cdef struct CallTotals:
    uint64_t counts[OUTCOME_COUNT]
    uint64_t sums_ns[OUTCOME_COUNT]
    uint64_t buckets[OUTCOME_COUNT][LATENCY_BUCKET_COUNT]

cdef struct Service:
    Command* commands               # BATCH_MAX each
    Slip* slips
    Outcome* outcomes
    uint8_t* rooms                  # BATCH_MAX * WIRE_TEXT_ROOM
    Workspace space
    uint32_t count
    uint64_t position               # of the events behind the last batch
    HeldBlock* first_held           # the oldest first
    HeldBlock* last_held
    HeldBlock* spare_held           # an empty one, kept
    uint64_t held_count
    uint64_t held_size
    uint64_t held_full_count        # times that the bound of held answers was reached
    void* streams                   # StreamTable of streams.pxi
    void* health                    # of health.pxi
    CallTotals totals[METHOD_COUNT]
    uint64_t batches
    uint64_t batched                # commands in them
    uint64_t mutex_wait_ns          # 0 unless measured

# --- loops -------------------------------------------------------------------------------------------------------------------

cdef struct LoopTotals:
    uint64_t rounds
    uint64_t accepted
    uint64_t closed
    uint64_t refused_connections    # beyond connections_max
    uint64_t refused_memory
    uint64_t accept_failures
    uint64_t handshakes
    uint64_t handshakes_late
    uint64_t writes_late
    uint64_t tls_failures[9]        # by TlsError
    uint64_t received_size          # on the wire
    uint64_t sent_size
    int64_t connections             # open now

cdef struct ListenerSettings:
    uint32_t connections_max        # of all loops together
    int64_t handshake_ns
    int64_t write_ns
    int64_t renew_grace
    bint is_ticking                 # loop 0 calls the ledger's advance
    bint is_holding                 # answers wait for `committed`

cdef struct Shared:
    const LedgerPort* port
    const JournalPort* journal      # woken when events were written; NULL: none
    TlsContext* tls                 # NULL: plaintext
    ListenerSettings settings
    Loop* loops[LOOPS_MAX]
    uint32_t loop_count
    int listening_fd                # watched by loop 0
    # Written by any thread, read by the loops (atomic): each write is followed by a wake of all.
    int64_t connection_count
    uint64_t committed              # answers up to here may leave; stored by the journal, or by `commit`
    int64_t drain_due               # 0: not draining; else when what is left is cut
    uint8_t is_serving              # what health says
    uint8_t is_stopping
    uint8_t is_port_kept            # another process has the listening socket, too: a drain leaves it as it is

cdef struct LastState:              # what a fatal signal prints of a loop; plain stores, no order needed
    uint64_t round
    uint32_t phase
    uint32_t slot
    uint64_t call
    uint32_t method
    uint32_t batch_count

cdef struct Loop:
    Shared* shared
    Server server                   # h2's
    Service service
    LastState last
    LoopTotals totals
    H2Events* events
    Peer** peers                    # slots that have been used
    uint32_t number
    uint32_t peer_high
    uint32_t peer_capacity
    uint32_t first_free
    uint32_t first_touched
    int epoll_fd                    # peers that are read from, `wake_fd`, `sending_fd`, the listening socket
    int sending_fd                  # an epoll of those for whose socket something waits: polled alone while nobody is read from
    int wake_fd
    int64_t now
    int64_t accept_due              # when accepting goes on after a lack of descriptors; INT64_MAX: it is going on
    int64_t ledger_due              # loop 0
    int64_t ledger_last
    int64_t service_due
    uint32_t reads_first            # rounds that a late ledger has waited for what is readable
    epoll_event* ready
    uint8_t* cipher                 # what was read, with TLS
    uint8_t* plain                  # what was read, or decrypted; then what h2 says
    uint8_t* sending                # what TLS makes of it
    void* timers                    # wheel of timers.pxi
    void* mailbox                   # accepted connections from loop 0
    uint8_t blind_rounds            # > 0: nobody was read from, and not everybody may have been since: what is late may lie unread
    uint8_t is_draining
    uint8_t is_begun                # run was called
    uint8_t is_done
