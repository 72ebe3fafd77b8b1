# Answers on their way to their callers: said at once, or held in a line until the events behind them are committed.
#
# Said at once: what is no news of a session (denials, refusals), and everything while `is_holding` is not set or what is
# awaited is committed already (semantics rule 25). Held are answers to single calls only: a stream keeps a line of its own
# (outbox.pxi), since its messages have an order. A renewal waits for the newest event of its own session only, which mostly is committed;
# all else that is held waits for its whole batch. The line is first in, first out: who comes later waits for those before, which a
# commit covers together. A caller that is gone by then gets nothing, and is counted all the same. The line is bounded by back-pressure: while `is_line_full` nobody is read
# from, so nothing is lost. Who commits is woken after whatever may have written events; once it has failed `committed` stands still,
# and nothing that is held ever leaves.
#
#     block: head ──► HeldAnswer, message or details, status message, padding to 8 │ HeldAnswer ... │ ◄── fill

cdef enum:
    HELD_BLOCK_SIZE = 65512         # and its head, which has 24 bytes

cdef extern from *:
    """
    #define USHER_ATOMIC_READ(place) __atomic_load_n((place), __ATOMIC_ACQUIRE)
    static const char usher_not_reading[] = "This stream does not read its notices; open it again and renew, nothing is lost by that.";
    static const char usher_answers_full[] = "This connection does not read its answers; read them, and send the request again.";
    static const char usher_no_memory[] = "The broker has no memory for this answer; send the request again.";
    static const char usher_stopping[] =
        "The broker is stopping; open the stream again later. No session has ended by this.";
    """
    uint64_t atomic_read_u64 "USHER_ATOMIC_READ"(const uint64_t* place) noexcept nogil
    uint8_t atomic_read_u8 "USHER_ATOMIC_READ"(const uint8_t* place) noexcept nogil
    const char* NOT_READING_SENTENCE "usher_not_reading"
    const char* ANSWERS_FULL_SENTENCE "usher_answers_full"
    const char* NO_MEMORY_SENTENCE "usher_no_memory"
    const char* STOPPING_SENTENCE "usher_stopping"


# --- failures of this layer ----------------------------------------------------------------------------------------------------

cdef void fail_bound(Failure* failure, const char* bound, const char* sentence) noexcept nogil:
    """RESOURCE_EXHAUSTED, OVERLOADED, for a bound that is not the ledger's."""
    failure_begin(failure, CODE_RESOURCE_EXHAUSTED, "OVERLOADED")
    failure.metadata_name = "bound"
    say(&failure.metadata, bound)
    say(&failure.message, sentence)


cdef void fail_stopping(Failure* failure) noexcept nogil:
    """What a stream ends with when the broker stops."""
    failure_begin(failure, CODE_UNAVAILABLE, "DRAINING")
    say(&failure.message, STOPPING_SENTENCE)


# --- said now ----------------------------------------------------------------------------------------------------------------------

cdef void say_status(Loop* loop, Peer* peer, uint64_t call, uint32_t status, const uint8_t* text, uint32_t text_size, const uint8_t* details, uint32_t size) noexcept nogil:
    """The last word to a call."""
    if say_finish(&peer.h2, call, status, text, text_size, details, size) == SAID:
        peer_touch(loop, peer)


cdef void say_failure(Loop* loop, Peer* peer, uint64_t call, const Failure* failure) noexcept nogil:
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    put_failure(&writer, failure)
    say_status(loop, peer, call, <uint32_t>failure.code, failure.message.bytes, failure.message.size, writer.at, written_size(&writer))


cdef inline bint say_answer(Loop* loop, Peer* peer, uint64_t call, const uint8_t* data, uint32_t size) noexcept nogil:
    """The one message of a call that ends with it. False: its connection has no room for it, and the call was refused instead."""
    cdef Failure failure
    cdef int said = say_message(&peer.h2, call, data, size)
    if said == SAID:
        say_status(loop, peer, call, GRPC_OK, NULL, 0, NULL, 0)
    elif said == SAID_NO_ROOM:
        fail_bound(&failure, "answers_of_connection", ANSWERS_FULL_SENTENCE)
        say_failure(loop, peer, call, &failure)
    return said != SAID_NO_ROOM


# --- the line of those that wait ------------------------------------------------------------------------------------------------

cdef inline uint32_t held_record_size(uint32_t size, uint32_t text_size) noexcept nogil:
    return (<uint32_t>sizeof(HeldAnswer) + size + text_size + 7) & ~<uint32_t>7


cdef inline uint8_t* block_bytes(HeldBlock* block) noexcept nogil:
    return <uint8_t*>(block + 1)


cdef HeldBlock* block_take(Service* service, uint32_t size) noexcept nogil:
    """A block with room for so much; NULL."""
    cdef HeldBlock* block = service.spare_held
    cdef uint32_t capacity = max(size, <uint32_t>HELD_BLOCK_SIZE)
    if block != NULL and block.capacity >= size:
        service.spare_held = NULL
    else:
        block = <HeldBlock*>malloc(sizeof(HeldBlock) + capacity)
        if block == NULL:
            return NULL
        block.capacity = capacity
    block.next = NULL
    block.head = block.fill = 0
    if service.last_held == NULL:
        service.first_held = block
    else:
        service.last_held.next = block
    service.last_held = block
    return block


cdef HeldAnswer* held_add(Service* service, uint32_t size, uint32_t text_size) noexcept nogil:
    """A place at the end of the line; NULL: no memory. What it does not get set is the caller's to set."""
    cdef uint32_t needed = held_record_size(size, text_size)
    cdef HeldBlock* block = service.last_held
    cdef HeldAnswer* held
    if block == NULL or block.capacity - block.fill < needed:
        block = block_take(service, needed)
        if block == NULL:
            return NULL
    held = <HeldAnswer*>(block_bytes(block) + block.fill)
    block.fill += needed
    held.size = size
    held.text_size = <uint16_t>text_size
    service.held_count += 1
    service.held_size += needed
    return held


