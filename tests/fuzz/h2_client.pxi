# The client's side of a fuzzed connection: frames made to a script, and what the server sends read and checked.
#
# Header blocks come from nghttp2's own deflater, so that they are valid until the script damages them; everything else is made by
# hand, since a real client would refuse to say what is wrong. While the script has been honest the server's header blocks must
# inflate.

cdef extern from "<nghttp2/nghttp2.h>" nogil:
    ctypedef struct nghttp2_hd_deflater:
        pass
    ctypedef struct nghttp2_hd_inflater:
        pass
    int nghttp2_hd_deflate_new(nghttp2_hd_deflater** deflater, size_t size_max)
    void nghttp2_hd_deflate_del(nghttp2_hd_deflater* deflater)
    ssize_t nghttp2_hd_deflate_hd(nghttp2_hd_deflater*, uint8_t* target, size_t size, const nghttp2_nv*, size_t count)
    size_t nghttp2_hd_deflate_bound(nghttp2_hd_deflater*, const nghttp2_nv*, size_t count)
    int nghttp2_hd_inflate_new(nghttp2_hd_inflater** inflater)
    void nghttp2_hd_inflate_del(nghttp2_hd_inflater* inflater)
    ssize_t nghttp2_hd_inflate_hd2(nghttp2_hd_inflater*, nghttp2_nv*, int* flags, const uint8_t*, size_t, int is_final)
    int nghttp2_hd_inflate_end_headers(nghttp2_hd_inflater*)
    int NGHTTP2_HD_INFLATE_EMIT
    int NGHTTP2_HD_INFLATE_FINAL

cdef extern from *:
    """
    static uint8_t harness_outbox[524288];
    static const char harness_preface[] = "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0";
    static const char *const harness_paths[8] = {
        "/s/Unary", "/s/Watch", "/s/Send", "/s/Talk", "/s/Nothing", "/", "", "/s/Unary"};
    static const char *const harness_contents[4] = {
        "application/grpc", "application/grpc+proto", "application/grpc;x", "text/plain"};
    static const char *const harness_timeouts[8] = {"1S", "100m", "1n", "99999999H", "0S", "", "1", "123456789S"};
    """
    uint8_t OUTBOX "harness_outbox"[524288]
    const uint8_t PREFACE "harness_preface"[34]
    const char* const PATHS "harness_paths"[8]
    const char* const CONTENTS "harness_contents"[4]
    const char* const TIMEOUTS "harness_timeouts"[8]

cdef enum:
    PREFACE_SIZE = 33               # with an empty SETTINGS
    OUTBOX_SIZE = 524288
    FRAME_HEAD_SIZE = 9
    FRAME_SIZE_MAX = 16384
    EXTRA_HEADERS_MAX = 24
    REQUEST_HEADERS_MAX = 9 + EXTRA_HEADERS_MAX

cdef struct Client:
    uint8_t* outbox                 # said and not yet delivered
    uint32_t outbox_size
    uint32_t next_stream
    nghttp2_hd_deflater* deflater
    nghttp2_hd_inflater* inflater
    bint is_honest                  # nothing was damaged, and no setting was changed
    uint8_t head[FRAME_HEAD_SIZE]   # of the server's frame that is being read
    uint32_t head_size
    uint32_t payload_left
    uint64_t frames_read


cdef void client_begin(Client* client) noexcept nogil:
    memset(client, 0, sizeof(Client))
    client.outbox = OUTBOX
    client.next_stream = 1
    client.is_honest = True
    USHER_ASSERT(nghttp2_hd_deflate_new(&client.deflater, 4096) == 0 and nghttp2_hd_inflate_new(&client.inflater) == 0)


cdef void client_end(Client* client) noexcept nogil:
    nghttp2_hd_deflate_del(client.deflater)
    nghttp2_hd_inflate_del(client.inflater)


# --- frames --------------------------------------------------------------------------------------------------------------

cdef void put_raw(Client* client, const void* data, uint32_t size) noexcept nogil:
    """What does not fit is not said: then the next delivery makes room."""
    if size == 0 or client.outbox_size + size > OUTBOX_SIZE:
        return
    memcpy(client.outbox + client.outbox_size, data, size)
    client.outbox_size += size


