# Memory: numbered records, hash indexes, heaps and the text arena, all reserved once.
#
# Reserved address space costs nothing until it is touched (MAP_NORESERVE); large regions ask for huge pages, which
# halves the cost of a random access at a million sessions. Nothing grows, so no call ever has to copy a table.


cdef void* region_reserve(State* s, uint64_t size) noexcept nogil:
    """Zeroed address space, or NULL."""
    cdef void* base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if base == MAP_FAILED:
        return NULL
    if size >= 4194304:
        madvise(base, size, MADV_HUGEPAGE)
    s.reserved_size += size
    return base


# --- slabs ---------------------------------------------------------------------------------------------------

cdef bint slab_reserve(State* s, Slab* slab, uint32_t record_size, uint64_t count_max) noexcept nogil:
    slab.base = <uint8_t*>region_reserve(s, <uint64_t>record_size * count_max)
    slab.free_numbers = <uint32_t*>region_reserve(s, 4 * count_max)
    slab.free_count = slab.high = slab.live = 0
    slab.count_max = <uint32_t>count_max
    slab.record_size = record_size
    return slab.base != NULL and slab.free_numbers != NULL


cdef void slab_release(Slab* slab) noexcept nogil:
    if slab.base != NULL:
        munmap(slab.base, <uint64_t>slab.record_size * slab.count_max)
    if slab.free_numbers != NULL:
        munmap(slab.free_numbers, <uint64_t>4 * slab.count_max)


cdef inline uint32_t slab_free_count(const Slab* slab) noexcept nogil:
    return slab.count_max - slab.live


cdef inline uint32_t slab_take(Slab* slab) noexcept nogil:
    """The number of a record; the caller has made sure that there is one."""
    USHER_ASSERT(slab.live < slab.count_max)
    slab.live += 1
    if slab.free_count:
        slab.free_count -= 1
        return slab.free_numbers[slab.free_count]
    slab.high += 1
    return slab.high - 1


cdef inline void slab_give(Slab* slab, uint32_t number) noexcept nogil:
    USHER_ASSERT(number < slab.high and slab.live > 0)
    slab.free_numbers[slab.free_count] = number
    slab.free_count += 1
    slab.live -= 1


cdef inline Session* session_at(State* s, uint32_t number) noexcept nogil:
    return <Session*>s.sessions.base + number


cdef inline Lease* lease_at(State* s, uint32_t number) noexcept nogil:
    return <Lease*>s.leases.base + number


cdef inline Charge* charge_at(State* s, uint32_t number) noexcept nogil:
    return <Charge*>s.charges.base + number


cdef inline Request* request_at(State* s, uint32_t number) noexcept nogil:
    return <Request*>s.requests.base + number


cdef inline DenialRecord* denial_at(State* s, uint32_t number) noexcept nogil:
    return <DenialRecord*>s.denials.base + number


# --- hash indexes ----------------------------------------------------------------------------------------------
# Buckets of one cache line, after the F14 tables of Facebook's folly:
#
#     0  tag u16 × 10     of the hash; 0: the place is empty
#    20  overflow u32     entries whose home is this bucket or an earlier one, and that had to go on past it
#    24  number u32 × 10  of records
#
# A lookup is one line, almost always; a removal clears one place and moves nothing, so it looks at no other record.

cdef enum:
    BUCKET_LOAD = 8                 # places used of ten, when all records are


cdef bint index_reserve(State* s, Index* index, uint64_t count_max) noexcept nogil:
    index.bucket_count = count_max // BUCKET_LOAD + 8
    index.buckets = <Bucket*>region_reserve(s, index.bucket_count * sizeof(Bucket))
    return index.buckets != NULL


cdef void index_release(Index* index) noexcept nogil:
    if index.buckets != NULL:
        munmap(index.buckets, index.bucket_count * sizeof(Bucket))


cdef inline uint16_t tag_of(uint32_t hashed) noexcept nogil:
    """Of the low bits, while the high ones choose the bucket."""
    return <uint16_t>hashed if <uint16_t>hashed else 1


cdef inline Bucket* home_bucket(const Index* index, uint32_t hashed) noexcept nogil:
    return &index.buckets[(<uint64_t>hashed * index.bucket_count) >> 32]


cdef inline Bucket* next_bucket(const Index* index, const Bucket* bucket) noexcept nogil:
    if bucket == &index.buckets[index.bucket_count - 1]:
        return index.buckets
    return <Bucket*>bucket + 1


cdef inline void index_add(Index* index, uint32_t hashed, uint32_t number) noexcept nogil:
    cdef Bucket* bucket = home_bucket(index, hashed)
    cdef uint32_t empty = match_tags(bucket.tags, 0)
    cdef int place
    while empty == 0:
        bucket.overflow += 1
        bucket = next_bucket(index, bucket)
        empty = match_tags(bucket.tags, 0)
    place = count_trailing_zeros(empty)
    bucket.tags[place] = tag_of(hashed)
    bucket.numbers[place] = number


