# The ledger's outcomes as messages of Sessions, byte for byte as broker/verbs/messages.py and protobuf make them.
#
# put_... writes the fields of a message in front of what is there; whoever embeds it adds the length. Products of leases are the ledger's;
# of denials they are the request's own words, since a product may be unknown here.

# Two data planes must say the same: the formula is that of the head comment of broker/verbs/settings.py.
cdef inline int64_t renew_after_of(int64_t ttl_ns, uint64_t fence) noexcept nogil:
    cdef uint64_t mixed = fence * <uint64_t>0x9E3779B97F4A7C15u
    cdef int64_t permille = 900 + <int64_t>((mixed >> 32) % 201)
    return ttl_ns * permille // 3000


cdef inline void put_public_id(Writer* writer, uint32_t number, uint64_t fence) noexcept nogil:
    cdef Sentence public_id
    public_id.size = 0
    say_public_id(&public_id, fence)
    put_text(writer, number, public_id.bytes, public_id.size)


cdef void put_lease(Writer* writer, uint32_t number, const AnswerContext* context, const LeaseOut* lease) noexcept nogil:
    cdef const uint8_t* end = writer.at
    cdef const Product* product = &context.products[lease.product]
    put_number(writer, 8, lease.fence)
    if lease.state == LEASE_KEY_GRACE:
        put_duration(writer, 7, lease.key_grace)
    put_number(writer, 6, lease.is_emulated != 0)
    put_number(writer, 5, lease.is_shared != 0)
    put_number(writer, 4, <uint64_t><int64_t>lease.seats)
    put_number(writer, 3, lease.end_reason)
    put_number(writer, 2, lease.state)
    put_text(writer, 1, product.name, product.name_size)
    put_length(writer, number, end)


cdef void put_leases(Writer* writer, uint32_t number, const AnswerContext* context, const LeaseOut* leases, uint32_t count) noexcept nogil:
    while count:
        count -= 1
        put_lease(writer, number, context, &leases[count])


cdef void put_denial(Writer* writer, uint32_t number, const Names* names, const DenialRecord* denial) noexcept nogil:
    cdef const uint8_t* end = writer.at
    cdef const uint8_t* product = names.bytes[denial.item]
    cdef uint32_t product_size = names.sizes[denial.item]
    cdef Sentence sentence
    USHER_ASSERT(denial.item < names.count)
    say_denial(&sentence, denial, product, product_size)
    put_text(writer, 10, sentence.bytes, sentence.size)
    if denial.retry_after:
        put_duration(writer, 9, denial.retry_after)
    put_number(writer, 8, <uint64_t><int64_t>denial.waiters)
    put_number(writer, 7, <uint64_t><int64_t>denial.deficit)
    put_number(writer, 6, <uint64_t><int64_t>denial.withheld)
    put_number(writer, 5, <uint64_t><int64_t>denial.reserved)
    put_number(writer, 4, <uint64_t><int64_t>denial.in_use)
    put_number(writer, 3, <uint64_t><int64_t>denial.capacity)
    put_text(writer, 2, product, product_size)
    put_number(writer, 1, denial.reason)
    put_length(writer, number, end)


cdef void put_unavailable(Writer* writer, uint32_t number, const Names* names, const Outcome* outcome, const Workspace* space) noexcept nogil:
    cdef uint32_t i = outcome.unavailable_count
    while i:
        i -= 1
        put_denial(writer, number, names, &space.unavailable[outcome.first_unavailable + i])


cdef inline const LeaseOut* leases_of(const Outcome* outcome, const Workspace* space) noexcept nogil:
    return &space.leases[outcome.first_lease]


cdef void put_grant(Writer* writer, uint32_t number, const AnswerContext* context, const Names* names, const Outcome* outcome, const Workspace* space) noexcept nogil:
    cdef const uint8_t* end = writer.at
    put_number(writer, 9, outcome.is_replayed != 0)
    put_number(writer, 8, outcome.change_version)
    put_unavailable(writer, 7, names, outcome, space)
    put_leases(writer, 6, context, leases_of(outcome, space), outcome.lease_count)
    put_duration(writer, 5, context.renew_grace)
    put_duration(writer, 4, renew_after_of(outcome.ttl, outcome.fence))
    put_duration(writer, 3, outcome.ttl)
    put_public_id(writer, 2, outcome.fence)
    put_text(writer, 1, outcome.session_id, SESSION_ID_SIZE)
    put_length(writer, number, end)


