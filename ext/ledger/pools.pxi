# Pools: what the keys give, what is charged, and who is in key grace when a key is gone.
#
# Sources (one licence on one present key) are PROVEN until proven_until, then LAPSED until grace_until, then ABSENT.
# Their times are raw CLOCK_MONOTONIC: a stopped process proves nothing (semantics rules 9 and 20 pull apart here).
# capacity = seats of PROVEN sources; grace_seats = seats of LAPSED ones. used <= capacity + deficit always, because the deficit IS
# max(0, used - capacity) and no charge is taken while it is not zero; it is derived, never stored.
#
# The order of key grace: lowest priority level first, newest charge first. The charges in key grace are a prefix of
# that order, named by its length and its last member (the edge): asking whether a charge is in it is one comparison.


cdef inline int64_t deficit_of(const Pool* pool) noexcept nogil:
    return max(<int64_t>0, pool.used - pool.capacity)


cdef inline int64_t grace_target(const Pool* pool) noexcept nogil:
    """How many charges must be in key grace: as many as cover the deficit."""
    return (deficit_of(pool) + pool.weight - 1) // pool.weight


cdef inline bint is_in_grace(State* s, const Pool* pool, const Charge* charge) noexcept nogil:
    cdef const Charge* edge
    if pool.grace_count == 0:
        return False
    edge = charge_at(s, pool.grace_edge)
    if charge.priority != edge.priority:
        return charge.priority < edge.priority
    return charge.fence >= edge.fence


# --- declaring ---------------------------------------------------------------------------------------------------

cdef void pool_init(Pool* pool, uint32_t product, int32_t weight, const PoolBody* body) noexcept nogil:
    """A pool without seats and charges; what it is made of was checked before."""
    cdef int i
    memset(pool, 0, sizeof(Pool))
    pool.product = product
    pool.weight = weight
    pool.model = body.model
    pool.sharing = body.sharing
    pool.is_emulated = body.is_emulated
    pool.share_max = body.share_max
    pool.linger = body.linger
    pool.min_hold = body.min_hold
    pool.loss_cause = END_KEY_LOST
    pool.grace_edge = NONE
    for i in range(PRIORITY_LEVELS):
        pool.levels[i].newest = pool.levels[i].oldest = NONE


cdef uint32_t pool_add(State* s, const Pool* pool) noexcept nogil:
    """Enters the pool into its product's order: by model, then by number."""
    cdef uint32_t number = s.pool_count
    cdef Product* product = &s.products[pool.product]
    cdef int place = product.pool_count
    s.pools[number] = pool[0]
    while place and s.pools[product.pools[place - 1]].model > pool.model:
        product.pools[place] = product.pools[place - 1]
        place -= 1
    product.pools[place] = number
    product.pool_count += 1
    s.pool_count += 1
    return number


# --- the order ---------------------------------------------------------------------------------------------------

cdef inline uint32_t newest_from(const Pool* pool, int level) noexcept nogil:
    """The first charge in the order at this level or above; NONE."""
    while level < PRIORITY_LEVELS:
        if pool.levels[level].newest != NONE:
            return pool.levels[level].newest
        level += 1
    return NONE


cdef inline uint32_t after_in_order(State* s, const Pool* pool, uint32_t number) noexcept nogil:
    cdef const Charge* charge = charge_at(s, number)
    return charge.older if charge.older != NONE else newest_from(pool, charge.priority + 1)


cdef inline uint32_t before_in_order(State* s, const Pool* pool, uint32_t number) noexcept nogil:
    cdef const Charge* charge = charge_at(s, number)
    cdef int level = charge.priority - 1
    if charge.newer != NONE:
        return charge.newer
    while level >= 0:
        if pool.levels[level].oldest != NONE:
            return pool.levels[level].oldest
        level -= 1
    return NONE


