# Calls over nghttp2: how a request is given to a session, what comes back, and how each call ends.
#
# A call ends once, when nghttp2 closes its stream: with an answer to be judged, or as one that the server has not processed
# (REFUSED_STREAM, or above the last stream of a GOAWAY), which goes out again as it is. nghttp2 calls the functions on_...
# inside of link_read and link_flush only; none of them sends or deletes a session.

cdef inline Slot* slot_of_stream(Link* link, int32_t stream_id) noexcept nogil:
    """NULL: no call of ours. The last one is remembered: headers and data of a stream come in a row."""
    if link.seen_stream != stream_id:
        link.seen_stream = stream_id
        link.seen_slot = <Slot*>nghttp2_session_get_stream_user_data(link.session, stream_id)
    return link.seen_slot


# --- requests -----------------------------------------------------------------------------------------------------------

cdef ssize_t on_body(
    nghttp2_session* session, int32_t stream_id, uint8_t* target, size_t room, uint32_t* flags, nghttp2_data_source* source,
    void* user_data,
) noexcept nogil:
    cdef Slot* slot = <Slot*>source.ptr
    cdef size_t size = min(room, <size_t>(slot.body_size - slot.body_sent))
    memcpy(target, slot.body + slot.body_sent, size)
    slot.body_sent += <uint16_t>size
    if slot.body_sent == slot.body_size:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF
    return <ssize_t>size


cdef bint call_begin(Storm* storm, Slot* slot) noexcept nogil:
    """Gives the slot's request to its link, which is up. False: the link takes no more calls."""
    cdef Link* link = slot.link
    cdef nghttp2_data_provider provider
    provider.source.ptr = slot
    provider.read_callback = on_body
    slot.body_sent = 0
    slot.answer_size = 0
    slot.http_status = 0
    slot.grpc_status = -1
    slot.is_unsent = 0
    slot.stream_id = nghttp2_submit_request(
        link.session, NULL, storm.heads[slot.step], STORM_NV_COUNT, &provider, slot)
    if slot.stream_id < 0:
        return False
    slot.place = SLOT_FLYING
    link.flying += 1
    storm.counts.sent += 1
    link_touch(storm, link)
    return True


# --- answers --------------------------------------------------------------------------------------------------------------

cdef int number_read(const uint8_t* text, size_t size) noexcept nogil:
    """A decimal number of at most four digits; -1."""
    cdef int value = 0
    cdef size_t i
    if size == 0 or size > 4:
        return -1
    for i in range(size):
        if not 48 <= text[i] <= 57:
            return -1
        value = value * 10 + text[i] - 48
    return value


cdef void note_take(Storm* storm, Slot* slot, const uint8_t* value, size_t size, bint is_message) noexcept nogil:
    """Words of a status other than OK; they stand until the call ends, which is in the same header block."""
    cdef Note* note = &storm.note
    if note.slot != slot.number:
        note.slot = slot.number
        note.message_size = 0
        note.details_size = 0
    if is_message:
        note.message_size = <uint32_t>min(size, <size_t>STORM_EXAMPLE_SIZE)
        memcpy(note.message, value, note.message_size)
    else:
        note.details_size = <uint32_t>min(size, <size_t>1024)
        memcpy(note.details, value, note.details_size)


cdef int on_head(
    nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size, const uint8_t* value,
    size_t size, uint8_t flags, void* user_data,
) noexcept nogil:
    cdef Link* link = <Link*>user_data
    cdef Slot* slot
    if name_size == 7:
        if memcmp(name, b":status", 7) == 0:
            slot = slot_of_stream(link, frame.hd.stream_id)
            if slot != NULL:
                slot.http_status = <int16_t>number_read(value, size)
    elif name_size == 11:
        if memcmp(name, b"grpc-status", 11) == 0:
            slot = slot_of_stream(link, frame.hd.stream_id)
            if slot != NULL:
                slot.grpc_status = <int16_t>number_read(value, size)
    elif name_size == 12 and size != 0 and memcmp(name, b"grpc-message", 12) == 0:
        slot = slot_of_stream(link, frame.hd.stream_id)
        if slot != NULL:
            note_take(link.storm, slot, value, size, True)
    elif name_size == 23 and memcmp(name, b"grpc-status-details-bin", 23) == 0:
        slot = slot_of_stream(link, frame.hd.stream_id)
        if slot != NULL:
            note_take(link.storm, slot, value, size, False)
    return 0


cdef int on_data(
    nghttp2_session* session, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t size, void* user_data,
) noexcept nogil:
    cdef Link* link = <Link*>user_data
    cdef Slot* slot = slot_of_stream(link, stream_id)
    if slot == NULL:
        return 0
    if size <= STORM_ANSWER_SIZE_MAX - min(slot.answer_size, <uint32_t>STORM_ANSWER_SIZE_MAX):
        memcpy(answer_of(link.storm, slot) + slot.answer_size, data, size)
    slot.answer_size = min(slot.answer_size + <uint32_t>size, <uint32_t>STORM_ANSWER_SIZE_MAX + 1)
    return 0


cdef inline uint8_t* answer_of(Storm* storm, const Slot* slot) noexcept nogil:
    return storm.answers + <size_t>slot.number * STORM_ANSWER_SIZE_MAX


