# gRPC's framing inside DATA: a flag, a size of 4 bytes, a message. Whole messages in one piece are not copied.
#
# A message that lies whole in what is being fed is told as a span of it; one that is split is put together in memory of
# its own, which the event takes over. A call with a single request holds it back until its stream ends, so that it is
# told once, with is_last, however the bytes were split. Windows: a connection's bytes are given back at once, a stream's
# unless its answers found no room, or wait above us, so that who does not read cannot go on asking.

cdef inline void window_give(Connection* c, Stream* s) noexcept nogil:
    if s.unconsumed != 0 and not s.is_full and not s.is_withheld:
        nghttp2_session_consume_stream(c.session, s.stream_id, s.unconsumed)
        s.unconsumed = 0


cdef void chunk_read(Connection* c, uint32_t slot, const uint8_t* data, size_t size) noexcept nogil:
    """The messages that begin, go on or end in these bytes."""
    cdef Stream* s = &c.streams[slot]
    cdef uint32_t taken
    while size != 0 and not s.is_finished:
        if s.prefix_size < PREFIX_SIZE:
            taken = min(<uint32_t>(PREFIX_SIZE - s.prefix_size), <uint32_t>size)
            memcpy(s.prefix + s.prefix_size, data, taken)
            s.prefix_size += taken
            if s.prefix_size == PREFIX_SIZE:
                prefix_read(c, slot)
                if not s.is_finished and s.message_size == 0:
                    message_end(c, slot, data, False)
        elif s.message == NULL and size >= s.message_size:
            taken = s.message_size
            message_end(c, slot, data, False)
        else:
            taken = message_go_on(c, slot, data, size)
        data += taken
        size -= taken


cdef void prefix_read(Connection* c, uint32_t slot) noexcept nogil:
    cdef Stream* s = &c.streams[slot]
    cdef uint32_t size = (<uint32_t>s.prefix[1] << 24) | (<uint32_t>s.prefix[2] << 16) | (<uint32_t>s.prefix[3] << 8) | s.prefix[4]
    if s.is_held:
        refuse(c, slot, GRPC_INTERNAL, "more than one message in a request that is no stream")
    elif s.prefix[0] == 1 and s.is_encoded:
        refuse(c, slot, GRPC_UNIMPLEMENTED, "compressed messages are not taken")
    elif s.prefix[0] != 0:
        refuse(c, slot, GRPC_INTERNAL, "a compressed message without grpc-encoding")
    elif size > c.server.settings.message_size_max:
        refuse(c, slot, GRPC_RESOURCE_EXHAUSTED, "the message is too large")
    else:
        s.message_size = size


cdef uint32_t message_go_on(Connection* c, uint32_t slot, const uint8_t* data, size_t size) noexcept nogil:
    """Bytes of a message that does not lie in one piece; how many were taken."""
    cdef Stream* s = &c.streams[slot]
    cdef uint32_t taken = <uint32_t>min(<size_t>(s.message_size - s.message_fill), size)
    cdef uint8_t* message
    if s.message == NULL:
        s.message = buffered_take(c, s.message_size)
        if s.message == NULL:
            refuse(c, slot, GRPC_RESOURCE_EXHAUSTED, "too many messages are half sent on this connection")
            return <uint32_t>size
        if s.shape & SHAPE_CLIENT_STREAM:
            s.body_due = c.now + c.server.settings.body_ns
            due_at(c, s.body_due)
    memcpy(s.message + s.message_fill, data, taken)
    s.message_fill += taken
    if s.message_fill == s.message_size:
        message = s.message
        s.message = NULL
        message_end(c, slot, message, True)
    return taken


cdef uint8_t* buffered_take(Connection* c, uint32_t size) noexcept nogil:
    """Memory for a message, within what a connection may buffer; NULL."""
    cdef uint8_t* message
    if c.buffered_size + size > c.server.settings.buffered_size_max:
        return NULL
    message = <uint8_t*>counted_malloc(size, &c.memory)
    if message != NULL:
        c.buffered_size += size
    return message


cdef void message_end(Connection* c, uint32_t slot, const uint8_t* data, bint is_owned) noexcept nogil:
    """A message is whole: told, or held until its stream ends."""
    cdef Stream* s = &c.streams[slot]
    s.prefix_size = 0
    s.message_fill = 0
    c.server.totals.messages_received += 1
    if s.shape & SHAPE_CLIENT_STREAM:
        s.body_due = INT64_MAX
        tell_message(c, slot, data, is_owned, False)
        return
    s.held = data
    s.is_held = True
    s.is_held_owned = is_owned
    if not is_owned:
        s.next_held = c.first_held
        c.first_held = slot


cdef void tell_message(Connection* c, uint32_t slot, const uint8_t* data, bint is_owned, bint is_last) noexcept nogil:
    cdef H2Event* event = tell_of(c, slot, H2_MESSAGE)
    event.data = data
    event.size = c.streams[slot].message_size
    event.is_owned = is_owned
    event.is_last = is_last


cdef void request_end(Connection* c, uint32_t slot) noexcept nogil:
    """END_STREAM: nothing more comes."""
    cdef Stream* s = &c.streams[slot]
    s.is_peer_done = True
    s.body_due = INT64_MAX
    if s.is_finished:
        return
    if s.prefix_size != 0:
        refuse(c, slot, GRPC_INTERNAL, "the request ends inside a message")
    elif s.shape & SHAPE_CLIENT_STREAM:
        tell_of(c, slot, H2_HALF_CLOSED)
    elif s.is_held:
        if not s.is_held_owned:
            held_unlink(c, slot)
        s.is_held = False
        tell_message(c, slot, s.held, s.is_held_owned, True)
        s.is_held_owned = False
    else:
        refuse(c, slot, GRPC_INTERNAL, "a request without a message")


# --- single requests that wait for the end of their stream ------------------------------------------------------------

cdef void held_unlink(Connection* c, uint32_t slot) noexcept nogil:
    """Out of the list of those that point into what is being fed; mostly it is the first."""
    cdef uint32_t* link = &c.first_held
    while link[0] != slot:
        USHER_ASSERT(link[0] != NO_SLOT)
        link = &c.streams[link[0]].next_held
    link[0] = c.streams[slot].next_held
    c.streams[slot].next_held = <uint32_t>NO_SLOT


cdef void held_keep(Connection* c) noexcept nogil:
    """The bytes being fed go away: what still waits gets memory of its own."""
    cdef uint32_t slot
    cdef Stream* s
    cdef uint8_t* kept
    while c.first_held != NO_SLOT:
        slot = c.first_held
        s = &c.streams[slot]
        kept = buffered_take(c, s.message_size)
        if kept == NULL:
            refuse(c, slot, GRPC_RESOURCE_EXHAUSTED, "too many messages are half sent on this connection")
            request_drop(c, s)      # refusing has unlinked it, unless the connection is over and hears no refusal
            continue
        memcpy(kept, s.held, s.message_size)
        held_unlink(c, slot)
        s.held = kept
        s.is_held_owned = True
