"""What the verbs need of the parts around them, as narrow Protocols: keyring, emulation, reload.

Everything is called on the event loop's thread and must not wait for a key, a disk or the network, except `Reload`,
`KeyringView.set_enabled`, `UsageReport` and `Emulation`, whose directory other processes may change: the service calls these in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.keyring import KeyringViews
from broker.model.answers import Answer, LeaseView
from broker.model.views import Counters, PoolView, ProductView, SessionView
from broker.model.words import EndReason

Clock = Callable[[], int]
"""CLOCK_MONOTONIC in nanoseconds: time.monotonic_ns, or a test's own."""

Reload = Callable[[], Sequence[str]]
"""Reads configuration and licences again and says what changed, a line each. ReloadError if it cannot."""


class ReloadError(Exception):
    """A reload that changed nothing, because something is wrong; the text says what and what to do."""


class LedgerFace(Protocol):
    """The part of `broker._ledger.Ledger` that the verbs use; its model fits too."""

    def open(
        self,
        now_ns: int,
        *,
        request_id: bytes,
        user: bytes,
        host: bytes,
        products: Sequence[tuple[str, bool]],
        app: bytes = b"",
        label: bytes = b"",
        identity: bytes = b"",
        instance_id: bytes = b"",
        ttl_ns: int = 0,
        priority: int = 0,
        salt: bytes = b"",
    ) -> Answer: ...
    def renew(self, now_ns: int, session_id: bytes, change_version: int = 0) -> Answer: ...
    def acquire(
        self, now_ns: int, session_id: bytes, request_id: bytes, products: Sequence[tuple[str, bool]], salt: bytes = b""
    ) -> Answer: ...
    def release(self, now_ns: int, session_id: bytes, request_id: bytes, product: str) -> Answer: ...
    def close(self, now_ns: int, session_id: bytes, request_id: bytes) -> Answer: ...
    def revoke(self, now_ns: int, fence: int, reason: EndReason = ...) -> bool: ...
    def products(self) -> list[ProductView]: ...
    def pools(self) -> list[PoolView]: ...
    def counters(self) -> Counters: ...
    def sessions(self, now_ns: int, cursor: int = 0, count_max: int = 256) -> tuple[list[SessionView], int]: ...
    def find_session(self, now_ns: int, fence: int, place: int | None = None) -> SessionView | None: ...
    def end_reason(self, now_ns: int, fence: int) -> EndReason: ...
    def session_place(self, session_id: bytes) -> int: ...
    def session_fence(self, session_id: bytes) -> int: ...
    def drain_block(self, size_max: int = ...) -> tuple[bytes, int, int]: ...
    def peek_session(self, now_ns: int, fence: int, place: int) -> tuple[tuple[LeaseView, ...] | None, EndReason]: ...


class KeyringView(Protocol):
    """The part of `broker.keyring.Keyring` that an admin asks."""

    def views(self) -> KeyringViews: ...
    def set_enabled(self, thumbprint: str, is_enabled: bool) -> bool:
        """False for a key that is not known."""


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What does not change while the broker runs. `start_unix_ns` is wall time, for people."""

    version: str
    broker_id: bytes
    generation: int
    start_unix_ns: int
    data_plane: str
    durability: str


@dataclass(frozen=True, slots=True)
class ProductUse:
    """The use of a product over a span of time."""

    product: str
    seats_peak: int
    seats_mean: float
    denial_count: int


class UsageReport(Protocol):
    """What the history says. May wait for a disk; NoHistory if there is none to ask now."""

    def __call__(self, since_ns: int, until_ns: int) -> Sequence[ProductUse]: ...


class NoHistory(Exception):
    """It cannot be read now; the text says why."""


class EmulatedKeyView(Protocol):
    """One emulated key, plugged in or not."""

    @property
    def name(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def is_plugged(self) -> bool: ...
    @property
    def thumbprint(self) -> str: ...


class Emulation(Protocol):
    """The emulated fleet of this broker."""

    def emulated_keys(self) -> Sequence[EmulatedKeyView]:
        """All keys of the fleet, by name."""

    def set_plugged(self, name: str, is_plugged: bool) -> EmulatedKeyView:
        """Plugs a key in or pulls it, and says how it is now. LookupError for a name that is not in the fleet."""
