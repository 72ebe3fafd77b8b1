# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A whole server connection under a script, for sanitizers: a C unit in which Python never starts.

Built and run by tools/fuzz.py. An input is a script: what the client says (valid, damaged, or any bytes), how it is cut into feeds, when time
goes by, how much output is taken, what is answered to which call, drains. Bytes are fed from memory of exactly their size, which is given
back as early as the layer allows. Besides what the sanitizers see, these must hold after every step:

* the counters of a connection are what a recount of its streams says, within its settings; nothing is left when it is freed;
* a call's events come in order: none after its last message, half close or cancellation but those that may follow;
* an answer to a call that is gone is said to nobody;
* what on_time was to do is done: the next due time lies ahead.
"""

from libc.stdint cimport INT64_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strlen

include "h2.pxi"
include "script.pxi"

cdef extern from *:
    """
    static uint8_t harness_filler[400000];
    """
    uint8_t FILLER "harness_filler"[400000]

include "h2_client.pxi"

cdef enum:  # Step
    STEP_REQUEST = 0
    STEP_DATA = 1
    STEP_DELIVER = 2
    STEP_ANSWER = 3
    STEP_OUTPUT = 4
    STEP_TIME = 5
    STEP_RAW = 6
    STEP_FRAME = 7
    STEP_SETTINGS = 8
    STEP_PING = 9
    STEP_RESET = 10
    STEP_WINDOW = 11
    STEP_DAMAGE = 12
    STEP_DRAIN = 13
    STEP_WHOLE_CALL = 14
    STEP_REPEAT = 15
    STEP_COUNT = 16
    CALLS_MAX = 256
    STEPS_MAX = 2000                # of one input, repeats included
    REPEATS_MAX = 600
    WAITING_ANSWERS = 16

cdef enum:  # what is known of a call
    CALL_OPEN = 1                   # its request goes on
    CALL_COMPLETE = 2               # its request has ended
    CALL_GONE = 3                   # nothing may be told of it any more

cdef struct Call:
    uint64_t name
    uint8_t state

cdef struct World:
    Server server
    Connection c
    Client client
    H2Events* events
    Script script
    int64_t now
    uint32_t call_count
    uint32_t step_count
    bint is_answering               # each whole request at once
    bint is_clearing_late           # answers are said while the events still stand
    Call calls[CALLS_MAX]


cdef H2Events events                # of all runs: large, and asked for once


# --- checks --------------------------------------------------------------------------------------------------------------

cdef void audit(World* w) noexcept nogil:
    """A recount, while no event is out."""
    cdef Connection* c = &w.c
    cdef Stream* s
    cdef uint32_t slot
    cdef uint32_t live = 0
    cdef uint32_t full = 0
    cdef uint32_t free_count = 0
    cdef uint64_t buffered = 0
    for slot in range(c.slot_count):
        s = &c.streams[slot]
        if s.stream_id == 0:
            continue
        live += 1
        full += s.is_full
        buffered += s.output_capacity
        buffered += s.message_size if s.message != NULL or s.is_held_owned else 0
        USHER_ASSERT(s.output_head <= s.output_fill <= s.output_capacity and (s.message == NULL or not s.is_held))
        if not s.is_finished and not c.is_over and (s.is_known or s.body_due != INT64_MAX):    # its headers are complete
            USHER_ASSERT(c.streams_due <= min(s.deadline, s.body_due))
    slot = c.first_free
    while slot != NO_SLOT:
        USHER_ASSERT(slot < c.slot_count and c.streams[slot].stream_id == 0)
        slot = c.streams[slot].next_free
        free_count += 1
        USHER_ASSERT(free_count <= c.slot_count)
    USHER_ASSERT(live == c.stream_count and full == c.full_count and buffered == c.buffered_size)
    USHER_ASSERT(live + free_count == c.slot_count and c.first_held == NO_SLOT and c.events == NULL)
    USHER_ASSERT(c.slot_count <= w.server.settings.streams_max and c.memory.size <= c.memory.size_max)
    USHER_ASSERT(c.buffered_size <= w.server.settings.buffered_size_max)


cdef Call* call_of(World* w, uint64_t name) noexcept nogil:
    """What is known of a call; from the first event on. Old ones are forgotten in turn."""
    cdef uint32_t i = w.call_count
    cdef Call* call
    while i > 0 and w.call_count - i < CALLS_MAX:
        i -= 1
        if w.calls[i % CALLS_MAX].name == name:
            return &w.calls[i % CALLS_MAX]
    call = &w.calls[w.call_count % CALLS_MAX]
    w.call_count += 1
    call.name = name
    call.state = CALL_OPEN
    return call


cdef void check_event(World* w, const H2Event* event) noexcept nogil:
    """It stands to reason, and its bytes can be read."""
    cdef Call* call
    cdef uint32_t i
    cdef uint32_t sum = 0
    for i in range(event.size):
        sum += event.data[i]
    for i in range(event.metadata_size):
        sum += event.metadata[i]
    memcpy(FILLER + 399996, &sum, 4)
    if event.kind == H2_GOING_AWAY or event.kind == H2_OVER:
        USHER_ASSERT(event.name == 0)
        return
    call = call_of(w, event.name)
    USHER_ASSERT(event.name >> 32 != 0 and event.method < w.server.method_count and call.state != CALL_GONE)
    if event.kind == H2_MESSAGE or event.kind == H2_HALF_CLOSED:
        USHER_ASSERT(call.state == CALL_OPEN and event.size <= w.server.settings.message_size_max)
        if event.is_last or event.kind == H2_HALF_CLOSED:
            call.state = CALL_COMPLETE
    elif event.kind == H2_CANCELLED:
        call.state = CALL_GONE
        USHER_ASSERT(say_message(&w.c, event.name, NULL, 0) == SAID_TO_NOBODY)
    else:
        USHER_ASSERT(event.kind == H2_STARTED or event.kind == H2_WRITABLE)


cdef void take_events(World* w) noexcept nogil:
    """Looks at each; answers the whole requests if this is such a run."""
    cdef uint64_t whole[WAITING_ANSWERS]
    cdef uint32_t count = 0
    cdef uint32_t i
    cdef bint is_news
    cdef H2Event* event
    for i in range(w.events.count):
        event = &w.events.items[i]
        check_event(w, event)
        if event.kind == H2_MESSAGE and event.is_last and w.is_answering:
            if w.is_clearing_late:
                say_message(&w.c, event.name, event.data, event.size)
                say_finish(&w.c, event.name, GRPC_OK, NULL, 0, NULL, 0)
            elif count < WAITING_ANSWERS:
                whole[count] = event.name
                count += 1
    is_news = w.events.count != 0
    events_clear(&w.c, w.events)
    for i in range(count):
        say_message(&w.c, whole[i], FILLER, 10)
        say_finish(&w.c, whole[i], GRPC_OK, NULL, 0, NULL, 0)
    if is_news:                     # a recount for each byte that is fed would be most of the work
        audit(w)


# --- steps ---------------------------------------------------------------------------------------------------------------

cdef void deliver(World* w, uint32_t piece_size) noexcept nogil:
    """All that was said, in pieces, each in memory of its own that goes away when its events are cleared."""
    cdef uint32_t at = 0
    cdef uint32_t size
    cdef size_t taken
    cdef uint8_t* piece
    while at < w.client.outbox_size:
        size = min(piece_size, w.client.outbox_size - at)
        piece = <uint8_t*>malloc(size)
        memcpy(piece, w.client.outbox + at, size)
        taken = 0
        while taken < size:
            taken += feed(&w.c, w.now, piece + taken, size - taken, w.events)
            USHER_ASSERT(taken <= size)
            take_events(w)
        free(piece)
        at += size
    w.client.outbox_size = 0
    audit(w)


cdef void step_deliver(World* w) noexcept nogil:
    cdef uint8_t choice = take_byte(&w.script)
    if choice < 128:
        deliver(w, OUTBOX_SIZE)
    elif w.client.outbox_size > 2000:
        deliver(w, 100 + 8 * choice)
    else:
        deliver(w, choice - 127)


cdef size_t take_output(World* w, uint32_t capacity) noexcept nogil:
    cdef uint8_t* target = <uint8_t*>malloc(capacity)
    cdef size_t size = output(&w.c, w.now, target, capacity, w.events)
    USHER_ASSERT(size <= capacity)
    read_output(&w.client, target, size)
    free(target)
    take_events(w)
    audit(w)
    return size


cdef void step_output(World* w) noexcept nogil:
    cdef uint8_t choice = take_byte(&w.script)
    if choice < 64:
        while take_output(w, 65536) == 65536:
            pass
    elif choice < 128:
        take_output(w, choice - 63)
    else:
        take_output(w, 128 * choice)


cdef void pass_time(World* w, int64_t span) noexcept nogil:
    w.now += span
    on_time(&w.c, w.now, w.events)
    take_events(w)
    if next_due(&w.c) <= w.now:     # the events were full, or ending something made something else due
        on_time(&w.c, w.now, w.events)
        take_events(w)
        USHER_ASSERT(next_due(&w.c) > w.now or w.c.stream_count > 64)


cdef void step_time(World* w) noexcept nogil:
    cdef uint8_t choice = take_byte(&w.script)
    cdef int64_t unit = NS_PER_SECOND if choice & 0x80 else 1000000
    if choice == 0xFF:
        pass_time(w, 4000 * NS_PER_SECOND)
    else:
        pass_time(w, (choice & 0x7F) * unit)


cdef void step_answer(World* w) noexcept nogil:
    """Something to a call that was told of, or to none."""
    cdef uint8_t choice = take_byte(&w.script)
    cdef uint32_t back = take_byte(&w.script)
    cdef uint64_t name = <uint64_t>take_long(&w.script) if choice & 0x80 else 0
    cdef const uint8_t* words = NULL
    cdef uint32_t size
    if name == 0 and w.call_count != 0:
        name = w.calls[(w.call_count - 1 - back % min(w.call_count, <uint32_t>CALLS_MAX)) % CALLS_MAX].name
    if choice & 7 < 3:
        size = take_byte(&w.script)
        say_message(&w.c, name, FILLER, size if choice & 8 else size * 1500)
    elif choice & 7 < 5:
        size = take_span(&w.script, take_byte(&w.script), &words)
        say_finish(&w.c, name, take_below(&w.script, 20), words, size, FILLER, take_below(&w.script, 2) * 4090 + (choice >> 3 & 15))
    elif choice & 7 == 5:
        say_reset(&w.c, name, take_below(&w.script, 16))
    elif choice & 7 == 6 and choice & 8:
        say_headers(&w.c, name)
    elif choice & 7 == 6:
        window_withhold(&w.c, name, choice & 16)
        is_writable(&w.c, name)
    else:
        say_message(&w.c, name, FILLER, 3)
        say_finish(&w.c, name, GRPC_OK, NULL, 0, NULL, 0)
    audit(w)


cdef void step_raw(World* w) noexcept nogil:
    cdef const uint8_t* data = NULL
    cdef uint32_t size = take_span(&w.script, take_byte(&w.script), &data)
    w.client.is_honest = False
    put_raw(&w.client, data, size)


cdef void step_frame(World* w) noexcept nogil:
    cdef uint8_t kind = take_byte(&w.script) % 14
    cdef uint8_t flags = take_byte(&w.script)
    cdef uint32_t stream = 0 if flags & 0x40 else take_stream(&w.client, &w.script)
    cdef const uint8_t* data = NULL
    cdef uint32_t size = take_span(&w.script, take_byte(&w.script), &data)
    w.client.is_honest = False
    put_frame(&w.client, kind, flags, stream, data, size)


cdef void step_settings(World* w) noexcept nogil:
    cdef uint8_t payload[6]
    cdef uint8_t choice = take_byte(&w.script)
    cdef uint32_t number = <uint32_t>take_long(&w.script)
    cdef uint32_t i
    if choice & 0x80:
        put_frame(&w.client, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0)
        return
    payload[0] = 0
    payload[1] = choice & 15
    for i in range(4):
        payload[2 + i] = <uint8_t>(number >> (24 - 8 * i))
    w.client.is_honest = w.client.is_honest and payload[1] != 1
    put_frame(&w.client, NGHTTP2_SETTINGS, 0, 0, payload, 6)


cdef void step_damage(World* w) noexcept nogil:
    """A bit turned, or the end cut off."""
    cdef uint8_t choice = take_byte(&w.script)
    cdef uint32_t back = 1 + take_byte(&w.script)
    w.client.is_honest = False
    if back > w.client.outbox_size:
        return
    if choice & 8:
        w.client.outbox_size -= back
    else:
        w.client.outbox[w.client.outbox_size - back] ^= 1 << (choice & 7)


cdef void step_whole_call(World* w) noexcept nogil:
    """A right request of a script's size, to one of the methods."""
    cdef nghttp2_nv list[REQUEST_HEADERS_MAX]
    cdef uint8_t block[512]
    cdef uint8_t prefix[5]
    cdef Script choices
    cdef uint8_t fields[2]
    cdef uint32_t size = take_byte(&w.script)
    cdef uint8_t* payload = FILLER
    cdef ssize_t block_size
    fields[0] = take_byte(&w.script) & 3
    fields[1] = 0
    script_begin(&choices, fields, 2)
    block_size = nghttp2_hd_deflate_hd(w.client.deflater, block, sizeof(block), list, take_headers(&choices, list))
    put_frame(&w.client, NGHTTP2_HEADERS, 4, w.client.next_stream, block, <uint32_t>block_size)
    memset(prefix, 0, 5)
    prefix[4] = <uint8_t>size
    put_frame(&w.client, NGHTTP2_DATA, 0, w.client.next_stream, prefix, 5)
    put_frame(&w.client, NGHTTP2_DATA, 1, w.client.next_stream, payload, size)
    w.client.next_stream += 2


