"""What a finished `usher` command tells the shell: one number a cause, stable over versions.

Never renumber. 2 is click's own for a wrong command line, 130 the shell's for an interrupt.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of `usher`."""

    DONE = 0
    OUR_BUG = 1
    """Something failed that never should: please report it."""
    USAGE = 2
    """The command line is wrong."""
    DENIED = 3
    """`usher open`: the broker denied the seats."""
    CONFIG = 4
    """The configuration, a trust file or a licence is not as it must be."""
    UNREACHABLE = 5
    """No broker answers there."""
    REFUSED = 6
    """The broker refused the call: no such session, wrong token, not served."""
    DATA_DIRECTORY = 7
    """The data directory cannot be used, or another broker uses it."""
    ADDRESS_IN_USE = 8
    """A port is taken."""
    COMPILED_PARTS_MISSING = 9
    """This install can be a client, but not a broker."""
    SESSION_LOST = 10
    """`usher open`: the session ended before it was closed."""
    PART_FAILED = 11
    """`usher serve`: a part of the running broker stopped that never should, and the broker with it. Starting it again may help;
    please report it."""
    JOURNAL_FAILED = 12
    """`usher serve`: the disk refused the log of the running broker, which therefore ended at once. Nothing acknowledged is lost;
    start it again when the disk is well."""
    TROUBLE = 13
    """`usher doctor`: something does not work; each finding says what to do."""
    INTERRUPTED = 130
    """Stopped from the keyboard before it was done."""
