# What the calls of a loop came to: counts, sums and histograms by method and outcome, as broker/verbs/stats.py keeps them.
#
# Outcomes are numbered as its OUTCOMES, buckets as its BUCKET_BOUNDS_SECONDS, bounds inclusive; tests/listener holds the two
# against each other. Only Sessions is counted, a call once, when its answer is said: what h2 refuses or a peer cancels stands in
# h2's totals. Plain stores by the loop's thread; whoever reads from another sees each number whole, but not all at one instant.

cdef enum:  # methods as they are registered, up to METHOD_KEEP_ALIVE
    METHOD_OPEN = 0
    METHOD_RENEW = 1
    METHOD_ACQUIRE = 2
    METHOD_RELEASE = 3
    METHOD_CLOSE = 4

cdef enum:
    OUTCOME_OK = 0
    OUTCOME_GRANTED = 1
    OUTCOME_DENIED = 2
    OUTCOME_ENDED = 3
    OUTCOME_INVALID = 4
    OUTCOME_NOT_FOUND = 5
    OUTCOME_UNAUTHENTICATED = 6
    OUTCOME_OVERLOADED = 7
    OUTCOME_UNAVAILABLE = 8
    OUTCOME_UNIMPLEMENTED = 9
    OUTCOME_FAILED = 10
    OUTCOME_INTERNAL = 11
    NOT_COUNTED = 0xFF

cdef extern from *:
    """
    /* By Status of the ledger. */
    static const unsigned char usher_outcome_of_status[] = {
        11 /* none */, 1 /* granted */, 2 /* denied */, 3 /* ended */, 0 /* renewed */, 1 /* acquired */, 0 /* released */,
        0 /* closed */, 5 /* not found */, 4 /* request id reused */, 4 /* invalid */, 7 /* overloaded */,
        8 /* events full */, 8 /* draining */, 8 /* not writable */,
    };

    /* 1-2-5 from 10 us to 10 s, in nanoseconds. */
    static const long long usher_latency_bounds[] = {
        10000LL, 20000LL, 50000LL, 100000LL, 200000LL, 500000LL, 1000000LL, 2000000LL, 5000000LL, 10000000LL,
        20000000LL, 50000000LL, 100000000LL, 200000000LL, 500000000LL, 1000000000LL, 2000000000LL, 5000000000LL,
        10000000000LL,
    };
    """
    const uint8_t OUTCOME_OF_STATUS "usher_outcome_of_status"[15]
    const long long LATENCY_BOUNDS "usher_latency_bounds"[19]


cdef inline uint8_t outcome_of(const Outcome* outcome) noexcept nogil:
    """Of an answer of the ledger. An identity that is none is no bad field."""
    if outcome.status == STATUS_INVALID and outcome.detail == INVALID_IDENTITY:
        return OUTCOME_UNAUTHENTICATED
    USHER_ASSERT(outcome.status <= STATUS_NOT_WRITABLE)
    return OUTCOME_OF_STATUS[outcome.status]


cdef inline uint8_t outcome_of_code(int32_t code) noexcept nogil:
    """Of a call that was refused before the ledger was asked."""
    if code == CODE_INVALID_ARGUMENT:
        return OUTCOME_INVALID
    if code == CODE_UNAUTHENTICATED:
        return OUTCOME_UNAUTHENTICATED
    if code == CODE_RESOURCE_EXHAUSTED:
        return OUTCOME_OVERLOADED
    return OUTCOME_UNAVAILABLE if code == CODE_UNAVAILABLE else OUTCOME_INTERNAL


cdef inline uint32_t bucket_of(int64_t latency) noexcept nogil:
    """Most are in the first."""
    cdef uint32_t bucket = 0
    while bucket < LATENCY_BUCKET_COUNT - 1 and latency > LATENCY_BOUNDS[bucket]:
        bucket += 1
    return bucket


cdef inline void count_call(Loop* loop, uint8_t method, uint8_t outcome, int64_t received) noexcept nogil:
    """A call that is answered now."""
    cdef CallTotals* totals = &loop.service.totals[method]
    cdef int64_t latency = loop.now - received
    USHER_ASSERT(method < METHOD_COUNT and outcome < OUTCOME_COUNT)
    totals.counts[outcome] += 1
    totals.sums_ns[outcome] += <uint64_t>max(latency, <int64_t>0)
    totals.buckets[outcome][bucket_of(latency)] += 1