cdef void do_step(World* w, uint32_t step) noexcept nogil:
    if step == STEP_REQUEST:
        say_request(&w.client, &w.script)
    elif step == STEP_DATA:
        say_data(&w.client, &w.script)
    elif step == STEP_DELIVER:
        step_deliver(w)
    elif step == STEP_ANSWER:
        step_answer(w)
    elif step == STEP_OUTPUT:
        step_output(w)
    elif step == STEP_TIME:
        step_time(w)
    elif step == STEP_RAW:
        step_raw(w)
    elif step == STEP_FRAME:
        step_frame(w)
    elif step == STEP_SETTINGS:
        step_settings(w)
    elif step == STEP_PING:
        put_frame(&w.client, NGHTTP2_PING, take_below(&w.script, 2), 0, DRAIN_PING, 8)
    elif step == STEP_RESET:
        put_number_frame(&w.client, NGHTTP2_RST_STREAM, take_stream(&w.client, &w.script), take_byte(&w.script))
    elif step == STEP_WINDOW:
        put_number_frame(
            &w.client, NGHTTP2_WINDOW_UPDATE, 0 if take_byte(&w.script) & 1 else take_stream(&w.client, &w.script),
            <uint32_t>take_long(&w.script))
    elif step == STEP_DAMAGE:
        step_damage(w)
    elif step == STEP_DRAIN:
        drain(&w.c, w.now)
    else:
        step_whole_call(w)


