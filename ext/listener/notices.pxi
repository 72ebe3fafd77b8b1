# Notices: what the ledger's events say about the sessions that this loop's streams speak for, as broker/verbs/notices.py tells it.
#
# Each loop reads the events with a cursor of its own, while it watches any session: every 20 ms, and soon after a batch of its own has changed
# something. One block of events becomes at most one notice a session:
#
# * SESSION_ENDED: the session is over; nothing else about it is told;
# * LEASE_ENDED, unless its holder gave it back: that lease, as ended;
# * KEY_GRACE_STARTED / ENDED: the pool is marked, and the watched sessions are looked up, by cursor, a bounded number a round. Those
#   whose lease there stands otherwise than the stream was told are told how it stands now.
#
# A session has at most one active lease in a pool, and a renewal's answer holds all that are in key grace; so one bit a pool says what a
# stream knows. A lease that joined a charge since the last renewal is in doubt: it is told whenever its pool is marked. Where
# events were overwritten before they were read, all watched sessions are looked up. While answers are held, only
# events that are committed are read, and what a look-up says waits for what it may have seen.

cdef extern from *:
    """
    #define USHER_WATCH_INTERVAL_NS 20000000LL
    #define USHER_WATCH_SOON_NS 1000000LL
    """
    const long long WATCH_INTERVAL_NS "USHER_WATCH_INTERVAL_NS"
    const long long WATCH_SOON_NS "USHER_WATCH_SOON_NS"

cdef enum:
    SCAN_WALK_MAX = 4096            # records passed by one step of a scan, free ones too


cdef inline uint64_t events_tail(Loop* loop) noexcept nogil:
    """Behind the newest event. It only grows, so it is read without the mutex."""
    return atomic_read_u64(&loop.shared.port.state.ring.tail)


cdef void notices_begin(Loop* loop, StreamTable* table) noexcept nogil:
    """The first session is about to be watched: what happened before is not its news."""
    memset(&table.scan, 0, sizeof(GraceScan))
    table.cursor.position = events_tail(loop)
    table.cursor.lost_size = table.lost_seen = 0
    table.polled = loop.now
    table.poll_due = loop.now + WATCH_INTERVAL_NS


# --- when ------------------------------------------------------------------------------------------------------------------------

cdef inline bint has_own_events(Loop* loop, const StreamTable* table) noexcept nogil:
    """Whether the last batch brought events that may be read and were not. Without holding that needs no look at other threads."""
    cdef uint64_t position = loop.service.position
    if loop.shared.settings.is_holding:
        position = min(position, atomic_read_u64(&loop.shared.committed))
    return position > table.cursor.position


cdef inline int64_t watch_due(Loop* loop, const StreamTable* table) noexcept nogil:
    if table.watched_count == 0:
        return INT64_MAX
    if has_own_events(loop, table):
        return min(table.poll_due, table.polled + WATCH_SOON_NS)
    return table.poll_due


cdef int64_t notices_due(Loop* loop) noexcept nogil:
    """When notices_poll has something to do even if nothing comes; INT64_MAX: never. What waits for the committer waits for its
    wake."""
    return watch_due(loop, table_of(loop)) if loop.service.streams != NULL else INT64_MAX


cdef void notices_poll(Loop* loop) noexcept nogil:
    """In every round: says what may leave by now, and looks for news when it is time."""
    cdef StreamTable* table = table_of(loop)
    if table.first_listed != NONE:
        keepers_flush(loop, table)
    if table.watched_count == 0:
        watched_trim(table)
    elif loop.now >= watch_due(loop, table):
        news_look(loop, table)
        keepers_flush(loop, table)


cdef void news_look(Loop* loop, StreamTable* table) noexcept nogil:
    """One look at what is new."""
    cdef bint has_more
    table.peek_count = 0
    has_more = events_read(loop, table)
    if scan_step(loop, table):
        has_more = True
    table.polled = loop.now
    table.poll_due = loop.now if has_more else loop.now + WATCH_INTERVAL_NS


# --- reading -----------------------------------------------------------------------------------------------------------------------

