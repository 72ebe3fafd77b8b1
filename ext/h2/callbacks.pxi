# What nghttp2 calls: frames in, frames out, streams that close. None of these sends or deletes a session.
#
# nghttp2 calls them inside feed, on_time and output only, where events are lent to the connection.

cdef int on_begin_frame(nghttp2_session* session, const nghttp2_frame_hd* head, void* user_data) noexcept nogil:
    """A frame's head: the only sign of a header block that goes on and on, and of frames of unknown types."""
    cdef Connection* c = <Connection*>user_data
    if head.type == NGHTTP2_CONTINUATION:
        c.continuation_count += 1
        if c.continuation_count > H2_CONTINUATIONS_MAX:
            return breach(c, CAUSE_CONTINUATIONS, NGHTTP2_ENHANCE_YOUR_CALM)
        return 0
    c.continuation_count = 0
    c.headers_due = c.now + c.server.settings.headers_ns if head.type == NGHTTP2_HEADERS else INT64_MAX
    if head.type > NGHTTP2_CONTINUATION:
        return take_noise(c)
    return 0


cdef int on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept nogil:
    cdef Connection* c = <Connection*>user_data
    cdef uint32_t slot
    if frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        return 0
    slot = stream_take(c, frame.hd.stream_id)
    if slot == NO_SLOT:
        c.server.totals.streams_refused += 1
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_REFUSED_STREAM)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return nghttp2_session_set_stream_user_data(session, frame.hd.stream_id, <void*><uintptr_t>(slot + 1))


cdef int on_one_header(
    nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
    const uint8_t* value, size_t size, uint8_t flags, void* user_data,
) noexcept nogil:
    """Counted before it is looked at: a few bytes of HPACK can stand for kilobytes, many times over."""
    cdef Connection* c = <Connection*>user_data
    cdef uint32_t slot = slot_of(c, frame.hd.stream_id)
    cdef Stream* s
    if slot == NO_SLOT:
        return 0
    s = &c.streams[slot]
    s.header_size += <uint32_t>(name_size + size) + HEADER_OVERHEAD
    if s.header_size > c.server.settings.header_size_max:
        s.verdict = GRPC_RESOURCE_EXHAUSTED
        if s.header_size > c.server.settings.header_size_max * HEADER_BREACH:
            return breach(c, CAUSE_HEADERS, NGHTTP2_ENHANCE_YOUR_CALM)
    elif frame.headers.cat == NGHTTP2_HCAT_REQUEST:
        header_take(c, s, name, name_size, value, size)
    return 0


cdef int on_data_chunk(
    nghttp2_session* session, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t size, void* user_data,
) noexcept nogil:
    cdef Connection* c = <Connection*>user_data
    cdef uint32_t slot = slot_of(c, stream_id)
    cdef Stream* s
    nghttp2_session_consume_connection(session, size)
    if slot == NO_SLOT:
        return 0
    s = &c.streams[slot]
    if s.is_finished:
        return 0                    # its window stays taken: a peer that goes on sending is stopped by it
    s.unconsumed += <uint32_t>size
    chunk_read(c, slot, data, size)
    window_give(c, s)
    return 0


cdef int on_frame_received(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept nogil:
    cdef Connection* c = <Connection*>user_data
    cdef bint is_ack = frame.hd.flags & NGHTTP2_FLAG_ACK != 0
    if frame.hd.type == NGHTTP2_HEADERS or frame.hd.type == NGHTTP2_DATA:
        return on_call_frame(c, frame)
    if frame.hd.type == NGHTTP2_RST_STREAM:
        return take_reset(c)
    if frame.hd.type == NGHTTP2_SETTINGS:
        c.preface_due = INT64_MAX
        return 0 if is_ack else take_settings(c)
    if frame.hd.type == NGHTTP2_PING:
        if not is_ack:
            return take_ping(c)
        if c.is_draining and memcmp(frame.ping.opaque_data, DRAIN_PING, 8) == 0:
            c.is_drain_answered = True  # calls that were on their way may stand behind it: see output
        return 0
    if frame.hd.type == NGHTTP2_GOAWAY:
        c.server.totals.goaways_received += 1
        tell(c, H2_GOING_AWAY).code = frame.goaway.error_code
        return take_settings(c)
    return take_noise(c)


cdef int on_call_frame(Connection* c, const nghttp2_frame* frame) noexcept nogil:
    cdef uint32_t slot = slot_of(c, frame.hd.stream_id)
    cdef bint is_end = frame.hd.flags & NGHTTP2_FLAG_END_STREAM != 0
    if frame.hd.type == NGHTTP2_HEADERS:
        c.headers_due = INT64_MAX
        if slot != NO_SLOT and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
            request_begin(c, slot)
    elif frame.hd.length == 0 and not is_end:
        return take_noise(c)
    if slot != NO_SLOT and is_end:
        request_end(c, slot)
    return 0


cdef int on_invalid_frame(nghttp2_session* session, const nghttp2_frame* frame, int reason, void* user_data) noexcept nogil:
    """A frame that costs a stream (the connection's errors nghttp2 answers itself): a reset that we were made to do."""
    cdef Connection* c = <Connection*>user_data
    c.headers_due = INT64_MAX
    if reason == NGHTTP2_ERR_REFUSED_STREAM:
        c.server.totals.streams_refused += 1
        return take_noise(c)        # calls above the bound: honest ones come before they have read the bound
    return take_reset(c)


cdef int on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept nogil:
    cdef Connection* c = <Connection*>user_data
    cdef uint32_t slot
    if frame.hd.type == NGHTTP2_HEADERS or frame.hd.type == NGHTTP2_DATA:
        c.ping_strikes = 0
        c.ping_last = INT64_MIN
        rate_give(&c.noise_rate, NOISE_INTERVAL_NS, NOISE_PER_FRAME)
        if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            slot = slot_of(c, frame.hd.stream_id)
            if slot != NO_SLOT and not c.streams[slot].is_peer_done:
                nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR)
    elif frame.hd.type == NGHTTP2_GOAWAY:
        c.server.totals.goaways_sent += frame.goaway.last_stream_id != INT32_MAX
        c.goaway_code = frame.goaway.error_code
    return 0


cdef int on_stream_closed(nghttp2_session* session, int32_t stream_id, uint32_t code, void* user_data) noexcept nogil:
    cdef Connection* c = <Connection*>user_data
    cdef uint32_t slot = slot_of(c, stream_id)
    cdef H2Event* event
    if slot == NO_SLOT:
        return 0
    if c.streams[slot].is_finished:
        if code == NGHTTP2_NO_ERROR and c.streams[slot].status == GRPC_OK:
            rate_give(&c.resets_rate, RESETS_INTERVAL_NS, 1)
    else:
        c.server.totals.cancelled += 1
        if c.streams[slot].is_known:
            event = tell_of(c, slot, H2_CANCELLED)
            event.code = code
    stream_free(c, slot)
    return 0
