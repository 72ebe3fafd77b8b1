"""The shapes of the wire codec: spans of a message, what a request says beside its command, what an answer is made of.

Bytes of a request are borrowed, never owned: a span is good as long as the message is. What the ledger needs is copied by
`open_intake` and its like into room that the caller gives, WIRE_TEXT_ROOM bytes a command.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from limits cimport (
    APP_SIZE_MAX, CLIENT_NONCE_SIZE_MAX, HOST_SIZE_MAX, IDENTITY_SIZE_MAX, INSTANCE_ID_SIZE_MAX, ITEMS_MAX,
    LABEL_SIZE_MAX, MACHINE_IDENTIFIER_COUNT_MAX, PRODUCT_SIZE_MAX, USER_SIZE_MAX,
)
from records cimport TEXT_IDENTITY, Product

cdef enum:
    WIRE_TEXT_SIZE_MAX = USER_SIZE_MAX + HOST_SIZE_MAX + APP_SIZE_MAX + LABEL_SIZE_MAX + INSTANCE_ID_SIZE_MAX + IDENTITY_SIZE_MAX
    WIRE_TEXT_ROOM = WIRE_TEXT_SIZE_MAX + ITEMS_MAX * PRODUCT_SIZE_MAX
    SENTENCE_SIZE_MAX = 512

cdef enum:  # RequestMessage; the first five are the ledger's verbs
    MESSAGE_OPEN = 1
    MESSAGE_RENEW = 2
    MESSAGE_ACQUIRE = 3
    MESSAGE_RELEASE = 4
    MESSAGE_CLOSE = 5
    MESSAGE_KEEP_ALIVE = 6
    MESSAGE_OPEN_WAITING = 7
    MESSAGE_COUNT = 8

cdef enum:  # Fault: why a message never reaches the ledger
    FAULT_NONE = 0
    FAULT_MESSAGE = 1               # not a valid message
    FAULT_REQUEST_ID = 2            # number: its size
    FAULT_SESSION_ID = 3            # number: its size
    FAULT_CHANGE_VERSION = 4
    FAULT_PRODUCT = 5
    FAULT_TTL = 6
    FAULT_WAIT_LIMIT = 7
    FAULT_CLIENT_NONCE = 8          # number: its size
    FAULT_IDENTIFIER_COUNT = 9      # number: how many
    FAULT_IDENTIFIER_SIZE = 10
    FAULT_RENEWALS = 11             # number: how many
    FAULT_FORGET = 12               # number: the size of the id
    FAULT_FIELD = 13                # number: the InvalidField, of an Open that the ledger is not asked for

cdef struct WireError:
    uint8_t fault
    uint8_t message                 # RequestMessage
    int32_t index                   # of the renewal; -1 elsewhere
    uint64_t number

cdef struct Span:
    const uint8_t* bytes
    uint32_t size

# --- reading ---------------------------------------------------------------------------------------------------

cdef struct Reader:
    const uint8_t* at
    const uint8_t* end
    int32_t depth                   # how much deeper it may go
    bint is_bad

cdef struct Field:
    uint32_t number
    uint32_t wire_type              # WIRE_VARINT or WIRE_SIZED: the others are skipped on the way
    uint64_t value
    Span span

cdef struct DurationParts:
    int64_t seconds
    int32_t nanos

cdef struct ItemSpans:
    Span names[ITEMS_MAX]
    uint32_t count                  # as many as came
    uint16_t optional

cdef struct OpenSpans:
    Span request_id
    Span client_nonce
    Span texts[TEXT_IDENTITY]
    Span identifiers[MACHINE_IDENTIFIER_COUNT_MAX]
    uint32_t identifier_count       # as many as came
    bint is_identifier_too_long     # any of them
    DurationParts wait_limit
    DurationParts ttl
    ItemSpans items

cdef struct RenewSpans:
    Span session_id
    int64_t change_version
    uint8_t active

cdef struct InSessionSpans:         # Acquire, Release, Close
    Span session_id
    Span request_id
    Span client_nonce
    Span product
    ItemSpans items

cdef enum:  # Active
    ACTIVE_UNKNOWN = 0
    ACTIVE_NO = 1
    ACTIVE_YES = 2

cdef struct Extras:                 # what a request says that the ledger does not hear
    int64_t wait_limit              # ns
    uint8_t active
    uint8_t nonce_size
    uint8_t nonce[CLIENT_NONCE_SIZE_MAX]

cdef struct KeepAliveItems:         # of a message that keep_alive_intake has found good
    Reader renewals
    Reader forgets
    uint32_t renewal_count

# --- writing ---------------------------------------------------------------------------------------------------

cdef struct Writer:                 # from the end of its room to the front: lengths are known when they are written
    uint8_t* start
    uint8_t* at
    uint8_t* end

cdef struct Sentence:
    uint32_t size
    uint8_t bytes[SENTENCE_SIZE_MAX]

cdef struct Failure:                # a status other than OK
    int32_t code
    const char* reason
    const char* metadata_name       # NULL: none
    Sentence metadata
    Sentence message

cdef struct AnswerContext:          # what an answer says beside the ledger's outcome
    const Product* products
    int64_t renew_grace
