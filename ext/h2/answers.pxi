# What is said to a call: messages, the last word, or a reset. Copied when said, framed when the peer's windows allow.
#
# A message is kept with its 5-byte prefix in the stream's output; nghttp2 asks for it piece by piece. The trailers are
# submitted from within that asking, when the last byte has been taken: earlier they would overtake the data.

cdef enum:
    PREFIX_SIZE = 5
    OUTPUT_KEPT_SIZE = 4096         # larger empty buffers are given back


cdef inline uint32_t waiting_size(Stream* s) noexcept nogil:
    return s.output_fill - s.output_head


cdef bint output_reserve(Connection* c, Stream* s, uint32_t size) noexcept nogil:
    """Makes room behind what waits: by moving it to the front, or by growing."""
    cdef uint32_t waiting = waiting_size(s)
    cdef uint64_t capacity
    cdef uint8_t* grown
    if s.output_head != 0 and s.output_fill + <uint64_t>size > s.output_capacity:
        memmove(s.output, s.output + s.output_head, waiting)
        s.output_head = 0
        s.output_fill = waiting
    if s.output_fill + <uint64_t>size <= s.output_capacity:
        return True
    capacity = (waiting + <uint64_t>size) if waiting == 0 else (waiting + <uint64_t>size) * 2
    if capacity > UINT32_MAX or c.buffered_size + capacity - s.output_capacity > c.server.settings.buffered_size_max:
        return False
    grown = <uint8_t*>counted_realloc(s.output, capacity, &c.memory)
    if grown == NULL:
        return False
    c.buffered_size += capacity - s.output_capacity
    s.output = grown
    s.output_capacity = <uint32_t>capacity
    return True


cdef void output_release(Connection* c, Stream* s) noexcept nogil:
    s.output_head = s.output_fill = 0
    if s.output_capacity > OUTPUT_KEPT_SIZE:
        c.buffered_size -= s.output_capacity
        counted_free(s.output, &c.memory)
        s.output = NULL
        s.output_capacity = 0


cdef int say_message(Connection* c, uint64_t name, const uint8_t* data, uint32_t size) noexcept nogil:
    """One message to the call. A single one of any size is taken while nothing waits and the connection has room."""
    cdef uint32_t slot = slot_named(c, name)
    cdef Stream* s
    cdef uint64_t needed = <uint64_t>size + PREFIX_SIZE
    if slot == NO_SLOT or c.streams[slot].is_finished or c.is_over:
        return SAID_TO_NOBODY
    s = &c.streams[slot]
    if (
        (waiting_size(s) != 0 and waiting_size(s) + needed > c.server.settings.output_size_max)
        or needed > UINT32_MAX or not output_reserve(c, s, <uint32_t>needed)
    ):
        c.full_count += not s.is_full
        s.is_full = True
        return SAID_NO_ROOM
    s.output[s.output_fill] = 0
    s.output[s.output_fill + 1] = <uint8_t>(size >> 24)
    s.output[s.output_fill + 2] = <uint8_t>(size >> 16)
    s.output[s.output_fill + 3] = <uint8_t>(size >> 8)
    s.output[s.output_fill + 4] = <uint8_t>size
    memcpy(s.output + s.output_fill + PREFIX_SIZE, data, size)
    s.output_fill += <uint32_t>needed
    c.server.totals.messages_sent += 1
    answer_go_on(c, slot)
    return SAID


cdef void answer_go_on(Connection* c, uint32_t slot) noexcept nogil:
    """Submits the response headers, or wakes nghttp2 up when it had taken all there was."""
    cdef Stream* s = &c.streams[slot]
    cdef nghttp2_nv headers[2]
    cdef nghttp2_data_provider provider
    if not s.is_answering:
        s.is_answering = True
        nv_literal(&headers[0], ":status", "200")
        nv_literal(&headers[1], "content-type", "application/grpc")
        provider.source.fd = <int>slot
        provider.read_callback = on_read
        nghttp2_submit_response(c.session, s.stream_id, headers, 2, &provider)
    elif s.is_deferred:
        s.is_deferred = False
        nghttp2_session_resume_data(c.session, s.stream_id)


cdef int say_headers(Connection* c, uint64_t name) noexcept nogil:
    """The response headers before there is a message: who opened a stream learns that it is taken."""
    cdef uint32_t slot = slot_named(c, name)
    if slot == NO_SLOT or c.streams[slot].is_finished or c.is_over:
        return SAID_TO_NOBODY
    if not c.streams[slot].is_answering:
        answer_go_on(c, slot)
    return SAID


cdef int say_finish(
    Connection* c, uint64_t name, uint32_t status, const uint8_t* message, uint32_t message_size,
    const uint8_t* details, uint32_t details_size,
) noexcept nogil:
    """The last word to a call: its status; trailers only when no message went before."""
    cdef uint32_t slot = slot_named(c, name)
    cdef Stream* s
    if slot == NO_SLOT or c.streams[slot].is_finished or c.is_over:
        return SAID_TO_NOBODY
    s = &c.streams[slot]
    stream_finish(c, s, status)
    trailers_keep(c, s, message, message_size, details, details_size)
    if s.is_answering:
        answer_go_on(c, slot)
    else:
        trailers_submit(c, s, True)
    return SAID