cdef inline int bucket_place(const Bucket* bucket, uint16_t tag, uint32_t number) noexcept nogil:
    """Where the record stands in the bucket; -1."""
    cdef uint32_t matches = match_tags(bucket.tags, tag)
    cdef int place
    while matches:
        place = count_trailing_zeros(matches)
        if bucket.numbers[place] == number:
            return place
        matches &= matches - 1
    return -1


cdef inline void index_remove(Index* index, uint32_t hashed, uint32_t number) noexcept nogil:
    cdef Bucket* bucket = home_bucket(index, hashed)
    cdef int place = bucket_place(bucket, tag_of(hashed), number)
    while place < 0:
        USHER_ASSERT(bucket.overflow > 0)
        bucket.overflow -= 1
        bucket = next_bucket(index, bucket)
        place = bucket_place(bucket, tag_of(hashed), number)
    bucket.tags[place] = 0


cdef struct Probe:                  # goes over the records that may have a hash
    const Index* index
    const Bucket* bucket
    uint32_t matches
    uint16_t tag


cdef inline void probe_begin(Probe* probe, const Index* index, uint32_t hashed) noexcept nogil:
    probe.index = index
    probe.bucket = home_bucket(index, hashed)
    probe.tag = tag_of(hashed)
    probe.matches = match_tags(probe.bucket.tags, probe.tag)


cdef inline uint32_t probe_next(Probe* probe) noexcept nogil:
    """The next candidate; NONE."""
    cdef uint32_t number
    while probe.matches == 0:
        if probe.bucket.overflow == 0:
            return NONE
        probe.bucket = next_bucket(probe.index, probe.bucket)
        probe.matches = match_tags(probe.bucket.tags, probe.tag)
    number = probe.bucket.numbers[count_trailing_zeros(probe.matches)]
    probe.matches &= probe.matches - 1
    return number


cdef inline uint32_t mixed_hash(uint64_t value) noexcept nogil:
    cdef uint64_t word = value * <uint64_t>0x9E3779B97F4A7C15
    return <uint32_t>((word ^ (word >> 29)) * <uint64_t>0xBF58476D1CE4E5B9 >> 32)


cdef inline uint32_t request_by_lookup(State* s, const uint64_t* lookup) noexcept nogil:
    cdef Probe probe
    cdef uint32_t number
    cdef Request* request
    probe_begin(&probe, &s.by_request, <uint32_t>lookup[0])
    number = probe_next(&probe)
    while number != NONE:
        request = request_at(s, number)
        if request.lookup[0] == lookup[0] and request.lookup[1] == lookup[1]:
            break
        number = probe_next(&probe)
    return number


# --- heaps -------------------------------------------------------------------------------------------------------
# Of (time, fence), four children a node: a million deadlines are ten levels. A session's entry may be too early,
# because a renew only writes the session's record; `advance` puts such an entry right when its time comes. Entries are
# therefore never too late, and what reaches the top and is right is the least of all.

cdef bint heap_reserve(State* s, Heap* heap, uint64_t count_max, bint is_of_charges) noexcept nogil:
    heap.times = <int64_t*>region_reserve(s, 8 * count_max)
    heap.numbers = <uint32_t*>region_reserve(s, 4 * count_max)
    heap.count = 0
    heap.is_of_charges = is_of_charges
    return heap.times != NULL and heap.numbers != NULL


cdef void heap_release(Heap* heap, uint64_t count_max) noexcept nogil:
    if heap.times != NULL:
        munmap(heap.times, 8 * count_max)
    if heap.numbers != NULL:
        munmap(heap.numbers, 4 * count_max)


cdef inline uint64_t heap_fence(State* s, Heap* heap, uint32_t number) noexcept nogil:
    return charge_at(s, number).fence if heap.is_of_charges else session_at(s, number).fence


cdef inline bint heap_is_before(State* s, Heap* heap, int64_t time, uint32_t number, uint32_t position) noexcept nogil:
    """Whether (time, number) comes before what stands at the position. Fences are read only to break a tie."""
    if time != heap.times[position]:
        return time < heap.times[position]
    return heap_fence(s, heap, number) < heap_fence(s, heap, heap.numbers[position])


cdef inline void heap_put(State* s, Heap* heap, uint32_t position, int64_t time, uint32_t number) noexcept nogil:
    heap.times[position] = time
    heap.numbers[position] = number
    if heap.is_of_charges:
        charge_at(s, number).heap_position = position
    else:
        session_at(s, number).heap_position = position


