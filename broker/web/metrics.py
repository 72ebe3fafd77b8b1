"""The metrics endpoint: one Collector that reads the broker at scrape time, and the page that shows it.

Nothing here is called when a request is served. The ledger counts for itself, in C; a scrape reads its counters and
makes samples of them, some milliseconds of Python for hundreds of series. That holds the GIL, so it runs in a worker
thread and never on the event loop, one scrape at a time, with a bound on those that wait.

    registry = build_registry(UsherCollector(ledger=..., keyring=..., stats=..., broker=..., bounds=...,
                                             is_emulating=...))
    Route("/metrics", metrics_endpoint(registry))

The registry is its own: nothing is created at import, and two brokers in one process do not meet. What each metric means
is in `metric_families.py`, `metric_keys.py`, `metric_data_plane.py` and `metric_journal.py`. `UsherCollector.collect` may be called from any thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from broker.history.writer import HistoryCounters
from broker.model.durability import DurabilityView
from broker.model.listener import ListenerCounters
from broker.verbs.seams import BrokerFacts
from broker.verbs.stats import RequestStats
from broker.web.metric_data_plane import data_plane_families, with_native_calls
from broker.web.metric_families import (
    bound_families,
    broker_families,
    pool_families,
    product_families,
    request_families,
    session_families,
)
from broker.web.metric_journal import history_families, journal_families
from broker.web.metric_keys import keyring_families
from broker.web.metric_sources import KeyringReading, LedgerBounds, LedgerReading

__all__ = ["LedgerBounds", "UsherCollector", "build_registry", "metrics_endpoint"]

WAITING_COUNT_MAX = 8
"""Scrapes that may wait for the one that is running; more are told to come back."""


class UsherCollector:
    """Everything that the broker exposes, read anew at each `collect`. See `metric_sources` for what it reads.

    `is_draining` says whether new sessions are refused just now; `data_plane` gives the counters of the native one, None if grpcio
    serves in its place; `durability` reads the journal and `history` its projection, None without one.
    """

    def __init__(
        self,
        *,
        ledger: LedgerReading,
        keyring: KeyringReading,
        stats: RequestStats,
        broker: BrokerFacts,
        bounds: LedgerBounds,
        is_emulating: bool,
        is_draining: Callable[[], bool] = lambda: False,
        data_plane: Callable[[], ListenerCounters] | None = None,
        durability: Callable[[], DurabilityView] | None = None,
        history: Callable[[], HistoryCounters | None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._stats = stats
        self._broker = broker
        self._bounds = bounds
        self._is_emulating = is_emulating
        self._is_draining = is_draining
        self._data_plane = data_plane
        self._durability = durability
        self._history = history

    def collect(self) -> Iterator[Metric]:
        """All families, each whole and at one instant of its source."""
        counters = self._ledger.counters()
        yield from broker_families(self._broker, is_emulating=self._is_emulating, is_draining=self._is_draining())
        yield from pool_families(self._ledger.pools())
        yield from product_families(self._ledger.products())
        yield from session_families(counters)
        yield from bound_families(counters, self._bounds, self._ledger.memory_size())
        yield from keyring_families(self._keyring.views())
        listener = self._data_plane() if self._data_plane is not None else None
        yield from request_families(with_native_calls(self._stats.snapshot(), listener.calls if listener else {}))
        if listener is not None:
            yield from data_plane_families(listener)
        if self._durability is not None:
            yield from journal_families(self._durability())
        if (history := self._history()) is not None:
            yield from history_families(history)


def build_registry(collector: UsherCollector) -> CollectorRegistry:
    """A registry of its own with the Collector, and the process's processor time, memory and open files."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def metrics_endpoint(registry: CollectorRegistry) -> Callable[[Request], Awaitable[Response]]:
    """A Starlette endpoint for GET: Prometheus text or OpenMetrics, as the Accept header asks."""
    turn = asyncio.Lock()
    waiting_count = 0

    async def metrics(request: Request) -> Response:
        nonlocal waiting_count
        if waiting_count > WAITING_COUNT_MAX:
            return Response("too many scrapes at once\n", 503, {"retry-after": "1"})
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        waiting_count += 1
        try:
            async with turn:
                body = await asyncio.to_thread(encode, registry)
        finally:
            waiting_count -= 1
        return Response(body, headers={"content-type": content_type})

    return metrics