cdef uint64_t readable_size(Loop* loop, const StreamTable* table) noexcept nogil:
    """How many bytes of events may be read in one go."""
    cdef uint64_t committed
    if not loop.shared.settings.is_holding:
        return NOTICES_READ_SIZE
    committed = atomic_read_u64(&loop.shared.committed)
    if committed <= table.cursor.position:
        return 0
    return min(committed - table.cursor.position, <uint64_t>NOTICES_READ_SIZE)


cdef bint events_read(Loop* loop, StreamTable* table) noexcept nogil:
    """Works through the new events, block by block; whether there may be more."""
    cdef uint64_t size, size_max
    cdef uint32_t i
    for i in range(NOTICES_READS_MAX):
        size_max = readable_size(loop, table)
        size = loop.shared.port.read_events(loop.shared.port, &table.cursor, table.block, size_max) if size_max else 0
        if table.cursor.lost_size != table.lost_seen:
            table.lost_seen = table.cursor.lost_size
            table.scan.is_next_whole = True
        if size == 0:
            return False
        news_take(loop, table, size)
    return True


cdef void news_take(Loop* loop, StreamTable* table, uint64_t size) noexcept nogil:
    """Gathers what a block says, then tells it."""
    cdef const LedgerEvent* event
    cdef uint64_t at = 0
    cdef uint32_t i
    table.change_count = table.ended_count = 0
    while at < size:
        event = <const LedgerEvent*>(table.block + at)
        USHER_ASSERT(event.size >= LEDGER_EVENT_SIZE and at + event.size <= size)
        event_take(table, event)
        at += event.size
    for i in range(table.change_count):
        change_tell(loop, table, &table.changes[i])


cdef inline void event_take(StreamTable* table, const LedgerEvent* event) noexcept nogil:
    cdef uint32_t number
    if event.kind == EVENT_KEY_GRACE_STARTED or event.kind == EVENT_KEY_GRACE_ENDED:
        USHER_ASSERT(0 <= event.pool < POOLS_MAX)
        add_pool(table.scan.dirty, <uint32_t>event.pool)
    elif event.kind == EVENT_SESSION_ENDED or event.kind == EVENT_LEASE_ENDED or event.kind == EVENT_LEASE_STARTED:
        number = watched_first(table, event.fence)
        if number != NONE:
            event_of_watched(table, event, number)


cdef void event_of_watched(StreamTable* table, const LedgerEvent* event, uint32_t number) noexcept nogil:
    """Of a session whose first record has that number."""
    cdef Change* change
    if event.kind != EVENT_SESSION_ENDED:
        lease_event_learn(table, event, number)
    if event.kind == EVENT_SESSION_ENDED:
        change_of(table, event.fence, number).end_reason = event.reason
    elif event.kind == EVENT_LEASE_ENDED and event.reason != END_CLOSED:
        change = change_of(table, event.fence, number)
        ended_add(table, change, event)


cdef void lease_event_learn(StreamTable* table, const LedgerEvent* event, uint32_t number) noexcept nogil:
    """A lease that is over is in key grace no more; nor is a new one, unless it took no seat of its own: whoever has asked for it
    was answered, but what, is not known here."""
    cdef uint32_t pool = <uint32_t>event.pool
    USHER_ASSERT(0 <= event.pool < POOLS_MAX)
    while number != NONE:
        remove_pool(table.watched[number].graced, pool)
        if event.kind == EVENT_LEASE_STARTED and event.seats == 0:
            table.watched[number].doubted |= <uint64_t>1 << (pool & 63)
        else:
            table.watched[number].doubted &= ~(<uint64_t>1 << (pool & 63))
        number = watched_next(table, number)


cdef Change* change_of(StreamTable* table, uint64_t fence, uint32_t number) noexcept nogil:
    """The session's change in this block, in the order of first mention."""
    cdef Watched* watched = &table.watched[number]
    cdef Change* change
    if watched.change == 0:
        USHER_ASSERT(table.change_count < CHANGES_MAX)
        change = &table.changes[table.change_count]
        change.fence = fence
        change.first_ended = change.last_ended = 0
        change.end_reason = END_NONE
        table.change_count += 1
        watched.change = <uint16_t>table.change_count
    return &table.changes[watched.change - 1]


