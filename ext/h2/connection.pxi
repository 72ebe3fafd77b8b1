# A connection from its preface to its end: bytes in, events and bytes out, and what time does to it.
#
# The order of work, on one thread at a time: feed, take the events, events_clear, say what there is to say, output until
# it gives nothing, on_time when next_due has come. None of it blocks, reads a clock, or does more than a bounded step.

cdef extern from *:
    """
    static const unsigned char USHER_DRAIN_PING[9] = "ushergo!";
    """
    const uint8_t DRAIN_PING "USHER_DRAIN_PING"[9]

cdef enum:
    EVENTS_OF_SLICE = H2_FEED_SLICE_SIZE // 5 + 16  # a message takes 5 bytes, any other event more


# --- the server: what the connections of a thread share -----------------------------------------------------------------

cdef void settings_default(Settings* settings) noexcept nogil:
    settings.streams_max = H2_STREAMS_DEFAULT
    settings.window_size = H2_WINDOW_SIZE_DEFAULT
    settings.message_size_max = H2_MESSAGE_SIZE_DEFAULT
    settings.header_size_max = H2_HEADER_SIZE_DEFAULT
    settings.output_size_max = H2_OUTPUT_SIZE_DEFAULT
    settings.ping_strikes_max = H2_PING_STRIKES_MAX
    settings.buffered_size_max = H2_BUFFERED_SIZE_DEFAULT
    settings.memory_size_max = H2_MEMORY_SIZE_DEFAULT
    settings.preface_ns = 10 * NS_PER_SECOND
    settings.headers_ns = 10 * NS_PER_SECOND
    settings.body_ns = 30 * NS_PER_SECOND
    settings.idle_ns = 3600 * NS_PER_SECOND
    settings.drain_ns = 5 * NS_PER_SECOND
    settings.ping_interval_ns = 10 * NS_PER_SECOND
    settings.is_metadata_kept = False
    settings.is_authorization_kept = True


cdef bint server_begin(Server* server) noexcept nogil:
    """Callbacks and options, once for all connections; methods are added before the first. False: no memory."""
    cdef nghttp2_session_callbacks* callbacks
    memset(server, 0, sizeof(Server))
    settings_default(&server.settings)
    server.crowd.size_max = H2_CROWD_SIZE_DEFAULT
    if nghttp2_session_callbacks_new(&server.callbacks) != 0 or nghttp2_option_new(&server.option) != 0:
        return False
    callbacks = server.callbacks
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame)
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_one_header)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received)
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_closed)
    nghttp2_option_set_no_auto_window_update(server.option, 1)
    nghttp2_option_set_no_closed_streams(server.option, 1)
    loosen_limits(server.option)
    return True


cdef bint server_method(Server* server, const uint8_t* path, size_t size, uint8_t shape) noexcept nogil:
    """Registers a path; its number is the count before. False: too many, or too long."""
    cdef Method* method
    if server.method_count >= H2_METHODS_MAX or size > H2_METHOD_PATH_SIZE_MAX:
        return False
    method = &server.methods[server.method_count]
    memcpy(method.path, path, size)
    method.path_size = <uint16_t>size
    method.shape = shape
    server.method_count += 1
    return True


cdef void server_end(Server* server) noexcept nogil:
    nghttp2_session_callbacks_del(server.callbacks)
    nghttp2_option_del(server.option)


# --- begin and end ----------------------------------------------------------------------------------------------------------

cdef bint connection_begin(Connection* c, Server* server, int64_t now) noexcept nogil:
    """A connection that nothing has come on yet; its SETTINGS wait to be sent. False: no memory."""
    cdef nghttp2_mem allocator
    memset(c, 0, sizeof(Connection))
    c.server = server
    c.memory.size_max = server.settings.memory_size_max
    c.memory.crowd = &server.crowd
    c.first_free = c.first_held = <uint32_t>NO_SLOT
    c.now = now
    c.preface_due = now + server.settings.preface_ns
    c.idle_due = now + server.settings.idle_ns
    c.headers_due = c.drain_due = c.streams_due = INT64_MAX
    c.ping_last = INT64_MIN
    c.settings_rate = c.resets_rate = c.noise_rate = INT64_MIN // 2
    allocator.mem_user_data = &c.memory
    allocator.malloc = counted_malloc
    allocator.free = counted_free
    allocator.calloc = counted_calloc
    allocator.realloc = counted_realloc
    if nghttp2_session_server_new3(&c.session, server.callbacks, c, server.option, &allocator) != 0:
        return False
    if not settings_say(c):
        connection_free(c)
        return False
    server.totals.connections += 1
    return True


