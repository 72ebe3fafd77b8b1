# What is said on a KeepAlive stream, in its order: at once, or when its position is committed and its reader has room.
#
# Mostly nothing waits, and a message goes straight to h2. Else it is copied and stands in the stream's line; notices that wait
# anyway join into one message. While a reader has no room, or half of what may wait does, its requests are not let in either, so
# answers are bounded by what was under way, however slow a commit is. What a stream may have waiting is bounded, and so is what all of a
# loop may: a reader beyond that loses the stream (OVERLOADED, "notices_of_stream"), opens another and renews. The last word waits in
# the line too.
#
#     keeper_say ──► h2, or line ── keeper_flush (committed, H2_WRITABLE, end of a look at the events) ──► h2

cdef enum:
    UNSAID_FIRST_SIZE = 512


cdef inline uint8_t* unsaid_bytes(Unsaid* unsaid) noexcept nogil:
    return <uint8_t*>(unsaid + 1)


cdef Unsaid* unsaid_add(StreamTable* table, Keeper* keeper, uint64_t position, uint32_t capacity) noexcept nogil:
    """An empty message at the end of the line; NULL: no memory."""
    cdef Unsaid* unsaid = <Unsaid*>malloc(sizeof(Unsaid) + capacity)
    if unsaid == NULL:
        return NULL
    unsaid.next = NULL
    unsaid.position = position
    unsaid.capacity = capacity
    unsaid.fill = unsaid.part_size = 0
    unsaid.is_open = False
    if keeper.last_unsaid == NULL:
        keeper.first_unsaid = unsaid
    else:
        keeper.last_unsaid.next = unsaid
    keeper.last_unsaid = unsaid
    return unsaid


cdef Unsaid* unsaid_grow(Keeper* keeper, uint32_t capacity) noexcept nogil:
    """The last in the line gets more room; NULL: no memory. The line is short, so the one before is found by walking."""
    cdef Unsaid** link = &keeper.first_unsaid
    cdef Unsaid* grown
    while link[0] != keeper.last_unsaid:
        link = &link[0].next
    grown = <Unsaid*>realloc(link[0], sizeof(Unsaid) + capacity)
    if grown != NULL:
        grown.capacity = capacity
        link[0] = keeper.last_unsaid = grown
    return grown


cdef void unsaid_drop(StreamTable* table, Keeper* keeper) noexcept nogil:
    """Takes the first out of the line."""
    cdef Unsaid* unsaid = keeper.first_unsaid
    keeper.first_unsaid = unsaid.next
    if unsaid.next == NULL:
        keeper.last_unsaid = NULL
    keeper.waiting_size -= unsaid.fill
    table.waiting_size -= unsaid.fill
    free(unsaid)


cdef void unsaid_drop_all(StreamTable* table, Keeper* keeper) noexcept nogil:
    while keeper.first_unsaid != NULL:
        unsaid_drop(table, keeper)
    USHER_ASSERT(keeper.waiting_size == 0)


cdef inline void keeper_list(StreamTable* table, Keeper* keeper) noexcept nogil:
    """Something of it may leave without a word from h2: it is looked at in the next round."""
    if not keeper.is_listed and not keeper.is_blocked:
        keeper.is_listed = True
        keeper.next_listed = table.first_listed
        table.first_listed = <uint32_t>(keeper - table.keepers)


cdef inline bint has_outbox_room(const StreamTable* table, const Keeper* keeper, uint32_t size) noexcept nogil:
    return (
        keeper.waiting_size + size <= STREAM_WAITING_SIZE_MAX and table.waiting_size + size <= STREAMS_WAITING_SIZE_MAX
    )


cdef void unsaid_put(StreamTable* table, Keeper* keeper, Unsaid* unsaid, const uint8_t* data, uint32_t size) noexcept nogil:
    USHER_ASSERT(unsaid.capacity - unsaid.fill >= size)
    memcpy(unsaid_bytes(unsaid) + unsaid.fill, data, size)
    unsaid.fill += size
    keeper.waiting_size += size
    table.waiting_size += size
    keeper_list(table, keeper)


