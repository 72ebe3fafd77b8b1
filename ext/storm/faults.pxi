# What was wrong, counted by kind, each kind with the text of its first example.

cdef char* fault_note(Storm* storm, uint8_t fault) noexcept nogil:
    """Counts one; where its example is to be written, NULL if there is one already."""
    storm.counts.faults[fault] += 1
    return storm.examples[fault] if storm.examples[fault][0] == 0 else NULL


cdef void fault_text(Storm* storm, uint8_t fault, const char* text) noexcept nogil:
    cdef char* example = fault_note(storm, fault)
    if example != NULL:
        snprintf(example, STORM_EXAMPLE_SIZE, b"%s", text)


cdef const char* step_name(uint8_t step) noexcept nogil:
    if step == STEP_OPEN:
        return b"Open"
    if step == STEP_REOPEN:
        return b"Open, repeated"
    if step == STEP_RENEW:
        return b"Renew"
    if step == STEP_ACQUIRE:
        return b"Acquire"
    return b"Close" if step == STEP_CLOSE else b"the call"


cdef void fault_of(Storm* storm, const Slot* slot, uint8_t fault, const char* text, int64_t number) noexcept nogil:
    """A fault of one answer; the text may have one %lld."""
    cdef char said[160]
    cdef char* example = fault_note(storm, fault)
    if example == NULL:
        return
    snprintf(said, 160, text, <long long>number)
    snprintf(
        example, STORM_EXAMPLE_SIZE, b"%s on stream %d of connection %u: %s", step_name(slot.step), slot.stream_id,
        slot.link.number, said,
    )


cdef void status_fault(Storm* storm, const Slot* slot, const Field* reason) noexcept nogil:
    """A status other than OK, with its words."""
    cdef char* example = fault_note(storm, FAULT_STATUS)
    if example == NULL:
        return
    snprintf(
        example, STORM_EXAMPLE_SIZE, b"%s on stream %d of connection %u: status %d %.*s: %.*s", step_name(slot.step),
        slot.stream_id, slot.link.number, slot.grpc_status, <int>reason.size, <const char*>reason.data,
        <int>storm.note.message_size, <const char*>storm.note.message,
    )


cdef void denial_fault(Storm* storm, const Slot* slot, const Reading* reading) noexcept nogil:
    """A denial where seats should have sufficed."""
    cdef char* example = fault_note(storm, FAULT_DENIED)
    if example != NULL:
        snprintf(
            example, STORM_EXAMPLE_SIZE, b"%s on stream %d of connection %u: denied, reason %llu: %.*s", step_name(slot.step),
            slot.stream_id, slot.link.number, <unsigned long long>reading.reason, <int>reading.text_size,
            <const char*>reading.text,
        )


cdef void fatal(Storm* storm, const char* what, int number) noexcept nogil:
    """This machine, not the server: the storm ends."""
    storm.is_fatal = 1
    storm.phase = PHASE_OVER
    snprintf(storm.examples[FAULT_NONE], STORM_EXAMPLE_SIZE, b"%s: %s", what, strerror(number))
