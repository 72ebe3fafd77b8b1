"""The ledger as other compiled modules reach it: functions over its state, each of which takes the mutex by itself.

`Ledger.port()` gives a LedgerPort in a PyCapsule of the name PORT_NAME; who keeps the port keeps the Ledger too. A call through it
is a call through a pointer once a batch, which costs nothing beside the batch. No function needs the GIL or blocks for
longer than one bounded hold of the mutex.

    execute       seals, runs and signs at most BATCH_MAX commands; gives the position of the events behind the batch
    advance       does what is due; gives when something is due again (raw time; the time given: at once)
    read_events   copies whole events behind a cursor; several readers each have their own
    peek_session  the leases of a live session as they are now
    release_events  gives room back to the ring, up to a position: from then on nobody drains
    product_standing  the numbers that a denial of a product would carry now

Positions are bytes of the event stream since the start; they only grow. An answer whose events lie before a position may leave
once that position is committed.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from records cimport Command, DenialRecord, LeaseOut, Outcome, State, Workspace

cdef struct EventCursor:
    uint64_t position               # the next event to be read; 0: from the oldest that is kept
    uint64_t lost_size              # bytes of events that were overwritten before they were read

ctypedef uint64_t (*port_execute_fn)(
    const LedgerPort* port, int64_t now, Command* commands, Outcome* outcomes, Workspace* space, uint32_t count
) noexcept nogil
ctypedef int64_t (*port_advance_fn)(const LedgerPort* port, int64_t now, uint64_t* position) noexcept nogil
ctypedef uint64_t (*port_read_events_fn)(const LedgerPort* port, EventCursor* cursor, uint8_t* target, uint64_t size_max) noexcept nogil
ctypedef bint (*port_peek_session_fn)(
    const LedgerPort* port, int64_t now, uint64_t fence, uint32_t place, LeaseOut* leases, uint32_t* lease_count, uint8_t* end_reason
) noexcept nogil
ctypedef void (*port_release_events_fn)(const LedgerPort* port, uint64_t position) noexcept nogil
ctypedef void (*port_product_standing_fn)(
    const LedgerPort* port, const uint8_t* name, uint32_t size, DenialRecord* denial
) noexcept nogil

cdef struct LedgerPort:
    uint32_t version                # PORT_VERSION and
    uint32_t state_size             # sizeof(State): looked at by who takes it, so that units of different builds do not meet
    State* state                    # products, broker id, secret, renew grace: what does not change, or only grows
    void* mutex
    port_execute_fn execute
    port_advance_fn advance
    port_read_events_fn read_events
    port_peek_session_fn peek_session
    port_release_events_fn release_events       # the ring's head; positions before it, or beyond the tail, change nothing
    port_product_standing_fn product_standing   # adds to capacity, in_use, deficit; nothing for an unknown product

cdef extern from *:
    """
    #define USHER_PORT_VERSION 4
    #define USHER_PORT_NAME "broker._ledger.port"
    """
    const unsigned int PORT_VERSION "USHER_PORT_VERSION"
    const char* PORT_NAME "USHER_PORT_NAME"
