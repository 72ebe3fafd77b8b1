# The decision: for each product of a request, where its seat would come from. Reads only; nothing is taken here.

cdef enum How:
    HOW_DENIED = 0
    HOW_HELD = 1                    # the session has it already
    HOW_MOVE = 2                    # from the session that this one supersedes
    HOW_JOIN = 3                    # the group's charge has room
    HOW_NEW = 4

cdef struct Item:
    uint8_t how
    uint16_t pool
    uint32_t charge
    uint32_t lease                  # HELD: the lease; MOVE: the old session's
    uint64_t group[2]
    DenialRecord denial

cdef struct Decision:
    uint64_t fence                  # of the session, or of the one to be: its own sharing group
    uint32_t session                # whose leases are HELD; NONE for an Open
    uint32_t old                    # the session to be superseded; NONE
    uint8_t priority
    int8_t denied_item              # the first required item that cannot be had; -1
    const uint8_t* user
    const uint8_t* host
    uint32_t user_size
    uint32_t host_size
    Item items[ITEMS_MAX]


cdef bint product_numbers(State* s, const Product* product, DenialRecord* denial) noexcept nogil:
    """Sums over the product's pools; whether one of them is starting."""
    cdef Pool* pool
    cdef bint is_starting = False
    cdef int i
    for i in range(product.pool_count):
        pool = &s.pools[product.pools[i]]
        denial.capacity += <int32_t>pool.capacity
        denial.in_use += <int32_t>pool.used
        denial.deficit += <int32_t>deficit_of(pool)
        is_starting = is_starting or pool.is_starting
    return is_starting


cdef inline bint is_learning(State* s) noexcept nogil:
    """Who holds what is not known yet: nothing new is charged."""
    return s.now < s.learning_until


cdef bint has_free_seats(State* s, const Product* product) noexcept nogil:
    cdef Pool* pool
    cdef int i
    for i in range(product.pool_count):
        pool = &s.pools[product.pools[i]]
        if pool.capacity - pool.used >= pool.weight:
            return True
    return False


cdef void denial_numbers(State* s, const Product* product, DenialRecord* denial) noexcept nogil:
    """The sums, and the reason that weighs most."""
    if product_numbers(s, product, denial):
        denial.reason = DENIAL_KEYS_STARTING
        denial.retry_after = NS_PER_SECOND
    elif denial.deficit > 0:
        denial.reason = DENIAL_DEFICIT
        denial.retry_after = 5 * NS_PER_SECOND
    elif is_learning(s) and has_free_seats(s, product):
        denial.reason = DENIAL_LEARNING
        denial.retry_after = s.learning_until - s.now
    elif denial.capacity == 0:
        denial.reason = DENIAL_NO_CAPACITY
    else:
        denial.reason = DENIAL_NO_FREE_SEATS
        denial.retry_after = 5 * NS_PER_SECOND


cdef void item_deny(State* s, Item* item, uint32_t product, int index) noexcept nogil:
    memset(&item.denial, 0, sizeof(DenialRecord))
    item.how = HOW_DENIED
    item.denial.product = product
    item.denial.item = index
    if product == NO_PRODUCT:
        item.denial.reason = DENIAL_UNKNOWN_PRODUCT
    else:
        denial_numbers(s, &s.products[product], &item.denial)


cdef void group_for(State* s, const Decision* decision, uint8_t sharing, uint64_t* group) noexcept nogil:
    if sharing == SHARING_SESSION:
        group[0] = decision.fence
        group[1] = 0
    else:
        group_of_texts(s, sharing, decision.user, decision.user_size, decision.host, decision.host_size, group)


cdef bint item_join(State* s, const Decision* decision, Item* item, const Product* product) noexcept nogil:
    """A charge of the own group with room costs nothing, even while keys are missing."""
    cdef int i
    for i in range(product.pool_count):
        if decision.session == NONE and s.pools[product.pools[i]].sharing == SHARING_SESSION:
            continue  # a session that is only being opened has no charges of its own
        group_for(s, decision, s.pools[product.pools[i]].sharing, item.group)
        item.charge = roomy_charge(s, product.pools[i], item.group)
        if item.charge != NONE:
            item.how = HOW_JOIN
            item.pool = product.pools[i]
            return True
    return False


