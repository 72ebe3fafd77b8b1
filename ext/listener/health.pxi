# grpc.health.v1.Health: what a balancer or a probe asks. Check answers once; Watch at once and at each change after.
#
# Known are the server ("") and its two services, all of which are as the listener is (`Shared.is_serving`). Any other: Check says
# NOT_FOUND, Watch SERVICE_UNKNOWN, and goes on, as grpc_health does. Watchers are bounded; when the broker stops they hear NOT_SERVING and
# end with UNAVAILABLE. Nothing of it tells about a session, so nothing is held.

cdef enum:  # grpc.health.v1.HealthCheckResponse.ServingStatus
    HEALTH_UNKNOWN = 0
    HEALTH_SERVING = 1
    HEALTH_NOT_SERVING = 2
    HEALTH_SERVICE_UNKNOWN = 3

cdef struct Watcher:
    Caller caller
    bint is_known                   # the service that it asks for

cdef struct Health:
    uint32_t count
    uint8_t status                  # that the watchers were told
    Watcher watchers[HEALTH_WATCHERS_MAX]

cdef extern from *:
    """
    static const char usher_watchers_full[] = "As many watch the health of this broker as may; ask with Check.";
    static const char usher_bad_health_check[] = "The message is not a valid grpc.health.v1.HealthCheckRequest.";
    static const char usher_no_such_service[] = "This server has no such service.";
    """
    const char* WATCHERS_FULL_SENTENCE "usher_watchers_full"
    const char* BAD_HEALTH_CHECK_SENTENCE "usher_bad_health_check"
    const char* NO_SUCH_SERVICE_SENTENCE "usher_no_such_service"


cdef bint health_begin(Loop* loop) noexcept nogil:
    """False: no memory."""
    cdef Health* health = <Health*>malloc(sizeof(Health))
    loop.service.health = health
    if health == NULL:
        return False
    health.count = 0
    health.status = HEALTH_NOT_SERVING
    return True


cdef void health_end(Loop* loop) noexcept nogil:
    free(loop.service.health)
    loop.service.health = NULL


cdef inline Health* health_of(Loop* loop) noexcept nogil:
    return <Health*>loop.service.health


cdef inline uint8_t health_now(Loop* loop) noexcept nogil:
    return HEALTH_SERVING if atomic_read_u8(&loop.shared.is_serving) and not loop.is_draining else HEALTH_NOT_SERVING


cdef inline bint is_service(const Span* name, const char* known) noexcept nogil:
    return name.size == strlen(known) and memcmp(name.bytes, known, name.size) == 0


cdef bint health_parse(const H2Event* event, bint* is_known) noexcept nogil:
    """HealthCheckRequest: service 1. Whether it is one."""
    cdef Reader reader
    cdef Field field
    cdef Span name
    name.bytes = NULL
    name.size = 0
    reader_begin(&reader, event.data, event.size)
    while next_field(&reader, &field):
        if is_span(&field, 1):
            take_text(&reader, &field, &name)
    is_known[0] = name.size == 0 or is_service(&name, "broker.v1.Sessions") or is_service(&name, "grpc.health.v1.Health")
    return not reader.is_bad


cdef void say_sentence(Loop* loop, Peer* peer, uint64_t call, uint32_t code, const char* sentence) noexcept nogil:
    """A status without details: Health is not ours to add to."""
    say_status(loop, peer, call, code, <const uint8_t*>sentence, <uint32_t>strlen(sentence), NULL, 0)


cdef inline uint32_t health_message(uint8_t status, uint8_t* target) noexcept nogil:
    """HealthCheckResponse: status 1."""
    target[0] = 0x08
    target[1] = status
    return 2