cdef void order_add(State* s, Pool* pool, uint32_t number) noexcept nogil:
    """A new charge is the newest of its level; the set is empty then, since no charge is taken under a deficit."""
    cdef Charge* charge = charge_at(s, number)
    cdef Level* level = &pool.levels[charge.priority]
    USHER_ASSERT(pool.grace_count == 0)
    charge.newer = NONE
    charge.older = level.newest
    if level.newest != NONE:
        charge_at(s, level.newest).newer = number
    else:
        level.oldest = number
    level.newest = number


cdef void order_remove(State* s, Pool* pool, uint32_t number) noexcept nogil:
    cdef Charge* charge = charge_at(s, number)
    cdef Level* level = &pool.levels[charge.priority]
    if charge.newer != NONE:
        charge_at(s, charge.newer).older = charge.older
    else:
        level.newest = charge.older
    if charge.older != NONE:
        charge_at(s, charge.older).newer = charge.newer
    else:
        level.oldest = charge.newer


# --- key grace -----------------------------------------------------------------------------------------------------

cdef void grace_clear(State* s, uint32_t pool_number) noexcept nogil:
    """All of the pool is healed: one event, however many charges."""
    cdef Pool* pool = &s.pools[pool_number]
    if pool.grace_count:
        s.grace_total -= pool.grace_count
        pool.grace_count = 0
        pool.grace_edge = NONE
        emit_control(s, EVENT_KEY_GRACE_ENDED, END_NONE, pool_number, pool.product, 0, 0)


cdef void grace_shrink(State* s, Pool* pool) noexcept nogil:
    cdef Charge* edge = charge_at(s, pool.grace_edge)
    emit_charge(s, EVENT_KEY_GRACE_ENDED, END_NONE, edge, pool.weight)
    pool.grace_edge = before_in_order(s, pool, pool.grace_edge)
    pool.grace_count -= 1
    s.grace_total -= 1


cdef void grace_grow(State* s, Pool* pool) noexcept nogil:
    cdef uint32_t joining
    joining = after_in_order(s, pool, pool.grace_edge) if pool.grace_count else newest_from(pool, 0)
    USHER_ASSERT(joining != NONE)
    pool.grace_edge = joining
    pool.grace_count += 1
    s.grace_total += 1
    emit_charge(s, EVENT_KEY_GRACE_STARTED, END_NONE, charge_at(s, joining), pool.weight)


cdef void pool_uncharge(State* s, uint32_t number) noexcept nogil:
    """A charge leaves its pool: the deficit shrinks with it, and so does the grace set, by one charge at most."""
    cdef Charge* charge = charge_at(s, number)
    cdef uint32_t pool_number = charge.pool
    cdef Pool* pool = &s.pools[pool_number]
    cdef int64_t target
    if is_in_grace(s, pool, charge):
        if number == pool.grace_edge:
            pool.grace_edge = before_in_order(s, pool, number)
        pool.grace_count -= 1
        s.grace_total -= 1
    order_remove(s, pool, number)
    pool.used -= pool.weight
    pool.charge_count -= 1
    USHER_ASSERT(pool.used >= 0)
    target = grace_target(pool)
    if target == 0:
        grace_clear(s, pool_number)
    elif pool.grace_count > target:
        grace_shrink(s, pool)


cdef inline void pool_charge(State* s, uint32_t number) noexcept nogil:
    """A new charge enters its pool. Together with pool_uncharge the only place where `used` changes."""
    cdef Charge* charge = charge_at(s, number)
    cdef Pool* pool = &s.pools[charge.pool]
    order_add(s, pool, number)
    pool.used += pool.weight
    pool.charge_count += 1
    pool.charge_total += 1
    if pool.used > pool.used_peak:
        pool.used_peak = pool.used


cdef int64_t key_grace_left(State* s, uint32_t pool_number) noexcept nogil:
    """Until the first of the pool's lapsed sources is given up. Read only while there is a deficit."""
    cdef int64_t earliest = INT64_MAX
    cdef uint32_t i
    for i in range(s.source_high):
        if s.sources[i].state == SOURCE_LAPSED and s.sources[i].pool == pool_number:
            earliest = min(earliest, s.sources[i].grace_until)
    return 0 if earliest == INT64_MAX else max(<int64_t>0, earliest - s.raw)