cdef bint item_new(State* s, const Decision* decision, Item* item, const Product* product) noexcept nogil:
    cdef Pool* pool
    cdef int i
    if is_learning(s):
        return False
    for i in range(product.pool_count):
        pool = &s.pools[product.pools[i]]
        if pool.capacity - pool.used >= pool.weight:
            group_for(s, decision, pool.sharing, item.group)
            item.how = HOW_NEW
            item.pool = product.pools[i]
            return True
    return False


cdef void item_decide(State* s, const Decision* decision, Item* item, uint32_t product, int index) noexcept nogil:
    if product == NO_PRODUCT:
        item_deny(s, item, product, index)
        return
    item.lease = active_lease(s, decision.session, product)
    if item.lease != NONE:
        item.how = HOW_HELD
        return
    item.lease = active_lease(s, decision.old, product)
    if item.lease != NONE:
        item.how = HOW_MOVE
        item.charge = lease_at(s, item.lease).charge
        item.pool = lease_at(s, item.lease).pool
        return
    if not item_join(s, decision, item, &s.products[product]) and not item_new(s, decision, item, &s.products[product]):
        item_deny(s, item, product, index)


cdef void decide(State* s, const Command* command, Decision* decision) noexcept nogil:
    """Items are of different products, hence of different pools: none changes what another may have."""
    cdef int i
    decision.denied_item = -1
    for i in range(command.item_count):
        item_decide(s, decision, &decision.items[i], command.products[i], i)
        if decision.items[i].how == HOW_DENIED and not (command.optional >> i) & 1 and decision.denied_item < 0:
            decision.denied_item = i
            return


# --- carrying it out ---------------------------------------------------------------------------------------------------

cdef void item_take(State* s, const Decision* decision, Item* item, uint32_t session_number, uint32_t product) noexcept nogil:
    cdef Charge* charge
    cdef int64_t seats = 0
    if item.how == HOW_NEW:
        item.charge = charge_take(s, item.pool, decision.priority, item.group)
        seats = s.pools[item.pool].weight
    charge = charge_at(s, item.charge)
    if charge.lease_count == 0 and item.how == HOW_JOIN:
        charge_stop_lingering(s, item.charge)
        emit_lease(s, EVENT_CHARGE_MOVED, END_NONE, session_number, charge, s.pools[item.pool].weight, 0)
    item.lease = lease_add(s, session_number, product, item.charge)
    charge_link(s, item.charge, item.lease)
    roomy_update(s, item.charge)
    emit_lease(s, EVENT_LEASE_STARTED, END_NONE, session_number, charge, seats, 0)


cdef uint32_t lease_move(State* s, uint32_t old_lease, uint32_t session_number) noexcept nogil:
    """The charge goes over to the new session in one step; the old lease leaves without an end of its own. The new one."""
    cdef uint32_t charge_number = lease_at(s, old_lease).charge
    cdef Charge* charge = charge_at(s, charge_number)
    cdef uint32_t number = lease_add(s, session_number, lease_at(s, old_lease).product, charge_number)
    if s.pools[charge.pool].sharing == SHARING_SESSION:
        charge.group[0] = session_at(s, session_number).fence
    lease_replace(s, old_lease, number)
    lease_drop(s, old_lease)
    return number


cdef void item_move(State* s, Item* item, uint32_t session_number) noexcept nogil:
    cdef Charge* charge = charge_at(s, item.charge)
    cdef uint64_t old_place = lease_at(s, item.lease).session
    item.lease = lease_move(s, item.lease, session_number)
    emit_lease(s, EVENT_CHARGE_MOVED, END_NONE, session_number, charge, s.pools[item.pool].weight, old_place + 1)
    emit_lease(s, EVENT_LEASE_STARTED, END_NONE, session_number, charge, 0, 0)


cdef void items_take(State* s, const Command* command, Decision* decision, uint32_t session_number, Workspace* space, Outcome* outcome) noexcept nogil:
    cdef Item* item
    cdef LeaseOut* view
    cdef int i
    for i in range(command.item_count):
        item = &decision.items[i]
        if item.how == HOW_DENIED:
            answer_unavailable(space, outcome, &item.denial)
            continue
        if item.how == HOW_MOVE:
            item_move(s, item, session_number)
        elif item.how != HOW_HELD:
            item_take(s, decision, item, session_number, command.products[i])
        view = answer_lease(space, outcome)
        lease_view(s, item.lease, view)
        if item.how != HOW_HELD:
            view.is_shared = item.how == HOW_JOIN
