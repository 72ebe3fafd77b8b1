"""A small broker without I/O: the compiled ledger on a clock that tests move, the verbs on top, stand-ins for keyring and fleet."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from broker._ledger import Ledger
from broker.keyring import KeyringViews
from broker.model.durability import DurabilityView
from broker.model.terms import PoolTerms
from broker.model.words import EndReason
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.admin import ADMIN_METHODS, AdminVerbs
from broker.verbs.drain import DrainSwitch
from broker.verbs.errors import VerbError
from broker.verbs.events import EventPump
from broker.verbs.notices import NoticeBoard
from broker.verbs.seams import BrokerFacts
from broker.verbs.sessions import SessionVerbs
from broker.verbs.settings import SessionSettings
from broker.verbs.stats import RequestStats

S = 10**9
FOREVER = 2**62
TTL_NS = 60 * S
RENEW_GRACE_NS = 10 * S
WALL_NS = 1_800_000_000 * S


class Clock:
    """CLOCK_MONOTONIC as the test wants it."""

    def __init__(self) -> None:
        self.now_ns = 1000 * S

    def __call__(self) -> int:
        return self.now_ns

    def advance_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)


class StubKeyring:
    """A keyring that shows what the test puts in."""

    def __init__(self) -> None:
        self.shown = KeyringViews(keys=(), licences=(), is_starting=False, is_clock_suspect=False, faults=())
        self.enabled: dict[str, bool] = {"known": True}

    def views(self) -> KeyringViews:
        return self.shown

    def set_enabled(self, thumbprint: str, is_enabled: bool) -> bool:
        if thumbprint not in self.enabled:
            return False
        self.enabled[thumbprint] = is_enabled
        return True


@dataclass(slots=True)
class StubEmulatedKey:
    name: str
    profile: str = "yubikey5"
    is_plugged: bool = True
    thumbprint: str = "thumb"


@dataclass(slots=True)
class StubFleet:
    """An emulated fleet of one."""

    alpha: StubEmulatedKey = field(default_factory=lambda: StubEmulatedKey("alpha"))

    def emulated_keys(self) -> Sequence[StubEmulatedKey]:
        return [self.alpha]

    def set_plugged(self, name: str, is_plugged: bool) -> StubEmulatedKey:
        if name != self.alpha.name:
            raise LookupError(name)
        self.alpha.is_plugged = is_plugged
        return self.alpha


class World:
    """Everything that a test of the verbs needs. `seats`: products with that many concurrent seats, one source each."""

    def __init__(
        self,
        *,
        seats: dict[str, int] | None = None,
        fleet: StubFleet | None = None,
        pump_type: type[EventPump] = EventPump,
        **ledger_settings: Any,
    ) -> None:
        self.clock = Clock()
        sizes = {"sessions_max": 4096, "leases_max": 8192, "charges_max": 8192, "requests_max": 8192, "denials_max": 1024}
        self.ledger = Ledger(
            broker_id=b"\x07" * 8,
            secret=b"s" * 16,
            generation=3,
            start_ns=self.clock.now_ns,
            ttl_ns=TTL_NS,
            renew_grace_ns=RENEW_GRACE_NS,
            stall_ns=0,
            **(sizes | {"event_ring_size": 1024 * 1024} | ledger_settings),
        )
        self.settings = SessionSettings(ttl_ns=TTL_NS, renew_grace_ns=RENEW_GRACE_NS)
        self.pump = pump_type(ledger=self.ledger, wall_ns=lambda: WALL_NS)
        self.notices = NoticeBoard(ledger=self.ledger, clock_ns=self.clock, pump=self.pump)
        self.drain = DrainSwitch(self.ledger, self.clock)
        self.stats = RequestStats(ADMIN_METHODS)
        self.verbs = SessionVerbs(
            ledger=self.ledger,
            clock_ns=self.clock,
            settings=self.settings,
            pump=self.pump,
            notices=self.notices,
            drain=self.drain,
        )
        self.keyring = StubKeyring()
        self.reload_lines: list[str] = []
        self.reload_error: Exception | None = None
        self.admin = AdminVerbs(
            ledger=self.ledger,
            clock_ns=self.clock,
            settings=self.settings,
            keyring=self.keyring,
            pump=self.pump,
            broker=BrokerFacts("0.1.0", b"\x07" * 8, 3, WALL_NS, "grpcio", "none"),
            drain=self.drain,
            emulation=fleet,
            reload=self._reload,
            durability=lambda: self.durability,
        )
        self.durability = DurabilityView("none")
        self.pools: dict[str, int] = {}
        for source, (product, count) in enumerate((seats or {}).items()):
            self.add_seats(source, product, count)

    def add_seats(self, source: int, product: str, count: int, terms: PoolTerms | None = None, is_emulated: bool = False) -> None:
        """One proven source of seats."""
        pool = self.ledger.declare_pool(product, terms or PoolTerms(), is_emulated)
        self.pools[product] = pool
        self.ledger.prove_source(self.clock(), source, pool, count, FOREVER, FOREVER)

    def lose(self, source: int, grace_s: float = 300, cause: EndReason = EndReason.KEY_LOST) -> None:
        """A key is gone, with so much grace."""
        self.ledger.lose_source(self.clock(), source, self.clock() + int(grace_s * S), cause)
        self.settle()

    def settle(self) -> None:
        """Lets the ledger do all that is due, and its events come out."""
        while self.ledger.advance(self.clock()):
            pass
        while self.pump.pump():
            pass

    def _reload(self) -> Sequence[str]:
        if self.reload_error:
            raise self.reload_error
        return self.reload_lines

    def open(self, *products: str, **fields: Any) -> sessions_pb2.OpenResponse:
        """An Open with a fresh request_id, unless fields say otherwise."""
        return self.verbs.open(open_request(*products, **fields), fields.pop("identity", ""))

    def grant(self, *products: str, **fields: Any) -> types_pb2.Grant:
        """An Open that must be granted."""
        response = self.open(*products, **fields)
        assert response.WhichOneof("result") == "grant", response
        return response.grant


class StuckPump(EventPump):
    """A pump that drains nothing until it is let go: events pile up in the ledger's ring."""

    is_stuck = True

    def pump(self) -> bool:
        return False if self.is_stuck else super().pump()

    @staticmethod
    def let_go(pump: EventPump) -> None:
        """It drains from now on."""
        assert isinstance(pump, StuckPump)
        pump.is_stuck = False


def open_until_refused(world: World, product: str) -> tuple[list[types_pb2.Grant], VerbError]:
    """Opens session after session while nobody drains the events; the grants, and the error that ended it."""
    grants: list[types_pb2.Grant] = []
    while True:
        try:
            grants.append(world.grant(product))
        except VerbError as error:
            return grants, error


def open_request(
    *products: str,
    optional: Sequence[str] = (),
    user: str = "ann",
    host: str = "desk-1",
    app: str = "crm/1",
    label: str = "",
    request_id: bytes | None = None,
    **fields: Any,
) -> sessions_pb2.OpenRequest:
    """An OpenRequest as a client makes it."""
    fields.pop("identity", None)
    wanted = [types_pb2.ProductRequest(product=product) for product in products]
    wanted += [types_pb2.ProductRequest(product=product, optional=True) for product in optional]
    return sessions_pb2.OpenRequest(
        request_id=fresh_id() if request_id is None else request_id,
        holder=types_pb2.Holder(user=user, host=host, app=app, label=label),
        products=wanted,
        **fields,
    )


def fresh_id() -> bytes:
    """A request_id."""
    return secrets.token_bytes(16)