cdef void do_repeat(World* w) noexcept nogil:
    """One step again and again with the same choices: a flood."""
    cdef uint32_t count = take_short(&w.script) % REPEATS_MAX
    cdef uint32_t step = take_below(&w.script, STEP_REPEAT)
    cdef Script start = w.script
    cdef uint32_t i
    for i in range(count):
        w.script = start
        do_step(w, step)
        w.step_count += 1
        if w.step_count > STEPS_MAX:
            return


# --- a run ---------------------------------------------------------------------------------------------------------------

cdef void choose_settings(World* w) noexcept nogil:
    """Mostly the defaults, else narrow ones."""
    cdef Settings* settings = &w.server.settings
    cdef uint8_t narrow = take_byte(&w.script)
    cdef uint8_t flags = take_byte(&w.script)
    if narrow & 1:
        settings.memory_size_max = 32768 + 4096 * <uint64_t>take_byte(&w.script)
    if narrow & 2:
        settings.streams_max = 1 + take_below(&w.script, 100)
    if narrow & 4:
        settings.window_size = 65536
    if narrow & 8:
        settings.message_size_max = take_short(&w.script)
    if narrow & 16:
        settings.buffered_size_max = take_short(&w.script) * 4
    if narrow & 32:
        settings.output_size_max = take_short(&w.script)
    if narrow & 64:
        settings.header_size_max = 64 + take_short(&w.script) % 8192
    settings.is_metadata_kept = flags & 1
    settings.is_authorization_kept = not flags & 2
    w.is_answering = flags & 4
    w.is_clearing_late = flags & 8
    if not flags & 16:
        put_raw(&w.client, PREFACE, PREFACE_SIZE)


