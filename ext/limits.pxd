"""Every bound of the broker, in one place: the table of contents of its capacity.

Exported to Python as `broker._ledger.LIMITS` (and `broker.limits`); a test holds the two together. Sizes are bytes,
counts are records. What is configurable has its default and its ceiling here.
"""

cdef enum:
    # --- one request -----------------------------------------------------------------------------------
    USER_SIZE_MAX = 128
    HOST_SIZE_MAX = 128
    APP_SIZE_MAX = 64
    LABEL_SIZE_MAX = 64
    INSTANCE_ID_SIZE_MAX = 64
    IDENTITY_SIZE_MAX = 128
    PRODUCT_SIZE_MAX = 32
    REQUEST_ID_SIZE = 16
    SESSION_ID_SIZE = 32            # broker 8, fence 8, MAC 16
    ITEMS_MAX = 16                  # products in one request
    LEASES_OF_SESSION_MAX = 32      # lease records of one session, ended ones included
    PRIORITY_LEVELS = 8
    BATCH_MAX = 256                 # commands under one hold of the mutex; items of one advance
    SALT_SIZE_MAX = 4096
    UNIT_SIZE_MAX = 16384           # of all events of one command, or of one item of time passing

    # --- durable words of the control plane ----------------------------------------------------------------
    NOTE_NAME_SIZE_MAX = 128
    NOTE_VALUE_SIZE_MAX = 1024
    NOTES_MAX = 8192

    # --- the site ----------------------------------------------------------------------------------------
    PRODUCTS_MAX = 1024
    POOLS_MAX = 256
    POOLS_OF_PRODUCT_MAX = 16
    SOURCES_MAX = 4096              # licences on present keys
    SEATS_OF_SOURCE_MAX = 1000000
    WEIGHT_MAX = 1000

    # --- what fills up: defaults, and the ceiling that record numbers of 32 bits and tables allow -----------------
    SESSIONS_DEFAULT = 1048576
    LEASES_DEFAULT = 4194304
    CHARGES_DEFAULT = 4194304
    REQUESTS_DEFAULT = 2097152
    DENIALS_DEFAULT = 262144
    RECORDS_CEILING = 67108864
    TEXT_SIZE_DEFAULT = 268435456
    EVENT_RING_DEFAULT = 4194304
    EVENT_RING_MIN = 131072
    EVENT_RING_CEILING = 1073741824
    EVENT_RESERVE = 65536           # of the ring, kept for the control plane
    DENIAL_EVENTS_PER_SECOND = 100  # of one product recorded singly (semantics rule 27)
    COMMAND_RING_SIZE = 4194304     # the last commands, for who asks after a failure: at least 10,000 of 390 bytes, 120,000 renewals
    COMMAND_SEGMENT_SIZE = 262144   # of which so much is forgotten at once
    SCAN_MAX = 4096                 # records looked at by one page of a listing
    REKEYS_MAX = 8192               # lazy deadlines put right by one advance

    # --- one TLS connection ------------------------------------------------------------------------------
    TLS_HANDSHAKE_SIZE_MAX = 131072 # cipher bytes taken before the handshake is complete
    TLS_CHAIN_SIZE_MAX = 32768      # of the certificates that a client shows
    TLS_CHAIN_DEPTH_MAX = 8         # authorities between a client's certificate and the root
    TLS_OUTPUT_ROOM_MIN = 512       # with less room for what has to be sent, nothing more is read
    TLS_PEM_SIZE_MAX = 1048576      # of a certificate or private-key file

    # --- one HTTP/2 connection: defaults, and ceilings of what is configurable ------------------------------
    H2_METHODS_MAX = 64
    H2_METHOD_PATH_SIZE_MAX = 128
    H2_STREAMS_DEFAULT = 256        # concurrent calls; nghttp2 keeps its map of them: 1,024 would leave 63 KiB after a burst
    H2_STREAMS_CEILING = 65535      # slots have 16 bits to spare in a name
    H2_MESSAGE_SIZE_DEFAULT = 262144
    H2_MESSAGE_SIZE_CEILING = 67108864
    H2_HEADER_SIZE_DEFAULT = 16384  # of one request's header list; past four times it the connection ends
    H2_OUTPUT_SIZE_DEFAULT = 262144 # answers buffered for one stream
    H2_BUFFERED_SIZE_DEFAULT = 4194304  # messages half read and answers not yet sent, of a connection
    H2_MEMORY_SIZE_DEFAULT = 16777216   # all memory of a connection, nghttp2's included
    H2_CROWD_SIZE_DEFAULT = 1073741824  # of all connections of one loop; beyond it each has its fair share
    H2_MEMORY_FAIR_SIZE = 65536
    H2_WINDOW_SIZE_DEFAULT = 1048576    # of a connection; a stream's is a quarter
    H2_EVENTS_MAX = 1024            # told by one feed
    H2_FEED_SLICE_SIZE = 4096       # read at once: no more events than fit can stand in it
    H2_STATUS_MESSAGE_SIZE_MAX = 1024
    H2_STATUS_DETAILS_SIZE_MAX = 4096
    H2_OUTBOUND_FRAMES_MAX = 4096   # waiting in nghttp2: a peer that provokes and never reads
    H2_CONTINUATIONS_MAX = 8        # of one header block
    H2_PING_STRIKES_MAX = 2
    H2_SETTINGS_BURST = 16          # one a second beyond it
    H2_RESETS_BURST = 512           # 64 a second beyond it; each call that ends well gives one back
    H2_NOISE_BURST = 4096           # frames that move nothing; 512 a second beyond, four more a frame of ours

    # --- the listener: defaults, and ceilings of what is configurable -------------------------------------------
    LOOPS_MAX = 16                  # threads of one listener
    CONNECTIONS_DEFAULT = 65536     # of all loops together
    CONNECTIONS_CEILING = 1048576
    LOOP_READ_SIZE = 65536          # read from one connection in one round
    LOOP_SEND_SIZE = 65536          # handed to a socket at once
    LOOP_SENDS_MAX = 16             # of one connection in one round
    LOOP_READY_MAX = 256            # ready descriptors looked at in one round
    ACCEPTS_MAX = 64                # in one round
    MAILBOX_MAX = 4096              # connections on their way to another loop
    PEER_WAITING_SIZE_MAX = 524288  # what a socket has not taken; nothing is read meanwhile
    HELD_ANSWERS_MAX = 65536        # of one loop, waiting for the committer; at the bound nothing is read
    HELD_SIZE_MAX = 67108864
    HEALTH_WATCHERS_MAX = 1024      # of one loop
    HEALTH_SERVICE_SIZE_MAX = 256   # of the name that a health check asks for
    KEEP_ALIVE_STREAMS_MAX = 65536  # open on one loop
    SESSIONS_PER_STREAM_MAX = 10000
    WATCHED_SESSIONS_MAX = 262144   # spoken for by the streams of one loop
    STREAM_WAITING_SIZE_MAX = 2097152   # said on one KeepAlive stream, and waiting for its reader or for the committer
    STREAMS_WAITING_SIZE_MAX = 134217728    # on all those of one loop
    NOTICES_READ_SIZE = 65536       # events looked at in one go; one notice a session comes of them
    NOTICES_READS_MAX = 4           # in one round
    NOTICES_PEEKS_MAX = 256         # sessions looked up in one round

    # --- one message of Sessions -----------------------------------------------------------------------------
    CLIENT_NONCE_SIZE_MAX = 32
    MACHINE_IDENTIFIER_COUNT_MAX = 8
    MACHINE_IDENTIFIER_SIZE_MAX = 64
    RENEWALS_PER_MESSAGE_MAX = 256
    WIRE_NESTING_MAX = 100          # messages and groups inside each other: protobuf's own bound
    WIRE_ANSWER_SIZE_MAX = 16384    # room for the largest answer to one command
    STREAM_ANSWER_SIZE_MAX = 61440  # where a KeepAlive answer is cut into several messages
    STREAM_ITEM_FRAME_SIZE = 4      # tag and size of one item of it, at most

