# KeepAlive streams: requests into the batch, results into answers, and how a stream ends.
#
# Byte for byte, and in the order, of broker/verbs/keep_alive.py and broker/service/sessions.py. A message is checked whole before anything
# of it is done; then its forgets, then whether there is room, then its renewals. They go into the batch in one piece, though the
# batch may run in between; so results come message by message, and one answer is built at a time. If the end of a session in the message could not be
# recorded, nothing of it is told: the stream ends, and the next one asks again. What must see the results of earlier messages
# (a forget, a fault, the bound of sessions) has the batch run first. A stream that ends forgets its sessions; no session ends by it.

include "watched.pxi"
include "outbox.pxi"

cdef enum:
    KEEPERS_FIRST = 16
    ANSWER_FIRST_SIZE = 16384
    ANSWER_KEPT_SIZE = 65536        # a larger one is given back when it is said

cdef extern from *:
    """
    static const char usher_sessions_of_stream[] =
        "One stream speaks for at most 10000 sessions; open another one for more.";
    static const char usher_streams_full[] = "The broker has as many KeepAlive streams open as it may; try again later.";
    static const char usher_watched_full[] = "The broker's streams speak for as many sessions as they may; renew one by one, or try again later.";
    static const char usher_stream_memory[] = "The broker has no memory for this stream; try again later.";
    """
    const char* SESSIONS_OF_STREAM_SENTENCE "usher_sessions_of_stream"
    const char* STREAMS_FULL_SENTENCE "usher_streams_full"
    const char* WATCHED_FULL_SENTENCE "usher_watched_full"
    const char* STREAM_MEMORY_SENTENCE "usher_stream_memory"


# --- begin and end, and what others ask -------------------------------------------------------------------------------------------

cdef bint streams_begin(Loop* loop) noexcept nogil:
    """False: no memory; then streams_end too."""
    cdef StreamTable* table = <StreamTable*>calloc(1, sizeof(StreamTable))
    loop.service.streams = table
    if table == NULL:
        return False
    USHER_ASSERT(sizeof(LedgerEvent) == LEDGER_EVENT_SIZE)
    table.first_free_keeper = table.first_listed = table.first_free_watched = <uint32_t>NONE
    table.block = <uint8_t*>malloc(NOTICES_READ_SIZE)
    return table.block != NULL


cdef void streams_end(Loop* loop) noexcept nogil:
    cdef StreamTable* table = table_of(loop)
    cdef uint32_t number
    if table == NULL:
        return
    for number in range(table.keeper_high):
        if table.keepers[number].is_open:
            unsaid_drop_all(table, &table.keepers[number])
            free(table.keepers[number].failure)
    watched_release(table)
    free(table.keepers)
    free(table.call_buckets)
    free(table.answer.bytes)
    free(table.block)
    free(table)
    loop.service.streams = NULL


cdef uint32_t streams_count(Loop* loop) noexcept nogil:
    """Open now."""
    return table_of(loop).keeper_count if loop.service.streams != NULL else 0


cdef uint32_t watched_count(Loop* loop) noexcept nogil:
    """Sessions that the streams speak for; one on two streams counts twice."""
    return table_of(loop).watched_count if loop.service.streams != NULL else 0


cdef uint64_t notices_count(Loop* loop) noexcept nogil:
    """Told since the start."""
    return table_of(loop).notices if loop.service.streams != NULL else 0


# --- streams by their callers -------------------------------------------------------------------------------------------------------

cdef inline uint32_t* call_bucket(StreamTable* table, uint32_t slot, uint64_t call) noexcept nogil:
    return &table.call_buckets[hash_word(call ^ (<uint64_t>slot << 20)) & (table.keeper_capacity - 1)]


cdef inline bint is_caller(const Keeper* keeper, const Caller* caller) noexcept nogil:
    return (
        keeper.is_open and keeper.caller.call == caller.call
        and keeper.caller.slot == caller.slot and keeper.caller.generation == caller.generation
    )


