# Requests and answers as protobuf: templates that are filled in, and just enough reading to know what an answer says.
#
# A template is a whole request behind its gRPC prefix, encoded once by Python; here only its random and numbered places are
# written: the request id, the session id, the user's ten hexadecimal digits. Fields: proto/broker/v1/sessions.proto.

cdef void digits_put(uint8_t* target, uint64_t number) noexcept nogil:
    """The low 40 bits as ten hexadecimal digits: a user's name."""
    cdef int i
    cdef uint8_t digit
    for i in range(9, -1, -1):
        digit = <uint8_t>(number & 15)
        target[i] = digit + (48 if digit < 10 else 87)
        number >>= 4


cdef inline void request_id_put(uint8_t* target, uint64_t nonce, uint64_t serial) noexcept nogil:
    """The nonce of the run and a number: never the same twice."""
    memcpy(target, &nonce, 8)
    memcpy(target + 8, &serial, 8)


cdef void body_make(Storm* storm, Slot* slot, const Template* template, const uint8_t* session) noexcept nogil:
    """A fresh request of a step; that of a repeated step stays as it is."""
    cdef uint64_t nonce = storm.plan.pool_nonce if template == &storm.pool_open else storm.plan.nonce
    cdef uint64_t serial
    memcpy(slot.body, template.bytes, template.size)
    slot.body_size = <uint16_t>template.size
    if template.session_at:
        memcpy(slot.body + template.session_at, session, STORM_SESSION_SIZE)
    if template.request_id_at:
        if template == &storm.pool_open:
            serial = storm.pool_asked
        else:
            storm.serial += 1
            serial = storm.serial
        request_id_put(slot.body + template.request_id_at, nonce, serial)
        if template.user_at:
            digits_put(slot.body + template.user_at, serial + (nonce << 32))


# --- reading ---------------------------------------------------------------------------------------------------------------

cdef struct Field:
    uint32_t number
    uint64_t value                  # of a varint
    const uint8_t* data             # of a span; NULL for a varint
    uint32_t size


cdef int varint_read(const uint8_t** at, const uint8_t* end, uint64_t* value) noexcept nogil:
    cdef int shift = 0
    cdef uint8_t byte
    value[0] = 0
    while at[0] < end and shift < 64:
        byte = at[0][0]
        value[0] |= <uint64_t>(byte & 127) << shift
        at[0] += 1
        if byte < 128:
            return 1
        shift += 7
    return 0


cdef int field_read(const uint8_t** at, const uint8_t* end, Field* field) noexcept nogil:
    """1 and the next field, 0 at the end, -1 if these bytes are no protobuf. Fixed-size fields are given as spans."""
    cdef uint64_t tag, size
    if at[0] == end:
        return 0
    if not varint_read(at, end, &tag) or tag >> 3 == 0 or tag >> 3 > 0x1FFFFFFF:
        return -1
    field.number = <uint32_t>(tag >> 3)
    field.data = NULL
    if tag & 7 == 0:
        return 1 if varint_read(at, end, &field.value) else -1
    if tag & 7 == 1:
        size = 8
    elif tag & 7 == 5:
        size = 4
    elif tag & 7 != 2 or not varint_read(at, end, &size):
        return -1
    if size > <uint64_t>(end - at[0]):
        return -1
    field.data = at[0]
    field.size = <uint32_t>size
    at[0] += size
    return 1


cdef struct Reading:                # what an answer says
    uint32_t which                  # the number of the oneof's field; 0: none
    const uint8_t* session          # 32 bytes, or NULL
    uint64_t is_replayed
    uint64_t reason                 # of a denial or an end
    const uint8_t* text             # a denial's sentence
    uint32_t text_size


cdef bint inner_read(const Field* outer, uint32_t replayed_number, Reading* reading) noexcept nogil:
    """The message inside the oneof: a grant, a denial, an end."""
    cdef const uint8_t* at = outer.data
    cdef Field field
    cdef int found
    while True:
        found = field_read(&at, outer.data + outer.size, &field)
        if found <= 0:
            return found == 0
        if field.number == 1 and field.data != NULL and field.size == STORM_SESSION_SIZE:
            reading.session = field.data
        elif field.number == 1 and field.data == NULL:
            reading.reason = field.value
        elif field.number == replayed_number and field.data == NULL:
            reading.is_replayed = field.value
        elif field.number == 2 and field.data == NULL:
            reading.reason = field.value    # of SessionEnded
        elif field.number == 10 and field.data != NULL:
            reading.text = field.data
            reading.text_size = field.size


