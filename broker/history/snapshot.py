"""The state of a ledger at a position of the log, as far as the history needs it: who is there, what is charged. From a snapshot of the journal.

For a history that cannot be told from the log's first event on: one that begins later, or lost its place because the log was
retired before it was read. The records are drawn in ext/ledger/state.pxi. Called by one thread at a time; a million sessions take seconds.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker._journal import read_snapshot, snapshot_positions
from broker.history import raw
from broker.history.changes import Row
from broker.model.journal import SnapshotDamaged
from broker.model.words import EndReason, StateKind

log = logging.getLogger("broker.history")

_BEGIN, _SESSION, _CHARGE = int(StateKind.BEGIN), int(StateKind.SESSION), int(StateKind.CHARGE)
_LEASE = struct.Struct("<IHBB")


@dataclass(slots=True)
class LedgerState:
    """At a log position. Times are ledger times."""

    position: int
    time_ns: int = 0
    generation: int = 0
    is_running: bool = True
    """Whether the last run had not said that it ends."""
    products: list[Row] = field(default_factory=list)
    pools: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """(pool, product, terms, is_emulated)"""
    seats_used: dict[int, int] = field(default_factory=dict)
    sessions: list[list[Any]] = field(default_factory=list)
    """(fence, six texts, opened)"""
    leases: list[tuple[int, int, int]] = field(default_factory=list)
    """(fence, product, pool) of those that are active."""


def state_behind(log_directory: Path, broker_id: bytes, first: int, until: int | None) -> LedgerState | None:
    """By the oldest good snapshot from a position on and, if that is known, up to another; None if there is none. OSError."""
    for position in sorted(snapshot_positions(log_directory)):
        if position < first or (until is not None and position > until):
            continue
        try:
            return _read(read_snapshot(log_directory, broker_id=broker_id, position=position), position)
        except (SnapshotDamaged, FileNotFoundError) as error:
            log.warning("the history passes over a snapshot: %s", error)
    return None


def _read(records: Iterator[bytes], position: int) -> LedgerState:
    state = LedgerState(position)
    weights: dict[int, int] = {}
    for data in records:
        start = 0
        while start < len(data):
            header = raw.HEADER.unpack_from(data, start)
            _take(state, weights, data, start, header)
            start += header[0]
    return state


def _take(state: LedgerState, weights: dict[int, int], data: bytes, start: int, header: tuple[int, ...]) -> None:
    _, kind, reason, _, _, time_ns, fence, _, pool, product, seats, _, _ = header
    if kind == _CHARGE:
        state.seats_used[pool] = state.seats_used.get(pool, 0) + weights[pool]
    elif kind == _SESSION:
        texts = [text.decode(errors="replace") for text in raw.opened_texts(data, start)]
        state.sessions.append([fence, *texts, time_ns])
        state.leases.extend(_active_leases(data, start, fence, seats))
    elif kind == raw.PRODUCT_DECLARED:
        state.products.append((product, raw.product_name(data, start)))
    elif kind == raw.POOL_DECLARED:
        weights[pool] = seats
        state.pools.append((pool, product, *raw.pool_terms(data, start)))
    elif kind == _BEGIN:
        state.time_ns, state.generation, state.is_running = time_ns, seats, not reason


def _active_leases(data: bytes, start: int, fence: int, count: int) -> Iterator[tuple[int, int, int]]:
    position = start + raw.opened_size(data, start)
    for _ in range(count):
        _, product, pool, reason = _LEASE.unpack_from(data, position)
        if reason == EndReason.NONE:
            yield fence, product, pool
        position += _LEASE.size
