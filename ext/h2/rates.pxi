# What a peer may ask for in a while: rates, strikes, and how a connection whose peer went too far ends.
#
# A rate is one number: the time at which all that was taken would have been earned (the generic cell rate algorithm).
# Honest peers do not come near: a call that ends well gives a reset back, each frame of ours pays for four of theirs.

cdef inline bint rate_take(int64_t* earned, int64_t now, int64_t interval, int64_t burst) noexcept nogil:
    """False when more than `burst` were taken beyond one an interval."""
    earned[0] = max(earned[0], now - interval * burst) + interval
    return earned[0] <= now


cdef inline void rate_give(int64_t* earned, int64_t interval, int64_t count) noexcept nogil:
    earned[0] = max(earned[0] - interval * count, INT64_MIN // 2)


cdef enum:
    RESETS_INTERVAL_NS = 15625000       # 64 a second
    SETTINGS_INTERVAL_NS = 1000000000
    NOISE_INTERVAL_NS = 1953125         # 512 a second
    NOISE_PER_FRAME = 4


cdef int breach(Connection* c, uint8_t cause, uint32_t code) noexcept nogil:
    """Ends the connection from inside a callback; feed says GOAWAY when nghttp2 has returned."""
    if c.cause == CAUSE_NONE:
        c.cause = cause
        c.breach_code = code
    return NGHTTP2_ERR_CALLBACK_FAILURE


cdef int take_reset(Connection* c) noexcept nogil:
    """A call that the peer gave up, or made us give up (rapid reset, and its sister that lets the server reset)."""
    if rate_take(&c.resets_rate, c.now, RESETS_INTERVAL_NS, H2_RESETS_BURST):
        return 0
    return breach(c, CAUSE_RESETS, NGHTTP2_ENHANCE_YOUR_CALM)


cdef int take_noise(Connection* c) noexcept nogil:
    if rate_take(&c.noise_rate, c.now, NOISE_INTERVAL_NS, H2_NOISE_BURST):
        return 0
    return breach(c, CAUSE_NOISE, NGHTTP2_ENHANCE_YOUR_CALM)


cdef int take_settings(Connection* c) noexcept nogil:
    if rate_take(&c.settings_rate, c.now, SETTINGS_INTERVAL_NS, H2_SETTINGS_BURST):
        return 0
    return breach(c, CAUSE_SETTINGS, NGHTTP2_ENHANCE_YOUR_CALM)


cdef int take_ping(Connection* c) noexcept nogil:
    """Strikes, as gRPC counts them: pings closer than the interval; forgotten when we send headers or data."""
    cdef bint is_early = c.ping_last != INT64_MIN and c.now < c.ping_last + c.server.settings.ping_interval_ns
    c.ping_last = c.now
    c.ping_strikes += is_early
    if c.ping_strikes <= c.server.settings.ping_strikes_max:
        return 0
    return breach(c, CAUSE_PINGS, NGHTTP2_ENHANCE_YOUR_CALM)


cdef void connection_end(Connection* c, uint8_t cause, uint32_t code) noexcept nogil:
    """GOAWAY, and the last event. Outside of callbacks; a second end is none."""
    cdef H2Event* event
    if c.is_over:
        return
    c.is_over = True
    c.cause = cause
    c.server.totals.causes[cause] += 1
    say_goaway(c, cause, code)
    event = tell(c, H2_OVER)
    event.cause = cause
    event.code = code


cdef void say_goaway(Connection* c, uint8_t cause, uint32_t code) noexcept nogil:
    """For too many pings with the words that gRPC clients look for, to ping less often next time."""
    if cause == CAUSE_PINGS:
        nghttp2_submit_goaway(
            c.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c.session), code,
            <const uint8_t*>b"too_many_pings", 14)
    nghttp2_session_terminate_session(c.session, code)
