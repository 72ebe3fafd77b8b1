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
    SCAN_MAX = 4096                 # records looked at by one page of a listing
    REKEYS_MAX = 8192               # lazy deadlines put right by one advance

    # --- one TLS connection ------------------------------------------------------------------------------
    TLS_HANDSHAKE_SIZE_MAX = 131072 # cipher bytes taken before the handshake is complete
    TLS_CHAIN_SIZE_MAX = 32768      # of the certificates that a client shows
    TLS_CHAIN_DEPTH_MAX = 8         # authorities between a client's certificate and the root
    TLS_OUTPUT_ROOM_MIN = 512       # with less room for what has to be sent, nothing more is read
    TLS_PEM_SIZE_MAX = 1048576      # of a certificate or private-key file

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