cdef void keeper_overflow(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """Who does not read loses the stream; the next renewal repeats whatever is lost with it."""
    cdef Failure failure
    fail_bound(&failure, "notices_of_stream", NOT_READING_SENTENCE)
    keeper_cut(loop, table, keeper, &failure)


# --- saying ------------------------------------------------------------------------------------------------------------------------

cdef void keeper_withhold(Keeper* keeper, Peer* peer) noexcept nogil:
    """No more requests than are on their way, until nothing waits."""
    if peer != NULL and not keeper.is_withheld:
        keeper.is_withheld = True
        window_withhold(&peer.h2, keeper.caller.call, True)


cdef int keeper_say_now(Loop* loop, Keeper* keeper, const uint8_t* data, uint32_t size) noexcept nogil:
    cdef Peer* peer = peer_named(loop, keeper.caller.slot, keeper.caller.generation)
    cdef int said = SAID_TO_NOBODY
    if peer != NULL:
        said = say_message(&peer.h2, keeper.caller.call, data, size)
    if said == SAID:
        peer_touch(loop, peer)
    keeper.is_blocked = said == SAID_NO_ROOM
    if keeper.is_blocked:
        keeper_withhold(keeper, peer)
    return said


cdef void keeper_let_in(Loop* loop, Keeper* keeper) noexcept nogil:
    """Nothing waits any more: the stream may ask on."""
    cdef Peer* peer = peer_named(loop, keeper.caller.slot, keeper.caller.generation)
    keeper.is_withheld = False
    if peer != NULL:
        window_withhold(&peer.h2, keeper.caller.call, False)
        peer_touch(loop, peer)


cdef void keeper_say(Loop* loop, StreamTable* table, Keeper* keeper, const uint8_t* data, uint32_t size, uint64_t position) noexcept nogil:
    """An answer. Without room for it to wait in, the stream has ended when this returns."""
    cdef Unsaid* unsaid
    if keeper.first_unsaid == NULL and not must_wait(loop, position) and keeper_say_now(loop, keeper, data, size) != SAID_NO_ROOM:
        return
    unsaid = unsaid_add(table, keeper, position, size) if has_outbox_room(table, keeper, size) else NULL
    if unsaid == NULL:
        keeper_overflow(loop, table, keeper)
        return
    unsaid_put(table, keeper, unsaid, data, size)
    if keeper.waiting_size > STREAM_WAITING_SIZE_MAX >> 1:
        keeper_withhold(keeper, peer_named(loop, keeper.caller.slot, keeper.caller.generation))


cdef Unsaid* unsaid_for_notice(StreamTable* table, Keeper* keeper, uint64_t position, uint32_t item_size, uint32_t size) noexcept nogil:
    """The message that the notice joins, or a new one; NULL: no memory. One that waits for an older position is not held up
    by a newer."""
    cdef Unsaid* unsaid = keeper.last_unsaid
    if unsaid == NULL or not unsaid.is_open or unsaid.position < position or is_over_message(unsaid.part_size, item_size):
        unsaid = unsaid_add(table, keeper, position, max(size, <uint32_t>UNSAID_FIRST_SIZE))
    elif unsaid.capacity - unsaid.fill < size:
        unsaid = unsaid_grow(keeper, max(unsaid.fill + size, unsaid.capacity * 2))
    return unsaid


cdef void keeper_notice(Loop* loop, StreamTable* table, Keeper* keeper, const Writer* writer, uint32_t item_size, uint64_t position) noexcept nogil:
    """A framed notice, whose size without the frame is `item_size`. It leaves with others, when the look at the events is over."""
    cdef uint32_t size = written_size(writer)
    cdef Unsaid* unsaid = NULL
    if has_outbox_room(table, keeper, size):
        unsaid = unsaid_for_notice(table, keeper, position, item_size, size)
    if unsaid == NULL:
        keeper_overflow(loop, table, keeper)
        return
    unsaid.is_open = True
    unsaid.part_size += item_size + STREAM_ITEM_FRAME_SIZE
    unsaid_put(table, keeper, unsaid, writer.at, size)
    table.notices += 1


cdef void keeper_flush(Loop* loop, StreamTable* table, Keeper* keeper) noexcept nogil:
    """Says what may be said by now, the last word too."""
    while keeper.first_unsaid != NULL:
        if must_wait(loop, keeper.first_unsaid.position):
            keeper_list(table, keeper)
            return
        if keeper_say_now(loop, keeper, unsaid_bytes(keeper.first_unsaid), keeper.first_unsaid.fill) == SAID_NO_ROOM:
            return
        unsaid_drop(table, keeper)
    if keeper.is_ending:
        keeper_finish(loop, table, keeper)
    elif keeper.is_withheld:
        keeper_let_in(loop, keeper)


cdef void keepers_flush(Loop* loop, StreamTable* table) noexcept nogil:
    """All that have something which may leave by now."""
    cdef uint32_t number = table.first_listed
    cdef Keeper* keeper
    table.first_listed = <uint32_t>NONE
    while number != NONE:
        keeper = &table.keepers[number]
        number = keeper.next_listed
        keeper.is_listed = False
        if keeper.is_open and not keeper.is_blocked:
            keeper_flush(loop, table, keeper)
