"""A stage for scenarios: one ledger or model, people who open sessions on it, keys, and a clock that is moved by hand.

Seconds here, nanoseconds below. Nothing stalls unless a scenario says so (`stall_ns`). The same scenario runs on the
compiled ledger and on the model.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

from broker.model.answers import Answer, LeaseView
from broker.model.events import Event, decode_events
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, EventKind
from tests.ledger.sides import ledger_class
from tests.model.ledger_model import LedgerModel
from tests.model.readings import counters_of, pools_of, products_of, sessions_of

SECOND_NS = 1_000_000_000
START_S = 1_000
FOREVER_S = 1_000_000
RING_SIZE = 1 << 24


class ModelOnStage(LedgerModel):
    """The model with the ledger's readings."""

    def pools(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**view) for view in pools_of(self)]

    def products(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**view) for view in products_of(self)]

    def counters(self) -> SimpleNamespace:
        return SimpleNamespace(**counters_of(self))

    def sessions(self, now_ns: int) -> tuple[list[SimpleNamespace], int]:
        self.pass_time(now_ns)
        return [SimpleNamespace(**view) for view in sessions_of(self)], 0

    def session_fence(self, session_id: bytes) -> int:
        return int.from_bytes(session_id, "big")


def compiled_ledger(**settings: int) -> Any:
    return ledger_class()(broker_id=b"scenario", secret=b"sixteen bytes!!!", generation=3, **settings)


def model_ledger(**settings: int) -> Any:
    return ModelOnStage(generation=3, **settings)


MakeCore = Callable[..., Any]


class Scene:
    """What happens on the stage. `now_s` is the hand of the clock."""

    def __init__(self, make_core: MakeCore, **settings: int) -> None:
        self.core = make_core(**({"start_ns": START_S * SECOND_NS, "stall_ns": 0} | settings))
        self.now_s = float(START_S)
        self._request_numbers = count(1)

    @property
    def now_ns(self) -> int:
        return round(self.now_s * SECOND_NS)

    def wait(self, seconds: float) -> None:
        """Time passes, and what is due is done."""
        self.now_s += seconds
        self.advance()

    def advance(self) -> None:
        while self.core.advance(self.now_ns):
            pass

    # --- keys ------------------------------------------------------------------------------------------------
    def pool(self, product: str = "platform", is_emulated: bool = False, **terms: Any) -> int:
        return int(self.core.declare_pool(product, PoolTerms(**terms), is_emulated))

    def prove(
        self, seats: int, pool: int = 0, source: int = 0, for_s: float = FOREVER_S, grace_s: float = 300
    ) -> None:
        """The source's key answers now: its seats for so long, and key grace for so long after that."""
        until_ns = self.now_ns + round(for_s * SECOND_NS)
        self.core.prove_source(
            self.now_ns, source, pool, seats, until_ns, until_ns + round(grace_s * SECOND_NS)
        )

    def fill(self, seats: int, **terms: Any) -> None:
        """One pool of `platform` with so many proven seats."""
        self.prove(seats, self.pool(**terms))

    def lose(self, source: int = 0, grace_s: float = 300, cause: EndReason = EndReason.KEY_LOST) -> None:
        self.core.lose_source(self.now_ns, source, self.now_ns + round(grace_s * SECOND_NS), cause)
        self.advance()

    def starting(self, is_starting: bool, pool: int = 0) -> None:
        self.core.set_starting(self.now_ns, pool, is_starting)

    # --- people ----------------------------------------------------------------------------------------------
    def request_id(self) -> bytes:
        return next(self._request_numbers).to_bytes(16, "big")

    def open(self, user: str, *products: str, optional: tuple[str, ...] = (), **more: Any) -> Answer:
        items = [(name, False) for name in products or ("platform",)] + [(name, True) for name in optional]
        arguments = {"request_id": self.request_id(), "host": b"desk", "products": items} | more
        answer: Answer = self.core.open(self.now_ns, user=user.encode(), **arguments)
        return answer

    def renew(self, session: Answer, change_version: int = 0) -> Answer:
        answer: Answer = self.core.renew(self.now_ns, session.session_id, change_version)
        return answer

    def acquire(self, session: Answer, *products: str, request_id: bytes | None = None) -> Answer:
        items = [(name, False) for name in products]
        asked = request_id or self.request_id()
        answer: Answer = self.core.acquire(self.now_ns, session.session_id, asked, items)
        return answer

    def release(self, session: Answer, product: str, request_id: bytes | None = None) -> Answer:
        asked = request_id or self.request_id()
        answer: Answer = self.core.release(self.now_ns, session.session_id, asked, product)
        return answer

    def close(self, session: Answer, request_id: bytes | None = None) -> Answer:
        answer: Answer = self.core.close(self.now_ns, session.session_id, request_id or self.request_id())
        return answer

    def revoke(self, session: Answer, reason: EndReason = EndReason.REVOKED) -> bool:
        return bool(self.core.revoke(self.now_ns, session.fence, reason))

    # --- looking ---------------------------------------------------------------------------------------------
    def look(self, pool: int = 0) -> Any:
        """The PoolView."""
        return self.core.pools()[pool]

    def seats_in_use(self, pool: int = 0) -> int:
        return int(self.look(pool).in_use)

    def events(self) -> list[Event]:
        """All since the last time."""
        if isinstance(self.core, LedgerModel):
            return self.core.drain(RING_SIZE)
        return list(decode_events(self.core.drain_events()))

    def ends(self) -> list[EndReason]:
        """Of the sessions that ended since the last time."""
        ended = [event.reason for event in self.events() if event.kind is EventKind.SESSION_ENDED]
        return [EndReason(reason) for reason in ended]


Stage = Callable[..., Scene]
"""Makes a scene with the settings that are given."""


def lease_on(answer: Answer, product: str) -> LeaseView:
    (lease,) = (lease for lease in answer.leases if lease.product == product)
    return lease
