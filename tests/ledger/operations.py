"""One operation of a lockstep run, and the settings of the ledger that it runs on: plain values that can be replayed.

A session is named by the number of the Open that should have opened it, never by its id, so that a list of operations means the
same on every side and still means something when some of them are left out. Times are nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from broker.model.terms import PoolTerms

NOBODY = -1


@dataclass(frozen=True, slots=True)
class PoolDeclaration:
    """One pool, as declared before the first operation."""

    product: str
    terms: PoolTerms
    is_emulated: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """A ledger: the arguments that it is made with, and its pools."""

    arguments: dict[str, int]
    pools: tuple[PoolDeclaration, ...]


class Operation(NamedTuple):
    """One call. `opened_by`: the number of the Open of the session that it is about; is_forged: with a false id of it."""

    number: int
    name: str
    now_ns: int
    arguments: dict[str, Any]
    opened_by: int = NOBODY
    is_forged: bool = False

    @property
    def carries_time(self) -> bool:
        return self.name not in ("declare_pool", "drain", "restart")

    def __str__(self) -> str:
        about = "" if self.opened_by == NOBODY else f" session of #{self.opened_by}"
        forged = " (forged id)" if self.is_forged else ""
        told = {name: value for name, value in self.arguments.items() if value not in (b"", 0)}
        told |= {name: value.hex()[:6] for name, value in told.items() if name == "request_id"}
        arguments = ", ".join(f"{name}={value!r}" for name, value in told.items())
        return f"#{self.number} at {self.now_ns}: {self.name}{about}{forged} {arguments}"