cdef Keeper* keeper_of(StreamTable* table, const Caller* caller) noexcept nogil:
    """NULL: it has ended."""
    cdef uint32_t number = <uint32_t>NONE
    if table.keeper_count != 0:
        number = call_bucket(table, caller.slot, caller.call)[0]
    while number != NONE and not is_caller(&table.keepers[number], caller):
        number = table.keepers[number].next_of_call
    return &table.keepers[number] if number != NONE else NULL


cdef inline Keeper* keeper_numbered(StreamTable* table, uint32_t number, const Caller* caller) noexcept nogil:
    """The same, if it is known which one it was."""
    if number < table.keeper_high and is_caller(&table.keepers[number], caller):
        return &table.keepers[number]
    return NULL


cdef bint keepers_grow(StreamTable* table) noexcept nogil:
    cdef uint32_t capacity = max(table.keeper_capacity * 2, <uint32_t>KEEPERS_FIRST)
    cdef uint32_t number
    cdef uint32_t* buckets = <uint32_t*>malloc(capacity * sizeof(uint32_t))
    cdef Keeper* keepers = <Keeper*>realloc(table.keepers, capacity * sizeof(Keeper)) if buckets != NULL else NULL
    if keepers == NULL:
        free(buckets)
        return False
    free(table.call_buckets)
    memset(&keepers[table.keeper_capacity], 0, (capacity - table.keeper_capacity) * sizeof(Keeper))
    memset(buckets, 0xFF, capacity * sizeof(uint32_t))
    table.keepers = keepers
    table.call_buckets = buckets
    table.keeper_capacity = capacity
    for number in range(table.keeper_high):
        if keepers[number].is_open:
            keeper_index(table, &keepers[number])
    return True


cdef inline void keeper_index(StreamTable* table, Keeper* keeper) noexcept nogil:
    cdef uint32_t* bucket = call_bucket(table, keeper.caller.slot, keeper.caller.call)
    keeper.next_of_call = bucket[0]
    bucket[0] = <uint32_t>(keeper - table.keepers)


cdef Keeper* keeper_take(StreamTable* table, Peer* peer, const Caller* caller) noexcept nogil:
    """A new stream of the peer; NULL: no memory. The list of those with something to say may still name the record, so its
    place there stays as it is."""
    cdef uint32_t number = table.first_free_keeper
    cdef Keeper* keeper
    if number != NONE:
        table.first_free_keeper = table.keepers[number].next_of_call
    elif table.keeper_high < table.keeper_capacity or keepers_grow(table):
        number = table.keeper_high
        table.keeper_high += 1
    else:
        return NULL
    keeper = &table.keepers[number]
    USHER_ASSERT(not keeper.is_open and keeper.first_unsaid == NULL and keeper.failure == NULL)
    keeper.caller = caller[0]
    keeper.first_watched = <uint32_t>NONE
    keeper.watched_count = keeper.pending_count = 0
    keeper.is_half_closed = keeper.is_ending = keeper.is_blocked = keeper.is_withheld = False
    keeper.is_open = True
    keeper.previous_of_peer = <uint32_t>NONE
    keeper.next_of_peer = peer.first_stream
    if peer.first_stream != NONE:
        table.keepers[peer.first_stream].previous_of_peer = number
    peer.first_stream = number
    table.keeper_count += 1
    keeper_index(table, keeper)
    return keeper