cdef bint settings_say(Connection* c) noexcept nogil:
    cdef Settings* settings = &c.server.settings
    cdef nghttp2_settings_entry entries[4]
    entries[0].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
    entries[0].value = settings.streams_max
    entries[1].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    entries[1].value = settings.window_size // 4
    entries[2].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    entries[2].value = settings.header_size_max
    entries[3].settings_id = NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES
    entries[3].value = 1
    return (
        nghttp2_submit_settings(c.session, NGHTTP2_FLAG_NONE, entries, 4) == 0
        and nghttp2_session_set_local_window_size(c.session, NGHTTP2_FLAG_NONE, 0, <int32_t>settings.window_size) == 0
    )


cdef void connection_free(Connection* c) noexcept nogil:
    """Gives everything back. After events_clear, never inside a callback; nothing of it may be left over."""
    cdef uint32_t slot
    USHER_ASSERT(c.events == NULL)
    for slot in range(c.slot_count):
        if c.streams[slot].stream_id != 0:
            stream_free(c, slot)
    counted_free(c.streams, &c.memory)
    nghttp2_session_del(c.session)
    c.streams = NULL
    c.session = NULL
    USHER_ASSERT(c.memory.count == 0 and c.memory.size == 0 and c.buffered_size == 0)


# --- bytes in -------------------------------------------------------------------------------------------------------------------

cdef size_t feed(Connection* c, int64_t now, const uint8_t* data, size_t size, H2Events* events) noexcept nogil:
    """Reads bytes into events; how many it took: fewer when the events are full, then again with the rest.

    `data` must stay as it is until events_clear: messages point into it. After H2_OVER all bytes are thrown away.
    """
    cdef size_t taken = 0
    cdef size_t slice_size
    c.now = max(c.now, now)
    if c.is_over:
        return size
    events_lend(c, events)
    while taken < size and not c.is_over and events.count + <uint32_t>EVENTS_OF_SLICE <= H2_EVENTS_MAX:
        slice_size = min(size - taken, <size_t>H2_FEED_SLICE_SIZE)
        feed_slice(c, data + taken, slice_size)
        taken += slice_size
    held_keep(c)
    c.server.totals.bytes_received += taken
    c.events = NULL
    return size if c.is_over else taken


cdef void feed_slice(Connection* c, const uint8_t* data, size_t size) noexcept nogil:
    cdef ssize_t answer = nghttp2_session_mem_recv(c.session, data, size)
    if answer < 0:
        feed_failed(c, <int>answer)
    elif nghttp2_session_get_outbound_queue_size(c.session) > H2_OUTBOUND_FRAMES_MAX + 2 * <size_t>c.server.settings.streams_max:
        connection_end(c, CAUSE_QUEUE, NGHTTP2_ENHANCE_YOUR_CALM)


cdef void feed_failed(Connection* c, int answer) noexcept nogil:
    """nghttp2 has returned an error: a breach of ours that it passed on, or its own."""
    if c.cause != CAUSE_NONE:
        connection_end(c, c.cause, c.breach_code)
    elif answer == NGHTTP2_ERR_NOMEM:
        connection_end(c, CAUSE_MEMORY, NGHTTP2_ENHANCE_YOUR_CALM)
    elif answer == NGHTTP2_ERR_FLOODED:
        connection_end(c, CAUSE_QUEUE, NGHTTP2_ENHANCE_YOUR_CALM)
    else:
        connection_end(c, CAUSE_PROTOCOL, NGHTTP2_PROTOCOL_ERROR)


# --- bytes out ------------------------------------------------------------------------------------------------------------------

cdef size_t output(Connection* c, int64_t now, uint8_t* target, size_t capacity, H2Events* events) noexcept nogil:
    """What is to be sent, as far as it fits; its size. Less than `capacity`: nothing more for now, or events are full."""
    cdef size_t fill = 0
    cdef size_t size
    c.now = max(c.now, now)
    events_lend(c, events)
    if c.is_drain_answered:
        c.is_drain_answered = False
        drain_finish(c)
    while fill < capacity and output_next(c):
        size = min(c.pending_size, capacity - fill)
        memcpy(target + fill, c.pending, size)
        c.pending += size
        c.pending_size -= size
        fill += size
    if c.goaway_code != 0:          # nghttp2 found a protocol error by itself
        connection_end(c, CAUSE_PROTOCOL, c.goaway_code)
    if c.full_count != 0 and not c.is_over:
        tell_writable(c)
    if c.stream_count == 0 and c.slot_count > SLOTS_KEPT:
        slots_release(c)
    c.server.totals.bytes_sent += fill
    c.events = NULL
    return fill


