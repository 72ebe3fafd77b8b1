# The table of streams: numbered slots that grow as calls come, names with a generation, and what a call leaves behind.

cdef enum:
    NO_SLOT = 0xFFFFFFFF
    SLOTS_FIRST = 8
    SLOTS_KEPT = 32
    EVENTS_SPARE = 8                # room that output and time need to tell what one frame or one stream brings


cdef inline uint64_t stream_name(Connection* c, uint32_t slot) noexcept nogil:
    return (<uint64_t><uint32_t>c.streams[slot].stream_id << 32) | slot


cdef inline uint32_t slot_named(Connection* c, uint64_t name) noexcept nogil:
    """The slot of a call that still stands under this name; NO_SLOT."""
    cdef uint32_t slot = <uint32_t>name
    if (name >> 32) == 0 or slot >= c.slot_count or c.streams[slot].stream_id != <int32_t>(name >> 32):
        return NO_SLOT
    return slot


cdef inline uint32_t slot_of(Connection* c, int32_t stream_id) noexcept nogil:
    """The slot of nghttp2's stream; NO_SLOT when it has none. Its user data is the slot's number + 1."""
    return <uint32_t><uintptr_t>nghttp2_session_get_stream_user_data(c.session, stream_id) - 1


cdef bint slots_grow(Connection* c) noexcept nogil:
    cdef uint32_t count = min(max(c.slot_count * 2, <uint32_t>SLOTS_FIRST), c.server.settings.streams_max)
    cdef uint32_t slot
    cdef Stream* streams
    if count <= c.slot_count:
        return False
    streams = <Stream*>counted_realloc(c.streams, count * sizeof(Stream), &c.memory)
    if streams == NULL:
        return False
    c.streams = streams
    for slot in range(c.slot_count, count):
        memset(&streams[slot], 0, sizeof(Stream))
        streams[slot].next_free = slot + 1 if slot + 1 < count else <uint32_t>NO_SLOT
    c.first_free = c.slot_count
    c.slot_count = count
    return True


cdef void slots_release(Connection* c) noexcept nogil:
    """After a burst: an idle connection keeps no large table. Names of before stay names of nobody."""
    USHER_ASSERT(c.stream_count == 0 and c.first_held == NO_SLOT)
    counted_free(c.streams, &c.memory)
    c.streams = NULL
    c.slot_count = 0
    c.first_free = <uint32_t>NO_SLOT


cdef uint32_t stream_take(Connection* c, int32_t stream_id) noexcept nogil:
    cdef uint32_t slot
    cdef Stream* s
    if c.first_free == NO_SLOT and not slots_grow(c):
        return NO_SLOT
    slot = c.first_free
    s = &c.streams[slot]
    c.first_free = s.next_free
    memset(s, 0, sizeof(Stream))
    s.stream_id = stream_id
    s.method = <uint16_t>NO_METHOD
    s.deadline = INT64_MAX
    s.body_due = INT64_MAX
    s.next_held = <uint32_t>NO_SLOT
    c.stream_count += 1
    c.server.totals.streams += 1
    return slot


cdef void message_drop(Connection* c, Stream* s) noexcept nogil:
    """Gives up what is half read."""
    if s.message != NULL:
        c.buffered_size -= s.message_size
        counted_free(s.message, &c.memory)
        s.message = NULL
    s.message_fill = 0
    s.prefix_size = 0
    s.body_due = INT64_MAX


cdef void request_drop(Connection* c, Stream* s) noexcept nogil:
    """Gives up all that came in: the call is finished or gone."""
    message_drop(c, s)
    if s.is_held_owned:
        c.buffered_size -= s.message_size
        counted_free(<void*>s.held, &c.memory)
    elif s.is_held:
        held_unlink(c, <uint32_t>(s - c.streams))
    s.is_held = s.is_held_owned = False
    if s.metadata != NULL:
        counted_free(s.metadata, &c.memory)
        s.metadata = NULL
    s.deadline = INT64_MAX


cdef void stream_free(Connection* c, uint32_t slot) noexcept nogil:
    cdef Stream* s = &c.streams[slot]
    request_drop(c, s)
    c.full_count -= s.is_full
    c.buffered_size -= s.output_capacity
    counted_free(s.output, &c.memory)
    counted_free(s.trailers, &c.memory)
    s.output = s.trailers = NULL
    s.stream_id = 0
    s.next_free = c.first_free
    c.first_free = slot
    c.stream_count -= 1
    if c.stream_count == 0:
        c.idle_due = c.now + c.server.settings.idle_ns


# --- what is told ---------------------------------------------------------------------------------------------------

cdef H2Event* tell(Connection* c, uint8_t kind) noexcept nogil:
    cdef H2Event* event
    USHER_ASSERT(c.events != NULL and c.events.count < H2_EVENTS_MAX)
    event = &c.events.items[c.events.count]
    c.events.count += 1
    memset(event, 0, sizeof(H2Event))
    event.kind = kind
    return event


cdef H2Event* tell_of(Connection* c, uint32_t slot, uint8_t kind) noexcept nogil:
    cdef Stream* s = &c.streams[slot]
    cdef H2Event* event = tell(c, kind)
    event.name = stream_name(c, slot)
    event.method = s.method
    event.deadline = s.deadline
    event.metadata = s.metadata     # with the first of a call's events, and then no more
    event.metadata_size = s.metadata_size if s.metadata != NULL else 0
    s.metadata = NULL
    s.is_known = True
    return event


cdef void events_clear(Connection* c, H2Events* events) noexcept nogil:
    """Gives back what the events own. Between two calls that take `events`, and before the connection goes."""
    cdef uint32_t i
    for i in range(events.count):
        if events.items[i].is_owned:
            c.buffered_size -= events.items[i].size
            counted_free(<void*>events.items[i].data, &c.memory)
        counted_free(events.items[i].metadata, &c.memory)
    events.count = 0
    events.owner = NULL


cdef inline void events_lend(Connection* c, H2Events* events) noexcept nogil:
    USHER_ASSERT(events.owner == NULL or events.owner == c)
    events.owner = c
    c.events = events
