"""The records of the load generator: one storm, its links (connections), their slots (calls in flight), its counts.

    Storm ── Link (a connection: socket, TLS, nghttp2 session)
               └─ Slot (one call at a time, `streams` of them a link, always the same ones)

A slot walks through the steps of its cycle: a step is one call, sent once, and again only when it was not processed. It
is in exactly one place: a ring (ready or again), parked at a link that is not up, flying, or at rest.
One thread owns all of it while `drive` runs. Times are CLOCK_MONOTONIC in nanoseconds.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from nghttp2 cimport nghttp2_data_provider, nghttp2_nv, nghttp2_option, nghttp2_session, nghttp2_session_callbacks
from openssl cimport SSL, SSL_CTX

cdef enum:
    STORM_LINKS_MAX = 65536
    STORM_SLOTS_MAX = 1048576
    STORM_SESSIONS_MAX = 4194304
    STORM_BODY_SIZE_MAX = 2048      # of a request, its gRPC prefix included
    STORM_ANSWER_SIZE_MAX = 20480   # of an answer, its gRPC prefix included; what is longer is an error
    STORM_SCRATCH_SIZE = 262144     # read at once, and gathered for one send
    STORM_EVENTS_MAX = 512          # of one epoll_wait
    STORM_OPENING_MAX = 128         # links that are being made at once: less than a usual listen backlog
    STORM_EXAMPLE_SIZE = 320
    STORM_SESSION_SIZE = 32
    STORM_REQUEST_ID_SIZE = 16
    STORM_NV_COUNT = 6
    STORM_REASONS_MAX = 32          # different ErrorInfo reasons that are counted
    STORM_REASON_SIZE = 48
    HISTOGRAM_SUB_BITS = 7          # 128 buckets an octave: an error of at most 1/128
    HISTOGRAM_COUNT = 3968          # up to 2^37 ns = 137 s; what is longer counts in the last

cdef enum:                          # cycles
    CYCLE_NOOP = 0
    CYCLE_RENEW = 1
    CYCLE_OPEN_CLOSE = 2            # of one product or of a bundle
    CYCLE_RETRY = 3
    CYCLE_ACQUIRE = 4
    CYCLE_CHURN = 5
    CYCLE_IDLE = 6

cdef enum:                          # steps: what a call is
    STEP_NOOP = 0
    STEP_OPEN = 1
    STEP_REOPEN = 2                 # the same Open once more
    STEP_RENEW = 3
    STEP_ACQUIRE = 4
    STEP_CLOSE = 5
    STEP_COUNT = 6

cdef enum:                          # answers by kind
    ANSWER_OK = 0                   # of a no-op
    ANSWER_GRANTED = 1
    ANSWER_REPLAYED = 2
    ANSWER_DENIED = 3
    ANSWER_ENDED = 4                # an Open's session that is over
    ANSWER_RENEWED = 5
    ANSWER_ACQUIRED = 6
    ANSWER_CLOSED = 7
    ANSWER_CLOSED_AGAIN = 8         # a replayed Close
    ANSWER_FAILED = 9               # a status other than OK, or nothing that can be understood
    ANSWER_COUNT = 10

cdef enum:                          # what was wrong
    FAULT_NONE = 0
    FAULT_CONNECT = 1
    FAULT_CUT = 2                   # a connection ended with calls in flight
    FAULT_PROTOCOL = 3
    FAULT_HTTP = 4                  # a response's :status
    FAULT_STATUS = 5                # grpc-status
    FAULT_NO_STATUS = 6
    FAULT_RESET = 7
    FAULT_NO_ANSWER = 8             # OK without a message
    FAULT_TWICE = 9
    FAULT_MALFORMED = 10
    FAULT_TOO_LONG = 11
    FAULT_DENIED = 12
    FAULT_OTHER_SESSION = 13
    FAULT_NOT_REPLAYED = 14
    FAULT_REPLAYED = 15
    FAULT_ENDED = 16
    FAULT_END_REASON = 17
    FAULT_UNANSWERED = 18
    FAULT_UNSENT = 19
    FAULT_LINK_LOST = 20            # of an idle storm
    FAULT_SESSION_TWICE = 21
    FAULT_COUNT = 22

cdef enum:                          # where a storm stands
    PHASE_CONNECT = 0
    PHASE_PREPARE = 1               # opens the sessions that will be renewed
    PHASE_WARM = 2
    PHASE_RUN = 3                   # what is measured
    PHASE_FINISH = 4                # arrivals that are late, cycles half done
    PHASE_CLEAN = 5                 # closes the sessions of PREPARE
    PHASE_OVER = 6

cdef enum:                          # where a link stands
    LINK_DOWN = 0
    LINK_CONNECTING = 1
    LINK_SHAKING_HANDS = 2
    LINK_UP = 3
    LINK_GOING = 4                  # the server said GOAWAY: no new calls, then again from DOWN

cdef enum:                          # where a slot stands
    SLOT_READY = 0                  # in the ring `ready`
    SLOT_AGAIN = 1                  # in the ring `again`
    SLOT_PARKED = 2
    SLOT_FLYING = 3
    SLOT_RESTING = 4

cdef struct Ring:                   # of numbers of slots; each is in it at most once
    uint32_t* items
    uint32_t capacity               # a power of two
    uint32_t head
    uint32_t tail

cdef struct Chance:                 # xoshiro256**
    uint64_t state[4]

cdef struct Histogram:
    uint64_t counts[HISTOGRAM_COUNT]
    uint64_t count
    uint64_t sum
    int64_t largest

cdef struct Arrivals:               # of an open loop: when each call is meant to be sent
    Chance chance
    double due                      # of the next, since `start`
    int64_t start

cdef struct Template:               # a request with places to be filled in; 0: none
    uint8_t* bytes
    uint32_t size
    uint32_t request_id_at
    uint32_t session_at
    uint32_t user_at

cdef struct Slot:
    Link* link
    int64_t started                 # intended, or sent: from here latency counts
    uint32_t number
    int32_t stream_id
    uint8_t place
    uint8_t step
    uint8_t is_pending              # `body` has a request without an answer yet
    uint8_t is_for_pool
    uint8_t is_unsent               # nghttp2 could not send it
    uint8_t is_uncertain            # sent again although the first may have been carried out: a replay is in order
    uint8_t has_session
    uint8_t is_second_done          # of RETRY and ACQUIRE
    int16_t http_status             # 0: none yet
    int16_t grpc_status             # -1: none yet
    uint16_t body_size
    uint16_t body_sent
    uint32_t answer_size
    uint8_t session[STORM_SESSION_SIZE]
    uint8_t body[STORM_BODY_SIZE_MAX]

cdef struct Link:
    Storm* storm
    nghttp2_session* session
    SSL* tls
    int fd
    uint8_t place
    uint8_t is_touched
    uint8_t is_watching_out
    uint8_t is_settled              # the server's SETTINGS are here
    uint8_t is_fresh                # churning: no call yet
    uint8_t is_done                 # churning: its work is done
    uint32_t number
    uint32_t next_touched
    uint32_t next_down
    uint32_t first_slot
    uint32_t flying
    int64_t due                     # DOWN: when to connect again; later: when that began
    uint8_t* unsent                 # what the socket has not taken
    uint32_t unsent_head
    uint32_t unsent_size
    uint32_t unsent_capacity
    int32_t seen_stream             # the stream looked up last, and its slot
    Slot* seen_slot

cdef struct Plan:
    uint8_t cycle
    uint32_t link_count
    uint32_t streams                # slots of a link
    uint32_t sources                # addresses 127.0.0.1 ... that connections come from
    uint64_t sessions               # opened first
    double interval                 # ns between arrivals; 0: closed loop
    uint8_t is_poisson
    uint8_t allows_denials
    uint8_t closes_sessions
    uint8_t ends_with_server
    int64_t warmup
    int64_t duration
    int64_t patience                # without any answer before what is in flight is given up
    int64_t connect_limit
    uint64_t nonce                  # of request ids and users; that of the pool is seed's own if sessions are kept
    uint64_t pool_nonce
    int32_t watched_clock           # of the process whose CPU time is read too; 0: none

cdef struct Note:                   # the words of the status that came last
    uint32_t slot
    uint32_t message_size
    uint32_t details_size
    uint8_t message[STORM_EXAMPLE_SIZE]
    uint8_t details[1024]           # base64

cdef struct Counts:
    uint64_t sent                   # requests given to a connection, again ones too
    uint64_t answered
    uint64_t retried_unprocessed
    uint64_t cut
    uint64_t unanswered_at_end
    uint64_t measured               # answered in PHASE_RUN
    uint64_t answers[ANSWER_COUNT]
    uint64_t statuses[17]
    uint64_t faults[FAULT_COUNT]
    uint64_t connects
    uint64_t connect_failures
    uint64_t goaways
    uint64_t resets                 # streams, by the server
    uint64_t arrived                # of an open loop
    uint64_t taken                  # arrivals that were sent
    uint64_t backlog_peak
    uint64_t unsent_at_end
    uint64_t links_up               # now
    uint64_t links_at_end
    uint64_t links_lost
    uint64_t rounds
    uint32_t streams_limit          # the smallest MAX_CONCURRENT_STREAMS that a server said

cdef struct Reason:
    char name[STORM_REASON_SIZE]
    uint64_t count

cdef struct Storm:
    Plan plan
    Counts counts
    Histogram latencies[STEP_COUNT]
    Template templates[STEP_COUNT]
    Template pool_open
    nghttp2_nv heads[STEP_COUNT][STORM_NV_COUNT]
    nghttp2_session_callbacks* callbacks
    nghttp2_option* options
    SSL_CTX* tls
    const char* tls_name            # what the server's certificate must be for
    uint8_t is_tls_name_address
    uint8_t address[28]             # sockaddr_in or sockaddr_in6
    uint32_t address_size
    int family
    Link* links
    Slot* slots
    uint8_t* answers                # STORM_ANSWER_SIZE_MAX a slot; pages are taken as answers come
    uint32_t slot_count
    Ring ready
    Ring again
    uint8_t* pool                   # ids of sessions
    uint64_t pool_asked
    uint64_t pool_count
    uint64_t pool_closed
    uint64_t serial                 # of request ids and users
    uint64_t busy                   # slots whose request has no answer yet
    uint64_t resting
    Chance chance
    Arrivals lead                   # counts arrivals as they come
    Arrivals trail                  # sends them
    uint32_t first_touched
    uint32_t first_down
    uint32_t last_down
    uint32_t opening
    uint32_t failures_in_row
    int epoll_fd
    int timer_fd
    int wake_fd
    int64_t timer_due
    int64_t now
    int64_t run_begin               # calls meant to be sent from here to run_end have their latency counted
    int64_t run_end
    int64_t window_begin            # PHASE_RUN as it was
    int64_t window_end
    int64_t phase_begun
    int64_t last_answer
    int64_t cpu_begin
    int64_t cpu_end
    int64_t watched_begin
    int64_t watched_end
    uint8_t phase
    uint8_t stop_count              # written by another thread: 1 finishes, 2 ends
    uint8_t is_server_gone
    uint8_t is_fatal                # memory or a system call failed: examples[FAULT_NONE] says which
    uint8_t* scratch
    Note note
    uint8_t details[1024]           # of the note, decoded
    Reason reasons[STORM_REASONS_MAX]
    uint32_t reason_count
    char examples[FAULT_COUNT][STORM_EXAMPLE_SIZE]