cdef void health_check(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    cdef uint8_t message[2]
    cdef bint is_known = False
    if not health_parse(event, &is_known):
        say_sentence(loop, peer, event.name, CODE_INVALID_ARGUMENT, BAD_HEALTH_CHECK_SENTENCE)
    elif not is_known:
        say_sentence(loop, peer, event.name, CODE_NOT_FOUND, NO_SUCH_SERVICE_SENTENCE)
    else:
        say_answer(loop, peer, event.name, message, health_message(health_now(loop), message))


# --- watchers ---------------------------------------------------------------------------------------------------------------------

cdef bint watcher_tell(Loop* loop, const Caller* caller, uint8_t status) noexcept nogil:
    """Whether it is still there. One that does not read its changes is cut off like one that is gone."""
    cdef Peer* peer = peer_named(loop, caller.slot, caller.generation)
    cdef uint8_t message[2]
    cdef int said
    if peer == NULL:
        return False
    said = say_message(&peer.h2, caller.call, message, health_message(status, message))
    if said == SAID_NO_ROOM:
        say_sentence(loop, peer, caller.call, CODE_RESOURCE_EXHAUSTED, ANSWERS_FULL_SENTENCE)
    elif said == SAID:
        peer_touch(loop, peer)
    return said == SAID


cdef void watcher_stop(Loop* loop, const Caller* caller) noexcept nogil:
    cdef Peer* peer = peer_named(loop, caller.slot, caller.generation)
    cdef Failure failure
    if peer != NULL:
        fail_stopping(&failure)
        say_failure(loop, peer, caller.call, &failure)


cdef void health_watch(Loop* loop, Peer* peer, const H2Event* event) noexcept nogil:
    cdef Health* health = health_of(loop)
    cdef Watcher* watcher
    cdef Failure failure
    cdef bint is_known = False
    if not health_parse(event, &is_known):
        say_sentence(loop, peer, event.name, CODE_INVALID_ARGUMENT, BAD_HEALTH_CHECK_SENTENCE)
        return
    if health.count == HEALTH_WATCHERS_MAX:
        fail_bound(&failure, "health_watchers", WATCHERS_FULL_SENTENCE)
        say_failure(loop, peer, event.name, &failure)
        return
    health_round(loop)              # so that all have been told the same
    watcher = &health.watchers[health.count]
    watcher.caller = caller_of(peer, event.name)
    watcher.is_known = is_known
    if watcher_tell(loop, &watcher.caller, health.status if is_known else <uint8_t>HEALTH_SERVICE_UNKNOWN):
        health.count += 1
    if loop.is_draining:
        health_drain(loop)


cdef void health_round(Loop* loop) noexcept nogil:
    """Tells all watchers of a change, if there was one."""
    cdef Health* health = health_of(loop)
    cdef uint8_t status = health_now(loop)
    cdef uint32_t i = 0
    if status == health.status:
        return
    health.status = status
    while i < health.count:
        if health.watchers[i].is_known and not watcher_tell(loop, &health.watchers[i].caller, status):
            watcher_remove(health, i)
        else:
            i += 1


cdef inline void watcher_remove(Health* health, uint32_t index) noexcept nogil:
    """The last takes its place: they have no order."""
    health.count -= 1
    health.watchers[index] = health.watchers[health.count]


cdef void health_cancelled(Loop* loop, const Peer* peer, uint64_t call) noexcept nogil:
    cdef Health* health = health_of(loop)
    cdef uint32_t i
    for i in range(health.count):
        if health.watchers[i].caller.call == call and health.watchers[i].caller.slot == peer.slot:
            watcher_remove(health, i)
            return


cdef void health_peer_gone(Loop* loop, const Peer* peer) noexcept nogil:
    cdef Health* health = health_of(loop)
    cdef uint32_t i = 0
    while i < health.count:
        if health.watchers[i].caller.slot == peer.slot:
            watcher_remove(health, i)
        else:
            i += 1


cdef void health_drain(Loop* loop) noexcept nogil:
    """NOT_SERVING, and the end of all watches."""
    cdef Health* health = health_of(loop)
    cdef uint32_t i
    health_round(loop)
    for i in range(health.count):
        watcher_stop(loop, &health.watchers[i].caller)
    health.count = 0
