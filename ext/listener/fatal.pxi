# What a fatal signal prints: a line for each loop, what it did last. Only what a signal handler may do: plain loads and write(2).
#
# The handler may run in any thread at any instant; the loops go on meanwhile, so that a line may mix two instants.

cdef extern from *:
    """
    static const char *const usher_phases[] = {
        "new", "waiting", "reading", "timers", "ledger", "service", "sending", "ending", "done",
    };
    static const int usher_fatal_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    """
    const char* PHASE_WORDS "usher_phases"[PHASE_COUNT]
    const int FATAL_SIGNALS "usher_fatal_signals"[5]

cdef enum:
    STATE_LINE_MAX = 256

cdef const Shared* dumped_shared = NULL


cdef uint32_t line_word(uint8_t* line, uint32_t at, const char* word) noexcept nogil:
    while word[0] != 0 and at < STATE_LINE_MAX - 1:
        line[at] = <uint8_t>word[0]
        at += 1
        word += 1
    return at


cdef uint32_t line_number(uint8_t* line, uint32_t at, uint64_t number) noexcept nogil:
    cdef char digits[21]
    cdef uint32_t i = 20
    digits[20] = 0
    while True:
        i -= 1
        digits[i] = <char>(48 + number % 10)
        number //= 10
        if number == 0:
            return line_word(line, at, &digits[i])


cdef uint32_t line_field(uint8_t* line, uint32_t at, const char* name, uint64_t number) noexcept nogil:
    return line_number(line, line_word(line, at, name), number)


cdef uint32_t state_line(const Loop* loop, uint8_t* line) noexcept nogil:
    """The line of one loop with its newline; its size."""
    cdef const LastState* last = &loop.last
    cdef uint32_t phase = last.phase if last.phase < PHASE_COUNT else <uint32_t>PHASE_NEW
    cdef uint32_t at = line_field(line, 0, "usher: loop ", loop.number)
    at = line_word(line, at, ": ")
    at = line_word(line, at, PHASE_WORDS[phase])
    at = line_field(line, at, ", round ", last.round)
    at = line_field(line, at, ", peer ", last.slot)
    at = line_field(line, at, ", call ", last.call)
    at = line_field(line, at, ", method ", last.method)
    at = line_field(line, at, ", batch of ", last.batch_count)
    at = line_field(line, at, ", connections ", <uint64_t>loop.totals.connections)
    line[at] = 10
    return at + 1


cdef void on_fatal(int number) noexcept nogil:
    """Says where the loops are; then the signal does what it does by default."""
    cdef uint8_t line[STATE_LINE_MAX]
    cdef sigaction_record plain
    cdef sigset_t raised
    cdef uint32_t i
    cdef uint32_t size
    if dumped_shared != NULL:
        for i in range(dumped_shared.loop_count):
            size = state_line(dumped_shared.loops[i], line)
            write_fd(2, line, size)
    memset(&plain, 0, sizeof(plain))
    plain.sa_handler = SIG_DFL
    sigaction_set(number, &plain, NULL)
    sigemptyset(&raised)
    sigaddset(&raised, number)
    pthread_sigmask(SIG_UNBLOCK, &raised, NULL)
    raise_signal(number)


cdef bint fatal_install(const Shared* shared) noexcept nogil:
    """Of the whole process; the newest listener counts."""
    global dumped_shared
    cdef sigaction_record action
    cdef int i
    dumped_shared = shared
    memset(&action, 0, sizeof(action))
    action.sa_handler = on_fatal
    sigemptyset(&action.sa_mask)
    for i in range(5):
        if sigaction_set(FATAL_SIGNALS[i], &action, NULL) != 0:
            return False
    return True
