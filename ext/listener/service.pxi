# What a loop does for the calls of its peers: events of h2 become commands of one batch, outcomes become answers.
#
#     service_take ── decodes ──► batch (≤ BATCH_MAX, of all peers that were ready) ── service_round ──► ledger ──► answers
#                └─ refuses at once what the ledger need not see
#
# One batch takes the ledger's mutex once, whoever its commands are from. Everything of a request that is needed later is in its
# command, its slip and its room before service_take returns. Nothing is allocated for a request. Bytes, statuses and sentences are those of
# broker/verbs and broker/service, which stay the reference.

cdef enum:
    SESSIONS_MESSAGE_SIZE_MAX = 65536   # broker/verbs/bounds.py MESSAGE_SIZE_MAX
    IDENTITY_IS_TOO_LONG = IDENTITY_SIZE_MAX + 1

cdef extern from *:
    """
    static const char usher_nameless[] =
        "The client's certificate names nobody; it needs a subject alternative name (URI or DNS) or a common name.";
    /* In the order of the numbers METHOD_... of listener_records.pxd; shapes are H2Shape's. */
    typedef struct { const char *path; unsigned char shape; } usher_method_words;
    static const usher_method_words usher_methods[] = {
        {"/broker.v1.Sessions/Open", 0},
        {"/broker.v1.Sessions/Renew", 0},
        {"/broker.v1.Sessions/Acquire", 0},
        {"/broker.v1.Sessions/Release", 0},
        {"/broker.v1.Sessions/Close", 0},
        {"/broker.v1.Sessions/KeepAlive", 3},
        {"/broker.v1.Sessions/OpenWaiting", 1},
        {"/grpc.health.v1.Health/Check", 0},
        {"/grpc.health.v1.Health/Watch", 1},
    };
    """
    const char* NAMELESS_SENTENCE "usher_nameless"
    ctypedef struct MethodWords "usher_method_words":
        const char* path
        uint8_t shape
    const MethodWords METHOD_WORDS "usher_methods"[9]


# --- begin and end ------------------------------------------------------------------------------------------------------------------

cdef bint methods_begin(Server* server) noexcept nogil:
    cdef uint32_t i
    USHER_ASSERT(server.method_count == 0)
    for i in range(METHOD_COUNT):
        if not server_method(server, <const uint8_t*>METHOD_WORDS[i].path, strlen(METHOD_WORDS[i].path), METHOD_WORDS[i].shape):
            return False
    server.settings.message_size_max = SESSIONS_MESSAGE_SIZE_MAX
    server.settings.header_size_max = H2_HEADER_SIZE_DEFAULT
    server.settings.is_metadata_kept = False
    server.settings.is_authorization_kept = False
    return True


cdef bint service_begin(Loop* loop) noexcept nogil:
    """Methods, settings and memory, once the loop's server has begun. False: no memory; then service_end too."""
    cdef Service* service = &loop.service
    memset(service, 0, sizeof(Service))
    service.commands = <Command*>malloc(BATCH_MAX * sizeof(Command))
    service.slips = <Slip*>malloc(BATCH_MAX * sizeof(Slip))
    service.outcomes = <Outcome*>malloc(BATCH_MAX * sizeof(Outcome))
    service.rooms = <uint8_t*>malloc(BATCH_MAX * WIRE_TEXT_ROOM)
    service.space.leases = <LeaseOut*>malloc(BATCH_MAX * LEASES_OF_SESSION_MAX * sizeof(LeaseOut))
    service.space.unavailable = <DenialRecord*>malloc(BATCH_MAX * ITEMS_MAX * sizeof(DenialRecord))
    if service.commands == NULL or service.slips == NULL or service.outcomes == NULL or service.rooms == NULL:
        return False
    if service.space.leases == NULL or service.space.unavailable == NULL:
        return False
    return methods_begin(&loop.server) and health_begin(loop) and streams_begin(loop)


cdef void service_end(Loop* loop) noexcept nogil:
    """After all peers are gone. What is held is given up."""
    cdef Service* service = &loop.service
    streams_end(loop)
    health_end(loop)
    held_end(service)
    free(service.commands)
    free(service.slips)
    free(service.outcomes)
    free(service.rooms)
    free(service.space.leases)
    free(service.space.unavailable)
    service.commands = NULL
    service.slips = NULL
    service.outcomes = NULL
    service.rooms = NULL
    service.space.leases = NULL
    service.space.unavailable = NULL


# --- the batch ------------------------------------------------------------------------------------------------------------------------