cdef void ended_add(StreamTable* table, Change* change, const LedgerEvent* event) noexcept nogil:
    cdef EndedLease* ended
    USHER_ASSERT(table.ended_count < CHANGES_MAX)
    ended = &table.ended[table.ended_count]
    ended.product = <uint16_t>event.product
    ended.pool = <uint16_t>event.pool
    ended.reason = event.reason
    ended.next = 0
    table.ended_count += 1
    if change.last_ended:
        table.ended[change.last_ended - 1].next = <uint16_t>table.ended_count
    else:
        change.first_ended = <uint16_t>table.ended_count
    change.last_ended = <uint16_t>table.ended_count


# --- looking sessions up ----------------------------------------------------------------------------------------------------------------

cdef struct Standing:               # of a session that was looked up
    LeaseOut leases[LEASES_OF_SESSION_MAX]
    uint32_t count
    uint64_t position               # what is told of it waits for this
    uint8_t is_live
    uint8_t end_reason


cdef void peek(Loop* loop, StreamTable* table, const Watched* watched, Standing* standing) noexcept nogil:
    table.peek_count += 1
    standing.is_live = loop.shared.port.peek_session(
        loop.shared.port, loop.now, watched.fence, place_of_id(watched.session_id), standing.leases, &standing.count, &standing.end_reason)
    standing.position = events_tail(loop) if loop.shared.settings.is_holding else 0


# --- telling ------------------------------------------------------------------------------------------------------------------------------

cdef struct Told:                   # the leases of one notice
    LeaseOut leases[TOLD_LEASES_MAX]
    uint32_t count


cdef void tell_end(Loop* loop, StreamTable* table, Watched* watched, uint8_t end_reason, uint64_t position) noexcept nogil:
    """The session is over; the stream speaks for it no more."""
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Keeper* keeper = &table.keepers[watched.keeper]
    cdef Writer writer
    cdef uint32_t size
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    size = put_ended_notice(&writer, watched.session_id, watched.fence, end_reason)
    watched_drop(table, watched)
    keeper_notice(loop, table, keeper, &writer, size, position)


cdef void tell_leases(Loop* loop, StreamTable* table, Watched* watched, const Told* told, uint64_t position) noexcept nogil:
    """Leases that changed, with the version that this stream last answered."""
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef AnswerContext context
    cdef Writer writer
    cdef uint32_t size
    if told.count == 0:
        return
    context.products = loop.shared.port.state.products
    context.renew_grace = loop.shared.settings.renew_grace
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    size = put_leases_notice(&writer, &context, watched.session_id, told.leases, told.count, watched.change_version)
    keeper_notice(loop, table, &table.keepers[watched.keeper], &writer, size, position)


cdef inline void told_add(Told* told, const LeaseOut* lease) noexcept nogil:
    USHER_ASSERT(told.count < TOLD_LEASES_MAX)
    told.leases[told.count] = lease[0]
    told.count += 1


cdef uint32_t told_ended(Loop* loop, StreamTable* table, Told* told, uint32_t ended) noexcept nogil:
    """Adds the leases that ended, from that one on; where to go on if there are more than one notice takes, 0: all are in it."""
    cdef EndedLease* lease
    cdef LeaseOut out
    while ended and told.count < LEASES_OF_SESSION_MAX:
        lease = &table.ended[ended - 1]
        memset(&out, 0, sizeof(LeaseOut))
        out.product = lease.product
        out.pool = lease.pool
        out.state = LEASE_ENDED
        out.end_reason = lease.reason
        out.is_emulated = loop.shared.port.state.pools[lease.pool].is_emulated
        told_add(told, &out)
        ended = lease.next
    return ended


cdef void told_graced(Told* told, Watched* watched, const Standing* standing, const uint64_t* pools) noexcept nogil:
    """Adds the leases in these pools that stand otherwise than the stream was told, and notes that it is told."""
    cdef const LeaseOut* lease
    cdef uint64_t doubt
    cdef bint is_graced
    cdef uint32_t i
    for i in range(standing.count):
        lease = &standing.leases[i]
        if lease.state == LEASE_ENDED or not has_pool(pools, lease.pool):
            continue
        is_graced = lease.state == LEASE_KEY_GRACE
        doubt = <uint64_t>1 << (lease.pool & 63)
        if is_graced == has_pool(watched.graced, lease.pool) and not watched.doubted & doubt:
            continue
        told_add(told, lease)
        watched.doubted &= ~doubt
        if is_graced:
            add_pool(watched.graced, lease.pool)
        else:
            remove_pool(watched.graced, lease.pool)