cdef void run_steps(World* w) noexcept nogil:
    cdef uint32_t step
    while not is_over(&w.script) and w.step_count < STEPS_MAX:
        w.step_count += 1
        step = take_below(&w.script, STEP_COUNT)
        if step == STEP_REPEAT:
            do_repeat(w)
        else:
            do_step(w, step)


cdef void finish(World* w) noexcept nogil:
    """What was said is delivered, what is to be sent is taken, some time goes by, and all goes away."""
    cdef uint32_t i
    deliver(w, OUTBOX_SIZE)
    for i in range(64):
        if take_output(w, 65536) == 0:
            break
    pass_time(w, 5000 * NS_PER_SECOND)
    take_output(w, 65536)
    next_due(&w.c)
    can_close(&w.c)
    connection_free(&w.c)


cdef void add_methods(Server* server) noexcept nogil:
    cdef uint32_t i
    for i in range(4):
        USHER_ASSERT(server_method(server, <const uint8_t*>PATHS[i], strlen(PATHS[i]), <uint8_t>i))


cdef public int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) noexcept nogil:
    cdef World* w = <World*>malloc(sizeof(World))
    memset(w, 0, sizeof(World))
    w.events = &events
    w.events.count = 0
    w.events.owner = NULL
    w.now = NS_PER_SECOND
    script_begin(&w.script, data, size)
    client_begin(&w.client)
    USHER_ASSERT(server_begin(&w.server))
    add_methods(&w.server)
    choose_settings(w)
    if connection_begin(&w.c, &w.server, w.now):
        run_steps(w)
        finish(w)
    server_end(&w.server)
    client_end(&w.client)
    free(w)
    return 0