cdef inline Caller caller_of(const Peer* peer, uint64_t call) noexcept nogil:
    cdef Caller caller
    caller.call = call
    caller.slot = peer.slot
    caller.generation = peer.generation
    return caller


cdef inline Command* batch_place(Loop* loop, Slip** slip) noexcept nogil:
    """The next free place, which counts once `batch_count` says so; runs the batch first when it is full."""
    cdef Service* service = &loop.service
    if service.count == BATCH_MAX:
        batch_run(loop)
    slip[0] = &service.slips[service.count]
    return &service.commands[service.count]


cdef inline uint8_t* batch_text(Loop* loop) noexcept nogil:
    """The room of the place that batch_place gave."""
    return loop.service.rooms + <size_t>loop.service.count * WIRE_TEXT_ROOM


cdef inline Command* batch_next(Loop* loop, Slip** slip) noexcept nogil:
    """A place that counts at once: of commands that cannot fail. Never while answers are being said."""
    cdef Command* command = batch_place(loop, slip)
    loop.service.count += 1
    return command


cdef inline void batch_keep(Loop* loop, const Peer* peer, Slip* slip, const H2Event* event) noexcept nogil:
    """The command of a single call is good: it counts."""
    slip.caller = caller_of(peer, event.name)
    slip.received = loop.now
    slip.stream = NONE
    slip.method = <uint8_t>event.method
    slip.is_last = True
    loop.service.count += 1


cdef void batch_run(Loop* loop) noexcept nogil:
    """Asks the ledger, and says the answers in the order of the commands."""
    cdef Service* service = &loop.service
    cdef uint32_t count = service.count
    cdef const LedgerPort* port = loop.shared.port
    cdef uint64_t position
    if count == 0:
        return
    service.space.lease_count = service.space.unavailable_count = 0
    position = port.execute(port, loop.now, service.commands, service.outcomes, &service.space, count)
    wake_committer(loop, position)  # first, so that it writes while the answers are made
    service.position = max(service.position, position)
    service.batches += 1
    service.batched += count
    answer_all(loop, count)
    service.count = 0


# --- answers --------------------------------------------------------------------------------------------------------------------------

cdef void answer_all(Loop* loop, uint32_t count) noexcept nogil:
    """Says or holds the answers to the first so many commands, then counts what was said."""
    cdef Service* service = &loop.service
    cdef AnswerContext context
    cdef uint8_t outcomes[BATCH_MAX]
    cdef const Slip* slip
    cdef Peer* peer = NULL
    cdef uint32_t i
    memset(&context, 0, sizeof(AnswerContext))
    context.products = loop.shared.port.state.products
    context.renew_grace = loop.shared.settings.renew_grace
    loop_look(loop)
    for i in range(count):
        slip = &service.slips[i]
        if slip.stream != NONE:
            stream_result(loop, slip, &service.commands[i], &service.outcomes[i])
            outcomes[i] = <uint8_t>NOT_COUNTED
            continue
        if peer == NULL or peer.slot != slip.caller.slot or peer.generation != slip.caller.generation:
            peer = peer_named(loop, slip.caller.slot, slip.caller.generation)
        outcomes[i] = answer_call(loop, peer, &context, slip, &service.commands[i], &service.outcomes[i])
    loop_look(loop)
    for i in range(count):
        if outcomes[i] != NOT_COUNTED:
            count_call(loop, service.slips[i].method, outcomes[i], service.slips[i].received)


cdef inline bint is_news(uint8_t status) noexcept nogil:
    """Whether an answer tells what became of a session, and so has to wait for its events."""
    return STATUS_GRANTED <= status <= STATUS_NOT_FOUND and status != STATUS_DENIED


cdef uint8_t answer_call(Loop* loop, Peer* peer, const AnswerContext* context, const Slip* slip, const Command* command, const Outcome* outcome) noexcept nogil:
    """The answer to a single call: encoded, then said or held. Its outcome; NOT_COUNTED while it is held.

    `peer` NULL: it is gone, nothing is said."""
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef Failure failure
    cdef int32_t code
    cdef uint64_t position
    if peer == NULL:
        return outcome_of(outcome)
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    code = answer_or_failure(&writer, context, command, outcome, &loop.service.space, &failure)
    if is_news(outcome.status):
        position = awaited_position(&loop.service, command, outcome)
        if must_wait(loop, position):
            return hold_answer(loop, slip, position, outcome_of(outcome), code, &writer, &failure)
    if code != CODE_OK:
        say_status(loop, peer, slip.caller.call, <uint32_t>code, failure.message.bytes, failure.message.size, writer.at, written_size(&writer))
    elif not say_answer(loop, peer, slip.caller.call, writer.at, written_size(&writer)):
        return OUTCOME_OVERLOADED
    return outcome_of(outcome)


