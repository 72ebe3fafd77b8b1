# Time, chance and latency: clocks, a generator of random numbers, arrivals of an open loop, a log-linear histogram.
#
# Histogram: a value below 256 ns has a bucket of its own; above, each octave has 128, so that a bucket's bounds differ by at
# most 1/128. The largest value is kept exactly. Arrivals are two walks over the same random numbers: one counts what
# should have been sent by now, the other sends it. What lies between them is the backlog: kept, never dropped.

cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec time
    if clock_gettime(clock, &time) != 0:
        return 0
    return <int64_t>time.tv_sec * NS_A_SECOND + time.tv_nsec


# --- chance ------------------------------------------------------------------------------------------------------------

cdef inline uint64_t mixed(uint64_t* state) noexcept nogil:
    """splitmix64: the next of a plain counter, well mixed."""
    cdef uint64_t z
    state[0] += 0x9E3779B97F4A7C15ULL
    z = state[0]
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL
    return z ^ (z >> 31)


cdef void chance_begin(Chance* chance, uint64_t seed) noexcept nogil:
    cdef int i
    for i in range(4):
        chance.state[i] = mixed(&seed)


cdef inline uint64_t rotated(uint64_t x, int count) noexcept nogil:
    return (x << count) | (x >> (64 - count))


cdef inline uint64_t chance_next(Chance* chance) noexcept nogil:
    """xoshiro256**."""
    cdef uint64_t* s = chance.state
    cdef uint64_t result = rotated(s[1] * 5, 7) * 9
    cdef uint64_t t = s[1] << 17
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotated(s[3], 45)
    return result


cdef inline uint64_t chance_below(Chance* chance, uint64_t bound) noexcept nogil:
    """Uniform below a bound of at most 2^32, but for one part in 2^32."""
    return ((chance_next(chance) >> 32) * bound) >> 32


# --- arrivals -----------------------------------------------------------------------------------------------------------

cdef inline void arrivals_step(Arrivals* arrivals, const Plan* plan) noexcept nogil:
    cdef double part
    if plan.is_poisson:
        part = (<double>(chance_next(&arrivals.chance) >> 11) + 1.0) / 9007199254740993.0  # in (0, 1]
        arrivals.due += -log(part) * plan.interval
    else:
        arrivals.due += plan.interval


cdef void arrivals_begin(Storm* storm, Arrivals* arrivals) noexcept nogil:
    arrivals.start = storm.now
    arrivals.due = 0
    arrivals_step(arrivals, &storm.plan)


cdef inline int64_t arrivals_due(const Arrivals* arrivals) noexcept nogil:
    return arrivals.start + <int64_t>arrivals.due


cdef void arrivals_count(Storm* storm) noexcept nogil:
    """All that should have been sent by now; none in a closed loop."""
    if storm.plan.interval <= 0:
        return
    while arrivals_due(&storm.lead) <= storm.now and arrivals_due(&storm.lead) < storm.run_end:
        storm.counts.arrived += 1
        arrivals_step(&storm.lead, &storm.plan)
    storm.counts.backlog_peak = max(storm.counts.backlog_peak, storm.counts.arrived - storm.counts.taken)


# --- histogram ------------------------------------------------------------------------------------------------------------

cdef inline uint32_t bucket_of(uint64_t value) noexcept nogil:
    cdef uint32_t shift
    if value < 2 << HISTOGRAM_SUB_BITS:
        return <uint32_t>value
    shift = 63 - HISTOGRAM_SUB_BITS - leading_zeros(value)
    return min((shift << HISTOGRAM_SUB_BITS) + <uint32_t>(value >> shift), <uint32_t>HISTOGRAM_COUNT - 1)


cdef inline uint64_t bucket_end(uint32_t bucket) noexcept nogil:
    """The largest value that falls into a bucket."""
    cdef uint32_t shift
    if bucket < 2 << HISTOGRAM_SUB_BITS:
        return bucket
    shift = (bucket >> HISTOGRAM_SUB_BITS) - 1
    return ((<uint64_t>(bucket - (shift << HISTOGRAM_SUB_BITS)) + 1) << shift) - 1


cdef inline void histogram_add(Histogram* histogram, int64_t value) noexcept nogil:
    value = max(value, 0)
    histogram.counts[bucket_of(<uint64_t>value)] += 1
    histogram.count += 1
    histogram.sum += <uint64_t>value
    histogram.largest = max(histogram.largest, value)
