# Statuses other than OK: google.rpc.Status with its google.rpc.ErrorInfo, as broker/verbs/errors.py makes them.
#
# `Failure.message` is what grpc-message carries (percent-encoded by who sends it); put_failure writes what
# grpc-status-details-bin carries. Codes are those of google.rpc.Code, which are gRPC's.

cdef enum:
    CODE_OK = 0
    CODE_INVALID_ARGUMENT = 3
    CODE_NOT_FOUND = 5
    CODE_RESOURCE_EXHAUSTED = 8
    CODE_UNAVAILABLE = 14
    CODE_UNAUTHENTICATED = 16


cdef inline void failure_begin(Failure* failure, int32_t code, const char* reason) noexcept nogil:
    failure.code = code
    failure.reason = reason
    failure.metadata_name = NULL
    failure.metadata.size = 0
    failure.message.size = 0


cdef void fail_field(Failure* failure, const FieldWords* words, int32_t index, uint64_t number) noexcept nogil:
    """INVALID_ARGUMENT for one field, of the renewal with that index if it is not negative."""
    cdef Wording wording
    wording.number = number
    failure_begin(failure, CODE_INVALID_ARGUMENT, "INVALID_FIELD")
    failure.metadata_name = "field"
    if index >= 0:
        say(&failure.metadata, "renewals[")
        say_number(&failure.metadata, index)
        say(&failure.metadata, "].")
    say(&failure.metadata, words.field)
    say_template(&failure.message, words.sentence, &wording)


cdef void fail_refused_field(Failure* failure, uint64_t refused) noexcept nogil:
    """An InvalidField of the ledger."""
    USHER_ASSERT(INVALID_USER <= refused <= INVALID_PRIORITY)
    if refused == INVALID_IDENTITY:
        failure_begin(failure, CODE_UNAUTHENTICATED, "IDENTITY_REQUIRED")
        say(&failure.message, INVALID_FIELD_WORDS[refused].sentence)
    else:
        fail_field(failure, &INVALID_FIELD_WORDS[refused], -1, 0)


cdef void fail_fault(Failure* failure, const WireError* error) noexcept nogil:
    """A message that never reached the ledger."""
    if error.fault == FAULT_FIELD:
        fail_refused_field(failure, error.number)
        return
    USHER_ASSERT(FAULT_NONE < error.fault < FAULT_FIELD)
    fail_field(failure, &FAULT_WORDS[error.fault], error.index, error.number)
    if error.fault == FAULT_MESSAGE:
        say(&failure.message, MESSAGE_NAMES[error.message])
        say(&failure.message, ".")


cdef void fail_not_found(Failure* failure, uint64_t fence, uint8_t end_reason) noexcept nogil:
    """`fence`: of the session id, 0 if that is not genuine. `end_reason`: END_NONE if it is not known."""
    cdef Wording wording
    wording.fence = fence
    wording.end_reason = end_reason
    failure_begin(failure, CODE_NOT_FOUND, "SESSION_NOT_FOUND")
    say_template(&failure.message, NOT_FOUND_SENTENCES[0 if fence == 0 else 1 if end_reason == END_NONE else 2], &wording)


cdef void fail_overloaded(Failure* failure, uint8_t bound) noexcept nogil:
    USHER_ASSERT(bound <= BOUND_LEASES_OF_SESSION)
    failure_begin(failure, CODE_RESOURCE_EXHAUSTED, "OVERLOADED")
    failure.metadata_name = "bound"
    say(&failure.metadata, BOUND_WORDS[bound].name)
    say(&failure.message, BOUND_WORDS[bound].sentence)


cdef void fail_outcome(Failure* failure, const Outcome* outcome, uint64_t fence) noexcept nogil:
    """An outcome that is neither a success nor a denial. The fence is the command's."""
    if outcome.status == STATUS_NOT_FOUND:
        fail_not_found(failure, fence, outcome.end_reason)
    elif outcome.status == STATUS_INVALID:
        fail_refused_field(failure, outcome.detail)
    elif outcome.status == STATUS_OVERLOADED:
        fail_overloaded(failure, outcome.detail)
    elif outcome.status == STATUS_REQUEST_ID_REUSED:
        failure_begin(failure, CODE_INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        say(&failure.message, REUSED_SENTENCE)
    elif outcome.status == STATUS_EVENTS_FULL:
        failure_begin(failure, CODE_UNAVAILABLE, "EVENTS_FULL")
        say(&failure.message, EVENTS_FULL_SENTENCE)
    elif outcome.status == STATUS_NOT_WRITABLE:
        failure_begin(failure, CODE_UNAVAILABLE, "RENEW_ONLY")
        say(&failure.message, NOT_WRITABLE_SENTENCE)
    else:
        USHER_ASSERT(outcome.status == STATUS_DRAINING)
        failure_begin(failure, CODE_UNAVAILABLE, "DRAINING")
        say(&failure.message, DRAINING_SENTENCE)


cdef inline void put_words(Writer* writer, uint32_t number, const char* words) noexcept nogil:
    put_text(writer, number, words, <uint32_t>strlen(words))


cdef void put_error_info(Writer* writer, const Failure* failure) noexcept nogil:
    """reason 1, domain 2, metadata 3: a map with one entry, name 1 and value 2."""
    cdef const uint8_t* end = writer.at
    if failure.metadata_name != NULL:
        put_text(writer, 2, failure.metadata.bytes, failure.metadata.size)
        put_words(writer, 1, failure.metadata_name)
        put_length(writer, 3, end)
    put_words(writer, 2, "usher")
    put_words(writer, 1, failure.reason)


cdef void put_failure(Writer* writer, const Failure* failure) noexcept nogil:
    """google.rpc.Status: code 1, message 2, details 3: one Any of type_url 1 and value 2."""
    cdef const uint8_t* end = writer.at
    put_error_info(writer, failure)
    put_length(writer, 2, end)
    put_words(writer, 1, "type.googleapis.com/google.rpc.ErrorInfo")
    put_length(writer, 3, end)
    put_text(writer, 2, failure.message.bytes, failure.message.size)
    put_number(writer, 1, <uint64_t>failure.code)
