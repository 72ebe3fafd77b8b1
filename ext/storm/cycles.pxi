# The cycles: what a slot sends next, and what each answer must say.
#
#     noop        noop, noop, ...
#     renew       renew of a random session, ...
#     open_close  open, close, ...                      (of one product or of a bundle)
#     retry       open, the same open again, close, ...
#     acquire     open, acquire, close, ...
#     churn       connect, renew (or open, close), end of the connection, ...
#
# Before it the sessions of the pool are opened, after it they are closed. An answer that is not what its step wants is a
# fault; then the slot goes on with a fresh cycle.

cdef bint is_pooled(const Storm* storm) noexcept nogil:
    return storm.plan.sessions != 0 and (storm.plan.cycle == CYCLE_RENEW or storm.plan.cycle == CYCLE_CHURN)


cdef uint8_t step_of_session(const Storm* storm, const Slot* slot) noexcept nogil:
    """With a session open."""
    if storm.plan.cycle == CYCLE_RETRY and not slot.is_second_done:
        return STEP_REOPEN
    if storm.plan.cycle == CYCLE_ACQUIRE and not slot.is_second_done:
        return STEP_ACQUIRE
    return STEP_CLOSE


cdef const uint8_t* any_session(Storm* storm) noexcept nogil:
    """An id out of the pool; without a pool 32 random bytes, for servers that do not look."""
    cdef int i
    if storm.pool_count:
        return storm.pool + STORM_SESSION_SIZE * chance_below(&storm.chance, storm.pool_count)
    for i in range(4):
        (<uint64_t*>storm.scratch)[i] = chance_next(&storm.chance)
    return storm.scratch


cdef void step_make(Storm* storm, Slot* slot, uint8_t step, const uint8_t* session) noexcept nogil:
    slot.step = step
    slot.is_pending = 1
    slot.is_uncertain = 0
    if step != STEP_REOPEN:         # whose body is that of the Open before
        body_make(storm, slot, &storm.templates[step], session)


cdef bint pool_step(Storm* storm, Slot* slot) noexcept nogil:
    """The next Open or Close of the pool; False when there is none."""
    if storm.phase == PHASE_PREPARE and storm.pool_asked < storm.plan.sessions:
        storm.pool_asked += 1
        slot.step = STEP_OPEN
        slot.is_pending = 1
        slot.is_uncertain = 0
        body_make(storm, slot, &storm.pool_open, NULL)
    elif storm.phase == PHASE_CLEAN and storm.pool_closed < storm.pool_count:
        step_make(storm, slot, STEP_CLOSE, storm.pool + STORM_SESSION_SIZE * storm.pool_closed)
        storm.pool_closed += 1
    else:
        return False
    slot.is_for_pool = 1
    return True


cdef bint cycle_step(Storm* storm, Slot* slot) noexcept nogil:
    """The next request of a slot in this phase; False when it has none."""
    if storm.phase == PHASE_PREPARE or storm.phase == PHASE_CLEAN:
        return pool_step(storm, slot)
    slot.is_for_pool = 0
    if slot.has_session:
        step_make(storm, slot, step_of_session(storm, slot), slot.session)
    elif storm.plan.cycle == CYCLE_NOOP:
        step_make(storm, slot, STEP_NOOP, NULL)
    elif storm.plan.cycle == CYCLE_RENEW or is_pooled(storm):
        step_make(storm, slot, STEP_RENEW, any_session(storm))
    else:
        slot.is_second_done = 0
        step_make(storm, slot, STEP_OPEN, NULL)
    return True


# --- what answers say ----------------------------------------------------------------------------------------------------

cdef void denied(Storm* storm, Slot* slot, const Reading* reading) noexcept nogil:
    storm.counts.answers[ANSWER_DENIED] += 1
    slot.is_second_done = 1
    if not storm.plan.allows_denials or slot.is_for_pool:
        denial_fault(storm, slot, reading)