cdef void keeper_unlink(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """Out of its bucket and its peer's list."""
    cdef uint32_t number = <uint32_t>(keeper - table.keepers)
    cdef uint32_t* link = call_bucket(table, keeper.caller.slot, keeper.caller.call)
    cdef Peer* peer
    while link[0] != number:
        USHER_ASSERT(link[0] != NONE)
        link = &table.keepers[link[0]].next_of_call
    link[0] = keeper.next_of_call
    if keeper.next_of_peer != NONE:
        table.keepers[keeper.next_of_peer].previous_of_peer = keeper.previous_of_peer
    if keeper.previous_of_peer != NONE:
        table.keepers[keeper.previous_of_peer].next_of_peer = keeper.next_of_peer
        return
    peer = peer_named(loop, keeper.caller.slot, keeper.caller.generation)
    if peer != NULL:
        peer.first_stream = keeper.next_of_peer


cdef void keeper_release(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """Forgets the stream and all that it spoke for."""
    watched_drop_all(table, keeper)
    unsaid_drop_all(table, keeper)
    free(keeper.failure)
    keeper.failure = NULL
    keeper_unlink(loop, table, keeper)
    keeper.is_open = False
    keeper.next_of_call = table.first_free_keeper
    table.first_free_keeper = <uint32_t>(keeper - table.keepers)
    table.keeper_count -= 1


# --- ends -----------------------------------------------------------------------------------------------------------------------------

cdef inline void count_end(Loop* loop, const Failure* failure) noexcept nogil:
    count_call(loop, METHOD_KEEP_ALIVE, outcome_of_code(failure.code), loop.now)


cdef void keeper_finish(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """All is said: the last word."""
    cdef Caller caller = keeper.caller
    if keeper.failure == NULL:
        answer_end(loop, &caller)
    else:
        answer_failure(loop, &caller, keeper.failure)
    keeper_release(loop, table, keeper)


cdef void keeper_end(Loop* loop, StreamTable* table, Keeper* keeper, const Failure* failure) noexcept nogil:
    """The stream ends, with OK if `failure` is NULL, behind all that was said on it. It hears no more notices."""
    if failure != NULL:
        count_end(loop, failure)
        keeper.failure = <Failure*>malloc(sizeof(Failure))
        if keeper.failure == NULL:
            answer_failure(loop, &keeper.caller, failure)
            keeper_release(loop, table, keeper)
            return
        memcpy(keeper.failure, failure, sizeof(Failure))
    watched_drop_all(table, keeper)
    keeper.is_ending = True
    if keeper.first_unsaid == NULL:
        keeper_finish(loop, table, keeper)


cdef void keeper_cut(Loop* loop, StreamTable* table, Keeper* keeper, const Failure* failure) noexcept nogil:
    """The stream ends now; what waits on it is not said. One that was ending already ends as it would have."""
    unsaid_drop_all(table, keeper)
    if keeper.is_ending:
        keeper_finish(loop, table, keeper)
    else:
        keeper_end(loop, table, keeper, failure)


cdef void streams_peer_gone(Loop* loop, Peer* peer) noexcept nogil:
    """Before the peer's slot is freed."""
    cdef StreamTable* table = table_of(loop)
    while peer.first_stream != NONE:
        keeper_release(loop, table, &table.keepers[peer.first_stream])


cdef void streams_drain(Loop* loop) noexcept nogil:
    """All streams end; clients open them again elsewhere, or later. What waits for the committer is said before; whose reader has no
    room is not waited for."""
    cdef StreamTable* table = table_of(loop)
    cdef Failure failure
    cdef uint32_t number
    fail_stopping(&failure)
    for number in range(table.keeper_high):
        if not table.keepers[number].is_open:
            continue
        if table.keepers[number].is_blocked:
            keeper_cut(loop, table, &table.keepers[number], &failure)
        elif not table.keepers[number].is_ending:
            keeper_end(loop, table, &table.keepers[number], &failure)


# --- events of h2 -----------------------------------------------------------------------------------------------------------------------

cdef void streams_take(Loop* loop, Peer* peer, H2Event* event) noexcept nogil:
    """One event of a KeepAlive call; nothing of it is needed when this returns."""
    cdef StreamTable* table = table_of(loop)
    cdef Caller caller = caller_of(peer, event.name)
    cdef Keeper* keeper
    if event.kind == H2_STARTED:
        stream_started(loop, table, peer, &caller)
        return
    keeper = keeper_of(table, &caller)
    if keeper == NULL:
        return                      # it has ended already
    if event.kind == H2_CANCELLED:
        keeper_release(loop, table, keeper)
    elif event.kind == H2_WRITABLE:
        keeper.is_blocked = False
        keeper_flush(loop, table, keeper)
    elif keeper.is_ending or keeper.is_half_closed:
        return
    elif event.kind == H2_MESSAGE:
        message_take(loop, table, keeper, event.data, event.size)
    elif event.kind == H2_HALF_CLOSED:
        keeper.is_half_closed = True
        if keeper.pending_count == 0:
            keeper_end(loop, table, keeper, NULL)


cdef void stream_started(Loop* loop, StreamTable* table, Peer* peer, const Caller* caller) noexcept nogil:
    cdef Failure failure
    if loop.is_draining:
        fail_stopping(&failure)
    elif table.keeper_count >= KEEP_ALIVE_STREAMS_MAX:
        fail_bound(&failure, "keep_alive_streams", STREAMS_FULL_SENTENCE)
    elif keeper_take(table, peer, caller) == NULL:
        fail_bound(&failure, "memory", STREAM_MEMORY_SENTENCE)
    else:
        say_headers(&peer.h2, caller.call)
        peer_touch(loop, peer)
        return
    count_end(loop, &failure)
    answer_failure(loop, caller, &failure)


# --- a message ----------------------------------------------------------------------------------------------------------------------------

cdef Keeper* keeper_settled(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """The stream once the results of its earlier messages are there; NULL: one of them has ended it."""
    cdef Caller caller = keeper.caller
    if keeper.pending_count == 0:
        return keeper
    batch_run(loop)
    return keeper_numbered(table, <uint32_t>(keeper - table.keepers), &caller)


cdef void message_take(Loop* loop, StreamTable* table, Keeper* keeper, const uint8_t* data, uint32_t size) noexcept nogil:
    """One KeepAliveRequest."""
    cdef KeepAliveItems items
    cdef WireError error
    cdef Failure failure
    cdef int64_t received = loop.now
    if keep_alive_intake(data, size, &items, &error):
        fail_fault(&failure, &error)
    else:
        keeper = message_forgets(loop, table, keeper, &items)
        if keeper != NULL:
            keeper = message_room(loop, table, keeper, &items, &failure)
        if keeper == NULL:
            return
        if failure.code == CODE_OK:
            message_renewals(loop, table, keeper, &items, received)
            return
    keeper = keeper_settled(loop, table, keeper)
    if keeper != NULL:
        keeper_end(loop, table, keeper, &failure)


cdef Keeper* message_forgets(Loop* loop, StreamTable* table, Keeper* keeper, KeepAliveItems* items) noexcept nogil:
    cdef Watched* watched
    cdef Span session_id
    while next_forget(items, &session_id):
        keeper = keeper_settled(loop, table, keeper)
        if keeper == NULL:
            return NULL
        watched = watched_by_id(table, session_id.bytes, <uint32_t>(keeper - table.keepers))
        if watched != NULL:
            watched_drop(table, watched)
    return keeper


cdef uint32_t count_new(StreamTable* table, const Keeper* keeper, const KeepAliveItems* items) noexcept nogil:
    """How many sessions of the message the stream does not speak for yet, each counted once. Open or not, only the ledger knows."""
    cdef uint8_t found[RENEWALS_PER_MESSAGE_MAX][SESSION_ID_SIZE]
    cdef KeepAliveItems rest = items[0]
    cdef Command command
    cdef Extras extras
    cdef uint32_t count = 0
    cdef uint32_t i
    while next_renewal(&rest, &command, &extras):
        if watched_by_id(table, command.session_id, <uint32_t>(keeper - table.keepers)) != NULL:
            continue
        i = 0
        while i < count and memcmp(found[i], command.session_id, SESSION_ID_SIZE) != 0:
            i += 1
        if i == count:
            memcpy(found[count], command.session_id, SESSION_ID_SIZE)
            count += 1
    return count


cdef inline bint has_session_room(const StreamTable* table, const Keeper* keeper, uint32_t new_count) noexcept nogil:
    return (
        keeper.watched_count + keeper.pending_count + new_count <= SESSIONS_PER_STREAM_MAX
        and table.watched_count + table.pending_count + new_count <= WATCHED_SESSIONS_MAX
    )


cdef Keeper* message_room(Loop* loop, StreamTable* table, Keeper* keeper, const KeepAliveItems* items, Failure* failure) noexcept nogil:
    """Whether the stream may speak for all of these: failure.code is CODE_OK. Looked at closely only near a bound."""
    cdef uint32_t new_count = items.renewal_count
    failure.code = CODE_OK
    if not has_session_room(table, keeper, new_count):
        if table.pending_count:
            keeper = message_settled_by_all(loop, table, keeper)
            if keeper == NULL:
                return NULL
        new_count = count_new(table, keeper, items)
        if keeper.watched_count + new_count > SESSIONS_PER_STREAM_MAX:
            fail_bound(failure, "sessions_of_stream", SESSIONS_OF_STREAM_SENTENCE)
        elif not has_session_room(table, keeper, new_count):
            fail_bound(failure, "watched_sessions", WATCHED_FULL_SENTENCE)
    if failure.code == CODE_OK and not watched_reserve(table, table.watched_count + table.pending_count + new_count):
        fail_bound(failure, "memory", STREAM_MEMORY_SENTENCE)
    return keeper


cdef Keeper* message_settled_by_all(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """The stream once the results of all streams are there; NULL: they have ended it."""
    cdef Caller caller = keeper.caller
    batch_run(loop)
    return keeper_numbered(table, <uint32_t>(keeper - table.keepers), &caller)


cdef void message_renewals(Loop* loop, StreamTable* table, Keeper* keeper, KeepAliveItems* items, int64_t received) noexcept nogil:
    """Into the batch. If it runs in between and ends the stream, the rest is renewed all the same."""
    cdef Caller caller = keeper.caller
    cdef uint32_t number = <uint32_t>(keeper - table.keepers)
    cdef Command* command
    cdef Slip* slip
    cdef uint32_t i
    if items.renewal_count == 0:
        count_call(loop, METHOD_KEEP_ALIVE, OUTCOME_OK, received)
        return
    if table.watched_count == 0 and table.pending_count == 0:
        notices_begin(loop, table)
    for i in range(items.renewal_count):
        command = batch_next(loop, &slip)
        USHER_ASSERT(next_renewal(items, command, &slip.extras))
        slip.caller = caller
        slip.received = received
        slip.stream = number
        slip.method = METHOD_KEEP_ALIVE
        slip.is_last = i + 1 == items.renewal_count
        table.pending_count += 1
        keeper = keeper_numbered(table, number, &caller)
        if keeper != NULL:
            keeper.pending_count += 1


# --- results --------------------------------------------------------------------------------------------------------------------------------

cdef void stream_result(Loop* loop, const Slip* slip, const Command* command, const Outcome* outcome) noexcept nogil:
    """What became of one renewal. The answer waits for the newest event of all its sessions."""
    cdef StreamTable* table = table_of(loop)
    cdef Keeper* keeper = keeper_numbered(table, slip.stream, &slip.caller)
    table.pending_count -= 1
    table.answer.position = max(table.answer.position, awaited_position(&loop.service, command, outcome))
    if keeper != NULL:
        keeper.pending_count -= 1
        result_learn(loop, table, keeper, command, outcome)
        result_put(loop, &table.answer, command, outcome)
    if slip.is_last:
        answer_leave(loop, table, keeper, slip)


cdef void result_learn(Loop* loop, StreamTable* table, Keeper* keeper, const Command* command, const Outcome* outcome) noexcept nogil:
    """Who is renewed is watched from now on; who is not, no more, so that its end is not told a second time."""
    cdef Watched* watched = watched_find(table, command.fence, <uint32_t>(keeper - table.keepers))
    if keeper.is_ending:
        return
    if outcome.status == STATUS_RENEWED:
        if watched == NULL:
            watched = watched_add(table, keeper, command.fence, command.session_id)
        watched_learn(watched, outcome.change_version, leases_of(outcome, &loop.service.space), outcome.lease_count)
    elif watched != NULL:
        watched_drop(table, watched)


cdef void result_put(Loop* loop, Answer* answer, const Command* command, const Outcome* outcome) noexcept nogil:
    """Adds the result to the answer being built."""
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef AnswerContext context
    cdef uint32_t size
    if answer.is_refused:
        return
    if outcome.status == STATUS_EVENTS_FULL:
        fail_outcome(&answer.failure, outcome, command.fence)
        answer.is_refused = True
        return
    context.products = loop.shared.port.state.products
    context.renew_grace = loop.shared.settings.renew_grace
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    size = put_keep_alive_result(&writer, &context, command, outcome, &loop.service.space)
    answer_add(answer, &writer, size)


cdef bint answer_reserve(Answer* answer, uint32_t size) noexcept nogil:
    cdef uint32_t capacity = max(answer.capacity, <uint32_t>ANSWER_FIRST_SIZE)
    cdef uint8_t* grown
    while capacity < size:
        capacity *= 2
    if capacity != answer.capacity:
        grown = <uint8_t*>realloc(answer.bytes, capacity)
        if grown == NULL:
            return False
        answer.bytes = grown
        answer.capacity = capacity
    return True


cdef void answer_add(Answer* answer, const Writer* writer, uint32_t item_size) noexcept nogil:
    """Behind the others; a new message begins where one more could pass its bound."""
    cdef uint32_t size = written_size(writer)
    if not answer_reserve(answer, answer.fill + size):
        fail_bound(&answer.failure, "memory", STREAM_MEMORY_SENTENCE)
        answer.is_refused = True
        return
    if is_over_message(answer.part_size, item_size):
        answer.part_ends[answer.part_count] = answer.fill
        answer.part_count += 1
        answer.part_size = 0
    memcpy(answer.bytes + answer.fill, writer.at, size)
    answer.fill += size
    answer.part_size += item_size + STREAM_ITEM_FRAME_SIZE


cdef void answer_leave(Loop* loop, StreamTable* table, Keeper* keeper, const Slip* slip) noexcept nogil:
    """All results of a message are there: they are told, or the stream ends. `keeper` NULL: it has ended before."""
    cdef Answer* answer = &table.answer
    if keeper == NULL or keeper.is_ending:
        pass                        # nobody hears of it; renewed it is all the same
    elif answer.is_refused:
        keeper_end(loop, table, keeper, &answer.failure)
    else:
        count_call(loop, slip.method, OUTCOME_OK, slip.received)
        answer_say(loop, table, keeper, slip)
    answer.fill = answer.part_size = answer.part_count = 0
    answer.position = 0
    answer.is_refused = False
    if answer.capacity > ANSWER_KEPT_SIZE:
        free(answer.bytes)
        answer.bytes = NULL
        answer.capacity = 0


cdef void answer_say(Loop* loop, StreamTable* table, Keeper* keeper, const Slip* slip) noexcept nogil:
    """Message by message; the stream may end by it, if there is no room to wait in."""
    cdef Answer* answer = &table.answer
    cdef uint32_t start = 0
    cdef uint32_t end, i
    for i in range(answer.part_count + 1):
        end = answer.part_ends[i] if i < answer.part_count else answer.fill
        keeper_say(loop, table, keeper, answer.bytes + start, end - start, answer.position)
        if not is_caller(keeper, &slip.caller):
            return
        start = end
    if keeper.is_half_closed and keeper.pending_count == 0:
        keeper_end(loop, table, keeper, NULL)
