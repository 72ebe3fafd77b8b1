"""A broker whose process can be made to hold the GIL, a second at a time, without burning processor time.

    python -m loadtests.bench.gil_holder serve --config FILE      as `usher`, with a thread beside it

SIGUSR1 makes the thread begin, or stop after the second under way. It sleeps in C through ctypes.PyDLL, which keeps the
GIL: as an extension that forgot to let it go, or a library that waits for a name server. Between two such seconds it gives
all other Python threads a hundredth. The product holds nothing of this.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time

from broker.cli.main import main

HELD_US = 1_000_000
FREE_S = 0.01


def hold_for_ever(is_wanted: threading.Event) -> None:
    """Holds the GIL whenever it is wanted."""
    sleep_us = ctypes.PyDLL(None).usleep
    while True:
        is_wanted.wait()
        sleep_us(HELD_US)
        time.sleep(FREE_S)


def serve() -> int:
    """The broker, and the thread; the broker's exit code."""
    is_wanted = threading.Event()

    def turn(*_: object) -> None:
        if is_wanted.is_set():
            is_wanted.clear()
        else:
            is_wanted.set()

    signal.signal(signal.SIGUSR1, turn)
    threading.Thread(target=hold_for_ever, args=(is_wanted,), name="gil-holder", daemon=True).start()
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(serve())
