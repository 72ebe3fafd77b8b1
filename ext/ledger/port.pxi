# The ledger as other compiled modules reach it: each function takes the mutex by itself and needs no GIL (port.pxd).
#
# The Python face calls the same functions, so that what the tests hold against the model is what a data plane gets.

cdef enum:
    READ_SLICE_SIZE = 65536         # copied under one hold of the mutex

cdef extern from *:
    """
    #define USHER_BLOCKED_PAUSE_NS 5000000LL
    """
    # What is due finds no room in the event ring: time for those who drain it (as in broker/app/ticker.py).
    const long long BLOCKED_PAUSE_NS "USHER_BLOCKED_PAUSE_NS"


cdef inline void port_lock(const LedgerPort* port) noexcept nogil:
    pthread_mutex_lock(<pthread_mutex_t*>port.mutex)


cdef inline void port_unlock(const LedgerPort* port) noexcept nogil:
    pthread_mutex_unlock(<pthread_mutex_t*>port.mutex)


cdef uint64_t port_execute(const LedgerPort* port, int64_t now, Command* commands, Outcome* outcomes, Workspace* space, uint32_t count) noexcept nogil:
    """All commands in order under one hold of the mutex; the position behind their events."""
    cdef uint64_t position
    USHER_ASSERT(count <= BATCH_MAX)
    space.lease_count = space.unavailable_count = 0
    seal_all(port.state, commands, count)
    port_lock(port)
    execute_all(port.state, now, commands, outcomes, space, count)
    position = port.state.ring.tail
    port_unlock(port)
    sign_all(port.state, outcomes, count)
    return position


cdef int64_t port_advance(const LedgerPort* port, int64_t now, uint64_t* position) noexcept nogil:
    """At most BATCH_MAX items; when to call again: `now` if more is due, a moment later if that finds no room."""
    cdef int64_t due = now
    port_lock(port)
    enter(port.state, now)
    if not advance(port.state):
        due = next_due(port.state)
        if due <= port.state.raw:
            due = now + BLOCKED_PAUSE_NS
    position[0] = port.state.ring.tail
    port_unlock(port)
    return due


cdef uint64_t port_read_events(const LedgerPort* port, EventCursor* cursor, uint8_t* target, uint64_t size_max) noexcept nogil:
    """How many bytes were copied. In slices: commands go on between them, and a loss ends the reading, so that it lies before the
    bytes of the next call and never among these. They end at the end of a command, if they hold one."""
    cdef uint64_t size = 0
    cdef uint64_t slice_size = 1
    cdef Cut cut = CUT_AT_COMMAND
    while slice_size and size < size_max:
        port_lock(port)
        slice_size = 0
        if size == 0 or cursor.position >= port.state.ring.oldest:
            slice_size = ring_read(&port.state.ring, cursor, target + size, min(size_max - size, <uint64_t>READ_SLICE_SIZE), cut)
        port_unlock(port)
        size += slice_size
        cut = CUT_AT_COMMAND_ONLY   # what was read ends a command: so must the whole
    return size


cdef bint port_peek_session(const LedgerPort* port, int64_t now, uint64_t fence, uint32_t place, LeaseOut* leases, uint32_t* lease_count, uint8_t* end_reason) noexcept nogil:
    """Whether the session lives: then its leases, at most LEASES_OF_SESSION_MAX. If not, why it ended: END_NONE when its record
    is gone, or its time is over and the end is still to come."""
    cdef State* s = port.state
    cdef uint32_t number
    cdef bint is_live = False
    lease_count[0] = 0
    end_reason[0] = END_NONE
    port_lock(port)
    enter(s, now)
    number = session_placed(s, fence, place)
    if number != NONE:
        is_live = session_is_live(s, number)
        if is_live:
            lease_count[0] = copy_leases(s, number, leases)
        else:
            end_reason[0] = session_at(s, number).end_reason
    port_unlock(port)
    return is_live


cdef void port_release_events(const LedgerPort* port, uint64_t position) noexcept nogil:
    """What lies before the position is committed: its bytes may be written over. Called with the head itself it only says that a
    journal has the ring now."""
    cdef Ring* ring = &port.state.ring
    port_lock(port)
    ring.is_released = True
    if ring.head < position <= ring.tail:
        trail_add(port.state, TRAIL_DRAIN, 0, position - ring.head, TRAIL_HEAD_SIZE)
        ring.head = position
    port_unlock(port)


cdef void port_product_standing(const LedgerPort* port, const uint8_t* name, uint32_t size, DenialRecord* denial) noexcept nogil:
    """Adds what the product's pools hold to `denial`; nothing for an unknown one."""
    cdef uint32_t number
    port_lock(port)
    number = product_find(port.state, name, size)
    if number != NO_PRODUCT:
        product_numbers(port.state, &port.state.products[number], denial)
    port_unlock(port)


# --- the capsule ---------------------------------------------------------------------------------------------------------------

cdef void _let_go(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef object _capsule_of(Ledger ledger):
    """A capsule that keeps the ledger alive."""
    cdef object capsule = PyCapsule_New(&ledger.entry, PORT_NAME, _let_go)
    PyCapsule_SetContext(capsule, <void*>ledger)
    Py_INCREF(ledger)
    return capsule