cdef bint output_next(Connection* c) noexcept nogil:
    """Whether framed bytes are at hand; asks nghttp2 for the next frame when not."""
    cdef ssize_t answer
    if c.pending_size != 0:
        return True
    if c.is_dead or c.events.count + EVENTS_SPARE > H2_EVENTS_MAX:
        return False
    answer = nghttp2_session_mem_send(c.session, &c.pending)
    if answer < 0:
        c.is_dead = True
        connection_end(c, CAUSE_MEMORY, NGHTTP2_INTERNAL_ERROR)
        return False
    c.pending_size = <size_t>answer
    return answer != 0


cdef inline bint want_write(Connection* c) noexcept nogil:
    return c.pending_size != 0 or (not c.is_dead and nghttp2_session_want_write(c.session) != 0)


cdef inline bint can_close(Connection* c) noexcept nogil:
    """Nothing is left to send, and nothing that could come would be answered."""
    return not want_write(c) and (c.is_over or nghttp2_session_want_read(c.session) == 0)


# --- going away ------------------------------------------------------------------------------------------------------------------

cdef void drain(Connection* c, int64_t now) noexcept nogil:
    """Asks the peer to send no new calls. Those under way go on; the last word comes a round trip later, so that calls
    that were sent meanwhile are served, not lost."""
    c.now = max(c.now, now)
    if c.is_draining or c.is_over:
        return
    c.is_draining = True
    c.drain_due = c.now + c.server.settings.drain_ns
    nghttp2_submit_shutdown_notice(c.session)
    nghttp2_submit_ping(c.session, NGHTTP2_FLAG_NONE, DRAIN_PING)


cdef void drain_finish(Connection* c) noexcept nogil:
    """The last word: calls up to here are served, later ones were not seen.

    Said right before it is framed: a call that is taken between the two would be carried out, and its peer told that it was not.
    """
    if c.drain_due == INT64_MAX:
        return
    c.drain_due = INT64_MAX
    nghttp2_submit_goaway(
        c.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c.session), NGHTTP2_NO_ERROR, NULL, 0)


# --- time -------------------------------------------------------------------------------------------------------------------------

cdef int64_t next_due(Connection* c) noexcept nogil:
    """When on_time has something to do at the earliest; INT64_MAX: never."""
    cdef int64_t due
    if c.is_over:
        return INT64_MAX
    due = min(min(c.preface_due, c.headers_due), min(c.drain_due, c.streams_due))
    return min(due, c.idle_due) if c.stream_count == 0 else due


cdef void on_time(Connection* c, int64_t now, H2Events* events) noexcept nogil:
    """Ends what is due by now."""
    c.now = max(c.now, now)
    if c.now < next_due(c):
        return
    events_lend(c, events)
    if c.preface_due <= c.now:
        connection_end(c, CAUSE_PREFACE_LATE, NGHTTP2_SETTINGS_TIMEOUT)
    elif c.headers_due <= c.now:
        connection_end(c, CAUSE_HEADERS_LATE, NGHTTP2_ENHANCE_YOUR_CALM)
    elif c.stream_count == 0 and c.idle_due <= c.now:
        connection_end(c, CAUSE_IDLE, NGHTTP2_NO_ERROR)
    else:
        if c.drain_due <= c.now:
            drain_finish(c)
        if c.streams_due <= c.now:
            streams_on_time(c)
    c.events = NULL


cdef void streams_on_time(Connection* c) noexcept nogil:
    """Ends the late calls, and finds when the next will be. A scan of the table, at most once for each such time."""
    cdef uint32_t slot
    cdef Stream* s
    cdef int64_t next_one = INT64_MAX
    for slot in range(c.slot_count):
        s = &c.streams[slot]
        if s.stream_id == 0 or s.is_finished:
            continue
        if min(s.deadline, s.body_due) <= c.now and c.events.count + EVENTS_SPARE <= H2_EVENTS_MAX:
            stream_late(c, slot)
        else:
            next_one = min(next_one, min(s.deadline, s.body_due))
    c.streams_due = next_one


cdef void stream_late(Connection* c, uint32_t slot) noexcept nogil:
    cdef const char* sentence = "the deadline has passed"
    cdef H2Event* event
    c.server.totals.causes[CAUSE_LATE] += 1
    if c.streams[slot].body_due <= c.now:
        sentence = "the request did not come in time"
    if c.streams[slot].is_known:
        event = tell_of(c, slot, H2_CANCELLED)
        event.cause = CAUSE_LATE
        event.code = NGHTTP2_CANCEL
    say_finish(
        c, stream_name(c, slot), GRPC_DEADLINE_EXCEEDED, <const uint8_t*>sentence, <uint32_t>strlen(sentence), NULL, 0)