cdef void heap_raise(State* s, Heap* heap, uint32_t position, int64_t time, uint32_t number) noexcept nogil:
    cdef uint32_t parent
    while position:
        parent = (position - 1) >> 2
        if not heap_is_before(s, heap, time, number, parent):
            break
        heap_put(s, heap, position, heap.times[parent], heap.numbers[parent])
        position = parent
    heap_put(s, heap, position, time, number)


cdef void heap_sink(State* s, Heap* heap, uint32_t position, int64_t time, uint32_t number) noexcept nogil:
    cdef uint32_t child, least, last
    while True:
        child = position * 4 + 1
        if child >= heap.count:
            break
        least = child
        last = min(child + 4, heap.count)
        child += 1
        while child < last:
            if heap_is_before(s, heap, heap.times[child], heap.numbers[child], least):
                least = child
            child += 1
        if heap_is_before(s, heap, time, number, least):
            break
        heap_put(s, heap, position, heap.times[least], heap.numbers[least])
        position = least
    heap_put(s, heap, position, time, number)


cdef void heap_add(State* s, Heap* heap, int64_t time, uint32_t number) noexcept nogil:
    heap.count += 1
    heap_raise(s, heap, heap.count - 1, time, number)


cdef void heap_remove(State* s, Heap* heap, uint32_t position) noexcept nogil:
    """The last entry fills the place. One that comes after what stood there comes after its parent too, so that the parent
    need not be looked at; usually it stays right there."""
    cdef uint32_t number
    cdef int64_t time
    USHER_ASSERT(position < heap.count)
    heap.count -= 1
    if position == heap.count:
        return
    time = heap.times[heap.count]
    number = heap.numbers[heap.count]
    if heap_is_before(s, heap, time, number, position):
        heap_raise(s, heap, position, time, number)
    else:
        heap_sink(s, heap, position, time, number)


# --- texts ---------------------------------------------------------------------------------------------------------
# A block is a multiple of 4 bytes: six sizes, then the six texts. Freed blocks wait in a list of their size, linked
# through their first 8 bytes; when the arena is used up a larger free block serves a smaller text.

cdef enum:
    TEXT_HEADER = TEXT_PARTS
    TEXT_CLASSES = 160              # of 4 bytes; the largest text is one of 8 bytes less than TEXT_CLASSES * 4
    NO_TEXT_ROOM = TEXT_CLASSES


cdef inline uint32_t text_class(uint32_t text_size) noexcept nogil:
    return (TEXT_HEADER + text_size + 3) >> 2


cdef inline uint32_t text_size_of(const uint8_t* block) noexcept nogil:
    return block[0] + block[1] + block[2] + block[3] + block[4] + block[5]


cdef uint32_t text_find_room(State* s, uint32_t block_class) noexcept nogil:
    """The class whose free list can serve the block; 0: the arena's fresh part can; NO_TEXT_ROOM."""
    cdef uint32_t candidate = block_class
    if s.texts.free_heads[block_class]:
        return block_class
    if s.texts.high + block_class * 4 <= s.texts.size_max:
        return 0
    while candidate < TEXT_CLASSES and not s.texts.free_heads[candidate]:
        candidate += 1
    return candidate


cdef void text_keep_rest(State* s, uint64_t offset, uint32_t rest_class) noexcept nogil:
    """What a larger block leaves over is free too, if a link fits in."""
    if rest_class >= 2:
        memcpy(s.texts.base + offset, &s.texts.free_heads[rest_class], 8)
        s.texts.free_heads[rest_class] = offset + 1


cdef uint64_t text_store(State* s, const uint8_t* sizes, const uint8_t* text, uint32_t text_size) noexcept nogil:
    """Where the text stands. A rest of 4 bytes of a larger block is lost."""
    cdef uint32_t block_class = text_class(text_size)
    cdef uint32_t found = text_find_room(s, block_class)
    cdef uint64_t offset
    USHER_ASSERT(found < NO_TEXT_ROOM)
    if found:
        offset = s.texts.free_heads[found] - 1
        memcpy(&s.texts.free_heads[found], s.texts.base + offset, 8)
        if s.texts.free_heads[found]:
            prefetch(s.texts.base + s.texts.free_heads[found] - 1)  # the next one's, since its link will be read then
        text_keep_rest(s, offset + block_class * 4, found - block_class)
    else:
        offset = s.texts.high
        s.texts.high += block_class * 4
    memcpy(s.texts.base + offset, sizes, TEXT_HEADER)
    memcpy(s.texts.base + offset + TEXT_HEADER, text, text_size)
    s.texts.live += block_class * 4
    return offset


cdef void text_free(State* s, uint64_t offset) noexcept nogil:
    cdef uint32_t block_class = text_class(text_size_of(s.texts.base + offset))
    memcpy(s.texts.base + offset, &s.texts.free_heads[block_class], 8)
    s.texts.free_heads[block_class] = offset + 1
    s.texts.live -= block_class * 4