cdef uint8_t hold_answer(Loop* loop, const Slip* slip, uint64_t position, uint8_t outcome, int32_t code, const Writer* writer, const Failure* failure) noexcept nogil:
    """The answer to a single call, for later: it is counted when it leaves."""
    cdef const Sentence* text = NULL
    cdef HeldAnswer* held
    if code != CODE_OK:
        text = &failure.message
    held = hold(loop, &slip.caller, position, writer, text)
    if held == NULL:
        return OUTCOME_UNAVAILABLE
    held.status = <uint8_t>code
    held.received = slip.received
    held.method = slip.method
    held.outcome = outcome
    return <uint8_t>NOT_COUNTED


cdef void refuse_call(Loop* loop, Peer* peer, const H2Event* event, const Failure* failure) noexcept nogil:
    """A call that the ledger is not asked for, answered at once."""
    say_failure(loop, peer, event.name, failure)
    count_call(loop, <uint8_t>event.method, outcome_of_code(failure.code), loop.now)


cdef void refuse_fault(Loop* loop, Peer* peer, const H2Event* event, const WireError* error) noexcept nogil:
    cdef Failure failure
    fail_fault(&failure, error)
    refuse_call(loop, peer, event, &failure)


# --- requests -------------------------------------------------------------------------------------------------------------------------

cdef inline const uint64_t* secret_of(Loop* loop) noexcept nogil:
    return loop.shared.port.state.secret


