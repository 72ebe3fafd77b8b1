# What a fatal signal prints: a line for each loop, what it did last, and the ledger's last commands into a file that the model can do
# again (broker/model/commands.py). Only what a signal handler may do: plain loads, open(2) and write(2).
#
# The handler may run in any thread at any instant; the others go on meanwhile, so that a line may mix two instants, and the commands'
# last record may be half of one. A loop has a stack for signals, so that it can speak even when its own is used up.

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
    SIGNAL_STACK_SIZE = 65536
    COMMANDS_HEAD_MAX = 256
    COMMANDS_IS_WHOLE_AT = 8        # in the head of a dump: whether it begins with the ledger
    PATH_SIZE_MAX = 4096
    SECOND_FATAL_WAIT_MS = 2000

cdef const Shared* dumped_shared = NULL
cdef uint8_t commands_head[COMMANDS_HEAD_MAX]
cdef uint32_t commands_head_size = 0
cdef char commands_path[PATH_SIZE_MAX]      # empty: the commands are not written
cdef uint8_t is_dumping = False


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


# --- the last commands ---------------------------------------------------------------------------------------------------------

cdef bint write_whole(int fd, const uint8_t* data, uint64_t size) noexcept nogil:
    cdef ssize_t written
    while size:
        written = write_fd(fd, data, size)
        if written <= 0:
            return False
        data += written
        size -= <uint64_t>written
    return True


cdef bint commands_write(int fd, const Trail* trail) noexcept nogil:
    """As Ledger.recent_commands gives them, without its mutex, which the thread that fails may have."""
    cdef uint64_t last = trail.turn
    cdef uint64_t turn = last - TRAIL_SEGMENTS + 1 if last >= TRAIL_SEGMENTS else 0
    cdef const uint8_t* start
    cdef bint is_written
    commands_head[COMMANDS_IS_WHOLE_AT] = turn == 0
    is_written = write_whole(fd, commands_head, commands_head_size)
    while is_written and turn <= last:
        start = trail.base + (turn % TRAIL_SEGMENTS) * COMMAND_SEGMENT_SIZE
        is_written = write_whole(fd, start, trail.fills[turn % TRAIL_SEGMENTS] if turn < last else <uint64_t>(trail.at - start))
        turn += 1
    return is_written


cdef void commands_dump(const Trail* trail) noexcept nogil:
    cdef const char* before = "usher: the last commands are in "
    cdef int fd = open_path(commands_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    if fd < 0:
        return
    if commands_write(fd, trail):
        write_fd(2, before, strlen(before))
        write_fd(2, commands_path, strlen(commands_path))
        write_fd(2, "\n", 1)
    close_fd(fd)


# --- the signal --------------------------------------------------------------------------------------------------------------------

cdef void fatal_say() noexcept nogil:
    cdef uint8_t line[STATE_LINE_MAX]
    cdef uint32_t i
    cdef uint32_t size
    for i in range(dumped_shared.loop_count):
        size = state_line(dumped_shared.loops[i], line)
        write_fd(2, line, size)
    if commands_path[0]:
        commands_dump(&dumped_shared.port.state.trail)


cdef void on_fatal(int number) noexcept nogil:
    """Says where the loops are; then the signal does what it does by default. Who fails second lets the first finish."""
    cdef sigaction_record plain
    cdef sigset_t raised
    if not take_once(&is_dumping):
        poll(NULL, 0, SECOND_FATAL_WAIT_MS)
    elif dumped_shared != NULL:
        fatal_say()
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
    action.sa_flags = SA_ONSTACK
    sigemptyset(&action.sa_mask)
    for i in range(5):
        if sigaction_set(FATAL_SIGNALS[i], &action, NULL) != 0:
            return False
    return True


cdef void signal_stack_begin(void* memory) noexcept nogil:
    """Of the calling thread. `memory` NULL: it goes without."""
    cdef signal_stack stack
    if memory == NULL:
        return
    memset(&stack, 0, sizeof(stack))
    stack.ss_sp = memory
    stack.ss_size = SIGNAL_STACK_SIZE
    sigaltstack(&stack, NULL)


cdef void signal_stack_end(void* memory) noexcept nogil:
    cdef signal_stack stack
    if memory == NULL:
        return
    memset(&stack, 0, sizeof(stack))
    stack.ss_flags = SS_DISABLE
    sigaltstack(&stack, NULL)
    free(memory)
