# Sentences for people, composed from the templates of ext/native/usher_sentences.h: bounded, without allocation.

cdef extern from "usher_sentences.h" nogil:
    ctypedef struct BoundWords "usher_bound_words":
        const char* name
        const char* sentence
    ctypedef struct FieldWords "usher_field_words":
        const char* field
        const char* sentence
    const char* const DENIAL_SENTENCES "usher_denial_sentences"[]
    const char* const NO_FREE_SEATS_SENTENCES "usher_no_free_seats"[]
    const char* const END_WORDS "usher_end_words"[]
    const char* const NOT_FOUND_SENTENCES "usher_not_found"[]
    const BoundWords BOUND_WORDS "usher_bounds"[]
    const FieldWords INVALID_FIELD_WORDS "usher_invalid_fields"[]
    const FieldWords FAULT_WORDS "usher_faults"[]
    const char* const MESSAGE_NAMES "usher_messages"[]
    const char* const REUSED_SENTENCE "usher_reused"
    const char* const EVENTS_FULL_SENTENCE "usher_events_full"
    const char* const DRAINING_SENTENCE "usher_draining"
    const char* const NOT_WRITABLE_SENTENCE "usher_not_writable"

cdef enum:
    NUMBER_SIZE_MAX = 24
    FENCE_COUNTER_BITS = 40


cdef struct Wording:                # what the places in a template stand for; only those that it has are set
    const uint8_t* product
    uint32_t product_size
    const DenialRecord* denial
    uint64_t number
    uint64_t fence
    int32_t end_reason


cdef inline void say_bytes(Sentence* sentence, const void* data, uint32_t size) noexcept nogil:
    USHER_ASSERT(sentence.size + size <= SENTENCE_SIZE_MAX)
    memcpy(&sentence.bytes[sentence.size], data, size)
    sentence.size += size


cdef inline void say(Sentence* sentence, const char* text) noexcept nogil:
    say_bytes(sentence, text, <uint32_t>strlen(text))


cdef void say_number(Sentence* sentence, int64_t number) noexcept nogil:
    cdef char digits[NUMBER_SIZE_MAX]
    cdef int start = NUMBER_SIZE_MAX
    cdef uint64_t rest = <uint64_t>number if number >= 0 else 0 - <uint64_t>number
    while rest or start == NUMBER_SIZE_MAX:
        start -= 1
        digits[start] = <char>(48 + rest % 10)
        rest //= 10
    if number < 0:
        start -= 1
        digits[start] = 45
    say_bytes(sentence, &digits[start], NUMBER_SIZE_MAX - start)


cdef inline void say_seats(Sentence* sentence, int64_t count) noexcept nogil:
    say_number(sentence, count)
    say(sentence, " seat" if count == 1 else " seats")


cdef inline void say_is_or_are(Sentence* sentence, int64_t count) noexcept nogil:
    say(sentence, "is" if count == 1 else "are")


cdef void say_seconds(Sentence* sentence, int64_t duration_ns) noexcept nogil:
    """Six digits at most, as "%g" of C and Python: "5 s", "0.5 s"."""
    cdef char digits[NUMBER_SIZE_MAX]
    cdef int64_t whole = duration_ns // NS_PER_SECOND
    if whole * NS_PER_SECOND == duration_ns and 0 <= whole < 1000000:
        say_number(sentence, whole)
    else:
        snprintf(digits, NUMBER_SIZE_MAX, "%g", <double>duration_ns / 1e9)
        say(sentence, digits)
    say(sentence, " s")


cdef void say_again(Sentence* sentence, const DenialRecord* denial) noexcept nogil:
    if denial.retry_after == 0:
        say(sentence, "ask again later")
        return
    say(sentence, "ask again in ")
    say_seconds(sentence, denial.retry_after)


cdef void say_public_id(Sentence* sentence, uint64_t fence) noexcept nogil:
    """"generation.counter"; nothing for 0, which is no session."""
    if fence == 0:
        return
    say_number(sentence, <int64_t>(fence >> FENCE_COUNTER_BITS))
    say(sentence, ".")
    say_number(sentence, <int64_t>(fence & ((<uint64_t>1 << FENCE_COUNTER_BITS) - 1)))


cdef void say_place(Sentence* sentence, char letter, const Wording* wording) noexcept nogil:
    """One place of a template."""
    if letter == c"p":
        say_bytes(sentence, wording.product, wording.product_size)
    elif letter == c"a":
        say_again(sentence, wording.denial)
    elif letter == c"c":
        say_number(sentence, wording.denial.capacity)
    elif letter == c"u":
        say_number(sentence, wording.denial.in_use)
    elif letter == c"U":
        say_seats(sentence, wording.denial.in_use)
    elif letter == c"b":
        say_is_or_are(sentence, wording.denial.in_use)
    elif letter == c"R":
        say_seats(sentence, wording.denial.reserved)
    elif letter == c"f":
        say_number(sentence, <int64_t>wording.denial.capacity - wording.denial.in_use)
    elif letter == c"F":
        say_is_or_are(sentence, <int64_t>wording.denial.capacity - wording.denial.in_use)
    elif letter == c"n":
        say_number(sentence, <int64_t>wording.number)
    elif letter == c"s":
        say_public_id(sentence, wording.fence)
    else:
        USHER_ASSERT(letter == c"e" and 0 <= wording.end_reason < END_REASON_COUNT)
        say(sentence, END_WORDS[wording.end_reason])


cdef void say_template(Sentence* sentence, const char* template, const Wording* wording) noexcept nogil:
    cdef const char* place = strchr(template, c"%")
    while place != NULL:
        say_bytes(sentence, template, <uint32_t>(place - template))
        say_place(sentence, place[1], wording)
        template = place + 2
        place = strchr(template, c"%")
    say(sentence, template)


cdef const char* denial_template(const DenialRecord* denial) noexcept nogil:
    if denial.reason != DENIAL_NO_FREE_SEATS:
        return DENIAL_SENTENCES[denial.reason if denial.reason < DENIAL_REASON_COUNT else 0]
    if <int64_t>denial.capacity - denial.in_use > 0:
        return NO_FREE_SEATS_SENTENCES[2]
    return NO_FREE_SEATS_SENTENCES[denial.capacity == 1]


cdef void say_denial(Sentence* sentence, const DenialRecord* denial, const uint8_t* product, uint32_t product_size) noexcept nogil:
    cdef Wording wording
    wording.denial = denial
    wording.product = product
    wording.product_size = product_size
    sentence.size = 0
    say_template(sentence, denial_template(denial), &wording)
