# The sessions that the KeepAlive streams of a loop speak for: found by session and stream, and all streams of a session.
#
# Two indexes over one array of records: by (fence, stream) for renewals and forgets, by fence for events. Room is made before a
# renewal goes into the batch, so that its result always finds it. The array doubles; moving is rare, and never while events are
# worked through. Once nothing is watched, a large one is given back.

cdef enum:
    WATCHED_FIRST = 64
    WATCHED_KEPT = 1024             # arrays up to here are kept when they are empty

cdef extern from *:
    """
    #define usher_bswap(word) __builtin_bswap64(word)
    """
    uint64_t swap_bytes "usher_bswap"(uint64_t word) noexcept nogil


cdef inline StreamTable* table_of(Loop* loop) noexcept nogil:
    return <StreamTable*>loop.service.streams


cdef inline uint32_t hash_word(uint64_t word) noexcept nogil:
    """The finalizer of SplitMix64: callers do not choose fences, but they are close to each other."""
    word = (word ^ (word >> 30)) * <uint64_t>0xBF58476D1CE4E5B9u
    word = (word ^ (word >> 27)) * <uint64_t>0x94D049BB133111EBu
    return <uint32_t>(word >> 32)


cdef inline uint32_t* fence_bucket(StreamTable* table, uint64_t fence) noexcept nogil:
    return &table.fence_buckets[hash_word(fence) & (table.watched_capacity - 1)]


cdef inline uint32_t* pair_bucket(StreamTable* table, uint64_t fence, uint32_t keeper) noexcept nogil:
    return &table.pair_buckets[hash_word(fence ^ (<uint64_t>keeper << 40)) & (table.watched_capacity - 1)]


cdef inline uint64_t fence_of_id(const uint8_t* session_id) noexcept nogil:
    """As the id says; whether the id is genuine, only the ledger knows."""
    cdef uint64_t word
    memcpy(&word, session_id + 8, 8)
    return swap_bytes(word)


cdef inline uint32_t place_of_id(const uint8_t* session_id) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, session_id, 8)
    return <uint32_t>swap_bytes(word)


# --- finding ------------------------------------------------------------------------------------------------------------------

cdef inline Watched* watched_find(StreamTable* table, uint64_t fence, uint32_t keeper) noexcept nogil:
    """What the stream knows of the session; NULL: it does not speak for it."""
    cdef uint32_t number = <uint32_t>NONE
    if table.watched_count != 0:
        number = pair_bucket(table, fence, keeper)[0]
    while number != NONE:
        if table.watched[number].fence == fence and table.watched[number].keeper == keeper:
            return &table.watched[number]
        number = table.watched[number].next_of_pair
    return NULL


cdef inline Watched* watched_by_id(StreamTable* table, const uint8_t* session_id, uint32_t keeper) noexcept nogil:
    """The same, by all bytes of the id."""
    cdef Watched* watched = watched_find(table, fence_of_id(session_id), keeper)
    if watched == NULL or memcmp(watched.session_id, session_id, SESSION_ID_SIZE) != 0:
        return NULL
    return watched


cdef inline uint32_t watched_from(StreamTable* table, uint32_t number, uint64_t fence) noexcept nogil:
    while number != NONE and table.watched[number].fence != fence:
        number = table.watched[number].next_of_fence
    return number


cdef inline uint32_t watched_first(StreamTable* table, uint64_t fence) noexcept nogil:
    """The first stream's record of the session; NONE: nobody watches it."""
    if table.watched_count == 0:
        return <uint32_t>NONE
    return watched_from(table, fence_bucket(table, fence)[0], fence)


cdef inline uint32_t watched_next(StreamTable* table, uint32_t number) noexcept nogil:
    """The next stream's."""
    return watched_from(table, table.watched[number].next_of_fence, table.watched[number].fence)


# --- room -----------------------------------------------------------------------------------------------------------------------

cdef void watched_index(StreamTable* table, uint32_t number) noexcept nogil:
    """Enters a record into both indexes."""
    cdef Watched* watched = &table.watched[number]
    cdef uint32_t* bucket = pair_bucket(table, watched.fence, watched.keeper)
    watched.next_of_pair = bucket[0]
    bucket[0] = number
    bucket = fence_bucket(table, watched.fence)
    watched.next_of_fence = bucket[0]
    watched.previous_of_fence = <uint32_t>NONE
    if bucket[0] != NONE:
        table.watched[bucket[0]].previous_of_fence = number
    bucket[0] = number


cdef bint watched_grow(StreamTable* table, uint32_t capacity) noexcept nogil:
    """To twice the size or more, and the indexes with it. False: no memory, and nothing is changed."""
    cdef Watched* watched
    cdef uint32_t* buckets
    cdef uint32_t number
    buckets = <uint32_t*>malloc(<size_t>capacity * 2 * sizeof(uint32_t))
    if buckets == NULL:
        return False
    watched = <Watched*>realloc(table.watched, <size_t>capacity * sizeof(Watched))
    if watched == NULL:
        free(buckets)
        return False
    free(table.pair_buckets)
    table.watched = watched
    table.pair_buckets = buckets
    table.fence_buckets = buckets + capacity
    table.watched_capacity = capacity
    memset(buckets, 0xFF, <size_t>capacity * 2 * sizeof(uint32_t))
    for number in range(table.watched_high):
        if watched[number].fence:
            watched_index(table, number)
    return True


