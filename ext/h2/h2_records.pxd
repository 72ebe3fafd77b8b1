"""The records of an HTTP/2 connection that carries gRPC: one screen for all that it remembers.

    Server (one a listener thread: methods, settings, totals) ── Connection ── Stream (a slot of the table)
                                                                     └─ nghttp2_session (all of it in Memory)

A stream is named by slot | HTTP/2 stream id << 32. The id is the slot's generation: on one connection it only grows
and never comes again, so that an answer to a call that is gone finds nobody. Times are nanoseconds of CLOCK_MONOTONIC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from limits cimport H2_EVENTS_MAX, H2_METHOD_PATH_SIZE_MAX, H2_METHODS_MAX
from nghttp2 cimport nghttp2_option, nghttp2_session, nghttp2_session_callbacks

cdef enum:  # H2Shape, of two bits
    SHAPE_UNARY = 0
    SHAPE_SERVER_STREAM = 1
    SHAPE_CLIENT_STREAM = 2         # this bit: the request is a stream
    SHAPE_BIDI = 3

cdef enum:  # H2EventKind
    H2_STARTED = 1                  # a call whose request is a stream: its headers are here
    H2_MESSAGE = 2                  # a whole message; with is_last the request is complete
    H2_HALF_CLOSED = 3              # the request stream ended
    H2_CANCELLED = 4                # the call is gone; nothing can be answered. code: HTTP/2's, or cause LATE
    H2_WRITABLE = 5                 # after an answer that found no room: there is room again
    H2_GOING_AWAY = 6               # the peer sent GOAWAY
    H2_OVER = 7                     # the connection ends, and all its calls with it: send what is left, then close

cdef enum:  # H2Cause
    CAUSE_NONE = 0
    CAUSE_PROTOCOL = 1
    CAUSE_MEMORY = 2
    CAUSE_PINGS = 3
    CAUSE_SETTINGS = 4
    CAUSE_RESETS = 5
    CAUSE_NOISE = 6
    CAUSE_CONTINUATIONS = 7
    CAUSE_HEADERS = 8
    CAUSE_QUEUE = 9
    CAUSE_PREFACE_LATE = 10
    CAUSE_HEADERS_LATE = 11
    CAUSE_IDLE = 12
    CAUSE_LATE = 13                 # one call: its deadline, or its body
    CAUSE_COUNT = 14

cdef enum:  # H2Said: what became of an answer
    SAID = 0
    SAID_TO_NOBODY = 1              # the call is gone, or was finished
    SAID_NO_ROOM = 2                # nothing was taken; H2_WRITABLE follows

cdef enum:  # gRPC status codes that this layer gives by itself
    GRPC_OK = 0
    GRPC_DEADLINE_EXCEEDED = 4
    GRPC_RESOURCE_EXHAUSTED = 8
    GRPC_UNIMPLEMENTED = 12
    GRPC_INTERNAL = 13
    HTTP_UNSUPPORTED_MEDIA_TYPE = 415
    HTTP_METHOD_NOT_ALLOWED = 405

cdef struct Memory:
    uint64_t size                   # bytes asked for and not given back
    uint64_t count
    uint64_t size_max
    Crowd* crowd

cdef struct Crowd:                  # the memory of all connections of a server
    uint64_t size
    uint64_t size_max               # beyond it no connection gets more than H2_MEMORY_FAIR_SIZE

cdef struct Settings:
    uint32_t streams_max
    uint32_t window_size            # of the connection; a quarter of it is a stream's
    uint32_t message_size_max
    uint32_t header_size_max
    uint32_t output_size_max
    uint32_t ping_strikes_max
    uint64_t buffered_size_max
    uint64_t memory_size_max
    int64_t preface_ns
    int64_t headers_ns
    int64_t body_ns
    int64_t idle_ns
    int64_t drain_ns                # between the notice and the last word, if the peer answers no PING
    int64_t ping_interval_ns
    bint is_metadata_kept
    bint is_authorization_kept

cdef struct Method:
    uint8_t path[H2_METHOD_PATH_SIZE_MAX]
    uint16_t path_size
    uint8_t shape

cdef struct H2Totals:
    uint64_t connections
    uint64_t streams
    uint64_t streams_refused
    uint64_t messages_received
    uint64_t messages_sent
    uint64_t answers                # calls finished with OK
    uint64_t refusals               # calls finished otherwise
    uint64_t cancelled
    uint64_t goaways_received
    uint64_t goaways_sent           # last words, not the notices before them
    uint64_t bytes_received
    uint64_t bytes_sent
    uint64_t causes[CAUSE_COUNT]    # connections ended, by cause; late calls

cdef struct Server:
    nghttp2_session_callbacks* callbacks
    nghttp2_option* option
    Crowd crowd
    Settings settings
    H2Totals totals
    uint32_t method_count
    Method methods[H2_METHODS_MAX]

cdef struct Stream:
    int32_t stream_id               # 0: a free slot
    uint32_t next_free
    uint16_t method
    uint8_t shape
    uint8_t content                 # which of the demands on a request's headers are met, see requests.pxi
    uint8_t verdict                 # a gRPC status to refuse the call with
    uint8_t is_known                # events told of it
    uint8_t is_peer_done            # the request has ended
    uint8_t is_answering            # response headers are submitted
    uint8_t is_finished             # the last word is said; what still comes in is thrown away
    uint8_t is_deferred             # nghttp2 waits to be told of more
    uint8_t is_full                 # an answer found no room
    uint8_t is_withheld             # who serves it has more to say than it takes: no more requests are let in
    uint8_t is_encoded              # grpc-encoding names something else than identity
    uint8_t is_held                 # a single request waits for the end of its stream
    uint8_t is_held_owned
    uint8_t prefix_size
    uint8_t prefix[5]
    uint32_t header_size
    uint32_t message_size
    uint32_t message_fill
    uint32_t unconsumed             # taken from the stream's window and not given back
    uint32_t metadata_size
    uint32_t output_head
    uint32_t output_fill
    uint32_t output_capacity
    uint32_t status
    uint16_t status_message_size
    uint16_t status_details_size
    uint32_t next_held
    int64_t deadline                # of the call; INT64_MAX: none
    int64_t body_due
    uint8_t* message                # half read
    const uint8_t* held
    uint8_t* metadata               # pairs: name size 2, value size 2 (host order), name, value
    uint8_t* output                 # head..fill is not yet framed
    uint8_t* trailers               # status message and details, as they go out

cdef struct Connection:
    nghttp2_session* session
    Server* server
    Memory memory
    Stream* streams
    uint32_t slot_count
    uint32_t first_free
    uint32_t stream_count           # live
    uint32_t first_held             # streams whose held message points into the bytes being fed
    uint32_t full_count             # streams whose answers found no room
    uint64_t buffered_size
    int64_t now
    int64_t preface_due             # INT64_MAX: not awaited
    int64_t headers_due
    int64_t idle_due
    int64_t drain_due
    int64_t streams_due             # no stream is due before
    int64_t ping_last
    int64_t settings_rate
    int64_t resets_rate
    int64_t noise_rate
    const uint8_t* pending          # framed by nghttp2, not yet taken
    size_t pending_size
    uint32_t ping_strikes
    uint32_t continuation_count
    uint32_t breach_code
    uint8_t cause
    uint8_t is_over                 # H2_OVER was told
    uint8_t is_draining
    uint8_t is_drain_answered       # the peer knows of it: the last word is due with the next output
    uint8_t is_dead                 # nghttp2 gave up: nothing can be sent
    uint32_t goaway_code            # that we sent
    H2Events* events                # of the call being executed, else NULL

cdef struct H2Event:
    uint64_t name
    int64_t deadline
    const uint8_t* data
    uint8_t* metadata               # owned
    uint32_t size
    uint32_t metadata_size
    uint32_t code
    uint16_t method
    uint8_t kind
    uint8_t cause
    uint8_t is_last
    uint8_t is_owned                # data; else it points into what was fed

cdef struct H2Events:
    Connection* owner               # whose memory they own; cleared before another connection is fed
    uint32_t count
    H2Event items[H2_EVENTS_MAX]