cdef void granted(Storm* storm, Slot* slot, const Reading* reading) noexcept nogil:
    """A grant for an Open or its repetition."""
    storm.counts.answers[ANSWER_REPLAYED if reading.is_replayed else ANSWER_GRANTED] += 1
    if slot.is_for_pool:
        memcpy(storm.pool + STORM_SESSION_SIZE * storm.pool_count, reading.session, STORM_SESSION_SIZE)
        storm.pool_count += 1
    elif slot.step == STEP_REOPEN:
        slot.is_second_done = 1
        if memcmp(slot.session, reading.session, STORM_SESSION_SIZE) != 0:
            fault_of(storm, slot, FAULT_OTHER_SESSION, b"the repetition was given another session", 0)
        elif not reading.is_replayed:
            fault_of(storm, slot, FAULT_NOT_REPLAYED, b"the repetition was not answered as one", 0)
    else:
        slot.has_session = 1
        memcpy(slot.session, reading.session, STORM_SESSION_SIZE)
        if reading.is_replayed and not slot.is_uncertain:
            fault_of(storm, slot, FAULT_REPLAYED, b"a new request was answered as a repetition", 0)


cdef void opened(Storm* storm, Slot* slot, const uint8_t* data, uint32_t size) noexcept nogil:
    cdef Reading reading
    if not oneof_read(data, size, 9, &reading) or reading.which == 0 or (reading.which == 1 and reading.session == NULL):
        storm.counts.answers[ANSWER_FAILED] += 1
        slot.has_session = 0
        fault_of(storm, slot, FAULT_MALFORMED, b"%lld bytes that are no OpenResponse", size)
    elif reading.which == 1:
        granted(storm, slot, &reading)
    elif reading.which == 2:
        denied(storm, slot, &reading)
    else:
        storm.counts.answers[ANSWER_ENDED] += 1
        slot.has_session = 0
        fault_of(storm, slot, FAULT_ENDED, b"its session is over, reason %lld", <int64_t>reading.reason)


cdef void acquired(Storm* storm, Slot* slot, const uint8_t* data, uint32_t size) noexcept nogil:
    cdef Reading reading
    slot.is_second_done = 1
    if not oneof_read(data, size, 4, &reading) or reading.which == 0 or reading.which > 2:
        storm.counts.answers[ANSWER_FAILED] += 1
        fault_of(storm, slot, FAULT_MALFORMED, b"%lld bytes that are no AcquireResponse", size)
    elif reading.which == 2:
        denied(storm, slot, &reading)
    elif reading.is_replayed and not slot.is_uncertain:
        storm.counts.answers[ANSWER_REPLAYED] += 1
        fault_of(storm, slot, FAULT_REPLAYED, b"a new request was answered as a repetition", 0)
    else:
        storm.counts.answers[ANSWER_REPLAYED if reading.is_replayed else ANSWER_ACQUIRED] += 1


cdef void closed(Storm* storm, Slot* slot, const uint8_t* data, uint32_t size) noexcept nogil:
    cdef Reading reading
    slot.has_session = 0
    if not close_read(data, size, &reading):
        storm.counts.answers[ANSWER_FAILED] += 1
        fault_of(storm, slot, FAULT_MALFORMED, b"%lld bytes that are no CloseResponse", size)
        return
    storm.counts.answers[ANSWER_CLOSED_AGAIN if reading.is_replayed else ANSWER_CLOSED] += 1
    if reading.reason != 1:
        fault_of(storm, slot, FAULT_END_REASON, b"end reason %lld instead of closed", <int64_t>reading.reason)
    elif reading.is_replayed and not slot.is_uncertain:
        fault_of(storm, slot, FAULT_REPLAYED, b"a new request was answered as a repetition", 0)


cdef void renewed(Storm* storm, Slot* slot, const uint8_t* data, uint32_t size) noexcept nogil:
    if is_protobuf(data, size):
        storm.counts.answers[ANSWER_RENEWED] += 1
        return
    storm.counts.answers[ANSWER_FAILED] += 1
    fault_of(storm, slot, FAULT_MALFORMED, b"%lld bytes that are no RenewResponse", size)


cdef void answer_judge(Storm* storm, Slot* slot, const uint8_t* data, uint32_t size) noexcept nogil:
    """The message of a call that ended with OK."""
    if slot.step == STEP_NOOP:
        storm.counts.answers[ANSWER_OK] += 1
    elif slot.step == STEP_RENEW:
        renewed(storm, slot, data, size)
    elif slot.step == STEP_ACQUIRE:
        acquired(storm, slot, data, size)
    elif slot.step == STEP_CLOSE:
        closed(storm, slot, data, size)
    else:
        opened(storm, slot, data, size)


cdef void answer_failed(Storm* storm, Slot* slot) noexcept nogil:
    """The call did not end with OK: the cycle begins anew; a session that may be open ends by its ttl."""
    storm.counts.answers[ANSWER_FAILED] += 1
    slot.has_session = 0
