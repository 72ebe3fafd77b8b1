# The head of a call: which headers it must have, which are kept, and how a call that is none is turned away.

cdef enum:
    NO_METHOD = 0xFFFF
    CONTENT_POST = 1                # :method is POST
    CONTENT_GRPC = 2                # content-type is application/grpc, alone or with +proto
    HEADER_OVERHEAD = 32            # of one header in a header list's size (RFC 9113, 6.5.2)
    HEADER_BREACH = 4               # times the bound: no refusal of one call any more, the connection ends


cdef uint16_t method_find(const Server* server, const uint8_t* path, size_t size) noexcept nogil:
    """By size and bytes: among the few methods of a service that is one comparison, mostly."""
    cdef uint32_t i
    for i in range(server.method_count):
        if server.methods[i].path_size == size and memcmp(server.methods[i].path, path, size) == 0:
            return <uint16_t>i
    return <uint16_t>NO_METHOD


cdef bint is_grpc_content(const uint8_t* value, size_t size) noexcept nogil:
    if not starts_with(value, size, "application/grpc"):
        return False
    return size == 16 or value[16] == c';' or is_named(value + 16, size - 16, "+proto") or starts_with(value + 16, size - 16, "+proto;")


cdef void header_take(Connection* c, Stream* s, const uint8_t* name, size_t name_size, const uint8_t* value, size_t size) noexcept nogil:
    """One header of a request. te is not asked for: nghttp2 refuses wrong ones, and its absence does no harm."""
    if is_named(name, name_size, ":path"):
        s.method = method_find(c.server, value, size)
    elif is_named(name, name_size, ":method"):
        s.content |= CONTENT_POST if is_named(value, size, "POST") else 0
    elif is_named(name, name_size, "content-type"):
        s.content |= CONTENT_GRPC if is_grpc_content(value, size) else 0
    elif is_named(name, name_size, "grpc-timeout"):
        timeout_take(c, s, timeout_read(value, size))
    elif is_named(name, name_size, "grpc-encoding"):
        s.is_encoded = not is_named(value, size, "identity")
    elif is_named(name, name_size, "authorization"):
        if c.server.settings.is_authorization_kept:
            metadata_keep(c, s, name, name_size, value, size)
    elif c.server.settings.is_metadata_kept and is_of_user(name, name_size):
        metadata_keep(c, s, name, name_size, value, size)


cdef bint is_of_user(const uint8_t* name, size_t size) noexcept nogil:
    return not (
        size == 0 or name[0] == c':' or starts_with(name, size, "grpc-") or is_named(name, size, "te")
        or is_named(name, size, "user-agent")
    )


cdef void timeout_take(Connection* c, Stream* s, int64_t timeout_ns) noexcept nogil:
    if timeout_ns < 0:
        s.verdict = GRPC_INTERNAL
    else:
        s.deadline = c.now + timeout_ns if timeout_ns < INT64_MAX - c.now else INT64_MAX


cdef void metadata_keep(Connection* c, Stream* s, const uint8_t* name, size_t name_size, const uint8_t* value, size_t size) noexcept nogil:
    """Appends a pair: both sizes, then both. The list's bound bounds it; -bin values stay in base64."""
    cdef uint16_t sizes[2]
    cdef uint32_t needed = <uint32_t>(name_size + size) + 4
    cdef uint8_t* grown = <uint8_t*>counted_realloc(s.metadata, s.metadata_size + needed, &c.memory)
    if grown == NULL or name_size > UINT16_MAX or size > UINT16_MAX:
        s.metadata = grown if grown != NULL else s.metadata
        s.verdict = GRPC_RESOURCE_EXHAUSTED
        return
    s.metadata = grown
    sizes[0] = <uint16_t>name_size
    sizes[1] = <uint16_t>size
    memcpy(grown + s.metadata_size, sizes, 4)
    memcpy(grown + s.metadata_size + 4, name, name_size)
    memcpy(grown + s.metadata_size + 4 + name_size, value, size)
    s.metadata_size += needed


cdef void due_at(Connection* c, int64_t due) noexcept nogil:
    c.streams_due = min(c.streams_due, due)


cdef void request_begin(Connection* c, uint32_t slot) noexcept nogil:
    """The headers are complete: the call is taken on, or turned away as gRPC says."""
    cdef Stream* s = &c.streams[slot]
    if s.content & CONTENT_POST == 0:
        refuse_http(c, slot, "405")
    elif s.content & CONTENT_GRPC == 0:
        refuse_http(c, slot, "415")
    elif s.verdict == GRPC_RESOURCE_EXHAUSTED:
        refuse(c, slot, GRPC_RESOURCE_EXHAUSTED, "the request's headers are too large")
    elif s.method == NO_METHOD:
        refuse(c, slot, GRPC_UNIMPLEMENTED, "unknown method")
    elif s.verdict != GRPC_OK:
        refuse(c, slot, s.verdict, "grpc-timeout is malformed")
    else:
        s.shape = c.server.methods[s.method].shape
        if s.shape & SHAPE_CLIENT_STREAM:
            tell_of(c, slot, H2_STARTED)
        else:
            s.body_due = c.now + c.server.settings.body_ns
        due_at(c, min(s.deadline, s.body_due))


cdef void refuse(Connection* c, uint32_t slot, uint32_t status, const char* sentence) noexcept nogil:
    """Finishes a call by ourselves; who has heard of it is told that it is gone."""
    cdef H2Event* event
    if c.streams[slot].is_finished:
        return
    if c.streams[slot].is_known:
        event = tell_of(c, slot, H2_CANCELLED)
        event.cause = CAUSE_PROTOCOL
        event.code = NGHTTP2_PROTOCOL_ERROR
        c.server.totals.cancelled += 1
    say_finish(c, stream_name(c, slot), status, <const uint8_t*>sentence, <uint32_t>strlen(sentence), NULL, 0)


cdef void refuse_http(Connection* c, uint32_t slot, const char* status) noexcept nogil:
    """What is no gRPC gets an HTTP status and no more."""
    cdef nghttp2_nv header
    stream_finish(c, &c.streams[slot], GRPC_INTERNAL)
    nv_literal(&header, ":status", status)
    nghttp2_submit_response(c.session, c.streams[slot].stream_id, &header, 1, NULL)
