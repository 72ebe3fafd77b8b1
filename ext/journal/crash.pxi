# Places where a test wants the process to die: at the n-th time that one of them is reached it ends by SIGKILL, as from outside.
#
# before_append, after_append, after_sync, before_answer are steps of a group; mid_snapshot is reached with each block of a snapshot and
# around its name; mid_recovery with each block that is read, while the last run's end is settled, and before the first segment of this one.

cdef inline void crash_here(CrashState* crash, uint8_t place) noexcept nogil:
    if crash != NULL and crash.place == place:
        crash.countdown -= 1
        if crash.countdown == 0:
            kill(getpid(), SIGKILL)


CRASH_POINTS = ("before_append", "after_append", "after_sync", "before_answer", "mid_snapshot", "mid_recovery")


cdef class CrashPoint:
    """One of CRASH_POINTS, and at which time; see broker/_journal.pyi."""

    cdef CrashState state

    def __cinit__(self, str text not None):
        name, _, count = text.partition(":")
        if name not in CRASH_POINTS:
            raise ValueError(f"{name!r} is no crash point: {', '.join(CRASH_POINTS)}")
        if count and not (count.isdigit() and int(count)):
            raise ValueError(f"{count!r} does not count how often {name} is reached")
        self.state.place = CRASH_POINTS.index(name) + 1
        self.state.countdown = int(count or 1)


cdef CrashPoint _crash_point_of(wanted):
    """None, what a configuration says, or one that several share."""
    return wanted if wanted is None or isinstance(wanted, CrashPoint) else CrashPoint(wanted)