cdef void put_frame(Client* client, uint8_t kind, uint8_t flags, uint32_t stream, const void* payload, uint32_t size) noexcept nogil:
    cdef uint8_t head[FRAME_HEAD_SIZE]
    if client.outbox_size + FRAME_HEAD_SIZE + size > OUTBOX_SIZE:
        return
    head[0] = <uint8_t>(size >> 16)
    head[1] = <uint8_t>(size >> 8)
    head[2] = <uint8_t>size
    head[3] = kind
    head[4] = flags
    head[5] = <uint8_t>(stream >> 24)
    head[6] = <uint8_t>(stream >> 16)
    head[7] = <uint8_t>(stream >> 8)
    head[8] = <uint8_t>stream
    put_raw(client, head, FRAME_HEAD_SIZE)
    put_raw(client, payload, size)


cdef void put_number_frame(Client* client, uint8_t kind, uint32_t stream, uint32_t number) noexcept nogil:
    """RST_STREAM or WINDOW_UPDATE."""
    cdef uint8_t payload[4]
    payload[0] = <uint8_t>(number >> 24)
    payload[1] = <uint8_t>(number >> 16)
    payload[2] = <uint8_t>(number >> 8)
    payload[3] = <uint8_t>number
    put_frame(client, kind, 0, stream, payload, 4)


cdef uint32_t take_stream(Client* client, Script* script) noexcept nogil:
    """One that was begun, mostly the newest; seldom one that was not."""
    cdef uint32_t back = take_byte(script)
    if back == 255:
        return client.next_stream + 2 * take_below(script, 8)
    return client.next_stream - 2 - 2 * back if client.next_stream > 2 + 2 * back else 1


cdef void nv_plain(nghttp2_nv* nv, const char* name, const char* value) noexcept nogil:
    nv.name = <uint8_t*>name
    nv.namelen = strlen(name)
    nv.value = <uint8_t*>value
    nv.valuelen = strlen(value)
    nv.flags = NGHTTP2_FLAG_NONE


cdef uint32_t take_headers(Script* script, nghttp2_nv* list) noexcept nogil:
    """A request's header list: right but for what two bytes of the script change."""
    cdef uint8_t kinds = take_byte(script)
    cdef uint8_t extras = take_byte(script)
    cdef uint32_t count = 5
    cdef uint32_t i
    nv_plain(&list[0], ":method", "GET" if kinds & 0x80 else "POST")
    nv_plain(&list[1], ":scheme", "http")
    nv_plain(&list[2], ":path", PATHS[kinds & 7])
    nv_plain(&list[3], ":authority", "broker")
    nv_plain(&list[4], "te", "trailers")
    if kinds & 0x70 != 0x70:
        nv_plain(&list[count], "content-type", CONTENTS[(kinds >> 4) & 3])
        count += 1
    if extras & 1:
        nv_plain(&list[count], "grpc-timeout", TIMEOUTS[take_below(script, 8)])
        count += 1
    if extras & 2:
        nv_plain(&list[count], "grpc-encoding", "gzip" if extras & 0x40 else "identity")
        count += 1
    if extras & 4:
        nv_plain(&list[count], "authorization", "Bearer 0123456789abcdef")
        count += 1
    if extras & 8:
        for i in range(take_below(script, EXTRA_HEADERS_MAX)):
            nv_plain(&list[count], "x-filler", "v")
            list[count].value = FILLER
            list[count].valuelen = take_byte(script) * 16
            count += 1
    return count