cdef void put_session_ended(Writer* writer, uint32_t number, uint64_t fence, uint32_t end_reason) noexcept nogil:
    cdef const uint8_t* end = writer.at
    put_number(writer, 2, end_reason)
    put_public_id(writer, 1, fence)
    put_length(writer, number, end)


cdef inline void put_renewed(Writer* writer, const AnswerContext* context, const Outcome* outcome, const Workspace* space) noexcept nogil:
    """RenewResponse."""
    put_leases(writer, 4, context, leases_of(outcome, space), outcome.lease_count)
    put_number(writer, 3, outcome.change_version)
    put_duration(writer, 2, renew_after_of(outcome.ttl, outcome.fence))
    put_duration(writer, 1, outcome.ttl)


cdef void put_acquired(Writer* writer, const AnswerContext* context, const Names* names, const Outcome* outcome, const Workspace* space) noexcept nogil:
    cdef const uint8_t* end = writer.at
    put_number(writer, 4, outcome.is_replayed != 0)
    put_number(writer, 3, outcome.change_version)
    put_unavailable(writer, 2, names, outcome, space)
    put_leases(writer, 1, context, leases_of(outcome, space), outcome.lease_count)
    put_length(writer, 1, end)


cdef void put_released(Writer* writer, const Outcome* outcome) noexcept nogil:
    cdef const uint8_t* end = writer.at
    put_number(writer, 3, outcome.is_replayed != 0)
    put_number(writer, 2, outcome.change_version)
    put_number(writer, 1, outcome.detail != 0)
    put_length(writer, 1, end)


# --- one answer to one command -------------------------------------------------------------------------------------------------
# Each says whether the outcome was an answer; if not, nothing is written, and it is a failure (refusals.pxi).

cdef bint put_open_answer(Writer* writer, const AnswerContext* context, const Names* names, const Outcome* outcome, const Workspace* space) noexcept nogil:
    """OpenResponse: grant 1, denial 2, ended 3."""
    if outcome.status == STATUS_GRANTED:
        put_grant(writer, 1, context, names, outcome, space)
    elif outcome.status == STATUS_DENIED:
        put_denial(writer, 2, names, &outcome.denial)
    elif outcome.status == STATUS_ENDED:
        put_session_ended(writer, 3, outcome.fence, outcome.end_reason)
    else:
        return False
    return True


cdef bint put_acquire_answer(Writer* writer, const AnswerContext* context, const Names* names, const Outcome* outcome, const Workspace* space) noexcept nogil:
    """AcquireResponse: acquired 1, denial 2."""
    if outcome.status == STATUS_ACQUIRED:
        put_acquired(writer, context, names, outcome, space)
    elif outcome.status == STATUS_DENIED:
        put_denial(writer, 2, names, &outcome.denial)
    else:
        return False
    return True


cdef bint put_release_answer(Writer* writer, const Names* names, const Outcome* outcome) noexcept nogil:
    """ReleaseResponse: released 1, denial 2."""
    if outcome.status == STATUS_RELEASED:
        put_released(writer, outcome)
    elif outcome.status == STATUS_DENIED:
        put_denial(writer, 2, names, &outcome.denial)
    else:
        return False
    return True


cdef bint put_close_answer(Writer* writer, const Outcome* outcome) noexcept nogil:
    """CloseResponse: end_reason 1, replayed 2."""
    if outcome.status != STATUS_CLOSED:
        return False
    put_number(writer, 2, outcome.is_replayed != 0)
    put_number(writer, 1, outcome.end_reason)
    return True


cdef bint put_answer(Writer* writer, uint8_t verb, const AnswerContext* context, const Names* names, const Outcome* outcome, const Workspace* space) noexcept nogil:
    """The response to a command of that verb, whose names are `names`."""
    if verb == VERB_RENEW:
        if outcome.status == STATUS_RENEWED:
            put_renewed(writer, context, outcome, space)
        return outcome.status == STATUS_RENEWED
    if verb == VERB_OPEN:
        return put_open_answer(writer, context, names, outcome, space)
    if verb == VERB_ACQUIRE:
        return put_acquire_answer(writer, context, names, outcome, space)
    if verb == VERB_RELEASE:
        return put_release_answer(writer, names, outcome)
    USHER_ASSERT(verb == VERB_CLOSE)
    return put_close_answer(writer, outcome)


