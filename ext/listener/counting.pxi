# The Python face of what the loops count: read while they go on, each number whole, not all of one instant.

METHOD_NAMES = (
    "Sessions/Open", "Sessions/Renew", "Sessions/Acquire", "Sessions/Release", "Sessions/Close", "Sessions/KeepAlive",
    "Sessions/OpenWaiting", "Health/Check", "Health/Watch",
)
OUTCOME_NAMES = (
    "ok", "granted", "denied", "ended", "invalid", "not_found", "unauthenticated", "overloaded", "unavailable",
    "unimplemented", "failed", "internal",
)
CAUSE_NAMES = (
    "none", "protocol", "memory", "pings", "settings", "resets", "noise", "continuations", "headers", "queue", "preface_late",
    "headers_late", "idle", "late",
)


cdef dict _calls(const Shared* shared):
    """(method, outcome) -> CallCounts, of those that came."""
    cdef const CallTotals* totals
    cdef uint32_t i
    cdef uint32_t method
    cdef uint32_t outcome
    cdef uint32_t bucket
    calls = {}
    for method in range(METHOD_COUNT):
        for outcome in range(OUTCOME_COUNT):
            buckets = [0] * LATENCY_BUCKET_COUNT
            sum_ns = 0
            for i in range(shared.loop_count):
                totals = &shared.loops[i].service.totals[method]
                sum_ns += totals.sums_ns[outcome]
                for bucket in range(LATENCY_BUCKET_COUNT):
                    buckets[bucket] += totals.buckets[outcome][bucket]
            if any(buckets):
                calls[METHOD_NAMES[method], OUTCOME_NAMES[outcome]] = CallCounts(tuple(buckets), sum_ns)
    return calls


cdef dict _sums_of_loop(Loop* loop):
    """Every plain number of ListenerCounters, of one loop."""
    cdef const H2Totals* h2 = &loop.server.totals
    cdef const LoopTotals* totals = &loop.totals
    cdef const Service* service = &loop.service
    return {
        "connections": max(totals.connections, 0), "connections_accepted": totals.accepted, "connections_closed": totals.closed,
        "streams": h2.streams, "streams_refused": h2.streams_refused,
        "messages_received": h2.messages_received, "messages_sent": h2.messages_sent,
        "bytes_received": totals.received_size, "bytes_sent": totals.sent_size,
        "goaways_sent": h2.goaways_sent, "goaways_received": h2.goaways_received, "tls_handshakes": totals.handshakes,
        "batches": service.batches, "batched_commands": service.batched,
        "held_answers": service.held_count, "held_size": service.held_size, "held_full_count": service.held_full_count,
        "keep_alive_streams": streams_count(loop), "watched_sessions": watched_count(loop), "notices": notices_count(loop),
        "rounds": totals.rounds,
    }


cdef dict _refused_of_loop(const Loop* loop):
    cdef const LoopTotals* totals = &loop.totals
    cdef uint32_t i
    refused = {CAUSE_NAMES[i]: loop.server.totals.causes[i] for i in range(1, CAUSE_COUNT)}
    refused["memory"] += totals.refused_memory
    refused["connections"] = totals.refused_connections
    refused["accept"] = totals.accept_failures
    refused["handshake"] = totals.handshakes_late
    refused["write"] = totals.writes_late
    return refused


cdef dict _tls_failures_of_loop(const Loop* loop):
    return {error.name.lower(): loop.totals.tls_failures[<int>error] for error in TlsError}


cdef dict _added(list tables):
    """The sums of tables with the same names."""
    return {name: sum(table[name] for table in tables) for name in tables[0]}


cdef object _counters(const Shared* shared):
    cdef uint32_t i
    return ListenerCounters(
        calls=_calls(shared),
        refused=_added([_refused_of_loop(shared.loops[i]) for i in range(shared.loop_count)]),
        tls_failures=_added([_tls_failures_of_loop(shared.loops[i]) for i in range(shared.loop_count)]),
        **_added([_sums_of_loop(shared.loops[i]) for i in range(shared.loop_count)]),
    )


cdef str _last_states(const Shared* shared):
    cdef uint8_t line[STATE_LINE_MAX]
    cdef uint32_t i
    cdef uint32_t size
    lines = []
    for i in range(shared.loop_count):
        size = state_line(shared.loops[i], line)
        lines.append(PyBytes_FromStringAndSize(<const char*>line, size).decode())
    return "".join(lines)