cdef void say_request(Client* client, Script* script) noexcept nogil:
    """HEADERS of a new or an old stream, whole or cut into CONTINUATIONs."""
    cdef nghttp2_nv list[REQUEST_HEADERS_MAX]
    cdef uint8_t flags = take_byte(script)
    cdef uint32_t count = take_headers(script, list)
    cdef uint32_t stream = client.next_stream
    cdef size_t size_max = nghttp2_hd_deflate_bound(client.deflater, list, count)
    cdef uint8_t* block = <uint8_t*>malloc(size_max)
    cdef ssize_t size = nghttp2_hd_deflate_hd(client.deflater, block, size_max, list, count)
    cdef uint32_t cut
    USHER_ASSERT(size > 0)
    if flags & 2 and client.next_stream > 1:
        stream = take_stream(client, script)
    else:
        client.next_stream += 2
    if flags & 4:
        cut = <uint32_t>(take_below(script, 255) * size // 255)
        put_frame(client, NGHTTP2_HEADERS, flags & 1, stream, block, cut)
        put_frame(client, NGHTTP2_CONTINUATION, 0 if flags & 8 else 4, stream, block + cut, <uint32_t>size - cut)
    else:
        put_frame(client, NGHTTP2_HEADERS, (flags & 1) | (0 if flags & 8 else 4), stream, block, <uint32_t>size)
    free(block)


cdef void say_data(Client* client, Script* script) noexcept nogil:
    """DATA with a message behind its prefix, or a piece of one, or what is none."""
    cdef uint8_t kind = take_byte(script)
    cdef uint32_t stream = take_stream(client, script)
    cdef uint32_t size = take_short(script) % (FRAME_SIZE_MAX + 16)
    cdef uint32_t claimed = size
    cdef uint8_t* payload = <uint8_t*>malloc(size + 5)
    memset(payload, 0x5A, size + 5)
    if kind & 6 == 2:
        claimed = size + take_short(script)
    elif kind & 6 == 4:
        claimed = size // 2
    if kind & 8:
        put_frame(client, NGHTTP2_DATA, kind & 1, stream, payload, size)
    else:
        payload[0] = (kind >> 4) & 1
        payload[1] = 0xFF if kind & 0xC0 == 0xC0 else 0
        payload[2] = <uint8_t>(claimed >> 16)
        payload[3] = <uint8_t>(claimed >> 8)
        payload[4] = <uint8_t>claimed
        put_frame(client, NGHTTP2_DATA, kind & 1, stream, payload, size + 5)
    free(payload)


# --- what the server sends -----------------------------------------------------------------------------------------------

cdef void check_block(Client* client, const uint8_t* block, size_t size, bint is_end) noexcept nogil:
    cdef nghttp2_nv one
    cdef int flags
    cdef ssize_t taken
    while client.is_honest:
        flags = 0
        taken = nghttp2_hd_inflate_hd2(client.inflater, &one, &flags, block, size, is_end)
        USHER_ASSERT(taken >= 0)
        block += taken
        size -= taken
        if flags & NGHTTP2_HD_INFLATE_FINAL:
            nghttp2_hd_inflate_end_headers(client.inflater)
            return
        if not flags & NGHTTP2_HD_INFLATE_EMIT and size == 0:
            return


cdef void check_frame(Client* client, const uint8_t* payload, uint32_t size) noexcept nogil:
    """One that has come whole in one piece of output."""
    cdef uint8_t kind = client.head[3]
    USHER_ASSERT(kind <= NGHTTP2_CONTINUATION)
    if kind == NGHTTP2_HEADERS or kind == NGHTTP2_CONTINUATION:
        check_block(client, payload, size, client.head[4] & 4 != 0)


cdef void read_output(Client* client, const uint8_t* data, size_t size) noexcept nogil:
    """Frame by frame; one that is cut is counted through, and from then on header blocks are no longer looked at."""
    cdef uint32_t taken
    while size != 0:
        if client.head_size < FRAME_HEAD_SIZE:
            taken = <uint32_t>min(size, <size_t>(FRAME_HEAD_SIZE - client.head_size))
            memcpy(client.head + client.head_size, data, taken)
            client.head_size += taken
            client.payload_left = (<uint32_t>client.head[0] << 16) | (<uint32_t>client.head[1] << 8) | client.head[2]
            data += taken
            size -= taken
            if client.head_size < FRAME_HEAD_SIZE:
                return
            USHER_ASSERT(client.payload_left <= FRAME_SIZE_MAX)
            if client.payload_left <= size:
                check_frame(client, data, client.payload_left)
            else:
                client.is_honest = False
        taken = <uint32_t>min(size, <size_t>client.payload_left)
        data += taken
        size -= taken
        client.payload_left -= taken
        if client.payload_left != 0:
            return
        client.head_size = 0
        client.frames_read += 1