cdef int32_t answer_or_failure(Writer* writer, const AnswerContext* context, const Command* command, const Outcome* outcome, const Workspace* space, Failure* failure) noexcept nogil:
    """CODE_OK and the response; else the code, `failure` and the google.rpc.Status."""
    if put_answer(writer, command.verb, context, &command.names, outcome, space):
        return CODE_OK
    fail_outcome(failure, outcome, command.fence)
    put_failure(writer, failure)
    return failure.code


# --- OpenWaiting ----------------------------------------------------------------------------------------------------------------

cdef bint put_open_waiting_answer(Writer* writer, const AnswerContext* context, const Names* names, const Outcome* outcome, const Workspace* space, int64_t offer_hold) noexcept nogil:
    """The last OpenWaitingResponse: offered 2 (grant 1, offer_hold 2), denial 3, ended 4."""
    cdef const uint8_t* end = writer.at
    if outcome.status == STATUS_GRANTED:
        put_duration(writer, 2, offer_hold)
        put_grant(writer, 1, context, names, outcome, space)
        put_length(writer, 2, end)
    elif outcome.status == STATUS_DENIED:
        put_denial(writer, 3, names, &outcome.denial)
    elif outcome.status == STATUS_ENDED:
        put_session_ended(writer, 4, outcome.fence, outcome.end_reason)
    else:
        return False
    return True


# --- KeepAlive ------------------------------------------------------------------------------------------------------------------
# A KeepAliveResponse is its results, then its notices, one behind the other: whoever sends them joins framed items until
# one more could pass STREAM_ANSWER_SIZE_MAX. is_over_message counts as broker/verbs/keep_alive.py does.

cdef inline bint is_over_message(uint32_t part_size, uint32_t item_size) noexcept nogil:
    """Whether an item of that size (without its frame) must begin another message; part_size: 4 + size of each in this one."""
    return part_size != 0 and part_size + item_size + STREAM_ITEM_FRAME_SIZE > STREAM_ANSWER_SIZE_MAX


cdef uint32_t put_keep_alive_result(Writer* writer, const AnswerContext* context, const Command* command, const Outcome* outcome, const Workspace* space) noexcept nogil:
    """A framed KeepAliveResult: session_id 1, renewed 2, ended 3. Gives its size without the frame.

    Not for EVENTS_FULL: where one renewal of a message comes out so, all are done, none is told, and the stream ends with it."""
    cdef const uint8_t* end = writer.at
    cdef uint32_t size
    if outcome.status == STATUS_RENEWED:
        put_renewed(writer, context, outcome, space)
        put_length(writer, 2, end)
    else:
        USHER_ASSERT(outcome.status == STATUS_NOT_FOUND)
        put_session_ended(writer, 3, command.fence, outcome.end_reason)
    put_text(writer, 1, command.session_id, SESSION_ID_SIZE)
    size = <uint32_t>(end - writer.at)
    put_length(writer, 1, end)
    return size


cdef uint32_t put_ended_notice(Writer* writer, const uint8_t* session_id, uint64_t fence, uint32_t end_reason) noexcept nogil:
    """A framed Notice: session_id 1, session_ended 4."""
    cdef const uint8_t* end = writer.at
    cdef uint32_t size
    put_session_ended(writer, 4, fence, end_reason)
    put_text(writer, 1, session_id, SESSION_ID_SIZE)
    size = <uint32_t>(end - writer.at)
    put_length(writer, 2, end)
    return size


cdef uint32_t put_leases_notice(Writer* writer, const AnswerContext* context, const uint8_t* session_id, const LeaseOut* leases, uint32_t count, uint64_t change_version) noexcept nogil:
    """A framed Notice: session_id 1, leases_changed 2 (leases 1, change_version 2)."""
    cdef const uint8_t* end = writer.at
    cdef uint32_t size
    put_number(writer, 2, change_version)
    put_leases(writer, 1, context, leases, count)
    put_length(writer, 2, end)
    put_text(writer, 1, session_id, SESSION_ID_SIZE)
    size = <uint32_t>(end - writer.at)
    put_length(writer, 2, end)
    return size