cdef inline HeldAnswer* held_first(Service* service) noexcept nogil:
    """Who stands first; NULL. A block that is used up is not kept in the line."""
    if service.first_held == NULL:
        return NULL
    return <HeldAnswer*>(block_bytes(service.first_held) + service.first_held.head)


cdef void held_drop(Service* service) noexcept nogil:
    """Takes the first out of the line."""
    cdef HeldBlock* block = service.first_held
    cdef HeldAnswer* held = held_first(service)
    cdef uint32_t size = held_record_size(held.size, held.text_size)
    USHER_ASSERT(block.head + size <= block.fill and service.held_count > 0)
    block.head += size
    service.held_count -= 1
    service.held_size -= size
    if block.head != block.fill:
        return
    service.first_held = block.next
    if block.next == NULL:
        service.last_held = NULL
    free(service.spare_held)
    service.spare_held = block


cdef uint8_t held_say(Loop* loop, const HeldAnswer* held) noexcept nogil:
    """To the caller, if it is still there. The outcome to be counted."""
    cdef Peer* peer = peer_named(loop, held.caller.slot, held.caller.generation)
    cdef const uint8_t* data = <const uint8_t*>(held + 1)
    if peer == NULL:
        return held.outcome
    if not held.has_message:
        say_status(loop, peer, held.caller.call, held.status, data + held.size, held.text_size, data, held.size)
    elif not say_answer(loop, peer, held.caller.call, data, held.size):
        return OUTCOME_OVERLOADED
    return held.outcome


cdef void held_release(Loop* loop) noexcept nogil:
    """All that is committed by now."""
    cdef Service* service = &loop.service
    cdef uint64_t committed = atomic_read_u64(&loop.shared.committed)
    cdef HeldAnswer* held = held_first(service)
    while held != NULL and held.position <= committed:
        count_call(loop, held.method, held_say(loop, held), held.received)
        held_drop(service)
        held = held_first(service)


cdef void held_end(Service* service) noexcept nogil:
    """Gives up all of them: the loop ends."""
    cdef HeldBlock* block
    while service.first_held != NULL:
        block = service.first_held
        service.first_held = block.next
        free(block)
    free(service.spare_held)
    service.last_held = service.spare_held = NULL
    service.held_count = service.held_size = 0


cdef inline bint is_line_full(const Service* service) noexcept nogil:
    return service.held_count >= HELD_ANSWERS_MAX or service.held_size >= HELD_SIZE_MAX


# --- the committer ----------------------------------------------------------------------------------------------------------------

cdef inline void wake_committer(Loop* loop, uint64_t position) noexcept nogil:
    """After events may have been written up to there, by whomever: a load unless it sleeps."""
    cdef const JournalPort* journal = loop.shared.journal
    if journal != NULL and position > atomic_read_u64(&loop.shared.committed):
        journal.wake(journal)


# --- said now, or held ------------------------------------------------------------------------------------------------------------

cdef inline uint64_t awaited_position(const Service* service, const Command* command, const Outcome* outcome) noexcept nogil:
    """What an answer about a session waits for, just after its batch. 0: nothing, for an id that never was a session's."""
    if outcome.position != 0:
        return outcome.position
    return 0 if outcome.status == STATUS_NOT_FOUND and command.fence == 0 else service.position


cdef inline bint must_wait(Loop* loop, uint64_t position) noexcept nogil:
    """Whether an answer has to, whose events end there."""
    return loop.shared.settings.is_holding and position > atomic_read_u64(&loop.shared.committed)


cdef void answer_forsaken(Loop* loop, const Caller* caller) noexcept nogil:
    """No memory to hold an answer: the call ends, which tells nothing of the session."""
    cdef Peer* peer = peer_named(loop, caller.slot, caller.generation)
    if peer != NULL:
        say_status(loop, peer, caller.call, CODE_UNAVAILABLE, <const uint8_t*>NO_MEMORY_SENTENCE, <uint32_t>strlen(NO_MEMORY_SENTENCE), NULL, 0)


cdef HeldAnswer* hold(Loop* loop, const Caller* caller, uint64_t position, const Writer* answer, const Sentence* text) noexcept nogil:
    """An answer, held until the position: a message, or with `text` the details of a status. NULL: it could not be, and the call has
    ended. What it was is the caller's to set."""
    cdef uint32_t size = written_size(answer)
    cdef uint32_t text_size = text.size if text != NULL else 0
    cdef HeldAnswer* held = held_add(&loop.service, size, text_size)
    if held == NULL:
        answer_forsaken(loop, caller)
        return NULL
    memcpy(held + 1, answer.at, size)
    if text_size:
        memcpy(<uint8_t*>(held + 1) + size, text.bytes, text_size)
    held.position = position
    held.caller = caller[0]
    held.has_message = text == NULL
    return held


cdef void answer_failure(Loop* loop, const Caller* caller, const Failure* failure) noexcept nogil:
    """A stream ends with a status other than OK, now."""
    cdef Peer* peer = peer_named(loop, caller.slot, caller.generation)
    if peer != NULL:
        say_failure(loop, peer, caller.call, failure)


cdef void answer_end(Loop* loop, const Caller* caller) noexcept nogil:
    """A stream ends well, now."""
    cdef Peer* peer = peer_named(loop, caller.slot, caller.generation)
    if peer != NULL:
        say_status(loop, peer, caller.call, GRPC_OK, NULL, 0, NULL, 0)