cdef bint oneof_read(const uint8_t* data, uint32_t size, uint32_t replayed_number, Reading* reading) noexcept nogil:
    """OpenResponse and AcquireResponse. False: not well-formed."""
    cdef const uint8_t* at = data
    cdef Field field
    cdef int found
    memset(reading, 0, sizeof(Reading))
    while True:
        found = field_read(&at, data + size, &field)
        if found <= 0:
            return found == 0
        if field.data == NULL or field.number > 3:
            continue
        reading.which = field.number
        if not inner_read(&field, replayed_number if field.number == 1 else 0, reading):
            return False


cdef bint close_read(const uint8_t* data, uint32_t size, Reading* reading) noexcept nogil:
    """CloseResponse. False: not well-formed."""
    cdef const uint8_t* at = data
    cdef Field field
    cdef int found
    memset(reading, 0, sizeof(Reading))
    while True:
        found = field_read(&at, data + size, &field)
        if found <= 0:
            return found == 0
        if field.number == 1 and field.data == NULL:
            reading.reason = field.value
        elif field.number == 2 and field.data == NULL:
            reading.is_replayed = field.value


cdef bint is_protobuf(const uint8_t* data, uint32_t size) noexcept nogil:
    cdef const uint8_t* at = data
    cdef Field field
    cdef int found = 1
    while found > 0:
        found = field_read(&at, data + size, &field)
    return found == 0


# --- the reason of a status ----------------------------------------------------------------------------------------------------

cdef int sextet(uint8_t letter) noexcept nogil:
    if 65 <= letter <= 90:
        return letter - 65
    if 97 <= letter <= 122:
        return letter - 71
    if 48 <= letter <= 57:
        return letter + 4
    return 62 if letter == 43 else 63 if letter == 47 else -1


cdef uint32_t base64_read(const uint8_t* text, uint32_t size, uint8_t* target) noexcept nogil:
    """Bytes of it, up to the first letter that is none; the target has room for size."""
    cdef uint32_t i, fill = 0, bits = 0, held = 0
    cdef int six
    for i in range(size):
        six = sextet(text[i])
        if six < 0:
            break
        held = (held << 6) | <uint32_t>six
        bits += 6
        if bits >= 8:
            bits -= 8
            target[fill] = <uint8_t>(held >> bits)
            fill += 1
    return fill


cdef bint span_find(const uint8_t* data, uint32_t size, uint32_t number, Field* found) noexcept nogil:
    """The first span with a number."""
    cdef const uint8_t* at = data
    while field_read(&at, data + size, found) == 1:
        if found.number == number and found.data != NULL:
            return True
    return False


cdef void reason_count(Storm* storm, const uint8_t* name, uint32_t size) noexcept nogil:
    cdef uint32_t i
    size = min(size, <uint32_t>STORM_REASON_SIZE - 1)
    for i in range(storm.reason_count):
        if strlen(storm.reasons[i].name) == size and memcmp(storm.reasons[i].name, name, size) == 0:
            storm.reasons[i].count += 1
            return
    if storm.reason_count < STORM_REASONS_MAX:
        memcpy(storm.reasons[storm.reason_count].name, name, size)
        storm.reasons[storm.reason_count].name[size] = 0
        storm.reasons[storm.reason_count].count = 1
        storm.reason_count += 1


cdef bint reason_read(Storm* storm, Field* reason) noexcept nogil:
    """google.rpc.Status: details (3) are Any; its value (2) is an ErrorInfo, whose reason is field 1."""
    cdef uint32_t size = base64_read(storm.note.details, storm.note.details_size, storm.details)
    cdef Field field
    if not span_find(storm.details, size, 3, &field) or not span_find(field.data, field.size, 2, &field):
        return False
    if not span_find(field.data, field.size, 1, reason):
        return False
    reason_count(storm, reason.data, reason.size)
    return True
