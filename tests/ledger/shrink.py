"""The smallest list of operations that still shows a difference, found by leaving out ever smaller parts.

Operations name sessions by the number of their Open and carry absolute times, so any part of a failing episode is an
episode too. Where the difference allows it, everything is drained and read after each operation, which
shows the first moment at which the two sides part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.ledger.lockstep import Lockstep, MakeSide
from tests.ledger.operations import Operation, Settings
from tests.ledger.sides import LedgerSide

_Fails = Callable[[Sequence[Operation]], bool]


def difference_in(
    settings: Settings, operations: Sequence[Operation], make_ledger: MakeSide = LedgerSide, *, is_eager: bool
) -> str:
    """How the sides differ when they do these operations; empty if they do not."""
    try:
        pair = Lockstep(settings, make_ledger)
        for operation in operations:
            pair.step(operation)
            if is_eager:
                pair.drain(settings.arguments["event_ring_size"])
                pair.read(operation.now_ns)
        pair.finish(operations[-1].now_ns if operations else settings.arguments["start_ns"])
    except AssertionError as difference:
        return str(difference)
    except (IndexError, ValueError):
        return ""  # an operation about a pool whose declaration is left out
    return ""


def shrink(
    settings: Settings, operations: Sequence[Operation], make_ledger: MakeSide = LedgerSide
) -> tuple[list[Operation], str]:
    """The remaining operations and the difference that they show."""
    is_eager = bool(difference_in(settings, operations, make_ledger, is_eager=True))

    def fails(some: Sequence[Operation]) -> bool:
        return bool(difference_in(settings, some, make_ledger, is_eager=is_eager))

    if not fails(operations):
        return list(operations), "the difference did not come again"
    least = _without_parts(_shortest_beginning(list(operations), fails), fails)
    return least, difference_in(settings, least, make_ledger, is_eager=is_eager)


def _shortest_beginning(operations: list[Operation], fails: _Fails) -> list[Operation]:
    low, high = 0, len(operations)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(operations[:middle]) else (middle, high)
    return operations[:high]


def _without_parts(operations: list[Operation], fails: _Fails) -> list[Operation]:
    """Tries to leave out each half, each quarter, and so on down to each single one."""
    size = max(1, len(operations) // 2)
    while True:
        start = 0
        while start < len(operations):
            rest = operations[:start] + operations[start + size :]
            if fails(rest):
                operations = rest
            else:
                start += size
        if size == 1:
            return operations
        size = max(1, size // 2)
