"""The compiled load generator: one storm of gRPC calls over nghttp2, in one thread without the GIL.

Built in place by setup.py, never part of a wheel. `loadtests.storm` is what to use; this is its engine. Times are nanoseconds.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from loadtests.storm.requests import Head, Template

HistogramValues: TypeAlias = list[Any]
"""[count, sum, largest, [(largest value of the bucket, count), ...]]"""

CYCLES: dict[str, int]
STEPS: dict[str, int]
ANSWERS: tuple[str, ...]
FAULTS: tuple[str, ...]
PHASES: tuple[str, ...]
COUNTED: tuple[str, ...]

def histogram_of(values: Iterable[int]) -> HistogramValues: ...
def arrivals_of(seed: int, interval_ns: float, is_poisson: bool, count: int) -> list[int]: ...

class StormEngine:
    """One storm. Made from plain values (loadtests/storm/engine.py), run once."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        heads: Mapping[str, Head],
        templates: Mapping[str, Template],
        pool_open: Template,
        tls: tuple[bytes, bool, bytes, bytes | None, bytes | None] | None,
    ) -> None:
        """`tls`: the server's name, whether that is an address, and the files of authority, certificate and private key.
        ValueError says what is too much or unreadable, OSError and MemoryError what this machine lacks."""
    def run(self) -> None:
        """Blocks without the GIL until the storm is over. OSError: this machine refused something."""
    def stop(self) -> None:
        """The first call ends the measurement, the second everything. Any thread."""
    def progress(self) -> tuple[str, int, int, int, int, int]:
        """(phase, answered, faults, connections up, calls in flight, backlog) now. Any thread."""
    def counts(self) -> dict[str, int]: ...
    def answers(self) -> dict[str, int]: ...
    def statuses(self) -> dict[int, int]: ...
    def reasons(self) -> dict[str, int]: ...
    def faults(self) -> dict[str, tuple[int, str]]: ...
    def latencies(self) -> dict[str, HistogramValues]: ...
    def window(self) -> tuple[int, int, int]:
        """(length of the measured window, our CPU in it, the watched process's CPU in it)."""
    def sessions(self) -> list[bytes]: ...
    @property
    def is_server_gone(self) -> bool: ...
