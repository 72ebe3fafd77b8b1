"""What holders ask of the broker: one call is one request_id, however often it is sent.

The times are those of the rules of the client library (broker/client/retry.py): an attempt is given up after `patience_ns` and sent again after a
pause, the call after `CALL_NS_MAX`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tests.sim.agenda import MS, S

CALL_NS_MAX = 8 * S
PAUSE_NS_MIN = 20 * MS
PAUSE_NS_MAX = 1 * S


class Verb(IntEnum):
    """The client's verbs."""

    OPEN = 1
    RENEW = 2
    ACQUIRE = 3
    RELEASE = 4
    CLOSE = 5


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: what an Open carries of its holder."""

    user: bytes
    host: bytes
    instance_id: bytes = b""


@dataclass(slots=True, eq=False)
class Call:
    """One request and where its holder stands with it. `fence`, `session_id`: of the session that it is about; `version`: the echoed one."""

    number: int
    holder_number: int
    verb: Verb
    person: Person
    request_id: bytes
    products: tuple[tuple[str, bool], ...] = ()
    session_id: bytes = b""
    fence: int = 0
    version: int = 0
    give_up_ns: int = 0
    due_ns: int = 0
    """When the attempt under way is given up, or the pause before the next one is over."""
    is_sent: bool = False
    attempt_count: int = 0