cdef bint watched_reserve(StreamTable* table, uint32_t count) noexcept nogil:
    """Makes sure of room for so many in all."""
    cdef uint32_t capacity = max(table.watched_capacity, <uint32_t>WATCHED_FIRST)
    while capacity < count:
        capacity *= 2
    return capacity == table.watched_capacity or watched_grow(table, capacity)


cdef void watched_release(StreamTable* table) noexcept nogil:
    free(table.watched)
    free(table.pair_buckets)
    table.watched = NULL
    table.pair_buckets = table.fence_buckets = NULL
    table.watched_capacity = table.watched_high = 0
    table.first_free_watched = <uint32_t>NONE


cdef inline void watched_trim(StreamTable* table) noexcept nogil:
    """Gives memory back once nothing is watched, nor about to be."""
    if table.watched_count == 0 and table.pending_count == 0 and table.watched_capacity > WATCHED_KEPT:
        watched_release(table)


# --- adding and dropping ----------------------------------------------------------------------------------------------------------

cdef uint32_t watched_number(StreamTable* table) noexcept nogil:
    """A free record; there is room."""
    cdef uint32_t number = table.first_free_watched
    if number != NONE:
        table.first_free_watched = table.watched[number].next_of_keeper
        return number
    USHER_ASSERT(table.watched_high < table.watched_capacity)
    table.watched_high += 1
    return table.watched_high - 1


cdef Watched* watched_add(StreamTable* table, Keeper* keeper, uint64_t fence, const uint8_t* session_id) noexcept nogil:
    """The stream speaks for the session from now on."""
    cdef uint32_t number = watched_number(table)
    cdef Watched* watched = &table.watched[number]
    USHER_ASSERT(fence != 0)
    memset(watched, 0, sizeof(Watched))
    memcpy(watched.session_id, session_id, SESSION_ID_SIZE)
    watched.fence = fence
    watched.keeper = <uint32_t>(keeper - table.keepers)
    watched.previous_of_keeper = <uint32_t>NONE
    watched.next_of_keeper = keeper.first_watched
    if keeper.first_watched != NONE:
        table.watched[keeper.first_watched].previous_of_keeper = number
    keeper.first_watched = number
    keeper.watched_count += 1
    table.watched_count += 1
    watched_index(table, number)
    return watched


cdef void watched_unindex(StreamTable* table, uint32_t number) noexcept nogil:
    cdef Watched* watched = &table.watched[number]
    cdef uint32_t* link = pair_bucket(table, watched.fence, watched.keeper)
    while link[0] != number:
        USHER_ASSERT(link[0] != NONE)
        link = &table.watched[link[0]].next_of_pair
    link[0] = watched.next_of_pair
    if watched.previous_of_fence != NONE:
        table.watched[watched.previous_of_fence].next_of_fence = watched.next_of_fence
    else:
        fence_bucket(table, watched.fence)[0] = watched.next_of_fence
    if watched.next_of_fence != NONE:
        table.watched[watched.next_of_fence].previous_of_fence = watched.previous_of_fence


cdef void watched_drop(StreamTable* table, Watched* watched) noexcept nogil:
    """The stream speaks for the session no more."""
    cdef uint32_t number = <uint32_t>(watched - table.watched)
    cdef Keeper* keeper = &table.keepers[watched.keeper]
    watched_unindex(table, number)
    if watched.previous_of_keeper != NONE:
        table.watched[watched.previous_of_keeper].next_of_keeper = watched.next_of_keeper
    else:
        keeper.first_watched = watched.next_of_keeper
    if watched.next_of_keeper != NONE:
        table.watched[watched.next_of_keeper].previous_of_keeper = watched.previous_of_keeper
    keeper.watched_count -= 1
    table.watched_count -= 1
    watched.fence = 0
    watched.next_of_keeper = table.first_free_watched
    table.first_free_watched = number


cdef void watched_drop_all(StreamTable* table, Keeper* keeper) noexcept nogil:
    while keeper.first_watched != NONE:
        watched_drop(table, &table.watched[keeper.first_watched])
    USHER_ASSERT(keeper.watched_count == 0)


# --- what the stream was last told of key grace ------------------------------------------------------------------------------------

cdef inline bint has_pool(const uint64_t* pools, uint32_t pool) noexcept nogil:
    return (pools[pool >> 6] >> (pool & 63)) & 1


cdef inline void add_pool(uint64_t* pools, uint32_t pool) noexcept nogil:
    pools[pool >> 6] |= <uint64_t>1 << (pool & 63)


cdef inline void remove_pool(uint64_t* pools, uint32_t pool) noexcept nogil:
    pools[pool >> 6] &= ~(<uint64_t>1 << (pool & 63))


cdef inline bint has_any_pool(const uint64_t* pools) noexcept nogil:
    cdef uint64_t any_pool = 0
    cdef uint32_t i
    for i in range(POOL_WORDS):
        any_pool |= pools[i]
    return any_pool != 0


cdef void watched_learn(Watched* watched, uint64_t change_version, const LeaseOut* leases, uint32_t count) noexcept nogil:
    """A renewal was answered: its leases are all those in key grace, so now the stream knows."""
    cdef uint32_t i
    watched.change_version = <uint32_t>change_version
    watched.doubted = 0
    memset(watched.graced, 0, sizeof(watched.graced))
    for i in range(count):
        if leases[i].state == LEASE_KEY_GRACE:
            add_pool(watched.graced, leases[i].pool)
