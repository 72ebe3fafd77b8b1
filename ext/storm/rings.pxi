# Rings of slots: who is next. A slot is in one ring at most, so a ring with room for all never overflows.

cdef bint ring_begin(Ring* ring, uint32_t count) noexcept nogil:
    ring.capacity = 1
    while ring.capacity < count:
        ring.capacity *= 2
    ring.items = <uint32_t*>calloc(ring.capacity, sizeof(uint32_t))
    return ring.items != NULL


cdef inline bint ring_is_empty(const Ring* ring) noexcept nogil:
    return ring.head == ring.tail


cdef inline void ring_put(Ring* ring, uint32_t number) noexcept nogil:
    USHER_ASSERT(ring.tail - ring.head < ring.capacity)
    ring.items[ring.tail & (ring.capacity - 1)] = number
    ring.tail += 1


cdef inline uint32_t ring_take(Ring* ring) noexcept nogil:
    ring.head += 1
    return ring.items[(ring.head - 1) & (ring.capacity - 1)]


cdef inline void slot_ready(Storm* storm, Slot* slot) noexcept nogil:
    """Its last call is over, or it never had one."""
    slot.place = SLOT_READY
    ring_put(&storm.ready, slot.number)


cdef inline void slot_again(Storm* storm, Slot* slot) noexcept nogil:
    """Its request was not answered and goes out as it is."""
    slot.place = SLOT_AGAIN
    ring_put(&storm.again, slot.number)


cdef void slots_wake(Storm* storm) noexcept nogil:
    """A new phase: who rests has work to look for."""
    cdef uint32_t i
    for i in range(storm.slot_count):
        if storm.slots[i].place == SLOT_RESTING:
            storm.resting -= 1
            slot_ready(storm, &storm.slots[i])


cdef void slots_unpark(Storm* storm, Link* link) noexcept nogil:
    """The link is up."""
    cdef uint32_t i
    cdef Slot* slot
    for i in range(link.first_slot, link.first_slot + storm.plan.streams):
        slot = &storm.slots[i]
        if slot.place == SLOT_PARKED and slot.is_pending:
            slot_again(storm, slot)
        elif slot.place == SLOT_PARKED:
            slot_ready(storm, slot)