cdef inline uint64_t block_position(Loop* loop, const StreamTable* table) noexcept nogil:
    """What the news of the block just read wait for: nothing, since no more was asked for than is committed. But where a reading begins behind events
    that were overwritten, it may go as much further as they were long."""
    return table.cursor.position if must_wait(loop, table.cursor.position) else 0


cdef void change_tell(Loop* loop, StreamTable* table, const Change* change) noexcept nogil:
    """To each stream that watches the session. The next record is another stream's, so it stands even if this stream ends."""
    cdef uint32_t number = watched_first(table, change.fence)
    cdef Standing standing
    cdef uint32_t following
    standing.is_live = False
    if number != NONE and change.end_reason == END_NONE and has_any_pool(table.scan.dirty) and table.peek_count < NOTICES_PEEKS_MAX:
        peek(loop, table, &table.watched[number], &standing)
    while number != NONE:
        following = watched_next(table, number)
        table.watched[number].change = 0
        if change.end_reason != END_NONE:
            tell_end(loop, table, &table.watched[number], change.end_reason, block_position(loop, table))
        else:
            change_tell_leases(loop, table, number, change, &standing)
        number = following


cdef void change_tell_leases(Loop* loop, StreamTable* table, uint32_t number, const Change* change, const Standing* standing) noexcept nogil:
    """What ended, and what is in key grace or healed, in one notice as long as it fits."""
    cdef Watched* watched = &table.watched[number]
    cdef Told told
    cdef uint32_t ended = change.first_ended
    told.count = 0
    while ended:
        ended = told_ended(loop, table, &told, ended)
        if ended:
            tell_leases(loop, table, watched, &told, block_position(loop, table))
            told.count = 0
            if watched.fence != change.fence:
                return              # its reader was too slow: the stream has ended
    if standing.is_live:
        told_graced(&told, watched, standing, table.scan.dirty)
    tell_leases(loop, table, watched, &told, standing.position if standing.is_live else block_position(loop, table))


# --- key grace, by cursor ---------------------------------------------------------------------------------------------------------------------

cdef bint scan_begin(GraceScan* scan) noexcept nogil:
    """The next pass, if there is anything to look for."""
    if not has_any_pool(scan.dirty) and not scan.is_next_whole:
        return False
    memcpy(scan.pools, scan.dirty, sizeof(scan.dirty))
    scan.is_whole = scan.is_next_whole
    if scan.is_whole:
        memset(scan.pools, 0xFF, sizeof(scan.pools))
    memset(scan.dirty, 0, sizeof(scan.dirty))
    scan.is_next_whole = False
    scan.is_running = True
    scan.at = 0
    return True


cdef bint scan_step(Loop* loop, StreamTable* table) noexcept nogil:
    """Looks up the next watched sessions; whether more are to be looked up."""
    cdef GraceScan* scan = &table.scan
    cdef uint32_t end
    if not scan.is_running and not scan_begin(scan):
        return False
    end = min(table.watched_high, scan.at + <uint32_t>SCAN_WALK_MAX)
    while scan.at < end and table.peek_count < NOTICES_PEEKS_MAX:
        scan.at += 1
        if table.watched[scan.at - 1].fence:
            scan_one(loop, table, &table.watched[scan.at - 1])
    scan.is_running = scan.at < table.watched_high
    return scan.is_running or has_any_pool(scan.dirty) or scan.is_next_whole


cdef void scan_one(Loop* loop, StreamTable* table, Watched* watched) noexcept nogil:
    """One that is over is told by its event, unless that may be among those that were lost."""
    cdef Standing standing
    cdef Told told
    cdef uint32_t i
    peek(loop, table, watched, &standing)
    if not standing.is_live:
        if table.scan.is_whole and standing.end_reason != END_NONE:
            tell_end(loop, table, watched, standing.end_reason, standing.position)
        return
    told.count = 0
    for i in range(standing.count):
        if table.scan.is_whole and standing.leases[i].state == LEASE_ENDED:
            told_add(&told, &standing.leases[i])
    told_graced(&told, watched, &standing, table.scan.pools)
    tell_leases(loop, table, watched, &told, standing.position)