cdef void stream_finish(Connection* c, Stream* s, uint32_t status) noexcept nogil:
    s.is_finished = True
    s.status = status if status <= 16 else 2
    c.full_count -= s.is_full
    s.is_full = False
    request_drop(c, s)
    if status == GRPC_OK:
        c.server.totals.answers += 1
    else:
        c.server.totals.refusals += 1


cdef void trailers_keep(
    Connection* c, Stream* s, const uint8_t* message, uint32_t message_size, const uint8_t* details, uint32_t details_size,
) noexcept nogil:
    """Encodes and keeps status message and details. Without memory, or too long, they are left out: the status counts."""
    message_size = cut_at_character(message, message_size, H2_STATUS_MESSAGE_SIZE_MAX)
    if details_size > H2_STATUS_DETAILS_SIZE_MAX:
        details_size = 0
    if message_size == 0 and details_size == 0:
        return
    s.trailers = <uint8_t*>counted_malloc(message_size * 3 + (details_size + 2) // 3 * 4, &c.memory)
    if s.trailers != NULL:
        s.status_message_size = <uint16_t>percent_encode(message, message_size, s.trailers)
        s.status_details_size = <uint16_t>base64_encode(details, details_size, s.trailers + s.status_message_size)


cdef int trailers_submit(Connection* c, Stream* s, bint is_only) noexcept nogil:
    cdef nghttp2_nv headers[6]
    cdef uint32_t count = 0
    if is_only:
        nv_literal(&headers[0], ":status", "200")
        nv_literal(&headers[1], "content-type", "application/grpc")
        count = 2
    nv_literal(&headers[count], "grpc-status", status_texts[s.status])
    count += 1
    if s.is_encoded and s.status == GRPC_UNIMPLEMENTED:
        nv_literal(&headers[count], "grpc-accept-encoding", "identity")
        count += 1
    if s.status_message_size:
        nv_set(&headers[count], "grpc-message", s.trailers, s.status_message_size)
        count += 1
    if s.status_details_size:
        nv_set(&headers[count], "grpc-status-details-bin", s.trailers + s.status_message_size, s.status_details_size)
        count += 1
    if is_only:
        return nghttp2_submit_response(c.session, s.stream_id, headers, count, NULL)
    return nghttp2_submit_trailer(c.session, s.stream_id, headers, count)


cdef ssize_t on_read(
    nghttp2_session* session, int32_t stream_id, uint8_t* target, size_t capacity, uint32_t* flags,
    nghttp2_data_source* source, void* user_data,
) noexcept nogil:
    """nghttp2 asks for the next bytes of a stream's data."""
    cdef Connection* c = <Connection*>user_data
    cdef Stream* s = &c.streams[source.fd]
    cdef uint32_t size
    USHER_ASSERT(<uint32_t>source.fd < c.slot_count and s.stream_id == stream_id)
    size = min(<uint32_t>capacity, waiting_size(s))
    if size == 0 and not s.is_finished:
        s.is_deferred = True
        return NGHTTP2_ERR_DEFERRED
    if size != 0:
        memcpy(target, s.output + s.output_head, size)
        s.output_head += size
    if waiting_size(s) == 0:
        output_release(c, s)
        if s.is_finished:
            flags[0] |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM
            if trailers_submit(c, s, False) != 0:
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return size


cdef int say_reset(Connection* c, uint64_t name, uint32_t code) noexcept nogil:
    """Ends a call without a status. No event follows."""
    cdef uint32_t slot = slot_named(c, name)
    if slot == NO_SLOT or c.is_over:
        return SAID_TO_NOBODY
    if not c.streams[slot].is_finished:
        stream_finish(c, &c.streams[slot], GRPC_INTERNAL)
    nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, c.streams[slot].stream_id, code)
    return SAID


cdef void window_withhold(Connection* c, uint64_t name, bint is_withheld) noexcept nogil:
    """Whether the call's window stays taken: while answers to it wait with whoever serves it, after one found no room here."""
    cdef uint32_t slot = slot_named(c, name)
    if slot == NO_SLOT:
        return
    c.streams[slot].is_withheld = is_withheld
    window_give(c, &c.streams[slot])


cdef inline bint is_writable(Connection* c, uint64_t name) noexcept nogil:
    """Whether the call stands, and less than half of what it may buffer waits."""
    cdef uint32_t slot = slot_named(c, name)
    if slot == NO_SLOT or c.streams[slot].is_finished or c.is_over:
        return False
    return waiting_size(&c.streams[slot]) <= c.server.settings.output_size_max // 2


cdef void tell_writable(Connection* c) noexcept nogil:
    """After output: the calls that found no room and have it again; their windows are given back, too."""
    cdef uint32_t slot
    cdef Stream* s
    if c.buffered_size > c.server.settings.buffered_size_max // 2:
        return
    for slot in range(c.slot_count):
        s = &c.streams[slot]
        if s.stream_id == 0 or not s.is_full or not is_writable(c, stream_name(c, slot)):
            continue
        if c.events.count + EVENTS_SPARE > H2_EVENTS_MAX:
            return
        s.is_full = False
        c.full_count -= 1
        window_give(c, s)
        tell_of(c, slot, H2_WRITABLE)