cdef int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept nogil:
    cdef Link* link = <Link*>user_data
    cdef uint32_t limit
    if frame.hd.type == NGHTTP2_SETTINGS and not frame.hd.flags & NGHTTP2_FLAG_ACK:
        link.is_settled = 1
        limit = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
        link.storm.counts.streams_limit = min(link.storm.counts.streams_limit, limit)
    elif frame.hd.type == NGHTTP2_GOAWAY:
        if link.place == LINK_UP:
            link.storm.counts.goaways += 1
            link.storm.counts.links_up -= 1
            link.place = LINK_GOING
    return 0


cdef int on_unsent(nghttp2_session* session, const nghttp2_frame* frame, int code, void* user_data) noexcept nogil:
    """A request that nghttp2 held back, and can no longer send: after a GOAWAY."""
    cdef Slot* slot
    if frame.hd.type == NGHTTP2_HEADERS:
        slot = slot_of_stream(<Link*>user_data, frame.hd.stream_id)
        if slot != NULL:
            slot.is_unsent = 1
    return 0


cdef int on_stream_end(nghttp2_session* session, int32_t stream_id, uint32_t code, void* user_data) noexcept nogil:
    cdef Link* link = <Link*>user_data
    cdef Slot* slot = slot_of_stream(link, stream_id)
    link.seen_stream = 0
    if slot == NULL or slot.place != SLOT_FLYING:
        return 0
    link.flying -= 1
    if slot.is_unsent or code == NGHTTP2_REFUSED_STREAM:
        link.storm.counts.retried_unprocessed += 1
        slot_again(link.storm, slot)
    else:
        call_end(link.storm, slot, code)
    return 0


# --- the end of a call --------------------------------------------------------------------------------------------------------

cdef void call_end(Storm* storm, Slot* slot, uint32_t code) noexcept nogil:
    """The server's last word on a call: counted, judged, measured."""
    storm.counts.answered += 1
    storm.last_answer = storm.now
    storm.failures_in_row = 0
    if storm.phase == PHASE_RUN:
        storm.counts.measured += 1
    if slot.started >= storm.run_begin and slot.started < storm.run_end and not slot.is_for_pool:
        histogram_add(&storm.latencies[slot.step], storm.now - slot.started)
    slot.is_pending = 0
    storm.busy -= 1
    call_judge(storm, slot, code)
    if is_churning(storm) and not slot.has_session:
        slot.link.is_done = 1
    slot_ready(storm, slot)


cdef void call_judge(Storm* storm, Slot* slot, uint32_t code) noexcept nogil:
    cdef uint8_t* answer = answer_of(storm, slot)
    cdef uint32_t status = <uint32_t>slot.grpc_status
    if status <= 16:
        storm.counts.statuses[status] += 1
    if storm.plan.ends_with_server and (status == STATUS_CANCELLED or status == STATUS_UNAVAILABLE):
        answer_failed(storm, slot)
    elif slot.grpc_status > 0:
        status_failed(storm, slot)
    elif slot.grpc_status < 0:
        statusless(storm, slot, code)
    elif slot.answer_size > STORM_ANSWER_SIZE_MAX:
        fault_of(storm, slot, FAULT_TOO_LONG, b"an answer of more than %lld bytes", STORM_ANSWER_SIZE_MAX)
        answer_failed(storm, slot)
    elif slot.answer_size < 5:
        fault_of(storm, slot, FAULT_NO_ANSWER, b"status OK, and %lld bytes instead of an answer", slot.answer_size)
        answer_failed(storm, slot)
    elif answer[0] != 0 or message_size(answer) > slot.answer_size - 5:
        fault_of(storm, slot, FAULT_MALFORMED, b"%lld bytes that are no gRPC message", slot.answer_size)
        answer_failed(storm, slot)
    elif message_size(answer) < slot.answer_size - 5:
        fault_of(storm, slot, FAULT_TWICE, b"%lld bytes behind the answer: a second one?", slot.answer_size - 5 - message_size(answer))
        answer_failed(storm, slot)
    else:
        answer_judge(storm, slot, answer + 5, slot.answer_size - 5)


cdef inline uint32_t message_size(const uint8_t* prefix) noexcept nogil:
    return (<uint32_t>prefix[1] << 24) | (<uint32_t>prefix[2] << 16) | (<uint32_t>prefix[3] << 8) | prefix[4]


cdef void status_failed(Storm* storm, Slot* slot) noexcept nogil:
    cdef Field reason
    if storm.note.slot != slot.number:
        storm.note.message_size = 0
        storm.note.details_size = 0
    if not reason_read(storm, &reason):
        reason.data = b""
        reason.size = 0
    status_fault(storm, slot, &reason)
    storm.note.slot = storm.slot_count
    answer_failed(storm, slot)


cdef void statusless(Storm* storm, Slot* slot, uint32_t code) noexcept nogil:
    """Ended without a grpc-status: reset, not HTTP 200, or forgotten."""
    if code != NGHTTP2_NO_ERROR:
        storm.counts.resets += 1
        fault_of(storm, slot, FAULT_RESET, b"reset by the server, HTTP/2 error %lld", code)
    elif slot.http_status != 200:
        fault_of(storm, slot, FAULT_HTTP, b"HTTP status %lld", slot.http_status)
    else:
        fault_of(storm, slot, FAULT_NO_STATUS, b"no grpc-status, HTTP status %lld", slot.http_status)
    answer_failed(storm, slot)