cdef inline void take_renew(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    """The path that matters most: nothing but decoding and a place in the batch."""
    cdef Slip* slip
    cdef WireError error
    cdef Command* command = batch_place(loop, &slip)
    if renew_intake(event.data, event.size, command, &slip.extras, &error):
        refuse_fault(loop, peer, event, &error)
    else:
        batch_keep(loop, peer, slip, event)


cdef void take_in_session(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    """Acquire, Release, Close: their messages are numbered one above their methods."""
    cdef Slip* slip
    cdef WireError error
    cdef Command* command = batch_place(loop, &slip)
    cdef uint8_t message = <uint8_t>(event.method + 1)
    if in_session_intake(message, event.data, event.size, secret_of(loop), batch_text(loop), command, &slip.extras, &error):
        refuse_fault(loop, peer, event, &error)
    else:
        batch_keep(loop, peer, slip, event)


cdef inline void identity_span(const Peer* peer, Span* identity) noexcept nogil:
    """Who the caller is authenticated as. One that is too long is passed on as such: the ledger refuses it, in its order."""
    identity.bytes = NULL
    identity.size = 0
    if peer.tls == NULL:
        return
    identity.bytes = peer.tls.identity
    if peer.tls.identity_status == IDENTITY_NAMED:
        identity.size = peer.tls.identity_size
    elif peer.tls.identity_status == IDENTITY_TOO_LONG:
        identity.size = IDENTITY_IS_TOO_LONG


cdef void fail_nameless(Failure* failure) noexcept nogil:
    failure_begin(failure, CODE_UNAUTHENTICATED, "IDENTITY_REQUIRED")
    say(&failure.message, NAMELESS_SENTENCE)


cdef void take_open(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    """A certificate that names nobody comes before all but garbage, as with the reference."""
    cdef Slip* slip
    cdef WireError error
    cdef Failure failure
    cdef Span identity
    cdef Command* command = batch_place(loop, &slip)
    cdef uint8_t fault
    identity_span(peer, &identity)
    fault = open_intake(MESSAGE_OPEN, event.data, event.size, &identity, secret_of(loop), batch_text(loop), command, &slip.extras, &error)
    if fault != FAULT_MESSAGE and peer.tls != NULL and peer.tls.identity_status == IDENTITY_NAMELESS:
        fail_nameless(&failure)
        refuse_call(loop, peer, event, &failure)
    elif fault:
        refuse_fault(loop, peer, event, &error)
    elif slip.extras.wait_limit:
        answer_unasked(loop, peer, event, command)
    else:
        batch_keep(loop, peer, slip, event)


cdef void take_open_waiting(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    """No waitlist is kept, so the ledger is never asked, nor who the caller is."""
    cdef Slip* slip
    cdef WireError error
    cdef Span identity
    cdef Command* command = batch_place(loop, &slip)
    identity.bytes = NULL
    identity.size = 0
    if open_intake(MESSAGE_OPEN_WAITING, event.data, event.size, &identity, secret_of(loop), batch_text(loop), command, &slip.extras, &error):
        refuse_fault(loop, peer, event, &error)
    else:
        answer_unasked(loop, peer, event, command)


cdef void answer_unasked(Loop* loop, Peer* peer, const H2Event* event, const Command* command) noexcept nogil:
    """An Open that would wait: refused for its own faults, then for the drain, else denied."""
    cdef WireError error
    cdef Failure failure
    error_begin(&error, MESSAGE_OPEN)
    if check_unasked(command, &error):
        refuse_fault(loop, peer, event, &error)
    elif loop.shared.port.state.is_draining:
        failure_begin(&failure, CODE_UNAVAILABLE, "DRAINING")
        say(&failure.message, DRAINING_SENTENCE)
        refuse_call(loop, peer, event, &failure)
    else:
        deny_waiting(loop, peer, event, command)


cdef void deny_waiting(Loop* loop, Peer* peer, const H2Event* event, const Command* command) noexcept nogil:
    """The denial names the first required product, with its numbers of now."""
    cdef const LedgerPort* port = loop.shared.port
    cdef uint8_t room[WIRE_ANSWER_SIZE_MAX]
    cdef Writer writer
    cdef DenialRecord denial
    cdef bint is_said
    cdef uint32_t item = first_required(command)
    memset(&denial, 0, sizeof(DenialRecord))
    port.product_standing(port, command.names.bytes[item], command.names.sizes[item], &denial)
    denial.reason = DENIAL_WAITING_UNSUPPORTED
    denial.item = <uint8_t>item
    writer_begin(&writer, room, WIRE_ANSWER_SIZE_MAX)
    put_denial(&writer, 2 if event.method == 0 else 3, &command.names, &denial)
    is_said = say_answer(loop, peer, event.name, writer.at, written_size(&writer))
    count_call(loop, <uint8_t>event.method, OUTCOME_DENIED if is_said else OUTCOME_OVERLOADED, loop.now)


# --- events of one peer -----------------------------------------------------------------------------------------------------------------

cdef inline void take_message(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    """The request of a call that is no stream of requests."""
    if event.method == METHOD_RENEW:
        take_renew(loop, peer, event)
    elif event.method == METHOD_OPEN:
        take_open(loop, peer, event)
    elif event.method <= METHOD_CLOSE:
        take_in_session(loop, peer, event)
    elif event.method == METHOD_OPEN_WAITING:
        take_open_waiting(loop, peer, event)
    elif event.method == METHOD_HEALTH_CHECK:
        health_check(loop, peer, event)
    else:
        USHER_ASSERT(event.method == METHOD_HEALTH_WATCH)
        health_watch(loop, peer, event)


cdef void service_take(Loop* loop, Peer* peer, H2Events* events) noexcept nogil:
    """All events of one feed, output or on_time; nothing of them is needed when it returns."""
    cdef H2Event* event
    cdef uint32_t i
    for i in range(events.count):
        event = &events.items[i]
        if event.kind == H2_GOING_AWAY or event.kind == H2_OVER:
            continue                # of the connection, which is the loop's
        if event.method == METHOD_KEEP_ALIVE:
            streams_take(loop, peer, event)
        elif event.kind == H2_MESSAGE:
            take_message(loop, peer, event)
        elif event.kind == H2_CANCELLED and event.method == METHOD_HEALTH_WATCH:
            health_cancelled(loop, peer, event.name)


# --- rounds -------------------------------------------------------------------------------------------------------------------------------

cdef void service_round(Loop* loop) noexcept nogil:
    """Once all ready peers have been read: runs the batch, says what may be said."""
    batch_run(loop)
    if loop.shared.settings.is_holding:
        held_release(loop)
    notices_poll(loop)
    health_round(loop)


cdef inline int64_t service_due(Loop* loop) noexcept nogil:
    """When service_round has something to do even if nothing comes; INT64_MAX: never."""
    return notices_due(loop)


cdef inline bint service_is_full(Loop* loop) noexcept nogil:
    """Whether nobody may be read from until something is committed."""
    return loop.shared.settings.is_holding and is_line_full(&loop.service)


cdef void service_peer_gone(Loop* loop, Peer* peer) noexcept nogil:
    """Before a slot is given up. Its answers in the batch and in the line find nobody; the rest is forgotten here."""
    streams_peer_gone(loop, peer)
    health_peer_gone(loop, peer)


cdef void service_drain(Loop* loop) noexcept nogil:
    """The streams end, since they would live for ever; calls under way are answered."""
    batch_run(loop)
    streams_drain(loop)
    health_drain(loop)