# --- sources -------------------------------------------------------------------------------------------------------

cdef void capacity_changed(State* s, uint32_t pool_number, uint8_t cause) noexcept nogil:
    cdef Pool* pool = &s.pools[pool_number]
    emit_control(s, EVENT_CAPACITY_CHANGED, cause, pool_number, pool.product, pool.capacity, deficit_of(pool))
    unit_end(s)


cdef void source_lapse(State* s, Source* source) noexcept nogil:
    s.pools[source.pool].capacity -= source.seats
    s.pools[source.pool].grace_seats += source.seats
    source.state = SOURCE_LAPSED
    if source.seats:
        capacity_changed(s, source.pool, source.cause)


cdef void source_give_up(State* s, Source* source) noexcept nogil:
    s.pools[source.pool].grace_seats -= source.seats
    s.pools[source.pool].loss_cause = source.cause
    source.state = SOURCE_ABSENT


cdef void sources_plan(State* s) noexcept nogil:
    """When the next source changes by time alone. Sources change rarely, so looking at all of them is cheap enough."""
    cdef uint32_t i
    s.next_source_due = INT64_MAX
    for i in range(s.source_high):
        if s.sources[i].state == SOURCE_PROVEN:
            s.next_source_due = min(s.next_source_due, s.sources[i].proven_until)
        elif s.sources[i].state == SOURCE_LAPSED:
            s.next_source_due = min(s.next_source_due, s.sources[i].grace_until)


cdef void sources_pass(State* s) noexcept nogil:
    """Capacity ends by itself when its proof does, whatever became of the keyring (semantics rule 30)."""
    cdef uint32_t i
    cdef Source* source
    if s.raw < s.next_source_due:
        return
    for i in range(s.source_high):
        source = &s.sources[i]
        if source.state == SOURCE_PROVEN and s.raw >= source.proven_until:
            source_lapse(s, source)
        if source.state == SOURCE_LAPSED and s.raw >= source.grace_until:
            source_give_up(s, source)
    sources_plan(s)


cdef void pool_heal(State* s, uint32_t pool_number) noexcept nogil:
    if deficit_of(&s.pools[pool_number]) == 0:
        grace_clear(s, pool_number)
        unit_end(s)


cdef void source_prove(
    State* s, uint32_t number, uint32_t pool_number, int32_t seats, int64_t proven_until, int64_t grace_until
) noexcept nogil:
    cdef Source* source = &s.sources[number]
    cdef Pool* pool = &s.pools[pool_number]
    cdef uint32_t old_pool = source.pool
    cdef int64_t old_capacity = s.pools[old_pool].capacity
    cdef int64_t capacity = pool.capacity
    if source.state == SOURCE_PROVEN:
        s.pools[old_pool].capacity -= source.seats
    elif source.state == SOURCE_LAPSED:
        s.pools[old_pool].grace_seats -= source.seats
    if old_pool != pool_number and s.pools[old_pool].capacity != old_capacity:
        capacity_changed(s, old_pool, END_NONE)
    source.pool = pool_number
    source.seats = seats
    source.proven_until = proven_until
    source.grace_until = grace_until
    source.cause = END_KEY_LOST
    source.state = SOURCE_PROVEN
    s.source_high = max(s.source_high, number + 1)
    pool.capacity += seats
    if pool.capacity != capacity:
        capacity_changed(s, pool_number, END_NONE)
    pool_heal(s, pool_number)
    sources_plan(s)
    sources_pass(s)


cdef void source_lose(State* s, uint32_t number, int64_t grace_until, uint8_t cause) noexcept nogil:
    cdef Source* source = &s.sources[number]
    if source.state == SOURCE_ABSENT:
        return
    source.grace_until = grace_until
    source.cause = cause
    if source.state == SOURCE_PROVEN:
        source_lapse(s, source)
    if s.raw >= grace_until:
        source_give_up(s, source)
    pool_heal(s, source.pool)
    sources_plan(s)
