"""What the metrics read: the narrow faces of the ledger, the keyring and the request statistics.

Protocols only, so that the Collector names what it needs and nothing else. All of it is read at scrape time, from
whatever thread the scrape runs in: every method here must be safe to call from any thread and must not wait for
the network, a disk or a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.keyring.states import KeyState
from broker.model.views import Counters, PoolView, ProductView


class LedgerReading(Protocol):
    """The part of the ledger that only reads. Each call is one instant under the ledger's mutex."""

    def pools(self) -> list[PoolView]: ...
    def products(self) -> list[ProductView]: ...
    def counters(self) -> Counters: ...
    def memory_size(self) -> int: ...


class KeyReading(Protocol):
    """One security key, present or only known: `broker.keyring`'s KeyView."""

    @property
    def thumbprint(self) -> str: ...
    @property
    def state(self) -> KeyState: ...
    @property
    def description(self) -> str: ...
    @property
    def is_emulated(self) -> bool: ...
    @property
    def seats(self) -> Mapping[str, int]: ...
    @property
    def last_proof_age_ns(self) -> int | None: ...
    @property
    def proof_latency_ns(self) -> int | None: ...
    @property
    def proof_count(self) -> int: ...
    @property
    def proof_failure_count(self) -> int: ...
    @property
    def grace_left_ns(self) -> int: ...


class LicenceReading(Protocol):
    """One licence, counting or not: `broker.keyring`'s LicenceView. `state` is one of the words of LicenceState."""

    @property
    def licence_id(self) -> str: ...
    @property
    def product(self) -> str: ...
    @property
    def seats(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def expires_unix_s(self) -> int | None: ...


class KeyringViews(Protocol):
    """All of both at one instant."""

    @property
    def keys(self) -> Sequence[KeyReading]: ...
    @property
    def licences(self) -> Sequence[LicenceReading]: ...


class KeyringReading(Protocol):
    """The keyring, or what stands for it."""

    def views(self) -> KeyringViews: ...


class HistogramReading(Protocol):
    """Durations of one (method, outcome): a count for each bound and a last one for what is longer, not cumulative."""

    @property
    def bucket_counts(self) -> Sequence[int]: ...
    @property
    def sum_seconds(self) -> float: ...


class StatsReading(Protocol):
    """How long requests took, by (method, outcome)."""

    @property
    def bounds_seconds(self) -> Sequence[float]: ...
    def snapshot(self) -> Mapping[tuple[str, str], HistogramReading]: ...


@dataclass(frozen=True, slots=True)
class LedgerBounds:
    """How much the ledger was built to hold: the very arguments of its constructor, by the same names."""

    sessions_max: int
    leases_max: int
    charges_max: int
    requests_max: int
    denials_max: int
    text_size_max: int
    event_ring_size: int


@dataclass(frozen=True, slots=True)
class BrokerLabels:
    """What does not change while the broker runs. `start_time_unix_s` is wall time, for people."""

    version: str
    broker_id: str
    data_plane: str
    durability: str
    is_emulating: bool
    generation: int
    start_time_unix_s: float