cdef extern from *:
    """
    #define USHER_TEXT_SIZE_CEILING 34359738368LL
    #define USHER_TTL_DEFAULT_NS 60000000000LL
    #define USHER_TTL_MIN_NS 1000000000LL
    #define USHER_TTL_MAX_NS 604800000000000LL
    #define USHER_RENEW_GRACE_DEFAULT_NS 10000000000LL
    #define USHER_REQUEST_WINDOW_DEFAULT_NS 120000000000LL
    #define USHER_DENIAL_WINDOW_DEFAULT_NS 10000000000LL
    #define USHER_STALL_DEFAULT_NS 1000000000LL
    """
    const long long TEXT_SIZE_CEILING "USHER_TEXT_SIZE_CEILING"
    const long long TTL_DEFAULT_NS "USHER_TTL_DEFAULT_NS"
    const long long TTL_MIN_NS "USHER_TTL_MIN_NS"
    const long long TTL_MAX_NS "USHER_TTL_MAX_NS"
    const long long RENEW_GRACE_DEFAULT_NS "USHER_RENEW_GRACE_DEFAULT_NS"
    const long long REQUEST_WINDOW_DEFAULT_NS "USHER_REQUEST_WINDOW_DEFAULT_NS"
    const long long DENIAL_WINDOW_DEFAULT_NS "USHER_DENIAL_WINDOW_DEFAULT_NS"
    const long long STALL_DEFAULT_NS "USHER_STALL_DEFAULT_NS"
